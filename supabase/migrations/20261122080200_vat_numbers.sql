-- ============================================================================
-- VAT: form and check digits of VAT numbers. A number is written with its prefix and without spaces, as NL123456789B01.
-- A number with the right check digits may still belong to nobody: only VIES knows.
-- ============================================================================

create function private.vat_weigh(digits text, variadic weights integer[]) returns integer
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return (select coalesce(sum(substr(digits, w.place::integer, 1)::integer * w.weight), 0)::integer from unnest(weights) with ordinality as w (weight, place));
comment on function private.vat_weigh(text, integer[]) is 'The sum of the first digits, each times its weight.';

create function private.vat_luhn(digits text) returns integer
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return (
  select sum(case when (char_length(digits) - p.place) % 2 = 0 then d.digit else d.digit * 2 / 10 + d.digit * 2 % 10 end)::integer % 10
  from generate_series(1, char_length(digits)) as p (place)
  cross join lateral (select substr(digits, p.place, 1)::integer) as d (digit)
);
comment on function private.vat_luhn(text) is 'The checksum by Luhn: 0 for digits that end in their check digit.';

create function private.vat_mod_11_10(digits text) returns boolean
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  product integer := 5;
begin
  for place in 1 .. char_length(digits) loop
    product := (coalesce(nullif(product, 0), 10) * 2 % 11 + substr(digits, place, 1)::integer) % 10;
  end loop;
  return product = 1;
end
$$;
comment on function private.vat_mod_11_10(text) is 'Whether digits end in their check digit by ISO 7064, mod 11,10.';

create function private.vat_is_date(year integer, month integer, day integer) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return month between 1 and 12 and day between 1 and case
  when month in (4, 6, 9, 11) then 30
  when month <> 2 then 31
  when year % 4 = 0 and (year % 100 <> 0 or year % 400 = 0) then 29
  else 28
end;
comment on function private.vat_is_date(integer, integer, integer) is 'Whether there is such a day.';

create function private.vat_spanish_letter(number integer) returns text
language sql immutable parallel safe
return substr('TRWAGMYFPDXBNJZSQVHLCKE', number % 23 + 1, 1);
comment on function private.vat_spanish_letter(integer) is 'The check letter of a Spanish identity number.';

create function private.vat_check_spain(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when n ~ '^[KLM]\d{7}[A-Z]$' then right(n, 1) = private.vat_spanish_letter(substr(n, 2, 7)::integer)
  when n ~ '^\d{8}[A-Z]$' then right(n, 1) = private.vat_spanish_letter(left(n, 8)::integer)
  when n ~ '^[XYZ]\d{7}[A-Z]$' then right(n, 1) = private.vat_spanish_letter((translate(left(n, 1), 'XYZ', '012') || substr(n, 2, 7))::integer)
  when n ~ '^[ABCDEFGHJNPQRSUVW]\d{7}[0-9A-J]$' then translate(right(n, 1), 'JABCDEFGHI', '0123456789') = ((10 - private.vat_luhn(substr(n, 2, 7) || '0')) % 10)::text
  else false
end;
comment on function private.vat_check_spain(text) is 'Whether a Spanish number has the right check character: of a company, a citizen or a foreigner.';

create function private.vat_check_france(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  -- 000 is Monaco, which has no SIREN.
  when substr(n, 3, 3) <> '000' and private.vat_luhn(substr(n, 3)) <> 0 then false
  when n ~ '^\d{11}$' then left(n, 2)::integer = (substr(n, 3) || '12')::bigint % 97
  else (
    select (substr(n, 3)::bigint + 1 + k.key / 11) % 11 = k.key % 11
    from (
      select case
        when n ~ '^\d' then (strpos(a.letters, left(n, 1)) - 1) * 24 + strpos(a.letters, substr(n, 2, 1)) - 1 - 10
        else (strpos(a.letters, left(n, 1)) - 1) * 34 + strpos(a.letters, substr(n, 2, 1)) - 1 - 100
      end as key
      from (select '0123456789ABCDEFGHJKLMNPQRSTUVWXYZ') as a (letters)
    ) as k
  )
end;
comment on function private.vat_check_france(text) is 'Whether a French number has a right SIREN and a right key, of digits or with letters.';

create function private.vat_check_ireland(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when n ~ '^\d{7}' then
    strpos('WABCDEFGHIJKLMNOPQRSTUV', substr(n, 8, 1)) - 1
    = (private.vat_weigh(left(n, 7), 8, 7, 6, 5, 4, 3, 2) + 9 * greatest(strpos('WABCDEFGHIJKLMNOPQRSTUV', nullif(substr(n, 9), '')) - 1, 0)) % 23
  else strpos('WABCDEFGHIJKLMNOPQRSTUV', substr(n, 8, 1)) - 1 = private.vat_weigh('0' || substr(n, 3, 5) || left(n, 1), 8, 7, 6, 5, 4, 3, 2) % 23
end;
comment on function private.vat_check_ireland(text) is 'Whether an Irish number has the right check letter, in the form of today or that before 1991.';

create function private.vat_check_netherlands(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return left(n, 9)::integer > 0 and right(n, 2)::integer > 0 and (
  -- The number of a company or partnership has an RSIN.
  (private.vat_weigh(n, 9, 8, 7, 6, 5, 4, 3, 2) - substr(n, 9, 1)::integer) % 11 = 0
  -- That of a sole trader, since 2020: mod 97 of the whole, with letters as two digits.
  or ('2321' || left(n, 9) || '11' || right(n, 2))::numeric % 97 = 1
);
comment on function private.vat_check_netherlands(text) is 'Whether a Dutch number has right check digits: mod 11 of an RSIN, or mod 97 of a sole trader''s number.';

create function private.vat_check_lithuania(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return right(n, 1)::integer = (
  select case s.first % 11 when 10 then s.second % 11 % 10 else s.first % 11 end
  from (
    select sum((1 + p.place % 9) * d.digit)::integer as first, sum((1 + (p.place + 2) % 9) * d.digit)::integer as second
    from generate_series(0, char_length(n) - 2) as p (place)
    cross join lateral (select substr(n, p.place + 1, 1)::integer) as d (digit)
  ) as s
);
comment on function private.vat_check_lithuania(text) is 'Whether a Lithuanian number has the right check digit.';

create function private.vat_check_northern_ireland(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when n ~ '^GD' then substr(n, 3)::integer < 500
  when n ~ '^HA' then substr(n, 3)::integer >= 500
  else (
    select s.rest = 0 or (left(n, 3)::integer >= 100 and s.rest in (42, 55))
    from (select (private.vat_weigh(n, 8, 7, 6, 5, 4, 3, 2, 10, 1)) % 97 as rest) as s
  )
end;
comment on function private.vat_check_northern_ireland(text) is 'Whether a number of Northern Ireland has right check digits, by the old or the new scheme of the United Kingdom.';

create function private.vat_number_pattern(prefix text) returns text
language sql immutable parallel safe
return case prefix
  when 'AT' then '^U\d{8}$'
  when 'BE' then '^[01]\d{9}$'
  when 'BG' then '^\d{9,10}$'
  when 'CY' then '^(?!12)\d{8}[A-Z]$'
  when 'CZ' then '^\d{8,10}$'
  when 'DE' then '^[1-9]\d{8}$'
  when 'DK' then '^[1-9]\d{7}$'
  when 'EE' then '^\d{9}$'
  when 'EL' then '^\d{9}$'
  when 'ES' then '^[0-9A-Z]\d{7}[0-9A-Z]$'
  when 'FI' then '^\d{8}$'
  when 'FR' then '^[0-9A-HJ-NP-Z]{2}\d{9}$'
  when 'HR' then '^\d{11}$'
  when 'HU' then '^\d{8}$'
  when 'IE' then '^(\d{7}[A-W][A-W]?|\d[A-Z+*]\d{5}[A-W])$'
  when 'IT' then '^(?!0000000)\d{7}(0(?!00)\d\d|100|120|121|888|999)\d$'
  when 'LT' then '^(\d{7}|\d{10})1\d$'
  when 'LU' then '^\d{8}$'
  when 'LV' then '^\d{11}$'
  when 'MT' then '^[1-9]\d{7}$'
  when 'NL' then '^\d{9}B\d{2}$'
  when 'PL' then '^\d{10}$'
  when 'PT' then '^[1-9]\d{8}$'
  when 'RO' then '^([1-9]\d{1,9}|[1-9]\d{12})$'
  when 'SE' then '^\d{10}01$'
  when 'SI' then '^[1-9]\d{7}$'
  when 'SK' then '^\d{10}$'
  when 'XI' then '^(\d{9}|\d{12}|(GD|HA)\d{3})$'
end;
comment on function private.vat_number_pattern(text) is 'Regular expression for what follows the prefix of a VAT number. Null for an unknown prefix. Nullable: result.';
