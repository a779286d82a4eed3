-- ============================================================================
-- Executions: one with all that belongs to it, and several at once.
-- ============================================================================

create function private.executions_attempts(org uuid, job uuid) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(
    jsonb_build_object(
      'attempt', a.attempt, 'started_at', a.started_at, 'ended_at', a.ended_at, 'outcome', a.ending ->> 'event',
      'error_code', a.ending #>> '{data,code}', 'error', a.ending #>> '{data,message}'
    )
    order by a.attempt
  ), '[]')
  from (
    select v.attempt,
      min(v.created_at) filter (where v.event = 'claimed') as started_at,
      max(v.created_at) filter (where e.ends) as ended_at,
      (array_agg(jsonb_build_object('event', v.event, 'data', v.data) order by v.seq desc) filter (where e.ends))[1] as ending
    from public.job_events as v
    cross join lateral (
      select v.event in ('succeeded', 'dead', 'cancelled', 'retry', 'postponed', 'released', 'redirected', 'lease_expired')
    ) as e (ends)
    where v.org_id = org and v.job_id = job and v.attempt > 0
    group by v.attempt
  ) as a
$$;
comment on function private.executions_attempts(uuid, uuid) is 'The attempts of a job that the caller sees, as an array; outcome is the event that ended one, null while it runs.';
-- Called by a function that runs as its caller.
grant execute on function private.executions_attempts(uuid, uuid) to authenticated, service_role;

create function public.execution_detail(id uuid) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  execution public.executions;
begin
  select e.* into execution from public.executions as e where e.id = execution_detail.id;
  if execution.id is null then
    perform kijko.fail('not_found', 'no such execution');
  end if;
  return to_jsonb(execution) || jsonb_build_object(
    'skill', (select jsonb_build_object('id', s.id, 'name', s.name) from public.skills as s where s.org_id = execution.org_id and s.id = execution.skill_id),
    'project', (select jsonb_build_object('id', p.id, 'name', p.name) from public.projects as p where p.org_id = execution.org_id and p.id = execution.project_id),
    'text', (
      select string_agg(c.text, '' order by c.seq)
      from public.execution_text_chunks as c
      where c.org_id = execution.org_id and c.execution_id = execution.id
        and c.attempt = (select max(l.attempt) from public.execution_text_chunks as l where l.org_id = execution.org_id and l.execution_id = execution.id)
    ),
    'attempts', private.executions_attempts(execution.org_id, execution.job_id),
    'events', (
      select coalesce(jsonb_agg(
        jsonb_build_object('event', v.event, 'attempt', v.attempt, 'created_at', v.created_at, 'data', v.data) order by v.seq
      ), '[]')
      from public.job_events as v where v.org_id = execution.org_id and v.job_id = execution.job_id
    ),
    'retried_execution', (select jsonb_build_object('id', r.id, 'status', r.status) from public.executions as r where r.org_id = execution.org_id and r.id = execution.retry_of),
    'retries', (
      select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'status', r.status, 'created_at', r.created_at) order by r.created_at, r.id), '[]')
      from public.executions as r where r.org_id = execution.org_id and r.retry_of = execution.id
    )
  );
end
$$;
comment on function public.execution_detail(uuid) is 'One execution as an object: its columns, skill and project {id, name}, text (what a running one has written so far), attempts {attempt, started_at, ended_at, outcome, error_code, error}, events {event, attempt, created_at, data}, retried_execution and retries {id, status}. Runs as the caller, so it holds what the caller may read: attempts and events need jobs:read, and are gone when the job is purged.';
grant execute on function public.execution_detail(uuid) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Several at once
-- ----------------------------------------------------------------------------

create function private.executions_refusal(state text, message text, details text, hint text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- In a request the message is the body of the answer, and the details have its status.
  if state = 'PGRST' and (details::jsonb ->> 'status')::integer < 500 then
    return message::jsonb;
  end if;
  if state <> 'PGRST' and exists (select 1 from kijko.error_codes as c where c.code = split_part(message, ':', 1) and c.sqlstate = state and c.http_status < 500) then
    return jsonb_build_object('code', split_part(message, ':', 1), 'message', message, 'details', nullif(details, ''), 'hint', nullif(hint, ''));
  end if;
  return null;
end
$$;
comment on function private.executions_refusal(text, text, text, text) is 'The {code, message, details, hint} of an error that kijko.fail() raised, by its SQLSTATE, message, detail and hint. Null for every other error, and for those on our side.';

create function private.executions_require_ids(ids uuid[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.tenancy_require_caller();
  if (cardinality(ids) between 1 and 100) is not true then
    perform kijko.fail('invalid_input', 'ids: 1 to 100 executions');
  end if;
  if (select count(distinct i.id) from unnest(ids) as i (id)) <> cardinality(ids) then
    perform kijko.fail('invalid_input', 'ids: each once, and not null');
  end if;
end
$$;
comment on function private.executions_require_ids(uuid[]) is 'Checks the list of a function that works on several executions.';

create type private.execution_outcome as (id uuid, execution public.executions, error jsonb);
comment on type private.execution_outcome is 'What became of one of several executions: the execution, or the error {code, message, details, hint} that refused it.';

create function private.executions_each(ids uuid[], action text) returns setof private.execution_outcome
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  wanted uuid;
  execution public.executions;
  error jsonb;
  state text;
  message text;
  details text;
  hint text;
begin
  perform private.executions_require_ids(ids);
  -- In one order, so that two calls do not deadlock.
  for wanted in select i.id from unnest(ids) as i (id) order by i.id loop
    execution := null;
    error := null;
    begin
      if action = 'retry' then
        execution := public.retry_execution(wanted);
      else
        execution := public.cancel_execution(wanted);
      end if;
    exception when others then
      get stacked diagnostics
        state = returned_sqlstate, message = message_text, details = pg_exception_detail, hint = pg_exception_hint;
      error := private.executions_refusal(state, message, details, hint);
      -- A fault, a deadlock or a timeout concerns the whole call.
      if error is null then
        raise;
      end if;
    end;
    return next row(wanted, execution, error)::private.execution_outcome;
  end loop;
end
$$;
comment on function private.executions_each(uuid[], text) is 'Retries or cancels each of these executions. The refusal of one leaves the others.';

create function public.retry_executions(ids uuid[]) returns table (id uuid, execution public.executions, error jsonb)
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select r.id, r.execution, r.error from private.executions_each(ids, 'retry') as r order by array_position(ids, r.id)
$$;
comment on function public.retry_executions(uuid[]) is 'retry_execution() for up to 100 executions: one row for each, in the order of ids, with the new execution or with the error {code, message, details, hint} that refused it. Nullable: execution, error. Definer: users only read executions.';
grant execute on function public.retry_executions(uuid[]) to authenticated;

create function public.cancel_executions(ids uuid[]) returns table (id uuid, execution public.executions, error jsonb)
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select r.id, r.execution, r.error from private.executions_each(ids, 'cancel') as r order by array_position(ids, r.id)
$$;
comment on function public.cancel_executions(uuid[]) is 'cancel_execution() for up to 100 executions: one row for each, in the order of ids, with the execution or with the error {code, message, details, hint} that refused it. Nullable: execution, error. Definer: users only read executions.';
grant execute on function public.cancel_executions(uuid[]) to authenticated;
