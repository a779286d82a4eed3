-- ============================================================================
-- Projects group a tenant's skills and executions.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- projects
-- ----------------------------------------------------------------------------

create table public.projects (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  description text check (char_length(description) <= 10000),
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

comment on table public.projects is 'Projects of an organization. Users write name, description and slug; the database sets the rest.';
comment on column public.projects.id is 'Identity of the project.';
comment on column public.projects.org_id is 'Organization that owns it; never changes.';
comment on column public.projects.name is 'Name that members see.';
comment on column public.projects.description is 'Free text.';
comment on column public.projects.slug is 'Part of a URL, unique in the organization. Derived from the name when not given.';
comment on column public.projects.created_by is 'User who created it; null after that user is deleted.';
comment on column public.projects.created_by_key is 'API key that created it; null for a user.';
comment on column public.projects.created_at is 'When it was created.';
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
    -- Of two concurrent inserts with one slug, the unique key refuses the second.
    if exists (select 1 from public.projects as p where p.org_id = new.org_id and p.slug = new.slug) then
      new.slug := new.slug || '-' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 8);
    end if;
  end if;
  return new;
end
$$;
comment on function private.projects_fill_slug() is 'Trigger: derives the slug from the name when none is given, with a random suffix if it is taken.';
create trigger projects_slug before insert on public.projects
  for each row execute function private.projects_fill_slug();
