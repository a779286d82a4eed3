-- The index of repositories: who asks for it and sees it, how jobs run, and what the indexer may do.
begin;
\ir 000_helpers.sql
select plan(94);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.repositories (clone_url) values ('https://github.com/acme/app') returning id as app \gset
insert into public.repositories (clone_url, project_id) values ('https://github.com/acme/merger', :'secret') returning id as merger \gset
select tests.make_key(tests.org('ada'), '["skills:write"]', name => 'other') as other_key \gset
select tests.make_key(tests.org('ada'), '["repositories:read", "skills:write"]', name => 'reader') as reader_key \gset
select id as hidden_job from public.index_repository(:'merger') \gset

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.' || t.name, '42501', null, 'anon reads no ' || t.name)
from unnest(array['repository_branches', 'indexing_jobs', 'indexing_job_events']) as t (name);
select throws_ok(format('select public.index_repository(%L)', :'app'), '42501', null, 'anon indexes nothing');
select tests.act_as('bob');
select is_empty('select id from public.' || t.name, 'a non-member sees no ' || t.name)
from unnest(array['repository_branches', 'indexing_jobs', 'indexing_job_events']) as t (name);
select tests.refuses(format('select public.index_repository(%L)', :'app'), 'not_found', 'a non-member indexes nothing');
select tests.refuses(format('select public.cancel_indexing(%L)', :'hidden_job'), 'not_found', 'and cancels nothing');
select tests.refuses(format('select public.retry_indexing(%L)', gen_random_uuid()), 'not_found', 'as a job that does not exist');

-- ---- members without the permission, keys, colleagues outside a private project
select tests.act_as('vic', tests.org('ada'));
select is_empty('select id from public.indexing_jobs', 'a private project hides the jobs of its repositories');
select is_empty('select id from public.indexing_job_events', 'and their events');
select tests.refuses(format('select public.index_repository(%L)', :'merger'), 'not_found', 'a hidden repository is not_found');
select tests.refuses(format('select public.index_repository(%L)', :'app'), 'permission_denied', 'a viewer indexes nothing');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.index_repository(%L)', :'app'), 'permission_denied', 'nor does a member: repositories:write is the owner''s');
select tests.refuses(format('select public.cancel_indexing(%L)', :'hidden_job'), 'not_found', 'a hidden job is not_found');
select throws_ok($$insert into public.indexing_jobs (repository_id, branch, trigger) select id, 'main', 'manual' from public.repositories$$, '42501', null, 'nobody writes jobs');
select throws_ok('delete from public.repository_branches', '42501', null, 'nor branches');
select tests.act_as_key(:'other_key', tests.org('ada'));
select is_empty('select id from public.indexing_jobs', 'a key without repositories:read sees nothing');
select tests.refuses(format('select public.index_repository(%L)', :'app'), 'not_found', 'and indexes nothing');
select tests.act_as_key(:'reader_key', tests.org('ada'));
select tests.refuses(format('select public.index_repository(%L)', :'app'), 'permission_denied', 'a key that reads indexes nothing');

-- ---- an owner asks; a request for a branch that waits joins it
select tests.act_as('ada');
select id as job, queue_job_id as queued from public.index_repository(:'app') \gset
select is((public.index_repository(:'app')).id, :'job'::uuid, 'a second request joins the first');
select results_eq(
  format('select branch, trigger, status, phase, created_by from public.indexing_jobs where id = %L', :'job'),
  $$select 'main', 'manual', 'queued', null::text, tests.id('ada')$$, 'the default branch, queued'
);
select is((select status from public.repositories where id = :'app'), 'indexing', 'the repository says so');
select tests.refuses(format('select public.index_repository(%L, %L)', :'app', 'other'), 'invalid_input', 'a branch that is not indexed is refused');
select tests.refuses(format('select public.retry_indexing(%L)', :'job'), 'conflict', 'a job that waits is not retried');
update public.repositories set extra_branches = '{release/*}' where id = :'app';
select is((public.index_repository(:'app', 'release/1')).branch, 'release/1', 'a pattern names further branches');
select throws_ok(format('update public.repositories set extra_branches = %L where id = %L', b.list, :'app'), '23514', null, 'refused: ' || b.list)
from unnest(array['{"a b"}', '{../x}', '{-x}', '{a..b}', '{""}']) as b (list);
select throws_ok(format('update public.repositories set include_paths = %L where id = %L', '{../etc}', :'app'), '23514', null, 'a path that leaves the repository is refused');

-- ---- the indexer: its kind only, its lease only
select tests.act_as_superuser();
select private.jobs_enqueue(tests.org('ada'), 'other.kind') as foreign_job \gset
insert into private.job_limits (org_id, concurrency_key, max_running) values (tests.org('ada'), 'code', 3);
select tests.act_as_indexer();
select throws_ok('select * from public.indexing_jobs', '42501', null, 'the indexer reads no table');
select throws_ok('select * from private.code_blobs', '42501', null, 'not even those that it writes');
select is_empty($$select * from private.jobs_claim('w1', '1 minute', 10, '{other.kind}')$$, 'it claims no job of another kind');
select count(*) as claimed, string_agg(distinct kind, ' ') as kinds, max(id::text) filter (where payload ->> 'indexing_job_id' = :'hidden_job') as hidden_queued
from private.jobs_claim('w1', '1 minute', 10) \gset
select is(:'kinds'::text, 'code.index', 'without kinds it claims its own');
select is(:claimed, 3, 'all of them');
select is(private.code_index_begin('w2', :'queued', 1), null, 'another worker begins nothing');
select is(private.code_index_begin('w1', :'queued', 2), null, 'nor another attempt');
select is(private.code_index_progress('w1', :'queued', 1, 'parsing', 0, 1), false, 'a job that has not begun does not go on');
select private.code_index_begin('w1', :'queued', 1) as begun \gset
select is(:'begun'::jsonb - 'limits' - 'indexing_job_id' - 'org_id' - 'repository_id', '{
  "provider": "github", "clone_url": "https://github.com/acme/app.git", "branch": "main", "base_commit": null, "include_paths": [],
  "exclude_paths": [], "token": null, "token_host": null
}', 'what to fetch');
select ok((:'begun'::jsonb #>> '{limits,repository_bytes}')::bigint > 0, 'with its limits');
select is(private.code_index_progress('w1', :'queued', 1, 'parsing', 1, 2), true, 'it goes on');
select is(private.code_index_missing('w1', :'queued', 1, array[repeat('a', 40), repeat('b', 40)]), array[repeat('a', 40), repeat('b', 40)], 'nothing is stored yet');
select is(private.code_index_missing('w2', :'queued', 1, array[repeat('a', 40)]), null, 'another worker is not told');
select jsonb_build_array(
  jsonb_build_object(
    'oid', repeat('a', 40), 'bytes', 30, 'lines', 2, 'language', 'rust', 'content', E'fn parse() {}\nfn run() { parse() }\n',
    'symbols', '[{"ordinal": 0, "name": "parse", "kind": "function", "start_line": 1, "start_column": 0, "end_line": 1, "end_column": 13, "name_line": 1, "name_column": 3},
                 {"ordinal": 1, "name": "run", "kind": "function", "start_line": 2, "start_column": 0, "end_line": 2, "end_column": 20, "name_line": 2, "name_column": 3}]'::jsonb,
    'references', '[{"symbol": 1, "name": "parse", "kind": "call", "line": 2, "column": 11}]'::jsonb, 'imports', '[]'::jsonb
  ),
  jsonb_build_object('oid', repeat('b', 40), 'bytes', 1000, 'lines', 0, 'skipped', 'binary', 'content', null)
) as blobs \gset
select is(private.code_index_put('w1', :'queued', 1, :'blobs'), true, 'blobs are stored');
select is(private.code_index_put('w1', :'queued', 1, :'blobs'), true, 'as often as they are sent');
select is(private.code_index_missing('w1', :'queued', 1, array[repeat('a', 40)]), '{}', 'now it is there');
select is(private.code_index_stage('w1', :'queued', 1, true, jsonb_build_array(
  jsonb_build_object('path', 'src/lib.rs', 'oid', repeat('a', 40), 'mode', 33188), jsonb_build_object('path', 'logo.png', 'oid', repeat('b', 40), 'mode', 33188)
)), true, 'files are staged');

-- ---- while it runs, the next request waits; a commit moves the branch
select tests.act_as('ada');
select id as next_job, queue_job_id as next_queued from public.index_repository(:'app') \gset
select isnt(:'next_job'::uuid, :'job'::uuid, 'a request for a branch that runs waits');
select is((select count(*) from public.repository_branches), 0::bigint, 'nothing is to be seen yet');
select tests.act_as_superuser();
select is((select count(*) from private.code_symbols where organization = tests.org('ada')), 2::bigint, 'each symbol is stored once');
select tests.act_as_indexer();
select is_empty($$select * from private.jobs_claim('w2', '1 minute', 10)$$, 'no more jobs of an organization run at a time than its limit');
select is(private.code_index_commit('w2', :'queued', 1, repeat('1', 40), now()), null, 'another worker commits nothing');
select is(private.code_index_commit('w1', :'queued', 1, repeat('1', 40), '2026-01-01'), 'succeeded', 'the branch moves');
select is(private.code_index_commit('w1', :'queued', 1, repeat('1', 40), '2026-01-01'), null, 'once');
select tests.act_as('vic', tests.org('ada'));
select results_eq(
  'select name, commit_sha, files, bytes from public.repository_branches', $$values ('main', repeat('1', 40), 2, 1030::bigint)$$, 'a viewer sees it'
);
select results_eq(
  format('select event from public.indexing_job_events where indexing_job_id = %L order by seq', :'job'),
  $$values ('queued'), ('fetching'), ('parsing'), ('succeeded')$$, 'and what happened'
);
select results_eq(
  format('select status, indexed_at is not null from public.repositories where id = %L', :'app'), $$values ('indexing', true)$$,
  'indexed, and to be indexed again'
);

-- ---- a difference to the base; a failure that is tried again; a newer one supersedes what waits
select tests.act_as_indexer();
select is((select count(*) from private.jobs_claim('w1', '1 minute', 10)), 1::bigint, 'the next one is free');
select is(private.code_index_begin('w1', :'next_queued', 1) ->> 'base_commit', repeat('1', 40), 'it begins at the former commit');
select is(private.code_index_fail('w1', :'next_queued', 1, 'fetch_failed', 'no answer', true), 'queued', 'a failure is tried again');
select tests.act_as('ada');
select results_eq(
  format('select status, phase, error_code from public.indexing_jobs where id = %L', :'next_job'), $$values ('running', 'waiting', 'fetch_failed')$$, 'it waits'
);
select id as newest, queue_job_id as newest_queued from public.index_repository(:'app') \gset
select tests.act_as_indexer();
select is((select count(*) from private.jobs_claim('w3', '1 minute', 10)), 1::bigint, 'a newer one need not wait for that');
select isnt(private.code_index_begin('w3', :'newest_queued', 1), null, 'it begins');
select is(private.code_index_stage('w3', :'newest_queued', 1, false, jsonb_build_array(
  jsonb_build_object('path', 'logo.png', 'oid', null, 'mode', 0), jsonb_build_object('path', 'src/parse.rs', 'oid', repeat('a', 40), 'mode', 33188)
)), true, 'a deletion and a copy');
select is(private.code_index_commit('w3', :'newest_queued', 1, repeat('2', 40), now()), 'succeeded', 'the branch moves again');
select tests.act_as('ada');
select is((select status from public.indexing_jobs where id = :'next_job'), 'superseded', 'what waited is superseded');
select results_eq('select commit_sha, files, bytes from public.repository_branches', $$values (repeat('2', 40), 2, 60::bigint)$$, 'two files, one content');

-- ---- cancel and retry; a branch that is gone
select (public.cancel_indexing(:'hidden_job')).cancel_requested as asked \gset
select ok(:'asked', 'a running job is asked to stop');
select tests.act_as_indexer();
select is(private.code_index_fail('w1', :'hidden_queued', 1, 'internal', null, true), 'cancelled', 'it stops');
select tests.act_as('ada');
select is((public.retry_indexing(:'hidden_job')).status, 'queued', 'a cancelled one is retried');
select tests.act_as_indexer();
select id as again from private.jobs_claim('w1', '1 minute', 1) \gset
select is(private.code_index_begin('w1', :'again', 1) ->> 'branch', 'main', 'it begins');
select is(private.code_index_fail('w1', :'again', 1, 'branch_not_found', 'no such branch', false), 'dead', 'a branch that is not there');
select tests.act_as('ada');
select results_eq(
  format('select status, last_error_code from public.repositories where id = %L', :'merger'), $$values ('failed', 'branch_not_found')$$, 'the repository says why'
);

-- ---- webhooks: a push of an indexed branch, once; other branches; renames, and none with a connection
select tests.act_as_superuser();
create function tests.delivers(event text, payload jsonb) returns text language sql security definer as $$
  insert into public.webhook_deliveries (org_id, repository_id, event, payload)
  select r.org_id, r.id, delivers.event, delivers.payload from public.repositories as r
  where r.org_id = tests.org('ada') and (r.clone_url like '%/acme/app%' or r.full_name = 'acme/moved');
  select string_agg(j.branch || ' ' || j.trigger, ', ' order by j.branch) from public.indexing_jobs as j where j.org_id = tests.org('ada') and j.status = 'queued' and j.trigger = 'push'
$$;
select private.code_end(j, 'cancelled') from public.indexing_jobs as j where j.status in ('queued', 'running');
select is(tests.delivers('push', '{"ref": "refs/heads/other"}'), null, 'a branch that is not indexed');
select is(tests.delivers('push', '{"ref": "refs/tags/v1"}'), null, 'a tag');
select is(tests.delivers('push', '{"ref": ["x"]}'), null, 'what is no push');
select is(tests.delivers('push', '{"ref": "refs/heads/main", "forced": true}'), 'main push', 'a push');
select is(tests.delivers('push', '{"ref": "refs/heads/main"}'), 'main push', 'the next one joins it');
select is(tests.delivers('create', '{"ref": "release/2", "ref_type": "branch"}'), 'main push, release/2 push', 'a new branch');
select is(tests.delivers('delete', '{"ref": "release/9", "ref_type": "tag"}'), 'main push, release/2 push', 'a deleted tag');
select is(tests.delivers('repository', '{"action": "renamed", "repository": {"full_name": "acme/moved"}}'), 'main push, release/2 push', 'a rename');
select is((select clone_url from public.repositories where id = :'app'), 'https://github.com/acme/moved.git', 'is followed');
select isnt(tests.delivers('repository', '{"action": "renamed", "repository": {"full_name": "../../evil"}}'), null, 'a name that is none');
select is((select clone_url from public.repositories where id = :'app'), 'https://github.com/acme/moved.git', 'is not');
insert into public.connections (org_id, provider, account_id, authorized_by) values (tests.org('ada'), 'github', '1', tests.id('ada')) returning id as connection \gset
select tests.act_as('vic', tests.org('ada'));
select is(tests.changed(format('update public.repositories set connection_id = %L where id = %L', :'connection', :'app')), 0::bigint, 'a viewer gives a repository no token');
select tests.act_as_superuser();
update public.memberships set role = 'owner' where user_id = tests.id('mem') and org_id = tests.org('ada');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('update public.repositories set connection_id = %L where id = %L', :'connection', :'app'), 'permission_denied', 'nor another owner that of a colleague');
select tests.act_as('ada');
update public.repositories set connection_id = :'connection' where id = :'app';
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('update public.repositories set clone_url = %L where id = %L', 'https://github.com/acme/other', :'app'), 'permission_denied', 'a colleague does not choose what the token reads');
select is(tests.changed(format('update public.repositories set connection_id = connection_id, clone_url = clone_url, exclude_paths = %L where id = %L', '{docs/**}', :'app')), 1::bigint, 'but changes the rest');
select tests.act_as_superuser();
select isnt(tests.delivers('repository', '{"action": "transferred", "repository": {"full_name": "evil/app"}}'), null, 'a transfer');
select is((select full_name from public.repositories where id = :'app'), 'acme/moved', 'does not move a token');
select tests.act_as('ada');

-- ---- deletion
delete from public.repositories where id = :'app';
select tests.act_as_superuser();
select is_empty(format('select 1 from private.code_tree_entries where organization = %L', tests.org('ada')), 'a repository takes its index with it');

select * from finish();
rollback;
