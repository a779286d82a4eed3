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
-- Everything that changes a job locks its row first and an execution's row after it, and no organization, project or skill
-- after either: who deletes these has locked them before.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- jobs
-- ----------------------------------------------------------------------------

-- (No search_path of its own, to be inlined.)
create function private.new_job_id(moment timestamptz, n bigint) returns uuid
language sql volatile
return encode(
  overlay(
    uuid_send(gen_random_uuid())
    placing int8send(((extract(epoch from moment) * 1000)::bigint << 16) + x'7000'::integer + (n & 4095)) from 1 for 8
  ), 'hex'
)::uuid;
comment on function private.new_job_id(timestamptz, bigint) is 'A UUID of version 7: the time, then the place among those queued together, then chance. Neighbours in the queue are neighbours in the primary key, and a batch that is ended in the order of its ids goes through its pages in order.';
revoke all on function private.new_job_id(timestamptz, bigint) from public, anon, authenticated, service_role;

-- No foreign keys to it or from it: looking up the organization made up a third of queueing a job, and its row is hot.
-- Triggers delete an organization's jobs with it, and what points at a job is cleared when it goes.
-- Columns of fixed width that are never null come first: what follows the first that is neither must be counted out in
-- each row. What checks say is read anew by each statement, and fifteen of them were a quarter of queueing one job: so they
-- are few and short, and lengths are types where they can be.
-- squawk-ignore-file prefer-text-field
create table public.jobs (
  id uuid primary key default private.new_job_id(clock_timestamp(), 0),
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
  status text not null default 'queued',
  -- What a kind looks like is checked where its lane is opened.
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
  started_at timestamptz,
  finished_at timestamptz,
  check (attempt >= 0 and max_attempts between 1 and 100 and timeout_seconds between 1 and 86400),
  check (case when finished_at is null then status in ('queued', 'running') else status in ('succeeded', 'dead', 'cancelled') end),
  check ((status = 'running') = (locked_by is not null and locked_until is not null))
)
-- A row has three versions in its short life: queued, running, ended. With room for all of them on its page the table does not
-- grow while the queue drains, and what is dead is cleared away when the page is next read (at 70 the table became as
-- large, and half a dead version a job stayed).
with (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- Partial, so that they hold live work only however many finished jobs are kept. A kind's jobs in the order they are
-- due, and the same within a lane; claiming says why it needs both.
-- ("attempt >= 0" is always true. Only a query that says so may use an index that says so: by statistics, which are never
-- right for a queue, the planner would take it for as good as the right one.)
create index jobs_due_idx on public.jobs (kind, run_at) where status = 'queued' and attempt >= 0;
create index jobs_lane_idx on public.jobs (org_id, priority, kind, (coalesce(concurrency_key, '')), run_at) where status = 'queued';
create index jobs_lease_idx on public.jobs (locked_until, org_id) where status = 'running' and attempt >= 0;
create index jobs_dead_idx on public.jobs (kind) where status = 'dead';
create unique index jobs_unique_key on public.jobs (org_id, kind, unique_key)
  where unique_key is not null and status in ('queued', 'running');
create index jobs_org_id_idx on public.jobs (org_id, created_at);

comment on table public.jobs is 'Queue and recent history of background work; readable by its organization, written only by functions. Times are of the real clock.';
comment on column public.jobs.id is 'Identity of the job; payload of the NOTIFY kijko_job_cancel.';
comment on column public.jobs.org_id is 'Organization the work is for.';
comment on column public.jobs.kind is 'What is to be done; workers claim by kind. Payload of the NOTIFY kijko_jobs.';
comment on column public.jobs.payload is 'What the worker needs to know; never a secret.';
comment on column public.jobs.status is 'queued, running, then succeeded, dead (given up, see error) or cancelled.';
comment on column public.jobs.priority is 'Higher is claimed first, whoever''s it is; set by functions, never by tenants.';
comment on column public.jobs.run_at is 'Not before; moved into the future by back-off. Not the transaction''s start: jobs queued together keep their order.';
comment on column public.jobs.attempt is 'How often it has been claimed.';
comment on column public.jobs.max_attempts is 'After this many counted attempts a failure is final.';
comment on column public.jobs.uncounted_attempts is 'Attempts that do not count because the job was not at fault: a worker handed it back, or the vendor was down. Attempt numbers are not reused.';
comment on column public.jobs.timeout_seconds is 'How long one attempt may take; kept by the worker.';
comment on column public.jobs.unique_key is 'At most one queued or running job of a kind and organization has the same key.';
comment on column public.jobs.concurrency_key is 'Group of jobs within the organization of which at most one runs at a time, or as many as private.job_limits allows.';
comment on column public.jobs.locked_by is 'Worker that holds the lease.';
comment on column public.jobs.locked_until is 'End of the lease.';
comment on column public.jobs.cancel_requested is 'The worker is asked to stop; it hears so by NOTIFY and by heartbeat.';
comment on column public.jobs.first_worker is 'Worker of the first attempt.';
comment on column public.jobs.last_worker is 'Worker that made it succeed.';
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
  using (org_id = any (array(select private.org_ids_with('jobs:read'))));

-- ----------------------------------------------------------------------------
-- job_events: what happened to each job. That it was queued, first claimed and done
-- is in its row already and is read from there; as rows of their own these three
-- made up most of what a job wrote. The rest is noted.
-- ----------------------------------------------------------------------------

-- No foreign key: a trigger deletes a job's notes with it, and rows come only from the functions below, which hold the
-- job's row.
create table public.job_notes (
  id uuid not null default gen_random_uuid(),
  org_id uuid not null,
  job_id uuid not null,
  -- Those that job_events reads from the job come before.
  seq bigint generated always as identity (start with 10),
  event text not null check (event ~ '^[a-z][a-z0-9_.]{0,62}$'),
  attempt integer not null,
  worker text check (char_length(worker) <= 200),
  data jsonb not null default '{}' check (jsonb_typeof(data) = 'object' and octet_length(data::text) <= 65536),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default clock_timestamp(),
  primary key (org_id, job_id, seq)
);

comment on table public.job_notes is 'What happened to jobs beyond the ordinary; read it through job_events. Only ever appended to, and gone with its job.';
comment on column public.job_notes.id is 'Identity of the event.';
comment on column public.job_notes.org_id is 'Organization of the job.';
comment on column public.job_notes.job_id is 'The job.';
comment on column public.job_notes.seq is 'Order of the events.';
comment on column public.job_notes.event is 'A later claim, retry, postponed, released, redirected, lease_expired, cancel_requested, dead, cancelled, or what the worker reports.';
comment on column public.job_notes.attempt is 'Attempt during which it happened; 0 before the first.';
comment on column public.job_notes.worker is 'Worker that holds the job, if any.';
comment on column public.job_notes.data is 'Details.';
comment on column public.job_notes.created_by is 'User who caused it; null for workers and the system. No foreign key: history outlives the user.';
comment on column public.job_notes.created_at is 'When, by the real clock.';

alter table public.job_notes enable row level security;
revoke all on public.job_notes from public, anon, authenticated, service_role;
revoke all on sequence public.job_notes_seq_seq from public, anon, authenticated, service_role;
grant select on public.job_notes to authenticated, service_role;
create policy job_notes_select on public.job_notes for select to authenticated
  using (org_id = any (array(select private.org_ids_with('jobs:read'))));

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
create trigger job_notes_append_only before update on public.job_notes
  for each row execute function private.refuse_event_update();

create view public.job_events with (security_invoker = true) as
  select j.org_id, j.id as job_id, 0::bigint as seq, 'queued' as event, 0 as attempt, null::text as worker, '{}'::jsonb as data,
    j.created_by, j.created_at, md5(j.id || ' queued')::uuid as id
  from public.jobs as j
  union all
  select j.org_id, j.id, 1, 'claimed', 1, j.first_worker, '{}', null, j.started_at, md5(j.id || ' claimed')::uuid
  from public.jobs as j where j.first_worker is not null
  union all
  select n.org_id, n.job_id, n.seq, n.event, n.attempt, n.worker, n.data, n.created_by, n.created_at, n.id
  from public.job_notes as n
  union all
  -- The largest number that JavaScript counts exactly.
  select j.org_id, j.id, 9007199254740991, 'succeeded', j.attempt, j.last_worker, '{}', null, j.finished_at, md5(j.id || ' succeeded')::uuid
  from public.jobs as j where j.status = 'succeeded';
comment on view public.job_events is 'What happened to each job, in the order of seq: queued, claimed, retry, postponed, released, redirected, lease_expired, cancel_requested, succeeded, dead, cancelled, and what the worker reports. Readable by its organization. Never null: org_id, job_id, seq, event, attempt, data, created_at, id.';
revoke all on public.job_events from public, anon, authenticated, service_role;
grant select on public.job_events to authenticated, service_role;
create trigger job_events_append_only instead of insert or update or delete on public.job_events
  for each row execute function private.refuse_event_update();

create function private.delete_org_jobs() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from public.jobs as j where j.org_id = old.id;
  return old;
end
$$;
comment on function private.delete_org_jobs() is 'Trigger: jobs go with their organization, and before its executions, as everybody locks a job before its execution. Definer: who may delete an organization holds no right on jobs.';
revoke all on function private.delete_org_jobs() from public, anon, authenticated, service_role;
create trigger organizations_jobs before delete on public.organizations
  for each row execute function private.delete_org_jobs();

create function private.delete_job_events() returns trigger
language plpgsql set search_path = ''
as $$
begin
  delete from public.job_notes as v using gone where v.org_id = gone.org_id and v.job_id = gone.id;
  return null;
end
$$;
comment on function private.delete_job_events() is 'Trigger: events go with their jobs, a statement at a time.';
revoke all on function private.delete_job_events() from public, anon, authenticated, service_role;
create trigger jobs_events after delete on public.jobs
  referencing old table as gone for each statement execute function private.delete_job_events();

-- ----------------------------------------------------------------------------
-- Registers: six times and eight turns, kept in sequences because these are changed in place. As a
-- row each would leave a dead version per change, and a transaction that holds on to
-- an old snapshot would make every reader walk all of them. They only save work:
-- whatever they say, the rows decide, so it does not matter that they are not
-- transactional.
-- ----------------------------------------------------------------------------

-- No job in the queue is due before this. Claims start here instead of at the entries of jobs long gone, which a held
-- snapshot keeps in the index.
create sequence private.jobs_head minvalue 0 start 0;
-- Every lease that ended before this has been taken back, if its transaction had committed.
create sequence private.jobs_reaped_until minvalue 0 start 0;
-- When claims next keep house, and when they next look for jobs before the head.
create sequence private.jobs_tend_at minvalue 0 start 0;
create sequence private.jobs_rescue_at minvalue 0 start 0;
-- When a worker last found jobs or was woken, and for which kind.
create sequence private.jobs_found_at minvalue 0 start 0;
-- When claims next clear away dead versions.
create sequence private.jobs_sweep_at minvalue 0 start 0;
revoke all on sequence private.jobs_sweep_at, private.jobs_found_at, private.jobs_head, private.jobs_reaped_until, private.jobs_tend_at, private.jobs_rescue_at
  from public, anon, authenticated, service_role;
-- The turn of the organization served last, for claims of the same kinds at the same priority.
create sequence private.jobs_turn_0 minvalue 0 start 0;
create sequence private.jobs_turn_1 minvalue 0 start 0;
create sequence private.jobs_turn_2 minvalue 0 start 0;
create sequence private.jobs_turn_3 minvalue 0 start 0;
create sequence private.jobs_turn_4 minvalue 0 start 0;
create sequence private.jobs_turn_5 minvalue 0 start 0;
create sequence private.jobs_turn_6 minvalue 0 start 0;
create sequence private.jobs_turn_7 minvalue 0 start 0;
revoke all on sequence private.jobs_turn_0, private.jobs_turn_1, private.jobs_turn_2, private.jobs_turn_3,
  private.jobs_turn_4, private.jobs_turn_5, private.jobs_turn_6, private.jobs_turn_7
  from public, anon, authenticated, service_role;

-- (No search_path of their own: with one these two could not be inlined.)
create function private.as_register(moment timestamptz) returns bigint
language sql stable
return greatest((extract(epoch from moment) * 1000000)::bigint, 0);
comment on function private.as_register(timestamptz) is 'A time as a register holds it: microseconds since 1970.';
revoke all on function private.as_register(timestamptz) from public, anon, authenticated, service_role;

create function private.as_found(kind text, moment timestamptz) returns bigint
language sql stable
-- The kind above, the milliseconds since 1970 below: times of one kind are a range.
return ((hashtext(kind) & 65535)::bigint << 46) + (extract(epoch from moment) * 1000)::bigint;
comment on function private.as_found(text, timestamptz) is 'A kind (nearly: a hash of it) and a time in one register.';
revoke all on function private.as_found(text, timestamptz) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Lanes and limits
-- ----------------------------------------------------------------------------

create table private.job_lanes (
  kind text not null check (char_length(kind) <= 63),
  priority smallint not null,
  org uuid not null,
  concurrency_key text not null default '' check (char_length(concurrency_key) <= 255),
  turn bigint not null,
  place uuid not null default gen_random_uuid(),
  primary key (kind, priority, org, concurrency_key)
);
create index job_lanes_turn_idx on private.job_lanes (kind, priority, turn, place);
create index job_lanes_org_idx on private.job_lanes (org, turn);
create index job_lanes_keyed_idx on private.job_lanes (kind) where concurrency_key <> '';
-- Below 2^46: a register stores it beside a 16-bit tag of the claims that it belongs to.
create sequence private.job_lanes_turn_seq maxvalue 70368744177663 cycle;
revoke all on sequence private.job_lanes_turn_seq from public, anon, authenticated, service_role;
comment on table private.job_lanes is 'Where queued jobs may be: one row for each combination that has or lately had some. Written when a lane is first used and when it has gone idle, not for each job.';
comment on column private.job_lanes.kind is 'Kind of the jobs.';
comment on column private.job_lanes.priority is 'Their priority.';
comment on column private.job_lanes.org is 'Their organization. No foreign key: an idle lane goes within minutes.';
comment on column private.job_lanes.concurrency_key is 'Their concurrency key; empty for none.';
comment on column private.job_lanes.turn is 'Position of the organization in the round, the same for all of its lanes. A new organization is last.';
comment on column private.job_lanes.place is 'Random position of the lane among those of its organization.';
alter table private.job_lanes enable row level security;
revoke all on private.job_lanes from public, anon, authenticated, service_role;

create table private.job_limits (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null references public.organizations (id) on delete cascade,
  concurrency_key text not null default '' check (char_length(concurrency_key) <= 255),
  max_running integer not null check (max_running between 0 and 100000),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default clock_timestamp(),
  unique (org_id, concurrency_key)
);
comment on table private.job_limits is 'How many jobs of an organization, or of one of its concurrency keys, run at once. Without a row an organization has no limit and a key''s jobs run one at a time.';
comment on column private.job_limits.id is 'Identity of the limit.';
comment on column private.job_limits.org_id is 'Organization that is limited.';
comment on column private.job_limits.concurrency_key is 'Which of its keys; empty for all of its jobs together.';
comment on column private.job_limits.max_running is 'At most so many run at once; 0 holds them back.';
comment on column private.job_limits.created_by is 'User who set it; null for the system.';
comment on column private.job_limits.created_at is 'When it was first set.';
alter table private.job_limits enable row level security;
revoke all on private.job_limits from public, anon, authenticated, service_role;

create table private.job_kind_pauses (
  kind text primary key check (char_length(kind) <= 63),
  failures integer not null default 1 check (failures > 0),
  until timestamptz not null default clock_timestamp(),
  tried_at timestamptz not null default '-infinity',
  error_code text check (char_length(error_code) <= 100),
  created_at timestamptz not null default clock_timestamp(),
  failed_at timestamptz not null default clock_timestamp()
);
comment on table private.job_kind_pauses is 'Kinds whose vendor failed lately: a row from the first failure to the next success. After three failures in a row claims skip the kind until the pause ends, and then try one job at a time.';
comment on column private.job_kind_pauses.kind is 'Kind of the jobs.';
comment on column private.job_kind_pauses.failures is 'Consecutive failures, not counting those during a pause.';
comment on column private.job_kind_pauses.until is 'End of the pause: no job of the kind is claimed before it.';
comment on column private.job_kind_pauses.tried_at is 'When a claim last took a job to test whether the vendor is back.';
comment on column private.job_kind_pauses.error_code is 'Error code of the last failure.';
comment on column private.job_kind_pauses.created_at is 'When the first of these failures was recorded.';
comment on column private.job_kind_pauses.failed_at is 'When the last failure was recorded.';
alter table private.job_kind_pauses enable row level security;
revoke all on private.job_kind_pauses from public, anon, authenticated, service_role;

create function private.set_job_limit(org_id uuid, concurrency_key text, max_running integer) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  if set_job_limit.max_running is null then
    delete from private.job_limits as l
    where l.org_id = set_job_limit.org_id and l.concurrency_key = coalesce(set_job_limit.concurrency_key, '');
  else
    insert into private.job_limits as l (org_id, concurrency_key, max_running)
    values (set_job_limit.org_id, coalesce(set_job_limit.concurrency_key, ''), set_job_limit.max_running)
    on conflict (org_id, concurrency_key) do update set max_running = excluded.max_running
    where l.max_running <> excluded.max_running;
  end if;
  -- What a lower limit held back may run now; the payload is a kind that every worker takes for a reason to look.
  perform pg_notify('kijko_jobs', '');
end
$$;
comment on function private.set_job_limit(uuid, text, integer) is 'Limits how many jobs of an organization (key null) or of one concurrency key run at once; null takes the limit away. Running jobs are left alone. Definer: nobody writes limits otherwise.';
revoke all on function private.set_job_limit(uuid, text, integer) from public, anon, authenticated, service_role;
grant execute on function private.set_job_limit(uuid, text, integer) to service_role;

-- ----------------------------------------------------------------------------
-- Entering the queue. NOTIFY is only a wake-up: workers poll behind it, so a lost one
-- costs time, never a job.
-- ----------------------------------------------------------------------------

create function private.jobs_add_lane(kind text, priority smallint, org uuid, concurrency_key text) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  -- Does not wait for a session that opens the same lane: if that one fails, the next run of pg_cron opens it.
  insert into private.job_lanes (kind, priority, org, concurrency_key, turn)
  select jobs_add_lane.kind, jobs_add_lane.priority, jobs_add_lane.org, jobs_add_lane.concurrency_key,
    coalesce((select min(l.turn) from private.job_lanes as l where l.org = jobs_add_lane.org), nextval('private.job_lanes_turn_seq'))
  where pg_try_advisory_xact_lock(hashtextextended(
    concat_ws(':', 'kijko-lane', jobs_add_lane.kind, jobs_add_lane.priority, jobs_add_lane.org, jobs_add_lane.concurrency_key), 20261121
  ))
  on conflict do nothing
$$;
comment on function private.jobs_add_lane(text, smallint, uuid, text) is 'Opens one lane, unless another session is opening it. An organization without lanes joins the round as the last.';
revoke all on function private.jobs_add_lane(text, smallint, uuid, text) from public, anon, authenticated, service_role;

create function private.open_lane(kind text, priority smallint, org_id uuid, concurrency_key text, run_at timestamptz) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  if not exists (
    select 1 from private.job_lanes as l
    where l.kind = open_lane.kind and l.priority = open_lane.priority and l.org = open_lane.org_id
      and l.concurrency_key = coalesce(open_lane.concurrency_key, '')
  ) then
    if open_lane.kind !~ '^[a-z][a-z0-9_.]{0,62}$' then
      perform kijko.fail('bad_request', 'kind: a small letter, then small letters, digits, "_" or "."; at most 63');
    end if;
    perform private.jobs_add_lane(open_lane.kind, open_lane.priority, open_lane.org_id, coalesce(open_lane.concurrency_key, ''));
  end if;
  if (select private.as_register(open_lane.run_at) < r.last_value from private.jobs_head as r) then
    perform setval('private.jobs_head', private.as_register(open_lane.run_at));
  end if;
  -- Transactions that notify commit one after the other, each with its own flush. A worker that was just woken, or has
  -- just found jobs, polls again after 1 ms, then after 2 ms and so on: within the first millisecond no notification is needed.
  if open_lane.run_at <= clock_timestamp()
    and (
      select r.last_value not between private.as_found(open_lane.kind, clock_timestamp() - interval '1 millisecond')
        and private.as_found(open_lane.kind, clock_timestamp() + interval '1 second')
      from private.jobs_found_at as r
    )
  then
    perform pg_notify('kijko_jobs', open_lane.kind);
    perform setval('private.jobs_found_at', private.as_found(open_lane.kind, clock_timestamp()));
  end if;
end
$$;
comment on function private.open_lane(text, smallint, uuid, text, timestamptz) is 'Makes sure that claims look where jobs were just queued, the earliest of them at run_at, and wakes workers if it is due.';
revoke all on function private.open_lane(text, smallint, uuid, text, timestamptz) from public, anon, authenticated, service_role;

create function private.note_queued() returns trigger
language plpgsql set search_path = ''
as $$
begin
  -- The order keeps two sessions that open the same lanes from waiting for each other crosswise.
  perform private.open_lane(q.kind, q.priority, q.org_id, q.concurrency_key, q.run_at)
  from (
    select n.kind, n.priority, n.org_id, n.concurrency_key, min(n.run_at) as run_at
    from queued as n where n.status = 'queued'
    group by n.kind, n.priority, n.org_id, n.concurrency_key
    order by n.kind, n.priority, n.org_id, n.concurrency_key
  ) as q;
  return null;
end
$$;
comment on function private.note_queued() is 'Trigger: opens the lanes of new jobs, a statement at a time.';
revoke all on function private.note_queued() from public, anon, authenticated, service_role;
create trigger jobs_queued after insert on public.jobs
  referencing new table as queued for each statement execute function private.note_queued();

create function private.note_requeued() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform private.open_lane(new.kind, new.priority, new.org_id, new.concurrency_key, new.run_at);
  return null;
end
$$;
comment on function private.note_requeued() is 'Trigger: opens the lane of a job that is queued again or at another time.';
revoke all on function private.note_requeued() from public, anon, authenticated, service_role;
create trigger jobs_requeued after update of status, run_at, priority, kind on public.jobs
  for each row when (new.status = 'queued') execute function private.note_requeued();

-- ----------------------------------------------------------------------------
-- Steps that several functions share. Not definer and not granted: they run inside
-- the definer functions below, as postgres.
-- ----------------------------------------------------------------------------

create function private.enqueue_jobs(jobs jsonb) returns table (n bigint, id uuid)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  started constant timestamptz := clock_timestamp();
begin
  if jsonb_typeof(jobs) is distinct from 'array' then
    perform kijko.fail('bad_request', 'jobs: an array');
  end if;
  return query
  with given as materialized (
    select g.n, private.new_job_id(started, g.n) as id,
      g.org_id, g.kind, coalesce(g.payload, '{}') as payload, coalesce(g.priority, 0::smallint) as priority,
      coalesce(g.run_at, clock_timestamp()) as run_at, coalesce(g.max_attempts, 5) as max_attempts,
      coalesce(g.timeout_seconds, 300) as timeout_seconds, g.unique_key, g.concurrency_key, asker.id as created_by
    from (select kijko.user_id() as id) as asker
    cross join rows from (
      jsonb_to_recordset(jobs) as (
        org_id uuid, kind text, payload jsonb, priority smallint, run_at timestamptz, max_attempts integer,
        timeout_seconds integer, unique_key text, concurrency_key text
      )
    ) with ordinality as g (
      org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key, n
    )
  ),
  -- "on conflict" writes each row twice to the log, so only those with a key pay for it.
  plain as (
    insert into public.jobs (
      id, org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, concurrency_key, created_by
    )
    select g.id, g.org_id, g.kind, g.payload, g.priority, g.run_at, g.max_attempts, g.timeout_seconds, g.concurrency_key, g.created_by
    from given as g where g.unique_key is null
  ),
  keyed as (
    insert into public.jobs as j (
      id, org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key, created_by
    )
    select g.id, g.org_id, g.kind, g.payload, g.priority, g.run_at, g.max_attempts, g.timeout_seconds, g.unique_key,
      g.concurrency_key, g.created_by
    from given as g where g.unique_key is not null
    on conflict (org_id, kind, unique_key) where unique_key is not null and status in ('queued', 'running') do nothing
    returning j.id
  )
  select g.n, case when g.unique_key is null or g.id in (select k.id from keyed as k) then g.id end from given as g;
end
$$;
comment on function private.enqueue_jobs(jsonb) is 'Queues an array of jobs in one statement: objects with org_id, kind and, where wanted, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key. Answers with the id for each, null when a live job has the same unique_key. Called by definer functions only.';
revoke all on function private.enqueue_jobs(jsonb) from public, anon, authenticated, service_role;

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
  new_id uuid;
begin
  -- An insert of its own: as an array of one it would go through JSON and two inserts.
  insert into public.jobs as j (
    id, org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key
  )
  values (
    private.new_job_id(clock_timestamp(), 0), enqueue_job.org_id, enqueue_job.kind, enqueue_job.payload, enqueue_job.priority,
    enqueue_job.run_at, enqueue_job.max_attempts, enqueue_job.timeout_seconds, enqueue_job.unique_key,
    enqueue_job.concurrency_key
  )
  on conflict (org_id, kind, unique_key) where unique_key is not null and status in ('queued', 'running') do nothing
  returning j.id into new_id;
  return new_id;
end
$$;
comment on function private.enqueue_job(uuid, text, jsonb, smallint, timestamptz, integer, integer, text, text) is 'Queues one job; its id, or null when a live job has the same unique_key. Called by definer functions only.';
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

create function private.wake_limited(org_id uuid, concurrency_key text, kind text) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  if wake_limited.concurrency_key is not null
    or exists (select 1 from private.job_limits as l where l.org_id = wake_limited.org_id and l.concurrency_key = '')
  then
    perform pg_notify('kijko_jobs', wake_limited.kind);
  end if;
end
$$;
comment on function private.wake_limited(uuid, text, text) is 'A place under a limit became free: wakes workers, since a job may have waited for it.';
revoke all on function private.wake_limited(uuid, text, text) from public, anon, authenticated, service_role;

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
    last_worker = case final_status when 'succeeded' then job.locked_by end,
    finished_at = clock_timestamp(),
    updated_at = clock_timestamp()
  where j.id = job.id;
  if final_status <> 'succeeded' then
    insert into public.job_notes (org_id, job_id, event, attempt, worker, data)
    values (
      job.org_id, job.id, final_status, job.attempt, job.locked_by,
      jsonb_strip_nulls(jsonb_build_object('code', substring(code for 100), 'message', substring(message for 10000)))
    );
  end if;
  if job.status = 'running' then
    perform private.wake_limited(job.org_id, job.concurrency_key, job.kind);
  end if;
  if final_status = 'succeeded' then
    perform private.jobs_record_recovery(job.kind);
  end if;
end
$$;
comment on function private.end_job(public.jobs, text, jsonb, text, text) is 'Moves a locked job to its final status: succeeded, dead or cancelled.';
revoke all on function private.end_job(public.jobs, text, jsonb, text, text) from public, anon, authenticated, service_role;

create function private.retry_job(
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
  perform private.wake_limited(job.org_id, job.concurrency_key, job.kind);
  insert into public.job_notes (org_id, job_id, event, attempt, worker, data)
  values (
    job.org_id, job.id, retry_job.event, job.attempt, job.locked_by,
    jsonb_strip_nulls(jsonb_build_object(
      'code', substring(code for 100), 'message', substring(message for 10000), 'in_seconds', round(extract(epoch from pause), 3)
    ))
  );
end
$$;
comment on function private.retry_job(public.jobs, text, text, text, interval, boolean) is 'Puts a locked job back into the queue after exponential back-off with jitter. counted says whether the attempt counts.';
revoke all on function private.retry_job(public.jobs, text, text, text, interval, boolean) from public, anon, authenticated, service_role;

create function private.jobs_hand_back(job public.jobs, event text, kind text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  update public.jobs as j
  set status = 'queued',
    kind = jobs_hand_back.kind,
    run_at = clock_timestamp(),
    uncounted_attempts = j.uncounted_attempts + 1,
    locked_by = null,
    locked_until = null,
    updated_at = clock_timestamp()
  where j.id = job.id;
  perform private.wake_limited(job.org_id, job.concurrency_key, job.kind);
  insert into public.job_notes (org_id, job_id, event, attempt, worker)
  values (job.org_id, job.id, jobs_hand_back.event, job.attempt, job.locked_by);
end
$$;
comment on function private.jobs_hand_back(public.jobs, text, text) is 'Puts a locked job that was not at fault back into the queue, due at once, as the given kind; the attempt does not count.';
revoke all on function private.jobs_hand_back(public.jobs, text, text) from public, anon, authenticated, service_role;

create function private.jobs_lock_followers(job public.jobs) returns boolean
language sql set search_path = pg_catalog, pg_temp
as 'select true';
comment on function private.jobs_lock_followers(public.jobs) is 'Locks the rows that follow a locked job, without waiting; false when another transaction holds one. Domains whose rows follow jobs replace it. Callers that must not wait call it before they change the job.';
revoke all on function private.jobs_lock_followers(public.jobs) from public, anon, authenticated, service_role;

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
revoke all on function private.jobs_record_outage(text, text, interval) from public, anon, authenticated, service_role;

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
revoke all on function private.jobs_record_recovery(text) from public, anon, authenticated, service_role;

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
revoke all on function private.jobs_open_kinds(text[], timestamptz) from public, anon, authenticated, service_role;

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
revoke all on function private.take_back_jobs(timestamptz) from public, anon, authenticated, service_role;

create function private.reap_jobs() returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select private.take_back_jobs('-infinity')
$$;
comment on function private.reap_jobs() is 'Takes back jobs whose lease ran out, however long ago: queued again, or dead after the last attempt, or cancelled if that was asked. Definer: the sidecar holds no table rights.';
revoke all on function private.reap_jobs() from public, anon, authenticated, service_role;
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
revoke all on function private.tend_jobs() from public, anon, authenticated, service_role;

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
revoke all on function private.sweep_jobs() from public, anon, authenticated, service_role;

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
revoke all on function private.keep_house(timestamptz, integer) from public, anon, authenticated, service_role;

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
revoke all on function private.tend_lanes() from public, anon, authenticated, service_role;

create function private.within_limits(places tid[]) returns tid[]
language plpgsql set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  counted uuid[];
  kept tid[];
begin
  -- Claims that count the same organization take turns; one that comes second leaves its limited jobs to the first.
  -- The count is a statement of its own: it must see what the one before has committed.
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
      and j.locked_until >= (select to_timestamp(r.last_value / 1000000.0) from private.jobs_reaped_until as r)
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
comment on function private.within_limits(tid[]) is 'Of the queued jobs at these places, whose rows are locked by now, those that may run without exceeding a limit; the first ones first.';
revoke all on function private.within_limits(tid[]) from public, anon, authenticated, service_role;

-- How a claim stays fair and cheap, whatever is queued:
-- 1. It takes the jobs longest due that no other claim holds, as many as it may lease. Are there fewer, it has seen all of
--    them; which it leases is then a matter of the limits only.
-- 2. Otherwise there is a backlog, and it may be one tenant's. Then it also asks up to 64 organizations of each kind and
--    priority for their first jobs, beginning after the one that was served last, and passing over those whose limits are
--    reached. It ranks all it has: higher priority first, then the organizations take turns. So a tenant's one job is found
--    behind another's million without reading that million, and is served within one round even if each claim takes one.
-- Both read index ranges that begin at the head register. What is chosen from is locked before, so nothing is looked up
-- twice: a locked row keeps its place. The settings keep plans from depending on statistics, which are never right for a
-- queue; where they are not enough, a look-up is a lateral subquery, which leaves no other plan.
-- (Turns are stored in sequences: rows would leave a dead version per claim. Sets of kinds that share a sequence overwrite
-- each other's turn and start with a random organization: with the first one, they would serve no other.)
create function private.jobs_turn_sequence(kinds text[], priority smallint) returns regclass
language sql immutable
return (array[
  'private.jobs_turn_0', 'private.jobs_turn_1', 'private.jobs_turn_2', 'private.jobs_turn_3',
  'private.jobs_turn_4', 'private.jobs_turn_5', 'private.jobs_turn_6', 'private.jobs_turn_7'
]::regclass[])[1 + (hashtext(coalesce(kinds::text, '') || ':' || priority) & 7)];
comment on function private.jobs_turn_sequence(text[], smallint) is 'The sequence that stores the turn served last by claims for these kinds at this priority.';
revoke all on function private.jobs_turn_sequence(text[], smallint) from public, anon, authenticated, service_role;

create function private.jobs_turn_tag(kinds text[], priority smallint) returns bigint
language sql immutable
return (hashtext(coalesce(kinds::text, '') || ':' || priority) >> 3 & 65535)::bigint << 46;
comment on function private.jobs_turn_tag(text[], smallint) is 'Tag in the upper bits of such a sequence: which kinds and priority its turn belongs to.';
revoke all on function private.jobs_turn_tag(text[], smallint) from public, anon, authenticated, service_role;

create function private.jobs_last_turn(kinds text[], priority smallint) returns bigint
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case when r.value & ~70368744177663 = private.jobs_turn_tag(kinds, priority) then r.value & 70368744177663 end
  from (select coalesce(pg_sequence_last_value(private.jobs_turn_sequence(kinds, priority)), 0) as value) as r
$$;
comment on function private.jobs_last_turn(text[], smallint) is 'The turn of the organization that claims for these kinds served last at this priority; null when unknown.';
revoke all on function private.jobs_last_turn(text[], smallint) from public, anon, authenticated, service_role;

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
revoke all on function private.jobs_record_turns(text[], tid[]) from public, anon, authenticated, service_role;

create function private.rank_jobs(near tid[], kinds text[], of_kinds text[], head timestamptz, due timestamptz, wanted integer) returns tid[]
language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  backlog constant boolean := cardinality(near) >= wanted;
  limited constant boolean := backlog and (
    exists (select 1 from private.job_limits)
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
    select j.org_id, coalesce(j.concurrency_key, '') as concurrency_key, count(*) as jobs
    from public.jobs as j
    where limited and j.status = 'running' and j.attempt >= 0
      and j.locked_until >= (select to_timestamp(r.last_value / 1000000.0) from private.jobs_reaped_until as r)
    group by j.org_id, coalesce(j.concurrency_key, '')
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
      select q.ctid as place, q.id, q.org_id, q.priority, q.run_at
      from public.jobs as q
      where q.status = 'queued' and q.kind = l.kind and q.org_id = l.org and q.priority = l.priority
        and coalesce(q.concurrency_key, '') = l.concurrency_key and q.run_at between head and due
      order by q.run_at
      limit wanted / l.lanes + 1
      for update skip locked
    ) as j
  ),
  candidates as materialized (
    select j.ctid as place, j.id, j.org_id, j.priority, j.run_at
    from unnest(near) as n (place)
    join public.jobs as j on j.ctid = n.place
    union
    select f.* from far as f
  ),
  -- Organizations after the one served last come first, then the round restarts.
  turns as materialized (
    select o.org_id, o.priority, l.turn <= s.turn as round, l.turn
    from (select distinct c.org_id, c.priority from candidates as c) as o
    left join starts as s on s.priority = o.priority
    cross join lateral (select min(a.turn) as turn from private.job_lanes as a where a.org = o.org_id) as l
    where backlog
  ),
  ranked as (
    select c.*, t.round, t.turn, row_number() over (partition by c.org_id, c.priority order by c.run_at, c.id) as rank
    from candidates as c
    left join turns as t on t.org_id = c.org_id and t.priority = c.priority
  )
  select array_agg(r.place order by r.priority desc, r.rank, r.round, r.turn, r.run_at, r.id) into places
  from ranked as r;
  return places;
end
$$;
comment on function private.rank_jobs(tid[], text[], text[], timestamptz, timestamptz, integer) is 'The places of locked jobs, and if they are as many as wanted also of the first of other lanes, which it locks: higher priority first, organizations in turn, longest due first.';
revoke all on function private.rank_jobs(tid[], text[], text[], timestamptz, timestamptz, integer) from public, anon, authenticated, service_role;

create function private.claim_jobs(worker text, lease interval, max_jobs integer, kinds text[] default null)
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
  if exists (select 1 from private.job_kind_pauses as p where p.kind = any (of_kinds)) then
    of_kinds := private.jobs_open_kinds(of_kinds, due);
    -- A kind that is tried again.
    if exists (select 1 from private.job_kind_pauses as p where p.kind = any (of_kinds) and p.failures >= 3) then
      wanted := 1;
    end if;
  end if;

  loop
    select to_timestamp(r.last_value / 1000000.0) into head from private.jobs_head as r;
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
    -- One look in vain is followed by another if there was something to tidy up: that may have brought jobs to light.
    exit when not private.keep_house(due, coalesce(cardinality(places), 0)) or places is not null;
  end loop;
  if places is null then
    return;
  end if;

  backlog := cardinality(places) >= wanted and exists (select 1 from private.job_lanes as l where l.kind = any (of_kinds) offset 1);
  if limited or backlog then
    places := private.within_limits(private.rank_jobs(places, kinds, of_kinds, head, due, wanted));
  end if;
  if backlog then
    perform private.jobs_record_turns(kinds, places[:wanted]);
  end if;

  if cardinality(places) > 0 then
    perform setval('private.jobs_found_at', private.as_found(found, clock_timestamp()));
  end if;
  return query
  with claimed as (
    update public.jobs as j
    set status = 'running',
      attempt = j.attempt + 1,
      locked_by = worker,
      locked_until = clock_timestamp() + lease,
      first_worker = coalesce(j.first_worker, claim_jobs.worker),
      started_at = coalesce(j.started_at, clock_timestamp()),
      updated_at = clock_timestamp()
    from unnest(places[:wanted]) with ordinality as p (place, n)
    where j.ctid = p.place
    returning j.id, j.org_id, j.kind, j.payload, j.attempt, j.max_attempts, j.timeout_seconds, j.run_at, p.n, j.started_at < due as again
  ),
  noted as (
    -- The first claim is in the job's row.
    insert into public.job_notes (org_id, job_id, event, attempt, worker, created_by)
    select c.org_id, c.id, 'claimed', c.attempt, claim_jobs.worker, null
    from claimed as c where c.again
  )
  select c.id, c.org_id, c.kind, c.payload, c.attempt, c.max_attempts, c.timeout_seconds,
    extract(epoch from clock_timestamp() - c.run_at)::double precision
  from claimed as c
  order by c.n;
end
$$;
comment on function private.claim_jobs(text, interval, integer, text[]) is 'Leases up to max_jobs due jobs to a worker: highest priority first, organizations in turn, longest due first, within private.job_limits; workers at once never get the same. waited_seconds is how long each had been due. Definer: the sidecar holds no table rights.';
revoke all on function private.claim_jobs(text, interval, integer, text[]) from public, anon, authenticated, service_role;
grant execute on function private.claim_jobs(text, interval, integer, text[]) to kijko_sidecar;

create function private.heartbeat_jobs(worker text, ids uuid[], lease interval)
returns table (id uuid, cancel_requested boolean, extended boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if lease is null or lease < interval '1 second' or lease > interval '1 hour' then
    perform kijko.fail('bad_request', 'lease: 1 second to 1 hour');
  end if;
  return query
  with held as (
    -- A row that another transaction holds must not cost the others their leases.
    select j.ctid as place from public.jobs as j
    where j.id = any (ids) and j.status = 'running' and j.locked_by = worker
    for update skip locked
  ),
  extended as (
    update public.jobs as j
    set locked_until = clock_timestamp() + lease, updated_at = clock_timestamp()
    from held
    where j.ctid = held.place
    returning j.id, j.cancel_requested
  )
  select e.id, e.cancel_requested, true from extended as e
  union all
  select j.id, j.cancel_requested, false from public.jobs as j
  where j.id = any (ids) and j.status = 'running' and j.locked_by = worker
    and not exists (select 1 from extended as e where e.id = j.id);
end
$$;
comment on function private.heartbeat_jobs(text, uuid[], interval) is 'Extends the leases of jobs this worker still holds and says which are to be cancelled. If extended is false, another transaction holds the row: the lease is unchanged, and a later heartbeat may extend it. A job that is not in the answer is lost. Definer: the sidecar holds no table rights.';
revoke all on function private.heartbeat_jobs(text, uuid[], interval) from public, anon, authenticated, service_role;
grant execute on function private.heartbeat_jobs(text, uuid[], interval) to kijko_sidecar;

create function private.complete_jobs(worker text, results jsonb) returns table (id uuid, status text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set lock_timeout = '100ms'
as $$
#variable_conflict use_column
declare
  places tid[];
  outcomes jsonb[];
  more tid[];
  more_outcomes jsonb[];
begin
  if jsonb_typeof(results) is distinct from 'array' then
    perform kijko.fail('bad_request', 'results: an array');
  end if;
  -- Locked by a statement of its own: a row that somebody changed meanwhile (a heartbeat its lease) is in its new version only
  -- seen by the next. In one order everywhere, so that two calls cannot wait for each other. Lateral: as a join, the plan
  -- that was made while the table was small read all of it for each.
  select array_agg(j.place), array_agg(g.result) into places, outcomes
  from (
    select distinct on (g.id) g.id, g.attempt, g.result
    from jsonb_to_recordset(results) as g (id uuid, attempt integer, result jsonb)
    order by g.id
  ) as g
  cross join lateral (
    select k.ctid as place from public.jobs as k
    where k.id = g.id and k.status = 'running' and k.locked_by = complete_jobs.worker
      and (g.attempt is null or k.attempt = g.attempt)
    for update skip locked
  ) as j;
  if coalesce(cardinality(places), 0) < jsonb_array_length(results) then
    -- Claims and heartbeats hold rows briefly. A row that is held for longer must not delay the others.
    begin
      select array_agg(j.place), array_agg(g.result) into more, more_outcomes
      from (
        select distinct on (g.id) g.id, g.attempt, g.result
        from jsonb_to_recordset(results) as g (id uuid, attempt integer, result jsonb)
        order by g.id
      ) as g
      cross join lateral (
        select k.ctid as place from public.jobs as k
        where k.id = g.id and k.status = 'running' and k.locked_by = complete_jobs.worker
          and (g.attempt is null or k.attempt = g.attempt) and k.ctid <> all (coalesce(places, '{}'))
        for update
      ) as j;
      places := places || more;
      outcomes := outcomes || more_outcomes;
    exception when lock_not_available then
      null;
    end;
  end if;
  return query
  with ended as (
    update public.jobs as j
    set status = case when j.cancel_requested then 'cancelled' else 'succeeded' end,
      result = h.outcome,
      error_code = case when j.cancel_requested then 'cancelled' end,
      error = null,
      locked_by = null,
      locked_until = null,
      last_worker = case when not j.cancel_requested then complete_jobs.worker end,
      finished_at = clock_timestamp(),
      updated_at = clock_timestamp()
    from unnest(places, outcomes) as h (place, outcome)
    where j.ctid = h.place
    returning j.id, j.org_id, j.kind, j.concurrency_key, j.status, j.attempt, j.error_code
  ),
  noted as (
    insert into public.job_notes (org_id, job_id, event, attempt, worker, data)
    select e.org_id, e.id, e.status, e.attempt, complete_jobs.worker, jsonb_build_object('code', e.error_code)
    from ended as e where e.status = 'cancelled'
  ),
  woken as materialized (
    select private.wake_limited(e.org_id, e.concurrency_key, e.kind)
    from (select distinct d.org_id, d.concurrency_key, d.kind from ended as d) as e
  ),
  recovered as materialized (
    select private.jobs_record_recovery(p.kind) from private.job_kind_pauses as p
    where p.kind in (select d.kind from ended as d where d.status = 'succeeded')
  )
  select e.id, e.status from ended as e where (select count(*) from woken) >= 0 and (select count(*) from recovered) >= 0;
  if coalesce(cardinality(places), 0) < jsonb_array_length(results) then
    return query
    select k.id, k.status
    from (
      select distinct g.id, g.attempt from jsonb_to_recordset(results) as g (id uuid, attempt integer)
    ) as g
    join public.jobs as k on k.id = g.id
    where k.status = 'running' and k.locked_by = complete_jobs.worker and (g.attempt is null or k.attempt = g.attempt);
  end if;
  -- As in keep_house: by those that nobody waits for.
  if cardinality(places) >= 50 and (select r.last_value <= private.as_register(clock_timestamp()) from private.jobs_sweep_at as r) then
    perform private.sweep_jobs();
  end if;
end
$$;
comment on function private.complete_jobs(text, jsonb) is 'Ends held jobs, given as an array of {id, attempt, result}, all at once. Answers with those it ended: succeeded, or cancelled if that was asked. One that is still running is held by another transaction: call again for it. A job that is not in the answer was lost. Definer: the sidecar holds no table rights.';
revoke all on function private.complete_jobs(text, jsonb) from public, anon, authenticated, service_role;
grant execute on function private.complete_jobs(text, jsonb) to kijko_sidecar;

create function private.jobs_is_postponed(job public.jobs, outage boolean) returns boolean
language sql volatile set search_path = pg_catalog, pg_temp
return coalesce(outage, false) and not job.cancel_requested
  -- Not since it was queued: it may have waited longer than that for a worker.
  and coalesce(job.started_at, job.created_at) > clock_timestamp() - interval '24 hours';
comment on function private.jobs_is_postponed(public.jobs, boolean) is 'Whether a failed attempt does not count, because the vendor was down. A job waits for a vendor for up to 24 hours from its first attempt.';
revoke all on function private.jobs_is_postponed(public.jobs, boolean) from public, anon, authenticated, service_role;

create function private.status_after_failure(job public.jobs, retryable boolean, outage boolean default false) returns text
language sql volatile set search_path = pg_catalog, pg_temp
return case
  when job.cancel_requested then 'cancelled'
  when private.jobs_is_postponed(job, outage) then 'queued'
  when coalesce(retryable, false) and job.attempt - job.uncounted_attempts < job.max_attempts then 'queued'
  else 'dead'
end;
comment on function private.status_after_failure(public.jobs, boolean, boolean) is 'What becomes of a held job whose attempt failed.';
revoke all on function private.status_after_failure(public.jobs, boolean, boolean) from public, anon, authenticated, service_role;

create function private.code_after_failure(status text, code text) returns text
language sql immutable set search_path = ''
return case status when 'cancelled' then 'cancelled' when 'dead' then coalesce(code, 'internal') else code end;
comment on function private.code_after_failure(text, text) is 'The short name of a failure, as the job keeps it.';
revoke all on function private.code_after_failure(text, text) from public, anon, authenticated, service_role;

create function private.fail_job(
  worker text,
  job_id uuid,
  code text,
  message text,
  retryable boolean,
  retry_after interval default null,
  attempt integer default null,
  outage boolean default false
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs := private.hold_job(worker, job_id, attempt);
  status text;
begin
  if job.id is null then
    return null;
  end if;
  status := private.status_after_failure(job, retryable, outage);
  if status <> 'queued' then
    perform private.end_job(job, status, null, private.code_after_failure(status, code), message);
  elsif private.jobs_is_postponed(job, outage) then
    perform private.retry_job(job, 'postponed', code, message, retry_after, counted => false);
  else
    perform private.retry_job(job, 'retry', code, message, retry_after);
  end if;
  -- Last, so that the row of the kind is held only briefly.
  if outage and status <> 'cancelled' then
    perform private.jobs_record_outage(job.kind, code, retry_after);
  end if;
  return status;
end
$$;
comment on function private.fail_job(text, uuid, text, text, boolean, interval, integer, boolean) is 'Records a failure of a held job: queued again with back-off, dead, or cancelled if that was asked; the new status, or null when the lease was lost. An outage is a failure of the vendor: it counts against the kind, and for 24 hours from its first attempt not against the job. Definer: the sidecar holds no table rights.';
revoke all on function private.fail_job(text, uuid, text, text, boolean, interval, integer, boolean) from public, anon, authenticated, service_role;
grant execute on function private.fail_job(text, uuid, text, text, boolean, interval, integer, boolean) to kijko_sidecar;

create function private.release_jobs(worker text, ids uuid[]) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
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
      perform private.jobs_hand_back(job, 'released', job.kind);
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
  insert into public.job_notes (org_id, job_id, event, attempt, worker, data)
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
    select j.kind, j.status, j.run_at from public.jobs as j where j.status = 'queued' and j.attempt >= 0
    union all
    select j.kind, j.status, null from public.jobs as j where j.status = 'running' and j.attempt >= 0
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
    insert into public.job_notes (org_id, job_id, event, attempt, worker)
    values (job.org_id, job.id, 'cancel_requested', job.attempt, job.locked_by);
    perform pg_notify('kijko_job_cancel', job.id::text);
  end if;
  return job.status;
end
$$;
comment on function private.cancel_job(uuid) is 'Cancels a queued job at once and asks the worker of a running one to stop; returns the status it is in now. Called by definer functions only.';
revoke all on function private.cancel_job(uuid) from public, anon, authenticated, service_role;

create function private.purge_jobs(older_than interval default interval '30 days', max_jobs integer default 100000) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  -- Ids begin with the time of queueing: those to be deleted are among the first.
  later constant uuid := private.new_job_id(clock_timestamp() - older_than, 4095);
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
comment on function private.purge_jobs(interval, integer) is 'Deletes finished jobs, those queued first at first, and with them their events, once they are old enough; at most max_jobs in one transaction. Executions stay. Definer: nobody may delete jobs.';
revoke all on function private.purge_jobs(interval, integer) from public, anon, authenticated, service_role;
grant execute on function private.purge_jobs(interval, integer) to service_role;

-- ----------------------------------------------------------------------------
-- Schedule. cron.schedule replaces the entry of the same name, so a replay is harmless.
-- ----------------------------------------------------------------------------

select cron.schedule('kijko-reap-jobs', '* * * * *', 'select private.reap_jobs(); select private.tend_jobs(); select private.tend_lanes()');
-- A little each hour instead of all at night: short transactions, and vacuum keeps up.
select cron.schedule('kijko-purge-jobs', '17 * * * *', 'select private.purge_jobs()');
-- pg_cron never deletes its own log; row level security limits this to our entries.
select cron.schedule(
  'kijko-purge-cron-log', '47 * * * *',
  $$delete from cron.job_run_details where coalesce(end_time, start_time) < now() - interval '1 day'$$
);
