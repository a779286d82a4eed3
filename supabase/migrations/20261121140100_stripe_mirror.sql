-- ============================================================================
-- Stripe: mirrored rows.
-- ============================================================================

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
select private.describe_data('public.stripe_customers', '{
  "metadata_org_id, currency, delinquent, deleted, livemode, event_id, as_of": "customer in Stripe that pays",
  "email, name": {"subject": "person", "purpose": "customer in Stripe that pays", "export": "organization", "erasure": "organization"}
}');

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
select private.describe_data('public.stripe_checkouts', '{
  "client_reference_id, customer_id, subscription_id, mode, status, payment_status, amount_total, currency": "which checkout led to a subscription",
  "livemode, event_id, as_of": "which checkout led to a subscription"
}');

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
select private.describe_data('public.stripe_subscriptions', '{
  "metadata_org_id, customer_id, status, items, collection_method, current_period_start, current_period_end": "what was bought, and decides the plan",
  "cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end, past_due_since, latest_invoice_id, livemode": "what was bought, and decides the plan",
  "event_id, as_of": "what was bought, and decides the plan"
}');

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
select private.describe_data('public.stripe_invoices', '{
  "customer_id, subscription_id, number, status, currency, total, amount_due, amount_paid, paid_out_of_band": "shows members their invoices",
  "amount_remaining, attempt_count, billing_reason, hosted_invoice_url, invoice_pdf, period_start, period_end": "shows members their invoices",
  "due_date, paid_at, deleted, livemode, event_id, as_of": "shows members their invoices"
}');

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
select private.describe_data('public.stripe_prices', '{
  "product_id, lookup_key, nickname, currency, unit_amount, recurring_interval, recurring_interval_count, active": "which price belongs to which plan",
  "deleted, livemode, event_id, as_of": "which price belongs to which plan"
}', 'platform');

-- Reading takes billing:read; writing is for functions alone, service_role included: what Stripe says is changed in Stripe.
alter table public.stripe_customers enable row level security;
alter table public.stripe_checkouts enable row level security;
alter table public.stripe_subscriptions enable row level security;
alter table public.stripe_invoices enable row level security;
alter table public.stripe_prices enable row level security;
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
