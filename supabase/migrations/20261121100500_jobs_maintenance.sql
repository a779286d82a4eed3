-- ============================================================================
-- Jobs: expired leases and upkeep.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Functions that workers call are definer: the sidecar's role holds no right on any
-- table, only EXECUTE on these functions.
-- ----------------------------------------------------------------------------

create function private.jobs_requeue_expired_since(since timestamptz) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs;
  handled integer := 0;
begin
  for job in
    select j.* from public.jobs as j
    where j.status = 'running' and j.attempt >= 0 and j.locked_until >= since and j.locked_until < clock_timestamp()
    order by j.locked_until
    for update skip locked
  loop
    -- Claims run this, and a claim never waits for a row.
    continue when not private.jobs_lock_dependents(job);
    if job.cancel_requested then
      perform private.jobs_finish(job, 'cancelled', null, 'cancelled', 'cancelled while its worker was lost');
    elsif job.attempt - job.uncounted_attempts >= job.max_attempts then
      perform private.jobs_finish(job, 'dead', null, 'lease_expired', format('worker %s did not report back', job.locked_by));
    else
      perform private.jobs_retry(job, 'lease_expired', 'lease_expired', format('worker %s did not report back', job.locked_by), null);
    end if;
    handled := handled + 1;
    exit when handled = 1000;
  end loop;
  return handled;
end
$$;
comment on function private.jobs_requeue_expired_since(timestamptz) is 'Takes back up to 1,000 jobs whose lease ended at or after since: queued again, dead after the last attempt, or cancelled if requested. Skips jobs that another transaction has locked, and jobs whose dependent rows are locked.';

create function private.jobs_requeue_expired() returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select private.jobs_requeue_expired_since('-infinity')
$$;
comment on function private.jobs_requeue_expired() is 'Takes back jobs whose lease ran out, however long ago: queued again, dead after the last attempt, or cancelled if requested. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_requeue_expired() to kijko_sidecar;

create function private.jobs_run_maintenance() returns boolean
language plpgsql set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  started constant timestamptz := clock_timestamp();
  -- A transaction that takes longer than this from its statement to its commit leaves rows behind the watermarks. The full
  -- scan below and pg_cron's maintenance find them.
  slack constant interval := interval '0.25 seconds';
  full_scan boolean;
  since timestamptz;
  oldest timestamptz;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('kijko-jobs-run-maintenance', 20261121)) then
    return false;
  end if;
  perform setval('private.jobs_maintenance_at', private.jobs_to_watermark(started + slack));

  select r.last_value <= private.jobs_to_watermark(started) into full_scan from private.jobs_full_scan_at as r;
  select case when full_scan then '-infinity' else private.jobs_from_watermark(r.last_value) end into since
  from private.jobs_lease_watermark as r;
  perform private.jobs_requeue_expired_since(since);
  -- The watermark stays behind skipped jobs.
  select min(first.locked_until) into oldest
  from (
    select j.locked_until from public.jobs as j
    where j.status = 'running' and j.attempt >= 0 and j.locked_until >= since
    order by j.locked_until
    limit 1
  ) as first;
  perform setval('private.jobs_lease_watermark', private.jobs_to_watermark(least(oldest, started - slack)));

  select case when full_scan then '-infinity' else private.jobs_from_watermark(r.last_value) end into since
  from private.jobs_due_watermark as r;
  select min(first.run_at) into oldest
  from (select distinct l.kind from private.job_lanes as l) as k
  cross join lateral (
    select j.run_at from public.jobs as j
    where j.status = 'queued' and j.attempt >= 0 and j.kind = k.kind and j.run_at >= since
    order by j.run_at
    limit 1
  ) as first;
  perform setval('private.jobs_due_watermark', private.jobs_to_watermark(least(oldest, started - slack)));
  if full_scan then
    -- Reads every entry that a held snapshot keeps, so it runs less often as that takes longer: at most a twentieth of the time.
    perform setval('private.jobs_full_scan_at', private.jobs_to_watermark(
      clock_timestamp() + greatest(interval '1 second', 20 * (clock_timestamp() - started))
    ));
  end if;
  return true;
end
$$;
comment on function private.jobs_run_maintenance() is 'Called by claims a few times a second: takes back expired leases and advances the watermarks. False when another transaction is doing it.';

create function private.jobs_prune_dead_tuples() returns void
language plpgsql set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  started constant timestamptz := clock_timestamp();
begin
  if not pg_try_advisory_xact_lock(hashtextextended('kijko-jobs-prune', 20261121)) then
    return;
  end if;
  -- A column, because count(*) could read the index only, and pruning happens when a page of the table is read.
  perform count(j.kind) from public.jobs as j
  where j.status = 'running' and j.attempt >= 0 and j.locked_until > started;
  -- At most a twelfth of the time, however many jobs are running or kept by a snapshot.
  perform setval('private.jobs_prune_at', private.jobs_to_watermark(
    clock_timestamp() + greatest(interval '5 milliseconds', 12 * (clock_timestamp() - started))
  ));
end
$$;
comment on function private.jobs_prune_dead_tuples() is 'Called by claims and by ends of batches. Reads the leased jobs, and with them entries of the index for jobs that have ended. Postgres prunes dead versions when their page is read, and nothing else reads these pages before vacuum.';

create function private.jobs_maybe_run_maintenance(moment timestamptz, taken integer) returns boolean
language plpgsql set search_path = ''
as $$
declare
  -- A claim with few jobs leaves it to others, because a job waits for its answer; unless it is a second overdue.
  reference constant bigint := private.jobs_to_watermark(
    case when taken between 1 and 49 then moment - interval '1 second' else moment end
  );
  maintained boolean := false;
begin
  if (select r.last_value <= reference from private.jobs_maintenance_at as r) then
    maintained := private.jobs_run_maintenance();
  end if;
  if (select r.last_value <= reference from private.jobs_prune_at as r) then
    perform private.jobs_prune_dead_tuples();
  end if;
  return maintained;
end
$$;
comment on function private.jobs_maybe_run_maintenance(timestamptz, integer) is 'Called by a claim that found so many jobs: runs maintenance and prunes dead tuples when they are due. True when maintenance ran.';

create function private.jobs_maintain_lanes() returns void
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
  -- A lane that another session holds is closed by a later call: waiting for it would undo what was opened above.
  delete from private.job_lanes as l
  where l.ctid = any (array(
    select i.ctid from private.job_lanes as i
    where not exists (
      select 1 from public.jobs as j
      where j.status = 'queued' and j.kind = i.kind and j.org_id = i.org and j.priority = i.priority
        and coalesce(j.concurrency_key, '') = i.concurrency_key
    )
    for update skip locked
  ));
end
$$;
comment on function private.jobs_maintain_lanes() is 'Opens missing lanes and closes idle ones. Called by pg_cron. A lane that is closed while its next job is being queued is opened by the next call.';
