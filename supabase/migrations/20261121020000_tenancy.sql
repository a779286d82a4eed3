-- ============================================================================
-- Tenancy: organizations, their members, and what a request may do.
--
-- Every other domain uses three functions of this one:
--   public.org_ids()            the organizations of the caller
--   private.org_ids_with(perm)  those in which the caller holds a permission
--   public.org_id()             the organization of the request, to which new rows belong
-- A member holds the permissions of a built-in role, or those of a custom role of the organization.
-- Policies call org_ids_with() as "org_id = any (array(select ...))": one look-up for each statement, then an index scan.
-- "org_id in (select ...)" cannot use the index.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Roles and permissions: the single source
-- ----------------------------------------------------------------------------

create table private.roles (
  role text primary key check (octet_length(role) <= 40 and role ~ '^[a-z_]+$'),
  rank smallint not null unique
);
alter table private.roles enable row level security;

comment on table private.roles is 'Roles of members, in order. Only the membership helpers read it.';
comment on column private.roles.role is 'Name of the role, as in memberships.role.';
comment on column private.roles.rank is 'A higher rank may do more. has_role() compares ranks.';
select private.describe_data('private.roles', '{
  "role, rank": "which roles there are, in order"
}', 'platform');

insert into private.roles (role, rank) values
  ('viewer', 10), ('member', 20), ('admin', 30), ('owner', 40);

create table private.permissions (
  permission text primary key check (octet_length(permission) <= 80 and permission ~ '^[a-z_]+:[a-z_]+$'),
  description text not null check (char_length(description) between 1 and 200),
  -- What manages access, money or evidence, and secrets, is granted by name only.
  wildcard text generated always as (
    case
      when split_part(permission, ':', 1) in (
        'api_keys', 'audit', 'billing', 'connections', 'issuers', 'llm_contents', 'members', 'organization', 'privacy', 'roles', 'secrets'
      ) or permission = 'llm:write' then null
      when split_part(permission, ':', 2) in ('read', 'write') then '*:' || split_part(permission, ':', 2)
    end
  ) stored
);
alter table private.permissions enable row level security;

comment on table private.permissions is 'The catalogue of permissions. Roles and keys can hold no other ones. Users read it by permissions().';
comment on column private.permissions.permission is 'resource:action, as can() and org_ids_with() take it.';
comment on column private.permissions.description is 'What the holder may do, for whoever edits roles.';
comment on column private.permissions.wildcard is '*:read or *:write: the entry of a custom role or key that grants it, too. Null for permissions that are granted by name only.';
select private.describe_data('private.permissions', '{
  "permission, description, wildcard": "which permissions there are"
}', 'platform');

-- ----------------------------------------------------------------------------
-- organizations
-- ----------------------------------------------------------------------------

create table public.organizations (
  -- Not of version 8: kijko.subject() gives such ids to subjects of limits that are not organizations.
  id uuid primary key default gen_random_uuid() check (substr(id::text, 15, 1) <> '8'),
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  slug text not null default '' unique check (char_length(slug) <= 63 and slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  personal_for uuid unique references auth.users (id) on delete set null,
  mfa_required boolean not null default false,
  sso_required boolean not null default false,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);
create index organizations_created_by_idx on public.organizations (created_by);

comment on table public.organizations is 'Tenants. Sign-up creates a personal one, create_organization() any other. Deleting a row deletes everything that the tenant owns.';
comment on column public.organizations.id is 'The org_id of every tenant table and the subject of every limit.';
comment on column public.organizations.name is 'Name that members see.';
comment on column public.organizations.slug is 'Unique part of a URL. Derived from the name when not given.';
comment on column public.organizations.personal_for is 'The user of a personal organization, which is deleted with that user. Null for every other organization, and once a second member has joined.';
comment on column public.organizations.mfa_required is 'Whether members see and do nothing here without a second factor in their session (aal2). A user who sets it needs one.';
comment on column public.organizations.sso_required is 'Whether members must come by an issuer of the organization. Its break-glass owners may still sign in here.';
comment on column public.organizations.created_by is 'User who created it; null after that user is deleted.';
comment on column public.organizations.created_at is 'When it was created.';
comment on column public.organizations.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.organizations', '{
  "name, slug": "what members call the organization, and its URL",
  "mfa_required, sso_required": "protects what the organization has from stolen passwords, and from whom its login server has blocked",
  "personal_for": {"subject": "person", "purpose": "deletes a personal organization with its user", "export": "organization"}
}');

alter table public.organizations enable row level security;
grant select, delete, update (name, slug, mfa_required, sso_required) on public.organizations to authenticated;
grant select, insert, update, delete on public.organizations to service_role;

-- The owner of rows of the platform itself. It has no members, so no policy shows it or its rows to a user. It has no
-- subscription, so no plan limits it.
insert into public.organizations (id, name, slug) values (kijko.platform_org_id(), 'Platform', 'platform');

-- ----------------------------------------------------------------------------
-- profiles
-- ----------------------------------------------------------------------------

create table public.profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  email text check (char_length(email) <= 320),
  display_name text not null check (char_length(display_name) <= 100 and private.is_name(display_name)),
  avatar_url text check (char_length(avatar_url) <= 2048 and avatar_url !~ '[\u0001-\u0020\u007f]'),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now()
);

comment on table public.profiles is 'Public data of users. Visible to users who hold members:read in an organization of the user.';
comment on column public.profiles.id is 'The user: auth.users.id.';
comment on column public.profiles.email is 'Copy of the login address, set by trigger, by which members recognize each other. Null after a soft deletion.';
comment on column public.profiles.display_name is 'Name that other members see. The user can change it. "Deleted user" after a soft deletion.';
comment on column public.profiles.avatar_url is 'URL of a picture; null without one.';
comment on column public.profiles.created_at is 'When the user signed up.';
comment on column public.profiles.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.profiles', '{
  "id": "identity of the user",
  "email, display_name, avatar_url": "lets members recognize each other"
}', 'person');

alter table public.profiles enable row level security;
-- INSERT is for upserts of the user's own profile. Sign-up creates it, so no user creates one.
grant select,
  insert (id, display_name, avatar_url),
  update (id, display_name, avatar_url)
on public.profiles to authenticated;
grant select, insert, update, delete on public.profiles to service_role;

-- ----------------------------------------------------------------------------
-- custom_roles
-- ----------------------------------------------------------------------------

create table public.custom_roles (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null references public.organizations (id) on delete cascade,
  -- The name of a built-in role would deceive whoever assigns it.
  name text not null check (char_length(name) <= 100 and private.is_name(name) and lower(btrim(name)) not in ('viewer', 'member', 'admin', 'owner')),
  description text check (char_length(description) <= 1000),
  -- Never owner: only the built-in role owns an organization, so that an owner always holds every permission.
  base_role text not null default 'viewer' check (base_role in ('viewer', 'member', 'admin')),
  permissions text[] not null default '{}' check (cardinality(permissions) <= 200),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, name),
  -- Target of the foreign keys of members and invitations, which keep their role equal to base_role.
  unique (org_id, id, base_role)
);

comment on table public.custom_roles is 'Roles that an organization defines. A member with one holds its permissions and no others. Nobody creates, changes, deletes or assigns a role with a permission that they lack.';
comment on column public.custom_roles.id is 'Identity of the role; memberships.custom_role_id points at it.';
comment on column public.custom_roles.org_id is 'Organization that defines it; never changes.';
comment on column public.custom_roles.name is 'Name that members see, unique in the organization.';
comment on column public.custom_roles.description is 'What the role is for.';
comment on column public.custom_roles.base_role is 'Built-in role that has_role() answers for its members, and up to which they manage other members. It grants no permission.';
comment on column public.custom_roles.permissions is 'What its members may do: permissions of the catalogue, *:read and *:write; sorted, without repetitions.';
comment on column public.custom_roles.created_by is 'User who created it; null after that user is deleted.';
comment on column public.custom_roles.created_by_key is 'API key that created it; null for a user.';
comment on column public.custom_roles.created_at is 'When it was created.';
comment on column public.custom_roles.updated_at is 'Last change; set by trigger.';

-- ----------------------------------------------------------------------------
-- What roles hold
-- ----------------------------------------------------------------------------

-- Wildcards are expanded, so that org_ids_with() looks one row up for a built-in and for a custom role alike. Reading the
-- lists of custom roles in its query took 21 us instead of 13, also for members without one.
create table private.role_permissions (
  role text references private.roles (role),
  custom_role_id uuid references public.custom_roles (id) on delete cascade,
  permission text not null references private.permissions (permission),
  holder text not null generated always as (coalesce(custom_role_id::text, role)) stored,
  primary key (holder, permission),
  check (num_nonnulls(role, custom_role_id) = 1)
);
alter table private.role_permissions enable row level security;
create index role_permissions_role_idx on private.role_permissions (role) where role is not null;
create index role_permissions_custom_role_id_idx on private.role_permissions (custom_role_id) where custom_role_id is not null;
create index role_permissions_permission_idx on private.role_permissions (permission);

comment on table private.role_permissions is 'The permissions of each role, in full: a role does not hold a permission that is not listed. Triggers keep those of custom roles.';
comment on column private.role_permissions.role is 'Built-in role that holds the permission; null for a custom one.';
comment on column private.role_permissions.custom_role_id is 'Custom role that holds the permission; null for a built-in one.';
comment on column private.role_permissions.permission is 'Permission of the catalogue.';
comment on column private.role_permissions.holder is 'Name of the built-in role, or id of the custom one.';
select private.describe_data('private.role_permissions', '{
  "role, permission": "what each role may do",
  "custom_role_id, holder": {"subject": "organization", "purpose": "what each custom role may do", "export": "none"}
}', 'platform');

-- Each line names the lowest role that holds a permission. That role and all higher ones get it.
with line (lowest, permission, description) as (
  values
    ('viewer', 'organization:read', 'See the organization, its name and its URL'),
    ('viewer', 'members:read', 'See members, their addresses, and invitations'),
    ('viewer', 'roles:read', 'See custom roles and what they may do'),
    ('viewer', 'projects:read', 'See projects, except private ones of others'),
    ('viewer', 'skills:read', 'See skills and their prompts'),
    ('viewer', 'habits:read', 'See schedules'),
    ('viewer', 'reflexes:read', 'See webhooks that run skills'),
    ('viewer', 'executions:read', 'See executions, their input and output'),
    ('viewer', 'jobs:read', 'See jobs and their events'),
    ('viewer', 'files:read', 'Download files'),
    ('viewer', 'content:read', 'See content'),
    ('viewer', 'analytics:read', 'See product events, and ask for series, funnels and retention'),
    ('viewer', 'repositories:read', 'See repositories and search their code'),
    ('viewer', 'usage:read', 'See usage and its limits'),
    ('viewer', 'prompts:read', 'See prompts, their versions and labels'),
    ('viewer', 'flags:read', 'See feature flags, and how often they are asked for'),
    ('viewer', 'approvals:read', 'See changes that need a second person, and what became of them'),
    ('viewer', 'llm:read', 'See budgets, routes, providers and calls of models'),
    ('viewer', 'notifications:read', 'See notifications to all members'),
    ('viewer', 'rooms:read', 'Join the organization''s rooms, and be seen in them'),
    ('member', 'projects:write', 'Create, change and delete projects'),
    ('member', 'skills:write', 'Create, change and delete skills'),
    ('member', 'prompts:write', 'Push and delete prompts, move labels, and ask for approvals'),
    ('member', 'habits:write', 'Create, change and delete schedules'),
    ('member', 'reflexes:write', 'Create, change and delete webhooks that run skills'),
    ('member', 'files:write', 'Upload, change and delete files'),
    ('member', 'content:write', 'Create, change and delete content'),
    ('member', 'analytics:write', 'Save queries and dashboards, and say which properties are summed up'),
    ('member', 'skills:execute', 'Run skills, and cancel and repeat executions'),
    ('member', 'llm:call', 'Call models'),
    ('member', 'api_keys:write_own', 'Create and revoke own API keys'),
    ('member', 'events:ingest', 'Send product events, also from a browser'),
    ('member', 'flags:write', 'Create, change and delete feature flags, and turn them on and off'),
    ('member', 'flags:evaluate', 'Evaluate feature flags, also from a browser'),
    ('member', 'connections:read', 'See which accounts at other services are connected, never their tokens'),
    ('member', 'rooms:write', 'Send messages in the organization''s rooms'),
    ('admin', 'prompts:approve', 'Approve and reject changes of protected labels, and say which are protected'),
    ('admin', 'flags:approve', 'Approve and reject changes of flags in protected environments, and say which are protected'),
    ('admin', 'content:approve', 'Approve and reject content'),
    ('admin', 'content:publish', 'Schedule, publish and withdraw content'),
    ('admin', 'llm:write', 'Change budgets, routes and providers of models, and set their keys'),
    ('admin', 'llm_contents:read', 'See recorded prompts and answers of models'),
    ('admin', 'notifications:write', 'Send notifications to members, and define their types'),
    ('admin', 'organization:write', 'Rename the organization, require a second factor, and define its usage meters'),
    ('admin', 'members:write', 'Invite members, change their roles and remove them'),
    ('admin', 'roles:write', 'Create, change and delete custom roles'),
    ('admin', 'projects:manage', 'See and change private projects of others'),
    ('admin', 'api_keys:read', 'See all API keys of the organization'),
    ('admin', 'api_keys:write', 'Create, change and revoke all API keys of the organization'),
    ('admin', 'webhooks:read', 'See webhook endpoints and what they were sent'),
    ('admin', 'webhooks:write', 'Create, change and delete webhook endpoints, and send again'),
    ('admin', 'secrets:read', 'See the names of stored secrets, never their values'),
    ('admin', 'secrets:write', 'Store, replace and delete secrets'),
    ('admin', 'connections:write', 'Connect and remove accounts at other services'),
    ('admin', 'issuers:read', 'See which login servers may sign members in'),
    ('admin', 'billing:read', 'See the plan, its price and invoices'),
    ('admin', 'privacy:write', 'Export and erase what the organization has about a member'),
    ('admin', 'audit:read', 'See who did what, and why access was given'),
    ('owner', 'repositories:write', 'Connect and remove repositories'),
    ('owner', 'issuers:write', 'Let login servers sign members in, say which roles they give, and require them'),
    ('owner', 'billing:write', 'Change the plan and how it is paid'),
    ('owner', 'organization:delete', 'Delete the organization and everything in it')
), known as (
  insert into private.permissions (permission, description) select line.permission, line.description from line
)
insert into private.role_permissions (role, permission)
select holder.role, line.permission
from line
join private.roles as low on low.role = line.lowest
join private.roles as holder on holder.rank >= low.rank;

-- ----------------------------------------------------------------------------
-- memberships
-- ----------------------------------------------------------------------------

create table public.memberships (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null references public.organizations (id) on delete cascade check (org_id <> kijko.platform_org_id()),
  -- The only foreign key to profiles, so that embedding profiles(display_name) is unambiguous.
  user_id uuid not null references public.profiles (id) on delete cascade,
  role text not null default 'member' check (role in ('viewer', 'member', 'admin', 'owner')),
  custom_role_id uuid,
  -- Here too, because the index below is all that org_ids_with() reads of a membership.
  mfa_required boolean not null default false,
  sso_required boolean not null default false,
  is_break_glass boolean not null default false check (not is_break_glass or role = 'owner'),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, user_id),
  -- A custom role of the same organization. Its base role is the member's role, also after it changes.
  foreign key (org_id, custom_role_id, role) references public.custom_roles (org_id, id, base_role) on update cascade on delete restrict
);
-- org_ids(), which nearly every statement calls, reads this index alone.
create index memberships_user_id_idx on public.memberships (user_id, org_id) include (role, custom_role_id, mfa_required, sso_required);
create index memberships_custom_role_id_idx on public.memberships (org_id, custom_role_id, role) where custom_role_id is not null;
create index memberships_created_by_idx on public.memberships (created_by);

comment on table public.memberships is 'Members of organizations and their roles, on which every policy is based. Users cannot insert rows: they accept invitations.';
comment on column public.memberships.id is 'Identity of the row.';
comment on column public.memberships.org_id is 'Organization.';
comment on column public.memberships.user_id is 'Member.';
comment on column public.memberships.role is 'viewer < member < admin < owner. private.role_permissions has the permissions of each. With a custom role it is that role''s base_role and grants no permission.';
comment on column public.memberships.custom_role_id is 'Custom role that says what the member may do. Null: the built-in role does.';
comment on column public.memberships.mfa_required is 'Copy of organizations.mfa_required, kept by triggers.';
comment on column public.memberships.sso_required is 'Whether the membership is closed, because organizations.sso_required holds and the member signs in here: not by an issuer, nor as a break-glass owner. Kept by triggers.';
comment on column public.memberships.is_break_glass is 'Whether this owner may sign in here where the organization requires its issuer. Each such session is an entry of the audit log, and the other owners are notified.';
comment on column public.memberships.created_by is 'User who invited the member or created the organization. Null for members added by service_role, and after that user is deleted.';
comment on column public.memberships.created_at is 'When the member was added.';
comment on column public.memberships.updated_at is 'Last change; set by trigger.';
select private.describe_data('public.memberships', '{
  "user_id": {"subject": "person", "purpose": "who the member is", "export": "organization", "erasure": "person"},
  "role, custom_role_id, mfa_required, sso_required, is_break_glass": "what the member may do, and when"
}');

alter table public.memberships enable row level security;
-- No insert: membership needs the user's consent.
grant select, delete, update (role, custom_role_id, is_break_glass) on public.memberships to authenticated;
grant select, insert, update, delete on public.memberships to service_role;

-- ----------------------------------------------------------------------------
-- The active organization of each user. Not a column of profiles, which other members may read.
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
select private.describe_data('private.active_organizations', '{
  "user_id, active_org_id": "where the user works when a request names no organization"
}', 'person');

alter table private.active_organizations enable row level security;
