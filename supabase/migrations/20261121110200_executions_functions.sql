-- ============================================================================
-- Executions: the functions that clients call.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- RPC. All are definer: users only read executions and jobs.
-- ----------------------------------------------------------------------------

create function private.executions_is_visible(execution public.executions) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return (execution.project_id is null or private.projects_is_visible(execution.project_id))
    and (not execution.managers_only or public.can(execution.org_id, 'projects:manage'));
end
$$;
comment on function private.executions_is_visible(public.executions) is 'Whether no private project hides the execution from the caller, as the policy of executions says.';

create function public.execute_skill(skill_id uuid, input jsonb default '{}', idempotency_key text default null)
returns public.executions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  skill public.skills := private.executions_require_skill(execute_skill.skill_id);
  known public.executions;
begin
  if jsonb_typeof(execute_skill.input) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'input: must be an object');
  end if;
  if not private.json_fits(execute_skill.input, 262144) then
    perform kijko.fail('invalid_input', 'input: more than 256 KiB');
  end if;
  if execute_skill.idempotency_key is not null then
    if execute_skill.idempotency_key !~ '\S' or char_length(execute_skill.idempotency_key) > 255 then
      perform kijko.fail('invalid_input', 'idempotency_key: 1 to 255 characters');
    end if;
    -- Calls with the same key take turns, so that the later one sees what the first has committed.
    perform pg_advisory_xact_lock(hashtextextended(skill.org_id || ':' || execute_skill.idempotency_key, 20261121));
    select e.* into known from public.executions as e
    where e.org_id = skill.org_id and e.idempotency_key = execute_skill.idempotency_key;
    if known.id is not null then
      -- A skill may have left a private project, which still hides this execution.
      if known.skill_id is distinct from skill.id or known.input <> execute_skill.input or not private.executions_is_visible(known) then
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
  perform private.skills_require_runnable(skill);
  return private.executions_queue(
    skill, execute_skill.input, 'manual', idempotency_key => execute_skill.idempotency_key,
    hold_id => private.executions_reserve(skill.org_id)
  );
end
$$;
comment on function public.execute_skill(uuid, jsonb, text) is 'Reserves and queues one execution of a skill. The same idempotency_key with the same arguments gives the same execution. Definer: users only read executions.';
grant execute on function public.execute_skill(uuid, jsonb, text) to authenticated;

create function private.executions_require(execution_id uuid) returns public.executions
language plpgsql set search_path = ''
as $$
declare
  execution public.executions;
begin
  perform private.tenancy_require_caller();
  select e.* into execution from public.executions as e
  where e.id = execution_id and e.org_id = any (array(select private.org_ids_with('executions:read')));
  if execution.id is null or not private.executions_is_visible(execution) then
    perform kijko.fail('not_found', 'no such execution');
  end if;
  if not public.can(execution.org_id, 'skills:execute') then
    perform kijko.fail('permission_denied', 'requires the permission skills:execute');
  end if;
  if execution.project_id is not null and not private.projects_is_writable(execution.project_id) then
    perform kijko.fail('permission_denied', 'a viewer of the project runs nothing in it');
  end if;
  return execution;
end
$$;
comment on function private.executions_require(uuid) is 'The execution, if the caller may cancel and repeat it; fails otherwise.';

create function public.cancel_execution(id uuid) returns public.executions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  execution public.executions := private.executions_require(cancel_execution.id);
begin
  if execution.status in ('queued', 'running') then
    perform private.jobs_cancel(execution.job_id);
    select e.* into execution from public.executions as e where e.id = cancel_execution.id;
  end if;
  if execution.status in ('succeeded', 'failed', 'skipped') then
    perform kijko.fail('conflict', format('the execution is already %s', execution.status));
  end if;
  return execution;
end
$$;
comment on function public.cancel_execution(uuid) is 'Cancels a queued execution at once and asks the worker of a running one to stop. An execution whose model was not called yet costs nothing. Use that is recorded stays recorded. Definer: users only read executions.';
grant execute on function public.cancel_execution(uuid) to authenticated;

create function private.executions_repeat(execution public.executions, any_caller boolean default false) returns public.executions
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills;
begin
  if execution.status not in ('failed', 'cancelled') then
    perform kijko.fail('conflict', format('only a failed or cancelled execution is retried; this one is %s', execution.status));
  end if;
  if execution.skip_count > 0 then
    perform kijko.fail('conflict', 'a slot that was not run has nothing to repeat', 'Run the habit: run_habit().');
  end if;
  select s.* into skill from public.skills as s where s.org_id = execution.org_id and s.id = execution.skill_id;
  -- The same answer if the skill is in a private project by now.
  if skill.id is null or not (any_caller or private.skills_is_visible(skill.id)) then
    perform kijko.fail('conflict', 'the skill was deleted');
  end if;
  perform private.skills_require_runnable(skill);
  return private.executions_queue(
    skill, execution.input, 'retry', habit_id => execution.habit_id, retry_of => execution.id,
    hold_id => private.executions_reserve(skill.org_id), reflex_id => execution.reflex_id,
    reflex_delivery_id => execution.reflex_delivery_id, depth => execution.depth
  );
end
$$;
comment on function private.executions_repeat(public.executions, boolean) is 'Queues what a failed or cancelled execution did as a new one with its own reservation. With any_caller it does not ask whether the caller sees the skill.';

create function public.retry_execution(id uuid) returns public.executions
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.executions_repeat(private.executions_require(retry_execution.id));
end
$$;
comment on function public.retry_execution(uuid) is 'Repeats a failed or cancelled execution as a new one with its own reservation. Definer: users only read executions.';
grant execute on function public.retry_execution(uuid) to authenticated;

create function private.executions_retry_job(job public.jobs) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  execution public.executions;
begin
  select e.* into execution from public.executions as e where e.org_id = job.org_id and e.job_id = job.id;
  if execution.id is null then
    perform kijko.fail('conflict', 'the execution of the job is not kept any more');
  end if;
  if exists (select 1 from public.executions as e where e.org_id = execution.org_id and e.retry_of = execution.id) then
    perform kijko.fail('conflict', 'the execution was repeated already');
  end if;
  execution := private.executions_repeat(execution, any_caller => true);
  return execution.job_id;
end
$$;
comment on function private.executions_retry_job(public.jobs) is 'Repeats the execution of a dead job, once, for an operator; named by private.job_dependents.';
update private.job_dependents set retry_function = 'executions_retry_job' where family = 'execution';
