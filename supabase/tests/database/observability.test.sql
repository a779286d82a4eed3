begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('adm');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('adm', tests.org('ada'), 'admin');

-- A request as the proxy logs it. Its caller is noted by the admission of a request with that id.
create function tests.line(id uuid, more jsonb default '{}') returns jsonb language sql stable as $$
  select jsonb_build_object('id', line.id, 'request_id', 'r-1', 'method', 'GET', 'route', '/rest/v1/projects', 'status', 200, 'duration_ms', 12.5,
    'response_bytes', 10, 'sampled', 1, 'ended_at', extract(epoch from now())) || more
$$;
create function tests.note(id uuid) returns void language plpgsql as $$
begin
  perform set_config('request.headers', (current_setting('request.headers')::jsonb || jsonb_build_object('x-kijko-request', id))::text, true), set_config('request.method', 'GET', true),
    set_config('request.path', '/projects', true);
  perform public.before_request();
  perform set_config('request.method', '', true);
end
$$;
-- All of a test has one time, and a range ends before its end.
create function tests.soon() returns timestamptz language sql stable as $$ select kijko.now() + interval '1 minute' $$;
create function tests.record(since bigint, until bigint, requests jsonb, file text default 'one') returns bigint language sql security definer
as $$ select private.observability_record_requests(file, since, until, requests) $$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.api_usage', '42501', null, 'anon reads no requests');
select throws_ok('select public.usage_metrics()', '42501', null, 'nor figures of them');
select throws_ok('select public.service_levels()', '42501', null, 'nor service levels');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses('select public.usage_metrics()', 'not_a_member', 'a non-member has no figures');
select tests.refuses('select public.service_levels()', 'not_a_member', 'nor service levels');
select tests.act_as('bob');
select tests.refuses($$select public.service_levels(org_id => tests.org('ada'))$$, 'not_a_member', 'also of an organization that is named');
select throws_ok($$select private.observability_record_requests('f', 0, 1, '[]')$$, '42501', null, 'and records nothing');
select throws_ok($$select kijko.request_actors('{}')$$, '42501', null, 'and sees no callers');

-- ---- from the log to rows, each line once
select gen_random_uuid() as mine, gen_random_uuid() as theirs, gen_random_uuid() as foreign_id, gen_random_uuid() as nobody \gset
select tests.act_as('vic', tests.org('ada'));
select tests.note(:'mine');
select tests.act_as('adm', tests.org('ada'));
select tests.note(:'theirs');
select tests.act_as('bob');
select tests.note(:'foreign_id');
select tests.act_as_sidecar();
select throws_ok('select * from public.api_usage', '42501', null, 'the sidecar reads no table');
select is(private.observability_log_position('one'), 0::bigint, 'a new file is read from its beginning');
select tests.act_as_superuser();
select is(tests.record(0, 100, jsonb_build_array(
  tests.line(:'mine'), tests.line(:'theirs', '{"status": 503, "duration_ms": 900}'), tests.line(:'foreign_id'), tests.line(:'nobody', '{"status": 401}')
)), 100::bigint, 'a batch is recorded');
select is(tests.record(0, 100, jsonb_build_array(tests.line(gen_random_uuid()))), 100::bigint, 'a second reader of the same lines gets the position');
select is((select count(*) from public.api_usage where id in (:'mine', :'theirs', :'foreign_id', :'nobody')), 4::bigint, 'and records nothing');
select is(tests.record(0, 50, '[]', 'two'), 50::bigint, 'another file has a position of its own');
select tests.refuses($$select tests.record(5, 4, '[]')$$, 'invalid_input', 'positions do not go back');
select tests.refuses($$select tests.record(100, 200, '{}')$$, 'invalid_input', 'requests are a list');
select is(
  (select jsonb_object_agg(u.id, jsonb_build_array(u.caller, u.org_id, u.member_id)) from public.api_usage as u where u.id in (:'mine', :'theirs', :'foreign_id', :'nobody')),
  jsonb_build_object(
    :'mine', jsonb_build_array('user', tests.org('ada'), tests.id('vic')), :'theirs', jsonb_build_array('user', tests.org('ada'), tests.id('adm')),
    :'foreign_id', jsonb_build_array('user', tests.org('bob'), tests.id('bob')), :'nobody', jsonb_build_array('unknown', kijko.platform_org_id(), null)
  ), 'each request has the caller that was admitted under its id'
);
select is((select count(*) from private.api_usage_default), 0::bigint, 'there is a day for each');

select is(tests.record(0, 1, (
  select jsonb_agg(tests.line(gen_random_uuid(), '{"route": "/rest/v1/flood", "status": 401}'))
    || jsonb_agg(tests.line(gen_random_uuid(), '{"route": "/rest/v1/flood", "status": 500}')) from generate_series(1, 95)
), 'flood'), 1::bigint, 'a flood that is refused');
select is(
  (select jsonb_object_agg(f.status, f.figures) from (
    select u.status, jsonb_build_array(count(*), sum(u.sampled)) as figures from public.api_usage as u where u.route = '/rest/v1/flood' group by 1
  ) as f),
  '{"401": [10, 95], "500": [95, 95]}', 'takes ten rows, which stand for all; our failures keep theirs'
);

-- A client cannot take the caller of another request: its own request id is not the proxy's.
select tests.act_as('bob');
select set_config('request.headers', (current_setting('request.headers')::jsonb || jsonb_build_object('x-request-id', :'nobody'))::text, true), set_config('request.method', 'GET', true);
select public.before_request();
select set_config('request.method', '', true);
select tests.act_as_superuser();
select is_empty(format('select * from kijko.request_actors(array[%L::uuid])', :'nobody'), 'a request id of the client notes nothing');

-- ---- who reads what
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.api_usage), 0::bigint, 'a viewer reads no requests');
select is((select (m.requests, m.failed)::text from public.usage_metrics(until => tests.soon()) as m), '(2,1)', 'and figures of all');
select tests.act_as('adm', tests.org('ada'));
select is((select count(*) from public.api_usage), 2::bigint, 'who may read the audit log reads those of all');
select throws_ok($$update public.api_usage set status = 200$$, '42501', null, 'and changes none');
select throws_ok($$insert into public.api_usage (id, method, route, status, duration_ms) values (gen_random_uuid(), 'GET', '/', 200, 1)$$, '42501', null, 'and adds none');
select tests.act_as('bob');
select is((select array_agg(u.id) from public.api_usage as u), array[:'foreign_id'::uuid], 'another tenant reads only its own');
select tests.act_as_superuser();
select tests.make_key(tests.org('ada'), '["usage:read"]') as key \gset
select is(tests.by_key(:'key', 'select count(*) from public.api_usage'), '0', 'nor does a key with usage:read');
select is(tests.by_key(:'key', 'select count(*) from public.service_levels()'), '8', 'and service levels');
select tests.make_key(tests.org('ada'), '["projects:read"]', name => 'other') as other \gset
select is(tests.by_key(:'other', 'select count(*) from public.service_levels()'), (select c.sqlstate from kijko.error_codes as c where c.code = 'permission_denied'), 'without usage:read there are none');
select is(tests.by_key(:'other', 'select count(*) from public.usage_metrics()'), (select c.sqlstate from kijko.error_codes as c where c.code = 'permission_denied'), 'nor figures');

-- ---- figures of a sample, and percentiles
select tests.act_as_superuser();
select tests.sign_up('eve');
insert into public.api_usage (id, org_id, method, route, status, duration_ms, sampled, member_id)
select gen_random_uuid(), tests.org('eve'), 'GET', '/rest/v1/projects', 200, n, 10, tests.id('eve') from generate_series(1, 100) as n;
insert into public.api_usage (id, org_id, method, route, status, duration_ms, sampled, member_id) values
  (gen_random_uuid(), tests.org('eve'), 'POST', '/rest/v1/rpc/execute_skill', 500, 5000, 1, tests.id('eve')),
  (gen_random_uuid(), tests.org('eve'), 'POST', '/llm/v1/chat/completions', 200, 60000, 1, tests.id('eve'));
select tests.act_as('eve');
select is(
  (select (m.requests, m.refused, m.failed, m.p50_ms, m.p95_ms)::text from public.usage_metrics(until => tests.soon()) as m where m.route = '/rest/v1/projects'),
  '(1000,0,0,50.000,95.000)', 'each row stands for as many requests as it says'
);
select is(
  (select jsonb_object_agg(l.name, jsonb_build_array(l.value, l.samples, l.met)) from public.service_levels(until => tests.soon()) as l where l.name in ('request_p95', 'query_p95', 'error_rate')),
  '{"request_p95": [96.0000, 1001, true], "query_p95": [95.0000, 1000, false], "error_rate": [0.0010, 1002, true]}',
  'service levels: the time of models is not ours, and a query is a read of a table'
);
select is((select count(*) from public.service_levels(until => tests.soon()) as l where l.met is null and l.samples = 0), 4::bigint, 'what nobody did is neither met nor missed');
select tests.refuses($$select public.usage_metrics(now() - interval '40 days', now())$$, 'invalid_input', 'a range has 31 days at most');
select tests.refuses($$select public.usage_metrics('-infinity')$$, 'invalid_input', 'and a beginning');
select tests.refuses($$select public.service_levels(until => 'infinity')$$, 'invalid_input', 'and an end');
select tests.refuses($$select public.service_levels(now(), now() - interval '1 day')$$, 'invalid_input', 'and a direction');

select tests.act_as('eve');
insert into public.topics (title) values ('first');
select is((select (l.samples, l.met)::text from public.service_levels(until => tests.soon()) as l where l.name = 'first_topic'), '(1,t)', 'the first topic came soon after the sign-up');
select tests.act_as_service();
select cmp_ok((select l.samples from public.service_levels(until => tests.soon()) as l where l.name = 'error_rate'), '>=', 1006::bigint, 'operators have the whole platform');
select is((select l.samples from public.service_levels(until => tests.soon(), org_id => tests.org('eve')) as l where l.name = 'error_rate'), 1002::bigint, 'or one organization');

-- ---- costs of models, also when they are settled later
select tests.act_as_superuser();
select gen_random_uuid() as asked \gset
insert into public.llm_calls (id, org_id, requested_model, provider, model, own_key, held_tokens, held_microusd, request_id)
values (:'asked', tests.org('eve'), 'echo/a', 'echo', 'echo/a', false, 1, 1, :'asked');
insert into public.api_usage (id, org_id, method, route, status, duration_ms, cost_microusd)
values (:'asked', tests.org('eve'), 'POST', '/llm/v1/chat/completions', 200, 1, private.observability_call_costs(tests.org('eve'), :'asked'));
select is((select u.cost_microusd from public.api_usage as u where u.id = :'asked'), null, 'the costs of a call that runs are not known');
select is(private.observability_settle_costs(), 0, 'and stay so');
update public.llm_calls set status = 'succeeded', cost_microusd = 420, finished_at = now() where id = :'asked';
select is(private.observability_settle_costs(), 1, 'until it is settled');
select is((select u.cost_microusd from public.api_usage as u where u.id = :'asked'), 420::bigint, 'then the request has them');
select tests.act_as('eve');
select is((select (l.value, l.samples)::text from public.service_levels(until => tests.soon()) as l where l.name = 'cost_per_user'), '(420.0000,1)', 'and the user''s share');

-- ---- days are made ahead and dropped
select tests.act_as_superuser();
select is(private.observability_make_partitions(), 0, 'the next days are there');
select is(private.observability_make_partitions(4), 1, 'and another one can be made');
insert into public.api_usage (id, org_id, method, route, status, duration_ms, created_at)
values (gen_random_uuid(), tests.org('eve'), 'GET', '/mcp', 200, 1, now() + interval '5 days'), (gen_random_uuid(), tests.org('eve'), 'GET', '/mcp', 200, 1, now() - interval '40 days');
select is((select count(*) from private.api_usage_default), 2::bigint, 'without a day they are in the default');
select is(private.observability_make_partitions(5), 1, 'a day takes its rows out of it');
select is((select count(*) from private.api_usage_default), 1::bigint, 'and no others');
select tests.travel('32 days');
select is(private.observability_drop_partitions(31), 1, 'the day that is older than 31 days goes');
select is((select count(*) from public.api_usage where created_at < kijko.now() - interval '32 days'), 0::bigint, 'with what the default had of that time');
select tests.refuses('select private.observability_drop_partitions(0)', 'invalid_input', 'today stays');

-- ---- a deleted organization takes its requests along
delete from public.organizations where id = tests.org('bob');
select is((select count(*) from public.api_usage where id = :'foreign_id'), 0::bigint, 'nothing of it is left');
select is(tests.record(100, 200, jsonb_build_array(tests.line(:'foreign_id'))), 200::bigint, 'a last request of it that is read later');
select is((select u.org_id from public.api_usage as u where u.id = :'foreign_id'), kijko.platform_org_id(), 'is nobody''s');

select tests.act_as_sidecar();
select ok((select used >= 0 and unused >= 0 from private.observability_retained_wal()), 'the sidecar sees what slots hold back');

select finish();
rollback;
