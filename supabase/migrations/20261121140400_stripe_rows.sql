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

-- In plpgsql, like stripe_paid_for and stripe_nothing_owed, because it keeps the plans of its queries. As SQL functions the
-- three planned their queries in each call, which took a quarter of the time of an event.
create function private.stripe_items(event private.stripe_events) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(jsonb_agg(
      jsonb_build_object(
        'id', item ->> 'id',
        'price', price.id,
        'product', private.stripe_id(coalesce(item #> '{price,product}', item #> '{plan,product}')),
        'quantity', (item ->> 'quantity')::bigint,
        -- The period moved from the subscription to its items with API version 2025-03-31.
        'current_period_start', (coalesce(item ->> 'current_period_start', event.payload #>> '{data,object,current_period_start}'))::bigint,
        'current_period_end', (coalesce(item ->> 'current_period_end', event.payload #>> '{data,object,current_period_end}'))::bigint,
        -- A price whose lookup key moved to a newer price has none. The key that this subscription's events showed still holds.
        'lookup_key', coalesce(item #>> '{price,lookup_key}', (
          select past_item #>> '{price,lookup_key}'
          from private.stripe_events as past, jsonb_array_elements(past.payload #> '{data,object,items,data}') as past_item
          where past.object_id = event.object_id
            and past.livemode = event.livemode
            and past.status = 'applied'
            and past_item #>> '{price,id}' = price.id
            and past_item #>> '{price,lookup_key}' is not null
          order by past.rank desc, past.created desc, past.id collate "C" desc
          limit 1
        ))
      ) || case cardinality(private.stripe_ids(item -> 'tax_rates'))
        when 0 then '{}' else jsonb_build_object('tax_rates', to_jsonb(private.stripe_ids(item -> 'tax_rates')))
      end order by item ->> 'id' collate "C"
    ), '[]')
    from jsonb_array_elements(event.payload #> '{data,object,items,data}') as item
    cross join lateral (
      -- Older API versions have plans instead of prices, with the same ids.
      select coalesce(private.stripe_id(item -> 'price'), private.stripe_id(item -> 'plan')) as id
    ) as price
  );
end
$$;
comment on function private.stripe_items(private.stripe_events) is 'The items of a subscription from its event, for stripe_subscriptions.items.';

create function private.stripe_upsert_subscription(event private.stripe_events) returns void
language plpgsql set search_path = ''
as $$
declare
  o jsonb := event.payload #> '{data,object}';
  items jsonb := private.stripe_items(event);
  overdue timestamptz;
begin
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

  insert into public.stripe_subscriptions (
    id, metadata_org_id, customer_id, status, items, collection_method, current_period_start, current_period_end,
    cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end, past_due_since, latest_invoice_id,
    tax_rate_ids, livemode, event_id, created_at, as_of
  )
  select
    event.object_id, private.as_uuid(o #>> '{metadata,org_id}'), private.stripe_id(o -> 'customer'), o ->> 'status',
    items, o ->> 'collection_method',
    case when period.found then private.stripe_time(period.item -> 'current_period_start')
      else private.stripe_time(o -> 'current_period_start') end,
    case when period.found then private.stripe_time(period.item -> 'current_period_end')
      else private.stripe_time(o -> 'current_period_end') end,
    coalesce((o ->> 'cancel_at_period_end')::boolean, false), private.stripe_time(o -> 'cancel_at'),
    private.stripe_time(o -> 'canceled_at'), private.stripe_time(o -> 'ended_at'), private.stripe_time(o -> 'trial_end'),
    overdue, private.stripe_id(o -> 'latest_invoice'), private.stripe_ids(o -> 'default_tax_rates'),
    event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  from (select) as once
  left join lateral (
    -- Items may have different periods. That of the plan's item counts, or without a plan the one that ends last.
    select true as found, item
    from jsonb_array_elements(items) as item
    left join public.plans as p on p.code = upper(split_part(item ->> 'lookup_key', '_', 1))
    order by p.rank desc nulls last, (item ->> 'current_period_end')::bigint desc nulls last, item ->> 'id' collate "C"
    limit 1
  ) as period on true
  on conflict (id, livemode) do update set
    metadata_org_id = excluded.metadata_org_id, customer_id = excluded.customer_id, status = excluded.status,
    items = excluded.items, collection_method = excluded.collection_method,
    current_period_start = excluded.current_period_start, current_period_end = excluded.current_period_end,
    cancel_at_period_end = excluded.cancel_at_period_end, cancel_at = excluded.cancel_at, canceled_at = excluded.canceled_at,
    ended_at = excluded.ended_at, trial_end = excluded.trial_end, past_due_since = excluded.past_due_since,
    latest_invoice_id = excluded.latest_invoice_id, tax_rate_ids = excluded.tax_rate_ids, event_id = excluded.event_id,
    created_at = excluded.created_at, as_of = excluded.as_of;
end
$$;
comment on function private.stripe_upsert_subscription(private.stripe_events) is 'Writes the row of a subscription from its latest event.';

create function private.stripe_upsert_invoice(event private.stripe_events) returns public.stripe_invoices
language plpgsql set search_path = ''
as $$
declare
  o jsonb := event.payload #> '{data,object}';
  customer text := private.stripe_id(o -> 'customer');
  subscription text := private.stripe_invoice_subscription(o);
  written public.stripe_invoices;
begin
  insert into public.stripe_invoices (
    id, org_id, customer_id, subscription_id, number, status, currency, total, tax, amount_due, amount_paid, paid_out_of_band,
    amount_remaining, attempt_count, billing_reason, hosted_invoice_url, invoice_pdf, period_start, period_end, due_date, paid_at,
    deleted, livemode, event_id, created_at, as_of
  )
  values (
    event.object_id,
    coalesce(
      (select s.org_id from public.stripe_subscriptions as s where s.id = subscription and s.livemode = event.livemode),
      (select c.org_id from public.stripe_customers as c where c.id = customer and c.livemode = event.livemode)
    ),
    customer, subscription,
    o ->> 'number', o ->> 'status', o ->> 'currency',
    coalesce((o ->> 'total')::bigint, 0), private.stripe_invoice_tax(o), coalesce((o ->> 'amount_due')::bigint, 0), coalesce((o ->> 'amount_paid')::bigint, 0),
    -- An amount since API version 2025-03-31, a flag before.
    coalesce((o ->> 'amount_paid_off_stripe')::bigint > 0, (o ->> 'paid_out_of_band')::boolean, false),
    coalesce((o ->> 'amount_remaining')::bigint, 0), coalesce((o ->> 'attempt_count')::integer, 0),
    o ->> 'billing_reason', o ->> 'hosted_invoice_url', o ->> 'invoice_pdf', private.stripe_time(o -> 'period_start'),
    private.stripe_time(o -> 'period_end'), private.stripe_time(o -> 'due_date'), private.stripe_time(o #> '{status_transitions,paid_at}'),
    event.type = 'invoice.deleted', event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  )
  on conflict (id, livemode) do update set
    org_id = excluded.org_id, customer_id = excluded.customer_id, subscription_id = excluded.subscription_id, number = excluded.number,
    status = excluded.status, currency = excluded.currency, total = excluded.total, tax = excluded.tax, amount_due = excluded.amount_due,
    amount_paid = excluded.amount_paid, paid_out_of_band = excluded.paid_out_of_band,
    amount_remaining = excluded.amount_remaining, attempt_count = excluded.attempt_count,
    billing_reason = excluded.billing_reason, hosted_invoice_url = excluded.hosted_invoice_url, invoice_pdf = excluded.invoice_pdf,
    period_start = excluded.period_start, period_end = excluded.period_end, due_date = excluded.due_date, paid_at = excluded.paid_at,
    deleted = excluded.deleted, event_id = excluded.event_id,
    created_at = excluded.created_at, as_of = excluded.as_of
  returning stripe_invoices.* into written;
  return written;
end
$$;
comment on function private.stripe_upsert_invoice(private.stripe_events) is 'Writes the row of an invoice from its latest event, and returns it.';

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
