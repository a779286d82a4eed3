-- Whether a subscription is paid for: each rule at its edges, and nothing that another subscription or Stripe's other mode says of it.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

-- The invoices and sessions of one case: of sub_judged in test mode, unless they say otherwise.
create function tests.rows(invoices jsonb, sessions jsonb) returns void language plpgsql as $$
begin
  delete from public.stripe_invoices as i where i.customer_id = 'cus_judged';
  delete from public.stripe_checkouts as k where k.customer_id = 'cus_judged';
  insert into public.stripe_invoices
  select (jsonb_populate_record(null::public.stripe_invoices, jsonb_build_object(
    'id', 'in_judged' || n, 'customer_id', 'cus_judged', 'subscription_id', 'sub_judged', 'status', 'paid', 'total', 0, 'tax', 0, 'amount_due', 0,
    'amount_paid', 0, 'paid_out_of_band', false, 'amount_remaining', 0, 'attempt_count', 0, 'deleted', false, 'livemode', false,
    'event_id', 'evt_judged', 'created_at', '2026-01-01T00:00:00Z', 'as_of', '2026-01-01T00:00:00Z'
  ) || i)).* from jsonb_array_elements(invoices) with ordinality as e (i, n);
  insert into public.stripe_checkouts
  select (jsonb_populate_record(null::public.stripe_checkouts, jsonb_build_object(
    'id', 'cs_judged' || n, 'customer_id', 'cus_judged', 'subscription_id', 'sub_judged', 'status', 'complete', 'livemode', false,
    'event_id', 'evt_judged', 'created_at', '2026-01-01T00:00:00Z', 'as_of', '2026-01-01T00:00:00Z'
  ) || k)).* from jsonb_array_elements(sessions) with ordinality as e (k, n);
end
$$;

-- ---- one payment of a period pays
create function tests.paid(invoices jsonb, sessions jsonb default '[]', but text default null) returns boolean language plpgsql as $$
begin
  perform tests.rows(invoices, sessions);
  return private.stripe_paid_for('sub_judged', false, but);
end
$$;
select is(tests.paid('[]', s), pays, 'a session pays: ' || s::text)
from (values
  ('[]'::jsonb, false), ('[{"payment_status": "paid"}]', true), ('[{"payment_status": "no_payment_required"}]', true), ('[{"payment_status": "unpaid"}]', false),
  ('[{"payment_status": "paid", "status": "open"}]', false), ('[{"payment_status": "paid", "livemode": true}]', false),
  ('[{"payment_status": "paid", "subscription_id": "sub_other"}]', false)
) as v (s, pays);
select is(tests.paid(i), pays, 'an invoice pays: ' || i::text)
from (values
  ('[{"billing_reason": "subscription_create"}]'::jsonb, true), ('[{"billing_reason": "quote_accept"}]', true), ('[{"billing_reason": "subscription_cycle"}]', false),
  ('[{"billing_reason": "subscription_cycle", "amount_paid": 1}]', true), ('[{"billing_reason": "subscription_cycle", "paid_out_of_band": true}]', true),
  ('[{}]', false), ('[{"amount_paid": 1}]', true), ('[{"paid_out_of_band": true}]', true), ('[{"billing_reason": "manual", "amount_paid": 1}]', false),
  ('[{"amount_paid": 1, "status": "open"}]', false), ('[{"amount_paid": 1, "livemode": true}]', false), ('[{"amount_paid": 1, "subscription_id": "sub_other"}]', false)
) as v (i, pays);
select is(tests.paid('[{"amount_paid": 1}]', '[]', but), pays, 'without the invoice ' || but) from (values ('in_judged1', false), ('in_judged2', true)) as v (but, pays);

-- ---- nothing is owed: a period is paid, and no first or periodic invoice is open
create function tests.square(invoices jsonb, sessions jsonb default '[]') returns boolean language plpgsql as $$
begin
  perform tests.rows(invoices, sessions);
  return private.stripe_nothing_owed('sub_judged', false);
end
$$;
select is(tests.square(i), square, 'nothing is owed: ' || i::text)
from (values
  ('[]'::jsonb, false), ('[{"billing_reason": "subscription_cycle"}]', true), ('[{"billing_reason": "subscription_update"}]', false),
  ('[{"billing_reason": "subscription_update", "amount_paid": 1}]', true), ('[{"billing_reason": "subscription_update", "paid_out_of_band": true}]', true),
  ('[{"billing_reason": "subscription_create", "amount_paid": 1}]', false), ('[{"billing_reason": "subscription_cycle", "status": "open"}]', false),
  ('[{"billing_reason": "subscription_cycle", "livemode": true}]', false), ('[{"billing_reason": "subscription_cycle", "subscription_id": "sub_other"}]', false)
) as v (i, square);
select is(tests.square('[{"billing_reason": "subscription_cycle"}]' || i), square, 'with a paid period nothing else is owed: ' || i::text)
from (values
  ('{"billing_reason": "subscription_create", "status": "open", "amount_remaining": 1}'::jsonb, false),
  ('{"billing_reason": "subscription_create", "status": "open"}', true),
  ('{"billing_reason": "quote_accept", "status": "uncollectible", "amount_remaining": 1}', false),
  ('{"billing_reason": "subscription_cycle", "status": "open", "amount_remaining": 1}', false),
  ('{"billing_reason": "subscription_create", "status": "void", "amount_remaining": 1}', true),
  ('{"billing_reason": "manual", "status": "open", "amount_remaining": 1}', true),
  ('{"status": "open", "amount_remaining": 1}', false),
  ('{"billing_reason": "subscription_create", "status": "open", "amount_remaining": 1, "livemode": true}', true),
  ('{"billing_reason": "subscription_create", "status": "open", "amount_remaining": 1, "subscription_id": "sub_other"}', true)
) as v (i, square);
select is(tests.square('[{"billing_reason": "subscription_cycle"}]' || i, jsonb_build_array('{"payment_status": "unpaid"}' || s)), square, format('nor with this session and invoice: %s %s', s, i))
from (values
  ('{}'::jsonb, '[]'::jsonb, false), ('{"payment_status": "paid"}', '[]', true), ('{"livemode": true}', '[]', true), ('{"subscription_id": "sub_other"}', '[]', true),
  ('{}', '{"billing_reason": "subscription_create", "status": "open"}', true), ('{}', '{"billing_reason": "quote_accept", "status": "void"}', true),
  ('{}', '{"billing_reason": "subscription_create", "status": "draft"}', false), ('{}', '{"billing_reason": "manual", "status": "void"}', false),
  ('{}', '{"billing_reason": "subscription_create", "status": "void", "livemode": true}', false),
  ('{}', '{"billing_reason": "subscription_create", "status": "void", "subscription_id": "sub_other"}', false)
) as v (s, i, square);

-- ---- a payment that was lost on January 10 is made good by as much as a whole period, or by the next period
create function tests.repaid(invoices jsonb, start timestamptz default '2026-01-01T00:00:00Z') returns boolean language plpgsql as $$
begin
  perform tests.rows(invoices, '[]');
  return private.stripe_is_repaid('sub_judged', false, '2026-01-10T00:00:00Z', start);
end
$$;
select is(tests.repaid(coalesce('[{"amount_paid": 1000, "paid_at": "2026-01-09T00:00:00Z"}]' || i, '[]')), good, 'after one of 1000 this makes it good: ' || i::text)
from (values
  ('[]'::jsonb, false), ('[{"amount_paid": 999, "paid_at": "2026-01-11T00:00:00Z"}]', false), ('[{"amount_paid": 1000, "paid_at": "2026-01-11T00:00:00Z"}]', true),
  ('[{"amount_paid": 500, "paid_at": "2026-01-11T00:00:00Z"}, {"amount_paid": 500, "paid_at": "2026-01-12T00:00:00Z"}]', true),
  ('[{"amount_paid": 1000, "paid_at": "2026-01-10T00:00:00Z"}]', false), ('[{"amount_paid": 1000, "paid_at": "2026-01-11T00:00:00Z", "status": "open"}]', false),
  ('[{"amount_paid": 1000, "paid_at": "2026-01-11T00:00:00Z", "livemode": true}]', false),
  ('[{"amount_paid": 1000, "paid_at": "2026-01-11T00:00:00Z", "subscription_id": "sub_other"}]', false),
  ('[{"amount_paid": 2000, "paid_at": "2026-01-10T00:00:00Z"}, {"amount_paid": 1000, "paid_at": "2026-01-11T00:00:00Z"}]', false),
  ('[{"amount_paid": 2000, "created_at": "2026-01-09T00:00:00Z"}, {"amount_paid": 1000, "paid_at": "2026-01-11T00:00:00Z"}]', false)
) as v (i, good);
select is(tests.repaid(jsonb_build_array(jsonb_build_object('amount_paid', paid, 'paid_at', '2026-01-11T00:00:00Z'))), good, 'after none, so much: ' || paid)
from (values (0, false), (1, true)) as v (paid, good);
select is(
  tests.repaid(jsonb_build_array('{"amount_paid": 1000, "paid_at": "2026-01-09T00:00:00Z"}'::jsonb,
    '{"billing_reason": "subscription_cycle", "amount_paid": 10, "paid_at": "2026-01-16T00:00:00Z"}' || i), start), good, format('a period from %s: %s', start, i)
)
from (values
  ('{}'::jsonb, '2026-01-15T00:00:00Z'::timestamptz, true), ('{}', '2026-01-10T00:00:00Z', false), ('{}', '2026-01-10T00:00:00.000001Z', true),
  ('{"amount_paid": 0}', '2026-01-15T00:00:00Z', false), ('{"amount_paid": 1}', '2026-01-15T00:00:00Z', true), ('{}', '2026-01-16T00:00:00Z', true),
  ('{}', '2026-01-16T00:00:00.000001Z', false), ('{"billing_reason": "subscription_create"}', '2026-01-15T00:00:00Z', false), ('{"status": "open"}', '2026-01-15T00:00:00Z', false),
  ('{"livemode": true}', '2026-01-15T00:00:00Z', false), ('{"subscription_id": "sub_other"}', '2026-01-15T00:00:00Z', false)
) as v (i, start, good);

-- ---- when a failed event is tried again
insert into private.stripe_events (id, type, created, livemode, object_id, object_type, rank, payload, status, attempts, applied_at)
select 'evt_try' || n, 'nothing', now(), false, 'thing' || n, 'thing', 0, '{"data": {"object": {}}}', 'applied', n, now() from unnest('{1, 3, 9, 10, 19, 20, 77}'::smallint[]) as n;
select is(private.stripe_try_apply_event(e) is not null, true, e.id || ' fails') from private.stripe_events as e where e.id ~ '^evt_try' and e.attempts < 77;
select results_eq(
  $$select e.attempts, e.status, e.next_attempt_at - now() from private.stripe_events as e where e.id ~ '^evt_try' order by e.attempts$$,
  $$values (1, 'failed', interval '1 minute'), (3, 'failed', '4 minutes'), (9, 'failed', '256 minutes'), (10, 'failed', '6 hours'), (19, 'failed', '6 hours'),
      (20, 'failed', null), (77, 'applied', null)$$, 'after twice the time each time, at most six hours, twenty times'
);
update private.stripe_events as e set next_attempt_at = case e.attempts when 1 then now() when 3 then now() + interval '1 microsecond' end
where e.id ~ '^evt_try' and e.status = 'failed';
select cmp_ok(private.stripe_retry_events(), '>=', 1, 'those whose time has come are tried');
select is(
  (select array_agg(e.attempts order by e.attempts) from private.stripe_events as e where e.id ~ '^evt_try'), '{2, 3, 9, 10, 19, 20, 77}'::integer[], 'and only those'
);
select results_eq(
  $$select r.id, r.status from private.stripe_replay_events('{evt_try3, evt_try77}') as r$$, $$values ('evt_try3', 'failed'), ('evt_try77', 'failed')$$,
  'an operator tries those that are named'
);
select is(
  (select array_agg(e.attempts order by e.attempts) from private.stripe_events as e where e.id ~ '^evt_try'), '{2, 4, 9, 10, 19, 20, 78}'::integer[], 'and no others'
);
select tests.refuses(format('select private.stripe_ingest_event(%L)', '{"type": "x", "created": 1}'::jsonb || jsonb_build_object('id', 'evt_' || repeat('x', 251))), 'bad_request', 'an id of 255 bytes');
select is(tests.send('{"type": "x", "created": 1}'::jsonb || jsonb_build_object('id', 'evt_' || repeat('x', 250))), 'ignored', 'one of 254 is Stripe''s');

select * from finish();
rollback;
