begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset
select tests.skill(tests.org('bob')) as bobs \gset
select tests.begin_round('reflex_delivery');

-- A worker processes the one delivery that waits, with what the sandbox would answer.
create function tests.processed(outcome jsonb) returns boolean language plpgsql security definer as $$
declare
  job record;
begin
  update public.jobs set run_at = now() - interval '1 year' where kind = 'reflex_delivery' and status = 'queued';
  select c.id, c.attempt into job from private.jobs_claim('w', '1 minute', 1, array['reflex_delivery']) as c;
  perform private.reflexes_start('w', job.id, job.attempt);
  return private.reflexes_finish('w', job.id, job.attempt, outcome);
end
$$;
create function tests.received(reflex uuid, id text, body text default '{"text": "x"}') returns text language sql security definer as $$
  select r.status from private.reflexes_ingest(reflex, body, '{"content-type": "application/json"}', 'push', id, md5(body)) as r
$$;
-- The newest delivery that came under this id.
create function tests.delivery(id text) returns public.reflex_deliveries language sql security definer as $$
  select d from public.reflex_deliveries as d where d.external_id = delivery.id order by d.created_at desc, d.redelivery_of nulls last limit 1
$$;

select tests.act_as('ada');
insert into public.reflexes (skill_id, name) values (:'skill', 'Hook') returning id as reflex, public.signing_secret(reflexes.*) as secret \gset

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.reflexes', '42501', null, 'anon reads no reflexes');
select throws_ok('select * from public.reflex_deliveries', '42501', null, 'anon reads no deliveries');
select throws_ok(format('select public.rotate_reflex_secret(%L)', :'reflex'), '42501', null, 'anon rotates nothing');
select throws_ok(format('select public.test_reflex(%L, ''{}'')', :'reflex'), '42501', null, 'anon tests nothing');

select tests.act_as('bob');
select is_empty('select 1 from public.reflexes', 'a non-member sees nothing');
select throws_ok(format($$insert into public.reflexes (org_id, skill_id, name) values (tests.org('ada'), %L, 'x')$$, :'skill'), '42501', null, 'a non-member adds nothing');
select throws_ok(format($$insert into public.reflexes (skill_id, name) values (%L, 'x')$$, :'skill'), '42501', null, 'a non-member does not use another organization''s skill');
select is(tests.changed('update public.reflexes set enabled = false'), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.reflexes'), 0::bigint, 'a non-member deletes nothing');
select tests.refuses(format('select public.rotate_reflex_secret(%L)', :'reflex'), 'not_found', 'another organization''s reflex is not found');
select tests.refuses('select public.rotate_reflex_secret(gen_random_uuid())', 'not_found', 'nor is one that does not exist');
select tests.refuses(format('select public.test_reflex(%L, ''{}'')', :'reflex'), 'not_found', 'a non-member tests nothing');
select throws_ok('select * from private.reflex_secrets', '42501', null, 'secrets are private');
select throws_ok(format('select * from private.reflexes_verifier(%L)', :'reflex'), '42501', null, 'users do not call the sidecar''s functions');

select tests.act_as('vic', tests.org('ada'));
select results_eq('select name from public.reflexes', array['Hook'], 'a viewer reads');
select throws_ok(format($$insert into public.reflexes (skill_id, name) values (%L, 'x')$$, :'skill'), '42501', null, 'a viewer does not add');
select is(tests.changed('update public.reflexes set enabled = false'), 0::bigint, 'a viewer does not change');
select tests.refuses(format('select public.rotate_reflex_secret(%L)', :'reflex'), 'permission_denied', 'a viewer does not rotate');
select tests.refuses(format('select public.test_reflex(%L, ''{}'')', :'reflex'), 'permission_denied', 'a viewer does not test');

-- ---- the secret
select tests.act_as('ada');
select ok(:'secret' ~ '^whsec_[A-Za-z0-9+/]{43}=$', 'the statement that makes a webhook returns its secret');
select is((select r.secret_prefix from public.reflexes as r), left(:'secret', 10), 'the row has its beginning');
select tests.act_as_superuser();
select set_config('issued.secrets', '', true);
select tests.act_as('ada');
select is((select public.signing_secret(r) from public.reflexes as r), null::text, 'no later transaction does');
select tests.act_as_sidecar();
select results_eq(format('select verification, secrets from private.reflexes_verifier(%L)', :'reflex'), format('values (''standard_webhooks''::text, array[%L])', :'secret'), 'the sidecar gets it');
select is_empty('select 1 from private.reflexes_verifier(gen_random_uuid())', 'an unknown id has none');
select tests.act_as_superuser();
select unalike((select s.sealed::text from private.reflex_secrets as s where s.reflex_id = :'reflex'), '%' || :'secret' || '%', 'it is stored sealed');

select tests.act_as('mem', tests.org('ada'));
select secret as fresh from public.rotate_reflex_secret(:'reflex', overlap => '1 hour') \gset
select isnt(:'fresh'::text, :'secret', 'a rotation makes another one');
select tests.act_as_sidecar();
select is((select cardinality(secrets) from private.reflexes_verifier(:'reflex')), 2, 'during the overlap both count');
select tests.act_as_superuser();
select tests.travel('61 minutes');
select tests.act_as_sidecar();
select results_eq(format('select secrets from private.reflexes_verifier(%L)', :'reflex'), format('values (array[%L])', :'fresh'), 'then the new one alone');
select tests.act_as_superuser();
select tests.travel('0');
select tests.act_as('mem', tests.org('ada'));
select is((public.rotate_reflex_secret(:'reflex')).former_expires_at, null::timestamptz, 'without an overlap the former one ends at once');
select tests.act_as_sidecar();
select is((select cardinality(secrets) from private.reflexes_verifier(:'reflex')), 1, 'one counts');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.rotate_reflex_secret(%L, overlap => ''31 days'')', :'reflex'), 'invalid_input', 'an overlap has an end');
select tests.refuses(format('select public.rotate_reflex_secret(%L, overlap => null)', :'reflex'), 'invalid_input', 'and a length');
select tests.refuses(format('select public.rotate_reflex_secret(%L, ''short'')', :'reflex'), 'invalid_input', 'a given secret is not short');
select tests.refuses(format('select public.rotate_reflex_secret(%L, ''not base64 but long'')', :'reflex'), 'invalid_input', 'nor has it blanks');
select tests.refuses(format('select public.rotate_reflex_secret(%L, ''not-base64-but-long-enough-at-least'')', :'reflex'), 'invalid_input', 'for Standard Webhooks it is base64');
update public.reflexes set verification = 'hmac' where id = :'reflex';
select is((public.rotate_reflex_secret(:'reflex', 'given-by-the-sender')).secret_prefix, 'give', 'for an HMAC it is any text');
select tests.refuses($$update public.reflexes set verification = 'standard_webhooks'$$, 'conflict', 'a verification that the secret does not fit is refused');

-- ---- an insert that stores no row stores no secret
select tests.act_as('ada');
insert into public.reflexes (id, skill_id, name) values (:'reflex', :'skill', 'again') on conflict (id) do nothing;
insert into public.reflexes (id, skill_id, name) values (:'reflex', :'skill', 'Hook') on conflict (id) do update set name = excluded.name
returning coalesce(public.signing_secret(reflexes.*), '') as upserted \gset
select is(:'upserted'::text, '', 'an upsert of an existing reflex shows no secret');
select tests.act_as_superuser();
select is((select count(*) from private.reflex_secrets as s where s.reflex_id = :'reflex'), 1::bigint, 'and makes none');

-- ---- what can be stored
select tests.act_as('ada');
select throws_ok(format($$insert into public.reflexes (skill_id, name, verification) values (%L, 'x', 'md5')$$, :'skill'), '23514', null, 'an unknown verification');
select throws_ok(format($$insert into public.reflexes (skill_id, name, rate_per_minute) values (%L, 'x', 0)$$, :'skill'), '23514', null, 'a rate of nothing');
select throws_ok(format($$insert into public.reflexes (skill_id, name, signature_header) values (%L, 'x', 'no header')$$, :'skill'), '23514', null, 'a header that is none');
select throws_ok(format($$insert into public.reflexes (skill_id, name, input_mapping) values (%L, 'x', '[]')$$, :'skill'), '23514', null, 'a mapping that is no object');
select throws_ok(format($$insert into public.reflexes (skill_id, name, input_mapping) values (%L, 'x', jsonb_build_object('a', (repeat('[', 70) || repeat(']', 70))::jsonb))$$, :'skill'), '23514', null, 'a mapping that is nested too deep');
select tests.refuses(format($$insert into public.reflexes (skill_id, name, source, event) values (%L, 'x', 'webhook', 'push')$$, :'skill'), 'invalid_input', 'a webhook listens to no event');
select tests.refuses(format($$insert into public.reflexes (skill_id, name, source) values (%L, 'x', 'event')$$, :'skill'), 'invalid_input', 'an event has a name');
select tests.refuses(format($$insert into public.reflexes (skill_id, name, source, event) values (%L, 'x', 'event', 'nothing.happened')$$, :'skill'), 'invalid_input', 'that exists');
select throws_ok($$update public.reflexes set secret_prefix = 'x'$$, '42501', null, 'what the database keeps cannot be written');
select throws_ok($$update public.reflexes set last_error = 'x'$$, '42501', null, 'nor can the last error');
select tests.refuses($$update public.reflexes set source = 'event', event = 'member.joined'$$, 'conflict', 'the source does not change');

-- ---- a delivery, its job and its execution
select is(tests.received(:'reflex', 'd-1'), 'received', 'a delivery is stored');
select is(tests.received(:'reflex', 'd-1'), 'duplicate', 'the same id is a duplicate');
select is(tests.received(:'reflex', 'd-2'), 'duplicate', 'the same body under another id too, where the id is not signed');
select is(tests.received(:'reflex', null), 'duplicate', 'and without an id');
select results_eq('select status, duplicate_count, payload from public.reflex_deliveries', $$values ('received'::text, 3, '{"text": "x"}'::jsonb)$$, 'a duplicate is counted and not stored');
select is((select count(*) from public.jobs as j where j.kind = 'reflex_delivery'), 1::bigint, 'it has one job');
select is(tests.processed('{"input": {"text": "x"}}'), true, 'which is processed');
select results_eq(
  'select d.status, e.trigger, e.input, e.reflex_id = d.reflex_id, e.reflex_delivery_id = d.id from public.reflex_deliveries as d join public.executions as e on e.id = d.execution_id',
  $$values ('queued'::text, 'reflex'::text, '{"text": "x"}'::jsonb, true, true)$$, 'into one execution');
select is(tests.used(tests.org('ada'), 'executions'), 1::bigint, 'which is reserved');
select is((select j.status from public.jobs as j where j.kind = 'reflex_delivery'), 'succeeded', 'its job has ended with it');

select tests.travel('23 hours');
select is(tests.received(:'reflex', 'd-1'), 'duplicate', 'for a day');
select tests.travel('25 hours');
select is(tests.received(:'reflex', 'd-1'), 'received', 'and no longer');
select is(tests.processed('"filtered"'), true, 'the filter may not want it');
select is((tests.delivery('d-1')).status, 'filtered', 'and says so');
select tests.travel('0');
select tests.act_as_superuser();
delete from public.reflex_deliveries where created_at > now();
select tests.act_as('ada');

update public.reflexes set refuse_same_body = false where id = :'reflex';
select is(tests.received(:'reflex', 'd-10'), 'received', 'a reflex may take the same body under another id');
select tests.processed('"filtered"');
update public.reflexes set refuse_same_body = true where id = :'reflex';

-- ---- what keeps it from running
select tests.received(:'reflex', 'd-3', '{"n": 3}'), tests.processed('{"failed": {"code": "mapping_error", "message": "input.a: undefined"}}');
select results_eq('select status, error_code from tests.delivery(''d-3'')', $$values ('failed'::text, 'mapping_error'::text)$$, 'a mapping that does not fit fails the delivery');
select is((select last_error_code from public.reflexes), 'mapping_error', 'and shows on the reflex');
select tests.received(:'reflex', 'd-4', '{"n": 4}'), tests.processed('{"input": {}}');
select is((select last_error_code from public.reflexes), null::text, 'until one runs');

update public.skills set enabled = false;
select tests.received(:'reflex', 'd-5', '{"n": 5}'), tests.processed('{"input": {}}');
select results_eq('select status, error_code from tests.delivery(''d-5'')', $$values ('refused'::text, 'conflict'::text)$$, 'a disabled skill refuses it');
select is((select last_error_code from public.reflexes), 'conflict', 'and shows on the reflex');
update public.skills set enabled = true;
select lives_ok(format('select public.redeliver_reflex_delivery(%L)', (tests.delivery('d-5')).id), 'it can be delivered again');
select is(tests.processed('{"input": {}}'), true, 'by its job');
select is((tests.delivery('d-5')).status, 'queued', 'and runs then');

select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'executions', 'month', 0);
select tests.act_as('ada');
select tests.received(:'reflex', 'd-6', '{"n": 6}'), tests.processed('{"input": {}}');
select results_eq('select status, error_code from tests.delivery(''d-6'')', $$values ('refused'::text, 'quota_exceeded'::text)$$, 'a used up plan refuses it');
select tests.act_as_superuser();
select kijko.set_limit(tests.org('ada'), 'executions', 'month', 1000);
select tests.act_as('ada');

update public.reflexes set enabled = false;
select is(tests.received(:'reflex', 'd-7', '{"n": 7}'), 'refused', 'a disabled reflex stores what it gets');
select is((tests.delivery('d-7')).error_code, 'reflex_disabled', 'and says why it does not run');
update public.reflexes set enabled = true;
insert into public.reflexes (skill_id, name, rate_per_minute) values (:'skill', 'Slow', 1) returning id as slow \gset
select tests.received(:'slow', 'd-8', '{"n": 8}');
select is(tests.received(:'slow', 'd-9', '{"n": 9}'), 'rate_limited', 'a rate is kept');
select is((select count(*) from public.reflex_deliveries as d where d.external_id = 'd-9'), 0::bigint, 'and stores nothing beyond');
select is(tests.received(:'slow', 'd-8', '{"n": 8}'), 'duplicate', 'a duplicate needs no rate');
select tests.processed('"filtered"');
select is((select last_error_code from public.reflexes where id = :'slow'), 'rate_limited', 'which shows on the reflex');
delete from public.reflexes where id = :'slow';
update public.reflexes set rate_per_minute = 600;

-- ---- one execution for each delivery, whatever is called twice
select tests.received(:'reflex', 'd-11', '{"n": 11}');
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '1 year' where kind = 'reflex_delivery' and status = 'queued';
select tests.act_as_sidecar();
select id as job, attempt from private.jobs_claim('w', '1 minute', 1, array['reflex_delivery']) \gset
select is(private.reflexes_finish('other', :'job', :attempt, '{"input": {}}'), false, 'another worker does not end the job');
select is(private.reflexes_finish('w', :'job', :attempt, '{"input": {}}'), true, 'its worker does');
select is(private.reflexes_finish('w', :'job', :attempt, '{"input": {}}'), false, 'once');
select tests.act_as_superuser();
select is((select count(*) from public.executions as e where e.reflex_delivery_id = (tests.delivery('d-11')).id), 1::bigint, 'so there is one execution');
select throws_ok(format($$
  insert into public.executions (org_id, trigger, reflex_delivery_id) values (tests.org('ada'), 'reflex', %L)
$$, (tests.delivery('d-11')).id), '23505', null, 'and no second one can exist');

-- Two retries outlive the execution that they repeat.
insert into public.executions (org_id, trigger, status, retry_of, reflex_delivery_id)
select e.org_id, 'retry', 'queued', e.id, e.reflex_delivery_id
from public.executions as e, generate_series(1, 2) where e.reflex_delivery_id = (tests.delivery('d-11')).id;
select lives_ok($$delete from public.executions as e where e.trigger = 'reflex' and e.reflex_delivery_id = (tests.delivery('d-11')).id$$, 'its retries outlive it');

-- ---- a job that is given up fails its delivery
select tests.act_as('ada');
select tests.received(:'reflex', 'd-12', '{"n": 12}');
select tests.act_as_superuser();
update public.jobs set run_at = now() - interval '1 year' where kind = 'reflex_delivery' and status = 'queued';
select tests.act_as_sidecar();
select id as job, attempt from private.jobs_claim('w', '1 minute', 1, array['reflex_delivery']) \gset
select private.jobs_fail('w', :'job', 'internal', 'broken', false);
select tests.act_as('ada');
select results_eq('select status, error_code from tests.delivery(''d-12'')', $$values ('failed'::text, 'internal'::text)$$, 'a dead job fails its delivery');

-- ---- tests
select tests.act_as('mem', tests.org('ada'));
select id as tested from public.test_reflex(:'reflex', '{"a": 1}', event => 'push') \gset
select tests.processed('{"input": {"b": 1}}');
select results_eq(format('select status, input, execution_id from public.reflex_deliveries where id = %L', :'tested'), $$values ('tested'::text, '{"b": 1}'::jsonb, null::uuid)$$, 'a dry run shows the input and runs nothing');
select id as tested from public.test_reflex(:'reflex', '{"a": 1}', run => true) \gset
select tests.processed('{"input": {"b": 1}}');
select is((select status from public.reflex_deliveries where id = :'tested'), 'queued', 'with run it runs');
select tests.refuses(format($$select public.test_reflex(%L, (repeat('[', 70) || repeat(']', 70))::jsonb)$$, :'reflex'), 'invalid_input', 'nor is a payload nested too deep');
select id as large from public.test_reflex(:'reflex', '{}') \gset
select tests.processed((select jsonb_build_object('input', jsonb_build_object('a', jsonb_agg(1))) from generate_series(1, 100000)));
select is((select error_code from public.reflex_deliveries where id = :'large'), 'invalid_input', 'an input has the bound of executions');
select tests.refuses(format('select public.test_reflex(%L, null)', :'reflex'), 'invalid_input', 'without a payload there is nothing to test');
select tests.refuses(format('select public.test_reflex(%L, ''{}'', headers => ''[]'')', :'reflex'), 'invalid_input', 'headers are an object');
select tests.refuses(format('select public.test_reflex(%L, ''{}'', event => repeat(''x'', 101))', :'reflex'), 'invalid_input', 'an event has a bound');
select tests.refuses('select public.redeliver_reflex_delivery(gen_random_uuid())', 'not_found', 'an unknown delivery is not found');
select tests.act_as('bob');
select tests.refuses(format('select public.redeliver_reflex_delivery(%L)', :'tested'), 'not_found', 'nor is another organization''s');
select is_empty('select 1 from public.reflex_deliveries', 'whose deliveries nobody else sees');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.redeliver_reflex_delivery(%L)', :'tested'), 'permission_denied', 'a viewer does not redeliver');

-- ---- requests that are not verified
select tests.act_as_sidecar();
select private.reflexes_rejected(:'reflex'), private.reflexes_rejected(gen_random_uuid());
select tests.act_as('ada');
select is((select rejected_count from public.reflexes), 1::bigint, 'are counted');

-- ---- retention
select tests.act_as_superuser();
select cmp_ok((select count(*) from public.reflex_deliveries), '>', 5::bigint, 'there are deliveries');
select tests.travel('31 days');
select cmp_ok(private.reflexes_purge(), '>', 5::bigint, 'which are deleted after 30 days');
select is((select count(*) from public.reflex_deliveries), 0::bigint, 'all of them');
select is((select count(*) from private.reflex_delivery_keys), 0::bigint, 'with their keys');
select tests.travel('0');
insert into public.reflex_deliveries (org_id, reflex_id, source, status, finished_at, payload, payload_bytes, created_at)
select tests.org('ada'), :'reflex', 'webhook', 'filtered', now(), '{}', 1024 * 1024, now() - n * interval '1 second' from generate_series(1, 1010) as n;
select is(private.reflexes_purge(), 10::bigint, 'a reflex keeps its last 1,000');
select is((select count(*) from public.reflex_deliveries where payload is not null), 64::bigint, 'an organization keeps 64 MiB of payloads');
select is((select min(created_at) from public.reflex_deliveries where payload is not null), now() - interval '64 seconds', 'the newest');
select tests.act_as('ada');
select tests.refuses(
  (select format('select public.redeliver_reflex_delivery(%L)', d.id) from public.reflex_deliveries as d where d.payload is null limit 1),
  'conflict', 'what is not kept is not delivered again');
select is(tests.changed('delete from public.reflexes'), 1::bigint, 'a reflex goes with all it has');
select is_empty('select 1 from public.reflex_deliveries', 'deliveries');
select tests.act_as_superuser();
select is_empty($$select 1 from private.reflex_secrets as s where s.organization = tests.org('ada')$$, 'and secrets');
select is((select count(*) from public.executions as e where e.org_id = tests.org('ada') and e.reflex_id is not null), 0::bigint, 'its executions stay without it');

select * from finish();
rollback;
