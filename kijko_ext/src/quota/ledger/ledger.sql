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
comment on table kijko.ledger is 'One row for each use, never changed. Counters in shared memory and the rolled-up tables are sums of it. Only the extension writes it; call kijko.reload_counters() after any other change.';
comment on column kijko.ledger.id is 'UUID version 7: roughly in order of arrival. Not indexed.';
comment on column kijko.ledger.subject is 'Subject.';
comment on column kijko.ledger.meter is 'Meter.';
comment on column kijko.ledger.period_start is 'Start of the period it counts in. -infinity for a lifetime.';
comment on column kijko.ledger.amount is 'Units. Negative for corrections and for decreases of gauges.';
comment on column kijko.ledger.overage is 'The part above a limit that flags or bills.';
comment on column kijko.ledger.kind is 'use, gauge, settle (of a hold), backfill (recorded after its time), correction or import.';
comment on column kijko.ledger.occurred_at is 'When it happened, by kijko.now() or by the reporter.';
comment on column kijko.ledger.recorded_at is 'When the row was written, by the real clock. Never earlier than the end of the rolled-up part.';
comment on column kijko.ledger.idempotency_key is 'Idempotency key of the call, if any.';
comment on column kijko.ledger.actor is 'Who corrected or reported it.';
comment on column kijko.ledger.reason is 'Reason.';
comment on column kijko.ledger.attributes is 'Attributes of the use: member, project, skill, key (kijko.usage_attributes).';
create table kijko.ledger_default partition of kijko.ledger default;
-- Each partition has its own index, and the ledger as a whole has none: a restored dump creates the partitions' indexes itself.
create index ledger_default_by_counter on kijko.ledger_default (subject, meter, period_start);
comment on index kijko.ledger_default_by_counter is 'Finds the rows of a counter that are not rolled up yet.';
-- Rows are moved out of it. Where deletions are published, a row has to be found on the other side, and it has no key.
alter table kijko.ledger replica identity full;
alter table kijko.ledger_default replica identity full;
comment on table kijko.ledger_default is 'Rows of times without a partition. kijko.make_ledger_partitions() moves them when it makes one.';

create table kijko.ledger_partitions (
    partition text primary key,
    starts_at timestamptz not null unique,
    ends_at timestamptz not null unique check (ends_at > starts_at),
    rolled_at timestamptz,
    detached_at timestamptz check (detached_at is null or rolled_at is not null)
);
comment on table kijko.ledger_partitions is 'The partitions of kijko.ledger by recorded_at. There are no gaps: each starts at the end of the former.';
comment on column kijko.ledger_partitions.partition is 'Table, with its schema.';
comment on column kijko.ledger_partitions.starts_at is 'Start, inclusive.';
comment on column kijko.ledger_partitions.ends_at is 'End, exclusive.';
comment on column kijko.ledger_partitions.rolled_at is 'When it was rolled up. Nothing is written to it afterwards.';
comment on column kijko.ledger_partitions.detached_at is 'When it was detached from the ledger, to be archived or dropped.';

create index ledger_partitions_rolled on kijko.ledger_partitions (ends_at) where rolled_at is not null;
comment on index kijko.ledger_partitions_rolled is 'Finds the end of the rolled-up part.';
create index ledger_partitions_not_rolled on kijko.ledger_partitions (starts_at) where rolled_at is null;
comment on index kijko.ledger_partitions_not_rolled is 'Finds the partitions that are not rolled up yet.';

-- A large default partition is emptied in steps (partitions.sql).
create table kijko.ledger_default_bounds (
    recorded_from timestamptz not null,
    recorded_until timestamptz not null check (recorded_until > recorded_from)
);
comment on table kijko.ledger_default_bounds is 'One row: which rows the default partition takes. Without bounds, -infinity to infinity. kijko.make_ledger_partitions() sets bounds while it moves many rows out; a row that is recorded outside of them is given the nearest time.';
comment on column kijko.ledger_default_bounds.recorded_from is 'Start, inclusive.';
comment on column kijko.ledger_default_bounds.recorded_until is 'End, exclusive.';
create unique index ledger_default_bounds_one on kijko.ledger_default_bounds ((true));
comment on index kijko.ledger_default_bounds_one is 'There is one row.';
alter table kijko.ledger_default_bounds replica identity full; -- it has no key
insert into kijko.ledger_default_bounds values ('-infinity', 'infinity');

create view kijko.rollup_state as
    select coalesce(
            (select pg_catalog.max(p.ends_at) from kijko.ledger_partitions as p where p.rolled_at is not null),
            -- While there are bounds, the default partition has earlier rows.
            (
                select pg_catalog.min(p.starts_at) from kijko.ledger_partitions as p
                where not exists (select from kijko.ledger_default_bounds as b where pg_catalog.isfinite(b.recorded_from) or pg_catalog.isfinite(b.recorded_until))
            ),
            '-infinity'
        ) as rolled_until;
comment on view kijko.rollup_state is 'The end of the rolled-up part of the ledger.';
comment on column kijko.rollup_state.rolled_until is 'Rows recorded before this time are in kijko.usage_totals, later ones are not.';

create table kijko.usage_totals (
    subject uuid not null,
    meter text collate "C" not null,
    period_start timestamptz not null,
    amount bigint not null,
    overage bigint not null,
    entries bigint not null,
    primary key (subject, meter, period_start)
);
comment on table kijko.usage_totals is 'The rolled-up part of the ledger by period. The load of a counter starts from it.';
comment on column kijko.usage_totals.subject is 'Subject.';
comment on column kijko.usage_totals.meter is 'Meter.';
comment on column kijko.usage_totals.period_start is 'Start of the period.';
comment on column kijko.usage_totals.amount is 'Units.';
comment on column kijko.usage_totals.overage is 'The part above the limit.';
comment on column kijko.usage_totals.entries is 'Number of ledger rows.';

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
comment on table kijko.usage_hourly is 'The rolled-up part of the ledger by hour and attributes.';
comment on column kijko.usage_hourly.subject is 'Subject.';
comment on column kijko.usage_hourly.meter is 'Meter.';
comment on column kijko.usage_hourly.hour is 'Hour in which it occurred.';
comment on column kijko.usage_hourly.attributes is 'Attributes of the use. {} for none.';
comment on column kijko.usage_hourly.amount is 'Units.';
comment on column kijko.usage_hourly.overage is 'The part above the limit.';
comment on column kijko.usage_hourly.entries is 'Number of ledger rows.';

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
comment on table kijko.usage_daily is 'The rolled-up part of the ledger by day in the subject''s time zone and by attributes.';
comment on column kijko.usage_daily.subject is 'Subject.';
comment on column kijko.usage_daily.meter is 'Meter.';
comment on column kijko.usage_daily.day is 'Day on which it occurred.';
comment on column kijko.usage_daily.attributes is 'Attributes of the use. {} for none.';
comment on column kijko.usage_daily.amount is 'Units.';
comment on column kijko.usage_daily.overage is 'The part above the limit.';
comment on column kijko.usage_daily.entries is 'Number of ledger rows.';

create index usage_hourly_hour on kijko.usage_hourly (hour);
comment on index kijko.usage_hourly_hour is 'Finds sums that are old enough to be deleted.';
create index usage_daily_day on kijko.usage_daily (day);
comment on index kijko.usage_daily_day is 'Finds sums that are old enough to be deleted.';

create function kijko.clamp(total numeric) returns bigint
    language sql immutable parallel safe
    return least(greatest(total, -9223372036854775808), 9223372036854775807)::bigint;
comment on function kijko.clamp(numeric) is 'Internal: a sum as a bigint, limited to its range. An overflow must not fail, because one rollup sums the use of all subjects.';

-- A dump contains customers' usage, not only the extension. The other partitions are no members of the extension, so they are
-- dumped anyway.
select pg_catalog.pg_extension_config_dump('kijko.ledger_default', '');
select pg_catalog.pg_extension_config_dump('kijko.ledger_partitions', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_totals', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_hourly', '');
select pg_catalog.pg_extension_config_dump('kijko.usage_daily', '');

create trigger invalidate_cache after insert or update or delete on kijko.ledger_partitions
    for each row execute function kijko.invalidate_cache('ledger_partitions');
create trigger invalidate_cache_truncated after truncate on kijko.ledger_partitions
    for each statement execute function kijko.invalidate_cache('ledger_partitions');
alter table kijko.ledger_partitions enable always trigger invalidate_cache;
create trigger invalidate_cache after update on kijko.ledger_default_bounds
    for each row execute function kijko.invalidate_cache('ledger_partitions');
alter table kijko.ledger_default_bounds enable always trigger invalidate_cache;
alter table kijko.ledger_partitions enable always trigger invalidate_cache_truncated;
