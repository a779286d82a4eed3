-- One execution with all that belongs to it, several at once, and the text of a running one.
begin;
\ir 000_helpers.sql
select plan(48);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset
select tests.skill(tests.org('bob')) as bobs \gset

select tests.act_as('bob');
select (public.execute_skill(:'bobs')).id as foreign \gset
select tests.act_as('mem', tests.org('ada'));
select (e).id as e1, (e).job_id as job1 from (select public.execute_skill(:'skill', '{"text": "a"}') as e) as s \gset
select (e).id as e2, (e).job_id as job2 from (select public.execute_skill(:'skill', '{"text": "b"}') as e) as s \gset

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select public.execution_detail(gen_random_uuid())', '42501', null, 'anon reads no detail');
select throws_ok('select * from public.retry_executions(array[gen_random_uuid()])', '42501', null, 'anon retries nothing');
select throws_ok('select * from public.cancel_executions(array[gen_random_uuid()])', '42501', null, 'anon cancels nothing');
select throws_ok('select * from public.execution_text_chunks', '42501', null, 'anon reads no text');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses(format('select public.execution_detail(%L)', :'e1'), 'not_found', 'a non-member finds no execution');
select tests.refuses('select public.execution_detail(null)', 'not_found', 'null is not found');
select tests.act_as('bob');
select is(
  (select array_agg(r.error ->> 'code') from public.cancel_executions(array[:'e1', :'e2']::uuid[]) as r), array['not_found', 'not_found'],
  'a non-member cancels none of them'
);
select is(
  (select array_agg((r.error ->> 'code') || ' ' || (r.execution is null)) from public.retry_executions(array[:'e1']::uuid[]) as r), array['not_found true'],
  'and retries none'
);
select tests.act('authenticated', '{"role": "authenticated"}', null);
select tests.refuses(format('select * from public.cancel_executions(array[%L]::uuid[])', :'e1'), 'not_identified', 'a token without a user is unauthenticated');
select tests.act_as('vic');
select is((select r.error ->> 'code' from public.cancel_executions(array[:'e1']::uuid[]) as r), 'permission_denied', 'a viewer cancels nothing');

-- ---- the list
select tests.act_as('mem');
select tests.refuses($$select * from public.cancel_executions('{}')$$, 'invalid_input', 'an empty list is refused');
select tests.refuses('select * from public.cancel_executions(null)', 'invalid_input', 'no list is refused');
select tests.refuses('select * from public.retry_executions(array[null]::uuid[])', 'invalid_input', 'null in the list is refused');
select tests.refuses(format('select * from public.retry_executions(array[%L, %1$L]::uuid[])', :'e1'), 'invalid_input', 'one that is there twice is refused');
select tests.refuses('select * from public.retry_executions(array(select gen_random_uuid() from generate_series(1, 101)))', 'invalid_input', 'more than 100 are refused');

-- ---- the text of a running execution
select tests.act_as_sidecar();
select count(*) as claimed from private.jobs_claim('w', '1 minute', 10, array['execution', 'execution.echo']) \gset
select is(private.executions_stream_text('w', :'job1', 1, 1, 'too early'), false, 'a queued execution takes no text');
select private.executions_start('w', :'job1') is not null as started, private.executions_start('w', :'job2') is not null as also \gset
select is(private.executions_stream_text('other', :'job1', 1, 1, 'x'), false, 'another worker writes none');
select is(private.executions_stream_text('w', :'job1', 2, 1, 'x'), false, 'nor another attempt');
select ok(private.executions_stream_text('w', :'job1', 1, 1, 'Once upon'), 'the holder writes');
select ok(private.executions_stream_text('w', :'job1', 1, 2, ' a time'), 'and again');
select ok(private.executions_stream_text('w', :'job1', 1, 2, ' a time'), 'the same piece twice is no error');
select throws_ok(format($$select private.executions_stream_text('w', %L, 1, 3, '')$$, :'job1'), '23514', null, 'an empty piece is refused');
select throws_ok(format($$select private.executions_stream_text('w', %L, 1, 3, repeat('x', 70000))$$, :'job1'), '23514', null, 'and one that is too large');
select throws_ok(format($$select private.executions_stream_text('w', %L, 1, 10001, 'x')$$, :'job1'), '23514', null, 'and one too many');
select ok(private.executions_stream_text('w', :'job2', 1, 1, 'Other'), 'another execution has its own');
select tests.act_as('vic');
select is(
  (select string_agg(text, '' order by seq) from public.execution_text_chunks where org_id = tests.org('ada') and execution_id = :'e1'),
  'Once upon a time', 'a viewer reads the text'
);
select throws_ok('delete from public.execution_text_chunks', '42501', null, 'and changes nothing');
select is(public.execution_detail(:'e1') ->> 'text', 'Once upon a time', 'the detail has it');
select tests.act_as('bob', tests.org('ada'));
select is_empty('select 1 from public.execution_text_chunks', 'a non-member reads none');

-- ---- an attempt that is lost takes its text with it
select tests.act_as_superuser();
update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = :'job2';
select private.jobs_requeue_expired() as requeued \gset
select is((select count(*) from public.execution_text_chunks where execution_id = :'e2'), 0::bigint, 'an expired lease clears the text');
select tests.act_as_sidecar();
select is(private.executions_stream_text('w', :'job2', 1, 2, 'late'), false, 'and its worker writes no more');
select tests.act_as('vic');
select is(public.execution_detail(:'e2') #>> '{attempts,0,outcome}', 'lease_expired', 'the detail says how the attempt ended');

-- ---- the end
select tests.act_as_sidecar();
select private.executions_finish('w', :'job1', '{"output": {"text": "Once upon a time."}, "input_tokens": 7, "output_tokens": 3}', 1) as finished \gset
select is(private.executions_stream_text('w', :'job1', 1, 3, 'x'), false, 'an ended execution takes no text');
select tests.act_as('vic');
select is((select count(*) from public.execution_text_chunks where execution_id = :'e1'), 0::bigint, 'the output replaces the text');
select is(
  (select row(d -> 'text', d #>> '{output,text}', d #>> '{skill,id}', jsonb_array_length(d -> 'attempts'), d #>> '{attempts,0,outcome}', d #> '{attempts,0,error_code}')::text
   from public.execution_detail(:'e1') as d),
  format('(null,"Once upon a time.",%s,1,succeeded,null)', :'skill'), 'the detail of an ended execution'
);
select is(
  (select string_agg(v ->> 'event', ' ') from jsonb_array_elements(public.execution_detail(:'e1') -> 'events') as v), 'queued claimed succeeded', 'and its events in order'
);

-- ---- several at once: the refusal of one leaves the others
select tests.act_as('mem');
select (public.execute_skill(:'skill', '{"text": "c"}')).id as e3 \gset
select is(
  (
    select array_agg(r.id || ' ' || coalesce(r.error ->> 'code', (r.execution).status))
    from public.cancel_executions(array[:'e3', :'e1', :'foreign', :'e2']::uuid[]) as r
  ),
  array[:'e3' || ' cancelled', :'e1' || ' conflict', :'foreign' || ' not_found', :'e2' || ' cancelled'],
  'each has its result, in the order of the list'
);
select is((select r.error ->> 'details' from public.cancel_executions(array[:'e1']::uuid[]) as r), 'the execution is already succeeded', 'with the details');
select string_agg(coalesce(r.error ->> 'code', (r.execution).trigger || ' of ' || (r.execution).retry_of), ', ') as retried,
  max((r.execution).id::text) as e4
from public.retry_executions(array[:'e1', :'e2', :'foreign']::uuid[]) as r \gset
select is(:'retried', 'conflict, retry of ' || :'e2' || ', not_found', 'retries likewise');
select is((select string_agg(r ->> 'status', ' ') from jsonb_array_elements(public.execution_detail(:'e2') -> 'retries') as r), 'queued', 'the detail names them');
select is(public.execution_detail(:'e4') #>> '{retried_execution,id}', :'e2', 'and what they repeat');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'only what ran and what is queued is charged');

-- ---- visibility
select tests.act_as_superuser();
insert into public.projects (id, org_id, name, visibility) values (tests.id('secret'), tests.org('ada'), 'Secret', 'private');
update public.executions set project_id = tests.id('secret') where id = :'e1';
select tests.act_as('vic');
select tests.refuses(format('select public.execution_detail(%L)', :'e1'), 'not_found', 'a private project hides the detail');
select tests.act_as('mem');
select is((select r.error ->> 'code' from public.retry_executions(array[:'e1']::uuid[]) as r), 'not_found', 'and from bulk functions');
select tests.act_as('ada');
select is(public.execution_detail(:'e1') #>> '{project,name}', 'Secret', 'the owner sees it');

-- ---- retention
select tests.act_as_superuser();
update public.executions set created_at = kijko.now() - interval '31 days' where id = :'e3';
update public.executions set created_at = kijko.now() - interval '31 days' where id = :'e4';
select ok(private.executions_purge() > 0, 'FREE keeps executions for 30 days');
select is((select array_agg(id) from public.executions where org_id = tests.org('ada') and created_at < kijko.now() - interval '30 days'), array[:'e4'::uuid], 'and never deletes an open one');
update public.executions set created_at = kijko.now() - interval '80 days' where id = :'e1';
update public.subscriptions set plan = 'PRO' where org_id = tests.org('ada');
select private.executions_purge() as purged \gset
select ok(exists (select 1 from public.executions where id = :'e1'), 'PRO for 90');

select * from finish();
rollback;
