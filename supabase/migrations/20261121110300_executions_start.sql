-- ============================================================================
-- Executions: the start of an attempt.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Called by workers. Definer: the sidecar's role holds no right on any table.
-- ----------------------------------------------------------------------------

create function private.executions_start(worker text, job_id uuid, attempt integer default null) returns jsonb
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  job public.jobs := private.jobs_lock_leased(worker, executions_start.job_id, executions_start.attempt);
  execution public.executions;
  skill public.skills;
  prompt record; -- The tables come later.
  engine jsonb;
begin
  if job.id is null then
    return null;
  end if;
  if job.cancel_requested then
    perform private.jobs_finish(job, 'cancelled', null, 'cancelled', null);
    return null;
  end if;
  select e.* into execution from public.executions as e
  where e.org_id = job.org_id and e.job_id = job.id and e.status in ('queued', 'running')
  for update;
  if execution.id is null then
    perform private.jobs_finish(job, 'dead', null, 'not_found', 'the job has no open execution');
    return null;
  end if;
  select s.* into skill from public.skills as s where s.org_id = execution.org_id and s.id = execution.skill_id;
  if skill.id is null then
    perform private.jobs_finish(job, 'dead', null, 'not_found', 'the skill was deleted before it ran');
    return null;
  end if;
  -- The skill's model has changed to another vendor's, for which this worker may have no key.
  if private.executions_job_kind(skill.model) <> job.kind then
    perform private.jobs_requeue(job, 'redirected', private.executions_current_kind(skill.id));
    return null;
  end if;

  if skill.prompt_path is not null then
    -- The label is resolved once. A later attempt keeps the version, unless the skill itself was saved in between.
    if execution.started_at is not null and execution.prompt_id is not null and execution.skill_version = skill.version then
      select p.* into prompt from private.prompts_version_of_execution(execution.org_id, execution.prompt_id, execution.prompt_version) as p;
    else
      select p.* into prompt from private.prompts_of_skill(skill.org_id, skill.prompt_path, skill.prompt_label) as p;
    end if;
    if not found then
      perform private.jobs_finish(job, 'dead', null, 'prompt_not_found', format(
        'there is no text prompt %s with the label %s', skill.prompt_path, coalesce(skill.prompt_label, 'production')
      ));
      return null;
    end if;
    skill.prompt_template := prompt.template;
    engine := jsonb_build_object('engine', prompt.engine);
    execution.prompt_id := prompt.prompt_id;
    execution.prompt_version := prompt.version;
  else
    execution.prompt_id := null;
    execution.prompt_version := null;
  end if;

  update public.executions as e
  set status = 'running', started_at = coalesce(e.started_at, kijko.now()), model = skill.model, skill_version = skill.version,
    prompt_id = execution.prompt_id, prompt_version = execution.prompt_version
  where e.id = execution.id;
  return jsonb_build_object(
    'execution_id', execution.id,
    'org_id', execution.org_id,
    'skill_id', skill.id,
    'skill_version', skill.version,
    'model', skill.model,
    'prompt_template', skill.prompt_template,
    'input', execution.input,
    'reads_files', execution.input_files <> '[]',
    'input_schema', skill.input_schema,
    'parameters', skill.parameters,
    'max_output_tokens', (private.models_price(skill.model, null)).max_output_tokens,
    'trigger', execution.trigger,
    'attempt', job.attempt
  ) || coalesce(engine, '{}');
end
$$;
comment on function private.executions_start(text, uuid, integer) is 'Marks an execution running and returns what the worker needs to run it; null when the lease was lost, it was cancelled, its skill was deleted or names a prompt that is not there, or the job belongs to another vendor now. Definer: the sidecar holds no table rights.';
grant execute on function private.executions_start(text, uuid, integer) to kijko_sidecar;
