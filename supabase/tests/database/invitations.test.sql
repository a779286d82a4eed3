begin;
\ir 000_helpers.sql
select plan(103);

-- The limit of an organization's mails is not the subject here.
update private.mail_settings set organization_per_hour = 1000000;
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
select throws_ok($$select public.invite_member('x@example.test', 'viewer')$$, '42501', null, 'anon cannot invite');
select throws_ok($$select public.accept_invitation('x')$$, '42501', null, 'anon cannot accept');
select throws_ok($$select public.decline_invitation('x')$$, '42501', null, 'anon cannot decline');
select throws_ok($$select public.revoke_invitation(gen_random_uuid())$$, '42501', null, 'anon cannot revoke');

select tests.invite('ada', 'Eve@Example.test', 'member') as token \gset
select (tests.invitation('eve@example.test')).id as invitation \gset
select tests.act_as('eve');
select is_empty('select 1 from public.invitations', 'the user with the invited address does not see the invitation');
select tests.refuses($$select public.accept_invitation('kji_' || repeat('0', 64))$$, 'not_found', 'an unknown token is not_found');
select tests.refuses($$select public.accept_invitation(null)$$, 'not_found', 'a null token is not_found');
select tests.refuses($$select public.accept_invitation('eve@example.test')$$, 'not_found', 'the address is not a token');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'invitation'), 'not_found', 'the id is not a token');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, :'invitation'), 'not_found', 'a non-member cannot revoke');
select tests.refuses($$select public.revoke_invitation(gen_random_uuid())$$, 'not_found', 'an invitation that does not exist gives the same refusal');
select tests.act_as('eve', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'not_a_member', 'a non-member cannot invite');
select throws_ok($$insert into public.invitations (org_id, email, role) values (tests.org('eve'), 'x@example.test', 'owner')$$, '42501', null, 'an owner cannot insert invitations');
select throws_ok($$update public.invitations set role = 'owner'$$, '42501', null, 'an owner cannot update invitations');
select throws_ok($$delete from public.invitations$$, '42501', null, 'an owner cannot delete invitations');
select throws_ok($$select * from private.invitation_tokens$$, '42501', null, 'an owner cannot read the hashes of tokens');
select tests.act('authenticated', '{"role": "authenticated"}', null);
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'not_identified', 'a token without a user cannot invite');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_identified', 'a token without a user cannot accept');

-- ---- who can invite, and for which role
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'permission_denied', 'a viewer cannot invite');
select is((select count(*) from public.invitations), 1::bigint, 'a viewer sees the invitations');
select hasnt_column('public', 'invitations', 'token', 'a viewer sees no token');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'viewer')$$, 'permission_denied', 'a member cannot invite');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, :'invitation'), 'permission_denied', 'a member cannot revoke an invitation');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'owner')$$, 'permission_denied', 'an admin cannot invite an owner');
select lives_ok($$select public.invite_member('x@example.test', 'admin')$$, 'an admin can invite an admin');
select tests.invite('ada', 'boss@example.test', 'owner') as boss \gset
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('boss@example.test', 'viewer')$$, 'permission_denied', 'an admin does not replace an owner''s invitation');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, (select id from public.invitations where email = 'boss@example.test')), 'permission_denied', 'an admin cannot revoke an owner''s invitation');

-- Both count: the order of the roles, and what they may.
select tests.act_as_superuser();
create table tests.held as select role, permission from private.role_permissions where role is not null;
delete from private.role_permissions as o
where o.role = 'owner' and not exists (select 1 from private.role_permissions as a where a.role = 'admin' and a.permission = o.permission);
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'owner')$$, 'permission_denied', 'an admin with every permission of an owner cannot invite an owner');
select tests.act_as_superuser();
insert into private.permissions (permission, description) values ('tea:make', 'Make tea');
insert into private.role_permissions (role, permission) values ('member', 'tea:make');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.invite_member('x@example.test', 'member')$$, 'permission_denied', 'an inviter cannot grant a permission that they lack');
select lives_ok($$select public.invite_member('x@example.test', 'viewer')$$, 'an inviter can grant a role whose permissions they hold');
select tests.act_as_superuser();
delete from private.role_permissions where role is not null;
insert into private.role_permissions (role, permission) table tests.held;

-- ---- invalid input
select tests.act_as('ada');
select tests.refuses(format($$select public.invite_member(%L, 'viewer')$$, address), 'invalid_input', format('%s is no address', to_json(address)))
from unnest(array[null, '', 'x', '@', 'a@', '@b', 'a b@c', 'a@b@c', e'a@b\n', e'a@b\t', e'a\u0001@b', repeat('x', 320) || '@y', repeat('x', 319) || '@y']) as address;
savepoint longest;
select lives_ok($$select public.invite_member(repeat('x', 318) || '@y', 'viewer')$$, 'an address of 320 characters is one');
rollback to longest;
select tests.refuses(format($$select public.invite_member('x@example.test', %L)$$, role), 'invalid_input', format('%s is no role', to_json(role)))
from unnest(array[null, '', 'emperor', 'OWNER']) as role;

-- ---- letters that Unicode folds to others name another mailbox
select is((public.invite_member(e'\u212Aelvin@Example.test', 'viewer')).email, e'\u212Aelvin@example.test', 'an address is lowered in ASCII alone');
select tests.act_as_superuser();
update private.invitation_settings set bind_to_address = true;
update auth.users set email = e'\u212Aat@example.test', email_confirmed_at = now() where id = tests.id('cat');
select is(private.invitations_is_addressed_to(row(i.*)::public.invitations, tests.id('cat')), false, 'nobody has an address that only folds to theirs')
from (select (jsonb_populate_record(null::public.invitations, '{"email": "kat@example.test"}')).*) as i;
update private.invitation_settings set bind_to_address = null;

-- ---- the token
select matches(:'token'::text, '^kji_[0-9a-f]{64}$', 'the token has its prefix and length');
select is((select i.email || ' ' || i.role || ' ' || i.status from public.invitations as i where i.id = :'invitation'), 'eve@example.test member pending', 'the address is kept in lower case');
select is((select i.expires_at - i.created_at from public.invitations as i where i.id = :'invitation'), interval '7 days', 'an invitation is open for a week');
select tests.act_as_superuser();
select is((select t.token_hash from private.invitation_tokens as t where t.invitation_id = :'invitation'), sha256(:'token'), 'the hash of the token is stored');
select is_empty(format($$select 1 from public.invitations as i where i::text ~ %L$$, :'token'), 'the token itself is not stored');

-- ---- accepting
select tests.act_as('bob');
select is((public.accept_invitation(:'token')).role, 'member', 'the user who holds the token can accept, whatever their address');
select is(tests.role_of('bob', tests.org('ada')), 'member', 'the user becomes a member');
select is((select m.created_by from public.memberships as m where m.user_id = tests.id('bob') and m.org_id = tests.org('ada')), tests.id('ada'), 'created_by of the membership is the inviter');
select is((public.accept_invitation(:'token')).role, 'member', 'the same user can accept again');
select is((select count(*) from public.memberships as m where m.user_id = tests.id('bob')), 2::bigint, 'accepting twice gives one membership');
select is((select i.status from public.invitations as i where i.id = :'invitation'), 'accepted', 'the invitation is accepted');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'another user cannot accept a used token');
select tests.refuses(format($$select public.decline_invitation(%L)$$, :'token'), 'not_found', 'another user cannot decline a used token');
select tests.act_as('adm');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'a member cannot accept a used token');
select tests.act_as('ada');
select tests.refuses(format($$select public.revoke_invitation(%L)$$, :'invitation'), 'conflict', 'an accepted invitation cannot be revoked');
select is(tests.changed($$delete from public.memberships where user_id = tests.id('bob') and org_id = tests.org('ada')$$), 1::bigint, 'the owner removes the member');
select tests.act_as('bob');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'a removed member cannot accept the used token');

-- ---- a member cannot accept for another user
select tests.invite('ada', 'cat@example.test', 'viewer') as token \gset
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'conflict', 'a member who accepts leaves the invitation open');
select tests.act_as('adm');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'conflict', 'accepting does not change the role of a member');
select tests.act_as('cat');
select lives_ok(format($$select public.accept_invitation(%L)$$, :'token'), 'the invitation is still open for another user');

-- ---- declined, revoked, expired, replaced
select tests.invite('ada', 'eve@example.test', 'viewer') as token \gset
select tests.act_as('eve');
select lives_ok(format($$select public.decline_invitation(%L)$$, :'token'), 'a user can decline');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'a declined invitation cannot be accepted');
select tests.invite('ada', 'eve@example.test', 'viewer') as token \gset
select is((public.revoke_invitation((tests.invitation('eve@example.test')).id)).status, 'revoked', 'an owner can revoke');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'a revoked invitation cannot be accepted');
select tests.invite('ada', 'eve@example.test', 'viewer') as token \gset
select tests.travel('7 days');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'an invitation expires after a week');
select tests.invite('ada', 'eve@example.test', 'admin') as token \gset
select tests.invite('adm', 'EVE@example.test', 'viewer') as newer \gset
select is((select count(*) from public.invitations where email = 'eve@example.test' and status = 'pending'), 1::bigint, 'an address has one pending invitation');
select is((tests.invitation('eve@example.test')).created_by, tests.id('adm'), 'a new invitation replaces the pending one');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'the replaced token is not_found');

-- ---- an inviter who has lost the right meanwhile
select tests.act_as('ada');
select is(tests.changed($$update public.memberships set role = 'member' where user_id = tests.id('adm') and org_id = tests.org('ada')$$), 1::bigint, 'the owner lowers the role of the inviter');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'newer'), 'permission_denied', 'the invitation fails while its inviter may not grant the role');
select tests.act_as('ada');
select is(tests.changed($$update public.memberships set role = 'admin' where user_id = tests.id('adm') and org_id = tests.org('ada')$$), 1::bigint, 'the owner restores the role of the inviter');
select tests.act_as_superuser();
update auth.users set banned_until = kijko.now() + interval '1 hour' where id = tests.id('adm');
select tests.act_as('eve');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'newer'), 'permission_denied', 'the invitation of a banned inviter fails');
select tests.act_as_superuser();
-- Until now, and so no longer.
update auth.users set banned_until = kijko.now() where id = tests.id('adm');
select tests.act_as('eve');
select lives_ok(format($$select public.accept_invitation(%L)$$, :'newer'), 'the invitation works again');
select is(tests.role_of('eve', tests.org('ada')), 'viewer', 'the new member has the role of the last invitation');
select tests.invite('adm', 'late@example.test', 'viewer') as token \gset
select tests.act_as_superuser();
delete from auth.users where id = tests.id('adm');
select tests.sign_up('late');
select tests.act_as('late');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'the invitation of a deleted inviter is revoked');

-- ---- a free seat
select tests.act_as_superuser();
update public.subscriptions set plan = 'FREE' where org_id = tests.org('ada');
select tests.invite('ada', 'late@example.test', 'viewer') as token \gset
select tests.act_as('late');
select is(
  tests.answer(format($$select public.accept_invitation(%L)$$, :'token')) - 'headers', '{"code": "quota_exceeded", "status": 429}', 'without a free seat accepting is quota_exceeded'
);
-- A non-member learns that there is no seat, not how many members there are.
select tests.refusal(format($$select public.accept_invitation(%L)$$, :'token')) as refused \gset
select doesnt_match(:'refused'::jsonb ->> 'details', '[0-9]', 'the details name no number of members');
select doesnt_match(:'refused'::jsonb ->> 'headers', 'members', 'a header names no number of members');
select is(tests.role_of('late', tests.org('ada')), null, 'the caller does not become a member');
select is((tests.invitation('late@example.test')).status, 'pending', 'without a free seat the invitation stays open');
select tests.act_as_superuser();
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as('late');
select lives_ok(format($$select public.accept_invitation(%L)$$, :'token'), 'with a free seat the user can accept');

-- ---- bounds
select tests.act_as_superuser();
select tests.sign_up('busy');
insert into public.invitations (org_id, email, role, created_by) select tests.org('busy'), n || '@example.test', 'viewer', tests.id('busy') from generate_series(1, 99) as n;
insert into public.invitations (org_id, email, role, status, created_by) select tests.org('busy'), n || '@example.test', 'viewer', 'declined', tests.id('busy') from generate_series(1, 101) as n;
select tests.act_as('busy');
select lives_ok($$select public.invite_member('hundred@example.test', 'viewer')$$, 'an organization can have 100 open invitations');
select tests.refuses($$select public.invite_member('one more@example.test', 'viewer')$$, 'invalid_input', 'a malformed address is refused');
select tests.refuses($$select public.invite_member('one-more@example.test', 'viewer')$$, 'quota_exceeded', 'the 101st is refused');
select lives_ok($$select public.invite_member('hundred@example.test', 'viewer')$$, 'an open invitation can be replaced at the limit');
select is((select count(*) from public.invitations where status <> 'pending'), 100::bigint, 'the last 100 ended invitations are kept');
select is(tests.invited(90), 'ok', 'a user can create 100 invitations an hour');
select is(tests.invited(90), 'rate_limited', 'more in an hour are refused');
select tests.answer($$select public.invite_member('hundred@example.test', 'viewer')$$) as refused \gset
select is(:'refused'::jsonb ->> 'code' || ' ' || ((:'refused'::jsonb -> 'headers' ->> 'Retry-After')::integer between 1 and 3600), 'rate_limited true', 'the refusal has Retry-After');

-- ---- of too many that ended the oldest goes, also when it is the one to send again
select tests.act_as_superuser();
select tests.sign_up('zoe');
insert into public.invitations (org_id, email, role, created_by, sent_by, expires_at, updated_at)
select tests.org('zoe'), n || '@example.test', 'viewer', tests.id('zoe'), tests.id('zoe'), kijko.now() - interval '1 hour', kijko.now() - n * interval '1 minute'
from generate_series(1, 101) as n;
select tests.act_as('zoe');
select tests.refuses(
  format('select public.resend_invitation(%L)', (select i.id from public.invitations as i where i.email = '101@example.test' and i.org_id = tests.org('zoe'))),
  'not_found', 'it is gone then'
);

-- ---- deletion of the organization
select tests.invite('ada', 'gone@example.test', 'viewer') as token \gset
select tests.act_as('ada');
select is(tests.changed($$delete from public.organizations where id = tests.org('ada')$$), 1::bigint, 'an owner deletes the organization');
select tests.act_as('bob');
select tests.refuses(format($$select public.accept_invitation(%L)$$, :'token'), 'not_found', 'its invitations are deleted with it');

select * from finish();
rollback;
