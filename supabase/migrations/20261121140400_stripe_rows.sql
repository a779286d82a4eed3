-- ============================================================================
-- Stripe: from event to row. Each function writes the row of one object from its
-- latest event.
-- ============================================================================

create function private.stripe_upsert_customer(event private.stripe_events) returns void
language plpgsql set search_path = ''
as $$
declare
  o jsonb := event.payload #> '{data,object}';
begin
  insert into public.stripe_customers (id, metadata_org_id, email, name, currency, delinquent, deleted, livemode, event_id, created_at, as_of)
  values (
    event.object_id, private.as_uuid(o #>> '{metadata,org_id}'), o ->> 'email', o ->> 'name', o ->> 'currency',
    (o ->> 'delinquent')::boolean, event.type = 'customer.deleted', event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  )
  on conflict (id, livemode) do update set
    metadata_org_id = excluded.metadata_org_id, email = excluded.email, name = excluded.name, currency = excluded.currency,
    delinquent = excluded.delinquent, deleted = excluded.deleted, event_id = excluded.event_id,
    created_at = excluded.created_at, as_of = excluded.as_of;
end
$$;
comment on function private.stripe_upsert_customer(private.stripe_events) is 'Writes the row of a customer from its latest event.';

create function private.stripe_upsert_checkout(event private.stripe_events) returns void
language plpgsql set search_path = ''
as $$
declare
  o jsonb := event.payload #> '{data,object}';
begin
  insert into public.stripe_checkouts (
    id, org_id, client_reference_id, customer_id, subscription_id, mode, status, payment_status, amount_total, currency,
    livemode, event_id, created_at, as_of
  )
  values (
    event.object_id,
    (select g.id from public.organizations as g where g.id = private.as_uuid(o ->> 'client_reference_id')),
    o ->> 'client_reference_id', private.stripe_id(o -> 'customer'), private.stripe_id(o -> 'subscription'),
    o ->> 'mode', o ->> 'status', coalesce(o ->> 'payment_status', 'unpaid'), (o ->> 'amount_total')::bigint, o ->> 'currency',
    event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  )
  on conflict (id, livemode) do update set
    org_id = excluded.org_id, client_reference_id = excluded.client_reference_id, customer_id = excluded.customer_id,
    subscription_id = excluded.subscription_id, mode = excluded.mode, status = excluded.status,
    payment_status = excluded.payment_status, amount_total = excluded.amount_total, currency = excluded.currency,
    event_id = excluded.event_id, created_at = excluded.created_at, as_of = excluded.as_of;
end
$$;
comment on function private.stripe_upsert_checkout(private.stripe_events) is 'Writes the row of a checkout session from its latest event.';

-- Stable, because it would not be inlined as an immutable one: jsonb_build_object is not.
create function private.stripe_item(item jsonb, subscription jsonb) returns jsonb
language sql stable parallel safe
return jsonb_build_object(
  'id', item ->> 'id',
  -- Older API versions have plans instead of prices, with the same ids.
  'price', coalesce(private.stripe_id(item -> 'price'), private.stripe_id(item -> 'plan')),
  'product', private.stripe_id(coalesce(item #> '{price,product}', item #> '{plan,product}')),
  'quantity', (item ->> 'quantity')::bigint,
  -- The period moved from the subscription to its items with API version 2025-03-31.
  'current_period_start', (coalesce(item ->> 'current_period_start', subscription ->> 'current_period_start'))::bigint,
  'current_period_end', (coalesce(item ->> 'current_period_end', subscription ->> 'current_period_end'))::bigint,
  'lookup_key', item #>> '{price,lookup_key}'
) || case when coalesce(item -> 'tax_rates', '[]') in ('[]', 'null') then '{}'
  else jsonb_strip_nulls(jsonb_build_object('tax_rates', nullif(private.stripe_ids(item -> 'tax_rates'), '{}')))
end;
comment on function private.stripe_item(jsonb, jsonb) is 'An item of a subscription as stripe_subscriptions.items has it.';

-- Statements and calls that can be left out are: each costs some hundredths of the time of an event. In plpgsql, like
-- stripe_paid_for and stripe_nothing_owed, because it keeps the plans of its queries.
create function private.stripe_upsert_subscription(event private.stripe_events) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  o constant jsonb := event.payload #> '{data,object}';
  listed constant jsonb := o #> '{items,data}';
  item jsonb;
  items jsonb;
  base jsonb;
  overdue timestamptz;
  org uuid;
begin
  if jsonb_array_length(listed) = 1 then
    item := listed -> 0;
    items := jsonb_build_array(private.stripe_item(item, o));
  else
    items := (
      select coalesce(jsonb_agg(private.stripe_item(i.value, o) order by i.value ->> 'id' collate "C"), '[]') from jsonb_array_elements(listed) as i
    );
  end if;
  if items @? '$[*] ? (@.lookup_key == null)' then
    -- A price whose lookup key moved to a newer price has none. The key that this subscription's events showed still holds.
    items := (
      select jsonb_agg(case when i.item ->> 'lookup_key' is not null then i.item else i.item || jsonb_build_object('lookup_key', (
        select past_item #>> '{price,lookup_key}'
        from private.stripe_events as past, jsonb_array_elements(past.payload #> '{data,object,items,data}') as past_item
        where past.object_id = event.object_id
          and past.livemode = event.livemode
          and past.status = 'applied'
          and past_item #>> '{price,id}' = i.item ->> 'price'
          and past_item #>> '{price,lookup_key}' is not null
        order by past.rank desc, past.created desc, past.id collate "C" desc
        limit 1
      )) end order by i.n)
      from jsonb_array_elements(items) with ordinality as i (item, n)
    );
  end if;
  if o ->> 'status' = 'past_due' then
    -- Stripe does not say since when. It is the first event of the current run of past_due.
    select min(e.created) into overdue
    from private.stripe_events as e
    where e.object_id = event.object_id
      and e.livemode = event.livemode
      and e.status = 'applied'
      and e.payload #>> '{data,object,status}' = 'past_due'
      and e.created >= coalesce((
        select max(other.created) from private.stripe_events as other
        where other.object_id = event.object_id and other.livemode = event.livemode
          and other.status = 'applied' and other.payload #>> '{data,object,status}' <> 'past_due'
      ), '-infinity');
    overdue := coalesce(overdue, event.created);
  end if;
  if jsonb_array_length(items) < 2 then
    base := items -> 0;
  else
    -- Items may have different periods. That of the plan's item counts, or without a plan the one that ends last.
    select i.item into base
    from jsonb_array_elements(items) as i (item)
    left join public.plans as p on p.code = upper(split_part(i.item ->> 'lookup_key', '_', 1))
    order by p.rank desc nulls last, (i.item ->> 'current_period_end')::bigint desc nulls last, i.item ->> 'id' collate "C"
    limit 1;
  end if;

  insert into public.stripe_subscriptions as s (
    id, metadata_org_id, customer_id, status, items, collection_method, current_period_start, current_period_end,
    cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end, past_due_since, latest_invoice_id,
    tax_rate_ids, livemode, event_id, created_at, as_of
  )
  values (
    event.object_id, private.as_uuid(o #>> '{metadata,org_id}'), private.stripe_id(o -> 'customer'), o ->> 'status',
    items, o ->> 'collection_method',
    private.stripe_time(case when base is null then o else base end -> 'current_period_start'),
    private.stripe_time(case when base is null then o else base end -> 'current_period_end'),
    coalesce((o ->> 'cancel_at_period_end')::boolean, false), private.stripe_time(o -> 'cancel_at'),
    private.stripe_time(o -> 'canceled_at'), private.stripe_time(o -> 'ended_at'), private.stripe_time(o -> 'trial_end'),
    overdue, private.stripe_id(o -> 'latest_invoice'),
    case when coalesce(o -> 'default_tax_rates', '[]') in ('[]', 'null') then '{}' else private.stripe_ids(o -> 'default_tax_rates') end,
    event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  )
  on conflict (id, livemode) do update set
    metadata_org_id = excluded.metadata_org_id, customer_id = excluded.customer_id, status = excluded.status,
    items = excluded.items, collection_method = excluded.collection_method,
    current_period_start = excluded.current_period_start, current_period_end = excluded.current_period_end,
    cancel_at_period_end = excluded.cancel_at_period_end, cancel_at = excluded.cancel_at, canceled_at = excluded.canceled_at,
    ended_at = excluded.ended_at, trial_end = excluded.trial_end, past_due_since = excluded.past_due_since,
    latest_invoice_id = excluded.latest_invoice_id, tax_rate_ids = excluded.tax_rate_ids, event_id = excluded.event_id,
    created_at = excluded.created_at, as_of = excluded.as_of
  returning s.org_id into org;
  return org;
end
$$;
comment on function private.stripe_upsert_subscription(private.stripe_events) is 'Writes the row of a subscription from its latest event, and returns the organization that the row has so far. Nullable: result.';

create function private.stripe_upsert_price(event private.stripe_events) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  o jsonb := event.payload #> '{data,object}';
  former text;
  present text;
begin
  select p.lookup_key into former from public.stripe_prices as p where p.id = event.object_id and p.livemode = event.livemode;
  insert into public.stripe_prices (
    id, product_id, lookup_key, nickname, currency, unit_amount, recurring_interval, recurring_interval_count, active, deleted,
    livemode, event_id, created_at, as_of
  )
  values (
    event.object_id, private.stripe_id(o -> 'product'),
    coalesce(o ->> 'lookup_key', (
      select past.payload #>> '{data,object,lookup_key}' from private.stripe_events as past
      where past.object_id = event.object_id and past.livemode = event.livemode and past.status = 'applied'
        and past.payload #>> '{data,object,lookup_key}' is not null
      order by past.rank desc, past.created desc, past.id collate "C" desc
      limit 1
    )),
    o ->> 'nickname', o ->> 'currency', (o ->> 'unit_amount')::bigint, o #>> '{recurring,interval}',
    (o #>> '{recurring,interval_count}')::integer, coalesce((o ->> 'active')::boolean, false), event.type = 'price.deleted',
    event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  )
  on conflict (id, livemode) do update set
    product_id = excluded.product_id, lookup_key = excluded.lookup_key, nickname = excluded.nickname, currency = excluded.currency,
    unit_amount = excluded.unit_amount, recurring_interval = excluded.recurring_interval,
    recurring_interval_count = excluded.recurring_interval_count, active = excluded.active, deleted = excluded.deleted,
    event_id = excluded.event_id, created_at = excluded.created_at, as_of = excluded.as_of
  returning lookup_key into present;
  if present is distinct from former then
    perform private.stripe_change_price(event.object_id, event.livemode);
  end if;
end
$$;
comment on function private.stripe_upsert_price(private.stripe_events) is 'Writes the row of a price from its latest event.';
