-- Executions are jobs of the kind of their vendor, also when the model of their skill changes while they wait.
begin;
\ir 000_helpers.sql
select plan(22);

select is(private.executions_job_kind(m), k, m || ' is asked through ' || k)
from (values
  ('echo/echo', 'execution.echo'), ('openai/meta/llama', 'execution.openai'), ('gpt-4o', 'execution.openai'), ('o3-mini', 'execution.openai'),
  ('anthropic/claude', 'execution.anthropic'), ('claude-sonnet', 'execution.anthropic'), ('gemini-2.5-pro', 'execution.gemini'), ('acme/one', 'execution')
) as v (m, k);

select tests.sign_up('ada'), tests.sign_up('bob');
select tests.skill(tests.org('ada')) as skill \gset
select tests.skill(tests.org('ada'), 'another') as another \gset
select tests.skill(tests.org('bob')) as bobs \gset
select tests.act_as('ada');
select (public.execute_skill(:'skill')).job_id as running \gset
select tests.called(:'running');
select tests.act_as('ada');
select (public.execute_skill(:'skill')).job_id as first from generate_series(1, 3) order by 1 limit 1 \gset
select (public.execute_skill(:'another')).job_id as others_job \gset
select tests.act_as('bob');
select (public.execute_skill(:'bobs')).job_id as bobs_job \gset
select tests.act_as('ada');

-- ---- the model changes to another vendor's: queued jobs move at once
update public.skills set prompt_template = 'Other: {{ text }}', model = 'echo/other' where id = :'skill';
select tests.act_as_superuser();
select is((select count(*) from public.jobs where org_id = tests.org('ada') and kind = 'execution.echo'), 5::bigint, 'another model of the same vendor moves nothing');
select tests.act_as('ada');
update public.skills set model = 'gpt-4o' where id = :'skill';
select tests.act_as_superuser();
select results_eq(
  $$select kind, status, attempt, count(*) from public.jobs where org_id = tests.org('ada') and kind <> 'skill_check' group by kind, status, attempt order by kind, status$$,
  $$values ('execution.echo', 'queued', 0, 1::bigint), ('execution.echo', 'running', 1, 1), ('execution.openai', 'queued', 0, 3)$$,
  'queued jobs move to the new vendor, one that runs stays'
);
select is((select kind from public.jobs where id = :'others_job'), 'execution.echo', 'another skill''s job stays');
select is((select kind from public.jobs where id = :'bobs_job'), 'execution.echo', 'another organization''s job stays');
select tests.act_as_sidecar();
select is((select count(*) from private.jobs_claim('v', '1 minute', 9, array['execution.openai']) where id = :'first'), 1::bigint, 'the new vendor''s worker claims it');
select is((private.executions_start('v', :'first')) ->> 'model', 'gpt-4o', 'it runs the new model');

-- ---- claimed before the model changed
select is(private.executions_start('w', :'running'), null, 'a job that the former vendor''s worker holds does not start there');
select tests.act_as_superuser();
select results_eq(
  format('select kind, status, attempt - uncounted_attempts from public.jobs where id = %L', :'running'), $$values ('execution.openai', 'queued', 0)$$,
  'it moves to the new vendor without using an attempt'
);
select is((select event from public.job_event_log where job_id = :'running'), 'redirected', 'its events have the move');
select tests.act_as_sidecar();
select is((select count(*) from private.jobs_claim('v', '1 minute', 9, array['execution.openai']) where id = :'running'), 1::bigint, 'the new vendor''s worker claims it');
select is((private.executions_start('v', :'running')) ->> 'model', 'gpt-4o', 'and starts it');

-- ---- running while the model changes
select tests.act_as('ada');
update public.skills set model = 'claude-sonnet' where id = :'skill';
select tests.act_as_sidecar();
select is(private.executions_fail('v', :'running', 'x', 'y', true), 'queued', 'a job fails that was running while the model changed');
select is(private.executions_fail('v', :'first', 'x', 'y', true, outage => true), 'queued', 'another one because of an outage');
select tests.act_as_superuser();
select is(
  (select count(*) from public.jobs where id in (:'running', :'first') and kind = 'execution.anthropic' and status = 'queued'), 2::bigint,
  'both move to the new vendor'
);

select * from finish();
rollback;
