-- ============================================================================
-- Billing: what is sold, and what Stripe is asked for.
--
--   1. public.prices is the catalogue. "./kijko billing sync" makes its products, prices and meters at Stripe and keeps their ids.
--   2. A member buys, changes and stops through /functions/v1/billing-*. The sidecar asks public.authorize_billing() as the
--      caller, and gets what to ask Stripe for: every decision about rights and money is made here (billing_authorize.sql).
--   3. What nobody waits for goes by the outbox: seats, reports of use, cancellations (billing_effects.sql).
--   4. Stripe's events come back through the webhook, and rows and plan follow from them (domain stripe). Nothing here
--      unlocks anything.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- The catalogue
-- ----------------------------------------------------------------------------

create table public.prices (
  lookup_key text primary key check (octet_length(lookup_key) <= 100 and lookup_key ~ '^[a-z][a-z0-9]*(_[a-z0-9]+)+$'),
  plan text not null references public.plans (code) on delete cascade,
  recurring_interval text not null check (recurring_interval in ('month', 'year')),
  kind text not null check (kind in ('flat', 'seat', 'metered')),
  meter text check (octet_length(meter) <= 63 and meter ~ '^[a-z][a-z0-9_]*$'),
  units bigint not null default 1 check (units between 1 and 1000000000),
  amount_cents bigint not null check (amount_cents between 1 and 99999999),
  currency text not null default 'eur' check (currency = 'eur'),
  trial_days integer not null default 0 check (trial_days between 0 and 90),
  active boolean not null default true,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  -- The webhook takes the plan from the part before the first underscore.
  check (upper(split_part(lookup_key, '_', 1)) = plan),
  check ((kind = 'metered') = (meter is not null)),
  check (kind = 'metered' or units = 1),
  check (kind <> 'metered' or trial_days = 0)
);
create index prices_plan_idx on public.prices (plan);
create unique index prices_base_key on public.prices (plan, recurring_interval) where active and kind <> 'metered';
create unique index prices_meter_key on public.prices (plan, recurring_interval, meter) where active and kind = 'metered';
comment on table public.prices is 'Catalogue of prices, before VAT. It is public and the same for all organizations. FREE has no price.';
comment on column public.prices.lookup_key is 'Stable name, and the lookup key of the price at Stripe. The part before the first underscore is the plan. A changed amount makes a new price at Stripe, which takes over the key; subscriptions keep their old price.';
comment on column public.prices.plan is 'Plan that it buys, or whose use beyond the included amount it bills.';
comment on column public.prices.recurring_interval is 'month or year.';
comment on column public.prices.kind is 'flat: once for each period. seat: for each member. metered: for each units of a meter beyond what the plan includes.';
comment on column public.prices.meter is 'Meter that a metered price bills; null otherwise.';
comment on column public.prices.units is 'A metered price: how many units amount_cents pays for. Begun ones count.';
comment on column public.prices.amount_cents is 'Price in cents, before VAT.';
comment on column public.prices.currency is 'Currency: eur.';
comment on column public.prices.trial_days is 'Days of the trial that a first subscription begins with. 0: none.';
comment on column public.prices.active is 'Whether it is for sale.';
comment on column public.prices.created_at is 'When it was created.';
comment on column public.prices.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.prices', '{
  "lookup_key, plan, recurring_interval, kind, meter, units, amount_cents, currency, trial_days, active": "what a plan costs"
}', 'platform');

alter table public.prices enable row level security;
grant select on public.prices to anon, authenticated;
grant select, insert, update, delete on public.prices to service_role;
create policy prices_select on public.prices for select to anon, authenticated using (true);
create trigger prices_touch before update on public.prices
  for each row execute function private.touch_updated_at();

insert into public.prices (lookup_key, plan, recurring_interval, kind, meter, units, amount_cents, trial_days) values
  ('pro_monthly', 'PRO', 'month', 'flat', null, 1, 2900, 14),
  ('pro_yearly', 'PRO', 'year', 'flat', null, 1, 29000, 14),
  ('teams_monthly', 'TEAMS', 'month', 'seat', null, 1, 1900, 14),
  ('teams_yearly', 'TEAMS', 'year', 'seat', null, 1, 19000, 14),
  ('enterprise_monthly', 'ENTERPRISE', 'month', 'flat', null, 1, 149000, 0),
  ('enterprise_yearly', 'ENTERPRISE', 'year', 'flat', null, 1, 1490000, 0),
  -- Use beyond what a plan includes. At Stripe all prices of a subscription have one interval, so yearly plans have none.
  ('pro_executions_monthly', 'PRO', 'month', 'metered', 'executions', 1, 5, 0),
  ('pro_llm_tokens_monthly', 'PRO', 'month', 'metered', 'llm_tokens', 10000, 2, 0),
  ('teams_executions_monthly', 'TEAMS', 'month', 'metered', 'executions', 1, 4, 0),
  ('teams_llm_tokens_monthly', 'TEAMS', 'month', 'metered', 'llm_tokens', 10000, 2, 0);

-- ----------------------------------------------------------------------------
-- The account at Stripe
-- ----------------------------------------------------------------------------

create table private.billing_account (
  is_only boolean primary key default true check (is_only),
  api_url text not null check (octet_length(api_url) <= 2000 and api_url ~ '^https?://[^?#]+$' and api_url !~ '/$'),
  api_version text not null check (octet_length(api_version) <= 100),
  livemode boolean not null,
  registered_at timestamptz not null default now()
);
comment on table private.billing_account is 'Stripe''s account, as the sidecar''s settings say: one row, none without STRIPE_API_KEY. The key itself is a sealed secret of the outbox.';
comment on column private.billing_account.is_only is 'Always true: there is one row.';
comment on column private.billing_account.api_url is 'Base address of Stripe''s API.';
comment on column private.billing_account.api_version is 'Stripe-Version of every request.';
comment on column private.billing_account.livemode is 'False for a key of test mode.';
comment on column private.billing_account.registered_at is 'When a sidecar last said so.';
select private.describe_data('private.billing_account', '{
  "is_only, api_url, api_version, livemode, registered_at": "where requests to Stripe go"
}', 'platform');
alter table private.billing_account enable row level security;

create table private.billing_objects (
  kind text not null check (kind in ('product', 'price', 'meter', 'tax_rate', 'portal')),
  name text not null check (octet_length(name) <= 200),
  livemode boolean not null,
  stripe_id text not null check (octet_length(stripe_id) <= 254),
  matched_at timestamptz not null default now(),
  primary key (kind, name, livemode)
);
comment on table private.billing_objects is 'Ids at Stripe of what "./kijko billing sync" has made or matched.';
comment on column private.billing_objects.kind is 'product, price, meter, tax_rate or portal (the configuration of the customer portal).';
comment on column private.billing_objects.name is 'Plan of a product, lookup key of a price, name of a meter, country and basis points of a tax rate (NL:2100), or default.';
comment on column private.billing_objects.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_objects.stripe_id is 'Id at Stripe.';
comment on column private.billing_objects.matched_at is 'When it was last matched.';
select private.describe_data('private.billing_objects', '{
  "kind, name, livemode, stripe_id, matched_at": "which object at Stripe is which price"
}', 'platform');
alter table private.billing_objects enable row level security;

create table private.billing_customers (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  livemode boolean not null,
  customer_id text not null check (octet_length(customer_id) <= 254),
  params jsonb,
  created_at timestamptz not null default now(),
  primary key (organization_id, livemode)
);
create index billing_customers_customer_id_idx on private.billing_customers (customer_id, livemode);
comment on table private.billing_customers is 'The customer at Stripe of an organization, as checkout made it: known before any event reports it.';
comment on column private.billing_customers.organization_id is 'Organization.';
comment on column private.billing_customers.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_customers.customer_id is 'Id at Stripe.';
comment on column private.billing_customers.params is 'Name, address and exemption as Stripe last took them from the schedule. Null: not yet.';
comment on column private.billing_customers.created_at is 'When it was made.';
select private.describe_data('private.billing_customers', '{
  "organization_id, livemode, customer_id": "customer in Stripe that pays",
  "params": "name and address that an invoice must have"
}', 'organization');
alter table private.billing_customers enable row level security;

create function private.billing_id(kind text, name text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select o.stripe_id from private.billing_objects as o join private.billing_account as a on a.livemode = o.livemode
  where o.kind = billing_id.kind and o.name = billing_id.name
$$;
comment on function private.billing_id(text, text) is 'Id at Stripe of an object of the catalogue. Null before the first sync. Nullable: result.';

create function private.billing_customer(org uuid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.id
  from private.billing_account as a
  cross join lateral (
    select b.customer_id as id, 1 as preference from private.billing_customers as b where b.organization_id = org and b.livemode = a.livemode
    union all
    -- Made in another way: by a payment link, or in the dashboard.
    (select s.id, 2 from public.stripe_customers as s where s.org_id = org and s.livemode = a.livemode order by s.created_at limit 1)
  ) as c
  where not exists (
    select from public.stripe_customers as gone where gone.id = c.id and gone.livemode = a.livemode and gone.deleted
  )
  order by c.preference
  limit 1
$$;
comment on function private.billing_customer(uuid) is 'The customer at Stripe of an organization; null if it has none, or it was deleted there. Nullable: result.';

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.billing_register(api_url text, api_version text, livemode boolean, api_key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := kijko.http_request_problem('POST', api_url, '{}', null, null);
begin
  -- Whatever sends something to Stripe may rely on it.
  if problem is not null then
    perform kijko.fail('invalid_input', 'STRIPE_API_URL: ' || problem);
  end if;
  insert into private.billing_account as a (api_url, api_version, livemode) values (api_url, api_version, livemode)
  on conflict (is_only) do update set api_url = excluded.api_url, api_version = excluded.api_version, livemode = excluded.livemode, registered_at = now();
  perform kijko.set_http_secret('stripe-api-key', 'Bearer ' || api_key);
end
$$;
comment on function private.billing_register(text, text, boolean, text) is 'Says which account at Stripe this sidecar has the key of, so that the outbox asks the same. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_register(text, text, boolean, text) to kijko_sidecar;

create function private.billing_record_customer(org uuid, livemode boolean, customer text, gone text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  kept text;
begin
  -- The first one stays, unless Stripe no longer has it. An organization that was deleted meanwhile keeps none.
  insert into private.billing_customers as c (organization_id, livemode, customer_id)
  select o.id, billing_record_customer.livemode, customer from public.organizations as o where o.id = org for key share
  on conflict (organization_id, livemode) do update set customer_id = excluded.customer_id, params = null, created_at = now()
  where c.customer_id = gone
    or exists (select from public.stripe_customers as d where d.id = c.customer_id and d.livemode = c.livemode and d.deleted);
  select c.customer_id into kept from private.billing_customers as c where c.organization_id = org and c.livemode = billing_record_customer.livemode;
  return kept;
end
$$;
comment on function private.billing_record_customer(uuid, boolean, text, text) is 'Keeps the customer that was made for an organization, and returns the one that counts: that of the first of two calls at once. gone: the one that Stripe no longer has; null if there was none. Null when the organization is gone. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_record_customer(uuid, boolean, text, text) to kijko_sidecar;

create function private.billing_catalogue() returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'products', (
      select coalesce(jsonb_agg(jsonb_build_object('plan', p.code, 'name', p.name) order by p.rank), '[]')
      from public.plans as p where exists (select from public.prices as c where c.plan = p.code and c.active)
    ),
    'meters', (
      select coalesce(jsonb_agg(distinct c.meter order by c.meter), '[]') from public.prices as c where c.active and c.kind = 'metered'
    ),
    'prices', (
      select coalesce(jsonb_agg(to_jsonb(c) - array['created_at', 'updated_at', 'active', 'trial_days'] order by c.lookup_key), '[]')
      from public.prices as c where c.active
    )
  );
end
$$;
comment on function private.billing_catalogue() is 'What "./kijko billing sync" makes at Stripe. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_catalogue() to kijko_sidecar;

create function private.billing_record_object(kind text, name text, livemode boolean, stripe_id text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.billing_objects as o (kind, name, livemode, stripe_id) values (kind, name, livemode, stripe_id)
  on conflict on constraint billing_objects_pkey do update set stripe_id = excluded.stripe_id, matched_at = now();
end
$$;
comment on function private.billing_record_object(text, text, boolean, text) is 'Keeps the id at Stripe of an object of the catalogue. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_record_object(text, text, boolean, text) to kijko_sidecar;
