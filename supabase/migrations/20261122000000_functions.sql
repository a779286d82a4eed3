-- ============================================================================
-- Functions: other servers behind /functions/v1/<name>.
--
--   1. An operator declares a server in public.functions: its name, its URL, and who may call it.
--   2. A request reaches the sidecar, which asks the API as the caller: public.authorize_function(). So PostgREST and the
--      database identify the caller, limit the rate and count the request. The answer is a ticket that only the database reads.
--   3. The sidecar opens the ticket by private.functions_open(): the URL, and an assertion of who calls. It passes the request on
--      with the assertion in the place of the caller's own token or key.
-- ============================================================================

create table public.functions (
  name text primary key check (octet_length(name) <= 64 and name ~ '^[A-Za-z][A-Za-z0-9_-]*$'),
  -- The sidecar's own.
  constraint functions_name_is_free check (name not in ('render-prompt', 'skills-check') and name not like 'billing-%'),
  url text not null check (octet_length(url) <= 2000 and url ~ '^https?://[^?#]+$' and url !~ '/$'),
  access text not null default 'signed_in' check (access in ('anyone', 'signed_in', 'permission')),
  permission text references private.permissions (permission),
  check ((access = 'permission') = (permission is not null)),
  methods text[] not null default '{GET,POST,PUT,PATCH,DELETE}'
    check (cardinality(methods) > 0 and methods <@ '{GET,POST,PUT,PATCH,DELETE}'::text[]),
  timeout_seconds integer not null default 60 check (timeout_seconds between 1 and 600),
  max_response_bytes bigint not null default 10485760 check (max_response_bytes between 1 and 1073741824),
  enabled boolean not null default true,
  description text not null default '' check (char_length(description) <= 500),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
comment on table public.functions is 'Servers that the operator put behind /functions/v1/<name>. Only operators read and write it.';
comment on column public.functions.name is 'What clients invoke.';
comment on column public.functions.url is 'Where requests go: the rest of their path, and their query, are appended. A private address must be in the setting kijko.http_allowed_hosts. Checked when stored and again when it connects.';
comment on column public.functions.access is 'Who may call it: anyone (also without a key), signed_in (a user, or an API key that is not publishable), permission (who holds it in the organization of the request).';
comment on column public.functions.permission is 'The permission, when access is permission; null otherwise.';
comment on column public.functions.methods is 'Methods that it takes. GET brings HEAD along.';
comment on column public.functions.timeout_seconds is 'How long a call may take, the end of a streamed answer included.';
comment on column public.functions.max_response_bytes is 'Bytes of an answer''s body; a longer one is cut off.';
comment on column public.functions.enabled is 'False: calls are answered as if it did not exist.';
comment on column public.functions.description is 'For operators.';
comment on column public.functions.created_at is 'When it was declared.';
comment on column public.functions.updated_at is 'Last change; set by trigger.';
create index functions_permission_idx on public.functions (permission);
comment on index public.functions_permission_idx is 'For changes of the catalogue of permissions.';
select private.describe_data('public.functions', '{
  "name, url, access, permission, methods, timeout_seconds, max_response_bytes, enabled, description": "servers that the operator put behind the API"
}', 'platform');

alter table public.functions enable row level security;
grant select, insert, update, delete on public.functions to service_role;
create trigger functions_touch before update on public.functions
  for each row execute function private.touch_updated_at();

create function private.functions_check_url() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  problem constant text := kijko.http_request_problem('POST', new.url, '{}', null, null);
begin
  if problem is not null then
    perform kijko.fail('invalid_input', 'url: ' || problem);
  end if;
  return new;
end
$$;
comment on function private.functions_check_url() is 'Trigger: refuses a URL that could not be called. Definer: the check belongs to the extension, and operators may call it here only.';
create trigger functions_check_url before insert or update of url on public.functions
  for each row execute function private.functions_check_url();

-- ----------------------------------------------------------------------------
-- Who may call
-- ----------------------------------------------------------------------------

create function private.functions_require_access(f public.functions) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  kind constant text := (kijko.actor()).kind;
begin
  if f.access = 'anyone' or kind = 'service' then
    return;
  end if;
  perform private.tenancy_require_caller();
  if f.access = 'permission' then
    perform private.tenancy_require_org_with(f.permission);
  elsif kind = 'publishable_key' then
    perform kijko.fail('permission_denied', 'not for publishable keys', 'Sign in as a user, or use another key.');
  end if;
end
$$;
comment on function private.functions_require_access(public.functions) is 'Fails with not_identified, not_a_member or permission_denied unless the caller may call the function.';

-- A ticket is sealed: whoever asks the API directly learns nothing from it, and only the sidecar can open one.
create function public.authorize_function(name text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
  f public.functions;
  org uuid;
begin
  select t.* into f from public.functions as t where t.name = authorize_function.name and t.enabled;
  if not found then
    perform kijko.fail('not_found', 'there is no function of this name');
  end if;
  perform private.functions_require_access(f);
  if caller.kind not in ('anonymous', 'none', 'service') then
    org := public.org_id();
  end if;
  return jsonb_build_object('ticket', kijko.seal(
    jsonb_build_object(
      'function', f.name,
      'caller', jsonb_strip_nulls(jsonb_build_object(
        'sub', caller.user_id, 'caller_kind', caller.kind, 'api_key_id', caller.api_key_id, 'org_id', org,
        'is_anonymous', case caller.kind when 'user' then kijko.claims() -> 'is_anonymous' end
      )),
      'share', coalesce(org::text, caller.user_id::text, kijko.client_network()::text, 'unknown'),
      'expires_at', extract(epoch from clock_timestamp()) + 30
    )::text,
    'functions/ticket'
  ));
end
$$;
comment on function public.authorize_function(text) is 'Whether the caller may call this function; the sidecar asks it for each request to /functions/v1. Returns {ticket}, which is of use to the sidecar only. Fails with not_found, not_identified, not_a_member or permission_denied. Definer: users have no rights on the table.';
grant execute on function public.authorize_function(text) to anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.functions_open(ticket text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  opened constant jsonb := kijko.unseal(functions_open.ticket, 'functions/ticket')::jsonb;
  f public.functions;
begin
  select t.* into f from public.functions as t
  where t.name = opened ->> 'function' and t.enabled
    and (opened ->> 'expires_at')::numeric > extract(epoch from clock_timestamp());
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'url', f.url,
    'methods', f.methods,
    'timeout_seconds', f.timeout_seconds,
    'max_response_bytes', f.max_response_bytes,
    'allowed_hosts', coalesce(current_setting('kijko.http_allowed_hosts', true), ''),
    'share', opened ->> 'share',
    'assertion', auth_api.sign_assertion('functions/' || f.name, opened -> 'caller')
  );
end
$$;
comment on function private.functions_open(text) is 'What a ticket of authorize_function() allows: where the request goes, its limits, and the assertion of its caller, signed and valid for a minute. Null when the ticket has expired or the function is gone. Nullable: result. Definer: the sidecar holds no table rights, and only the domain may sign assertions.';
grant execute on function private.functions_open(text) to kijko_sidecar;

-- Who sends a tenant's requests where is an entry of the platform's log.
select private.audit_table(
  'public.functions', 'function', '{url:host,access,permission,methods,timeout_seconds,max_response_bytes,enabled}', org_column => '', id_column => 'name'
);
