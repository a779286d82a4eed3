-- Webhooks: who may see and change endpoints and messages, what may be stored, and which events become messages.
begin;
\ir 000_helpers.sql
select plan(75);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem'), tests.sign_up('cus');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('cus', tests.org('ada'), 'member');

select is_empty(
  $$select ascii(v.c) from unnest(array[chr(1), chr(9), chr(10), chr(13), ' ', chr(127)]) as v (c), unnest(array['https://exa%smple.com/', 'https://example.com/%s', '%shttps://example.com/']) as u (form)
    where kijko.http_request_problem('POST', format(u.form, v.c), '{}', null, null) is null$$,
  'no blank and no control character anywhere, which the parser would drop'
);
-- The columns themselves, whoever writes them.
select is(
  (select string_agg(c.conrelid::regclass || '.' || a.attname, ' ' order by c.conrelid::regclass::text) from pg_constraint as c
    join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
    where c.contype = 'c' and pg_get_constraintdef(c.oid) ~ '\\u0001-\\u0020\\u007f' and a.attname ~ 'url$'),
  'auth_api.settings.site_url private.mail_settings.site_url profiles.avatar_url webhook_endpoints.url',
  'every URL that is stored has the check'
);

-- What the outbox holds for an endpoint; only a superuser sees it here.
create function tests.outbox(endpoint uuid) returns table (id uuid, url text, headers jsonb, body jsonb, signing jsonb, key text, state text)
language sql security definer as $$
  select q.id, q.url, q.headers, q.body::jsonb, q.signing, q.key, q.state
  from kijko.http_requests as q join private.webhook_requests as r on r.request_id = q.id
  where r.endpoint_id = endpoint order by q.seq
$$;
create function tests.secrets(endpoint uuid) returns bigint language sql security definer as $$
  select count(*) from kijko.http_secrets as s where s.name like 'webhook.' || endpoint || '.%'
$$;
create function tests.unseal(endpoint uuid, slot text) returns text language sql security definer as $$
  select kijko.unseal(s.sealed, kijko.http_secret_context(s.org_id, s.name)) from kijko.http_secrets as s where s.name = 'webhook.' || endpoint || '.' || slot
$$;
create function tests.types(org uuid) returns text language sql security definer as $$
  select string_agg(m.type, ' ' order by m.created_at, m.type) from public.webhook_messages as m where m.org_id = org
$$;

-- ---- the endpoint
select tests.act_as('ada');
insert into public.webhook_endpoints (url) values ('https://hooks.example.com/in') returning id as hook, public.webhook_secret(webhook_endpoints) as secret \gset
select matches(:'secret'::text, '^whsec_[A-Za-z0-9+/]{43}=$', 'an insert shows the secret');
select is(tests.unseal(:'hook', 'current'), :'secret'::text, 'which the outbox has');
select is(tests.unseal(:'hook', 'former'), :'secret'::text, 'for both of its names');
select is((select public.webhook_secret(e) from public.webhook_endpoints as e where e.id = :'hook' and set_config('issued.secrets', '', true) is not null), null::text, 'and nobody sees again');

-- ---- non-members, visitors, viewers, members, keys
select tests.act_as('bob');
select is((select count(*) from public.webhook_endpoints), 0::bigint, 'a non-member sees no endpoint');
select is((select count(*) from public.webhook_messages), 0::bigint, 'and no message');
select tests.refuses(format('insert into public.webhook_endpoints (org_id, url) values (%L, ''https://evil.example.com/'')', tests.org('ada')), '42501', 'makes none');
select tests.refuses(format('select public.send_test_webhook(%L)', :'hook'), 'not_found', 'tests none');
select tests.refuses(format('select public.rotate_webhook_secret(%L)', :'hook'), 'not_found', 'rotates no secret');
select tests.refuses(format('select public.recover_webhooks(%L, now())', :'hook'), 'not_found', 'recovers nothing');
select tests.refuses(format('select public.redeliver_webhook(gen_random_uuid(), %L)', :'hook'), 'not_found', 'redelivers nothing');
select tests.refuses(format('select * from public.list_webhook_deliveries(%L)', :'hook'), 'not_found', 'reads no log');
update public.webhook_endpoints set url = 'https://evil.example.com/' where id = :'hook';
delete from public.webhook_endpoints where id = :'hook';
select tests.act_as_anon();
select throws_ok('select * from public.webhook_endpoints', '42501', null, 'a visitor reads no endpoint');
select throws_ok('select * from public.webhook_messages', '42501', null, 'no message');
select throws_ok(format('select public.send_test_webhook(%L)', :'hook'), '42501', null, 'calls nothing');
select isnt_empty('select * from public.webhook_event_types', 'and may read the catalogue');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.webhook_endpoints), 0::bigint, 'a viewer sees no endpoint');
select tests.refuses(format('select public.send_test_webhook(%L)', :'hook'), 'not_found', 'nor tests one');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.webhook_endpoints), 0::bigint, 'neither does a member');
select tests.refuses(format('insert into public.webhook_endpoints (org_id, url) values (%L, ''https://mem.example.com/'')', tests.org('ada')), '42501', 'who makes none');
select tests.act_as('ada');
select is((select url from public.webhook_endpoints where id = :'hook'), 'https://hooks.example.com/in', 'nothing of it changed');
select id as reader from public.create_api_key('reads', '["webhooks:read"]'::jsonb) \gset
select is(tests.by_key(:'reader', 'select count(*) from public.webhook_endpoints'), '1', 'a key with webhooks:read sees it');
select is(tests.by_key(:'reader', format('select public.send_test_webhook(%L)', :'hook')), '42501', 'and sends no test');
select tests.act_as('ada');

-- ---- what may be stored
select tests.refuses($$insert into public.webhook_endpoints (url) values ('http://127.0.0.1/')$$, 'invalid_input', 'no private address');
select tests.refuses($$insert into public.webhook_endpoints (url) values ('http://169.254.169.254/latest')$$, 'invalid_input', 'no metadata service');
select tests.refuses($$insert into public.webhook_endpoints (url) values ('ftp://example.com/')$$, 'invalid_input', 'no other scheme');
select tests.refuses($$insert into public.webhook_endpoints (url) values ('https://user:pass@example.com/')$$, 'invalid_input', 'no credentials');
select tests.refuses(format('insert into public.webhook_endpoints (url) values (%L)', E'https://exa\tmple.com/'), 'invalid_input', 'also when it is stored');
select tests.refuses(format('update public.webhook_endpoints set url = ''http://[::1]/'' where id = %L', :'hook'), 'invalid_input', 'nor by a change');
select tests.refuses($$insert into public.webhook_endpoints (url, event_types) values ('https://example.com/', '{no.such}')$$, 'invalid_input', 'no unknown type');
select tests.refuses($$insert into public.webhook_endpoints (url, event_types) values ('https://example.com/', '{member.joined,member.joined}')$$, 'invalid_input', 'no type twice');
select tests.refuses($$insert into public.webhook_endpoints (url, event_types) values ('https://example.com/', '{null}')$$, 'invalid_input', 'no null');
select throws_ok($$insert into public.webhook_endpoints (url, filter) values ('https://example.com/', '{"a": {"b": 1}}')$$, '23514', null, 'a filter has plain values');
select throws_ok($$insert into public.webhook_endpoints (url, filter) values ('https://example.com/', '[]')$$, '23514', null, 'and is an object');
select throws_ok($$insert into public.webhook_endpoints (url, failure_count) values ('https://example.com/', 1)$$, '42501', null, 'the figures are the database''s');
select tests.refuses(format('update public.webhook_endpoints set signature = ''ed25519'' where id = %L', :'hook'), 'conflict', 'the signature never changes');
update public.webhook_endpoints set event_types = '{*}' where id = :'hook';
select is((select event_types from public.webhook_endpoints where id = :'hook'), null, 'a star is all types');

-- ---- whoever lacks a permission lets no endpoint have it
insert into public.custom_roles (name, base_role, permissions) values ('hooks', 'member', '{webhooks:read,webhooks:write,members:read}') returning id as role \gset
update public.memberships set custom_role_id = :'role' where org_id = tests.org('ada') and user_id = tests.id('cus');
select tests.act_as('cus', tests.org('ada'));
select tests.refuses($$insert into public.webhook_endpoints (url) values ('https://cus.example.com/')$$, 'permission_denied', 'not all types');
select tests.refuses($$insert into public.webhook_endpoints (url, event_types) values ('https://cus.example.com/', '{subscription.changed}')$$, 'permission_denied', 'not those of billing');
select tests.refuses($$insert into public.webhook_endpoints (url, event_types, include_private_projects) values ('https://cus.example.com/', '{member.joined}', true)$$, 'permission_denied', 'no private projects');
insert into public.webhook_endpoints (url, event_types) values ('https://cus.example.com/', '{member.joined,member.removed}') returning id as cus_hook \gset
select tests.refuses(format('update public.webhook_endpoints set url = ''https://cus.example.com/'' where id = %L', :'hook'), 'permission_denied', 'nor points another endpoint at a server of their own');
select lives_ok(format('update public.webhook_endpoints set enabled = false where id = %L', :'hook'), 'but may switch one off');
select tests.refuses(format('update public.webhook_endpoints set enabled = true where id = %L', :'hook'), 'permission_denied', 'and not on');
select tests.act_as('ada');
select results_eq(format('select disabled_reason, disabled_at is not null from public.webhook_endpoints where id = %L', :'hook'), $$values ('user'::text, true)$$, 'which shows');
update public.webhook_endpoints set enabled = true where id = :'hook';
select is((select disabled_reason from public.webhook_endpoints where id = :'hook'), null::text, 'until it is on again');

-- ---- events
insert into public.projects (name) values ('Open') returning id as project \gset
select results_eq(format('select url, headers ->> ''Event-Version'', signing -> ''secrets'', state from tests.outbox(%L)', :'hook'),
  format($$values ('https://hooks.example.com/in', '1', '["webhook.%1$s.current", "webhook.%1$s.former"]'::jsonb, 'pending')$$, :'hook'),
  'an event is in the outbox, and names secrets');
select results_eq(format('select body ->> ''type'', body -> ''data'' ->> ''id'', body -> ''data'' ->> ''org_id'', body ? ''timestamp'' from tests.outbox(%L)', :'hook'),
  format('values (%L, %L, %L, true)', 'project.created', :'project', tests.org('ada')), 'with the payload of Standard Webhooks');
select is((select signing ->> 'id' from tests.outbox(:'hook')), 'msg_' || (select id from public.webhook_messages where type = 'project.created'), 'by the id of its message');
select is((select count(*) from tests.outbox(:'cus_hook')), 0::bigint, 'who does not want the type gets nothing');
select public.archive_project(:'project');
select results_eq(format('select state, key from tests.outbox(%L)', :'hook'),
  format($$values ('pending', 'webhook:%1$s:%2$s'), ('waiting', 'webhook:%1$s:%2$s')$$, :'hook', :'project'), 'what is about one thing goes in its order');

-- ---- private projects
insert into public.projects (name, visibility) values ('Hidden', 'private') returning id as hidden \gset
select is(tests.types(tests.org('ada')), 'project.archived project.created', 'an event of a private project is not sent');
update public.webhook_endpoints set include_private_projects = true where id = :'hook';
select public.archive_project(:'hidden');
select is((select count(*) from public.webhook_messages where project_id = :'hidden'), 1::bigint, 'unless the endpoint wants it');
select tests.act_as_superuser();
insert into public.custom_roles (org_id, name, base_role, permissions) values (tests.org('ada'), 'log', 'member', '{webhooks:read,webhooks:write,projects:read}') returning id as log \gset
update public.memberships set custom_role_id = :'log' where org_id = tests.org('ada') and user_id = tests.id('cus');
select tests.act_as('cus', tests.org('ada'));
select is((select string_agg(type, ' ' order by type) from public.webhook_messages), 'project.archived project.created', 'who does not see the project sees no message of it');
select is((select count(*) from public.list_webhook_deliveries(:'hook')), 2::bigint, 'and no delivery');

-- ---- a filter, members and invitations
select tests.act_as('ada');
insert into public.webhook_endpoints (url, event_types, filter) values ('https://filter.example.com/', '{invitation.sent,invitation.accepted,subscription.changed}', '{"role": "viewer"}') returning id as filtered \gset
select public.invite_member('one@example.com', 'member'), public.invite_member('two@example.com', 'viewer');
select is((select string_agg(body -> 'data' ->> 'email', ' ') from tests.outbox(:'filtered')), 'two@example.com', 'a filter compares fields');
select tests.act_as_service();
update public.subscriptions set status = 'past_due' where org_id = tests.org('ada');
select tests.act_as_superuser();
-- A trigger writes the plan; the statement names the override only.
update public.subscriptions set plan_override = 'ENTERPRISE' where org_id = tests.org('ada');
delete from public.memberships where org_id = tests.org('ada') and user_id = tests.id('mem');
select results_eq(format($$select body ->> 'type', count(*) from tests.outbox(%L) group by 1 order by 1$$, :'hook'),
  $$values ('invitation.sent', 2::bigint), ('member.removed', 1), ('project.archived', 2), ('project.created', 1), ('subscription.changed', 2)$$, 'every kind of event arrives');
select is((select string_agg(body ->> 'type', ' ') from tests.outbox(:'cus_hook')), 'member.removed', 'each endpoint gets its types');
insert into public.repositories (org_id, clone_url) values (tests.org('ada'), 'https://github.com/acme/docs');
select private.notifications_send(tests.org('ada'), null, 'usage.threshold', '{"meter": "executions", "threshold": 80}', 'usage:test');
select private.notifications_send(tests.org('ada'), null, 'usage.threshold', '{"meter": "executions", "threshold": 80}', 'usage:test');
select is((select string_agg(body ->> 'type', ' ') from tests.outbox(:'hook') where body ->> 'type' in ('usage.threshold', 'repository.added')), 'repository.added usage.threshold', 'a threshold once');
select is(tests.types(tests.org('bob')), null::text, 'another organization has no message');

-- ---- an execution
select tests.skill(tests.org('ada')) as skill \gset
select tests.act_as('ada');
select id as execution from public.execute_skill(:'skill', '{"text": "x"}') \gset
select public.cancel_execution(:'execution');
select is((select body -> 'data' ->> 'id' from tests.outbox(:'hook') where body ->> 'type' = 'execution.cancelled'), :'execution', 'an execution that ends is an event');

-- ---- rotation
select secret as fresh, former_secret_until from public.rotate_webhook_secret(:'hook') \gset
select is(tests.unseal(:'hook', 'current'), :'fresh'::text, 'a rotation makes a secret');
select is(tests.unseal(:'hook', 'former'), :'secret'::text, 'and keeps the former one');
select is(:'former_secret_until'::timestamptz, kijko.now() + interval '1 day', 'for a day');
select tests.refuses(format('select public.rotate_webhook_secret(%L, ''31 days'')', :'hook'), 'invalid_input', 'not longer than 30');
select tests.act_as_superuser();
select set_config('kijko.clock_offset', '86401', true);
select is(private.webhooks_end_overlaps(), 1, 'a schedule ends the overlap');
select is(tests.unseal(:'hook', 'former'), :'fresh'::text, 'then only the new one signs');
select set_config('kijko.clock_offset', '0', true);
select tests.act_as('ada');
select secret as third from public.rotate_webhook_secret(:'hook', '0') \gset
select is(tests.unseal(:'hook', 'former'), :'third'::text, 'without an overlap the former one ends at once');
insert into public.webhook_endpoints (url, signature, event_types) values ('https://ed.example.com/', 'ed25519', '{webhook.test}')
returning id as ed, public_key as public_key, public.webhook_secret(webhook_endpoints) is null as hidden_key \gset
select ok(:'hidden_key'::boolean and :'public_key' ~ '^whpk_[A-Za-z0-9+/]{43}=$', 'ed25519 shows the public key only');
select ok((select secret is null and public_key ~ '^whpk_' and public_key <> :'public_key' from public.rotate_webhook_secret(:'ed')), 'also after a rotation');

-- ---- the end
select tests.outbox(:'hook');
delete from public.webhook_endpoints where id = :'filtered';
select is(tests.secrets(:'filtered'), 0::bigint, 'a deleted endpoint leaves no secret');
select tests.act_as_superuser();
select is((select count(*) from kijko.http_requests where url = 'https://filter.example.com/' and state = 'pending'), 0::bigint, 'and nothing to send');
select tests.org('ada') as org \gset
delete from public.organizations where id = :'org';
select is(tests.secrets(:'hook') + tests.secrets(:'ed'), 0::bigint, 'nor does a deleted organization leave a secret');
select results_eq(format('select distinct state from kijko.http_requests where org_id = %L', :'org'), $$values ('cancelled'::text)$$, 'or a request that is sent');

select * from finish();
rollback;
