-- How states of Stripe's objects are compared, and what the events of one object say of it beside those of others.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

-- ---- the fields that an update names
select is(private.stripe_masked(o, m), wanted, format('%s by %s', o, m))
from (values
  ('{"a": {"b": 1}, "c": 2}'::jsonb, '{"a": true}'::jsonb, '{"a": {"b": 1}}'::jsonb), ('{"a": 1}', '{"a": {"b": true}}', '{"a": 1}'),
  ('{"a": {"b": 1, "c": 2}}', '{"a": {"b": true}, "d": true}', '{"a": {"b": 1}}')
) as v (o, m, wanted);
select is(private.stripe_add_fields(m, b), wanted, format('%s and %s', m, b))
from (values
  ('{}'::jsonb, '{"a": {"b": 1}, "c": 2}'::jsonb, '{"a": {"b": true}, "c": true}'::jsonb), ('{"a": true}', '{"a": {"b": 1}}', '{"a": true}'),
  ('{"a": {"b": true}}', '{"a": 5}', '{"a": true}'), ('{"a": {"b": true}}', '{"a": {"c": 1}}', '{"a": {"b": true, "c": true}}')
) as v (m, b, wanted);
select is(private.stripe_deep_merge(o, b), wanted, format('%s before %s', o, b))
from (values
  ('{"a": 1, "x": 9}'::jsonb, '{"a": {"b": 2}}'::jsonb, '{"a": {"b": 2}, "x": 9}'::jsonb), ('{"a": {"b": 1, "c": 2}}', '{"a": {"b": 3}}', '{"a": {"b": 3, "c": 2}}'),
  ('{"a": {"b": 1}}', '{"a": null}', '{"a": null}'), ('{"a": 1}', '{"a": [1]}', '{"a": [1]}'), ('{"a": [1]}', '{"a": 2}', '{"a": 2}'),
  ('{"l": [{"id": "x", "q": 1, "n": 5}, {"id": "z", "q": 4}]}', '{"l": [{"id": "x", "q": 2}, {"id": "y", "q": 3}]}', '{"l": [{"id": "x", "q": 2, "n": 5}, {"id": "y", "q": 3}]}'),
  ('{"l": [{"id": "x", "q": 1, "n": 5}]}', '{"l": [{"id": "x", "object": "item", "q": 9}]}', '{"l": [{"id": "x", "object": "item", "q": 9}]}')
) as v (o, b, wanted);
select is(private.stripe_sort_key(o), wanted, o::text)
from (values
  ('{}'::jsonb, '{0,0,0,0}'::numeric[]),
  ('{"attempt_count": 2, "status_transitions": {"paid_at": 5, "finalized_at": 9, "voided_at": 7}, "current_period_start": 4, "amount_paid": 3}', '{2,9,4,3}'),
  ('{"items": {"data": [{"current_period_start": 4}, {"current_period_start": 6}]}}', '{0,0,6,0}'),
  ('{"current_period_start": 4, "items": {"data": [{"current_period_start": 6}]}}', '{0,0,4,0}')
) as v (o, wanted);

-- ---- steps from state to state: where they end, and what can be reached
select is((select array_agg(e order by e) from unnest(private.stripe_path_ends(before, after)) as e), wanted, format('from %s to %s ends at', before, after))
from (values
  ('{1,2}'::jsonb[], '{2,3}'::jsonb[], '{3}'::jsonb[]), ('{1,2}', '{2,1}', null), ('{null,1}', '{9,2}', '{2}'), ('{1,5}', '{2,6}', '{2,6}')
) as v (before, after, wanted);
select is((select array_agg(e order by e) from unnest(private.stripe_path_from(start, before, after)) as e), wanted, format('%s reaches', start))
from (values ('1'::jsonb, '{1,2,5}'::jsonb[], '{2,3,6}'::jsonb[], '{1,2,3}'::jsonb[]), ('7', '{1,2,5}', '{2,3,6}', '{7}'), (null, '{1}', '{2}', null), ('1', '{1,2}', '{2,1}', '{1,2}')) as v (start, before, after, wanted);

-- ---- since when a subscription is past due: its own events of this mode, from the second in which it was last anything else
select tests.sign_up('ada'), tests.sign_up('bob');
create function tests.state(second integer, status text, id text default 'sub_p', before jsonb default null) returns jsonb language sql as $$
  select tests.event('customer.subscription.updated', second, tests.subscription(state.id, 'cus_' || state.id, status, 'pro_monthly'), before)
$$;
select is(tests.after(array[
  tests.state(1, 'active'), tests.state(10, 'past_due'), tests.state(20, 'active'), tests.state(20, 'past_due', before => '{"status": "active"}'), tests.state(30, 'past_due'),
  tests.state(5, 'past_due', 'sub_o'), tests.state(40, 'active', 'sub_o'), tests.state(45, 'active') || '{"livemode": true}',
  tests.event('customer.subscription.updated', 50, tests.subscription('sub_p', 'cus_sub_p', 'past_due', 'pro_monthly', '{"latest_invoice": "in_2"}'))
], $$select extract(epoch from s.past_due_since)::bigint - tests.second(0) from public.stripe_subscriptions as s where s.id = 'sub_p' and not s.livemode$$), '20', 'past due since');

-- ---- what was paid outside Stripe is an amount, and 0 is none
select is(tests.after(array[tests.event('invoice.paid', 1, tests.invoice('in_z', 'cus_z', 'sub_z', 'paid', paid))], $$select i.paid_out_of_band::text from public.stripe_invoices as i where i.id = 'in_z'$$), wanted, paid::text)
from (values ('{"amount_paid_off_stripe": 0}'::jsonb, 'false'), ('{"amount_paid_off_stripe": 1}', 'true'), ('{"paid_out_of_band": true}', 'true'), ('{}', 'false')) as v (paid, wanted);

-- ---- the key of a price without one: what this subscription's own events of this mode and price showed
create function tests.keyless(id text, price text) returns jsonb language sql as $$
  select tests.subscription(keyless.id, 'cus_' || keyless.id, 'active', null, jsonb_build_object(
    'metadata', jsonb_build_object('org_id', tests.org('ada')),
    'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_k', 'quantity', 1, 'price', jsonb_build_object('id', price, 'lookup_key', null))))
  ))
$$;
select is(tests.after(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_o', 'cus_o', 'active', 'pro_monthly')),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_k', 'cus_k', 'active', 'teams_monthly')),
  tests.event('customer.subscription.updated', 1, tests.subscription('sub_k', 'cus_k', 'active', 'pro_monthly')) || '{"livemode": true}',
  tests.event('customer.subscription.updated', 2, tests.keyless('sub_k', 'price_' || key))
], $$select coalesce(s.items #>> '{0,lookup_key}', 'none') from public.stripe_subscriptions as s where s.id = 'sub_k' and not s.livemode$$), wanted, 'the price ' || key)
from (values ('teams_monthly', 'teams_monthly'), ('pro_monthly', 'none')) as v (key, wanted);
create function tests.price(id text, key text) returns jsonb language sql as $$
  select jsonb_build_object('id', price.id, 'object', 'price', 'product', 'prod_1', 'lookup_key', key, 'currency', 'eur', 'unit_amount', 1, 'active', true, 'created', 1)
$$;
select is(tests.after(array[
  tests.event('price.created', 1, tests.price('price_a', 'pro_monthly')), tests.event('price.created', 1, tests.price('price_b', 'teams_monthly')) || '{"livemode": true}',
  tests.event('price.created', 2, tests.price('price_b', null)), tests.event('price.updated', 3, tests.price('price_a', null))
], $$select string_agg(concat_ws(':', p.id, p.lookup_key), ' ' order by p.id) from public.stripe_prices as p where p.id in ('price_a', 'price_b') and not p.livemode$$),
  'price_a:pro_monthly price_b', 'a price keeps its own key, and gets nobody else''s');

-- ---- an organization whose plan cannot be read again is tried later, and later each time
create function tests.obstruct() returns trigger language plpgsql as $$ begin raise exception 'in the way' using errcode = 'XX001'; end $$;
update public.subscriptions set plan = 'PRO' where org_id in (tests.org('ada'), tests.org('bob'));
create trigger obstruct before update on public.subscriptions for each row when (new.org_id is not null) execute function tests.obstruct();
delete from private.stripe_plan_refreshes;
insert into private.stripe_plan_refreshes (org_id, attempts) select tests.org('ada'), n from unnest('{0,3,9,12}'::integer[]) as n;
insert into private.stripe_plan_refreshes (org_id, due_at) values (tests.org('bob'), clock_timestamp() + interval '1 hour');
select is(private.stripe_run_plan_refreshes(), 4, 'those that are due');
select results_eq(
  $$select r.attempts, r.error_code, round(extract(epoch from r.due_at - clock_timestamp()) / 60) from private.stripe_plan_refreshes as r where r.org_id = tests.org('ada') order by 1$$,
  $$values (1, 'XX001', 1::numeric), (4, 'XX001', 8), (10, 'XX001', 360), (13, 'XX001', 360)$$, 'after twice the time, at most six hours'
);
drop trigger obstruct on public.subscriptions;

-- ---- only who has been past due for longer than the grace is looked at when it ends
select tests.sign_up('cyd'), tests.sign_up('dan');
select tests.send(e) from unnest(array['cyd', 'dan']) as who, unnest(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_' || who, 'cus_' || who, 'active', 'pro_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org(who))))),
  tests.event('invoice.paid', 2, tests.invoice('in_' || who, 'cus_' || who, 'sub_' || who, 'paid')),
  tests.event('customer.subscription.updated', 10, tests.subscription('sub_' || who, 'cus_' || who, 'past_due', 'pro_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org(who)))), '{"status": "active"}')
]) as e;
update public.stripe_subscriptions as s set past_due_since = kijko.now() - private.stripe_grace() + step
from (values ('sub_cyd', interval '0'), ('sub_dan', interval '1 microsecond')) as v (id, step) where s.id = v.id and not s.livemode;
select is(private.stripe_expire_grace(), 1, 'of two the one whose grace is over');
select is(tests.plan('cyd') || ', ' || tests.plan('dan'), 'FREE past_due, PRO past_due', 'and the other keeps the plan to the microsecond');

-- ---- a change of a price waits for the transactions of its time, and is not put off again
delete from private.stripe_price_changes;
insert into private.stripe_price_changes (price_id, livemode, horizon) values ('price_a', false, null), ('price_b', false, '9223372036854775807');
select is(private.stripe_recheck_prices(), 0, 'none is checked yet');
select is((select array_agg(c.horizon = '9223372036854775807' order by c.price_id) from private.stripe_price_changes as c), '{f,t}', 'the new one gets its horizon, and the other keeps it');

select * from finish();
rollback;
