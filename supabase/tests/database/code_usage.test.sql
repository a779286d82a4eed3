-- What searches of code have used, by key and repository; and what the indexer does with tokens, packs and refusals.
begin;
\ir 000_helpers.sql
select plan(19);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('adm');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('adm', tests.org('ada'), 'admin');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.repositories (clone_url) values ('https://github.com/acme/app') returning id as app \gset
insert into public.repositories (clone_url, project_id) values ('https://github.com/acme/merger', :'secret') returning id as merger \gset
select tests.make_key(tests.org('ada'), '["repositories:read", "repositories:write"]') as key \gset
select count(*) from public.search_symbols('a', repository_id => :'app');
select count(*) from public.search_symbols('a', repository_id => :'merger');
select tests.act_as_key(:'key');
select count(*) from public.search_symbols('a', repository_id => :'app');
select count(*) from public.search_symbols('b', repository_id => :'app');

-- ---- who sees which use
select tests.act_as_anon();
select throws_ok('select * from public.token_usage', '42501', null, 'anon reads no use');
select tests.act_as('bob');
select is_empty(format('select 1 from public.token_usage where org_id = %L', tests.org('ada')), 'a non-member sees nothing');
select throws_ok('insert into public.token_usage (org_id) values (null)', '42501', null, 'and writes nothing');
select is_empty(format('select 1 from private.code_usage_of(%L)', tests.org('ada')), 'nor by the function behind it');
select tests.act_as_key(:'key');
select is_empty('select 1 from public.token_usage', 'a key without usage:read sees nothing');
select tests.act_as('ada');
select is((select array_agg((u.meter, u.api_key_id, u.repository_id, u.used)::text order by u.api_key_id nulls first, u.repository_id = :'merger') from public.token_usage as u
  where u.org_id = tests.org('ada')), array[
    format('(code_searches,,%s,1)', :'app'), format('(code_searches,,%s,1)', :'merger'), format('(code_searches,%s,%s,2)', :'key', :'app')
  ], 'an owner sees use by key and repository');
select is((select sum(u.used) from public.token_usage as u where u.org_id = tests.org('ada')), tests.used(tests.org('ada'), 'code_searches')::numeric, 'it is that of the ledger');
select is((select array_agg((u.value, u.used)::text order by u.used) from public.usage_by('repository', 'code_searches') as u),
  array[format('(%s,1)', :'merger'), format('(%s,3)', :'app')], 'usage_by() sums it by repository');
select tests.act_as('mem', tests.org('ada'));
select is((select array_agg((u.api_key_id, u.repository_id, u.used)::text order by u.used desc, u.repository_id nulls last) from public.token_usage as u where u.org_id = tests.org('ada')),
  array[format('(,%s,3)', :'app'), '(,,1)'], 'who lists no keys and does not see a project sees the sum');

-- ---- one way to match
select tests.act_as('ada');
select lives_ok($$select public.search_symbols('a', matches => '{exact,prefix}')$$, 'a search may name how names match');
select tests.refuses($$select public.search_symbols('a', matches => '{fuzzy}')$$, 'invalid_input', 'in ways that there are');
select tests.refuses($$select public.search_symbols('a', matches => '{exact,null}')$$, 'invalid_input', 'which null is none of');

-- ---- packs of repositories that are gone
select tests.act_as_superuser();
select is(private.code_index_known(array[:'app', gen_random_uuid(), null]::uuid[]), array[:'app']::uuid[], 'the indexer learns which repositories exist');
select is(private.code_index_known('{}'), '{}', 'of none, none');

-- ---- a token that is being refreshed costs no attempt
insert into public.connections (org_id, provider, account_id, authorized_by) values (tests.org('ada'), 'github', '1', tests.id('ada')) returning id as connection \gset
insert into private.connection_tokens (id, organization, provider, account_id, connection_id, access_token, refresh_token, expires_at)
select t.id, t.organization, 'github', '1', :'connection', (s.sealed).access_token, (s.sealed).access_token, kijko.now()
from (select gen_random_uuid() as id, tests.org('ada') as organization) as t
cross join lateral (
  select private.connections_seal(jsonb_populate_record(null::private.connection_tokens, jsonb_build_object('id', t.id, 'organization', t.organization, 'provider', 'github')), '{"access_token": "secret"}') as sealed
) as s;
update public.repositories set connection_id = :'connection' where id = :'app';
select (private.code_enqueue(r, 'main', 'manual')).queue_job_id as job from public.repositories as r where r.id = :'app' \gset
create function tests.begins(job uuid) returns jsonb language plpgsql as $$
begin
  update public.jobs set run_at = run_at - interval '1 year' where id = job;
  perform from private.jobs_claim('w', '1 minute', 100, '{code.index}');
  return private.code_index_begin('w', job, (select j.attempt from public.jobs as j where j.id = job));
end
$$;
select is(tests.begins(:'job'), null, 'nothing is fetched without the token');
select tests.begins(:'job') from generate_series(1, 6);
select is((select (j.status, j.attempt - j.uncounted_attempts)::text from public.jobs as j where j.id = :'job'), '(queued,0)', 'the job waits, and has no attempt less');
select is((select i.status from public.indexing_jobs as i where i.queue_job_id = :'job'), 'queued', 'and so does the indexing job');
update public.jobs set started_at = started_at - interval '11 minutes' where id = :'job';
select tests.begins(:'job');
select is((select j.attempt - j.uncounted_attempts from public.jobs as j where j.id = :'job'), 1, 'after ten minutes attempts count');
update private.connection_tokens set expires_at = kijko.now() + interval '1 hour' where connection_id = :'connection';
select is(tests.begins(:'job') ->> 'token', 'secret', 'with the token it goes on');

select * from finish();
rollback;
