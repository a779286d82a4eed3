-- ============================================================================
-- Jobs: steps that several functions share. Not definer and not granted.
-- ============================================================================

create function private.jobs_lock_leased(worker text, job_id uuid, attempt integer) returns public.jobs
language sql set search_path = ''
as $$
  select j.* from public.jobs as j
  where j.id = jobs_lock_leased.job_id
    and j.status = 'running'
    and j.locked_by = jobs_lock_leased.worker
    and (jobs_lock_leased.attempt is null or j.attempt = jobs_lock_leased.attempt)
  for update
$$;
comment on function private.jobs_lock_leased(text, uuid, integer) is 'Locks a job that this worker still holds; nothing once the lease went to another worker or, when the attempt is given, to another attempt.';

create function private.jobs_notify_free_slot(org_id uuid, concurrency_key text, kind text) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  if jobs_notify_free_slot.concurrency_key is not null
    or exists (select 1 from private.job_limits as l where l.org_id = jobs_notify_free_slot.org_id and l.concurrency_key = '')
  then
    perform pg_notify('kijko_jobs', jobs_notify_free_slot.kind);
  end if;
end
$$;
comment on function private.jobs_notify_free_slot(uuid, text, text) is 'A place under a limit became free: wakes workers, since a job may have waited for it.';

create function private.jobs_finish(job public.jobs, final_status text, result jsonb, code text, message text) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  update public.jobs as j
  set status = final_status,
    result = jobs_finish.result,
    error_code = substring(code for 100),
    error = substring(message for 10000),
    locked_by = null,
    locked_until = null,
    last_worker = case final_status when 'succeeded' then job.locked_by end,
    finished_at = clock_timestamp(),
    updated_at = clock_timestamp()
  where j.id = job.id;
  if final_status <> 'succeeded' then
    insert into public.job_event_log (org_id, job_id, event, attempt, worker, data)
    values (
      job.org_id, job.id, final_status, job.attempt, job.locked_by,
      jsonb_strip_nulls(jsonb_build_object('code', substring(code for 100), 'message', substring(message for 10000)))
    );
  end if;
  if job.status = 'running' then
    perform private.jobs_notify_free_slot(job.org_id, job.concurrency_key, job.kind);
  end if;
  if final_status = 'succeeded' then
    perform private.jobs_record_recovery(job.kind);
  end if;
end
$$;
comment on function private.jobs_finish(public.jobs, text, jsonb, text, text) is 'Moves a locked job to its final status: succeeded, dead or cancelled.';

create function private.jobs_retry(
  job public.jobs, event text, code text, message text, retry_after interval, counted boolean default true
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  earlier integer := case when counted then job.attempt - job.uncounted_attempts - 1 else job.uncounted_attempts end;
  -- 2 s, 4 s, 8 s ... 10 min; half of it random, so that jobs which failed together do not return together. Postponed jobs
  -- wait a minute at most: their kind is paused meanwhile, and they are to run soon after the vendor is back.
  backoff interval := least(
    interval '2 seconds' * (2 ^ least(earlier, 10)), case when counted then interval '10 minutes' else interval '1 minute' end
  ) * (0.5 + random() / 2);
  -- What a vendor asks for is respected, within a day (least() would take the day when nothing is asked for).
  pause interval := greatest(backoff, case when retry_after is not null then least(retry_after, interval '1 day') end);
begin
  update public.jobs as j
  set status = 'queued',
    run_at = clock_timestamp() + pause,
    uncounted_attempts = j.uncounted_attempts + case when counted then 0 else 1 end,
    error_code = substring(code for 100),
    error = substring(message for 10000),
    locked_by = null,
    locked_until = null,
    updated_at = clock_timestamp()
  where j.id = job.id;
  perform private.jobs_notify_free_slot(job.org_id, job.concurrency_key, job.kind);
  insert into public.job_event_log (org_id, job_id, event, attempt, worker, data)
  values (
    job.org_id, job.id, jobs_retry.event, job.attempt, job.locked_by,
    jsonb_strip_nulls(jsonb_build_object(
      'code', substring(code for 100), 'message', substring(message for 10000), 'in_seconds', round(extract(epoch from pause), 3)
    ))
  );
end
$$;
comment on function private.jobs_retry(public.jobs, text, text, text, interval, boolean) is 'Puts a locked job back into the queue after exponential back-off with jitter. counted says whether the attempt counts.';

create function private.jobs_requeue(job public.jobs, event text, kind text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  update public.jobs as j
  set status = 'queued',
    kind = jobs_requeue.kind,
    run_at = clock_timestamp(),
    uncounted_attempts = j.uncounted_attempts + 1,
    locked_by = null,
    locked_until = null,
    updated_at = clock_timestamp()
  where j.id = job.id;
  perform private.jobs_notify_free_slot(job.org_id, job.concurrency_key, job.kind);
  insert into public.job_event_log (org_id, job_id, event, attempt, worker)
  values (job.org_id, job.id, jobs_requeue.event, job.attempt, job.locked_by);
end
$$;
comment on function private.jobs_requeue(public.jobs, text, text) is 'Puts a locked job that was not at fault back into the queue, due at once, as the given kind; the attempt does not count.';

create function private.jobs_lock_dependents(job public.jobs) returns boolean
language sql set search_path = pg_catalog, pg_temp
as 'select true';
comment on function private.jobs_lock_dependents(public.jobs) is 'Locks the rows that follow a locked job, without waiting; false when another transaction holds one. Domains whose rows follow jobs replace it. Callers that must not wait call it before they change the job.';

create function private.jobs_record_outage(kind text, code text, retry_after interval) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  -- Does not wait: a session that holds the row is recording the same outage.
  update private.job_kind_pauses as p
  set failures = n.failures,
    until = case when n.failures >= 3
      then clock_timestamp() + greatest(
        least(interval '1 second' * (2 ^ least(n.failures - 3, 10)), interval '2 minutes') * (0.5 + random() / 2),
        case when jobs_record_outage.retry_after is not null then least(jobs_record_outage.retry_after, interval '1 hour') end
      )
      else p.until
    end,
    error_code = substring(jobs_record_outage.code for 100),
    failed_at = clock_timestamp()
  from (
    select q.ctid as place, case when q.failed_at < clock_timestamp() - interval '1 hour' then 1 else q.failures + 1 end as failures
    from private.job_kind_pauses as q
    -- Failures of calls that began before the pause do not count again.
    where q.kind = jobs_record_outage.kind and q.until <= clock_timestamp()
    for update skip locked
  ) as n
  where p.ctid = n.place;
  if not found and not exists (select 1 from private.job_kind_pauses as p where p.kind = jobs_record_outage.kind)
    and pg_try_advisory_xact_lock(hashtextextended('kijko-job-pause:' || jobs_record_outage.kind, 20261121))
  then
    insert into private.job_kind_pauses (kind, error_code) values (jobs_record_outage.kind, substring(jobs_record_outage.code for 100))
    on conflict do nothing;
  end if;
end
$$;
comment on function private.jobs_record_outage(text, text, interval) is 'Records that the vendor of a kind failed. From the third consecutive failure on the kind is paused for 1, 2, 4 … seconds, at most two minutes, or for the retry_after of the vendor, at most an hour.';

create function private.jobs_record_recovery(kind text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select 1 from private.job_kind_pauses as p where p.kind = jobs_record_recovery.kind) then
    return;
  end if;
  delete from private.job_kind_pauses as p
  where p.ctid = any (array(
    select q.ctid from private.job_kind_pauses as q where q.kind = jobs_record_recovery.kind for update skip locked
  ));
  if found then
    perform pg_notify('kijko_jobs', jobs_record_recovery.kind);
  end if;
end
$$;
comment on function private.jobs_record_recovery(text) is 'A job of the kind succeeded: lifts its pause and wakes workers.';

create function private.jobs_open_kinds(kinds text[], moment timestamptz) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  open text[];
  probe text;
begin
  select array_agg(k.kind) into open
  from unnest(kinds) as k (kind)
  where not exists (select 1 from private.job_kind_pauses as p where p.kind = k.kind and (p.until > moment or p.failures >= 3));
  -- One claim every five seconds tests whether the vendor is back. The pause itself is left alone: a failure counts only
  -- after its end.
  update private.job_kind_pauses as p
  set tried_at = moment
  where p.ctid = (
    select q.ctid from private.job_kind_pauses as q
    where q.kind = any (kinds) and q.failures >= 3 and q.until <= moment and q.tried_at <= moment - interval '5 seconds'
      and exists (select 1 from public.jobs as j where j.status = 'queued' and j.attempt >= 0 and j.kind = q.kind and j.run_at <= moment)
    order by q.until
    limit 1
    for update skip locked
  )
  returning p.kind into probe;
  return case when probe is null then open else array[probe] end;
end
$$;
comment on function private.jobs_open_kinds(text[], timestamptz) is 'The kinds that may be claimed at this moment: those that are not paused, or a single kind whose pause has ended. The caller claims one job of the latter, as a test.';
