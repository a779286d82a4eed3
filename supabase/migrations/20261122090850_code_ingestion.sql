-- ============================================================================
-- Code: ingestion of a project, which is the indexing of its repositories, and of its files as documents.
-- ============================================================================

create type public.ingestion_status as (
  project_id uuid, status text, repositories integer, queued integer, running integer, succeeded integer, failed integer, cancelled integer,
  files_done integer, files_total integer, started_at timestamptz, finished_at timestamptz, files_skipped integer
);
comment on type public.ingestion_status is 'Result of start_ingestion(), ingestion_status() and cancel_ingestion(): the latest indexing job of each repository of the project, counted, and the ingestion of its files. files_skipped are files that are no text, or too large for a document. status is none, running, succeeded, failed or cancelled. Nullable: started_at, finished_at.';

create function private.code_ingestion(project uuid) returns public.ingestion_status
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  files record;
  counted public.ingestion_status;
begin
  select count(*)::integer,
    count(*) filter (where l.status = 'queued')::integer, count(*) filter (where l.status = 'running')::integer,
    count(*) filter (where l.status in ('succeeded', 'superseded'))::integer,
    count(*) filter (where l.status = 'failed')::integer, count(*) filter (where l.status = 'cancelled')::integer,
    coalesce(sum(l.files_done), 0)::integer, coalesce(sum(l.files_total), 0)::integer,
    min(l.created_at), case when bool_and(l.finished_at is not null) then max(l.finished_at) end
  into counted.repositories, counted.queued, counted.running, counted.succeeded, counted.failed, counted.cancelled,
    counted.files_done, counted.files_total, counted.started_at, counted.finished_at
  from public.repositories as r
  left join lateral (
    select i.* from public.indexing_jobs as i
    where i.org_id = r.org_id and i.repository_id = r.id and i.branch = private.code_indexed_branch(r)
    order by i.seq desc
    limit 1
  ) as l on true
  where r.project_id = project;
  select d.* into files from private.documents_ingestion_status(project) as d;
  counted.project_id := project;
  counted.status := case
    when counted.queued + counted.running > 0 or files.status in ('queued', 'running') then 'running'
    when counted.failed > 0 or files.status = 'failed' then 'failed'
    when counted.cancelled > 0 or files.status = 'cancelled' then 'cancelled'
    when counted.succeeded > 0 or files.status = 'succeeded' then 'succeeded'
    else 'none'
  end;
  counted.files_skipped := coalesce(files.skipped, 0);
  if files.status is not null then
    counted.files_done := counted.files_done + files.files_done;
    counted.files_total := counted.files_total + files.files_total;
    counted.started_at := least(counted.started_at, files.started_at);
    counted.finished_at := case
      when counted.status <> 'running' and (counted.repositories = 0 or counted.finished_at is not null) then greatest(counted.finished_at, files.finished_at)
    end;
  end if;
  return counted;
end
$$;
comment on function private.code_ingestion(uuid) is 'How the indexing of a project''s repositories and the ingestion of its files are going.';

create function private.code_require_project(project_id uuid, permission text) returns public.projects
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  project public.projects;
begin
  perform private.tenancy_require_caller();
  select p.* into project from public.projects as p
  where p.id = project_id and p.org_id = any (array(select private.org_ids_with('repositories:read'))) and private.projects_is_visible(p.id);
  if project.id is null then
    perform kijko.fail('not_found', 'no such project');
  elsif not public.can(project.org_id, permission) then
    perform kijko.fail('permission_denied', format('requires the permission %s', permission));
  end if;
  return project;
end
$$;
comment on function private.code_require_project(uuid, text) is 'A project whose repositories the caller sees; fails with not_identified, not_found or permission_denied.';

create function public.start_ingestion(project_id uuid) returns public.ingestion_status
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  project constant public.projects := private.code_require_project(project_id, 'repositories:write');
  repository public.repositories;
begin
  perform private.projects_require_open(project.id);
  perform private.limit_rate('start_ingestion:' || project.org_id, 60, interval '1 hour', 'at most %s an hour');
  for repository in select r.* from public.repositories as r where r.org_id = project.org_id and r.project_id = project.id order by r.id loop
    perform private.code_enqueue(repository, private.code_indexed_branch(repository), 'ingestion');
  end loop;
  -- Who may not write documents ingests none.
  if public.can(project.org_id, 'files:read') and public.can(project.org_id, 'files:write') then
    perform private.documents_start_ingestion(project);
  end if;
  return private.code_ingestion(project.id);
end
$$;
comment on function public.start_ingestion(uuid) is 'Queues the indexing of all repositories of a project, and of its files as documents for who holds files:read and files:write; what waits already is joined. Needs repositories:write. Definer: users only read indexing jobs.';
grant execute on function public.start_ingestion(uuid) to authenticated;

create function public.ingestion_status(project_id uuid) returns public.ingestion_status
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  project constant public.projects := private.code_require_project(project_id, 'repositories:read');
begin
  return private.code_ingestion(project.id);
end
$$;
comment on function public.ingestion_status(uuid) is 'How the indexing of a project''s repositories is going. Needs repositories:read. Definer: it counts rows that the caller sees.';
grant execute on function public.ingestion_status(uuid) to authenticated;

create function public.cancel_ingestion(project_id uuid) returns public.ingestion_status
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  project constant public.projects := private.code_require_project(project_id, 'repositories:write');
  job uuid;
begin
  for job in
    select j.id
    from public.repositories as r join public.indexing_jobs as j on j.org_id = r.org_id and j.repository_id = r.id
    where r.org_id = project.org_id and r.project_id = project.id and j.status in ('queued', 'running')
    order by j.id
  loop
    perform public.cancel_indexing(job);
  end loop;
  perform private.documents_cancel_ingestion(project);
  return private.code_ingestion(project.id);
end
$$;
comment on function public.cancel_ingestion(uuid) is 'Cancels what is queued or running of a project''s indexing. Needs repositories:write. Definer: as cancel_indexing().';
grant execute on function public.cancel_ingestion(uuid) to authenticated;
