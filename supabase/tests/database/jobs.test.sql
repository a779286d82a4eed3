begin;
\ir 000_helpers.sql
select plan(109);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic');
select tests.join_org('vic', tests.org('ada'), 'viewer');

create function tests.complete(worker text, job uuid, result jsonb default '{}', attempt integer default null) returns boolean language sql as $$
  select coalesce((select c.status = 'succeeded' from private.jobs_complete(
    worker, jsonb_build_array(jsonb_build_object('id', job, 'result', result, 'attempt', attempt))
  ) as c), false)
$$;

-- Claims run maintenance a few times a second and read only leases that ended since. This makes the next claim read all.
create function tests.run_maintenance() returns void language sql security definer as $$
  select setval('private.jobs_maintenance_at', 0), setval('private.jobs_lease_watermark', 0), setval('private.jobs_due_watermark', 0);
$$;

-- ---- unauthenticated callers and non-members first
select private.jobs_enqueue(tests.org('ada'), 'mail', '{"n": 1}') as j1 \gset
select tests.act_as_anon();
select throws_ok('select * from public.jobs', '42501', null, 'anon reads no jobs');
select throws_ok('select * from public.job_events', '42501', null, 'anon reads no events');
select throws_ok($$select private.jobs_claim('w', '1 minute', 1)$$, '42501', null, 'anon claims nothing');

select tests.act_as('bob');
select is_empty('select 1 from public.jobs', 'a non-member sees no jobs');
select is_empty('select 1 from public.job_events', 'a non-member sees no events');

select tests.act_as('vic');
select isnt_empty('select 1 from public.jobs', 'a viewer sees the jobs');
select isnt_empty($$select 1 from public.job_events where event = 'queued'$$, 'a viewer sees their events');

select tests.act_as('ada');
select throws_ok($$insert into public.jobs (kind) values ('x')$$, '42501', null, 'the owner does not insert jobs');
select throws_ok($$update public.jobs set priority = 9$$, '42501', null, 'the owner does not change jobs');
select throws_ok('delete from public.jobs', '42501', null, 'the owner does not delete jobs');
select throws_ok($$insert into public.job_events (job_id, event, attempt) select id, 'x', 0 from public.jobs$$, '42501', null, 'the owner does not add events');
select throws_ok($$select private.jobs_claim('w', '1 minute', 1)$$, '42501', null, 'the owner does not claim');
select throws_ok($$select private.jobs_requeue_expired()$$, '42501', null, 'the owner does not take back expired leases');
select throws_ok($$select private.jobs_purge()$$, '42501', null, 'the owner does not purge');
select throws_ok($$select private.jobs_enqueue(tests.org('ada'), 'x')$$, '42501', null, 'the owner does not enqueue');

select tests.act_as_sidecar();
select throws_ok('select * from public.jobs', '42501', null, 'the sidecar does not read jobs');
select throws_ok('select * from public.executions', '42501', null, 'the sidecar does not read executions');
select throws_ok($$select private.jobs_purge()$$, '42501', null, 'the sidecar does not purge');
select throws_ok($$select private.jobs_enqueue(tests.org('ada'), 'x')$$, '42501', null, 'the sidecar does not enqueue');

-- ---- claiming
select tests.act_as_sidecar();
select tests.refuses($$select * from private.jobs_claim('  ', '1 minute', 1)$$, 'bad_request', 'a claim without a worker''s name fails');
select tests.refuses($$select * from private.jobs_claim('w', '0', 1)$$, 'bad_request', 'a lease of 0 fails');
select tests.refuses($$select * from private.jobs_claim('w', null, 1)$$, 'bad_request', 'a lease of null fails');
select tests.refuses($$select * from private.jobs_claim('w', '1 hour 1 second', 1)$$, 'bad_request', 'a lease of more than an hour fails');
select tests.refuses($$select * from private.jobs_heartbeat('w', '{}', '1 hour 1 second')$$, 'bad_request', 'a heartbeat of more than an hour fails');
select is_empty($$select * from private.jobs_claim('w', '1 hour', 1, array['none'])$$, 'a lease of an hour is accepted');

select tests.act_as_superuser();
update public.jobs set run_at = run_at - interval '1 hour' where id = :'j1';
select private.jobs_enqueue(tests.org('ada'), 'mail', priority => 5::smallint) as j2 \gset
select private.jobs_enqueue(tests.org('bob'), 'other') as j3 \gset
select private.jobs_enqueue(tests.org('ada'), 'mail', run_at => now() + interval '1 hour') as j4 \gset
select tests.act_as_sidecar();
-- A worker of the running stack may have moved the head meanwhile: it does not see what is not committed.
select tests.run_maintenance();
select results_eq(
  $$select id, attempt, max_attempts, timeout_seconds from private.jobs_claim('w1', '1 minute', 10, array['mail'])$$,
  format('values (%L::uuid, 1, 5, 300), (%L::uuid, 1, 5, 300)', :'j2', :'j1'),
  'jobs of the kind, highest priority first, then longest due; not those of the future'
);
select is_empty($$select * from private.jobs_claim('w2', '1 minute', 10, array['mail'])$$, 'a claimed job is not claimed again');
select is_empty($$select * from private.jobs_claim('w2', '1 minute', 0)$$, 'a claim of 0 jobs returns none');
select results_eq($$select id from private.jobs_claim('w2', '1 minute', 10)$$, format('values (%L::uuid)', :'j3'), 'a claim without kinds takes any kind');

-- ---- leases
select results_eq(
  format($$select id, cancel_requested from private.jobs_heartbeat('w1', array[%L, %L]::uuid[], '5 minutes')$$, :'j1', :'j3'),
  format('values (%L::uuid, false)', :'j1'), 'a heartbeat returns the jobs that are still held'
);
select is(tests.complete('w2', :'j1', '{}'), false, 'another worker cannot end a job');
select is(tests.complete('w1', :'j1', '{}', 2), false, 'the same worker cannot end another attempt');
select is(private.jobs_add_event('w2', :'j1', 'progress', '{}'), false, 'another worker cannot add an event');
select is(private.jobs_add_event('w1', :'j1', 'progress', '{"done": 1}'), true, 'the holder adds an event');
select is(tests.complete('w1', :'j1', '{"ok": true}', 1), true, 'the holder ends the job');
select is(tests.complete('w1', :'j1', '{}'), false, 'a job ends once');
select is(private.jobs_fail('w1', :'j1', 'x', 'y', true), null, 'a job that has ended does not fail');

select tests.act_as_superuser();
select results_eq(
  format('select event, attempt, worker from public.job_events where job_id = %L order by seq', :'j1'),
  $$values ('queued', 0, null::text), ('claimed', 1, 'w1'), ('progress', 1, 'w1'), ('succeeded', 1, 'w1')$$,
  'the events tell everything that happened'
);
select tests.refuses(format($$update public.job_events set event = 'x' where job_id = %L$$, :'j1'), 'permission_denied', 'no role changes an event');

-- ---- failing
select tests.act_as_sidecar();
select is(private.jobs_fail('w1', :'j2', 'provider_error', 'HTTP 500', true), 'queued', 'a retryable failure queues the job again');
select tests.act_as_superuser();
select ok(run_at between now() + interval '1 second' and clock_timestamp() + interval '2 seconds', 'the first back-off is two seconds at most') from public.jobs where id = :'j2';
select ok(status = 'queued' and locked_by is null and error_code = 'provider_error', 'the job is free and keeps the reason') from public.jobs where id = :'j2';
create function tests.retry_pause(attempts integer, hint interval) returns interval language plpgsql as $$
declare
  job public.jobs;
  made uuid := private.jobs_enqueue(tests.org('ada'), 'pause', max_attempts => 100);
begin
  update public.jobs as j set status = 'running', attempt = attempts, locked_by = 'w', locked_until = now() + interval '1 hour' where j.id = made;
  perform private.jobs_fail('w', made, 'x', 'y', true, hint);
  select * into job from public.jobs as j where j.id = made;
  delete from public.jobs as j where j.id = made;
  return job.run_at - job.updated_at;
end
$$;
select ok(
  min(p.pause) >= interval '255 seconds' and max(p.pause) <= interval '512 seconds' and max(p.pause) - min(p.pause) > interval '20 seconds',
  'half of the back-off is random'
) from (select tests.retry_pause(9, null) as pause from generate_series(1, 100)) as p;
select ok(tests.retry_pause(4, null) between '8 seconds' and '17 seconds', 'the fourth back-off is up to sixteen seconds');
select ok(tests.retry_pause(60, null) between '5 minutes' and '10 minutes 5 seconds', 'no back-off is longer than ten minutes');
select ok(tests.retry_pause(1, '1 minute') between '59 seconds' and '61 seconds', 'a longer Retry-After is kept');
select ok(tests.retry_pause(1, '1 year') between '23 hours' and '25 hours', 'a Retry-After is a day at most');
select ok(tests.retry_pause(4, '1 second') > '7 seconds', 'a shorter Retry-After does not shorten the back-off');

update public.jobs set run_at = now() - interval '1 second', attempt = 4 where id = :'j2';
select tests.act_as_sidecar();
select is((select attempt from private.jobs_claim('w1', '1 minute', 1, array['mail'])), 5, 'the job runs for the last time');
select is(private.jobs_fail('w1', :'j2', 'provider_error', repeat('x', 20000), true), 'dead', 'a failure of the last attempt is final');
select tests.act_as_superuser();
select ok(status = 'dead' and error_code = 'provider_error' and char_length(error) = 10000 and finished_at is not null, 'the job keeps the reason, cut to its limit') from public.jobs where id = :'j2';
select tests.act_as_sidecar();
select is(private.jobs_fail('w2', :'j3', 'invalid_input', 'no', false), 'dead', 'a failure that is not retryable is final at once');

-- ---- a lost worker
select tests.act_as_superuser();
select private.jobs_enqueue(tests.org('ada'), 'lost', max_attempts => 2) as j5 \gset
select tests.act_as_sidecar();
select is((select count(*) from private.jobs_claim('gone', '1 second', 1, array['lost'])), 1::bigint, 'a worker claims a job and dies');
select is(private.jobs_requeue_expired(), 0, 'its job is not taken back before the lease ends');
select tests.act_as_superuser();
update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = :'j5';
select tests.act_as_sidecar();
select is(private.jobs_requeue_expired(), 1, 'its job is taken back when the lease ends');
select is(tests.complete('gone', :'j5', '{}'), false, 'the result of the dead worker is refused');
select tests.act_as_superuser();
select is((select status || ' ' || error_code from public.jobs where id = :'j5'), 'queued lease_expired', 'the job is queued again');
update public.jobs set run_at = now() - interval '1 second' where id = :'j5';
select tests.act_as_sidecar();
select is((select attempt from private.jobs_claim('gone', '1 second', 1, array['lost'])), 2, 'the job is claimed again');
select tests.act_as_superuser();
update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = :'j5';
select tests.act_as_sidecar();
select tests.run_maintenance();
select is_empty($$select * from private.jobs_claim('w', '1 second', 1, array['lost'])$$, 'a claim takes back the expired lease and finds nothing to run');
select tests.act_as_superuser();
select is((select status || ' ' || error_code from public.jobs where id = :'j5'), 'dead lease_expired', 'the job is dead after its last attempt');

-- ---- handing back
select private.jobs_enqueue(tests.org('ada'), 'stop', max_attempts => 1) as j6 \gset
select tests.act_as_sidecar();
select is((select count(*) from private.jobs_claim('w', '1 minute', 1, array['stop'])), 1::bigint, 'the job is claimed');
select is(private.jobs_release('other', array[:'j6']::uuid[]), 0, 'another worker hands back nothing');
select is(private.jobs_release('w', array[:'j6']::uuid[]), 1, 'the holder hands back the job');
select is((select attempt from private.jobs_claim('w', '1 minute', 1, array['stop'])), 2, 'the attempt does not count, and the next has another number');
select tests.refuses(format('select private.jobs_release(''w'', array[%L]::uuid[], ''61 minutes'')', :'j6'), 'bad_request', 'a pause has a limit');
select is(private.jobs_release('w', array[:'j6']::uuid[], '1 minute'), 1, 'the job is handed back for later');
select is_empty($$select * from private.jobs_claim('w', '1 minute', 1, array['stop'])$$, 'nobody gets it before');
select tests.act_as_superuser();
update public.jobs set run_at = clock_timestamp() where id = :'j6';
select tests.act_as_sidecar();
select is((select attempt from private.jobs_claim('w', '1 minute', 1, array['stop'])), 3, 'then it is claimed again');

-- ---- cancelling
select tests.act_as_superuser();
select is(private.jobs_cancel(:'j6'), 'running', 'a running job is asked to stop');
select tests.act_as_sidecar();
select is((select cancel_requested from private.jobs_heartbeat('w', array[:'j6']::uuid[], '1 minute')), true, 'the heartbeat tells its worker');
select is(tests.complete('w', :'j6', '{"late": true}'), false, 'a result does not make it succeed');
select tests.act_as_superuser();
select is((select status from public.jobs where id = :'j6'), 'cancelled', 'the job is cancelled');
select is(private.jobs_cancel(:'j4'), 'cancelled', 'a queued job is cancelled at once');
select is(private.jobs_cancel(:'j1'), 'succeeded', 'a job that has ended is not cancelled');

-- ---- unique jobs
select tests.begin_round('once');
select private.jobs_enqueue(tests.org('ada'), 'once', unique_key => 'k') as j7 \gset
select is(private.jobs_enqueue(tests.org('ada'), 'once', unique_key => 'k'), null, 'no second job with the key of a queued job');
select isnt(private.jobs_enqueue(tests.org('bob'), 'once', unique_key => 'k'), null, 'the same key of another organization is free');
select is((select id from private.jobs_claim('w', '1 minute', 1, array['once']) where id = :'j7'), :'j7'::uuid, 'the job is claimed');
select is(private.jobs_enqueue(tests.org('ada'), 'once', unique_key => 'k'), null, 'no second job with the key of a running job');
select is(tests.complete('w', :'j7'), true, 'the job ends');
select isnt(private.jobs_enqueue(tests.org('ada'), 'once', unique_key => 'k'), null, 'the key of an ended job is free');

-- ---- batches
select tests.act_as_superuser();
select results_eq(
  format($$select n, id is not null from private.jobs_enqueue_many(jsonb_build_array(
    jsonb_build_object('org_id', %1$L, 'kind', 'batch', 'unique_key', 'u', 'payload', '{"n": 1}'::jsonb),
    jsonb_build_object('org_id', %1$L, 'kind', 'batch', 'unique_key', 'u'),
    jsonb_build_object('org_id', %1$L, 'kind', 'batch', 'priority', 3)
  ))$$, tests.org('ada')),
  $$values (1::bigint, true), (2, false), (3, true)$$, 'many are queued at once; a unique key counts within the batch too'
);
select tests.refuses('select * from private.jobs_enqueue_many(null)', 'bad_request', 'jobs_enqueue_many fails without an array');
select tests.act_as_sidecar();
select results_eq(
  $$select payload from private.jobs_claim('b', '1 minute', 10, array['batch'])$$, $$values ('{}'::jsonb), ('{"n": 1}')$$,
  'a claim takes both, the higher priority first'
);
select tests.act_as_superuser();
select jsonb_agg(jsonb_build_object('id', id, 'attempt', attempt, 'result', jsonb_build_object('done', payload -> 'n'))) as results
from public.jobs where kind = 'batch' \gset
update public.jobs set cancel_requested = true where kind = 'batch' and payload = '{}';
select tests.act_as_sidecar();
select is_empty(format('select * from private.jobs_complete(%L, %L)', 'other', :'results'), 'another worker ends none of them');
select results_eq(
  format('select status from private.jobs_complete(%L, %L) order by 1', 'b', :'results'), array['cancelled', 'succeeded'],
  'one call ends both, each with its own status'
);
select is_empty(format('select * from private.jobs_complete(%L, %L)', 'b', :'results'), 'a second call ends none');
select tests.refuses($$select * from private.jobs_complete('b', '{}')$$, 'bad_request', 'jobs_complete fails without an array');
select results_eq(
  $$select id, status, code from private.jobs_complete('b', '[{"id": "no id"}, {"id": "10000000-0000-4000-8000-000000000000", "attempt": "x"}, {"id": "20000000-0000-4000-8000-000000000000"}]')$$,
  $$values (null::uuid, 'refused', '22P02'), ('10000000-0000-4000-8000-000000000000', 'refused', '22P02')$$, 'a malformed result is refused by itself'
);
select tests.act_as_superuser();
select is((select result from public.jobs where kind = 'batch' and status = 'succeeded'), '{"done": 1}', 'the results are stored');

-- The plan was made for three jobs. It must still look up each job of a large batch, and not read all running ones for each.
select tests.act_as_superuser();
select count(*) from private.jobs_enqueue_many((
  select jsonb_agg(jsonb_build_object('org_id', tests.org('ada'), 'kind', 'many')) from generate_series(1, 300)
));
create temp table many as select id, attempt from private.jobs_claim('b', '1 minute', 300, array['many']);
select pg_stat_get_xact_numscans('public.jobs_pkey'::regclass) as scans \gset
select count(*) from private.jobs_complete('b', (select jsonb_agg(jsonb_build_object('id', id, 'attempt', attempt)) from many));
select is(pg_stat_get_xact_numscans('public.jobs_pkey'::regclass) - :scans, 300::bigint, 'a large batch looks up each of its jobs once');

-- ---- tenants take turns
select count(*) from private.jobs_enqueue_many((
  select jsonb_agg(jsonb_build_object('org_id', tests.org('ada'), 'kind', 'turns')) from generate_series(1, 300)
));
select private.jobs_enqueue(tests.org('bob'), 'turns') as small \gset
select tests.act_as_sidecar();
select ok(
  exists (select 1 from private.jobs_claim('t', '1 minute', 2, array['turns']) where id = :'small'),
  'one job is not behind 300 of another tenant'
);
select tests.act_as_superuser();
select private.jobs_enqueue(tests.org('ada'), 'turns', priority => 2::smallint) as urgent \gset
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('t', '1 minute', 1, array['turns'])), :'urgent', 'a higher priority is not behind a lower one');

-- ---- limits
select tests.act_as_superuser();
select count(*) from private.jobs_enqueue_many((
  select jsonb_agg(jsonb_build_object('org_id', tests.org('ada'), 'kind', 'limited', 'concurrency_key', 'repo', 'payload', jsonb_build_object('n', n)))
  from generate_series(1, 3) as n
));
select tests.act_as_sidecar();
select results_eq(
  $$select (payload ->> 'n')::int from private.jobs_claim('l', '1 minute', 10, array['limited'])$$, array[1], 'one job of a concurrency key is claimed'
);
select is_empty($$select * from private.jobs_claim('l', '1 minute', 10, array['limited'])$$, 'no second one while it runs');
select tests.act_as_service();
select private.jobs_set_limit(tests.org('ada'), 'repo', 2);
select tests.act_as_sidecar();
select results_eq(
  $$select (payload ->> 'n')::int from private.jobs_claim('l', '1 minute', 10, array['limited'])$$, array[2], 'a limit of two allows two'
);
select tests.act_as_superuser();
select id as running from public.jobs where kind = 'limited' and payload = '{"n": 1}' \gset
select tests.act_as_sidecar();
select is(tests.complete('l', :'running'), true, 'one of them ends');
select results_eq(
  $$select (payload ->> 'n')::int from private.jobs_claim('l', '1 minute', 10, array['limited'])$$, array[3], 'the next one is claimed'
);
select tests.act_as_superuser();
-- He has one running already.
select private.jobs_set_limit(tests.org('bob'), null, 2);
select private.jobs_enqueue(tests.org('bob'), 'whole'), private.jobs_enqueue(tests.org('bob'), 'whole'), private.jobs_enqueue(tests.org('ada'), 'whole');
select tests.act_as_sidecar();
select results_eq(
  $$select count(*), count(distinct org_id) from private.jobs_claim('l', '1 minute', 10, array['whole'])$$, 'values (2::bigint, 2::bigint)',
  'a limit of an organization does not hold for another'
);
select is_empty($$select * from private.jobs_claim('l', '1 minute', 10, array['whole'])$$, 'the limit counts all jobs of the organization');
select tests.act_as_service();
select private.jobs_set_limit(tests.org('bob'), null, null);
select tests.act_as_sidecar();
select is((select count(*) from private.jobs_claim('l', '1 minute', 10, array['whole'])), 1::bigint, 'without the limit its jobs are claimed');
select tests.act_as('ada');
select throws_ok($$select private.jobs_set_limit(tests.org('ada'), null, 99)$$, '42501', null, 'users cannot change limits');

-- ---- lanes
select tests.act_as_superuser();
delete from private.job_lanes;
select private.jobs_maintain_lanes();
select is(
  (select count(*) from private.job_lanes where kind = 'turns'), (select count(distinct (org_id, priority)) from public.jobs where kind = 'turns' and status = 'queued'),
  'missing lanes are opened'
);
delete from public.jobs where kind = 'turns';
select private.jobs_maintain_lanes();
select is_empty($$select 1 from private.job_lanes where kind = 'turns'$$, 'idle lanes are closed');

-- ---- figures and retention
select results_eq(
  $$select kind, queued, running, dead from private.jobs_stats() where kind in ('mail', 'once') order by kind$$,
  $$values ('mail', 0::bigint, 0::bigint, 1::bigint), ('once', 2, 0, 0)$$, 'jobs_stats returns the depth of each kind'
);
select private.jobs_enqueue(tests.org('ada'), 'unclaimed', run_at => now() - interval '10 minutes'), private.jobs_enqueue(tests.org('ada'), 'fresh');
select results_eq(
  $$select kind from private.jobs_stats() where running = 0 and oldest_queued_seconds > 300 and kind in ('unclaimed', 'fresh')$$,
  array['unclaimed'], 'jobs_stats finds a kind that no worker claims'
);
select private.jobs_new_id(now() - interval '32 days', 0) as long_ago \gset
insert into public.jobs (id, org_id, kind, status, finished_at)
values (:'long_ago', tests.org('ada'), 'mail', 'dead', now() - interval '31 days');
insert into public.job_event_log (org_id, job_id, event, attempt) values (tests.org('ada'), :'long_ago', 'dead', 1);
select private.jobs_new_id(now() - interval '33 days', 0) as just_ended \gset
insert into public.jobs (id, org_id, kind, status, finished_at) values (:'just_ended', tests.org('ada'), 'slow', 'dead', now());
select tests.act_as_service();
select is(private.jobs_purge(), 1, 'old jobs are deleted');
select isnt_empty(format('select 1 from public.jobs where id = %L', :'just_ended'), 'a job that was queued long ago and has just ended stays');
select tests.refuses($$select private.jobs_purge('-1 second')$$, 'bad_request', 'jobs that have not ended cannot be purged');
select tests.act_as_superuser();
select is_empty(format('select 1 from public.job_event_log where job_id = %L', :'long_ago'), 'their events are deleted');

select * from finish();
rollback;
