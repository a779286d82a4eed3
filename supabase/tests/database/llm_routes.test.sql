begin;
\ir 000_helpers.sql
\ir llm_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, cache_write_1h_microusd_per_mtok, image_microusd, max_output_tokens) values
  ('cheap/*', 1000000, 1000000, null, null, null), ('dear/big', 10000000, 10000000, 20000000, 500, 100);
insert into public.llm_providers (org_id, name, kind, base_url) values
  (kijko.platform_org_id(), 'cheap', 'openai', 'https://cheap.example.com/v1'), (kijko.platform_org_id(), 'dear', 'openai', 'https://dear.example.com/v1');

-- ---- providers: non-members first
select tests.act_as('bob', tests.org('ada'));
select throws_ok(format($$insert into public.llm_providers (org_id, name, kind) values (%L, 'own', 'openai')$$, tests.org('ada')), '42501', null, 'a non-member makes no provider');
select is((select count(*) from public.llm_providers where org_id = kijko.platform_org_id()), 0::bigint, 'nobody sees those of the platform');
select throws_ok(format($$insert into public.llm_providers (org_id, name, kind) values (%L, 'own', 'openai')$$, kijko.platform_org_id()), '42501', null, 'nor makes one');
select tests.act_as('mem', tests.org('ada'));
select throws_ok($$insert into public.llm_providers (name, kind) values ('own', 'openai')$$, '42501', null, 'a member makes no provider');
select tests.refuses($$select public.set_llm_settings(record_content => true)$$, 'permission_denied', 'and changes no settings');
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_providers (name, kind, base_url) values ('own', 'openai', 'https://own.example.com/v1') returning id as own \gset
select tests.refuses(format($$insert into public.llm_providers (name, kind, base_url) values ('bad', 'openai', %L)$$, url), 'invalid_input', 'not to be reached: ' || url)
from (values ('http://169.254.169.254/v1'), ('https://user@own.example.com/v1'), ('http://localhost:9/v1')) as bad (url);
select tests.refuses($$insert into public.llm_providers (name, kind) values ('loop', 'echo')$$, 'invalid_input', 'echo is the platform''s');
select throws_ok(format('select * from private.%I', t), '42501', null, 'an owner reads no ' || t) from unnest('{llm_provider_keys,llm_open_calls,llm_budget_subjects,llm_content_bytes}'::text[]) as t;

-- ---- keys
select tests.refuses(format('select public.set_llm_provider_key(%L, %L)', :'own', key), 'invalid_input', 'no key: ' || quote_literal(key)) from (values (''), ('a b'), ('ké')) as bad (key);
select tests.refuses($$select public.set_llm_provider_key(gen_random_uuid(), 'k')$$, 'not_found', 'no such provider');
select isnt((public.set_llm_provider_key(:'own', 'sk-own')).key_set_at, null, 'an owner sets a key');
select tests.opened_call('own/model-x', 10, 10) as opened \gset
select is((:'opened'::jsonb #> '{targets,0}') - array['provider_id', 'max_concurrency', 'key_set_at'],
  '{"key": "sk-own", "kind": "openai", "index": 0, "model": "model-x", "own_key": true, "base_url": "https://own.example.com/v1", "provider": "own", "input_tokens": 10, "allowed_hosts": "", "max_output_tokens": 10}',
  'the sidecar gets the key, and no private host');
select is(tests.settle((:'opened'::jsonb ->> 'call_id')::uuid, '{"status": "succeeded", "prompt_tokens": 5, "completion_tokens": 5}'), '{"tokens": 10, "estimated": false, "cost_microusd": null}', 'a call with an own key may have no price');
select is(tests.counted(), '{10,0}', 'it counts as tokens');
update public.llm_providers set base_url = 'https://elsewhere.example.com/v1' where id = :'own';
select is((select key_set_at from public.llm_providers where id = :'own'), null, 'a new address forgets the key');
select is(tests.opened_call('own/model-x', 10, 10) #> '{targets,0,key}', 'null', 'which goes nowhere else');
insert into public.llm_budgets (name, scope, period, unit, amount) values ('money', 'organization', 'day', 'microusd', 1000);
select tests.refuses($$select tests.authorize('own/model-x', 10, 10)$$, 'model_not_priced', 'a budget in money needs a price');
delete from public.llm_budgets;
select lives_ok($$select tests.authorize('own/model-x', 10, 10, '{"fields": ["service_tier"]}')$$, 'other fields pass on an own key');
update public.llm_providers set enabled = false where id = :'own';
select tests.refuses($$select tests.authorize('own/model-x', 10, 10)$$, 'model_not_found', 'one that is off is not there');
insert into public.llm_providers (name, kind, enabled) values ('cheap', 'openai', false);
select tests.refuses($$select tests.authorize('cheap/a', 10, 10)$$, 'model_not_found', 'and the platform''s of its name does not step in');
select is((select count(*) from public.list_llm_models() where id like 'cheap/%'), 0::bigint, 'nor is listed');
delete from public.llm_providers where name = 'cheap';
select tests.act_as_superuser();
select tests.end_all() as ended \gset

-- ---- routes
select tests.act_as('ada', tests.org('ada'));
select throws_ok(format($$insert into public.llm_routes (name, targets) values ('bad', %L)$$, targets), '23514', null, 'no targets: ' || targets)
from (values ('{}'), ('{gpt}'), ('{a/b,null}'), ('{a/b c}')) as bad (targets);
insert into public.llm_routes (name, targets, max_output_tokens, default_output_tokens) values ('fast', '{gone/x,cheap/a,dear/big}', 200, 150);
insert into public.llm_routes (name, targets, allowed_roles) values ('admins', '{cheap/a}', '{admin,owner}');
insert into public.llm_routes (name, targets, enabled) values ('off', '{cheap/a}', false);
select (public.create_api_key('calls', '["llm:call"]')).id as calls \gset
select (public.create_api_key('other', '["llm:call"]')).id as other \gset
insert into public.llm_routes (name, targets, allowed_keys) values ('key', '{cheap/a}', array[:'calls'::uuid]);
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select tests.authorize('admins')$$, 'model_not_allowed', 'a route of other roles');
select tests.refuses($$select tests.authorize('key')$$, 'model_not_allowed', 'a route of a key');
select tests.refuses($$select tests.authorize('off')$$, 'model_not_priced', 'a route that is off is a model by its name');
select tests.refuses($$select tests.authorize('fast', 1, 201)$$, 'bad_request', 'more than the route allows');
select matches(tests.by_key(:'calls', $$select tests.authorize('key', 1, 1)$$), '^kjs1\.', 'the key may');
select is(tests.by_key(:'other', $$select tests.authorize('key', 1, 1)$$), 'KJ408', 'another one may not');
select is(tests.by_key(:'calls', $$select tests.authorize('admins', 1, 1)$$), 'KJ408', 'a service key has no role');
select is((select string_agg(id, ' ') from public.list_llm_models() where owned_by = 'route'), 'fast', 'what a member may call');
select tests.act_as('ada', tests.org('ada'));
select is((select string_agg(id, ' ') from public.list_llm_models() where owned_by = 'route'), 'admins fast', 'what an owner may call');
select ok(exists (select 1 from public.list_llm_models() where id = 'dear/big'), 'and models with a price');
select is((select string_agg(id, ' ') from public.list_llm_models() where id ~ '^(cheap|gone|own)/'), 'cheap/a', 'and the targets of these routes whose price is that of a pattern');
select is(tests.opened_call('dear/big', 1, 100000) #> '{targets,0,max_output_tokens}', '100', 'no longer answer is asked for than the model can give');
insert into public.llm_routes (name, targets, max_output_tokens) values ('openai/gpt-x', '{cheap/a}', 50), ('claude-x', '{cheap/b}', null), ('anthropic/claude-x', '{cheap/c}', null), ('openai/closed', '{cheap/a}', null);
update public.llm_routes set allowed_roles = '{viewer}' where name = 'openai/closed';
select is(tests.targets('openai/gpt-x'), '{cheap/a}', 'a route decides about the model of its name');
select is(tests.targets('gpt-x'), '{cheap/a}', 'also without the provider');
select tests.refuses($$select tests.authorize('gpt-x', 1, 51)$$, 'bad_request', 'with its limits');
select tests.refuses($$select tests.authorize('closed', 1, 1)$$, 'model_not_allowed', 'and for whom it is');
select is(array[tests.targets('claude-x'), tests.targets('anthropic/claude-x')], '{{cheap/b},{cheap/c}}', 'the route of exactly the name comes first');
update public.llm_routes set enabled = false where name in ('openai/gpt-x', 'claude-x');
select tests.refuses($$select tests.authorize('gpt-x', 1, 1)$$, 'model_not_priced', 'one that is off decides nothing');
select is(tests.targets('claude-x'), '{cheap/c}', 'and leaves it to the other');
delete from public.llm_routes where name like '%-x' or name = 'openai/closed';
select (public.set_llm_settings(routes_only => true)).routes_only \gset
select tests.refuses($$select tests.authorize('dear/big', 1, 1)$$, 'model_not_allowed', 'only routes');
select is((select count(*) from public.list_llm_models() where owned_by <> 'route'), 0::bigint, 'are listed then');
select lives_ok($$select tests.authorize('fast', 1, 1)$$, 'and called');
select (public.set_llm_settings(routes_only => false, content_days => 7)).content_days \gset
select tests.act_as_superuser();
select tests.end_all() as ended \gset
select is(tests.counted(), '{10,0}', 'nothing is held');

-- ---- what an attempt may cost, and further attempts
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_budgets (name, scope, period, unit, amount) values ('money', 'organization', 'day', 'microusd', 2500);
insert into public.llm_budgets (name, scope, model, period, unit, amount) values ('dear', 'model', 'dear/*', 'day', 'tokens', 110);
select tests.opened_call('fast', 10, null) as opened \gset
select is((select jsonb_agg(t -> 'max_output_tokens') from jsonb_array_elements(:'opened'::jsonb -> 'targets') as t), '[150, 100]', 'a target without a provider is left out; no answer is longer than its model''s');
select :'opened'::jsonb ->> 'call_id' as call \gset
select is(tests.held_by('money'), 160::bigint, 'the first target is held');
select is(tests.held_by('dear'), null, 'and not the second');
select is(tests.raise(:'call', 0, null), '{"ok": true}', 'a retry after a refused connection holds no more');
select is(tests.held_by('money'), 160::bigint, 'in money');
select is(tests.raise(:'call', 1, '{"prompt_tokens": 10, "completion_tokens": 50}'), '{"ok": true}', 'a fallback');
select is(tests.held_by('money'), 60 + 10 * 20 + 100 * 10::bigint, 'holds what was used, and all input at the highest price');
select is(tests.held_by('dear'), 110::bigint, 'its own budgets, too');
select is(tests.raise(:'call', 1, '{"estimated": true}') - 'message', '{"refused": "budget_exceeded"}', 'what does not fit is refused');
select is(tests.held_by('money'), 1260::bigint, 'and changes nothing');
select is(tests.raise(:'call', 2, null) - 'message', '{"refused": "model_not_found"}', 'there is no third target');
select is(tests.raise(gen_random_uuid(), 0, null), null, 'nor another call');
select is(tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 10, "completion_tokens": 20, "cache_write_tokens": 10, "cache_write_1h_tokens": 10, "attempts": 3}'), '{"tokens": 90, "estimated": false, "cost_microusd": 460}', 'all attempts are settled');
select tests.act_as_superuser();
select is((select row(c.status, c.model, c.provider, c.input_tokens, c.output_tokens, c.cost_microusd, c.attempts)::text from tests.call(:'call') as c), '(succeeded,dear/big,dear,20,70,460,3)', 'and recorded');
select is(tests.counted(), '{100,460}', 'and counted');
select is(tests.held_by('money'), 460::bigint, 'by the budget');
select is(tests.held_by('dear'), 30::bigint, 'each for its own attempts');
select tests.act_as('ada', tests.org('ada'));
select tests.opened_call('dear/big', 0, 1, '{"kind": "images", "images": 4}') as opened \gset
select is(tests.held_by('money'), 460 + 4 * 10 + 2000::bigint, 'images are held at their price');
select is(tests.held_by('dear'), 30 + 4::bigint, 'each with the tokens of an answer');
select tests.refuses($$select tests.authorize('cheap/a', 0, 1, '{"kind": "images", "images": 1}')$$, 'model_not_priced', 'and refused without one');
select is(tests.settle((:'opened'::jsonb ->> 'call_id')::uuid, '{"status": "succeeded", "prompt_tokens": 0, "completion_tokens": 0, "images": 3}') ->> 'cost_microusd', '1500', 'and settled');

-- ---- contents
select tests.opened('cheap/a', 10, 10) as call \gset
select tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1, "prompt": "secret", "answer": "s"}') is not null as settled \gset
select is((select count(*) from public.llm_call_contents), 0::bigint, 'prompts are not kept');
select (public.set_llm_settings(record_content => true)).content_days \gset
select tests.opened('cheap/a', 10, 10) as call \gset
select tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1, "prompt": {"messages": ["secret"]}}') is not null as settled \gset
select is((select row(c.id, c.prompt, c.answer, c.delete_after - kijko.now())::text from public.llm_call_contents as c), format('(%s,"{""messages"": [""secret""]}",,"7 days")', :'call'), 'unless the organization asks');
select tests.opened('cheap/a', 10, 10) as long \gset
select tests.settle(:'long', jsonb_build_object('status', 'succeeded', 'prompt_tokens', 1, 'completion_tokens', 1, 'prompt', (select string_agg(md5(n::text), '') from generate_series(1, 10000) as n), 'answer', repeat('a', 500000))) is not null as settled \gset
select tests.act_as_superuser();
select is(tests.content_bytes(), (select sum(coalesce(pg_column_size(c.prompt), 0) + coalesce(pg_column_size(c.answer), 0)) from public.llm_call_contents as c where c.org_id = tests.org('ada')), 'the bytes that contents take are counted');
select cmp_ok(tests.content_bytes(), '>', 100000::bigint, 'as they are stored');
update private.llm_content_bytes set bytes = bytes + 1073741824 where organization = tests.org('ada');
select tests.act_as('ada', tests.org('ada'));
select tests.opened('cheap/a', 10, 10) as full \gset
select is(tests.settle(:'full', '{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1, "prompt": "p", "answer": "a"}') ->> 'tokens', '2', 'a call is settled also when there is no room for its contents');
select is((select count(*) from public.llm_call_contents where id = :'full'), 0::bigint, 'which are not kept then');
select tests.act_as_superuser();
update private.llm_content_bytes set bytes = bytes - 1073741824 where organization = tests.org('ada');
select tests.act_as('ada', tests.org('ada'));
select is(tests.changed(format('delete from public.llm_call_contents where id = %L', :'long')), 1::bigint, 'an owner deletes one');
select tests.act_as_superuser();
select is(tests.content_bytes(), (select pg_column_size(c.prompt)::bigint from public.llm_call_contents as c where c.org_id = tests.org('ada')), 'which makes room');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.llm_call_contents), 0::bigint, 'a member reads none');
select is(tests.changed('delete from public.llm_call_contents'), 0::bigint, 'and deletes none');
select tests.act_as('ada', tests.org('ada'));
select (public.create_api_key('reads', '["*:read"]')).id as reads \gset
select (public.create_api_key('writes', '["*:write"]')).id as writes \gset
select is(tests.by_key(:'reads', 'select count(*) from public.llm_call_contents'), '0', 'nor does *:read');
select is(tests.by_key(:'writes', $$select (public.set_llm_settings(routes_only => true)).routes_only$$), '42501', 'and *:write changes nothing');

-- ---- contents of calls in projects, for a role that reads contents and manages no projects
select tests.act_as_superuser();
insert into public.projects (org_id, name, visibility) values (tests.org('ada'), 'Vault', 'private') returning id as vault \gset
insert into public.custom_roles (org_id, name, permissions) values (tests.org('ada'), 'Auditor', '{llm:read,llm:write,llm_contents:read,projects:read}') returning id as auditor \gset
update public.memberships set custom_role_id = :'auditor' where user_id = tests.id('vic') and org_id = tests.org('ada');
insert into public.llm_call_contents (id, org_id, project_id, prompt, called_at, delete_after)
select gen_random_uuid(), tests.org('ada'), c.project_id, to_jsonb(c.prompt), kijko.now(), kijko.now() + interval '1 day'
from (values (null, 'of no project'), (:'vault', 'of the vault'), (gen_random_uuid(), 'of a deleted project')) as c (project_id, prompt);
create function tests.prompts() returns text[] language sql as $$
  select array_agg(c.prompt #>> '{}' order by c.prompt #>> '{}') from public.llm_call_contents as c where jsonb_typeof(c.prompt) = 'string'
$$;
select tests.act_as_anon();
select throws_ok('select tests.prompts()', '42501', null, 'anon reads no contents');
select tests.act_as('bob', tests.org('ada'));
select is(tests.prompts(), null, 'nor does a non-member');
select tests.act_as('vic', tests.org('ada'));
select is(tests.prompts(), '{of no project}', 'a reader of contents sees those of no private or deleted project');
select is(tests.changed(format('delete from public.llm_call_contents where project_id = %L', :'vault')), 0::bigint, 'and deletes none of them');
select tests.act_as_superuser();
insert into public.project_members (org_id, project_id, user_id, role) values (tests.org('ada'), :'vault', tests.id('vic'), 'viewer');
select tests.act_as('vic', tests.org('ada'));
select is(tests.prompts(), '{of no project,of the vault}', 'as a viewer of the project, those of the project too');
select is(tests.changed(format('delete from public.llm_call_contents where project_id = %L', :'vault')), 0::bigint, 'without deleting them');
select tests.act_as('ada', tests.org('ada'));
select is(tests.prompts(), '{of a deleted project,of no project,of the vault}', 'an owner sees all of them');
select tests.act_as_superuser();
select tests.travel('8 days');
select cmp_ok(private.llm_purge(), '>=', 1, 'its time is over');
select is((select count(*) from public.llm_call_contents where org_id = tests.org('ada')), 0::bigint, 'it is deleted');
select is(tests.content_bytes(), 0::bigint, 'and takes no room');

-- ---- images in a prompt count by the model that is called
select tests.act_as('ada', tests.org('ada'));
delete from public.llm_budgets;
insert into public.llm_routes (name, targets) values ('pictures', '{cheap/a-mini,cheap/a}');
select tests.opened_call('pictures', 7000, 10, '{"images": 1}') as opened \gset
select is(jsonb_path_query_array(:'opened', '$.targets[*].input_tokens'), '[50500, 7000]', 'more for a small one');
select is((tests.call((:'opened'::jsonb ->> 'call_id')::uuid)).held_tokens, 50510::bigint, 'as is held');
select is(tests.raise((:'opened'::jsonb ->> 'call_id')::uuid, 1, null), '{"ok": true}', 'the next target');
select is((tests.call((:'opened'::jsonb ->> 'call_id')::uuid)).held_tokens, 7010::bigint, 'is held for as its own model counts');
select tests.refuses($$select tests.authorize('cheap/a', 10, 10, '{"images": 20001}')$$, 'invalid_input', 'images have a bound');
select tests.refuses($$select tests.authorize('cheap/a', 10, 10, '{"images": 129, "kind": "images"}')$$, 'invalid_input', 'and those that are made another one');
select tests.act_as_superuser();
select tests.end_all() as ended \gset

-- ---- what nobody ends
select tests.act_as('ada', tests.org('ada'));
select tests.authorize('cheap/a', 10, 10) as broken \gset
select tests.act_as_superuser();
select c.holds as kept from private.llm_open_calls as c where c.organization = tests.org('ada') \gset
update private.llm_open_calls set ends_at = clock_timestamp() - interval '1 hour', holds = '[{"sunk": "no number"}]' where organization = tests.org('ada');
select is(private.llm_release_reserved(), 0, 'a call that cannot be ended');
select cmp_ok((select c.ends_at from private.llm_open_calls as c where c.organization = tests.org('ada')), '>', clock_timestamp() + interval '5 minutes', 'waits behind the others');
update private.llm_open_calls set ends_at = clock_timestamp() - interval '1 hour', status = 'sent' where organization = tests.org('ada');
select is(private.llm_settle_abandoned(), 0, 'also one that was sent');
update private.llm_open_calls set holds = :'kept' where organization = tests.org('ada');
select tests.end_all() as ended \gset
select tests.act_as('ada', tests.org('ada'));
select tests.authorize('cheap/a', 10, 10) as ticket \gset
select tests.opened('cheap/a', 10, 10) as call \gset
select tests.act_as_superuser();
select is(array[private.llm_release_reserved(), private.llm_settle_abandoned()], '{0,0}', 'nothing is due');
update private.llm_open_calls set ends_at = clock_timestamp() where organization = tests.org('ada');
select is(private.llm_open(kijko.seal(jsonb_build_object('call_id', (select call_id from private.llm_open_calls where status = 'reserved' and organization = tests.org('ada')), 'expires_at', 0)::text, 'llm/ticket')), null, 'an expired ticket opens nothing');
select is(array[private.llm_release_reserved(), private.llm_settle_abandoned()], '{1,1}', 'both are due');
select is((select row(c.status, c.error_code, c.estimated, c.input_tokens)::text from tests.call(:'call') as c), '(failed,abandoned,t,10)', 'what was sent counts');
select is((select row(c.status, c.input_tokens)::text from public.llm_calls as c where c.error_code = 'not_opened' and c.org_id = tests.org('ada')), '(cancelled,0)', 'what was not is released');
select is(private.llm_open(:'ticket'), null, 'and its ticket is spent');
select is((select count(*) from kijko.holds as h where h.subject = tests.org('ada') and h.state = 'open'), 0::bigint, 'no hold stays open');
select tests.act_as('ada', tests.org('ada'));
select tests.authorize('cheap/a', 10, 10) as ticket \gset
select tests.act_as_superuser();
update public.llm_providers set enabled = false where name = 'cheap';
select is(private.llm_open(:'ticket'), null, 'a provider that is gone is not called');
select is((select count(*) from private.llm_open_calls where organization = tests.org('ada')), 0::bigint, 'and holds nothing');

-- ---- partitions
select is((select count(*) from private.llm_calls_default), 0::bigint, 'there is a month for each call');
select tests.travel('360 days');
update public.llm_providers set enabled = true where name = 'cheap';
select tests.act_as('ada', tests.org('ada'));
select tests.opened('cheap/a', 10, 10) as call \gset
select tests.act_as_superuser();
select is((select count(*) from private.llm_calls_default), 1::bigint, 'or the default');
select is(private.llm_make_partitions(1), 2, 'months are made');
select is((select count(*) from private.llm_calls_default), 0::bigint, 'and take their rows');
select isnt(tests.settle(:'call', '{"status": "succeeded", "prompt_tokens": 1, "completion_tokens": 1}'), null, 'which are settled there');
select is(private.llm_make_partitions(1), 0, 'once');
select is(private.llm_drop_partitions('5 months'), 4, 'old months are dropped');
select is((select count(*) from public.llm_calls where org_id = tests.org('ada')), 1::bigint, 'with their calls');
select tests.refuses($$select private.llm_drop_partitions('1 day')$$, 'invalid_input', 'never a month that is needed');

select * from finish();
rollback;
