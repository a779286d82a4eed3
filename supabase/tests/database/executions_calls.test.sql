-- The maximum of a model call is reserved before it, and its use is recorded after it, once.
begin;
\ir 000_helpers.sql
select tests.begin_round('execution', 'execution.echo', 'execution.openai');
select plan(74);

select tests.sign_up('ada'), tests.sign_up('bob');
insert into public.llm_models (
  id, input_microusd_per_mtok, output_microusd_per_mtok, reasoning_microusd_per_mtok, priority_input_microusd_per_mtok,
  priority_output_microusd_per_mtok, cache_write_1h_microusd_per_mtok, long_context_tokens, long_output_microusd_per_mtok, max_output_tokens
) values
  ('acme/one', 1000000, 2000000, null, null, null, 4000000, null, null, 500),
  ('acme/thinks', 1000000, 2000000, 8000000, 3000000, 5000000, null, 1000, 10000000, null),
  ('acme/free', 0, 0, null, null, null, null, null, null, null),
  ('openai/gpt-4o-test', 1000000, 1000000, null, 2000000, 2000000, null, null, null, null),
  ('openai/plain', 1000000, 1000000, null, null, null, null, null, null, null);
select kijko.set_limit(tests.org('ada'), 'executions', 'month', null);
select tests.act_as('ada');
insert into public.skills (name, prompt_template, model) values ('One', 'x', 'acme/one') returning id as skill \gset
select tests.act_as_superuser();

-- An execution whose worker is about to call the model.
-- A skill without a price is not queued, so its model is chosen afterwards.
create function tests.started(skill uuid, worker text default 'w', model text default null, parameters jsonb default null) returns public.executions language plpgsql as $$
declare
  execution public.executions;
begin
  perform tests.act_as('ada');
  execution := public.execute_skill(skill);
  perform tests.act_as_superuser();
  update public.skills as s set model = coalesce(started.model, s.model), parameters = coalesce(started.parameters, s.parameters)
  where s.id = started.skill and (started.model is not null or started.parameters is not null);
  update public.jobs as j set run_at = now() - interval '1 year' where j.id = execution.job_id;
  perform tests.act_as_sidecar();
  perform private.jobs_claim(worker, '1 minute', 1, array['execution', 'execution.echo', 'execution.openai']);
  perform private.executions_start(worker, execution.job_id);
  return execution;
end
$$;
create function tests.held(meter text) returns bigint language sql stable security definer as $$
  select coalesce(sum(h.amount), 0)::bigint from kijko.holds as h
  where h.subject = tests.org('ada') and h.meter = held.meter and h.state = 'open'
$$;
create function tests.execution(id uuid) returns public.executions language sql stable security definer as $$
  select e from public.executions as e where e.id = execution.id
$$;
create function tests.call_id(n bigint) returns uuid language sql immutable return pg_catalog.md5('call ' || n)::uuid;
create function tests.call(n bigint, tokens_in bigint, tokens_out bigint, more jsonb default '{}') returns jsonb language sql immutable
return pg_catalog.jsonb_build_object('id', tests.call_id(n), 'input_tokens', tokens_in, 'output_tokens', tokens_out) || more;
create function tests.use(n integer, tokens_in bigint, tokens_out bigint, more jsonb default '{}') returns jsonb language sql immutable
return pg_catalog.jsonb_build_object('call_id', tests.call_id(n), 'input_tokens', tokens_in, 'output_tokens', tokens_out) || more;

-- ---- only a worker
select tests.act_as_anon();
select throws_ok($$select private.executions_reserve_call('w', gen_random_uuid(), 1, '{}')$$, '42501', null, 'anon reserves nothing');
select tests.act_as('ada');
select throws_ok($$select private.executions_reserve_call('w', gen_random_uuid(), 1, '{}')$$, '42501', null, 'a user reserves nothing');
select throws_ok($$select private.executions_record_call('w', gen_random_uuid(), 1, '{}')$$, '42501', null, 'a user records nothing');
select throws_ok('select * from private.execution_calls', '42501', null, 'a user does not see the calls');

-- ---- queued: one execution is held
select (e).id as e1, (e).job_id as job1 from (select tests.started(:'skill') as e) as s \gset
select is(tests.used(tests.org('ada'), 'executions') || ' ' || tests.held('executions'), '1 1', 'a queued execution has a hold');

-- ---- reserved
select is(private.executions_reserve_call('other', :'job1', 1, tests.call(1, 1000, 500)), null, 'another worker reserves nothing');
select is(private.executions_reserve_call('w', :'job1', 2, tests.call(1, 1000, 500)), null, 'another attempt reserves nothing');
select is(private.executions_reserve_call('w', :'job1', 1, tests.call(1, 1000, 500)), jsonb_build_object('call_id', tests.call_id(1)), 'the holder reserves its call');
select is(private.executions_reserve_call('w', :'job1', 1, tests.call(1, 1000, 500)), jsonb_build_object('call_id', tests.call_id(1)), 'a repeated reservation is the same call');
select is(tests.held('llm_tokens') || ' ' || tests.held('llm_cost_microusd'), '1500 2000', 'tokens and cost are reserved once');
select is(tests.used(tests.org('ada'), 'llm_tokens'), 1500::bigint, 'the reservations count as used');
select is(tests.used(tests.org('ada'), 'executions') || ' ' || tests.held('executions'), '1 0', 'the execution is settled');
select is(
  private.executions_finish('w', :'job1', tests.use(1, 900, 100, '{"output": {"text": "x"}, "cache_write_tokens": 400, "cache_write_1h_tokens": 100}'), 1),
  true, 'the execution ends'
);
select is(tests.held('llm_tokens') + tests.held('llm_cost_microusd'), 0::bigint, 'no reservation is left');
-- 800 + 100 * 4 + 100 * 2: of 400 written to the cache, 100 stay for an hour
select is(tests.used(tests.org('ada'), 'llm_tokens') || ' ' || tests.used(tests.org('ada'), 'llm_cost_microusd'), '1000 1400', 'its use is recorded, a one-hour write at its own price');
select is(private.executions_record_call('w', :'job1', 1, tests.use(1, 900, 100)), false, 'a repeated end records nothing');
select is(tests.used(tests.org('ada'), 'llm_tokens'), 1000::bigint, 'the meter shows its use');
select tests.act_as('ada');
select is(
  (select array_agg(meter || ' ' || value order by meter) from public.usage_by('skill') where value is not null),
  array['executions ' || :'skill', 'llm_cost_microusd ' || :'skill', 'llm_tokens ' || :'skill'], 'every use has its attributes'
);

-- ---- cached tokens above the prompt
select (e).id as e2, (e).job_id as job2 from (select tests.started(:'skill') as e) as s \gset
select private.executions_reserve_call('w', :'job2', 1, tests.call(2, 100, 10)) is not null as reserved \gset
select private.executions_finish('w', :'job2', tests.use(2, 100, 10, '{"output": {}, "cache_read_tokens": 70, "cache_write_tokens": 500}'), 1) as finished \gset
select is((select cache_read_tokens || ' ' || cache_write_tokens from tests.execution(:'e2')), '70 30', 'cached tokens are at most the prompt''s tokens');
select (e).id as e3, (e).job_id as job3 from (select tests.started(:'skill') as e) as s \gset
select private.executions_reserve_call('w', :'job3', 1, tests.call(3, 100, 10)) is not null as reserved \gset
select private.executions_fail('w', :'job3', 'x', 'y', false, null, 1, tests.use(3, 100, 10, '{"cache_read_tokens": 500, "cache_write_tokens": 5}')) as failed \gset
select is((select cache_read_tokens || ' ' || cache_write_tokens from tests.execution(:'e3')), '100 0', 'cache reads and writes together are at most the prompt''s tokens');

-- ---- what does not fit is not run, and costs nothing
select tests.act_as_superuser();
select tests.used(tests.org('ada'), 'executions') as ran \gset
select (e).id as e4, (e).job_id as job4 from (select tests.started(:'skill') as e) as s \gset
select is(private.executions_reserve_call('w', :'job4', 1, tests.call(4, 60000, 60000)) ->> 'refused', 'quota_exceeded', 'a call of more tokens than are left is refused');
select is(private.executions_reserve_call('w', :'job4', 1, tests.call(4, 1000, 250000)) ->> 'refused', 'quota_exceeded', 'a call of more input and output than is left is refused');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'llm_tokens', 'month', null);
select tests.act_as_sidecar();
select is(private.executions_reserve_call('w', :'job4', 1, tests.call(4, 1000, 250000)) ->> 'refused', 'quota_exceeded', 'a call that costs more than is left is refused');
select is(tests.held('llm_tokens') + tests.held('llm_cost_microusd'), 0::bigint, 'a refused call reserves nothing');
select is(private.executions_fail('w', :'job4', 'quota_exceeded', 'used up', false, null, 1), 'dead', 'the execution ends');
select is((select status || ' ' || error_code from tests.execution(:'e4')), 'failed quota_exceeded', 'the execution has the reason');
select is(tests.used(tests.org('ada'), 'executions'), :'ran'::bigint, 'the execution is not charged');

-- ---- several at once: as many as fit
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'llm_tokens', 'month', tests.used(tests.org('ada'), 'llm_tokens') + 1000);
create table tests.parallel (job uuid, answer jsonb);
do $$
declare
  made uuid[];
begin
  -- Each plays its roles; the table is the superuser's.
  select array_agg((tests.started(s.id)).job_id) into made from public.skills as s, generate_series(1, 20) where s.name = 'One';
  perform tests.act_as_superuser();
  insert into tests.parallel (job) select unnest(made);
end
$$;
select tests.act_as_superuser();
update tests.parallel as p set answer = private.executions_reserve_call('w', p.job, 1, tests.call(n, 150, 150))
from (select q.job, 99 + row_number() over () as n from tests.parallel as q) as numbered (job, n) where numbered.job = p.job;
select is((select count(*) from tests.parallel where answer ? 'call_id'), 3::bigint, 'of twenty calls of 300 tokens, three fit into 1,000');
select is((select count(*) from tests.parallel where answer ->> 'refused' = 'quota_exceeded'), 17::bigint, 'the others are refused');
select count(private.executions_fail('w', job, 'x', 'y', false, null, 1)) as failed from tests.parallel \gset
select is(tests.held('llm_tokens') + tests.held('executions'), 0::bigint, 'an end without its use leaves no reservation');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'llm_tokens', 'month', null);

-- ---- the actual use is recorded, also above the limit
select (e).id as e5, (e).job_id as job5 from (select tests.started(:'skill') as e) as s \gset
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'llm_tokens', 'month', tests.used(tests.org('ada'), 'llm_tokens') + 100);
select tests.used(tests.org('ada'), 'llm_tokens') as before \gset
select tests.act_as_sidecar();
select private.executions_reserve_call('w', :'job5', 1, tests.call(5, 50, 50)) is not null as reserved \gset
select is(private.executions_finish('w', :'job5', tests.use(5, 5000, 5000, '{"output": {}}'), 1), true, 'a call uses more than was reserved');
select is(tests.used(tests.org('ada'), 'llm_tokens'), :'before'::bigint + 10000, 'all of its use is recorded');
select tests.act_as('ada');
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'quota_exceeded', 'the next execution is not queued');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'llm_tokens', 'month', null);

-- ---- a handed-back job, a lost worker
select (e).id as e6, (e).job_id as job6 from (select tests.started(:'skill', 'first') as e) as s \gset
select tests.used(tests.org('ada'), 'llm_tokens') as before \gset
select private.executions_reserve_call('first', :'job6', 1, tests.call(6, 3000, 100)) is not null as reserved \gset
select is(private.executions_record_call('other', :'job6', 1, tests.use(6, 9000, 0)), false, 'another worker records nothing for it');
select is(private.executions_record_call('first', :'job6', 1, tests.use(6, 9000, 0)), true, 'its use is recorded before it is handed back');
select is(private.executions_record_call('first', :'job6', 1, tests.use(6, 9000, 0)), false, 'its use is recorded once');
select is(private.jobs_release('first', array[:'job6'::uuid]), 1, 'the job is handed back');
select is((select status || ' ' || input_tokens from tests.execution(:'e6')), 'queued 9000', 'the queued execution shows its use');
select is(tests.used(tests.org('ada'), 'llm_tokens'), :'before'::bigint + 9000, 'the meter counts its use once');
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '1 year' where id = :'job6';
select tests.act_as_sidecar();
select private.jobs_claim('second', '1 minute', 1, array['execution', 'execution.echo', 'execution.openai']) is not null as again \gset
select private.executions_start('second', :'job6') is not null as again \gset
select is(private.executions_reserve_call('second', :'job6', 2, tests.call(7, 3000, 100)) ->> 'call_id', tests.call_id(7)::text, 'the next attempt has its own call');
select tests.act_as_superuser();
update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = :'job6';
select is(private.jobs_requeue_expired(), 1, 'its lease expires');
select is(tests.held('llm_tokens'), 0::bigint, 'its reservation is released');
update public.jobs set run_at = now() - interval '1 year' where id = :'job6';
select tests.act_as_sidecar();
select private.jobs_claim('third', '1 minute', 1, array['execution', 'execution.echo', 'execution.openai']) is not null as again \gset
select private.executions_start('third', :'job6') is not null as again \gset
select private.executions_reserve_call('third', :'job6', 3, tests.call(8, 3000, 100)) is not null as reserved \gset
select is(private.executions_record_call('second', :'job6', 2, tests.use(7, 2000, 10)), false, 'a late report of a lost worker charges nothing');
select is(private.executions_finish('second', :'job6', tests.use(7, 2000, 10, '{"output": {}}'), 2), false, 'the answer of a lost worker is refused');
select is(tests.held('llm_tokens'), 3100::bigint, 'the third attempt keeps its own call');
select is(private.executions_finish('third', :'job6', tests.use(8, 1000, 90, '{"output": {}}'), 3), true, 'the third attempt ends the execution');
select is((select status || ' ' || input_tokens || ' ' || output_tokens from tests.execution(:'e6')), 'succeeded 10000 90', 'the execution has the sums of all attempts');
select is(tests.used(tests.org('ada'), 'llm_tokens'), :'before'::bigint + 10090, 'the meter has the same sums');

-- ---- cancelled: not started, not called
select (e).id as e7, (e).job_id as job7 from (select tests.started(:'skill') as e) as s \gset
select tests.act_as('ada');
select (public.cancel_execution(:'e7')).status as asked \gset
select tests.act_as_sidecar();
select is(private.executions_reserve_call('w', :'job7', 1, tests.call(9, 10, 10)), null, 'an execution that is cancelled before its call is not called');
select is((select status from tests.execution(:'e7')), 'cancelled', 'the cancelled execution ends');

-- ---- one call of an execution is under way at a time, and another execution's stays
select (e).id as e8, (e).job_id as job8 from (select tests.started(:'skill') as e) as s \gset
select (e).id as e9, (e).job_id as job9 from (select tests.started(:'skill') as e) as s \gset
select tests.held('llm_tokens') as before \gset
select private.executions_reserve_call('w', :'job8', 1, tests.call(20, 100, 10)) is not null as reserved \gset
select private.executions_reserve_call('w', :'job9', 1, tests.call(21, 40, 2)) is not null as reserved \gset
select is(private.executions_reserve_call('w', :'job8', 1, tests.call(22, 500, 10)) ->> 'call_id', tests.call_id(22)::text, 'the next call takes the place of the one before');
select is(tests.held('llm_tokens') - :before, 552::bigint, 'and the other execution''s call stays');
select is(private.executions_record_call('w', :'job8', 1, tests.use(21, 9, 9)), false, 'nor does one report the call of another');
select tests.act_as_superuser();
select is((select c.used from private.execution_calls as c where c.id = tests.call_id(21)), null, 'of which nothing is noted then');
select is(tests.held('llm_tokens') - :before, 552::bigint, 'and which stays held');
select tests.act_as_sidecar();
select count(private.executions_fail('w', job::uuid, 'x', 'y', false, null, 1)) as failed from unnest(array[:'job8', :'job9']) as job \gset
select is(tests.held('llm_tokens') - :before, 0::bigint, 'until they end');
select tests.act_as('ada');
select (public.execute_skill(:'skill')).job_id as job10 \gset
select tests.act_as_superuser();
update public.jobs as j set run_at = now() - interval '1 year' where j.id = :'job10';
select tests.act_as_sidecar();
select private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo', 'execution.openai']) is not null as claimed \gset
select tests.refuses(format($$select private.executions_finish('w', %L, '{"output": {}}', 1)$$, :'job10'), 'conflict', 'what was not started does not end');

-- ---- prices
select tests.act_as_superuser();
select is(private.models_cost('acme/thinks', null, '{"input_tokens": 100, "output_tokens": 100, "reasoning_tokens": 60}'), 660::bigint, 'reasoning tokens at their price: 100 + 40 * 2 + 60 * 8');
select is(private.models_cost('acme/thinks', null, '{"output_tokens": 10, "reasoning_tokens": 60}'), 80::bigint, 'reasoning tokens are at most the output');
select is(private.models_cost('acme/thinks', null, '{"input_tokens": 2000, "output_tokens": 100, "reasoning_tokens": 60}'), 3000::bigint, 'beyond the step reasoning costs at least the long price: 2,000 + 100 * 10');
select is(private.models_cost('acme/thinks', null, '{"input_tokens": 100, "output_tokens": 100, "service_tier": "priority"}'), 800::bigint, 'priority: 100 * 3 + 100 * 5');
select is(private.models_cost('acme/one', null, '{"input_tokens": 100, "service_tier": "priority"}'), 100::bigint, 'a reported tier that was not requested costs the plain price');
create function tests.refused(model text, more jsonb default '{}') returns text language plpgsql as $$
declare
  execution public.executions;
  made uuid;
  call uuid := gen_random_uuid();
  answer text;
begin
  insert into public.skills (org_id, name, prompt_template) values (tests.org('ada'), 'x', 'x') returning id into made;
  execution := tests.started(made, 'w', refused.model, more);
  answer := private.executions_reserve_call('w', execution.job_id, 1, tests.call(0, 10, 10, more || jsonb_build_object('id', call))) ->> 'refused';
  perform private.executions_fail('w', execution.job_id, 'x', 'y', false, null, 1, tests.use(0, 0, 0, jsonb_build_object('call_id', call)));
  perform tests.act_as_superuser();
  return answer;
end
$$;
select results_eq(
  $$select tests.refused('none/x'), tests.refused('acme/free'), tests.refused('openai/plain'), tests.refused('openai/plain', '{"service_tier": "flex"}'),
    tests.refused('openai/plain', '{"service_tier": "priority"}'), tests.refused('openai/plain', '{"service_tier": "scale"}'),
    tests.refused('openai/gpt-4o-test', '{"service_tier": "priority"}'), tests.refused('gpt-4o-test'), tests.refused('gpt-0-unknown')$$,
  $$values ('model_not_priced', null::text, null::text, null::text, 'model_not_priced', 'model_not_priced', null::text, null::text, 'model_not_priced')$$,
  'a model without a price is not called'
);
select tests.act_as('ada');
select results_eq(
  $$select model || coalesce(' ' || (parameters ->> 'service_tier'), '') from public.skills where problems @> '[{"code": "model_not_priced"}]' order by 1$$,
  array['gpt-0-unknown', 'none/x', 'openai/plain priority', 'openai/plain scale'], 'skills.problems reports it before a run'
);

-- ---- what bounds an answer is a number
select throws_ok(format($$insert into public.skills (name, prompt_template, parameters) values ('x', 'y', %L)$$, p), '23514', null, p || ' is refused when stored')
from unnest(array['{"max_tokens": 0}', '{"max_tokens": "9"}', '{"max_tokens": 1.5}', '{"max_completion_tokens": 1e12}']) as p;
select lives_ok($$insert into public.skills (name, prompt_template, parameters) values ('x', 'y', '{"max_tokens": 9, "max_completion_tokens": null}')$$, 'a whole number or null is accepted');

-- ---- a hold ends with the use of tokens, and only with it
select tests.act_as_superuser();
select is((private.executions_add_usage(e, usage, 1)).hold_id is null, ends, 'whether a hold ends after ' || usage::text)
from jsonb_populate_record(null::public.executions, '{"hold_id": "00000000-0000-4000-8000-00000000000a", "input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0, "cost_microusd": 0}') as e,
  (values ('{}'::jsonb, false), ('{"input_tokens": 5}', true), ('{"output_tokens": 5}', true), ('{"input_tokens": 5, "output_tokens": 5}', true)) as v (usage, ends);
select is(
  (select concat_ws(' ', e.cache_read_tokens, e.cache_write_tokens, e.cost_microusd) from private.executions_add_usage(
    jsonb_populate_record(null::public.executions, '{"input_tokens": 1, "output_tokens": 0, "cache_read_tokens": 1, "cache_write_tokens": 1, "cost_microusd": 2}'),
    '{"input_tokens": 10, "cache_read_tokens": 7, "cache_write_tokens": 9}', 5
  ) as e),
  '8 4 7', 'what a cache wrote is at most what it did not read, and costs add up'
);

select * from finish();
rollback;
