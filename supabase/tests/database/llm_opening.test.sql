begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member');
-- The headers of the next requests, beside those that say who calls.
create function tests.send(headers jsonb) returns void language sql as $$
  select set_config('request.headers', (coalesce(nullif(current_setting('request.headers', true), ''), '{}')::jsonb || send.headers)::text, true),
    set_config('request.method', 'POST', true)
$$;
create function tests.sealed(plaintext text, context text) returns text language sql security definer as $$ select kijko.seal(plaintext, context) $$;

-- ---- only the sidecar has passes, keys and settlements
select tests.act_as('mem', tests.org('ada'));
select throws_ok(statement, '42501', null, statement) from unnest(array[
  'select private.llm_gateway_pass()', 'select private.llm_gateway_key(gen_random_uuid())', $$select private.llm_settle_many('{}', '[]')$$, 'select private.llm_is_calling(gen_random_uuid())'
]) as s (statement);

-- ---- whatever is no pass, or names no call, has a ticket as for any other client
select '9f2c7a52-6f1e-4c0b-9a43-0d5a8c1b7e11' as id \gset
select tests.send(jsonb_build_object('x-kijko-call', :'id'));
select ok(public.authorize_llm_call('echo/a') ? 'ticket', 'no pass');
select ok(public.authorize_llm_call('echo/a') ? 'ticket', 'not a pass: ' || what) from (
  values ('nonsense', 'nonsense'), ('of another use', tests.sealed('9999999999', 'llm/ticket')), ('too old', tests.sealed('1', 'llm/gateway'))
) as v (what, pass) cross join lateral tests.send(jsonb_build_object('x-kijko-gateway', pass)) as sent;
select tests.act_as_sidecar();
select private.llm_gateway_pass() as pass \gset
select tests.act_as('mem', tests.org('ada'));
select tests.send(jsonb_build_object('x-kijko-gateway', :'pass', 'x-kijko-call', 'no uuid'));
select ok(public.authorize_llm_call('echo/a') ? 'ticket', 'no id of a call');
select tests.act_as_superuser();
select is((select array_agg(distinct c.status) from private.llm_open_calls as c where c.organization = tests.org('ada')), '{reserved}', 'all of them wait for who opens their tickets');
select tests.end_all() as ended \gset

-- ---- a pass proves the gateway, and not who calls
select tests.act_as('bob', tests.org('ada'));
select tests.send(jsonb_build_object('x-kijko-gateway', :'pass', 'x-kijko-call', :'id'));
select is(tests.refusal($$select public.authorize_llm_call('echo/a')$$) ->> 'code', 'not_a_member', 'a non-member calls nothing through it');
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_providers (name, kind, base_url) values ('own', 'openai', 'https://models.example.com/v1') returning id as own \gset
select (extract(epoch from (public.set_llm_provider_key(:'own', 'sk-own')).key_set_at) * 1000000)::bigint as set_at \gset

-- ---- one step: authorized, held, recorded as sent, and on the disk when it is answered
select tests.act_as('mem', tests.org('ada'));
select set_config('synchronous_commit', 'on', true);
select tests.send(jsonb_build_object('x-kijko-gateway', :'pass', 'x-kijko-call', :'id'));
select public.authorize_llm_call('own/m', input_tokens => 30, max_output_tokens => 20) as made \gset
select is(current_setting('synchronous_commit'), 'on', 'its commit waits for the disk');
select is(:'made'::jsonb #>> '{opened,call_id}', :'id', 'under the id that the gateway gave');
select is((:'made'::jsonb #> '{opened,targets,0}') - 'provider_id',
  jsonb_build_object('key', null, 'kind', 'openai', 'index', 0, 'model', 'm', 'own_key', true, 'base_url', 'https://models.example.com/v1', 'provider', 'own',
    'input_tokens', 30, 'key_set_at', :'set_at'::bigint, 'allowed_hosts', '', 'max_concurrency', null, 'max_output_tokens', 20),
  'it says whom to call, and when the key was set, which it does not say');
select ok(:'made'::text !~ 'sk-own|ticket', 'nor is there a ticket');
select tests.act_as_superuser();
select is((select row(c.status, c.attempts, c.held_tokens, c.member_id)::text from tests.call(:'id') as c), format('(sent,1,50,%s)', tests.id('mem')), 'the call is sent');
select is(tests.counted(), '{50,0}', 'and held');
select ok((select c.status = 'sent' and c.ends_at > clock_timestamp() + interval '19 minutes' from private.llm_open_calls as c where c.call_id = :'id'), 'maintenance leaves it its time');
select private.llm_release_reserved() as released \gset
select is((tests.call(:'id')).status, 'sent', 'and does not release it');
select tests.act_as_sidecar();
select ok(private.llm_is_calling(tests.org('ada')) and not private.llm_is_calling(tests.org('bob')), 'the organization has a call, and no other');
select is(private.llm_gateway_key(:'own'), jsonb_build_object('key', 'sk-own', 'key_set_at', :'set_at'::bigint), 'the sidecar gets the key by itself');
select is(private.llm_gateway_key(gen_random_uuid()), null, 'and none of a provider that is gone');
select tests.act_as_superuser();
select tests.end_all() as ended \gset
select tests.act_as_sidecar();
select ok(not private.llm_is_calling(tests.org('ada')), 'when it is settled, the organization has none');
select tests.act_as_superuser();

-- ---- a refusal leaves nothing
insert into public.llm_budgets (org_id, name, scope, period, unit, amount) values (tests.org('ada'), 'small', 'organization', 'total', 'tokens', 100);
select tests.act_as('mem', tests.org('ada'));
select tests.send(jsonb_build_object('x-kijko-gateway', :'pass', 'x-kijko-call', gen_random_uuid()));
select is(tests.refusal($$select public.authorize_llm_call('echo/a', input_tokens => 60, max_output_tokens => 41)$$) ->> 'code', 'budget_exceeded', 'a budget holds for it, too');
select tests.act_as_superuser();
select is((select count(*) from private.llm_open_calls as c where c.organization = tests.org('ada')), 0::bigint, 'nothing is open');

-- ---- settlements together: each as by itself, all or none
select tests.act_as('mem', tests.org('ada'));
select tests.opened('echo/a', 20, 10) as one \gset
select tests.opened('echo/a', 20, 10) as two \gset
select tests.act_as_sidecar();
select tests.refuses(format($$select private.llm_settle_many(array[%L, %L]::uuid[], '[{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1}, {"status": "odd"}]')$$, :'one', :'two'),
  'invalid_input', 'one that is wrong');
select is(private.llm_settle_many(array[:'two', :'id', :'one']::uuid[],
    '[{"status": "succeeded", "prompt_tokens": 20, "completion_tokens": 3}, {"status": "succeeded"}, {"status": "failed"}]'),
  jsonb_build_object(:'one'::text, '{"tokens": 30, "estimated": true, "cost_microusd": 9}'::jsonb, :'two'::text, '{"tokens": 23, "estimated": false, "cost_microusd": 5}'::jsonb, :'id'::text, null),
  'settles no other, and then each has its own use; one that was settled has no answer');
select tests.act_as_superuser();
select is(tests.held_by('small'), 53::bigint, 'the budget counts each once');
select * from finish();
rollback;
