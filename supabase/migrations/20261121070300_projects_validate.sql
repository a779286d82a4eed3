-- ============================================================================
-- Projects: validate_project() lists what is wrong in a project, and what soon will be.
--
-- Each part reads the tables of one domain, late bound: they are in later files. A caller gets the findings about what their
-- permissions let them read.
-- ============================================================================

create type public.project_finding as (code text, severity text, message text, hint text, "where" jsonb);
comment on type public.project_finding is 'Finding of validate_project(). code is stable. severity: error (something does not work), warning (it will not, or not as meant) or info. where names the row as {table, id, name}, or the meter as {meter}. Nullable: hint.';

create function private.projects_finding(code text, severity text, message text, hint text, "table" text, id uuid, name text)
returns public.project_finding
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select (code, severity, message, hint, jsonb_build_object('table', "table", 'id', id, 'name', name))::public.project_finding
$$;
comment on function private.projects_finding(text, text, text, text, text, uuid, text) is 'A finding about one row.';

create function private.projects_validate_members(project public.projects) returns setof public.project_finding
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  roles constant text[] := array(select m.role from public.project_members as m where m.org_id = project.org_id and m.project_id = project.id);
begin
  if project.archived_at is not null then
    return next private.projects_finding(
      'project_archived', 'info', 'the project is archived: nothing in it changes or runs', 'Restore it: restore_project().', 'projects', project.id, project.name
    );
  end if;
  if project.visibility = 'private' and cardinality(roles) = 0 then
    return next private.projects_finding(
      'project_without_members', 'warning', 'the project is private and has no members', 'Add members, or let all members of the organization see it.', 'projects', project.id, project.name
    );
  elsif project.visibility = 'private' and 'admin' <> all (roles) then
    return next private.projects_finding(
      'project_without_admin', 'warning', 'no member of the private project has the role admin', 'Make a member an admin of the project.', 'projects', project.id, project.name
    );
  end if;
end
$$;
comment on function private.projects_validate_members(public.projects) is 'Findings about a project itself and its members.';

create function private.projects_validate_skills(project public.projects) returns setof public.project_finding
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select (private.projects_finding(
    'skill_not_runnable', 'error', private.skills_describe_problems(p.problems), 'The column problems of the skill lists what to mend.', 'skills', s.id, s.name
  )).*
  from public.skills as s
  cross join lateral (select private.skills_stopping_problems(s) as problems) as p
  where s.org_id = project.org_id and s.project_id = project.id and p.problems <> '[]';
  return query
  select (private.projects_finding(
    'skill_with_warnings', 'warning', private.skills_describe_problems(w.warnings), 'Some inputs may fail: compare the template with the schema.', 'skills', s.id, s.name
  )).*
  from public.skills as s
  cross join lateral (select jsonb_path_query_array(s.problems, '$[*] ? (@.severity == "warning")') as warnings) as w
  where s.org_id = project.org_id and s.project_id = project.id and w.warnings <> '[]';
  return query
  select (private.projects_finding(
    'disabled_skill_in_use', 'warning', 'the skill is disabled, but a habit or reflex that is enabled runs it', 'Enable the skill, or disable what runs it.', 'skills', s.id, s.name
  )).*
  from public.skills as s
  where s.org_id = project.org_id and s.project_id = project.id and not s.enabled
    and (
      exists (select 1 from public.habits as h where h.org_id = s.org_id and h.skill_id = s.id and h.enabled)
      or exists (select 1 from public.reflexes as r where r.org_id = s.org_id and r.skill_id = s.id and r.enabled)
    );
  if not exists (select 1 from public.skills as s where s.org_id = project.org_id and s.project_id = project.id) then
    return next private.projects_finding(
      'project_without_skills', 'info', 'the project has no skills', 'Add a skill, or move one into the project.', 'projects', project.id, project.name
    );
  end if;
end
$$;
comment on function private.projects_validate_skills(public.projects) is 'Findings about the skills of a project.';

create function private.projects_validate_habits(project public.projects) returns setof public.project_finding
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select f.*
  from public.skills as s
  join public.habits as h on h.org_id = s.org_id and h.skill_id = s.id
  cross join lateral private.projects_finding(
    case
      when h.paused_at is not null then 'habit_paused'
      when h.last_error is not null then 'habit_cannot_run'
      when h.ends_at <= kijko.now() then 'habit_ended'
      else 'habit_without_slot'
    end,
    case when h.paused_at is not null then 'warning' when h.last_error is not null then 'error' when h.ends_at <= kijko.now() then 'info' else 'warning' end,
    case
      when h.paused_at is not null then 'the habit is paused: ' || h.paused_reason
      when h.last_error is not null then 'the habit cannot run: ' || h.last_error
      when h.ends_at <= kijko.now() then 'the end date of the habit has passed'
      else 'the habit has no slot within its dates'
    end,
    case
      when h.paused_at is not null then 'Look at its executions, mend what is wrong, and enable the habit.'
      when h.last_error is not null then 'Mend the reason; it then runs from its next slot.'
      else 'Change ends_at, or disable or delete the habit.'
    end,
    'habits', h.id, h.name
  ) as f
  where s.org_id = project.org_id and s.project_id = project.id
    and (h.paused_at is not null or (h.enabled and (h.last_error is not null or h.next_run_at is null)));
end
$$;
comment on function private.projects_validate_habits(public.projects) is 'Findings about the habits of a project''s skills.';

create function private.projects_validate_reflexes(project public.projects) returns setof public.project_finding
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select f.*
  from public.skills as s
  join public.reflexes as r on r.org_id = s.org_id and r.skill_id = s.id and (r.enabled or r.last_error_code = 'author_lost_permission')
  cross join lateral (
    values
      (
        not r.enabled, 'reflex_paused', 'warning', format('the reflex is paused: %s', r.last_error), 'Enable it as somebody who holds the permission.'
      ),
      (
        r.enabled and r.source = 'webhook' and r.secret_prefix = '', 'reflex_without_secret', 'error', 'the reflex has no secret, so it refuses all requests',
        'Call rotate_reflex_secret(), and enter the secret at the sender.'
      ),
      (
        r.enabled and r.last_error_code is not null, 'reflex_failed', 'warning', format('the last delivery did not run: %s', coalesce(r.last_error, r.last_error_code)),
        'Mend the reason, and redeliver.'
      ),
      (
        r.enabled and r.last_rejected_at > kijko.now() - interval '1 day', 'reflex_rejects_requests', 'warning', 'requests with a wrong or missing signature came in the last day',
        'Compare the secret and the verification with the sender''s settings.'
      )
  ) as c (applies, code, severity, message, hint)
  cross join lateral private.projects_finding(c.code, c.severity, c.message, c.hint, 'reflexes', r.id, r.name) as f
  where s.org_id = project.org_id and s.project_id = project.id and c.applies;
end
$$;
comment on function private.projects_validate_reflexes(public.projects) is 'Findings about the reflexes of a project''s skills that are enabled or were paused.';

create function private.projects_validate_repositories(project public.projects) returns setof public.project_finding
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select f.*
  from public.repositories as r
  cross join lateral private.projects_finding(
    case r.status when 'failed' then 'repository_failed' else 'repository_without_webhook' end, 'warning',
    case r.status when 'failed' then 'the repository could not be indexed' else 'no secret was made for the webhook of the repository, so its deliveries are refused' end,
    case r.status when 'failed' then null else 'Call rotate_repository_secret(), and enter the secret at the provider.' end,
    'repositories', r.id, r.full_name
  ) as f
  where r.org_id = project.org_id and r.project_id = project.id and (r.status = 'failed' or r.webhook_secret_issued_at is null)
$$;
comment on function private.projects_validate_repositories(public.projects) is 'Findings about the repositories of a project.';

create function private.projects_validate_limits(project public.projects) returns setof public.project_finding
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select
    case when u.used >= u."limit" then 'limit_reached' else 'limit_nearly_reached' end,
    -- A gauge that is full stops nothing that is there.
    case when u.period = 'lifetime' then 'info' when u.used >= u."limit" then 'error' else 'warning' end,
    format('used %s of %s %s', u.used, u."limit", u.meter),
    case when u.reset_at is null then 'Delete what is no longer needed, or choose a larger plan.' else format('It starts again at %s; or choose a larger plan.', u.reset_at) end,
    jsonb_build_object('meter', u.meter)
  from kijko.usage(project.org_id) as u
  where u.meter in ('executions', 'llm_tokens', 'llm_cost_microusd', 'skills', 'habits', 'reflexes', 'repositories')
    and u.used >= u."limit" * 0.8
$$;
comment on function private.projects_validate_limits(public.projects) is 'Findings about limits of the plan that a project''s runs and rows count against, from 80 per cent on.';

create function public.validate_project(project_id uuid) returns setof public.project_finding
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  project public.projects;
begin
  perform private.tenancy_require_caller();
  select p.* into project from public.projects as p
  where p.id = validate_project.project_id and p.org_id = any (array(select private.org_ids_with('projects:read')))
    and private.projects_is_visible(p.id);
  if project.id is null then
    perform kijko.fail('not_found', 'no such project');
  end if;
  return query
  select f.*
  from (
    select m.* from private.projects_validate_members(project) as m
    union all
    select s.* from private.projects_validate_skills(project) as s where public.can(project.org_id, 'skills:read')
    union all
    select h.* from private.projects_validate_habits(project) as h where public.can(project.org_id, 'habits:read')
    union all
    select r.* from private.projects_validate_reflexes(project) as r where public.can(project.org_id, 'reflexes:read')
    union all
    select o.* from private.projects_validate_repositories(project) as o where public.can(project.org_id, 'repositories:read')
    union all
    select l.* from private.projects_validate_limits(project) as l where public.can(project.org_id, 'usage:read')
  ) as f
  order by array_position(array['error', 'warning', 'info'], f.severity), f.code, f."where" ->> 'name', f."where" ->> 'id'
  limit 1000;
end
$$;
comment on function public.validate_project(uuid) is 'What is wrong in a project: at most 1,000 findings, errors first. Needs projects:read; findings about skills, habits, reflexes, repositories and limits need the read permission of each. Definer: reads what the parts join, after these checks.';
grant execute on function public.validate_project(uuid) to authenticated;
