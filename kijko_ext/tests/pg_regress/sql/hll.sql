-- Distinct counts by sketches.
\pset null '<null>'
create function element(n bigint) returns uuid language sql immutable as $$ select lpad(to_hex(n), 32, '0')::uuid $$;
select n, abs(kijko.hll_cardinality((select kijko.hll_add_agg(element(i)) from generate_series(1, n) as i)) - n) <= 0.05 * n as close
from (values (0), (1), (100), (5000), (100000)) as v (n);
select kijko.hll_cardinality(kijko.hll_add_agg(element(n % 10))) as repeated, max(length(s)) <= 4097 as bounded
from generate_series(1, 1000) as n, lateral (select kijko.hll_add_agg(element(i)) as s from generate_series(1, 3) as i) as t;
-- A union counts what is in both once.
with part as (
    select k, kijko.hll_add_agg(element(n)) as sketch from generate_series(1, 3000) as n, generate_series(1, 2) as k
    where n <= 2000 and k = 1 or n > 1000 and k = 2 group by k
)
select abs(kijko.hll_cardinality(kijko.hll_union_agg(sketch)) - 3000) < 150 as union_is_close,
    kijko.hll_cardinality(kijko.hll_union_agg(sketch)) = (select kijko.hll_cardinality(kijko.hll_add_agg(element(n))) from generate_series(1, 3000) as n) as as_of_all
from part;
-- Without an element there is no sketch.
select kijko.hll_add_agg(e) as of_null, kijko.hll_union_agg(null) as of_none, kijko.hll_cardinality(null) as nothing from (values (null::uuid)) as v (e);
-- Refused: other bytes.
\set VERBOSITY sqlstate
select kijko.hll_cardinality('\x09');
select kijko.hll_union_agg('\x01ffff01');
\set VERBOSITY default
drop function element;
-- Only those whom the platform lets call it.
create role sketch_stranger;
grant usage on schema kijko to sketch_stranger;
set role sketch_stranger;
select kijko.hll_cardinality('\x01');
reset role;
revoke usage on schema kijko from sketch_stranger;
drop role sketch_stranger;
