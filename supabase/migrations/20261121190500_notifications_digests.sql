-- ============================================================================
-- Notifications: digests by mail, and what is kept.
--
-- A line of private.notification_mails waits until it is due. Each minute all due lines of a reader become one mail of the domain
-- mail, in one transaction with their deletion: none is mailed twice, none is lost. What the reader has read meanwhile, or may no
-- longer see, is left out.
-- ============================================================================

create function private.notifications_digest_data(reader uuid, notifications uuid[]) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with listed as (
    select n.id, n.created_at, o.name as organization, n.org_id, coalesce(x.title, n.title) as title
    from private.notifications_inbox(reader) as n
    join public.organizations as o on o.id = n.org_id
    left join private.notification_states as s on s.user_id = reader and s.notification_id = n.id
    left join lateral private.notifications_text(n.type, private.notifications_locale(reader), n.data) as x on true
    where n.id = any (notifications) and s.read_at is null and s.archived_at is null
  )
  select jsonb_build_object(
    'link', s.site_url || s.notifications_path,
    'count', (select count(*) from listed),
    -- Titles may be another person's words: no mail program makes a link of any part of them.
    'items', (
      select jsonb_agg(jsonb_build_object(
        'title', private.mail_plain_name(i.title),
        'organization', case when i.org_id <> kijko.platform_org_id() then private.mail_plain_name(i.organization) || ': ' end
      ) order by i.created_at, i.id)
      from (select l.* from listed as l order by l.created_at desc, l.id desc limit 20) as i
    )
  )
  from private.mail_settings as s
$$;
comment on function private.notifications_digest_data(uuid, uuid[]) is 'Variables of a digest mail of these notifications, as far as the reader still sees them and has not read them: how many they are, and the newest 20.';

create function private.notifications_digest_sender(notifications uuid[]) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select n.org_id from public.notifications as n
  where n.id = any (notifications) and n.org_id <> kijko.platform_org_id()
  order by n.created_at, n.id limit 1
$$;
comment on function private.notifications_digest_sender(uuid[]) is 'Organization whose limits of mails a digest counts against: one that it is about. Null for the platform''s alone: what tenants send must not use up the mails of login. Nullable: result.';

create function private.notifications_mail_digest(reader uuid) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  address text;
  due uuid[];
  sender uuid;
  data jsonb;
begin
  select private.notifications_digest_sender(array_agg(d.notification_id)) into sender
  from private.notification_mails as d where d.user_id = reader and d.due_at <= kijko.now();
  -- The mail belongs to the organization. If that is being deleted, its lines go, and the next minute sends the rest.
  perform 1 from public.organizations as o where o.id = sender for key share skip locked;
  if not found and sender is not null then
    return null;
  end if;
  with taken as (
    delete from private.notification_mails as m
    where (m.user_id, m.notification_id) in (
      select d.user_id, d.notification_id from private.notification_mails as d where d.user_id = reader and d.due_at <= kijko.now() for update skip locked
    )
    returning m.notification_id
  )
  select array_agg(t.notification_id) into due from taken as t;
  select u.email into address from auth.users as u
  where u.id = reader and u.email <> '' and u.email_confirmed_at is not null and u.deleted_at is null and (u.banned_until is null or u.banned_until <= kijko.now());
  data := private.notifications_digest_data(reader, due);
  if due is null or address is null or (data ->> 'count')::integer = 0 then
    return null;
  end if;
  return private.mail_send(
    address, 'notification_digest', private.notifications_locale(reader), data,
    -- The same lines are one mail, whoever takes them.
    dedupe_key => 'digest:' || encode(sha256(convert_to(reader::text || array_to_string(array(select d.id from unnest(due) as d (id) order by 1), ','), 'UTF8')), 'hex'),
    org => sender
  );
end
$$;
comment on function private.notifications_mail_digest(uuid) is 'Takes all due lines of a reader and sends them as one mail. Returns it; null if nothing was left to say. Nullable: result.';

create function private.notifications_mail_digests(max_readers integer default 1000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  reader uuid;
  sent integer := 0;
begin
  -- What could not be mailed for a day is old news, and is in the list.
  delete from private.notification_mails as m
  where (m.user_id, m.notification_id) in (
    select o.user_id, o.notification_id
    from private.notification_mails as o join public.notifications as n on n.id = o.notification_id
    where o.due_at <= kijko.now() and n.created_at < kijko.now() - interval '3 days'
    for update of o skip locked
  );
  for reader in
    select m.user_id from private.notification_mails as m where m.due_at <= kijko.now() group by m.user_id order by min(m.due_at) limit max_readers
  loop
    begin
      if private.notifications_mail_digest(reader) is not null then
        sent := sent + 1;
      end if;
    exception when others then
      -- Beyond the limits of mails, for example. Others do not wait for it.
      raise warning 'digest of %: %', reader, sqlerrm;
      update private.notification_mails as m set due_at = kijko.now() + interval '10 minutes' where m.user_id = reader and m.due_at <= kijko.now();
    end;
  end loop;
  return sent;
end
$$;
comment on function private.notifications_mail_digests(integer) is 'Sends the digests that are due, those that wait longest first, and returns how many. One that is refused is tried again after ten minutes, for three days.';

select private.set_retention('public.notifications', '90 days', 'readers come back after a holiday');

create function private.notifications_purge(max_kept integer default 1000, max_rows integer default 100000) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  purged bigint;
  more bigint;
begin
  delete from public.notifications as n
  where n.id in (
    select o.id from public.notifications as o where o.created_at < kijko.now() - private.retention_of('public.notifications') order by o.created_at limit max_rows for update skip locked
  );
  get diagnostics purged = row_count;
  delete from public.notifications as n
  where n.id in (
    select k.id
    from (select u.user_id from public.notifications as u where u.user_id is not null group by u.user_id having count(*) > max_kept) as r
    cross join lateral (
      select o.id from public.notifications as o where o.user_id = r.user_id order by o.created_at desc, o.id desc offset max_kept
    ) as k
    union all
    select k.id
    from (select g.org_id from public.notifications as g where g.audience = 'organization' group by g.org_id having count(*) > max_kept) as r
    cross join lateral (
      select o.id from public.notifications as o where o.org_id = r.org_id and o.audience = 'organization' order by o.created_at desc, o.id desc offset max_kept
    ) as k
    limit max_rows
  );
  get diagnostics more = row_count;
  delete from public.notifications as n
  where n.id in (select o.id from public.notifications as o where o.audience = 'everyone' order by o.created_at desc, o.id desc offset 100);
  return purged + more;
end
$$;
comment on function private.notifications_purge(integer, integer) is 'Deletes notifications after their retention, and beyond the newest max_kept of each user and organization and the newest 100 announcements; at most max_rows of each in one transaction.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-notifications-digests', '* * * * *', 'perform private.notifications_mail_digests()');
select private.schedule('kijko-notifications-purge', '17 * * * *', 'perform private.notifications_purge()');
