-- ============================================================================
-- Files: large text as input of skills.
--
-- Anywhere in an input, {"$file": "notes/plan.md"} stands for the text of a file of the skill's project, and "version" beside it
-- for one of its versions.
--   1. When an execution is made, private.files_pin() checks who asks and which versions are meant. The row keeps them.
--   2. When it runs, private.files_open() looks again and gives the sidecar a sealed ticket for each file.
--   3. The storage service opens the ticket by private.files_redeem() and sends the bytes.
-- A habit and a reflex are checked when they are stored, too. An event never names a file: only the mapping of its reflex does.
-- ============================================================================

create function private.files_references(value jsonb) returns table (reference jsonb, uses bigint)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select r.reference, count(*)
  -- Each reference is a copy of all that it contains, so their depth is bounded. What lies deeper is data.
  from jsonb_path_query(value, 'strict $.**{0 to 64} ? (exists (@."$file"))') as r (reference)
  group by r.reference
$$;
comment on function private.files_references(jsonb) is 'The objects within a value, up to 64 levels deep, that have the member $file, and how often each is there.';

create function private.files_wanted(skill public.skills, input jsonb, reflex_id uuid, retry_of uuid)
returns table (reference jsonb, uses bigint, pinned uuid)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select f.reference, f.uses, p.version_id
  from private.files_references(input) as f
  left join (
    select i.reference, i.version_id
    from public.executions as e
    cross join lateral jsonb_to_recordset(e.input_files) as i (reference jsonb, version_id uuid)
    where e.org_id = skill.org_id and e.id = files_wanted.retry_of
  ) as p on p.reference = f.reference
  where case
    when files_wanted.retry_of is not null then p.version_id is not null
    when files_wanted.reflex_id is not null then f.reference in (
      select m.reference from public.reflexes as r cross join lateral private.files_references(r.input_mapping) as m
      where r.org_id = skill.org_id and r.id = files_wanted.reflex_id
    )
    else true
  end
$$;
comment on function private.files_wanted(public.skills, jsonb, uuid, uuid) is 'The references of an input that are ones: all of them, for a reflex those that its mapping has, and for a retry those that the execution had, with their versions. Whatever else an event contains is data.';

create function private.files_is_text(content_type text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return content_type is null or content_type !~* '^(audio|font|image|video)/|^application/(pdf|zip|gzip|x-(7z|bzip2|gzip|tar|rar)[a-z-]*|vnd\.[a-z0-9.-]*(officedocument|opendocument|rar|ms-)[a-z0-9.-]*)' or content_type ~* '^image/svg';
comment on function private.files_is_text(text) is 'False for types that are certainly no text. Of all others the bytes decide.';

-- The answer has the same order of checks for everybody who may read files.
create function private.files_resolve(org uuid, project uuid, reference jsonb) returns public.project_file_versions
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  wanted_path constant text := case when jsonb_typeof(reference -> '$file') = 'string' then reference ->> '$file' end;
  wanted integer;
  file public.project_files;
  found_version public.project_file_versions;
begin
  if wanted_path is null or reference - array['$file', 'version'] <> '{}'
    or (reference ? 'version' and (jsonb_typeof(reference -> 'version') <> 'number' or reference ->> 'version' !~ '^[1-9][0-9]{0,8}$'))
  then
    perform kijko.fail('invalid_input', 'a reference to a file', 'It is {"$file": path}, with "version": number or without.');
  end if;
  wanted := (reference ->> 'version')::integer;
  select f.* into file from public.project_files as f where f.org_id = org and f.project_id = project and f.path = wanted_path;
  select v.* into found_version from public.project_file_versions as v
  where v.org_id = org and v.file_id = file.id and v.version = coalesce(wanted, file.version);
  if found_version.id is null then
    perform kijko.fail('file_not_found', left(wanted_path, 200) || coalesce(', version ' || wanted, ''));
  elsif file.deleted_at is not null then
    perform kijko.fail('file_deleted', left(wanted_path, 200), 'restore_project_file() brings it back.');
  elsif not private.files_is_text(found_version.content_type) then
    perform kijko.fail('file_not_text', format('%s is %s', left(wanted_path, 200), found_version.content_type));
  end if;
  return found_version;
end
$$;
comment on function private.files_resolve(uuid, uuid, jsonb) is 'The version that a reference means, in this project. Fails with invalid_input, file_not_found, file_deleted or file_not_text.';

create function private.files_pin(skill public.skills, input jsonb, reflex_id uuid default null, retry_of uuid default null) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  max_files constant integer := 20;
  max_bytes constant integer := 2097152;
  bytes bigint := 0;
  pins jsonb := '[]'::jsonb;
  wanted record;
  version public.project_file_versions;
begin
  -- Nearly all inputs name no file.
  if input::text not like '%"$file"%' then
    return pins;
  end if;
  for wanted in select w.* from private.files_wanted(skill, input, files_pin.reflex_id, files_pin.retry_of) as w order by w.reference loop
    if pins = '[]' then
      perform private.files_require_reader(skill);
    end if;
    version := private.files_resolve(skill.org_id, skill.project_id, wanted.reference);
    if wanted.pinned is not null and wanted.pinned <> version.id then
      select v.* into version from public.project_file_versions as v
      where v.org_id = skill.org_id and v.project_id = skill.project_id and v.id = wanted.pinned;
      if version.id is null then
        perform kijko.fail('file_not_found', 'the version that the execution had was removed');
      end if;
    end if;
    bytes := bytes + version.bytes * wanted.uses;
    pins := pins || jsonb_build_object('reference', wanted.reference, 'version_id', version.id, 'version', version.version);
    if bytes > max_bytes then
      perform kijko.fail('file_too_large', format('files of an input have %s bytes at most', max_bytes));
    elsif jsonb_array_length(pins) > max_files then
      perform kijko.fail('invalid_input', format('an input names %s files at most', max_files));
    end if;
  end loop;
  return pins;
end
$$;
comment on function private.files_pin(public.skills, jsonb, uuid, uuid) is 'The versions of the files that an input names, for the row of its execution: [{reference, version_id, version}]. Fails with permission_denied, invalid_input, file_not_found, file_deleted, file_not_text or file_too_large. Called by definer functions only.';

create function private.files_require_reader(skill public.skills) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regnamespace('storage_service') is null then
    perform kijko.fail('invalid_input', 'files are no input on self-hosted Supabase yet');
  elsif skill.project_id is null then
    perform kijko.fail('invalid_input', 'the skill is in no project, so there are no files');
  end if;
  -- Schedules and deliveries have no caller. The caller who stored the habit or the reflex was checked then.
  if (kijko.actor()).kind in ('none', 'service') then
    return;
  elsif not public.can(skill.org_id, 'files:read') then
    perform kijko.fail('permission_denied', 'requires the permission files:read');
  elsif not private.projects_is_visible(skill.project_id) then
    perform kijko.fail('not_found', 'no such skill');
  end if;
end
$$;
comment on function private.files_require_reader(public.skills) is 'Fails unless the skill has a project and the caller, if there is one, may read its files: permission_denied without files:read, not_found for a project that is hidden from them.';

-- ----------------------------------------------------------------------------
-- Habits and reflexes, when they are stored. After the policies: others learn nothing from a refusal.
-- ----------------------------------------------------------------------------

create function private.files_check_input() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  value constant jsonb := case tg_table_name when 'habits' then to_jsonb(new) -> 'input' else to_jsonb(new) -> 'input_mapping' end;
  skill public.skills;
begin
  if tg_table_name = 'reflexes' and exists (
    select 1 from private.files_references(value) as r where r.reference ->> '$file' ~ '\{[{%#]'
  ) then
    perform kijko.fail('invalid_input', 'input_mapping: the path of a file is no template');
  end if;
  select s.* into skill from public.skills as s where s.org_id = new.org_id and s.id = new.skill_id;
  perform private.files_pin(skill, value);
  return null;
end
$$;
comment on function private.files_check_input() is 'Trigger: files that a habit or a reflex names exist, and its writer may read them. Definer: reads skills and files.';
create trigger habits_check_files after insert or update of input, skill_id on public.habits
  for each row when (new.input::text like '%"$file"%') execute function private.files_check_input();
create trigger reflexes_check_files after insert or update of input_mapping, skill_id on public.reflexes
  for each row when (new.input_mapping::text like '%"$file"%') execute function private.files_check_input();

-- ----------------------------------------------------------------------------
-- For the sidecar, and for the storage service
-- ----------------------------------------------------------------------------

create function private.files_ticket(org uuid, project uuid, pin jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  found_version public.project_file_versions;
  deleted boolean;
begin
  select v.* into found_version from public.project_file_versions as v
  where v.org_id = org and v.project_id = project and v.id = (pin ->> 'version_id')::uuid;
  select f.deleted_at is not null into deleted from public.project_files as f where f.org_id = org and f.id = found_version.file_id;
  if found_version.id is null or deleted then
    return jsonb_build_object(
      'refused', case when deleted then 'file_deleted' else 'file_not_found' end,
      'message', format('%s, version %s', left(pin #>> '{reference,$file}', 200), pin ->> 'version')
    );
  end if;
  return jsonb_build_object(
    'reference', pin -> 'reference', 'bytes', found_version.bytes,
    'ticket', kijko.seal(
      jsonb_build_object('object_name', found_version.object_name, 'expires_at', extract(epoch from clock_timestamp()) + 300)::text, 'files/ticket'
    )
  );
end
$$;
comment on function private.files_ticket(uuid, uuid, jsonb) is 'A ticket for the object of a pinned version: {reference, bytes, ticket}; {refused, message} when it is gone.';

create function private.files_open(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  pins jsonb := job.payload -> 'files';
  project uuid := job.project_id;
begin
  if job.id is null then
    return null;
  elsif job.kind <> 'skill_test' then
    select e.input_files, e.project_id into pins, project from public.executions as e
    where e.org_id = job.org_id and e.job_id = job.id and e.status = 'running';
  end if;
  return (
    select coalesce(jsonb_agg(private.files_ticket(job.org_id, project, p.pin)), '[]')
    from jsonb_array_elements(coalesce(pins, '[]')) as p (pin)
  );
end
$$;
comment on function private.files_open(text, uuid, integer) is 'The files that the input of a held job names, of an execution or a dry run: {reference, bytes, ticket} or {refused, message} for each. Null when the lease was lost. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.files_open(text, uuid, integer) to kijko_sidecar;

create function private.files_redeem(ticket text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  opened jsonb;
begin
  if kijko.can_unseal(ticket, 'files/ticket') then
    opened := kijko.unseal(ticket, 'files/ticket')::jsonb;
  end if;
  return case when (opened ->> 'expires_at')::numeric > extract(epoch from clock_timestamp()) then opened ->> 'object_name' end;
end
$$;
comment on function private.files_redeem(text) is 'The name of the object that a ticket of private.files_open() is for; null for any other text, and after five minutes. Nullable: result. Definer: only the domain opens what it has sealed.';
do $$
begin
  if to_regrole('kijko_storage_admin') is not null then
    grant execute on function private.files_redeem(text) to kijko_storage_admin;
  end if;
end
$$;
