-- ============================================================================
-- Social posts: the size of their images.
--
-- Members upload images straight to the bucket social-media, so the database knows what Storage says of an object and not what it
-- is. A trigger on storage.objects queues a job for each new version of an object, the sidecar reads it and records what it is, and
-- social_checks compares that with what platforms take.
-- ============================================================================

create table public.social_media_files (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  path text not null check (char_length(path) <= 500),
  version text not null check (char_length(version) <= 255),
  status text not null default 'pending' check (status in ('pending', 'measured', 'unreadable')),
  content_type text check (content_type in ('image/jpeg', 'image/png', 'image/gif')),
  width integer check (width > 0),
  height integer check (height > 0),
  frames integer check (frames > 0),
  bytes bigint check (bytes >= 0),
  reason text check (reason in ('unknown_type', 'incomplete', 'no_size', 'too_large', 'missing')),
  measured_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, path),
  check ((status = 'measured') = (num_nulls(content_type, width, height, frames) = 0)),
  check ((status = 'unreadable') = (reason is not null))
);
create index social_media_files_pending_idx on public.social_media_files (updated_at) where status = 'pending';
comment on table public.social_media_files is 'Images in the bucket social-media, and what they are: one row for each object, written by a trigger and the worker that measures it.';
comment on column public.social_media_files.id is 'Identity of the row.';
comment on column public.social_media_files.org_id is 'Organization whose folder it is in.';
comment on column public.social_media_files.path is 'Name of the object, as in media of a post.';
comment on column public.social_media_files.version is 'Version of the object that this is about. Another upload is another version, and is measured again.';
comment on column public.social_media_files.status is 'pending (it is being measured), measured, or unreadable (it is no image that a platform takes).';
comment on column public.social_media_files.content_type is 'Type of the file by its bytes, whatever its uploader said. Null until it is measured.';
comment on column public.social_media_files.width is 'Width in pixels, as it is shown: the orientation in the file is taken into account. Null until it is measured.';
comment on column public.social_media_files.height is 'Height in pixels, as it is shown. Null until it is measured.';
comment on column public.social_media_files.frames is 'Images in the file: more than one for an animation. Null until it is measured.';
comment on column public.social_media_files.bytes is 'Length of the file as it was read. Null until then.';
comment on column public.social_media_files.reason is 'Why it is unreadable: unknown_type (no JPEG, PNG or GIF), incomplete (it ends too early, or is damaged), no_size (a side of 0, or none), too_large, or missing (Storage has no bytes). Null otherwise.';
comment on column public.social_media_files.measured_at is 'When it was read; null until then.';
comment on column public.social_media_files.created_by is 'User who uploaded it, if the database knows; null after that user is deleted.';
comment on column public.social_media_files.created_by_key is 'API key that uploaded it; null when a user did.';
comment on column public.social_media_files.created_at is 'When it was uploaded first.';
comment on column public.social_media_files.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.social_media_files', resource => 'content', writable => '{}', catalogue => '{
  "path, version": "says which image it is about",
  "status, content_type, width, height, frames, bytes, reason, measured_at": "says whether a platform takes an image"
}');

create function private.social_object_version(version text, metadata jsonb, id uuid) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return "left"(coalesce(version, metadata ->> 'eTag', id::text), 255);
comment on function private.social_object_version(text, jsonb, uuid) is 'What tells two uploads to one name apart, of a row of storage.objects.';

create function private.social_is_media_path(path text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return coalesce(path ~ '^[A-Za-z0-9_-]+(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$' and char_length(path) <= 500, false);
comment on function private.social_is_media_path(text) is 'Whether a post may name an object so. Such a path means the same in an address, which the sidecar and Instagram make of it.';

create function private.social_enqueue_measurement(file public.social_media_files) returns uuid
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select private.jobs_enqueue(
    file.org_id, 'social_measurement', jsonb_build_object('file_id', file.id, 'path', file.path, 'version', file.version),
    timeout_seconds => 60, unique_key => file.id || ':' || md5(file.version)
  )
$$;
comment on function private.social_enqueue_measurement(public.social_media_files) is 'Queues the measurement of this version of an image; null if it is queued. Called by definer functions only.';

create function private.social_measure(path text, version text) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  file public.social_media_files;
begin
  insert into public.social_media_files as f (org_id, path, version)
  select o.id, social_measure.path, social_measure.version
  from public.organizations as o where o.id = private.storage_segment_id(social_measure.path, 1) and private.social_is_media_path(social_measure.path)
  on conflict on constraint social_media_files_org_id_path_key do update set
    version = excluded.version, status = 'pending', content_type = null, width = null, height = null, frames = null, bytes = null, reason = null,
    measured_at = null
  where f.version <> excluded.version
  returning f.* into file;
  return case when file.id is not null then private.social_enqueue_measurement(file) end;
end
$$;
comment on function private.social_measure(text, text) is 'Has a version of an image measured, unless it is or was already, or no post can name it. Called by definer functions only.';

create function private.social_sync_media() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    if old.bucket_id = 'social-media' and (tg_op = 'DELETE' or (new.bucket_id, new.name) is distinct from (old.bucket_id, old.name)) then
      delete from public.social_media_files as f where f.org_id = private.storage_segment_id(old.name, 1) and f.path = old.name;
    end if;
  end if;
  if tg_op <> 'DELETE' then
    -- A row without metadata is an upload that has not ended.
    if new.bucket_id = 'social-media' and new.metadata is not null then
      perform private.social_measure(new.name, private.social_object_version(new.version, new.metadata, new.id));
    end if;
  end if;
  return null;
end
$$;
comment on function private.social_sync_media() is 'Trigger: each new version of an image in the bucket social-media is measured, and what is deleted is forgotten. Definer: who uploads may not write the table.';

-- ----------------------------------------------------------------------------
-- The worker
-- ----------------------------------------------------------------------------

create function private.social_record_measurement(worker text, job_id uuid, attempt integer, measured jsonb) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs;
begin
  -- A deletion locks the organization before the job.
  perform 1 from public.organizations as o where o.id = (select j.org_id from public.jobs as j where j.id = job_id) for key share;
  job := private.jobs_lock_leased(worker, job_id, attempt);
  if job.kind = 'social_measurement' then
    -- Not of an object that was replaced or deleted meanwhile.
    update public.social_media_files as f
    set status = case when measured ? 'reason' then 'unreadable' else 'measured' end, reason = measured ->> 'reason',
      content_type = measured ->> 'content_type', width = (measured ->> 'width')::integer, height = (measured ->> 'height')::integer,
      frames = (measured ->> 'frames')::integer, bytes = (measured ->> 'bytes')::bigint, measured_at = kijko.now()
    where f.org_id = job.org_id and f.id = private.as_uuid(job.payload ->> 'file_id') and f.version = job.payload ->> 'version'
      and f.status = 'pending';
  end if;
  return private.jobs_delete_leased(worker, job_id, attempt, 'social_measurement');
end
$$;
comment on function private.social_record_measurement(text, uuid, integer, jsonb) is 'Records what an image is ({content_type, width, height, frames, bytes}, or {reason} if it cannot be read) and deletes its job; false when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.social_record_measurement(text, uuid, integer, jsonb) to kijko_sidecar;

create function private.social_measure_pending() returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  file public.social_media_files;
  queued integer := 0;
begin
  for file in
    select f.* from public.social_media_files as f
    where f.status = 'pending' and f.updated_at < kijko.now() - interval '10 minutes' and not exists (
      select from public.jobs as j
      where j.org_id = f.org_id and j.kind = 'social_measurement' and j.unique_key = f.id || ':' || md5(f.version) and j.status in ('queued', 'running')
    )
    order by f.updated_at limit 1000 for update skip locked
  loop
    -- One that fails stops no other.
    begin
      -- The next look is ten minutes away.
      update public.social_media_files as f set status = 'pending' where f.id = file.id;
      queued := queued + (private.social_enqueue_measurement(file) is not null)::integer;
    exception when others then
      raise warning 'image %: %', file.id, sqlerrm;
    end;
  end loop;
  return queued;
end
$$;
comment on function private.social_measure_pending() is 'Queues images whose job has failed without an answer, as when Storage was down, and returns how many. Runs every ten minutes.';
select private.schedule('kijko-social-media', '*/10 * * * *', 'perform private.social_measure_pending()');

-- ----------------------------------------------------------------------------
-- What platforms take
-- ----------------------------------------------------------------------------

create function private.social_problem(code text, message text, severity text default 'error') returns jsonb
language sql immutable
return jsonb_build_array(jsonb_build_object('code', code, 'severity', severity, 'message', message));
comment on function private.social_problem(text, text, text) is 'A list with one problem.';

-- Sources, of 2026:
-- Instagram: developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/ig-user/media, "Image Specifications": from
--   4:5 to 1.91:1; a width below 320 is scaled up and one beyond 1440 down, so neither is refused.
-- LinkedIn: learn.microsoft.com/linkedin/marketing/community-management/shares/images-api: fewer than 36,152,320 pixels; GIF up to 250
--   frames.
-- X: docs.x.com/x-api/media/quickstart/best-practices: GIF up to 1280 x 1080, 350 frames, and 300 million pixels of all frames; 4 photos or
--   1 GIF. That a side has 4 to 8192 pixels is what its API answers to others.
-- Facebook: developers.facebook.com/docs/graph-api/reference/page/photos names no dimensions.
create function private.social_size_problems(platform text, n integer, content_type text, width integer, height integer, frames integer) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  size constant text := format('image %s is %s x %s pixels', n, width, height);
  pixels constant bigint := width::bigint * height;
  is_gif constant boolean := content_type = 'image/gif';
begin
  if platform = 'instagram' then
    if width::bigint * 5 < height::bigint * 4 or width::bigint * 100 > height::bigint * 191 then
      return private.social_problem('media_aspect_ratio', format(
        '%s, an aspect ratio of %s:1; Instagram takes 4:5 (0.8:1) to 1.91:1', size, round(width::numeric / height, 3)
      ));
    elsif width not between 320 and 1440 then
      return private.social_problem('media_scaled', format('%s; Instagram scales it to a width of %s', size, case when width < 320 then 320 else 1440 end), 'warning');
    end if;
  elsif platform = 'linkedin' then
    if pixels >= 36152320 then
      return private.social_problem('media_too_many_pixels', format('%s, %s in all; LinkedIn takes fewer than 36152320', size, pixels));
    elsif frames > 250 then
      return private.social_problem('media_too_many_frames', format('image %s has %s frames; LinkedIn takes 250 at most', n, frames));
    end if;
  elsif platform = 'twitter' and is_gif then
    if width > 1280 or height > 1080 then
      return private.social_problem('media_dimensions', format('%s; X takes a GIF of 1280 x 1080 at most', size));
    elsif frames > 350 then
      return private.social_problem('media_too_many_frames', format('image %s has %s frames; X takes 350 at most', n, frames));
    elsif pixels * frames > 300000000 then
      return private.social_problem('media_too_many_pixels', format('%s with %s frames, %s in all; X takes 300000000 at most', size, frames, pixels * frames));
    end if;
  elsif platform = 'twitter' and (least(width, height) < 4 or greatest(width, height) > 8192) then
    return private.social_problem('media_dimensions', format('%s; X takes 4 x 4 to 8192 x 8192', size));
  end if;
  return '[]'::jsonb;
end
$$;
comment on function private.social_size_problems(text, integer, text, integer, integer, integer) is 'What is wrong with the size of the nth image of a post, by the rules of its platform.';
