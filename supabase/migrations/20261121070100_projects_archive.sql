-- ============================================================================
-- Projects: archiving.
--
-- An archived project is read-only. Triggers that make_tenant_table() adds (projects_guard_row, skills_guard_row) refuse writes of
-- the project's rows with project_archived, for every role and for functions. Nothing new runs in it: executions are refused, and
-- the slots of its habits are skipped. What is queued or running when it is archived still ends. The project counts against the
-- plan's limit as before, and can be deleted.
-- ============================================================================

create function private.projects_refuse_archived() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.fail('project_archived', 'the project is archived', 'Restore it: restore_project().');
  return null;
end
$$;
comment on function private.projects_refuse_archived() is 'Trigger: an archived project itself does not change, either.';
create trigger projects_archived before update of name, description, visibility, slug, settings on public.projects
  for each row when (old.archived_at is not null) execute function private.projects_refuse_archived();

create function private.projects_require_active(project_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Without a lock: an execution that is queued while its project is being archived counts as queued before.
  if exists (select 1 from public.projects as p where p.id = projects_require_active.project_id and p.archived_at is not null) then
    perform kijko.fail('project_archived', 'the project is archived', 'Restore it: restore_project().');
  end if;
  if projects_require_active.project_id is not null and (kijko.actor()).kind not in ('none', 'service')
    and not private.projects_is_writable(projects_require_active.project_id)
  then
    perform kijko.fail('permission_denied', 'a viewer of the project runs nothing in it');
  end if;
end
$$;
comment on function private.projects_require_active(uuid) is 'Fails with project_archived if a project is archived, and with permission_denied if the caller only views it: nothing new runs in it. Does nothing for null. The caller has checked that the project is visible. Called by definer functions.';

create function private.projects_lock(project_id uuid) returns public.projects
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  project public.projects;
begin
  perform private.tenancy_require_caller();
  -- Before the lock, so that a non-member who knows an id cannot lock the row.
  select p.* into project from public.projects as p
  where p.id = projects_lock.project_id and p.org_id = any (array(select private.org_ids_with('projects:read')))
    and private.projects_is_visible(p.id);
  if project.id is null then
    perform kijko.fail('not_found', 'no such project');
  end if;
  if not public.can(project.org_id, 'projects:write') or not private.projects_is_managed(project.id) then
    perform kijko.fail('permission_denied', 'requires the permission projects:write, and for a private project its role admin or projects:manage');
  end if;
  -- Another transaction may have deleted it, or made it private.
  select p.* into project from public.projects as p where p.id = projects_lock.project_id for no key update;
  if project.id is null or not private.projects_is_managed(project.id) then
    perform kijko.fail('not_found', 'no such project');
  end if;
  return project;
end
$$;
comment on function private.projects_lock(uuid) is 'Locks a project that the caller may change and returns it; fails otherwise. Called by definer functions only.';

create function public.archive_project(project_id uuid) returns public.projects
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  project public.projects := private.projects_lock(archive_project.project_id);
begin
  if project.archived_at is null then
    update public.projects as p set archived_at = kijko.now() where p.id = project.id returning p.* into project;
  end if;
  return project;
end
$$;
comment on function public.archive_project(uuid) is 'Archives a project: nothing in it changes or starts to run until it is restored. Executions that are queued or running end as usual. A repeated call returns the same row. Needs projects:write; for a private project also its role admin, or projects:manage. Definer: users may not write archived_at.';
grant execute on function public.archive_project(uuid) to authenticated;

create function public.restore_project(project_id uuid) returns public.projects
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  project public.projects := private.projects_lock(restore_project.project_id);
begin
  if project.archived_at is not null then
    update public.projects as p set archived_at = null where p.id = project.id returning p.* into project;
  end if;
  return project;
end
$$;
comment on function public.restore_project(uuid) is 'Restores an archived project. Its habits run again from their next slot on. A repeated call returns the same row. Needs what archive_project() needs. Definer: users may not write archived_at.';
grant execute on function public.restore_project(uuid) to authenticated;
