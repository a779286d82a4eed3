-- ============================================================================
-- Tenancy: the functions that clients call.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

-- An organization has a plan, and with it uses of models: who signs up without an address can do that without end.
create function private.tenancy_require_address(person uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select 1 from auth.users as u
    where u.id = person and not u.is_anonymous and coalesce(u.email_confirmed_at, u.phone_confirmed_at) is not null
  ) then
    perform kijko.fail('permission_denied', 'the caller has no confirmed address', 'Confirm an address first.');
  end if;
end
$$;
comment on function private.tenancy_require_address(uuid) is 'Refuses anonymous and unconfirmed users with permission_denied. Definer: users cannot read auth.users.';

create function public.create_organization(name text) returns public.organizations
language plpgsql security definer set search_path = ''
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  perform private.require_name(create_organization.name);
  -- Lock order: users, then organizations. The new row's foreign key would lock the user last.
  perform 1 from auth.users as u where u.id = me for key share;
  perform private.tenancy_require_address(me);
  return private.tenancy_create_organization(me, btrim(create_organization.name), false);
end
$$;
comment on function public.create_organization(text) is 'Creates an organization on the FREE plan, with the caller as its owner. Definer: users cannot insert organizations and memberships.';
grant execute on function public.create_organization(text) to authenticated;

create type public.active_organization as (user_id uuid, active_org_id uuid);
comment on type public.active_organization is 'Result of set_active_organization().';

create function public.set_active_organization(org_id uuid) returns public.active_organization
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  active public.active_organization;
begin
  insert into private.active_organizations as a (user_id, active_org_id)
  select m.user_id, m.org_id
  from public.memberships as m
  where m.user_id = me and m.org_id = set_active_organization.org_id
  on conflict (user_id) do update set active_org_id = excluded.active_org_id
  returning a.user_id, a.active_org_id into active;
  if active.user_id is null then
    perform kijko.fail('not_a_member', 'org_id: not an organization of the caller');
  end if;
  return active;
end
$$;
comment on function public.set_active_organization(uuid) is 'Sets the organization for requests that name none. Definer: the table of active organizations is private.';
grant execute on function public.set_active_organization(uuid) to authenticated;

create function public.leave_organization(org_id uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  delete from public.memberships as m where m.org_id = leave_organization.org_id and m.user_id = me;
  if not found then
    perform kijko.fail('not_a_member', 'org_id: not an organization of the caller');
  end if;
end
$$;
comment on function public.leave_organization(uuid) is 'Ends the caller''s membership. Fails with conflict for the last owner. Definer: also for members without members:read.';
grant execute on function public.leave_organization(uuid) to authenticated;

create function public.transfer_ownership(org_id uuid, user_id uuid) returns public.memberships
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  new_owner public.memberships;
begin
  if not public.has_role(transfer_ownership.org_id, 'viewer') then
    perform kijko.fail('not_a_member', 'org_id: not an organization of the caller');
  end if;
  if public.has_role(transfer_ownership.org_id, 'owner') then
    -- Memberships before the organization, as a statement that changes or deletes one locks them.
    perform 1 from public.memberships as m
    where m.org_id = transfer_ownership.org_id and m.user_id in (me, transfer_ownership.user_id)
    order by m.id
    for update;
    -- This lock serializes transfers; the caller's role is checked after it.
    perform 1 from public.organizations as o where o.id = transfer_ownership.org_id for no key update;
  end if;
  if not public.has_role(transfer_ownership.org_id, 'owner') then
    perform kijko.fail('permission_denied', 'only an owner can transfer ownership');
  end if;
  if transfer_ownership.user_id = me then
    perform kijko.fail('conflict', 'you are an owner already');
  end if;
  if private.tenancy_can_sign_in(transfer_ownership.user_id) is not true
    and exists (select 1 from public.memberships as m where m.org_id = transfer_ownership.org_id and m.user_id = transfer_ownership.user_id)
  then
    perform kijko.fail('conflict', 'that member cannot sign in: banned, or anonymous');
  end if;
  update public.memberships as m set role = 'owner'
  where m.org_id = transfer_ownership.org_id and m.user_id = transfer_ownership.user_id
  returning m.* into new_owner;
  if new_owner.id is null then
    perform kijko.fail('not_found', 'user_id: not a member', 'Invite the user first.');
  end if;
  update public.memberships as m set role = 'admin' where m.org_id = transfer_ownership.org_id and m.user_id = me;
  return new_owner;
end
$$;
comment on function public.transfer_ownership(uuid, uuid) is 'Makes a member the owner, and the caller, who is an owner, an admin. Returns the new owner''s membership. Definer: a change of two rows at once.';
grant execute on function public.transfer_ownership(uuid, uuid) to authenticated;
