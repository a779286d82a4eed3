-- ============================================================================
-- Blog: what the sidecar does for an image.
-- ============================================================================

create function private.blog_lock_image(worker text, job_id uuid, attempt integer) returns public.images
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  job public.jobs;
  image public.images;
begin
  -- As blog_lock_draft().
  perform 1 from public.organizations as o where o.id = (select j.org_id from public.jobs as j where j.id = job_id) for key share;
  job := private.jobs_lock_leased(worker, job_id, attempt);
  if job.kind = 'blog_image' then
    perform 1 from public.blog_posts as p
    where p.org_id = job.org_id
      and p.id = (select i.blog_post_id from public.images as i where i.id = private.as_uuid(job.payload ->> 'image_id')) for update;
    select i.* into image from public.images as i where i.org_id = job.org_id and i.id = private.as_uuid(job.payload ->> 'image_id') for update;
  end if;
  return image;
end
$$;
comment on function private.blog_lock_image(text, uuid, integer) is 'The image of a job that this worker still holds, locked with its post; null when the lease was lost or the post deleted. Nullable: result.';

create function private.blog_start_image(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  image public.images := private.blog_lock_image(worker, job_id, attempt);
  reserved jsonb;
begin
  if image.id is null or image.status not in ('queued', 'running') then
    return null;
  elsif private.llm_may_call(image.org_id, image.created_by, 'content:write') is not true then
    return private.blog_refused('permission_denied', 'who asked for it may not any more');
  end if;
  reserved := private.llm_try_reserve_call(image.org_id, image.created_by, image.created_by_key, jsonb_build_object(
    'kind', 'images', 'model', image.model, 'input_tokens', octet_length(image.prompt) + 64, 'choices', 1, 'images', 1,
    'trace_id', replace(image.id::text, '-', '')
  ));
  if reserved ? 'refused' then
    return reserved;
  end if;
  update public.images as i
  set status = 'running', call_ids = i.call_ids || (reserved ->> 'call_id')::uuid, costs_pending = true
  where i.id = image.id;
  return jsonb_build_object(
    'org_id', image.org_id, 'ticket', reserved -> 'ticket',
    'request', jsonb_build_object('model', image.model, 'prompt', image.prompt, 'size', image.size, 'n', 1),
    -- Longer than the job can last.
    'upload', kijko.seal(
      jsonb_build_object('image_id', image.id, 'expires_at', extract(epoch from clock_timestamp()) + 1200)::text, 'blog/image'
    )
  );
end
$$;
comment on function private.blog_start_image(text, uuid, integer) is 'What a job of the kind blog_image asks a model: {org_id, ticket, request, upload}, its cost held, upload being the ticket for its bytes; {refused, message} if that cannot be; null when the lease was lost or the image has ended. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.blog_start_image(text, uuid, integer) to kijko_sidecar;

create function private.blog_redeem_image(ticket text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  opened jsonb;
begin
  if kijko.can_unseal(ticket, 'blog/image') then
    opened := kijko.unseal(ticket, 'blog/image')::jsonb;
  end if;
  return (
    select jsonb_build_object(
      'bucket_id', 'blog-images', 'name', i.org_id || '/' || i.id,
      'owner', jsonb_build_object('owner', i.created_by, 'owner_id', i.created_by, 'started_by', 'images of ' || i.org_id)
    )
    from public.images as i
    where i.id = private.as_uuid(opened ->> 'image_id') and i.status = 'running'
      and (opened ->> 'expires_at')::numeric > extract(epoch from clock_timestamp())
  );
end
$$;
comment on function private.blog_redeem_image(text) is 'The object that a ticket of private.blog_start_image() writes: {bucket_id, name, owner}; null for any other text, after twenty minutes, and once the image has ended. Nullable: result. Definer: only the domain opens what it has sealed.';
do $$
begin
  if to_regrole('kijko_storage_admin') is not null then
    grant execute on function private.blog_redeem_image(text) to kijko_storage_admin;
  end if;
end
$$;

create function private.blog_record_image_costs(image public.images) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  update public.images as i
  set cost_microusd = r.cost_microusd, costs_pending = r.is_pending,
    provider = coalesce((select c.provider from public.llm_calls as c where c.org_id = image.org_id and c.id = (image.call_ids)[cardinality(image.call_ids)]), i.provider)
  from private.blog_record_calls(image.org_id, 'image', image.call_ids, image.created_at, image.blog_post_id, image.created_by) as r
  where i.id = image.id
$$;
comment on function private.blog_record_image_costs(public.images) is 'Records what the calls of an image have cost, each once; what is not settled yet stays pending.';

create function private.blog_has_object(object_name text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return to_regclass('storage.objects') is not null
    and exists (select from storage.objects as o where o.bucket_id = 'blog-images' and o.name = object_name);
end
$$;
comment on function private.blog_has_object(text) is 'Whether the bucket blog-images has an object.';

create function private.blog_finish_image(worker text, job_id uuid, attempt integer, result jsonb) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  image public.images := private.blog_lock_image(worker, job_id, attempt);
  path constant text := image.org_id || '/' || image.id;
  post public.blog_posts;
  changed public.blog_posts;
begin
  if image.id is null then
    return private.jobs_delete_leased(worker, job_id, attempt, 'blog_image');
  elsif image.status in ('queued', 'running') and result ? 'content_type' and private.blog_has_object(path) then
    update public.images as i
    set status = 'succeeded', storage_path = path, content_type = result ->> 'content_type', width = (result ->> 'width')::integer,
      height = (result ->> 'height')::integer, bytes = (result ->> 'bytes')::integer, content_hash = result ->> 'content_hash', finished_at = kijko.now()
    where i.id = image.id returning i.* into image;
    select p.* into post from public.blog_posts as p where p.id = image.blog_post_id;
    if image.kind = 'hero' and post.revision = image.base_revision and post.status <> 'scheduled' then
      changed := post;
      changed.hero_image_id := image.id;
      changed := private.blog_save(post, changed, 'Image by ' || image.model);
      update public.images as i set applied_revision = changed.revision where i.id = image.id;
    end if;
  elsif image.status in ('queued', 'running') then
    update public.images as i
    set status = 'failed', error_code = left(coalesce(result ->> 'failed', 'empty_answer'), 100),
      error = left(coalesce(result ->> 'message', 'the image was not stored'), 2000), finished_at = kijko.now()
    where i.id = image.id;
    perform private.storage_delete_object('blog-images', path);
  end if;
  perform private.blog_record_image_costs(image);
  return private.jobs_delete_leased(worker, job_id, attempt, 'blog_image');
end
$$;
comment on function private.blog_finish_image(text, uuid, integer, jsonb) is 'Ends an image that is stored (content_type, width, height, bytes, content_hash), or says why there is none (failed, message), and deletes its job; false when the lease was lost. Definer: the sidecar holds no table rights.';
grant execute on function private.blog_finish_image(text, uuid, integer, jsonb) to kijko_sidecar;

create function private.blog_maintain_images() returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  image public.images;
  ended integer := 0;
begin
  for image in
    select i.* from public.images as i
    where (i.status in ('queued', 'running') or i.costs_pending) and i.updated_at < kijko.now() - interval '1 minute'
    order by i.updated_at limit 500 for update skip locked
  loop
    continue when image.org_id = any (private.passed_over());
    -- One that fails stops no other.
    begin
      if image.status in ('queued', 'running') and not exists (
        select from public.jobs as j
        where j.org_id = image.org_id and j.kind = 'blog_image' and j.unique_key = image.id::text and j.status in ('queued', 'running')
      ) then
        update public.images as i set status = 'failed', error_code = 'job_ended', error = 'its job has ended without an image', finished_at = kijko.now()
        where i.id = image.id;
        perform private.storage_delete_object('blog-images', image.org_id || '/' || image.id);
        ended := ended + 1;
      end if;
      if image.costs_pending then
        perform private.blog_record_image_costs(image);
      end if;
    exception when others then
      raise warning 'image %: %', image.id, sqlerrm;
      perform private.pass_over(image.org_id, sqlstate);
    end;
  end loop;
  return ended;
end
$$;
comment on function private.blog_maintain_images() is 'Ends images whose job is gone, and records the costs of calls that were settled later. Called by pg_cron each minute.';
select private.schedule('kijko-blog-maintain-images', '* * * * *', 'perform private.blog_maintain_images()');
