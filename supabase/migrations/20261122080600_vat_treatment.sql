-- ============================================================================
-- VAT: which VAT an organization is charged, and what is to be credited.
-- ============================================================================

create function private.vat_treatment(org uuid, moment timestamptz default kijko.now())
returns table (treatment text, country text, rate_basis_points integer, legal_note text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  details public.billing_details;
  settings private.vat_settings;
  place record;
begin
  select d.* into details from public.billing_details as d where d.org_id = org;
  if not found then
    return query values ('unknown', null::text, null::integer, null::text);
    return;
  end if;
  select s.* into settings from private.vat_settings as s;
  select p.vat_country, p.region into place from private.vat_place(details.country, details.postal_code) as p;
  if place.vat_country is null then
    return query values ('outside_eu', details.country, 0, case details.language when 'nl' then 'Niet onderworpen aan btw in de EU' else 'Not subject to EU VAT' end);
  elsif place.vat_country = settings.seller_country then
    return query select 'domestic', place.vat_country, private.vat_rate(place.vat_country, place.region, moment), null::text;
  elsif details.kind = 'business' and left(details.vat_number, 2) <> 'XI' and private.vat_number_valid_at(org, details.vat_number, moment) then
    return query values ('reverse_charge', place.vat_country, 0, case details.language when 'nl' then 'Btw verlegd' else 'VAT reverse-charged' end);
  elsif settings.oss_since <= (moment at time zone (select c.time_zone from private.vat_countries as c where c.code = settings.seller_country))::date then
    return query select 'oss', place.vat_country, private.vat_rate(place.vat_country, place.region, moment), null::text;
  else
    return query select 'domestic', settings.seller_country, private.vat_rate(settings.seller_country, '', moment), null::text;
  end if;
end
$$;
comment on function private.vat_treatment(uuid, timestamptz) is 'Which VAT an organization is charged at a moment, by its billing details of now and the answers of VIES until then. treatment: domestic, reverse_charge (a business of another member state with a valid number), oss (everybody else of another member state, at the rate of their country), outside_eu, or unknown (no billing details: nothing can be sold). country: whose VAT it is. Nullable: country, rate_basis_points, legal_note.';

create function public.vat_treatment() returns table (treatment text, country text, rate_basis_points integer, legal_note text, vat_number_status text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('billing:read');
  return query
    select t.treatment, t.country, t.rate_basis_points, t.legal_note, (select d.vat_number_status from public.billing_details as d where d.org_id = org)
    from private.vat_treatment(org) as t;
end
$$;
comment on function public.vat_treatment() is 'Which VAT the organization of the request is charged now, as private.vat_treatment() says. Requires billing:read. Nullable: country, rate_basis_points, legal_note, vat_number_status. Definer: rates and settings are private.';
grant execute on function public.vat_treatment() to authenticated;

-- ----------------------------------------------------------------------------
-- What is to be credited
-- ----------------------------------------------------------------------------

create table private.vat_credits (
  id uuid primary key default gen_random_uuid(),
  organization uuid not null,
  check_id uuid not null,
  vat_number text not null check (octet_length(vat_number) <= 20),
  country text not null check (country ~ '^[A-Z]{2}$'),
  charged_from timestamptz not null,
  charged_until timestamptz not null,
  created_at timestamptz not null default kijko.now(),
  settled_at timestamptz,
  settled_with text check (octet_length(settled_with) <= 500),
  unique (organization, check_id),
  foreign key (organization, check_id) references public.vat_checks (org_id, id) on delete cascade
);
create index vat_credits_due_idx on private.vat_credits (organization) where settled_at is null;
comment on table private.vat_credits is 'Times in which VAT was charged only because a number had not been found valid yet. What was charged then is to be credited.';
comment on column private.vat_credits.id is 'Identity of the row.';
comment on column private.vat_credits.organization is 'Organization.';
comment on column private.vat_credits.check_id is 'The check that found the number valid.';
comment on column private.vat_credits.vat_number is 'The number.';
comment on column private.vat_credits.country is 'Country whose VAT was charged.';
comment on column private.vat_credits.charged_from is 'When the number was given, or VIES began to call it invalid.';
comment on column private.vat_credits.charged_until is 'When it was found valid.';
comment on column private.vat_credits.created_at is 'When the row was made.';
comment on column private.vat_credits.settled_at is 'When it was credited, or found that nothing was charged; null while it is due.';
comment on column private.vat_credits.settled_with is 'How, as the credit notes'' ids.';
select private.describe_data('private.vat_credits', '{
  "id, organization, check_id, vat_number, country, charged_from, charged_until, created_at, settled_at, settled_with": {"purpose": "says what VAT is to be credited", "export": "none"}
}');
alter table private.vat_credits enable row level security;

create function private.vat_record_credit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  details public.billing_details;
  former record;
  since timestamptz;
  charged_country text;
begin
  select d.* into details from public.billing_details as d where d.org_id = new.org_id and d.vat_number = new.vat_number;
  if not found then
    return null;
  end if;
  select max(c.consulted_at) filter (where c.status = 'valid') as valid_at into former
  from public.vat_checks as c
  where c.org_id = new.org_id and c.vat_number = new.vat_number and c.consulted_at is not null and c.id <> new.id;
  since := case when former.valid_at is null then details.vat_number_since else (
    select min(c.consulted_at) from public.vat_checks as c
    where c.org_id = new.org_id and c.vat_number = new.vat_number and c.status = 'invalid' and c.consulted_at > former.valid_at
  ) end;
  if since is null then
    return null; -- it was valid all the time
  end if;
  since := greatest(since, details.vat_number_since);
  if since >= new.consulted_at then
    return null;
  end if;
  -- Who pays VAT also with a valid number gets none back.
  if (select t.treatment from private.vat_treatment(new.org_id, new.consulted_at) as t) = 'reverse_charge' then
    charged_country := (select t.country from private.vat_treatment(new.org_id, since) as t);
    insert into private.vat_credits (organization, check_id, vat_number, country, charged_from, charged_until)
    values (new.org_id, new.id, new.vat_number, charged_country, since, new.consulted_at)
    on conflict (organization, check_id) do nothing;
  end if;
  return null;
end
$$;
comment on function private.vat_record_credit() is 'Trigger: when a number is found valid, records the time in which VAT was charged for want of an answer. Definer: the table is private.';
create trigger vat_checks_credit after update of status on public.vat_checks
  for each row when (new.status = 'valid' and old.status <> 'valid')
  execute function private.vat_record_credit();

create function private.vat_credits_due(org uuid default null)
returns table (credit_id uuid, org_id uuid, vat_number text, country text, charged_from timestamptz, charged_until timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.id, c.organization, c.vat_number, c.country, c.charged_from, c.charged_until
  from private.vat_credits as c
  where c.settled_at is null and (org is null or c.organization = org)
  order by c.created_at, c.id
$$;
comment on function private.vat_credits_due(uuid) is 'Times whose VAT is still to be credited, of an organization or (null) of all, the oldest first.';

create function private.vat_credits_settle(credit uuid, settled_with text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update private.vat_credits as c set settled_at = kijko.now(), settled_with = vat_credits_settle.settled_with
  where c.id = credit and c.settled_at is null;
  return found;
end
$$;
comment on function private.vat_credits_settle(uuid, text) is 'Records that a time of private.vat_credits_due() is credited, and how. False if it was already.';
