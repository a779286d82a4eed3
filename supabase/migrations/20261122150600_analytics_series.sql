-- ============================================================================
-- Analytics: reading and answering series.
-- ============================================================================

create type private.analytics_series as (
  event text, measure text, property text, breakdown text, condition text, is_filtered boolean, range private.analytics_range
);
comment on type private.analytics_series is 'A query of analytics_series(), read and checked. condition is SQL about the event e.';

create function private.analytics_read_series(query jsonb) returns private.analytics_series
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  series private.analytics_series;
begin
  perform private.analytics_check_keys(query, '{event,measure,property,filters,breakdown,from,until,interval,time_zone}', 'query');
  series.event := private.analytics_read_event(query -> 'event');
  series.measure := coalesce(query ->> 'measure', 'count');
  series.property := private.analytics_read_property(query -> 'property', 'property');
  series.breakdown := private.analytics_read_property(query -> 'breakdown', 'breakdown');
  series.condition := private.analytics_condition(query -> 'filters');
  series.is_filtered := series.condition <> 'true';
  series.range := private.analytics_read_range(query, '{hour,day,week,month}', 1000);
  if not series.measure in ('count', 'persons', 'sum', 'average', 'min', 'max') then
    perform kijko.fail('invalid_input', 'measure: count, persons, sum, average, min or max');
  elsif (series.measure in ('count', 'persons')) <> (series.property is null) then
    perform kijko.fail('invalid_input', 'property: for sum, average, min and max, which need it');
  end if;
  return series;
end
$$;
comment on function private.analytics_read_series(jsonb) is 'Reads and checks a query of analytics_series().';

create function private.analytics_has_rollups(org uuid, series private.analytics_series) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select not series.is_filtered
    and (series.breakdown is null or series.property is null)
    and (series.range).starts_at = date_trunc('hour', (series.range).starts_at, 'UTC')
    and ((series.range).ends_at = date_trunc('hour', (series.range).ends_at, 'UTC') or (series.range).ends_at >= kijko.now())
    -- Buckets of such zones begin within our hours; of Lord Howe Island, in winter only.
    and not exists (
      select 1
      from (
        select g.at from generate_series((series.range).starts_at, (series.range).ends_at, interval '168 hours') as g (at)
        union all
        select (series.range).ends_at
      ) as t (at)
      where extract(minute from (t.at at time zone (series.range).zone) - (t.at at time zone 'UTC')) <> 0
    )
    and not exists (
      select 1 from (values (series.breakdown, 'dimension'), (series.property, 'measure')) as w (property, kind)
      where w.property is not null and not exists (
        select 1 from public.event_properties as p
        where p.org_id = org and p.event_name = series.event and p.property = w.property and p.kind = w.kind
      )
    )
    -- Until a new property is summed up for the past, its hours are counted from events. They wait until then.
    and (coalesce(series.breakdown, series.property) is null or not exists (
      select 1
      from (
        select distinct c.hour from private.analytics_changes as c
        where c.organization = org and c.name = series.event and c.hour >= (series.range).starts_at and c.hour < (series.range).ends_at
      ) as w
      join private.analytics_rollups as r
        on r.organization = org and r.name = series.event and r.property = '' and r.hour = w.hour and r.value = ''
      where not exists (
        select 1 from private.analytics_rollups as p
        where p.organization = org and p.name = series.event and p.property = coalesce(series.breakdown, series.property) and p.hour = w.hour
      )
    ))
$$;
comment on function private.analytics_has_rollups(uuid, private.analytics_series) is 'Whether rollups have what a series asks for.';

-- Both forms have the columns at, value, events and result. $1 are the values that are told apart, if values is top. For all of them
-- there is no result: it would take a sketch for each value and hour, only to see which values are the most frequent.
create function private.analytics_series_sql(org uuid, series private.analytics_series, from_rollups boolean, "values" text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when from_rollups then format(
      $f$select date_trunc(%L, r.hour, %L) as at, %s as value, sum(r.events) as events, %s as result from private.analytics_rollups as r
      where r.organization = %L and r.name = %L and r.property = %L and r.hour >= %L and r.hour < %L$f$,
      (series.range).step, (series.range).zone,
      case "values" when 'none' then '''''' when 'all' then 'r.value' else 'case when r.value = any ($1) then r.value else ''(other)'' end' end,
      case when "values" = 'all' then 'null::double precision' else case series.measure
        when 'count' then 'sum(r.events)::double precision'
        when 'persons' then 'kijko.hll_cardinality(kijko.hll_union_agg(r.persons))::double precision'
        when 'sum' then 'sum(r.total)' when 'average' then 'sum(r.total) / nullif(sum(r.numbers), 0)'
        when 'min' then 'min(r.minimum)' else 'max(r.maximum)'
      end end,
      org, series.event, coalesce(series.breakdown, series.property, ''), (series.range).starts_at, (series.range).ends_at
    )
    else format(
      $f$select date_trunc(%L, e."timestamp", %L) as at, %s as value, count(*) as events, %s as result from %s e.name = %L and %s$f$,
      (series.range).step, (series.range).zone,
      case "values"
        when 'none' then ''''''
        when 'all' then format('left(coalesce(e.properties ->> %L, ''''), 200)', series.breakdown)
        else format(
          'case when left(coalesce(e.properties ->> %1$L, ''''), 200) = any ($1) then left(coalesce(e.properties ->> %1$L, ''''), 200) else ''(other)'' end',
          series.breakdown
        )
      end,
      case when "values" = 'all' then 'null::double precision' else case series.measure
        when 'count' then 'count(*)::double precision'
        when 'persons' then 'count(distinct coalesce(m.into_person_id, e.person_id))::double precision'
        else format(
          '%s(%s)', case series.measure when 'average' then 'avg' else series.measure end, private.analytics_number_sql(series.property)
        )
      end end,
      private.analytics_source(org, series.range), series.event, series.condition
    )
  end
$$;
comment on function private.analytics_series_sql(uuid, private.analytics_series, boolean, text) is 'The SQL of a series without its grouping. values says which values of the breakdown are told apart: none, all or top.';

create function private.analytics_answer_series(org uuid, series private.analytics_series) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
-- Compiling a query over many partitions takes longer than running it.
set jit = off
as $$
declare
  from_rollups constant boolean := private.analytics_has_rollups(org, series);
  empty constant jsonb := case when series.measure in ('count', 'persons', 'sum') then '0' else 'null' end::jsonb;
  top text[];
  rows jsonb;
begin
  if series.breakdown is not null then
    execute format(
      'select array_agg(t.value) from (select s.value from (%s group by 1, 2) as s group by s.value order by sum(s.events) desc, s.value limit 20) as t',
      private.analytics_series_sql(org, series, from_rollups, 'all')
    ) into top;
  end if;
  -- A row without a time is the whole.
  execute format(
    'select jsonb_agg(jsonb_build_object(''at'', s.at, ''value'', s.value, ''events'', s.events, ''result'', s.result)) from (%s group by grouping sets ((1, 2), (2))) as s',
    private.analytics_series_sql(org, series, from_rollups, case when series.breakdown is null then 'none' else 'top' end)
  ) into rows using top;
  return jsonb_build_object(
    'source', case when from_rollups then 'rollups' else 'events' end,
    'series', coalesce((
      select jsonb_agg(
        jsonb_build_object('value', case when series.breakdown is not null then w.value end, 'total', coalesce(w.result, empty), 'points', (
          select jsonb_agg(jsonb_build_object('at', b.starts_at, 'value', coalesce(p.result, empty)) order by b.number)
          from private.analytics_buckets(series.range) as b
          left join jsonb_to_recordset(rows) as p (at timestamptz, value text, result jsonb) on p.at = b.starts_at and p.value = w.value
        ))
        order by w.value = '(other)', w.events desc, w.value
      )
      from (
        select r.value, r.events, r.result from jsonb_to_recordset(rows) as r (at timestamptz, value text, events numeric, result jsonb) where r.at is null
        union all
        select '', 0, null where rows is null and series.breakdown is null
      ) as w
    ), '[]')
  );
end
$$;
comment on function private.analytics_answer_series(uuid, private.analytics_series) is 'Answers a series. The 20 most frequent values of a breakdown are told apart.';
