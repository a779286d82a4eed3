-- Skills: bulk calls, copies, versions, documents and search, and who may call them.
begin;
\ir 000_helpers.sql
select plan(91);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');

create function tests.doc(variadic names text[]) returns jsonb language sql as $f$
  select jsonb_build_object('format', 'kijko.skills', 'version', 1, 'skills', jsonb_agg(jsonb_build_object('name', n.name, 'prompt_template', 'x' || n.place) order by n.place))
  from unnest(names) with ordinality as n (name, place)
$f$;
create function tests.import(document jsonb, on_conflict text) returns text language sql as $f$
  select string_agg(concat_ws(' ', i.status, i.name, i.code), ', ' order by i.place) from public.import_skills(document, on_conflict) as i
$f$;
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as('ada');
insert into public.projects (name, slug) values ('Apollo', 'apollo') returning id as apollo \gset
insert into public.projects (name, slug, visibility) values ('Secret', 'secret', 'private') returning id as secret \gset
insert into public.skills (name, prompt_template, description, tags) values ('Summarize', 'One {{ text }}', 'Makes short texts', '{text,daily}') returning id as one \gset
insert into public.skills (name, prompt_template, project_id, input_schema, parameters) values
  ('Translate', 'Two {{ text }}', :'apollo', '{"type": "object", "default": null, "maximum": 1.10}', '{"temperature": 1.0, "stop": null}') returning id as two \gset
insert into public.skills (name, prompt_template, project_id) values ('Hidden', 'Three', :'secret') returning id as hidden \gset
select tests.act_as('bob');
insert into public.projects (name) values ('Bobs') returning id as bobs_project \gset
insert into public.skills (name, prompt_template) values ('Bobs', 'x') returning id as bobs \gset
select tests.act_as_superuser();
create function tests.answers(statement text) returns text language plpgsql as $$
declare
  answer text;
begin
  execute format('select string_agg(concat_ws('' '', a.done, a.code), '', '' order by a.id) from (%s) as a', statement) into answer;
  return answer;
end
$$;
create function tests.each(ids text) returns text language sql immutable return format('select * from public.update_skills(%L, enabled => true)', ids);
create view tests.callable (call) as values
  (format('select public.duplicate_skill(%L)', :'one')), (format('select public.restore_skill_version(%L, 1)', :'one')),
  (format('select * from public.diff_skill_versions(%L, 1)', :'one'));
grant select on tests.callable to public;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok(call, '42501', null, 'anon: ' || call)
from (
  select call from tests.callable
  union all values ('select public.update_skills(''{}'', true)'), ('select public.delete_skills(''{}'')'), ('select public.export_skills()'),
    ('select public.import_skills(''{}'')'), ('select public.search_skills()')
) as c (call);
select tests.act_as('bob');
select tests.refuses(call, 'not_found', 'a non-member: ' || call) from tests.callable;
select is(tests.answers(tests.each(array[:'one', :'two']::text)), 'f not_found, f not_found', 'a non-member changes none');
select is(tests.answers(format('select * from public.delete_skills(%L)', array[:'one', :'hidden'])), 'f not_found, f not_found', 'and deletes none');
select tests.refuses(format('select public.export_skills(%L)', array[:'one']), 'not_found', 'and exports none');
select results_eq('select name from public.search_skills()', array['Bobs'], 'a search is of one''s own organization');
select is((public.export_skills() -> 'skills' -> 0 ->> 'name') || jsonb_array_length(public.export_skills() -> 'skills'), 'Bobs1', 'so is an export');

-- ---- a viewer reads
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(call, 'permission_denied', 'a viewer: ' || call) from tests.callable where call !~ 'diff';
select is_empty(call, 'a viewer compares versions') from tests.callable where call ~ 'diff';
select is(tests.answers(tests.each(array[:'one', :'hidden', :'bobs']::text)), (
  select string_agg(w, ', ' order by id) from (values (:'one'::uuid, 'f permission_denied'), (:'hidden', 'f not_found'), (:'bobs', 'f not_found')) as e (id, w)
), 'a viewer changes none; what is hidden is not found');
select tests.refuses($$select public.import_skills('{"format": "kijko.skills", "version": 1, "skills": []}')$$, 'permission_denied', 'a viewer imports none');
select results_eq('select name from public.search_skills() order by 1', array['Summarize', 'Translate'], 'a viewer finds what no private project hides');
select is(jsonb_array_length(public.export_skills() -> 'skills'), 2, 'and exports it');
select is_empty(format('select 1 from public.search_skills(project_id => %L)', :'secret'), 'not what one hides');

-- ---- a member writes; private projects hide
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.duplicate_skill(%L)', :'hidden'), 'not_found', 'a hidden skill is not copied');
select is(tests.answers(format('select * from public.delete_skills(%L)', array[:'hidden'])), 'f not_found', 'or deleted');
select tests.refuses(format('select public.update_skills(%L, project_id => %L)', array[:'one'], :'secret'), 'not_found', 'none is moved into a project that is hidden');
select tests.refuses(format('select public.update_skills(%L, project_id => %L)', array[:'one'], :'bobs_project'), 'not_found', 'or is another organization''s');
select is(tests.answers(format('select * from public.update_skills(%L, false, %L)', array[:'one', :'two', gen_random_uuid()], :'apollo')) ~ '^(t, t, f not_found|t, f not_found, t|f not_found, t, t)$', true, 'a member disables and moves, item by item');
select is((select string_agg(name || enabled || (project_id = :'apollo'), ' ' order by name) from public.skills), 'Summarizefalsetrue Translatefalsetrue', 'and they are moved');
select is(tests.answers(format('select * from public.update_skills(%L, true, clear_project => true)', array[:'one', :'one'])), 't', 'an id that is named twice counts once');
select is((select project_id from public.skills where id = :'one'), null, 'it is out of its project');
select tests.refuses($$select public.update_skills('{}')$$, 'invalid_input', 'a change must be named');
select tests.refuses(format($$select public.update_skills('{}', project_id => %L, clear_project => true)$$, :'apollo'), 'invalid_input', 'into a project or out of one');
select tests.refuses($$select public.update_skills(array(select gen_random_uuid() from generate_series(1, 1001)), true)$$, 'invalid_input', 'at most 1,000 at once');
select tests.refuses($$select public.delete_skills('{null}')$$, 'invalid_input', 'a null is no id');
select is_empty($$select * from public.delete_skills('{}')$$, 'no ids, no answers');

-- ---- copies and versions
select (public.duplicate_skill(:'two')).id as copy \gset
select is(
  (select to_jsonb(s) - array['id', 'name', 'created_at', 'updated_at', 'created_by'] from public.skills as s where s.id = :'copy'),
  (select to_jsonb(s) - array['id', 'name', 'created_at', 'updated_at', 'created_by'] from public.skills as s where s.id = :'two'), 'a copy is the same task'
);
select is((select name || ' ' || (created_by = tests.id('mem')) from public.skills where id = :'copy'), 'Translate (copy) true', 'with another name and maker');
select is((public.duplicate_skill(:'two', 'Mine')).name, 'Mine', 'or with a given one');
select tests.refuses(format('select public.duplicate_skill(%L, %L)', :'two', v.value), 'invalid_input', 'which must be a name, not ' || v.what)
from (values (' ', 'blank'), (U&'a\202eb', 'reversed'), (repeat('x', 101), 'too long'), (E'a\nb', 'two lines')) as v (value, what);
update public.skills set prompt_template = 'Changed', parameters = '{}' where id = :'two';
select results_eq(
  format('select field, before #>> ''{}'', after #>> ''{}'' from public.diff_skill_versions(%L, 1) order by 1', :'two'),
  $$values ('parameters', '{"stop": null, "temperature": 1.0}', '{}'), ('prompt_template', 'Two {{ text }}', 'Changed')$$, 'two versions are compared field by field'
);
select tests.refuses(format('select public.diff_skill_versions(%L, 9)', :'two'), 'not_found', 'there must be the version');
select is((public.restore_skill_version(:'two', 1)).version, 3, 'a restored version is a new one');
select is_empty(format('select * from public.diff_skill_versions(%L, 1)', :'two'), 'and the same task');
select is((public.restore_skill_version(:'two', 1)).version, 3, 'restoring what is there changes nothing');
select tests.refuses(format('select public.restore_skill_version(%L, 9)', :'two'), 'not_found', 'what is not kept cannot be restored');

-- ---- search
select results_eq($$select name from public.search_skills('SHORT texts')$$, array['Summarize'], 'each word is found, in any case');
select is_empty($$select 1 from public.search_skills('short translate')$$, 'all words must be there');
select results_eq($$select name from public.search_skills(tags => '{daily}')$$, array['Summarize'], 'by tag');
select is_empty($$select 1 from public.search_skills(tags => '{daily,other}')$$, 'all tags must be there');
select is((select count(*) || ' ' || (select count(*) from public.search_skills('trans', n => 9, skip => 1)) from public.search_skills('trans', n => 9)), '2 1', 'page by page');
select results_eq($$select name from public.search_skills('%')$$, array[]::text[], 'a percent sign is a percent sign');
select tests.refuses('select public.search_skills(n => 201)', 'invalid_input', 'pages are bounded');
select tests.refuses($$select public.search_skills('a b c d e f g h i j k')$$, 'invalid_input', 'so are words');

-- ---- documents
select tests.act_as('ada');
select public.export_skills() as document \gset
select is(jsonb_array_length(:'document'::jsonb -> 'skills') || (:'document'::jsonb ->> 'format') || (:'document'::jsonb ->> 'version'), '5kijko.skills1', 'an owner exports all');
select is(jsonb_array_length(public.export_skills(array[:'two', :'copy']::uuid[]) -> 'skills'), 2, 'or some');
select tests.refuses(format('select public.import_skills(%L)', :'document'), 'conflict', 'by default a name that is there refuses the import');
select results_eq(format($$select distinct status from public.import_skills(%L, 'skip')$$, :'document'), array['skipped'], 'skip leaves what is there');
select is(public.export_skills(), :'document'::jsonb, 'and nothing has changed');
select results_eq(format($$select distinct status from public.import_skills(%L, 'replace')$$, :'document'), array['replaced'], 'replace makes it like the document');
select is(public.export_skills(), :'document'::jsonb, 'which it was');
select is((select max(version) from public.skills), 3, 'so no version was made');
select is((select string_agg(status || ' ' || name, ', ' order by name) from public.import_skills(jsonb_set(:'document', '{skills}', jsonb_path_query_array(:'document', '$.skills[*] ? (@.name == "Summarize" || @.name == "Translate")')), 'rename')), 'renamed Summarize (2), renamed Translate (2)', 'rename adds a number');
select tests.act_as('bob');
delete from public.skills;
select tests.refuses(format('select public.import_skills(%L)', :'document'), 'not_found', 'its projects must be there');
insert into public.projects (name, slug) values ('Apollo', 'apollo'), ('Secret', 'secret');
select is((select string_agg(status, ' ') from public.import_skills(:'document')), 'created created created created created', 'another organization imports it');
select is(public.export_skills(), :'document'::jsonb, 'and exports the same document');
delete from public.skills;
select is((select string_agg(status || coalesce(' ' || code, ''), ', ' order by place) from public.import_skills('{"format": "kijko.skills", "version": 1, "skills": [
  {"name": "Fine", "prompt_template": "x"}, {"name": "Fine", "prompt_template": "x"}, 7, {"name": "x"}, {"name": "x", "prompt_template": " "},
  {"name": "x", "prompt_template": "x", "modell": "y"}, {"name": "x", "prompt_template": "x", "project": "none"}, {"name": "x", "prompt_template": "x", "tags": ["A"]},
  {"name": "x", "prompt_template": "x", "tags": [1]}
]}', 'skip')), 'created, created, failed invalid_input, failed invalid_input, failed invalid_input, failed invalid_input, failed not_found, failed invalid_input, failed invalid_input', 'what is wrong is told item by item');
select is((select count(*) from public.skills), 2::bigint, 'and only the others are there');
-- ---- many of one name
delete from public.skills;
select is(tests.import(tests.doc('A', 'A'), 'fail'), 'created A, created A', 'skills of a document do not conflict with each other');
select tests.refuses($$select tests.import(tests.doc('B', 'A', 'C'), 'fail')$$, 'conflict', 'one that conflicts refuses all');
select is((select string_agg(name, ' ' order by name) from public.skills), 'A A', 'and nothing was imported');
select is(tests.import(tests.doc('A', 'A', 'A'), 'skip'), 'skipped A, skipped A, created A', 'each that is there is skipped once');
select is(tests.import(tests.doc('A', 'B'), 'replace'), 'failed A conflict, created B', 'what to replace must be one skill');
select is(tests.import(tests.doc('B', 'B'), 'replace'), 'replaced B, created B', 'which is replaced once');
insert into public.skills (name, prompt_template) values ('A (3)', 'x'), ('C', 'x');
select is(tests.import(tests.doc('A', 'C', 'A', 'A (3)', 'A (4)', 'D'), 'rename'), 'renamed A (2), renamed C (2), renamed A (5), renamed A (3) (2), created A (4), created D', 'numbers that are taken are left out');
select is((select count(*) - count(distinct name) from public.skills where name like '%(%'), 0::bigint, 'so that no two have one name');
select is(tests.import(jsonb_set(tests.doc('E', 'E', 'E'), '{skills,0,prompt_template}', '" "'), 'skip'), 'failed E invalid_input, created E, created E', 'one that is refused is not there');
select is((select i.message from public.import_skills(jsonb_set(tests.doc('F'), '{skills,0,tags}', '["X"]'), 'skip') as i), 'violates skills_tags_check', 'and its check is named');
delete from public.skills;
select tests.refuses(format('select public.import_skills(%L)', d), 'invalid_input', 'no document: ' || d)
from unnest(array['[]', '{"format": "other", "version": 1, "skills": []}', '{"format": "kijko.skills", "version": 2, "skills": []}', '{"format": "kijko.skills", "version": 1}']) as d;
select tests.refuses($$select public.import_skills('{"format": "kijko.skills", "version": 1, "skills": []}', 'overwrite')$$, 'invalid_input', 'an unknown on_conflict');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('bob'), 'skills', 'lifetime', 4);
select tests.act_as('bob');
select tests.refuses(format($$select public.import_skills(%L, 'rename')$$, :'document'), 'quota_exceeded', 'the plan''s limit refuses the whole import');
select is((select count(*) from public.skills), 0::bigint, 'and nothing of it stays');


-- ---- a document is bounded
select tests.act_as_superuser();
select kijko.set_limit(tests.org('bob'), 'skills', 'lifetime', null);
insert into public.skills (org_id, name, prompt_template) select tests.org('bob'), 'Long ' || n, repeat('x', 100000) from generate_series(1, 90) as n;
select tests.act_as('bob');
select tests.refuses('select public.export_skills()', 'invalid_input', 'more than 8 MiB are exported in parts');
select is(jsonb_array_length(public.export_skills(array(select s.id from public.skills as s where s.name like 'Long%' limit 50)) -> 'skills'), 50, 'by ids');

select * from finish();
rollback;
