begin;
\ir 000_helpers.sql
select plan(46);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('vic', tests.org('ada'), 'viewer');
insert into public.functions (name, url, access, permission) values
  ('open', 'https://fn.example.com/open', 'anyone', null),
  ('members', 'https://fn.example.com/members', 'signed_in', null),
  ('runs', 'https://fn.example.com/runs', 'permission', 'skills:execute'),
  ('off', 'https://fn.example.com/off', 'anyone', null);
update public.functions set enabled = false where name = 'off';

-- What the sidecar gets for a ticket.
create function tests.opened(ticket text) returns jsonb language sql security definer as $$ select private.functions_open(opened.ticket) $$;
create function tests.ticket(name text) returns text language sql as $$ select public.authorize_function(ticket.name) ->> 'ticket' $$;
create function tests.assertion_claims(name text) returns jsonb language sql as $$
  select convert_from(decode(rpad(translate(part, '-_', '+/'), (ceil(length(part) / 4.0) * 4)::integer, '='), 'base64'), 'UTF8')::jsonb
  from split_part(tests.opened(tests.ticket(assertion_claims.name)) ->> 'assertion', '.', 2) as part
$$;
create function tests.fault(claims jsonb) returns text language sql security definer as $$ select kijko.access_token_fault(claims) $$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.functions', '42501', null, 'anon sees no functions');
select lives_ok($$select tests.ticket('open')$$, 'anon may call what anyone may');
select tests.refuses($$select tests.ticket('members')$$, 'not_identified', 'anon may not call what needs a sign-in');
select tests.refuses($$select tests.ticket('runs')$$, 'not_identified', 'anon may not call what needs a permission');
select tests.refuses($$select tests.ticket('off')$$, 'not_found', 'a disabled function is not there');
select tests.refuses($$select tests.ticket('missing')$$, 'not_found', 'an unknown one is not there');
select tests.refuses($$select tests.ticket(null)$$, 'not_found', 'null is no function');
select tests.act_as('bob', tests.org('ada'));
select lives_ok($$select tests.ticket('members')$$, 'a user may call what needs a sign-in');
select tests.refuses($$select tests.ticket('runs')$$, 'not_a_member', 'a non-member may not call what needs a permission');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select tests.ticket('runs')$$, 'permission_denied', 'nor may a viewer without it');
select tests.act_as('ada', tests.org('ada'));
select lives_ok($$select tests.ticket('runs')$$, 'who holds the permission may');

-- ---- keys
select (public.create_api_key('runs', '["skills:execute"]')).id as runs \gset
select (public.create_api_key('reads', '["*:read"]')).id as reads \gset
select (public.create_api_key('page', '["events:ingest"]', kind => 'publishable', origins => array['https://app.example.com'])).id as page \gset
select matches(tests.by_key(:'runs', $$select tests.ticket('runs')$$), '^kjs1\.', 'a key with the permission may call');
select is(tests.by_key(:'reads', $$select tests.ticket('runs')$$), '42501', 'a key without it may not');
select matches(tests.by_key(:'reads', $$select tests.ticket('members')$$), '^kjs1\.', 'a key that only reads is a caller');
select is(tests.by_key(:'page', $$select tests.ticket('members')$$), '42501', 'a publishable key is no sign-in');
select matches(tests.by_key(:'page', $$select tests.ticket('open')$$), '^kjs1\.', 'a publishable key may call what anyone may');

-- ---- nobody but the sidecar opens a ticket, and nobody signs
select tests.act_as('ada', tests.org('ada'));
select throws_ok('select * from public.functions', '42501', null, 'an owner sees no functions');
select throws_ok($$insert into public.functions (name, url) values ('mine', 'https://evil.example.com')$$, '42501', null, 'an owner declares none');
select throws_ok($$update public.functions set url = 'https://evil.example.com'$$, '42501', null, 'an owner changes none');
select throws_ok($$delete from public.functions$$, '42501', null, 'an owner deletes none');
select throws_ok($$select private.functions_open('x')$$, '42501', null, 'an owner opens no ticket');
select throws_ok($$select auth_api.sign_assertion('functions/open', '{}')$$, '42501', null, 'an owner signs nothing');
select tests.ticket('runs') as ticket \gset
select doesnt_match(:'ticket'::text, 'fn\.example|' || tests.id('ada')::text, 'a ticket shows nothing');
select tests.act_as_service();
select throws_ok($$select private.functions_open('x')$$, '42501', null, 'service_role opens no ticket');
select throws_ok($$select auth_api.sign_assertion('functions/open', '{}')$$, '42501', null, 'service_role signs nothing');
select tests.act_as_sidecar();
select throws_ok('select * from public.functions', '42501', null, 'the sidecar sees no functions');
select throws_ok($$select auth_api.sign_assertion('functions/open', '{}')$$, '42501', null, 'the sidecar signs nothing by itself');
select is(private.functions_open(:'ticket') - array['assertion', 'allowed_hosts'], jsonb_build_object(
  'url', 'https://fn.example.com/runs', 'methods', array['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
  'timeout_seconds', 60, 'max_response_bytes', 10485760, 'share', tests.org('ada')
), 'the sidecar learns where the request goes');
select tests.refuses($$select private.functions_open('kjs1.0000000000000000.AAAA')$$, 'cannot_unseal', 'it opens no ticket that the database did not make');

-- ---- what the other server is told
select tests.act_as('ada', tests.org('ada'));
select is(tests.assertion_claims('runs') - array['iat', 'exp', 'jti', 'iss'], jsonb_build_object(
  'aud', 'functions/runs', 'sub', tests.id('ada'), 'caller_kind', 'user', 'org_id', tests.org('ada')
), 'user and organization');
select is((tests.assertion_claims('runs') ->> 'exp')::bigint - (tests.assertion_claims('runs') ->> 'iat')::bigint, 60::bigint, 'for a minute');
select isnt(tests.assertion_claims('runs') ->> 'jti', tests.assertion_claims('runs') ->> 'jti', 'each with its own id');
select is(tests.fault(tests.assertion_claims('runs')), 'role', 'it is no access token');
select is(tests.by_key(:'runs', $$select tests.assertion_claims('runs') - array['iat', 'exp', 'jti', 'iss']$$)::jsonb, jsonb_build_object(
  'aud', 'functions/runs', 'caller_kind', 'service_key', 'api_key_id', :'runs', 'org_id', tests.org('ada')
), 'a service key has no user');
select tests.act_as_anon();
select is(tests.assertion_claims('open') - array['iat', 'exp', 'jti', 'iss'], '{"aud": "functions/open", "caller_kind": "anonymous"}', 'an unauthenticated caller has no subject');

-- ---- tickets end, and what an operator changes holds at once
select tests.ticket('open') as ticket \gset
select tests.act_as_superuser();
update public.functions set enabled = false where name = 'open';
select is(private.functions_open(:'ticket'), null, 'a ticket of a disabled function opens nothing');
update public.functions set enabled = true where name = 'open';
select isnt(private.functions_open(:'ticket'), null, 'it opens again');
select is(private.functions_open(kijko.seal(jsonb_build_object(
  'function', 'open', 'caller', '{}'::jsonb, 'share', 'x', 'expires_at', extract(epoch from clock_timestamp()) - 1
)::text, 'functions/ticket')), null, 'an expired one does not');
select tests.refuses($$select private.functions_open(kijko.seal('{}', 'elsewhere'))$$, 'cannot_unseal', 'nor what was sealed for something else');

-- ---- what an operator may declare
select tests.act_as_service();
select lives_ok($$insert into public.functions (name, url, access, permission, methods) values ('Own_2-x', 'https://fn.example.com', 'permission', 'projects:read', '{GET}')$$, 'service_role declares one');
select throws_ok(format($$insert into public.functions (name, url) values (%L, 'https://fn.example.com')$$, name), '23514', null, 'not a name: ' || name)
from (values ('skills-check'), ('-x'), ('a/b')) as bad (name);
select tests.refuses(format($$insert into public.functions (name, url) values ('bad', %L)$$, url), 'invalid_input', 'not to be reached: ' || url)
from (values ('http://169.254.169.254/latest'), ('https://user@fn.example.com/a')) as bad (url);
select throws_ok($$insert into public.functions (name, url) values ('bad', 'https://fn.example.com/?key=1')$$, '23514', null, 'a query is the caller''s');

select * from finish();
rollback;
