-- What is asked of Stripe for a member: arguments, prices, trials, items of a change, and what is refused; each rule at its edges.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.billing_effects;
delete from private.billing_objects;
delete from private.billing_customers;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
select private.billing_record_object('price', key, false, 'price_' || key)
from unnest('{pro_monthly,pro_yearly,teams_monthly,teams_yearly,enterprise_monthly,pro_executions_monthly,pro_llm_tokens_monthly,teams_executions_monthly}'::text[]) as key;
insert into public.prices (lookup_key, plan, recurring_interval, kind, meter, amount_cents, active) values ('pro_events_monthly', 'PRO', 'month', 'metered', 'events', 1, false), ('teams_old_yearly', 'TEAMS', 'year', 'flat', null, 1, false);
select private.billing_record_object('price', key, false, 'price_' || key) from unnest('{pro_events_monthly,teams_old_yearly}'::text[]) as key;
insert into public.billing_details (org_id, kind, name, country) select tests.org(u), 'consumer', u, 'NL' from unnest('{ada,bob}'::text[]) as u;

-- ---- arguments: of their type, and known
select is(private.billing_argument(arguments, 'x', kind), wanted, format('%s as a %s', left(arguments::text, 40), kind))
from (values
  ('{"x": "a"}'::jsonb, 'string', 'a'), ('{}', 'string', null), ('{"x": null}', 'string', null), ('{"x": 5}', 'number', '5'), ('{"x": false}', 'boolean', 'false'), (jsonb_build_object('x', repeat('é', 2000)), 'string', repeat('é', 2000))
) as v (arguments, kind, wanted);
select tests.refuses(format('select private.billing_argument(%L, %L, %L)', arguments, 'x', kind), 'invalid_input', format('%s as a %s', left(arguments::text, 40), kind))
from (values ('{"x": 5}'::jsonb, 'string'), ('{"x": "5"}', 'number'), ('{"x": {}}', 'string'), (jsonb_build_object('x', repeat('é', 2001)), 'string')) as v (arguments, kind);
select lives_ok(format('select private.billing_check_arguments(%L, %L)', a, '{x,y}'), a) from unnest('{"{}","{\"x\": 1}","{\"y\": 1, \"x\": 2}"}'::text[]) as a;
select tests.refuses(format('select private.billing_check_arguments(%L::jsonb, %L)', a, '{x,y}'), 'invalid_input', coalesce(a, 'none')) from unnest(array['[]', '{"z": 1}', '{"x": 1, "z": 1}', null]) as a;

-- ---- a price for sale, with its metered prices
select is((private.billing_price(plan, every)).lookup_key, wanted, format('%s each %s', plan, every))
from (values ('PRO', 'month', 'pro_monthly'), ('PRO', 'year', 'pro_yearly'), ('TEAMS', 'month', 'teams_monthly'), ('TEAMS', 'year', 'teams_yearly'), ('ENTERPRISE', 'month', 'enterprise_monthly')) as v (plan, every, wanted);
select tests.refuses(format('select private.billing_price(%L, %L)', plan, every), code, format('%s each %s', plan, every))
from (values ('FREE', 'month', 'invalid_input'), ('PRO', 'week', 'invalid_input'), (null, 'month', 'invalid_input'), ('ENTERPRISE', 'year', 'unavailable')) as v (plan, every, code);
create function tests.price(key text) returns public.prices language sql as $$ select c from public.prices as c where c.lookup_key = key $$;
select is((select string_agg(m.lookup_key || ' ' || m.stripe_id, ', ') from private.billing_metered(tests.price(key)) as m), wanted, 'metered with ' || key)
from (values
  ('pro_monthly', 'pro_executions_monthly price_pro_executions_monthly, pro_llm_tokens_monthly price_pro_llm_tokens_monthly'), ('teams_monthly', 'teams_executions_monthly price_teams_executions_monthly'), ('pro_yearly', null), ('enterprise_monthly', null)
) as v (key, wanted);

-- ---- a trial: of the first subscription of an organization and its people
create function tests.subscribed(more jsonb) returns void language plpgsql as $$
begin
  delete from public.stripe_subscriptions as s where s.customer_id = 'cus_o';
  perform set_config('session_replication_role', 'replica', true);
  insert into public.stripe_subscriptions select (jsonb_populate_record(null::public.stripe_subscriptions, jsonb_build_object(
    'id', 'sub_o', 'customer_id', 'cus_o', 'org_id', tests.org('ada'), 'status', 'active', 'items', '[]'::jsonb, 'tax_rate_ids', '{}', 'cancel_at_period_end', false, 'livemode', false, 'event_id', 'evt_o', 'created_at', now(), 'as_of', now()
  ) || more)).* where more is not null;
  perform set_config('session_replication_role', 'origin', true);
end
$$;
create function tests.trial(key text, more jsonb default null) returns integer language plpgsql as $$
begin
  perform tests.subscribed(more);
  return private.billing_trial_days(tests.org('ada'), tests.price(key));
end
$$;
select is(tests.trial(key, more), wanted, format('a trial of %s after %s', key, more))
from (values
  ('pro_monthly', null::jsonb, 14), ('enterprise_monthly', null, null), ('pro_monthly', '{}', null), ('pro_monthly', '{"status": "canceled"}', null), ('pro_monthly', jsonb_build_object('org_id', tests.org('bob')), 14)
) as v (key, more, wanted);

-- ---- what a member asks for, and what stays as it is
create function tests.items(variadic keys text[]) returns jsonb language sql as $$
  select jsonb_agg(jsonb_build_object('id', 'si_' || n, 'price', 'price_' || k, 'lookup_key', k, 'quantity', 1) order by n) from unnest(keys) with ordinality as e (k, n)
$$;
create function tests.wanted(arguments jsonb, items jsonb) returns text language sql as $$
  select concat_ws(' ', (a.base).lookup_key, a.overage) from private.billing_plan_arguments(arguments, jsonb_populate_record(null::public.stripe_subscriptions, jsonb_build_object('items', items))) as a
$$;
select is(tests.wanted(arguments, items), wanted, format('%s of %s', arguments, items))
from (values
  ('{"plan": "PRO"}'::jsonb, null::jsonb, 'pro_monthly f'), ('{"plan": "PRO", "interval": "year"}', null, 'pro_yearly f'), ('{"plan": "PRO", "overage": true}', null, 'pro_monthly t'), ('{"plan": "TEAMS"}', tests.items('pro_yearly'), 'teams_yearly f'),
  ('{"interval": "year"}', tests.items('pro_monthly'), 'pro_yearly f'), ('{}', tests.items('pro_monthly', 'pro_executions_monthly'), 'pro_monthly t'), ('{"overage": false}', tests.items('pro_monthly', 'pro_executions_monthly'), 'pro_monthly f'),
  ('{"overage": null}', tests.items('pro_monthly', 'pro_executions_monthly'), 'pro_monthly t'), ('{"interval": "year"}', tests.items('pro_monthly', 'pro_executions_monthly'), 'pro_yearly f'),
  ('{"interval": "year", "overage": null}', tests.items('pro_monthly', 'pro_executions_monthly'), 'pro_yearly f'), ('{"interval": "year", "overage": false}', tests.items('pro_monthly', 'pro_executions_monthly'), 'pro_yearly f'),
  ('{"plan": "PRO", "interval": "year"}', tests.items('pro_executions_monthly'), 'pro_yearly f')
) as v (arguments, items, wanted);
select tests.refuses(format('select tests.wanted(%L, %L)', arguments, items), 'invalid_input', format('%s of %s', arguments, items))
from (values
  ('{"plan": "PRO", "interval": "year", "overage": true}'::jsonb, null::jsonb), ('{"interval": "year", "overage": true}', tests.items('pro_monthly', 'pro_executions_monthly')), ('{}', null), ('{"plan": "GOLD"}', null), ('{"plan": 1}', null),
  ('{"plan": "PRO", "overage": "yes"}', null)
) as v (arguments, items);

-- ---- the items of a change: the plan's own keeps its identity, metered ones come and go, and what the catalogue does not know stays
select is(private.billing_changed_items(items, tests.price(key), tests.org('ada'), overage), wanted::jsonb, format('%s to %s, %s', items, key, overage))
from (values
  (tests.items('pro_monthly'), 'teams_monthly', false, '[{"id": "si_1", "price": "price_teams_monthly", "quantity": 1}]'),
  (tests.items('pro_executions_monthly', 'pro_monthly'), 'teams_monthly', true, '[{"id": "si_2", "price": "price_teams_monthly", "quantity": 1}, {"price": "price_teams_executions_monthly"}, {"id": "si_1", "deleted": true}]'),
  (tests.items('pro_monthly', 'pro_executions_monthly'), 'pro_monthly', true, '[{"id": "si_1", "price": "price_pro_monthly", "quantity": 1}, {"price": "price_pro_llm_tokens_monthly"}]'),
  (tests.items('pro_monthly', 'pro_executions_monthly', 'pro_llm_tokens_monthly'), 'pro_monthly', false, '[{"id": "si_1", "price": "price_pro_monthly", "quantity": 1}, {"id": "si_2", "deleted": true}, {"id": "si_3", "deleted": true}]'),
  (tests.items('pro_monthly', 'support', 'pro_executions_monthly'), 'pro_yearly', false, '[{"id": "si_1", "price": "price_pro_yearly", "quantity": 1}, {"id": "si_3", "deleted": true}]'),
  (tests.items('teams_monthly', 'pro_monthly'), 'teams_yearly', false, '[{"id": "si_1", "price": "price_teams_yearly", "quantity": 1}]'),
  (tests.items('pro_executions_monthly'), 'pro_monthly', true, '[{"price": "price_pro_monthly", "quantity": 1}, {"price": "price_pro_llm_tokens_monthly"}]')
) as v (items, key, overage, wanted);

-- ---- a change: of a running subscription, at a time that its preview has said
select tests.travel(date_trunc('second', now()) - now());
create function tests.changes(arguments jsonb, more jsonb, preview boolean default false) returns text language plpgsql as $$
declare
  answer jsonb;
begin
  perform tests.subscribed(more);
  answer := private.billing_change(tests.org('ada'), case when arguments ? 'in' then (arguments - 'in') || jsonb_build_object('proration_date', extract(epoch from kijko.now())::bigint + (arguments ->> 'in')::integer) else arguments end, preview);
  return concat_ws(' ', answer ->> 'operation', coalesce(answer #>> '{update,items,0,price}', answer #>> '{invoice,subscription_details,items,0,price}'),
    coalesce((answer #>> '{update,proration_date}')::bigint, (answer ->> 'proration_date')::bigint) - extract(epoch from kijko.now())::bigint);
end
$$;
select is(tests.changes(arguments, more, preview), wanted, format('%s of %s, preview: %s', arguments, more, preview))
from (values
  ('{"plan": "TEAMS"}'::jsonb, jsonb_build_object('items', tests.items('pro_monthly')), false, 'update price_teams_monthly 0'), ('{"plan": "TEAMS"}', jsonb_build_object('items', tests.items('pro_monthly')), true, 'preview price_teams_monthly 0'),
  ('{"plan": "TEAMS"}', jsonb_build_object('items', tests.items('pro_monthly'), 'status', 'past_due'), true, 'preview price_teams_monthly 0'),
  ('{"plan": "TEAMS", "in": -3600}', jsonb_build_object('items', tests.items('pro_monthly')), false, 'update price_teams_monthly -3600'), ('{"plan": "TEAMS", "in": 3600}', jsonb_build_object('items', tests.items('pro_monthly')), false, 'update price_teams_monthly 3600'),
  ('{"plan": "TEAMS"}', jsonb_build_object('items', tests.items('pro_monthly'), 'status', 'trialing'), false, 'update price_teams_monthly 0'), ('{}', jsonb_build_object('items', tests.items('enterprise_monthly'), 'status', 'trialing'), false, 'update price_enterprise_monthly 0'),
  ('{"plan": "ENTERPRISE"}', jsonb_build_object('items', tests.items('pro_monthly')), false, 'update price_enterprise_monthly 0')
) as v (arguments, more, preview, wanted);
select tests.refuses(format('select tests.changes(%L, %L)', arguments, more), code, format('%s of %s', arguments, more))
from (values
  ('{"plan": "TEAMS"}'::jsonb, null::jsonb, 'not_found'), ('{"plan": "TEAMS"}', '{"status": "canceled"}', 'not_found'), ('{"plan": "TEAMS"}', '{"livemode": true}', 'not_found'), ('{"plan": "TEAMS"}', jsonb_build_object('org_id', tests.org('bob')), 'not_found'),
  ('{"plan": "TEAMS"}', jsonb_build_object('items', tests.items('pro_monthly'), 'status', 'past_due'), 'conflict'), ('{"plan": "ENTERPRISE"}', jsonb_build_object('items', tests.items('pro_monthly'), 'status', 'trialing'), 'conflict'),
  ('{"plan": "TEAMS", "x": 1}', jsonb_build_object('items', tests.items('pro_monthly')), 'invalid_input'), ('{"plan": "TEAMS", "in": -3601}', jsonb_build_object('items', tests.items('pro_monthly')), 'invalid_input'),
  ('{"plan": "TEAMS", "in": 3601}', jsonb_build_object('items', tests.items('pro_monthly')), 'invalid_input'), ('{"plan": "TEAMS", "proration_date": 1.5}', jsonb_build_object('items', tests.items('pro_monthly')), 'invalid_input'),
  ('{"plan": "TEAMS", "proration_date": 1e30}', jsonb_build_object('items', tests.items('pro_monthly')), 'invalid_input')
) as v (arguments, more, code);
select tests.travel('0');

-- ---- the end of one, its lists, and the portal
create function tests.cancels(arguments jsonb, cancels boolean, more jsonb default '{}') returns jsonb language plpgsql as $$
begin
  perform tests.subscribed(more);
  return private.billing_cancel(tests.org('ada'), arguments, cancels) -> 'update';
end
$$;
select is(tests.cancels(arguments, cancels), wanted::jsonb, format('%s, cancels: %s', arguments, cancels))
from (values
  ('{}'::jsonb, true, '{"cancel_at_period_end": true, "cancellation_details": {}}'), ('{"reason": "unused"}', true, '{"cancel_at_period_end": true, "cancellation_details": {"feedback": "unused"}}'), ('{}', false, '{"cancel_at_period_end": false}')
) as v (arguments, cancels, wanted);
select tests.refuses(format('select tests.cancels(%L, %L, %L)', arguments, cancels, more), code, format('%s, cancels: %s, of %s', arguments, cancels, more))
from (values
  ('{"reason": "boredom"}'::jsonb, true, '{}'::jsonb, 'invalid_input'), ('{"x": 1}', true, '{}', 'invalid_input'), ('{"reason": "unused"}', false, '{}', 'invalid_input'), ('{}', true, null, 'not_found'), ('{}', false, '{"status": "canceled"}', 'not_found')
) as v (arguments, cancels, more, code);
select is(private.billing_list(tests.org('ada'), a, 'invoices') -> 'list', wanted::jsonb, a::text)
from (values ('{}'::jsonb, '{"limit": 20}'), ('{"limit": 1}', '{"limit": 1}'), ('{"limit": 100, "starting_after": "in_1"}', '{"limit": 100, "starting_after": "in_1"}'), ('{"limit": 5.0}', '{"limit": 5}')) as v (a, wanted);
select tests.refuses(format('select private.billing_list(tests.org(%L), %L, %L)', 'ada', a, 'invoices'), 'invalid_input', a)
from unnest(array['{"limit": 0}', '{"limit": 101}', '{"limit": 1.5}', '{"limit": "5"}', '{"x": 1}']) as a;
select tests.refuses($$select private.billing_portal(tests.org('ada'), '{"return_url": "http://127.0.0.1/"}')$$, 'not_found', 'no portal without a customer');
insert into private.billing_customers (organization_id, livemode, customer_id) values (tests.org('ada'), false, 'cus_o');
select is(private.billing_portal(tests.org('ada'), '{"return_url": "http://127.0.0.1/"}') -> 'portal', '{"customer": "cus_o", "return_url": "http://127.0.0.1/"}', 'the portal of its customer');
select tests.refuses(format('select private.billing_portal(tests.org(%L), %L)', 'ada', a), 'invalid_input', a) from unnest(array['{}', '{"return_url": "http://127.0.0.1/", "x": 1}', '{"return_url": "https://evil.example/"}']) as a;

-- ---- a checkout: of a plan, while none runs, with the trial in its metadata if it has one
create function tests.buys(arguments jsonb, more jsonb default null) returns text language plpgsql as $$
declare
  answer jsonb;
begin
  perform tests.subscribed(more);
  answer := private.billing_checkout(tests.org('ada'), '{"success_url": "http://127.0.0.1/", "cancel_url": "http://127.0.0.1/"}' || arguments) #> '{session,subscription_data}';
  return concat_ws(' ', answer ->> 'trial_period_days', answer #>> '{metadata,kijko_trial}');
end
$$;
select is(tests.buys(arguments, more), wanted, format('%s after %s', arguments, more))
from (values ('{"plan": "PRO"}'::jsonb, null::jsonb, '14 checkout'), ('{"plan": "ENTERPRISE"}', null, ''), ('{"plan": "PRO"}', '{"status": "canceled"}', ''), ('{"plan": "PRO"}', jsonb_build_object('org_id', tests.org('bob')), '14 checkout')) as v (arguments, more, wanted);
select tests.refuses(format('select tests.buys(%L, %L)', arguments, more), code, format('%s after %s', arguments, more))
from (values ('{}'::jsonb, null::jsonb, 'invalid_input'), ('{"plan": "PRO", "x": 1}', null, 'invalid_input'), ('{"plan": "PRO"}', '{}', 'conflict'), ('{"plan": "PRO", "cancel_url": null}', null, 'invalid_input')) as v (arguments, more, code);
select private.plans_trial_begin(tests.org('ada'), null);
select is(tests.buys('{"plan": "PRO"}'), '', 'one who had a trial gets none');

-- ---- the VAT on its lines, and what the customer is exempt from
create function tests.tax(country text, number text default null) returns text language plpgsql as $$
begin
  delete from public.billing_details as d where d.org_id = tests.org('bob');
  delete from public.vat_checks as c where c.org_id = tests.org('bob');
  insert into public.billing_details (org_id, kind, name, country, vat_number) select tests.org('bob'), 'business', 'Bob', tax.country, tax.number where tax.country is not null;
  update public.vat_checks as c set status = 'valid', consulted_at = kijko.now() where c.org_id = tests.org('bob');
  return (select concat_ws(' ', t ->> 'tax_exempt', t ->> 'country', t #>> '{tax_rate,name}', t #>> '{tax_rate,params,display_name}', t #>> '{tax_rate,params,percentage}') from private.billing_tax(tests.org('bob')) as t);
end
$$;
update private.vat_settings set seller_country = 'NL', oss_since = '2021-07-01';
select is(tests.tax(country, number), wanted, format('%s %s', country, number))
from (values ('NL', null, 'none NL NL:2100 BTW 21'), ('FI', null, 'none FI FI:2550 VAT 25.5'), ('DE', 'DE136695976', 'reverse DE'), ('US', null, 'exempt US')) as v (country, number, wanted);
select tests.refuses('select tests.tax(null)', 'conflict', 'nobody knows where');

-- ---- the number that invoices show: its own, unless it is invalid
create function tests.shows(number text, status text) returns text language plpgsql as $$
begin
  perform tests.tax('DE', number);
  update public.billing_details as d set vat_number_status = status where d.org_id = tests.org('bob');
  return private.billing_tax_number(tests.org('bob'));
end
$$;
select tests.sign_up('cyd');
insert into public.billing_details (org_id, kind, name, country, vat_number) values (tests.org('cyd'), 'business', 'Cyd', 'DE', 'DE129273398');
select is(tests.shows(number, status), wanted, format('%s is %s', number, status))
from (values ('DE136695976', 'valid', 'DE136695976'), ('DE136695976', 'pending', 'DE136695976'), ('DE136695976', 'unavailable', 'DE136695976'), ('DE136695976', 'invalid', null), (null, null, null)) as v (number, status, wanted);

-- ---- a ticket: for half a minute, and of this mode
create function tests.ticket(until interval, livemode boolean default false) returns text language sql as $$
  select private.billing_open(kijko.seal(jsonb_build_object('work', 1, 'livemode', ticket.livemode, 'expires_at', extract(epoch from clock_timestamp() + until))::text, 'billing/ticket'), false)::text
$$;
select is(tests.ticket(until, livemode), wanted, format('for %s, live: %s', until, livemode)) from (values (interval '10 seconds', false, '{"work": 1}'), ('-1 second', false, null), ('10 seconds', true, null), ('10 seconds', null, null)) as v (until, livemode, wanted);
select tests.act('authenticated', tests.token('authenticated'), tests.org('ada'));
select tests.refuses($$select public.authorize_billing('usage')$$, 'not_identified', 'a session that has ended has none');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses($$select public.authorize_billing('usage', '{"x": 1}')$$, 'invalid_input', 'use takes no arguments');
select lives_ok($$select public.authorize_billing('usage')$$, 'and is not limited');
select count(tests.refusal($$select public.authorize_billing('cancel', '{"x": 1}')$$)) as asked from generate_series(1, 60) \gset
select tests.refuses($$select public.authorize_billing('cancel')$$, 'rate_limited', 'what Stripe is asked is, to sixty in a minute');

select tests.act_as_superuser();
delete from private.billing_account;
select tests.act_as('bob', tests.org('bob'));
select tests.refuses($$select public.authorize_billing('invoices')$$, 'unavailable', 'without an account there are none');

select * from finish();
rollback;
