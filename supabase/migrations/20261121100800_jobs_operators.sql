-- ============================================================================
-- Jobs: cancellation, retention and the schedule.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Cancellation and retention
-- ----------------------------------------------------------------------------

create function private.jobs_cancel(job_id uuid) returns text
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs;
begin
  select j.* into job from public.jobs as j where j.id = jobs_cancel.job_id for update;
  if job.status = 'queued' then
    perform private.jobs_finish(job, 'cancelled', null, 'cancelled', null);
    return 'cancelled';
  elsif job.status = 'running' and not job.cancel_requested then
    update public.jobs as j set cancel_requested = true, updated_at = clock_timestamp() where j.id = job.id;
    insert into public.job_event_log (org_id, job_id, event, attempt, worker)
    values (job.org_id, job.id, 'cancel_requested', job.attempt, job.locked_by);
    perform pg_notify('kijko_job_cancel', job.id::text);
  end if;
  return job.status;
end
$$;
comment on function private.jobs_cancel(uuid) is 'Cancels a queued job at once and asks the worker of a running one to stop; returns the status it is in now. Called by definer functions only.';

select private.set_retention('public.jobs', '30 days', 'finding out why work failed');

create function private.jobs_purge(older_than interval default private.retention_of('public.jobs'), max_jobs integer default 100000) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  -- Ids begin with the time of queueing, so the oldest jobs are the first of the primary key.
  later constant uuid := private.jobs_new_id(clock_timestamp() - older_than, 4095);
  purged integer;
begin
  if older_than is null or older_than < interval '0' then
    perform kijko.fail('bad_request', 'older_than: an interval, not negative');
  end if;
  delete from public.jobs as j
  where j.id = any (array(
    select o.id from public.jobs as o
    where o.id < later and o.finished_at < clock_timestamp() - older_than
    order by o.id
    limit max_jobs
    for update skip locked
  ));
  get diagnostics purged = row_count;
  return purged;
end
$$;
comment on function private.jobs_purge(interval, integer) is 'Deletes finished jobs that ended longer ago than older_than, with their events: the first queued first, at most max_jobs in one transaction. Rows of other domains that depended on them stay. Definer: no role may delete jobs.';
grant execute on function private.jobs_purge(interval, integer) to service_role;

-- ----------------------------------------------------------------------------
-- Schedule. An entry of the same name is replaced, so a replay is harmless.
-- ----------------------------------------------------------------------------

select private.schedule('kijko-jobs-maintenance', '* * * * *', 'perform private.jobs_requeue_expired()', 'perform private.jobs_run_maintenance()', 'perform private.jobs_maintain_lanes()', 'perform private.jobs_delete_old_pauses()');
-- Each hour and not once at night: transactions stay short, and vacuum keeps up.
select private.schedule('kijko-jobs-purge', '17 * * * *', 'perform private.jobs_purge()');
-- pg_cron never deletes its own log; row level security limits this to our entries.
select private.schedule(
  'kijko-cron-log-purge', '47 * * * *',
  $$delete from cron.job_run_details where coalesce(end_time, start_time) < now() - interval '1 day'$$
);
