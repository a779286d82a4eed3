begin;
\ir 000_helpers.sql
select plan(74);

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
      'id', 'si_' || id, 'quantity', 1, 'current_period_start', tests.second(0), 'current_period_end', tests.second(2592000),
      'price', jsonb_build_object('id', 'price_' || coalesce(key, 'none'), 'product', 'prod_1', 'lookup_key', key)
    )))
  ) || extra
$$;
create function tests.session(id text, customer text, subscription text, reference text, payment_status text default 'paid') returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'object', 'checkout.session', 'mode', 'subscription', 'status', 'complete', 'payment_status', payment_status,
    'customer', customer, 'subscription', subscription, 'client_reference_id', reference, 'amount_total', 2900, 'currency', 'eur', 'created', tests.second(0)
  )
$$;
create function tests.invoice(id text, customer text, subscription text, status text) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'object', 'invoice', 'customer', customer, 'status', status, 'currency', 'eur', 'total', 2900, 'amount_due', 2900,
    'amount_paid', case status when 'paid' then 2900 else 0 end, 'amount_remaining', case status when 'paid' then 0 else 2900 end,
    'attempt_count', 0, 'created', tests.second(0), 'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', subscription))
  )
$$;
-- As the sidecar does it. Returns the status.
create function tests.send(event jsonb) returns text language plpgsql as $$
declare
  answer text;
begin
  perform tests.act_as_sidecar();
  select i.status || case when i.duplicate then ' again' else '' end into answer from private.ingest_stripe_event(event) as i;
  perform tests.act_as_superuser();
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
select throws_ok($$select private.ingest_stripe_event('{}')$$, '42501', null, 'anon brings no events');
select tests.act_as('ada');
select throws_ok($$select private.ingest_stripe_event('{}')$$, '42501', null, 'nor does an owner');
select throws_ok('select 1 from private.stripe_events', '42501', null, 'who reads no events either');
select throws_ok($$insert into public.stripe_subscriptions (id, org_id) values ('sub_x', tests.org('ada'))$$, '42501', null, 'nor writes subscriptions');
select throws_ok($$update public.stripe_invoices set status = 'paid'$$, '42501', null, 'nor pays by update');
select throws_ok($$delete from public.stripe_customers$$, '42501', null, 'nor deletes customers');
select tests.act_as_service();
select throws_ok($$update public.stripe_subscriptions set status = 'active'$$, '42501', null, 'not even service_role writes what Stripe says');
select throws_ok($$select private.ingest_stripe_event('{}')$$, '42501', null, 'nor brings events');
select tests.act_as_sidecar();
select throws_ok('select 1 from private.stripe_events', '42501', null, 'the sidecar reads no events');
select throws_ok('select 1 from public.stripe_subscriptions', '42501', null, 'and no rows');
select throws_ok($$select private.refresh_plan(gen_random_uuid())$$, '42501', null, 'and decides no plan');
select throws_ok($$select private.replay_stripe_events()$$, '42501', null, 'and replays nothing');

-- ---- what is no event
select tests.refuses($$select * from private.ingest_stripe_event(null)$$, 'bad_request', 'nothing');
select tests.refuses($$select * from private.ingest_stripe_event('[]')$$, 'bad_request', 'an array');
select tests.refuses($$select * from private.ingest_stripe_event('{"id":"cus_1","type":"a","created":1}')$$, 'bad_request', 'another object');
select tests.refuses($$select * from private.ingest_stripe_event('{"id":"evt_1","type":"a","created":"1"}')$$, 'bad_request', 'a time in words');
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
select is(tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), null, 'evt_first')), 'applied', 'a subscription of nobody is kept');
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
select is_empty('select 1 from public.stripe_customers union all select 1 from public.stripe_subscriptions union all select 1 from public.stripe_invoices union all select 1 from public.stripe_checkouts', 'a stranger sees nothing');
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
select results_eq('select id from public.stripe_prices', array['price_pro_monthly'], 'a price is seen by whoever is subscribed to it');
select tests.act_as('bob');
select is_empty('select 1 from public.stripe_prices', 'and by nobody else');
select tests.act_as_superuser();

-- ---- past due, the grace, the end
select is(tests.send(tests.event('customer.subscription.updated', 10, tests.subscription('sub_1', 'cus_1', 'past_due', 'pro_monthly'), '{"status":"active"}')), 'applied', 'a payment is missing');
select is(tests.plan('ada'), 'TEAMS past_due', 'the plan stays for the grace');
select tests.travel(private.stripe_grace() - interval '1 minute');
select is(private.expire_stripe_grace(), 0, 'until its last minute');
select tests.travel(private.stripe_grace() + interval '1 minute');
select is(private.expire_stripe_grace(), 1, 'no event marks the end');
select is(tests.plan('ada'), 'FREE past_due', 'the schedule does');
select is(tests.executions('ada'), 50::bigint, 'with the limits');
select is(private.expire_stripe_grace(), 0, 'once');
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

-- ---- a failure is kept, told and made good
create function tests.obstruct() returns trigger language plpgsql as $$ begin raise exception 'in the way' using errcode = 'XX001'; end $$;
create trigger obstruct before insert or update on public.stripe_invoices for each row execute function tests.obstruct();
select is(tests.send(tests.event('invoice.created', 1, tests.invoice('in_3', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard')), 'failed', 'what cannot be applied');
select results_eq(
  $$select status, error_code, error, attempts, next_attempt_at > now() from private.stripe_events where id = 'evt_hard'$$,
  $$values ('failed', 'XX001', 'in the way', 1, true)$$, 'is kept with its reason and its next attempt'
);
select is((select failed from private.stripe_backlog()), 1::bigint, 'and counted');
select is(private.retry_stripe_events(), 0, 'not before it is due');
update private.stripe_events set next_attempt_at = now(), attempts = 19 where id = 'evt_hard';
select is(private.retry_stripe_events(), 1, 'tried again');
select results_eq(
  $$select attempts, next_attempt_at is null from private.stripe_events where id = 'evt_hard'$$, $$values (20, true)$$, 'and given up at last'
);
drop trigger obstruct on public.stripe_invoices;
select results_eq($$select id, status from private.replay_stripe_events()$$, $$values ('evt_hard', 'applied')$$, 'a replay makes it good');
select is((select org_id from public.stripe_invoices where id = 'in_3'), tests.org('bob'), 'as if nothing had been');

select * from finish();
rollback;
