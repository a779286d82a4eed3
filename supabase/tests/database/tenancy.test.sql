begin;
\ir 000_helpers.sql
select plan(77);

-- ---- sign-up
select tests.sign_up('ada', '{"display_name": "Ada L."}');
select tests.sign_up('bob');
select tests.sign_up('eve');
select tests.sign_up('odd', '{"display_name": {"a": [1]}, "full_name": "   "}');

select is(
  (select display_name || ' ' || email from public.profiles where id = tests.id('ada')),
  'Ada L. ada@example.test', 'sign-up makes a profile from the metadata'
);
select is((select display_name from public.profiles where id = tests.id('bob')), 'bob', 'without metadata the address names the user');
select lives_ok($$select tests.sign_up('blank', '{"display_name": ""}')$$, 'a blank name does not break sign-up');
select is(
  (select array_agg(m.role || ' ' || o.personal) from public.memberships m join public.organizations o on o.id = m.org_id where m.user_id = tests.id('ada')),
  array['owner true'], 'sign-up makes a personal organization with its owner'
);
select is((select active_org_id from public.profiles where id = tests.id('ada')), tests.org('ada'), 'and makes it the active one');
select is((select plan from public.subscriptions where org_id = tests.org('ada')), 'FREE', 'and puts it on FREE');

-- ---- nobody and strangers first
select tests.act_as_anon();
select throws_ok('select * from public.organizations', '42501', null, 'anon reads no organizations');
select throws_ok('select * from public.memberships', '42501', null, 'anon reads no memberships');
select throws_ok('select * from public.profiles', '42501', null, 'anon reads no profiles');
select throws_ok('select public.org_ids()', '42501', null, 'anon has no organizations to ask for');
select throws_ok($$select public.create_organization('x')$$, '42501', null, 'anon makes no organization');
select throws_ok($$select private.make_organization(tests.id('eve'), 'x', true)$$, '42501', null, 'anon reaches no helper');

select tests.act_as('eve');
select is_empty($$select 1 from public.organizations where id = tests.org('ada')$$, 'a stranger does not see the organization');
select is_empty($$select 1 from public.memberships where org_id = tests.org('ada')$$, 'nor its members');
select is_empty($$select 1 from public.profiles where id = tests.id('ada')$$, 'nor their profiles');
select is(tests.changed($$update public.organizations set name = 'mine' where id = tests.org('ada')$$), 0::bigint, 'a stranger renames nothing');
select is(tests.changed($$delete from public.organizations where id = tests.org('ada')$$), 0::bigint, 'a stranger deletes nothing');
select throws_ok($$insert into public.memberships (org_id, user_id, role) values (tests.org('ada'), tests.id('eve'), 'viewer')$$, '42501', null, 'a stranger lets nobody in');
select is(tests.changed($$update public.profiles set display_name = 'x' where id = tests.id('ada')$$), 0::bigint, 'a stranger changes no profile');
select tests.refuses($$select public.set_active_organization(tests.org('ada'))$$, 'not_a_member', 'a stranger makes it not their active one');
select tests.refuses($$select public.set_active_organization(gen_random_uuid())$$, 'not_a_member', 'the answer is the same for one that does not exist');
select throws_ok($$select * from private.role_permissions$$, '42501', null, 'users do not read private tables');
select throws_ok($$insert into public.organizations (name) values ('x')$$, '42501', null, 'organizations are made by function only');
select throws_ok($$update public.profiles set active_org_id = tests.org('ada') where id = tests.id('eve')$$, '42501', null, 'nobody writes their active organization directly');
select throws_ok($$update public.organizations set personal = false$$, '42501', null, 'nobody changes what is personal');

-- A session that only says it is someone.
select tests.act_as_superuser();
select set_config('request.jwt.claims', json_build_object('role', 'authenticated', 'sub', tests.id('ada'))::text, true);
select is_empty('select public.org_ids()', 'claims count only in a trusted session');

-- ---- null and unknown arguments
select tests.act_as('ada');
select is(public.can(null, 'projects:read'), false, 'can: null organization');
select is(public.can(tests.org('ada'), null), false, 'can: null permission');
select is(public.can(tests.org('ada'), 'nonsense:read'), false, 'can: unknown permission');
select is(public.has_role(null, 'viewer'), false, 'has_role: null organization');
select is(public.has_role(tests.org('ada'), null), false, 'has_role: null role');
select is(public.has_role(tests.org('ada'), 'emperor'), false, 'has_role: unknown role');
select is(public.can(tests.org('bob'), 'projects:read'), false, 'can: a stranger''s organization');

-- ---- roles
select tests.act_as_superuser();
select tests.sign_up('vic'), tests.sign_up('mem'), tests.sign_up('adm');
select tests.act_as('ada');
select is((public.create_organization('  The Lab ')).name, 'The Lab', 'create_organization answers with the row');
select tests.refuses($$select public.create_organization(' ')$$, 'invalid_input', 'a blank name is refused');
select tests.act_as_superuser();
create function tests.lab() returns uuid language sql stable security definer as $$ select id from public.organizations where name = 'The Lab' $$;
select is((select plan from public.subscriptions where org_id = tests.lab()), 'FREE', 'a made organization starts on FREE');
-- Four people are more than FREE has room for.
update public.subscriptions set plan = 'PRO' where org_id = tests.lab();

select tests.act_as('ada');
select lives_ok($$
  insert into public.memberships (org_id, user_id, role) values
    (tests.lab(), tests.id('vic'), 'viewer'), (tests.lab(), tests.id('mem'), 'member'), (tests.lab(), tests.id('adm'), 'admin')
$$, 'the owner adds members');
select is((select created_by from public.memberships where org_id = tests.lab() and user_id = tests.id('vic')), tests.id('ada'), 'who added them is recorded');

select tests.act_as_superuser();
create function tests.powers() returns text language sql stable as $$
  select string_agg(p, ' ' order by p)
  from unnest(array['projects:read', 'projects:write', 'skills:execute', 'members:write', 'billing:read', 'audit:read', 'api_keys:read', 'billing:write', 'organization:delete']) as p
  where public.can(tests.lab(), p)
$$;
select tests.act_as('vic');
select is(tests.powers(), 'projects:read', 'what a viewer may');
select is(public.has_role(tests.lab(), 'viewer') and not public.has_role(tests.lab(), 'member'), true, 'a viewer is no member');
select isnt_empty($$select 1 from public.profiles where id = tests.id('ada')$$, 'members see each other''s profiles');
select is(tests.changed($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('vic')$$), 0::bigint, 'a viewer does not raise themselves');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('mem')$$), 0::bigint, 'a viewer removes nobody');
select tests.act_as('mem');
select is(tests.powers(), 'projects:read projects:write skills:execute', 'what a member may');
select is(tests.changed($$update public.memberships set role = 'admin' where org_id = tests.lab()$$), 0::bigint, 'a member changes no roles');
select is(tests.changed($$update public.organizations set name = 'x' where id = tests.lab()$$), 0::bigint, 'a member does not rename the organization');
select tests.act_as('adm');
select is(tests.powers(), 'api_keys:read audit:read billing:read members:write projects:read projects:write skills:execute', 'what an admin may');
select throws_ok($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('adm')$$, '42501', null, 'an admin does not raise themselves');
select throws_ok($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('mem')$$, '42501', null, 'an admin makes no owner');
select throws_ok($$insert into public.memberships (org_id, user_id, role) values (tests.lab(), tests.id('eve'), 'owner')$$, '42501', null, 'nor adds one');
select is(tests.changed($$update public.memberships set role = 'viewer' where org_id = tests.lab() and user_id = tests.id('ada')$$), 0::bigint, 'an admin does not touch an owner');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada')$$), 0::bigint, 'nor removes one');
select is(tests.changed($$update public.memberships set role = 'viewer' where org_id = tests.lab() and user_id = tests.id('mem')$$), 1::bigint, 'an admin changes a member''s role');
select is(tests.changed($$update public.organizations set name = 'The Lab' where id = tests.lab()$$), 1::bigint, 'an admin renames the organization');
select is(tests.changed($$delete from public.organizations where id = tests.lab()$$), 0::bigint, 'an admin does not delete it');
select throws_ok($$update public.memberships set org_id = tests.org('adm') where org_id = tests.lab()$$, '42501', null, 'a membership does not move');
select tests.act_as_service();
select tests.refuses($$update public.memberships set org_id = tests.org('adm') where org_id = tests.lab() and user_id = tests.id('mem')$$, 'permission_denied', 'not even by service_role');

-- ---- the last owner
select tests.act_as('ada');
select is(tests.powers(), 'api_keys:read audit:read billing:read billing:write members:write organization:delete projects:read projects:write skills:execute', 'what an owner may');
select tests.refuses($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada')$$, 'conflict', 'the last owner does not leave');
select tests.refuses($$update public.memberships set role = 'admin' where org_id = tests.lab() and user_id = tests.id('ada')$$, 'conflict', 'nor steps down');
select is(tests.changed($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('adm')$$), 1::bigint, 'an owner makes another');
select is((public.set_active_organization(tests.lab())).active_org_id, tests.lab(), 'set_active_organization');
select is(public.org_id(), tests.lab(), 'org_id follows it');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada')$$), 1::bigint, 'then the first may leave');
select is(public.org_id(), tests.org('ada'), 'and falls back to the personal organization');
select is_empty($$select 1 from public.organizations where id = tests.lab()$$, 'and sees no more of it');

-- ---- whoever asks by a search_path of their own gets the same answers
select tests.act_as_superuser();
create schema trap;
grant usage on schema trap to public;
create function trap.always(uuid, uuid) returns boolean language sql immutable return true;
create operator trap.= (function = trap.always, leftarg = uuid, rightarg = uuid);
grant execute on function trap.always(uuid, uuid) to public;
create function tests.seen() returns text language plpgsql set search_path = trap, pg_catalog as $$
begin
  return format(
    '%s %s %s %s %s', (select count(*) from public.org_ids()), (select count(*) from private.org_ids_with('projects:read')),
    public.can(tests.lab(), 'projects:read'), public.has_role(tests.lab(), 'viewer'), (select count(*) from private.colleague_ids())
  );
end
$$;
select tests.act_as('eve');
select is(tests.seen(), '1 1 f f 1', 'an operator of the caller''s is not used by the helpers');
discard plans;
select is(tests.seen(), '1 1 f f 1', 'nor by the plans that they make meanwhile');

-- ---- header x-org-id
select tests.act_as('adm', tests.lab());
select is(public.org_id(), tests.lab(), 'the header chooses the organization');
select tests.act_as('ada', tests.lab());
select is(public.org_id(), null, 'a header naming a stranger''s organization chooses none');

-- ---- users go, organizations go
select tests.act_as_superuser();
select tests.join_org('bob', tests.lab(), 'member');
select lives_ok($$delete from auth.users where id = tests.id('adm')$$, 'an auth user can be deleted');
select is(tests.org('adm'), null, 'the personal organization goes along');
select is((select user_id from public.memberships where org_id = tests.lab() and role = 'owner'), tests.id('bob'), 'where they were the last owner the highest remaining member follows');
select lives_ok($$delete from auth.users where id = tests.id('ada')$$, 'so can the maker of an organization');
select is((select created_by from public.organizations where id = tests.lab()), null, 'which then has no maker');
select tests.act_as('bob');
select is(tests.changed($$delete from public.organizations where id = tests.lab()$$), 1::bigint, 'an owner deletes the organization');
select tests.act_as_superuser();
select is_empty($$select 1 from public.memberships as m where not exists (select 1 from public.organizations as o where o.id = m.org_id)$$, 'and its memberships with it');

select * from finish();
rollback;
