-- ============================================================================
-- Stripe: the mirrored rows.
--
-- org_id is null until an event names the organization; until then no user can read
-- the row. There are no foreign keys between the tables, because an invoice may arrive
-- before its customer.
-- ============================================================================

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
  -- Stripe's own limits are lower. This stops anything else.
  check (greatest(
    char_length(id), char_length(email), char_length(name), char_length(currency), char_length(event_id)
  ) <= 5000)
);
create index stripe_customers_org_id_idx on public.stripe_customers (org_id);

comment on table public.stripe_customers is 'Customers in Stripe. Of a customer without an event of its own only the id is known. Written only by functions.';
comment on column public.stripe_customers.id is 'Stripe''s id.';
comment on column public.stripe_customers.org_id is 'Organization that it pays for. Null while unknown.';
comment on column public.stripe_customers.metadata_org_id is 'metadata.org_id, if present.';
comment on column public.stripe_customers.email is 'Email address for billing.';
comment on column public.stripe_customers.name is 'Billing name.';
comment on column public.stripe_customers.currency is 'Currency of its invoices.';
comment on column public.stripe_customers.delinquent is 'Whether its latest invoice is overdue.';
comment on column public.stripe_customers.deleted is 'Deleted in Stripe. The row stays for its invoices.';
comment on column public.stripe_customers.livemode is 'False in Stripe''s test mode.';
comment on column public.stripe_customers.event_id is 'Event that the row reflects.';
comment on column public.stripe_customers.created_at is 'When it was created in Stripe.';
comment on column public.stripe_customers.as_of is 'Time of the event that the row reflects.';
select private.describe_data('public.stripe_customers', '{
  "metadata_org_id, currency, delinquent, deleted, livemode, event_id, as_of": "customer in Stripe that pays",
  "email": {"subject": "person", "purpose": "customer in Stripe that pays", "export": "organization", "erasure": "person"},
  "name": "who pays, as invoices name them"
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
  -- Stripe's own limits are lower. This stops anything else.
  check (greatest(
    char_length(id), char_length(client_reference_id), char_length(customer_id), char_length(subscription_id),
    char_length(mode), char_length(status), char_length(payment_status), char_length(currency),
    char_length(event_id)
  ) <= 5000)
);
create index stripe_checkouts_org_id_idx on public.stripe_checkouts (org_id);
create index stripe_checkouts_customer_id_idx on public.stripe_checkouts (customer_id);
create index stripe_checkouts_subscription_id_idx on public.stripe_checkouts (subscription_id);

comment on table public.stripe_checkouts is 'Checkout sessions: which organization a customer pays for, and whether the payment has arrived. Written only by functions.';
comment on column public.stripe_checkouts.id is 'Stripe''s id.';
comment on column public.stripe_checkouts.org_id is 'Organization. Null while unknown.';
comment on column public.stripe_checkouts.client_reference_id is 'Id of the organization, set when the session was created.';
comment on column public.stripe_checkouts.customer_id is 'Customer.';
comment on column public.stripe_checkouts.subscription_id is 'Subscription that it starts.';
comment on column public.stripe_checkouts.mode is 'payment, setup or subscription.';
comment on column public.stripe_checkouts.status is 'open, complete or expired.';
comment on column public.stripe_checkouts.payment_status is 'paid, unpaid (not settled yet, or failed) or no_payment_required.';
comment on column public.stripe_checkouts.amount_total is 'Total in the smallest unit of the currency.';
comment on column public.stripe_checkouts.currency is 'Currency.';
comment on column public.stripe_checkouts.livemode is 'False in Stripe''s test mode.';
comment on column public.stripe_checkouts.event_id is 'Event that the row reflects.';
comment on column public.stripe_checkouts.created_at is 'When it was created in Stripe.';
comment on column public.stripe_checkouts.as_of is 'Time of the event that the row reflects.';
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
  tax_rate_ids text[] not null default '{}',
  payment_lost_at timestamptz,
  livemode boolean not null,
  event_id text not null,
  created_at timestamptz not null,
  as_of timestamptz not null,
  primary key (id, livemode),
  -- Stripe's own limits are lower. This stops anything else.
  check (greatest(
    char_length(id), char_length(customer_id), char_length(status), char_length(collection_method),
    char_length(latest_invoice_id), char_length(event_id)
  ) <= 5000)
);
create index stripe_subscriptions_org_id_idx on public.stripe_subscriptions (org_id);
create index stripe_subscriptions_customer_id_idx on public.stripe_subscriptions (customer_id);
create index stripe_subscriptions_items_idx on public.stripe_subscriptions using gin (items jsonb_path_ops);
create index stripe_subscriptions_past_due_idx on public.stripe_subscriptions (past_due_since) where status = 'past_due';

comment on table public.stripe_subscriptions is 'Subscriptions in Stripe. The plan that follows is in subscriptions. Written only by functions.';
comment on column public.stripe_subscriptions.id is 'Stripe''s id.';
comment on column public.stripe_subscriptions.org_id is 'Organization. Null while unknown.';
comment on column public.stripe_subscriptions.metadata_org_id is 'metadata.org_id, if present.';
comment on column public.stripe_subscriptions.customer_id is 'Customer.';
comment on column public.stripe_subscriptions.status is 'Status in Stripe: incomplete, incomplete_expired, trialing, active, past_due, canceled, unpaid or paused.';
comment on column public.stripe_subscriptions.items is 'Items in order of their ids: id, price, product, lookup_key, quantity, current_period_start and current_period_end (in seconds), and tax_rates if it has some of its own.';
comment on column public.stripe_subscriptions.collection_method is 'charge_automatically or send_invoice.';
comment on column public.stripe_subscriptions.current_period_start is 'Start of the current period of the item that determines the plan.';
comment on column public.stripe_subscriptions.current_period_end is 'End of the current period of the item that determines the plan.';
comment on column public.stripe_subscriptions.cancel_at_period_end is 'Whether it ends with the current period.';
comment on column public.stripe_subscriptions.cancel_at is 'When it will end.';
comment on column public.stripe_subscriptions.canceled_at is 'When the cancellation was requested.';
comment on column public.stripe_subscriptions.ended_at is 'When it ended.';
comment on column public.stripe_subscriptions.trial_end is 'End of the trial.';
comment on column public.stripe_subscriptions.past_due_since is 'Since when a payment is past due. private.stripe_grace() counts from here.';
comment on column public.stripe_subscriptions.latest_invoice_id is 'Latest invoice.';
comment on column public.stripe_subscriptions.tax_rate_ids is 'Tax rates of all its items that have none of their own.';
comment on column public.stripe_subscriptions.payment_lost_at is 'When a dispute about a payment was lost. It gives no plan until that much is paid again, or a later period. Null: never.';
comment on column public.stripe_subscriptions.livemode is 'False in Stripe''s test mode.';
comment on column public.stripe_subscriptions.event_id is 'Event that the row reflects.';
comment on column public.stripe_subscriptions.created_at is 'When it was created in Stripe.';
comment on column public.stripe_subscriptions.as_of is 'Time of the event that the row reflects.';
select private.describe_data('public.stripe_subscriptions', '{
  "metadata_org_id, customer_id, status, items, collection_method, current_period_start, current_period_end": "what was bought, and decides the plan",
  "cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end, past_due_since, latest_invoice_id, tax_rate_ids, payment_lost_at, livemode": "what was bought, and decides the plan",
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
  tax bigint not null default 0,
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
  -- Stripe's own limits are lower. This stops anything else.
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
comment on column public.stripe_invoices.org_id is 'Organization. Null while unknown.';
comment on column public.stripe_invoices.customer_id is 'Customer.';
comment on column public.stripe_invoices.subscription_id is 'Subscription that it bills. Null if none.';
comment on column public.stripe_invoices.number is 'Number on the invoice. Null for a draft.';
comment on column public.stripe_invoices.status is 'draft, open, paid, void or uncollectible.';
comment on column public.stripe_invoices.currency is 'Currency. Null if the event does not say.';
comment on column public.stripe_invoices.total is 'Total in the smallest unit of the currency.';
comment on column public.stripe_invoices.tax is 'VAT in the total.';
comment on column public.stripe_invoices.amount_due is 'Amount due.';
comment on column public.stripe_invoices.amount_paid is 'Amount paid.';
comment on column public.stripe_invoices.paid_out_of_band is 'Whether it was paid outside Stripe, for example by bank transfer.';
comment on column public.stripe_invoices.amount_remaining is 'Amount that is still to be paid.';
comment on column public.stripe_invoices.attempt_count is 'Number of attempts to collect the payment.';
comment on column public.stripe_invoices.billing_reason is 'Reason, for example subscription_create or subscription_cycle.';
comment on column public.stripe_invoices.hosted_invoice_url is 'URL of the page where it can be paid.';
comment on column public.stripe_invoices.invoice_pdf is 'URL of the PDF file.';
comment on column public.stripe_invoices.period_start is 'Start of the period that it bills.';
comment on column public.stripe_invoices.period_end is 'End of the period that it bills.';
comment on column public.stripe_invoices.due_date is 'When payment is due, if the invoice is sent by email.';
comment on column public.stripe_invoices.paid_at is 'When it was paid.';
comment on column public.stripe_invoices.deleted is 'Whether it is a deleted draft.';
comment on column public.stripe_invoices.livemode is 'False in Stripe''s test mode.';
comment on column public.stripe_invoices.event_id is 'Event that the row reflects.';
comment on column public.stripe_invoices.created_at is 'When it was created in Stripe. Null if the event does not say.';
comment on column public.stripe_invoices.as_of is 'Time of the event that the row reflects.';
select private.describe_data('public.stripe_invoices', '{
  "customer_id, subscription_id, number, status, currency, total, tax, amount_due, amount_paid, paid_out_of_band": "shows members their invoices",
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
  -- Stripe's own limits are lower. This stops anything else.
  check (greatest(
    char_length(id), char_length(product_id), char_length(lookup_key), char_length(nickname),
    char_length(currency), char_length(recurring_interval), char_length(event_id)
  ) <= 5000)
);
comment on table public.stripe_prices is 'Prices in Stripe that events have reported. Written only by functions.';
comment on column public.stripe_prices.id is 'Stripe''s id.';
comment on column public.stripe_prices.product_id is 'Product.';
comment on column public.stripe_prices.lookup_key is 'The last lookup key that it had. The part before the first underscore is the plan. When a newer price gets the key, Stripe removes it here. Subscriptions to this price keep their plan, so the key stays in this column.';
comment on column public.stripe_prices.nickname is 'Internal name.';
comment on column public.stripe_prices.currency is 'Currency. Null if the event does not say.';
comment on column public.stripe_prices.unit_amount is 'Price of one unit, in the smallest unit of the currency. Null for tiered prices.';
comment on column public.stripe_prices.recurring_interval is 'day, week, month or year. Null for one-time prices.';
comment on column public.stripe_prices.recurring_interval_count is 'Number of intervals in a period.';
comment on column public.stripe_prices.active is 'Whether it can be bought.';
comment on column public.stripe_prices.deleted is 'Whether it was deleted in Stripe.';
comment on column public.stripe_prices.livemode is 'False in Stripe''s test mode.';
comment on column public.stripe_prices.event_id is 'Event that the row reflects.';
comment on column public.stripe_prices.created_at is 'When it was created in Stripe. Null if the event does not say.';
comment on column public.stripe_prices.as_of is 'Time of the event that the row reflects.';
select private.describe_data('public.stripe_prices', '{
  "product_id, lookup_key, nickname, currency, unit_amount, recurring_interval, recurring_interval_count, active": "which price belongs to which plan",
  "deleted, livemode, event_id, as_of": "which price belongs to which plan"
}', 'platform');

-- Reading needs billing:read. Only functions write, so not even service_role can: Stripe's data is changed in Stripe.
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
-- Only prices that the organization is subscribed to: a price may have been negotiated with another customer.
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
