-- ============================================================================
-- Billing: what the mirrored rows do not show: refunds, credit notes and disputes; and what members are told.
--
-- As in domain stripe, nothing depends on the order in which events arrive: an object's later state wins, and a closed dispute
-- stays closed.
-- ============================================================================

create table private.billing_charges (
  id text not null check (octet_length(id) <= 254),
  livemode boolean not null,
  customer_id text check (octet_length(customer_id) <= 254),
  amount bigint not null,
  amount_refunded bigint not null,
  currency text not null check (octet_length(currency) <= 10),
  as_of timestamptz not null,
  primary key (id, livemode)
);
create index billing_charges_customer_id_idx on private.billing_charges (customer_id, livemode);
comment on table private.billing_charges is 'Payments at Stripe: which customer made them, and what was paid back. A dispute names only the payment.';
comment on column private.billing_charges.id is 'Stripe''s id.';
comment on column private.billing_charges.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_charges.customer_id is 'Customer.';
comment on column private.billing_charges.amount is 'Amount in the smallest unit of the currency.';
comment on column private.billing_charges.amount_refunded is 'What of it was paid back.';
comment on column private.billing_charges.currency is 'Currency.';
comment on column private.billing_charges.as_of is 'Time of the event that the row shows.';
select private.describe_data('private.billing_charges', '{
  "livemode, customer_id, amount, amount_refunded, currency, as_of": {"purpose": "finds the payer of a dispute, and shows refunds", "export": "none"}
}', 'organization');
alter table private.billing_charges enable row level security;

create table private.billing_disputes (
  id text not null check (octet_length(id) <= 254),
  livemode boolean not null,
  charge_id text not null check (octet_length(charge_id) <= 254),
  organization_id uuid references public.organizations (id) on delete set null,
  status text not null check (status in ('open', 'won', 'lost')),
  amount bigint not null,
  currency text not null check (octet_length(currency) <= 10),
  as_of timestamptz not null,
  primary key (id, livemode)
);
create index billing_disputes_organization_idx on private.billing_disputes (organization_id);
create index billing_disputes_charge_id_idx on private.billing_disputes (charge_id, livemode);
comment on table private.billing_disputes is 'Payments that their payer disputes at the bank. While one is open, no use beyond the plan is billed; after a lost one the organization is unpaid.';
comment on column private.billing_disputes.id is 'Stripe''s id.';
comment on column private.billing_disputes.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_disputes.charge_id is 'Payment.';
comment on column private.billing_disputes.organization_id is 'Organization; null until the payment''s event has named its customer.';
comment on column private.billing_disputes.status is 'open, won or lost. Warnings of a dispute are not kept.';
comment on column private.billing_disputes.amount is 'Amount in the smallest unit of the currency.';
comment on column private.billing_disputes.currency is 'Currency.';
comment on column private.billing_disputes.as_of is 'Time of the event that the row shows.';
select private.describe_data('private.billing_disputes', '{
  "livemode, charge_id, organization_id, status, amount, currency, as_of": {"purpose": "stops overage while a payment is disputed", "export": "none"}
}', 'organization');
alter table private.billing_disputes enable row level security;

create function private.billing_amount(cents bigint) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select trim_scale(round(cents / 100.0, 2))::text
$$;
comment on function private.billing_amount(bigint) is 'Cents as a notice shows them.';

-- ----------------------------------------------------------------------------
-- Events
-- ----------------------------------------------------------------------------

create function private.billing_link_disputes(charge text, livemode boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  dispute private.billing_disputes;
begin
  update private.billing_disputes as d set organization_id = k.org_id
  from private.billing_charges as c
  join public.stripe_customers as k on k.id = c.customer_id and k.livemode = c.livemode
  where d.charge_id = charge and d.livemode = billing_link_disputes.livemode and c.id = d.charge_id and c.livemode = d.livemode
    and k.org_id is not null and d.organization_id is null;
  for dispute in
    select d.* from private.billing_disputes as d where d.charge_id = charge and d.livemode = billing_link_disputes.livemode and d.organization_id is not null
  loop
    perform private.billing_apply_overage(dispute.organization_id);
    perform private.notifications_send(dispute.organization_id, null, 'billing.disputed', jsonb_build_object(
      'amount', private.billing_amount(dispute.amount), 'currency', upper(dispute.currency)
    ), 'billing.disputed:' || dispute.id);
    if dispute.status = 'lost' then
      -- The money is gone, so the plan is unpaid until as much is paid again, or a later period. What was bought after that is another matter.
      update public.stripe_subscriptions as s set payment_lost_at = greatest(s.payment_lost_at, dispute.as_of)
      from private.billing_subscription(dispute.organization_id) as running
      where s.id = running.id and s.livemode = running.livemode and s.livemode = dispute.livemode and s.created_at <= dispute.as_of;
      perform private.stripe_refresh_plan(dispute.organization_id);
    end if;
  end loop;
end
$$;
comment on function private.billing_link_disputes(text, boolean) is 'Finds the organizations of the disputes of a payment, and does what follows from them. Doing it again changes nothing.';

create function private.billing_customer_organization(customer text, livemode boolean) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (select k.org_id from public.stripe_customers as k where k.id = customer and k.livemode = billing_customer_organization.livemode),
    -- A first payment may be reported before the checkout that names the organization.
    (select b.organization_id from private.billing_customers as b where b.customer_id = customer and b.livemode = billing_customer_organization.livemode)
  )
$$;
comment on function private.billing_customer_organization(text, boolean) is 'The organization of a customer; null while unknown. Nullable: result.';

create function private.billing_method_country(method jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  -- iDEAL names no country, but the bank: letters 5 and 6 of a BIC are its country.
  select coalesce(m.details ->> 'country', nullif(substr(m.details ->> 'bic', 5, 2), ''))
  from (select method -> (method ->> 'type')) as m (details)
$$;
comment on function private.billing_method_country(jsonb) is 'Where a card or bank account was issued; null if Stripe does not say. Nullable: result.';

create function private.billing_apply_event(event private.stripe_events) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  o constant jsonb := event.payload #> '{data,object}';
  customer constant text := private.stripe_id(o -> 'customer');
  org uuid;
  refunded bigint;
begin
  if event.object_type = 'charge' then
    insert into private.billing_charges as c (id, livemode, customer_id, amount, amount_refunded, currency, as_of)
    values (
      event.object_id, event.livemode, customer, coalesce((o ->> 'amount')::bigint, 0),
      coalesce((o ->> 'amount_refunded')::bigint, 0), coalesce(o ->> 'currency', 'eur'), event.created
    )
    on conflict (id, livemode) do update set
      customer_id = coalesce(excluded.customer_id, c.customer_id),
      -- What was paid back only grows.
      amount_refunded = greatest(excluded.amount_refunded, c.amount_refunded), as_of = greatest(excluded.as_of, c.as_of)
    returning c.amount_refunded into refunded;
    org := private.billing_customer_organization(customer, event.livemode);
    if org is not null then
      perform private.vat_record_evidence(
        org, 'payment_method', private.billing_method_country(o -> 'payment_method_details'), left(o ->> 'payment_method', 200)
      );
    end if;
    if refunded > 0 and org is not null then
      perform private.notifications_send(org, null, 'billing.refunded', jsonb_build_object(
        'amount', private.billing_amount(refunded), 'currency', upper(o ->> 'currency')
      ), format('billing.refunded:%s:%s', event.object_id, refunded));
    end if;
    perform private.billing_link_disputes(event.object_id, event.livemode);
  elsif event.object_type = 'payment_method' then
    perform private.billing_keep_payment_method(o, event.livemode, event.created);
  elsif event.object_type = 'tax_id' and customer is not null then
    perform private.billing_keep_tax_id(o, event.livemode, event.type like '%.deleted');
    perform private.billing_note_change(private.billing_customer_organization(customer, event.livemode));
  elsif event.object_type in ('credit_note', 'mandate') then
    perform private.billing_keep_document(event);
  elsif event.object_type = 'dispute' and o ->> 'status' not like 'warning%' then
    insert into private.billing_disputes as d (id, livemode, charge_id, status, amount, currency, as_of)
    values (
      event.object_id, event.livemode, coalesce(private.stripe_id(o -> 'charge'), ''),
      case o ->> 'status' when 'won' then 'won' when 'lost' then 'lost' else 'open' end,
      coalesce((o ->> 'amount')::bigint, 0), coalesce(o ->> 'currency', 'eur'), event.created
    )
    on conflict (id, livemode) do update set
      status = excluded.status, as_of = excluded.as_of
    -- Closed is final, and of two open states the order says nothing.
    where d.status = 'open' or (excluded.status <> 'open' and excluded.as_of > d.as_of);
    perform private.billing_link_disputes(private.stripe_id(o -> 'charge'), event.livemode);
  end if;
end
$$;
comment on function private.billing_apply_event(private.stripe_events) is 'Applies an event about a payment, a means of payment, a VAT number, a credit note, a mandate or a dispute.';

create function private.billing_notify_event(event private.stripe_events) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  o constant jsonb := event.payload #> '{data,object}';
  org uuid;
begin
  if event.type = 'customer.subscription.trial_will_end' then
    -- Of a trial that domain plans knows it tells itself, also if this event is lost.
    select e.org_id into org from private.stripe_entitlements as e
    where e.id = event.object_id and e.livemode = event.livemode
      and not exists (select from private.plan_trials as t where t.organization = e.org_id and t.ended_at is null);
    perform private.notifications_send(org, null, 'trial.ending', jsonb_build_object(
      'date', to_char(private.stripe_time(o -> 'trial_end') at time zone 'UTC', 'YYYY-MM-DD')
    ), 'trial.ending:' || event.object_id) where org is not null;
  else
    select k.org_id into org from public.stripe_checkouts as k where k.id = event.object_id and k.livemode = event.livemode;
    perform private.notifications_send(org, null, 'billing.payment_failed', jsonb_build_object(
      'plan', coalesce((select p.name from public.subscriptions as s join public.plans as p on p.code = s.plan where s.org_id = org), ''),
      'until', to_char(event.created + private.stripe_grace(), 'YYYY-MM-DD')
    ), 'billing.payment_failed:' || event.object_id) where org is not null;
  end if;
end
$$;
comment on function private.billing_notify_event(private.stripe_events) is 'Tells members of an event that changes no row: a trial that ends soon, a payment of a checkout that failed days later.';

create function private.billing_after_event() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if new.status = 'applied' then
    perform private.billing_notify_event(new);
  elsif new.object_type in ('charge', 'dispute', 'payment_method', 'tax_id', 'credit_note', 'mandate') and new.payload ->> 'account' is null then
    perform private.billing_apply_event(new);
  end if;
  return null;
end
$$;
comment on function private.billing_after_event() is 'Trigger: applies events about payments and disputes, which are not mirrored, and tells of others, at the end of their transaction. Definer: the sidecar has no rights on the tables.';
-- Deferred: the rows of the event's object are written after the event. The condition is short, since it is read anew for every event.
create constraint trigger stripe_events_billing after insert on private.stripe_events deferrable initially deferred
  for each row when (
    new.status = 'ignored' or new.type in ('customer.subscription.trial_will_end', 'checkout.session.async_payment_failed')
  )
  execute function private.billing_after_event();

-- ----------------------------------------------------------------------------
-- Dunning: notices while a payment is missing. When the grace has ended, private.stripe_expire_grace() takes the plan back.
-- ----------------------------------------------------------------------------

create function private.billing_after_subscription() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  names jsonb;
  mirrored boolean;
  has_overage boolean;
  since timestamptz;
begin
  select count(*) > 0, bool_or(private.billing_has_overage(s.items)), min(s.past_due_since) filter (where s.status = 'past_due')
  into mirrored, has_overage, since
  from public.stripe_subscriptions as s where s.org_id = new.org_id;
  -- What an operator changes by hand is no news of a payment.
  if not mirrored then
    return null;
  end if;
  -- Without metered prices the plan's own policy holds, which has been set with the plan.
  if has_overage then
    perform private.billing_apply_overage(new.org_id);
  end if;
  select jsonb_object_agg(p.code, p.name) into names from public.plans as p where p.code in (old.plan, new.plan);
  if new.plan <> old.plan then
    perform private.notifications_send(new.org_id, null, 'billing.plan_changed', jsonb_build_object(
      'plan', names ->> new.plan, 'former_plan', names ->> old.plan
    ), null);
  end if;
  if new.status = 'past_due' and old.status <> 'past_due' and new.plan <> 'FREE' then
    perform private.notifications_send(new.org_id, null, 'billing.payment_failed', jsonb_build_object(
      'plan', names ->> new.plan, 'until', to_char(coalesce(since, kijko.now()) + private.stripe_grace(), 'YYYY-MM-DD')
    ), format('billing.payment_failed:%s:%s', new.org_id, coalesce(since, kijko.now())));
  elsif old.status in ('past_due', 'unpaid') and new.status in ('active', 'trialing') and new.plan <> 'FREE' then
    perform private.notifications_send(new.org_id, null, 'billing.payment_recovered', jsonb_build_object('plan', names ->> new.plan), null);
  end if;
  return null;
end
$$;
comment on function private.billing_after_subscription() is 'Trigger: tells members that the plan changed, a payment failed, or one arrived after all; and whether use beyond the limits is billed follows the plan and the subscription''s prices. Definer: only the domain sends notifications and may set limits.';
-- After subscriptions_limits_update, which sets the limits: triggers fire by name.
create trigger subscriptions_notices after update on public.subscriptions
  for each row when (old.plan <> new.plan or old.status <> new.status)
  execute function private.billing_after_subscription();

create function private.billing_remind(max_reminders integer default 1000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  due record;
  n integer := 0;
begin
  for due in
    select s.org_id, p.name as plan, t.id, t.past_due_since, t.past_due_since + private.stripe_grace() as ends_at
    from public.stripe_subscriptions as t
    join public.subscriptions as s on s.org_id = t.org_id and s.status = 'past_due' and s.plan <> 'FREE'
    join public.plans as p on p.code = s.plan
    where t.status = 'past_due' and t.past_due_since + private.stripe_grace() - interval '3 days' < kijko.now()
    order by t.past_due_since limit max_reminders
  loop
    -- Three days before the end, and on the last.
    if private.notifications_send(due.org_id, null, 'billing.grace_ending', jsonb_build_object(
      'plan', due.plan, 'until', to_char(due.ends_at, 'YYYY-MM-DD')
    ), format('billing.grace_ending:%s:%s:%s', due.id, due.past_due_since, due.ends_at - interval '1 day' < kijko.now())) is not null then
      n := n + 1;
    end if;
  end loop;
  return n;
end
$$;
comment on function private.billing_remind(integer) is 'Reminds the members of organizations whose grace ends soon, twice. Returns how many it told.';
