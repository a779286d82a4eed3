-- ============================================================================
-- Files of projects, in the bucket project-files.
--
-- A file's versions are objects: {org_id}/{project_id}/{path of the file}/{id of the version}. So nothing is ever overwritten, on
-- Supabase's Storage as on Kijko's: an upload is a new version, and what is current is a column here. Policies on storage.objects
-- say who reads and writes; a trigger there keeps the two tables.
-- ============================================================================

create table public.project_files (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid not null,
  path text not null check (char_length(path) between 1 and 800),
  version integer not null check (version > 0),
  last_version integer not null check (last_version >= version),
  object_name text not null check (char_length(object_name) <= 1024),
  bytes bigint not null check (bytes >= 0),
  content_type text check (char_length(content_type) <= 255),
  deleted_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, project_id, path),
  unique (org_id, id),
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade
);
comment on table public.project_files is 'Files of projects, with their current version. Uploads to the bucket project-files make them. Users only read the table.';
comment on column public.project_files.id is 'Identity of the file.';
comment on column public.project_files.org_id is 'Organization of the project; never changes.';
comment on column public.project_files.project_id is 'The project.';
comment on column public.project_files.path is 'Path in the project, such as notes/plan.md; unique in it.';
comment on column public.project_files.version is 'The current version: the last upload, or the one that was restored.';
comment on column public.project_files.last_version is 'The highest number that a version had.';
comment on column public.project_files.object_name is 'Where the current version lies in the bucket.';
comment on column public.project_files.bytes is 'Size of the current version.';
comment on column public.project_files.content_type is 'Type of the current version.';
comment on column public.project_files.deleted_at is 'When it was deleted; null for a file that is there. Its versions remain until they are removed from the bucket.';
comment on column public.project_files.created_by is 'User who uploaded the first version; null for an API key, and after that user is deleted.';
comment on column public.project_files.created_by_key is 'Null: storage knows users only.';
comment on column public.project_files.created_at is 'When the first version was uploaded.';
comment on column public.project_files.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.project_files', resource => 'files', max_rows => 100000, writable => '{}', catalogue => '{
  "project_id, path, version, last_version, object_name, bytes, content_type, deleted_at": "files that members keep with a project"
}');

create table public.project_file_versions (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid not null,
  file_id uuid not null,
  version integer not null check (version > 0),
  object_name text not null check (char_length(object_name) <= 1024),
  bytes bigint not null check (bytes >= 0),
  content_type text check (char_length(content_type) <= 255),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, file_id, version),
  unique (org_id, object_name),
  foreign key (org_id, file_id) references public.project_files (org_id, id) on delete cascade,
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade
);
comment on table public.project_file_versions is 'Versions of files: one for each object in the bucket project-files. Users only read the table.';
comment on column public.project_file_versions.id is 'Identity of the version.';
comment on column public.project_file_versions.org_id is 'Organization of the project; never changes.';
comment on column public.project_file_versions.project_id is 'Project of the file.';
comment on column public.project_file_versions.file_id is 'The file.';
comment on column public.project_file_versions.version is 'Number of the version, from 1.';
comment on column public.project_file_versions.object_name is 'Where it lies in the bucket.';
comment on column public.project_file_versions.bytes is 'Its size.';
comment on column public.project_file_versions.content_type is 'Its type.';
comment on column public.project_file_versions.created_by is 'User who uploaded it; null for an API key, and after that user is deleted.';
comment on column public.project_file_versions.created_by_key is 'Null: storage knows users only.';
comment on column public.project_file_versions.created_at is 'When it was uploaded.';
comment on column public.project_file_versions.updated_at is 'Last change; set by trigger.';
create index project_file_versions_project_id_idx on public.project_file_versions (org_id, project_id);
select private.make_tenant_table('public.project_file_versions', resource => 'files', max_rows => 1000000, writable => '{}', catalogue => '{
  "project_id, file_id, version, object_name, bytes, content_type": "versions of files that members keep with a project"
}');

-- ----------------------------------------------------------------------------
-- Whose an object is, and who may write it
-- ----------------------------------------------------------------------------

create function private.files_is_writable(name text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  project constant uuid := private.storage_segment_id(files_is_writable.name, 2);
begin
  return exists (select 1 from public.projects as p where p.id = project and p.org_id = private.storage_segment_id(files_is_writable.name, 1))
    and private.projects_is_writable(project);
end
$$;
comment on function private.files_is_writable(text) is 'Whether an object''s name names a project of its organization in which the caller changes rows; false for null. The policy asks it beside a permission. Definer: reads projects.';
grant execute on function private.files_is_writable(text) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Objects make files
-- ----------------------------------------------------------------------------

create function private.files_show(file_id uuid, shown integer) returns public.project_files
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
  update public.project_files as f
  set version = v.version, object_name = v.object_name, bytes = v.bytes, content_type = v.content_type
  from public.project_file_versions as v
  where f.id = files_show.file_id and v.org_id = f.org_id and v.file_id = f.id and v.version = files_show.shown
  returning f.*;
end;
comment on function private.files_show(uuid, integer) is 'Makes a version of a file the current one; null when there is no such version. Nullable: result.';

create function private.files_add_version(object_name text, owner uuid, metadata jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.storage_segment_id(object_name, 1);
  project constant uuid := private.storage_segment_id(object_name, 2);
  segments constant text[] := string_to_array(object_name, '/');
  size constant bigint := private.storage_object_bytes(metadata, null);
  type constant text := left(metadata ->> 'mimetype', 255);
  made_by constant uuid := (select u.id from auth.users as u where u.id = owner);
  file public.project_files;
begin
  if cardinality(segments) < 4 or segments && array['', '.', '..'] or private.storage_segment_id(object_name, cardinality(segments)) is null
    or not exists (select 1 from public.projects as p where p.id = project and p.org_id = org)
  then
    perform kijko.fail('bad_request', 'the name of the object', 'It is <org_id>/<project_id>/<path of the file>/<new uuid>.');
  end if;
  perform private.projects_require_open(project);
  insert into public.project_files as f (org_id, project_id, path, version, last_version, object_name, bytes, content_type, created_by)
  values (org, project, array_to_string(segments[3 : cardinality(segments) - 1], '/'), 1, 1, files_add_version.object_name, size, type, made_by)
  on conflict (org_id, project_id, path) do update set last_version = f.last_version + 1, deleted_at = null
  returning f.* into file;
  if (select count(*) from public.project_file_versions as v where v.org_id = org and v.file_id = file.id) >= 100 then
    perform kijko.fail('conflict', 'the file has 100 versions', 'Remove old versions from the bucket.');
  end if;
  insert into public.project_file_versions (org_id, project_id, file_id, version, object_name, bytes, content_type, created_by)
  values (org, project, file.id, file.last_version, files_add_version.object_name, size, type, made_by);
  perform private.files_show(file.id, file.last_version);
end
$$;
comment on function private.files_add_version(text, uuid, jsonb) is 'A new object of the bucket is a new version of its file, which becomes the current one. Fails with bad_request for a name of another form, with project_archived, and with conflict beyond 100 versions.';

create function private.files_remove_version(object_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  removed public.project_file_versions;
  newest integer;
begin
  select v.* into removed from public.project_file_versions as v
  where v.org_id = private.storage_segment_id(files_remove_version.object_name, 1) and v.object_name = files_remove_version.object_name;
  if not found then
    return; -- went with its project
  end if;
  perform private.projects_require_open(removed.project_id);
  -- Uploads and removals of a file wait for each other.
  perform 1 from public.project_files as f where f.id = removed.file_id for no key update;
  delete from public.project_file_versions as v where v.id = removed.id;
  select max(v.version) into newest from public.project_file_versions as v where v.org_id = removed.org_id and v.file_id = removed.file_id;
  if newest is null then
    delete from public.project_files as f where f.id = removed.file_id;
  else
    perform private.files_show(f.id, newest) from public.project_files as f where f.id = removed.file_id and f.version = removed.version;
  end if;
end
$$;
comment on function private.files_remove_version(text) is 'A removed object is a removed version. The newest one that remains becomes current if it was; without another the file is gone. Fails with project_archived.';

create function private.files_sync_object() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    perform private.files_add_version(new.name, new.owner, new.metadata);
  elsif tg_op = 'DELETE' then
    perform private.files_remove_version(old.name);
  elsif (new.bucket_id, new.name) is distinct from (old.bucket_id, old.name) then
    perform kijko.fail('conflict', 'versions of files are not moved', 'Copy the object, or upload it again.');
  elsif new.version is distinct from old.version then
    -- The service asks the policies before a signed upload, when there may be no row yet that one for update would refuse.
    perform kijko.fail('conflict', 'versions of files are not overwritten', 'Upload it under a new name.');
  elsif new.metadata is not distinct from old.metadata then
    return null; -- an erasure forgets who wrote it
  else
    perform private.projects_require_open(private.storage_segment_id(new.name, 2));
    update public.project_file_versions as v
    set bytes = private.storage_object_bytes(new.metadata, null), content_type = left(new.metadata ->> 'mimetype', 255)
    where v.org_id = private.storage_segment_id(new.name, 1) and v.object_name = new.name;
    perform private.files_show(f.id, f.version) from public.project_files as f
    where f.org_id = private.storage_segment_id(new.name, 1) and f.object_name = new.name;
  end if;
  return null;
end
$$;
comment on function private.files_sync_object() is 'Trigger: keeps files and their versions with the objects of the bucket. Fails with conflict when an object is moved or overwritten, and with project_archived. Definer: users only read the tables.';

insert into private.reflex_events (event, permission, description) values
  ('file.uploaded', 'files:read', 'A version of a file was uploaded to a project.');

create function private.files_emit_upload() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if private.reflexes_listens(new.org_id, 'file.uploaded') then
    perform private.reflexes_emit(
      new.org_id, 'file.uploaded',
      jsonb_build_object(
        'file_id', new.file_id, 'project_id', new.project_id,
        'path', (select f.path from public.project_files as f where f.org_id = new.org_id and f.id = new.file_id),
        'version', new.version, 'bytes', new.bytes, 'content_type', new.content_type, 'uploaded_by', new.created_by, 'uploaded_at', new.created_at
      ),
      project_id => new.project_id
    );
  end if;
  return null;
end
$$;
comment on function private.files_emit_upload() is 'Trigger: emits file.uploaded. Definer: who uploads has no right on the organization''s reflexes.';
create trigger project_file_versions_reflexes after insert on public.project_file_versions
  for each row execute function private.files_emit_upload();

create function private.files_attach() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('storage.objects') is null or to_regclass('storage.buckets') is null then
    return false;
  end if;
  insert into storage.buckets (id, name, public) values ('project-files', 'project-files', false) on conflict do nothing;
  create or replace trigger kijko_files_written after insert or update on storage.objects
    for each row when (new.bucket_id = 'project-files') execute function private.files_sync_object();
  create or replace trigger kijko_files_moved after update on storage.objects
    for each row when (old.bucket_id = 'project-files' and new.bucket_id is distinct from 'project-files') execute function private.files_sync_object();
  create or replace trigger kijko_files_removed after delete on storage.objects
    for each row when (old.bucket_id = 'project-files') execute function private.files_sync_object();
  if exists (select from pg_policy as p where p.polrelid = 'storage.objects'::regclass and p.polname = 'project_files_select') then
    return true;
  end if;
  create policy project_files_select on storage.objects for select to authenticated using (
    bucket_id = 'project-files'
    and private.storage_segment_id(name, 1) = any (array(select private.org_ids_with('files:read')))
    and (private.storage_segment_id(name, 2) = any (array(select private.projects_hidden_ids()))) is not true
  );
  -- None for update: a version never changes.
  create policy project_files_insert on storage.objects for insert to authenticated with check (
    bucket_id = 'project-files'
    and private.storage_segment_id(name, 1) = any (array(select private.org_ids_with('files:write')))
    and private.files_is_writable(name)
  );
  create policy project_files_delete on storage.objects for delete to authenticated using (
    bucket_id = 'project-files'
    and private.storage_segment_id(name, 1) = any (array(select private.org_ids_with('files:write')))
    and (private.storage_segment_id(name, 2) = any (array(select private.projects_unwritable_ids()))) is not true
  );
  perform private.storage_meter_bucket('project-files');
  return true;
end
$$;
comment on function private.files_attach() is 'Makes the bucket project-files, its policies and its triggers; false when there is no storage yet, as on Supabase before its Storage has run. Only for postgres and the superuser.';
select private.files_attach();

-- As private.storage_delete_objects() does for organizations.
create function private.files_delete_objects() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.storage_delete_below('{project-files}', old.org_id::text || '/' || old.id::text);
  return null;
end
$$;
comment on function private.files_delete_objects() is 'Trigger: the files of a deleted project go with it. On Supabase the objects stay, because only its own service may delete the bytes. Definer: users may not delete a project''s objects at once.';
create trigger projects_delete_objects after delete on public.projects
  for each row execute function private.files_delete_objects();

-- ----------------------------------------------------------------------------
-- Delete and restore
-- ----------------------------------------------------------------------------

create function private.files_lock(file_id uuid) returns public.project_files
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  file public.project_files;
begin
  perform private.tenancy_require_caller();
  -- Before the lock, so that a non-member who knows an id cannot lock the row. The same answer if it does not exist.
  select f.* into file from public.project_files as f
  where f.id = files_lock.file_id and f.org_id = any (array(select private.org_ids_with('files:read')))
    and private.projects_is_visible(f.project_id);
  if file.id is null then
    perform kijko.fail('not_found', 'no such file');
  end if;
  if not public.can(file.org_id, 'files:write') then
    perform kijko.fail('permission_denied', 'requires the permission files:write');
  end if;
  perform private.projects_require_open(file.project_id);
  select f.* into file from public.project_files as f where f.id = files_lock.file_id for no key update;
  if file.id is null then
    perform kijko.fail('not_found', 'no such file');
  end if;
  return file;
end
$$;
comment on function private.files_lock(uuid) is 'The file, locked, for a caller who may change it. Fails with not_identified, not_found, permission_denied or project_archived.';

create function public.delete_project_file(file_id uuid) returns public.project_files
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  file public.project_files := private.files_lock(delete_project_file.file_id);
begin
  update public.project_files as f set deleted_at = coalesce(f.deleted_at, kijko.now()) where f.id = file.id returning f.* into file;
  return file;
end
$$;
comment on function public.delete_project_file(uuid) is 'Deletes a file; restore_project_file() or an upload of its path brings it back. Its versions remain, and count, until they are removed from the bucket. Needs files:write. Definer: users only read the table.';
grant execute on function public.delete_project_file(uuid) to authenticated;

create function public.restore_project_file(file_id uuid, version integer default null) returns public.project_files
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  file public.project_files := private.files_lock(restore_project_file.file_id);
begin
  file := private.files_show(file.id, coalesce(restore_project_file.version, file.version));
  if file.id is null then
    perform kijko.fail('not_found', 'no such version');
  end if;
  update public.project_files as f set deleted_at = null where f.id = file.id returning f.* into file;
  return file;
end
$$;
comment on function public.restore_project_file(uuid, integer) is 'Makes a version of a file the current one, by default the one that is, and brings a deleted file back. Needs files:write. Definer: users only read the table.';
grant execute on function public.restore_project_file(uuid, integer) to authenticated;
