-- ============================================================================
-- Executions: one run of a skill, from the moment it is reserved to its output.
--
-- One execution is reserved and queued in one transaction. A job carries it to a
-- worker; the job's fate is copied to the execution by one trigger, and only
-- finish_execution makes it succeed. A final status never changes again.
--
-- Before the worker calls the model, reserve_call() holds the tokens and the cost that
-- the call may come to and settles the execution itself. The end of the attempt settles
-- the call with what it used. An execution that ends before any call gives its
-- reservation back. Holds of a worker that crashed are released by the next attempt or
-- expire, and what its call used is not booked; a call is settled under its own id, so
-- it counts once.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- executions
-- ----------------------------------------------------------------------------

create table public.executions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  skill_id uuid,
  habit_id uuid,
  job_id uuid,
  retry_of uuid,
  trigger text not null default 'manual' check (trigger in ('manual', 'habit', 'reflex', 'api')),
  status text not null default 'queued'
    check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
  input jsonb not null default '{}' check (jsonb_typeof(input) = 'object' and octet_length(input::text) <= 262144),
  output jsonb check (octet_length(output::text) <= 1048576),
  model text check (char_length(model) <= 200),
  input_tokens bigint not null default 0 check (input_tokens >= 0),
  output_tokens bigint not null default 0 check (output_tokens >= 0),
  cache_read_tokens bigint not null default 0 check (cache_read_tokens >= 0),
  cache_write_tokens bigint not null default 0 check (cache_write_tokens >= 0),
  cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 10000),
  idempotency_key text check (char_length(idempotency_key) between 1 and 255),
  hold_id uuid,
  usage_attributes jsonb not null default '{}' check (jsonb_typeof(usage_attributes) = 'object'),
  scheduled_for timestamptz,
  skip_count integer not null default 0 check (skip_count >= 0),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  started_at timestamptz,
  finished_at timestamptz,
  unique (org_id, id),
  -- One execution a slot, whoever ticks.
  unique (habit_id, scheduled_for),
  unique (org_id, idempotency_key),
  -- What an execution came from may go; the record of it and its cost stays.
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete set null (project_id),
  foreign key (org_id, skill_id) references public.skills (org_id, id) on delete set null (skill_id),
  foreign key (org_id, retry_of) references public.executions (org_id, id) on delete set null (retry_of),
  check ((status in ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at is not null))
);
create index executions_org_id_idx on public.executions (org_id, created_at desc);
create index executions_skill_id_idx on public.executions (org_id, skill_id, created_at desc) where skill_id is not null;
create index executions_project_id_idx on public.executions (org_id, project_id, created_at desc) where project_id is not null;
create index executions_habit_id_idx on public.executions (org_id, habit_id, created_at desc) where habit_id is not null;
create index executions_job_id_idx on public.executions (org_id, job_id) where job_id is not null;
create index executions_retry_of_idx on public.executions (org_id, retry_of) where retry_of is not null;

comment on table public.executions is 'Runs of skills, with what they produced and cost; readable by their organization, written only by functions.';
comment on column public.executions.id is 'Identity of the execution; its calls of models have ids of their own.';
comment on column public.executions.org_id is 'Organization that owns and pays for it.';
comment on column public.executions.project_id is 'Project of the skill at the time, if any.';
comment on column public.executions.skill_id is 'Skill that was run; null once it is deleted.';
comment on column public.executions.habit_id is 'Habit that caused it, if any.';
comment on column public.executions.job_id is 'Job that carries it; null for a skipped one and after the job was purged.';
comment on column public.executions.retry_of is 'Execution that this one repeats.';
comment on column public.executions.trigger is 'What caused it: manual, habit, reflex or api.';
comment on column public.executions.status is 'queued, running, then succeeded, failed, cancelled or skipped; changed by functions only.';
comment on column public.executions.input is 'Input, an object; empty for skipped slots.';
comment on column public.executions.output is 'What the model answered.';
comment on column public.executions.model is 'provider/model: of the skill while it waits, as reported once it has run.';
comment on column public.executions.input_tokens is 'Tokens sent to the model, in all attempts; cached ones are among them.';
comment on column public.executions.output_tokens is 'Tokens received from the model, in all attempts.';
comment on column public.executions.cache_read_tokens is 'How many of the input tokens the vendor read from its cache.';
comment on column public.executions.cache_write_tokens is 'How many of the input tokens the vendor wrote to its cache.';
comment on column public.executions.hold_id is 'Hold of one unit of the meter executions; null once a model was called or the execution has ended.';
comment on column public.executions.usage_attributes is 'Attributes of its use in the ledger: member, project, skill, habit, and those that the request had set.';
comment on column public.executions.cost_microusd is 'Cost in millionths of a US dollar, rounded up for each call, by llm_models when the call ended.';
comment on column public.executions.error_code is 'Short name of the last failure, or why it was skipped.';
comment on column public.executions.error is 'Last failure in words.';
comment on column public.executions.idempotency_key is 'Chosen by the caller; the same key in the same organization is the same execution.';
comment on column public.executions.scheduled_for is 'Slot of the habit''s schedule; null when not scheduled. For skipped slots, the latest one.';
comment on column public.executions.skip_count is 'Number of consecutive skipped slots of the habit, all for the same reason, that this row stands for; 0 for an execution that was queued.';
comment on column public.executions.created_by is 'User who asked for it; null when the schedule did. No foreign key: the record outlives the user.';
comment on column public.executions.created_at is 'When it was reserved and queued.';
comment on column public.executions.updated_at is 'Last change; set by trigger.';
comment on column public.executions.started_at is 'When a worker first took it up.';
comment on column public.executions.finished_at is 'When it reached its final status.';

alter table public.executions enable row level security;
revoke all on public.executions from public, anon, authenticated, service_role;
grant select on public.executions to authenticated, service_role;
create policy executions_select on public.executions for select to authenticated
  using (org_id = any (array(select private.org_ids_with('executions:read'))));

create trigger executions_touch before update on public.executions
  for each row execute function private.touch_updated_at();

create function private.refuse_status_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform kijko.fail('conflict', format('execution is %s', old.status));
  return null;
end
$$;
comment on function private.refuse_status_change() is 'Trigger: a final status is final, also for a function with a fault.';
revoke all on function private.refuse_status_change() from public, anon, authenticated, service_role;
create trigger executions_final before update of status on public.executions
  for each row when (old.status in ('succeeded', 'failed', 'cancelled', 'skipped') and old.status <> new.status)
  execute function private.refuse_status_change();

create function private.follow_job() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if new.status = 'queued' then
    update public.executions as e
    set status = 'queued', error_code = new.error_code, error = new.error
    where e.org_id = new.org_id and e.job_id = new.id and e.status = 'running';
  elsif new.status in ('dead', 'cancelled') then
    update public.executions as e
    set status = case new.status when 'dead' then 'failed' else 'cancelled' end,
      error_code = new.error_code, error = new.error, finished_at = kijko.now()
    where e.org_id = new.org_id and e.job_id = new.id and e.status in ('queued', 'running');
  elsif exists (
    select 1 from public.executions as e
    where e.org_id = new.org_id and e.job_id = new.id and e.status in ('queued', 'running')
  ) then
    perform kijko.fail('internal', 'an execution''s job succeeds through finish_execution only');
  end if;
  return null;
end
$$;
comment on function private.follow_job() is 'Trigger: what becomes of the job, also by the reaper, becomes of its execution. Runs as postgres inside the job functions.';
revoke all on function private.follow_job() from public, anon, authenticated, service_role;
create trigger jobs_execution after update of status on public.jobs
  for each row when (new.status <> 'running' and old.status <> new.status and starts_with(new.kind, 'execution'))
  execute function private.follow_job();

create or replace function private.jobs_lock_followers(job public.jobs) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform 1 from public.executions as e
  where e.org_id = job.org_id and e.job_id = job.id and e.status in ('queued', 'running')
  -- The lock mode of the trigger's update; it does not conflict with foreign keys to the row.
  for no key update skip locked;
  return found or not exists (
    select 1 from public.executions as e where e.org_id = job.org_id and e.job_id = job.id and e.status in ('queued', 'running')
  );
end
$$;
comment on function private.jobs_lock_followers(public.jobs) is 'Locks the execution that follows a locked job, without waiting; false when another transaction holds it. Callers that must not wait call it before they change the job.';

create function private.forget_jobs() returns trigger
language plpgsql set search_path = ''
as $$
begin
  update public.executions as e set job_id = null from gone where e.org_id = gone.org_id and e.job_id = gone.id;
  return null;
end
$$;
comment on function private.forget_jobs() is 'Trigger: executions outlive their jobs.';
revoke all on function private.forget_jobs() from public, anon, authenticated, service_role;
create trigger jobs_forgotten after delete on public.jobs
  referencing old table as gone for each statement execute function private.forget_jobs();

-- PostgREST cannot embed the two relationships of a table with itself by name. It embeds these two functions instead:
-- executions?select=id,retried_execution(id,error_code). Without a "set" clause the planner inlines them.
create function public.retried_execution(execution public.executions) returns setof public.executions
language sql stable rows 1
begin atomic
  select e.* from public.executions as e where e.org_id = execution.org_id and e.id = execution.retry_of;
end;
comment on function public.retried_execution(public.executions) is 'The execution that this one repeats, if any. For embedding.';
revoke all on function public.retried_execution(public.executions) from public, anon, authenticated, service_role;
grant execute on function public.retried_execution(public.executions) to authenticated, service_role;

create function public.retries(execution public.executions) returns setof public.executions
language sql stable rows 5
begin atomic
  select e.* from public.executions as e where e.org_id = execution.org_id and e.retry_of = execution.id;
end;
comment on function public.retries(public.executions) is 'The executions that repeat this one. For embedding.';
revoke all on function public.retries(public.executions) from public, anon, authenticated, service_role;
grant execute on function public.retries(public.executions) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Charging and queueing. Not granted: they run inside definer functions.
-- ----------------------------------------------------------------------------

create function private.exhausted_meter(org_id uuid) returns kijko.verdict
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  exhausted kijko.verdict;
begin
  -- From the counters: each execution asks, and summing up the ledger costs more the more there were in this hour.
  select v.* into exhausted
  from public.subscriptions as s
  join public.plan_limits as l on l.plan = s.plan and l.meter in ('llm_tokens', 'llm_cost_microusd') and l.over <> 'bill'
  cross join lateral kijko.standing(s.org_id, l.meter) as v
  where s.org_id = exhausted_meter.org_id and not v.allowed
  order by v.reset_at desc, v.meter
  limit 1;
  return exhausted;
end
$$;
comment on function private.exhausted_meter(uuid) is 'A meter of model use that is used up, or null. reserve_call() refuses a call that does not fit; this check refuses earlier, when nothing fits.';
revoke all on function private.exhausted_meter(uuid) from public, anon, authenticated, service_role;

create function private.use_of(member uuid, project_id uuid, skill_id uuid, habit_id uuid) returns jsonb
language sql immutable set search_path = ''
return pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
  'member', member, 'project', project_id, 'skill', skill_id, 'habit', habit_id
));
comment on function private.use_of(uuid, uuid, uuid, uuid) is 'What a use was for, as the ledger records it and usage_by() asks for it.';
revoke all on function private.use_of(uuid, uuid, uuid, uuid) from public, anon, authenticated, service_role;

create function private.reserve_execution(org_id uuid) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  exhausted kijko.verdict := private.exhausted_meter(org_id);
begin
  if exhausted.meter is not null then
    perform kijko.limit_headers(exhausted);
    perform kijko.fail(
      'quota_exceeded',
      format('used %s of %s %s', exhausted.used, exhausted."limit", exhausted.meter),
      format('resets at %s, or choose a larger plan', exhausted.reset_at)
    );
  end if;
  -- Longer than a job waits. If it expires nevertheless, the execution is settled when it runs.
  return kijko.reserve(org_id, 'executions', 1, interval '30 days');
end
$$;
comment on function private.reserve_execution(uuid) is 'Reserves one execution of an organization and returns the hold, or fails with quota_exceeded. Rolled back with the transaction that queues the execution.';
revoke all on function private.reserve_execution(uuid) from public, anon, authenticated, service_role;

create function private.settle_hold(hold_id uuid, amount bigint, org_id uuid, meter text, attributes jsonb) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Restored when the function ends: the attributes are those of this use alone.
set kijko.usage_attributes = '{}'
as $$
begin
  perform set_config('kijko.usage_attributes', attributes::text, true);
  return kijko.settle(hold_id, amount, org_id, meter);
end
$$;
comment on function private.settle_hold(uuid, bigint, uuid, text, jsonb) is 'Settles a hold with the actual amount under these attributes, even above the limit; false when it was settled before.';
revoke all on function private.settle_hold(uuid, bigint, uuid, text, jsonb) from public, anon, authenticated, service_role;

create function private.execution_kind(model text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when p.provider in ('echo', 'openai', 'anthropic', 'gemini') then 'execution.' || p.provider else 'execution' end
  from private.llm_provider(model) as p (provider)
$$;
comment on function private.execution_kind(text) is 'The kind of job that runs a model: one for each vendor, so that workers claim only jobs that they have keys for, and an outage of one vendor does not delay the others. The kind of an unknown vendor is "execution", which every worker claims and fails with model_not_available.';
revoke all on function private.execution_kind(text) from public, anon, authenticated, service_role;

create function private.queue_execution(
  skill public.skills,
  input jsonb,
  trigger text,
  habit_id uuid default null,
  scheduled_for timestamptz default null,
  idempotency_key text default null,
  retry_of uuid default null,
  hold_id uuid default null
) returns public.executions
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  execution public.executions;
  execution_id uuid := gen_random_uuid();
  job_id uuid;
begin
  job_id := private.enqueue_job(skill.org_id, private.execution_kind(skill.model), jsonb_build_object('execution_id', execution_id));
  insert into public.executions (
    id, org_id, project_id, skill_id, habit_id, job_id, retry_of, trigger, input, model, idempotency_key, scheduled_for,
    hold_id, usage_attributes
  ) values (
    execution_id, skill.org_id, skill.project_id, skill.id, queue_execution.habit_id, job_id,
    queue_execution.retry_of, queue_execution.trigger, queue_execution.input, skill.model,
    queue_execution.idempotency_key, queue_execution.scheduled_for, queue_execution.hold_id,
    coalesce(nullif(current_setting('kijko.usage_attributes', true), '')::jsonb, '{}')
      || private.use_of(kijko.user_id(), skill.project_id, skill.id, queue_execution.habit_id)
  ) returning * into execution;
  return execution;
end
$$;
comment on function private.queue_execution(public.skills, jsonb, text, uuid, timestamptz, text, uuid, uuid) is 'An execution and the job that carries it. The caller has reserved it and passes the hold.';
revoke all on function private.queue_execution(public.skills, jsonb, text, uuid, timestamptz, text, uuid, uuid)
  from public, anon, authenticated, service_role;

create function private.runnable_skill(skill_id uuid) returns public.skills
language plpgsql set search_path = ''
as $$
declare
  skill public.skills;
begin
  if kijko.user_id() is null then
    perform kijko.fail('not_identified');
  end if;
  select s.* into skill from public.skills as s
  where s.id = skill_id and s.org_id = any (array(select private.org_ids_with('skills:read')));
  -- One answer for what is not there and for what the caller may not read.
  if skill.id is null then
    perform kijko.fail('not_found', 'no such skill');
  end if;
  if not public.can(skill.org_id, 'skills:execute') then
    perform kijko.fail('permission_denied', 'needs skills:execute');
  end if;
  return skill;
end
$$;
comment on function private.runnable_skill(uuid) is 'The skill, if whoever is asking may execute it.';
revoke all on function private.runnable_skill(uuid) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- RPC. Definer, all of them: users only read executions and jobs.
-- ----------------------------------------------------------------------------

create function public.execute_skill(skill_id uuid, input jsonb default '{}', idempotency_key text default null)
returns public.executions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  skill public.skills := private.runnable_skill(execute_skill.skill_id);
  known public.executions;
begin
  if jsonb_typeof(execute_skill.input) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'input: must be an object');
  end if;
  if octet_length(execute_skill.input::text) > 262144 then
    perform kijko.fail('invalid_input', 'input: more than 256 KiB');
  end if;
  if execute_skill.idempotency_key is not null then
    if execute_skill.idempotency_key !~ '\S' or char_length(execute_skill.idempotency_key) > 255 then
      perform kijko.fail('invalid_input', 'idempotency_key: 1 to 255 characters');
    end if;
    -- Calls with one key take turns; the later one then sees what the first has committed.
    perform pg_advisory_xact_lock(hashtextextended(skill.org_id || ':' || execute_skill.idempotency_key, 20261121));
    select e.* into known from public.executions as e
    where e.org_id = skill.org_id and e.idempotency_key = execute_skill.idempotency_key;
    if known.id is not null then
      if known.skill_id is distinct from skill.id or known.input <> execute_skill.input then
        perform kijko.fail('idempotency_conflict', 'this key was used with other arguments');
      end if;
      -- skills:execute does not include executions:read.
      if not public.can(skill.org_id, 'executions:read') then
        known.output := null;
        known.error := null;
      end if;
      return known;
    end if;
  end if;
  if not skill.enabled then
    perform kijko.fail('conflict', 'the skill is disabled');
  end if;
  return private.queue_execution(
    skill, execute_skill.input, 'manual', idempotency_key => execute_skill.idempotency_key,
    hold_id => private.reserve_execution(skill.org_id)
  );
end
$$;
comment on function public.execute_skill(uuid, jsonb, text) is 'Reserves and queues one execution of a skill. The same idempotency_key with the same arguments gives the same execution. Definer: users only read executions.';
revoke all on function public.execute_skill(uuid, jsonb, text) from public, anon, authenticated, service_role;
grant execute on function public.execute_skill(uuid, jsonb, text) to authenticated;

create function private.own_execution(execution_id uuid) returns public.executions
language plpgsql set search_path = ''
as $$
declare
  execution public.executions;
begin
  if kijko.user_id() is null then
    perform kijko.fail('not_identified');
  end if;
  select e.* into execution from public.executions as e
  where e.id = execution_id and e.org_id = any (array(select private.org_ids_with('executions:read')));
  if execution.id is null then
    perform kijko.fail('not_found', 'no such execution');
  end if;
  if not public.can(execution.org_id, 'skills:execute') then
    perform kijko.fail('permission_denied', 'needs skills:execute');
  end if;
  return execution;
end
$$;
comment on function private.own_execution(uuid) is 'The execution, if whoever is asking may act on it.';
revoke all on function private.own_execution(uuid) from public, anon, authenticated, service_role;

create function public.cancel_execution(id uuid) returns public.executions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  execution public.executions := private.own_execution(cancel_execution.id);
begin
  if execution.status in ('queued', 'running') then
    perform private.cancel_job(execution.job_id);
    select e.* into execution from public.executions as e where e.id = cancel_execution.id;
  end if;
  if execution.status in ('succeeded', 'failed', 'skipped') then
    perform kijko.fail('conflict', format('the execution is already %s', execution.status));
  end if;
  return execution;
end
$$;
comment on function public.cancel_execution(uuid) is 'Cancels a queued execution at once and asks the worker of a running one to stop. An execution whose model was not called yet costs nothing; what was used stays booked. Definer: users only read executions.';
revoke all on function public.cancel_execution(uuid) from public, anon, authenticated, service_role;
grant execute on function public.cancel_execution(uuid) to authenticated;

create function public.retry_execution(id uuid) returns public.executions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  execution public.executions := private.own_execution(retry_execution.id);
  skill public.skills;
begin
  if execution.status not in ('failed', 'cancelled') then
    perform kijko.fail('conflict', format('only a failed or cancelled execution is retried; this one is %s', execution.status));
  end if;
  if execution.skip_count > 0 then
    perform kijko.fail('conflict', 'a slot that was not run has nothing to repeat', 'Run the habit: run_habit().');
  end if;
  select s.* into skill from public.skills as s where s.org_id = execution.org_id and s.id = execution.skill_id;
  if skill.id is null then
    perform kijko.fail('conflict', 'the skill is gone');
  end if;
  if not skill.enabled then
    perform kijko.fail('conflict', 'the skill is disabled');
  end if;
  return private.queue_execution(
    skill, execution.input, 'manual', habit_id => execution.habit_id, retry_of => execution.id,
    hold_id => private.reserve_execution(skill.org_id)
  );
end
$$;
comment on function public.retry_execution(uuid) is 'Repeats a failed or cancelled execution as a new one, which is reserved anew. Definer: users only read executions.';
revoke all on function public.retry_execution(uuid) from public, anon, authenticated, service_role;
grant execute on function public.retry_execution(uuid) to authenticated;

-- ----------------------------------------------------------------------------
-- What workers call. Definer: the sidecar's role holds no right on any table.
-- ----------------------------------------------------------------------------

create function private.start_execution(worker text, job_id uuid, attempt integer default null) returns jsonb
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.hold_job(worker, start_execution.job_id, start_execution.attempt);
  execution public.executions;
  skill public.skills;
begin
  if job.id is null then
    return null;
  end if;
  if job.cancel_requested then
    perform private.end_job(job, 'cancelled', null, 'cancelled', null);
    return null;
  end if;
  select e.* into execution from public.executions as e
  where e.org_id = job.org_id and e.job_id = job.id and e.status in ('queued', 'running')
  for update;
  if execution.id is null then
    perform private.end_job(job, 'dead', null, 'not_found', 'the job has no open execution');
    return null;
  end if;
  select s.* into skill from public.skills as s where s.org_id = execution.org_id and s.id = execution.skill_id;
  if skill.id is null then
    perform private.end_job(job, 'dead', null, 'not_found', 'the skill was deleted before it ran');
    return null;
  end if;
  -- The skill's model has changed to another vendor's, for which this worker may have no key.
  if private.execution_kind(skill.model) <> job.kind then
    perform private.jobs_hand_back(job, 'redirected', private.execution_kind(skill.model));
    return null;
  end if;

  update public.executions as e
  set status = 'running', started_at = coalesce(e.started_at, kijko.now()), model = skill.model
  where e.id = execution.id;
  return jsonb_build_object(
    'execution_id', execution.id,
    'org_id', execution.org_id,
    'skill_id', skill.id,
    'model', skill.model,
    'prompt_template', skill.prompt_template,
    'input', execution.input,
    'input_schema', skill.input_schema,
    'parameters', skill.parameters,
    'max_output_tokens', (private.llm_price(skill.model, null)).max_output_tokens,
    'trigger', execution.trigger,
    'attempt', job.attempt
  );
end
$$;
comment on function private.start_execution(text, uuid, integer) is 'Marks an execution running and gives the worker all it needs; null when the lease was lost, it was cancelled, or its skill is gone. Definer: the sidecar holds no table rights.';
revoke all on function private.start_execution(text, uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.start_execution(text, uuid, integer) to kijko_sidecar;

create function private.count_of(value jsonb) returns bigint
language sql immutable set search_path = ''
return case
  when pg_catalog.jsonb_typeof(value) = 'number'
  then least(greatest(pg_catalog.trunc((value #>> '{}')::numeric), 0), 1000000000000)::bigint
  else 0
end;
comment on function private.count_of(jsonb) is 'A count reported from outside: whole, not negative, bounded; 0 when it is no number.';
revoke all on function private.count_of(jsonb) from public, anon, authenticated, service_role;

create function private.llm_rates(price public.llm_models, long boolean, priority boolean)
returns table (input bigint, output bigint, reasoning bigint, cache_read bigint, cache_write bigint, cache_write_1h bigint)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  -- A price that is missing is that of the next more general kind. Of two surcharges at once, the dearer one counts.
  with plain as (
    select
      price.input_microusd_per_mtok as input,
      price.output_microusd_per_mtok as output,
      coalesce(price.reasoning_microusd_per_mtok, price.output_microusd_per_mtok) as reasoning,
      coalesce(price.cache_read_microusd_per_mtok, price.input_microusd_per_mtok) as cache_read,
      coalesce(price.cache_write_microusd_per_mtok, price.input_microusd_per_mtok) as cache_write,
      coalesce(price.cache_write_1h_microusd_per_mtok, price.cache_write_microusd_per_mtok, price.input_microusd_per_mtok) as cache_write_1h
  ),
  long_rates as (
    select
      coalesce(price.long_input_microusd_per_mtok, p.input) as input,
      coalesce(price.long_output_microusd_per_mtok, p.output) as output,
      coalesce(price.long_cache_read_microusd_per_mtok, price.cache_read_microusd_per_mtok, price.long_input_microusd_per_mtok, p.input) as cache_read,
      coalesce(price.long_cache_write_microusd_per_mtok, price.cache_write_microusd_per_mtok, price.long_input_microusd_per_mtok, p.input) as cache_write,
      coalesce(
        price.long_cache_write_1h_microusd_per_mtok, price.cache_write_1h_microusd_per_mtok, price.long_cache_write_microusd_per_mtok,
        price.cache_write_microusd_per_mtok, price.long_input_microusd_per_mtok, p.input
      ) as cache_write_1h
    from plain as p
  ),
  by_length as (
    select
      case when long then l.input else p.input end as input,
      case when long then l.output else p.output end as output,
      case when long and price.reasoning_microusd_per_mtok is null then l.output
        when long then greatest(p.reasoning, l.output) else p.reasoning end as reasoning,
      case when long then l.cache_read else p.cache_read end as cache_read,
      case when long then l.cache_write else p.cache_write end as cache_write,
      case when long then l.cache_write_1h else p.cache_write_1h end as cache_write_1h
    from plain as p cross join long_rates as l
  )
  -- greatest() skips nulls: without a price for the tier, it costs as any other call.
  select
    case when priority then greatest(b.input, price.priority_input_microusd_per_mtok) else b.input end,
    case when priority then greatest(b.output, price.priority_output_microusd_per_mtok) else b.output end,
    case when priority then greatest(b.reasoning, price.priority_output_microusd_per_mtok) else b.reasoning end,
    case when priority
      then greatest(b.cache_read, coalesce(price.priority_cache_read_microusd_per_mtok, price.priority_input_microusd_per_mtok))
      else b.cache_read end,
    case when priority then greatest(b.cache_write, price.priority_input_microusd_per_mtok) else b.cache_write end,
    case when priority then greatest(b.cache_write_1h, price.priority_input_microusd_per_mtok) else b.cache_write_1h end
  from by_length as b
$$;
comment on function private.llm_rates(public.llm_models, boolean, boolean) is 'Price of a million tokens of each kind: beyond the long-context step (long) or not, at service_tier priority or not.';
revoke all on function private.llm_rates(public.llm_models, boolean, boolean) from public, anon, authenticated, service_role;

create function private.llm_cost(requested text, reported text, usage jsonb) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with price as (
    select p.* from private.llm_price(requested, reported) as p where p.id is not null
  ),
  -- Vendors' figures are not to be trusted to add up: the parts are never more than the whole.
  whole as (
    select private.count_of(usage -> 'input_tokens') as input, private.count_of(usage -> 'output_tokens') as output,
      coalesce(usage -> 'batch' = 'true', false) as batch, coalesce(usage ->> 'service_tier' = 'priority', false) as priority
  ),
  reads as (
    select w.*, least(private.count_of(usage -> 'reasoning_tokens'), w.output) as reasoning,
      least(private.count_of(usage -> 'cache_read_tokens'), w.input) as cache_read
    from whole as w
  ),
  writes as (
    select r.*, least(private.count_of(usage -> 'cache_write_tokens'), r.input - r.cache_read) as cache_write from reads as r
  ),
  tokens as (
    select w.*, least(private.count_of(usage -> 'cache_write_1h_tokens'), w.cache_write) as cache_write_1h from writes as w
  ),
  -- A batch's discount is a fraction of the plain price; a price of 0 has none.
  discount as (
    select
      case when t.batch and p.input_microusd_per_mtok > 0 then coalesce(p.batch_input_microusd_per_mtok, p.input_microusd_per_mtok) else 1 end::numeric as input_part,
      case when t.batch and p.input_microusd_per_mtok > 0 then p.input_microusd_per_mtok else 1 end::numeric as input_whole,
      case when t.batch and p.output_microusd_per_mtok > 0 then coalesce(p.batch_output_microusd_per_mtok, p.output_microusd_per_mtok) else 1 end::numeric as output_part,
      case when t.batch and p.output_microusd_per_mtok > 0 then p.output_microusd_per_mtok else 1 end::numeric as output_whole
    from price as p cross join tokens as t
  )
  -- Rounded once, at the very end. Dividing last keeps every step before it exact.
  select ceil(
    (
      (
        (t.input - t.cache_read - t.cache_write)::numeric * r.input + t.cache_read::numeric * r.cache_read
        + (t.cache_write - t.cache_write_1h)::numeric * r.cache_write + t.cache_write_1h::numeric * r.cache_write_1h
      ) * d.input_part * d.output_whole
      + ((t.output - t.reasoning)::numeric * r.output + t.reasoning::numeric * r.reasoning) * d.output_part * d.input_whole
    ) / (d.input_whole * d.output_whole * 1000000)
  )::bigint
  from price as p
  cross join tokens as t
  cross join discount as d
  -- The whole call costs the long prices once its input is beyond the step.
  cross join lateral private.llm_rates(p::public.llm_models, coalesce(t.input > p.long_context_tokens, false), t.priority) as r
$$;
comment on function private.llm_cost(text, text, jsonb) is 'Cost of a call in millionths of a US dollar, rounded up once; null when no price is known. Usage: input_tokens (cached ones among them), output_tokens (reasoning_tokens among them), cache_read_tokens, cache_write_tokens, cache_write_1h_tokens (among the writes), batch, service_tier.';
revoke all on function private.llm_cost(text, text, jsonb) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Calls of models: reserved before, settled after
-- ----------------------------------------------------------------------------

create table private.execution_calls (
  id uuid primary key,
  org_id uuid not null references public.organizations (id) on delete cascade,
  execution_id uuid not null,
  worker text not null check (char_length(worker) <= 200),
  attempt integer not null,
  tokens_hold_id uuid not null,
  cost_hold_id uuid,
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
comment on column private.execution_calls.created_by is 'Always null: workers make the calls.';
comment on column private.execution_calls.created_at is 'When it was reserved.';
alter table private.execution_calls enable row level security;
revoke all on private.execution_calls from public, anon, authenticated, service_role;

create function private.release_calls(org_id uuid, execution_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  holds uuid[];
begin
  -- Without the row, a call of a worker that was cut off and reports later is not booked either.
  with lost as (
    delete from private.execution_calls as c
    where c.org_id = release_calls.org_id and c.execution_id = release_calls.execution_id
    returning c.tokens_hold_id, c.cost_hold_id
  )
  select array_agg(h.hold_id) into holds
  from lost as l
  cross join lateral (values (l.tokens_hold_id), (l.cost_hold_id)) as h (hold_id)
  where h.hold_id is not null;
  perform kijko.release(h.hold_id) from unnest(holds) as h (hold_id);
end
$$;
comment on function private.release_calls(uuid, uuid) is 'Releases the holds of an execution''s calls whose worker was lost.';
revoke all on function private.release_calls(uuid, uuid) from public, anon, authenticated, service_role;

create function private.release_execution() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.hold_id is not null and new.status <> 'queued' then
    perform kijko.release(new.hold_id);
    new.hold_id := null;
  end if;
  perform private.release_calls(new.org_id, new.id);
  return new;
end
$$;
comment on function private.release_execution() is 'Trigger: releases the hold of an execution that ends before its model was called, and the holds of an attempt that has ended. Runs as postgres inside the functions that end attempts.';
revoke all on function private.release_execution() from public, anon, authenticated, service_role;
create trigger executions_release before update of status on public.executions
  for each row when (old.status in ('queued', 'running') and new.status <> 'running' and old.status <> new.status)
  execute function private.release_execution();

create function private.hold_execution(job public.jobs) returns public.executions
language sql set search_path = ''
as $$
  select e.* from public.executions as e
  where e.org_id = job.org_id and e.job_id = job.id and e.status = 'running'
  for update
$$;
comment on function private.hold_execution(public.jobs) is 'Locks the running execution of a job that is held; nothing when there is none.';
revoke all on function private.hold_execution(public.jobs) from public, anon, authenticated, service_role;

create function private.llm_max_cost(model text, call jsonb) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
return greatest(
  private.llm_cost(model, null, call),
  private.llm_cost(model, null, call || jsonb_build_object('reasoning_tokens', call -> 'output_tokens'))
);
comment on function private.llm_max_cost(text, jsonb) is 'The highest cost of a call with these token counts: all output may be reasoning.';
revoke all on function private.llm_max_cost(text, jsonb) from public, anon, authenticated, service_role;

create function private.reserve_call(worker text, job_id uuid, attempt integer, call jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  job public.jobs := private.hold_job(worker, reserve_call.job_id, reserve_call.attempt);
  execution public.executions;
  call_id constant uuid := (call ->> 'id')::uuid;
  tokens constant bigint := greatest(private.count_of(call -> 'input_tokens') + private.count_of(call -> 'output_tokens'), 1);
  cost bigint;
  refusal text;
  ttl interval;
  tokens_hold uuid;
  cost_hold uuid;
begin
  if job.id is null then
    return null;
  end if;
  if job.cancel_requested then
    perform private.end_job(job, 'cancelled', null, 'cancelled', null);
    return null;
  end if;
  execution := private.hold_execution(job);
  if execution.id is null then
    return null;
  end if;
  -- A repeated call, because the answer got lost.
  if exists (select 1 from private.execution_calls as c where c.id = call_id and c.execution_id = execution.id) then
    return jsonb_build_object('call_id', call_id);
  end if;
  perform private.release_calls(execution.org_id, execution.id);

  refusal := private.llm_unpriced_reason(execution.model, call ->> 'service_tier');
  if refusal is not null then
    return jsonb_build_object('refused', 'model_not_priced', 'message', refusal);
  end if;
  cost := private.llm_max_cost(execution.model, call);
  -- How long the holds of a crashed worker last, unless the job is taken over before.
  ttl := make_interval(secs => job.timeout_seconds) + interval '10 minutes';
  begin
    tokens_hold := kijko.reserve(execution.org_id, 'llm_tokens', tokens, ttl, call_id::text);
    if cost > 0 then
      cost_hold := kijko.reserve(execution.org_id, 'llm_cost_microusd', cost, ttl, call_id::text);
    end if;
  exception when sqlstate 'KJ429' then
    get stacked diagnostics refusal = pg_exception_detail;
    return jsonb_build_object('refused', 'quota_exceeded', 'message', refusal);
  end;

  insert into private.execution_calls (id, org_id, execution_id, worker, attempt, tokens_hold_id, cost_hold_id)
  values (call_id, execution.org_id, execution.id, worker, job.attempt, tokens_hold, cost_hold);
  if execution.hold_id is not null then
    perform private.settle_hold(execution.hold_id, 1, execution.org_id, 'executions', execution.usage_attributes);
    update public.executions as e set hold_id = null where e.id = execution.id;
  end if;
  return jsonb_build_object('call_id', call_id);
end
$$;
comment on function private.reserve_call(text, uuid, integer, jsonb) is 'Before a model is called: reserves the most tokens and cost that the call can use, and settles the execution. Call: id, input_tokens, output_tokens at most, service_tier. Answers {call_id}; {refused, message} when it does not fit (quota_exceeded) or has no price (model_not_priced); null when the lease was lost or it was cancelled. Definer: the sidecar holds no table rights.';
revoke all on function private.reserve_call(text, uuid, integer, jsonb) from public, anon, authenticated, service_role;
grant execute on function private.reserve_call(text, uuid, integer, jsonb) to kijko_sidecar;

create function private.settle_call(execution public.executions, usage jsonb) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  call_id constant uuid := (usage ->> 'call_id')::uuid;
  tokens constant bigint := private.count_of(usage -> 'input_tokens') + private.count_of(usage -> 'output_tokens');
  cost constant bigint := coalesce(private.llm_cost(execution.model, nullif(usage ->> 'model', ''), usage), 0);
  call private.execution_calls;
begin
  if call_id is not null then
    delete from private.execution_calls as c where c.id = call_id and c.execution_id = execution.id returning * into call;
    if call.id is null then
      return null;
    end if;
  end if;
  if tokens > 0 or call.tokens_hold_id is not null then
    perform private.settle_hold(
      coalesce(call.tokens_hold_id, gen_random_uuid()), tokens, execution.org_id, 'llm_tokens', execution.usage_attributes
    );
  end if;
  if cost > 0 or call.cost_hold_id is not null then
    perform private.settle_hold(
      coalesce(call.cost_hold_id, gen_random_uuid()), cost, execution.org_id, 'llm_cost_microusd', execution.usage_attributes
    );
  end if;
  if execution.hold_id is not null and tokens > 0 then
    perform private.settle_hold(execution.hold_id, 1, execution.org_id, 'executions', execution.usage_attributes);
  end if;
  return cost;
end
$$;
comment on function private.settle_call(public.executions, jsonb) is 'Settles the holds of a call with what it used, even above the limits, and returns its cost; null when the call (usage''s call_id) was settled before.';
revoke all on function private.settle_call(public.executions, jsonb) from public, anon, authenticated, service_role;

create function private.with_usage(execution public.executions, usage jsonb, cost bigint) returns public.executions
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  tokens_in constant bigint := private.count_of(usage -> 'input_tokens');
  cache_read constant bigint := least(private.count_of(usage -> 'cache_read_tokens'), tokens_in);
begin
  -- Settled before: the sums include it.
  if cost is null then
    return execution;
  end if;
  if tokens_in + private.count_of(usage -> 'output_tokens') > 0 then
    execution.hold_id := null;
  end if;
  execution.model := coalesce(substring(nullif(usage ->> 'model', '') for 200), execution.model);
  execution.input_tokens := execution.input_tokens + tokens_in;
  execution.output_tokens := execution.output_tokens + private.count_of(usage -> 'output_tokens');
  execution.cache_read_tokens := execution.cache_read_tokens + cache_read;
  execution.cache_write_tokens := execution.cache_write_tokens
    + least(private.count_of(usage -> 'cache_write_tokens'), tokens_in - cache_read);
  execution.cost_microusd := execution.cost_microusd + cost;
  return execution;
end
$$;
comment on function private.with_usage(public.executions, jsonb, bigint) is 'The execution with the use and cost of a call added to its sums; cached tokens never exceed the prompt''s.';
revoke all on function private.with_usage(public.executions, jsonb, bigint) from public, anon, authenticated, service_role;

create function private.book_usage(
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
  used public.executions := private.with_usage(execution, usage, private.settle_call(execution, usage));
begin
  if private.llm_cost(execution.model, nullif(usage ->> 'model', ''), usage) is null then
    -- The price was deleted while the call ran.
    perform private.add_job_event(job.locked_by, job.id, 'unpriced_model', jsonb_build_object('model', used.model));
  end if;
  update public.executions as e
  set status = book_usage.status,
    output = book_usage.output,
    error_code = substring(code for 100),
    error = substring(message for 10000),
    finished_at = case when book_usage.status <> 'queued' then kijko.now() end,
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
comment on function private.book_usage(public.jobs, public.executions, jsonb, text, jsonb, text, text) is 'Adds what one call used to the meters and to its execution, with what became of it: a row written twice in one transaction has its foreign keys checked, and would lock its parents after itself, in the wrong order for who deletes them. Inside the function that ends the attempt.';
revoke all on function private.book_usage(public.jobs, public.executions, jsonb, text, jsonb, text, text) from public, anon, authenticated, service_role;

create function private.book_call(worker text, job_id uuid, attempt integer, usage jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  job public.jobs := private.hold_job(worker, book_call.job_id, book_call.attempt);
  execution public.executions;
  used public.executions;
  cost bigint;
begin
  if job.id is null then
    return false;
  end if;
  execution := private.hold_execution(job);
  if execution.id is null then
    return false;
  end if;
  cost := private.settle_call(execution, usage);
  used := private.with_usage(execution, usage, cost);
  update public.executions as e
  set hold_id = used.hold_id, input_tokens = used.input_tokens, output_tokens = used.output_tokens,
    cache_read_tokens = used.cache_read_tokens, cache_write_tokens = used.cache_write_tokens, cost_microusd = used.cost_microusd
  where e.id = execution.id;
  return cost is not null;
end
$$;
comment on function private.book_call(text, uuid, integer, jsonb) is 'Before a job is handed back: books what its call used, as llm_cost takes it, with model and call_id. False when the lease was lost (the customer does not pay for a lost call) or the call was booked before. Definer: the sidecar holds no table rights.';
revoke all on function private.book_call(text, uuid, integer, jsonb) from public, anon, authenticated, service_role;
grant execute on function private.book_call(text, uuid, integer, jsonb) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- The end of an attempt
-- ----------------------------------------------------------------------------

create function private.finish_execution(worker text, job_id uuid, outcome jsonb, attempt integer default null) returns boolean
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.hold_job(worker, finish_execution.job_id, finish_execution.attempt);
  execution public.executions;
  final_status text := 'succeeded';
  code text;
  message text;
begin
  if job.id is null then
    return false;
  end if;
  execution := private.hold_execution(job);
  if execution.id is null then
    perform kijko.fail('conflict', 'the job has no running execution');
  end if;

  if job.cancel_requested then
    final_status := 'cancelled';
    code := 'cancelled';
  elsif octet_length((outcome -> 'output')::text) > 1048576 then
    final_status := 'failed';
    code := 'output_too_large';
    message := 'the output is larger than 1 MiB';
  end if;

  -- The call has been made: it is booked whatever becomes of the execution.
  perform private.book_usage(
    job, execution, outcome, final_status, case when code = 'output_too_large' then null else outcome -> 'output' end, code, message
  );
  perform private.end_job(
    job,
    case final_status when 'failed' then 'dead' else final_status end,
    jsonb_strip_nulls(jsonb_build_object('finish_reason', outcome -> 'finish_reason')),
    code,
    message
  );
  return final_status = 'succeeded';
end
$$;
comment on function private.finish_execution(text, uuid, jsonb, integer) is 'Output, tokens, cost, metering and the end of the job in one transaction; false when the lease was lost, it was cancelled or its output is too large. Definer: the sidecar holds no table rights.';
revoke all on function private.finish_execution(text, uuid, jsonb, integer) from public, anon, authenticated, service_role;
grant execute on function private.finish_execution(text, uuid, jsonb, integer) to kijko_sidecar;

create function private.fail_execution(
  worker text,
  job_id uuid,
  code text,
  message text,
  retryable boolean,
  retry_after interval default null,
  attempt integer default null,
  usage jsonb default null,
  outage boolean default false
) returns text
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.hold_job(worker, fail_execution.job_id, fail_execution.attempt);
  execution public.executions;
  status text;
begin
  if job.id is null then
    return null;
  end if;
  -- A refusal, a broken answer and a cancelled call cost what they used. Without a call the execution follows its job.
  if jsonb_typeof(usage) = 'object' then
    execution := private.hold_execution(job);
    if execution.id is not null then
      status := private.status_after_failure(job, retryable, outage);
      perform private.book_usage(
        job, execution, usage, case status when 'dead' then 'failed' else status end, execution.output,
        private.code_after_failure(status, code), message
      );
    end if;
  end if;
  return private.fail_job(worker, fail_execution.job_id, code, message, retryable, retry_after, fail_execution.attempt, outage);
end
$$;
comment on function private.fail_execution(text, uuid, text, text, boolean, interval, integer, jsonb, boolean) is 'Failure of an execution: books what the call used (as llm_cost takes it, with model), then as fail_job, whose outcome the execution follows by trigger. Definer: the sidecar holds no table rights.';
revoke all on function private.fail_execution(text, uuid, text, text, boolean, interval, integer, jsonb, boolean) from public, anon, authenticated, service_role;
grant execute on function private.fail_execution(text, uuid, text, text, boolean, interval, integer, jsonb, boolean) to kijko_sidecar;
