-- Members by an issuer who leave and come back.
begin;
\ir 000_helpers.sql
select plan(10);

select tests.sign_up('ada'), tests.sign_up('sso'), tests.sign_up('bob');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('bob', tests.org('ada'), 'member');
select tests.act_as('ada', tests.org('ada'));
select (public.enroll_issuer('https://login.example.com/realms/one', '{kijko}', '{}', '{}', 'admin', owns_roles => false)).id as issuer \gset
insert into public.custom_roles (name, permissions, base_role) values ('Reader', '{projects:read}', 'member') returning id as reader \gset
select tests.act_as_superuser();
delete from public.organizations where personal_for = tests.id('sso');
select kijko.put_issuer_identity(:'issuer', 'a-subject', tests.id('sso'));
insert into public.memberships (org_id, user_id, role) values (tests.org('ada'), tests.id('sso'), 'admin');

create function tests.leave() returns void language plpgsql security definer as $$
begin
  delete from public.memberships where user_id = tests.id('sso');
end
$$;
-- The role with which a token that says admin comes in again.
create function tests.entry_role() returns text language sql security definer as $$
  select concat_ws(' ', coalesce(e.role, '-'), r.name)
  from private.issuers_entry_role(
    row((select i.id from kijko.issuers as i where i.org_id = tests.org('ada')), tests.org('ada'), 'a-subject', tests.id('sso'), 'admin', null)::kijko.issuer_identity,
    tests.id('sso')
  ) as e left join public.custom_roles as r on r.id = e.custom_role_id
$$;
create function tests.back(role text, custom uuid default null) returns void language sql security definer as $$
  insert into public.memberships (org_id, user_id, role, custom_role_id) values (tests.org('ada'), tests.id('sso'), back.role, back.custom)
$$;

update public.memberships set role = 'viewer' where user_id = tests.id('sso');
select tests.leave();
select is(tests.entry_role(), 'viewer', 'leaving does not undo a demotion');
select is(tests.entry_role(), 'admin', 'what was taken up is gone');
select tests.back('viewer', :'reader');
select tests.leave();
select is(tests.entry_role(), '- Reader', 'nor the end of a custom role');
select tests.back('viewer', :'reader');
select tests.leave();
delete from public.custom_roles where id = :'reader';
select is(tests.entry_role(), 'viewer', 'one that is gone leaves the least');
select tests.back('owner');
select tests.leave();
select is(tests.entry_role(), 'admin', 'ownership is not given by coming back');
select tests.back('viewer');
select tests.leave();
update kijko.issuers set owns_roles = true where id = :'issuer';
select is(tests.entry_role(), 'admin', 'the token decides, where the issuer owns roles');
update kijko.issuers set owns_roles = false where id = :'issuer';
delete from public.memberships where user_id = tests.id('bob') and org_id = tests.org('ada');
select is((select count(*) from private.issuer_departures), 0::bigint, 'nothing is kept of users of our login');
select tests.back('viewer');
delete from auth.users where id = tests.id('sso');
select is((select count(*) from private.issuer_departures), 0::bigint, 'nor of deleted users');
select tests.act_as_anon();
select throws_ok('select * from private.issuer_departures', '42501', null, 'anon reads none');
select tests.act_as('ada', tests.org('ada'));
select throws_ok('select * from private.issuer_departures', '42501', null, 'nor does an owner');

select * from finish();
rollback;
