-- Revoked sessions in shared memory: results are the same whether a session is cached or read from the table.
\set VERBOSITY terse
\pset null '<null>'
create function figure(metric text) returns bigint language sql as 'select value from kijko.stats() as s where s.metric = figure.metric';
create function revoked(session integer) returns boolean language plpgsql as $$
begin
    perform set_config('request.jwt.claims', json_build_object('session_id', lpad(session::text, 32, '0')::uuid)::text, true);
    return kijko.session_id() is null;
end
$$;
create function id(session integer) returns uuid language sql return lpad(session::text, 32, '0')::uuid;
-- The first lookup loads them; later ones do not.
select figure('session.loads') as loads \gset
delete from kijko.revoked_sessions;
insert into kijko.revoked_sessions (session_id, expires_at) select id(n), now() + interval '1 day' from generate_series(1, 10) as n;
select n, revoked(n) from generate_series(9, 12) as n;
select figure('session.loads') - :loads as loads;
-- A revocation applies at commit, and in its own transaction at once.
begin;
select kijko.revoke_session(id(11));
select revoked(11), revoked(12);
savepoint s;
select kijko.revoke_session(id(12));
select revoked(11), revoked(12);
rollback to s;
select revoked(11), revoked(12);
rollback;
select revoked(11), revoked(12);
begin;
savepoint s;
select kijko.revoke_session(id(11));
release s;
commit;
select revoked(11), revoked(12);
select figure('session.loads') - :loads as loads;
-- Deleted by hand.
delete from kijko.revoked_sessions where session_id = id(11);
select revoked(10), revoked(11);
update kijko.revoked_sessions set session_id = id(11) where session_id = id(10);
select revoked(10), revoked(11);
update kijko.revoked_sessions set expires_at = expires_at + interval '1 day' where session_id = id(11);
select revoked(11);
truncate kijko.revoked_sessions;
select revoked(1), revoked(11);
-- Ended by restore_session: at commit, and in its own transaction at once.
select kijko.revoke_session(id(11)), kijko.revoke_session(id(12));
begin;
select kijko.restore_session(id(11));
select revoked(11), revoked(12);
rollback;
select revoked(11), revoked(12);
select kijko.restore_session(id(11));
select revoked(11), revoked(12);
select kijko.restore_session(id(11)), kijko.restore_session(null);
begin;
select kijko.restore_session(id(12));
select kijko.revoke_session(id(12), now() + interval '1 minute');
select revoked(12);
commit;
select revoked(12), expires_at = revoked_at + interval '1 minute' as shorter from kijko.revoked_sessions where session_id = id(12);
-- An expired revocation has no effect, in shared memory and in the table, before it is deleted.
insert into kijko.revoked_sessions (session_id, expires_at) values (id(15), clock_timestamp());
select revoked(15);
begin;
insert into kijko.revoked_sessions (session_id, expires_at) values (id(16), now() + interval '1 day');
select revoked(15), revoked(16);
rollback;
select count(*) from kijko.revoked_sessions where session_id = id(15);
truncate kijko.revoked_sessions;
-- Rows that a replica applies count, too.
set session_replication_role = replica;
insert into kijko.revoked_sessions (session_id, expires_at) values (id(13), now() + interval '1 day');
reset session_replication_role;
select revoked(13);
-- PREPARE is refused: another backend would have to update shared memory.
begin;
select kijko.revoke_session(id(14));
prepare transaction 'revokes';
select revoked(14);
-- A copied database has its own revocations.
\set origin :DBNAME
create database session_copy template :"origin";
\c session_copy
select revoked(13);
delete from kijko.revoked_sessions;
select revoked(13);
\c :"origin"
select revoked(13);
drop database session_copy;
-- Expired revocations make room. Those that do not fit are found in the table.
select figure('session.slots');
insert into kijko.revoked_sessions (session_id, expires_at) select id(n), now() - interval '1 hour' from generate_series(10001, 15000) as n;
select figure('session.full') as full \gset
insert into kijko.revoked_sessions (session_id, expires_at) select id(n), now() + interval '1 day' from generate_series(20001, 20500) as n;
select count(*) filter (where revoked(n)) from generate_series(20001, 20600) as n;
insert into kijko.revoked_sessions (session_id, expires_at) select id(n), now() + interval '1 day' from generate_series(30001, 35000) as n;
select figure('session.full') > :full as did_not_fit;
select count(*) filter (where revoked(n)) from generate_series(30001, 35600) as n;
-- An extension that is dropped and created again has its own table.
drop extension kijko;
create extension kijko;
select count(*) filter (where revoked(n)) from generate_series(30001, 35600) as n;
select kijko.revoke_session(id(14));
select revoked(14);
delete from kijko.revoked_sessions;
drop function figure, revoked, id;
