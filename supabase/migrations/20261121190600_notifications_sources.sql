-- ============================================================================
-- Notifications: what the product tells. Mails that were there before go by the same preferences and are sent once:
-- private.mail_send_invitation() and private.habits_send_notice() ask notifications_choice().
-- ============================================================================

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
-- Thresholds of usage. The extension stores a crossing with the use that reached it, in the same transaction; a trigger on its
-- table would be code of postgres that a superuser runs. So crossings are taken from there: when the commit wakes the sidecar,
-- and by a schedule in any case.
-- ----------------------------------------------------------------------------

create function private.notifications_emit_thresholds(max_crossings integer default 1000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  crossing record;
  owned private.usage_subjects;
  key text;
  taken integer := 0;
begin
  for crossing in select t.* from kijko.take_threshold_crossings(max_crossings) as t loop
    taken := taken + 1;
    key := format('usage:%s:%s:%s', crossing.meter, extract(epoch from nullif(crossing.period_start, '-infinity')), crossing.threshold);
    -- Not an organization, but a part of one.
    select s.* into owned from private.usage_subjects as s where s.subject = crossing.subject;
    key := concat_ws(':', key, owned.subject);
    -- Sending answers null when the notification is there already, and after an error. Then it is tried again for a day.
    if crossing.threshold < 80 or crossing.subject = kijko.platform_org_id() or crossing.crossed_at < kijko.now() - interval '1 day'
      or not exists (select 1 from public.organizations as o where o.id = coalesce(owned.organization, crossing.subject))
      or private.notifications_send(
        coalesce(owned.organization, crossing.subject), null, coalesce(owned.notification, 'usage.threshold'),
        coalesce(owned.data, '{}') || jsonb_build_object(
          'meter', crossing.meter, 'period_start', nullif(crossing.period_start, '-infinity'), 'threshold', crossing.threshold,
          'used', crossing.used, 'limit', crossing."limit"
        ),
        key, owned.project_id
      ) is not null
      or exists (select 1 from public.notifications as n where n.org_id = coalesce(owned.organization, crossing.subject) and n.dedupe_key = key)
    then
      perform kijko.end_threshold_crossing(crossing.subject, crossing.meter, crossing.period_start, crossing.threshold);
    end if;
  end loop;
  if taken > 0 then
    perform private.reflexes_emit_thresholds();
  end if;
  return taken;
end
$$;
comment on function private.notifications_emit_thresholds(integer) is 'Notifies organizations of the meters that reached 80 or 100 per cent, once for each period, and fires reflexes that listen to thresholds. Returns how many crossings it took, 50 per cent included. Definer: the sidecar, which calls it when a crossing has committed, has no rights on the tables.';
grant execute on function private.notifications_emit_thresholds(integer) to kijko_sidecar;

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

-- ----------------------------------------------------------------------------
-- Trials
-- ----------------------------------------------------------------------------

create function private.notifications_emit_trials(max_rows integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  trial private.plan_trials;
  notice text;
  told integer := 0;
begin
  for trial in
    select t.* from private.plan_trials as t
    where t.organization is not null
      and (
        (t.ended_at is null and t.end_notice is null and t.ends_at <= kijko.now() + interval '3 days')
        -- One that was ended before its time was ended by the organization itself.
        or (t.ended_at >= t.ends_at and t.end_notice is distinct from 'ended')
      )
    order by t.ends_at
    limit max_rows
    for no key update skip locked
  loop
    notice := case when trial.ended_at is null then 'ending' else 'ended' end;
    perform private.notifications_send(
      trial.organization, null, 'trial.' || notice,
      jsonb_build_object('date', to_char(trial.ends_at at time zone 'UTC', 'YYYY-MM-DD')), format('trial.%s:%s', notice, trial.id)
    );
    update private.plan_trials as t set end_notice = notice where t.id = trial.id;
    told := told + 1;
  end loop;
  return told;
end
$$;
comment on function private.notifications_emit_trials(integer) is 'Notifies organizations three days before their trial ends, and when it has ended, at most max_rows, and returns how many.';

select private.schedule('kijko-notifications-sources', '* * * * *', 'perform private.notifications_emit_invitations()', 'perform private.notifications_emit_thresholds()', 'perform private.notifications_emit_trials()');
