-- What is indexed, and files for searches outside of the database: who sees which, what they cost, and where a page ends.
begin;
\ir 000_helpers.sql
select plan(27);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic');
select tests.join_org('vic', tests.org('ada'), 'viewer');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');

select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.repositories (clone_url) values ('https://github.com/acme/app') returning id as app \gset
insert into public.repositories (clone_url, project_id) values ('https://github.com/acme/hidden', :'secret') returning id as hidden \gset
select tests.make_key(tests.org('ada'), '["skills:write"]', name => 'other') as other_key \gset

select tests.act_as_superuser();
create function tests.index_file(repository uuid, path text, content text) returns void language sql as $$
  insert into public.repository_branches (org_id, repository_id, name, commit_sha, indexing_seq)
  values (tests.org('ada'), repository, 'main', repeat('1', 40), 0) on conflict do nothing;
  with blob as (
    insert into private.code_blobs (organization, oid, bytes, lines, language, content)
    values (tests.org('ada'), encode(sha256(convert_to(content, 'UTF8')), 'hex'), octet_length(content), 1, 'rust', content)
    returning id
  )
  insert into private.code_tree_entries (organization, branch_id, path, blob_id, mode)
  select tests.org('ada'), b.id, path, blob.id, 33188
  from blob, public.repository_branches as b where b.repository_id = index_file.repository;
$$;
select tests.index_file(:'app', 'src/a.rs', 'fn parse_one() {}'), tests.index_file(:'app', 'src/b.rs', 'fn PARSE_two() => {}'),
  tests.index_file(:'app', 'lib/c.rs', 'struct Other;'), tests.index_file(:'app', 'src/large.rs', repeat('parse_large ', 100000)),
  tests.index_file(:'hidden', 'src/secret.rs', 'fn parse_secret() {}');
create function tests.paths(answer jsonb) returns text language sql as $$
  select string_agg(f ->> 'path', ' ' order by n) from jsonb_array_elements(answer -> 'files') with ordinality as e (f, n)
$$;
grant execute on function tests.paths(jsonb) to public;

-- ---- unauthenticated callers, non-members, colleagues and keys first
select tests.act_as_anon();
select throws_ok('select public.code_candidates()', '42501', null, 'anon gets no files');
select throws_ok('select public.code_overview()', '42501', null, 'anon gets no overview');
select tests.act_as('bob');
select is(public.code_candidates() -> 'files', '[]', 'a non-member gets no files of others');
select is(public.code_overview() -> 'repositories', '[]', 'nor their repositories');
select is(public.code_overview() -> 'languages', '{}', 'nor their languages');
select tests.refuses(format('select public.code_candidates(repository_id => %L)', :'app'), 'not_found', 'a repository of others is not_found');
select tests.refuses(format('select public.code_overview(%L)', :'app'), 'not_found', 'and has no overview');
select tests.act_as_key(:'other_key', tests.org('ada'));
select tests.refuses('select public.code_candidates()', 'permission_denied', 'a key without repositories:read');
select tests.refuses('select public.code_overview()', 'permission_denied', 'gets no overview either');
select tests.act_as('vic', tests.org('ada'));
select is(tests.paths(public.code_candidates()), 'src/a.rs src/b.rs lib/c.rs', 'a colleague gets no file of a private project, and nobody a large one');
select is(tests.paths(public.code_candidates('[["secret"]]')), null, 'nor by its literal');
select tests.refuses(format('select public.code_candidates(repository_id => %L)', :'hidden'), 'not_found', 'nor by its id');
select is(public.code_overview() #> '{repositories,0,name}', '"acme/app"', 'the overview has what the colleague sees');
select is(jsonb_array_length(public.code_overview() -> 'repositories'), 1, 'and nothing else');

-- ---- members
select tests.act_as('ada');
select is(tests.paths(public.code_candidates('[["parse_"]]')), 'src/a.rs src/b.rs src/secret.rs', 'files that have a literal, in any case');
select is(tests.paths(public.code_candidates('[["parse_one", "other"], [" {}", "struct"]]')), 'src/a.rs lib/c.rs', 'one of each list');
select is(tests.paths(public.code_candidates('[["=> {"]]')), 'src/b.rs', 'punctuation counts');
select is(tests.paths(public.code_candidates(path => 'lib/')), 'lib/c.rs', 'path is a prefix');
select is(tests.paths(public.code_candidates(languages => '{python}')), null, 'only the languages');
select is(public.code_overview(:'app') -> 'languages', '{"rust": 4}', 'files of each language');

-- ---- pages
select public.code_candidates(repository_id => :'app', max_bytes => 1) as page \gset
select is(tests.paths(:'page'), 'src/a.rs', 'a page has one file at least');
select public.code_candidates(repository_id => :'app', max_bytes => 1, after => :'page'::jsonb ->> 'next') as page \gset
select is(tests.paths(:'page'), 'src/b.rs', 'the next page begins behind it');
select public.code_candidates(repository_id => :'app', after => :'page'::jsonb ->> 'next') as page \gset
select is(:'page'::jsonb ->> 'next', null, 'the last page has no next one');
select tests.refuses($$select public.code_candidates(after => 'nonsense')$$, 'invalid_input', 'a cursor of nobody');
select tests.refuses($$select public.code_candidates('[["ab"]]')$$, 'invalid_input', 'a literal that the index has no keys of');
select tests.refuses($$select public.code_candidates('{"a": 1}')$$, 'invalid_input', 'literals that are no lists');

-- ---- what it costs
select tests.act_as_superuser();
select ok(tests.used(tests.org('ada'), 'code_searches') >= 10, 'each page counts');

select * from finish();
rollback;
