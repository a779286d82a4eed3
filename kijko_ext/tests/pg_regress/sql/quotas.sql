\set SHOW_CONTEXT never
\pset null '<null>'
set timezone to 'UTC';
set datestyle to iso;
create function q(n integer) returns uuid language sql immutable as $$ select ('cccccccc-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- Several subjects, all or nothing. The verdict is that of the subject that refused, or else of the one with the least left.
select kijko.set_limit(q(1), 'x', 'lifetime', 10), kijko.set_limit(q(2), 'x', 'lifetime', 3);
select * from kijko.try_consume_many(array[q(1), q(2), q(1)], 'x', 2);
select * from kijko.try_consume_many(array[q(1), q(2)], 'x', 2);
select * from kijko.consume_many(array[q(1), q(2)], 'x', 2);
select subject = q(1) as first, used from kijko.try_consume_many(array[q(1)], 'x', 1, null, '{"skill": "s"}'), q(1) as subject;
select used from kijko.usage(q(1));
select used from kijko.usage(q(2));
select * from kijko.try_consume_many(array[q(1), q(3)], 'x', 1, 'many');
select * from kijko.try_consume_many(array[q(3), q(1)], 'x', 1, 'many');
select * from kijko.try_consume_many(array[q(3), q(1), q(4)], 'x', 1, 'many');
select * from kijko.try_consume_many(array[]::uuid[], 'x');
select * from kijko.try_consume_many(array[q(1), null], 'x');
select * from kijko.try_consume_many(array[q(1)], 'x', 1, null, '[]');
-- Attributes of a use.
begin;
set local kijko.usage_attributes = '{"project": "p"}';
select allowed from kijko.try_consume(q(1), 'x');
set local kijko.usage_attributes = '7';
savepoint a;
select allowed from kijko.try_consume(q(1), 'x');
rollback to a;
set local kijko.usage_attributes = '{';
select allowed from kijko.try_consume(q(1), 'x');
rollback;
select amount, kind, attributes from kijko.ledger where subject = q(1) order by recorded_at, id;
-- Savepoints, exception blocks, rollbacks.
select kijko.set_limit(q(5), 'x', 'lifetime', 10);
begin;
select used from kijko.consume(q(5), 'x', 3);
savepoint a;
select used from kijko.consume(q(5), 'x', 3);
savepoint b;
select used from kijko.consume(q(5), 'x', 3);
release b;
rollback to a;
do $$
begin
    begin
        perform kijko.consume(q(5), 'x', 4);
        perform kijko.consume(q(5), 'x', 4);
    exception
        when sqlstate 'KJ429' then raise notice 'refused: %', (select used from kijko.try_consume(q(5), 'x', 7));
    end;
end
$$;
commit;
select used from kijko.usage(q(5));
select amount from kijko.ledger where subject = q(5) order by recorded_at, id;
-- Each threshold is recorded once, by the transaction that reaches it. After a rollback the next one records it.
select kijko.set_limit(q(6), 'x', 'lifetime', 10);
begin;
select used from kijko.consume(q(6), 'x', 9);
select threshold, used from kijko.threshold_crossings where subject = q(6) order by 1;
rollback;
select used from kijko.consume(q(6), 'x', 5);
select used from kijko.consume(q(6), 'x', 4);
select used from kijko.consume(q(6), 'x', 1);
select threshold, used, "limit" from kijko.threshold_crossings where subject = q(6) order by 1;
-- Above a limit that bills: the overage is in the ledger.
select kijko.set_limit(q(7), 'x', 'lifetime', 10, 'bill');
select allowed, code, used from kijko.consume(q(7), 'x', 9);
select allowed, code, used, remaining from kijko.consume(q(7), 'x', 3);
select allowed, code, used, remaining from kijko.consume(q(7), 'x', 2);
select amount, overage from kijko.ledger where subject = q(7) order by recorded_at, id;
-- Corrections are entries with actor and reason.
select kijko.correct_usage(q(7), 'x', -4, 'counted twice', null, 'support');
select used from kijko.usage(q(7));
select amount, kind, actor, reason from kijko.ledger where subject = q(7) and kind <> 'use';
select kijko.correct_usage(q(7), 'x', -4, '');
select kijko.correct_usage(q(7), 'x', 0, 'why');
-- A past use is recorded in the period in which it happened, whatever the limit is, once.
select kijko.set_limit(q(8), 'x', 'month', 1);
select kijko.record_usage(q(8), 'x', 5, '2026-01-31 23:59Z', 'late 1');
select kijko.record_usage(q(8), 'x', 5, '2026-01-31 23:59Z', 'late 1');
select kijko.record_usage(q(8), 'x', 6, '2026-01-31 23:59Z', 'late 1');
select period_start, amount, kind, occurred_at from kijko.ledger where subject = q(8);
select used from kijko.usage(q(8));
select kijko.record_usage(q(8), 'x', 0, now());
-- With reporter and reason.
select kijko.record_usage(q(10), 'x', 3, '2026-01-31 23:59Z', reason => 'the meter was away');
select amount, kind, actor = session_user as who, reason from kijko.ledger where subject = q(10);
-- Uses are refused where they could not be exact.
begin read only;
select kijko.try_consume(q(1), 'x');
rollback;
begin;
select allowed from kijko.try_consume(q(1), 'x');
prepare transaction 'one';
begin;
select kijko.reload_counters();
prepare transaction 'two';
select * from kijko.try_consume(null, 'x');
select * from kijko.try_consume(q(1), 'X');
select * from kijko.try_consume(q(1), 'x', 0);
select * from kijko.try_consume(q(1), 'x', null);
select * from kijko.try_consume(q(1), 'x', 1, '');
select * from kijko.try_consume(q(1), 'x', 9223372036854775807);
-- A counter is loaded from the tables again only on request.
select kijko.set_limit(q(9), 'x', 'lifetime', 10);
select used from kijko.consume(q(9), 'x', 10);
delete from kijko.ledger where subject = q(9);
select allowed, used from kijko.try_consume(q(9), 'x');
begin;
select kijko.reload_counters(q(9));
rollback;
select allowed, used from kijko.try_consume(q(9), 'x');
select kijko.reload_counters(q(9));
select allowed, used from kijko.try_consume(q(9), 'x');
-- So are limits and calendars that were written with triggers disabled, as in a restore of single tables.
set session_replication_role = replica;
update kijko.limits set amount = 12 where subject = q(9);
reset session_replication_role;
select kijko.reload_counters(q(9));
select allowed, used, "limit" from kijko.try_consume(q(9), 'x', 11);
-- A caller that may use a quota needs no rights on the tables and functions behind it, also when it is refused.
create role consumer;
grant execute on function kijko.consume(uuid, text, bigint, text), kijko.consume_many(uuid[], text, bigint, text, jsonb),
    kijko.reserve(uuid, text, bigint, interval, text), kijko.settle(uuid, bigint, uuid, text), kijko.release(uuid),
    kijko.try_reserve_many(uuid[], text[], bigint[], timestamptz), kijko.try_settle_many(uuid[], bigint[], jsonb[]),
    kijko.adjust_gauge(uuid, text, bigint), kijko.usage(uuid), kijko.correct_usage(uuid, text, bigint, text, timestamptz, text)
    to consumer;
grant usage on schema kijko to consumer;
select kijko.set_limit(q(11), 'x', 'lifetime', 5), kijko.set_limit(q(11), 'members', 'lifetime', 1);
begin;
set local role consumer;
set local request.method = 'POST';
select used from kijko.consume(q(11), 'x', 3);
savepoint a;
select used from kijko.consume(q(11), 'x', 3);
rollback to a;
select used from kijko.consume_many(array[q(11)], 'x', 3);
rollback to a;
select kijko.reserve(q(11), 'x', 3);
rollback to a;
select kijko.reserve(q(11), 'x', 2) as hold \gset
select kijko.settle(:'hold', 1);
select kijko.try_reserve_many(array[q(11)], array['x'], array[1], kijko.now() + '1 hour') as holds \gset
select kijko.try_settle_many(:'holds'::uuid[], array[1]);
select used from kijko.adjust_gauge(q(11), 'members', 1);
savepoint a;
select used from kijko.adjust_gauge(q(11), 'members', 1);
rollback to a;
select kijko.correct_usage(q(11), 'x', -1, 'a gift');
select meter, used from kijko.usage(q(11));
rollback;
revoke all on all functions in schema kijko from consumer;
revoke all on schema kijko from consumer;
drop role consumer;
select metric from kijko.stats() where metric like 'quota.%';
