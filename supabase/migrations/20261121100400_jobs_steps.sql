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
comment on function private.jobs_lock_leased(text, uuid, integer) is 'Locks a job that this worker still holds. Returns nothing when the lease is another worker''s or, if the attempt is given, another attempt''s.';

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
comment on function private.jobs_notify_free_slot(uuid, text, text) is 'Wakes workers when a place under a limit became free, since a job may have waited for it.';

create function private.jobs_delete_leased(worker text, job_id uuid, attempt integer, kind text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
begin
  if job.id is null or job.kind <> jobs_delete_leased.kind then
    return false;
  end if;
  delete from public.jobs as j where j.id = job.id;
  perform private.jobs_notify_free_slot(job.org_id, job.concurrency_key, job.kind);
  return true;
end
$$;
comment on function private.jobs_delete_leased(text, uuid, integer, text) is 'Deletes a job of a kind that this worker still holds, for kinds whose result is kept elsewhere; false when the lease was lost.';

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
  if final_status = 'succeeded' and (
    exists (select 1 from private.job_kind_pauses as p where p.kind = job.kind)
    or exists (select 1 from private.job_org_pauses as p where p.kind = job.kind and p.org = job.org_id)
  ) then
    perform private.jobs_record_recovery(job.kind, job.org_id);
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
  -- 2 s, 4 s, 8 s … 10 min, half of it random, so that jobs that failed together do not return together. Postponed jobs wait
  -- for a minute at most: their pause protects the vendor, and they must run soon after it is back.
  backoff interval := least(
    interval '2 seconds' * (2 ^ least(earlier, 10)), case when counted then interval '10 minutes' else interval '1 minute' end
  ) * (0.5 + random() / 2);
  -- A Retry-After of the vendor is kept, up to a day. (least() ignores null, so without it the pause would be a day.)
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

create function private.jobs_requeue(job public.jobs, event text, kind text, pause interval default '0') returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  update public.jobs as j
  set status = 'queued',
    kind = jobs_requeue.kind,
    run_at = clock_timestamp() + pause,
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
comment on function private.jobs_requeue(public.jobs, text, text, interval) is 'Puts a locked job that was not at fault back into the queue, due after a pause, as the given kind; the attempt does not count.';

-- ----------------------------------------------------------------------------
-- Rows of other domains that depend on a job. The queue knows no domain: a domain whose rows must be locked with a job
-- inserts its function here, in its own migration.
-- ----------------------------------------------------------------------------

create table private.job_dependents (
  family text primary key check (char_length(family) <= 63 and family ~ '^[a-z][a-z0-9_]*$'),
  lock_function text not null check (char_length(lock_function) <= 63 and lock_function ~ '^[a-z][a-z0-9_]*$'),
  retry_function text check (char_length(retry_function) <= 63 and retry_function ~ '^[a-z][a-z0-9_]*$')
);
comment on table private.job_dependents is 'Domains with rows that depend on jobs. Written by migrations only.';
comment on column private.job_dependents.family is 'Family of kinds: the part of a kind before the first dot.';
comment on column private.job_dependents.lock_function is 'Function of schema private that takes a locked job and locks the rows that depend on it, without waiting. It returns false when another transaction holds one of them.';
comment on column private.job_dependents.retry_function is 'Function of schema private that takes a dead job and queues what it was for again; it returns the id of the new job. Null: it cannot be repeated.';
select private.describe_data('private.job_dependents', '{"family, lock_function, retry_function": "names the domains with rows that depend on jobs"}', 'platform');
alter table private.job_dependents enable row level security;

create function private.jobs_lock_dependents(job public.jobs) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  lock_function text;
  locked boolean := true;
begin
  select d.lock_function into lock_function from private.job_dependents as d where d.family = split_part(job.kind, '.', 1);
  if found then
    execute format('select private.%I($1)', lock_function) into locked using job;
  end if;
  return locked;
end
$$;
comment on function private.jobs_lock_dependents(public.jobs) is 'Locks the rows that depend on a locked job, without waiting; false when another transaction holds one. Callers that must not wait call it before they change the job.';
