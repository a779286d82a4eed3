-- ============================================================================
-- Billing: what a member sees of the next bill.
-- ============================================================================

create function private.billing_usage(org uuid) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  running constant public.stripe_subscriptions := private.billing_subscription(org);
  base public.prices;
  base_cents bigint;
  meters jsonb;
begin
  select c.* into base from public.prices as c where c.lookup_key = private.billing_base_item(coalesce(running.items, '[]')) ->> 'lookup_key';
  base_cents := base.amount_cents * case base.kind when 'seat' then private.billing_members(org) else 1 end;
  select coalesce(jsonb_agg(jsonb_build_object(
    'meter', f.meter, 'used', f.used, 'included', f."limit", 'reset_at', f.reset_at, 'units', (i.price).units, 'amount_cents', (i.price).amount_cents,
    'overage', greatest(f.used - f."limit", 0),
    'overage_cents', private.billing_cents(i.price, greatest(f.used - f."limit", 0)),
    'projected_used', f.at_period_rate,
    'projected_overage_cents', private.billing_cents(i.price, greatest(f.at_period_rate - f."limit", 0))
  ) order by f.meter), '[]') into meters
  from private.billing_metered_items(org) as i
  join kijko.usage_forecast(org) as f on f.meter = (i.price).meter
  where f."limit" is not null;
  return jsonb_build_object(
    'currency', 'eur',
    'plan', (select s.plan from public.subscriptions as s where s.org_id = org),
    'current_period_end', running.current_period_end,
    'base_cents', base_cents,
    'meters', meters,
    'total_cents', coalesce(base_cents, 0)
      + (select coalesce(sum((m.value ->> 'overage_cents')::bigint), 0) from jsonb_array_elements(meters) as m (value)),
    'projected_cents', coalesce(base_cents, 0)
      + (select coalesce(sum((m.value ->> 'projected_overage_cents')::bigint), 0) from jsonb_array_elements(meters) as m (value))
  );
end
$$;
comment on function private.billing_usage(uuid) is 'Use so far with what it costs before VAT, and the next bill by the rate of this period.';
