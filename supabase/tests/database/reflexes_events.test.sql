-- Reflexes that events of the database and webhooks of repositories fire.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('new');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset
select tests.skill(tests.org('bob')) as bobs \gset
select kijko.set_limit(tests.org('ada'), m, 'lifetime', 100) from unnest(array['reflexes', 'members', 'repositories']) as m;

create function tests.deliveries(reflex uuid) returns table (status text, event text, depth integer, payload jsonb) language sql security definer as $$
  select d.status, d.event, d.depth, d.payload from public.reflex_deliveries as d where d.reflex_id = reflex order by d.depth, d.created_at
$$;

-- The one execution that waits is run to its end; the reflexes that it fires are processed.
create function tests.run_chain() returns integer language plpgsql security definer as $$
declare
  job record;
  runs integer := 0;
begin
  loop
    update public.jobs set run_at = now() - interval '1 year' where status = 'queued';
    select c.id, c.kind, c.attempt, c.org_id into job
    from private.jobs_claim('w', '1 minute', 1, array['execution', 'execution.echo', 'reflex_delivery']) as c;
    exit when not found;
    if job.kind = 'reflex_delivery' then
      perform private.reflexes_finish('w', job.id, job.attempt, '{"input": {"text": "x"}}');
    else
      perform private.executions_start('w', job.id);
      perform private.executions_fail('w', job.id, 'broken', 'for the test', false);
      runs := runs + case when job.org_id = tests.org('ada') then 1 else 0 end;
    end if;
    exit when runs > 20;
  end loop;
  return runs;
end
$$;

-- ---- an execution that ends
select tests.act_as('ada');
insert into public.reflexes (skill_id, name, source, event) values (:'skill', 'After', 'event', 'execution.finished') returning id as after, secret_prefix as prefix \gset
select is(:'prefix'::text, '', 'an event has no secret');
select is((select public.signing_secret(r) from public.reflexes as r where r.id = :'after'), null::text, 'and shows none');
select tests.refuses(format('select public.rotate_reflex_secret(%L)', :'after'), 'conflict', 'nor is it rotated');
select tests.act_as('bob');
insert into public.reflexes (skill_id, name, source, event) values (:'bobs', 'Spy', 'event', 'execution.finished') returning id as spy \gset

select tests.act_as('ada');
select id as execution from public.execute_skill(:'skill', '{"text": "x"}') \gset
select is(tests.run_chain(), 6, 'a chain of reflexes ends after five');
select results_eq(format('select status, depth from tests.deliveries(%L)', :'after'),
  $$values ('queued'::text, 1), ('queued', 2), ('queued', 3), ('queued', 4), ('queued', 5), ('refused', 6)$$, 'its last delivery is refused');
select is((select last_error_code from public.reflexes where id = :'after'), 'chain_too_deep', 'which shows on the reflex');
select is((select payload ->> 'id' from tests.deliveries(:'after') where depth = 1), :'execution', 'the payload names the execution');
select is((select payload ->> 'status' from tests.deliveries(:'after') where depth = 1), 'failed', 'and how it ended');
select results_eq('select depth from public.executions order by depth', 'select generate_series(0, 5)', 'executions know their depth');
select is((select count(*) from tests.deliveries(:'spy')), 0::bigint, 'another organization hears nothing');
select public.execute_skill(:'skill', '{"text": "x"}');
select tests.run_chain();
select is((select count(*) from tests.deliveries(:'after') where status = 'refused'), 1::bigint, 'the end of chains is reported once a day');
update public.reflexes set enabled = false where id = :'after';

-- ---- in a private project
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as secret \gset
insert into public.skills (project_id, name, prompt_template) values (:'secret', 'Hidden', 'Say') returning id as hidden \gset
insert into public.reflexes (skill_id, name, source, event) values (:'skill', 'Outside', 'event', 'execution.finished') returning id as outside \gset
insert into public.reflexes (skill_id, name, source, event, rate_per_minute) values (:'hidden', 'Inside', 'event', 'execution.finished', 1) returning id as inside \gset
select public.execute_skill(:'hidden', '{}');
select tests.run_chain();
select is((select count(*) from tests.deliveries(:'outside')), 0::bigint, 'what happens in a private project is not told outside');
select cmp_ok((select count(*) from tests.deliveries(:'inside')), '>=', 1::bigint, 'but to its own skills');
select is((select count(*) from tests.deliveries(:'inside')), 1::bigint, 'within their rate');
select is((select last_error_code from public.reflexes where id = :'inside'), 'rate_limited', 'beyond which the reflex says so');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.reflexes where id = :'inside'), 0::bigint, 'a member who does not see the project does not see its reflexes');
select is((select count(*) from public.reflex_deliveries where reflex_id = :'inside'), 0::bigint, 'nor their deliveries');
select tests.refuses(format('select public.reflex_stats(%L)', :'inside'), 'not_found', 'nor their statistics');
select lives_ok(format('select public.reflex_stats(%L)', :'after'), 'those of others they do');
select tests.act_as('ada');
delete from public.reflexes where id in (:'outside', :'inside');

-- ---- a member who joins
insert into public.reflexes (skill_id, name, source, event) values (:'skill', 'Welcome', 'event', 'member.joined') returning id as welcome \gset
select tests.act_as_superuser();
select tests.join_org('new', tests.org('ada'), 'viewer');
select results_eq(format($$select event, depth, payload ->> 'user_id', payload ->> 'role' from tests.deliveries(%L)$$, :'welcome'),
  $$values ('member.joined'::text, 0, tests.id('new')::text, 'viewer'::text)$$, 'a member who joins is told');
-- A reflex that cannot be told does not stop what happens.
alter table public.reflex_deliveries add constraint broken check (event <> 'member.joined') not valid;
select lives_ok($$select tests.join_org('bob', tests.org('ada'), 'viewer')$$, 'a fault of reflexes does not stop what they listen to');
alter table public.reflex_deliveries drop constraint broken;

-- ---- a limit that is nearly used up
select tests.act_as('ada');
insert into public.reflexes (skill_id, name, source, event) values (:'skill', 'Limits', 'event', 'usage.threshold') returning id as limits \gset
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'code_searches', 'month', 10);
select kijko.consume(tests.org('ada'), 'code_searches', 9);
update public.reflexes set created_at = created_at - interval '1 hour' where id = :'limits';
select private.reflexes_emit_thresholds();
select results_eq(format($$select (payload ->> 'threshold')::integer from tests.deliveries(%L) where payload ->> 'meter' = 'code_searches' order by 1$$, :'limits'),
  $$values (50), (80)$$, 'thresholds are told');
select private.reflexes_emit_thresholds();
select is((select count(*) from tests.deliveries(:'limits') where payload ->> 'meter' = 'code_searches'), 2::bigint, 'once');

-- ---- permissions of events
create function tests.event_reader() returns void language sql security definer as $$
  delete from private.role_permissions as r where r.role = 'member' and r.permission = 'usage:read'
$$;
select tests.event_reader();
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format($$insert into public.reflexes (skill_id, name, source, event) values (%L, 'x', 'event', 'usage.threshold')$$, :'skill'), 'permission_denied', 'who may not read usage does not listen to it');
select lives_ok(format($$insert into public.reflexes (skill_id, name, source, event) values (%L, 'x', 'event', 'member.joined')$$, :'skill'), 'but to what they may read');
-- What an event tells needs the permission to read it.
select tests.act_as_superuser();
create function tests.without(permission text) returns void language sql security definer as $$
  insert into private.role_permissions (role, permission) select 'member', p from unnest('{executions:read,members:read,usage:read,files:read,repositories:read}'::text[]) as p on conflict do nothing;
  delete from private.role_permissions as r where r.role = 'member' and r.permission = without.permission
$$;
create function tests.seen(permission text, source text) returns boolean language plpgsql as $$
begin
  perform tests.without(permission);
  return exists (select from public.reflex_deliveries as d where d.source = seen.source);
end
$$;
select tests.act_as('mem', tests.org('ada'));
select is(tests.seen(p, 'event'), seen, 'deliveries of events, without ' || p)
from (values ('repositories:read', true), ('executions:read', false), ('members:read', false), ('usage:read', false), ('files:read', false)) as v (p, seen);

-- ---- the webhook of a repository
select tests.act_as('ada');
insert into public.repositories (clone_url) values ('https://github.com/acme/app') returning id as repository \gset
insert into public.repositories (clone_url, project_id) values ('https://github.com/acme/hidden', :'secret') returning id as hidden_repository \gset
select secret as signing from public.rotate_repository_secret(:'repository') \gset
insert into public.reflexes (skill_id, name, source, repository_id, event) values (:'skill', 'Pushes', 'repository', :'repository', 'push') returning id as pushes \gset
select tests.refuses(format($$insert into public.reflexes (skill_id, name, source) values (%L, 'x', 'repository')$$, :'skill'), 'not_found', 'a repository is named');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format($$insert into public.reflexes (skill_id, name, source, repository_id) values (%L, 'x', 'repository', %L)$$, :'skill', :'hidden_repository'), 'not_found', 'nobody listens to a repository that they do not see');
select tests.act_as('bob');
select tests.refuses(format($$insert into public.reflexes (org_id, skill_id, name, source, repository_id) values (tests.org('bob'), %L, 'x', 'repository', %L)$$, :'bobs', :'repository'), 'not_found', 'nor to another organization''s');

select tests.act_as_sidecar();
select is(private.reflexes_repository_secrets(:'repository'), array[:'signing'], 'the sidecar gets the secret');
select is(private.reflexes_repository_secrets(:'hidden_repository'), '{}'::text[], 'none before one is made');
select is(private.reflexes_repository_secrets(gen_random_uuid()), '{}'::text[], 'and none of an unknown repository');
select is((private.reflexes_ingest_github(:'repository', '{"action": "opened", "n": 1}', '{}', 'issues', 'g-1', 'h1')).status, 'received', 'a delivery is stored');
select is((private.reflexes_ingest_github(:'repository', '{"ref": "x"}', '{}', 'push', 'g-2', 'h2')).status, 'received', 'and another one');
select is((private.reflexes_ingest_github(:'repository', '{"ref": "x"}', '{}', 'push', 'g-2', 'h2')).status, 'duplicate', 'a replay is a duplicate');
select is((private.reflexes_ingest_github(:'repository', '{"ref": "x"}', '{}', 'push', 'g-3', 'h2')).status, 'duplicate', 'also under another id');
select is(private.reflexes_ingest_github(gen_random_uuid(), '{}', '{}', 'push', 'g-4', 'h4'), null::private.reflex_receipt, 'an unknown repository stores nothing');
select tests.act_as('ada');
select results_eq('select delivery_id, event, action, status, reflex_count, duplicate_count from public.webhook_deliveries order by delivery_id',
  $$values ('g-1'::text, 'issues'::text, 'opened'::text, 'ignored'::text, 0, 0), ('g-2', 'push', null, 'completed', 1, 2)$$, 'what nothing listens to is ignored');
select results_eq(format('select status, event from tests.deliveries(%L)', :'pushes'), $$values ('received'::text, 'push'::text)$$, 'the reflex that listens is fired');
select tests.act_as_sidecar();
select private.reflexes_ingest_github(:'hidden_repository', '{"ref": "y"}', '{}', 'push', 'g-5', 'h5');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.webhook_deliveries), 2::bigint, 'a private project hides the deliveries of its repository');
select tests.act_as('bob');
select is((select count(*) from public.webhook_deliveries where org_id = tests.org('ada')), 2::bigint, 'who is a viewer by now reads them') ;
select tests.act_as('mem', tests.org('ada'));
select is(tests.seen(p, 'repository'), seen, 'deliveries of a repository, without ' || p) from (values ('repositories:read', false), ('usage:read', true)) as v (p, seen);
select tests.act_as_anon();
select throws_ok('select * from public.webhook_deliveries', '42501', null, 'anon reads none');

select tests.act_as_superuser();
select tests.travel('31 days');
select cmp_ok(private.reflexes_purge_repositories(), '>=', 3::bigint, 'they are deleted after 30 days');
select is((select count(*) from public.webhook_deliveries where org_id = tests.org('ada')), 0::bigint, 'all of them');
select is((select count(*) from private.webhook_delivery_keys), 0::bigint, 'with their keys');

select * from finish();
rollback;
