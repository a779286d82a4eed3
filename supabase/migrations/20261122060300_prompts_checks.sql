-- ============================================================================
-- Prompts: the check of a version by the sidecar, and who may render.
--
-- Templates and schemas of tenants are evaluated in the sidecar's sandbox only, so a push queues a job of the kind prompt_check. A
-- version never changes, so a check that runs twice records the same.
-- ============================================================================

create function private.prompts_enqueue_check() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- As checks of skills: above executions, and one of an organization at a time.
  perform private.jobs_enqueue(
    new.org_id, 'prompt_check', jsonb_build_object('version_id', new.id), priority => 10::smallint, timeout_seconds => 60,
    concurrency_key => 'prompt_check'
  );
  return null;
end
$$;
comment on function private.prompts_enqueue_check() is 'Trigger: queues the check of a new version. Definer: users do not write jobs.';
create trigger prompt_versions_check after insert on public.prompt_versions
  for each row execute function private.prompts_enqueue_check();

create function private.prompts_start_check(version_id uuid) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  -- An aggregate, so that there is always one row; null for a version that was deleted.
  select jsonb_agg(jsonb_build_object('version', v.version, 'content', v.content, 'engine', v.engine, 'input_schema', v.input_schema)) -> 0
  from public.prompt_versions as v where v.id = prompts_start_check.version_id
$$;
comment on function private.prompts_start_check(uuid) is 'A version of a prompt, to be checked. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.prompts_start_check(uuid) to kijko_sidecar;

create function private.prompts_record_check(version_id uuid, problems jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.prompt_versions as v
  set problems = prompts_record_check.problems
      || case when v.model is null then '[]' else private.skills_model_problems(v.model, v.parameters) end,
    checked_at = kijko.now()
  where v.id = prompts_record_check.version_id;
  return found;
end
$$;
comment on function private.prompts_record_check(uuid, jsonb) is 'Records what the sandbox says of a version, as a list of {code, severity, message}, and what is wrong with its model; false if it was deleted. Definer: the sidecar holds no table rights.';
grant execute on function private.prompts_record_check(uuid, jsonb) to kijko_sidecar;

create function private.prompts_end_check(worker text, job_id uuid, attempt integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.jobs_delete_leased(worker, job_id, attempt, 'prompt_check');
end
$$;
comment on function private.prompts_end_check(text, uuid, integer) is 'Deletes the job of a check that has ended; false when the lease was lost. Its result is in the version. Definer: the sidecar holds no table rights.';
grant execute on function private.prompts_end_check(text, uuid, integer) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Asked by the sidecar as the caller
-- ----------------------------------------------------------------------------

create function public.check_prompt(path text default null, label text default null, version integer default null) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.tenancy_require_caller();
  if check_prompt.path is null then
    -- A draft of an editor.
    perform private.tenancy_require_org_with('prompts:write');
  end if;
  perform private.limit_rate(
    'prompts_render:' || coalesce(kijko.api_key_id(), kijko.user_id()), 600, interval '1 minute', 'a caller renders at most %s prompts a minute'
  );
  return jsonb_build_object('org_id', public.org_id()) || case
    when check_prompt.path is null then '{}'
    else jsonb_build_object('prompt', public.get_prompt(check_prompt.path, check_prompt.label, check_prompt.version))
  end;
end
$$;
comment on function public.check_prompt(text, text, integer) is 'What POST /functions/v1/render-prompt asks for each request: the prompt as get_prompt() answers it, or whether the caller may render a draft, which requires prompts:write. 600 a minute of a caller. Definer: it checks the permissions itself.';
grant execute on function public.check_prompt(text, text, integer) to authenticated;
