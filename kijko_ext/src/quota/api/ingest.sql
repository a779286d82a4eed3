create table kijko.ingested_events (
    subject uuid not null,
    event uuid not null,
    meter text collate "C" not null,
    amount bigint not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    primary key (subject, event)
);
comment on table kijko.ingested_events is 'Events that kijko.ingest_usage has counted, kept for 36 days. No event counts twice, because events older than 35 days are refused.';
comment on column kijko.ingested_events.subject is 'Subject.';
comment on column kijko.ingested_events.event is 'kijko.event_key of its source and id. A short key keeps the index of millions of events in memory.';
comment on column kijko.ingested_events.meter is 'Meter that counted it.';
comment on column kijko.ingested_events.amount is 'Units.';
comment on column kijko.ingested_events.occurred_at is 'Time of the event, as reported.';
comment on column kijko.ingested_events.received_at is 'When it was received, by the real clock.';
-- Rows arrive in this order, so a summary of each block range is enough and costs an insert nothing.
create index ingested_events_received_at on kijko.ingested_events using brin (received_at) with (autosummarize = on);
comment on index kijko.ingested_events_received_at is 'Finds events that are old enough to be deleted.';
select pg_catalog.pg_extension_config_dump('kijko.ingested_events', '');

comment on function kijko.event_time(text) is 'An RFC 3339 time; null for anything else.';

create function kijko.event_key(source text, id text) returns uuid
    language sql immutable parallel safe
    return pg_catalog.md5((pg_catalog.length(source)::text operator(pg_catalog.||) ':' operator(pg_catalog.||) source operator(pg_catalog.||) id))::uuid;
comment on function kijko.event_key(text, text) is 'The key of an event in kijko.ingested_events: MD5 of its source and id. A subject that makes two of its own events collide has one of them not counted, and affects no other subject.';

create function kijko.validate_events(events jsonb, meters jsonb, present timestamptz)
    returns table (
        number integer, source text, id text, meter text, amount bigint, at timestamptz, purpose text[], code text, reason text
    )
    language sql stable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with parsed as (
        select e.number::integer as number, pg_catalog.jsonb_typeof(e.event) as form, e.event ->> 'specversion' as version,
            e.event ->> 'source' as source, e.event ->> 'id' as id, e.event ->> 'type' as type, e.event ->> 'subject' as subject,
            e.event ->> 'time' as time, e.event -> 'data' as data, meters -> (e.event ->> 'type') as rule
        from pg_catalog.jsonb_array_elements(events) with ordinality as e(event, number)
    ),
    read as materialized (
        select t.*, t.rule ->> 'meter' as meter,
            case when t.rule ->> 'field' is null then '1' else t.data -> (t.rule ->> 'field') end as value,
            case when t.time is null then present else kijko.event_time(t.time) end as at,
            -- Becomes an object only after the grouping.
            array[t.subject, t.data ->> 'member', t.data ->> 'project', t.data ->> 'skill', t.data ->> 'key'] as purpose
        from parsed as t
    ),
    measured as materialized (
        select r.*, case when pg_catalog.jsonb_typeof(r.value) = 'number' then r.value::numeric end as amount from read as r
    ),
    validated as (
        select w.*, case
            when w.form <> 'object' then 'it is not a JSON object'
            when w.version is distinct from '1.0' then 'specversion: 1.0 is understood'
            when w.source is null or pg_catalog.length(w.source) not between 1 and 255 then 'source: 1 to 255 characters'
            when w.id is null or pg_catalog.length(w.id) not between 1 and 255 then 'id: 1 to 255 characters'
            when w.meter is null then 'type: no meter counts events of this type'
            when w.at is null then 'time: not an RFC 3339 time'
            when w.at < present - interval '35 days' then 'time: more than 35 days ago'
            when w.at > present + interval '5 minutes' then 'time: in the future'
            when w.amount is null then pg_catalog.format('data.%s: must be a number', w.rule ->> 'field')
            when w.amount <> pg_catalog.trunc(w.amount) or w.amount not between 1 and 1000000000000
                then pg_catalog.format('data.%s: a whole number from 1 to 10^12', w.rule ->> 'field')
            when pg_catalog.octet_length(pg_catalog.array_to_string(w.purpose, '')) > 1000
                then 'subject, member, project, skill and key: more than 1000 bytes'
        end as reason
        from measured as w
    )
    select j.number, j.source collate "C", j.id collate "C", j.meter,
        case when j.reason is null then j.amount::bigint end, j.at, j.purpose,
        case when j.reason is not null then case when j.reason like 'type: %' then 'not_found' else 'invalid_input' end end,
        j.reason
    from validated as j
$$;
comment on function kijko.validate_events(jsonb, jsonb, timestamptz) is 'Internal: reads a batch of CloudEvents. reason says why an event cannot be counted.';

create function kijko.ingest_usage(subject uuid, events jsonb, meters jsonb)
    returns table (number integer, source text, id text, status text, code text, reason text)
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    present constant timestamptz := kijko.now();
    who constant text := coalesce(kijko.user_id()::text, session_user::text);
begin
    if ingest_usage.subject is null or pg_catalog.jsonb_typeof(meters) is distinct from 'object' then
        perform kijko.fail('invalid_input', 'ingestion needs a subject, and an object that maps event types to meters');
    end if;
    if pg_catalog.jsonb_typeof(events) is distinct from 'array' then
        perform kijko.fail('invalid_input', 'events: an array of CloudEvents');
    end if;
    if pg_catalog.jsonb_array_length(events) > 10000 or pg_catalog.pg_column_size(events) > 8388608 then
        perform kijko.fail('invalid_input', 'events: at most 10000 and 8 MiB in one call', 'Send them in smaller batches.');
    end if;
    return query
    with validated as materialized (
        select j.* from kijko.validate_events(events, meters, present) as j
    ),
    -- An event may occur twice in one batch. Ordered, so that two batches with the same events cannot deadlock.
    first as materialized (
        select distinct on (k.event) j.*, k.event
        from validated as j
        cross join lateral (select kijko.event_key(j.source, j.id)) as k(event)
        where j.reason is null
        order by k.event, j.number
    ),
    fresh as (
        insert into kijko.ingested_events as i (subject, event, meter, amount, occurred_at, received_at)
        select ingest_usage.subject, f.event, f.meter, f.amount, f.at, pg_catalog.now()
        from first as f order by f.event
        on conflict on constraint ingested_events_pkey do nothing
        returning i.event
    ),
    accepted as materialized (
        select f.* from first as f join fresh as n on n.event = f.event
    ),
    current_period as materialized (
        select m.meter, p.starts_at, p.ends_at
        from (select distinct a.meter from accepted as a) as m
        cross join lateral kijko.period_at(ingest_usage.subject, m.meter, present) as p
    ),
    dated as (
        select a.*, case when a.at >= c.starts_at and a.at < c.ends_at then c.starts_at
            else (select p.starts_at from kijko.period_at(ingest_usage.subject, a.meter, a.at) as p) end as period_start,
            a.at < c.starts_at as after_its_period
        from accepted as a
        join current_period as c on c.meter = a.meter
    ),
    -- One ledger entry for each quarter of an hour: days of every time zone begin at one.
    summed as (
        select d.meter, d.period_start, d.after_its_period, d.purpose, pg_catalog.sum(d.amount)::bigint as amount,
            pg_catalog.min(d.at) as at, pg_catalog.count(*) as events
        from dated as d
        group by d.meter, d.period_start, d.after_its_period, pg_catalog.date_bin('15 minutes', d.at, '2000-01-01 00:00Z'), d.purpose
    ),
    recorded as materialized (
        select kijko.record_entry(
            ingest_usage.subject, s.meter, s.amount, s.period_start, 0, 0, 'backfill', s.at, null, who,
            pg_catalog.format('ingested events: %s%s', s.events, case when s.after_its_period then ', after their period' end),
            pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                'subject', s.purpose[1], 'member', s.purpose[2], 'project', s.purpose[3], 'skill', s.purpose[4], 'key', s.purpose[5]
            ))
        ) as done
        from summed as s
    )
    select j.number, j.source, j.id,
        case when j.reason is not null then 'refused' when a.number is not null then 'accepted' else 'duplicate' end,
        j.code, j.reason
    from validated as j
    left join accepted as a on a.number = j.number
    -- Referenced, so that it is executed.
    cross join (select pg_catalog.count(*) filter (where b.done) from recorded as b) as all_recorded(rows)
    order by j.number;
end
$$;
comment on function kijko.ingest_usage(uuid, jsonb, jsonb) is 'Counts a batch of CloudEvents 1.0 (at most 10,000 and 8 MiB), each once by source and id, and returns for each: accepted, duplicate, or refused with code and reason. meters maps types to meters: {"<type>": {"meter": "<meter>", "field": "<number in data>"}}; without a field each event counts 1. An event counts whatever the limit is, in the period of its time (up to 35 days ago), with its subject and the fields member, project, skill and key of its data as attributes.';
