-- The plan follows from what was paid and for which time, whatever the order and the mode of the events.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(94);

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

select * from finish();
rollback;
