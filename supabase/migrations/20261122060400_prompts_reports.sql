-- ============================================================================
-- Prompts: what versions used, cost and how they did.
--
-- A call through the gateway is one use; an execution is one use, with all its calls. So an execution that failed before its model
-- was called counts as a failure, too.
-- ============================================================================

create type public.prompt_stat as (
  prompt_id uuid, path text, version integer, uses bigint, calls bigint, executions bigint, failed bigint, error_rate numeric, input_tokens bigint,
  output_tokens bigint, cost_microusd bigint, mean_cost_microusd bigint, p50_ms bigint, p95_ms bigint, first_used_at timestamptz, last_used_at timestamptz
);
comment on type public.prompt_stat is 'Result of prompt_stats(): the uses of a version of a prompt that have ended. uses: calls of the gateway and executions; error_rate: failed of uses, from 0 to 1; p50_ms and p95_ms: of those that succeeded. Nullable: path, p50_ms, p95_ms.';

create function private.prompts_uses(org uuid, since timestamptz, until timestamptz)
returns table (prompt_id uuid, version integer, is_call boolean, failed boolean, input_tokens bigint, output_tokens bigint, cost_microusd bigint, ms bigint, used_at timestamptz)
-- As the caller: policies hide the calls and executions of private projects.
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.prompt_id, c.prompt_version, true, c.status = 'failed', c.input_tokens, c.output_tokens, c.cost_microusd, c.total_ms::bigint, c.created_at
  from public.llm_calls as c
  where c.org_id = prompts_uses.org and c.prompt_id is not null and c.execution_id is null and c.status in ('succeeded', 'failed')
    and c.created_at >= since and c.created_at < until
  union all
  select e.prompt_id, e.prompt_version, false, e.status = 'failed', e.input_tokens, e.output_tokens, e.cost_microusd,
    (extract(epoch from e.finished_at - e.started_at) * 1000)::bigint, e.created_at
  from public.executions as e
  where e.org_id = prompts_uses.org and e.prompt_id is not null and e.status in ('succeeded', 'failed') and e.created_at >= since and e.created_at < until
$$;
comment on function private.prompts_uses(uuid, timestamptz, timestamptz) is 'Uses of prompts that succeeded or failed, as far as the caller sees them. Nullable: version, ms.';
grant execute on function private.prompts_uses(uuid, timestamptz, timestamptz) to authenticated;

create function public.prompt_stats(path text default null, since timestamptz default null, until timestamptz default null)
returns setof public.prompt_stat
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  missing text;
begin
  org := public.org_id();
  if org is null then
    perform private.tenancy_refuse_closed();
    perform kijko.fail('not_a_member', 'the caller is not a member of the organization of the request');
  end if;
  select r.permission into missing from unnest('{prompts:read,llm:read,executions:read}'::text[]) as r (permission)
  where public.can(org, r.permission) is not true limit 1;
  if missing is not null then
    perform kijko.fail('permission_denied', format('requires the permission %s', missing));
  end if;
  return query
  select u.prompt_id, p.path, u.version, count(*), count(*) filter (where u.is_call), count(*) filter (where not u.is_call),
    count(*) filter (where u.failed), round(count(*) filter (where u.failed)::numeric / count(*), 4), sum(u.input_tokens)::bigint,
    sum(u.output_tokens)::bigint, sum(u.cost_microusd)::bigint, round(sum(u.cost_microusd)::numeric / count(*))::bigint,
    percentile_disc(0.5) within group (order by u.ms) filter (where not u.failed),
    percentile_disc(0.95) within group (order by u.ms) filter (where not u.failed), min(u.used_at), max(u.used_at)
  from private.prompts_uses(org, coalesce(prompt_stats.since, kijko.now() - interval '30 days'), coalesce(prompt_stats.until, 'infinity')) as u
  left join public.prompts as p on p.org_id = org and p.id = u.prompt_id
  where prompt_stats.path is null or p.path = prompt_stats.path
  group by u.prompt_id, p.path, u.version
  order by p.path, u.version desc
  limit 1000;
end
$$;
comment on function public.prompt_stats(text, timestamptz, timestamptz) is 'Usage, cost, latency and error rate of the prompts of the organization of the request by version, or of one of them, in the last 30 days unless given; at most 1,000 lines. Requires prompts:read, llm:read and executions:read.';
grant execute on function public.prompt_stats(text, timestamptz, timestamptz) to authenticated;

create function public.compare_prompt_versions(
  path text, from_version integer, to_version integer, since timestamptz default null, until timestamptz default null
) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org constant uuid := public.org_id();
  former public.prompt_versions;
  later public.prompt_versions;
  before_stat jsonb;
  after_stat jsonb;
begin
  select to_jsonb(s) - '{prompt_id,path}'::text[] into before_stat
  from public.prompt_stats(compare_prompt_versions.path, since, until) as s where s.version = from_version;
  select to_jsonb(s) - '{prompt_id,path}'::text[] into after_stat
  from public.prompt_stats(compare_prompt_versions.path, since, until) as s where s.version = to_version;
  select v.* into former from public.prompts as p join public.prompt_versions as v on v.org_id = org and v.prompt_id = p.id
  where p.org_id = org and p.path = compare_prompt_versions.path and v.version = from_version;
  select v.* into later from public.prompts as p join public.prompt_versions as v on v.org_id = org and v.prompt_id = p.id
  where p.org_id = org and p.path = compare_prompt_versions.path and v.version = to_version;
  if former.id is null or later.id is null then
    perform kijko.fail('not_found', 'no such prompt, or it has no such version');
  end if;
  return jsonb_build_object(
    'path', compare_prompt_versions.path, 'from_version', from_version, 'to_version', to_version,
    'changes', (
      select coalesce(jsonb_agg(jsonb_build_object('field', f.field, 'before', f.before, 'after', f.after) order by f.place), '[]')
      from (
        values
          (1, 'content', former.content, later.content), (2, 'engine', to_jsonb(former.engine), to_jsonb(later.engine)),
          (3, 'input_schema', former.input_schema, later.input_schema), (4, 'model', to_jsonb(former.model), to_jsonb(later.model)),
          (5, 'parameters', former.parameters, later.parameters)
      ) as f (place, field, before, after)
      where f.before::text is distinct from f.after::text
    ),
    'before', before_stat, 'after', after_stat,
    -- What the later version costs, takes and fails more, or less if it is negative.
    'difference', case when before_stat is not null and after_stat is not null then (
      select jsonb_object_agg(n.name, (after_stat ->> n.name)::numeric - (before_stat ->> n.name)::numeric)
      from unnest('{error_rate,mean_cost_microusd,p50_ms,p95_ms}'::text[]) as n (name)
    ) end
  );
end
$$;
comment on function public.compare_prompt_versions(text, integer, integer, timestamptz, timestamptz) is 'What differs between two versions of a prompt (changes), how each did (before, after: as prompt_stats(), null without uses), and the difference of error_rate, mean_cost_microusd, p50_ms and p95_ms. Requires what prompt_stats() requires.';
grant execute on function public.compare_prompt_versions(text, integer, integer, timestamptz, timestamptz) to authenticated;
