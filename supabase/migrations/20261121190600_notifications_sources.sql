-- ============================================================================
-- Notifications: what the product tells. Mails that were there before go by the same preferences and are sent once:
-- private.mail_send_invitation() and private.habits_send_notice() ask notifications_choice().
-- ============================================================================

create table private.notification_cursors (
  source text primary key check (char_length(source) <= 63),
  position uuid not null
);
comment on table private.notification_cursors is 'Up to which organization a scheduled source has looked.';
comment on column private.notification_cursors.source is 'The source: thresholds.';
comment on column private.notification_cursors.position is 'The last organization that it has looked at.';
select private.describe_data('private.notification_cursors', '{"source, position": "continues where the last run ended"}', 'platform');
alter table private.notification_cursors enable row level security;
insert into private.notification_cursors (source, position) values ('thresholds', '00000000-0000-0000-0000-000000000000');

-- ----------------------------------------------------------------------------
-- Invitations. Not in the transaction that invites: it would take longer for an address that has an account, and so tell who has one.
-- ----------------------------------------------------------------------------

create index invitations_sent_at_idx on public.invitations (sent_at) where status = 'pending';

create function private.notifications_invitee(address text) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select u.id from auth.users as u
  -- The index of addresses leaves out users of single sign-on, whose addresses are not unique.
  where u.email = address and u.is_sso_user = false and u.email_confirmed_at is not null and not u.is_anonymous and u.deleted_at is null
  limit 1
$$;
comment on function private.notifications_invitee(text) is 'The user whose confirmed address it is. Nullable: result.';

create function private.notifications_emit_invitations() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  sent record;
  emitted integer := 0;
begin
  for sent in
    select i.id, i.org_id, o.name as organization, i.role, i.expires_at, private.notifications_invitee(i.email) as invitee,
      format('invitation:%s:%s', i.id, extract(epoch from i.sent_at)) as dedupe_key
    from public.invitations as i
    join public.organizations as o on o.id = i.org_id
    where i.status = 'pending' and i.sent_at > kijko.now() - interval '1 day' and i.expires_at > kijko.now()
  loop
    if sent.invitee is not null and not exists (
      select 1 from public.notifications as n where n.org_id = kijko.platform_org_id() and n.dedupe_key = sent.dedupe_key
    ) and private.notifications_send(
      kijko.platform_org_id(), sent.invitee, 'invitation.received',
      jsonb_build_object('invitation_id', sent.id, 'organization', sent.organization, 'role', sent.role, 'expires_at', sent.expires_at),
      sent.dedupe_key
    ) is not null then
      emitted := emitted + 1;
    end if;
  end loop;
  return emitted;
end
$$;
comment on function private.notifications_emit_invitations() is 'Tells users whose confirmed address was invited during the last day, once for each time that it was sent, and returns how many.';

-- ----------------------------------------------------------------------------
-- Habits that begin to fail
-- ----------------------------------------------------------------------------

create function private.notifications_after_habit_failure() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- One for each series of failures: a habit of every minute would else fill the list.
  if (
    select e.status from public.executions as e
    where e.habit_id = new.habit_id and e.scheduled_for < new.scheduled_for and e.skip_count = 0 and e.status in ('failed', 'succeeded')
    order by e.scheduled_for desc limit 1
  ) = 'failed' then
    return null;
  end if;
  perform private.notifications_send(
    new.org_id, r.user_id, 'habit.failed',
    jsonb_build_object('habit_id', h.id, 'habit', h.name, 'execution_id', new.id, 'error_code', new.error_code),
    format('habit.failed:%s:%s', new.id, r.user_id), new.project_id
  )
  from public.habits as h cross join lateral private.habits_recipients(h) as r
  where h.org_id = new.org_id and h.id = new.habit_id;
  return null;
exception when others then
  raise warning 'habit %: nobody was notified of its failure: %', new.habit_id, sqlerrm;
  return null;
end
$$;
comment on function private.notifications_after_habit_failure() is 'Trigger: notifies the creator of a habit, or who manages all projects, of the first failure after a success. Definer: whoever ends an execution holds no right on habits.';
create trigger executions_notifications after update of status on public.executions
  for each row when (new.status = 'failed' and old.status <> 'failed' and new.habit_id is not null and new.scheduled_for is not null and not new.managers_only)
  execute function private.notifications_after_habit_failure();

-- ----------------------------------------------------------------------------
-- Thresholds of usage. The extension records them beside the domain's transactions, so this looks for them.
-- ----------------------------------------------------------------------------

create function private.notifications_emit_thresholds(max_organizations integer default 2000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  begin_after uuid;
  looked uuid[];
  crossing record;
  emitted integer := 0;
begin
  select w.position into begin_after from private.notification_cursors as w where w.source = 'thresholds' for update skip locked;
  if not found then
    return 0; -- another run is at it
  end if;
  looked := array(
    select o.id from public.organizations as o where o.id > begin_after and o.id <> kijko.platform_org_id() order by o.id limit max_organizations
  );
  update private.notification_cursors as w
  set position = case when cardinality(looked) < max_organizations then '00000000-0000-0000-0000-000000000000' else looked[cardinality(looked)] end
  where w.source = 'thresholds';
  for crossing in
    select o.id as org_id, c.meter, c.period_start, c.threshold, c.used, c."limit",
      format('usage:%s:%s:%s', c.meter, extract(epoch from c.period_start), c.threshold) as dedupe_key
    from unnest(looked) as o (id)
    cross join lateral kijko.list_threshold_crossings(o.id, kijko.now() - interval '1 day') as c
    where c.threshold >= 80
    order by o.id, c.crossed_at
  loop
    if not exists (
      select 1 from public.notifications as n where n.org_id = crossing.org_id and n.dedupe_key = crossing.dedupe_key
    ) and private.notifications_send(
      crossing.org_id, null, 'usage.threshold',
      jsonb_build_object(
        'meter', crossing.meter, 'period_start', crossing.period_start, 'threshold', crossing.threshold, 'used', crossing.used, 'limit', crossing."limit"
      ),
      crossing.dedupe_key
    ) is not null then
      emitted := emitted + 1;
    end if;
  end loop;
  return emitted;
end
$$;
comment on function private.notifications_emit_thresholds(integer) is 'Tells organizations which meters reached 80 or 100 per cent during the last day, once for each period, and returns how many. Each run looks at the next max_organizations.';

-- ----------------------------------------------------------------------------
-- Sessions that somebody else may have ended. A setting of the transaction says who did; signing out notifies nobody.
-- ----------------------------------------------------------------------------

create function private.notifications_after_sessions() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  cause constant text := nullif(current_setting('kijko_notifications.session_end', true), '');
begin
  if cause is not null then
    perform private.notifications_send(
      kijko.platform_org_id(), e.user_id, 'session.ended',
      jsonb_build_object('cause', cause, 'count', e.count, 'devices', e.devices), format('session.ended:%s', e.session)
    )
    from (
      select s.user_id, count(*) as count, min(s.id::text) as session, to_jsonb((array_agg(distinct left(s.user_agent, 200)))[1:5]) as devices
      from ended as s
      where s.id is distinct from kijko.session_id() and (s.not_after is null or s.not_after > kijko.now())
      group by s.user_id
    ) as e;
  end if;
  return null;
exception when others then
  raise warning 'ended sessions: nobody was notified: %', sqlerrm;
  return null;
end
$$;
comment on function private.notifications_after_sessions() is 'Trigger: tells a user which sessions ended other than by signing out: end_session() on another device, too many sessions, a new password, or a stolen refresh token. Definer: the login role may write auth only.';
create trigger kijko_sessions_notify after delete on auth.sessions
  referencing old table as ended for each statement execute function private.notifications_after_sessions();

select cron.schedule('kijko-notifications-sources', '* * * * *', 'select private.notifications_emit_invitations(), private.notifications_emit_thresholds()');
