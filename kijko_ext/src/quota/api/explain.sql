create function kijko.explain_use(subject uuid, meter text, period_start timestamptz) returns jsonb
    language sql stable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with tail as (
        select g.* from kijko.ledger as g
        where g.subject = explain_use.subject and g.meter = explain_use.meter and g.period_start = explain_use.period_start
            and g.recorded_at >= (select r.rolled_until from kijko.rollup_state as r)
    )
    select pg_catalog.jsonb_build_object(
        'rolled_up', (
            select pg_catalog.jsonb_build_object('amount', t.amount, 'entries', t.entries)
            from kijko.usage_totals as t
            where t.subject = explain_use.subject and t.meter = explain_use.meter and t.period_start = explain_use.period_start
        ),
        'since_then', (
            select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('kind', k.kind, 'amount', k.amount, 'entries', k.entries) order by k.kind)
            from (select t.kind, pg_catalog.sum(t.amount) as amount, pg_catalog.count(*) as entries from tail as t group by t.kind) as k
        ),
        'held', (
            select pg_catalog.jsonb_build_object('amount', pg_catalog.sum(h.amount), 'holds', pg_catalog.count(*))
            from kijko.holds as h
            where h.subject = explain_use.subject and h.meter = explain_use.meter and h.period_start = explain_use.period_start
                and h.state = 'open'
            having pg_catalog.count(*) > 0
        ),
        'latest', (
            select pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.to_jsonb(l)) order by l.occurred_at desc)
            from (
                select t.kind, t.amount, nullif(t.overage, 0) as overage, t.occurred_at, t.actor, t.reason, t.attributes
                from tail as t order by t.recorded_at desc limit 10
            ) as l
        )
    )
$$;
comment on function kijko.explain_use(uuid, text, timestamptz) is 'Internal: the rows that a counter sums: the rolled-up part, later rows by kind, open holds, and the latest ten rows.';

create function kijko.explain_limit(subject uuid, meter text) returns jsonb
    language plpgsql stable parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    present constant timestamptz := kijko.now();
    l kijko.limits;
    p record;
    used bigint;
    remaining bigint;
    answer text;
begin
    -- The length first: a text may have megabytes.
    if subject is null or meter is null or pg_catalog.octet_length(meter) > 63 or meter !~ '^[a-z][a-z0-9_.]*$' then
        perform kijko.fail('invalid_input', 'an explanation needs a subject, and a meter in lower case');
    end if;
    select o.* into l from kijko.limits as o where o.subject = explain_limit.subject and o.meter = explain_limit.meter;
    select q.* into p
    from kijko.period_at(
        explain_limit.subject, explain_limit.meter, present,
        case when kijko.is_gauge(explain_limit.subject, explain_limit.meter) then 'lifetime' else 'month' end
    ) as q;
    used := kijko.used_now(explain_limit.subject, explain_limit.meter, p.starts_at);
    remaining := case when l.amount is not null then greatest(kijko.clamp(l.amount::numeric - used), 0) end; -- both skip nulls
    answer := case
        when l.amount is null then pg_catalog.format('Used %s; there is no limit, so nothing is refused.', used)
        when l.overage_policy <> 'refuse' then pg_catalog.format(
            'Used %s of %s; more is recorded and %s, never refused.', used, l.amount,
            case l.overage_policy when 'bill' then 'billed' else 'flagged' end
        )
        when used < l.amount then pg_catalog.format('Used %s of %s; up to %s more are allowed.', used, l.amount, remaining)
        when p.period = 'lifetime' then pg_catalog.format(
            'Used %s of %s; more is refused with quota_exceeded until the use decreases or the limit is raised.', used, l.amount
        )
        else pg_catalog.format(
            'Used %s of %s; more is refused with quota_exceeded until %s, or until the limit is raised.', used, l.amount,
            pg_catalog.to_char(p.ends_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
        )
    end;
    return pg_catalog.jsonb_build_object(
        'meter', meter,
        'answer', answer,
        'used', used,
        'remaining', remaining,
        'refuses', coalesce(l.overage_policy = 'refuse' and used >= l.amount, false),
        'limit', case when l.subject is not null then pg_catalog.jsonb_build_object(
            'amount', l.amount, 'period', l.period, 'overage_policy', l.overage_policy, 'next_period', l.next_period,
            'next_period_from', l.next_period_from
        ) end,
        'period', pg_catalog.jsonb_build_object(
            'kind', p.period, 'starts_at', nullif(p.starts_at, '-infinity'), 'ends_at', nullif(p.ends_at, 'infinity'),
            'time_zone', coalesce((select c.time_zone from kijko.calendars as c where c.subject = explain_limit.subject), 'UTC')
        ),
        'rows', kijko.explain_use(explain_limit.subject, explain_limit.meter, p.starts_at),
        'threshold_crossings', (
            select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                'threshold', c.threshold, 'used', c.used, 'limit', c."limit", 'crossed_at', c.crossed_at
            ) order by c.threshold)
            from kijko.threshold_crossings as c
            where c.subject = explain_limit.subject and c.meter = explain_limit.meter and c.period_start = p.starts_at
        )
    );
end
$$;
comment on function kijko.explain_limit(uuid, text) is 'Why a use of a meter is allowed or refused now: the answer in words, the limit and its period, and the rows that the counter sums.';
