-- ============================================================================
-- VAT: check digits of countries whose numbers may be those of people, and the check of every number.
-- ============================================================================

create function private.vat_check_bulgaria(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case char_length(n)
  when 9 then right(n, 1)::integer = (
    select case s.first when 10 then private.vat_weigh(n, 3, 4, 5, 6, 7, 8, 9, 10) % 11 % 10 else s.first end
    from (select private.vat_weigh(n, 1, 2, 3, 4, 5, 6, 7, 8) % 11 as first) as s
  )
  else
    -- A citizen, whose number begins with the date of birth; 20 is added to the month before 1900, 40 from 2000 on.
    (
      private.vat_weigh(n, 2, 4, 8, 5, 10, 9, 7, 3, 6) % 11 % 10 = right(n, 1)::integer
      and private.vat_is_date(
        left(n, 2)::integer + case when substr(n, 3, 2)::integer > 40 then 2000 when substr(n, 3, 2)::integer > 20 then 1800 else 1900 end,
        case when substr(n, 3, 2)::integer > 40 then substr(n, 3, 2)::integer - 40 when substr(n, 3, 2)::integer > 20 then substr(n, 3, 2)::integer - 20 else substr(n, 3, 2)::integer end,
        substr(n, 5, 2)::integer
      )
    )
    -- A foreigner.
    or private.vat_weigh(n, 21, 19, 17, 13, 11, 9, 7, 3, 1) % 10 = right(n, 1)::integer
    -- Others.
    or (11 - private.vat_weigh(n, 4, 3, 2, 7, 6, 5, 4, 3, 2) % 11) % 11 = right(n, 1)::integer
end;
comment on function private.vat_check_bulgaria(text) is 'Whether a Bulgarian number has the right check digit: of a company, a citizen, a foreigner or another.';

create function private.vat_check_birth_number(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return (
  select private.vat_is_date(b.year, substr(n, 3, 2)::integer % 50 % 20, substr(n, 5, 2)::integer)
    and case when char_length(n) = 9 then b.year <= 1953 else right(n, 1)::integer = left(n, 9)::integer % 11 % 10 end
  from (
    select case
      when char_length(n) = 9 and left(n, 2)::integer >= 80 then 1800
      when char_length(n) = 10 and left(n, 2)::integer < 54 then 2000
      else 1900
    end + left(n, 2)::integer as year
  ) as b
);
comment on function private.vat_check_birth_number(text) is 'Whether a Czech or Slovak birth number has a date and, from 1954 on, a right check digit.';

create function private.vat_check_czechia(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when char_length(n) = 8 then n !~ '^9' and right(n, 1)::integer = (
    select case s.rest when 0 then 1 else s.rest % 10 end
    from (select (11 - private.vat_weigh(n, 8, 7, 6, 5, 4, 3, 2) % 11) % 11 as rest) as s
  )
  when n ~ '^6\d{8}$' then right(n, 1)::integer = (18 - (10 - private.vat_weigh(substr(n, 2), 8, 7, 6, 5, 4, 3, 2) % 11) % 11) % 10
  else private.vat_check_birth_number(n)
end;
comment on function private.vat_check_czechia(text) is 'Whether a Czech number has the right check digit: of a company, a special case, or a person.';

create function private.vat_check_latvia(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when n ~ '^[4-9]' then private.vat_weigh(n, 9, 1, 4, 8, 3, 10, 2, 5, 7, 6, 1) % 11 = 3
  else right(n, 1)::integer = (1 + private.vat_weigh(n, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9)) % 11 % 10
    -- Numbers of people from 2017 on begin with 32 and say no date of birth.
    and (n ~ '^32' or private.vat_is_date(1800 + substr(n, 7, 1)::integer * 100 + substr(n, 5, 2)::integer, substr(n, 3, 2)::integer, left(n, 2)::integer))
end;
comment on function private.vat_check_latvia(text) is 'Whether a Latvian number has right check digits: of a company or a person.';

create function private.vat_check_romania(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when char_length(n) = 13 then
    right(n, 1)::integer = (
      select case s.rest when 10 then 1 else s.rest end
      from (select private.vat_weigh(n, 2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9) % 11 as rest) as s
    )
    and private.vat_is_date(
      case when n ~ '^[34]' then 1800 when n ~ '^[56]' then 2000 else 1900 end + substr(n, 2, 2)::integer, substr(n, 4, 2)::integer, substr(n, 6, 2)::integer
    )
    -- The county.
    and substr(n, 8, 2) ~ '^(0[1-9]|[1-3]\d|4[0-8]|5[12]|70|8[0-3])$'
  else right(n, 1)::integer = 10 * private.vat_weigh(lpad(left(n, -1), 9, '0'), 7, 5, 3, 2, 1, 7, 5, 3, 2) % 11 % 10
end;
comment on function private.vat_check_romania(text) is 'Whether a Romanian number has the right check digit: of a company or a person.';

create function private.vat_check_slovakia(n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return private.vat_check_birth_number(n) or (n ~ '^[1-9]\d[234789]' and n::bigint % 11 = 0);
comment on function private.vat_check_slovakia(text) is 'Whether a Slovak number can be divided by 11, or is a right birth number.';

create function private.vat_check_digits(prefix text, n text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case prefix
  when 'AT' then right(n, 1)::integer = (16 - private.vat_luhn(substr(n, 2, 7))) % 10
  when 'BE' then n::bigint > 0 and (left(n, 8)::integer + right(n, 2)::integer) % 97 = 0
  when 'BG' then private.vat_check_bulgaria(n)
  when 'CY' then right(n, 1) = chr(65 + (
    select sum(case when p.place % 2 = 1 then (array[1, 0, 5, 7, 9, 13, 15, 17, 19, 21])[d.digit + 1] else d.digit end)::integer % 26
    from generate_series(1, 8) as p (place) cross join lateral (select substr(n, p.place, 1)::integer) as d (digit)
  ))
  when 'CZ' then private.vat_check_czechia(n)
  when 'DE' then private.vat_mod_11_10(n)
  when 'DK' then private.vat_weigh(n, 2, 7, 6, 5, 4, 3, 2, 1) % 11 = 0
  when 'EE' then private.vat_weigh(n, 3, 7, 1, 3, 7, 1, 3, 7, 1) % 10 = 0
  when 'EL' then private.vat_weigh(n, 256, 128, 64, 32, 16, 8, 4, 2) % 11 % 10 = right(n, 1)::integer
  when 'ES' then private.vat_check_spain(n)
  when 'FI' then private.vat_weigh(n, 7, 9, 10, 5, 8, 4, 2, 1) % 11 = 0
  when 'FR' then private.vat_check_france(n)
  when 'HR' then private.vat_mod_11_10(n)
  when 'HU' then private.vat_weigh(n, 9, 7, 3, 1, 9, 7, 3, 1) % 10 = 0
  when 'IE' then private.vat_check_ireland(n)
  when 'IT' then private.vat_luhn(n) = 0
  when 'LT' then private.vat_check_lithuania(n)
  when 'LU' then left(n, 6)::integer % 89 = right(n, 2)::integer
  when 'LV' then private.vat_check_latvia(n)
  when 'MT' then private.vat_weigh(n, 3, 4, 6, 7, 8, 9, 10, 1) % 37 = 0
  when 'NL' then private.vat_check_netherlands(n)
  when 'PL' then private.vat_weigh(n, 6, 5, 7, 2, 3, 4, 5, 6, 7) % 11 = right(n, 1)::integer
  when 'PT' then (11 - private.vat_weigh(n, 9, 8, 7, 6, 5, 4, 3, 2) % 11) % 11 % 10 = right(n, 1)::integer
  when 'RO' then private.vat_check_romania(n)
  when 'SE' then private.vat_luhn(left(n, 10)) = 0
  when 'SI' then (11 - private.vat_weigh(n, 8, 7, 6, 5, 4, 3, 2) % 11) = case right(n, 1) when '0' then 10 else right(n, 1)::integer end
  when 'SK' then private.vat_check_slovakia(n)
  when 'XI' then private.vat_check_northern_ireland(n)
  else false
end;
comment on function private.vat_check_digits(text, text) is 'Whether what follows the prefix of a VAT number, in the form that private.vat_number_pattern() describes, has right check digits.';

create function private.vat_number_fault(number text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when number is null then 'format'
  when private.vat_number_pattern(left(number, 2)) is null then 'country'
  when substr(number, 3) !~ private.vat_number_pattern(left(number, 2)) then 'format'
  when not private.vat_check_digits(left(number, 2), substr(number, 3)) then 'check_digits'
end;
comment on function private.vat_number_fault(text) is 'What is wrong with a VAT number, without asking anybody: country (no member state, and not XI), format or check_digits; null for a number that can exist. Nullable: result.';

create function private.vat_normalize_number(number text, prefix text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return (
  select case
    when c.compact = '' then null
    when prefix = 'BE' and c.compact ~ '^(BE)?\d{9}$' then 'BE0' || right(c.compact, 9)
    when left(c.compact, 2) = prefix then c.compact
    when left(c.compact, 2) = 'GR' then 'EL' || substr(c.compact, 3)
    when substr(c.compact, 3) ~ private.vat_number_pattern(left(c.compact, 2)) then c.compact
    else coalesce(prefix, '') || c.compact
  end
  from (select upper(regexp_replace(number, '[\s./-]', '', 'g')) as compact) as c
);
comment on function private.vat_normalize_number(text, text) is 'A VAT number without spaces and dots, in capitals, with its prefix: the given one of the country, unless the number has another. Null for an empty number. Nullable: result.';
