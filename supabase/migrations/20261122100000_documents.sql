-- ============================================================================
-- Documents: texts of an organization with path, tags and metadata, and full-text search in them.
-- ============================================================================

create table public.documents (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  path text not null check (char_length(path) between 1 and 500 and path !~ '[\u0001-\u001f\u007f]|^/|//|/$|(^|/)\.\.?(/|$)'),
  title text check (char_length(title) between 1 and 300),
  content text not null default '' check (octet_length(content) <= 262144),
  tags text[] not null default '{}' check (private.skills_is_tag_list(tags)),
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object' and private.json_fits(metadata, 16384)),
  file_id uuid,
  file_version integer check (file_version > 0),
  size_bytes integer not null generated always as (octet_length(content)) stored,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique nulls not distinct (org_id, project_id, path),
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade,
  foreign key (org_id, file_id) references public.project_files (org_id, id) on delete cascade
);
create index documents_words_idx on public.documents using gin (to_tsvector('simple'::regconfig, path || ' ' || coalesce(title, '') || ' ' || content));
create unique index documents_file_id_key on public.documents (org_id, file_id) where file_id is not null;
create index documents_project_id_idx on public.documents (org_id, project_id) where project_id is not null;
comment on table public.documents is 'Texts that members and programs keep and search: notes, decisions, summaries.';
comment on column public.documents.id is 'Identity of the document.';
comment on column public.documents.org_id is 'Organization that owns it; never changes.';
comment on column public.documents.project_id is 'Project that it belongs to and is deleted with; null for the whole organization.';
comment on column public.documents.path is 'Path with folders, such as notes/plan.md; unique in its project.';
comment on column public.documents.title is 'Title; null for none.';
comment on column public.documents.content is 'The text, at most 256 KiB.';
comment on column public.documents.tags is 'At most 20 words by which documents are grouped and found.';
comment on column public.documents.metadata is 'An object of your own, at most 16 KiB.';
comment on column public.documents.file_id is 'File of the project whose text it is; null for one that was written here.';
comment on column public.documents.file_version is 'Version of the file that was read.';
comment on column public.documents.size_bytes is 'Size of the text.';
comment on column public.documents.created_by is 'User who made it; null after that user is deleted.';
comment on column public.documents.created_by_key is 'API key that made it; null for a user.';
comment on column public.documents.created_at is 'When it was made.';
comment on column public.documents.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.documents', resource => 'files', max_rows => 2000, writable => '{project_id,path,title,content,tags,metadata}', catalogue => '{
  "project_id": "project that the document belongs to",
  "path, title, tags": "what members find it by",
  "file_id, file_version": "which file it was read from",
  "content, metadata, size_bytes": "texts that members keep"
}');

create type public.document_match as (
  id uuid, project_id uuid, path text, title text, tags text[], metadata jsonb, size_bytes integer, updated_at timestamptz, rank real, excerpt text
);
comment on type public.document_match is 'Result of search_documents(): a document without its text, how well it matches, and where. Nullable: project_id, title.';

create function public.search_documents(
  q text default null, tags text[] default null, path text default null, project_id uuid default null, n integer default 20, skip integer default 0
) returns setof public.document_match
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org constant uuid := private.tenancy_require_org_with('files:read');
  wanted constant tsquery := websearch_to_tsquery('simple'::regconfig, coalesce(search_documents.q, ''));
begin
  if char_length(search_documents.q) > 500 or cardinality(search_documents.tags) > 20 or char_length(search_documents.path) > 500 then
    perform kijko.fail('invalid_input', 'q and path: at most 500 characters; tags: at most 20');
  elsif n is null or n not between 1 and 100 or skip is null or skip not between 0 and 10000 then
    perform kijko.fail('invalid_input', 'n: 1 to 100; skip: 0 to 10,000');
  end if;
  return query
  with found as (
    select d.*, ts_rank(to_tsvector('simple'::regconfig, d.path || ' ' || coalesce(d.title, '') || ' ' || d.content), wanted) as rank
    from public.documents as d
    where d.org_id = org
      and (d.project_id = any (array(select private.projects_hidden_ids()))) is not true
      and (search_documents.q is null
        or to_tsvector('simple'::regconfig, d.path || ' ' || coalesce(d.title, '') || ' ' || d.content) @@ wanted)
      and (search_documents.tags is null or d.tags @> search_documents.tags)
      and (search_documents.path is null or starts_with(d.path, search_documents.path))
      and (search_documents.project_id is null or d.project_id = search_documents.project_id)
    order by rank desc, d.updated_at desc, d.id
    limit n offset skip
  )
  select f.id, f.project_id, f.path, f.title, f.tags, f.metadata, f.size_bytes, f.updated_at, f.rank,
    case when search_documents.q is null then left(f.content, 200) else ts_headline('simple'::regconfig, f.content, wanted, 'MaxWords=30, MinWords=10') end
  from found as f
  order by f.rank desc, f.updated_at desc, f.id;
end
$$;
comment on function public.search_documents(text, text[], text, uuid, integer, integer) is 'Documents of the organization of the request that have the words of q (in quotes together, - excludes, or), all of these tags, and a path that begins with path; best first. Without q the last changed first. Requires files:read. Definer: it names the organization and checks the permission itself, so that the index is used.';
grant execute on function public.search_documents(text, text[], text, uuid, integer, integer) to authenticated;
