-- ============================================================================
-- Skills: problems, and whether a skill may run.
-- ============================================================================

-- The columns of the row that a trigger writes come from a client, so this takes values and no row of prices.
create function private.skills_model_problems(model text, parameters jsonb) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('code', 'model_not_priced', 'message', u.reason)), '[]')
  from (select private.models_unpriced_reason(skills_model_problems.model, skills_model_problems.parameters ->> 'service_tier') as reason) as u
  where u.reason is not null
$$;
comment on function private.skills_model_problems(text, jsonb) is 'Why a model with these parameters cannot be called, as a list of {code, message}. Definer: only the domain may look prices up by any name.';
-- The trigger that sets a skill''s version runs as the role that writes the skill.
grant execute on function private.skills_model_problems(text, jsonb) to authenticated, service_role;

create function private.skills_current_problems(skill public.skills) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(p.problem order by p.place), '[]')
  from jsonb_array_elements(
    -- Prices and providers may have changed since the row was written.
    jsonb_path_query_array(skill.problems, '$[*] ? (@.code != "model_not_priced" && @.code != "model_not_available")')
    || private.skills_model_problems(skill.model, skill.parameters)
  ) with ordinality as p (problem, place)
$$;
comment on function private.skills_current_problems(public.skills) is 'What is known to stop the skill now, as a list of {code, message}: the problems of its row, with those of the model looked up anew.';

create function private.skills_describe_problems(problems jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s: %s', p.problem ->> 'code', p.problem ->> 'message'), '; ' order by p.place)
  from jsonb_array_elements(problems) with ordinality as p (problem, place)
$$;
comment on function private.skills_describe_problems(jsonb) is 'A list of problems in one line; null for an empty one.';

create function private.skills_require_runnable(skill public.skills) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  problems constant jsonb := private.skills_current_problems(skill);
begin
  perform private.projects_require_active(skill.project_id);
  if not skill.enabled then
    perform kijko.fail('conflict', 'the skill is disabled');
  end if;
  if problems <> '[]' then
    perform kijko.fail(
      'skill_not_runnable', private.skills_describe_problems(problems), 'The column problems of the skill lists what to mend.'
    );
  end if;
end
$$;
comment on function private.skills_require_runnable(public.skills) is 'Fails when the project of the skill is archived (project_archived) or the caller only views it (permission_denied), and when the skill is disabled (conflict) or has problems (skill_not_runnable). A version that was not checked yet may run: the worker checks it before it calls a model, and such a failure costs nothing.';

create trigger skills_version before insert or update on public.skills
  for each row execute function private.skills_set_version();
create trigger skills_keep_first_version after insert on public.skills
  for each row execute function private.skills_keep_version();
create trigger skills_keep_new_version after update on public.skills
  for each row when (new.version <> old.version) execute function private.skills_keep_version();
