begin;
\ir 000_helpers.sql
select plan(54);

select tests.sign_up('ada'), tests.sign_up('bob');

-- ---- unauthenticated callers, and sessions that ended
select tests.act_as_anon();
select is(tests.answer('select public.before_request()') -> 'status', null, 'anon passes');
select set_config('request.headers', '{"x-org-id": "nonsense"}', true);
select is(tests.answer('select public.before_request()') ->> 'code', 'bad_request', 'a malformed organization is refused');
select is(tests.answer('select public.before_request()') ->> 'status', '400', 'as 400');

select tests.act('authenticated', '{"role": "authenticated"}', null);
select is(tests.answer('select public.before_request()') ->> 'code', 'not_identified', 'a token that names no user is refused');
select is(tests.answer('select public.before_request()') ->> 'status', '401', 'as 401');

select tests.act_as_superuser();
insert into auth.sessions (id, user_id) values (tests.id('bob'), tests.id('bob'));
select tests.act_as('bob');
select is(kijko.user_id(), tests.id('bob'), 'a session counts while it lasts');
select is(tests.answer('select public.before_request()') -> 'status', null, 'and its requests pass');
select tests.act_as_superuser();
delete from auth.sessions where id = tests.id('bob');
select tests.act_as('bob');
select is(kijko.user_id(), null, 'a deleted session is revoked at once');
select is(tests.answer('select public.before_request()') ->> 'code', 'not_identified', 'and its requests are refused');

-- ---- organizations
select tests.act_as('ada', tests.org('bob'));
select is(tests.answer('select public.before_request()') ->> 'code', 'not_a_member', 'naming an organization of others is refused');
select is(tests.answer('select public.before_request()') ->> 'status', '403', 'as 403');
select tests.act_as('ada', gen_random_uuid());
select is(tests.answer('select public.before_request()') ->> 'code', 'not_a_member', 'so is one that does not exist');
select tests.act_as('ada', tests.org('ada'));
select is(tests.answer('select public.before_request()') -> 'status', null, 'one''s own passes');
select tests.act_as('ada');
select is(tests.answer('select public.before_request()') -> 'status', null, 'none passes too');

-- ---- memberships that change between two requests
select tests.act_as_superuser();
insert into public.memberships (org_id, user_id, role) values (tests.org('bob'), tests.id('ada'), 'member');
select tests.act_as('ada', tests.org('bob'));
select is(tests.answer('select public.before_request()') -> 'status', null, 'a new member passes');
select is(kijko.admit_known_request(), true, 'and is known from then on');
select tests.act_as_superuser();
delete from public.memberships where org_id = tests.org('bob') and user_id = tests.id('ada');
select tests.act_as('ada', tests.org('bob'));
select is(kijko.admit_known_request(), false, 'one who was removed is not');
select is(tests.answer('select public.before_request()') ->> 'code', 'not_a_member', 'and is refused');
select tests.act_as('ada');
select is(tests.answer('select public.before_request()') -> 'status', null, 'the active organization is theirs');
select tests.act_as_superuser();
delete from private.active_organizations where user_id = tests.id('ada');
select tests.act_as('ada');
select is(kijko.admit_known_request(), false, 'until there is none');
select tests.act_as_superuser();
insert into private.active_organizations (user_id, active_org_id) values (tests.id('ada'), tests.org('ada'));
select tests.act_as_service();
select is(kijko.admit_known_request(), false, 'service_role is no member');

-- ---- rate: headers, then the refusal
select tests.act_as_superuser();
update public.plans set rate_per_minute = 3 where code = 'FREE';
-- Rate limits outlive a rollback: users of this run alone.
select 'cam-' || gen_random_uuid() as cam, 'fox-' || gen_random_uuid() as fox \gset
select tests.sign_up(:'cam'), tests.sign_up(:'fox');
select tests.act_as(:'cam');
select is(
  (select count(*) from generate_series(1, 3) where tests.answer('select public.before_request()') -> 'status' is null),
  3::bigint, 'three of three pass'
);
select tests.answer('select public.before_request()') as refused \gset
select is(:'refused'::jsonb ->> 'code', 'rate_limited', 'the fourth is refused');
select is(:'refused'::jsonb ->> 'status', '429', 'as 429');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Limit', '3', 'the refusal reports the limit');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Remaining', '0', 'what is left');
select ok((:'refused'::jsonb -> 'headers' ->> 'Retry-After')::integer between 1 and 60, 'when to come back');
select ok((:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Reset')::bigint >= extract(epoch from now())::bigint, 'and when it is full again');

select is(:'refused'::jsonb -> 'headers' ->> 'RateLimit-Policy', '"requests";q=3;w=60, "user_requests";q=3;w=60', 'the same by the IETF''s draft');
select matches(:'refused'::jsonb -> 'headers' ->> 'RateLimit', '^"requests";r=0;t=[0-9]+, "user_requests";r=0;t=[0-9]+$', 'and what is left');

-- ---- whose limit
select tests.act_as(:'fox');
select is(tests.answer('select public.before_request()') -> 'status', null, 'another organization is not affected');
select tests.act_as_superuser();
update public.subscriptions set plan = 'PRO' where org_id = tests.org(:'cam');
select tests.act_as(:'cam');
select is(tests.answer('select public.before_request()') -> 'status', null, 'a higher plan is in force at once');
select tests.act_as_service();
select is((select count(*) from generate_series(1, 10) where tests.answer('select public.before_request()') -> 'status' is not null), 0::bigint, 'service_role is not limited');

-- ---- tokens of ours that are no access tokens
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
select tests.refuses_token('authenticated', '{"aud": null}', 'without an audience');
select tests.refuses_token('authenticated', '{"sub": null}', 'without a subject');
select tests.act('anon', tests.token('anon'), null);
select is(tests.answer('select public.before_request()') -> 'status', null, 'the anon key passes');
select tests.act_as_service();
select is(tests.answer('select public.before_request()') -> 'status', null, 'so does the service key');

-- ---- how much in a month: refused requests count, too
select tests.act_as_superuser();
select tests.sign_up('dot');
select kijko.set_limit(tests.org('dot'), 'api_requests', 'month', 1);
select tests.act_as('dot');
select is(tests.answer('select public.before_request()') -> 'status', null, 'the first is within the quota');
select tests.answer('select public.before_request()') as refused \gset
select is(:'refused'::jsonb ->> 'code', 'quota_exceeded', 'the second is not');
select is(:'refused'::jsonb ->> 'status', '429', 'as 429');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Resource', 'api_requests', 'the refusal reports the resource');

select * from finish();
rollback;
