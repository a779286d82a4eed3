-- ============================================================================
-- Jobs: a pause of the whole queue, by an operator.
--
-- A restored database has jobs that the lost one may have run later on. So it starts paused: no worker of any kind claims a
-- job until an operator has decided (docs/operations/backups.md).
-- ============================================================================

create table private.job_queue_pause (
  id boolean primary key default true check (id),
  reason text not null check (char_length(reason) between 1 and 200),
  paused_at timestamptz not null default clock_timestamp()
);
comment on table private.job_queue_pause is 'One row while the queue is paused: no job is claimed. Written by private.jobs_pause_queue and private.jobs_resume_queue.';
comment on column private.job_queue_pause.id is 'Always true: there is one row at most.';
comment on column private.job_queue_pause.reason is 'Why, for operators.';
comment on column private.job_queue_pause.paused_at is 'Since when, by the real clock.';
select private.describe_data('private.job_queue_pause', '{"id, reason, paused_at": "stops all workers while an operator works on the database"}', 'platform');
alter table private.job_queue_pause enable row level security;

create function private.jobs_pause_queue(reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if reason is null or char_length(reason) not between 1 and 200 then
    perform kijko.fail('bad_request', 'reason: 1 to 200 characters');
  end if;
  insert into private.job_queue_pause (reason) values (jobs_pause_queue.reason) on conflict (id) do nothing;
end
$$;
comment on function private.jobs_pause_queue(text) is 'Pauses the whole queue until private.jobs_resume_queue: no job is claimed. Running jobs go on. For operators.';

create function private.jobs_resume_queue() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.job_queue_pause;
  if not found then
    return false;
  end if;
  perform pg_notify('kijko_jobs', l.kind) from (select distinct l.kind from private.job_lanes as l) as l;
  return true;
end
$$;
comment on function private.jobs_resume_queue() is 'Ends the pause of the queue and wakes the workers; false when it was not paused. For operators.';

create function private.jobs_cancel_restored(ids uuid[] default null) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs;
  cancelled integer := 0;
begin
  if not exists (select from private.job_queue_pause) then
    perform kijko.fail('conflict', 'the queue is not paused');
  end if;
  for job in
    select j.* from public.jobs as j
    where j.status in ('queued', 'running') and (ids is null or j.id = any (ids))
    order by j.id
    for update
  loop
    perform private.jobs_lock_dependents(job);
    perform private.jobs_finish(job, 'cancelled', null, 'cancelled', 'may have run after the point in time that was restored');
    cancelled := cancelled + 1;
  end loop;
  return cancelled;
end
$$;
comment on function private.jobs_cancel_restored(uuid[]) is 'After a restore, while the queue is paused: cancels those of these jobs (null: of all) that are queued or running, because the lost database may have run them. Returns how many. For operators.';
