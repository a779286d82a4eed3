-- ============================================================================
-- Billing: the subscription of an organization, and what a change of it would be.
-- ============================================================================

create function private.billing_members(org uuid) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select greatest(count(*), 1) from public.memberships as m where m.org_id = org
$$;
comment on function private.billing_members(uuid) is 'The seats that an organization pays for: its members, at least one.';

create function private.billing_subscription(org uuid) returns public.stripe_subscriptions
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select s.*
  from public.stripe_subscriptions as s
  join private.billing_account as a on a.livemode = s.livemode
  where s.org_id = org and s.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
  order by s.status in ('active', 'trialing', 'past_due') desc, s.created_at desc, s.id collate "C" desc
  limit 1
$$;
comment on function private.billing_subscription(uuid) is 'The subscription at Stripe that an organization changes or ends; a row of nulls if none runs. Nullable: result.';

-- The item of the plan is the one whose price is flat or for seats. A negotiated price is in no catalogue and not metered either.
create function private.billing_base_item(items jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select i.item
  from jsonb_array_elements(items) as i (item)
  left join public.prices as c on c.lookup_key = i.item ->> 'lookup_key'
  left join public.plans as p on p.code = upper(split_part(i.item ->> 'lookup_key', '_', 1))
  where c.kind is distinct from 'metered'
  order by c.lookup_key is not null desc, p.rank desc nulls last, i.item ->> 'id' collate "C"
  limit 1
$$;
comment on function private.billing_base_item(jsonb) is 'Of the items of a mirrored subscription, the one that is the plan itself and no metered price. Null without one. Nullable: result.';

create function private.billing_price(plan text, recurring_interval text) returns public.prices
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  base public.prices;
begin
  select c.* into base from public.prices as c
  where c.plan = billing_price.plan and c.recurring_interval = billing_price.recurring_interval and c.kind <> 'metered' and c.active;
  if not found then
    perform kijko.fail('invalid_input', 'plan, interval: there is no such price for sale');
  end if;
  if private.billing_id('price', base.lookup_key) is null then
    perform kijko.fail('unavailable', 'this price is not at Stripe yet', 'An operator runs ./kijko billing sync.');
  end if;
  return base;
end
$$;
comment on function private.billing_price(text, text) is 'The price of a plan that is for sale. Fails with invalid_input, and with unavailable before the first sync.';

create function private.billing_metered(base public.prices) returns table (lookup_key text, stripe_id text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.lookup_key, private.billing_id('price', c.lookup_key)
  from public.prices as c
  where c.plan = base.plan and c.recurring_interval = base.recurring_interval and c.kind = 'metered' and c.active
    and private.billing_id('price', c.lookup_key) is not null
  order by c.lookup_key
$$;
comment on function private.billing_metered(public.prices) is 'The metered prices that can be bought with a price.';

create function private.billing_line_items(base public.prices, org uuid, overage boolean) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_array(jsonb_build_object(
      'price', private.billing_id('price', base.lookup_key),
      'quantity', case base.kind when 'seat' then private.billing_members(org) else 1 end
    )) || coalesce((
      select jsonb_agg(jsonb_build_object('price', m.stripe_id) order by m.lookup_key) from private.billing_metered(base) as m where overage
    ), '[]')
$$;
comment on function private.billing_line_items(public.prices, uuid, boolean) is 'The items of a new subscription: the plan, and with overage its metered prices.';

create function private.billing_changed_items(items jsonb, base public.prices, org uuid, overage boolean) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  wanted constant jsonb := private.billing_line_items(base, org, overage);
  present constant jsonb := private.billing_base_item(items);
  changes jsonb;
begin
  -- The plan's own item keeps its identity, so that Stripe credits what is left of it.
  changes := jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('id', present ->> 'id')) || (wanted -> 0));
  -- A metered price of the new plan stays or is added, one of another plan ends.
  changes := changes || coalesce((
    select jsonb_agg(w.item order by w.item ->> 'price')
    from jsonb_array_elements(wanted - 0) as w (item)
    where not exists (select from jsonb_array_elements(items) as i (item) where i.item ->> 'price' = w.item ->> 'price')
  ), '[]');
  return changes || coalesce((
    select jsonb_agg(jsonb_build_object('id', i.item ->> 'id', 'deleted', true) order by i.item ->> 'id')
    from jsonb_array_elements(items) as i (item)
    where i.item ->> 'id' is distinct from present ->> 'id'
      and exists (select from public.prices as c where c.lookup_key = i.item ->> 'lookup_key' and c.kind = 'metered')
      and not exists (select from jsonb_array_elements(wanted) as w (item) where w.item ->> 'price' = i.item ->> 'price')
  ), '[]');
end
$$;
comment on function private.billing_changed_items(jsonb, public.prices, uuid, boolean) is 'What to ask Stripe for so that a subscription has the items of another price: the plan''s item is changed in place, metered prices are added and end. Items that the catalogue does not know stay.';

-- In plpgsql, because it keeps its plan: it is asked for each event that changes a subscription.
create function private.billing_has_overage(items jsonb) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from jsonb_array_elements(items) as i (item) join public.prices as c on c.lookup_key = i.item ->> 'lookup_key' where c.kind = 'metered'
  );
end
$$;
comment on function private.billing_has_overage(jsonb) is 'Whether a mirrored subscription bills use beyond what the plan includes.';

-- ----------------------------------------------------------------------------
-- Who pays, and which VAT
-- ----------------------------------------------------------------------------

create function private.billing_tax(org uuid) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  found record;
  rate text;
begin
  select t.treatment, t.country, t.rate_basis_points, t.legal_note into found from private.vat_treatment(org) as t;
  if coalesce(found.treatment, 'unknown') = 'unknown' or found.country is null then
    perform kijko.fail('conflict', 'the country of the customer is not known', 'Fill in the billing details first.');
  end if;
  rate := found.country || ':' || found.rate_basis_points;
  return jsonb_build_object(
    'treatment', found.treatment, 'country', found.country, 'legal_note', found.legal_note,
    'tax_exempt', case found.treatment when 'reverse_charge' then 'reverse' when 'outside_eu' then 'exempt' else 'none' end,
    'tax_rate', case when found.rate_basis_points > 0 then jsonb_build_object(
      'name', rate,
      'id', private.billing_id('tax_rate', rate),
      'params', jsonb_build_object(
        'display_name', case found.country when 'NL' then 'BTW' else 'VAT' end,
        'percentage', trim_scale(round(found.rate_basis_points / 100.0, 2))::text,
        'inclusive', false, 'country', found.country, 'tax_type', 'vat', 'metadata', jsonb_build_object('kijko_rate', rate)
      )
    ) end
  );
end
$$;
comment on function private.billing_tax(uuid) is 'The VAT of an organization for Stripe: the rate to put on its lines (null: none), and what the customer is exempt from. Fails with conflict while the country is unknown.';

create function private.billing_tax_number(org uuid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (select d.vat_number from public.billing_details as d where d.org_id = org and d.vat_number_status <> 'invalid');
end
$$;
comment on function private.billing_tax_number(uuid) is 'The VAT number that invoices of an organization show; null without one, or if it is invalid. Nullable: result.';

create function private.billing_customer_params(org uuid, tax jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
  select jsonb_strip_nulls(jsonb_build_object(
    'name', coalesce(d.name, o.name),
    'address', jsonb_build_object(
      'country', coalesce(d.country, tax ->> 'country'), 'line1', coalesce(d.address_line1, ''), 'line2', coalesce(d.address_line2, ''),
      'postal_code', coalesce(d.postal_code, ''), 'city', coalesce(d.city, ''), 'state', coalesce(d.region, '')
    ),
    'preferred_locales', jsonb_build_array(coalesce(d.language, 'en')),
    'tax_exempt', tax ->> 'tax_exempt',
    'invoice_settings', jsonb_build_object('footer', coalesce(tax ->> 'legal_note', '')),
    'metadata', jsonb_build_object('org_id', o.id)
  ))
  from public.organizations as o
  left join public.billing_details as d on d.org_id = o.id
  where o.id = org
  );
end
$$;
comment on function private.billing_customer_params(uuid, jsonb) is 'An organization as a customer at Stripe. An empty text removes what was there.';
