begin;
\ir 000_helpers.sql
select plan(34);

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
select isnt_empty('select 1 from public.llm_models', 'anon reads prices');
select throws_ok($$update public.llm_models set source = 'seed'$$, '42501', null, 'anon does not set prices');

select tests.act_as('bob');
select is_empty('select 1 from public.skills', 'a non-member sees nothing');
select throws_ok($$insert into public.skills (org_id, name, prompt_template) values (tests.org('ada'), 'x', 'y')$$, '42501', null, 'a non-member adds nothing');
select is(tests.changed($$update public.skills set name = 'x'$$), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.skills'), 0::bigint, 'a non-member deletes nothing');
select throws_ok(
  $$insert into public.skills (project_id, name, prompt_template) values (tests.project('Apollo'), 'x', 'y')$$,
  '42501', null, 'a skill cannot be put into another organization''s project'
);
select throws_ok($$update public.llm_models set input_microusd_per_mtok = 0$$, '42501', null, 'users do not set prices');
select throws_ok($$insert into public.llm_models values ('x/y')$$, '42501', null, 'users do not add prices');

-- ---- members
select tests.act_as('vic', tests.org('ada'));
select results_eq('select name from public.skills', array['Summarize'], 'a viewer reads');
select isnt_empty('select 1 from public.llm_models', 'a viewer reads prices');
select throws_ok($$insert into public.skills (name, prompt_template) values ('x', 'y')$$, '42501', null, 'a viewer does not add');
select is(tests.changed($$update public.skills set name = 'x'$$), 0::bigint, 'a viewer does not change');
select is(tests.changed('delete from public.skills'), 0::bigint, 'a viewer does not delete');

select tests.act_as('mem', tests.org('ada'));
select lives_ok($$insert into public.skills (project_id, name, prompt_template) values (tests.project('Apollo'), 'In project', 'y')$$, 'a member adds, also into a project');
select is(tests.changed($$update public.skills set enabled = false where name = 'Summarize'$$), 1::bigint, 'a member changes');
select tests.refuses($$update public.skills set org_id = tests.org('mem')$$, 'permission_denied', 'a skill does not move to another organization');
select throws_ok($$update public.skills set project_id = tests.project('Bobs')$$, '42501', null, 'a skill does not move into another organization''s project');
select is((select model || ' ' || input_schema || ' ' || parameters from public.skills where name = 'In project'), 'echo/echo {"type": "object"} {}', 'the default model needs no vendor');

-- ---- what a row may be
select throws_ok($$insert into public.skills (name, prompt_template) values ('x', ' ')$$, '23514', null, 'a blank prompt is refused');
select throws_ok($$insert into public.skills (name, prompt_template) values ('x', repeat('y', 100001))$$, '23514', null, 'a prompt that is too long is refused');
select throws_ok($$insert into public.skills (name, prompt_template, input_schema) values ('x', 'y', '[]')$$, '23514', null, 'a schema that is no object is refused');
select throws_ok($$insert into public.skills (name, prompt_template, input_schema) values ('x', 'y', json_build_object('d', repeat('z', 70000))::jsonb)$$, '23514', null, 'a schema that is too large is refused');
select throws_ok($$insert into public.skills (name, prompt_template, parameters) values ('x', 'y', '{"a": 1e131071}')$$, '23514', null, 'nor is a number that is a hundred thousand digits as text');
select throws_ok($$insert into public.skills (name, prompt_template, parameters) values ('x', 'y', '3')$$, '23514', null, 'parameters that are no object are refused');
select throws_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'gpt')$$, '23514', null, 'a model without a provider is refused');
select throws_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'echo/*')$$, '23514', null, 'a wildcard model is refused');
select lives_ok($$insert into public.skills (name, prompt_template, model) values ('x', 'y', 'openai/gpt-4o-2024-08-06')$$, 'a dated name is accepted');

select is(tests.changed($$delete from public.projects where name = 'Apollo'$$), 1::bigint, 'a project can be deleted');
select is_empty($$select 1 from public.skills where name = 'In project'$$, 'its skills are deleted with it');
select isnt_empty($$select 1 from public.skills where name = 'Summarize'$$, 'skills without a project stay');

-- ---- prices
select tests.act_as_superuser();
select is((select provider from public.llm_models where id = 'echo/*'), 'echo', 'the provider is the part before the slash');
select throws_ok($$insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('a/b', -1, 0)$$, '23514', null, 'negative prices are refused');

select * from finish();
rollback;
