-- ============================================================================
-- Tenancy: what happens when a user signs up, is changed, banned or deleted, and when a session ends.
-- ============================================================================

create table private.sign_up_organizations (
  id uuid primary key references public.organizations (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  name text not null check (char_length(name) <= 100)
);
create index sign_up_organizations_user_id_idx on private.sign_up_organizations (user_id);
comment on table private.sign_up_organizations is 'Organizations that sign-up made and named after a user, also when others have joined since. Such a name goes with the user.';
comment on column private.sign_up_organizations.id is 'The organization.';
comment on column private.sign_up_organizations.user_id is 'After whom it was named.';
comment on column private.sign_up_organizations.name is 'The name that sign-up gave it.';
select private.describe_data('private.sign_up_organizations', '{
  "id, user_id, name": {"subject": "person", "purpose": "finds organizations that have the name of who is erased", "export": "person", "erasure": "person"}
}');
alter table private.sign_up_organizations enable row level security;

create function private.tenancy_create_organization(owner uuid, name text, personal boolean) returns public.organizations
language plpgsql set search_path = ''
as $$
declare
  org public.organizations;
begin
  insert into public.organizations (name, personal_for, created_by)
  values (tenancy_create_organization.name, case when tenancy_create_organization.personal then owner end, owner)
  returning * into org;
  insert into public.memberships (org_id, user_id, role, created_by) values (org.id, owner, 'owner', owner);
  if tenancy_create_organization.personal then
    insert into private.sign_up_organizations (id, user_id, name) values (org.id, owner, org.name);
  end if;
  return org;
end
$$;
comment on function private.tenancy_create_organization(uuid, text, boolean) is 'Creates an organization with its first owner. Notes the name of a personal one, which sign-up gives. Called by definer functions only.';

-- Clients write the metadata. No value of it may make sign-up fail.
create function private.tenancy_display_name(metadata jsonb, email text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select candidate.name
  from (
    values
      (1, case jsonb_typeof(metadata -> 'display_name') when 'string' then metadata ->> 'display_name' end),
      (2, case jsonb_typeof(metadata -> 'full_name') when 'string' then metadata ->> 'full_name' end),
      (3, case jsonb_typeof(metadata -> 'name') when 'string' then metadata ->> 'name' end),
      (4, split_part(email, '@', 1)),
      (5, 'New user')
  ) as given (place, value)
  cross join lateral (select regexp_replace(normalize(given.value, nfc), '[\u0001-\u001f\u007f-\u009f]+', ' ', 'g')) as line (value)
  cross join lateral (select "left"(regexp_replace(line.value, '^\s+|\s+$', '', 'g'), 100)) as candidate (name)
  where private.is_name(candidate.name)
  order by given.place
  limit 1
$$;
comment on function private.tenancy_display_name(jsonb, text) is 'Display name of a new user: the first of display_name, full_name and name in the metadata that is a string with visible text, else the local part of the email address.';

-- Invited users join an organization. Anonymous and unconfirmed users get none, because their number is unlimited.
create function private.tenancy_gets_personal_organization(u auth.users) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select coalesce(u.email_confirmed_at, u.phone_confirmed_at) is not null
    and u.invited_at is null and u.deleted_at is null and not u.is_anonymous
$$;
comment on function private.tenancy_gets_personal_organization(auth.users) is 'Whether a user gets a personal organization: confirmed, and neither invited, anonymous nor deleted.';

create function private.tenancy_on_user_created() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  shown_name constant text := private.tenancy_display_name(new.raw_user_meta_data, new.email);
begin
  insert into public.profiles (id, email, display_name) values (new.id, new.email, shown_name);
  if private.tenancy_gets_personal_organization(new) then
    perform private.tenancy_create_organization(new.id, shown_name, true);
  end if;
  return null;
end
$$;
comment on function private.tenancy_on_user_created() is 'Trigger: sign-up creates a profile and a personal organization, which gets its subscription. Definer: the login role may write auth only.';
create trigger kijko_user_created after insert on auth.users
  for each row execute function private.tenancy_on_user_created();

create function private.tenancy_on_user_confirmed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if private.tenancy_gets_personal_organization(new) and not private.tenancy_gets_personal_organization(old) then
    perform private.tenancy_create_organization(new.id, p.display_name, true)
    from public.profiles as p
    where p.id = new.id and not exists (select 1 from public.organizations as o where o.personal_for = new.id);
  end if;
  return null;
end
$$;
comment on function private.tenancy_on_user_confirmed() is 'Trigger: creates the personal organization of a user who was unconfirmed or anonymous and is confirmed now. Definer: the login role may write auth only.';
create trigger kijko_user_confirmed after update on auth.users
  for each row when (
    old.email_confirmed_at is distinct from new.email_confirmed_at
    or old.phone_confirmed_at is distinct from new.phone_confirmed_at
    or old.is_anonymous is distinct from new.is_anonymous
  ) execute function private.tenancy_on_user_confirmed();

create function private.tenancy_on_email_changed() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  -- A soft deletion replaces the address by a hash.
  update public.profiles as p set email = case when new.deleted_at is null then new.email end where p.id = new.id;
  return null;
end
$$;
comment on function private.tenancy_on_email_changed() is 'Trigger: copies the login address to profiles.email. Definer: the login role may write auth only.';
create trigger kijko_user_email after update of email on auth.users
  for each row when (old.email is distinct from new.email)
  execute function private.tenancy_on_email_changed();

create function private.tenancy_is_active_member(m public.memberships) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select exists (select 1 from auth.users as u where u.id = m.user_id and u.deleted_at is null) $$;
comment on function private.tenancy_is_active_member(public.memberships) is 'Whether the member''s user exists and is not softly deleted. When one statement deletes several users, their memberships still exist until its end.';

create function private.tenancy_promote_successor(org uuid, departing uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  successor record;
begin
  loop
    select m.id, m.role into successor
    from public.memberships as m
    join private.roles as r on r.role = m.role
    where m.org_id = org and m.user_id <> departing and private.tenancy_is_active_member(m)
    order by private.tenancy_can_sign_in(m.user_id) desc, m.role = 'owner' desc, m.sso_required, r.rank desc, m.created_at, m.id
    limit 1;
    if successor.id is null then
      delete from public.organizations as o where o.id = org;
      return;
    elsif successor.role = 'owner' then
      return; -- where nobody can sign in, an owner comes first by rank
    end if;
    update public.memberships as m set role = 'owner' where m.id = successor.id;
    if found then
      return;
    end if; -- else the successor has just left: try the next one
  end loop;
end
$$;
comment on function private.tenancy_promote_successor(uuid, uuid) is 'Sees that an organization has an owner besides one who departs: another owner, else of the members whose membership is open the one with the highest role, and of these the oldest; those who can sign in come first. Deletes an organization without other members. Called by definer functions only.';

create function private.tenancy_transfer_organizations(departing uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
begin
  -- An owner who leaves or is demoted at this moment has locked the membership and waits for the organization.
  perform 1 from public.memberships as m where m.user_id = departing and m.role = 'owner' order by m.org_id for no key update;
  -- Lock order: users, then organizations by id. The locks serialize concurrent deletions of owners, and joins.
  perform 1
  from public.organizations as o
  where o.personal_for = departing
    or o.id = any (array(select m.org_id from public.memberships as m where m.user_id = departing and m.role = 'owner'))
  order by o.id
  for no key update;

  delete from public.organizations as o
  where o.personal_for = departing
    and not exists (select 1 from public.memberships as m where m.org_id = o.id and m.user_id <> departing and private.tenancy_is_active_member(m));

  for org in
    select m.org_id from public.memberships as m where m.user_id = departing and m.role = 'owner' order by m.org_id
  loop
    perform private.tenancy_promote_successor(org, departing);
  end loop;
end
$$;
comment on function private.tenancy_transfer_organizations(uuid) is 'Transfers or deletes the organizations of a user who is being deleted. Deletes the personal one if it has no other member. Where no other owner can sign in, another member becomes owner; an organization without other members is deleted. Called by definer functions only.';

create function private.tenancy_on_user_deleted() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.tenancy_transfer_organizations(old.id);
  -- The foreign key would do it after the statement, when the same statement may have deleted the membership's user.
  update public.memberships as m set created_by = null where m.created_by = old.id;
  return old;
end
$$;
comment on function private.tenancy_on_user_deleted() is 'Trigger: transfers or deletes the organizations of a deleted user (private.tenancy_transfer_organizations). Definer: the login role may write auth only.';
create trigger kijko_user_removed before delete on auth.users
  for each row execute function private.tenancy_on_user_deleted();

create function private.tenancy_on_user_soft_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Also sessions that started during the deletion: they waited for the user's row.
  delete from auth.sessions as s where s.user_id = new.id;
  perform private.tenancy_transfer_organizations(new.id);
  delete from public.memberships as m where m.user_id = new.id;
  update public.profiles as p set display_name = 'Deleted user', email = null, avatar_url = null where p.id = new.id;
  return null;
end
$$;
comment on function private.tenancy_on_user_soft_deleted() is 'Trigger: deletes sessions, memberships and name of a softly deleted user (auth.users.deleted_at); only the id stays. Definer: the login role may write auth only.';
create trigger kijko_user_softly_deleted after update on auth.users
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function private.tenancy_on_user_soft_deleted();

-- Fires for each writer of banned_until: the login functions of a plain Postgres, or GoTrue.
create function private.tenancy_on_user_banned() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Revocations follow the real clock, bans product time. An access token is valid for a week at most, the maximum that
  -- GoTrue accepts; on a plain Postgres for a day.
  ends constant timestamptz := now() + case
    when new.banned_until > kijko.now() + interval '7 days' then interval '7 days'
    when new.banned_until > kijko.now() then new.banned_until - kijko.now()
  end;
begin
  perform kijko.restore_session(s.id) from auth.sessions as s where s.user_id = new.id;
  if ends is not null then
    -- Another owner who leaves from now on waits, and finds that this one cannot sign in. One who is leaving already counts as
    -- gone: a ban waits for nobody. It is the operator's decision and changes no ownership, also of the last owner.
    perform 1
    from public.organizations as o
    where o.id = any (array(select m.org_id from public.memberships as m where m.user_id = new.id and m.role = 'owner'))
    order by o.id
    for no key update skip locked;
    perform kijko.revoke_session(s.id, ends) from auth.sessions as s where s.user_id = new.id;
  end if;
  return null;
end
$$;
comment on function private.tenancy_on_user_banned() is 'Trigger: a ban revokes the access tokens of the user''s sessions at once and until the ban ends; lifting the ban makes them valid again at once. A banned owner stays an owner. Definer: only the domain and the login role may revoke.';
create trigger kijko_user_banned after update on auth.users
  for each row when (old.banned_until is distinct from new.banned_until)
  execute function private.tenancy_on_user_banned();

create function private.tenancy_on_session_deleted() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform kijko.revoke_session(old.id);
  return null;
end
$$;
comment on function private.tenancy_on_session_deleted() is 'Trigger: revokes the access tokens of a deleted session, which would be valid until they expire. Definer: only the domain and the login role may revoke.';
create trigger kijko_session_ended after delete on auth.sessions
  for each row execute function private.tenancy_on_session_deleted();

create function private.tenancy_limit_sessions() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_sessions constant integer := 100;
begin
  perform set_config('kijko_notifications.session_end', 'too_many_sessions', true);
  delete from auth.sessions as s
  where s.id = any (array(
    select o.id from auth.sessions as o
    -- The inner query has the offset, so that the rows it skips are not locked: a refresh would wait for a login.
    where o.id = any (array(
      select i.id from auth.sessions as i
      where i.user_id = new.user_id and i.id <> new.id
      order by coalesce(i.updated_at, i.created_at) desc nulls last, i.id
      offset max_sessions - 1
    ))
    -- A locked session is being ended or refreshed. The next login deletes what remains.
    for update skip locked
  ));
  perform set_config('kijko_notifications.session_end', '', true);
  return null;
end
$$;
comment on function private.tenancy_limit_sessions() is 'Trigger: a user has at most 100 sessions; the next one ends the least recently used. Definer: the login role may not delete sessions on Supabase.';
create trigger kijko_session_limit after insert on auth.sessions
  for each row execute function private.tenancy_limit_sessions();
