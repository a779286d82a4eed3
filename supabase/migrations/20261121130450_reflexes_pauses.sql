-- ============================================================================
-- Reflexes: one that listens is paused when its author lost the permission for what it listens to.
--
-- An event contains what its permission reads, so each event asks for it again. Whoever makes the event waits for nothing: a
-- reflex that another transaction holds is paused by a later event, and fires for none meanwhile.
-- ============================================================================

create function private.reflexes_permission(reflex public.reflexes) returns text
language sql stable set search_path = pg_catalog, pg_temp
return case reflex.source
  when 'event' then (select e.permission from private.reflex_events as e where e.event = reflex.event)
  when 'repository' then 'repositories:read'
end;
comment on function private.reflexes_permission(public.reflexes) is 'The permission that reads what a reflex listens to; null for a webhook. Nullable: result.';

create function private.reflexes_may_listen(reflex public.reflexes) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return case
  when reflex.authorized_by_key is not null then exists (
    select 1 from public.api_keys as k
    where k.id = reflex.authorized_by_key and k.org_id = reflex.org_id and k.revoked_at is null
      and (k.expires_at is null or k.expires_at > kijko.now())
      and private.reflexes_permission(reflex) = any (private.api_keys_permissions_of(k))
  )
  when reflex.authorized_by is not null
    then private.reflexes_permission(reflex) = any (private.tenancy_member_permissions(reflex.authorized_by, reflex.org_id))
  else true
end;
comment on function private.reflexes_may_listen(public.reflexes) is 'Whether the member or key that a reflex listens for still holds the permission. True for the platform''s.';

create function private.reflexes_send_notice(reflex public.reflexes) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  site constant text := (select s.site_url from private.mail_settings as s);
  organization constant text := (select private.mail_plain_name(o.name) from public.organizations as o where o.id = reflex.org_id);
  project constant uuid := (select s.project_id from public.skills as s where s.org_id = reflex.org_id and s.id = reflex.skill_id);
  recipient record;
begin
  for recipient in select r.* from private.skills_recipients(reflex.org_id, reflex.skill_id, reflex.authorized_by, 'reflexes:read') as r loop
    perform private.notifications_send(
      reflex.org_id, recipient.user_id, 'reflex.paused',
      jsonb_build_object('reflex_id', reflex.id, 'reflex', reflex.name, 'permission', private.reflexes_permission(reflex)),
      format('reflex.paused:%s:%s:%s', reflex.id, extract(epoch from reflex.last_error_at), recipient.user_id), project
    );
    -- Who wants it later gets it in a digest.
    continue when (private.notifications_choice(recipient.user_id, reflex.org_id, 'reflex.paused')).mail <> 'now';
    begin
      perform private.mail_send(
        recipient.email, 'reflex_paused', recipient.locale,
        jsonb_build_object(
          'link', site, 'reflex', private.mail_plain_name(reflex.name), 'organization', organization,
          'permission', private.reflexes_permission(reflex)
        ),
        -- Once for each pause and address.
        dedupe_key => 'reflex_paused:' || encode(
          sha256(convert_to(concat_ws(':', reflex.id, extract(epoch from reflex.last_error_at), recipient.email), 'UTF8')), 'hex'
        ),
        org => reflex.org_id
      );
    exception when others then
      -- Beyond the limits of mails, for example. The row says the same.
      raise warning 'reflex %: no mail about its pause: %', reflex.id, sqlerrm;
    end;
  end loop;
end
$$;
comment on function private.reflexes_send_notice(public.reflexes) is 'Notifies those who can mend a paused reflex, in the product and by mail, each in their language and by their preferences. A mail that is refused does not undo the pause.';

create function private.reflexes_pause(reflex public.reflexes) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  paused public.reflexes;
begin
  update public.reflexes as r
  set enabled = false, last_error_code = 'author_lost_permission', last_error_at = kijko.now(),
    last_error = format('who made it listen no longer holds %s; whoever does may enable it', private.reflexes_permission(r))
  where r.id = any (array(select k.id from public.reflexes as k where k.id = reflex.id and k.enabled for no key update skip locked))
  returning r.* into paused;
  if paused.id is not null then
    perform private.reflexes_send_notice(paused);
  end if;
end
$$;
comment on function private.reflexes_pause(public.reflexes) is 'Pauses a reflex whose author lost the permission, once: disables it, says why, and sends the notice. Does nothing while another transaction holds it.';
