-- ============================================================================
-- Executions: reservation and queueing.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Not granted: definer functions call these.
-- ----------------------------------------------------------------------------

create function private.executions_exhausted_meter(org_id uuid) returns kijko.verdict
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  exhausted kijko.verdict;
begin
  -- From the counters, which cost the same however many executions there were. Summing up the ledger does not.
  select v.* into exhausted
  from public.subscriptions as s
  join public.plan_limits as l on l.plan = s.plan and l.meter in ('llm_tokens', 'llm_cost_microusd') and l.overage_policy <> 'bill'
  cross join lateral kijko.quota_status(s.org_id, l.meter) as v
  where s.org_id = executions_exhausted_meter.org_id and not v.allowed
  order by v.reset_at desc, v.meter
  limit 1;
  return exhausted;
end
$$;
comment on function private.executions_exhausted_meter(uuid) is 'A meter of model use that is used up, or null. executions_reserve_call() refuses a call that does not fit. This check refuses earlier, when no call would fit.';

-- In plpgsql for its cached plan.
create function private.executions_usage_attributes(member uuid, key uuid, project_id uuid, skill_id uuid, habit_id uuid) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_strip_nulls(jsonb_build_object('member', member, 'key', key, 'project', project_id, 'skill', skill_id, 'habit', habit_id));
end
$$;
comment on function private.executions_usage_attributes(uuid, uuid, uuid, uuid, uuid) is 'Attributes of a use, as the ledger records them and usage_by() groups by them.';

create function private.executions_reserve(org_id uuid) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  exhausted kijko.verdict := private.executions_exhausted_meter(org_id);
begin
  if exhausted.meter is not null then
    perform kijko.limit_headers(exhausted);
    perform kijko.fail(
      'quota_exceeded',
      format('used %s of %s %s', exhausted.used, exhausted."limit", exhausted.meter),
      format('resets at %s, or choose a larger plan', exhausted.reset_at)
    );
  end if;
  -- Longer than a job waits. If it expires all the same, the execution is settled when it runs.
  return kijko.reserve(org_id, 'executions', 1, interval '30 days');
end
$$;
comment on function private.executions_reserve(uuid) is 'Reserves one execution of an organization and returns the hold, or fails with quota_exceeded. Rolled back with the transaction that queues the execution.';

create function private.executions_settle_hold(hold_id uuid, amount bigint, org_id uuid, meter text, attributes jsonb) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Restored when the function ends: the attributes are those of this use only.
set kijko.usage_attributes = '{}'
as $$
begin
  perform set_config('kijko.usage_attributes', attributes::text, true);
  return kijko.settle(hold_id, amount, org_id, meter);
end
$$;
comment on function private.executions_settle_hold(uuid, bigint, uuid, text, jsonb) is 'Settles a hold with the actual amount under these attributes, even above the limit; false when it was settled before.';

create function private.executions_job_kind(model text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when p.provider in ('echo', 'openai', 'anthropic', 'gemini') then 'execution.' || p.provider else 'execution' end
  from private.models_provider(model) as p (provider)
$$;
comment on function private.executions_job_kind(text) is 'The kind of job that runs a model: one for each vendor, so that workers claim only jobs that they have keys for, and an outage of one vendor does not delay the others. The kind of an unknown vendor is "execution", which every worker claims and fails with model_not_available.';

-- The model of a skill may change to another vendor's while its executions are queued. Then executions_move_jobs() moves
-- their jobs. It does not see jobs of transactions that are still open, so the change waits for the transactions that hold
-- this lock. A transaction that cannot get the lock, because a change holds it, does not wait. It queues the kind "execution",
-- and the worker that claims the job redirects it after the change.
create function private.executions_model_lock(skill_id uuid) returns bigint
language sql immutable
return hashtextextended('kijko-skill-model:' || skill_id, 20261121);
comment on function private.executions_model_lock(uuid) is 'Key of the advisory lock on a skill''s vendor: shared while an execution is queued, exclusive while the vendor changes.';

create function private.executions_current_kind(skill_id uuid) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if not pg_try_advisory_xact_lock_shared(private.executions_model_lock(skill_id)) then
    return 'execution';
  end if;
  -- Read after the lock: the caller may have read the skill before a change that has ended since.
  return (select private.executions_job_kind(s.model) from public.skills as s where s.id = skill_id);
end
$$;
comment on function private.executions_current_kind(uuid) is 'The kind of a job that runs this skill. While the skill''s vendor is being changed: "execution", which any worker claims and executions_start() redirects.';

create function private.executions_move_jobs() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  former constant text := private.executions_job_kind(old.model);
  current constant text := private.executions_job_kind(new.model);
begin
  if former = current then
    return null;
  end if;
  perform pg_advisory_xact_lock(private.executions_model_lock(new.id));
  update public.jobs as j
  set kind = current, updated_at = clock_timestamp()
  where j.id = any (array(
    select q.id
    from public.jobs as q
    join public.executions as e on e.org_id = q.org_id and e.job_id = q.id
    where q.status = 'queued' and q.org_id = new.org_id and q.kind = former and e.skill_id = new.id
    -- A job that a claim holds is redirected by executions_start().
    for update of q skip locked
  ));
  return null;
end
$$;
comment on function private.executions_move_jobs() is 'Trigger: queued jobs of a skill move to the vendor of its new model. Otherwise they would wait for the former vendor, which may have no worker. Definer: a user who changes a skill holds no right on jobs.';
create trigger skills_move_jobs after update of model on public.skills
  for each row when (old.model <> new.model) execute function private.executions_move_jobs();

create function private.executions_queue(
  skill public.skills,
  input jsonb,
  trigger text,
  habit_id uuid default null,
  scheduled_for timestamptz default null,
  idempotency_key text default null,
  retry_of uuid default null,
  hold_id uuid default null,
  reflex_id uuid default null,
  reflex_delivery_id uuid default null,
  depth integer default 0,
  run_at timestamptz default null,
  concurrency_key text default null
) returns public.executions
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
  execution public.executions;
  execution_id uuid := gen_random_uuid();
  job_id uuid;
begin
  job_id := private.jobs_enqueue(
    skill.org_id, private.executions_current_kind(skill.id), jsonb_build_object('execution_id', execution_id),
    project_id => skill.project_id, run_at => coalesce(executions_queue.run_at, clock_timestamp()),
    concurrency_key => executions_queue.concurrency_key
  );
  insert into public.executions (
    id, org_id, project_id, skill_id, skill_version, habit_id, reflex_id, reflex_delivery_id, depth, job_id, retry_of, trigger, input, input_files, model,
    idempotency_key, scheduled_for, hold_id, usage_attributes
  ) values (
    execution_id, skill.org_id, skill.project_id, skill.id, skill.version, executions_queue.habit_id, executions_queue.reflex_id,
    executions_queue.reflex_delivery_id, executions_queue.depth, job_id, executions_queue.retry_of,
    case when executions_queue.trigger = 'manual' and kijko.api_key_id() is not null then 'api' else executions_queue.trigger end,
    executions_queue.input, private.files_pin(skill, executions_queue.input, executions_queue.reflex_id, executions_queue.retry_of), skill.model,
    executions_queue.idempotency_key, executions_queue.scheduled_for, executions_queue.hold_id,
    coalesce(nullif(current_setting('kijko.usage_attributes', true), '')::jsonb, '{}')
      || private.executions_usage_attributes(kijko.user_id(), kijko.api_key_id(), skill.project_id, skill.id, executions_queue.habit_id)
  ) returning * into execution;
  return execution;
end
$$;
comment on function private.executions_queue(public.skills, jsonb, text, uuid, timestamptz, text, uuid, uuid, uuid, uuid, integer, timestamptz, text) is 'Inserts an execution, with the versions of the files that its input names, and the job that runs it, not before run_at, and one at a time of a concurrency_key. Fails as private.files_pin() does. The caller has reserved the execution and passes the hold.';

create function private.executions_require_skill(skill_id uuid) returns public.skills
language plpgsql set search_path = ''
as $$
declare
  skill public.skills;
begin
  perform private.tenancy_require_caller();
  select s.* into skill from public.skills as s
  where s.id = skill_id and s.org_id = any (array(select private.org_ids_with('skills:read')))
    and (s.project_id is null or private.projects_is_visible(s.project_id));
  -- The same answer if the skill does not exist and if the caller may not read it.
  if skill.id is null then
    perform kijko.fail('not_found', 'no such skill');
  end if;
  if not public.can(skill.org_id, 'skills:execute') then
    perform kijko.fail('permission_denied', 'requires the permission skills:execute');
  end if;
  return skill;
end
$$;
comment on function private.executions_require_skill(uuid) is 'The skill, if the caller may execute it; fails otherwise.';
