-- Private projects: who sees them, and that nothing of theirs shows anywhere else.
begin;
\ir 000_helpers.sql
select plan(171);

select tests.sign_up(u) from unnest(array['ada', 'bob', 'adm', 'mem', 'pat', 'vic', 'vip']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('pat', tests.org('ada'), 'member'),
  tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('vip', tests.org('ada'), 'viewer');

-- ---- pat's secret project, with vip, and one row of each kind in it; one of each outside
select tests.act_as('pat', tests.org('ada'));
insert into public.projects (name, visibility) values ('Open', 'organization'), ('Secret', 'private');
select tests.act_as_superuser();
create table tests.ids (name text primary key, id uuid);
grant select on tests.ids to public;
insert into tests.ids select p.name, p.id from public.projects as p where p.org_id = tests.org('ada');
create function tests.of(thing text) returns uuid language sql stable security definer as $$ select i.id from tests.ids as i where i.name = thing $$;
insert into tests.ids select 'skill ' || s.name, gen_random_uuid() from unnest(array['hidden', 'open', 'loose']) as s (name);
insert into public.skills (id, org_id, project_id, name, prompt_template)
values
  (tests.of('skill hidden'), tests.org('ada'), tests.of('Secret'), 'hidden', 'x'),
  (tests.of('skill open'), tests.org('ada'), tests.of('Open'), 'open', 'x'),
  (tests.of('skill loose'), tests.org('ada'), null, 'loose', 'x');
insert into public.habits (org_id, skill_id, name, cron)
select s.org_id, s.id, s.name, '0 0 1 1 *' from public.skills as s where s.org_id = tests.org('ada');
insert into tests.ids select 'habit ' || h.name, h.id from public.habits as h where h.org_id = tests.org('ada');
select tests.act_as('pat', tests.org('ada'));
select lives_ok($$insert into public.project_members (project_id, user_id) values (tests.of('Secret'), tests.id('vip'))$$, 'who sees the project adds members');
select public.execute_skill(tests.of('skill ' || n), '{"secret": 1}', 'key ' || n) from unnest(array['hidden', 'open', 'loose']) as n;
select tests.act_as_superuser();
insert into tests.ids select 'execution ' || s.name, e.id from public.executions as e join public.skills as s on s.id = e.skill_id where s.org_id = tests.org('ada');
insert into public.job_event_log (org_id, job_id, event, attempt) select e.org_id, e.job_id, 'progress', 0 from public.executions as e where e.org_id = tests.org('ada');
-- A slot that does not run is hidden with its habit, too.
select private.habits_skip_slot(h, kijko.now(), 'skipped', 'conflict', 'x') from public.habits as h where h.name = 'hidden' and h.org_id = tests.org('ada');

create function tests.violated(statement text) returns text language plpgsql as $$
declare
  violated_constraint text;
begin
  execute statement;
  return null;
exception when foreign_key_violation then
  get stacked diagnostics violated_constraint = constraint_name;
  return violated_constraint;
end
$$;

-- What the caller sees of each table: rows of Secret, and others.
create function tests.sees(relation text) returns text language plpgsql as $$
declare
  answer text;
begin
  execute case relation
    when 'projects' then $q$select array_agg(p.name order by p.name) from public.projects as p$q$
    when 'project_members' then $q$select array_agg(p.name order by p.name) from public.project_members as m join tests.ids as p on p.id = m.project_id$q$
    when 'skills' then $q$select array_agg(s.name order by s.name) from public.skills as s$q$
    when 'habits' then $q$select array_agg(h.name order by h.name) from public.habits as h$q$
    when 'executions' then $q$select array_agg(coalesce(s.name, '-') || ' ' || e.status order by s.name, e.status) from public.executions as e left join tests.ids as i on i.id = e.skill_id left join lateral (select substr(i.name, 7)) as s (name) on true$q$
    when 'jobs' then $q$select count(*) from public.jobs$q$
    when 'job_event_log' then $q$select count(*) from public.job_event_log$q$
    when 'job_events' then $q$select count(*) from public.job_events$q$
  end into answer;
  return answer;
end
$$;
create function tests.seen() returns text language sql as $$
  select string_agg(r || ' ' || coalesce(tests.sees(r), '-'), ', ' order by n)
  from unnest(array['projects', 'project_members', 'skills', 'habits', 'executions', 'jobs', 'job_event_log', 'job_events']) with ordinality as t (r, n)
$$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.project_members', '42501', null, 'anon reads nothing');
select throws_ok($$insert into public.project_members (project_id, user_id) values (tests.of('Open'), tests.id('mem'))$$, '42501', null, 'anon writes nothing');
select throws_ok('select private.projects_hidden_ids()', '42501', null, 'anon asks for no hidden projects');
select throws_ok($$select private.projects_is_visible(tests.of('Open'))$$, '42501', null, 'and for no visible one');

select tests.act_as('bob');
select is_empty('select 1 from public.project_members', 'a non-member sees no members');
select is_empty('select private.projects_hidden_ids()', 'a non-member learns no hidden id');
select is(private.projects_is_visible(tests.of('Open')) or private.projects_is_visible(tests.of('Secret')) or private.skills_is_visible(tests.of('skill open')), false, 'nor whether one exists');
select throws_ok($$insert into public.project_members (org_id, project_id, user_id) values (tests.org('ada'), tests.of('Secret'), tests.id('bob'))$$, '42501', null, 'a non-member adds nobody');
select throws_ok($$insert into public.project_members (project_id, user_id) values (tests.of('Secret'), tests.id('bob'))$$, '42501', null, 'nor in the own organization');
select is(tests.changed('delete from public.project_members'), 0::bigint, 'a non-member removes nobody');

-- ---- members of the organization who are not the project's: what Secret holds is as if it did not exist
select tests.act_as_superuser();
create function tests.expect_hidden(who text, writes boolean) returns setof text language plpgsql as $$
declare
  statement text;
begin
  perform tests.act_as(who, tests.org('ada'));
  return next is(
    tests.seen(),
    'projects {Open}, project_members -, skills {loose,open}, habits {loose,open}, executions {"loose queued","open queued"}, jobs 4, job_event_log 2, job_events 7',
    who || ' sees nothing of it'
  );
  return next is((select count(*) from public.executions as e, lateral public.retries(e) as r where e.id = tests.of('execution hidden')), 0::bigint, who || ': nor by a computed column');
  foreach statement in array array[
    $q$update public.projects set name = 'x' where id = tests.of('Secret')$q$, $q$update public.projects set visibility = 'organization' where id = tests.of('Secret')$q$,
    $q$delete from public.projects where id = tests.of('Secret')$q$, $q$update public.skills set name = 'x' where id = tests.of('skill hidden')$q$,
    $q$delete from public.skills where id = tests.of('skill hidden')$q$, $q$update public.habits set name = 'x' where id = tests.of('habit hidden')$q$,
    $q$delete from public.habits where id = tests.of('habit hidden')$q$, $q$delete from public.project_members$q$
  ] loop
    return next is(tests.changed(statement), 0::bigint, who || ' changes nothing: ' || statement);
  end loop;
  -- The answer for the hidden id is that for an id which does not exist.
  foreach statement in array array[
    $q$insert into public.skills (project_id, name, prompt_template) values (%L, 'x', 'x')$q$, $q$update public.skills set project_id = %L where id = tests.of('skill open')$q$,
    $q$insert into public.project_members (project_id, user_id) values (%L, kijko.user_id())$q$
  ] loop
    continue when not writes and statement like 'update%';
    return next throws_ok(format(statement, tests.of('Secret')), '42501', null, who || ' puts nothing into it: ' || statement);
    return next throws_ok(format(statement, gen_random_uuid()), '42501', null, who || ': as into one that does not exist');
  end loop;
  return next throws_ok(format($q$insert into public.habits (skill_id, name, cron) values (%L, 'x', '* * * * *')$q$, tests.of('skill hidden')), '42501', null, who || ' schedules no hidden skill');
  return next throws_ok(format($q$insert into public.habits (skill_id, name, cron) values (%L, 'x', '* * * * *')$q$, gen_random_uuid()), '42501', null, who || ': as one that does not exist');
  foreach statement in array array[
    'select public.execute_skill(tests.of(''skill hidden''))', 'select public.execute_skill(tests.of(''skill hidden''), ''{"secret": 1}'', ''key hidden'')',
    'select public.run_habit(tests.of(''habit hidden''))', 'select public.cancel_execution(tests.of(''execution hidden''))',
    'select public.retry_execution(tests.of(''execution hidden''))'
  ] loop
    return next is(
      tests.refusal(statement), tests.refusal(regexp_replace(statement, 'tests\.of\([^()]*\)', 'gen_random_uuid()')),
      who || ' gets the answer for an id that does not exist: ' || statement
    );
    return next is(tests.answer(statement) ->> 'code', 'not_found', 'which is not_found');
  end loop;
  return next is_empty(
    $q$select 1 from unnest(array['project', 'skill', 'habit']) as d, public.usage_by(d, 'executions') as u
       join tests.ids as i on i.id::text = u.value where i.name in ('Secret', 'skill hidden', 'habit hidden')$q$, who || ' sees no usage by it'
  );
  return next is(
    (select sum(u.used) from public.usage_by('project', 'executions') as u), (select sum(u.used) from public.usage_by('day', 'executions') as u), who || ': which stays in the sum'
  );
  return next ok(
    public.explain_limit(tests.org('ada'), 'executions')::text !~ concat_ws('|', tests.of('Secret'), tests.of('skill hidden')), who || ' finds none of it in explain_limit()'
  );
end
$$;
-- Its use is recorded, so that it would show.
select tests.act_as_superuser();
select tests.called(e.job_id) from public.executions as e where e.id = any (array[tests.of('execution hidden'), tests.of('execution open')]);
select tests.act_as_superuser();
update public.executions set status = 'queued' where id = any (array[tests.of('execution hidden'), tests.of('execution open')]) and status = 'running';
select tests.act_as('pat', tests.org('ada'));
select isnt_empty($$select 1 from public.usage_by('project', 'executions') where value = tests.of('Secret')::text$$, 'a member of the project sees its usage');
select matches(public.explain_limit(tests.org('ada'), 'executions')::text, tests.of('Secret')::text, 'also in explain_limit()');
select tests.expect_hidden('vic', false);
select tests.expect_hidden('mem', true);

-- ---- a table of one's own that points at executions, habits and jobs
select tests.act_as_superuser();
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  execution_id uuid, habit_id uuid, job_id uuid,
  created_by uuid default kijko.user_id(),
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
select private.make_tenant_table('public.notes', resource => 'content', max_rows => 100, catalogue => '{"execution_id, habit_id, job_id": "what it is about"}');
create table tests.pointers as
select i.name, p.pointer, case p.pointer when 'job_id' then e.job_id else i.id end as id
from (values ('execution_id', 'execution %'), ('job_id', 'execution %'), ('habit_id', 'habit %')) as p (pointer, names)
join tests.ids as i on i.name like p.names
left join public.executions as e on e.id = i.id;
grant select on tests.pointers to public;
create function tests.note(p tests.pointers, id uuid) returns text language sql as $$
  select format('insert into public.notes (%I) values (%L)', p.pointer, note.id)
$$;
create function tests.notes() returns bigint language sql as $$ select count(*) from public.notes $$;
select tests.act_as('pat', tests.org('ada'));
select lives_ok(tests.note(p, p.id), 'who sees the row notes it: ' || p.pointer || ' ' || p.name) from tests.pointers as p order by p.pointer, p.name;
select lives_ok('insert into public.notes default values', 'a note may be about nothing');
select is(tests.notes(), 10::bigint, 'and sees the notes');
select tests.act_as('mem', tests.org('ada'));
select is(tests.notes(), 7::bigint, 'others see those about what they see');
select is_empty(
  $$select 1 from public.notes as n join tests.pointers as p on p.id in (n.execution_id, n.habit_id, n.job_id) where p.name like '% hidden'$$, 'and none about what is hidden'
);
select throws_ok(tests.note(p, w.id), '42501', null, 'nor note it: ' || p.pointer || ' ' || w.what)
from tests.pointers as p, lateral (values ('hidden', p.id), ('missing', gen_random_uuid())) as w (what, id) where p.name like '% hidden' order by p.pointer, w.what;
select is(tests.changed('delete from public.notes'), 7::bigint, 'nor delete such notes');
select tests.act_as_superuser();
drop table public.notes;
delete from private.data_catalogue where table_name in ('notes', 'public.notes');
select tests.act_as('mem', tests.org('ada'));

-- ---- slugs: the organization's members share them, whoever sees the project
select lives_ok($$insert into public.projects (name) values ('Secret')$$, 'a derived slug takes the next free one');
select throws_ok($$insert into public.projects (name, slug) values ('x', 'secret')$$, '23505', null, 'a slug that a hidden project has is taken');
delete from public.projects where name = 'Secret';

-- ---- idempotency: a key that a hidden execution has says only that it was used
select tests.refuses($$select public.execute_skill(tests.of('skill open'), '{"secret": 1}', 'key hidden')$$, 'idempotency_conflict', 'a key of a hidden execution was used');

-- ---- who sees it: a member of the project by the role, admin and owner as managers
select tests.act_as_superuser();
create function tests.expect_seen(who text) returns setof text language plpgsql as $$
begin
  perform tests.act_as(who, tests.org('ada'));
  return next is(
    (select array_agg(p.name order by p.name) from public.projects as p), '{Open,Secret}', who || ' sees the project'
  );
  return next is((select array_agg(s.name order by s.name) from public.skills as s), '{hidden,loose,open}', who || ' sees its skills');
  return next is((select array_agg(h.name order by h.name) from public.habits as h), '{hidden,loose,open}', who || ' sees its habits');
  return next is((select count(*) from public.executions), 4::bigint, who || ' sees its executions');
  return next is((select count(*) from public.jobs where kind <> 'skill_check'), 3::bigint, who || ' sees its jobs');
  return next is((select count(distinct v.job_id) from public.job_events as v where v.event = 'progress'), 3::bigint, who || ' sees their events');
  return next is((select array_agg(u.email::text order by u.email) from public.project_members as m join public.profiles as u on u.id = m.user_id), '{pat@example.test,vip@example.test}', who || ' sees its members');
end
$$;
select tests.expect_seen(w) from unnest(array['vip', 'pat', 'adm', 'ada']) as w;
select tests.act_as('vip', tests.org('ada'));
select throws_ok($$insert into public.project_members (project_id, user_id) values (tests.of('Secret'), tests.id('mem'))$$, '42501', null, 'a viewer in the project adds nobody');
select is(tests.changed('delete from public.project_members'), 0::bigint, 'and removes nobody');
select tests.refuses($$select public.execute_skill(tests.of('skill hidden'))$$, 'permission_denied', 'nor executes');
select tests.act_as_service();
select is((select count(*) from public.projects where org_id = tests.org('ada')), 2::bigint, 'service_role sees every project');

select tests.act_as('pat', tests.org('ada'));
select lives_ok($$select public.execute_skill(tests.of('skill hidden'), '{"secret": 1}', 'key hidden')$$, 'a member repeats the call with its key');
select lives_ok($$select public.run_habit(tests.of('habit hidden'))$$, 'a member runs the habit');
select throws_ok($$insert into public.project_members (project_id, user_id) values (tests.of('Secret'), tests.id('bob'))$$, '23503', null, 'who is no member of the organization cannot be added');
select results_eq(
  $$select tests.violated(format('insert into public.project_members (project_id, user_id) values (%L, %L)', tests.of('Secret'), u.id)) from unnest(array[tests.id('bob'), gen_random_uuid()]) as u (id)$$,
  array['project_members_org_id_user_id_fkey', 'project_members_org_id_user_id_fkey'], 'with the same error if there is no such user'
);
select throws_ok($$insert into public.project_members (project_id, user_id) values (tests.of('Secret'), tests.id('vip'))$$, '23505', null, 'nobody is added twice');
select throws_ok($$insert into public.project_members (project_id, user_id, created_by) values (tests.of('Secret'), tests.id('mem'), tests.id('ada'))$$, '42501', null, 'nor in another''s name');
select lives_ok($$insert into public.project_members (project_id, user_id) values (tests.of('Secret'), tests.id('mem'))$$, 'a member of the organization can');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.skills where name = 'hidden'), 1::bigint, 'and sees it from then on');
select is(tests.changed($$delete from public.project_members where user_id = tests.id('mem')$$), 1::bigint, 'members leave');
select is((select count(*) from public.skills where name = 'hidden'), 0::bigint, 'and see nothing from then on');

-- ---- visibility changes
select is(tests.changed($$update public.projects set visibility = 'private' where id = tests.of('Open')$$), 1::bigint, 'a member makes a project private');
select is((select array_agg(user_id) from public.project_members where project_id = tests.of('Open')), array[tests.id('mem')], 'and is its member');
select is(tests.changed($$update public.projects set name = 'Open' where id = tests.of('Open')$$), 1::bigint, 'who still changes it');
select tests.act_as('pat', tests.org('ada'));
select is_empty($$select 1 from public.projects where id = tests.of('Open')$$, 'others see it no more');
select tests.refuses($$select public.cancel_execution(tests.of('execution open'))$$, 'not_found', 'nor what ran in it, their own executions included');
select tests.act_as('adm', tests.org('ada'));
select is(tests.changed($$update public.projects set visibility = 'organization' where id = tests.of('Open')$$), 1::bigint, 'an admin opens it');
select throws_ok($$update public.projects set visibility = 'secret' where id = tests.of('Open')$$, '23514', null, 'there are two visibilities');
select tests.act_as('pat', tests.org('ada'));
select isnt_empty($$select 1 from public.skills where name = 'open'$$, 'then all see it again');
select lives_ok(
  $$with made as (insert into public.projects (name) values ('At once') returning id)
    insert into public.skills (project_id, name, prompt_template) select id, 'in it', 'x' from made$$, 'a project and its skill are made by one statement'
);

-- ---- a skill leaves the project: its earlier executions stay hidden
update public.skills set project_id = null where id = tests.of('skill hidden');
select tests.act_as('mem', tests.org('ada'));
select isnt_empty($$select 1 from public.skills where name = 'hidden'$$, 'a skill that left is seen');
select is_empty($$select 1 from public.executions where project_id = tests.of('Secret')$$, 'what ran before is not');
select tests.refuses($$select public.execute_skill(tests.of('skill hidden'), '{"secret": 1}', 'key hidden')$$, 'idempotency_conflict', 'nor given back for its key');
select tests.act_as('pat', tests.org('ada'));
-- and a skill that enters it cannot be run by way of what it ran before
select public.cancel_execution(tests.of('execution loose'));
update public.skills set project_id = tests.of('Secret') where id = tests.of('skill loose');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.retry_execution(tests.of('execution loose'))$$, 'conflict', 'a skill that entered it is not run by a retry');

-- ---- membership of the organization ends that of the project; the gauge counts every project
select tests.act_as_superuser();
delete from public.memberships where org_id = tests.org('ada') and user_id = tests.id('vip');
select is_empty($$select 1 from public.project_members where user_id = tests.id('vip')$$, 'who leaves the organization leaves its projects');
select is(tests.used(tests.org('ada'), 'projects'), 3::bigint, 'private projects count');

-- ---- a habit runs, whoever sees it
update public.habits set next_run_at = kijko.now() - interval '1 minute' where id = tests.of('habit hidden');
update public.skills set project_id = tests.of('Secret') where id = tests.of('skill hidden');
select cmp_ok(private.habits_run_due(), '>=', 1, 'the tick runs habits of private projects');
select isnt_empty($$select 1 from public.executions where habit_id = tests.of('habit hidden') and project_id = tests.of('Secret') and trigger = 'habit'$$, 'as executions of the project');

-- ---- what a private project hid is hidden after its deletion, except from managers
create function tests.secrets() returns text language sql as $$
  select count(*) || ' ' || (select count(*) from public.jobs where managers_only) || ' '
    || (select count(*) from public.job_event_log as v where v.job_id = any (array(select e.job_id from public.executions as e where e.managers_only)))
  from public.executions where managers_only
$$;
select tests.act_as_superuser();
-- A job of another domain: it has no execution.
select private.jobs_enqueue(tests.org('ada'), 'report', project_id => tests.of('Secret')) as report \gset
-- In the transaction that made the executions: they lose project, skill and habit by one statement.
set constraints public.executions_habit_id_fkey deferred;
select tests.act_as('pat', tests.org('ada'));
select lives_ok($$delete from public.projects where id = tests.of('Secret')$$, 'a project goes with its habits');
set constraints public.executions_habit_id_fkey immediate;
select is_empty($$select 1 from public.habits where id = tests.of('habit hidden')$$, 'which are gone');
select is_empty(
  $$select 1 from unnest(array['project', 'skill', 'habit']) as d, public.usage_by(d, 'executions') as u
    join tests.ids as i on i.id::text = u.value where i.name in ('Secret', 'skill hidden', 'habit hidden')$$, 'a member sees no ids of them in usage'
);
select isnt_empty($$select 1 from public.usage_by('skill', 'executions') where value = tests.of('skill open')::text$$, 'but those of what is visible');
select is(
  (select sum(u.used) from public.usage_by('project', 'executions') as u), (select sum(u.used) from public.usage_by('day', 'executions') as u), 'their use stays in the sum'
);
select doesnt_match(public.explain_limit(tests.org('ada'), 'executions')::text, tests.of('Secret')::text, 'explain_limit() shows none to a member');
select tests.act_as('adm', tests.org('ada'));
select isnt_empty($$select 1 from public.usage_by('project', 'executions') where value = tests.of('Secret')::text$$, 'an admin sees the id of the deleted project in usage');
select matches(public.explain_limit(tests.org('ada'), 'executions')::text, tests.of('Secret')::text, 'also in explain_limit()');
select tests.act_as('pat', tests.org('ada'));
select is(tests.secrets(), '0 0 0', 'a member sees no execution of a deleted private project');
select is_empty(format('select 1 from public.jobs where id = %L', :'report'), 'nor a job without an execution');
select tests.refuses($$select public.cancel_execution(tests.of('execution hidden'))$$, 'not_found', 'nor by a function');
select tests.act_as('adm', tests.org('ada'));
select doesnt_match(tests.secrets(), '\m0\M', 'an admin does');
select isnt_empty(format('select 1 from public.jobs where id = %L', :'report'), 'an admin sees that job');
select lives_ok($$select public.cancel_execution(tests.of('execution hidden'))$$, 'also by a function');
select tests.act_as_superuser();

-- ---- the list of one organization reads its index, in order
update public.subscriptions set plan = 'ENTERPRISE' where org_id = tests.org('bob');
insert into public.skills (org_id, name, prompt_template, created_at)
select tests.org('bob'), 's', 'x', kijko.now() - n * interval '1 second' from generate_series(1, 5000) as n;
analyze public.skills;
select tests.act_as('bob');
select tests.explain(format('select * from public.skills where org_id = %L order by created_at desc, id desc limit 20', tests.org('bob'))) as listed \gset
select matches(:'listed'::text, 'Index Scan using skills_list_idx', 'a list reads the index');
select doesnt_match(:'listed'::text, '\mSort\M', 'in its order');

select * from finish();
rollback;
