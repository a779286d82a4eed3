-- ============================================================================
-- Billing: use beyond what a plan includes.
--
-- A report is a step of what Stripe has been told of a meter in a period of the ledger: its amount is the target, the use beyond
-- the included amount, minus what was reported before. One report of an organization's meter is open at a time. Stripe forgets
-- the identifier of a report after 24 hours, and a repetition after that would count twice. So after 20 hours without an answer
-- it is never sent again: Stripe's own sum says whether it arrived.
-- ============================================================================

create table private.billing_reports (
  organization_id uuid not null,
  meter text not null check (octet_length(meter) <= 63),
  period_end timestamptz not null,
  seq integer not null check (seq > 0),
  lookup_key text not null check (octet_length(lookup_key) <= 100),
  subscription_id text not null check (octet_length(subscription_id) <= 254),
  customer_id text not null check (octet_length(customer_id) <= 254),
  livemode boolean not null,
  used bigint not null,
  included bigint not null,
  amount bigint not null check (amount <> 0),
  via text not null check (via in ('meter_event', 'invoice_item')),
  amount_cents bigint check ((via = 'invoice_item') = (amount_cents is not null)),
  state text not null default 'open' check (state in ('open', 'unknown', 'done', 'failed')),
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  primary key (organization_id, meter, period_end, seq)
);
create unique index billing_reports_open_key on private.billing_reports (organization_id, meter) where state in ('open', 'unknown');
create index billing_reports_customer_idx on private.billing_reports (customer_id, meter, created_at);
comment on table private.billing_reports is 'What Stripe was told of use beyond the included amount. Like the ledger it has no foreign keys, and stays.';
comment on column private.billing_reports.organization_id is 'Organization. It may be gone.';
comment on column private.billing_reports.meter is 'Meter.';
comment on column private.billing_reports.period_end is 'End of the ledger''s period.';
comment on column private.billing_reports.seq is 'Number of the report within meter and period.';
comment on column private.billing_reports.lookup_key is 'Metered price that its units are billed at.';
comment on column private.billing_reports.subscription_id is 'Subscription that is billed.';
comment on column private.billing_reports.customer_id is 'Customer that is billed.';
comment on column private.billing_reports.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_reports.used is 'Use of the period when it was made.';
comment on column private.billing_reports.included is 'Amount that the plan included then.';
comment on column private.billing_reports.amount is 'Units that it adds: the target minus all earlier reports. Negative: a correction.';
comment on column private.billing_reports.via is 'meter_event, or invoice_item for what comes after the period or takes back.';
comment on column private.billing_reports.amount_cents is 'What an invoice item charges, before VAT; null for a meter event.';
comment on column private.billing_reports.state is 'open, unknown (Stripe''s sum is being asked for), done, or failed (Stripe does not have it; the next report has its units).';
comment on column private.billing_reports.created_at is 'When it was made.';
comment on column private.billing_reports.ended_at is 'When Stripe was known to have it, or not.';
select private.describe_data('private.billing_reports', '{
  "organization_id, meter, period_end, seq, lookup_key, subscription_id, customer_id, livemode, used, included, amount, via, amount_cents, state, ended_at":
    {"purpose": "what was billed of use", "export": "none", "erasure": "retention"}
}', 'organization');
alter table private.billing_reports enable row level security;
select private.set_retention('private.billing_reports', null, 'evidence of what an invoice bills, without a person', kept_by => 'the invoices, seven years');

-- ----------------------------------------------------------------------------
-- Who may use more than the plan includes
-- ----------------------------------------------------------------------------

create type private.billing_metered_item as (subscription_id text, customer_id text, livemode boolean, price public.prices);

create function private.billing_metered_items(org uuid) returns setof private.billing_metered_item
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select s.id, s.customer_id, s.livemode, c
  from private.stripe_entitlements as e
  join public.stripe_subscriptions as s on s.id = e.id and s.livemode = e.livemode
  -- Of the mode that the stack has the key of: nobody else can be told of use.
  join private.billing_account as a on a.livemode = s.livemode
  cross join lateral jsonb_array_elements(s.items) as item (value)
  join public.prices as c on c.lookup_key = item.value ->> 'lookup_key' and c.kind = 'metered'
  where e.org_id = org and e.live
$$;
comment on function private.billing_metered_items(uuid) is 'The metered prices that a live subscription of an organization has, in the account''s mode. None without an account.';

create function private.billing_overage_policy(org uuid, meter text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'bill' where exists (
      select from private.billing_metered_items(org) as i
      join public.stripe_subscriptions as s on s.id = i.subscription_id and s.livemode = i.livemode
      -- Stripe bills no use of a trial.
      where (i.price).meter = billing_overage_policy.meter and s.status <> 'trialing'
    )
    and not exists (select from private.billing_disputes as d where d.organization_id = org and d.status = 'open')
$$;
comment on function private.billing_overage_policy(uuid, text) is 'bill: use of a meter beyond the limit is allowed and billed, by a live subscription''s metered price, unless it is in its trial or a payment is disputed. Null: the plan''s policy. Nullable: result.';

create function private.billing_apply_overage(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.set_limits(
    array_agg(s.org_id), array_agg(l.meter), array_agg(l.period), array_agg(u."limit"),
    array_agg(coalesce(private.billing_overage_policy(org, l.meter), l.overage_policy))
  )
  from public.subscriptions as s
  join public.plan_limits as l on l.plan = s.plan
  join kijko.usage(org) as u on u.meter = l.meter
  where s.org_id = org and exists (select from public.prices as c where c.meter = l.meter)
  having count(*) > 0;
  perform private.billing_note_terms(org, i, u.reset_at, u."limit")
  from private.billing_metered_items(org) as i join kijko.usage(org) as u on u.meter = (i.price).meter
  where u."limit" is not null and u.reset_at is not null;
end
$$;
comment on function private.billing_apply_overage(uuid) is 'Sets whether use beyond the limits is billed or refused; the limits stay.';

-- ----------------------------------------------------------------------------
-- Reports
-- ----------------------------------------------------------------------------

create function private.billing_cents(price public.prices, units bigint) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select ceil(units::numeric / price.units)::bigint * price.amount_cents
$$;
comment on function private.billing_cents(public.prices, bigint) is 'What units of a metered price cost, before VAT. Begun packages count.';

create function private.billing_reported(org uuid, meter text, period_end timestamptz) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(r.amount), 0)::bigint from private.billing_reports as r
  where r.organization_id = org and r.meter = billing_reported.meter and r.period_end = billing_reported.period_end and r.state <> 'failed'
$$;
comment on function private.billing_reported(uuid, text, timestamptz) is 'Units of a period that Stripe was told of.';

create function private.billing_report(org uuid, item private.billing_metered_item, period_end timestamptz, used bigint, included bigint, is_over boolean) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  price constant public.prices := item.price;
  before constant bigint := private.billing_reported(org, price.meter, period_end);
  target constant bigint := greatest(used - included, 0);
  billed_at public.prices := price;
  report private.billing_reports;
begin
  -- While the period runs, use may also fall (a reservation ends); what is left then is settled at its end.
  if target = before or (target < before and not is_over)
    or exists (select from private.billing_reports as r where r.organization_id = org and r.meter = price.meter and r.state in ('open', 'unknown'))
    -- What Stripe refused is not tried again at once.
    or exists (
      select from private.billing_reports as r
      where r.organization_id = org and r.meter = price.meter and r.state = 'failed' and r.ended_at > clock_timestamp() - interval '10 minutes'
    )
  then
    return false;
  end if;
  -- What is taken back is credited at the price that it was reported at.
  if target < before then
    select c.* into billed_at from private.billing_reports as r join public.prices as c on c.lookup_key = r.lookup_key
    where r.organization_id = org and r.meter = price.meter and r.period_end = billing_report.period_end and r.state <> 'failed' and r.amount > 0
    order by r.seq desc limit 1;
  end if;
  insert into private.billing_reports (
    organization_id, meter, period_end, seq, lookup_key, subscription_id, customer_id, livemode, used, included, amount, via, amount_cents
  )
  values (
    org, price.meter, period_end,
    (select coalesce(max(r.seq), 0) + 1 from private.billing_reports as r where r.organization_id = org and r.meter = price.meter and r.period_end = billing_report.period_end),
    billed_at.lookup_key, item.subscription_id, item.customer_id, item.livemode, used, included, target - before,
    case when is_over then 'invoice_item' else 'meter_event' end,
    case when is_over then private.billing_cents(billed_at, target) - private.billing_cents(billed_at, before) end
  )
  returning * into report;
  if report.amount_cents = 0 then
    update private.billing_reports as r set state = 'done', ended_at = clock_timestamp()
    where (r.organization_id, r.meter, r.period_end, r.seq) = (report.organization_id, report.meter, report.period_end, report.seq);
    return true;
  end if;
  perform private.billing_send_report(report, billed_at);
  return true;
end
$$;
comment on function private.billing_report(uuid, private.billing_metered_item, timestamptz, bigint, bigint, boolean) is 'Tells Stripe of the use of a period beyond the included amount, as far as it was not told before. Whether there was something to tell.';

create function private.billing_report_subject(report private.billing_reports) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select concat_ws(':', report.organization_id, report.meter, extract(epoch from report.period_end)::bigint, report.seq)
$$;
comment on function private.billing_report_subject(private.billing_reports) is 'The identifier of a report at Stripe.';

create function private.billing_is_running(subscription text, livemode boolean) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from public.stripe_subscriptions as s
    where s.id = subscription and s.livemode = billing_is_running.livemode and s.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
  )
$$;
comment on function private.billing_is_running(text, boolean) is 'Whether a subscription will be invoiced again.';

create function private.billing_send_report(report private.billing_reports, price public.prices) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  subject constant text := private.billing_report_subject(report);
begin
  if report.via = 'meter_event' then
    perform private.billing_send('meter_event', subject, report.organization_id, 'POST', '/v1/billing/meter_events', jsonb_build_object(
      'event_name', 'kijko_' || report.meter, 'identifier', subject, 'timestamp', floor(extract(epoch from report.created_at))::bigint,
      'payload', jsonb_build_object('stripe_customer_id', report.customer_id, 'value', report.amount::text)
    ));
  else
    perform private.billing_send('invoice_item', subject, report.organization_id, 'POST', '/v1/invoiceitems', jsonb_build_object(
      'customer', report.customer_id,
      'subscription', case when private.billing_is_running(report.subscription_id, report.livemode) then report.subscription_id end,
      'currency', price.currency, 'amount', report.amount_cents,
      'description', format('%s until %s: %s', report.meter, to_char(report.period_end, 'YYYY-MM-DD'), report.amount),
      'metadata', jsonb_build_object('kijko_report', subject)
    ));
  end if;
end
$$;
comment on function private.billing_send_report(private.billing_reports, public.prices) is 'Queues a report to Stripe.';

create function private.billing_check_report(report private.billing_reports) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  subject constant text := private.billing_report_subject(report);
  meter_id constant text := private.billing_id('meter', report.meter);
begin
  if report.via = 'invoice_item' then
    perform private.billing_send('invoice_item_check', subject, report.organization_id, 'GET', '/v1/invoiceitems', jsonb_build_object(
      'customer', report.customer_id, 'limit', 100, 'created', jsonb_build_object('gte', floor(extract(epoch from report.created_at))::bigint)
    ));
    return;
  end if;
  -- Everything that this customer was told to have used since this report's minute began, with it.
  if meter_id is null then
    return;
  end if;
  perform private.billing_send('meter_check', subject, report.organization_id, 'GET', '/v1/billing/meters/' || meter_id || '/event_summaries',
    jsonb_build_object(
      'customer', report.customer_id,
      'start_time', extract(epoch from date_trunc('minute', report.created_at))::bigint,
      'end_time', extract(epoch from date_trunc('minute', clock_timestamp()))::bigint
    ),
    jsonb_build_object('expected', report.amount + coalesce((
      select sum(r.amount) from private.billing_reports as r
      where r.customer_id = report.customer_id and r.meter = report.meter and r.via = 'meter_event' and r.state = 'done'
        and r.created_at >= date_trunc('minute', report.created_at)
    ), 0)));
end
$$;
comment on function private.billing_check_report(private.billing_reports) is 'Queues the question whether Stripe has a report.';

create function private.billing_settle_report(effect private.billing_effects, state text, body jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  report private.billing_reports;
  arrived boolean;
  rate text;
begin
  select r.* into report from private.billing_reports as r
  where r.organization_id = effect.organization_id and r.state in ('open', 'unknown') and private.billing_report_subject(r) = effect.subject
  for update;
  if not found then
    return;
  end if;
  if effect.kind in ('meter_event', 'invoice_item') then
    -- A second event with an identifier of the last day is one that has arrived.
    arrived := case state when 'done' then true when 'failed' then body #>> '{error,code}' = 'duplicate_meter_event' end;
  elsif state = 'done' and effect.kind = 'meter_check' then
    -- Stripe sums up later than it answers: what is missing soon after says nothing yet.
    arrived := case
      when coalesce((body #>> '{data,0,aggregated_value}')::numeric, 0) >= (effect.details ->> 'expected')::numeric then true
      when report.created_at < clock_timestamp() - interval '1 hour' then false
    end;
  elsif state = 'done' then
    arrived := exists (
      select from jsonb_array_elements(body -> 'data') as i (item) where i.item #>> '{metadata,kijko_report}' = effect.subject
    );
  end if;
  update private.billing_reports as r
  set state = case arrived when true then 'done' when false then 'failed' else 'unknown' end,
    ended_at = case when arrived is not null then clock_timestamp() end
  where (r.organization_id, r.meter, r.period_end, r.seq) = (report.organization_id, report.meter, report.period_end, report.seq);
  -- What came after the end of a subscription has no next invoice. Without a country no invoice can be made.
  if arrived and report.via = 'invoice_item' and not private.billing_is_running(report.subscription_id, report.livemode)
    and exists (select from public.billing_details as d where d.org_id = report.organization_id)
  then
    rate := private.billing_tax(report.organization_id) #>> '{tax_rate,id}';
    perform private.billing_send('invoice', effect.subject, report.organization_id, 'POST', '/v1/invoices', jsonb_strip_nulls(jsonb_build_object(
      'customer', report.customer_id, 'auto_advance', true, 'pending_invoice_items_behavior', 'include',
      'default_tax_rates', case when rate is not null then jsonb_build_array(rate) end
    )));
  end if;
  -- A question without an answer is asked again by private.billing_report_use().
  if arrived is null and effect.kind in ('meter_event', 'invoice_item') then
    perform private.billing_check_report(report);
  end if;
end
$$;
comment on function private.billing_settle_report(private.billing_effects, text, jsonb) is 'Records whether Stripe has a report. Without an answer in 20 hours it asks for Stripe''s own sum instead of sending again.';

create function private.billing_report_use(max_organizations integer default 100000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  report private.billing_reports;
  org uuid;
  item private.billing_metered_item;
  use record;
  n integer := 0;
begin
  -- Reports that nothing is on the way for: the question about one failed, or could not be asked.
  for report in
    select r.* from private.billing_reports as r join private.billing_account as a on a.livemode = r.livemode
    where r.state in ('open', 'unknown') and not exists (
      select from private.billing_effects as e where e.kind in ('meter_event', 'meter_check', 'invoice_item', 'invoice_item_check')
        and e.subject = private.billing_report_subject(r) and (e.state = 'open' or e.ended_at > clock_timestamp() - interval '10 minutes')
    )
  loop
    perform private.billing_check_report(report);
  end loop;
  -- Former periods first: of a meter one report is on its way at a time, and the period that runs has one again and again.
  n := private.billing_settle_periods();
  for org in
    select distinct s.org_id from public.stripe_subscriptions as s
    where s.org_id is not null and s.status in ('active', 'trialing', 'past_due') and private.billing_has_overage(s.items)
    order by s.org_id limit max_organizations
  loop
    begin
      for item in select i.* from private.billing_metered_items(org) as i loop
        select u.* into use from kijko.usage(org) as u where u.meter = (item.price).meter;
        continue when use."limit" is null or use.reset_at is null;
        perform private.billing_note_terms(org, item, use.reset_at, use."limit");
        n := n + private.billing_report(org, item, use.reset_at, use.used, use."limit", is_over => false)::integer;
      end loop;
    exception when others then
      -- What fails with one organization must not stop the others.
      raise warning 'billing, use of %: %', org, sqlerrm;
    end;
  end loop;
  return n;
end
$$;
comment on function private.billing_report_use(integer) is 'Tells Stripe of the use beyond what plans include. Returns how many reports it made.';
