-- What the functions of reflexes, which pass the policies, allow to a viewer of a project, to a caller who may not read what a
-- delivery brought, and to a sender who repeats one request.
begin;
\ir 000_helpers.sql
select plan(29);

select tests.sign_up('ada'), tests.sign_up('see'), tests.sign_up('cus');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('see', tests.org('ada'), 'member'), tests.join_org('cus', tests.org('ada'), 'member');

create function tests.ended(reflex uuid, source text, event text, execution uuid default null) returns uuid language sql security definer as $$
  insert into public.reflex_deliveries (org_id, reflex_id, source, event, payload, payload_bytes, status, finished_at, execution_id, created_by)
  select r.org_id, r.id, ended.source, ended.event, '{"told": true}', 14, 'filtered', kijko.now(), ended.execution, null
  from public.reflexes as r where r.id = reflex
  returning id
$$;
create function tests.deliveries(reflex uuid) returns bigint language sql security definer as $$
  select count(*) from public.reflex_deliveries as d where d.reflex_id = deliveries.reflex
$$;

create function tests.pushed(repository uuid, id text, body text) returns text language sql security definer as $$
  select r.status from private.reflexes_ingest_github(repository, body, '{}', 'push', id, md5(body)) as r
$$;

-- ---- a viewer of a private project changes and runs no reflex of it
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as project \gset
insert into public.project_members (project_id, user_id, role) values (:'project', tests.id('see'), 'viewer');
insert into public.skills (project_id, name, prompt_template) values (:'project', 'inside', 'x') returning id as skill \gset
insert into public.reflexes (skill_id, name) values (:'skill', 'Hook') returning id as hook, secret_prefix as prefix \gset
select tests.ended(:'hook', 'webhook', 'push') as delivery \gset
select tests.act_as('see', tests.org('ada'));
select is((select count(*) from public.reflexes where id = :'hook'), 1::bigint, 'a viewer of the project sees the reflex');
select tests.refuses(format('select public.rotate_reflex_secret(%L)', :'hook'), 'permission_denied', 'rotates no secret');
select tests.refuses(format('select public.test_reflex(%L, ''{}'')', :'hook'), 'permission_denied', 'tests nothing');
select tests.refuses(format('select public.redeliver_reflex_delivery(%L)', :'delivery'), 'permission_denied', 'redelivers nothing');
select lives_ok(format('select public.reflex_stats(%L)', :'hook'), 'and reads statistics');
select tests.act_as('ada');
select is((select secret_prefix from public.reflexes where id = :'hook'), :'prefix', 'the secret is the same');
select is(tests.deliveries(:'hook'), 1::bigint, 'and nothing was delivered');

-- ---- an archived project is read-only
select public.archive_project(:'project');
select tests.refuses(format('select public.rotate_reflex_secret(%L)', :'hook'), 'project_archived', 'no secret of an archived project is rotated');
select tests.refuses(format('select public.test_reflex(%L, ''{}'')', :'hook'), 'project_archived', 'nor a reflex tested');
select tests.refuses(format('select public.redeliver_reflex_delivery(%L)', :'delivery'), 'project_archived', 'nor a delivery repeated');

-- ---- what came while the skill was in a private project stays hidden when the skill leaves it
select public.restore_project(:'project');
insert into public.skills (project_id, name, prompt_template) values (:'project', 'moved', 'x') returning id as moved \gset
insert into public.reflexes (skill_id, name) values (:'moved', 'Moved') returning id as moved_hook \gset
select tests.ended(:'moved_hook', 'webhook', 'push') as early \gset
update public.skills set project_id = null where id = :'moved';
select tests.ended(:'moved_hook', 'webhook', 'push') as late \gset
delete from public.project_members where user_id = tests.id('see');
select is((select count(*) from public.reflex_deliveries where reflex_id = :'moved_hook'), 2::bigint, 'who manages all projects sees both deliveries');
select tests.ended(:'hook', 'event', 'member.joined'), tests.ended(:'hook', 'repository', 'push');
select is(
  (select array_agg(distinct source order by source) from public.reflex_deliveries where reflex_id = :'hook'), array['event', 'repository', 'webhook'],
  'an owner sees deliveries of each source'
);
select tests.act_as('see', tests.org('ada'));
select is((select array_agg(id) from public.reflex_deliveries where reflex_id = :'moved_hook'), array[:'late'::uuid], 'another member sees the later one');
select tests.refuses(format('select public.redeliver_reflex_delivery(%L)', :'early'), 'not_found', 'cannot redeliver the earlier one');
select lives_ok(format('select public.redeliver_reflex_delivery(%L)', :'late'), 'and redelivers the later one');
select tests.act_as('ada');

-- ---- who may not read what a delivery brought cannot have it returned by a redelivery
insert into public.skills (name, prompt_template) values ('outside', 'x') returning id as outside \gset
insert into public.reflexes (skill_id, name, source, event) values (:'outside', 'Joined', 'event', 'member.joined') returning id as joined \gset
select tests.ended(:'joined', 'event', 'member.joined') as told \gset
select tests.make_key(tests.org('ada'), '["skills:read", "skills:execute", "reflexes:read", "reflexes:write", "executions:read"]') as key \gset
select is(
  tests.by_key(:'key', format('select public.redeliver_reflex_delivery(%L)::text', :'told')), tests.by_key(:'key', format('select public.redeliver_reflex_delivery(%L)::text', gen_random_uuid())),
  'without members:read the delivery of an event does not exist'
);
select is(tests.deliveries(:'joined'), 1::bigint, 'and is not repeated');
select is(
  tests.by_key(:'key', format($$update public.reflexes set %s where id = %L returning 'changed'$$, change, :'joined')), refused.sqlstate, change || ': what the event tells goes nowhere else'
)
from unnest(array['filter = $f$true$f$', 'input_mapping = $f${"n": "{{ payload }}"}$f$', format('skill_id = %L', :'outside')]) as change
cross join (select sqlstate from kijko.error_codes where code = 'permission_denied') as refused;
select is(tests.by_key(:'key', format($$update public.reflexes set name = 'Seen' where id = %L returning 'changed'$$, :'joined')), 'changed', 'its name can be changed');
select tests.act_as('ada');
select is((select status from public.redeliver_reflex_delivery(:'told')), 'received', 'its owner repeats it');

select lives_ok(format($$update public.reflexes set input_mapping = '{"n": "x"}' where id = %L$$, :'joined'), 'and changes what it maps');

-- ---- a replay to a repository uses up no rate
select tests.act_as('ada');
insert into public.repositories (clone_url) values ('https://github.com/acme/site') returning id as repository \gset
select is(tests.pushed(:'repository', 'first', '{"n": 1}'), 'received', 'a delivery is received');
select is(
  (select array_agg(distinct tests.pushed(:'repository', 'again ' || n, '{"n": 1}')) from generate_series(1, 700) as n), array['duplicate'],
  'a replay is a duplicate, however often it comes'
);
select is(tests.pushed(:'repository', 'second', '{"n": 2}'), 'received', 'and stops no other delivery');
select is((select duplicate_count from public.webhook_deliveries where delivery_id = 'first'), 60, 'sixty a minute are counted');
select is(tests.pushed(:'repository', 'first', '{"n": 3}'), 'duplicate', 'an id comes once');
select is(tests.pushed(:'repository', 'third', '{"n": 3}'), 'received', 'and what a refused request carried can come under its own id');

select * from finish();
rollback;
