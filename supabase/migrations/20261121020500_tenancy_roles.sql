-- ============================================================================
-- Tenancy: the custom roles of an organization.
--
-- Nobody creates, changes or deletes a role with a permission that they lack (custom_roles_guard), or assigns it
-- (memberships_guard, private.tenancy_may_grant_role). So nobody gets more than somebody had, whatever they combine.
-- ============================================================================

select private.make_tenant_table('public.custom_roles', resource => 'roles', max_rows => 100, catalogue => '{
  "name, description": "what members call the role",
  "base_role, permissions": "what its members may do"
}');

create function private.tenancy_normalize_permissions() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  unknown text;
begin
  -- Before the list is read: the check of the table sees it without repetitions.
  if cardinality(new.permissions) > 200 then
    perform kijko.fail('invalid_input', 'permissions: at most 200');
  end if;
  select e.entry into unknown
  from unnest(new.permissions) as e (entry)
  where e.entry is null
    or not exists (select 1 from private.permissions as p where p.permission = e.entry or p.wildcard = e.entry)
  limit 1;
  if found then
    perform kijko.fail('invalid_input', format('permissions: unknown: %s', coalesce(left(unknown, 80), 'null')), 'permissions() lists those that exist.');
  end if;
  new.permissions := array(select distinct e.entry from unnest(new.permissions) as e (entry) order by e.entry);
  return new;
end
$$;
comment on function private.tenancy_normalize_permissions() is 'Trigger: refuses unknown permissions; sorts the others and drops repetitions. Definer: the catalogue is private.';
-- Before custom_roles_guard: triggers of one event run in the order of their names.
create trigger custom_roles_entries before insert or update of permissions on public.custom_roles
  for each row execute function private.tenancy_normalize_permissions();

create function private.tenancy_guard_custom_roles() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    if not exists (select 1 from public.organizations as o where o.id = old.org_id) then
      return old; -- it is being deleted with everything that it has
    end if;
    -- The row is locked: who assigns the role has finished, or waits and will not find it.
    if exists (select 1 from public.memberships as m where m.org_id = old.org_id and m.custom_role_id = old.id) then
      perform kijko.fail(
        'conflict',
        format('members who have the role: %s', (select count(*) from public.memberships as m where m.org_id = old.org_id and m.custom_role_id = old.id)),
        'Give them another role first.'
      );
    end if;
  end if;
  if tg_op <> 'INSERT' then
    perform private.tenancy_check_grant(old.org_id, old.base_role, array(select private.tenancy_list_permissions(old.permissions)));
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;
  perform private.tenancy_check_grant(new.org_id, new.base_role, array(select private.tenancy_list_permissions(new.permissions)));
  return new;
end
$$;
comment on function private.tenancy_guard_custom_roles() is 'Trigger: refuses users who create, change or delete a role with a permission that they lack, and the deletion of a role that members have. Definer: it reads rows that the caller may not see.';
create trigger custom_roles_guard before insert or delete or update of name, description, base_role, permissions on public.custom_roles
  for each row execute function private.tenancy_guard_custom_roles();

create function private.tenancy_expand_custom_role() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.role_permissions as rp
  where rp.custom_role_id = new.id and rp.permission not in (select private.tenancy_list_permissions(new.permissions));
  insert into private.role_permissions (custom_role_id, permission)
  select new.id, p.permission from private.tenancy_list_permissions(new.permissions) as p (permission)
  on conflict do nothing;
  return null;
end
$$;
comment on function private.tenancy_expand_custom_role() is 'Trigger: writes the permissions of a custom role in full. Definer: the table is private.';
create trigger custom_roles_expand after insert or update of permissions on public.custom_roles
  for each row execute function private.tenancy_expand_custom_role();

create function private.tenancy_expand_wildcard() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.role_permissions (custom_role_id, permission)
  select r.id, new.permission from public.custom_roles as r where new.wildcard = any (r.permissions)
  on conflict do nothing;
  return null;
end
$$;
comment on function private.tenancy_expand_wildcard() is 'Trigger: a new permission counts for the custom roles that hold its wildcard. Definer: custom roles are tenants'' rows.';
create trigger permissions_expand after insert on private.permissions
  for each row when (new.wildcard is not null) execute function private.tenancy_expand_wildcard();

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.permissions() returns table (permission text, description text, wildcard text)
language sql stable parallel safe security definer rows 40 set search_path = pg_catalog, pg_temp
as $$ select p.permission, p.description, p.wildcard from private.permissions as p order by p.permission $$;
comment on function public.permissions() is 'The catalogue of permissions, for an editor of roles and keys. wildcard is the entry (*:read or *:write) that grants it, too; null if it is granted by name only. Nullable: wildcard. Definer: the catalogue is private.';
grant execute on function public.permissions() to authenticated, service_role;
