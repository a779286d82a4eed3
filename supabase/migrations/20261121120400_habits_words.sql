-- ============================================================================
-- Habits: a schedule in words, in English.
--
-- The grammar is the extension's, which is checked first: five fields of numbers, names, ranges, steps and lists. What it
-- refuses never arrives here. Crates that describe cron expressions know other grammars (seconds, years, L, W, #), on which
-- their words would differ from what runs.
-- ============================================================================

create function private.habits_join_words(words text[]) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case cardinality(words)
  when 0 then null
  when 1 then words[1]
  else array_to_string(words[:cardinality(words) - 1], ', ') || ' and ' || words[cardinality(words)]
end;
comment on function private.habits_join_words(text[]) is 'A list as in a sentence: a, b and c. Null for none.';

create function private.habits_ordinal(n integer) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return n || case when n % 100 between 11 and 13 then 'th' else coalesce((array['st', 'nd', 'rd'])[n % 10], 'th') end;
comment on function private.habits_ordinal(integer) is 'A number as an ordinal: 1st, 2nd, 3rd, 11th.';

create function private.habits_value_name(field text, value text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case field
  when 'hour' then lpad(value, 2, '0') || ':00'
  when 'day' then private.habits_ordinal(value::integer)
  when 'month' then (array['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'])[value::integer]
  when 'weekday' then (array['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'])[value::integer + 1]
  else value
end;
comment on function private.habits_value_name(text, text) is 'One value of a field in words: 9 is 09:00, 9th, September or, of a weekday, none.';

create function private.habits_item_words(field text, item text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  parts constant text[] := regexp_match(item, '^(\*|\d+)(?:-(\d+))?(?:/(\d+))?$');
  range text;
begin
  if parts[1] <> '*' then
    range := private.habits_value_name(field, parts[1]);
    if parts[2] is not null then
      range := format(
        case when parts[3] is null then '%s to %s' when field = 'day' then 'from the %s to the %s' else 'from %s to %s' end,
        range, private.habits_value_name(field, parts[2])
      );
    end if;
  end if;
  if coalesce(parts[3], '1') = '1' then
    return range;
  end if;
  -- Of a plain "*/n" the first value is where the count begins.
  return concat_ws(' ', 'every', private.habits_ordinal(parts[3]::integer), field, range);
end
$$;
comment on function private.habits_item_words(text, text) is 'One item of a field''s list in words; null for one that restricts nothing. Nullable: result.';

create function private.habits_field_words(field text, given text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select private.habits_join_words(array_agg(i.words order by i.place))
  from (
    select private.habits_item_words(field, t.item) as words, t.place from string_to_table(given, ',') with ordinality as t (item, place)
  ) as i
  -- One item that restricts nothing makes the list restrict nothing.
  having bool_and(i.words is not null)
$$;
comment on function private.habits_field_words(text, text) is 'A field in words; null if it restricts nothing. Nullable: result.';

create function private.habits_expand_cron(expression text) returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  written text := lower(btrim(expression, e' \t\n\r\f\v'));
  fields text[];
  name text;
begin
  written := case written
    when '@yearly' then '0 0 1 1 *' when '@annually' then '0 0 1 1 *' when '@monthly' then '0 0 1 * *'
    when '@weekly' then '0 0 * * 0' when '@daily' then '0 0 * * *' when '@midnight' then '0 0 * * *'
    when '@hourly' then '0 * * * *' else written
  end;
  fields := regexp_split_to_array(written, '\s+');
  foreach name in array array['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'] loop
    fields[4] := replace(fields[4], name, ((strpos('janfebmaraprmayjunjulaugsepoctnovdec', name) + 2) / 3)::text);
  end loop;
  -- A range may end with Sunday.
  fields[5] := replace(fields[5], '-sun', '-7');
  foreach name in array array['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] loop
    fields[5] := replace(fields[5], name, ((strpos('sunmontuewedthufrisat', name) - 1) / 3)::text);
  end loop;
  return fields;
end
$$;
comment on function private.habits_expand_cron(text) is 'The five fields of a usable expression in numbers.';

create function private.habits_time_words(minute text, hour text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  hours constant text := private.habits_field_words('hour', hour);
  -- How the hours are said after minutes.
  during constant text := case
    when hour ~ '^\d+$' then format('from %1$s:00 to %1$s:59', lpad(hour, 2, '0'))
    when hour ~ '^\d+-\d+$' then format('from %s:00 to %s:59', lpad(split_part(hour, '-', 1), 2, '0'), lpad(split_part(hour, '-', 2), 2, '0'))
    when hours is null then null
    when hours like 'every %' then 'of ' || replace(hours, ':00', '')
    else 'of the hours ' || replace(hours, ':00', '')
  end;
begin
  if minute ~ '^\d+(,\d+)*$' and hour ~ '^\d+(,\d+)*$'
    and cardinality(string_to_array(minute, ',')) * cardinality(string_to_array(hour, ',')) <= 6
  then
    return 'at ' || private.habits_join_words(array(
      select lpad(h.v, 2, '0') || ':' || lpad(m.v, 2, '0')
      from (select distinct v from string_to_table(hour, ',') as v) as h
      cross join (select distinct v from string_to_table(minute, ',') as v) as m
      order by h.v::integer, m.v::integer
    ));
  elsif minute = '*' then
    return concat_ws(' ', 'every minute', during);
  elsif minute ~ '^\*/\d+$' and 60 % split_part(minute, '/', 2)::integer = 0 then
    return concat_ws(' ', case when minute = '*/1' then 'every minute' else format('every %s minutes', split_part(minute, '/', 2)) end, during);
  elsif minute = '0' and hour ~ '^\*(/1)?$' then
    return 'every hour';
  elsif minute = '0' and hour ~ '^\*/\d+$' and 24 % split_part(hour, '/', 2)::integer = 0 then
    return format('every %s hours', split_part(hour, '/', 2));
  elsif minute = '0' and hour ~ '^\d+-\d+$' then
    return format('every hour from %s:00 to %s:00', lpad(split_part(hour, '-', 1), 2, '0'), lpad(split_part(hour, '-', 2), 2, '0'));
  end if;
  return concat_ws(
    ' ', case when minute ~ '/' then 'at' when minute ~ '[,-]' then 'at the minutes' else 'at minute' end,
    private.habits_field_words('minute', minute), coalesce(during, 'of every hour')
  );
end
$$;
comment on function private.habits_time_words(text, text) is 'The fields minute and hour in words.';

create function private.habits_day_words(day text, month text, weekday text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  days constant text := private.habits_field_words('day', day);
  months constant text := private.habits_field_words('month', month);
  weekdays constant text := private.habits_field_words('weekday', weekday);
  on_days constant text := case
    when days is null then null
    when days like 'every %' then 'on ' || days || ' of the month'
    else 'on the ' || days || ' of the month'
  end;
  on_weekdays constant text := case when weekdays is not null then 'on ' || weekdays end;
begin
  return nullif(concat_ws(
    ' ',
    -- Either is enough, if both are restricted.
    coalesce(on_days || ' and ' || on_weekdays, on_days, on_weekdays),
    case when months is not null then 'in ' || months end
  ), '');
end
$$;
comment on function private.habits_day_words(text, text, text) is 'The fields day of month, month and day of week in words; null for every day. Nullable: result.';

create function public.describe_cron(expression text, timezone text default 'UTC') returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  fields text[];
  times text;
  days text;
begin
  if expression is null or char_length(expression) > 255 then
    perform kijko.fail('invalid_cron', 'expression: 1 to 255 characters');
  end if;
  if timezone is null then
    perform kijko.fail('invalid_timezone', 'timezone: must be given');
  end if;
  perform kijko.cron_check(expression, timezone);
  fields := private.habits_expand_cron(expression);
  times := private.habits_time_words(fields[1], fields[2]);
  days := private.habits_day_words(fields[3], fields[4], fields[5]);
  return format(
    '%s%s (%s)', upper(left(times, 1)) || substr(times, 2),
    coalesce(', ' || days, case when times like 'at __:__%' then ', every day' end), timezone
  );
end
$$;
comment on function public.describe_cron(text, text) is 'A cron expression and its zone in an English sentence, as "At 09:00, on Monday to Friday (Europe/Amsterdam)". Fails as preview_cron() does. Definer: calls private functions, reads no table.';
grant execute on function public.describe_cron(text, text) to authenticated;
