-- ============================================================================
-- Habits: the functions that clients call.
-- ============================================================================

create function public.run_habit(habit_id uuid) returns public.executions
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  habit public.habits;
  skill public.skills;
begin
  perform private.tenancy_require_caller();
  select h.* into habit from public.habits as h
  where h.id = run_habit.habit_id and h.org_id = any (array(select private.org_ids_with('habits:read')))
    and private.skills_is_visible(h.skill_id);
  if habit.id is null then
    perform kijko.fail('not_found', 'no such habit');
  end if;
  skill := private.executions_require_skill(habit.skill_id);
  perform private.skills_require_runnable(skill);
  return private.executions_queue(
    skill, habit.input, 'manual', habit_id => habit.id, hold_id => private.executions_reserve(skill.org_id)
  );
end
$$;
comment on function public.run_habit(uuid) is 'Runs a habit now, in addition to its schedule; reserved like any execution. Definer: users only read executions.';
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
