-- An organization that requires a second factor: who says so, and what a session without one sees.
begin;
\ir 000_helpers.sql
select plan(43);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('adm'), tests.sign_up('mem');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('mem'));
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member');

-- A request of a session that has shown a second factor.
create function tests.act_with_factor(name text, org uuid default null) returns void language plpgsql as $$
begin
  perform tests.act_as(name, org);
  perform set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"aal": "aal2"}')::text, true);
end
$$;
create function tests.requires(org uuid) returns text language sql security definer as $$
  select string_agg(distinct v.value::text, ' ')
  from (
    select o.mfa_required from public.organizations as o where o.id = org
    union all select m.mfa_required from public.memberships as m where m.org_id = org
  ) as v (value)
$$;
create function tests.seen() returns text language sql as $$
  select concat_ws(' ',
    (select count(*) from public.projects where org_id = tests.org('ada')),
    (select count(*) from public.organizations where id = tests.org('ada')),
    (select count(*) from public.memberships where org_id = tests.org('ada')),
    (select count(*) from public.org_ids() as o (id) where o.id = tests.org('ada')),
    public.has_role(tests.org('ada'), 'viewer'), public.can(tests.org('ada'), 'projects:read'), public.org_id() = tests.org('ada')
  )
$$;

-- ---- who may require it
select tests.act_as('ada', tests.org('ada'));
insert into public.projects (name) values ('One');
select id as service from public.create_api_key('service', '["organization:write", "organization:read", "projects:read"]') \gset
select id as personal from public.create_api_key('personal', '["projects:read"]', 'personal') \gset
select tests.act_as('bob');
select is(tests.changed($$update public.organizations set mfa_required = true where id = tests.org('ada')$$), 0::bigint, 'not a non-member');
select tests.act_with_factor('mem', tests.org('ada'));
select is(tests.changed($$update public.organizations set mfa_required = true where id = tests.org('ada')$$), 0::bigint, 'not a member');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses($$update public.organizations set mfa_required = true where id = tests.org('ada')$$, 'insufficient_aal', 'not an owner without a second factor');
select is(
  tests.by_key(:'service', $$update public.organizations set mfa_required = true where id = tests.org('ada') returning 'done'$$), '42501', 'not a key'
);
select throws_ok($$update public.memberships set mfa_required = true where org_id = tests.org('ada')$$, '42501', null, 'nobody by a membership');
select is(tests.seen(), '1 1 3 1 t t t', 'until then everything is there');
select tests.act_with_factor('adm', tests.org('ada'));
select is(tests.changed($$update public.organizations set mfa_required = true where id = tests.org('ada')$$), 1::bigint, 'an admin with a second factor');
select is(tests.requires(tests.org('ada')), 'true', 'every membership has it');

-- ---- a session without one
select tests.act_as_superuser();
insert into public.notification_types (org_id, name) values (tests.org('ada'), 'custom.deploy');
insert into public.notifications (org_id, audience, type, title) values (tests.org('ada'), 'organization', 'custom.deploy', 'Closed');
select tests.act_with_factor('ada');
select is((select count(*) from public.list_notifications()), 1::bigint, 'a session with one has the notifications');
select tests.act_as('ada', tests.org('ada'));
select is_empty('select 1 from public.list_notifications()', 'one without has not');
select is_empty(format('select 1 from public.list_notifications(%L)', '1;1:1:;;;'), 'also by a cursor');
select is_empty('select 1 from public.notifications', 'nor by the table');
select is(tests.seen(), '0 0 0 0 f f', 'an owner sees nothing');
select tests.refuses('select public.org_id() from private.requests_admit()', 'insufficient_aal', 'a request that names the organization');
select tests.refuses($$select public.set_secret('A', 'x')$$, 'insufficient_aal', 'a function in it');
select tests.refuses($$select public.create_api_key('more', '["projects:read"]')$$, 'insufficient_aal', 'no key is made');
select throws_ok($$insert into public.api_keys (org_id, name, permissions) values (tests.org('ada'), 'more', '["projects:read"]')$$, '42501', null, 'nor inserted');
select throws_ok($$insert into public.projects (org_id, name) values (tests.org('ada'), 'Two')$$, '42501', null, 'nor any other row');
select is(tests.changed($$update public.organizations set mfa_required = false where id = tests.org('ada')$$), 0::bigint, 'nor does the requirement end');
select tests.act_as('ada');
select set_config('request.headers', '{}', true);
select is(public.org_id(), null, 'the active organization is none');
select tests.refuses($$select public.set_secret('A', 'x')$$, 'insufficient_aal', 'which the refusal says');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.set_secret('A', 'x')$$, 'not_a_member', 'a non-member learns nothing of it');
select tests.act_as('ada');
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"aal": "aal1"}')::text, true);
select is(tests.seen(), '0 0 0 0 f f', 'aal1 is none');
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"aal": ["aal2"]}')::text, true);
select is(tests.seen(), '0 0 0 0 f f', 'a list is none');
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"aal": "", "user_metadata": {"aal": "aal2"}}')::text, true);
select is(tests.seen(), '0 0 0 0 f f', 'what a user writes about themselves is none');

-- ---- one with it
select tests.act_with_factor('ada', tests.org('ada'));
select is(tests.seen(), '1 1 3 1 t t t', 'an owner with a second factor sees everything');
select lives_ok($$select public.create_api_key('more', '["projects:read"]')$$, 'and makes keys');

-- ---- keys go on
select is(tests.by_key(:'service', 'select count(*) from public.projects'), '1', 'a service key goes on');
select is(tests.by_key(:'personal', 'select count(*) from public.projects'), '1', 'so does a personal one');
select is(
  tests.by_key(:'service', $$update public.organizations set mfa_required = false where id = tests.org('ada') returning 'done'$$), '42501', 'but does not end the requirement'
);

-- ---- other organizations are not concerned
select tests.act_as('mem', tests.org('mem'));
insert into public.projects (name) values ('Own');
select is((select count(*) from public.projects), 1::bigint, 'a member still sees their own organization');
select is((select count(*) from public.org_ids()), 1::bigint, 'and is in no other');
select lives_ok($$select public.set_active_organization(tests.org('ada'))$$, 'the closed one can be the active one');
select lives_ok($$select public.leave_organization(tests.org('ada'))$$, 'and be left');

-- ---- who joins later
select tests.act_as_superuser();
select tests.join_org('bob', tests.org('ada'), 'viewer');
select is((select m.mfa_required from public.memberships as m where m.org_id = tests.org('ada') and m.user_id = tests.id('bob')), true, 'a new membership has it');
update public.memberships set mfa_required = false where org_id = tests.org('ada');
select is(tests.requires(tests.org('ada')), 'true', 'it is what the organization says, whoever writes');
insert into public.organizations (name) values ('New') returning id as new_org \gset
insert into public.memberships (org_id, user_id, role) values (:'new_org', tests.id('bob'), 'owner');
select is(tests.requires(:'new_org'), 'false', 'by default it is off');

-- ---- support answers as to a session with it
select tests.act_with_factor('ada', tests.org('ada'));
select is((public.explain_access(tests.id('adm'), 'projects', 'select')) ->> 'allowed', 'true', 'explain_access() looks at permissions');

-- ---- and off again, with a trace
select is(tests.changed($$update public.organizations set mfa_required = false where id = tests.org('ada')$$), 1::bigint, 'a session with a second factor ends the requirement');
select is(tests.requires(tests.org('ada')), 'false', 'for every membership');
select tests.act_as('ada', tests.org('ada'));
select is(tests.seen(), '1 1 3 1 t t t', 'then everything is there again');
select tests.act_as_superuser();
select results_eq(
  $$select e.created_by, e.after from public.audit_log as e where e.org_id = tests.org('ada') and e.action = 'organization.updated' and e.after ? 'mfa_required' order by e.seq$$,
  $$values (tests.id('adm'), '{"mfa_required": true}'::jsonb), (tests.id('ada'), '{"mfa_required": false}')$$, 'the audit log says who did both'
);
select is_empty(
  $$select 1 from public.audit_log as e where e.org_id = tests.org('ada') and e.action = 'member.updated'$$, 'and not each membership'
);

select * from finish();
rollback;
