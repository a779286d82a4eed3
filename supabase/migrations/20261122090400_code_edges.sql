-- ============================================================================
-- Code: edges, which say what in a branch uses which definition.
--
-- An edge leads from a symbol to the definition that a reference in it means, and says how that was found:
--   exact      the qualifier names the definition's parent or file
--   import     the file imports the name from the definition's file
--   same_file  the definition is in the same file
--   name       the name alone; only if at most three definitions have it
-- More than 20 definitions of a name count only where less than that have the parent, file or folder that is asked for, and a
-- reference has at most three edges.
-- Definitions of another language do not count. An edge is a fact that holds between two commits: one that holds no more is closed
-- and not deleted. A commit compares the edges of the files that changed, and of the names whose definitions changed.
-- ============================================================================

create table private.code_edges (
  organization uuid not null,
  branch_id uuid not null,
  source_path text collate "C" not null check (octet_length(source_path) <= 1024),
  source_symbol text collate "C" not null check (octet_length(source_symbol) <= 1100),
  kind text not null check (kind in ('call', 'type', 'extends', 'implements', 'use')),
  name text collate "C" not null check (octet_length(name) <= 512),
  target_path text collate "C" not null check (octet_length(target_path) <= 1024),
  target_symbol text collate "C" not null check (octet_length(target_symbol) <= 1100),
  resolution text not null check (resolution in ('exact', 'import', 'same_file', 'name')),
  line integer not null,
  from_seq bigint not null,
  from_commit text not null check (char_length(from_commit) in (40, 64)),
  to_seq bigint,
  to_commit text check (char_length(to_commit) in (40, 64)),
  closed_at timestamptz,
  foreign key (organization, branch_id) references public.repository_branches (org_id, id) on delete cascade
);
create index code_edges_source_idx on private.code_edges (organization, branch_id, source_path, source_symbol);
create index code_edges_target_idx on private.code_edges (organization, branch_id, target_path, target_symbol);
create index code_edges_name_idx on private.code_edges (organization, branch_id, name) where to_seq is null;
create index code_edges_closed_at_idx on private.code_edges (closed_at) where closed_at is not null;
comment on table private.code_edges is 'Which symbol of a branch uses which definition, and between which commits.';
comment on column private.code_edges.organization is 'Organization of the branch.';
comment on column private.code_edges.branch_id is 'The branch.';
comment on column private.code_edges.source_path is 'File of the symbol that uses the definition.';
comment on column private.code_edges.source_symbol is 'That symbol, with its parent; empty outside of all symbols.';
comment on column private.code_edges.kind is 'How it uses it.';
comment on column private.code_edges.name is 'Name of the definition, without its parent.';
comment on column private.code_edges.target_path is 'File of the definition.';
comment on column private.code_edges.target_symbol is 'The definition, with its parent.';
comment on column private.code_edges.resolution is 'How it was found: exact, import, same_file or name.';
comment on column private.code_edges.line is 'Line of the first reference.';
comment on column private.code_edges.from_seq is 'Number of the indexing job since which it holds.';
comment on column private.code_edges.from_commit is 'Commit since which it holds.';
comment on column private.code_edges.to_seq is 'Number of the indexing job since which it holds no more; null while it does.';
comment on column private.code_edges.to_commit is 'Commit since which it holds no more; null while it does.';
comment on column private.code_edges.closed_at is 'When it was closed.';
select private.describe_data('private.code_edges', '{
  "organization, branch_id, source_path, source_symbol, kind, name, target_path, target_symbol, resolution, line, from_seq, from_commit, to_seq, to_commit, closed_at": {"subject": "organization", "purpose": "who used what in the code, and when", "export": "none"}
}');
alter table private.code_edges enable row level security;

create function private.code_language_family(language text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case when language in ('javascript', 'typescript', 'tsx', 'jsx') then 'javascript' else language end;
comment on function private.code_language_family(text) is 'Languages whose files use each other''s definitions count as one.';

create function private.code_last_part(qualified text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return substring(qualified from '[^./:\\>-]+$');
comment on function private.code_last_part(text) is 'The last part of a qualifier or a qualified name. Nullable: result.';

create function private.code_stem(path text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return private.code_last_part(regexp_replace(path, '\.(rs|tsx?|jsx?|mjs|cjs|py|go|java|h|c)$', ''));
comment on function private.code_stem(text) is 'The last part of a path or a module, without the ending of a file. Nullable: result.';

-- What a file can name is one hint for each import and one for the qualifier; what a definition is found by is one label for its
-- parent, its file and its folder. References and definitions meet by name, where at most 20 definitions have it, or by a label that
-- at most 20 of the name have. So the work and the edges grow with the references, whatever the number of namesakes.
create function private.code_expected_edges(org uuid, branch uuid, paths text[], names text[])
returns table (
  source_path text, source_symbol text, kind text, name text, target_path text, target_symbol text, resolution text, line integer
)
language sql stable set search_path = pg_catalog, pg_temp
-- What is joined has no statistics. Only a hash join uses all columns of a join, and takes no square of the time.
set enable_nestloop = off set enable_mergejoin = off set jit = off
as $$
  with files as materialized (
    select t.path, t.blob_id, private.code_language_family(b.language) as family, private.code_stem(t.path) as stem,
      substring(t.path from '([^/]+)/[^/]+$') as folder
    from private.code_tree_entries as t
    join private.code_blobs as b on b.organization = t.organization and b.id = t.blob_id
    where t.organization = org and t.branch_id = branch and b.language is not null
  ), refs as materialized (
    select t.path, t.blob_id, t.family, r.symbol, r.name, r.kind, min(r.line) as line,
      private.code_last_part(r.qualifier) as qualifier, row_number() over () as n
    from files as t
    join private.code_references as r on r.organization = org and r.blob_id = t.blob_id
    where paths is null or t.path = any (paths) or r.name = any (names)
    group by t.path, t.blob_id, t.family, r.symbol, r.name, r.kind, private.code_last_part(r.qualifier)
  ), definitions as materialized (
    select d.*, row_number() over () as n, count(*) over (partition by d.family, d.name) as namesakes
    from (
      select distinct t.path, s.name, t.family, p.name as parent, t.stem, t.folder, concat_ws('.', p.name, s.name) as symbol
      from private.code_symbols as s
      join files as t on t.blob_id = s.blob_id
      left join private.code_symbols as p on p.organization = s.organization and p.blob_id = s.blob_id and p.ordinal = s.parent
      where s.organization = org and (paths is null or s.name in (select distinct r.name from refs as r))
        and s.kind not in ('variable', 'field', 'property')
    ) as d
  ), labels as materialized (
    select v.* from (
      select d.n, d.family, d.name, l.label, count(*) over (partition by d.family, d.name, l.label) as namesakes
      from definitions as d
      cross join lateral (select unnest(array[d.parent, d.stem, d.folder, '/' || d.path]) as label group by 1) as l
      where d.namesakes > 20 and l.label is not null
    ) as v
    where v.namesakes <= 20
  ), imported as materialized (
    select i.blob_id, k.by_name, k.name, (array_agg(distinct i.stem))[:20] as modules
    from (
      select v.blob_id, v.name, v.alias, private.code_stem(v.module) as stem
      from private.code_imports as v
      where v.organization = org and v.blob_id in (select r.blob_id from refs as r)
      offset 0
    ) as i
    cross join lateral (values (true, i.name), (true, i.alias), (false, i.name), (false, i.alias), (false, i.stem)) as k (by_name, name)
    where k.name is not null and i.stem is not null
    group by i.blob_id, k.by_name, k.name
  ), hinted as materialized (
    select r.*, coalesce(n.modules, '{}') || coalesce(q.modules, '{}') as modules
    from refs as r
    left join imported as n on n.blob_id = r.blob_id and n.by_name and n.name = r.name
    left join imported as q on q.blob_id = r.blob_id and not q.by_name and q.name = r.qualifier
  ), asked as materialized (
    select h.n, h.name, h.family, u.label
    from hinted as h
    cross join lateral (select unnest(h.modules || array[h.qualifier, '/' || h.path]) as label group by 1) as u
    where u.label is not null
  ), pairs as (
    select h.n as reference, d.n as definition
    from hinted as h
    join definitions as d on d.name = h.name and d.family = h.family
    where d.namesakes <= 20
    union
    select a.n, l.n
    from asked as a
    join labels as l on l.name = a.name and l.family = a.family and l.label = a.label
  ), resolved as (
    select h.*, d.path as target_path, d.symbol as target_symbol, d.namesakes,
      case
        when h.qualifier in (d.parent, d.stem) then 1
        when array[d.stem, d.parent, d.folder] && h.modules then 2
        when d.path = h.path then 3
        else 4
      end as rank
    from pairs as p
    join hinted as h on h.n = p.reference
    join definitions as d on d.n = p.definition
  ), best as (
    -- Rank 1 to 4 of at most three targets.
    select v.*, min(v.rank) over (partition by v.n) as best_rank,
      row_number() over (partition by v.n order by v.rank, v.target_path, v.target_symbol) as place
    from resolved as v
  )
  select v.path, coalesce(concat_ws('.', p.name, s.name), ''), v.kind, v.name, v.target_path, v.target_symbol,
    (array['exact', 'import', 'same_file', 'name'])[min(v.rank)], min(v.line)
  from best as v
  left join private.code_symbols as s on s.organization = org and s.blob_id = v.blob_id and s.ordinal = v.symbol
  left join private.code_symbols as p on p.organization = org and p.blob_id = v.blob_id and p.ordinal = s.parent
  where v.rank = v.best_rank and v.place <= 3 and (v.rank < 4 or v.namesakes <= 3)
  group by 1, 2, v.kind, v.name, v.target_path, v.target_symbol
$$;
comment on function private.code_expected_edges(uuid, uuid, text[], text[]) is 'The edges of a branch as its files are, at most three of a reference: of references in these paths, and to these names; all without paths.';

create function private.code_changed_names(org uuid, indexing uuid, branch uuid) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- Of the files that change: what they defined, and what they define.
  select array(
    select s.name
    from private.code_staged_entries as e
    join private.code_tree_entries as t on t.organization = org and t.branch_id = branch and t.path = e.path
    join private.code_symbols as s on s.organization = org and s.blob_id = t.blob_id
    where e.organization = org and e.indexing_job_id = indexing
    union
    select s.name
    from private.code_staged_entries as e
    join private.code_blobs as b on b.organization = org and b.oid = e.oid
    join private.code_symbols as s on s.organization = org and s.blob_id = b.id
    where e.organization = org and e.indexing_job_id = indexing
  )
$$;
comment on function private.code_changed_names(uuid, uuid, uuid) is 'Names that the staged files define, before and after.';

create function private.code_move_edges(indexing public.indexing_jobs, branch uuid, commit_sha text, paths text[], names text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off
as $$
begin
  with expected as materialized (
    select x.* from private.code_expected_edges(indexing.org_id, branch, paths, names) as x
  ), closed as (
    update private.code_edges as e
    set to_seq = indexing.seq, to_commit = code_move_edges.commit_sha, closed_at = kijko.now()
    where e.organization = indexing.org_id and e.branch_id = branch and e.to_seq is null
      and (paths is null or e.source_path = any (paths) or e.name = any (names))
      and not exists (
        select 1 from expected as x
        where x.source_path = e.source_path and x.source_symbol = e.source_symbol and x.kind = e.kind
          and x.target_path = e.target_path and x.target_symbol = e.target_symbol and x.resolution = e.resolution
      )
  ), moved as (
    update private.code_edges as e
    set line = x.line
    from expected as x
    where e.organization = indexing.org_id and e.branch_id = branch and e.to_seq is null
      and e.source_path = x.source_path and e.source_symbol = x.source_symbol and e.kind = x.kind
      and e.target_path = x.target_path and e.target_symbol = x.target_symbol and e.resolution = x.resolution and e.line <> x.line
  )
  insert into private.code_edges (
    organization, branch_id, source_path, source_symbol, kind, name, target_path, target_symbol, resolution, line, from_seq, from_commit
  )
  select indexing.org_id, branch, x.source_path, x.source_symbol, x.kind, x.name, x.target_path, x.target_symbol, x.resolution, x.line,
    indexing.seq, code_move_edges.commit_sha
  from expected as x
  where not exists (
    select 1 from private.code_edges as e
    where e.organization = indexing.org_id and e.branch_id = branch and e.to_seq is null
      and e.source_path = x.source_path and e.source_symbol = x.source_symbol and e.kind = x.kind
      and e.target_path = x.target_path and e.target_symbol = x.target_symbol and e.resolution = x.resolution
  );
end
$$;
comment on function private.code_move_edges(public.indexing_jobs, uuid, text, text[], text[]) is 'Closes edges that hold no more and adds new ones, in these paths and to these names; in the whole branch without paths.';
