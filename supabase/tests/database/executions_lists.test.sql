-- Each filter of the list reads one range of an index in the order of the list, and sorts nothing.
begin;
\ir 000_helpers.sql
select plan(13);

select tests.sign_up('ada');
select tests.skill(tests.org('ada')) as skill \gset
set session_replication_role = replica;
insert into public.executions (org_id, skill_id, habit_id, reflex_id, project_id, created_by, trigger, status, finished_at, cost_microusd, created_at)
select case when n % 2 = 0 then tests.org('ada') else md5('other')::uuid end,
  md5('skill' || n % 50)::uuid, case when n % 50 = 2 then md5('habit')::uuid end, case when n % 50 = 4 then md5('reflex')::uuid end,
  case when n % 50 = 6 then md5('project')::uuid end, md5('member' || n % 50)::uuid, case when n % 50 = 8 then 'habit' else 'api' end,
  case when n % 50 = 10 then 'failed' else 'succeeded' end, now(), n, now() - n * interval '1 minute'
from generate_series(1, 20000) as n;
set session_replication_role = origin;
analyze public.executions;

create function tests.plan_of(filter text) returns text language plpgsql as $$
declare
  line text;
  lines text[];
begin
  for line in execute format(
    'explain (costs off) select id, status, created_at from public.executions where org_id = %L %s', tests.org('ada'), filter
  ) loop
    lines := lines || line;
  end loop;
  return array_to_string(lines, ' ');
end
$$;
-- The index that the page reads, or the plan if it sorts or reads anything else.
create function tests.index_of(filter text, in_order text default 'order by created_at desc, id desc limit 20') returns text language sql as $$
  select case when p.plan ~ 'Sort|Bitmap|Seq Scan on executions' then p.plan else (regexp_match(p.plan, 'Index (?:Only )?Scan using (executions\w+)'))[1] end
  from tests.plan_of(filter || ' ' || in_order) as p (plan)
$$;

-- As a member, under row level security; a request may not explain, so these are no claims of one.
select tests.act_as('ada');
select set_config('session_authorization', current_setting('tests.superuser'), true), set_config('role', 'authenticated', true) \gset _
select is(tests.index_of(''), 'executions_org_id_idx', 'the first page');
select is(
  tests.index_of($$and created_at <= now() - interval '5 days' and (created_at < now() - interval '5 days' or id < 'ffffffff-0000-4000-8000-000000000000')$$),
  'executions_org_id_idx', 'the page after a cursor'
);
select matches(
  tests.plan_of($$and created_at <= now() - interval '5 days' and (created_at < now() - interval '5 days' or id < 'ffffffff-0000-4000-8000-000000000000') order by created_at desc, id desc limit 20$$),
  'Index Cond: .*created_at <= .* Filter: .*id < ', 'which begins at the cursor'
);
select is(tests.index_of($$and created_at >= now() - interval '5 days' and created_at < now() - interval '4 days'$$), 'executions_org_id_idx', 'a time');
select is(tests.index_of($$and skill_id = md5('skill2')::uuid$$), 'executions_skill_id_idx', 'a skill');
select is(tests.index_of($$and habit_id = md5('habit')::uuid$$), 'executions_habit_id_idx', 'a habit');
select is(tests.index_of($$and reflex_id = md5('reflex')::uuid$$), 'executions_reflex_id_idx', 'a reflex');
select is(tests.index_of($$and project_id = md5('project')::uuid$$), 'executions_project_id_idx', 'a project');
select is(tests.index_of($$and created_by = md5('member2')::uuid$$), 'executions_created_by_idx', 'a member');
select is(tests.index_of($$and status = 'failed'$$), 'executions_status_idx', 'a status');
select is(tests.index_of($$and trigger = 'habit'$$), 'executions_trigger_idx', 'a trigger');
select is(tests.index_of('', 'order by cost_microusd desc, id desc limit 20'), 'executions_cost_idx', 'the most expensive');
select matches(
  tests.plan_of('and cost_microusd > 19990 order by created_at desc, id desc limit 20'), 'Sort .*Index Scan using executions_cost_idx',
  'a cost that few reach is read by its own index, and these few are sorted'
);

select * from finish();
rollback;
