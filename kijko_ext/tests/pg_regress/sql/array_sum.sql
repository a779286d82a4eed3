-- Sums of arrays, element by element.
select kijko.array_sum(a) from (values (array[1, 2]), (null), (array[10, 20])) as v (a);
select kijko.array_sum(a), pg_typeof(kijko.array_sum(a)) from (values (array[2147483647, -1]), (array[1, 1])) as v (a);
select kijko.array_sum(a) from (values (array[9223372036854775806, 0]), (array[1, 5])) as v (a);
-- Without an array there is no sum; an empty one is a sum.
select kijko.array_sum(a) is null as of_null, kijko.array_sum(a) filter (where false) is null as of_no_row from (values (null::bigint[])) as v (a);
select kijko.array_sum(a) from (values ('{}'::integer[]), ('{}')) as v (a);
-- Groups, windows and compressed arrays.
select n % 3 as rest, kijko.array_sum(array[n, n * n]) from generate_series(1, 1000) as n group by 1 order by 1;
select n, kijko.array_sum(array[n, 1]) over (order by n rows between 1 preceding and current row) from generate_series(1, 3) as n;
create table sum_of_stored (a bigint[]);
insert into sum_of_stored select array_agg(n) from generate_series(1, 5000) as n;
insert into sum_of_stored select a from sum_of_stored;
select s[1] as first, s[5000] as last, cardinality(s) from (select kijko.array_sum(a) as s from sum_of_stored) as t;
drop table sum_of_stored;
-- Refused: lengths that differ, null elements, overflow.
\set VERBOSITY sqlstate
select kijko.array_sum(a) from (values (array[1, 2]), (array[1])) as v (a);
select kijko.array_sum(array[1, null]);
select kijko.array_sum(a) from (values (array[9223372036854775807]), (array[1])) as v (a);
\set VERBOSITY default
-- Only those whom the platform lets call it.
create role sum_stranger;
grant usage on schema kijko to sum_stranger;
set role sum_stranger;
select kijko.array_sum(array[1]);
reset role;
revoke usage on schema kijko from sum_stranger;
drop role sum_stranger;
