-- ============================================================================
-- VAT: billing details. An organization says who pays, where, and whether as a business.
-- ============================================================================

create function private.vat_is_country(code text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return coalesce(code ~ '^[A-Z]{2}$' and code = any (string_to_array(
  'AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO '
  || 'CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN '
  || 'HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML '
  || 'MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA '
  || 'SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN '
  || 'VU WF WS YE YT ZA ZM ZW IC EA XK', ' '
)), false);
comment on function private.vat_is_country(text) is 'Whether it is a code of ISO 3166-1, or one that it reserves and payment methods use: IC (Canary Islands), EA (Ceuta and Melilla), XK (Kosovo).';

create function private.vat_country_code(code text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case upper(btrim(code)) when 'EL' then 'GR' when 'UK' then 'GB' else upper(btrim(code)) end;
comment on function private.vat_country_code(text) is 'A code of a country in capitals; that of ISO 3166-1 for EL and UK, which tax authorities use. Nullable: result.';

create table public.billing_details (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() unique references public.organizations (id) on delete cascade
    check (org_id <> kijko.platform_org_id()),
  kind text not null check (kind in ('business', 'consumer')),
  name text not null check (char_length(name) <= 200 and private.is_name(name)),
  country text not null check (country ~ '^[A-Z]{2}$'),
  address_line1 text not null default '' check (char_length(address_line1) <= 200),
  address_line2 text not null default '' check (char_length(address_line2) <= 200),
  postal_code text not null default '' check (char_length(postal_code) <= 20),
  city text not null default '' check (char_length(city) <= 100),
  region text not null default '' check (char_length(region) <= 100),
  vat_number text check (octet_length(vat_number) <= 20),
  vat_number_since timestamptz,
  vat_number_status text check (vat_number_status in ('pending', 'unavailable', 'valid', 'invalid')),
  language text not null default 'en' check (language in ('en', 'nl')),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (kind = 'business' or vat_number is null),
  check ((vat_number is null) = (vat_number_since is null)),
  check ((vat_number is null) = (vat_number_status is null))
);
comment on table public.billing_details is 'Who pays for an organization: one row for each. Country, kind and VAT number decide which VAT is charged.';
comment on column public.billing_details.id is 'Identity of the row.';
comment on column public.billing_details.org_id is 'Organization.';
comment on column public.billing_details.kind is 'business or consumer. A consumer has no VAT number.';
comment on column public.billing_details.name is 'Name on invoices.';
comment on column public.billing_details.country is 'Country by ISO 3166-1. EL is stored as GR, UK as GB.';
comment on column public.billing_details.address_line1 is 'Street and number.';
comment on column public.billing_details.address_line2 is 'Further line of the address.';
comment on column public.billing_details.postal_code is 'Postal code. It also tells territories with other rules of VAT, such as the Canary Islands.';
comment on column public.billing_details.city is 'City.';
comment on column public.billing_details.region is 'State or province.';
comment on column public.billing_details.vat_number is 'VAT number with its prefix. Spaces and dots are removed, and a missing prefix is added.';
comment on column public.billing_details.vat_number_since is 'When this number was given; set by trigger.';
comment on column public.billing_details.vat_number_status is 'What VIES says: pending (not yet asked), unavailable (it could not answer, and is asked again), valid or invalid. Null without a number; set by trigger. VAT is charged until it is valid.';
comment on column public.billing_details.language is 'Language of invoices and reminders.';
comment on column public.billing_details.created_by is 'User who gave the details first; null after that user is deleted.';
comment on column public.billing_details.created_by_key is 'API key that gave the details first; null for a user.';
comment on column public.billing_details.created_at is 'When they were given first.';
comment on column public.billing_details.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.billing_details', resource => 'billing', max_rows => 1,
  writable => '{kind,name,country,address_line1,address_line2,postal_code,city,region,vat_number,language}', catalogue => '{
  "kind, name, address_line1, address_line2, city, region": "name and address that an invoice must have",
  "country, postal_code": "decides which VAT is charged",
  "vat_number, vat_number_since, vat_number_status": "decides whether the customer accounts for the VAT",
  "language": "language of invoices"
}');

-- Who pays for what follows from these. Names and streets are not kept twice.
select private.audit_table('public.billing_details', 'billing_details', '{kind,country,postal_code,vat_number,language}');

create function private.vat_check_details() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  prefix text;
  owner text;
  fault text;
begin
  new.country := private.vat_country_code(new.country);
  if not private.vat_is_country(new.country) then
    perform kijko.fail('invalid_input', 'country: a code of ISO 3166-1');
  end if;
  prefix := (
    select c.prefix from private.vat_countries as c
    where c.code = coalesce((select p.vat_country from private.vat_place(new.country, new.postal_code) as p), new.country)
  );
  new.vat_number := private.vat_normalize_number(new.vat_number, prefix);
  if new.vat_number is null then
    new.vat_number_since := null;
    new.vat_number_status := null;
    return new;
  end if;
  fault := private.vat_number_fault(new.vat_number);
  if fault is not null then
    perform kijko.fail('invalid_input', 'vat_number: ' || fault);
  end if;
  owner := case left(new.vat_number, 2) when 'XI' then 'GB' else (select c.code from private.vat_countries as c where c.prefix = left(new.vat_number, 2)) end;
  if owner is distinct from new.country and left(new.vat_number, 2) is distinct from prefix then
    perform kijko.fail('invalid_input', 'vat_number: not of the country of the address');
  end if;
  if tg_op = 'INSERT' or old.vat_number is distinct from new.vat_number then
    new.vat_number_since := kijko.now();
    new.vat_number_status := case when private.vat_number_valid_at(new.org_id, new.vat_number, kijko.now()) then 'valid' else 'pending' end;
  end if;
  return new;
end
$$;
comment on function private.vat_check_details() is 'Trigger: brings country and VAT number into one form, and refuses a country that is none, and a number that cannot exist or belongs to another country. Definer: countries are in tables of private.';
create trigger billing_details_check before insert or update of kind, country, postal_code, vat_number on public.billing_details
  for each row execute function private.vat_check_details();
