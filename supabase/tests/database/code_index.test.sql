-- What keeps the index of a repository right: its limits, changes of the repository while a job runs, and pushes that come late.
begin;
\ir 000_helpers.sql
select plan(35);

select tests.sign_up('ada'), tests.sign_up('bob');
select tests.act_as('ada');
insert into public.repositories (clone_url, extra_branches) values ('https://github.com/acme/app', '{next}') returning id as app \gset
select tests.act_as_superuser();
create view tests.jobs as select * from public.indexing_jobs where org_id = tests.org('ada');
grant select on tests.jobs to authenticated;
-- An attempt that has begun: its job of the queue.
create function tests.begins(repository uuid, branch text default 'main') returns uuid language plpgsql as $$
declare
  wanted constant uuid := (select (private.code_enqueue(r, branch, 'manual')).queue_job_id from public.repositories as r where r.id = repository);
begin
  update public.jobs set run_at = run_at - interval '1 year' where id = wanted;
  perform from private.jobs_claim('w', '1 minute', 1, '{code.index}');
  perform private.code_index_begin('w', wanted, 1);
  return wanted;
end
$$;
create function tests.blob(letter text, bytes bigint, language text default null, skipped text default null) returns jsonb language sql as $$
  select jsonb_build_array(jsonb_build_object('oid', repeat(letter, 40), 'bytes', bytes, 'language', language, 'skipped', skipped, 'content', case when skipped is null then letter end))
$$;
create function tests.stages(job uuid, "full" boolean, path text, letter text) returns boolean language sql as $$
  select private.code_index_stage('w', job, 1, "full", jsonb_build_array(jsonb_build_object('path', path, 'oid', repeat(letter, 40), 'mode', 33188)))
$$;
create function tests.commits(job uuid, digit text) returns text language sql as $$ select private.code_index_commit('w', job, 1, repeat(digit, 40), now()) $$;
create function tests.tree(repository uuid) returns text language sql as $$
  select string_agg(t.path, ' ' order by t.path) from private.code_tree_entries as t join public.repository_branches as b on b.id = t.branch_id where b.repository_id = repository and b.name = 'main'
$$;

-- ---- one job of an organization at a time, so that a slow server holds up its own organization
select private.code_enqueue(r, b.name, 'manual') from public.repositories as r, unnest(array['main', 'next']) as b (name) where r.id = :'app';
select is((select count(*) from private.jobs_claim('w', '1 minute', 10, '{code.index}')), 1::bigint, 'of two branches one is indexed at a time');
select private.jobs_finish(j, 'cancelled', null, 'cancelled', null) from public.jobs as j where j.kind = 'code.index' and j.org_id = tests.org('ada');

-- ---- limits: what pushes add counts as what a first index has, and what no branch has counts, too
select tests.begins(:'app') as job \gset
select private.code_index_put('w', :'job', 1, tests.blob('a', 100 << 20));
select tests.stages(:'job', true, 'a', 'a');
select is(tests.commits(:'job', '1'), 'succeeded', 'a repository of 100 MiB');
select tests.begins(:'app') as job \gset
select private.code_index_put('w', :'job', 1, tests.blob('b', 100 << 20));
select tests.stages(:'job', false, 'b', 'b');
select is(tests.commits(:'job', '2'), 'failed', 'does not grow to 200 MiB by a push');
select results_eq($$select status, error_code from tests.jobs order by seq desc limit 1$$, $$values ('failed', 'repository_too_large')$$, 'which says why');
select is(tests.tree(:'app'), 'a', 'and leaves the index as it was');
select is((select bytes from private.code_usage where organization = tests.org('ada')), (200 << 20)::bigint, 'what is stored is counted');
select tests.begins(:'app') as job \gset
update private.code_usage set bytes = 510 << 20 where organization = tests.org('ada');
select tests.refuses(format($$select private.code_index_put('w', %L, 1, tests.blob('c', 10 << 20))$$, :'job'), 'quota_exceeded', 'beyond twice the plan nothing more is stored');
update private.code_usage set bytes = 200 << 20 where organization = tests.org('ada');
update private.code_blobs set used_at = now() - interval '2 days' where organization = tests.org('ada');
select private.code_purge();
select is((select bytes from private.code_usage where organization = tests.org('ada')), (100 << 20)::bigint, 'what is deleted is not');
update private.code_limits set files = 1 where plan = 'FREE';
select private.code_index_put('w', :'job', 1, tests.blob('c', 10));
select tests.stages(:'job', false, 'c', 'c');
select is(tests.commits(:'job', '2'), 'failed', 'nor to two files, where one is allowed');
select is((select error_code from tests.jobs order by seq desc limit 1), 'too_many_files', 'which says why');
update private.code_limits set files = 20000 where plan = 'FREE';

-- ---- what one path, plan or moment told of a blob is no verdict for others
select tests.begins(:'app') as job \gset
select private.code_index_put('w', :'job', 1, tests.blob('d', 10, skipped => 'generated') || tests.blob('e', 10) || tests.blob('f', 600000, skipped => 'too_large'));
select is(
  private.code_index_missing('w', :'job', 1, array[repeat('d', 40), repeat('e', 40), repeat('f', 40)], array['go', null, null], array[true, false, false]), '{}',
  'what is known as it is expected is not asked for'
);
select is(
  private.code_index_missing('w', :'job', 1, array[repeat('d', 40), repeat('e', 40), repeat('f', 40)], array['go', 'python', null], array[false, false, false]),
  array[repeat('d', 40), repeat('e', 40)], 'a vendored file elsewhere, and a script with an ending, are'
);
update private.code_limits set file_bytes = 1 << 20 where plan = 'FREE';
select is(private.code_index_missing('w', :'job', 1, array[repeat('f', 40)]), array[repeat('f', 40)], 'and a larger one within a larger plan');
select private.code_index_put('w', :'job', 1, tests.blob('d', 10, 'go') || tests.blob('e', 10, skipped => 'generated'));
select results_eq(
  $$select language, skipped, content from private.code_blobs where organization = tests.org('ada') and oid in (repeat('d', 40), repeat('e', 40)) order by oid$$,
  $$values ('go', null::text, 'd'), (null, null, 'e')$$, 'what tells more replaces what tells less, and never the other way round'
);

-- ---- a repository that is changed while a job runs
select tests.stages(:'job', false, 'd', 'd');
select tests.act_as('ada');
update public.repositories set exclude_paths = '{secrets/**}' where id = :'app';
select tests.act_as_superuser();
select is(private.code_index_progress('w', :'job', 1, 'parsing', 0, 1), false, 'other filters stop what runs');
select results_eq(
  $$select status, branch from tests.jobs order by seq desc limit 2$$, $$values ('queued', 'main'), ('cancelled', 'main')$$, 'and its branch is queued anew'
);
select tests.begins(:'app') as job \gset
select is((select base_commit_sha from public.indexing_jobs where queue_job_id = :'job'), null, 'to be read as a whole');
select is(tests.commits(:'job', '3'), 'succeeded', 'also when the filters leave nothing');
select is(tests.tree(:'app'), null, 'then nothing is to be found');
select tests.begins(:'app') as job \gset
select tests.stages(:'job', false, 'd', 'd');
select tests.act_as('ada');
update public.repositories set clone_url = 'https://github.com/acme/other' where id = :'app';
select tests.act_as_superuser();
select is(tests.commits(:'job', '4'), 'cancelled', 'a difference to another repository is not committed');
select is_empty(format('select 1 from public.repository_branches where repository_id = %L', :'app'), 'so nothing is indexed');
select is((select status from tests.jobs order by seq desc limit 1), 'queued', 'until the next job has run');
select tests.begins(:'app') as job \gset
update public.indexing_jobs set base_commit_sha = repeat('3', 40) where queue_job_id = :'job';
select tests.stages(:'job', false, 'd', 'd');
select tests.refuses(format($$select tests.commits(%L, '4')$$, :'job'), 'conflict', 'nor a difference to a branch that is gone');
update public.indexing_jobs set base_commit_sha = null where queue_job_id = :'job';
select is(tests.commits(:'job', '4'), 'succeeded', 'a whole one is');

select tests.begins(:'app') as job \gset
select private.jobs_complete('w', jsonb_build_array(jsonb_build_object('id', :'job', 'attempt', 1, 'result', '{}'::jsonb)));
select is((select status from tests.jobs where queue_job_id = :'job'), 'failed', 'a job that ends in the queue without a commit has failed');

-- ---- other branches
select tests.begins(:'app', 'next') as job \gset
select is(tests.commits(:'job', '5'), 'succeeded', 'a second branch');
select tests.act_as('ada');
update public.repositories set branch_override = 'stable', extra_branches = '{}' where id = :'app';
select is_empty('select 1 from public.repository_branches', 'branches that are not indexed any more lose their index');
select results_eq($$select branch, status from tests.jobs order by seq desc limit 1$$, $$values ('stable', 'queued')$$, 'and the new one is queued');
select tests.act_as_superuser();
select is((select status from public.repositories where id = :'app'), 'indexing', 'as the repository says');
select private.jobs_finish(j, 'cancelled', null, 'cancelled', null) from public.jobs as j where j.kind = 'code.index' and j.org_id = tests.org('ada') and j.status = 'queued';

-- ---- pushes after quiet weeks, and pushes that something is in the way of
update public.indexing_jobs set finished_at = kijko.now() - interval '31 days' where org_id = tests.org('ada');
select private.code_purge();
select is_empty('select 1 from tests.jobs', 'jobs are deleted');
create function tests.pushes() returns text language sql as $$
  insert into public.webhook_deliveries (org_id, repository_id, event, payload) select r.org_id, r.id, 'push', '{"ref": "refs/heads/stable"}' from public.repositories as r where r.org_id = tests.org('ada');
  select string_agg(j.branch || ' ' || j.trigger, ', ') from tests.jobs as j where j.status = 'queued'
$$;
select is(tests.pushes(), 'stable push', 'a push is followed all the same');
select private.jobs_finish(j, 'cancelled', null, 'cancelled', null) from public.jobs as j where j.kind = 'code.index' and j.org_id = tests.org('ada') and j.status = 'queued';
alter function private.code_enqueue(public.repositories, text, text) rename to code_enqueue_kept;
create function private.code_enqueue(repository public.repositories, branch text, trigger text) returns public.indexing_jobs language plpgsql as $$ begin raise lock_not_available; end $$;
select is(tests.pushes(), null, 'one that something is in the way of is kept');
drop function private.code_enqueue(public.repositories, text, text);
alter function private.code_enqueue_kept(public.repositories, text, text) rename to code_enqueue;
select ok(private.code_apply_pending() >= 1, 'and applied a minute later');
select results_eq($$select branch || ' ' || trigger from tests.jobs where status = 'queued'$$, array['stable push'], 'once');
select is_empty($$select 1 from private.code_pending_deliveries as p join public.webhook_deliveries as d on d.id = p.delivery_id where d.org_id = tests.org('ada')$$, 'only');

select * from finish();
rollback;
