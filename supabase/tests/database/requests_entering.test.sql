-- The sidecar's login kijko_gateway: it asks as callers, whom the same functions identify and admit that do so for PostgREST.
begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_providers (name, kind, base_url) values ('own', 'openai', 'https://models.example.com/v1');
select tests.act_as_superuser();

create function tests.act_as_gateway() returns void language sql as $$
  select tests.act('none', '{}', null);
  select set_config('session_authorization', 'kijko_gateway', true), set_config('request.headers', '', true), set_config('response.headers', '', true);
$$;
-- Signed by this database.
create function tests.signed(who text, more jsonb default '{}') returns text language sql security definer as $$
  select kijko.sign_jwt(tests.token('authenticated') || jsonb_build_object('aud', 'authenticated', 'sub', tests.id(who), 'session_id', tests.id(who)) || more)
$$;
-- What the login gets: {answer, headers}, or {entered} and who it is, or what it is refused with.
create function tests.ask(token text, headers jsonb default '{}', more jsonb default '{}') returns jsonb language plpgsql as $$
declare
  asked constant jsonb := '{"model": "own/m", "input_tokens": 30, "max_output_tokens": 20, "fields": []}'::jsonb || more;
  answer jsonb;
  state text;
  body text;
  envelope text;
begin
  perform tests.act_as_gateway();
  begin
    if private.requests_enter(
      jsonb_build_object('token', token, 'path', '/rpc/authorize_llm_call', 'headers', '{"x-forwarded-for": "192.0.2.7"}'::jsonb || headers)
    ) then
      answer := jsonb_build_object(
        'answer', public.authorize_llm_call(
          model => asked ->> 'model', kind => 'chat', input_tokens => (asked ->> 'input_tokens')::bigint,
          max_output_tokens => (asked ->> 'max_output_tokens')::bigint, fields => array(select jsonb_array_elements_text(asked -> 'fields'))
        ),
        'headers', current_setting('response.headers')::jsonb
      );
    else
      answer := jsonb_build_object('entered', false, 'role', current_user);
    end if;
  exception when others then
    get stacked diagnostics state = returned_sqlstate, body = message_text, envelope = pg_exception_detail;
    answer := case when state = 'PGRST' then body::jsonb || envelope::jsonb else jsonb_build_object('state', state) end;
  end;
  perform tests.act_as_superuser();
  return answer;
end
$$;
create function tests.to_ada(more jsonb default '{}') returns jsonb language sql as $$ select jsonb_build_object('x-org-id', tests.org('ada')) || more $$;

-- ---- what the login may do
select tests.act_as('mem', tests.org('ada'));
select throws_ok($$select private.requests_enter('{}')$$, '42501', null, 'no user calls it');
select tests.act_as_sidecar();
select throws_ok($$select private.requests_enter('{}')$$, '42501', null, 'nor does the other login of the sidecar');
select tests.act_as_gateway();
select throws_ok(statement, '42501', null, 'the login: ' || statement) from unnest(array[
  'select from public.organizations', 'select from private.llm_open_calls', 'select private.llm_gateway_pass()', 'select private.llm_gateway_key(gen_random_uuid())',
  $$select public.authorize_llm_call('a', 'chat', 1, 1)$$, 'set role service_role', 'set role postgres', 'set role kijko_sidecar', $$select kijko.seal('a', 'llm/gateway')$$, $$select kijko.sign_jwt('{}')$$, 'create temporary table t ()'
]) as s (statement);
select tests.act_as_superuser();
select results_eq(
  $$select roleid::regrole::text from pg_auth_members where member = 'kijko_gateway'::regrole order by 1$$, array['anon', 'authenticated'], 'it can become a caller, and nobody else'
);
select ok(not rolinherit and not rolsuper and not rolbypassrls and not rolcreaterole, 'and is nobody by itself') from pg_roles where rolname = 'kijko_gateway';

-- ---- which tokens count
select is(tests.ask(token, tests.to_ada()), '{"entered": false, "role": "kijko_gateway"}', 'no caller: ' || what) from (
  values ('no token', 'nonsense'), ('a forged one', regexp_replace(tests.signed('mem'), '.{8}$', 'AAAAAAAA')),
    ('an expired one', tests.signed('mem', '{"exp": 1700000000}')), ('of the service role', tests.signed('mem', '{"role": "service_role"}')),
    ('of another role', tests.signed('mem', '{"role": "postgres"}')), ('without a role', tests.signed('mem', '{"role": null}')),
    ('for another audience', tests.signed('mem', '{"aud": "another"}')), ('empty', '')
) as v (what, token);
select is(tests.ask(null), '{"state": "42501"}', 'nobody calls a model');
select is(tests.ask(tests.signed('mem'), tests.to_ada('{"x-kijko-token": "a.b.c"}')) ->> 'code', 'bad_request', 'two tokens');
select is(tests.ask(tests.signed('mem'), tests.to_ada('{"x-api-key": "kjk_live_x"}')) ->> 'code', 'bad_request', 'a token and an API key');
select is(tests.ask(null, '{"x-api-key": "kjk_live_x"}') - array['message', 'details', 'hint', 'headers'], '{"code": "not_identified", "status": 401}', 'a key that is none');
select is(tests.ask(null, '{"x-kijko-token": "a.b.c"}') ->> 'code', 'not_identified', 'a token of no issuer');

-- ---- a call of a model
select '9f2c7a52-6f1e-4c0b-9a43-0d5a8c1b7e12' as id \gset
select tests.ask(tests.signed('mem'), tests.to_ada(jsonb_build_object('x-kijko-call', :'id'))) as made \gset
select is(:'made'::jsonb #>> '{answer,opened,call_id}', :'id', 'a member opens a call, under the id that the sidecar gave');
select is((select row(c.status, c.held_tokens, c.member_id)::text from tests.call(:'id') as c), format('(sent,50,%s)', tests.id('mem')), 'which is sent and held');
select ok(jsonb_path_exists(:'made', '$.headers[*].keyvalue() ? (@.key == "RateLimit")'), 'it says what is left of limits');
select is(tests.ask(tests.signed('mem'), tests.to_ada()) #> '{answer,opened}', null, 'a request without an id has a ticket');
select is(tests.ask(tests.signed('bob'), tests.to_ada()) - array['message', 'details', 'hint', 'headers'], '{"code": "not_a_member", "status": 403}', 'a non-member has none');
select is(tests.ask(tests.signed('mem'), tests.to_ada(), '{"model": "none/m"}') ->> 'code', 'model_not_found', 'arguments are those of authorize_llm_call()');
select is(tests.ask(tests.signed('mem'), tests.to_ada(), '{"max_output_tokens": 10000000000000000000}'), '{"state": "22003"}', 'and have its types');
select is(tests.ask(tests.signed('mem'), tests.to_ada(), '{"fields": ["logprobs"]}') ? 'answer', true, 'fields are named');
insert into public.llm_budgets (org_id, name, scope, period, unit, amount) values (tests.org('ada'), 'small', 'organization', 'total', 'tokens', 100);
select is(tests.ask(tests.signed('mem'), tests.to_ada(), '{"input_tokens": 81}') - array['message', 'details', 'hint', 'headers'], '{"code": "budget_exceeded", "status": 429}', 'a budget refuses');
select is((select count(*) from private.llm_open_calls as c where c.organization = tests.org('ada') and c.attempt ->> 'input_tokens' = '81'), 0::bigint, 'a refusal leaves nothing');
select * from finish();
rollback;
