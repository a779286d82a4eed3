-- ============================================================================
-- Jobs: claims.
--
-- How a claim stays fair and cheap, whatever is queued:
-- 1. It takes the jobs longest due that no other claim holds, as many as it may lease. If there are fewer, it has seen all of
--    them, and only limits decide which it leases.
-- 2. Otherwise there is a backlog, which may be one tenant's. Then the claim also reads the first jobs of up to 64
--    organizations of each kind and priority. It starts after the organization served last and skips those whose limits are
--    reached. It ranks all these jobs: higher priority first, then the organizations take turns. So it finds a tenant's one
--    job behind another's million without reading that million, and serves it within one round even if each claim takes one.
-- Both steps read index ranges that begin at the watermark. Candidates are locked first and found again by their place, since
-- a locked row does not move. The settings keep plans independent of statistics, which are never right for a queue. Where
-- the settings are not enough, a look-up is a lateral subquery, which allows one plan only.
-- Turns are stored in sequences, because rows would leave a dead version for each claim. Sets of kinds that share a sequence
-- overwrite each other's turn and then start with a random organization. If they started with the first, they would serve
-- no other.
-- ============================================================================

create function private.jobs_within_limits(places tid[]) returns tid[]
language plpgsql set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  counted uuid[];
  kept tid[];
begin
  -- Only one claim at a time counts an organization. Another claim leaves that organization's limited jobs to it. The count is
  -- a statement of its own, because it must see what the claim before has committed.
  select array_agg(o.org_id) into counted
  from (
    select distinct j.org_id from public.jobs as j
    where j.ctid = any (places)
      and (j.concurrency_key is not null
        or exists (select 1 from private.job_limits as l where l.org_id = j.org_id and l.concurrency_key = ''))
    offset 0
  ) as o
  where pg_try_advisory_xact_lock(hashtextextended('kijko-job-limits:' || o.org_id, 20261121));

  with running as materialized (
    select j.org_id, j.concurrency_key
    from public.jobs as j
    where j.status = 'running' and j.attempt >= 0
      and j.locked_until >= (select private.jobs_from_watermark(r.last_value) from private.jobs_lease_watermark as r)
      and j.org_id = any (counted)
  ),
  candidates as (
    select c.place, c.n, j.org_id, j.concurrency_key, whole.max_running,
      row_number() over (partition by j.org_id, j.concurrency_key order by c.n) as rank
    from unnest(places) with ordinality as c (place, n)
    join public.jobs as j on j.ctid = c.place
    left join private.job_limits as whole on whole.org_id = j.org_id and whole.concurrency_key = ''
    where j.org_id = any (counted) or (j.concurrency_key is null and whole.org_id is null)
  ),
  by_key as (
    select c.*, row_number() over (partition by c.org_id order by c.n) as org_rank
    from candidates as c
    left join private.job_limits as l on l.org_id = c.org_id and l.concurrency_key = c.concurrency_key
    where c.concurrency_key is null
      or c.rank <= coalesce(l.max_running, 1)
        - (select count(*) from running as r where r.org_id = c.org_id and r.concurrency_key = c.concurrency_key)
  )
  select array_agg(b.place order by b.n) into kept
  from by_key as b
  where b.max_running is null
    or b.org_rank <= b.max_running - (select count(*) from running as r where r.org_id = b.org_id);
  return coalesce(kept, '{}');
end
$$;
comment on function private.jobs_within_limits(tid[]) is 'Of the queued jobs at these places, whose rows are locked, those that may run without exceeding a limit, in the same order.';

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
  with recursive levels as (
    select k.kind, (select max(l.priority) from private.job_lanes as l where l.kind = k.kind) as priority
    from unnest(of_kinds) as k (kind)
    where backlog
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
  ),
  rounds as materialized (
    select v.kind, v.priority, s.turn from levels as v join starts as s on s.priority = v.priority
  ),
  running as materialized (
    select j.org_id, j.kind, coalesce(j.concurrency_key, '') as concurrency_key, count(*) as jobs
    from public.jobs as j
    where limited and j.status = 'running' and j.attempt >= 0
      and j.locked_until >= (select private.jobs_from_watermark(r.last_value) from private.jobs_lease_watermark as r)
    group by j.org_id, j.kind, coalesce(j.concurrency_key, '')
  ),
  orgs as materialized (
    select r.kind, r.priority, o.turn, o.org, count(*) over () as orgs
    from rounds as r
    cross join lateral (
      -- From one organization to the next in the order of their turns, one full round.
      with recursive walk as (
        select r.turn, null::uuid as org, 0 as round, 0 as step
        union all
        select n.turn, n.org, n.round, w.step + 1
        from walk as w
        cross join lateral (
          (
            select a.turn, a.org, w.round from private.job_lanes as a
            where a.kind = r.kind and a.priority = r.priority and a.turn > w.turn and (w.round = 0 or a.turn <= r.turn)
            order by a.turn
            limit 1
          )
          union all
          (
            select a.turn, a.org, 1 from private.job_lanes as a
            where a.kind = r.kind and a.priority = r.priority and w.round = 0 and a.turn <= r.turn
            order by a.turn
            limit 1
          )
          limit 1
        ) as n
        where w.step < 10000
      )
      select w.turn, w.org from walk as w
      where w.step > 0 and not exists (
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
      from (
        (
          select a.concurrency_key from private.job_lanes as a
          where a.kind = o.kind and a.priority = o.priority and a.turn = o.turn and a.org = o.org and a.place >= anywhere
          order by a.place
        )
        union all
        (
          select a.concurrency_key from private.job_lanes as a
          where a.kind = o.kind and a.priority = o.priority and a.turn = o.turn and a.org = o.org and a.place < anywhere
          order by a.place
        )
      ) as b
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
    left join starts as s on s.priority = o.priority
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

create function private.jobs_claim(worker text, lease interval, max_jobs integer, kinds text[] default null)
returns table (
  id uuid, org_id uuid, kind text, payload jsonb, attempt integer, max_attempts integer, timeout_seconds integer,
  waited_seconds double precision
)
language plpgsql security definer set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  wanted integer := least(greatest(coalesce(max_jobs, 1), 0), 1000);
  due constant timestamptz := clock_timestamp();
  of_kinds text[] := kinds;
  head timestamptz;
  places tid[];
  limited boolean;
  backlog boolean;
  paused boolean;
  probing boolean := false;
  found text;
begin
  if worker is null or worker !~ '\S' or char_length(worker) > 200 then
    perform kijko.fail('bad_request', 'worker: 1 to 200 characters');
  end if;
  if lease is null or lease < interval '1 second' or lease > interval '1 hour' then
    perform kijko.fail('bad_request', 'lease: 1 second to 1 hour');
  end if;
  if wanted = 0 then
    return;
  end if;
  if of_kinds is null then
    of_kinds := array(select distinct l.kind from private.job_lanes as l);
  end if;
  paused := exists (select 1 from private.job_org_pauses as p where p.kind = any (of_kinds) and p.failures >= 3);
  if exists (select 1 from private.job_kind_pauses as p where p.kind = any (of_kinds) and p.failures >= 3) then
    of_kinds := private.jobs_open_kinds(of_kinds, due);
    -- A claim that tests a kind after its pause takes one job, of any organization.
    probing := exists (select 1 from private.job_kind_pauses as p where p.kind = any (of_kinds) and p.failures >= 3);
    if probing then
      wanted := 1;
      paused := false;
    end if;
  end if;

  loop
    select private.jobs_from_watermark(r.last_value) into head from private.jobs_due_watermark as r;
    select array_agg(n.place order by n.priority desc, n.run_at),
      bool_or(n.concurrency_key is not null)
        or exists (select 1 from private.job_limits as l where l.org_id = any (array_agg(n.org_id)) and l.concurrency_key = ''),
      min(n.kind)
    into places, limited, found
    from (
      select j.*
      from unnest(of_kinds) as k (kind)
      cross join lateral (
        select q.ctid as place, q.kind, q.org_id, q.priority, q.run_at, q.concurrency_key
        from public.jobs as q
        where q.status = 'queued' and q.attempt >= 0 and q.kind = k.kind and q.run_at between head and due
        order by q.run_at
        limit wanted
        for update skip locked
      ) as j
    ) as n;
    -- Maintenance may have put jobs back into the queue: look once more.
    exit when not private.jobs_maybe_run_maintenance(due, coalesce(cardinality(places), 0)) or places is not null;
  end loop;
  if places is null then
    return;
  end if;

  backlog := cardinality(places) >= wanted and exists (select 1 from private.job_lanes as l where l.kind = any (of_kinds) offset 1);
  if limited or paused or backlog then
    places := private.jobs_rank(places, kinds, of_kinds, head, due, wanted, paused, probing);
    if paused then
      places := private.jobs_within_pauses(places);
    end if;
    places := private.jobs_within_limits(places);
  end if;
  if backlog then
    perform private.jobs_record_turns(kinds, places[:wanted]);
  end if;

  if cardinality(places) > 0 then
    perform setval('private.jobs_found_at', private.jobs_to_found_watermark(found, clock_timestamp()));
  end if;
  return query
  with claimed as (
    update public.jobs as j
    set status = 'running',
      attempt = j.attempt + 1,
      locked_by = worker,
      locked_until = clock_timestamp() + lease,
      first_worker = coalesce(j.first_worker, jobs_claim.worker),
      started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
    from unnest(places[:wanted]) with ordinality as p (place, n)
    where j.ctid = p.place
    returning j.id, j.org_id, j.kind, j.payload, j.attempt, j.max_attempts, j.timeout_seconds, j.run_at, p.n, j.started_at < due as again
  ),
  logged as (
    -- The first claim is in the job's row.
    insert into public.job_event_log (org_id, job_id, event, attempt, worker, created_by)
    select c.org_id, c.id, 'claimed', c.attempt, jobs_claim.worker, null
    from claimed as c where c.again
  )
  select c.id, c.org_id, c.kind, c.payload, c.attempt, c.max_attempts, c.timeout_seconds,
    extract(epoch from clock_timestamp() - c.run_at)::double precision
  from claimed as c
  order by c.n;
end
$$;
comment on function private.jobs_claim(text, interval, integer, text[]) is 'Leases up to max_jobs due jobs to a worker: highest priority first, organizations in turn, longest due first, within private.job_limits; workers at once never get the same. waited_seconds is how long each had been due. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_claim(text, interval, integer, text[]) to kijko_sidecar;
