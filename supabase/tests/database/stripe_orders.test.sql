-- The mirror does not depend on the order in which events arrive.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(29);

select tests.sign_up('cyd');

-- ---- past due since the first event of the run
select is(tests.after(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly')),
  tests.event('customer.subscription.updated', 10, tests.subscription('sub_3', 'cus_3', 'past_due', 'pro_yearly'), '{"status": "active"}'),
  tests.event('customer.subscription.updated', 20, tests.subscription('sub_3', 'cus_3', 'active', 'pro_yearly'), '{"status": "past_due"}'),
  tests.event('customer.subscription.updated', 30, tests.subscription('sub_3', 'cus_3', 'past_due', 'pro_yearly'), '{"status": "active"}'),
  tests.event('customer.subscription.updated', 40, tests.subscription('sub_3', 'cus_3', 'past_due', 'pro_yearly', '{"latest_invoice": "in_2"}'), '{"latest_invoice": "in_1"}')
], $$select extract(epoch from s.past_due_since)::bigint - tests.second(0) from public.stripe_subscriptions as s where s.id = 'sub_3'$$, seed),
  '30', 'past_due_since is the first event of the present run of past_due')
from (values (null), (0.1), (0.2), (0.3), (0.4)) as v (seed);

-- ---- fields that Stripe may leave out
select is(tests.after(array[
  tests.event('price.created', 1, '{"id":"price_9","object":"price","product":"prod_1","lookup_key":"pro_yearly","nickname":"nine","currency":"eur","unit_amount":2900,"active":true,"created":1}'),
  tests.event('price.deleted', 2, '{"id":"price_9","object":"price","deleted":true}')
], $$select concat_ws(' ', p.nickname, p.currency, p.lookup_key, p.deleted) from public.stripe_prices as p where p.id = 'price_9'$$, seed),
  'nine eur pro_yearly t', 'a price deletion without fields keeps the known fields')
from (values (null), (0.1), (0.2), (0.3)) as v (seed);
select is(tests.after(array[tests.event('price.deleted', 2, '{"id":"price_9","object":"price","deleted":true}')],
  $$select concat_ws(' ', p.currency, p.deleted) from public.stripe_prices as p where p.id = 'price_9'$$), 't', 'a deletion of an unknown price is applied');
select is(tests.after(array[
  tests.event('customer.created', 1, jsonb_build_object('id', 'cus_3', 'object', 'customer', 'name', 'Cyd', 'metadata', jsonb_build_object('org_id', tests.org('cyd')))),
  tests.event('customer.deleted', 2, '{"id":"cus_3","object":"customer","deleted":true}')
], $$select concat_ws(' ', c.name, c.deleted, c.org_id = tests.org('cyd')) from public.stripe_customers as c where c.id = 'cus_3'$$, seed),
  'Cyd t t', 'a customer deletion without fields keeps the known fields')
from (values (null), (0.1), (0.2), (0.3)) as v (seed);
select is(tests.after(array[
  tests.event('invoice.created', 1, tests.invoice('in_10', 'cus_3', 'sub_3', 'draft')),
  tests.event('invoice.deleted', 2, '{"id":"in_10","object":"invoice","deleted":true}')
], $$select concat_ws(' ', i.customer_id, i.total, i.deleted) from public.stripe_invoices as i where i.id = 'in_10'$$, seed),
  'cus_3 2900 t', 'an invoice deletion without fields keeps the known fields')
from (values (null), (0.1), (0.2), (0.3)) as v (seed);
select is(tests.after(array[tests.event('invoice.created', 1, tests.invoice('in_10', 'cus_3', 'sub_3', 'draft', '{"currency": null}'))],
  $$select concat_ws(' ', i.currency, i.total) from public.stripe_invoices as i where i.id = 'in_10'$$), '2900', 'an invoice may have no currency');

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
select results_eq(format('select tests.quantities(%L, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)', b), array['13'], 'twelve rising updates of one second end at the last, by before-images of: ' || b)
from unnest(array['quantity', 'item', 'all']) as b;
select results_eq(format('select tests.quantities(%L, 1, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)', b), array['2'], 'twelve falling updates of one second end at the last, by before-images of: ' || b)
from unnest(array['quantity', 'item']) as b;
select results_eq(format('select tests.quantities(%L, 1, 2, 3, 1, 2, 3, 4, 3, 2, 3, 4, 5, 3)', b), array['3'], 'updates of one second that repeat a state end at the last, by before-images of: ' || b)
from unnest(array['quantity', 'item']) as b;
select results_eq(format('select tests.quantities(%L, 5, 2, 3, 1, 2, 3, 4, 3, 2, 3, 4, 3, 5)', b), array['5'], 'updates of one second that return to the first state end there, by before-images of: ' || b)
from unnest(array['quantity', 'item']) as b;
select is(
  (select string_agg(distinct tests.after(e, $$select s.items #>> '{0,quantity}' from public.stripe_subscriptions as s where s.id = 'sub_3'$$, n / 100.0), ' ')
   from (select (tests.twelve('item', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))[:5] || (tests.twelve('item', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))[7:] as e) as missing, generate_series(1, 25) as n),
  '10', 'with a missing update, the piece of the path that starts in the past comes first'
);


select * from finish();
rollback;
