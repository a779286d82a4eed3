-- ============================================================================
-- Usage: reports of what an organization has used, and meters of its own services.
--
-- The reports read the extension's ledger and its sums. These functions check who may
-- read them.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- usage_meters
-- ----------------------------------------------------------------------------

create table public.usage_meters (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  event_type text not null check (char_length(event_type) between 1 and 255),
  -- The prefix keeps these meters apart from the platform's, which no organization can write.
  meter text not null check (octet_length(meter) <= 55 and meter ~ '^own\.[a-z][a-z0-9_]*$'),
  amount_field text check (char_length(amount_field) between 1 and 100),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, event_type)
);

comment on table public.usage_meters is 'Meters of an organization''s own services: which events ingest_usage() counts, and how. Events of other types are refused.';
comment on column public.usage_meters.id is 'Identity of the row.';
comment on column public.usage_meters.org_id is 'Organization. It never changes.';
comment on column public.usage_meters.event_type is 'Type of the CloudEvents that are counted.';
comment on column public.usage_meters.meter is 'Meter that counts them: "own." and a name. Several types may share a meter.';
comment on column public.usage_meters.amount_field is 'Member of data that holds the amount, a whole number from 1. Null counts each event as 1.';
comment on column public.usage_meters.created_by is 'User who created it. Null once that user is deleted.';
comment on column public.usage_meters.created_by_key is 'API key that created it. Null if a user did.';
comment on column public.usage_meters.created_at is 'When it was created.';
comment on column public.usage_meters.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table(
  'public.usage_meters', resource => 'usage', write_permission => 'organization:write', gauge => 'usage_meters', catalogue => '{
    "event_type, meter, amount_field": "says which events of the organization are counted, and how"
  }'
);

create function private.usage_guard_meter_names() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_names constant bigint := (kijko.quota_status(new.org_id, 'usage_meters'))."limit";
  names bigint;
begin
  -- One change at a time: concurrent changes would not see each other's names.
  perform 1 from public.organizations as o where o.id = new.org_id for no key update;
  select count(*) into names
  from (
    select m.meter from public.usage_meters as m where m.org_id = new.org_id
    union
    -- A counter outlives its meter.
    select u.meter from kijko.usage(new.org_id) as u where starts_with(u.meter, 'own.') and u.used > 0
  ) as known;
  if names > max_names then
    perform kijko.fail(
      'quota_exceeded', format('%s of %s meters of your own are defined or in use this month', names, max_names),
      'Use the name of a meter that has counted before, wait for the next month, or choose a higher plan.'
    );
  end if;
  return null;
end
$$;
comment on function private.usage_guard_meter_names() is 'Trigger: bounds the counters that an organization can create by renaming or replacing meters. Definer: only the domain may read the ledger.';
create trigger usage_meters_names_insert after insert on public.usage_meters
  for each row execute function private.usage_guard_meter_names();
create trigger usage_meters_names_update after update of meter on public.usage_meters
  for each row when (old.meter <> new.meter) execute function private.usage_guard_meter_names();

-- ----------------------------------------------------------------------------
-- Reports. All of them are definer functions, because only the domain may read the ledger.
-- ----------------------------------------------------------------------------

create function public.usage_summary()
returns table (meter text, period text, used bigint, "limit" bigint, remaining bigint, reset_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select u.meter, u.period, u.used, u."limit", u.remaining, u.reset_at
  from kijko.usage(private.tenancy_require_org_with('usage:read')) as u
  order by u.meter;
end
$$;
comment on function public.usage_summary() is 'Usage and limit of each meter of the request''s organization. Needs usage:read. Nullable: limit, remaining, reset_at. Definer: only the domain may read the ledger.';
grant execute on function public.usage_summary() to authenticated;

-- By what is visible and not by what is hidden: of a deleted project nobody knows any more whether it was private.
create function private.usage_visible_ids(org uuid, dimension text) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if dimension not in ('project', 'repository', 'skill', 'habit', 'key') or current_setting('role') = 'service_role'
    or (dimension <> 'key' and public.can(org, 'projects:manage'))
    or (dimension = 'key' and public.can(org, 'api_keys:read'))
  then
    return null;
  end if;
  return case dimension
    when 'project' then array(
      select p.id::text from public.projects as p
      where p.org_id = org and p.id <> all (array(select private.projects_hidden_ids()))
    )
    when 'repository' then array(
      select r.id::text from public.repositories as r
      where r.org_id = org and (r.project_id = any (array(select private.projects_hidden_ids()))) is not true
    )
    when 'skill' then array(
      select s.id::text from public.skills as s
      where s.org_id = org and s.id <> all (array(select private.skills_hidden_ids()))
    )
    when 'habit' then array(
      select h.id::text from public.habits as h
      where h.org_id = org and h.skill_id <> all (array(select private.skills_hidden_ids()))
    )
    else array(select k.id::text from public.api_keys as k where k.org_id = org and private.api_keys_is_owned(k))
  end;
end
$$;
comment on function private.usage_visible_ids(uuid, text) is 'The ids of a dimension of usage that the caller sees: those of visible projects, of the repositories, skills and habits in them, and of the API keys that the caller may list. Null when every value is visible: for other dimensions, and for who manages projects or reads all keys. For definer functions. Nullable: result.';

create function private.usage_is_visible(value text, visible text[]) returns boolean
language sql immutable
return visible is null or value is null or value = any (visible) or length(value) <> 36 or value !~ '^[0-9a-f-]+$';
comment on function private.usage_is_visible(text, text[]) is 'Whether a value of usage is shown, given the ids that are visible. What is no id comes from the organization''s own events and is shown.';

-- The requests of a key are counted for the organization without attributes, and once more for the key.
create function private.usage_requests_by_key(org uuid, since date, until date) returns table (key text, used bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  starts constant timestamptz := (
    select p.starts_at
    from kijko.usage(org) as m
    cross join lateral kijko.period_at(org, m.meter, kijko.now(), m.period) as p
    where m.meter = 'api_requests'
  );
begin
  return query
  select k.id::text, sum(d.amount)::bigint
  from public.api_keys as k
  -- kijko.usage_by() reads every meter of a subject, which took 20 s for 500 keys.
  cross join lateral kijko.usage_by_day(
    kijko.subject('api_key', k.id), 'api_requests', coalesce(usage_requests_by_key.since, (starts at time zone 'UTC')::date),
    coalesce(usage_requests_by_key.until, 'infinity')
  ) as d
  where k.org_id = org
  group by k.id
  having sum(d.amount) > 0;
end
$$;
comment on function private.usage_requests_by_key(uuid, date, date) is 'The requests of each API key of an organization, since the beginning of the period of its api_requests or between two days. For definer functions.';

create function public.usage_by(dimension text, only_meter text default null, since date default null, until date default null)
returns table (meter text, value text, used bigint, overage bigint, entries bigint)
language plpgsql stable security definer set search_path = ''
as $$
declare
  org uuid := private.tenancy_require_org_with('usage:read');
  visible constant text[] := private.usage_visible_ids(org, dimension);
begin
  -- A misspelt dimension would return all use under a null value.
  if (dimension in ('day', 'member', 'project', 'repository', 'skill', 'habit', 'key', 'subject')) is not true then
    perform kijko.fail('invalid_input', 'dimension: one of day, member, project, repository, skill, habit, key, subject');
  end if;
  return query
  select u.meter, v.value, least(greatest(sum(u.used), -9223372036854775808), 9223372036854775807)::bigint,
    least(sum(u.overage), 9223372036854775807)::bigint, sum(u.entries)::bigint
  from (
    select c.meter, c.value, c.used, c.overage, c.entries, c.place
    from kijko.usage_by(org, usage_by.dimension, usage_by.only_meter, usage_by.since, usage_by.until)
      with ordinality as c (meter, value, used, overage, entries, place)
    union all
    -- Their sum is taken from the use without a key.
    select 'api_requests', d.value, d.used, 0, d.entries, d.place
    from private.usage_requests_by_key(org, usage_by.since, usage_by.until) as k
    cross join lateral (values (k.key, k.used, 1, 1), (null, -k.used, 0, 2)) as d (value, used, entries, place)
    where usage_by.dimension = 'key' and coalesce(usage_by.only_meter, 'api_requests') = 'api_requests'
  ) as u
  -- The use of what is hidden stays in the sum.
  cross join lateral (select case when private.usage_is_visible(u.value, visible) then u.value end) as v (value)
  group by u.meter, v.value
  order by min(u.place);
end
$$;
comment on function public.usage_by(text, text, date, date) is 'Usage of the request''s organization by day, member, project, repository, skill, habit, key or subject: since the beginning of each meter''s period, or between two days, both included. value is an id or a day, and null for usage without one, for that of projects, repositories, skills and habits which the caller does not see, and for that of API keys which the caller may not list. Who manages projects sees deleted ones, too. Needs usage:read. Nullable: value. Definer: only the domain may read the ledger.';
grant execute on function public.usage_by(text, text, date, date) to authenticated;

create function public.usage_forecast()
returns table (
  meter text, period text, used bigint, "limit" bigint, reset_at timestamptz, at_period_rate bigint, at_week_rate bigint
)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select u.meter, u.period, u.used, u."limit", u.reset_at, u.at_period_rate, u.at_week_rate
  from kijko.usage_forecast(private.tenancy_require_org_with('usage:read')) as u;
end
$$;
comment on function public.usage_forecast() is 'Forecast of each meter of the request''s organization for the end of its period, by two linear estimates: at the rate of this period so far, and at the rate of the last 7 days for the rest of the period. Needs usage:read. Nullable: limit. Definer: only the domain may read the ledger.';
grant execute on function public.usage_forecast() to authenticated;

create function public.usage_alerts(since timestamptz default null)
returns table (meter text, period_start timestamptz, threshold smallint, used bigint, "limit" bigint, crossed_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select c.meter, c.period_start, c.threshold, c.used, c."limit", c.crossed_at
  from kijko.list_threshold_crossings(private.tenancy_require_org_with('usage:read'), usage_alerts.since) as c;
end
$$;
comment on function public.usage_alerts(timestamptz) is 'When the request''s organization reached 50, 80 and 100 per cent of a limit, once for each period, the latest first. period_start is null for a lifetime limit. Needs usage:read. Nullable: period_start. Definer: only the domain may read the extension''s tables.';
grant execute on function public.usage_alerts(timestamptz) to authenticated;

create function private.usage_hide_attributes(org uuid, explained jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  projects constant text[] := private.usage_visible_ids(org, 'project');
  repositories constant text[] := private.usage_visible_ids(org, 'repository');
  skills constant text[] := private.usage_visible_ids(org, 'skill');
  habits constant text[] := private.usage_visible_ids(org, 'habit');
  keys constant text[] := private.usage_visible_ids(org, 'key');
begin
  if jsonb_typeof(explained #> '{rows,latest}') is distinct from 'array' then
    return explained;
  end if;
  return jsonb_set(explained, '{rows,latest}', (
    select coalesce(
      jsonb_agg(
        case
          when not private.usage_is_visible(l.attributes ->> 'project', projects)
            or not private.usage_is_visible(l.attributes ->> 'repository', repositories)
            or not private.usage_is_visible(l.attributes ->> 'skill', skills)
            or not private.usage_is_visible(l.attributes ->> 'habit', habits)
          then l.entry - 'attributes'
          when not private.usage_is_visible(l.attributes ->> 'key', keys) then l.entry #- '{attributes,key}'
          else l.entry
        end
        order by l.place
      ),
      '[]'
    )
    from (
      select e.entry, e.entry -> 'attributes' as attributes, e.place
      from jsonb_array_elements(explained #> '{rows,latest}') with ordinality as e (entry, place)
    ) as l
  ));
end
$$;
comment on function private.usage_hide_attributes(uuid, jsonb) is 'An answer of kijko.explain_limit() without the attributes of uses in projects, repositories, skills and habits that the caller does not see, and without API keys that the caller may not list.';

create function public.explain_limit(org_id uuid, meter text) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
#variable_conflict use_column
declare
  s public.subscriptions;
  included public.plan_limits;
  blocked_by text;
  explained jsonb;
  sees_plan boolean := true;
begin
  -- The setting is the role of the request. Neither a definer function nor a user can change it.
  if current_setting('role') <> 'service_role' then
    if explain_limit.org_id is null or explain_limit.org_id <> all (array(select public.org_ids())) then
      perform kijko.fail('not_a_member', 'org_id: not an organization of the caller');
    end if;
    if not public.can(explain_limit.org_id, 'usage:read') then
      perform kijko.fail('permission_denied', 'requires the permission usage:read');
    end if;
    sees_plan := public.can(explain_limit.org_id, 'billing:read');
  end if;
  select b.* into s from public.subscriptions as b where b.org_id = explain_limit.org_id;
  if s.org_id is null then
    perform kijko.fail('not_found', 'no such organization');
  end if;
  select l.* into included from public.plan_limits as l where l.plan = s.plan and l.meter = explain_limit.meter;
  explained := private.usage_hide_attributes(s.org_id, kijko.explain_limit(s.org_id, explain_limit.meter));
  -- Executions are also refused while a meter of model usage is exhausted.
  if explain_limit.meter = 'executions' then
    blocked_by := (private.executions_exhausted_meter(s.org_id)).meter;
  end if;
  explained := explained || jsonb_build_object('blocked_by', blocked_by);
  if not sees_plan then
    return explained;
  end if;
  return explained || jsonb_build_object(
    'plan', s.plan,
    'plan_includes', case when included.plan is not null then
      jsonb_build_object('amount', included.amount, 'period', included.period, 'overage_policy', included.overage_policy)
    end,
    -- Whether an operator has set a limit other than the plan's.
    'overridden', coalesce(
      (explained #>> '{limit,amount}', explained #>> '{limit,overage_policy}') is distinct from (included.amount::text, included.overage_policy)
        and jsonb_typeof(explained -> 'limit') = 'object',
      false
    )
  );
end
$$;
comment on function public.explain_limit(uuid, text) is 'Explains why use of a meter is allowed or refused now: a sentence, the rows that make up the usage, and with billing:read the plan, what it includes, and whether an operator has set another limit. Needs usage:read. service_role may ask for any organization. Definer: only the domain may read the extension''s tables.';
grant execute on function public.explain_limit(uuid, text) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Maintenance
-- ----------------------------------------------------------------------------

create function private.usage_recount_gauges(org uuid default null)
returns table (org_id uuid, meter text, was bigint, became bigint)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  -- The counts must see everything that was committed before the locks were taken.
  if current_setting('transaction_isolation') <> 'read committed' then
    perform kijko.fail('bad_request', 'usage_recount_gauges() needs read committed');
  end if;
  -- A domain with a new gauge adds its table, here and below.
  perform private.lock_tables('{
    public.memberships,public.projects,public.repositories,public.habits,public.reflexes,public.skills,public.usage_meters,public.api_keys,
    public.webhook_endpoints
  }'::regclass[] || to_regclass('storage.objects'));
  for org_id, meter, was, became in
    select o.id, g.meter, coalesce(u.used, 0), g.rows
    from public.organizations as o
    cross join lateral (
      values
        ('members', (select count(*) from public.memberships as m where m.org_id = o.id)),
        ('projects', (select count(*) from public.projects as p where p.org_id = o.id)),
        ('repositories', (select count(*) from public.repositories as r where r.org_id = o.id)),
        ('habits', (select count(*) from public.habits as h where h.org_id = o.id)),
        ('reflexes', (select count(*) from public.reflexes as r where r.org_id = o.id)),
        ('skills', (select count(*) from public.skills as k where k.org_id = o.id)),
        ('usage_meters', (select count(*) from public.usage_meters as m where m.org_id = o.id)),
        ('api_keys', (select count(*) from public.api_keys as a where a.org_id = o.id)),
        ('webhook_endpoints', (select count(*) from public.webhook_endpoints as w where w.org_id = o.id))
    ) as g (meter, rows)
    left join lateral (
      select k.meter, k.used from kijko.usage(o.id) as k
    ) as u on u.meter = g.meter
    where (usage_recount_gauges.org is null or o.id = usage_recount_gauges.org) and coalesce(u.used, 0) <> g.rows
    order by o.id, g.meter
  loop
    -- Counters in memory may be wrong, too. They are read again after the commit.
    perform kijko.reload_counters(org_id);
    perform kijko.correct_usage(org_id, meter, became - was, 'recounted');
    return next;
  end loop;
  return query select r.org_id, r.meter, r.was, r.became from private.storage_recount_bytes(usage_recount_gauges.org) as r;
end
$$;
comment on function private.usage_recount_gauges(uuid) is 'Sets the gauges of one organization, or of all, to the rows and bytes that there are, even beyond the limit. Returns the gauges that were wrong. For use after rows changed without triggers, as by TRUNCATE or a restore of single tables. Only for postgres and the superuser.';

-- Sums new rows of the ledger, creates its partitions ahead, and releases what crashed sessions reserved. Without it, a counter
-- that is read again has ever more rows to sum. An entry of the same name is replaced.
select private.schedule('kijko-maintain-usage', '* * * * *', 'perform kijko.maintain_usage()');
