-- Workers of a company's own: they run their own kinds, hold their own leases, and reach nothing else of the queue.
begin;
\ir 000_helpers.sql
select plan(38);

select tests.sign_up('ada');
create role tests_worker login;
create role tests_rival login;
create role tests_nobody login;
grant usage on schema tests, extensions to public;

create function tests.act_as_login(login name) returns void language plpgsql as $$
begin
  perform tests.forget_key();
  perform set_config('session_authorization', login, true);
  perform set_config('request.jwt.claims', '', true);
  perform set_config('request.headers', '', true);
end
$$;

-- ---- what may be allowed
select has_function_privilege('authenticated', 'private.jobs_allow_worker(name, text[])', 'execute') as users_allow \gset
select ok(not :'users_allow'::boolean, 'users allow no worker');
select throws_ok($$select private.jobs_allow_worker('tests_worker', array['execution.openai'])$$, '23514', null, 'a kind of ours is refused');
select throws_ok($$select private.jobs_allow_worker('tests_worker', array['mail'])$$, '23514', null, 'another one, too');
select throws_ok($$select private.jobs_allow_worker('tests_worker', array['own.'])$$, '23514', null, 'and a kind without a name');
select tests.refuses($$select private.jobs_allow_worker('tests_worker', '{}')$$, 'bad_request', 'no kind is refused');
select throws_ok($$select private.jobs_allow_worker('tests_missing', array['own.a'])$$, '42704', null, 'a role that does not exist is refused');
select private.jobs_allow_worker('tests_worker', array['own.count', 'own.slow']);
select lives_ok($$select private.jobs_allow_worker('tests_worker', array['own.count'])$$, 'the same again is no error');
select private.jobs_allow_worker('tests_rival', array['own.other', 'own.count']);

select private.jobs_enqueue(tests.org('ada'), 'own.count', '{"n": 1}') as job1 \gset
select private.jobs_enqueue(tests.org('ada'), 'own.slow', '{"n": 2}') as job2 \gset
select private.jobs_enqueue(tests.org('ada'), 'own.other', '{"n": 3}') as job3 \gset
select private.jobs_enqueue(tests.org('ada'), 'execution', '{"n": 4}') as job4 \gset

-- ---- who is refused
select tests.act_as_anon();
select throws_ok($$select * from private.jobs_worker_claim('w')$$, '42501', null, 'anon claims nothing');
select tests.act_as('ada');
select throws_ok($$select * from private.jobs_worker_claim('w')$$, '42501', null, 'nor does an owner');
select throws_ok('select * from private.job_worker_kinds', '42501', null, 'who reads no list of workers');
select tests.act_as_login('tests_nobody');
select throws_ok($$select * from private.jobs_worker_claim('w')$$, '42501', null, 'a login that nobody allowed claims nothing');
select tests.act_as_superuser();
select tests.refuses($$select * from private.jobs_worker_claim('w')$$, 'permission_denied', 'not even with the right to call it');

-- ---- a worker's own kinds
select tests.act_as_login('tests_worker');
select tests.refuses($$select * from private.jobs_worker_claim(' ')$$, 'bad_request', 'a worker has a name');
select tests.refuses($$select * from private.jobs_worker_claim(null)$$, 'bad_request', 'which is not null');
select tests.refuses($$select * from private.jobs_worker_claim('w', 1, '0')$$, 'bad_request', 'a lease has a length');
select is(
  (select array_agg(kind || ' ' || attempt order by kind) from private.jobs_worker_claim('w', 10)), array['own.count 1', 'own.slow 1'],
  'it claims the kinds that it may run, and no others'
);
select is_empty($$select * from private.jobs_worker_claim('w', 10)$$, 'and none twice');
select throws_ok($$select * from private.jobs_claim('w', '1 minute', 1)$$, '42501', null, 'the platform''s workers have functions of their own');
select throws_ok($$select private.executions_start('w', gen_random_uuid())$$, '42501', null, 'so do executions');
select throws_ok($$select private.jobs_enqueue(gen_random_uuid(), 'own.count')$$, '42501', null, 'it queues nothing');
select throws_ok('select * from public.jobs', '42501', null, 'and reads no table');
select throws_ok($$select private.jobs_allow_worker('tests_worker', array['own.more'])$$, '42501', null, 'nor allows itself more');

-- ---- its own leases
select is((select count(*) from private.jobs_worker_heartbeat('w', array[:'job1', :'job2']::uuid[], '5 minutes') where extended), 2::bigint, 'it extends its leases');
select is((select count(*) from private.jobs_worker_heartbeat('v', array[:'job1', :'job2']::uuid[])), 0::bigint, 'another process of it does not');
select tests.act_as_login('tests_rival');
select is((select array_agg(kind) from private.jobs_worker_claim('w', 10)), array['own.other'], 'another login claims its own');
select is(private.jobs_worker_complete('w', :'job1', 1), null, 'and does not end the job of a process of the same name');
select is(private.jobs_worker_fail('w', :'job1', 1, 'x', 'x'), null, 'nor fails it');
select is(private.jobs_worker_release('w', array[:'job1']::uuid[]), 0, 'nor hands it back');
select is(private.jobs_worker_complete('tests_worker/w', :'job1', 1), null, 'also not under the name that the lease has');
select throws_ok($$select private.jobs_worker_lock('w', gen_random_uuid(), 1)$$, '42501', null, 'only functions of the domain lock a job');

-- ---- the end
select tests.act_as_login('tests_worker');
select is(private.jobs_worker_complete('w', :'job1', 2), null, 'an attempt that is not the present one ends nothing');
select tests.refuses(format($$select private.jobs_worker_complete('w', %L, 1, to_jsonb(repeat('x', 300000)))$$, :'job1'), 'invalid_input', 'a result has a bound');
select is(private.jobs_worker_complete('w', :'job1', 1, '{"words": 3}'), 'succeeded', 'the holder ends it');
select is(private.jobs_worker_complete('w', :'job1', 1, '{"words": 4}'), null, 'once');
select is(private.jobs_worker_fail('w', :'job2', 1, 'too_slow', 'it took too long', retry_after => '1 hour'), 'queued', 'a failure is tried again');
select tests.act_as('ada');
select is(
  (select array_agg(status || ' ' || coalesce(error_code, result::text) order by kind) from public.jobs where kind in ('own.count', 'own.slow')),
  array['succeeded {"words": 3}', 'queued too_slow'], 'members see both'
);
select tests.act_as_superuser();
select private.jobs_cancel(:'job3') as cancelled \gset
select tests.act_as_login('tests_rival');
select is((select array_agg(cancel_requested) from private.jobs_worker_heartbeat('w', array[:'job3']::uuid[])), array[true], 'a heartbeat says what is to be cancelled');
select is(private.jobs_worker_complete('w', :'job3', 1), 'cancelled', 'and its end is that');

select * from finish();
rollback;
