-- ============================================================================
-- Analytics: rollups by hour.
--
-- An hour is always summed up anew from all of its events, so late events and merges of persons need no correction of their own.
-- ============================================================================

create table public.event_properties (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  event_name text not null check (char_length(event_name) between 1 and 200),
  property text not null check (char_length(property) between 1 and 100),
  kind text not null check (kind in ('dimension', 'measure')),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, event_name, property)
);
comment on table public.event_properties is 'Properties of events that rollups have: series over them need not read the events.';
comment on column public.event_properties.id is 'Identity of the row.';
comment on column public.event_properties.org_id is 'Organization that owns it; never changes.';
comment on column public.event_properties.event_name is 'Name of the events.';
comment on column public.event_properties.property is 'Name of the property.';
comment on column public.event_properties.kind is 'dimension: counted by value, for breakdowns; the 100 most frequent values of an hour. measure: a number that is summed up.';
comment on column public.event_properties.created_by is 'User who made it; null after that user is deleted.';
comment on column public.event_properties.created_by_key is 'API key that made it; null for a user.';
comment on column public.event_properties.created_at is 'When it was made.';
comment on column public.event_properties.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.event_properties', resource => 'analytics', max_rows => 100, catalogue => '{
  "event_name, property, kind": "says what rollups have"
}');

create table private.analytics_rollups (
  organization uuid not null references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 200),
  property text not null default '' check (char_length(property) <= 100),
  hour timestamptz not null,
  value text not null default '' check (char_length(value) <= 200),
  events bigint not null check (events >= 0),
  persons bytea not null,
  numbers bigint not null default 0 check (numbers >= 0),
  total double precision,
  minimum double precision,
  maximum double precision,
  primary key (organization, name, property, hour, value)
);
create index analytics_rollups_hour_idx on private.analytics_rollups using brin (hour);
comment on table private.analytics_rollups is 'Sums of events by hour: of all with a name, by value of a dimension, and of a measure.';
comment on column private.analytics_rollups.organization is 'Organization of the events.';
comment on column private.analytics_rollups.name is 'Name of the events.';
comment on column private.analytics_rollups.property is 'Dimension or measure; empty for all events of the name.';
comment on column private.analytics_rollups.hour is 'Beginning of the hour.';
comment on column private.analytics_rollups.value is 'Value of the dimension: empty without one, (other) for those that are not among the most frequent ones.';
comment on column private.analytics_rollups.events is 'How many events.';
comment on column private.analytics_rollups.persons is 'Sketch of their persons, as kijko.hll_add_agg() makes it.';
comment on column private.analytics_rollups.numbers is 'How many of the events have a number.';
comment on column private.analytics_rollups.total is 'Sum of the numbers.';
comment on column private.analytics_rollups.minimum is 'Least number.';
comment on column private.analytics_rollups.maximum is 'Greatest number.';
select private.describe_data('private.analytics_rollups', '{
  "organization, name, property, hour, value, events, persons, numbers, total, minimum, maximum": {"purpose": "answers series without reading events", "export": "none"}
}');
alter table private.analytics_rollups enable row level security;

create table private.analytics_revisions (
  organization uuid primary key references public.organizations (id) on delete cascade,
  revision bigint not null default 1,
  rolled_at timestamptz,
  failures integer not null default 0 check (failures >= 0),
  paused_until timestamptz not null default '-infinity'
);
comment on table private.analytics_revisions is 'Grows whenever an hour that is over is summed up anew: cached answers of before are not used any more.';
comment on column private.analytics_revisions.organization is 'The organization.';
comment on column private.analytics_revisions.revision is 'Its revision.';
comment on column private.analytics_revisions.rolled_at is 'When its hours were last summed up, by the real clock: whoever waits longest is next.';
comment on column private.analytics_revisions.failures is 'How often summing up has failed or took too long since nothing waited. Then one hour is taken at a time.';
comment on column private.analytics_revisions.paused_until is 'It is not its turn until then, by the real clock.';
select private.describe_data('private.analytics_revisions', '{
  "organization, revision, rolled_at, failures, paused_until": {"purpose": "keeps cached answers true, and takes organizations in turn", "export": "none"}
}');
alter table private.analytics_revisions enable row level security;

-- In SQL, because a function with a search_path is not inlined, and this is asked for each event.
create function private.analytics_number_sql(property text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format(
    'case when jsonb_typeof(e.properties -> %1$L) = ''number'' and abs((e.properties ->> %1$L)::numeric) < 1e30 then round((e.properties ->> %1$L)::numeric, 6)::double precision end',
    property
  )
$$;
comment on function private.analytics_number_sql(text) is 'The SQL of a number of a property of the event e, to six decimals; null if it is none, or 1e30 or more: other digits would fail as a float, and with them the whole hour.';

create function private.analytics_roll_totals(org uuid, names text[], hours timestamptz[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  insert into private.analytics_rollups (organization, name, hour, events, persons)
  select org, d.name, d.hour, count(*), kijko.hll_add_agg(coalesce(m.into_person_id, e.person_id))
  from unnest(names, hours) as d (name, hour)
  join public.events as e
    on e.org_id = org and e.name = d.name and e."timestamp" >= d.hour and e."timestamp" < d.hour + interval '1 hour' and e.created_at >= d.hour
  left join private.analytics_merges as m on m.organization = org and m.person_id = e.person_id
  group by d.name, d.hour
$$;
comment on function private.analytics_roll_totals(uuid, text[], timestamptz[]) is 'Sums up all events of these names and hours.';

create function private.analytics_roll_measures(org uuid, names text[], hours timestamptz[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  insert into private.analytics_rollups (organization, name, property, hour, events, persons, numbers, total, minimum, maximum)
  select org, n.name, n.property, n.hour, count(*), kijko.hll_add_agg(n.person), count(n.number), sum(n.number), min(n.number), max(n.number)
  from (
    select d.name, p.property, d.hour, coalesce(m.into_person_id, e.person_id) as person, case
        when jsonb_typeof(e.properties -> p.property) = 'number' and abs((e.properties ->> p.property)::numeric) < 1e30
          then round((e.properties ->> p.property)::numeric, 6)::double precision
      end as number
    from unnest(names, hours) as d (name, hour)
    join public.event_properties as p on p.org_id = org and p.event_name = d.name and p.kind = 'measure'
    join public.events as e
      on e.org_id = org and e.name = d.name and e."timestamp" >= d.hour and e."timestamp" < d.hour + interval '1 hour' and e.created_at >= d.hour
    left join private.analytics_merges as m on m.organization = org and m.person_id = e.person_id
  ) as n
  group by n.name, n.property, n.hour
$$;
comment on function private.analytics_roll_measures(uuid, text[], timestamptz[]) is 'Sums up the measures of these names and hours.';

create function private.analytics_roll_dimensions(org uuid, names text[], hours timestamptz[]) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  -- The events are read twice: first for the values that are told apart, so that no more than those have a sketch in memory.
  with valued as not materialized (
    select d.name, p.property, d.hour, left(coalesce(e.properties ->> p.property, ''), 200) as value, coalesce(m.into_person_id, e.person_id) as person
    from unnest(names, hours) as d (name, hour)
    join public.event_properties as p on p.org_id = org and p.event_name = d.name and p.kind = 'dimension'
    join public.events as e
      on e.org_id = org and e.name = d.name and e."timestamp" >= d.hour and e."timestamp" < d.hour + interval '1 hour' and e.created_at >= d.hour
    left join private.analytics_merges as m on m.organization = org and m.person_id = e.person_id
  ), frequent as materialized (
    select c.name, c.property, c.hour, c.value
    from (
      select v.name, v.property, v.hour, v.value,
        row_number() over (partition by v.name, v.property, v.hour order by count(*) desc, v.value) as rank
      from valued as v group by v.name, v.property, v.hour, v.value
    ) as c
    where c.rank <= 100
  )
  insert into private.analytics_rollups (organization, name, property, hour, value, events, persons)
  select org, v.name, v.property, v.hour, case
      -- A hashed subplan. As a join the planner would compare each event with each value.
      when (v.name, v.property, v.hour, v.value) in (select f.name, f.property, f.hour, f.value from frequent as f) then v.value else '(other)'
    end as shown, count(*), kijko.hll_add_agg(v.person)
  from valued as v
  group by v.name, v.property, v.hour, shown
$$;
comment on function private.analytics_roll_dimensions(uuid, text[], timestamptz[]) is 'Sums up the dimensions of these names and hours, by value.';

create function private.analytics_roll(org uuid, names text[], hours timestamptz[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.analytics_rollups as r using unnest(names, hours) as d (name, hour)
  where r.organization = org and r.name = d.name and r.hour = d.hour;
  perform private.analytics_roll_totals(org, names, hours);
  if exists (select 1 from public.event_properties as p where p.org_id = org and p.event_name = any (names)) then
    perform private.analytics_roll_measures(org, names, hours), private.analytics_roll_dimensions(org, names, hours);
  end if;
  if exists (select 1 from unnest(hours) as h (hour) where h.hour < date_trunc('hour', kijko.now(), 'UTC')) then
    insert into private.analytics_revisions as r (organization) values (org)
    on conflict (organization) do update set revision = r.revision + 1;
  end if;
end
$$;
comment on function private.analytics_roll(uuid, text[], timestamptz[]) is 'Sums up hours of events anew.';

create function private.analytics_roll_changes(max_hours integer default 200) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  failed integer;
  names text[];
  hours timestamptz[];
begin
  -- One at a time: two would sum up the same hour.
  if not pg_try_advisory_xact_lock(hashtextextended('analytics_rollups', 0)) then
    return 0;
  end if;
  -- In turn, so that nobody waits behind the hours of another. The organizations are found by the index, whatever the number of rows.
  with recursive waiting as (
    (select c.organization from private.analytics_changes as c order by c.organization limit 1)
    union all
    select (select c.organization from private.analytics_changes as c where c.organization > w.organization order by c.organization limit 1)
    from waiting as w where w.organization is not null
  )
  select w.organization into org
  from waiting as w left join private.analytics_revisions as r on r.organization = w.organization
  where w.organization is not null and (r.paused_until <= clock_timestamp()) is not false order by r.rolled_at nulls first limit 1;
  if org is null then
    return 0;
  end if;
  insert into private.analytics_revisions (organization, revision, rolled_at)
  select o.id, 0, clock_timestamp() from public.organizations as o where o.id = org for key share
  on conflict (organization) do update set rolled_at = excluded.rolled_at
  returning failures into failed;
  with due as (
    select w.name, w.hour
    from (
      select o.name, o.hour, row_number() over (order by o.id) as place, sum(coalesce(r.events, 0)) over (order by o.id) as events
      from (
        select c.name, c.hour, min(c.id) as id from private.analytics_changes as c
        where c.organization = org group by c.name, c.hour order by min(c.id) limit case when failed > 0 then 1 else max_hours end
      ) as o
      left join private.analytics_rollups as r
        on r.organization = org and r.name = o.name and r.property = '' and r.hour = o.hour and r.value = ''
    ) as w
    -- Hours that are known to have many events are summed up a few at a time.
    where w.place = 1 or w.events <= 200000
  ), taken as (
    delete from private.analytics_changes as c using due as d where c.organization = org and c.name = d.name and c.hour = d.hour
    returning c.name, c.hour
  )
  -- Some events of an older hour are dropped already.
  select array_agg(t.name), array_agg(t.hour) into names, hours
  from (select distinct t.name, t.hour from taken as t) as t where t.hour > kijko.now() - interval '399 days';
  if names is null then
    return 1;
  end if;
  begin
    perform private.analytics_roll(org, names, hours);
    update private.analytics_revisions as r set failures = 0
    where r.organization = org and r.failures > 0 and not exists (select 1 from private.analytics_changes as c where c.organization = org);
  exception when query_canceled or others then
    -- Other organizations do not wait for it: its hours go behind its others, and the whole organization pauses.
    raise warning 'events of organization % cannot be summed up: % %', org, sqlstate, sqlerrm;
    update private.analytics_revisions as r
    set failures = r.failures + 1, paused_until = clock_timestamp() + least(interval '1 minute' * 2 ^ least(r.failures, 10), interval '1 hour')
    where r.organization = org;
    insert into private.analytics_changes (organization, name, hour)
    select org, d.name, d.hour from unnest(names, hours) as d (name, hour)
    where exists (select 1 from public.organizations as o where o.id = org);
  end;
  return cardinality(names);
end
$$;
comment on function private.analytics_roll_changes(integer) is 'Sums up changed hours of one organization, and returns how many; 0 when nothing waits. Hours that fail or take too long are put back, and the organization pauses for a minute, then twice as long each time, up to an hour. Definer: callable by the operator without table rights.';
grant execute on function private.analytics_roll_changes(integer) to service_role;

-- A procedure's statements share one statement_timeout, and pg_cron sets none. So a job of its own looks at how long a call takes.
create function private.analytics_cancel_slow_roll(longest interval default '30 seconds') returns integer
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  -- Materialized: the planner could cancel others before it looks which lock they hold.
  with slow as materialized (
    select l.pid
    from pg_locks as l
    join pg_stat_activity as a on a.pid = l.pid
    cross join hashtextextended('analytics_rollups', 0) as k (key)
    where l.locktype = 'advisory' and l.database = (select d.oid from pg_database as d where d.datname = current_database()) and l.granted
      and l.objsubid = 1 and l.classid::bigint = (k.key >> 32 & 4294967295) and l.objid::bigint = (k.key & 4294967295)
      -- Only its own role's: to cancel another's is an error.
      and a.usename = current_user and a.xact_start < clock_timestamp() - longest
  )
  select count(*) filter (where pg_cancel_backend(s.pid))::integer from slow as s
$$;
comment on function private.analytics_cancel_slow_roll(interval) is 'Cancels a call of analytics_roll_changes() that takes longer, and returns how many: its organization pauses, and others go on. Called by pg_cron each minute. Definer: callable by the operator without table rights.';
grant execute on function private.analytics_cancel_slow_roll(interval) to service_role;

create function private.analytics_property_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' and (old.event_name, old.property, old.kind) = (new.event_name, new.property, new.kind) then
    return null;
  end if;
  if tg_op <> 'DELETE' then
    -- Each change sums up all hours of the name.
    perform private.limit_rate('event_properties:' || new.org_id, 200, '1 hour', '%s changes of event properties an hour for an organization');
    if (
      select count(*) from public.event_properties as p where p.org_id = new.org_id and p.event_name = new.event_name and p.kind = new.kind
    ) > 10 then
      perform kijko.fail('quota_exceeded', 'event_properties: an event has at most 10 dimensions and 10 measures');
    end if;
  end if;
  if tg_op <> 'INSERT' then
    delete from private.analytics_rollups as r where r.organization = old.org_id and r.name = old.event_name and r.property = old.property;
  end if;
  if tg_op <> 'DELETE' then
    insert into private.analytics_changes (organization, name, hour)
    select r.organization, r.name, r.hour from private.analytics_rollups as r
    where r.organization = new.org_id and r.name = new.event_name and r.property = '' and not exists (
      select 1 from private.analytics_changes as c where c.organization = r.organization and c.name = r.name and c.hour = r.hour
    );
  end if;
  return null;
end
$$;
comment on function private.analytics_property_changed() is 'Trigger: a new dimension or measure is summed up for the past, too; one that is gone is forgotten. Definer: rollups are private.';
create trigger event_properties_changed after insert or update or delete on public.event_properties
  for each row execute function private.analytics_property_changed();
