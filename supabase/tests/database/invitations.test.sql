begin;
\ir 000_helpers.sql
select plan(98);

-- How many invitations a user makes an hour is not rolled back: each run has users of its own.
select set_config('tests.run', gen_random_uuid()::text, true);
create or replace function tests.id(name text) returns uuid language sql stable
return pg_catalog.md5('user ' || name || pg_catalog.current_setting('tests.run'))::uuid;

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('eve'), tests.sign_up('cat');
select tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('vic');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('vic', tests.org('ada'), 'viewer');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member');
update public.subscriptions set plan = 'FREE' where org_id = tests.org('bob');

-- The token of a new invitation to ada's organization, created by that user.
create function tests.invite(who text, email text, role text) returns text language plpgsql as $$
begin
  perform tests.act_as(who, tests.org('ada'));
  return (public.invite_member(email, role)).token;
end
$$;
create function tests.invitation(email text) returns public.invitations language sql security definer as $$
  select i.* from public.invitations as i where i.org_id = tests.org('ada') and i.email = invitation.email order by i.created_at desc, i.status = 'pending' desc limit 1
$$;
create function tests.role_of(who text, org uuid) returns text language sql security definer as $$
  select m.role from public.memberships as m where m.org_id = role_of.org and m.user_id = tests.id(who)
$$;
create function tests.invited(times integer) returns text language plpgsql as $$
begin
  for n in 1..times loop
    perform public.invite_member('hundred@example.test', 'viewer');
  end loop;
  return 'ok';
exception when sqlstate 'KJ430' then
  return 'rate_limited';
end
$$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.invitations', '42501', null, 'anon reads no invitations');
select throws_ok($$select public.invite_member('x@example.test', 'viewer')$$, '42501', null, 'and cannot invite');
select throws_ok($$select public.accept_invitation('x')$$, '42501', null, 'accepts nothing');
select throws_ok($$select public.decline_invitation('x')$$, '42501', null, 'declines nothing');
select throws_ok($$select public.revoke_invitation(gen_random_uuid())$$, '42501', null, 'revokes nothing');

select tests.invite('ada', 'Eve@Example.test', 'member') as token \gset
select (tests.invitation('eve@example.test')).id as invitation \gset
select tests.act_as('eve');
select is_empty('select 1 from public.invitations', 'the person who is meant sees no invitation: the address satisfies nothing');
select tests.refuses($$select public.accept_invitation('kji_' || repeat('0', 64))$$, 'not_found', 'an unknown token opens nothing');
select tests.refuses($$select public.accept_invitation(null)$$, 'not_found', 'nor does none');
select tests.refuses($$select public.accept_invitation('eve@example.test')$$, 'not_found', 'nor the address');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'invitation'), 'not_found', 'nor the id');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, :'invitation'), 'not_found', 'a non-member revokes nothing');
select tests.refuses($$select public.revoke_invitation(gen_random_uuid())$$, 'not_found', 'the answer is the same for what does not exist');
select tests.act_as('eve', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'not_a_member', 'a non-member cannot invite');
select throws_ok($$insert into public.invitations (org_id, email, role) values (tests.org('eve'), 'x@example.test', 'owner')$$, '42501', null, 'not even an owner writes the table');
select throws_ok($$update public.invitations set role = 'owner'$$, '42501', null, 'or changes it');
select throws_ok($$delete from public.invitations$$, '42501', null, 'or deletes from it');
select throws_ok($$select * from private.invitation_tokens$$, '42501', null, 'or reads what tokens leave behind');
select tests.act('authenticated', '{"role": "authenticated"}', null);
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'not_identified', 'a token without a user cannot invite');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_identified', 'and accepts nothing');

-- ---- who may invite as what
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'permission_denied', 'a viewer cannot invite');
select is((select count(*) from public.invitations), 1::bigint, 'but sees who is invited');
select hasnt_column('public', 'invitations', 'token', 'never by which token');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'permission_denied', 'a member cannot invite');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, :'invitation'), 'permission_denied', 'nor revokes what they see');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'owner')$$, 'permission_denied', 'an admin invites no owner');
select lives_ok($$select public.invite_member('x@example.test', 'admin')$$, 'but an admin');
select tests.invite('ada', 'boss@example.test', 'owner') as boss \gset
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('boss@example.test', 'viewer')$$, 'permission_denied', 'an admin does not replace an owner''s invitation');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, (select id from public.invitations where email = 'boss@example.test')), 'permission_denied', 'nor revokes it');

-- Both count: the order of the roles, and what they may.
select tests.act_as_superuser();
create table tests.held as table private.role_permissions;
delete from private.role_permissions as o
where o.role = 'owner' and not exists (select 1 from private.role_permissions as a where a.role = 'admin' and a.permission = o.permission);
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'owner')$$, 'permission_denied', 'an admin invites no owner, whatever an owner may');
select tests.act_as_superuser();
insert into private.role_permissions (role, permission) values ('member', 'tea:make');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'member')$$, 'permission_denied', 'a member cannot grant a permission that they lack');
select lives_ok($$select public.invite_member('x@example.test', 'viewer')$$, 'but what they hold');
select tests.act_as_superuser();
delete from private.role_permissions;
insert into private.role_permissions table tests.held;

-- ---- what is asked for
select tests.act_as('ada');
select tests.refuses(format($$select public.invite_member(%L, 'viewer')$$, address), 'invalid_input', format('%s is no address', to_json(address)))
from unnest(array[null, '', 'x', '@', 'a@', '@b', 'a b@c', 'a@b@c', e'a@b\n', e'a@b\t', e'a\u0001@b', repeat('x', 320) || '@y']) as address;
select tests.refuses(format($$select public.invite_member('x@example.test', %L)$$, role), 'invalid_input', format('%s is no role', to_json(role)))
from unnest(array[null, '', 'emperor', 'OWNER']) as role;

-- ---- the token
select matches(:'token'::text, '^kji_[0-9a-f]{64}$', 'a token');
select is((select i.email || ' ' || i.role || ' ' || i.status from public.invitations as i where i.id = :'invitation'), 'eve@example.test member pending', 'the address is kept in lower case');
select is((select i.expires_at - i.created_at from public.invitations as i where i.id = :'invitation'), interval '7 days', 'for a week');
select tests.act_as_superuser();
select is((select t.token_hash from private.invitation_tokens as t where t.invitation_id = :'invitation'), sha256(:'token'), 'stored is its hash');
select is_empty(format($$select 1 from public.invitations as i where i::text ~ %L$$, :'token'), 'and nothing else');

-- ---- accepting
select tests.act_as('bob');
select is((public.accept_invitation(:'token')).role, 'member', 'the user who holds the token can accept, whatever their address');
select is(tests.role_of('bob', tests.org('ada')), 'member', 'and is a member');
select is((select m.created_by from public.memberships as m where m.user_id = tests.id('bob') and m.org_id = tests.org('ada')), tests.id('ada'), 'invited by ada');
select is((public.accept_invitation(:'token')).role, 'member', 'the same user may ask again');
select is((select count(*) from public.memberships as m where m.user_id = tests.id('bob')), 2::bigint, 'and is a member once');
select is((select i.status from public.invitations as i where i.id = :'invitation'), 'accepted', 'the list says so');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'another user cannot');
select tests.refuses(format($$select public.decline_invitation(%L)$$, :'token'), 'not_found', 'or decline it');
select tests.act_as('adm');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'not even who is a member already');
select tests.act_as('ada');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, :'invitation'), 'conflict', 'it is too late to revoke');
select is(tests.changed($$delete from public.memberships where user_id = tests.id('bob') and org_id = tests.org('ada')$$), 1::bigint, 'a member who is removed');
select tests.act_as('bob');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'does not come back by the old token');

-- ---- a member cannot accept for another user
select tests.invite('ada', 'cat@example.test', 'viewer') as token \gset
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'conflict', 'who tries their own link uses nothing up');
select tests.act_as('adm');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'conflict', 'nor changes a member by one their role');
select tests.act_as('cat');
select lives_ok(format($$select public.accept_invitation(%L)$$, :'token'), 'it is still there for whom it is meant');

-- ---- declined, revoked, expired, replaced
select tests.invite('ada', 'eve@example.test', 'viewer') as token \gset
select tests.act_as('eve');
select lives_ok(format($$select public.decline_invitation(%L)$$, :'token'), 'declining');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'ends it');
select tests.invite('ada', 'eve@example.test', 'viewer') as token \gset
select is((public.revoke_invitation((tests.invitation('eve@example.test')).id)).status, 'revoked', 'revoking');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'ends it, too');
select tests.invite('ada', 'eve@example.test', 'viewer') as token \gset
select tests.travel('7 days');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'after a week it has expired');
select tests.invite('ada', 'eve@example.test', 'admin') as token \gset
select tests.invite('adm', 'EVE@example.test', 'viewer') as newer \gset
select is((select count(*) from public.invitations where email = 'eve@example.test' and status = 'pending'), 1::bigint, 'one for each address');
select is((tests.invitation('eve@example.test')).created_by, tests.id('adm'), 'the last one');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'the token before it is worth nothing');

-- ---- an inviter who has lost the right meanwhile
select tests.act_as('ada');
select is(tests.changed($$update public.memberships set role = 'member' where user_id = tests.id('adm') and org_id = tests.org('ada')$$), 1::bigint, 'adm is no admin any more');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'newer'), 'permission_denied', 'what they promised is not theirs to give');
select tests.act_as('ada');
select is(tests.changed($$update public.memberships set role = 'admin' where user_id = tests.id('adm') and org_id = tests.org('ada')$$), 1::bigint, 'and again');
select tests.act_as_superuser();
update auth.users set banned_until = kijko.now() + interval '1 hour' where id = tests.id('adm');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'newer'), 'permission_denied', 'nor does the invitation of a banned user work');
select tests.act_as_superuser();
update auth.users set banned_until = null where id = tests.id('adm');
select tests.act_as('eve');
select lives_ok(format($$select public.accept_invitation(%L)$$, :'newer'), 'is');
select is(tests.role_of('eve', tests.org('ada')), 'viewer', 'as what was promised last');
select tests.invite('adm', 'late@example.test', 'viewer') as token \gset
select tests.act_as_superuser();
delete from auth.users where id = tests.id('adm');
select tests.sign_up('late');
select tests.act_as('late');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'permission_denied', 'the invitation of a deleted user is worth nothing');

-- ---- a seat for each member
select tests.act_as_superuser();
update public.subscriptions set plan = 'FREE' where org_id = tests.org('ada');
select tests.invite('ada', 'late@example.test', 'viewer') as token \gset
select tests.act_as('late');
select is(
  tests.answer(format($$select public.accept_invitation(%L)$$, :'token')) - 'headers', '{"code": "quota_exceeded", "status": 429}', 'there is no seat left'
);
-- A non-member learns that there is no seat, not how many members there are.
select tests.refusal(format($$select public.accept_invitation(%L)$$, :'token')) as refused \gset
select doesnt_match(:'refused'::jsonb ->> 'details', '[0-9]', 'the details name no number of members');
select doesnt_match(:'refused'::jsonb ->> 'headers', 'members', 'nor does a header');
select is(tests.role_of('late', tests.org('ada')), null, 'the caller does not become a member');
select is((tests.invitation('late@example.test')).status, 'pending', 'and the invitation stays open');
select tests.act_as_superuser();
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as('late');
select lives_ok(format($$select public.accept_invitation(%L)$$, :'token'), 'until there is one');

-- ---- bounds
select tests.act_as_superuser();
select tests.sign_up('busy');
insert into public.invitations (org_id, email, role, created_by) select tests.org('busy'), n || '@example.test', 'viewer', tests.id('busy') from generate_series(1, 99) as n;
insert into public.invitations (org_id, email, role, status, created_by) select tests.org('busy'), n || '@example.test', 'viewer', 'declined', tests.id('busy') from generate_series(1, 101) as n;
select tests.act_as('busy');
select lives_ok($$select public.invite_member('hundred@example.test', 'viewer')$$, 'a hundred may be open');
select tests.refuses($$select public.invite_member('one more@example.test', 'viewer')$$, 'invalid_input', 'what is refused uses nothing');
select tests.refuses($$select public.invite_member('one-more@example.test', 'viewer')$$, 'quota_exceeded', 'not one more');
select lives_ok($$select public.invite_member('hundred@example.test', 'viewer')$$, 'one of them may be made anew');
select is((select count(*) from public.invitations where status <> 'pending'), 100::bigint, 'what has ended is kept for a while');
select is(tests.invited(90), 'ok', 'a user makes many an hour');
select is(tests.invited(90), 'rate_limited', 'and not without end');
select tests.answer($$select public.invite_member('hundred@example.test', 'viewer')$$) as refused \gset
select is(:'refused'::jsonb ->> 'code' || ' ' || ((:'refused'::jsonb -> 'headers' ->> 'Retry-After')::integer between 1 and 3600), 'rate_limited true', 'the refusal says when to come back');

-- ---- whose organization goes
select tests.invite('ada', 'gone@example.test', 'viewer') as token \gset
select tests.act_as('ada');
select is(tests.changed($$delete from public.organizations where id = tests.org('ada')$$), 1::bigint, 'an organization goes');
select tests.act_as('bob');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'with its invitations');

select * from finish();
rollback;
