\set SHOW_CONTEXT never
\pset null '<null>'
set timezone to 'UTC';
set datestyle to iso;
create function h(n integer) returns uuid language sql immutable as $$ select ('dddddddd-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
select kijko.set_limit(h(1), 'tokens', 'lifetime', 100);
-- A hold counts as used, and is refused like a use.
select kijko.reserve(h(1), 'tokens', 60) as hold \gset
select used, remaining from kijko.usage(h(1));
select allowed, used from kijko.try_consume(h(1), 'tokens', 41);
select kijko.reserve(h(1), 'tokens', 41);
-- Settled for less: the rest is released. A second settlement does nothing.
select kijko.settle(:'hold', 45);
select kijko.settle(:'hold', 45);
select used from kijko.usage(h(1));
select amount, kind from kijko.ledger where subject = h(1) order by recorded_at, id;
-- Settled for more than was reserved, and more than is left: it has happened, so it is recorded.
select kijko.reserve(h(1), 'tokens', 55) as hold \gset
select kijko.settle(:'hold', 60);
select used, remaining from kijko.usage(h(1));
select kijko.correct_usage(h(1), 'tokens', -60, 'test');
-- Released, and settled afterwards.
select kijko.reserve(h(1), 'tokens', 55) as hold \gset
select kijko.release(:'hold');
select kijko.release(:'hold');
select used from kijko.usage(h(1));
select kijko.settle(:'hold', 5);
select used from kijko.usage(h(1));
select state, amount, settled_amount from kijko.holds where id = :'hold';
-- In one transaction: the rest of a settled hold is available to it at once, and to others when it commits.
select kijko.reserve(h(1), 'tokens', 50) as hold \gset
begin;
select kijko.settle(:'hold', 10);
select allowed, used from kijko.try_consume(h(1), 'tokens', 40);
select allowed, used from kijko.try_consume(h(1), 'tokens', 1);
rollback;
select used from kijko.usage(h(1));
select kijko.release(:'hold');
-- Expired: ended by the next use that needs its amount. Settled afterwards: recorded.
select kijko.reserve(h(1), 'tokens', 50, '1 microsecond') as hold \gset
select pg_sleep(0.01) is not null as slept;
select used from kijko.usage(h(1));
select allowed, used from kijko.try_consume(h(1), 'tokens', 50);
select state from kijko.holds where id = :'hold';
select kijko.settle(:'hold', 7);
select used from kijko.usage(h(1));
select kijko.reserve(h(2), 'tokens', 1, '1 microsecond') is not null as held;
select pg_sleep(0.01) is not null as slept;
select kijko.expire_holds();
-- The amount of an expired hold is released even if the use that ended it is refused for another subject.
select kijko.set_limit(h(8), 'tokens', 'lifetime', 10), kijko.set_limit(h(9), 'tokens', 'lifetime', 0);
select kijko.reserve(h(8), 'tokens', 6, '1 microsecond') as hold \gset
select pg_sleep(0.01) is not null as slept;
select allowed, used from kijko.try_consume_many(array[h(8), h(9)], 'tokens', 5);
select state from kijko.holds where id = :'hold';
select allowed, used from kijko.try_consume(h(8), 'tokens', 10);
-- The same call again returns the same hold.
select kijko.reserve(h(3), 'tokens', 5, '1 hour', 'run') as hold \gset
select kijko.reserve(h(3), 'tokens', 5, '1 hour', 'run') = :'hold' as same;
select kijko.reserve(h(3), 'tokens', 6, '1 hour', 'run');
-- Also a settled one: its work was done. A released or expired hold reserves nothing, so a new one is made if the limit
-- allows it.
select kijko.settle(:'hold', 4), kijko.reserve(h(3), 'tokens', 5, '1 hour', 'run') = :'hold' as same;
select kijko.reserve(h(3), 'tokens', 5, '1 hour', 'other') as hold \gset
select kijko.release(:'hold');
select kijko.reserve(h(3), 'tokens', 6, '1 hour', 'other');
select kijko.reserve(h(3), 'tokens', 5, '1 hour', 'other') as again \gset
select :'again' <> :'hold' as another, kijko.reserve(h(3), 'tokens', 5, '1 hour', 'other') = :'again' as same;
select id = :'again' as again, state, amount, idempotency_key from kijko.holds where id in (:'hold', :'again') order by state;
select kijko.set_limit(h(10), 'tokens', 'lifetime', 10);
select kijko.reserve(h(10), 'tokens', 6, '1 microsecond', 'backfill') as hold \gset
select pg_sleep(0.01) is not null as slept;
select allowed, used from kijko.try_consume(h(10), 'tokens', 5);
select kijko.reserve(h(10), 'tokens', 6, '1 hour', 'backfill');
select state, idempotency_key from kijko.holds where id = :'hold';
-- An expired hold that no transaction has ended continues, because it still counts.
select kijko.reserve(h(10), 'tokens', 5, '1 microsecond', 'due') as hold \gset
select pg_sleep(0.01) is not null as slept;
select kijko.reserve(h(10), 'tokens', 5, '1 hour', 'due') = :'hold' as same;
select allowed, used from kijko.try_consume(h(10), 'tokens', 1);
-- A hold of a former period does not: it ends there, and a new one is made in the current period.
begin;
select kijko.set_limit(h(11), 'tokens', 'day', 10);
select kijko.reserve(h(11), 'tokens', 5, '1 hour', 'day') as hold \gset
select kijko.set_limit(h(11), 'tokens', 'day', 4);
set local kijko.clock_offset = '1 day';
savepoint refused;
select kijko.reserve(h(11), 'tokens', 5, '1 hour', 'day');
rollback to refused;
select kijko.set_limit(h(11), 'tokens', 'day', 5);
select kijko.reserve(h(11), 'tokens', 5, '1 hour', 'day') <> :'hold' as another;
select state, idempotency_key is not null as has_key, period_start = (select min(period_start) from kijko.holds where subject = h(11)) as former
from kijko.holds where subject = h(11) order by period_start;
rollback;
-- An extension of a hold that is rolled back has no effect, though the counter was loaded meanwhile: the next use ends it.
select kijko.set_limit(h(12), 'tokens', 'lifetime', 10);
select kijko.reserve(h(12), 'tokens', 6, '1 microsecond', 'again') as hold \gset
select kijko.reload_counters(h(12));
begin;
savepoint before;
select kijko.reserve(h(12), 'tokens', 6, '1 hour', 'again') = :'hold' as same;
select used from kijko.quota_status(h(12), 'tokens');
rollback to before;
commit;
select allowed, used from kijko.try_consume(h(12), 'tokens', 5);
-- Lost in a crash: recorded with its subject and meter, once.
select kijko.settle('dddddddd-0000-4000-8000-999999999999', 5);
select kijko.settle('dddddddd-0000-4000-8000-999999999999', 5, h(4), 'tokens');
select kijko.settle('dddddddd-0000-4000-8000-999999999999', 5, h(4), 'tokens');
select used from kijko.usage(h(4));
select kijko.reserve(h(3), 'tokens', 0);
select kijko.reserve(h(3), 'tokens', 1, '-1 second');
select kijko.reserve(h(3), 'tokens', 1, null);
select kijko.settle(null, 1);
select kijko.settle(:'hold', -1);
select kijko.expire_holds(-1);
-- Several at once, all or none: those of one counter add up.
select kijko.set_limit(h(20), 'tokens', 'lifetime', 10), kijko.set_limit(h(21), 'tokens', 'lifetime', 5), kijko.set_limit(h(22), 'tokens', 'lifetime', 1, 'bill');
create function many(subjects uuid[], amounts bigint[], ttl interval default '1 hour') returns uuid[] language sql
as $$ select kijko.try_reserve_many(subjects, array_fill('tokens'::text, array[cardinality(subjects)]), amounts, kijko.now() + ttl) $$;
select many(array[h(20), h(21), h(20), h(22)], array[4, 5, 6, 3]) as holds \gset
select subject = (array[h(20), h(21), h(20), h(22)])[n] as as_asked, amount, overage, state, period_start
from unnest(:'holds'::uuid[]) with ordinality as i (id, n) join kijko.holds using (id) order by n;
select many(array[h(22), h(20)], array[1, 1]), many(array[h(20)], array[1]);
select used from kijko.usage(h(20)) union all select used from kijko.usage(h(22));
-- What one transaction has freed it can hold, and what does not fit stays free.
begin;
select kijko.release((:'holds'::uuid[])[1]);
select many(array[h(20), h(21)], array[4, 1]);
select many(array[h(20), h(20)], array[3, 2]);
select used from kijko.quota_status(h(20), 'tokens');
select cardinality(many(array[h(20), h(20)], array[3, 1]));
select used from kijko.quota_status(h(20), 'tokens');
rollback;
select used from kijko.usage(h(20));
select many(array[h(21), h(20)], array[1, 1], '-1 second');
-- The amount of expired holds is free.
select kijko.set_limit(h(23), 'tokens', 'lifetime', 5);
select cardinality(many(array[h(23), h(23)], array[2, 3], '1 microsecond'));
select pg_sleep(0.01) is not null as slept;
select cardinality(many(array[h(23)], array[5]));
-- Each is settled or released, once, or all are left as they are.
select kijko.try_settle_many(:'holds'::uuid[], array[3, null, 7, 2], array['{"skill": "a"}', '{"skill": "b"}', '{"skill": "c"}', null]::jsonb[]);
select state, amount, settled_amount, ended_at is not null as ended from unnest(:'holds'::uuid[]) with ordinality as i (id, n) join kijko.holds using (id) order by n;
select amount, overage, kind, attributes from kijko.ledger where subject in (h(20), h(21), h(22)) order by subject, amount;
select used from kijko.usage(h(20)) union all select used from kijko.usage(h(22));
select many(array[h(21)], array[2]) as more \gset
select kijko.try_settle_many(:'more'::uuid[] || :'holds'::uuid[], array[1, 1, 1, 1, 1]), kijko.try_settle_many(:'more'::uuid[] || :'more'::uuid[], array[1, 1]),
    kijko.try_settle_many(:'more'::uuid[] || gen_random_uuid(), array[1, 1]), kijko.try_settle_many(array_append(:'more'::uuid[], null), array[1, 1]);
set kijko.usage_attributes = '{"member": "m", "skill": "a"}';
select kijko.try_settle_many(:'more'::uuid[], array[0], array['{"skill": "b"}']::jsonb[]), kijko.try_settle_many('{}', '{}');
reset kijko.usage_attributes;
select amount, kind, attributes from kijko.ledger where subject = h(21);
select state, settled_amount from kijko.holds where id = any (:'more'::uuid[]);
select used from kijko.usage(h(21));
select kijko.try_settle_many(:'more'::uuid[], array[-1]);
select kijko.try_settle_many(:'more'::uuid[], '{}');
select kijko.try_settle_many(null, null);
select kijko.try_reserve_many(array[h(20), null], array['tokens', 'tokens'], array[1, 1], now() + '1 hour');
select kijko.try_reserve_many(array[h(20)], array['Tokens'], array[1], now() + '1 hour');
select kijko.try_reserve_many(array[h(20)], array['tokens'], array[0], now() + '1 hour');
select kijko.try_reserve_many(array[h(20)], array['tokens', 'tokens'], array[1], now() + '1 hour');
select kijko.try_reserve_many(array[h(20)], array['tokens'], array[1], null);
select kijko.try_reserve_many('{}', '{}', '{}', now() + '1 hour');
begin read only;
select many(array[h(20)], array[1]);
rollback;
-- Gauges: decreases count from the commit on, for the same transaction at once.
select kijko.set_limit(h(5), 'members', 'lifetime', 3);
select allowed, used from kijko.adjust_gauge(h(5), 'members', 3);
select allowed, used from kijko.adjust_gauge(h(5), 'members', 1);
begin;
select used from kijko.adjust_gauge(h(5), 'members', -2);
select used from kijko.adjust_gauge(h(5), 'members', 1);
savepoint a;
select used from kijko.adjust_gauge(h(5), 'members', 1);
rollback to a;
select used from kijko.adjust_gauge(h(5), 'members', -1);
commit;
select used from kijko.usage(h(5));
select used from kijko.set_gauge(h(5), 'members', 3);
select used from kijko.set_gauge(h(5), 'members', 4);
select used from kijko.set_gauge(h(5), 'members', 0);
select amount, kind from kijko.ledger where subject = h(5) order by recorded_at, id;
select used, "limit", reset_at from kijko.adjust_gauge(h(6), 'files', 2);
select * from kijko.usage(h(6));
select kijko.set_limit(h(7), 'calls', 'month', 3);
select kijko.adjust_gauge(h(7), 'calls', 1);
select kijko.set_gauge(h(5), 'members', -1);
select kijko.adjust_gauge(h(5), 'members', null);
