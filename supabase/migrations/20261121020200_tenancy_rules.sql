-- ============================================================================
-- Tenancy: rules of the tables, kept by triggers.
-- ============================================================================

create trigger organizations_touch before update on public.organizations
  for each row execute function private.touch_updated_at();
-- personal_for can become null, and never a user again.
create trigger organizations_identity before update of id, created_by, personal_for on public.organizations
  for each row when (
    old.id is distinct from new.id
    or (new.created_by is not null and old.created_by is distinct from new.created_by)
    or (new.personal_for is not null and old.personal_for is distinct from new.personal_for)
  ) execute function private.refuse_identity_change();

create trigger organizations_keep_platform before delete on public.organizations
  for each row when (old.id = kijko.platform_org_id())
  execute function private.refuse_change('the organization of the platform cannot be deleted');

create function private.tenancy_fill_slug() returns trigger
language plpgsql set search_path = ''
as $$
begin
  -- Slugs are unique over all tenants. A slug from the name alone would reveal whether another tenant has that name.
  if coalesce(new.slug, '') = '' then
    new.slug := private.slugify(new.name) || '-' || left(gen_random_uuid()::text, 8);
  end if;
  return new;
end
$$;
comment on function private.tenancy_fill_slug() is 'Trigger: derives the slug from the name, with a random suffix, when none is given.';
create trigger organizations_slug before insert on public.organizations
  for each row execute function private.tenancy_fill_slug();

create trigger memberships_touch before update on public.memberships
  for each row execute function private.touch_updated_at();
create trigger memberships_identity before update of id, org_id, user_id, created_by on public.memberships
  for each row when (
    old.id is distinct from new.id
    or old.org_id is distinct from new.org_id
    or old.user_id is distinct from new.user_id
    or (new.created_by is not null and old.created_by is distinct from new.created_by)
  ) execute function private.refuse_identity_change();

-- Which of role and custom_role_id a statement names decides, and triggers of one event run in the order of their names:
--   1. A statement that names a custom role does not name a built-in one. Null in role stands for "the base role".
--   2. A statement that names only a role gives the built-in one, and ends the custom role.
--   3. The base role fills role.
create function private.tenancy_choose_custom_role() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.role := null;
  return new;
end
$$;
comment on function private.tenancy_choose_custom_role() is 'Trigger: the statement gives a custom role, whose base role replaces the role.';
create trigger memberships_assign_1 before insert or update of custom_role_id on public.memberships
  for each row when (new.custom_role_id is not null) execute function private.tenancy_choose_custom_role();

create function private.tenancy_choose_built_in_role() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.custom_role_id := null;
  return new;
end
$$;
comment on function private.tenancy_choose_built_in_role() is 'Trigger: the statement gives a built-in role, which ends the custom role.';
create trigger memberships_assign_2 before update of role on public.memberships
  for each row when (new.role is not null and new.custom_role_id is not null) execute function private.tenancy_choose_built_in_role();

create function private.tenancy_fill_base_role() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Waits for a change of the role, so that the checks that follow see its latest permissions.
  select r.base_role into new.role
  from public.custom_roles as r
  where r.org_id = new.org_id and r.id = new.custom_role_id
  for share;
  if not found then
    perform kijko.fail('invalid_input', 'custom_role_id: no custom role of this organization');
  end if;
  return new;
end
$$;
comment on function private.tenancy_fill_base_role() is 'Trigger: the role of a row with a custom role is that role''s base role. Definer: the caller may not see roles.';
create trigger memberships_assign_3 before insert or update of role, custom_role_id on public.memberships
  for each row when (new.role is null and new.custom_role_id is not null) execute function private.tenancy_fill_base_role();

create function private.tenancy_can_sign_in(member uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select 1 from auth.users as u
    where u.id = member and u.deleted_at is null and not u.is_anonymous and (u.banned_until is null or u.banned_until <= kijko.now())
  )
$$;
comment on function private.tenancy_can_sign_in(uuid) is 'Whether the user exists, and is neither softly deleted, banned now nor anonymous: whoever signed in anonymously cannot do so again. When one statement deletes several users, the memberships of those that are gone exist until its end.';

create function private.tenancy_lock_owners(org uuid, leaving uuid) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- The lock serializes owners who leave, are demoted or banned at once; otherwise each would see the other as the remaining one.
  perform 1 from public.organizations as o where o.id = org for no key update;
  if not found then
    return false;
  end if;
  -- The policy asked before the wait, in which the caller may have ceased to be an owner.
  if (kijko.actor()).kind not in ('none', 'service') and leaving is distinct from private.tenancy_person_id() and not public.has_role(org, 'owner') then
    perform kijko.fail('permission_denied', 'only an owner changes or removes an owner');
  end if;
  return true;
end
$$;
comment on function private.tenancy_lock_owners(uuid, uuid) is 'Locks the owners of an organization against others who leave, are demoted or banned at once; false if the organization is being deleted with its members. Fails with permission_denied if the caller is no owner and another one leaves. To be called in a statement of its own: only the next one sees what was committed during the wait.';

create function private.tenancy_keep_owner(org uuid, leaving uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  others boolean;
  others_sign_in boolean;
begin
  if not private.tenancy_lock_owners(org, leaving) then
    return;
  end if;
  select count(*) > 0, coalesce(bool_or(private.tenancy_can_sign_in(m.user_id)), false) into others, others_sign_in
  from public.memberships as m
  where m.org_id = org and m.role = 'owner' and m.user_id <> leaving;
  -- An owner who cannot sign in may go when others remain: that leaves no fewer owners who can.
  if not others_sign_in and (not others or private.tenancy_can_sign_in(leaving)) then
    perform kijko.fail(
      'conflict', 'an organization needs at least one owner who can sign in', 'Make another member an owner first, or delete the organization.'
    );
  end if;
end
$$;
comment on function private.tenancy_keep_owner(uuid, uuid) is 'Fails with conflict if the organization would lose the last owner who can sign in, or its last owner; with permission_denied if the caller is no owner and another one leaves.';

create function private.tenancy_guard_memberships() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' and row(new.role, new.custom_role_id) is distinct from row(old.role, old.custom_role_id) then
    perform private.tenancy_check_grant(new.org_id, new.role, array(select private.tenancy_role_permissions(new.role, new.custom_role_id)));
  end if;

  if old.role = 'owner' and (tg_op = 'DELETE' or new.role <> 'owner') then
    perform private.tenancy_keep_owner(old.org_id, old.user_id);
  end if;

  if tg_op = 'DELETE' then
    return old;
  end if;
  return new;
end
$$;
comment on function private.tenancy_guard_memberships() is 'Trigger: keeps the last owner, and refuses users who give a role with a permission that they lack, to themselves too. Definer: it counts and locks rows that the caller may not see or change.';
create trigger memberships_guard before update of role, custom_role_id or delete on public.memberships
  for each row execute function private.tenancy_guard_memberships();

-- A BEFORE trigger: the insert's foreign key takes a share lock on the organization. Two concurrent joins that both upgrade
-- that lock would deadlock.
create function private.tenancy_end_personal_organization() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.organizations as o set personal_for = null
  where o.id = new.org_id and o.personal_for <> new.user_id;
  return new;
end
$$;
comment on function private.tenancy_end_personal_organization() is 'Trigger: ends a personal organization when a second user joins, so that it is not deleted with its first user. Definer: the new member may not update organizations.';
create trigger memberships_end_personal before insert on public.memberships
  for each row execute function private.tenancy_end_personal_organization();

create function private.tenancy_fill_active_org() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  member constant uuid := case tg_op when 'INSERT' then new.user_id else old.user_id end;
begin
  -- If the deleted membership was the active one, a foreign key has already deleted the row. Nothing here waits for another
  -- transaction, or two deletions of organizations with common members could deadlock: one that deletes what is active gives
  -- the member another, and a membership that is being deleted is not chosen.
  if exists (select from private.active_organizations as a where a.user_id = member) then
    return null;
  end if;
  insert into private.active_organizations (user_id, active_org_id)
  select m.user_id, m.org_id
  from public.memberships as m
  join public.organizations as o on o.id = m.org_id
  where m.user_id = member
  order by o.personal_for is not null desc, m.created_at, m.org_id
  limit 1
  for key share of m skip locked
  on conflict (user_id) do nothing;
  return null;
end
$$;
comment on function private.tenancy_fill_active_org() is 'Trigger: gives a member of any organization an active one. Definer: the table is private.';
create trigger memberships_fill_active_org after insert or delete on public.memberships
  for each row execute function private.tenancy_fill_active_org();

create trigger profiles_touch before update on public.profiles
  for each row execute function private.touch_updated_at();
create trigger profiles_identity before update of id on public.profiles
  for each row when (old.id is distinct from new.id)
  execute function private.refuse_identity_change();
