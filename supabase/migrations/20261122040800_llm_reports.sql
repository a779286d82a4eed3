-- ============================================================================
-- LLM gateway: what there is to call, and the state of budgets.
-- ============================================================================

create function public.list_llm_models() returns table (id text, owned_by text, created_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('llm:call');
  return query
  select r.name, 'route'::text, r.created_at
  from public.llm_routes as r
  where r.org_id = org and r.enabled and private.llm_may_use(r)
  union all
  select m.id, m.provider, m.created_at
  from public.llm_models as m
  cross join lateral private.llm_find_provider(org, m.id) as p
  where p.id is not null and m.id !~ '\*'
    and (p.org_id = org or p.key_set_at is not null or p.base_url is not null or private.models_unavailable_reason(m.id) is null)
    and not exists (select 1 from public.llm_settings as s where s.org_id = org and s.routes_only)
    and not exists (select 1 from public.llm_routes as r where r.org_id = org and r.enabled and r.name = m.id)
  union
  -- The price of a pattern and an organization's own provider name no models. Its routes do.
  select t.model, p.name, min(r.created_at)
  from public.llm_routes as r
  cross join lateral unnest(r.targets) as t (model)
  cross join lateral private.llm_find_provider(org, t.model) as p
  where r.org_id = org and r.enabled and private.llm_may_use(r) and p.id is not null
    and (p.org_id = org or (private.models_price(t.model, null)).id is not null)
    and (p.org_id = org or p.key_set_at is not null or p.base_url is not null or private.models_unavailable_reason(t.model) is null)
    and not exists (select 1 from public.llm_settings as s where s.org_id = org and s.routes_only)
    and not exists (select 1 from public.llm_routes as o where o.org_id = org and o.enabled and o.name = t.model)
    and not exists (select 1 from public.llm_models as m where m.id = t.model)
  group by t.model, p.name
  order by 2, 1;
end
$$;
comment on function public.list_llm_models() is 'The routes that the caller may use, the models that have a price and a provider that is on, and the targets of these routes. Requires llm:call. Definer: reads providers of the platform.';
grant execute on function public.list_llm_models() to authenticated;

create type public.llm_budget_state as (
  budget_id uuid, name text, scope text, value text, period text, unit text, on_exceeded text, "limit" bigint, used bigint, held bigint,
  remaining bigint, resets_at timestamptz
);
comment on type public.llm_budget_state is 'Result of llm_budget_usage(): a budget in its current period, for each project, skill, key, member or model that it counts apart (value). used: settled; held: of calls that run. Nullable: resets_at.';

create function private.llm_state(budget public.llm_budgets, value text) returns public.llm_budget_state
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  starts_at constant timestamptz := private.llm_window_start(budget.period);
  explained constant jsonb := kijko.explain_limit(private.llm_budget_subject(budget, value, starts_at), private.llm_meter(budget.unit));
  counted constant bigint := coalesce((explained ->> 'used')::bigint, 0);
  held constant bigint := coalesce((explained #>> '{rows,held,amount}')::bigint, 0);
begin
  return row(
    budget.id, budget.name, budget.scope, value, budget.period, budget.unit, budget.on_exceeded, budget.amount,
    counted - held, held, greatest(budget.amount - counted, 0),
    case budget.period
      when 'hour' then starts_at + interval '1 hour'
      -- In hours: a day of the caller's time zone may have 23.
      when 'week' then starts_at + interval '168 hours'
      when 'day' then date_trunc('day', kijko.now(), 'UTC') + interval '24 hours'
      when 'month' then (date_trunc('month', kijko.now() at time zone 'UTC') + interval '1 month') at time zone 'UTC'
    end
  )::public.llm_budget_state;
end
$$;
comment on function private.llm_state(public.llm_budgets, text) is 'A budget in its current period, for one value of its scope.';

create function public.llm_budget_usage(budget_id uuid default null) returns setof public.llm_budget_state
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  hidden text[];
  manages boolean;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('llm:read');
  hidden := array(select p.id::text from private.projects_hidden_ids() as p (id))
    || array(select s.id::text from private.skills_hidden_ids() as s (id));
  manages := org = any (array(select private.org_ids_with('projects:manage')));
  return query
  select s.*
  from public.llm_budgets as b
  cross join lateral (
    -- One that no call has counted against yet.
    select coalesce(b.project_id::text, b.skill_id::text, b.key_id::text, b.member_id::text, b.model, case b.scope when 'organization' then '' end) as value
    union
    select k.value from private.llm_budget_subjects as k
    where k.organization = b.org_id and k.budget_id = b.id
      and k.starts_at is not distinct from private.llm_window_start(b.period)
  ) as v
  cross join lateral private.llm_state(b, v.value) as s
  where b.org_id = org and (llm_budget_usage.budget_id is null or b.id = llm_budget_usage.budget_id)
    and v.value is not null and v.value <> all (hidden)
    -- Of a project or skill that is gone nobody knows any more whether it was private.
    and (
      manages
      or case b.scope
        when 'project' then exists (select 1 from public.projects as p where p.org_id = org and p.id = private.as_uuid(v.value))
        when 'skill' then exists (select 1 from public.skills as k where k.org_id = org and k.id = private.as_uuid(v.value))
        else true
      end
    )
  order by b.name, v.value;
end
$$;
comment on function public.llm_budget_usage(uuid) is 'The state of each budget of the organization of the request, or of one: limit, used, held, remaining, resets_at. Requires llm:read. Definer: only the domain may read the ledger.';
grant execute on function public.llm_budget_usage(uuid) to authenticated;

create type public.llm_usage_line as (
  value text, calls bigint, failed bigint, input_tokens bigint, output_tokens bigint, cache_read_tokens bigint, cost_microusd bigint,
  estimated bigint, median_first_token_ms integer, median_total_ms integer
);
comment on type public.llm_usage_line is 'Result of llm_usage(): the calls of one model, provider, route, member, key, project, skill, day or error. failed and estimated count calls. Nullable: value, median_first_token_ms, median_total_ms.';

-- As the caller: the policy of llm_calls hides the calls of private projects.
create function public.llm_usage(by text, since timestamptz default null, until timestamptz default null) returns setof public.llm_usage_line
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  starts_at constant timestamptz := coalesce(llm_usage.since, date_trunc('month', kijko.now(), 'UTC'));
  ends_at constant timestamptz := coalesce(llm_usage.until, 'infinity');
begin
  org := public.org_id();
  if org is null then
    perform private.tenancy_refuse_closed();
    perform kijko.fail('not_a_member', 'the caller is not a member of the organization of the request');
  elsif public.can(org, 'llm:read') is not true then
    perform kijko.fail('permission_denied', 'requires the permission llm:read');
  end if;
  if llm_usage.by is null or llm_usage.by not in ('model', 'provider', 'route', 'member', 'key', 'project', 'skill', 'day', 'error') then
    perform kijko.fail('invalid_input', 'by: model, provider, route, member, key, project, skill, day or error');
  end if;
  return query
  select u.*
  from (
  select
    case llm_usage.by
      when 'model' then c.model
      when 'provider' then c.provider
      when 'route' then c.route
      when 'member' then c.member_id::text
      when 'key' then c.key_id::text
      when 'project' then c.project_id::text
      when 'skill' then c.skill_id::text
      when 'day' then to_char(c.created_at at time zone 'UTC', 'YYYY-MM-DD')
      else c.error_code
    end as value,
    count(*), count(*) filter (where c.status = 'failed'),
    sum(c.input_tokens)::bigint, sum(c.output_tokens)::bigint, sum(c.cache_read_tokens)::bigint, sum(c.cost_microusd)::bigint,
    count(*) filter (where c.estimated),
    (percentile_disc(0.5) within group (order by c.first_token_ms))::integer, (percentile_disc(0.5) within group (order by c.total_ms))::integer
  from public.llm_calls as c
  where c.org_id = org and c.created_at >= starts_at and c.created_at < ends_at
  group by 1
  ) as u (value, calls, failed, input_tokens, output_tokens, cache_read_tokens, cost_microusd, estimated, median_first_token_ms, median_total_ms)
  order by case when llm_usage.by = 'day' then u.value end, u.cost_microusd desc, u.calls desc, u.value
  limit 1000;
end
$$;
comment on function public.llm_usage(text, timestamptz, timestamptz) is 'Calls, tokens and cost of the organization of the request by model, provider, route, member, key, project, skill, day (UTC) or error, since the start of the month unless given; what costs most first, at most 1,000 lines. Requires llm:read.';
grant execute on function public.llm_usage(text, timestamptz, timestamptz) to authenticated;
