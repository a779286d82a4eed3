-- Members of a private project have a role: a viewer reads, a member writes what is in it, an admin manages it.
begin;
\ir 000_helpers.sql
select plan(45);

select tests.sign_up(u) from unnest(array['ada', 'bob', 'mgr', 'pat', 'mem', 'see', 'vic', 'new']) as u;
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org(u, tests.org('ada'), 'member') from unnest(array['pat', 'mem', 'see', 'new']) as u;
select tests.join_org('mgr', tests.org('ada'), 'admin'), tests.join_org('vic', tests.org('ada'), 'viewer');

-- pat makes it and so is its admin; mem is a member, see a viewer. vic is a member of it too, and a viewer of the organization.
select tests.act_as('pat', tests.org('ada'));
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as project \gset
select is((select role from public.project_members), 'admin', 'who makes a private project is its admin');
insert into public.project_members (project_id, user_id, role) values (:'project', tests.id('mem'), 'member'), (:'project', tests.id('see'), 'viewer'), (:'project', tests.id('vic'), 'member');
insert into public.skills (project_id, name, prompt_template) values (:'project', 'inside', 'x') returning id as skill \gset
insert into public.habits (skill_id, name, cron) values (:'skill', 'inside', '@yearly') returning id as habit \gset
select id as execution from public.execute_skill(:'skill') \gset
insert into public.skills (name, prompt_template) values ('outside', 'x') returning id as outside \gset
insert into public.projects (name) values ('Open') returning id as open \gset

-- ---- non-members first
select tests.act_as('bob');
select throws_ok(format('insert into public.project_members (project_id, user_id, role) values (%L, tests.id(%L), %L)', :'project', 'bob', 'admin'), '42501', null, 'a non-member of the organization adds nobody');
select is(tests.changed('delete from public.project_members'), 0::bigint, 'nor removes anybody');
select tests.refuses(format('select public.archive_project(%L)', :'project'), 'not_found', 'nor archives it');
select tests.act_as('new', tests.org('ada'));
select throws_ok(format('insert into public.project_members (project_id, user_id, role) values (%L, tests.id(%L), %L)', :'project', 'new', 'admin'), '42501', null, 'a member of the organization does not add themselves');
select tests.refuses(format('select public.restore_project(%L)', :'project'), 'not_found', 'nor learns that it exists');

-- ---- a viewer of the project: the organization''s permissions to write do not count in it
select tests.act_as('see', tests.org('ada'));
select is((select count(*) from public.skills where project_id = :'project'), 1::bigint, 'a viewer reads');
select is(tests.changed(format('update public.skills set name = %L where id = %L', 'x', :'skill')), 0::bigint, 'a viewer changes no skill');
select is(tests.changed(format('delete from public.skills where id = %L', :'skill')), 0::bigint, 'nor deletes one');
select throws_ok(format('insert into public.skills (project_id, name, prompt_template) values (%L, %L, %L)', :'project', 'x', 'x'), '42501', null, 'nor adds one');
select throws_ok(format('update public.skills set project_id = %L where id = %L', :'project', :'outside'), '42501', null, 'nor moves one in');
select is(tests.changed(format('update public.habits set enabled = false where id = %L', :'habit')), 0::bigint, 'a viewer changes no habit');
select throws_ok(format('insert into public.habits (skill_id, name, cron) values (%L, %L, %L)', :'skill', 'x', '@daily'), '42501', null, 'nor schedules a skill of it');
select tests.refuses(format('select public.execute_skill(%L)', :'skill'), 'permission_denied', 'nor runs one');
select tests.refuses(format('select public.run_habit(%L)', :'habit'), 'permission_denied', 'nor a habit');
select tests.refuses(format('select public.cancel_execution(%L)', :'execution'), 'permission_denied', 'nor cancels what runs');
select is(tests.changed(format('update public.projects set name = %L where id = %L', 'x', :'project')), 0::bigint, 'a viewer does not change the project');
select throws_ok(format('insert into public.project_members (project_id, user_id) values (%L, tests.id(%L))', :'project', 'new'), '42501', null, 'nor its members');
select is(tests.changed($$update public.project_members set role = 'admin' where user_id = tests.id('see')$$), 0::bigint, 'nor their own role');
select tests.refuses(format('select public.archive_project(%L)', :'project'), 'permission_denied', 'nor archives it');
select is(tests.changed(format('update public.skills set name = %L where id = %L', 'outside', :'outside')), 1::bigint, 'elsewhere they write as before');

-- ---- a member: what is in it
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed(format('update public.skills set name = %L where id = %L', 'inside', :'skill')), 1::bigint, 'a member changes a skill');
select lives_ok(format('insert into public.habits (skill_id, name, cron) values (%L, %L, %L)', :'skill', 'x', '@daily'), 'schedules it');
select lives_ok(format('select public.execute_skill(%L)', :'skill'), 'and runs it');
select is(tests.changed(format('update public.projects set visibility = %L where id = %L', 'organization', :'project')), 0::bigint, 'a member does not open the project');
select is(tests.changed(format('delete from public.projects where id = %L', :'project')), 0::bigint, 'nor delete it');
select throws_ok(format('insert into public.project_members (project_id, user_id) values (%L, tests.id(%L))', :'project', 'new'), '42501', null, 'nor add members');
select is(tests.changed($$update public.project_members set role = 'admin' where user_id = tests.id('mem')$$), 0::bigint, 'nor become an admin');
select is(tests.changed($$delete from public.project_members where user_id = tests.id('see')$$), 0::bigint, 'nor remove others');
select tests.refuses(format('select public.archive_project(%L)', :'project'), 'permission_denied', 'nor archive it');
-- ---- a role narrows: a viewer of the organization writes nothing as a member of the project
select tests.act_as('vic', tests.org('ada'));
select is(tests.changed(format('update public.skills set name = %L where id = %L', 'x', :'skill')), 0::bigint, 'a viewer of the organization changes nothing as a member of the project');
-- ---- an admin of the project needs no projects:manage
select tests.act_as('pat', tests.org('ada'));
select is(public.can(tests.org('ada'), 'projects:manage'), false, 'an admin of the project may lack projects:manage');
select lives_ok(format('insert into public.project_members (project_id, user_id, role) values (%L, tests.id(%L), %L)', :'project', 'new', 'viewer'), 'and adds members');
select is(tests.changed($$update public.project_members set role = 'admin' where user_id = tests.id('mem')$$), 1::bigint, 'makes admins');
select is(tests.changed($$delete from public.project_members where user_id = tests.id('new')$$), 1::bigint, 'and removes members');
select throws_ok($$update public.project_members set role = 'owner' where user_id = tests.id('mem')$$, '23514', null, 'there are three roles');
select results_eq(
  format('select m.role from public.project_members as m where m.project_id = %L order by m.role', :'project'), array['admin', 'admin', 'member', 'viewer'], 'members are listed with their roles'
);
select is(tests.changed(format('update public.projects set settings = %L where id = %L', '{"theme": "dark"}', :'project')), 1::bigint, 'an admin changes the settings');
select throws_ok(format('update public.projects set settings = %L where id = %L', '[]', :'project'), '23514', null, 'which are an object');
select throws_ok(format('update public.projects set settings = jsonb_build_object(%L, repeat(%L, 20000)) where id = %L', 'a', 'x', :'project'), '23514', null, 'of at most 16 KiB');
-- ---- leaving
select tests.act_as('see', tests.org('ada'));
select is(tests.changed($$delete from public.project_members where user_id = tests.id('see')$$), 1::bigint, 'a viewer leaves');
-- ---- all see it: roles have no effect
select tests.act_as('mgr', tests.org('ada'));
update public.projects set visibility = 'organization' where id = :'project';
select tests.act_as('see', tests.org('ada'));
select is(tests.changed(format('update public.skills set name = %L where id = %L', 'inside', :'skill')), 1::bigint, 'in a project that all see roles have no effect');
-- ---- who hides it becomes an admin, also as a former viewer
insert into public.project_members (project_id, user_id, role) values (:'project', tests.id('see'), 'viewer');
update public.projects set visibility = 'private' where id = :'project';
select is((select role from public.project_members where user_id = tests.id('see')), 'admin', 'who makes it private becomes an admin');
-- ---- keys
select tests.act_as('pat', tests.org('ada'));
select tests.make_key(tests.org('ada'), '["skills:read", "skills:write", "projects:read"]', 'personal') as key \gset
select tests.act_as_key(:'key');
select throws_ok(format('insert into public.project_members (project_id, user_id) values (%L, tests.id(%L))', :'project', 'new'), '42501', null, 'a personal key of a project''s admin without projects:write adds nobody');
select is(tests.changed(format('update public.skills set name = %L where id = %L', 'inside', :'skill')), 1::bigint, 'and writes skills as its owner');

select * from finish();
rollback;
