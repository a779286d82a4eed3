-- ============================================================================
-- Executions: statistics, read from the rollups and from the deltas that are not folded yet.
-- ============================================================================

create type public.execution_summary as (
  runs bigint,
  succeeded bigint,
  failed bigint,
  cancelled bigint,
  skipped bigint,
  success_rate numeric,
  p50_ms numeric,
  p95_ms numeric,
  cost_microusd bigint,
  input_tokens bigint,
  output_tokens bigint,
  last_run_at timestamptz
);
comment on type public.execution_summary is 'Statistics of executions that have ended. runs is succeeded + failed + cancelled; success_rate is succeeded of succeeded + failed, from 0 to 1; p50_ms and p95_ms are of runs that succeeded or failed, from their start to their end. Null when there is nothing to tell: success_rate, p50_ms, p95_ms, last_run_at.';

create function private.executions_ranges(starts timestamptz, ends timestamptz)
returns table (width_minutes smallint, range_start timestamptz, range_end timestamptz)
language sql immutable parallel safe
begin atomic
  -- The first and the last multiple of each width. Where a wider interval fits, a width covers only what is left and right of it.
  select r.*
  from (
    select
      starts as first15, ends as last15,
      date_bin('1 hour', starts - interval '1 us', o.origin) + interval '1 hour' as first60, date_bin('1 hour', ends, o.origin) as last60,
      date_bin('3 hours', starts - interval '1 us', o.origin) + interval '3 hours' as first180, date_bin('3 hours', ends, o.origin) as last180,
      date_bin('6 hours', starts - interval '1 us', o.origin) + interval '6 hours' as first360, date_bin('6 hours', ends, o.origin) as last360,
      date_bin('24 hours', starts - interval '1 us', o.origin) + interval '24 hours' as first1440, date_bin('24 hours', ends, o.origin) as last1440,
      date_bin('96 hours', starts - interval '1 us', o.origin) + interval '96 hours' as first5760, date_bin('96 hours', ends, o.origin) as last5760
    from (values (timestamptz '2000-01-01 00:00+00')) as o (origin)
    -- Otherwise each use of a multiple would compute it anew.
    offset 0
  ) as b
  cross join lateral (
    values
      (5760::smallint, b.first5760, b.last5760),
      (1440, b.first1440, case when b.first5760 <= b.last5760 then b.first5760 else b.last1440 end),
      (1440, b.last5760, case when b.first5760 <= b.last5760 then b.last1440 end),
      (360, b.first360, case when b.first1440 <= b.last1440 then b.first1440 else b.last360 end),
      (360, b.last1440, case when b.first1440 <= b.last1440 then b.last360 end),
      (180, b.first180, case when b.first360 <= b.last360 then b.first360 else b.last180 end),
      (180, b.last360, case when b.first360 <= b.last360 then b.last180 end),
      (60, b.first60, case when b.first180 <= b.last180 then b.first180 else b.last60 end),
      (60, b.last180, case when b.first180 <= b.last180 then b.last60 end),
      (15, b.first15, case when b.first60 <= b.last60 then b.first60 else b.last15 end),
      (15, b.last60, case when b.first60 <= b.last60 then b.last15 end)
  ) as r (width_minutes, range_start, range_end)
  where r.range_start < r.range_end;
end;
comment on function private.executions_ranges(timestamptz, timestamptz) is 'Ranges of intervals that together cover a period that begins and ends on a quarter of an hour, each moment once, in as few intervals as there are. An infinite end is one of the widest.';

create function private.executions_summarize(
  org uuid,
  starts timestamptz[],
  ends timestamptz[],
  by text default null,
  skill uuid default null,
  habit uuid default null,
  reflex uuid default null,
  project uuid default null
)
returns table (place bigint, value text, summary public.execution_summary)
language plpgsql stable set search_path = pg_catalog, pg_temp
-- The filters that are null disappear from the plan only when it is made for the values of the call. The other settings keep
-- one plan however the statistics of the tables are: the ranges of intervals in turn, for each a range of an index, summed up by
-- hash. Memoize would copy each row, and a sort too.
set plan_cache_mode = force_custom_plan set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
set enable_memoize = off set enable_sort = off set jit = off
as $$
#variable_conflict use_column
declare
  hidden constant uuid[] := array(select private.projects_hidden_ids());
  total constant boolean := coalesce(executions_summarize.by = 'project', true) and executions_summarize.skill is null
    and executions_summarize.habit is null and executions_summarize.reflex is null;
  manages constant boolean := coalesce(public.can(executions_summarize.org, 'projects:manage'), false);
begin
  return query
  with counted as (
    select p.place, c.*
    from unnest(executions_summarize.starts, executions_summarize.ends) with ordinality as p (period_start, period_end, place)
    cross join lateral private.executions_ranges(p.period_start, p.period_end) as r
    cross join lateral (
      select c.project_id, c.skill_id, c.habit_id, c.reflex_id, c.trigger, c.succeeded, c.failed, c.cancelled, c.skipped, c.durations,
        c.cost_microusd, c.input_tokens, c.output_tokens, c.last_run_at
      from private.execution_rollups as c
      where c.org = executions_summarize.org and c.is_total = total and c.width_minutes = r.width_minutes and c.starts_at >= r.range_start and c.starts_at < r.range_end
        and (executions_summarize.skill is null or c.skill_id = executions_summarize.skill)
        and (executions_summarize.habit is null or c.habit_id = executions_summarize.habit)
        and (executions_summarize.reflex is null or c.reflex_id = executions_summarize.reflex)
        and (executions_summarize.project is null or c.project_id = executions_summarize.project)
        -- As the policy of executions.
        and (c.project_id = any (hidden)) is not true and (not c.managers_only or manages)
      -- Keeps the planner from reading the rollups before the ranges.
      offset 0
    ) as c
    union all
    select p.place, d.project_id, d.skill_id, d.habit_id, d.reflex_id, d.trigger, d.succeeded, d.failed, d.cancelled, d.skipped, d.durations,
      d.cost_microusd, d.input_tokens, d.output_tokens, case d.skipped when 0 then d.finished_at end
    from private.execution_deltas as d
    cross join lateral (select width_bucket(d.finished_at, executions_summarize.starts)::bigint as place) as p
    where d.org = executions_summarize.org and d.finished_at < executions_summarize.ends[p.place]
      and (executions_summarize.skill is null or d.skill_id = executions_summarize.skill)
      and (executions_summarize.habit is null or d.habit_id = executions_summarize.habit)
      and (executions_summarize.reflex is null or d.reflex_id = executions_summarize.reflex)
      and (executions_summarize.project is null or d.project_id = executions_summarize.project)
      and (d.project_id = any (hidden)) is not true and (not d.managers_only or manages)
  ), summed as (
    select c.place,
      case executions_summarize.by
        when 'skill' then c.skill_id when 'habit' then c.habit_id when 'reflex' then c.reflex_id when 'project' then c.project_id
      end as id,
      case executions_summarize.by when 'trigger' then c.trigger end as trigger,
      kijko.array_sum(array[c.succeeded, c.failed, c.cancelled, c.skipped, c.cost_microusd, c.input_tokens, c.output_tokens]) as sums,
      kijko.array_sum(c.durations) as durations, max(c.last_run_at) as last_run_at
    from counted as c
    group by 1, 2, 3
  )
  select s.place, coalesce(s.id::text, s.trigger), row(
    n.succeeded + n.failed + n.cancelled, n.succeeded, n.failed, n.cancelled, n.skipped,
    round(n.succeeded::numeric / nullif(n.succeeded + n.failed, 0), 4),
    p50.ms, p95.ms,
    n.cost_microusd, n.input_tokens, n.output_tokens, s.last_run_at
  )::public.execution_summary
  from summed as s
  cross join lateral (
    select s.sums[1] as succeeded, s.sums[2] as failed, s.sums[3] as cancelled, s.sums[4] as skipped, s.sums[5] as cost_microusd,
      s.sums[6] as input_tokens, s.sums[7] as output_tokens
  ) as n
  cross join lateral private.executions_percentile(s.durations, 0.5) as p50
  cross join lateral private.executions_percentile(s.durations, 0.95) as p95;
end
$$;
comment on function private.executions_summarize(uuid, timestamptz[], timestamptz[], text, uuid, uuid, uuid, uuid) is 'Statistics of an organization''s executions that ended in each of these periods, also by skill, habit, reflex, project or trigger. The periods are in the order of time, begin and end on a quarter of an hour and do not overlap. Leaves out what the caller may not see because of private projects; the caller has checked executions:read. place is the number of the period. Nothing for a period without executions. Nullable: value.';

create function private.executions_empty_summary() returns public.execution_summary
language sql immutable parallel safe
return row(0, 0, 0, 0, 0, null, null, null, 0, 0, 0, null)::public.execution_summary;
comment on function private.executions_empty_summary() is 'The statistics of no execution.';

create function private.executions_summary(
  org uuid,
  skill uuid default null,
  habit uuid default null,
  reflex uuid default null,
  project uuid default null,
  since timestamptz default null,
  until timestamptz default null
) returns public.execution_summary
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (
      select s.summary
      from private.executions_summarize(
        executions_summary.org,
        array[coalesce(date_bin('15 minutes', executions_summary.since, '2000-01-01 00:00+00'), '-infinity')],
        array[coalesce(date_bin('15 minutes', executions_summary.until - interval '1 us', '2000-01-01 00:00+00') + interval '15 minutes', 'infinity')],
        null, executions_summary.skill, executions_summary.habit, executions_summary.reflex, executions_summary.project
      ) as s
    ),
    private.executions_empty_summary()
  )
$$;
comment on function private.executions_summary(uuid, uuid, uuid, uuid, uuid, timestamptz, timestamptz) is 'Statistics of an organization''s executions that ended, of one skill, habit, reflex or project when given. since and until are moved outwards to quarters of an hour; null is without an end. Leaves out what the caller may not see because of private projects; the caller has checked executions:read and that the row is visible.';

-- ----------------------------------------------------------------------------
-- execution_stats
-- ----------------------------------------------------------------------------

create function private.executions_periods(period text, timezone text, since timestamptz, until timestamptz)
returns table (period_start timestamptz, period_end timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  step constant interval := case period when 'day' then interval '1 day' when 'week' then interval '1 week' else interval '1 month' end;
begin
  if period is null then
    return query select
      date_bin('15 minutes', since, '2000-01-01 00:00+00'),
      date_bin('15 minutes', until - interval '1 us', '2000-01-01 00:00+00') + interval '15 minutes';
  elsif period = 'hour' then
    -- By absolute time: a local hour occurs twice when the clock is set back, and is shorter where it is set by half an hour.
    return query
    select min(q.moment), min(q.moment) + count(*) * interval '15 minutes'
    from generate_series(
      date_trunc('hour', since, timezone), until - interval '1 us' + interval '1 hour', interval '15 minutes'
    ) as q (moment)
    cross join lateral (select q.moment at time zone timezone) as l (local)
    where date_trunc('hour', q.moment, timezone) < until
    group by date_trunc('hour', l.local), q.moment - l.local at time zone 'UTC'
    order by 1;
  else
    return query
    select p.starts, p.ends
    from generate_series(
      date_trunc(period, since at time zone timezone), (until - interval '1 us') at time zone timezone, step
    ) as b (local)
    cross join lateral (select b.local at time zone timezone, (b.local + step) at time zone timezone) as p (starts, ends)
    where p.starts < p.ends;
  end if;
end
$$;
comment on function private.executions_periods(text, text, timestamptz, timestamptz) is 'The local hours, days, weeks (from Monday) or months of a zone that overlap the time from since to until. Without a period, that time itself, moved outwards to quarters of an hour.';

create function public.execution_stats(
  by text default null,
  period text default null,
  timezone text default 'UTC',
  since timestamptz default null,
  until timestamptz default null,
  skill_id uuid default null,
  habit_id uuid default null,
  reflex_id uuid default null,
  project_id uuid default null
)
returns table (
  period_start timestamptz, value text, runs bigint, succeeded bigint, failed bigint, cancelled bigint, skipped bigint,
  success_rate numeric, p50_ms numeric, p95_ms numeric, cost_microusd bigint, input_tokens bigint, output_tokens bigint,
  last_run_at timestamptz
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org constant uuid := private.tenancy_require_org_with('executions:read');
  last constant timestamptz := coalesce(execution_stats.until, kijko.now());
  first constant timestamptz := coalesce(execution_stats.since, last - case execution_stats.period
    when 'hour' then interval '7 days' when 'week' then interval '26 weeks' when 'month' then interval '365 days' else interval '30 days'
  end);
  longest constant interval := case execution_stats.period
    when 'hour' then interval '31 days' when 'day' then interval '366 days' else interval '3660 days'
  end;
  starts timestamptz[];
  ends timestamptz[];
begin
  if execution_stats.by not in ('skill', 'habit', 'reflex', 'project', 'trigger') then
    perform kijko.fail('invalid_input', 'by: one of skill, habit, reflex, project, trigger');
  end if;
  if execution_stats.period not in ('hour', 'day', 'week', 'month') then
    perform kijko.fail('invalid_input', 'period: one of hour, day, week, month');
  end if;
  if (first < last) is not true or first < '2000-01-01 00:00+00' or last > '2200-01-01 00:00+00' then
    perform kijko.fail('invalid_input', 'since: must be before until, and both in the years 2000 to 2199');
  end if;
  if last - first > longest then
    perform kijko.fail('invalid_input', 'since: at most 31 days of hours, 366 days of days, or 10 years of weeks and months');
  end if;
  -- Fails for a zone that the IANA data base does not have. PostgreSQL by itself accepts any word as a zone.
  if execution_stats.timezone is null then
    perform kijko.fail('invalid_timezone', 'timezone: must be given');
  end if;
  perform kijko.cron_next('@daily', execution_stats.timezone, kijko.now());
  select array_agg(p.period_start order by p.period_start), array_agg(p.period_end order by p.period_start) into starts, ends
  from private.executions_periods(execution_stats.period, execution_stats.timezone, first, last) as p;
  return query
  select
    starts[s.place], s.value, (s.summary).runs, (s.summary).succeeded, (s.summary).failed, (s.summary).cancelled, (s.summary).skipped,
    (s.summary).success_rate, (s.summary).p50_ms, (s.summary).p95_ms, (s.summary).cost_microusd, (s.summary).input_tokens,
    (s.summary).output_tokens, (s.summary).last_run_at
  from (
    select g.place, f.value, coalesce(f.summary, private.executions_empty_summary()) as summary
    from generate_subscripts(starts, 1) as g (place)
    left join private.executions_summarize(
      org, starts, ends, execution_stats.by, execution_stats.skill_id, execution_stats.habit_id, execution_stats.reflex_id, execution_stats.project_id
    ) as f on f.place = g.place
    -- A chart wants its empty periods. Without executions there are no groups to name.
    where f.place is not null or execution_stats.by is null
  ) as s
  order by s.place, s.value;
end
$$;
comment on function public.execution_stats(text, text, text, timestamptz, timestamptz, uuid, uuid, uuid, uuid) is 'Statistics of the executions of the request''s organization that ended: by skill, habit, reflex, project or trigger (value is its id, or the trigger), and by local hour, day, week (from Monday) or month of a zone, all that overlap the time from since to until. Without a period, one row for the whole time, moved outwards to quarters of an hour. Without since: 7 days of hours, 26 weeks, 365 days of months, otherwise 30 days. Needs executions:read, and leaves out what private projects hide from the caller. Nullable: value, success_rate, p50_ms, p95_ms, last_run_at. Definer: only the domain may read the rollups.';
grant execute on function public.execution_stats(text, text, text, timestamptz, timestamptz, uuid, uuid, uuid, uuid) to authenticated;
