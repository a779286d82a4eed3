-- ============================================================================
-- Billing: trials. A checkout offers one before anybody knows how it will be paid, and several can be open at once. So when a
-- subscription begins with a trial, private.plans_trial_begin() decides whether it may have one, and again when the means of
-- payment is known. A trial that is not allowed ends at once: Stripe sends the first invoice.
-- ============================================================================

create table private.billing_payment_methods (
  id text not null check (octet_length(id) <= 254),
  livemode boolean not null,
  customer_id text not null check (octet_length(customer_id) <= 254),
  type text not null check (octet_length(type) <= 100),
  fingerprint text check (octet_length(fingerprint) <= 254),
  as_of timestamptz not null,
  primary key (id, livemode)
);
create index billing_payment_methods_customer_idx on private.billing_payment_methods (customer_id, livemode, as_of desc);
comment on table private.billing_payment_methods is 'Cards and bank accounts that Stripe charges. That of a first payment with iDEAL is the bank account of its mandate.';
comment on column private.billing_payment_methods.id is 'Stripe''s id.';
comment on column private.billing_payment_methods.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_payment_methods.customer_id is 'Customer.';
comment on column private.billing_payment_methods.type is 'Such as card or sepa_debit.';
comment on column private.billing_payment_methods.fingerprint is 'The same for the same card or account, whoever the customer is. Null if Stripe gives none.';
comment on column private.billing_payment_methods.as_of is 'Time of the event that reported it.';
select private.describe_data('private.billing_payment_methods', '{
  "id, livemode, customer_id, type, fingerprint, as_of": {"purpose": "one trial for each payment method", "export": "none"}
}', 'organization');
alter table private.billing_payment_methods enable row level security;

create table private.billing_trials (
  subscription_id text not null check (octet_length(subscription_id) <= 254),
  livemode boolean not null,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  allowed boolean not null,
  by_checkout boolean not null,
  primary key (subscription_id, livemode)
);
create index billing_trials_organization_idx on private.billing_trials (organization_id);
comment on table private.billing_trials is 'Subscriptions that began with a trial, and whether they may have it.';
comment on column private.billing_trials.subscription_id is 'Stripe''s id.';
comment on column private.billing_trials.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_trials.organization_id is 'Organization.';
comment on column private.billing_trials.allowed is 'False: the trial ends at once.';
comment on column private.billing_trials.by_checkout is 'False: an operator gave it in Stripe''s dashboard, and it stays.';
select private.describe_data('private.billing_trials', '{
  "subscription_id, livemode, organization_id, allowed, by_checkout": {"purpose": "one trial for each organization, person and payment method", "export": "none"}
}', 'organization');
alter table private.billing_trials enable row level security;

create function private.billing_fingerprint(customer text, livemode boolean) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select m.fingerprint from private.billing_payment_methods as m
  where m.customer_id = customer and m.livemode = billing_fingerprint.livemode and m.fingerprint is not null
  order by m.as_of desc, m.id limit 1
$$;
comment on function private.billing_fingerprint(text, boolean) is 'What tells the latest card or bank account of a customer from others; null while none is known. Nullable: result.';

create function private.billing_refuse_trial(subscription text, livemode boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  refused private.billing_trials;
begin
  update private.billing_trials as t set allowed = false
  where t.subscription_id = subscription and t.livemode = billing_refuse_trial.livemode
  returning t.* into refused;
  perform private.notifications_send(refused.organization_id, null, 'billing.trial_refused', '{}', 'billing.trial_refused:' || subscription);
  if not private.billing_is_recent('trial_end', subscription, '{}') then
    perform private.billing_send('trial_end', subscription, refused.organization_id, 'POST', '/v1/subscriptions/' || subscription, '{"trial_end": "now"}');
  end if;
end
$$;
comment on function private.billing_refuse_trial(text, boolean) is 'Ends a trial that is not allowed.';

create function private.billing_begin_trial(begun public.stripe_subscriptions) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  is_ours boolean;
  is_allowed boolean;
begin
  if begun.trial_end <= begun.created_at
    or exists (select from private.billing_trials as t where t.subscription_id = begun.id and t.livemode = begun.livemode)
  then
    return;
  end if;
  is_allowed := private.plans_trial_begin(
    begun.org_id, private.billing_fingerprint(begun.customer_id, begun.livemode), least(begun.trial_end - begun.created_at, interval '90 days')
  );
  is_ours := exists (
    select from private.stripe_events as e
    where e.id = begun.event_id and e.livemode = begun.livemode and e.payload #>> '{data,object,metadata,kijko_trial}' = 'checkout'
  );
  insert into private.billing_trials (subscription_id, livemode, organization_id, allowed, by_checkout)
  values (begun.id, begun.livemode, begun.org_id, is_allowed or not is_ours, is_ours);
  -- One that was bought beside a running subscription is cancelled as a whole.
  if not is_allowed and is_ours and not exists (
    select from public.stripe_subscriptions as s
    where s.org_id = begun.org_id and s.livemode = begun.livemode and s.id <> begun.id and s.status in ('active', 'trialing', 'past_due')
  ) then
    perform private.billing_refuse_trial(begun.id, begun.livemode);
  end if;
end
$$;
comment on function private.billing_begin_trial(public.stripe_subscriptions) is 'A subscription with a trial is the one trial of the organization and its owners; a further one ends.';

create function private.billing_retry_trial_ends(max_trials integer default 200) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  refused record;
  n integer := 0;
begin
  for refused in
    select t.subscription_id, t.livemode from private.billing_trials as t
    join private.billing_account as a on a.livemode = t.livemode
    join public.stripe_subscriptions as s on s.id = t.subscription_id and s.livemode = t.livemode
    where not t.allowed and s.status = 'trialing' and s.trial_end > kijko.now() and s.created_at < kijko.now() - interval '10 minutes'
      and not private.billing_is_recent('trial_end', t.subscription_id, '{}')
    order by t.subscription_id limit max_trials
  loop
    perform private.billing_refuse_trial(refused.subscription_id, refused.livemode);
    n := n + 1;
  end loop;
  return n;
end
$$;
comment on function private.billing_retry_trial_ends(integer) is 'Asks again to end trials that are not allowed and still run. Returns how many.';

-- ----------------------------------------------------------------------------
-- The means of payment
-- ----------------------------------------------------------------------------

create function private.billing_keep_payment_method(method jsonb, livemode boolean, as_of timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  customer constant text := private.stripe_id(method -> 'customer');
  found constant jsonb := method -> (method ->> 'type');
  org uuid;
  trial record;
begin
  if customer is null then
    return; -- attached to nobody
  end if;
  insert into private.billing_payment_methods as m (id, livemode, customer_id, type, fingerprint, as_of)
  values (method ->> 'id', livemode, customer, method ->> 'type', left(found ->> 'fingerprint', 254), as_of)
  on conflict on constraint billing_payment_methods_pkey do update
    set customer_id = excluded.customer_id, fingerprint = coalesce(excluded.fingerprint, m.fingerprint), as_of = excluded.as_of
    where excluded.as_of >= m.as_of;
  org := private.billing_customer_organization(customer, livemode);
  if org is null then
    return;
  end if;
  perform private.vat_record_evidence(org, 'payment_method', private.billing_method_country(method), left(method ->> 'id', 200));
  for trial in
    select s.id from private.billing_trials as t
    join public.stripe_subscriptions as s on s.id = t.subscription_id and s.livemode = t.livemode
    where t.organization_id = org and t.livemode = billing_keep_payment_method.livemode and t.allowed and t.by_checkout
      and s.customer_id = customer and s.status = 'trialing' and s.trial_end > kijko.now()
  loop
    if not private.plans_trial_identify(org, found ->> 'fingerprint') then
      perform private.plans_trial_end(org);
      perform private.billing_refuse_trial(trial.id, livemode);
    end if;
  end loop;
end
$$;
comment on function private.billing_keep_payment_method(jsonb, boolean, timestamptz) is 'Keeps a card or bank account of a customer: evidence of where they are, and what has had a trial. The order of its event and that of the subscription does not matter.';
