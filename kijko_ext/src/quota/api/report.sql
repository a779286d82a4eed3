create function kijko.usage_by(
    subject uuid, dimension text, only_meter text default null, since date default null, until date default null
)
    returns table (meter text, value text, used bigint, overage bigint, entries bigint)
    language plpgsql stable parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    zone constant text := coalesce((select c.time_zone from kijko.calendars as c where c.subject = usage_by.subject), 'UTC');
begin
    if dimension is null or pg_catalog.octet_length(dimension) > 63 or dimension !~ '^[a-z][a-z0-9_]*$' then
        perform kijko.fail('invalid_input', 'the dimension is day, or the name of an attribute');
    end if;
    return query
    select m.meter, s.value, kijko.clamp(pg_catalog.sum(d.amount)), kijko.clamp(pg_catalog.sum(d.overage)),
        pg_catalog.sum(d.entries)::bigint
    from kijko.usage(usage_by.subject) as m
    cross join lateral kijko.period_at(usage_by.subject, m.meter, kijko.now(), m.period) as p
    cross join lateral kijko.usage_by_day(
        usage_by.subject, m.meter, coalesce(since, kijko.local_day(p.starts_at, zone)), coalesce(until, 'infinity')
    ) as d
    cross join lateral (
        select case dimension when 'day' then pg_catalog.to_char(d.day, 'YYYY-MM-DD') else d.attributes ->> dimension end
    ) as s(value)
    where only_meter is null or m.meter = only_meter
    group by m.meter, s.value
    order by m.meter, case when dimension = 'day' then s.value end, 3 desc, s.value;
end
$$;
comment on function kijko.usage_by(uuid, text, text, date, date) is 'The use of each meter of a subject, or of one meter, by day or by an attribute of the uses (member, project, skill, key, or any other), between two days in its time zone, both inclusive. Without days it starts at the start of each meter''s current period, and for a gauge at the first entry. Days are whole, also the day on which a billing month begins. value is null for uses without the attribute. Holds are not included.';

create function kijko.used_since(subject uuid, meter text, since timestamptz) returns bigint
    language sql stable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select kijko.clamp(coalesce((
            select pg_catalog.sum(h.amount) from kijko.usage_hourly as h
            where h.subject = used_since.subject and h.meter = used_since.meter and h.hour >= used_since.since
        ), 0)
        + coalesce((
            select pg_catalog.sum(g.amount) from kijko.ledger as g
            where g.subject = used_since.subject and g.meter = used_since.meter and g.occurred_at >= used_since.since
                and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
        ), 0))
$$;
comment on function kijko.used_since(uuid, text, timestamptz) is 'Internal: the use since the start of an hour.';

create function kijko.usage_forecast(subject uuid)
    returns table (
        meter text, period text, used bigint, "limit" bigint, reset_at timestamptz, at_period_rate bigint, at_week_rate bigint
    )
    language plpgsql stable parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    present constant timestamptz := kijko.now();
    week_ago constant timestamptz := pg_catalog.date_trunc('hour', present - interval '168 hours', 'UTC');
    largest constant numeric := 9223372036854775807;
begin
    return query
    select u.meter, u.period, u.used, u."limit", u.reset_at,
        least(round(u.used * s.whole / s.elapsed), largest)::bigint,
        least(
            round(u.used + kijko.used_since(usage_forecast.subject, u.meter, week_ago) * (s.whole - s.elapsed)
                / extract(epoch from present - week_ago)),
            largest
        )::bigint
    from kijko.usage(usage_forecast.subject) as u
    cross join lateral kijko.period_at(usage_forecast.subject, u.meter, present, u.period) as p
    -- A lifetime has no length, even when a new period of the limit will end it.
    cross join lateral (
        select pg_catalog.isfinite(p.starts_at) and pg_catalog.isfinite(p.ends_at)
    ) as f(finite)
    cross join lateral (
        select case when f.finite then extract(epoch from p.ends_at - p.starts_at) end,
            case when f.finite then extract(epoch from present - p.starts_at) end
    ) as t(whole, passed)
    -- In the first hour of a period a single use would predict thousands.
    cross join lateral (select t.whole, greatest(t.passed, least(3600, t.whole))) as s(whole, elapsed)
    where f.finite
    order by u.meter;
end
$$;
comment on function kijko.usage_forecast(uuid) is 'The use of each meter at the end of its period, by two linear estimates: at_period_rate continues the rate of this period (the first hour counts as a whole hour), at_week_rate continues the rate of the last 7 days (168 hours and the current hour) for the remaining time.';

create function kijko.list_threshold_crossings(subject uuid, since timestamptz default null)
    returns table (
        meter text, period_start timestamptz, threshold smallint, used bigint, "limit" bigint, crossed_at timestamptz
    )
    language sql stable parallel safe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
    select c.meter, nullif(c.period_start, '-infinity'), c.threshold, c.used, c."limit", c.crossed_at
    from kijko.threshold_crossings as c
    where c.subject = list_threshold_crossings.subject and c.crossed_at >= coalesce(list_threshold_crossings.since, '-infinity')
    order by c.crossed_at desc, c.meter, c.threshold desc
$$;
comment on function kijko.list_threshold_crossings(uuid, timestamptz) is 'When a subject reached 50, 80 and 100 per cent of its limits, latest first. period_start is null for a lifetime.';

create function kijko.take_threshold_crossings(max_crossings integer default 1000, again_after interval default interval '1 minute')
    returns table (
        subject uuid, meter text, period_start timestamptz, threshold smallint, used bigint, "limit" bigint, crossed_at timestamptz
    )
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with open as materialized (
        select c.subject, c.meter, c.period_start, c.threshold from kijko.threshold_crossings as c
        where c.take_at <= pg_catalog.clock_timestamp()
        order by c.take_at, c.crossed_at
        limit max_crossings
        for no key update skip locked
    ), taken as (
        update kijko.threshold_crossings as c set take_at = pg_catalog.clock_timestamp() + again_after
        from open as o
        where c.subject = o.subject and c.meter = o.meter and c.period_start = o.period_start and c.threshold = o.threshold
        returning c.*
    )
    select t.subject, t.meter, t.period_start, t.threshold, t.used, t."limit", t.crossed_at from taken as t
    order by t.crossed_at, t.subject, t.meter, t.threshold;
end
$$;
comment on function kijko.take_threshold_crossings(integer, interval) is 'Crossings of thresholds (50, 80 and 100 per cent of a limit) that nobody has done with, in their order, for who notifies of them. A crossing is committed with the use that reached the threshold, which also notifies the channel kijko_threshold_crossings. One that is not given to kijko.end_threshold_crossing() is returned again after a while; with a rollback at once. period_start is -infinity for a lifetime.';

create function kijko.end_threshold_crossing(subject uuid, meter text, period_start timestamptz, threshold smallint) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    update kijko.threshold_crossings as c set take_at = null
    where c.subject = end_threshold_crossing.subject and c.meter = end_threshold_crossing.meter
        and c.period_start = end_threshold_crossing.period_start and c.threshold = end_threshold_crossing.threshold
        and c.take_at is not null;
    return found;
end
$$;
comment on function kijko.end_threshold_crossing(uuid, text, timestamptz, smallint) is 'Says that a crossing of kijko.take_threshold_crossings() is done with. False when it was before.';
