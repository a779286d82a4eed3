-- ============================================================================
-- Skills: checks for editors, and tests.
--
-- Nothing here is charged, except a real run. Prompts are rendered by the sidecar: at once by POST /functions/v1/skills-check,
-- or as a job of the kind skill_test. A caller has one such job at a time, and the next one deletes it.
-- ============================================================================

create function private.skills_limit_checks() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.limit_rate(
    'skills_check:' || coalesce(kijko.api_key_id(), kijko.user_id()), 120, interval '1 minute', 'a caller checks and tests at most %s skills a minute'
  );
end
$$;
comment on function private.skills_limit_checks() is 'Counts a check or a dry run of the caller, and fails with rate_limited above the limit.';

create function public.check_skill(skill_id uuid default null, model text default null, parameters jsonb default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills;
  org uuid;
begin
  if check_skill.skill_id is not null then
    skill := private.skills_require(check_skill.skill_id, 'skills:execute');
    perform private.projects_require_active(skill.project_id);
  else
    perform private.tenancy_require_caller();
    org := public.org_id();
    if org is null or not public.can(org, 'skills:write') then
      perform kijko.fail('permission_denied', 'requires the permission skills:write');
    end if;
  end if;
  if char_length(check_skill.model) > 200 then
    perform kijko.fail('invalid_input', 'model: at most 200 characters');
  end if;
  if coalesce(jsonb_typeof(check_skill.parameters), 'object') <> 'object' or not private.json_fits(check_skill.parameters, 16384) then
    perform kijko.fail('invalid_input', 'parameters: an object of at most 16 KiB');
  end if;
  perform private.skills_limit_checks();
  skill.model := coalesce(check_skill.model, skill.model, 'echo/echo');
  skill.parameters := coalesce(check_skill.parameters, skill.parameters, '{}');
  return jsonb_build_object(
    'org_id', coalesce(skill.org_id, org),
    'problems', private.skills_model_problems(skill.model, skill.parameters),
    'model', skill.model,
    'parameters', skill.parameters,
    'input_schema', skill.input_schema,
    'max_output_tokens', (private.models_price(skill.model, null)).max_output_tokens
  ) || case
    when skill.id is null then '{}'
    else private.skills_template(skill.org_id, skill.prompt_template, skill.prompt_path, skill.prompt_label)
  end;
end
$$;
comment on function public.check_skill(uuid, text, jsonb) is 'What is known of a model and its parameters without the sandbox: problems and max_output_tokens; with skill_id, what the call leaves out is the skill''s. POST /functions/v1/skills-check asks it who the caller is and what they may, and adds the check of template, schema and input. Definer: it checks the permissions itself.';
grant execute on function public.check_skill(uuid, text, jsonb) to authenticated;

create function private.skills_estimate_cost(model text, input_tokens bigint, output_tokens bigint, service_tier text) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp
return private.models_max_cost(model, jsonb_build_object('input_tokens', input_tokens, 'output_tokens', output_tokens, 'service_tier', service_tier));
comment on function private.skills_estimate_cost(text, bigint, bigint, text) is 'The most that a call with these tokens costs, in millionths of a US dollar; null without a price. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.skills_estimate_cost(text, bigint, bigint, text) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- test_skill
-- ----------------------------------------------------------------------------

create table private.skill_tests (
  org uuid not null references public.organizations (id) on delete cascade,
  caller uuid not null,
  job_id uuid,
  primary key (org, caller)
);
comment on table private.skill_tests is 'The last dry run of each caller, so that the next one deletes its job.';
comment on column private.skill_tests.org is 'Organization of the skill.';
comment on column private.skill_tests.caller is 'User or API key.';
comment on column private.skill_tests.job_id is 'The job; null before the first.';
select private.describe_data('private.skill_tests', '{
  "org, caller, job_id": {"subject": "organization", "purpose": "keeps the results of dry runs from adding up", "export": "none"}
}');
alter table private.skill_tests enable row level security;

create function private.skills_queue_test(skill public.skills, input jsonb) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  files constant jsonb := private.files_pin(skill, input);
  payload constant jsonb := jsonb_build_object('skill_id', skill.id, 'input', input)
    || case when files = '[]' then '{}' else jsonb_build_object('files', files) end;
  me constant uuid := coalesce(kijko.api_key_id(), kijko.user_id());
  former uuid;
  job uuid;
begin
  if pg_column_size(payload) > 262144 then
    perform kijko.fail('invalid_input', 'input: too large for a dry run');
  end if;
  perform private.skills_limit_checks();
  insert into private.skill_tests as t (org, caller) values (skill.org_id, me)
  on conflict (org, caller) do update set caller = excluded.caller
  returning t.job_id into former;
  delete from public.jobs as j where j.id = former and j.status not in ('queued', 'running');
  if not found and exists (select 1 from public.jobs as j where j.id = former) then
    perform kijko.fail('conflict', 'your last dry run has not ended');
  end if;
  job := private.jobs_enqueue(skill.org_id, 'skill_test', payload, max_attempts => 3, timeout_seconds => 60, project_id => skill.project_id);
  update private.skill_tests as t set job_id = job where t.org = skill.org_id and t.caller = me;
  return job;
end
$$;
comment on function private.skills_queue_test(public.skills, jsonb) is 'Queues a dry run of the caller and deletes their last one; fails while that has not ended.';

create function public.test_skill(skill_id uuid, input jsonb default '{}', dry_run boolean default true) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills := private.skills_require(test_skill.skill_id, 'skills:execute');
  execution_id uuid;
begin
  perform private.projects_require_active(skill.project_id);
  if jsonb_typeof(test_skill.input) is distinct from 'object' or not private.json_fits(test_skill.input, 262144) then
    perform kijko.fail('invalid_input', 'input: an object of at most 256 KiB');
  end if;
  if test_skill.dry_run is not false then
    return jsonb_build_object('dry_run', true, 'job_id', private.skills_queue_test(skill, test_skill.input));
  end if;
  perform private.skills_require_runnable(skill);
  select e.id into execution_id from private.executions_queue(
    skill, test_skill.input, 'test', hold_id => private.executions_reserve(skill.org_id)
  ) as e;
  return jsonb_build_object('dry_run', false, 'execution_id', execution_id);
end
$$;
comment on function public.test_skill(uuid, jsonb, boolean) is 'Tests a skill. A dry run is a job whose result has the rendered prompt, the tokens and the cost at most; it calls no model and is not charged. Otherwise a real execution, reserved and charged like any, whose trigger is test. Definer: users do not write jobs and executions.';
grant execute on function public.test_skill(uuid, jsonb, boolean) to authenticated;
