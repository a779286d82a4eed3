-- ============================================================================
-- Skills: the functions that clients call for one skill or for many.
--
-- All are definer, because they ask for permissions skill by skill and answer for each; they check organization, permission
-- and project themselves.
-- ============================================================================

create function private.skills_require(skill_id uuid, permission text) returns public.skills
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  skill public.skills;
begin
  perform private.tenancy_require_caller();
  select s.* into skill from public.skills as s
  where s.id = skills_require.skill_id and s.org_id = any (array(select private.org_ids_with('skills:read')))
    and (s.project_id is null or private.projects_is_visible(s.project_id));
  -- The same answer if the skill does not exist and if the caller may not read it.
  if skill.id is null then
    perform kijko.fail('not_found', 'no such skill');
  end if;
  if not public.can(skill.org_id, permission) then
    perform kijko.fail('permission_denied', format('requires the permission %s', permission));
  end if;
  return skill;
end
$$;
comment on function private.skills_require(uuid, text) is 'The skill, if the caller sees it and holds the permission in its organization; fails otherwise.';

create function private.skills_require_project(org_id uuid, project_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if project_id is not null and not (
    private.projects_is_visible(project_id)
    and exists (select 1 from public.projects as p where p.org_id = skills_require_project.org_id and p.id = skills_require_project.project_id)
  ) then
    perform kijko.fail('not_found', 'no such project in the organization of the skill');
  end if;
end
$$;
comment on function private.skills_require_project(uuid, uuid) is 'Fails unless the project is one of this organization and the caller sees it. Null stands for no project.';

-- ----------------------------------------------------------------------------
-- Many at once
-- ----------------------------------------------------------------------------

create function private.skills_require_ids(ids uuid[]) returns uuid[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.tenancy_require_caller();
  if ids is null or coalesce(array_ndims(ids), 1) > 1 or cardinality(ids) > 1000 or array_position(ids, null) is not null then
    perform kijko.fail('invalid_input', 'ids: a list of at most 1,000 ids');
  end if;
  -- In one order, so that two calls about the same skills do not deadlock.
  return array(select distinct i.id from unnest(ids) as i (id) order by i.id);
end
$$;
comment on function private.skills_require_ids(uuid[]) is 'The ids of a bulk call, each once and in order; fails for more than 1,000.';

create function private.skills_refusal(skill public.skills, permission text) returns text
language sql set search_path = pg_catalog, pg_temp
as $$
  select case
    when skill.id is null or skill.org_id <> all (array(select private.org_ids_with('skills:read')))
      or (skill.project_id is not null and not private.projects_is_visible(skill.project_id)) then 'not_found'
    when not public.can(skill.org_id, permission) then 'permission_denied'
    when permission = 'skills:write' then private.projects_write_refusal(skill.project_id)
  end
$$;
comment on function private.skills_refusal(public.skills, text) is 'Why the caller may not do this with the skill: not_found, permission_denied, project_archived, or null when they may.';

create function private.skills_describe_refusal(code text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return case code
  when 'not_found' then 'no such skill'
  when 'permission_denied' then 'requires the permission skills:write, and more than the role viewer in its project'
  when 'project_archived' then 'the project of the skill is archived'
end;
comment on function private.skills_describe_refusal(text) is 'A code of skills_refusal() in words; null for null. Nullable: result.';

create function public.update_skills(ids uuid[], enabled boolean default null, project_id uuid default null, clear_project boolean default false)
returns table (id uuid, done boolean, code text, message text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills;
  skill_id uuid;
begin
  if update_skills.enabled is null and update_skills.project_id is null and update_skills.clear_project is not true then
    perform kijko.fail('invalid_input', 'nothing to change: give enabled, project_id or clear_project');
  end if;
  if update_skills.project_id is not null and update_skills.clear_project then
    perform kijko.fail('invalid_input', 'project_id and clear_project exclude each other');
  end if;
  if update_skills.project_id is not null and not private.projects_is_visible(update_skills.project_id) then
    perform kijko.fail('not_found', 'no such project');
  end if;
  foreach skill_id in array private.skills_require_ids(ids) loop
    skill := null;
    -- Without a lock: a caller must neither wait for another organization's row nor hold it.
    select s.* into skill from public.skills as s where s.id = skill_id;
    code := private.skills_refusal(skill, 'skills:write');
    if code is null and update_skills.project_id is not null
      and not exists (select 1 from public.projects as p where p.org_id = skill.org_id and p.id = update_skills.project_id) then
      code := 'not_found';
      message := 'the project is in another organization';
    else
      message := private.skills_describe_refusal(code);
    end if;
    if code is null then
      -- Only now: it locks the project, which a caller without the permission must not.
      perform private.projects_require_open(update_skills.project_id);
      update public.skills as s
      set enabled = coalesce(update_skills.enabled, s.enabled),
        project_id = case when update_skills.clear_project then null else coalesce(update_skills.project_id, s.project_id) end
      -- It may have been moved into a private project meanwhile.
      where s.id = skill_id and (s.project_id is null or private.projects_is_visible(s.project_id));
      if not found then
        code := 'not_found';
        message := 'no such skill';
      end if;
    end if;
    id := skill_id;
    done := code is null;
    return next;
  end loop;
end
$$;
comment on function public.update_skills(uuid[], boolean, uuid, boolean) is 'Enables or disables skills, and moves them into a project or, by clear_project, out of theirs. One row for each id: done, or a code and a message. Nullable: code, message. Definer: it asks for permissions skill by skill.';
grant execute on function public.update_skills(uuid[], boolean, uuid, boolean) to authenticated;

create function public.delete_skills(ids uuid[]) returns table (id uuid, done boolean, code text, message text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills;
  skill_id uuid;
begin
  foreach skill_id in array private.skills_require_ids(ids) loop
    skill := null;
    select s.* into skill from public.skills as s where s.id = skill_id;
    code := private.skills_refusal(skill, 'skills:write');
    message := private.skills_describe_refusal(code);
    if code is null then
      delete from public.skills as s
      where s.id = skill_id and (s.project_id is null or private.projects_is_visible(s.project_id));
      if not found then
        code := 'not_found';
        message := 'no such skill';
      end if;
    end if;
    id := skill_id;
    done := code is null;
    return next;
  end loop;
end
$$;
comment on function public.delete_skills(uuid[]) is 'Deletes skills with their versions and habits; their executions stay. One row for each id: done, or a code and a message. Nullable: code, message. Definer: it asks for permissions skill by skill.';
grant execute on function public.delete_skills(uuid[]) to authenticated;

-- ----------------------------------------------------------------------------
-- One skill
-- ----------------------------------------------------------------------------

create function public.duplicate_skill(skill_id uuid, name text default null) returns public.skills
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills := private.skills_require(skill_id, 'skills:write');
  made public.skills;
begin
  if duplicate_skill.name is not null then
    perform private.require_name(duplicate_skill.name);
  end if;
  insert into public.skills (org_id, project_id, name, description, prompt_template, prompt_path, prompt_label, input_schema, model, parameters, tags, enabled)
  values (
    skill.org_id, skill.project_id, coalesce(duplicate_skill.name, left(skill.name, 93) || ' (copy)'), skill.description,
    skill.prompt_template, skill.prompt_path, skill.prompt_label, skill.input_schema, skill.model, skill.parameters, skill.tags, skill.enabled
  )
  returning * into made;
  return made;
end
$$;
comment on function public.duplicate_skill(uuid, text) is 'A new skill with the current version of another one, in the same project; without a name it gets the other''s with "(copy)". Definer: it checks the permission itself.';
grant execute on function public.duplicate_skill(uuid, text) to authenticated;

create function private.skills_find_version(skill public.skills, version integer) returns public.skill_versions
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  found_version public.skill_versions;
begin
  select v.* into found_version from public.skill_versions as v
  where v.org_id = skill.org_id and v.skill_id = skill.id and v.version = skills_find_version.version;
  if found_version.id is null then
    perform kijko.fail('not_found', 'the skill has no such version, or it is not kept any more');
  end if;
  return found_version;
end
$$;
comment on function private.skills_find_version(public.skills, integer) is 'A version of a skill; fails with not_found.';

create function public.restore_skill_version(skill_id uuid, version integer) returns public.skills
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills := private.skills_require(restore_skill_version.skill_id, 'skills:write');
  former public.skill_versions := private.skills_find_version(skill, restore_skill_version.version);
begin
  update public.skills as s
  set prompt_template = former.prompt_template, prompt_path = former.prompt_path, prompt_label = former.prompt_label,
    input_schema = former.input_schema, model = former.model, parameters = former.parameters
  where s.id = skill.id
  returning s.* into skill;
  return skill;
end
$$;
comment on function public.restore_skill_version(uuid, integer) is 'Makes the task what it was in that version, as a new version. Nothing changes when it is the same. Definer: it checks the permission itself.';
grant execute on function public.restore_skill_version(uuid, integer) to authenticated;

create function public.diff_skill_versions(skill_id uuid, from_version integer, to_version integer default null)
returns table (field text, before jsonb, after jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill constant public.skills := private.skills_require(diff_skill_versions.skill_id, 'skills:read');
  former constant public.skill_versions := private.skills_find_version(skill, from_version);
  later constant public.skill_versions := private.skills_find_version(skill, coalesce(to_version, skill.version));
begin
  return query
  select f.field, f.before, f.after
  from (
    values
      ('prompt_template', to_jsonb(former.prompt_template), to_jsonb(later.prompt_template)),
      ('prompt_path', to_jsonb(former.prompt_path), to_jsonb(later.prompt_path)),
      ('prompt_label', to_jsonb(former.prompt_label), to_jsonb(later.prompt_label)),
      ('input_schema', former.input_schema, later.input_schema),
      ('model', to_jsonb(former.model), to_jsonb(later.model)),
      ('parameters', former.parameters, later.parameters)
  ) as f (field, before, after)
  where f.before::text is distinct from f.after::text;
end
$$;
comment on function public.diff_skill_versions(uuid, integer, integer) is 'What differs between two versions of a skill, a row for each field; without to_version from the current one. Definer: it checks the permission itself.';
grant execute on function public.diff_skill_versions(uuid, integer, integer) to authenticated;

-- ----------------------------------------------------------------------------
-- Who is notified about what runs a skill
-- ----------------------------------------------------------------------------

create function private.skills_recipients(org uuid, skill_id uuid, author uuid, permission text)
returns table (user_id uuid, email text, locale text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with project as (
    select p.id, p.visibility
    from public.skills as s join public.projects as p on p.org_id = s.org_id and p.id = s.project_id
    where s.org_id = skills_recipients.org and s.id = skills_recipients.skill_id
  ), seeing as (
    select m.user_id, m.user_id = author as is_author, manages.permission is not null as manages
    from public.memberships as m
    join private.role_permissions as reads
      on reads.holder = coalesce(m.custom_role_id::text, m.role) and reads.permission = skills_recipients.permission
    left join private.role_permissions as manages on manages.holder = reads.holder and manages.permission = 'projects:manage'
    where m.org_id = skills_recipients.org and not m.sso_required
      and (
        manages.permission is not null
        or not exists (select 1 from project as p where p.visibility = 'private')
        or exists (
          select 1 from project as p
          join public.project_members as o on o.org_id = skills_recipients.org and o.project_id = p.id and o.user_id = m.user_id
        )
      )
  )
  select u.id, u.email, u.raw_user_meta_data ->> 'locale'
  from seeing as s
  join auth.users as u on u.id = s.user_id and u.email_confirmed_at is not null and u.deleted_at is null
    and (u.banned_until is null or u.banned_until <= now())
  where u.email <> '' and (s.is_author or (s.manages and not exists (select 1 from seeing as c where c.is_author)))
  order by u.created_at, u.id
  limit 10
$$;
comment on function private.skills_recipients(uuid, uuid, uuid, text) is 'Who is notified about a thing that runs a skill: its author, while a member who holds the permission and sees the skill; otherwise at most ten such members who manage all projects. Only confirmed addresses.';
