-- ============================================================================
-- Jobs: the order in which a claim takes them. The next file says how a claim works.
--
-- Turns are stored in sequences, because rows would leave a dead version for each claim. Sets of kinds that share a sequence
-- overwrite each other's turn and then start with a random organization. If they started with the first, they would serve
-- no other.
-- ============================================================================

create function private.jobs_turn_sequence(kinds text[], priority smallint) returns regclass
language sql immutable
return (array[
  'private.jobs_turn_0', 'private.jobs_turn_1', 'private.jobs_turn_2', 'private.jobs_turn_3',
  'private.jobs_turn_4', 'private.jobs_turn_5', 'private.jobs_turn_6', 'private.jobs_turn_7'
]::regclass[])[1 + (hashtext(coalesce(kinds::text, '') || ':' || priority) & 7)];
comment on function private.jobs_turn_sequence(text[], smallint) is 'The sequence that stores the turn served last by claims for these kinds at this priority.';

create function private.jobs_turn_tag(kinds text[], priority smallint) returns bigint
language sql immutable
return (hashtext(coalesce(kinds::text, '') || ':' || priority) >> 3 & 65535)::bigint << 46;
comment on function private.jobs_turn_tag(text[], smallint) is 'Tag in the upper bits of such a sequence: which kinds and priority its turn belongs to.';

create function private.jobs_last_turn(kinds text[], priority smallint) returns bigint
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case when r.value & ~70368744177663 = private.jobs_turn_tag(kinds, priority) then r.value & 70368744177663 end
  from (select coalesce(pg_sequence_last_value(private.jobs_turn_sequence(kinds, priority)), 0) as value) as r
$$;
comment on function private.jobs_last_turn(text[], smallint) is 'The turn of the organization that claims for these kinds served last at this priority; null when unknown.';

create function private.jobs_record_turns(kinds text[], served tid[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select setval(private.jobs_turn_sequence(kinds, s.priority), private.jobs_turn_tag(kinds, s.priority) + s.turn)
  from (
    select distinct on (j.priority) j.priority, (select min(l.turn) from private.job_lanes as l where l.org = j.org_id) as turn
    from unnest(served) with ordinality as p (place, n)
    join public.jobs as j on j.ctid = p.place
    order by j.priority, p.n desc
  ) as s
  where s.turn is not null
$$;
comment on function private.jobs_record_turns(text[], tid[]) is 'Stores the turn that a claim for these kinds serves last at each priority; the next claim starts after it.';

-- The parts of jobs_rank(). Postgres puts the body of such a function into the statement that calls it (they are stable, and have
-- neither settings nor an owner's rights), so they are planned with it, under its settings, and cost nothing.

create function private.jobs_rounds(kinds text[], of_kinds text[]) returns table (kind text, priority smallint, turn bigint)
language sql stable
begin atomic
  -- Priorities from one to the next: the index finds them without reading every lane.
  with recursive levels as (
    select k.kind, (select max(l.priority) from private.job_lanes as l where l.kind = k.kind) as priority
    from unnest(of_kinds) as k (kind)
    union all
    select v.kind, (select max(l.priority) from private.job_lanes as l where l.kind = v.kind and l.priority < v.priority)
    from levels as v
    where v.priority is not null
  ),
  starts as materialized (
    select p.priority, coalesce(
      private.jobs_last_turn(kinds, p.priority),
      (
        select o.turn
        from (
          select distinct a.turn from private.job_lanes as a where a.kind = any (of_kinds) and a.priority = p.priority
        ) as o
        order by random()
        limit 1
      ),
      0
    ) as turn
    from (select distinct v.priority from levels as v where v.priority is not null) as p
  )
  select v.kind, v.priority, s.turn from levels as v join starts as s on s.priority = v.priority;
end;
comment on function private.jobs_rounds(text[], text[]) is 'The rounds of these kinds, one for each kind and priority that has lanes, and the turn after which each goes on.';

create function private.jobs_running_counts() returns table (org_id uuid, kind text, concurrency_key text, jobs bigint)
language sql stable
begin atomic
  select j.org_id, j.kind, coalesce(j.concurrency_key, ''), count(*)
  from public.jobs as j
  where j.status = 'running' and j.attempt >= 0
    and j.locked_until >= (select private.jobs_from_watermark(r.last_value) from private.jobs_lease_watermark as r)
  group by j.org_id, j.kind, coalesce(j.concurrency_key, '');
end;
comment on function private.jobs_running_counts() is 'How many jobs run, by organization, kind and concurrency key.';

create function private.jobs_walk_round(kind text, priority smallint, start bigint) returns table (turn bigint, org uuid)
language sql stable
begin atomic
  -- From one organization to the next in the order of their turns, one full round.
  with recursive walk as (
    select jobs_walk_round.start as turn, null::uuid as org, 0 as round, 0 as step
    union all
    select n.turn, n.org, n.round, w.step + 1
    from walk as w
    cross join lateral (
      (
        select a.turn, a.org, w.round from private.job_lanes as a
        where a.kind = jobs_walk_round.kind and a.priority = jobs_walk_round.priority and a.turn > w.turn
          and (w.round = 0 or a.turn <= jobs_walk_round.start)
        order by a.turn
        limit 1
      )
      union all
      (
        select a.turn, a.org, 1 from private.job_lanes as a
        where a.kind = jobs_walk_round.kind and a.priority = jobs_walk_round.priority and w.round = 0
          and a.turn <= jobs_walk_round.start
        order by a.turn
        limit 1
      )
      limit 1
    ) as n
    where w.step < 10000
  )
  select w.turn, w.org from walk as w where w.step > 0;
end;
comment on function private.jobs_walk_round(text, smallint, bigint) is 'The organizations of a round in turn, after this turn and round to it. Finds only as many as the caller reads.';

create function private.jobs_lanes_of(kind text, priority smallint, turn bigint, org uuid, anywhere uuid)
returns table (concurrency_key text)
language sql stable
begin atomic
  (
    select a.concurrency_key from private.job_lanes as a
    where a.kind = jobs_lanes_of.kind and a.priority = jobs_lanes_of.priority and a.turn = jobs_lanes_of.turn
      and a.org = jobs_lanes_of.org and a.place >= jobs_lanes_of.anywhere
    order by a.place
  )
  union all
  (
    select a.concurrency_key from private.job_lanes as a
    where a.kind = jobs_lanes_of.kind and a.priority = jobs_lanes_of.priority and a.turn = jobs_lanes_of.turn
      and a.org = jobs_lanes_of.org and a.place < jobs_lanes_of.anywhere
    order by a.place
  );
end;
comment on function private.jobs_lanes_of(text, smallint, bigint, uuid, uuid) is 'The lanes of an organization in a round, by their place, from a random one on, so that none is left out.';

create function private.jobs_rank(
  near tid[], kinds text[], of_kinds text[], head timestamptz, due timestamptz, wanted integer, paused boolean, probing boolean
) returns tid[]
language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  backlog constant boolean := cardinality(near) >= wanted;
  limited constant boolean := backlog and (
    paused
    or exists (select 1 from private.job_limits)
    or exists (select 1 from private.job_lanes as l where l.kind = any (of_kinds) and l.concurrency_key <> '')
  );
  anywhere constant uuid := gen_random_uuid();
  places tid[];
begin
  with rounds as materialized (
    select r.* from private.jobs_rounds(kinds, of_kinds) as r where backlog
  ),
  running as materialized (
    select n.* from private.jobs_running_counts() as n where limited
  ),
  orgs as materialized (
    select r.kind, r.priority, o.turn, o.org, count(*) over () as orgs
    from rounds as r
    cross join lateral (
      select w.turn, w.org from private.jobs_walk_round(r.kind, r.priority, r.turn) as w
      where not exists (
        select 1 from private.job_limits as l
        where limited and l.org_id = w.org and l.concurrency_key = ''
          and l.max_running <= (select coalesce(sum(n.jobs), 0) from running as n where n.org_id = w.org)
      ) and not exists (
        select 1 from private.job_org_pauses as p
        where paused and p.kind = r.kind and p.org = w.org and p.failures >= 3
          and (p.until > due or exists (select 1 from running as n where n.org_id = w.org and n.kind = r.kind))
      )
      limit 64
    ) as o
  ),
  lanes as materialized (
    select l.*, o.kind, o.priority, o.org, count(*) over () as lanes
    from orgs as o
    cross join lateral (
      select b.concurrency_key
      from private.jobs_lanes_of(o.kind, o.priority, o.turn, o.org, anywhere) as b
      where b.concurrency_key = '' or coalesce(
        (select l.max_running from private.job_limits as l where l.org_id = o.org and l.concurrency_key = b.concurrency_key), 1
      ) > (select coalesce(sum(n.jobs), 0) from running as n where n.org_id = o.org and n.concurrency_key = b.concurrency_key)
      limit greatest(64 / o.orgs, 1)
    ) as l
  ),
  far as materialized (
    select j.*
    from lanes as l
    cross join lateral (
      select q.ctid as place, q.id, q.org_id, q.kind, q.priority, q.run_at
      from public.jobs as q
      where q.status = 'queued' and q.kind = l.kind and q.org_id = l.org and q.priority = l.priority
        and coalesce(q.concurrency_key, '') = l.concurrency_key and q.run_at between head and due
      order by q.run_at
      limit wanted / l.lanes + 1
      for update skip locked
    ) as j
  ),
  candidates as materialized (
    select j.ctid as place, j.id, j.org_id, j.kind, j.priority, j.run_at
    from unnest(near) as n (place)
    join public.jobs as j on j.ctid = n.place
    union
    select f.* from far as f
  ),
  -- Organizations after the one served last come first. Then the round starts again.
  turns as materialized (
    select o.org_id, o.priority, l.turn <= s.turn as round, l.turn
    from (select distinct c.org_id, c.priority from candidates as c) as o
    left join (select distinct r.priority, r.turn from rounds as r) as s on s.priority = o.priority
    cross join lateral (select min(a.turn) as turn from private.job_lanes as a where a.org = o.org_id) as l
    where backlog
  ),
  ranked as (
    select c.*, t.round, t.turn, row_number() over (partition by c.org_id, c.priority order by c.run_at, c.id) as rank,
      probing and exists (select 1 from private.job_org_pauses as p where p.kind = c.kind and p.org = c.org_id) as failed
    from candidates as c
    left join turns as t on t.org_id = c.org_id and t.priority = c.priority
  )
  select array_agg(r.place order by r.failed, r.priority desc, r.rank, r.round, r.turn, r.run_at, r.id) into places
  from ranked as r;
  return places;
end
$$;
comment on function private.jobs_rank(tid[], text[], text[], timestamptz, timestamptz, integer, boolean, boolean) is 'The places of locked jobs, and if they are as many as wanted also of the first of other lanes, which it locks: higher priority first, organizations in turn, longest due first. paused: other lanes of paused organizations are skipped. probing: organizations that have not failed come first.';
