-- Requests to Stripe: how they are sent, what became of them, when they are forgotten; seats, and who may use more than the plan includes. Each rule at its
-- edges, beside rows of others.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob,cyd,dan}'::text[]) as u;
select tests.join_org(u, tests.org('ada'), 'member') from unnest('{cyd,dan}'::text[]) as u;
delete from private.billing_effects;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');

-- ---- a request: its address, its body, how often it is tried, and one at a time
create function tests.sends(kind text, method text, parameters jsonb, open jsonb default '{"kind": "customer", "subject": "sub_r"}') returns text language plpgsql as $$
declare
  made uuid;
begin
  delete from private.billing_effects;
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, ended_at)
  select open ->> 'kind', open ->> 'subject', tests.org('ada'), false, gen_random_uuid(), coalesce(open ->> 'state', 'open'), case when open ? 'state' then clock_timestamp() end;
  made := private.billing_send(sends.kind, 'sub_r', tests.org('ada'), sends.method, '/v1/x', sends.parameters, '{"q": 1}');
  return (
    select concat_ws(' ', substr(r.url, 27), coalesce('[' || r.body || ']', '-'), r.max_attempts, round(extract(epoch from r.not_after - clock_timestamp()) / 3600), e.details)
    from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.id = made
  );
end
$$;
select is(tests.sends(kind, method, parameters), wanted, format('%s %s %s', kind, method, parameters))
from (values
  ('seats', 'POST', '{"a": 1}'::jsonb, '/v1/x [a=1] 10 {"q": 1}'), ('seats', 'POST', '{}', '/v1/x [] 10 {"q": 1}'), ('seats', 'GET', '{"a": 1}', '/v1/x?a=1 - 10 {"q": 1}'), ('seats', 'GET', '{}', '/v1/x - 10 {"q": 1}'),
  ('cancel', 'DELETE', '{"a": 1}', '/v1/x - 10 {"q": 1}'), ('meter_event', 'POST', '{}', '/v1/x [] 1 20 {"q": 1}'), ('invoice_item', 'POST', '{}', '/v1/x [] 1 20 {"q": 1}'), ('vat_credit', 'POST', '{}', '/v1/x [] 1 20 {"q": 1}')
) as v (kind, method, parameters, wanted);
select is(tests.sends('seats', 'POST', '{}', open) is not null, wanted, 'beside ' || open::text)
from (values
  ('{"kind": "seats", "subject": "sub_r"}'::jsonb, false), ('{"kind": "seats", "subject": "sub_r", "state": "done"}', true), ('{"kind": "seats", "subject": "sub_s"}', true), ('{"kind": "cancel", "subject": "sub_r"}', true)
) as v (open, wanted);

-- ---- what became of one: a refusal is final, unless a second attempt of what Stripe does twice says nothing of the first
create function tests.outcome(kind text, state text, status integer, attempts integer default 1, ago interval default '1 minute', body text default null, error text default null) returns text language plpgsql as $$
declare
  effect private.billing_effects;
  answer text;
begin
  delete from private.billing_effects;
  perform private.billing_send(outcome.kind, 'sub_r', tests.org('ada'), 'POST', '/v1/x', '{}');
  select e.* into effect from private.billing_effects as e;
  effect.created_at := clock_timestamp() - ago;
  insert into kijko.http_attempts (request_id, attempt, started_at, duration_ms, status, body, error)
  select effect.request_id, n, clock_timestamp(), 1, outcome.status, convert_to(outcome.body, 'UTF8'), outcome.error from generate_series(1, outcome.attempts) as n;
  update kijko.http_requests as r set state = outcome.state, attempts = outcome.attempts, ended_at = case when outcome.state <> 'pending' then clock_timestamp() end where r.id = effect.request_id;
  answer := (select concat_ws(' ', o.state, o.error) from private.billing_outcome(effect) as o);
  return answer || (select ', ' || r.state from kijko.http_requests as r where r.id = effect.request_id);
end
$$;
select is(tests.outcome(kind, state, status, attempts, ago), wanted, format('%s %s %s after %s attempts and %s', kind, state, status, attempts, ago))
from (values
  ('seats', 'succeeded', 200, 1, interval '1 minute', 'done, succeeded'), ('meter_event', 'succeeded', 200, 1, '1 minute', 'done, succeeded'), ('meter_event', 'succeeded', 200, 1, '21 hours', 'done, succeeded'),
  ('seats', 'pending', null, 0, '1 minute', 'open, pending'), ('seats', 'pending', 500, 1, '1 minute', 'open, pending'), ('seats', 'pending', 400, 1, '1 minute', 'failed, cancelled'), ('seats', 'pending', 499, 1, '1 minute', 'failed, cancelled'),
  ('seats', 'pending', 408, 1, '1 minute', 'open, pending'), ('seats', 'pending', 409, 1, '1 minute', 'open, pending'), ('seats', 'pending', 425, 1, '1 minute', 'open, pending'), ('seats', 'pending', 429, 1, '1 minute', 'open, pending'),
  ('meter_event', 'pending', 401, 2, '1 minute', 'unknown, cancelled'), ('meter_event', 'pending', 403, 2, '1 minute', 'unknown, cancelled'), ('meter_event', 'pending', 401, 1, '1 minute', 'failed, cancelled'),
  ('meter_event', 'pending', 404, 2, '1 minute', 'failed, cancelled'), ('seats', 'pending', 401, 2, '1 minute', 'failed, cancelled'),
  ('meter_event', 'pending', null, 0, '21 hours', 'unknown, cancelled'), ('meter_event', 'pending', null, 0, '19 hours', 'open, pending'), ('seats', 'pending', null, 0, '21 hours', 'open, pending'),
  ('seats', 'dead', 500, 1, '1 minute', 'failed, dead'), ('meter_event', 'dead', 500, 1, '1 minute', 'unknown, dead'), ('invoice_item', 'cancelled', null, 0, '1 minute', 'unknown, cancelled'),
  ('vat_credit', 'dead', null, 1, '1 minute', 'unknown, dead')
) as v (kind, state, status, attempts, ago, wanted);
select is(tests.outcome('seats', state, 400, body => body, error => error), wanted, format('%s %s %s', state, body, error))
from (values
  ('pending', '{"error": {"message": "No such item"}}', null, 'failed No such item, cancelled'), ('pending', 'no JSON', 'a refusal', 'failed a refusal, cancelled'), ('succeeded', '{"error": {"message": "x"}}', null, 'done, succeeded')
) as v (state, body, error, wanted);
create function tests.gone(kind text) returns text language plpgsql as $$
declare
  effect private.billing_effects;
begin
  effect.kind := gone.kind;
  effect.request_id := gen_random_uuid();
  effect.created_at := clock_timestamp();
  return (select o.state from private.billing_outcome(effect) as o);
end
$$;
select is(tests.gone(kind), wanted, 'a request that the outbox no longer has: ' || kind) from (values ('seats', 'failed'), ('meter_event', 'unknown')) as v (kind, wanted);

-- ---- those that have ended are settled; a credit note keeps its id, and a question about one finds it
create function tests.settles(variadic effects jsonb[]) returns text language plpgsql as $$
declare
  n integer;
begin
  delete from private.billing_effects;
  perform private.billing_send(e ->> 'kind', e ->> 'subject', tests.org('ada'), 'POST', '/v1/x', '{}') from unnest(effects) as e where not e ? 'was';
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, ended_at)
  select e ->> 'kind', e ->> 'subject', tests.org('ada'), false, gen_random_uuid(), e ->> 'was', clock_timestamp() from unnest(effects) as e where e ? 'was';
  insert into kijko.http_attempts (request_id, attempt, started_at, duration_ms, status, body)
  select f.request_id, 1, clock_timestamp(), 1, (e ->> 'status')::integer, convert_to(e ->> 'body', 'UTF8') from unnest(effects) as e join private.billing_effects as f on f.kind = e ->> 'kind' and f.subject = e ->> 'subject' where e ? 'status';
  update kijko.http_requests as r set state = case e ->> 'status' when '200' then 'succeeded' else 'dead' end, attempts = 1, ended_at = clock_timestamp()
  from unnest(effects) as e join private.billing_effects as f on f.kind = e ->> 'kind' and f.subject = e ->> 'subject' where r.id = f.request_id and e ? 'status';
  n := private.billing_settle();
  return n || ': ' || (select string_agg(concat_ws(' ', f.kind, f.subject, f.state, f.details ->> 'credit_note'), ', ' order by f.kind, f.subject) from private.billing_effects as f);
end
$$;
select is(tests.settles('{"kind": "seats", "subject": "s", "status": 200, "body": "{\"id\": \"x\"}"}', '{"kind": "seats", "subject": "t", "status": 400}', '{"kind": "seats", "subject": "u"}'), '2: seats s done, seats t failed, seats u open', 'two of three');
select is(tests.settles('{"kind": "vat_credit", "subject": "c:i", "status": 200, "body": "{\"id\": \"cn_1\"}"}', '{"kind": "vat_credit", "subject": "c:j", "status": 400, "body": "{\"id\": \"cn_2\"}"}'),
  '2: vat_credit c:i done cn_1, vat_credit c:j failed', 'a credit note that is made');
select is(tests.settles(
  jsonb_build_object('kind', 'vat_credit_check', 'subject', 'c:i', 'status', status, 'body', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'cn_3', 'metadata', jsonb_build_object('kijko_vat_credit', credit))))::text),
  jsonb_build_object('kind', 'vat_credit', 'subject', 'c:i', 'was', was), '{"kind": "vat_credit", "subject": "c:j", "was": "unknown"}'
), wanted, format('%s %s of one that is %s', status, credit, was))
from (values
  (200, 'c', 'unknown', '1: vat_credit c:i done cn_3, vat_credit c:j unknown, vat_credit_check c:i done'), (200, 'd', 'unknown', '1: vat_credit c:i unknown, vat_credit c:j unknown, vat_credit_check c:i done'),
  (400, 'c', 'unknown', '1: vat_credit c:i unknown, vat_credit c:j unknown, vat_credit_check c:i failed'), (200, 'c', 'failed', '1: vat_credit c:i done cn_3, vat_credit c:j unknown, vat_credit_check c:i done'),
  (200, 'c', 'done', '1: vat_credit c:i done, vat_credit c:j unknown, vat_credit_check c:i done')
) as v (status, credit, was, wanted);

-- ---- what has ended is forgotten after ninety days, but for what says which VAT is credited
insert into public.billing_details (org_id, kind, name, country, vat_number) select tests.org(u), 'business', u, 'DE', 'DE136695976' from unnest('{ada,bob}'::text[]) as u;
insert into private.vat_credits (id, organization, check_id, vat_number, country, charged_from, charged_until, settled_at)
select tests.id('credit of ' || u), tests.org(u), c.id, c.vat_number, 'NL', now(), now(), case u when 'bob' then now() end from unnest('{ada,bob}'::text[]) as u join public.vat_checks as c on c.org_id = tests.org(u);
create function tests.forgets(kind text, state text, ago interval, credit text default 'none') returns boolean language plpgsql as $$
declare
  n integer;
begin
  delete from private.billing_effects;
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, created_at, ended_at)
  select forgets.kind, tests.id('credit of ' || credit) || ':in_1', tests.org('ada'), false, gen_random_uuid(), forgets.state, clock_timestamp() - ago, case when forgets.state <> 'open' then clock_timestamp() end;
  n := private.billing_purge();
  return n = 1 and not exists (select from private.billing_effects);
end
$$;
select is(tests.forgets(kind, state, ago, credit), wanted, format('%s %s of %s ago, credit of %s', kind, state, ago, credit))
from (values
  ('seats', 'done', interval '91 days', 'none', true), ('seats', 'done', '89 days', 'none', false), ('seats', 'open', '91 days', 'none', false), ('vat_credit', 'done', '91 days', 'ada', false), ('vat_credit', 'done', '91 days', 'bob', true),
  ('vat_credit', 'failed', '91 days', 'none', true), ('seats', 'done', '91 days', 'ada', true)
) as v (kind, state, ago, credit, wanted);

-- ---- seats: as many as there are members, of running subscriptions with a price for seats
create function tests.subscribed(id text, more jsonb default '{}') returns void language plpgsql as $$
begin
  perform set_config('session_replication_role', 'replica', true);
  insert into public.stripe_subscriptions select (jsonb_populate_record(null::public.stripe_subscriptions, jsonb_build_object(
    'id', subscribed.id, 'customer_id', 'cus_r', 'org_id', tests.org('ada'), 'status', 'active', 'collection_method', 'send_invoice', 'items', '[]'::jsonb, 'tax_rate_ids', '{}', 'cancel_at_period_end', false,
    'livemode', false, 'event_id', 'evt_r', 'created_at', now(), 'as_of', now()
  ) || more)).*;
  perform set_config('session_replication_role', 'origin', true);
end
$$;
create function tests.items(variadic keys text[]) returns jsonb language sql as $$
  select jsonb_build_object('items', jsonb_agg(jsonb_build_object('id', 'si_' || n, 'price', 'price_' || split_part(k, ' ', 1), 'lookup_key', split_part(k, ' ', 1), 'quantity', nullif(split_part(k, ' ', 2), '')::integer) order by n))
  from unnest(keys) with ordinality as e (k, n)
$$;
create function tests.seats(more jsonb, effect jsonb default null) returns text language plpgsql as $$
declare
  n integer;
begin
  delete from private.billing_effects;
  delete from public.stripe_subscriptions as s where s.customer_id = 'cus_r';
  perform tests.subscribed('sub_r', more);
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, details, state, ended_at)
  select 'seats', 'sub_r', tests.org('ada'), false, gen_random_uuid(), effect -> 'details', effect ->> 'state', clock_timestamp() - interval '5 minutes' where effect is not null;
  n := private.billing_sync_seats();
  return concat_ws(' ', n, (select string_agg(concat_ws(' ', substr(r.url, 27), r.body, e.details), ', ') from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.kind = 'seats' and e.subject = 'sub_r'));
end
$$;
select is(tests.seats(more, effect), wanted, format('%s after %s', more, effect))
from (values
  (tests.items('teams_monthly 1'), null::jsonb, '1 /v1/subscription_items/si_1 proration_behavior=create_prorations&quantity=3 {"quantity": 3}'), (tests.items('teams_monthly 3'), null, '0'),
  (tests.items('teams_monthly'), null, '1 /v1/subscription_items/si_1 proration_behavior=create_prorations&quantity=3 {"quantity": 3}'), (tests.items('teams_monthly 4') || '{"status": "past_due"}', null, '1 /v1/subscription_items/si_1 proration_behavior=create_prorations&quantity=3 {"quantity": 3}'),
  (tests.items('teams_executions_monthly', 'teams_monthly 2'), null, '1 /v1/subscription_items/si_2 proration_behavior=create_prorations&quantity=3 {"quantity": 3}'),
  (tests.items('pro_monthly 1'), null, '0'), (tests.items('teams_monthly 1') || '{"status": "unpaid"}', null, '0'), (tests.items('teams_monthly 2') || '{"org_id": null}', null, '0'), (tests.items('teams_monthly 1') || '{"livemode": true}', null, '0'),
  (tests.items('teams_monthly 1'), '{"state": "done", "details": {"quantity": 3}}', '0'), (tests.items('teams_monthly 1'), '{"state": "failed", "details": {"quantity": 2}}', '0'),
  (tests.items('teams_monthly 1'), '{"state": "done", "details": {"quantity": 2}}', '1 /v1/subscription_items/si_1 proration_behavior=create_prorations&quantity=3 {"quantity": 3}')
) as v (more, effect, wanted);

-- ---- who may use more than the plan includes: with a metered price of the meter, outside a trial, without an open dispute
create function tests.policy(items jsonb, more jsonb default '{}', dispute jsonb default null, meter text default 'executions') returns text language plpgsql as $$
begin
  delete from public.stripe_subscriptions as s where s.customer_id = 'cus_r';
  delete from private.billing_disputes;
  perform tests.subscribed('sub_r', items || more), tests.subscribed('sub_b', tests.items('pro_monthly 1', 'pro_llm_tokens_monthly') || jsonb_build_object('org_id', tests.org('bob')));
  insert into private.billing_disputes (id, livemode, charge_id, organization_id, status, amount, currency, as_of)
  select 'dp_r', false, 'ch_r', tests.org(dispute ->> 'who'), dispute ->> 'status', 1, 'eur', now() where dispute is not null;
  return private.billing_overage_policy(tests.org('ada'), policy.meter);
end
$$;
select is(tests.policy(items, more, dispute, meter), wanted, format('%s of %s %s, disputed: %s', meter, items, more, dispute))
from (values
  (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{}'::jsonb, null::jsonb, 'executions', 'bill'), (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{}', null, 'llm_tokens', null), (tests.items('pro_monthly 1'), '{}', null, 'executions', null),
  (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{"status": "trialing"}', null, 'executions', null), (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{"status": "canceled"}', null, 'executions', null),
  (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{"livemode": true}', null, 'executions', null), (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{}', '{"who": "ada", "status": "open"}', 'executions', null),
  (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{}', '{"who": "ada", "status": "won"}', 'executions', 'bill'), (tests.items('pro_monthly 1', 'pro_executions_monthly'), '{}', '{"who": "bob", "status": "open"}', 'executions', 'bill')
) as v (items, more, dispute, meter, wanted);

-- ---- and the engine's limits follow: of this organization, with the prices and without them
create function tests.in_force() returns text language sql as $$
  select string_agg(concat_ws(' ', u, (kijko.find_limit(tests.org(u), 'executions')).overage_policy, (select count(*) from private.billing_terms as t where t.organization_id = tests.org(u))), ', ' order by u) from unnest('{ada,bob}'::text[]) as u
$$;
delete from public.stripe_subscriptions as s where s.customer_id = 'cus_r';
delete from private.billing_disputes;
select is(tests.in_force(), 'ada refuse 0, bob refuse 0', 'without a price it ends with the limit');
select tests.subscribed('sub_r', tests.items('pro_monthly 1'));
update public.stripe_subscriptions as s set items = (tests.items('pro_monthly 1', 'pro_executions_monthly') -> 'items') where s.id = 'sub_r' and not s.livemode;
select is(tests.in_force(), 'ada bill 1, bob refuse 0', 'with one, ada goes on');
update public.stripe_subscriptions as s set items = (tests.items('pro_monthly 1') -> 'items') where s.id = 'sub_r' and not s.livemode;
select is(tests.in_force(), 'ada refuse 1, bob refuse 0', 'and without it no longer');
select lives_ok($$select private.billing_apply_overage(gen_random_uuid())$$, 'an organization that is gone has none');
update public.subscriptions as s set plan = 'ENTERPRISE' where s.org_id = tests.org('bob');
select tests.subscribed('sub_e', tests.items('enterprise_monthly 1', 'pro_executions_monthly') || jsonb_build_object('org_id', tests.org('bob')));
select lives_ok($$select private.billing_apply_overage(tests.org('bob'))$$, 'a plan without limits has no use beyond them');
select is((select count(*) from private.billing_terms as t where t.organization_id = tests.org('bob')), 0::bigint, 'so nothing is noted of its price');

-- ---- a deleted organization ends what still runs, and nothing of another one
delete from private.billing_effects;
delete from public.stripe_subscriptions as s where s.customer_id = 'cus_r';
select tests.subscribed('sub_' || status, jsonb_build_object('status', status)) from unnest('{active,unpaid,incomplete,canceled}'::text[]) as status;
select tests.subscribed('sub_b', jsonb_build_object('org_id', tests.org('bob'))), tests.subscribed('sub_live', '{"livemode": true}');
delete from public.organizations as o where o.id = tests.org('ada');
select is((select string_agg(e.subject, ' ' order by e.subject) from private.billing_effects as e where e.kind = 'cancel'), 'sub_active sub_incomplete sub_unpaid', 'three of six');

select * from finish();
rollback;
