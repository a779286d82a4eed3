-- Checks of skills: which save queues one, what is recorded, and what a skill with problems may not do.
begin;
\ir 000_helpers.sql
select plan(44);

select tests.sign_up('ada'), tests.sign_up('bob');
select tests.act_as('ada');
insert into public.skills (name, prompt_template) values ('Summarize', 'One {{ text }}') returning id as skill \gset
select tests.act_as_superuser();
create function tests.checks() returns text language sql stable security definer as $$
  select string_agg(j.status || ' ' || coalesce(j.unique_key, '-'), ', ' order by j.id) from public.jobs as j
  where j.org_id = tests.org('ada') and j.kind = 'skill_check'
$$;
create function tests.row() returns text language sql stable security definer as $$
  select version || ' ' || problems || ' ' || (checked_at is not null) from public.skills where org_id = tests.org('ada')
$$;

-- ---- only the sidecar
select tests.act_as_anon();
select throws_ok(format('select private.skills_start_check(%L)', :'skill'), '42501', null, 'anon reads no version');
select tests.act_as('ada');
select throws_ok(format('select private.skills_start_check(%L)', :'skill'), '42501', null, 'nor does a user');
select throws_ok(format($$select private.skills_record_check(%L, 1, '[]')$$, :'skill'), '42501', null, 'a user records no check');
select throws_ok($$select private.skills_end_check('w', gen_random_uuid(), 1)$$, '42501', null, 'a user ends no check');
select throws_ok($$select private.models_report_providers('{x}')$$, '42501', null, 'a user reports no providers');

-- ---- a save queues a check, once
select tests.act_as_superuser();
select is(tests.checks(), 'queued ' || :'skill', 'an insert queues a check');
select is(tests.row(), '1 [] false', 'the skill is not checked yet');
select is((select payload from public.jobs where kind = 'skill_check' and org_id = tests.org('ada')), jsonb_build_object('skill_id', :'skill'), 'the job names the skill and holds nothing of it');
select tests.act_as('ada');
update public.skills set prompt_template = 'Two {{ text }}' where id = :'skill';
select is(tests.checks(), 'queued ' || :'skill', 'a save finds the job that waits');
update public.skills set name = 'Renamed' where id = :'skill';
select is(tests.row(), '2 [] false', 'a new name is no version and needs no check');

-- ---- a worker checks the current version
select tests.act_as_sidecar();
select id as job from private.jobs_claim('w', '1 minute', 100, array['skill_check']) where payload ->> 'skill_id' = :'skill' \gset
select is(private.skills_start_check(:'skill') #>> '{task,prompt_template}', 'Two {{ text }}', 'it reads the current version');
select tests.act_as('ada');
update public.skills set prompt_template = 'Three {{ text' where id = :'skill';
select is(tests.checks(), 'running ' || :'skill' || ', queued -', 'a save while a check runs queues another one');
select tests.act_as_sidecar();
select is(private.skills_record_check(:'skill', 2, '[{"code": "template_error", "message": "old"}]'), false, 'the result of a former version is not taken');
select is(tests.row(), '3 [] false', 'and changes nothing');
select is(private.skills_end_check('other', :'job', 1), false, 'another worker does not end the job');
select is(private.skills_end_check('w', :'job', 2), false, 'nor does another attempt');
select is(private.skills_end_check('w', :'job', 1), true, 'its worker does');
select is(tests.checks(), 'queued -', 'the ended job is deleted');
select tests.travel('1 minute');
select is(private.skills_record_check(:'skill', 3, '[{"code": "template_error", "message": "line 1"}]'), true, 'the current version''s result is taken');
select is(tests.row(), '3 [{"code": "template_error", "message": "line 1"}] true', 'and kept');
select is(private.skills_record_check(:'skill', 3, '[{"code": "template_error", "message": "line 1"}]'), true, 'a check that runs twice');
select is(tests.row(), '3 [{"code": "template_error", "message": "line 1"}] true', 'changes nothing');
select is(private.skills_record_check(gen_random_uuid(), 1, '[]'), false, 'a deleted skill has no result');
select is(private.skills_start_check(gen_random_uuid()), null, 'and nothing to check');

-- ---- a check is not a change
select tests.act_as('ada');
select is((select updated_at = created_at from public.skills where id = :'skill'), true, 'updated_at is that of the last save');

-- ---- with problems it does not run
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'skill_not_runnable', 'it is not executed');
select is(tests.answer(format('select public.execute_skill(%L)', :'skill')) - 'headers', '{"code": "skill_not_runnable", "status": 422}', 'the status is 422');
select is(tests.refusal(format('select public.execute_skill(%L)', :'skill')) ->> 'details', 'template_error: line 1', 'the details list the problems');
select is(tests.used(tests.org('ada'), 'executions'), 0::bigint, 'nothing is charged');
insert into public.habits (skill_id, name, cron) values (:'skill', 'Often', '* * * * *') returning id as habit \gset
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'skill_not_runnable', 'its habit does not run');
select tests.travel('3 minutes');
select tests.act_as_superuser();
select private.habits_run_due();
select is((select status || ' ' || error_code from public.executions where habit_id = :'habit'), 'skipped skill_not_runnable', 'its slots are skipped');
select tests.act_as_sidecar();
select private.skills_record_check(:'skill', (private.skills_start_check(:'skill') ->> 'version')::integer, '[{"code": "unknown_variable", "severity": "warning", "message": "x"}]');
select tests.act_as('ada');
select lives_ok(format('select public.execute_skill(%L)', :'skill'), 'a warning stops no run');
update public.skills set prompt_template = 'Four {{ text }}' where id = :'skill';
select is(tests.row(), '4 [] false', 'a save clears the problems of the former version');
select is((public.execute_skill(:'skill')).status, 'queued', 'a version that is not checked yet may run');

-- ---- the model: prices and providers
select tests.act_as_superuser();
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('openai/test', 1, 1);
select tests.act_as('ada');
update public.skills set model = 'openai/test' where id = :'skill';
select is(tests.row(), '5 [] false', 'while no sidecar has reported, every provider counts as on');
select tests.act_as_sidecar();
select private.models_report_providers('{echo,echo}');
select private.skills_record_check(:'skill', 5, '[]');
select is(tests.row(), '5 [{"code": "model_not_available", "message": "no worker has a key for openai", "severity": "error"}] true', 'a provider that is off is a problem');
select tests.act_as('ada');
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'skill_not_runnable', 'and the skill does not run');
select tests.act_as_sidecar();
select private.models_report_providers('{openai}');
select tests.act_as('ada');
select is((public.execute_skill(:'skill')).status, 'queued', 'once it is on, the skill runs at once');
select tests.act_as_superuser();
select tests.travel('9 minutes');
select private.skills_refresh_problems();
select is(tests.row(), '5 [] true', 'and the next refresh clears the problem');
delete from public.llm_models where id = 'openai/test';
delete from public.llm_models where id = 'openai/*';
select cmp_ok(private.skills_refresh_problems(), '>=', 1, 'a price that is gone');
select is((select problems #>> '{0,code}' from public.skills where id = :'skill'), 'model_not_priced', 'is a problem after the refresh');
select is((select updated_at = created_at + interval '3 minutes' from public.skills where id = :'skill'), true, 'which is no change of the skill');
select is((select count(*) from generate_series(1, 3) where private.skills_refresh_problems() = 0) > 1, true, 'when nothing has changed, a refresh changes nothing');

-- ---- one check of an organization at a time: its slow schemas hold one slot of a worker
select tests.act_as('ada');
insert into public.skills (name, prompt_template) select 'Many ' || n, 'x' from generate_series(1, 3) as n;
select tests.act_as('bob');
insert into public.skills (name, prompt_template) values ('Theirs', 'x');
select tests.act_as_superuser();
delete from public.jobs where kind = 'skill_check' and org_id not in (tests.org('ada'), tests.org('bob'));
delete from public.jobs where kind = 'skill_check' and status = 'running';
select tests.act_as_sidecar();
select is((select count(*) || ' ' || count(distinct c.org_id) from private.jobs_claim('w', '1 minute', 100, array['skill_check']) as c), '2 2', 'a claim takes one of each');

select * from finish();
rollback;
