-- Stripe's objects and events, small ones (the journeys use recorded ones), and what came of them. Read by stripe*.test.sql.
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
      'id', 'si_' || id, 'object', 'subscription_item', 'quantity', 1, 'current_period_start', tests.second(0), 'current_period_end', tests.second(2592000),
      'price', jsonb_build_object('id', 'price_' || coalesce(key, 'none'), 'product', 'prod_1', 'lookup_key', key)
    )))
  ) || extra
$$;
create function tests.session(
  id text, customer text, subscription text, reference text, payment_status text default 'paid', extra jsonb default '{}'
) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'object', 'checkout.session', 'mode', 'subscription', 'status', 'complete', 'payment_status', payment_status,
    'customer', customer, 'subscription', subscription, 'client_reference_id', reference, 'amount_total', 2900, 'currency', 'eur', 'created', tests.second(0)
  ) || extra
$$;
create function tests.invoice(id text, customer text, subscription text, status text, extra jsonb default '{}') returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'object', 'invoice', 'customer', customer, 'status', status, 'currency', 'eur', 'total', 2900, 'amount_due', 2900,
    'amount_paid', case status when 'paid' then 2900 else 0 end, 'amount_remaining', case status when 'paid' then 0 else 2900 end,
    'attempt_count', 0, 'created', tests.second(0), 'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', subscription))
  ) || extra
$$;
create function tests.item(id text, key text, starts integer, ends integer) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'id', id, 'quantity', 1, 'current_period_start', tests.second(starts), 'current_period_end', tests.second(ends),
    'price', jsonb_build_object('id', 'price_' || key, 'product', 'prod_1', 'lookup_key', key)
  )
$$;
-- As the sidecar does it. Returns the status.
create function tests.send(event jsonb) returns text language plpgsql as $$
declare
  answer text;
begin
  perform tests.act_as_sidecar();
  select i.status || case when i.duplicate then ' again' else '' end into answer from private.stripe_ingest_event(event) as i;
  perform tests.act_as_superuser();
  return answer;
end
$$;
-- The answer of a query after these events, in this order or in a random one; none of it stays.
create function tests.after(events jsonb[], query text, seed double precision default null) returns text language plpgsql as $$
declare
  answer text;
begin
  perform setseed(coalesce(seed, 0));
  begin
    perform tests.send(e.event) from (
      select u.event from unnest(events) with ordinality as u (event, n) order by case when seed is null then u.n else random() end
    ) as e;
    execute query into answer;
    raise exception 'undone' using errcode = 'ZZZZZ';
  exception when sqlstate 'ZZZZZ' then null;
  end;
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
