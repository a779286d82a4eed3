-- An organization keeps an owner who can sign in. Banned and deleted owners do not count.
begin;
\ir 000_helpers.sql
select plan(35);

select tests.sign_up(who) from unnest(array['ada', 'bob', 'adm', 'mem', 'vic']) as who;

-- The Lab, anew: owned by ada and bob, with an admin, a member and a viewer.
create function tests.new_lab() returns void language plpgsql security definer as $$
begin
  delete from public.organizations where name = 'The Lab';
  insert into public.organizations (name) values ('The Lab');
  update public.subscriptions set plan = 'TEAMS' where org_id = tests.lab();
  perform tests.join_org(j.who, tests.lab(), j.role)
  from (values ('ada', 'owner'), ('bob', 'owner'), ('adm', 'admin'), ('mem', 'member'), ('vic', 'viewer')) as j (who, role)
  where exists (select 1 from auth.users as u where u.id = tests.id(j.who));
end
$$;
create function tests.ban(who text, until timestamptz) returns void language sql security definer as $$
  update auth.users set banned_until = ban.until where id = tests.id(who)
$$;
create function tests.owners() returns text language sql stable security definer as $$
  select coalesce(string_agg(split_part(u.email, '@', 1), ' ' order by u.email), '')
  from public.memberships as m join auth.users as u on u.id = m.user_id
  where m.org_id = tests.lab() and m.role = 'owner'
$$;
create function tests.membership_of(who text) returns uuid language sql stable security definer as $$
  select m.id from public.memberships as m where m.org_id = tests.lab() and m.user_id = tests.id(who)
$$;

-- ---- the other owner is banned
select tests.new_lab();
select tests.ban('bob', kijko.now() + interval '1 day');
select tests.act_as('ada', tests.lab());
select tests.refuses('select public.leave_organization(tests.lab())', 'conflict', 'an owner cannot leave a banned one behind');
select tests.refuses($$delete from public.memberships where id = tests.membership_of('ada')$$, 'conflict', 'nor delete their membership');
select tests.refuses($$update public.memberships set role = 'admin' where id = tests.membership_of('ada')$$, 'conflict', 'nor lower their role');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('bob'))$$, 'conflict', 'nor hand over to the banned owner');
select is(tests.changed($$delete from public.memberships where id = tests.membership_of('bob')$$), 1::bigint, 'the banned owner can be removed');

select tests.act_as_superuser();
select tests.new_lab();
select tests.act_as('ada', tests.lab());
select tests.travel('1 day');
select lives_ok('select public.leave_organization(tests.lab())', 'once the ban has ended, the other owner can leave');
select tests.act_as_superuser();
select tests.travel('0');
select tests.ban('bob', null);

-- ---- a member who is banned
select tests.new_lab();
select tests.ban('mem', 'infinity');
select tests.act_as('ada', tests.lab());
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('mem'))$$, 'conflict', 'ownership cannot be handed to a banned member');
select is(tests.owners(), 'ada bob', 'the refusal changes nothing');
select is(tests.changed($$update public.memberships set role = 'owner' where id = tests.membership_of('mem')$$), 1::bigint, 'a banned member can be made another owner');
select lives_ok($$select public.transfer_ownership(tests.lab(), tests.id('adm'))$$, 'an owner can hand over to a member who can sign in');
select is(tests.owners(), 'adm bob mem', 'the former owner is none any more');
select tests.act_as_superuser();
select tests.ban('mem', null);

-- ---- an anonymous user
select tests.new_lab();
update auth.users set is_anonymous = true where id = any (array[tests.id('bob'), tests.id('mem')]);
select tests.act_as('ada', tests.lab());
select tests.refuses('select public.leave_organization(tests.lab())', 'conflict', 'an owner cannot leave an anonymous one behind');
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('mem'))$$, 'conflict', 'nor hand over to an anonymous member');
select tests.act_as_superuser();
update auth.users set is_anonymous = false where id = any (array[tests.id('bob'), tests.id('mem')]);
select tests.act_as('ada', tests.lab());
select lives_ok('select public.leave_organization(tests.lab())', 'once the other owner is permanent, an owner can leave');
select tests.act_as_superuser();

-- ---- a ban is the operator's decision: it changes no ownership, also of the last owner
select tests.new_lab();
delete from public.memberships where id = tests.membership_of('bob');
select tests.ban('ada', 'infinity');
select is(tests.owners(), 'ada', 'the banned last owner stays the owner');
select tests.act_as('adm', tests.lab());
select is(tests.changed($$delete from public.memberships where id = tests.membership_of('ada')$$), 0::bigint, 'an admin does not remove them');
select tests.refuses($$update public.memberships set role = 'owner' where id = tests.membership_of('adm')$$, 'permission_denied', 'nor take their place');
select tests.act_as_service();
select tests.refuses($$delete from public.memberships where id = tests.membership_of('ada')$$, 'conflict', 'the back office cannot leave the organization without an owner');
select is(tests.changed($$update public.memberships set role = 'owner' where id = tests.membership_of('adm')$$), 1::bigint, 'it can make another member an owner');
select is(tests.changed($$delete from public.memberships where id = tests.membership_of('ada')$$), 1::bigint, 'and remove the banned one then');
select tests.act_as_superuser();
select tests.new_lab();
select tests.ban('bob', 'infinity');
select is(tests.changed($$delete from public.memberships where id = tests.membership_of('ada')$$), 1::bigint, 'where no owner can sign in, one of them can go');
select tests.refuses($$delete from public.memberships where id = tests.membership_of('bob')$$, 'conflict', 'but not the last one');
select tests.ban(who, null) from unnest(array['ada', 'bob']) as who;

-- ---- the deletion of an owner
select tests.new_lab();
select tests.ban('bob', 'infinity');
savepoint deletion;
delete from auth.users where id = tests.id('ada');
select is(tests.owners(), 'adm bob', 'when the other owner is banned, the highest member becomes an owner, too');
rollback to deletion;
update auth.users set deleted_at = kijko.now(), email = 'gone' where id = tests.id('ada');
select is(tests.owners(), 'adm bob', 'also after a soft deletion');
rollback to deletion;
select tests.ban('adm', 'infinity');
delete from auth.users where id = tests.id('ada');
select is(tests.owners(), 'bob mem', 'a banned admin is passed over');
rollback to deletion;
select tests.ban(who, 'infinity') from unnest(array['adm', 'mem', 'vic']) as who;
delete from auth.users where id = tests.id('ada');
select is(tests.owners(), 'bob', 'when all members are banned, the banned owner remains');
delete from auth.users where id = tests.id('bob');
select is(tests.owners(), 'adm', 'and then the highest member becomes the owner');
rollback to deletion;
select tests.ban('bob', null);
delete from auth.users where id = tests.id('ada');
select is(tests.owners(), 'bob', 'an owner who can sign in remains alone');
delete from auth.users where id = tests.id('bob');
select is(tests.owners(), 'adm', 'after the last one, the highest member becomes the owner');
delete from auth.users where id = any (array(select tests.id(who) from unnest(array['adm', 'mem', 'vic']) as who));
select is(tests.lab(), null, 'an organization whose members are all deleted is deleted');
rollback to deletion;

-- ---- a successor with a custom role
select tests.ban('bob', null);
delete from public.memberships where id = tests.membership_of('bob');
insert into public.custom_roles (org_id, name, base_role, permissions) values (tests.lab(), 'Narrow', 'admin', '{skills:read}') returning id as narrow \gset
update public.memberships set custom_role_id = :'narrow' where id = tests.membership_of('adm');
delete from auth.users where id = tests.id('ada');
select is(tests.owners(), 'adm', 'a successor who has a custom role becomes the owner');
select tests.act_as('adm', tests.lab());
select is(public.can(tests.lab(), 'organization:delete'), true, 'and holds what owners hold');
select tests.act_as_superuser();
rollback to deletion;

-- ---- what a non-member and a lower role cannot
select tests.act_as('vic', tests.org('vic'));
select tests.refuses('select public.transfer_ownership(tests.org(''bob''), tests.id(''vic''))', 'not_a_member', 'a non-member cannot hand over');
select tests.act_as('adm', tests.lab());
select tests.refuses($$select public.transfer_ownership(tests.lab(), tests.id('adm'))$$, 'permission_denied', 'an admin cannot hand over');
select is(tests.changed($$update public.memberships set role = 'viewer' where id = tests.membership_of('ada')$$), 0::bigint, 'nor demote an owner');

select * from finish();
rollback;
