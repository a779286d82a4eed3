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
select throws_ok(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '* * * * *')$$, :'skill'), '23503', null, 'nor runs another organization''s skill from an own habit');
select is(tests.changed($$update public.habits set enabled = false$$), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.habits'), 0::bigint, 'a non-member deletes nothing');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'not_found', 'another organization''s habit is not found');
select tests.refuses('select public.run_habit(gen_random_uuid())', 'not_found', 'as one that does not exist');
select throws_ok('select private.habits_run_due()', '42501', null, 'users do not tick');
select throws_ok('call private.habits_tick()', '42501', null, 'by no way');

select tests.act_as('vic', tests.org('ada'));
select results_eq('select name from public.habits', array['Hourly'], 'a viewer reads');
select throws_ok(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '* * * * *')$$, :'skill'), '42501', null, 'a viewer does not add');
select is(tests.changed($$update public.habits set enabled = false$$), 0::bigint, 'a viewer does not change');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'permission_denied', 'a viewer does not run');

-- ---- the schedule
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed($$update public.habits set name = 'Every hour'$$), 1::bigint, 'a member changes');
select throws_ok($$update public.habits set next_run_at = now()$$, '42501', null, 'next_run_at cannot be written');
select throws_ok($$update public.habits set last_run_at = now()$$, '42501', null, 'nor when it ran');
select tests.refuses($$update public.habits set org_id = tests.org('mem')$$, 'permission_denied', 'a habit does not move');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '61 * * * *')$$, :'skill'), 'invalid_cron', 'a bad expression is not stored');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron) values (%L, 'x', '0 0 30 2 *')$$, :'skill'), 'invalid_cron', 'nor one that never fires');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron, timezone) values (%L, 'x', '* * * * *', 'Mars/Base')$$, :'skill'), 'invalid_timezone', 'nor an unknown zone');
select tests.refuses(format($$insert into public.habits (skill_id, name, cron, timezone, enabled) values (%L, 'x', '* * * * *', 'Mars/Base', false)$$, :'skill'), 'invalid_timezone', 'not even disabled');
select tests.refuses($$update public.habits set cron = 'whenever'$$, 'invalid_cron', 'nor by an update');
select throws_ok(format($$insert into public.habits (skill_id, name, cron, input) values (%L, 'x', '* * * * *', '[]')$$, :'skill'), '23514', null, 'the input is an object');
select is((select next_run_at from public.habits), date_trunc('hour', kijko.now()) + interval '1 hour', 'the next slot is kept');
update public.habits set cron = '30 12 * * *', timezone = 'Europe/Amsterdam';
select is((select next_run_at from public.habits), kijko.cron_next('30 12 * * *', 'Europe/Amsterdam', kijko.now()), 'and follows a change');
update public.habits set enabled = false;
select is((select next_run_at from public.habits), null, 'a disabled habit has none');
update public.habits set enabled = true, cron = '0 * * * *', timezone = 'UTC';
select is((select next_run_at from public.habits), date_trunc('hour', kijko.now()) + interval '1 hour', 'an enabled one starts with the next');

select results_eq(
  $$select public.preview_cron('0 9 * * 1', 'Europe/Amsterdam', 3)$$,
  $$select kijko.cron_upcoming('0 9 * * 1', 'Europe/Amsterdam', kijko.now(), 3)$$, 'a preview'
);
select is((select count(*) from public.preview_cron('@daily')), 5::bigint, 'of five slots by default');
select tests.refuses($$select public.preview_cron('nonsense')$$, 'invalid_cron', 'a bad expression is refused');
select tests.refuses($$select public.preview_cron(null)$$, 'invalid_cron', 'so is none');
select tests.refuses($$select public.preview_cron('* * * * *', 'Mars/Base')$$, 'invalid_timezone', 'so is a bad zone');
select tests.refuses($$select public.preview_cron('* * * * *', 'UTC', 101)$$, 'invalid_input', 'so are too many');
select tests.refuses($$select public.preview_cron('* * * * *', 'UTC', null)$$, 'invalid_input', 'or null');

-- ---- run now
select is((select trigger || ' ' || status from public.run_habit(:'habit')), 'manual queued', 'a member runs it now');
select ok(habit_id = :'habit' and scheduled_for is null, 'which is no slot of the schedule') from public.executions;
select is(tests.used(tests.org('ada'), 'executions'), 1::bigint, 'and is charged');

-- ---- ticking
select tests.act_as_superuser();
-- A worker takes up what is queued.
create function tests.start_executions() returns void language sql security definer as $$
  update public.executions as e set status = 'running', started_at = kijko.now() where e.status = 'queued'
$$;
select is(private.habits_run_due(), 0, 'nothing is due');
select date_trunc('hour', now()) + interval '1 hour' as slot \gset
select tests.travel(:'slot'::timestamptz + interval '10 seconds' - now());
-- The columns that the trigger watches, as a form sends them back.
select is(tests.changed('update public.habits set cron = cron, timezone = timezone, enabled = enabled'), 1::bigint, 'a form is saved');
select is((select next_run_at from public.habits), :'slot'::timestamptz, 'saving a habit unchanged does not lose a due slot');
update public.habits set timezone = 'Europe/London';
select is((select next_run_at from public.habits), :'slot'::timestamptz + interval '1 hour', 'another schedule starts with its next slot');
update public.habits set timezone = 'UTC';
update public.habits set next_run_at = :'slot';
select is(private.habits_run_due(), 1, 'a slot is due');
select results_eq(
  format('select trigger, status, scheduled_for, input, created_by from public.executions where habit_id = %L and scheduled_for is not null', :'habit'),
  format($$values ('habit', 'queued', %L::timestamptz, '{}'::jsonb, null::uuid)$$, :'slot'), 'it becomes an execution'
);
select is((select count(*) from public.jobs as j join public.executions as e on e.job_id = j.id where e.scheduled_for is not null), 1::bigint, 'with a job');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'charged');
select results_eq(
  'select last_run_at, next_run_at from public.habits',
  format($$values (%L::timestamptz, %L::timestamptz + interval '1 hour')$$, :'slot', :'slot'), 'and the habit moves on'
);
select is(private.habits_run_due(), 0, 'a second tick finds nothing');
update public.habits set next_run_at = :'slot';
select is(private.habits_run_due(), 1, 'not even when the slot comes up again');
select is((select count(*) from public.executions where scheduled_for = :'slot'), 1::bigint, 'a slot runs once');
select is(tests.used(tests.org('ada'), 'executions'), 2::bigint, 'and is charged once');

-- ---- downtime
select tests.start_executions();
select tests.travel(:'slot'::timestamptz + interval '5 days 7 hours 12 minutes' - now());
select is(private.habits_run_due(), 1, 'after five days');
select is((select count(*) from public.executions where scheduled_for > :'slot'), 1::bigint, 'one missed slot runs');
select is((select max(scheduled_for) from public.executions), :'slot'::timestamptz + interval '127 hours', 'the latest');
select is((select next_run_at from public.habits), :'slot'::timestamptz + interval '128 hours', 'and the next is in the future');

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
select tests.start_executions();
select kijko.set_limit(tests.org('ada'), 'executions', 'month', 0);
select tests.travel(:'slot'::timestamptz + interval '128 hours' - now());
select is(private.habits_run_due(), 1, 'over the limit');
select results_eq(
  'select status, error_code, job_id, finished_at is not null from public.executions order by scheduled_for desc nulls last limit 1',
  $$values ('skipped', 'quota_exceeded', null::uuid, true)$$, 'the slot is skipped, with the reason'
);
select kijko.set_limit(tests.org('ada'), 'executions', 'month', null);
select kijko.record_usage(tests.org('ada'), 'llm_cost_microusd', 500001, kijko.now()) as booked \gset
select tests.travel(:'slot'::timestamptz + interval '129 hours' - now());
select is(private.habits_run_due(), 1, 'model use used up');
select is((select status || ' ' || error_code from public.executions order by scheduled_for desc nulls last limit 1), 'skipped quota_exceeded', 'the slot is skipped too');
select kijko.set_limit(tests.org('ada'), 'llm_cost_microusd', 'month', null, 'flag');
update public.skills set enabled = false where id = :'skill';
select tests.travel(:'slot'::timestamptz + interval '130 hours' - now());
select is(private.habits_run_due(), 1, 'a disabled skill');
select is((select status || ' ' || error_code from public.executions order by scheduled_for desc nulls last limit 1), 'skipped skill_disabled', 'is skipped');
select tests.act_as('ada');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'conflict', 'nor is its habit run by hand');
select is((select count(*) from public.executions where trigger = 'manual'), 1::bigint, 'which leaves no execution');
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
select is(private.habits_run_due(), 1, 'enabled, it runs');
select ok(skip_count = 0 and octet_length(input::text) > 260000, 'with its input') from public.executions order by scheduled_for desc nulls last limit 1;
update public.skills set enabled = false where id = :'skill';
select tests.travel(:'slot'::timestamptz + interval '142 hours' - now());
select is(private.habits_run_due(), 1, 'disabled again');
select results_eq(
  $$select skip_count from public.executions where error_code = 'skill_disabled' order by scheduled_for$$, array[11, 1], 'counting begins anew'
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
select is(tests.used(tests.org('ada'), 'executions'), :'used'::bigint, 'and nothing is charged');
select ok(last_error is null and next_run_at = :'slot'::timestamptz + interval '146 hours', 'the habit moves on') from public.habits where id = :'habit';
select tests.start_executions();
select tests.travel(:'slot'::timestamptz + interval '146 hours' - now());
select is(private.habits_run_due(), 1, 'once that execution has started');
select is((select status from public.executions where scheduled_for = :'slot'::timestamptz + interval '146 hours'), 'queued', 'the next slot runs');
select tests.start_executions();
update public.executions set status = 'queued' where scheduled_for = :'slot'::timestamptz + interval '146 hours';
select tests.travel(:'slot'::timestamptz + interval '147 hours' - now());
select is(private.habits_run_due(), 1, 'an execution that waits for another attempt');
select results_eq($$select skip_count from public.executions where error_code = 'conflict' order by scheduled_for$$, array[3, 1], 'keeps its habit waiting, too');
select tests.start_executions();
select tests.act_as('ada');
select is((select status from public.run_habit(:'habit')), 'queued', 'run by hand');
select tests.act_as_superuser();
select tests.travel(:'slot'::timestamptz + interval '148 hours' - now()), private.habits_run_due();
select is((select status from public.executions where scheduled_for = :'slot'::timestamptz + interval '148 hours'), 'queued', 'a habit does not keep its schedule waiting');
delete from public.executions where trigger = 'manual' and status = 'queued';
select tests.start_executions();

select tests.act_as('bob');
insert into public.habits (skill_id, name, cron) values (:'bobs', 'Fine', '0 * * * *');
select tests.act_as_superuser();
-- What a check would refuse today may be there from before: a zone that has been renamed.
set local session_replication_role = replica;
update public.habits set timezone = 'Gone/Zone' where id = :'habit';
set local session_replication_role = origin;
select tests.travel(:'slot'::timestamptz + interval '149 hours' - now());
select is(private.habits_run_due(), 2, 'a broken habit beside a good one');
select is((select status from public.executions where org_id = tests.org('bob')), 'queued', 'the good one runs');
select tests.act_as('ada');
select tests.refuses(format('select public.retry_execution(%L)', (select id from public.executions where status = 'failed')), 'conflict', 'what was not run is not repeated');
select tests.act_as_superuser();
select is((select status || ' ' || error_code from public.executions where org_id = tests.org('ada') order by scheduled_for desc nulls last limit 1), 'failed invalid_timezone', 'the broken one fails for all to see');
select ok(next_run_at is null and last_error like 'invalid_timezone%', 'and rests until someone edits it') from public.habits where id = :'habit';
select is(private.habits_run_due(), 0, 'it does not come back every minute');
update public.habits set timezone = 'UTC' where id = :'habit';
select ok(next_run_at is not null and last_error is null, 'edited, it runs again') from public.habits where id = :'habit';

-- ---- the schedule of the tick itself
select is((select count(*) from cron.job where username = 'postgres' and jobname in ('kijko-habits-run-due', 'kijko-jobs-maintenance', 'kijko-jobs-purge', 'kijko-cron-log-purge')), 4::bigint, 'pg_cron runs habits, maintains the queue and deletes what is old');
select tests.act_as('ada');
delete from public.habits where id = :'habit';
select is((select count(*) from public.executions where habit_id is null and trigger = 'habit'), 11::bigint, 'a deleted habit leaves its executions');

select * from finish();
rollback;
