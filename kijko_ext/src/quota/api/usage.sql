create function kijko.used_now(subject uuid, meter text, period_start timestamptz) returns bigint
    language plpgsql stable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return kijko.clamp(coalesce((
            select t.amount from kijko.usage_totals as t
            where t.subject = used_now.subject and t.meter = used_now.meter and t.period_start = used_now.period_start
        ), 0)
        + coalesce((
            select pg_catalog.sum(g.amount) from kijko.ledger as g
            where g.subject = used_now.subject and g.meter = used_now.meter and g.period_start = used_now.period_start
                and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
        ), 0)
        + coalesce((
            select pg_catalog.sum(h.amount) from kijko.holds as h
            where h.subject = used_now.subject and h.meter = used_now.meter and h.period_start = used_now.period_start
                and h.state = 'open'
        ), 0));
end
$$;
comment on function kijko.used_now(uuid, text, timestamptz) is 'Internal: the value of a counter from the tables: the rolled-up sum, rows that are not rolled up yet, and open holds.';

create function kijko.period_usage(subject uuid, meter text, since timestamptz, until timestamptz) returns bigint
    language plpgsql stable parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    return kijko.clamp(coalesce((
            select pg_catalog.sum(t.amount) from kijko.usage_totals as t
            where t.subject = period_usage.subject and t.meter = period_usage.meter
                and t.period_start >= period_usage.since and t.period_start < period_usage.until
        ), 0)
        + coalesce((
            select pg_catalog.sum(g.amount) from kijko.ledger as g
            where g.subject = period_usage.subject and g.meter = period_usage.meter
                and g.period_start >= period_usage.since and g.period_start < period_usage.until
                and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
        ), 0));
end
$$;
comment on function kijko.period_usage(uuid, text, timestamptz, timestamptz) is 'The use of a meter that counts in periods which begin from a time on and before another, rolled up or not, without holds. Periods follow each other without gaps, so each use is in one of them, also when the calendar was changed.';

create function kijko.usage(subject uuid)
    returns table (meter text, period text, used bigint, "limit" bigint, remaining bigint, reset_at timestamptz)
    language plpgsql stable parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive recent (meter) as (
        -- One probe of the index for each meter, whatever the number of rows.
        (
            select g.meter from kijko.ledger as g
            where g.subject = usage.subject and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
            order by g.meter limit 1
        )
        union all
        select (
            select g.meter from kijko.ledger as g
            where g.subject = usage.subject and g.meter > n.meter
                and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
            order by g.meter limit 1
        )
        from recent as n where n.meter is not null
    ),
    known (meter) as (
        select l.meter from kijko.limits as l where l.subject = usage.subject
        union
        select t.meter from kijko.usage_totals as t where t.subject = usage.subject
        union
        select h.meter from kijko.holds as h where h.subject = usage.subject and h.state = 'open'
        union
        select n.meter from recent as n where n.meter is not null
    )
    select k.meter::text, p.period, u.used, l.amount,
        case when l.amount is not null then greatest(kijko.clamp(l.amount::numeric - u.used), 0) end, -- greatest() skips nulls
        nullif(p.ends_at, 'infinity')
    from known as k
    left join kijko.limits as l on l.subject = usage.subject and l.meter = k.meter
    cross join lateral (
        -- A meter without a limit is monthly, unless it is a gauge.
        select case when kijko.is_gauge(usage.subject, k.meter) then 'lifetime' else 'month' end
    ) as o(otherwise)
    cross join lateral kijko.period_at(usage.subject, k.meter, kijko.now(), o.otherwise) as p
    cross join lateral (select kijko.used_now(usage.subject, k.meter, p.starts_at)) as u(used)
    order by k.meter;
end
$$;
comment on function kijko.usage(uuid) is 'The current use of every meter of a subject that has a limit or usage: period, used (including holds), limit and remaining (null is unlimited), and the end of the period (null for a lifetime).';

create function kijko.is_gauge(subject uuid, meter text) returns boolean
    language plpgsql stable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
            select from kijko.usage_totals as t
            where t.subject = is_gauge.subject and t.meter = is_gauge.meter and t.period_start = '-infinity'
        )
        or exists (
            select from kijko.ledger as g
            where g.subject = is_gauge.subject and g.meter = is_gauge.meter and g.period_start = '-infinity'
                and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
        );
end
$$;
comment on function kijko.is_gauge(uuid, text) is 'Internal: whether a meter has usage that counts for a lifetime.';

create function kijko.usage_by_day(subject uuid, meter text, from_day date, to_day date)
    returns table (day date, attributes jsonb, amount bigint, overage bigint, entries bigint)
    language plpgsql stable parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select s.day, s.attributes, kijko.clamp(pg_catalog.sum(s.amount)), kijko.clamp(pg_catalog.sum(s.overage)),
        pg_catalog.sum(s.entries)::bigint
    from (
        select d.day, d.attributes, d.amount, d.overage, d.entries from kijko.usage_daily as d
        where d.subject = usage_by_day.subject and d.meter = usage_by_day.meter
        union all
        select kijko.local_day(g.occurred_at, coalesce(c.time_zone, 'UTC')), coalesce(g.attributes, '{}'),
            g.amount, g.overage, 1
        from kijko.ledger as g
        left join kijko.calendars as c on c.subject = g.subject
        where g.subject = usage_by_day.subject and g.meter = usage_by_day.meter
            and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
    ) as s
    where s.day >= from_day and s.day <= to_day
    group by s.day, s.attributes
    order by s.day, s.attributes;
end
$$;
comment on function kijko.usage_by_day(uuid, text, date, date) is 'The use of a meter by day in the subject''s time zone and by attributes (member, project, skill, key), rolled up or not.';
