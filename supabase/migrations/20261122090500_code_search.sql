-- ============================================================================
-- Code: search for symbols.
--
-- Searches are definer functions: a policy would keep the indexes of text from being used. Each names one organization, checks
-- repositories:read there, and reads blobs only through branches that the caller sees. Each counts as one of code_searches.
-- ============================================================================

create function private.code_branches(org uuid, repository_id uuid, branch text) returns uuid[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  return array(
    select b.id
    from public.repositories as r
    join public.repository_branches as b on b.org_id = r.org_id and b.repository_id = r.id
    where r.org_id = org and (repository_id is null or r.id = repository_id)
      -- Without a project, nobody asks which projects the caller does not see.
      and (r.project_id is null or (r.project_id = any (array(select private.projects_hidden_ids()))) is not true)
      and b.name = coalesce(branch, private.code_indexed_branch(r))
  );
end
$$;
comment on function private.code_branches(uuid, uuid, text) is 'The branches that a search of the caller reads: of one repository or all, the named branch or the default one. Called by definer functions that have checked repositories:read.';

create function private.code_meter(org uuid, repository_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
-- Restored when the function ends: the attributes are those of this use only.
set kijko.usage_attributes = '{}'
as $$
declare
  monthly bigint;
  verdict kijko.verdict;
begin
  -- The ledger cannot be written in a READ ONLY transaction, which a GET has and a key that only reads. Such searches have a day's
  -- share of the plan of their own, in shared memory.
  if current_setting('transaction_read_only') = 'on' then
    select u."limit" into monthly from kijko.usage(org) as u where u.meter = 'code_searches';
    if monthly is not null then
      verdict := kijko.rate_limit('code_searches:' || org, least(greatest(monthly / 30, 1), 1000000)::integer, interval '1 day');
      if verdict.allowed is not true then
        perform private.refuse_rate(verdict.retry_after, 'searches that only read: a thirtieth of the month''s, a day');
      end if;
    end if;
    return;
  end if;
  perform set_config('kijko.usage_attributes', jsonb_strip_nulls(jsonb_build_object(
    'member', kijko.user_id(), 'key', kijko.api_key_id(), 'repository', repository_id,
    'project', case when repository_id is not null then (
      select r.project_id from public.repositories as r where r.org_id = org and r.id = repository_id
    ) end
  ))::text, true);
  perform kijko.consume(org, 'code_searches', 1);
  -- Such a request writes nothing else, so it need not wait for the disk, which takes several times as long as the search. In a function of
  -- somebody's own that searches, other writes may be in the same transaction, and the request of whom an issuer names may have set their
  -- role: these wait.
  if current_setting('request.path', true) in (
    '/rpc/search_symbols', '/rpc/search_code', '/rpc/symbol_graph', '/rpc/code_candidates'
  ) and kijko.issuer_caller() is null then
    perform set_config('synchronous_commit', 'off', true);
  end if;
end
$$;
comment on function private.code_meter(uuid, uuid) is 'Counts a search of code. Fails with quota_exceeded beyond the plan, and in a READ ONLY transaction with rate_limited beyond a thirtieth of it a day. A request that is a search does not wait for the disk: a crash of the server may lose those of its last second.';

create function private.code_search_scope(repository_id uuid, branch text) returns uuid[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  org uuid;
  branches uuid[];
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('repositories:read');
  if repository_id is not null and not exists (
    select 1 from public.repositories as r
    where r.org_id = org and r.id = repository_id and (r.project_id = any (array(select private.projects_hidden_ids()))) is not true
  ) then
    perform kijko.fail('not_found', 'no such repository');
  end if;
  branches := private.code_branches(org, repository_id, branch);
  perform private.code_meter(org, repository_id);
  return branches;
end
$$;
comment on function private.code_search_scope(uuid, text) is 'Checks that the caller may search the code of the organization of the request, counts the search, and returns the branches that it reads. Fails with not_identified, not_a_member, permission_denied, not_found or quota_exceeded.';

create type public.symbol_match as (
  score real, match text, repository_id uuid, branch text, path text, language text, name text, kind text, parent text, signature text,
  documentation text, exported boolean, line integer, "column" integer, end_line integer
);
comment on type public.symbol_match is 'Result of search_symbols() and list_file_symbols(): a definition, how it matches (exact, prefix, word, infix, or file) and how well, from 0 to 1. Nullable: language, parent, signature, documentation.';

-- Without a "set" clause Postgres puts the body in its place. A call of it for each row took most of a search's time; numeric in the
-- place of float8 took as much again.
create function private.code_rank_symbol(tier float8, asked float8, name text, kind text, exported boolean) returns float8
language sql immutable parallel safe
return tier
  -- The more of the name was asked for, the better.
  + asked / char_length(name)
  + case when exported then 0.03::float8 else 0 end
  + case when kind in ('variable', 'field', 'property', 'variant', 'constant') then 0 else 0.02::float8 end;
comment on function private.code_rank_symbol(float8, float8, text, text, boolean) is 'How well a symbol matches: by the rank of its tier, the share of the name that was asked for (asked is a tenth of the length of that), and its kind. A file of tests takes 0.05 from it.';

-- The settings keep the plans independent of statistics. Four keys of the n-gram index leave few symbols, and each key costs a
-- descent, so the others are compared by name only. No index serves "is not distinct from", so that the n-gram index is used.
create function private.code_candidates(org uuid, tier text, wanted text, most integer) returns setof private.code_symbols
language plpgsql stable rows 20 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  keys integer[];
begin
  if tier = 'exact' then
    return query select e.* from private.code_symbols as e where e.organization = org and e.lower_name = wanted collate "C" limit most;
  elsif tier = 'prefix' then
    return query
    select e.* from private.code_symbols as e
    where e.organization = org and e.lower_name > wanted collate "C" and e.lower_name < (wanted || chr(1114111)) collate "C"
    order by e.lower_name
    limit most;
  elsif tier = 'word' then
    keys := kijko.name_grams(wanted, org);
    return query
    select e.* from private.code_symbols as e
    where cardinality(keys) > 0 and kijko.name_grams(e.name, e.organization) @> keys[:4] and e.organization is not distinct from org
      and strpos(e.lower_name, wanted) > 0 and not starts_with(e.lower_name, wanted) and kijko.name_grams(e.name, e.organization) @> keys
    limit most;
  else
    keys := kijko.text_grams(wanted, org);
    return query
    select e.* from private.code_symbols as e
    where cardinality(keys) > 0 and kijko.name_grams(e.name, e.organization) @> keys[:4] and e.organization is not distinct from org
      and strpos(e.lower_name, wanted) > 0 and not starts_with(e.lower_name, wanted)
    limit most;
  end if;
end
$$;
comment on function private.code_candidates(uuid, text, text, integer) is 'Up to so many symbols of an organization that match a name in small letters: exactly, as a prefix, as a word, or anywhere. Called by private.code_find_symbols(), under its settings.';

-- One tier after the other, each by its own index, until there are enough; infix only if there is nothing better. Without filters one
-- statement finds exact names and prefixes: to start another one takes as long as to find a name. Every rank of the one is above those of
-- the other.
create function private.code_find_symbols(
  org uuid, branches uuid[], q text, kinds text[], languages text[], path text, min_score real, n integer, matches text[] default null
) returns setof public.symbol_match
language plpgsql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
  wanted constant text := lower(q);
  asked constant float8 := 0.1 * char_length(q)::float8;
  is_filtered constant boolean := (kinds is null and languages is null and path is null and min_score <= 0) is not true;
  is_exact constant boolean := ('exact' = any (matches)) is not false;
  is_prefix constant boolean := ('prefix' = any (matches)) is not false;
  -- The first 200 of a tier are ranked. Where others may be asked for, they are among the first 5,000.
  most constant integer := case when kinds is not null or languages is not null or path is not null or cardinality(branches) < (
    select count(*) from public.repository_branches as b where b.org_id = org
  ) then 5000 else 200 end;
  tier text;
  base float8;
  found_rows integer := 0;
  added integer;
begin
  if not is_filtered and (is_exact or is_prefix) then
    return query
    select x.score, x.tier, b.repository_id, b.name, x.path::text, o.language, x.name, x.kind, p.name, x.signature, x.documentation, x.exported,
      x.name_line, x.name_column, x.end_line
    from (
      select (case when t.is_secondary then c.rank - 0.05::float8 else c.rank end)::real as score, t.path, t.branch_id, c.*
      from (
        (
          select 'exact' as tier, private.code_rank_symbol(0.85, asked, e.name, e.kind, e.exported) as rank, e.*
          from private.code_symbols as e
          where is_exact and e.organization = org and e.lower_name = wanted collate "C"
          limit most
        ) union all (
          select 'prefix', private.code_rank_symbol(0.6, asked, e.name, e.kind, e.exported), e.*
          from private.code_symbols as e
          where is_prefix and e.organization = org and e.lower_name > wanted collate "C" and e.lower_name < (wanted || chr(1114111)) collate "C"
          order by e.lower_name
          limit most
        )
      ) as c
      join private.code_tree_entries as t on t.organization = org and t.blob_id = c.blob_id and t.branch_id = any (branches)
      order by 1 desc, c.name, t.path, c.name_line
      limit n
    ) as x
    join public.repository_branches as b on b.id = x.branch_id
    join private.code_blobs as o on o.organization = org and o.id = x.blob_id
    left join private.code_symbols as p on p.organization = org and p.blob_id = x.blob_id and p.ordinal = x.parent
    order by x.score desc, x.name, x.path, x.name_line;
    get diagnostics found_rows = row_count;
  end if;
  foreach tier in array case when is_filtered then '{exact,prefix,word,infix}' else '{word,infix}' end::text[] loop
    continue when tier <> all (matches);
    base := case tier when 'exact' then 0.85 when 'prefix' then 0.6 when 'word' then 0.4 else 0.2 end;
    -- No rank of the tier is more than 0.15 above its base.
    exit when found_rows >= n or (tier = 'infix' and found_rows > 0) or (base + 0.15)::real < min_score;
    return query
    select x.score, tier, b.repository_id, b.name, x.path::text, o.language, x.name, x.kind, p.name, x.signature, x.documentation, x.exported,
      x.name_line, x.name_column, x.end_line
    from (
      select (case when t.is_secondary then r.rank - 0.05::float8 else r.rank end)::real as score, t.path, t.branch_id, s.*
      from private.code_candidates(org, tier, wanted, most) as s
      cross join lateral (select private.code_rank_symbol(base, asked, s.name, s.kind, s.exported) as rank) as r
      join private.code_tree_entries as t on t.organization = org and t.blob_id = s.blob_id and t.branch_id = any (branches)
      where (kinds is null or s.kind = any (kinds)) and (path is null or starts_with(t.path, path))
        and (languages is null or exists (
          select 1 from private.code_blobs as o where o.organization = org and o.id = s.blob_id and o.language = any (languages)
        ))
        -- Every score is above 0.
        and (min_score <= 0 or (case when t.is_secondary then r.rank - 0.05::float8 else r.rank end)::real >= min_score)
      order by 1 desc, s.name, t.path, s.name_line
      limit n - found_rows
    ) as x
    join public.repository_branches as b on b.id = x.branch_id
    join private.code_blobs as o on o.organization = org and o.id = x.blob_id
    left join private.code_symbols as p on p.organization = org and p.blob_id = x.blob_id and p.ordinal = x.parent
    order by x.score desc, x.name, x.path, x.name_line;
    get diagnostics added = row_count;
    found_rows := found_rows + added;
  end loop;
end
$$;
comment on function private.code_find_symbols(uuid, uuid[], text, text[], text[], text, real, integer, text[]) is 'The best symbols of these branches for search_symbols().';

create function public.search_symbols(
  q text, kinds text[] default null, languages text[] default null, path text default null, repository_id uuid default null,
  branch text default null, min_score real default 0, n integer default 20, matches text[] default null
) returns setof public.symbol_match
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  branches uuid[];
begin
  if q is null or char_length(q) not between 1 and 200 then
    perform kijko.fail('invalid_input', 'q: 1 to 200 characters');
  elsif n is null or n not between 1 and 200 then
    perform kijko.fail('invalid_input', 'n: 1 to 200');
  elsif min_score is null or char_length(path) > 1024 or cardinality(kinds) > 20 or cardinality(languages) > 20 then
    perform kijko.fail('invalid_input', 'min_score: a number; path: at most 1,024 characters; kinds, languages: at most 20');
  end if;
  if (matches <@ '{exact,prefix,word,infix}'::text[]) is false or cardinality(matches) > 4 then
    perform kijko.fail('invalid_input', 'matches: some of exact, prefix, word, infix');
  end if;
  branches := private.code_search_scope(repository_id, branch);
  return query select f.* from private.code_find_symbols(public.org_id(), branches, q, kinds, languages, path, min_score, n, matches) as f;
end
$$;
comment on function public.search_symbols(text, text[], text[], text, uuid, text, real, integer, text[]) is 'Definitions whose name is q, begins with it, has it as a word (findUser, find_user) or contains it, in any case; best first; matches leaves the others out. path is a prefix. Reads the default branches, or the named one. Counts as one of code_searches. Requires repositories:read. Definer: it names the organization and checks the permission itself, so that indexes are used.';
grant execute on function public.search_symbols(text, text[], text[], text, uuid, text, real, integer, text[]) to authenticated;
