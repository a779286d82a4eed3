-- ============================================================================
-- Tenancy: what the caller may see and do, and the policies.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Membership helpers
--
-- Definer: the policies of memberships call them, and would otherwise recurse. Owned by postgres, never by a superuser. They
-- read by the statement's own snapshot; only plans are cached. has_role and can only ask the others, so they are not definer.
-- They are plpgsql because nearly every statement calls one. Postgres plans the query of a language sql function in each
-- statement, and keeps the plan of a plpgsql function: 39 us of a GET of one row became 11. The "set" clause costs 2 of these.
-- Without it the plan would be discarded whenever the search_path differs from that of the call before.
-- An API key is no membership: where one calls, functions of the domain api_keys answer, within the key's permissions.
-- A membership that requires a second factor (mfa_required) does not count while the token lacks it, and one that requires the
-- organization's issuer (sso_required) never: here and in org_id().
-- "(select kijko.user_id())" is evaluated once. Bare, each row of a scan evaluates it (200 rows: 0.77 ms instead of 0.05).
-- ----------------------------------------------------------------------------

create function public.org_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 5 set search_path = ''
as $$
begin
  if kijko.api_key_id() is not null then
    return query select (kijko.actor()).org_id;
    return;
  end if;
  return query
  select m.org_id from public.memberships as m
  where m.user_id = (select kijko.user_id()) and not m.sso_required and (not m.mfa_required or (select kijko.claim('aal')) in ('aal2', 'aal3'));
end
$$;
comment on function public.org_ids() is 'Organizations of the caller: of an API key its own; none for an unauthenticated caller. Definer: policies of memberships use it.';
grant execute on function public.org_ids() to authenticated, service_role;

create function private.tenancy_granted_by(permission text) returns text[]
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    (select array_remove(array[p.permission, p.wildcard], null) from private.permissions as p where p.permission = tenancy_granted_by.permission), '{}'
  );
end
$$;
comment on function private.tenancy_granted_by(text) is 'The entries of the list of a custom role or API key that grant the permission: {content:read,*:read}. Empty for an unknown permission. Called by definer functions only.';

create function private.org_ids_with(permission text) returns setof uuid
language plpgsql stable parallel safe security definer rows 5 set search_path = pg_catalog, pg_temp
as $$
begin
  if kijko.api_key_id() is not null then
    return query select k.org_id from private.api_keys_org_with(permission) as k (org_id);
    return;
  end if;
  return query
  select m.org_id
  from public.memberships as m
  join private.role_permissions as rp on rp.holder = coalesce(m.custom_role_id::text, m.role) and rp.permission = org_ids_with.permission
  where m.user_id = (select kijko.user_id()) and not m.sso_required and (not m.mfa_required or (select kijko.claim('aal')) in ('aal2', 'aal3'));
end
$$;
comment on function private.org_ids_with(text) is 'Organizations in which the caller holds the permission, by a built-in or a custom role, or as an API key. Definer: policies use it, and role_permissions is private.';
grant execute on function private.org_ids_with(text) to authenticated, service_role;

create function private.tenancy_org_ids_as(role text) returns setof uuid
language plpgsql stable parallel safe security definer rows 5 set search_path = ''
as $$
begin
  if kijko.api_key_id() is not null then
    return query select k.org_id from private.api_keys_org_as(role) as k (org_id);
    return;
  end if;
  return query
  select m.org_id
  from public.memberships as m
  join private.roles as mine on mine.role = m.role
  join private.roles as wanted on wanted.role = tenancy_org_ids_as.role
  where m.user_id = (select kijko.user_id()) and mine.rank >= wanted.rank and not m.sso_required and (not m.mfa_required or (select kijko.claim('aal')) in ('aal2', 'aal3'));
end
$$;
comment on function private.tenancy_org_ids_as(text) is 'Organizations in which the caller has at least the role. An API key has it if it holds every permission of the role. Definer: policies of memberships use it.';
grant execute on function private.tenancy_org_ids_as(text) to authenticated, service_role;

create function private.tenancy_person_id() returns uuid
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
begin
  return case when caller.kind = 'user' then caller.user_id end;
end
$$;
comment on function private.tenancy_person_id() is 'The user who calls as a person; null for API keys, also for a personal one, whose owner kijko.user_id() returns. For what belongs to the person: profile, own membership, active organization. Nullable: result.';
grant execute on function private.tenancy_person_id() to authenticated, service_role;

create function private.tenancy_colleague_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 20 set search_path = pg_catalog, pg_temp
as $$
declare
  -- Set by explain_access() while an organization asks about a user: what the user sees elsewhere is not the organization's to know. It only
  -- narrows, so nothing is gained by setting it.
  examined constant uuid := nullif(current_setting('kijko_support.org_id', true), '')::uuid;
begin
  return query
  select private.tenancy_person_id()
  union
  select theirs.user_id
  from public.memberships as theirs
  where theirs.org_id = any (array(select private.org_ids_with('members:read')))
    and (examined is null or theirs.org_id = examined);
end
$$;
comment on function private.tenancy_colleague_ids() is 'The caller as a person, and the members of all organizations in which the caller holds members:read; of one while explain_access() asks for it. Definer: the policy of profiles uses it.';
grant execute on function private.tenancy_colleague_ids() to authenticated, service_role;

create function public.has_role(org uuid, role text) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
begin
  return exists (
    select 1 from private.tenancy_org_ids_as(has_role.role) as mine (org_id) where mine.org_id = has_role.org
  );
end
$$;
comment on function public.has_role(uuid, text) is 'Whether the caller has at least this role in the organization; false for null or unknown arguments.';
grant execute on function public.has_role(uuid, text) to authenticated, service_role;

create function public.can(org uuid, permission text) returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
begin
  return exists (
    select 1 from private.org_ids_with(can.permission) as mine (org_id) where mine.org_id = can.org
  );
end
$$;
comment on function public.can(uuid, text) is 'Whether the caller holds the permission in the organization; false for null or unknown arguments.';
grant execute on function public.can(uuid, text) to authenticated, service_role;

-- The only function that decides in which organization a request works. In plpgsql for its cached plan: a column default is
-- evaluated for every row of an insert.
create function public.org_id() returns uuid
language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant uuid := kijko.user_id();
  requested constant uuid := kijko.requested_org_id();
begin
  if kijko.api_key_id() is not null then
    return (select k.org_id from kijko.actor() as k where requested is null or requested = k.org_id);
  end if;
  return (
    select m.org_id
    from public.memberships as m
    where m.user_id = caller
      and not m.sso_required and (not m.mfa_required or (select kijko.claim('aal')) in ('aal2', 'aal3'))
      and m.org_id = coalesce(requested, (select a.active_org_id from private.active_organizations as a where a.user_id = caller))
  );
end
$$;
comment on function public.org_id() is 'The organization in which the request works: of an API key its own; else header x-org-id, else claim org_id, else the active one. Null unless the caller is a member, whose session has the second factor or comes by the issuer that the organization may require, and for a key whose request names another organization. Nullable: result. Definer: reads memberships for column defaults.';
grant execute on function public.org_id() to authenticated, service_role;

-- PostgREST serves it as a computed column of profiles: select=id,active_org_id.
create function public.active_org_id(profile public.profiles) returns uuid
language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select a.active_org_id
    from private.active_organizations as a
    where a.user_id = profile.id and profile.id = (select private.tenancy_person_id())
  );
end
$$;
comment on function public.active_org_id(public.profiles) is 'The active organization in the caller''s own profile; null in all other profiles. Definer: the table behind it is private. Nullable: result.';
grant execute on function public.active_org_id(public.profiles) to authenticated;

create function private.tenancy_require_user() returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  caller constant kijko.caller := kijko.actor();
begin
  if caller.kind in ('anonymous', 'none') then
    perform kijko.fail('not_identified');
  elsif caller.kind <> 'user' then
    perform kijko.fail('permission_denied', 'not for API keys', 'Sign in as a user.');
  end if;
  return caller.user_id;
end
$$;
comment on function private.tenancy_require_user() is 'The user who calls. Fails with not_identified without one, and with permission_denied for an API key. For functions about the caller as a person.';

create function private.tenancy_require_caller() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if (kijko.actor()).kind in ('anonymous', 'none') then
    perform kijko.fail('not_identified');
  end if;
end
$$;
comment on function private.tenancy_require_caller() is 'Fails with not_identified without a user or API key. For functions that check permissions themselves.';

create function private.tenancy_require_org() returns uuid
language plpgsql stable set search_path = ''
as $$
declare
  org uuid := public.org_id();
begin
  if org is null then
    perform private.tenancy_refuse_closed();
    perform kijko.fail('not_a_member', 'the caller is not a member of the organization of the request');
  end if;
  return org;
end
$$;
comment on function private.tenancy_require_org() is 'The organization of the request. Fails with not_a_member without one, and with insufficient_aal or sso_required if the session lacks what it requires.';

create function private.tenancy_require_org_with(permission text) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid := private.tenancy_require_org();
begin
  if public.can(org, tenancy_require_org_with.permission) is not true then
    perform kijko.fail('permission_denied', format('requires the permission %s', tenancy_require_org_with.permission));
  end if;
  return org;
end
$$;
comment on function private.tenancy_require_org_with(text) is 'The organization of the request. Fails with not_a_member without one, and with permission_denied if the caller does not hold the permission there.';

-- ----------------------------------------------------------------------------
-- What grants compare with: nobody gives a role with a permission that they lack
-- ----------------------------------------------------------------------------

create function private.tenancy_list_permissions(entries text[]) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select p.permission from private.permissions as p where p.permission = any (entries) or p.wildcard = any (entries)
$$;
comment on function private.tenancy_list_permissions(text[]) is 'Every permission that the list of a custom role or API key grants, wildcards expanded.';

create function private.tenancy_role_permissions(role text, custom_role_id uuid) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select rp.permission
  from private.role_permissions as rp
  where rp.holder = coalesce(tenancy_role_permissions.custom_role_id::text, tenancy_role_permissions.role)
$$;
comment on function private.tenancy_role_permissions(text, uuid) is 'Every permission of a custom role, wildcards expanded; of the built-in role if there is none. Nothing for unknown roles.';

create function private.tenancy_member_permissions(member uuid, org uuid) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select array(
    select p.permission
    from public.memberships as m
    cross join lateral private.tenancy_role_permissions(m.role, m.custom_role_id) as p (permission)
    where m.user_id = member and m.org_id = org
  )
$$;
comment on function private.tenancy_member_permissions(uuid, uuid) is 'Every permission that a user holds in the organization; empty for a non-member.';

create function private.tenancy_caller_permissions(org uuid) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if kijko.api_key_id() is not null then
    return private.api_keys_held(org);
  end if;
  return private.tenancy_member_permissions(kijko.user_id(), org);
end
$$;
comment on function private.tenancy_caller_permissions(uuid) is 'Every permission that the caller of this request holds in the organization, wildcards expanded; empty for a non-member. Called by definer functions only.';

create function private.tenancy_missing_permissions(held text[], wanted text[]) returns text[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$ select array(select w.permission from unnest(wanted) as w (permission) except select h.permission from unnest(held) as h (permission) order by 1) $$;
comment on function private.tenancy_missing_permissions(text[], text[]) is 'The wanted permissions that are not held, sorted.';

create function private.tenancy_check_grant(org uuid, role text, permissions text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  missing text[];
begin
  -- Not a request, or one of the back office.
  if (kijko.actor()).kind in ('none', 'service') then
    return;
  end if;
  missing := private.tenancy_missing_permissions(private.tenancy_caller_permissions(org), permissions);
  if cardinality(missing) > 0 then
    perform kijko.fail('permission_denied', format('you lack permissions of the role: %s', array_to_string(missing, ', ')));
  elsif not public.has_role(org, tenancy_check_grant.role) and exists (select 1 from private.roles as r where r.role = tenancy_check_grant.role) then
    perform kijko.fail('permission_denied', format('the role %s is above your own', tenancy_check_grant.role));
  end if;
end
$$;
comment on function private.tenancy_check_grant(uuid, text, text[]) is 'Fails with permission_denied unless the caller holds these permissions in the organization and has at least the role. Volatile: it sees the caller''s role as it is now, also when the statement waited.';

create function private.tenancy_may_grant_role(grantor uuid, org uuid, role text, custom_role_id uuid default null) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  held constant text[] := private.tenancy_member_permissions(grantor, org);
begin
  return 'members:write' = any (held)
    and exists (
      select 1
      from public.memberships as m
      join private.roles as mine on mine.role = m.role
      join private.roles as granted on granted.role = tenancy_may_grant_role.role and granted.rank <= mine.rank
      where m.user_id = grantor and m.org_id = org
    )
    and (
      tenancy_may_grant_role.custom_role_id is null
      or exists (
        select 1 from public.custom_roles as r
        where r.id = tenancy_may_grant_role.custom_role_id and r.org_id = org and r.base_role = tenancy_may_grant_role.role
      )
    )
    and array(select private.tenancy_role_permissions(tenancy_may_grant_role.role, tenancy_may_grant_role.custom_role_id)) <@ held;
end
$$;
comment on function private.tenancy_may_grant_role(uuid, uuid, text, uuid) is 'Whether the user holds members:write in the organization and every permission of the role, and the role (of a custom one the base role) is not above their own; false for null or unknown arguments.';

-- Not in create table: the function reads memberships.
alter table public.memberships alter column org_id set default public.org_id();
alter table public.custom_roles alter column org_id set default public.org_id();

-- ----------------------------------------------------------------------------
-- Policies
-- ----------------------------------------------------------------------------

create policy organizations_select on public.organizations for select to authenticated
  using (id = any (array(select private.org_ids_with('organization:read'))));
create policy organizations_update on public.organizations for update to authenticated
  using (id = any (array(select private.org_ids_with('organization:write'))))
  with check (id = any (array(select private.org_ids_with('organization:write'))));
create policy organizations_delete on public.organizations for delete to authenticated
  using (id = any (array(select private.org_ids_with('organization:delete'))));

create policy memberships_select on public.memberships for select to authenticated
  using (org_id = any (array(select private.org_ids_with('members:read'))));
-- Who manages members changes and removes those up to their own role: only owners touch owners. What a role may hold that
-- somebody gives is checked by the trigger memberships_guard.
create policy memberships_update on public.memberships for update to authenticated
  using (
    org_id = any (array(select private.org_ids_with('members:write')))
    and case role
      when 'owner' then org_id = any (array(select private.tenancy_org_ids_as('owner')))
      when 'admin' then org_id = any (array(select private.tenancy_org_ids_as('admin')))
      when 'member' then org_id = any (array(select private.tenancy_org_ids_as('member')))
      else true
    end
  )
  with check (
    org_id = any (array(select private.org_ids_with('members:write')))
    and (role <> 'owner' or org_id = any (array(select private.tenancy_org_ids_as('owner'))))
  );
-- Each member may leave. A trigger keeps the last owner.
create policy memberships_delete on public.memberships for delete to authenticated
  using (
    user_id = (select private.tenancy_person_id())
    or (
      org_id = any (array(select private.org_ids_with('members:write')))
      and case role
        when 'owner' then org_id = any (array(select private.tenancy_org_ids_as('owner')))
        when 'admin' then org_id = any (array(select private.tenancy_org_ids_as('admin')))
        when 'member' then org_id = any (array(select private.tenancy_org_ids_as('member')))
        else true
      end
    )
  );

create policy profiles_select on public.profiles for select to authenticated
  using (id = any (array(select private.tenancy_colleague_ids())));
create policy profiles_insert on public.profiles for insert to authenticated
  with check (id = (select private.tenancy_person_id()));
create policy profiles_update on public.profiles for update to authenticated
  using (id = (select private.tenancy_person_id()))
  with check (id = (select private.tenancy_person_id()));
