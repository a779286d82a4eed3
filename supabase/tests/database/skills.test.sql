begin;
\ir 000_helpers.sql
select plan(33);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as('ada');
insert into public.projects (name) values ('Apollo');
insert into public.skills (name, prompt_template) values ('Summarize', 'Summarize {{ text }}');
select tests.act_as('bob');
insert into public.projects (name) values ('Bobs');
select tests.act_as_superuser();
create function tests.project(named text) returns uuid language sql stable security definer as $$ select id from public.projects where name = named $$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.skills', '42501', null, 'anon reads nothing');
select isnt_empty('select 1 from public.llm_models', 'but anon sees the prices');
select throws_ok($$update public.llm_models set source = 'seed'$$, '42501', null, 'and sets none');

select tests.act_as('bob');
select is_empty('select 1 from public.skills', 'a non-member sees nothing');
select throws_ok($$insert into public.skills (org_id, name, prompt_template) values (tests.org('ada'), 'x', 'y')$$, '42501', null, 'a non-member adds nothing');
select is(tests.changed($$update public.skills set name = 'x'$$), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.skills'), 0::bigint, 'a non-member deletes nothing');
select throws_ok(
  $$insert into public.skills (project_id, name, prompt_template) values (tests.project('Apollo'), 'x', 'y')$$,
  '23503', null, 'a skill cannot be put into another organization''s project'
);
select throws_ok($$update public.llm_models set input_microusd_per_mtok = 0$$, '42501', null, 'users do not set prices');
select throws_ok($$insert into public.llm_models values ('x/y')$$, '42501', null, 'nor add any');

-- ---- members
select tests.act_as('vic', tests.org('ada'));
select results_eq('select name from public.skills', array['Summarize'], 'a viewer reads');
select isnt_empty('select 1 from public.llm_models', 'and sees the prices');
select throws_ok($$insert into public.skills (name, prompt_template) values ('x', 'y')$$, '42501', null, 'a viewer does not add');
select is(tests.changed($$update public.skills set name = 'x'$$), 0::bigint, 'a viewer does not change');
select is(tests.changed('delete from public.skills'), 0::bigint, 'a viewer does not delete');

select tests.act_as('mem', tests.org('ada'));
select lives_ok($$insert into public.skills (project_id, name, prompt_template) values (tests.project('Apollo'), 'In project', 'y')$$, 'a member adds, also into a project');
select is(tests.changed($$update public.skills set enabled = false where name = 'Summarize'$$), 1::bigint, 'a member changes');
select tests.refuses($$update public.skills set org_id = tests.org('mem')$$, 'permission_denied', 'a skill does not move');
select throws_ok($$update public.skills set project_id = tests.project('Bobs')$$, '23503', null, 'nor into another organization''s project');
select is((select model || ' ' || input_schema || ' ' || parameters from public.skills where name = 'In project'), 'echo/echo {"type": "object"} {}', 'the defaults run without a vendor');

-- ---- what a row may be
select throws_ok($$insert into public.skills (name, prompt_template) values ('x', ' ')$$, '23514', null, 'a blank prompt is refused');
select throws_ok($$insert into public.skills (name, prompt_template) values ('x', repeat('y', 100001))$$, '23514', null, 'so is one too long');
select throws_ok($$insert into public.skills (name, prompt_template, input_schema) values ('x', 'y', '[]')$$, '23514', null, 'a schema is an object');
select throws_ok($$insert into public.skills (name, prompt_template, input_schema) values ('x', 'y', json_build_object('d', repeat('z', 70000))::jsonb)$$, '23514', null, 'of bounded size');
select throws_ok($$insert into public.skills (name, prompt_template, parameters) values ('x', 'y', '3')$$, '23514', null, 'parameters are an object');
select throws_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'gpt')$$, '23514', null, 'a model names its provider');
select throws_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'echo/*')$$, '23514', null, 'and is no wildcard');
select lives_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'openai/gpt-4o-2024-08-06')$$, 'a dated name is fine');

select is(tests.changed($$delete from public.projects where name = 'Apollo'$$), 1::bigint, 'a project can be deleted');
select is_empty($$select 1 from public.skills where name = 'In project'$$, 'and takes its skills along');
select isnt_empty($$select 1 from public.skills where name = 'Summarize'$$, 'the organization''s own stay');

-- ---- prices
select tests.act_as_superuser();
select is((select provider from public.llm_models where id = 'echo/*'), 'echo', 'the provider is the part before the slash');
select throws_ok($$insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('a/b', -1, 0)$$, '23514', null, 'no negative prices');

select * from finish();
rollback;
