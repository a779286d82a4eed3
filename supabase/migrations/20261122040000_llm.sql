-- ============================================================================
-- LLM gateway: the providers of models, and their keys.
--
--   1. A request reaches the sidecar, which asks the API as the caller: public.authorize_llm_call(). One transaction finds the
--      targets, holds what the call can use at most against every budget and meter, and records the call as sent.
--   2. For anybody else but the gateway it is reserved, until the sidecar opens its ticket by private.llm_open(). Jobs have tickets.
--   3. Before each further attempt private.llm_raise() raises the holds.
--   4. private.llm_settle_many() records what was used. A call that nobody settles is settled at its whole hold.
-- ============================================================================

create table public.llm_providers (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 63 and name ~ '^[a-z0-9][a-z0-9_.-]*$'),
  kind text not null check (kind in ('openai', 'anthropic', 'gemini', 'echo')),
  base_url text check (octet_length(base_url) <= 2000 and base_url ~ '^https?://[^?#]+$' and base_url !~ '/$'),
  max_concurrency integer check (max_concurrency between 1 and 10000),
  enabled boolean not null default true,
  description text not null default '' check (char_length(description) <= 500),
  key_set_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, name),
  unique (org_id, id)
);
comment on table public.llm_providers is 'Services that answer calls of models. An organization''s own providers come before the platform''s of the same name, and are paid by the organization itself.';
comment on column public.llm_providers.id is 'Identity of the row.';
comment on column public.llm_providers.org_id is 'Organization that owns it; the platform''s rows are for every organization.';
comment on column public.llm_providers.name is 'The part of a model''s name before the slash.';
comment on column public.llm_providers.kind is 'The API that it speaks: openai (also any compatible service), anthropic or gemini. echo repeats the prompt, and only the platform has it.';
comment on column public.llm_providers.base_url is 'Where it answers. Null: where the vendor itself does; for a provider of the platform without a key, where the sidecar''s configuration says. Checked when stored and again when it connects. A new address forgets the key.';
comment on column public.llm_providers.max_concurrency is 'Calls at once of each sidecar; null: as many as its setting KIJKO_LLM_MAX_CALLS_OF_PROVIDER says.';
comment on column public.llm_providers.enabled is 'False: its models are not called.';
comment on column public.llm_providers.description is 'What members write down about it.';
comment on column public.llm_providers.key_set_at is 'When its key was last set; null without one. Set by set_llm_provider_key().';
comment on column public.llm_providers.created_by is 'User who created it; null after that user is deleted.';
comment on column public.llm_providers.created_by_key is 'API key that created it; null for a user.';
comment on column public.llm_providers.created_at is 'When it was created.';
comment on column public.llm_providers.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table(
  'public.llm_providers', resource => 'llm', max_rows => 50,
  writable => '{name,kind,base_url,max_concurrency,enabled,description}', catalogue => '{
  "name, kind, base_url, max_concurrency, enabled, description, key_set_at": "says where calls of models go"
}');

create function private.llm_names_private_host(url text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select 1
    from regexp_split_to_table(coalesce(current_setting('kijko.http_allowed_hosts', true), ''), '[,\s]+') as h (entry)
    where entry <> '' and lower(regexp_replace(entry, ':\d+$', '')) = lower(substring(kijko.http_origin(url) from '^[a-z]+://(.*):\d+$'))
  )
$$;
comment on function private.llm_names_private_host(text) is 'Whether a URL names a host of the operator''s own network, which the setting kijko.http_allowed_hosts opens.';

create function private.llm_check_provider() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  is_platform constant boolean := new.org_id = kijko.platform_org_id();
  problem text;
begin
  if new.kind = 'echo' and not is_platform then
    perform kijko.fail('invalid_input', 'kind: openai, anthropic or gemini');
  end if;
  if new.base_url is not null then
    problem := kijko.http_request_problem('POST', new.base_url, '{}', null, null);
    -- The operator opened these hosts for servers of the platform.
    if problem is null and not is_platform and private.llm_names_private_host(new.base_url) then
      problem := 'the host is not public';
    end if;
    if problem is not null then
      perform kijko.fail('invalid_input', 'base_url: ' || problem);
    end if;
  end if;
  if tg_op = 'UPDATE' and (new.base_url, new.kind) is distinct from (old.base_url, old.kind) and new.key_set_at is not null then
    -- A key goes to the address that it was given for.
    delete from private.llm_provider_keys as k where k.organization = new.org_id and k.provider_id = new.id;
    new.key_set_at := null;
  end if;
  return new;
end
$$;
comment on function private.llm_check_provider() is 'Trigger: refuses an address that could not be called, and forgets the key when the address changes. Definer: the check belongs to the extension, and keys are private.';
create trigger llm_providers_check before insert or update of kind, base_url on public.llm_providers
  for each row execute function private.llm_check_provider();

-- ----------------------------------------------------------------------------
-- Keys
-- ----------------------------------------------------------------------------

create table private.llm_provider_keys (
  organization uuid not null,
  provider_id uuid not null,
  sealed kijko.sealed not null check (char_length(sealed) <= 12000),
  primary key (organization, provider_id),
  foreign key (organization, provider_id) references public.llm_providers (org_id, id) on delete cascade
);
comment on table private.llm_provider_keys is 'Sealed keys of providers. Only private.llm_open() and private.llm_gateway_key() read them.';
comment on column private.llm_provider_keys.organization is 'Organization of the provider.';
comment on column private.llm_provider_keys.provider_id is 'The provider.';
comment on column private.llm_provider_keys.sealed is 'The key, sealed in the context of its provider.';
select private.describe_data('private.llm_provider_keys', '{
  "organization, provider_id": {"subject": "organization", "purpose": "whose key it is", "export": "none"},
  "sealed": "authorizes calls of the provider"
}', 'secret');
alter table private.llm_provider_keys enable row level security;

create function private.llm_key_context(key private.llm_provider_keys) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'llm_provider_keys/' || key.organization::text || '/' || key.provider_id::text;
comment on function private.llm_key_context(private.llm_provider_keys) is 'The context in which the key of a provider is sealed.';
select private.seal_column('private.llm_provider_keys', 'sealed', context => 'private.llm_key_context(private.llm_provider_keys)');

create function private.llm_provider_key(provider public.llm_providers) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select kijko.unseal(k.sealed, private.llm_key_context(k))
    from private.llm_provider_keys as k where k.organization = provider.org_id and k.provider_id = provider.id
  );
end
$$;
comment on function private.llm_provider_key(public.llm_providers) is 'The key of a provider; null without one. Nullable: result.';

create function public.set_llm_provider_key(provider_id uuid, key text) returns public.llm_providers
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  provider public.llm_providers;
  made private.llm_provider_keys;
begin
  if (kijko.actor()).kind = 'service' then
    select p.org_id into org from public.llm_providers as p where p.id = set_llm_provider_key.provider_id;
  else
    perform private.tenancy_require_caller();
    org := private.tenancy_require_org_with('llm:write');
  end if;
  -- No refusal names the key.
  if octet_length(set_llm_provider_key.key) > 8192 or set_llm_provider_key.key !~ '^[\u0021-\u007e]+$' then
    perform kijko.fail('invalid_input', 'key: 1 to 8192 visible ASCII characters without blanks');
  end if;
  update public.llm_providers as p
  set key_set_at = case when set_llm_provider_key.key is not null then kijko.now() end
  where p.org_id = org and p.id = set_llm_provider_key.provider_id
  returning p.* into provider;
  if provider.id is null then
    perform kijko.fail('not_found', 'no such provider');
  end if;
  made.organization := provider.org_id;
  made.provider_id := provider.id;
  if set_llm_provider_key.key is null then
    delete from private.llm_provider_keys as k where k.organization = provider.org_id and k.provider_id = provider.id;
  else
    insert into private.llm_provider_keys as k (organization, provider_id, sealed)
    values (provider.org_id, provider.id, kijko.seal(set_llm_provider_key.key, private.llm_key_context(made)))
    on conflict on constraint llm_provider_keys_pkey do update set sealed = excluded.sealed;
  end if;
  return provider;
end
$$;
comment on function public.set_llm_provider_key(uuid, text) is 'Stores the key of a provider of the organization of the request, or removes it (null). Requires llm:write; no function returns the key to a client. Send it in the body of a POST: an address is logged. Definer: keys are private.';
grant execute on function public.set_llm_provider_key(uuid, text) to authenticated, service_role;

create function private.llm_vendor_url(kind text) returns text
language sql immutable
return case kind
  when 'openai' then 'https://api.openai.com/v1'
  when 'anthropic' then 'https://api.anthropic.com'
  when 'gemini' then 'https://generativelanguage.googleapis.com'
end;
comment on function private.llm_vendor_url(text) is 'Where a vendor itself answers. Nullable: result.';

-- Without an address or key of their own: the sidecar has those in its configuration.
insert into public.llm_providers (org_id, name, kind)
select kijko.platform_org_id(), k.kind, k.kind from unnest('{openai,anthropic,gemini,echo}'::text[]) as k (kind);
