-- ============================================================================
-- Jobs: what a worker reports.
-- ============================================================================

create function private.jobs_heartbeat(worker text, ids uuid[], lease interval)
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
    -- Without waiting: one locked row must not delay the other leases until they end.
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
comment on function private.jobs_heartbeat(text, uuid[], interval) is 'Extends the leases of jobs this worker still holds and says which are to be cancelled. If extended is false, another transaction holds the row: the lease is unchanged, and a later heartbeat may extend it. A job that is not in the answer is lost. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_heartbeat(text, uuid[], interval) to kijko_sidecar;

create function private.jobs_complete_together(worker text, results jsonb) returns table (id uuid, status text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  places tid[];
  outcomes jsonb[];
  more tid[];
  more_outcomes jsonb[];
begin
  -- Locked by a statement of its own: only the next statement sees the new version of a row that a heartbeat has just changed.
  -- In the order of ids, so that two calls cannot deadlock. A lateral subquery, because the plan of a join that was made
  -- while the table was small read the whole table for each job.
  select array_agg(j.place), array_agg(g.result) into places, outcomes
  from (
    select distinct on (g.id) g.id, g.attempt, g.result
    from jsonb_to_recordset(results) as g (id uuid, attempt integer, result jsonb)
    order by g.id
  ) as g
  cross join lateral (
    select k.ctid as place from public.jobs as k
    where k.id = g.id and k.status = 'running' and k.locked_by = jobs_complete_together.worker
      and (g.attempt is null or k.attempt = g.attempt)
    for update skip locked
  ) as j;
  if coalesce(cardinality(places), 0) < jsonb_array_length(results) then
    -- Claims and heartbeats hold rows briefly, so this waits for them. A row that is held longer must not delay the others.
    begin
      select array_agg(j.place), array_agg(g.result) into more, more_outcomes
      from (
        select distinct on (g.id) g.id, g.attempt, g.result
        from jsonb_to_recordset(results) as g (id uuid, attempt integer, result jsonb)
        order by g.id
      ) as g
      cross join lateral (
        select k.ctid as place from public.jobs as k
        where k.id = g.id and k.status = 'running' and k.locked_by = jobs_complete_together.worker
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
      last_worker = case when not j.cancel_requested then jobs_complete_together.worker end,
      finished_at = clock_timestamp(),
      updated_at = clock_timestamp()
    from unnest(places, outcomes) as h (place, outcome)
    where j.ctid = h.place
    returning j.id, j.org_id, j.kind, j.concurrency_key, j.status, j.attempt, j.error_code
  ),
  logged as (
    insert into public.job_event_log (org_id, job_id, event, attempt, worker, data)
    select e.org_id, e.id, e.status, e.attempt, jobs_complete_together.worker, jsonb_build_object('code', e.error_code)
    from ended as e where e.status = 'cancelled'
  ),
  woken as materialized (
    select private.jobs_notify_free_slot(e.org_id, e.concurrency_key, e.kind)
    from (select distinct d.org_id, d.concurrency_key, d.kind from ended as d) as e
  ),
  recovered as materialized (
    select private.jobs_record_recovery(s.kind, s.org_id)
    from (select distinct d.kind, d.org_id from ended as d where d.status = 'succeeded') as s
    where exists (select 1 from private.job_kind_pauses as p where p.kind = s.kind)
      or exists (select 1 from private.job_org_pauses as p where p.kind = s.kind and p.org = s.org_id)
  )
  select e.id, e.status from ended as e where (select count(*) from woken) >= 0 and (select count(*) from recovered) >= 0;
  if coalesce(cardinality(places), 0) < jsonb_array_length(results) then
    return query
    select k.id, k.status
    from (
      select distinct g.id, g.attempt from jsonb_to_recordset(results) as g (id uuid, attempt integer)
    ) as g
    join public.jobs as k on k.id = g.id
    where k.status = 'running' and k.locked_by = jobs_complete_together.worker and (g.attempt is null or k.attempt = g.attempt);
  end if;
end
$$;
comment on function private.jobs_complete_together(text, jsonb) is 'Ends these held jobs, or fails and ends none. Called by jobs_complete(), under its settings.';

create function private.jobs_complete(worker text, results jsonb) returns table (id uuid, status text, code text, message text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set lock_timeout = '100ms'
as $$
#variable_conflict use_column
declare
  ids uuid[];
  statuses text[];
  entry jsonb;
begin
  if jsonb_typeof(results) is distinct from 'array' then
    perform kijko.fail('bad_request', 'results: an array');
  end if;
  begin
    -- Collected first: rows that "return query" has returned would stay after an error.
    select array_agg(c.id), array_agg(c.status) into ids, statuses
    from private.jobs_complete_together(jobs_complete.worker, results) as c;
  exception when others then
    -- A result that is alone is refused by the call itself.
    if jsonb_array_length(results) = 1 then
      raise;
    end if;
    for entry in select r.value from jsonb_array_elements(results) as r loop
      begin
        select c.id, c.status, null, null into id, status, code, message
        from private.jobs_complete_together(jobs_complete.worker, jsonb_build_array(entry)) as c;
        continue when not found;
      exception when others then
        id := private.as_uuid(entry ->> 'id');
        status := 'refused';
        code := sqlstate;
        message := sqlerrm;
      end;
      return next;
    end loop;
  end;
  return query select c.id, c.status, null::text, null::text from unnest(ids, statuses) as c (id, status);
  -- As in jobs_maybe_run_maintenance(): only large batches do it, because no job waits for their answer.
  if cardinality(ids) >= 50 and (select r.last_value <= private.jobs_to_watermark(clock_timestamp()) from private.jobs_prune_at as r) then
    perform private.jobs_prune_dead_tuples();
  end if;
end
$$;
comment on function private.jobs_complete(text, jsonb) is 'Ends held jobs, given as an array of {id, attempt, result}, all at once. Returns those it ended: succeeded, or cancelled if that was asked. One that is still running is held by another transaction: call again for it. A refused one has the SQLSTATE and the message of the refusal, and does not affect the others. A job that is not returned was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_complete(text, jsonb) to kijko_sidecar;

create function private.jobs_is_postponed(job public.jobs, outage boolean) returns boolean
language sql volatile set search_path = pg_catalog, pg_temp
return coalesce(outage, false) and not job.cancel_requested
  -- From the first attempt: the job may have waited longer than a day for a worker.
  and coalesce(job.started_at, job.created_at) > clock_timestamp() - interval '24 hours';
comment on function private.jobs_is_postponed(public.jobs, boolean) is 'Whether a failed attempt does not count, because the vendor was down. A job waits for a vendor for up to 24 hours from its first attempt.';

create function private.jobs_status_after_failure(job public.jobs, retryable boolean, outage boolean default false) returns text
language sql volatile set search_path = pg_catalog, pg_temp
return case
  when job.cancel_requested then 'cancelled'
  when private.jobs_is_postponed(job, outage) then 'queued'
  when coalesce(retryable, false) and job.attempt - job.uncounted_attempts < job.max_attempts then 'queued'
  else 'dead'
end;
comment on function private.jobs_status_after_failure(public.jobs, boolean, boolean) is 'Status of a held job after a failed attempt.';

create function private.jobs_code_after_failure(status text, code text) returns text
language sql immutable set search_path = ''
return case status when 'cancelled' then 'cancelled' when 'dead' then coalesce(code, 'internal') else code end;
comment on function private.jobs_code_after_failure(text, text) is 'Error code that the job keeps for this status.';

create function private.jobs_fail(
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
  job public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  status text;
begin
  if job.id is null then
    return null;
  end if;
  status := private.jobs_status_after_failure(job, retryable, outage);
  if status <> 'queued' then
    perform private.jobs_finish(job, status, null, private.jobs_code_after_failure(status, code), message);
  elsif private.jobs_is_postponed(job, outage) then
    perform private.jobs_retry(job, 'postponed', code, message, retry_after, counted => false);
  else
    perform private.jobs_retry(job, 'retry', code, message, retry_after);
  end if;
  -- Last, so that the rows of the pauses are held only briefly.
  if outage and status <> 'cancelled' then
    perform private.jobs_record_outage(job.kind, job.org_id, code, retry_after);
  end if;
  return status;
end
$$;
comment on function private.jobs_fail(text, uuid, text, text, boolean, interval, integer, boolean) is 'Records a failure of a held job: queued again with back-off, dead, or cancelled if that was asked; the new status, or null when the lease was lost. An outage is a failure of the vendor: it counts against the organization''s jobs of that kind, together with others'' against the kind, and for 24 hours from its first attempt not against the job. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_fail(text, uuid, text, text, boolean, interval, integer, boolean) to kijko_sidecar;

create function private.jobs_release(worker text, ids uuid[], pause interval default '0') returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  job public.jobs;
  released integer := 0;
begin
  if pause is null or pause not between interval '0' and interval '1 hour' then
    perform kijko.fail('bad_request', 'pause: 0 to 1 hour');
  end if;
  for job in
    select j.* from public.jobs as j
    where j.id = any (ids) and j.status = 'running' and j.locked_by = worker
    order by j.id
    for update
  loop
    if job.cancel_requested then
      perform private.jobs_finish(job, 'cancelled', null, 'cancelled', null);
    else
      perform private.jobs_requeue(job, 'released', job.kind, pause);
    end if;
    released := released + 1;
  end loop;
  return released;
end
$$;
comment on function private.jobs_release(text, uuid[], interval) is 'Hands back jobs that a worker still holds: when it stops normally, or because another transaction holds their rows. They can be claimed after the pause, and the attempt does not count, since the job was not at fault. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_release(text, uuid[], interval) to kijko_sidecar;

create function private.jobs_add_event(worker text, job_id uuid, event text, data jsonb default '{}') returns boolean
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.jobs_lock_leased(worker, job_id, null);
begin
  if job.id is null then
    return false;
  end if;
  insert into public.job_event_log (org_id, job_id, event, attempt, worker, data)
  values (job.org_id, job.id, jobs_add_event.event, job.attempt, job.locked_by, coalesce(jobs_add_event.data, '{}'));
  return true;
end
$$;
comment on function private.jobs_add_event(text, uuid, text, jsonb) is 'Appends an event to a held job; false when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_add_event(text, uuid, text, jsonb) to kijko_sidecar;

create function private.jobs_stats()
returns table (kind text, queued bigint, running bigint, dead bigint, oldest_queued_seconds double precision, overdue bigint)
language sql stable security definer set search_path = ''
as $$
  -- One branch for each partial index: ended jobs, most of the table, are not read.
  select
    live.kind,
    count(*) filter (where live.status = 'queued'),
    count(*) filter (where live.status = 'running'),
    count(*) filter (where live.status = 'dead'),
    coalesce(greatest(extract(epoch from now() - min(live.run_at) filter (where live.status = 'queued')), 0), 0)::double precision,
    count(*) filter (where live.locked_until < clock_timestamp())
  from (
    select j.kind, j.status, j.run_at, null::timestamptz as locked_until from public.jobs as j where j.status = 'queued' and j.attempt >= 0
    union all
    select j.kind, j.status, null, j.locked_until from public.jobs as j where j.status = 'running' and j.attempt >= 0
    union all
    select j.kind, j.status, null, null from public.jobs as j where j.status = 'dead'
  ) as live
  group by live.kind
$$;
comment on function private.jobs_stats() is 'Depth and age of the queue by kind, for readiness and metrics; overdue are those that run with an ended lease. Definer: the sidecar holds no table rights.';
grant execute on function private.jobs_stats() to kijko_sidecar, service_role;
