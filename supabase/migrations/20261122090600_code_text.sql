-- ============================================================================
-- Code: search in files, and files themselves.
-- ============================================================================

create type public.code_match as (
  repository_id uuid, branch text, path text, language text, line integer, "column" integer, text text, before text[], after text[]
);
comment on type public.code_match is 'Result of search_code(): a line that has the text, with the lines around it. The column is in bytes, from 0. Nullable: language.';

create function private.code_find_lines(
  org uuid, branches uuid[], q text, match_case boolean, whole_word boolean, context integer, languages text[], path text, n integer
) returns setof public.code_match
language plpgsql stable set search_path = pg_catalog, pg_temp
-- Always from the blobs that may have the text to their paths.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
  keys constant integer[] := kijko.text_grams(q, org);
  -- By the n-gram index, whatever statistics say: no index serves "is not distinct from".
  candidates constant bigint[] := array(
    select o.id from private.code_blobs as o
    where kijko.text_grams(o.content, o.organization) @> keys[:12] and o.content is not null and o.organization is not distinct from org
    limit 10000
  );
begin
  return query
  select x.repository_id, x.branch, x.path::text, x.language, x.line, x."column", x.content, x.before, x.after
  from (
    select b.repository_id, b.name as branch, t.path, o.language, l.line, l."column", l.content, l.before, l.after
    from unnest(candidates) as c (id)
    join private.code_blobs as o on o.organization = org and o.id = c.id
    join private.code_tree_entries as t on t.organization = org and t.blob_id = o.id and t.branch_id = any (branches)
    join public.repository_branches as b on b.id = t.branch_id
    cross join lateral kijko.find_lines(o.content, q, match_case, whole_word, context, 20) as l
    where (languages is null or o.language = any (languages)) and (path is null or starts_with(t.path, path))
    -- A common text: enough files to fill the page, and not all.
    limit n
  ) as x
  order by x.repository_id, x.branch, x.path, x.line;
end
$$;
comment on function private.code_find_lines(uuid, uuid[], text, boolean, boolean, integer, text[], text, integer) is 'Lines of the files of these branches for search_code().';

create function public.search_code(
  q text, match_case boolean default false, whole_word boolean default false, context integer default 0, languages text[] default null,
  path text default null, repository_id uuid default null, branch text default null, n integer default 50
) returns setof public.code_match
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  branches uuid[];
begin
  if q is null or octet_length(q) < 3 or char_length(q) > 200 or q ~ '[\r\n]' then
    perform kijko.fail('invalid_input', 'q: 3 bytes to 200 characters, in one line');
  elsif n is null or n not between 1 and 500 or context is null or context not between 0 and 10 then
    perform kijko.fail('invalid_input', 'n: 1 to 500; context: 0 to 10');
  elsif match_case is null or whole_word is null or char_length(path) > 1024 or cardinality(languages) > 20 then
    perform kijko.fail('invalid_input', 'match_case, whole_word: true or false; path: at most 1,024 characters; languages: at most 20');
  end if;
  branches := private.code_search_scope(repository_id, branch);
  return query
  select f.* from private.code_find_lines(public.org_id(), branches, q, match_case, whole_word, context, languages, path, n) as f;
end
$$;
comment on function public.search_code(text, boolean, boolean, integer, text[], text, uuid, text, integer) is 'Lines that have the text q, punctuation included, at most 20 of a file; path is a prefix. Of a text that is found more often than n, some n are returned. Reads the default branches, or the named one. Counts as one of code_searches. Requires repositories:read. Definer: it names the organization and checks the permission itself, so that indexes are used.';
grant execute on function public.search_code(text, boolean, boolean, integer, text[], text, uuid, text, integer) to authenticated;

-- ----------------------------------------------------------------------------
-- Files
-- ----------------------------------------------------------------------------

create function private.code_read_branch(repository_id uuid, branch text) returns public.repository_branches
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  found_branch public.repository_branches;
begin
  perform private.tenancy_require_caller();
  select b.* into found_branch
  from public.repositories as r
  join public.repository_branches as b on b.org_id = r.org_id and b.repository_id = r.id
  where r.id = repository_id and r.org_id = any (array(select private.org_ids_with('repositories:read')))
    and (r.project_id = any (array(select private.projects_hidden_ids()))) is not true
    and b.name = coalesce(branch, private.code_indexed_branch(r));
  if found_branch.id is null then
    perform kijko.fail('not_found', 'no such repository, or the branch is not indexed');
  end if;
  return found_branch;
end
$$;
comment on function private.code_read_branch(uuid, text) is 'A branch of a repository that the caller sees, by default the default one. Fails with not_identified or not_found.';

create type public.code_file as (path text, language text, bytes bigint, lines integer, skipped text, oid text);
comment on type public.code_file is 'Result of list_code_files(): a file of a branch. Nullable: language, skipped.';

create function public.list_code_files(
  repository_id uuid, branch text default null, path text default null, after_path text default null, n integer default 200
) returns setof public.code_file
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  found_branch constant public.repository_branches := private.code_read_branch(repository_id, branch);
begin
  if n is null or n not between 1 and 1000 or char_length(path) > 1024 or char_length(after_path) > 1024 then
    perform kijko.fail('invalid_input', 'n: 1 to 1,000; path, after_path: at most 1,024 characters');
  end if;
  return query
  select t.path::text, o.language, o.bytes, o.lines, o.skipped, o.oid
  from private.code_tree_entries as t
  join private.code_blobs as o on o.organization = t.organization and o.id = t.blob_id
  where t.organization = found_branch.org_id and t.branch_id = found_branch.id
    and t.path > coalesce(after_path, '') collate "C" and t.path >= coalesce(path, '') collate "C"
    and t.path < (coalesce(path, '') || chr(1114111)) collate "C"
  order by t.path
  limit n;
end
$$;
comment on function public.list_code_files(uuid, text, text, text, integer) is 'Files of a branch by path; path is a prefix, after_path the last path of the page before. Requires repositories:read. Definer: files are private.';
grant execute on function public.list_code_files(uuid, text, text, text, integer) to authenticated;

create type public.code_content as (
  path text, commit_sha text, language text, bytes bigint, lines integer, skipped text, start_line integer, content text
);
comment on type public.code_content is 'Result of read_code_file(): lines of a file. Nullable: language, skipped, content.';

create function public.read_code_file(
  repository_id uuid, path text, branch text default null, start_line integer default 1, end_line integer default null
) returns public.code_content
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  found_branch constant public.repository_branches := private.code_read_branch(repository_id, branch);
  file private.code_blobs;
  answer public.code_content;
begin
  select o.* into file
  from private.code_tree_entries as t
  join private.code_blobs as o on o.organization = t.organization and o.id = t.blob_id
  where t.organization = found_branch.org_id and t.branch_id = found_branch.id and t.path = read_code_file.path collate "C";
  if file.id is null then
    perform kijko.fail('not_found', 'no such file');
  elsif start_line is null or start_line < 1 or end_line < start_line then
    perform kijko.fail('invalid_input', 'start_line: 1 or more; end_line: not before it');
  end if;
  answer.path := path;
  answer.commit_sha := found_branch.commit_sha;
  answer.language := file.language;
  answer.bytes := file.bytes;
  answer.lines := file.lines;
  answer.skipped := file.skipped;
  answer.start_line := start_line;
  answer.content := case
    when start_line = 1 and end_line is null then file.content
    else array_to_string((string_to_array(file.content, E'\n'))[start_line : coalesce(end_line, 2147483647)], E'\n')
  end;
  return answer;
end
$$;
comment on function public.read_code_file(uuid, text, text, integer, integer) is 'A file of a branch, or lines of it. Requires repositories:read. Definer: files are private.';
grant execute on function public.read_code_file(uuid, text, text, integer, integer) to authenticated;

create function public.list_file_symbols(repository_id uuid, path text, branch text default null) returns setof public.symbol_match
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  found_branch constant public.repository_branches := private.code_read_branch(repository_id, branch);
begin
  return query
  select 1::real, 'file', found_branch.repository_id, found_branch.name, t.path::text, o.language, s.name, s.kind, p.name, s.signature,
    s.documentation, s.exported, s.name_line, s.name_column, s.end_line
  from private.code_tree_entries as t
  join private.code_blobs as o on o.organization = t.organization and o.id = t.blob_id
  join private.code_symbols as s on s.organization = t.organization and s.blob_id = t.blob_id
  left join private.code_symbols as p on p.organization = s.organization and p.blob_id = s.blob_id and p.ordinal = s.parent
  where t.organization = found_branch.org_id and t.branch_id = found_branch.id and t.path = list_file_symbols.path collate "C"
  order by s.ordinal
  limit 2000;
end
$$;
comment on function public.list_file_symbols(uuid, text, text) is 'Definitions of a file of a branch, in their order; at most 2,000. Requires repositories:read. Definer: symbols are private.';
grant execute on function public.list_file_symbols(uuid, text, text) to authenticated;
