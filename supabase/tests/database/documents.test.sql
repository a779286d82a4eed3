-- Documents: who reads and writes them, and what a search finds.
begin;
\ir 000_helpers.sql
select plan(24);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.documents (path, content, tags, metadata) values ('notes/plan.md', 'The quick brown fox plans a release', '{plan}', '{"by": "ada"}') returning id as plan_id \gset
insert into public.documents (path, content, project_id) values ('notes/merger.md', 'The secret merger of the fox', :'secret') returning id as hidden_id \gset
select tests.make_key(tests.org('ada'), '["skills:write"]') as key \gset

-- ---- unauthenticated callers, non-members, keys and colleagues first
select tests.act_as_anon();
select throws_ok('select * from public.documents', '42501', null, 'anon reads nothing');
select throws_ok($$select public.search_documents('fox')$$, '42501', null, 'anon finds nothing');
select tests.act_as('bob');
select is_empty('select 1 from public.documents', 'a non-member reads nothing');
select is_empty($$select 1 from public.search_documents('fox')$$, 'a non-member finds nothing');
select throws_ok($$insert into public.documents (org_id, path) values (tests.org('ada'), 'x')$$, '42501', null, 'a non-member writes nothing');
select is(tests.changed($$update public.documents set content = 'x'$$), 0::bigint, 'and changes nothing');
select tests.act_as_key(:'key', tests.org('ada'));
select is_empty('select 1 from public.documents', 'a key without files:read reads nothing');
select tests.refuses($$select public.search_documents('fox')$$, 'permission_denied', 'and searches nothing');
select tests.act_as('vic', tests.org('ada'));
select results_eq('select path from public.documents', array['notes/plan.md'], 'a private project hides its documents');
select results_eq($$select path from public.search_documents('fox')$$, array['notes/plan.md'], 'in searches, too');
select throws_ok($$insert into public.documents (path) values ('x')$$, '42501', null, 'a viewer writes nothing');
select is(tests.changed('delete from public.documents'), 0::bigint, 'and deletes nothing');
select tests.act_as('mem', tests.org('ada'));
select throws_ok(format('insert into public.documents (path, project_id) values (%L, %L)', 'y', :'secret'), '42501', null, 'a colleague writes nothing in a hidden project');
select is(tests.changed($$insert into public.documents (path, content) values ('notes/log.md', 'A slow fox')$$), 1::bigint, 'a member writes');

-- ---- search
select tests.act_as('ada');
select results_eq($$select path from public.search_documents('"brown fox"')$$, array['notes/plan.md'], 'words together');
select results_eq($$select path from public.search_documents('fox -merger', path => 'notes/') order by 1$$, array['notes/log.md', 'notes/plan.md'], 'without a word');
select results_eq($$select path, metadata from public.search_documents(tags => '{plan}')$$, $$values ('notes/plan.md', '{"by": "ada"}'::jsonb)$$, 'by tag');
select results_eq(format('select path from public.search_documents(project_id => %L)', :'secret'), array['notes/merger.md'], 'of a project');
select ok((select excerpt like '%<b>fox</b>%' from public.search_documents('merger fox')), 'with an excerpt');
select tests.refuses($$select public.search_documents('x', n => 101)$$, 'invalid_input', 'too many');
select throws_ok($$insert into public.documents (path) values ('notes/plan.md')$$, '23505', null, 'a path is unique');
select throws_ok(format('insert into public.documents (path) values (%L)', p.path), '23514', null, 'refused: ' || p.path) from unnest(array['../x', '/x']) as p (path);
delete from public.projects where id = :'secret';
select is_empty(format('select 1 from public.documents where id = %L', :'hidden_id'), 'a document goes with its project');

select * from finish();
rollback;
