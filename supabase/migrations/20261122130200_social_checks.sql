-- ============================================================================
-- Social posts: media, and what a platform would refuse.
--
-- Problems are a list of {code, severity, message}, as of skills. A post with an error cannot be scheduled.
-- ============================================================================

create function private.social_is_deletable(name text) returns boolean
language plpgsql volatile security definer cost 10000 set search_path = pg_catalog, pg_temp
as $$
begin
  -- A lock, and then a look of its own: who submits or schedules a post locks its images, too.
  perform 1 from storage.objects as o where o.bucket_id = 'social-media' and o.name = social_is_deletable.name for update;
  return not exists (
    select 1 from public.social_posts as p
    where p.org_id = private.storage_segment_id(social_is_deletable.name, 1)
      and p.media <> '[]' and p.media @> jsonb_build_array(jsonb_build_object('path', social_is_deletable.name))
      and (p.status in ('scheduled', 'publishing', 'unconfirmed') or (p.approval_status in ('submitted', 'approved') and p.status <> 'published'))
  );
end
$$;
comment on function private.social_is_deletable(text) is 'Whether no post that is submitted, approved or scheduled shows an image: another one of its name would be published in its place. Locks the image. Definer: the caller need not read posts.';
grant execute on function private.social_is_deletable(text) to authenticated;

create function private.social_lock_media(post public.social_posts) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if post.media <> '[]' and to_regclass('storage.objects') is not null then
    perform 1 from storage.objects as o
    where o.bucket_id = 'social-media' and o.name = any (array(select m.value ->> 'path' from jsonb_array_elements(post.media) as m))
    order by o.name for share;
  end if;
end
$$;
comment on function private.social_lock_media(public.social_posts) is 'Keeps the images of a post from being deleted until the transaction ends; then its state does.';

create function private.social_attach_bucket() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('storage.objects') is null or to_regclass('storage.buckets') is null then
    return false;
  end if;
  -- Public, because Instagram fetches media by its address. Who guesses a name has the image, so the guide asks for random ones.
  -- Nobody lists the bucket of another organization.
  -- What no platform takes is not there to be served from the address of the API either.
  insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
  values ('social-media', 'social-media', true, 8388608, '{image/jpeg,image/png,image/gif}') on conflict do nothing;
  create or replace trigger kijko_social_media_written after insert or update on storage.objects
    for each row when (new.bucket_id = 'social-media') execute function private.social_sync_media();
  create or replace trigger kijko_social_media_moved after update on storage.objects
    for each row when (old.bucket_id = 'social-media' and new.bucket_id is distinct from 'social-media') execute function private.social_sync_media();
  create or replace trigger kijko_social_media_removed after delete on storage.objects
    for each row when (old.bucket_id = 'social-media') execute function private.social_sync_media();
  -- The images that are there already.
  perform private.social_measure(o.name, private.social_object_version(o.version, o.metadata, o.id))
  from storage.objects as o where o.bucket_id = 'social-media' and o.metadata is not null;
  if exists (select from pg_policy as p where p.polrelid = 'storage.objects'::regclass and p.polname = 'social_media_select') then
    return true;
  end if;
  create policy social_media_select on storage.objects for select to authenticated using (
    bucket_id = 'social-media' and private.storage_segment_id(name, 1) = any (array(select private.org_ids_with('content:read')))
  );
  -- None for update, and no deletion while a post needs it: what is approved and scheduled does not change.
  create policy social_media_insert on storage.objects for insert to authenticated with check (
    bucket_id = 'social-media' and private.storage_segment_id(name, 1) = any (array(select private.org_ids_with('content:write')))
  );
  create policy social_media_delete on storage.objects for delete to authenticated using (
    bucket_id = 'social-media' and private.storage_segment_id(name, 1) = any (array(select private.org_ids_with('content:write')))
      and private.social_is_deletable(name)
  );
  perform private.storage_meter_bucket('social-media');
  return true;
end
$$;
comment on function private.social_attach_bucket() is 'Makes the bucket social-media, its policies and its triggers, and has the images in it measured; false when there is no storage yet, as on Supabase before its Storage has run. Only for postgres and the superuser.';
select private.social_attach_bucket();

create function private.social_media(post public.social_posts)
returns table (
  n integer, path text, alt_text text, content_type text, bytes bigint, status text, reason text, read_type text, width integer, height integer, frames integer
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_array_length(post.media) = 0 then
    return;
  elsif to_regclass('storage.objects') is null then
    n := 1;
    path := post.media -> 0 ->> 'path';
    return next;
    return;
  end if;
  return query
  select m.n::integer, m.item ->> 'path', m.item ->> 'alt_text', o.metadata ->> 'mimetype', private.storage_object_bytes(o.metadata, null),
    case when o.id is not null then coalesce(f.status, 'pending') end, f.reason, f.content_type, f.width, f.height, f.frames
  from jsonb_array_elements(post.media) with ordinality as m (item, n)
  left join storage.objects as o
    on o.bucket_id = 'social-media' and o.name = m.item ->> 'path' and private.storage_segment_id(o.name, 1) = post.org_id
  -- What is known of another version says nothing of this one.
  left join public.social_media_files as f
    on f.org_id = post.org_id and f.path = o.name and f.version = private.social_object_version(o.version, o.metadata, o.id)
  order by m.n;
end
$$;
comment on function private.social_media(public.social_posts) is 'The media of a post in order; without a type where there is no such object of its organization, and without a size until it is measured.';

create function private.social_media_problems(post public.social_posts) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  item record;
  problems jsonb := '[]'::jsonb;
  images integer := jsonb_array_length(post.media);
  max_images constant integer := case post.platform when 'twitter' then 4 when 'instagram' then 10 when 'facebook' then 10 else 20 end;
  types constant text[] := case post.platform
    when 'instagram' then '{image/jpeg}'::text[] when 'facebook' then '{image/jpeg,image/png}' else '{image/jpeg,image/png,image/gif}'
  end;
  max_bytes constant bigint := case post.platform when 'facebook' then 4194304 when 'twitter' then 5242880 else 8388608 end;
begin
  if images > max_images then
    problems := problems || private.social_problem('too_many_media', format('%s images, and the platform takes %s at most', images, max_images));
  elsif images = 0 and post.platform = 'instagram' then
    problems := problems || private.social_problem('media_required', 'Instagram takes no post without an image');
  end if;
  for item in select m.* from private.social_media(post) as m loop
    problems := problems || case
      when item.content_type is null then
        private.social_problem('media_not_found', format('image %s is not in the bucket social-media: %s', item.n, left(item.path, 200)))
      when item.content_type <> all (types) then
        private.social_problem('media_type', format('image %s is %s; the platform takes %s', item.n, item.content_type, array_to_string(types, ', ')))
      when item.bytes > max_bytes then
        private.social_problem('media_too_large', format('image %s has %s bytes, and the platform takes %s at most', item.n, item.bytes, max_bytes))
      when item.status = 'pending' then private.social_problem('media_not_measured', format('image %s is being measured', item.n))
      when item.status = 'unreadable' then
        private.social_problem('media_unreadable', format('image %s cannot be read: %s', item.n, case item.reason
          when 'unknown_type' then 'it is no JPEG, PNG or GIF' when 'incomplete' then 'it ends too early, or is damaged'
          when 'no_size' then 'it has no width or no height' when 'too_large' then 'it is too large' else 'its bytes are not there; upload it again'
        end))
      when item.read_type <> item.content_type then
        private.social_problem('media_type', format('image %s was uploaded as %s and is %s', item.n, item.content_type, item.read_type))
      when post.platform = 'twitter' and item.read_type = 'image/gif' and images > 1 then
        private.social_problem('media_mixed', format('image %s is a GIF, which X takes alone: 4 photos or 1 GIF', item.n))
      else private.social_size_problems(post.platform, item.n, item.read_type, item.width, item.height, item.frames)
    end;
    if char_length(item.alt_text) > 1000 then
      problems := problems || private.social_problem('alt_text_too_long', format('the alternative text of image %s has more than 1000 characters', item.n));
    elsif coalesce(btrim(item.alt_text), '') = '' then
      problems := problems || private.social_problem('alt_text_missing', format('image %s has no alternative text', item.n), 'warning');
    end if;
  end loop;
  return problems;
end
$$;
comment on function private.social_media_problems(public.social_posts) is 'What is wrong with the media of a post.';

create function private.social_length(platform text, full_text text) returns integer
language sql stable set search_path = pg_catalog, pg_temp
return case platform when 'twitter' then private.social_weighted_length(full_text) else char_length(full_text) end;
comment on function private.social_length(text, text) is 'Length of a text, as its platform counts it.';

create function private.social_max_length(platform text) returns integer
language sql immutable set search_path = pg_catalog, pg_temp
return case platform when 'twitter' then 280 when 'instagram' then 2200 when 'linkedin' then 3000 else 63206 end;
comment on function private.social_max_length(text) is 'The longest text that a platform takes.';

create function private.social_problems(post public.social_posts) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  full_text constant text := private.social_full_text(post.text, post.hashtags);
  length constant integer := private.social_length(post.platform, full_text);
  connection public.connections;
  problems jsonb := private.social_media_problems(post);
begin
  if full_text = '' and post.media = '[]' then
    problems := problems || private.social_problem('empty', 'the post says nothing');
  elsif length > private.social_max_length(post.platform) then
    problems := problems || private.social_problem(
      'text_too_long', format('the text has a length of %s, and the platform takes %s at most', length, private.social_max_length(post.platform))
    );
  end if;
  if exists (select 1 from unnest(post.hashtags) as h (tag) where h.tag !~ '^[[:alnum:]_]+$' or h.tag !~ '[[:alpha:]]' or char_length(h.tag) > 100) then
    problems := problems || private.social_problem('hashtag_invalid', 'a hashtag is letters, digits and _, with one letter at least and without #');
  end if;
  if post.platform = 'instagram' and cardinality(post.hashtags) + regexp_count(post.text, '#\w') > 30 then
    problems := problems || private.social_problem('too_many_hashtags', 'Instagram takes 30 hashtags at most');
  elsif post.platform = 'twitter' and regexp_count(full_text, '(^|\s)\$[A-Za-z]{1,6}(?![A-Za-z])') > 1 then
    problems := problems || private.social_problem('too_many_cashtags', 'X takes one cashtag at most');
  end if;
  select c.* into connection from public.connections as c where c.org_id = post.org_id and c.id = post.connection_id;
  if connection.id is null then
    problems := problems || private.social_problem('connection_missing', 'the post has no connection');
  elsif connection.provider <> post.platform then
    problems := problems || private.social_problem('connection_platform', format('the connection is an account at %s', connection.provider));
  elsif connection.status = 'paused' then
    problems := problems || private.social_problem('connection_paused', 'the connection waits to be authorized again', 'warning');
  end if;
  return problems;
end
$$;
comment on function private.social_problems(public.social_posts) is 'What the platform would refuse, as a list of {code, severity, message}; severity is error or warning.';

create function private.social_alt_text_cost(post public.social_posts) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((
  select p.cost_microusd * (select count(*) from jsonb_array_elements(post.media) as m where coalesce(btrim(m.value ->> 'alt_text'), '') <> '')
  from private.social_prices as p where p.platform = post.platform and p.item = 'alt_text'
), 0);
comment on function private.social_alt_text_cost(public.social_posts) is 'What the platform charges for the alternative texts of a post.';

create function private.social_cost(post public.social_posts) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
return private.social_alt_text_cost(post) + coalesce((
  select p.cost_microusd
  from private.social_prices as p
  where p.platform = post.platform and p.item = case
    when exists (select 1 from private.social_links(private.social_full_text(post.text, post.hashtags))) then 'post_with_link' else 'post'
  end
), 0);
comment on function private.social_cost(public.social_posts) is 'What the platform charges for a post.';

-- ----------------------------------------------------------------------------
-- Guards
-- ----------------------------------------------------------------------------

create function private.social_guard_edit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  item jsonb;
begin
  for item in select m.value from jsonb_array_elements(new.media) as m loop
    if jsonb_typeof(item) <> 'object' or jsonb_typeof(item -> 'path') is distinct from 'string' or item - array['path', 'alt_text'] <> '{}'
      or coalesce(jsonb_typeof(item -> 'alt_text'), 'string') not in ('string', 'null')
      or private.storage_segment_id(item ->> 'path', 1) is distinct from new.org_id
      or not private.social_is_media_path(item ->> 'path')
    then
      perform kijko.fail(
        'invalid_input', 'media: objects with path and alt_text', 'A path is the id of the organization, / and a name of letters, digits and . _ -'
      );
    end if;
  end loop;
  if tg_op = 'UPDATE' then
    if old.status in ('publishing', 'published', 'unconfirmed') then
      perform kijko.fail('conflict', format('the post is %s', old.status), 'Write a new post.');
    end if;
    new.revision := old.revision + 1;
    new.approval_status := 'none';
    -- Who may write posts need not be allowed to publish them.
    new.status := 'draft';
    new.publish_after := null;
    new.attempts := 0;
    new.error_code := null;
    new.error := null;
  end if;
  return new;
end
$$;
comment on function private.social_guard_edit() is 'Trigger: checks media. An edited post is a draft again and needs a new approval; one that is under way or published cannot be edited. Definer: users write none of these columns.';
create trigger social_posts_written before insert on public.social_posts
  for each row execute function private.social_guard_edit();
create trigger social_posts_edited before update of platform, connection_id, text, hashtags, media on public.social_posts
  for each row when (
    (old.platform, old.text, old.hashtags, old.media) is distinct from (new.platform, new.text, new.hashtags, new.media)
    -- The removal of a connection is no edit.
    or (new.connection_id is not null and new.connection_id is distinct from old.connection_id)
  ) execute function private.social_guard_edit();

create function private.social_guard_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- With its organization everything goes.
  if not exists (select 1 from public.organizations as o where o.id = old.org_id) then
    return old;
  elsif old.status <> 'published' then
    perform kijko.fail('conflict', format('the post is %s', old.status), 'Wait until it is published, or confirm what became of it.');
  elsif (kijko.actor()).kind not in ('none', 'service') and public.can(old.org_id, 'content:publish') is not true then
    perform kijko.fail('permission_denied', 'a published post goes with its log: requires the permission content:publish');
  end if;
  return old;
end
$$;
comment on function private.social_guard_delete() is 'Trigger: a post that is being published, or whose outcome is unknown, cannot be deleted, and one that is published only with content:publish. Definer: asks whether the organization is there.';
create trigger social_posts_deleted before delete on public.social_posts
  for each row when (old.status in ('publishing', 'unconfirmed', 'published')) execute function private.social_guard_delete();

create function private.social_reset_publication() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.social_publications as p where p.post_id = new.id;
  perform private.approvals_withdraw(new.org_id, 'social_post', new.id);
  return null;
end
$$;
comment on function private.social_reset_publication() is 'Trigger: what was prepared for a former revision is not published, and its request for an approval is withdrawn. Definer: users do not write these tables.';
-- Of no column: a trigger before it has set the revision, which no statement names.
create trigger social_posts_reset after update on public.social_posts
  for each row when (old.revision <> new.revision) execute function private.social_reset_publication();
