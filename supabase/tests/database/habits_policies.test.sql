-- What a habit does when slots overlap, were missed, or fail; its dates, jitter, preview and statistics.
begin;
\ir 000_helpers.sql
select plan(67);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem', '{"locale": "nl"}');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.skill(tests.org('ada')) as skill \gset

create function tests.habit(name text, fields jsonb default '{}') returns uuid language plpgsql security definer as $$
declare
  made public.habits;
begin
  insert into public.habits (org_id, skill_id, name, cron, overlap, catch_up, jitter_seconds, pause_after_failures, starts_at, ends_at, created_by)
  values (
    tests.org('ada'), (select s.id from public.skills as s where s.org_id = tests.org('ada') and s.project_id is null), habit.name, '0 * * * *',
    coalesce(fields ->> 'overlap', 'skip'), coalesce(fields ->> 'catch_up', 'latest'), coalesce((fields ->> 'jitter_seconds')::integer, 0),
    case when fields ? 'pause_after_failures' then (fields ->> 'pause_after_failures')::smallint else 5 end,
    (fields ->> 'starts_at')::timestamptz, (fields ->> 'ends_at')::timestamptz, tests.id('mem')
  )
  returning * into made;
  return made.id;
end
$$;
-- The tick runs at the slot that is so many hours after the first one.
create function tests.tick(hours numeric) returns integer language plpgsql security definer as $$
begin
  perform set_config('kijko.clock_offset', (date_trunc('hour', now()) + make_interval(secs => 3600 * (1 + hours)::float8) - now())::text, true);
  return private.habits_run_due();
end
$$;
-- The executions of slots, by the hour of the slot: "0 queued, 1 skipped conflict 2".
create function tests.slots(habit uuid) returns text language sql security definer as $$
  select string_agg(concat_ws(
    ' ', round(extract(epoch from e.scheduled_for - date_trunc('hour', now())) / 3600 - 1), e.status,
    case when e.status = 'skipped' then e.error_code end, nullif(e.skip_count, 0)
  ), ', ' order by e.scheduled_for)
  from public.executions as e where e.habit_id = habit and e.scheduled_for is not null
$$;
create function tests.ends(habit uuid, how text) returns void language sql security definer as $$
  update public.jobs as j set status = case how when 'failed' then 'dead' else 'cancelled' end, finished_at = now()
  where how in ('failed', 'cancelled') and j.id in (select e.job_id from public.executions as e where e.habit_id = ends.habit and e.status in ('queued', 'running'));
  update public.executions as e set status = 'succeeded', started_at = kijko.now(), finished_at = kijko.now()
  where how = 'succeeded' and e.habit_id = ends.habit and e.status in ('queued', 'running');
$$;
create function tests.runs(habit uuid) returns void language sql security definer as $$
  update public.jobs as j set status = 'running', attempt = 1, locked_by = 'w', locked_until = now() + interval '1 hour', started_at = now()
  where j.id in (select e.job_id from public.executions as e where e.habit_id = runs.habit and e.status = 'queued');
  update public.executions as e set status = 'running', started_at = kijko.now() where e.habit_id = runs.habit and e.status = 'queued';
$$;

-- ---- skip, the default
select tests.habit('skip') as habit \gset
select results_eq(format('select overlap, catch_up, jitter_seconds, pause_after_failures from public.habits where id = %L', :'habit'), $$values ('skip', 'latest', 0, 5::smallint)$$, 'the defaults');
select tests.tick(0), tests.runs(:'habit'), tests.tick(1), tests.tick(2);
select is(tests.slots(:'habit'), '0 running, 2 skipped conflict 2', 'skip: no slot runs beside a running one');
select is((select last_error from public.habits where id = :'habit'), null, 'which is no error');
select is((select concurrency_key from public.jobs where id = (select job_id from public.executions where habit_id = :'habit' and status = 'running')), null, 'and needs no concurrency key');
delete from public.habits where id = :'habit';

-- ---- queue
select tests.habit('queue', '{"overlap": "queue"}') as habit \gset
select tests.tick(3), tests.runs(:'habit'), tests.tick(4), tests.tick(5);
select is(tests.slots(:'habit'), '3 running, 4 queued, 5 skipped conflict 1', 'queue: one slot waits');
select is(
  (select count(distinct j.concurrency_key) from public.jobs as j join public.executions as e on e.job_id = j.id where e.habit_id = :'habit'), 1::bigint, 'under one concurrency key, so that they run one after the other'
);
delete from public.habits where id = :'habit';

-- ---- cancel
select tests.habit('cancel', '{"overlap": "cancel"}') as habit \gset
select tests.tick(6), tests.tick(7);
select is(tests.slots(:'habit'), '6 cancelled, 7 queued', 'cancel: a queued execution is cancelled at once');
select tests.runs(:'habit'), tests.tick(8);
select is(tests.slots(:'habit'), '6 cancelled, 7 running, 8 queued', 'the worker of a running one is asked to stop');
select is((select j.cancel_requested from public.jobs as j join public.executions as e on e.job_id = j.id where e.habit_id = :'habit' and e.status = 'running'), true, 'by its job');
select tests.tick(9);
select is(tests.slots(:'habit'), '6 cancelled, 7 running, 8 cancelled, 9 queued', 'and the next one again');
delete from public.habits where id = :'habit';

-- ---- catch-up
select tests.habit('none', '{"catch_up": "none"}') as none \gset
select tests.habit('latest') as latest \gset
select tests.habit('all', '{"catch_up": "all", "overlap": "queue"}') as all \gset
select tests.tick(13.5);
select is(tests.slots(:'none'), '13 skipped slot_missed 1', 'none: a late slot does not run');
select is(tests.slots(:'latest'), '13 queued', 'latest: the latest one runs');
select is(tests.slots(:'all'), '10 queued, 11 queued, 12 queued, 13 queued', 'all: all run, in order');
select is((select next_run_at from public.habits where id = :'all'), date_trunc('hour', now()) + interval '15 hours', 'and the habit moves on');
select tests.tick(14.05);
select matches(tests.slots(:'none'), '14 queued$', 'none: a slot that is little late runs');
select tests.tick(100.5);
select is((select count(*) from public.executions where habit_id = :'all' and status = 'queued'), 24::bigint, 'all: no more than 24 slots wait, and what waited before counts');
select tests.ends(:'all', 'succeeded'), tests.tick(200.5);
select is((select count(*) from public.executions where habit_id = :'all' and status = 'queued'), 24::bigint, 'all: at most 24 are caught up');
select is((select min(scheduled_for) from public.executions where habit_id = :'all' and status = 'queued'), date_trunc('hour', now()) + interval '178 hours', 'the latest ones');
select throws_ok($$select tests.habit('x', '{"catch_up": "all"}')$$, '23514', null, 'all needs the overlap policy queue');
delete from public.habits where id in (:'none', :'latest', :'all');

-- ---- start and end
select date_trunc('hour', now()) + interval '301 hours' as first \gset
select tests.habit('dates', jsonb_build_object('starts_at', :'first'::timestamptz, 'ends_at', :'first'::timestamptz + interval '1 hour')) as habit \gset
select is((select next_run_at from public.habits where id = :'habit'), :'first'::timestamptz, 'the first slot may be the start itself');
select tests.act_as('mem', tests.org('ada'));
select results_eq(format('select slot, run_at from public.preview_habit(%L, 10)', :'habit'), format('values (%1$L::timestamptz, %1$L::timestamptz), (%1$L::timestamptz + interval %2$L, %1$L::timestamptz + interval %2$L)', :'first', '1 hour'), 'a preview knows both');
select tests.act_as_superuser();
select tests.tick(299), tests.tick(300);
select is(tests.slots(:'habit'), '300 queued', 'nothing runs before the start');
select tests.ends(:'habit', 'succeeded'), tests.tick(301);
select is(tests.slots(:'habit'), '300 succeeded, 301 queued', 'the end itself is a slot');
select results_eq(format('select enabled, next_run_at, last_error from public.habits where id = %L', :'habit'), $$values (true, null::timestamptz, null::text)$$, 'after the end there is none, without an error');
select tests.act_as('mem', tests.org('ada'));
update public.habits set ends_at = null where id = :'habit';
select ok((select next_run_at is not null from public.habits where id = :'habit'), 'a later end lets it run again');
select throws_ok(format('update public.habits set ends_at = starts_at where id = %L', :'habit'), '23514', null, 'it ends after its start');
select throws_ok(format('update public.habits set starts_at = %L where id = %L', 'infinity', :'habit'), '23514', null, 'at a time of this world');
select tests.act_as_superuser();
delete from public.habits where id = :'habit';

-- ---- jitter
select tests.habit('jitter', '{"jitter_seconds": 600}') as habit \gset
select tests.act_as('mem', tests.org('ada'));
select results_eq(format('select * from public.preview_habit(%L, 20)', :'habit'), format('select * from public.preview_habit(%L, 20)', :'habit'), 'jitter is the same for each call');
select is((select count(*) from public.preview_habit(:'habit', 50) as p where p.run_at - p.slot not between interval '0' and interval '600 seconds'), 0::bigint, 'within its bound');
select cmp_ok((select count(distinct p.run_at - p.slot) from public.preview_habit(:'habit', 50) as p), '>', 20::bigint, 'and spread');
select tests.act_as_superuser();
select tests.tick(302);
select is(tests.slots(:'habit'), '302 queued', 'the slot stays what it is');
select is(
  (select round(extract(epoch from j.run_at - clock_timestamp()) - extract(epoch from private.habits_start_time(h, e.scheduled_for) - kijko.now()))::integer
   from public.executions as e join public.jobs as j on j.id = e.job_id join public.habits as h on h.id = e.habit_id where e.habit_id = :'habit'),
  0, 'its job is due later'
);
select throws_ok($$select tests.habit('x', '{"jitter_seconds": 3601}')$$, '23514', null, 'at most an hour');
delete from public.habits where id = :'habit';

-- ---- preview and statistics: who may ask
select tests.habit('asked') as habit \gset
select tests.act_as_anon();
select throws_ok(format('select * from public.preview_habit(%L)', :'habit'), '42501', null, 'anon previews nothing');
select throws_ok(format('select public.habit_stats(%L)', :'habit'), '42501', null, 'nor counts');
select tests.act_as('bob');
select tests.refuses(format('select * from public.preview_habit(%L)', :'habit'), 'not_found', 'a non-member previews nothing');
select tests.refuses(format('select public.habit_stats(%L)', :'habit'), 'not_found', 'nor counts');
select tests.refuses('select public.habit_stats(null)', 'not_found', 'as for no habit');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.preview_habit(:'habit')), 5::bigint, 'a viewer previews five slots');
select matches((select p.local_time from public.preview_habit(:'habit', 1) as p), '^\d{4}-\d\d-\d\dT\d\d:00:00$', 'with the time of its zone');
select tests.refuses(format('select * from public.preview_habit(%L, 0)', :'habit'), 'invalid_input', 'at least one');
select tests.refuses(format('select * from public.preview_habit(%L, null)', :'habit'), 'invalid_input', 'and a number');
select tests.act_as_superuser();
select tests.tick(303), tests.ends(:'habit', 'succeeded'), tests.tick(304), tests.ends(:'habit', 'failed'), tests.tick(305);
update public.skills set enabled = false where id = :'skill';
select tests.ends(:'habit', 'cancelled'), tests.tick(306), tests.tick(307);
update public.skills set enabled = true where id = :'skill';
select tests.act_as('vic', tests.org('ada'));
select results_eq(
  format('select s.runs, s.succeeded, s.failed, s.cancelled, s.skipped, s.success_rate from public.habit_stats(%L) as s', :'habit'),
  $$values (3::bigint, 1::bigint, 1::bigint, 1::bigint, 2::bigint, 0.5)$$, 'statistics count what has ended'
);
select is((select s.runs from public.habit_stats(:'habit', since => kijko.now() + interval '1 day') as s), 0::bigint, 'in a period');
select tests.act_as_superuser();
delete from private.role_permissions where role = 'viewer' and permission = 'executions:read';
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.habit_stats(%L)', :'habit'), 'permission_denied', 'who may not read executions gets no statistics');
select tests.act_as_superuser();
delete from public.habits where id = :'habit';

-- ---- a habit that fails is paused, once, and its people are told
select tests.habit('fails', '{"pause_after_failures": 2}') as habit \gset
select tests.tick(308), tests.ends(:'habit', 'failed');
select results_eq(format('select enabled, paused_at is null from public.habits where id = %L', :'habit'), 'values (true, true)', 'one failure does not pause');
select tests.tick(309), tests.ends(:'habit', 'succeeded'), tests.tick(310), tests.ends(:'habit', 'failed');
select is((select enabled from public.habits where id = :'habit'), true, 'nor do two that are not in a row');
select (select public.run_habit(:'habit')).id from (select tests.act_as('mem', tests.org('ada'))) as a;
select tests.act_as_superuser();
select tests.ends(:'habit', 'failed');
select is((select enabled from public.habits where id = :'habit'), true, 'a run by hand does not count');
select tests.tick(311), tests.ends(:'habit', 'failed');
select results_eq(
  format('select enabled, next_run_at, paused_at, paused_reason from public.habits where id = %L', :'habit'),
  $$values (false, null::timestamptz, kijko.now(), '2 executions in a row failed')$$, 'two in a row pause it'
);
create view tests.notices as
  select m.recipient, m.locale, r.subject, r.text from private.mail_messages as m, private.mail_render(m.id) as r where m.template = 'habit_paused';
select results_eq('select recipient, locale, subject from tests.notices', $$values ('mem@example.test', 'nl', 'Gepauzeerd: fails')$$, 'its creator gets a mail in their language');
select matches((select text from tests.notices), 'laatste 2 keer', 'which says how often it failed');
select is(tests.tick(312), 0, 'a paused habit does not run');
select tests.act_as('mem', tests.org('ada'));
select throws_ok(format('update public.habits set paused_at = null where id = %L', :'habit'), '42501', null, 'users do not write the pause');
update public.habits set enabled = true where id = :'habit';
select results_eq(format('select enabled, paused_at, paused_reason from public.habits where id = %L', :'habit'), 'values (true, null::timestamptz, null::text)', 'to enable it ends the pause');
select tests.act_as_superuser();
select tests.tick(313), tests.ends(:'habit', 'failed');
select is((select enabled from public.habits where id = :'habit'), true, 'former failures do not count');
-- The creator has left: those who manage all projects are told.
delete from public.memberships where org_id = tests.org('ada') and user_id = tests.id('mem');
select tests.tick(314), tests.ends(:'habit', 'failed');
select is((select array_agg(recipient order by recipient) from tests.notices), array['ada@example.test', 'mem@example.test'], 'then the admins get the mail');
delete from public.habits where id = :'habit';
-- Passed over while somebody held the habit: the tick makes up for it.
select tests.habit('late', '{"pause_after_failures": 1}') as habit \gset
select tests.tick(315);
set local session_replication_role = replica;
update public.executions set status = 'failed', finished_at = kijko.now() where habit_id = :'habit';
set local session_replication_role = origin;
select is((select enabled from public.habits where id = :'habit'), true, 'a pause may be passed over');
select tests.tick(316);
select results_eq(format('select enabled, paused_at is not null from public.habits where id = %L', :'habit'), 'values (false, true)', 'the next tick pauses the habit');
select is(tests.slots(:'habit'), '315 failed', 'before its slot runs');
delete from public.habits where id = :'habit';
-- A mail that cannot be sent undoes nothing.
select tests.habit('silent', '{"pause_after_failures": 1}') as habit \gset
update private.mail_settings set organization_per_hour = 1;
select count(*) as mails from tests.notices \gset
select tests.tick(317), tests.ends(:'habit', 'failed');
select is((select paused_at is not null from public.habits where id = :'habit'), true, 'a habit is paused although no mail may be sent');
select tests.habit('never', '{"pause_after_failures": null}') as habit \gset
select tests.tick(318 + n), tests.ends(:'habit', 'failed') from generate_series(0, 7) as n;
select is((select enabled from public.habits where id = :'habit'), true, 'without a number it is never paused');
select throws_ok($$select tests.habit('x', '{"pause_after_failures": 0}')$$, '23514', null, 'which is at least one');
-- The project of the skill is private: only who sees it is told.
insert into public.projects (org_id, name, visibility) values (tests.org('ada'), 'Secret', 'private') returning id as project \gset
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.habit('private', '{"pause_after_failures": 1}') as habit \gset
update public.skills set project_id = :'project' where id = :'skill';
select results_eq(format('select r.email from public.habits as h, private.habits_recipients(h) as r where h.id = %L', :'habit'), array['ada@example.test'], 'a creator who does not see the project is not told');
insert into public.project_members (org_id, project_id, user_id) values (tests.org('ada'), :'project', tests.id('mem'));
select results_eq(format('select r.email from public.habits as h, private.habits_recipients(h) as r where h.id = %L', :'habit'), array['mem@example.test'], 'a creator who does, is');

-- ---- what users write
select tests.act_as('vic', tests.org('ada'));
select is(tests.changed($$update public.habits set overlap = 'queue', jitter_seconds = 1$$), 0::bigint, 'a viewer changes no policy');
select tests.act_as('ada');
select throws_ok($$update public.habits set overlap = 'all'$$, '23514', null, 'a policy must exist');
select throws_ok($$update public.habits set enabled_at = now()$$, '42501', null, 'enabled_at is the database''s');

select * from finish();
rollback;
