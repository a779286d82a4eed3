begin;
\ir 000_helpers.sql
select no_plan();

-- Numbers that companies and registers have published, as the documentation of VIES and of the libraries for them quotes them.
create table tests.numbers (number text primary key);
insert into tests.numbers select unnest('{
  ATU13585627,BE0428759497,BG175074752,BG7523169263,CY10259033P,CZ25123891,CZ7103192745,CZ640903926,DE136695976,DK13585628,
  EE100931558,EL094259216,EL023456780,ESB58378431,ES54362315K,ESX2482300W,ESJ99216582,FI20774740,FR40303265045,FR23334175221,FRK7399859412,FR4Z123456782,
  HR33392005961,HU12892312,IE6433435F,IE6433435OA,IE8D79739I,IT00743110157,LT119511515,LT100001919017,LU15027442,LV40003521600,LV16117519997,
  MT11679112,NL004495445B01,NL002455799B11,NL000099998B57,PL8567346215,PT501964843,RO18547290,RO1630615123457,SE123456789701,SI50223054,SK2022749619,
  XI980780684,XIGD001,XIHA500
}'::text[]);
select is(private.vat_number_fault(n.number), null, n.number || ' can exist') from tests.numbers as n order by n.number;
select is((select count(distinct left(n.number, 2)) from tests.numbers as n), 28::bigint, 'every member state and Northern Ireland has one');

-- One wrong digit is found at every place of schemes that promise it.
select is(array(
  select m.number
  from tests.numbers as n
  cross join lateral (
    select overlay(n.number placing ((substr(n.number, p.place, 1)::integer + 1) % 10)::text from p.place for 1)
    from generate_series(3, char_length(n.number)) as p (place)
    where substr(n.number, p.place, 1) ~ '\d'
  ) as m (number)
  -- The last two digits of a Dutch RSIN's number and of a Swedish one are no check digits; GD and HA have none. Old and new
  -- schemes of one country, or its special numbers, may each accept what the other refuses.
  where n.number !~ '^(XIGD|XIHA|BG|EL023456780|CZ|NL|SK|RO1630615123457|FR|ES[JX]|LV1611)' and private.vat_number_fault(m.number) is null
), '{}', 'a changed digit is refused');
select is(private.vat_number_fault('NL000099998B58'), 'check_digits', 'mod 97 of a sole trader covers the last digits, too');
select is(private.vat_number_fault('NL004495445B02'), null, 'mod 11 of an RSIN does not');
select is(private.vat_number_fault('NL000000000B01'), 'check_digits', 'zeros are none');

select is(private.vat_number_fault(w.number), w.fault, format('%s: %s', w.number, w.fault))
from (
  values
    (null, 'format'), ('', 'country'), ('GB980780684', 'country'), ('US123456789', 'country'), ('GR094259216', 'country'), ('nl004495445b01', 'country'),
    ('DE', 'format'), ('DE12345678', 'format'), ('DE013669597', 'format'), ('ATU1234567', 'format'), ('NL004495445C01', 'format'),
    ('NL٠٠٤٤٩٥٤٤٥B01', 'format'), ('DE136695976' || E'\n', 'format'), ('EE100931558' || repeat('0', 100000), 'format'),
    ('SE123456789702', 'format'), ('XIGD500', 'check_digits'), ('XIHA499', 'check_digits'), ('CY12345678A', 'format'), ('IT00000000000', 'format')
) as w (number, fault);

select is(private.vat_normalize_number(w.number, w.prefix), w.wanted, format('%s of %s', w.number, w.prefix))
from (
  values
    (' nl 0044.95445.b01 ', 'NL', 'NL004495445B01'), ('004495445B01', 'NL', 'NL004495445B01'), ('0428.759.497', 'BE', 'BE0428759497'),
    ('BE 428.759.497', 'BE', 'BE0428759497'), ('GR094259216', 'EL', 'EL094259216'), ('XI980780684', null, 'XI980780684'), ('K7399859412', 'FR', 'FRK7399859412'),
    ('DE136695976', 'NL', 'DE136695976'), (' . ', 'NL', null), (null, 'NL', null)
) as w (number, prefix, wanted);

select * from finish();
rollback;
