begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
create function tests.push(path text, content jsonb, more jsonb default '{}') returns jsonb language sql as $$
  select public.push_prompt(push.path, push.content, coalesce(more ->> 'type', 'text'), coalesce(more ->> 'engine', 'minijinja'),
    coalesce(more -> 'input_schema', '{"type": "object"}'), more ->> 'model', coalesce(more -> 'parameters', '{}'), more ->> 'description',
    array(select jsonb_array_elements_text(more -> 'tags')), more ->> 'message', (more ->> 'base_version')::integer)
$$;

-- ---- anon and non-members first
select tests.act_as_anon();
select throws_ok(format('select * from public.%I', t), '42501', null, 'an unauthenticated caller reads no ' || t)
from unnest('{prompts,prompt_versions,prompt_labels,prompt_label_changes,prompt_settings}'::text[]) as t;
select throws_ok($$select tests.push('a', '"x"')$$, '42501', null, 'and pushes nothing');
select tests.act_as('mem', tests.org('ada'));
select tests.push('support/summarise', '"Summarise {{ text }}"', '{"model": "echo/echo", "tags": ["support"], "message": "first"}') as pushed \gset
select is(row(:'pushed'::jsonb ->> 'version', :'pushed'::jsonb ->> 'created', :'pushed'::jsonb -> 'labels')::text, row('1', 'true', '["latest"]'::jsonb)::text, 'a member pushes');
select is(public.set_prompt_label('support/summarise', 'production', 1) ->> 'applied', 'true', 'and moves a label that nobody protects');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.prompts) + (select count(*) from public.prompt_versions) + (select count(*) from public.prompt_labels)
  + (select count(*) from public.prompt_label_changes), 0::bigint, 'a non-member sees nothing');
select tests.refuses($$select public.get_prompt('support/summarise')$$, 'not_found', 'nor reads it by its path');
select is(public.list_prompts(), '{"total": 0, "prompts": []}', 'nor in a list');
select tests.act_as('vic', tests.org('ada'));
select is(public.get_prompt('support/summarise') ->> 'content', 'Summarise {{ text }}', 'a viewer reads');
select tests.refuses(statement, 'permission_denied', 'a viewer does not: ' || statement) from (values
  ($$select public.push_prompt('b', '"x"')$$), ($$select public.set_prompt_label('support/summarise', 'production', 1)$$),
  ($$select public.delete_prompt('support/summarise')$$), ($$select public.set_prompt_settings(true)$$), ($$select public.check_prompt()$$)
) as s (statement);
select throws_ok(format('update public.%I set created_at = now()', t), '42501', null, 'nobody writes ' || t)
from unnest('{prompts,prompt_versions,prompt_labels,prompt_label_changes,prompt_settings}'::text[]) as t;
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.set_prompt_settings(true)$$, 'permission_denied', 'a member protects nothing');

-- ---- versions
select is(tests.push('support/summarise', '"Summarise {{ text }}"', '{"model": "echo/echo", "tags": ["support"]}') ->> 'created', 'false', 'the same again is no version');
select is(tests.push('support/summarise', '"Summarise {{ text }}"', '{"model": "echo/echo", "description": "New", "base_version": 7}') ->> 'version', '1', 'nor is a description');
select is((select (description, tags)::text from public.prompts), '(New,{})', 'which is the prompt''s');
select is(tests.push('support/summarise', '"Sum up {{ text }}"', '{"model": "echo/echo", "base_version": 1}') ->> 'version', '2', 'a change is one');
select tests.refuses($$select tests.push('support/summarise', '"Sum up {{ text }}!"', '{"model": "echo/echo", "base_version": 1}')$$, 'conflict', 'a stale base is refused');
select is(tests.refusal($$select tests.push('support/summarise', '"Other"', '{"engine": "plain", "base_version": 1}')$$) ->> 'details',
  'version 2 was pushed after version 1 and differs from it in: content; from this push in: content, engine, model', 'and says what differs');
select tests.refuses($$select tests.push('support/summarise', '"x"', '{"base_version": 0}')$$, 'conflict', '0 says that there is none');
select is(tests.push('fresh', '"x"', '{"base_version": 0}') ->> 'version', '1', 'and is right for a new one');
select is(tests.push('fresh', '"x"', '{"parameters": {"temperature": 1.0}}') ->> 'version', '2', 'parameters are part of it');
select is(tests.push('fresh', '"x"', '{"parameters": {"temperature": 1}}') ->> 'version', '3', '1.0 and 1 differ');
select tests.refuses($$select tests.push('fresh', '[{"role": "user", "content": "x"}]', '{"type": "chat"}')$$, 'conflict', 'the type never changes');
select throws_ok($$select tests.push('a//b', '"x"')$$, '23514', null, 'a path has no empty parts');
select throws_ok(format('select tests.push(%L, ''"x"'')', path), '23514', null, 'no path: ' || path) from (values (''), ('/a'), ('a/'), ('a b'), ('../a'), ('a/.'), (repeat('a', 201))) as p (path);
select tests.refuses(format('select tests.push(''bad'', %L, %L)', content, more), 'invalid_input', 'no content: ' || left(content, 60)) from (values
  ('""', '{}'), ('"  "', '{}'), ('1', '{}'), ('[]', '{}'), ('"x"', '{"type": "chat"}'), ('[]', '{"type": "chat"}'), ('[1]', '{"type": "chat"}'),
  ('[{"role": "root", "content": "x"}]', '{"type": "chat"}'), ('[{"role": "user"}]', '{"type": "chat"}'), ('[{"role": "user", "content": 1}]', '{"type": "chat"}'),
  ('[{"role": "user", "content": "x", "name": "y"}]', '{"type": "chat"}'), ('[{"type": "placeholder", "name": "a b"}]', '{"type": "chat"}'),
  ('[{"type": "placeholder"}]', '{"type": "chat"}'), ('[{"role": ["user"], "content": "x"}]', '{"type": "chat"}'),
  (to_jsonb(repeat('x', 100001))::text, '{}')
) as c (content, more);
select is(tests.push('chat', '[{"role": "system", "content": "Be {{ tone }}"}, {"type": "placeholder", "name": "history"}]', '{"type": "chat"}') ->> 'version', '1', 'messages and placeholders are content');

-- ---- labels
select is(public.get_prompt('support/summarise') ->> 'version', '1', 'production is the default');
select is(public.get_prompt('support/summarise', 'latest') ->> 'version', '2', 'latest is the newest');
select is(public.get_prompt('support/summarise', version => 2) -> 'labels', '["latest"]', 'a version is named by its number');
select tests.refuses($$select public.get_prompt('support/summarise', 'staging')$$, 'not_found', 'a label that is not there');
select tests.refuses($$select public.get_prompt('support/summarise', version => 9)$$, 'not_found', 'a version that is not there');
select tests.refuses($$select public.get_prompt('support/summarise', 'production', 1)$$, 'invalid_input', 'one of the two');
select tests.refuses($$select public.set_prompt_label('support/summarise', 'staging', 9)$$, 'not_found', 'a label points to a version that is there');
select tests.refuses(format('select public.set_prompt_label(''support/summarise'', %L, 1)', label), 'invalid_input', 'no label: ' || label) from (values ('latest'), (''), ('A'), ('a b'), (repeat('a', 64))) as l (label);
select is(public.set_prompt_label('support/summarise', 'production', 2) ->> 'version', '2', 'a label moves');
select is(public.set_prompt_label('support/summarise', 'production', 2) ->> 'applied', 'true', 'and to where it is, it has moved');
select is((select array_agg(coalesce(c.from_version::text, '') || '>' || c.to_version order by c.to_version) from public.prompt_label_changes as c), '{>1,1>2}', 'the history has each move once');

-- ---- lists
select is((select array_agg(p ->> 'path') from jsonb_array_elements(public.list_prompts() -> 'prompts') as p), '{chat,fresh,support/summarise}', 'by path');
select is(public.list_prompts(prefix => 'support') ->> 'total', '1', 'of a folder');
select is(public.list_prompts(prefix => 'sup') ->> 'total', '0', 'which has a whole name');
select is(public.list_prompts(label => 'production') ->> 'total', '1', 'with a label');
select is((select array_agg(p ->> 'path') from jsonb_array_elements(public.list_prompts(after => 'chat', n => 1) -> 'prompts') as p), '{fresh}', 'page by page');
select is(public.list_prompts(path => 'fresh') #> '{prompts,0,versions}', '[1, 2, 3]', 'with the versions');
select is(public.list_prompts(with_content => false) #> '{prompts,0,content}', null, 'or without contents');
select tests.refuses($$select public.list_prompts(n => 101)$$, 'invalid_input', 'at most 100');

-- ---- checks
select tests.act_as_superuser();
select is((select count(*) from public.jobs where org_id = tests.org('ada') and kind = 'prompt_check'), 6::bigint, 'each version is checked');
select v.id as checked from public.prompt_versions as v join public.prompts as p on p.id = v.prompt_id where p.path = 'fresh' and v.version = 1 and v.org_id = tests.org('ada') \gset
select tests.act_as_sidecar();
select is(private.prompts_start_check(:'checked') - 'input_schema', '{"version": 1, "content": "x", "engine": "minijinja"}', 'the sidecar reads it');
select ok(private.prompts_record_check(:'checked', '[{"code": "template_error", "severity": "error", "message": "line 1"}]'), 'and records what it found');
select is(private.prompts_start_check(gen_random_uuid()), null, 'one that is gone is none');
select ok(not private.prompts_record_check(gen_random_uuid(), '[]'), 'and records nothing');
select tests.act_as('mem', tests.org('ada'));
select is(public.get_prompt('fresh', version => 1) #>> '{problems,0,code}', 'template_error', 'which members read');
select is(public.check_prompt('fresh', 'latest') #>> '{prompt,version}', '3', 'who renders gets the prompt');

-- ---- skills that name a prompt
select throws_ok(format('insert into public.skills (name, prompt_template, prompt_path, prompt_label) values (''x'', %L, %s, %s)', t, p, l), '23514', null, format('no skill: %s %s %s', t, p, l))
from (values ('', 'null', 'null'), ('x', '''a''', 'null'), ('x', 'null', '''production''')) as s (t, p, l);
insert into public.skills (name, prompt_path) values ('lost', 'nowhere') returning id as lost \gset
select is(tests.refusal(format('select public.execute_skill(%L)', :'lost')) ->> 'details', 'prompt_not_found: there is no text prompt nowhere with the label production', 'a prompt that is not there stops the skill');
insert into public.skills (name, prompt_path) values ('chatty', 'chat') returning id as chatty \gset
select public.set_prompt_label('chat', 'production', 1) is not null as labelled \gset
select tests.refuses(format('select public.execute_skill(%L)', :'chatty'), 'skill_not_runnable', 'nor is a chat a template');
insert into public.skills (name, prompt_path) values ('named', 'support/summarise') returning id as named \gset
select (public.execute_skill(:'named')).id as one \gset
select (public.execute_skill(:'named')).id as two \gset
select is((select (prompt_id, prompt_version)::text from public.executions where id = :'one'), '(,)', 'nothing is resolved while it waits');
select tests.act_as_superuser();
create function tests.started(execution uuid) returns jsonb language plpgsql as $$
declare
  job uuid := (select e.job_id from public.executions as e where e.id = execution);
begin
  update public.jobs set status = 'running', locked_by = 'w', attempt = attempt + 1, locked_until = clock_timestamp() + interval '1 minute' where id = job;
  return private.executions_start('w', job);
end
$$;
select is(tests.started(:'one') ->> 'prompt_template', 'Sum up {{ text }}', 'an execution resolves the label when it starts');
select is((select prompt_version from public.executions where id = :'one'), 2, 'and keeps the version');
select tests.act_as('mem', tests.org('ada'));
select public.set_prompt_label('support/summarise', 'production', 1) is not null as moved \gset
select tests.act_as_superuser();
select is(tests.started(:'one') ->> 'prompt_template', 'Sum up {{ text }}', 'a further attempt has the same version');
select is(tests.started(:'two') ->> 'prompt_template', 'Summarise {{ text }}', 'the next execution has the new one');
select is((select array_agg(prompt_version order by prompt_version desc) from public.executions where id in (:'one', :'two')), '{2,1}', 'both keep theirs');
delete from public.jobs where org_id = tests.org('ada') and kind = 'skill_check';
select tests.act_as('mem', tests.org('ada'));
insert into public.skills (name, prompt_path, prompt_label) values ('newest', 'fresh', 'latest') returning id as newest \gset
select tests.act_as_superuser();
delete from public.jobs where org_id = tests.org('ada') and kind = 'skill_check';
select tests.act_as('mem', tests.org('ada'));
select tests.push('fresh', '"{{ y }}"') ->> 'version' as pushed \gset
select tests.act_as_superuser();
select is((select array_agg(payload ->> 'skill_id') from public.jobs where org_id = tests.org('ada') and kind = 'skill_check'), array[:'newest'], 'a push moves latest, and has the skills that name it checked');
delete from public.jobs where org_id = tests.org('ada') and kind = 'skill_check';
select tests.act_as('mem', tests.org('ada'));
select public.set_prompt_label('support/summarise', 'production', 2) is not null as moved \gset
select tests.act_as_superuser();
select is((select array_agg(payload ->> 'skill_id') from public.jobs where org_id = tests.org('ada') and kind = 'skill_check'), array[:'named'], 'a label that moves has its skills checked');
select is(private.skills_start_check(:'named') #>> '{task,prompt_template}', 'Sum up {{ text }}', 'by its version');
update public.jobs set status = 'running', locked_by = 'w', attempt = 1, locked_until = clock_timestamp() + interval '1 minute' where org_id = tests.org('ada') and kind = 'skill_check';
select tests.act_as('mem', tests.org('ada'));
select public.set_prompt_label('support/summarise', 'production', 1) is not null as moved \gset
select tests.act_as_superuser();
select is((select array_agg(status order by status) from public.jobs where org_id = tests.org('ada') and kind = 'skill_check'), '{queued,running}', 'once more if a check has begun, which may have read the former version');
select tests.act_as('mem', tests.org('ada'));
select public.set_prompt_label('support/summarise', 'production', 2) is not null as moved \gset
select tests.act_as_superuser();
select tests.act_as('mem', tests.org('ada'));
select is(public.export_skills(array[:'named'::uuid]) #>> '{skills,0,prompt_path}', 'support/summarise', 'an export names the prompt');
select is((select status from public.import_skills(public.export_skills(array[:'named'::uuid]), 'rename')), 'renamed', 'and an import');
update public.skills set prompt_path = null, prompt_template = 'own' where id = :'named';
select is((public.restore_skill_version(:'named', 1)).prompt_path, 'support/summarise', 'a version has it, too');

-- ---- calls, and reports
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.authorize_llm_call('echo/echo', prompt_version_id => gen_random_uuid())$$, 'not_found', 'a call names a version that is there');
select public.get_prompt('support/summarise') ->> 'version_id' as version_id \gset
select tests.act_as('bob', tests.org('bob'));
select tests.refuses(format($$select public.authorize_llm_call('echo/echo', prompt_version_id => %L)$$, :'version_id'), 'not_found', 'of the caller''s organization');
select tests.act_as('mem', tests.org('ada'));
select public.authorize_llm_call('echo/echo', input_tokens => 10, max_output_tokens => 10, prompt_version_id => :'version_id') ->> 'ticket' as ticket \gset
select tests.act_as_superuser();
select private.llm_open(:'ticket') ->> 'call_id' as call \gset
select private.llm_settle(:'call', '{"status": "succeeded", "prompt_tokens": 10, "completion_tokens": 5, "total_ms": 100}') is not null as settled \gset
select is((select (p.path, c.prompt_version)::text from public.llm_calls as c join public.prompts as p on p.id = c.prompt_id where c.id = :'call'), '(support/summarise,2)', 'a call keeps prompt and version');
insert into public.llm_calls (org_id, requested_model, provider, model, own_key, status, held_tokens, held_microusd, prompt_id, prompt_version, cost_microusd, total_ms, finished_at)
select org_id, requested_model, provider, model, own_key, s.status, 0, 0, prompt_id, s.version, s.cost, s.ms, now()
from public.llm_calls, (values ('failed', 2, 0, null), ('succeeded', 2, 30, 300), ('succeeded', 1, 10, 50)) as s (status, version, cost, ms) where id = :'call';
select tests.act_as('vic', tests.org('ada'));
select is(
  (select jsonb_object_agg(version, jsonb_build_array(uses, failed, error_rate, cost_microusd, p50_ms, p95_ms)) from public.prompt_stats('support/summarise')),
  '{"1": [1, 0, 0.0000, 10, 50, 50], "2": [3, 1, 0.3333, 35, 100, 300]}', 'uses, failures, cost and latency by version');
select is(public.compare_prompt_versions('support/summarise', 1, 2) #> '{changes,0}', '{"field": "content", "before": "Summarise {{ text }}", "after": "Sum up {{ text }}"}', 'two versions are compared');
select is(public.compare_prompt_versions('support/summarise', 1, 2) -> 'difference', '{"error_rate": 0.3333, "mean_cost_microusd": 2, "p50_ms": 50, "p95_ms": 250}', 'by what they did');
select tests.refuses($$select public.compare_prompt_versions('support/summarise', 1, 9)$$, 'not_found', 'both must be there');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.prompt_stats()), 0::bigint, 'a non-member sees no use');
select tests.act_as('mem', tests.org('ada'));
select lives_ok($$select public.delete_prompt('support/summarise')$$, 'a prompt is deleted');
select is((select (path is null, uses)::text from public.prompt_stats() where version = 1), '(t,1)', 'its uses stay');
select tests.refuses(format('select public.execute_skill(%L)', :'named'), 'skill_not_runnable', 'and its skills stop');
select * from finish();
rollback;
