-- An archived project is read-only, and nothing new runs in it.
begin;
\ir 000_helpers.sql
select plan(55);

select tests.sign_up(u) from unnest(array['ada', 'bob', 'mem', 'vic', 'lea']) as u;
create function tests.expect_refused(who text) returns setof text language plpgsql as $$
declare
  statement text;
begin
  foreach statement in array array[
    $q$update public.projects set name = 'x' where name = 'Old'$q$, $q$update public.projects set visibility = 'private' where name = 'Old'$q$,
    $q$update public.projects set settings = '{"a": 1}' where name = 'Old'$q$,
    $q$update public.skills set name = 'x' where name = 'inside'$q$, $q$delete from public.skills where name = 'inside'$q$,
    $q$update public.skills set project_id = null where name = 'inside'$q$,
    $q$update public.skills set project_id = (select p.id from public.projects as p where p.name = 'Old') where name = 'elsewhere'$q$,
    $q$insert into public.skills (org_id, project_id, name, prompt_template) select p.org_id, p.id, 'x', 'x' from public.projects as p where p.name = 'Old'$q$,
    $q$update public.habits set enabled = false where name = 'daily'$q$, $q$delete from public.habits where name = 'daily'$q$,
    $q$insert into public.habits (org_id, skill_id, name, cron) select s.org_id, s.id, 'x', '@daily' from public.skills as s where s.name = 'inside'$q$,
    $q$update public.reflexes set name = 'x' where name = 'push'$q$, $q$delete from public.reflexes where name = 'push'$q$,
    $q$insert into public.reflexes (org_id, skill_id, name) select s.org_id, s.id, 'x' from public.skills as s where s.name = 'inside'$q$,
    $q$update public.repositories set default_branch = 'x' where full_name = 'acme/old'$q$, $q$delete from public.repositories where full_name = 'acme/old'$q$,
    $q$insert into public.project_members (org_id, project_id, user_id) select p.org_id, p.id, tests.id('vic') from public.projects as p where p.name = 'Old'$q$,
    $q$update public.project_members set role = 'admin' where user_id = tests.id('mem')$q$
  ] loop
    return next tests.refuses(statement, 'project_archived', who || ': ' || statement);
  end loop;
end
$$;
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('lea', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.act_as('ada');
insert into public.projects (name) values ('Old') returning id as project \gset
insert into public.projects (name) values ('New') returning id as other \gset
insert into public.skills (project_id, name, prompt_template) values (:'project', 'inside', 'x') returning id as skill \gset
insert into public.skills (project_id, name, prompt_template) values (:'other', 'elsewhere', 'x') returning id as elsewhere \gset
insert into public.habits (skill_id, name, cron) values (:'skill', 'daily', '@daily') returning id as habit \gset
insert into public.reflexes (skill_id, name) values (:'skill', 'push');
insert into public.repositories (project_id, clone_url) values (:'project', 'https://github.com/acme/old') returning id as repository \gset
insert into public.project_members (project_id, user_id) values (:'project', tests.id('mem')), (:'project', tests.id('lea'));
select id as queued from public.execute_skill(:'skill', '{}', 'before') \gset
select id as failed, job_id as failed_job from public.execute_skill(:'skill') \gset
select tests.act_as_superuser();
update public.jobs set status = 'dead', finished_at = now() where id = :'failed_job';

-- ---- who archives
select tests.act_as_anon();
select throws_ok(format('select public.archive_project(%L)', :'project'), '42501', null, 'anon archives nothing');
select tests.act_as('bob');
select tests.refuses(format('select public.archive_project(%L)', :'project'), 'not_found', 'a non-member does not');
select tests.refuses(format('select public.archive_project(%L)', gen_random_uuid()), 'not_found', 'as for one that does not exist');
select tests.refuses('select public.archive_project(null)', 'not_found', 'or none');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.archive_project(%L)', :'project'), 'permission_denied', 'a viewer does not');
select throws_ok($$update public.projects set archived_at = now()$$, '42501', null, 'users do not write archived_at');
select tests.act_as('mem', tests.org('ada'));
select isnt((select p.archived_at from public.archive_project(:'project') as p), null::timestamptz, 'a member does');
select archived_at as at from public.projects where id = :'project' \gset
select tests.travel('1 hour');
select is((select p.archived_at from public.archive_project(:'project') as p), :'at'::timestamptz, 'a repeated call changes nothing');
select is(tests.used(tests.org('ada'), 'projects'), 2::bigint, 'it counts as before');
select results_eq('select name from public.projects where archived_at is null', array['New'], 'a list leaves it out by a filter');

-- ---- everything in it is refused with one code, by everybody
select tests.act_as('ada');
select tests.expect_refused('owner');
select tests.act_as_service();
select tests.refuses($$update public.skills set name = 'x' where name = 'inside'$$, 'project_archived', 'also service_role');
select tests.act_as('ada');
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'project_archived', 'no skill of it runs');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'project_archived', 'nor a habit');
select tests.refuses(format('select public.retry_execution(%L)', :'failed'), 'project_archived', 'nor again');
select tests.refuses(format('select public.rotate_repository_secret(%L)', :'repository'), 'project_archived', 'no secret is made');
-- Calls about many rows answer for each.
select results_eq(
  format('select u.code from public.update_skills(array[%L, %L]::uuid[], enabled => true) as u order by u.id = %L desc', :'skill', :'elsewhere', :'skill'), array['project_archived', null], 'update_skills() answers row by row'
);
select results_eq(format('select u.code from public.delete_skills(array[%L]::uuid[]) as u', :'skill'), array['project_archived'], 'so does delete_skills()');
select tests.refuses(format('select public.update_skills(array[%L]::uuid[], project_id => %L)', :'elsewhere', :'project'), 'project_archived', 'no skill is moved into it');
select results_eq(
  $$select i.status, i.code from public.import_skills(public.export_skills(), 'replace') as i order by i.name$$, $$values ('replaced', null::text), ('failed', 'project_archived')$$, 'import_skills() answers item by item'
);
select is((select e.id from public.execute_skill(:'skill', '{}', 'before') as e), :'queued'::uuid, 'a repeated call still returns the execution of before');
select is(tests.answer($$update public.skills set name = 'x' where name = 'inside'$$) ->> 'status', '409', 'which is 409');
select tests.act_as('bob');
select throws_ok(
  format('insert into public.skills (project_id, name, prompt_template) values (%L, %L, %L)', :'project', 'x', 'x'), '42501', null,
  'a non-member gets the answer for a project that does not exist'
);
select tests.act_as('ada');
select lives_ok(format('update public.skills set name = %L where id = %L', 'elsewhere', :'elsewhere'), 'other projects change');
select is((select count(*) from public.skills where project_id = :'project'), 1::bigint, 'it is still read');
-- ---- what goes on
select lives_ok(format('select public.cancel_execution(%L)', :'queued'), 'a queued execution can be cancelled');
select tests.act_as_superuser();
delete from public.memberships where org_id = tests.org('ada') and user_id = tests.id('lea');
select is_empty($$select 1 from public.project_members where user_id = tests.id('lea')$$, 'who leaves the organization leaves it');
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed($$delete from public.project_members where user_id = tests.id('mem')$$), 1::bigint, 'and members leave');
-- ---- its habits do not run, and say so once
select tests.act_as_superuser();
update public.habits set next_run_at = kijko.now() where id = :'habit';
select private.habits_run_due();
select results_eq(
  format('select status, error_code, skip_count from public.executions where habit_id = %L and trigger = %L', :'habit', 'habit'), $$values ('skipped', 'project_archived', 1)$$, 'a slot is skipped'
);
select matches((select last_error from public.habits where id = :'habit'), 'archived', 'the habit says why');
update public.habits set next_run_at = kijko.now() where id = :'habit';
select tests.travel('2 days');
select private.habits_run_due();
select results_eq(
  format('select error_code, skip_count from public.executions where habit_id = %L and trigger = %L', :'habit', 'habit'), $$values ('project_archived', 2)$$, 'further ones are counted in the same row'
);
-- ---- restore
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.restore_project(%L)', :'project'), 'permission_denied', 'a viewer does not restore');
select tests.act_as('mem', tests.org('ada'));
select is((select p.archived_at from public.restore_project(:'project') as p), null, 'a member restores');
select is((select p.archived_at from public.restore_project(:'project') as p), null, 'twice is once');
select lives_ok(format('select public.execute_skill(%L)', :'skill'), 'then it runs');
select lives_ok($$update public.skills set name = 'inside' where name = 'inside'$$, 'and changes');
-- ---- an archived project can be deleted with all that is in it
select public.archive_project(:'project');
-- In the transaction that made the executions: they lose project, skill and habit by one statement.
set constraints public.executions_habit_id_fkey deferred;
select is(tests.changed(format('delete from public.projects where id = %L', :'project')), 1::bigint, 'an archived project is deleted');
set constraints public.executions_habit_id_fkey immediate;
select is_empty(format('select 1 from public.skills where id = %L', :'skill'), 'with its skills');

select * from finish();
rollback;
