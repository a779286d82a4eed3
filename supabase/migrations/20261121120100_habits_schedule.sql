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

create function private.habits_refusal(skill public.skills) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  problems constant jsonb := private.skills_stopping_problems(skill);
begin
  if exists (select 1 from public.projects as p where p.id = skill.project_id and p.archived_at is not null) then
    return jsonb_build_object('code', 'project_archived', 'message', 'the project of the skill is archived');
  elsif not skill.enabled then
    return jsonb_build_object('code', 'skill_disabled', 'message', 'the skill is disabled');
  elsif problems <> '[]' then
    return jsonb_build_object('code', 'skill_not_runnable', 'message', private.skills_describe_problems(problems));
  end if;
  return null;
end
$$;
comment on function private.habits_refusal(public.skills) is 'Why a habit cannot run its skill, as {code, message}; null if it can. The members have to mend it. Nullable: result.';

create function private.habits_make_room(habit public.habits) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- A habit that catches up all slots may have as many waiting as it catches up.
  max_waiting constant integer := case habit.catch_up when 'all' then 24 else 1 end;
  waiting integer;
  jobs uuid[];
begin
  -- Slots are queued one after the other, so the latest ones decide.
  select count(*) filter (where r.status = 'queued'), array_agg(r.job_id order by r.job_id) filter (where r.status in ('queued', 'running'))
  into waiting, jobs
  from (
    select e.status, e.job_id from public.executions as e
    where e.habit_id = habit.id and e.scheduled_for is not null and e.skip_count = 0
    order by e.scheduled_for desc
    limit 50
  ) as r;
  if jobs is null then
    return null;
  elsif habit.overlap = 'skip' then
    return 'the execution of an earlier slot has not ended';
  elsif habit.overlap = 'queue' then
    return case when waiting >= max_waiting then 'the execution of an earlier slot is still queued' end;
  end if;
  -- Another transaction that holds a job may be about to end it. The tick must not wait for it: the slot is due again in the
  -- next tick.
  perform 1 from public.jobs as j where j.id = any (jobs) order by j.id for update nowait;
  perform private.jobs_cancel(j.id) from unnest(jobs) as j (id);
  return null;
end
$$;
comment on function private.habits_make_room(public.habits) is 'Applies the overlap policy of a habit before a slot is queued: null when it may be queued, else why it is skipped. Fails with lock_not_available (55P03) while somebody holds the job of an execution that it would cancel. Without a bound on waiting slots, a vendor without a worker would use up the month''s executions. Nullable: result.';

create function private.habits_start_time(habit public.habits, slot timestamptz) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select slot + make_interval(secs => mod(
    -- Never negative.
    hashtextextended(habit.id || ':' || extract(epoch from slot), 20261121) & 9223372036854775807, habit.jitter_seconds + 1
  ))
$$;
comment on function private.habits_start_time(public.habits, timestamptz) is 'When a slot starts: the slot, moved by the habit''s jitter. The same for each call.';

create function private.habits_run_slot(habit public.habits, slot timestamptz) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  skill public.skills;
  refusal jsonb;
  overlapping text;
  exhausted text;
  hold uuid;
begin
  -- The habit's row is locked, so this cannot change before the insert. The unique key would refuse a second row anyway.
  if exists (select 1 from public.executions as e where e.habit_id = habit.id and e.scheduled_for = slot) then
    return null;
  end if;
  select s.* into skill from public.skills as s where s.org_id = habit.org_id and s.id = habit.skill_id;
  refusal := private.habits_refusal(skill);
  if refusal is null then
    overlapping := private.habits_make_room(habit);
    if overlapping is not null then
      perform private.habits_skip_slot(habit, slot, 'skipped', 'conflict', overlapping);
      return null;
    end if;
    begin
      hold := private.executions_reserve(habit.org_id);
    exception when sqlstate 'KJ429' then
      get stacked diagnostics exhausted = pg_exception_detail;
      refusal := jsonb_build_object('code', 'quota_exceeded', 'message', exhausted);
    end;
  end if;
  if refusal is not null then
    perform private.habits_skip_slot(habit, slot, 'skipped', refusal ->> 'code', left(refusal ->> 'message', 10000));
    return left(refusal ->> 'message', 10000);
  end if;
  perform private.executions_queue(
    skill, habit.input, 'habit', habit_id => habit.id, scheduled_for => slot, hold_id => hold,
    -- Product time and the queue's clock differ by a fixed amount.
    run_at => clock_timestamp() + greatest(private.habits_start_time(habit, slot) - kijko.now(), interval '0'),
    -- One after the other. Where slots are skipped, two never run at once anyway.
    concurrency_key => case when habit.overlap <> 'skip' then 'habit:' || habit.id end
  );
  return null;
end
$$;
comment on function private.habits_run_slot(public.habits, timestamptz) is 'Handles one due slot of a locked habit: reserves and queues it, or records it as skipped. Returns why the habit cannot run, null if it can. Nullable: result.';

create function private.habits_due_slots(habit public.habits, until timestamptz) returns timestamptz[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  slot timestamptz := private.habits_latest_slot(habit.cron, habit.timezone, habit.next_run_at, least(until, habit.ends_at));
  slots timestamptz[] := array[slot];
begin
  while habit.catch_up = 'all' and cardinality(slots) < 24 loop
    slot := kijko.cron_latest(habit.cron, habit.timezone, slot - interval '1 microsecond');
    exit when slot is null or slot < habit.next_run_at;
    slots := slot || slots;
  end loop;
  return slots;
end
$$;
comment on function private.habits_due_slots(public.habits, timestamptz) is 'The due slots of a habit that are handled, in order: the latest one, or the latest 24 if it catches up all.';

create function private.habits_handle(habit public.habits, until timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  slots timestamptz[];
  slot timestamptz;
  reason text;
begin
  if private.habits_has_failed(habit) then
    perform private.habits_pause(habit);
    return;
  end if;
  slots := private.habits_due_slots(habit, until);
  foreach slot in array slots loop
    if habit.catch_up = 'none' and slot < until - interval '5 minutes' then
      perform private.habits_skip_slot(habit, slot, 'skipped', 'slot_missed', 'the slot was due while no scheduler ran');
    else
      reason := private.habits_run_slot(habit, slot);
    end if;
  end loop;
  update public.habits as h
  set last_run_at = slot, next_run_at = private.habits_next_slot(habit, slot), last_error = reason
  where h.id = habit.id;
end
$$;
comment on function private.habits_handle(public.habits, timestamptz) is 'Handles the due slots of a locked habit and moves it on, or pauses it if it has failed too often.';

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
    next_slot := private.habits_next_slot(habit, until);
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
  -- Only now: the turn of another tick is worth waiting for.
  perform set_config('lock_timeout', '500ms', true);
  for habit in
    select h.* from public.habits as h
    where h.enabled and h.next_run_at <= until and h.org_id <> all (private.passed_over())
    order by h.next_run_at, h.id
    limit greatest(max_slots, 0)
    -- A habit that a user is changing is due again in the next tick. Not "for update", which would skip a habit whose
    -- execution is being written: its foreign key locks the habit.
    for no key update skip locked
  loop
    continue when habit.org_id = any (private.passed_over());
    begin
      perform private.habits_handle(habit, until);
    exception
      -- The next tick tries again. A worker that ends several executions may hold a meter that this batch waits for, and wait
      -- for a job that it has cancelled.
      when lock_not_available or deadlock_detected then
        perform private.pass_over(habit.org_id, sqlstate);
      when others then
        perform private.habits_fail_slot(habit, until, sqlerrm);
    end;
    handled := handled + 1;
  end loop;
  return handled;
end
$$;
comment on function private.habits_run_due(integer) is 'Executions for the due slots of each due habit, at most max_slots habits; returns how many it handled. Definer: callable by the operator without table rights.';
grant execute on function private.habits_run_due(integer) to service_role;

-- A procedure, so that each batch commits: it holds the meters of its organizations, and their users wait for these. A
-- procedure that commits can have no "set" clause and no definer rights, so every name is qualified.
create procedure private.habits_tick()
language plpgsql
as $$
declare
  batch integer := 200;
  handled integer;
  waiting text;
  started timestamptz := clock_timestamp();
begin
  loop
    handled := private.habits_run_due(batch);
    waiting := current_setting('private.passed_over', true);
    commit;
    perform set_config('private.passed_over', waiting, true);
    -- After a long pause the next tick continues.
    exit when handled < batch or clock_timestamp() > started + interval '50 seconds';
  end loop;
end
$$;
comment on procedure private.habits_tick() is 'Called by pg_cron each minute: habits_run_due() in batches until no slot is due.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-habits-run-due', '* * * * *', 'call private.habits_tick()');
