-- ============================================================================
-- Code: what searches and models have used, by API key and repository.
-- ============================================================================

create function private.code_usage_of(org uuid)
returns table (day date, meter text, api_key_id uuid, repository_id uuid, used bigint, overage bigint, entries bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  keys text[];
  repositories text[];
begin
  -- The setting is the role of the request, and of no request none. Neither a definer function nor a user can change it.
  if current_setting('role') not in ('service_role', 'none') and (
    code_usage_of.org is null or code_usage_of.org <> all (array(select private.org_ids_with('usage:read')))
  ) then
    return;
  end if;
  keys := private.usage_visible_ids(org, 'key');
  repositories := private.usage_visible_ids(org, 'repository');
  return query
  select d.day, m.meter, v.key, v.repository, sum(d.amount)::bigint, sum(d.overage)::bigint, sum(d.entries)::bigint
  from unnest('{code_searches,llm_tokens,llm_cost_microusd}'::text[]) as m (meter)
  cross join lateral kijko.usage_by_day(org, m.meter, (kijko.now() - interval '90 days')::date, 'infinity') as d
  -- The use of what is hidden stays in the sum.
  cross join lateral (
    select
      private.as_uuid(case when private.usage_is_visible(d.attributes ->> 'key', keys) then d.attributes ->> 'key' end) as key,
      private.as_uuid(case when private.usage_is_visible(d.attributes ->> 'repository', repositories) then d.attributes ->> 'repository' end) as repository
  ) as v
  group by d.day, m.meter, v.key, v.repository;
end
$$;
comment on function private.code_usage_of(uuid) is 'What an organization has used of code_searches, llm_tokens and llm_cost_microusd in the last 90 days, by day, API key and repository; nothing unless the caller holds usage:read there. Nullable: api_key_id, repository_id. Definer: only the domain may read the ledger.';
grant execute on function private.code_usage_of(uuid) to authenticated, service_role;

-- An expression: with the column itself, PostgREST would see a relationship from every table of an organization to this view. A
-- filter by it still asks for the use of one organization only.
create view public.token_usage with (security_invoker = true) as
  select coalesce(o.id, null) as org_id, u.day, u.meter, u.api_key_id, u.repository_id, u.used, u.overage, u.entries,
    md5(concat_ws(' ', o.id, u.day, u.meter, coalesce(u.api_key_id::text, '-'), u.repository_id))::uuid as id
  from public.organizations as o
  cross join lateral private.code_usage_of(o.id) as u;
comment on view public.token_usage is 'The ledger of the last 90 days by day, API key and repository: searches of code (code_searches), tokens (llm_tokens) and cost of models (llm_cost_microusd). Null for use without a key or repository, and for those that the caller does not see. Readable with usage:read. Never null: org_id, day, meter, used, overage, entries, id.';
grant select on public.token_usage to authenticated, service_role;
create trigger token_usage_read_only instead of insert or update or delete on public.token_usage
  for each row execute function private.refuse_change('token_usage is a view of the ledger');
