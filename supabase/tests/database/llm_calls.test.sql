-- A call of a model from its place to its record: what it may name, each further attempt, what is recorded of it and of no other, and what is over. Each rule at
-- its edges, beside rows of others.
begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob,mem,vic}'::text[]) as u;
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.join_org('mem', o, 'member') from unnest(array[tests.org('ada'), tests.org('bob')]) as o;
select tests.join_org('vic', tests.org('ada'), 'viewer');
insert into public.projects (id, org_id, name, slug, visibility)
select tests.id(n), tests.org(who), n, n, v from (values ('open', 'ada', 'organization'), ('other', 'ada', 'organization'), ('hidden', 'ada', 'private'), ('shown', 'ada', 'private'), ('old', 'ada', 'organization'), ('theirs', 'bob', 'organization')) as p (n, who, v);
insert into public.project_members (org_id, project_id, user_id, role) values (tests.org('ada'), tests.id('shown'), tests.id('mem'), 'viewer');
insert into public.skills (id, org_id, project_id, name, prompt_template)
select tests.id('skill ' || n), tests.org(who), p.id, n, 'x' from (values ('open', 'ada'), ('hidden', 'ada'), ('none', 'ada'), ('theirs', 'bob')) as s (n, who) left join public.projects as p on p.id = tests.id(n);
update public.projects set archived_at = kijko.now() where id = tests.id('old');

-- ---- its place: a project and a skill of the organization that the caller sees and may change
create function tests.place(project text, skill text) returns text language plpgsql security definer as $$
begin
  return coalesce((
    select p.name from public.projects as p where p.id = private.llm_require_place(tests.org('ada'), case when project is not null then tests.id(project) end, case when skill is not null then tests.id('skill ' || skill) end)
  ), 'none');
end
$$;
create function tests.may(model text) returns void language plpgsql security definer as $$
begin
  perform private.llm_require_member(tests.org('ada'), model);
end
$$;
select tests.act_as('mem', tests.org('ada'));
select is(tests.place(project, skill), wanted, format('%s, skill %s', project, skill))
from (values (null, null, 'none'), ('open', null, 'open'), (null, 'open', 'open'), ('open', 'open', 'open'), (null, 'none', 'none')) as v (project, skill, wanted);
select tests.refuses(format('select tests.place(%L, %L)', project, skill), code, format('%s, skill %s', project, skill))
from (values
  ('other', 'open', 'bad_request'), ('open', 'none', 'bad_request'), (null, 'hidden', 'not_found'), (null, 'theirs', 'not_found'), (null, 'nowhere', 'not_found'), ('hidden', null, 'not_found'), ('theirs', null, 'not_found'),
  ('nowhere', null, 'not_found'), ('old', null, 'project_archived'), ('shown', null, 'permission_denied')
) as v (project, skill, code);

-- ---- who may have a job call a model: a member with the permission, who names one
select lives_ok(format('select tests.may(%L)', m), 'a member: ' || char_length(m)) from unnest(array['a', repeat('m', 200)]) as m;
select tests.refuses(format('select tests.may(%L)', m), 'invalid_input', 'a member: ' || coalesce(char_length(m)::text, 'none')) from unnest(array['', repeat('m', 201), null]) as m;
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select tests.may('a')$$, 'permission_denied', 'no viewer');
select tests.act_as('ada', tests.org('ada'));
select (public.create_api_key('calls', '["llm:call"]')).id as calls \gset
select is(tests.by_key(:'calls', $$select tests.may('a')::text$$), '42501', 'no service key, which is nobody''s');

-- ---- targets: the refusal of the first, and what the sidecar is told of their addresses
insert into public.llm_routes (name, targets, max_output_tokens) values ('bounded', '{echo/a}', 200);
select lives_ok($$select tests.authorize('bounded', 1, 200)$$, 'as long as the route allows');
select tests.refuses($$select tests.authorize('bounded', 1, 201)$$, 'bad_request', 'and not one token longer');
insert into public.llm_providers (name, kind, base_url) values ('mine', 'anthropic', null), ('shaped', 'openai', 'https://own.example.com/v1');
select tests.act_as_superuser();
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('keyed/x', 1, 1), ('bare/x', 1, 1);
insert into public.llm_providers (org_id, name, kind, key_set_at) values (kijko.platform_org_id(), 'keyed', 'openai', kijko.now()), (kijko.platform_org_id(), 'bare', 'openai', null);
create function tests.address(of text) returns text language sql security definer as $$
  select coalesce(private.llm_open_target(tests.org('ada'), '{"kind": "chat", "input_tokens": 1}', jsonb_build_object('provider_id', p.id, 'name', of || '/x'), 0, false) ->> 'base_url', 'as configured')
  from public.llm_providers as p where p.name = of and p.org_id in (tests.org('ada'), kijko.platform_org_id())
$$;
select is(tests.address(of), wanted, 'the address of ' || of)
from (values ('mine', private.llm_vendor_url('anthropic')), ('shaped', 'https://own.example.com/v1'), ('keyed', private.llm_vendor_url('openai')), ('bare', 'as configured')) as v (of, wanted);

-- ---- further attempts: at a target that there is, by what is reported
select tests.act_as('mem', tests.org('ada'));
select tests.opened('echo/a', 100, 100) as other \gset
select tests.opened('echo/a', 100, 100) as call \gset
select tests.act_as_superuser();
create function tests.attempts(call uuid) returns text language sql security definer as $$
  select concat_ws(' ', c.status, c.attempts, c.held_tokens, c.input_tokens) from public.llm_calls as c where c.id = call
$$;
select is(tests.raise(:'call', n, null) ->> 'refused', 'model_not_found', 'at target ' || n) from unnest('{-1,1}'::integer[]) as n;
select is(tests.raise(:'call', 0, '5'), '{"ok": true}', 'again, without a use');
select is(tests.attempts(:'call') || ', ' || tests.attempts(:'other'), 'sent 2 200 0, sent 1 200 0', 'holds no more, and is no attempt of another call');
select is(tests.raise(:'call', 0, '{"prompt_tokens": 10, "completion_tokens": 5}'), '{"ok": true}', 'again, after a use');
select is(tests.attempts(:'call'), 'sent 3 215 0', 'holds what was used, too');
update public.llm_providers set enabled = false where name = 'echo' and org_id = kijko.platform_org_id();
select is(tests.raise(:'call', 0, null) ->> 'refused', 'model_not_found', 'not by a provider that is off');
update public.llm_providers set enabled = true where name = 'echo' and org_id = kijko.platform_org_id();

-- ---- the end of one: of its own row, with as many attempts as were counted or reported
create function tests.ends(attempts jsonb) returns text language plpgsql as $$
declare
  call uuid;
begin
  perform tests.act_as('mem', tests.org('ada'));
  call := tests.opened('echo/a', 10, 10);
  perform tests.act_as_superuser();
  perform tests.settle(call, '{"status": "succeeded", "prompt_tokens": 3, "completion_tokens": 1}' || attempts);
  return tests.attempts(call);
end
$$;
select is(tests.ends(a), wanted, 'reported: ' || a::text) from (values ('{}'::jsonb, 'succeeded 1 20 3'), ('{"attempts": 0}', 'succeeded 1 20 3'), ('{"attempts": 4}', 'succeeded 4 20 3'), ('{"attempts": 5000}', 'succeeded 1000 20 3')) as v (a, wanted);
select is(tests.attempts(:'other'), 'sent 1 200 0', 'and another call goes on');
select tests.refuses(format('select tests.settle(%L, %L)', :'other', u), 'invalid_input', 'no end: ' || u) from unnest(array['{}', '{"status": "sent"}', '{"status": null}']) as u;
select is(tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1}') ->> 'tokens', '17', 'all attempts of one are its use');

-- ---- contents: of who asked and is still there, if the organization records them
create function tests.records(usage jsonb, who text default 'mem') returns text language plpgsql as $$
declare
  made uuid;
begin
  perform tests.act_as_superuser();
  delete from public.llm_call_contents as c where c.org_id = tests.org('ada');
  perform tests.act_as('mem', tests.org('ada'));
  made := tests.opened('echo/a', 10, 10);
  perform tests.act_as_superuser();
  update private.llm_open_calls as c set attributes = case when who is null then c.attributes - 'member' else c.attributes || jsonb_build_object('member', tests.id(who)) end where c.call_id = made;
  perform tests.settle(made, '{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1}' || usage);
  return (select string_agg(concat_ws(' ', c.prompt, c.answer, c.created_by = tests.id(who), c.delete_after - kijko.now()), ', ') from public.llm_call_contents as c where c.org_id = tests.org('ada'));
end
$$;
select is(tests.records('{"prompt": "p", "answer": "a"}'), null, 'not unless it does');
select tests.act_as('ada', tests.org('ada'));
select (public.set_llm_settings(record_content => true)).record_content as records \gset
select tests.act_as_superuser();
update auth.users set deleted_at = now() where id = tests.id('vic');
select is(tests.records(u, who), wanted, format('%s of %s', u, who))
from (values
  ('{"prompt": "p", "answer": "a"}'::jsonb, 'mem', '"p" "a" t 30 days'), ('{"prompt": "p"}', 'mem', '"p" t 30 days'), ('{"answer": "a"}', 'mem', '"a" t 30 days'), ('{}', 'mem', null), ('{"prompt": "p"}', null, '"p" 30 days'), ('{"prompt": "p"}', 'vic', null),
  ('{"prompt": "p"}', 'nobody', null)
) as v (u, who, wanted);

-- ---- jobs: with at most what the route allows; a refusal that the organization can mend is an answer
create function tests.tries(model text, output bigint) returns text language sql security definer as $$
  select concat_ws(' ', a ->> 'refused', a ->> 'max_output_tokens') from private.llm_try_reserve_call(tests.org('ada'), tests.id('mem'), null, jsonb_build_object('kind', 'chat', 'model', model, 'input_tokens', 1, 'max_output_tokens', output, 'choices', 1, 'images', 0)) as a
$$;
select is(tests.tries(model, output), wanted, format('%s, %s tokens', model, output))
from (values ('bounded', 100, '100'), ('bounded', 200, '200'), ('bounded', 5000, '200'), ('nobody/x', 10, 'model_not_found'), ('openai/unheard-of', 10, 'model_not_priced')) as v (model, output, wanted);
create function tests.obstruct() returns trigger language plpgsql as $$ begin raise exception 'internal: in the way'; end $$;
create trigger obstruct before insert on private.llm_open_calls for each row execute function tests.obstruct();
select throws_ok($$select tests.tries('bounded', 100)$$, 'P0001', null, 'a fault of ours is none');
drop trigger obstruct on private.llm_open_calls;

-- ---- budgets: of this organization, enabled, that count the call; in money only with a price
delete from private.llm_budget_subjects as s where s.organization = tests.org('ada');
insert into public.llm_budgets (org_id, name, scope, model, period, unit, amount, enabled, on_exceeded)
select tests.org(coalesce(b ->> 'who', 'ada')), b ->> 'name', case when b ? 'model' then 'model' else 'organization' end, b ->> 'model', b ->> 'period', coalesce(b ->> 'unit', 'tokens'), 1000, coalesce((b ->> 'enabled')::boolean, true), coalesce(b ->> 'exceeded', 'refuse')
from jsonb_array_elements('[{"name": "hour", "period": "hour"}, {"name": "week", "period": "week"}, {"name": "day", "period": "day"}, {"name": "off", "period": "day", "enabled": false}, {"name": "elsewhere", "period": "day", "model": "echo/b"},
  {"name": "theirs", "period": "day", "who": "bob"}, {"name": "money", "period": "day", "unit": "microusd", "exceeded": "flag"}]') as b;
create function tests.applies(cost bigint) returns text language sql security definer as $$
  select string_agg(concat_ws(' ', w ->> 'name', w ->> 'meter'), ', ' order by w ->> 'name')
  from jsonb_array_elements(private.llm_wants(tests.org('ada'), '{}', null, '{"name": "echo/a", "own_key": true}', jsonb_build_object('cost_microusd', cost))) as w where w ? 'budget'
$$;
select is(tests.applies(5), 'day llm_tokens, hour llm_tokens, money llm_cost_microusd, week llm_tokens', 'with a price');
select is(tests.applies(null), 'day llm_tokens, hour llm_tokens, week llm_tokens', 'without one money that only flags is left out');
select is((select string_agg(concat_ws(' ', b.name, s.ends_at - s.starts_at), ', ' order by b.name) from private.llm_budget_subjects as s join public.llm_budgets as b on b.id = s.budget_id where s.organization = tests.org('ada')),
  'day, hour 01:00:00, money, week 7 days', 'hours and weeks end');
update public.llm_budgets set on_exceeded = 'refuse' where name = 'money' and org_id = tests.org('ada');
select tests.refuses('select tests.applies(null)', 'model_not_priced', 'money that refuses needs a price');
update public.llm_budgets set amount = 10 where name = 'hour' and org_id = tests.org('ada');
select tests.act_as('mem', tests.org('ada'));
select tests.refusal($$select tests.authorize('echo/a', 10, 1)$$) as refused \gset
select is((:'refused'::jsonb #>> '{headers,Retry-After}')::integer, ceil(extract(epoch from date_trunc('hour', kijko.now(), 'UTC') + interval '1 hour' - kijko.now()))::integer, 'what an hour refuses waits for its end');
select tests.act_as_superuser();
delete from public.llm_budgets where org_id = tests.org('ada');
insert into public.llm_budgets (org_id, name, scope, period, unit, amount) values (tests.org('ada'), 'ever', 'organization', 'total', 'tokens', 1);
select tests.act_as('mem', tests.org('ada'));
select is(tests.refusal($$select tests.authorize('echo/a', 1, 1)$$) ->> 'hint', 'Raise the budget.', 'what never ends is raised');
select tests.act_as_superuser();
delete from public.llm_budgets where org_id in (tests.org('ada'), tests.org('bob'));

-- ---- calls of executions: of their own execution and job, by the model's full name
insert into public.llm_budgets (org_id, name, scope, period, unit, amount) values (tests.org('ada'), 'runs', 'organization', 'total', 'tokens', 1000);
select tests.act_as('ada', tests.org('ada'));
select id as run, job_id as job from public.execute_skill(tests.id('skill open')) \gset
select id as next, job_id as next_job from public.execute_skill(tests.id('skill none')) \gset
select tests.act_as_superuser();
update public.jobs as j set timeout_seconds = case j.id when :'job' then 100 else 1000 end where j.id in (:'job', :'next_job');
insert into private.execution_calls (id, org_id, execution_id, worker, attempt, tokens_hold_id, model, max_use)
select tests.id('run ' || m), tests.org('ada'), e, 'w', 1, gen_random_uuid(), m, '{"input_tokens": 3, "output_tokens": 2, "cost_microusd": 1}' from (values (:'run'::uuid, 'acme/gpt-x'), (:'next', 'gpt-x')) as v (e, m);
select is((select concat_ws(' ', c.provider, c.model, c.execution_id = e, c.skill_id = tests.id('skill ' || s)) from public.llm_calls as c where c.id = tests.id('run ' || m)), wanted, m)
from (values (:'run'::uuid, 'open', 'acme/gpt-x', 'acme acme/gpt-x t t'), (:'next', 'none', 'gpt-x', 'openai openai/gpt-x t t')) as v (e, s, m, wanted);
select is(
  (select round(extract(epoch from max(h.expires_at) - clock_timestamp()) / 100) from private.llm_open_calls as c cross join lateral jsonb_array_elements(c.holds) as e cross join lateral jsonb_array_elements_text(e -> 'holds') as i
    join kijko.holds as h on h.id = i::uuid where c.call_id = tests.id('run ' || m)),
  wanted, 'holds of ' || m
) from (values ('acme/gpt-x', 7::numeric), ('gpt-x', 16)) as v (m, wanted);
select tests.end_all() as ended \gset
delete from public.llm_budgets where org_id = tests.org('ada');

-- ---- what is over: counters of hours and weeks after seven days, contents at their time, months of calls never before one has passed
insert into public.llm_budgets (org_id, name, scope, period, unit, amount) values (tests.org('ada'), 'hours', 'organization', 'hour', 'tokens', 1000);
insert into private.llm_budget_subjects (subject, organization, budget_id, value, starts_at, ends_at, amount, on_exceeded)
select gen_random_uuid(), tests.org('ada'), b.id, age::text, kijko.now(), kijko.now() - age, 1, 'refuse' from public.llm_budgets as b, unnest('{7 days,7 days 00:00:00.000001,-1 hour}'::interval[]) as age where b.name = 'hours';
delete from public.llm_call_contents as c where c.org_id = tests.org('ada');
insert into public.llm_call_contents (id, org_id, prompt, called_at, delete_after)
select gen_random_uuid(), tests.org('ada'), to_jsonb(age::text), kijko.now(), kijko.now() - age from unnest('{0,00:00:00.000001,-1 hour}'::interval[]) as age;
select cmp_ok(private.llm_purge(), '>=', 2, 'one of each');
select is((select string_agg(s.value, ', ' order by s.ends_at) from private.llm_budget_subjects as s where s.organization = tests.org('ada')), '7 days, -01:00:00', 'a counter older than seven days');
select is((select string_agg(c.prompt #>> '{}', ', ' order by c.delete_after) from public.llm_call_contents as c where c.org_id = tests.org('ada')), '00:00:00, -01:00:00', 'and a content whose time is over');
select tests.refuses(format('select private.llm_drop_partitions(%L)', age), 'invalid_input', 'older than ' || coalesce(age, 'nothing')) from unnest(array['29 days 23 hours', null]) as age;
select lives_ok($$select private.llm_drop_partitions('1 month')$$, 'a month');

select * from finish();
rollback;
