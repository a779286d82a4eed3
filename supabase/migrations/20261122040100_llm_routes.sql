-- ============================================================================
-- LLM gateway: routes, and what an organization has decided for all its calls.
-- ============================================================================

create function private.llm_is_target_list(targets text[]) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return cardinality(targets) between 1 and 10 and array_position(targets, null) is null
  and octet_length(array_to_string(targets, '')) <= 2000
  and not exists (select 1 from unnest(targets) as t (target) where t.target !~ '^[a-z0-9][a-z0-9_.-]*/[^\s/][^\s]*$');
comment on function private.llm_is_target_list(text[]) is 'Whether an array is 1 to 10 names of models with their providers.';
grant execute on function private.llm_is_target_list(text[]) to authenticated, service_role;

create table public.llm_routes (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 200 and name ~ '^[A-Za-z0-9][A-Za-z0-9_.:/@-]*$'),
  targets text[] not null check (private.llm_is_target_list(targets)),
  retries integer not null default 1 check (retries between 0 and 5),
  time_budget_seconds integer not null default 300 check (time_budget_seconds between 1 and 3600),
  first_token_seconds integer not null default 60 check (first_token_seconds between 1 and 3600),
  idle_seconds integer not null default 60 check (idle_seconds between 1 and 3600),
  default_output_tokens bigint not null default 4096 check (default_output_tokens between 1 and 10000000),
  max_output_tokens bigint check (max_output_tokens between 1 and 10000000),
  allowed_roles text[] check (
    cardinality(allowed_roles) between 1 and 4 and allowed_roles <@ '{viewer,member,admin,owner}'::text[]
  ),
  allowed_keys uuid[] check (cardinality(allowed_keys) between 1 and 200 and array_position(allowed_keys, null) is null),
  enabled boolean not null default true,
  description text not null default '' check (char_length(description) <= 500),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, name)
);
comment on table public.llm_routes is 'Names of models that an organization has defined: what is called by them, in which order, for how long and by whom.';
comment on column public.llm_routes.id is 'Identity of the row.';
comment on column public.llm_routes.org_id is 'Organization that owns it; never changes.';
comment on column public.llm_routes.name is 'What callers name as the model. A route with the name provider/model decides about calls of that model.';
comment on column public.llm_routes.targets is 'Models, each provider/model, in the order in which they are tried.';
comment on column public.llm_routes.retries is 'Further attempts on one target after 408, 429, 5xx or a broken connection; then comes the next target.';
comment on column public.llm_routes.time_budget_seconds is 'How long all attempts may take together until an answer begins, or is whole if it is not streamed.';
comment on column public.llm_routes.first_token_seconds is 'How long an attempt may take to its first token.';
comment on column public.llm_routes.idle_seconds is 'How long a streamed answer may pause.';
comment on column public.llm_routes.default_output_tokens is 'What an answer may have, when the caller does not say.';
comment on column public.llm_routes.max_output_tokens is 'The most that a caller may ask for; null has no limit.';
comment on column public.llm_routes.allowed_roles is 'Built-in roles that may call it, also by personal keys; a custom role counts as its base role. Null with null in allowed_keys: everyone who holds llm:call.';
comment on column public.llm_routes.allowed_keys is 'API keys that may call it.';
comment on column public.llm_routes.enabled is 'False: calls are answered as if it did not exist.';
comment on column public.llm_routes.description is 'What members write down about it.';
comment on column public.llm_routes.created_by is 'User who created it; null after that user is deleted.';
comment on column public.llm_routes.created_by_key is 'API key that created it; null for a user.';
comment on column public.llm_routes.created_at is 'When it was created.';
comment on column public.llm_routes.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.llm_routes', resource => 'llm', max_rows => 200, catalogue => '{
  "name, targets, retries, time_budget_seconds, first_token_seconds, idle_seconds, default_output_tokens, max_output_tokens, enabled, description": "says which models a name stands for",
  "allowed_roles, allowed_keys": "says who may call it"
}');

create table public.llm_settings (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null unique default public.org_id() references public.organizations (id) on delete cascade,
  routes_only boolean not null default false,
  record_content boolean not null default false,
  content_days integer not null default 30 check (content_days between 1 and 365),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.llm_settings is 'What an organization has decided about all its calls of models; without a row the defaults hold. Written by set_llm_settings().';
comment on column public.llm_settings.id is 'Identity of the row.';
comment on column public.llm_settings.org_id is 'Organization; it has one row at most.';
comment on column public.llm_settings.routes_only is 'Whether only routes can be called, and no model by its own name.';
comment on column public.llm_settings.record_content is 'Whether prompts and answers are kept, in llm_call_contents.';
comment on column public.llm_settings.content_days is 'Days until a kept prompt and answer are deleted.';
comment on column public.llm_settings.created_by is 'User who created it; null after that user is deleted.';
comment on column public.llm_settings.created_by_key is 'API key that created it; null for a user.';
comment on column public.llm_settings.created_at is 'When it was created.';
comment on column public.llm_settings.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.llm_settings', resource => 'llm', writable => '{}', catalogue => '{
  "routes_only, record_content, content_days": "says which models can be called, and whether prompts and answers are kept"
}');

create function public.set_llm_settings(routes_only boolean default null, record_content boolean default null, content_days integer default null)
returns public.llm_settings
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  settings public.llm_settings;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('llm:write');
  if (set_llm_settings.content_days between 1 and 365) is false then
    perform kijko.fail('invalid_input', 'content_days: 1 to 365');
  end if;
  insert into public.llm_settings as s (org_id, routes_only, record_content, content_days)
  values (
    org, coalesce(set_llm_settings.routes_only, false), coalesce(set_llm_settings.record_content, false),
    coalesce(set_llm_settings.content_days, 30)
  )
  on conflict (org_id) do update set
    routes_only = coalesce(set_llm_settings.routes_only, s.routes_only),
    record_content = coalesce(set_llm_settings.record_content, s.record_content),
    content_days = coalesce(set_llm_settings.content_days, s.content_days)
  returning s.* into settings;
  return settings;
end
$$;
comment on function public.set_llm_settings(boolean, boolean, integer) is 'Changes what the organization of the request has decided about its calls of models; null leaves a setting as it is. Requires llm:write. Definer: users do not write the table.';
grant execute on function public.set_llm_settings(boolean, boolean, integer) to authenticated;

-- ----------------------------------------------------------------------------
-- Who may call what
-- ----------------------------------------------------------------------------

create function private.llm_may_use(route public.llm_routes) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
begin
  if route.allowed_roles is null and route.allowed_keys is null then
    return true;
  end if;
  if caller.api_key_id = any (route.allowed_keys) then
    return true;
  end if;
  return coalesce(
    (
      select m.role = any (route.allowed_roles) from public.memberships as m
      where m.org_id = route.org_id and m.user_id = caller.user_id
    ),
    false
  );
end
$$;
comment on function private.llm_may_use(public.llm_routes) is 'Whether the roles and keys of a route include the caller, who holds llm:call.';

create function private.llm_find_route(org uuid, model text, routes_only boolean) returns public.llm_routes
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  route public.llm_routes;
  full_name constant text := case when strpos(model, '/') > 0 then model else private.models_provider(model) || '/' || model end;
begin
  -- A well-known name without its provider is the same model, so a route for that model decides about it, too.
  select r.* into route from public.llm_routes as r
  where r.org_id = org and r.name in (model, full_name) and r.enabled
  order by r.name = model desc
  limit 1;
  if route.id is not null then
    if not private.llm_may_use(route) then
      perform kijko.fail('model_not_allowed', 'the route is not for this caller');
    end if;
    return route;
  end if;
  if routes_only then
    perform kijko.fail('model_not_allowed', 'the organization allows its routes only');
  end if;
  -- The defaults of a call without a route.
  route.targets := array[full_name];
  route.retries := 1;
  route.time_budget_seconds := 600;
  route.first_token_seconds := 120;
  route.idle_seconds := 60;
  route.default_output_tokens := 4096;
  return route;
end
$$;
comment on function private.llm_find_route(uuid, text, boolean) is 'The route of this name, or one with the model as its only target and without an id. Fails with model_not_allowed.';

create function private.llm_find_provider(org uuid, model text) returns public.llm_providers
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  provider public.llm_providers;
begin
  select p.* into provider from public.llm_providers as p
  where p.org_id in (org, kijko.platform_org_id()) and p.name = split_part(model, '/', 1)
  order by p.org_id = org desc
  limit 1;
  -- An organization that switches its own provider off wants no calls of that name, least of all on the keys of the platform.
  if not provider.enabled then
    return null;
  end if;
  return provider;
end
$$;
comment on function private.llm_find_provider(uuid, text) is 'The provider of a model: the organization''s own, else the platform''s; null without one, and if it is off.';
