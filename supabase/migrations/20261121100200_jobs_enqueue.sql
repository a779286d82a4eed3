-- ============================================================================
-- Jobs: how they are queued.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- NOTIFY only wakes workers. They poll as well, so a lost notification delays a job and
-- never loses it.
-- ----------------------------------------------------------------------------

create function private.jobs_add_lane(kind text, priority smallint, org uuid, concurrency_key text) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  -- Does not wait for a session that opens the same lane. If that session rolls back, pg_cron opens the lane within a minute.
  insert into private.job_lanes (kind, priority, org, concurrency_key, turn)
  select jobs_add_lane.kind, jobs_add_lane.priority, jobs_add_lane.org, jobs_add_lane.concurrency_key,
    coalesce((select min(l.turn) from private.job_lanes as l where l.org = jobs_add_lane.org), nextval('private.job_lanes_turn_seq'))
  where pg_try_advisory_xact_lock(hashtextextended(
    concat_ws(':', 'kijko-lane', jobs_add_lane.kind, jobs_add_lane.priority, jobs_add_lane.org, jobs_add_lane.concurrency_key), 20261121
  ))
  on conflict do nothing
$$;
comment on function private.jobs_add_lane(text, smallint, uuid, text) is 'Opens one lane, unless another session is opening it. An organization without lanes joins the round as the last.';

create function private.jobs_needs_notification(kind text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  latest constant bigint := private.jobs_to_found_watermark(kind, clock_timestamp() + interval '1 second');
  found_at bigint;
begin
  select w.last_value into found_at from private.jobs_found_at as w;
  -- A worker that was just notified, or has just found jobs, polls again after 1 ms, then after 2 ms and so on.
  if found_at between private.jobs_to_found_watermark(kind, clock_timestamp() - interval '1 millisecond') and latest then
    return false;
  end if;
  -- Transactions that notify commit one after the other, each with its own flush. While the disk is slow, they would queue up
  -- for hundreds of milliseconds. So while one is committing, the others leave the notification to it: the worker that it
  -- wakes finds their jobs when it polls again. Not for longer than 200 ms, since that transaction may take long or fail.
  return pg_try_advisory_xact_lock(hashtextextended('kijko-jobs-notify:' || kind, 20261121))
    or found_at not between private.jobs_to_found_watermark(kind, clock_timestamp() - interval '200 milliseconds') and latest;
end
$$;
comment on function private.jobs_needs_notification(text) is 'Whether the transaction that queues a job of this kind must notify workers, because none will look for it soon.';

create function private.jobs_open_lane(kind text, priority smallint, org_id uuid, concurrency_key text, run_at timestamptz) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  if not exists (
    select 1 from private.job_lanes as l
    where l.kind = jobs_open_lane.kind and l.priority = jobs_open_lane.priority and l.org = jobs_open_lane.org_id
      and l.concurrency_key = coalesce(jobs_open_lane.concurrency_key, '')
  ) then
    if octet_length(jobs_open_lane.kind) > 63 or jobs_open_lane.kind !~ '^[a-z][a-z0-9_.]*$' then
      perform kijko.fail('bad_request', 'kind: a small letter, then small letters, digits, "_" or "."; at most 63');
    end if;
    perform private.jobs_add_lane(jobs_open_lane.kind, jobs_open_lane.priority, jobs_open_lane.org_id, coalesce(jobs_open_lane.concurrency_key, ''));
  end if;
  if (select private.jobs_to_watermark(jobs_open_lane.run_at) < r.last_value from private.jobs_due_watermark as r) then
    perform setval('private.jobs_due_watermark', private.jobs_to_watermark(jobs_open_lane.run_at));
  end if;
  if jobs_open_lane.run_at <= clock_timestamp() and private.jobs_needs_notification(jobs_open_lane.kind) then
    perform pg_notify('kijko_jobs', jobs_open_lane.kind);
    perform setval('private.jobs_found_at', private.jobs_to_found_watermark(jobs_open_lane.kind, clock_timestamp()));
  end if;
end
$$;
comment on function private.jobs_open_lane(text, smallint, uuid, text, timestamptz) is 'Opens the lane of jobs that were just queued, moves the watermark back to run_at, the earliest of them, and wakes workers if that is due.';

create function private.jobs_after_insert() returns trigger
language plpgsql set search_path = ''
as $$
begin
  -- In one order, so that two sessions that open the same lanes cannot deadlock.
  perform private.jobs_open_lane(q.kind, q.priority, q.org_id, q.concurrency_key, q.run_at)
  from (
    select n.kind, n.priority, n.org_id, n.concurrency_key, min(n.run_at) as run_at
    from queued as n where n.status = 'queued'
    group by n.kind, n.priority, n.org_id, n.concurrency_key
    order by n.kind, n.priority, n.org_id, n.concurrency_key
  ) as q;
  return null;
end
$$;
comment on function private.jobs_after_insert() is 'Trigger: opens the lanes of new jobs, once for each statement.';
create trigger jobs_queued after insert on public.jobs
  referencing new table as queued for each statement execute function private.jobs_after_insert();

create function private.jobs_after_requeue() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform private.jobs_open_lane(new.kind, new.priority, new.org_id, new.concurrency_key, new.run_at);
  return null;
end
$$;
comment on function private.jobs_after_requeue() is 'Trigger: opens the lane of a job that is queued again or at another time.';
create trigger jobs_requeued after update of status, run_at, priority, kind on public.jobs
  for each row when (new.status = 'queued') execute function private.jobs_after_requeue();

-- ----------------------------------------------------------------------------
-- Not definer and not granted: domains call these in their own definer functions.
-- ----------------------------------------------------------------------------

create function private.jobs_enqueue_many(jobs jsonb) returns table (n bigint, id uuid)
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
    select g.n, private.jobs_new_id(started, g.n) as id,
      g.org_id, g.kind, coalesce(g.payload, '{}') as payload, coalesce(g.priority, 0::smallint) as priority,
      coalesce(g.run_at, clock_timestamp()) as run_at, coalesce(g.max_attempts, 5) as max_attempts,
      coalesce(g.timeout_seconds, 300) as timeout_seconds, g.unique_key, g.concurrency_key, g.project_id,
      caller.user_id as created_by, caller.api_key_id as created_by_key
    from kijko.actor() as caller
    cross join rows from (
      jsonb_to_recordset(jobs) as (
        org_id uuid, kind text, payload jsonb, priority smallint, run_at timestamptz, max_attempts integer,
        timeout_seconds integer, unique_key text, concurrency_key text, project_id uuid
      )
    ) with ordinality as g (
      org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key, project_id, n
    )
  ),
  -- "on conflict" writes each row twice to the write-ahead log, so it is used only for jobs with a key.
  plain as (
    insert into public.jobs (
      id, org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, concurrency_key, created_by, created_by_key, project_id
    )
    select g.id, g.org_id, g.kind, g.payload, g.priority, g.run_at, g.max_attempts, g.timeout_seconds, g.concurrency_key, g.created_by,
      g.created_by_key, g.project_id
    from given as g where g.unique_key is null
  ),
  keyed as (
    insert into public.jobs as j (
      id, org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key, created_by, created_by_key,
      project_id
    )
    select g.id, g.org_id, g.kind, g.payload, g.priority, g.run_at, g.max_attempts, g.timeout_seconds, g.unique_key,
      g.concurrency_key, g.created_by, g.created_by_key, g.project_id
    from given as g where g.unique_key is not null
    on conflict (org_id, kind, unique_key) where unique_key is not null and status in ('queued', 'running') do nothing
    returning j.id
  )
  select g.n, case when g.unique_key is null or g.id in (select k.id from keyed as k) then g.id end from given as g;
end
$$;
comment on function private.jobs_enqueue_many(jsonb) is 'Queues an array of jobs in one statement: objects with org_id, kind and, where wanted, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key, project_id. Answers with the id for each, null when a live job has the same unique_key. Called by definer functions only.';

create function private.jobs_enqueue(
  org_id uuid,
  kind text,
  payload jsonb default '{}',
  priority smallint default 0,
  run_at timestamptz default clock_timestamp(),
  max_attempts integer default 5,
  timeout_seconds integer default 300,
  unique_key text default null,
  concurrency_key text default null,
  project_id uuid default null
) returns uuid
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  new_id uuid;
begin
  -- An insert of its own is faster than jobs_enqueue_many() with one job, which parses JSON and runs two inserts.
  insert into public.jobs as j (
    id, org_id, kind, payload, priority, run_at, max_attempts, timeout_seconds, unique_key, concurrency_key, project_id
  )
  values (
    private.jobs_new_id(clock_timestamp(), 0), jobs_enqueue.org_id, jobs_enqueue.kind, jobs_enqueue.payload, jobs_enqueue.priority,
    jobs_enqueue.run_at, jobs_enqueue.max_attempts, jobs_enqueue.timeout_seconds, jobs_enqueue.unique_key,
    jobs_enqueue.concurrency_key, jobs_enqueue.project_id
  )
  on conflict (org_id, kind, unique_key) where unique_key is not null and status in ('queued', 'running') do nothing
  returning j.id into new_id;
  return new_id;
end
$$;
comment on function private.jobs_enqueue(uuid, text, jsonb, smallint, timestamptz, integer, integer, text, text, uuid) is 'Queues one job and returns its id, or null when a live job has the same unique_key. A private project hides the jobs that name it. Called by definer functions only.';
