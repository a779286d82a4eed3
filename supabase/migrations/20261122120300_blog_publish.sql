-- ============================================================================
-- Blog: a post is approved, scheduled and published.
-- ============================================================================

create function private.blog_require_publishable(post public.blog_posts) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if post.status = 'draft' then
    perform kijko.fail('conflict', 'the post is a draft', 'Say that it is ready: submit_post().');
  elsif post.approval_status <> 'approved'
    and (select s.require_approval from public.blog_settings as s where s.org_id = post.org_id)
  then
    perform kijko.fail('conflict', 'this revision of the post is not approved', 'Ask for it: submit_post().');
  elsif post.content_markdown !~ '[^[:space:]]' then
    perform kijko.fail('conflict', 'the post has no text');
  elsif private.blog_lacks_alt_text(post) then
    perform kijko.fail('conflict', 'an image of the post has no alternative text', 'Say what it shows: set_image_alt_text(), or ![text](address) in the Markdown.');
  end if;
end
$$;
comment on function private.blog_require_publishable(public.blog_posts) is 'Fails with conflict unless the newest revision of a post may be published.';

create function private.blog_publish(post public.blog_posts) returns public.blog_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  update public.blog_posts as p
  set status = 'published', scheduled_at = null, published_revision = p.revision,
    -- Lists go on after the published_at of their last post. So those that become public together have times that follow each other.
    published_at = coalesce(p.published_at, (
      select max(o.published_at) + interval '1 microsecond' from public.blog_posts as o
      where o.org_id = post.org_id and o.published_at between kijko.now() and kijko.now() + interval '1 second'
    ), kijko.now())
  where p.id = post.id
  returning p.* into post;
  return post;
end
$$;
comment on function private.blog_publish(public.blog_posts) is 'Makes the newest revision of a locked post public.';

create function private.blog_publish_due(post public.blog_posts) returns public.blog_posts
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if (post.status = 'scheduled' and post.scheduled_at <= kijko.now() and post.content_html is not null) is not true then
    return post;
  elsif private.blog_lacks_alt_text(post)
    or post.approval_status <> 'approved' and (select s.require_approval from public.blog_settings as s where s.org_id = post.org_id)
  then
    -- It was scheduled before the organization required approvals, or before its HTML showed an image without a text.
    update public.blog_posts as p
    set status = case when p.published_revision is null then 'ready' else 'published' end, scheduled_at = null
    where p.id = post.id
    returning p.* into post;
    return post;
  end if;
  return private.blog_publish(post);
end
$$;
comment on function private.blog_publish_due(public.blog_posts) is 'Publishes a locked post if it is due and rendered.';

create function public.submit_post(post_id uuid, revision integer, reason text default null) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.blog_posts := private.blog_require(submit_post.post_id, 'content:write', for_change => true);
  settings public.blog_settings;
begin
  perform private.blog_require_revision(post, submit_post.revision);
  if post.status = 'scheduled' or post.published_revision = post.revision then
    perform kijko.fail('conflict', format('the post is %s', post.status));
  elsif post.content_markdown !~ '[^[:space:]]' then
    perform kijko.fail('conflict', 'the post has no text');
  end if;
  select s.* into settings from public.blog_settings as s where s.org_id = post.org_id;
  if settings.require_approval and post.approval_status <> 'approved' then
    if post.approval_status <> 'submitted' then
      perform private.approvals_withdraw(post.org_id, 'blog_post', post.id); -- One of an older revision that was being decided when it changed.
    end if;
    perform private.approvals_request(
      post.org_id, 'blog_post', post.id, '', 'Publish ' || left(post.title, 280),
      jsonb_build_object('revision', post.revision, 'content_hash', post.content_hash), submit_post.reason,
      make_interval(days => settings.approval_days)
    );
    update public.blog_posts as p set approval_status = 'submitted' where p.id = post.id;
  end if;
  update public.blog_posts as p set status = case p.status when 'draft' then 'ready' else p.status end where p.id = post.id returning p.* into post;
  return post;
end
$$;
comment on function public.submit_post(uuid, integer, text) is 'Says that a revision is ready to be published, and asks for its approval where the organization requires one. Fails with conflict if the post has a newer revision, or if an approval is waiting. Requires content:write. Definer: users do not write the table.';
grant execute on function public.submit_post(uuid, integer, text) to authenticated;

create function public.schedule_post(post_id uuid, revision integer, publish_at timestamptz) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.blog_posts := private.blog_require(schedule_post.post_id, 'content:publish', for_change => true);
begin
  perform private.blog_require_revision(post, schedule_post.revision);
  if (schedule_post.publish_at between kijko.now() and kijko.now() + interval '2 years') is not true then
    perform kijko.fail('invalid_input', 'publish_at: a time in the next two years');
  end if;
  perform private.blog_require_publishable(post);
  update public.blog_posts as p set status = 'scheduled', scheduled_at = schedule_post.publish_at where p.id = post.id returning p.* into post;
  perform private.blog_queue_render(post);
  return post;
end
$$;
comment on function public.schedule_post(uuid, integer, timestamptz) is 'Has a revision published at a time, within a minute; until then it cannot be edited. Fails with conflict if the post has a newer revision, or is not ready and approved. Requires content:publish. Definer: users do not write the table.';
grant execute on function public.schedule_post(uuid, integer, timestamptz) to authenticated;

create function public.publish_post(post_id uuid, revision integer) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.blog_posts := private.blog_require(publish_post.post_id, 'content:publish', for_change => true);
begin
  perform private.blog_require_revision(post, publish_post.revision);
  if post.published_revision = post.revision and post.status = 'published' then
    return post;
  end if;
  perform private.blog_require_publishable(post);
  -- Scheduled for now: the end of its rendering publishes it, or this.
  update public.blog_posts as p set status = 'scheduled', scheduled_at = kijko.now() where p.id = post.id returning p.* into post;
  perform private.blog_queue_render(post);
  return private.blog_publish_due(post);
end
$$;
comment on function public.publish_post(uuid, integer) is 'Publishes a revision now, or as soon as it is rendered: its status is scheduled for these moments. The same again changes nothing. Fails with conflict if the post has a newer revision, or is not ready and approved. Requires content:publish. Definer: users do not write the table.';
grant execute on function public.publish_post(uuid, integer) to authenticated;

create function public.unschedule_post(post_id uuid) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.blog_posts := private.blog_require(unschedule_post.post_id, 'content:publish', for_change => true);
begin
  if post.status <> 'scheduled' then
    perform kijko.fail('conflict', format('the post is %s', post.status));
  end if;
  update public.blog_posts as p
  set status = case when p.published_revision is null then 'ready' else 'published' end, scheduled_at = null
  where p.id = post.id
  returning p.* into post;
  return post;
end
$$;
comment on function public.unschedule_post(uuid) is 'Takes a scheduled post back: it is ready, or published as it was. Requires content:publish. Definer: users do not write the table.';
grant execute on function public.unschedule_post(uuid) to authenticated;

create function public.unpublish_post(post_id uuid) returns public.blog_posts
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post public.blog_posts := private.blog_require(unpublish_post.post_id, 'content:publish', for_change => true);
begin
  if post.published_revision is null then
    perform kijko.fail('conflict', 'the post is not published');
  end if;
  update public.blog_posts as p set status = 'draft', scheduled_at = null, published_revision = null where p.id = post.id returning p.* into post;
  return post;
end
$$;
comment on function public.unpublish_post(uuid) is 'Withdraws a post from its readers; it is a draft again. Requires content:publish. Definer: users do not write the table.';
grant execute on function public.unpublish_post(uuid) to authenticated;

-- ----------------------------------------------------------------------------
-- Approvals
-- ----------------------------------------------------------------------------

create function private.blog_apply_approval(approval public.approvals) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  post public.blog_posts;
begin
  select p.* into post from public.blog_posts as p where p.org_id = approval.org_id and p.id = approval.subject_id for update;
  if post.id is null then
    perform kijko.fail('conflict', 'the post was deleted');
  elsif post.revision <> (approval.change ->> 'revision')::integer then
    perform kijko.fail('conflict', 'the post was edited since', 'Reject the request, and submit the post again.');
  end if;
  update public.blog_posts as p set approval_status = 'approved' where p.id = post.id;
end
$$;
comment on function private.blog_apply_approval(public.approvals) is 'Approves the revision that a request names; fails with conflict if the post was edited since. Named by private.approval_kinds.';
insert into private.approval_kinds (kind, permission, apply_function, description)
values ('blog_post', 'content:approve', 'blog_apply_approval', 'A blog post may be published');

create function private.blog_end_approval() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.blog_posts as p set approval_status = case new.status when 'rejected' then 'rejected' else 'none' end
  where p.org_id = new.org_id and p.id = new.subject_id and p.approval_status = 'submitted' and p.revision = (new.change ->> 'revision')::integer;
  return null;
end
$$;
comment on function private.blog_end_approval() is 'Trigger: a post whose request was rejected or withdrawn, or has expired, is not approved. Definer: who decides may not write posts.';
create trigger approvals_blog_post after update of status on public.approvals
  for each row when (new.kind = 'blog_post' and old.status = 'pending' and new.status in ('rejected', 'withdrawn', 'expired'))
  execute function private.blog_end_approval();

-- ----------------------------------------------------------------------------
-- The clock
-- ----------------------------------------------------------------------------

create function private.blog_due(is_rendered boolean, max_posts integer) returns setof uuid
language sql stable rows 500 set search_path = pg_catalog, pg_temp
-- The first of each organization, then the second of each: nobody's posts keep those of others waiting.
as $$
  select d.id
  from (
    select p.id, p.scheduled_at, row_number() over (partition by p.org_id order by p.scheduled_at, p.id) as place
    from public.blog_posts as p
    where p.status = 'scheduled' and p.scheduled_at <= kijko.now() and (p.content_html is not null) = is_rendered
      and (is_rendered or not exists (
        select from public.jobs as j
        where j.org_id = p.org_id and j.kind = 'blog_render' and j.unique_key = p.id || ':' || p.content_hash and j.status in ('queued', 'running')
      ))
  ) as d
  order by d.place, d.scheduled_at, d.id
  limit max_posts
$$;
comment on function private.blog_due(boolean, integer) is 'Scheduled posts whose time has come: those that are rendered, or those that are not and whose rendering is not queued.';

create function private.blog_maintain(max_posts integer default 500) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  post public.blog_posts;
  published integer := 0;
begin
  for post in
    select p.* from public.blog_posts as p
    where p.id in (select d from private.blog_due(true, max_posts) as d) and p.status = 'scheduled' and p.scheduled_at <= kijko.now()
    order by p.scheduled_at, p.id
    -- One that is being changed waits for the next minute.
    for update skip locked
  loop
    continue when post.org_id = any (private.passed_over());
    -- One that fails keeps nobody else's from being published.
    begin
      post := private.blog_publish_due(post);
      published := published + (post.status = 'published')::integer;
    exception when others then
      raise warning 'post %: %', post.id, sqlerrm;
      perform private.pass_over(post.org_id, sqlstate);
    end;
  end loop;
  for post in
    select p.* from public.blog_posts as p
    where p.id in (select d from private.blog_due(false, max_posts) as d) and p.status = 'scheduled'
    for update skip locked
  loop
    continue when post.org_id = any (private.passed_over());
    -- Its rendering has failed.
    begin
      perform private.blog_queue_render(post);
    exception when others then
      raise warning 'post %: %', post.id, sqlerrm;
      perform private.pass_over(post.org_id, sqlstate);
    end;
  end loop;
  return published;
end
$$;
comment on function private.blog_maintain(integer) is 'Publishes the posts that are due, at most max_posts, and returns how many. Called by pg_cron each minute.';
select private.schedule('kijko-blog-maintain', '* * * * *', 'perform private.blog_maintain()');
