-- The overage of a limit that flags or bills is in the ledger for every kind of entry: backfill, correction, settlement,
-- gauge. While the limit stays the same, its sum is the part of the use above the limit.
\set SHOW_CONTEXT never
\pset null '<null>'
set timezone to 'UTC';
set datestyle to iso;
create function o(n integer) returns uuid language sql immutable as $$ select ('aaaaaaaa-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
create function above(subject uuid) returns table (used numeric, overage numeric, rows text) language sql as $$
    select sum(g.amount), sum(g.overage), string_agg(format('%s %s %s', g.kind, g.amount, g.overage), ', ' order by g.recorded_at, g.id)
    from kijko.ledger as g where g.subject = above.subject
$$;
select kijko.set_limit(o(n), 'x', 'month', 10, 'bill') from generate_series(1, 7) as n;
-- Past uses. The last one is only partly above; one of another month counts in that month.
select kijko.record_usage(o(1), 'x', 8, kijko.now());
select kijko.record_usage(o(1), 'x', 5, kijko.now());
select code, used from kijko.consume(o(1), 'x', 2);
select kijko.record_usage(o(1), 'x', 12, '2026-01-31 23:59Z');
select * from above(o(1));
-- Corrected: the overage decreases with the use.
select used from kijko.consume(o(2), 'x', 14);
select kijko.correct_usage(o(2), 'x', -3, 'counted twice');
select kijko.correct_usage(o(2), 'x', -3, 'counted twice');
select kijko.correct_usage(o(2), 'x', 4, 'forgotten');
select * from above(o(2));
-- Settled for more, and for less.
select kijko.reserve(o(3), 'x', 8) as hold \gset
select kijko.settle(:'hold', 13);
select kijko.reserve(o(3), 'x', 5) as hold \gset
select kijko.settle(:'hold', 1);
select * from above(o(3));
-- An open hold can put other uses above the limit. When it ends, their overage decreases.
select kijko.reserve(o(4), 'x', 8) as hold \gset
select code, used from kijko.consume(o(4), 'x', 5);
select kijko.reserve(o(4), 'x', 4) as other \gset
select kijko.settle(:'hold', 2);
select * from above(o(4));
select kijko.release(:'other');
select * from above(o(4));
-- Expired, and settled afterwards.
select kijko.reserve(o(5), 'x', 12, '1 microsecond') as hold \gset
select overage from kijko.holds where id = :'hold';
select pg_sleep(0.01) is not null as slept;
select kijko.expire_holds() > 0 as expired;
select kijko.settle(:'hold', 11);
select * from above(o(5));
-- Events of other services.
begin;
select status from kijko.ingest_usage(o(6), '[{"specversion": "1.0", "source": "/s", "id": "1", "type": "t", "data": {"n": 13}}]', '{"t": {"meter": "x", "field": "n"}}');
select meter, used, overage from kijko.usage_by(o(6), 'day');
rollback;
-- Gauges above the limit.
select kijko.set_limit(o(7), 'bytes', 'lifetime', 10, 'bill');
select used, code from kijko.adjust_gauge(o(7), 'bytes', 15);
select used, code from kijko.adjust_gauge(o(7), 'bytes', -3);
select used, code from kijko.set_gauge(o(7), 'bytes', 4);
select * from above(o(7));
-- A limit that refuses has no overage, also when a past use lies above it.
select kijko.set_limit(o(8), 'x', 'month', 10);
select kijko.record_usage(o(8), 'x', 12, kijko.now());
select * from above(o(8));
-- A past use reaches thresholds like any other use.
select threshold, used from kijko.threshold_crossings where subject = o(1) order by 1, 2;
-- The attributes of the transaction, such as the key of a request, are merged into those of a use.
begin;
set local kijko.usage_attributes = '{"key": "k1", "member": "nobody"}';
select used from kijko.consume_many(array[o(9)], 'x', 3, null, '{"member": "ada"}');
select used from kijko.consume(o(9), 'x', 2);
set local kijko.usage_attributes = '{"key": "k2"}';
select used from kijko.consume_many(array[o(9)], 'x', 4);
set local kijko.usage_attributes = '';
select used from kijko.consume(o(9), 'x', 1);
set local kijko.usage_attributes = '5';
savepoint a;
select kijko.consume_many(array[o(9)], 'x', 1, null, '{}');
rollback to a;
commit;
select value, used, entries from kijko.usage_by(o(9), 'key');
select value, used from kijko.usage_by(o(9), 'member');
select kijko.record_usage(o(9), 'x', 1, now(), null, '[]');
-- Also for past uses and events of other services.
begin;
set local kijko.usage_attributes = '{"key": "k3"}';
select kijko.record_usage(o(10), 'x', 1, now(), null, '{"member": "ada"}');
select kijko.record_usage(o(10), 'x', 2, now());
select status from kijko.ingest_usage(o(10), '[{"specversion": "1.0", "source": "/s", "id": "1", "type": "t", "data": {"member": "bob"}}]', '{"t": {"meter": "x"}}');
select value, used from kijko.usage_by(o(10), 'key');
select value, used from kijko.usage_by(o(10), 'member');
rollback;
drop function above, o;
