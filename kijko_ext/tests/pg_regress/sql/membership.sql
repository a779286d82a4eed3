-- Requests whose member is known, requests that another server takes, and what a client is told of uses.
\c postgres
\set VERBOSITY terse
\pset null '<null>'
create extension kijko;
\set org '00000000-0000-4000-8000-00000000000a'
\set who '00000000-0000-4000-8000-00000000000c'
create table memberships (org_id uuid, user_id uuid);
create trigger memberships_changed after insert or update or delete or truncate on memberships
    for each statement execute function kijko.membership_changed();
set request.method = 'GET';
set request.path = '/projects';
set request.headers = '{}';
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated"}';

-- Known is what was told, by member and by the organization asked for.
select kijko.admit_known_request();
select kijko.membership_epoch() as epoch \gset
select kijko.remember_membership(:epoch, :'who', null, :'org');
select kijko.admit_known_request();
set request.headers = '{"x-org-id": "00000000-0000-4000-8000-00000000000a"}';
select kijko.admit_known_request();
select kijko.remember_membership(:epoch, :'who', :'org', :'org');
select kijko.admit_known_request();
set request.headers = '{"x-org-id": "nonsense"}';
select kijko.admit_known_request();
set request.headers = '{}';
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "org_id": "00000000-0000-4000-8000-00000000000a"}';
select kijko.admit_known_request();
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000d", "role": "authenticated"}';
select kijko.admit_known_request();
set request.jwt.claims = '{"role": "anon"}';
select kijko.admit_known_request();
-- A session that was revoked names nobody, known or not.
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "session_id": "00000000-0000-4000-8000-00000000000e"}';
select kijko.admit_known_request();
select kijko.revoke_session('00000000-0000-4000-8000-00000000000e');
select kijko.admit_known_request();
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated"}';
select kijko.admit_known_request();

-- A change forgets everything; what was read before it is not taken.
insert into memberships default values;
select kijko.admit_known_request();
select kijko.remember_membership(:epoch, :'who', null, :'org');
select kijko.admit_known_request();
-- Before the commit for oneself, and once more when it is rolled back: what was told meanwhile was never true.
select kijko.membership_epoch() as epoch \gset
select kijko.remember_membership(:epoch, :'who', null, :'org');
begin;
savepoint one;
truncate memberships;
select kijko.admit_known_request();
select kijko.membership_epoch() as epoch \gset
select kijko.remember_membership(:epoch, :'who', null, :'org');
select kijko.admit_known_request();
rollback to one;
select kijko.admit_known_request();
commit;
-- An old snapshot is no reason to believe anything.
begin isolation level repeatable read;
select kijko.membership_epoch() as epoch \gset
select kijko.remember_membership(:epoch, :'who', null, :'org');
select kijko.admit_known_request();
commit;
-- Nothing is known of nobody.
select kijko.remember_membership(:epoch, null, null, :'org');
select kijko.remember_membership(:epoch, :'who', null, null);
select kijko.admit_known_request();
-- Only the domain tells.
create role stranger;
set role stranger;
select kijko.remember_membership(1, null, null, null);
select kijko.membership_epoch();
select kijko.admit_known_request();
select from kijko.membership_changes;
reset role;
drop role stranger;

-- Requests that another server takes: by the address that its proxy saw, and by route.
select kijko.admit_outside('10.0.0.1', 'POST', '/webhooks/stripe');
select kijko.set_rate_limit_policy('failed', 'address', 1, '1 hour', 'outside', route => '/webhooks/*');
create function outside(forwarded_for text, path text default '/webhooks/stripe') returns table (code text, details text, headers text)
language sql as $$
    select a ->> 'code', a ->> 'details', regexp_replace(regexp_replace(
        a ->> 'headers', '("X-RateLimit-Reset": |"Retry-After": )"\d+"', '\1"..."', 'g'), ';t=\d+', ';t=...', 'g')
    from kijko.admit_outside(forwarded_for, 'POST', path) as a
$$;
select * from outside('6.6.6.6, 10.0.0.1');
select * from outside('7.7.7.7, 10.0.0.1');
select * from outside('10.0.0.2');
select * from outside('10.0.0.1', '/health');
select code from outside(null);
select code from outside('');
alter table kijko.rate_limit_policies rename to away;
\c
set kijko.on_rate_limit_failure = 'closed';
select * from outside('10.0.0.1');
set kijko.on_rate_limit_failure = 'open';
select * from outside('10.0.0.1');
alter table kijko.away rename to rate_limit_policies;

-- Uses stand beside the limits of the request.
set request.method = 'POST';
select kijko.set_rate_limit_policy('requests', 'organization', 100, '1 hour');
select kijko.set_limit(:'org', 'executions', 'lifetime', 2), kijko.set_limit(:'org', 'llm_tokens', 'month', 10);
create function told() returns text language sql as $$
    select regexp_replace(regexp_replace(kijko.response_headers()::text, '("X-RateLimit-Reset": )"\d+"', '\1"..."', 'g'), ';t=\d+', ';t=...', 'g')
$$;
begin;
select kijko.admit_request(:'org');
select (kijko.consume(:'org', 'executions')).remaining;
select told();
select (kijko.consume(:'org', 'llm_tokens', 4)).remaining;
select (kijko.consume(:'org', 'executions')).remaining;
select told();
rollback;
select told();
drop function outside, told;
drop table memberships;
drop extension kijko;
