-- Where a customer is: what is kept as evidence, of whom, and what the address, the number and the day make of it. Each rule at its edges, beside rows of others.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
insert into public.billing_details (org_id, kind, name, country) select tests.org(u), 'business', u, 'DE' from unnest('{ada,bob}'::text[]) as u;

-- ---- a piece is seen now, or just after the last of its kind and organization
create function tests.sees(who text, kind text, country text, reference text default '') returns interval language plpgsql as $$
begin
  perform private.vat_record_evidence(tests.org(who), sees.kind, sees.country, sees.reference);
  return (select e.last_seen_at - kijko.now() from public.vat_evidence as e where e.org_id = tests.org(who) and e.kind = sees.kind and e.country = sees.country and e.reference = sees.reference);
end
$$;
delete from public.vat_evidence as e where e.org_id in (tests.org('ada'), tests.org('bob'));
select is(tests.sees(who, kind, country, reference), wanted, format('%s %s %s %s', who, kind, country, reference))
from (values
  (1, 'ada', 'payment_method', 'DE', 'pm_1', interval '0'), (2, 'ada', 'payment_method', 'FR', 'pm_2', '1 microsecond'), (3, 'ada', 'payment_method', 'DE', 'pm_1', '2 microseconds'), (4, 'ada', 'ip_address', 'DE', '', '0'),
  (5, 'bob', 'payment_method', 'DE', 'pm_1', '0'), (6, 'ada', 'ip_address', 'T1', '', null), (7, 'ada', 'ip_address', null, '', null)
) as v (n, who, kind, country, reference, wanted);
update public.vat_evidence as e set last_seen_at = kijko.now() - interval '1 day' where e.org_id = tests.org('ada');
select is(tests.sees('ada', 'payment_method', 'DE', 'pm_1'), interval '0', 'a day later again now');

-- ---- a thousand are kept; then only what is known is seen again
delete from public.vat_evidence as e where e.org_id = tests.org('ada');
insert into public.vat_evidence (org_id, kind, country, reference) select tests.org('ada'), 'payment_method', 'DE', 'pm_' || n from generate_series(1, 999) as n;
select is(tests.sees('ada', 'payment_method', 'DE', 'pm_1000') is not null, true, 'the thousandth');
select is(tests.sees('ada', kind, country, reference) is not null, wanted, format('%s %s %s', kind, country, reference))
from (values
  ('payment_method', 'DE', 'pm_1001', false), ('payment_method', 'DE', 'pm_7', true), ('payment_method', 'FR', 'pm_7', false), ('ip_address', 'DE', 'pm_7', false), ('ip_address', 'FR', '', false)
) as v (kind, country, reference, wanted);
select is((select count(*) from public.vat_evidence as e where e.org_id = tests.org('ada')), 1000::bigint, 'and no more');
select is(tests.sees('bob', 'payment_method', 'FR', 'pm_9') is not null, true, 'another organization has its own');
insert into public.vat_evidence (org_id, kind, country, reference) select tests.org('bob'), 'ip_address', 'FR', '';
select is(tests.sees('ada', 'ip_address', 'FR'), null, 'whose pieces are not known here');

-- ---- the country of a request, if the operator's proxy says it
create function tests.asks(header text, headers jsonb) returns text language plpgsql as $$
begin
  perform tests.act_as_superuser();
  delete from public.vat_evidence as e where e.org_id = tests.org('ada');
  update private.vat_settings set country_header = header;
  perform tests.act_as('ada', tests.org('ada'));
  perform set_config('request.headers', (coalesce(nullif(current_setting('request.headers', true), ''), '{}')::jsonb || headers)::text, true), set_config('request.method', 'PATCH', true);
  update public.billing_details as d set city = 'Berlin' where d.org_id = tests.org('ada');
  perform tests.act_as_superuser(), set_config('request.method', '', true);
  return (select string_agg(e.kind || ' ' || e.country, ', ' order by e.kind) from public.vat_evidence as e where e.org_id = tests.org('ada'));
end
$$;
select is(tests.asks(header, headers), wanted, format('%s %s', header, headers))
from (values ('x-country', '{"x-country": "NL"}'::jsonb, 'billing_address DE, ip_address NL'), (null, '{"x-country": "NL"}', 'billing_address DE'), ('x-country', '{}', 'billing_address DE'), ('x-country', '{"x-country": "XX"}', 'billing_address DE')) as v (header, headers, wanted);

-- ---- an address, its number, and since when it is given
create function tests.given(country text, number text, since interval default '1 day') returns text language plpgsql as $$
begin
  update public.billing_details as d set vat_number = null, country = 'DE' where d.org_id = tests.org('bob');
  update public.billing_details as d set vat_number = 'DE136695976' where d.org_id = tests.org('bob');
  update public.billing_details as d set vat_number_since = kijko.now() - since, vat_number_status = 'unavailable' where d.org_id = tests.org('bob');
  update public.billing_details as d set country = given.country, vat_number = given.number where d.org_id = tests.org('bob');
  return (select concat_ws(' ', d.country, d.vat_number, kijko.now() - d.vat_number_since, d.vat_number_status) from public.billing_details as d where d.org_id = tests.org('bob'));
end
$$;
select is(tests.given(country, number), wanted, format('%s %s', country, number))
from (values
  ('de', 'DE136695976', 'DE DE136695976 1 day unavailable'), ('DE', '136.695.976', 'DE DE136695976 1 day unavailable'), ('DE', 'DE129273398', 'DE DE129273398 00:00:00 pending'), ('MC', 'FR40303265045', 'MC FR40303265045 00:00:00 pending'),
  ('GB', 'XI980780684', 'GB XI980780684 00:00:00 pending'), ('UK', null, 'GB'), ('DE', null, 'DE'), ('EL', 'EL094259216', 'GR EL094259216 00:00:00 pending')
) as v (country, number, wanted);
select tests.refuses(format('select tests.given(%L, %L)', country, number), 'invalid_input', format('%s %s', country, number))
from (values ('ZZ', null), ('ZZ', 'DE136695976'), ('DE', 'DE136695977'), ('DE', 'FR40303265045'), ('FR', 'DE136695976'), ('DE', 'XI980780684'), ('US', 'DE136695976')) as v (country, number);

-- ---- which VAT it is, a member learns whose session goes on
select tests.act('authenticated', tests.token('authenticated'), tests.org('ada'));
select tests.refuses('select public.vat_treatment()', 'not_identified', 'a session that has ended');
select tests.act_as('ada', tests.org('ada'));
select is((select t.treatment from public.vat_treatment() as t), 'oss', 'one that goes on');
select tests.act_as_superuser();

-- ---- the day from which the seller charges the customer's rate, by the seller's own clock; and the rate of the day
update private.vat_settings set oss_since = '2092-01-02', seller_country = 'NL';
select is((select concat_ws(' ', t.treatment, t.country) from private.vat_treatment(tests.org('ada'), m) as t), wanted, 'at ' || m)
from (values ('2092-01-01 22:59:59.999999Z'::timestamptz, 'domestic NL'), ('2092-01-01 23:00Z', 'oss DE')) as v (m, wanted);
insert into private.vat_rates (country, region, valid_from, basis_points, source) values ('PT', '', '2092-01-02', 2400, 'a law to come'), ('PT', 'Madeira', '2092-01-03', 2250, 'a law to come'), ('ES', '', '2092-01-02', 2200, 'a law to come');
select is(private.vat_rate('PT', region, m), wanted, format('Portugal, %s at %s', region, m))
from (values
  ('', '2092-01-01 23:59:59Z'::timestamptz, 2300), ('', '2092-01-02 00:00Z', 2400), ('Madeira', '2092-01-02 00:00Z', 2200), ('Madeira', '2092-01-03 00:00Z', 2250), ('Azores', '2092-01-03 00:00Z', 1600), ('', '2092-01-03 00:00Z', 2400),
  ('Nowhere', '2092-01-02 00:00Z', 2400)
) as v (region, m, wanted);

select * from finish();
rollback;
