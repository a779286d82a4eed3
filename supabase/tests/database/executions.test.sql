begin;
\ir 000_helpers.sql
select plan(113);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset
select tests.skill(tests.org('bob')) as bobs \gset

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.executions', '42501', null, 'anon reads nothing');
select throws_ok($$select public.execute_skill(gen_random_uuid())$$, '42501', null, 'anon executes nothing');
select throws_ok($$select public.cancel_execution(gen_random_uuid())$$, '42501', null, 'anon cancels nothing');
select throws_ok($$select public.retry_execution(gen_random_uuid())$$, '42501', null, 'anon retries nothing');

select tests.act_as('bob');
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'not_found', 'another organization''s skill is not found');
select tests.refuses('select public.execute_skill(gen_random_uuid())', 'not_found', 'a skill that does not exist is not found');
select tests.refuses('select public.execute_skill(null)', 'not_found', 'null is not found');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'not_found', 'naming the organization by header fails');
select tests.act('authenticated', '{"role": "authenticated"}', null);
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'not_identified', 'a token without a user is unauthenticated');
select tests.act_as('vic');
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'permission_denied', 'a viewer does not execute');

select tests.act_as('ada');
select throws_ok($$insert into public.executions (org_id) values (tests.org('ada'))$$, '42501', null, 'the owner does not insert executions');
select throws_ok($$update public.executions set status = 'succeeded'$$, '42501', null, 'the owner does not change executions');
select throws_ok('delete from public.executions', '42501', null, 'the owner does not delete executions');

-- ---- executing
select tests.act_as('mem');
select (e).id as e1, (e).job_id as job1 from (select public.execute_skill(:'skill', '{"text": "a"}') as e) as s \gset
select results_eq(
  format('select org_id, skill_id, trigger, status, input, model, created_by from public.executions where id = %L', :'e1'),
  $$values (tests.org('ada'), $$ || quote_literal(:'skill') || $$::uuid, 'manual', 'queued', '{"text": "a"}'::jsonb, 'echo/echo', tests.id('mem'))$$,
  'a member executes a skill'
);
select is((select kind || ' ' || status || ' ' || (payload ->> 'execution_id') from public.jobs where id = :'job1'), 'execution.echo queued ' || :'e1', 'a job of the vendor''s kind runs it');
select is(tests.used(tests.org('ada'), 'executions'), 1::bigint, 'it is charged to the skill''s organization');
select is(tests.used(tests.org('mem'), 'executions'), 0::bigint, 'the caller''s own organization is not charged');
select tests.act_as('vic');
select isnt_empty('select 1 from public.executions', 'a viewer reads the execution');
select tests.act_as('bob');
select is_empty('select 1 from public.executions', 'a non-member does not read it');

select tests.act_as('mem');
select tests.refuses(format($$select public.execute_skill(%L, '[1]')$$, :'skill'), 'invalid_input', 'an input that is no object is refused');
select tests.refuses(format($$select public.execute_skill(%L, null)$$, :'skill'), 'invalid_input', 'an input of null is refused');
select tests.refuses(format($$select public.execute_skill(%L, jsonb_build_object('x', repeat('y', 300000)))$$, :'skill'), 'invalid_input', 'an input that is too large is refused');
select tests.refuses(format($$select public.execute_skill(%L, '{}', ' ')$$, :'skill'), 'invalid_input', 'a blank idempotency key is refused');
select is(tests.used(tests.org('ada'), 'executions'), 1::bigint, 'refused calls are not charged');

-- ---- idempotency
select (public.execute_skill(:'skill', '{"text": "b"}', 'k1')).id as e2 \gset
select is((public.execute_skill(:'skill', '{"text": "b"}', 'k1')).id, :'e2'::uuid, 'the same key and arguments return the same execution');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'the execution is charged once');
select tests.refuses(format($$select public.execute_skill(%L, '{"text": "c"}', 'k1')$$, :'skill'), 'idempotency_conflict', 'the same key with other arguments is refused');
select tests.act_as('bob');
select isnt((public.execute_skill(:'bobs', '{"text": "b"}', 'k1')).id, :'e2'::uuid, 'the same key of another organization is free');

-- ---- a worker runs it
select tests.act_as_sidecar();
select is((select payload ->> 'execution_id' from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo'])), :'e1', 'a worker claims the job');
select is(private.executions_start('other', :'job1'), null, 'another worker cannot start it');
select is(
  private.executions_start('w', :'job1') - 'org_id',
  jsonb_build_object(
    'execution_id', :'e1', 'skill_id', :'skill', 'model', 'echo/echo', 'prompt_template', 'Summarize: {{ text }}',
    'input', '{"text": "a"}'::jsonb, 'reads_files', false, 'input_schema', '{"type": "object"}'::jsonb, 'parameters', '{}'::jsonb, 'max_output_tokens', null, 'skill_version', 1, 'trigger', 'manual', 'attempt', 1
  ),
  'the holder gets what it needs to run it'
);
select tests.act_as_superuser();
select ok(status = 'running' and started_at is not null, 'the execution is running') from public.executions where id = :'e1';
select tests.refuses(format($$select private.jobs_complete('w', jsonb_build_array(jsonb_build_object('id', %L)))$$, :'job1'), 'internal', 'the job does not succeed without its execution');
select private.jobs_enqueue_many(jsonb_build_array(
  jsonb_build_object('org_id', tests.org('ada'), 'kind', 'mail'), jsonb_build_object('org_id', tests.org('ada'), 'kind', 'mail')
));
select id as mail from private.jobs_claim('w', '1 minute', 1, array['mail']) \gset
select id as mail2 from private.jobs_claim('w', '1 minute', 1, array['mail']) \gset
update public.jobs set cancel_requested = true where id = :'mail2';
select set_eq(
  format(
    $$select id, status, code from private.jobs_complete('w', (select jsonb_agg(jsonb_build_object('id', v)) from unnest(array[%L, %L, %L, gen_random_uuid()]::uuid[]) as v))$$,
    :'mail', :'job1', :'mail2'
  ),
  format($$values (%L::uuid, 'succeeded', null), (%L, 'refused', 'XX000'), (%L, 'cancelled', null)$$, :'mail', :'job1', :'mail2'),
  'in a batch its result is refused alone, and the others end'
);
select is((select status from public.jobs where id = :'job1'), 'running', 'the refused job is still running');
select is((select count(*) from public.job_event_log where job_id = :'mail2'), 1::bigint, 'an end has one event');
select tests.act_as_sidecar();
select is(private.executions_finish('other', :'job1', '{"output": {}}'), false, 'another worker cannot finish it');
select is(
  private.executions_finish('w', :'job1', '{"output": {"text": "A"}, "model": "echo/echo", "input_tokens": 1001, "output_tokens": 10, "finish_reason": "stop"}', 1),
  true, 'the holder finishes it'
);
select is(private.executions_finish('w', :'job1', '{"output": {"text": "B"}, "input_tokens": 5}'), false, 'it is finished once');
select tests.act_as('mem');
select results_eq(
  format('select status, output, input_tokens, output_tokens, cost_microusd from public.executions where id = %L', :'e1'),
  -- 1001 * 0.15 + 10 * 0.6 = 156.15
  $$values ('succeeded', '{"text": "A"}'::jsonb, 1001::bigint, 10::bigint, 157::bigint)$$,
  'output, tokens and cost are stored, the cost rounded up'
);
select is((select status || ' ' || result from public.jobs where id = :'job1'), 'succeeded {"finish_reason": "stop"}', 'the job has ended');
select is(tests.used(tests.org('ada'), 'llm_tokens'), 1011::bigint, 'tokens are metered');
select is(tests.used(tests.org('ada'), 'llm_cost_microusd'), 157::bigint, 'the cost is metered');
select tests.refuses(format('select public.cancel_execution(%L)', :'e1'), 'conflict', 'a succeeded execution is not cancelled');
select tests.refuses(format('select public.retry_execution(%L)', :'e1'), 'conflict', 'a succeeded execution is not retried');
select tests.act_as_superuser();
select tests.refuses(format($$update public.executions set status = 'failed' where id = %L$$, :'e1'), 'conflict', 'no role changes a final status');

-- ---- prices
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('acme/one', 1000000, 2000000), ('acme/*', 5000000, 5000000);
select is(private.models_cost('acme/one', null, '{"input_tokens": 3, "output_tokens": 4}'), 11::bigint, 'an exact price');
select is(private.models_cost('acme/one', 'acme/one-2026', '{"input_tokens": 3, "output_tokens": 4}'), 11::bigint, 'the requested model''s price if a dated name is reported');
select is(private.models_cost('acme/two', 'acme/two-2026', '{"input_tokens": 1, "output_tokens": 0}'), 5::bigint, 'else the provider''s price');
select is(private.models_cost('none/x', 'none/x', '{"input_tokens": 1, "output_tokens": 1}'), null, 'else no price');

-- ---- failing and retrying
select tests.act_as('mem');
select (e).id as e3, (e).job_id as job3 from (select public.execute_skill(:'skill', '{"text": "x"}') as e) as s \gset
select tests.act_as_superuser();
-- Before those of the organization whose turn it is.
update public.jobs set run_at = run_at - interval '1 hour', priority = 1 where id = :'job3';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo'])), :'job3'::uuid, 'a job is claimed');
select isnt(private.executions_start('w', :'job3'), null, 'its execution starts');
select is(private.executions_fail('w', :'job3', 'provider_error', 'HTTP 503', true), 'queued', 'a retryable failure queues the job');
select tests.act_as('mem');
select is((select status || ' ' || error_code from public.executions where id = :'e3'), 'queued provider_error', 'the execution is queued again');
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '2 hours' where id = :'job3';
select tests.act_as_sidecar();
select is((select attempt from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo'])), 2, 'the job is claimed again');
select isnt(private.executions_start('w', :'job3', 2), null, 'the execution starts again');
select is(private.executions_fail('w', :'job3', 'invalid_input', 'text: missing', false), 'dead', 'a failure that is not retryable ends the job');
select tests.act_as('mem');
select is((select status || ' ' || error_code || ' ' || error from public.executions where id = :'e3'), 'failed invalid_input text: missing', 'a final failure fails the execution');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'it costs nothing, because no model was called');
select tests.act_as('bob');
select tests.refuses(format('select public.retry_execution(%L)', :'e3'), 'not_found', 'a non-member finds nothing to retry');
select tests.refuses(format('select public.cancel_execution(%L)', :'e3'), 'not_found', 'a non-member finds nothing to cancel');
select tests.act_as('vic');
select tests.refuses(format('select public.retry_execution(%L)', :'e3'), 'permission_denied', 'a viewer does not retry');
select tests.refuses(format('select public.cancel_execution(%L)', :'e2'), 'permission_denied', 'a viewer does not cancel');
select tests.act_as('mem');
select (e).id as e4, (e).job_id as job4, (e).retry_of as of4, (e).status as status4 from (select public.retry_execution(:'e3') as e) as s \gset
select is(:'of4'::uuid, :'e3'::uuid, 'a member retries: a new execution with the same input');
select is(tests.used(tests.org('ada'), 'executions'), 3::bigint, 'the new execution is reserved');

-- ---- cancelling
select is((public.cancel_execution(:'e4')).status, 'cancelled', 'a queued execution is cancelled at once');
select is((select status from public.jobs where id = :'job4'), 'cancelled', 'its job is cancelled');
select is((public.cancel_execution(:'e4')).status, 'cancelled', 'a second call succeeds');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'an execution that did not start costs nothing');
select (public.retry_execution(:'e4')).id as e5 \gset
select is((select retry_of from public.executions where id = :'e5'), :'e4'::uuid, 'a cancelled execution is retried');
select job_id as job5 from public.executions where id = :'e5' \gset
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '3 hours', priority = 1 where id = :'job5';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo'])), :'job5'::uuid, 'its job is claimed');
select isnt(private.executions_start('w', :'job5'), null, 'it starts');
select tests.act_as('mem');
select is((public.cancel_execution(:'e5')).status, 'running', 'the worker of a running execution is asked to stop');
select tests.act_as_sidecar();
select is(private.executions_finish('w', :'job5', '{"output": {"text": "late"}, "input_tokens": 100, "output_tokens": 0}'), false, 'a result after that does not count');
select tests.act_as('mem');
select is((select status from public.executions where id = :'e5'), 'cancelled', 'the execution is cancelled');
select is(tests.used(tests.org('ada'), 'llm_tokens'), 1111::bigint, 'the call was made and is recorded');

-- ---- cancelled between the claim and the start: it does not start
select (e).id as e9, (e).job_id as job9 from (select public.execute_skill(:'skill') as e) as s \gset
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '4 hours', priority = 1 where id = :'job9';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo'])), :'job9'::uuid, 'a job is claimed');
select tests.act_as('mem');
select is((public.cancel_execution(:'e9')).status, 'queued', 'its worker is asked to stop before it starts');
select tests.act_as_sidecar();
select is(private.executions_start('w', :'job9', 1), null, 'the worker gets nothing to start');
select tests.act_as('mem');
select is((select status || ' ' || (started_at is null) from public.executions where id = :'e9'), 'cancelled true', 'the execution is cancelled');
select is((select status from public.jobs where id = :'job9'), 'cancelled', 'its job is cancelled');
select is(tests.used(tests.org('ada'), 'executions'), 3::bigint, 'it costs nothing');

-- ---- a lost worker, a deleted skill, a disabled one
select tests.act_as_superuser();
select job_id as job2 from public.executions where id = :'e2' \gset
update public.jobs set run_at = now() - interval '4 hours', attempt = 4, priority = 1 where id = :'job2';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('gone', '1 second', 1, array['execution', 'execution.echo'])), :'job2'::uuid, 'the job is claimed for the last time');
select isnt(private.executions_start('gone', :'job2'), null, 'its execution starts');
select tests.act_as_superuser();
update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = :'job2';
select is(private.jobs_requeue_expired(), 1, 'its lease expires');
select is((select status || ' ' || error_code from public.executions where id = :'e2'), 'failed lease_expired', 'the execution fails with it');

select tests.act_as('mem');
update public.skills set enabled = false where id = :'skill';
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'conflict', 'a disabled skill is not executed');
select tests.refuses(format('select public.retry_execution(%L)', :'e4'), 'conflict', 'its executions are not retried');
select is((public.execute_skill(:'skill', '{"text": "b"}', 'k1')).id, :'e2'::uuid, 'a repeated idempotency key still returns its execution');
update public.skills set enabled = true where id = :'skill';
select (e).id as e6, (e).job_id as job6 from (select public.execute_skill(:'skill') as e) as s \gset
delete from public.skills where id = :'skill';
select is((select skill_id from public.executions where id = :'e6'), null, 'a deleted skill leaves its executions');
select tests.refuses(format('select public.retry_execution(%L)', :'e4'), 'conflict', 'they are not retried');
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '5 hours', priority = 1 where id = :'job6';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo'])), :'job6'::uuid, 'a queued job of the deleted skill is claimed');
select is(private.executions_start('w', :'job6'), null, 'it does not start');
select tests.act_as('mem');
select is((select status || ' ' || error_code from public.executions where id = :'e6'), 'failed not_found', 'the execution fails with the reason');

-- ---- unpriced models and outputs too large: recorded all the same
select tests.act_as_superuser();
create function tests.ran(skill uuid, outcome jsonb) returns uuid language plpgsql as $$
declare
  execution public.executions;
begin
  -- A skill without a price is not queued; the price goes while the execution waits.
  insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('none/x', 0, 0);
  perform tests.act_as('bob');
  execution := public.execute_skill(skill);
  perform tests.act_as_superuser();
  delete from public.llm_models as m where m.id = 'none/x';
  update public.jobs as j set run_at = now() - interval '9 hours' where j.id = execution.job_id;
  perform tests.act_as_sidecar();
  perform private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo']);
  perform private.executions_start('w', execution.job_id);
  perform private.executions_finish('w', execution.job_id, outcome);
  perform tests.act_as_superuser();
  return execution.id;
end
$$;
update public.skills set model = 'none/x' where id = :'bobs';
select tests.ran(:'bobs', '{"output": {}, "input_tokens": 7, "output_tokens": "many"}') as e7 \gset
select is((select status || ' ' || input_tokens || ' ' || output_tokens || ' ' || cost_microusd from public.executions where id = :'e7'), 'succeeded 7 0 0', 'a model without a price costs nothing');
select isnt_empty(
  format($$select 1 from public.job_events as v join public.executions as e on e.job_id = v.job_id where e.id = %L and v.event = 'unpriced_model'$$, :'e7'),
  'the job has an event about it'
);
select tests.ran(:'bobs', jsonb_build_object('output', repeat('x', 1100000), 'input_tokens', 3)) as e8 \gset
select is((select status || ' ' || error_code || ' ' || input_tokens from public.executions where id = :'e8'), 'failed output_too_large 3', 'an output that is too large fails');
select is(tests.used(tests.org('bob'), 'llm_tokens'), 10::bigint, 'its use is recorded');
update public.skills set model = 'echo/echo' where id = :'bobs';

-- ---- quotas
select tests.act_as_superuser();
select kijko.set_limit(tests.org('bob'), 'executions', 'month', 5);
select tests.act_as('bob');
select is((select count(*) from generate_series(1, 2) where (public.execute_skill(:'bobs')).status = 'queued'), 2::bigint, 'executions up to the limit are queued');
select tests.refuses(format('select public.execute_skill(%L)', :'bobs'), 'quota_exceeded', 'the next one is refused');
select tests.answer(format('select public.execute_skill(%L)', :'bobs')) as refused \gset
select is(:'refused'::jsonb ->> 'status', '429', 'the status is 429');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Resource', 'executions', 'the refusal names the meter');
select is((select count(*) from public.jobs where status = 'queued' and kind like 'execution%'), 3::bigint, 'nothing is queued for a refused execution');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('bob'), 'executions', 'month', null);
select (kijko.try_consume(tests.org('bob'), 'llm_tokens', 99989)).allowed as fits \gset
select tests.act_as('bob');
select lives_ok(format('select public.execute_skill(%L)', :'bobs'), 'with one token left an execution runs');
select tests.act_as_superuser();
select is(kijko.record_usage(tests.org('bob'), 'llm_tokens', 500, kijko.now()), true, 'the use of a call is recorded beyond the limit');
select tests.act_as('bob');
select tests.answer(format('select public.execute_skill(%L)', :'bobs')) as refused \gset
select is(:'refused'::jsonb ->> 'code', 'quota_exceeded', 'the next execution is refused');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Resource', 'llm_tokens', 'the refusal has the meter in its header');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Limit', '100000', 'the refusal has the limit');
select is(:'refused'::jsonb -> 'headers' ->> 'X-RateLimit-Remaining', '0', 'the refusal has the rest');
select is(:'refused'::jsonb -> 'headers' ->> 'RateLimit-Policy', '"llm_tokens";q=100000', 'the refusal has the fields of the draft standard');
select ok((:'refused'::jsonb -> 'headers' ->> 'Retry-After')::bigint between 1 and 31 * 86400, 'the refusal has Retry-After');
select is(
  :'refused'::jsonb -> 'headers' ->> 'RateLimit', format('"llm_tokens";r=0;t=%s', :'refused'::jsonb -> 'headers' ->> 'Retry-After'),
  'which is the end of the period'
);
select tests.act_as_service();
update public.subscriptions set plan = 'PRO' where org_id = tests.org('bob');
select tests.act_as('bob');
select lives_ok(format('select public.execute_skill(%L)', :'bobs'), 'a higher plan allows the same call');

select * from finish();
rollback;
