-- Admission of requests: policies, quota, metering, headers, and what happens when the limiter itself fails.
-- Workers meter the databases in kijko.databases.
\c postgres
\set VERBOSITY terse
\pset null '<null>'
create extension kijko;
\set org '00000000-0000-4000-8000-00000000000a'
\set other '00000000-0000-4000-8000-00000000000b'
\set who '00000000-0000-4000-8000-00000000000c'

-- Several limits at once, all or nothing.
select allowed, meter, used, remaining from kijko.rate_limits(array['r1', 'r2'], array[2, 3], array[interval '1 hour', '1 hour']);
select allowed, meter, used, remaining from kijko.rate_limits(array['r1', 'r2'], array[2, 3], array[interval '1 hour', '1 hour'], null, array[1, 2]);
select allowed, code, meter, used, remaining, retry_after between 1700 and 1800 as waits
from kijko.rate_limits(array['r1', 'r2'], array[2, 3], array[interval '1 hour', '1 hour']);
-- A refusal by one limit costs the other limit nothing.
select allowed, remaining from kijko.rate_limit('r3', 5, '1 hour');
select allowed, meter from kijko.rate_limits(array['r3', 'r1'], array[5, 2], array[interval '1 hour', '1 hour']);
select allowed, remaining from kijko.rate_limit('r3', 5, '1 hour');
-- A repeated key is charged twice.
select allowed, remaining from kijko.rate_limits(array['r4', 'r4'], array[2, 2], array[interval '1 hour', '1 hour'], array[3, null], array[null, 1]);
select allowed from kijko.rate_limits(array['r4', 'r4'], array[2, 2], array[interval '1 hour', '1 hour']);
select kijko.rate_limits(array[]::text[], array[]::integer[], array[]::interval[]);
select kijko.rate_limits(array['a', 'b'], array[1], array[interval '1 s', '1 s']);
select kijko.rate_limits(array['a', null], array[1, 1], array[interval '1 s', '1 s']);
select kijko.rate_limits(array['a'], array[0], array[interval '1 s']);
select kijko.rate_limits(array_fill('a'::text, array[17]), array_fill(1, array[17]), array_fill(interval '1 s', array[17]));

-- Invalid policies.
select kijko.set_rate_limit_policy('No', 'user', 1, '1 s');
select kijko.set_rate_limit_policy('api_requests', 'user', 1, '1 s');
select kijko.set_rate_limit_policy('api_key_requests', 'api_key', 1, '1 s');
select kijko.set_rate_limit_policy('a', 'nobody', 1, '1 s');
select kijko.set_rate_limit_policy('a', 'user', 0, '1 s');
select kijko.set_rate_limit_policy('a', 'user', 1, '0 s');
select kijko.set_rate_limit_policy('a', 'user', 1, '1 s', cost => 2);
select kijko.set_rate_limit_policy('a', 'user', null, '1 s');
select kijko.set_rate_limit_policy('a', 'user', 1, '366 days', burst => 1000000000);
select kijko.set_tier(null, 'a');
select kijko.set_tier(:'org', '');

-- The headers of the response.
create function answer(organization uuid, member uuid default null, api_key uuid default null) returns text language plpgsql as $$
declare
    body text; envelope text;
begin
    perform set_config('response.headers', '', true);
    begin
        perform kijko.admit_request(organization, member, api_key);
    exception when sqlstate 'PGRST' then
        get stacked diagnostics body = message_text, envelope = pg_exception_detail;
    end;
    -- Times pass.
    return regexp_replace(regexp_replace(
        concat_ws(' ', body, envelope, case when body is null then kijko.response_headers()::text end),
        '("X-RateLimit-Reset": |"Retry-After": )"\d+"', '\1"..."', 'g'), ';(t|w)=\d+', ';\1=...', 'g');
end
$$;
set request.method = 'GET';
set request.path = '/projects';
set request.headers = '{"x-forwarded-for": "6.6.6.6, 10.0.0.1"}';
-- Without policies nothing is limited.
select answer(:'org');
-- The caller is noted under the id that the proxy gave the request, and under no other.
create function noted(headers text) returns text language sql as $$
    select set_config('request.headers', headers, true), kijko.admit_request(null, null, null);
    select string_agg(kind, ',') from kijko.request_actors(array['11111111-1111-4111-8111-111111111111', null]::uuid[])
$$;
set request.jwt.claims = '{"role": "anon"}';
select noted('{"x-request-id": "11111111-1111-4111-8111-111111111111"}');
select noted('{"x-kijko-request": "no uuid"}');
select noted('{"x-kijko-request": "11111111-1111-4111-8111-111111111111"}');
drop function noted;
reset request.jwt.claims;
select kijko.set_rate_limit_policy('requests', 'organization', 2, '1 hour');
select kijko.set_rate_limit_policy('requests', 'organization', 3, '1 hour', 'PRO');
select kijko.set_rate_limit_policy('requests', 'user', 1, '1 hour', 'user');
select kijko.set_rate_limit_policy('requests', 'address', 1, '1 hour', 'anonymous');
select answer(:'org', :'who') from generate_series(1, 3);
-- A tier has its own policy, from the next request on; another organization has its own count.
select kijko.set_tier(:'org', 'PRO');
select answer(:'org');
select answer(:'other');
-- An unchanged tier writes nothing.
create function written() returns trigger language plpgsql as $$ begin raise notice '% %', tg_op, tg_level; return null; end $$;
create trigger written after insert or update or delete on kijko.tiers for each statement execute function written();
select kijko.set_tier(:'org', 'PRO'), kijko.set_tier(:'other', null);
select kijko.set_tier(:'org', 'TEAMS'), kijko.set_tier(:'org', 'PRO');
drop trigger written on kijko.tiers;
drop function written();
select kijko.set_tier(:'org', null);
select answer(:'org') like '%rate_limited%' as its_former_debt;
-- Without an organization: by user, or by address.
select answer(null, :'who') like '%rate_limited%' as refused from generate_series(1, 2);
select answer(null) like '%rate_limited%' as refused from generate_series(1, 2);
set request.headers = '{"x-forwarded-for": "10.0.0.1, 10.0.0.2"}';
select answer(null) like '%rate_limited%' as refused;
-- By network behind trusted proxies: IPv6 by /64.
set request.headers = '{"x-forwarded-for": "2001:db8::1, 10.9.0.1"}';
select kijko.client_address(), kijko.client_network();
select answer(null) like '%rate_limited%' as refused;
set request.headers = '{"x-forwarded-for": "2001:db8::2:1, 10.9.0.1"}';
select answer(null) like '%rate_limited%' as refused;
set request.headers = '{"x-forwarded-for": "2001:db8:0:1::1, 10.9.0.1"}';
select answer(null) like '%rate_limited%' as refused;
set request.headers = '{"x-forwarded-for": "::ffff:10.0.0.1"}';
select kijko.client_address(), kijko.client_network();
select answer(null) like '%rate_limited%' as refused;
set request.headers = '{"x-forwarded-for": "unknown"}';
select kijko.client_address(), kijko.client_network();
set request.headers = '';
select kijko.client_address(), kijko.client_network();
-- A user has one allowance, of their own tier, in all organizations.
select kijko.set_rate_limit_policy('requests', 'organization', 100, '1 hour'), kijko.set_rate_limit_policy('requests', 'organization', 100, '1 hour', 'PRO');
select kijko.set_rate_limit_policy('user_requests', 'user', 2, '1 hour'), kijko.set_rate_limit_policy('user_requests', 'user', 4, '1 hour', 'PRO');
\set one 'cccccccc-0000-4000-8000-000000000001'
\set two 'cccccccc-0000-4000-8000-000000000002'
select kijko.set_tier(kijko.subject('user', :'two'), 'PRO');
select count(*) from generate_series(1, 20) as n where answer(md5('org ' || n)::uuid, :'one') not like '%rate_limited%';
select count(*) from generate_series(1, 20) as n where answer(md5('org ' || n)::uuid, :'two') not like '%rate_limited%';
-- A user without a tier has that of the request. A change applies from the next request on.
select kijko.set_tier(md5('org 1')::uuid, 'PRO');
select answer(md5('org 1')::uuid, :'one') like '%rate_limited%' as refused;
select kijko.set_tier(kijko.subject('user', :'one'), 'FREE');
select answer(md5('org 1')::uuid, :'one') like '%rate_limited%' as refused;
-- An id of an organization does not match a user, or the other way round.
select kijko.subject('user', :'one'), kijko.subject('project', :'one'), kijko.subject('organization', :'one');
select kijko.subject('User', :'one');
select kijko.subject('user', null);
select kijko.set_tier(kijko.subject('user', :'one'), null), kijko.set_tier(kijko.subject('user', :'two'), null), kijko.set_tier(md5('org 1')::uuid, null);
select kijko.drop_rate_limit_policy(name, tier) from kijko.rate_limit_policies where name = 'user_requests' order by tier;
select kijko.drop_rate_limit_policy('requests', 'PRO');
-- By API key, method and route; several policies at once.
select kijko.drop_rate_limit_policy('requests');
select kijko.drop_rate_limit_policy('requests');
select kijko.set_rate_limit_policy('keys', 'api_key', 2, '1 hour');
select kijko.set_rate_limit_policy('calls', 'organization', 10, '1 hour', method => 'POST', route => '/rpc/*', cost => 4);
select answer(:'org');
select answer(:'org', null, :'who');
set request.method = 'POST';
set request.path = '/rpc/execute_skill';
select answer(:'org', null, :'who');
select answer(:'org') from generate_series(1, 2);
select kijko.set_rate_limit_policy('calls', 'organization', 10, '1 hour', enabled => false);
select answer(:'org');
-- In shadow mode a policy only counts.
select kijko.set_rate_limit_policy('calls', 'organization', 1, '1 day', shadow => true);
create function figure(metric text) returns bigint language sql as 'select value from kijko.stats() as s where s.metric = figure.metric';
select figure('request.shadow_refused') as before \gset
select answer(:'org') from generate_series(1, 3);
select figure('request.shadow_refused') - :before as would_have_been_refused;
select kijko.drop_rate_limit_policy(name, tier) from kijko.rate_limit_policies order by name, tier;

-- Requests are counted whether they succeed or fail, and the worker moves the counts to the ledger.
create function wait_for_flush() returns void language plpgsql as $$
begin
    for i in 1..500 loop
        exit when figure('request_counter.used') = 0;
        perform pg_sleep(0.01);
    end loop;
    -- Its transaction may still be committing.
    perform pg_sleep(0.1);
end
$$;
select wait_for_flush();
select sum(amount) as so_far from kijko.ledger where subject = :'org' and meter = 'api_requests' \gset
select :so_far, kind, overage from kijko.ledger where subject = :'org' limit 1;
begin read only;
select answer(:'org');
rollback;
begin;
select answer(:'org');
select 1 / 0;
rollback;
select wait_for_flush();
select sum(amount) - :so_far as counted from kijko.ledger where subject = :'org';
select meter, period, used - :so_far as used from kijko.usage(:'org');

-- The quota includes counts that are not in the ledger yet, and refused requests.
select kijko.set_limit(:'other', 'api_requests', 'month', 4);
select wait_for_flush();
select answer(:'other') from generate_series(1, 2);
select answer(:'other') like '%quota_exceeded%' as refused from generate_series(1, 3);
select answer(:'other');
select wait_for_flush();
select used, remaining from kijko.usage(:'other');
select threshold from kijko.threshold_crossings where subject = :'other' order by threshold;
select answer(:'other') like '%quota_exceeded%' as refused;
select kijko.set_limit(:'other', 'api_requests', 'month', 1000, 'flag');
select answer(:'other');
-- A quota for a lifetime has no reset and no Retry-After.
select kijko.set_limit('cccccccc-0000-4000-8000-00000000000f', 'api_requests', 'lifetime', 1);
select answer('cccccccc-0000-4000-8000-00000000000f') from generate_series(1, 2);
-- It has both when another period follows.
select kijko.set_limit('cccccccc-0000-4000-8000-00000000000f', 'api_requests', 'month', 9);
select answer('cccccccc-0000-4000-8000-00000000000f');

-- If the limiter itself fails, a setting decides: open for rates, closed for quotas.
alter table kijko.rate_limit_policies rename to away;
\c
set request.method = 'GET';
select answer(:'org');
select figure('request.passed_by_failure');
set kijko.on_rate_limit_failure = 'closed';
select answer(:'org');
select figure('request.refused_by_failure');
alter table kijko.away rename to rate_limit_policies;
select answer(:'org');
alter table kijko.limits rename to away;
\c
set request.method = 'GET';
select answer(:'org');
set kijko.on_quota_failure = 'open';
select answer(:'org');
alter table kijko.away rename to limits;
select answer(:'org');
-- A role without grants may change none of this.
create role app_user;
set role app_user;
set kijko.on_quota_failure = 'open';
select kijko.admit_request(null);
select kijko.set_tier(null, null);
select from kijko.rate_limit_policies;
reset role;
drop role app_user;
-- The worker does nothing while the extension is dropped, and continues when it is created again.
select wait_for_flush();
drop function answer, figure, wait_for_flush;
drop extension kijko;
select pg_sleep(0.3);
create extension kijko;
select kijko.admit_request(:'org');
do $$
begin
    for i in 1..500 loop
        exit when exists (select from kijko.ledger);
        perform pg_sleep(0.01);
    end loop;
end
$$;
select amount from kijko.ledger;
drop extension kijko;
