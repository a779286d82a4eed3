-- ============================================================================
-- Executions: calls of models, each reserved before and settled after it.
-- ============================================================================

-- No foreign key to organizations: it would lock the organization after the job, and its deletion locks the job after the
-- organization. A call goes with its execution.
create table private.execution_calls (
  id uuid primary key,
  org_id uuid not null,
  execution_id uuid not null,
  worker text not null check (char_length(worker) <= 200),
  attempt integer not null,
  tokens_hold_id uuid not null,
  cost_hold_id uuid,
  model text not null check (char_length(model) <= 200),
  max_use jsonb not null,
  used jsonb,
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now(),
  foreign key (org_id, execution_id) references public.executions (org_id, id) on delete cascade
);
create index execution_calls_execution_id_idx on private.execution_calls (org_id, execution_id);
comment on table private.execution_calls is 'Calls of models that are reserved and not yet settled. Settling or releasing a call deletes its row, so it counts once.';
comment on column private.execution_calls.id is 'Chosen by the worker, one for each call; also the key of its holds.';
comment on column private.execution_calls.org_id is 'Organization that pays.';
comment on column private.execution_calls.execution_id is 'Execution that it is made for.';
comment on column private.execution_calls.worker is 'Worker that makes it.';
comment on column private.execution_calls.attempt is 'Attempt of the job.';
comment on column private.execution_calls.tokens_hold_id is 'Hold of the meter llm_tokens.';
comment on column private.execution_calls.cost_hold_id is 'Hold of the meter llm_cost_microusd; null when the call is free.';
comment on column private.execution_calls.model is 'Model that is called.';
comment on column private.execution_calls.max_use is 'The most that it can use: input_tokens, output_tokens, images, cost_microusd.';
comment on column private.execution_calls.used is 'What it has used, in the form of models_cost() with cost_microusd: written just before the row is deleted, for triggers. Null when its worker was lost.';
comment on column private.execution_calls.created_by is 'Always null: workers make the calls.';
comment on column private.execution_calls.created_at is 'When it was reserved.';
select private.describe_data('private.execution_calls', '{
  "execution_id, worker, attempt, tokens_hold_id, cost_hold_id, model, max_use, used": "settles the reservation of a model call"
}');
alter table private.execution_calls enable row level security;

create function private.executions_release_calls(org_id uuid, execution_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  holds uuid[];
begin
  -- Without the row, the use of a call is not recorded either when its lost worker reports it later.
  with lost as (
    delete from private.execution_calls as c
    where c.org_id = executions_release_calls.org_id and c.execution_id = executions_release_calls.execution_id
    returning c.tokens_hold_id, c.cost_hold_id
  )
  select array_agg(h.hold_id) into holds
  from lost as l
  cross join lateral (values (l.tokens_hold_id), (l.cost_hold_id)) as h (hold_id)
  where h.hold_id is not null;
  perform kijko.release(h.hold_id) from unnest(holds) as h (hold_id);
end
$$;
comment on function private.executions_release_calls(uuid, uuid) is 'Releases the holds of an execution''s calls whose worker was lost.';

create function private.executions_release_holds() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.hold_id is not null and new.status <> 'queued' then
    perform kijko.release(new.hold_id);
    new.hold_id := null;
  end if;
  perform private.executions_release_calls(new.org_id, new.id);
  return new;
end
$$;
comment on function private.executions_release_holds() is 'Trigger: releases the hold of an execution that ends before its model was called, and the holds of an attempt that has ended. Runs as postgres inside the functions that end attempts.';
create trigger executions_release before update of status on public.executions
  for each row when (old.status in ('queued', 'running') and new.status <> 'running' and old.status <> new.status)
  execute function private.executions_release_holds();

create function private.executions_lock_running(job public.jobs) returns public.executions
language sql set search_path = ''
as $$
  select e.* from public.executions as e
  where e.org_id = job.org_id and e.job_id = job.id and e.status = 'running'
  for update
$$;
comment on function private.executions_lock_running(public.jobs) is 'Locks the running execution of a locked job; returns nothing when there is none.';

create function private.executions_reserve_call(worker text, job_id uuid, attempt integer, call jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  job public.jobs := private.jobs_lock_leased(worker, executions_reserve_call.job_id, executions_reserve_call.attempt);
  execution public.executions;
  call_id constant uuid := (call ->> 'id')::uuid;
  tokens constant bigint := greatest(private.models_parse_count(call -> 'input_tokens') + private.models_parse_count(call -> 'output_tokens'), 1);
  cost bigint;
  refusal text;
  refused_by text;
  ttl interval;
  tokens_hold uuid;
  cost_hold uuid;
begin
  if job.id is null then
    return null;
  end if;
  if job.cancel_requested then
    perform private.jobs_finish(job, 'cancelled', null, 'cancelled', null);
    return null;
  end if;
  execution := private.executions_lock_running(job);
  if execution.id is null then
    return null;
  end if;
  -- A repeated call, because the answer got lost.
  if exists (select 1 from private.execution_calls as c where c.id = call_id and c.execution_id = execution.id) then
    return jsonb_build_object('call_id', call_id);
  end if;
  perform private.executions_release_calls(execution.org_id, execution.id);

  refusal := private.models_unpriced_reason(execution.model, call ->> 'service_tier');
  if refusal is not null then
    return jsonb_build_object('refused', 'model_not_priced', 'message', refusal);
  end if;
  cost := private.models_max_cost(execution.model, call);
  -- How long the holds of a crashed worker last, unless the job is taken over before.
  ttl := make_interval(secs => job.timeout_seconds) + interval '10 minutes';
  begin
    tokens_hold := kijko.reserve(execution.org_id, 'llm_tokens', tokens, ttl, call_id::text);
    if cost > 0 then
      cost_hold := kijko.reserve(execution.org_id, 'llm_cost_microusd', cost, ttl, call_id::text);
    end if;
    -- A trigger holds against the organization's budgets.
    insert into private.execution_calls (id, org_id, execution_id, worker, attempt, tokens_hold_id, cost_hold_id, model, max_use)
    values (
      call_id, execution.org_id, execution.id, worker, job.attempt, tokens_hold, cost_hold, execution.model,
      jsonb_build_object(
        'input_tokens', private.models_parse_count(call -> 'input_tokens'), 'output_tokens', private.models_parse_count(call -> 'output_tokens'),
        'images', 0, 'cost_microusd', cost
      )
    );
  exception when sqlstate 'KJ429' or sqlstate 'KJ431' then
    get stacked diagnostics refusal = pg_exception_detail, refused_by = returned_sqlstate;
    return jsonb_build_object('refused', case refused_by when 'KJ431' then 'budget_exceeded' else 'quota_exceeded' end, 'message', refusal);
  end;

  if execution.hold_id is not null then
    perform private.executions_settle_hold(execution.hold_id, 1, execution.org_id, 'executions', execution.usage_attributes);
    update public.executions as e set hold_id = null where e.id = execution.id;
  end if;
  return jsonb_build_object('call_id', call_id);
end
$$;
comment on function private.executions_reserve_call(text, uuid, integer, jsonb) is 'Before a model is called: reserves the most tokens and cost that the call can use, and settles the execution. Call: id, input_tokens, output_tokens at most, service_tier. Answers {call_id}; {refused, message} when it does not fit (quota_exceeded, budget_exceeded) or has no price (model_not_priced); null when the lease was lost or it was cancelled. Definer: the sidecar holds no table rights.';
grant execute on function private.executions_reserve_call(text, uuid, integer, jsonb) to kijko_sidecar;

create function private.executions_call_cost(execution public.executions, usage jsonb) returns bigint
language sql stable
return private.models_cost(execution.model, nullif(usage ->> 'model', ''), usage);
comment on function private.executions_call_cost(public.executions, jsonb) is 'What a call of an execution''s model costs, by what the vendor reports; null when no price is known.';

create function private.executions_settle_call(execution public.executions, usage jsonb, call_cost bigint) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  call_id constant uuid := (usage ->> 'call_id')::uuid;
  tokens constant bigint := private.models_parse_count(usage -> 'input_tokens') + private.models_parse_count(usage -> 'output_tokens');
  cost constant bigint := coalesce(call_cost, 0);
  call private.execution_calls;
begin
  if call_id is not null then
    update private.execution_calls as c set used = usage || jsonb_build_object('cost_microusd', cost)
    where c.id = call_id and c.execution_id = execution.id;
    delete from private.execution_calls as c where c.id = call_id and c.execution_id = execution.id returning * into call;
    if call.id is null then
      return null;
    end if;
  end if;
  if tokens > 0 or call.tokens_hold_id is not null then
    perform private.executions_settle_hold(
      coalesce(call.tokens_hold_id, gen_random_uuid()), tokens, execution.org_id, 'llm_tokens', execution.usage_attributes
    );
  end if;
  if cost > 0 or call.cost_hold_id is not null then
    perform private.executions_settle_hold(
      coalesce(call.cost_hold_id, gen_random_uuid()), cost, execution.org_id, 'llm_cost_microusd', execution.usage_attributes
    );
  end if;
  if execution.hold_id is not null and tokens > 0 then
    perform private.executions_settle_hold(execution.hold_id, 1, execution.org_id, 'executions', execution.usage_attributes);
  end if;
  return cost;
end
$$;
comment on function private.executions_settle_call(public.executions, jsonb, bigint) is 'Settles the holds of a call with what it used, even above the limits, and returns its cost: call_cost, the answer of executions_call_cost(), or 0 when no price is known. Null when the call (usage''s call_id) was settled before.';

create function private.executions_add_usage(execution public.executions, usage jsonb, cost bigint) returns public.executions
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  tokens_in constant bigint := private.models_parse_count(usage -> 'input_tokens');
  cache_read constant bigint := least(private.models_parse_count(usage -> 'cache_read_tokens'), tokens_in);
begin
  -- Settled before: the sums include it.
  if cost is null then
    return execution;
  end if;
  if tokens_in + private.models_parse_count(usage -> 'output_tokens') > 0 then
    execution.hold_id := null;
  end if;
  execution.model := coalesce(substring(nullif(usage ->> 'model', '') for 200), execution.model);
  execution.input_tokens := execution.input_tokens + tokens_in;
  execution.output_tokens := execution.output_tokens + private.models_parse_count(usage -> 'output_tokens');
  execution.cache_read_tokens := execution.cache_read_tokens + cache_read;
  execution.cache_write_tokens := execution.cache_write_tokens
    + least(private.models_parse_count(usage -> 'cache_write_tokens'), tokens_in - cache_read);
  execution.cost_microusd := execution.cost_microusd + cost;
  return execution;
end
$$;
comment on function private.executions_add_usage(public.executions, jsonb, bigint) is 'The execution with the use and cost of a call added to its sums; cached tokens never exceed the prompt''s.';

create function private.executions_record_usage(
  job public.jobs,
  execution public.executions,
  usage jsonb,
  status text,
  output jsonb,
  code text,
  message text
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  call_cost constant bigint := private.executions_call_cost(execution, usage);
  used public.executions := private.executions_add_usage(execution, usage, private.executions_settle_call(execution, usage, call_cost));
begin
  if call_cost is null then
    -- The price was deleted while the call ran.
    perform private.jobs_add_event(job.locked_by, job.id, 'unpriced_model', jsonb_build_object('model', used.model));
  end if;
  update public.executions as e
  set status = executions_record_usage.status,
    output = executions_record_usage.output,
    error_code = substring(code for 100),
    error = substring(message for 10000),
    finished_at = case when executions_record_usage.status <> 'queued' then kijko.now() end,
    hold_id = used.hold_id,
    model = used.model,
    input_tokens = used.input_tokens,
    output_tokens = used.output_tokens,
    cache_read_tokens = used.cache_read_tokens,
    cache_write_tokens = used.cache_write_tokens,
    cost_microusd = used.cost_microusd
  where e.id = execution.id;
end
$$;
comment on function private.executions_record_usage(public.jobs, public.executions, jsonb, text, jsonb, text, text) is 'Adds the use of one call to the meters and to its execution, and sets the execution''s status in the same update: Postgres checks the foreign keys of a row that a transaction writes twice, which would lock its parents after the row and so could deadlock with their deletion. Called by the function that ends the attempt.';

create function private.executions_record_call(worker text, job_id uuid, attempt integer, usage jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  job public.jobs := private.jobs_lock_leased(worker, executions_record_call.job_id, executions_record_call.attempt);
  execution public.executions;
  used public.executions;
  cost bigint;
begin
  if job.id is null then
    return false;
  end if;
  execution := private.executions_lock_running(job);
  if execution.id is null then
    return false;
  end if;
  cost := private.executions_settle_call(
    execution, usage || '{"error_code": "shutdown"}', private.executions_call_cost(execution, usage)
  );
  used := private.executions_add_usage(execution, usage, cost);
  update public.executions as e
  set hold_id = used.hold_id, input_tokens = used.input_tokens, output_tokens = used.output_tokens,
    cache_read_tokens = used.cache_read_tokens, cache_write_tokens = used.cache_write_tokens, cost_microusd = used.cost_microusd
  where e.id = execution.id;
  return cost is not null;
end
$$;
comment on function private.executions_record_call(text, uuid, integer, jsonb) is 'Before a job is handed back: records the use of its call, in the form of models_cost(), with model and call_id. False when the lease was lost (the customer does not pay for a lost call) or the call was recorded before. Definer: the sidecar holds no table rights.';
grant execute on function private.executions_record_call(text, uuid, integer, jsonb) to kijko_sidecar;
