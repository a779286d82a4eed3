-- ============================================================================
-- Stripe: what an organization pays for, as Stripe tells it.
--
-- Stripe delivers events late, twice and in any order, and stamps them to the second.
-- So nothing here depends on arrival: each mirrored row is a function of the *set* of
-- stored events about its object, and everything derived (whose it is, which plan
-- follows) is a function of those rows. Applying an event again changes nothing.
--
-- Which event of an object is the latest, in this order:
--   1. rank: how far the object's life has gone. It only grows in a real history
--      ("incomplete" never comes back, "canceled", "paid" and deletions are final).
--   2. created, in seconds.
--   3. within one second, Stripe's own before-images: previous_attributes says which
--      state an update left, its object which state it reached. So the updates are the
--      edges of one trail through all states, and its end is the state that is reached
--      more often than left; private.stripe_end_of_second().
--   4. counters and times inside the object; at last the event id, so that the
--      answer is always the same one.
--
-- Test mode and live mode are two worlds: every key and every join has the mode, since
-- an id of one can be an id of the other.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Events
-- ----------------------------------------------------------------------------

create table private.stripe_events (
  id text not null check (id ~ '^evt_[A-Za-z0-9_]{1,250}$'),
  type text not null check (char_length(type) between 1 and 200),
  created timestamptz not null,
  api_version text check (char_length(api_version) <= 100),
  livemode boolean not null,
  object_id text check (char_length(object_id) <= 300),
  object_type text check (char_length(object_type) <= 200),
  rank smallint not null,
  payload jsonb not null,
  received_at timestamptz not null default now(),
  status text not null check (status in ('applied', 'failed', 'ignored')),
  attempts integer not null check (attempts >= 0),
  error_code text check (char_length(error_code) <= 5),
  error text check (char_length(error) <= 2000),
  applied_at timestamptz,
  next_attempt_at timestamptz,
  primary key (id, livemode),
  check ((status = 'applied') = (applied_at is not null)),
  check ((status = 'failed') = (error_code is not null)),
  check (status = 'ignored' or object_id is not null)
);

create index stripe_events_object_idx on private.stripe_events (object_id, livemode, rank desc, created desc);
create index stripe_events_failed_idx on private.stripe_events (created, id) where status = 'failed';
create index stripe_events_ignored_idx on private.stripe_events (received_at) where status = 'ignored';

comment on table private.stripe_events is 'Every event that Stripe has delivered, once, with what became of it. Times are of the real clock.';
comment on column private.stripe_events.id is 'Stripe''s id; unique together with livemode, so that a redelivered event is stored once.';
comment on column private.stripe_events.type is 'Such as customer.subscription.updated.';
comment on column private.stripe_events.created is 'When it happened, by Stripe''s clock; in whole seconds unless it is a thin event.';
comment on column private.stripe_events.api_version is 'Version of the API that shaped the payload.';
comment on column private.stripe_events.livemode is 'False for Stripe''s test mode; absent means false.';
comment on column private.stripe_events.object_id is 'The object it is about.';
comment on column private.stripe_events.object_type is 'customer, subscription, invoice, price or checkout.session; others are ignored.';
comment on column private.stripe_events.rank is 'How far the object''s life has gone; private.stripe_rank().';
comment on column private.stripe_events.payload is 'The event as received; its signature was verified by the sidecar.';
comment on column private.stripe_events.received_at is 'When it was stored first.';
comment on column private.stripe_events.status is 'applied: the rows follow it. failed: kept and tried again, see error. ignored: not about anything we mirror.';
comment on column private.stripe_events.attempts is 'How often applying was tried.';
comment on column private.stripe_events.error_code is 'SQLSTATE of the last failure.';
comment on column private.stripe_events.error is 'Last failure in words.';
comment on column private.stripe_events.applied_at is 'When it was applied.';
comment on column private.stripe_events.next_attempt_at is 'When a failed event is tried again; null once given up.';

alter table private.stripe_events enable row level security;
revoke all on private.stripe_events from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Mirrored rows. org_id is null until an event says whose the object is; then the row
-- belongs to nobody and nobody sees it. No foreign keys between them: an invoice may
-- arrive before its customer.
-- ----------------------------------------------------------------------------

create table public.stripe_customers (
  id text not null,
  org_id uuid references public.organizations (id) on delete set null,
  metadata_org_id uuid,
  email text,
  name text,
  currency text,
  delinquent boolean,
  deleted boolean not null default false,
  livemode boolean not null,
  event_id text,
  created_at timestamptz,
  as_of timestamptz,
  primary key (id, livemode),
  -- Stripe's own limits are lower; a value that is not Stripe's goes no further.
  check (greatest(
    char_length(id), char_length(email), char_length(name), char_length(currency), char_length(event_id)
  ) <= 5000)
);
create index stripe_customers_org_id_idx on public.stripe_customers (org_id);

comment on table public.stripe_customers is 'Customers in Stripe; one without an event of its own is known by its id alone. Written only by functions.';
comment on column public.stripe_customers.id is 'Stripe''s id.';
comment on column public.stripe_customers.org_id is 'Organization that it pays for; null while unknown.';
comment on column public.stripe_customers.metadata_org_id is 'metadata.org_id, if it was given.';
comment on column public.stripe_customers.email is 'Billing address for mail.';
comment on column public.stripe_customers.name is 'Billing name.';
comment on column public.stripe_customers.currency is 'Currency that it is billed in.';
comment on column public.stripe_customers.delinquent is 'Whether its latest invoice is overdue.';
comment on column public.stripe_customers.deleted is 'Deleted in Stripe; kept for its invoices.';
comment on column public.stripe_customers.livemode is 'False for Stripe''s test mode.';
comment on column public.stripe_customers.event_id is 'Event that the row shows.';
comment on column public.stripe_customers.created_at is 'When it was made in Stripe.';
comment on column public.stripe_customers.as_of is 'Time of the event that the row shows.';

create table public.stripe_checkouts (
  id text not null,
  org_id uuid references public.organizations (id) on delete set null,
  client_reference_id text,
  customer_id text,
  subscription_id text,
  mode text,
  status text,
  payment_status text not null,
  amount_total bigint,
  currency text,
  livemode boolean not null,
  event_id text not null,
  created_at timestamptz not null,
  as_of timestamptz not null,
  primary key (id, livemode),
  -- Stripe's own limits are lower; a value that is not Stripe's goes no further.
  check (greatest(
    char_length(id), char_length(client_reference_id), char_length(customer_id), char_length(subscription_id),
    char_length(mode), char_length(status), char_length(payment_status), char_length(currency),
    char_length(event_id)
  ) <= 5000)
);
create index stripe_checkouts_org_id_idx on public.stripe_checkouts (org_id);
create index stripe_checkouts_customer_id_idx on public.stripe_checkouts (customer_id);
create index stripe_checkouts_subscription_id_idx on public.stripe_checkouts (subscription_id);

comment on table public.stripe_checkouts is 'Checkout sessions: they say which organization a customer pays for, and whether the money came. Written only by functions.';
comment on column public.stripe_checkouts.id is 'Stripe''s id.';
comment on column public.stripe_checkouts.org_id is 'Organization; null while unknown.';
comment on column public.stripe_checkouts.client_reference_id is 'The organization''s id, as given when the session was made.';
comment on column public.stripe_checkouts.customer_id is 'Customer.';
comment on column public.stripe_checkouts.subscription_id is 'Subscription that it started.';
comment on column public.stripe_checkouts.mode is 'payment, setup or subscription.';
comment on column public.stripe_checkouts.status is 'open, complete or expired.';
comment on column public.stripe_checkouts.payment_status is 'paid, unpaid (settles later or failed) or no_payment_required.';
comment on column public.stripe_checkouts.amount_total is 'Total in the smallest unit of the currency.';
comment on column public.stripe_checkouts.currency is 'Currency.';
comment on column public.stripe_checkouts.livemode is 'False for Stripe''s test mode.';
comment on column public.stripe_checkouts.event_id is 'Event that the row shows.';
comment on column public.stripe_checkouts.created_at is 'When it was made in Stripe.';
comment on column public.stripe_checkouts.as_of is 'Time of the event that the row shows.';

create table public.stripe_subscriptions (
  id text not null,
  org_id uuid references public.organizations (id) on delete set null,
  metadata_org_id uuid,
  customer_id text not null,
  status text not null,
  items jsonb not null check (jsonb_typeof(items) = 'array'),
  collection_method text,
  current_period_start timestamptz,
  current_period_end timestamptz,
  cancel_at_period_end boolean not null,
  cancel_at timestamptz,
  canceled_at timestamptz,
  ended_at timestamptz,
  trial_end timestamptz,
  past_due_since timestamptz,
  latest_invoice_id text,
  livemode boolean not null,
  event_id text not null,
  created_at timestamptz not null,
  as_of timestamptz not null,
  primary key (id, livemode),
  -- Stripe's own limits are lower; a value that is not Stripe's goes no further.
  check (greatest(
    char_length(id), char_length(customer_id), char_length(status), char_length(collection_method),
    char_length(latest_invoice_id), char_length(event_id)
  ) <= 5000)
);
create index stripe_subscriptions_org_id_idx on public.stripe_subscriptions (org_id);
create index stripe_subscriptions_customer_id_idx on public.stripe_subscriptions (customer_id);
create index stripe_subscriptions_items_idx on public.stripe_subscriptions using gin (items jsonb_path_ops);
create index stripe_subscriptions_past_due_idx on public.stripe_subscriptions (past_due_since) where status = 'past_due';

comment on table public.stripe_subscriptions is 'Subscriptions in Stripe; what follows for the plan is in subscriptions. Written only by functions.';
comment on column public.stripe_subscriptions.id is 'Stripe''s id.';
comment on column public.stripe_subscriptions.org_id is 'Organization; null while unknown.';
comment on column public.stripe_subscriptions.metadata_org_id is 'metadata.org_id, if it was given.';
comment on column public.stripe_subscriptions.customer_id is 'Customer.';
comment on column public.stripe_subscriptions.status is 'Stripe''s word: incomplete, incomplete_expired, trialing, active, past_due, canceled, unpaid or paused.';
comment on column public.stripe_subscriptions.items is 'What is subscribed to: id, price, product, lookup_key, quantity, current_period_start and current_period_end (in seconds), by id.';
comment on column public.stripe_subscriptions.collection_method is 'charge_automatically or send_invoice.';
comment on column public.stripe_subscriptions.current_period_start is 'Start of the current period of the item that gives the plan.';
comment on column public.stripe_subscriptions.current_period_end is 'End of the current period of the item that gives the plan.';
comment on column public.stripe_subscriptions.cancel_at_period_end is 'Ends with the current period.';
comment on column public.stripe_subscriptions.cancel_at is 'When it is going to end.';
comment on column public.stripe_subscriptions.canceled_at is 'When ending it was asked for.';
comment on column public.stripe_subscriptions.ended_at is 'When it ended.';
comment on column public.stripe_subscriptions.trial_end is 'End of the trial.';
comment on column public.stripe_subscriptions.past_due_since is 'Since when a payment has been missing; private.stripe_grace() counts from here.';
comment on column public.stripe_subscriptions.latest_invoice_id is 'Latest invoice.';
comment on column public.stripe_subscriptions.livemode is 'False for Stripe''s test mode.';
comment on column public.stripe_subscriptions.event_id is 'Event that the row shows.';
comment on column public.stripe_subscriptions.created_at is 'When it was made in Stripe.';
comment on column public.stripe_subscriptions.as_of is 'Time of the event that the row shows.';

create table public.stripe_invoices (
  id text not null,
  org_id uuid references public.organizations (id) on delete set null,
  customer_id text,
  subscription_id text,
  number text,
  status text,
  currency text,
  total bigint not null,
  amount_due bigint not null,
  amount_paid bigint not null,
  paid_out_of_band boolean not null,
  amount_remaining bigint not null,
  attempt_count integer not null,
  billing_reason text,
  hosted_invoice_url text,
  invoice_pdf text,
  period_start timestamptz,
  period_end timestamptz,
  due_date timestamptz,
  paid_at timestamptz,
  deleted boolean not null,
  livemode boolean not null,
  event_id text not null,
  created_at timestamptz,
  as_of timestamptz not null,
  primary key (id, livemode),
  -- Stripe's own limits are lower; a value that is not Stripe's goes no further.
  check (greatest(
    char_length(id), char_length(customer_id), char_length(subscription_id), char_length(number),
    char_length(status), char_length(currency), char_length(billing_reason), char_length(hosted_invoice_url),
    char_length(invoice_pdf), char_length(event_id)
  ) <= 5000)
);
create index stripe_invoices_org_id_idx on public.stripe_invoices (org_id, created_at desc);
create index stripe_invoices_customer_id_idx on public.stripe_invoices (customer_id);
create index stripe_invoices_subscription_id_idx on public.stripe_invoices (subscription_id);

comment on table public.stripe_invoices is 'Invoices in Stripe. Written only by functions.';
comment on column public.stripe_invoices.id is 'Stripe''s id.';
comment on column public.stripe_invoices.org_id is 'Organization; null while unknown.';
comment on column public.stripe_invoices.customer_id is 'Customer.';
comment on column public.stripe_invoices.subscription_id is 'Subscription that it bills, if any.';
comment on column public.stripe_invoices.number is 'Number on the invoice; null while a draft.';
comment on column public.stripe_invoices.status is 'draft, open, paid, void or uncollectible.';
comment on column public.stripe_invoices.currency is 'Currency; null when Stripe did not say.';
comment on column public.stripe_invoices.total is 'Total in the smallest unit of the currency.';
comment on column public.stripe_invoices.amount_due is 'What is asked for.';
comment on column public.stripe_invoices.amount_paid is 'What was paid.';
comment on column public.stripe_invoices.paid_out_of_band is 'The money came outside of Stripe, as by bank transfer.';
comment on column public.stripe_invoices.amount_remaining is 'What is left to pay.';
comment on column public.stripe_invoices.attempt_count is 'How often collecting was tried.';
comment on column public.stripe_invoices.billing_reason is 'Such as subscription_create or subscription_cycle.';
comment on column public.stripe_invoices.hosted_invoice_url is 'Page where it can be paid.';
comment on column public.stripe_invoices.invoice_pdf is 'The document.';
comment on column public.stripe_invoices.period_start is 'Start of the time that it bills.';
comment on column public.stripe_invoices.period_end is 'End of the time that it bills.';
comment on column public.stripe_invoices.due_date is 'When it is due, when sent by mail.';
comment on column public.stripe_invoices.paid_at is 'When it was paid.';
comment on column public.stripe_invoices.deleted is 'A draft that was deleted.';
comment on column public.stripe_invoices.livemode is 'False for Stripe''s test mode.';
comment on column public.stripe_invoices.event_id is 'Event that the row shows.';
comment on column public.stripe_invoices.created_at is 'When it was made in Stripe; null when Stripe did not say.';
comment on column public.stripe_invoices.as_of is 'Time of the event that the row shows.';

create table public.stripe_prices (
  id text not null,
  product_id text,
  lookup_key text,
  nickname text,
  currency text,
  unit_amount bigint,
  recurring_interval text,
  recurring_interval_count integer,
  active boolean not null,
  deleted boolean not null,
  livemode boolean not null,
  event_id text not null,
  created_at timestamptz,
  as_of timestamptz not null,
  primary key (id, livemode),
  -- Stripe's own limits are lower; a value that is not Stripe's goes no further.
  check (greatest(
    char_length(id), char_length(product_id), char_length(lookup_key), char_length(nickname),
    char_length(currency), char_length(recurring_interval), char_length(event_id)
  ) <= 5000)
);
comment on table public.stripe_prices is 'Prices in Stripe, as far as events told of them. Written only by functions.';
comment on column public.stripe_prices.id is 'Stripe''s id.';
comment on column public.stripe_prices.product_id is 'Product.';
comment on column public.stripe_prices.lookup_key is 'The last key that it had; its part before the first underscore is the plan. Stripe takes the key away when a new price gets it, and whoever stays on the old price stays on its plan.';
comment on column public.stripe_prices.nickname is 'Name for ourselves.';
comment on column public.stripe_prices.currency is 'Currency; null when Stripe did not say.';
comment on column public.stripe_prices.unit_amount is 'Price of one, in the smallest unit of the currency; null when it goes by tiers.';
comment on column public.stripe_prices.recurring_interval is 'day, week, month or year; null when paid once.';
comment on column public.stripe_prices.recurring_interval_count is 'How many intervals a period has.';
comment on column public.stripe_prices.active is 'Can be bought.';
comment on column public.stripe_prices.deleted is 'Deleted in Stripe.';
comment on column public.stripe_prices.livemode is 'False for Stripe''s test mode.';
comment on column public.stripe_prices.event_id is 'Event that the row shows.';
comment on column public.stripe_prices.created_at is 'When it was made in Stripe; null when Stripe did not say.';
comment on column public.stripe_prices.as_of is 'Time of the event that the row shows.';

-- Reading takes billing:read; writing is for functions alone, service_role included: what Stripe says is changed in Stripe.
alter table public.stripe_customers enable row level security;
alter table public.stripe_checkouts enable row level security;
alter table public.stripe_subscriptions enable row level security;
alter table public.stripe_invoices enable row level security;
alter table public.stripe_prices enable row level security;
revoke all on public.stripe_customers, public.stripe_checkouts, public.stripe_subscriptions, public.stripe_invoices, public.stripe_prices
  from public, anon, authenticated, service_role;
grant select on public.stripe_customers, public.stripe_checkouts, public.stripe_subscriptions, public.stripe_invoices, public.stripe_prices
  to authenticated, service_role;

create policy stripe_customers_select on public.stripe_customers for select to authenticated
  using (org_id = any (array(select private.org_ids_with('billing:read'))));
create policy stripe_checkouts_select on public.stripe_checkouts for select to authenticated
  using (org_id = any (array(select private.org_ids_with('billing:read'))));
create policy stripe_subscriptions_select on public.stripe_subscriptions for select to authenticated
  using (org_id = any (array(select private.org_ids_with('billing:read'))));
create policy stripe_invoices_select on public.stripe_invoices for select to authenticated
  using (org_id = any (array(select private.org_ids_with('billing:read'))));
-- Only what one is subscribed to: a price made for another customer is that customer's business.
create policy stripe_prices_select on public.stripe_prices for select to authenticated
  using (
    (livemode and id = any (array(
      select item ->> 'price' from public.stripe_subscriptions as s, jsonb_array_elements(s.items) as item
      where s.livemode and s.org_id = any (array(select private.org_ids_with('billing:read')))
    )))
    or (not livemode and id = any (array(
      select item ->> 'price' from public.stripe_subscriptions as s, jsonb_array_elements(s.items) as item
      where not s.livemode and s.org_id = any (array(select private.org_ids_with('billing:read')))
    )))
  );

-- ----------------------------------------------------------------------------
-- Reading an event. The bodies with "return" are parsed when they are made: no name in
-- them can be captured, and without a "set" clause they are inlined.
-- ----------------------------------------------------------------------------

create function private.stripe_id(reference jsonb) returns text
language sql immutable parallel safe
return case jsonb_typeof(reference) when 'string' then reference #>> '{}' when 'object' then reference ->> 'id' end;
comment on function private.stripe_id(jsonb) is 'Id of a reference that is an id or, when expanded, the object.';
revoke all on function private.stripe_id(jsonb) from public, anon, authenticated, service_role;

create function private.stripe_time(seconds jsonb) returns timestamptz
language sql immutable parallel safe
return to_timestamp((seconds #>> '{}')::double precision);
comment on function private.stripe_time(jsonb) is 'A moment from Stripe''s seconds since 1970.';
revoke all on function private.stripe_time(jsonb) from public, anon, authenticated, service_role;

create function private.stripe_rank(type text, object jsonb) returns smallint
language sql immutable parallel safe
return case
  when type like '%.deleted' then 9
  when object ->> 'object' = 'subscription' and object ->> 'status' in ('canceled', 'incomplete_expired') then 8
  when object ->> 'object' = 'invoice' and object ->> 'status' in ('paid', 'void') then 8
  when type like '%.created' then 0
  when object ->> 'object' = 'subscription' then case object ->> 'status' when 'incomplete' then 1 else 2 end
  when object ->> 'object' = 'invoice' then
    case object ->> 'status' when 'draft' then 1 when 'open' then 2 else 3 end
  when object ->> 'object' = 'checkout.session' then
    case
      when object ->> 'status' = 'open' then 1
      when type = 'checkout.session.completed' and object ->> 'payment_status' = 'unpaid' then 2
      when object ->> 'payment_status' = 'unpaid' then 3
      else 4
    end
  else 1
end;
comment on function private.stripe_rank(text, jsonb) is 'How far an object''s life has gone. May only order what can never happen the other way round: a subscription or invoice does not become unfinished again, and nothing follows an end.';
revoke all on function private.stripe_rank(text, jsonb) from public, anon, authenticated, service_role;

create function private.stripe_clock(object jsonb) returns numeric[]
language sql immutable parallel safe
return array[
  coalesce((object ->> 'attempt_count')::numeric, 0),
  coalesce((select max(t.value::numeric) from jsonb_each_text(nullif(object -> 'status_transitions', 'null')) as t), 0),
  coalesce((object ->> 'current_period_start')::numeric,
    (select max((item ->> 'current_period_start')::numeric) from jsonb_array_elements(object #> '{items,data}') as item), 0),
  coalesce((object ->> 'amount_paid')::numeric, 0)
];
comment on function private.stripe_clock(jsonb) is 'What only grows inside an object: attempts, transitions, the period, what was paid. Orders snapshots of one second that no before-image connects.';
revoke all on function private.stripe_clock(jsonb) from public, anon, authenticated, service_role;

create function private.stripe_overlay(object jsonb, before jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  field record;
begin
  for field in select key, value from jsonb_each(before) loop
    object := object || jsonb_build_object(field.key, case
      when jsonb_typeof(field.value) = 'object' and jsonb_typeof(object -> field.key) = 'object'
      then private.stripe_overlay(object -> field.key, field.value)
      when jsonb_typeof(field.value) = 'array' and jsonb_typeof(object -> field.key) = 'array'
      then (
        -- Lists are complete. An element is a whole object, or only the changed fields of the element with the same id.
        select coalesce(jsonb_agg(case
          when e.value ? 'object' or mine.value is null then e.value
          else private.stripe_overlay(mine.value, e.value)
        end order by e.n), '[]')
        from jsonb_array_elements(field.value) with ordinality as e (value, n)
        left join lateral (
          select m.value from jsonb_array_elements(object -> field.key) as m (value)
          where m.value ->> 'id' = e.value ->> 'id'
          limit 1
        ) as mine on true
      )
      else field.value
    end);
  end loop;
  return object;
end
$$;
comment on function private.stripe_overlay(jsonb, jsonb) is 'An object with the values of previous_attributes put over it: over the same event''s object, the state before that event.';
revoke all on function private.stripe_overlay(jsonb, jsonb) from public, anon, authenticated, service_role;

create function private.stripe_add_fields(mask jsonb, before jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  field record;
begin
  for field in select key, value from jsonb_each(before) loop
    mask := mask || jsonb_build_object(field.key, case
      when jsonb_typeof(field.value) = 'object' and coalesce(jsonb_typeof(mask -> field.key), 'object') = 'object'
      then private.stripe_add_fields(coalesce(mask -> field.key, '{}'), field.value)
      else 'true'
    end);
  end loop;
  return mask;
end
$$;
comment on function private.stripe_add_fields(jsonb, jsonb) is 'Adds the fields of one previous_attributes to a mask: true for a field that is compared as a whole, else a nested mask.';
revoke all on function private.stripe_add_fields(jsonb, jsonb) from public, anon, authenticated, service_role;

create function private.stripe_masked(object jsonb, mask jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(jsonb_object_agg(m.key, case
      when jsonb_typeof(m.value) = 'object' and jsonb_typeof(object -> m.key) = 'object'
      then private.stripe_masked(object -> m.key, m.value)
      else object -> m.key
    end), '{}')
    from jsonb_each(mask) as m
    where object ? m.key
  );
end
$$;
comment on function private.stripe_masked(jsonb, jsonb) is 'The fields of an object that the mask names. Two states are equal when these fields are.';
revoke all on function private.stripe_masked(jsonb, jsonb) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- The latest event of an object
-- ----------------------------------------------------------------------------

create function private.stripe_end_of_second(object_id text, livemode boolean, rank smallint, created timestamptz)
returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  mask jsonb := '{}'::jsonb;
  before jsonb;
  winner text;
begin
  -- Only fields that an update of this second changed can differ between the states: each update names all that it changed.
  for before in
    select e.payload #> '{data,previous_attributes}'
    from private.stripe_events as e
    where e.object_id = stripe_end_of_second.object_id and e.livemode = stripe_end_of_second.livemode
      and e.status = 'applied' and e.rank = stripe_end_of_second.rank and e.created = stripe_end_of_second.created
      and jsonb_typeof(e.payload #> '{data,previous_attributes}') = 'object'
  loop
    mask := private.stripe_add_fields(mask, before);
  end loop;

  with recursive tied as materialized (
    -- Without nulls: a metadata key that was added had the former value null, but was absent.
    select e.id, e.payload #> '{data,object}' as object,
      private.stripe_masked(jsonb_strip_nulls(e.payload #> '{data,object}'), mask) as after,
      case when jsonb_typeof(e.payload #> '{data,previous_attributes}') = 'object' then private.stripe_masked(
        jsonb_strip_nulls(private.stripe_overlay(e.payload #> '{data,object}', e.payload #> '{data,previous_attributes}')), mask
      ) end as before
    from private.stripe_events as e
    where e.object_id = stripe_end_of_second.object_id and e.livemode = stripe_end_of_second.livemode
      and e.status = 'applied' and e.rank = stripe_end_of_second.rank and e.created = stripe_end_of_second.created
  ),
  ends as materialized (
    -- An update leaves one state and reaches another. All of a second make one trail, whatever it passes twice: a state
    -- on the way is reached as often as left, and only the last one once more. While updates are missing, each piece of
    -- the trail has such an end.
    select step.state
    from (
      select t.after as state, 1 as reached from tied as t where t.before is not null
      union all
      select t.before, -1 from tied as t where t.before is not null
    ) as step
    group by step.state
    having sum(step.reached) > 0
  ),
  past as materialized (
    -- Where the second before ended; looked up only when the trail has several pieces, or ends where it began.
    select private.stripe_masked(jsonb_strip_nulls(e.payload #> '{data,object}'), mask) as state
    from private.stripe_events as e
    where mask <> '{}'
      and (select count(*) from ends) <> 1
      and e.livemode = stripe_end_of_second.livemode
      and e.id = private.latest_stripe_event(
        stripe_end_of_second.object_id, stripe_end_of_second.livemode, stripe_end_of_second.rank, stripe_end_of_second.created
      )
  ),
  first_piece as (
    select p.state from past as p where (select count(*) from ends) > 1
    union
    select t.after from first_piece as f join tied as t on t.before = f.state
  )
  select t.id into winner
  from tied as t
  order by
    case
      when exists (select from ends) then t.after in (select e.state from ends as e)
      else coalesce(t.after = (select p.state from past as p), false)
    end desc,
    t.after in (select f.state from first_piece as f),
    private.stripe_clock(t.object) desc,
    t.id collate "C" desc
  limit 1;
  return winner;
end
$$;
comment on function private.stripe_end_of_second(text, boolean, smallint, timestamptz) is 'Id of the latest among the applied events of an object with this rank and second, by their before-images.';
revoke all on function private.stripe_end_of_second(text, boolean, smallint, timestamptz) from public, anon, authenticated, service_role;

create function private.latest_stripe_event(
  object_id text, livemode boolean, below_rank smallint default null, below_created timestamptz default null
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  top record;
begin
  select e.id, e.rank, e.created,
    exists (
      select from private.stripe_events as other
      where other.object_id = e.object_id and other.livemode = e.livemode and other.status = 'applied'
        and other.rank = e.rank and other.created = e.created and other.id <> e.id
    ) as tied
  into top
  from private.stripe_events as e
  where e.object_id = latest_stripe_event.object_id
    and e.livemode = latest_stripe_event.livemode
    and e.status = 'applied'
    and (below_rank is null or (e.rank, e.created) < (below_rank, below_created))
  order by e.rank desc, e.created desc, e.id collate "C" desc
  limit 1;
  if top.tied then
    return private.stripe_end_of_second(latest_stripe_event.object_id, latest_stripe_event.livemode, top.rank, top.created);
  end if;
  return top.id;
end
$$;
comment on function private.latest_stripe_event(text, boolean, smallint, timestamptz) is 'Id of the latest applied event of an object (below a rank and second, if given), whatever order they arrived in; the head of this file says how.';
revoke all on function private.latest_stripe_event(text, boolean, smallint, timestamptz) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- From event to row. Each writes the row of one object as its latest event shows it.
-- ----------------------------------------------------------------------------

create function private.show_stripe_customer(event private.stripe_events) returns void
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
comment on function private.show_stripe_customer(private.stripe_events) is 'Writes a customer as the event shows it.';
revoke all on function private.show_stripe_customer(private.stripe_events) from public, anon, authenticated, service_role;

create function private.show_stripe_checkout(event private.stripe_events) returns void
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
comment on function private.show_stripe_checkout(private.stripe_events) is 'Writes a checkout session as the event shows it.';
revoke all on function private.show_stripe_checkout(private.stripe_events) from public, anon, authenticated, service_role;

-- In plpgsql, as stripe_paid_for and stripe_nothing_owed are, because its plans are kept: in SQL each call planned them
-- anew, and the three took a quarter of the time of applying an event.
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
        -- A price whose lookup key went to a newer price shows none; what this subscription saw it with still holds.
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
      ) order by item ->> 'id' collate "C"
    ), '[]')
    from jsonb_array_elements(event.payload #> '{data,object,items,data}') as item
    cross join lateral (
      -- Before prices there were plans, with the same ids.
      select coalesce(private.stripe_id(item -> 'price'), private.stripe_id(item -> 'plan')) as id
    ) as price
  );
end
$$;
comment on function private.stripe_items(private.stripe_events) is 'What a subscription is to, as its event shows it.';
revoke all on function private.stripe_items(private.stripe_events) from public, anon, authenticated, service_role;

create function private.show_stripe_subscription(event private.stripe_events) returns void
language plpgsql set search_path = ''
as $$
declare
  o jsonb := event.payload #> '{data,object}';
  items jsonb := private.stripe_items(event);
  overdue timestamptz;
begin
  if o ->> 'status' = 'past_due' then
    -- Stripe does not say since when: since the first event of the present run of past_due.
    select min(e.created) into overdue
    from private.stripe_events as e
    where e.object_id = event.object_id
      and e.livemode = event.livemode
      and e.status = 'applied'
      and e.payload #>> '{data,object,status}' = 'past_due'
      and e.created >= coalesce((
        select max(well.created) from private.stripe_events as well
        where well.object_id = event.object_id and well.livemode = event.livemode
          and well.status = 'applied' and well.payload #>> '{data,object,status}' <> 'past_due'
      ), '-infinity');
    overdue := coalesce(overdue, event.created);
  end if;

  insert into public.stripe_subscriptions (
    id, metadata_org_id, customer_id, status, items, collection_method, current_period_start, current_period_end,
    cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end, past_due_since, latest_invoice_id,
    livemode, event_id, created_at, as_of
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
    overdue, private.stripe_id(o -> 'latest_invoice'),
    event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  from (select) as once
  left join lateral (
    -- Items may have periods of different lengths: the plan's counts, and without a plan the one that lasts longest.
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
    latest_invoice_id = excluded.latest_invoice_id, event_id = excluded.event_id,
    created_at = excluded.created_at, as_of = excluded.as_of;
end
$$;
comment on function private.show_stripe_subscription(private.stripe_events) is 'Writes a subscription as the event shows it.';
revoke all on function private.show_stripe_subscription(private.stripe_events) from public, anon, authenticated, service_role;

create function private.show_stripe_invoice(event private.stripe_events) returns void
language plpgsql set search_path = ''
as $$
declare
  o jsonb := event.payload #> '{data,object}';
  customer text := private.stripe_id(o -> 'customer');
  -- Moved under "parent" with API version 2025-03-31.
  subscription text := coalesce(private.stripe_id(o #> '{parent,subscription_details,subscription}'), private.stripe_id(o -> 'subscription'));
begin
  insert into public.stripe_invoices (
    id, org_id, customer_id, subscription_id, number, status, currency, total, amount_due, amount_paid, paid_out_of_band,
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
    coalesce((o ->> 'total')::bigint, 0), coalesce((o ->> 'amount_due')::bigint, 0), coalesce((o ->> 'amount_paid')::bigint, 0),
    -- The amount since API version 2025-03-31, the flag before.
    coalesce((o ->> 'amount_paid_off_stripe')::bigint > 0, (o ->> 'paid_out_of_band')::boolean, false),
    coalesce((o ->> 'amount_remaining')::bigint, 0), coalesce((o ->> 'attempt_count')::integer, 0),
    o ->> 'billing_reason', o ->> 'hosted_invoice_url', o ->> 'invoice_pdf', private.stripe_time(o -> 'period_start'),
    private.stripe_time(o -> 'period_end'), private.stripe_time(o -> 'due_date'), private.stripe_time(o #> '{status_transitions,paid_at}'),
    event.type = 'invoice.deleted', event.livemode, event.id, private.stripe_time(o -> 'created'), event.created
  )
  on conflict (id, livemode) do update set
    org_id = excluded.org_id, customer_id = excluded.customer_id, subscription_id = excluded.subscription_id, number = excluded.number,
    status = excluded.status, currency = excluded.currency, total = excluded.total, amount_due = excluded.amount_due,
    amount_paid = excluded.amount_paid, paid_out_of_band = excluded.paid_out_of_band,
    amount_remaining = excluded.amount_remaining, attempt_count = excluded.attempt_count,
    billing_reason = excluded.billing_reason, hosted_invoice_url = excluded.hosted_invoice_url, invoice_pdf = excluded.invoice_pdf,
    period_start = excluded.period_start, period_end = excluded.period_end, due_date = excluded.due_date, paid_at = excluded.paid_at,
    deleted = excluded.deleted, event_id = excluded.event_id,
    created_at = excluded.created_at, as_of = excluded.as_of;
end
$$;
comment on function private.show_stripe_invoice(private.stripe_events) is 'Writes an invoice as the event shows it.';
revoke all on function private.show_stripe_invoice(private.stripe_events) from public, anon, authenticated, service_role;

create function private.show_stripe_price(event private.stripe_events) returns void
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
comment on function private.show_stripe_price(private.stripe_events) is 'Writes a price as the event shows it.';
revoke all on function private.show_stripe_price(private.stripe_events) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Whose it is
-- ----------------------------------------------------------------------------

create function private.link_stripe_customer(customer text, livemode boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  is_live boolean := livemode;
  owner uuid;
begin
  insert into public.stripe_customers (id, livemode) values (customer, is_live) on conflict (id, livemode) do nothing;
  -- The first organization that was named stays, so that a later session with another one moves its own subscription only.
  owner := coalesce(
    (select g.id from public.stripe_customers as c
      join public.organizations as g on g.id = c.metadata_org_id
      where c.id = customer and c.livemode = is_live),
    (select g.id from public.stripe_checkouts as k
      join public.organizations as g on g.id = private.as_uuid(k.client_reference_id)
      where k.customer_id = customer and k.livemode = is_live and k.status = 'complete'
      order by k.created_at, k.id collate "C" limit 1),
    (select g.id from public.stripe_subscriptions as s
      join public.organizations as g on g.id = s.metadata_org_id
      where s.customer_id = customer and s.livemode = is_live
      order by s.created_at, s.id collate "C" limit 1)
  );
  update public.stripe_customers as c set org_id = owner
  where c.id = customer and c.livemode = is_live and c.org_id is distinct from owner;

  update public.stripe_checkouts as k set org_id = found.org_id
  from (
    select k2.id, coalesce(g.id, owner) as org_id
    from public.stripe_checkouts as k2
    left join public.organizations as g on g.id = private.as_uuid(k2.client_reference_id)
    where k2.customer_id = customer and k2.livemode = is_live
  ) as found
  where k.id = found.id and k.livemode = is_live and k.org_id is distinct from found.org_id;

  -- A session cannot be changed after it was made. Metadata can, so it takes precedence.
  update public.stripe_subscriptions as s set org_id = found.org_id
  from (
    select s2.id, coalesce(
      (select g.id from public.organizations as g where g.id = s2.metadata_org_id),
      (select g.id from public.stripe_checkouts as k
        join public.organizations as g on g.id = private.as_uuid(k.client_reference_id)
        where k.subscription_id = s2.id and k.livemode = is_live and k.status = 'complete'
        order by k.created_at, k.id collate "C" limit 1),
      owner
    ) as org_id
    from public.stripe_subscriptions as s2
    where s2.customer_id = customer and s2.livemode = is_live
  ) as found
  where s.id = found.id and s.livemode = is_live and s.org_id is distinct from found.org_id;

  update public.stripe_invoices as i set org_id = found.org_id
  from (
    select i2.id, coalesce(s.org_id, owner) as org_id
    from public.stripe_invoices as i2
    left join public.stripe_subscriptions as s on s.id = i2.subscription_id and s.livemode = is_live
    where i2.customer_id = customer and i2.livemode = is_live
  ) as found
  where i.id = found.id and i.livemode = is_live and i.org_id is distinct from found.org_id;
end
$$;
comment on function private.link_stripe_customer(text, boolean) is 'Gives all rows of a customer their organization: a subscription by its metadata.org_id, else by the checkout session that started it, else by its customer, whose metadata or first completed session decides.';
revoke all on function private.link_stripe_customer(text, boolean) from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Which plan follows
-- ----------------------------------------------------------------------------

create function private.stripe_grace() returns interval
language sql immutable parallel safe
return interval '7 days';
comment on function private.stripe_grace() is 'How long a plan stays while a payment is past due. The only place that says so.';
revoke all on function private.stripe_grace() from public, anon, authenticated, service_role;

-- A customer buys the period of an invoice that begins one. Status "active" alone proves nothing: with delayed payment
-- methods Stripe reports it before the money arrives. Nor does any other paid invoice: one of 0 for a change within a
-- period is paid at once, while the first one may still be open.
create function private.stripe_paid_for(subscription text, livemode boolean) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
      select from public.stripe_checkouts as k
      where k.subscription_id = stripe_paid_for.subscription and k.livemode = stripe_paid_for.livemode
        and k.status = 'complete' and k.payment_status in ('paid', 'no_payment_required')
    )
    or exists (
      select from public.stripe_invoices as i
      where i.subscription_id = stripe_paid_for.subscription and i.livemode = stripe_paid_for.livemode and i.status = 'paid'
        and case coalesce(i.billing_reason, 'subscription')
          -- The first one may cost nothing: a trial, a coupon, credit that you gave.
          when 'subscription_create' then true
          when 'quote_accept' then true
          -- A later one may be 0 because of a credit for time that was never paid, so it must have been paid with money.
          when 'subscription_cycle' then i.amount_paid > 0 or i.paid_out_of_band
          when 'subscription' then i.amount_paid > 0 or i.paid_out_of_band
          else false
        end
    );
end
$$;
comment on function private.stripe_paid_for(text, boolean) is 'Whether a subscription''s session is settled or an invoice that begins a period of it was paid. Stays true once it is.';
revoke all on function private.stripe_paid_for(text, boolean) from public, anon, authenticated, service_role;

create function private.stripe_nothing_owed(subscription text, livemode boolean) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
      select from public.stripe_invoices as i
      where i.subscription_id = stripe_nothing_owed.subscription and i.livemode = stripe_nothing_owed.livemode and i.status = 'paid'
        and case i.billing_reason
          when 'subscription_cycle' then true
          -- A change that begins a new period, as another interval does, is billed as an update. One of 0 buys nothing.
          when 'subscription_update' then i.amount_paid > 0 or i.paid_out_of_band
          else false
        end
    )
    and not exists (
      select from public.stripe_invoices as i
      where i.subscription_id = stripe_nothing_owed.subscription and i.livemode = stripe_nothing_owed.livemode
        and i.status in ('open', 'uncollectible')
        and i.amount_remaining > 0
        and coalesce(i.billing_reason, 'subscription') in ('subscription_create', 'quote_accept', 'subscription_cycle', 'subscription')
    )
    -- The session knows that the first invoice is unpaid, even when no event has brought the invoice yet.
    and not exists (
      select from public.stripe_checkouts as k
      where k.subscription_id = stripe_nothing_owed.subscription and k.livemode = stripe_nothing_owed.livemode
        and k.payment_status = 'unpaid'
        and not exists (
          select from public.stripe_invoices as i
          where i.subscription_id = k.subscription_id and i.livemode = k.livemode
            and i.status in ('open', 'uncollectible', 'void')
            and i.billing_reason in ('subscription_create', 'quote_accept')
        )
    );
end
$$;
comment on function private.stripe_nothing_owed(text, boolean) is 'Whether a later invoice of a subscription was settled and none that begins a period is left to pay.';
revoke all on function private.stripe_nothing_owed(text, boolean) from public, anon, authenticated, service_role;

create view private.stripe_standing with (security_invoker = true) as
select
  s.id, s.org_id, s.customer_id, s.status,
  coalesce(to_timestamp(plan.current_period_start), s.current_period_start) as current_period_start,
  coalesce(to_timestamp(plan.current_period_end), s.current_period_end) as current_period_end,
  s.ended_at, s.created_at, s.livemode,
  plan.code as plan, plan.rank as plan_rank, paid.paid,
  plan.code is not null and paid.paid and (
    s.status in ('active', 'trialing')
    or (s.status = 'past_due' and s.past_due_since + private.stripe_grace() > kijko.now())
  ) as live
from public.stripe_subscriptions as s
left join lateral (
  -- Several items, such as a plan and extras: the highest plan counts, and its period.
  select p.code, p.rank,
    (item ->> 'current_period_start')::double precision as current_period_start,
    (item ->> 'current_period_end')::double precision as current_period_end
  from jsonb_array_elements(s.items) as item
  left join public.stripe_prices as price on price.id = item ->> 'price' and price.livemode = s.livemode
  join public.plans as p on p.code = upper(split_part(coalesce(price.lookup_key, item ->> 'lookup_key'), '_', 1))
  order by p.rank desc, (item ->> 'current_period_end')::bigint desc nulls last, item ->> 'id' collate "C"
  limit 1
) as plan on true
cross join lateral (
  select s.status = 'trialing'
    or s.collection_method = 'send_invoice'
    or private.stripe_paid_for(s.id, s.livemode)
    or private.stripe_nothing_owed(s.id, s.livemode)
  as paid
) as paid;
comment on view private.stripe_standing is 'Each Stripe subscription with the plan it is for and its period, whether it was ever paid (or needs no payment first), and whether it gives that plan now.';
revoke all on private.stripe_standing from public, anon, authenticated, service_role;

create function private.refresh_plan(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  best private.stripe_standing;
  wanted public.subscriptions;
begin
  -- Locked before anything is read, so that of two at once the second sees what the first wrote.
  select s.* into wanted from public.subscriptions as s where s.org_id = org for update;
  if wanted.id is null then
    return; -- the organization is being deleted
  end if;

  select st.* into best
  from private.stripe_standing as st
  where st.org_id = org
  order by st.live desc, case when st.live then st.plan_rank end desc, st.created_at desc, st.id collate "C" desc
  limit 1;

  if best.live then
    wanted.plan := best.plan;
    wanted.status := best.status;
    wanted.current_period_start := coalesce(best.current_period_start, best.created_at);
    -- An item that was added and ended in the same second has no time at all.
    wanted.current_period_end := case when best.current_period_end > wanted.current_period_start then best.current_period_end end;
  else
    wanted.plan := 'FREE';
    -- Waiting for a first payment is no debt: FREE is in good standing.
    wanted.status := case when best.status in ('canceled', 'unpaid', 'past_due') and best.paid then best.status else 'active' end;
    wanted.current_period_start := coalesce(
      best.ended_at, best.current_period_start, (select g.created_at from public.organizations as g where g.id = org)
    );
    wanted.current_period_end := null;
  end if;
  wanted.plan := coalesce(wanted.plan_override, wanted.plan);

  update public.subscriptions as s
  set plan = wanted.plan,
    status = wanted.status,
    current_period_start = wanted.current_period_start,
    current_period_end = wanted.current_period_end
  where s.id = wanted.id
    and (s.plan, s.status, s.current_period_start, s.current_period_end)
      is distinct from (wanted.plan, wanted.status, wanted.current_period_start, wanted.current_period_end);
end
$$;
comment on function private.refresh_plan(uuid) is 'Derives an organization''s plan from its Stripe subscriptions: the only place that does. The highest plan that is live counts, else FREE, unless plan_override says otherwise; limits follow by trigger in the same transaction.';
revoke all on function private.refresh_plan(uuid) from public, anon, authenticated, service_role;

create function private.end_plan_override() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.refresh_plan(new.org_id);
  return null;
end
$$;
comment on function private.end_plan_override() is 'Trigger: when an override is removed, the plan is again what Stripe says, or FREE. Definer: the role that removes it may not read Stripe subscriptions.';
revoke all on function private.end_plan_override() from public, anon, authenticated, service_role;
create trigger subscriptions_override_end after update of plan_override on public.subscriptions
  for each row when (old.plan_override is not null and new.plan_override is null)
  execute function private.end_plan_override();

create function private.expire_stripe_grace() returns integer
language plpgsql set search_path = ''
as $$
declare
  org uuid;
  n integer := 0;
begin
  for org in
    select s.org_id
    from public.subscriptions as s
    where s.plan <> 'FREE'
      and s.plan_override is null
      and s.status = 'past_due'
      and exists (select from private.stripe_standing as st where st.org_id = s.org_id and st.status = 'past_due' and not st.live)
    order by s.org_id
    limit 500
    -- One that is busy has its turn next time, and keeps no other waiting.
    for update of s skip locked
  loop
    perform private.refresh_plan(org);
    n := n + 1;
  end loop;
  return n;
end
$$;
comment on function private.expire_stripe_grace() is 'Ends plans whose payment has been past due for longer than the grace; run by schedule, since no event marks that moment.';
revoke all on function private.expire_stripe_grace() from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Applying
-- ----------------------------------------------------------------------------

create function private.apply_stripe_event(event private.stripe_events) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  latest private.stripe_events := event;
  latest_id text;
  customer text := case event.object_type
    when 'customer' then event.object_id
    when 'price' then null
    else private.stripe_id(event.payload #> '{data,object,customer}')
  end;
  named uuid;
  linked boolean := false;
  before uuid[];
  orgs uuid[];
  org uuid;
begin
  -- One at a time for each object and each customer, always in this order; the seed separates the modes.
  perform pg_advisory_xact_lock(hashtextextended('kijko.stripe.object:' || event.object_id, event.livemode::integer));
  if customer is not null then
    perform pg_advisory_xact_lock(hashtextextended('kijko.stripe.customer:' || customer, event.livemode::integer));
  end if;

  latest_id := private.latest_stripe_event(event.object_id, event.livemode);
  if latest_id is distinct from event.id then
    select e.* into strict latest from private.stripe_events as e where e.id = latest_id and e.livemode = event.livemode;
  end if;
  if latest.payload #>> '{data,object,deleted}' = 'true' then
    latest := private.stripe_complete_stub(latest);
  end if;

  if event.object_type = 'price' then
    perform private.show_stripe_price(latest);
    return;
  end if;
  if event.object_type = 'invoice' then
    perform private.apply_stripe_invoice(latest);
    return;
  end if;

  -- Whose it is can only change with a new row, a session, or another organization in the metadata.
  named := private.as_uuid(latest.payload #>> '{data,object,metadata,org_id}');
  before := array(
    select s.org_id from public.stripe_subscriptions as s
    where s.customer_id = customer and s.livemode = event.livemode order by s.id
  );
  case event.object_type
    when 'customer' then
      linked := exists (
        select from public.stripe_customers as c
        where c.id = customer and c.livemode = event.livemode and c.metadata_org_id is not distinct from named
      );
      perform private.show_stripe_customer(latest);
    when 'subscription' then
      linked := exists (
        select from public.stripe_subscriptions as s
        where s.id = event.object_id and s.livemode = event.livemode
          and s.customer_id = customer and s.metadata_org_id is not distinct from named
      );
      perform private.show_stripe_subscription(latest);
    when 'checkout.session' then perform private.show_stripe_checkout(latest);
  end case;
  if customer is not null and not linked then
    perform private.link_stripe_customer(customer, event.livemode);
  end if;

  orgs := array(
    select s.org_id from public.stripe_subscriptions as s
    where s.customer_id = customer and s.livemode = event.livemode order by s.id
  );
  -- A plan depends on subscriptions, sessions and invoices; a customer only says whose they are.
  if event.object_type = 'customer' and orgs = before then
    return;
  end if;
  -- In one order, so that two events that touch the same organizations cannot wait for each other.
  for org in select distinct o from unnest(orgs || before) as o where o is not null order by o loop
    perform private.refresh_plan(org);
  end loop;
end
$$;
comment on function private.apply_stripe_event(private.stripe_events) is 'Brings the rows up to date with a stored event that is marked applied: its object, then whose it is, then the plan.';
revoke all on function private.apply_stripe_event(private.stripe_events) from public, anon, authenticated, service_role;

create function private.stripe_complete_stub(event private.stripe_events) returns private.stripe_events
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  known jsonb;
begin
  select e.payload #> '{data,object}' into known
  from private.stripe_events as e
  where e.id = private.latest_stripe_event(event.object_id, event.livemode, event.rank, '-infinity')
    and e.livemode = event.livemode;
  event.payload := jsonb_set(event.payload, '{data,object}', coalesce(known, '{}') || (event.payload #> '{data,object}'));
  return event;
end
$$;
comment on function private.stripe_complete_stub(private.stripe_events) is 'A deletion may show no more than {id, deleted}: the event with all that was last known of its object.';
revoke all on function private.stripe_complete_stub(private.stripe_events) from public, anon, authenticated, service_role;

create function private.apply_stripe_invoice(latest private.stripe_events) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  o jsonb := latest.payload #> '{data,object}';
  subscription text := coalesce(private.stripe_id(o #> '{parent,subscription_details,subscription}'), private.stripe_id(o -> 'subscription'));
  -- Once paid for, no other invoice changes the plan: the subscription's status does.
  settled boolean := private.stripe_paid_for(subscription, latest.livemode);
  org uuid;
begin
  perform private.show_stripe_invoice(latest);
  if subscription is null or settled then
    return;
  end if;
  select s.org_id into org from public.stripe_subscriptions as s where s.id = subscription and s.livemode = latest.livemode;
  if org is not null then
    perform private.refresh_plan(org);
  end if;
end
$$;
comment on function private.apply_stripe_invoice(private.stripe_events) is 'Writes an invoice, then the plan as far as it can depend on it.';
revoke all on function private.apply_stripe_invoice(private.stripe_events) from public, anon, authenticated, service_role;

create function private.settle_stripe_event(event private.stripe_events) returns text
language plpgsql set search_path = ''
as $$
declare
  code text;
  message text;
begin
  begin
    perform private.apply_stripe_event(event);
    return 'applied';
  exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text;
  end;
  update private.stripe_events as e
  set status = 'failed', applied_at = null, error_code = code, error = substring(message for 2000),
    -- 1, 2, 4 ... minutes, at most 6 hours; given up after about three days, as Stripe itself does.
    next_attempt_at = case when e.attempts < 20 then now() + least(interval '1 minute' * 2 ^ (e.attempts - 1), interval '6 hours') end
  where e.id = event.id and e.livemode = event.livemode;
  return 'failed';
end
$$;
comment on function private.settle_stripe_event(private.stripe_events) is 'Applies a stored event that is marked applied, in a subtransaction; a failure leaves no trace in the rows and is kept with its reason and its next attempt.';
revoke all on function private.settle_stripe_event(private.stripe_events) from public, anon, authenticated, service_role;

create function private.try_stripe_event(event_id text, livemode boolean) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  event private.stripe_events;
begin
  update private.stripe_events as e
  set status = 'applied', attempts = e.attempts + 1, applied_at = clock_timestamp(),
    error_code = null, error = null, next_attempt_at = null
  where e.id = try_stripe_event.event_id and e.livemode = try_stripe_event.livemode
  returning e.* into strict event;
  return private.settle_stripe_event(event);
end
$$;
comment on function private.try_stripe_event(text, boolean) is 'Applies a stored event once more.';
revoke all on function private.try_stripe_event(text, boolean) from public, anon, authenticated, service_role;

create function private.is_stripe_event_ours(payload jsonb) returns boolean
language sql immutable parallel safe
return coalesce(
  payload #>> '{data,object,object}' in ('customer', 'checkout.session', 'subscription', 'invoice', 'price')
  and payload #>> '{data,object,id}' is not null
  -- A preview of an invoice is none: it has no id, or one that no invoice will have.
  and payload ->> 'type' <> 'invoice.upcoming'
  and not starts_with(payload #>> '{data,object,id}', 'upcoming_in_')
  -- The customers of another account, connected or of the same organization, are not ours.
  and payload ->> 'account' is null
  and payload ->> 'context' is null
  -- A thin event shows no object.
  and payload ->> 'object' is distinct from 'v2.core.event',
  false
);
comment on function private.is_stripe_event_ours(jsonb) is 'Whether an event is about something that is mirrored; others are kept for a while and ignored.';
revoke all on function private.is_stripe_event_ours(jsonb) from public, anon, authenticated, service_role;

create function private.ingest_stripe_event(payload jsonb)
returns table (status text, duplicate boolean, error_code text)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  o jsonb := payload #> '{data,object}';
  thin boolean := coalesce(payload ->> 'object' = 'v2.core.event', false);
  is_live boolean;
  ours boolean;
  event private.stripe_events;
begin
  if jsonb_typeof(payload) is distinct from 'object'
    or coalesce(payload ->> 'id', '') !~ '^evt_[A-Za-z0-9_]{1,250}$'
    or coalesce(jsonb_typeof(payload -> 'type'), '') <> 'string'
    or not (coalesce(jsonb_typeof(payload -> 'created'), '') = 'number' or thin)
  then
    perform kijko.fail('bad_request', 'not a Stripe event: id, type and created are required');
  end if;
  is_live := coalesce((payload ->> 'livemode')::boolean, false);
  ours := private.is_stripe_event_ours(payload);

  -- Marked applied before it is: what an event is applied to is the set of applied events, itself included.
  insert into private.stripe_events (id, type, created, api_version, livemode, object_id, object_type, rank, payload, status, attempts, applied_at)
  values (
    payload ->> 'id', payload ->> 'type',
    case
      when jsonb_typeof(payload -> 'created') = 'number' then private.stripe_time(payload -> 'created')
      -- A thin event's time is spelled out.
      else coalesce((payload ->> 'created')::timestamptz, now())
    end,
    payload ->> 'api_version',
    is_live, o ->> 'id', o ->> 'object', private.stripe_rank(payload ->> 'type', o), payload,
    case when ours then 'applied' else 'ignored' end, case when ours then 1 else 0 end, case when ours then clock_timestamp() end
  )
  on conflict (id, livemode) do nothing
  returning stripe_events.* into event;

  if event.id is null then
    -- "on conflict" has waited for a delivery of the same event that was under way.
    select e.* into strict event
    from private.stripe_events as e
    where e.id = ingest_stripe_event.payload ->> 'id' and e.livemode = is_live
    for update;
    -- Sent again by hand: the moment to try again what had failed.
    if event.status = 'failed' then
      perform private.try_stripe_event(event.id, is_live);
    end if;
    return query select e.status, true, e.error_code from private.stripe_events as e where e.id = event.id and e.livemode = is_live;
  elsif ours then
    perform private.settle_stripe_event(event);
    return query select e.status, false, e.error_code from private.stripe_events as e where e.id = event.id and e.livemode = is_live;
  else
    return query select 'ignored', false, null::text;
  end if;
end
$$;
comment on function private.ingest_stripe_event(jsonb) is 'Stores a verified event once and applies it; answers applied, failed (kept, tried again by schedule) or ignored. Definer: the sidecar holds no table rights.';
revoke all on function private.ingest_stripe_event(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.ingest_stripe_event(jsonb) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Operators: retry, replay, backlog
-- ----------------------------------------------------------------------------

create function private.retry_stripe_events(max_events integer default 100) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  due record;
  n integer := 0;
begin
  -- An event that has to wait for a lock fails again, so that it does not hold locks that others need.
  perform set_config('lock_timeout', '2s', true);
  for due in
    select e.id, e.livemode from private.stripe_events as e
    where e.status = 'failed' and e.next_attempt_at <= now()
    order by e.created, e.id
    limit max_events
    for update skip locked
  loop
    perform private.try_stripe_event(due.id, due.livemode);
    n := n + 1;
  end loop;
  return n;
end
$$;
comment on function private.retry_stripe_events(integer) is 'Tries the failed events that are due again; run by schedule.';
revoke all on function private.retry_stripe_events(integer) from public, anon, authenticated, service_role;

create function private.replay_stripe_events(ids text[] default null)
returns table (id text, type text, status text, error_code text, error text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  one record;
begin
  for one in
    select e.id, e.livemode from private.stripe_events as e
    where case when ids is null then e.status = 'failed' else e.id = any (ids) and e.status <> 'ignored' end
    order by e.created, e.id, e.livemode
    for update
  loop
    perform private.try_stripe_event(one.id, one.livemode);
    return query
    select e.id, e.type, e.status, e.error_code, e.error
    from private.stripe_events as e
    where e.id = one.id and e.livemode = one.livemode;
  end loop;
end
$$;
comment on function private.replay_stripe_events(text[]) is 'Applies the named events again, or without names all that failed, given up or not; says what became of each.';
revoke all on function private.replay_stripe_events(text[]) from public, anon, authenticated, service_role;

create function private.stripe_backlog()
returns table (failed bigint, given_up bigint, oldest_failed_seconds double precision, unlinked bigint, unplanned bigint)
language sql stable security definer
begin atomic
  select
    (select count(*) from private.stripe_events as e where e.status = 'failed'),
    (select count(*) from private.stripe_events as e where e.status = 'failed' and e.next_attempt_at is null),
    (select coalesce(extract(epoch from now() - min(e.received_at)), 0)::double precision from private.stripe_events as e where e.status = 'failed'),
    (select count(*) from public.stripe_subscriptions as s where s.org_id is null and s.status in ('active', 'trialing', 'past_due')),
    (select count(*) from private.stripe_standing as st where st.org_id is not null and st.plan is null and st.status in ('active', 'trialing', 'past_due'));
end;
comment on function private.stripe_backlog() is 'What needs an operator: failed events (and those given up), running subscriptions of no known organization, and running ones whose price names no plan. Definer: the sidecar holds no table rights.';
revoke all on function private.stripe_backlog() from public, anon, authenticated, service_role;
grant execute on function private.stripe_backlog() to kijko_sidecar;

-- cron.schedule replaces the entry of the same name, so a replay is harmless.
select cron.schedule('kijko-stripe-retry', '* * * * *', 'select private.retry_stripe_events()');
select cron.schedule('kijko-stripe-grace', '* * * * *', 'select private.expire_stripe_grace()');
select cron.schedule(
  'kijko-stripe-purge', '27 3 * * *',
  $$delete from private.stripe_events where status = 'ignored' and received_at < now() - interval '30 days'$$
);
