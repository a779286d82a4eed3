begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.act_as('ada', tests.org('ada'));
select tests.skill(tests.org('ada')) as skill \gset

-- ---- who writes budgets
select tests.act_as('bob', tests.org('ada'));
select is((select count(*) from public.llm_budgets), 0::bigint, 'a non-member sees no budgets');
select throws_ok(format($$insert into public.llm_budgets (org_id, name, scope, period, unit, amount) values (%L, 'x', 'organization', 'day', 'tokens', 1)$$, tests.org('ada')), '42501', null, 'and makes none');
select tests.act_as('mem', tests.org('ada'));
select throws_ok($$insert into public.llm_budgets (name, scope, period, unit, amount) values ('x', 'organization', 'day', 'tokens', 1)$$, '42501', null, 'a member makes none');
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_budgets (name, scope, period, unit, amount) values ('all', 'organization', 'day', 'tokens', 1000);
select throws_ok($$insert into public.llm_budgets (name, scope, model, period, unit, amount) values ('x', 'member', 'echo/a', 'day', 'tokens', 1)$$, '23514', null, 'a target of another scope is refused');
select tests.refuses($$update public.llm_budgets set period = 'month'$$, 'conflict', 'what a budget counts never changes');

-- ---- a budget that refuses
select is((select row(s.used, s.held, s.remaining)::text from public.llm_budget_usage() as s), '(0,0,1000)', 'one that nothing has used');
select tests.opened('echo/a', 300, 300) as call \gset
select is((select row(s.used, s.held, s.remaining)::text from public.llm_budget_usage() as s), '(0,600,400)', 'a call holds');
select tests.refuses($$select tests.authorize('echo/a', 201, 200)$$, 'budget_exceeded', 'what does not fit is refused');
select tests.refusal($$select tests.authorize('echo/a', 201, 200)$$) as refused \gset
select is(:'refused'::jsonb ->> 'code', 'budget_exceeded', 'by its own code');
select is((:'refused'::jsonb ->> 'status')::integer, 429, 'as 429');
select matches(:'refused'::jsonb ->> 'details', '^budget all \([0-9a-f-]{36}\): used 600 of 1000 tokens, asked for 401; resets at \d{4}-\d\d-\d\dT00:00:00Z$', 'and says which, and when it resets');
select ok((:'refused'::jsonb #>> '{headers,Retry-After}')::integer between 1 and 86400, 'with Retry-After');
select is(tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 300, "completion_tokens": 50}') ->> 'tokens', '350', 'it settles less');
select is((select row(s.used, s.held, s.remaining)::text from public.llm_budget_usage() as s), '(350,0,650)', 'and gives the rest back');
select tests.opened('echo/a', 325, 325) as call \gset
select is(tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 325, "completion_tokens": 400}') ->> 'tokens', '725', 'what a vendor counts beyond is counted');
select is((select row(s.used, s.held, s.remaining)::text from public.llm_budget_usage() as s), '(1075,0,0)', 'above the budget');
select tests.refuses($$select tests.authorize('echo/a', 1, 1)$$, 'budget_exceeded', 'then nothing fits');
update public.llm_budgets set amount = 1080;
select lives_ok($$select tests.authorize('echo/a', 1, 1)$$, 'a raised budget holds at once');
update public.llm_budgets set amount = 1000;
select tests.refuses($$select tests.authorize('echo/a', 1, 1)$$, 'budget_exceeded', 'and a lowered one');
update public.llm_budgets set on_exceeded = 'flag';
select lives_ok($$select tests.authorize('echo/a', 1, 1)$$, 'one that flags lets pass');
update public.llm_budgets set on_exceeded = 'refuse', enabled = false;
select lives_ok($$select tests.authorize('echo/a', 1, 1)$$, 'one that is off does not hold');
update public.llm_budgets set enabled = true;
select tests.travel('1 day');
select lives_ok($$select tests.authorize('echo/a', 500, 500)$$, 'the next day begins anew');
select tests.refuses($$select tests.authorize('echo/a', 1, 1)$$, 'budget_exceeded', 'and is spent');
delete from public.llm_budgets;
select tests.act_as_superuser();
select is((select count(*) from private.llm_budget_subjects where organization = tests.org('ada')) + (select count(*) from private.usage_subjects where organization = tests.org('ada')), 0::bigint, 'a deleted budget leaves no subject');
select lives_ok($$select private.llm_finish(c, 'cancelled', '{}', '{}') from private.llm_open_calls as c where c.organization = tests.org('ada')$$, 'its open calls end');

-- ---- each scope
select tests.act_as('ada', tests.org('ada'));
insert into public.projects (name) values ('Apollo'), ('Borealis');
select id as apollo from public.projects where name = 'Apollo' \gset
select id as borealis from public.projects where name = 'Borealis' \gset
insert into public.llm_routes (name, targets) values ('fast', '{echo/a,echo/b}');
insert into public.llm_budgets (name, scope, project_id, skill_id, member_id, model, period, unit, amount) values
  ('apollo', 'project', :'apollo', null, null, null, 'month', 'tokens', 100),
  ('each project', 'project', null, null, null, null, 'total', 'tokens', 150),
  ('skill', 'skill', null, :'skill', null, null, 'week', 'tokens', 50),
  ('each member', 'member', null, null, null, null, 'hour', 'tokens', 1000),
  ('mem', 'member', null, null, tests.id('mem'), null, 'day', 'microusd', 100),
  ('b', 'model', null, null, null, 'echo/b', 'day', 'tokens', 40),
  ('fast', 'model', null, null, null, 'fast', 'day', 'tokens', 60),
  ('all of echo', 'model', null, null, null, 'echo/*', 'day', 'tokens', 5000);
select lives_ok(format($$select tests.authorize('echo/a', 60, 40, '{"project": "%s"}')$$, :'apollo'), 'a project''s budget holds');
select is(tests.refused_by(format($$select tests.authorize('echo/a', 1, 0 + 1, '{"project": "%s"}')$$, :'apollo')), 'apollo', 'a project');
select lives_ok(format($$select tests.authorize('echo/a', 100, 50, '{"project": "%s"}')$$, :'borealis'), 'another one has its own');
select is(tests.refused_by(format($$select tests.authorize('echo/a', 1, 1, '{"project": "%s"}')$$, :'borealis')), 'each project', 'each project');
select is(tests.refused_by(format($$select tests.authorize('echo/a', 50, 1, '{"skill": "%s"}')$$, :'skill')), 'skill', 'a skill');
select is(tests.refused_by($$select tests.authorize('echo/b', 40, 1)$$), 'b', 'a model');
select is(tests.refused_by($$select tests.authorize('fast', 60, 1)$$), 'fast', 'a route');
select is(tests.refused_by($$select tests.authorize('echo/a', 749, 2)$$), 'each member', 'each member');
select lives_ok($$select tests.authorize('echo/a', 749, 1)$$, 'up to the last token');
select is(tests.refused_by($$select tests.authorize('echo/a', 1, 1)$$), 'each member', 'spent');
select tests.act_as('mem', tests.org('ada'));
select is(tests.refused_by($$select tests.authorize('echo/a', 1, 170)$$), 'mem', 'a member, in money');
select lives_ok($$select tests.authorize('echo/a', 100, 100)$$, 'another member has their own tokens');
select tests.travel('1 day 1 hour');
select tests.act_as('ada', tests.org('ada'));
select lives_ok($$select tests.authorize('echo/a', 500, 500)$$, 'the next hour begins anew');
select is((select s.resets_at - kijko.now() <= interval '1 hour' from public.llm_budget_usage() as s where s.name = 'each member' and s.value = tests.id('ada')::text), true, 'and ends');
select is((select string_agg(distinct s.value, ',') from public.llm_budget_usage() as s where s.name = 'each project'), (select string_agg(v, ',' order by v) from unnest(array[:'apollo', :'borealis']) as v), 'usage lists each project');

-- ---- what is nearly spent is notified
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_budgets (name, scope, member_id, period, unit, amount) values ('near', 'member', tests.id('mem'), 'week', 'tokens', 100);
select tests.act_as('mem', tests.org('ada'));
select tests.end_all() as ended \gset
select tests.settle(tests.opened('echo/a', 40, 40), '{"status": "succeeded", "prompt_tokens": 40, "completion_tokens": 30}') is not null as settled \gset
select tests.act_as_superuser();
select private.notifications_emit_thresholds(1000000) as taken \gset
select is((select count(*) from public.notifications where org_id = tests.org('ada') and type = 'llm.budget' and data ->> 'budget' = 'near'), 0::bigint, 'not at 70 per cent');
select tests.act_as('mem', tests.org('ada'));
select tests.settle(tests.opened('echo/a', 5, 5), '{"status": "succeeded", "prompt_tokens": 5, "completion_tokens": 5}') is not null as settled \gset
select tests.act_as_superuser();
select private.notifications_emit_thresholds(1000000) as taken \gset
select results_eq($$select title, permission, data ->> 'value', (data ->> 'used')::integer from public.notifications where type = 'llm.budget' and data ->> 'budget' = 'near'$$, $$values ('80 % of the budget near is used', 'llm:read', tests.id('mem')::text, 80)$$, 'at 80');
select private.notifications_emit_thresholds(1000000) as taken \gset
select is((select count(*) from public.notifications where org_id = tests.org('ada') and type = 'llm.budget' and data ->> 'budget' = 'near'), 1::bigint, 'once');

-- ---- keys
select tests.act_as('ada', tests.org('ada'));
select (public.create_api_key('calls', '["llm:call"]')).id as calls \gset
select (public.create_api_key('reads', '["*:read"]')).id as reads \gset
insert into public.llm_budgets (name, scope, key_id, period, unit, amount) values ('key', 'key', :'calls', 'day', 'tokens', 10);
select matches(tests.by_key(:'calls', $$select tests.authorize('echo/a', 5, 5)$$), '^kjs1\.', 'a key with the permission calls');
select is(tests.by_key(:'calls', $$select tests.authorize('echo/a', 6, 5)$$), 'KJ431', 'within its budget');
select is(tests.by_key(:'reads', $$select tests.authorize('echo/a', 5, 5)$$), '42501', 'a key without it does not');
select is(tests.by_key(:'calls', $$insert into public.llm_budgets (name, scope, period, unit, amount) values ('mine', 'organization', 'day', 'tokens', 1) returning name$$), '42501', 'nor does it make budgets');

-- ---- calls that nobody sends
select tests.act_as('ada', tests.org('ada'));
delete from public.llm_budgets;
select tests.end_all() as ended \gset
select tests.refuses($$select tests.authorize('echo/a', 20000001, 1)$$, 'invalid_input', 'no prompt is that long');
select is((select count(tests.authorize('echo/a', 1, 1)) from generate_series(1, 64)), 64::bigint, '64 calls may wait to be sent');
select tests.refuses($$select tests.authorize('echo/a', 1, 1)$$, 'rate_limited', 'and no more');
select is(tests.refusal($$select tests.authorize('echo/a', 1, 1)$$) #>> '{headers,Retry-After}', '1', 'for the moment');
select matches(tests.by_key(:'calls', $$select tests.authorize('echo/a', 1, 1)$$), '^kjs1\.', 'a key is another caller');
select tests.act_as('mem', tests.org('ada'));
select matches(tests.authorize('echo/a', 1, 1), '^kjs1\.', 'as is another member');
select tests.act_as_superuser();
update private.llm_open_calls set status = 'sent' where call_id = (select call_id from private.llm_open_calls where status = 'reserved' and attributes ->> 'member' = tests.id('ada')::text limit 1);
select tests.act_as('ada', tests.org('ada'));
select matches(tests.authorize('echo/a', 1, 1), '^kjs1\.', 'one that is sent makes room');
select tests.refuses($$select tests.authorize('echo/a', 1, 1)$$, 'rate_limited', 'for one');

-- ---- who sees whose
insert into public.llm_budgets (name, scope, project_id, period, unit, amount) values ('apollo', 'project', :'apollo', 'month', 'tokens', 100);
select tests.act_as('ada', tests.org('ada'));
select tests.skill(tests.org('ada'), 'of apollo') as of_apollo \gset
update public.skills set project_id = :'apollo' where id = :'of_apollo';
insert into public.llm_budgets (name, scope, skill_id, period, unit, amount) values ('apollo skill', 'skill', :'of_apollo', 'month', 'tokens', 100);
update public.projects set visibility = 'private' where name = 'Apollo';
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.llm_budgets where name in ('apollo', 'apollo skill')), 0::bigint, 'a private project hides its budget, and that of a skill in it');
select is((select count(*) from public.llm_budget_usage() as s where s.value = :'apollo'), 0::bigint, 'and its state');
select is((select count(*) from public.llm_calls where project_id = :'apollo'), 0::bigint, 'and its calls');
select cmp_ok((select count(*) from public.llm_calls), '>', 0::bigint, 'others are seen');
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_budgets (name, scope, period, unit, amount) values ('each project', 'project', 'month', 'tokens', 1000), ('each skill', 'skill', 'month', 'tokens', 1000);
select tests.skill(tests.org('ada')) as gone \gset
update public.skills set project_id = :'apollo' where id = :'gone';
select tests.end_all() as ended \gset
select tests.opened('echo/a', 7, 3, jsonb_build_object('project', :'apollo', 'skill', :'gone')) as call \gset
select tests.opened('echo/a', 7, 3, jsonb_build_object('project', :'borealis')) as call \gset
delete from public.projects where id = :'apollo';
select is((select string_agg(s.name, ',' order by s.name) from public.llm_budget_usage() as s where s.value in (:'apollo', :'gone')), 'each project,each skill', 'who manages projects sees what a deleted one has used');
select tests.act_as('vic', tests.org('ada'));
select is((select array_agg(s.value) from public.llm_budget_usage() as s where s.scope in ('project', 'skill')), array[:'borealis'], 'nobody else does');

-- ---- periods are those of UTC. PostgREST sets the time zone that a client prefers
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_budgets (name, scope, period, unit, amount) values ('a day', 'organization', 'day', 'tokens', 1), ('a week', 'organization', 'week', 'tokens', 1);
-- The Sunday of which Amsterdam has 23 hours.
select d - extract(dow from d)::integer as sunday from make_date(extract(year from now())::integer + 1, 3, 31) as d \gset
select tests.travel(:'sunday'::date + time '12:00' - (clock_timestamp() at time zone 'UTC'));
set local timezone = 'Europe/Amsterdam';
select is((select s.resets_at at time zone 'UTC' from public.llm_budget_usage() as s where s.name = 'a day'), :'sunday'::date + 1 + time '00:00', 'a day ends at midnight of UTC, whatever the zone of the caller');
select is((select s.resets_at at time zone 'UTC' from public.llm_budget_usage() as s where s.name = 'a week'), :'sunday'::date + 1 + time '00:00', 'and a week');
reset timezone;

select * from finish();
rollback;
