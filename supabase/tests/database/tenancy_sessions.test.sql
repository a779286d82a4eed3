begin;
\ir 000_helpers.sql
select plan(17);

-- ---- bans
select tests.sign_up('ban');
insert into auth.sessions (id, user_id) values (tests.id('ban'), tests.id('ban'));
create function tests.banned(until timestamptz) returns boolean language plpgsql as $$
begin
  perform tests.act_as_superuser();
  update auth.users set banned_until = until where id = tests.id('ban');
  perform tests.act_as('ban');
  return kijko.user_id() is null;
end
$$;
select is(tests.banned(null), false, 'without a ban the user counts');
select is(tests.banned(kijko.now() + interval '1 hour'), true, 'a ban revokes issued tokens at once');
select is(tests.answer('select public.before_request()') ->> 'code', 'not_identified', 'a banned user''s requests are refused');
select is(tests.banned(null), false, 'lifting the ban makes the same tokens valid');
select is(tests.answer('select public.before_request()') -> 'status', null, 'requests pass after the ban is lifted');
select is(tests.banned('9999-12-31'), true, 'a ban can be without end');
select tests.act_as_superuser();
select is((select expires_at - now() from kijko.revoked_sessions where session_id = tests.id('ban')), interval '7 days', 'the revocation ends after a week, the longest life of a token');
select is(tests.banned(kijko.now() + interval '5 minutes'), true, 'a shorter ban replaces a longer one');
select tests.act_as_superuser();
select is((select expires_at - now() from kijko.revoked_sessions where session_id = tests.id('ban')), interval '5 minutes', 'the revocation ends with the shorter ban');
select is(tests.banned(kijko.now() - interval '1 minute'), false, 'a ban in the past does nothing');
select tests.act_as_superuser();
select tests.travel('2 days');
select is(tests.banned(kijko.now() + interval '1 hour'), true, 'bans follow product time');
select tests.act_as_superuser();
select is((select expires_at - now() from kijko.revoked_sessions where session_id = tests.id('ban')), interval '1 hour', 'revocations follow the real clock');
select tests.travel('0');

-- ---- sessions of a user: a hundred, the last used ones
select tests.sign_up('tabs'), tests.sign_up('calm');
create function tests.session(n integer) returns uuid language sql immutable return md5('session ' || n)::uuid;
insert into auth.sessions (id, user_id, created_at, updated_at)
select tests.session(n), tests.id('tabs'), now() - interval '1 day' + n * interval '1 second', now() - interval '1 day' + n * interval '1 second'
from generate_series(1, 100) as n;
insert into auth.sessions (id, user_id, created_at) values (tests.session(999), tests.id('calm'), now() - interval '9 days');
select is((select count(*) from auth.sessions where user_id = tests.id('tabs')), 100::bigint, 'a user can have 100 sessions');
update auth.sessions set updated_at = now() where id = tests.session(1); -- refreshed
insert into auth.sessions (id, user_id, created_at, updated_at) values (tests.session(101), tests.id('tabs'), now(), now());
select is((select count(*) from auth.sessions where user_id = tests.id('tabs')), 100::bigint, 'the next session replaces one');
select results_eq(
  $$select n from generate_series(1, 101) as n where not exists (select 1 from auth.sessions as s where s.id = tests.session(n))$$, array[2],
  'the least recently used session is deleted'
);
select isnt_empty($$select 1 from kijko.revoked_sessions where session_id = tests.session(2)$$, 'its tokens are revoked');
select isnt_empty($$select 1 from auth.sessions where id = tests.session(999)$$, 'sessions of other users stay');

select * from finish();
rollback;
