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
  problem text check (octet_length(problem) <= 200),
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
comment on column private.billing_terms.problem is 'Why late use of the period cannot be counted; an operator bills it.';
select private.describe_data('private.billing_terms', '{
  "organization_id, meter, period_start, period_end, lookup_key, included, subscription_id, customer_id, livemode, check_at, problem":
    {"purpose": "what use costs", "export": "none"}
}', 'organization');
alter table private.billing_terms enable row level security;

create function private.billing_note_terms(org uuid, item private.billing_metered_item, period_end timestamptz, included bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
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

create function private.billing_month(period_start timestamptz, period_end timestamptz) returns date
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  -- The first of a month begins at most 14 hours before that of UTC, or 12 after; summer time moves it by an hour.
  select m.first::date
  from (select date_trunc('month', (period_start + interval '14 hours') at time zone 'UTC')) as m (first)
  cross join lateral (
    select period_start - m.first at time zone 'UTC', period_end - (m.first + interval '1 month') at time zone 'UTC'
  ) as o (start_offset, end_offset)
  where o.start_offset between interval '-14 hours' and interval '12 hours'
    and abs(extract(epoch from o.end_offset - o.start_offset)) <= 3600
$$;
comment on function private.billing_month(timestamptz, timestamptz) is 'The calendar month that a period is, in some time zone; null if it is none: its start was moved, or the time zone changed in it. Nullable: result.';

create function private.billing_settle_period(term private.billing_terms) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  month constant date := private.billing_month(term.period_start, term.period_end);
  price public.prices;
  next_period record;
  used bigint;
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
  -- The ledger is read by days, which are those of the calendar of now.
  select p.starts_at, p.ends_at into next_period from kijko.period_at(term.organization_id, term.meter, term.period_end, 'month') as p;
  if month is null or private.billing_month(next_period.starts_at, next_period.ends_at) is null then
    update private.billing_terms as t set check_at = null, problem = 'the calendar of the organization changed, or its months do not begin on the first'
    where (t.organization_id, t.meter, t.period_end) = (term.organization_id, term.meter, term.period_end);
    return false;
  end if;
  select c.* into price from public.prices as c where c.lookup_key = term.lookup_key;
  select coalesce(sum(d.amount), 0) into used
  from kijko.usage_by_day(term.organization_id, term.meter, month, (month + interval '1 month')::date - 1) as d;
  made := private.billing_report(
    term.organization_id, row(term.subscription_id, term.customer_id, term.livemode, price)::private.billing_metered_item,
    term.period_end, used, term.included, is_over => true
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
