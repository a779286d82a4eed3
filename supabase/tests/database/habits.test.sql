begin;
\ir 000_helpers.sql
select plan(91);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset
select tests.skill(tests.org('bob')) as bobs \gset

select tests.act_as('ada');
insert into public.habits (skill_id, name, cron) values (:'skill', 'Hourly', '0 * * * *') returning id as habit \gset

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.habits', '42501', null, 'anon reads nothing');
select throws_ok('select public.run_habit(gen_random_uuid())', '42501', null, 'anon runs nothing');
select throws_ok($$select public.preview_cron('* * * * *')$$, '42501', null, 'anon previews nothing');

select tests.act_as('bob');
select is_empty('select 1 from public.habits', 'a non-member sees nothing');
select throws_ok(format($$insert into public.habits (org_id, skill_id, name, cron) values (tests.org('ada'), %L, 'x', '* * * * *')$$, :'skill'), '42501', null, 'a non-member adds nothing');
select throws_ok(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '* * * * *')$$, :'skill'), '42501', null, 'a non-member does not use another organization''s skill in an own habit');
select is(tests.changed($$update public.habits set enabled = false$$), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.habits'), 0::bigint, 'a non-member deletes nothing');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'not_found', 'another organization''s habit is not found');
select tests.refuses('select public.run_habit(gen_random_uuid())', 'not_found', 'a habit that does not exist is not found');
select throws_ok('select private.habits_run_due()', '42501', null, 'users do not call habits_run_due');
select throws_ok('call private.habits_tick()', '42501', null, 'users do not call habits_tick');

select tests.act_as('vic', tests.org('ada'));
select results_eq('select name from public.habits', array['Hourly'], 'a viewer reads');
select throws_ok(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '* * * * *')$$, :'skill'), '42501', null, 'a viewer does not add');
select is(tests.changed($$update public.habits set enabled = false$$), 0::bigint, 'a viewer does not change');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'permission_denied', 'a viewer does not run');

-- ---- the schedule
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed($$update public.habits set name = 'Every hour'$$), 1::bigint, 'a member changes');
select throws_ok($$update public.habits set next_run_at = now()$$, '42501', null, 'next_run_at cannot be written');
select throws_ok($$update public.habits set last_run_at = now()$$, '42501', null, 'last_run_at cannot be written');
select tests.refuses($$update public.habits set org_id = tests.org('mem')$$, 'permission_denied', 'a habit does not move to another organization');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '61 * * * *')$$, :'skill'), 'invalid_cron', 'an insert with a bad expression fails');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '0 0 30 2 *')$$, :'skill'), 'invalid_cron', 'an expression that never fires is not stored');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron, timezone) values (%L, 'x', '* * * * *', 'Mars/Base')$$, :'skill'), 'invalid_timezone', 'an unknown zone is not stored');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron, timezone, enabled) values (%L, 'x', '* * * * *', 'Mars/Base', false)$$, :'skill'), 'invalid_timezone', 'an unknown zone is not stored in a disabled habit');
select tests.refuses($$update public.habits set cron = 'whenever'$$, 'invalid_cron', 'an update with a bad expression fails');
select throws_ok(format($$insert into public.habits (skill_id, name, cron, input) values (%L, 'x', '* * * * *', '[]')$$, :'skill'), '23514', null, 'an input that is no object is refused');
select is((select next_run_at from public.habits), date_trunc('hour', kijko.now()) + interval '1 hour', 'next_run_at is the next slot');
update public.habits set cron = '30 12 * * *', timezone = 'Europe/Amsterdam';
select is((select next_run_at from public.habits), kijko.cron_next('30 12 * * *', 'Europe/Amsterdam', kijko.now()), 'next_run_at follows a change');
update public.habits set enabled = false;
select is((select next_run_at from public.habits), null, 'a disabled habit has no next slot');
update public.habits set enabled = true, cron = '0 * * * *', timezone = 'UTC';
select is((select next_run_at from public.habits), date_trunc('hour', kijko.now()) + interval '1 hour', 'an enabled habit starts with its next slot');

select results_eq(
  $$select public.preview_cron('0 9 * * 1', 'Europe/Amsterdam', 3)$$,
  $$select kijko.cron_upcoming('0 9 * * 1', 'Europe/Amsterdam', kijko.now(), 3)$$, 'a preview returns the next slots'
);
select is((select count(*) from public.preview_cron('@daily')), 5::bigint, 'a preview has five slots by default');
select tests.refuses($$select public.preview_cron('nonsense')$$, 'invalid_cron', 'a bad expression is refused');
select tests.refuses($$select public.preview_cron(null)$$, 'invalid_cron', 'null is refused');
select tests.refuses($$select public.preview_cron('* * * * *', 'Mars/Base')$$, 'invalid_timezone', 'a bad zone is refused');
select tests.refuses($$select public.preview_cron('* * * * *', 'UTC', 101)$$, 'invalid_input', 'too many slots are refused');
select tests.refuses($$select public.preview_cron('* * * * *', 'UTC', null)$$, 'invalid_input', 'a null number of slots is refused');

-- ---- run now
select is((select trigger || ' ' || status from public.run_habit(:'habit')), 'manual queued', 'a member runs it now');
select ok(habit_id = :'habit' and scheduled_for is null, 'a run by hand is no slot of the schedule') from public.executions;
select is(tests.used(tests.org('ada'), 'executions'), 1::bigint, 'a run by hand is charged');

-- ---- ticking
select tests.act_as_superuser();
-- What is queued has run.
create function tests.end_executions() returns void language sql security definer as $$
  update public.executions as e set status = 'succeeded', started_at = kijko.now(), finished_at = kijko.now() where e.status = 'queued'
$$;
select is(private.habits_run_due(), 0, 'nothing is due');
select date_trunc('hour', now()) + interval '1 hour' as slot \gset
select tests.travel(:'slot'::timestamptz + interval '10 seconds' - now());
-- The columns that the trigger watches, as a form sends them back.
select is(tests.changed('update public.habits set cron = cron, timezone = timezone, enabled = enabled'), 1::bigint, 'a form saves the columns unchanged');
select is((select next_run_at from public.habits), :'slot'::timestamptz, 'saving a habit unchanged does not lose a due slot');
update public.habits set timezone = 'Europe/London';
select is((select next_run_at from public.habits), :'slot'::timestamptz + interval '1 hour', 'another schedule starts with its next slot');
update public.habits set timezone = 'UTC';
update public.habits set next_run_at = :'slot';
select is(private.habits_run_due(), 1, 'a slot is due');
select results_eq(
  format('select trigger, status, scheduled_for, input, created_by from public.executions where habit_id = %L and scheduled_for is not null', :'habit'),
  format($$values ('habit', 'queued', %L::timestamptz, '{}'::jsonb, null::uuid)$$, :'slot'), 'the slot becomes an execution'
);
select is((select count(*) from public.jobs as j join public.executions as e on e.job_id = j.id where e.scheduled_for is not null), 1::bigint, 'the execution has a job');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'the execution is charged');
select results_eq(
  'select last_run_at, next_run_at from public.habits',
  format($$values (%L::timestamptz, %L::timestamptz + interval '1 hour')$$, :'slot', :'slot'), 'the habit moves on to the next slot'
);
select is(private.habits_run_due(), 0, 'a second tick handles nothing');
update public.habits set next_run_at = :'slot';
select is(private.habits_run_due(), 1, 'the same slot is due again');
select is((select count(*) from public.executions where scheduled_for = :'slot'), 1::bigint, 'the slot does not run twice');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'the slot is charged once');

-- ---- downtime
select tests.end_executions();
select tests.travel(:'slot'::timestamptz + interval '5 days 7 hours 12 minutes' - now());
select is(private.habits_run_due(), 1, 'a habit is due after five days');
select is((select count(*) from public.executions where scheduled_for > :'slot'), 1::bigint, 'one of the missed slots runs');
select is((select max(scheduled_for) from public.executions), :'slot'::timestamptz + interval '127 hours', 'the slot that runs is the latest');
select is((select next_run_at from public.habits), :'slot'::timestamptz + interval '128 hours', 'the next slot is in the future');

select is(
  (select count(*) from (values
      ('* * * * *', 'UTC', interval '400 days'), ('*/7 3 * * 1', 'Europe/Amsterdam', interval '90 days'), ('0 0 29 2 *', 'UTC', interval '5 years'),
      ('30 2 * * *', 'America/New_York', interval '9 days'), ('0 * * * *', 'Australia/Lord_Howe', interval '200 days'), ('5 4 * * *', 'UTC', interval '1 minute')
    ) as c (expr, tz, pause)
    cross join (values (timestamptz '2026-11-01 06:31:05+00'), ('2027-03-14 08:00:00+00'), ('2028-03-01 00:00:59+00')) as u (until)
    cross join lateral (select kijko.cron_next(c.expr, c.tz, u.until - c.pause) as first_due) as f
    cross join lateral (select private.habits_latest_slot(c.expr, c.tz, f.first_due, u.until) as slot) as l
    where f.first_due <= u.until
      -- The last slot: itself a slot, not after "until", and the next one is.
      and (l.slot > u.until or kijko.cron_next(c.expr, c.tz, l.slot) <= u.until
        or kijko.cron_next(c.expr, c.tz, l.slot - interval '1 second') <> l.slot)),
  0::bigint, 'the latest slot is found over clock changes, leap days and long pauses'
);

-- ---- refused and broken ones
select tests.end_executions();
select kijko.set_limit(tests.org('ada'), 'executions', 'month', 0);
select tests.travel(:'slot'::timestamptz + interval '128 hours' - now());
select is(private.habits_run_due(), 1, 'a slot is due over the limit');
select results_eq(
  'select status, error_code, job_id, finished_at is not null from public.executions order by scheduled_for desc nulls last limit 1',
  $$values ('skipped', 'quota_exceeded', null::uuid, true)$$, 'the slot is skipped with the reason'
);
select kijko.set_limit(tests.org('ada'), 'executions', 'month', null);
select tests.travel(:'slot'::timestamptz + interval '129 hours' - now());
select kijko.record_usage(tests.org('ada'), 'llm_cost_microusd', 500001, kijko.now()) as recorded \gset
select is(private.habits_run_due(), 1, 'a slot is due when model use is used up');
select is((select status || ' ' || error_code from public.executions order by scheduled_for desc nulls last limit 1), 'skipped quota_exceeded', 'the slot is skipped too');
select kijko.set_limit(tests.org('ada'), 'llm_cost_microusd', 'month', null, 'flag');
update public.skills set enabled = false where id = :'skill';
select tests.travel(:'slot'::timestamptz + interval '130 hours' - now());
select is(private.habits_run_due(), 1, 'a slot of a disabled skill is due');
select is((select status || ' ' || error_code from public.executions order by scheduled_for desc nulls last limit 1), 'skipped skill_disabled', 'the slot of a disabled skill is skipped');
select tests.act_as('ada');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'conflict', 'a habit of a disabled skill is not run by hand');
select is((select count(*) from public.executions where trigger = 'manual'), 1::bigint, 'the refusal leaves no execution');
select tests.act_as_superuser();

-- ---- a habit that cannot run fills no table
update public.habits set input = jsonb_build_object('long', repeat('x', 260000)) where id = :'habit';
select count(*) as rows from public.executions \gset
select tests.travel(:'slot'::timestamptz + make_interval(hours => h) - now()), private.habits_run_due() from generate_series(131, 140) as h;
select is((select count(*) from public.executions), :'rows'::bigint, 'ten more slots that are skipped add no row');
select results_eq(
  $$select error_code, skip_count, scheduled_for, octet_length(input::text) from public.executions where skip_count > 0 order by scheduled_for$$,
  format($$values ('quota_exceeded', 2, %1$L::timestamptz + interval '129 hours', 2), ('skill_disabled', 11, %1$L::timestamptz + interval '140 hours', 2)$$, :'slot'),
  'each reason has one row that counts, without the input'
);
update public.skills set enabled = true where id = :'skill';
select tests.travel(:'slot'::timestamptz + interval '141 hours' - now());
select is(private.habits_run_due(), 1, 'a slot is due after the skill is enabled');
select ok(skip_count = 0 and octet_length(input::text) > 260000, 'the slot runs with its input') from public.executions order by scheduled_for desc nulls last limit 1;
update public.skills set enabled = false where id = :'skill';
select tests.travel(:'slot'::timestamptz + interval '142 hours' - now());
select is(private.habits_run_due(), 1, 'a slot is due after the skill is disabled again');
select results_eq(
  $$select skip_count from public.executions where error_code = 'skill_disabled' order by scheduled_for$$, array[11, 1], 'counting starts anew'
);
update public.skills set enabled = true where id = :'skill';
update public.habits set input = '{}' where id = :'habit';

-- ---- slots are skipped while the execution of an earlier slot is queued
select tests.used(tests.org('ada'), 'executions') as used \gset
select count(*) as rows from public.executions \gset
select tests.travel(:'slot'::timestamptz + make_interval(hours => h) - now()), private.habits_run_due() from generate_series(143, 145) as h;
select results_eq(
  $$select status, skip_count, job_id, octet_length(input::text), scheduled_for from public.executions where error_code = 'conflict'$$,
  format($$values ('skipped', 3, null::uuid, 2, %L::timestamptz + interval '145 hours')$$, :'slot'), 'three slots are skipped and counted in one row'
);
select is((select count(*) from public.executions), :'rows'::bigint + 1, 'no other row is added');
select is(tests.used(tests.org('ada'), 'executions'), :'used'::bigint, 'a skipped slot is not charged');
select ok(last_error is null and next_run_at = :'slot'::timestamptz + interval '146 hours', 'the habit moves on') from public.habits where id = :'habit';
select tests.end_executions();
select tests.travel(:'slot'::timestamptz + interval '146 hours' - now());
select is(private.habits_run_due(), 1, 'a slot is due after that execution has ended');
select is((select status from public.executions where scheduled_for = :'slot'::timestamptz + interval '146 hours'), 'queued', 'the slot is queued');
select tests.travel(:'slot'::timestamptz + interval '147 hours' - now());
select is(private.habits_run_due(), 1, 'a slot is due while the execution waits for another attempt');
select results_eq($$select skip_count from public.executions where error_code = 'conflict' order by scheduled_for$$, array[3, 1], 'the slot is skipped');
select tests.end_executions();
select tests.act_as('ada');
select is((select status from public.run_habit(:'habit')), 'queued', 'the habit is run by hand');
select tests.act_as_superuser();
select tests.travel(:'slot'::timestamptz + interval '148 hours' - now()), private.habits_run_due();
select is((select status from public.executions where scheduled_for = :'slot'::timestamptz + interval '148 hours'), 'queued', 'a run by hand does not delay the schedule');
delete from public.executions where trigger = 'manual' and status = 'queued';
select tests.end_executions();

select tests.act_as('bob');
insert into public.habits (skill_id, name, cron) values (:'bobs', 'Fine', '0 * * * *');
select tests.act_as_superuser();
-- What a check would refuse today may be there from before: a zone that has been renamed.
set local session_replication_role = replica;
update public.habits set timezone = 'Gone/Zone' where id = :'habit';
set local session_replication_role = origin;
select tests.travel(:'slot'::timestamptz + interval '149 hours' - now());
select is(private.habits_run_due(), 2, 'a broken and a good habit are due');
select is((select status from public.executions where org_id = tests.org('bob')), 'queued', 'the good habit runs');
select tests.act_as('ada');
select tests.refuses(format('select public.retry_execution(%L)', (select id from public.executions where status = 'failed')), 'conflict', 'a slot that did not run is not retried');
select tests.act_as_superuser();
select is((select status || ' ' || error_code from public.executions where org_id = tests.org('ada') order by scheduled_for desc nulls last limit 1), 'failed invalid_timezone', 'the broken habit has a failed execution');
select ok(next_run_at is null and last_error like 'invalid_timezone%', 'the broken habit rests until somebody edits it') from public.habits where id = :'habit';
select is(private.habits_run_due(), 0, 'the broken habit is not due again');
update public.habits set timezone = 'UTC' where id = :'habit';
select ok(next_run_at is not null and last_error is null, 'an edited habit has a next slot') from public.habits where id = :'habit';

-- ---- the schedule of the tick itself
select is((select count(*) from cron.job where username = 'postgres' and jobname in ('kijko-habits-run-due', 'kijko-jobs-maintenance', 'kijko-jobs-purge', 'kijko-cron-log-purge')), 4::bigint, 'pg_cron runs habits, maintains the queue and deletes what is old');
select tests.act_as('ada');
delete from public.habits where id = :'habit';
select is((select count(*) from public.executions where habit_id is null and trigger = 'habit'), 11::bigint, 'the executions of a deleted habit stay');

select * from finish();
rollback;
