-- ============================================================================
-- Observability: reports of requests and of service levels.
-- ============================================================================

create function private.observability_check_range(since timestamptz, until timestamptz) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- An infinite time has no distance to others: to ask for it fails.
  if (case when isfinite(since) and isfinite(until) then since < until and until - since <= interval '31 days' end) is not true then
    perform kijko.fail('invalid_input', 'since must be before until, by 31 days at most');
  end if;
end
$$;
comment on function private.observability_check_range(timestamptz, timestamptz) is 'Refuses a range of time that is empty or longer than 31 days.';

create function public.usage_metrics(since timestamptz default null, until timestamptz default null)
returns table (
  hour timestamptz, route text, requests bigint, refused bigint, failed bigint, p50_ms numeric, p95_ms numeric, cost_microusd bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  ends constant timestamptz := coalesce(usage_metrics.until, kijko.now());
  starts constant timestamptz := coalesce(usage_metrics.since, ends - interval '24 hours');
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('usage:read');
  perform private.observability_check_range(starts, ends);
  return query
  select r.hour, r.route, sum(r.sampled)::bigint, coalesce(sum(r.sampled) filter (where r.status between 400 and 499), 0)::bigint,
    coalesce(sum(r.sampled) filter (where r.status >= 500), 0)::bigint,
    min(r.duration_ms) filter (where r.rank >= 0.5 * r.total), min(r.duration_ms) filter (where r.rank >= 0.95 * r.total),
    coalesce(sum(r.cost_microusd), 0)::bigint
  from (
    select h.hour, u.route, u.status, u.sampled, u.duration_ms, u.cost_microusd,
      sum(u.sampled) over (partition by h.hour, u.route order by u.duration_ms, u.id) as rank, sum(u.sampled) over (partition by h.hour, u.route) as total
    from public.api_usage as u
    cross join lateral (select date_trunc('hour', u.created_at, 'UTC') as hour) as h
    where u.org_id = org and u.created_at >= starts and u.created_at < ends
  ) as r
  group by r.hour, r.route
  order by r.hour, r.route;
end
$$;
comment on function public.usage_metrics(timestamptz, timestamptz) is 'Requests of the request''s organization by hour and route, of the last 24 hours or of another range of up to 31 days: how many, how many of them were refused (4xx) and failed (5xx), the median and the 95th percentile of their time, and the costs of their calls of models. Needs usage:read. Definer: colleagues'' requests count, too.';
grant execute on function public.usage_metrics(timestamptz, timestamptz) to authenticated;

create type public.service_level as (name text, value numeric, target numeric, unit text, samples bigint, met boolean);
comment on type public.service_level is 'Result of service_levels(): what was measured, what is aimed at (a rate is at least, a time at most, error_rate below the target), of how many samples, and whether it is met. Nullable: value, target, met.';

-- What waits for somebody else is left out of the times: models, functions of tenants, open sockets.
create function private.observability_is_timed(route text) returns boolean
language sql immutable parallel safe
return route !~ '^/(llm|functions|realtime|mcp|webhooks)(/|$)' and route ~ '^/';
comment on function private.observability_is_timed(text) is 'Whether the time of a route''s requests is ours: not that of a model, of a function, or of a socket that stays open.';

create function private.observability_requests(org uuid, since timestamptz, until timestamptz)
returns table (requests bigint, failed bigint, timed bigint, p95_ms numeric, queries bigint, query_p95_ms numeric, members bigint)
language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(sum(r.sampled), 0)::bigint, coalesce(sum(r.sampled) filter (where r.status >= 500), 0)::bigint,
    coalesce(sum(r.sampled) filter (where r.kind in ('request', 'query')), 0)::bigint,
    min(r.duration_ms) filter (where r.kind in ('request', 'query') and r.rank >= 0.95 * r.total),
    coalesce(sum(r.sampled) filter (where r.kind = 'query'), 0)::bigint,
    min(r.duration_ms) filter (where r.kind = 'query' and r.kind_rank >= 0.95 * r.kind_total),
    count(distinct r.member_id)
  from (
    select u.sampled, u.status, u.duration_ms, u.member_id, k.kind,
      sum(u.sampled) over (partition by k.kind = 'other' order by u.duration_ms, u.id) as rank, sum(u.sampled) over (partition by k.kind = 'other') as total,
      sum(u.sampled) over (partition by k.kind order by u.duration_ms, u.id) as kind_rank, sum(u.sampled) over (partition by k.kind) as kind_total
    from public.api_usage as u
    cross join lateral (
      select case
        when not private.observability_is_timed(u.route) then 'other'
        when u.method in ('GET', 'HEAD') and u.route ~ '^/rest/v1/[^/]+$' then 'query'
        else 'request'
      end as kind
    ) as k
    where (observability_requests.org is null or u.org_id = observability_requests.org)
      and u.created_at >= observability_requests.since and u.created_at < observability_requests.until
  ) as r;
end;
comment on function private.observability_requests(uuid, timestamptz, timestamptz) is 'Requests of an organization, or of all, in a range of time: how many, how many failed (5xx), the 95th percentile of those whose time is ours and of the queries among them (GET of a table), and how many members called.';

create function private.observability_levels(org uuid, since timestamptz, until timestamptz) returns setof public.service_level
language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  with requests as materialized (
    select r.* from private.observability_requests(org, since, until) as r
  ),
  jobs as (
    select count(*) filter (where j.status = 'succeeded') as succeeded, count(*) as ended
    from public.jobs as j
    where (observability_levels.org is null or j.org_id = observability_levels.org) and j.status in ('succeeded', 'dead')
      and j.finished_at >= observability_levels.since and j.finished_at < observability_levels.until
  ),
  -- A post ends once; one that was corrected and published afterwards counts as published.
  posts as (
    select count(*) filter (where p.status = 'published') as published, count(*) as ended
    from public.social_posts as p
    where (observability_levels.org is null or p.org_id = observability_levels.org) and p.status in ('published', 'failed', 'missed', 'unconfirmed')
      and p.updated_at >= observability_levels.since and p.updated_at < observability_levels.until
  ),
  topics as (
    select percentile_cont(0.5) within group (order by extract(epoch from f.first - o.created_at)) as seconds, count(*) as made
    from public.organizations as o
    cross join lateral (select min(t.created_at) as first from public.topics as t where t.org_id = o.id) as f
    where (observability_levels.org is null or o.id = observability_levels.org) and f.first is not null
      and o.created_at >= observability_levels.since and o.created_at < observability_levels.until
  ),
  articles as (
    select percentile_cont(0.5) within group (order by extract(epoch from d.finished_at - d.created_at)) as seconds, count(*) as written
    from public.blog_drafts as d
    where (observability_levels.org is null or d.org_id = observability_levels.org) and d.kind = 'draft' and d.status = 'succeeded'
      and d.finished_at >= observability_levels.since and d.finished_at < observability_levels.until
  ),
  calls as (
    select coalesce(sum(c.cost_microusd), 0) as cost, count(distinct c.member_id) as members
    from public.llm_calls as c
    where (observability_levels.org is null or c.org_id = observability_levels.org)
      and c.created_at >= observability_levels.since and c.created_at < observability_levels.until
  ),
  levels (name, value, target, unit, samples, is_least) as (
    select 'request_p95', r.p95_ms, 200, 'ms', r.timed, false from requests as r
    union all select 'query_p95', r.query_p95_ms, 50, 'ms', r.queries, false from requests as r
    union all select 'error_rate', r.failed::numeric / nullif(r.requests, 0), 0.01, 'share', r.requests, false from requests as r
    union all select 'job_success', j.succeeded::numeric / nullif(j.ended, 0), 0.99, 'share', j.ended, true from jobs as j
    union all select 'publishing_success', p.published::numeric / nullif(p.ended, 0), 0.95, 'share', p.ended, true from posts as p
    union all select 'first_topic', t.seconds::numeric, 300, 's', t.made, false from topics as t
    union all select 'article', a.seconds::numeric, 180, 's', a.written, false from articles as a
    union all
    select 'cost_per_user', c.cost / nullif(greatest(c.members, r.members), 0), null::numeric, 'microusd', greatest(c.members, r.members), false
    from calls as c, requests as r
  )
  select l.name, round(l.value, 4), l.target, l.unit, l.samples, case when l.is_least then l.value > l.target else l.value < l.target end
  from levels as l;
end;
comment on function private.observability_levels(uuid, timestamptz, timestamptz) is 'The service levels of an organization, or of the whole platform for null. The caller has checked who asks.';

create function public.service_levels(since timestamptz default null, until timestamptz default null, org_id uuid default null)
returns setof public.service_level
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Null: the whole platform.
  org uuid := service_levels.org_id;
  ends constant timestamptz := coalesce(service_levels.until, kijko.now());
  starts constant timestamptz := coalesce(service_levels.since, ends - interval '24 hours');
begin
  -- The setting is the role of the request. Neither a definer function nor a user can change it.
  if current_setting('role') <> 'service_role' then
    perform private.tenancy_require_caller();
    org := private.tenancy_require_org_with('usage:read');
    if service_levels.org_id <> org then
      perform kijko.fail('not_a_member', 'org_id: another organization than the request''s');
    end if;
  end if;
  perform private.observability_check_range(starts, ends);
  return query select l.* from private.observability_levels(org, starts, ends) as l;
end
$$;
comment on function public.service_levels(timestamptz, timestamptz, uuid) is 'How well the platform has served an organization in the last 24 hours, or in another range of up to 31 days: time of requests and queries, failures, jobs, publishing, the way to a first topic and to an article, and the cost of models for each user. Of the request''s organization. Needs usage:read. service_role gets the whole platform''s, or those of org_id. Definer: it reads what several permissions protect, and returns sums only.';
grant execute on function public.service_levels(timestamptz, timestamptz, uuid) to authenticated, service_role;
