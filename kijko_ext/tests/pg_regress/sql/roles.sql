-- A role without grants can call only the functions that read its own identity and pure functions.
\set VERBOSITY terse
\set SHOW_CONTEXT never
create role app_user;
set role app_user;
select kijko.claims() is null, kijko.user_id() is null, kijko.session_id() is null, kijko.now() = now(), kijko.is_request();
select count(*) > 0 as readable from kijko.error_codes;
select kijko.cron_next('@daily', 'UTC', '2026-01-01 00:00Z') is not null;
select '@daily'::kijko.cron;
select kijko.set_limit(gen_random_uuid(), 'x', 'month', 1);
select kijko.try_consume(gen_random_uuid(), 'x');
select kijko.consume(gen_random_uuid(), 'x');
select kijko.usage(gen_random_uuid());
select kijko.rate_limit('x', 1, '1 hour');
select kijko.stats();
select kijko.revoke_session(gen_random_uuid());
select kijko.restore_session(gen_random_uuid());
select kijko.sign_jwt('{}');
select kijko.sign_jwt_with_key('{}', 'x');
select kijko.verify_jwt('x');
select kijko.jwks();
select kijko.pre_config();
select kijko.period_end(gen_random_uuid(), 'month', now());
select from kijko.limits;
select from kijko.usage_totals;
select from kijko.ledger;
select from kijko.idempotency_keys;
select from kijko.revoked_sessions;
insert into kijko.error_codes values ('x', 400, 'XXXXX', 'x');
update kijko.error_codes set http_status = 500;
delete from kijko.error_codes;
create function kijko.mine() returns void language sql as '';
create table kijko.mine ();
reset role;
drop role app_user;
-- A role with the functions needs no rights on the tables, and gets none.
create role domain_owner;
grant execute on function kijko.set_limit(uuid, text, text, bigint, text), kijko.consume(uuid, text, bigint, text), kijko.usage(uuid), kijko.revoke_session(uuid, timestamptz),
    kijko.usage_by(uuid, text, text, date, date), kijko.explain_limit(uuid, text), kijko.ingest_usage(uuid, jsonb, jsonb),
    kijko.correct_usage(uuid, text, bigint, text, timestamptz, text), kijko.settle(uuid, bigint, uuid, text) to domain_owner;
begin;
set local role domain_owner;
select kijko.set_limit('11111111-1111-4111-8111-111111111111', 'x', 'lifetime', 5);
select used, remaining from kijko.consume('11111111-1111-4111-8111-111111111111', 'x', 2);
select * from kijko.usage('11111111-1111-4111-8111-111111111111');
select kijko.revoke_session('11111111-1111-4111-8111-111111111111');
savepoint here;
select kijko.try_consume('11111111-1111-4111-8111-111111111111', 'x');
rollback to here;
update kijko.usage_totals set amount = 0;
rollback;
-- Nor does it get the superuser's rights by types of its own with names of Postgres' types.
set role domain_owner;
create function pg_temp.seen(value pg_catalog.text) returns boolean language plpgsql as $$ begin raise notice 'as %', current_user; return true; end $$;
create domain pg_temp.text as pg_catalog.text check (pg_temp.seen(value));
create domain pg_temp.timestamptz as pg_catalog.timestamptz check (pg_temp.seen('timestamptz'));
create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.seen('uuid'));
create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.seen('jsonb'));
create domain pg_temp.date as pg_catalog.date check (pg_temp.seen('date'));
select kijko.set_limit('22222222-1111-4111-8111-111111111111', 'x', 'day', 5);
select kijko.set_limit('22222222-1111-4111-8111-111111111111', 'x', 'month', 5);
select meter, used from kijko.usage('22222222-1111-4111-8111-111111111111');
select used from kijko.consume('22222222-1111-4111-8111-111111111111', 'x', 6);
select meter, value, used from kijko.usage_by('22222222-1111-4111-8111-111111111111', 'day');
select kijko.explain_limit('22222222-1111-4111-8111-111111111111', 'x') ->> 'used' as used;
select kijko.ingest_usage('22222222-1111-4111-8111-111111111111', '[{"specversion": "1.0", "source": "/s", "id": "1", "type": "t"}]', '{"t": {"meter": "x"}}');
select kijko.correct_usage('22222222-1111-4111-8111-111111111111', 'x', 1, 'why');
select kijko.settle('22222222-3333-4111-8111-111111111111', 1, '22222222-1111-4111-8111-111111111111', 'x');
reset role;
drop owned by domain_owner;
drop role domain_owner;
