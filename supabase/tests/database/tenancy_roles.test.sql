-- Custom roles: who may define and assign them, and what their members may do.
begin;
\ir 000_helpers.sql

select plan(157);

select tests.sign_up('ada'), tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('vic'), tests.sign_up('cus'), tests.sign_up('eve');
select tests.act_as('ada');
select (public.create_organization('The Lab')).name \gset
select tests.act_as_superuser();
update public.subscriptions set plan = 'TEAMS' where org_id = tests.lab();
select tests.join_org(j.who, tests.lab(), j.role)
from (values ('adm', 'admin'), ('mem', 'member'), ('vic', 'viewer'), ('cus', 'member')) as j (who, role);

create function tests.add_role(name text, permissions text[], base text default 'viewer') returns uuid language sql as $$
  insert into public.custom_roles (org_id, name, base_role, permissions) values (tests.lab(), add_role.name, base, add_role.permissions) returning id
$$;
create function tests.membership(who text) returns public.memberships language sql stable security definer as $$
  select m.* from public.memberships as m where m.org_id = tests.lab() and m.user_id = tests.id(who)
$$;
-- What a member has, as "base role/custom role".
create function tests.role_of(who text) returns text language sql stable security definer as $$
  select m.role || coalesce('/' || r.name, '')
  from public.memberships as m left join public.custom_roles as r on r.id = m.custom_role_id
  where m.org_id = tests.lab() and m.user_id = tests.id(who)
$$;
create function tests.assign(who text, custom_role uuid) returns bigint language sql as $$
  select tests.changed(format('update public.memberships set custom_role_id = %L where id = %L', custom_role, (tests.membership(who)).id))
$$;
create function tests.assign_built_in(who text, role text) returns bigint language sql as $$
  select tests.changed(format('update public.memberships set role = %L where id = %L', role, (tests.membership(who)).id))
$$;

-- ---- unauthenticated callers and non-members first
select tests.add_role('Secret', '{skills:read}') as secret \gset
select tests.act_as_anon();
select throws_ok('select * from public.custom_roles', '42501', null, 'anon reads no roles');
select throws_ok($$insert into public.custom_roles (name) values ('x')$$, '42501', null, 'anon defines no role');
select throws_ok('select public.permissions()', '42501', null, 'anon does not read the catalogue');
select tests.act_as('eve');
select is_empty('select 1 from public.custom_roles', 'a non-member sees no role');
select throws_ok($$insert into public.custom_roles (org_id, name) values (tests.lab(), 'x')$$, '42501', null, 'a non-member defines no role');
select throws_ok($$insert into public.custom_roles (org_id, name) values (gen_random_uuid(), 'x')$$, '42501', null, 'an organization that does not exist gives the same refusal');
select is(tests.changed($$update public.custom_roles set permissions = '{}'$$), 0::bigint, 'a non-member changes no role');
select is(tests.changed('delete from public.custom_roles'), 0::bigint, 'a non-member deletes no role');
select is(tests.assign('vic', :'secret'), 0::bigint, 'a non-member assigns no role');
select tests.refuses(
  format('update public.memberships set custom_role_id = %L where user_id = tests.id(''eve'')', id), 'invalid_input', d
) from (values (:'secret'::uuid, 'a role of another organization cannot be assigned'), (gen_random_uuid(), 'a role that does not exist gives the same refusal')) as c (id, d);
select throws_ok('select * from private.permissions', '42501', null, 'users do not read the table of the catalogue');
select is((select count(*) from public.permissions()), (select 62::bigint), 'users read the catalogue by permissions()');

-- ---- the policy alone, without the triggers that ask the same
select tests.act_as_superuser();
alter table public.memberships disable trigger user;
select tests.act_as('adm', tests.lab());
select throws_ok(
  format('update public.memberships set role = ''owner'' where id = %L', (tests.membership('vic')).id), '42501', null, 'an admin makes no owner'
);
select is(tests.changed(format('update public.memberships set role = ''member'' where id = %L', (tests.membership('vic')).id)), 1::bigint, 'but a member');
select is(tests.changed(format('update public.memberships set role = ''viewer'' where id = %L', (tests.membership('vic')).id)), 1::bigint, 'and a viewer');
select tests.act_as_superuser();
alter table public.memberships enable trigger user;

-- ---- who defines roles
select tests.act_as('vic', tests.lab());
select is((select count(*) from public.custom_roles), 1::bigint, 'a viewer sees roles');
select throws_ok($$insert into public.custom_roles (name) values ('x')$$, '42501', null, 'a viewer defines no role');
select tests.act_as('mem', tests.lab());
select throws_ok($$insert into public.custom_roles (name, permissions) values ('x', '{skills:read}')$$, '42501', null, 'a member defines no role');
select is(tests.changed('delete from public.custom_roles'), 0::bigint, 'a member deletes no role');
select tests.act_as('adm', tests.lab());
select lives_ok($$insert into public.custom_roles (name, permissions) values ('Editor', '{content:write,skills:read,content:write}')$$, 'an admin defines a role');
select is((select permissions from public.custom_roles where name = 'Editor'), '{content:write,skills:read}'::text[], 'permissions are sorted, without repetitions');
select is((select base_role from public.custom_roles where name = 'Editor'), 'viewer', 'the base role is viewer by default');
select is((select created_by from public.custom_roles where name = 'Editor'), tests.id('adm'), 'created_by is the caller');

-- ---- invalid roles
select tests.refuses(format($$insert into public.custom_roles (name, permissions) values ('x', %L)$$, p), 'invalid_input', format('%s is refused', p))
from unnest(array['{tea:make}', '{NULL}', '{""}', '{*:execute}', '{*}', '{*:*}', '{skills:*}', '{SKILLS:read}', '{{skills:read},{tea:make}}']) as p;
select tests.act_as('ada', tests.lab());
select throws_ok(format($$insert into public.custom_roles (name, base_role) values ('x', %L)$$, b), '23514', null, format('%s is no base role', b))
from unnest(array['owner', 'emperor', '']) as b;
select throws_ok(format($$insert into public.custom_roles (name) values (%L)$$, n), '23514', null, format('%s is no name', to_json(n)))
from unnest(array['', ' ', e'a\nb', repeat('x', 101), 'owner', ' Admin ', 'MEMBER', 'viewer']) as n;
select throws_ok($$insert into public.custom_roles (name) values ('Editor')$$, '23505', null, 'a name is unique in the organization');
select tests.refuses($$update public.custom_roles set org_id = tests.org('adm') where name = 'Editor'$$, 'permission_denied', 'a role does not move to another organization');

-- ---- wildcards
select tests.act_as_superuser();
select is(array(select p.permission from private.tenancy_list_permissions('{*:read,*:write}') as p (permission)
    where split_part(p.permission, ':', 1) = any (array['api_keys', 'audit', 'billing', 'issuers', 'members', 'organization', 'privacy', 'roles', 'secrets'])), '{}'::text[],
  'wildcards never cover what manages access, money, evidence and secrets');
select is(private.tenancy_granted_by('content:read'), '{content:read,*:read}'::text[], 'a permission is granted by its name and its wildcard');
select is(private.tenancy_granted_by('members:read'), '{members:read}'::text[], 'one without a wildcard by its name alone');
select is(private.tenancy_granted_by('skills:execute'), '{skills:execute}'::text[], 'an action other than read and write by its name alone');
select is(private.tenancy_granted_by(p), '{}'::text[], format('%s: nothing grants it', to_json(p))) from unnest(array['tea:make', '*:read', '', null]) as p;
select bag_eq($$select p from private.tenancy_role_permissions('viewer', null) as p$$, $$select permission from private.role_permissions where role = 'viewer'$$, 'the permissions of a built-in role');
select is_empty($$select private.tenancy_role_permissions('emperor', null)$$, 'an unknown role holds nothing');
select is_empty($$select private.tenancy_role_permissions('owner', gen_random_uuid())$$, 'an unknown custom role holds nothing');

insert into public.custom_roles (org_id, name) values (tests.org('eve'), 'Theirs') returning id as theirs \gset
select is(private.tenancy_may_grant_role(tests.id('ada'), tests.lab(), c.role, c.custom_role), c.may, 'may_grant_role: ' || c.what)
from (values
  ('viewer', :'secret'::uuid, true, 'a custom role and its base role'), ('member', :'secret', false, 'another base role'),
  ('viewer', :'theirs', false, 'a role of another organization'), ('viewer', gen_random_uuid(), false, 'an unknown custom role'),
  ('emperor', null, false, 'an unknown role'), (null, null, false, 'no role')
) as c (role, custom_role, may, what);
select is(private.tenancy_may_grant_role(tests.id('eve'), tests.lab(), 'viewer'), false, 'may_grant_role: a non-member');

-- ---- nobody defines a role with a permission that they lack
select tests.act_as('adm', tests.lab());
select tests.refuses($$insert into public.custom_roles (name, permissions) values ('Boss', '{organization:delete}')$$, 'permission_denied', 'an admin does not define a role with a permission of owners');
select tests.refuses($$insert into public.custom_roles (name, permissions) values ('Boss', '{*:write}')$$, 'permission_denied', 'a wildcard counts as all that it covers');
select tests.refuses($$update public.custom_roles set permissions = permissions || '{billing:write}' where name = 'Editor'$$, 'permission_denied', 'an admin does not add a permission of owners');
select tests.act_as('ada', tests.lab());
select tests.add_role('Finance', '{billing:read,billing:write,organization:read}') as finance \gset
select tests.act_as('adm', tests.lab());
select tests.refuses(format($$update public.custom_roles set %s where name = 'Finance'$$, c), 'permission_denied', format('an admin does not change a role of owners: %s', c))
from unnest(array['permissions = ''{}''', 'name = ''Poor''', 'base_role = ''admin''', 'description = ''x''']) as c;
select tests.refuses($$delete from public.custom_roles where name = 'Finance'$$, 'permission_denied', 'an admin does not delete a role of owners');
select tests.refuses(format('select tests.assign(%L, %L)', who, :'finance'), 'permission_denied', format('an admin does not give it to %s', who))
from unnest(array['vic', 'adm']) as who;
select tests.act_as('ada', tests.lab());
select is(tests.assign('vic', :'finance'), 1::bigint, 'an owner gives it');

-- ---- what a member with a custom role may do: its permissions and no others
select tests.act_as_superuser();
select tests.add_role('Reader', '{projects:read,organization:read}', 'member') as reader \gset
insert into public.projects (org_id, name) values (tests.lab(), 'one');
select tests.skill(tests.lab()) as skill \gset
select tests.act_as('ada', tests.lab());
select is(tests.assign('cus', :'reader'), 1::bigint, 'an owner gives a custom role');
select tests.act_as('cus', tests.lab());
select is(tests.role_of('cus'), 'member/Reader', 'the role is the base role');
select is(public.org_id(), tests.lab(), 'the member works in the organization');
select is((select count(*) from public.projects), 1::bigint, 'with projects:read: projects');
select is((select count(*) from public.skills), 0::bigint, 'without skills:read: no skills');
select is_empty('select 1 from public.memberships where org_id = tests.lab()', 'without members:read: no members');
select is_empty('select 1 from public.custom_roles', 'without roles:read: no roles');
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'not_found', 'without skills:read a skill is not_found');
select is(public.has_role(tests.lab(), 'member') and not public.has_role(tests.lab(), 'admin'), true, 'has_role() answers by the base role');
select is(public.can(tests.lab(), 'projects:read') and not public.can(tests.lab(), 'projects:write'), true, 'can() answers by the permissions, not by the base role');
select throws_ok($$insert into public.projects (name) values ('two')$$, '42501', null, 'without projects:write: no insert');
select is(tests.changed('update public.projects set name = ''x'''), 0::bigint, 'and no update');
-- Changes count on the next statement.
select tests.act_as('ada', tests.lab());
update public.custom_roles set permissions = '{*:read,projects:write}' where name = 'Reader';
select tests.act_as('cus', tests.lab());
select is((select count(*) from public.skills), 1::bigint, 'the next statement counts *:read');
select is_empty('select 1 from public.memberships where org_id = tests.lab()', '*:read does not cover members:read');
select lives_ok($$insert into public.projects (name) values ('two')$$, 'and projects:write');
select tests.act_as('ada', tests.lab());
update public.custom_roles set permissions = '{skills:read}', base_role = 'admin' where name = 'Reader';
select tests.act_as('cus', tests.lab());
select is((select count(*) from public.projects), 0::bigint, 'and that a permission was taken away');
select is(tests.role_of('cus'), 'admin/Reader', 'a new base role is the role of its members');
select is(public.has_role(tests.lab(), 'admin'), true, 'and has_role() answers by it');
select is(public.can(tests.lab(), 'members:write'), false, 'a base role grants nothing');
select is(tests.changed($$update public.memberships set role = 'viewer' where org_id = tests.lab()$$), 0::bigint, 'so a member of base admin manages nobody');

-- A permission that is new in the catalogue.
select tests.act_as_superuser();
update public.custom_roles set permissions = '{*:read}' where name = 'Reader';
insert into private.permissions (permission, description) values ('tea:read', 'See tea'), ('tea:make', 'Make tea');
select tests.act_as('cus', tests.lab());
select is(public.can(tests.lab(), 'tea:read') and not public.can(tests.lab(), 'tea:make'), true, 'a wildcard covers permissions that come later');
select tests.act_as_superuser();
select bag_eq(
  $$select rp.permission from private.role_permissions as rp join public.custom_roles as r on r.id = rp.custom_role_id where r.name = 'Reader' and r.org_id = tests.lab()$$,
  $$select permission from private.permissions where wildcard = '*:read'$$, 'and nothing else, also after changes'
);

-- A private project.
select tests.act_as_superuser();
update public.custom_roles set permissions = '{projects:read}' where name = 'Reader';
select tests.act_as('ada', tests.lab());
insert into public.projects (name, visibility) values ('Hidden', 'private');
select tests.act_as('cus', tests.lab());
select is_empty($$select 1 from public.projects where name = 'Hidden'$$, 'without projects:manage: no private project');
select tests.act_as_superuser();
update public.custom_roles set permissions = '{projects:read,projects:manage}' where name = 'Reader';
select tests.act_as('cus', tests.lab());
select isnt_empty($$select 1 from public.projects where name = 'Hidden'$$, 'with projects:manage: private projects');

-- ---- role and custom_role_id
select tests.act_as('ada', tests.lab());
select is(tests.assign_built_in('cus', 'admin'), 1::bigint, 'a statement that names the role');
select is(tests.role_of('cus'), 'admin', 'ends the custom role, also if the base role is the same');
select is(tests.assign('cus', :'reader'), 1::bigint, 'and a custom role');
select is(tests.role_of('cus'), 'admin/Reader', 'comes back');
select is(tests.changed(format($$update public.memberships set role = 'viewer', custom_role_id = %L where id = %L$$, :'reader', (tests.membership('cus')).id)), 1::bigint, 'a statement that names both');
select is(tests.role_of('cus'), 'admin/Reader', 'gives the custom role');
select is(tests.assign('cus', null), 1::bigint, 'without a custom role');
select is(tests.role_of('cus'), 'admin', 'the base role is the built-in role');
select tests.refuses(format($$update public.memberships set custom_role_id = gen_random_uuid() where id = %L$$, (tests.membership('cus')).id), 'invalid_input', 'an unknown role is refused');
select is(tests.changed(format($$update public.memberships set role = 'member' where id = %L$$, (tests.membership('cus')).id)), 1::bigint, 'a built-in role');
select tests.act_as_service();
select lives_ok(format($$update public.memberships set custom_role_id = %L where id = %L$$, :'reader', (tests.membership('cus')).id), 'service_role gives a custom role');
select is(tests.changed(format($$update public.memberships set custom_role_id = %L, role = 'owner' where id = %L$$, :'reader', (tests.membership('cus')).id)), 1::bigint, 'and names owner beside it');
select is(tests.role_of('cus'), 'admin/Reader', 'an owner has no custom role: the base role counts');
select tests.act_as_superuser();
select tests.sign_up('new');
select tests.act_as_service();
insert into public.memberships (org_id, user_id, role, custom_role_id) values (tests.lab(), tests.id('new'), 'owner', :'finance');
select is(tests.role_of('new'), 'viewer/Finance', 'an inserted member has the base role, too');

-- ---- an owner's custom role ends with ownership, and an owner gets one only by ceasing to be one
select tests.act_as('ada', tests.lab());
select tests.refuses(format('select tests.assign(''ada'', %L)', :'reader'), 'conflict', 'the last owner cannot take a custom role');
select is(tests.assign_built_in('cus', 'owner'), 1::bigint, 'an owner makes a member with a custom role an owner');
select is(tests.role_of('cus'), 'owner', 'who has no custom role then');
select is(tests.assign('cus', :'reader'), 1::bigint, 'one of two owners can take one');

-- ---- nobody assigns a role with a permission that they lack, and nobody raises themselves
select tests.act_as_superuser();
select tests.add_role('Manager', '{members:read,members:write,roles:read,roles:write,skills:read}', 'member') as manager \gset
select tests.add_role('Narrow', '{skills:read}', 'member') as narrow \gset
select tests.add_role('High', '{skills:read}', 'admin') as high \gset
update public.memberships set custom_role_id = :'manager' where id = (tests.membership('cus')).id;
select tests.act_as('cus', tests.lab());
select is(tests.assign('mem', :'narrow'), 1::bigint, 'a manager gives a role whose permissions they hold');
select tests.refuses(format('select tests.assign_built_in(%L, %L)', c.who, c.role), 'permission_denied', format('but not %s to %s', c.role, c.who))
from (values ('mem', 'viewer'), ('mem', 'member'), ('mem', 'admin'), ('cus', 'viewer'), ('cus', 'admin')) as c (who, role);
select tests.refuses(format('select tests.assign(%L, %L)', who, :'reader'), 'permission_denied', format('nor a role with another permission to %s', who))
from unnest(array['mem', 'cus']) as who;
select tests.refuses(format('select tests.assign(''mem'', %L)', :'high'), 'permission_denied', 'nor a role whose base role is above their own');
select tests.refuses(format('select tests.assign(%L, null)', who), 'permission_denied', format('nor the built-in role instead of the custom one, to %s', who))
from unnest(array['mem', 'cus']) as who;
select is(tests.assign(who, :'narrow'), 0::bigint, format('a manager of base member does not change %s', who)) from unnest(array['adm', 'ada']) as who;
select is(tests.changed(format('delete from public.memberships where id = %L', (tests.membership(who)).id)), 0::bigint, format('nor remove %s', who)) from unnest(array['adm', 'ada']) as who;
select tests.refuses($$update public.custom_roles set permissions = permissions || '{projects:read}' where name = 'Manager'$$, 'permission_denied', 'a manager does not add to their own role what they lack');
select tests.refuses($$update public.custom_roles set base_role = 'admin' where name = 'Manager'$$, 'permission_denied', 'nor raise its base role');
select tests.refuses($$insert into public.custom_roles (name, permissions) values ('Mine', '{projects:read}')$$, 'permission_denied', 'nor define another role with it');
select tests.refuses($$insert into public.custom_roles (name, permissions) values ('Mine', '{*:read}')$$, 'permission_denied', 'nor by a wildcard');
select tests.refuses($$insert into public.custom_roles (name, base_role) values ('Mine', 'admin')$$, 'permission_denied', 'nor with a base role above their own');
select lives_ok($$insert into public.custom_roles (name, base_role, permissions) values ('Mine', 'member', '{skills:read,members:read}')$$, 'they define one within their own permissions');
select is(tests.changed($$update public.custom_roles set permissions = '{members:read,members:write,roles:read,roles:write}' where name = 'Manager'$$), 1::bigint, 'and may take permissions from their own role');
select tests.refuses($$update public.custom_roles set permissions = '{members:read,members:write,roles:read,roles:write,skills:read}' where name = 'Manager'$$, 'permission_denied', 'after which they lack these');
select tests.act_as('ada', tests.lab());
select is(tests.assign_built_in('mem', 'member'), 1::bigint, 'an owner gives the built-in role back');
select tests.act_as('cus', tests.lab());
select tests.refuses(format('select tests.assign(''mem'', %L)', :'narrow'), 'permission_denied', 'also to give it to others');

-- After a demotion: what somebody defined is no longer theirs to give.
select tests.act_as('adm', tests.lab());
select tests.add_role('Trap', '{members:read,members:write,roles:read,roles:write,api_keys:write}', 'admin') as trap \gset
select tests.act_as('ada', tests.lab());
select is(tests.assign('adm', :'manager'), 1::bigint, 'an owner demotes an admin to a custom role');
select tests.act_as('adm', tests.lab());
select tests.refuses(format('select tests.assign(%L, %L)', who, :'trap'), 'permission_denied', format('a demoted maker does not give the role to %s', who)) from unnest(array['adm', 'mem', 'vic']) as who;
select tests.refuses($$update public.custom_roles set name = 'x' where id = $$ || quote_literal(:'trap'), 'permission_denied', 'nor change it');
select tests.refuses($$delete from public.custom_roles where id = $$ || quote_literal(:'trap'), 'permission_denied', 'nor delete it');

-- ---- a role in use stays
select tests.act_as('ada', tests.lab());
select tests.refuses($$delete from public.custom_roles where name = 'Manager'$$, 'conflict', 'a role that members have cannot be deleted');
select matches(tests.refusal($$delete from public.custom_roles where name = 'Manager'$$) ->> 'details', '\m2\M', 'and the refusal says how many');
select lives_ok($$delete from public.custom_roles where name = 'Mine'$$, 'one that nobody has can be deleted');
select tests.act_as_service();
select tests.refuses($$delete from public.custom_roles where name = 'Manager'$$, 'conflict', 'also for service_role');

-- ---- bounds
select tests.act_as_superuser();
insert into public.custom_roles (org_id, name) select tests.lab(), 'r' || n from generate_series(1, 100 - (select count(*) from public.custom_roles where org_id = tests.lab())) as n;
select tests.act_as('ada', tests.lab());
select tests.refuses($$insert into public.custom_roles (name) values ('one more')$$, 'quota_exceeded', 'an organization has at most 100 roles');

-- ---- deletion of the user who defined it, and of the organization
select tests.act_as_superuser();
delete from auth.users where id = tests.id('adm');
select is((select r.created_by from public.custom_roles as r where r.id = :'trap'), null, 'a role outlives the user who defined it');
select tests.act_as('ada', tests.lab());
select is(tests.changed('delete from public.organizations where id = tests.lab()'), 1::bigint, 'an organization is deleted with the roles that its members have');
select tests.act_as_superuser();
select is_empty($$select 1 from public.custom_roles where id in ($$ || quote_literal(:'manager') || ', ' || quote_literal(:'trap') || ', ' || quote_literal(:'finance') || ')', 'no role is left');
select is_empty($$select 1 from private.role_permissions as rp where rp.custom_role_id is not null and rp.custom_role_id not in (select id from public.custom_roles)$$, 'and none of its permissions');

select * from finish();
rollback;
