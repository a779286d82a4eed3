-- ============================================================================
-- Jobs: expired leases and upkeep.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- What workers call. Definer, all of them: the sidecar's role holds no right on any
-- table, only EXECUTE on these.
-- ----------------------------------------------------------------------------

create function private.take_back_jobs(since timestamptz) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs;
  reaped integer := 0;
begin
  for job in
    select j.* from public.jobs as j
    where j.status = 'running' and j.attempt >= 0 and j.locked_until >= since and j.locked_until < clock_timestamp()
    order by j.locked_until
    for update skip locked
  loop
    -- Claims run this, too, and a claim never waits for a row.
    continue when not private.jobs_lock_followers(job);
    if job.cancel_requested then
      perform private.end_job(job, 'cancelled', null, 'cancelled', 'cancelled while its worker was lost');
    elsif job.attempt - job.uncounted_attempts >= job.max_attempts then
      perform private.end_job(job, 'dead', null, 'lease_expired', format('worker %s did not report back', job.locked_by));
    else
      perform private.retry_job(job, 'lease_expired', 'lease_expired', format('worker %s did not report back', job.locked_by), null);
    end if;
    reaped := reaped + 1;
    exit when reaped = 1000;
  end loop;
  return reaped;
end
$$;
comment on function private.take_back_jobs(timestamptz) is 'Takes back up to 1,000 jobs whose lease ended at or after since: queued again, dead after the last attempt, or cancelled if requested. Skips jobs that another transaction has locked, and jobs whose execution is locked.';

create function private.reap_jobs() returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select private.take_back_jobs('-infinity')
$$;
comment on function private.reap_jobs() is 'Takes back jobs whose lease ran out, however long ago: queued again, or dead after the last attempt, or cancelled if that was asked. Definer: the sidecar holds no table rights.';
grant execute on function private.reap_jobs() to kijko_sidecar;

create function private.tend_jobs() returns boolean
language plpgsql set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  started constant timestamptz := clock_timestamp();
  -- Rows of transactions that take longer than this from statement to commit appear behind the registers; a rescue, which
  -- looks from the beginning, and pg_cron's reaping find them.
  slack constant interval := interval '0.25 seconds';
  rescue boolean;
  since timestamptz;
  oldest timestamptz;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('kijko-tend-jobs', 20261121)) then
    return false;
  end if;
  perform setval('private.jobs_tend_at', private.as_register(started + slack));

  select r.last_value <= private.as_register(started) into rescue from private.jobs_rescue_at as r;
  select case when rescue then '-infinity' else to_timestamp(r.last_value / 1000000.0) end into since
  from private.jobs_reaped_until as r;
  perform private.take_back_jobs(since);
  -- The watermark stays behind skipped jobs.
  select min(first.locked_until) into oldest
  from (
    select j.locked_until from public.jobs as j
    where j.status = 'running' and j.attempt >= 0 and j.locked_until >= since
    order by j.locked_until
    limit 1
  ) as first;
  perform setval('private.jobs_reaped_until', private.as_register(least(oldest, started - slack)));

  select case when rescue then '-infinity' else to_timestamp(r.last_value / 1000000.0) end into since
  from private.jobs_head as r;
  select min(first.run_at) into oldest
  from (select distinct l.kind from private.job_lanes as l) as k
  cross join lateral (
    select j.run_at from public.jobs as j
    where j.status = 'queued' and j.attempt >= 0 and j.kind = k.kind and j.run_at >= since
    order by j.run_at
    limit 1
  ) as first;
  perform setval('private.jobs_head', private.as_register(least(oldest, started - slack)));
  if rescue then
    -- Walks every entry that a held snapshot keeps, so it gets rarer as that becomes dear: a twentieth of the time at most.
    perform setval('private.jobs_rescue_at', private.as_register(
      clock_timestamp() + greatest(interval '1 second', 20 * (clock_timestamp() - started))
    ));
  end if;
  return true;
end
$$;
comment on function private.tend_jobs() is 'Keeps house for claims, which call it a few times a second: takes back expired leases and moves the registers on. False when another transaction is at it.';

create function private.sweep_jobs() returns void
language plpgsql set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  started constant timestamptz := clock_timestamp();
begin
  if not pg_try_advisory_xact_lock(hashtextextended('kijko-sweep-jobs', 20261121)) then
    return;
  end if;
  -- Not "count(*)": the rows have to be read, not only their index.
  perform count(j.kind) from public.jobs as j
  where j.status = 'running' and j.attempt >= 0 and j.locked_until > started;
  -- A twelfth of the time at most, however much is running or held by a snapshot.
  perform setval('private.jobs_sweep_at', private.as_register(
    clock_timestamp() + greatest(interval '5 milliseconds', 12 * (clock_timestamp() - started))
  ));
end
$$;
comment on function private.sweep_jobs() is 'Called by claims and by ends of batches. Reads the leased jobs by their index, and so also what that index still knows of jobs ended meanwhile: Postgres clears dead versions away when their page is read, and nothing else would read these before vacuum.';

create function private.keep_house(moment timestamptz, taken integer) returns boolean
language plpgsql set search_path = ''
as $$
declare
  -- Left to claims that nobody waits for, those that find nothing or much; to any, when none of these came for a second.
  reference constant bigint := private.as_register(
    case when taken between 1 and 49 then moment - interval '1 second' else moment end
  );
  tended boolean := false;
begin
  if (select r.last_value <= reference from private.jobs_tend_at as r) then
    tended := private.tend_jobs();
  end if;
  if (select r.last_value <= reference from private.jobs_sweep_at as r) then
    perform private.sweep_jobs();
  end if;
  return tended;
end
$$;
comment on function private.keep_house(timestamptz, integer) is 'Called by a claim that found so many jobs: tends and sweeps if it is time to. True when it tended.';

create function private.tend_lanes() returns void
language plpgsql set search_path = ''
as $$
begin
  perform private.jobs_add_lane(m.kind, m.priority, m.org_id, m.concurrency_key)
  from (
    select distinct j.kind, j.priority, j.org_id, coalesce(j.concurrency_key, '') as concurrency_key
    from public.jobs as j where j.status = 'queued'
    except
    select l.kind, l.priority, l.org, l.concurrency_key from private.job_lanes as l
  ) as m;
  delete from private.job_lanes as l
  where not exists (
    select 1 from public.jobs as j
    where j.status = 'queued' and j.kind = l.kind and j.org_id = l.org and j.priority = l.priority
      and coalesce(j.concurrency_key, '') = l.concurrency_key
  );
end
$$;
comment on function private.tend_lanes() is 'Opens lanes that are missing and closes idle ones; called by pg_cron. A lane that is closed while its next job is being queued is opened by the next call.';
