-- What is reported of use, at which price, and what is asked of Stripe again: each rule at its edges, beside rows of others.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob');
delete from private.billing_effects;
delete from private.billing_reports;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
select private.billing_record_object('meter', 'executions', false, 'mtr_1');

-- Reports that were made before: of ada's executions in one period, done at Pro's price, unless they say otherwise.
create function tests.reports(rows jsonb) returns void language sql as $$
  insert into private.billing_reports
  select (jsonb_populate_record(null::private.billing_reports, jsonb_build_object(
    'organization_id', tests.org('ada'), 'meter', 'executions', 'period_end', '2026-02-01T00:00:00Z', 'seq', n, 'lookup_key', 'pro_executions_monthly',
    'subscription_id', 'sub_r', 'customer_id', 'cus_r', 'livemode', false, 'used', 0, 'included', 0, 'via', 'meter_event', 'state', 'done',
    'created_at', now() - interval '1 day', 'ended_at', now() - interval '1 day'
  ) || r)).* from jsonb_array_elements(rows) with ordinality as e (r, n)
$$;
-- The next report beyond 100, after those and beside another organization's, meter's and period's.
create function tests.next(rows jsonb, used bigint, is_over boolean default false, key text default 'pro_executions_monthly') returns text language plpgsql as $$
declare
  price public.prices;
  made boolean;
begin
  delete from private.billing_reports;
  delete from private.billing_effects;
  select c.* into price from public.prices as c where c.lookup_key = key;
  perform tests.reports(rows);
  perform tests.reports(jsonb_build_array(
    '{"seq": 91, "amount": 1000, "lookup_key": "teams_executions_monthly", "state": "done"}'::jsonb || jsonb_build_object('organization_id', tests.org('bob')),
    jsonb_build_object('seq', 91, 'amount', 1000, 'lookup_key', 'teams_executions_monthly', 'meter', case price.meter when 'executions' then 'llm_tokens' else 'executions' end),
    '{"seq": 91, "amount": 1000, "lookup_key": "teams_executions_monthly", "period_end": "2026-01-01T00:00:00Z"}'::jsonb
  ));
  made := private.billing_report(
    tests.org('ada'), row('sub_r', 'cus_r', false, price)::private.billing_metered_item, '2026-02-01T00:00:00Z', next.used, 100, next.is_over
  );
  return (
    select concat_ws(' ', made, string_agg(concat_ws(' ', r.seq, r.amount, r.via, r.amount_cents, r.lookup_key, r.state), ', '))
    from private.billing_reports as r
    where r.organization_id = tests.org('ada') and r.meter = price.meter and r.period_end = '2026-02-01T00:00:00Z' and r.seq > jsonb_array_length(rows)
  );
end
$$;
select is(tests.next(rows, used), wanted, format('%s used after %s', used, rows))
from (values
  ('[]'::jsonb, 100, 'f'), ('[]', 90, 'f'), ('[]', 101, 't 1 1 meter_event pro_executions_monthly open'), ('[{"amount": 5}]', 107, 't 2 2 meter_event pro_executions_monthly open'),
  ('[{"amount": 7}]', 107, 'f'), ('[{"amount": 9}]', 107, 'f'), ('[{"amount": 7, "state": "failed"}]', 107, 't 2 7 meter_event pro_executions_monthly open'),
  ('[{"amount": 7, "state": "open", "ended_at": null}]', 120, 'f'), ('[{"amount": 7, "state": "unknown", "ended_at": null}]', 120, 'f')
) as v (rows, used, wanted);
select is(tests.next(rows, used, true, key), wanted, format('after the period, %s used after %s', used, rows))
from (values
  ('[]'::jsonb, 90, 'pro_executions_monthly', 'f'), ('[]', 103, 'pro_executions_monthly', 't 1 3 invoice_item 15 pro_executions_monthly open'),
  ('[{"amount": 9}]', 107, 'pro_executions_monthly', 't 2 -2 invoice_item -10 pro_executions_monthly open'),
  -- What is taken back goes back at the price of the last report that stands and was no credit itself.
  ('[{"amount": 9}, {"amount": 5, "state": "failed", "lookup_key": "teams_executions_monthly"}, {"amount": -1, "lookup_key": "teams_executions_monthly"}]', 107, 'teams_executions_monthly',
    't 4 -1 invoice_item -5 pro_executions_monthly open'),
  ('[{"amount": 4}, {"amount": 5, "lookup_key": "teams_executions_monthly"}]', 107, 'pro_executions_monthly', 't 3 -2 invoice_item -8 teams_executions_monthly open'),
  ('[{"amount": 5, "meter": "llm_tokens"}]', 107, 'pro_llm_tokens_monthly', 't 2 2 invoice_item 0 pro_llm_tokens_monthly done'),
  ('[{"amount": 5, "meter": "llm_tokens"}]', 10101, 'pro_llm_tokens_monthly', 't 2 9996 invoice_item 2 pro_llm_tokens_monthly open')
) as v (rows, used, key, wanted);
-- What Stripe refused is not tried again at once; what it refused of others does not matter.
create function tests.refused(more jsonb, ago interval) returns text language sql as $$
  select tests.next(jsonb_build_array('{"amount": 7, "state": "failed"}'::jsonb || jsonb_build_object('ended_at', clock_timestamp() - ago) || more), 107)
$$;
select is(left(tests.refused(more, ago), 1), wanted, format('a refusal %s ago: %s', ago, more))
from (values
  ('{}'::jsonb, interval '5 minutes', 'f'), ('{}', '11 minutes', 't'), ('{"state": "done", "amount": 1}', '5 minutes', 't'),
  ('{"meter": "llm_tokens"}', '5 minutes', 't'), (jsonb_build_object('organization_id', tests.org('bob')), '5 minutes', 't'),
  ('{"period_end": "2026-01-01T00:00:00Z"}', '5 minutes', 'f')
) as v (more, ago, wanted);
-- One report of a meter is on its way at a time, of whatever period.
select is(left(tests.next(jsonb_build_array('{"amount": 1, "state": "open", "ended_at": null}'::jsonb || more), 107), 1), wanted, 'beside an open one: ' || more::text)
from (values
  ('{"period_end": "2026-01-01T00:00:00Z"}'::jsonb, 'f'), ('{"meter": "llm_tokens"}', 't'), (jsonb_build_object('organization_id', tests.org('bob')), 't')
) as v (more, wanted);

-- ---- whether a request is recent: the same again, or one that did not end well
create function tests.recent(effects jsonb) returns boolean language plpgsql as $$
begin
  delete from private.billing_effects;
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, details, state, ended_at)
  select coalesce(e ->> 'kind', 'seats'), coalesce(e ->> 'subject', 'sub_r'), tests.org('ada'), false, gen_random_uuid(), coalesce(e -> 'details', '{"quantity": 3}'),
    e ->> 'state', case when e ->> 'state' <> 'open' then clock_timestamp() - (e ->> 'ago')::interval end
  from jsonb_array_elements(effects || '[{"state": "open", "subject": "sub_other"}, {"state": "open", "kind": "customer"}]') as e;
  return private.billing_is_recent('seats', 'sub_r', '{"quantity": 3}');
end
$$;
select is(tests.recent(e), wanted, e::text)
from (values
  ('[]'::jsonb, false), ('[{"state": "open"}]', true), ('[{"state": "done", "ago": "5 minutes"}]', true), ('[{"state": "done", "ago": "5 minutes", "details": {"quantity": 2}}]', false),
  ('[{"state": "done", "ago": "11 minutes"}]', false), ('[{"state": "failed", "ago": "5 minutes", "details": {"quantity": 2}}]', true), ('[{"state": "failed", "ago": "11 minutes"}]', false),
  ('[{"state": "done", "ago": "1 minute", "details": {"quantity": 2}}, {"state": "failed", "ago": "5 minutes"}]', false)
) as v (e, wanted);

-- ---- without an answer Stripe's own sum is asked for: this report, and all of its minute and later that have arrived
delete from private.billing_reports;
delete from private.billing_effects;
select tests.reports(jsonb_agg('{"seq": 1, "amount": 3}'::jsonb || jsonb_build_object('seq', n, 'created_at', date_trunc('minute', now()) - interval '1 hour') || r))
from jsonb_array_elements('[
  {"amount": 7, "state": "open", "ended_at": null}, {"amount": 20}, {"amount": 1000, "state": "failed"},
  {"amount": 1000, "customer_id": "cus_other"}, {"amount": 1000, "via": "invoice_item", "amount_cents": 1}, {"amount": 1000, "meter": "llm_tokens"}
]') with ordinality as e (r, n);
select tests.reports(jsonb_build_array(
  jsonb_build_object('seq', 91, 'amount', 300, 'created_at', date_trunc('minute', now()) - interval '10 minutes'),
  jsonb_build_object('seq', 92, 'amount', 4000, 'created_at', date_trunc('minute', now()) - interval '1 hour' - interval '1 microsecond')
));
select private.billing_check_report(r) from private.billing_reports as r where r.state = 'open';
select is((select e.details ->> 'expected' from private.billing_effects as e where e.kind = 'meter_check'), '327', 'what Stripe has, if it has this one');

-- ---- what the answer says
create function tests.settled(kind text, state text, body jsonb, ago interval default '5 minutes') returns text language plpgsql as $$
declare
  effect private.billing_effects;
begin
  delete from private.billing_reports;
  delete from private.billing_effects;
  perform tests.reports(jsonb_build_array(
    jsonb_build_object('amount', 7, 'state', 'open', 'ended_at', null, 'created_at', clock_timestamp() - ago),
    jsonb_build_object('amount', 7, 'state', 'open', 'ended_at', null, 'meter', 'llm_tokens')
  ));
  select private.billing_report_subject(r) into effect.subject from private.billing_reports as r where r.meter = 'executions';
  effect.organization_id := tests.org('ada');
  effect.kind := settled.kind;
  effect.details := '{"expected": 7}';
  perform private.billing_settle_report(effect, settled.state, settled.body);
  return (
    select concat_ws(' ', r.state, case when (r.ended_at is null) = (r.state = 'unknown') then 'ends' end, (select string_agg(e.kind, ',') from private.billing_effects as e))
    from private.billing_reports as r where r.meter = 'executions'
  ) || (select case when r.state <> 'open' then ' and another' else '' end from private.billing_reports as r where r.meter = 'llm_tokens');
end
$$;
select is(tests.settled(kind, state, body, ago), wanted, format('%s %s %s after %s', kind, state, body, ago))
from (values
  ('meter_event', 'done', '{}'::jsonb, interval '5 minutes', 'done ends'), ('meter_event', 'failed', '{}', '5 minutes', 'unknown ends meter_check'),
  ('meter_event', 'failed', '{"error": {"code": "duplicate_meter_event"}}', '5 minutes', 'done ends'), ('meter_event', 'failed', '{"error": {"code": "other"}}', '5 minutes', 'failed ends'),
  ('meter_event', 'unknown', '{}', '5 minutes', 'unknown ends meter_check'),
  ('meter_check', 'done', '{"data": [{"aggregated_value": 7}]}', '5 minutes', 'done ends'), ('meter_check', 'done', '{"data": [{"aggregated_value": 6}]}', '5 minutes', 'unknown ends'),
  ('meter_check', 'done', '{"data": [{"aggregated_value": 6}]}', '61 minutes', 'failed ends'), ('meter_check', 'done', '{"data": []}', '59 minutes', 'unknown ends'),
  ('meter_check', 'failed', '{"data": [{"aggregated_value": 7}]}', '61 minutes', 'unknown ends'), ('invoice_item_check', 'done', '{"data": []}', '5 minutes', 'failed ends')
) as v (kind, state, body, ago, wanted);

-- ---- what comes after the end of a subscription gets an invoice of its own, if there is a country for it
create function tests.invoiced(kind text, via text, status text, details boolean) returns text language plpgsql as $$
declare
  effect private.billing_effects;
begin
  delete from private.billing_reports;
  delete from private.billing_effects;
  delete from public.billing_details as d where d.org_id = tests.org('ada');
  delete from public.stripe_subscriptions as s where s.customer_id = 'cus_r';
  insert into public.billing_details (org_id, kind, name, country) select tests.org('ada'), 'consumer', 'Ada', 'NL' where details;
  delete from private.billing_effects;
  perform set_config('session_replication_role', 'replica', true);
  insert into public.stripe_subscriptions (id, customer_id, status, items, cancel_at_period_end, livemode, event_id, created_at, as_of) values ('sub_r', 'cus_r', invoiced.status, '[]', false, false, 'evt_r', now(), now());
  perform set_config('session_replication_role', 'origin', true);
  perform tests.reports(jsonb_build_array(jsonb_build_object('amount', 7, 'state', 'open', 'ended_at', null, 'via', invoiced.via, 'amount_cents', case invoiced.via when 'invoice_item' then 35 end)));
  select private.billing_report_subject(r) into effect.subject from private.billing_reports as r;
  effect.organization_id := tests.org('ada');
  effect.kind := invoiced.kind;
  perform private.billing_settle_report(effect, 'done', '{}');
  return (select string_agg(e.kind, ',') from private.billing_effects as e);
end
$$;
select is(tests.invoiced(kind, via, status, details), wanted, format('%s of a %s subscription, details: %s', via, status, details))
from (values
  ('invoice_item', 'invoice_item', 'canceled', true, 'invoice'), ('invoice_item', 'invoice_item', 'active', true, null), ('invoice_item', 'invoice_item', 'canceled', false, null), ('meter_event', 'meter_event', 'canceled', true, null)
) as v (kind, via, status, details, wanted);

-- ---- what a member sees of it: use beyond the plan, and never less than none
create function tests.seen(used bigint) returns text language plpgsql as $$
declare
  answer jsonb;
begin
  perform kijko.set_limit(tests.org('bob'), 'executions', 'month', 100);
  perform kijko.consume(tests.org('bob'), 'executions', seen.used - tests.used(tests.org('bob'), 'executions'));
  answer := private.billing_usage(tests.org('bob')) #> '{meters,0}';
  return concat_ws(' ', answer ->> 'used', answer ->> 'overage', answer ->> 'overage_cents');
end
$$;
select tests.send(e) from unnest(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_bob', 'cus_bob', 'active', 'pro_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('bob')),
    'collection_method', 'send_invoice', 'items', jsonb_build_object('data', jsonb_build_array(tests.item('si_1', 'pro_monthly', 0, 2592000), tests.item('si_2', 'pro_executions_monthly', 0, 2592000))))))
]) as e;
select is(tests.seen(used), wanted, format('%s of 100', used)) from (values (99, '99 0 0'), (100, '100 0 0')) as v (used, wanted);
select kijko.set_limits(array[tests.org('bob')], array['executions'], array['month'], array[100::bigint], array['bill']);
select kijko.consume(tests.org('bob'), 'executions', 3);
select is(private.billing_usage(tests.org('bob')) #>> '{meters,0,overage}', '3', 'three beyond');
select is((private.billing_usage(tests.org('bob')) ->> 'total_cents')::bigint - (private.billing_usage(tests.org('bob')) ->> 'base_cents')::bigint, 15::bigint, 'at their price');

select * from finish();
rollback;
