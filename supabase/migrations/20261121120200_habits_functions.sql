-- ============================================================================
-- Habits: the functions that clients call.
-- ============================================================================

create function private.habits_require(habit_id uuid) returns public.habits
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  habit public.habits;
begin
  perform private.tenancy_require_caller();
  select h.* into habit from public.habits as h
  where h.id = habits_require.habit_id and h.org_id = any (array(select private.org_ids_with('habits:read')))
    and private.skills_is_visible(h.skill_id);
  if habit.id is null then
    perform kijko.fail('not_found', 'no such habit');
  end if;
  return habit;
end
$$;
comment on function private.habits_require(uuid) is 'The habit, if the caller may read it; fails otherwise. Called by definer functions only.';

create function public.run_habit(habit_id uuid) returns public.executions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  habit constant public.habits := private.habits_require(run_habit.habit_id);
  skill public.skills;
begin
  skill := private.executions_require_skill(habit.skill_id);
  perform private.skills_require_runnable(skill);
  return private.executions_queue(
    skill, habit.input, 'manual', habit_id => habit.id, hold_id => private.executions_reserve(skill.org_id)
  );
end
$$;
comment on function public.run_habit(uuid) is 'Runs a habit now, in addition to its schedule and also while it is disabled or paused; reserved like any execution. Definer: users only read executions.';
grant execute on function public.run_habit(uuid) to authenticated;

create function public.preview_cron(expression text, timezone text default 'UTC', n integer default 5) returns setof timestamptz
language plpgsql stable set search_path = ''
as $$
begin
  if n is null or n < 1 or n > 100 then
    perform kijko.fail('invalid_input', 'n: 1 to 100');
  end if;
  if expression is null or char_length(expression) > 255 then
    perform kijko.fail('invalid_cron', 'expression: 1 to 255 characters');
  end if;
  if timezone is null then
    perform kijko.fail('invalid_timezone', 'timezone: must be given');
  end if;
  return query select u.slot from kijko.cron_upcoming(expression, timezone, kijko.now(), n) as u (slot);
end
$$;
comment on function public.preview_cron(text, text, integer) is 'The next n slots of a cron expression in a zone, or why it is refused.';
grant execute on function public.preview_cron(text, text, integer) to authenticated;

create function public.preview_habit(habit_id uuid, n integer default 5)
returns table (slot timestamptz, local_time text, run_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  habit constant public.habits := private.habits_require(preview_habit.habit_id);
  after timestamptz := greatest(kijko.now(), habit.starts_at - interval '1 microsecond');
begin
  if n is null or n < 1 or n > 100 then
    perform kijko.fail('invalid_input', 'n: 1 to 100');
  end if;
  return query
  select u.slot, private.habits_local_time(u.slot, habit.timezone), private.habits_start_time(habit, u.slot)
  from kijko.cron_upcoming(habit.cron, habit.timezone, after, preview_habit.n) as u (slot)
  where habit.ends_at is null or u.slot <= habit.ends_at;
end
$$;
comment on function public.preview_habit(uuid, integer) is 'The next n slots of a habit within its start and end dates, with the time on the clock of its zone, and when each starts after jitter. Of a disabled habit those that it would have. Nullable: local_time. Definer: reads one habit that the caller may read.';
grant execute on function public.preview_habit(uuid, integer) to authenticated;

create function private.habits_local_time(moment timestamptz, timezone text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return to_char(moment at time zone timezone, 'YYYY-MM-DD"T"HH24:MI:SS');
exception when invalid_parameter_value then
  -- The zones of the server may be older than those of the extension.
  return null;
end
$$;
comment on function private.habits_local_time(timestamptz, text) is 'The time on the clock of a zone, as 2026-01-31T09:00:00; null if the server does not know the zone. Nullable: result.';

create function public.habit_stats(habit_id uuid, since timestamptz default null, until timestamptz default null) returns public.execution_summary
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  habit constant public.habits := private.habits_require(habit_stats.habit_id);
begin
  if not public.can(habit.org_id, 'executions:read') then
    perform kijko.fail('permission_denied', 'requires the permission executions:read');
  end if;
  return private.executions_summary(habit.org_id, habit => habit.id, since => habit_stats.since, until => habit_stats.until);
end
$$;
comment on function public.habit_stats(uuid, timestamptz, timestamptz) is 'Statistics of a habit''s executions that ended from since until until, moved outwards to quarters of an hour; null is without an end. Needs executions:read. Definer: only the domain may read the rollups.';
grant execute on function public.habit_stats(uuid, timestamptz, timestamptz) to authenticated;

create function public.project_stats(project_id uuid, since timestamptz default null, until timestamptz default null) returns public.execution_summary
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
begin
  perform private.tenancy_require_caller();
  select p.org_id into org from public.projects as p
  where p.id = project_stats.project_id and p.org_id = any (array(select private.org_ids_with('projects:read')))
    and private.projects_is_visible(p.id);
  if org is null then
    perform kijko.fail('not_found', 'no such project');
  end if;
  if not public.can(org, 'executions:read') then
    perform kijko.fail('permission_denied', 'requires the permission executions:read');
  end if;
  return private.executions_summary(org, project => project_stats.project_id, since => project_stats.since, until => project_stats.until);
end
$$;
comment on function public.project_stats(uuid, timestamptz, timestamptz) is 'Statistics of the executions of a project''s skills that ended from since until until, moved outwards to quarters of an hour; null is without an end. Needs executions:read. Definer: only the domain may read the rollups.';
grant execute on function public.project_stats(uuid, timestamptz, timestamptz) to authenticated;
