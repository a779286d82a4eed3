-- ============================================================================
-- VAT: standard rates. A change of a rate is a row with the day on which it begins.
-- ============================================================================

create table private.vat_rates (
  country text not null references private.vat_countries (code),
  region text not null default '' check (octet_length(region) <= 40),
  valid_from date not null,
  basis_points integer not null check (basis_points between 0 and 5000),
  source text not null check (char_length(source) between 1 and 500),
  primary key (country, region, valid_from)
);
comment on table private.vat_rates is 'Standard rates of VAT. The rate of a day is that of the latest row that begins on it or before.';
comment on column private.vat_rates.country is 'Member state.';
comment on column private.vat_rates.region is 'Region with a rate of its own, as in private.vat_territories; empty for the rest of the country.';
comment on column private.vat_rates.valid_from is 'First day, in the time zone of the country.';
comment on column private.vat_rates.basis_points is 'Rate in hundredths of a percent: 2100 is 21 %.';
comment on column private.vat_rates.source is 'The law that sets the rate.';
select private.describe_data('private.vat_rates', '{
  "country, region, valid_from, basis_points, source": "says which VAT is charged"
}', 'platform');
alter table private.vat_rates enable row level security;

-- Each row names the law. The European Commission's Taxes in Europe Database has the rates of all member states.
insert into private.vat_rates (country, region, valid_from, basis_points, source)
select r.country, r.region, r.valid_from, r.basis_points, r.source
from (
  values
    ('AT', '', date '1984-01-01', 2000, 'UStG 1994, § 10(1)'),
    ('AT', 'Jungholz and Mittelberg', date '1995-01-01', 1900, 'UStG 1994, § 10(4)'),
    ('BE', '', '1996-01-01', 2100, 'Koninklijk besluit nr. 20 van 20 juli 1970, artikel 1'),
    ('BG', '', '1999-01-01', 2000, 'Закон за данък върху добавената стойност, чл. 66(1)'),
    ('CY', '', '2014-01-13', 1900, 'VAT Law 95(I)/2000, section 17'),
    ('CZ', '', '2013-01-01', 2100, 'Zákon č. 235/2004 Sb., § 47'),
    ('DE', '', '2007-01-01', 1900, 'UStG, § 12(1), Haushaltsbegleitgesetz 2006'),
    ('DE', '', '2020-07-01', 1600, 'Zweites Corona-Steuerhilfegesetz, article 3'),
    ('DE', '', '2021-01-01', 1900, 'Zweites Corona-Steuerhilfegesetz, article 3'),
    ('DK', '', '1992-01-01', 2500, 'Momsloven, § 33'),
    ('EE', '', '2009-07-01', 2000, 'Käibemaksuseadus, § 15(1)'),
    ('EE', '', '2024-01-01', 2200, 'Käibemaksuseadus § 15(1), RT I, 01.07.2023, 1'),
    ('EE', '', '2025-07-01', 2400, 'Käibemaksuseadus § 15(1), as changed by the Security Tax Act of 2024'),
    ('ES', '', '2012-09-01', 2100, 'Ley 37/1992, artículo 90, Real Decreto-ley 20/2012'),
    ('FI', '', '2013-01-01', 2400, 'Arvonlisäverolaki 1501/1993, 84 §'),
    ('FI', '', '2024-09-01', 2550, 'Laki arvonlisäverolain muuttamisesta 410/2024'),
    ('FR', '', '2014-01-01', 2000, 'Code général des impôts, article 278'),
    ('GR', '', '2016-06-01', 2400, 'Νόμος 2859/2000, άρθρο 21, Νόμος 4389/2016'),
    ('HR', '', '2012-03-01', 2500, 'Zakon o porezu na dodanu vrijednost, NN 22/2012'),
    ('HU', '', '2012-01-01', 2700, '2007. évi CXXVII. törvény, 82. §'),
    ('IE', '', '2012-01-01', 2300, 'Value-Added Tax Consolidation Act 2010, section 46, Finance Act 2012'),
    ('IE', '', '2020-09-01', 2100, 'Financial Provisions (Covid-19) (No. 2) Act 2020'),
    ('IE', '', '2021-03-01', 2300, 'Financial Provisions (Covid-19) (No. 2) Act 2020'),
    ('IT', '', '2013-10-01', 2200, 'D.P.R. 633/1972, articolo 16'),
    ('LT', '', '2009-09-01', 2100, 'Pridėtinės vertės mokesčio įstatymas Nr. IX-751, 19 straipsnis'),
    ('LU', '', '2015-01-01', 1700, 'Loi du 12 février 1979, article 39'),
    ('LU', '', '2023-01-01', 1600, 'Loi du 26 octobre 2022'),
    ('LU', '', '2024-01-01', 1700, 'Loi du 26 octobre 2022'),
    ('LV', '', '2012-07-01', 2100, 'Pievienotās vērtības nodokļa likums, 41. pants'),
    ('MT', '', '2004-01-01', 1800, 'Value Added Tax Act (Cap. 406), article 19'),
    ('NL', '', '2012-10-01', 2100, 'Wet op de omzetbelasting 1968, artikel 9(1)'),
    ('PL', '', '2011-01-01', 2300, 'Ustawa o podatku od towarów i usług, art. 41(1) and 146a'),
    ('PT', '', '2011-01-01', 2300, 'Código do IVA, artigo 18.º(1)(c)'),
    ('PT', 'Madeira', '2012-04-01', 2200, 'Código do IVA, artigo 18.º(3)'),
    ('PT', 'Azores', '2014-01-01', 1800, 'Código do IVA, artigo 18.º(3)'),
    ('PT', 'Azores', '2021-07-01', 1600, 'Código do IVA, artigo 18.º(3)'),
    ('RO', '', '2016-01-01', 2000, 'Legea nr. 227/2015, art. 291(1)'),
    ('RO', '', '2017-01-01', 1900, 'Legea nr. 227/2015, art. 291(1)'),
    ('RO', '', '2025-08-01', 2100, 'Legea nr. 141/2025'),
    ('SE', '', '1990-07-01', 2500, 'Mervärdesskattelag, 9 kap. 2 § (2023:200), before 7 kap. 1 § (1994:200)'),
    ('SI', '', '2013-07-01', 2200, 'Zakon o davku na dodano vrednost (ZDDV-1), 41. člen'),
    ('SK', '', '2011-01-01', 2000, 'Zákon č. 222/2004 Z. z., § 27(1)'),
    ('SK', '', '2025-01-01', 2300, 'Zákon č. 278/2024 Z. z.')
) as r (country, region, valid_from, basis_points, source);

create function private.vat_rate(country text, region text, moment timestamptz) returns integer
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select r.basis_points
  from private.vat_rates as r
  join private.vat_countries as c on c.code = r.country
  where r.country = vat_rate.country and r.region in ('', vat_rate.region)
    and r.valid_from <= (vat_rate.moment at time zone c.time_zone)::date
  order by r.region <> '' desc, r.valid_from desc
  limit 1
$$;
comment on function private.vat_rate(text, text, timestamptz) is 'The standard rate of a country, or of a region of it, at a moment, in basis points. Null before the first rate that is known. Nullable: result.';
