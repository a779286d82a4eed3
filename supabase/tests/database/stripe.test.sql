begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(100);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mel'), tests.sign_up('adm');
-- Four people are more than FREE has room for.
select kijko.set_limit(tests.org('ada'), 'members', 'lifetime', 4);
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('mel', tests.org('ada'), 'member'), tests.join_org('adm', tests.org('ada'), 'admin');

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

select tests.sign_up('cyd'), tests.sign_up('dan'), tests.sign_up('eve');

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
