-- ============================================================================
-- Blog: what content has cost, by topic, post and organization.
-- ============================================================================

create function public.content_cost_report(
  group_by text default 'organization', since timestamptz default null, until timestamptz default null, n integer default 100
) returns table (id uuid, title text, entries bigint, cost_microusd bigint, cost_usd numeric)
language plpgsql stable security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('content:read');
  if (content_cost_report.group_by in ('topic', 'post', 'social_post', 'organization')) is not true then
    perform kijko.fail('invalid_input', 'group_by: topic, post, social_post or organization');
  elsif (content_cost_report.n between 1 and 1000) is not true then
    perform kijko.fail('invalid_input', 'n: 1 to 1,000');
  end if;
  return query
  select g.id, coalesce(t.title, p.title), g.entries, g.cost, round(g.cost / 1000000.0, 6)
  from (
    select k.id, count(*) as entries, sum(c.cost_microusd)::bigint as cost
    from public.content_costs as c
    cross join lateral (
      select case content_cost_report.group_by
        when 'topic' then c.topic_id when 'post' then c.blog_post_id when 'social_post' then c.social_post_id else c.org_id
      end as id
    ) as k
    where c.org_id = org and (content_cost_report.since is null or c.created_at >= content_cost_report.since)
      and (content_cost_report.until is null or c.created_at < content_cost_report.until)
    group by k.id
  ) as g
  left join public.topics as t on content_cost_report.group_by = 'topic' and t.org_id = org and t.id = g.id
  left join public.blog_posts as p on content_cost_report.group_by = 'post' and p.org_id = org and p.id = g.id
  order by g.cost desc, g.id
  limit content_cost_report.n;
end
$$;
comment on function public.content_cost_report(text, timestamptz, timestamptz, integer) is 'What content has cost: by topic, post, social_post or in all (organization), the most expensive first. id is null for what belongs to none, title is of a topic or post that is still there. Requires content:read. Nullable: id, title. Definer: it checks the permission itself.';
grant execute on function public.content_cost_report(text, timestamptz, timestamptz, integer) to authenticated;
