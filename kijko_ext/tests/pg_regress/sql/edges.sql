-- Attempts of an attacker: the limits of numbers and of time, keys of every length, holds of other subjects, unusual places
-- to call from. Nothing is allowed by mistake, and nothing blocks the rollup of other subjects.
\set SHOW_CONTEXT never
\pset null '<null>'
set timezone to 'UTC';
set datestyle to iso;
create function e(n integer) returns uuid language sql immutable as $$ select ('bbbbbbbb-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- Amounts that would overflow a counter are refused in every function.
select used from kijko.consume(e(1), 'x', 9223372036854775807);
select used from kijko.consume(e(1), 'x', 1);
select kijko.record_usage(e(1), 'x', 1, now());
select kijko.correct_usage(e(1), 'x', 1, 'more');
select kijko.reserve(e(1), 'x', 1);
select used from kijko.usage(e(1));
select kijko.correct_usage(e(1), 'x', -9223372036854775808, 'less than nothing');
select kijko.correct_usage(e(1), 'x', -9223372036854775807, 'all of it');
select kijko.correct_usage(e(1), 'x', -9223372036854775807, 'and again');
select kijko.correct_usage(e(1), 'x', -2, 'and a little');
-- So are several decreases in one transaction.
begin;
select used from kijko.consume(e(60), 'x', 10);
select kijko.correct_usage(e(60), 'x', -9223372036854775807, 'all there is');
savepoint more;
select kijko.correct_usage(e(60), 'x', -10, 'and more');
rollback to more;
select used from kijko.quota_status(e(60), 'x');
commit;
select used from kijko.quota_status(e(60), 'x');
-- From far below zero a transaction could reserve more than a bigint. It cannot.
begin;
select used from kijko.consume(e(1), 'x', 9223372036854775807);
savepoint a;
select used from kijko.consume(e(1), 'x', 9223372036854775807);
rollback to a;
savepoint a;
select allowed, used from kijko.try_consume(e(1), 'x', 9223372036854775807);
release a;
rollback;
select used from kijko.usage(e(1));
select allowed, used from kijko.try_consume(e(1), 'x', 1);
select kijko.set_limit(e(1), 'x', 'month', 9223372036854775807);
select used, remaining from kijko.usage(e(1));
select kijko.explain_limit(e(1), 'x') ->> 'remaining' as remaining;
select used from kijko.set_gauge(e(2), 'g', 9223372036854775807);
select used from kijko.adjust_gauge(e(2), 'g', 1);
select used from kijko.set_gauge(e(2), 'g', 0);
select used from kijko.adjust_gauge(e(2), 'g', -9223372036854775808);
select used from kijko.adjust_gauge(e(2), 'g', -9223372036854775808);
select used from kijko.set_gauge(e(2), 'g', 1);
-- A key that one statement uses several times charges once, and each call gets the verdict of the first.
select v.allowed, v.used from generate_series(1, 3) as n, kijko.try_consume(e(70), 'x', 2 + 0 * n, 'statement') as v;
select v.allowed, v.used from generate_series(1, 3) as n, kijko.try_consume_many(array[e(70), e(71)], 'y', 2 + 0 * n, 'statement') as v;
select count(distinct kijko.reserve(e(71), 'z', 3 + 0 * n, '1 hour', 'statement')) as holds from generate_series(1, 3) as n;
select kijko.record_usage(e(71), 'w', 4 + 0 * n, now(), 'statement') as recorded from generate_series(1, 3) as n;
-- Under another amount, it conflicts in the same statement.
select v.used from generate_series(1, 2) as n, kijko.try_consume(e(70), 'v', n, 'statement') as v;
-- What a rolled-back part of a statement charged is free again.
create function fails_once(n bigint) returns bigint language plpgsql as $$
declare
    verdict kijko.verdict;
begin
    verdict := kijko.try_consume(e(70), 'u', 5, 'part');
    if n = 1 then raise 'part'; end if;
    return verdict.used;
exception
    when raise_exception then return null;
end
$$;
select n, fails_once(n) as used from generate_series(1, 3) as n;
drop function fails_once(bigint);
select count(*) as rows, sum(amount) as amount from kijko.ledger where subject in (e(70), e(71)) group by subject, meter order by subject, meter;
-- A sum by attributes overflows a bigint. The rollup limits it and does not fail.
select used from kijko.consume(e(3), 'y', 9223372036854775807);
select kijko.correct_usage(e(3), 'y', -9223372036854775807, 'back');
select used from kijko.consume(e(3), 'y', 9223372036854775806);
create function sums(subject uuid) returns table (of text, amount bigint) language sql as $$
    select 'day', t.amount from kijko.usage_daily as t where t.subject = sums.subject
    union all select 'hour', t.amount from kijko.usage_hourly as t where t.subject = sums.subject
    union all select 'period', t.amount from kijko.usage_totals as t where t.subject = sums.subject
$$;
begin;
select kijko.rollup_partition('kijko.ledger');
select kijko.rollup_partition('kijko.ledger');
select * from sums(e(3));
rollback;
drop function sums;
-- Limits of 0, and limits lowered below the use.
select kijko.set_limit(e(4), 'x', 'lifetime', 0);
select allowed, used, remaining, retry_after from kijko.try_consume(e(4), 'x');
select kijko.reserve(e(4), 'x', 1);
select kijko.set_limit(e(4), 'x', 'lifetime', 5);
begin;
select used from kijko.consume(e(4), 'x', 4);
select kijko.set_limit(e(4), 'x', 'lifetime', 1);
select allowed, used, remaining from kijko.try_consume(e(4), 'x');
rollback;
select allowed, used from kijko.try_consume(e(4), 'x', 5);
-- The limits of time.
select kijko.record_usage(e(5), 'x', 1, 'infinity');
select kijko.record_usage(e(5), 'x', 1, '-infinity');
select kijko.record_usage(e(5), 'x', 1, now() + interval '1 day');
select kijko.correct_usage(e(5), 'x', 1, 'never', 'infinity');
select kijko.correct_usage(e(5), 'x', 1, 'next month', now() + interval '1 month');
select kijko.set_calendar(e(5), 'UTC', 'infinity');
select kijko.record_usage(e(5), 'x', 1, '0001-01-01 00:00Z BC');
select period_start from kijko.ledger where subject = e(5);
select kijko.reserve(e(5), 'x', 1, '0');
select kijko.reserve(e(5), 'x', 1, '300000 years');
-- Days and months with clock changes: 23 and 25 hours, a midnight that does not exist (Beirut). No use is lost or counted twice.
select kijko.set_calendar(e(6), 'Asia/Beirut'), kijko.set_calendar(e(7), 'America/New_York');
select kijko.set_limit(e(6), 'x', 'day', 1), kijko.set_limit(e(7), 'x', 'day', 1);
select s.n, d.at, p.starts_at, p.ends_at, p.ends_at - p.starts_at as long
from (values (6, timestamptz '2026-03-28 12:00Z'), (6, '2026-03-29 12:00Z'), (7, '2026-03-08 12:00Z'), (7, '2026-11-01 12:00Z')) as s(n, at)
cross join lateral (select s.at) as d(at)
cross join lateral kijko.period_at(e(s.n), 'x', s.at) as p;
select count(*) as gaps from generate_series(timestamptz '2026-01-01', '2026-12-31', '1 hour') as h(at)
cross join lateral kijko.period_at(e(6), 'x', h.at) as p
cross join lateral kijko.period_at(e(6), 'x', p.ends_at) as n
where not (p.starts_at <= h.at and h.at < p.ends_at) or n.starts_at <> p.ends_at;
-- Idempotency keys of every length, and the same key of another subject.
select left(k.key, 3) as key, length(k.key), (select allowed from kijko.try_consume(e(8), 'x', 1, k.key)) from (values ('k'), (repeat('ü', 255)), (E'a\nb'' "')) as k(key);
select kijko.try_consume(e(8), 'x', 1, repeat('k', 10000));
select kijko.reserve(e(8), 'x', 1, '1 hour', repeat('k', 10000));
select kijko.reserve(e(8), 'x', 1, '1 hour', '');
select kijko.record_usage(e(8), 'x', 1, now(), repeat('k', 10000));
select allowed, used from kijko.try_consume(e(9), 'x', 7, 'k');
select used from kijko.usage(e(8));
-- Holds: of another subject, of another meter, in thousands.
select kijko.set_limit(e(10), 'x', 'month', 10000);
select kijko.reserve(e(10), 'x', 1) as hold \gset
select kijko.settle(:'hold', 1, e(11), 'x');
select kijko.settle(:'hold', 1, e(10), 'y');
select kijko.settle(:'hold', 1, e(10), 'x');
select kijko.settle(:'hold', 1, e(11), 'x');
select kijko.release(:'hold');
select kijko.release(null);
create temporary table held as select kijko.reserve(e(10), 'x', 1, '1 hour', 'hold ' || n) as id from generate_series(1, 9999) as n;
select kijko.reserve(e(10), 'x', 1);
select count(*) filter (where kijko.settle(id, 1)) as settled from (select id from held limit 5000) as h;
select count(*) filter (where kijko.release(id)) as released from held;
select used, remaining from kijko.usage(e(10));
drop table held;
-- In nested triggers: every use of the statement counts, and none of a statement that fails.
select kijko.set_limit(e(12), 'x', 'month', 5);
create table outer_rows (n integer);
create table inner_rows (n integer check (n < 100));
create function charge() returns trigger language plpgsql as $$ begin perform kijko.consume(e(12), 'x'); return new; end $$;
create function cascade() returns trigger language plpgsql as $$ begin insert into inner_rows values (new.n); return new; end $$;
create trigger charge before insert on inner_rows for each row execute function charge();
create trigger cascade after insert on outer_rows for each row execute function cascade();
insert into outer_rows select generate_series(1, 3);
insert into outer_rows values (1), (100);
insert into outer_rows select generate_series(1, 3);
select used from kijko.usage(e(12));
select (select count(*) from outer_rows) as outer_rows, (select count(*) from inner_rows) as inner_rows;
drop table outer_rows, inner_rows;
drop function charge(), cascade();
-- In a cursor: as many as were fetched; in a savepoint that is rolled back, none.
select kijko.set_limit(e(13), 'x', 'month', 5);
begin;
declare c cursor for select (kijko.consume(e(13), 'x')).used from generate_series(1, 9);
fetch 2 from c;
savepoint a;
fetch 2 from c;
rollback to a;
select used from kijko.consume(e(13), 'x');
savepoint a;
fetch 9 from c;
rollback to a;
select allowed from kijko.try_consume(e(13), 'x');
commit;
select used from kijko.usage(e(13));
begin;
savepoint a;
select 1 / 0;
select kijko.consume(e(13), 'x');
rollback to a;
select used from kijko.consume(e(13), 'x');
commit;
-- In a cursor that outlives its transaction: all, when that commits.
begin;
declare h no scroll cursor with hold for select (kijko.consume(e(14), 'x')).used from generate_series(1, 3);
fetch 1 from h;
commit;
select used from kijko.usage(e(14));
close h;
-- Twice in one row, in a prepared statement, by a volatile default.
select (v).used, (w).used as again from (select kijko.consume(e(15), 'x') as v, kijko.consume(e(15), 'x') as w offset 0) as s;
prepare p(uuid) as select used from kijko.consume($1, 'x');
execute p(e(15));
execute p(e(15));
deallocate p;
-- A period that changes during its use: no use is lost in the middle of it.
begin;
select set_config('kijko.clock_offset', extract(epoch from timestamptz '2026-11-15 12:00Z' - now())::text || ' s', true) is not null as travelled;
select kijko.set_limit(e(16), 'x', 'month', 3), kijko.set_calendar(e(16), 'UTC', '2026-01-10 00:00Z');
select used from kijko.consume(e(16), 'x', 3);
select kijko.set_limit(e(16), 'x', 'billing', 3);
select allowed, reset_at from kijko.try_consume(e(16), 'x');
select kijko.set_limit(e(16), 'x', 'lifetime', 3);
select allowed, reset_at from kijko.try_consume(e(16), 'x');
select kijko.set_limit(e(16), 'x', 'day', 3);
select kijko.set_calendar(e(16), 'Pacific/Kiritimati', '2026-01-20 00:00Z');
select allowed, reset_at from kijko.try_consume(e(16), 'x');
rollback;
-- A calendar that made the current month shorter cannot change again in it: the month would start again at 0.
begin;
select set_config('kijko.clock_offset', extract(epoch from timestamptz '2026-05-10 12:00Z' - now())::text || ' s', true) is not null as travelled;
select kijko.set_calendar(e(19), 'America/New_York'), kijko.set_limit(e(19), 'x', 'month', 3);
select used, reset_at from kijko.consume(e(19), 'x', 3);
select kijko.set_calendar(e(19), 'Europe/Amsterdam');
select set_config('kijko.clock_offset', extract(epoch from timestamptz '2026-06-02 12:00Z' - now())::text || ' s', true) is not null as travelled;
select used, reset_at from kijko.consume(e(19), 'x', 3);
savepoint a;
select kijko.set_calendar(e(19), 'Europe/Amsterdam', '2026-01-10 00:00Z');
rollback to a;
select allowed, used from kijko.try_consume(e(19), 'x');
select set_config('kijko.clock_offset', extract(epoch from timestamptz '2026-07-01 12:00Z' - now())::text || ' s', true) is not null as travelled;
select kijko.set_calendar(e(19), 'Europe/Amsterdam', '2026-01-10 00:00Z');
rollback;
-- Zones that the server does not know, or reads as an abbreviation without summer time, work: none of them may block the
-- rollup of other subjects.
begin;
select set_config('kijko.clock_offset', extract(epoch from timestamptz '2026-07-01 22:30Z' - now())::text || ' s', true) is not null as travelled;
select kijko.set_calendar(e(20), 'CET'), kijko.set_calendar(e(21), 'Etc/Unknown');
select kijko.set_limit(e(n), 'x', 'day', 1) from generate_series(20, 21) as n;
select reset_at from kijko.consume(e(20), 'x');
select reset_at from kijko.consume(e(21), 'x');
select value, used from kijko.usage_by(e(20), 'day');
select value, used from kijko.usage_by(e(21), 'day');
select kijko.rollup_partition('kijko.ledger');
select day, amount from kijko.usage_daily where subject in (e(20), e(21)) order by day;
rollback;
select kijko.local_day('infinity', 'UTC'), kijko.local_day('-infinity', 'UTC'), kijko.local_day('4714-11-24 00:00:00+00 BC', 'America/New_York'), kijko.local_day('2026-03-29 01:30+00', 'Europe/Amsterdam');
-- A hold that outlives its period counts and is recorded in that period, and not in the next.
begin;
create function travel(destination timestamptz) returns text language sql as $$
    select set_config('kijko.clock_offset', extract(epoch from destination - now())::text, true) is not null
$$;
select travel('2026-01-31 23:00Z') as travelled;
select kijko.set_limit(e(18), 'x', 'month', 5);
select kijko.reserve(e(18), 'x', 4, '3 days') as hold, kijko.reserve(e(18), 'x', 1, '3 days') as other \gset
select travel('2026-02-01 00:00Z') as travelled;
select allowed, used from kijko.try_consume(e(18), 'x', 5);
select kijko.settle(:'hold', 6), kijko.release(:'other');
select period_start, amount, kind, occurred_at from kijko.ledger where subject = e(18) order by period_start;
select used from kijko.usage(e(18));
select travel('2026-01-31 23:30Z') as travelled;
select used from kijko.usage(e(18));
savepoint a;
select kijko.settle(gen_random_uuid(), 9223372036854775807, e(18), 'x');
rollback to a;
rollback;
-- A partition with an additional index: both indexes contain every row.
begin;
create index on kijko.ledger_default (id);
select used from kijko.consume(e(17), 'x');
set local enable_seqscan = off;
select count(*) from kijko.ledger_default where id = (select g.id from kijko.ledger as g where g.subject = e(17));
rollback;
select used from kijko.consume(e(17), 'x');
select kijko.reload_counters();
drop function e;
-- In another database the extension works alone, with its own counters, but not in another schema.
select current_database() as here \gset
create database elsewhere;
\c elsewhere
\pset null '<null>'
create extension kijko schema public;
create extension kijko;
select kijko.set_limit('bbbbbbbb-0000-4000-8000-000000000001', 'x', 'month', 2);
select allowed, used from kijko.try_consume('bbbbbbbb-0000-4000-8000-000000000001', 'x', 2);
select allowed, used from kijko.try_consume('bbbbbbbb-0000-4000-8000-000000000001', 'x');
drop extension kijko cascade;
create extension kijko;
select allowed, used from kijko.try_consume('bbbbbbbb-0000-4000-8000-000000000001', 'x');
drop extension kijko cascade;
\c :here
drop database elsewhere;
