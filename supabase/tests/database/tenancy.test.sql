begin;
\ir 000_helpers.sql
select plan(156);

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
select tests.sign_up('name' || n, metadata)
from (values (1, '{"display_name": "", "full_name": "Ada"}'::jsonb), (2, '{"display_name": " \t", "full_name": "\n", "name": " Bea "}'), (3, '{"display_name": ""}'),
  (4, '{"display_name": {"a": 1}, "full_name": ["x"], "name": 7}'), (5, 'null'), (6, null), (7, jsonb_build_object('name', repeat(e'\t', 200) || repeat('x', 200)))) as given (n, metadata);
select results_eq(
  $$select n, p.display_name from generate_series(1, 7) as n join public.profiles as p on p.id = tests.id('name' || n) order by n$$,
  $$values (1, 'Ada'), (2, 'Bea'), (3, 'name3'), (4, 'name4'), (5, 'name5'), (6, 'name6'), (7, repeat('x', 100))$$,
  'blank and senseless metadata falls through to the next name, then to the address'
);
select lives_ok($$insert into auth.users (id, email_confirmed_at) values (tests.id('no address'), now())$$, 'a user may have no address');
select is((select display_name from public.profiles where id = tests.id('no address')), 'New user', 'and then no name either');
select is(
  (select array_agg(m.role || ' ' || (o.personal_for = m.user_id)) from public.memberships m join public.organizations o on o.id = m.org_id where m.user_id = tests.id('ada')),
  array['owner true'], 'sign-up makes a personal organization with its owner'
);
select is((select active_org_id from private.active_organizations where user_id = tests.id('ada')), tests.org('ada'), 'and makes it the active one');
select is((select plan from public.subscriptions where org_id = tests.org('ada')), 'FREE', 'and puts it on FREE');


-- ---- who gets a personal organization
create function tests.personal(who text) returns bigint language sql security definer as $$
  select count(*) from public.organizations as o where o.personal_for = tests.id(who)
$$;
insert into auth.users (id, email, email_confirmed_at, invited_at, is_anonymous) values
  (tests.id('invited'), 'invited@example.test', now(), now(), false), (tests.id('unconfirmed'), 'unconfirmed@example.test', null, null, false),
  (tests.id('anonymous'), null, null, null, true);
select is(array[tests.personal('invited'), tests.personal('unconfirmed'), tests.personal('anonymous')], '{0,0,0}', 'an invited, unconfirmed or anonymous user gets none');
select is((select count(*) from public.profiles where id in (tests.id('invited'), tests.id('unconfirmed'), tests.id('anonymous'))), 3::bigint, 'but a profile');
update auth.users set last_sign_in_at = now() where id in (tests.id('invited'), tests.id('unconfirmed'), tests.id('anonymous'));
select is(tests.personal('unconfirmed'), 0::bigint, 'nor by signing in');
update auth.users set email_confirmed_at = now() where id = tests.id('unconfirmed');
select is(tests.personal('unconfirmed'), 1::bigint, 'who confirms the address gets it then');
update auth.users set email = 'permanent@example.test', email_confirmed_at = now() where id = tests.id('anonymous');
select is(tests.personal('anonymous'), 0::bigint, 'an anonymous user with an address is anonymous still');
update auth.users set is_anonymous = false where id = tests.id('anonymous');
select is(tests.personal('anonymous'), 1::bigint, 'and gets it when they are not');
update auth.users set email_confirmed_at = null where id = tests.id('anonymous');
update auth.users set email_confirmed_at = now(), phone_confirmed_at = now() where id = tests.id('anonymous');
select is(tests.personal('anonymous'), 1::bigint, 'once');

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.organizations', '42501', null, 'anon reads no organizations');
select throws_ok('select * from public.memberships', '42501', null, 'anon reads no memberships');
select throws_ok('select * from public.profiles', '42501', null, 'anon reads no profiles');
select throws_ok('select public.org_ids()', '42501', null, 'anon has no organizations to ask for');
select throws_ok($$select public.create_organization('x')$$, '42501', null, 'anon makes no organization');
select throws_ok($$select private.tenancy_create_organization(tests.id('eve'), 'x', true)$$, '42501', null, 'anon reaches no helper');

select tests.act_as('eve');
select is_empty($$select 1 from public.organizations where id = tests.org('ada')$$, 'a non-member does not see the organization');
select is_empty($$select 1 from public.memberships where org_id = tests.org('ada')$$, 'nor its members');
select is_empty($$select 1 from public.profiles where id = tests.id('ada')$$, 'nor their profiles');
select is(tests.changed($$update public.organizations set name = 'mine' where id = tests.org('ada')$$), 0::bigint, 'a non-member renames nothing');
select is(tests.changed($$delete from public.organizations where id = tests.org('ada')$$), 0::bigint, 'a non-member deletes nothing');
select throws_ok($$insert into public.memberships (org_id, user_id, role) values (tests.org('ada'), tests.id('eve'), 'viewer')$$, '42501', null, 'a non-member cannot add a member');
select is(tests.changed($$update public.profiles set display_name = 'x' where id = tests.id('ada')$$), 0::bigint, 'a non-member changes no profile');
select throws_ok(format($$insert into public.profiles (id, display_name) values (%L, 'x') on conflict (id) do update set display_name = excluded.display_name$$, id), '42501', null, 'nor by an upsert, and makes none')
from unnest(array[tests.id('ada'), gen_random_uuid()]) as id;
select is(tests.changed(format($$insert into public.profiles (id, display_name) values (%L, 'Eve') on conflict (id) do update set id = excluded.id, display_name = excluded.display_name$$, tests.id('eve'))), 1::bigint, 'but their own');
select tests.refuses($$select public.set_active_organization(tests.org('ada'))$$, 'not_a_member', 'a non-member makes it not their active one');
select tests.refuses($$select public.set_active_organization(gen_random_uuid())$$, 'not_a_member', 'the answer is the same for one that does not exist');
select throws_ok($$select * from private.role_permissions$$, '42501', null, 'users do not read private tables');
select throws_ok($$insert into public.organizations (name) values ('x')$$, '42501', null, 'organizations are made by function only');
select throws_ok($$select * from private.active_organizations$$, '42501', null, 'nor the active organizations');
select is((select p.active_org_id from public.profiles as p where p.id = tests.id('eve')), tests.org('eve'), 'they read their own in their profile');
select throws_ok($$update public.organizations set personal_for = null$$, '42501', null, 'personal_for cannot be changed');

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
select is((public.create_organization('  The Lab ')).name, 'The Lab', 'create_organization answers with the row');
select tests.refuses($$select public.create_organization(' ')$$, 'invalid_input', 'a blank name is refused');
select tests.act_as_superuser();
create function tests.lab() returns uuid language sql stable security definer as $$ select id from public.organizations where name = 'The Lab' $$;
select is((select plan from public.subscriptions where org_id = tests.lab()), 'FREE', 'a made organization starts on FREE');
-- Four people are more than FREE has room for.
update public.subscriptions set plan = 'PRO' where org_id = tests.lab();

select tests.act_as('ada');
select throws_ok(
  $$insert into public.memberships (org_id, user_id, role) values (tests.lab(), tests.id('vic'), 'viewer')$$, '42501', null, 'not even the owner can add a member without their consent'
);
select tests.act_as_service();
select lives_ok($$
  insert into public.memberships (org_id, user_id, role) values
    (tests.lab(), tests.id('vic'), 'viewer'), (tests.lab(), tests.id('mem'), 'member'), (tests.lab(), tests.id('adm'), 'admin')
$$, 'service_role may');

select tests.act_as_superuser();
create function tests.powers() returns text language sql stable as $$
  select string_agg(p, ' ' order by p)
  from unnest(array['projects:read', 'projects:write', 'skills:execute', 'members:write', 'billing:read', 'audit:read', 'api_keys:read', 'billing:write', 'organization:delete']) as p
  where public.can(tests.lab(), p)
$$;
select tests.act_as('vic');
select is(tests.powers(), 'projects:read', 'what a viewer may');
select is(public.has_role(tests.lab(), 'viewer') and not public.has_role(tests.lab(), 'member'), true, 'a viewer is no member');
select is((select email from public.profiles where id = tests.id('ada')), 'ada@example.test', 'members see each other''s profiles, addresses included');
select is((select p.active_org_id from public.profiles as p where p.id = tests.id('ada')), null, 'and not where the others work');
select tests.act_as_superuser();
delete from private.role_permissions where role = 'viewer' and permission = 'members:read';
select tests.act_as('vic');
select is_empty($$select 1 from public.profiles where id = tests.id('ada')$$, 'who does not hold members:read sees no colleague');
select isnt_empty($$select 1 from public.profiles where id = tests.id('vic')$$, 'but themselves');
select tests.act_as_superuser();
insert into private.role_permissions (role, permission) values ('viewer', 'members:read');
select tests.act_as('vic');
select is(tests.changed($$update public.memberships set role = 'owner' where org_id = tests.lab() and user_id = tests.id('vic')$$), 0::bigint, 'a viewer does not raise themselves');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('mem')$$), 0::bigint, 'a viewer cannot remove members');
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
select is((select p.active_org_id from public.profiles as p where p.id = tests.id('ada')), tests.lab(), 'the profile shows it');
select is(public.org_id(), tests.lab(), 'org_id follows it');
select is(tests.changed($$delete from public.memberships where org_id = tests.lab() and user_id = tests.id('ada')$$), 1::bigint, 'then the first may leave');
select is(public.org_id(), tests.org('ada'), 'and falls back to the personal organization');
select is_empty($$select 1 from public.organizations where id = tests.lab()$$, 'and sees no more of it');

-- ---- handing over and leaving
select tests.act_as_anon();
select throws_ok($$select public.transfer_ownership(tests.lab(), tests.id('mem'))$$, '42501', null, 'anon hands nothing over');
select throws_ok($$select public.leave_organization(tests.lab())$$, '42501', null, 'and leaves nothing');
select tests.act_as('eve');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('eve'))$$, 'not_a_member', 'a non-member hands nothing over');
select tests.refuses($$select public.transfer_ownership(gen_random_uuid(), tests.id('eve'))$$, 'not_a_member', 'as of what does not exist');
select tests.refuses($$select public.leave_organization(tests.lab())$$, 'not_a_member', 'and does not leave where they are not');
select tests.refuses($$select public.leave_organization(null)$$, 'not_a_member', 'nor nowhere');
select tests.act_as('mem');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('mem'))$$, 'permission_denied', 'a member takes nothing over');
select tests.act_as('adm');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('adm'))$$, 'conflict', 'an owner owns it already');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('eve'))$$, 'not_found', 'it makes nobody a member');
select tests.refuses($$select public.transfer_ownership(tests.lab(), null)$$, 'not_found', 'nor does an unauthenticated caller');
select tests.refuses($$select public.leave_organization(tests.lab())$$, 'conflict', 'the last owner does not leave');
select is((public.transfer_ownership(tests.lab(), tests.id('mem'))).role, 'owner', 'the owner hands it over');
select is(public.has_role(tests.lab(), 'admin') and not public.has_role(tests.lab(), 'owner'), true, 'and is an admin');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('adm'))$$, 'permission_denied', 'who does not take it back');
select lives_ok($$select public.leave_organization(tests.lab())$$, 'and may leave');
select is(public.has_role(tests.lab(), 'viewer'), false, 'and has left');
select tests.refuses($$select public.leave_organization(tests.lab())$$, 'not_a_member', 'once');
select tests.act_as_superuser();
select tests.join_org('adm', tests.lab(), 'owner');
select tests.act_as('mem');
select is((public.transfer_ownership(tests.lab(), tests.id('adm'))).role, 'owner', 'one of two owners may hand over, too');
select tests.act_as('adm');
select is(tests.changed($$update public.memberships set role = 'viewer' where org_id = tests.lab() and user_id = tests.id('mem')$$), 1::bigint, 'who is no owner then');

-- ---- a caller's own search_path changes no answer
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
select is(tests.seen(), '1 1 f f 1', 'an operator of the caller''s is not used by the helpers');
discard plans;
select is(tests.seen(), '1 1 f f 1', 'nor by the plans that they make meanwhile');

-- ---- header x-org-id
select tests.act_as('adm', tests.lab());
select is(public.org_id(), tests.lab(), 'the header chooses the organization');
select tests.act_as('ada', tests.lab());
select is(public.org_id(), null, 'a header naming an organization of others chooses none');

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

-- ---- what is personal, and no more
select tests.act_as_superuser();
select tests.sign_up('host'), tests.sign_up('guest'), tests.sign_up('lone');
select tests.org('host') as host_org, tests.org('lone') as lone_org \gset
select tests.act_as_service();
select tests.refuses(format($$update public.organizations set personal_for = tests.id('eve') where id = %L$$, :'host_org'), 'permission_denied', 'a personal organization does not become personal for another user');
select tests.join_org('guest', :'host_org', 'owner');
select tests.act_as_superuser();
select is(tests.personal('host'), 0::bigint, 'with a second member it is not personal any more');
select is(tests.personal('lone'), 1::bigint, 'others stay as they are');
insert into public.projects (org_id, name, created_by) values (:'host_org', 'kept', tests.id('guest'));
delete from public.memberships where org_id = :'host_org' and user_id = tests.id('host');
select tests.act_as_service();
select tests.refuses(format($$update public.organizations set personal_for = tests.id('guest') where id = %L$$, :'host_org'), 'permission_denied', 'and does not become one again');
select tests.act_as_superuser();
delete from auth.users where id = tests.id('host');
select isnt_empty(format($$select 1 from public.projects where org_id = %L and name = 'kept'$$, :'host_org'), 'it stays, with all in it, when the user it was made for leaves and is deleted');

-- ---- soft deletion: the same succession
insert into auth.sessions (id, user_id) values (gen_random_uuid(), tests.id('lone'));
update auth.users set email = 'a hash', raw_user_meta_data = '{}', deleted_at = now() where id = tests.id('lone');
select is_empty(format($$select 1 from public.organizations where id = %L$$, :'lone_org'), 'a lone personal organization goes with a softly deleted user');
select is((select display_name || coalesce(email, '') from public.profiles where id = tests.id('lone')), 'Deleted user', 'who has neither name nor address');
select is_empty($$select 1 from auth.sessions where user_id = tests.id('lone')$$, 'nor sessions');
select is(tests.personal('lone'), 0::bigint, 'nor a new organization');
select tests.sign_up('second');
select tests.join_org('second', :'host_org', 'viewer');
update auth.users set email = 'another hash', deleted_at = now() where id = tests.id('guest');
select results_eq(
  format($$select user_id, role from public.memberships where org_id = %L$$, :'host_org'), $$values (tests.id('second'), 'owner')$$,
  'where they were the last owner the next member follows, and their membership ends'
);
update auth.users set email = 'a third hash' where id = tests.id('guest');
select is((select email from public.profiles where id = tests.id('guest')), null, 'no later change brings an address back');
select is((select created_by from public.projects where org_id = :'host_org' and name = 'kept'), tests.id('guest'), 'what they made keeps its maker');
select lives_ok($$delete from auth.users where id = tests.id('guest')$$, 'hard deletion may follow');

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
select is(tests.banned(null), false, 'a user is not banned');
select is(tests.banned(kijko.now() + interval '1 hour'), true, 'a ban holds at once, for tokens that are out already');
select is(tests.answer('select public.before_request()') ->> 'code', 'not_identified', 'whose requests are refused');
select is(tests.banned(null), false, 'lifting it lets the same tokens in');
select is(tests.answer('select public.before_request()') -> 'status', null, 'with their requests');
select is(tests.banned('9999-12-31'), true, 'a ban may be for ever');
select tests.act_as_superuser();
select is((select expires_at - now() from kijko.revoked_sessions where session_id = tests.id('ban')), interval '7 days', 'tokens that are out do not live longer than a week');
select is(tests.banned(kijko.now() + interval '5 minutes'), true, 'a shorter one takes its place');
select tests.act_as_superuser();
select is((select expires_at - now() from kijko.revoked_sessions where session_id = tests.id('ban')), interval '5 minutes', 'and its end is when the tokens count again');
select is(tests.banned(kijko.now() - interval '1 minute'), false, 'one that has ended is none');
select tests.act_as_superuser();
select tests.travel('2 days');
select is(tests.banned(kijko.now() + interval '1 hour'), true, 'bans are by product time');
select tests.act_as_superuser();
select is((select expires_at - now() from kijko.revoked_sessions where session_id = tests.id('ban')), interval '1 hour', 'and tokens by the real clock');
select tests.travel('0');

-- ---- how many organizations a user makes
select tests.sign_up('maker'), tests.sign_up('other');
create function tests.makes(n integer) returns integer language plpgsql as $$
declare
  made integer := 0;
begin
  for i in 1..n loop
    begin
      perform public.create_organization('made ' || i);
      made := made + 1;
    exception when sqlstate 'KJ429' then
      null;
    end;
  end loop;
  return made;
end
$$;
create function tests.plan_of(org uuid, plan text) returns void language sql security definer as $$
  update public.subscriptions as s set plan = plan_of.plan where s.org_id = plan_of.org
$$;
create function tests.a_made(who text) returns uuid language sql security definer as $$
  select o.id from public.organizations as o where o.created_by = tests.id(who) and o.personal_for is null limit 1
$$;
select tests.act_as('maker');
select is(tests.makes(5), 3, 'on FREE three besides the personal one');
select is(tests.answer($$select public.create_organization('fourth')$$) - 'headers', '{"code": "quota_exceeded", "status": 429}', 'the fourth is 429');
-- Handed over, it counts still.
select tests.a_made('maker') as handed_over \gset
select tests.act_as_superuser();
select tests.join_org('other', :'handed_over', 'owner');
delete from public.memberships where org_id = :'handed_over' and user_id = tests.id('maker');
select tests.act_as('maker');
select is(tests.makes(1), 0, 'handing one over makes no room');
select tests.act_as('other');
select is(tests.makes(5), 3, 'what one was handed takes none');
select tests.act_as('maker');
select is(tests.changed($$delete from public.organizations where id = any (array(select o.id from public.organizations as o where o.name ~ '^made'))$$), 2::bigint, 'they delete the others');
select is(tests.makes(5), 2, 'deleting makes room');
select is(tests.changed($$delete from public.organizations where name ~ '^made'$$), 2::bigint, 'again');
select is(tests.makes(5), 1, 'but no more than twice the limit are made in a month');
select tests.act_as_superuser();
select tests.travel('31 days');
select tests.act_as('maker');
select is(tests.makes(5), 1, 'the next month goes on, to the limit');
select tests.plan_of(tests.org('maker'), 'PRO');
select is(tests.makes(20), 7, 'the best plan counts: ten on PRO');
select tests.plan_of(tests.org('maker'), 'FREE');
select tests.plan_of(:'handed_over', 'ENTERPRISE');
select tests.join_org('maker', :'handed_over', 'admin');
select is(tests.makes(1), 0, 'a plan of what others own does not');
select tests.act_as('other');
select is(tests.makes(60), 60, 'ENTERPRISE has no limit');
select tests.act_as_service();
select lives_ok($$insert into public.organizations (name, created_by) values ('by the back office', tests.id('maker'))$$, 'service_role is not limited');
select tests.act_as_superuser();
select tests.travel('0');

-- ---- sessions of a user: a hundred, the last used ones
select tests.sign_up('tabs'), tests.sign_up('calm');
create function tests.session(n integer) returns uuid language sql immutable return md5('session ' || n)::uuid;
insert into auth.sessions (id, user_id, created_at, updated_at)
select tests.session(n), tests.id('tabs'), now() - interval '1 day' + n * interval '1 second', now() - interval '1 day' + n * interval '1 second'
from generate_series(1, 100) as n;
insert into auth.sessions (id, user_id, created_at) values (tests.session(999), tests.id('calm'), now() - interval '9 days');
select is((select count(*) from auth.sessions where user_id = tests.id('tabs')), 100::bigint, 'a hundred sessions fit');
update auth.sessions set updated_at = now() where id = tests.session(1); -- refreshed
insert into auth.sessions (id, user_id, created_at, updated_at) values (tests.session(101), tests.id('tabs'), now(), now());
select is((select count(*) from auth.sessions where user_id = tests.id('tabs')), 100::bigint, 'a further one takes the place');
select results_eq(
  $$select n from generate_series(1, 101) as n where not exists (select 1 from auth.sessions as s where s.id = tests.session(n))$$, array[2],
  'of the one that was used longest ago'
);
select isnt_empty($$select 1 from kijko.revoked_sessions where session_id = tests.session(2)$$, 'whose tokens count no more');
select isnt_empty($$select 1 from auth.sessions where id = tests.session(999)$$, 'others keep theirs');

select * from finish();
rollback;
