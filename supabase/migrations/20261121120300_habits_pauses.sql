-- ============================================================================
-- Habits: a habit that only fails is paused, and the members concerned are notified once.
--
-- The end of an execution looks at the latest executions of the habit's slots. It does not wait for the habit: a tick that holds
-- the habit may be cancelling an execution, whose job this transaction holds. The tick looks, too, before it runs a slot, so a
-- pause that was passed over is made up for.
-- ============================================================================

create function private.habits_has_failed(habit public.habits) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select count(*) filter (where r.status = 'failed') >= habit.pause_after_failures
  from (
    select e.status from public.executions as e
    where e.habit_id = habit.id and e.scheduled_for is not null and e.skip_count = 0
      and e.status in ('failed', 'succeeded') and e.created_at >= habit.enabled_at
    order by e.scheduled_for desc
    limit habit.pause_after_failures
  ) as r
  where habit.pause_after_failures is not null
$$;
comment on function private.habits_has_failed(public.habits) is 'Whether the latest executions of a habit''s slots have all failed since it was enabled, as many as pause it. Skipped slots, cancelled executions and runs by hand do not count.';

create function private.habits_recipients(habit public.habits) returns table (user_id uuid, email text, locale text)
language sql stable set search_path = pg_catalog, pg_temp
as $$ select r.* from private.skills_recipients(habit.org_id, habit.skill_id, habit.created_by, 'habits:read') as r $$;
comment on function private.habits_recipients(public.habits) is 'Who is notified that a habit was paused.';

create function private.habits_send_notice(habit public.habits) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  site constant text := (select s.site_url from private.mail_settings as s);
  organization constant text := (select private.mail_plain_name(o.name) from public.organizations as o where o.id = habit.org_id);
  project constant uuid := (select s.project_id from public.skills as s where s.org_id = habit.org_id and s.id = habit.skill_id);
  recipient record;
begin
  for recipient in select r.* from private.habits_recipients(habit) as r loop
    perform private.notifications_send(
      habit.org_id, recipient.user_id, 'habit.paused',
      jsonb_build_object('habit_id', habit.id, 'habit', habit.name, 'failures', habit.pause_after_failures),
      format('habit.paused:%s:%s:%s', habit.id, extract(epoch from habit.paused_at), recipient.user_id), project
    );
    -- Who wants it later gets it in a digest.
    continue when (private.notifications_choice(recipient.user_id, habit.org_id, 'habit.paused')).mail <> 'now';
    begin
      perform private.mail_send(
        recipient.email, 'habit_paused', recipient.locale,
        jsonb_build_object(
          'link', site, 'habit', private.mail_plain_name(habit.name), 'organization', organization,
          'failures', habit.pause_after_failures
        ),
        -- Once for each pause and address.
        dedupe_key => 'habit_paused:' || encode(sha256(convert_to(concat_ws(':', habit.id, extract(epoch from habit.paused_at), recipient.email), 'UTF8')), 'hex'),
        org => habit.org_id
      );
    exception when others then
      -- Beyond the limits of mails, for example. The row says the same.
      raise warning 'habit %: no mail about its pause: %', habit.id, sqlerrm;
    end;
  end loop;
end
$$;
comment on function private.habits_send_notice(public.habits) is 'Notifies the recipients of a paused habit in the product and by mail, each in their language and by their preferences. A mail that is refused does not undo the pause.';

create function private.habits_pause(habit public.habits) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  paused public.habits;
begin
  update public.habits as h
  set enabled = false, paused_at = kijko.now(), paused_reason = format('%s executions in a row failed', h.pause_after_failures)
  where h.id = habit.id and h.enabled
  returning h.* into paused;
  if paused.id is not null then
    perform private.habits_send_notice(paused);
  end if;
end
$$;
comment on function private.habits_pause(public.habits) is 'Pauses a locked habit, once: disables it, says why, and sends the notice.';

create function private.habits_after_failure() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  habit public.habits;
begin
  select h.* into habit from public.habits as h
  where h.org_id = new.org_id and h.id = new.habit_id and h.enabled
  for no key update skip locked;
  if habit.id is not null and private.habits_has_failed(habit) then
    perform private.habits_pause(habit);
  end if;
  return null;
exception when others then
  -- The end of the execution must not depend on it. The tick tries again.
  raise warning 'habit %: could not be paused: %', new.habit_id, sqlerrm;
  return null;
end
$$;
comment on function private.habits_after_failure() is 'Trigger: pauses the habit of a failed execution if it has failed too often. Definer: whoever ends an execution holds no right on habits.';
create trigger executions_habit_failed after update of status on public.executions
  for each row when (new.status = 'failed' and old.status <> 'failed' and new.habit_id is not null and new.scheduled_for is not null)
  execute function private.habits_after_failure();
