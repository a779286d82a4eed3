-- explain_access(): who may ask, what it answers, and that it leaves the caller and the data alone.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest(array['ada', 'bob', 'adm', 'mem', 'vic', 'aud', 'cus']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'),
  tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('aud', tests.org('ada'), 'viewer'), tests.join_org('cus', tests.org('ada'), 'viewer');

select tests.act_as('ada', tests.org('ada'));
insert into public.projects (name) values ('Shared value') returning id as shared \gset
insert into public.projects (name, visibility) values ('Hidden value', 'private') returning id as hidden \gset
insert into public.skills (name, prompt_template, project_id) values ('Secret', 'Say', :'hidden') returning id as skill \gset
insert into public.custom_roles (name, permissions) values ('Auditor', '{audit:read,organization:read}') returning id as auditor \gset
insert into public.custom_roles (name, permissions) values ('Writer', '{*:read,projects:write}') returning id as writer \gset
update public.memberships set custom_role_id = :'auditor' where user_id = tests.id('aud');
update public.memberships set custom_role_id = :'writer' where user_id = tests.id('cus');
select id as reads from public.create_api_key('reads', '["*:read"]') \gset
select id as writes from public.create_api_key('writes', '["*:read", "*:write"]') \gset
select id as audits from public.create_api_key('audits', '["audit:read", "members:read", "api_keys:read", "projects:read"]') \gset
select id as audits_only from public.create_api_key('audits only', '["audit:read"]') \gset
select tests.act_as('mem', tests.org('ada'));
select id as personal from public.create_api_key('personal', '["*:read", "projects:write", "skills:write"]', 'personal') \gset
select tests.act_as('bob');
select id as foreign_key from public.create_api_key('foreign', '["*:read"]') \gset
insert into public.projects (name) values ('Foreign value') returning id as foreign_project \gset
select tests.act_as_superuser();
select m.id as owner_membership from public.memberships as m where m.org_id = tests.org('ada') and m.user_id = tests.id('ada') \gset
select m.id as vic_membership from public.memberships as m where m.org_id = tests.org('ada') and m.user_id = tests.id('vic') \gset

-- The answer, and its reasons as one text: "permission_missing projects_update projects:write".
create function tests.why(subject uuid, relation text, operation text, row_id uuid default null) returns text language sql as $$
  select format('%s%s', coalesce(e.answer ->> 'allowed', 'null'), coalesce((
    select ': ' || string_agg(concat_ws(' ', r.reason ->> 'code', r.reason ->> 'policy', r.reason ->> 'permission'), ', ' order by r.place)
    from jsonb_array_elements(e.answer -> 'reasons') with ordinality as r (reason, place)
  ), ''))
  from public.explain_access(subject, relation, operation, row_id) as e (answer)
$$;
create function tests.permission_of(answer jsonb, permission text) returns jsonb language sql as $$
  select p.permission
  from jsonb_array_elements(answer -> 'policies') as l (policy)
  cross join lateral jsonb_array_elements(l.policy -> 'permissions') as p (permission)
  where p.permission ->> 'permission' = permission_of.permission
  limit 1
$$;

-- ---- unauthenticated callers and non-members learn nothing
select tests.act_as_anon();
select throws_ok(format($$select public.explain_access(%L, 'projects', 'select')$$, tests.id('mem')), '42501', null, 'anon cannot ask');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.explain_access(tests.id('mem'), 'projects', 'select')$$, 'not_a_member', 'a non-member cannot ask');
select tests.act_as('bob');
select tests.refuses($$select public.explain_access(tests.id('mem'), 'projects', 'select')$$, 'not_found', 'a user of another organization');
select is(
  tests.refusal($$select public.explain_access(tests.id('mem'), 'projects', 'select')$$),
  tests.refusal($$select public.explain_access(gen_random_uuid(), 'projects', 'select')$$), 'is answered as one that does not exist'
);
select is(
  tests.refusal(format($$select public.explain_access(%L, 'projects', 'select')$$, :'reads')),
  tests.refusal($$select public.explain_access(gen_random_uuid(), 'projects', 'select')$$), 'a key of another organization as well'
);
select is(
  tests.refusal(format($$select public.explain_access(tests.id('bob'), 'projects', 'select', %L)$$, :'shared')),
  tests.refusal($$select public.explain_access(tests.id('bob'), 'projects', 'select', gen_random_uuid())$$), 'and a row of another organization'
);
select is(tests.why(tests.id('bob'), 'projects', 'update', :'foreign_project'), 'true', 'but about their own organization they ask');

-- ---- audit:read is needed
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.explain_access(tests.id('mem'), 'projects', 'select')$$, 'permission_denied', 'a member cannot ask, not even about themselves');
select is(tests.by_key(:'writes', $$select public.explain_access(tests.id('mem'), 'projects', 'select')$$, tests.org('ada')), '42501', 'a key without audit:read neither');

-- ---- what an admin is told about users
select tests.act_as('adm', tests.org('ada'));
select is(tests.why(tests.id('vic'), 'projects', 'select', :'shared'), 'true', 'a viewer sees a project');
select is(tests.why(tests.id('vic'), 'projects', 'update', :'shared'), 'false: permission_missing projects_update projects:write', 'and may not change it');
select is(tests.why(tests.id('mem'), 'projects', 'update', :'shared'), 'true', 'a member may');
select is(tests.why(tests.id('mem'), 'projects', 'update'), 'true', 'also without a row: the permissions say so');
select is(tests.why(tests.id('vic'), 'projects', 'update'), 'false: permission_missing projects_update projects:write', 'and the viewer''s say no');
select is(tests.why(tests.id('mem'), 'projects', 'delete', :'hidden'), 'false: private_project', 'a private project is hidden from a member');
select is(tests.why(tests.id('mem'), 'skills', 'select', :'skill'), 'false: private_project', 'and so is its skill');
select is(tests.why(tests.id('adm'), 'skills', 'select', :'skill'), 'true', 'but not from an admin');
select is(tests.why(tests.id('mem'), 'jobs', 'update'), 'false: no_right', 'nobody writes jobs');
select is(tests.why(tests.id('mem'), 'jobs', 'insert'), 'false: no_right', 'or inserts them');
select is(tests.why(tests.id('adm'), 'memberships', 'delete', :'vic_membership'), 'true', 'an admin removes a viewer');
select is(tests.why(tests.id('adm'), 'memberships', 'delete', :'owner_membership'), 'false: policy_refuses memberships_delete', 'and no owner, whatever permissions they hold');
select is(tests.why(tests.id('vic'), 'memberships', 'delete', :'vic_membership'), 'true', 'a viewer leaves without members:write');
select is(tests.why(tests.id('vic'), 'memberships', 'delete'), 'null: permission_missing memberships_delete members:write', 'which only a row can tell');
select is(tests.why(tests.id('ada'), 'plans', 'select'), 'true', 'a catalogue needs no permission');
select is(tests.why(tests.id('vic'), 'jobs', 'select'), 'true', 'a permission that some rows ask is not asked in general');
select is(tests.why(tests.id('adm'), 'api_keys', 'select'), 'true', 'one of two alternatives is enough');
select is(
  tests.why(tests.id('vic'), 'api_keys', 'select'),
  'null: permission_missing api_keys_select api_keys:read, permission_missing api_keys_select api_keys:write_own', 'and without both the row decides'
);

-- ---- where a permission comes from
select is(
  tests.permission_of(public.explain_access(tests.id('vic'), 'projects', 'update', :'shared'), 'projects:write'),
  '{"permission": "projects:write", "required": true, "held": false, "entries": [], "member_holds": null, "lowest_role": "member"}', 'a role that lacks it, and the lowest that has it'
);
select is(
  tests.permission_of(public.explain_access(tests.id('cus'), 'skills', 'select'), 'skills:read') - 'lowest_role',
  '{"permission": "skills:read", "required": true, "held": true, "entries": ["*:read"], "member_holds": null}', 'a custom role, and which of its entries'
);
select is(public.explain_access(tests.id('cus'), 'skills', 'select') #>> '{subject,custom_role}', 'Writer', 'with its name');
select is(tests.why(tests.id('cus'), 'skills', 'insert'), 'false: permission_missing skills_insert skills:write', 'it grants no more than it says');
select is(
  tests.permission_of(public.explain_access(:'writes', 'projects', 'update', :'shared'), 'projects:write') - 'lowest_role',
  '{"permission": "projects:write", "required": true, "held": true, "entries": ["*:write"], "member_holds": true}', 'a key, and which of its entries'
);

-- ---- keys
select is(tests.why(:'reads', 'projects', 'select', :'shared'), 'true', 'a key that reads');
select is(tests.why(:'reads', 'projects', 'update', :'shared'), 'false: read_only_key, permission_missing projects_update projects:write', 'reads only');
select is(tests.why(:'writes', 'memberships', 'update'), 'false: permission_missing memberships_select members:read, permission_missing memberships_update members:write', 'no wildcard covers members');
select is(tests.why(:'personal', 'projects', 'update', :'shared'), 'true', 'a personal key');
select is(tests.why(:'personal', 'projects', 'update', :'hidden'), 'false: private_project', 'sees what its owner sees');
select tests.act_as_superuser();
update public.memberships set role = 'viewer' where user_id = tests.id('mem') and org_id = tests.org('ada');
select tests.act_as('adm', tests.org('ada'));
select is(tests.why(:'personal', 'projects', 'update', :'shared'), 'false: permission_missing projects_update projects:write', 'a demoted owner bounds the key');
select is(
  tests.permission_of(public.explain_access(:'personal', 'projects', 'update', :'shared'), 'projects:write') - 'lowest_role',
  '{"permission": "projects:write", "required": true, "held": false, "entries": ["projects:write"], "member_holds": false}', 'which its list does not show, and the answer does'
);
select tests.act_as_superuser();
update public.memberships set role = 'member' where user_id = tests.id('mem') and org_id = tests.org('ada');
update auth.users set banned_until = kijko.now() + interval '1 hour' where id = tests.id('mem');
select tests.act_as('adm', tests.org('ada'));
select is(tests.why(tests.id('mem'), 'projects', 'select', :'shared'), 'false: banned', 'a banned user');
select is(tests.why(:'personal', 'projects', 'select', :'shared'), 'false: suspended', 'whose key is suspended');
select tests.act_as('ada', tests.org('ada'));
select (public.revoke_api_key(:'reads')).id is not null as revoked \gset
select tests.act_as('adm', tests.org('ada'));
select is(tests.why(:'reads', 'projects', 'select', :'shared'), 'false: revoked', 'a revoked key');
select is(public.explain_access(:'reads', 'projects', 'select', :'shared') -> 'policies', '[]', 'no policy is asked about it');
select tests.act_as_superuser();
update auth.users set banned_until = null where id = tests.id('mem');

-- ---- members and keys are told about to who may see them, and rows to who sees them
select tests.act_as('aud', tests.org('ada'));
select tests.refuses($$select public.explain_access(tests.id('mem'), 'projects', 'select')$$, 'not_found', 'audit:read alone does not see members');
select tests.refuses(format($$select public.explain_access(%L, 'projects', 'select')$$, :'writes'), 'not_found', 'or keys');
select tests.act_as_superuser();
update public.custom_roles set permissions = '{audit:read,members:read,skills:read,projects:read}' where id = :'auditor';
select tests.act_as('aud', tests.org('ada'));
select is(tests.why(tests.id('mem'), 'projects', 'select', :'shared'), 'true', 'with members:read it does');
select is(
  tests.refusal(format($$select public.explain_access(tests.id('mem'), 'projects', 'select', %L)$$, :'hidden')),
  tests.refusal($$select public.explain_access(tests.id('mem'), 'projects', 'select', gen_random_uuid())$$), 'a private project is answered as one that does not exist'
);
select tests.refuses(format($$select public.explain_access(tests.id('mem'), 'skills', 'select', %L)$$, :'skill'), 'not_found', 'and its skill');
select tests.refuses($$select public.explain_access(tests.id('bob'), 'projects', 'select')$$, 'not_found', 'a user who is no member');
select tests.refuses(format($$select public.explain_access(%L, 'projects', 'select')$$, :'foreign_key'), 'not_found', 'a key of another organization');
select tests.refuses(format($$select public.explain_access(tests.id('mem'), 'projects', 'select', %L)$$, :'foreign_project'), 'not_found', 'a row of another organization');
select tests.refuses($$select public.explain_access(null, 'projects', 'select')$$, 'not_found', 'null is nobody');
select is(
  public.explain_access(tests.id('cus'), 'skills', 'select') -> 'subject' ->> 'custom_role', null, 'without roles:read no custom role is named'
);
select is(public.explain_access(tests.id('cus'), 'skills', 'select') -> 'subject' -> 'entries', 'null', 'or what it grants');
select is(tests.why(tests.id('cus'), 'skills', 'select'), 'true', 'only whether it does');

-- The auditor meets bob in another organization, where they may ask nothing. Whom members of this one meet there is not told.
select tests.act_as_superuser();
select tests.join_org('aud', tests.org('bob'), 'viewer'), tests.join_org('cus', tests.org('bob'), 'viewer');
select tests.act_as('aud', tests.org('ada'));
select is((select count(*) from public.profiles as p where p.id = tests.id('bob')), 1::bigint, 'the auditor sees the profile of bob');
select tests.refuses($$select public.explain_access(tests.id('cus'), 'profiles', 'select', tests.id('bob'))$$, 'not_found', 'but is not told who else does');
select is(tests.why(tests.id('mem'), 'profiles', 'select', tests.id('vic')), 'true', 'of members they are');
-- Nor by the answer about two of its own members, of whom one does not see members here and both are in another organization.
select tests.act_as('ada', tests.org('ada'));
select is(tests.why(tests.id('cus'), 'profiles', 'select', tests.id('vic')), 'false: policy_refuses profiles_select', 'who sees no members does not see a profile');
select tests.act_as_superuser();
select tests.join_org('vic', tests.org('bob'), 'viewer');
select tests.act_as('ada', tests.org('ada'));
select is(tests.why(tests.id('cus'), 'profiles', 'select', tests.id('vic')), 'false: policy_refuses profiles_select', 'and this organization hears the same when both are in another one');
select is(tests.why(tests.id('cus'), 'profiles', 'select', tests.id('cus')), 'true', 'one''s own profile is seen');
select tests.act_as_service();
select is(tests.why(tests.id('cus'), 'profiles', 'select', tests.id('vic')), 'true', 'the back office hears that it is visible');
select tests.act_as_superuser();
delete from public.memberships as m where m.org_id = tests.org('bob') and m.user_id in (tests.id('aud'), tests.id('cus'), tests.id('vic'));

-- ---- the caller is the same afterwards
select tests.act_as_superuser();
create function tests.caller() returns text language sql as $$
  select concat_ws(' ', (kijko.actor())::text, kijko.user_id(), kijko.api_key_id(), public.org_id(), current_setting('role'), current_setting('request.jwt.claims'), current_setting('request.headers'))
$$;
select tests.act_as('adm', tests.org('ada'));
select tests.caller() as caller \gset
select tests.why(tests.id('vic'), 'projects', 'update', :'shared'), tests.why(:'writes', 'projects', 'update', :'shared') \g /dev/null
select is(tests.caller(), :'caller', 'after answers about a user and a key');
select is((select count(*) from public.projects), 2::bigint, 'and sees what they saw');
select tests.act_as_superuser();
create policy broken on public.habits for select to authenticated using (1 / (name || '0')::integer > 0);
insert into public.skills (org_id, name, prompt_template) values (tests.org('ada'), 'Open', 'Say') returning id as open_skill \gset
insert into public.habits (org_id, skill_id, name, cron) values (tests.org('ada'), :'open_skill', '0', '@daily') returning id as habit \gset
select tests.act_as('adm', tests.org('ada'));
select tests.caller() as caller \gset
select throws_ok(format($$select public.explain_access(tests.id('vic'), 'habits', 'select', %L)$$, :'habit'), '22012', null, 'a policy that fails');
select is(tests.caller(), :'caller', 'after an error');
select tests.act_as_service();
select throws_ok(format($$select public.explain_access(tests.id('vic'), 'habits', 'select', %L)$$, :'habit'), '22012', null, 'a policy that fails as the subject');
select is((kijko.actor()).kind, 'service', 'the back office is the caller again');
select tests.act_as_superuser();
drop policy broken on public.habits;

-- A key that asks about a user is a key again afterwards.
select is(
  tests.by_key(:'audits', $$select concat_ws(' ', public.explain_access(tests.id('vic'), 'projects', 'update') ->> 'allowed', (kijko.actor()).kind, kijko.api_key_id())$$),
  'false service_key ' || :'audits', 'a key asks about a user'
);
select is(
  tests.by_key(:'audits', format($$select concat_ws(' ', public.explain_access(%L, 'projects', 'update', %L) ->> 'allowed', kijko.api_key_id())$$, :'writes', :'shared')),
  'true ' || :'audits', 'and about a key'
);
select is(tests.by_key(:'audits_only', $$select public.explain_access(tests.id('vic'), 'projects', 'update')$$), 'P0002', 'which needs members:read, too');

-- ---- the back office
select tests.act_as_service();
select is(tests.why(tests.id('bob'), 'projects', 'select', :'shared'), 'false: not_a_member, permission_missing projects_select projects:read', 'it asks about everybody and every row');
select is(tests.why(:'foreign_key', 'projects', 'select', :'shared'), 'false: not_a_member, permission_missing projects_select projects:read', 'and about every key');
select is(public.explain_access(tests.id('bob'), 'projects', 'select') ->> 'org_id', tests.org('bob')::text, 'without a row about the active organization');
select is(public.explain_access(:'foreign_key', 'projects', 'select') ->> 'org_id', tests.org('bob')::text, 'or the key''s');
select set_config('request.headers', json_build_object('x-org-id', tests.org('ada'))::text, true);
select is(tests.why(tests.id('vic'), 'projects', 'insert'), 'false: permission_missing projects_insert projects:write', 'or about the one of the header');
select tests.refuses($$select public.explain_access(gen_random_uuid(), 'projects', 'select')$$, 'not_found', 'nobody');

-- ---- what is asked must make sense
select tests.refuses($$select public.explain_access(tests.id('vic'), 'users', 'select')$$, 'invalid_input', 'no table of the API');
select tests.refuses($$select public.explain_access(tests.id('vic'), 'projects where true', 'select')$$, 'invalid_input', 'no SQL');
select tests.refuses($$select public.explain_access(tests.id('vic'), 'job_events', 'select')$$, 'invalid_input', 'a view has no policies');
select tests.refuses($$select public.explain_access(tests.id('vic'), null, 'select')$$, 'invalid_input', 'null is no table');
select tests.refuses($$select public.explain_access(tests.id('vic'), 'projects', 'truncate')$$, 'invalid_input', 'no operation');
select tests.refuses($$select public.explain_access(tests.id('vic'), 'projects', null)$$, 'invalid_input', 'null is none');
select tests.refuses($$select public.explain_access(tests.id('vic'), 'plans', 'select', gen_random_uuid())$$, 'invalid_input', 'rows without a uuid');

-- ---- it is no way to read data, and says what is so
select ok(
  public.explain_access(tests.id('ada'), 'projects', 'select', :'hidden')::text !~ 'value|Secret', 'no value of the row is in the answer'
);
select tests.act_as_superuser();
create function tests.sees(who text, relation text, id uuid) returns boolean language plpgsql as $$
declare
  seen boolean;
begin
  perform tests.act_as(who, tests.org('ada'));
  execute format('select exists (select 1 from public.%I where id = $1)', relation) into seen using id;
  perform tests.act_as_service();
  return seen;
end
$$;
create table tests.rows as
  select 'projects' as relation, p.id from public.projects as p where p.org_id in (tests.org('ada'), tests.org('bob'))
  union all select 'skills', s.id from public.skills as s where s.org_id = tests.org('ada')
  union all select 'habits', h.id from public.habits as h where h.org_id = tests.org('ada')
  union all select 'memberships', m.id from public.memberships as m where m.org_id in (tests.org('ada'), tests.org('bob'))
  union all select 'subscriptions', s.id from public.subscriptions as s where s.org_id in (tests.org('ada'), tests.org('bob'))
  union all select 'api_keys', k.id from public.api_keys as k where k.org_id in (tests.org('ada'), tests.org('bob'))
  union all select 'profiles', p.id from public.profiles as p where p.id in (tests.id('ada'), tests.id('bob'), tests.id('vic'))
  union all select 'organizations', o.id from public.organizations as o where o.id in (tests.org('ada'), tests.org('bob'));
grant select on tests.rows to public;
select tests.act_as_service();
select is_empty(
  $$select u.name, r.relation, r.id
    from unnest(array['ada', 'adm', 'mem', 'vic', 'aud', 'cus', 'bob']) as u (name)
    cross join tests.rows as r
    where (public.explain_access(tests.id(u.name), r.relation, 'select', r.id) ->> 'allowed')::boolean <> tests.sees(u.name, r.relation, r.id)$$,
  'its verdict is what each user sees'
);

select * from finish();
rollback;
