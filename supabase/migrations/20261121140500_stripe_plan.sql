-- ============================================================================
-- Stripe: which organization owns a row, and which plan follows.
-- ============================================================================

create function private.stripe_link_customer(customer text, livemode boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  is_live boolean := livemode;
  owner uuid;
begin
  insert into public.stripe_customers (id, livemode) values (customer, is_live) on conflict (id, livemode) do nothing;
  -- The organization that was named first stays: a later session that names another one moves only its own subscription.
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

  -- Metadata can be changed later and a session cannot, so metadata takes precedence.
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
comment on function private.stripe_link_customer(text, boolean) is 'Sets the organization of all rows of a customer. A subscription belongs to its metadata.org_id, else to the checkout session that started it, else to its customer. A customer belongs to its metadata.org_id, else to its first completed session.';

-- ----------------------------------------------------------------------------
-- The plan
-- ----------------------------------------------------------------------------

create function private.stripe_grace() returns interval
language sql immutable parallel safe
return interval '7 days';
comment on function private.stripe_grace() is 'How long a plan stays while a payment is past due. No other place repeats it.';

-- A payment counts if its invoice begins a period. The status "active" proves no payment: with delayed payment methods
-- Stripe reports it before the money arrives. Other paid invoices prove none either: an invoice of 0 for a change within
-- a period is paid at once, while the first invoice may still be open.
create function private.stripe_paid_for(subscription text, livemode boolean, without_invoice text default null) returns boolean
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
        and i.id is distinct from without_invoice
        and case coalesce(i.billing_reason, 'subscription')
          -- The first one may be 0 because of a trial, a coupon or a credit of the operator.
          when 'subscription_create' then true
          when 'quote_accept' then true
          -- A later one may be 0 because Stripe credits unused time that was never paid for, so only money counts.
          when 'subscription_cycle' then i.amount_paid > 0 or i.paid_out_of_band
          when 'subscription' then i.amount_paid > 0 or i.paid_out_of_band
          else false
        end
    );
end
$$;
comment on function private.stripe_paid_for(text, boolean, text) is 'Whether the session of a subscription is settled, or an invoice that begins one of its periods is paid, other than without_invoice. Once true, it stays true.';

create function private.stripe_nothing_owed(subscription text, livemode boolean) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
      select from public.stripe_invoices as i
      where i.subscription_id = stripe_nothing_owed.subscription and i.livemode = stripe_nothing_owed.livemode and i.status = 'paid'
        and case i.billing_reason
          when 'subscription_cycle' then true
          -- A change that begins a new period, such as another interval, is billed as an update. An update of 0 pays for nothing.
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
    -- An unpaid session means an unpaid first invoice, even if no event has reported that invoice yet.
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
comment on function private.stripe_nothing_owed(text, boolean) is 'Whether a later invoice of a subscription is paid and no invoice that begins a period is unpaid.';

create function private.stripe_is_repaid(subscription text, livemode boolean, lost_at timestamptz, plan_start timestamptz) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    -- Not by any cent, such as the proration of a small change. The largest payment before is a whole period.
    select coalesce(sum(i.amount_paid) filter (where i.paid_at > lost_at), 0)
        >= greatest(max(i.amount_paid) filter (where coalesce(i.paid_at, i.created_at) <= lost_at), 1)
      -- The lost period is over, and another one is paid.
      or coalesce(bool_or(
        i.billing_reason = 'subscription_cycle' and i.amount_paid > 0 and plan_start > lost_at and i.paid_at >= plan_start
      ), false)
    from public.stripe_invoices as i
    where i.subscription_id = stripe_is_repaid.subscription and i.livemode = stripe_is_repaid.livemode and i.status = 'paid'
  );
end
$$;
comment on function private.stripe_is_repaid(text, boolean, timestamptz, timestamptz) is 'Whether as much was paid for a subscription since a payment of it was lost to a dispute as it had cost at most, or a period of the plan that began after that is paid.';

create view private.stripe_entitlements with (security_invoker = true) as
select
  s.id, s.org_id, s.customer_id, s.status, s.status in ('active', 'trialing', 'past_due') as running,
  coalesce(to_timestamp(plan.current_period_start), s.current_period_start) as current_period_start,
  coalesce(to_timestamp(plan.current_period_end), s.current_period_end) as current_period_end,
  s.ended_at, s.created_at, s.livemode,
  plan.code as plan, plan.rank as plan_rank, paid.paid,
  plan.code is not null and paid.paid and (
    s.status in ('active', 'trialing')
    or (s.status = 'past_due' and s.past_due_since + private.stripe_grace() > kijko.now())
  ) and not lost.lost as live,
  lost.lost
from public.stripe_subscriptions as s
left join lateral (
  -- A subscription may have several items, such as a plan and extras. The highest plan and its period count.
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
  -- Kept apart, or the planner would copy the expression to each place that uses it.
  offset 0
) as paid
cross join lateral (
  select case when s.payment_lost_at is null then false else not private.stripe_is_repaid(
    s.id, s.livemode, s.payment_lost_at, coalesce(to_timestamp(plan.current_period_start), s.current_period_start)
  ) end as lost
  offset 0
) as lost;
comment on view private.stripe_entitlements is 'Each Stripe subscription with its plan and period, whether it is running (Stripe still bills it), whether it has been paid for (or needs no payment first), whether it grants that plan now (live), and whether a dispute took its payment back (lost).';

create function private.stripe_refresh_plan(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  best private.stripe_entitlements;
  former public.subscriptions;
  wanted public.subscriptions;
begin
  -- Locked before anything is read: of two concurrent calls, the second sees what the first wrote.
  select s.* into former from public.subscriptions as s where s.org_id = org for update;
  if former.id is null then
    return; -- the organization is being deleted
  end if;
  wanted := former;

  select st.* into best
  from private.stripe_entitlements as st
  where st.org_id = org
  order by st.live desc, case when st.live then st.plan_rank end desc,
    -- Of those that give no plan, one that is owed. Stripe keeps its invoice open, whatever was begun or has ended after it.
    ((st.running and st.lost) or (st.status in ('unpaid', 'past_due') and st.paid)) desc, st.created_at desc, st.id collate "C" desc
  limit 1;

  if best.live then
    wanted.plan := best.plan;
    wanted.status := best.status;
    wanted.current_period_start := coalesce(best.current_period_start, best.created_at);
    -- An item that was added and ended in the same second has a period of no length.
    wanted.current_period_end := case when best.current_period_end > wanted.current_period_start then best.current_period_end end;
  else
    wanted.plan := 'FREE';
    -- A first payment that has not arrived is no debt: FREE is active.
    wanted.status := case when best.running and best.lost then 'unpaid' when best.status in ('canceled', 'unpaid', 'past_due') and best.paid then best.status else 'active' end;
    wanted.current_period_start := coalesce(
      best.ended_at, best.current_period_start, (select g.created_at from public.organizations as g where g.id = org)
    );
    wanted.current_period_end := null;
  end if;
  wanted.plan := coalesce(wanted.plan_override, wanted.plan);

  if (former.plan, former.status, former.current_period_start, former.current_period_end)
    is distinct from (wanted.plan, wanted.status, wanted.current_period_start, wanted.current_period_end)
  then
    update public.subscriptions as s
    set plan = wanted.plan,
      status = wanted.status,
      current_period_start = wanted.current_period_start,
      current_period_end = wanted.current_period_end
    where s.id = wanted.id;
  end if;
end
$$;
comment on function private.stripe_refresh_plan(uuid) is 'Derives the plan of an organization from its Stripe subscriptions. No other function does. The highest live plan counts, else FREE. plan_override takes precedence. Limits follow by trigger in the same transaction.';

create function private.stripe_end_plan_override() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.stripe_refresh_plan(new.org_id);
  return null;
end
$$;
comment on function private.stripe_end_plan_override() is 'Trigger: when an override is removed, the plan is derived from Stripe again. Definer: the role that removes it may not read Stripe subscriptions.';
create trigger subscriptions_override_end after update of plan_override on public.subscriptions
  for each row when (old.plan_override is not null and new.plan_override is null)
  execute function private.stripe_end_plan_override();

create function private.stripe_expire_grace() returns integer
language plpgsql set search_path = '' set lock_timeout = '500ms'
as $$
declare
  org uuid;
  n integer := 0;
begin
  -- A locked profile of a member must fail here, and not at the end of all.
  set constraints private.plans_tier_changes_apply immediate;
  for org in
    select s.org_id
    from public.subscriptions as s
    where s.plan <> 'FREE'
      and s.plan_override is null
      and s.status = 'past_due'
      and exists (select from private.stripe_entitlements as st where st.org_id = s.org_id and st.status = 'past_due' and not st.live)
    order by s.org_id
    limit 500
    -- A locked one is skipped until the next run, so that it does not delay the others.
    for update of s skip locked
  loop
    continue when org = any (private.passed_over());
    begin
      perform private.stripe_refresh_plan(org);
      n := n + 1;
    exception when others then
      raise warning 'grace period of organization %: %', org, sqlerrm;
      perform private.pass_over(org, sqlstate);
    end;
  end loop;
  return n;
end
$$;
comment on function private.stripe_expire_grace() is 'Ends plans whose payment has been past due for longer than the grace. A schedule runs it, because no event marks that moment.';
