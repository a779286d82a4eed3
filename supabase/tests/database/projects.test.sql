begin;
\ir 000_helpers.sql
select plan(27);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
-- More projects than FREE has room for.
update public.subscriptions set plan = 'PRO' where org_id = tests.org('ada');
select tests.act_as('ada');
insert into public.projects (name) values ('Apollo 11');
select tests.act_as_superuser();
create function tests.apollo() returns uuid language sql stable security definer as $$ select id from public.projects where name like 'Apollo 11%' $$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.projects', '42501', null, 'anon reads nothing');
select throws_ok($$insert into public.projects (name) values ('x')$$, '42501', null, 'anon writes nothing');

select tests.act_as('bob');
select is_empty('select 1 from public.projects', 'a non-member sees nothing');
select throws_ok($$insert into public.projects (org_id, name) values (tests.org('ada'), 'x')$$, '42501', null, 'a non-member adds nothing');
select is(tests.changed($$update public.projects set name = 'x'$$), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.projects'), 0::bigint, 'a non-member deletes nothing');
select tests.act_as('bob', tests.org('ada'));
select throws_ok($$insert into public.projects (name) values ('x')$$, '42501', null, 'a non-member adds nothing by naming the organization in x-org-id');

-- ---- members
select tests.act_as('vic', tests.org('ada'));
select results_eq('select name from public.projects', array['Apollo 11'], 'a viewer reads');
select throws_ok($$insert into public.projects (name) values ('x')$$, '42501', null, 'a viewer does not add');
select is(tests.changed($$update public.projects set name = 'x'$$), 0::bigint, 'a viewer does not change');
select is(tests.changed('delete from public.projects'), 0::bigint, 'a viewer does not delete');

select tests.act_as('mem', tests.org('ada'));
select is(tests.changed($$update public.projects set description = 'Moon'$$), 1::bigint, 'a member changes');
select lives_ok($$insert into public.projects (name) values ('Gemini')$$, 'a member adds');
select is((select org_id from public.projects where name = 'Gemini'), tests.org('ada'), 'a new project belongs to the organization of the request');
select is((select created_by from public.projects where name = 'Gemini'), tests.id('mem'), 'created_by is the caller');
select throws_ok($$insert into public.projects (name, created_by) values ('x', tests.id('ada'))$$, '42501', null, 'a member cannot write created_by');
select tests.refuses($$update public.projects set org_id = tests.org('mem')$$, 'permission_denied', 'a project cannot move to another organization');
select throws_ok($$update public.projects set created_by = tests.id('mem')$$, '42501', null, 'a member cannot change created_by');
select tests.act_as_service();
select tests.refuses($$update public.projects set org_id = tests.org('mem')$$, 'permission_denied', 'service_role cannot move a project');

-- ---- valid and invalid rows
select tests.act_as('ada');
select is((select slug from public.projects where name = 'Apollo 11'), 'apollo-11', 'the slug comes from the name');
insert into public.projects (name) values ('Apollo 11!');
select matches((select slug from public.projects where name = 'Apollo 11!'), '^apollo-11-[0-9a-f]{8}$', 'a derived slug that is taken gets a suffix');
select throws_ok($$insert into public.projects (name, slug) values ('y', 'apollo-11')$$, '23505', null, 'a taken slug is refused');
select throws_ok($$insert into public.projects (name, slug) values ('y', 'Not A Slug')$$, '23514', null, 'a malformed slug is refused');
select throws_ok($$insert into public.projects (name) values ('  ')$$, '23514', null, 'a blank name is refused');
select throws_ok($$insert into public.projects (name) values (repeat('x', 101))$$, '23514', null, 'a name that is too long is refused');
select lives_ok($$insert into public.projects (name) values ('***')$$, 'a name without letters still has a slug');

select tests.act_as_superuser();
delete from auth.users where id = tests.id('mem');
select is((select created_by from public.projects where name = 'Gemini'), null, 'a deleted user''s projects stay, with created_by null');

select * from finish();
rollback;
