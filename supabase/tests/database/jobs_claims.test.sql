-- Whose job is claimed next: tenants' turns, limits, pauses, and workers that cannot run everything.
begin;
\ir 000_helpers.sql
select plan(52);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('cyd');

create function tests.queue(who text, kind text, n bigint default 1, more jsonb default '{}') returns void language sql security definer as $$
  select count(*) from private.jobs_enqueue_many((
    select jsonb_agg(jsonb_build_object('org_id', tests.org(who), 'kind', queue.kind) || more) from generate_series(1, n)
  ))
$$;
-- Who is served, in order, by so many claims of so many jobs.
create function tests.served(kind text, claims integer, max_jobs integer default 1) returns text language plpgsql security definer as $$
declare
  names text := '';
begin
  for i in 1 .. claims loop
    -- A worker of the running stack may have moved the head meanwhile: it does not see what is not committed.
    perform setval('private.jobs_due_watermark', 0);
    select names || coalesce(string_agg(left(substring(u.email from '^[a-z]+'), 1), '' order by u.email), '') into names
    from private.jobs_claim('w', '1 minute', max_jobs, array[kind]) as c
    join public.organizations as o on o.id = c.org_id
    join auth.users as u on u.id = o.created_by;
  end loop;
  return names;
end
$$;

-- ---- tenants take turns, also when each claim takes one
select tests.queue('ada', 'turn', 200);
select tests.queue('bob', 'turn', 1);
select ok(tests.served('turn', 4) in ('abaa', 'baaa'), 'a tenant''s only job is served second at the latest, not 201st');
select tests.queue('bob', 'turn', 2);
select tests.queue('cyd', 'turn', 2);
select is(
  (select count(*) from regexp_matches(tests.served('turn', 6), '[bc]', 'g')), 4::bigint, 'three in turn: in six claims each is served twice'
);
select is(tests.served('turn', 3), 'aaa', 'and a worker that is alone gets all');
-- As many lanes as a tenant likes are one place in the round.
select count(*) from private.jobs_enqueue_many((
  select jsonb_agg(jsonb_build_object('org_id', tests.org('ada'), 'kind', 'keys', 'concurrency_key', 'key ' || n)) from generate_series(1, 200) as n
));
select tests.queue('bob', 'keys', 3);
select ok(tests.served('keys', 6) in ('ababab', 'bababa'), 'a tenant with 200 keys has one turn in two');
-- Jobs of one kind do not take the turn of another's.
select tests.queue('ada', 'first', 9), tests.queue('bob', 'first', 9), tests.queue('bob', 'second', 9), tests.queue('ada', 'second', 9);
select is(
  (select string_agg(tests.served('first', 1) || tests.served('second', 1), '' order by n) from generate_series(1, 4) as n) ~ '^(a.b.a.b.|b.a.b.a.)$',
  true, 'kinds have turns of their own'
);
-- Two sets of kinds share a sequence: a claim that finds the other set's turn starts at random, and no tenant is left out.
select tests.queue('ada', 'met' || n, 3), tests.queue('bob', 'met' || n, 3) from generate_series(1, 20) as n;
select tests.served('met' || n, 1) from generate_series(1, 20) as n;
select is((select count(*) from generate_series(1, 20) as n where tests.served('met' || n, 5) ~ '^[ab]*$'), 20::bigint, 'kinds that share a sequence');
select is((select count(*) from public.jobs where kind like 'met%' and status = 'queued'), 0::bigint, 'lose no job by it');
-- Workers that claim different kinds and share a sequence, one claim each in turn.
select tests.queue('ada', 'mixed', 200);
select tests.queue('bob', 'mixed', 1);
create temporary table meeting on commit drop as
  select array['mixed', 'other' || (array_agg(n order by n))[1]] as one, array['mixed', 'other' || (array_agg(n order by n))[2]] as two
  from generate_series(1, 20) as n
  group by private.jobs_turn_sequence(array['mixed', 'other' || n], 0::smallint)
  having count(*) > 1 and count(distinct private.jobs_turn_tag(array['mixed', 'other' || n], 0::smallint)) > 1
  limit 1;
-- By chance the tenant is not served in 120 claims once in 10 to the 36.
select isnt_empty(
  $$select 1 from meeting as m cross join generate_series(1, 120) as n
    cross join lateral private.jobs_claim('w', '1 minute', 1, case when n % 2 = 0 then m.one else m.two end) as c
    where c.org_id = tests.org('bob')$$,
  'a tenant''s only job is served also when workers forget each other''s turns'
);

-- ---- a job held back by a limit takes no other job's place
select tests.queue('bob', 'held', 1, '{"concurrency_key": "repo"}');
select is(tests.served('held', 1), 'b', 'one of a key runs');
select tests.queue('ada', 'held', 20);
select tests.queue('bob', 'held', 2, '{"concurrency_key": "repo"}');
select private.jobs_set_limit(tests.org('cyd'), null, 0);
select tests.queue('cyd', 'held', 1);
select is(tests.served('held', 1, 5), 'aaaaa', 'five are claimed, and only those that may run');
select is(tests.served('held', 15), repeat('a', 15), 'one at a time too');
select is(tests.served('held', 3), '', 'then none');
select private.jobs_set_limit(tests.org('cyd'), null, null);
select is(tests.served('held', 3), 'c', 'until a limit is taken away');
-- The longest due are all held back, and more of them than a claim looks at.
select tests.queue('bob', 'crowd', 1, '{"concurrency_key": "repo"}');
update public.jobs set status = 'cancelled', finished_at = clock_timestamp(), locked_by = null, locked_until = null where kind = 'held' and status = 'running';
select is(tests.served('crowd', 1), 'b', 'one of the key runs');
select tests.queue('bob', 'crowd', 500, '{"concurrency_key": "repo"}');
select tests.queue('ada', 'crowd', 20);
select is(tests.served('crowd', 1, 10), repeat('a', 10), 'a claim is filled by those behind them');
-- Also of other organizations.
select tests.sign_up('u' || n) from generate_series(1, 80) as n;
select private.jobs_set_limit(tests.org('u' || n), null, 0), tests.queue('u' || n, 'crowds') from generate_series(1, 80) as n;
select tests.queue('ada', 'crowds', 2);
select is(tests.served('crowds', 3), 'aa', 'eighty tenants that may run nothing do not hide one that may');

-- ---- an outage of the other side: the kind is paused, and no attempt is used
select tests.queue('ada', 'vendor', 5, '{"max_attempts": 1}');
create function tests.outage(code text default 'vendor_unavailable', retry_after interval default null) returns text language plpgsql security definer as $$
declare
  held uuid;
begin
  perform setval('private.jobs_due_watermark', 0);
  select c.id into held from private.jobs_claim('w', '1 minute', 1, array['vendor']) as c;
  return private.jobs_fail('w', held, code, 'HTTP 503', true, retry_after, outage => true);
end
$$;
select is(tests.outage(), 'queued', 'a job without another attempt waits for its vendor');
select ok(
  attempt = 1 and uncounted_attempts = 1 and run_at > clock_timestamp() + interval '0.9 seconds' and run_at < clock_timestamp() + interval '2.1 seconds',
  'without using an attempt'
) from public.jobs where kind = 'vendor' and attempt > 0;
select is((select event from public.job_event_log where job_id = (select id from public.jobs where kind = 'vendor' and attempt > 0)), 'postponed', 'and its events say so');
select is(tests.outage(), 'queued', 'a second');
select is(tests.served('vendor', 1, 1), 'a', 'two are no outage yet');
select private.jobs_fail('w', id, 'vendor_unavailable', 'HTTP 503', true, outage => true) from public.jobs where kind = 'vendor' and status = 'running';
select is(tests.served('vendor', 3, 5), '', 'three in a row pause the kind');
select is((select failures from private.job_kind_pauses where kind = 'vendor'), 3, 'they are counted');
select tests.queue('ada', 'turn', 1);
select is(tests.served('turn', 1), 'a', 'other kinds are not paused');
select is((select count(*) from private.jobs_claim('w', '1 minute', 5, array['vendor', 'turn']) where kind = 'vendor'), 0::bigint, 'nor when both are asked for');
update private.job_kind_pauses set until = clock_timestamp();
update public.jobs set run_at = clock_timestamp() - interval '1 second' where kind = 'vendor' and status = 'queued';
select is(tests.served('vendor', 3, 5), 'a', 'after the pause one job tries');
select is(private.jobs_fail('w', id, 'vendor_unavailable', 'HTTP 503', true, outage => true), 'queued', 'in vain')
from public.jobs where kind = 'vendor' and status = 'running';
select ok(
  failures = 4 and until between clock_timestamp() + interval '0.9 seconds' and clock_timestamp() + interval '2.1 seconds',
  'so the pause gets longer'
) from private.job_kind_pauses where kind = 'vendor';
update private.job_kind_pauses set until = clock_timestamp();
select is(tests.served('vendor', 1), '', 'one try in five seconds');
update private.job_kind_pauses set tried_at = clock_timestamp() - interval '5 seconds';
select is(tests.outage(retry_after => '20 minutes'), 'queued', 'a vendor says when it will be back');
select ok(
  failures = 5 and until between clock_timestamp() + interval '19 minutes' and clock_timestamp() + interval '21 minutes', 'and is left alone until then'
) from private.job_kind_pauses where kind = 'vendor';
update private.job_kind_pauses set until = clock_timestamp(), tried_at = '-infinity';
update public.jobs set run_at = clock_timestamp() - interval '1 second' where kind = 'vendor' and status = 'queued';
select is(tests.served('vendor', 1), 'a', 'it is tried again');
select results_eq(
  $$select c.status from public.jobs as j cross join lateral private.jobs_complete('w', jsonb_build_array(jsonb_build_object('id', j.id))) as c where j.kind = 'vendor' and j.status = 'running'$$,
  array['succeeded'], 'and is back'
);
select is_empty($$select 1 from private.job_kind_pauses where kind = 'vendor'$$, 'which lifts the pause');
select is(tests.served('vendor', 1, 5), 'aaaa', 'for all that waited');
update public.jobs set created_at = clock_timestamp() - interval '24 hours 1 minute' where kind = 'vendor' and status = 'running';
select is(
  (select private.jobs_fail('w', j.id, 'vendor_unavailable', 'HTTP 503', true, outage => true) from public.jobs as j where j.kind = 'vendor' and j.status = 'running' limit 1),
  'queued', 'a job that waited a day for a worker has its own day for the outage'
);
update public.jobs set started_at = clock_timestamp() - interval '24 hours 1 minute' where kind = 'vendor' and status = 'running';
select results_eq(
  $$select distinct private.jobs_fail('w', j.id, 'vendor_unavailable', 'HTTP 503', true, outage => true) from public.jobs as j where j.kind = 'vendor' and j.status = 'running'$$,
  array['dead'], 'after a day an outage is a failure like any other'
);
delete from private.job_kind_pauses;
select tests.queue('ada', 'hint', 3);
select private.jobs_claim('w', '1 minute', 3, array['hint']);
select private.jobs_fail('w', id, 'vendor_rate_limited', 'HTTP 429', true, '20 minutes', outage => true) from public.jobs where kind = 'hint';
select ok(
  until between clock_timestamp() + interval '19 minutes' and clock_timestamp() + interval '21 minutes', 'a pause is as long as the vendor asks for'
) from private.job_kind_pauses where kind = 'hint';
update private.job_kind_pauses set failures = 40, until = clock_timestamp() where kind = 'hint';
select private.jobs_record_outage('hint', 'x', null);
select ok(until between clock_timestamp() + interval '50 seconds' and clock_timestamp() + interval '125 seconds', 'or two minutes at most')
from private.job_kind_pauses where kind = 'hint';
select private.jobs_record_outage('hint', 'x', null);
select is((select failures from private.job_kind_pauses where kind = 'hint'), 41, 'what fails during a pause had begun before it');
select is(
  (select count(*) from private.job_limits) > 0 and not has_table_privilege('kijko_sidecar', 'private.job_kind_pauses', 'select, insert, update, delete'), true,
  'only the functions write pauses'
);

-- ---- executions are of the kind of their vendor
select is(private.executions_job_kind(m), k, m || ' is asked through ' || k)
from (values
  ('echo/echo', 'execution.echo'), ('openai/meta/llama', 'execution.openai'), ('gpt-4o', 'execution.openai'), ('o3-mini', 'execution.openai'),
  ('anthropic/claude', 'execution.anthropic'), ('claude-sonnet', 'execution.anthropic'), ('gemini-2.5-pro', 'execution.gemini'), ('acme/one', 'execution')
) as v (m, k);
select tests.skill(tests.org('ada')) as skill \gset
select tests.act_as('ada');
select (public.execute_skill(:'skill')).job_id as moved \gset
select tests.act_as_superuser();
update public.skills set model = 'gpt-4o' where id = :'skill';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('w', '1 minute', 1, array['execution.echo'])), :'moved'::uuid, 'the skill is given another vendor''s model while it waits');
select is(private.executions_start('w', :'moved'), null, 'it does not start here');
select tests.act_as_superuser();
select results_eq(
  format('select kind, status, attempt - uncounted_attempts from public.jobs where id = %L', :'moved'), $$values ('execution.openai', 'queued', 0)$$,
  'but goes to those who have a key, without using an attempt'
);

select * from finish();
rollback;
