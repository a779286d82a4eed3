-- ============================================================================
-- Habits: the tick, which runs due slots.
-- ============================================================================

create function private.habits_latest_slot(expr text, tz text, first_due timestamptz, until timestamptz) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return greatest(first_due, kijko.cron_latest(expr, tz, until));
end
$$;
comment on function private.habits_latest_slot(text, text, timestamptz, timestamptz) is 'The last slot not after "until", given one that is due.';

create function private.habits_skip_slot(habit public.habits, slot timestamptz, status text, code text, message text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  ran timestamptz;
  project constant uuid := (select s.project_id from public.skills as s where s.org_id = habit.org_id and s.id = habit.skill_id);
begin
  -- One row for each reason until a slot runs again, without the input, so that a habit that cannot run does not fill the table.
  select e.scheduled_for into ran from public.executions as e
  where e.habit_id = habit.id and e.scheduled_for is not null and e.skip_count = 0
  order by e.scheduled_for desc
  limit 1;
  update public.executions as e
  set skip_count = e.skip_count + 1, project_id = project, scheduled_for = slot, error = message, finished_at = kijko.now()
  where e.habit_id = habit.id and e.skip_count > 0 and e.status = habits_skip_slot.status and e.error_code = code
    and e.scheduled_for < slot and e.scheduled_for > coalesce(ran, '-infinity');
  if not found then
    insert into public.executions (
      org_id, project_id, skill_id, habit_id, trigger, status, error_code, error, scheduled_for, skip_count, finished_at
    )
    values (
      habit.org_id, project, habit.skill_id, habit.id, 'habit', habits_skip_slot.status, code, message, slot, 1, kijko.now()
    )
    on conflict (habit_id, scheduled_for) do nothing;
  end if;
end
$$;
comment on function private.habits_skip_slot(public.habits, timestamptz, text, text, text) is 'Records a slot that is not run, with the reason; repeated for the same reason, it is counted in the same row.';

create function private.habits_is_waiting(habit_id uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- Slots are queued one after the other, so the last one decides.
  select coalesce((
    select e.status = 'queued' from public.executions as e
    where e.habit_id = habits_is_waiting.habit_id and e.scheduled_for is not null and e.skip_count = 0
    order by e.scheduled_for desc
    limit 1
  ), false)
$$;
comment on function private.habits_is_waiting(uuid) is 'Whether the execution of the last queued slot still waits for a worker or for its vendor. The tick skips further slots meanwhile, because a vendor without a worker would otherwise use up the month''s executions.';

create function private.habits_run_slot(habit public.habits, until timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  slot timestamptz := private.habits_latest_slot(habit.cron, habit.timezone, habit.next_run_at, until);
  skill public.skills;
  hold uuid;
  -- Why the habit cannot run; the members are to mend it.
  reason text;
begin
  -- The habit's row is locked, so this cannot change before the insert. The unique key would refuse a second row anyway.
  if not exists (
    select 1 from public.executions as e where e.habit_id = habit.id and e.scheduled_for = slot
  ) then
    select s.* into skill from public.skills as s where s.org_id = habit.org_id and s.id = habit.skill_id;
    if exists (select 1 from public.projects as p where p.id = skill.project_id and p.archived_at is not null) then
      reason := 'the project of the skill is archived';
      perform private.habits_skip_slot(habit, slot, 'skipped', 'project_archived', reason);
    elsif not skill.enabled then
      reason := 'the skill is disabled';
      perform private.habits_skip_slot(habit, slot, 'skipped', 'skill_disabled', reason);
    elsif private.skills_current_problems(skill) <> '[]' then
      reason := private.skills_describe_problems(private.skills_current_problems(skill));
      perform private.habits_skip_slot(habit, slot, 'skipped', 'skill_not_runnable', reason);
    elsif private.habits_is_waiting(habit.id) then
      perform private.habits_skip_slot(habit, slot, 'skipped', 'conflict', 'the execution of an earlier slot is still queued');
    else
      begin
        hold := private.executions_reserve(habit.org_id);
      exception when sqlstate 'KJ429' then
        get stacked diagnostics reason = pg_exception_detail;
      end;
      if hold is null then
        perform private.habits_skip_slot(habit, slot, 'skipped', 'quota_exceeded', reason);
      else
        perform private.executions_queue(
          skill, habit.input, 'habit', habit_id => habit.id, scheduled_for => slot, hold_id => hold
        );
      end if;
    end if;
  end if;

  update public.habits as h
  set last_run_at = slot,
    next_run_at = kijko.cron_next(habit.cron, habit.timezone, slot),
    last_error = left(reason, 10000)
  where h.id = habit.id;
end
$$;
comment on function private.habits_run_slot(public.habits, timestamptz) is 'Handles the latest due slot of a locked habit: reserves and queues it, or records it as skipped, and moves on.';

create function private.habits_fail_slot(habit public.habits, until timestamptz, message text) returns void
language plpgsql set search_path = ''
as $$
declare
  reason text := split_part(message, ':', 1);
  shown text := message;
  next_slot timestamptz;
begin
  -- Refusals with a code of kijko.error_codes are for the user. Any other text may show internals and goes to the log.
  if not exists (select 1 from kijko.error_codes as c where c.code = reason and c.http_status < 500) then
    raise warning 'habit %: %', habit.id, message;
    reason := 'internal';
    shown := 'the slot could not be run';
  end if;
  begin
    perform private.habits_skip_slot(habit, habit.next_run_at, 'failed', reason, substring(shown for 10000));
  exception when others then
    -- The row cannot be written either. last_error below still says why, and the other habits go on.
    raise warning 'habit %: %', habit.id, sqlerrm;
  end;
  begin
    next_slot := kijko.cron_next(habit.cron, habit.timezone, until);
  exception when others then
    -- Without a next slot the habit does not run until a user changes it.
    next_slot := null;
  end;
  update public.habits as h
  set last_run_at = habit.next_run_at, next_run_at = next_slot, last_error = substring(shown for 10000)
  where h.id = habit.id;
end
$$;
comment on function private.habits_fail_slot(public.habits, timestamptz, text) is 'Records that a slot could not be handled and moves on, so that one bad habit neither stops the others nor comes back every minute.';

create function private.habits_run_due(max_slots integer default 5000) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  until timestamptz := kijko.now();
  habit public.habits;
  handled integer := 0;
begin
  -- Ticks take turns: each reserves executions of many organizations in one transaction, and two ticks with different orders
  -- would deadlock. The second tick finds every due slot handled.
  perform pg_advisory_xact_lock(hashtextextended('kijko habits_run_due', 20261121));
  for habit in
    select h.* from public.habits as h
    where h.enabled and h.next_run_at <= until
    order by h.next_run_at, h.id
    limit greatest(max_slots, 0)
    -- A habit that a user is changing is due again in the next tick. Not "for update", which would skip a habit whose
    -- execution is being written: its foreign key locks the habit.
    for no key update skip locked
  loop
    begin
      perform private.habits_run_slot(habit, until);
    exception when others then
      perform private.habits_fail_slot(habit, until, sqlerrm);
    end;
    handled := handled + 1;
  end loop;
  return handled;
end
$$;
comment on function private.habits_run_due(integer) is 'One execution for the latest due slot of each due habit, at most max_slots of them; returns how many it handled. Definer: callable by the operator without table rights.';
grant execute on function private.habits_run_due(integer) to service_role;

-- A procedure, so that each batch commits: it holds the meters of its organizations, and their users wait for these. A
-- procedure that commits can have no "set" clause and no definer rights, so every name is qualified.
create procedure private.habits_tick()
language plpgsql
as $$
declare
  batch integer := 200;
  handled integer;
  started timestamptz := clock_timestamp();
begin
  loop
    handled := private.habits_run_due(batch);
    commit;
    -- After a long pause the next tick continues.
    exit when handled < batch or clock_timestamp() > started + interval '50 seconds';
  end loop;
end
$$;
comment on procedure private.habits_tick() is 'Called by pg_cron each minute: habits_run_due() in batches until no slot is due.';

-- cron.schedule replaces the entry of the same name, so a replay is harmless.
select cron.schedule('kijko-habits-run-due', '* * * * *', 'call private.habits_tick()');
