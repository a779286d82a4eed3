-- A person's own account: who may list and end sessions, and delete it.
begin;
\ir 000_helpers.sql
select plan(19);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('new');
insert into auth.sessions (id, user_id, created_at, updated_at, aal) values
  (tests.id('ada'), tests.id('ada'), kijko.now(), kijko.now(), 'aal1'),
  (tests.id('ada phone'), tests.id('ada'), kijko.now() - interval '1 day', kijko.now(), 'aal1'),
  (tests.id('ada past'), tests.id('ada'), kijko.now() - interval '2 days', kijko.now(), 'aal1'),
  (tests.id('bob'), tests.id('bob'), kijko.now(), kijko.now(), 'aal1');
update auth.sessions set not_after = kijko.now() - interval '1 second' where id = tests.id('ada past');
create function tests.has_account(name text) returns boolean language sql security definer as $$
  select exists (select 1 from auth.users as u where u.id = tests.id(name))
$$;

-- ---- nobody who is no person
select tests.act_as_anon();
select tests.refuses('select public.list_sessions()', 'permission_denied', 'anon lists no sessions');
select tests.refuses('select public.delete_account()', 'permission_denied', 'anon deletes no account');
select tests.act_as_service();
select tests.refuses('select public.list_sessions()', 'permission_denied', 'the service key has no sessions');
select tests.refuses('select public.delete_account()', 'permission_denied', 'the service key has no account');
select tests.act_as('ada');
select tests.make_key(tests.org('ada'), '["*:read", "*:write"]', 'personal') as key \gset
select is(tests.by_key(:'key', 'select public.list_sessions()'), '42501', 'a personal key is not its owner: it lists no sessions');
select is(tests.by_key(:'key', 'select public.end_session(tests.id(''ada''))'), '42501', 'it ends none');
select is(tests.by_key(:'key', 'select public.delete_account()'), '42501', 'it deletes no account');

-- ---- sessions
select tests.act_as('ada');
select results_eq(
  'select id, is_current from public.list_sessions()',
  $$values (tests.id('ada'), true), (tests.id('ada phone'), false)$$,
  'a user sees their sessions that have not ended'
);
select tests.refuses($$select public.end_session(tests.id('bob'))$$, 'not_found', 'another''s session is as unknown as one that does not exist');
select tests.refuses($$select public.end_session(null)$$, 'not_found', 'null names none');
select lives_ok($$select public.end_session(tests.id('ada phone'))$$, 'one''s own can be ended');
select results_eq('select id from public.list_sessions()', $$values (tests.id('ada'))$$, 'and is gone');

-- ---- deletion
select tests.act_as('new');
select tests.refuses('select public.delete_account()', 'permission_denied', 'without a session that the server knows no account is deleted');
select tests.act_as_superuser();
insert into auth.sessions (id, user_id, created_at, updated_at, aal) values (tests.id('new'), tests.id('new'), kijko.now() - interval '61 minutes', kijko.now(), 'aal1');
select tests.act_as('new');
select tests.refuses('select public.delete_account()', 'permission_denied', 'nor after an hour');
select ok(tests.has_account('new'), 'the account is there');
select tests.act_as_superuser();
update auth.sessions set created_at = kijko.now() where id = tests.id('new');
select tests.act_as('new');
select lives_ok('select public.delete_account()', 'a fresh sign-in can');
select ok(not tests.has_account('new'), 'the account is gone');
select ok(tests.has_account('ada') and tests.has_account('bob'), 'nobody else''s');
select tests.refuses('select public.delete_account()', 'not_identified', 'a second time nobody is asking');

select * from finish();
rollback;
