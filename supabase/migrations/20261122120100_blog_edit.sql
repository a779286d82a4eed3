-- ============================================================================
-- Blog: posts are written, each change as a revision.
-- ============================================================================

create function public.set_blog_settings(
  site_url text default null, site_title text default null, site_description text default null, require_approval boolean default null,
  approval_days integer default null
) returns public.blog_settings
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  settings public.blog_settings;
  -- A post is at this, a slash and its slug.
  url constant text := rtrim(set_blog_settings.site_url, '/');
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('content:approve');
  -- A key that cannot approve must not be able to switch approvals off either.
  if private.tenancy_person_id() is null then
    perform kijko.fail('permission_denied', 'a member changes this in person, not by an API key');
  elsif url <> '' and (private.topics_is_url(url) is not true or url ~ '[?#]') then
    perform kijko.fail('invalid_input', 'site_url: an http or https address without a query');
  elsif char_length(set_blog_settings.site_title) > 200 or char_length(set_blog_settings.site_description) > 500 then
    perform kijko.fail('invalid_input', 'site_title: at most 200 characters; site_description: at most 500');
  elsif (set_blog_settings.approval_days between 1 and 90) is false then
    perform kijko.fail('invalid_input', 'approval_days: 1 to 90');
  end if;
  insert into public.blog_settings as s (org_id, site_url, site_title, site_description, require_approval, approval_days)
  values (
    org, nullif(url, ''), coalesce(set_blog_settings.site_title, ''), coalesce(set_blog_settings.site_description, ''),
    coalesce(set_blog_settings.require_approval, false), coalesce(set_blog_settings.approval_days, 7)
  )
  on conflict (org_id) do update set
    site_url = case when url is null then s.site_url else nullif(url, '') end,
    site_title = coalesce(set_blog_settings.site_title, s.site_title),
    site_description = coalesce(set_blog_settings.site_description, s.site_description),
    require_approval = coalesce(set_blog_settings.require_approval, s.require_approval),
    approval_days = coalesce(set_blog_settings.approval_days, s.approval_days)
  returning s.* into settings;
  return settings;
end
$$;
comment on function public.set_blog_settings(text, text, text, boolean, integer) is 'Changes where the posts of the organization are read (an empty site_url: nowhere), and whether they need an approval. Null leaves a setting as it is. Requires content:approve, of a signed-in member. Definer: users do not write the table.';
grant execute on function public.set_blog_settings(text, text, text, boolean, integer) to authenticated;

-- ----------------------------------------------------------------------------
-- What all functions of a post share
-- ----------------------------------------------------------------------------

create function private.blog_require(post_id uuid, permission text, for_change boolean default false) returns public.blog_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  post public.blog_posts;
begin
  perform private.tenancy_require_caller();
  select p.* into post from public.blog_posts as p
  where p.id = blog_require.post_id and p.org_id = any (array(select private.org_ids_with('content:read')));
  if post.id is null then
    perform kijko.fail('not_found', 'no such post');
  elsif public.can(post.org_id, blog_require.permission) is not true then
    perform kijko.fail('permission_denied', format('requires the permission %s', blog_require.permission));
  end if;
  if for_change then
    perform 1 from public.organizations as o where o.id = post.org_id for key share;
    select p.* into post from public.blog_posts as p where p.id = blog_require.post_id for update;
    if post.id is null then
      perform kijko.fail('not_found', 'no such post');
    end if;
  end if;
  return post;
end
$$;
comment on function private.blog_require(uuid, text, boolean) is 'A post that the caller sees, locked for a change; fails with not_found or permission_denied.';

create function private.blog_require_revision(post public.blog_posts, revision integer) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if revision is distinct from post.revision then
    perform kijko.fail(
      'conflict', format('the post is at revision %s, not at %s', post.revision, coalesce(revision::text, 'null')),
      'Read the post again, and repeat the change on it.'
    );
  end if;
end
$$;
comment on function private.blog_require_revision(public.blog_posts, integer) is 'Fails with conflict unless this is the newest revision.';

create function private.blog_fields(post public.blog_posts) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'title', post.title, 'summary', post.summary, 'meta_title', post.meta_title, 'meta_description', post.meta_description,
  'canonical_url', post.canonical_url, 'og_title', post.og_title, 'og_description', post.og_description, 'noindex', post.noindex,
  'tags', post.tags, 'author_name', post.author_name, 'hero_image_id', post.hero_image_id
);
comment on function private.blog_fields(public.blog_posts) is 'What a revision keeps beside the text.';

create function private.blog_changed(post public.blog_posts, changes jsonb) returns public.blog_posts
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  unknown text;
  wrong text;
begin
  if jsonb_typeof(changes) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'changes: an object');
  end if;
  select string_agg(k.key, ', ' order by k.key) into unknown
  from jsonb_object_keys(changes) as k (key)
  where not private.blog_fields(post) ? k.key and k.key <> all ('{content_markdown,slug}');
  if unknown is not null then
    perform kijko.fail('invalid_input', format('not a field of a post that can be written: %s', left(unknown, 200)));
  end if;
  select string_agg(c.key, ', ' order by c.key) into wrong
  from jsonb_each(changes) as c
  where case
    when c.key = 'tags' then jsonb_typeof(c.value) <> 'array' or exists (select from jsonb_array_elements(c.value) as t where jsonb_typeof(t.value) <> 'string')
    when c.key = 'noindex' then jsonb_typeof(c.value) <> 'boolean'
    when c.key = 'hero_image_id' then jsonb_typeof(c.value) <> 'null' and private.as_uuid(c.value #>> '{}') is null
    when c.key in ('title', 'summary', 'content_markdown', 'slug') then jsonb_typeof(c.value) <> 'string'
    else jsonb_typeof(c.value) not in ('string', 'null')
  end;
  if wrong is not null then
    perform kijko.fail('invalid_input', format('of the wrong type: %s', wrong));
  end if;
  return jsonb_populate_record(post, changes);
end
$$;
comment on function private.blog_changed(public.blog_posts, jsonb) is 'A post with changes by the names of its columns; fails with invalid_input for a field that is not an editor''s, or of the wrong type.';

create function private.blog_keep_revision(post public.blog_posts, message text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.blog_post_revisions (org_id, post_id, revision, fields, content_markdown, content_html, word_count, message)
  values (
    post.org_id, post.id, post.revision, private.blog_fields(post), post.content_markdown, post.content_html, post.word_count,
    nullif(left(btrim(blog_keep_revision.message), 500), '')
  );
  delete from public.blog_post_revisions as r
  where r.org_id = post.org_id and r.post_id = post.id and r.revision <= post.revision - 100 and r.revision is distinct from post.published_revision;
  perform private.blog_queue_render(post);
end
$$;
comment on function private.blog_keep_revision(public.blog_posts, text) is 'Keeps the post as it is now as a revision, and has it rendered.';

create function private.blog_queue_render(post public.blog_posts) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if post.content_html is null then
    perform private.jobs_enqueue(
      post.org_id, 'blog_render', jsonb_build_object('post_id', post.id, 'content_hash', post.content_hash), priority => 10::smallint,
      timeout_seconds => 60, unique_key => post.id || ':' || post.content_hash, concurrency_key => 'blog_render'
    );
  end if;
end
$$;
comment on function private.blog_queue_render(public.blog_posts) is 'Queues the rendering of a post whose text has no HTML yet, once.';

create function private.blog_take_slug(post public.blog_posts) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  -- A former slug of a post that nobody could read leads nowhere.
  delete from public.blog_post_slugs as s
  where s.org_id = post.org_id and s.post_id = post.id and s.slug <> post.slug and post.published_at is null;
  update public.blog_post_slugs as s set is_current = false where s.org_id = post.org_id and s.post_id = post.id and s.is_current and s.slug <> post.slug;
  insert into public.blog_post_slugs as s (org_id, post_id, locale, slug) values (post.org_id, post.id, post.locale, post.slug)
  on conflict (org_id, locale, slug) do update set is_current = true where s.post_id = post.id;
  if not found then
    perform kijko.fail('conflict', format('another post has the slug %s, or had it', post.slug), 'Choose another slug.');
  end if;
  delete from public.blog_post_slugs as s
  where s.id in (
    select o.id from public.blog_post_slugs as o
    where o.org_id = post.org_id and o.post_id = post.id and not o.is_current order by o.updated_at desc, o.id offset 50
  );
end
$$;
comment on function private.blog_take_slug(public.blog_posts) is 'Gives a post its slug and keeps the former ones, 50 at most, of a post that was published; fails with conflict if another post has or had it.';

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.create_post(
  title text, fields jsonb default '{}', topic_id uuid default null, locale text default 'en', translation_of uuid default null
) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  post public.blog_posts;
  origin public.blog_posts;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('content:write');
  if create_post.title is null or char_length(create_post.title) not between 1 and 300 then
    perform kijko.fail('invalid_input', 'title: 1 to 300 characters');
  elsif private.topics_is_language(create_post.locale) is not true then
    perform kijko.fail('invalid_input', 'locale: a tag such as en');
  end if;
  perform 1 from public.organizations as o where o.id = org for key share;
  if create_post.translation_of is not null then
    origin := private.blog_require(create_post.translation_of, 'content:write');
    if origin.org_id <> org then
      perform kijko.fail('not_found', 'no such post');
    elsif exists (
      select from public.blog_posts as p where p.org_id = org and p.content_group_id = origin.content_group_id and p.locale = create_post.locale
    ) then
      perform kijko.fail('conflict', format('the post has a translation in %s', create_post.locale));
    end if;
  end if;
  if create_post.topic_id is not null and not exists (select from public.topics as t where t.org_id = org and t.id = create_post.topic_id) then
    perform kijko.fail('not_found', 'no such topic');
  end if;
  post.org_id := org;
  post.title := create_post.title;
  post.locale := create_post.locale;
  post.summary := '';
  post.content_markdown := '';
  post.noindex := false;
  post.tags := '{}';
  if create_post.fields -> 'hero_image_id' <> 'null' then
    perform kijko.fail('invalid_input', 'hero_image_id: a post has no images yet');
  end if;
  post := private.blog_changed(post, create_post.fields);
  insert into public.blog_posts as p (
    org_id, topic_id, content_group_id, locale, title, slug, summary, content_markdown, meta_title, meta_description, canonical_url, og_title,
    og_description, noindex, tags, author_name
  )
  values (
    org, coalesce(create_post.topic_id, origin.topic_id), coalesce(origin.content_group_id, gen_random_uuid()), create_post.locale, post.title,
    coalesce(post.slug, private.blog_free_slug(org, create_post.locale, post.title)), post.summary, post.content_markdown,
    post.meta_title, post.meta_description, post.canonical_url, post.og_title, post.og_description, post.noindex, post.tags, post.author_name
  )
  returning p.* into post;
  perform private.blog_take_slug(post);
  perform private.blog_keep_revision(post, null);
  update public.topics as t set status = 'written', written_at = coalesce(t.written_at, kijko.now())
  where t.org_id = org and t.id = post.topic_id and t.status <> 'written';
  return post;
end
$$;
comment on function public.create_post(text, jsonb, uuid, text, uuid) is 'Makes a post, a draft: fields are columns of blog_posts by name (content_markdown, slug, summary, tags and others), topic_id the topic that it is made from, translation_of a post that it is in another language. Requires content:write. Definer: users do not write the table.';
grant execute on function public.create_post(text, jsonb, uuid, text, uuid) to authenticated;

create function private.blog_free_slug(org uuid, locale text, title text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant text := rtrim(left(private.slugify(title), 150), '-');
begin
  if exists (select from public.blog_post_slugs as s where s.org_id = org and s.locale = blog_free_slug.locale and s.slug = wanted) then
    return wanted || '-' || left(gen_random_uuid()::text, 8);
  end if;
  return wanted;
end
$$;
comment on function private.blog_free_slug(uuid, text, text) is 'A slug of a title that no post of the organization has or had in this language.';

create function private.blog_save(post public.blog_posts, changed public.blog_posts, message text) returns public.blog_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  same_text constant boolean := changed.content_markdown = post.content_markdown;
  moved constant boolean := changed.slug <> post.slug;
  only_moved constant boolean := moved and same_text and private.blog_fields(changed) = private.blog_fields(post);
begin
  if post.status = 'scheduled' then
    perform kijko.fail('conflict', 'the post is scheduled', 'Take it back first: unschedule_post().');
  elsif private.blog_fields(changed) = private.blog_fields(post) and same_text and not moved then
    return post;
  end if;
  perform private.blog_require_hero(changed);
  update public.blog_posts as p
  set title = changed.title, slug = changed.slug, summary = changed.summary, content_markdown = changed.content_markdown, meta_title = changed.meta_title,
    meta_description = changed.meta_description, canonical_url = changed.canonical_url, og_title = changed.og_title,
    og_description = changed.og_description, noindex = changed.noindex, tags = changed.tags, author_name = changed.author_name,
    hero_image_id = changed.hero_image_id,
    content_html = case when same_text then p.content_html end, content_html_hash = case when same_text then p.content_html_hash end,
    word_count = case when same_text then p.word_count else 0 end,
    revision = p.revision + 1, approval_status = 'none', status = case p.status when 'ready' then 'draft' else p.status end,
    -- Readers of what says the same find it at its new address at once.
    published_revision = case when only_moved and p.published_revision = p.revision then p.revision + 1 else p.published_revision end
  where p.id = post.id
  returning p.* into changed;
  if moved then
    perform private.blog_take_slug(changed);
  end if;
  perform private.blog_keep_revision(changed, message);
  perform private.approvals_withdraw(changed.org_id, 'blog_post', changed.id);
  return changed;
end
$$;
comment on function private.blog_save(public.blog_posts, public.blog_posts, text) is 'Writes a locked post as a new revision, which nobody has approved; nothing if it says the same. Fails with conflict if the post is scheduled.';

create function public.save_post(post_id uuid, revision integer, changes jsonb, message text default null) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.blog_posts := private.blog_require(save_post.post_id, 'content:write', for_change => true);
  changed public.blog_posts;
begin
  perform private.blog_require_revision(post, save_post.revision);
  perform private.limit_rate('blog_save:' || post.org_id, 600, interval '1 minute', 'an organization saves at most %s posts a minute');
  changed := private.blog_changed(post, save_post.changes);
  if changed.slug <> post.slug and post.published_revision is not null and public.can(post.org_id, 'content:publish') is not true then
    perform kijko.fail('permission_denied', 'slug: of a published post, requires the permission content:publish');
  end if;
  return private.blog_save(post, changed, save_post.message);
end
$$;
comment on function public.save_post(uuid, integer, jsonb, text) is 'Changes a post: columns of blog_posts by name. revision is the one that the change was made on; if the post has a newer one, it fails with conflict. A change of the text, its fields or the slug is a new revision and needs a new approval; the slug of a published post changes for its readers at once, which requires content:publish, and the former one leads to it. Requires content:write. Definer: users do not write the table.';
grant execute on function public.save_post(uuid, integer, jsonb, text) to authenticated;

create function public.restore_post_revision(post_id uuid, revision integer, from_revision integer) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.blog_posts := private.blog_require(restore_post_revision.post_id, 'content:write', for_change => true);
  former public.blog_post_revisions;
  restored public.blog_posts;
begin
  perform private.blog_require_revision(post, restore_post_revision.revision);
  select r.* into former from public.blog_post_revisions as r
  where r.org_id = post.org_id and r.post_id = post.id and r.revision = restore_post_revision.from_revision;
  if former.id is null then
    perform kijko.fail('not_found', 'the post has no such revision');
  end if;
  restored := jsonb_populate_record(post, former.fields || jsonb_build_object('content_markdown', former.content_markdown));
  if not exists (select from public.images as i where i.org_id = post.org_id and i.blog_post_id = post.id and i.id = restored.hero_image_id) then
    -- It was deleted since.
    restored.hero_image_id := null;
  end if;
  return private.blog_save(post, restored, format('Restored revision %s', former.revision));
end
$$;
comment on function public.restore_post_revision(uuid, integer, integer) is 'Writes a former revision of a post as its newest one, without its hero image if that was deleted; revision is the newest that the caller knows. Requires content:write. Definer: users do not write the table.';
grant execute on function public.restore_post_revision(uuid, integer, integer) to authenticated;

create function public.delete_post(post_id uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.blog_posts := private.blog_require(delete_post.post_id, 'content:write', for_change => true);
begin
  -- Who may not publish does not take away what everyone reads.
  if post.published_revision is not null and public.can(post.org_id, 'content:publish') is not true then
    perform kijko.fail('permission_denied', 'a published post: requires the permission content:publish');
  end if;
  -- What a model has been asked is paid, and a cost is recorded by its draft.
  perform private.blog_record_costs(d) from public.blog_drafts as d where d.org_id = post.org_id and d.post_id = post.id and d.costs_pending;
  perform private.blog_record_image_costs(i) from public.images as i where i.org_id = post.org_id and i.blog_post_id = post.id and i.costs_pending;
  if exists (select from public.blog_drafts as d where d.org_id = post.org_id and d.post_id = post.id and d.costs_pending)
    or exists (select from public.images as i where i.org_id = post.org_id and i.blog_post_id = post.id and (i.costs_pending or i.status in ('queued', 'running')))
  then
    perform kijko.fail('conflict', 'a model is at work for the post', 'Delete the post when its drafts and images have ended.');
  end if;
  perform private.approvals_withdraw(post.org_id, 'blog_post', post.id);
  delete from public.blog_posts as p where p.id = post.id;
end
$$;
comment on function public.delete_post(uuid) is 'Deletes a post with its revisions, comments, drafts and images. Requires content:write, and content:publish for one that is published. Fails with conflict while a model is at work for it, until the cost is known. Definer: users do not write the table.';
grant execute on function public.delete_post(uuid) to authenticated;
