-- The caller of a request.
\pset null '<null>'
\set VERBOSITY terse
create function caller_of(claims text) returns kijko.caller language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims, true);
    return kijko.actor();
end
$$;
-- No claims, and malformed claims.
select * from caller_of(null);
select * from caller_of('');
select * from caller_of('not json');
select * from caller_of('{}');
-- A user, with and without a session.
select * from caller_of('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "22222222-2222-4222-8222-222222222222"}');
select * from caller_of('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated"}');
select * from caller_of('{"role": "authenticated"}');
select * from caller_of('{"sub": "someone", "role": "authenticated"}');
-- The service key and the anon key name no user.
select * from caller_of('{"sub": "11111111-1111-4111-8111-111111111111", "role": "service_role"}');
select * from caller_of('{"sub": "11111111-1111-4111-8111-111111111111", "role": "anon"}');
-- Claims of any other role name no caller.
select * from caller_of('{"sub": "11111111-1111-4111-8111-111111111111", "role": "postgres"}');
select * from caller_of('{"sub": "11111111-1111-4111-8111-111111111111"}');
-- A token with a malformed or revoked session names no caller.
select * from caller_of('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "mine"}');
select kijko.revoke_session('22222222-2222-4222-8222-222222222222');
select role, (caller_of(format('{"sub": "11111111-1111-4111-8111-111111111111", "role": %s, "session_id": "22222222-2222-4222-8222-222222222222"}', to_json(role)))).*
from unnest(array['authenticated', 'service_role', 'anon']) as role;
select kijko.restore_session('22222222-2222-4222-8222-222222222222');
-- No other malformed claims name one, nor a session.
select claims, caller_of(claims) is not distinct from caller_of('') as as_without, kijko.user_id(), kijko.session_id()
from unnest(array['null', '{"sub": 7, "role": "authenticated"}', '{"sub": null, "role": "authenticated"}', '{"sub": "\u0000", "role": "authenticated"}',
    '[{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated"}]',
    '{"sub": "11111111-1111-4111-8111-111111111111", "role": ["authenticated"]}']) as claims;
-- It agrees with the functions that return one column.
select set_config('request.jwt.claims', '{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated"}', false) is not null as set;
select (kijko.actor()).user_id = kijko.user_id() as same, pg_typeof(kijko.actor());
-- Every role may call it, also in parallel workers.
create role web login;
create table many as select n from generate_series(1, 50000) as n;
analyze many;
grant select on many to web;
begin;
set local role web;
set local parallel_setup_cost = 0;
set local parallel_tuple_cost = 0;
set local min_parallel_table_scan_size = 0;
explain (costs off) select count(*) from many where (kijko.actor()).kind = 'user';
select count(*) from many where (kijko.actor()).kind = 'user';
rollback;
-- Claims of a login that is not trusted are ignored.
set session authorization web;
select * from kijko.actor();
reset session authorization;
drop table many;
drop role web;
reset request.jwt.claims;
drop function caller_of(text);
delete from kijko.revoked_sessions;
