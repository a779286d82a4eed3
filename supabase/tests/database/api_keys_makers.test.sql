-- API keys after their makers were demoted, given another role, removed, banned or deleted.
begin;
\ir 000_helpers.sql
select plan(50);

select tests.sign_up(u) from unnest(array['ada', 'eve', 'adm', 'mem', 'boss', 'gone']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('boss', tests.org('ada'), 'owner'),
  tests.join_org('gone', tests.org('ada'), 'admin');
create table tests.keys (name text primary key, id uuid not null default gen_random_uuid());
grant select on tests.keys to public;
create function tests.key(name text) returns uuid language sql stable security definer as $$ select k.id from tests.keys as k where k.name = key.name $$;
create function tests.stored(name text) returns public.api_keys language sql stable security definer as $$ select k.* from public.api_keys as k where k.id = tests.key(stored.name) $$;
insert into tests.keys (name) select n from unnest(array['adm service', 'adm wild', 'adm personal', 'adm parent', 'child', 'mem personal', 'boss wild', 'gone service', 'nothing', 'rotated']) as n;
-- What a key may do now; "refused" if it is no caller.
create function tests.may(name text, variadic permissions text[]) returns text language sql as $$
  select tests.by_key(tests.key(may.name), format(
    'select coalesce(string_agg(p, '' '' order by n), ''-'') from unnest(%L::text[]) with ordinality as t (p, n) where public.can(tests.org(''ada''), p)', permissions
  ))
$$;
create function tests.set_role(who text, role text, custom uuid default null) returns void language sql security definer as $$
  update public.memberships as m set role = case when custom is null then set_role.role end, custom_role_id = custom
  where m.org_id = tests.org('ada') and m.user_id = tests.id(who)
$$;
create function tests.copied(name text) returns text language sql security definer as $$ select k.permissions::text from kijko.api_keys as k where k.id = tests.key(name) $$;

select tests.act_as('adm', tests.org('ada'));
insert into public.api_keys (id, name, kind, permissions) values
  (tests.key('adm service'), 'adm service', 'service', '["skills:read", "skills:write", "members:write"]'),
  (tests.key('adm wild'), 'adm wild', 'service', '["*:read", "*:write", "members:read"]'),
  (tests.key('adm personal'), 'adm personal', 'personal', '["*:read", "*:write", "members:write"]'),
  (tests.key('adm parent'), 'adm parent', 'service', '["api_keys:write", "skills:read", "skills:write"]'),
  (tests.key('rotated'), 'rotated', 'service', '["*:write"]'),
  (tests.key('nothing'), 'nothing', 'service', '["members:write"]');
select tests.act_as('mem', tests.org('ada'));
insert into public.api_keys (id, name, kind, permissions) values (tests.key('mem personal'), 'mem personal', 'personal', '["*:read"]');
select tests.act_as('boss', tests.org('ada'));
insert into public.api_keys (id, name, permissions) values (tests.key('boss wild'), 'boss wild', '["*:write", "billing:write"]');
select tests.act_as('gone', tests.org('ada'));
insert into public.api_keys (id, name, permissions) values (tests.key('gone service'), 'gone service', '["skills:read", "members:read"]');
select tests.act_as_key(tests.key('adm parent'));
insert into public.api_keys (id, name, permissions) values (tests.key('child'), 'child', '["skills:read", "skills:write"]');
select tests.act_as_superuser();

-- ---- a demotion counts from the next statement on, and a promotion gives back what the key names
select is(tests.may('adm service', 'skills:read', 'skills:write', 'members:write'), 'skills:read skills:write members:write', 'a key holds what it names');
select is(tests.may('adm wild', 'skills:write', 'repositories:write', 'members:read'), 'skills:write members:read', 'a wildcard is what its maker holds of it');
select tests.set_role('adm', 'viewer');
select is(tests.may('adm service', 'skills:read', 'skills:write', 'members:write'), 'skills:read', 'the maker is a viewer: the key reads');
select is(tests.may('adm personal', 'skills:read', 'skills:write', 'members:write'), 'skills:read', 'so does the personal key');
select is(tests.may('child', 'skills:read', 'skills:write'), 'skills:read', 'and the key that the maker''s key has made');
select is(tests.may('nothing', 'members:write'), '-', 'a key may be left with nothing');
select is((tests.stored('adm service')).permissions, '["skills:read", "skills:write", "members:write"]', 'what it names stays');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.rotate_api_key(%L)', tests.key('adm service')), 'not_found', 'the demoted maker cannot rotate it');
select is(tests.changed($$update public.api_keys set name = 'x'$$), 0::bigint, 'nor change their keys');
select tests.act_as_superuser();
select tests.set_role('adm', 'owner');
select is(tests.may('adm wild', 'skills:write', 'repositories:write'), 'skills:write repositories:write', 'the maker is an owner: a wildcard grows with them');
select is(tests.may('adm service', 'skills:write', 'billing:write'), 'skills:write', 'a list does not');

-- ---- rotation by another member
select tests.set_role('adm', 'admin');
select tests.act_as('ada', tests.org('ada'));
select public.rotate_api_key(tests.key('rotated'), '1 hour');
select is(tests.may('rotated', 'skills:write', 'repositories:write'), 'skills:write', 'who rotates the key of another does not widen it');
select is((tests.stored('rotated')).user_id, tests.id('ada'), 'and bounds it from then on');
select is((tests.stored('rotated')).permissions ? '*:write', false, 'its wildcard is what it held');
select tests.act_as_superuser();

-- ---- custom roles
insert into public.custom_roles (id, org_id, name, base_role, permissions)
values ('00000000-0000-4000-8000-00000000c001', tests.org('ada'), 'Writer', 'member', '{skills:write,habits:read}');
select tests.set_role('adm', null, '00000000-0000-4000-8000-00000000c001');
select is(tests.may('adm wild', 'skills:read', 'habits:read', 'skills:write', 'habits:write', 'members:read'), 'habits:read skills:write', 'a custom role bounds the key');
update public.custom_roles set permissions = '{*:read}' where id = '00000000-0000-4000-8000-00000000c001';
select is(tests.may('adm wild', 'skills:read', 'skills:write'), 'skills:read', 'and so does its change');
select is(tests.may('adm service', 'skills:read', 'skills:write', 'members:write'), 'skills:read', 'for a list, too');
select tests.set_role('adm', 'admin');

-- ---- keys made by keys
select tests.act_as('ada', tests.org('ada'));
update public.api_keys set permissions = '["api_keys:write", "skills:read"]' where name = 'adm parent';
select is((tests.stored('child')).permissions, '["skills:read"]', 'narrowing a key narrows the keys that it has made');
select tests.act_as_superuser();
select is(tests.copied('child'), '{skills:read}', 'also for the extension');
select is(tests.may('child', 'skills:read', 'skills:write'), 'skills:read', 'at once');
select tests.act_as('ada', tests.org('ada'));
select public.revoke_api_key(tests.key('adm parent'));
select is(tests.may('child', 'skills:read'), 'skills:read', 'revoking a key does not end those that it has made');
select tests.act_as('ada', tests.org('ada'));
update public.api_keys set permissions = '["api_keys:write"]' where name = 'adm parent';
select isnt((tests.stored('child')).revoked_at, null, 'a key that keeps nothing is revoked');
select is(tests.may('child', 'skills:read'), 'refused', 'and is no caller');

-- ---- a ban suspends the personal keys
select tests.act_as_superuser();
update auth.users set banned_until = kijko.now() + interval '1 day' where id = tests.id('mem');
select is(tests.may('mem personal', 'skills:read'), 'refused', 'the personal key of a banned user is no caller');
update auth.users set banned_until = null where id = tests.id('mem');
select is(tests.may('mem personal', 'skills:read'), 'skills:read', 'once the ban is lifted it is');
update auth.users set banned_until = kijko.now() + interval '1 day' where id in (tests.id('mem'), tests.id('adm'));
select is(tests.may('adm service', 'skills:read', 'members:write'), 'skills:read members:write', 'service keys go on');
select tests.travel('25 hours');
select is(tests.may('mem personal', 'skills:read'), 'skills:read', 'and personal ones once the ban has ended');
select tests.travel('0');
update auth.users set banned_until = null where id in (tests.id('mem'), tests.id('adm'));

-- ---- the membership ends
select tests.set_role('adm', 'member');
select tests.act_as('ada', tests.org('ada'));
delete from public.memberships where user_id = tests.id('adm') and org_id = tests.org('ada');
select is((tests.stored('adm personal')).id, null, 'the personal key of a removed member is gone');
select is(tests.may('adm personal', 'skills:read'), 'refused', 'and is no caller');
select is((tests.stored('adm service')).permissions, '["skills:read", "skills:write"]', 'a service key keeps what the member held last');
select is((tests.stored('adm service')).user_id, null, 'and nobody bounds it');
select is(tests.may('adm service', 'skills:read', 'skills:write', 'members:write'), 'skills:read skills:write', 'it goes on');
select is((tests.stored('adm wild')).permissions ? '*:write', false, 'a wildcard becomes the permissions that the member held');
select is(tests.may('adm wild', 'skills:read', 'skills:write', 'repositories:write', 'members:read'), 'skills:read skills:write members:read', 'no more and no less');
select isnt((tests.stored('nothing')).revoked_at, null, 'a key that keeps nothing is revoked');
select is((tests.stored('adm service')).created_by, tests.id('adm'), 'who made it stays known');
select tests.act_as_superuser();
select tests.join_org('adm', tests.org('ada'), 'owner');
select is(tests.may('adm wild', 'repositories:write'), '-', 'a later membership gives nothing back');
select is(tests.used(tests.org('ada'), 'api_keys'), (select count(*) from public.api_keys as k where k.org_id = tests.org('ada')), 'the gauge follows');

select tests.act_as('boss', tests.org('ada'));
select public.leave_organization(tests.org('ada'));
select is(tests.may('boss wild', 'repositories:write', 'billing:write', 'skills:write'), 'repositories:write billing:write skills:write', 'who leaves leaves service keys behind');
select tests.act_as_superuser();
delete from auth.users where id = tests.id('gone');
select is(tests.may('gone service', 'skills:read', 'members:read'), 'skills:read members:read', 'so does who is deleted');
select is(((tests.stored('gone service')).created_by, (tests.stored('gone service')).user_id)::text, '(,)', 'without a name');
update auth.users set deleted_at = now() where id = tests.id('mem');
select is((tests.stored('mem personal')).id, null, 'a soft deletion ends personal keys');

-- ---- a custom role with every permission and a low base role: its member's key manages nobody either
select tests.sign_up('low'), tests.join_org('low', tests.org('ada'), 'viewer');
insert into public.custom_roles (id, org_id, name, base_role, permissions)
values (tests.id('low role'), tests.org('ada'), 'All', 'viewer', array(select p.permission from private.permissions as p));
select tests.set_role('low', 'viewer', tests.id('low role'));
select tests.act_as('low', tests.org('ada'));
select (public.create_api_key('all', to_jsonb(array(select p.permission from public.permissions() as p)))).id as low \gset
select tests.act_as_superuser();
select is(
  tests.by_key(:'low', $$select string_agg(r, ' ') from unnest(array['viewer', 'member', 'admin', 'owner']) as r where public.has_role(tests.org('ada'), r)$$),
  'viewer', 'the key has its maker''s base role and no higher one'
);
select is(
  tests.by_key(:'low', $$with c as (update public.memberships set role = 'owner' where user_id = tests.id('low') returning 1) select count(*)::text from c$$),
  (select c.sqlstate from kijko.error_codes as c where c.code = 'permission_denied'), 'and raises nobody'
);
delete from public.memberships where user_id = tests.id('low') and org_id = tests.org('ada');
select is(
  tests.by_key(:'low', $$select public.has_role(tests.org('ada'), 'member')::text$$), 'false', 'nor once its maker has left'
);

-- ---- a key does not lengthen its own life
select tests.act_as('ada', tests.org('ada'));
select (public.create_api_key('short', '["api_keys:read", "api_keys:write"]', expires_at => kijko.now() + interval '1 minute')).id as short \gset
select tests.act_as_superuser();
select is(
  tests.by_key(:'short', format('with c as (update public.api_keys set expires_at = null where id = %L returning 1) select count(*)::text from c', :'short')),
  (select c.sqlstate from kijko.error_codes as c where c.code = 'permission_denied'), 'a key cannot change its expiry'
);
select is(
  tests.by_key(:'short', $$select (public.create_api_key('heir', '["api_keys:read"]')).name$$),
  (select c.sqlstate from kijko.error_codes as c where c.code = 'permission_denied'), 'nor make a key that outlives it'
);
select is(
  tests.by_key(:'short', $$select (public.create_api_key('heir', '["api_keys:read"]', expires_at => kijko.now() + interval '30 seconds')).name$$),
  'heir', 'it makes one that ends before'
);
select is(
  tests.by_key(:'short', $$select (public.create_api_key('twin', '["api_keys:read"]', expires_at => (select k.expires_at from public.api_keys as k where k.name = 'short'))).name$$),
  'twin', 'or with it'
);

-- ---- the owner of a personal organization
select tests.act_as('eve');
select (public.create_api_key('eve', '["*:read"]')).id as eve \gset
select tests.act_as_superuser();
delete from auth.users where id = tests.id('eve');
select is((select count(*) from kijko.api_keys as k where k.id = :'eve'), 0::bigint, 'the keys of a deleted personal organization are gone');

select * from finish();
rollback;
