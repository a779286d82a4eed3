-- ============================================================================
-- Billing: what Stripe knows of who pays follows the billing details: the customer, the VAT number and the rate of running
-- subscriptions. It is compared, not sent after each change, so the order of changes and of Stripe's events does not matter.
--
--   1. A change of billing details, of a subscription or of rates puts the organization into private.billing_changes.
--   2. private.billing_sync_details() asks Stripe for what differs, one request of a kind at a time, and looks again until
--      nothing does; after that once a day, and when a rate begins.
-- ============================================================================

create table private.billing_changes (
  id bigint generated always as identity primary key,
  organization_id uuid not null references public.organizations (id) on delete cascade
);
create index billing_changes_organization_idx on private.billing_changes (organization_id);
comment on table private.billing_changes is 'Organizations whose details at Stripe may differ. Rows are only added and taken, so that nobody who changes details waits for the schedule.';
comment on column private.billing_changes.id is 'Identity of the row.';
comment on column private.billing_changes.organization_id is 'Organization.';
select private.describe_data('private.billing_changes', '{"id, organization_id": {"purpose": "keeps the VAT at Stripe up to date", "export": "none"}}', 'organization');
alter table private.billing_changes enable row level security;

create table private.billing_syncs (
  organization_id uuid primary key references public.organizations (id) on delete cascade,
  due_at timestamptz not null
);
create index billing_syncs_due_idx on private.billing_syncs (due_at);
comment on table private.billing_syncs is 'When an organization''s details are next compared with Stripe''s.';
comment on column private.billing_syncs.organization_id is 'Organization.';
comment on column private.billing_syncs.due_at is 'When, by kijko.now().';
select private.describe_data('private.billing_syncs', '{"organization_id, due_at": {"purpose": "keeps the VAT at Stripe up to date", "export": "none"}}', 'organization');
alter table private.billing_syncs enable row level security;

create table private.billing_tax_ids (
  id text not null check (octet_length(id) <= 254),
  livemode boolean not null,
  customer_id text not null check (octet_length(customer_id) <= 254),
  value text not null check (octet_length(value) <= 200),
  deleted boolean not null default false,
  primary key (id, livemode)
);
create index billing_tax_ids_customer_idx on private.billing_tax_ids (customer_id, livemode);
comment on table private.billing_tax_ids is 'VAT numbers that customers have at Stripe, which invoices show.';
comment on column private.billing_tax_ids.id is 'Stripe''s id.';
comment on column private.billing_tax_ids.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_tax_ids.customer_id is 'Customer.';
comment on column private.billing_tax_ids.value is 'The number.';
comment on column private.billing_tax_ids.deleted is 'Whether it was removed.';
select private.describe_data('private.billing_tax_ids', '{
  "id, livemode, customer_id, value, deleted": {"purpose": "invoices show the customer''s VAT number", "export": "none"}
}', 'organization');
alter table private.billing_tax_ids enable row level security;

create function private.billing_note_change(org uuid) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into private.billing_changes (organization_id) select o.id from public.organizations as o where o.id = org
$$;
comment on function private.billing_note_change(uuid) is 'Has the details of an organization compared with Stripe''s.';

create function private.billing_keep_tax_id(tax_id jsonb, livemode boolean, is_gone boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.billing_tax_ids as t (id, livemode, customer_id, value, deleted)
  values (tax_id ->> 'id', livemode, private.stripe_id(tax_id -> 'customer'), coalesce(tax_id ->> 'value', ''), is_gone)
  -- Gone is final, in whatever order it is reported.
  on conflict on constraint billing_tax_ids_pkey do update set deleted = t.deleted or excluded.deleted;
end
$$;
comment on function private.billing_keep_tax_id(jsonb, boolean, boolean) is 'Keeps a VAT number as Stripe has reported it.';

-- ----------------------------------------------------------------------------
-- One organization
-- ----------------------------------------------------------------------------

create function private.billing_sync_customer(org uuid, customer text, livemode boolean, tax jsonb) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  wanted constant jsonb := private.billing_customer_params(org, tax);
  details constant jsonb := jsonb_build_object('params', wanted);
begin
  if exists (
    select from private.billing_customers as c
    where c.organization_id = org and c.livemode = billing_sync_customer.livemode and c.customer_id = customer and c.params = wanted
  ) then
    return true;
  end if;
  if not private.billing_is_recent('customer', customer, details) then
    perform private.billing_send('customer', customer, org, 'POST', '/v1/customers/' || customer, wanted, details);
  end if;
  return false;
end
$$;
comment on function private.billing_sync_customer(uuid, text, boolean, jsonb) is 'Asks Stripe to take over name, address and exemption of a customer, unless it has. Whether it has.';

create function private.billing_sync_number(org uuid, customer text, livemode boolean) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  number constant text := private.billing_tax_number(org);
  kept text;
  other record;
  agrees boolean := true;
begin
  select min(t.id) into kept from private.billing_tax_ids as t
  where t.customer_id = customer and t.livemode = billing_sync_number.livemode and not t.deleted and t.value = number;
  for other in
    select t.id from private.billing_tax_ids as t
    where t.customer_id = customer and t.livemode = billing_sync_number.livemode and not t.deleted and t.id is distinct from kept
  loop
    agrees := false;
    if not private.billing_is_recent('tax_id_removal', other.id, '{}') then
      perform private.billing_send('tax_id_removal', other.id, org, 'DELETE', format('/v1/customers/%s/tax_ids/%s', customer, other.id), '{}');
    end if;
  end loop;
  if number is null or kept is not null then
    return agrees;
  end if;
  if not private.billing_is_recent('tax_id', customer, jsonb_build_object('number', number)) then
    perform private.billing_send('tax_id', customer, org, 'POST', format('/v1/customers/%s/tax_ids', customer),
      jsonb_build_object('type', 'eu_vat', 'value', number), jsonb_build_object('number', number));
  end if;
  return false;
end
$$;
comment on function private.billing_sync_number(uuid, text, boolean) is 'Asks Stripe to show the organization''s VAT number on invoices and no other one, unless it does. Whether it does.';

create function private.billing_sync_rates(org uuid, livemode boolean, tax jsonb) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  rate constant jsonb := nullif(tax -> 'tax_rate', 'null');
  wanted constant text[] := array_remove(array[rate ->> 'id'], null);
  details constant jsonb := jsonb_build_object('rates', wanted);
  differs record;
  agrees boolean := true;
begin
  for differs in
    select s.id, jsonb_agg(jsonb_build_object('id', i.value ->> 'id', 'tax_rates', '')) filter (where i.value ? 'tax_rates') as own
    from public.stripe_subscriptions as s
    left join lateral jsonb_array_elements(s.items) as i (value) on true
    where s.org_id = org and s.livemode = billing_sync_rates.livemode
      and s.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete')
    group by s.id, s.livemode
    having rate ->> 'id' is null and rate is not null
      or s.tax_rate_ids <> wanted
      or bool_or(i.value ? 'tax_rates')
  loop
    agrees := false;
    if rate is not null and rate ->> 'id' is null then
      if not private.billing_is_recent('tax_rate', rate ->> 'name', '{}') then
        perform private.billing_send('tax_rate', rate ->> 'name', org, 'POST', '/v1/tax_rates', rate -> 'params');
      end if;
    elsif not private.billing_is_recent('tax', differs.id, details) then
      perform private.billing_send('tax', differs.id, org, 'POST', '/v1/subscriptions/' || differs.id, jsonb_strip_nulls(jsonb_build_object(
        'default_tax_rates', case when wanted = '{}' then to_jsonb(''::text) else to_jsonb(wanted) end,
        -- Rates of an item go before those of the subscription.
        'items', differs.own,
        'proration_behavior', 'none'
      )), details);
    end if;
  end loop;
  return agrees;
end
$$;
comment on function private.billing_sync_rates(uuid, boolean, jsonb) is 'Asks Stripe to charge the VAT of the organization on its running subscriptions, unless it does; makes the rate first if Stripe lacks it. Whether it does.';

create function private.billing_settle_details(effect private.billing_effects, state text, http_status integer, body jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if effect.kind = 'customer' and state = 'done' then
    insert into private.billing_customers as c (organization_id, livemode, customer_id, params)
    select o.id, effect.livemode, effect.subject, effect.details -> 'params' from public.organizations as o where o.id = effect.organization_id
    on conflict (organization_id, livemode) do update set params = excluded.params where c.customer_id = excluded.customer_id;
  elsif effect.kind = 'customer' and http_status = 404 then
    -- Deleted at Stripe, and its event is lost. The next checkout makes another one.
    delete from private.billing_customers as c
    where c.organization_id = effect.organization_id and c.livemode = effect.livemode and c.customer_id = effect.subject;
  elsif effect.kind = 'tax_id' and state = 'done' then
    perform private.billing_keep_tax_id(body, effect.livemode, false);
  elsif effect.kind = 'tax_id_removal' and (state = 'done' or http_status = 404) then
    update private.billing_tax_ids as t set deleted = true where t.id = effect.subject and t.livemode = effect.livemode;
  elsif effect.kind = 'tax_rate' and state = 'done' then
    perform private.billing_record_object('tax_rate', effect.subject, effect.livemode, body ->> 'id');
  end if;
end
$$;
comment on function private.billing_settle_details(private.billing_effects, text, integer, jsonb) is 'Keeps what Stripe answered about a customer, VAT number or rate.';

-- ----------------------------------------------------------------------------
-- All of them
-- ----------------------------------------------------------------------------

create function private.billing_sync_organization(org uuid) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  mode constant boolean := (select a.livemode from private.billing_account as a);
  customer constant text := private.billing_customer(org);
  tax jsonb;
  agrees boolean[];
begin
  -- Without billing details it stays as whoever made the customer has set it.
  if mode is null or customer is null or not exists (select from public.billing_details as d where d.org_id = org) then
    return true;
  end if;
  tax := private.billing_tax(org);
  agrees := array[
    private.billing_sync_customer(org, customer, mode, tax),
    private.billing_sync_number(org, customer, mode),
    private.billing_sync_rates(org, mode, tax)
  ];
  return true = all (agrees);
end
$$;
comment on function private.billing_sync_organization(uuid) is 'Asks Stripe for what differs from the billing details of an organization. Whether nothing did.';

create function private.billing_sync_details(max_organizations integer default 1000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  next_rate constant timestamptz := private.vat_next_change(kijko.now());
  due record;
  agrees boolean;
  n integer := 0;
begin
  with taken as (
    delete from private.billing_changes as c
    where c.id in (select o.id from private.billing_changes as o order by o.id limit 10000 for update skip locked)
    returning c.organization_id
  )
  insert into private.billing_syncs as s (organization_id, due_at)
  select distinct t.organization_id, kijko.now() from taken as t
  on conflict on constraint billing_syncs_pkey do update set due_at = least(s.due_at, excluded.due_at);
  for due in
    select s.organization_id from private.billing_syncs as s where s.due_at <= kijko.now()
    order by s.due_at limit max_organizations for update skip locked
  loop
    -- What fails with one organization must not stop the others.
    begin
      agrees := private.billing_sync_organization(due.organization_id);
    exception when others then
      raise warning 'billing, details of %: %', due.organization_id, sqlerrm;
      agrees := false;
    end;
    update private.billing_syncs as s
    set due_at = case when agrees then least(kijko.now() + interval '1 day', next_rate) else kijko.now() end
    where s.organization_id = due.organization_id;
    n := n + agrees::integer;
  end loop;
  return n;
end
$$;
comment on function private.billing_sync_details(integer) is 'Compares the billing details of organizations for which it is time with what Stripe has. Returns for how many nothing differs.';
