\set SHOW_CONTEXT never
\pset null '<null>'
-- A burst, then refusals. The state outlives the transaction and a rollback.
select allowed, code, meter, used, "limit", remaining, reset_at > now() + interval '19 minutes' as resets, retry_after from kijko.rate_limit('a', 3, '1 hour');
begin;
select allowed, code, meter, used, "limit", remaining, reset_at > now() + interval '39 minutes' as resets, retry_after from kijko.rate_limit('a', 3, '1 hour');
rollback;
select allowed, code, used, remaining from kijko.rate_limit('a', 3, '1 hour');
select allowed, code, meter, used, "limit", remaining, retry_after between 1190 and 1200 as retry from kijko.rate_limit('a', 3, '1 hour');
-- A burst and a cost of their own.
select allowed, used, "limit", remaining from kijko.rate_limit('b', 3600, '1 hour', 10, 7);
select allowed, used, "limit", remaining, retry_after between 3 and 4 as retry from kijko.rate_limit('b', 3600, '1 hour', 10, 7);
-- A key recovers by the real clock. kijko.clock_offset has no effect.
set kijko.clock_offset = '1 day';
select allowed from kijko.rate_limit('a', 3, '1 hour');
reset kijko.clock_offset;
select allowed from kijko.rate_limit('c', 20, '1 second', 1);
select allowed from kijko.rate_limit('c', 20, '1 second', 1);
select pg_sleep(0.06);
select allowed from kijko.rate_limit('c', 20, '1 second', 1);
-- In a read-only transaction.
begin read only;
select allowed from kijko.rate_limit('d', 1, '1 hour');
select allowed from kijko.rate_limit('d', 1, '1 hour');
rollback;
-- As a set of rows and in plpgsql, which cache the function's state differently.
select count(*) filter (where (v).allowed) from (select kijko.rate_limit('e', 5, '1 hour') as v from generate_series(1, 20) offset 0) as calls;
do $$
declare
    v kijko.verdict;
    n integer := 0;
begin
    for i in 1..20 loop
        v := kijko.rate_limit('f', 5, '1 hour');
        n := n + v.allowed::integer;
    end loop;
    raise notice '% allowed', n;
end
$$;
-- Keys of any length, also an empty key.
select allowed from kijko.rate_limit('', 1, '1 day');
select allowed from kijko.rate_limit(repeat('long', 100000), 1, '1 day');
select allowed from kijko.rate_limit(repeat('long', 100000), 1, '1 day');
-- Invalid arguments are an error, never allowed.
select kijko.rate_limit(null, 1, '1 hour');
select kijko.rate_limit('x', null, '1 hour');
select kijko.rate_limit('x', 0, '1 hour');
select kijko.rate_limit('x', -1, '1 hour');
select kijko.rate_limit('x', 1, null);
select kijko.rate_limit('x', 1, '0');
select kijko.rate_limit('x', 1, '-1 hour');
select kijko.rate_limit('x', 1, '1 month');
select kijko.rate_limit('x', 1, '1 hour', 0);
select kijko.rate_limit('x', 1, '1 hour', 5, 0);
select kijko.rate_limit('x', 1, '1 hour', 5, null);
select kijko.rate_limit('x', 1, '1 hour', 5, 6);
select kijko.rate_limit('x', 2147483647, '1 second');
select kijko.rate_limit('x', 1, '100000 days', 2147483647);
-- Figures. A full table evicts keys and counts the evictions.
select metric, value > 0 as counted from kijko.stats() where metric like 'rate_limit.%' and metric not like '%cycled' and metric not like '%evicted';
create temporary table before as select * from kijko.stats() where metric like 'rate_limit.%';
select count(*) from (select kijko.rate_limit('key ' || n, 1, '1 hour') from generate_series(1, 4000) as n offset 0) as calls;
select metric, stats.value - before.value > 2500 as many from kijko.stats() join before using (metric) where metric like '%evicted';
select u.value <= s.value as fits from kijko.stats() as u, kijko.stats() as s where u.metric = 'rate_limit.used' and s.metric = 'rate_limit.slots';
-- Only whether it may go on. It shares the key's state with kijko.rate_limit.
select kijko.allow('allowed', 2, '1 hour') from generate_series(1, 3);
select allowed from kijko.rate_limit('allowed', 2, '1 hour');
select kijko.allow('costly', 10, '1 hour', cost => 6) from generate_series(1, 2);
select kijko.allow('burst', 10, '1 hour', 1) from generate_series(1, 2);
begin read only;
select kijko.allow('read only', 1, '1 hour');
rollback;
select kijko.allow('read only', 1, '1 hour') as after_a_rollback;
select kijko.allow(null, 1, '1 hour');
select kijko.allow('x', null, '1 hour');
select kijko.allow('x', 1, '1 month');
select kijko.allow('x', 1, '1 hour', 1, 2);
