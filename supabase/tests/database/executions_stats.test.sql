-- Statistics of executions: each end is counted once, and every local period is exact.
begin;
\ir 000_helpers.sql
select plan(45);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset
select tests.skill(tests.org('ada')) as other \gset
select tests.skill(tests.org('bob')) as bobs \gset
-- There is one fold at a time, and pg_cron's is not ours.
do $$ begin perform pg_advisory_xact_lock(hashtextextended('kijko-executions-fold', 20261121)); end $$;
-- What the stack itself has counted is not ours.
create function tests.stats_rows() returns bigint language sql as $$ select count(*) from private.execution_rollups as r where r.org = tests.org('ada') $$;

-- ---- refusals
select tests.act_as_anon();
select throws_ok('select * from public.execution_stats()', '42501', null, 'anon reads no statistics');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses('select * from public.execution_stats()', 'not_a_member', 'a non-member does not read them');
select tests.act_as('vic', tests.org('ada'));
select throws_ok('select * from private.execution_rollups', '42501', null, 'members do not read the rollups');
select throws_ok('select * from private.execution_deltas', '42501', null, 'or the deltas');
select throws_ok($$select private.executions_summary(tests.org('ada'))$$, '42501', null, 'or call the function that checks nothing');
select tests.refuses($$select * from public.execution_stats(by => 'model')$$, 'invalid_input', 'an unknown group is refused');
select tests.refuses($$select * from public.execution_stats(period => 'decade')$$, 'invalid_input', 'an unknown period is refused');
select tests.refuses($$select * from public.execution_stats(period => 'day', timezone => 'Mars/Olympus')$$, 'invalid_timezone', 'an unknown zone is refused');
select tests.refuses($$select * from public.execution_stats(timezone => null)$$, 'invalid_timezone', 'a zone of null is refused');
select tests.refuses($$select * from public.execution_stats(since => 'infinity')$$, 'invalid_input', 'an infinite time is refused');
select tests.refuses($$select * from public.execution_stats(since => '2026-02-01', until => '2026-01-01')$$, 'invalid_input', 'since after until is refused');
select tests.refuses($$select * from public.execution_stats(period => 'hour', since => '2026-01-01', until => '2026-03-01')$$, 'invalid_input', 'more than 31 days of hours are refused');
select results_eq(
  'select runs, success_rate, p50_ms, last_run_at from public.execution_stats()', $$values (0::bigint, null::numeric, null::numeric, null::timestamptz)$$,
  'without executions the row has zeros'
);

-- ---- a run is counted in the transaction that ends it
select tests.act_as('mem', tests.org('ada'));
select (e).id as e1, (e).job_id as job1 from (select public.execute_skill(:'skill') as e) as s \gset
select (e).id as e2 from (select public.execute_skill(:'skill') as e) as s \gset
select is((select runs from public.execution_stats()), 0::bigint, 'a queued execution is not counted');
select status from public.cancel_execution(:'e2') \gset
select is((select row(runs, cancelled, skipped, success_rate, p95_ms)::text from public.execution_stats()), '(1,1,0,,)', 'a cancelled one is, without a duration');
select tests.act_as_sidecar();
select count(*) as claimed from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo']) \gset
select private.executions_start('w', :'job1') is not null as started \gset
select private.executions_finish('w', :'job1', '{"output": {"text": "x"}, "input_tokens": 7, "output_tokens": 3}') as finished \gset
select private.executions_finish('w', :'job1', '{"output": {"text": "x"}, "input_tokens": 7, "output_tokens": 3}') as again \gset
select tests.act_as('vic', tests.org('ada'));
select is((select row(runs, succeeded, success_rate, input_tokens, output_tokens)::text from public.execution_stats()), '(2,1,1.0000,7,3)', 'a viewer reads what a run used; the second report adds nothing');
select tests.act_as_superuser();
select ok(private.executions_fold() > 0, 'the fold moves deltas');
select is((select count(*) from private.execution_deltas where org = tests.org('ada')), 0::bigint, 'all of them');
select is(tests.stats_rows(), 12::bigint, 'into one row for each width, and one total');
select is(private.executions_fold(), 0, 'a second fold finds nothing');
select tests.act_as('vic', tests.org('ada'));
select is((select row(runs, succeeded, cancelled, input_tokens)::text from public.execution_stats()), '(2,1,1,7)', 'and the statistics stay');
select is((select runs from public.execution_stats(skill_id => :'other')), 0::bigint, 'another skill has none');
select is((select string_agg(value || ' ' || runs, ' ') from public.execution_stats(by => 'skill')), :'skill' || ' 2', 'by skill');
select is((select string_agg(value || ' ' || runs, ' ') from public.execution_stats(by => 'trigger')), 'manual 2', 'by trigger');
select tests.act_as('bob');
select is((select runs from public.execution_stats()), 0::bigint, 'another organization has none');

-- ---- many ends around changes of the clock, in zones of every kind
select tests.act_as_superuser();
delete from public.executions where org_id = tests.org('ada');
delete from private.execution_rollups where org = tests.org('ada');
insert into public.executions (org_id, skill_id, trigger, status, started_at, finished_at, cost_microusd, input_tokens, output_tokens)
select tests.org('ada'), case n % 3 when 0 then :'skill'::uuid when 1 then :'other'::uuid end, (array['manual', 'api', 'habit'])[1 + n % 3],
  (array['succeeded', 'succeeded', 'failed', 'cancelled'])[1 + n % 4], t - interval '3 seconds' * (n % 7), t, n, n * 2, n * 3
from generate_series(1, 6000) as n
cross join lateral (select timestamptz '2026-03-20 00:00+00' + n * interval '53 minutes 17.3 seconds' as t) as m
where n % 5 <> 0;
-- A part is folded, the rest is the tail.
select private.executions_fold(1700) as folded \gset

-- The same by the rows themselves.
create function tests.by_rows(period text, tz text, since timestamptz, until timestamptz)
returns table (period_start timestamptz, value text, runs bigint, failed bigint, cost bigint, tokens bigint, last timestamptz) language sql security definer as $$
  select e.period_start, e.skill_id::text, count(*), count(*) filter (where e.status = 'failed'), sum(e.cost_microusd)::bigint,
    sum(e.input_tokens + e.output_tokens)::bigint, max(e.finished_at)
  from (
    select e.*, p.starts[width_bucket(e.finished_at, p.starts)] as period_start, p.ends[width_bucket(e.finished_at, p.starts)] as period_end
    from (
      select array_agg(period_start order by period_start) as starts, array_agg(period_end order by period_start) as ends
      from private.executions_periods(by_rows.period, by_rows.tz, by_rows.since, by_rows.until)
    ) as p
    join public.executions as e on e.org_id = tests.org('ada')
  ) as e
  where e.finished_at < e.period_end
  group by 1, 2
$$;
create function tests.differences(period text, tz text, since timestamptz, until timestamptz) returns bigint language sql as $$
  select count(*) from (
    (select * from tests.by_rows(differences.period, differences.tz, differences.since, differences.until)
     except
     select s.period_start, s.value, s.runs, s.failed, s.cost_microusd, s.input_tokens + s.output_tokens, s.last_run_at
     from public.execution_stats('skill', differences.period, differences.tz, differences.since, differences.until) as s)
    union all
    (select s.period_start, s.value, s.runs, s.failed, s.cost_microusd, s.input_tokens + s.output_tokens, s.last_run_at
     from public.execution_stats('skill', differences.period, differences.tz, differences.since, differences.until) as s
     except
     select * from tests.by_rows(differences.period, differences.tz, differences.since, differences.until))
  ) as d
$$;
select tests.act_as('vic', tests.org('ada'));
select cmp_ok((select count(*) from tests.by_rows('day', 'UTC', '2026-03-20', '2026-11-10')), '>', 500::bigint, 'there is much to compare');
select is(
  (
    select string_agg(z.tz || ' ' || p.period || ' ' || d.differences, ', ')
    from unnest(array['UTC', 'Europe/Amsterdam', 'America/New_York', 'Asia/Kathmandu', 'Asia/Kolkata', 'Australia/Lord_Howe', 'Pacific/Apia', 'Africa/Cairo']) as z (tz)
    cross join (values ('day'), ('week'), ('month')) as p (period)
    cross join lateral (select tests.differences(p.period, z.tz, '2026-03-22 13:07+00', '2026-11-03 04:01+00')) as d (differences)
    where d.differences <> 0
  ), null, 'days, weeks and months of every zone equal the rows'
);
select is(
  (
    select string_agg(z.tz || ' ' || s.since || ' ' || d.differences, ', ')
    from unnest(array['UTC', 'Europe/Amsterdam', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe']) as z (tz)
    cross join (values (timestamptz '2026-03-26 13:07+00'), ('2026-04-02'), ('2026-10-01'), ('2026-10-22 11:00+00')) as s (since)
    cross join lateral (select tests.differences('hour', z.tz, s.since, s.since + interval '13 days')) as d (differences)
    where d.differences <> 0
  ), null, 'and so do hours, also around the changes of the clock'
);
select is(tests.differences(null, 'UTC', '2026-05-01 10:07+00', '2026-09-09 09:09+00'), 0::bigint, 'and the sum of a time that begins and ends anywhere');
select is((select sum(runs) from public.execution_stats('skill', 'month', 'UTC', '2026-01-01', '2027-01-01')), 4800::numeric, 'and nothing is counted twice');
-- What the periods are, by themselves.
select tests.act_as_superuser();
select is(
  (select array_agg(period_end - period_start order by period_start) from private.executions_periods('day', 'Europe/Amsterdam', '2026-10-24 12:00+00', '2026-10-26 12:00+00')),
  array[interval '24 hours', '25 hours', '24 hours'], 'the day on which the clock is set back has 25 hours'
);
select is(
  (select array_agg(to_char(period_start at time zone 'Europe/Amsterdam', 'HH24') order by period_start) from private.executions_periods('hour', 'Europe/Amsterdam', '2026-10-24 23:30+00', '2026-10-25 02:00+00')),
  array['01', '02', '02'], 'and its repeated hour is two hours'
);
select is(
  (select array_agg(period_end - period_start order by period_start) from private.executions_periods('hour', 'Australia/Lord_Howe', '2026-04-04 13:30+00', '2026-04-04 16:00+00')),
  array[interval '1 hour', '1 hour', '30 minutes', '1 hour'], 'a clock that is set back by half an hour repeats half an hour'
);
select is(
  (select array_agg(period_start) from private.executions_periods('day', 'Asia/Kathmandu', '2026-05-01 18:00+00', '2026-05-01 18:20+00')),
  array[timestamptz '2026-04-30 18:15+00', '2026-05-01 18:15+00'], 'a day of Kathmandu begins a quarter past 18:00 UTC'
);
select is(
  (
    select bool_and(c.seconds = extract(epoch from p.e - p.s))
    from generate_series(0, 400, 7) as a (n), generate_series(1, 2900, 41) as b (n)
    cross join lateral (select timestamptz '2026-01-01' + a.n * interval '15 minutes', timestamptz '2026-01-01' + (a.n + b.n) * interval '15 minutes') as p (s, e)
    cross join lateral (
      select sum(extract(epoch from r.range_end - r.range_start)) as seconds from private.executions_ranges(p.s, p.e) as r
    ) as c
  ), true, 'ranges cover a period of a quarter of an hour to a month without overlap'
);

-- ---- skipped slots, tests and durations
delete from public.executions where org_id = tests.org('ada');
delete from private.execution_rollups where org = tests.org('ada');
delete from private.execution_deltas where org = tests.org('ada');
insert into public.executions (id, org_id, skill_id, trigger, status, skip_count, finished_at)
values (tests.id('skip'), tests.org('ada'), :'skill', 'habit', 'skipped', 1, kijko.now());
update public.executions set skip_count = skip_count + 1, finished_at = kijko.now() where id = tests.id('skip');
update public.executions set skip_count = skip_count + 1, finished_at = kijko.now() where id = tests.id('skip');
update public.executions set error = 'no end' where id = tests.id('skip');
insert into public.executions (org_id, skill_id, status, started_at, finished_at)
select tests.org('ada'), :'skill', 'succeeded', kijko.now() - n * interval '10 milliseconds', kijko.now() from generate_series(1, 1000) as n;
select is(row(s.runs, s.skipped)::text, '(1000,3)', 'each skipped slot is counted, and is no run') from private.executions_summary(tests.org('ada')) as s;
select cmp_ok(abs(s.p50_ms - 5000), '<', 1250::numeric, 'the median is within 25 %') from private.executions_summary(tests.org('ada'), skill => :'skill') as s;
select cmp_ok(abs(s.p95_ms - 9500), '<', 2375::numeric, 'and so is the 95th percentile') from private.executions_summary(tests.org('ada')) as s;
select is(private.executions_fold() > 0, true, 'folded');
select cmp_ok(abs(s.p50_ms - 5000), '<', 1250::numeric, 'the histogram survives the fold') from private.executions_summary(tests.org('ada')) as s;
select is(
  (select array_agg(private.executions_duration_bin(d)) from unnest(array[null, '-1 second', '0', '14.9 ms', '15.1 ms', '100 days']::interval[]) as d),
  array[null, 1, 1, 1, 2, 32], 'every duration has a bin'
);

-- ---- deletions
insert into public.projects (id, org_id, name, visibility) values (tests.id('secret'), tests.org('ada'), 'Secret', 'private');
insert into public.executions (org_id, skill_id, project_id, status, finished_at)
select tests.org('ada'), :'skill', tests.id('secret'), 'succeeded', kijko.now() from generate_series(1, 10);
select private.executions_fold(4) as folded \gset
select tests.act_as('vic', tests.org('ada'));
select is((select runs from public.execution_stats()), 1000::bigint, 'a private project hides its executions from the statistics');
select tests.act_as('ada', tests.org('ada'));
select is((select runs from public.execution_stats(project_id => tests.id('secret'))), 10::bigint, 'the owner sees them');
delete from public.projects where id = tests.id('secret');
select tests.act_as('vic', tests.org('ada'));
select is((select runs from public.execution_stats()), 1000::bigint, 'and they stay hidden when the project is deleted');
select tests.act_as_superuser();
delete from public.organizations where id = tests.org('ada');
select is((select count(*) from private.execution_rollups as r where r.org = (select f.org_id from tests.first_organizations as f where f.user_id = tests.id('ada'))), 0::bigint, 'nothing outlives its organization');

select * from finish();
rollback;
