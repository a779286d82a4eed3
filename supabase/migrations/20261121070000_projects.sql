-- ============================================================================
-- Projects group a tenant's skills and executions.
--
-- Only its members and holders of projects:manage see a private project, and the role of a member says what they change in it:
--   viewer   nothing        member   what is in it        admin   also the project itself and its members
-- A role narrows what the caller's permissions in the organization allow; it never adds to them. Policies and functions ask:
--   private.projects_hidden_ids(), projects_is_visible(id)        who sees a project and the rows that point at it
--   private.projects_unwritable_ids(), projects_is_writable(id)   who changes these rows
--   private.projects_is_managed(id)                               who changes the project and its members
-- An archived project does not change and nothing in it runs: projects_archive.sql.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- projects
-- ----------------------------------------------------------------------------

create table public.projects (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  description text check (char_length(description) <= 10000),
  visibility text not null default 'organization' check (visibility in ('organization', 'private')),
  -- The default means "not given": a trigger fills it. Without a default the generated types would require a slug.
  slug text not null default '' check (char_length(slug) <= 63 and slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object' and private.json_fits(settings, 16384)),
  archived_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, slug),
  -- Target of composite foreign keys: a child can only point at a project of its own organization.
  unique (org_id, id)
);

comment on table public.projects is 'Projects of an organization. Users write name, description, slug, visibility and settings; the database sets the rest.';
comment on column public.projects.id is 'Identity of the project.';
comment on column public.projects.org_id is 'Organization that owns it; never changes.';
comment on column public.projects.name is 'Name that members see.';
comment on column public.projects.description is 'Free text.';
comment on column public.projects.slug is 'Part of a URL, unique in the organization. Derived from the name when not given.';
comment on column public.projects.visibility is 'organization: all members of the organization see it. private: only its own members and holders of projects:manage see it.';
comment on column public.projects.settings is 'Settings of your frontend, an object of at most 16 KiB. The database does not read it.';
comment on column public.projects.archived_at is 'When it was archived: nothing in it changes or runs until it is restored. Null for an active project. Set by archive_project() and restore_project().';
comment on column public.projects.created_by is 'User who created it; null after that user is deleted.';
comment on column public.projects.created_by_key is 'API key that created it; null for a user.';
comment on column public.projects.created_at is 'When it was created.';
comment on column public.projects.updated_at is 'Last change; set by trigger.';
-- Few projects are private, and every statement on a table with projects looks for them.
create index projects_private_idx on public.projects (org_id) where visibility = 'private';

-- ----------------------------------------------------------------------------
-- project_members
-- ----------------------------------------------------------------------------

create table public.project_members (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid not null,
  user_id uuid not null,
  role text not null default 'member' check (role in ('viewer', 'member', 'admin')),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, project_id, user_id),
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade,
  -- Who leaves the organization leaves its projects.
  foreign key (org_id, user_id) references public.memberships (org_id, user_id) on delete cascade,
  -- For embedding profiles(display_name). Checked last, so that the error does not show whether a user exists elsewhere.
  foreign key (user_id) references public.profiles (id) on delete cascade
);
create index project_members_user_id_idx on public.project_members (user_id, org_id);

comment on table public.project_members is 'Members of projects: they see the project while it is private. Its admins and holders of projects:manage add, change and remove them; a member may leave. While its visibility is organization, the rows have no effect, and all holders of projects:write change them.';
comment on column public.project_members.id is 'Identity of the row.';
comment on column public.project_members.org_id is 'Organization of the project; never changes.';
comment on column public.project_members.project_id is 'The project.';
comment on column public.project_members.user_id is 'Member of the organization who sees the project.';
comment on column public.project_members.role is 'What the member changes in the private project, as far as their permissions allow it: viewer nothing, member what is in it, admin also the project and its members.';
comment on column public.project_members.created_by is 'User who added the member; null after that user is deleted.';
comment on column public.project_members.created_by_key is 'API key that added the member; null for a user.';
comment on column public.project_members.created_at is 'When the member was added.';
comment on column public.project_members.updated_at is 'Last change; set by trigger.';

-- ----------------------------------------------------------------------------
-- Who sees which project. In plpgsql for their cached plans.
-- ----------------------------------------------------------------------------

create function private.projects_hidden_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select p.id
  from public.projects as p
  where p.visibility = 'private'
    and p.org_id = any (array(select public.org_ids()))
    and p.org_id <> all (array(select private.org_ids_with('projects:manage')))
    and not exists (
      select 1 from public.project_members as m
      where m.org_id = p.org_id and m.project_id = p.id and m.user_id = (select kijko.user_id())
    );
end
$$;
comment on function private.projects_hidden_ids() is 'Private projects of the caller''s organizations that the caller does not see; usually none. Policies use it beside a permission, which keeps other organizations'' rows out. Definer: policies of projects use it.';
grant execute on function private.projects_hidden_ids() to authenticated, service_role;

-- Volatile, so that it sees what the same statement has written: "with made as (insert into projects …) insert into skills …".
create function private.projects_is_visible(project_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select 1
    from public.projects as p
    where p.id = projects_is_visible.project_id
      and p.org_id = any (array(select public.org_ids()))
      and p.id <> all (array(select private.projects_hidden_ids()))
  );
end
$$;
comment on function private.projects_is_visible(uuid) is 'Whether a project exists, in an organization of the caller, and is not hidden from the caller; false for null. Definer: reads projects for policies and definer functions.';
grant execute on function private.projects_is_visible(uuid) to authenticated, service_role;

create function private.projects_unwritable_ids() returns setof uuid
language plpgsql stable parallel safe security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select p.id
  from public.projects as p
  where p.visibility = 'private'
    and p.org_id = any (array(select public.org_ids()))
    and p.org_id <> all (array(select private.org_ids_with('projects:manage')))
    and not exists (
      select 1 from public.project_members as m
      where m.org_id = p.org_id and m.project_id = p.id and m.user_id = (select kijko.user_id()) and m.role in ('member', 'admin')
    );
end
$$;
comment on function private.projects_unwritable_ids() is 'Private projects of the caller''s organizations in which the caller changes nothing: hidden ones, and those that the caller only views. Policies use it beside a permission. Definer: policies of projects use projects_hidden_ids().';
grant execute on function private.projects_unwritable_ids() to authenticated, service_role;

create function private.projects_is_writable(project_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.projects_is_visible(projects_is_writable.project_id)
    and projects_is_writable.project_id <> all (array(select private.projects_unwritable_ids()));
end
$$;
comment on function private.projects_is_writable(uuid) is 'Whether the caller sees a project and is more than a viewer of it; false for null. Policies ask it beside a permission. Definer: as projects_is_visible().';
grant execute on function private.projects_is_writable(uuid) to authenticated, service_role;

create function private.projects_is_managed(project_id uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select 1
    from public.projects as p
    where p.id = projects_is_managed.project_id
      and p.org_id = any (array(select public.org_ids()))
      and (
        p.visibility = 'organization'
        or p.org_id = any (array(select private.org_ids_with('projects:manage')))
        or exists (
          select 1 from public.project_members as m
          where m.org_id = p.org_id and m.project_id = p.id and m.user_id = (select kijko.user_id()) and m.role = 'admin'
        )
      )
  );
end
$$;
comment on function private.projects_is_managed(uuid) is 'Whether the caller may change a project and its members, given projects:write: every member of the organization for a project that all see, its admins and holders of projects:manage for a private one. Definer: as projects_is_visible().';
grant execute on function private.projects_is_managed(uuid) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- What triggers refuse, also to definer functions
-- ----------------------------------------------------------------------------

create function private.projects_require_open(project_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := (select p.org_id from public.projects as p where p.id = projects_require_open.project_id);
  project public.projects;
  is_client constant boolean := (kijko.actor()).kind not in ('none', 'service');
begin
  -- The order of locks: the organization before its rows.
  perform 1 from public.organizations as o where o.id = org for key share;
  -- Archiving waits for the transactions that write in the project, and they for it.
  select p.* into project from public.projects as p where p.id = projects_require_open.project_id for share;
  -- The policies refuse what the caller does not see, in the same way as an id that does not exist.
  if project.id is null or (is_client and not private.projects_is_visible(project.id)) then
    return;
  end if;
  if project.archived_at is not null then
    perform kijko.fail('project_archived', 'the project is archived', 'Restore it: restore_project().');
  end if;
  -- Policies say so as well. Definer functions pass them.
  if is_client and not private.projects_is_writable(project.id) then
    perform kijko.fail('permission_denied', 'a viewer of the project changes nothing in it');
  end if;
end
$$;
comment on function private.projects_require_open(uuid) is 'Fails with project_archived if a project is archived, and with permission_denied if the caller only views it. Locks it against being archived until the transaction ends. Does nothing for null, for a project that does not exist, and for one that the caller does not see. Called by definer functions and triggers.';

create function private.projects_write_refusal(project_id uuid) returns text
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case
    when p.archived_at is not null then 'project_archived'
    when not private.projects_is_writable(p.id) then 'permission_denied'
  end
  from public.projects as p where p.id = projects_write_refusal.project_id
$$;
comment on function private.projects_write_refusal(uuid) is 'The code with which the caller is refused to write rows of a project that they see: project_archived, or permission_denied for its viewers; null if they may, and for null. For functions that answer row by row: the trigger would end the whole call. Nullable: result. Called by definer functions.';

create function private.projects_guard_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' and old.project_id is not null
    -- Who leaves a project does not change it.
    and not (tg_op = 'DELETE' and tg_table_name = 'project_members' and to_jsonb(old) ->> 'user_id' = kijko.user_id()::text)
  then
    perform private.projects_require_open(old.project_id);
  end if;
  if tg_op = 'DELETE' then
    return old;
  end if;
  if new.project_id is not null and (tg_op = 'INSERT' or new.project_id is distinct from old.project_id) then
    perform private.projects_require_open(new.project_id);
  end if;
  return new;
end
$$;
comment on function private.projects_guard_row() is 'Trigger of tables with a project_id: refuses to write rows of an archived project, and of one that the caller only views. Definer: locks the project.';

-- ----------------------------------------------------------------------------
-- Rights, policies and triggers
-- ----------------------------------------------------------------------------

select private.make_tenant_table(
  'public.projects', resource => 'projects', gauge => 'projects',
  writable => array['name', 'description', 'visibility', 'slug', 'settings'],
  catalogue => '{
    "name, description, slug": "what members call and find the project by",
    "visibility": "says who sees the project",
    "settings": "settings of the frontend",
    "archived_at": "says whether the project is archived"
  }'
);
alter policy projects_select on public.projects
  using (org_id = any (array(select private.org_ids_with('projects:read'))) and id <> all (array(select private.projects_hidden_ids())));
-- A statement that waited for the row is checked again, and the project may be private by then. A list of ids would be that of
-- the statement's begin.
alter policy projects_update on public.projects
  using (org_id = any (array(select private.org_ids_with('projects:write'))) and private.projects_is_managed(id));
alter policy projects_delete on public.projects
  using (org_id = any (array(select private.org_ids_with('projects:write'))) and private.projects_is_managed(id));

select private.make_tenant_table(
  'public.project_members', resource => 'projects', max_rows => 100000, catalogue => '{
    "project_id": "project that the member sees",
    "user_id": {"subject": "person", "purpose": "who the member is", "export": "organization", "erasure": "person"},
    "role": "says what the member changes in the project"
  }'
);
alter policy project_members_insert on public.project_members
  with check (org_id = any (array(select private.org_ids_with('projects:write'))) and private.projects_is_managed(project_id));
alter policy project_members_update on public.project_members
  using (org_id = any (array(select private.org_ids_with('projects:write'))) and private.projects_is_managed(project_id))
  with check (org_id = any (array(select private.org_ids_with('projects:write'))) and private.projects_is_managed(project_id));
-- Members leave, whatever their role.
alter policy project_members_delete on public.project_members
  using (
    org_id = any (array(select private.org_ids_with('projects:write')))
    and (private.projects_is_managed(project_id) or (user_id = (select kijko.user_id()) and private.projects_is_visible(project_id)))
  );

create function private.projects_await_removal() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Without this wait, the insert would wait at the unique key, after the policy has looked, and bring the removed member back.
  perform 1 from public.project_members as m
  where m.org_id = new.org_id and m.project_id = new.project_id and m.user_id = new.user_id
  for key share;
  return new;
end
$$;
comment on function private.projects_await_removal() is 'Trigger: a user who adds themselves waits until no other transaction is removing them. The policy, which looks after this trigger, then sees the removal. Definer: the row may be hidden from them.';
create trigger project_members_await_removal before insert or update of project_id, user_id on public.project_members
  for each row when (new.user_id = kijko.user_id()) execute function private.projects_await_removal();

create function private.projects_add_maker() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Nobody would see the project, not even the key.
  if (kijko.actor()).kind = 'service_key' and not public.can(new.org_id, 'projects:manage') then
    perform kijko.fail('permission_denied', 'a service key needs the permission projects:manage to make a project private');
  end if;
  insert into public.project_members as p (org_id, project_id, user_id, role)
  select m.org_id, new.id, m.user_id, 'admin' from public.memberships as m where m.org_id = new.org_id and m.user_id = kijko.user_id()
  on conflict on constraint project_members_org_id_project_id_user_id_key do update set role = 'admin' where p.role <> 'admin';
  return null;
end
$$;
comment on function private.projects_add_maker() is 'Trigger: a user who makes a project private, also by a personal key, becomes an admin of it, and so still sees and changes it. A service key needs projects:manage. Definer: the project is hidden from them until the row exists.';
create trigger projects_private_insert after insert on public.projects
  for each row when (new.visibility = 'private') execute function private.projects_add_maker();
create trigger projects_private_update after update of visibility on public.projects
  for each row when (new.visibility = 'private' and old.visibility <> 'private') execute function private.projects_add_maker();

create function private.projects_fill_slug() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(new.slug, '') = '' then
    new.slug := private.slugify(new.name);
    -- Of two concurrent inserts with one slug, the unique key refuses the second.
    if exists (select 1 from public.projects as p where p.org_id = new.org_id and p.slug = new.slug) then
      new.slug := new.slug || '-' || left(gen_random_uuid()::text, 8);
    end if;
  end if;
  return new;
end
$$;
comment on function private.projects_fill_slug() is 'Trigger: derives the slug from the name when none is given, with a random suffix if it is taken. Definer: a project that the caller does not see may have it.';
create trigger projects_slug before insert on public.projects
  for each row execute function private.projects_fill_slug();
