-- ============================================================================
-- Issuers: organizations that require their own issuer of their members (sso_required).
--
--   1. memberships.sso_required says that a membership is closed. The membership helpers (tenancy_access.sql) leave it out. Open are the
--      memberships of users who came by an issuer, who cannot sign in otherwise, and those of break-glass owners.
--   2. A break-glass owner signs in here on the day on which the issuer fails. While the requirement holds, an organization has one who
--      can sign in, and an issuer that is enabled: nobody can lock everybody out.
--   3. Each session of a break-glass owner is an entry of the audit log, and the other owners are notified.
-- Lock order: memberships before the organization, as everywhere.
-- ============================================================================

create function private.issuers_fail_without_issuer(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select 1 from private.issuer_enrolments as e
    join kijko.issuers as i on i.id = e.id
    where e.org_id = org and i.enabled and i.jwks is not null
  ) then
    perform kijko.fail(
      'conflict', 'sso_required: needs an issuer that is enabled and whose keys are known', 'Enrol one first, or end the requirement.'
    );
  end if;
end
$$;
comment on function private.issuers_fail_without_issuer(uuid) is 'Fails with conflict if the organization has no issuer by which members could come. Called by definer functions only.';

create function private.issuers_fail_without_break_glass(org uuid, leaving uuid default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select 1 from public.memberships as m
    where m.org_id = org and m.is_break_glass and m.user_id is distinct from leaving and private.tenancy_can_sign_in(m.user_id)
  ) then
    perform kijko.fail(
      'conflict', 'sso_required: needs a break-glass owner who can sign in', 'Name another owner first, or end the requirement.'
    );
  end if;
end
$$;
comment on function private.issuers_fail_without_break_glass(uuid, uuid) is 'Fails with conflict if the organization has no break-glass owner who can sign in, besides one who leaves. Called by definer functions only.';

-- ----------------------------------------------------------------------------
-- Break-glass owners
-- ----------------------------------------------------------------------------

create function private.issuers_keep_break_glass(org uuid, leaving uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Serializes with the requirement, too.
  if not private.tenancy_lock_owners(org, leaving) then
    return;
  end if;
  if (select o.sso_required from public.organizations as o where o.id = org) then
    perform private.issuers_fail_without_break_glass(org, leaving);
  end if;
end
$$;
comment on function private.issuers_keep_break_glass(uuid, uuid) is 'Fails with conflict if the organization requires its issuer and would lose its last break-glass owner who can sign in. Called by definer functions only.';

create function private.issuers_prepare_membership() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  comes_by_issuer constant boolean := (private.issuers_of_user(new.user_id)).id is not null;
  was boolean := false;
begin
  if tg_op = 'UPDATE' then
    was := old.is_break_glass;
    if was <> new.is_break_glass and (kijko.actor()).kind not in ('none', 'service', 'user') then
      perform kijko.fail('permission_denied', 'is_break_glass: not for API keys', 'Sign in as a user.');
    end if;
  end if;
  if new.is_break_glass and not was
    and (new.role <> 'owner' or comes_by_issuer or not private.tenancy_can_sign_in(new.user_id))
  then
    perform kijko.fail('conflict', 'is_break_glass: for an owner who can sign in here, and not by an issuer');
  end if;
  -- A member who is no longer an owner is no break-glass owner.
  new.is_break_glass := new.is_break_glass and new.role = 'owner';
  if was and not new.is_break_glass then
    perform private.issuers_keep_break_glass(new.org_id, new.user_id);
  end if;
  new.sso_required := not new.is_break_glass and not comes_by_issuer
    and coalesce((select o.sso_required from public.organizations as o where o.id = new.org_id), false);
  return new;
end
$$;
comment on function private.issuers_prepare_membership() is 'Trigger: only an owner who signs in here is a break-glass owner, and the last one stays while the organization requires its issuer. Whether a membership is closed follows, whatever a statement says. Definer: reads the extension''s tables.';
-- Its name sorts after memberships_mfa, which locks the organization of a new row, and after those that fill the role.
create trigger memberships_sso before insert or update of role, custom_role_id, sso_required, is_break_glass on public.memberships
  for each row execute function private.issuers_prepare_membership();

create function private.issuers_pass_break_glass(org uuid, departing uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform 1 from public.organizations as o where o.id = org for no key update;
  if not found or exists (
    select 1 from public.memberships as m
    where m.org_id = org and m.user_id <> departing and m.is_break_glass and private.tenancy_can_sign_in(m.user_id)
  ) then
    return;
  end if;
  update public.memberships as m set is_break_glass = true
  where m.id = (
    select k.id from public.memberships as k
    where k.org_id = org and k.user_id <> departing and k.role = 'owner'
      and private.tenancy_can_sign_in(k.user_id) and (private.issuers_of_user(k.user_id)).id is null
    order by k.created_at, k.id
    limit 1
    for no key update skip locked
  );
end
$$;
comment on function private.issuers_pass_break_glass(uuid, uuid) is 'Makes the oldest owner who signs in here a break-glass owner in place of a user who is being deleted, if there is no other. Called by definer functions only.';

create function private.issuers_on_break_glass_end() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The deletion of an account is not stopped: as with the last owner, another one takes the place.
  if private.tenancy_is_active_member(old) then
    perform private.issuers_keep_break_glass(old.org_id, old.user_id);
  else
    perform private.issuers_pass_break_glass(old.org_id, old.user_id);
  end if;
  return old;
end
$$;
comment on function private.issuers_on_break_glass_end() is 'Trigger: the last break-glass owner does not leave an organization that requires its issuer. Definer: reads and locks rows that the caller may not see.';
create trigger memberships_sso_delete before delete on public.memberships
  for each row when (old.is_break_glass) execute function private.issuers_on_break_glass_end();

-- ----------------------------------------------------------------------------
-- The requirement
-- ----------------------------------------------------------------------------

create function private.issuers_guard_requirement() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  kind constant text := (kijko.actor()).kind;
begin
  if kind not in ('none', 'service') then
    if kind <> 'user' then
      perform kijko.fail('permission_denied', 'sso_required: not for API keys', 'Sign in as a user.');
    elsif not public.can(new.id, 'issuers:write') then
      perform kijko.fail('permission_denied', 'sso_required: requires the permission issuers:write');
    end if;
  end if;
  if new.sso_required then
    perform private.issuers_fail_without_issuer(new.id);
    perform private.issuers_fail_without_break_glass(new.id);
  end if;
  return new;
end
$$;
comment on function private.issuers_guard_requirement() is 'Trigger: only who may enrol issuers, the back office or an operator says whether an organization requires its issuer, and only with an issuer and a break-glass owner. Definer: reads the extension''s tables.';
create trigger organizations_sso_guard before update of sso_required on public.organizations
  for each row when (old.sso_required <> new.sso_required) execute function private.issuers_guard_requirement();
create trigger organizations_sso_guard_insert before insert on public.organizations
  for each row when (new.sso_required) execute function private.issuers_guard_requirement();

create function private.issuers_push_requirement() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  pushed bigint;
begin
  -- As private.tenancy_push_mfa_required(): nothing waits here. The memberships' own trigger decides which are closed.
  update public.memberships as m set sso_required = new.sso_required
  where m.id = any (array(select k.id from public.memberships as k where k.org_id = new.id for no key update skip locked));
  get diagnostics pushed = row_count;
  if pushed < (select count(*) from public.memberships as m where m.org_id = new.id) then
    perform kijko.fail('conflict', 'sso_required: a member is being changed', 'Repeat the request.');
  end if;
  if new.sso_required then
    perform private.issuers_record_sessions(new.id, m.user_id) from public.memberships as m where m.org_id = new.id and m.is_break_glass;
  end if;
  return null;
end
$$;
comment on function private.issuers_push_requirement() is 'Trigger: closes or opens the memberships. Fails with conflict while one of them is being changed. Definer: users cannot write the column.';
create trigger organizations_sso_push after update of sso_required on public.organizations
  for each row when (old.sso_required <> new.sso_required) execute function private.issuers_push_requirement();

create function private.issuers_keep_issuer() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Nothing is found while the organization is being deleted.
  if exists (select 1 from public.organizations as o where o.id = old.org_id and o.sso_required) then
    perform private.issuers_fail_without_issuer(old.org_id);
  end if;
  return null;
end
$$;
comment on function private.issuers_keep_issuer() is 'Trigger: an organization that requires its issuer keeps one that is enabled. Definer: reads the extension''s tables.';
create trigger issuer_enrolments_keep after update or delete on private.issuer_enrolments
  for each row execute function private.issuers_keep_issuer();

-- ----------------------------------------------------------------------------
-- Each use leaves a trace
-- ----------------------------------------------------------------------------

create function private.issuers_record_break_glass(org uuid, session auth.sessions) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.audit_insert(
    array[org], 'session.break_glass', 'session', session.id::text, subject => session.user_id,
    after => jsonb_build_object('aal', session.aal), actor => session.user_id, address => session.ip, user_agent => session.user_agent
  );
  -- The platform's, since the membership of another owner may be closed.
  perform private.notifications_send(
    kijko.platform_org_id(), m.user_id, 'break_glass.used',
    jsonb_build_object('name', p.display_name, 'organization', o.name, 'org_id', org, 'user_id', session.user_id, 'session_id', session.id),
    format('break_glass:%s:%s:%s', org, session.id, m.user_id)
  )
  from public.memberships as m
  join public.organizations as o on o.id = m.org_id
  join public.profiles as p on p.id = session.user_id
  where m.org_id = org and m.role = 'owner' and m.user_id <> session.user_id;
end
$$;
comment on function private.issuers_record_break_glass(uuid, auth.sessions) is 'Writes that a break-glass owner has a session in an organization that requires its issuer, and notifies the other owners. Called by definer functions only.';

create function private.issuers_record_sessions(org uuid, member uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.issuers_record_break_glass(org, s)
  from auth.sessions as s
  where s.user_id = member and (s.not_after is null or s.not_after > kijko.now())
  order by s.created_at, s.id;
end
$$;
comment on function private.issuers_record_sessions(uuid, uuid) is 'The same for the sessions that a user has already, at most 100, when they become able to pass the requirement. Called by definer functions only.';

create function private.issuers_on_break_glass_named() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select 1 from public.organizations as o where o.id = new.org_id and o.sso_required) then
    perform private.issuers_record_sessions(new.org_id, new.user_id);
  end if;
  return null;
end
$$;
comment on function private.issuers_on_break_glass_named() is 'Trigger: a new break-glass owner of an organization that requires its issuer has passed it with each session that they have. Definer: users cannot read auth.';
create trigger memberships_sso_named after update of is_break_glass on public.memberships
  for each row when (new.is_break_glass and not old.is_break_glass) execute function private.issuers_on_break_glass_named();

create function private.issuers_on_session() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whoever turns the requirement on has locked the row or waits for this session: one of the two sees the other.
  perform 1 from public.memberships as m where m.user_id = new.user_id and m.is_break_glass order by m.org_id for share;
  perform private.issuers_record_break_glass(m.org_id, new)
  from public.memberships as m
  join public.organizations as o on o.id = m.org_id and o.sso_required
  where m.user_id = new.user_id and m.is_break_glass;
  return null;
end
$$;
comment on function private.issuers_on_session() is 'Trigger: a sign-in of a break-glass owner passes the requirement. Definer: the login role may write auth only.';
-- Its name sorts after kijko_session_audit_insert: first the sign-in, then what it passes.
create trigger kijko_session_break_glass after insert on auth.sessions
  for each row execute function private.issuers_on_session();
