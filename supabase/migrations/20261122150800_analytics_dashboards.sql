-- ============================================================================
-- Analytics: saved queries and dashboards.
-- ============================================================================

create table public.dashboards (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) between 1 and 100),
  description text check (char_length(description) <= 1000),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique (org_id, name)
);
comment on table public.dashboards is 'Pages of saved queries. All members of the organization see them.';
comment on column public.dashboards.id is 'Identity of the dashboard.';
comment on column public.dashboards.org_id is 'Organization that owns it; never changes.';
comment on column public.dashboards.name is 'Name, unique in the organization.';
comment on column public.dashboards.description is 'What it is for.';
comment on column public.dashboards.created_by is 'User who made it; null after that user is deleted.';
comment on column public.dashboards.created_by_key is 'API key that made it; null for a user.';
comment on column public.dashboards.created_at is 'When it was made.';
comment on column public.dashboards.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.dashboards', resource => 'analytics', max_rows => 100, catalogue => '{
  "name, description": "what members look at together"
}');

create table public.analytics_queries (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  dashboard_id uuid,
  position integer not null default 0 check (position between 0 and 10000),
  name text not null check (char_length(name) between 1 and 100),
  kind text not null check (kind in ('series', 'funnel', 'retention')),
  query jsonb not null check (jsonb_typeof(query) = 'object' and private.json_fits(query, 16384)),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  foreign key (org_id, dashboard_id) references public.dashboards (org_id, id) on delete cascade
);
create index analytics_queries_dashboard_id_idx on public.analytics_queries (org_id, dashboard_id, position) where dashboard_id is not null;
comment on table public.analytics_queries is 'Saved queries. Those of a dashboard are its tiles.';
comment on column public.analytics_queries.id is 'Identity of the query.';
comment on column public.analytics_queries.org_id is 'Organization that owns it; never changes.';
comment on column public.analytics_queries.dashboard_id is 'Dashboard that shows it, and with which it is deleted; null for none.';
comment on column public.analytics_queries.position is 'Place on the dashboard, ascending.';
comment on column public.analytics_queries.name is 'Name.';
comment on column public.analytics_queries.kind is 'Which function answers it: analytics_series, analytics_funnel or analytics_retention.';
comment on column public.analytics_queries.query is 'Its argument, without until; from may be a number of days before now, as {"days": 30}.';
comment on column public.analytics_queries.created_by is 'User who made it; null after that user is deleted.';
comment on column public.analytics_queries.created_by_key is 'API key that made it; null for a user.';
comment on column public.analytics_queries.created_at is 'When it was made.';
comment on column public.analytics_queries.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.analytics_queries', resource => 'analytics', max_rows => 1000, catalogue => '{
  "dashboard_id, position, name": "what members look at together",
  "kind, query": "what is asked"
}');

-- To the hour, so that an answer is used again.
create function private.analytics_dated_query(query jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof(query #> '{from,days}') = 'number' and (query #>> '{from,days}')::numeric between 1 and 800 then
      query || jsonb_build_object(
        'from', date_trunc('hour', kijko.now(), 'UTC') - (query #>> '{from,days}')::numeric::integer * interval '24 hours',
        'until', date_trunc('hour', kijko.now(), 'UTC') + interval '1 hour'
      )
    else query
  end
$$;
comment on function private.analytics_dated_query(jsonb) is 'A saved query with from and until as times.';

create function private.analytics_check_saved() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  query constant jsonb := private.analytics_dated_query(new.query);
begin
  case new.kind
    when 'series' then
      perform private.analytics_read_series(query);
    when 'funnel' then
      perform private.analytics_check_keys(query, '{steps,window_seconds,strict_increase,breakdown,from,until}', 'query');
      perform private.analytics_funnel_sql(new.org_id, query, private.analytics_read_range(query, '{day}', 800));
    when 'retention' then
      perform private.analytics_check_keys(query, '{start,return,first_time,from,until,interval,time_zone}', 'query');
      perform private.analytics_retention_sql(new.org_id, query, private.analytics_read_range(query, '{day,week,month}', 60));
    else
      null; -- a check of the table refuses it
  end case;
  return new;
end
$$;
comment on function private.analytics_check_saved() is 'Trigger: refuses a query that could not be answered. Definer: what reads queries is private.';
create trigger analytics_queries_check before insert or update of kind, query on public.analytics_queries
  for each row execute function private.analytics_check_saved();

create function public.run_analytics_query(query_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('analytics:read');
  saved public.analytics_queries;
begin
  select q.* into saved from public.analytics_queries as q where q.org_id = org and q.id = run_analytics_query.query_id;
  if saved.id is null then
    perform kijko.fail('not_found', 'no such query');
  end if;
  return private.analytics_answer(saved.kind, private.analytics_dated_query(saved.query));
end
$$;
comment on function public.run_analytics_query(uuid) is 'Answers a saved query of the request''s organization. Requires analytics:read. Definer: it reads the query and what only the domain may read.';
grant execute on function public.run_analytics_query(uuid) to authenticated;
