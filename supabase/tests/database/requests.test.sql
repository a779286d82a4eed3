begin;
\ir 000_helpers.sql
select plan(63);

select tests.sign_up('ada'), tests.sign_up('bob');

-- ---- unauthenticated callers, and sessions that ended
select tests.act_as_anon();
select is(tests.answer('select public.before_request()') -> 'status', null, 'anon passes');
select set_config('request.headers', '{"x-org-id": "nonsense"}', true);
select is(tests.answer('select public.before_request()') ->> 'code', 'bad_request', 'a malformed x-org-id is refused');
select is(tests.answer('select public.before_request()') ->> 'status', '400', 'a malformed x-org-id is 400');

select tests.act('authenticated', '{"role": "authenticated"}', null);
select is(tests.answer('select public.before_request()') ->> 'code', 'not_identified', 'a token without a user is refused');
select is(tests.answer('select public.before_request()') ->> 'status', '401', 'a token without a user is 401');

select tests.act_as_superuser();
insert into auth.sessions (id, user_id) values (tests.id('bob'), tests.id('bob'));
select tests.act_as('bob');
select is(kijko.user_id(), tests.id('bob'), 'the user of a session that lasts is known');
select is(tests.answer('select public.before_request()') -> 'status', null, 'requests of a session that lasts pass');
select tests.act_as_superuser();
delete from auth.sessions where id = tests.id('bob');
select tests.act_as('bob');
select is(kijko.user_id(), null, 'a deleted session is revoked at once');
select is(tests.answer('select public.before_request()') ->> 'code', 'not_identified', 'requests of a deleted session are refused');

-- ---- organizations
select tests.act_as('ada', tests.org('bob'));
select is(tests.answer('select public.before_request()') ->> 'code', 'not_a_member', 'naming an organization of others is refused');
select is(tests.answer('select public.before_request()') ->> 'status', '403', 'an organization of others is 403');
select tests.act_as('ada', gen_random_uuid());
select is(tests.answer('select public.before_request()') ->> 'code', 'not_a_member', 'an organization that does not exist gives the same refusal');
select tests.act_as('ada', tests.org('ada'));
select is(tests.answer('select public.before_request()') -> 'status', null, 'one''s own passes');
select tests.act_as('ada');
select is(tests.answer('select public.before_request()') -> 'status', null, 'a request without x-org-id passes');

-- ---- one decision: column defaults, functions and the request itself work in the same organization
select tests.act_as_superuser();
create function tests.organizations() returns text[] language plpgsql as $$
begin
  return array[
    kijko.requested_org_id()::text, public.org_id()::text, tests.answer('select public.before_request()') ->> 'code', kijko.admit_cached_member()::text
  ];
end
$$;
select tests.act_as('ada');
select is(tests.organizations(), array[null, tests.org('ada')::text, null, 'true'], 'without a header and a claim the active organization counts');
select tests.act_as('ada', tests.org('ada'));
select is(tests.organizations(), array[tests.org('ada')::text, tests.org('ada')::text, null, 'true'], 'the header counts');
select tests.act_as('ada', tests.org('bob'));
select is(tests.organizations(), array[tests.org('bob')::text, null, 'not_a_member', 'false'], 'a header with the organization of others counts nowhere');
select set_config('request.headers', '{"x-org-id": "nonsense"}', true);
select tests.refuses('select public.org_id()', 'bad_request', 'a malformed header is refused, not ignored');
select is(kijko.admit_cached_member(), false, 'also by the extension');
select tests.act('authenticated', tests.token('authenticated') || jsonb_build_object('aud', 'authenticated', 'sub', tests.id('ada'), 'org_id', tests.org('ada')), null);
select is(tests.organizations(), array[tests.org('ada')::text, tests.org('ada')::text, null, 'true'], 'without a header the claim counts');
select set_config('request.headers', json_build_object('x-org-id', tests.org('bob'))::text, true);
select is(tests.organizations(), array[tests.org('bob')::text, null, 'not_a_member', 'false'], 'the header comes before the claim');

-- ---- memberships that change between two requests
select tests.act_as_superuser();
insert into public.memberships (org_id, user_id, role) values (tests.org('bob'), tests.id('ada'), 'member');
select tests.act_as('ada', tests.org('bob'));
select is(tests.answer('select public.before_request()') -> 'status', null, 'a new member passes');
select is(kijko.admit_cached_member(), true, 'the extension knows a member after the first request');
select tests.act_as_superuser();
delete from public.memberships where org_id = tests.org('bob') and user_id = tests.id('ada');
select tests.act_as('ada', tests.org('bob'));
select is(kijko.admit_cached_member(), false, 'the extension does not know a removed member');
select is(tests.answer('select public.before_request()') ->> 'code', 'not_a_member', 'a request of a removed member is refused');
select tests.act_as('ada');
select is(tests.answer('select public.before_request()') -> 'status', null, 'a request without x-org-id works in the active organization');
select tests.act_as_superuser();
delete from private.active_organizations where user_id = tests.id('ada');
select tests.act_as('ada');
select is(kijko.admit_cached_member(), false, 'without an active organization the extension knows none');
select tests.act_as_superuser();
insert into private.active_organizations (user_id, active_org_id) values (tests.id('ada'), tests.org('ada'));
select tests.act_as_service();
select is(kijko.admit_cached_member(), false, 'the extension knows no organization for service_role');

-- ---- the rate limit: headers, then the refusal
select tests.act_as_superuser();
update public.plans set rate_per_minute = 3 where code = 'FREE';
-- Rate limits outlive a rollback: users of this run alone.
select 'cam-' || gen_random_uuid() as cam, 'fox-' || gen_random_uuid() as fox \gset
select tests.sign_up(:'cam'), tests.sign_up(:'fox');
select tests.act_as(:'cam');
select is(
  (select count(*) from generate_series(1, 3) where tests.answer('select public.before_request()') -> 'status' is null),
  3::bigint, 'three requests pass at a rate of three'
);
select tests.answer('select public.before_request()') as refused \gset
select is(:'refused'::jsonb ->> 'code', 'rate_limited', 'the fourth request is refused');
select is(:'refused'::jsonb ->> 'status', '429', 'a rate limit is 429');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Limit', '3', 'X-RateLimit-Limit has the limit');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Remaining', '0', 'X-RateLimit-Remaining has what is left');
select ok((:'refused'::jsonb -> 'headers' ->> 'Retry-After')::integer between 1 and 60, 'Retry-After says when to try again');
select ok((:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Reset')::bigint >= extract(epoch from now())::bigint, 'X-RateLimit-Reset says when the limit is full again');

select is(:'refused'::jsonb -> 'headers' ->> 'RateLimit-Policy', '"requests";q=3;w=60, "user_requests";q=3;w=60', 'RateLimit-Policy has the policies of the IETF draft');
select matches(:'refused'::jsonb -> 'headers' ->> 'RateLimit', '^"requests";r=0;t=[0-9]+, "user_requests";r=0;t=[0-9]+$', 'RateLimit has what is left of each');

-- ---- whose limit counts
select tests.act_as(:'fox');
select is(tests.answer('select public.before_request()') -> 'status', null, 'requests of another organization pass');
select tests.act_as_superuser();
update public.subscriptions set plan = 'PRO' where org_id = tests.org(:'cam');
select tests.act_as(:'cam');
select is(tests.answer('select public.before_request()') -> 'status', null, 'a higher plan applies to the next request');
select tests.act_as_service();
select is((select count(*) from generate_series(1, 10) where tests.answer('select public.before_request()') -> 'status' is not null), 0::bigint, 'service_role is not limited');

-- ---- tokens with a valid signature that are not access tokens
select tests.act_as_superuser();
update public.plans set rate_per_minute = 600 where code = 'FREE';
create function tests.refuses_token(role text, changes jsonb, description text) returns text language plpgsql as $$
declare
  claims jsonb := jsonb_strip_nulls(tests.token(refuses_token.role) || '{"aud": "authenticated"}' || changes);
begin
  if refuses_token.role = 'authenticated' and not changes ? 'sub' then
    claims := claims || jsonb_build_object('sub', tests.id('ada'));
  end if;
  perform tests.act(refuses_token.role, claims, null);
  return extensions.is(tests.answer('select public.before_request()') ->> 'code', 'not_identified', refuses_token.role || ': ' || description);
end
$$;
select tests.act('authenticated', tests.token('authenticated') || jsonb_build_object('aud', 'authenticated', 'sub', tests.id('ada')), null);
select is(tests.answer('select public.before_request()') -> 'status', null, 'an access token passes');
select tests.refuses_token(role, changes, changes::text)
from unnest(array['authenticated', 'anon', 'service_role']) as r(role),
  unnest(array['{"exp": null}', '{"iss": null}', '{"aud": "elsewhere"}', '{"iat": 4102444700}']::jsonb[]) as c(changes);
select tests.refuses_token('authenticated', '{"aud": null}', 'a token without an audience');
select tests.refuses_token('authenticated', '{"sub": null}', 'a token without a subject');
select tests.act('anon', tests.token('anon'), null);
select is(tests.answer('select public.before_request()') -> 'status', null, 'the anon key passes');
select tests.act_as_service();
select is(tests.answer('select public.before_request()') -> 'status', null, 'the service key passes');

-- ---- the activity of the server names the request while it runs
select set_config('request.headers', '{"x-request-id": "a b"}', true), tests.answer('select public.before_request()');
select unalike(current_setting('application_name'), '%a b', 'an id of other characters is not shown');
select set_config('request.headers', '{"x-request-id": "abc-1"}', true), tests.answer('select public.before_request()');
select is(current_setting('application_name'), (select reset_val from pg_settings where name = 'application_name') || ' abc-1',
  'the id stands behind the name of the connection');

-- ---- the monthly quota of requests
select tests.act_as_superuser();
select tests.sign_up('dot');
select kijko.set_limit(tests.org('dot'), 'api_requests', 'month', 1);
select tests.act_as('dot');
select is(tests.answer('select public.before_request()') -> 'status', null, 'a request within the monthly quota passes');
select tests.answer('select public.before_request()') as refused \gset
select is(:'refused'::jsonb ->> 'code', 'quota_exceeded', 'a request above the monthly quota is refused');
select is(:'refused'::jsonb ->> 'status', '429', 'the quota is 429');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Resource', 'api_requests', 'X-RateLimit-Resource names the meter');

select * from finish();
rollback;
