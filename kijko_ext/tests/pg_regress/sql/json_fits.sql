-- kijko.json_fits() knows the length of a value's text without making it.
\set VERBOSITY terse
create temp table value (given jsonb);
-- Scalars, what must be escaped, and what is aligned in storage after each length of a text.
insert into value
select t::jsonb from unnest(array[
    'null', 'true', 'false', '""', '{}', '[]', '[[]]', '{"":{}}', '[null, true, false]', '{"a": [1, {"b": [2.50, "x"]}]}',
    '"\"\\\/\b\f\n\r\t\u0001\u001f\u007f"', '"é漢🙂"'
]) as t;
insert into value select jsonb_build_array(repeat('x', n), 1.5, repeat('y', n), jsonb_build_array(n)) from generate_series(0, 9) as n;
-- Numbers of every form, alone and in a list.
insert into value
select to_jsonb(n) from (
    select sign * (digits || repeat('0', zeros))::numeric / 10::numeric ^ point as n
    from (values (1), (-1)) as s (sign), unnest(array['0', '1', '9', '10', '9999', '10000', '12345', '99999999', '123456789012']) as digits,
        unnest(array[0, 1, 3, 4, 5, 8, 100]) as zeros, unnest(array[0, 1, 3, 4, 7, 70]) as point
) as made;
insert into value select jsonb_agg(v.given) from value as v;
-- Every 32nd member has an offset instead of a length.
insert into value
select jsonb_object_agg('key ' || n, case n % 4 when 0 then to_jsonb(n) when 1 then to_jsonb(repeat('"', n % 7)) when 2 then '{"deep": [1, 2]}' else 'true' end)
from generate_series(1, 200) as n;
insert into value select (repeat('[', 3000) || '1' || repeat(']', 3000))::jsonb;
select count(*), count(*) filter (where not kijko.json_fits(given, octet_length(given::text))) as too_small,
    count(*) filter (where kijko.json_fits(given, octet_length(given::text) - 1)) as too_large
from value;
-- Values of a table are compressed, or elsewhere.
create temp table stored (given jsonb);
insert into stored select v.given from value as v;
insert into stored select jsonb_build_object('text', repeat('abc', 100000));
select count(*) filter (where not kijko.json_fits(given, octet_length(given::text)) or kijko.json_fits(given, octet_length(given::text) - 1)) as wrong from stored;
-- A number has at most 400 digits before and behind its point.
select n as number, kijko.json_fits(n::jsonb, 1000000) as fits, kijko.json_fits(jsonb_build_array('a', n::jsonb), 1000000) as fits_in_a_list
from unnest(array['1e399', '-9e399', '1e400', '-1e400', '1e131071', '1e-400', '1e-401', '0e-401', '0e400', '1e-16383']) as n;
select kijko.json_fits(null, 1) is null as value, kijko.json_fits('1', null) is null as size, kijko.json_fits('1', -1) as negative, kijko.json_fits('1', 0) as none;
