-- ============================================================================
-- API keys: rules of the table, kept by triggers, and the copy of each key in the extension.
--
--   1. Before a row is written, api_keys_prepare() fills what the database keeps and refuses bad input.
--   2. Afterwards, once row level security has admitted the row, api_keys_issue() and api_keys_apply_change() check what the maker
--      may grant and write the extension's copy.
-- Lock order: users, then organizations and memberships, then keys, oldest first: a key is younger than its maker.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- What a client sends
-- ----------------------------------------------------------------------------

create function private.api_keys_normalize(permissions jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  entries jsonb := permissions;
begin
  if jsonb_typeof(permissions) = 'object' then
    if exists (
      select 1 from jsonb_each(permissions) as e (action, granted) where e.action not in ('read', 'write') or jsonb_typeof(e.granted) <> 'boolean'
    ) then
      return null;
    end if;
    entries := to_jsonb(array(select '*:' || e.action from jsonb_each(permissions) as e (action, granted) where e.granted = 'true' order by e.action));
  elsif jsonb_typeof(permissions) is distinct from 'array'
    or exists (select 1 from jsonb_array_elements(permissions) as e (entry) where jsonb_typeof(e.entry) <> 'string')
  then
    return null;
  end if;
  return (
    select coalesce(jsonb_agg(d.entry order by d.place), '[]')
    from (select e.entry, min(e.place) as place from jsonb_array_elements_text(entries) with ordinality as e (entry, place) group by e.entry) as d
  );
end
$$;
comment on function private.api_keys_normalize(jsonb) is 'Permissions as they are stored: an array of strings without repetition. Takes such an array, or {"read": boolean, "write": boolean}. Null for anything else.';

create function private.api_keys_origin_fault(origins text[]) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format('origins: %s is not an origin; write https://host or https://host:port, in lower case', coalesce(left(o.origin, 100), 'null'))
  from unnest(origins) as o (origin)
  where (
    char_length(o.origin) <= 255
    and o.origin ~ '^https?://([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$'
    -- A browser leaves the scheme's own port out of the header Origin.
    and o.origin !~ '^(http://.*:80|https://.*:443)$'
    and coalesce(substring(o.origin from ':([0-9]+)$')::integer <= 65535, true)
  ) is not true
  limit 1
$$;
comment on function private.api_keys_origin_fault(text[]) is 'What is wrong with the first origin that no browser would send; null if nothing is.';

-- The cheapest checks come first. Only the first fault is reported.
create function private.api_keys_fault(key public.api_keys) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select f.fault
  from (
    values
      (1, (char_length(key.name) <= 100 and private.is_name(key.name)) is not true, 'name: at most 100 characters on one line, in normal form C (NFC), not blank, without control, format and blank characters'),
      (2, (key.kind in ('service', 'personal', 'publishable')) is not true, 'kind: service, personal or publishable'),
      (3, key.permissions is null, 'permissions: an array of permissions, or {"read": true, "write": false}'),
      (4, key.permissions = '[]', 'permissions: at least one'),
      (6, (key.rate_limit between 1 and 60000) is not true, 'rate_limit: 1 to 60000 requests per minute'),
      (7, key.kind <> 'publishable' and (key.monthly_quota between 1 and 1000000000000) is not true, 'monthly_quota: 1 to 1000000000000 requests'),
      (8, key.kind <> 'publishable' and key.daily_quota is not null, 'daily_quota: for publishable keys only'),
      (9, key.kind = 'publishable' and (key.daily_quota between 1 and 1000000000000) is not true, 'daily_quota: 1 to 1000000000000 requests'),
      (10, key.kind <> 'publishable' and cardinality(key.origins) > 0, 'origins: for publishable keys only'),
      (11, key.kind = 'publishable' and coalesce(cardinality(key.origins), 0) = 0, 'origins: a publishable key needs one to 20'),
      (12, cardinality(key.origins) > 20 or array_ndims(key.origins) > 1, 'origins: at most 20, as a plain list'),
      (13, not isfinite(key.expires_at), 'expires_at: a moment in time; null for never')
  ) as f (place, broken, fault)
  where f.broken
  order by f.place
  limit 1
$$;
comment on function private.api_keys_fault(public.api_keys) is 'The first thing that is wrong with a key as such; null if nothing is. api_keys_permission_fault() checks its permissions.';

create function private.api_keys_permission_fault(kind text, permissions text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when e.entry like '%*%' then format('permissions: %s; the wildcards are *:read and *:write', left(e.entry, 100))
    when kind = 'publishable' then 'permissions: a publishable key holds events:ingest or flags:evaluate only'
    else format('permissions: there is no permission %s', left(e.entry, 100))
  end
  from unnest(permissions) with ordinality as e (entry, place)
  where case
    when kind = 'publishable' then e.entry not in ('events:ingest', 'flags:evaluate')
    when e.entry like '%*%' then e.entry not in ('*:read', '*:write')
    else not exists (select 1 from private.permissions as p where p.permission = e.entry)
  end
  order by e.place
  limit 1
$$;
comment on function private.api_keys_permission_fault(text, text[]) is 'What is wrong with the first permission that a key of this kind cannot have; null if nothing is.';

-- ----------------------------------------------------------------------------
-- Before a row is written
-- ----------------------------------------------------------------------------

create function private.api_keys_maker() returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
begin
  if caller.api_key_id is not null and caller.user_id is null then
    return (select k.user_id from public.api_keys as k where k.id = caller.api_key_id);
  end if;
  return caller.user_id;
end
$$;
comment on function private.api_keys_maker() is 'The member whose permissions bound a key that the caller makes: the user, or the member in user_id of the calling key. Null for the back office.';

create function private.api_keys_require_second_factor() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
begin
  -- A key outlives the session that makes it, so a stolen session of one factor must not make one.
  if caller.kind = 'user' then
    perform private.tenancy_require_second_factor(caller.user_id);
  end if;
end
$$;
comment on function private.api_keys_require_second_factor() is 'Refuses with insufficient_aal a user who has a second factor and calls without it. Called by definer functions only.';

create function private.api_keys_require_open_membership(maker uuid, org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Also when a key makes it: a key that was made before goes on working, and must have no successor.
  if exists (select 1 from public.memberships as m where m.user_id = maker and m.org_id = org and m.sso_required) then
    perform kijko.fail('sso_required', 'the organization requires its own login server', 'Sign in there.');
  end if;
end
$$;
comment on function private.api_keys_require_open_membership(uuid, uuid) is 'Refuses with sso_required a maker whose membership is closed, because the organization requires its issuer. Called by definer functions only.';

create function private.api_keys_prepare() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  fault text;
begin
  -- Before the list is read.
  if pg_column_size(new.permissions) > 32768 or (jsonb_typeof(new.permissions) = 'array' and jsonb_array_length(new.permissions) > 100) then
    perform kijko.fail('invalid_input', 'permissions: at most 100');
  end if;
  new.permissions := private.api_keys_normalize(new.permissions);
  if tg_op = 'INSERT' then
    perform private.api_keys_require_second_factor();
    new.user_id := private.api_keys_maker();
    perform private.api_keys_require_open_membership(new.user_id, new.org_id);
    -- Serializes with a ban of the user, and takes this lock before those of the foreign keys.
    perform 1 from auth.users as u where u.id = new.user_id for share;
    -- Serializes with a change of the key that makes it, which narrows what it has made.
    perform 1 from public.api_keys as k where k.id = kijko.api_key_id() for share;
    if exists (
      select 1 from public.api_keys as k
      where k.id = kijko.api_key_id() and k.expires_at is not null and (new.expires_at is null or new.expires_at > k.expires_at)
    ) then
      perform kijko.fail('permission_denied', 'expires_at: a key makes none that outlives it');
    end if;
    new.revoked_at := null;
  elsif new.id = kijko.api_key_id()
    and (new.expires_at, new.rate_limit, new.monthly_quota, new.daily_quota)
      is distinct from (old.expires_at, old.rate_limit, old.monthly_quota, old.daily_quota)
  then
    perform kijko.fail('permission_denied', 'a key cannot change its own limits');
  end if;
  if new.kind = 'publishable' then
    new.monthly_quota := null;
    new.daily_quota := coalesce(new.daily_quota, 10000);
  end if;
  fault := coalesce(
    private.api_keys_fault(new), private.api_keys_origin_fault(new.origins),
    private.api_keys_permission_fault(new.kind, private.api_keys_entries(new.permissions)),
    -- An expired key may be renamed.
    case when new.expires_at <= kijko.now() and (tg_op = 'INSERT' or new.expires_at is distinct from old.expires_at) then 'expires_at: lies in the past' end
  );
  if fault is not null then
    perform kijko.fail('invalid_input', fault);
  end if;
  if new.kind = 'personal' and (new.user_id is null or (tg_op = 'INSERT' and kijko.user_id() is null)) then
    perform kijko.fail('permission_denied', 'a personal key is made by its owner', 'Sign in as the user, or make a service key.');
  end if;
  if tg_op = 'INSERT' then
    new.prefix := kijko.generate_api_key(new.id);
  end if;
  return new;
end
$$;
comment on function private.api_keys_prepare() is 'Trigger: normalises the permissions, fills what the database keeps and refuses bad input with invalid_input. Generates the key of a new row. Definer: only the domain may generate keys.';
create trigger api_keys_prepare before insert or update on public.api_keys
  for each row execute function private.api_keys_prepare();

create function private.api_keys_refuse_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  kept constant text[] := private.api_keys_entries(old.permissions);
begin
  if old.kind <> new.kind or (new.user_id is not null and old.user_id is distinct from new.user_id and old.prefix = new.prefix) then
    perform kijko.fail('permission_denied', 'the kind and the owner of a key cannot be changed', 'Make a new key.');
  end if;
  if old.revoked_at is not null and old.revoked_at is distinct from new.revoked_at then
    perform kijko.fail('conflict', 'a revoked key stays revoked', 'Make a new key.');
  end if;
  if old.prefix <> new.prefix and starts_with(kijko.issued_api_key(new.id), new.prefix) is not true then
    perform kijko.fail('permission_denied', 'the prefix of a key changes by rotate_api_key() only');
  end if;
  if exists (
    select 1 from unnest(private.api_keys_entries(new.permissions)) as e (entry)
    where e.entry <> all (kept) and not private.tenancy_granted_by(e.entry) && kept
  ) then
    perform kijko.fail('permission_denied', 'the permissions of a key can only be narrowed', 'Make a new key.');
  end if;
  return new;
end
$$;
comment on function private.api_keys_refuse_change() is 'Trigger: kind and revocation of a key never change, prefix and user_id change with the key only, and permissions can only be narrowed. Definer: permissions are private.';
-- Its name sorts after api_keys_prepare, whose normal form of the permissions it compares.
create trigger api_keys_refuse_change before update of kind, user_id, revoked_at, prefix, permissions on public.api_keys
  for each row when (
    old.kind is distinct from new.kind or old.user_id is distinct from new.user_id or old.revoked_at is distinct from new.revoked_at
    or old.prefix is distinct from new.prefix or old.permissions is distinct from new.permissions
  )
  execute function private.api_keys_refuse_change();

-- ----------------------------------------------------------------------------
-- The copy in the extension
-- ----------------------------------------------------------------------------

create function private.api_keys_push(key public.api_keys) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.put_api_key(
    key.id, key.org_id, key.kind, case when key.kind = 'personal' then key.user_id end, private.api_keys_entries(key.permissions),
    key.rate_limit, key.monthly_quota, key.daily_quota, key.expires_at, key.revoked_at,
    case when key.kind = 'personal' then (select u.banned_until from auth.users as u where u.id = key.user_id) end,
    nullif(key.origins, '{}')
  );
end
$$;
comment on function private.api_keys_push(public.api_keys) is 'Writes what authenticates and limits a key to the extension: its next request is checked by it. Called by definer functions only.';

create function private.api_keys_issue() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  ungrantable text[];
begin
  -- The back office and migrations are bounded by their rights on the table.
  if (kijko.actor()).kind not in ('service', 'none') then
    ungrantable := private.api_keys_ungrantable(new.org_id, private.api_keys_entries(new.permissions));
    if ungrantable <> '{}' then
      perform kijko.fail(
        'permission_denied', format('you do not hold %s', array_to_string(ungrantable, ', ')), 'A key cannot hold more than its maker.'
      );
    end if;
  end if;
  perform private.api_keys_push(new);
  perform kijko.store_api_key_secret(new.id);
  return null;
end
$$;
comment on function private.api_keys_issue() is 'Trigger: refuses a key that would hold more than its maker, and makes a new key known to the extension. After row level security has admitted the row. Definer: only the domain may write keys of the extension.';
create trigger api_keys_issue after insert on public.api_keys
  for each row execute function private.api_keys_issue();

create function private.api_keys_apply_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.api_keys_push(new);
  if old.permissions <> new.permissions then
    perform private.api_keys_narrow_made(new);
  end if;
  return null;
end
$$;
comment on function private.api_keys_apply_change() is 'Trigger: a change of a key counts from its next request on, and narrows the keys that it has made. Definer: only the domain may write keys of the extension, and the caller may not change the other keys.';
create trigger api_keys_apply_change after update on public.api_keys
  for each row when (
    old.permissions is distinct from new.permissions or old.user_id is distinct from new.user_id or old.rate_limit is distinct from new.rate_limit
    or old.monthly_quota is distinct from new.monthly_quota or old.daily_quota is distinct from new.daily_quota
    or old.origins is distinct from new.origins or old.expires_at is distinct from new.expires_at or old.revoked_at is distinct from new.revoked_at
  )
  execute function private.api_keys_apply_change();

create function private.api_keys_drop() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.delete_api_key(old.id);
  return null;
end
$$;
comment on function private.api_keys_drop() is 'Trigger: a deleted key is refused from its next request on, and leaves no limits behind. Definer: only the domain may delete keys of the extension.';
create trigger api_keys_drop after delete on public.api_keys
  for each row execute function private.api_keys_drop();
