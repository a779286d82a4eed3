-- ============================================================================
-- Code: who uses what.
-- ============================================================================

create type public.code_edge as (
  depth integer, repository_id uuid, branch text, source_path text, source_symbol text, kind text, target_path text, target_symbol text,
  resolution text, line integer, from_commit text, to_commit text
);
comment on type public.code_edge is 'Result of symbol_graph(): source uses target, as far from the symbol as depth says, how that was found (exact, import, same_file, name), and between which commits it held. Nullable: to_commit.';

create function private.code_neighbours(
  org uuid, branch uuid, path text, symbol text, forward boolean, kinds text[], seq bigint
) returns setof private.code_edges
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  -- By one index only, in the one direction.
  if forward then
    return query
    select e.* from private.code_edges as e
    where e.organization = org and e.branch_id = branch and e.source_path = path collate "C" and e.source_symbol = symbol collate "C"
      and (kinds is null or e.kind = any (kinds))
      and case when seq is null then e.to_seq is null else e.from_seq <= seq and (e.to_seq is null or e.to_seq > seq) end
    limit 200;
  else
    return query
    select e.* from private.code_edges as e
    where e.organization = org and e.branch_id = branch and e.target_path = path collate "C" and e.target_symbol = symbol collate "C"
      and (kinds is null or e.kind = any (kinds))
      and case when seq is null then e.to_seq is null else e.from_seq <= seq and (e.to_seq is null or e.to_seq > seq) end
    limit 200;
  end if;
end
$$;
comment on function private.code_neighbours(uuid, uuid, text, text, boolean, text[], bigint) is 'Edges from a symbol (forward) or to it, at most 200: those that hold, or held at the indexing job of this number.';

create function public.symbol_graph(
  symbol text, direction text default 'callers', repository_id uuid default null, branch text default null, path text default null,
  depth integer default 1, kinds text[] default null, at_commit text default null, n integer default 200
) returns setof public.code_edge
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
#variable_conflict use_variable
declare
  org uuid;
  branches uuid[];
  name constant text := private.code_last_part(symbol);
  levels constant integer := case direction when 'impact' then greatest(depth, 3) else depth end;
  forward constant boolean := direction = 'callees';
begin
  if direction is null or direction not in ('callers', 'callees', 'impact') then
    perform kijko.fail('invalid_input', 'direction: callers, callees or impact');
  elsif symbol is null or char_length(symbol) not between 1 and 500 or name is null then
    perform kijko.fail('invalid_input', 'symbol: a name, or a parent and a name with a dot between them');
  elsif depth is null or depth not between 1 and 6 or n is null or n not between 1 and 1000 or char_length(path) > 1024 or cardinality(kinds) > 5 then
    perform kijko.fail('invalid_input', 'depth: 1 to 6; n: 1 to 1,000; path: at most 1,024 characters; kinds: at most 5');
  end if;
  branches := private.code_search_scope(repository_id, branch);
  org := public.org_id();
  return query
  with recursive moments as materialized (
    -- The number of the commit in each branch; none for the present. Before the first one nothing held.
    select b.id as branch_id, b.repository_id, b.name, case when at_commit is not null then coalesce((
      select max(j.seq) from public.indexing_jobs as j
      where j.org_id = org and j.repository_id = b.repository_id and j.branch = b.name and j.status = 'succeeded' and starts_with(j.commit_sha, at_commit)
    ), -1) end as seq
    from public.repository_branches as b where b.org_id = org and b.id = any (branches)
  ), walk (depth, branch_id, path, symbol) as (
    select 0, t.branch_id, t.path, concat_ws('.', p.name, s.name) collate "C"
    from private.code_symbols as s
    join private.code_tree_entries as t on t.organization = s.organization and t.blob_id = s.blob_id and t.branch_id = any (branches)
    left join private.code_symbols as p on p.organization = s.organization and p.blob_id = s.blob_id and p.ordinal = s.parent
    where s.organization = org and s.lower_name = lower(name) collate "C" and s.name = name
      and (symbol = name or concat_ws('.', p.name, s.name) = symbol) and (path is null or starts_with(t.path, path))
    union
    select w.depth + 1, w.branch_id, e.path, e.symbol
    from walk as w
    join moments as m on m.branch_id = w.branch_id
    cross join lateral (
      select case when forward then x.target_path else x.source_path end as path,
        case when forward then x.target_symbol else x.source_symbol end as symbol
      from private.code_neighbours(org, w.branch_id, w.path, w.symbol, forward, kinds, m.seq) as x
    ) as e
    where w.depth + 1 < levels and e.symbol <> ''
  ), nodes as materialized (
    select min(w.depth) as depth, w.branch_id, w.path, w.symbol
    from (select v.* from walk as v limit 2000) as w
    group by w.branch_id, w.path, w.symbol
  )
  select k.depth + 1, m.repository_id, m.name, x.source_path::text, x.source_symbol::text, x.kind, x.target_path::text, x.target_symbol::text,
    x.resolution, x.line, x.from_commit, x.to_commit
  from nodes as k
  join moments as m on m.branch_id = k.branch_id
  cross join lateral private.code_neighbours(org, k.branch_id, k.path, k.symbol, forward, kinds, m.seq) as x
  order by k.depth, x.resolution, x.source_path, x.line, x.target_path
  limit n;
end
$$;
comment on function public.symbol_graph(text, text, uuid, text, text, integer, text[], text, integer) is 'Who uses a symbol (callers), what it uses (callees), or all that a change of it may reach (impact, at least three levels deep). symbol is a name, or Parent.name; path is a prefix of its file. at_commit asks for what held at an indexed commit. Counts as one of code_searches. Requires repositories:read. Definer: edges are private.';
grant execute on function public.symbol_graph(text, text, uuid, text, text, integer, text[], text, integer) to authenticated;
