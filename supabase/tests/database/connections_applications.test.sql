-- Applications of organizations at providers: who may see, set and remove them, and what becomes of their tokens.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
select private.connections_register_providers('[{"name": "twitter", "scopes": []}, {"name": "linkedin", "scopes": []}]');

create function tests.begin() returns text language plpgsql as $$
begin
  perform tests.act_as('adm', tests.org('ada'));
  return substring((public.begin_connection('twitter')).url from 'ticket=(.*)$');
end
$$;
-- As the sidecar: what it is told at the callback.
create function tests.taken(ticket text) returns jsonb language plpgsql as $$
begin
  perform tests.act_as_sidecar();
  perform private.connections_take_ticket(ticket, 'state-' || ticket, 'browser-' || ticket);
  return private.connections_take_state('state-' || ticket, 'browser-' || ticket);
end
$$;
create function tests.authorize(flow uuid, account text) returns text language sql as $$
  select substring(private.connections_authorized(flow, jsonb_build_object(
    'profile', jsonb_build_object('sub', account), 'tokens', jsonb_build_object('access_token', 'access-' || account, 'refresh_token', 'r', 'expires_in', 3600)
  )) from 'connection_(?:code|error)=([^&]*)')
$$;
create function tests.applications() returns bigint language sql security definer as $$
  select count(*) from private.connection_application_secrets as s where s.organization = tests.org('ada')
$$;
create function tests.state(connection uuid) returns text language sql security definer as $$
  select c.status || coalesce(' ' || c.paused_reason, '') from public.connections as c where c.id = connection
$$;

-- ---- unauthenticated callers, non-members and colleagues first
select tests.act_as_anon();
select throws_ok('select * from public.connection_applications', '42501', null, 'an unauthenticated caller reads none');
select throws_ok('delete from public.connection_applications', '42501', null, 'removes none');
select throws_ok($$select public.set_connection_application('twitter', 'a', 's')$$, '42501', null, 'and sets none');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.set_connection_application('twitter', 'a', 's')$$, 'not_a_member', 'a non-member sets none');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select public.set_connection_application('twitter', 'a', 's')$$, 'permission_denied', 'nor does a viewer');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.set_connection_application('twitter', 'a', 's')$$, 'permission_denied', 'or a member');
select tests.act_as_superuser();
select tests.make_key(tests.org('ada'), '["connections:read", "content:write"]') as reader \gset
select tests.make_key(tests.org('ada'), '["connections:read", "connections:write"]', name => 'writer') as writer \gset
select is(tests.by_key(:'reader', $$select public.set_connection_application('twitter', 'a', 's')$$, tests.org('ada')), '42501', 'nor a key without the permission');

-- ---- what is refused
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.set_connection_application(%L, %L, %L)', p, i, s), 'invalid_input', coalesce(p, 'null') || ' ' || left(coalesce(i, 'null'), 9))
from (values
  ('github', 'a', 's'), (null, 'a', 's'), ('twitter', null, 's'), ('twitter', '', 's'), ('twitter', 'a b', 's'), ('twitter', repeat('a', 256), 's'),
  ('twitter', 'a', null), ('twitter', 'a', ''), ('twitter', 'a', E's\n'), ('twitter', 'a', 'ü'), ('twitter', 'a', repeat('s', 2049))
) as v (p, i, s);
select throws_ok($$insert into public.connection_applications (provider, client_id) values ('twitter', 'a')$$, '42501', null, 'there is no other way to make one');
select throws_ok($$update public.connection_applications set client_id = 'b'$$, '42501', null, 'or to change one');

-- ---- set, and used by what begins now
select tests.begin() as before \gset
select tests.act_as('adm', tests.org('ada'));
select (public.set_connection_application('twitter', 'app-1', 'secret-1')).id as application \gset
select is(tests.taken(:'before') -> 'application', 'null', 'what began before is asked by the operator''s application');
select tests.taken(tests.begin()) as taken \gset
select is(:'taken'::jsonb -> 'application', '{"client_id": "app-1", "client_secret": "secret-1"}', 'what begins now by that of the organization');
select tests.authorize((:'taken'::jsonb ->> 'flow')::uuid, '7') as code \gset
select tests.act_as('adm', tests.org('ada'));
select (c.x).id as connection from (select public.complete_connection(:'code') as x offset 0) as c \gset
select tests.act_as_sidecar();
select is(private.connections_use(tests.org('ada'), :'connection') ->> 'own_application', 'true', 'a job is told whose application the token is of');
select tests.act_as_superuser();
select ok(private.connections_has_application(tests.org('ada'), :'connection') and not private.connections_has_application(tests.org('bob'), :'connection'), 'and so are prices');
select unalike((select s::text from private.connection_application_secrets as s where s.organization = tests.org('ada')), '%secret-1%', 'the secret is stored sealed');
select is((select count(*) from public.audit_log as a where a.org_id = tests.org('ada') and a.action like 'connection_application.%' and a::text like '%secret-1%'), 0::bigint, 'and not in the audit log');

-- ---- who sees it
select tests.act_as('bob');
select is_empty('select 1 from public.connection_applications', 'a non-member sees none');
select is(tests.changed('delete from public.connection_applications'), 0::bigint, 'and removes none');
select tests.act_as('vic', tests.org('ada'));
select is_empty('select 1 from public.connection_applications', 'a viewer sees none');
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed('delete from public.connection_applications'), 0::bigint, 'a member removes none');
select results_eq('select client_id from public.connection_applications', array['app-1'], 'but sees it');
select throws_ok('select * from private.connection_application_secrets', '42501', null, 'and no secret');

-- ---- another secret; a key may bring it
select tests.act_as_superuser();
select is(tests.by_key(:'writer', $$select (public.set_connection_application('twitter', 'app-1', 'other')).client_id$$, tests.org('ada')), 'app-1', 'a key with the permission may');
select tests.act_as('adm', tests.org('ada'));
select is((public.set_connection_application('twitter', 'app-1', 'secret-2')).id, :'application'::uuid, 'the same client_id is the same application');
select tests.act_as_superuser();
update private.connection_tokens set check_at = kijko.now() where connection_id = :'connection';
select private.connections_enqueue_due() > 0 as queued \gset
select j.id as job, j.attempt as attempt from private.jobs_claim('w', '1 minute', 1000, array['connection_refresh']) as j
where j.payload ->> 'connection_id' = :'connection' \gset
select tests.act_as_sidecar();
select private.connections_start_refresh('w', :'job', :attempt) as work \gset
select is(:'work'::jsonb -> 'application', '{"client_id": "app-1", "client_secret": "secret-2"}', 'a refresh is asked with the new secret');
select private.connections_refreshed((:'work'::jsonb ->> 'token')::uuid, 1, '{"access_token": "a2", "refresh_token": "r2", "expires_in": 3600}') as stored \gset
select tests.act_as_superuser();
select is(tests.state(:'connection'), 'active', 'the connection goes on');

-- ---- another application
select tests.taken(tests.begin()) ->> 'flow' as late \gset
select tests.begin() as waiting \gset
select tests.act_as('adm', tests.org('ada'));
select (public.set_connection_application('twitter', 'app-2', 'secret-3')).id as second \gset
select isnt(:'second'::uuid, :'application'::uuid, 'another client_id is another application');
select tests.act_as_superuser();
select is(tests.state(:'connection'), 'paused application_removed', 'what the former one was used for is paused');
select is((select count(*) from public.notifications as n where n.data ->> 'connection_id' = :'connection'), 1::bigint, 'with one notice');
delete from private.connection_tokens as t where t.connection_id is null and t.flow_id is null and t.organization <> tests.org('ada');
select tests.act_as_sidecar();
select is(private.connections_take_ticket(:'waiting', 's', 'b'), null, 'a consent that waited is not asked for any more');
select is(tests.authorize(:'late', '8'), 'server_error', 'one whose answer comes late makes no connection');
select results_eq(
  $$select d ->> 'access_token', d #>> '{application,client_id}', d #>> '{application,client_secret}'
    from jsonb_array_elements(private.connections_claim_revocations()) as d where d ->> 'provider' = 'twitter' order by 1$$,
  $$values ('a2', 'app-1', 'secret-2'), ('access-8', 'app-1', 'secret-2')$$, 'both tokens are revoked by the application that got them'
);
select tests.act_as_superuser();
select private.connections_prune();
select is(tests.applications(), 2::bigint, 'whose secret is kept until then');
delete from private.connection_tokens as t where t.organization = tests.org('ada');
delete from private.connection_flows as f where f.organization = tests.org('ada');
select private.connections_prune();
select is(tests.applications(), 1::bigint, 'and no longer');

-- ---- the end
select tests.act_as('adm', tests.org('ada'));
select is(tests.changed('delete from public.connection_applications'), 1::bigint, 'an admin removes it');
select is(tests.taken(tests.begin()) -> 'application', 'null', 'the operator''s application asks again');
select tests.act_as('ada', tests.org('ada'));
select (public.set_connection_application('twitter', 'app-3', 'secret-4')).id is not null as set \gset
select tests.taken(tests.begin()) ->> 'flow' as flow \gset
select tests.authorize(:'flow', '9') as code \gset
select tests.act_as('adm', tests.org('ada'));
select (public.complete_connection(:'code')).id is not null as completed \gset
select tests.act_as_superuser();
select tests.org('ada') as org \gset
delete from public.organizations where id = :'org';
select is((select string_agg(t.account_id, '') from private.connection_tokens as t where t.organization = :'org' and t.connection_id is null), '9', 'tokens of a deleted organization wait to be revoked');
select ok((select s.retired_at is not null from private.connection_application_secrets as s where s.client_id = 'app-3'), 'with the secret that this needs');

select * from finish();
rollback;
