begin;
\ir 000_helpers.sql
select plan(73);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');

-- The last entry of an action in ada's organization.
create function tests.entry(action text) returns public.audit_log language sql stable security definer as $$
  select e from public.audit_log as e where e.org_id = tests.org('ada') and e.action = entry.action order by e.seq desc limit 1
$$;
create function tests.entries(action text) returns bigint language sql stable security definer as $$
  select count(*) from public.audit_log as e where e.org_id = tests.org('ada') and e.action = entries.action
$$;
-- A request as it comes through Caddy.
create function tests.act_from(name text) returns void language plpgsql as $$
begin
  perform tests.act_as(name, tests.org('ada'));
  perform set_config('request.method', 'POST', true);
  perform set_config('request.headers', jsonb_build_object(
    'x-org-id', tests.org('ada'), 'x-request-id', 'req-1', 'user-agent', 'probe/1.0', 'x-forwarded-for', '203.0.113.7'
  )::text, true);
end
$$;

-- ---- a hash is the same in every session, also in one that prints bytes in another way
create function tests.seal_hash() returns text language sql as $$
  select encode(private.audit_seal_hash('\x00', kijko.platform_org_id(), 1, 1, array[kijko.platform_org_id()], array['\xff00'::bytea]), 'hex')
$$;
select tests.seal_hash() as hash \gset
set local bytea_output = 'escape';
select is(tests.seal_hash(), :'hash', 'the hash of a seal does not depend on bytea_output');
reset bytea_output;

-- ---- who reads it: unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.audit_log', '42501', null, 'anon reads no entries');
select throws_ok('select public.verify_audit_chain()', '42501', null, 'anon verifies nothing');
select throws_ok('select public.export_audit_log()', '42501', null, 'anon exports nothing');
select tests.act_as('bob');
select is_empty($$select 1 from public.audit_log where org_id = tests.org('ada')$$, 'a non-member sees no entry');
select isnt_empty($$select 1 from public.audit_log where org_id = tests.org('bob')$$, 'but those of their own organization');
select is_empty('select 1 from public.audit_log where org_id = kijko.platform_org_id()', 'nobody sees those of the platform');
select tests.refuses(format('select public.verify_audit_chain(%L)', tests.org('ada')), 'not_a_member', 'a non-member verifies nothing');
select tests.refuses(format('select public.export_audit_log(%L)', tests.org('ada')), 'not_a_member', 'a non-member exports nothing');
select tests.refuses(format('select public.verify_audit_chain(%L)', gen_random_uuid()), 'not_a_member', 'as with an organization that does not exist');
select tests.refuses(format('select public.verify_audit_chain(%L)', kijko.platform_org_id()), 'not_a_member', 'or that of the platform');
select tests.act_as('vic', tests.org('ada'));
select is_empty($$select 1 from public.audit_log where org_id = tests.org('ada')$$, 'a viewer sees no entry');
select tests.refuses('select public.verify_audit_chain()', 'permission_denied', 'a viewer verifies nothing');
select tests.act_as('mem', tests.org('ada'));
select is_empty($$select 1 from public.audit_log where org_id = tests.org('ada')$$, 'a member sees no entry');
select tests.refuses('select public.export_audit_log()', 'permission_denied', 'a member exports nothing');
select tests.act_as('adm', tests.org('ada'));
select isnt_empty($$select 1 from public.audit_log where org_id = tests.org('ada')$$, 'an admin sees entries');
select lives_ok('select public.verify_audit_chain()', 'an admin verifies');

-- ---- a wildcard never covers it
select tests.act_as('ada', tests.org('ada'));
select id as wild from public.create_api_key('wild', '["*:read"]') \gset
select id as reads from public.create_api_key('reads', '["audit:read"]') \gset
select is(tests.by_key(:'wild', 'select count(*) from public.audit_log'), '0', 'a key with *:read sees no entry');
select is(tests.by_key(:'wild', 'select public.verify_audit_chain()'), '42501', 'and verifies nothing');
select isnt(tests.by_key(:'reads', 'select count(*) from public.audit_log'), '0', 'a key with audit:read does');
select tests.act_as('ada', tests.org('ada'));
insert into public.custom_roles (name, permissions) values ('Reader', '{*:read}') returning id as reader \gset
update public.memberships set custom_role_id = :'reader' where user_id = tests.id('vic') and org_id = tests.org('ada');
select tests.act_as('vic', tests.org('ada'));
select is_empty($$select 1 from public.audit_log where org_id = tests.org('ada')$$, 'a custom role with *:read sees no entry');

-- ---- nobody writes it, not even postgres
select tests.act_as('ada', tests.org('ada'));
select throws_ok($$insert into public.audit_log (org_id, action, actor_kind, target_type) values (tests.org('ada'), 'a.b', 'user', 'x')$$, '42501', null, 'an owner inserts nothing');
select throws_ok('update public.audit_log set action = ''a.b''', '42501', null, 'an owner changes nothing');
select throws_ok('delete from public.audit_log', '42501', null, 'an owner deletes nothing');
select throws_ok($$select private.audit_record(tests.org('ada'), 'a.b', 'x', 'y')$$, '42501', null, 'an owner records nothing');
select tests.act_as_service();
select throws_ok('update public.audit_log set action = ''a.b''', '42501', null, 'service_role changes nothing');
select throws_ok('delete from public.audit_log', '42501', null, 'service_role deletes nothing');
select throws_ok('truncate public.audit_log', '42501', null, 'service_role truncates nothing');
select tests.act_as_superuser();
select tests.refuses('update public.audit_log set action = ''a.b''', 'permission_denied', 'a trigger refuses a change to the superuser');
select tests.refuses('delete from public.audit_log', 'permission_denied', 'and a deletion');
select tests.refuses('truncate public.audit_log', 'permission_denied', 'and truncation');
set local session_replication_role = replica;
select tests.refuses('delete from public.audit_log', 'permission_denied', 'also as a replica');
set local session_replication_role = origin;
set local role postgres;
select tests.refuses('delete from public.audit_log', 'permission_denied', 'and to postgres');
reset role;

-- ---- who did what to which row, from where
select tests.act_from('adm');
update public.memberships set role = 'viewer' where user_id = tests.id('mem') and org_id = tests.org('ada');
select is(
  (select row(e.actor_kind, e.created_by, e.subject_user_id, e.request_id, host(e.address), e.user_agent, e.before, e.after)::text from tests.entry('member.updated') as e),
  row('user', tests.id('adm'), tests.id('mem'), 'req-1', '203.0.113.7', 'probe/1.0', '{"role": "member"}'::jsonb, '{"role": "viewer"}'::jsonb)::text,
  'a change of a role'
);
select is(tests.entries('member.created'), 4::bigint, 'members');
select public.set_secret('TOKEN', 'the value');
select is((tests.entry('secret.created')).after ->> 'name', 'TOKEN', 'a secret');
select tests.travel('1 hour');
select public.set_secret('TOKEN', 'another value');
select is((select e.after ?| array['updated_at'] from tests.entry('secret.updated') as e), true, 'a new value');
select public.delete_secret('TOKEN');
select is((tests.entry('secret.deleted')).before ->> 'name', 'TOKEN', 'its end');
select tests.act_from('ada');
select id as invited, token from public.invite_member('eve@example.test', 'viewer') \gset
select is((select row(e.personal, e.after ? 'email')::text from tests.entry('invitation.created') as e), row('{"after": {"email": "eve@example.test"}}'::jsonb, false)::text, 'an invitation: the address is apart');
select public.revoke_invitation(:'invited');
select is((select row(e.after ->> 'status', e.personal)::text from tests.entry('invitation.updated') as e), row('revoked', null)::text, 'its end');
update public.organizations set name = 'Ada & Co' where id = tests.org('ada');
select is((tests.entry('organization.updated')).personal #>> '{after,name}', 'Ada & Co', 'a new name, which may be a person''s');
insert into public.webhook_endpoints (url) values ('https://hooks.example.com/secret-path?token=x');
select is((tests.entry('webhook_endpoint.created')).after ->> 'url', 'https://hooks.example.com', 'of an address scheme and host only');
update public.webhook_endpoints set url = 'https://hooks.example.com/other' where org_id = tests.org('ada');
select ok((tests.entry('webhook_endpoint.updated')).after ->> 'url_digest' ~ '^[0-9a-f]{64}$', 'another path is seen');
select is_empty($$select 1 from public.audit_log as e where e.org_id = tests.org('ada') and to_jsonb(e)::text ~ 'secret-path|the value|another value|kji_|kjk_live_[A-Za-z0-9]{12}'$$, 'no secret is kept');
update public.webhook_endpoints set description = 'same' where org_id = tests.org('ada');
select is(tests.entries('webhook_endpoint.updated'), 1::bigint, 'columns that are not kept write nothing');

-- ---- keys, the back office, operators, workers
select id as writer from public.create_api_key('writer', '["secrets:write", "audit:read"]') \gset
select is((tests.entry('api_key.created')).target_id, :'writer', 'a key');
select tests.act_as_key(:'writer');
select public.set_secret('BY_KEY', 'x');
select is(
  (select row(e.actor_kind, e.created_by, e.created_by_key)::text from tests.entry('secret.created') as e), row('service_key', null, :'writer'::uuid)::text, 'by an API key'
);
select tests.act_as_service();
update public.subscriptions set plan = 'PRO' where org_id = tests.org('ada');
select is((select row(e.actor_kind, e.before, e.after)::text from tests.entry('subscription.updated') as e), row('service', '{"plan": "TEAMS"}'::jsonb, '{"plan": "PRO"}'::jsonb)::text, 'by the back office');
select tests.act_as_superuser();
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select is((tests.entry('subscription.updated')).actor_kind, 'operator', 'by an operator');
update public.plan_limits set amount = amount + 1 where plan = 'TEAMS' and meter = 'projects';
select is(
  (select e.after ? 'amount' from public.audit_log as e where e.org_id = kijko.platform_org_id() and e.action = 'plan_limit.updated' order by e.seq desc limit 1),
  true, 'a limit of a plan is an entry of the platform'
);

-- ---- sessions
insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip) values (tests.id('session'), tests.id('adm'), now(), now(), 'aal1', 'browser/2', '198.51.100.4');
select is(
  (select row(e.created_by, e.subject_user_id, e.target_id, host(e.address), e.user_agent, e.after)::text from tests.entry('session.started') as e),
  row(tests.id('adm'), tests.id('adm'), tests.id('session')::text, '198.51.100.4', 'browser/2', '{"aal": "aal1"}'::jsonb)::text, 'a sign-in'
);
select is(
  (select count(*) from public.audit_log as e where e.action = 'session.started' and e.target_id = tests.id('session')::text), 2::bigint,
  'in each organization of the user'
);
update auth.sessions set aal = 'aal2' where id = tests.id('session');
select is((tests.entry('session.updated')).after, '{"aal": "aal2"}'::jsonb, 'the second factor');
delete from auth.sessions where id = tests.id('session');
select is((tests.entry('session.ended')).target_id, tests.id('session')::text, 'its end');
select private.audit_refuse_sign_in(tests.id('adm'), 'invalid_credentials');
select is((tests.entry('session.refused')).after, '{"reason": "invalid_credentials"}'::jsonb, 'a refused sign-in');
select private.audit_refuse_sign_in(null, 'invalid_credentials');
select is(
  (select e.target_id is null and e.subject_user_id is null from public.audit_log as e where e.org_id = kijko.platform_org_id() and e.action = 'session.refused' order by e.seq desc limit 1),
  true, 'of nobody that is known is the platform''s'
);

-- ---- the account
update auth.users set encrypted_password = 'hash 1' where id = tests.id('adm');
update auth.users set encrypted_password = 'hash 2' where id = tests.id('adm');
select results_eq(
  $$select e.before, e.after from public.audit_log as e where e.org_id = tests.org('ada') and e.action = 'user.password_changed' order by e.seq$$,
  $$values ('{"has_password": false}'::jsonb, '{"has_password": true}'::jsonb), ('{"has_password": true}', '{"has_password": true}')$$, 'a first and a new password'
);
select is_empty($$select 1 from public.audit_log as e where to_jsonb(e)::text like '%hash 2%'$$, 'and not which');
select set_config('kijko_audit.same_password', 'on', true);
update auth.users set encrypted_password = 'hash 3' where id = tests.id('adm');
select set_config('kijko_audit.same_password', '', true);
select is(tests.entries('user.password_changed'), 2::bigint, 'another hash of the same password is none');
update auth.users set email_change = 'new@example.test' where id = tests.id('adm');
select is((tests.entry('user.email_change_requested')).personal -> 'after' ->> 'email', 'new@example.test', 'a change of address that is asked for');
update auth.users set email = 'new@example.test', email_change = '' where id = tests.id('adm');
select is(
  (tests.entry('user.email_changed')).personal, '{"before": {"email": "adm@example.test"}, "after": {"email": "new@example.test"}}'::jsonb, 'and done'
);
select is(tests.entries('user.email_change_requested'), 1::bigint, 'which is no further request');
select private.audit_lock_user(tests.id('adm'));
select is((tests.entry('user.locked')).subject_user_id, tests.id('adm'), 'a locked account');

-- ---- erasure leaves the digest
create temporary table digests as select e.id, private.audit_entry_digest(e) as digest from public.audit_log as e where e.org_id = tests.org('ada');
-- Many others, who wait for their last look.
insert into private.audit_erasures (user_id, requested_at, looked_at)
select gen_random_uuid(), now() - interval '1 minute', now() from generate_series(1, 600);
delete from auth.users where id = tests.id('adm');
select ok(private.audit_erase() > 0, 'a deleted user is erased');
select is_empty(
  $$select 1 from public.audit_log as e where e.created_by = tests.id('adm') and num_nonnulls(e.address, e.user_agent, e.origin_salt) > 0$$, 'with where they acted from'
);
select is_empty(
  $$select 1 from public.audit_log as e where e.subject_user_id = tests.id('adm') and num_nonnulls(e.personal, e.personal_salt) > 0$$, 'and their addresses'
);
select is_empty(
  $$select 1 from digests as d join public.audit_log as e using (id) where d.digest <> private.audit_entry_digest(e)$$, 'and no digest changes'
);
select is(tests.entries('audit.erased') > 0, true, 'an entry says so');
select tests.refuses(
  format('update public.audit_log set action = ''a.b'', origin_salt = null where id = %L', (tests.entry('member.updated')).id), 'permission_denied', 'once only'
);

-- ---- the end of an organization
delete from public.organizations where id = tests.org('bob');
select is(
  (select e.actor_kind from public.audit_log as e where e.org_id = kijko.platform_org_id() and e.action = 'organization.deleted' and e.target_id = (
    select f.org_id::text from tests.first_organizations as f where f.user_id = tests.id('bob'))),
  'operator', 'is an entry of the platform'
);
select lives_ok(
  $$delete from public.audit_log where org_id = (select f.org_id from tests.first_organizations as f where f.user_id = tests.id('bob'))$$, 'its log may go'
);

-- ---- the check of entries: each term alone is at its edge, then beyond it
select tests.act_as_superuser();
select is(
  private.audit_is_entry(
    'a.' || repeat('b', 98), repeat('r', 63), repeat('t', 60), repeat('i', 200), repeat('q', 200), repeat('u', 512), gen_random_uuid(), null, null, 'x'
  ),
  true, 'an entry at every edge is written'
);
select is_empty(
  $$select c.n from (values
      (1, private.audit_is_entry('a.' || repeat('b', 99), 'r', 't', 'i', 'q', 'u', gen_random_uuid(), null, null, 'x')),
      (2, private.audit_is_entry('A.b', 'r', 't', 'i', 'q', 'u', gen_random_uuid(), null, null, 'x')),
      (3, private.audit_is_entry('a.b', repeat('r', 64), 't', null, null, null, gen_random_uuid(), null, null, 'x')),
      (4, private.audit_is_entry('a.b', 'r', repeat('t', 61), null, null, null, gen_random_uuid(), null, null, 'x')),
      (5, private.audit_is_entry('a.b', 'r', 't', repeat('i', 201), null, null, gen_random_uuid(), null, null, 'x')),
      (6, private.audit_is_entry('a.b', 'r', 't', null, repeat('q', 201), null, gen_random_uuid(), null, null, 'x')),
      (7, private.audit_is_entry('a.b', 'r', 't', null, null, repeat('u', 513), gen_random_uuid(), null, null, 'x')),
      (8, private.audit_is_entry('a.b', 'r', 't', null, null, null, null, null, null, 'x')),
      (9, private.audit_is_entry('a.b', 'r', 't', null, null, null, gen_random_uuid(), 'x', null, 'x')),
      (10, private.audit_is_entry('a.b', 'r', 't', null, null, null, gen_random_uuid(), null, null, null)),
      (11, private.audit_is_entry('a.b', 'r', 't', null, null, null, gen_random_uuid(), null, gen_random_uuid(), 'x'))
    ) as c (n, fits) where c.fits is not false$$,
  'and none beyond one, whatever else is null'
);

select * from finish();
rollback;
