-- ============================================================================
-- Tenancy: organizations, who belongs to them, and what a request may do.
--
-- Every other domain stands on three things made here:
--   public.org_ids()            the organizations of the caller
--   private.org_ids_with(perm)  those in which the caller holds a permission
--   public.org_id()             the one a new row belongs to by default
-- Policies, also those for select, ask org_ids_with() by "org_id = any (array(select ...))": one look-up
-- per statement, then an index scan. "org_id in (select ...)" cannot use the index.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Schema private: helpers, worker functions and single-source tables. PostgREST
-- never serves it. Roles need USAGE because before_request (an invoker function)
-- calls into it by name; what they may run there is granted one by one.
-- ----------------------------------------------------------------------------

create schema if not exists private;
comment on schema private is 'Helpers and worker functions of the domain; never exposed by PostgREST.';

revoke all on schema private from public;
grant usage on schema private to anon, authenticated, service_role, kijko_sidecar;

-- PostgreSQL gives PUBLIC execute on every new function; here a grant is always a decision.
alter default privileges revoke execute on functions from public;

-- ----------------------------------------------------------------------------
-- Roles and permissions: the single source
-- ----------------------------------------------------------------------------

create table private.roles (
  role text primary key check (role ~ '^[a-z_]{1,40}$'),
  rank smallint not null unique
);
alter table private.roles enable row level security;
revoke all on private.roles from public, anon, authenticated, service_role;

comment on table private.roles is 'Roles inside an organization, ordered. Read only by the membership helpers.';
comment on column private.roles.role is 'Name as stored in memberships.role.';
comment on column private.roles.rank is 'Higher may do more; has_role() compares ranks.';

insert into private.roles (role, rank) values
  ('viewer', 10), ('member', 20), ('admin', 30), ('owner', 40);

create table private.role_permissions (
  role text not null references private.roles (role),
  permission text not null check (permission ~ '^[a-z_]+:[a-z_]+$'),
  primary key (role, permission)
);
alter table private.role_permissions enable row level security;
revoke all on private.role_permissions from public, anon, authenticated, service_role;

comment on table private.role_permissions is 'What each role may do, fully expanded: a permission that is not listed is not held. The only place that says so.';
comment on column private.role_permissions.role is 'Role that holds the permission.';
comment on column private.role_permissions.permission is 'resource:action, as can() and org_ids_with() take it.';

-- Each line says which role is the lowest to hold a permission; the join gives it to all above.
insert into private.role_permissions (role, permission)
select holder.role, line.permission
from (
  values
    ('viewer', 'organization:read'), ('viewer', 'members:read'), ('viewer', 'projects:read'),
    ('viewer', 'skills:read'), ('viewer', 'habits:read'), ('viewer', 'reflexes:read'),
    ('viewer', 'executions:read'), ('viewer', 'jobs:read'), ('viewer', 'files:read'),
    ('viewer', 'content:read'), ('viewer', 'repositories:read'), ('viewer', 'usage:read'),
    ('member', 'projects:write'), ('member', 'skills:write'), ('member', 'habits:write'),
    ('member', 'reflexes:write'), ('member', 'files:write'), ('member', 'content:write'),
    ('member', 'skills:execute'), ('member', 'api_keys:write_own'),
    ('admin', 'members:write'), ('admin', 'organization:write'), ('admin', 'api_keys:read'),
    ('admin', 'api_keys:write'), ('admin', 'billing:read'), ('admin', 'audit:read'),
    ('owner', 'repositories:write'), ('owner', 'billing:write'), ('owner', 'organization:delete')
) as line (lowest, permission)
join private.roles as low on low.role = line.lowest
join private.roles as holder on holder.rank >= low.rank;

-- ----------------------------------------------------------------------------
-- Shared trigger functions
-- ----------------------------------------------------------------------------

create function private.touch_updated_at() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.updated_at := kijko.now();
  return new;
end
$$;
comment on function private.touch_updated_at() is 'Trigger: updated_at follows product time, whatever the statement says.';
revoke all on function private.touch_updated_at() from public, anon, authenticated, service_role;

create function private.refuse_identity_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform kijko.fail('permission_denied', format('%s: id, org_id and created_by never change', tg_table_name));
  return null;
end
$$;
comment on function private.refuse_identity_change() is 'Trigger: a row never moves to another organization or author, not even by service_role. The trigger''s WHEN lets created_by become null when a user is deleted.';
revoke all on function private.refuse_identity_change() from public, anon, authenticated, service_role;

create function private.slugify(name text) returns text
language sql immutable parallel safe set search_path = ''
return coalesce(
  nullif(pg_catalog.btrim(pg_catalog."left"(pg_catalog.btrim(pg_catalog.regexp_replace(pg_catalog.lower(name), '[^a-z0-9]+', '-', 'g'), '-'), 48), '-'), ''),
  'untitled'
);
comment on function private.slugify(text) is 'URL part made from a name: lower case letters, digits and single hyphens, at most 48.';
revoke all on function private.slugify(text) from public, anon, authenticated, service_role;
grant execute on function private.slugify(text) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- organizations
-- ----------------------------------------------------------------------------

create table public.organizations (
  -- Never of version 8: those are the subjects of limits that are no organizations (kijko.subject).
  id uuid primary key default gen_random_uuid() check (substr(id::text, 15, 1) <> '8'),
  name text not null check (char_length(name) <= 100 and name ~ '\S'),
  slug text not null default '' unique check (char_length(slug) <= 63 and slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  personal_for uuid unique references auth.users (id) on delete set null,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
create index organizations_created_by_idx on public.organizations (created_by);

comment on table public.organizations is 'Tenants. Made at sign-up (personal) or by create_organization(); everything a tenant owns goes with its row.';
comment on column public.organizations.id is 'The org_id of every tenant table and the subject of every limit.';
comment on column public.organizations.name is 'Shown to its members.';
comment on column public.organizations.slug is 'Unique part of a URL; filled from the name when not given.';
comment on column public.organizations.personal_for is 'The user for whom sign-up made this personal organization; it is deleted with that user. Null once a second member has joined, and for every other organization.';
comment on column public.organizations.created_by is 'User who made it; null once that user is gone.';
comment on column public.organizations.created_at is 'When it was made.';
comment on column public.organizations.updated_at is 'Last change; set by trigger.';

alter table public.organizations enable row level security;
revoke all on public.organizations from public, anon, authenticated, service_role;
grant select, delete, update (name, slug) on public.organizations to authenticated;
grant select, insert, update, delete on public.organizations to service_role;

-- ----------------------------------------------------------------------------
-- profiles
-- ----------------------------------------------------------------------------

create table public.profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  email text check (char_length(email) <= 320),
  display_name text not null check (char_length(display_name) <= 100 and display_name ~ '\S'),
  avatar_url text check (char_length(avatar_url) <= 2048),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);

comment on table public.profiles is 'What the product knows of a user beyond login; visible to those who hold members:read in an organization that the user belongs to.';
comment on column public.profiles.id is 'The user, auth.users.id.';
comment on column public.profiles.email is 'Copy of the login address, kept by trigger, so that members can recognize each other; null once the user is deleted.';
comment on column public.profiles.display_name is 'Name shown to others; the user may change it. "Deleted user" after a soft deletion.';
comment on column public.profiles.avatar_url is 'Address of a picture, if any.';
comment on column public.profiles.created_at is 'When the user signed up.';
comment on column public.profiles.updated_at is 'Last change; set by trigger.';

alter table public.profiles enable row level security;
revoke all on public.profiles from public, anon, authenticated, service_role;
-- Nobody makes a profile: to insert is for upserts of one's own, which is there from sign-up on.
grant select,
  insert (id, display_name, avatar_url),
  update (id, display_name, avatar_url)
on public.profiles to authenticated;
grant select, insert, update, delete on public.profiles to service_role;

-- ----------------------------------------------------------------------------
-- memberships
-- ----------------------------------------------------------------------------

create table public.memberships (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null references public.organizations (id) on delete cascade,
  -- To profiles and by this column alone: an embedding of profiles(display_name) has one meaning.
  user_id uuid not null references public.profiles (id) on delete cascade,
  role text not null default 'member' check (role in ('viewer', 'member', 'admin', 'owner')),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, user_id)
);
-- The hot path: org_ids() answers from this index alone.
create index memberships_user_id_idx on public.memberships (user_id, org_id) include (role);
create index memberships_created_by_idx on public.memberships (created_by);

comment on table public.memberships is 'Members of organizations and their roles. The base of every policy. Users do not insert rows: they accept invitations.';
comment on column public.memberships.id is 'Identity of the row.';
comment on column public.memberships.org_id is 'Organization.';
comment on column public.memberships.user_id is 'Member.';
comment on column public.memberships.role is 'viewer < member < admin < owner; private.role_permissions says what each may do.';
comment on column public.memberships.created_by is 'Who invited the member, or made the organization; null when added by service_role or when that user is gone.';
comment on column public.memberships.created_at is 'When the member was added.';
comment on column public.memberships.updated_at is 'Last change; set by trigger.';

alter table public.memberships enable row level security;
revoke all on public.memberships from public, anon, authenticated, service_role;
-- No insert: membership needs the user's consent.
grant select, delete, update (role) on public.memberships to authenticated;
grant select, insert, update, delete on public.memberships to service_role;

-- ----------------------------------------------------------------------------
-- The active organization of each user. A table of its own, because colleagues may read profiles and not this.
-- ----------------------------------------------------------------------------

create table private.active_organizations (
  user_id uuid primary key,
  active_org_id uuid not null,
  -- The user is always a member of it.
  foreign key (active_org_id, user_id) references public.memberships (org_id, user_id) on delete cascade
);
create index active_organizations_active_org_id_idx on private.active_organizations (active_org_id, user_id);

comment on table private.active_organizations is 'The organization that each user works in when a request names none. A user without an organization has no row.';
comment on column private.active_organizations.user_id is 'The user.';
comment on column private.active_organizations.active_org_id is 'One of their organizations; changed by set_active_organization().';

alter table private.active_organizations enable row level security;
revoke all on private.active_organizations from public, anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Membership helpers
--
-- Definer: they read memberships from inside the policies of memberships, which would otherwise recurse. Owned by
-- postgres, never by a superuser. They read by the statement's own snapshot: nothing is cached but plans.
-- In plpgsql, because nearly every statement calls one. Postgres plans the query of a language sql function anew in each
-- statement, and keeps that of plpgsql: 39 us of a GET of one row became 11. The "set" clause is 2 of these, and saves more:
-- a kept plan is thrown away when the search_path is another than before, as it is inside and outside of functions.
-- "(select kijko.user_id())" asks once; bare, a small table is scanned and every row asks again (200 rows: 0.77 ms instead of 0.05).
-- ----------------------------------------------------------------------------

create function public.org_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 5 set search_path = ''
as $$
begin
  return query select m.org_id from public.memberships as m where m.user_id = (select kijko.user_id());
end
$$;
comment on function public.org_ids() is 'Organizations of the caller; none for an unauthenticated caller. Definer: policies of memberships use it.';
revoke all on function public.org_ids() from public, anon, authenticated, service_role;
grant execute on function public.org_ids() to authenticated, service_role;

create function private.org_ids_with(permission text) returns setof uuid
language plpgsql stable parallel safe security definer rows 5 set search_path = ''
as $$
begin
  return query
  select m.org_id
  from public.memberships as m
  join private.role_permissions as rp on rp.role = m.role and rp.permission = org_ids_with.permission
  where m.user_id = (select kijko.user_id());
end
$$;
comment on function private.org_ids_with(text) is 'Organizations in which the caller holds the permission. Definer: policies use it, and role_permissions is private.';
revoke all on function private.org_ids_with(text) from public, anon, authenticated, service_role;
grant execute on function private.org_ids_with(text) to authenticated, service_role;

create function private.org_ids_as(role text) returns setof uuid
language plpgsql stable parallel safe security definer rows 5 set search_path = ''
as $$
begin
  return query
  select m.org_id
  from public.memberships as m
  join private.roles as mine on mine.role = m.role
  join private.roles as wanted on wanted.role = org_ids_as.role
  where m.user_id = (select kijko.user_id()) and mine.rank >= wanted.rank;
end
$$;
comment on function private.org_ids_as(text) is 'Organizations in which the caller has at least the role. Definer: policies of memberships use it.';
revoke all on function private.org_ids_as(text) from public, anon, authenticated, service_role;
grant execute on function private.org_ids_as(text) to authenticated, service_role;

create function private.colleague_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 20 set search_path = ''
as $$
begin
  return query
  select kijko.user_id()
  union
  select theirs.user_id
  from public.memberships as theirs
  where theirs.org_id = any (array(select private.org_ids_with('members:read')));
end
$$;
comment on function private.colleague_ids() is 'The caller, and the members of each organization in which the caller holds members:read. Definer: the policy of profiles uses it.';
revoke all on function private.colleague_ids() from public, anon, authenticated, service_role;
grant execute on function private.colleague_ids() to authenticated, service_role;

create function public.has_role(org uuid, role text) returns boolean
language plpgsql stable parallel safe security definer set search_path = ''
as $$
begin
  return exists (
    select 1 from private.org_ids_as(has_role.role) as mine (org_id) where mine.org_id = has_role.org
  );
end
$$;
comment on function public.has_role(uuid, text) is 'Whether the caller has at least this role in the organization; false for null or unknown arguments. Definer: reads memberships for policies.';
revoke all on function public.has_role(uuid, text) from public, anon, authenticated, service_role;
grant execute on function public.has_role(uuid, text) to authenticated, service_role;

create function public.can(org uuid, permission text) returns boolean
language plpgsql stable parallel safe security definer set search_path = ''
as $$
begin
  return exists (
    select 1 from private.org_ids_with(can.permission) as mine (org_id) where mine.org_id = can.org
  );
end
$$;
comment on function public.can(uuid, text) is 'Whether the caller holds the permission in the organization; false for null or unknown arguments. Definer: reads memberships for policies.';
revoke all on function public.can(uuid, text) from public, anon, authenticated, service_role;
grant execute on function public.can(uuid, text) to authenticated, service_role;

create function private.as_uuid(value text) returns uuid
language sql immutable parallel safe
return case when value ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then value::uuid end;
comment on function private.as_uuid(text) is 'The uuid that a text spells, or null: never an error on what a client sent.';
revoke all on function private.as_uuid(text) from public, anon, authenticated, service_role;
grant execute on function private.as_uuid(text) to anon, authenticated, service_role;

-- In plpgsql for its cached plan: a column default is evaluated for every row of an insert.
create function public.org_id() returns uuid
language plpgsql stable parallel safe security definer set search_path = ''
as $$
declare
  who uuid := kijko.user_id();
  named uuid := coalesce(
    private.as_uuid(nullif(current_setting('request.headers', true), '')::json ->> 'x-org-id'),
    private.as_uuid(kijko.claims() ->> 'org_id')
  );
  org uuid;
begin
  select m.org_id into org
  from public.memberships as m
  where m.user_id = who
    and m.org_id = coalesce(named, (select a.active_org_id from private.active_organizations as a where a.user_id = who));
  return org;
end
$$;
comment on function public.org_id() is 'The organization this request works in: header x-org-id, else claim org_id, else the active one; null unless the caller is a member. Nullable: result. Definer: reads memberships for column defaults.';
revoke all on function public.org_id() from public, anon, authenticated, service_role;
grant execute on function public.org_id() to authenticated, service_role;

-- PostgREST serves it as a computed column of profiles: select=id,active_org_id.
create function public.active_org_id(profile public.profiles) returns uuid
language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select a.active_org_id
    from private.active_organizations as a
    where a.user_id = profile.id and profile.id = (select kijko.user_id())
  );
end
$$;
comment on function public.active_org_id(public.profiles) is 'The active organization in the caller''s own profile; null in all other profiles. Definer: the table behind it is private.';
revoke all on function public.active_org_id(public.profiles) from public, anon, authenticated, service_role;
grant execute on function public.active_org_id(public.profiles) to authenticated;

create function private.require_org() returns uuid
language plpgsql stable set search_path = ''
as $$
declare
  org uuid := public.org_id();
begin
  if org is null then
    perform kijko.fail('not_a_member', 'the request works in no organization of yours');
  end if;
  return org;
end
$$;
comment on function private.require_org() is 'The organization of the request, or not_a_member.';
revoke all on function private.require_org() from public, anon, authenticated, service_role;

create function private.require_org_with(permission text) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid := private.require_org();
begin
  if public.can(org, require_org_with.permission) is not true then
    perform kijko.fail('permission_denied', format('needs %s', require_org_with.permission));
  end if;
  return org;
end
$$;
comment on function private.require_org_with(text) is 'The organization of the request, or not_a_member, or permission_denied when the caller does not hold the permission there.';
revoke all on function private.require_org_with(text) from public, anon, authenticated, service_role;

-- Only now: the function reads the table.
alter table public.memberships alter column org_id set default public.org_id();

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
-- Only an owner makes an owner, changes one or removes one.
create policy memberships_update on public.memberships for update to authenticated
  using (
    org_id = any (array(select private.org_ids_with('members:write')))
    and (role <> 'owner' or org_id = any (array(select private.org_ids_as('owner'))))
  )
  with check (
    org_id = any (array(select private.org_ids_with('members:write')))
    and (role <> 'owner' or org_id = any (array(select private.org_ids_as('owner'))))
  );
-- Everyone may leave; the guard below keeps the last owner.
create policy memberships_delete on public.memberships for delete to authenticated
  using (
    user_id = (select kijko.user_id())
    or (
      org_id = any (array(select private.org_ids_with('members:write')))
      and (role <> 'owner' or org_id = any (array(select private.org_ids_as('owner'))))
    )
  );

create policy profiles_select on public.profiles for select to authenticated
  using (id = any (array(select private.colleague_ids())));
create policy profiles_insert on public.profiles for insert to authenticated
  with check (id = (select kijko.user_id()));
create policy profiles_update on public.profiles for update to authenticated
  using (id = (select kijko.user_id()))
  with check (id = (select kijko.user_id()));

-- ----------------------------------------------------------------------------
-- Triggers of the tables
-- ----------------------------------------------------------------------------

create trigger organizations_touch before update on public.organizations
  for each row execute function private.touch_updated_at();
-- A personal organization may become shared; a shared one never becomes personal.
create trigger organizations_identity before update of id, created_by, personal_for on public.organizations
  for each row when (
    old.id is distinct from new.id
    or (new.created_by is not null and old.created_by is distinct from new.created_by)
    or (new.personal_for is not null and old.personal_for is distinct from new.personal_for)
  ) execute function private.refuse_identity_change();

create function private.fill_organization_slug() returns trigger
language plpgsql set search_path = ''
as $$
begin
  -- Slugs are unique over all tenants, so a name alone would tell whether another one has it.
  if coalesce(new.slug, '') = '' then
    new.slug := private.slugify(new.name) || '-' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 8);
  end if;
  return new;
end
$$;
comment on function private.fill_organization_slug() is 'Trigger: a slug from the name when none is given.';
revoke all on function private.fill_organization_slug() from public, anon, authenticated, service_role;
create trigger organizations_slug before insert on public.organizations
  for each row execute function private.fill_organization_slug();

create trigger memberships_touch before update on public.memberships
  for each row execute function private.touch_updated_at();
create trigger memberships_identity before update of id, org_id, user_id, created_by on public.memberships
  for each row when (
    old.id is distinct from new.id
    or old.org_id is distinct from new.org_id
    or old.user_id is distinct from new.user_id
    or (new.created_by is not null and old.created_by is distinct from new.created_by)
  ) execute function private.refuse_identity_change();

create function private.guard_memberships() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if tg_op = 'UPDATE'
    and old.user_id = kijko.user_id()
    and (select r.rank from private.roles as r where r.role = new.role)
      > (select r.rank from private.roles as r where r.role = old.role)
  then
    perform kijko.fail('permission_denied', 'nobody raises their own role');
  end if;

  if old.role = 'owner' and (tg_op = 'DELETE' or new.role <> 'owner') then
    -- Lock the organization, so that two owners who leave at once cannot both see the other.
    perform 1 from public.organizations as o where o.id = old.org_id for no key update;
    -- Not found: the organization itself is being deleted and takes its members along.
    if found and not exists (
      select 1 from public.memberships as m
      where m.org_id = old.org_id and m.role = 'owner' and m.id <> old.id
    ) then
      perform kijko.fail('conflict', 'an organization keeps at least one owner', 'make another member an owner first, or delete the organization');
    end if;
  end if;

  if tg_op = 'DELETE' then
    return old;
  end if;
  return new;
end
$$;
comment on function private.guard_memberships() is 'Trigger: the last owner stays, and nobody raises their own role. Definer: it counts and locks rows that the caller may not see or change.';
revoke all on function private.guard_memberships() from public, anon, authenticated, service_role;
create trigger memberships_guard before update of role or delete on public.memberships
  for each row execute function private.guard_memberships();

-- Before the insert: its foreign key takes a share lock on the organization, and two concurrent joins that both upgrade it would deadlock.
create function private.end_personal_organization() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.organizations as o set personal_for = null
  where o.id = new.org_id and o.personal_for <> new.user_id;
  return new;
end
$$;
comment on function private.end_personal_organization() is 'Trigger: when a second user joins, the organization is no longer personal and is not deleted with its first user. Definer: the new member may not update organizations.';
revoke all on function private.end_personal_organization() from public, anon, authenticated, service_role;
create trigger memberships_end_personal before insert on public.memberships
  for each row execute function private.end_personal_organization();

create function private.settle_active_org() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  -- When the deleted membership was the active one, its foreign key has already deleted the row.
  insert into private.active_organizations (user_id, active_org_id)
  select m.user_id, m.org_id
  from public.memberships as m
  join public.organizations as o on o.id = m.org_id
  where m.user_id = case tg_op when 'INSERT' then new.user_id else old.user_id end
  order by o.personal_for is not null desc, m.created_at, m.org_id
  limit 1
  on conflict (user_id) do nothing;
  return null;
end
$$;
comment on function private.settle_active_org() is 'Trigger: a user who belongs to an organization has an active one. Definer: the table is private.';
revoke all on function private.settle_active_org() from public, anon, authenticated, service_role;
create trigger memberships_settle_active_org after insert or delete on public.memberships
  for each row execute function private.settle_active_org();

create trigger profiles_touch before update on public.profiles
  for each row execute function private.touch_updated_at();
create trigger profiles_identity before update of id on public.profiles
  for each row when (old.id is distinct from new.id)
  execute function private.refuse_identity_change();

-- ----------------------------------------------------------------------------
-- Sign-up, address change and removal of a user; end of a session
-- ----------------------------------------------------------------------------

create function private.make_organization(owner uuid, name text, personal boolean) returns public.organizations
language plpgsql set search_path = ''
as $$
declare
  org public.organizations;
begin
  insert into public.organizations (name, personal_for, created_by)
  values (make_organization.name, case when make_organization.personal then owner end, owner)
  returning * into org;
  insert into public.memberships (org_id, user_id, role, created_by) values (org.id, owner, 'owner', owner);
  return org;
end
$$;
comment on function private.make_organization(uuid, text, boolean) is 'Creates an organization with its first owner. Called by definer functions only.';
revoke all on function private.make_organization(uuid, text, boolean) from public, anon, authenticated, service_role;

-- Clients choose the metadata; no value of it may break sign-up.
create function private.profiles_display_name(metadata jsonb, email text) returns text
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
  cross join lateral (select "left"(regexp_replace(given.value, '^\s+|\s+$', '', 'g'), 100)) as candidate (name)
  where candidate.name ~ '\S'
  order by given.place
  limit 1
$$;
comment on function private.profiles_display_name(jsonb, text) is 'The first of display_name, full_name and name in a user''s metadata that is a non-blank string, else the local part of the email address.';
revoke all on function private.profiles_display_name(jsonb, text) from public, anon, authenticated, service_role;

-- Invited users already have an organization. Anonymous and unconfirmed sign-ups are unlimited, so they get none.
create function private.gets_personal_organization(u auth.users) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select coalesce(u.email_confirmed_at, u.phone_confirmed_at) is not null
    and u.invited_at is null and u.deleted_at is null and not u.is_anonymous
$$;
comment on function private.gets_personal_organization(auth.users) is 'Whether a user gets a personal organization: confirmed, and neither invited, anonymous nor deleted.';
revoke all on function private.gets_personal_organization(auth.users) from public, anon, authenticated, service_role;

create function private.handle_new_user() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  shown_name constant text := private.profiles_display_name(new.raw_user_meta_data, new.email);
begin
  insert into public.profiles (id, email, display_name) values (new.id, new.email, shown_name);
  if private.gets_personal_organization(new) then
    perform private.make_organization(new.id, shown_name, true);
  end if;
  return null;
end
$$;
comment on function private.handle_new_user() is 'Trigger at sign-up: profile and personal organization (its subscription follows from the organization). Definer: the login role may write auth only.';
revoke all on function private.handle_new_user() from public, anon, authenticated, service_role;
create trigger kijko_user_created after insert on auth.users
  for each row execute function private.handle_new_user();

create function private.handle_user_confirmation() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if private.gets_personal_organization(new) and not private.gets_personal_organization(old) then
    perform private.make_organization(new.id, p.display_name, true)
    from public.profiles as p
    where p.id = new.id and not exists (select 1 from public.organizations as o where o.personal_for = new.id);
  end if;
  return null;
end
$$;
comment on function private.handle_user_confirmation() is 'Trigger: a user who signed up unconfirmed or anonymously gets the personal organization once they are confirmed. Definer: the login role may write auth only.';
revoke all on function private.handle_user_confirmation() from public, anon, authenticated, service_role;
create trigger kijko_user_confirmed after update on auth.users
  for each row when (
    old.email_confirmed_at is distinct from new.email_confirmed_at
    or old.phone_confirmed_at is distinct from new.phone_confirmed_at
    or old.is_anonymous is distinct from new.is_anonymous
  ) execute function private.handle_user_confirmation();

create function private.handle_user_email() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  -- A soft deletion leaves a hash in place of the address.
  update public.profiles as p set email = case when new.deleted_at is null then new.email end where p.id = new.id;
  return null;
end
$$;
comment on function private.handle_user_email() is 'Trigger: profiles.email follows the login address. Definer: the login role may write auth only.';
revoke all on function private.handle_user_email() from public, anon, authenticated, service_role;
create trigger kijko_user_email after update of email on auth.users
  for each row when (old.email is distinct from new.email)
  execute function private.handle_user_email();

create function private.memberships_is_active(m public.memberships) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select exists (select 1 from auth.users as u where u.id = m.user_id and u.deleted_at is null) $$;
comment on function private.memberships_is_active(public.memberships) is 'Whether the member''s user still exists and is not softly deleted. One statement may delete many users, and their memberships are deleted at its end.';
revoke all on function private.memberships_is_active(public.memberships) from public, anon, authenticated, service_role;

create function private.organizations_transfer_all(departing uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  org uuid;
  successor uuid;
begin
  -- Lock order: users, then organizations by id. Concurrent deletions of owners, and joins, run one after the other.
  perform 1
  from public.organizations as o
  where o.personal_for = departing
    or o.id = any (array(select m.org_id from public.memberships as m where m.user_id = departing and m.role = 'owner'))
  order by o.id
  for no key update;

  delete from public.organizations as o
  where o.personal_for = departing
    and not exists (select 1 from public.memberships as m where m.org_id = o.id and m.user_id <> departing and private.memberships_is_active(m));

  for org in
    select m.org_id
    from public.memberships as m
    where m.user_id = departing and m.role = 'owner'
      and not exists (
        select 1 from public.memberships as other
        where other.org_id = m.org_id and other.role = 'owner' and other.user_id <> departing and private.memberships_is_active(other)
      )
    order by m.org_id
  loop
    loop
      select m.id into successor
      from public.memberships as m
      join private.roles as r on r.role = m.role
      where m.org_id = org and m.user_id <> departing and private.memberships_is_active(m)
      order by r.rank desc, m.created_at, m.id
      limit 1;
      if successor is null then
        delete from public.organizations as o where o.id = org;
        exit;
      end if;
      update public.memberships as m set role = 'owner' where m.id = successor;
      exit when found; -- else the successor has just left: try the next one
    end loop;
  end loop;
end
$$;
comment on function private.organizations_transfer_all(uuid) is 'Gives up the organizations of a user who is being deleted. Deletes the personal one if it has no other member. Where the user was the last owner, the longest-standing member of the highest role becomes owner; an organization without other members is deleted. Called by definer functions only.';
revoke all on function private.organizations_transfer_all(uuid) from public, anon, authenticated, service_role;

create function private.handle_user_removal() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.organizations_transfer_all(old.id);
  -- The foreign key would do so after the statement, and then check a membership whose user the same statement has deleted.
  update public.memberships as m set created_by = null where m.created_by = old.id;
  return old;
end
$$;
comment on function private.handle_user_removal() is 'Trigger: transfers or deletes the organizations of a deleted user (private.organizations_transfer_all). Definer: the login role may write auth only.';
revoke all on function private.handle_user_removal() from public, anon, authenticated, service_role;
create trigger kijko_user_removed before delete on auth.users
  for each row execute function private.handle_user_removal();

create function private.handle_user_soft_deletion() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Including sessions that started during the deletion: they waited for the user's row.
  delete from auth.sessions as s where s.user_id = new.id;
  perform private.organizations_transfer_all(new.id);
  delete from public.memberships as m where m.user_id = new.id;
  update public.profiles as p set display_name = 'Deleted user', email = null, avatar_url = null where p.id = new.id;
  return null;
end
$$;
comment on function private.handle_user_soft_deletion() is 'Trigger: a softly deleted user (auth.users.deleted_at) loses sessions, memberships and name as a deleted one does; only the id stays. Definer: the login role may write auth only.';
revoke all on function private.handle_user_soft_deletion() from public, anon, authenticated, service_role;
create trigger kijko_user_softly_deleted after update on auth.users
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function private.handle_user_soft_deletion();

-- Fires for every writer of banned_until: the login functions here, or GoTrue.
create function private.handle_user_ban() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Revocations follow the real clock, bans product time. An access token lives for a week at most, the maximum that GoTrue
  -- on Supabase accepts; here it is a day.
  ends constant timestamptz := now() + case
    when new.banned_until > kijko.now() + interval '7 days' then interval '7 days'
    when new.banned_until > kijko.now() then new.banned_until - kijko.now()
  end;
begin
  perform kijko.restore_session(s.id) from auth.sessions as s where s.user_id = new.id;
  if ends is not null then
    perform kijko.revoke_session(s.id, ends) from auth.sessions as s where s.user_id = new.id;
  end if;
  return null;
end
$$;
comment on function private.handle_user_ban() is 'Trigger: a ban revokes the access tokens of the user''s sessions at once and until the ban ends; lifting the ban makes them valid again at once. Definer: only the domain and the login role may revoke.';
revoke all on function private.handle_user_ban() from public, anon, authenticated, service_role;
create trigger kijko_user_banned after update on auth.users
  for each row when (old.banned_until is distinct from new.banned_until)
  execute function private.handle_user_ban();

create function private.handle_session_end() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform kijko.revoke_session(old.id);
  return null;
end
$$;
comment on function private.handle_session_end() is 'Trigger: access tokens of a deleted session stop counting at once instead of at their expiry. Definer: only the domain and the login role may revoke.';
revoke all on function private.handle_session_end() from public, anon, authenticated, service_role;
create trigger kijko_session_ended after delete on auth.sessions
  for each row execute function private.handle_session_end();

create function private.limit_sessions() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_sessions constant integer := 100;
begin
  delete from auth.sessions as s
  where s.id = any (array(
    select o.id from auth.sessions as o
    -- The offset is in the inner query: rows that it skips must not be locked, or a refresh would wait for a login.
    where o.id = any (array(
      select i.id from auth.sessions as i
      where i.user_id = new.user_id and i.id <> new.id
      order by coalesce(i.updated_at, i.created_at) desc nulls last, i.id
      offset max_sessions - 1
    ))
    -- A locked session is being ended or refreshed; the next login deletes what is left.
    for update skip locked
  ));
  return null;
end
$$;
comment on function private.limit_sessions() is 'Trigger: a user has at most 100 sessions; a new one ends the least recently used. Definer: the login role may write auth only, and it is not the one on Supabase.';
revoke all on function private.limit_sessions() from public, anon, authenticated, service_role;
create trigger kijko_session_limit after insert on auth.sessions
  for each row execute function private.limit_sessions();

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.create_organization(name text) returns public.organizations
language plpgsql security definer set search_path = ''
as $$
declare
  me uuid := kijko.user_id();
begin
  if me is null then
    perform kijko.fail('not_identified');
  end if;
  if create_organization.name is null or create_organization.name !~ '\S' or char_length(create_organization.name) > 100 then
    perform kijko.fail('invalid_input', 'name: 1 to 100 characters, not blank');
  end if;
  -- Users first, as a deletion locks them; the new row's foreign key would lock the user last.
  perform 1 from auth.users as u where u.id = me for key share;
  return private.make_organization(me, btrim(create_organization.name), false);
end
$$;
comment on function public.create_organization(text) is 'Makes an organization with the caller as its owner, on the FREE plan. Definer: nobody may insert organizations or their own membership directly.';
revoke all on function public.create_organization(text) from public, anon, authenticated, service_role;
grant execute on function public.create_organization(text) to authenticated;

create type public.active_organization as (user_id uuid, active_org_id uuid);
comment on type public.active_organization is 'Result of set_active_organization().';

create function public.set_active_organization(org_id uuid) returns public.active_organization
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  active public.active_organization;
begin
  insert into private.active_organizations as a (user_id, active_org_id)
  select m.user_id, m.org_id
  from public.memberships as m
  where m.user_id = (select kijko.user_id()) and m.org_id = set_active_organization.org_id
  on conflict (user_id) do update set active_org_id = excluded.active_org_id
  returning a.user_id, a.active_org_id into active;
  if active.user_id is null then
    perform kijko.fail('not_a_member', 'org_id names no organization of yours');
  end if;
  return active;
end
$$;
comment on function public.set_active_organization(uuid) is 'Chooses the organization used when a request names none. Definer: the table of active organizations is private.';
revoke all on function public.set_active_organization(uuid) from public, anon, authenticated, service_role;
grant execute on function public.set_active_organization(uuid) to authenticated;

create function public.leave_organization(org_id uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := kijko.user_id();
begin
  if me is null then
    perform kijko.fail('not_identified');
  end if;
  delete from public.memberships as m where m.org_id = leave_organization.org_id and m.user_id = me;
  if not found then
    perform kijko.fail('not_a_member', 'org_id names no organization of yours');
  end if;
end
$$;
comment on function public.leave_organization(uuid) is 'Ends the caller''s membership; fails with conflict for the last owner. Definer: members without members:read may leave, too.';
revoke all on function public.leave_organization(uuid) from public, anon, authenticated, service_role;
grant execute on function public.leave_organization(uuid) to authenticated;

create function public.transfer_ownership(org_id uuid, user_id uuid) returns public.memberships
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := kijko.user_id();
  new_owner public.memberships;
begin
  if me is null then
    perform kijko.fail('not_identified');
  end if;
  if not public.has_role(transfer_ownership.org_id, 'viewer') then
    perform kijko.fail('not_a_member', 'org_id names no organization of yours');
  end if;
  -- One at a time; the caller's role is checked after the lock.
  perform 1 from public.organizations as o where o.id = transfer_ownership.org_id for no key update;
  if not public.has_role(transfer_ownership.org_id, 'owner') then
    perform kijko.fail('permission_denied', 'only an owner hands an organization over');
  end if;
  if transfer_ownership.user_id = me then
    perform kijko.fail('conflict', 'you own it already');
  end if;
  update public.memberships as m set role = 'owner'
  where m.org_id = transfer_ownership.org_id and m.user_id = transfer_ownership.user_id
  returning m.* into new_owner;
  if new_owner.id is null then
    perform kijko.fail('not_found', 'user_id names no member', 'Invite them first.');
  end if;
  update public.memberships as m set role = 'admin' where m.org_id = transfer_ownership.org_id and m.user_id = me;
  return new_owner;
end
$$;
comment on function public.transfer_ownership(uuid, uuid) is 'Makes a member the owner and the caller, an owner, an admin; answers with the new owner''s membership. Definer: both changes are one.';
revoke all on function public.transfer_ownership(uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function public.transfer_ownership(uuid, uuid) to authenticated;

-- ----------------------------------------------------------------------------
-- Before every request (PostgREST: db-pre-request)
--
-- before_request is an invoker function: it must see, and may later switch, the
-- request's role, which a definer function cannot. Mostly the extension knows whose
-- request it is, and does everything in one call. Otherwise admit_request finds out,
-- behind row level security, and tells the extension for the next time.
-- A GET runs READ ONLY, so nothing here writes a row: rates and requests are counted
-- in shared memory.
-- ----------------------------------------------------------------------------

create function private.admit_request() returns void
language plpgsql security definer set search_path = ''
as $$
declare
  -- Never an argument: a caller could spend someone else's rate.
  who constant uuid := kijko.user_id();
  named constant text := nullif(kijko.request_header('x-org-id'), '');
  wanted uuid := private.as_uuid(named);
  fault constant text := kijko.token_fault();
  epoch bigint;
  org uuid;
begin
  -- Authentication: the signature is ours, but the token may be no access token, or its session may have ended.
  if fault is not null then
    perform kijko.fail('not_identified', format('this is no access token: its claim %s is missing or wrong', fault));
  end if;
  if who is null and current_setting('role') <> 'anon' then
    perform kijko.fail('not_identified', 'the session of this token has ended, or the token names no user');
  end if;

  -- Which organization.
  if named is not null and wanted is null then
    perform kijko.fail('bad_request', 'header x-org-id: not a uuid');
  end if;
  if who is not null then
    wanted := coalesce(wanted, private.as_uuid(kijko.claim('org_id')));
    epoch := kijko.membership_epoch(); -- before the look-up: what changes after it must not be remembered
    select m.org_id into org
    from public.memberships as m
    where m.user_id = who
      and m.org_id = coalesce(wanted, (select a.active_org_id from private.active_organizations as a where a.user_id = who));
    if org is not null then
      perform kijko.remember_membership(epoch, who, wanted, org);
    end if;
  end if;

  -- Rate and quota. Counted before the refusal, so that probing other organizations is limited, too.
  if kijko.admit_request(org, who) is not true then
    perform kijko.fail('rate_limited'); -- it refuses by failing; anything but true must not pass either
  end if;
  if named is not null and org is null then
    perform kijko.fail('not_a_member', 'x-org-id names no organization of yours');
  end if;
end
$$;
comment on function private.admit_request() is 'Identifies the caller and the organization; then kijko.admit_request checks rate limits and the quota of requests and sets their headers. Definer: it reads memberships, and only the domain may name a request''s organization.';
revoke all on function private.admit_request() from public, anon, authenticated, service_role;
-- For service_role it only refuses tokens that are no access tokens.
grant execute on function private.admit_request() to anon, authenticated, service_role;

-- The extension caches what admit_request finds until one of these tables changes. Also fires for rows that a replica applies.
create trigger memberships_changed after insert or update or delete or truncate on public.memberships
  for each statement execute function kijko.membership_changed();
alter table public.memberships enable always trigger memberships_changed;
create trigger active_organizations_changed after insert or update or delete or truncate on private.active_organizations
  for each statement execute function kijko.membership_changed();
alter table private.active_organizations enable always trigger active_organizations_changed;

-- One expression of a void function, so that Postgres puts it in place of the call: no function is left to start.
create function public.before_request() returns void
language sql
begin atomic
  select case
    when current_user = 'service_role' and kijko.token_fault() is null then kijko.check_request()
    when kijko.admit_known_request() then null
    else private.admit_request()
  end;
end;
comment on function public.before_request() is 'Runs before every request: checks its headers, identifies the caller and the organization, applies rate limits and the quota of requests, and sets the statement timeout.';
revoke all on function public.before_request() from public, anon, authenticated, service_role;
grant execute on function public.before_request() to anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Requests that the sidecar takes
--
-- Nobody is known there but an address. What it refuses (a webhook without a valid
-- signature, a path that is not there) is limited for each; what it takes is not.
-- ----------------------------------------------------------------------------

create function private.admit_outside(forwarded_for text, method text, path text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  return kijko.admit_outside(forwarded_for, method, path);
end
$$;
comment on function private.admit_outside(text, text, text) is 'Asks the rate limit policies of the tier outside about a request that the sidecar took: {code, details, headers}, code null when it may go on. Definer: the sidecar may spend no other limits.';
revoke all on function private.admit_outside(text, text, text) from public, anon, authenticated, service_role;
grant execute on function private.admit_outside(text, text, text) to kijko_sidecar;

select kijko.set_rate_limit_policy('failed_requests', 'address', 60, interval '1 minute', 'outside');
