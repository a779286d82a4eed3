-- ============================================================================
-- API keys: what a request by key may see and do.
--
-- The membership helpers of tenancy ask these functions when kijko.api_key_id() is not null. All of them are definer, or called
-- by definer functions only, because a key need not see its own row.
-- ============================================================================

create function private.api_keys_entries(permissions jsonb) returns text[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$ select array(select e.entry from jsonb_array_elements_text(permissions) with ordinality as e (entry, place) order by e.place) $$;
comment on function private.api_keys_entries(jsonb) is 'The permissions of a key as an array, in their order.';

-- A SQL function without settings, which Postgres inlines into the query of private.org_ids_with().
create function private.api_keys_org_with(permission text) returns setof uuid
language sql stable parallel safe rows 1
begin atomic
  -- An unknown permission gives no row. The entries are those of private.tenancy_granted_by(); a call of it would take
  -- longer than the rest of this query. The condition on memberships is that of private.org_ids_with(). Lateral with a limit: an EXISTS beside
  -- OR, or a join, would be planned as a hash of all memberships while they are few.
  select k.org_id
  from public.api_keys as k
  left join lateral (
    select true as holds
    from public.memberships as m
    join private.role_permissions as rp on rp.holder = coalesce(m.custom_role_id::text, m.role) and rp.permission = api_keys_org_with.permission
    where m.user_id = k.user_id and m.org_id = k.org_id
    limit 1
  ) as maker on true
  where k.id = (select kijko.api_key_id())
    and (select kijko.api_key_permissions()) && (
      select array[p.permission, p.wildcard] from private.permissions as p where p.permission = api_keys_org_with.permission
    )
    and (k.user_id is null or maker.holds);
end;
comment on function private.api_keys_org_with(text) is 'The organization of the calling key if the key and the member in its user_id hold the permission; else no row. Called by private.org_ids_with(), a definer function.';

create function private.api_keys_permissions_of(key public.api_keys) returns text[]
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  bound constant text[] := case when key.user_id is not null then private.tenancy_member_permissions(key.user_id, key.org_id) end;
begin
  return array(
    select p.permission
    from private.tenancy_list_permissions(private.api_keys_entries(key.permissions)) as p (permission)
    where key.user_id is null or p.permission = any (bound)
    order by p.permission
  );
end
$$;
comment on function private.api_keys_permissions_of(public.api_keys) is 'Every permission that a key holds, wildcards expanded: of those that it names, those that the member in its user_id holds. Called by definer functions only.';

create function private.api_keys_held(org uuid) returns text[]
language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    (select private.api_keys_permissions_of(k) from public.api_keys as k where k.id = (select kijko.api_key_id()) and k.org_id = org), '{}'
  );
end
$$;
comment on function private.api_keys_held(uuid) is 'Every permission that the calling key holds in the organization; empty in any other organization. Definer: reads keys and memberships for private.tenancy_caller_permissions().';

create function private.api_keys_org_as(role text) returns setof uuid
language plpgsql stable parallel safe security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select k.org_id
  from public.api_keys as k
  where k.id = (select kijko.api_key_id())
    -- Permissions are not enough: the base role of a custom role bounds whom its members, and so their keys, manage.
    and exists (
      select 1
      from private.roles as wanted
      join private.roles as own on own.rank >= wanted.rank
      where wanted.role = api_keys_org_as.role
        and own.role = coalesce((select m.role from public.memberships as m where m.user_id = k.user_id and m.org_id = k.org_id), 'viewer')
    )
    and private.api_keys_held(k.org_id) @> array(select private.tenancy_role_permissions(api_keys_org_as.role, null));
end
$$;
comment on function private.api_keys_org_as(text) is 'The organization of the calling key if the key holds every permission of the role and the member in its user_id has at least that role; without such a member only for viewer. Else no row. A policy that asks for a role means all that the role may do. Definer: reads keys for private.tenancy_org_ids_as().';

create function private.api_keys_ungrantable(org uuid, permissions text[]) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  held constant text[] := private.tenancy_caller_permissions(org);
  -- As the row says now: the request may have waited for a change of its own key.
  own constant text[] := (select private.api_keys_entries(k.permissions) from public.api_keys as k where k.id = kijko.api_key_id());
begin
  return array(
    select e.entry
    from unnest(permissions) as e (entry)
    left join lateral (
      select bool_and(p.permission = any (held)) as all_held, bool_or(p.permission = any (held)) as any_held
      from private.permissions as p
      where p.wildcard = e.entry
    ) as w on e.entry like '*:%'
    where case
      when e.entry not like '*:%' then e.entry <> all (held)
      -- The member in user_id bounds the new key on each use. The key that makes it does not, so a wildcard must be its own.
      when own is null then w.any_held is not true
      else e.entry <> all (own) and w.all_held is not true
    end
    order by e.entry
  );
end
$$;
comment on function private.api_keys_ungrantable(uuid, text[]) is 'Entries of a list of permissions that the caller may not give to a key, because the caller does not hold them. Called by definer functions only.';

create function private.api_keys_is_owned(key public.api_keys) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(key.kind = 'personal' and key.user_id = kijko.user_id() and public.can(key.org_id, 'api_keys:write_own'), false);
end
$$;
comment on function private.api_keys_is_owned(public.api_keys) is 'Whether the key is a personal one of the caller, who may manage it; false for null.';

create function private.api_keys_is_visible(id uuid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select 1 from public.api_keys as k
    where k.id = api_keys_is_visible.id and (public.can(k.org_id, 'api_keys:read') or private.api_keys_is_owned(k))
  );
end
$$;
comment on function private.api_keys_is_visible(uuid) is 'Whether a key exists and the caller may list it, as the policy of api_keys says; false for null. Called by definer functions only.';
