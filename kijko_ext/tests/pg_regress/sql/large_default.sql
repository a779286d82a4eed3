-- A large default partition is emptied in steps, none of which reads it under an exclusive lock. Every counter is right at each.
\set VERBOSITY terse
\c postgres
set client_min_messages = warning;
create extension kijko;
create function d(n integer) returns uuid language sql immutable as $$ select ('44444444-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
insert into kijko.ledger_default (id, subject, meter, period_start, amount, kind, occurred_at, recorded_at)
select d(n), d(n % 100), 'x', '-infinity', 1, 'use', now(), clock_timestamp() - (100000 - n) * interval '1 ms' from generate_series(1, 100000) as n;
select kijko.set_limit(d(1), 'x', 'lifetime', 10000);
select kijko.reload_counters();
create function step(out partitions boolean, out is_bounded boolean, out rows text) language plpgsql as $$
declare
    bounds kijko.ledger_default_bounds;
begin
    partitions := kijko.make_ledger_partitions('1 minute', '1 second') > 0;
    select * into bounds from kijko.ledger_default_bounds;
    is_bounded := isfinite(bounds.recorded_from) or isfinite(bounds.recorded_until);
    rows := case when exists (select from kijko.ledger_default where id = d(1)) then 'default' else (select 'partition' from kijko.ledger where id = d(1)) end;
    perform kijko.reload_counters(); -- the next use loads them
end
$$;
create function look(inout partitions boolean, inout is_bounded boolean, inout rows text, out used bigint, out written text) language plpgsql as $$
begin
    used := (kijko.consume(d(1), 'x')).used;
    select case when g.tableoid = 'kijko.ledger_default'::regclass then 'default' else 'partition' end
            || case when isfinite(b.recorded_until) and g.recorded_at >= b.recorded_until and g.tableoid = 'kijko.ledger_default'::regclass
                or g.recorded_at < b.recorded_from then ' out of bounds' else '' end
        into written from kijko.ledger as g, kijko.ledger_default_bounds as b where g.subject = d(1) order by g.recorded_at desc, g.id desc limit 1;
end
$$;
-- A boundary that passes while the lock is waited for is none: rows may lie on both of its sides.
select kijko.bound_ledger_default('-infinity', clock_timestamp()) as is_bounded;
select recorded_from, recorded_until from kijko.ledger_default_bounds;
-- Rows are recorded before a boundary, also when it has passed.
select partitions, is_bounded, rows from step() \gset
select * from look(:'partitions', :'is_bounded', :'rows');
select pg_sleep(1.1);
select * from look(:'partitions', :'is_bounded', :'rows');
select kijko.rollup_usage();
-- Partitions begin at the boundary. No call reads the default partition for them.
select partitions, is_bounded, rows from step() \gset
select * from look(:'partitions', :'is_bounded', :'rows');
select kijko.rollup_usage();
-- No row is recorded before the boundary.
select partitions, is_bounded, rows from step() \gset
select * from look(:'partitions', :'is_bounded', :'rows');
-- A row beside the bounds is refused, also by hand.
insert into kijko.ledger (id, subject, meter, period_start, amount, kind, occurred_at, recorded_at)
values (d(0), d(0), 'x', '-infinity', 1, 'use', now(), now() - interval '1 day');
-- The rows before it become a partition of their own, and can be rolled up.
select partitions, is_bounded, rows from step() \gset
select * from look(:'partitions', :'is_bounded', :'rows');
select conname from pg_constraint where conrelid in (select inhrelid from pg_inherits where inhparent = 'kijko.ledger'::regclass) and contype <> 'n';
select count(*) from kijko.ledger_default;
select count(*) from kijko.ledger_partitions as p where not exists (select from kijko.ledger_partitions as q where q.starts_at = p.ends_at);
select kijko.rollup_usage() > 0 as rolled;
select kijko.reload_counters();
select used from kijko.consume(d(1), 'x');
select sum(amount) from kijko.ledger;
drop function step, look, d;
drop extension kijko;
