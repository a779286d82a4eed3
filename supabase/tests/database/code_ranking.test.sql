-- The order of a search of symbols, next to a reference that ranks every match: the search looks up only the files that it needs.
begin;
\ir 000_helpers.sql
select plan(6);

select tests.sign_up('ada');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as('ada');
insert into public.repositories (clone_url) values ('https://github.com/acme/app') returning id as app \gset
select tests.act_as_superuser();
insert into public.repository_branches (org_id, repository_id, name, commit_sha, indexing_seq)
select tests.org('ada'), :'app', b.name, repeat('1', 40), 0 from unnest(array['main', 'next', 'old']) as b (name);
select id as main from public.repository_branches where repository_id = :'app' and name = 'main' \gset
select id as next from public.repository_branches where repository_id = :'app' and name = 'next' \gset

-- 120 files: some are tests, some are on two branches or at two paths, some on no branch that is searched.
with blobs as (
  insert into private.code_blobs (organization, oid, bytes, language)
  select tests.org('ada'), md5(n::text) || '00000000', 1, case when n % 3 = 0 then 'rust' when n % 3 = 1 then 'go' end from generate_series(1, 120) as n
  returning id, language
), numbered as (
  select b.id, row_number() over (order by b.id) as n from blobs as b
)
insert into private.code_tree_entries (organization, branch_id, path, blob_id, mode)
select tests.org('ada'), b.id, p.path, n.id, 33188
from numbered as n
join public.repository_branches as b on b.repository_id = :'app'
cross join lateral (values
  (format('src/d%s/f%s.rs', n.n % 7, n.n), n.n % 5 <> 0),
  (format('tests/d%s/f%s.rs', n.n % 4, n.n), n.n % 5 = 0 or n.n % 11 = 0),
  (format('lib/d%s/copy%s.rs', n.n % 4, n.n), n.n % 13 = 0)
) as p (path, exists)
where p.exists and case b.name when 'main' then n.n % 9 <> 0 when 'next' then n.n % 9 <> 0 and n.n % 6 = 0 else n.n % 9 = 0 end;
-- Many names are equal, in other cases or of equal length.
insert into private.code_symbols (organization, blob_id, ordinal, parent, name, kind, exported, start_line, start_column, end_line, end_column, name_line, name_column)
select tests.org('ada'), o.id, n, nullif(n % 4, 0) - 1,
  case n % 8
    when 0 then 'new'
    when 1 then 'parseConfig'
    when 2 then format('parse%sFile', chr(65 + (o.id % 26)::integer))
    when 3 then format('parse_%s', repeat('x', 1 + (o.id % 17)::integer))
    when 4 then format('find%sUser', chr(65 + (o.id % 26)::integer))
    when 5 then format('test_find_%s', o.id % 10)
    when 6 then 'PARSECONFIG'
    else 'größe_' || o.id % 5
  end,
  (array['function', 'method', 'field', 'variable'])[1 + (o.id + n) % 4], (o.id + n) % 3 = 0, n, 0, n, 9, n / 2, 3
from private.code_blobs as o, generate_series(0, 15) as n
where o.organization = tests.org('ada');

-- Every match of a tier has a rank; of more than most, those that the indexes give first.
create function tests.best_symbols(
  org uuid, branches uuid[], q text, kinds text[], languages text[], path text, min_score real, n integer, matches text[]
) returns setof public.symbol_match
-- Plans that are quick without statistics.
language plpgsql set enable_nestloop = off set enable_mergejoin = off set jit = off as $$
#variable_conflict use_variable
declare
  tier text;
  most integer := case when kinds is null and languages is null and path is null and cardinality(branches) = 3 then 200 else 5000 end;
  found_rows bigint := 0;
  added bigint;
begin
  foreach tier in array array['exact', 'prefix', 'word', 'infix'] loop
    continue when tier <> all (matches);
    exit when found_rows >= n or tier = 'infix' and found_rows > 0;
    return query
    select r.score, tier, b.repository_id, b.name, t.path::text, o.language, s.name, s.kind, p.name, s.signature, s.documentation, s.exported,
      s.name_line, s.name_column, s.end_line
    from (
      select e.* from private.code_symbols as e
      where e.organization = org and case tier
        when 'exact' then e.lower_name = lower(q)
        when 'prefix' then starts_with(e.lower_name, lower(q)) and e.lower_name <> lower(q)
        when 'word' then strpos(e.lower_name, lower(q)) > 0 and not starts_with(e.lower_name, lower(q))
          and kijko.name_grams(e.name, org) @> kijko.name_grams(lower(q), org)
        -- The index knows parts of three bytes and more.
        else octet_length(q) >= 3 and strpos(e.lower_name, lower(q)) > 0 and not starts_with(e.lower_name, lower(q))
      end
      order by case when tier in ('exact', 'prefix') then e.lower_name end, e.ctid limit most
    ) as s
    join private.code_tree_entries as t on t.organization = org and t.blob_id = s.blob_id and t.branch_id = any (branches)
    join public.repository_branches as b on b.id = t.branch_id
    join private.code_blobs as o on o.organization = org and o.id = s.blob_id
    left join private.code_symbols as p on p.organization = org and p.blob_id = s.blob_id and p.ordinal = s.parent
    cross join lateral (select (
      case tier when 'exact' then 0.85 when 'prefix' then 0.6 when 'word' then 0.4 else 0.2 end
      + 0.1 * char_length(q) / char_length(s.name) + case when s.exported then 0.03 else 0 end
      + case when s.kind in ('variable', 'field', 'property', 'variant', 'constant') then 0 else 0.02 end
      - case when t.path ~ '(^|/)(tests?|__tests__|spec|bench(es)?|examples?|vendor)/|[._-](test|spec)\.' then 0.05 else 0 end
    )::real as score) as r
    where (kinds is null or s.kind = any (kinds)) and (languages is null or o.language = any (languages))
      and (path is null or starts_with(t.path, path)) and r.score >= min_score
    order by r.score desc, s.name, t.path, s.name_line
    limit n - found_rows;
    get diagnostics added = row_count;
    found_rows := found_rows + added;
  end loop;
end
$$;

-- The searches with another answer than the reference's. (Lines of equal rank, name, path and line may swap.)
create function tests.differing(
  branches uuid[], names text[], kinds text[], languages text[], path text, min_scores real[], numbers integer[], sets_of_matches text[]
) returns setof text
language sql as $$
  select concat_ws(' ', q, n, min_score, matches)
  from unnest(names) as q, unnest(numbers) as n, unnest(min_scores) as min_score, unnest(sets_of_matches) as matches
  where (
    select array_agg((f.score, f.match, f.path, f.language, f.name, f.line)::text order by f.place)
    from private.code_find_symbols(tests.org('ada'), branches, q, kinds, languages, path, min_score, n, matches::text[]) with ordinality as f (
      score, match, repository_id, branch, path, language, name, kind, parent, signature, documentation, exported, line, "column", end_line, place
    )
  ) is distinct from (
    select array_agg((f.score, f.match, f.path, f.language, f.name, f.line)::text order by f.place)
    from tests.best_symbols(tests.org('ada'), branches, q, kinds, languages, path, min_score, n, matches::text[]) with ordinality as f (
      score, match, repository_id, branch, path, language, name, kind, parent, signature, documentation, exported, line, "column", end_line, place
    )
  )
$$;

create function tests.names() returns text[] language sql as $$
  select array['NEW', 'ne', 'parseConfig', 'parse', 'parse_xxxxxxxxx', 'find', 'user', 'file', 'config', 'onfi', 'arse', 'GRÖSSE', 'e', 'nothing_at_all']
$$;
select ok(
  (select count(*) > 10 from unnest(tests.names()) as q where exists (select 1 from private.code_find_symbols(tests.org('ada'), array[:'main', :'next']::uuid[], q, null, null, null, 0, 20))),
  'most of these searches find something'
);
select is_empty(
  format($$select tests.differing(array[%L]::uuid[], tests.names(), null, null, null, '{0}', '{3,20}', '{NULL,"{exact,prefix}","{prefix,infix}"}')$$, :'main'),
  'one branch: the best first, as if every match were looked up'
);
select is_empty(
  $$select tests.differing(array(select b.id from public.repository_branches as b where b.org_id = tests.org('ada')), tests.names(), null, null, null, '{0}', '{200}', '{NULL,"{exact,prefix}"}')$$,
  'all branches: of the first 200'
);
select is_empty(
  format($$select tests.differing(array[%L, %L]::uuid[], tests.names(), null, null, null, '{0.2,0.35,0.62,0.97}', '{20}', '{NULL}')$$, :'main', :'next'),
  'above a score'
);
select is_empty(
  format($$
    select tests.differing(array[%1$L, %2$L]::uuid[], tests.names(), '{field,method}', null, null, '{0}', '{20}', '{NULL}')
    union all select tests.differing(array[%1$L, %2$L]::uuid[], tests.names(), null, '{go}', null, '{0}', '{20}', '{NULL}')
    union all select tests.differing(array[%1$L, %2$L]::uuid[], tests.names(), null, null, 'tests/d1', '{0}', '{20}', '{NULL}')
    union all select tests.differing(array[%1$L, %2$L]::uuid[], tests.names(), '{function}', '{rust,go}', 'src/', '{0.4}', '{20}', '{NULL}')
  $$, :'main', :'next'),
  'of a kind, of a language, below a path'
);
select results_eq(
  $$select distinct t.path ~ '^tests/', t.is_secondary from private.code_tree_entries as t where t.organization = tests.org('ada') order by 1$$,
  $$values (false, false), (true, true)$$, 'a file knows whether it is one of tests'
);

select * from finish();
rollback;
