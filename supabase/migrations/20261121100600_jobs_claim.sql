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
  -- Whether the claim is all that its transaction writes.
  alone constant boolean := pg_current_xact_id_if_assigned() is null;
begin
  if worker is null or worker !~ '\S' or char_length(worker) > 200 then
    perform kijko.fail('bad_request', 'worker: 1 to 200 characters');
  end if;
  if lease is null or lease < interval '1 second' or lease > interval '1 hour' then
    perform kijko.fail('bad_request', 'lease: 1 second to 1 hour');
  end if;
  if wanted = 0 or exists (select 1 from private.job_queue_pause) then
    return;
  end if;
  -- A login with kinds of its own runs no others.
  if session_user <> 'kijko_sidecar' and exists (select 1 from private.job_worker_kinds as k where k.role = session_user) then
    kinds := array(
      select k.kind from private.job_worker_kinds as k
      where k.role = session_user and (jobs_claim.kinds is null or k.kind = any (jobs_claim.kinds))
    );
    of_kinds := kinds;
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
    -- Only maintenance wrote, and it may be lost in a crash: the next one does it again. A worker that polls need not wait for
    -- a flush each time, nor delay the flushes of those who queue jobs.
    if alone then
      perform set_config('synchronous_commit', 'off', true);
    end if;
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
