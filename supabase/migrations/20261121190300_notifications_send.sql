-- ============================================================================
-- Notifications: sending.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Digests: what waits to be mailed
-- ----------------------------------------------------------------------------

create table private.notification_mails (
  user_id uuid not null references public.profiles (id) on delete cascade,
  notification_id uuid not null references public.notifications (id) on delete cascade,
  due_at timestamptz not null,
  primary key (user_id, notification_id)
);
create index notification_mails_due_at_idx on private.notification_mails (due_at, user_id);
create index notification_mails_notification_id_idx on private.notification_mails (notification_id);
comment on table private.notification_mails is 'Notifications that wait for a mail to their reader. All that are due go in one digest.';
comment on column private.notification_mails.user_id is 'Reader.';
comment on column private.notification_mails.notification_id is 'The notification.';
comment on column private.notification_mails.due_at is 'When the digest is due, in product time.';
select private.describe_data('private.notification_mails', '{"user_id, notification_id, due_at": "which mails are to be sent"}', 'person');
alter table private.notification_mails enable row level security;

-- ----------------------------------------------------------------------------
-- Events of realtime
-- ----------------------------------------------------------------------------

-- On self-hosted Supabase schema realtime is Supabase's own, and a database may have none. Who sends must neither fail nor wait: an
-- error becomes a warning, and a lock on the table of messages (a partition that is being dropped) is waited for no longer than this.
create function private.notifications_broadcast(topics text[], event text, payload jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
  topic text;
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
    return;
  end if;
  foreach topic in array topics loop
    perform realtime.send(payload, event, topic, true);
  end loop;
exception when others then
  raise warning 'realtime, event %: %', event, sqlerrm;
end
$$;
comment on function private.notifications_broadcast(text[], text, jsonb) is 'Sends an event to the private channels of topics, once the transaction commits. Nothing without realtime; never fails. Called by definer functions of postgres, which passes row level security.';

-- ----------------------------------------------------------------------------
-- What an insert does
-- ----------------------------------------------------------------------------

create function private.notifications_after_insert() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  present uuid[];
begin
  if new.audience = 'everyone' then
    -- Its readers are not listed. Every signed-in user may join the platform's topic.
    perform private.notifications_broadcast(array['org:' || new.org_id], 'notification', jsonb_build_object('notification_id', new.id));
    return null;
  end if;
  present := array(
    select p.id
    from private.notifications_readers(new) as r (id)
    join public.profiles as p on p.id = r.id
    -- Who is being deleted reads nothing any more; to wait for that could be a deadlock.
    for key share of p skip locked
  );
  if present <> '{}' then
    with readers as materialized (
      select c.user_id as id, c.in_app, c.mail from private.notifications_choices(present, new.org_id, new.type) as c
    ), hidden as (
      insert into private.notification_states (user_id, notification_id, is_hidden, is_counted)
      select r.id, new.id, true, true from readers as r where not r.in_app
    ), mailed as (
      insert into private.notification_mails (user_id, notification_id, due_at)
      select r.id, new.id, private.notifications_digest_due(r.id, r.mail)
      from readers as r
      where r.mail <> 'off' and not (r.mail = 'now' and exists (
        select 1 from public.notification_types as t where t.org_id = kijko.platform_org_id() and t.name = new.type and t.has_own_mail
      ))
    )
    insert into private.notification_differences (user_id, difference) select r.id, 1 from readers as r where r.in_app;
  end if;
  if new.audience = 'organization' then
    -- Members who may not see the notification join the topic, too: it carries the id alone.
    perform private.notifications_broadcast(array['org:' || new.org_id], 'notification', jsonb_build_object('notification_id', new.id));
  elsif exists (select 1 from private.notifications_readers(new))
    and not exists (select 1 from private.notification_states as s where s.user_id = new.user_id and s.notification_id = new.id and s.is_hidden)
  then
    perform private.notifications_broadcast(
      array['user:' || new.user_id], 'notification', jsonb_build_object('notification_id', new.id, 'org_id', new.org_id, 'type', new.type)
    );
  end if;
  return null;
end
$$;
comment on function private.notifications_after_insert() is 'Trigger: evaluates the preferences of the readers, counts the notification as unread, queues its mails and sends its event. Definer: preferences and counters are private.';
create trigger notifications_sent after insert on public.notifications
  for each row execute function private.notifications_after_insert();

-- ----------------------------------------------------------------------------
-- For the product
-- ----------------------------------------------------------------------------

-- In plpgsql, which keeps its plan: as an SQL function it would be planned for each notification.
create function private.notifications_text(type text, locale text, data jsonb) returns table (title text, body text)
language plpgsql stable rows 1 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  -- Filled in one pass and on one line: a value is never read as a template.
  select left(private.mail_fill(t.title, notifications_text.data, false), 200),
    nullif(left(private.mail_fill(t.body, notifications_text.data, false), 2000), '')
  from private.notification_texts as t
  cross join private.mail_settings as s
  where t.type = notifications_text.type
    and t.locale in (lower(left(notifications_text.locale, 2)), s.default_locale)
  order by t.locale = lower(left(notifications_text.locale, 2)) desc nulls last
  limit 1;
end
$$;
comment on function private.notifications_text(text, text, jsonb) is 'Title and body of the product''s notification in a language, else in the default one. No row for types of organizations.';

create function private.notifications_locale(reader uuid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (select u.raw_user_meta_data ->> 'locale' from auth.users as u where u.id = reader);
end
$$;
comment on function private.notifications_locale(uuid) is 'Language of a user, by their metadata. Nullable: result.';

create function private.notifications_send(
  org uuid, reader uuid, type text, data jsonb, dedupe_key text, project_id uuid default null
) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  notification uuid;
begin
  -- The caller holds locks already, so this waits for none. Only a deletion holds such a lock: then there is no reader left.
  if notifications_send.project_id is not null or reader is not null then
    perform 1 from public.organizations as o where o.id = org for key share skip locked;
    if not found then
      return null;
    end if;
  end if;
  if notifications_send.project_id is not null then
    perform 1 from public.projects as p where p.id = notifications_send.project_id for key share skip locked;
    if not found then
      return null;
    end if;
  end if;
  if reader is not null then
    perform 1 from public.profiles as p where p.id = reader for key share skip locked;
    if not found then
      return null;
    end if;
  end if;
  insert into public.notifications as n (org_id, audience, user_id, type, permission, project_id, title, body, data, dedupe_key, created_by, created_by_key)
  select org, case when reader is null then 'organization' else 'user' end, reader, t.name, case when reader is null then t.permission end,
    notifications_send.project_id, x.title, x.body, notifications_send.data, notifications_send.dedupe_key, null, null
  from public.notification_types as t
  join public.organizations as o on o.id = org
  cross join lateral private.notifications_text(
    t.name, case when reader is not null then private.notifications_locale(reader) end, notifications_send.data
  ) as x
  where t.org_id = kijko.platform_org_id() and t.name = notifications_send.type
  for key share of o skip locked
  on conflict (org_id, dedupe_key) where dedupe_key is not null do nothing
  returning n.id into notification;
  return notification;
exception when others then
  -- A notification must not fail what it is about.
  raise warning 'notification %: %', type, sqlerrm;
  return null;
end
$$;
comment on function private.notifications_send(uuid, uuid, text, jsonb, text, uuid) is 'Sends a notification of the product: to a reader, or to the members of the organization if that is null. Returns its id; null if the key was used, if the reader or the organization is being deleted, or after an error, which becomes a warning.';

-- ----------------------------------------------------------------------------
-- notify()
-- ----------------------------------------------------------------------------

create function private.notifications_notify(
  org uuid, reader uuid, type text, title text, body text, link text, data jsonb, dedupe_key text
) returns public.notifications
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  defined public.notification_types;
  -- Apart from the keys of the product, which a client must neither read nor use up.
  stored_key constant text := 'client:' || dedupe_key;
  notification public.notifications;
begin
  select t.* into defined from public.notification_types as t
  where t.name = notifications_notify.type and t.org_id = any (array[org, kijko.platform_org_id()]);
  if defined.id is null then
    perform kijko.fail('invalid_input', 'type: no such type', 'Define it in notification_types; its name begins with custom.');
  end if;
  if (char_length(title) <= 200 and private.is_name(title)) is not true then
    perform kijko.fail('invalid_input', 'title: at most 200 characters on one line, in normal form C (NFC), not blank');
  elsif char_length(body) > 2000 then
    perform kijko.fail('invalid_input', 'body: at most 2,000 characters');
  elsif link is not null and private.notifications_is_link(link) is not true then
    perform kijko.fail('invalid_input', 'link: a path that begins with /, or an https address');
  elsif jsonb_typeof(data) is distinct from 'object' or not private.json_fits(data, 8192) then
    perform kijko.fail('invalid_input', 'data: an object of at most 8 KiB');
  elsif char_length(dedupe_key) not between 1 and 200 then
    perform kijko.fail('invalid_input', 'dedupe_key: 1 to 200 characters');
  end if;
  -- Users before organizations, as everywhere.
  perform 1 from public.profiles as p where p.id = reader for key share;
  if not found and reader is not null then
    perform kijko.fail('not_found', 'user_id: not a member');
  end if;
  insert into public.notifications as n (org_id, audience, user_id, type, permission, title, body, link, data, dedupe_key)
  values (
    org, case when reader is not null then 'user' when org = kijko.platform_org_id() then 'everyone' else 'organization' end, reader, defined.name,
    case when reader is null then defined.permission end, btrim(notifications_notify.title), nullif(notifications_notify.body, ''),
    notifications_notify.link, notifications_notify.data, stored_key
  )
  on conflict (org_id, dedupe_key) where dedupe_key is not null do nothing
  returning n.* into notification;
  if notification.id is null then
    select n.* into notification from public.notifications as n where n.org_id = org and n.dedupe_key = stored_key;
    -- The key must not show what somebody else sent to another reader.
    if (notification.user_id, notification.type, notification.title) is distinct from (reader, defined.name, btrim(notifications_notify.title)) then
      perform kijko.fail('idempotency_conflict', 'dedupe_key: used for another notification');
    end if;
  end if;
  return notification;
end
$$;
comment on function private.notifications_notify(uuid, uuid, text, text, text, text, jsonb, text) is 'Checks and sends a notification of a client. The caller has checked the organization and the reader.';

create function public.notify(
  type text, title text, body text default null, link text default null, data jsonb default '{}', user_id uuid default null, dedupe_key text default null
) returns public.notifications
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org constant uuid := private.tenancy_require_org_with('notifications:write');
begin
  if notify.type is null or notify.type not like 'custom.%' then
    perform kijko.fail('permission_denied', 'organizations send notifications of their own types', 'Define one in notification_types; its name begins with custom.');
  end if;
  if notify.user_id is not null and not exists (select 1 from public.memberships as m where m.org_id = org and m.user_id = notify.user_id) then
    perform kijko.fail('not_found', 'user_id: not a member');
  end if;
  perform private.limit_rate('notify:' || org, 600, interval '1 hour', 'an organization sends at most %s notifications an hour');
  return private.notifications_notify(org, notify.user_id, notify.type, notify.title, notify.body, notify.link, notify.data, notify.dedupe_key);
end
$$;
comment on function public.notify(text, text, text, text, jsonb, uuid, text) is 'Sends a notification of one of the organization''s own types to a member, or without user_id to all members. Title and body are plain text. With a dedupe_key that was used it returns the first one. Needs notifications:write. Definer: users may not write notifications.';
grant execute on function public.notify(text, text, text, text, jsonb, uuid, text) to authenticated;

create function public.notify(
  type text, title text, org_id uuid, body text default null, link text default null, data jsonb default '{}', user_id uuid default null,
  dedupe_key text default null
) returns public.notifications
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (select 1 from public.organizations as o where o.id = notify.org_id) then
    perform kijko.fail('not_found', 'no such organization');
  end if;
  if notify.user_id is not null and not exists (
    select 1 from public.profiles as p
    where p.id = notify.user_id
      and (notify.org_id = kijko.platform_org_id() or exists (select 1 from public.memberships as m where m.org_id = notify.org_id and m.user_id = p.id))
  ) then
    perform kijko.fail('not_found', 'user_id: not a member');
  end if;
  return private.notifications_notify(
    notify.org_id, notify.user_id, notify.type, notify.title, notify.body, notify.link, notify.data, notify.dedupe_key
  );
end
$$;
comment on function public.notify(text, text, uuid, text, text, jsonb, uuid, text) is 'As notify(type, title), for servers that hold the service key and name the organization; types of the product, too. With the organization of the platform: to a user, or to everyone. Definer: nobody may write notifications.';
grant execute on function public.notify(text, text, uuid, text, text, jsonb, uuid, text) to service_role;
