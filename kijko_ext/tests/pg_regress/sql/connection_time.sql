-- Connection time: the place that a running request occupies, and the time that is debited at its end. Refusals need several
-- sessions (isolation/specs/connection_time.spec).
\c postgres
\set VERBOSITY terse
create extension kijko;
\set org '00000000-0000-4000-8000-0000000000c1'
\set who '00000000-0000-4000-8000-0000000000c2'
create function in_flight() returns bigint language sql as $$ select value from kijko.stats() where metric = 'request.in_flight' $$;

-- A request is in flight until its transaction commits or rolls back. A savepoint does not end it.
begin;
select kijko.admit_request(:'org', :'who');
select in_flight();
savepoint s;
select kijko.admit_request(:'org', :'who');
rollback to s;
select in_flight();
commit;
select in_flight();
begin;
select kijko.admit_request(null);
select in_flight();
select 1 / 0;
rollback;
select in_flight();
begin;
select kijko.admit_request(null, :'who');
prepare transaction 'in flight';
select in_flight();
commit prepared 'in flight';

-- A request whose connection ends leaves no place occupied.
begin;
select kijko.admit_request(:'org');
\c
do $$
begin
    for i in 1..500 loop
        exit when in_flight() = 0;
        perform pg_sleep(0.01);
    end loop;
end
$$;
select in_flight();

-- Without a rate and a pool there is no limit, and no request occupies a place.
set kijko.connection_time_rate = 0;
set kijko.connection_pool_size = 0;
begin;
select kijko.admit_request(:'org', :'who');
select in_flight();
commit;
reset kijko.connection_time_rate;
begin;
select kijko.admit_request(:'org', :'who');
select in_flight();
commit;
reset kijko.connection_pool_size;

-- Only a superuser may set it.
create role app_user;
set role app_user;
set kijko.connection_time_rate = 1000;
set kijko.connection_time_burst = '1 h';
set kijko.connection_time_concurrency = 1000;
set kijko.connection_pool_size = 0;
set kijko.connection_brief_timeout = '1 h';
set kijko.free_tiers = '';
reset role;
drop role app_user;
\set VERBOSITY sqlstate
set kijko.connection_time_rate = -1;
set kijko.connection_time_burst = 0;
set kijko.connection_time_concurrency = 0;
set kijko.connection_pool_size = -1;
set kijko.connection_brief_timeout = 0;
\set VERBOSITY terse
drop function in_flight();
drop extension kijko;
