-- ============================================================================
-- Jobs: the queue that the sidecar's workers run.
--
-- A worker claims jobs with a lease, extends it by heartbeat and ends each job by
-- one call; a lease that runs out puts the job back. Nothing a worker holds is
-- lost with it, and a worker that lost its lease can no longer change the job.
--
-- The engine runs on the real clock (leases, back-off, run_at, retention), never on
-- kijko.now(): a journey through product time must not expire the leases of workers.
--
-- Everything that changes a job locks its row first and an execution's row after it.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- jobs
-- ----------------------------------------------------------------------------

create table public.jobs (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  kind text not null check (kind ~ '^[a-z][a-z0-9_.]{0,62}$'),
  payload jsonb not null default '{}' check (jsonb_typeof(payload) = 'object' and octet_length(payload::text) <= 262144),
  status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'dead', 'cancelled')),
  priority smallint not null default 0,
  run_at timestamptz not null default clock_timestamp(),
  attempt integer not null default 0 check (attempt >= 0),
  max_attempts integer not null default 5 check (max_attempts between 1 and 100),
  timeout_seconds integer not null default 300 check (timeout_seconds between 1 and 86400),
  unique_key text check (char_length(unique_key) between 1 and 255),
  concurrency_key text check (char_length(concurrency_key) between 1 and 255),
  locked_by text check (char_length(locked_by) between 1 and 200),
  locked_until timestamptz,
  cancel_requested boolean not null default false,
  result jsonb,
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 10000),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz,
  unique (org_id, id),
  check ((status = 'running') = (locked_by is not null and locked_until is not null)),
  check ((status in ('succeeded', 'dead', 'cancelled')) = (finished_at is not null))
)
-- Rows are rewritten a few times in a short life: leave room on the page, and vacuum early.
with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- Partial, so that they hold live work only however many finished jobs are kept.
create index jobs_claim_idx on public.jobs (priority desc, run_at, id) where status = 'queued';
create index jobs_lease_idx on public.jobs (locked_until) where status = 'running';
create index jobs_dead_idx on public.jobs (kind) where status = 'dead';
create index jobs_finished_idx on public.jobs (finished_at) where finished_at is not null;
create unique index jobs_unique_key on public.jobs (org_id, kind, unique_key)
  where unique_key is not null and status in ('queued', 'running');
create index jobs_org_id_idx on public.jobs (org_id, created_at desc);

comment on table public.jobs is 'Queue and recent history of background work; readable by its organization, written only by functions. Times are of the real clock.';
comment on column public.jobs.id is 'Identity of the job; payload of the NOTIFY kijko_job_cancel.';
comment on column public.jobs.org_id is 'Organization the work is for.';
comment on column public.jobs.kind is 'What is to be done; workers claim by kind. Payload of the NOTIFY kijko_jobs.';
comment on column public.jobs.payload is 'What the worker needs to know; never a secret.';
comment on column public.jobs.status is 'queued, running, then succeeded, dead (given up, see error) or cancelled.';
comment on column public.jobs.priority is 'Higher is claimed first.';
comment on column public.jobs.run_at is 'Not before; moved into the future by back-off. Not the transaction''s start: jobs queued together keep their order.';
comment on column public.jobs.attempt is 'How often it has been claimed.';
comment on column public.jobs.max_attempts is 'After this many attempts a failure is final.';
comment on column public.jobs.timeout_seconds is 'How long one attempt may take; kept by the worker.';
comment on column public.jobs.unique_key is 'At most one queued or running job of a kind and organization has the same key.';
comment on column public.jobs.concurrency_key is 'Group of jobs within the organization, as given by the enqueuer; claiming does not look at it.';
comment on column public.jobs.locked_by is 'Worker that holds the lease.';
comment on column public.jobs.locked_until is 'End of the lease.';
comment on column public.jobs.cancel_requested is 'The worker is asked to stop; it hears so by NOTIFY and by heartbeat.';
comment on column public.jobs.result is 'What the worker returned.';
comment on column public.jobs.error_code is 'Short name of the last failure.';
comment on column public.jobs.error is 'Last failure in words.';
comment on column public.jobs.created_by is 'User on whose behalf it was queued; null for the system. No foreign key: history outlives the user, and the table is hot.';
comment on column public.jobs.created_at is 'When it was queued.';
comment on column public.jobs.updated_at is 'Last change.';
comment on column public.jobs.started_at is 'Start of the first attempt.';
comment on column public.jobs.finished_at is 'When it reached its final status.';

alter table public.jobs enable row level security;
revoke all on public.jobs from public, anon, authenticated, service_role;
grant select on public.jobs to authenticated, service_role;
create policy jobs_select on public.jobs for select to authenticated
  using (org_id = any (array(select public.org_ids())));

-- ----------------------------------------------------------------------------
-- job_events
-- ----------------------------------------------------------------------------

create table public.job_events (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  job_id uuid not null,
  seq bigint generated always as identity,
  event text not null check (event ~ '^[a-z][a-z0-9_.]{0,62}$'),
  attempt integer not null,
  worker text check (char_length(worker) <= 200),
  data jsonb not null default '{}' check (jsonb_typeof(data) = 'object' and octet_length(data::text) <= 65536),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default clock_timestamp(),
  foreign key (org_id, job_id) references public.jobs (org_id, id) on delete cascade
);
create index job_events_job_id_idx on public.job_events (org_id, job_id, seq);

comment on table public.job_events is 'What happened to each job, in order; only ever appended to, and gone with its job.';
comment on column public.job_events.id is 'Identity of the event.';
comment on column public.job_events.org_id is 'Organization of the job.';
comment on column public.job_events.job_id is 'The job.';
comment on column public.job_events.seq is 'Order of the events.';
comment on column public.job_events.event is 'queued, claimed, retry, released, lease_expired, cancel_requested, succeeded, dead, cancelled, or what the worker reports.';
comment on column public.job_events.attempt is 'Attempt during which it happened; 0 before the first.';
comment on column public.job_events.worker is 'Worker that holds the job, if any.';
comment on column public.job_events.data is 'Details.';
comment on column public.job_events.created_by is 'User who caused it; null for workers and the system. No foreign key: history outlives the user.';
comment on column public.job_events.created_at is 'When, by the real clock.';

alter table public.job_events enable row level security;
revoke all on public.job_events from public, anon, authenticated, service_role;
revoke all on sequence public.job_events_seq_seq from public, anon, authenticated, service_role;
grant select on public.job_events to authenticated, service_role;
create policy job_events_select on public.job_events for select to authenticated
  using (org_id = any (array(select public.org_ids())));

create function private.refuse_event_update() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform kijko.fail('permission_denied', 'job_events is append-only');
  return null;
end
$$;
comment on function private.refuse_event_update() is 'Trigger: what was recorded stays as it was, for every role.';
revoke all on function private.refuse_event_update() from public, anon, authenticated, service_role;
create trigger job_events_append_only before update on public.job_events
  for each row execute function private.refuse_event_update();

-- ----------------------------------------------------------------------------
-- Waking workers. NOTIFY is only a wake-up: workers poll behind it, so a lost one
-- costs time, never a job.
-- ----------------------------------------------------------------------------

create function private.wake_workers() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if new.run_at <= clock_timestamp() then
    perform pg_notify('kijko_jobs', new.kind);
  end if;
  return null;
end
$$;
comment on function private.wake_workers() is 'Trigger: tells listening workers of a job that can be claimed now.';
revoke all on function private.wake_workers() from public, anon, authenticated, service_role;
create trigger jobs_wake_insert after insert on public.jobs
  for each row when (new.status = 'queued') execute function private.wake_workers();
create trigger jobs_wake_update after update of status on public.jobs
  for each row when (new.status = 'queued' and old.status <> 'queued') execute function private.wake_workers();

-- ----------------------------------------------------------------------------
-- Steps that several functions share. Not definer and not granted: they run inside
-- the definer functions below, as postgres.
-- ----------------------------------------------------------------------------

create function private.enqueue_job(
  org_id uuid,
  kind text,
  payload jsonb default '{}',
  priority smallint default 0,
  run_at timestamptz default clock_timestamp(),
  max_attempts integer default 5,
  timeout_seconds integer default 300,
  unique_key text default null,
  concurrency_key text default null
) returns uuid
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  made uuid;
begin
  insert into public.jobs (org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key)
  values (
    enqueue_job.org_id, enqueue_job.kind, enqueue_job.payload, enqueue_job.priority, enqueue_job.run_at,
    enqueue_job.max_attempts, enqueue_job.timeout_seconds, enqueue_job.unique_key, enqueue_job.concurrency_key
  )
  on conflict (org_id, kind, unique_key) where unique_key is not null and status in ('queued', 'running') do nothing
  returning id into made;
  if made is not null then
    insert into public.job_events (org_id, job_id, event, attempt) values (enqueue_job.org_id, made, 'queued', 0);
  end if;
  return made;
end
$$;
comment on function private.enqueue_job(uuid, text, jsonb, smallint, timestamptz, integer, integer, text, text) is 'Queues a job and returns its id, or null when a live job has the same unique_key. Called by definer functions only.';
revoke all on function private.enqueue_job(uuid, text, jsonb, smallint, timestamptz, integer, integer, text, text)
  from public, anon, authenticated, service_role;

create function private.hold_job(worker text, job_id uuid, attempt integer) returns public.jobs
language sql set search_path = ''
as $$
  select j.* from public.jobs as j
  where j.id = hold_job.job_id
    and j.status = 'running'
    and j.locked_by = hold_job.worker
    and (hold_job.attempt is null or j.attempt = hold_job.attempt)
  for update
$$;
comment on function private.hold_job(text, uuid, integer) is 'Locks a job that this worker still holds; nothing once the lease went to another worker or, when the attempt is given, to another attempt.';
revoke all on function private.hold_job(text, uuid, integer) from public, anon, authenticated, service_role;

create function private.end_job(job public.jobs, final_status text, result jsonb, code text, message text) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  update public.jobs as j
  set status = final_status,
    result = end_job.result,
    error_code = substring(code for 100),
    error = substring(message for 10000),
    locked_by = null,
    locked_until = null,
    finished_at = clock_timestamp(),
    updated_at = clock_timestamp()
  where j.id = job.id;
  insert into public.job_events (org_id, job_id, event, attempt, worker, data)
  values (
    job.org_id, job.id, final_status, job.attempt, job.locked_by,
    jsonb_strip_nulls(jsonb_build_object('code', substring(code for 100), 'message', substring(message for 10000)))
  );
end
$$;
comment on function private.end_job(public.jobs, text, jsonb, text, text) is 'Moves a locked job to its final status: succeeded, dead or cancelled.';
revoke all on function private.end_job(public.jobs, text, jsonb, text, text) from public, anon, authenticated, service_role;

create function private.retry_job(job public.jobs, event text, code text, message text, retry_after interval) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  -- 2 s, 4 s, 8 s ... 10 min; half of it random, so that jobs which failed together do not return together.
  backoff interval := least(interval '2 seconds' * (2 ^ least(job.attempt - 1, 10)), interval '10 minutes') * (0.5 + random() / 2);
  -- What a vendor asks for is respected, within a day (least() would take the day when nothing is asked for).
  pause interval := greatest(backoff, case when retry_after is not null then least(retry_after, interval '1 day') end);
begin
  update public.jobs as j
  set status = 'queued',
    run_at = clock_timestamp() + pause,
    error_code = substring(code for 100),
    error = substring(message for 10000),
    locked_by = null,
    locked_until = null,
    updated_at = clock_timestamp()
  where j.id = job.id;
  insert into public.job_events (org_id, job_id, event, attempt, worker, data)
  values (
    job.org_id, job.id, retry_job.event, job.attempt, job.locked_by,
    jsonb_strip_nulls(jsonb_build_object(
      'code', substring(code for 100), 'message', substring(message for 10000), 'in_seconds', round(extract(epoch from pause), 3)
    ))
  );
end
$$;
comment on function private.retry_job(public.jobs, text, text, text, interval) is 'Puts a locked job back into the queue after exponential back-off with jitter.';
revoke all on function private.retry_job(public.jobs, text, text, text, interval) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- What workers call. Definer, all of them: the sidecar's role holds no right on any
-- table, only EXECUTE on these.
-- ----------------------------------------------------------------------------

create function private.reap_jobs() returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  job public.jobs;
  reaped integer := 0;
begin
  for job in
    select j.* from public.jobs as j
    where j.status = 'running' and j.locked_until < clock_timestamp()
    order by j.locked_until
    limit 1000
    for update skip locked
  loop
    if job.cancel_requested then
      perform private.end_job(job, 'cancelled', null, 'cancelled', 'cancelled while its worker was lost');
    elsif job.attempt >= job.max_attempts then
      perform private.end_job(job, 'dead', null, 'lease_expired', format('worker %s did not report back', job.locked_by));
    else
      perform private.retry_job(job, 'lease_expired', 'lease_expired', format('worker %s did not report back', job.locked_by), null);
    end if;
    reaped := reaped + 1;
  end loop;
  return reaped;
end
$$;
comment on function private.reap_jobs() is 'Takes back jobs whose lease ran out: queued again, or dead after the last attempt, or cancelled if that was asked. Definer: the sidecar holds no table rights.';
revoke all on function private.reap_jobs() from public, anon, authenticated, service_role;
grant execute on function private.reap_jobs() to kijko_sidecar;

create function private.claim_jobs(worker text, lease interval, max_jobs integer, kinds text[] default null)
returns table (id uuid, org_id uuid, kind text, payload jsonb, attempt integer, max_attempts integer, timeout_seconds integer)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  if worker is null or worker !~ '\S' or char_length(worker) > 200 then
    perform kijko.fail('bad_request', 'worker: 1 to 200 characters');
  end if;
  if lease is null or lease < interval '1 second' or lease > interval '1 hour' then
    perform kijko.fail('bad_request', 'lease: 1 second to 1 hour');
  end if;

  perform private.reap_jobs();

  return query
  with picked as (
    select j.id from public.jobs as j
    where j.status = 'queued'
      and j.run_at <= clock_timestamp()
      and (kinds is null or j.kind = any (kinds))
    order by j.priority desc, j.run_at, j.id
    limit least(greatest(coalesce(max_jobs, 1), 0), 1000)
    for update skip locked
  ),
  claimed as (
    update public.jobs as j
    set status = 'running',
      attempt = j.attempt + 1,
      locked_by = worker,
      locked_until = clock_timestamp() + lease,
      started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
    from picked
    where j.id = picked.id
    returning j.id, j.org_id, j.kind, j.payload, j.attempt, j.max_attempts, j.timeout_seconds, j.priority, j.run_at
  ),
  noted as (
    insert into public.job_events (org_id, job_id, event, attempt, worker)
    select c.org_id, c.id, 'claimed', c.attempt, claim_jobs.worker from claimed as c
  )
  select c.id, c.org_id, c.kind, c.payload, c.attempt, c.max_attempts, c.timeout_seconds
  from claimed as c
  order by c.priority desc, c.run_at, c.id;
end
$$;
comment on function private.claim_jobs(text, interval, integer, text[]) is 'Leases up to max_jobs jobs to a worker, highest priority and longest due first; workers at once never get the same. Definer: the sidecar holds no table rights.';
revoke all on function private.claim_jobs(text, interval, integer, text[]) from public, anon, authenticated, service_role;
grant execute on function private.claim_jobs(text, interval, integer, text[]) to kijko_sidecar;

create function private.heartbeat_jobs(worker text, ids uuid[], lease interval)
returns table (id uuid, cancel_requested boolean)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  if lease is null or lease < interval '1 second' or lease > interval '1 hour' then
    perform kijko.fail('bad_request', 'lease: 1 second to 1 hour');
  end if;
  return query
  with held as (
    -- In one order everywhere, so that two heartbeats cannot wait for each other.
    select j.id from public.jobs as j
    where j.id = any (ids) and j.status = 'running' and j.locked_by = worker
    order by j.id
    for update
  )
  update public.jobs as j
  set locked_until = clock_timestamp() + lease, updated_at = clock_timestamp()
  from held
  where j.id = held.id
  returning j.id, j.cancel_requested;
end
$$;
comment on function private.heartbeat_jobs(text, uuid[], interval) is 'Extends the leases of jobs this worker still holds and says which are to be cancelled; a job that is not in the answer is lost to it. Definer: the sidecar holds no table rights.';
revoke all on function private.heartbeat_jobs(text, uuid[], interval) from public, anon, authenticated, service_role;
grant execute on function private.heartbeat_jobs(text, uuid[], interval) to kijko_sidecar;

create function private.complete_job(worker text, job_id uuid, result jsonb default null, attempt integer default null) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  job public.jobs := private.hold_job(worker, job_id, attempt);
begin
  if job.id is null then
    return false;
  end if;
  if job.cancel_requested then
    perform private.end_job(job, 'cancelled', result, 'cancelled', null);
    return false;
  end if;
  perform private.end_job(job, 'succeeded', result, null, null);
  return true;
end
$$;
comment on function private.complete_job(text, uuid, jsonb, integer) is 'Ends a held job as succeeded; false when the lease was lost or the job was cancelled. Definer: the sidecar holds no table rights.';
revoke all on function private.complete_job(text, uuid, jsonb, integer) from public, anon, authenticated, service_role;
grant execute on function private.complete_job(text, uuid, jsonb, integer) to kijko_sidecar;

create function private.fail_job(
  worker text,
  job_id uuid,
  code text,
  message text,
  retryable boolean,
  retry_after interval default null,
  attempt integer default null
) returns text
language plpgsql security definer set search_path = ''
as $$
declare
  job public.jobs := private.hold_job(worker, job_id, attempt);
begin
  if job.id is null then
    return null;
  end if;
  if job.cancel_requested then
    perform private.end_job(job, 'cancelled', null, 'cancelled', message);
    return 'cancelled';
  end if;
  if coalesce(retryable, false) and job.attempt < job.max_attempts then
    perform private.retry_job(job, 'retry', code, message, retry_after);
    return 'queued';
  end if;
  perform private.end_job(job, 'dead', null, coalesce(code, 'internal'), message);
  return 'dead';
end
$$;
comment on function private.fail_job(text, uuid, text, text, boolean, interval, integer) is 'Records a failure of a held job: queued again with back-off, dead, or cancelled if that was asked; the new status, or null when the lease was lost. Definer: the sidecar holds no table rights.';
revoke all on function private.fail_job(text, uuid, text, text, boolean, interval, integer) from public, anon, authenticated, service_role;
grant execute on function private.fail_job(text, uuid, text, text, boolean, interval, integer) to kijko_sidecar;

create function private.release_jobs(worker text, ids uuid[]) returns integer
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs;
  released integer := 0;
begin
  for job in
    select j.* from public.jobs as j
    where j.id = any (ids) and j.status = 'running' and j.locked_by = worker
    order by j.id
    for update
  loop
    if job.cancel_requested then
      perform private.end_job(job, 'cancelled', null, 'cancelled', null);
    else
      update public.jobs as j
      set status = 'queued',
        run_at = clock_timestamp(),
        attempt = job.attempt - 1,
        locked_by = null,
        locked_until = null,
        updated_at = clock_timestamp()
      where j.id = job.id;
      insert into public.job_events (org_id, job_id, event, attempt, worker)
      values (job.org_id, job.id, 'released', job.attempt, job.locked_by);
    end if;
    released := released + 1;
  end loop;
  return released;
end
$$;
comment on function private.release_jobs(text, uuid[]) is 'Hands back jobs that a worker still holds when it stops in good order: to be claimed at once, and the attempt does not count, since the job was not at fault. Definer: the sidecar holds no table rights.';
revoke all on function private.release_jobs(text, uuid[]) from public, anon, authenticated, service_role;
grant execute on function private.release_jobs(text, uuid[]) to kijko_sidecar;

create function private.add_job_event(worker text, job_id uuid, event text, data jsonb default '{}') returns boolean
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.hold_job(worker, job_id, null);
begin
  if job.id is null then
    return false;
  end if;
  insert into public.job_events (org_id, job_id, event, attempt, worker, data)
  values (job.org_id, job.id, add_job_event.event, job.attempt, job.locked_by, coalesce(add_job_event.data, '{}'));
  return true;
end
$$;
comment on function private.add_job_event(text, uuid, text, jsonb) is 'Appends an event to a held job; false when the lease was lost. Definer: the sidecar holds no table rights.';
revoke all on function private.add_job_event(text, uuid, text, jsonb) from public, anon, authenticated, service_role;
grant execute on function private.add_job_event(text, uuid, text, jsonb) to kijko_sidecar;

create function private.queue_stats()
returns table (kind text, queued bigint, running bigint, dead bigint, oldest_queued_seconds double precision)
language sql stable security definer set search_path = ''
as $$
  -- One branch an index: the finished jobs, most of the table, are never read.
  select
    live.kind,
    count(*) filter (where live.status = 'queued'),
    count(*) filter (where live.status = 'running'),
    count(*) filter (where live.status = 'dead'),
    coalesce(greatest(extract(epoch from now() - min(live.run_at) filter (where live.status = 'queued')), 0), 0)::double precision
  from (
    select j.kind, j.status, j.run_at from public.jobs as j where j.status = 'queued'
    union all
    select j.kind, j.status, null from public.jobs as j where j.status = 'running'
    union all
    select j.kind, j.status, null from public.jobs as j where j.status = 'dead'
  ) as live
  group by live.kind
$$;
comment on function private.queue_stats() is 'Depth and age of the queue by kind, for readiness and metrics. Definer: the sidecar holds no table rights.';
revoke all on function private.queue_stats() from public, anon, authenticated, service_role;
grant execute on function private.queue_stats() to kijko_sidecar, service_role;

-- ----------------------------------------------------------------------------
-- Cancelling, and retention
-- ----------------------------------------------------------------------------

create function private.cancel_job(job_id uuid) returns text
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs;
begin
  select j.* into job from public.jobs as j where j.id = cancel_job.job_id for update;
  if job.status = 'queued' then
    perform private.end_job(job, 'cancelled', null, 'cancelled', null);
    return 'cancelled';
  elsif job.status = 'running' and not job.cancel_requested then
    update public.jobs as j set cancel_requested = true, updated_at = clock_timestamp() where j.id = job.id;
    insert into public.job_events (org_id, job_id, event, attempt, worker)
    values (job.org_id, job.id, 'cancel_requested', job.attempt, job.locked_by);
    perform pg_notify('kijko_job_cancel', job.id::text);
  end if;
  return job.status;
end
$$;
comment on function private.cancel_job(uuid) is 'Cancels a queued job at once and asks the worker of a running one to stop; returns the status it is in now. Called by definer functions only.';
revoke all on function private.cancel_job(uuid) from public, anon, authenticated, service_role;

create function private.purge_jobs(older_than interval default interval '30 days') returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  purged integer;
begin
  if older_than is null or older_than < interval '0' then
    perform kijko.fail('bad_request', 'older_than: an interval, not negative');
  end if;
  delete from public.jobs as j where j.finished_at < clock_timestamp() - older_than;
  get diagnostics purged = row_count;
  return purged;
end
$$;
comment on function private.purge_jobs(interval) is 'Deletes finished jobs, and with them their events, once they are old enough. Executions stay. Definer: nobody may delete jobs.';
revoke all on function private.purge_jobs(interval) from public, anon, authenticated, service_role;
grant execute on function private.purge_jobs(interval) to service_role;

-- ----------------------------------------------------------------------------
-- Schedule. cron.schedule replaces the entry of the same name, so a replay is harmless.
-- ----------------------------------------------------------------------------

select cron.schedule('kijko-reap-jobs', '* * * * *', 'select private.reap_jobs()');
select cron.schedule('kijko-purge-jobs', '17 3 * * *', 'select private.purge_jobs()');
-- pg_cron never deletes its own log; row level security limits this to our entries.
select cron.schedule(
  'kijko-purge-cron-log', '47 * * * *',
  $$delete from cron.job_run_details where coalesce(end_time, start_time) < now() - interval '1 day'$$
);
