-- What a call of a model can cost, has used, holds and gives back: arithmetic and its edges.
begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob');
insert into public.llm_models (
  id, input_microusd_per_mtok, output_microusd_per_mtok, cache_read_microusd_per_mtok, cache_write_microusd_per_mtok, cache_write_1h_microusd_per_mtok,
  reasoning_microusd_per_mtok, long_context_tokens, long_input_microusd_per_mtok, long_output_microusd_per_mtok, long_cache_read_microusd_per_mtok,
  long_cache_write_microusd_per_mtok, long_cache_write_1h_microusd_per_mtok, image_microusd
) values ('acme/one', 1000000, 2000000, 3000000, 1250000, 5000000, 4000000, 100, 7000000, 10000000, 6000000, 9000000, 8000000, 500);

-- ---- the most that a call can cost: each token at its highest price, beyond the step at that of long contexts
select is(private.llm_max_cost(private.models_price('acme/one', null), a), cost, 'at most: ' || a::text)
from (values
  ('{"input_tokens": 100, "output_tokens": 10, "images": 2}'::jsonb, 1540::bigint), ('{"input_tokens": 101, "output_tokens": 10, "images": 0}', 1009),
  ('{"input_tokens": 0, "output_tokens": 0, "images": 0}', 0)
) as v (a, cost);
select is(private.llm_cost('acme/one', null, u), cost, 'costs: ' || u::text)
from (values ('{"input_tokens": 10, "images": 3}'::jsonb, 1510::bigint), ('{"input_tokens": 10}', 10)) as v (u, cost);
select is(private.llm_cost('none/x', null, '{"images": 3}'), null, 'nobody knows what');
select is(private.llm_attempt(call, '{"name": "acme/one", "max_output_tokens": 10}') - 'cost_microusd', wanted, 'an attempt at ' || call::text)
from (values
  ('{"kind": "chat", "input_tokens": 7, "choices": 3, "images": 5}'::jsonb, '{"input_tokens": 7, "output_tokens": 30, "images": 0}'::jsonb),
  ('{"kind": "images", "input_tokens": 7, "choices": 1, "images": 5}', '{"input_tokens": 7, "output_tokens": 50, "images": 5}'),
  ('{"kind": "images", "input_tokens": 7, "choices": 1, "images": 0}', '{"input_tokens": 7, "output_tokens": 10, "images": 0}')
) as v (call, wanted);
select is(private.llm_input_tokens('{"kind": "chat", "input_tokens": 7, "images": 2}', jsonb_build_object('name', model)), tokens, 'two images for ' || model)
from (values ('openai/gpt-4o-mini', 87007::bigint), ('openai/gpt-4o', 7)) as v (model, tokens);

-- ---- what it has used: parts at most the whole, and nothing that a vendor leaves out is free
select is(private.llm_number(n), wanted, 'a number: ' || n::text) from (values ('5'::jsonb, 5), ('"5"', null), ('3000000000', 2147483647), ('-1', 0), ('null', null)) as v (n, wanted);
select is(jsonb_strip_nulls(private.llm_sum(spent, used)) @> wanted, true, format('%s and %s', spent, used))
from (values
  ('{}'::jsonb, '{}'::jsonb, '{"input_tokens": 0, "cost_microusd": 0, "estimated": false}'::jsonb),
  ('{"input_tokens": 3, "cost_microusd": 1, "estimated": true}', '{"input_tokens": 4, "images": 2}', '{"input_tokens": 7, "cost_microusd": 1, "images": 2, "estimated": true}'),
  ('{"output_tokens": 3}', '{"output_tokens": 4, "estimated": true}', '{"output_tokens": 7, "estimated": true}'),
  ('{"estimated": "true"}', '{"estimated": false}', '{"estimated": false}')
) as v (spent, used, wanted);
create function tests.uses(usage jsonb, model text default 'acme/one') returns jsonb language sql as $$
  select jsonb_strip_nulls(private.llm_used(jsonb_populate_record(null::private.llm_open_calls, jsonb_build_object(
    'call', jsonb_build_object('targets', jsonb_build_array(jsonb_build_object('name', model, 'provider', 'acme'), '{"name": "acme/two"}'::jsonb)),
    'target_index', 0, 'attempt', '{"input_tokens": 9, "cost_microusd": 77}'::jsonb
  )), usage))
$$;
select is(tests.uses(u), '{"input_tokens": 9, "cost_microusd": 77, "estimated": true}', 'as much as was held: ' || u::text)
from unnest(array['{}', '{"prompt_tokens": 5}', '{"completion_tokens": 5}', '{"prompt_tokens": 5, "completion_tokens": 5, "target_index": 1}']::jsonb[]) as u;
select is(tests.uses(u, model), wanted, format('%s by %s', u, model))
from (values
  ('{"prompt_tokens": 50, "completion_tokens": 20, "cached_tokens": 60, "cache_write_tokens": 10, "reasoning_tokens": 30, "images": 2000, "target_index": 0}'::jsonb, 'acme/one',
    '{"input_tokens": 50, "output_tokens": 20, "cache_read_tokens": 50, "cache_write_tokens": 0, "cache_write_1h_tokens": 0, "reasoning_tokens": 20, "images": 1000, "estimated": false, "cost_microusd": 500230}'::jsonb),
  ('{"prompt_tokens": 50, "completion_tokens": 20, "cached_tokens": 30, "cache_write_tokens": 15, "reasoning_tokens": 5, "images": 1, "estimated": true}', 'acme/one',
    '{"input_tokens": 50, "output_tokens": 20, "cache_read_tokens": 30, "cache_write_tokens": 15, "cache_write_1h_tokens": 0, "reasoning_tokens": 5, "images": 1, "estimated": true, "cost_microusd": 664}'),
  ('{"prompt_tokens": 50, "completion_tokens": 20}', 'none/x',
    '{"input_tokens": 50, "output_tokens": 20, "cache_read_tokens": 0, "cache_write_tokens": 0, "cache_write_1h_tokens": 0, "reasoning_tokens": 0, "images": 0, "estimated": false, "cost_microusd": 77}')
) as v (u, model, wanted);

-- ---- what it holds: what is missing, by subject and meter, and once
create function tests.wants(who text, meter text) returns jsonb language sql as $$
  select jsonb_build_array(jsonb_build_object('subject', tests.org(who), 'meter', wants.meter))
$$;
create function tests.hold(holds jsonb, wants jsonb, attempt jsonb) returns jsonb language sql as $$ select private.llm_hold(holds, wants, attempt, '1 hour') $$;
create function tests.entries(holds jsonb) returns text language sql as $$
  select string_agg(concat_ws(' ', e ->> 'meter', e ->> 'held', jsonb_array_length(e -> 'holds'), e ->> 'counts'), ', ' order by n)
  from jsonb_array_elements(holds) with ordinality as h (e, n)
$$;
select tests.hold('[]', tests.wants('ada', 'llm_tokens'), '{"input_tokens": 10, "output_tokens": 5, "cost_microusd": 7}') as first \gset
select is(tests.entries(:'first'), 'llm_tokens 15 1 true', 'the first attempt holds what it can use');
select is(tests.entries(tests.hold(:'first', tests.wants('ada', 'llm_tokens'), a)), 'llm_tokens 15 1 true', 'one that needs no more holds no more: ' || a::text)
from unnest(array['{"input_tokens": 15}', '{"output_tokens": 3}']::jsonb[]) as a;
select is(tests.entries(tests.hold(:'first', tests.wants('ada', 'llm_tokens'), '{"input_tokens": 16}')), 'llm_tokens 16 2 true', 'one that needs one more holds one more');
select tests.used(tests.org('ada'), 'llm_tokens') as held \gset
select is(:held, 16, 'of all of which the meter knows');
select is(tests.entries(tests.hold(jsonb_set(:'first', '{0,sunk}', '15'), tests.wants('ada', 'llm_tokens'), '{"input_tokens": 2}')), 'llm_tokens 17 2 true', 'what former attempts have used stays held');
select is(tests.entries(tests.hold(:'first', tests.wants('ada', 'llm_cost_microusd'), '{"input_tokens": 99, "cost_microusd": 7}')), 'llm_tokens 15 1 false, llm_cost_microusd 7 1 true', 'another meter is held beside');
select is(tests.entries(tests.hold(:'first', tests.wants('bob', 'llm_tokens'), '{"input_tokens": 99}')), 'llm_tokens 15 1 false, llm_tokens 99 1 true', 'and another subject');
select tests.refuses(format('select tests.hold(%L, tests.wants(%L, %L), %L)', '[]', 'ada', 'llm_tokens', '{"input_tokens": 100000}'), 'quota_exceeded', 'the plan refuses by its own code');

-- ---- what it gives back
select private.llm_end_holds(:'first', '{"input_tokens": 4, "output_tokens": 1}', '{}');
select is(tests.used(tests.org('ada'), 'llm_tokens'), :'held'::bigint - 10 + 2, 'of 15, 5 are settled');
select private.llm_end_holds(jsonb_set(jsonb_set(tests.hold('[]', tests.wants('bob', 'llm_cost_microusd'), '{"cost_microusd": 50}'), '{0,sunk}', '20'), '{0,counts}', to_jsonb(counts)), '{"cost_microusd": 3}', '{}')
from unnest(array[false, true]) as counts;
select is(tests.used(tests.org('bob'), 'llm_cost_microusd'), 43::bigint, 'what former attempts used, and of the last one what counts');

-- ---- which of the targets can be called, and for how much
insert into public.llm_providers (id, org_id, name, kind, enabled) values (gen_random_uuid(), tests.org('ada'), 'mine', 'openai', true), (gen_random_uuid(), tests.org('ada'), 'claude', 'anthropic', true), (gen_random_uuid(), tests.org('ada'), 'gem', 'gemini', true);
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, max_output_tokens) values ('echo/short', 1, 1, 50), ('mine/short', 1, 1, 50);
create function tests.target(model text, call jsonb, fields text[] default '{}') returns text language sql as $$
  select coalesce(t.code, concat_ws(' ', t.target ->> 'provider', t.target ->> 'own_key', t.target ->> 'max_output_tokens'))
  from private.llm_target(tests.org('ada'), target.model, call, jsonb_populate_record(null::public.llm_routes, '{"default_output_tokens": 300, "max_output_tokens": 200}'), fields) as t
$$;
select is(tests.target(model, call, fields), wanted, format('%s %s %s', model, call, fields))
from (values
  ('nobody/x', '{"kind": "chat"}'::jsonb, '{}'::text[], 'model_not_found'), ('claude/x', '{"kind": "chat"}', '{}', 'claude true 200'), ('claude/x', '{"kind": "embeddings"}', '{}', 'bad_request'),
  ('gem/x', '{"kind": "images", "images": 1}', '{}', 'gem true 200'), ('gem/x', '{"kind": "images", "images": 2}', '{}', 'bad_request'), ('gem/x', '{"kind": "chat", "images": 2}', '{}', 'gem true 200'),
  ('mine/x', '{"kind": "images", "images": 2}', '{}', 'mine true 200'), ('mine/x', '{"kind": "chat"}', '{service_tier}', 'mine true 200'), ('echo/short', '{"kind": "chat"}', '{service_tier}', 'bad_request'),
  ('echo/short', '{"kind": "chat"}', '{}', 'echo false 50'), ('openai/unheard-of', '{"kind": "chat"}', '{}', 'model_not_priced'), ('echo/short', '{"kind": "images", "images": 1}', '{}', 'model_not_priced'),
  ('mine/x', '{"kind": "embeddings"}', '{}', 'mine true 0'), ('mine/x', '{"kind": "chat", "max_output_tokens": 40}', '{}', 'mine true 40'), ('mine/short', '{"kind": "chat", "max_output_tokens": 60}', '{}', 'mine true 50'),
  ('mine/short', '{"kind": "chat", "max_output_tokens": 40}', '{}', 'mine true 40')
) as v (model, call, fields, wanted);

-- ---- what a caller may say of a call, to the last one
create function tests.says(input bigint, choices integer, images integer, fields text[], trace text) returns void language plpgsql as $$
begin
  perform public.authorize_llm_call('echo/a', 'chat', input, 1, choices, images, null, null, fields, trace);
end
$$;
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select tests.says(%L, %L, %L, %L, %L)', input, choices, images, fields, trace), code, format('%s %s %s, %s fields, a trace of %s', input, choices, images, cardinality(fields), char_length(trace)))
from (values
  (20000001::bigint, 1, 0, '{}'::text[], 'x', 'invalid_input'), (20000000, 1, 0, '{}', 'x', 'quota_exceeded'), (1, 129, 0, '{}', 'x', 'invalid_input'), (1, 1, 20001, '{}', 'x', 'invalid_input'),
  (1, 1, 0, array_fill('f'::text, array[101]), 'x', 'invalid_input'), (1, 1, 0, array_fill('f'::text, array[100]), 'x', 'bad_request'), (1, 1, 0, array[repeat('f', 2001)], 'x', 'invalid_input'),
  (1, 1, 0, array[repeat('f', 2000)], 'x', 'bad_request'), (1, 1, 0, null, 'x', 'invalid_input'), (1, 1, 0, '{}', repeat('x', 65), 'invalid_input')
) as v (input, choices, images, fields, trace, code);
select lives_ok(format('select tests.says(1, %L, %L, %L, %L)', choices, images, '{}', trace), format('%s %s and a trace of %s', choices, images, char_length(trace)))
from (values (128, 20000, repeat('x', 64)), (0, 0, null)) as v (choices, images, trace);

select * from finish();
rollback;
