-- ============================================================================
-- Usage: what an organization has used, by what, where that leads to, why something was refused; and what its own
-- services tell about their use. Everything is read from the extension's ledger and its sums; who may read is decided
-- here.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- usage_meters
-- ----------------------------------------------------------------------------

create table public.usage_meters (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  event_type text not null check (char_length(event_type) between 1 and 255),
  -- A name of its own kind: no organization, and no mistake, can write the platform's meters.
  meter text not null check (octet_length(meter) <= 55 and meter ~ '^own\.[a-z][a-z0-9_]*$'),
  amount_field text check (char_length(amount_field) between 1 and 100),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, event_type)
);

comment on table public.usage_meters is 'Meters of an organization''s own services: which events ingest_usage() counts, and how. An event of any other type is refused.';
comment on column public.usage_meters.id is 'Identity of the row.';
comment on column public.usage_meters.org_id is 'Organization; never changes.';
comment on column public.usage_meters.event_type is 'The type of the CloudEvents that are counted.';
comment on column public.usage_meters.meter is 'Where they are counted: "own." and a name. Several types may share a meter.';
comment on column public.usage_meters.amount_field is 'The member of data that says how much, a whole number from 1; null counts each event as 1.';
comment on column public.usage_meters.created_by is 'User who made it; null once that user is gone.';
comment on column public.usage_meters.created_by_key is 'API key that made it; null when a user did.';
comment on column public.usage_meters.created_at is 'When it was made.';
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
  max_names constant bigint := (kijko.standing(new.org_id, 'usage_meters'))."limit";
  names bigint;
begin
  -- One at a time: concurrent changes would not see each other's names.
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
      'give a meter a name that has counted before, wait for the next month, or choose a larger plan'
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
-- Reading. Definer, all of them: only the domain may read the ledger.
-- ----------------------------------------------------------------------------

create function public.usage_by(dimension text, only_meter text default null, since date default null, until date default null)
returns table (meter text, value text, used bigint, overage bigint, entries bigint)
language plpgsql stable security definer set search_path = ''
as $$
declare
  org uuid := private.tenancy_require_org_with('usage:read');
begin
  -- A misspelt dimension would return all use under a null value.
  if (dimension in ('day', 'member', 'project', 'skill', 'habit', 'key', 'subject')) is not true then
    perform kijko.fail('invalid_input', 'dimension: one of day, member, project, skill, habit, key, subject');
  end if;
  return query
  select u.meter, u.value, u.used, u.overage, u.entries
  from kijko.usage_by(
    org, usage_by.dimension, usage_by.only_meter, usage_by.since, usage_by.until
  ) as u;
end
$$;
comment on function public.usage_by(text, text, date, date) is 'What the organization of the request has used by day, member, project, skill, habit, key or subject: from the beginning of each meter''s period, or between two days, both included. value is an id (or a day), null for uses that have none. Needs usage:read. Nullable: value. Definer: only the domain may read the ledger.';
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
comment on function public.usage_forecast() is 'What each meter of the organization of the request comes to at the end of its period, by two straight lines: the rate of this period so far, and what is used plus the rate of the last 7 days for the rest. Needs usage:read. Nullable: limit. Definer: only the domain may read the ledger.';
grant execute on function public.usage_forecast() to authenticated;

create function public.usage_alerts(since timestamptz default null)
returns table (meter text, period_start timestamptz, threshold smallint, used bigint, "limit" bigint, crossed_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select c.meter, c.period_start, c.threshold, c.used, c."limit", c.crossed_at
  from kijko.crossings(private.tenancy_require_org_with('usage:read'), usage_alerts.since) as c;
end
$$;
comment on function public.usage_alerts(timestamptz) is 'When the organization of the request reached 50, 80 and 100 per cent of a limit, once for each period, the latest first; a lifetime has no beginning. Needs usage:read. Nullable: period_start. Definer: only the domain may read the extension''s tables.';
grant execute on function public.usage_alerts(timestamptz) to authenticated;

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
  -- The setting is the role that the request runs as; a definer function cannot change it, nor can a user.
  if current_setting('role') <> 'service_role' then
    if not exists (select 1 from public.org_ids() as mine (id) where mine.id = explain_limit.org_id) then
      perform kijko.fail('not_a_member', 'org_id names no organization of yours');
    end if;
    if not public.can(explain_limit.org_id, 'usage:read') then
      perform kijko.fail('permission_denied', 'needs usage:read');
    end if;
    sees_plan := public.can(explain_limit.org_id, 'billing:read');
  end if;
  select b.* into s from public.subscriptions as b where b.org_id = explain_limit.org_id;
  if s.org_id is null then
    perform kijko.fail('not_found', 'no such organization');
  end if;
  select l.* into included from public.plan_limits as l where l.plan = s.plan and l.meter = explain_limit.meter;
  explained := kijko.explain_limit(s.org_id, explain_limit.meter);
  -- Executions are refused, too, while a meter of model use is used up.
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
      jsonb_build_object('amount', included.amount, 'period', included.period, 'over', included.over)
    end,
    -- Somebody has set another limit than the plan's.
    'overridden', coalesce(
      (explained #>> '{limit,amount}', explained #>> '{limit,over}') is distinct from (included.amount::text, included.over)
        and jsonb_typeof(explained -> 'limit') = 'object',
      false
    )
  );
end
$$;
comment on function public.explain_limit(uuid, text) is 'Why a use of a meter is allowed or refused now: the answer in words, the rows that the use is made of, and with billing:read the plan, what it includes, and whether the limit was set otherwise. Needs usage:read; service_role sees all. Definer: only the domain may read the extension''s tables.';
grant execute on function public.explain_limit(uuid, text) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Events from an organization's own services
-- ----------------------------------------------------------------------------

create function private.usage_refuse_events_over_quota(events jsonb, sent jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    jsonb_agg(
      jsonb_build_object(
        'source', e.event -> 'source', 'id', e.event -> 'id', 'status', 'refused', 'code', 'quota_exceeded',
        'reason', 'no more events are included this month'
      )
      order by e.number
    ),
    '[]'
  )
  from jsonb_array_elements(events) with ordinality as e (event, number)
  where e.number > jsonb_array_length(sent)
$$;
comment on function private.usage_refuse_events_over_quota(jsonb, jsonb) is 'Results for the events of a batch that do not fit the quota: those behind the ones in sent.';

create function private.usage_ingest(events jsonb, org uuid) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  quota kijko.verdict := kijko.standing(org, 'events');
  sent jsonb := usage_ingest.events;
  over jsonb := '[]'::jsonb;
  answer jsonb;
begin
  -- Events behind the last one that fits are not processed: a refused batch stores nothing.
  if jsonb_typeof(sent) = 'array' and jsonb_array_length(sent) between quota.remaining + 1 and 10000
    and kijko.explain_limit(org, 'events') #>> '{limit,over}' = 'refuse'
  then
    if quota.remaining = 0 then
      perform kijko.consume(org, 'events', 1); -- fails, with the headers of the meter
    end if;
    sent := jsonb_path_query_array(sent, '$[0 to $last]', jsonb_build_object('last', quota.remaining - 1));
    over := private.usage_refuse_events_over_quota(usage_ingest.events, sent);
  end if;

  with rules as (
    select coalesce(jsonb_object_agg(m.event_type, jsonb_build_object('meter', m.meter, 'field', m.amount_field)), '{}') as meters
    from public.usage_meters as m
    where m.org_id = org
  )
  select jsonb_build_object(
    'accepted', count(*) filter (where i.status = 'accepted'),
    'duplicate', count(*) filter (where i.status = 'duplicate'),
    'refused', count(*) filter (where i.status = 'refused') + jsonb_array_length(over),
    'events', coalesce(
      jsonb_agg(
        case when i.reason is null
          then jsonb_build_object('source', i.source, 'id', i.id, 'status', i.status)
          else jsonb_build_object('source', i.source, 'id', i.id, 'status', i.status, 'code', i.code, 'reason', i.reason)
        end
        order by i.number
      ),
      '[]'
    ) || over
  )
  into answer
  from rules as r
  cross join lateral kijko.ingest_usage(org, sent, r.meters) as i;

  -- Fails if a concurrent batch has used up the quota; then nothing of this batch is kept.
  if (answer -> 'accepted')::bigint > 0 then
    perform kijko.consume(org, 'events', (answer -> 'accepted')::bigint);
  end if;
  return answer;
end
$$;
comment on function private.usage_ingest(jsonb, uuid) is 'Counts events by the organization''s own meters, and each accepted one as one of the month''s events; returns a result for each, in their order. One value, because an answer of rows ends at 1,000. The caller has checked the organization.';

create function public.ingest_usage(events jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  org uuid := private.tenancy_require_org_with('organization:write');
begin
  return private.usage_ingest(ingest_usage.events, org);
end
$$;
comment on function public.ingest_usage(jsonb) is 'Counts a batch of CloudEvents 1.0 (at most 10,000 and 8 MiB) of the organization of the request, each once by source and id. Answers {accepted, duplicate, refused, events: [{source, id, status, code, reason}]}, an event for each that was sent, in their order. Accepted ones count as events of the month; what does not fit is refused with quota_exceeded, and the whole call when nothing is left. Needs organization:write. Definer: only the domain may write the ledger.';
grant execute on function public.ingest_usage(jsonb) to authenticated;

create function public.ingest_usage(events jsonb, org_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  if not exists (select 1 from public.organizations as o where o.id = ingest_usage.org_id) then
    perform kijko.fail('not_found', 'no such organization');
  end if;
  return private.usage_ingest(ingest_usage.events, ingest_usage.org_id);
end
$$;
comment on function public.ingest_usage(jsonb, uuid) is 'ingest_usage(events) for a server that holds the service key and names the organization. Definer: only the domain may write the ledger.';
grant execute on function public.ingest_usage(jsonb, uuid) to service_role;

-- ----------------------------------------------------------------------------
-- Repair
-- ----------------------------------------------------------------------------

create function private.usage_recount_gauges(org uuid default null)
returns table (org_id uuid, meter text, was bigint, became bigint)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
  -- A domain that gets a gauge adds its table to the lock and to the list.
  -- Counting must see everything that was committed before the locks were had.
  if current_setting('transaction_isolation') <> 'read committed' then
    perform kijko.fail('bad_request', 'usage_recount_gauges() needs read committed');
  end if;
  lock table public.memberships, public.projects, public.habits, public.skills, public.usage_meters in share row exclusive mode;
  for org_id, meter, was, became in
    select o.id, g.meter, coalesce(u.used, 0), g.rows
    from public.organizations as o
    cross join lateral (
      values
        ('members', (select count(*) from public.memberships as m where m.org_id = o.id)),
        ('projects', (select count(*) from public.projects as p where p.org_id = o.id)),
        ('habits', (select count(*) from public.habits as h where h.org_id = o.id)),
        ('skills', (select count(*) from public.skills as k where k.org_id = o.id)),
        ('usage_meters', (select count(*) from public.usage_meters as m where m.org_id = o.id))
    ) as g (meter, rows)
    left join lateral (
      select k.meter, k.used from kijko.usage(o.id) as k
    ) as u on u.meter = g.meter
    where (usage_recount_gauges.org is null or o.id = usage_recount_gauges.org) and coalesce(u.used, 0) <> g.rows
    order by o.id, g.meter
  loop
    -- Counters in memory may be wrong as well: after the commit they are read anew.
    perform kijko.forget_usage(org_id);
    perform kijko.correct_usage(org_id, meter, became - was, 'recounted');
    return next;
  end loop;
end
$$;
comment on function private.usage_recount_gauges(uuid) is 'Sets the gauges of an organization, or of all, to what there is, also beyond the limit; the ones that were wrong. After rows came or went past the triggers: a restore of single tables, TRUNCATE. As postgres or the superuser only.';
