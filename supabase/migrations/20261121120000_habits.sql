-- ============================================================================
-- Habits: skills on a schedule.
--
-- pg_cron calls private.habits_tick() every minute. Each due slot becomes exactly one
-- execution, however many ticks run at once: they take turns, the habit's row is locked,
-- and a slot is unique in executions. After downtime only the latest missed slot runs.
-- Slots are skipped while the execution of an earlier slot is queued.
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
  input jsonb not null default '{}' check (jsonb_typeof(input) = 'object' and octet_length(input::text) <= 262144),
  enabled boolean not null default true,
  next_run_at timestamptz,
  last_run_at timestamptz,
  last_error text check (char_length(last_error) <= 10000),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  foreign key (org_id, skill_id) references public.skills (org_id, id) on delete cascade
);
create index habits_due_idx on public.habits (next_run_at, id) where enabled;
create index habits_skill_id_idx on public.habits (org_id, skill_id);

comment on table public.habits is 'Skills on a schedule. Users write the schedule and the input; the database keeps next_run_at.';
comment on column public.habits.id is 'Identity of the habit.';
comment on column public.habits.org_id is 'Organization that owns it and pays for its executions; never changes.';
comment on column public.habits.skill_id is 'Skill to run; deleted with it.';
comment on column public.habits.name is 'Shown to members.';
comment on column public.habits.cron is 'Five-field cron expression or @name; a bad one cannot be stored.';
comment on column public.habits.timezone is 'IANA zone in which the expression is read.';
comment on column public.habits.input is 'Input of every execution, an object.';
comment on column public.habits.enabled is 'Whether it runs. An enabled habit starts with its next slot; missed slots do not run.';
comment on column public.habits.next_run_at is 'Next slot; null while disabled, or when last_error says why there is none.';
comment on column public.habits.last_run_at is 'Slot handled last, also when it was skipped.';
comment on column public.habits.last_error is 'Why the last slot could not be handled; null when it was.';
comment on column public.habits.created_by is 'User who made it; null after that user is deleted.';
comment on column public.habits.created_by_key is 'API key that made it; null when a user did.';
comment on column public.habits.created_at is 'When it was made.';
comment on column public.habits.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table(
  'public.habits', resource => 'habits', gauge => 'habits',
  writable => array['skill_id', 'name', 'cron', 'timezone', 'input', 'enabled'],
  catalogue => '{
    "skill_id, input": "what the habit runs",
    "name": "what members find the habit by",
    "cron, timezone, enabled": "when it runs",
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

create function private.habits_schedule() returns trigger
language plpgsql set search_path = ''
as $$
declare
  next_slot timestamptz;
begin
  -- Saved without a change of the schedule: a slot that is due and has not run yet must not be lost.
  if tg_op = 'UPDATE'
    and new.cron = old.cron and new.timezone = old.timezone and new.enabled = old.enabled
  then
    return new;
  end if;
  -- Also for a disabled habit: this checks the zone and the expression.
  next_slot := kijko.cron_next(new.cron, new.timezone, kijko.now());
  new.next_run_at := case when new.enabled then next_slot end;
  new.last_error := null;
  return new;
end
$$;
comment on function private.habits_schedule() is 'Trigger: sets next_run_at from the schedule, and refuses a schedule without slots.';
create trigger habits_schedule before insert or update of cron, timezone, enabled on public.habits
  for each row execute function private.habits_schedule();
