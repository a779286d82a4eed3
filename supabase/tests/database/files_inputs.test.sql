begin;
\ir 000_helpers.sql
select plan(33);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
insert into public.projects (id, org_id, name) values
  (tests.id('open'), tests.org('ada'), 'Open'), (tests.id('other'), tests.org('ada'), 'Other'), (tests.id('bobs'), tests.org('bob'), 'Bobs');
insert into public.skills (id, org_id, project_id, name, prompt_template, model) values
  (tests.id('reads'), tests.org('ada'), tests.id('open'), 'Reads', '{{ text }}', 'echo/echo'),
  (tests.id('nowhere'), tests.org('ada'), null, 'Nowhere', '{{ text }}', 'echo/echo'),
  (tests.id('bobs-skill'), tests.org('bob'), tests.id('bobs'), 'Bobs', '{{ text }}', 'echo/echo');

create function tests.object(org uuid, project text, path text) returns text language sql as $$
  select concat_ws('/', org, tests.id(project), path, gen_random_uuid())
$$;
create function tests.keep(name text, bytes bigint default 10, type text default 'text/plain') returns void language sql security definer as $$
  insert into storage.objects (bucket_id, name, owner, version, metadata)
  values ('project-files', keep.name, tests.id('ada'), gen_random_uuid()::text, jsonb_build_object('size', bytes, 'mimetype', type))
$$;
create function tests.input(path text, version integer default null) returns jsonb language sql as $$
  select jsonb_build_object('text', jsonb_strip_nulls(jsonb_build_object('$file', path, 'version', version)))
$$;
create function tests.run(skill text, input jsonb) returns public.executions language sql as $$ select public.execute_skill(tests.id(skill), input) $$;

select tests.object(tests.org('ada'), 'open', 'notes/plan.md') as first \gset
select tests.object(tests.org('ada'), 'open', 'notes/plan.md') as second \gset
select tests.keep(:'first'), tests.keep(:'second'), tests.keep(tests.object(tests.org('ada'), 'other', 'other.md')),
  tests.keep(tests.object(tests.org('ada'), 'open', 'big.txt'), 1048577);

-- ---- who
select tests.act_as('bob');
select tests.refuses($$select tests.run('reads', tests.input('notes/plan.md'))$$, 'not_found', 'a non-member runs nothing');
select tests.refuses($$select tests.run('bobs-skill', tests.input('notes/plan.md'))$$, 'file_not_found', 'nor finds the file by a skill of their own');
select throws_ok($$select private.files_open('w', gen_random_uuid(), 1)$$, '42501', null, 'nobody opens files directly');
select throws_ok($$select private.files_redeem('x')$$, '42501', null, 'nor tickets');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select tests.run('reads', tests.input('notes/plan.md'))$$, 'permission_denied', 'a viewer runs nothing');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select tests.run('reads', tests.input('other.md'))$$, 'file_not_found', 'a file of another project is none');
select tests.refuses($$select tests.run('nowhere', tests.input('notes/plan.md'))$$, 'invalid_input', 'a skill in no project has no files');
select tests.refuses($$insert into public.habits (org_id, skill_id, name, cron, input) values (tests.org('ada'), tests.id('reads'), 'H', '@daily', tests.input('other.md'))$$, 'file_not_found', 'nor is it one for a habit');
select tests.act_as('bob');
select throws_ok($$insert into public.habits (org_id, skill_id, name, cron, input) values (tests.org('ada'), tests.id('reads'), 'H', '@daily', tests.input('other.md'))$$, '42501', null, 'a non-member''s habit is refused before its files are looked for');
select throws_ok($$insert into public.reflexes (org_id, skill_id, name, input_mapping) values (tests.org('ada'), tests.id('reads'), 'R', tests.input('other.md'))$$, '42501', null, 'and so is their reflex');

-- ---- which version
select tests.act_as('mem', tests.org('ada'));
select results_eq(
  $$select e.input, e.input_files #>> '{0,version}', jsonb_array_length(e.input_files) from tests.run('reads', tests.input('notes/plan.md')) as e$$,
  $$values ('{"text": {"$file": "notes/plan.md"}}'::jsonb, '2', 1)$$, 'the current version is in the row, and the input is as it was given'
);
select is((tests.run('reads', tests.input('notes/plan.md', 1))).input_files #>> '{0,version}', '1', 'or the one that it names');
select is((tests.run('reads', '{"text": "$file"}')).input_files, '[]', 'a text is a text');
select tests.refuses($$select tests.run('reads', tests.input('notes/plan.md', 3))$$, 'file_not_found', 'no such version');
select tests.refuses($$select tests.run('reads', '{"a": [{"$file": {}}]}')$$, 'invalid_input', 'no path');
select tests.refuses($$select tests.run('reads', '{"$file": "notes/plan.md", "x": 1}')$$, 'invalid_input', 'something beside it');
select tests.refuses($$select tests.run('reads', '{"a": {"$file": "big.txt"}, "b": [{"$file": "big.txt"}]}')$$, 'file_too_large', 'each use counts');
select lives_ok($$select tests.run('reads', '{"a": {"$file": "big.txt"}}')$$, 'one fits');
select public.test_skill(tests.id('reads'), tests.input('notes/plan.md', 1)) ->> 'job_id' as dry_run \gset
select tests.act_as_superuser();
select is((select j.payload #>> '{files,0,version}' from public.jobs as j where j.id = :'dry_run'), '1', 'a dry run keeps the version, too');
select tests.keep(tests.object(tests.org('ada'), 'open', 'many.txt'), 1) from generate_series(1, 21);
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(
  $$select tests.run('reads', jsonb_build_object('a', (select jsonb_agg(tests.input('many.txt', n) -> 'text') from generate_series(1, 21) as n)))$$,
  'invalid_input', 'too many files'
);

-- ---- a retry has the same version, while it is there
select id as execution from tests.run('reads', tests.input('notes/plan.md')) \gset
select tests.act_as_superuser();
select private.jobs_cancel(e.job_id) from public.executions as e where e.id = :'execution';
select tests.keep(tests.object(tests.org('ada'), 'open', 'notes/plan.md'));
select tests.act_as('mem', tests.org('ada'));
select is((public.retry_execution(:'execution')).input_files #>> '{0,version}', '2', 'a retry reads what the execution read');
select is((tests.run('reads', tests.input('notes/plan.md'))).input_files #>> '{0,version}', '3', 'though there is a newer one');

-- ---- the worker
select id as execution, job_id as job from tests.run('reads', tests.input('notes/plan.md')) \gset
select tests.act_as_superuser();
update public.jobs set status = 'running', locked_by = 'w', locked_until = now() + interval '1 hour', attempt = 1 where id = :'job';
update public.executions set status = 'running', started_at = kijko.now() where id = :'execution';
select is(private.files_open('other', :'job', 1), null, 'another worker gets nothing');
select private.files_open('w', :'job', 1) as opened \gset
select is(:'opened'::jsonb #>> '{0,reference,$file}', 'notes/plan.md', 'the holder gets a ticket');
select is(
  private.files_redeem(:'opened'::jsonb #>> '{0,ticket}'), (select f.object_name from public.project_files as f where f.path = 'notes/plan.md' and f.project_id = tests.id('open')),
  'for this object'
);
select is(private.files_redeem('kjs1.x.y'), null, 'a text that is made up opens nothing');
select is(private.files_redeem(kijko.seal('{"object_name": "x", "expires_at": 1}', 'files/ticket')), null, 'nor one that has expired');
select is(private.files_redeem(kijko.seal('{"object_name": "x", "expires_at": 9999999999}', 'functions/ticket')), null, 'nor one for something else');
update public.project_files set deleted_at = kijko.now() where path = 'notes/plan.md' and project_id = tests.id('open');
select is(private.files_open('w', :'job', 1) #>> '{0,refused}', 'file_deleted', 'what was deleted meanwhile is refused');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select tests.run('reads', tests.input('notes/plan.md'))$$, 'file_deleted', 'and is no input any more');
select tests.act_as_superuser();
select set_config('storage.allow_delete_query', 'true', true);
delete from storage.objects where name like tests.org('ada') || '/' || tests.id('open') || '/notes/%';
select is(private.files_open('w', :'job', 1) #>> '{0,refused}', 'file_not_found', 'and so is what was removed');

-- ---- each reference is a copy of what it contains, so their depth is bounded
create function tests.nested(levels integer) returns jsonb language sql as $$
  select (repeat('{"x":', levels) || '{"$file": "a"}' || repeat('}', levels))::jsonb
$$;
select is((select count(*) from private.files_references(tests.nested(64))), 1::bigint, 'a reference may lie 64 levels deep');
select is((select count(*) from private.files_references(tests.nested(65))), 0::bigint, 'what lies deeper is data');

select * from finish();
rollback;
