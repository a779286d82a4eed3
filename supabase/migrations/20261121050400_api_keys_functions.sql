-- ============================================================================
-- API keys: the functions that clients call.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Computed columns. PostgREST serves them: select=*,secret,last_used_at.
-- ----------------------------------------------------------------------------

create function public.secret(key public.api_keys) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  issued constant text := kijko.issued_api_key(key.id);
begin
  -- An upsert that waited for another row of the same id has generated a key that was not stored.
  return case when starts_with(issued, nullif(key.prefix, '')) then issued end;
end
$$;
comment on function public.secret(public.api_keys) is 'Computed column of api_keys: the key itself, in the statement that makes it; null ever after. Nullable: result. Definer: only the domain may read the keys that this transaction has made.';
grant execute on function public.secret(public.api_keys) to authenticated, service_role;

create function public.last_used_at(key public.api_keys) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The argument need not be a row that the caller has read: a request can spell any.
  if current_setting('role') = 'service_role' or private.api_keys_is_visible(key.id) then
    return kijko.api_key_last_used_at(key.id);
  end if;
  return null;
end
$$;
comment on function public.last_used_at(public.api_keys) is 'Computed column of api_keys: when the key was last used, exact to about a minute; null if never. Nullable: result. Definer: only the domain may read the extension''s tables.';
grant execute on function public.last_used_at(public.api_keys) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create type public.issued_api_key as (
  id uuid, org_id uuid, name text, kind text, permissions jsonb, prefix text, rate_limit integer, monthly_quota bigint,
  daily_quota bigint, origins text[], expires_at timestamptz, created_at timestamptz, secret text
);
comment on type public.issued_api_key is 'Result of create_api_key() and rotate_api_key(): the key''s row with the key itself, which no later call returns. Nullable: monthly_quota, daily_quota, expires_at.';

create function private.api_keys_issued(key public.api_keys) returns public.issued_api_key
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select (
    key.id, key.org_id, key.name, key.kind, key.permissions, key.prefix, key.rate_limit, key.monthly_quota,
    key.daily_quota, key.origins, key.expires_at, key.created_at, kijko.issued_api_key(key.id)
  )::public.issued_api_key
$$;
comment on function private.api_keys_issued(public.api_keys) is 'A key with its secret, in the transaction that has generated it. Called by definer functions only.';

create function public.create_api_key(
  name text, permissions jsonb, kind text default 'service', rate_limit integer default 60, monthly_quota bigint default 1000000,
  expires_at timestamptz default null, daily_quota bigint default null, origins text[] default '{}'
) returns public.issued_api_key
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org();
  key public.api_keys;
begin
  if not public.can(org, 'api_keys:write')
    and not (create_api_key.kind = 'personal' and kijko.user_id() is not null and public.can(org, 'api_keys:write_own'))
  then
    perform kijko.fail('permission_denied', 'requires the permission api_keys:write, or api_keys:write_own for a personal key');
  end if;
  insert into public.api_keys (org_id, name, permissions, kind, rate_limit, monthly_quota, expires_at, daily_quota, origins)
  values (
    org, create_api_key.name, create_api_key.permissions, create_api_key.kind, coalesce(create_api_key.rate_limit, 60),
    coalesce(create_api_key.monthly_quota, 1000000), create_api_key.expires_at, create_api_key.daily_quota, coalesce(create_api_key.origins, '{}')
  )
  returning * into key;
  return private.api_keys_issued(key);
end
$$;
comment on function public.create_api_key(text, jsonb, text, integer, bigint, timestamptz, bigint, text[]) is 'Makes an API key of the organization of the request and returns it once, in secret. A user with a second factor needs a session that has it (insufficient_aal). Needs api_keys:write, or api_keys:write_own for a personal key of the caller, and each permission that the key names. Definer: only the domain may read the key that it has generated.';
grant execute on function public.create_api_key(text, jsonb, text, integer, bigint, timestamptz, bigint, text[]) to authenticated;

create function private.api_keys_lock(id uuid) returns public.api_keys
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  key public.api_keys;
begin
  -- Both checks come before the lock: a non-member who knows an id cannot lock the row, and in the transaction of a read-only key
  -- a lock would fail with an error of Postgres instead. What they read of the row never changes.
  if private.api_keys_is_visible(api_keys_lock.id) then
    select k.* into key from public.api_keys as k where k.id = api_keys_lock.id;
  end if;
  if key.id is not null then
    if not private.api_keys_is_owned(key) and not public.can(key.org_id, 'api_keys:write') then
      perform kijko.fail('permission_denied', 'requires the permission api_keys:write');
    end if;
    select k.* into key from public.api_keys as k where k.id = api_keys_lock.id for no key update;
  end if;
  if key.id is null then
    perform kijko.fail('not_found', 'no such API key');
  end if;
  return key;
end
$$;
comment on function private.api_keys_lock(uuid) is 'Locks a key that the caller may change and returns it; fails otherwise. Called by definer functions only.';

create function public.rotate_api_key(id uuid, overlap interval default '0') returns public.issued_api_key
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  key public.api_keys := private.api_keys_lock(rotate_api_key.id);
  maker constant uuid := private.api_keys_maker();
  held text[];
begin
  perform private.api_keys_require_second_factor();
  perform private.api_keys_require_open_membership(maker, key.org_id);
  if (rotate_api_key.overlap between interval '0' and interval '30 days') is not true then
    perform kijko.fail('invalid_input', 'overlap: 0 to 30 days');
  end if;
  if key.revoked_at is not null or key.expires_at <= kijko.now() then
    perform kijko.fail('conflict', 'the key is revoked or expired', 'Make a new key.');
  end if;
  if key.kind = 'personal' and not private.api_keys_is_owned(key) then
    perform kijko.fail('permission_denied', 'only its owner rotates a personal key', 'Revoke it instead.');
  end if;
  -- Who rotates a key can use it. So it holds no more than the caller does, now and later.
  held := private.api_keys_permissions_of(key);
  if not held <@ private.tenancy_caller_permissions(key.org_id) then
    perform kijko.fail('permission_denied', 'the key holds permissions that you do not hold', 'Revoke it instead.');
  end if;
  -- From now on the caller bounds the key. The former key works during the overlap, so the key must not gain permissions: if
  -- another member bounded it, wildcards are replaced by what it holds now. If a key calls, wildcards that it has itself may stay.
  if key.user_id is distinct from maker then
    key.permissions := private.api_keys_bounded(key.permissions, held);
  elsif kijko.api_key_id() is not null then
    key.permissions := private.api_keys_bounded(
      key.permissions, held || array(select e.entry from unnest(kijko.api_key_permissions()) as e (entry) where e.entry like '*:%')
    );
  end if;
  update public.api_keys as k set prefix = kijko.generate_api_key(k.id), user_id = maker, permissions = key.permissions
  where k.id = rotate_api_key.id
  returning k.* into key;
  perform kijko.store_api_key_secret(rotate_api_key.id, rotate_api_key.overlap);
  return private.api_keys_issued(key);
end
$$;
comment on function public.rotate_api_key(uuid, interval) is 'Replaces a key and returns the new one, once, in secret. The former key works for the overlap, at most 30 days. The id, the permissions, the limits and what was used stay. A user with a second factor needs a session that has it (insufficient_aal). Definer: only the domain may generate keys.';
grant execute on function public.rotate_api_key(uuid, interval) to authenticated;

create function public.revoke_api_key(id uuid) returns public.api_keys
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  key public.api_keys := private.api_keys_lock(revoke_api_key.id);
begin
  if key.revoked_at is null then
    update public.api_keys as k set revoked_at = kijko.now() where k.id = revoke_api_key.id returning k.* into key;
  end if;
  return key;
end
$$;
comment on function public.revoke_api_key(uuid) is 'Revokes a key: its next request fails with 401 not_identified. A repeated call returns the same row. Definer: users may not write revoked_at.';
grant execute on function public.revoke_api_key(uuid) to authenticated;
