-- What Stripe says of one customer changes nothing of another, and edges of what a subscription's items and invoices say.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(18);

select tests.sign_up('ada'), tests.sign_up('bob');

-- ---- rows of a customer whom no organization has named stay nobody's when another customer is linked
select tests.send(e) from unnest(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_n', 'cus_n', 'sub_n', null)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_n', 'cus_n', 'active', 'pro_monthly')),
  tests.event('invoice.paid', 2, tests.invoice('in_n', 'cus_n', 'sub_n', 'paid')),
  tests.event('checkout.session.completed', 3, tests.session('cs_a', 'cus_a', 'sub_a', tests.org('ada')::text)),
  tests.event('customer.subscription.created', 3, tests.subscription('sub_a', 'cus_a', 'active', 'teams_monthly'))
]) as e;
select is(tests.plan('ada'), 'TEAMS active', 'a customer with a reference has its plan');
select is(c.org_id, null, 'no customer is named by nobody') from public.stripe_customers as c where c.id = 'cus_n';
select is(
  (select concat_ws(' ', 'rows', k.org_id, s.org_id, i.org_id)
    from public.stripe_checkouts as k, public.stripe_subscriptions as s, public.stripe_invoices as i
    where k.id = 'cs_n' and s.id = 'sub_n' and i.id = 'in_n'),
  'rows', 'neither is a session, subscription or invoice of it'
);

-- ---- the same ids in Stripe's other mode are other objects
select tests.send(e || '{"livemode": true}') from unnest(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_a', 'cus_a', 'sub_a', null), null, 'evt_live1'),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_a', 'cus_a', 'active', 'enterprise_monthly'), null, 'evt_live2'),
  tests.event('invoice.paid', 2, tests.invoice('in_a', 'cus_a', 'sub_a', 'paid'), null, 'evt_live3')
]) as e;
select is(
  (select concat_ws(' ', 'rows', k.org_id, s.org_id, i.org_id)
    from public.stripe_checkouts as k, public.stripe_subscriptions as s, public.stripe_invoices as i
    where k.id = 'cs_a' and s.id = 'sub_a' and i.id = 'in_a' and k.livemode and s.livemode and i.livemode),
  'rows', 'the other mode''s rows of that name stay nobody''s'
);
select is(tests.plan('ada'), 'TEAMS active', 'and change no plan');

-- ---- a customer whom nobody named stays nobody's once others of the same mode are named in each way
select tests.send(e) from unnest(array[
  tests.event('customer.created', 4, jsonb_build_object('id', 'cus_m', 'object', 'customer', 'created', tests.second(0), 'metadata', jsonb_build_object('org_id', tests.org('bob')))),
  tests.event('customer.subscription.created', 4, tests.subscription('sub_s', 'cus_s', 'trialing', 'pro_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('ada'))))),
  tests.event('customer.updated', 5, jsonb_build_object('id', 'cus_n', 'object', 'customer', 'created', tests.second(0), 'name', 'N', 'metadata', '{}'::jsonb)),
  tests.event('checkout.session.completed', 5, tests.session('cs_n2', 'cus_n', 'sub_n', null)),
  tests.event('checkout.session.completed', 6, tests.session('cs_open', 'cus_n', 'sub_n', tests.org('bob')::text, 'unpaid', '{"status": "open"}'))
]) as e;
select results_eq(
  $$select c.id, c.org_id from public.stripe_customers as c where c.id in ('cus_m', 'cus_n', 'cus_s') and not c.livemode order by 1$$,
  $$values ('cus_m', tests.org('bob')), ('cus_n', null), ('cus_s', tests.org('ada'))$$, 'each customer is of whom its own rows name'
);
select tests.sign_up('cyd');
select tests.send(e) from unnest(array[
  tests.event('checkout.session.completed', 7, tests.session('cs_c', 'cus_c', 'sub_c', null, 'unpaid')),
  tests.event('customer.subscription.created', 7, tests.subscription('sub_c', 'cus_c', 'incomplete', 'pro_monthly')),
  tests.event('invoice.finalized', 7, tests.invoice('in_c', 'cus_c', 'sub_c', 'open')),
  tests.event('customer.updated', 8, jsonb_build_object('id', 'cus_c', 'object', 'customer', 'created', tests.second(0), 'metadata', jsonb_build_object('org_id', tests.org('cyd'))))
]) as e;
select is(
  (select array_agg(o.org_id = tests.org('cyd')) from (
    select k.org_id from public.stripe_checkouts as k where k.id = 'cs_c' union all select s.org_id from public.stripe_subscriptions as s where s.id = 'sub_c'
    union all select i.org_id from public.stripe_invoices as i where i.id = 'in_c'
  ) as o), '{t,t,t}', 'what names nobody itself is of whom its customer names'
);
select is((select array_agg(s.id order by s.id) from public.stripe_subscriptions as s where s.id in ('sub_n', 'sub_a', 'sub_s') and s.org_id = tests.org('ada')), '{sub_a,sub_s}', 'and each subscription');

-- ---- a price that has lost its lookup key keeps what this subscription's events said of it, and another price does not get it
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_b', 'cus_b', 'sub_b', tests.org('bob')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_b', 'cus_b', 'active', 'pro_monthly')),
  tests.event('customer.subscription.updated', 2, replace(tests.subscription('sub_b', 'cus_b', 'active', 'pro_monthly')::text, '"lookup_key": "pro_monthly"', '"lookup_key": null')::jsonb),
  tests.event('customer.subscription.updated', 3, replace(tests.subscription('sub_b', 'cus_b', 'active', 'pro_monthly', '{"quantity": 2}')::text, '"lookup_key": "pro_monthly"', '"lookup_key": null')::jsonb)
], $$select tests.plan('bob')$$), 'PRO active', 'the key that it had still holds, also after an event without one');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_b', 'cus_b', 'sub_b', tests.org('bob')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_b', 'cus_b', 'active', 'pro_monthly')),
  tests.event('customer.subscription.updated', 2, tests.subscription('sub_b', 'cus_b', 'active', null))
], $$select tests.plan('bob')$$), 'FREE active', 'a price that never had one gives no plan');

-- ---- an unpaid session stands for a first invoice that is still to come; an invoice about something else is not that one
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_b', 'cus_b', 'sub_b', tests.org('bob')::text, 'unpaid')),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_b', 'cus_b', 'active', 'teams_monthly')),
  tests.event('invoice.voided', 2, tests.invoice('in_void', 'cus_b', 'sub_b', 'void', jsonb_build_object('billing_reason', reason))),
  tests.event('invoice.paid', 3, tests.invoice('in_paid', 'cus_b', 'sub_b', 'paid', '{"billing_reason": "subscription_update", "total": 500, "amount_paid": 500}'))
], $$select tests.plan('bob')$$), plan, 'with a void invoice for ' || reason)
from (values ('manual', 'FREE active'), ('subscription_create', 'TEAMS active')) as v (reason, plan);

-- ---- which event of an object is the latest depends on no event of another object, second or stage
select is(tests.after(array[
  tests.event('invoice.updated', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'open', '{"attempt_count": 1}')),
  tests.event('invoice.updated', 1, tests.invoice('in_other', 'cus_other', 'sub_other', 'open', '{"attempt_count": 9}')),
  tests.event('invoice.updated', 0, tests.invoice('in_b', 'cus_b', 'sub_b', 'open', '{"attempt_count": 8}')),
  tests.event('invoice.created', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'draft', '{"attempt_count": 7}')),
  tests.event('invoice.updated', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'open', '{"attempt_count": 6}')) || '{"livemode": true}',
  tests.event('invoice.updated', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'open', '{"attempt_count": 2}'))
], $$select string_agg(concat_ws(':', i.id, i.attempt_count), ' ' order by i.id) from public.stripe_invoices as i where i.id in ('in_b', 'in_other') and not i.livemode$$),
  'in_b:2 in_other:9', 'the later of two of one second');
select is(tests.after(array[
  tests.event('invoice.updated', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'open', jsonb_build_object('number', first)), null, 'evt_' || first),
  tests.event('invoice.updated', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'open', jsonb_build_object('number', second)), null, 'evt_' || second)
], $$select i.number from public.stripe_invoices as i where i.id = 'in_b'$$), 'b', 'of two that nothing else distinguishes, the one with the higher id')
from (values ('a', 'b'), ('b', 'a')) as v (first, second);

-- ---- a payment that a dispute took back, and the next one
select tests.send(e) from unnest(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_b', 'cus_b', 'sub_b', tests.org('bob')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_b', 'cus_b', 'active', 'pro_monthly')),
  tests.event('invoice.paid', 2, tests.invoice('in_b', 'cus_b', 'sub_b', 'paid', jsonb_build_object('status_transitions', jsonb_build_object('paid_at', tests.second(2)))))
]) as e;
update public.stripe_subscriptions as s set payment_lost_at = to_timestamp(tests.second(5)) where s.id = 'sub_b';
select private.stripe_refresh_plan(tests.org('bob'));
select is(tests.plan('bob'), 'FREE unpaid', 'a payment that is lost ends the plan');
select tests.send(tests.event('invoice.updated', 6, tests.invoice('in_next', 'cus_b', 'sub_b', 'open', '{"billing_reason": "subscription_cycle"}')));
select is(tests.plan('bob'), 'FREE unpaid', 'an open invoice does not bring it back');
select tests.send(tests.event('invoice.paid', 7, tests.invoice('in_next', 'cus_b', 'sub_b', 'paid', jsonb_build_object(
  'billing_reason', 'subscription_cycle', 'status_transitions', jsonb_build_object('paid_at', tests.second(7))
))));
select is(tests.plan('bob'), 'PRO active', 'the next payment does');

select * from finish();
rollback;
