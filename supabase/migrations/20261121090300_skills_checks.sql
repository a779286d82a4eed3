-- ============================================================================
-- Skills: the check of a version by the sidecar.
--
-- A tenant's template and schema are evaluated in the sidecar's sandbox only, so a save queues a job of the kind skill_check.
-- The job checks the version that is current when it starts, and the result counts only while that version is current. So a
-- check may run twice or late, and none is lost: each save either has a queued job, which cannot start before the save has
-- committed, or queues a new one.
-- ============================================================================

create function private.skills_queue_check(skill public.skills) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  -- Above executions: they may take minutes, and an editor waits for the check. One of an organization at a time, so that its slow
  -- schemas hold one slot of a worker.
  -- A job that waits will read this version: its lock keeps claims away until this transaction ends.
  perform 1 from public.jobs as j
  where j.org_id = skill.org_id and j.kind = 'skill_check' and j.unique_key = skill.id::text and j.status = 'queued'
  for no key update skip locked;
  if found then
    return;
  end if;
  if private.jobs_enqueue(
    skill.org_id, 'skill_check', jsonb_build_object('skill_id', skill.id), priority => 10::smallint, timeout_seconds => 60,
    unique_key => skill.id::text, concurrency_key => 'skill_check', project_id => skill.project_id
  ) is null then
    -- A worker has just taken the job up and may have read the former version.
    perform private.jobs_enqueue(
      skill.org_id, 'skill_check', jsonb_build_object('skill_id', skill.id), priority => 10::smallint, timeout_seconds => 60,
      concurrency_key => 'skill_check', project_id => skill.project_id
    );
  end if;
end
$$;
comment on function private.skills_queue_check(public.skills) is 'Queues the check of a skill as it is after this transaction, unless a job that has not started will check it.';

create function private.skills_enqueue_check() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.skills_queue_check(new);
  return null;
end
$$;
comment on function private.skills_enqueue_check() is 'Trigger: queues the check of a new version, unless a job that has not started will check it. Definer: users do not write jobs.';

create function private.skills_enqueue_checks() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.jobs_enqueue_many(jsonb_agg(jsonb_build_object(
    'org_id', m.org_id, 'kind', 'skill_check', 'payload', jsonb_build_object('skill_id', m.id), 'priority', 10, 'timeout_seconds', 60,
    'unique_key', m.id, 'concurrency_key', 'skill_check', 'project_id', m.project_id
  )))
  from made as m having count(*) > 0;
  return null;
end
$$;
comment on function private.skills_enqueue_checks() is 'Trigger: queues the checks of new skills, in one statement. Definer: users do not write jobs.';
create trigger skills_check_first_version after insert on public.skills
  referencing new table as made for each statement execute function private.skills_enqueue_checks();
create trigger skills_check_new_version after update on public.skills
  for each row when (new.version <> old.version) execute function private.skills_enqueue_check();

-- ----------------------------------------------------------------------------
-- Called by workers. The result is recorded and the job ended in two transactions: the deletion of a project locks its jobs
-- and then its skills, so one transaction that locked a skill and then its job could deadlock with it.
-- ----------------------------------------------------------------------------

create function private.skills_template(org uuid, template text, prompt_path text, prompt_label text) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if prompt_path is null then
    return jsonb_build_object('prompt_template', template);
  end if;
  -- Without the prompt there is nothing to check: prompts_skill_problems() says so.
  return coalesce(
    (
      select jsonb_build_object('prompt_template', p.template, 'engine', p.engine)
      from private.prompts_of_skill(org, skills_template.prompt_path, skills_template.prompt_label) as p
    ),
    jsonb_build_object('prompt_template', '')
  );
end
$$;
comment on function private.skills_template(uuid, text, text, text) is 'The template of a skill: its own, or that of the prompt that it names with its engine. Definer: a caller may run a skill whose prompt they do not read.';

create function private.skills_start_check(skill_id uuid) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  -- An aggregate, so that there is always one row; null for a skill that was deleted.
  select jsonb_agg(jsonb_build_object('version', s.version, 'task', jsonb_build_object(
    'input_schema', s.input_schema, 'model', s.model, 'parameters', s.parameters,
    'max_output_tokens', (private.models_price(s.model, null)).max_output_tokens
  ) || private.skills_template(s.org_id, s.prompt_template, s.prompt_path, s.prompt_label))) -> 0
  from public.skills as s where s.id = skills_start_check.skill_id
$$;
comment on function private.skills_start_check(uuid) is 'The current version of a skill, to be checked or tried: version and task. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.skills_start_check(uuid) to kijko_sidecar;

create function private.skills_record_check(skill_id uuid, version integer, problems jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.skills as s
  set problems = skills_record_check.problems || private.skills_model_problems(s.model, s.parameters)
      || case when s.prompt_path is null then '[]' else private.prompts_skill_problems(s.org_id, s.prompt_path, s.prompt_label) end,
    checked_at = kijko.now()
  where s.id = skills_record_check.skill_id and s.version = skills_record_check.version;
  return found;
end
$$;
comment on function private.skills_record_check(uuid, integer, jsonb) is 'Records what the sandbox says of a version, as a list of {code, severity, message}, if it is still the current one; false otherwise. Definer: the sidecar holds no table rights.';
grant execute on function private.skills_record_check(uuid, integer, jsonb) to kijko_sidecar;

create function private.skills_end_check(worker text, job_id uuid, attempt integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.jobs_delete_leased(worker, job_id, attempt, 'skill_check');
end
$$;
comment on function private.skills_end_check(text, uuid, integer) is 'Deletes the job of a check that has ended; false when the lease was lost. Its result is in the skill, and rows of so many jobs would fill the table. Definer: the sidecar holds no table rights.';
grant execute on function private.skills_end_check(text, uuid, integer) to kijko_sidecar;
