-- ============================================================================
-- Analytics: what all queries share, and the cache of their answers.
-- ============================================================================

create table private.analytics_answers (
  organization uuid not null references public.organizations (id) on delete cascade,
  permission text not null check (char_length(permission) <= 100),
  query bytea not null,
  revision bigint not null,
  covers_until timestamptz not null,
  answer jsonb not null,
  answered_at timestamptz not null default kijko.now(),
  primary key (organization, permission, query)
);
create index analytics_answers_answered_at_idx on private.analytics_answers (answered_at);
comment on table private.analytics_answers is 'Answers of queries, by organization, permission and query: the last 500 of an organization, for a day.';
comment on column private.analytics_answers.organization is 'The organization.';
comment on column private.analytics_answers.permission is 'The permission that the answer needs.';
comment on column private.analytics_answers.query is 'SHA-256 of the query.';
comment on column private.analytics_answers.revision is 'Revision of the organization''s rollups that the answer is of.';
comment on column private.analytics_answers.covers_until is 'End of the time that was asked for. An answer about the present is used for 5 minutes.';
comment on column private.analytics_answers.answer is 'The answer.';
comment on column private.analytics_answers.answered_at is 'When it was made.';
select private.describe_data('private.analytics_answers', '{
  "organization, permission, query, revision, covers_until, answer, answered_at": {"purpose": "answers a query that is asked again", "export": "none", "erasure": "retention"}
}');
select private.set_retention('private.analytics_answers', '1 day', 'the same question is answered once');
alter table private.analytics_answers enable row level security;

create function private.analytics_revision(org uuid) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((select r.revision from private.analytics_revisions as r where r.organization = org), 0)
$$;
comment on function private.analytics_revision(uuid) is 'Revision of an organization''s rollups.';

create function private.analytics_query_key(query jsonb) returns bytea
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select sha256(convert_to(query::text, 'UTF8'))
$$;
comment on function private.analytics_query_key(jsonb) is 'Key of a query in the cache.';

create function private.analytics_cached(org uuid, query jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- An hour is over for answers 5 minutes later: a call that sums it up may have begun before its end, and takes no new revision.
  select a.answer || '{"cached": true}'
  from private.analytics_answers as a
  where a.organization = org and a.permission = 'analytics:read' and a.query = private.analytics_query_key(analytics_cached.query)
    and a.revision = private.analytics_revision(org)
    and (
      a.covers_until <= date_trunc('hour', a.answered_at - interval '5 minutes', 'UTC') or a.answered_at > kijko.now() - interval '5 minutes'
    )
$$;
comment on function private.analytics_cached(uuid, jsonb) is 'A cached answer that is still true; null for none.';

create function private.analytics_remember(org uuid, query jsonb, revision bigint, until timestamptz, answer jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- A read-only key writes nothing.
  if current_setting('transaction_read_only') = 'off' and private.json_fits(answer, 262144) then
    insert into private.analytics_answers as a (organization, permission, query, revision, covers_until, answer)
    values (org, 'analytics:read', private.analytics_query_key(analytics_remember.query), analytics_remember.revision, until, analytics_remember.answer)
    on conflict on constraint analytics_answers_pkey do update set
      revision = excluded.revision, covers_until = excluded.covers_until, answer = excluded.answer, answered_at = kijko.now();
    -- Those of a former revision go first, then the oldest. Nobody waits here for another caller.
    delete from private.analytics_answers as a
    where a.organization = org and a.query in (
      select o.query from private.analytics_answers as o where o.organization = org
      order by o.revision = private.analytics_revision(org) desc, o.answered_at desc, o.query offset 500
      for update skip locked
    );
  end if;
  return answer || '{"cached": false}';
end
$$;
comment on function private.analytics_remember(uuid, jsonb, bigint, timestamptz, jsonb) is 'Caches an answer, and returns it. revision is that of before it was made.';

-- ----------------------------------------------------------------------------
-- Reading a query
-- ----------------------------------------------------------------------------

create type private.analytics_range as (starts_at timestamptz, ends_at timestamptz, step text, zone text);
comment on type private.analytics_range is 'The time that a query asks about: step is hour, day, week or month.';

create function private.analytics_read_range(query jsonb, steps text[], max_steps integer) returns private.analytics_range
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  range private.analytics_range;
begin
  range.starts_at := private.analytics_read_time(query -> 'from');
  range.ends_at := coalesce(private.analytics_read_time(query -> 'until'), case when query -> 'until' is null then kijko.now() end);
  range.step := coalesce(query ->> 'interval', 'day');
  range.zone := coalesce(query ->> 'time_zone', 'UTC');
  if range.starts_at is null or range.ends_at is null or range.starts_at >= range.ends_at or range.ends_at > range.starts_at + interval '800 days' then
    perform kijko.fail('invalid_input', 'from, until: times in ISO 8601, at most 800 days apart');
  elsif not range.step = any (steps) then
    perform kijko.fail('invalid_input', format('interval: %s', array_to_string(steps, ', ')));
  elsif kijko.cron_problem('@daily', range.zone) is not null then
    perform kijko.fail('invalid_input', 'time_zone: a name such as Europe/Amsterdam');
  elsif range.ends_at - range.starts_at > max_steps * ('1 ' || range.step)::interval then
    perform kijko.fail('invalid_input', format('at most %s intervals', max_steps));
  end if;
  return range;
end
$$;
comment on function private.analytics_read_range(jsonb, text[], integer) is 'Reads from, until, interval and time_zone of a query.';

create function private.analytics_buckets(range private.analytics_range) returns table (number bigint, starts_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select row_number() over (order by b.starts_at), b.starts_at
  from (
    select distinct g.local_time at time zone range.zone as starts_at
    from generate_series(
      date_trunc(range.step, range.starts_at at time zone range.zone), (range.ends_at at time zone range.zone) - interval '1 microsecond', ('1 ' || range.step)::interval
    ) as g (local_time)
    where range.step <> 'hour'
    union all
    -- By half hours, because the clock of Lord Howe Island changes by one.
    select distinct date_trunc('hour', g.at, range.zone)
    from generate_series(date_trunc('hour', range.starts_at, range.zone), range.ends_at - interval '1 microsecond', interval '30 minutes') as g (at)
    where range.step = 'hour'
  ) as b
$$;
comment on function private.analytics_buckets(private.analytics_range) is 'The intervals of a time, numbered from 1, as they begin in its zone.';

create function private.analytics_check_keys(given jsonb, known text[], what text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(given) is distinct from 'object' or not private.json_fits(given, 16384)
    or exists (select 1 from jsonb_object_keys(given) as k (name) where not k.name = any (known))
  then
    perform kijko.fail('invalid_input', format('%s: an object with %s', what, array_to_string(known, ', ')));
  end if;
end
$$;
comment on function private.analytics_check_keys(jsonb, text[], text) is 'Refuses what is no object or has unknown members.';

create function private.analytics_read_event(given jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if jsonb_typeof(given) is distinct from 'string' or char_length(given #>> '{}') not between 1 and 200 then
    perform kijko.fail('invalid_input', 'event: the name of an event');
  end if;
  return given #>> '{}';
end
$$;
comment on function private.analytics_read_event(jsonb) is 'The name of an event in a query.';

create function private.analytics_read_property(given jsonb, what text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if given is not null and (jsonb_typeof(given) <> 'string' or char_length(given #>> '{}') not between 1 and 100) then
    perform kijko.fail('invalid_input', format('%s: the name of a property', what));
  end if;
  return given #>> '{}';
end
$$;
comment on function private.analytics_read_property(jsonb, text) is 'The name of a property in a query. Nullable: result.';

-- Every value is a quoted literal, and no operator takes a pattern.
create function private.analytics_condition(filters jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  filter jsonb;
  property text;
  value jsonb;
  condition text;
  conditions text[] := array['true'];
begin
  if filters is null then
    return 'true';
  elsif jsonb_typeof(filters) <> 'array' or jsonb_array_length(filters) > 10 then
    perform kijko.fail('invalid_input', 'filters: at most 10 of {property, op, value}');
  end if;
  for filter in select f.value from jsonb_array_elements(filters) as f loop
    perform private.analytics_check_keys(filter, '{property,op,value}', 'filters');
    property := private.analytics_read_property(coalesce(filter -> 'property', 'null'), 'property');
    value := filter -> 'value';
    condition := case
      when filter ->> 'op' in ('set', 'not_set') and value is null then null
      when filter ->> 'op' in ('eq', 'neq') and jsonb_typeof(value) in ('string', 'number', 'boolean') then null
      when filter ->> 'op' in ('gt', 'gte', 'lt', 'lte') and jsonb_typeof(value) = 'number' then null
      when filter ->> 'op' = 'contains' and jsonb_typeof(value) = 'string' then null
      when filter ->> 'op' = 'in' and jsonb_typeof(value) = 'array' and jsonb_array_length(value) between 1 and 100 then null
      else 'refused'
    end;
    if condition is not null then
      perform kijko.fail('invalid_input', 'op: eq, neq, in, contains, gt, gte, lt, lte, set or not_set, with a value that fits');
    end if;
    conditions := conditions || case filter ->> 'op'
      when 'set' then format('coalesce(jsonb_typeof(e.properties -> %L), ''null'') <> ''null''', property)
      when 'not_set' then format('coalesce(jsonb_typeof(e.properties -> %L), ''null'') = ''null''', property)
      when 'eq' then format('e.properties -> %L = %L::jsonb', property, value)
      when 'neq' then format('(e.properties -> %L = %L::jsonb) is not true', property, value)
      when 'in' then format('e.properties -> %L = any (%L::jsonb[])', property, array(select v.value from jsonb_array_elements(value) as v))
      when 'contains' then format('strpos(e.properties ->> %L, %L) > 0', property, value #>> '{}')
      else format(
        '%s %s %L::numeric::double precision', private.analytics_number_sql(property),
        case filter ->> 'op' when 'gt' then '>' when 'gte' then '>=' when 'lt' then '<' else '<=' end, case when abs((value #>> '{}')::numeric) < 1e30 then round((value #>> '{}')::numeric, 6) end
      )
    end;
  end loop;
  return array_to_string(conditions, ' and ');
end
$$;
comment on function private.analytics_condition(jsonb) is 'The condition of filters in SQL, about the event e.';

-- An event happens before it arrives, so partitions of before the time are not read.
create function private.analytics_source(org uuid, range private.analytics_range) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format(
    $f$public.events as e %1$s where e.org_id = %2$L and e."timestamp" >= %3$L and e."timestamp" < %4$L and e.created_at >= %3$L and$f$,
    case when exists (select 1 from private.analytics_merges as m where m.organization = org)
      then format('left join private.analytics_merges as m on m.organization = %L and m.person_id = e.person_id', org)
      else 'cross join (select null::uuid as into_person_id) as m'
    end,
    org, range.starts_at, range.ends_at
  )
$$;
comment on function private.analytics_source(uuid, private.analytics_range) is 'The events e of an organization and a time, with the merges m of their persons, as the beginning of a condition in SQL.';
