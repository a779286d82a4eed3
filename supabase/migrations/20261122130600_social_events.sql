-- ============================================================================
-- Social posts: events, for clients that listen (realtime) and for webhooks.
-- ============================================================================

create function private.social_broadcast_post() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.notifications_broadcast(
    array['org:' || new.org_id], 'social_post',
    jsonb_build_object('social_post_id', new.id, 'status', new.status, 'approval_status', new.approval_status, 'revision', new.revision)
  );
  return null;
end
$$;
comment on function private.social_broadcast_post() is 'Trigger: sends that a post is new, has another state or another revision. Definer: users may not send to these topics.';
create trigger social_posts_broadcast_insert after insert on public.social_posts for each row execute function private.social_broadcast_post();
create trigger social_posts_broadcast_update after update on public.social_posts
  for each row when ((old.status, old.approval_status, old.revision) is distinct from (new.status, new.approval_status, new.revision))
  execute function private.social_broadcast_post();

insert into public.webhook_event_types (name, permission, description, example)
select 'social_post.' || t.status, 'content:read', t.description, t.change || '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-00000000000b", "platform": "linkedin", "blog_post_id": null, "scheduled_at": "2026-11-28T10:00:00+00:00"}'::jsonb
from (values
  ('published', 'A social post was published.', '{"status": "published", "platform_post_id": "urn:li:share:1", "platform_url": "https://www.linkedin.com/feed/update/urn:li:share:1", "error_code": null, "published_at": "2026-11-28T10:00:00+00:00"}'::jsonb),
  ('failed', 'A platform refused a social post for good.', '{"status": "failed", "platform_post_id": null, "platform_url": null, "error_code": "duplicate_content", "published_at": null}'),
  ('missed', 'A social post was not published, because it would have been too late.', '{"status": "missed", "platform_post_id": null, "platform_url": null, "error_code": "too_late", "published_at": null}'),
  ('unconfirmed', 'Nobody knows whether a platform has created a social post: a member must look.', '{"status": "unconfirmed", "platform_post_id": null, "platform_url": null, "error_code": "outcome_unknown", "published_at": null}')
) as t (status, description, change);

create function private.social_webhooks_after_post() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  type constant text := 'social_post.' || new.status;
begin
  if private.webhooks_listens(new.org_id, type) then
    perform private.webhooks_emit(new.org_id, type, new.id::text, jsonb_build_object(
      'id', new.id, 'platform', new.platform, 'blog_post_id', new.blog_post_id, 'scheduled_at', new.scheduled_at, 'status', new.status,
      'platform_post_id', new.platform_post_id, 'platform_url', new.platform_url, 'error_code', new.error_code, 'published_at', new.published_at
    ));
  end if;
  return null;
end
$$;
comment on function private.social_webhooks_after_post() is 'Trigger: emits how the publishing of a post ended. Definer: whoever publishes holds no right on endpoints.';
create trigger social_posts_webhooks after update of status on public.social_posts
  for each row when (old.status <> new.status and new.status in ('published', 'failed', 'missed', 'unconfirmed'))
  execute function private.social_webhooks_after_post();
