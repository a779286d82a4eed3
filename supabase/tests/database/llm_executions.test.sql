begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select plan(31);

select tests.sign_up('ada');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.skill(tests.org('ada')) as skill \gset
select tests.act_as('ada');
insert into public.llm_budgets (name, scope, period, unit, amount) values ('all', 'organization', 'day', 'tokens', 1000), ('each member', 'member', 'month', 'microusd', 1000);
select job_id as job, id as execution from public.execute_skill(:'skill') \gset

-- ---- a call of an execution holds against the budgets
select tests.called(:'job', '{"input_tokens": 300, "output_tokens": 500}') as called \gset
select :'called'::jsonb ->> 'call_id' as call \gset
select tests.act_as_superuser();
select is(array[tests.held_by('all'), tests.held_by('each member')], '{800,345}', 'it holds');
select is((select row(c.status, c.model, c.execution_id, c.skill_id, c.member_id, c.held_tokens)::text from tests.call(:'call') as c), format('(sent,echo/echo,%s,%s,%s,800)', :'execution', :'skill', tests.id('ada')), 'and is recorded');
select is(tests.counted(), '{800,345}', 'the meters hold it once');
select tests.act_as('ada');
select tests.refuses($$select tests.authorize('echo/a', 100, 101)$$, 'budget_exceeded', 'the gateway sees the same budget');
select tests.act_as_sidecar();
select ok(private.executions_finish('w', :'job', jsonb_build_object('output', 'x', 'input_tokens', 200, 'output_tokens', 100, 'cache_read_tokens', 50, 'model', 'echo/echo', 'call_id', :'call')), 'it ends');
select tests.act_as_superuser();
select is(array[tests.held_by('all'), tests.held_by('each member')], '{300,90}', 'and is settled');
select is(tests.counted(), '{300,90}', 'as the meters are');
select is((select row(c.status, c.input_tokens, c.output_tokens, c.cache_read_tokens, c.cost_microusd, c.reported_model)::text from tests.call(:'call') as c), '(succeeded,200,100,50,90,echo/echo)', 'with what it used');
select is((tests.call(:'call')).trace_id, replace(:'execution', '-', ''), 'in the trace of its execution');
select is((select count(*) from private.llm_open_calls where organization = tests.org('ada')), 0::bigint, 'nothing stays open');

-- ---- one that does not fit
select tests.act_as('ada');
select job_id as job from public.execute_skill(:'skill') \gset
select is(tests.called(:'job', '{"input_tokens": 300, "output_tokens": 500}') ->> 'refused', 'budget_exceeded', 'what does not fit is refused by its code');
select tests.act_as_superuser();
select is(array[tests.held_by('all'), (select count(*) from private.execution_calls where org_id = tests.org('ada'))], '{300,0}', 'and holds nothing');
select is(tests.counted(), '{300,90}', 'also on the meters');

-- ---- one whose worker is lost
select tests.act_as_sidecar();
select private.executions_reserve_call('w', :'job', null, jsonb_build_object('id', gen_random_uuid(), 'input_tokens', 100, 'output_tokens', 100)) ->> 'call_id' as call \gset
select tests.act_as_superuser();
select is(tests.held_by('all'), 500::bigint, 'a smaller one fits');
select private.executions_release_calls(e.org_id, e.id) from public.executions as e where e.job_id = :'job' \gset
select is((select row(c.status, c.error_code, c.input_tokens)::text from tests.call(:'call') as c), '(failed,lost,0)', 'a lost call costs nothing');
select is(tests.held_by('all'), 300::bigint, 'and gives back what it held');

-- ---- usage: non-members first
select tests.sign_up('bob'), tests.sign_up('mem');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as_anon();
select throws_ok($$select * from public.llm_usage('model')$$, '42501', null, 'anon sees no usage');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select * from public.llm_usage('model')$$, 'not_a_member', 'nor does a non-member');
select tests.act_as('ada', tests.org('ada'));
select tests.settle(tests.opened('echo/b', 10, 10), '{"status": "failed", "prompt_tokens": 10, "completion_tokens": 0, "error_code": "overloaded", "total_ms": 7}') is not null as settled \gset
select is((select row(u.*)::text from public.llm_usage('model') as u where u.value = 'echo/b'), '(echo/b,1,1,10,0,0,2,0,,7)', 'by model');
select is((select sum(u.calls) from public.llm_usage('member') as u where u.value = tests.id('ada')::text), 3::numeric, 'by member');
select is((select sum(u.calls) from public.llm_usage('skill') as u where u.value = :'skill'), 2::numeric, 'by skill');
select is((select string_agg(u.value, ',') from public.llm_usage('error') as u), 'overloaded,lost', 'by error');
select is((select count(*) from public.llm_usage('day')), 1::bigint, 'by day');
select is((select count(*) from public.llm_usage('model', since => kijko.now() + interval '1 day')), 0::bigint, 'since a time');
select tests.refuses($$select * from public.llm_usage('colour')$$, 'invalid_input', 'by nothing else');
insert into public.projects (name, visibility) values ('Hidden', 'private') returning id as hidden \gset
select tests.authorize('echo/c', 1, 1, jsonb_build_object('project', :'hidden')) as ticket \gset
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.llm_usage('model') as u where u.value = 'echo/c'), 0::bigint, 'calls of hidden projects are not counted');

-- ---- ones that fail, are cancelled and are handed back
select tests.act_as_superuser();
create function tests.call_of(job uuid) returns uuid language sql security definer as $$
  select (private.executions_reserve_call('w', job, null, jsonb_build_object('id', gen_random_uuid(), 'input_tokens', 10, 'output_tokens', 10)) ->> 'call_id')::uuid
$$;
select tests.call_of(:'job') as call \gset
select tests.act_as_sidecar();
select ok(private.executions_record_call('w', :'job', null, jsonb_build_object('call_id', :'call', 'input_tokens', 4, 'output_tokens', 1)), 'one is handed back');
select tests.act_as_superuser();
select is((select row(c.status, c.error_code, c.input_tokens)::text from tests.call(:'call') as c), '(cancelled,shutdown,4)', 'its call was cut');
select tests.call_of(:'job') as call \gset
select tests.act_as_sidecar();
select is(private.executions_fail('w', :'job', 'vendor_refused', 'no', false, usage => jsonb_build_object('call_id', :'call', 'input_tokens', 3, 'output_tokens', 0)), 'dead', 'one fails');
select tests.act_as_superuser();
select is((select row(c.status, c.error_code, c.input_tokens)::text from tests.call(:'call') as c), '(failed,vendor_refused,3)', 'and so has its call');
select is((select error_code from public.executions where job_id = :'job'), 'vendor_refused', 'by the same code');

select * from finish();
rollback;
