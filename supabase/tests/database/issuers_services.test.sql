-- Tokens of issuers in the services: realtime asks who holds one, storage runs an operation as that member.
begin;
\ir 000_helpers.sql
select plan(30);

select tests.sign_up('ada'), tests.sign_up('one'), tests.sign_up('two'), tests.sign_up('eve');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
delete from public.organizations where personal_for in (tests.id('one'), tests.id('two'));
select tests.act_as('ada');
select (public.enroll_issuer('https://login.example.com/pg', '{kijko}', '{}', '{}', 'member')).id as issuer \gset
select tests.act_as_superuser();
-- Both end in 2100, and the private key is gone. The first says that its role is service_role.
update kijko.issuers set jwks = '{"keys": [{"kty": "EC", "x": "3pEdqvBSQHLi72G5ihpt0o65eDH1pz9f9bAOVlUBHtw", "y": "VEVPiNdl1ZKgYt0pBZIZV2E13YcZFzy-cGET5fIrgIA", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k"}]}'
where id = :'issuer';
select 'eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tL3BnIiwiYXVkIjoia2lqa28iLCJleHAiOjQxMDI0NDQ4MDAsInN1YiI6Im9uZSIsInJvbGUiOiJzZXJ2aWNlX3JvbGUifQ.Uv7i-qmsO7CQyiHMpfoAzpn0kwPG80ZkSqz27G08RMTF6cJnx-O6C94G1YtxjgIGc43gndEXCALLE5v2sC3NGA' as one \gset
select 'eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tL3BnIiwiYXVkIjoia2lqa28iLCJleHAiOjQxMDI0NDQ4MDAsInN1YiI6InR3byJ9.0Z5rmSDlxiB3yrlN5FPUU6FdZs1MnXchVGPF14deHym9zVLL7sduLRD6dLtHwLG0QQDKr3GZ22sN2872vl1ZaQ' as two \gset

-- A session of a service, which is in kijko.trusted_session_users.
create function tests.act_as_login(name text) returns void language plpgsql as $$
begin
  perform tests.act('none', '{}', null);
  perform set_config('session_authorization', name, true), set_config('request.headers', '', true), set_config('request.method', '', true);
end
$$;
create function tests.ask_realtime(token text, headers jsonb default '{}') returns jsonb language sql as $$
  select realtime_service.identify(token, headers || '{"x-forwarded-for": "192.0.2.7"}')
$$;
create function tests.readable(token text, topic text) returns jsonb language sql as $$
  select realtime_service.authorize('service_role', '{"role": "service_role"}', null, token, '{}', topic)
$$;
create function tests.ask_storage(token text, issuer_token text default null, headers jsonb default '{}') returns jsonb language sql as $$
  select storage_service.call(
    jsonb_build_object('token', token, 'method', 'GET', 'path', '/storage/v1/object', 'operation', 'storage.object.list',
      'headers', headers || jsonb_strip_nulls(jsonb_build_object('x-forwarded-for', '192.0.2.7', 'x-kijko-token', issuer_token))),
    'object_read', '{"bucket_id": "issuers", "name": "a"}', undo => true
  )
$$;

-- ---- which tokens are ours
select ok(not realtime_service.is_issuer_token(x), 'not a token of an issuer: ' || x)
from unnest(array['eyJraWprbyI6MSwieCI6MX0.e30.c2ln', 'kjk_live_x', 'sb_x', 'text', 'a.b', 'a.b.c.d', 'a.b.c d', '']) as x;
select ok(realtime_service.is_issuer_token(:'one'), 'a token of an issuer');

-- ---- nobody but the service asks
select tests.act_as_anon();
select throws_ok($$select private.issuers_assume_member()$$, '42501', null, 'anon does not make a member the caller');
select tests.act_as('eve');
select throws_ok($$select private.issuers_assume_member()$$, '42501', null, 'nor does a user');
select throws_ok($$select realtime_service.identify('x', '{}')$$, '42501', null, 'or asks as the service');

-- ---- a subject who is not a member
select tests.act_as_login('kijko_realtime');
select matches(tests.ask_realtime(:'one') ->> 'problem', '^provision_required: ', 'a subject without a membership joins nothing');
select matches(tests.ask_realtime(replace(:'one', '.Uv7i', '.Uv7j')) ->> 'problem', '^InvalidJWTToken: ', 'a forged token');
select matches(tests.ask_realtime('eyJraWprbyI6MSwieCI6MX0.e30.c2ln') ->> 'problem', '^InvalidJWTToken: ', 'one that pretends to be ours');
select matches(
  tests.ask_realtime(:'one', jsonb_build_object('x-org-id', tests.org('eve'))) ->> 'problem', '^not_a_member: ', 'for another organization'
);
select tests.act_as_login('kijko_storage');
select is(tests.ask_storage(null, :'one') #>> '{problem,body,code}', 'provision_required', 'nor does storage admit it');

-- ---- a member
select tests.act_as_superuser();
select kijko.put_issuer_identity(:'issuer', 'one', tests.id('one'));
select kijko.put_issuer_identity(:'issuer', 'two', tests.id('two'));
insert into public.memberships (org_id, user_id, role)
select tests.org('ada'), tests.id(n), 'member' from unnest(array['one', 'two']) as n;
insert into storage.buckets (id, name) values ('issuers', 'issuers');
insert into storage.objects (bucket_id, name, owner_id) values ('issuers', 'a', tests.id('one'));
create policy issuers_own on storage.objects for select to authenticated using (bucket_id = 'issuers' and owner_id = (select auth.uid())::text);
create policy issuers_read on realtime.messages for select to authenticated using (realtime.topic() = 'user-' || (select auth.uid()));
select tests.act_as_login('kijko_realtime');
select is(
  tests.ask_realtime(:'one') - array['claims', 'network'],
  jsonb_build_object(
    'role', 'authenticated', 'expires', 4102444800, 'session_id', null, 'issuer_id', :'issuer', 'user_id', tests.id('one'), 'api_key_id', null,
    'org_ids', jsonb_build_array(tests.org('ada'))
  ),
  'a member, who is authenticated although the token says service_role'
);
select is(tests.ask_realtime(:'two') ->> 'user_id', tests.id('two')::text, 'another token of the same transaction is another member');
select is(tests.ask_realtime(:'one') #>> '{claims,role}', 'authenticated', 'the claims, too');
-- The order of the extensions says nothing.
select is(
  (select jsonb_agg(r order by r) from jsonb_array_elements(tests.readable(:'one', 'user-' || tests.id('one')) -> 'read') as r),
  '["broadcast", "presence"]', 'policies are asked as that member'
);
select is(tests.readable(:'one', 'user-' || tests.id('two')) -> 'read', '[]', 'and as nobody else, whatever role is named');
select tests.act_as_login('kijko_storage');
select is(tests.ask_storage(null, :'one') #>> '{answer,name}', 'a', 'storage reads as that member');
select is(tests.ask_storage(null, :'two') -> 'answer', 'null', 'and as nobody else');
select is(tests.ask_storage('a.b.c', :'one') #>> '{problem,body,code}', 'bad_request', 'two tokens are refused');
select is(
  tests.ask_storage(null, :'one', '{"x-api-key": "kjk_live_x"}') #>> '{problem,body,code}', 'bad_request', 'and a token beside an API key'
);

-- ---- a role that the issuer took away
select tests.act_as_superuser();
select private.issuers_set_role(tests.id('one'), tests.org('ada'), 'admin');
select tests.act_as_login('kijko_realtime');
select matches(tests.ask_realtime(:'one') ->> 'problem', '^provision_required: ', 'a token that gives less than the membership has');

-- ---- the end
select tests.act_as_superuser();
select private.issuers_set_role(tests.id('one'), tests.org('ada'), 'member');
update kijko.issuers set enabled = false where id = :'issuer';
select throws_ok(
  format('select private.storage_admit_signer(%L)', jsonb_build_object('user_id', tests.id('one'), 'org_id', tests.org('ada'))), 'KJ403', null,
  'a signed URL of a member ends when the issuer is disabled'
);
delete from auth.users where id = tests.id('one');
select tests.act_as_login('kijko_realtime');
select matches(tests.ask_realtime(:'one') ->> 'problem', '^InvalidJWTToken: ', 'while the issuer is disabled its token is none');
select is(tests.readable(:'one', 'user-' || tests.id('one')), '{"ended": true}', 'also for a channel of who was identified before');

select * from finish();
rollback;
