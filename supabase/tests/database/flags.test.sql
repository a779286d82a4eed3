begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
create view tests.flag_tables (relation) as
select unnest('{feature_flags,flag_environments,flag_segments,flag_strategies,flag_dependencies,flag_evaluations,flag_changes}'::text[]);
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
insert into public.flag_segments (name, constraints) values ('beta', '[{"contextName": "beta", "operator": "IN", "values": ["yes"]}]');
insert into public.flag_strategies (flag_id, name, parameters)
select f.id, 'flexibleRollout', '{"rollout": "50", "stickiness": "userId"}' from public.feature_flags as f where f.name = 'checkout';
select results_eq($$select name, protected from public.flag_environments order by name$$, $$values ('development', false), ('production', false)$$, 'environments come with the first flag');
select is(public.change_flag('checkout', 'production', '{"enabled": true}') ->> 'applied', 'true', 'a member turns a flag on');
select tests.act_as('bob', tests.org('bob'));
select is_empty(format('select 1 from public.%I', t.relation), 'a non-member sees nothing of ' || t.relation) from tests.flag_tables as t;
select is(public.flag_definitions() -> 'definitions' -> 'features', '[]', 'nor among definitions');
select tests.refuses($$select public.change_flag('checkout', 'production', '{"enabled": false}')$$, 'not_found', 'nor changes a flag by its name');
select throws_ok(format($$insert into public.feature_flags (org_id, name) values (%L, 'x')$$, tests.org('ada')), '42501', null, 'nor adds one');
select throws_ok(format($$insert into public.flag_strategies (org_id, flag_id, name) values (%L, %L, 'default')$$, tests.org('ada'), gen_random_uuid()), '42501', null, 'nor a strategy');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.feature_flags), 3::bigint, 'a viewer sees flags');
select throws_ok($$insert into public.feature_flags (name) values ('x')$$, '42501', null, 'and adds none');
select tests.refuses(statement, 'permission_denied', 'a viewer does not: ' || statement) from (values
  ($$select public.change_flag('checkout', 'production', '{"enabled": false}')$$), ($$select public.flag_definitions()$$),
  ($$select public.record_flag_evaluations('{}')$$), ($$select public.set_flag_environment('x')$$), ($$select public.cancel_flag_change(gen_random_uuid())$$)
) as s (statement);
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.set_flag_environment('production', true)$$, 'permission_denied', 'a member protects nothing');
select throws_ok($$update public.feature_flags set enabled_in = '{production}'$$, '42501', null, 'nobody writes where a flag is on');

-- ---- what cannot work is refused
select tests.refuses(format('insert into public.flag_strategies (flag_id, name, parameters, constraints, variants) select f.id, %L, %L, %L, %L from public.feature_flags as f where f.name = ''other''', name, parameters, constraints, variants),
  'invalid_input', format('no strategy: %s %s %s %s', name, parameters, constraints, variants))
from (values
  ('custom', '{}', '[]', '[]'), ('flexibleRollout', '{}', '[]', '[]'), ('flexibleRollout', '{"rollout": "101"}', '[]', '[]'), ('flexibleRollout', '[]', '[]', '[]'),
  ('default', '{}', '{}', '[]'), ('default', '{}', '[{"contextName": "a", "operator": "LIKE", "value": "b"}]', '[]'),
  ('default', '{}', '[{"contextName": "v", "operator": "SEMVER_EQ", "value": "v1"}]', '[]'),
  ('default', '{}', '[{"contextName": "v", "operator": "REGEX", "value": "("}]', '[]'),
  ('default', '{}', '[]', '[{"name": "a", "weight": 0}]'), ('default', '{}', '[]', '"x"')
) as s (name, parameters, constraints, variants);
select tests.refuses($$update public.feature_flags set variants = '[{"name": "a"}]' where name = 'other'$$, 'invalid_input', 'no variant without weight');
-- A number of ten bytes is a text of 131,072.
select tests.refuses(format('update public.feature_flags set variants = %L where name = ''other''', '[{"name": "a", "weight": 1e131071}]'), 'invalid_input', 'no number that large');
select tests.refuses(statement, 'invalid_input', 'nor in ' || statement) from (values
  ($$update public.flag_segments set constraints = '[1e131071]'$$), ($$update public.flag_strategies set parameters = '{"rollout": 1e131071}'$$),
  ($$select public.flags('{"a": 1e131071}')$$), ($$select public.record_flag_evaluations('{"a": 1e131071}')$$),
  ($$select public.change_flag('other', 'production', '{"enabled": 1e131071}')$$)
) as s (statement);
select tests.refuses($$update public.flag_segments set constraints = '[1]'$$, 'invalid_input', 'no segment without constraints');
select tests.refuses(format($$update public.flag_strategies set segment_ids = array[%L::uuid]$$, gen_random_uuid()), 'conflict', 'no segment that is not there');
update public.flag_strategies as s set segment_ids = array(select g.id from public.flag_segments as g);
select tests.refuses($$delete from public.flag_segments$$, 'conflict', 'a segment that strategies use stays');
select tests.refuses($$insert into public.flag_strategies (flag_id, name) select f.id, 'default' from public.feature_flags as f, generate_series(1, 51) where f.name = 'other'$$, 'conflict', 'at most 50 strategies');
select tests.refuses(format($$insert into public.flag_segments (name, constraints) values ('r', %L)$$,
  (select jsonb_agg(jsonb_build_object('contextName', 'a', 'operator', 'REGEX', 'value', n::text)) from generate_series(1, 51) as n)), 'invalid_input', 'a list of constraints has at most 50');
select tests.refuses(format($$insert into public.flag_segments (name, constraints) select 'r' || n, %L from generate_series(1, 2) as n$$,
  (select jsonb_agg(jsonb_build_object('contextName', 'a', 'operator', 'REGEX', 'value', n::text)) from generate_series(1, 26) as n)), 'invalid_input', 'an organization at most 50 regular expressions');
select tests.refuses(format($$insert into public.flag_segments (name, constraints) select 'v' || n, %L from generate_series(1, 60) as n$$,
  (select jsonb_agg(jsonb_build_object('contextName', 'a', 'operator', 'IN', 'values', jsonb_build_array(repeat('x', 450)))) from generate_series(1, 10) as n)), 'invalid_input', 'and 256 KiB');
insert into public.flag_dependencies (flag_id, parent_id) select c.id, p.id from public.feature_flags as c, public.feature_flags as p where c.name = 'checkout' and p.name = 'base';
select tests.refuses($$insert into public.flag_dependencies (flag_id, parent_id) select c.id, p.id from public.feature_flags as c, public.feature_flags as p where c.name = 'other' and p.name = 'checkout'$$, 'invalid_input', 'no chain of dependencies');
select tests.refuses($$delete from public.feature_flags where name = 'base'$$, 'conflict', 'a flag that others need stays');

-- ---- definitions, revisions and gates
update public.feature_flags set required_roles = '{admin,owner}', required_plans = '{PRO}', required_feature = 'sso' where name = 'other';
select is(f.value -> 'strategies' -> 0 -> 'constraints', '[{"values": ["true"], "operator": "IN", "contextName": "entitled_sso"}, {"values": ["PRO"], "operator": "IN", "contextName": "plan"}, {"values": ["admin", "owner"], "operator": "IN", "contextName": "role"}]', 'what a flag requires is a constraint')
from jsonb_array_elements(public.flag_definitions() -> 'definitions' -> 'features') as f where f.value ->> 'name' = 'other';
select is(f.value - '{description,project,type,stale,impressionData,variants}'::text[], '{"name": "checkout", "enabled": true, "dependencies": [{"feature": "base", "enabled": true, "variants": []}], "strategies": [{"name": "flexibleRollout", "parameters": {"rollout": "50", "stickiness": "userId"}, "constraints": [], "segments": [1], "variants": []}]}', 'a flag as Unleash has it')
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
select tests.refuses($$select public.flag_definitions('nowhere')$$, 'not_found', 'there is no such environment');

-- ---- evaluations
select lives_ok($$select public.record_flag_evaluations('{"checkout": {"yes": 2, "no": 1, "variants": {"blue": 2, "bad": "x"}}, "unknown": {"yes": 1}, "base": {"yes": "1e9"}}')$$, 'a report');
select lives_ok($$select public.record_flag_evaluations('{"checkout": {"yes": 1, "variants": {"red": 1, "blue": 1}}}')$$, 'and another');
select results_eq($$select f.name, e.yes, e.no, e.variants from public.flag_evaluations as e join public.feature_flags as f on f.id = e.flag_id order by 1$$,
  $$values ('base', 0::bigint, 0::bigint, '{}'::jsonb), ('checkout', 3::bigint, 1::bigint, '{"blue": 3, "red": 1}'::jsonb)$$, 'add up in the hour');
select tests.refuses($$select public.record_flag_evaluations('[]')$$, 'invalid_input', 'no report');
select is_empty($$select * from public.stale_flags()$$, 'new flags are not stale');
select tests.act_as_superuser();
update public.feature_flags set created_at = now() - interval '41 days' where org_id = tests.org('ada');
update public.flag_evaluations set no = 0 where org_id = tests.org('ada') and yes > 0;
select tests.act_as('vic', tests.org('ada'));
select results_eq($$select name, reason from public.stale_flags()$$, $$values ('base', 'unused'), ('checkout', 'settled'), ('other', 'unused')$$, 'old ones are');

-- ---- changes: at once, later, by a second person
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.change_flag(''checkout'', ''production'', %L)', change), 'invalid_input', 'no change: ' || change) from (values
  ('{}'), ('[]'), ('{"enabled": "true"}'), ('{"more": 1}'), ('{"strategies": {}}'), ('{"strategies": ["x"]}'), ('{"strategies": [{"name": "custom"}]}'),
  ('{"strategies": [{"name": "default", "segment_ids": ["x"]}]}'), ('{"strategies": [{"name": "default", "title": 1}]}')
) as c (change);
select is(public.change_flag('checkout', 'production', '{"strategies": [{"name": "default", "title": "all"}, {"name": "userWithId", "parameters": {"userIds": "7"}}]}') ->> 'applied', 'true', 'strategies are replaced');
select results_eq($$select s.name, s.title, s.position from public.flag_strategies as s join public.feature_flags as f on f.id = s.flag_id where f.name = 'checkout' order by s.position$$,
  $$values ('default', 'all', 1), ('userWithId', '', 2)$$, 'in their order');
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
select public.change_flag('base', 'production', '{"enabled": true}', 'launch') ->> 'approval_id' as approval \gset
select is(tests.is_on('base'), false, 'a change waits for a second person');
select tests.refuses(format('select public.approve_change(%L)', :'approval'), 'permission_denied', 'who asked does not decide');
select tests.act_as('ada', tests.org('ada'));
select is((public.approve_change(:'approval')).status, 'approved', 'an admin approves');
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

-- ---- the platform's flags: from the next statement on, also in policies
select tests.act_as_superuser();
insert into public.feature_flags (org_id, name, required_roles) values (kijko.platform_org_id(), 'new-editor', '{}'), (kijko.platform_org_id(), 'owners', '{owner}');
update public.feature_flags set enabled_in = '{production}' where org_id = kijko.platform_org_id();
select is(kijko.flag_enabled('new-editor'), true, 'on in the next statement');
insert into public.flag_strategies (org_id, flag_id, name, parameters)
select f.org_id, f.id, 'userWithId', jsonb_build_object('userIds', tests.id('ada')) from public.feature_flags as f where f.org_id = kijko.platform_org_id() and f.name = 'new-editor';
select is(kijko.flag_enabled('new-editor'), false, 'its strategy counts in the next one');
select tests.refuses($$insert into public.flag_segments (org_id, name, constraints) values (kijko.platform_org_id(), 'r', '[{"contextName": "a", "operator": "REGEX", "value": "a"}]')$$, 'invalid_input', 'the platform has no regular expressions');
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
