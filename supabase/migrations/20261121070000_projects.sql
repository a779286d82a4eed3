-- ============================================================================
-- Projects: what a tenant works on. Skills and executions may belong to one.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- projects
-- ----------------------------------------------------------------------------

create table public.projects (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  description text check (char_length(description) <= 10000),
  -- The default stands for "none given"; the trigger below fills it. Without one, generated types would ask for a slug.
  slug text not null default '' check (char_length(slug) <= 63 and slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, slug),
  -- Target of composite foreign keys: a child can only point at a project of its own organization.
  unique (org_id, id)
);

comment on table public.projects is 'Projects of an organization. Users write name, description and slug; the rest is set by the database.';
comment on column public.projects.id is 'Identity of the project.';
comment on column public.projects.org_id is 'Organization that owns it; never changes.';
comment on column public.projects.name is 'Shown to members.';
comment on column public.projects.description is 'Free text.';
comment on column public.projects.slug is 'URL part, unique in the organization; filled from the name when not given.';
comment on column public.projects.created_by is 'User who made it; null once that user is gone.';
comment on column public.projects.created_by_key is 'API key that made it; null when a user did.';
comment on column public.projects.created_at is 'When it was made.';
comment on column public.projects.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table('public.projects', resource => 'projects', gauge => 'projects', catalogue => '{
  "name, description, slug": "what members call and find the project by"
}');

create function private.projects_fill_slug() returns trigger
language plpgsql set search_path = ''
as $$
begin
  if coalesce(new.slug, '') = '' then
    new.slug := private.slugify(new.name);
    -- Two rows at once may still meet: the unique key then refuses the second.
    if exists (select 1 from public.projects as p where p.org_id = new.org_id and p.slug = new.slug) then
      new.slug := new.slug || '-' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 8);
    end if;
  end if;
  return new;
end
$$;
comment on function private.projects_fill_slug() is 'Trigger: a slug from the name when none is given, with a suffix if it is taken.';
create trigger projects_slug before insert on public.projects
  for each row execute function private.projects_fill_slug();
