-- Sending an invitation again, invitations with a custom role, and those bound to an address.
begin;
\ir 000_helpers.sql
select plan(58);

-- The limit of an organization's mails is not the subject here.
update private.mail_settings set organization_per_hour = 1000000;
select tests.sign_up(who) from unnest(array['ada', 'adm', 'mem', 'vic', 'eve', 'bob', 'cat']) as who;
update public.subscriptions set plan = 'ENTERPRISE' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');

create function tests.invite(who text, email text, role text, custom_role_id uuid default null) returns public.issued_invitation language plpgsql as $$
begin
  perform tests.act_as(who, tests.org('ada'));
  return public.invite_member(email, role, custom_role_id);
end
$$;
create function tests.invitation(id uuid) returns public.invitations language sql stable security definer as $$
  select i.* from public.invitations as i where i.id = invitation.id
$$;
create function tests.role_of(who text) returns text language sql stable security definer as $$
  select m.role || coalesce('/' || r.name, '')
  from public.memberships as m left join public.custom_roles as r on r.id = m.custom_role_id
  where m.org_id = tests.org('ada') and m.user_id = tests.id(who)
$$;

-- ---- unauthenticated callers and non-members first
select (i).id as id, (i).token as token from tests.invite('ada', 'bob@example.test', 'viewer') as i \gset
select tests.act_as_anon();
select throws_ok(format('select public.resend_invitation(%L)', :'id'), '42501', null, 'anon cannot send again');
select tests.act_as('eve');
select tests.refuses(format('select public.resend_invitation(%L)', id), 'not_found', d)
from (values (:'id'::uuid, 'a non-member cannot send again'), (gen_random_uuid(), 'an unknown id gives the same refusal'), (null, 'and so does null')) as c (id, d);
select throws_ok('select * from private.invitation_settings', '42501', null, 'users do not read the settings');
select tests.act('authenticated', '{"role": "authenticated"}', null);
select tests.refuses(format('select public.resend_invitation(%L)', :'id'), 'not_identified', 'a token without a user cannot send again');
select tests.act('authenticated', tests.token('service_role'), null);
select tests.refuses(format('select public.resend_invitation(%L)', :'id'), 'permission_denied', 'nor can a key');

-- ---- sending again
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.resend_invitation(%L)', :'id'), 'permission_denied', 'a viewer cannot send again');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.resend_invitation(%L)', :'id'), 'permission_denied', 'a member cannot send again');
select (i).id as boss from tests.invite('ada', 'boss@example.test', 'owner') as i \gset
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.resend_invitation(%L)', :'boss'), 'permission_denied', 'an admin does not send an owner''s invitation again');
select tests.travel('6 days');
select tests.act_as('adm', tests.org('ada'));
select (i).token as second, (i).expires_at as expires_at, (i).email as email, (i).role as role, (i).id as same from public.resend_invitation(:'id') as i \gset
select is(row(:'same'::uuid, :'email'::text, :'role'::text), row(:'id'::uuid, 'bob@example.test'::text, 'viewer'::text), 'it is the same invitation');
select is(:'expires_at'::timestamptz, kijko.now() + interval '7 days', 'with the full time');
select isnt(:'second'::text, :'token'::text, 'and a new token');
select is((tests.invitation(:'id')).created_by, tests.id('ada'), 'created_by stays');
select is((tests.invitation(:'id')).sent_by, tests.id('adm'), 'sent_by is who sent it last');
select is((tests.invitation(:'id')).sent_at, kijko.now(), 'and sent_at when');
select tests.act_as('bob');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'not_found', 'the earlier token is not_found');
select tests.refuses(format('select public.decline_invitation(%L)', :'token'), 'not_found', 'for declining, too');
-- It rests on the rights of who sent it last.
select tests.act_as('ada', tests.org('ada'));
update public.memberships set role = 'member' where user_id = tests.id('adm') and org_id = tests.org('ada');
select tests.act_as('bob');
select tests.refuses(format('select public.accept_invitation(%L)', :'second'), 'permission_denied', 'who sent it last may not grant the role any more');
select tests.act_as('ada', tests.org('ada'));
select (i).token as third from public.resend_invitation(:'id') as i \gset
select tests.act_as('bob');
select is((public.accept_invitation(:'third')).created_by, tests.id('ada'), 'sent by another manager, it can be accepted');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.resend_invitation(%L)', :'id'), 'conflict', 'an accepted invitation is not sent again');
update public.memberships set role = 'admin' where user_id = tests.id('adm') and org_id = tests.org('ada');
select (i).id as id from tests.invite('ada', 'gone@example.test', 'viewer') as i \gset
select (public.revoke_invitation(:'id')).status;
select tests.refuses(format('select public.resend_invitation(%L)', :'id'), 'conflict', 'nor is a revoked one');
select (i).id as id, (i).token as token from tests.invite('ada', 'late@example.test', 'viewer') as i \gset
select tests.travel('20 days');
select tests.act_as('cat');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'not_found', 'an expired invitation cannot be accepted');
select tests.act_as('ada', tests.org('ada'));
select (i).token as token from public.resend_invitation(:'id') as i \gset
select tests.act_as('cat');
select lives_ok(format('select public.decline_invitation(%L)', :'token'), 'sent again, it can be answered');
select tests.act_as_superuser();
select tests.travel('0');

-- ---- custom roles
select tests.act_as('ada', tests.org('ada'));
insert into public.custom_roles (name, base_role, permissions) values ('Finance', 'viewer', '{billing:write}') returning id as finance \gset
insert into public.custom_roles (name, base_role, permissions) values ('Editor', 'member', '{skills:read,skills:write}') returning id as editor \gset
select tests.refuses(format('select tests.invite(''ada'', ''x@example.test'', ''member'', %L)', id), 'invalid_input', 'an unknown custom role is refused') from (values (gen_random_uuid())) as c (id);
select tests.act_as_superuser();
insert into public.custom_roles (org_id, name) values (tests.org('eve'), 'Theirs') returning id as theirs \gset
select tests.refuses(format('select tests.invite(''ada'', ''x@example.test'', ''member'', %L)', :'theirs'), 'invalid_input', 'so is one of another organization');
select tests.refuses(format('select tests.invite(''adm'', ''x@example.test'', ''viewer'', %L)', :'finance'), 'permission_denied', 'nobody invites with a role with a permission that they lack');
select (i).token as token, (i).id as id, (i).role || ' ' || ((i).custom_role_id = :'editor')::text as said from tests.invite('adm', 'eve@example.test', 'admin', :'editor') as i \gset
select is(:'said'::text, 'member true', 'a custom role counts instead of the role');
select is((tests.invitation(:'id')).custom_role_id, :'editor'::uuid, 'and is in the list');
select tests.refuses(format($$select tests.invite('mem', 'y@example.test', 'viewer', %L)$$, :'editor'), 'permission_denied', 'a member invites nobody');
-- The role is edited while the invitation is open: its inviter must hold what it holds now.
select tests.act_as('ada', tests.org('ada'));
update public.custom_roles set permissions = '{skills:read,billing:write}' where id = :'editor';
select tests.act_as('eve');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'permission_denied', 'the inviter lacks a permission that the role got meanwhile');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.resend_invitation(%L)', :'id'), 'permission_denied', 'and so cannot send it again');
select tests.refuses($$select public.invite_member('eve@example.test', 'viewer')$$, 'permission_denied', 'nor replace it');
select tests.refuses(format('select public.revoke_invitation(%L)', :'id'), 'permission_denied', 'nor revoke it');
select tests.act_as('ada', tests.org('ada'));
update public.custom_roles set permissions = '{skills:read}', base_role = 'viewer' where id = :'editor';
select is((tests.invitation(:'id')).role, 'viewer', 'a new base role is that of its invitations');
-- Deleted while the invitation is open.
select tests.refuses($$delete from public.custom_roles where name = 'Editor'$$, 'conflict', 'a role that an open invitation names cannot be deleted');
select tests.act_as('eve');
select is((public.accept_invitation(:'token')).custom_role_id, :'editor'::uuid, 'accepted, the invitation gives the custom role');
select is(tests.role_of('eve'), 'viewer/Editor', 'with its base role');
select is(public.can(tests.org('ada'), 'skills:read') and not public.can(tests.org('ada'), 'projects:read'), true, 'and its permissions');
select tests.act_as('ada', tests.org('ada'));
update public.memberships set role = 'viewer' where user_id = tests.id('eve') and org_id = tests.org('ada');
select (i).id as expired from tests.invite('ada', 'slow@example.test', 'viewer', :'editor') as i \gset
select tests.travel('8 days');
select tests.act_as('ada', tests.org('ada'));
select is(tests.changed($$delete from public.custom_roles where name = 'Editor'$$), 1::bigint, 'one that only an expired and an accepted invitation name can be deleted');
select is((tests.invitation(:'expired')).status, 'revoked', 'the expired one cannot be sent again');
select is(row((tests.invitation(:'id')).status, (tests.invitation(:'id')).role, (tests.invitation(:'id')).custom_role_id), row('accepted'::text, 'viewer'::text, null::uuid), 'the accepted one keeps the base role');
select tests.act_as_superuser();
select tests.travel('0');

-- ---- bound to an address, where login confirms addresses
select (i).token as token from tests.invite('ada', 'Vera@Example.test', 'viewer') as i \gset
select tests.act_as_superuser();
update private.invitation_settings set bind_to_address = null;
update auth_api.settings set mailer_autoconfirm = false;
select tests.sign_up(who) from unnest(array['vera', 'thief']) as who;
select tests.act_as('thief');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'permission_denied', 'a user with another address cannot accept');
select tests.act_as_superuser();
update auth.users set email_confirmed_at = null where id = tests.id('vera');
select tests.act_as('vera');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'permission_denied', 'nor one whose address nobody confirmed');
select is(tests.role_of('vera'), null, 'who is no member');
select tests.act_as_superuser();
update auth.users set email_confirmed_at = kijko.now(), is_anonymous = true where id = tests.id('vera');
select tests.act_as('vera');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'permission_denied', 'nor an anonymous one');
select tests.act_as_superuser();
update auth.users set is_anonymous = false, email = 'VERA@example.test' where id = tests.id('vera');
select tests.act_as('vera');
select lives_ok(format('select public.accept_invitation(%L)', :'token'), 'the user with the confirmed address can');
select tests.act_as('thief');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'not_found', 'and then the token is used');
select (i).token as token from tests.invite('ada', 'nobody@example.test', 'viewer') as i \gset
select tests.act_as('thief');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'permission_denied', 'the settings of login decide');
select tests.act_as_superuser();
update private.invitation_settings set bind_to_address = false;
select tests.act_as('thief');
select lives_ok(format('select public.accept_invitation(%L)', :'token'), 'unless the operator says that invitations are not bound');
select tests.act_as_superuser();
update auth_api.settings set mailer_autoconfirm = true;
update private.invitation_settings set bind_to_address = true;
select tests.sign_up('other');
select (i).token as token from tests.invite('ada', 'nobody@example.test', 'viewer') as i \gset
select tests.act_as('other');
select tests.refuses(format('select public.accept_invitation(%L)', :'token'), 'permission_denied', 'or that they are');
select tests.act_as_superuser();
update private.invitation_settings set bind_to_address = null;
select tests.act_as('other');
select lives_ok(format('select public.accept_invitation(%L)', :'token'), 'where login takes every address for confirmed, any user with the token may accept');
select tests.act_as_superuser();

-- ---- limits
create function tests.send(id uuid, times integer) returns text language plpgsql as $$
begin
  for n in 1..times loop
    perform public.resend_invitation(send.id);
  end loop;
  return 'ok';
exception when sqlstate 'KJ430' then
  return 'rate_limited';
end
$$;
select tests.sign_up('u' || n), tests.join_org('u' || n, tests.org('ada'), 'admin') from generate_series(1, 4) as n;
select (i).id as id from tests.invite('u1', 'often@example.test', 'viewer') as i \gset
select is(tests.send(:'id', 100), 'rate_limited', 'a user sends 100 invitations an hour, in all');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from generate_series(1, 50) where tests.refusal(format('select public.resend_invitation(%L)', :'id')) ->> 'code' = 'permission_denied'), 50::bigint, 'what is refused');
select tests.act_as('u2', tests.org('ada'));
select is(tests.send(:'id', 99), 'ok', 'does not count against the organization');
select tests.act_as('u3', tests.org('ada'));
select is(tests.send(:'id', 99), 'rate_limited', 'an organization sends 300 an hour, in all');
select tests.act_as('u4', tests.org('ada'));
select tests.answer(format('select public.resend_invitation(%L)', :'id')) as refused \gset
select is(:'refused'::jsonb ->> 'code' || ' ' || ((:'refused'::jsonb -> 'headers' ->> 'Retry-After')::integer between 1 and 3600), 'rate_limited true', 'the refusal has Retry-After');
select tests.refuses($$select public.invite_member('more@example.test', 'viewer')$$, 'rate_limited', 'also for new ones');

select * from finish();
rollback;
