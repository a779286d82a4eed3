begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('mem', tests.org('ada'), 'member');

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok($$select tests.authorize('echo/a')$$, '42501', null, 'anon calls no model');
select throws_ok('select * from public.' || t, '42501', null, 'anon reads no ' || t)
from unnest('{llm_providers,llm_routes,llm_budgets,llm_settings,llm_calls,llm_call_contents}'::text[]) as t;
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select tests.authorize('echo/a')$$, 'not_a_member', 'nor does a non-member');
select tests.refuses($$select * from public.list_llm_models()$$, 'not_a_member', 'who lists no models');
select tests.refuses($$select * from public.llm_budget_usage()$$, 'not_a_member', 'and sees no budgets');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select tests.authorize('echo/a')$$, 'permission_denied', 'a viewer calls no model');
select tests.refuses($$select public.set_llm_provider_key(gen_random_uuid(), 'k')$$, 'permission_denied', 'and sets no key');

-- ---- a call, from its ticket to its record
select tests.act_as('mem', tests.org('ada'));
select tests.authorize('echo/a', 1000, 500, '{"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}') as ticket \gset
select matches(:'ticket'::text, '^kjs1\.', 'a member gets a ticket');
select throws_ok($$select private.llm_open('x')$$, '42501', null, 'and cannot open it');
select is((select row(c.status, c.model, c.provider, c.held_tokens, c.held_microusd, c.member_id)::text from public.llm_calls as c), format('(reserved,echo/a,echo,1500,450,%s)', tests.id('mem')), 'the call is reserved');
select is(tests.counted(), '{1500,450}', 'tokens and cost are held');
select tests.act_as_sidecar();
select throws_ok('select * from public.llm_calls', '42501', null, 'the sidecar reads no table');
select private.llm_open(:'ticket') as opened \gset
select is(:'opened'::jsonb - array['call_id', 'org_id', 'attributes', 'targets'],
  '{"kind": "chat", "model": "echo/a", "route": null, "images": 0, "choices": 1, "retries": 1, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "idle_seconds": 60, "input_tokens": 1000, "record_content": false, "first_token_seconds": 120, "time_budget_seconds": 600}',
  'it learns how to call');
select is((:'opened'::jsonb #> '{targets,0}') - array['provider_id', 'allowed_hosts'],
  '{"key": null, "kind": "echo", "index": 0, "model": "a", "own_key": false, "base_url": null, "provider": "echo", "key_set_at": null, "input_tokens": 1000, "max_concurrency": null, "max_output_tokens": 500}',
  'and whom');
select is(private.llm_open(:'ticket'), :'opened'::jsonb, 'a lost answer is given again');
select :'opened'::jsonb ->> 'call_id' as call \gset
select tests.act_as_superuser();
select is((tests.call(:'call')).status, 'sent', 'the call is sent');
select tests.act_as_sidecar();
select throws_ok(format($$select private.llm_settle(%L, '{"status": "failed"}')$$, :'call'), '42501', null, 'the sidecar settles by the function for many');
select is(private.llm_settle_many(array[:'call']::uuid[], '[{"status": "succeeded", "prompt_tokens": 900, "completion_tokens": 100, "cached_tokens": 200, "reasoning_tokens": 30, "model": "a-2026", "first_token_ms": 12, "total_ms": 80, "http_status": 200, "finish_reason": "stop"}]'),
  jsonb_build_object(:'call', '{"tokens": 1000, "estimated": false, "cost_microusd": 195}'::jsonb), 'it is settled');
select is(private.llm_settle_many(array[:'call']::uuid[], '[{"status": "succeeded", "prompt_tokens": 900, "completion_tokens": 100}]'), jsonb_build_object(:'call', null), 'once');
select is(private.llm_open(:'ticket'), null, 'and not opened again');
select tests.act_as_superuser();
select is((select row(c.status, c.input_tokens, c.output_tokens, c.cache_read_tokens, c.reasoning_tokens, c.cost_microusd, c.reported_model, c.first_token_ms, c.estimated)::text from tests.call(:'call') as c),
  '(succeeded,900,100,200,30,195,a-2026,12,f)', 'what it used is recorded');
select is(tests.counted(), '{1000,195}', 'and counted');
select is(u.used, 1000::bigint, 'by member') from kijko.usage_by(tests.org('ada'), 'member', 'llm_tokens') as u where u.value = tests.id('mem')::text;

-- ---- what nobody knows, and what is refused
select tests.act_as('mem', tests.org('ada'));
select tests.opened('echo/a', 1000, 500, '{"choices": 3}') as call \gset
select tests.act_as_superuser();
select is((tests.call(:'call')).held_tokens, 2500::bigint, 'each choice may have the most');
select is(tests.settle(:'call', '{"status": "failed", "error_code": "connection_lost"}'), '{"tokens": 2500, "estimated": true, "cost_microusd": 1050}', 'unknown use is the whole hold');
select is((select row(c.status, c.estimated, c.output_tokens, c.error_code, c.first_token_ms, c.total_ms, c.http_status)::text from tests.call(:'call') as c), '(failed,t,1500,connection_lost,,,)', 'marked as estimated, without times');
select tests.act_as('mem', tests.org('ada'));
select tests.opened('echo/a', 1, 1) as odd \gset
select tests.act_as_superuser();
select isnt(tests.settle(:'odd', '{"status": "failed", "prompt_tokens": 0, "completion_tokens": 0, "first_token_ms": -1, "total_ms": 1e12, "http_status": 7, "attempts": "x", "finish_reason": {"a": 1}, "model": 5}'), null, 'odd reports are settled, too');
select is((select row(c.first_token_ms, c.total_ms, c.http_status)::text from tests.call(:'odd') as c), '(0,2147483647,)', 'within the bounds');
select is(tests.counted(), '{3500,1245}', 'and counted');
select tests.act_as('mem', tests.org('ada'));
select tests.opened('echo/a', 1000, null) as call \gset
select tests.act_as_superuser();
select is((tests.call(:'call')).held_tokens, 5096::bigint, 'without a maximum, the default is held');
select is(tests.settle(:'call', '{"status": "cancelled", "prompt_tokens": 0, "completion_tokens": 0}'), '{"tokens": 0, "estimated": false, "cost_microusd": 0}', 'what was not sent costs nothing');
select is(tests.counted(), '{3500,1245}', 'and is released');
select is((select count(*) from private.llm_open_calls where organization = tests.org('ada')), 0::bigint, 'nothing stays open');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select tests.authorize('nowhere/a')$$, 'model_not_found', 'no such provider');
select tests.refuses($$select tests.authorize('openai/unheard-of')$$, 'model_not_priced', 'no price');
select tests.refuses($$select tests.authorize('echo/a', 100, 100, '{"fields": ["service_tier"]}')$$, 'bad_request', 'fields that change the price');
select tests.refuses(format($$select tests.authorize('echo/a', 100, 100, %L)$$, more), 'invalid_input', more)
from (values ('{"choices": 129}'), ('{"choices": -1}'), ('{"kind": "audio"}'), ('{"images": -1}')) as bad (more);
select tests.refuses($$select tests.authorize(null)$$, 'invalid_input', 'null is no model');
select tests.refuses($$select tests.authorize('echo/a', -1)$$, 'invalid_input', 'a negative count');
select tests.refuses($$select tests.authorize('echo/a', 100, 0)$$, 'invalid_input', 'no answer at all');
select tests.refuses(format($$select tests.authorize('echo/a', 1, 1, '{"project": "%s"}')$$, gen_random_uuid()), 'not_found', 'no such project');
select tests.refuses(format($$select tests.authorize('echo/a', 1, 1, '{"skill": "%s"}')$$, gen_random_uuid()), 'not_found', 'no such skill');
select tests.refuses($$select tests.authorize('echo/a', 1, 60000000)$$, 'quota_exceeded', 'the plan''s meter holds');
select tests.act_as_superuser();
select is(tests.counted(), '{3500,1245}', 'a refused call holds nothing');
select is((select count(*) from private.llm_open_calls where organization = tests.org('ada')), 0::bigint, 'and leaves no call');

-- ---- the first attempt is at another target: the first one has asked for a pause
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_providers (name, kind, base_url) values ('own', 'openai', 'https://own.example.com/v1');
insert into public.llm_routes (name, targets) values ('pair', '{own/x,echo/a}');
select tests.opened('pair', 1000, 500) as call \gset
select tests.act_as_superuser();
select is(tests.counted(), '{5000,1245}', 'a call of an own key holds tokens only');
select is(tests.raise(:'call', 1, '{"sent": false}'), '{"ok": true}', 'another target is held for before anybody is called');
select is(tests.counted(), '{5000,1695}', 'its cost, too');
select is((select row(c.attempts, c.provider, c.own_key)::text from tests.call(:'call') as c), '(1,echo,f)', 'which is the first attempt');
select is(tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 1000, "completion_tokens": 100, "attempts": 1, "target_index": 1}'), '{"tokens": 1100, "estimated": false, "cost_microusd": 210}', 'and is settled as what it is');
select is((select row(c.attempts, c.own_key)::text from tests.call(:'call') as c), '(1,f)', 'and recorded');
select is(tests.counted(), '{4600,1455}', 'and counted');
select tests.act_as('ada', tests.org('ada'));
select tests.opened('pair', 1000, 500) as call \gset
select tests.act_as_superuser();
select is(tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1, "target_index": 1}') - 'cost_microusd', '{"tokens": 1500, "estimated": true}', 'a target that was not held for is settled at the whole hold');
select is(tests.counted(), '{6100,1455}', 'as that');

select * from finish();
rollback;
