-- ============================================================================
-- Documents: the files of a project, as documents that can be searched.
--
--   1. start_ingestion() queues a job of the kind document_ingestion, one for each project.
--   2. The sidecar asks for the next files (documents_next_files), reads them from the storage service by their tickets, and stores
--      their texts (documents_store_files). What is stored of a file's version is not read again.
--   3. At the end, documents of files that are gone or deleted go, too.
-- A job that is killed at any step goes on behind the last file that was stored.
-- ============================================================================

create table private.document_ingestions (
  organization uuid not null,
  project_id uuid not null,
  queue_job_id uuid,
  after_path text not null default '' check (char_length(after_path) <= 800),
  files_done integer not null default 0 check (files_done >= 0),
  files_total integer not null default 0 check (files_total >= 0),
  skipped integer not null default 0 check (skipped >= 0),
  started_by uuid references auth.users (id) on delete set null,
  started_at timestamptz not null default kijko.now(),
  finished_at timestamptz,
  primary key (organization, project_id),
  foreign key (organization, project_id) references public.projects (org_id, id) on delete cascade
);
create index document_ingestions_started_by_idx on private.document_ingestions (started_by) where started_by is not null;
comment on table private.document_ingestions is 'The latest ingestion of each project''s files.';
comment on column private.document_ingestions.organization is 'Organization of the project.';
comment on column private.document_ingestions.project_id is 'The project.';
comment on column private.document_ingestions.queue_job_id is 'Its job in the queue. No foreign key: jobs are deleted after 30 days.';
comment on column private.document_ingestions.after_path is 'Last file that is done.';
comment on column private.document_ingestions.files_done is 'Files that are done, also those that were left out.';
comment on column private.document_ingestions.files_total is 'Files of the project when it began.';
comment on column private.document_ingestions.skipped is 'Files that were left out: no text, too large, too long a path, or beyond the number of documents.';
comment on column private.document_ingestions.started_by is 'User who started it; null for an API key, and after that user is deleted.';
comment on column private.document_ingestions.started_at is 'When it was asked for.';
comment on column private.document_ingestions.finished_at is 'When all files were done; null before.';
select private.describe_data('private.document_ingestions', '{
  "organization, project_id, queue_job_id, after_path, files_done, files_total, skipped, finished_at": {"subject": "organization", "purpose": "how the ingestion of files goes", "export": "none"},
  "started_by": {"subject": "person", "purpose": "who made the documents", "export": "none"},
  "started_at": "says when it was asked for"
}');
alter table private.document_ingestions enable row level security;

create function private.documents_start_ingestion(project public.projects) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  ingestion private.document_ingestions;
  files integer;
begin
  select count(*) into files from public.project_files as f where f.org_id = project.org_id and f.project_id = project.id and f.deleted_at is null;
  -- Without files there may be documents of former ones.
  if files = 0 and not exists (
    select 1 from public.documents as d where d.org_id = project.org_id and d.project_id = project.id and d.file_id is not null
  ) then
    return;
  end if;
  insert into private.document_ingestions (organization, project_id) values (project.org_id, project.id)
  on conflict (organization, project_id) do nothing;
  select i.* into ingestion from private.document_ingestions as i where i.organization = project.org_id and i.project_id = project.id for update;
  -- One that waits will read the newest files anyway.
  if exists (select 1 from public.jobs as j where j.org_id = project.org_id and j.id = ingestion.queue_job_id and j.status = 'queued') then
    return;
  end if;
  update private.document_ingestions as i
  set queue_job_id = private.jobs_enqueue(
      project.org_id, 'document_ingestion', jsonb_build_object('project_id', project.id), max_attempts => 5, timeout_seconds => 1800,
      concurrency_key => 'documents', project_id => project.id
    ), after_path = '', files_done = 0, files_total = files, skipped = 0, started_by = kijko.user_id(), started_at = kijko.now(), finished_at = null
  where i.organization = project.org_id and i.project_id = project.id;
end
$$;
comment on function private.documents_start_ingestion(public.projects) is 'Queues the ingestion of a project''s files, unless one waits already. Called by a definer function that has checked the caller.';

create function private.documents_cancel_ingestion(project public.projects) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.jobs_cancel(j.id)
  from private.document_ingestions as i
  join public.jobs as j on j.org_id = i.organization and j.id = i.queue_job_id and j.status in ('queued', 'running')
  where i.organization = project.org_id and i.project_id = project.id;
end
$$;
comment on function private.documents_cancel_ingestion(public.projects) is 'Cancels the ingestion of a project''s files. Called by a definer function that has checked the caller.';

create function private.documents_ingestion_status(
  project uuid, out status text, out files_done integer, out files_total integer, out skipped integer, out started_at timestamptz,
  out finished_at timestamptz
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  ingestion private.document_ingestions;
begin
  select i.* into ingestion from private.document_ingestions as i where i.project_id = project;
  if ingestion.project_id is null then
    return;
  end if;
  -- The queue forgets a job after 30 days.
  select case j.status when 'dead' then 'failed' else j.status end into status
  from public.jobs as j where j.org_id = ingestion.organization and j.id = ingestion.queue_job_id;
  status := coalesce(status, case when ingestion.finished_at is null then 'failed' else 'succeeded' end);
  files_done := ingestion.files_done;
  files_total := ingestion.files_total;
  skipped := ingestion.skipped;
  started_at := ingestion.started_at;
  finished_at := ingestion.finished_at;
end
$$;
comment on function private.documents_ingestion_status(uuid) is 'How the ingestion of a project''s files goes: queued, running, succeeded, failed or cancelled; nulls if there was none.';

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.documents_hold_ingestion(worker text, job_id uuid, attempt integer) returns private.document_ingestions
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  ingestion private.document_ingestions;
begin
  if job.kind = 'document_ingestion' and not job.cancel_requested then
    select i.* into ingestion from private.document_ingestions as i
    where i.organization = job.org_id and i.project_id = job.project_id and i.queue_job_id = job.id
    for update;
  end if;
  return ingestion;
end
$$;
comment on function private.documents_hold_ingestion(text, uuid, integer) is 'Locks a held job and its ingestion; null when the lease is lost, it was cancelled, or a newer one has replaced it.';

create function private.documents_is_fit(file public.project_files) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return private.files_is_text(file.content_type) and file.bytes <= 262144 and char_length(file.path) <= 490;
comment on function private.documents_is_fit(public.project_files) is 'Whether a file can be a document, as far as its row says.';

create function private.documents_next_files(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  ingestion constant private.document_ingestions := private.documents_hold_ingestion(worker, job_id, attempt);
  page jsonb;
begin
  if ingestion.project_id is null then
    return null;
  end if;
  with looked as (
    select f.*, d.id is not null as is_known, v.id as version_id
    from (
      select p.*, private.documents_is_fit(p) as is_fit from public.project_files as p
      where p.org_id = ingestion.organization and p.project_id = ingestion.project_id and p.deleted_at is null
        and p.path collate "C" > ingestion.after_path collate "C"
      order by p.path collate "C"
      limit 20
    ) as f
    join public.project_file_versions as v on v.org_id = f.org_id and v.file_id = f.id and v.version = f.version
    left join public.documents as d on d.org_id = f.org_id and d.file_id = f.id and d.file_version = f.version
  )
  select jsonb_build_object(
    'until', max(l.path collate "C"), 'looked', count(*), 'unfit', count(*) filter (where not l.is_fit and not l.is_known),
    'files', coalesce(jsonb_agg(jsonb_build_object(
      'file_id', l.id, 'version', l.version, 'path', l.path,
      'ticket', private.files_ticket(l.org_id, l.project_id, jsonb_build_object('version_id', l.version_id)) ->> 'ticket'
    )) filter (where l.is_fit and not l.is_known), '[]')
  ) into page
  from looked as l;
  if (page ->> 'looked')::integer = 0 then
    delete from public.documents as d
    using public.project_files as f
    where d.org_id = ingestion.organization and d.project_id = ingestion.project_id and f.org_id = d.org_id and f.id = d.file_id
      and (f.deleted_at is not null or not private.documents_is_fit(f));
    update private.document_ingestions as i set finished_at = coalesce(i.finished_at, kijko.now())
    where i.organization = ingestion.organization and i.project_id = ingestion.project_id;
  end if;
  return page;
end
$$;
comment on function private.documents_next_files(text, uuid, integer) is 'The next files of a held ingestion: {until, looked, unfit, files: [{file_id, version, path, ticket}]}, without those whose text is stored. looked is 0 when all are done; then documents of deleted files are gone. Null when the lease is lost, or there is nothing to do. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.documents_next_files(text, uuid, integer) to kijko_sidecar;

create function private.documents_store_file(ingestion private.document_ingestions, file_id uuid, version integer, content text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  file public.project_files;
begin
  select f.* into file from public.project_files as f
  where f.org_id = ingestion.organization and f.project_id = ingestion.project_id and f.id = file_id and f.deleted_at is null;
  if file.id is null then
    return false;
  elsif content is null or octet_length(content) > 262144 then
    delete from public.documents as d where d.org_id = file.org_id and d.file_id = file.id; -- That of a former version.
    return false;
  end if;
  -- A renamed file is another file, so a path is that of one file.
  update public.documents as d set content = content, file_version = version
  where d.org_id = file.org_id and d.file_id = file.id;
  if not found then
    insert into public.documents (org_id, project_id, path, content, file_id, file_version, created_by)
    values (file.org_id, file.project_id, 'files/' || file.path, content, file.id, version, ingestion.started_by)
    on conflict on constraint documents_org_id_project_id_path_key do nothing;
  end if;
  return found;
exception
  -- A path that documents do not have, or more documents than an organization may have.
  when check_violation or sqlstate 'KJ429' then
    return false;
end
$$;
comment on function private.documents_store_file(private.document_ingestions, uuid, integer, text) is 'Makes a file''s text a document, or changes it; false when it cannot be one, or a member keeps another document at its path.';

create function private.documents_store_files(worker text, job_id uuid, attempt integer, page jsonb, texts jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  ingestion constant private.document_ingestions := private.documents_hold_ingestion(worker, job_id, attempt);
  left_out integer;
begin
  if ingestion.project_id is null then
    return false;
  elsif page ->> 'until' collate "C" <= ingestion.after_path collate "C" then
    return true; -- The answer to the first call was lost.
  end if;
  select (page ->> 'unfit')::integer + count(*) filter (where not private.documents_store_file(ingestion, t.file_id, t.version, t.content))
  into left_out
  from jsonb_to_recordset(texts) as t (file_id uuid, version integer, content text);
  update private.document_ingestions as i
  set after_path = page ->> 'until', files_done = i.files_done + (page ->> 'looked')::integer, skipped = i.skipped + left_out
  where i.organization = ingestion.organization and i.project_id = ingestion.project_id;
  return true;
end
$$;
comment on function private.documents_store_files(text, uuid, integer, jsonb, jsonb) is 'Stores the texts of a page of documents_next_files(): [{file_id, version, content}], null for what is no text. False when the lease is lost, or there is nothing to do. Definer: the sidecar holds no table rights.';
grant execute on function private.documents_store_files(text, uuid, integer, jsonb, jsonb) to kijko_sidecar;
