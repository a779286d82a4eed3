begin;
\ir 000_helpers.sql
select plan(194);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mel'), tests.sign_up('adm');
-- Four people are more than FREE has room for.
select kijko.set_limit(tests.org('ada'), 'members', 'lifetime', 4);
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('mel', tests.org('ada'), 'member'), tests.join_org('adm', tests.org('ada'), 'admin');

-- ---- small events; the journeys use whole ones
create sequence tests.event_number;
create function tests.second(n integer) returns bigint language sql stable as $$
  select extract(epoch from date_trunc('second', now()))::bigint + n
$$;
create function tests.event(type text, second integer, object jsonb, before jsonb default null, id text default null) returns jsonb language sql as $$
  select jsonb_build_object(
    'id', coalesce(id, 'evt_test' || nextval('tests.event_number')), 'object', 'event', 'type', type, 'created', tests.second(second),
    'livemode', false, 'api_version', '2025-09-30.clover',
    'data', jsonb_strip_nulls(jsonb_build_object('previous_attributes', before)) || jsonb_build_object('object', object)
  )
$$;
create function tests.subscription(id text, customer text, status text, key text, extra jsonb default '{}') returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'object', 'subscription', 'customer', customer, 'status', status, 'created', tests.second(0), 'cancel_at_period_end', false,
    'collection_method', 'charge_automatically', 'latest_invoice', 'in_1', 'metadata', '{}'::jsonb,
    'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object(
      'id', 'si_' || id, 'object', 'subscription_item', 'quantity', 1, 'current_period_start', tests.second(0), 'current_period_end', tests.second(2592000),
      'price', jsonb_build_object('id', 'price_' || coalesce(key, 'none'), 'product', 'prod_1', 'lookup_key', key)
    )))
  ) || extra
$$;
create function tests.session(
  id text, customer text, subscription text, reference text, payment_status text default 'paid', extra jsonb default '{}'
) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'object', 'checkout.session', 'mode', 'subscription', 'status', 'complete', 'payment_status', payment_status,
    'customer', customer, 'subscription', subscription, 'client_reference_id', reference, 'amount_total', 2900, 'currency', 'eur', 'created', tests.second(0)
  ) || extra
$$;
create function tests.invoice(id text, customer text, subscription text, status text, extra jsonb default '{}') returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'object', 'invoice', 'customer', customer, 'status', status, 'currency', 'eur', 'total', 2900, 'amount_due', 2900,
    'amount_paid', case status when 'paid' then 2900 else 0 end, 'amount_remaining', case status when 'paid' then 0 else 2900 end,
    'attempt_count', 0, 'created', tests.second(0), 'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', subscription))
  ) || extra
$$;
create function tests.item(id text, key text, starts integer, ends integer) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'quantity', 1, 'current_period_start', tests.second(starts), 'current_period_end', tests.second(ends),
    'price', jsonb_build_object('id', 'price_' || key, 'product', 'prod_1', 'lookup_key', key)
  )
$$;
-- As the sidecar does it. Returns the status.
create function tests.send(event jsonb) returns text language plpgsql as $$
declare
  answer text;
begin
  perform tests.act_as_sidecar();
  select i.status || case when i.duplicate then ' again' else '' end into answer from private.stripe_ingest_event(event) as i;
  perform tests.act_as_superuser();
  return answer;
end
$$;
-- The answer of a query after these events, in this order or in a random one; none of it stays.
create function tests.after(events jsonb[], query text, seed double precision default null) returns text language plpgsql as $$
declare
  answer text;
begin
  perform setseed(coalesce(seed, 0));
  begin
    perform tests.send(e.event) from (
      select u.event from unnest(events) with ordinality as u (event, n) order by case when seed is null then u.n else random() end
    ) as e;
    execute query into answer;
    raise exception 'undone' using errcode = 'ZZZZZ';
  exception when sqlstate 'ZZZZZ' then null;
  end;
  return answer;
end
$$;
create function tests.plan(who text) returns text language sql stable security definer as $$
  select s.plan || ' ' || s.status from public.subscriptions as s where s.org_id = tests.org(who)
$$;
create function tests.executions(who text) returns bigint language sql stable security definer as $$
  select u."limit" from kijko.usage(tests.org(who)) as u where u.meter = 'executions'
$$;
grant usage on sequence tests.event_number to public;

-- ---- who may not
select tests.act_as_anon();
select throws_ok('select 1 from public.' || t, '42501', null, 'anon reads no ' || t)
from unnest(array['stripe_customers', 'stripe_checkouts', 'stripe_subscriptions', 'stripe_invoices', 'stripe_prices']) as t;
select throws_ok($$select private.stripe_ingest_event('{}')$$, '42501', null, 'anon brings no events');
select tests.act_as('ada');
select throws_ok($$select private.stripe_ingest_event('{}')$$, '42501', null, 'nor does an owner');
select throws_ok('select 1 from private.stripe_events', '42501', null, 'who reads no events either');
select throws_ok($$insert into public.stripe_subscriptions (id, org_id) values ('sub_x', tests.org('ada'))$$, '42501', null, 'nor writes subscriptions');
select throws_ok($$update public.stripe_invoices set status = 'paid'$$, '42501', null, 'nor pays by update');
select throws_ok($$delete from public.stripe_customers$$, '42501', null, 'nor deletes customers');
select tests.act_as_service();
select throws_ok($$update public.stripe_subscriptions set status = 'active'$$, '42501', null, 'not even service_role writes what Stripe says');
select throws_ok($$select private.stripe_ingest_event('{}')$$, '42501', null, 'nor brings events');
select tests.act_as_sidecar();
select throws_ok('select 1 from private.stripe_events', '42501', null, 'the sidecar reads no events');
select throws_ok('select 1 from public.stripe_subscriptions', '42501', null, 'and no rows');
select throws_ok($$select private.stripe_refresh_plan(gen_random_uuid())$$, '42501', null, 'and decides no plan');
select throws_ok($$select private.stripe_replay_events()$$, '42501', null, 'and replays nothing');

-- ---- what is no event
select tests.refuses($$select * from private.stripe_ingest_event(null)$$, 'bad_request', 'nothing');
select tests.refuses($$select * from private.stripe_ingest_event('[]')$$, 'bad_request', 'an array');
select tests.refuses($$select * from private.stripe_ingest_event('{"id":"cus_1","type":"a","created":1}')$$, 'bad_request', 'another object');
select tests.refuses($$select * from private.stripe_ingest_event('{"id":"evt_1","type":"a","created":"1"}')$$, 'bad_request', 'a time in words');
select tests.act_as_superuser();
select is(tests.send(tests.event('charge.succeeded', 0, '{"id":"ch_1","object":"charge"}')), 'ignored', 'what we do not mirror is kept and ignored');
select is(tests.send(tests.event('invoice.upcoming', 0, '{"object":"invoice","customer":"cus_1"}')), 'ignored', 'an invoice to come has no id');
select is(
  tests.send(tests.event('customer.created', 0, '{"id":"cus_else","object":"customer"}') || '{"account":"acct_1"}'), 'ignored',
  'a connected account has customers of its own'
);
select is_empty($$select 1 from public.stripe_customers where id = 'cus_else'$$, 'which are not ours');
select is(tests.send('{"id":"evt_thin","object":"v2.core.event","type":"v1.billing.meter.error_report_triggered","created":1,"livemode":false}'), 'ignored', 'thin events');

-- ---- parents come last: the subscription before anyone knows whose it is
select is(tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), null, 'evt_first')), 'applied', 'a subscription without an organization is kept');
select is((select org_id from public.stripe_subscriptions where id = 'sub_1'), null, 'without an organization');
select is((select unlinked from private.stripe_backlog()), 1::bigint, 'and counted for the operator');
select is(tests.plan('ada'), 'FREE active', 'nothing is unlocked');
select is(tests.send(tests.event('invoice.paid', 2, tests.invoice('in_1', 'cus_1', 'sub_1', 'paid'))), 'applied', 'its invoice');
select is(tests.send(tests.event('checkout.session.completed', 2, tests.session('cs_1', 'cus_1', 'sub_1', tests.org('ada')::text))), 'applied', 'then the session that names the organization');
select is(tests.plan('ada'), 'PRO active', 'the plan follows');
select is(tests.executions('ada'), 2000::bigint, 'and the limits with it');
select is(
  (select count(*) from public.stripe_customers as c join public.stripe_subscriptions as s using (org_id) join public.stripe_invoices as i using (org_id) where org_id = tests.org('ada')),
  1::bigint, 'everything of the customer belongs to the organization'
);
select is(tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), null, 'evt_first')), 'applied again', 'a second delivery');
select is((select attempts from private.stripe_events where id = 'evt_first'), 1, 'does nothing');

-- ---- who may read
select tests.act_as('bob');
select is_empty('select 1 from public.stripe_customers union all select 1 from public.stripe_subscriptions union all select 1 from public.stripe_invoices union all select 1 from public.stripe_checkouts', 'a non-member sees nothing');
select tests.act_as('vic', tests.org('ada'));
select is_empty('select 1 from public.stripe_subscriptions union all select 1 from public.stripe_invoices', 'nor a viewer');
select tests.act_as('mel', tests.org('ada'));
select is_empty('select 1 from public.stripe_subscriptions union all select 1 from public.stripe_invoices', 'nor a member');
select tests.act_as('adm', tests.org('ada'));
select results_eq($$select id from public.stripe_invoices$$, array['in_1'], 'an admin does');
select tests.act_as('ada');
select results_eq($$select id from public.stripe_subscriptions$$, array['sub_1'], 'and the owner');
select tests.act_as_superuser();

-- ---- prices
select is(tests.send(tests.event('price.created', -9, '{"id":"price_pro_monthly","object":"price","product":"prod_1","lookup_key":"teams_monthly","currency":"eur","unit_amount":2900,"active":true,"created":1}')), 'applied', 'a price that was given another key');
select is(tests.plan('ada'), 'TEAMS active', 'moves all who are on it');
select is(tests.executions('ada'), 20000::bigint, 'at once');
select is(tests.send(tests.event('price.updated', -8, '{"id":"price_pro_monthly","object":"price","product":"prod_1","lookup_key":null,"currency":"eur","unit_amount":2900,"active":false,"created":1}')), 'applied', 'a key that went to a newer price');
select is(tests.plan('ada'), 'TEAMS active', 'takes nothing from those who stay on the old one');
select tests.act_as('ada');
select results_eq('select id from public.stripe_prices', array['price_pro_monthly'], 'a price is visible to its subscribers');
select tests.act_as('bob');
select is_empty('select 1 from public.stripe_prices', 'and to nobody else');
select tests.act_as_superuser();

-- ---- past due, the grace, the end
select is(tests.send(tests.event('customer.subscription.updated', 10, tests.subscription('sub_1', 'cus_1', 'past_due', 'pro_monthly'), '{"status":"active"}')), 'applied', 'a payment is missing');
select is(tests.plan('ada'), 'TEAMS past_due', 'the plan stays for the grace');
select is(private.stripe_grace(), interval '7 days', 'the grace');
select tests.travel(interval '7 days' - interval '1 minute');
select is(private.stripe_expire_grace(), 0, 'until its last minute');
select tests.travel(interval '7 days' + interval '1 minute');
select is(private.stripe_expire_grace(), 1, 'no event marks the end');
select is(tests.plan('ada'), 'FREE past_due', 'the schedule does');
select is(tests.executions('ada'), 50::bigint, 'with the limits');
select is(private.stripe_expire_grace(), 0, 'once');
select is(tests.send(tests.event('customer.subscription.updated', 11, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), '{"status":"past_due"}')), 'applied', 'the payment comes');
select is(tests.plan('ada'), 'TEAMS active', 'and the plan is back');
select tests.travel(interval '0');
select is(tests.send(tests.event('customer.subscription.deleted', 20, tests.subscription('sub_1', 'cus_1', 'canceled', 'pro_monthly', jsonb_build_object('ended_at', tests.second(20))))), 'applied', 'the end');
select is(tests.plan('ada'), 'FREE canceled', 'leaves FREE');
select is(tests.send(tests.event('customer.subscription.updated', 30, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'))), 'applied', 'whatever is stamped later');
select is(tests.plan('ada'), 'FREE canceled', 'nothing follows an end');

-- ---- nothing unlocks while unpaid
select tests.send(tests.event('checkout.session.completed', 1, tests.session('cs_2', 'cus_2', 'sub_2', tests.org('bob')::text, 'unpaid')));
select tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_2', 'cus_2', 'active', 'enterprise_yearly')));
select is(tests.plan('bob'), 'FREE active', 'Stripe says active before the money has come: FREE');
select tests.send(tests.event('checkout.session.async_payment_failed', 2, tests.session('cs_2', 'cus_2', 'sub_2', tests.org('bob')::text, 'unpaid')));
select is(tests.plan('bob'), 'FREE active', 'and FREE when it does not come');
select tests.send(tests.event('invoice.paid', 3, tests.invoice('in_2', 'cus_2', 'sub_2', 'paid')));
select is(tests.plan('bob'), 'ENTERPRISE active', 'until the invoice is paid some other way');
select is(tests.executions('bob'), null::bigint, 'without limits');

-- ---- a failure is kept, reported and applied later
create function tests.obstruct() returns trigger language plpgsql as $$ begin raise exception 'in the way' using errcode = 'XX001'; end $$;
create trigger obstruct before insert or update on public.stripe_invoices for each row execute function tests.obstruct();
select is(tests.send(tests.event('invoice.created', 1, tests.invoice('in_3', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard')), 'failed', 'what cannot be applied');
select results_eq(
  $$select status, error_code, error, attempts, next_attempt_at > now() from private.stripe_events where id = 'evt_hard'$$,
  $$values ('failed', 'XX001', 'in the way', 1, true)$$, 'is kept with its reason and its next attempt'
);
select is((select failed from private.stripe_backlog()), 1::bigint, 'and counted');
select is(private.stripe_retry_events(), 0, 'not before it is due');
update private.stripe_events set next_attempt_at = now(), attempts = 18 where id = 'evt_hard';
select is(private.stripe_retry_events(), 1, 'when it is due');
select results_eq(
  $$select attempts, next_attempt_at = now() + interval '6 hours' from private.stripe_events where id = 'evt_hard'$$, $$values (19, true)$$,
  'once more in six hours'
);
update private.stripe_events set next_attempt_at = now() where id = 'evt_hard';
select is(private.stripe_retry_events(), 1, 'tried again');
select results_eq(
  $$select attempts, next_attempt_at is null from private.stripe_events where id = 'evt_hard'$$, $$values (20, true)$$, 'and given up at last'
);
select is(private.stripe_retry_events(), 0, 'it is not tried again by itself');
select is(tests.send(tests.event('invoice.created', 1, tests.invoice('in_3', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard')), 'failed again', 'nor made good by a delivery while the reason is there');
select results_eq(
  $$select attempts, next_attempt_at is null from private.stripe_events where id = 'evt_hard'$$, $$values (21, true)$$, 'which is an attempt'
);
drop trigger obstruct on public.stripe_invoices;
savepoint hard;
select is(tests.send(tests.event('invoice.created', 1, tests.invoice('in_3', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard')), 'applied again', 'a delivery makes it good when the reason is gone');
select is((select failed from private.stripe_backlog()), 0::bigint, 'and nothing is left to do');
rollback to hard;
select results_eq($$select id, status from private.stripe_replay_events()$$, $$values ('evt_hard', 'applied')$$, 'so does a replay');
select is((select org_id from public.stripe_invoices where id = 'in_3'), tests.org('bob'), 'as if nothing had been');

-- ---- what was paid must be the time that is used: the first invoice of 99,900 is open, and something else is paid
select tests.sign_up('cyd'), tests.sign_up('dan'), tests.sign_up('eve');
create function tests.owing(first text, variadic later jsonb[]) returns text language sql as $$
  select tests.after(array[
    tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, 'unpaid')),
    tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'teams_monthly')),
    tests.event('invoice.finalized', 1, tests.invoice('in_10', 'cus_3', 'sub_3', 'open', '{"billing_reason": "subscription_create", "total": 99900, "amount_due": 99900, "amount_remaining": 99900}')),
    tests.event('invoice.updated', 2, tests.invoice('in_10', 'cus_3', 'sub_3', first, '{"billing_reason": "subscription_create", "total": 99900, "amount_due": 99900, "amount_remaining": 99900}'))
  ] || array(
    select tests.event('invoice.paid', 2 + n::integer, tests.invoice('in_1' || n, 'cus_3', 'sub_3', 'paid', i))
    from unnest(later) with ordinality as l (i, n)
  ), $q$select tests.plan('cyd')$q$)
$$;
select is(tests.owing('open', variadic array[]::jsonb[]), 'FREE active', 'an open invoice unlocks nothing');
select is(tests.owing('open', i), 'FREE active', 'nor does beside it ' || i::text)
from unnest(array[
  '{"billing_reason": "subscription_update", "total": 0, "amount_paid": 0}',
  '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}',
  '{"billing_reason": "subscription_update", "total": -500, "amount_paid": 0}',
  '{"billing_reason": "subscription_cycle", "total": 0, "amount_paid": 0}',
  '{"billing_reason": "subscription_cycle", "total": 2900, "amount_paid": 0, "starting_balance": -90000}',
  '{"billing_reason": "subscription_threshold", "total": 700, "amount_paid": 700}',
  '{"billing_reason": "automatic_pending_invoice_item_invoice", "total": 700, "amount_paid": 700}',
  '{"billing_reason": "manual", "total": 700, "amount_paid": 700}',
  '{"billing_reason": null, "total": 0, "amount_paid": 0}'
]::jsonb[]) as i;
select is(tests.owing('open', i), 'TEAMS active', 'but that does: ' || i::text)
from unnest(array[
  '{"billing_reason": "subscription_create", "total": 0, "amount_paid": 0}',
  '{"billing_reason": "quote_accept", "total": 0, "amount_paid": 0}',
  '{"billing_reason": "subscription_cycle", "total": 2900, "amount_paid": 2900}',
  '{"billing_reason": "subscription_cycle", "total": 2900, "amount_paid": 0, "amount_paid_off_stripe": 2900}',
  '{"billing_reason": "subscription_cycle", "total": 2900, "amount_paid": 0, "paid_out_of_band": true}'
]::jsonb[]) as i;
select is(tests.owing('uncollectible', '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}'), 'FREE active', 'a first invoice that was written off is unpaid');
select is(tests.owing('void', '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}'), 'TEAMS active', 'one that was withdrawn is not');
select is(tests.owing('void', '{"billing_reason": "subscription_cycle", "total": 0, "amount_paid": 0}'), 'TEAMS active', 'nor does a period of 0 then wait for it');
select is(tests.owing('void', '{"billing_reason": "subscription_update", "total": 0, "amount_paid": 0}'), 'FREE active', 'while a change of 0 never buys anything');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, 'unpaid')),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'teams_monthly')),
  tests.event('invoice.paid', 2, tests.invoice('in_11', 'cus_3', 'sub_3', 'paid', '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}'))
], $$select tests.plan('cyd')$$), 'FREE active', 'the session knows of the first invoice before any event brings it');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, s)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'teams_monthly'))
], $$select tests.plan('cyd')$$), p, 'a session with payment_status ' || s)
from (values ('paid', 'TEAMS active'), ('no_payment_required', 'TEAMS active'), ('unpaid', 'FREE active')) as v (s, p);
select is(tests.after(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', s, 'teams_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('cyd')), 'collection_method', m)))
], $$select tests.plan('cyd')$$), p, concat_ws(' ', 'without any payment', s, m))
from (values ('trialing', 'charge_automatically', 'TEAMS trialing'), ('active', 'send_invoice', 'TEAMS active'), ('active', 'charge_automatically', 'FREE active')) as v (s, m, p);

-- ---- several items: the highest plan counts, and its period
create function tests.with_items(variadic items jsonb[]) returns text language sql as $$
  select tests.after(array[
    tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
    tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', null, jsonb_build_object('items', jsonb_build_object('data', to_jsonb(items)))))
  ], $q$
    select concat_ws(' ', s.plan, extract(epoch from s.current_period_start)::bigint - tests.second(0), extract(epoch from s.current_period_end)::bigint - tests.second(0))
      || case when (s.current_period_start, s.current_period_end) is distinct from (t.current_period_start, t.current_period_end) then ' differs' else '' end
    from public.subscriptions as s join public.stripe_subscriptions as t using (org_id) where s.org_id = tests.org('cyd')
  $q$)
$$;
select is(tests.with_items(tests.item('si_1', 'pro_yearly', 0, 100), tests.item('si_2', 'teams_yearly', 50, 900)), 'TEAMS 50 900', 'the plan of the second item');
select is(tests.with_items(tests.item('si_1', 'teams_yearly', 50, 900), tests.item('si_2', 'pro_yearly', 0, 100)), 'TEAMS 50 900', 'or of the first');
select is(tests.with_items(tests.item('si_1', 'seats', 70, 1000), tests.item('si_2', 'pro_yearly', 0, 100)), 'PRO 0 100', 'extras have periods of their own');
select is(tests.with_items(tests.item('si_1', 'pro_yearly', 0, 100), tests.item('si_2', 'seats', 70, 1000)), 'PRO 0 100', 'wherever they stand');
select is(tests.with_items(tests.item('si_1', 'pro_yearly', 80, 80)), 'PRO 80 differs', 'an item whose start is its end gives its plan, and a period without an end');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', null, jsonb_build_object(
    'current_period_start', tests.second(5), 'current_period_end', tests.second(500),
    'items', jsonb_build_object('data', jsonb_build_array(tests.item('si_1', 'pro_yearly', 0, 0) - 'current_period_start' - 'current_period_end'))
  )))
], $$select concat_ws(' ', s.plan, extract(epoch from s.current_period_end)::bigint - tests.second(0)) from public.subscriptions as s where s.org_id = tests.org('cyd')$$),
  'PRO 500', 'before 2025-03-31 the period stood on the subscription');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, 'unpaid')),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('invoice.paid', 1, (tests.invoice('in_10', 'cus_3', null, 'paid') - 'parent') || '{"subscription": "sub_3", "billing_reason": "subscription_create"}')
], $$select tests.plan('cyd')$$), 'PRO active', 'and the invoice named its subscription itself');

-- ---- whose it is
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('checkout.session.completed', 9, tests.session('cs_4', 'cus_3', 'sub_4', tests.org('dan')::text, 'paid', jsonb_build_object('created', tests.second(8)))),
  tests.event('customer.subscription.created', 9, tests.subscription('sub_4', 'cus_3', 'active', 'teams_monthly', jsonb_build_object('created', tests.second(9))))
], $$select concat_ws(', ', tests.plan('cyd'), tests.plan('dan'), (select o.org_id = tests.org('cyd') from public.stripe_customers as o where o.id = 'cus_3'))$$, seed),
  'PRO active, TEAMS active, t', 'of two sessions each has its own subscription, and the first the customer')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);
select is(tests.after(array[
  tests.event('checkout.session.expired', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, 'paid', jsonb_build_object('status', s))),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'trialing', 'pro_yearly'))
], $$select tests.plan('cyd')$$), 'FREE active', 'a session that is ' || s || ' gives nothing to the organization that it names')
from unnest(array['open', 'expired']) as s;
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('customer.subscription.updated', 9, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('dan')))), '{"metadata": {"org_id": null}}'),
  tests.event('invoice.paid', 9, tests.invoice('in_10', 'cus_3', 'sub_3', 'paid'))
], $$select concat_ws(', ', tests.plan('cyd'), tests.plan('dan'), (select i.org_id = tests.org('dan') from public.stripe_invoices as i where i.id = 'in_10'))$$, seed),
  'FREE active, PRO active, t', 'metadata of the subscription has the last word')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);

-- ---- past due since the first event of the run
select is(tests.after(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('customer.subscription.updated', 10, tests.subscription('sub_3', 'cus_3', 'past_due', 'pro_yearly'), '{"status": "active"}'),
  tests.event('customer.subscription.updated', 20, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly'), '{"status": "past_due"}'),
  tests.event('customer.subscription.updated', 30, tests.subscription('sub_3', 'cus_3', 'past_due', 'pro_yearly'), '{"status": "active"}'),
  tests.event('customer.subscription.updated', 40, tests.subscription('sub_3', 'cus_3', 'past_due', 'pro_yearly', '{"latest_invoice": "in_2"}'), '{"latest_invoice": "in_1"}')
], $$select extract(epoch from s.past_due_since)::bigint - tests.second(0) from public.stripe_subscriptions as s where s.id = 'sub_3'$$, seed),
  '30', 'a second event of the same run does not start the grace again')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);

-- ---- what Stripe may leave out
select is(tests.after(array[
  tests.event('price.created', 1, '{"id":"price_9","object":"price","product":"prod_1","lookup_key":"pro_yearly","nickname":"nine","currency":"eur","unit_amount":2900,"active":true,"created":1}'),
  tests.event('price.deleted', 2, '{"id":"price_9","object":"price","deleted":true}')
], $$select concat_ws(' ', p.nickname, p.currency, p.lookup_key, p.deleted) from public.stripe_prices as p where p.id = 'price_9'$$, seed),
  'nine eur pro_yearly t', 'a deletion that shows nothing takes nothing else away')
from (values (null), (0.1), (0.2), (0.3)) as v (seed);
select is(tests.after(array[tests.event('price.deleted', 2, '{"id":"price_9","object":"price","deleted":true}')],
  $$select concat_ws(' ', p.currency, p.deleted) from public.stripe_prices as p where p.id = 'price_9'$$), 't', 'nor needs it to have been known');
select is(tests.after(array[
  tests.event('customer.created', 1, jsonb_build_object('id', 'cus_3', 'object', 'customer', 'name', 'Cyd', 'metadata', jsonb_build_object('org_id', tests.org('cyd')))),
  tests.event('customer.deleted', 2, '{"id":"cus_3","object":"customer","deleted":true}')
], $$select concat_ws(' ', c.name, c.deleted, c.org_id = tests.org('cyd')) from public.stripe_customers as c where c.id = 'cus_3'$$, seed),
  'Cyd t t', 'as with a customer')
from (values (null), (0.1), (0.2), (0.3)) as v (seed);
select is(tests.after(array[
  tests.event('invoice.created', 1, tests.invoice('in_10', 'cus_3', 'sub_3', 'draft')),
  tests.event('invoice.deleted', 2, '{"id":"in_10","object":"invoice","deleted":true}')
], $$select concat_ws(' ', i.customer_id, i.total, i.deleted) from public.stripe_invoices as i where i.id = 'in_10'$$, seed),
  'cus_3 2900 t', 'and with an invoice')
from (values (null), (0.1), (0.2), (0.3)) as v (seed);
select is(tests.after(array[tests.event('invoice.created', 1, tests.invoice('in_10', 'cus_3', 'sub_3', 'draft', '{"currency": null}'))],
  $$select concat_ws(' ', i.currency, i.total) from public.stripe_invoices as i where i.id = 'in_10'$$), '2900', 'an invoice without a currency');

-- ---- what is not ours
select is(tests.send(tests.event('customer.created', 0, '{"id":"cus_else","object":"customer"}') || extra), 'ignored', 'the customers of ' || extra::text)
from unnest(array['{"context":"acct_1"}', '{"context":"acct_1/acct_2"}', '{"account":"acct_1","context":"acct_1"}']::jsonb[]) as extra;
select is(tests.send(tests.event('customer.created', 0, '{"id":"cus_ours","object":"customer"}') || '{"account":null,"context":null}'), 'applied', 'nulls are our own account');
select is(tests.send(tests.event(t, 0, tests.invoice(i, 'cus_else', 'sub_else', 'draft'))), 'ignored', 'a preview of an invoice: ' || t)
from (values ('invoice.upcoming', 'upcoming_in_1Abc'), ('invoice.upcoming', 'in_1Abc'), ('invoice.will_be_due', 'upcoming_in_1Abc')) as v (t, i);
select is_empty($$select id from public.stripe_customers where id = 'cus_else' union all select id from public.stripe_invoices where customer_id = 'cus_else'$$, 'leave no rows');
select is(tests.send('{"id":"evt_thin2","object":"v2.core.event","type":"v1.invoice.paid","created":"2026-09-30T12:00:00.123Z","livemode":false,"context":null,"related_object":{"id":"in_1","type":"invoice","url":"/v1/invoices/in_1"}}'), 'ignored', 'a thin event');
select is((select created from private.stripe_events where id = 'evt_thin2'), '2026-09-30T12:00:00.123Z'::timestamptz, 'has its time in words');
select is(tests.send('{"id":"evt_thin3","object":"v2.core.event","type":"v2.core.event_destination.ping"}'), 'ignored', 'or none');
select tests.refuses($$select * from private.stripe_ingest_event('{"id":"evt_1","object":"event","type":"a","created":"2026-09-30T12:00:00Z"}')$$, 'bad_request', 'others have it in seconds');

-- ---- test mode and live mode are two worlds
create function tests.life(who text, key text, live boolean) returns jsonb[] language sql as $$
  select array[
    tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org(who)::text), null, 'evt_both1') || jsonb_build_object('livemode', live),
    tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', null, jsonb_build_object('items', jsonb_build_object('data', jsonb_build_array(
      jsonb_set(tests.item('si_1', key, 0, 100), '{price,id}', '"price_both"')
    )))), null, 'evt_both2') || jsonb_build_object('livemode', live),
    tests.event('price.updated', 2, jsonb_build_object('id', 'price_both', 'object', 'price', 'lookup_key', key, 'currency', 'eur', 'active', true, 'created', 1), null, 'evt_both3') || jsonb_build_object('livemode', live),
    tests.event('customer.subscription.updated', 2, tests.subscription('sub_3', 'cus_3', 'past_due', null, jsonb_build_object('items', jsonb_build_object('data', jsonb_build_array(
      jsonb_set(tests.item('si_1', key, 0, 100), '{price,id}', '"price_both"')
    )))), '{"status": "active"}', 'evt_both4') || jsonb_build_object('livemode', live)
  ]
$$;
select is(tests.after((tests.life('cyd', 'pro_yearly', false))[:4] || (tests.life('dan', 'teams_monthly', true))[:3],
  $$select concat_ws(', ', tests.plan('cyd'), tests.plan('dan'), (select count(*) from private.stripe_events where id like 'evt_both%'))$$, seed),
  'PRO past_due, TEAMS active, 7', 'the same ids in both modes: each counts, for its own')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);
select is(tests.send((tests.life('cyd', 'pro_yearly', l))[1]), a, 'delivered: live ' || l) from (values (false, 'applied'), (true, 'applied'), (true, 'applied again')) as v (l, a);

-- ---- twelve updates of one second, in any order
create function tests.twelve(before text, variadic quantities integer[]) returns jsonb[] language sql as $$
  select array[tests.event('customer.subscription.created', 0,
    jsonb_set(tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly', jsonb_build_object('quantity', quantities[1])), '{items,data,0,quantity}', to_jsonb(quantities[1])))] || array(
    select tests.event('customer.subscription.updated', 1,
      jsonb_set(tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly', jsonb_build_object('quantity', quantities[n])), '{items,data,0,quantity}', to_jsonb(quantities[n])),
      case before
        when 'quantity' then jsonb_build_object('quantity', quantities[n - 1])
        when 'item' then jsonb_build_object('items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_sub_3', 'quantity', quantities[n - 1]))))
        else jsonb_build_object('quantity', quantities[n - 1], 'items', jsonb_set(
          tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly') -> 'items', '{data,0}',
          (tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly') #> '{items,data,0}') || jsonb_build_object('quantity', quantities[n - 1])
        ))
      end,
      -- Ids in no order, so that they cannot give the right answer away.
      'evt_' || md5(before || n || quantities::text))
    from generate_series(2, cardinality(quantities)) as n order by n)
$$;
create function tests.quantities(before text, variadic quantities integer[]) returns setof text language sql as $$
  select distinct tests.after(tests.twelve(before, variadic quantities), $q$select s.items #>> '{0,quantity}' from public.stripe_subscriptions as s where s.id = 'sub_3'$q$, n / 100.0)
  from generate_series(1, 25) as n
$$;
select results_eq(format('select tests.quantities(%L, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)', b), array['13'], 'twelve steps up, told by ' || b)
from unnest(array['quantity', 'item', 'all']) as b;
select results_eq(format('select tests.quantities(%L, 1, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)', b), array['2'], 'and down, told by ' || b)
from unnest(array['quantity', 'item']) as b;
select results_eq(format('select tests.quantities(%L, 1, 2, 3, 1, 2, 3, 4, 3, 2, 3, 4, 5, 3)', b), array['3'], 'through the same state again and again, told by ' || b)
from unnest(array['quantity', 'item']) as b;
select results_eq(format('select tests.quantities(%L, 5, 2, 3, 1, 2, 3, 4, 3, 2, 3, 4, 3, 5)', b), array['5'], 'and back to where it began, told by ' || b)
from unnest(array['quantity', 'item']) as b;
select is(
  (select string_agg(distinct tests.after(e, $$select s.items #>> '{0,quantity}' from public.stripe_subscriptions as s where s.id = 'sub_3'$$, n / 100.0), ' ')
   from (select (tests.twelve('item', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))[:5] || (tests.twelve('item', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))[7:] as e) as missing, generate_series(1, 25) as n),
  '10', 'with one that is missing the piece that starts in the past comes first'
);

-- ---- a plan that holds whatever is paid
select tests.act_as('cyd');
select throws_ok($$update public.subscriptions set plan_override = 'ENTERPRISE'$$, '42501', null, 'users cannot set it themselves');
select tests.act_as_service();
update public.subscriptions set plan_override = 'TEAMS' where org_id = tests.org('cyd');
select tests.act_as_superuser();
select is(tests.plan('cyd'), 'TEAMS active', 'an operator gives it');
select is(tests.executions('cyd'), 20000::bigint, 'and limits follow');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', s, 'pro_yearly'))
], $$select s.plan || ' ' || s.plan_override || ' ' || tests.executions('cyd') from public.subscriptions as s where s.org_id = tests.org('cyd')$$),
  'TEAMS TEAMS 20000', 'no event changes it: ' || s)
from unnest(array['active', 'canceled', 'past_due', 'unpaid']) as s;
select tests.act_as_service();
update public.subscriptions set plan = 'PRO' where org_id = tests.org('cyd');
select tests.act_as_superuser();
select is(tests.plan('cyd'), 'TEAMS active', 'nor does another writer');
select tests.send(e) from unnest(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_5', 'cus_5', 'sub_5', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_5', 'cus_5', 'active', 'pro_yearly'))
]) as e;
select tests.act_as_service();
update public.subscriptions set plan_override = null where org_id = tests.org('cyd');
select tests.act_as_superuser();
select is(tests.plan('cyd'), 'PRO active', 'without it Stripe decides at once');
select tests.act_as_service();
update public.subscriptions set plan_override = 'ENTERPRISE' where org_id = tests.org('eve');
update public.subscriptions set plan_override = null where org_id = tests.org('eve');
select tests.act_as_superuser();
select is(tests.plan('eve') || ' ' || tests.executions('eve'), 'FREE active 50', 'and FREE is never paid for');
select tests.act_as_service();
select throws_ok($$update public.subscriptions set plan_override = 'GOLD' where org_id = tests.org('eve')$$, '23503', null, 'a plan that there is not');
select tests.act_as_superuser();

-- ---- a price that many use: a few organizations at once, the others in batches
delete from private.stripe_plan_refreshes; -- whatever waits here already, for the rest of this transaction
select tests.sign_up('many' || n) from generate_series(1, 30) as n;
select tests.send(e) from generate_series(1, 30) as n, unnest(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_many' || n, 'cus_many' || n, 'sub_many' || n, tests.org('many' || n)::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_many' || n, 'cus_many' || n, 'active', 'many_monthly'))
]) as e;
create function tests.teams() returns bigint language sql stable security definer as $$
  select count(*) from generate_series(1, 30) as n where tests.plan('many' || n) = 'TEAMS active'
$$;
select is(tests.send(tests.event('price.updated', 5, '{"id":"price_many_monthly","object":"price","product":"prod_1","lookup_key":"teams_monthly","currency":"eur","unit_amount":2900,"active":true,"created":1}')), 'applied', 'a price that thirty organizations use');
select is(tests.teams(), 25::bigint, 'does not make its sender wait for all');
select is(private.stripe_run_plan_refreshes(), 5, 'the others wait for their turn');
select is(tests.teams(), 30::bigint, 'and have it');
select is(private.stripe_run_plan_refreshes(), 0, 'once');
select is((select count(*) from private.stripe_price_changes where price_id = 'price_many_monthly'), 1::bigint, 'organizations subscribed meanwhile are found later');
select tests.send(tests.event('price.updated', 6, '{"id":"price_many_monthly","object":"price","product":"prod_1","lookup_key":"teams_monthly","nickname":"many","currency":"eur","unit_amount":2900,"active":true,"created":1}'));
select is((select count(*) from private.stripe_price_changes where price_id = 'price_many_monthly'), 1::bigint, 'a new nickname changes no plan');

select * from finish();
rollback;
