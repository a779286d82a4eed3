-- Skills: what editors may ask, dry runs, test runs and statistics.
begin;
\ir 000_helpers.sql
select plan(47);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem'), tests.sign_up('hasty');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.skills (name, prompt_template, parameters) values ('Say', 'Say {{ n }}', '{"max_tokens": 7}') returning id as skill \gset
insert into public.skills (name, prompt_template, project_id) values ('Hidden', 'Say {{ n }}', :'secret') returning id as hidden \gset
select tests.act_as_superuser();
create function tests.job(id uuid) returns public.jobs language sql stable security definer as $$ select j from public.jobs as j where j.id = job.id $$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok(format(c, :'skill'), '42501', null, 'anon: ' || c)
from unnest(array['select public.check_skill(%L)', 'select public.test_skill(%L)', 'select public.skill_stats(%L)']) as c;
select tests.act_as('bob');
select tests.refuses(format(c, :'skill'), 'not_found', 'a non-member: ' || c)
from unnest(array['select public.check_skill(%L)', 'select public.test_skill(%L)', 'select public.skill_stats(%L)']) as c;
select throws_ok($$select private.skills_estimate_cost('echo/echo', 1, 1, null)$$, '42501', null, 'a user estimates no cost');
select throws_ok('select * from private.skill_tests', '42501', null, 'a user does not see who tests');

-- ---- a viewer
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.check_skill(%L)', :'skill'), 'permission_denied', 'a viewer checks none');
select tests.refuses('select public.check_skill()', 'permission_denied', 'and writes none');
select tests.refuses(format('select public.test_skill(%L)', :'skill'), 'permission_denied', 'a viewer tests none');
select is((public.skill_stats(:'skill')).runs, 0::bigint, 'a viewer reads statistics');
select tests.refuses(format('select public.skill_stats(%L)', :'hidden'), 'not_found', 'not those of a hidden skill');

-- ---- a member asks about a model, and about a skill
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.check_skill(%L)', :'hidden'), 'not_found', 'a hidden skill is not found');
select tests.refuses(format('select public.test_skill(%L)', :'hidden'), 'not_found', 'nor tested');
select is(public.check_skill(model => 'gpt-0-unknown') #>> '{problems,0,code}', 'model_not_priced', 'a model without a price');
select is(public.check_skill() -> 'problems', '[]', 'the default model has none');
select is(public.check_skill(:'skill') - array['org_id', 'max_output_tokens'], '{"problems": [], "model": "echo/echo", "parameters": {"max_tokens": 7}, "prompt_template": "Say {{ n }}", "input_schema": {"type": "object"}}', 'what is left out is the skill''s');
select is(public.check_skill(:'skill', 'echo/other', '{}') - array['org_id', 'max_output_tokens', 'problems', 'prompt_template', 'input_schema'], '{"model": "echo/other", "parameters": {}}', 'what is given counts');
select tests.refuses($$select public.check_skill(parameters => '[]')$$, 'invalid_input', 'parameters are an object');
select tests.refuses($$select public.check_skill(model => repeat('x', 201))$$, 'invalid_input', 'a name is short');

-- ---- a dry run is a job, one of each caller
select public.test_skill(:'skill', '{"n": 1}') as answer \gset
select is(:'answer'::jsonb -> 'dry_run', 'true', 'without more it is a dry run');
select is((select kind || ' ' || payload from tests.job((:'answer'::jsonb ->> 'job_id')::uuid)), 'skill_test ' || jsonb_build_object('skill_id', :'skill', 'input', '{"n": 1}'::jsonb)::text, 'it is a job');
select is(tests.used(tests.org('ada'), 'executions') || ' ' || (select count(*) from public.executions), '0 0', 'which is no execution and not charged');
select tests.refuses(format('select public.test_skill(%L)', :'skill'), 'conflict', 'one after the other');
select tests.act_as('ada');
select isnt(public.test_skill(:'skill') ->> 'job_id', null, 'another caller does not wait for it');
select tests.act_as_superuser();
update public.jobs set status = 'succeeded', finished_at = now(), result = '{"prompt": "Say 1"}' where id = (:'answer'::jsonb ->> 'job_id')::uuid;
select tests.act_as('mem', tests.org('ada'));
select is((select result ->> 'prompt' from public.jobs where id = (:'answer'::jsonb ->> 'job_id')::uuid), 'Say 1', 'the caller reads its result');
select isnt(public.test_skill(:'skill', '{"n": 2}') ->> 'job_id', null, 'the next one');
select is_empty(format('select 1 from public.jobs where id = %L', :'answer'::jsonb ->> 'job_id'), 'deletes the last one''s job');
select tests.refuses(format($$select public.test_skill(%L, '[]')$$, :'skill'), 'invalid_input', 'an input is an object');
select tests.refuses(format($$select public.test_skill(%L, null)$$, :'skill'), 'invalid_input', 'and not null');
select tests.refuses(format($$select public.test_skill(%L, jsonb_build_object('x', repeat('y', 300000)))$$, :'skill'), 'invalid_input', 'and not too large');
select tests.act_as('bob');
insert into public.skills (name, prompt_template) values ('Bobs', 'x') returning id as bobs \gset
select tests.refuses(format($$select public.test_skill(%L, jsonb_build_object('x', array(select 1 from generate_series(1, 60000))))$$, :'bobs'), 'invalid_input', 'nor in the queue');

-- ---- a real run
select tests.act_as('ada');
select public.test_skill(:'skill', '{"n": 1}', false) ->> 'execution_id' as run \gset
select is((select trigger || ' ' || status || ' ' || (created_by = tests.id('ada')) from public.executions where id = :'run'), 'test queued true', 'it is an execution that says it is a test');
select is(tests.used(tests.org('ada'), 'executions'), 1::bigint, 'and is charged like any');
update public.skills set model = 'gpt-0-unknown' where id = :'skill';
select tests.refuses(format($$select public.test_skill(%L, '{}', false)$$, :'skill'), 'skill_not_runnable', 'with problems it does not run');
select tests.act_as_sidecar();
select is(private.skills_start_check(:'skill') #>> '{task,model}', 'gpt-0-unknown', 'a dry run tells them');
select is(private.skills_estimate_cost('echo/echo', 1000000, 0, null), 150000::bigint, 'the sidecar estimates the cost');
select is(private.skills_estimate_cost('gpt-0-unknown', 1, 1, null), null, 'which is unknown without a price');

-- ---- in a private project its viewer tests and checks nothing, and in an archived one nobody does
select tests.act_as('ada');
insert into public.project_members (project_id, user_id, role) values (:'secret', tests.id('mem'), 'viewer');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format(c, :'hidden'), 'permission_denied', 'a viewer of the project: ' || c)
from unnest(array['select public.test_skill(%L)', $$select public.test_skill(%L, '{}', false)$$, 'select public.check_skill(%L)']) as c;
select tests.act_as('ada');
select public.archive_project(:'secret');
select tests.refuses(format(c, :'hidden'), 'project_archived', 'an archived project: ' || c)
from unnest(array['select public.test_skill(%L)', $$select public.test_skill(%L, '{}', false)$$, 'select public.check_skill(%L)']) as c;

-- ---- a rate of each caller
select tests.act_as('hasty');
select cmp_ok((select count(*) from generate_series(1, 200) where tests.answer('select public.check_skill()') ->> 'code' = 'rate_limited'), '>=', 10::bigint, 'more than 120 a minute are refused');
select is(tests.answer('select public.check_skill()') #>> '{headers,Retry-After}' ~ '^[0-9]+$', true, 'with Retry-After');

select * from finish();
rollback;
