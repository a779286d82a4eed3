-- Versions of skills: which save makes one, what they keep, and which version an execution ran.
begin;
\ir 000_helpers.sql
select plan(28);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.act_as('ada');
insert into public.skills (name, prompt_template) values ('Summarize', 'One {{ text }}') returning id as skill \gset
select tests.act_as_superuser();
create function tests.versions() returns text language sql stable security definer as $$
  select string_agg(v.version || ' ' || v.prompt_template, ', ' order by v.version) from public.skill_versions as v where v.org_id = tests.org('ada')
$$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.skill_versions', '42501', null, 'anon reads none');
select tests.act_as('bob');
select is_empty('select 1 from public.skill_versions', 'a non-member sees none');
select throws_ok(
  format($$insert into public.skill_versions (org_id, skill_id, version, prompt_template, input_schema, model, parameters)
    values (tests.org('ada'), %L, 9, 'x', '{}', 'echo/echo', '{}')$$, :'skill'), '42501', null, 'a non-member adds none'
);

-- ---- members read and do not write
select tests.act_as('vic', tests.org('ada'));
select results_eq('select version from public.skill_versions', array[1], 'a viewer reads them');
select tests.act_as('ada');
select throws_ok(
  format($$insert into public.skill_versions (skill_id, version, prompt_template, input_schema, model, parameters)
    values (%L, 9, 'x', '{}', 'echo/echo', '{}')$$, :'skill'), '42501', null, 'not even an owner adds one'
);
select throws_ok($$update public.skill_versions set prompt_template = 'x'$$, '42501', null, 'or changes one');
select throws_ok('delete from public.skill_versions', '42501', null, 'or deletes one');
select throws_ok('update public.skills set version = 7', '42501', null, 'a user does not set the number');
select throws_ok($$update public.skills set problems = '[]'$$, '42501', null, 'or the problems');
select throws_ok('update public.skills set checked_at = now()', '42501', null, 'or when it was checked');

-- ---- each save that changes the task is a version
update public.skills set prompt_template = 'Two {{ text }}' where id = :'skill';
select is(tests.versions(), '1 One {{ text }}, 2 Two {{ text }}', 'a new template is a version');
select is((select version from public.skills where id = :'skill'), 2, 'the skill has its number');
select is((select created_by from public.skill_versions where version = 2), tests.id('ada'), 'a version says who saved it');
update public.skills set prompt_template = 'Two {{ text }}', name = 'Renamed', description = 'x', tags = '{a}', enabled = true where id = :'skill';
select is((select version from public.skills where id = :'skill'), 2, 'a name, a description and tags are not the task');
update public.skills set input_schema = '{"type": "object", "required": ["text"]}' where id = :'skill';
update public.skills set parameters = '{"temperature": 1}' where id = :'skill';
update public.skills set parameters = '{"temperature": 1.0}' where id = :'skill';
update public.skills set model = 'echo/other' where id = :'skill';
select is((select version from public.skills where id = :'skill'), 6, 'the schema, the parameters to the last digit and the model are');
select is(
  (select model || ' ' || parameters || ' ' || input_schema from public.skill_versions where version = 5),
  'echo/echo {"temperature": 1.0} {"type": "object", "required": ["text"]}', 'a version has the whole task'
);

-- ---- a service role cannot set the number either
select tests.act_as_service();
update public.skills set version = 99 where id = :'skill';
select is((select version from public.skills where id = :'skill'), 6, 'the number is the database''s');

-- ---- the newest are kept
select tests.act_as_superuser();
do $$
begin
  for n in 7 .. 110 loop
    update public.skills set prompt_template = 'Version ' || n where org_id = tests.org('ada');
  end loop;
end
$$;
select is((select min(version) || ' ' || max(version) || ' ' || count(*) from public.skill_versions where skill_id = :'skill'), '11 110 100', 'of many versions the 100 newest are kept');
do $$
begin
  for n in 111 .. 160 loop
    update public.skills set prompt_template = repeat(n || ' ', 25000) where org_id = tests.org('ada');
  end loop;
end
$$;
select is((select version from public.skills where id = :'skill'), 160, 'many large ones can be saved');
select is((select max(version) || ' ' || (sum(size_bytes) between 4000000 and 4194304) from public.skill_versions where skill_id = :'skill'), '160 true', 'and of large ones 4 MiB');

-- ---- an execution has the version that it ran
select tests.act_as('ada');
update public.skills set prompt_template = 'Now {{ text }}', model = 'echo/echo' where id = :'skill';
select (public.execute_skill(:'skill', '{"text": "a"}')).id as run \gset
select is((select skill_version from public.executions where id = :'run'), 161, 'it is queued with the current one');
update public.skills set prompt_template = 'Later {{ text }}' where id = :'skill';
select tests.act_as_superuser();
select job_id as job from public.executions where id = :'run' \gset
update public.jobs set run_at = now() - interval '1 year' where id = :'job';
select tests.act_as_sidecar();
select is((select id from private.jobs_claim('w', '1 minute', 1, array['execution.echo'])), :'job'::uuid, 'a worker takes it up');
select is((private.executions_start('w', :'job')) ->> 'prompt_template', 'Later {{ text }}', 'it runs the version that is current when it starts');
select tests.act_as('ada');
select is((select skill_version from public.executions where id = :'run'), 162, 'and says so');
update public.skills set prompt_template = 'Last {{ text }}' where id = :'skill';
select is((select skill_version from public.executions where id = :'run'), 162, 'a later save does not change that');

-- ---- tags
select throws_ok(format($$update public.skills set tags = %L where id = %L$$, t, :'skill'), '23514', null, 'tags are refused: ' || t)
from unnest(array['{A}', '{"x,y",null}']) as t;
select is(
  private.skills_is_tag_list('{a,"b c",r/d:1}') and private.skills_is_tag_list('{}') and not private.skills_is_tag_list('{a,a}')
    and not private.skills_is_tag_list('{""}') and not private.skills_is_tag_list('{{a,b},{c,d}}') and not private.skills_is_tag_list('{" a"}')
    and not private.skills_is_tag_list(array[repeat('a', 51)]) and not private.skills_is_tag_list(array(select 't' || n from generate_series(1, 21) as n)),
  true, 'at most 20 different ones of 1 to 50 small letters, digits and few signs'
);

select * from finish();
rollback;
