begin;
\ir 000_helpers.sql
select plan(67);
\set fixture `cat tests/fixtures/litellm_prices.json`

create function tests.cost(usage jsonb, model text default 'acme/one') returns bigint language sql stable as $$
  select private.models_cost(model, null, usage)
$$;
insert into public.llm_models (
  id, input_microusd_per_mtok, output_microusd_per_mtok, cache_read_microusd_per_mtok, cache_write_microusd_per_mtok, cache_write_1h_microusd_per_mtok,
  batch_input_microusd_per_mtok, batch_output_microusd_per_mtok, long_context_tokens,
  long_input_microusd_per_mtok, long_output_microusd_per_mtok, long_cache_read_microusd_per_mtok, long_cache_write_microusd_per_mtok
) values
  ('acme/one', 3000000, 15000000, 300000, 3750000, 6000000, 1500000, 7500000, 200000, 6000000, 22500000, 600000, 7500000),
  ('acme/plain', 3000000, 15000000, null, null, null, null, null, null, null, null, null, null),
  ('acme/step', 1000000, 2000000, 100000, null, null, null, null, 10, 4000000, null, null, null),
  ('acme/free', 0, 0, null, null, null, 0, 0, null, null, null, null, null),
  ('acme/cheap', 1, 1, null, null, null, null, null, null, null, null, null, null),
  ('acme/third', 3, 3, null, null, null, 1, 1, null, null, null, null, null),
  ('openai/gpt-4o-test', 1000000, 1000000, null, null, null, null, null, null, null, null, null, null);

-- ---- arithmetic: whole millionths of a dollar, rounded up once
select is(tests.cost('{"input_tokens": 1000, "output_tokens": 100}'), 4500::bigint, 'a call costs its input and output');
select is(tests.cost('{}'), 0::bigint, 'a call without tokens costs 0');
select is(tests.cost('{"input_tokens": 1}', 'acme/cheap'), 1::bigint, 'a millionth of a millionth is rounded up');
select is(tests.cost('{"input_tokens": 999999, "output_tokens": 1}', 'acme/cheap'), 1::bigint, 'the parts are not rounded before the sum');
select is(tests.cost('{"input_tokens": 1000000, "output_tokens": 1}', 'acme/cheap'), 2::bigint, 'one token more costs one more');
select is(tests.cost('{"input_tokens": 1000000000, "output_tokens": 1000000000}', 'acme/free'), 0::bigint, 'a free model costs 0');
select is(tests.cost('{"input_tokens": 1000000000000, "output_tokens": 1000000000000}', 'acme/plain'), 18000000000000::bigint, 'large counts do not overflow');
select is(tests.cost('{"input_tokens": 1}', 'none/x'), null, 'the cost is null without a price');

-- ---- cache
select is(tests.cost('{"input_tokens": 1000, "cache_read_tokens": 400}'), 1920::bigint, 'cache reads are among the input: 600 * 3 + 400 * 0.3');
select is(tests.cost('{"input_tokens": 1000, "cache_write_tokens": 400}'), 3300::bigint, 'cache writes: 600 * 3 + 400 * 3.75');
select is(tests.cost('{"input_tokens": 1000, "cache_write_tokens": 400, "cache_write_1h_tokens": 100}'), 3525::bigint, 'one-hour writes are among the writes: 600 * 3 + 300 * 3.75 + 100 * 6');
select is(tests.cost('{"input_tokens": 1000, "cache_read_tokens": 500, "cache_write_tokens": 400, "output_tokens": 10}'), 2100::bigint, 'all parts together: 100 * 3 + 500 * 0.3 + 400 * 3.75 + 10 * 15');
select is(tests.cost('{"input_tokens": 1000, "cache_read_tokens": 400, "cache_write_tokens": 400, "cache_write_1h_tokens": 100}', 'acme/plain'), 3000::bigint, 'cached tokens without a price cost as input');
select is(tests.cost('{"input_tokens": 100, "cache_read_tokens": 500, "cache_write_tokens": 500}'), 30::bigint, 'cached tokens are cut to the input');
select is(tests.cost('{"input_tokens": 100, "cache_write_tokens": 50, "cache_write_1h_tokens": 500}'), 450::bigint, 'one-hour writes are cut to the writes: 50 * 3 + 50 * 6');
select is(tests.cost('{"input_tokens": -5, "output_tokens": "many", "cache_read_tokens": null}'), 0::bigint, 'values that are no counts count as 0');

-- ---- long context
select is(tests.cost('{"input_tokens": 200000, "output_tokens": 1000}'), 615000::bigint, 'up to the step: 200,000 * 3 + 1,000 * 15');
select is(tests.cost('{"input_tokens": 200001, "output_tokens": 1000}'), 1222506::bigint, 'beyond the step the whole call costs the long price: 200,001 * 6 + 1,000 * 22.5');
select is(tests.cost('{"input_tokens": 200001, "cache_read_tokens": 200001}'), 120001::bigint, 'cached tokens count for the step: 200,001 * 0.6 rounded up');
select is(tests.cost('{"input_tokens": 300000, "cache_write_tokens": 100000}'), 1950000::bigint, 'writes beyond the step: 200,000 * 6 + 100,000 * 7.5');
select is(tests.cost('{"input_tokens": 300000, "cache_write_tokens": 100000, "cache_write_1h_tokens": 100000}'), 1800000::bigint, 'a missing long price is the plain one: 200,000 * 6 + 100,000 * 6');
select is(tests.cost('{"input_tokens": 11, "cache_read_tokens": 1, "output_tokens": 1}', 'acme/step'), 43::bigint, '10 * 4 + 0.1 + 2, rounded up once');

-- ---- batch
select is(tests.cost('{"input_tokens": 1000, "output_tokens": 100, "batch": true}'), 2250::bigint, 'a batch call costs the batch prices');
select is(tests.cost('{"input_tokens": 1000, "output_tokens": 100, "batch": false}'), 4500::bigint, 'another call does not');
select is(tests.cost('{"input_tokens": 1000, "output_tokens": 100, "batch": "true"}'), 4500::bigint, 'batch counts only as a boolean');
select is(tests.cost('{"input_tokens": 1000, "output_tokens": 100, "batch": true}', 'acme/plain'), 4500::bigint, 'without batch prices there is no discount');
select is(tests.cost('{"input_tokens": 1000, "cache_read_tokens": 400, "batch": true}'), 960::bigint, 'the discount applies to cached tokens');
select is(tests.cost('{"input_tokens": 200001, "output_tokens": 1000, "batch": true}'), 611253::bigint, 'the discount applies beyond the step');
select is(tests.cost('{"input_tokens": 1000, "batch": true}', 'acme/free'), 0::bigint, 'a free batch costs 0');
select is(tests.cost('{"input_tokens": 3000000, "output_tokens": 3000000, "batch": true}', 'acme/third'), 6::bigint, 'thirds are exact');

-- ---- of two surcharges the higher one counts, for each kind of token
select results_eq(
  $$select (p.m).id, c.long, c.priority, r.* from (
      select jsonb_populate_record(null::public.llm_models, '{"id": "a", "input_microusd_per_mtok": 10, "output_microusd_per_mtok": 20, "reasoning_microusd_per_mtok": 200,
        "cache_read_microusd_per_mtok": 1, "cache_write_microusd_per_mtok": 12, "cache_write_1h_microusd_per_mtok": 16, "long_input_microusd_per_mtok": 40,
        "long_output_microusd_per_mtok": 100, "priority_input_microusd_per_mtok": 30, "priority_output_microusd_per_mtok": 50, "priority_cache_read_microusd_per_mtok": 3}')
      union all
      select jsonb_populate_record(null::public.llm_models, '{"id": "b", "input_microusd_per_mtok": 10, "output_microusd_per_mtok": 20, "long_output_microusd_per_mtok": 100}')
    ) as p (m) cross join (values (false, false), (true, false), (false, true), (true, true)) as c (long, priority)
    cross join lateral private.models_rates(p.m, c.long, c.priority) as r order by 1, 2, 3$$,
  $$values ('a', false, false, 10::bigint, 20::bigint, 200::bigint, 1::bigint, 12::bigint, 16::bigint), ('a', false, true, 30, 50, 200, 3, 30, 30),
      ('a', true, false, 40, 100, 200, 1, 12, 16), ('a', true, true, 40, 100, 200, 3, 30, 30),
      ('b', false, false, 10, 20, 20, 10, 10, 10), ('b', false, true, 10, 20, 20, 10, 10, 10), ('b', true, false, 10, 100, 100, 10, 10, 10), ('b', true, true, 10, 100, 100, 10, 10, 10)$$,
  'rates by length and tier'
);
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, cache_write_microusd_per_mtok, reasoning_microusd_per_mtok) values ('acme/parts', 0, 0, 2000000, 3000000);
select is(
  tests.cost('{"input_tokens": 10, "cache_write_tokens": 10, "output_tokens": 10, "reasoning_tokens": 10, "batch": true}', 'acme/parts'), 50::bigint,
  'what costs although the whole is free has no discount: 10 * 2 + 10 * 3'
);

-- ---- which price
select is(private.models_cost('gpt-4o-test', 'openai/gpt-4o-test-2026', '{"input_tokens": 7}'), 7::bigint, 'a well-known name without its provider finds the price');
select is(private.models_cost('openai/gpt-4o-test', 'openai/gpt-4o-test-2026', '{"input_tokens": 7}'), 7::bigint, 'the name with its provider finds the same price');

-- ---- a name may go without its provider
select tests.sign_up('ada');
select tests.act_as('ada');
select lives_ok(format($$insert into public.skills (name, prompt_template, model) values ('x', 'y', %L)$$, m), m || ' names its vendor')
from unnest(array['gpt-4o', 'o3-mini', 'claude-sonnet-4-5', 'gemini-2.5-pro']) as m;
select throws_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'llama3')$$, '23514', null, 'llama3 names no provider');
select throws_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'gpt-4o name')$$, '23514', null, 'a name has no blanks');

-- ---- LiteLLM's file
select throws_ok($$select private.models_import_prices('{}')$$, '42501', null, 'users do not import prices');
select tests.act_as_sidecar();
select throws_ok($$select private.models_import_prices('{}')$$, '42501', null, 'the sidecar does not import prices');
select tests.act_as_superuser();
select tests.refuses($$select private.models_import_prices('[]')$$, 'invalid_input', 'a list is refused');
delete from public.llm_models where id like 'openai/%' or id like 'anthropic/%' or id like 'gemini/%';
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, source) values
  ('openai/gpt-4o', 1, 1, 'seed'), ('gemini/gemini-2.5-pro', 1, 1, 'operator');
select private.models_import_prices(:'fixture'::jsonb) as imported \gset
select is(:'imported'::jsonb - 'skipped', '{"added": 3, "changed": 1, "unchanged": 0}', 'the import returns counts');
select results_eq(
  format($$select model, reason from jsonb_to_recordset(%L::jsonb -> 'skipped') as s (model text, reason text) order by model collate "C"$$, :'imported'),
  $$values
    ('bedrock/us-east-1/anthropic.claude-v2:1', 'provider bedrock is not imported'),
    ('gemini/gemini-2.5-pro', 'its price was set by hand'),
    ('gpt with blanks', 'not a name that a skill can have'),
    ('gpt-audio-by-the-second', 'no price for a token'),
    ('gpt-of-words', 'input_cost_per_token is no number'),
    ('gpt-that-pays', 'input_cost_per_token is out of range'),
    ('sample_spec', 'an explanation, no model')$$,
  'the import returns what it skipped and why'
);
select results_eq(
  $$select input_microusd_per_mtok, output_microusd_per_mtok, cache_read_microusd_per_mtok, batch_input_microusd_per_mtok, batch_output_microusd_per_mtok, source
    from public.llm_models where id = 'openai/gpt-4o'$$,
  $$values (2500000::bigint, 10000000::bigint, 1250000::bigint, 1250000::bigint, 5000000::bigint, 'litellm')$$,
  'a seeded price is replaced; of two entries for one model, the first by name'
);
select results_eq(
  $$select input_microusd_per_mtok, cache_read_microusd_per_mtok, cache_write_microusd_per_mtok, cache_write_1h_microusd_per_mtok, long_context_tokens,
      long_input_microusd_per_mtok, long_output_microusd_per_mtok, long_cache_read_microusd_per_mtok, long_cache_write_microusd_per_mtok, long_cache_write_1h_microusd_per_mtok
    from public.llm_models where id = 'anthropic/claude-sonnet-4-5-20250929'$$,
  $$values (3000000::bigint, 300000::bigint, 3750000::bigint, 6000000::bigint, 200000::bigint, 6000000::bigint, 22500000::bigint, 600000::bigint, 7500000::bigint, null::bigint)$$,
  'prices of cache and long context are stored'
);
select results_eq($$select input_microusd_per_mtok, output_microusd_per_mtok from public.llm_models where id = 'openai/text-embedding-3-small'$$, $$values (20000::bigint, 0::bigint)$$, 'models of embeddings have a price');
select is((private.models_parse_litellm_price('whisper-1', '{"litellm_provider": "openai", "mode": "audio_transcription"}', '{openai}')).reason, 'mode audio_transcription, not chat or embedding', 'other models have none');
select is((select cache_read_microusd_per_mtok from public.llm_models where id = 'gemini/gemini-2.0-flash-lite'), 18750::bigint, 'rounded binary fractions are read as decimals');
select is((select input_microusd_per_mtok from public.llm_models where id = 'gemini/gemini-2.5-pro'), 1::bigint, 'a price set by hand stays');
select is(private.models_import_prices(:'fixture'::jsonb) - 'skipped', '{"added": 0, "changed": 0, "unchanged": 4}', 'the same file again changes nothing');
select is(
  private.models_import_prices(jsonb_set(:'fixture'::jsonb, '{gpt-4o}', (:'fixture'::jsonb -> 'gpt-4o') - 'cache_read_input_token_cost')) - 'skipped',
  '{"added": 0, "changed": 1, "unchanged": 3}', 'a price that is missing in the file changes the model'
);
select is((select cache_read_microusd_per_mtok from public.llm_models where id = 'openai/gpt-4o'), null, 'the missing price is null');
select is(private.models_import_prices('{}'), '{"added": 0, "changed": 0, "unchanged": 0, "skipped": []}', 'an empty file changes nothing');
select isnt_empty($$select 1 from public.llm_models where id = 'openai/gpt-4o'$$, 'a model that is missing in the file stays');
select is(
  private.models_import_prices('{"a": null, "b": 3, "c": {"litellm_provider": 5, "mode": "chat"}, "d": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": null, "output_cost_per_token": 1e-6}}') -> 'added',
  '0', 'malformed entries are skipped'
);

-- ---- recording: the use of a failed call
select tests.act_as('ada');
insert into public.skills (name, prompt_template, model) values ('Booked', 'y', 'acme/one') returning id as skill \gset
select (e).id as e1, (e).job_id as job1 from (select public.execute_skill(:'skill') as e) as s \gset
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '1 hour' where id = :'job1';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo'])), :'job1'::uuid, 'a job is claimed');
select isnt(private.executions_start('w', :'job1'), null, 'its execution starts');
select is(private.executions_fail('other', :'job1', 'x', 'y', true, null, 1, '{"input_tokens": 1000}'), null, 'another worker records nothing');
select is(
  private.executions_fail('w', :'job1', 'vendor_truncated', 'broke off', true, null, 1, '{"model": "acme/one-2026", "input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 400}'),
  'queued', 'a call that broke off is retried'
);
select is(private.executions_fail('w', :'job1', 'vendor_truncated', 'broke off', true, null, 1, '{"input_tokens": 1000}'), null, 'its end is recorded once');
select tests.act_as('ada');
select results_eq(
  format('select status, model, input_tokens, output_tokens, cache_read_tokens, cost_microusd from public.executions where id = %L', :'e1'),
  $$values ('queued', 'acme/one-2026', 1000::bigint, 100::bigint, 400::bigint, 3420::bigint)$$, 'its use is recorded'
);
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '1 hour' where id = :'job1';
select tests.act_as_sidecar();
select private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo']) is not null as again \gset
select private.executions_start('w', :'job1', 2) is not null as again \gset
select is(
  private.executions_fail('w', :'job1', 'model_refused', 'declined', false, null, 2, '{"input_tokens": 1000, "output_tokens": 1}'), 'dead', 'a refusal is final'
);
select tests.act_as('ada');
select is((select status || ' ' || error_code || ' ' || input_tokens || ' ' || output_tokens || ' ' || cost_microusd from public.executions where id = :'e1'), 'failed model_refused 2000 101 6435', 'a refusal adds its use');
select is(tests.used(tests.org('ada'), 'llm_tokens'), 2101::bigint, 'the meters have both calls, once');
select is(tests.used(tests.org('ada'), 'llm_cost_microusd'), 6435::bigint, 'the meters have their cost');

select * from finish();
rollback;
