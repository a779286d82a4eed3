-- ============================================================================
-- Code: what is stored of files.
--
-- A blob is a file's content by its id in git, once for each organization. Symbols, references and imports belong to a blob, so a
-- branch costs only what differs, and a renamed file nothing. Tree entries say which blob has which path in a branch. No role
-- reads these tables: functions do, through the branches that the caller sees.
-- Symbols, references and imports have no foreign keys: a look-up for each would be most of the time of writing them. They are
-- written and deleted with their blob, in the same transaction.
-- ============================================================================

create table private.code_blobs (
  id bigint generated always as identity,
  organization uuid not null references public.organizations (id) on delete cascade,
  oid text not null check (char_length(oid) in (40, 64)),
  bytes bigint not null check (bytes >= 0),
  lines integer not null default 0 check (lines >= 0),
  language text check (char_length(language) <= 50),
  skipped text check (skipped in ('binary', 'too_large', 'generated')),
  content text check (octet_length(content) <= 4194304),
  used_at timestamptz not null default now(),
  primary key (organization, id),
  unique (organization, oid)
)
-- Room on the page, and no index on used_at: a change of it must not enter the text into the index again.
with (fillfactor = 90);
create index code_blobs_grams_idx on private.code_blobs using gin (kijko.text_grams(content, organization)) where content is not null;
comment on table private.code_blobs is 'Contents of files, once for each organization and id in git.';
comment on column private.code_blobs.id is 'Identity of the blob in this table: shorter than its id in git.';
comment on column private.code_blobs.organization is 'Organization whose repository has the file.';
comment on column private.code_blobs.oid is 'Id of the blob in git, in hexadecimal; with 24 zeros behind it for a file that the server left out, whose content another repository may have.';
comment on column private.code_blobs.bytes is 'Size of the file.';
comment on column private.code_blobs.lines is 'Number of its lines.';
comment on column private.code_blobs.language is 'Language that it was parsed as; null for none.';
comment on column private.code_blobs.skipped is 'Why it was not parsed and its content not stored: binary, too_large, generated. Null for what was.';
comment on column private.code_blobs.content is 'The text; null for what was skipped.';
comment on column private.code_blobs.used_at is 'When an indexing job last asked for it, by the real clock. One without a tree is deleted a day later.';
select private.describe_data('private.code_blobs', '{
  "id, organization, oid, bytes, lines, language, skipped, content": {"subject": "organization", "purpose": "the code that members search", "export": "none"},
  "used_at": "says when it can be deleted"
}');
alter table private.code_blobs enable row level security;

create table private.code_usage (
  organization uuid primary key references public.organizations (id) on delete cascade,
  bytes bigint not null check (bytes >= 0)
);
comment on table private.code_usage is 'Size of all blobs of each organization, also of those that no branch has any more.';
comment on column private.code_usage.organization is 'The organization.';
comment on column private.code_usage.bytes is 'Sum of the sizes.';
select private.describe_data('private.code_usage', '{
  "organization, bytes": {"subject": "organization", "purpose": "limits how much code is stored", "export": "none"}
}');
alter table private.code_usage enable row level security;

create table private.code_symbols (
  organization uuid not null,
  blob_id bigint not null,
  ordinal integer not null check (ordinal >= 0),
  parent integer check (parent >= 0),
  name text not null check (octet_length(name) between 1 and 512),
  lower_name text collate "C" not null generated always as (lower(name)) stored,
  kind text not null check (kind in (
    'function', 'method', 'class', 'struct', 'enum', 'interface', 'trait', 'type', 'constant', 'variable', 'field', 'module', 'macro',
    'constructor', 'variant', 'property'
  )),
  signature text check (char_length(signature) <= 1000),
  documentation text check (char_length(documentation) <= 4000),
  exported boolean not null default false,
  start_line integer not null,
  start_column integer not null,
  end_line integer not null,
  end_column integer not null,
  name_line integer not null,
  name_column integer not null,
  primary key (organization, blob_id, ordinal)
);
create index code_symbols_name_idx on private.code_symbols (organization, lower_name);
-- Without a list of pending entries, which each search would read.
create index code_symbols_grams_idx on private.code_symbols using gin (kijko.name_grams(name, organization)) with (fastupdate = off);
comment on table private.code_symbols is 'Definitions in blobs.';
comment on column private.code_symbols.organization is 'Organization of the blob.';
comment on column private.code_symbols.blob_id is 'The blob.';
comment on column private.code_symbols.ordinal is 'Number of the symbol in the blob.';
comment on column private.code_symbols.parent is 'Number of the symbol that contains it; null for none.';
comment on column private.code_symbols.name is 'Its name.';
comment on column private.code_symbols.lower_name is 'The name in lower case, for look-ups by exact name and prefix.';
comment on column private.code_symbols.kind is 'What it is.';
comment on column private.code_symbols.signature is 'How it is declared.';
comment on column private.code_symbols.documentation is 'Its comment.';
comment on column private.code_symbols.exported is 'Whether other files see it.';
comment on column private.code_symbols.start_line is 'First line of the definition, from 1.';
comment on column private.code_symbols.start_column is 'Column of its begin in bytes, from 0.';
comment on column private.code_symbols.end_line is 'Last line of the definition.';
comment on column private.code_symbols.end_column is 'Column of its end.';
comment on column private.code_symbols.name_line is 'Line of the name.';
comment on column private.code_symbols.name_column is 'Column of the name.';
select private.describe_data('private.code_symbols', '{
  "organization, blob_id, ordinal, parent, name, lower_name, kind, signature, documentation, exported, start_line, start_column, end_line, end_column, name_line, name_column": {"subject": "organization", "purpose": "the definitions that members search", "export": "none"}
}');
alter table private.code_symbols enable row level security;

create table private.code_references (
  organization uuid not null,
  blob_id bigint not null,
  ordinal integer not null check (ordinal >= 0),
  symbol integer check (symbol >= 0),
  name text collate "C" not null check (octet_length(name) between 1 and 512),
  qualifier text check (octet_length(qualifier) <= 512),
  kind text not null check (kind in ('call', 'type', 'extends', 'implements', 'use')),
  line integer not null,
  column_number integer not null,
  primary key (organization, blob_id, ordinal)
);
create index code_references_name_idx on private.code_references (organization, name);
comment on table private.code_references is 'Uses of names in blobs.';
comment on column private.code_references.organization is 'Organization of the blob.';
comment on column private.code_references.blob_id is 'The blob.';
comment on column private.code_references.ordinal is 'Number of the reference in the blob.';
comment on column private.code_references.symbol is 'Number of the symbol in which it is; null outside of all.';
comment on column private.code_references.name is 'Name that is used.';
comment on column private.code_references.qualifier is 'What stands before it, as in module.name; null for nothing.';
comment on column private.code_references.kind is 'How: call, type, extends, implements or use.';
comment on column private.code_references.line is 'Line, from 1.';
comment on column private.code_references.column_number is 'Column in bytes, from 0.';
select private.describe_data('private.code_references', '{
  "organization, blob_id, ordinal, symbol, name, qualifier, kind, line, column_number": {"subject": "organization", "purpose": "who uses what in the code", "export": "none"}
}');
alter table private.code_references enable row level security;

create table private.code_imports (
  organization uuid not null,
  blob_id bigint not null,
  ordinal integer not null check (ordinal >= 0),
  module text not null check (octet_length(module) <= 1024),
  name text check (octet_length(name) <= 512),
  alias text check (octet_length(alias) <= 512),
  line integer not null,
  primary key (organization, blob_id, ordinal)
);
comment on table private.code_imports is 'What blobs import.';
comment on column private.code_imports.organization is 'Organization of the blob.';
comment on column private.code_imports.blob_id is 'The blob.';
comment on column private.code_imports.ordinal is 'Number of the import in the blob.';
comment on column private.code_imports.module is 'Module or path that is imported from.';
comment on column private.code_imports.name is 'Name that is imported; null for the module.';
comment on column private.code_imports.alias is 'Name that it has in the file; null for its own.';
comment on column private.code_imports.line is 'Line, from 1.';
select private.describe_data('private.code_imports', '{
  "organization, blob_id, ordinal, module, name, alias, line": {"subject": "organization", "purpose": "which names of the code come from where", "export": "none"}
}');
alter table private.code_imports enable row level security;

create function private.code_delete_of_blobs() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.code_symbols as s using gone where s.organization = gone.organization and s.blob_id = gone.id;
  delete from private.code_references as r using gone where r.organization = gone.organization and r.blob_id = gone.id;
  delete from private.code_imports as i using gone where i.organization = gone.organization and i.blob_id = gone.id;
  update private.code_usage as u
  set bytes = greatest(u.bytes - g.bytes, 0)
  from (select o.organization, sum(o.bytes) as bytes from gone as o group by o.organization) as g
  where u.organization = g.organization;
  return null;
end
$$;
comment on function private.code_delete_of_blobs() is 'Trigger: symbols, references, imports and the size go with their blob, once for each statement. Definer: the owner of an organization who deletes it holds no rights to them.';
create trigger code_blobs_delete after delete on private.code_blobs
  referencing old table as gone for each statement execute function private.code_delete_of_blobs();

create table private.code_tree_entries (
  organization uuid not null,
  branch_id uuid not null,
  path text collate "C" not null check (octet_length(path) between 1 and 1024),
  blob_id bigint not null,
  mode integer not null,
  is_secondary boolean not null generated always as (
    path ~ '(^|/)(tests?|__tests__|spec|bench(es)?|examples?|vendor)/|[._-](test|spec)\.'
  ) stored,
  primary key (organization, branch_id, path),
  foreign key (organization, branch_id) references public.repository_branches (org_id, id) on delete cascade,
  -- Deferred: a deleted organization loses its blobs and its trees in either order.
  foreign key (organization, blob_id) references private.code_blobs (organization, id) deferrable initially deferred
);
create index code_tree_entries_blob_id_idx on private.code_tree_entries (organization, blob_id, branch_id);
comment on table private.code_tree_entries is 'Files of the branches that are indexed.';
comment on column private.code_tree_entries.organization is 'Organization of the branch.';
comment on column private.code_tree_entries.branch_id is 'The branch.';
comment on column private.code_tree_entries.path is 'Path of the file.';
comment on column private.code_tree_entries.blob_id is 'Its content.';
comment on column private.code_tree_entries.mode is 'Its mode in git, as the number that octal 100644 is.';
comment on column private.code_tree_entries.is_secondary is 'Whether it is a test, a benchmark, an example or foreign code, by its path: searches put its symbols lower.';
select private.describe_data('private.code_tree_entries', '{
  "organization, branch_id, path, blob_id, mode, is_secondary": {"subject": "organization", "purpose": "which files a branch has", "export": "none"}
}');
alter table private.code_tree_entries enable row level security;

create table private.code_staged_entries (
  organization uuid not null,
  indexing_job_id uuid not null,
  path text collate "C" not null check (octet_length(path) between 1 and 1024),
  attempt integer not null,
  is_full boolean not null,
  oid text check (char_length(oid) in (40, 64)),
  mode integer not null,
  primary key (organization, indexing_job_id, path),
  foreign key (organization, indexing_job_id) references public.indexing_jobs (org_id, id) on delete cascade
);
comment on table private.code_staged_entries is 'Files that a running indexing job will change in its branch. Deleted at its end.';
comment on column private.code_staged_entries.organization is 'Organization of the indexing job.';
comment on column private.code_staged_entries.indexing_job_id is 'The indexing job.';
comment on column private.code_staged_entries.path is 'Path of the file.';
comment on column private.code_staged_entries.attempt is 'Attempt that wrote it; a later one begins anew.';
comment on column private.code_staged_entries.is_full is 'Whether all files of the commit are staged, and not only those that differ.';
comment on column private.code_staged_entries.oid is 'Id of its blob; null if the file is deleted.';
comment on column private.code_staged_entries.mode is 'Its mode in git.';
select private.describe_data('private.code_staged_entries', '{
  "organization, indexing_job_id, path, attempt, is_full, oid, mode": {"subject": "organization", "purpose": "what an indexing job has read so far", "export": "none"}
}');
alter table private.code_staged_entries enable row level security;
