-- ============================================================================
-- Executions: statistics of one skill.
-- ============================================================================

create function public.skill_stats(skill_id uuid, since timestamptz default null, until timestamptz default null) returns public.execution_summary
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  skill constant public.skills := private.skills_require(skill_stats.skill_id, 'executions:read');
begin
  return private.executions_summary(skill.org_id, skill => skill.id, since => skill_stats.since, until => skill_stats.until);
end
$$;
comment on function public.skill_stats(uuid, timestamptz, timestamptz) is 'Statistics of the executions of a skill that ended from since until until, moved outwards to quarters of an hour; null is without an end. Needs executions:read. Definer: only the domain may read the rollups.';
grant execute on function public.skill_stats(uuid, timestamptz, timestamptz) to authenticated;
