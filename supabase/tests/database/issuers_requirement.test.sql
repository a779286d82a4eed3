-- An organization that requires its own issuer: who says so, what a member who signs in here sees, and who may still come in.
begin;
\ir 000_helpers.sql
select plan(70);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('own'), tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('sso');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('mem'));
select tests.join_org('own', tests.org('ada'), 'owner'), tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member');

create function tests.seen() returns text language sql as $$
  select concat_ws(' ',
    (select count(*) from public.projects where org_id = tests.org('ada')),
    (select count(*) from public.organizations where id = tests.org('ada')),
    (select count(*) from public.memberships where org_id = tests.org('ada')),
    (select count(*) from public.org_ids() as o (id) where o.id = tests.org('ada')),
    public.has_role(tests.org('ada'), 'viewer'), public.can(tests.org('ada'), 'projects:read'), public.org_id() = tests.org('ada')
  )
$$;
create function tests.closed() returns text language sql security definer as $$
  select string_agg(split_part(u.email, '@', 1), ' ' order by u.email)
  from public.memberships as m join auth.users as u on u.id = m.user_id
  where m.org_id = tests.org('ada') and m.sso_required
$$;
create function tests.passed() returns bigint language sql security definer as $$
  select count(*) from public.audit_log as e where e.org_id = tests.org('ada') and e.action = 'session.break_glass'
$$;
create function tests.session_of(name text) returns uuid language sql security definer as $$
  insert into auth.sessions (id, user_id, created_at, updated_at, aal)
  values (gen_random_uuid(), tests.id(session_of.name), kijko.now(), kijko.now(), 'aal1') returning id
$$;
-- As the worker does once the server has answered.
create function tests.answered(issuer uuid) returns void language sql security definer as $$
  update kijko.issuers as i set jwks = '{"keys": [{"kty": "RSA"}]}', error = null where i.id = issuer
$$;
\set required 'update public.organizations set sso_required = true where id = tests.org(''ada'')'
\set ended 'update public.organizations set sso_required = false where id = tests.org(''ada'')'
create function tests.named(who text, value boolean default true) returns text language sql as $$
  select format('update public.memberships set is_break_glass = %L where org_id = tests.org(''ada'') and user_id = tests.id(%L)', value, who)
$$;

select tests.act_as('ada', tests.org('ada'));
insert into public.projects (name) values ('One');
select id as service from public.create_api_key('service', '["organization:write", "organization:read", "issuers:write", "projects:read", "api_keys:write"]') \gset
select tests.act_as('mem', tests.org('ada'));
select id as personal from public.create_api_key('personal', '["projects:read", "api_keys:write_own"]', 'personal') \gset

-- ---- who may require it, and when: non-members first
select tests.act_as_anon();
select throws_ok(:'required', '42501', null, 'not anon');
select throws_ok(tests.named('ada'), '42501', null, 'who names no break-glass owner');
select tests.act_as('bob');
select is(tests.changed(:'required'), 0::bigint, 'not a non-member');
select is(tests.changed(tests.named('ada')), 0::bigint, 'who names none');
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed(:'required'), 0::bigint, 'not a member');
select is(tests.changed(tests.named('ada')), 0::bigint, 'who names none');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(:'required', 'permission_denied', 'not an admin');
select is(tests.changed(tests.named('ada')), 0::bigint, 'who names none');
select is(tests.by_key(:'service', :'required' || ' returning ''done'''), '42501', 'not a key');
select tests.act_as('ada', tests.org('ada'));
select throws_ok($$update public.memberships set sso_required = false where org_id = tests.org('ada')$$, '42501', null, 'nobody by a membership');
select tests.refuses(:'required', 'conflict', 'not an owner without an issuer');
select (public.enroll_issuer('https://login.example.com/realms/one', '{kijko}', '{}', '{}', 'member', owns_roles => false)).id as issuer \gset
select tests.refuses(:'required', 'conflict', 'nor with one whose keys are not known');
select tests.answered(:'issuer');
select tests.refuses(:'required', 'conflict', 'nor without a break-glass owner');
select tests.refuses(tests.named('adm'), 'conflict', 'an admin is none');
select tests.session_of('own') as earlier \gset
select is(tests.changed(tests.named('own')), 1::bigint, 'an owner names an owner');
select is(tests.seen(), '1 1 4 1 t t t', 'until then everything is there');
select is(tests.passed(), 0::bigint, 'and nothing is passed');

-- ---- members by the issuer
select tests.act_as_superuser();
delete from public.organizations where personal_for = tests.id('sso');
select kijko.put_issuer_identity(:'issuer', 'a-subject', tests.id('sso'));
insert into public.memberships (org_id, user_id, role) values (tests.org('ada'), tests.id('sso'), 'member');
select tests.refuses(
  format('update public.memberships set role = ''owner'', is_break_glass = true where user_id = %L', tests.id('sso')), 'conflict', 'one of the issuer is no break-glass owner'
);
select tests.refuses($$insert into public.organizations (name, sso_required) values ('New', true)$$, 'conflict', 'no organization begins with it');

-- ---- on
select tests.act_as('ada', tests.org('ada'));
select is(tests.changed(:'required'), 1::bigint, 'an owner, with both');
select is(tests.closed(), 'ada adm mem', 'who signs in here is closed out: not members by the issuer, nor the break-glass owner');
select is(tests.seen(), '0 0 0 0 f f', 'an owner sees nothing');
select tests.refuses('select public.org_id() from private.requests_admit()', 'sso_required', 'a request that names the organization');
select tests.refuses($$select public.set_secret('A', 'x')$$, 'sso_required', 'a function in it');
select tests.refuses($$select public.create_api_key('more', '["projects:read"]')$$, 'sso_required', 'no key is made');
select tests.refuses($$insert into public.api_keys (org_id, name, permissions) values (tests.org('ada'), 'more', '["projects:read"]')$$, 'sso_required', 'nor inserted');
select throws_ok($$insert into public.projects (org_id, name) values (tests.org('ada'), 'Two')$$, '42501', null, 'nor any other row');
select is(tests.changed(:'ended'), 0::bigint, 'nor does the requirement end');
select is(tests.changed(tests.named('ada')), 0::bigint, 'nor do they name themselves');
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || format('{"aal": "aal2", "issuer_id": "%s"}', :'issuer')::jsonb)::text, true);
select is(tests.seen(), '0 0 0 0 f f', 'a claim does not open it');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.set_secret('A', 'x')$$, 'not_a_member', 'a non-member learns nothing of it');
select tests.act_as('sso', tests.org('ada'));
select is(tests.seen(), '1 1 5 1 t t t', 'a member by the issuer sees everything');
select tests.act_as('own', tests.org('ada'));
select is(tests.seen(), '1 1 5 1 t t t', 'so does the break-glass owner');
select lives_ok($$select public.create_api_key('more', '["projects:read"]')$$, 'who makes keys');

-- ---- a member of two organizations: only the requiring one refuses
select tests.act_as('mem', tests.org('mem'));
insert into public.projects (name) values ('Own');
select is((select count(*) from public.projects), 1::bigint, 'a member still sees their own organization');
select lives_ok($$select public.set_active_organization(tests.org('ada'))$$, 'the closed one can be the active one');
select set_config('request.headers', '{}', true);
select tests.refuses($$select public.set_secret('A', 'x')$$, 'sso_required', 'and then refuses');

-- ---- keys
select is(tests.by_key(:'service', 'select count(*) from public.projects'), '1', 'a service key goes on');
select is(tests.by_key(:'personal', 'select count(*) from public.projects'), '1', 'so does a personal one of a closed member');
select is(
  tests.by_key(:'personal', $$select name from public.create_api_key('next', '["projects:read"]', 'personal')$$), 'KJ407', 'but makes no key'
);
select is(tests.by_key(:'personal', format('select name from public.rotate_api_key(%L)', :'personal')), 'KJ407', 'and is not rotated');
select is(tests.by_key(:'service', :'ended' || ' returning ''done'''), '42501', 'a key does not end the requirement');

-- ---- notifications and support
select tests.act_as_superuser();
insert into public.notification_types (org_id, name) values (tests.org('ada'), 'custom.deploy');
insert into public.notifications (org_id, audience, type, title) values (tests.org('ada'), 'organization', 'custom.deploy', 'Closed');
select is(
  (select count(*) from private.notifications_inbox(tests.id('mem')) as n where n.org_id = tests.org('ada')), 0::bigint, 'a closed member gets no notification'
);
select is(
  (select count(*) from private.notifications_inbox(tests.id('sso')) as n where n.org_id = tests.org('ada')), 1::bigint, 'a member by the issuer does'
);
select tests.act_as('own', tests.org('ada'));
select is((public.explain_access(tests.id('mem'), 'projects', 'select')) -> 'reasons' -> 0 ->> 'code', 'sso_required', 'explain_access() says why');

-- ---- each use leaves a trace
select tests.act_as_superuser();
select is(tests.passed(), 1::bigint, 'the session that was there when it began is an entry');
select tests.session_of('own') as later \gset
select tests.session_of('mem') as others \gset
select results_eq(
  $$select e.target_id::uuid, e.created_by, e.subject_user_id from public.audit_log as e
    where e.org_id = tests.org('ada') and e.action = 'session.break_glass' order by e.seq$$,
  format('values (%L::uuid, %L::uuid, %L::uuid), (%L, %2$L, %2$L)', :'earlier', tests.id('own'), tests.id('own'), :'later'),
  'each sign-in of the break-glass owner is one, and of nobody else'
);
select is(
  (select count(*) from public.notifications as n where n.type = 'break_glass.used' and n.user_id = tests.id('ada')), 2::bigint,
  'the other owner is notified of each'
);
select is((select count(*) from public.notifications as n where n.type = 'break_glass.used' and n.user_id <> tests.id('ada')), 0::bigint, 'and nobody else');
select tests.act_as('ada');
select is((select count(*) from public.list_notifications() as n where n.type = 'break_glass.used'), 2::bigint, 'a closed owner can read it');

-- ---- nobody locks everybody out
select tests.act_as('own', tests.org('ada'));
select tests.refuses(tests.named('own', false), 'conflict', 'the last break-glass owner stays one');
select tests.refuses($$update public.memberships set role = 'admin' where org_id = tests.org('ada') and user_id = tests.id('own')$$, 'conflict', 'and an owner');
select tests.refuses($$select public.leave_organization(tests.org('ada'))$$, 'conflict', 'and a member');
select tests.refuses($$select public.transfer_ownership(tests.org('ada'), tests.id('sso'))$$, 'conflict', 'and does not hand over');
select tests.refuses(format('select public.remove_issuer(%L)', :'issuer'), 'conflict', 'the last issuer stays');
select tests.refuses(format('select public.update_issuer(%L, ''{"enabled": false}'')', :'issuer'), 'conflict', 'and is not disabled');
select lives_ok(format('select public.update_issuer(%L, ''{"default_role": "viewer"}'')', :'issuer'), 'but changed');
select (public.enroll_issuer('https://login.example.com/realms/two', '{kijko}', '{}', '{}', 'member')).id as second \gset
select tests.refuses(format('select public.remove_issuer(%L)', :'issuer'), 'conflict', 'another without keys takes no place');
select tests.answered(:'second');
select lives_ok(format('select public.remove_issuer(%L)', :'second'), 'of two one may go');
select is(tests.changed(tests.named('ada')), 1::bigint, 'a second break-glass owner');
select is(tests.closed(), 'adm mem', 'who is let in');
select is(tests.changed(tests.named('own', false)), 1::bigint, 'then the first may end');
select is(tests.closed(), 'adm mem own', 'and is closed out');

-- ---- a deleted account hands it on
select tests.act_as_superuser();
delete from auth.users where id = tests.id('ada');
select is((select count(*) from public.memberships as m where m.user_id = tests.id('own') and m.is_break_glass), 1::bigint, 'another owner takes the place of a deleted one');

-- ---- off
create function tests.team() returns uuid language sql stable security definer as $$
  select m.org_id from public.memberships as m where m.user_id = tests.id('adm') and m.role = 'admin'
$$;
select tests.act_as('own', tests.team());
select is(tests.changed('update public.organizations set sso_required = false where id = tests.team()'), 1::bigint, 'the break-glass owner ends it');
select is((select count(*) from public.memberships as m where m.org_id = tests.team() and m.sso_required), 0::bigint, 'every membership is open');
select lives_ok(format('select public.remove_issuer(%L)', :'issuer'), 'the issuer may go');
select tests.act_as_superuser();
delete from public.organizations where id = tests.team();
select is((select count(*) from public.memberships as m where m.user_id = tests.id('own') and m.role = 'owner' and m.is_break_glass), 0::bigint, 'an organization is deleted with its break-glass owners');

-- ---- open sockets are asked again when a membership closes; the successor of the last owner is a member whose membership is open
select is(
  (select string_agg(a.attname, ' ' order by a.attname) from pg_trigger as t join pg_attribute as a on a.attrelid = t.tgrelid and a.attnum = any (t.tgattr)
   where t.tgrelid = 'public.memberships'::regclass and t.tgname = 'memberships_access'),
  'custom_role_id is_break_glass mfa_required role sso_required', 'every column that closes a membership changes access'
);
select tests.sign_up('sole'), tests.sign_up('stale'), tests.sign_up('fresh');
select tests.org('sole') as left_behind \gset
update public.subscriptions set plan = 'TEAMS' where org_id = :'left_behind';
select tests.join_org('stale', :'left_behind', 'admin'), tests.join_org('fresh', :'left_behind', 'admin');
set session_replication_role = replica;
update public.memberships set sso_required = true where org_id = :'left_behind' and user_id = tests.id('stale');
update public.memberships set created_at = created_at - interval '1 day' where org_id = :'left_behind' and user_id = tests.id('stale');
reset session_replication_role;
select private.tenancy_promote_successor(:'left_behind', tests.id('sole'));
select is((select string_agg(m.user_id::text, ' ') from public.memberships as m where m.org_id = :'left_behind' and m.role = 'owner' and m.user_id <> tests.id('sole')),
  tests.id('fresh')::text, 'not one whose membership is closed');

select * from finish();
rollback;
