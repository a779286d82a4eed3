\pset null '<null>'
create function ask(claims text, out claims_are jsonb, out user_id uuid, out session_id uuid) language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims, true);
    select kijko.claims(), kijko.user_id(), kijko.session_id() into claims_are, user_id, session_id;
end
$$;
-- A user's token.
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "22222222-2222-4222-8222-222222222222"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": null}');
-- Any other token names no user, and is no error.
select * from ask('');
select * from ask(null);
select * from ask('null');
select * from ask('[]');
select * from ask('"x"');
select * from ask('7');
select * from ask('{');
select * from ask('not json');
select * from ask('{"role": "authenticated"}');
select * from ask('{"sub": null, "role": "authenticated"}');
select * from ask('{"sub": "", "role": "authenticated"}');
select * from ask('{"sub": "someone", "role": "authenticated"}');
select * from ask('{"sub": 7, "role": "authenticated"}');
select * from ask('{"sub": "{11111111-1111-4111-8111-111111111111}", "role": "authenticated"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "anon"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "service_role"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "AUTHENTICATED"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": ["authenticated"]}');
-- A session_id that is no uuid makes the token invalid.
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "mine"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": 7}');
-- A text that jsonb cannot hold has no claims.
select * from ask('{"sub": "\u0000", "role": "authenticated"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "a": 1e999}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "a": "\ud800"}');
select claims_are is null as too_deep from ask('{"a": ' || repeat('[', 100000) || repeat(']', 100000) || '}');
-- Of repeated keys the last value counts, as in jsonb.
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "role": "anon"}');
-- They end with their transaction.
begin;
set local request.jwt.claims = '{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated"}';
select kijko.user_id();
commit;
select kijko.claims(), kijko.user_id();
-- A token of a revoked session names no user; other sessions are not affected. The claims remain readable.
select kijko.revoke_session('22222222-2222-4222-8222-222222222222');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "22222222-2222-4222-8222-222222222222"}');
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "33333333-3333-4333-8333-333333333333"}');
-- A second revocation can only extend the first.
select kijko.revoke_session('22222222-2222-4222-8222-222222222222', now() + interval '1 hour');
select expires_at > now() + interval '23 hours' as kept from kijko.revoked_sessions;
-- A revocation that is rolled back has no effect.
begin;
select kijko.revoke_session('33333333-3333-4333-8333-333333333333');
rollback;
select session_id from ask('{"role": "authenticated", "session_id": "33333333-3333-4333-8333-333333333333"}');
-- Expired rows are deleted.
insert into kijko.revoked_sessions (session_id, expires_at) select gen_random_uuid(), now() - interval '1 second' from generate_series(1, 150);
select kijko.revoke_session('44444444-4444-4444-8444-444444444444');
select count(*) from kijko.revoked_sessions;
select kijko.revoke_session('44444444-4444-4444-8444-444444444444');
select count(*) from kijko.revoked_sessions;
\set VERBOSITY terse
select kijko.revoke_session(null);
select kijko.revoke_session('44444444-4444-4444-8444-444444444444', null);
-- The lookup needs no rights on the table, and the caller has none.
create role web login;
begin;
set local role web;
select * from (select set_config('request.jwt.claims', '{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "44444444-4444-4444-8444-444444444444"}', true)) as s(claims), kijko.user_id();
select set_config('request.jwt.claims', '{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated", "session_id": "55555555-5555-4555-8555-555555555555"}', true) is not null as set;
select kijko.user_id();
savepoint before;
select from kijko.revoked_sessions;
rollback to before;
-- It works in parallel workers.
reset role;
create table many as select n from generate_series(1, 50000) as n;
analyze many;
set local parallel_setup_cost = 0;
set local parallel_tuple_cost = 0;
set local min_parallel_table_scan_size = 0;
explain (costs off) select count(*) from many where kijko.user_id() is not null;
select count(*) from many where kijko.user_id() = '11111111-1111-4111-8111-111111111111';
rollback;
-- Claims of a login that is not trusted are ignored.
set session authorization web;
select * from ask('{"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated"}');
set kijko.trusted_session_users = 'web';
alter system set kijko.trusted_session_users = 'web';
reset session authorization;
drop role web;
delete from kijko.revoked_sessions;
drop function ask;
