-- Partitions, rollup and reports. They use the real clock, so only sums are shown.
\set SHOW_CONTEXT never
\pset null '<null>'
set timezone to 'UTC';
set datestyle to iso;
create function l(n integer) returns uuid language sql immutable as $$ select ('eeeeeeee-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
create function where_are_they(subject uuid) returns table (place text, amount numeric) language sql as $$
    select case when tableoid = 'kijko.ledger_default'::regclass then 'default' else 'partition' end, sum(g.amount)
    from kijko.ledger as g where g.subject = where_are_they.subject group by 1 order by 1
$$;
select kijko.set_limit(l(1), 'x', 'lifetime', 10);
select kijko.set_calendar(l(1), 'Asia/Kolkata');
select used from kijko.consume(l(1), 'x', 3);
select * from where_are_they(l(1));
-- Partitions of a second, so that they are soon over.
select kijko.make_ledger_partitions('3 seconds', '1 second') > 0 as made;
select * from where_are_they(l(1));
select kijko.make_ledger_partitions('1 hour', '1 hour') > 0 as made;
select used from kijko.consume(l(1), 'x', 2);
select * from where_are_they(l(1));
-- Attributes that are too large for an index.
select used from kijko.consume_many(array[l(3)], 'x', 1, null, jsonb_build_object('note', (select string_agg(md5(n::text), '') from generate_series(1, 300) as n)));
select pg_sleep(4.1) is not null as slept;
select kijko.rollup_usage(1000) > 0 as rolled;
select amount, overage, entries from kijko.usage_totals where subject = l(1);
select sum(amount) as amount, sum(entries) as entries from kijko.usage_hourly where subject = l(1);
select attributes, amount from kijko.usage_daily where subject = l(3);
select used from kijko.usage(l(1));
select used from kijko.consume(l(1), 'x', 1);
-- Loaded from the tables again, the sum is the same.
select kijko.reload_counters(l(1));
select used from kijko.consume(l(1), 'x', 1);
select allowed, used from kijko.try_consume(l(1), 'x', 4);
select sum(amount) as amount, sum(entries) as entries from kijko.usage_by_day(l(1), 'x', '2000-01-01', '3000-01-01');
-- Reports include rolled-up and other rows.
select sum(used) as used, sum(entries) as entries from kijko.usage_by(l(1), 'day');
select value, used from kijko.usage_by(l(1), 'member');
select kijko.used_since(l(1), 'x', date_trunc('hour', now(), 'UTC') - interval '1 hour') as used;
select e #> '{rows,rolled_up}' as rolled_up, e #> '{rows,since_then}' as since_then, e -> 'used' as used from kijko.explain_limit(l(1), 'x') as e;
-- Rolled-up partitions get no more rows.
select count(*) from kijko.ledger_partitions as p, kijko.rollup_state as r where (p.rolled_at is not null) <> (p.ends_at <= r.rolled_until);
-- Detached partitions belong to the superuser, also when another role made their schema.
create role squatter;
create schema kijko_archive authorization squatter;
select kijko.detach_ledger_partitions('0') > 0 as detached;
select nspowner = 10 as superusers from pg_namespace where nspname = 'kijko_archive';
drop role squatter;
select used from kijko.usage(l(1));
select kijko.reload_counters(l(1));
select allowed, used from kijko.try_consume(l(1), 'x', 4);
begin isolation level repeatable read;
select kijko.rollup_usage();
rollback;
select kijko.make_ledger_partitions('1 hour', '0');
-- A partition of a day is one of UTC, also where the day has 23 or 25 hours.
set statement_timeout = '1min';
set timezone = 'Europe/Amsterdam';
select to_char(b at time zone 'UTC', 'MM-DD HH24:MI') as boundary from unnest(kijko.ledger_boundaries('2026-03-28 00:00Z', '2026-03-30 00:00Z', '1 day')) as b;
select to_char(b at time zone 'UTC', 'MM-DD HH24:MI') as boundary from unnest(kijko.ledger_boundaries('2026-10-24 12:00Z', '2026-10-26 00:00Z', '1 day')) as b;
set timezone = 'UTC';
reset statement_timeout;
select task from kijko.maintain_usage();
-- Calendars: that of a new subject applies at once, that of a used one from the next period on.
select kijko.set_calendar(l(2), 'America/New_York', '2026-01-31 12:00Z');
select starts_at, ends_at from kijko.period_at(l(2), 'x', '2026-03-05 00:00Z');
select kijko.set_limit(l(2), 'x', 'billing', 5);
select period, starts_at, ends_at from kijko.period_at(l(2), 'x', '2026-03-05 00:00Z');
select kijko.set_calendar(l(2), 'America/New_York', null);
select former_time_zone, former_billing_anchor, changed_at from kijko.calendars where subject = l(2);
begin;
set local kijko.clock_offset = '0';
select used from kijko.consume(l(2), 'x');
select reset_at as before from kijko.try_consume(l(2), 'x') \gset
select kijko.set_calendar(l(2), 'Pacific/Auckland');
select used, reset_at >= :'before' as waits from kijko.try_consume(l(2), 'x');
select kijko.set_calendar(l(2), 'Pacific/Auckland');
select kijko.set_calendar(l(2), 'Europe/Amsterdam');
rollback;
select kijko.set_calendar(l(2), 'Mars/Olympus');
select kijko.set_calendar(null, 'UTC');
-- Restores the schemas.
select kijko.reload_counters();
set client_min_messages = warning;
drop schema kijko_archive cascade;
