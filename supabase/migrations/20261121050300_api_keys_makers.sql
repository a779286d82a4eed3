-- ============================================================================
-- API keys: what happens to keys when their makers lose permissions, leave or are banned.
--
-- While the maker is a member, private.api_keys_org_with() reads the maker's permissions on each use, and nothing is written.
-- ============================================================================

create function private.api_keys_bounded(permissions jsonb, bound text[]) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(distinct k.entry), '[]')
  from unnest(private.api_keys_entries(permissions)) as e (entry)
  cross join lateral (
    select e.entry where e.entry = any (bound) or private.tenancy_granted_by(e.entry) && bound
    union all
    select p.permission
    from private.permissions as p
    where p.wildcard = e.entry and e.entry <> all (bound) and private.tenancy_granted_by(p.permission) && bound
  ) as k (entry)
$$;
comment on function private.api_keys_bounded(jsonb, text[]) is 'The part of a key''s permissions that a list of permissions grants. A wildcard that the list does not contain becomes the permissions that the list grants.';

create function private.api_keys_narrow(key public.api_keys, bound text[], maker uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kept constant jsonb := private.api_keys_bounded(key.permissions, bound);
begin
  -- A key that keeps nothing is of no use any more, and a list of permissions is never empty.
  update public.api_keys as k
  set user_id = maker,
    permissions = case when kept = '[]' then k.permissions else kept end,
    revoked_at = case when kept = '[]' then coalesce(k.revoked_at, kijko.now()) else k.revoked_at end
  where k.id = key.id;
end
$$;
comment on function private.api_keys_narrow(public.api_keys, text[], uuid) is 'Cuts a key down to what a list of permissions grants, or revokes it if that is nothing, and sets the member in its user_id. Called by definer functions only.';

create function private.api_keys_narrow_made(maker public.api_keys) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  key public.api_keys;
begin
  for key in
    select k.* from public.api_keys as k
    where k.created_by_key = maker.id and k.org_id = maker.org_id
    order by k.created_at, k.id
    for no key update
  loop
    perform private.api_keys_narrow(key, private.api_keys_entries(maker.permissions), key.user_id);
  end loop;
end
$$;
comment on function private.api_keys_narrow_made(public.api_keys) is 'Cuts the keys that a key has made down to its permissions. Called by definer functions only.';

create function private.api_keys_on_membership_end() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  held text[];
  key public.api_keys;
begin
  -- With their organization all keys are deleted.
  if not exists (select 1 from public.organizations as o where o.id = old.org_id) then
    return old;
  end if;
  delete from public.api_keys as k where k.org_id = old.org_id and k.user_id = old.user_id and k.kind = 'personal';
  held := array(select private.tenancy_role_permissions(old.role, old.custom_role_id));
  for key in
    select k.* from public.api_keys as k
    where k.org_id = old.org_id and k.user_id = old.user_id
    order by k.created_at, k.id
    for no key update
  loop
    perform private.api_keys_narrow(key, held, null);
  end loop;
  return old;
end
$$;
comment on function private.api_keys_on_membership_end() is 'Trigger: with a membership end the member''s personal keys. Other keys go on with the permissions that the member held. Definer: the keys of a member are not the caller''s.';
-- Before the foreign key of api_keys sets user_id to null.
create trigger memberships_api_keys before delete on public.memberships
  for each row execute function private.api_keys_on_membership_end();

create function private.api_keys_on_user_banned() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  key public.api_keys;
begin
  for key in
    select k.* from public.api_keys as k
    where k.user_id = new.id and k.kind = 'personal'
    order by k.created_at, k.id
    for no key update
  loop
    perform private.api_keys_push(key);
  end loop;
  return null;
end
$$;
comment on function private.api_keys_on_user_banned() is 'Trigger: a ban suspends the user''s personal keys until it ends or is lifted. Definer: the login role may write auth only.';
create trigger kijko_user_banned_api_keys after update on auth.users
  for each row when (old.banned_until is distinct from new.banned_until)
  execute function private.api_keys_on_user_banned();
