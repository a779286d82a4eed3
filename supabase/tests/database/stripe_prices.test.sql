-- Prices: who reads them, and how a new lookup key changes the plans of those who use them.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(20);

select tests.sign_up('ada'), tests.sign_up('bob');
select tests.send(e) from unnest(array[
  tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly')),
  tests.event('checkout.session.completed', 2, tests.session('cs_1', 'cus_1', 'sub_1', tests.org('ada')::text))
]) as e;

-- ---- a price of one organization
select is(tests.send(tests.event('price.created', -9, '{"id":"price_pro_monthly","object":"price","product":"prod_1","lookup_key":"teams_monthly","currency":"eur","unit_amount":2900,"active":true,"created":1}')), 'applied', 'a price with the lookup key of another plan is applied');
select is(tests.plan('ada'), 'TEAMS active', 'its subscriber moves to that plan');
select is(tests.executions('ada'), 20000::bigint, 'its subscriber has the new limits at once');
select is(tests.send(tests.event('price.updated', -8, '{"id":"price_pro_monthly","object":"price","product":"prod_1","lookup_key":null,"currency":"eur","unit_amount":2900,"active":false,"created":1}')), 'applied', 'a price that lost its lookup key is applied');
select is(tests.plan('ada'), 'TEAMS active', 'its subscriber keeps the plan');
select tests.act_as('ada');
select results_eq('select id from public.stripe_prices', array['price_pro_monthly'], 'a subscriber reads the price');
select tests.act_as('bob');
select is_empty('select 1 from public.stripe_prices', 'other organizations do not read it');
select tests.act_as_superuser();

-- ---- a price of thirty organizations: the first at once, the others in batches
delete from private.stripe_plan_refreshes; -- whatever waits here already, for the rest of this transaction
select tests.sign_up('many' || n) from generate_series(1, 30) as n;
select tests.send(e) from generate_series(1, 30) as n, unnest(array[
  tests.event('checkout.session.completed', 1, tests.session('cs_many' || n, 'cus_many' || n, 'sub_many' || n, tests.org('many' || n)::text)),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_many' || n, 'cus_many' || n, 'active', 'many_monthly'))
]) as e;
select is((select unplanned from private.stripe_backlog()), 30::bigint, 'the backlog counts running subscriptions whose price names no plan');
create function tests.teams() returns bigint language sql stable security definer as $$
  select count(*) from generate_series(1, 30) as n where tests.plan('many' || n) = 'TEAMS active'
$$;
select is(tests.send(tests.event('price.updated', 5, '{"id":"price_many_monthly","object":"price","product":"prod_1","lookup_key":"teams_monthly","currency":"eur","unit_amount":2900,"active":true,"created":1}')), 'applied', 'a price that thirty organizations use is applied');
select is(tests.teams(), 25::bigint, 'its event moves the first 25 of them');
select is(private.stripe_run_plan_refreshes(), 5, 'the next batch moves the other five');
select is(tests.teams(), 30::bigint, 'all thirty then have the plan');
select is(private.stripe_run_plan_refreshes(), 0, 'no organization is left');
select is((select count(*) from private.stripe_price_changes where price_id = 'price_many_monthly'), 1::bigint, 'the change is checked once more for concurrent subscriptions');
select tests.send(tests.event('price.updated', 6, '{"id":"price_many_monthly","object":"price","product":"prod_1","lookup_key":"teams_monthly","nickname":"many","currency":"eur","unit_amount":2900,"active":true,"created":1}'));
select is((select count(*) from private.stripe_price_changes where price_id = 'price_many_monthly'), 1::bigint, 'a new nickname changes no plan');

-- ---- the second check, when all who may have read the old price have ended
delete from private.stripe_plan_refreshes;
delete from private.stripe_price_changes where price_id <> 'price_many_monthly';
select is(private.stripe_recheck_prices(), 0, 'a new change waits for the transactions of its time');
select ok(c.horizon <= pg_snapshot_xmax(pg_current_snapshot()), 'which are those that run now') from private.stripe_price_changes as c;
-- One of them still runs.
update private.stripe_price_changes as c set horizon = (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1000000)::text::xid8;
-- A second change, whose transactions have ended.
insert into private.stripe_price_changes (price_id, livemode, horizon) values ('price_many_monthly', false, pg_snapshot_xmin(pg_current_snapshot()));
select is(private.stripe_recheck_prices(), 1, 'a change is checked when they have ended');
select is((select count(distinct r.org_id) from private.stripe_plan_refreshes as r), 30::bigint, 'for all who use the price');
select is((select count(*) from private.stripe_price_changes as c where c.horizon is not null), 1::bigint, 'and once; the other change still waits');

select * from finish();
rollback;
