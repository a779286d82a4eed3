-- ============================================================================
-- VAT: when the VAT of a running subscription may change. private.billing_sync_details() then compares it with Stripe's.
-- ============================================================================

create function private.vat_after_details() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.billing_note_change(new.org_id);
  return null;
end
$$;
comment on function private.vat_after_details() is 'Trigger: other billing details, or another answer about their VAT number, may change the VAT. Definer: the table of changes is private.';
create trigger billing_details_changes after insert or update on public.billing_details
  for each row execute function private.vat_after_details();

create function private.vat_after_rates() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.billing_changes (organization_id) select d.org_id from public.billing_details as d;
  return null;
end
$$;
comment on function private.vat_after_rates() is 'Trigger: another rate, or another setting of the seller, may change the VAT of everybody. Definer: the table of changes is private.';
create trigger vat_rates_changes after insert or update or delete on private.vat_rates
  for each statement execute function private.vat_after_rates();
create trigger vat_settings_changes after update on private.vat_settings
  for each statement execute function private.vat_after_rates();

create function private.vat_next_change(moment timestamptz) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select min(n.at) from (
    select r.valid_from::timestamp at time zone c.time_zone
    from private.vat_rates as r join private.vat_countries as c on c.code = r.country
    union all
    select s.oss_since::timestamp at time zone c.time_zone
    from private.vat_settings as s join private.vat_countries as c on c.code = s.seller_country
  ) as n (at)
  where n.at > moment
$$;
comment on function private.vat_next_change(timestamptz) is 'When the next rate begins that is known, or the seller''s use of the one-stop shop; null if nothing is known. Nullable: result.';
