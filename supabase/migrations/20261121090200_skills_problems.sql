-- ============================================================================
-- Skills: problems, and whether a skill may run.
-- ============================================================================

-- The columns of the row that a trigger writes come from a client, so this takes values and no row of prices.
create function private.skills_model_problems(model text, parameters jsonb) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('code', u.code, 'severity', 'error', 'message', u.reason)), '[]')
  from (
    values
      ('model_not_available', private.models_unavailable_reason(skills_model_problems.model)),
      ('model_not_priced', private.models_unpriced_reason(skills_model_problems.model, skills_model_problems.parameters ->> 'service_tier'))
  ) as u (code, reason)
  where u.reason is not null
$$;
comment on function private.skills_model_problems(text, jsonb) is 'Why a model with these parameters cannot be called, as a list of {code, severity, message}. Definer: only the domain may look prices up by any name, and providers.';
-- The trigger that sets a skill''s version runs as the role that writes the skill.
grant execute on function private.skills_model_problems(text, jsonb) to authenticated, service_role;

create function private.skills_current_problems(skill public.skills) returns jsonb
-- Not inlined, so that it may call a function of a later domain.
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(jsonb_agg(p.problem order by p.place), '[]')
    from jsonb_array_elements(
      -- Prices and providers may have changed since the row was written, and labels of prompts may have moved.
      jsonb_path_query_array(skill.problems, '$[*] ? (@.code != "model_not_priced" && @.code != "model_not_available" && @.code != "prompt_not_found")')
      || private.skills_model_problems(skill.model, skill.parameters)
      || case when skill.prompt_path is null then '[]' else private.prompts_skill_problems(skill.org_id, skill.prompt_path, skill.prompt_label) end
    ) with ordinality as p (problem, place)
  );
end
$$;
comment on function private.skills_current_problems(public.skills) is 'What is known to be wrong with the skill now, as a list of {code, severity, message}: the problems of its row, with those of the model and of the prompt that it names looked up anew.';

create function private.skills_stopping_problems(skill public.skills) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
return jsonb_path_query_array(private.skills_current_problems(skill), '$[*] ? (!(@.severity == "warning"))');
comment on function private.skills_stopping_problems(public.skills) is 'Those of skills_current_problems() that stop the skill: all but warnings.';

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
  problems constant jsonb := private.skills_stopping_problems(skill);
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

-- ----------------------------------------------------------------------------
-- Prices and providers change. Whether a skill may run is looked up each time; the column follows within a minute.
-- ----------------------------------------------------------------------------

create table private.skill_refreshes (
  only_row boolean primary key default true check (only_row),
  fingerprint text not null check (char_length(fingerprint) <= 100),
  refreshed_at timestamptz not null default clock_timestamp()
);
comment on table private.skill_refreshes is 'The prices and providers by which skills.problems was last brought up to date.';
comment on column private.skill_refreshes.only_row is 'The table has one row.';
comment on column private.skill_refreshes.fingerprint is 'Hash of all prices and of the providers that were on.';
comment on column private.skill_refreshes.refreshed_at is 'When that was.';
select private.describe_data('private.skill_refreshes', '{"only_row, fingerprint, refreshed_at": "saves reading all skills when nothing has changed"}', 'platform');
alter table private.skill_refreshes enable row level security;

create function private.skills_refresh_problems(max_skills integer default 20000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  current constant text := md5(concat(
    (select string_agg(m::text, ',' order by m.id) from public.llm_models as m),
    (select string_agg(p.provider, ',' order by p.provider) from private.model_providers as p
      where p.reported_at > clock_timestamp() - interval '1 hour')
  ));
  changed integer;
begin
  if exists (select 1 from private.skill_refreshes as r where r.fingerprint = current) then
    return 0;
  end if;
  with models as materialized (
    select d.model, d.tier, private.skills_model_problems(d.model, jsonb_build_object('service_tier', d.tier)) as problems
    from (select distinct s.model, s.parameters ->> 'service_tier' as tier from public.skills as s) as d
  ),
  stale as (
    select s.id
    from public.skills as s
    join models as m on m.model = s.model and m.tier is not distinct from s.parameters ->> 'service_tier'
    where jsonb_path_query_array(s.problems, '$[*] ? (@.code == "model_not_priced" || @.code == "model_not_available")') <> m.problems
    order by s.id
    limit max_skills
    -- A skill that is being changed is refreshed by the next call.
    for no key update of s skip locked
  )
  update public.skills as s set problems = private.skills_current_problems(s) from stale where s.id = stale.id;
  get diagnostics changed = row_count;
  -- Until nothing was stale, the next call looks again.
  if changed = 0 then
    insert into private.skill_refreshes as r (fingerprint) values (current)
    on conflict (only_row) do update set fingerprint = excluded.fingerprint, refreshed_at = clock_timestamp();
  end if;
  return changed;
end
$$;
comment on function private.skills_refresh_problems(integer) is 'Brings the model problems of all skills up to date, at most so many in one call, and returns how many it changed. Called by pg_cron each minute; it reads the skills only after prices or providers have changed.';
select private.schedule('kijko-skills-refresh-problems', '* * * * *', 'perform private.skills_refresh_problems()');
