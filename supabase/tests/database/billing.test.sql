begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(84);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('adm');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('adm', tests.org('ada'), 'admin');
-- What other tests have left on the stack must not matter.
delete from public.stripe_subscriptions;
delete from private.billing_effects;
delete from private.billing_terms;
delete from private.billing_account;
delete from private.billing_objects;

create function tests.asks(action text, arguments jsonb default '{}') returns jsonb language sql as $$ select public.authorize_billing(action, arguments) $$;
create function tests.work(ticket jsonb) returns jsonb language sql security definer as $$ select private.billing_open(ticket ->> 'ticket', false) -> 'work' $$;
create function tests.effects() returns table (kind text, subject text, url text, body text) language sql security definer as $$
  select e.kind, e.subject, r.url, r.body from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id order by e.created_at, e.id
$$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select isnt_empty('select 1 from public.prices', 'anon reads the prices');
select throws_ok($$select tests.asks('usage')$$, '42501', null, 'anon asks for nothing');
select throws_ok($$update public.prices set amount_cents = 1$$, '42501', null, 'anon changes no price');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select tests.asks('usage')$$, 'not_a_member', 'a non-member sees no use');
select tests.refuses($$select tests.asks('checkout')$$, 'not_a_member', 'a non-member buys nothing');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select tests.asks('invoices')$$, 'permission_denied', 'a viewer sees no invoices');
select tests.refuses($$select tests.asks('cancel')$$, 'permission_denied', 'a viewer cancels nothing');
select tests.act_as('adm', tests.org('ada'));
select lives_ok($$select tests.asks('usage')$$, 'who holds billing:read sees the use');
select tests.refuses($$select tests.asks('portal')$$, 'permission_denied', 'and does not reach the portal, where payments are changed');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses($$select tests.asks('checkout', '{"plan": "PRO", "success_url": "http://127.0.0.1/", "cancel_url": "http://127.0.0.1/"}')$$, 'unavailable', 'without an account nothing is sold');
select tests.refuses($$select tests.asks('refund')$$, 'invalid_input', 'an action that there is not');
select tests.refuses($$select tests.asks(null)$$, 'invalid_input', 'no action') ;
select throws_ok($$update public.prices set amount_cents = 1$$, '42501', null, 'an owner changes no price');
select throws_ok($$select private.billing_open('x', false)$$, '42501', null, 'an owner opens no ticket');
select throws_ok($$select * from private.billing_customers$$, '42501', null, 'an owner reads no customers of the domain');
select (public.create_api_key('reads', '["*:read"]')).id as reads \gset
select is(tests.by_key(:'reads', $$select tests.asks('usage')::text$$), '42501', 'a wildcard does not cover billing');
select tests.act_as_sidecar();
select throws_ok('select * from private.billing_account', '42501', null, 'the sidecar reads no table');

-- ---- the account and the catalogue
select lives_ok($$select private.billing_register('https://stripe.example.com', '2026-10-28.endive', false, 'sk_test_x')$$, 'the sidecar says which account it has');
select ok(private.billing_catalogue() @> '{"products": [{"plan": "PRO"}, {"plan": "TEAMS"}, {"plan": "ENTERPRISE"}]}', 'three plans are for sale');
select is(private.billing_catalogue() #>> '{prices,0,lookup_key}', 'enterprise_monthly', 'with their prices');
select private.billing_record_object('price', key, false, 'price_' || key) from unnest(array[
  'pro_monthly', 'pro_yearly', 'teams_monthly', 'pro_executions_monthly', 'pro_llm_tokens_monthly', 'teams_executions_monthly'
]) as key;
select private.billing_record_object('meter', 'executions', false, 'mtr_1');
select tests.act_as_superuser();
select is(private.billing_id('price', 'pro_monthly'), 'price_pro_monthly', 'a price has its id at Stripe');
select throws_ok($$insert into public.prices (lookup_key, plan, recurring_interval, kind, amount_cents) values ('pro_weekly', 'TEAMS', 'month', 'flat', 1)$$,
  '23514', null, 'a key names its own plan');
select throws_ok($$insert into public.prices (lookup_key, plan, recurring_interval, kind, amount_cents) values ('pro_second', 'PRO', 'month', 'flat', 1)$$,
  '23505', null, 'one price of a plan and interval is for sale');
select is(private.billing_form('{"b": [{"x": 1}, "é&"], "a": true, "none": null}'), 'a=true&b%5B0%5D%5Bx%5D=1&b%5B1%5D=%C3%A9%26', 'parameters in a form');
select is(private.billing_form('{}'), null, 'none of them');

-- ---- checkout
select tests.act_as('bob');
select tests.refuses($$select tests.asks('checkout', '{"plan": "PRO", "success_url": "http://127.0.0.1/", "cancel_url": "http://127.0.0.1/"}')$$, 'conflict', 'without a country no VAT is known');
select tests.act_as_superuser();
insert into public.billing_details (org_id, kind, name, country) values (tests.org('bob'), 'consumer', 'Bob', 'NL'), (tests.org('ada'), 'business', 'Ada BV', 'NL');
update private.vat_settings set oss_since = null;
update public.billing_details set country = 'FI' where org_id = tests.org('bob');
select is(
  (select row(private.billing_customer_params(tests.org('bob'), t.tax) #>> '{address,country}', t.tax ->> 'country')::text from (select private.billing_tax(tests.org('bob')) as tax) as t),
  '(FI,NL)', 'the address is that of the customer, also when the VAT is of another country'
);
update private.vat_settings set oss_since = '2021-07-01';
update public.billing_details set country = 'NL' where org_id = tests.org('bob');
select tests.act_as('bob');
select tests.refuses($$select tests.asks('checkout', '{"plan": "PRO", "success_url": "https://evil.example", "cancel_url": "http://127.0.0.1/"}')$$, 'invalid_input', 'a return target that login does not allow');
select tests.refuses($$select tests.asks('checkout', '{"plan": "PRO", "x": 1, "success_url": "http://127.0.0.1/", "cancel_url": "http://127.0.0.1/"}')$$, 'invalid_input', 'an unknown argument');
select tests.refuses($$select tests.asks('checkout', '{"plan": "ENTERPRISE", "success_url": "http://127.0.0.1/", "cancel_url": "http://127.0.0.1/"}')$$, 'unavailable', 'a price that is not synced');
select tests.asks('checkout', '{"plan": "PRO", "overage": true, "success_url": "http://127.0.0.1/", "cancel_url": "http://127.0.0.1/"}') as ticket \gset
select doesnt_match(:'ticket'::text, 'price_|127\.0', 'a ticket shows nothing');
select is(tests.work(:'ticket') #> '{session,line_items}', '[{"price": "price_pro_monthly", "quantity": 1}, {"price": "price_pro_executions_monthly"}, {"price": "price_pro_llm_tokens_monthly"}]', 'the plan and its metered prices');
select is(tests.work(:'ticket') #>> '{tax_rate,params,percentage}', '21', 'with the rate of the country');
select is(tests.work(:'ticket') #> '{session,allowed_payment_method_types}', '["ideal", "card"]', 'iDEAL first');
select is(tests.work(:'ticket') #>> '{session,client_reference_id}', tests.org('bob')::text, 'for the organization');
select tests.act_as_sidecar();
select is(private.billing_open(:'ticket'::jsonb ->> 'ticket', true), null, 'a sidecar of the other mode opens nothing');
select is(private.billing_record_customer(tests.org('bob'), false, 'cus_b', null), 'cus_b', 'the customer is kept');
select is(private.billing_record_customer(tests.org('bob'), false, 'cus_other', null), 'cus_b', 'and the first one stays');
select is(private.billing_record_customer(gen_random_uuid(), false, 'cus_gone', null), null, 'an organization that is gone keeps none');

-- ---- a running subscription
select tests.act_as_superuser();
select tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_b', 'cus_b', 'active', 'pro_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('bob'))))));
select tests.send(tests.event('invoice.paid', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'paid', '{"billing_reason": "subscription_create"}')));
select is(tests.plan('bob'), 'PRO active', 'bob has bought PRO');
select isnt_empty(format('select 1 from public.notifications where org_id = %L and type = %L', tests.org('bob'), 'billing.plan_changed'), 'and is told');
select tests.act_as('bob');
select tests.refuses($$select tests.asks('checkout', '{"plan": "PRO", "success_url": "http://127.0.0.1/", "cancel_url": "http://127.0.0.1/"}')$$, 'conflict', 'a second subscription is refused');
select is(tests.work(tests.asks('change', '{"plan": "TEAMS", "overage": true}')) #> '{update,items}', (
  select jsonb_build_array(jsonb_build_object('id', item ->> 'id', 'price', 'price_teams_monthly', 'quantity', 1), '{"price": "price_teams_executions_monthly"}'::jsonb)
  from public.stripe_subscriptions as s, jsonb_array_elements(s.items) as item where s.id = 'sub_b'
), 'a change keeps the item and adds the metered price');
select is(tests.work(tests.asks('change', '{"plan": "TEAMS"}')) #>> '{update,payment_behavior}', 'pending_if_incomplete', 'which counts once it is paid');
select is(tests.work(tests.asks('preview', '{"plan": "TEAMS"}')) #>> '{invoice,customer}', 'cus_b', 'its preview');
select tests.refuses($$select tests.asks('change', '{"plan": "TEAMS", "proration_date": 1}')$$, 'invalid_input', 'a preview of long ago');
select tests.refuses($$select tests.asks('cancel', '{"reason": "boredom"}')$$, 'invalid_input', 'a reason that Stripe does not know');
select is(tests.work(tests.asks('cancel', '{"reason": "unused", "comment": "bye"}')) -> 'update', '{"cancel_at_period_end": true, "cancellation_details": {"feedback": "unused", "comment": "bye"}}', 'a cancellation with its reason');

-- ---- a trial that ends before its time
select tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_t', 'cus_t', 'trialing', 'pro_monthly', jsonb_build_object(
  'metadata', jsonb_build_object('org_id', tests.org('vic')), 'trial_end', extract(epoch from kijko.now() + interval '2 days')::bigint
))));
select is((select t.ended_at from private.plan_trials as t where t.organization = tests.org('vic')), null, 'a trial runs');
select tests.send(tests.event('customer.subscription.deleted', 2, tests.subscription('sub_t', 'cus_t', 'canceled', 'pro_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('vic'))))));
select is((select t.ended_at < t.ends_at from private.plan_trials as t where t.organization = tests.org('vic')), true, 'a cancelled one ends at once');
select private.notifications_emit_trials();
select is_empty(format('select 1 from public.notifications where org_id = %L and type like %L', tests.org('vic'), 'trial.%'), 'of which nobody is told');

-- ---- seats
select tests.act_as_superuser();
select tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_a', 'cus_a', 'trialing', 'teams_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('ada'))))));
select is(private.billing_sync_seats(), 1, 'three members and one seat are one request');
select is(private.billing_sync_seats(), 0, 'of which one is open at a time');
select is((select body from tests.effects() where subject = 'sub_a'), 'proration_behavior=create_prorations&quantity=3', 'for the members of now');

-- ---- use beyond the plan
update public.stripe_subscriptions set items = items || '[{"id": "si_m", "price": "price_pro_executions_monthly", "lookup_key": "pro_executions_monthly"}]' where id = 'sub_b';
select is(private.billing_overage_policy(tests.org('bob'), 'executions'), 'bill', 'a metered price allows more than the plan includes');
select is(private.billing_overage_policy(tests.org('ada'), 'executions'), null, 'and nobody else''s');
select kijko.consume(tests.org('bob'), 'executions', 2007);
select is(private.billing_report_use(), 1, 'what is more is reported');
select is(private.billing_report_use(), 0, 'one report at a time');
select matches((select body from tests.effects() where kind = 'meter_event'), 'event_name=kijko_executions&.*payload%5Bvalue%5D=7', 'seven of them');
-- Without an answer Stripe's own sum is asked for, and nothing is sent again.
select private.billing_settle_report(e, 'unknown', null) from private.billing_effects as e where e.kind = 'meter_event';
select matches((select url from tests.effects() where kind = 'meter_check'), '/event_summaries\?customer=cus_b&', 'after 20 hours the sum is compared');
select private.billing_settle_report(e, 'failed', null) from private.billing_effects as e where e.kind = 'meter_check';
update private.billing_effects set state = 'failed', ended_at = now() where kind in ('meter_event', 'meter_check');
select private.billing_report_use();
select is((select count(*) from private.billing_effects where kind = 'meter_check' and state = 'open'), 0::bigint, 'a question that failed waits');
update private.billing_effects set ended_at = now() - interval '1 hour' where kind in ('meter_event', 'meter_check');
select private.billing_report_use();
select is((select count(*) from private.billing_effects where kind = 'meter_check' and state = 'open'), 1::bigint, 'and is asked again');
delete from private.billing_effects where kind = 'meter_check' and state = 'failed';
select private.billing_settle_report(e, 'done', '{"data": []}') from private.billing_effects as e where e.kind = 'meter_check';
select is((select state from private.billing_reports where organization_id = tests.org('bob')), 'unknown', 'a sum that Stripe has not made yet says nothing');
update private.billing_reports set created_at = now() - interval '1 day';
select private.billing_settle_report(e, 'done', '{"data": [{"aggregated_value": 0}]}') from private.billing_effects as e where e.kind = 'meter_check';
select is((select state from private.billing_reports where organization_id = tests.org('bob')), 'failed', 'Stripe does not have it');
update private.billing_effects set state = 'done', ended_at = now() where kind in ('meter_event', 'meter_check');
select is(private.billing_report_use(), 0, 'what Stripe lacks is not sent again at once');
update private.billing_reports set ended_at = now() - interval '1 hour' where state = 'failed';
select private.billing_report_use();
select results_eq(format('select seq, amount, state from private.billing_reports where organization_id = %L order by seq', tests.org('bob')),
  $$values (1, 7::bigint, 'failed'), (2, 7::bigint, 'open')$$, 'so the next report has its units');
-- A timeout, and then a key that is refused: the first attempt may have arrived.
update kijko.http_requests as r set attempts = 2 from private.billing_effects as e where e.request_id = r.id and e.state = 'open' and e.kind = 'meter_event';
insert into kijko.http_attempts (request_id, attempt, started_at, duration_ms, status)
select e.request_id, 2, now(), 1, 401 from private.billing_effects as e where e.state = 'open' and e.kind = 'meter_event';
select is((private.billing_outcome(e)).state, 'unknown', 'a refused key after an attempt without an answer proves nothing')
from private.billing_effects as e where e.state = 'open' and e.kind = 'meter_event';
-- The period ends while Stripe has not taken it.
update private.billing_effects set state = 'failed', ended_at = now() - interval '1 hour' where state = 'open' and kind = 'meter_event';
update private.billing_reports set state = 'failed', ended_at = now() - interval '1 hour' where state = 'open';
select tests.travel((select u.reset_at - now() + interval '1 hour' from kijko.usage(tests.org('bob')) as u where u.meter = 'executions'));
select private.billing_report_use();
select matches((select body from tests.effects() where kind = 'invoice_item'), 'amount=35&', 'what Stripe refused of a period is billed after it');
select tests.travel('0');
-- What an operator changes of a limit changes nothing of who pays for more.
update public.plan_limits set amount = 1999 where plan = 'PRO' and meter = 'executions';
select is((kijko.find_limit(tests.org('bob'), 'executions')).overage_policy, 'bill', 'another included amount is one beyond which use is billed');
insert into public.plan_overrides (org_id, meter, amount, reason, ends_at) values (tests.org('bob'), 'executions', 1998, 'An exception', kijko.now() + interval '1 day');
select is((kijko.find_limit(tests.org('bob'), 'executions')).overage_policy, 'bill', 'and so is an exception');
-- Stripe bills no use of a trial.
update public.stripe_subscriptions set items = items || '[{"id": "si_t", "price": "price_teams_executions_monthly", "lookup_key": "teams_executions_monthly"}]' where id = 'sub_a';
select is(private.billing_overage_policy(tests.org('ada'), 'executions'), null, 'a trial has no use beyond the limit');
select private.billing_record_object('price', 'enterprise_monthly', false, 'price_enterprise_monthly');
select tests.act_as('ada', tests.org('ada'));
select tests.refuses($$select tests.asks('change', '{"plan": "ENTERPRISE"}')$$, 'conflict', 'and no change to a plan that has none');
select lives_ok($$select tests.asks('change', '{"plan": "PRO"}')$$, 'only to one that has');
select tests.act_as_superuser();
update public.stripe_subscriptions set status = 'active', collection_method = 'send_invoice' where id = 'sub_a';
select is(private.billing_overage_policy(tests.org('ada'), 'executions'), 'bill', 'after it, use is billed');

-- ---- disputes, and the end
select tests.send(tests.event('charge.dispute.created', 2, '{"id": "dp_1", "object": "dispute", "charge": "ch_1", "status": "needs_response", "amount": 2900, "currency": "eur"}'));
select tests.send(tests.event('charge.succeeded', 1, '{"id": "ch_1", "object": "charge", "customer": "cus_b", "amount": 2900, "amount_refunded": 0, "currency": "eur"}'));
select is(private.billing_overage_policy(tests.org('bob'), 'executions'), null, 'while a payment is disputed, nothing more is billed');
update public.stripe_subscriptions set created_at = now() + interval '1 hour' where id = 'sub_b';
select tests.send(tests.event('charge.dispute.closed', 3, '{"id": "dp_1", "object": "dispute", "charge": "ch_1", "status": "lost", "amount": 2900, "currency": "eur"}'));
select is(tests.plan('bob'), 'PRO active', 'a lost dispute takes nothing of what was bought after it');
update public.stripe_subscriptions set created_at = now() where id = 'sub_b';
select tests.send(tests.event('charge.refunded', 4, '{"id": "ch_1", "object": "charge", "customer": "cus_b", "amount": 2900, "amount_refunded": 2900, "currency": "eur"}'));
select is(tests.plan('bob'), 'FREE unpaid', 'what was paid by it is unpaid');
select tests.send(tests.event('invoice.paid', 4, tests.invoice('in_b0', 'cus_b', 'sub_b', 'paid', '{"billing_reason": "subscription_create"}')));
select tests.send(tests.event('invoice.paid', 5, tests.invoice('in_b' || reason, 'cus_b', 'sub_b', 'paid', jsonb_build_object(
  'billing_reason', reason, 'amount_paid', 100, 'status_transitions', jsonb_build_object('paid_at', tests.second(5))
)))) from unnest('{subscription_update,subscription_cycle}'::text[]) as reason;
select is(tests.plan('bob'), 'FREE unpaid', 'a small invoice, such as of a change or of use, does not make it good');
select ok(
  private.stripe_is_repaid('sub_b', false, to_timestamp(tests.second(4)), to_timestamp(tests.second(5)))
  and not private.stripe_is_repaid('sub_b', false, to_timestamp(tests.second(4)), to_timestamp(tests.second(4))), 'a later period of the plan does'
);
select tests.send(tests.event('invoice.paid', 5, tests.invoice('in_b2', 'cus_b', 'sub_b', 'paid', jsonb_build_object(
  'billing_reason', 'subscription_cycle', 'status_transitions', jsonb_build_object('paid_at', tests.second(5))
))));
select is(tests.plan('bob'), 'PRO active', 'and as much as was lost');
delete from public.organizations where id = tests.org('bob');
select is((select url from tests.effects() where kind = 'cancel'), 'https://stripe.example.com/v1/subscriptions/sub_b', 'a deleted organization cancels at Stripe');


-- ---- a payment is evidence of where the customer is
select tests.send(tests.event('charge.succeeded', 5, '{"id": "ch_2", "object": "charge", "customer": "cus_a", "amount": 1, "currency": "eur", "payment_method": "pm_a", "payment_method_details": {"type": "sepa_debit", "sepa_debit": {"country": "DE"}}}'));
select is((select row(e.country, e.reference)::text from public.vat_evidence as e where e.org_id = tests.org('ada') and e.kind = 'payment_method'), '(DE,pm_a)', 'the country of the bank account is kept');
select private.billing_record_customer(tests.org('adm'), false, 'cus_adm', null);
select tests.send(tests.event('charge.succeeded', 6, '{"id": "ch_3", "object": "charge", "customer": "cus_adm", "amount": 1, "currency": "eur", "payment_method": "pm_b", "payment_method_details": {"type": "card", "card": {"country": "BE"}}}'));
select is((select e.country from public.vat_evidence as e where e.org_id = tests.org('adm')), 'BE', 'that of the card too, before any event names the organization');
select tests.send(tests.event('charge.succeeded', 7, '{"id": "ch_4", "object": "charge", "customer": "cus_adm", "amount": 1, "currency": "eur", "payment_method": "pm_c", "payment_method_details": {"type": "ideal", "ideal": {"bank": "ing"}}}'));
select is((select count(*) from public.vat_evidence as e where e.org_id = tests.org('adm')), 1::bigint, 'and nothing where Stripe names no country');

select * from finish();
rollback;
