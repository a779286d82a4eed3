begin;
\ir 000_helpers.sql
select plan(35);

-- ---- sign-up
select tests.sign_up('ada', '{"display_name": "Ada L."}');
select tests.sign_up('bob');
select tests.sign_up('eve');
select tests.sign_up('odd', '{"display_name": {"a": [1]}, "full_name": "   "}');

select is(
  (select display_name || ' ' || email from public.profiles where id = tests.id('ada')),
  'Ada L. ada@example.test', 'sign-up creates a profile from the metadata'
);
select is((select display_name from public.profiles where id = tests.id('bob')), 'bob', 'without metadata, the display name is the local part of the address');
select tests.sign_up('name' || n, metadata)
from (values (1, '{"display_name": "", "full_name": "Ada"}'::jsonb), (2, '{"display_name": " \t", "full_name": "\n", "name": " Bea "}'), (3, '{"display_name": ""}'),
  (4, '{"display_name": {"a": 1}, "full_name": ["x"], "name": 7}'), (5, 'null'), (6, null), (7, jsonb_build_object('name', repeat(e'\t', 200) || repeat('x', 200)))) as given (n, metadata);
select results_eq(
  $$select n, p.display_name from generate_series(1, 7) as n join public.profiles as p on p.id = tests.id('name' || n) order by n$$,
  $$values (1, 'Ada'), (2, 'Bea'), (3, 'name3'), (4, 'name4'), (5, 'name5'), (6, 'name6'), (7, repeat('x', 100))$$,
  'blank or malformed names in the metadata are skipped; the address is the last choice'
);
select lives_ok($$insert into auth.users (id, email_confirmed_at) values (tests.id('no address'), now())$$, 'a user without an address can sign up');
select is((select display_name from public.profiles where id = tests.id('no address')), 'New user', 'a user without an address is called New user');
select is(
  (select array_agg(m.role || ' ' || (o.personal_for = m.user_id)) from public.memberships m join public.organizations o on o.id = m.org_id where m.user_id = tests.id('ada')),
  array['owner true'], 'sign-up creates a personal organization owned by the user'
);
select is((select active_org_id from private.active_organizations where user_id = tests.id('ada')), tests.org('ada'), 'the personal organization is the active one');
select is((select plan from public.subscriptions where org_id = tests.org('ada')), 'FREE', 'the personal organization is on FREE');


-- ---- who gets a personal organization
create function tests.personal(who text) returns bigint language sql security definer as $$
  select count(*) from public.organizations as o where o.personal_for = tests.id(who)
$$;
insert into auth.users (id, email, email_confirmed_at, invited_at, is_anonymous) values
  (tests.id('invited'), 'invited@example.test', now(), now(), false), (tests.id('unconfirmed'), 'unconfirmed@example.test', null, null, false),
  (tests.id('anonymous'), null, null, null, true);
select is(array[tests.personal('invited'), tests.personal('unconfirmed'), tests.personal('anonymous')], '{0,0,0}', 'invited, unconfirmed and anonymous users get no personal organization');
select is((select count(*) from public.profiles where id in (tests.id('invited'), tests.id('unconfirmed'), tests.id('anonymous'))), 3::bigint, 'invited, unconfirmed and anonymous users get a profile');
update auth.users set last_sign_in_at = now() where id in (tests.id('invited'), tests.id('unconfirmed'), tests.id('anonymous'));
select is(tests.personal('unconfirmed'), 0::bigint, 'signing in unconfirmed creates no organization');
update auth.users set email_confirmed_at = now() where id = tests.id('unconfirmed');
select is(tests.personal('unconfirmed'), 1::bigint, 'confirming the address creates the personal organization');
update auth.users set email = 'permanent@example.test', email_confirmed_at = now() where id = tests.id('anonymous');
select is(tests.personal('anonymous'), 0::bigint, 'an anonymous user with a confirmed address gets no organization while anonymous');
update auth.users set is_anonymous = false where id = tests.id('anonymous');
select is(tests.personal('anonymous'), 1::bigint, 'a user who is no longer anonymous gets the personal organization');
update auth.users set email_confirmed_at = null where id = tests.id('anonymous');
update auth.users set email_confirmed_at = now(), phone_confirmed_at = now() where id = tests.id('anonymous');
select is(tests.personal('anonymous'), 1::bigint, 'confirming again creates no second organization');

-- ---- deletion of users and organizations
select tests.sign_up('adm'), tests.sign_up('vic');
select tests.act_as('ada');
select (public.create_organization('The Lab')).name \gset
select tests.act_as_superuser();
update public.subscriptions set plan = 'PRO' where org_id = tests.lab();
select tests.join_org('adm', tests.lab(), 'owner'), tests.join_org('vic', tests.lab(), 'viewer');
delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada');
select tests.join_org('bob', tests.lab(), 'member');
select lives_ok($$delete from auth.users where id = tests.id('adm')$$, 'an owner can be deleted');
select is(tests.org('adm'), null, 'the personal organization is deleted with its user');
select is((select user_id from public.memberships where org_id = tests.lab() and role = 'owner'), tests.id('bob'), 'after the last owner, the member with the highest role becomes owner');
select lives_ok($$delete from auth.users where id = tests.id('ada')$$, 'the creator of an organization can be deleted');
select is((select created_by from public.organizations where id = tests.lab()), null, 'created_by is null after that');
select tests.act_as('bob');
select is(tests.changed($$delete from public.organizations where id = tests.lab()$$), 1::bigint, 'an owner can delete the organization');
select tests.act_as_superuser();
select is_empty($$select 1 from public.memberships as m where not exists (select 1 from public.organizations as o where o.id = m.org_id)$$, 'its memberships are deleted with it');

-- ---- when a personal organization ends
select tests.act_as_superuser();
select tests.sign_up('host'), tests.sign_up('guest'), tests.sign_up('lone');
select tests.org('host') as host_org, tests.org('lone') as lone_org \gset
select tests.act_as_service();
select tests.refuses(format($$update public.organizations set personal_for = tests.id('eve') where id = %L$$, :'host_org'), 'permission_denied', 'a personal organization cannot become another user''s');
select tests.join_org('guest', :'host_org', 'owner');
select tests.act_as_superuser();
select is(tests.personal('host'), 0::bigint, 'a second member ends the personal organization');
select is(tests.personal('lone'), 1::bigint, 'other personal organizations stay personal');
insert into public.projects (org_id, name, created_by) values (:'host_org', 'kept', tests.id('guest'));
delete from public.memberships where org_id = :'host_org' and user_id = tests.id('host');
select tests.act_as_service();
select tests.refuses(format($$update public.organizations set personal_for = tests.id('guest') where id = %L$$, :'host_org'), 'permission_denied', 'it cannot become personal again');
select tests.act_as_superuser();
delete from auth.users where id = tests.id('host');
select isnt_empty(format($$select 1 from public.projects where org_id = %L and name = 'kept'$$, :'host_org'), 'it outlives the user for whom it was created');

-- ---- soft deletion: the same succession
insert into auth.sessions (id, user_id) values (gen_random_uuid(), tests.id('lone'));
update auth.users set email = 'a hash', raw_user_meta_data = '{}', deleted_at = now() where id = tests.id('lone');
select is_empty(format($$select 1 from public.organizations where id = %L$$, :'lone_org'), 'a soft deletion deletes the personal organization without other members');
select is((select display_name || coalesce(email, '') from public.profiles where id = tests.id('lone')), 'Deleted user', 'a softly deleted user has no name and no address');
select is_empty($$select 1 from auth.sessions where user_id = tests.id('lone')$$, 'a softly deleted user has no sessions');
select is(tests.personal('lone'), 0::bigint, 'a softly deleted user gets no new organization');
select tests.sign_up('second');
select tests.join_org('second', :'host_org', 'viewer');
update auth.users set email = 'another hash', deleted_at = now() where id = tests.id('guest');
select results_eq(
  format($$select user_id, role from public.memberships where org_id = %L$$, :'host_org'), $$values (tests.id('second'), 'owner')$$,
  'a soft deletion ends the membership, and the next member becomes owner'
);
update auth.users set email = 'a third hash' where id = tests.id('guest');
select is((select email from public.profiles where id = tests.id('guest')), null, 'a later change does not restore the address');
select is((select created_by from public.projects where org_id = :'host_org' and name = 'kept'), tests.id('guest'), 'created_by stays after a soft deletion');
select lives_ok($$delete from auth.users where id = tests.id('guest')$$, 'a softly deleted user can be deleted');

select * from finish();
rollback;
