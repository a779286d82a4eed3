-- What validate_project() finds, and for whom.
begin;
\ir 000_helpers.sql
select plan(31);

select tests.sign_up(u) from unnest(array['ada', 'bob', 'mem', 'vic']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
create function tests.found(project uuid) returns text language sql as $$
  select string_agg(concat_ws(' ', f.severity, f.code, coalesce(f."where" ->> 'name', f."where" ->> 'meter')), ', ' order by f.n)
  from public.validate_project(project) with ordinality as f (code, severity, message, hint, "where", n)
$$;

select tests.act_as('ada');
insert into public.projects (name) values ('App') returning id as project \gset

-- ---- who may ask
select tests.act_as_anon();
select throws_ok(format('select public.validate_project(%L)', :'project'), '42501', null, 'anon asks nothing');
select tests.act_as('bob');
select tests.refuses(format('select public.validate_project(%L)', :'project'), 'not_found', 'a non-member learns nothing');
select tests.refuses('select public.validate_project(gen_random_uuid())', 'not_found', 'as for one that does not exist');
select tests.refuses('select public.validate_project(null)', 'not_found', 'or none');
select tests.act_as('vic', tests.org('ada'));
select is(tests.found(:'project'), 'info project_without_skills App', 'a viewer asks');

-- ---- skills
select tests.act_as('ada');
insert into public.skills (project_id, name, prompt_template) values (:'project', 'Fine', 'x') returning id as skill \gset
select is(tests.found(:'project'), null, 'a project may have no findings');
insert into public.skills (project_id, name, prompt_template, model) values (:'project', 'Unpriced', 'x', 'openai/nobody-knows') returning id as unpriced \gset
select is(tests.found(:'project'), 'error skill_not_runnable Unpriced', 'a skill with problems');
select results_eq(
  format('select f."where" ->> %L, (f."where" ->> %L)::uuid, f.hint is not null from public.validate_project(%L) as f', 'table', 'id', :'project'),
  format('select %L, %L::uuid, true', 'skills', :'unpriced'), 'says which row, and what to do'
);
delete from public.skills where id = :'unpriced';

-- ---- habits
insert into public.habits (skill_id, name, cron) values (:'skill', 'Daily', '@daily') returning id as habit \gset
select is(tests.found(:'project'), null, 'a habit that runs');
update public.skills set enabled = false where id = :'skill';
select is(tests.found(:'project'), 'warning disabled_skill_in_use Fine', 'a disabled skill that a habit runs');
select tests.act_as_superuser();
update public.habits set next_run_at = kijko.now() where id = :'habit';
select private.habits_run_due();
select tests.act_as('ada');
select is(tests.found(:'project'), 'error habit_cannot_run Daily, warning disabled_skill_in_use Fine', 'a habit that cannot run; errors come first');
update public.habits set enabled = false where id = :'habit';
select is(tests.found(:'project'), null, 'a disabled habit is as meant');
update public.skills set enabled = true where id = :'skill';
update public.habits set enabled = true, ends_at = kijko.now() + interval '1 minute' where id = :'habit';
select is(tests.found(:'project'), 'warning habit_without_slot Daily', 'a habit without a slot before its end');
select tests.travel('2 minutes');
select is(tests.found(:'project'), 'info habit_ended Daily', 'a habit that has ended');
select tests.act_as_superuser();
update public.habits set enabled = false, paused_at = kijko.now(), paused_reason = '5 executions in a row failed' where id = :'habit';
select tests.act_as('ada');
select is(tests.found(:'project'), 'warning habit_paused Daily', 'a paused habit');
select matches((select f.message from public.validate_project(:'project') as f), '5 executions', 'with the reason');
delete from public.habits where id = :'habit';

-- ---- reflexes
insert into public.reflexes (skill_id, name) values (:'skill', 'Push') returning id as reflex \gset
select is(tests.found(:'project'), null, 'a reflex with a secret');
select tests.act_as_superuser();
update public.reflexes set secret_prefix = '', last_error_code = 'invalid_mapping', last_error = 'no such value', last_rejected_at = kijko.now() where id = :'reflex';
select tests.act_as('ada');
select is(tests.found(:'project'), 'error reflex_without_secret Push, warning reflex_failed Push, warning reflex_rejects_requests Push', 'what stops a reflex');
update public.skills set enabled = false where id = :'skill';
update public.reflexes set enabled = false where id = :'reflex';
select is(tests.found(:'project'), null, 'a disabled reflex is as meant');
select tests.act_as_superuser();
update public.reflexes set last_error_code = 'author_lost_permission', last_error = 'x' where id = :'reflex';
update public.skills set problems = '[{"code": "unknown_variable", "severity": "warning", "message": "x"}]' where id = :'skill';
select tests.act_as('ada');
select is(tests.found(:'project'), 'warning reflex_paused Push, warning skill_with_warnings ' || (select name from public.skills where id = :'skill'), 'one that was paused is not, and warnings are findings');
select tests.act_as_superuser();
update public.reflexes set last_error_code = null, last_error = null where id = :'reflex';
update public.skills set problems = '[]' where id = :'skill';
select tests.act_as('ada');
update public.reflexes set enabled = true where id = :'reflex';
select matches(tests.found(:'project'), 'disabled_skill_in_use Fine', 'a disabled skill that a reflex runs');
update public.skills set enabled = true where id = :'skill';
delete from public.reflexes where id = :'reflex';

-- ---- repositories
insert into public.repositories (project_id, clone_url) values (:'project', 'https://github.com/acme/app') returning id as repository \gset
select is(tests.found(:'project'), 'warning repository_without_webhook acme/app', 'a repository without a webhook');
select public.rotate_repository_secret(:'repository');
select is(tests.found(:'project'), null, 'with a secret it has one');

-- ---- limits
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'executions', 'month', 10);
select kijko.consume(tests.org('ada'), 'executions', 8);
select tests.act_as('ada');
select is(tests.found(:'project'), 'warning limit_nearly_reached executions', 'a limit that is nearly reached');
select tests.act_as_superuser();
select kijko.consume(tests.org('ada'), 'executions', 2);
select tests.act_as('ada');
select is(tests.found(:'project'), 'error limit_reached executions', 'and one that is reached');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'executions', 'month', null), kijko.set_limit(tests.org('ada'), 'skills', 'lifetime', 1);
select tests.act_as('ada');
select is(tests.found(:'project'), 'info limit_reached skills', 'a gauge that is full stops nothing that is there');
-- Each finding needs the permission to read what it is about.
select tests.act_as_superuser();
delete from private.role_permissions where role = 'viewer' and permission = 'usage:read';
select tests.act_as('vic', tests.org('ada'));
select is(tests.found(:'project'), null, 'who may not read usage gets no finding about it');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'skills', 'lifetime', null);

-- ---- private projects
select tests.act_as('ada');
update public.projects set visibility = 'private' where id = :'project';
select is(tests.found(:'project'), null, 'a private project with an admin');
update public.project_members set role = 'member';
select is(tests.found(:'project'), 'warning project_without_admin App', 'one without');
delete from public.project_members;
select is(tests.found(:'project'), 'warning project_without_members App', 'and one without members');
select public.archive_project(:'project');
select is(tests.found(:'project'), 'warning project_without_members App, info project_archived App', 'an archived project is validated, too');

select * from finish();
rollback;
