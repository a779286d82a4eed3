-- ============================================================================
-- Billing: what is still to be billed of a period of the ledger that is over, by the terms that held in it: the use of its last
-- minute, and what was recorded late. A plan that changed since then changes nothing of it.
-- ============================================================================

create table private.billing_terms (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  meter text not null check (octet_length(meter) <= 63),
  period_start timestamptz not null,
  period_end timestamptz not null,
  lookup_key text not null references public.prices (lookup_key),
  included bigint not null,
  subscription_id text not null check (octet_length(subscription_id) <= 254),
  customer_id text not null check (octet_length(customer_id) <= 254),
  livemode boolean not null,
  check_at timestamptz,
  primary key (organization_id, meter, period_end)
);
create index billing_terms_check_idx on private.billing_terms (check_at) where check_at is not null;
create index billing_terms_lookup_key_idx on private.billing_terms (lookup_key);
comment on table private.billing_terms is 'What a meter''s use beyond the plan costs in a period of the ledger: as it was when the period ended.';
comment on column private.billing_terms.organization_id is 'Organization.';
comment on column private.billing_terms.meter is 'Meter.';
comment on column private.billing_terms.period_start is 'Start of the ledger''s period.';
comment on column private.billing_terms.period_end is 'End of the ledger''s period.';
comment on column private.billing_terms.lookup_key is 'Metered price.';
comment on column private.billing_terms.included is 'Amount that the plan includes.';
comment on column private.billing_terms.subscription_id is 'Subscription that is billed.';
comment on column private.billing_terms.customer_id is 'Customer that is billed.';
comment on column private.billing_terms.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_terms.check_at is 'When what was reported is next compared with the ledger, by kijko.now(). Null: 10 days after the period it is settled.';
select private.describe_data('private.billing_terms', '{
  "organization_id, meter, period_start, period_end, lookup_key, included, subscription_id, customer_id, livemode, check_at":
    {"purpose": "what use costs", "export": "none"}
}', 'organization');
alter table private.billing_terms enable row level security;

create function private.billing_note_terms(org uuid, item private.billing_metered_item, period_end timestamptz, included bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- The calendar of an organization without use changes at once. Then another period runs, and this one would count it twice.
  delete from private.billing_terms as t
  where t.organization_id = org and t.meter = (item.price).meter and t.period_end > kijko.now() and t.period_end <> billing_note_terms.period_end;
  insert into private.billing_terms as t (
    organization_id, meter, period_start, period_end, lookup_key, included, subscription_id, customer_id, livemode, check_at
  )
  select org, (item.price).meter, p.starts_at, period_end, (item.price).lookup_key, included, item.subscription_id, item.customer_id, item.livemode, period_end
  from kijko.period_at(org, (item.price).meter, kijko.now(), 'month') as p
  where p.ends_at = period_end
  on conflict on constraint billing_terms_pkey do update
    set lookup_key = excluded.lookup_key, included = excluded.included, subscription_id = excluded.subscription_id,
      customer_id = excluded.customer_id, livemode = excluded.livemode
    where (t.lookup_key, t.included, t.subscription_id, t.customer_id, t.livemode)
      is distinct from (excluded.lookup_key, excluded.included, excluded.subscription_id, excluded.customer_id, excluded.livemode);
end
$$;
comment on function private.billing_note_terms(uuid, private.billing_metered_item, timestamptz, bigint) is 'Keeps what use costs in the period that runs.';

create function private.billing_settle_period(term private.billing_terms) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  price public.prices;
  made boolean;
begin
  -- While another report of the meter is on its way, or was refused a moment ago, it stays due.
  if exists (
    select from private.billing_reports as r
    where r.organization_id = term.organization_id and r.meter = term.meter
      and (r.state in ('open', 'unknown') or (r.state = 'failed' and r.ended_at > clock_timestamp() - interval '10 minutes'))
  ) then
    return false;
  end if;
  select c.* into price from public.prices as c where c.lookup_key = term.lookup_key;
  made := private.billing_report(
    term.organization_id, row(term.subscription_id, term.customer_id, term.livemode, price)::private.billing_metered_item,
    -- By the ledger's own periods, whatever calendar holds now.
    term.period_end, kijko.period_usage(term.organization_id, term.meter, term.period_start, term.period_end), term.included, is_over => true
  );
  -- Again after 5 minutes, 10, 20, … at most a day, as entries come late.
  update private.billing_terms as t
  set check_at = case when made then t.check_at when kijko.now() < t.period_end + interval '10 days' then
    kijko.now() + least(greatest(kijko.now() - t.period_end, interval '5 minutes'), interval '1 day')
  end
  where (t.organization_id, t.meter, t.period_end) = (term.organization_id, term.meter, term.period_end);
  return made;
end
$$;
comment on function private.billing_settle_period(private.billing_terms) is 'Bills or credits, as an invoice item, what of the use of a period that is over differs from what was reported within it. Whether there was something.';

create function private.billing_settle_periods(max_periods integer default 2000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  term private.billing_terms;
  n integer := 0;
begin
  for term in
    select t.* from private.billing_terms as t join private.billing_account as a on a.livemode = t.livemode
    where t.check_at <= kijko.now() order by t.check_at limit max_periods
  loop
    -- What fails with one of them must not stop the others.
    begin
      n := n + private.billing_settle_period(term)::integer;
    exception when others then
      raise warning 'billing, period of %: %', term.organization_id, sqlerrm;
    end;
  end loop;
  return n;
end
$$;
comment on function private.billing_settle_periods(integer) is 'Compares periods that are over with what was reported of them, where it is time. Returns how many reports that made.';
