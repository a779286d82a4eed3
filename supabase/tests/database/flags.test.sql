begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
create view tests.flag_tables (relation) as
select unnest('{feature_flags,flag_environments,flag_segments,flag_strategies,flag_constraints,flag_variants,flag_dependencies,flag_evaluations,flag_changes,flag_applications}'::text[]);
grant select on tests.flag_tables to public;
create function tests.is_on(flag text, environment text default 'production') returns boolean language sql as $$
  select (f.value -> 'enabled')::boolean
  from jsonb_array_elements(public.flag_definitions(is_on.environment) -> 'definitions' -> 'features') as f where f.value ->> 'name' = is_on.flag
$$;

-- ---- anon and non-members first
select tests.act_as_anon();
select throws_ok(format('select * from public.%I', t.relation), '42501', null, 'an unauthenticated caller reads no ' || t.relation) from tests.flag_tables as t;
select throws_ok($$select public.flags()$$, '42501', null, 'and has no flags');
select throws_ok($$select public.flag_definitions()$$, '42501', null, 'nor definitions');
select tests.act_as('mem', tests.org('ada'));
insert into public.feature_flags (name) values ('checkout'), ('base'), ('other');
select (public.set_flag_segment('beta', '[{"contextName": "beta", "operator": "IN", "values": ["yes"]}]')).id as beta \gset
insert into public.flag_strategies (flag_id, name, parameters)
select f.id, 'flexibleRollout', '{"rollout": "50", "stickiness": "userId"}' from public.feature_flags as f where f.name = 'checkout';
select results_eq($$select name, protected from public.flag_environments order by name$$, $$values ('development', false), ('production', false)$$, 'environments come with the first flag');
select is(public.change_flag('checkout', 'production', '{"enabled": true}') ->> 'applied', 'true', 'a member turns a flag on');
insert into public.flag_variants (flag_id, name, weight) select f.id, 'blue', 1 from public.feature_flags as f where f.name = 'checkout';
select public.register_flag_application('{"appName": "shop", "instanceId": "i1", "sdkVersion": "unleash-client-node:6.6.0", "strategies": ["default", "ours", 7]}');
select id as strategy from public.flag_strategies \gset
select tests.act_as('bob', tests.org('bob'));
select is_empty(format('select 1 from public.%I', t.relation), 'a non-member sees nothing of ' || t.relation) from tests.flag_tables as t;
select is(public.flag_definitions() -> 'definitions' -> 'features', '[]', 'nor among definitions');
select tests.refuses($$select public.change_flag('checkout', 'production', '{"enabled": false}')$$, 'not_found', 'nor changes a flag by its name');
select throws_ok(format($$insert into public.feature_flags (org_id, name) values (%L, 'x')$$, tests.org('ada')), '42501', null, 'nor adds one');
select throws_ok(format($$insert into public.flag_strategies (org_id, flag_id, name) values (%L, %L, 'default')$$, tests.org('ada'), gen_random_uuid()), '42501', null, 'nor a strategy');
select throws_ok(format($$insert into public.flag_constraints (org_id, strategy_id, context_name, operator) values (%L, %L, 'a', 'NOT_IN')$$, tests.org('ada'), :'strategy'), '42501', null, 'nor a constraint');
select throws_ok(format($$insert into public.flag_constraints (strategy_id, context_name, operator) values (%L, 'a', 'NOT_IN')$$, :'strategy'), '23503', null, 'nor one of their own for a strategy of others');
select throws_ok(format($$insert into public.flag_variants (org_id, strategy_id, name, weight) values (%L, %L, 'a', 1)$$, tests.org('ada'), :'strategy'), '42501', null, 'nor a variant');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.feature_flags), 3::bigint, 'a viewer sees flags');
select throws_ok($$insert into public.feature_flags (name) values ('x')$$, '42501', null, 'and adds none');
select tests.refuses(statement, 'permission_denied', 'a viewer does not: ' || statement) from (values
  ($$select public.change_flag('checkout', 'production', '{"enabled": false}')$$), ($$select public.flag_definitions()$$),
  ($$select public.record_flag_evaluations('{}')$$), ($$select public.set_flag_environment('x')$$), ($$select public.cancel_flag_change(gen_random_uuid())$$),
  ($$select public.set_flag_segment('beta', '[]')$$), ($$select public.register_flag_application('{"appName": "a"}')$$)
) as s (statement);
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.set_flag_environment('production', true)$$, 'permission_denied', 'a member protects nothing');
select throws_ok($$update public.feature_flags set enabled_in = '{production}'$$, '42501', null, 'nobody writes where a flag is on');

-- ---- what cannot work is refused
select tests.refuses(format('insert into public.flag_strategies (flag_id, name, parameters) select f.id, %L, %L from public.feature_flags as f where f.name = ''other''', name, parameters),
  'invalid_input', format('no strategy: %s %s', name, parameters))
from (values
  ('custom', '{}'), ('flexibleRollout', '{}'), ('flexibleRollout', '{"rollout": "101"}'), ('flexibleRollout', '[]'), ('default', '"x"')
) as s (name, parameters);
select tests.refuses(format('insert into public.flag_constraints (strategy_id, context_name, operator, "values", value) values (%L, %L, %L, %L, %L)', :'strategy', name, operator, list, value),
  'invalid_input', format('no constraint: %s %s %s %s', name, operator, list, value))
from (values
  ('a', 'LIKE', '{}', 'b'), ('v', 'SEMVER_EQ', '{}', 'v1'), ('v', 'REGEX', '{}', '('), ('a', 'IN', '{}', null), ('a"', 'IN', '{a}', null),
  ('', 'IN', '{a}', null), ('a', 'IN', '{"a\\"}', null), ('n', 'NUM_GT', '{}', '5 or true')
) as s (name, operator, list, value);
select throws_ok(format('insert into public.flag_constraints (strategy_id, segment_id, context_name, operator) values (%L, %L, ''a'', ''NOT_IN'')', :'strategy', :'beta'), '23514', null, 'a constraint has one owner');
select throws_ok('insert into public.flag_constraints (context_name, operator) values (''a'', ''NOT_IN'')', '23514', null, 'and not none');
select tests.refuses(format('insert into public.flag_variants (strategy_id, name, weight, payload, overrides) values (%L, %L, %L, %L, %L)', :'strategy', name, weight, payload, overrides),
  'invalid_input', format('no variant: %s %s %s %s', name, weight, payload, overrides))
from (values
  ('a', 0, null, '[]'), ('', 1, null, '[]'), ('a', 1, '{"type": "json", "value": "{"}', '[]'), ('a', 1, '{"type": "xml", "value": ""}', '[]'), ('a', 1, '{"value": 1e131071}', '[]'),
  ('a', 1, null, '[{"contextName": "userId", "values": ["7"]}]'), ('a', 1, null, '1e131071')
) as s (name, weight, payload, overrides);
-- A number of ten bytes is a text of 131,072.
select tests.refuses(statement, 'invalid_input', 'no number that large in ' || statement) from (values
  ($$select public.set_flag_segment('beta', '[1e131071]')$$), ($$select public.register_flag_application('{"appName": 1e131071}')$$), ($$update public.flag_strategies set parameters = '{"rollout": 1e131071}'$$),
  ($$select public.flags('{"a": 1e131071}')$$), ($$select public.record_flag_evaluations('{"a": 1e131071}')$$),
  ($$select public.change_flag('other', 'production', '{"enabled": 1e131071}')$$)
) as s (statement);
select tests.refuses(format('select public.set_flag_segment(''beta'', %L)', list), 'invalid_input', 'no constraints: ' || list) from (values ('[1]'), ('{}'), ('null'), ('"x"')) as s (list);
select results_eq('select context_name, operator, "values" from public.flag_constraints', $$values ('beta', 'IN', '{yes}'::text[])$$, 'what was refused has changed nothing');
select tests.refuses(format($$update public.flag_strategies set segment_ids = array[%L::uuid]$$, gen_random_uuid()), 'conflict', 'no segment that is not there');
update public.flag_strategies as s set segment_ids = array(select g.id from public.flag_segments as g);
select tests.refuses($$delete from public.flag_segments$$, 'conflict', 'a segment that strategies use stays');
select tests.refuses($$insert into public.flag_strategies (flag_id, name) select f.id, 'default' from public.feature_flags as f, generate_series(1, 51) where f.name = 'other'$$, 'conflict', 'at most 50 strategies');
select tests.refuses(format($$select public.set_flag_segment('r', %L)$$,
  (select jsonb_agg(jsonb_build_object('contextName', 'a', 'operator', 'REGEX', 'value', n::text)) from generate_series(1, 51) as n)), 'invalid_input', 'a list of constraints has at most 50');
select tests.refuses(format('insert into public.flag_constraints (strategy_id, context_name, operator) select %L, ''a'', ''NOT_IN'' from generate_series(1, 51)', :'strategy'), 'invalid_input', 'also row by row');
select tests.refuses(format('insert into public.flag_variants (strategy_id, name, weight) select %L, n, 1 from generate_series(1, 51) as n', :'strategy'), 'invalid_input', 'as one of variants');
savepoint segments;
insert into public.flag_segments (name) select 'r' || n from generate_series(1, 60) as n;
select tests.refuses($$insert into public.flag_constraints (segment_id, context_name, operator, value) select g.id, 'a', 'REGEX', n::text from public.flag_segments as g, generate_series(1, 26) as n where g.name in ('r1', 'r2')$$,
  'invalid_input', 'an organization at most 50 regular expressions');
select tests.refuses($$insert into public.flag_constraints (segment_id, context_name, operator, "values") select g.id, 'a', 'IN', array[repeat('x', 450)] from public.flag_segments as g, generate_series(1, 10) as n$$,
  'invalid_input', 'and 256 KiB');
rollback to savepoint segments;
insert into public.flag_dependencies (flag_id, parent_id) select c.id, p.id from public.feature_flags as c, public.feature_flags as p where c.name = 'checkout' and p.name = 'base';
select tests.refuses($$insert into public.flag_dependencies (flag_id, parent_id) select c.id, p.id from public.feature_flags as c, public.feature_flags as p where c.name = 'other' and p.name = 'checkout'$$, 'invalid_input', 'no chain of dependencies');
select tests.refuses($$delete from public.feature_flags where name = 'base'$$, 'conflict', 'a flag that others need stays');

-- ---- definitions, revisions and gates
update public.feature_flags set required_roles = '{admin,owner}', required_plans = '{PRO}', required_feature = 'sso' where name = 'other';
select is(f.value -> 'strategies' -> 0 -> 'constraints', '[{"values": ["true"], "operator": "IN", "contextName": "entitled_sso"}, {"values": ["PRO"], "operator": "IN", "contextName": "plan"}, {"values": ["admin", "owner"], "operator": "IN", "contextName": "role"}]', 'what a flag requires is a constraint')
from jsonb_array_elements(public.flag_definitions() -> 'definitions' -> 'features') as f where f.value ->> 'name' = 'other';
insert into public.flag_constraints (strategy_id, position, context_name, operator, value, inverted) values (:'strategy', 1, 'n', 'NUM_GT', '5', true);
insert into public.flag_constraints (strategy_id, position, context_name, operator) values (:'strategy', 2, 'userId', 'NOT_IN');
insert into public.flag_variants (strategy_id, position, name, weight, payload) values (:'strategy', 2, 'green', 1, null), (:'strategy', 1, 'red', 2, '{"type": "string", "value": "#f00"}');
select is(public.flag_definitions() -> 'definitions' -> 'segments', '[{"id": 1, "name": "beta", "constraints": [{"contextName": "beta", "operator": "IN", "values": ["yes"]}]}]', 'a segment as Unleash has it');
select is(f.value -> 'variants', '[{"name": "blue", "weight": 1}]', 'and the variants of a flag')
from jsonb_array_elements(public.flag_definitions() -> 'definitions' -> 'features') as f where f.value ->> 'name' = 'checkout';
select is(f.value - '{description,project,type,stale,impressionData,variants}'::text[], '{"name": "checkout", "enabled": true, "dependencies": [{"feature": "base", "enabled": true, "variants": []}], "strategies": [{"name": "flexibleRollout", "parameters": {"rollout": "50", "stickiness": "userId"}, "constraints": [{"contextName": "n", "operator": "NUM_GT", "value": "5", "inverted": true}, {"contextName": "userId", "operator": "NOT_IN", "values": []}], "segments": [1], "variants": [{"name": "red", "weight": 2, "payload": {"type": "string", "value": "#f00"}}, {"name": "green", "weight": 1}]}]}', 'a flag as Unleash has it')
from jsonb_array_elements(public.flag_definitions() -> 'definitions' -> 'features') as f where f.value ->> 'name' = 'checkout';
select is(tests.is_on('checkout', environment => 'development'), false, 'elsewhere it is off');
select (public.flag_definitions() ->> 'revision')::bigint as revision \gset
select is(public.flag_definitions(known_revision => :revision) -> 'definitions', 'null', 'who knows the revision gets no definitions');
savepoint changed;
update public.feature_flags set description = 'x' where name = 'other';
select (public.flag_definitions() ->> 'revision')::bigint as rolled_back \gset
select cmp_ok(:rolled_back::bigint, '>', :revision::bigint, 'a change takes a new one');
rollback to savepoint changed;
select is((public.flag_definitions() ->> 'revision')::bigint, :revision::bigint, 'which a rollback takes back');
update public.feature_flags set description = 'y' where name = 'other';
select cmp_ok((public.flag_definitions() ->> 'revision')::bigint, '>', :rolled_back::bigint, 'and gives to nobody else');
-- 1 and 1.0 are equal in jsonb.
update public.flag_variants set payload = '{"type": "json", "value": "{}", "n": 1}' where name = 'green';
select (public.flag_definitions() ->> 'revision')::bigint as revision \gset
update public.flag_variants set payload = '{"type": "json", "value": "{}", "n": 1.0}' where name = 'green';
select cmp_ok((public.flag_definitions() ->> 'revision')::bigint, '>', :revision::bigint, 'another text of a number is a change');
select (public.flag_definitions() ->> 'revision')::bigint as revision \gset
update public.flag_variants set payload = payload where name = 'green';
select is((public.flag_definitions() ->> 'revision')::bigint, :revision::bigint, 'what changes nothing is none');
select tests.refuses($$select public.flag_definitions('nowhere')$$, 'not_found', 'there is no such environment');

-- ---- programs
select results_eq('select app_name, instance_id, sdk_version, strategies, unknown_strategies from public.flag_applications',
  $$values ('shop', 'i1', 'unleash-client-node:6.6.0', '{default,ours}'::text[], '{ours}'::text[])$$, 'a program is kept, with a warning');
select lives_ok(format('select public.register_flag_application(%L)', application), 'what is not said is left out: ' || left(application, 60)) from (values
  ('{}'), ('{"appName": ""}'), ('{"appName": 7}'), ('{"appName": "shop", "instanceId": "i1", "strategies": "x"}'), (jsonb_build_object('appName', repeat('x', 201))::text)
) as a (application);
select results_eq('select app_name, sdk_version, strategies from public.flag_applications', $$values ('shop', null::text, '{}'::text[])$$, 'and the program''s row is changed');
select tests.refuses($$select public.register_flag_application('[]')$$, 'invalid_input', 'no program');
select tests.refuses($$select public.register_flag_application('{"appName": "a"}', 'nowhere')$$, 'not_found', 'no environment');
select tests.act_as_superuser();
insert into public.flag_applications (org_id, environment, app_name, instance_id, last_seen_at)
select tests.org('ada'), 'production', 'old', n, kijko.now() - interval '31 days' from generate_series(1, 1000) as n;
update public.flag_applications set last_seen_at = kijko.now() - interval '2 hours' where app_name = 'shop' and org_id = tests.org('ada');
select tests.act_as('mem', tests.org('ada'));
select public.register_flag_application('{"appName": "new"}');
select is((select count(*) from public.flag_applications), 1000::bigint, 'an organization has the 1,000 that were seen last');
select public.record_flag_evaluations('{}', application => '{"appName": "shop", "instanceId": "i1"}');
select cmp_ok((select last_seen_at from public.flag_applications where app_name = 'shop'), '>', kijko.now() - interval '1 hour', 'a report says that it is still there');
select tests.act_as_superuser();
select cmp_ok(private.flags_purge_applications(), '>=', 998, 'old ones are deleted');
select tests.act_as('mem', tests.org('ada'));
select results_eq('select app_name from public.flag_applications order by 1', $$values ('new'), ('shop')$$, 'and others stay');

-- ---- evaluations
select lives_ok($$select public.record_flag_evaluations('{"checkout": {"yes": 2, "no": 1, "variants": {"blue": 2, "bad": "x"}}, "unknown": {"yes": 1}, "base": {"yes": "1e9"}}')$$, 'a report');
select lives_ok($$select public.record_flag_evaluations('{"checkout": {"yes": 1, "variants": {"red": 1, "blue": 1}}}')$$, 'and another');
select results_eq($$select f.name, e.yes, e.no, e.variants from public.flag_evaluations as e join public.feature_flags as f on f.id = e.flag_id order by 1$$,
  $$values ('base', 0::bigint, 0::bigint, '{}'::jsonb), ('checkout', 3::bigint, 1::bigint, '{"blue": 3, "red": 1}'::jsonb)$$, 'add up in the hour');
-- Everybody has the key of a page.
savepoint page;
insert into public.flag_strategies (flag_id, name) select f.id, 'default' from public.feature_flags as f where f.name = 'base' returning id as plain \gset
insert into public.flag_variants (strategy_id, name, weight) values (:'plain', 'own', 1);
select tests.act_as('ada');
insert into public.api_keys (org_id, name, permissions, kind, origins, daily_quota)
values (tests.org('ada'), 'page', '["flags:evaluate"]', 'publishable', '{https://a.example}', 1000) returning id as page \gset
select tests.act_as_key(:'page', tests.org('ada'));
select public.record_flag_evaluations(jsonb_build_object('base', jsonb_build_object('yes', 1, 'variants', (select jsonb_object_agg('a' || n, 1) from generate_series(1, 60) as n))));
select public.record_flag_evaluations('{"base": {"yes": 1, "variants": {"own": 1, "disabled": 1, "blue": 1}}, "checkout": {"no": 1, "variants": {"blue": 1, "own": 1}}, "other": {"variants": []}, "unknown": {"yes": 1}}');
select tests.act_as('mem', tests.org('ada'));
select public.record_flag_evaluations('{"base": {"no": 1, "variants": {"former": 1}}}');
select results_eq($$select f.name, e.yes, e.no, e.variants from public.flag_evaluations as e join public.feature_flags as f on f.id = e.flag_id where f.name <> 'other' order by 1$$,
  $$values ('base', 2::bigint, 1::bigint, '{"own": 1, "disabled": 1, "former": 1}'::jsonb), ('checkout', 3::bigint, 2::bigint, '{"blue": 4, "red": 1}'::jsonb)$$,
  'the key of a page counts variants of the flag, and cannot fill the hour with others');
rollback to savepoint page;
select tests.refuses($$select public.record_flag_evaluations('[]')$$, 'invalid_input', 'no report');
select is_empty($$select * from public.stale_flags()$$, 'new flags are not stale');
select tests.act_as_superuser();
update public.feature_flags set created_at = now() - interval '41 days' where org_id = tests.org('ada');
update public.flag_evaluations set no = 0 where org_id = tests.org('ada') and yes > 0;
select tests.act_as('vic', tests.org('ada'));
select results_eq($$select name, reason from public.stale_flags()$$, $$values ('base', 'unused'), ('checkout', 'settled'), ('other', 'unused')$$, 'old ones are');

-- ---- changes: at once, later, by a second person
select tests.act_as('bob', tests.org('bob'));
select is_empty(format('select * from public.stale_flags(org_id => %L)', tests.org('ada')), 'a non-member learns of no stale flag');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.change_flag(''checkout'', ''production'', %L)', change), 'invalid_input', 'no change: ' || change) from (values
  ('{}'), ('[]'), ('{"enabled": "true"}'), ('{"more": 1}'), ('{"strategies": {}}'), ('{"strategies": ["x"]}'), ('{"strategies": [{"name": "custom"}]}'),
  ('{"strategies": [{"name": "default", "segment_ids": ["x"]}]}'), ('{"strategies": [{"name": "default", "title": 1}]}')
) as c (change);
select is(public.change_flag('checkout', 'production', '{"strategies": [{"name": "default", "title": "all", "constraints": [{"contextName": "a", "operator": "IN", "values": ["1", "2"], "caseInsensitive": true}], "variants": [{"name": "z", "weight": 1, "weightType": "fix"}, {"name": "b", "weight": 3, "payload": {"type": "number", "value": "1"}}]}, {"name": "userWithId", "parameters": {"userIds": "7"}}]}') ->> 'applied', 'true', 'strategies are replaced');
select results_eq($$select s.name, s.title, s.position from public.flag_strategies as s join public.feature_flags as f on f.id = s.flag_id where f.name = 'checkout' order by s.position$$,
  $$values ('default', 'all', 1), ('userWithId', '', 2)$$, 'in their order');
select is(f.value -> 'strategies' -> 0, '{"name": "default", "parameters": {}, "segments": [], "constraints": [{"contextName": "a", "operator": "IN", "values": ["1", "2"], "caseInsensitive": true}], "variants": [{"name": "z", "weight": 1, "weightType": "fix"}, {"name": "b", "weight": 3, "payload": {"type": "number", "value": "1"}}]}', 'with their constraints and variants')
from jsonb_array_elements(public.flag_definitions() -> 'definitions' -> 'features') as f where f.value ->> 'name' = 'checkout';
select is((select count(*) from public.flag_constraints as c where c.strategy_id is not null), 1::bigint, 'what was there before is gone');
select public.change_flag('checkout', 'production', '{"enabled": false}', 'over', kijko.now() + interval '1 hour') ->> 'change_id' as change \gset
select is(tests.is_on('checkout'), true, 'a scheduled change waits');
select public.change_flag('base', 'production', '{"enabled": true}', null, kijko.now() + interval '1 hour') ->> 'change_id' as cancelled \gset
select is((public.cancel_flag_change(:'cancelled')).status, 'cancelled', 'and can be cancelled');
select tests.refuses(format('select public.cancel_flag_change(%L)', :'cancelled'), 'conflict', 'once');
select public.change_flag('other', 'production', '{"enabled": true}', null, kijko.now() + interval '1 hour') ->> 'change_id' as unapproved \gset
select tests.act_as('bob', tests.org('bob'));
select tests.refuses(format('select public.cancel_flag_change(%L)', :'change'), 'not_found', 'a non-member cancels nothing');
select tests.act_as_superuser();
select is(private.flags_run_due(), 0, 'not before its time');
update public.flag_changes set apply_at = kijko.now() where id = :'change';
select is(private.flags_run_due(), 1, 'at its time');
select tests.act_as('ada', tests.org('ada'));
select is(tests.is_on('checkout'), false, 'it is made');
select is((select status from public.flag_changes where id = :'change'), 'applied', 'once');
select is((public.set_flag_environment('production', true)).protected, true, 'an admin protects an environment');
select tests.act_as_superuser();
update public.flag_changes set apply_at = kijko.now() where id = :'unapproved';
select private.flags_run_due() as due \gset
select is((select status from public.flag_changes where id = :'unapproved'), 'failed', 'what was scheduled before is not made without approval');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$update public.flag_strategies set title = 'x'$$, 'conflict', 'there strategies are not written directly');
select tests.refuses($$insert into public.flag_strategies (flag_id, name) select f.id, 'default' from public.feature_flags as f where f.name = 'base'$$, 'conflict', 'nor added');
select lives_ok($$insert into public.flag_strategies (flag_id, name, environment) select f.id, 'default', 'development' from public.feature_flags as f where f.name = 'base'$$, 'elsewhere they are');
select tests.refuses(statement, 'conflict', 'nor are their parts: ' || statement) from (values
  ('update public.flag_constraints set inverted = true where strategy_id is not null'), ('delete from public.flag_constraints where strategy_id is not null'),
  ($$insert into public.flag_variants (strategy_id, name, weight) select s.id, 'x', 1 from public.flag_strategies as s where s.environment = 'production' limit 1$$),
  ($$update public.flag_variants set strategy_id = null, flag_id = (select f.id from public.feature_flags as f where f.name = 'other') where name = 'z'$$)
) as s (statement);
select public.change_flag('base', 'production', '{"enabled": true}', 'launch') ->> 'approval_id' as approval \gset
select is(tests.is_on('base'), false, 'a change waits for a second person');
select tests.refuses(format('select public.approve_change(%L)', :'approval'), 'permission_denied', 'who asked does not decide');
-- Of the flag's own variants, which are no part of the change.
insert into public.flag_variants (flag_id, name, weight) select f.id, 'late', 1 from public.feature_flags as f where f.name = 'base';
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', :'approval'), 'conflict', 'nobody approves what has other variants since');
delete from public.flag_variants where name = 'late';
select is((public.approve_change(:'approval')).status, 'approved', 'an admin approves');
select tests.refuses($$insert into public.flag_variants (flag_id, name, weight) select f.id, 'x', 1 from public.feature_flags as f where f.name = 'base'$$, 'conflict', 'variants of a flag that is on there are not written directly');
select is(tests.is_on('base'), true, 'and it is made');
select lives_ok($$delete from public.flag_dependencies$$, 'what is off there can change');
select tests.refuses($$delete from public.feature_flags where name = 'base'$$, 'conflict', 'a flag that is on there is not deleted');
select tests.refuses($$update public.feature_flags set required_plans = '{PRO}' where name = 'base'$$, 'conflict', 'nor given to others');
select tests.act_as('mem', tests.org('ada'));
select public.change_flag('base', 'production', '{"enabled": false}') ->> 'approval_id' as stale \gset
select tests.act_as_superuser();
set local role postgres;
insert into public.flag_strategies (org_id, flag_id, name) select f.org_id, f.id, 'default' from public.feature_flags as f where f.org_id = tests.org('ada') and f.name = 'base';
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', :'stale'), 'conflict', 'an approval of what has changed since is refused');
-- What a flag requires can be written while it is off, and is a part of what was approved.
select tests.act_as('mem', tests.org('ada'));
select public.change_flag('other', 'production', '{"enabled": true}', null, kijko.now() + interval '1 hour') ->> 'approval_id' as later \gset
update public.feature_flags set required_roles = '{owner}' where name = 'other';
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', :'later'), 'conflict', 'nor of a flag that requires something else');
update public.feature_flags set required_roles = '{admin,owner}' where name = 'other';
select is((public.approve_change(:'later')).status, 'approved', 'of what was asked for it is');
update public.feature_flags set required_roles = '{}' where name = 'other';
select tests.act_as_superuser();
update public.flag_changes set apply_at = kijko.now() where approval_id = :'later';
select private.flags_run_due() as due \gset
select results_eq(format('select status, error from public.flag_changes where approval_id = %L', :'later'),
  $$values ('failed', 'the flag has changed since the approval')$$, 'and is not made of what has changed after the approval');

-- A segment that nothing in the environment uses yet can be written, and is a part of what was approved, too.
select tests.act_as('mem', tests.org('ada'));
select (public.set_flag_segment('late', '[{"contextName": "a", "operator": "IN", "values": ["1"]}]')).id as late \gset
select public.change_flag('other', 'production', jsonb_build_object('strategies', jsonb_build_array(jsonb_build_object('name', 'default', 'segment_ids', jsonb_build_array(:'late'))))) ->> 'approval_id' as segmented \gset
update public.flag_constraints set "values" = '{2}' where segment_id = :'late';
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', :'segmented'), 'conflict', 'nobody approves what has another segment since');
select tests.act_as('mem', tests.org('ada'));
update public.flag_constraints set "values" = '{1}' where segment_id = :'late';
select tests.act_as('ada', tests.org('ada'));
select is((public.approve_change(:'segmented')).status, 'approved', 'with the segment as it was, somebody does');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(statement, 'conflict', 'then the segment is not written directly: ' || statement) from (values
  ($$select public.set_flag_segment('late', '[]')$$), ($$delete from public.flag_constraints as c using public.flag_segments as g where g.id = c.segment_id and g.name = 'late'$$)
) as s (statement);
select tests.refuses(format('select public.set_flag_segment(%L, ''[]'')', name), 'invalid_input', 'no name of a segment: ' || left(name, 10)) from (values (''), (repeat('x', 101)), (E'a\tb')) as s (name);

-- ---- an environment that was removed meanwhile
select tests.act_as('mem', tests.org('ada'));
select public.change_flag('base', 'development', '{"enabled": true}', null, kijko.now() + interval '1 hour') ->> 'change_id' as orphan \gset
select tests.act_as_superuser();
delete from public.flag_environments where org_id = tests.org('ada') and name = 'development';
update public.flag_changes set apply_at = kijko.now() where id = :'orphan';
select private.flags_run_due() as due \gset
select is((select status from public.flag_changes where id = :'orphan'), 'failed', 'a change of an environment that was removed is not made');
select is((select enabled_in from public.feature_flags where org_id = tests.org('ada') and name = 'base'), '{production}', 'and names it nowhere');

-- ---- the platform's flags: from the next statement on, also in policies
select tests.act_as_superuser();
insert into public.feature_flags (org_id, name, required_roles) values (kijko.platform_org_id(), 'new-editor', '{}'), (kijko.platform_org_id(), 'owners', '{owner}');
update public.feature_flags set enabled_in = '{production}' where org_id = kijko.platform_org_id();
select is(kijko.flag_enabled('new-editor'), true, 'on in the next statement');
insert into public.flag_strategies (org_id, flag_id, name, parameters)
select f.org_id, f.id, 'userWithId', jsonb_build_object('userIds', tests.id('ada')) from public.feature_flags as f where f.org_id = kijko.platform_org_id() and f.name = 'new-editor';
select is(kijko.flag_enabled('new-editor'), false, 'its strategy counts in the next one');
select tests.refuses($$insert into public.flag_constraints (org_id, strategy_id, context_name, operator, value) select s.org_id, s.id, 'a', 'REGEX', 'a' from public.flag_strategies as s where s.org_id = kijko.platform_org_id()$$, 'invalid_input', 'the platform has no regular expressions');
-- As the worker writes them, which counts in shared memory. Of an environment of this test: the worker writes those of its calls, too.
insert into kijko.flag_evaluations (environment, flag, variant, hour, yes, no) values
  ('pgtap', 'new-editor', '', date_trunc('hour', kijko.now(), 'UTC'), 2, 3), ('pgtap', 'new-editor', 'blue', date_trunc('hour', kijko.now(), 'UTC'), 4, 0),
  ('pgtap', 'of-nobody', '', date_trunc('hour', kijko.now(), 'UTC'), 1, 0);
select cmp_ok(private.flags_collect(), '>=', 3, 'evaluations of the platform''s flags are taken from the extension');
select results_eq($$select e.yes, e.no, e.variants from public.flag_evaluations as e join public.feature_flags as f on f.id = e.flag_id where e.environment = 'pgtap' and f.name = 'new-editor' and f.org_id = kijko.platform_org_id()$$,
  $$values (6::bigint, 3::bigint, '{"blue": 4}'::jsonb)$$, 'and stand with the others');
insert into kijko.flag_evaluations (environment, flag, variant, hour, yes, no) values ('pgtap', 'new-editor', 'blue', date_trunc('hour', kijko.now(), 'UTC'), 1, 0);
select private.flags_collect() is not null as collected \gset
select is(e.variants, '{"blue": 5}', 'they add up') from public.flag_evaluations as e join public.feature_flags as f on f.id = e.flag_id where e.environment = 'pgtap' and f.name = 'new-editor' and f.org_id = kijko.platform_org_id();
select is_empty('select 1 from kijko.flag_evaluations where environment = ''pgtap''', 'once');
savepoint aged;
update public.feature_flags set created_at = now() - interval '41 days' where org_id = kijko.platform_org_id();
set local role service_role;
select results_eq($$select name, reason from public.stale_flags('pgtap',  kijko.platform_org_id()) where name in ('new-editor', 'owners')$$, $$values ('new-editor', 'expired'), ('owners', 'unused')$$, 'a back office sees which of them are stale');
rollback to savepoint aged;
select tests.act_as('ada', tests.org('ada'));
select results_eq($$select t.value ->> 'name' from jsonb_array_elements(public.flags() -> 'toggles') as t order by 1$$, $$values ('new-editor'), ('owners')$$, 'an owner has both');
select is_empty($$select 1 from public.feature_flags where org_id = kijko.platform_org_id()$$, 'and reads none of the platform''s rows');
select tests.act_as('mem', tests.org('ada'));
select is(public.flags('{"role": "owner", "properties": {"role": "owner"}}') -> 'toggles', '[]', 'a member has neither, whatever they say');
select tests.refuses($$select public.flags('[]')$$, 'invalid_input', 'no context');
select is(public.flags('{"properties": [1]}') -> 'toggles', '[]', 'properties that are none are left out');
select tests.act_as_superuser();
create table tests.gated (id integer);
insert into tests.gated values (1);
alter table tests.gated enable row level security;
create policy gated on tests.gated for select to authenticated using (kijko.flag_enabled('new-editor', jsonb_build_object('userId', kijko.user_id())));
grant select on tests.gated to authenticated;
select tests.act_as('ada', tests.org('ada'));
select is((select count(*) from tests.gated), 1::bigint, 'a policy asks a flag');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from tests.gated), 0::bigint, 'as the caller');
select tests.act_as_superuser();
select lives_ok($$delete from public.organizations where id = tests.org('ada')$$, 'flags go with their organization');

select * from finish();
rollback;
