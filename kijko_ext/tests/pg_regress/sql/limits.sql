\set SHOW_CONTEXT never
\pset null '<null>'
set timezone to 'UTC';
set datestyle to iso;
-- kijko.now() stays at a given time until the end of the transaction.
create function travel(destination timestamptz) returns void language sql as $$
    select set_config('kijko.clock_offset', extract(epoch from destination - now())::text, true)
$$;
create function s(n integer) returns uuid language sql immutable as $$ select (repeat(n::text, 8) || '-0000-4000-8000-000000000000')::uuid $$;
begin;
select travel('2026-02-10 12:00Z');
-- Without a limit a use is counted by the month and never refused.
select * from kijko.try_consume(s(1), 'calls', 5);
select * from kijko.consume(s(1), 'calls');
select * from kijko.usage(s(1));
select * from kijko.usage(s(9));
-- Exactly up to the limit. A use that does not fit takes nothing.
select kijko.set_limit(s(1), 'calls', 'month', 10);
select * from kijko.try_consume(s(1), 'calls', 5);
select * from kijko.try_consume(s(1), 'calls', 4);
select * from kijko.try_consume(s(1), 'calls');
select * from kijko.try_consume(s(1), 'calls', 11);
select * from kijko.usage(s(1));
-- A raised or lowered limit applies at once and resets nothing.
select kijko.set_limit(s(1), 'calls', 'month', 12);
select * from kijko.try_consume(s(1), 'calls', 2);
select kijko.set_limit(s(1), 'calls', 'month', 3);
select * from kijko.usage(s(1));
select * from kijko.try_consume(s(1), 'calls');
select kijko.set_limit(s(1), 'calls', 'month', null);
select * from kijko.try_consume(s(1), 'calls', 100);
commit;
-- The next month starts at 0. The former month keeps its use.
begin;
select kijko.set_limit(s(1), 'calls', 'month', 10);
select travel('2026-02-28 23:59:59.999999Z');
select used from kijko.usage(s(1));
select travel('2026-03-01 00:00Z');
select used, reset_at from kijko.usage(s(1));
select used from kijko.try_consume(s(1), 'calls', 7);
select travel('2026-02-20 00:00Z');
select used from kijko.usage(s(1));
select allowed, used from kijko.try_consume(s(1), 'calls');
select travel('2026-03-02 00:00Z');
select used from kijko.try_consume(s(1), 'calls');
rollback;
-- Days and lifetimes.
begin;
select travel('2026-12-31 12:00Z');
select kijko.set_limit(s(2), 'daily', 'day', 1), kijko.set_limit(s(2), 'ever', 'lifetime', 1);
select * from kijko.try_consume(s(2), 'daily');
select * from kijko.try_consume(s(2), 'ever');
select * from kijko.try_consume(s(2), 'daily');
select * from kijko.try_consume(s(2), 'ever');
select travel('2027-01-01 00:00Z');
select * from kijko.try_consume(s(2), 'daily');
select * from kijko.try_consume(s(2), 'ever');
rollback;
-- A changed period waits for the end of the current one.
begin;
select travel('2026-02-10 12:00Z');
select kijko.set_limit(s(3), 'x', 'month', 10);
select used from kijko.try_consume(s(3), 'x', 4);
select kijko.set_limit(s(3), 'x', 'day', 8);
select * from kijko.usage(s(3));
select travel('2026-02-11 12:00Z');
select used, reset_at from kijko.try_consume(s(3), 'x');
select travel('2026-03-01 12:00Z');
select * from kijko.usage(s(3));
select used, reset_at from kijko.try_consume(s(3), 'x', 8);
select travel('2026-03-02 12:00Z');
select used, "limit" from kijko.try_consume(s(3), 'x');
-- A change that is reverted before it takes effect changes nothing.
select kijko.set_limit(s(3), 'x', 'month', 8), kijko.set_limit(s(3), 'x', 'day', 8);
select period, next_period, next_period_from from kijko.limits where subject = s(3);
-- A lifetime has no end: the new period takes effect at its next start.
select kijko.set_limit(s(4), 'x', 'lifetime', 8);
select used from kijko.try_consume(s(4), 'x', 3);
select kijko.set_limit(s(4), 'x', 'month', 8);
select period, next_period, next_period_from from kijko.limits where subject = s(4);
select * from kijko.usage(s(4));
select travel('2026-04-01 00:00Z');
select * from kijko.usage(s(4));
rollback;
-- Several limits at once. Only limits that change are written.
begin;
select travel('2026-02-10 12:00Z');
create function written() returns trigger language plpgsql as $$
begin
    raise notice '% % %', tg_op, tg_level, new.meter;
    return null;
end
$$;
create trigger written after insert or update or delete on kijko.limits for each row execute function written();
create trigger written_statement after insert or update or delete on kijko.limits for each statement execute function written();
select kijko.set_limits(array[s(7), s(8), s(7)], array['runs', 'runs', 'ever'], array['month', 'day', 'lifetime'], array[10, 3, null], array['refuse', 'bill', 'flag']);
select subject, meter, period, amount, overage_policy from kijko.limits where subject in (s(7), s(8)) order by 1, 2;
select kijko.set_limits(array[s(7), s(8), s(7)], array['runs', 'runs', 'ever'], array['month', 'day', 'lifetime'], array[10, 3, null], array['refuse', 'bill', 'flag']);
select kijko.set_limit(s(8), 'runs', 'day', 3, 'bill');
select kijko.set_limits('{}', '{}', '{}', '{}', '{}');
select used from kijko.try_consume(s(7), 'runs', 4);
select kijko.set_limits(array[s(7), s(7), s(7)], array['runs', 'new', 'ever'], array['month', 'month', 'lifetime'], array[null, 0, null], array['refuse', 'refuse', 'flag']);
select meter, period, used, "limit" from kijko.usage(s(7));
-- A new period waits there, too, and is written once. When it has taken effect it is the period.
select kijko.set_limits(array[s(7), s(8)], array['runs', 'runs'], array['day', 'day'], array[5, 3], array['refuse', 'bill']);
select kijko.set_limits(array[s(7), s(8)], array['runs', 'runs'], array['day', 'day'], array[5, 3], array['refuse', 'bill']);
select period, next_period, next_period_from from kijko.limits where subject = s(7) and meter = 'runs';
select travel('2026-03-01 12:00Z');
select kijko.set_limits(array[s(7)], array['runs'], array['day'], array[5], array['refuse']);
select period, next_period, next_period_from from kijko.limits where subject = s(7) and meter = 'runs';
rollback;
-- A period of a new kind starts when the change takes effect. No later change of the limit starts it again.
begin;
select travel('2026-02-10 12:00Z');
select kijko.set_limit(s(3), 'y', 'day', 8);
select kijko.set_limit(s(3), 'y', 'month', 8);
select travel('2026-02-12 12:00Z');
select used, reset_at from kijko.consume(s(3), 'y', 8);
select kijko.set_limit(s(3), 'y', 'month', 9);
select * from kijko.usage(s(3));
select kijko.set_limit(s(3), 'y', 'lifetime', 9);
select allowed, used from kijko.try_consume(s(3), 'y', 2);
select starts_at, ends_at from kijko.period_at(s(3), 'y', '2026-02-10 13:00Z');
select travel('2026-03-01 00:00Z');
select used from kijko.consume(s(3), 'y', 9);
select kijko.set_limit(s(3), 'y', 'lifetime', 10);
select * from kijko.usage(s(3));
select travel('2027-03-01 00:00Z');
select allowed, used from kijko.try_consume(s(3), 'y', 2);
rollback;
-- Above the limit: refuse, or allow and mark the verdict.
begin;
select travel('2026-02-10 12:00Z');
select kijko.set_limit(s(5), 'flagged', 'month', 1, 'flag'), kijko.set_limit(s(5), 'billed', 'month', 0, 'bill'), kijko.set_limit(s(5), 'none', 'month', 0);
select * from kijko.try_consume(s(5), 'flagged', 3);
select * from kijko.consume(s(5), 'billed');
select * from kijko.try_consume(s(5), 'none');
rollback;
-- The status of a meter is that of the next use, also in READ ONLY transactions. Reading it uses nothing.
begin;
select travel('2026-02-10 12:00Z');
select kijko.set_limit(s(5), 'calls', 'month', 3), kijko.set_limit(s(5), 'flagged', 'month', 2, 'flag'), kijko.set_limit(s(5), 'things', 'lifetime', 1);
select * from kijko.quota_status(s(5), 'calls');
select used from kijko.try_consume(s(5), 'calls', 2);
select kijko.consume(s(5), 'flagged', 5), kijko.adjust_gauge(s(5), 'things', 1), kijko.reserve(s(5), 'calls', 1) is not null as reserved;
set transaction_read_only = on;
select * from kijko.quota_status(s(5), 'calls');
select * from kijko.quota_status(s(5), 'flagged');
select * from kijko.quota_status(s(5), 'things');
select * from kijko.quota_status(s(5), 'free');
savepoint here;
select kijko.quota_status(null, 'calls');
rollback to here;
select kijko.quota_status(s(5), null);
rollback;
-- Idempotency: the same call charges once, another amount is a conflict, another meter is another charge.
begin;
select travel('2026-02-10 12:00Z');
select kijko.set_limit(s(6), 'tokens', 'month', 10);
select allowed, used from kijko.try_consume(s(6), 'tokens', 10, 'run 1');
select allowed, used from kijko.try_consume(s(6), 'tokens', 10, 'run 1');
select allowed, used from kijko.try_consume(s(6), 'cost', 3, 'run 1');
select allowed, used from kijko.try_consume(s(7), 'tokens', 3, 'run 1');
savepoint here;
select allowed, used from kijko.try_consume(s(6), 'tokens', 9, 'run 1');
rollback to here;
-- A refused call leaves its key free.
select allowed, used from kijko.try_consume(s(6), 'tokens', 5, 'run 2');
select kijko.set_limit(s(6), 'tokens', 'month', 20);
select allowed, used from kijko.try_consume(s(6), 'tokens', 6, 'run 2');
-- So does a call that was rolled back.
savepoint here;
select allowed, used from kijko.try_consume(s(6), 'tokens', 1, 'run 3');
rollback to here;
select allowed, used from kijko.try_consume(s(6), 'tokens', 2, 'run 3');
select meter, amount, occurred_at, idempotency_key from kijko.ledger where subject = s(6) order by recorded_at, id;
-- Keys are deleted after 35 days.
update kijko.idempotency_keys set created_at = now() - interval '35 days 1 second' where key = 'run 2';
select allowed from kijko.try_consume(s(6), 'tokens', 1, 'run 4');
select done from kijko.maintain_usage() where task = 'purge_idempotency_keys';
select key from kijko.idempotency_keys where subject = s(6) and meter = 'tokens' order by key;
rollback;
-- A rollback undoes every use.
begin;
select used from kijko.try_consume(s(8), 'x', 3);
savepoint here;
select used from kijko.try_consume(s(8), 'x', 3);
rollback to here;
select used from kijko.try_consume(s(8), 'x', 1);
rollback;
select * from kijko.usage(s(8));
-- consume refuses with an error. Inside PostgREST it sets the headers, also when it allows.
begin;
select travel('2026-02-10 12:00Z');
set local request.method = 'POST';
select kijko.set_limit(s(8), 'calls', 'month', 2), kijko.set_limit(s(8), 'ever', 'lifetime', 1);
select kijko.consume(s(8), 'calls');
select kijko.response_headers();
savepoint here;
select kijko.consume(s(8), 'calls', 2);
rollback to here;
select kijko.consume(s(8), 'calls', 3);
rollback to here;
select kijko.consume(s(8), 'ever', 2);
rollback to here;
set local request.method = '';
select kijko.consume(s(8), 'calls', 2);
rollback to here;
select kijko.consume(s(8), 'ever', 2);
rollback;
-- Invalid arguments are refused.
\set VERBOSITY terse
select kijko.try_consume(null, 'x');
select kijko.try_consume(s(1), null);
select kijko.try_consume(s(1), 'X y');
select kijko.try_consume(s(1), 'x', null);
select kijko.try_consume(s(1), 'x', 0);
select kijko.try_consume(s(1), 'x', -5);
select kijko.try_consume(s(1), 'x', 1, '');
select kijko.try_consume(s(1), 'x', 1, repeat('k', 256));
select kijko.consume(s(1), 'x', 0);
select kijko.set_limit(null, 'x', 'month', 1);
select kijko.set_limit(s(1), '', 'month', 1);
select kijko.set_limit(s(1), 'x', 'year', 1);
select kijko.set_limit(s(1), 'x', null, 1);
select kijko.set_limit(s(1), 'x', 'month', -1);
select kijko.set_limit(s(1), 'x', 'month', 1, 'ignore');
select kijko.set_limit(s(1), 'x', 'month', 1, null);
select kijko.set_limits(null, '{x}', '{month}', '{1}', '{refuse}');
select kijko.set_limits(array[s(1)], '{x}', '{month}', '{}', '{refuse}');
select kijko.set_limits(array[s(1), s(1)], '{x,y}', '{month}', '{1,1}', '{refuse,refuse}');
select kijko.set_limits(array[s(1), s(1)], '{x,y}', '{month,month}', '{1}', '{refuse,refuse}');
select kijko.set_limits(array[s(1), null], '{x,y}', '{month,month}', '{1,1}', '{refuse,refuse}');
select kijko.set_limits(array[s(1), s(1)], '{x,Y}', '{month,month}', '{1,1}', '{refuse,refuse}');
select kijko.set_limit(s(1), rpad('x', 64, 'y'), 'month', 1);
select kijko.set_limit(s(1), rpad('x', 63, 'y'), 'month', 1), (kijko.try_consume(s(1), rpad('x', 63, 'y'))).used;
insert into kijko.limits (subject, meter, period, overage_policy) values (s(1), rpad('x', 64, 'y'), 'month', 'refuse');
select kijko.set_limits(array[s(1), s(1)], '{x,y}', '{month,NULL}', '{1,1}', '{refuse,refuse}');
select kijko.set_limits(array[s(1), s(1)], '{x,y}', '{month,month}', '{1,-1}', '{refuse,refuse}');
select kijko.set_limits(array[s(1), s(1)], '{x,y}', '{month,month}', '{1,1}', '{refuse,ignore}');
select kijko.set_limits(array[s(1), s(1)], '{x,x}', '{month,month}', '{1,2}', '{refuse,refuse}');
select count(*) from kijko.limits where subject = s(1) and meter in ('x', 'y');
select * from kijko.usage(null);
-- Near the limits of bigint.
begin;
select used from kijko.try_consume(s(9), 'x', 9223372036854775807);
savepoint here;
select used from kijko.try_consume(s(9), 'x', 1);
rollback to here;
select kijko.set_limit(s(9), 'x', 'month', 9223372036854775807);
select allowed, used, remaining from kijko.try_consume(s(9), 'x', 9223372036854775807);
rollback;
begin read only;
select kijko.try_consume(s(1), 'x');
rollback;
delete from kijko.limits;
delete from kijko.ledger;
select kijko.reload_counters();
drop function travel, s;
