-- ============================================================================
-- VAT: evidence of where a customer is. The law wants two pieces that agree: the address, where the card or bank account was
-- issued, and the country of the client's address, if a proxy of the operator says it (vat_settings.country_header).
-- ============================================================================

create table public.vat_evidence (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  kind text not null check (kind in ('billing_address', 'payment_method', 'ip_address')),
  country text not null check (country ~ '^[A-Z]{2}$'),
  vat_country text check (vat_country ~ '^[A-Z]{2}$'),
  reference text not null default '' check (octet_length(reference) <= 200),
  last_seen_at timestamptz not null default kijko.now(),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, kind, country, reference)
);
create index vat_evidence_latest_idx on public.vat_evidence (org_id, kind, last_seen_at desc);
comment on table public.vat_evidence is 'What shows in which country a customer is. Only the database writes it.';
comment on column public.vat_evidence.id is 'Identity of the row.';
comment on column public.vat_evidence.org_id is 'Organization.';
comment on column public.vat_evidence.kind is 'billing_address; payment_method, where the card or bank account was issued; or ip_address, the country of the client''s address.';
comment on column public.vat_evidence.country is 'The country that it shows, by ISO 3166-1.';
comment on column public.vat_evidence.vat_country is 'The country whose VAT applies there; null outside the EU''s VAT area.';
comment on column public.vat_evidence.reference is 'What it was, such as the id of a payment method. Never an address of a client.';
comment on column public.vat_evidence.last_seen_at is 'When it was seen last.';
comment on column public.vat_evidence.created_by is 'User whose request showed it; null for a payment.';
comment on column public.vat_evidence.created_by_key is 'API key whose request showed it.';
comment on column public.vat_evidence.created_at is 'When it was seen first.';
comment on column public.vat_evidence.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.vat_evidence', resource => 'billing', writable => '{}', catalogue => '{
  "kind, country, vat_country, reference, last_seen_at": "the law asks for two pieces of evidence of where a customer is"
}');

create function private.vat_record_evidence(org uuid, kind text, country text, reference text default '', postal_code text default '') returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  max_rows constant integer := 1000;
  shown constant text := private.vat_country_code(vat_record_evidence.country);
begin
  if not private.vat_is_country(shown) then
    return; -- networks without a country have codes such as T1 and XX
  end if;
  insert into public.vat_evidence as e (org_id, kind, country, vat_country, reference, last_seen_at)
  select org, vat_record_evidence.kind, shown,
    (select p.vat_country from private.vat_place(shown, vat_record_evidence.postal_code) as p), coalesce(vat_record_evidence.reference, ''),
    -- Of two pieces in one transaction the later one is the latest.
    greatest(kijko.now(), (
      select max(o.last_seen_at) + interval '1 microsecond' from public.vat_evidence as o where o.org_id = org and o.kind = vat_record_evidence.kind
    ))
  where (select count(*) from public.vat_evidence as o where o.org_id = org) < max_rows
    or exists (
      select from public.vat_evidence as o
      where o.org_id = org and o.kind = vat_record_evidence.kind and o.country = shown and o.reference = coalesce(vat_record_evidence.reference, '')
    )
  on conflict on constraint vat_evidence_org_id_kind_country_reference_key do update
    set last_seen_at = excluded.last_seen_at, vat_country = excluded.vat_country;
end
$$;
comment on function private.vat_record_evidence(uuid, text, text, text, text) is 'Records a piece of evidence of an organization, or that it was seen again. A code that is no country is ignored. An organization has 1,000 at most.';

create function private.vat_see_request() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  header constant text := (select s.country_header from private.vat_settings as s);
begin
  perform private.vat_record_evidence(new.org_id, 'billing_address', new.country, '', new.postal_code);
  if header is not null and kijko.is_request() then
    perform private.vat_record_evidence(new.org_id, 'ip_address', kijko.request_header(header));
  end if;
  return null;
end
$$;
comment on function private.vat_see_request() is 'Trigger: billing details are evidence, and so is the country of the request that gave them, if the operator''s proxy says it. Definer: only the database writes evidence.';
create trigger billing_details_evidence after insert or update on public.billing_details
  for each row when (pg_trigger_depth() = 0)
  execute function private.vat_see_request();

create function private.vat_evidence_of(org uuid) returns table (vat_country text, pieces integer, sufficient boolean, conflicts jsonb)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- The latest of each kind counts.
  with latest as (
    select distinct on (e.kind) e.kind, e.country, coalesce(e.vat_country, e.country) as vat_country
    from public.vat_evidence as e
    where e.org_id = org
    order by e.kind, e.last_seen_at desc, e.created_at desc
  ),
  -- An address in a territory outside the VAT area agrees with a card of its country.
  compared as (
    select l.kind, l.country, l.vat_country = a.vat_country or l.country = a.country as agrees
    from latest as l cross join latest as a where a.kind = 'billing_address'
  )
  select (select coalesce(e.vat_country, e.country) from latest as e where e.kind = 'billing_address'),
    count(*) filter (where c.agrees)::integer, count(*) filter (where c.agrees) >= 2,
    coalesce(jsonb_object_agg(c.kind, c.country) filter (where not c.agrees), '{}')
  from compared as c
$$;
comment on function private.vat_evidence_of(uuid) is 'How many pieces of evidence agree with the billing address of an organization, whether they are the two that the law asks for, and which say another country. Nullable: vat_country.';

create view private.vat_evidence_conflicts with (security_invoker = true) as
select d.org_id, d.country, d.kind, e.pieces, e.sufficient, e.conflicts
from public.billing_details as d
cross join lateral private.vat_evidence_of(d.org_id) as e
where e.conflicts <> '{}';
comment on view private.vat_evidence_conflicts is 'Organizations whose card or client is in another country than their billing address says, for operators.';
