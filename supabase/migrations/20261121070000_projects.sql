-- ============================================================================
-- Projects group a tenant's skills and executions.
--
-- Only its members and holders of projects:manage see a private project. It hides its rows in other tables, too:
--   private.projects_hidden_ids()     the projects that the caller does not see, for policies
--   private.projects_is_visible(id)   whether the caller sees one, for what a statement writes and for definer functions
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
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, slug),
  -- Target of composite foreign keys: a child can only point at a project of its own organization.
  unique (org_id, id)
);

comment on table public.projects is 'Projects of an organization. Users write name, description, slug and visibility; the database sets the rest.';
comment on column public.projects.id is 'Identity of the project.';
comment on column public.projects.org_id is 'Organization that owns it; never changes.';
comment on column public.projects.name is 'Name that members see.';
comment on column public.projects.description is 'Free text.';
comment on column public.projects.slug is 'Part of a URL, unique in the organization. Derived from the name when not given.';
comment on column public.projects.visibility is 'organization: all members of the organization see it. private: only its own members and holders of projects:manage see it.';
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

comment on table public.project_members is 'Members of projects: they see the project while it is private. A user who sees the project and holds projects:write adds and removes them. While its visibility is organization, the rows have no effect.';
comment on column public.project_members.id is 'Identity of the row.';
comment on column public.project_members.org_id is 'Organization of the project; never changes.';
comment on column public.project_members.project_id is 'The project.';
comment on column public.project_members.user_id is 'Member of the organization who sees the project.';
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

select private.make_tenant_table('public.projects', resource => 'projects', gauge => 'projects', catalogue => '{
  "name, description, slug": "what members call and find the project by",
  "visibility": "says who sees the project"
}');
alter policy projects_select on public.projects
  using (org_id = any (array(select private.org_ids_with('projects:read'))) and id <> all (array(select private.projects_hidden_ids())));
-- A statement that waited for the row is checked again, and the project may be private by then. A list of hidden ids would be
-- that of the statement's begin.
alter policy projects_update on public.projects
  using (org_id = any (array(select private.org_ids_with('projects:write'))) and private.projects_is_visible(id));
alter policy projects_delete on public.projects
  using (org_id = any (array(select private.org_ids_with('projects:write'))) and private.projects_is_visible(id));

select private.make_tenant_table(
  'public.project_members', resource => 'projects', max_rows => 100000, catalogue => '{
    "project_id": "project that the member sees",
    "user_id": {"subject": "person", "purpose": "who the member is", "export": "organization", "erasure": "person"}
  }'
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
  insert into public.project_members (org_id, project_id, user_id)
  select m.org_id, new.id, m.user_id from public.memberships as m where m.org_id = new.org_id and m.user_id = kijko.user_id()
  on conflict do nothing;
  return null;
end
$$;
comment on function private.projects_add_maker() is 'Trigger: a user who makes a project private, also by a personal key, becomes its member, and so still sees it. A service key needs projects:manage. Definer: the project is hidden from them until the row exists.';
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
