-- ============================================================================
-- Webhooks: what operators see of the outbox, in /metrics of the sidecar. Each scrape asks, so nothing here counts without a bound:
-- a million requests to a dead host must not make a scrape slow.
-- ============================================================================

create function private.webhooks_outbox_hosts(max_hosts integer default 20, max_lanes integer default 10000, max_requests integer default 1000)
returns table (origin text, due bigint, retrying bigint, oldest_seconds double precision)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- A probe of the index for each lane, as the worker looks.
  with recursive lanes as (
    (
      select r.origin, r.org_id, r.priority, r.run_at from kijko.http_requests as r
      where r.state = 'pending' order by r.origin, r.org_id, r.priority, r.run_at limit 1
    )
    union all
    select n.* from lanes as l cross join lateral (
      select r.origin, r.org_id, r.priority, r.run_at from kijko.http_requests as r
      where r.state = 'pending' and (r.origin, r.org_id, r.priority) > (l.origin, l.org_id, l.priority)
      order by r.origin, r.org_id, r.priority, r.run_at limit 1
    ) as n
  ),
  found as (select l.* from lanes as l limit max_lanes),
  hosts as (
    select f.origin, min(f.run_at) as oldest from found as f where f.run_at <= clock_timestamp() group by f.origin order by 2 limit max_hosts
  )
  select h.origin, c.due, c.retrying, extract(epoch from clock_timestamp() - h.oldest)
  from hosts as h
  cross join lateral (
    select count(*) as due, count(*) filter (where seen.attempts > 0) as retrying
    from (
      select r.attempts from kijko.http_requests as r
      where r.state = 'pending' and r.origin = h.origin and r.run_at <= clock_timestamp() limit max_requests
    ) as seen
  ) as c
$$;
comment on function private.webhooks_outbox_hosts(integer, integer, integer) is 'The origins (scheme, host and port) whose requests in the outbox have been due for the longest: how many are due and how many of these have failed before, each counted up to max_requests, and for how long the oldest has been due. Looks at the first max_lanes combinations of origin, organization and priority.';

create function private.webhooks_outbox_attempts(period interval default '5 minutes', max_hosts integer default 20, max_attempts integer default 10000)
returns table (origin text, succeeded bigint, failed bigint)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select r.origin, count(*) filter (where a.error_code is null), count(a.error_code)
  from (
    select t.request_id, t.error_code from kijko.http_attempts as t
    where t.started_at > clock_timestamp() - period order by t.started_at desc limit max_attempts
  ) as a
  join kijko.http_requests as r on r.id = a.request_id
  group by r.origin
  order by count(a.error_code) desc, count(*) desc, r.origin
  limit max_hosts
$$;
comment on function private.webhooks_outbox_attempts(interval, integer, integer) is 'How the attempts of the last minutes ended, by origin (scheme, host and port): the origins with most failures. Looks at the latest max_attempts.';

create function private.webhooks_outbox_backlog()
returns table (waiting bigint, pending bigint, dead bigint, oldest_due_seconds double precision, hosts jsonb, attempts jsonb, figures jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Each by a partial index. That of keys has both states.
  waiting := (
    select count(*) filter (where seen.state = 'waiting') from (
      select r.state from kijko.http_requests as r where r.key is not null and r.state in ('waiting', 'pending') limit 100000
    ) as seen
  );
  pending := (select count(*) from (select 1 from kijko.http_requests as r where r.state = 'pending' limit 100000) as seen);
  dead := (select count(*) from (select 1 from kijko.http_requests as r where r.state = 'dead' limit 100000) as seen);
  select coalesce(max(h.oldest_seconds), 0), coalesce(jsonb_agg(to_jsonb(h) order by h.oldest_seconds desc), '[]')
  into oldest_due_seconds, hosts
  from private.webhooks_outbox_hosts() as h;
  attempts := (select coalesce(jsonb_agg(to_jsonb(a)), '[]') from private.webhooks_outbox_attempts() as a);
  select jsonb_object_agg(substr(s.metric, 8), s.value) into figures from kijko.stats() as s where s.metric like 'outbox.%';
  return next;
end
$$;
comment on function private.webhooks_outbox_backlog() is 'The outbox for metrics: requests that wait behind another of their key, that are to be sent, and that are dead, each counted up to 100,000; for how long the oldest has been due; the hosts whose requests wait longest (webhooks_outbox_hosts); how attempts of the last minutes ended (webhooks_outbox_attempts); and the figures of kijko.stats() about attempts, of all databases of the server. Definer: the sidecar has no rights on the tables.';
grant execute on function private.webhooks_outbox_backlog() to kijko_sidecar;
