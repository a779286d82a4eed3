-- ============================================================================
-- Jobs: the queue that the sidecar's workers run.
--
-- A worker claims jobs with a lease, extends the lease by heartbeat and ends each job by
-- one call. A lease that runs out puts the job back. So no job is lost with its worker,
-- and a worker that lost its lease can no longer change the job.
--
-- The engine runs on the real clock (leases, back-off, run_at, retention), never on
-- kijko.now(): a journey through product time must not expire the leases of workers.
--
-- Locks are taken in one order: an organization, project or skill, then a job, then the rows of other domains that
-- depend on it (jobs_lock_dependents). A deletion locks the organization first. So a function that has locked a job must
-- lock none of the former, also not by a foreign key.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- jobs
-- ----------------------------------------------------------------------------

-- (No search_path of its own, to be inlined.)
create function private.jobs_new_id(moment timestamptz, n bigint) returns uuid
language sql volatile
return encode(
  overlay(
    uuid_send(gen_random_uuid())
    placing int8send(((extract(epoch from moment) * 1000)::bigint << 16) + x'7000'::integer + (n & 4095)) from 1 for 8
  ), 'hex'
)::uuid;
comment on function private.jobs_new_id(timestamptz, bigint) is 'A UUID of version 7: the time, the position n in its batch, random bits. Jobs that are queued together are neighbours in the primary key, so a batch that ends in the order of its ids reads its pages in order.';

-- The table has no foreign keys: the look-up of the organization took a third of the time of queueing a job. Triggers delete an
-- organization's jobs with it and clear references to deleted jobs.
-- Columns of fixed width that are never null come first: Postgres finds these by a fixed offset. Each statement parses the
-- checks anew, and fifteen of them took a quarter of the time of queueing a job. So there are few, and lengths are types.
-- squawk-ignore-file prefer-text-field
create table public.jobs (
  id uuid primary key default private.jobs_new_id(clock_timestamp(), 0),
  org_id uuid not null,
  run_at timestamptz not null default clock_timestamp(),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  attempt integer not null default 0,
  max_attempts integer not null default 5,
  uncounted_attempts integer not null default 0,
  timeout_seconds integer not null default 300,
  priority smallint not null default 0,
  cancel_requested boolean not null default false,
  managers_only boolean not null default false,
  status text not null default 'queued',
  -- The form of a kind is checked when its lane is opened.
  kind text not null check (octet_length(kind) <= 63),
  payload jsonb not null default '{}' check (jsonb_typeof(payload) = 'object' and pg_column_size(payload) <= 262144),
  unique_key varchar(255) check (unique_key <> ''),
  concurrency_key varchar(255) check (concurrency_key <> ''),
  locked_by varchar(200),
  locked_until timestamptz,
  first_worker varchar(200),
  last_worker varchar(200),
  result jsonb,
  error_code varchar(100),
  error varchar(10000),
  created_by uuid default kijko.user_id(),
  created_by_key uuid default kijko.api_key_id(),
  project_id uuid,
  started_at timestamptz,
  finished_at timestamptz,
  check (attempt >= 0 and max_attempts between 1 and 100 and timeout_seconds between 1 and 86400),
  check (case when finished_at is null then status in ('queued', 'running') else status in ('succeeded', 'dead', 'cancelled') end),
  check ((status = 'running') = (locked_by is not null and locked_until is not null))
)
-- A row has three versions: queued, running, ended. With room for all three on its page the table does not grow while the
-- queue drains, and Postgres prunes dead versions when it next reads the page. At 70 the table became as large, and half a
-- dead version for each job stayed.
with (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- The indexes are partial: they hold live jobs only, however many ended ones are kept. The first two hold a kind's jobs and a
-- lane's jobs in the order they are due (the head of jobs_claim.sql says why a claim needs both). "attempt >= 0" is always true:
-- only a query with the same condition can use the index, so the planner cannot choose it by wrong statistics.
create index jobs_due_idx on public.jobs (kind, run_at) where status = 'queued' and attempt >= 0;
create index jobs_lane_idx on public.jobs (org_id, priority, kind, (coalesce(concurrency_key, '')), run_at) where status = 'queued';
create index jobs_lease_idx on public.jobs (locked_until, org_id) where status = 'running' and attempt >= 0;
create index jobs_dead_idx on public.jobs (kind) where status = 'dead';
-- An organization's list of what failed, which is rare among millions.
create index jobs_dead_org_id_idx on public.jobs (org_id, created_at desc, id desc) where status = 'dead';
create unique index jobs_unique_key on public.jobs (org_id, kind, unique_key)
  where unique_key is not null and status in ('queued', 'running');
-- The list of all, in its order.
create index jobs_org_id_idx on public.jobs (org_id, created_at desc, id desc);

comment on table public.jobs is 'Queue and recent history of background work; readable by its organization, written only by functions. Times are of the real clock.';
comment on column public.jobs.id is 'Identity of the job; payload of the NOTIFY kijko_job_cancel.';
comment on column public.jobs.org_id is 'Organization the work is for.';
comment on column public.jobs.kind is 'What is to be done; workers claim by kind. Payload of the NOTIFY kijko_jobs.';
comment on column public.jobs.payload is 'Input of the worker; never a secret.';
comment on column public.jobs.status is 'queued, running, then succeeded, dead (given up, see error) or cancelled.';
comment on column public.jobs.priority is 'Higher is claimed first, across organizations; set by functions, never by tenants.';
comment on column public.jobs.run_at is 'Earliest start; back-off moves it into the future. The default is the time of the insert and not of the transaction, so jobs that are queued one after the other keep their order.';
comment on column public.jobs.attempt is 'How often it has been claimed.';
comment on column public.jobs.max_attempts is 'After this many counted attempts a failure is final.';
comment on column public.jobs.uncounted_attempts is 'Attempts that do not count because the job was not at fault: a worker handed it back, or the vendor was down. Attempt numbers are not reused.';
comment on column public.jobs.timeout_seconds is 'How long one attempt may take; kept by the worker.';
comment on column public.jobs.unique_key is 'At most one queued or running job of a kind and organization has the same key.';
comment on column public.jobs.concurrency_key is 'Group of jobs within the organization of which at most one runs at a time, or as many as private.job_limits allows.';
comment on column public.jobs.locked_by is 'Worker that holds the lease.';
comment on column public.jobs.locked_until is 'End of the lease.';
comment on column public.jobs.cancel_requested is 'The worker is asked to stop, by NOTIFY and in the answer to its heartbeat.';
comment on column public.jobs.managers_only is 'Whether its project was private and is deleted: only who holds projects:manage sees the job.';
comment on column public.jobs.project_id is 'Project that the work is for, if any; hides the job as it hides its own rows. No foreign key: the table is hot.';
comment on column public.jobs.first_worker is 'Worker of the first attempt.';
comment on column public.jobs.last_worker is 'Worker that made it succeed.';
comment on column public.jobs.result is 'What the worker returned.';
comment on column public.jobs.error_code is 'Short name of the last failure.';
comment on column public.jobs.error is 'Last failure in words.';
comment on column public.jobs.created_by is 'User on whose behalf it was queued; null for the system. No foreign key: history outlives the user, and the table is hot.';
comment on column public.jobs.created_by_key is 'API key by which it was queued; null for a user and for the system.';
comment on column public.jobs.created_at is 'When it was queued.';
comment on column public.jobs.updated_at is 'Last change.';
comment on column public.jobs.started_at is 'Start of the first attempt.';
comment on column public.jobs.finished_at is 'When it reached its final status.';
select private.describe_data('public.jobs', '{
  "project_id, managers_only": "says who sees the job",
  "kind, payload, priority, unique_key, concurrency_key, run_at, max_attempts, timeout_seconds": "what to do, when and how",
  "status, attempt, uncounted_attempts, cancel_requested, result, error_code, error, started_at, finished_at": "how it went",
  "locked_by, locked_until, first_worker, last_worker": {"subject": "platform", "purpose": "which worker runs it", "export": "none", "erasure": "organization"}
}');

alter table public.jobs enable row level security;
grant select on public.jobs to authenticated, service_role;
create policy jobs_select on public.jobs for select to authenticated
  using (
    org_id = any (array(select private.org_ids_with('jobs:read')))
    and (project_id = any (array(select private.projects_hidden_ids()))) is not true
    and (not managers_only or org_id = any (array(select private.org_ids_with('projects:manage'))))
  );

-- ----------------------------------------------------------------------------
-- job_events: what happened to each job. The view reads the events queued, claimed and
-- succeeded from the job's row: as rows of their own these three were most of what a job
-- wrote. All other events are rows of job_event_log.
-- ----------------------------------------------------------------------------

-- No foreign key: a trigger deletes a job's events with it, and only functions that have locked the job insert rows.
create table public.job_event_log (
  id uuid not null default gen_random_uuid(),
  org_id uuid not null,
  job_id uuid not null,
  -- Lower numbers are those of the events that job_events reads from the job.
  seq bigint generated always as identity (start with 10),
  event text not null check (octet_length(event) <= 63 and event ~ '^[a-z][a-z0-9_.]*$'),
  attempt integer not null,
  worker text check (char_length(worker) <= 200),
  data jsonb not null default '{}' check (jsonb_typeof(data) = 'object' and private.json_fits(data, 65536)),
  created_by uuid default kijko.user_id(),
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default clock_timestamp(),
  primary key (org_id, job_id, seq)
);

comment on table public.job_event_log is 'Events of jobs other than queued, first claimed and succeeded; read them through job_events. Append-only; deleted with the job.';
comment on column public.job_event_log.id is 'Identity of the event.';
comment on column public.job_event_log.org_id is 'Organization of the job.';
comment on column public.job_event_log.job_id is 'The job.';
comment on column public.job_event_log.seq is 'Order of the events.';
comment on column public.job_event_log.event is 'A later claim, retry, postponed, released, redirected, lease_expired, cancel_requested, dead, cancelled, or what the worker reports.';
comment on column public.job_event_log.attempt is 'Attempt during which it happened; 0 before the first.';
comment on column public.job_event_log.worker is 'Worker that holds the job, if any.';
comment on column public.job_event_log.data is 'Details.';
comment on column public.job_event_log.created_by is 'User who caused it; null for workers and the system. No foreign key: history outlives the user.';
comment on column public.job_event_log.created_by_key is 'API key that caused it; null for a user, for workers and for the system.';
comment on column public.job_event_log.created_at is 'When, by the real clock.';
select private.describe_data('public.job_event_log', '{
  "job_id, seq, event, attempt, data": "shows members what happened to a job",
  "worker": {"subject": "platform", "purpose": "which worker reported it", "export": "none", "erasure": "organization"}
}');

alter table public.job_event_log enable row level security;
grant select on public.job_event_log to authenticated, service_role;
-- The policy of jobs decides which of them the caller sees.
create policy job_event_log_select on public.job_event_log for select to authenticated
  using (
    org_id = any (array(select private.org_ids_with('jobs:read')))
    and exists (select 1 from public.jobs as j where j.org_id = job_event_log.org_id and j.id = job_event_log.job_id)
  );

-- Events never change, whatever the role.
create trigger job_event_log_append_only before update on public.job_event_log
  -- But an erasure of a person empties who acted.
  for each row when (new.created_by is not null or to_jsonb(old) - 'created_by' <> to_jsonb(new) - 'created_by') execute function private.refuse_change('job_events is append-only');

create view public.job_events with (security_invoker = true) as
  select j.org_id, j.id as job_id, 0::bigint as seq, 'queued' as event, 0 as attempt, null::text as worker, '{}'::jsonb as data,
    j.created_by, j.created_by_key, j.created_at, md5(j.id || ' queued')::uuid as id
  from public.jobs as j
  union all
  select j.org_id, j.id, 1, 'claimed', 1, j.first_worker, '{}', null, null, j.started_at, md5(j.id || ' claimed')::uuid
  from public.jobs as j where j.first_worker is not null
  union all
  select n.org_id, n.job_id, n.seq, n.event, n.attempt, n.worker, n.data, n.created_by, n.created_by_key, n.created_at, n.id
  from public.job_event_log as n
  union all
  -- The largest number that JavaScript counts exactly.
  select j.org_id, j.id, 9007199254740991, 'succeeded', j.attempt, j.last_worker, '{}', null, null, j.finished_at, md5(j.id || ' succeeded')::uuid
  from public.jobs as j where j.status = 'succeeded';
comment on view public.job_events is 'Events of each job, in the order of seq: queued, claimed, retry, postponed, released, redirected, lease_expired, cancel_requested, succeeded, dead, cancelled, and what the worker reports. Readable by its organization. Never null: org_id, job_id, seq, event, attempt, data, created_at, id.';
grant select on public.job_events to authenticated, service_role;
create trigger job_events_append_only instead of insert or update or delete on public.job_events
  for each row execute function private.refuse_change('job_events is append-only');

create function private.jobs_delete_with_organization() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from public.jobs as j where j.org_id = old.id;
  return old;
end
$$;
comment on function private.jobs_delete_with_organization() is 'Trigger: deletes an organization''s jobs with it, before the rows of other domains that depend on them, since every other function locks these after the job. Definer: a user who may delete an organization holds no right on jobs.';
create trigger organizations_jobs before delete on public.organizations
  for each row execute function private.jobs_delete_with_organization();

create function private.jobs_keep_private() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.jobs as j set managers_only = true where j.org_id = old.org_id and j.project_id = old.id;
  return old;
end
$$;
comment on function private.jobs_keep_private() is 'Trigger: jobs that a private project hid stay hidden when it is deleted, also from those who were its members. Definer: users only read jobs.';
-- By its name it fires before the triggers of domains whose rows depend on jobs: every other function locks these after the job.
create trigger projects_jobs before delete on public.projects
  for each row when (old.visibility = 'private') execute function private.jobs_keep_private();

create function private.jobs_delete_events() returns trigger
language plpgsql set search_path = ''
as $$
begin
  delete from public.job_event_log as v using gone where v.org_id = gone.org_id and v.job_id = gone.id;
  return null;
end
$$;
comment on function private.jobs_delete_events() is 'Trigger: deletes the events of deleted jobs, once for each statement.';
create trigger jobs_events after delete on public.jobs
  referencing old table as gone for each statement execute function private.jobs_delete_events();
