-- ============================================================================
-- Tenancy: organizations that require a second factor of their members. What a session without one sees is decided by the
-- membership helpers (tenancy_access.sql).
-- ============================================================================

create function private.tenancy_refuse_closed() returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.tenancy_person_id();
  membership public.memberships;
begin
  select m.* into membership from public.memberships as m
  where m.user_id = person
    and m.org_id = coalesce(kijko.requested_org_id(), (select a.active_org_id from private.active_organizations as a where a.user_id = person));
  if membership.sso_required then
    perform kijko.fail('sso_required', 'the organization requires its own login server', 'Sign in there.');
  elsif membership.mfa_required then
    perform kijko.fail('insufficient_aal', 'the organization requires a second factor', 'Verify the second factor and repeat the request.');
  end if;
end
$$;
comment on function private.tenancy_refuse_closed() is 'For a request without public.org_id(): fails with sso_required or insufficient_aal if the caller is a member of the organization that it names, which is closed to this session only. Definer: reads memberships.';
grant execute on function private.tenancy_refuse_closed() to authenticated, service_role;

-- Only a session with a second factor may change it. An API key may not.
create function private.tenancy_guard_mfa_required() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kind constant text := (kijko.actor()).kind;
begin
  if kind in ('none', 'service') then
    return new;
  elsif kind <> 'user' then
    perform kijko.fail('permission_denied', 'mfa_required: not for API keys', 'Sign in as a user.');
  elsif (kijko.claim('aal') in ('aal2', 'aal3')) is not true then
    perform kijko.fail('insufficient_aal', 'mfa_required: needs a session with the second factor', 'Verify a second factor and repeat the request.');
  end if;
  return new;
end
$$;
comment on function private.tenancy_guard_mfa_required() is 'Trigger: only a user whose session has a second factor, the back office or an operator says whether an organization requires one.';
create trigger organizations_mfa_guard before update of mfa_required on public.organizations
  for each row when (old.mfa_required <> new.mfa_required) execute function private.tenancy_guard_mfa_required();

create function private.tenancy_must_have_factor(person uuid) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select exists (select 1 from public.memberships as m where m.user_id = person and m.mfa_required) $$;
comment on function private.tenancy_must_have_factor(uuid) is 'Whether an organization of the user requires a second factor. Called by login. Definer: the login role may write auth only.';
do $$
begin
  if to_regrole('supabase_auth_admin') is not null then
    grant execute on function private.tenancy_must_have_factor(uuid) to supabase_auth_admin;
  end if;
end
$$;

create function private.tenancy_push_mfa_required() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The organization is locked already, and whoever changes a membership locks it the other way round: nothing waits here.
  update public.memberships as m set mfa_required = new.mfa_required
  where m.id = any (array(
    select k.id from public.memberships as k where k.org_id = new.id and k.mfa_required <> new.mfa_required for no key update skip locked
  ));
  if exists (select 1 from public.memberships as m where m.org_id = new.id and m.mfa_required <> new.mfa_required) then
    perform kijko.fail('conflict', 'mfa_required: a member is being changed', 'Repeat the request.');
  end if;
  return null;
end
$$;
comment on function private.tenancy_push_mfa_required() is 'Trigger: copies mfa_required to the memberships. Fails with conflict while one of them is being changed. Definer: users cannot write the column.';
create trigger organizations_mfa_push after update of mfa_required on public.organizations
  for each row when (old.mfa_required <> new.mfa_required) execute function private.tenancy_push_mfa_required();

create function private.tenancy_fill_mfa_required() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Waits for a change of it, which does not see this row. The lock is the one that others take later, so that none is upgraded.
  if tg_op = 'INSERT' then
    perform 1 from public.organizations as o where o.id = new.org_id for no key update;
  end if;
  new.mfa_required := coalesce((select o.mfa_required from public.organizations as o where o.id = new.org_id), false);
  return new;
end
$$;
comment on function private.tenancy_fill_mfa_required() is 'Trigger: mfa_required of a membership is that of its organization, whatever a statement says. Definer: the new member may not see the organization.';
-- Its name sorts after memberships_end_personal, which takes the same lock.
create trigger memberships_mfa before insert or update of mfa_required on public.memberships
  for each row execute function private.tenancy_fill_mfa_required();
