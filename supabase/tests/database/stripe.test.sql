-- Which events count, who may read the mirror, whose the objects are, and what becomes of an event that fails.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(91);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mel'), tests.sign_up('adm');
-- Four people are more than FREE has room for.
select kijko.set_limit(tests.org('ada'), 'members', 'lifetime', 4);
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('mel', tests.org('ada'), 'member'), tests.join_org('adm', tests.org('ada'), 'admin');


-- ---- access: refused first
select tests.act_as_anon();
select throws_ok('select 1 from public.' || t, '42501', null, 'anon cannot read ' || t)
from unnest(array['stripe_customers', 'stripe_checkouts', 'stripe_subscriptions', 'stripe_invoices', 'stripe_prices']) as t;
select throws_ok($$select private.stripe_ingest_event('{}')$$, '42501', null, 'anon cannot ingest an event');
select tests.act_as('ada');
select throws_ok($$select private.stripe_ingest_event('{}')$$, '42501', null, 'an owner cannot ingest an event');
select throws_ok('select 1 from private.stripe_events', '42501', null, 'an owner cannot read events');
select throws_ok($$insert into public.stripe_subscriptions (id, org_id) values ('sub_x', tests.org('ada'))$$, '42501', null, 'an owner cannot insert a Stripe subscription');
select throws_ok($$update public.stripe_invoices set status = 'paid'$$, '42501', null, 'an owner cannot update an invoice');
select throws_ok($$delete from public.stripe_customers$$, '42501', null, 'an owner cannot delete a customer');
select tests.act_as_service();
select throws_ok($$update public.stripe_subscriptions set status = 'active'$$, '42501', null, 'service_role cannot update a Stripe subscription');
select throws_ok($$select private.stripe_ingest_event('{}')$$, '42501', null, 'service_role cannot ingest an event');
select tests.act_as_sidecar();
select throws_ok('select 1 from private.stripe_events', '42501', null, 'the sidecar cannot read events');
select throws_ok('select 1 from public.stripe_subscriptions', '42501', null, 'the sidecar cannot read mirrored rows');
select throws_ok($$select private.stripe_refresh_plan(gen_random_uuid())$$, '42501', null, 'the sidecar cannot derive a plan');
select throws_ok($$select private.stripe_replay_events()$$, '42501', null, 'the sidecar cannot replay events');

-- ---- what is not an event, or not ours
select tests.refuses($$select * from private.stripe_ingest_event(null)$$, 'bad_request', 'null is not an event');
select tests.refuses($$select * from private.stripe_ingest_event('[]')$$, 'bad_request', 'an array is not an event');
select tests.refuses($$select * from private.stripe_ingest_event('{"id":"cus_1","type":"a","created":1}')$$, 'bad_request', 'an id of another kind is not an event');
select tests.refuses($$select * from private.stripe_ingest_event('{"id":"evt_1","type":"a","created":"1"}')$$, 'bad_request', 'a time as text is not an event');
select tests.act_as_superuser();
select is(tests.send(tests.event('charge.succeeded', 0, '{"id":"ch_1","object":"charge"}')), 'ignored', 'an event about an object that is not mirrored is stored as ignored');
select is(tests.send(tests.event('invoice.upcoming', 0, '{"object":"invoice","customer":"cus_1"}')), 'ignored', 'a preview of an invoice without an id is ignored');
select is(
  tests.send(tests.event('customer.created', 0, '{"id":"cus_else","object":"customer"}') || '{"account":"acct_1"}'), 'ignored',
  'an event of a connected account is ignored'
);
select is_empty($$select 1 from public.stripe_customers where id = 'cus_else'$$, 'an ignored event writes no row');
select is(tests.send('{"id":"evt_thin","object":"v2.core.event","type":"v1.billing.meter.error_report_triggered","created":1,"livemode":false}'), 'ignored', 'a thin event is ignored');

select is(tests.send(tests.event('customer.created', 0, '{"id":"cus_else","object":"customer"}') || extra), 'ignored', 'an event of another account is ignored: ' || extra::text)
from unnest(array['{"context":"acct_1"}', '{"context":"acct_1/acct_2"}', '{"account":"acct_1","context":"acct_1"}']::jsonb[]) as extra;
select is(tests.send(tests.event('customer.created', 0, '{"id":"cus_ours","object":"customer"}') || '{"account":null,"context":null}'), 'applied', 'an event with a null account and context is applied');
select is(tests.send(tests.event(t, 0, tests.invoice(i, 'cus_else', 'sub_else', 'draft'))), 'ignored', 'a preview of an invoice is ignored: ' || t)
from (values ('invoice.upcoming', 'upcoming_in_1Abc'), ('invoice.upcoming', 'in_1Abc'), ('invoice.will_be_due', 'upcoming_in_1Abc')) as v (t, i);
select is_empty($$select id from public.stripe_customers where id = 'cus_else' union all select id from public.stripe_invoices where customer_id = 'cus_else'$$, 'ignored events write no rows');
select is(tests.send('{"id":"evt_thin2","object":"v2.core.event","type":"v1.invoice.paid","created":"2026-09-30T12:00:00.123Z","livemode":false,"context":null,"related_object":{"id":"in_1","type":"invoice","url":"/v1/invoices/in_1"}}'), 'ignored', 'a thin event without an object is ignored');
select is((select created from private.stripe_events where id = 'evt_thin2'), '2026-09-30T12:00:00.123Z'::timestamptz, 'the time of a thin event is read from text');
select is(tests.send('{"id":"evt_thin3","object":"v2.core.event","type":"v2.core.event_destination.ping"}'), 'ignored', 'a thin event may have no time');
select tests.refuses($$select * from private.stripe_ingest_event('{"id":"evt_1","object":"event","type":"a","created":"2026-09-30T12:00:00Z"}')$$, 'bad_request', 'any other event with its time as text is refused');

-- ---- the subscription arrives before the session that names its organization
select is(tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), null, 'evt_first')), 'applied', 'a subscription of no known organization is applied');
select is((select org_id from public.stripe_subscriptions where id = 'sub_1'), null, 'its row has no organization');
select is((select unlinked from private.stripe_backlog()), 1::bigint, 'the backlog counts it as unlinked');
select is(tests.plan('ada'), 'FREE active', 'it unlocks nothing');
select is(tests.send(tests.event('invoice.paid', 2, tests.invoice('in_1', 'cus_1', 'sub_1', 'paid'))), 'applied', 'its paid invoice is applied');
select is(tests.send(tests.event('checkout.session.completed', 2, tests.session('cs_1', 'cus_1', 'sub_1', tests.org('ada')::text))), 'applied', 'the session that names the organization is applied last');
select is(tests.plan('ada'), 'PRO active', 'the organization then has the plan');
select is(tests.executions('ada'), 2000::bigint, 'the limits follow the plan');
select is(
  (select count(*) from public.stripe_customers as c join public.stripe_subscriptions as s using (org_id) join public.stripe_invoices as i using (org_id) where org_id = tests.org('ada')),
  1::bigint, 'all rows of the customer belong to the organization'
);
select is(tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), null, 'evt_first')), 'applied again', 'a second delivery of an event is reported as a duplicate');
select is((select attempts from private.stripe_events where id = 'evt_first'), 1, 'a second delivery does not apply the event again');

-- ---- who may read
select tests.act_as('bob');
select is_empty('select 1 from public.stripe_customers union all select 1 from public.stripe_subscriptions union all select 1 from public.stripe_invoices union all select 1 from public.stripe_checkouts', 'a non-member reads no row');
select tests.act_as('vic', tests.org('ada'));
select is_empty('select 1 from public.stripe_subscriptions union all select 1 from public.stripe_invoices', 'a viewer reads no row');
select tests.act_as('mel', tests.org('ada'));
select is_empty('select 1 from public.stripe_subscriptions union all select 1 from public.stripe_invoices', 'a member reads no row');
select tests.act_as('adm', tests.org('ada'));
select results_eq($$select id from public.stripe_invoices$$, array['in_1'], 'an admin reads invoices');
select tests.act_as('ada');
select results_eq($$select id from public.stripe_subscriptions$$, array['sub_1'], 'an owner reads subscriptions');
select tests.act_as_superuser();

-- ---- whose an object is
select tests.sign_up('cyd'), tests.sign_up('dan');
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('checkout.session.completed', 9, tests.session('cs_4', 'cus_3', 'sub_4', tests.org('dan')::text, 'paid', jsonb_build_object('created', tests.second(8)))),
  tests.event('customer.subscription.created', 9, tests.subscription('sub_4', 'cus_3', 'active', 'teams_monthly', jsonb_build_object('created', tests.second(9))))
], $$select concat_ws(', ', tests.plan('cyd'), tests.plan('dan'), (select o.org_id = tests.org('cyd') from public.stripe_customers as o where o.id = 'cus_3'))$$, seed),
  'PRO active, TEAMS active, t', 'of two sessions each decides for its subscription, and the first for the customer')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);
select is(tests.after(array[
  tests.event('checkout.session.expired', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text, 'paid', jsonb_build_object('status', s))),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'trialing', 'pro_yearly'))
], $$select tests.plan('cyd')$$), 'FREE active', 'a session that is ' || s || ' links nothing to the organization that it names')
from unnest(array['open', 'expired']) as s;
select is(tests.after(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_3', 'cus_3', 'sub_3', tests.org('cyd')::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('customer.subscription.updated', 9, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('dan')))), '{"metadata": {"org_id": null}}'),
  tests.event('invoice.paid', 9, tests.invoice('in_10', 'cus_3', 'sub_3', 'paid'))
], $$select concat_ws(', ', tests.plan('cyd'), tests.plan('dan'), (select i.org_id = tests.org('dan') from public.stripe_invoices as i where i.id = 'in_10'))$$, seed),
  'FREE active, PRO active, t', 'metadata of a subscription takes precedence over its session')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);

-- ---- test mode and live mode are separate
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
  'PRO past_due, TEAMS active, 7', 'the same ids in test and live mode count separately')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);
select is(tests.send((tests.life('cyd', 'pro_yearly', l))[1]), a, 'the same event id in both modes is applied once in each: live ' || l) from (values (false, 'applied'), (true, 'applied'), (true, 'applied again')) as v (l, a);

-- ---- a failed event is kept, retried, given up and replayed
select tests.send(tests.event('checkout.session.completed', 1, tests.session('cs_2', 'cus_2', 'sub_2', tests.org('bob')::text, 'unpaid')));
select tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_2', 'cus_2', 'active', 'enterprise_yearly')));
create function tests.obstruct() returns trigger language plpgsql as $$ begin raise exception 'in the way' using errcode = 'XX001'; end $$;
create trigger obstruct before insert or update on public.stripe_invoices for each row execute function tests.obstruct();
select is(tests.send(tests.event('invoice.created', 1, tests.invoice('in_3', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard')), 'failed', 'an event whose application fails is stored as failed');
select results_eq(
  $$select status, error_code, error, attempts, next_attempt_at > now() from private.stripe_events where id = 'evt_hard'$$,
  $$values ('failed', 'XX001', 'in the way', 1, true)$$, 'it has the error and the time of the next attempt'
);
select is((select failed from private.stripe_backlog()), 1::bigint, 'the backlog counts it');
select is(private.stripe_retry_events(), 0, 'it is not retried before that time');
update private.stripe_events set next_attempt_at = now(), attempts = 18 where id = 'evt_hard';
select is(private.stripe_retry_events(), 1, 'it is retried when due');
select results_eq(
  $$select attempts, next_attempt_at = now() + interval '6 hours' from private.stripe_events where id = 'evt_hard'$$, $$values (19, true)$$,
  'the next attempt is at most six hours away'
);
update private.stripe_events set next_attempt_at = now() where id = 'evt_hard';
select is(private.stripe_retry_events(), 1, 'it is retried a twentieth time');
select results_eq(
  $$select attempts, next_attempt_at is null from private.stripe_events where id = 'evt_hard'$$, $$values (20, true)$$, 'it is given up after twenty attempts'
);
select is(private.stripe_retry_events(), 0, 'a given-up event is not retried');
select is(tests.send(tests.event('invoice.created', 1, tests.invoice('in_3', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard')), 'failed again', 'a redelivery tries a given-up event again');
select results_eq(
  $$select attempts, next_attempt_at is null from private.stripe_events where id = 'evt_hard'$$, $$values (21, true)$$, 'a redelivery counts as an attempt'
);
drop trigger obstruct on public.stripe_invoices;
savepoint hard;
select is(tests.send(tests.event('invoice.created', 1, tests.invoice('in_3', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard')), 'applied again', 'a redelivery applies it once the cause is gone');
select is((select failed from private.stripe_backlog()), 0::bigint, 'the backlog is then empty');
rollback to hard;
select results_eq($$select id, status from private.stripe_replay_events()$$, $$values ('evt_hard', 'applied')$$, 'a replay applies it once the cause is gone');
select is((select org_id from public.stripe_invoices where id = 'in_3'), tests.org('bob'), 'its row is then as if it had not failed');

-- ---- the check of events: each term alone is at its edge, then beyond it
select tests.act_as_superuser();
select is_empty(
  $$select c.n from (values
      (1, private.stripe_is_event_row('evt_' || repeat('a', 250), repeat('t', 300), repeat('v', 300), repeat('o', 300), repeat('o', 300), 'applied', null, null, now())),
      (2, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'failed', repeat('c', 300), repeat('e', 2000), null)),
      (3, private.stripe_is_event_row('evt_1', 't', null, null, null, 'ignored', null, null, null))
    ) as c (n, fits) where c.fits is not true$$,
  'an event at every edge is stored'
);
select is_empty(
  $$select c.n from (values
      (1, private.stripe_is_event_row('evt_' || repeat('a', 251), 't', null, 'o', null, 'applied', null, null, now())),
      (2, private.stripe_is_event_row('cus_1', 't', null, 'o', null, 'applied', null, null, now())),
      (3, private.stripe_is_event_row('evt_1', '', null, 'o', null, 'applied', null, null, now())),
      (4, private.stripe_is_event_row('evt_1', repeat('t', 301), null, 'o', null, 'applied', null, null, now())),
      (5, private.stripe_is_event_row('evt_1', 't', repeat('v', 301), 'o', null, 'applied', null, null, now())),
      (6, private.stripe_is_event_row('evt_1', 't', null, repeat('o', 301), null, 'applied', null, null, now())),
      (7, private.stripe_is_event_row('evt_1', 't', null, 'o', repeat('o', 301), 'applied', null, null, now())),
      (8, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'failed', repeat('c', 301), 'e', null)),
      (9, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'failed', 'c', repeat('e', 2001), null)),
      (10, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'open', null, null, null)),
      (11, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'applied', null, null, null)),
      (12, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'failed', 'c', null, now())),
      (13, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'failed', null, null, null)),
      (14, private.stripe_is_event_row('evt_1', 't', null, 'o', null, 'applied', 'c', null, now())),
      (15, private.stripe_is_event_row('evt_1', 't', null, null, null, 'applied', null, null, now()))
    ) as c (n, fits) where c.fits is not false$$,
  'and none beyond one'
);

select * from finish();
rollback;
