-- ============================================================================
-- Notifications: preferences of readers, by type and channel.
--
-- The most particular preference decides: of the type in the organization, of the type anywhere, of all types in the organization,
-- of all types anywhere. Without one the type's own values hold. They are evaluated when a notification is sent.
-- ============================================================================

create table private.notification_preferences (
  user_id uuid not null references public.profiles (id) on delete cascade,
  organization uuid references public.organizations (id) on delete cascade,
  type text check (char_length(type) <= 63),
  in_app boolean,
  mail text check (mail in ('off', 'now', 'hourly', 'daily')),
  unique nulls not distinct (user_id, organization, type),
  check (num_nonnulls(in_app, mail) > 0)
);
create index notification_preferences_organization_idx on private.notification_preferences (organization) where organization is not null;
comment on table private.notification_preferences is 'How readers want notifications. Without a row the type decides.';
comment on column private.notification_preferences.user_id is 'Reader.';
comment on column private.notification_preferences.organization is 'Organization that it is about; null for all.';
comment on column private.notification_preferences.type is 'Type that it is about; null for all.';
comment on column private.notification_preferences.in_app is 'Whether the reader sees them in the product; null: the next preference decides.';
comment on column private.notification_preferences.mail is 'When the reader gets a mail; null: the next preference decides.';
select private.describe_data('private.notification_preferences', '{
  "user_id, organization, type, in_app, mail": "how the user wants notifications"
}', 'person');
alter table private.notification_preferences enable row level security;

create table private.notification_settings (
  user_id uuid primary key references public.profiles (id) on delete cascade,
  timezone text not null default 'UTC' check (char_length(timezone) between 1 and 64),
  digest_hour integer not null default 8 check (digest_hour between 0 and 23)
);
comment on table private.notification_settings is 'When readers get digests. Without a row: at 8 in UTC.';
comment on column private.notification_settings.user_id is 'Reader.';
comment on column private.notification_settings.timezone is 'IANA zone of the reader.';
comment on column private.notification_settings.digest_hour is 'Hour of the daily digest in that zone.';
select private.describe_data('private.notification_settings', '{"user_id, timezone, digest_hour": "when the user gets digests"}', 'person');
alter table private.notification_settings enable row level security;

-- ----------------------------------------------------------------------------
-- What holds for a reader
-- ----------------------------------------------------------------------------

create type private.notification_choice as (in_app boolean, mail text);
comment on type private.notification_choice is 'How a reader gets a notification: whether in the product, and off, now, hourly or daily by mail.';

-- plpgsql keeps its plan: sending would plan it anew for each notification.
create function private.notifications_choices(readers uuid[], org uuid, type text)
returns table (user_id uuid, in_app boolean, mail text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with defined as (
    select t.*
    from public.notification_types as t
    where t.name = notifications_choices.type and t.org_id = any (array[notifications_choices.org, kijko.platform_org_id()])
    limit 1
  ), chosen as (
    select p.user_id, (array_agg(p.in_app order by p.place) filter (where p.in_app is not null))[1] as in_app,
      (array_agg(p.mail order by p.place) filter (where p.mail is not null))[1] as mail
    from (
      select p.user_id, p.in_app, p.mail, case when p.type is not null then 0 else 2 end + case when p.organization is not null then 0 else 1 end as place
      from private.notification_preferences as p
      where p.user_id = any (readers)
        and (p.organization is null or p.organization = notifications_choices.org)
        and (p.type is null or p.type = notifications_choices.type)
    ) as p
    group by p.user_id
  )
  select r.id, coalesce(c.in_app, d.in_app, true),
    case
      when c.mail = any (d.mail_choices) then c.mail
      when d.mail_permission is null or exists (
        select 1
        from public.memberships as m
        join private.role_permissions as rp on rp.holder = coalesce(m.custom_role_id::text, m.role) and rp.permission = d.mail_permission
        where m.user_id = r.id and m.org_id = notifications_choices.org
      ) then coalesce(d.mail, 'off')
      else 'off'
    end
  from unnest(readers) as r (id)
  left join defined as d on true
  left join chosen as c on c.user_id = r.id;
end
$$;
comment on function private.notifications_choices(uuid[], uuid, text) is 'How readers get notifications of a type from an organization.';

create function private.notifications_choice(reader uuid, org uuid, type text) returns private.notification_choice
language sql stable set search_path = pg_catalog, pg_temp
as $$ select c.in_app, c.mail from private.notifications_choices(array[reader], org, type) as c $$;
comment on function private.notifications_choice(uuid, uuid, text) is 'The same for one reader; for null the type''s own values.';

create function private.notifications_digest_due(reader uuid, mail text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select case notifications_digest_due.mail
      when 'now' then kijko.now()
      -- Zones differ by less than an hour, too.
      when 'hourly' then date_trunc('hour', l.moment + interval '1 hour') at time zone l.timezone
      when 'daily' then (l.today + case when l.moment < l.today then interval '0' else interval '1 day' end) at time zone l.timezone
    end
    from (
      select z.timezone, z.moment, date_trunc('day', z.moment) + make_interval(hours => z.digest_hour) as today
      from (
        select coalesce(s.timezone, 'UTC') as timezone, coalesce(s.digest_hour, 8) as digest_hour, kijko.now() at time zone coalesce(s.timezone, 'UTC') as moment
        from (select notifications_digest_due.reader as id) as r left join private.notification_settings as s on s.user_id = r.id
      ) as z
    ) as l
  );
end
$$;
comment on function private.notifications_digest_due(uuid, text) is 'When a notification of this moment is mailed: at once, at the next full hour, or at the next digest hour of the reader, both in the reader''s zone. Null for off. Nullable: result.';

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.list_notification_preferences() returns table (
  type text, org_id uuid, description text, in_app boolean, mail text, mail_choices text[], is_chosen boolean
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  return query
  select t.name, o.id, t.description, c.in_app, c.mail, t.mail_choices, exists (
      select 1 from private.notification_preferences as p
      where p.user_id = me and (p.type is null or p.type = t.name) and (p.organization is null or p.organization = o.id)
    )
  from (select m.org_id as id from public.memberships as m where m.user_id = me union all select kijko.platform_org_id()) as o
  join public.notification_types as t
    -- What is about the person comes from the platform, the rest from an organization.
    on t.org_id = o.id and o.id <> kijko.platform_org_id()
    or t.org_id = kijko.platform_org_id() and (o.id = kijko.platform_org_id()) = (t.permission is null)
  cross join lateral private.notifications_choice(me, o.id, t.name) as c
  order by o.id <> kijko.platform_org_id(), o.id, t.name;
end
$$;
comment on function public.list_notification_preferences() is 'Every type of notification that the caller can get, from which organization, and how the caller gets it now. is_chosen: whether a preference of the caller decides. Definer: preferences are private.';
grant execute on function public.list_notification_preferences() to authenticated;

create function public.set_notification_preference(
  type text default null, in_app boolean default null, mail text default null, org_id uuid default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  max_rows constant integer := 500;
  me constant uuid := private.tenancy_require_user();
begin
  if set_notification_preference.org_id is not null
    and not exists (select 1 from public.memberships as m where m.user_id = me and m.org_id = set_notification_preference.org_id)
    and set_notification_preference.org_id <> kijko.platform_org_id()
  then
    perform kijko.fail('not_a_member', 'org_id: not an organization of the caller');
  end if;
  if set_notification_preference.mail is not null and set_notification_preference.mail not in ('off', 'now', 'hourly', 'daily') then
    perform kijko.fail('invalid_input', 'mail: off, now, hourly or daily');
  end if;
  if set_notification_preference.type is not null and not exists (
    select 1 from public.notification_types as t
    where t.name = set_notification_preference.type
      and (t.org_id = kijko.platform_org_id() or t.org_id = any (array(select m.org_id from public.memberships as m where m.user_id = me)))
      and (set_notification_preference.mail is null or set_notification_preference.mail = any (t.mail_choices))
  ) then
    perform kijko.fail('invalid_input', 'type: none that you get, or mail: not one of its choices', 'list_notification_preferences() has them.');
  end if;
  -- Serializes the calls of one user, so that the bound is exact.
  perform 1 from public.profiles as p where p.id = me for no key update;
  delete from private.notification_preferences as p
  where p.user_id = me and p.organization is not distinct from set_notification_preference.org_id
    and p.type is not distinct from set_notification_preference.type;
  if num_nonnulls(set_notification_preference.in_app, set_notification_preference.mail) = 0 then
    return;
  end if;
  if (select count(*) from private.notification_preferences as p where p.user_id = me) >= max_rows then
    perform kijko.fail('quota_exceeded', format('a user has at most %s preferences', max_rows));
  end if;
  insert into private.notification_preferences (user_id, organization, type, in_app, mail)
  values (
    me, set_notification_preference.org_id, set_notification_preference.type, set_notification_preference.in_app, set_notification_preference.mail
  );
end
$$;
comment on function public.set_notification_preference(text, boolean, text, uuid) is 'Sets how the caller gets notifications of a type (null: of all types) from an organization (null: from all). A null in in_app or mail leaves that channel to the next preference, both remove this one. Definer: preferences are private.';
grant execute on function public.set_notification_preference(text, boolean, text, uuid) to authenticated;

create function public.set_digest_time(timezone text default 'UTC', hour integer default 8) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  me constant uuid := private.tenancy_require_user();
begin
  if set_digest_time.timezone is null or not exists (select 1 from pg_timezone_names as z where z.name = set_digest_time.timezone) then
    perform kijko.fail('invalid_timezone', 'timezone: the name of a zone, as Europe/Amsterdam');
  end if;
  if set_digest_time.hour is null or set_digest_time.hour not between 0 and 23 then
    perform kijko.fail('invalid_input', 'hour: 0 to 23');
  end if;
  insert into private.notification_settings as s (user_id, timezone, digest_hour)
  values (me, set_digest_time.timezone, set_digest_time.hour)
  on conflict (user_id) do update set timezone = excluded.timezone, digest_hour = excluded.digest_hour;
end
$$;
comment on function public.set_digest_time(text, integer) is 'Sets the zone of the caller and the hour of the daily digest there. It holds for notifications from then on. Definer: settings are private.';
grant execute on function public.set_digest_time(text, integer) to authenticated;
