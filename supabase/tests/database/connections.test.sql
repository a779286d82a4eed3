-- Connections: who may see, make and remove them, what binds a flow, and what becomes of a token.
begin;
\ir 000_helpers.sql
select plan(68);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');

create function tests.begin(who text, args text) returns text language plpgsql as $$
declare
  url text;
begin
  perform tests.act_as(who, tests.org('ada'));
  execute format('select substring((public.begin_connection(%s)).url from ''ticket=(.*)$'')', args) into url;
  return url;
end
$$;
-- As the sidecar: from the ticket to the code.
create function tests.authorize(ticket text, account text, refresh text default 'r1', expires_in integer default 3600) returns text language plpgsql as $$
declare
  taken jsonb;
begin
  perform tests.act_as_sidecar();
  perform private.connections_take_ticket(ticket, 'state-' || ticket, 'browser-' || ticket);
  taken := private.connections_take_state('state-' || ticket, 'browser-' || ticket);
  return substring(private.connections_authorized((taken ->> 'flow')::uuid, jsonb_build_object(
    'profile', jsonb_build_object('sub', account, 'preferred_username', 'login-' || account),
    'tokens', jsonb_build_object('access_token', 'access-' || account, 'refresh_token', refresh, 'expires_in', expires_in, 'scope', 'repo,read:org')
  )) from 'connection_code=(.*)$');
end
$$;
create function tests.tokens(connection uuid) returns setof private.connection_tokens language sql security definer as $$
  select t.* from private.connection_tokens as t where t.connection_id = connection
$$;

create function tests.queued(connection uuid) returns bigint language sql security definer as $$
  select count(*) from public.jobs as j where j.kind = 'connection_refresh' and j.payload ->> 'connection_id' = connection::text
$$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.connections', '42501', null, 'anon reads none');
select throws_ok($$select public.begin_connection('github')$$, '42501', null, 'anon begins none');
select throws_ok($$select public.complete_connection('x')$$, '42501', null, 'anon completes none');
select throws_ok($$select public.list_connection_providers()$$, '42501', null, 'anon lists no providers');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.begin_connection('github')$$, 'not_a_member', 'a non-member begins none');
select tests.refuses($$select public.list_connection_providers()$$, 'not_a_member', 'or lists providers');

-- ---- providers
select tests.act_as('ada', tests.org('ada'));
select tests.refuses($$select public.begin_connection('github')$$, 'invalid_input', 'a provider that no sidecar names is none');
select tests.act_as_sidecar();
select lives_ok($$select private.connections_register_providers('[{"name": "github", "scopes": ["repo", "read:org"]}, {"name": "gitlab", "scopes": []}]')$$, 'a sidecar names its providers');
select throws_ok('select * from private.connection_providers', '42501', null, 'and reads no table');
select tests.act_as_superuser();
update private.connection_providers set registered_at = now() - interval '6 minutes' where name = 'gitlab';
select tests.act_as('mem', tests.org('ada'));
select results_eq(
  $$select * from public.list_connection_providers() where provider in ('github', 'gitlab')$$, $$values ('github', '{repo,read:org}'::text[])$$,
  'one that was not named for five minutes is switched off'
);

-- ---- who may begin
select tests.refuses($$select public.begin_connection('github')$$, 'permission_denied', 'a member begins none');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select public.begin_connection('github')$$, 'permission_denied', 'a viewer begins none');
select tests.refuses($$select public.list_connection_providers()$$, 'permission_denied', 'or lists providers');
select tests.act_as_superuser();
select tests.make_key(tests.org('ada'), '["connections:write", "connections:read"]') as key \gset
select tests.act_as_key(:'key');
select tests.refuses($$select public.begin_connection('github')$$, 'permission_denied', 'nor a key');
select tests.refuses($$select public.complete_connection('x')$$, 'permission_denied', 'which completes none either');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses($$select public.begin_connection('gitlab')$$, 'invalid_input', 'not at a provider that is off');
select tests.refuses($$select public.begin_connection('github', '{admin:org}')$$, 'invalid_input', 'not for a scope that the operator does not allow');
select tests.refuses($$select public.begin_connection('github', '{NULL}')$$, 'invalid_input', 'nor for none at all');
select tests.refuses($$select public.begin_connection('github', redirect_to => 'https://evil.example/')$$, 'invalid_input', 'not to another site');
select tests.refuses(format($$select public.begin_connection(connection_id => %L)$$, gen_random_uuid()), 'not_found', 'not again what is not there');

-- ---- from ticket to code
select tests.begin('ada', $$'github', '{repo}', 'http://127.0.0.1:3000/?a=b#c'$$) as ticket \gset
select tests.act_as_sidecar();
select is(private.connections_take_ticket('other', 's', 'b'), null, 'an unknown ticket is none');
select private.connections_take_ticket(:'ticket', 'state', 'browser') as taken \gset
select is(:'taken'::jsonb ->> 'provider' || (:'taken'::jsonb ->> 'scopes'), 'github["repo"]', 'a ticket says where to, and for what');
select matches(:'taken'::jsonb ->> 'callback', '/auth/v1/callback/connection$', 'and where the provider sends the browser');
select is(private.connections_take_ticket(:'ticket', 's', 'b'), null, 'once');
select is(private.connections_take_state('state', 'other'), null, 'a state of another browser is none');
select is(private.connections_take_state('state', ''), null, 'nor without a browser');
select is(private.connections_take_state('other', 'browser'), null, 'nor another state');
select private.connections_take_state('state', 'browser') ->> 'flow' as flow \gset
select is(private.connections_take_state('state', 'browser'), null, 'a state is taken once');
select is(
  private.connections_fail(:'flow', E'access"denied', E'no\u0007way'),
  'http://127.0.0.1:3000/?a=b&connection_error=server_error&connection_error_description=noway#c', 'an error goes back, without what is no plain text'
);
select is(private.connections_authorized(:'flow', '{}'), null, 'a flow ends once');

-- ---- completion
select tests.authorize(tests.begin('ada', $$'github', '{repo}'$$), '17') as code \gset
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.complete_connection(%L)', :'code'), 'not_found', 'a code is of the member who began');
select tests.act('authenticated', tests.token('authenticated') || jsonb_build_object('aud', 'authenticated', 'sub', tests.id('ada'), 'session_id', tests.id('bob')), tests.org('ada'));
select throws_ok(format('select public.complete_connection(%L)', :'code'), null, null, 'and of the session');
select tests.act_as('ada', tests.org('ada'));
select (c.x).id as connection, (c.x).scopes as scopes, (c.x).account_name as account, (c.x).status as status
from (select public.complete_connection(:'code') as x offset 0) as c \gset
select is(:'account' || ' ' || :'status' || ' ' || :'scopes', 'login-17 active {read:org,repo}', 'the row has what the provider says');
select tests.refuses(format('select public.complete_connection(%L)', :'code'), 'not_found', 'a code is good once');
select throws_ok($$insert into public.connections (provider, account_id) values ('github', '1')$$, '42501', null, 'there is no other way to make one');
select throws_ok($$update public.connections set status = 'active'$$, '42501', null, 'or to change one');
select throws_ok('select * from private.connection_tokens', '42501', null, 'tokens are private');
select throws_ok(format('select private.connections_use(%L, %L)', tests.org('ada'), :'connection'), '42501', null, 'also by the function of jobs');
select tests.act_as_service();
select throws_ok(format('select private.connections_use(%L, %L)', tests.org('ada'), :'connection'), '42501', null, 'and for the back office');

-- ---- who sees and removes
select tests.act_as('bob');
select is_empty('select 1 from public.connections', 'a non-member sees none');
select is(tests.changed('delete from public.connections'), 0::bigint, 'and removes none');
select tests.act_as('vic', tests.org('ada'));
select is_empty('select 1 from public.connections', 'a viewer sees none');
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed('delete from public.connections'), 0::bigint, 'a member sees it, and removes none');
select isnt_empty('select 1 from public.connections', 'indeed');
select is(tests.by_key(:'key', 'select count(*) from public.connections'), '1', 'a key sees it by permission');

-- ---- using and refreshing
select tests.act_as_sidecar();
select is(private.connections_use(tests.org('ada'), :'connection') ->> 'access_token', 'access-17', 'a job of the organization gets the token');
select is(private.connections_use(tests.org('bob'), :'connection'), null, 'one of another organization does not');
select tests.act_as_superuser();
select unalike((select t::text from tests.tokens(:'connection') as t), '%access-17%', 'it is stored sealed');
select private.connections_enqueue_due() >= 0;
select is(tests.queued(:'connection'), 0::bigint, 'nothing is due');
select tests.travel('50 minutes');
select private.connections_enqueue_due() > 0;
select is(tests.queued(:'connection'), 1::bigint, 'it is due before it expires');
select tests.travel('1 hour');
select private.connections_enqueue_due() >= 0;
select is(tests.queued(:'connection'), 1::bigint, 'and queued once');
select j.id as job, j.attempt as attempt from private.jobs_claim('w', '1 minute', 1000, array['connection_refresh']) as j
where j.payload ->> 'connection_id' = :'connection' \gset
select tests.act_as_sidecar();
select private.connections_start_refresh('w', :'job', :attempt) as work \gset
select is(:'work'::jsonb ->> 'refresh_token', 'r1', 'the job gets the refresh token');
select ok((private.connections_start_refresh('w', :'job', :attempt) ->> 'wait')::integer between 1 and 60, 'another one waits');
select private.connections_refresh_failed((:'work'::jsonb ->> 'token')::uuid, 1, false, true, 'provider_refused');
select tests.act_as_superuser();
select is((select c.status || ' ' || c.error_code from public.connections as c where c.id = :'connection'), 'active provider_refused', 'a failure that may pass pauses nothing');
select tests.act_as_sidecar();
select private.connections_start_refresh('w', :'job', :attempt) ->> 'generation' as generation \gset
select ok(private.connections_refreshed((:'work'::jsonb ->> 'token')::uuid, :generation, '{"access_token": "a2", "refresh_token": "r2", "expires_in": 3600}'), 'the new token is stored');
select ok(not private.connections_refreshed((:'work'::jsonb ->> 'token')::uuid, :generation, '{"access_token": "late"}'), 'a late answer to the former one is not');
select is(private.connections_use(tests.org('ada'), :'connection') ->> 'access_token', 'a2', 'the newest is used');

-- ---- a refresh that was interrupted, and the pause
select private.connections_start_refresh('w', :'job', :attempt) is not null;
select tests.act_as_superuser();
update private.connection_tokens set refresh_started_at = now() - interval '2 minutes' where connection_id = :'connection';
select tests.act_as_sidecar();
select private.connections_start_refresh('w', :'job', :attempt) is not null;
select private.connections_refresh_failed((:'work'::jsonb ->> 'token')::uuid, 2, true, true, '');
select private.connections_refresh_failed((:'work'::jsonb ->> 'token')::uuid, 2, true, true, '');
select tests.act_as_superuser();
select is((select c.status || ' ' || c.paused_reason from public.connections as c where c.id = :'connection'), 'paused refresh_interrupted', 'the connection is paused and says why');
select is((select count(*) from public.notifications as n where n.data ->> 'connection_id' = :'connection'), 1::bigint, 'with one notice');
select is(private.connections_use(tests.org('ada'), :'connection'), '{"status": "paused", "reason": "refresh_interrupted"}', 'and gives no token');

-- ---- again, and the end
select tests.authorize(tests.begin('adm', format('connection_id => %L', :'connection')), '18') as code \gset
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.complete_connection(%L)', :'code'), 'conflict', 'another account is refused');
select tests.authorize(tests.begin('adm', format('connection_id => %L', :'connection')), '17', refresh => 'r3') as code \gset
select tests.act_as('adm', tests.org('ada'));
select is((public.complete_connection(:'code')).id, :'connection'::uuid, 'the same account keeps the row');
delete from public.memberships where user_id = tests.id('adm') and org_id = tests.org('ada');
select tests.act_as('ada', tests.org('ada'));
select ok((select c.authorizer_left_at is not null and c.status = 'active' from public.connections as c), 'it goes on without the member, and shows it');
select is(tests.changed('delete from public.connections'), 1::bigint, 'an owner removes it');
select tests.act_as_superuser();
delete from private.connection_tokens as t where t.connection_id is null and t.flow_id is null and t.organization <> tests.org('ada');
select tests.act_as_sidecar();
select results_eq(
  $$select d ->> 'refresh_token', d ->> 'replaced' from jsonb_array_elements(private.connections_claim_revocations()) as d where d ->> 'refresh_token' in ('r2', 'r3') order by 1$$,
  $$values ('r2', 'true'), ('r3', 'false')$$, 'both tokens wait to be revoked'
);
select is(jsonb_array_length(private.connections_claim_revocations()), 0, 'leased for a while');

select tests.act_as_superuser();
select results_eq(
  format($$select m.payload ->> 'status' from realtime.messages as m where m.topic = 'org:%s' and m.event = 'connection' order by 1$$, tests.org('ada')),
  array['active', 'active', 'paused', 'removed'], 'each step is an event of realtime'
);

select is(
  (select string_agg(a.action || coalesce(' ' || (a.after ->> 'status'), ''), ', ' order by a.seq) from public.audit_log as a
   where a.target_id = :'connection'),
  'connection.created active, connection.updated paused, connection.updated active, connection.updated, connection.deleted',
  'and an entry of the audit log'
);

select * from finish();
rollback;
