-- Search in the index of repositories: who finds what, in which order, and which edges hold when.
begin;
\ir 000_helpers.sql
select plan(60);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic');
select tests.join_org('vic', tests.org('ada'), 'viewer');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
-- A file with its symbols as "kind Parent.name line", its references as "kind in name line", its imports as "module name".
create function tests.blob(content text, language text, symbols text[] default '{}', refs text[] default '{}', imports text[] default '{}') returns jsonb language sql as $$
  select jsonb_build_object(
    'oid', encode(sha256(convert_to(content, 'UTF8')), 'hex'), 'bytes', octet_length(content), 'lines', 1 + regexp_count(content, E'\n'), 'language', language, 'content', content,
    'symbols', (select coalesce(jsonb_agg(jsonb_build_object('ordinal', n - 1, 'kind', split_part(s, ' ', 1), 'name', split_part(split_part(s, ' ', 2), '.', -1),
      'parent', (select p.n - 1 from unnest(symbols) with ordinality as p (s, n) where split_part(v.s, ' ', 2) like split_part(p.s, ' ', 2) || '.%'),
      'exported', true, 'start_line', n, 'start_column', 0, 'end_line', n, 'end_column', 9, 'name_line', n, 'name_column', 0)), '[]') from unnest(symbols) with ordinality as v (s, n)),
    'references', (select coalesce(jsonb_agg(jsonb_build_object('kind', split_part(s, ' ', 1), 'symbol', split_part(s, ' ', 2)::integer, 'name', split_part(split_part(s, ' ', 3), '.', -1),
      'qualifier', nullif(left(split_part(s, ' ', 3), -1 - length(split_part(split_part(s, ' ', 3), '.', -1))), ''), 'line', n, 'column', 0)), '[]') from unnest(refs) with ordinality as v (s, n)),
    'imports', (select coalesce(jsonb_agg(jsonb_build_object('module', split_part(s, ' ', 1), 'name', split_part(s, ' ', 2), 'line', 1)), '[]') from unnest(imports) as v (s))
  )
$$;
create function tests.index_tree(repository uuid, branch text, commit_sha text, paths text[], blobs jsonb[]) returns text language plpgsql security definer as $$
declare
  indexing public.indexing_jobs;
  held uuid;
  answer text;
begin
  select (private.code_enqueue(r, branch, 'manual')).* into indexing from public.repositories as r where r.id = repository;
  select c.id into held from private.jobs_claim('w', '1 minute', 1, '{code.index}') as c;
  perform private.code_index_begin('w', held, 1);
  perform private.code_index_put('w', held, 1, to_jsonb(blobs));
  perform private.code_index_stage('w', held, 1, true, (select jsonb_agg(jsonb_build_object('path', p.path, 'oid', p.blob ->> 'oid', 'mode', 33188)) from unnest(paths, blobs) as p (path, blob)));
  select private.code_index_commit('w', held, 1, commit_sha, now()) into answer;
  return answer;
end
$$;

select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.repositories (clone_url, extra_branches) values ('https://github.com/acme/app', '{next}') returning id as app \gset
insert into public.repositories (clone_url, project_id) values ('https://github.com/acme/merger', :'secret') returning id as merger \gset
select tests.make_key(tests.org('ada'), '["skills:write"]', name => 'other') as other_key \gset

select tests.act_as_superuser();
select tests.blob(E'pub fn parse_config() {}\npub struct HttpServer;\nfn findUserById() {}\n', 'rust', '{"function parse_config 1","struct HttpServer 2","function HttpServer.run 3","function findUserById 4"}', '{"call 3 parse_config"}') as lib \gset
select tests.blob(E'use crate::lib::parse_config;\nfn main() { parse_config(); x => {y} }\n', 'rust', '{"function main 1"}', '{"call 0 parse_config","call 0 HttpServer.run"}', '{"crate::lib parse_config"}') as main \gset
select tests.blob(E'def parse_config(): pass\ndef caller(): parse_config()\n', 'python', '{"function parse_config 1","function caller 2"}', '{"call 1 parse_config"}') as tool \gset
select tests.blob(E'fn secret_parse_config() { "needle in the haystack" }\n', 'rust', '{"function secret_parse_config 1"}') as hidden \gset
select is(tests.index_tree(:'app', 'main', repeat('1', 40), '{src/lib.rs,src/main.rs,tools/tool.py}', array[:'lib', :'main', :'tool']::jsonb[]), 'succeeded', 'a tree is indexed');
select is(tests.index_tree(:'merger', 'main', repeat('2', 40), '{src/secret.rs}', array[:'hidden']::jsonb[]), 'succeeded', 'and one of a private project');

-- ---- unauthenticated callers, non-members, colleagues and keys first
select tests.act_as_anon();
select throws_ok(q, '42501', null, 'anon: ' || q) from unnest(array[
  $$select public.search_symbols('parse')$$, $$select public.search_code('parse')$$, $$select public.symbol_graph('parse_config')$$,
  format('select public.list_code_files(%L)', :'app'), format('select public.read_code_file(%L, %L)', :'app', 'src/lib.rs'), format('select public.list_file_symbols(%L, %L)', :'app', 'src/lib.rs')
]) as q;
select tests.act_as('bob');
select is_empty($$select 1 from public.search_symbols('parse')$$, 'a non-member finds nothing of others');
select is_empty($$select 1 from public.search_code('parse')$$, 'nor in their files');
select tests.refuses(format($$select public.search_symbols('parse', repository_id => %L)$$, :'app'), 'not_found', 'a repository of others is not_found');
select tests.refuses(format($$select public.search_code('parse', repository_id => %L)$$, :'app'), 'not_found', 'in files, too');
select tests.refuses(format($$select public.symbol_graph('parse_config', repository_id => %L)$$, :'app'), 'not_found', 'in edges, too');
select tests.refuses(format('select public.list_code_files(%L)', :'app'), 'not_found', 'a non-member lists nothing');
select tests.refuses(format('select public.read_code_file(%L, %L)', :'app', 'src/lib.rs'), 'not_found', 'and reads nothing');
select tests.refuses(format('select public.list_file_symbols(%L, %L)', :'app', 'src/lib.rs'), 'not_found', 'no symbols either');
select tests.act_as('vic', tests.org('ada'));
select is_empty($$select 1 from public.search_symbols('secret_parse_config')$$, 'a private project hides its symbols');
select is_empty($$select 1 from public.search_code('needle in the')$$, 'and its files');
select tests.refuses(format('select public.read_code_file(%L, %L)', :'merger', 'src/secret.rs'), 'not_found', 'its files are not_found');
select tests.refuses(format($$select public.search_code('needle', repository_id => %L)$$, :'merger'), 'not_found', 'its repository, too');
select tests.act_as_key(:'other_key', tests.org('ada'));
select tests.refuses($$select public.search_symbols('parse')$$, 'permission_denied', 'a key without repositories:read searches nothing');
select tests.refuses($$select public.search_code('parse')$$, 'permission_denied', 'nor files');
select tests.refuses(format('select public.read_code_file(%L, %L)', :'app', 'src/lib.rs'), 'not_found', 'and reads nothing');

-- ---- symbols: exact, prefix, word, infix; filters; a floor
select tests.act_as('vic', tests.org('ada'));
select results_eq($$select match, path, language from public.search_symbols('PARSE_config', repository_id => null) order by path$$, $$values ('exact', 'src/lib.rs', 'rust'), ('exact', 'tools/tool.py', 'python')$$, 'exact, in any case');
select results_eq($$select name, match from public.search_symbols('find')$$, $$values ('findUserById', 'prefix')$$, 'a prefix');
select results_eq($$select name, match from public.search_symbols('user')$$, $$values ('findUserById', 'word')$$, 'a word');
select results_eq($$select name, match from public.search_symbols('serbyi')$$, $$values ('findUserById', 'infix')$$, 'a part');
select results_eq($$select name, match from public.search_symbols('by')$$, $$values ('findUserById', 'word')$$, 'a word of two letters');
select is_empty($$select 1 from public.search_symbols('zzzz')$$, 'nonsense finds nothing');
select is_empty($$select 1 from public.search_symbols('serbyi', min_score => 0.5)$$, 'nothing below the floor');
select results_eq($$select name, parent, kind from public.search_symbols('run', kinds => '{function}')$$, $$values ('run', 'HttpServer', 'function')$$, 'with its parent');
select is_empty($$select 1 from public.search_symbols('run', kinds => '{class}')$$, 'of a kind');
select results_eq($$select path from public.search_symbols('parse_config', languages => '{python}')$$, array['tools/tool.py'], 'of a language');
select results_eq($$select path from public.search_symbols('parse_config', path => 'src/')$$, array['src/lib.rs'], 'below a path');
select is_empty($$select 1 from public.search_symbols('parse_config', branch => 'next')$$, 'a branch that is not indexed');
select tests.refuses($$select public.search_symbols('')$$, 'invalid_input', 'nothing to search for');
select tests.refuses($$select public.search_symbols('x', n => 201)$$, 'invalid_input', 'too many');

-- ---- a name that is common elsewhere
select tests.act_as_superuser();
insert into private.code_symbols (organization, blob_id, ordinal, name, kind, start_line, start_column, end_line, end_column, name_line, name_column)
select organization, id, n, 'findUserById', 'function', 1, 0, 1, 1, 1, 0 from private.code_blobs, generate_series(1000, 1600) as n where content like '%needle in the haystack%';
select tests.act_as('vic', tests.org('ada'));
select results_eq($$select path from public.search_symbols('findUserById')$$, array['src/lib.rs'], 'symbols that the caller does not see take no place of others');

-- ---- text
select results_eq($$select path, line, "column", text, before, after from public.search_code(' => {Y', context => 1)$$, $$values ('src/main.rs', 2, 29, 'fn main() { parse_config(); x => {y} }', array['use crate::lib::parse_config;'], '{}'::text[])$$, 'marks, with context');
select is_empty($$select 1 from public.search_code(' => {Y', match_case => true)$$, 'with case');
select results_eq($$select count(*) from public.search_code('parse_con')$$, array[5::bigint], 'each line once');
select is_empty($$select 1 from public.search_code('parse_con', whole_word => true)$$, 'whole words');
select tests.refuses($$select public.search_code('ab')$$, 'invalid_input', 'too short');
select is((public.read_code_file(:'app', 'src/main.rs', start_line => 2, end_line => 2)).content, 'fn main() { parse_config(); x => {y} }', 'lines of a file');
select results_eq(format('select path from public.list_code_files(%L, path => %L, after_path => %L)', :'app', 'src/', 'src/lib.rs'), array['src/main.rs'], 'pages of files');
select results_eq(format('select name from public.list_file_symbols(%L, %L)', :'app', 'src/lib.rs'), array['parse_config', 'HttpServer', 'run', 'findUserById'], 'the outline of a file');
select ok(tests.used(tests.org('ada'), 'code_searches') >= 15, 'searches are counted');
select set_config('synchronous_commit', 'on', true), set_config('request.path', '/rpc/of_somebody', true);
select count(*) as found from public.search_symbols('zzzz') \gset
select is(current_setting('synchronous_commit'), 'on', 'a search in a function of somebody''s own waits for the disk');
select set_config('request.path', '/rpc/search_symbols', true);
select count(*) as found from public.search_symbols('zzzz') \gset
select is(current_setting('synchronous_commit'), 'off', 'a request that only searches does not');
select set_config('synchronous_commit', 'on', true);

-- ---- edges: same language, how they were found, and when they held
select results_eq(
  $$select source_path, source_symbol, resolution from public.symbol_graph('parse_config', path => 'src/') order by 1$$,
  $$values ('src/lib.rs', 'findUserById', 'same_file'), ('src/main.rs', 'main', 'import')$$, 'callers, and none of another language'
);
select results_eq(
  $$select target_symbol, resolution from public.symbol_graph('main', direction => 'callees') order by 1$$,
  $$values ('HttpServer.run', 'exact'), ('parse_config', 'import')$$, 'callees'
);
select results_eq($$select source_symbol from public.symbol_graph('HttpServer.run')$$, array['main'], 'by its parent');
select tests.act_as_superuser();
select tests.blob(E'fn main() {}\n', 'rust', '{"function main 1"}') as quiet \gset
select is(tests.index_tree(:'app', 'main', repeat('3', 40), '{src/lib.rs,src/main.rs,tools/tool.py}', array[:'lib', :'quiet', :'tool']::jsonb[]), 'succeeded', 'a commit without the calls');
select tests.act_as('vic', tests.org('ada'));
select results_eq($$select source_symbol from public.symbol_graph('parse_config', path => 'src/')$$, array['findUserById'], 'they hold no more');
select results_eq(
  $$select source_symbol, from_commit = repeat('1', 40), to_commit = repeat('3', 40) from public.symbol_graph('parse_config', path => 'src/', at_commit => '1111111') order by 1$$,
  $$values ('findUserById', true, null::boolean), ('main', true, true)$$, 'they held at the commit before'
);
-- ---- edges: many namesakes, lines that move, names with a dot
select tests.act_as_superuser();
select tests.blob('many', 'java', s.symbols, s.refs) as many from (
  select array_agg(x.symbol order by n, x.k) as symbols, array_agg(x.ref order by n, x.k) filter (where x.k = 2) || array['call 1 A7.f'] as refs
  from generate_series(1, 300) as n cross join lateral (values (1, format('class A%s %s', n, n), null), (2, format('method A%s.f %s', n, n), format('call %s f', 2 * n - 1))) as x (k, symbol, ref)
) as s \gset
select tests.blob('one', 'go', '{"struct Router 1","method Router.go 2","function serve 3"}', '{"call 2 go"}') as one \gset
select tests.blob('one below', 'go', '{"struct Router 1","method Router.go 2","function serve 3"}', '{"call 0 x","call 0 y","call 2 go"}') as below \gset
select is(tests.index_tree(:'app', 'main', repeat('4', 40), '{A.java,router.go}', array[:'many', :'one']::jsonb[]), 'succeeded', 'a file of namesakes');
select results_eq(
  $$select source_symbol::text collate "default", target_symbol::text collate "default", resolution from private.code_edges where target_path = 'A.java' collate "C"$$, $$values ('A1.f', 'A7.f', 'exact')$$,
  'has the edge that names its target, and not 90,000 others'
);
select is(tests.index_tree(:'app', 'main', repeat('5', 40), '{A.java,router.go}', array[:'many', :'below']::jsonb[]), 'succeeded', 'a file with lines added above');
select results_eq(
  $$select source_symbol, line, from_commit from public.symbol_graph('Router.go')$$, $$values ('serve', 3, repeat('4', 40))$$, 'an edge that stays has its new line'
) from (select tests.act_as('vic', tests.org('ada'))) as v;
select tests.refuses($$select public.symbol_graph('x', depth => 7)$$, 'invalid_input', 'too deep');

select * from finish();
rollback;
