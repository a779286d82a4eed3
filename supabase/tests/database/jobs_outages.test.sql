-- Outages of vendors: whose jobs are paused and for how long, and whose job tests the vendor.
begin;
\ir 000_helpers.sql
select plan(51);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('cyd');

-- One job of the organization runs and fails because of an outage, whatever is paused.
create function tests.outage(who text, kind text, retry_after interval default null) returns text language plpgsql security definer as $$
declare
  job uuid;
begin
  update public.jobs as j
  set status = 'running', attempt = j.attempt + 1, locked_by = 'w', locked_until = clock_timestamp() + interval '1 minute',
    started_at = coalesce(j.started_at, clock_timestamp())
  where j.id = (select q.id from public.jobs as q where q.status = 'queued' and q.org_id = tests.org(who) and q.kind = outage.kind order by q.attempt limit 1)
  returning j.id into job;
  return private.jobs_fail('w', job, 'vendor_unavailable', 'HTTP 503', true, outage.retry_after, outage => true);
end
$$;
-- As if the pauses were over, the jobs' own back-off as well.
create function tests.end_pauses(kind text) returns void language sql security definer as $$
  update private.job_org_pauses as p set until = clock_timestamp() where p.kind = end_pauses.kind;
  update private.job_kind_pauses as p set until = clock_timestamp(), tried_at = '-infinity' where p.kind = end_pauses.kind;
  update public.jobs as j set run_at = clock_timestamp() - interval '1 second' where j.kind = end_pauses.kind and j.status = 'queued';
$$;
create function tests.complete(kind text) returns text[] language sql security definer as $$
  select array_agg(c.status)
  from public.jobs as j
  cross join lateral private.jobs_complete('w', jsonb_build_array(jsonb_build_object('id', j.id))) as c
  where j.kind = complete.kind and j.status = 'running'
$$;

-- ---- one tenant whose model always fails delays no other
select tests.queue('ada', 'model', 8, '{"max_attempts": 1}'), tests.queue('bob', 'model', 3);
select is(tests.outage('ada', 'model'), 'queued', 'a job without another attempt waits for its vendor');
select ok(
  attempt = 1 and uncounted_attempts = 1 and run_at > updated_at + interval '0.9 seconds' and run_at < updated_at + interval '2.1 seconds',
  'it uses no attempt'
) from public.jobs where kind = 'model' and attempt > 0;
select is((select event from public.job_event_log where job_id = (select id from public.jobs where kind = 'model' and attempt > 0)), 'postponed', 'its events say so');
select is(tests.outage('ada', 'model'), 'queued', 'a second failure');
select ok(tests.served('model', 2) in ('ab', 'ba'), 'two failures pause nothing');
select is(tests.outage('ada', 'model'), 'queued', 'a third failure');
select is((select failures from private.job_org_pauses where kind = 'model' and org = tests.org('ada')), 3, 'the failures are counted');
-- A pause ends after a second or two: here and below it goes on for the statements that look at what it does.
update private.job_org_pauses set until = clock_timestamp() + interval '1 hour' where kind = 'model' and until > failed_at;
select is(tests.served('model', 3), 'bb', 'three failures pause the tenant and nobody else');
select is((select count(*) from private.job_kind_pauses where kind = 'model' and (shared or failures > 2)), 0::bigint, 'failures of one tenant do not count against the kind');
select tests.queue('ada', 'other', 1);
select is(tests.served('other', 1), 'a', 'the tenant''s jobs of other kinds run');
select is((select count(*) from private.jobs_claim('w', '1 minute', 5, array['model', 'other'])), 0::bigint, 'a claim for several kinds skips the paused jobs');
-- More paused jobs, all due longer, than a claim looks at; and one lane only.
select tests.queue('ada', 'model', 500, '{"run_at": "2020-01-01"}'), tests.queue('bob', 'model', 20);
select is(tests.served('model', 1, 10), repeat('b', 10), 'many paused jobs do not hide those of others');
select is(tests.served('model', 10), repeat('b', 10), 'also when each claim takes one job');
delete from public.jobs where kind = 'model' and run_at < '2021-01-01';

-- ---- after the pause its jobs run one at a time until one succeeds
update public.jobs set status = 'cancelled', finished_at = clock_timestamp(), locked_by = null, locked_until = null where kind = 'model' and status = 'running';
select tests.end_pauses('model');
select is(tests.served('model', 3, 5), 'a', 'after the pause one job runs');
select is(private.jobs_fail('w', id, 'vendor_unavailable', 'HTTP 503', true, outage => true), 'queued', 'and fails')
from public.jobs where kind = 'model' and status = 'running';
select ok(
  failures = 4 and until between failed_at + interval '0.9 seconds' and failed_at + interval '2.1 seconds', 'the pause gets longer'
) from private.job_org_pauses where kind = 'model';
update private.job_org_pauses set until = clock_timestamp() + interval '1 hour' where kind = 'model';
select is(tests.outage('ada', 'model'), 'queued', 'a call that began before the pause fails during it');
select is((select failures from private.job_org_pauses where kind = 'model'), 4, 'which does not count');
select tests.end_pauses('model');
select is(tests.outage('ada', 'model', '20 minutes'), 'queued', 'a vendor says when it will be back');
select ok(
  failures = 5 and until between clock_timestamp() + interval '19 minutes' and clock_timestamp() + interval '21 minutes', 'and is not called until then'
) from private.job_org_pauses where kind = 'model';
select tests.end_pauses('model');
select is(tests.served('model', 2, 5), 'a', 'one job runs');
select is(tests.complete('model'), array['succeeded'], 'and succeeds');
select is_empty($$select 1 from private.job_org_pauses where kind = 'model'$$, 'which ends the pause');
select ok(tests.served('model', 1, 5) ~ '^a{5}$', 'for all jobs that waited');
select private.jobs_record_outage('ends', tests.org('ada'), 'x', null) from generate_series(1, 3);
select tests.queue('ada', 'ends');
select private.jobs_finish(j, 'succeeded', null, null, null) from public.jobs as j where j.kind = 'ends';
select is_empty($$select 1 from private.job_org_pauses where kind = 'ends'$$, 'a job that ends by itself ends the pause as well');
update private.job_org_pauses set failed_at = clock_timestamp() - interval '61 minutes';

-- ---- failures of two tenants pause the kind
select tests.queue('ada', 'vendor', 9), tests.queue('bob', 'vendor', 9), tests.queue('cyd', 'vendor', 2);
select tests.outage('ada', 'vendor'), tests.end_pauses('vendor') from generate_series(1, 6);
select is((select failures from private.job_kind_pauses where kind = 'vendor'), 2, 'one tenant''s failures count as two at most');
select tests.end_pauses('vendor');
select tests.outage('bob', 'vendor');
select ok(
  shared and failures = 3 and until between failed_at + interval '0.4 seconds' and failed_at + interval '1.1 seconds',
  'the failure of a second tenant pauses the kind, for a second'
) from private.job_kind_pauses where kind = 'vendor';
update private.job_kind_pauses set until = clock_timestamp() + interval '1 hour' where kind = 'vendor';
select is(tests.served('vendor', 3, 5), '', 'nobody''s job of the kind is claimed');
select tests.queue('ada', 'other', 1);
select is(tests.served('other', 1), 'a', 'other kinds are not paused');
select is((select count(*) from private.jobs_claim('w', '1 minute', 5, array['vendor', 'other']) where kind = 'vendor'), 0::bigint, 'a claim for several kinds skips the paused one');
-- cyd's jobs are the last in the queue.
select tests.end_pauses('vendor');
update public.jobs set run_at = clock_timestamp() where kind = 'vendor' and org_id = tests.org('cyd');
select is(tests.served('vendor', 1, 5), 'c', 'after the pause one job tests the vendor, of a tenant that has not failed');
update private.job_kind_pauses set until = clock_timestamp();
select is(tests.served('vendor', 2, 5), '', 'one test in five seconds');
select is(private.jobs_fail('w', id, 'vendor_unavailable', 'HTTP 503', true, outage => true), 'queued', 'the test fails')
from public.jobs where kind = 'vendor' and status = 'running';
select ok(
  failures = 4 and until between failed_at + interval '0.9 seconds' and failed_at + interval '2.1 seconds', 'the pause gets longer'
) from private.job_kind_pauses where kind = 'vendor';
select tests.end_pauses('vendor');
select is(tests.outage('cyd', 'vendor', '20 minutes'), 'queued', 'the vendor says when it will be back');
select ok(
  until < clock_timestamp() + interval '2 minutes', 'a Retry-After, which one tenant got, does not lengthen the pause of the kind'
) from private.job_kind_pauses where kind = 'vendor';
-- Only tenants that have failed have jobs left, and their own pauses are not over.
update public.jobs set status = 'cancelled', finished_at = clock_timestamp() where kind = 'vendor' and org_id = tests.org('cyd');
select tests.end_pauses('vendor');
update private.job_org_pauses set until = clock_timestamp() + interval '1 minute', failures = 5 where kind = 'vendor';
select ok(tests.served('vendor', 1, 5) ~ '^[ab]$', 'the test takes the job of a paused tenant if there is no other');
select is(tests.complete('vendor'), array['succeeded'], 'it succeeds');
select is_empty($$select 1 from private.job_kind_pauses where kind = 'vendor'$$, 'which ends the kind''s pause');
select is(tests.served('vendor', 1, 20) ~ '^(a+b|ab+)$', true, 'the tenant that succeeded runs its jobs, the other tests the vendor with one');

-- ---- organizations with a common member count as one
select tests.sign_up('dan');
insert into public.memberships (org_id, user_id, role) values (tests.org('dan'), tests.id('ada'), 'member');
select tests.queue('ada', 'kin', 9), tests.queue('dan', 'kin', 9);
select tests.outage(name, 'kin'), tests.end_pauses('kin') from unnest(array['ada', 'ada', 'dan', 'dan', 'dan']) as name;
select is((select shared or failures > 2 from private.job_kind_pauses where kind = 'kin'), false, 'one user pauses no kind with two organizations');

-- ---- bounds
-- The longest due are of tenants that are paused, and more of them than a claim looks at.
select tests.sign_up('u' || n) from generate_series(1, 80) as n;
select tests.queue('u' || n, 'crowd') from generate_series(1, 80) as n;
insert into private.job_org_pauses (kind, org, failures, until)
select 'crowd', tests.org('u' || n), 3, clock_timestamp() + case when n % 2 = 0 then interval '1 hour' else interval '0' end from generate_series(1, 80) as n;
select count(*) from private.jobs_claim('w', '1 minute', 100, array['crowd']);
select tests.queue('u' || n, 'crowd', 3) from generate_series(1, 80) as n;
select tests.queue('ada', 'crowd', 2);
select is(tests.served('crowd', 3), 'aa', 'eighty tenants that wait for their vendor do not hide one that does not');
update private.job_org_pauses set failures = 40, until = clock_timestamp() where kind = 'crowd' and org = tests.org('u1');
select private.jobs_record_outage('crowd', tests.org('u1'), 'x', null);
select ok(until between clock_timestamp() + interval '50 seconds' and clock_timestamp() + interval '125 seconds', 'a pause is two minutes at most')
from private.job_org_pauses where kind = 'crowd' and org = tests.org('u1');
update private.job_org_pauses set until = clock_timestamp(), failed_at = clock_timestamp() - interval '61 minutes' where kind = 'crowd' and org = tests.org('u1');
select private.jobs_record_outage('crowd', tests.org('u1'), 'x', null);
select is((select failures from private.job_org_pauses where kind = 'crowd' and org = tests.org('u1')), 1, 'a failure more than an hour later is the first again');
update private.job_kind_pauses set shared = true, failures = 7, until = clock_timestamp(), failed_at = clock_timestamp() - interval '61 minutes' where kind = 'crowd';
select private.jobs_record_outage('crowd', tests.org('u2'), 'x', null);
select ok(not shared and failures = 1 and org = tests.org('u2'), 'for the kind, too') from private.job_kind_pauses where kind = 'crowd';
update private.job_org_pauses set failed_at = clock_timestamp() - interval '61 minutes' where kind = 'crowd';
update private.job_kind_pauses set failed_at = clock_timestamp() - interval '61 minutes', until = clock_timestamp() where kind = 'crowd';
select private.jobs_delete_old_pauses();
select results_eq(
  $$select distinct p.until > clock_timestamp() from private.job_org_pauses as p where p.kind = 'crowd'$$, array[true], 'old failures are deleted, unless their pause goes on'
);
select is_empty($$select 1 from private.job_kind_pauses where kind = 'crowd'$$, 'also those of a kind');

-- ---- an outage lasts a day at most
select tests.queue('ada', 'day', 2, '{"max_attempts": 1}');
update public.jobs set created_at = clock_timestamp() - interval '24 hours 1 minute' where kind = 'day';
select is(tests.outage('ada', 'day'), 'queued', 'a job that waited a day for a worker has its own day for the outage');
update public.jobs set started_at = clock_timestamp() - interval '24 hours 1 minute' where kind = 'day' and attempt > 0;
select is(tests.outage('ada', 'day'), 'queued', 'the other job has not started yet');
update public.jobs set started_at = clock_timestamp() - interval '24 hours 1 minute' where kind = 'day';
select is(tests.outage('ada', 'day'), 'dead', 'after a day an outage is a failure like any other');
select is(
  has_table_privilege('kijko_sidecar', 'private.job_kind_pauses', 'select, insert, update, delete')
    or has_table_privilege('kijko_sidecar', 'private.job_org_pauses', 'select, insert, update, delete'),
  false, 'only functions write pauses'
);

select * from finish();
rollback;
