-- Meters are compared by bytes ("C"): faster, and the same in every locale.
create table kijko.limits (
    subject uuid not null,
    -- The length apart: a bounded repeat such as {0,62} makes matching more than ten times slower.
    meter text collate "C" not null check (pg_catalog.octet_length(meter) <= 63 and meter ~ '^[a-z][a-z0-9_.]*$'),
    period text not null check (period in ('day', 'month', 'billing', 'lifetime')),
    amount bigint check (amount >= 0),
    "over" text not null check ("over" in ('refuse', 'flag', 'bill')),
    next_period text check (next_period in ('day', 'month', 'billing', 'lifetime')),
    next_period_from timestamptz,
    period_from timestamptz,
    primary key (subject, meter),
    check ((next_period is null) = (next_period_from is null))
);
comment on table kijko.limits is 'One limit for each subject and meter. A meter without a row is unlimited and monthly, a gauge without a row unlimited.';
comment on column kijko.limits.subject is 'Whose limit: any uuid, here an organization, project or key.';
comment on column kijko.limits.meter is 'What is counted.';
comment on column kijko.limits.period is 'Day, calendar month or billing month by the subject''s calendar, or lifetime, which never starts again.';
comment on column kijko.limits.amount is 'How much; null is unlimited.';
comment on column kijko.limits."over" is 'What happens above it: refuse; flag or bill allow it and say so in the verdict and in the ledger.';
comment on column kijko.limits.next_period is 'A changed period, which waits for the current one to end.';
comment on column kijko.limits.next_period_from is 'When it takes effect.';
comment on column kijko.limits.period_from is 'When the period last changed to another kind: a period that was running then began at that moment. Null when it never did.';

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

create table kijko.idempotency_keys (
    subject uuid not null,
    meter text collate "C" not null,
    key text collate "C" not null check (pg_catalog.length(key) between 1 and 255),
    amount bigint not null,
    created_at timestamptz not null,
    code text,
    used bigint,
    "limit" bigint,
    reset_at timestamptz,
    primary key (subject, meter, key)
);
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
create index idempotency_keys_created_at on kijko.idempotency_keys (created_at);
comment on index kijko.idempotency_keys_created_at is 'Finds the keys that are old enough to be forgotten.';

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
select pg_catalog.pg_extension_config_dump('kijko.limits', '');
select pg_catalog.pg_extension_config_dump('kijko.calendars', '');
select pg_catalog.pg_extension_config_dump('kijko.ledger_default', '');
select pg_catalog.pg_extension_config_dump('kijko.ledger_partitions', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_totals', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_hourly', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_daily', '');
select pg_catalog.pg_extension_config_dump('kijko.idempotency_keys', '');
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
