-- ============================================================================
-- Blog: events of posts, for clients that listen (realtime) and for webhooks.
-- ============================================================================

create function private.blog_broadcast_post() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_broadcast(
    array['org:' || new.org_id], 'blog_post',
    jsonb_build_object('blog_post_id', new.id, 'status', new.status, 'approval_status', new.approval_status, 'revision', new.revision)
  );
  return null;
end
$$;
comment on function private.blog_broadcast_post() is 'Trigger: sends that a post is new, has another state or another revision. Definer: users may not send to these topics.';
create trigger blog_posts_broadcast_insert after insert on public.blog_posts for each row execute function private.blog_broadcast_post();
create trigger blog_posts_broadcast_update after update on public.blog_posts
  for each row when ((old.status, old.approval_status, old.revision) is distinct from (new.status, new.approval_status, new.revision))
  execute function private.blog_broadcast_post();

insert into public.webhook_event_types (name, permission, description, example) values
  ('blog_post.published', 'content:read', 'A revision of a blog post was published.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-00000000000a", "slug": "rust-in-databases", "locale": "en", "title": "Rust in databases", "revision": 3, "url": "https://example.com/blog/rust-in-databases", "published_at": "2026-11-28T10:00:00+00:00"}'),
  ('blog_post.unpublished', 'content:read', 'A blog post was withdrawn from its readers.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-00000000000a", "slug": "rust-in-databases", "locale": "en", "title": "Rust in databases", "revision": null, "url": null, "published_at": "2026-11-28T10:00:00+00:00"}');

create function private.blog_webhooks_after_post() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  type constant text := case when new.published_revision is null then 'blog_post.unpublished' else 'blog_post.published' end;
  settings public.blog_settings;
begin
  if private.webhooks_listens(new.org_id, type) then
    select s.* into settings from public.blog_settings as s where s.org_id = new.org_id;
    perform private.webhooks_emit(new.org_id, type, new.id::text, jsonb_build_object(
      'id', new.id, 'slug', new.slug, 'locale', new.locale, 'title', new.title, 'revision', new.published_revision,
      'url', case when new.published_revision is not null then coalesce(new.canonical_url, private.blog_url(settings, new.slug)) end,
      'published_at', new.published_at
    ));
  end if;
  return null;
end
$$;
comment on function private.blog_webhooks_after_post() is 'Trigger: emits blog_post.published for each revision that becomes public, and blog_post.unpublished. Definer: whoever publishes holds no right on endpoints.';
create trigger blog_posts_webhooks after update of published_revision on public.blog_posts
  for each row when (old.published_revision is distinct from new.published_revision) execute function private.blog_webhooks_after_post();
