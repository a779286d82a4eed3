-- ============================================================================
-- Habits: skills on a schedule.
--
-- pg_cron calls private.habits_tick() every minute. Each due slot becomes exactly one
-- execution, however many ticks run at once: they take turns, the habit's row is locked,
-- and a slot is unique in executions. The habit says what becomes of slots that were missed
-- during downtime (catch_up), and of a slot that is due while the execution of an earlier one
-- has not ended (overlap). A habit that fails several times in a row is paused.
-- Time here is product time, kijko.now().
-- ============================================================================

-- ----------------------------------------------------------------------------
-- habits
-- ----------------------------------------------------------------------------

create table public.habits (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  skill_id uuid not null,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  cron kijko.cron not null check (char_length(cron) <= 255),
  timezone text not null default 'UTC' check (char_length(timezone) between 1 and 64),
  input jsonb not null default '{}' check (jsonb_typeof(input) = 'object' and private.json_fits(input, 262144)),
  enabled boolean not null default true,
  -- Far beyond every plan, and within the calendar of the cron engine.
  starts_at timestamptz check (starts_at between '2000-01-01 00:00+00' and '2200-01-01 00:00+00'),
  ends_at timestamptz check (ends_at between '2000-01-01 00:00+00' and '2200-01-01 00:00+00'),
  jitter_seconds integer not null default 0 check (jitter_seconds between 0 and 3600),
  overlap text not null default 'skip' check (overlap in ('skip', 'queue', 'cancel')),
  catch_up text not null default 'latest' check (catch_up in ('none', 'latest', 'all')),
  pause_after_failures smallint default 5 check (pause_after_failures between 1 and 100),
  enabled_at timestamptz not null default kijko.now(),
  paused_at timestamptz,
  paused_reason text check (char_length(paused_reason) <= 1000),
  next_run_at timestamptz,
  last_run_at timestamptz,
  last_error text check (char_length(last_error) <= 10000),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  check (ends_at > starts_at),
  -- The other policies would skip or cancel what is caught up.
  check (catch_up <> 'all' or overlap = 'queue'),
  check ((paused_at is null) = (paused_reason is null) and (paused_at is null or not enabled)),
  foreign key (org_id, skill_id) references public.skills (org_id, id) on delete cascade
);
create index habits_due_idx on public.habits (next_run_at, id) where enabled;
create index habits_skill_id_idx on public.habits (org_id, skill_id);

comment on table public.habits is 'Skills on a schedule. Users write the schedule, its policies and the input; the database keeps the rest.';
comment on column public.habits.id is 'Identity of the habit.';
comment on column public.habits.org_id is 'Organization that owns it and pays for its executions; never changes.';
comment on column public.habits.skill_id is 'Skill to run; deleted with it.';
comment on column public.habits.name is 'Shown to members.';
comment on column public.habits.cron is 'Five-field cron expression or @name; a bad one cannot be stored.';
comment on column public.habits.timezone is 'IANA zone in which the expression is read.';
comment on column public.habits.input is 'Input of every execution, an object.';
comment on column public.habits.enabled is 'Whether it runs by its schedule. An enabled habit starts with its next slot; missed slots do not run.';
comment on column public.habits.starts_at is 'No slot before it runs; null for no such time.';
comment on column public.habits.ends_at is 'No slot after it runs; null for no such time.';
comment on column public.habits.jitter_seconds is 'A slot starts up to so many seconds late, by an amount that follows from the habit and the slot. scheduled_for is still the slot.';
comment on column public.habits.overlap is 'What becomes of a slot while the execution of an earlier slot is queued or running. skip: it is skipped. queue: it waits for it; one slot waits, further ones are skipped. cancel: the earlier execution is cancelled.';
comment on column public.habits.catch_up is 'What runs after downtime. none: no slot that is more than five minutes late. latest: the latest missed slot. all: the latest 24 missed slots, in order; needs overlap queue.';
comment on column public.habits.pause_after_failures is 'After so many executions of slots that failed in a row the habit is disabled, and a mail says so; null for never.';
comment on column public.habits.enabled_at is 'When it was last enabled. Earlier failures do not count.';
comment on column public.habits.paused_at is 'When it was disabled after failures; null otherwise. To enable it clears this.';
comment on column public.habits.paused_reason is 'Why it was paused; null otherwise.';
comment on column public.habits.next_run_at is 'Next slot; null while disabled, when no slot is left before ends_at, or when last_error says why there is none.';
comment on column public.habits.last_run_at is 'Slot handled last, also when it was skipped.';
comment on column public.habits.last_error is 'Why the habit cannot run: the reason of its last slot, if that could not be queued; null otherwise, and when a slot was skipped for its policies.';
comment on column public.habits.created_by is 'User who made it; null after that user is deleted.';
comment on column public.habits.created_by_key is 'API key that made it; null when a user did.';
comment on column public.habits.created_at is 'When it was made.';
comment on column public.habits.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table(
  'public.habits', resource => 'habits', gauge => 'habits',
  writable => array[
    'skill_id', 'name', 'cron', 'timezone', 'input', 'enabled', 'starts_at', 'ends_at', 'jitter_seconds', 'overlap', 'catch_up',
    'pause_after_failures'
  ],
  catalogue => '{
    "skill_id, input": "what the habit runs",
    "name": "what members find the habit by",
    "cron, timezone, enabled, starts_at, ends_at, jitter_seconds, overlap, catch_up": "when it runs",
    "pause_after_failures, enabled_at, paused_at, paused_reason": "stops a habit that only fails, and shows members why",
    "next_run_at, last_run_at, last_error": "schedules the habit and shows members how it went"
  }'
);

-- The column is older than this table, so its foreign key is here. It is checked at the end of the transaction: when a
-- transaction deletes a project and has made executions of its habits, they lose their project first, and the habit is gone
-- before they lose it.
alter table public.executions
  -- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
  add constraint executions_habit_id_fkey foreign key (org_id, habit_id)
  references public.habits (org_id, id) on delete set null (habit_id) deferrable initially deferred;

create function private.habits_next_slot(habit public.habits, after timestamptz) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select n.slot
  -- The first slot may be starts_at itself; greatest() ignores null.
  from kijko.cron_next(habit.cron, habit.timezone, greatest(habits_next_slot.after, habit.starts_at - interval '1 microsecond')) as n (slot)
  where habit.ends_at is null or n.slot <= habit.ends_at
$$;
comment on function private.habits_next_slot(public.habits, timestamptz) is 'The first slot of a habit strictly after a time, within its start and end dates; null if there is none.';

create function private.habits_schedule() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  next_slot timestamptz;
begin
  if tg_op = 'UPDATE' then
    -- Saved without a change of the schedule: a slot that is due and has not run yet must not be lost.
    if (new.cron, new.timezone, new.enabled, new.starts_at, new.ends_at)
      is not distinct from (old.cron, old.timezone, old.enabled, old.starts_at, old.ends_at)
    then
      return new;
    end if;
    if new.enabled and not old.enabled then
      new.enabled_at := kijko.now();
      new.paused_at := null;
      new.paused_reason := null;
    end if;
  end if;
  -- Also for a disabled habit: this checks the zone and the expression.
  next_slot := private.habits_next_slot(new, kijko.now());
  new.next_run_at := case when new.enabled then next_slot end;
  new.last_error := null;
  return new;
end
$$;
comment on function private.habits_schedule() is 'Trigger: sets next_run_at from the schedule, refuses a schedule without slots, and ends a pause when the habit is enabled. Definer: the role that writes a habit may not call habits_next_slot().';
create trigger habits_schedule before insert or update of cron, timezone, enabled, starts_at, ends_at on public.habits
  for each row execute function private.habits_schedule();
