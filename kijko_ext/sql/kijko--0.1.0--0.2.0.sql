-- 0.2.0: quotas in shared memory over an append-only, partitioned ledger. Limits, uses and idempotency keys are kept: each
-- use of the former ledger becomes one row of the new one, in the period that it fell into. The server must be restarted
-- with the new library before.

-- What the former functions were made of.
drop function kijko.current_period(kijko.limits, timestamptz);
drop function kijko.period_start(text, timestamptz);
drop function kijko.period_end(text, timestamptz);
alter table kijko.ledger rename to former_ledger;
alter table kijko.former_ledger rename constraint ledger_pkey to former_ledger_pkey;
alter extension kijko drop table kijko.meters;
drop table kijko.meters;

-- Limits and keys stay where they are.
alter table kijko.limits
    alter column meter type text collate "C",
    drop constraint limits_meter_check,
    drop constraint limits_period_check,
    drop constraint limits_next_period_check;
alter table kijko.limits
    add constraint limits_meter_check check (pg_catalog.octet_length(meter) <= 63 and meter ~ '^[a-z][a-z0-9_.]*$'),
    add constraint limits_period_check check (period in ('day', 'month', 'billing', 'lifetime')),
    add constraint limits_next_period_check check (next_period in ('day', 'month', 'billing', 'lifetime')),
    add column period_from timestamptz;
comment on table kijko.limits is 'One limit for each subject and meter. A meter without a row is unlimited and monthly, a gauge without a row unlimited.';
comment on column kijko.limits.subject is 'Whose limit: any uuid, here an organization, project or key.';
comment on column kijko.limits.meter is 'What is counted.';
comment on column kijko.limits.period is 'Day, calendar month or billing month by the subject''s calendar, or lifetime, which never starts again.';
comment on column kijko.limits.amount is 'How much; null is unlimited.';
comment on column kijko.limits."over" is 'What happens above it: refuse; flag or bill allow it and say so in the verdict and in the ledger.';
comment on column kijko.limits.next_period is 'A changed period, which waits for the current one to end.';
comment on column kijko.limits.next_period_from is 'When it takes effect.';
comment on column kijko.limits.period_from is 'When the period last changed to another kind: a period that was running then began at that moment. Null when it never did.';

alter table kijko.idempotency_keys
    alter column meter type text collate "C",
    alter column key type text collate "C",
    alter column created_at drop default,
    add column code text,
    add column used bigint,
    add column "limit" bigint,
    add column reset_at timestamptz;
comment on table kijko.idempotency_keys is 'The calls that were allowed under an idempotency key, kept for 35 days. The same call again gets the same verdict and charges nothing.';
comment on column kijko.idempotency_keys.subject is 'Whose call.';
comment on column kijko.idempotency_keys.meter is 'Its meter: one key may charge several meters, each once.';
comment on column kijko.idempotency_keys.key is 'The key.';
comment on column kijko.idempotency_keys.amount is 'The amount; another amount under the same key is idempotency_conflict.';
comment on column kijko.idempotency_keys.created_at is 'When it was first used, by the real clock.';
comment on column kijko.idempotency_keys.code is 'The verdict''s code: quota_exceeded when the limit let it pass all the same.';
comment on column kijko.idempotency_keys.used is 'The verdict''s use.';
comment on column kijko.idempotency_keys."limit" is 'The verdict''s limit.';
comment on column kijko.idempotency_keys.reset_at is 'The verdict''s end of the period.';

create table kijko.calendars (
    subject uuid primary key,
    time_zone text not null,
    billing_anchor timestamptz,
    former_time_zone text,
    former_billing_anchor timestamptz,
    changed_at timestamptz,
    check ((former_time_zone is null) = (changed_at is null))
);
comment on table kijko.calendars is 'Where a subject''s days and months begin. Without a row: midnight UTC.';
comment on column kijko.calendars.subject is 'Whose calendar.';
comment on column kijko.calendars.time_zone is 'The time zone of its days and months.';
comment on column kijko.calendars.billing_anchor is 'When its first billing month began; null for calendar months.';
comment on column kijko.calendars.former_time_zone is 'The zone before the last change, which holds until the periods end that were running then.';
comment on column kijko.calendars.former_billing_anchor is 'The anchor before the last change.';
comment on column kijko.calendars.changed_at is 'When it was changed, by kijko.now(); null when it never was.';

create table kijko.ledger (
    id uuid not null,
    subject uuid not null,
    meter text collate "C" not null,
    period_start timestamptz not null,
    amount bigint not null,
    overage bigint not null default 0,
    kind text collate "C" not null,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    idempotency_key text,
    actor text,
    reason text,
    attributes jsonb
) partition by range (recorded_at);
comment on table kijko.ledger is 'Every use, one row each, only ever added to: the truth that counters in shared memory and the rolled up tables sum up. Written by the extension alone; rows that come or go by other means need kijko.forget_usage().';
comment on column kijko.ledger.id is 'Version 7: roughly in order of arrival. Not indexed.';
comment on column kijko.ledger.subject is 'Whose use.';
comment on column kijko.ledger.meter is 'What was used.';
comment on column kijko.ledger.period_start is 'The beginning of the period that it counts in; -infinity for a lifetime.';
comment on column kijko.ledger.amount is 'How much; negative for corrections and for gauges that fall.';
comment on column kijko.ledger.overage is 'The part that lay above a limit which flags or bills.';
comment on column kijko.ledger.kind is 'use, gauge, settle (of a hold), late (told after its time), correction, or import.';
comment on column kijko.ledger.occurred_at is 'When, by kijko.now() or by whoever told it.';
comment on column kijko.ledger.recorded_at is 'When the row was written, by the real clock; never earlier than what is rolled up.';
comment on column kijko.ledger.idempotency_key is 'The key of the call, if it had one.';
comment on column kijko.ledger.actor is 'Who corrected or told it.';
comment on column kijko.ledger.reason is 'Why.';
comment on column kijko.ledger.attributes is 'What it was for: member, project, skill, key (kijko.usage_attributes).';
create table kijko.ledger_default partition of kijko.ledger default;
-- One index for each partition, and none of the whole: a restored dump makes the partitions' indexes itself.
create index ledger_default_by_counter on kijko.ledger_default (subject, meter, period_start);
comment on index kijko.ledger_default_by_counter is 'Sums what is not rolled up yet of one counter.';
comment on table kijko.ledger_default is 'Rows of times for which kijko.make_ledger_partitions() has made no partition; it moves them when it does.';

create table kijko.ledger_partitions (
    partition text primary key,
    starts_at timestamptz not null unique,
    ends_at timestamptz not null unique check (ends_at > starts_at),
    rolled_at timestamptz,
    detached_at timestamptz check (detached_at is null or rolled_at is not null)
);
comment on table kijko.ledger_partitions is 'The partitions of kijko.ledger by recorded_at: without gaps, each from the end of the one before.';
comment on column kijko.ledger_partitions.partition is 'The table, with its schema.';
comment on column kijko.ledger_partitions.starts_at is 'Its first moment.';
comment on column kijko.ledger_partitions.ends_at is 'The first moment after it.';
comment on column kijko.ledger_partitions.rolled_at is 'When it was rolled up; from then on nothing is written to it.';
comment on column kijko.ledger_partitions.detached_at is 'When it was detached from the ledger, to be archived or dropped.';

create index ledger_partitions_rolled on kijko.ledger_partitions (ends_at) where rolled_at is not null;
comment on index kijko.ledger_partitions_rolled is 'Finds up to when the ledger is rolled up.';
create index ledger_partitions_not_rolled on kijko.ledger_partitions (starts_at) where rolled_at is null;
comment on index kijko.ledger_partitions_not_rolled is 'Finds the few partitions that a counter is summed up from.';

create view kijko.rollup_state as
    select coalesce(
            (select pg_catalog.max(p.ends_at) from kijko.ledger_partitions as p where p.rolled_at is not null),
            (select pg_catalog.min(p.starts_at) from kijko.ledger_partitions as p),
            '-infinity'
        ) as rolled_until;
comment on view kijko.rollup_state is 'Up to when the ledger is rolled up; before the first partition there is nothing.';
comment on column kijko.rollup_state.rolled_until is 'Rows recorded before this are in kijko.usage_totals, those from then on are not.';

create table kijko.usage_totals (
    subject uuid not null,
    meter text collate "C" not null,
    period_start timestamptz not null,
    amount bigint not null,
    overage bigint not null,
    entries bigint not null,
    primary key (subject, meter, period_start)
);
comment on table kijko.usage_totals is 'The rolled up part of the ledger by period: what a counter starts from when it is loaded.';
comment on column kijko.usage_totals.subject is 'Whose use.';
comment on column kijko.usage_totals.meter is 'What was used.';
comment on column kijko.usage_totals.period_start is 'The beginning of the period.';
comment on column kijko.usage_totals.amount is 'How much.';
comment on column kijko.usage_totals.overage is 'The part above the limit.';
comment on column kijko.usage_totals.entries is 'Rows of the ledger.';

create table kijko.usage_hourly (
    subject uuid not null,
    meter text collate "C" not null,
    hour timestamptz not null,
    attributes jsonb not null,
    amount bigint not null,
    overage bigint not null,
    entries bigint not null,
    primary key (subject, meter, hour, attributes)
);
comment on table kijko.usage_hourly is 'The rolled up part of the ledger by hour and attributes.';
comment on column kijko.usage_hourly.subject is 'Whose use.';
comment on column kijko.usage_hourly.meter is 'What was used.';
comment on column kijko.usage_hourly.hour is 'The hour in which it occurred.';
comment on column kijko.usage_hourly.attributes is 'What it was for; {} for nothing in particular.';
comment on column kijko.usage_hourly.amount is 'How much.';
comment on column kijko.usage_hourly.overage is 'The part above the limit.';
comment on column kijko.usage_hourly.entries is 'Rows of the ledger.';

create table kijko.usage_daily (
    subject uuid not null,
    meter text collate "C" not null,
    day date not null,
    attributes jsonb not null,
    amount bigint not null,
    overage bigint not null,
    entries bigint not null,
    primary key (subject, meter, day, attributes)
);
comment on table kijko.usage_daily is 'The rolled up part of the ledger by day in the subject''s time zone, and attributes.';
comment on column kijko.usage_daily.subject is 'Whose use.';
comment on column kijko.usage_daily.meter is 'What was used.';
comment on column kijko.usage_daily.day is 'The day on which it occurred.';
comment on column kijko.usage_daily.attributes is 'What it was for; {} for nothing in particular.';
comment on column kijko.usage_daily.amount is 'How much.';
comment on column kijko.usage_daily.overage is 'The part above the limit.';
comment on column kijko.usage_daily.entries is 'Rows of the ledger.';

create table kijko.holds (
    id uuid primary key,
    subject uuid not null,
    meter text collate "C" not null,
    period_start timestamptz not null,
    amount bigint not null check (amount >= 0),
    state text collate "C" not null check (state in ('open', 'settled', 'released', 'expired')),
    idempotency_key text collate "C",
    created_at timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    settled_amount bigint,
    overage bigint not null default 0,
    check ((state = 'open') = (ended_at is null))
);
comment on table kijko.holds is 'Budgets held for work whose price is known only afterwards. An open hold counts as used. Ended ones are kept for 35 days, so that settling twice is noticed.';
comment on column kijko.holds.id is 'What kijko.reserve answered.';
comment on column kijko.holds.subject is 'Whose budget.';
comment on column kijko.holds.meter is 'Of what.';
comment on column kijko.holds.period_start is 'The beginning of the period it counts in, also when it is settled later.';
comment on column kijko.holds.amount is 'How much is held.';
comment on column kijko.holds.state is 'open, settled, released or expired.';
comment on column kijko.holds.idempotency_key is 'The key of kijko.reserve: the same call again answers the same hold. One that expired or was released gives it up to the next such call.';
comment on column kijko.holds.created_at is 'When, by kijko.now().';
comment on column kijko.holds.expires_at is 'When it stops counting unless it has ended before.';
comment on column kijko.holds.ended_at is 'When it was settled, released or found expired.';
comment on column kijko.holds.settled_amount is 'What the work came to.';
comment on column kijko.holds.overage is 'The part of the amount that lay above a limit which flags or bills; booked when it is settled.';
create unique index holds_by_key on kijko.holds (subject, meter, idempotency_key) where idempotency_key is not null;
comment on index kijko.holds_by_key is 'Finds the hold of a repeated call.';
create index holds_open on kijko.holds (subject, meter, period_start, expires_at) where state = 'open';
comment on index kijko.holds_open is 'Sums a counter''s open holds, and finds the expired ones.';
create index holds_expiring on kijko.holds (expires_at) where state = 'open';
comment on index kijko.holds_expiring is 'Finds expired holds of everybody.';
create index holds_ended on kijko.holds (ended_at) where state <> 'open';
comment on index kijko.holds_ended is 'Finds ended holds that are old enough to be forgotten.';

create table kijko.threshold_crossings (
    subject uuid not null,
    meter text collate "C" not null,
    period_start timestamptz not null,
    threshold smallint not null check (threshold in (50, 80, 100)),
    used bigint not null,
    "limit" bigint not null,
    crossed_at timestamptz not null,
    primary key (subject, meter, period_start, threshold)
);
comment on table kijko.threshold_crossings is 'The first time in a period that a use reached 50, 80 or 100 per cent of the limit of that moment.';
comment on column kijko.threshold_crossings.subject is 'Whose use.';
comment on column kijko.threshold_crossings.meter is 'Of what.';
comment on column kijko.threshold_crossings.period_start is 'The beginning of the period.';
comment on column kijko.threshold_crossings.threshold is 'Per cent.';
comment on column kijko.threshold_crossings.used is 'The use that reached it.';
comment on column kijko.threshold_crossings."limit" is 'The limit then.';
comment on column kijko.threshold_crossings.crossed_at is 'When, by kijko.now().';
create index threshold_crossings_crossed_at on kijko.threshold_crossings (crossed_at);
comment on index kijko.threshold_crossings_crossed_at is 'Finds new crossings, to tell somebody.';

create function kijko.clamp(total numeric) returns bigint
    language sql immutable parallel safe
    return least(greatest(total, -9223372036854775808), 9223372036854775807)::bigint;
comment on function kijko.clamp(numeric) is 'Internal: a sum as a bigint. One that is too large for it stays at its end, rather than failing whoever sums it up: a rollup sums up everybody''s.';

-- The contents belong into a dump: they are the customers' use, not the extension's. The other partitions are no members
-- of the extension and are dumped anyway.
select pg_catalog.pg_extension_config_dump('kijko.calendars', '');
select pg_catalog.pg_extension_config_dump('kijko.ledger_default', '');
select pg_catalog.pg_extension_config_dump('kijko.ledger_partitions', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_totals', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_hourly', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_daily', '');
select pg_catalog.pg_extension_config_dump('kijko.holds', '');
select pg_catalog.pg_extension_config_dump('kijko.threshold_crossings', '');

-- What every backend caches of these, it forgets when they change, whoever changes them. Limits and calendars change too often
-- for that to be said of themselves: every plan that reads them would be made again.
create table kijko.limit_changes ();
comment on table kijko.limit_changes is 'Empty for ever. A change of limits or calendars invalidates it, which Postgres tells every backend before the commit returns.';
create function kijko.limits_changed() returns trigger
    language c as 'MODULE_PATHNAME', 'kijko_limits_changed';
comment on function kijko.limits_changed() is 'Trigger, for each statement, on tables that backends cache: they forget what they know when the transaction commits. An argument names the table in schema kijko that is said to have changed, if not its own.';
create trigger limits_changed after insert or update or delete or truncate on kijko.limits
    for each statement execute function kijko.limits_changed('limit_changes');
create trigger limits_changed after insert or update or delete or truncate on kijko.calendars
    for each statement execute function kijko.limits_changed('limit_changes');
create trigger limits_changed after insert or update or delete or truncate on kijko.ledger_partitions
    for each statement execute function kijko.limits_changed();

CREATE  FUNCTION "period_at"(
	"subject" uuid, /* pgrx :: Uuid */
	"meter" TEXT, /* & str */
	"at" timestamp with time zone, /* TimestampWithTimeZone */
	"otherwise" TEXT DEFAULT 'month' /* & str */
) RETURNS TABLE (
	"period" TEXT,  /* String */
	"starts_at" timestamp with time zone,  /* TimestampWithTimeZone */
	"ends_at" timestamp with time zone  /* TimestampWithTimeZone */
)
STRICT STABLE PARALLEL UNSAFE
LANGUAGE c /* Rust */
AS 'MODULE_PATHNAME', 'period_at_wrapper';

CREATE  FUNCTION "period_end"(
	"subject" uuid, /* pgrx :: Uuid */
	"period" TEXT, /* & str */
	"at" timestamp with time zone /* TimestampWithTimeZone */
) RETURNS timestamp with time zone /* Option < TimestampWithTimeZone > */
STRICT STABLE PARALLEL UNSAFE
LANGUAGE c /* Rust */
AS 'MODULE_PATHNAME', 'period_end_wrapper';

CREATE  FUNCTION "calendar_is_changing"(
	"subject" uuid, /* pgrx :: Uuid */
	"at" timestamp with time zone /* TimestampWithTimeZone */
) RETURNS bool /* bool */
STRICT STABLE PARALLEL UNSAFE
LANGUAGE c /* Rust */
AS 'MODULE_PATHNAME', 'calendar_is_changing_wrapper';

CREATE  FUNCTION "is_time_zone"(
	"name" TEXT /* & str */
) RETURNS bool /* bool */
IMMUTABLE STRICT PARALLEL SAFE
LANGUAGE c /* Rust */
AS 'MODULE_PATHNAME', 'is_time_zone_wrapper';

CREATE  FUNCTION "local_day"(
	"at" timestamp with time zone, /* TimestampWithTimeZone */
	"time_zone" TEXT /* & str */
) RETURNS date /* Date */
IMMUTABLE STRICT PARALLEL SAFE
LANGUAGE c /* Rust */
AS 'MODULE_PATHNAME', 'local_day_wrapper';

comment on function kijko.period_at(uuid, text, timestamptz, text) is 'The period of a subject''s meter that a time falls into: its kind, its beginning (-infinity for a lifetime) and its end (infinity). otherwise is the kind for a meter without a limit.';
comment on function kijko.period_end(uuid, text, timestamptz) is 'Internal: the end of the period of a kind by the subject''s calendar, whatever its limit says; null for a lifetime.';
comment on function kijko.calendar_is_changing(uuid, timestamptz) is 'Internal: whether the last change of the subject''s calendar still shows in a period that is running.';
comment on function kijko.is_time_zone(text) is 'Internal: whether the library''s time zone database has a zone of this name.';
comment on function kijko.local_day(timestamptz, text) is 'Internal: the day of a moment in a time zone, by the library''s own time zone database, as periods are; in UTC where the zone is unknown.';

create function kijko.set_limits(subjects uuid[], meters text[], periods text[], amounts bigint[], overs text[])
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    present constant timestamptz := kijko.now();
    problem text;
    changed bigint[];
begin
    if pg_catalog.num_nulls(subjects, meters, periods, amounts, overs) > 0
        or cardinality(subjects) <> any (array[cardinality(meters), cardinality(periods), cardinality(amounts), cardinality(overs)])
    then
        perform kijko.fail('invalid_input', 'limits need a subject, a meter, a period, an amount and an over each');
    end if;
    select
        coalesce(pg_catalog.min(case
            when a.subject is null or a.meter is null or pg_catalog.octet_length(a.meter) > 63 or a.meter !~ '^[a-z][a-z0-9_.]*$'
                then 'a limit needs a subject, and a meter in lower case'
            when a.period is null or a.period not in ('day', 'month', 'billing', 'lifetime')
                then 'the period must be day, month, billing or lifetime'
            when a.amount < 0 then 'the amount must not be negative; null is unlimited'
            when a."over" is null or a."over" not in ('refuse', 'flag', 'bill') then 'over must be refuse, flag or bill'
        end), case when count(*) > count(distinct (a.subject, a.meter)) then 'the same limit twice' end),
        pg_catalog.array_agg(a.n) filter (
            where (l.amount, l."over", l.period, l.next_period)
                is distinct from (a.amount, a."over", r.period, nullif(a.period, r.period))
        )
    into problem, changed
    from unnest(subjects, meters, periods, amounts, overs) with ordinality as a (subject, meter, period, amount, "over", n)
    -- One probe of the index for each limit: a plan that reads the whole table would be kept while the table grows.
    left join lateral (
        select o.period, o.amount, o."over", o.next_period, o.next_period_from from kijko.limits as o
        where o.subject = a.subject and o.meter = a.meter
        offset 0
    ) as l on true
    cross join lateral (select case when present >= l.next_period_from then l.next_period else l.period end) as r (period);
    if problem is not null then
        perform kijko.fail('invalid_input', problem);
    end if;
    -- Nothing is written without need, not even no rows: each statement that writes here makes every backend forget what
    -- it knows of limits.
    if changed is null then
        return;
    end if;
    -- In order, so that two calls with the same limits wait for each other and not in a circle. The amount counts at once
    -- and never resets the use. Another period waits for the current one to end; a lifetime has no end, so there it waits
    -- for the next beginning of the new one.
    insert into kijko.limits as l (subject, meter, period, amount, "over")
    select a.subject, a.meter, a.period, a.amount, a."over"
    from unnest(subjects, meters, periods, amounts, overs) with ordinality as a (subject, meter, period, amount, "over", n)
    where a.n = any (changed)
    order by a.subject, a.meter
    on conflict on constraint limits_pkey do update set
        amount = excluded.amount,
        "over" = excluded."over",
        (period, period_from, next_period, next_period_from) = (
            select r.period, r.since, nullif(excluded.period, r.period), case when excluded.period <> r.period then
                coalesce(kijko.period_end(l.subject, r.period, present), kijko.period_end(l.subject, excluded.period, present))
            end
            from (
                select case when present >= l.next_period_from then l.next_period else l.period end,
                    case when present >= l.next_period_from then l.next_period_from else l.period_from end
            ) as r (period, since)
        );
end
$$;
comment on function kijko.set_limits(uuid[], text[], text[], bigint[], text[]) is 'kijko.set_limit for several limits at once: the elements of the arrays belong together. Only those that are not so yet are written, by one statement.';

create or replace function kijko.set_limit(subject uuid, meter text, period text, amount bigint, "over" text default 'refuse')
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers need no right to set several
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.set_limits(array[subject], array[meter], array[period], array[amount], array["over"]);
end
$$;
comment on function kijko.set_limit(uuid, text, text, bigint, text) is 'Sets the limit of a subject''s meter: amount (null is unlimited) in each period (day, month, billing, lifetime), and what happens over it (refuse, flag, bill). It counts from the next call on; use already counted stays. Another period takes effect when the current one ends.';

create function kijko.set_calendar(subject uuid, time_zone text, billing_anchor timestamptz default null)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    old kijko.calendars;
    is_new boolean;
begin
    if subject is null then
        perform kijko.fail('invalid_input', 'a calendar needs a subject');
    end if;
    if time_zone is null or not kijko.is_time_zone(time_zone) then
        perform kijko.fail('invalid_timezone', time_zone);
    end if;
    if not pg_catalog.isfinite(billing_anchor) then
        perform kijko.fail('invalid_input', 'the billing months must have begun at some time');
    end if;
    -- A subject without any use has no period that would have to end first.
    is_new := not exists (select from kijko.ledger as g where g.subject = set_calendar.subject)
        and not exists (select from kijko.usage_totals as t where t.subject = set_calendar.subject)
        and not exists (select from kijko.holds as h where h.subject = set_calendar.subject);
    insert into kijko.calendars as c (subject, time_zone, billing_anchor, former_time_zone, changed_at)
    values (
        set_calendar.subject, set_calendar.time_zone, set_calendar.billing_anchor,
        case when not is_new then 'UTC' end, case when not is_new then kijko.now() end
    )
    on conflict on constraint calendars_pkey do nothing;
    if found then
        return;
    end if;
    select c.* into old from kijko.calendars as c where c.subject = set_calendar.subject for update;
    if (old.time_zone, old.billing_anchor) is not distinct from (set_calendar.time_zone, set_calendar.billing_anchor) then
        return;
    end if;
    if not is_new and kijko.calendar_is_changing(set_calendar.subject, kijko.now()) then
        perform kijko.fail(
            'conflict', 'a period is running in which the last change of this calendar still shows',
            'Change it again when a whole period by it has begun.'
        );
    end if;
    update kijko.calendars as c set
        time_zone = set_calendar.time_zone,
        billing_anchor = set_calendar.billing_anchor,
        former_time_zone = case when not is_new then old.time_zone end,
        former_billing_anchor = case when not is_new then old.billing_anchor end,
        changed_at = case when not is_new then kijko.now() end
    where c.subject = set_calendar.subject;
end
$$;
comment on function kijko.set_calendar(uuid, text, timestamptz) is 'Sets where a subject''s days and months begin: its time zone, and when its billing months began (null for calendar months). For a subject that has used something, it takes effect when the current periods end, and is not changed again before a whole day and month by it have begun.';

create or replace function kijko.try_consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_try_consume';
comment on function kijko.try_consume(uuid, text, bigint, text) is 'Uses an amount of a subject''s meter if its limit allows, in the caller''s transaction: a rollback gives it back. The verdict says what is left. An idempotency key charges once (for 35 days); under it another amount is idempotency_conflict. Amounts of 0 or less are refused, and so are READ ONLY transactions, standbys and PREPARE TRANSACTION.';

create or replace function kijko.consume(subject uuid, meter text, amount bigint default 1, idempotency_key text default null)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_consume';
comment on function kijko.consume(uuid, text, bigint, text) is 'kijko.try_consume that fails with quota_exceeded instead of answering no. Inside PostgREST it sets X-RateLimit-Limit, -Remaining, -Reset, -Resource, and Retry-After when refusing.';

create function kijko.try_consume_many(
    subjects uuid[], meter text, amount bigint default 1, idempotency_key text default null, attributes jsonb default null
)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_try_consume_many';
comment on function kijko.try_consume_many(uuid[], text, bigint, text, jsonb) is 'kijko.try_consume for several subjects at once (organization, project, key), all or nothing. The verdict is that of the subject that refused, or else of the one with the least left. attributes are recorded with the use, joined to those of kijko.usage_attributes.';

create function kijko.consume_many(
    subjects uuid[], meter text, amount bigint default 1, idempotency_key text default null, attributes jsonb default null
)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_consume_many';
comment on function kijko.consume_many(uuid[], text, bigint, text, jsonb) is 'kijko.try_consume_many that fails with quota_exceeded instead of answering no.';

create function kijko.standing(subject uuid, meter text) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_standing';
comment on function kijko.standing(uuid, text) is 'How a meter stands, from its counter: used (with what running transactions and holds have taken), limit, remaining, reset_at. Not allowed when nothing is left, whatever the limit does then. Uses nothing, and works in READ ONLY transactions. Cheaper than kijko.usage(), which sums up the tables.';

create function kijko.adjust_gauge(subject uuid, meter text, delta bigint) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_adjust_gauge';
comment on function kijko.adjust_gauge(uuid, text, bigint) is 'Changes a gauge (a number of things that exist) in the caller''s transaction. A rise above the limit fails with quota_exceeded; a fall makes room for others when it commits.';

create function kijko.set_gauge(subject uuid, meter text, value bigint) returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_set_gauge';
comment on function kijko.set_gauge(uuid, text, bigint) is 'Sets a gauge. Waits until no other transaction is changing it; then as kijko.adjust_gauge.';

create function kijko.book(
    subject uuid, meter text, amount bigint, period_start timestamptz, freed bigint, unbooked bigint, kind text,
    occurred_at timestamptz, idempotency_key text, actor text, reason text, attributes jsonb
)
    returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_book';
comment on function kijko.book(uuid, text, bigint, timestamptz, bigint, bigint, text, timestamptz, text, text, text, jsonb) is 'Internal: books what has happened whatever the limit says, and gives back what an ended hold held, of which unbooked lay above a limit that flags or bills. False when the idempotency key was used before.';

create function kijko.forget_usage(subject uuid default null) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_forget_usage';
comment on function kijko.forget_usage(uuid) is 'After this transaction has committed, the counters of a subject (null: of everybody) are summed up from the tables again, and limits and calendars read again. Needed after a restore, and after any change to them but by these functions.';

create function kijko.limit_headers(v kijko.verdict) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_limit_headers';
comment on function kijko.limit_headers(kijko.verdict) is 'Adds a verdict to the response''s headers: to RateLimit-Policy and RateLimit beside what is there, and as X-RateLimit-*; Retry-After when it refuses.';

create function kijko.refuse_use(v kijko.verdict, amount bigint) returns void
    language plpgsql volatile parallel unsafe security definer -- called for those who may use a quota, not by them
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.limit_headers(v);
    perform kijko.fail(
        'quota_exceeded',
        pg_catalog.format('used %s of %s %s, asked for %s', v.used, coalesce(v."limit"::text, 'unlimited'), v.meter, amount),
        case when v.reset_at is null then 'Raise the limit.' else 'Wait for the next period or raise the limit.' end
    );
end
$$;
comment on function kijko.refuse_use(kijko.verdict, bigint) is 'Fails with quota_exceeded, with a verdict''s numbers and headers.';

create function kijko.correct_usage(
    subject uuid, meter text, amount bigint, reason text, occurred_at timestamptz default null, actor text default null
)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the internal function
    set search_path = pg_catalog, pg_temp
as $$
declare
    at constant timestamptz := coalesce(occurred_at, kijko.now());
begin
    if amount is null or amount = 0 or coalesce(reason, '') = '' then
        perform kijko.fail('invalid_input', 'a correction needs an amount and a reason');
    end if;
    if not pg_catalog.isfinite(at) or at > kijko.now() + interval '5 minutes' then
        perform kijko.fail('invalid_input', 'the time must have come');
    end if;
    perform kijko.book(
        subject, meter, amount, (select p.starts_at from kijko.period_at(subject, meter, at) as p), 0, 0, 'correction', at,
        null, coalesce(actor, kijko.user_id()::text, session_user::text), reason, null
    );
end
$$;
comment on function kijko.correct_usage(uuid, text, bigint, text, timestamptz, text) is 'Adds a correction to the period of a time: positive charges more, negative gives back (from the commit on). A row of its own with who and why; nothing is ever changed.';

create function kijko.record_usage(
    subject uuid, meter text, amount bigint, occurred_at timestamptz, idempotency_key text default null,
    attributes jsonb default null, reason text default null
)
    returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the internal function
    set search_path = pg_catalog, pg_temp
as $$
begin
    if amount is null or amount <= 0 or occurred_at is null then
        perform kijko.fail('invalid_input', 'a late use needs an amount of at least 1, and a time');
    end if;
    if not pg_catalog.isfinite(occurred_at) or occurred_at > kijko.now() + interval '5 minutes' then
        perform kijko.fail('invalid_input', 'the time must have come');
    end if;
    return kijko.book(
        subject, meter, amount, (select p.starts_at from kijko.period_at(subject, meter, occurred_at) as p), 0, 0, 'late',
        occurred_at, idempotency_key, coalesce(kijko.user_id()::text, session_user::text), reason, attributes
    );
end
$$;
comment on function kijko.record_usage(uuid, text, bigint, timestamptz, text, jsonb, text) is 'Books a use that has happened, in the period in which it happened, whatever the limit says: a row with who told it (the user, or the login) and why. False when its idempotency key was booked before.';

create function kijko.reserve_until(subject uuid, meter text, amount bigint, expires_at timestamptz, idempotency_key text)
    returns uuid
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_reserve';
comment on function kijko.reserve_until(uuid, text, bigint, timestamptz, text) is 'Internal: kijko.reserve until a time.';

create function kijko.refuse_hold(meter text, used bigint, "limit" bigint, reset_at timestamptz, retry_after integer, amount bigint)
    returns void
    language plpgsql volatile parallel unsafe security definer -- called for those who may use a quota, not by them
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform kijko.refuse_use(
        row(false, 'quota_exceeded', meter, used, "limit", greatest("limit" - used, 0), reset_at, retry_after)::kijko.verdict,
        amount
    );
end
$$;
comment on function kijko.refuse_hold(text, bigint, bigint, timestamptz, integer, bigint) is 'Fails with quota_exceeded for a hold.';

create function kijko.reserve(
    subject uuid, meter text, amount bigint, ttl interval default interval '10 minutes', idempotency_key text default null
)
    returns uuid
    language sql volatile parallel unsafe security definer -- callers have no rights on the internal function
    set search_path = pg_catalog, pg_temp
as $$
    select kijko.reserve_until(subject, meter, amount, kijko.now() + ttl, idempotency_key)
$$;
comment on function kijko.reserve(uuid, text, bigint, interval, text) is 'Holds an amount of a subject''s meter until it is settled, released or older than ttl; it counts as used meanwhile. Fails with quota_exceeded. The same key again answers the same hold, or makes another one if that expired or was released. It may commit asynchronously (synchronous_commit = off): a crash then loses the hold, and kijko.settle with subject and meter books what it came to.';

create function kijko.settle(hold uuid, actual bigint, subject uuid default null, meter text default null) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    h kijko.holds;
    present constant timestamptz := kijko.now();
begin
    if hold is null or actual is null or actual < 0 then
        perform kijko.fail('invalid_input', 'settling needs a hold and an amount of at least 0');
    end if;
    select o.* into h from kijko.holds as o where o.id = hold for update;
    if not found then
        if settle.subject is null or settle.meter is null then
            perform kijko.fail('not_found', 'no such hold', 'Name its subject and its meter to book without it.');
        end if;
        -- Lost in a crash, or forgotten: remembered from now on, so that settling it twice is noticed.
        insert into kijko.holds (id, subject, meter, period_start, amount, state, created_at, expires_at, ended_at)
        select hold, settle.subject, settle.meter, p.starts_at, 0, 'expired', present, present, present
        from kijko.period_at(settle.subject, settle.meter, present) as p
        on conflict on constraint holds_pkey do nothing;
        select o.* into h from kijko.holds as o where o.id = hold for update;
    end if;
    -- Whoever says whose hold it is must not settle another one.
    if settle.subject <> h.subject or settle.meter <> h.meter then
        perform kijko.fail('not_found', 'no such hold of this subject and meter');
    end if;
    if h.state = 'settled' then
        return false;
    end if;
    -- Book before the row changes: should the counter have to be loaded, it must find the hold that is then given back.
    perform kijko.book(
        h.subject, h.meter, actual, h.period_start, case when h.state = 'open' then h.amount else 0 end,
        case when h.state = 'open' then h.overage else 0 end, case when h.state = 'open' then 'settle' else 'late' end,
        present, null, null, null, null
    );
    update kijko.holds as o set state = 'settled', ended_at = present, settled_amount = actual where o.id = hold;
    return true;
end
$$;
comment on function kijko.settle(uuid, bigint, uuid, text) is 'Ends a hold and books what the work came to, more or less than was held, in the period of the hold. True when it was booked; settling twice does nothing and answers false. A hold that expired or was released is booked all the same, and so is an unknown one whose subject and meter are named.';

create function kijko.release(hold uuid) returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    h kijko.holds;
begin
    select o.* into h from kijko.holds as o where o.id = hold and o.state = 'open' for update;
    if not found then
        return false;
    end if;
    -- Before the row changes, as in kijko.settle.
    perform kijko.book(h.subject, h.meter, 0, h.period_start, h.amount, h.overage, 'settle', null, null, null, null, null);
    update kijko.holds as o set state = 'released', ended_at = kijko.now() where o.id = hold;
    return true;
end
$$;
comment on function kijko.release(uuid) is 'Ends a hold for work that was not done. False when it is not open.';

create function kijko.expire_holds(at_most integer default 10000) returns bigint
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    h kijko.holds;
    expired bigint := 0;
begin
    for h in
        select o.* from kijko.holds as o
        where o.state = 'open' and o.expires_at <= kijko.now()
        order by o.expires_at
        limit at_most
        for update skip locked
    loop
        -- Before the row changes, as in kijko.settle.
        perform kijko.book(h.subject, h.meter, 0, h.period_start, h.amount, h.overage, 'settle', null, null, null, null, null);
        update kijko.holds as o set state = 'expired', ended_at = kijko.now() where o.id = h.id;
        expired := expired + 1;
    end loop;
    return expired;
end
$$;
comment on function kijko.expire_holds(integer) is 'Ends the holds whose time is over. A use that is in want of them does so itself for its own subject and meter.';

create function kijko.make_ledger_partition(starts_at timestamptz, ends_at timestamptz) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
    set datestyle = 'ISO'
    set timezone = 'UTC'
as $$
declare
    name constant text := 'ledger_' || pg_catalog.to_char(starts_at, 'YYYYMMDD_HH24MISS');
begin
    execute pg_catalog.format('create table kijko.%I (like kijko.ledger including defaults including constraints)', name);
    -- Whoever is writing to the default partition ends first; who comes later finds the new partition.
    lock table kijko.ledger_default in access exclusive mode;
    execute pg_catalog.format(
        'with moved as (delete from kijko.ledger_default where recorded_at >= %L and recorded_at < %L returning *) '
        'insert into kijko.%I select * from moved', starts_at, ends_at, name
    );
    execute pg_catalog.format('create index on kijko.%I (subject, meter, period_start)', name);
    execute pg_catalog.format(
        'alter table kijko.ledger attach partition kijko.%I for values from (%L) to (%L)', name, starts_at, ends_at
    );
    insert into kijko.ledger_partitions (partition, starts_at, ends_at)
    values (pg_catalog.format('kijko.%I', name), starts_at, ends_at);
end
$$;
comment on function kijko.make_ledger_partition(timestamptz, timestamptz) is 'Internal: makes one partition of the ledger, with the rows that are in the default partition already.';

create function kijko.make_ledger_partitions(
    ahead interval default interval '6 hours', width interval default interval '1 hour'
)
    returns integer
    language plpgsql volatile parallel unsafe security definer -- the ledger belongs to the superuser
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '2s' -- a writer that stays longer is waited for next time
as $$
declare
    epoch constant timestamptz := '2000-01-01 00:00:00+00';
    present timestamptz;
    next timestamptz;
    until timestamptz;
    made integer := 0;
begin
    if not width between '1 second' and '1 day' or not ahead between '0' and '31 days' then
        perform kijko.fail('invalid_input', 'partitions are 1 second to 1 day wide, and made 31 days ahead at most');
    end if;
    present := pg_catalog.date_bin(width, pg_catalog.clock_timestamp(), epoch);
    lock table kijko.ledger_partitions in share row exclusive mode;
    -- The first partition begins with the first row, also of those who are still writing.
    if not exists (select from kijko.ledger_partitions) then
        lock table kijko.ledger_default in access exclusive mode;
    end if;
    select coalesce(
            (select pg_catalog.max(p.ends_at) from kijko.ledger_partitions as p),
            (select pg_catalog.date_bin(width, pg_catalog.min(d.recorded_at), epoch) from kijko.ledger_default as d),
            present
        ) into next;
    -- What was missed is made up for by one long partition.
    if next < present then
        perform kijko.make_ledger_partition(next, present);
        next := present;
        made := made + 1;
    end if;
    while next <= present + ahead loop
        -- To the next whole width, also after another one.
        until := pg_catalog.date_bin(width, next, epoch) + width;
        perform kijko.make_ledger_partition(next, until);
        next := until;
        made := made + 1;
    end loop;
    return made;
end
$$;
comment on function kijko.make_ledger_partitions(interval, interval) is 'Makes the ledger''s partitions up to some time ahead, each so wide; the number made. Until somebody does, rows go to the default partition and are moved later. A narrow partition is rolled up sooner, so that a counter is loaded faster.';

create function kijko.rollup_usage(at_most integer default 24) returns integer
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    p kijko.ledger_partitions;
    rolled integer := 0;
begin
    -- Every statement must see what was committed before it got its lock.
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
        perform kijko.fail('bad_request', 'kijko.rollup_usage() needs read committed');
    end if;
    begin
        lock table kijko.ledger_partitions in share row exclusive mode nowait;
    exception
        when lock_not_available then return 0; -- somebody else is at it
    end;
    while rolled < at_most loop
        -- In order, so that what is rolled up has an end; partitions are without gaps.
        select q.* into p from kijko.ledger_partitions as q where q.rolled_at is null order by q.starts_at limit 1;
        exit when not found or p.ends_at > pg_catalog.clock_timestamp();
        begin
            -- Waits for nobody: while a transaction that has written to the partition runs, it is left for later. With
            -- the lock, everything ever written to it is visible, and nothing more is written (ledger.rs).
            execute pg_catalog.format('lock table %s in share mode nowait', p.partition);
        exception
            when lock_not_available then exit;
        end;
        perform kijko.rollup_partition(p.partition);
        update kijko.ledger_partitions as q set rolled_at = pg_catalog.clock_timestamp() where q.partition = p.partition;
        rolled := rolled + 1;
    end loop;
    return rolled;
end
$$;
comment on function kijko.rollup_usage(integer) is 'Sums up the ledger''s past hours, by period, hour and day, in one transaction; the number of partitions. It can be killed at any point, and counts no row twice and none not at all: a partition with a running writer is left for the next time.';

create function kijko.rollup_partition(partition text) returns void
    language plpgsql volatile parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute pg_catalog.format(
        $sql$
            insert into kijko.usage_totals as t (subject, meter, period_start, amount, overage, entries)
            select g.subject, g.meter, g.period_start, kijko.clamp(pg_catalog.sum(g.amount)), kijko.clamp(pg_catalog.sum(g.overage)), pg_catalog.count(*)
            from %s as g
            group by g.subject, g.meter, g.period_start
            on conflict (subject, meter, period_start) do update
            set amount = kijko.clamp(t.amount::numeric + excluded.amount),
                overage = kijko.clamp(t.overage::numeric + excluded.overage), entries = t.entries + excluded.entries
        $sql$, partition
    );
    -- Attributes are part of a key here. One set that is too large for an index must not keep everybody's use from being
    -- summed up, so it stays in the ledger alone.
    execute pg_catalog.format(
        $sql$
            insert into kijko.usage_hourly as t (subject, meter, hour, attributes, amount, overage, entries)
            select g.subject, g.meter, pg_catalog.date_trunc('hour', g.occurred_at, 'UTC'),
                case when pg_catalog.pg_column_size(g.attributes) <= 2000 then g.attributes else '{}' end,
                kijko.clamp(pg_catalog.sum(g.amount)), kijko.clamp(pg_catalog.sum(g.overage)), pg_catalog.count(*)
            from %s as g
            group by 1, 2, 3, 4
            on conflict (subject, meter, hour, attributes) do update
            set amount = kijko.clamp(t.amount::numeric + excluded.amount),
                overage = kijko.clamp(t.overage::numeric + excluded.overage), entries = t.entries + excluded.entries
        $sql$, partition
    );
    execute pg_catalog.format(
        $sql$
            insert into kijko.usage_daily as t (subject, meter, day, attributes, amount, overage, entries)
            select g.subject, g.meter, kijko.local_day(g.occurred_at, coalesce(c.time_zone, 'UTC')),
                case when pg_catalog.pg_column_size(g.attributes) <= 2000 then g.attributes else '{}' end,
                kijko.clamp(pg_catalog.sum(g.amount)), kijko.clamp(pg_catalog.sum(g.overage)), pg_catalog.count(*)
            from %s as g
            left join kijko.calendars as c on c.subject = g.subject
            group by 1, 2, 3, 4
            on conflict (subject, meter, day, attributes) do update
            set amount = kijko.clamp(t.amount::numeric + excluded.amount),
                overage = kijko.clamp(t.overage::numeric + excluded.overage), entries = t.entries + excluded.entries
        $sql$, partition
    );
end
$$;
comment on function kijko.rollup_partition(text) is 'Internal: adds a partition of the ledger to the rolled up tables.';

create function kijko.detach_ledger_partitions(older_than interval default interval '7 days') returns integer
    language plpgsql volatile parallel unsafe security definer -- the ledger belongs to the superuser
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '2s'
as $$
declare
    p kijko.ledger_partitions;
    detached integer := 0;
begin
    create schema if not exists kijko_archive;
    -- Whoever made it before would own what is put there, and could drop it.
    if exists (
        select from pg_catalog.pg_namespace as n
        where n.nspname = 'kijko_archive' and n.nspowner <> current_user::pg_catalog.regrole
    ) then
        execute pg_catalog.format('alter schema kijko_archive owner to %I', current_user);
    end if;
    for p in
        select q.* from kijko.ledger_partitions as q
        where q.rolled_at is not null and q.detached_at is null
            and q.ends_at < pg_catalog.clock_timestamp() - older_than
        order by q.starts_at
        for update
    loop
        execute pg_catalog.format('alter table kijko.ledger detach partition %s', p.partition);
        -- Out of the extension's schema, which must be empty should the extension be dropped and created again.
        execute pg_catalog.format('alter table %s set schema kijko_archive', p.partition);
        update kijko.ledger_partitions as q
        set detached_at = pg_catalog.clock_timestamp(), partition = pg_catalog.replace(q.partition, 'kijko.', 'kijko_archive.')
        where q.partition = p.partition;
        detached := detached + 1;
    end loop;
    return detached;
end
$$;
comment on function kijko.detach_ledger_partitions(interval) is 'Detaches old partitions that are rolled up; the number. They stay as tables in the schema kijko_archive, to be copied away and dropped.';

create function kijko.maintain_usage() returns table (task text, done bigint)
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    task := 'forget_idempotency_keys';
    delete from kijko.idempotency_keys as k
    where (k.subject, k.meter, k.key) in (
        select o.subject, o.meter, o.key from kijko.idempotency_keys as o
        where o.created_at < pg_catalog.now() - interval '35 days'
        limit 10000
        for update skip locked
    );
    get diagnostics done = row_count;
    return next;
    task := 'forget_ingested_events';
    delete from kijko.ingested_events as e
    where (e.subject, e.event) in (
        select o.subject, o.event from kijko.ingested_events as o
        where o.received_at < pg_catalog.now() - interval '36 days'
        limit 100000
        for update skip locked
    );
    get diagnostics done = row_count;
    return next;
    task := 'forget_holds';
    delete from kijko.holds as h
    where h.id in (
        select o.id from kijko.holds as o
        where o.state <> 'open' and o.ended_at < kijko.now() - interval '35 days'
        limit 10000
        for update skip locked
    );
    get diagnostics done = row_count;
    return next;
    -- A task that meets a lock is left for the next time; the others are done all the same. Last, those whose locks keep
    -- counters from being loaded: they are held until the end.
    foreach task in array array['rollup_usage', 'expire_holds', 'make_ledger_partitions', 'detach_ledger_partitions'] loop
        begin
            execute pg_catalog.format('select kijko.%I()', task) into done;
        exception
            when lock_not_available then done := null;
        end;
        return next;
    end loop;
end
$$;
comment on function kijko.maintain_usage() is 'Everything that wants doing now and then, each minute for instance: partitions ahead, rollup, expired holds, old partitions, old keys and events. Null for a task that met a lock and is left for the next time.';

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
comment on function kijko.used_now(uuid, text, timestamptz) is 'Internal: what a counter comes to by the tables: rolled up, not yet rolled up, and held.';

create or replace function kijko.usage(subject uuid)
    returns table (meter text, period text, used bigint, "limit" bigint, remaining bigint, reset_at timestamptz)
    language plpgsql stable parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive recent (meter) as (
        -- One look at the index for each meter, however many rows there are.
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
comment on function kijko.usage(uuid) is 'The current use of every meter of a subject that has a limit or was used: period, used (held amounts included), limit and remaining (null is unlimited), and when the period ends (null for a lifetime).';

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
comment on function kijko.is_gauge(uuid, text) is 'Internal: whether a meter has use that counts for a lifetime.';

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
comment on function kijko.usage_by_day(uuid, text, date, date) is 'The use of a meter by day in the subject''s time zone and by attributes (member, project, skill, key): rolled up or not.';

comment on function kijko.stats() is 'Figures of the tables in shared memory since the server started: rate_limit.slots, .used (slots taken), .allowed, .refused, .recycled (a key with nothing to pay back was forgotten), .evicted (a key was forgotten although it had: raise kijko.rate_limit_slots); quota.slots, .used, .pinned (in use by running transactions), .loads (a counter was summed up from the ledger), .evictions (for another one), .full (all slots it may take were in use: raise kijko.quota_slots); meter.slots, .used (subjects with requests not yet in the ledger), .counted (requests), .flushed (of them, moved to the ledger), .full (no room, and the count waited: raise kijko.meter_slots), .failures (of a flush, which was tried again); request.shadow_refused (a policy in shadow mode would have), .passed_by_failure and .refused_by_failure (the limiter failed), .in_flight (requests that run now), .connection_time_refused (a caller in debt with its connection time); session.slots, .used (revoked sessions in shared memory), .loads (all of them were read from the table), .full (one did not fit, and the table was asked instead: raise kijko.session_slots).';

-- Headers without plpgsql.
create or replace function kijko.request_header(name text) returns text
    language c stable strict parallel safe as 'MODULE_PATHNAME', 'request_header_wrapper';
create or replace function kijko.add_header(name text, value text) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_add_header';

-- Revoked sessions in shared memory.
-- Always, also for rows that a replica applies: shared memory must know of every one.
create function kijko.session_changed() returns trigger
    language c as 'MODULE_PATHNAME', 'kijko_session_changed';
comment on function kijko.session_changed() is 'Trigger on kijko.revoked_sessions: what a transaction revokes reaches shared memory when it has committed.';
create trigger session_changed after insert or update or delete on kijko.revoked_sessions
    for each row execute function kijko.session_changed();
create trigger session_truncated after truncate on kijko.revoked_sessions
    for each statement execute function kijko.session_changed();
alter table kijko.revoked_sessions enable always trigger session_changed;
alter table kijko.revoked_sessions enable always trigger session_truncated;
revoke all on function kijko.session_changed() from public;

-- Requests: several rates at once, policies, admission.
create function kijko.rate_limits(
    keys text[], rates integer[], pers interval[], bursts integer[] default null, costs integer[] default null
)
    returns kijko.verdict
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'rate_limits_wrapper';
comment on function kijko.rate_limits(text[], integer[], interval[], integer[], integer[]) is 'kijko.rate_limit for several limits at once, all or nothing: the elements of the arrays belong together, 1 to 16 of them; a null burst is the rate, a null cost 1. The verdict is that of the limit that refuses for longest, or else of the one with the smallest part left.';
create function kijko.claim(name text) returns text
    language c stable strict parallel safe as 'MODULE_PATHNAME', 'claim_wrapper';
create function kijko.client_address() returns inet
    language c stable strict parallel safe as 'MODULE_PATHNAME', 'client_address_wrapper';
create function kijko.client_network() returns inet
    language c stable strict parallel safe as 'MODULE_PATHNAME', 'client_network_wrapper';
create function kijko.subject(kind text, id uuid) returns uuid
    language c immutable parallel safe as 'MODULE_PATHNAME', 'subject_wrapper';
create function kijko.token_fault() returns text
    language c stable strict parallel safe as 'MODULE_PATHNAME', 'token_fault_wrapper';
create function kijko.access_token_fault(claims jsonb) returns text
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'access_token_fault_wrapper';
comment on function kijko.client_address() is 'The client''s address: the rightmost in X-Forwarded-For that is not a trusted proxy (kijko.trusted_proxies). An IPv4-mapped IPv6 address is returned as IPv4. Null when there is none.';
comment on function kijko.client_network() is 'The network by which unauthenticated requests are counted: the /64 of the client''s IPv6 address, or its IPv4 address. Null when there is none.';
comment on function kijko.subject(text, uuid) is 'The subject of a limit: a uuid of version 8 (RFC 9562) derived from a kind (user, project, api_key, ...) and an id, so that ids of different kinds never collide. For the kind organization it is the id itself.';
comment on function kijko.token_fault() is 'Whether the token of this request, which PostgREST has verified, is an access token: the first claim (role, iss, exp, iat, aud or sub) that is missing or wrong. Null when all are right, and for a request without a token.';
comment on function kijko.claim(text) is 'One claim of kijko.claims() as text; null when there is none.';

create table kijko.rate_limit_policies (
    name text collate "C" not null check (pg_catalog.octet_length(name) <= 63 and name ~ '^[a-z][a-z0-9_-]*$' and name <> 'api_requests'),
    tier text collate "C" not null default '*' check (pg_catalog.length(tier) between 1 and 63),
    scope text not null check (scope in ('address', 'user', 'organization', 'api_key')),
    method text check (method ~ '^[A-Z]+$'),
    route text check (pg_catalog.length(route) between 1 and 200),
    rate integer not null check (rate between 1 and 1000000000),
    per interval not null check (per between interval '1 millisecond' and interval '366 days'),
    burst integer check (burst between 1 and 1000000000),
    cost integer not null default 1 check (cost >= 1),
    shadow boolean not null default false,
    enabled boolean not null default true,
    primary key (name, tier),
    check (cost <= coalesce(burst, rate)),
    -- What a burst is worth in time has to fit the limiter's clock: 285 years.
    check (extract(epoch from per) * coalesce(burst, rate) / rate < 9000000000)
);
comment on table kijko.rate_limit_policies is 'How often requests may be made: what kijko.admit_request() asks of them. Of each name a request has the policy of its tier, or else that for every tier; policies of different names apply together, all or nothing (at most 16). Changes count for the next request.';
comment on column kijko.rate_limit_policies.name is 'What clients are told by RateLimit-Policy.';
comment on column kijko.rate_limit_policies.tier is 'The organization''s tier (kijko.set_tier), anonymous or user for requests without an organization, or * for every tier that has no policy of this name. For the scope user the user''s own tier, if there is one.';
comment on column kijko.rate_limit_policies.scope is 'What is limited: each address (of IPv6: each /64), user, organization or API key. A request that has none is not limited by it.';
comment on column kijko.rate_limit_policies.method is 'Requests of this method only; null for all.';
comment on column kijko.rate_limit_policies.route is 'Requests whose path is like this only, for example /rpc/*; null for all.';
comment on column kijko.rate_limit_policies.rate is 'So many requests ...';
comment on column kijko.rate_limit_policies.per is '... in this time.';
comment on column kijko.rate_limit_policies.burst is 'At most so many at once; null for as many as the rate.';
comment on column kijko.rate_limit_policies.cost is 'What a request costs of it.';
comment on column kijko.rate_limit_policies.shadow is 'Counts and logs what it would refuse, and refuses nothing.';
comment on column kijko.rate_limit_policies.enabled is 'Whether it is there at all.';

create table kijko.tiers (
    subject uuid primary key,
    tier text collate "C" not null check (pg_catalog.length(tier) between 1 and 63)
);
comment on table kijko.tiers is 'The tier of organizations and users, by which their rate limit policies are chosen.';
comment on column kijko.tiers.subject is 'The organization, or kijko.subject() of a user.';
comment on column kijko.tiers.tier is 'Any name: here the plan''s.';

select pg_catalog.pg_extension_config_dump('kijko.rate_limit_policies', '');
select pg_catalog.pg_extension_config_dump('kijko.tiers', '');

create trigger limits_changed after insert or update or delete or truncate on kijko.rate_limit_policies
    for each statement execute function kijko.limits_changed();
-- A tier changes with each change of a plan: invalidating kijko.tiers itself would have every plan that reads it made again.
create table kijko.tier_changes ();
comment on table kijko.tier_changes is 'Always empty. A change of tiers invalidates it, which Postgres tells every backend before the commit returns.';
create trigger limits_changed after insert or update or delete or truncate on kijko.tiers
    for each statement execute function kijko.limits_changed('tier_changes');

create function kijko.set_rate_limit_policy(
    name text, scope text, rate integer, per interval, tier text default '*', burst integer default null,
    cost integer default 1, method text default null, route text default null, shadow boolean default false,
    enabled boolean default true
)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into kijko.rate_limit_policies as p (name, tier, scope, method, route, rate, per, burst, cost, shadow, enabled)
    values (
        set_rate_limit_policy.name, set_rate_limit_policy.tier, set_rate_limit_policy.scope, set_rate_limit_policy.method,
        set_rate_limit_policy.route, set_rate_limit_policy.rate, set_rate_limit_policy.per, set_rate_limit_policy.burst,
        set_rate_limit_policy.cost, set_rate_limit_policy.shadow, set_rate_limit_policy.enabled
    )
    on conflict on constraint rate_limit_policies_pkey do update set
        scope = excluded.scope, method = excluded.method, route = excluded.route, rate = excluded.rate, per = excluded.per,
        burst = excluded.burst, cost = excluded.cost, shadow = excluded.shadow, enabled = excluded.enabled;
exception
    when check_violation or not_null_violation then
        perform kijko.fail('invalid_input', sqlerrm);
end
$$;
comment on function kijko.set_rate_limit_policy(text, text, integer, interval, text, integer, integer, text, text, boolean, boolean) is 'Makes or changes a rate limit policy of a name and a tier.';

create function kijko.drop_rate_limit_policy(name text, tier text default '*') returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from kijko.rate_limit_policies as p
    where p.name = drop_rate_limit_policy.name and p.tier = drop_rate_limit_policy.tier;
    return found;
end
$$;
comment on function kijko.drop_rate_limit_policy(text, text) is 'Takes a rate limit policy away; false when there was none.';

create function kijko.set_tier(subject uuid, tier text) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if subject is null or pg_catalog.length(tier) not between 1 and 63 then
        perform kijko.fail('invalid_input', 'a tier needs a subject, and a name of 1 to 63 characters');
    end if;
    -- Every write makes all backends read the tiers again, so an unchanged tier is not written.
    if tier is not distinct from (select t.tier from kijko.tiers as t where t.subject = set_tier.subject) then
        return;
    end if;
    if tier is null then
        delete from kijko.tiers as t where t.subject = set_tier.subject;
        return;
    end if;
    insert into kijko.tiers as t (subject, tier) values (set_tier.subject, set_tier.tier)
    on conflict on constraint tiers_pkey do update set tier = excluded.tier where t.tier <> excluded.tier;
end
$$;
comment on function kijko.set_tier(uuid, text) is 'Sets the tier of an organization, or of a user (kijko.subject), by which its rate limit policies are chosen, from its next request on; null takes it away.';

create table kijko.statement_timeouts (
    tier text collate "C" primary key check (pg_catalog.length(tier) between 1 and 63),
    milliseconds integer not null check (milliseconds between 1 and 3600000)
);
comment on table kijko.statement_timeouts is 'How long a statement of a request may take, by tier: kijko.admit_request() sets statement_timeout for the rest of the transaction. Changes count for the next request.';
comment on column kijko.statement_timeouts.tier is 'The organization''s tier (kijko.set_tier), anonymous or user for requests without an organization, or * for every tier that has none.';
comment on column kijko.statement_timeouts.milliseconds is 'How long.';
select pg_catalog.pg_extension_config_dump('kijko.statement_timeouts', '');
create trigger limits_changed after insert or update or delete or truncate on kijko.statement_timeouts
    for each statement execute function kijko.limits_changed();

create function kijko.set_statement_timeout(tier text, timeout interval) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tier is null or pg_catalog.length(tier) not between 1 and 63
        or timeout not between interval '1 millisecond' and interval '1 hour'
    then
        perform kijko.fail('invalid_input', 'a tier of 1 to 63 characters, and a timeout of 1 millisecond to 1 hour');
    end if;
    if timeout is null then
        delete from kijko.statement_timeouts as t where t.tier = set_statement_timeout.tier;
        return;
    end if;
    insert into kijko.statement_timeouts as t (tier, milliseconds)
    values (set_statement_timeout.tier, (extract(epoch from timeout) * 1000)::pg_catalog.int4)
    on conflict on constraint statement_timeouts_pkey do update set milliseconds = excluded.milliseconds;
end
$$;
comment on function kijko.set_statement_timeout(text, interval) is 'Sets how long a statement of a request of a tier may take, from the next request on; null takes it away, and then the role''s own timeout holds.';

create function kijko.check_request() returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_check_request';
comment on function kijko.check_request() is 'The header checks of kijko.admit_request(), for requests that are not limited: fails with bad_request when a header is not UTF-8, or when Prefer asks for count=planned, count=estimated or tx=rollback.';

create function kijko.admit_request(organization uuid, member uuid default null, api_key uuid default null) returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_admit_request';
comment on function kijko.admit_request(uuid, uuid, uuid) is 'Admits a request of an organization, of a user without one, or of an address (kijko.client_network), before anything of it runs: counts it as api_requests of the organization, asks the rate limit policies and the limit of api_requests, and adds RateLimit, RateLimit-Policy and X-RateLimit-* to the answer. True, or fails with rate_limited or quota_exceeded, and Retry-After. Works in READ ONLY transactions.';

create function kijko.admit_known_request() returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_admit_known_request';
comment on function kijko.admit_known_request() is 'kijko.admit_request() for the member and the organization of this request, if the domain has told of them before (kijko.remember_membership) and no membership has changed since; false when it has not, and the domain has to look.';

create function kijko.admit_outside(forwarded_for text, method text, path text) returns jsonb
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_admit_outside';
comment on function kijko.admit_outside(text, text, text) is 'Asks the rate limit policies of the tier outside about a request that another server takes: by the network of the client in X-Forwarded-For (as kijko.client_network), its method and its path. Answers {code, details, headers}: code is null when it may go on, else rate_limited, or unavailable when the limiter failed and kijko.on_rate_limit_failure is closed.';

-- What the domain has found out about memberships is kept in each backend, and forgotten when one changes.
create table kijko.membership_changes ();
comment on table kijko.membership_changes is 'Empty for ever. A change of memberships invalidates it, which Postgres tells every backend before the commit returns.';

create function kijko.membership_epoch() returns bigint
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_membership_epoch';
comment on function kijko.membership_epoch() is 'To be asked before memberships are read, for kijko.remember_membership(): grows when one changes. Of this connection only.';

create function kijko.remember_membership(epoch bigint, member uuid, wanted uuid, organization uuid) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_remember_membership';
comment on function kijko.remember_membership(bigint, uuid, uuid, uuid) is 'Tells this connection in which organization a member''s requests work when they ask for one (null: for none), as read after kijko.membership_epoch() answered epoch. Not kept in REPEATABLE READ and SERIALIZABLE transactions.';

create function kijko.membership_changed() returns trigger
    language c as 'MODULE_PATHNAME', 'kijko_membership_changed';
comment on function kijko.membership_changed() is 'Trigger, for each statement, on every table that says whose member somebody is: what was told by kijko.remember_membership() is forgotten everywhere when the transaction commits.';

revoke all on function
    kijko.rate_limits(text[], integer[], interval[], integer[], integer[]),
    kijko.admit_request(uuid, uuid, uuid),
    kijko.set_rate_limit_policy(text, text, integer, interval, text, integer, integer, text, text, boolean, boolean),
    kijko.drop_rate_limit_policy(text, text),
    kijko.set_tier(uuid, text),
    kijko.set_statement_timeout(text, interval),
    kijko.check_request(),
    kijko.claim(text),
    kijko.client_address(),
    kijko.client_network(),
    kijko.subject(text, uuid),
    kijko.token_fault(),
    kijko.access_token_fault(jsonb),
    kijko.admit_known_request(),
    kijko.admit_outside(text, text, text),
    kijko.membership_epoch(),
    kijko.remember_membership(bigint, uuid, uuid, uuid),
    kijko.membership_changed()
from public;
grant execute on function
    kijko.claim(text), kijko.client_address(), kijko.client_network(), kijko.subject(text, uuid), kijko.token_fault(),
    kijko.admit_known_request(), kijko.check_request()
to public;

-- The uses so far.
insert into kijko.ledger (
    id, subject, meter, period_start, amount, kind, occurred_at, recorded_at, idempotency_key
)
select pg_catalog.gen_random_uuid(), g.subject, g.meter, p.starts_at, g.amount, 'import', g.at,
    pg_catalog.clock_timestamp(), g.idempotency_key
from kijko.former_ledger as g
cross join lateral kijko.period_at(g.subject, g.meter, g.at) as p
order by g.id;
alter extension kijko drop sequence kijko.ledger_id_seq;
alter extension kijko drop table kijko.former_ledger;
drop table kijko.former_ledger;

-- As in grants.sql: nobody may execute what is new.
revoke all on function
    kijko.set_limits(uuid[], text[], text[], bigint[], text[]),
    kijko.standing(uuid, text),
    kijko.set_calendar(uuid, text, timestamptz),
    kijko.try_consume_many(uuid[], text, bigint, text, jsonb),
    kijko.consume_many(uuid[], text, bigint, text, jsonb),
    kijko.adjust_gauge(uuid, text, bigint),
    kijko.set_gauge(uuid, text, bigint),
    kijko.book(uuid, text, bigint, timestamptz, bigint, bigint, text, timestamptz, text, text, text, jsonb),
    kijko.clamp(numeric),
    kijko.forget_usage(uuid),
    kijko.limit_headers(kijko.verdict),
    kijko.refuse_use(kijko.verdict, bigint),
    kijko.correct_usage(uuid, text, bigint, text, timestamptz, text),
    kijko.record_usage(uuid, text, bigint, timestamptz, text, jsonb, text),
    kijko.reserve_until(uuid, text, bigint, timestamptz, text),
    kijko.refuse_hold(text, bigint, bigint, timestamptz, integer, bigint),
    kijko.reserve(uuid, text, bigint, interval, text),
    kijko.settle(uuid, bigint, uuid, text),
    kijko.release(uuid),
    kijko.expire_holds(integer),
    kijko.make_ledger_partition(timestamptz, timestamptz),
    kijko.make_ledger_partitions(interval, interval),
    kijko.rollup_usage(integer),
    kijko.rollup_partition(text),
    kijko.detach_ledger_partitions(interval),
    kijko.maintain_usage(),
    kijko.used_now(uuid, text, timestamptz),
    kijko.is_gauge(uuid, text),
    kijko.usage_by_day(uuid, text, date, date),
    kijko.limits_changed(),
    kijko.period_at(uuid, text, timestamptz, text),
    kijko.period_end(uuid, text, timestamptz),
    kijko.calendar_is_changing(uuid, timestamptz),
    kijko.is_time_zone(text),
    kijko.local_day(timestamptz, text)
from public;

-- Reports, explanations and events from other services.
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
comment on function kijko.usage_by(uuid, text, text, date, date) is 'What a subject used of each meter, or of one, by day or by an attribute of the uses (member, project, skill, key, or any other), between two days in its time zone, both included; from the beginning of each meter''s current period when none is given, and of a gauge from the first. Days are whole, also the one in which a billing month begins. value is null for uses without the attribute. Held amounts are not among it.';

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
comment on function kijko.used_since(uuid, text, timestamptz) is 'Internal: what was used since the beginning of an hour.';

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
    -- A lifetime has no length, also one that ends because the limit gets another period.
    cross join lateral (
        select pg_catalog.isfinite(p.starts_at) and pg_catalog.isfinite(p.ends_at)
    ) as f(finite)
    cross join lateral (
        select case when f.finite then extract(epoch from p.ends_at - p.starts_at) end,
            case when f.finite then extract(epoch from present - p.starts_at) end
    ) as t(whole, passed)
    -- In the first hour of a period a single use would promise thousands.
    cross join lateral (select t.whole, greatest(t.passed, least(3600, t.whole))) as s(whole, elapsed)
    where f.finite
    order by u.meter;
end
$$;
comment on function kijko.usage_forecast(uuid) is 'What each meter with a period comes to at its end, by two straight lines: at_period_rate goes on at the rate of this period so far (the first hour counts as a whole one), at_week_rate adds to what is used the rate of the last 7 days (168 hours and the hour begun) for the time that is left.';

create function kijko.crossings(subject uuid, since timestamptz default null)
    returns table (
        meter text, period_start timestamptz, threshold smallint, used bigint, "limit" bigint, crossed_at timestamptz
    )
    language sql stable parallel safe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
    select c.meter, nullif(c.period_start, '-infinity'), c.threshold, c.used, c."limit", c.crossed_at
    from kijko.threshold_crossings as c
    where c.subject = crossings.subject and c.crossed_at >= coalesce(crossings.since, '-infinity')
    order by c.crossed_at desc, c.meter, c.threshold desc
$$;
comment on function kijko.crossings(uuid, timestamptz) is 'When a subject reached 50, 80 and 100 per cent of its limits, the latest first; period_start is null for a lifetime.';

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
comment on function kijko.explain_use(uuid, text, timestamptz) is 'Internal: the rows that make a counter: what is rolled up, what came since by kind, what is held, and the latest ten.';

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
    if subject is null or meter is null then
        perform kijko.fail('invalid_input', 'a subject and a meter');
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
        when l."over" <> 'refuse' then pg_catalog.format(
            'Used %s of %s; what goes beyond is booked and %s, never refused here.', used, l.amount,
            case l."over" when 'bill' then 'billed' else 'flagged' end
        )
        when used < l.amount then pg_catalog.format('Used %s of %s; up to %s more are allowed.', used, l.amount, remaining)
        when p.period = 'lifetime' then pg_catalog.format(
            'Used %s of %s; any more is refused with quota_exceeded until something is given back or the limit is raised.', used, l.amount
        )
        else pg_catalog.format(
            'Used %s of %s; any more is refused with quota_exceeded until %s, or until the limit is raised.', used, l.amount,
            pg_catalog.to_char(p.ends_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
        )
    end;
    return pg_catalog.jsonb_build_object(
        'meter', meter,
        'answer', answer,
        'used', used,
        'remaining', remaining,
        'refuses', coalesce(l."over" = 'refuse' and used >= l.amount, false),
        'limit', case when l.subject is not null then pg_catalog.jsonb_build_object(
            'amount', l.amount, 'period', l.period, 'over', l."over", 'next_period', l.next_period,
            'next_period_from', l.next_period_from
        ) end,
        'period', pg_catalog.jsonb_build_object(
            'kind', p.period, 'starts_at', nullif(p.starts_at, '-infinity'), 'ends_at', nullif(p.ends_at, 'infinity'),
            'time_zone', coalesce((select c.time_zone from kijko.calendars as c where c.subject = explain_limit.subject), 'UTC')
        ),
        'rows', kijko.explain_use(explain_limit.subject, explain_limit.meter, p.starts_at),
        'crossings', (
            select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                'threshold', c.threshold, 'used', c.used, 'limit', c."limit", 'crossed_at', c.crossed_at
            ) order by c.threshold)
            from kijko.threshold_crossings as c
            where c.subject = explain_limit.subject and c.meter = explain_limit.meter and c.period_start = p.starts_at
        )
    );
end
$$;
comment on function kijko.explain_limit(uuid, text) is 'Why a use of a meter is allowed or refused now: the answer in words, the limit and its period, and the rows that the use is made of.';

CREATE  FUNCTION "event_time"(
	"text" TEXT /* & str */
) RETURNS timestamp with time zone /* Option < TimestampWithTimeZone > */
IMMUTABLE STRICT PARALLEL SAFE
LANGUAGE c /* Rust */
AS 'MODULE_PATHNAME', 'event_time_wrapper';

create table kijko.ingested_events (
    subject uuid not null,
    event uuid not null,
    meter text collate "C" not null,
    amount bigint not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    primary key (subject, event)
);
comment on table kijko.ingested_events is 'Events that kijko.ingest_usage has counted, kept for 36 days: none of them counts twice, since one that happened more than 35 days ago is refused.';
comment on column kijko.ingested_events.subject is 'Whose use.';
comment on column kijko.ingested_events.event is 'kijko.event_key of its source and id: the index of millions of random ids stays small enough to be in memory.';
comment on column kijko.ingested_events.meter is 'The meter that it was booked to.';
comment on column kijko.ingested_events.amount is 'How much.';
comment on column kijko.ingested_events.occurred_at is 'When, as it was told.';
comment on column kijko.ingested_events.received_at is 'When it was told, by the real clock.';
-- Rows come in the order of this, so a summary of each stretch is enough, and costs a new row nothing.
create index ingested_events_received_at on kijko.ingested_events using brin (received_at) with (autosummarize = on);
comment on index kijko.ingested_events_received_at is 'Finds the events that are old enough to be forgotten.';
select pg_catalog.pg_extension_config_dump('kijko.ingested_events', '');

comment on function kijko.event_time(text) is 'Internal: an RFC 3339 time; null for anything else.';

create function kijko.event_key(source text, id text) returns uuid
    language sql immutable parallel safe
    return pg_catalog.md5((pg_catalog.length(source)::text operator(pg_catalog.||) ':' operator(pg_catalog.||) source operator(pg_catalog.||) id))::uuid;
comment on function kijko.event_key(text, text) is 'The key of an event in kijko.ingested_events: MD5 of its source and id. Whoever made two of their own events alike would have one of them not counted, and harm nobody else.';

create function kijko.judge_events(events jsonb, meters jsonb, present timestamptz)
    returns table (
        number integer, source text, id text, meter text, amount bigint, at timestamptz, purpose text[], code text, reason text
    )
    language sql stable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    with told as (
        select e.number::integer as number, pg_catalog.jsonb_typeof(e.event) as form, e.event ->> 'specversion' as version,
            e.event ->> 'source' as source, e.event ->> 'id' as id, e.event ->> 'type' as type, e.event ->> 'subject' as subject,
            e.event ->> 'time' as time, e.event -> 'data' as data, meters -> (e.event ->> 'type') as rule
        from pg_catalog.jsonb_array_elements(events) with ordinality as e(event, number)
    ),
    read as materialized (
        select t.*, t.rule ->> 'meter' as meter,
            case when t.rule ->> 'field' is null then '1' else t.data -> (t.rule ->> 'field') end as value,
            case when t.time is null then present else kijko.event_time(t.time) end as at,
            -- Made an object only once they are summed up.
            array[t.subject, t.data ->> 'member', t.data ->> 'project', t.data ->> 'skill', t.data ->> 'key'] as purpose
        from told as t
    ),
    weighed as materialized (
        select r.*, case when pg_catalog.jsonb_typeof(r.value) = 'number' then r.value::numeric end as amount from read as r
    ),
    judged as (
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
        from weighed as w
    )
    select j.number, j.source collate "C", j.id collate "C", j.meter,
        case when j.reason is null then j.amount::bigint end, j.at, j.purpose,
        case when j.reason is not null then case when j.reason like 'type: %' then 'not_found' else 'invalid_input' end end,
        j.reason
    from judged as j
$$;
comment on function kijko.judge_events(jsonb, jsonb, timestamptz) is 'Internal: reads a batch of CloudEvents; reason says why one cannot be counted.';

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
        perform kijko.fail('invalid_input', 'a subject, and an object that says which meter counts which type of event');
    end if;
    if pg_catalog.jsonb_typeof(events) is distinct from 'array' then
        perform kijko.fail('invalid_input', 'events: an array of CloudEvents');
    end if;
    if pg_catalog.jsonb_array_length(events) > 10000 or pg_catalog.pg_column_size(events) > 8388608 then
        perform kijko.fail('invalid_input', 'events: at most 10000 and 8 MiB in one call', 'Send them in smaller batches.');
    end if;
    return query
    with judged as materialized (
        select j.* from kijko.judge_events(events, meters, present) as j
    ),
    -- An event may be told twice in one batch. In order, so that two batches with the same events wait for each other
    -- rather than in a circle.
    first as materialized (
        select distinct on (k.event) j.*, k.event
        from judged as j
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
    -- One row of the ledger for what a batch tells of a quarter of an hour: the finest that a day can begin at.
    summed as (
        select d.meter, d.period_start, d.after_its_period, d.purpose, pg_catalog.sum(d.amount)::bigint as amount,
            pg_catalog.min(d.at) as at, pg_catalog.count(*) as events
        from dated as d
        group by d.meter, d.period_start, d.after_its_period, pg_catalog.date_bin('15 minutes', d.at, '2000-01-01 00:00Z'), d.purpose
    ),
    booked as materialized (
        select kijko.book(
            ingest_usage.subject, s.meter, s.amount, s.period_start, 0, 0, 'late', s.at, null, who,
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
    from judged as j
    left join accepted as a on a.number = j.number
    -- Asked for, so that it is done.
    cross join (select pg_catalog.count(*) filter (where b.done) from booked as b) as all_booked(rows)
    order by j.number;
end
$$;
comment on function kijko.ingest_usage(uuid, jsonb, jsonb) is 'Counts a batch of CloudEvents 1.0 (at most 10,000 and 8 MiB), each once by source and id, and answers for each: accepted, duplicate, or refused with code and reason. meters says what counts a type: {"<type>": {"meter": "<meter>", "field": "<number in data>"}}; without a field each event is 1. An event counts whatever the limit says, in the period of its time (up to 35 days ago), with subject and data''s member, project, skill and key as attributes.';

revoke all on function
    kijko.usage_by(uuid, text, text, date, date),
    kijko.used_since(uuid, text, timestamptz),
    kijko.usage_forecast(uuid),
    kijko.crossings(uuid, timestamptz),
    kijko.explain_use(uuid, text, timestamptz),
    kijko.explain_limit(uuid, text),
    kijko.event_time(text),
    kijko.event_key(text, text),
    kijko.judge_events(jsonb, jsonb, timestamptz),
    kijko.ingest_usage(uuid, jsonb, jsonb)
from public;

-- With an empty path a caller's temporary types come before those of Postgres, and their checks would run as the superuser.
alter function kijko.response_headers() set search_path = pg_catalog, pg_temp;
alter function kijko.fail(text, text, text) set search_path = pg_catalog, pg_temp;
alter function kijko.cron_check(text, text) set search_path = pg_catalog, pg_temp;
alter function kijko.cron_next(text, text, timestamptz) set search_path = pg_catalog, pg_temp;
alter function kijko.cron_upcoming(text, text, timestamptz, integer) set search_path = pg_catalog, pg_temp;
alter function kijko.revoke_session(uuid, timestamptz) set search_path = pg_catalog, pg_temp;
comment on column kijko.revoked_sessions.expires_at is 'End of the revocation; after it the row may be deleted.';
comment on function kijko.revoke_session(uuid, timestamptz) is 'Revokes a session from the next statement on until the given time: its tokens identify no user. The default of one day outlasts the last token of a session that has ended. A later call can only extend the revocation.';
create function kijko.restore_session(session_id uuid) returns void
    language sql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
    delete from kijko.revoked_sessions as r where r.session_id = restore_session.session_id
$$;
comment on function kijko.restore_session(uuid) is 'Ends a revocation: unexpired tokens of the session identify their user again, from the commit on.';
revoke all on function kijko.restore_session(uuid) from public;

create function kijko.forget_subject(subject uuid) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    if subject is null then
        perform kijko.fail('invalid_input', 'the subject must not be null');
    end if;
    -- Even a delete of no rows makes every backend read these tables again.
    if exists (select from kijko.limits as l where l.subject = forget_subject.subject) then
        delete from kijko.limits as l where l.subject = forget_subject.subject;
    end if;
    if exists (select from kijko.calendars as c where c.subject = forget_subject.subject) then
        delete from kijko.calendars as c where c.subject = forget_subject.subject;
    end if;
    perform kijko.set_tier(subject, null);
    delete from kijko.holds as h where h.subject = forget_subject.subject;
    delete from kijko.idempotency_keys as k where k.subject = forget_subject.subject;
    delete from kijko.ingested_events as e where e.subject = forget_subject.subject;
    delete from kijko.threshold_crossings as c where c.subject = forget_subject.subject;
    perform kijko.forget_usage(subject);
end
$$;
comment on function kijko.forget_subject(uuid) is 'Deletes the state of a subject that no longer exists: limits, calendar, tier, holds, idempotency keys, ingested events and crossings. Its use stays in the ledger and its sums, which are accounting and hold no more than the id.';
revoke all on function kijko.forget_subject(uuid) from public;

-- A gauge has no period.
update kijko.error_codes set meaning = 'The limit is reached.' where code = 'quota_exceeded';

-- Keys of other kinds, and tokens that are no access tokens.
comment on function kijko.sign_jwt(jsonb) is 'Signs an object of claims with the first key of kijko.jwt_key_file, by the algorithm of its kind: RS256 (RSA), ES256 (EC P-256) or EdDSA (Ed25519). Adds no claims; the header names the key (kid, its RFC 7638 thumbprint).';
comment on function kijko.verify_jwt(text) is 'The claims of a token that a key of kijko.jwt_key_file signed (chosen by kid, which brings its algorithm along) and that is valid at this second: exp is required, no leeway, nbf counts, iat may be 30 seconds ahead. What the token is for is the caller''s business: see kijko.access_token_fault(). Null for anything else.';
comment on function kijko.access_token_fault(jsonb) is 'Whether verified claims are those of an access token: the first claim (role, iss, exp, iat, aud or sub) that is missing or wrong; null when all are right. The same keys also sign other tokens, which must not give access.';

create function kijko.platform_org_id() returns uuid
    language sql immutable parallel safe
return '00000000-0000-4000-8000-000000000001'::uuid;
comment on function kijko.platform_org_id() is 'The organization that owns rows of the platform itself, a constant. It has no members, so no user sees its rows.';

create function kijko.requested_org_id() returns uuid
    language c stable parallel safe as 'MODULE_PATHNAME', 'kijko_requested_org_id';
comment on function kijko.requested_org_id() is 'The organization that the request names: header x-org-id, else the claim org_id; null when it names none. Fails with bad_request when the header is not a uuid. Says nothing of whether the caller is a member.';

revoke all on function kijko.platform_org_id(), kijko.requested_org_id() from public;
grant execute on function kijko.platform_org_id(), kijko.requested_org_id() to public;

create type kijko.caller as (
    kind text,
    user_id uuid,
    api_key_id uuid,
    org_id uuid
);
comment on type kijko.caller is 'The caller of a request (kijko.actor).';
comment on column kijko.caller.kind is 'user, personal_key, service_key, publishable_key, service (the service key of the installation), anonymous, or none (no claims that count).';
comment on column kijko.caller.user_id is 'The user; of a personal key its owner. Null for any other caller.';
comment on column kijko.caller.api_key_id is 'The API key. Null for any other caller.';
comment on column kijko.caller.org_id is 'The organization of the API key. Null for any other caller.';

create function kijko.actor() returns kijko.caller
    language c stable parallel safe as 'MODULE_PATHNAME', 'kijko_actor';
comment on function kijko.actor() is 'The caller of this request. Functions that decide by the caller use it instead of kijko.user_id(), which is null for a service key. After its session was revoked, and in a login that is not trusted (kijko.trusted_session_users), a token is nobody''s: kind none. Write (select kijko.actor()) in a policy, so that it runs once.';
revoke all on function kijko.actor() from public;
grant execute on function kijko.actor() to public;
