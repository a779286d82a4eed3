-- The pause of the whole queue: what stops, what goes on, and who may use it.
begin;
\ir 000_helpers.sql
select plan(21);

select tests.sign_up('ada'), tests.sign_up('bob');
create temporary table queued as
select private.jobs_enqueue(tests.org(who), 'own.report') as id, who from unnest(array['ada', 'bob', 'ada']) as who;
grant select on queued to public;
create function pg_temp.claimed() returns bigint language sql as $$
  select count(*) from private.jobs_claim('w', interval '1 minute', 10, '{own.report}')
$$;

-- No role but the owner.
select tests.act_as_anon();
select throws_ok($$select private.jobs_pause_queue('x')$$, '42501', null, 'anon pauses nothing');
select throws_ok('table private.job_queue_pause', '42501', null, 'anon sees no pause');
select tests.act_as('ada');
select throws_ok($$select private.jobs_pause_queue('x')$$, '42501', null, 'an owner of an organization pauses nothing');
select throws_ok($$select private.jobs_resume_queue()$$, '42501', null, 'and resumes nothing');
select throws_ok($$select private.jobs_cancel_restored()$$, '42501', null, 'and cancels nobody''s jobs');
select tests.act_as_service();
select throws_ok($$select private.jobs_pause_queue('x')$$, '42501', null, 'the service key pauses nothing');
select tests.act_as_sidecar();
select throws_ok($$select private.jobs_resume_queue()$$, '42501', null, 'a worker does not end a pause');
select tests.act_as_superuser();
set local session authorization postgres;

select is(private.jobs_resume_queue(), false, 'there is no pause to end');
select throws_ok($$select private.jobs_pause_queue(' ' || repeat('x', 200))$$, '22023', null, 'a reason has 200 characters at most');
select throws_ok($$select private.jobs_pause_queue(null)$$, '22023', null, 'a pause has a reason');
select throws_ok($$select private.jobs_cancel_restored()$$, 'KJ409', null, 'nothing is cancelled while workers may run it');

select private.jobs_pause_queue('an operator works');
select lives_ok($$select private.jobs_pause_queue('again')$$, 'a second pause changes nothing');
select is((select array_agg(p.reason) from private.job_queue_pause as p), '{an operator works}', 'the first reason stays');
select is(pg_temp.claimed(), 0::bigint, 'no job is claimed');
select isnt(private.jobs_enqueue(tests.org('ada'), 'own.report'), null, 'a job can be queued');

select is(private.jobs_cancel_restored(array(select q.id from queued as q where q.who = 'bob')), 1, 'the jobs that are named are cancelled');
select is(
  (select array_agg(j.status order by j.status) from public.jobs as j join queued as q on q.id = j.id), '{cancelled,queued,queued}', 'and no others'
);
select is(private.jobs_cancel_restored('{}'), 0, 'an empty list names none');
select is(private.jobs_resume_queue(), true, 'the pause ends');
select is(pg_temp.claimed(), 3::bigint, 'then jobs are claimed, those that were queued meanwhile, too');
select private.jobs_pause_queue('restored');
select is(private.jobs_cancel_restored(), 3, 'without a list all are cancelled that have not ended, running ones, too');

select * from finish();
rollback;
