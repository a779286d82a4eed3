-- A transaction with very many counters: each is found without a search, and no subject holds more than its share of the table.
\set VERBOSITY sqlstate
\pset null '<null>'
create function m(n bigint) returns uuid language sql immutable as $$ select ('3a3a3a3a-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
create function pinned() returns bigint language sql as $$ select value from kijko.stats() where metric = 'quota.pinned' $$;
begin;
select count(*) as allowed from generate_series(1, 20000) as n, kijko.try_consume(m(n), 'x') as v where v.allowed;
select count(*) as again, max(v.used) as used from generate_series(1, 20000) as n, kijko.try_consume(m(n), 'x') as v where v.allowed;
select pinned();
rollback;
select pinned();
-- In subtransactions that are released, one of ten rolled back.
create function in_parts(parts integer) returns integer language plpgsql as $$
declare
    failed integer := 0;
begin
    for n in 1..parts loop
        begin
            perform kijko.consume(m(n % 4000), 'x');
            if n % 10 = 0 then raise 'part'; end if;
        exception
            when raise_exception then failed := failed + 1;
        end;
    end loop;
    return failed;
end
$$;
begin;
select in_parts(8000) as failed;
select pinned();
select sum(v.used) as used from generate_series(0, 3999) as n, kijko.quota_status(m(n), 'x') as v;
commit;
select pinned(), sum(g.amount) as recorded, (select sum(v.used) from generate_series(0, 3999) as n, kijko.quota_status(m(n), 'x') as v) as used
from kijko.ledger as g where g.subject between m(0) and m(3999);
-- The meters of one subject, beyond its share; those that fit stay.
create function use_meters(whose uuid, meters integer) returns table (used bigint, refused bigint) language plpgsql as $$
begin
    used := 0; refused := 0;
    for n in 1..meters loop
        begin
            perform kijko.consume(whose, 'm' || n);
            used := used + 1;
        exception
            when sqlstate '22000' then refused := refused + 1;
        end;
    end loop;
    return next;
end
$$;
begin;
select * from use_meters(m(1), 10000);
select pinned();
select used from kijko.consume(m(1), 'm1');
savepoint a;
select used from kijko.consume(m(1), 'm10000');
rollback to a;
select used from kijko.consume(m(2), 'm10000');
rollback;
select pinned();
-- In several transactions it may use as many as it likes.
select used from kijko.consume(m(1), 'm10000');
-- A client's request has one share in all: an organization has many subjects.
begin;
select set_config('request.method', 'POST', true);
select count(*) as allowed from generate_series(1, 1024) as n, kijko.try_consume(m(n), 'y') as v where v.allowed;
savepoint a;
select set_config('request.method', '', true);
select used from kijko.consume(m(1025), 'y');
rollback to a;
select used from kijko.consume(m(1024), 'y');
\set VERBOSITY terse
do $$
begin
    perform kijko.consume(m(1025), 'y');
exception
    when sqlstate 'PGRST' then raise notice '%', sqlerrm::jsonb ->> 'code';
end
$$;
rollback;
-- The service key has no such bound: it acts for the installation.
begin;
select set_config('request.method', 'POST', true) = '' as set, set_config('request.jwt.claims', '{"role": "service_role"}', true) = '' as set;
select count(*) as allowed from generate_series(1, 1025) as n, kijko.try_consume(m(n), 'y') as v where v.allowed;
rollback;
-- One call for many subjects.
begin;
select used from kijko.try_consume_many((select array_agg(m(n)) from generate_series(1, 20000) as n), 'z', 2);
select pinned();
rollback;
select pinned();
drop function m(bigint), pinned(), in_parts(integer), use_meters(uuid, integer);
