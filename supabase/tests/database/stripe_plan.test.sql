-- Which plan follows from Stripe subscriptions: payment, grace, items and override.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(73);

select tests.sign_up('ada'), tests.sign_up('bob');
select tests.sign_up('cyd'), tests.sign_up('dan'), tests.sign_up('eve');

-- ---- past due, the grace, the end
select tests.send(e) from unnest(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly')),
  tests.event('checkout.session.completed', 2, tests.session('cs_1', 'cus_1', 'sub_1', tests.org('ada')::text))
]) as e;
select is(tests.send(tests.event('customer.subscription.updated', 10, tests.subscription('sub_1', 'cus_1', 'past_due', 'pro_monthly'), '{"status":"active"}')), 'applied', 'a past-due subscription is applied');
select is(tests.plan('ada'), 'PRO past_due', 'the plan stays during the grace');
select is(private.stripe_grace(), interval '7 days', 'the grace is seven days');
select tests.travel(interval '7 days' - interval '1 minute');
select is(private.stripe_expire_grace(), 0, 'the plan stays until the last minute of the grace');
select tests.travel(interval '7 days' + interval '1 minute');
select is(private.stripe_expire_grace(), 1, 'the schedule ends the plan after the grace');
select is((select count(*) from private.plans_tier_changes as c where c.transaction_id = pg_current_xact_id()), 0::bigint, 'and the tiers of its members, so that a locked one fails for its organization alone');
select is(tests.plan('ada'), 'FREE past_due', 'the organization is then on FREE');
select is(tests.executions('ada'), 50::bigint, 'it then has the limits of FREE');
select is(private.stripe_expire_grace(), 0, 'an ended plan is not ended again');
select is(tests.send(tests.event('customer.subscription.updated', 11, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), '{"status":"past_due"}')), 'applied', 'a late payment is applied');
select is(tests.plan('ada'), 'PRO active', 'a late payment restores the plan');
select tests.travel(interval '0');
select is(tests.send(tests.event('customer.subscription.deleted', 20, tests.subscription('sub_1', 'cus_1', 'canceled', 'pro_monthly', jsonb_build_object('ended_at', tests.second(20))))), 'applied', 'a deleted subscription is applied');
select is(tests.plan('ada'), 'FREE canceled', 'a deleted subscription leaves FREE');
select is(tests.send(tests.event('customer.subscription.updated', 30, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'))), 'applied', 'an update stamped after the deletion is applied');
select is(tests.plan('ada'), 'FREE canceled', 'it does not change the plan');

-- ---- nothing unlocks while unpaid
select tests.send(tests.event('checkout.session.completed', 1, tests.session('cs_2', 'cus_2', 'sub_2', tests.org('bob')::text, 'unpaid')));
select tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_2', 'cus_2', 'active', 'enterprise_yearly')));
select is(tests.plan('bob'), 'FREE active', 'an active subscription with an unpaid session unlocks nothing');
select tests.send(tests.event('checkout.session.async_payment_failed', 2, tests.session('cs_2', 'cus_2', 'sub_2', tests.org('bob')::text, 'unpaid')));
select is(tests.plan('bob'), 'FREE active', 'a payment that fails later unlocks nothing');
select tests.send(tests.event('invoice.paid', 3, tests.invoice('in_2', 'cus_2', 'sub_2', 'paid')));
select is(tests.plan('bob'), 'ENTERPRISE active', 'a paid invoice unlocks the plan');
select is(tests.executions('bob'), null::bigint, 'ENTERPRISE has no limits');

-- ---- with the first invoice of 99,900 open, only the payment of a period unlocks the plan
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
select is(tests.owing('open', variadic array[]::jsonb[]), 'FREE active', 'an open first invoice unlocks nothing');
select is(tests.owing('open', i), 'FREE active', 'with an open first invoice, this paid one unlocks nothing: ' || i::text)
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
select is(tests.owing('open', i), 'TEAMS active', 'with an open first invoice, this paid one unlocks the plan: ' || i::text)
from unnest(array[
  '{"billing_reason": "subscription_create", "total": 0, "amount_paid": 0}',
  '{"billing_reason": "quote_accept", "total": 0, "amount_paid": 0}',
  '{"billing_reason": "subscription_cycle", "total": 2900, "amount_paid": 2900}',
  '{"billing_reason": "subscription_cycle", "total": 2900, "amount_paid": 0, "amount_paid_off_stripe": 2900}',
  '{"billing_reason": "subscription_cycle", "total": 2900, "amount_paid": 0, "paid_out_of_band": true}'
]::jsonb[]) as i;
select is(tests.owing('uncollectible', '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}'), 'FREE active', 'an uncollectible first invoice counts as unpaid');
select is(tests.owing('void', '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}'), 'TEAMS active', 'a void first invoice does not');
select is(tests.owing('void', '{"billing_reason": "subscription_cycle", "total": 0, "amount_paid": 0}'), 'TEAMS active', 'with a void first invoice, a paid period of 0 unlocks the plan');
select is(tests.owing('void', '{"billing_reason": "subscription_update", "total": 0, "amount_paid": 0}'), 'FREE active', 'with a void first invoice, a paid change of 0 unlocks nothing');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, 'unpaid')),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'teams_monthly')),
  tests.event('invoice.paid', 2, tests.invoice('in_11', 'cus_3', 'sub_3', 'paid', '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}'))
], $$select tests.plan('cyd')$$), 'FREE active', 'an unpaid session counts as an open first invoice until that invoice arrives');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, s)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'teams_monthly'))
], $$select tests.plan('cyd')$$), p, 'a session with payment_status ' || s)
from (values ('paid', 'TEAMS active'), ('no_payment_required', 'TEAMS active'), ('unpaid', 'FREE active')) as v (s, p);
select is(tests.after(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', s, 'teams_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('cyd')), 'collection_method', m)))
], $$select tests.plan('cyd')$$), p, concat_ws(' ', 'without any payment', s, m))
from (values ('trialing', 'charge_automatically', 'TEAMS trialing'), ('active', 'send_invoice', 'TEAMS active'), ('active', 'charge_automatically', 'FREE active')) as v (s, m, p);

-- ---- of several items the highest plan counts, and its period
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
select is(tests.with_items(tests.item('si_1', 'pro_yearly', 0, 100), tests.item('si_2', 'teams_yearly', 50, 900)), 'TEAMS 50 900', 'the highest plan counts when it is the second item');
select is(tests.with_items(tests.item('si_1', 'teams_yearly', 50, 900), tests.item('si_2', 'pro_yearly', 0, 100)), 'TEAMS 50 900', 'the highest plan counts when it is the first item');
select is(tests.with_items(tests.item('si_1', 'seats', 70, 1000), tests.item('si_2', 'pro_yearly', 0, 100)), 'PRO 0 100', 'an extra before the plan does not change the period');
select is(tests.with_items(tests.item('si_1', 'pro_yearly', 0, 100), tests.item('si_2', 'seats', 70, 1000)), 'PRO 0 100', 'an extra after the plan does not change the period');
select is(tests.with_items(tests.item('si_1', 'pro_yearly', 80, 80)), 'PRO 80 differs', 'an item of no duration gives its plan and a period without an end');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', null, jsonb_build_object(
    'current_period_start', tests.second(5), 'current_period_end', tests.second(500),
    'items', jsonb_build_object('data', jsonb_build_array(tests.item('si_1', 'pro_yearly', 0, 0) - 'current_period_start' - 'current_period_end'))
  )))
], $$select concat_ws(' ', s.plan, extract(epoch from s.current_period_end)::bigint - tests.second(0)) from public.subscriptions as s where s.org_id = tests.org('cyd')$$),
  'PRO 500', 'the period of an item without one is the subscription''s, as before API version 2025-03-31');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, 'unpaid')),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('invoice.paid', 1, (tests.invoice('in_10', 'cus_3', null, 'paid') - 'parent') || '{"subscription": "sub_3", "billing_reason": "subscription_create"}')
], $$select tests.plan('cyd')$$), 'PRO active', 'an invoice may name its subscription itself, as before API version 2025-03-31');

-- ---- what is owed for one subscription shows, whatever was begun or has ended after it
create function tests.beside(older text, newer text, older_extra jsonb default '{}') returns text language sql as $$
  select tests.after(array[
    tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, coalesce(older_extra ->> 'session', 'paid'))),
    tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
    tests.event('customer.subscription.updated', 2, tests.subscription('sub_3', 'cus_3', older, 'pro_yearly', jsonb_build_object('latest_invoice', 'in_2')), '{"status": "active"}'),
    tests.event('customer.subscription.created', 3, tests.subscription('sub_4', 'cus_3', newer, 'teams_yearly', jsonb_build_object('created', tests.second(3))))
  ], $q$select tests.plan('cyd')$q$)
$$;
select is(tests.beside(older, newer), wanted, format('%s, then %s', older, newer))
from (values
  ('unpaid', 'incomplete', 'FREE unpaid'), ('unpaid', 'incomplete_expired', 'FREE unpaid'), ('unpaid', 'canceled', 'FREE unpaid'), ('unpaid', 'active', 'FREE unpaid'),
  ('unpaid', 'trialing', 'TEAMS trialing'), ('canceled', 'incomplete', 'FREE active'), ('active', 'incomplete', 'PRO active'), ('past_due', 'incomplete', 'PRO past_due'),
  ('canceled', 'unpaid', 'FREE active')
) as v (older, newer, wanted);
select is(tests.beside('unpaid', 'incomplete', '{"session": "unpaid"}'), 'FREE active', 'nothing is owed for one that was never paid for');

-- ---- an override holds whatever is paid
select tests.act_as('cyd');
select throws_ok($$update public.subscriptions set plan_override = 'ENTERPRISE'$$, '42501', null, 'an owner cannot set plan_override');
select tests.act_as_service();
update public.subscriptions set plan_override = 'TEAMS' where org_id = tests.org('cyd');
select tests.act_as_superuser();
select is(tests.plan('cyd'), 'TEAMS active', 'an override changes the plan');
select is(tests.executions('cyd'), 20000::bigint, 'the limits follow an override');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', s, 'pro_yearly'))
], $$select s.plan || ' ' || s.plan_override || ' ' || tests.executions('cyd') from public.subscriptions as s where s.org_id = tests.org('cyd')$$),
  'TEAMS TEAMS 20000', 'no event changes an overridden plan: ' || s)
from unnest(array['active', 'canceled', 'past_due', 'unpaid']) as s;
select tests.act_as_service();
update public.subscriptions set plan = 'PRO' where org_id = tests.org('cyd');
select tests.act_as_superuser();
select is(tests.plan('cyd'), 'TEAMS active', 'an update of the plan does not change an overridden plan');
select tests.send(e) from unnest(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_5', 'cus_5', 'sub_5', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_5', 'cus_5', 'active', 'pro_yearly'))
]) as e;
select tests.act_as_service();
update public.subscriptions set plan_override = null where org_id = tests.org('cyd');
select tests.act_as_superuser();
select is(tests.plan('cyd'), 'PRO active', 'the end of an override returns the plan to Stripe at once');
select tests.act_as_service();
update public.subscriptions set plan_override = 'ENTERPRISE' where org_id = tests.org('eve');
update public.subscriptions set plan_override = null where org_id = tests.org('eve');
select tests.act_as_superuser();
select is(tests.plan('eve') || ' ' || tests.executions('eve'), 'FREE active 50', 'the end of an override without a subscription leaves FREE');
select tests.act_as_service();
select throws_ok($$update public.subscriptions set plan_override = 'GOLD' where org_id = tests.org('eve')$$, '23503', null, 'an override must name an existing plan');
select tests.act_as_superuser();


select * from finish();
rollback;
