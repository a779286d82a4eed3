-- Requests with a cached membership, requests to another server, and the headers of a quota use.
\c postgres
\set VERBOSITY terse
\pset null '<null>'
create extension kijko;
\set org '00000000-0000-4000-8000-00000000000a'
\set who '00000000-0000-4000-8000-00000000000c'
create table memberships (org_id uuid, user_id uuid);
create trigger memberships_changed after insert or update or delete on memberships
    for each row execute function kijko.invalidate_cache('memberships', 'user_id');
create trigger memberships_truncated after truncate on memberships
    for each statement execute function kijko.invalidate_cache('memberships');
set request.method = 'GET';
set request.path = '/projects';
set request.headers = '{}';
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800}';

-- An entry is cached by member and requested organization.
select kijko.admit_cached_member();
select kijko.membership_epoch() as epoch \gset
select kijko.cache_membership(:epoch, :'who', null, :'org');
select kijko.admit_cached_member();
set request.headers = '{"x-org-id": "00000000-0000-4000-8000-00000000000a"}';
select kijko.admit_cached_member();
select kijko.cache_membership(:epoch, :'who', :'org', :'org');
select kijko.admit_cached_member();
set request.headers = '{"x-org-id": "nonsense"}';
select kijko.admit_cached_member();
select kijko.requested_org_id();
set request.headers = '{"x-org-id": "00000000-0000-4000-8000-00000000000B"}';
select kijko.requested_org_id();
set request.headers = '{}';
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800, "org_id": "00000000-0000-4000-8000-00000000000a"}';
select kijko.requested_org_id();
select kijko.admit_cached_member();
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000d", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800}';
select kijko.admit_cached_member();
set request.jwt.claims = '{"role": "anon"}';
select kijko.admit_cached_member();
select kijko.requested_org_id(), kijko.platform_org_id();
-- A token of a revoked session names no user, cached or not.
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800, "session_id": "00000000-0000-4000-8000-00000000000e"}';
select kijko.admit_cached_member();
select kijko.revoke_session('00000000-0000-4000-8000-00000000000e');
select kijko.admit_cached_member();
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800}';
select kijko.admit_cached_member();

-- A token that is no access token is refused, cached or not: without exp, aud or iss, or with iat in the future.
\set fault 'select kijko.token_fault() as fault, kijko.admit_cached_member() as admitted;'
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here"}';
:fault
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "iss": "here", "exp": 4102444800}';
:fault
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "elsewhere", "iss": "here", "exp": 4102444800}';
:fault
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "exp": 4102444800}';
:fault
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800, "iat": 4102444700}';
:fault
-- Without a user nothing is cached. A key is an access token without sub.
set request.jwt.claims = '{"role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800}';
:fault
set request.jwt.claims = '{"role": "service_role", "iss": "here", "exp": 4102444800}';
:fault
set request.jwt.claims = '{"role": "service_role"}';
:fault
-- Without a token PostgREST sets only the role.
set request.jwt.claims = '{"role": "anon"}';
:fault
-- PostgREST adds a role to a token without one, so the header is checked.
set request.jwt.claims = '{"role": "anon", "iss": "here", "exp": 4102444800}';
:fault
select set_config('request.headers', json_build_object('authorization', 'Bearer ' || kijko.sign_jwt('{"iss": "here", "exp": 4102444800}'))::text, false) is not null as sent;
:fault
select set_config('request.headers', json_build_object('authorization', 'Bearer ' || kijko.sign_jwt('{"iss": "here", "exp": 4102444800, "role": "anon"}'))::text, false) is not null as sent;
:fault
set request.headers = '{}';
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800}';

-- A change invalidates all entries, and an entry that was read before the change is not cached.
insert into memberships default values;
select kijko.admit_cached_member();
select kijko.cache_membership(:epoch, :'who', null, :'org');
select kijko.admit_cached_member();
-- In its own transaction a change applies before the commit. A rollback invalidates the entries that were cached meanwhile.
select kijko.membership_epoch() as epoch \gset
select kijko.cache_membership(:epoch, :'who', null, :'org');
begin;
savepoint one;
truncate memberships;
select kijko.admit_cached_member();
select kijko.membership_epoch() as epoch \gset
select kijko.cache_membership(:epoch, :'who', null, :'org');
select kijko.admit_cached_member();
rollback to one;
select kijko.admit_cached_member();
commit;
-- A transaction with an older snapshot caches nothing.
begin isolation level repeatable read;
select kijko.membership_epoch() as epoch \gset
select kijko.cache_membership(:epoch, :'who', null, :'org');
select kijko.admit_cached_member();
commit;
-- Null arguments are not cached.
select kijko.cache_membership(:epoch, null, null, :'org');
select kijko.cache_membership(:epoch, :'who', null, null);
select kijko.admit_cached_member();
-- Only the owner of the domain may fill the cache.
create role app_user;
set role app_user;
select kijko.cache_membership(1, null, null, null);
select kijko.membership_epoch();
select kijko.admit_cached_member();
select from kijko.cache_changes;
reset role;
drop role app_user;

-- Requests to another server: by the address that its proxy saw, and by route.
select kijko.admit_external('10.0.0.1', 'POST', '/webhooks/stripe');
select kijko.set_rate_limit_policy('failed', 'address', 1, '1 hour', 'external', route => '/webhooks/*');
create function external(forwarded_for text, path text default '/webhooks/stripe') returns table (code text, details text, headers text)
language sql as $$
    select a ->> 'code', a ->> 'details', regexp_replace(regexp_replace(
        a ->> 'headers', '("X-RateLimit-Reset": |"Retry-After": )"\d+"', '\1"..."', 'g'), ';t=\d+', ';t=...', 'g')
    from kijko.admit_external(forwarded_for, 'POST', path) as a
$$;
select * from external('6.6.6.6, 10.0.0.1');
select * from external('7.7.7.7, 10.0.0.1');
select * from external('10.0.0.2');
select * from external('10.0.0.1', '/health');
-- By network: the /64 of an IPv6 address. An IPv4-mapped address counts as IPv4.
select code from external('2001:db8::1');
select code from external('2001:db8::ffff:2');
select code from external('2001:db8:0:1::1');
select code from external('::ffff:10.0.0.2');
-- Behind a trusted proxy it is the address that the proxy saw.
select code from external('10.0.0.3, 10.9.1.1');
select code from external('6.6.6.6, 10.0.0.3, fd09::1, 10.9.1.1');
select code from external(null);
select code from external('');
alter table kijko.rate_limit_policies rename to away;
\c
set kijko.on_rate_limit_failure = 'closed';
select * from external('10.0.0.1');
set kijko.on_rate_limit_failure = 'open';
select * from external('10.0.0.1');
alter table kijko.away rename to rate_limit_policies;

-- Headers list quota uses beside the limits of the request.
set request.method = 'POST';
select kijko.set_rate_limit_policy('requests', 'organization', 100, '1 hour');
select kijko.set_limit(:'org', 'executions', 'lifetime', 2), kijko.set_limit(:'org', 'llm_tokens', 'month', 10);
create function sent() returns text language sql as $$
    select regexp_replace(regexp_replace(kijko.response_headers()::text, '("X-RateLimit-Reset": )"\d+"', '\1"..."', 'g'), ';t=\d+', ';t=...', 'g')
$$;
begin;
select kijko.admit_request(:'org');
select (kijko.consume(:'org', 'executions')).remaining;
select sent();
select (kijko.consume(:'org', 'llm_tokens', 4)).remaining;
select (kijko.consume(:'org', 'executions')).remaining;
select sent();
rollback;
select sent();
-- By default X-RateLimit-* come with a refusal only; a setting adds them to every response.
begin;
set local kijko.rate_limit_headers = 'all';
select kijko.admit_request(:'org');
select sent();
select (kijko.consume(:'org', 'llm_tokens', 4)).remaining;
select sent();
rollback;
set kijko.rate_limit_headers = 'some';
drop function external, sent;
drop table memberships;
drop extension kijko;
