-- ============================================================================
-- VAT: which tax a customer pays.
--
--   1. vat_rates.sql has the standard rates by country and date.
--   2. vat_numbers.sql and vat_numbers_people.sql check the form and check digits of VAT numbers.
--   3. vat_details.sql: organizations say who they are in billing_details.
--   4. vat_checks.sql and vat_answers.sql ask VIES about numbers, and keep the answers.
--   5. vat_treatment.sql says which VAT an organization is charged, and what is to be credited.
--   6. vat_evidence.sql keeps what shows where a customer is.
-- ============================================================================

create table private.vat_countries (
  code text primary key check (code ~ '^[A-Z]{2}$'),
  prefix text not null unique check (prefix ~ '^[A-Z]{2}$'),
  name text not null check (octet_length(name) <= 100),
  time_zone text not null check (octet_length(time_zone) <= 100)
);
comment on table private.vat_countries is 'Member states of the European Union.';
comment on column private.vat_countries.code is 'Code by ISO 3166-1.';
comment on column private.vat_countries.prefix is 'How VAT numbers of the country begin. That of Greece is EL.';
comment on column private.vat_countries.name is 'Name in English.';
comment on column private.vat_countries.time_zone is 'Where the day begins on which a rate changes.';
select private.describe_data('private.vat_countries', '{"code, prefix, name, time_zone": "says where EU VAT is due"}', 'platform');
alter table private.vat_countries enable row level security;

insert into private.vat_countries (code, prefix, name, time_zone) values
  ('AT', 'AT', 'Austria', 'Europe/Vienna'),
  ('BE', 'BE', 'Belgium', 'Europe/Brussels'),
  ('BG', 'BG', 'Bulgaria', 'Europe/Sofia'),
  ('CY', 'CY', 'Cyprus', 'Asia/Nicosia'),
  ('CZ', 'CZ', 'Czechia', 'Europe/Prague'),
  ('DE', 'DE', 'Germany', 'Europe/Berlin'),
  ('DK', 'DK', 'Denmark', 'Europe/Copenhagen'),
  ('EE', 'EE', 'Estonia', 'Europe/Tallinn'),
  ('ES', 'ES', 'Spain', 'Europe/Madrid'),
  ('FI', 'FI', 'Finland', 'Europe/Helsinki'),
  ('FR', 'FR', 'France', 'Europe/Paris'),
  ('GR', 'EL', 'Greece', 'Europe/Athens'),
  ('HR', 'HR', 'Croatia', 'Europe/Zagreb'),
  ('HU', 'HU', 'Hungary', 'Europe/Budapest'),
  ('IE', 'IE', 'Ireland', 'Europe/Dublin'),
  ('IT', 'IT', 'Italy', 'Europe/Rome'),
  ('LT', 'LT', 'Lithuania', 'Europe/Vilnius'),
  ('LU', 'LU', 'Luxembourg', 'Europe/Luxembourg'),
  ('LV', 'LV', 'Latvia', 'Europe/Riga'),
  ('MT', 'MT', 'Malta', 'Europe/Malta'),
  ('NL', 'NL', 'Netherlands', 'Europe/Amsterdam'),
  ('PL', 'PL', 'Poland', 'Europe/Warsaw'),
  ('PT', 'PT', 'Portugal', 'Europe/Lisbon'),
  ('RO', 'RO', 'Romania', 'Europe/Bucharest'),
  ('SE', 'SE', 'Sweden', 'Europe/Stockholm'),
  ('SI', 'SI', 'Slovenia', 'Europe/Ljubljana'),
  ('SK', 'SK', 'Slovakia', 'Europe/Bratislava');

-- ----------------------------------------------------------------------------
-- Territories
-- ----------------------------------------------------------------------------

create table private.vat_territories (
  country text not null check (country ~ '^[A-Z]{2}$'),
  postal_codes text not null default '' check (octet_length(postal_codes) <= 200),
  vat_country text references private.vat_countries (code),
  region text not null default '' check (octet_length(region) <= 40),
  name text not null check (octet_length(name) <= 100),
  source text not null check (octet_length(source) <= 500),
  primary key (country, postal_codes)
);
create index vat_territories_vat_country_idx on private.vat_territories (vat_country);
comment on table private.vat_territories is 'Territories where VAT is not that of their country: outside the VAT area, treated as another country, or with a rate of their own. The postal code of the address decides.';
comment on column private.vat_territories.country is 'Country of the address, by ISO 3166-1, or a code that it reserves (IC, EA).';
comment on column private.vat_territories.postal_codes is 'Regular expression for the postal code without spaces. Empty: the whole country.';
comment on column private.vat_territories.vat_country is 'The country whose VAT applies. Null: outside the VAT area.';
comment on column private.vat_territories.region is 'Region of private.vat_rates with a rate of its own; empty for the rate of the country.';
comment on column private.vat_territories.name is 'Name in English.';
comment on column private.vat_territories.source is 'The law that says so.';
select private.describe_data('private.vat_territories', '{
  "country, postal_codes, vat_country, region, name, source": "says where EU VAT is due"
}', 'platform');
alter table private.vat_territories enable row level security;

insert into private.vat_territories (country, postal_codes, vat_country, region, name, source) values
  ('MC', '', 'FR', '', 'Monaco', 'Directive 2006/112/EC, article 7'),
  ('ES', '^(35|38)\d{3}$', null, '', 'Canary Islands', 'Directive 2006/112/EC, article 6(1)(b)'),
  ('IC', '', null, '', 'Canary Islands', 'Directive 2006/112/EC, article 6(1)(b)'),
  ('ES', '^(51|52)\d{3}$', null, '', 'Ceuta and Melilla', 'Directive 2006/112/EC, article 6(2)'),
  ('EA', '', null, '', 'Ceuta and Melilla', 'Directive 2006/112/EC, article 6(2)'),
  ('FR', '^97\d{3}$', null, '', 'French overseas departments', 'Directive 2006/112/EC, article 6(1)(c)'),
  ('FR', '^98[678]\d{2}$', null, '', 'French overseas territories', 'TFEU, article 355(2)'),
  ('FR', '^980\d{2}$', 'FR', '', 'Monaco', 'Directive 2006/112/EC, article 7'),
  ('DE', '^27498$', null, '', 'Heligoland', 'Directive 2006/112/EC, article 6(2)(a)'),
  ('DE', '^78266$', null, '', 'Büsingen', 'Directive 2006/112/EC, article 6(2)(b)'),
  ('IT', '^23041$', null, '', 'Livigno', 'Directive 2006/112/EC, article 6(2)(e)'),
  ('IT', '^22061$', null, '', 'Campione d''Italia', 'Directive 2006/112/EC, article 6(1)(f)'),
  ('GR', '^6308[67]$', null, '', 'Mount Athos', 'Directive 2006/112/EC, article 6(1)(a)'),
  ('FI', '^22\d{3}$', null, '', 'Åland Islands', 'Directive 2006/112/EC, article 6(1)(d)'),
  ('PT', '^9[0-4]\d{2}(-?\d{3})?$', 'PT', 'Madeira', 'Madeira', 'Directive 2006/112/EC, article 105(2)'),
  ('PT', '^9[5-9]\d{2}(-?\d{3})?$', 'PT', 'Azores', 'Azores', 'Directive 2006/112/EC, article 105(2)'),
  ('AT', '^(6691|699[123])$', 'AT', 'Jungholz and Mittelberg', 'Jungholz and Mittelberg', 'Directive 2006/112/EC, article 104');

create function private.vat_place(country text, postal_code text) returns table (vat_country text, region text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select t.vat_country, t.region
  from (
    select t.vat_country, t.region, t.postal_codes from private.vat_territories as t
    where t.country = vat_place.country and upper(regexp_replace(coalesce(vat_place.postal_code, ''), '\s', '', 'g')) ~ t.postal_codes
    union all
    select c.code, '', '' from private.vat_countries as c where c.code = vat_place.country
  ) as t
  order by t.postal_codes <> '' desc
  limit 1
$$;
comment on function private.vat_place(text, text) is 'The country whose VAT applies at an address, and the region if it has a rate of its own. vat_country is null for a territory outside the VAT area; no row for any other country outside the EU.';

-- ----------------------------------------------------------------------------
-- Settings
-- ----------------------------------------------------------------------------

create table private.vat_settings (
  only_row boolean primary key default true check (only_row),
  seller_country text not null default 'NL' references private.vat_countries (code),
  seller_vat_number text check (octet_length(seller_vat_number) <= 20),
  oss_since date default date '2021-07-01',
  vies_url text not null default 'https://ec.europa.eu/taxation_customs/vies/rest-api'
    check (octet_length(vies_url) <= 500 and vies_url ~ '^https?://[^?#]+[^?#/]$'),
  recheck_after interval not null default interval '90 days' check (recheck_after >= interval '1 day'),
  country_header text check (octet_length(country_header) <= 100 and country_header ~ '^[a-z0-9-]+$')
);
create index vat_settings_seller_country_idx on private.vat_settings (seller_country);
comment on table private.vat_settings is 'How the operator pays VAT: one row, which the operator changes.';
comment on column private.vat_settings.only_row is 'True: there is one row.';
comment on column private.vat_settings.seller_country is 'Country where the seller is registered.';
comment on column private.vat_settings.seller_vat_number is 'The seller''s own number. With it VIES gives a consultation number, which proves the check. Null: none.';
comment on column private.vat_settings.oss_since is 'Since when the seller reports consumers of other EU countries by the one-stop shop, and charges the rate of their country. Null: never; they pay the seller''s rate, as below the threshold of 10,000 euro a year.';
comment on column private.vat_settings.vies_url is 'Where the REST API of VIES answers.';
comment on column private.vat_settings.recheck_after is 'When an answer of VIES is so old that it is asked again.';
comment on column private.vat_settings.country_header is 'Request header, in lower case, in which a proxy of the operator says the country of the client''s address. The proxy must replace what clients send. Null: none.';
select private.describe_data('private.vat_settings', '{
  "only_row, seller_country, seller_vat_number, oss_since, vies_url, recheck_after, country_header": "says how the operator pays VAT"
}', 'platform');
alter table private.vat_settings enable row level security;
insert into private.vat_settings default values;
