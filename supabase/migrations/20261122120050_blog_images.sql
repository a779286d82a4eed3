-- ============================================================================
-- Blog: images of posts, by a model, through the gateway.
--
--   1. generate_image() queues a job of the kind blog_image.
--   2. The sidecar starts it: blog_start_image() holds what the call can cost, and gives a ticket for the bytes.
--   3. The gateway calls the model. The sidecar takes all metadata out of the image and stores it, by the ticket, in the bucket
--      blog-images. blog_finish_image() records it; a hero image becomes the post's, unless somebody has changed the post meanwhile.
--   4. Without an alternative text of each image a post is not published.
-- ============================================================================

create table public.images (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  blog_post_id uuid not null,
  kind text not null check (kind in ('hero', 'supporting')),
  prompt text not null check (char_length(prompt) between 1 and 4000 and prompt ~ '[^[:space:]]'),
  provider text check (char_length(provider) <= 100),
  model text not null check (char_length(model) between 1 and 200),
  size text not null check (size ~ '^[1-9][0-9]{2,3}x[1-9][0-9]{2,3}$'),
  alt_text text not null default '' check (char_length(alt_text) <= 1000),
  base_revision integer not null check (base_revision > 0),
  status text not null default 'queued' check (status in ('queued', 'running', 'succeeded', 'failed')),
  storage_path text check (octet_length(storage_path) <= 200),
  content_type text check (content_type in ('image/png', 'image/jpeg')),
  width integer check (width > 0),
  height integer check (height > 0),
  bytes integer check (bytes > 0),
  content_hash text check (content_hash ~ '^[0-9a-f]{64}$'),
  applied_revision integer,
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 2000),
  call_ids uuid[] not null default '{}' check (cardinality(call_ids) <= 10),
  costs_pending boolean not null default false,
  cost_microusd bigint not null default 0 check (cost_microusd >= 0),
  cost_usd numeric(16, 6) not null generated always as (cost_microusd / 1000000.0) stored,
  finished_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, blog_post_id, id),
  foreign key (org_id, blog_post_id) references public.blog_posts (org_id, id) on delete cascade,
  check ((status in ('succeeded', 'failed')) = (finished_at is not null)),
  check (status <> 'succeeded' or num_nulls(storage_path, content_type, width, height, bytes, content_hash) = 0)
);
create index images_blog_post_id_idx on public.images (org_id, blog_post_id, created_at desc, id desc);
create index images_unfinished_idx on public.images (updated_at) where status in ('queued', 'running') or costs_pending;
comment on table public.images is 'Images of posts by models, hero and supporting. Written by functions only.';
comment on column public.images.id is 'Identity of the image.';
comment on column public.images.org_id is 'Organization of the post.';
comment on column public.images.blog_post_id is 'The post; its images are deleted with it.';
comment on column public.images.kind is 'hero: at the top of the post, and for social networks. supporting: for its text.';
comment on column public.images.prompt is 'What the model was asked to show.';
comment on column public.images.provider is 'Provider that made it; null until then.';
comment on column public.images.model is 'Model or route that is called.';
comment on column public.images.size is 'Size that was asked for, in pixels: 1024x1024.';
comment on column public.images.alt_text is 'What it shows, for those who do not see it. A post is not published without.';
comment on column public.images.base_revision is 'Revision of the post that it was asked for.';
comment on column public.images.status is 'queued, running, then succeeded or failed.';
comment on column public.images.storage_path is 'Where its bytes are, in the bucket blog-images; null until then.';
comment on column public.images.content_type is 'image/png or image/jpeg.';
comment on column public.images.width is 'Width in pixels.';
comment on column public.images.height is 'Height in pixels.';
comment on column public.images.bytes is 'Size of the file, without metadata.';
comment on column public.images.content_hash is 'SHA-256 of the file.';
comment on column public.images.applied_revision is 'Revision of the post that got it as its hero image; null for a supporting one, and if the post had changed meanwhile.';
comment on column public.images.error_code is 'Why it failed.';
comment on column public.images.error is 'The same in words.';
comment on column public.images.call_ids is 'Its calls: llm_calls.id. More than one after a worker was lost.';
comment on column public.images.costs_pending is 'Whether a call is not settled or recorded yet.';
comment on column public.images.cost_microusd is 'What it has cost, in millionths of a US dollar.';
comment on column public.images.cost_usd is 'The same in US dollars.';
comment on column public.images.finished_at is 'When it ended; null until then.';
comment on column public.images.created_by is 'User who asked for it; null after that user is deleted.';
comment on column public.images.created_by_key is 'Personal API key that asked for it; null for a user.';
comment on column public.images.created_at is 'When it was asked for.';
comment on column public.images.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.images', resource => 'content', writable => '{}', max_rows => 20000, catalogue => '{
  "blog_post_id, kind, prompt, model, size, base_revision": "what was asked for",
  "status, provider, error_code, error, applied_revision, call_ids, costs_pending, finished_at": "how it went",
  "alt_text, storage_path, content_type, width, height, bytes, content_hash": "what readers are shown",
  "cost_microusd, cost_usd": "what it cost"
}');
-- The hero image of a post has no foreign key: images have one to posts, and a second would make embedding ambiguous. Who sets it
-- asks blog_require_hero(), and delete_image() refuses an image that its post shows; both hold the post.

-- A slow upload must not end after its image: nothing would delete the object then. The lock has the image wait with that, too.
create function private.blog_check_object() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform 1 from public.images as i
  where i.id = private.storage_segment_id(new.name, 2) and new.name = i.org_id || '/' || i.id and i.status <> 'failed' for share;
  if not found then
    perform kijko.fail('conflict', 'its image is gone or has failed');
  end if;
  return null;
end
$$;
comment on function private.blog_check_object() is 'Trigger: the bucket blog-images takes objects of images only that are there and have not failed. Definer: the storage service has no rights on images.';

create function private.blog_attach_bucket() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('storage.objects') is null or to_regclass('storage.buckets') is null then
    return false;
  end if;
  -- Public, because readers of posts are strangers. A path ends in the random id of its image. Nobody writes it but the sidecar.
  insert into storage.buckets (id, name, public) values ('blog-images', 'blog-images', true) on conflict do nothing;
  create or replace trigger kijko_blog_images_written after insert or update on storage.objects
    for each row when (new.bucket_id = 'blog-images') execute function private.blog_check_object();
  if not exists (select from pg_policy as p where p.polrelid = 'storage.objects'::regclass and p.polname = 'blog_images_select') then
    create policy blog_images_select on storage.objects for select to authenticated using (
      bucket_id = 'blog-images' and private.storage_segment_id(name, 1) = any (array(select private.org_ids_with('content:read')))
    );
    perform private.storage_meter_bucket('blog-images');
  end if;
  return true;
end
$$;
comment on function private.blog_attach_bucket() is 'Makes the bucket blog-images, its trigger and its policy; false when there is no storage yet, as on Supabase before its Storage has run. Only for postgres and the superuser.';
select private.blog_attach_bucket();

create function private.blog_image_url(image public.images) returns text
language sql stable set search_path = pg_catalog, pg_temp
return case
  when image.storage_path is not null
    then regexp_replace(private.connections_login_url(), '/auth/v1$', '') || '/storage/v1/object/public/blog-images/' || image.storage_path
end;
comment on function private.blog_image_url(public.images) is 'Where everyone reads an image; null until it is there. Nullable: result.';

create function public.image_url(image public.images) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
return private.blog_image_url(image);
comment on function public.image_url(public.images) is 'Where everyone reads an image; null until it is there. A computed column: select=*,image_url. Nullable: result. Definer: the address of the API is not for users to read.';
grant execute on function public.image_url(public.images) to authenticated, service_role;

create function private.blog_lacks_alt_text(post public.blog_posts) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (
  select from public.images as i where i.org_id = post.org_id and i.id = post.hero_image_id and i.alt_text !~ '[^[:space:]]'
) or case
  when post.content_html is not null then post.content_html ~ '<img(?!(?:[^>"]|"[^"]*")*\salt="[^"]*[^"[:space:]][^"]*")'
  -- Of a text that is not rendered yet.
  else post.content_markdown ~ '!\[[[:space:]]*\][[(]'
end;
comment on function private.blog_lacks_alt_text(public.blog_posts) is 'Whether the hero image of a post, or an image in its text, has no alternative text.';

create function private.blog_require_hero(post public.blog_posts) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform 1 from public.images as i
  where i.org_id = post.org_id and i.blog_post_id = post.id and i.id = post.hero_image_id and i.status = 'succeeded' for key share;
  if not found and post.hero_image_id is not null then
    perform kijko.fail('not_found', 'the post has no such image', 'Ask for one: generate_image().');
  end if;
end
$$;
comment on function private.blog_require_hero(public.blog_posts) is 'Fails with not_found unless the hero image of a post is one of its images, and made.';

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.generate_image(
  post_id uuid, revision integer, prompt text, model text, kind text default 'hero', size text default '1024x1024', alt_text text default ''
) returns public.images
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  post constant public.blog_posts := private.blog_require(generate_image.post_id, 'content:write', for_change => true);
  image public.images;
begin
  perform private.blog_require_revision(post, generate_image.revision);
  perform private.llm_require_member(post.org_id, generate_image.model);
  if (generate_image.kind in ('hero', 'supporting')) is not true
    or (char_length(generate_image.prompt) <= 4000 and generate_image.prompt ~ '[^[:space:]]') is not true
    or (generate_image.size ~ '^[1-9][0-9]{2,3}x[1-9][0-9]{2,3}$') is not true or (char_length(generate_image.alt_text) <= 1000) is not true
  then
    perform kijko.fail(
      'invalid_input', 'kind: hero or supporting; prompt: 1 to 4,000 characters; size: such as 1024x1024; alt_text: at most 1,000'
    );
  end if;
  perform private.limit_rate('blog_image:' || post.org_id, 60, interval '1 hour', 'an organization asks for at most %s images an hour');
  insert into public.images as i (org_id, blog_post_id, kind, prompt, model, size, alt_text, base_revision)
  values (
    post.org_id, post.id, generate_image.kind, generate_image.prompt, generate_image.model, generate_image.size, generate_image.alt_text, post.revision
  )
  returning i.* into image;
  perform private.jobs_enqueue(
    post.org_id, 'blog_image', jsonb_build_object('image_id', image.id), max_attempts => 3, timeout_seconds => 900, unique_key => image.id::text
  );
  return image;
end
$$;
comment on function public.generate_image(uuid, integer, text, text, text, text, text) is 'Has a model make an image of a post. A hero image becomes the post''s, as a new revision, if the post is still at this revision then. The call counts against the budgets and limits of the member. Requires content:write and llm:call. Fails with conflict if the post has a newer revision. Definer: users do not write jobs.';
grant execute on function public.generate_image(uuid, integer, text, text, text, text, text) to authenticated;

create function private.blog_require_image(image_id uuid) returns public.images
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  image public.images;
begin
  select i.* into image from public.images as i
  where i.id = blog_require_image.image_id and i.org_id = any (array(select private.org_ids_with('content:read')));
  if image.id is null then
    perform kijko.fail('not_found', 'no such image');
  end if;
  -- The post first, as for every change of it.
  perform private.blog_require(image.blog_post_id, 'content:write', for_change => true);
  select i.* into image from public.images as i where i.id = blog_require_image.image_id for update;
  if image.id is null then
    perform kijko.fail('not_found', 'no such image');
  end if;
  return image;
end
$$;
comment on function private.blog_require_image(uuid) is 'An image that the caller may change, locked after its post; fails with not_found or permission_denied.';

create function public.set_image_alt_text(image_id uuid, alt_text text) returns public.images
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  image public.images;
  post public.blog_posts;
begin
  perform private.tenancy_require_caller();
  image := private.blog_require_image(set_image_alt_text.image_id);
  select p.* into post from public.blog_posts as p where p.id = image.blog_post_id;
  if (char_length(set_image_alt_text.alt_text) <= 1000) is not true then
    perform kijko.fail('invalid_input', 'alt_text: at most 1,000 characters');
  elsif image.alt_text = set_image_alt_text.alt_text then
    return image;
  elsif post.status = 'scheduled' then
    perform kijko.fail('conflict', 'the post is scheduled', 'Take it back first: unschedule_post().');
  elsif post.published_revision is not null and public.can(post.org_id, 'content:publish') is not true then
    perform kijko.fail('permission_denied', 'an image of a published post: requires the permission content:publish');
  end if;
  update public.images as i set alt_text = set_image_alt_text.alt_text where i.id = image.id returning i.* into image;
  if post.approval_status in ('submitted', 'approved') and post.published_revision is distinct from post.revision then
    -- What is published is what was approved.
    update public.blog_posts as p set approval_status = 'none', status = case p.status when 'ready' then 'draft' else p.status end where p.id = post.id;
    perform private.approvals_withdraw(post.org_id, 'blog_post', post.id);
  end if;
  return image;
end
$$;
comment on function public.set_image_alt_text(uuid, text) is 'Says what an image shows, for those who do not see it. An approval of the post is taken back; of a published post readers get it at once. Requires content:write, and content:publish if the post is published. Fails with conflict if it is scheduled. Definer: users do not write the table.';
grant execute on function public.set_image_alt_text(uuid, text) to authenticated;

create function public.delete_image(image_id uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  image public.images;
begin
  perform private.tenancy_require_caller();
  image := private.blog_require_image(delete_image.image_id);
  if image.costs_pending then
    perform private.blog_record_image_costs(image);
    select i.* into image from public.images as i where i.id = image.id;
  end if;
  if image.costs_pending or image.status in ('queued', 'running') then
    perform kijko.fail('conflict', 'the image is being made', 'Delete it when it has ended.');
  elsif private.blog_shows_image(image) then
    perform kijko.fail('conflict', 'the post shows the image', 'Take it out of the post first, and publish that.');
  end if;
  delete from public.images as i where i.id = image.id;
end
$$;
comment on function public.delete_image(uuid) is 'Deletes an image with its bytes. Requires content:write. Fails with conflict while it is made, and while its post shows it: as hero image or in its text, in the newest revision or in the published one. Definer: users do not write the table.';
grant execute on function public.delete_image(uuid) to authenticated;

create function private.blog_shows_image(image public.images) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (
  select from public.blog_posts as p
  left join public.blog_post_revisions as r on r.org_id = p.org_id and r.post_id = p.id and r.revision = p.published_revision
  where p.org_id = image.org_id and p.id = image.blog_post_id and (
    p.hero_image_id = image.id or r.fields ->> 'hero_image_id' = image.id::text
    or strpos(p.content_markdown, image.storage_path) > 0 or strpos(r.content_markdown, image.storage_path) > 0
  )
);
comment on function private.blog_shows_image(public.images) is 'Whether the newest or the published revision of its post shows an image.';

create function private.blog_delete_object() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.storage_delete_object('blog-images', old.org_id || '/' || old.id);
  return null;
end
$$;
comment on function private.blog_delete_object() is 'Trigger: the bytes of a deleted image go with it. Definer: users may not write the bucket.';
create trigger images_delete_object after delete on public.images for each row execute function private.blog_delete_object();
