-- ============================================================================
-- Analytics: funnels and retention, from events; and the functions that answer queries.
-- ============================================================================

create function private.analytics_read_step(step jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.analytics_check_keys(step, '{event,filters}', 'steps');
  return format('e.name = %L and %s', private.analytics_read_event(step -> 'event'), private.analytics_condition(step -> 'filters'));
end
$$;
comment on function private.analytics_read_step(jsonb) is 'The condition of {event, filters} in SQL, about the event e.';

create function private.analytics_funnel_sql(org uuid, query jsonb, range private.analytics_range) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  steps constant jsonb := query -> 'steps';
  length integer;
  breakdown constant text := private.analytics_read_property(query -> 'breakdown', 'breakdown');
  matched text;
  names text[];
begin
  if jsonb_typeof(steps) is distinct from 'array' or jsonb_array_length(steps) not between 1 and 20 then
    perform kijko.fail('invalid_input', 'steps: 1 to 20 of {event, filters}');
  elsif coalesce(jsonb_typeof(query -> 'window_seconds'), 'number') <> 'number' or coalesce((query ->> 'window_seconds')::numeric, 1) not between 1 and 31622400 then
    perform kijko.fail('invalid_input', 'window_seconds: 1 to 31,622,400');
  elsif coalesce(jsonb_typeof(query -> 'strict_increase'), 'boolean') <> 'boolean' then
    perform kijko.fail('invalid_input', 'strict_increase: true or false');
  end if;
  length := jsonb_array_length(steps);
  select string_agg(format('case when %s then %s else 0 end', private.analytics_read_step(s.step), 1 << (s.number - 1)::integer), ' | '), array_agg(s.step ->> 'event')
  into matched, names
  from jsonb_array_elements(steps) with ordinality as s (step, number);
  -- Of two events at one moment that of the earlier step is the first. The order comes from the subquery: PostgreSQL 15 sorts each
  -- person apart for an order in the aggregate, which takes twice as long.
  return format(
    $f$select d.value, d.depth, count(*) as persons from (
      select s.person, %1$s as value,
        kijko.funnel_depth(s.at, s.matched, %2$s, %3$s, %4$s) as depth
      from (
        select n.* from (
          select coalesce(m.into_person_id, e.person_id) as person, e."timestamp" as at, %5$s as matched %6$s
          from %7$s e.name = any (%8$L::text[])
        ) as n
        where n.matched <> 0 order by n.person, n.at, n.matched & -n.matched
      ) as s
      group by s.person
    ) as d where d.depth > 0 group by d.value, d.depth$f$,
    case when breakdown is null then '''''' else '(array_agg(s.value) filter (where s.matched & 1 = 1))[1]' end,
    length, coalesce((query ->> 'window_seconds')::numeric * 1000000, 86400000000)::bigint, coalesce(query ->> 'strict_increase', 'false'),
    matched, case when breakdown is not null then format(', left(coalesce(e.properties ->> %L, ''''), 200) as value', breakdown) else '' end,
    private.analytics_source(org, range), names
  );
end
$$;
comment on function private.analytics_funnel_sql(uuid, jsonb, private.analytics_range) is 'The SQL of a funnel: persons by depth and by the value of their first event.';

create function private.analytics_answer_funnel(org uuid, query jsonb, range private.analytics_range) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
-- Compiling a query over many partitions takes longer than running it.
set jit = off
as $$
declare
  found jsonb;
begin
  execute format(
    'select jsonb_agg(jsonb_build_object(''value'', f.value, ''depth'', f.depth, ''persons'', f.persons)) from (%s) as f',
    private.analytics_funnel_sql(org, query, range)
  ) into found;
  return jsonb_build_object('source', 'events', 'funnels', coalesce((
    select jsonb_agg(
      jsonb_build_object('value', case when query -> 'breakdown' is not null then v.value end, 'steps', (
        select jsonb_agg(
          jsonb_build_object(
            'event', t.event, 'persons', t.persons,
            'of_first', round(t.persons / nullif(t.entered, 0), 4), 'of_previous', round(t.persons / nullif(t.previous, 0), 4)
          )
          order by t.number
        )
        from (
          select s.number, s.step ->> 'event' as event, c.persons, first_value(c.persons) over steps as entered, coalesce(lag(c.persons) over steps, c.persons) as previous
          from jsonb_array_elements(query -> 'steps') with ordinality as s (step, number)
          cross join lateral (
            select coalesce(sum(f.persons), 0) as persons
            from jsonb_to_recordset(found) as f (value text, depth integer, persons numeric)
            where f.value = v.value and f.depth >= s.number
          ) as c
          window steps as (order by s.number)
        ) as t
      ))
      order by v.persons desc, v.value
    )
    from (
      select f.value, sum(f.persons) as persons from jsonb_to_recordset(found) as f (value text, depth integer, persons numeric)
      group by f.value order by 2 desc, 1 limit 20
    ) as v
  ), '[]'));
end
$$;
comment on function private.analytics_answer_funnel(uuid, jsonb, private.analytics_range) is 'Answers a funnel; of a breakdown the 20 values by which most persons entered.';

-- One row for each person and interval is counted. $1 is the range.
create function private.analytics_retention_sql(org uuid, query jsonb, range private.analytics_range) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(jsonb_typeof(query -> 'first_time'), 'boolean') <> 'boolean' then
    perform kijko.fail('invalid_input', 'first_time: true or false');
  end if;
  return format(
    $f$with bucket as materialized (select b.number, b.starts_at from private.analytics_buckets($1) as b),
    done as materialized (
      select coalesce(m.into_person_id, e.person_id) as person, date_trunc(%1$L, e."timestamp", %2$L) as starts_at,
        bool_or(%3$s) as started, bool_or(%4$s) as returned
      from %5$s (%3$s or %4$s)
      group by 1, 2
    ), numbered as materialized (
      select d.person, b.number, d.started, d.returned from done as d join bucket as b on b.starts_at = d.starts_at
    ), cohort as (
      select n.person, %6$s as number from numbered as n where n.started group by n.person%7$s
    ), counted as (
      select c.number, r.number - c.number as later, count(*) as persons
      from cohort as c join numbered as r on r.person = c.person and r.returned and r.number >= c.number
      group by 1, 2
    )
    select jsonb_agg(jsonb_build_object(
      'at', b.starts_at,
      'persons', (select count(*) from cohort as c where c.number = b.number),
      'returned', (
        select jsonb_agg(coalesce(k.persons, 0) order by l.later)
        from generate_series(0, (select max(number) from bucket) - b.number) as l (later)
        left join counted as k on k.number = b.number and k.later = l.later
      )
    ) order by b.number)
    from bucket as b$f$,
    range.step, range.zone, private.analytics_read_step(query -> 'start'),
    private.analytics_read_step(coalesce(query -> 'return', query -> 'start')), private.analytics_source(org, range),
    case when (query ->> 'first_time')::boolean then 'min(n.number)' else 'n.number' end,
    case when (query ->> 'first_time')::boolean then '' else ', n.number' end
  );
end
$$;
comment on function private.analytics_retention_sql(uuid, jsonb, private.analytics_range) is 'The SQL of retention: its cohorts as one value.';

create function private.analytics_answer_retention(org uuid, query jsonb, range private.analytics_range) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
-- Compiling a query over many partitions takes longer than running it.
set jit = off
as $$
declare
  cohorts jsonb;
begin
  execute private.analytics_retention_sql(org, query, range) into cohorts using range;
  return jsonb_build_object('source', 'events', 'cohorts', coalesce(cohorts, '[]'));
end
$$;
comment on function private.analytics_answer_retention(uuid, jsonb, private.analytics_range) is 'Answers retention.';

-- ----------------------------------------------------------------------------
-- Queries
-- ----------------------------------------------------------------------------

create function private.analytics_answer(kind text, query jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('analytics:read');
  keyed constant jsonb := jsonb_build_object(kind, query);
  -- Before the answer is made: what is summed up meanwhile makes it an old one.
  revision constant bigint := private.analytics_revision(org);
  series private.analytics_series;
  range private.analytics_range;
  answer jsonb;
begin
  case kind
    when 'series' then
      series := private.analytics_read_series(query);
      range := series.range;
    when 'funnel' then
      perform private.analytics_check_keys(query, '{steps,window_seconds,strict_increase,breakdown,from,until}', 'query');
      range := private.analytics_read_range(query, '{day}', 800);
    when 'retention' then
      perform private.analytics_check_keys(query, '{start,return,first_time,from,until,interval,time_zone}', 'query');
      range := private.analytics_read_range(query, '{day,week,month}', 60);
  end case;
  answer := private.analytics_cached(org, keyed);
  if answer is not null then
    return answer;
  end if;
  answer := case kind
    when 'series' then private.analytics_answer_series(org, series)
    when 'funnel' then private.analytics_answer_funnel(org, query, range)
    when 'retention' then private.analytics_answer_retention(org, query, range)
  end;
  return private.analytics_remember(org, keyed, revision, range.ends_at, answer);
end
$$;
comment on function private.analytics_answer(text, jsonb) is 'Answers a query of the request''s organization, from the cache if the answer there is still true: a series, a funnel or retention.';

create function public.analytics_series(query jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.analytics_answer('series', query);
end
$$;
comment on function public.analytics_series(jsonb) is 'Counts events of one name over time: {event, measure = count (persons, sum, average, min, max), property, filters, breakdown, from, until = now, interval = day (hour, week, month), time_zone = UTC}. Returns {series: [{value, total, points: [{at, value}]}], source, cached}: source is rollups, which are a minute behind and count persons to about 2 per cent, or events, which are exact. Requires analytics:read. Definer: rollups are private.';
grant execute on function public.analytics_series(jsonb) to authenticated;

create function public.analytics_funnel(query jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.analytics_answer('funnel', query);
end
$$;
comment on function public.analytics_funnel(jsonb) is 'Counts the persons who did the steps of a funnel in order: {steps: [{event, filters}], window_seconds = a day, strict_increase = false, breakdown, from, until = now}. All steps happen between from and until, and within window_seconds of the first. Returns {funnels: [{value, steps: [{event, persons, of_first, of_previous}]}], source, cached}. Requires analytics:read. Definer: merges of persons are private.';
grant execute on function public.analytics_funnel(jsonb) to authenticated;

create function public.analytics_retention(query jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.analytics_answer('retention', query);
end
$$;
comment on function public.analytics_retention(jsonb) is 'Counts who came back: {start: {event, filters}, return = start, first_time = false, from, until = now, interval = day (week, month), time_zone = UTC}, at most 60 intervals. A cohort is the persons who did start in an interval; with first_time only those who had not done it in an earlier one. Returns {cohorts: [{at, persons, returned: [in the same interval, in the next, …]}], source, cached}. Requires analytics:read. Definer: merges of persons are private.';
grant execute on function public.analytics_retention(jsonb) to authenticated;
