begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('adm');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('adm', tests.org('ada'), 'admin');

-- ---- who reads and writes billing details
select tests.act_as('bob', tests.org('ada'));
select is((select count(*) from public.billing_details), 0::bigint, 'a non-member sees no billing details');
select throws_ok(format($$insert into public.billing_details (org_id, kind, name, country) values (%L, 'consumer', 'Bob', 'NL')$$, tests.org('ada')), '42501', null, 'and writes none');
select tests.refuses($$select public.vat_treatment()$$, 'not_a_member', 'nor does a non-member learn the VAT');
select tests.act_as('mem', tests.org('ada'));
select throws_ok($$insert into public.billing_details (kind, name, country) values ('consumer', 'M', 'NL')$$, '42501', null, 'a member writes none');
select tests.refuses($$select public.vat_treatment()$$, 'permission_denied', 'and does not see the VAT');
select tests.act_as('adm', tests.org('ada'));
select throws_ok($$insert into public.billing_details (kind, name, country) values ('consumer', 'A', 'NL')$$, '42501', null, 'an admin reads only');
select tests.refuses($$select public.check_vat_number()$$, 'permission_denied', 'and asks nobody');
select tests.act_as('ada', tests.org('ada'));
select is((select t.treatment from public.vat_treatment() as t), 'unknown', 'without details the VAT is unknown');
select tests.refuses($$select public.check_vat_number()$$, 'not_found', 'and there is no number');
select lives_ok($$insert into public.billing_details (kind, name, country) values ('consumer', 'Ada', 'nl')$$, 'the owner writes them');
select is((select d.country from public.billing_details as d), 'NL', 'the country in capitals');
select throws_ok($$insert into public.billing_details (kind, name, country) values ('consumer', 'Ada', 'NL')$$, '23505', null, 'one row for each organization');
select throws_ok($$update public.billing_details set vat_number_status = 'valid'$$, '42501', null, 'nobody writes what VIES says');
select throws_ok($$insert into public.vat_checks (vat_number, status, consulted_at) values ('DE136695976', 'valid', now())$$, '42501', null, 'nor its answers');
select tests.refuses($$update public.billing_details set country = 'ZZ'$$, 'invalid_input', 'a country that is none');
select throws_ok($$update public.billing_details set vat_number = 'NL004495445B01'$$, '23514', null, 'a consumer has no number');
select tests.act_as('adm', tests.org('ada'));
select is((select count(*) from public.billing_details), 1::bigint, 'an admin sees them');

-- ---- numbers
select tests.act_as('ada', tests.org('ada'));
update public.billing_details set kind = 'business', country = 'DE';
select tests.refuses($$update public.billing_details set vat_number = 'DE136695977'$$, 'invalid_input', 'a wrong check digit');
select tests.refuses($$update public.billing_details set vat_number = 'NL004495445B01'$$, 'invalid_input', 'a number of another country');
select tests.refuses($$update public.billing_details set vat_number = 'XI980780684'$$, 'invalid_input', 'also of Northern Ireland');
update public.billing_details set vat_number = ' de 136.695.976 ';
select is((select row(d.vat_number, d.vat_number_status)::text from public.billing_details as d), '(DE136695976,pending)', 'one form, and not yet checked');
update public.billing_details set vat_number = '';
select is((select row(d.vat_number, d.vat_number_since, d.vat_number_status)::text from public.billing_details as d), '(,,)', 'an empty number is none');
update public.billing_details set country = 'EL', vat_number = '094259216';
select is((select row(d.country, d.vat_number)::text from public.billing_details as d), '(GR,EL094259216)', 'Greece is GR, and its numbers begin with EL');
update public.billing_details set vat_number = 'GR 094259216';
select is((select d.vat_number from public.billing_details as d), 'EL094259216', 'also when written GR');

select tests.act_as_superuser();
select is((select count(*) from public.audit_log as a where a.org_id = tests.org('ada') and a.action = 'billing_details.created'), 1::bigint, 'the audit log has who gave the details');
select ok(exists (select from public.audit_log as a where a.org_id = tests.org('ada') and a.action = 'billing_details.updated' and a.after ->> 'vat_number' = 'EL094259216'), 'and which number was given');

-- ---- the treatment; the seller is Dutch
select tests.act_as_superuser();
select is((select count(*) from private.vat_settings where seller_country = 'NL'), 1::bigint, 'the seller of these cases is Dutch');
create function tests.details(kind text, country text, postal_code text default '', vat_number text default null, answer text default null) returns text language plpgsql as $$
begin
  delete from public.vat_checks as c where c.org_id = tests.org('ada');
  update public.billing_details as d
  set kind = details.kind, country = details.country, postal_code = details.postal_code, vat_number = details.vat_number
  where d.org_id = tests.org('ada');
  update public.vat_checks as c set status = answer, consulted_at = kijko.now() where c.org_id = tests.org('ada') and answer is not null;
  return (select concat_ws(' ', t.treatment, t.country, t.rate_basis_points) from private.vat_treatment(tests.org('ada')) as t);
end
$$;
select is(tests.details('business', 'NL'), 'domestic NL 2100', 'a Dutch business');
select is(tests.details('business', 'NL', '', 'NL004495445B01', 'valid'), 'domestic NL 2100', 'also with a valid number');
select is(tests.details('consumer', 'NL'), 'domestic NL 2100', 'a Dutch consumer');
select is(tests.details('business', 'DE', '', 'DE136695976', 'valid'), 'reverse_charge DE 0', 'an EU business with a valid number');
select is(tests.details('business', 'DE', '', 'DE136695976'), 'oss DE 1900', 'VAT is charged until VIES has answered');
select is(tests.details('business', 'DE', '', 'DE136695976', 'invalid'), 'oss DE 1900', 'and if the number is invalid');
select is(tests.details('business', 'DE'), 'oss DE 1900', 'an EU business without a number');
select is(tests.details('consumer', 'FI'), 'oss FI 2550', 'an EU consumer pays the rate of their country');
select is(tests.details('consumer', 'US'), 'outside_eu US 0', 'outside the EU');
select is(tests.details('business', 'GB', '', 'XI980780684', 'valid'), 'outside_eu GB 0', 'Northern Ireland is in the EU for goods only');
select is(tests.details('consumer', 'IM'), 'outside_eu IM 0', 'the Isle of Man');
select is(tests.details('business', 'GR', '', 'EL094259216', 'valid'), 'reverse_charge GR 0', 'Greece by its ISO code');
select is(tests.details('consumer', 'GR', '63086'), 'outside_eu GR 0', 'Mount Athos');
select is(tests.details('consumer', 'MC'), 'oss FR 2000', 'Monaco is France for VAT');
select is(tests.details('business', 'MC', '', 'FR40303265045', 'valid'), 'reverse_charge FR 0', 'and has French numbers');
select is(tests.details('consumer', 'ES', '35001'), 'outside_eu ES 0', 'the Canary Islands');
select is(tests.details('consumer', 'IC'), 'outside_eu IC 0', 'the Canary Islands by their own code');
select is(tests.details('business', 'ES', '51001', 'ESB58378431', 'valid'), 'outside_eu ES 0', 'Ceuta');
select is(tests.details('consumer', 'ES', '28001'), 'oss ES 2100', 'and not Madrid');
select is(tests.details('consumer', 'FR', '97 400'), 'outside_eu FR 0', 'Réunion with a French address');
select is(tests.details('consumer', 'RE'), 'outside_eu RE 0', 'and by its own code');
select is(tests.details('consumer', 'AX'), 'outside_eu AX 0', 'Åland');
select is(tests.details('consumer', 'DE', '27498'), 'outside_eu DE 0', 'Heligoland');
select is(tests.details('consumer', 'IT', '23041'), 'outside_eu IT 0', 'Livigno');
select is(tests.details('consumer', 'IT', '22061'), 'outside_eu IT 0', 'Campione d''Italia');
select is(tests.details('consumer', 'IT', '22060'), 'oss IT 2200', 'and not Novedrate, whose code it once had');
select is(tests.details('consumer', 'PT', '9000-017'), 'oss PT 2200', 'Madeira');
select is(tests.details('consumer', 'PT', '9500-150'), 'oss PT 1600', 'the Azores');
select is(tests.details('consumer', 'PT', '1000-001'), 'oss PT 2300', 'and not Lisbon');
select is(tests.details('consumer', 'AT', '6991'), 'oss AT 1900', 'Mittelberg');
update private.vat_settings set oss_since = null;
select is(tests.details('consumer', 'FI'), 'domestic NL 2100', 'a seller below the threshold charges its own rate');
select is(tests.details('business', 'DE', '', 'DE136695976', 'valid'), 'reverse_charge DE 0', 'not to a business');
update private.vat_settings set oss_since = '2021-07-01', seller_country = 'DE';
select is(tests.details('business', 'DE', '', 'DE136695976', 'valid'), 'domestic DE 1900', 'another seller country');
select is(tests.details('consumer', 'NL'), 'oss NL 2100', 'makes the Netherlands foreign');
update private.vat_settings set seller_country = 'NL';
update public.billing_details set language = 'nl';
select tests.details('business', 'DE', '', 'DE136695976', 'valid');
select is((select t.legal_note from private.vat_treatment(tests.org('ada')) as t), 'Btw verlegd', 'the note of the invoice in its language');

-- ---- rates
select is((select count(distinct r.country) from private.vat_rates as r where r.region = ''), 27::bigint, 'every member state has a rate');
select is(array(select private.vat_rate('EE', '', d) from unnest(array['2023-12-31 21:59Z', '2023-12-31 22:00Z', '2025-07-01 00:00Z']::timestamptz[]) as d), '{2000,2200,2400}', 'a rate changes at midnight of its country');
insert into private.vat_rates (country, valid_from, basis_points, source) values ('NL', (kijko.now() + interval '10 days')::date, 2200, 'a law to come');
select is(tests.details('consumer', 'NL'), 'domestic NL 2100', 'a change in future is a row');
select is((select t.rate_basis_points from private.vat_treatment(tests.org('ada'), kijko.now() + interval '11 days') as t), 2200, 'that counts when it begins');

-- ---- what is to be credited
create function tests.answered(answer text, later interval) returns text language plpgsql as $$
declare
  org constant uuid := tests.org('ada');
begin
  perform tests.travel(later);
  perform private.vat_open_check(org, (select d.vat_number from public.billing_details as d where d.org_id = org));
  update public.vat_checks as c set status = answer, consulted_at = kijko.now() where c.org_id = org and c.consulted_at is null;
  return (select string_agg(format('%s %s %s', c.country, extract(day from c.charged_from - (select d.created_at from public.billing_details as d where d.org_id = org)), extract(day from c.charged_until - c.charged_from)), ',' order by c.created_at, c.charged_from)
    from private.vat_credits_due(org) as d join private.vat_credits as c on c.id = d.credit_id);
end
$$;
select tests.travel('0 days');
select tests.details('consumer', 'DE');
select tests.details('business', 'DE', '', 'DE136695976');
select is(tests.answered('invalid', '1 day'), null, 'an invalid number is owed nothing');
select is(tests.answered('valid', '3 days'), 'DE 0 3', 'once valid, all since it was given');
select is(tests.answered('valid', '5 days'), 'DE 0 3', 'once');
select is(tests.answered('invalid', '10 days'), 'DE 0 3', 'no longer valid');
select is(tests.answered('valid', '14 days'), 'DE 0 3,DE 10 4', 'valid again, since it was called invalid');
select tests.travel('0 days');
select tests.details('consumer', 'DE');
update private.vat_settings set oss_since = null;
select tests.details('business', 'DE', '', 'DE136695976');
select is(tests.answered('valid', '2 days'), 'NL 0 2', 'of the country whose VAT was charged');
update private.vat_settings set oss_since = '2021-07-01';
select tests.travel('0 days');
select tests.details('consumer', 'NL');
select tests.details('business', 'NL', '', 'NL004495445B01');
select is(tests.answered('valid', '2 days'), null, 'who pays VAT anyway is owed nothing');
select tests.travel('0 days');

-- ---- evidence
select tests.details('consumer', 'DE', '10115');
select is((select row(e.vat_country, e.pieces, e.sufficient, e.conflicts)::text from private.vat_evidence_of(tests.org('ada')) as e), '(DE,1,f,{})', 'an address alone is not enough');
select private.vat_record_evidence(tests.org('ada'), 'payment_method', 'de', 'pm_1');
select is((select row(e.pieces, e.sufficient)::text from private.vat_evidence_of(tests.org('ada')) as e), '(2,t)', 'with a German card it is');
select private.vat_record_evidence(tests.org('ada'), 'ip_address', 'NL');
select is((select row(e.pieces, e.sufficient, e.conflicts)::text from private.vat_evidence_of(tests.org('ada')) as e), '(2,t,"{""ip_address"": ""NL""}")', 'a conflict is reported');
select is((select c.conflicts from private.vat_evidence_conflicts as c where c.org_id = tests.org('ada')), '{"ip_address": "NL"}', 'to operators');
select private.vat_record_evidence(tests.org('ada'), 'ip_address', 'T1');
select is((select count(*) from public.vat_evidence as e where e.org_id = tests.org('ada') and e.kind = 'ip_address'), 1::bigint, 'a network without a country says nothing');
select private.vat_record_evidence(tests.org('ada'), 'payment_method', 'DE', 'pm_1') from generate_series(1, 3);
select is((select count(*) from public.vat_evidence as e where e.org_id = tests.org('ada') and e.kind = 'payment_method'), 1::bigint, 'what is seen again is one row');
select tests.details('consumer', 'MC');
select private.vat_record_evidence(tests.org('ada'), 'payment_method', 'FR', 'pm_2');
select is((select e.sufficient from private.vat_evidence_of(tests.org('ada')) as e), true, 'a French card agrees with Monaco');
select tests.act_as('bob', tests.org('ada'));
select is((select count(*) from public.vat_evidence), 0::bigint, 'a non-member sees no evidence');
select tests.act_as('mem', tests.org('ada'));
select is((select count(*) from public.vat_evidence), 0::bigint, 'nor does a member');
select tests.act_as('adm', tests.org('ada'));
select cmp_ok((select count(*) from public.vat_evidence), '>', 3::bigint, 'an admin does');
select throws_ok($$insert into public.vat_evidence (kind, country) values ('ip_address', 'US')$$, '42501', null, 'and writes none');

select * from finish();
rollback;
