-- ============================================================================
-- Code: what is indexed, and files for a search that is done outside of the database: by regular expressions, in the sidecar.
-- ============================================================================

create function public.code_overview(repository_id uuid default null, branch text default null) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  overview jsonb;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('repositories:read');
  if code_overview.repository_id is not null then
    perform private.code_read_branch(code_overview.repository_id, code_overview.branch);
  end if;
  with branches as materialized (
    select b.id as branch_id, b.name as branch_name, b.commit_sha, b.indexed_at, r.id as repository, r.full_name
    from public.repository_branches as b
    join public.repositories as r on r.org_id = b.org_id and r.id = b.repository_id
    where b.org_id = org and b.id = any (private.code_branches(org, code_overview.repository_id, code_overview.branch))
    order by r.full_name limit 100
  ), files as materialized (
    select t.branch_id, t.blob_id, b.language, b.bytes
    from branches as v
    join private.code_tree_entries as t on t.organization = org and t.branch_id = v.branch_id
    join private.code_blobs as b on b.organization = t.organization and b.id = t.blob_id
  )
  select jsonb_build_object(
    'repositories', coalesce((
      select jsonb_agg(jsonb_build_object(
        'id', v.repository, 'name', v.full_name, 'branch', v.branch_name, 'commit_sha', v.commit_sha, 'indexed_at', v.indexed_at,
        'files', (select count(*) from files as f where f.branch_id = v.branch_id),
        'bytes', (select coalesce(sum(f.bytes), 0) from files as f where f.branch_id = v.branch_id)
      ) order by v.full_name)
      from branches as v
    ), '[]'),
    'languages', coalesce((
      select jsonb_object_agg(l.language, l.files)
      from (select f.language, count(*) as files from files as f where f.language is not null group by f.language) as l
    ), '{}'),
    'symbols', coalesce((
      select jsonb_object_agg(k.kind, k.symbols)
      from (
        select s.kind, count(*) as symbols
        from (select distinct f.blob_id from files as f) as f
        join private.code_symbols as s on s.organization = org and s.blob_id = f.blob_id
        group by s.kind
      ) as k
    ), '{}')
  ) into overview;
  return overview;
end
$$;
comment on function public.code_overview(uuid, text) is 'What is indexed: repositories with files and bytes, files of each language, and symbols of each kind, of at most 100 repositories. Fails with not_found for a repository that the caller does not see. Needs repositories:read. Definer: nobody reads trees.';
grant execute on function public.code_overview(uuid, text) to authenticated;

-- ----------------------------------------------------------------------------
-- Candidates of a regular expression
-- ----------------------------------------------------------------------------

create function private.code_grams_condition(literals jsonb, org uuid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  clause jsonb;
  literal text;
  keys integer[];
  alternatives text[];
  condition text := 'true';
begin
  if jsonb_typeof(coalesce(literals, '[]')) <> 'array' or jsonb_array_length(coalesce(literals, '[]')) > 8 then
    perform kijko.fail('invalid_input', 'literals: at most 8 lists');
  end if;
  for clause in select value from jsonb_array_elements(coalesce(literals, '[]')) loop
    if jsonb_typeof(clause) <> 'array' or jsonb_array_length(clause) not between 1 and 32 then
      perform kijko.fail('invalid_input', 'literals: lists of 1 to 32 texts');
    end if;
    alternatives := '{}';
    for literal in select value from jsonb_array_elements_text(clause) loop
      keys := kijko.text_grams(substring(literal for 100), org);
      if coalesce(cardinality(keys), 0) = 0 then
        perform kijko.fail('invalid_input', 'literals: texts of 3 bytes or more');
      end if;
      alternatives := alternatives || format('kijko.text_grams(b.content, b.organization) operator(pg_catalog.@>) %L::integer[]', keys);
    end loop;
    condition := format('%s and (%s)', condition, array_to_string(alternatives, ' or '));
  end loop;
  return condition;
end
$$;
comment on function private.code_grams_condition(jsonb, uuid) is 'Condition of blobs b that may have one literal of each list, in the form that the n-gram index answers. Fails with invalid_input for literals that it has no keys of.';

create function public.code_candidates(
  literals jsonb default '[]', languages text[] default null, path text default null, repository_id uuid default null,
  branch text default null, max_bytes integer default 262144, after text default null
) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
  scope constant uuid[] := private.code_search_scope(code_candidates.repository_id, code_candidates.branch);
  org constant uuid := public.org_id();
  budget constant integer := least(greatest(coalesce(code_candidates.max_bytes, 262144), 1), 2097152);
  place constant text[] := regexp_match(code_candidates.after, '^(\d+)/([0-9a-f-]+)/(.+)$');
  branches jsonb;
  file_id bigint;
  file_language text;
  file_content text;
  file_bytes bigint;
  file_branch uuid;
  file_path text;
  files jsonb[] := '{}'::jsonb[];
  taken bigint := 0;
  next text;
  more boolean := false;
begin
  if code_candidates.after is not null and (place is null or char_length(place[1]) > 18 or private.as_uuid(place[2]) is null) then
    perform kijko.fail('invalid_input', 'after: not the next of a page');
  end if;
  select jsonb_object_agg(b.id, jsonb_build_object('repository_id', r.id, 'repository', r.full_name, 'branch', b.name))
  into branches
  from public.repository_branches as b
  join public.repositories as r on r.org_id = b.org_id and r.id = b.repository_id
  where b.org_id = org and b.id = any (scope);
  for file_id, file_language, file_content, file_bytes, file_branch, file_path in execute format(
    $query$
      select b.id, b.language, b.content, b.bytes, t.branch_id, t.path
      from %s as b
      join private.code_tree_entries as t on t.organization = b.organization and t.blob_id = b.id
      where b.organization = $1 and b.content is not null and b.bytes <= 1048576
        and t.branch_id = any ($2)
        and ($3 is null or b.language = any ($3))
        and ($4 is null or starts_with(t.path, $4))
        and ($5 is null or (b.id, t.branch_id, t.path) > ($5, $6, $7 collate "C"))
      order by b.id, t.branch_id, t.path
    $query$,
    -- By the index of literals alone: the planner does not know what it costs to take the keys of every file of the organization.
    case when coalesce(code_candidates.literals, '[]') = '[]' then 'private.code_blobs' else format(
      '(select b.* from private.code_blobs as b where b.content is not null and %s offset 0)',
      private.code_grams_condition(code_candidates.literals, org)
    ) end
  ) using
    org, scope, code_candidates.languages, code_candidates.path, place[1]::bigint, place[2]::uuid, place[3]
  loop
    -- The next page begins behind the last file of this one.
    if taken > 0 and (taken + file_bytes > budget or cardinality(files) >= 1000) then
      more := true;
      exit;
    end if;
    taken := taken + greatest(file_bytes, 1);
    files := files || ((branches -> file_branch::text) || jsonb_build_object('path', file_path, 'language', file_language, 'content', file_content));
    next := format('%s/%s/%s', file_id, file_branch, file_path);
  end loop;
  return jsonb_build_object('org_id', org, 'files', to_jsonb(files), 'next', case when more then next end);
end
$$;
comment on function public.code_candidates(jsonb, text[], text, uuid, text, integer, text) is 'Files with their contents that may match a regular expression, whose literals the caller names: one of each list is in each file; path is a prefix. About max_bytes of text; after is the next of the page before. Each page counts as one code search. Files over 1 MiB are left out. Needs repositories:read. Definer: nobody reads blobs.';
grant execute on function public.code_candidates(jsonb, text[], text, uuid, text, integer, text) to authenticated;
