begin;
\ir 000_helpers.sql
select plan(88);

select tests.sign_up('ada', '{"display_name": "Ada L."}'), tests.sign_up('bob'), tests.sign_up('eve');

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.organizations', '42501', null, 'anon reads no organizations');
select throws_ok('select * from public.memberships', '42501', null, 'anon reads no memberships');
select throws_ok('select * from public.profiles', '42501', null, 'anon reads no profiles');
select throws_ok('select public.org_ids()', '42501', null, 'anon cannot call org_ids()');
select throws_ok($$select public.create_organization('x')$$, '42501', null, 'anon cannot create an organization');
select throws_ok($$select private.tenancy_create_organization(tests.id('eve'), 'x', true)$$, '42501', null, 'anon cannot call a helper of private');

select tests.act_as('eve');
select is_empty($$select 1 from public.organizations where id = tests.org('ada')$$, 'a non-member does not see the organization');
select is_empty($$select 1 from public.memberships where org_id = tests.org('ada')$$, 'a non-member does not see the memberships');
select is_empty($$select 1 from public.profiles where id = tests.id('ada')$$, 'a non-member does not see the members'' profiles');
select is(tests.changed($$update public.organizations set name = 'mine' where id = tests.org('ada')$$), 0::bigint, 'a non-member renames nothing');
select is(tests.changed($$delete from public.organizations where id = tests.org('ada')$$), 0::bigint, 'a non-member deletes nothing');
select throws_ok($$insert into public.memberships (org_id, user_id, role) values (tests.org('ada'), tests.id('eve'), 'viewer')$$, '42501', null, 'a non-member cannot add a member');
select is(tests.changed($$update public.profiles set display_name = 'x' where id = tests.id('ada')$$), 0::bigint, 'a non-member changes no profile');
select throws_ok(format($$insert into public.profiles (id, display_name) values (%L, 'x') on conflict (id) do update set display_name = excluded.display_name$$, id), '42501', null, 'a user cannot upsert the profile of another user, or one that does not exist')
from unnest(array[tests.id('ada'), gen_random_uuid()]) as id;
select is(tests.changed(format($$insert into public.profiles (id, display_name) values (%L, 'Eve') on conflict (id) do update set id = excluded.id, display_name = excluded.display_name$$, tests.id('eve'))), 1::bigint, 'a user can upsert their own profile');
select tests.refuses($$select public.set_active_organization(tests.org('ada'))$$, 'not_a_member', 'a non-member cannot make it the active organization');
select tests.refuses($$select public.set_active_organization(gen_random_uuid())$$, 'not_a_member', 'an organization that does not exist gives the same refusal');
select throws_ok($$select * from private.role_permissions$$, '42501', null, 'users do not read private tables');
select throws_ok($$insert into public.organizations (name) values ('x')$$, '42501', null, 'users cannot insert organizations');
select throws_ok($$select * from private.active_organizations$$, '42501', null, 'users cannot read the active organizations of all users');
select is((select p.active_org_id from public.profiles as p where p.id = tests.id('eve')), tests.org('eve'), 'a user reads their active organization in their own profile');
select throws_ok($$update public.organizations set personal_for = null$$, '42501', null, 'users cannot change personal_for');

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
select is(public.can(tests.org('bob'), 'projects:read'), false, 'can: an organization of others');

-- ---- roles
select tests.act_as_superuser();
select tests.sign_up('vic'), tests.sign_up('mem'), tests.sign_up('adm');
select tests.act_as('ada');
select is((public.create_organization('  The Lab ')).name, 'The Lab', 'create_organization() returns the row');
select tests.refuses($$select public.create_organization(' ')$$, 'invalid_input', 'a blank name is refused');
select tests.act_as_superuser();
select is((select plan from public.subscriptions where org_id = tests.lab()), 'FREE', 'a new organization is on FREE');
-- Four people are more than FREE has room for.
update public.subscriptions set plan = 'PRO' where org_id = tests.lab();

select tests.act_as('ada');
select throws_ok(
  $$insert into public.memberships (org_id, user_id, role) values (tests.lab(), tests.id('vic'), 'viewer')$$, '42501', null, 'an owner cannot insert the membership of another user'
);
select tests.act_as_service();
select lives_ok($$
  insert into public.memberships (org_id, user_id, role) values
    (tests.lab(), tests.id('vic'), 'viewer'), (tests.lab(), tests.id('mem'), 'member'), (tests.lab(), tests.id('adm'), 'admin')
$$, 'service_role can insert memberships');

select tests.act_as_superuser();
create function tests.powers() returns text language sql stable as $$
  select string_agg(p, ' ' order by p)
  from unnest(array['projects:read', 'projects:write', 'projects:manage', 'skills:execute', 'members:write', 'billing:read', 'audit:read', 'api_keys:read', 'billing:write', 'organization:delete']) as p
  where public.can(tests.lab(), p)
$$;
select tests.act_as('vic');
select is(tests.powers(), 'projects:read', 'the permissions of a viewer');
select is(public.has_role(tests.lab(), 'viewer') and not public.has_role(tests.lab(), 'member'), true, 'a viewer does not have the role member');
select is((select email from public.profiles where id = tests.id('ada')), 'ada@example.test', 'members see each other''s profiles, addresses included');
select is((select p.active_org_id from public.profiles as p where p.id = tests.id('ada')), null, 'a member does not see the active organization of others');
select tests.act_as_superuser();
delete from private.role_permissions where role = 'viewer' and permission = 'members:read';
select tests.act_as('vic');
select is_empty($$select 1 from public.profiles where id = tests.id('ada')$$, 'without members:read a member sees no other profile');
select isnt_empty($$select 1 from public.profiles where id = tests.id('vic')$$, 'without members:read a member sees their own profile');
select tests.act_as_superuser();
insert into private.role_permissions (role, permission) values ('viewer', 'members:read');
select tests.act_as('vic');
select is(tests.changed($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('vic')$$), 0::bigint, 'a viewer cannot raise their own role');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('mem')$$), 0::bigint, 'a viewer cannot remove members');
select tests.act_as('mem');
select is(tests.powers(), 'projects:read projects:write skills:execute', 'the permissions of a member');
select is(tests.changed($$update public.memberships set role = 'admin' where org_id = tests.lab()$$), 0::bigint, 'a member changes no roles');
select is(tests.changed($$update public.organizations set name = 'x' where id = tests.lab()$$), 0::bigint, 'a member does not rename the organization');
select tests.act_as('adm');
select is(tests.powers(), 'api_keys:read audit:read billing:read members:write projects:manage projects:read projects:write skills:execute', 'the permissions of an admin');
select throws_ok($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('adm')$$, '42501', null, 'an admin cannot raise their own role');
select throws_ok($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('mem')$$, '42501', null, 'an admin cannot make a member an owner');
select throws_ok($$insert into public.memberships (org_id, user_id, role) values (tests.lab(), tests.id('eve'), 'owner')$$, '42501', null, 'an admin cannot insert an owner');
select is(tests.changed($$update public.memberships set role = 'viewer' where org_id = tests.lab() and user_id = tests.id('ada')$$), 0::bigint, 'an admin cannot change an owner');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada')$$), 0::bigint, 'an admin cannot delete an owner');
select is(tests.changed($$update public.memberships set role = 'viewer' where org_id = tests.lab() and user_id = tests.id('mem')$$), 1::bigint, 'an admin changes a member''s role');
select is(tests.changed($$update public.organizations set name = 'The Lab' where id = tests.lab()$$), 1::bigint, 'an admin renames the organization');
select is(tests.changed($$delete from public.organizations where id = tests.lab()$$), 0::bigint, 'an admin does not delete it');
select throws_ok($$update public.memberships set org_id = tests.org('adm') where org_id = tests.lab()$$, '42501', null, 'a membership does not move');
select tests.act_as_service();
select tests.refuses($$update public.memberships set org_id = tests.org('adm') where org_id = tests.lab() and user_id = tests.id('mem')$$, 'permission_denied', 'service_role cannot move a membership');

-- ---- the caller's search_path changes no answer
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
    public.can(tests.lab(), 'projects:read'), public.has_role(tests.lab(), 'viewer'), (select count(*) from private.tenancy_colleague_ids())
  );
end
$$;
select tests.act_as('eve');
select is(tests.seen(), '1 1 f f 1', 'helpers ignore operators in the caller''s search_path');
discard plans;
select is(tests.seen(), '1 1 f f 1', 'plans made under that search_path ignore them, too');

-- ---- header x-org-id
select tests.act_as('adm', tests.lab());
select is(public.org_id(), tests.lab(), 'header x-org-id chooses the organization');
select tests.act_as('bob', tests.lab());
select is(public.org_id(), null, 'a header with the organization of others chooses none');

-- ---- functions about the caller as a person
select tests.act_as_superuser();
create function tests.about_a_person(code text, description text) returns setof text language sql as $$
  select tests.refuses(f.call, about_a_person.code, f.call || ': ' || description)
  from unnest(array[
    'select public.create_organization(''x'')', 'select public.set_active_organization(gen_random_uuid())', 'select public.leave_organization(gen_random_uuid())',
    'select public.transfer_ownership(gen_random_uuid(), gen_random_uuid())', 'select public.invite_member(''x@example.test'')',
    'select public.accept_invitation(''x'')', 'select public.decline_invitation(''x'')', 'select public.revoke_invitation(gen_random_uuid())'
  ]) as f (call)
$$;
select tests.act('authenticated', '{"role": "authenticated"}', null);
select tests.about_a_person('not_identified', 'not for a token without a user');
select tests.act('authenticated', tests.token('service_role'), null);
select tests.about_a_person('permission_denied', 'not for a key');

-- ---- the organization of the platform
select tests.act_as('ada');
select is_empty('select 1 from public.organizations where id = kijko.platform_org_id()', 'users do not see the organization of the platform');
select tests.refuses('select public.set_active_organization(kijko.platform_org_id())', 'not_a_member', 'no user can choose it');
select tests.act_as('ada', kijko.platform_org_id());
select is(tests.answer('select public.before_request()') ->> 'code', 'not_a_member', 'no request can name it');
select tests.act_as_service();
select throws_ok(
  $$insert into public.memberships (org_id, user_id, role) values (kijko.platform_org_id(), tests.id('ada'), 'owner')$$, '23514', null, 'nobody can become a member of it'
);
select tests.refuses('delete from public.organizations where id = kijko.platform_org_id()', 'permission_denied', 'service_role cannot delete it');
select tests.refuses('update public.organizations set id = gen_random_uuid() where id = kijko.platform_org_id()', 'permission_denied', 'service_role cannot change its id');
select tests.act_as_superuser();
select tests.refuses('delete from public.organizations where id = kijko.platform_org_id()', 'permission_denied', 'the owner of the table cannot delete it');
select is_empty('select 1 from public.subscriptions where org_id = kijko.platform_org_id()', 'it has no subscription');
select throws_ok($$insert into public.subscriptions (org_id, plan) values (kijko.platform_org_id(), 'PRO')$$, '23514', null, 'nor can it get one');
select is_empty('select 1 from kijko.usage(kijko.platform_org_id()) where "limit" is not null', 'no plan limits it');

select * from finish();
rollback;
