-- ============================================================================
-- Repositories: source code that an organization connects.
--
--   1. A user adds a repository by its clone URL, or by provider and full name.
--   2. rotate_repository_secret() makes the secret of its webhook, which the user enters at the provider.
--   3. The webhook's route verifies deliveries by private.projects_repository_secrets().
-- The secret is stored sealed. After a rotation the former one stays valid for the overlap that the caller asked for.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- repositories
-- ----------------------------------------------------------------------------

create table public.repositories (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  -- Empty means "not given" in these three: a trigger fills each from the others.
  provider text not null default '' check (provider in ('github', 'gitlab', 'git')),
  full_name text not null default ''
    check (char_length(full_name) <= 255 and full_name ~ '^[A-Za-z0-9_~-][A-Za-z0-9_.~-]*(/[A-Za-z0-9_.~-]+)*$' and full_name !~ '(^|/)\.\.?(/|$)'),
  -- Without credentials, query and fragment, and with the name of a host: no address and no "localhost".
  clone_url text not null default ''
    check (
      char_length(clone_url) <= 2048
      and (
        clone_url ~ '^(https://|ssh://git@)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])(:[0-9]{1,5})?/[A-Za-z0-9_~.-]+(/[A-Za-z0-9_~.-]+)*$'
        or clone_url ~ '^git@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9]):[A-Za-z0-9_~.-]+(/[A-Za-z0-9_~.-]+)*$'
      )
      and clone_url !~ '[/:]\.\.?(/|$)'
    ),
  default_branch text not null default 'main'
    check (
      char_length(default_branch) between 1 and 255
      and default_branch ~ '^[^/.\u0001-\u0020\u007f~^:?*\\[-][^\u0001-\u0020\u007f~^:?*\\[]*$'
      and default_branch !~ '\.\.|//|@\{|/\.|(\.lock|\.|/)$|\.lock/|^@$'
    ),
  branch_override text
    check (
      char_length(branch_override) between 1 and 255
      and branch_override ~ '^[^/.\u0001-\u0020\u007f~^:?*\\[-][^\u0001-\u0020\u007f~^:?*\\[]*$'
      and branch_override !~ '\.\.|//|@\{|/\.|(\.lock|\.|/)$|\.lock/|^@$'
    ),
  -- Names, or patterns with *. Without spaces, so that one expression checks all.
  extra_branches text[] not null default '{}'
    check (
      cardinality(extra_branches) <= 20 and octet_length(extra_branches::text) <= 8192
      and array_position(extra_branches, null) is null and array_position(extra_branches, '') is null
      and cardinality(string_to_array(array_to_string(extra_branches, ' '), ' ')) = cardinality(extra_branches)
      and array_to_string(extra_branches, ' ') !~ '[\u0001-\u001f\u007f~^:?\\[]|\.\.|//|@\{|(^| )[-/.]|/( |$)'
    ),
  include_paths text[] not null default '{}'
    check (
      cardinality(include_paths) <= 100 and octet_length(include_paths::text) <= 16384
      and array_position(include_paths, null) is null and array_position(include_paths, '') is null
      and array_to_string(include_paths, ' ') !~ '[\u0001-\u001f\u007f]|(^|[ /])\.\.(/| |$)'
    ),
  exclude_paths text[] not null default '{}'
    check (
      cardinality(exclude_paths) <= 100 and octet_length(exclude_paths::text) <= 16384
      and array_position(exclude_paths, null) is null and array_position(exclude_paths, '') is null
      and array_to_string(exclude_paths, ' ') !~ '[\u0001-\u001f\u007f]|(^|[ /])\.\.(/| |$)'
    ),
  connection_id uuid,
  status text not null default 'pending' check (status in ('pending', 'indexing', 'ready', 'failed')),
  indexed_at timestamptz,
  last_error_code text check (char_length(last_error_code) <= 100),
  last_error text check (char_length(last_error) <= 1000),
  webhook_secret_issued_at timestamptz,
  api_key_id uuid default kijko.api_key_id(),
  requested_by uuid default kijko.user_id(),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  unique nulls not distinct (org_id, project_id, clone_url),
  check (provider <> 'github' or full_name ~ '^[^/]+/[^/]+$'),
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade,
  foreign key (org_id, api_key_id) references public.api_keys (org_id, id) on delete set null (api_key_id),
  foreign key (org_id, requested_by) references public.memberships (org_id, user_id) on delete set null (requested_by)
);
create index repositories_project_id_idx on public.repositories (org_id, project_id);
create index repositories_api_key_id_idx on public.repositories (org_id, api_key_id) where api_key_id is not null;
create index repositories_requested_by_idx on public.repositories (org_id, requested_by) where requested_by is not null;

comment on table public.repositories is 'Source repositories that an organization has connected. Users write provider, full_name, clone_url, project_id, the branches, the path filters and connection_id; the database keeps the rest.';
comment on column public.repositories.id is 'Identity of the repository, and part of the URL of its webhook.';
comment on column public.repositories.org_id is 'Organization that owns it; never changes.';
comment on column public.repositories.project_id is 'Project it belongs to and is deleted with; null for the whole organization.';
comment on column public.repositories.provider is 'github, gitlab, or git for any other server. Derived from the host when not given.';
comment on column public.repositories.full_name is 'Path at the provider, as owner/name. Derived from clone_url when not given.';
comment on column public.repositories.clone_url is 'URL to clone it by, https or ssh, without credentials. Derived from full_name at github.com or gitlab.com when not given. The host is in lower case.';
comment on column public.repositories.default_branch is 'Default branch at the provider: it is indexed, and reflexes compare pushes with it.';
comment on column public.repositories.branch_override is 'Branch that is indexed in place of the default branch; null for none.';
comment on column public.repositories.extra_branches is 'Further branches that pushes index: names, or patterns with *. At most 20 branches of a repository are indexed.';
comment on column public.repositories.include_paths is 'Glob patterns of the files that are indexed, such as src/**; empty for all.';
comment on column public.repositories.exclude_paths is 'Glob patterns of files that are not indexed, such as **/vendor/**.';
comment on column public.repositories.connection_id is 'Connection whose token fetches a private repository. Only the member who authorized the connection sets it, and changes the URL while it is set. Null for a public repository, and after the connection is deleted.';
comment on column public.repositories.status is 'State of its index: pending until it is indexed first, then indexing, ready or failed.';
comment on column public.repositories.indexed_at is 'When a branch was last indexed; null before.';
comment on column public.repositories.last_error_code is 'Why the last indexing failed; null after a success.';
comment on column public.repositories.last_error is 'The same in words.';
comment on column public.repositories.webhook_secret_issued_at is 'When rotate_repository_secret() made the current secret of its webhook; null before. No column has the secret.';
comment on column public.repositories.api_key_id is 'API key that added it; null for a user, and after the key is deleted.';
comment on column public.repositories.requested_by is 'Member who added it, also through a personal key; null after that membership has ended.';
comment on column public.repositories.created_by is 'User who added it; null after that user is deleted.';
comment on column public.repositories.created_by_key is 'API key that added it, also after the key is deleted; null for a user.';
comment on column public.repositories.created_at is 'When it was added.';
comment on column public.repositories.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table(
  'public.repositories', resource => 'repositories', gauge => 'repositories',
  writable => array[
    'project_id', 'provider', 'full_name', 'clone_url', 'default_branch', 'branch_override', 'extra_branches', 'include_paths', 'exclude_paths',
    'connection_id'
  ],
  catalogue => '{
    "project_id": "project that the repository belongs to",
    "provider, full_name, clone_url, default_branch": "finds the source code",
    "branch_override, extra_branches, include_paths, exclude_paths": "says what of it is indexed",
    "connection_id": "whose token fetches it",
    "status, indexed_at, last_error_code, last_error": "shows members whether the code is indexed",
    "webhook_secret_issued_at": "shows members whether the webhook can be verified, and the age of its secret",
    "api_key_id": "API key that asked for the repository",
    "requested_by": {"subject": "person", "purpose": "who asked for the repository", "export": "organization", "erasure": "person"}
  }'
);

create function private.projects_complete_repository() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  host text;
  parts text[];
begin
  if tg_op = 'UPDATE' then
    -- What was derived is derived again, unless the statement writes it as well.
    if new.clone_url <> old.clone_url and new.full_name = old.full_name then
      new.full_name := '';
      new.provider := case when new.provider = old.provider then '' else new.provider end;
    elsif new.full_name <> old.full_name and new.clone_url = old.clone_url
      and old.clone_url = format('https://%s.com/%s.git', old.provider, old.full_name)
    then
      new.clone_url := '';
    end if;
  end if;
  if coalesce(new.clone_url, '') = '' and new.provider in ('github', 'gitlab') and coalesce(new.full_name, '') <> '' then
    new.clone_url := format('https://%s.com/%s.git', new.provider, new.full_name);
  end if;
  parts := regexp_match(rtrim(new.clone_url, '/'), '^(https://|ssh://git@|git@)([^/:]+)([/:].+)$');
  if parts is null then
    return new; -- the checks of the table refuse it
  end if;
  host := lower(parts[2]);
  -- One spelling for each repository, so that it cannot be added twice.
  if host in ('github.com', 'gitlab.com') and parts[3] !~ '\.git$' then
    parts[3] := parts[3] || '.git';
  end if;
  new.clone_url := parts[1] || host || parts[3];
  if coalesce(new.provider, '') = '' then
    new.provider := case host when 'github.com' then 'github' when 'gitlab.com' then 'gitlab' else 'git' end;
  end if;
  if coalesce(new.full_name, '') = '' then
    new.full_name := regexp_replace(regexp_replace(parts[3], '^(:[0-9]+)?[/:]', ''), '\.git$', '');
  end if;
  return new;
end
$$;
comment on function private.projects_complete_repository() is 'Trigger: derives provider, full_name and clone_url from each other where they are not given, and spells the URL in one way.';
create trigger repositories_complete before insert or update of provider, full_name, clone_url on public.repositories
  for each row execute function private.projects_complete_repository();

-- ----------------------------------------------------------------------------
-- Secrets of webhooks
-- ----------------------------------------------------------------------------

create table private.repository_secrets (
  id uuid primary key default gen_random_uuid(),
  organization uuid not null,
  repository_id uuid not null,
  sealed kijko.sealed not null check (char_length(sealed) <= 1000),
  expires_at timestamptz,
  created_at timestamptz not null default kijko.now(),
  foreign key (organization, repository_id) references public.repositories (org_id, id) on delete cascade
);
-- One current secret, and at most one former one.
create unique index repository_secrets_current_idx on private.repository_secrets (repository_id, (expires_at is null));
create index repository_secrets_repository_id_idx on private.repository_secrets (organization, repository_id);

comment on table private.repository_secrets is 'Sealed secrets of the webhooks of repositories: the current one, and the former one during the overlap of a rotation.';
comment on column private.repository_secrets.id is 'Identity of the secret.';
comment on column private.repository_secrets.organization is 'Organization of the repository.';
comment on column private.repository_secrets.repository_id is 'The repository.';
comment on column private.repository_secrets.sealed is 'The secret, sealed in the context of its row.';
comment on column private.repository_secrets.expires_at is 'Until when a former secret is accepted; null for the current one.';
comment on column private.repository_secrets.created_at is 'When it was made.';
select private.describe_data('private.repository_secrets', '{
  "id, organization, repository_id, expires_at, created_at": {"subject": "organization", "purpose": "whose secret it is, and until when it is accepted", "export": "none"},
  "sealed": "verifies what a webhook delivers"
}', 'secret');
alter table private.repository_secrets enable row level security;

create function private.projects_secret_context(secret private.repository_secrets) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'repository_secrets/' || secret.organization::text || '/' || secret.repository_id::text || '/' || secret.id::text;
comment on function private.projects_secret_context(private.repository_secrets) is 'The context in which the secret of a webhook is sealed.';
select private.seal_column('private.repository_secrets', 'sealed', context => 'private.projects_secret_context(private.repository_secrets)');

create function private.projects_repository_secrets(repository_id uuid) returns setof text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select kijko.unseal(s.sealed, private.projects_secret_context(s))
  from private.repository_secrets as s
  where s.repository_id = projects_repository_secrets.repository_id and (s.expires_at is null or s.expires_at > kijko.now())
  order by s.expires_at nulls first
$$;
comment on function private.projects_repository_secrets(uuid) is 'Secrets by which a delivery of a repository''s webhook may be signed now: the current one first, then the former one during its overlap; none before the first is made. For functions of postgres that verify a delivery; they return or log no value.';

create type public.issued_repository_secret as (repository_id uuid, secret text, former_expires_at timestamptz);
comment on type public.issued_repository_secret is 'Result of rotate_repository_secret(): the secret of the webhook, which no later call returns, and until when the former one is accepted. Nullable: former_expires_at.';

create function private.projects_lock_repository(repository_id uuid) returns public.repositories
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  repository public.repositories;
begin
  perform private.tenancy_require_caller();
  -- Before the lock, so that a non-member who knows an id cannot lock the row.
  select r.* into repository from public.repositories as r
  where r.id = projects_lock_repository.repository_id
    and r.org_id = any (array(select private.org_ids_with('repositories:read')))
    and (r.project_id is null or private.projects_is_visible(r.project_id));
  if repository.id is null then
    perform kijko.fail('not_found', 'no such repository');
  end if;
  if not public.can(repository.org_id, 'repositories:write') then
    perform kijko.fail('permission_denied', 'requires the permission repositories:write');
  end if;
  -- Another transaction may have deleted it, or moved it to a project that hides it.
  select r.* into repository from public.repositories as r where r.id = projects_lock_repository.repository_id for no key update;
  if repository.id is null or (repository.project_id is not null and not private.projects_is_visible(repository.project_id)) then
    perform kijko.fail('not_found', 'no such repository');
  end if;
  return repository;
end
$$;
comment on function private.projects_lock_repository(uuid) is 'Locks a repository that the caller may change and returns it; fails otherwise. Called by definer functions only.';

create function public.rotate_repository_secret(repository_id uuid, overlap interval default '0') returns public.issued_repository_secret
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  repository constant public.repositories := private.projects_lock_repository(rotate_repository_secret.repository_id);
  fresh private.repository_secrets;
  -- 244 random bits.
  secret constant text := 'kjw_' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
  former timestamptz;
begin
  if (rotate_repository_secret.overlap between interval '0' and interval '30 days') is not true then
    perform kijko.fail('invalid_input', 'overlap: 0 to 30 days');
  end if;
  perform private.projects_require_open(repository.project_id);
  delete from private.repository_secrets as s where s.repository_id = repository.id and s.expires_at is not null;
  if rotate_repository_secret.overlap = interval '0' then
    delete from private.repository_secrets as s where s.repository_id = repository.id;
  else
    update private.repository_secrets as s set expires_at = kijko.now() + rotate_repository_secret.overlap
    where s.repository_id = repository.id
    returning s.expires_at into former;
  end if;
  fresh.id := gen_random_uuid();
  fresh.organization := repository.org_id;
  fresh.repository_id := repository.id;
  insert into private.repository_secrets (id, organization, repository_id, sealed)
  values (fresh.id, fresh.organization, fresh.repository_id, kijko.seal(secret, private.projects_secret_context(fresh)));
  update public.repositories as r set webhook_secret_issued_at = kijko.now() where r.id = repository.id;
  return (repository.id, secret, former)::public.issued_repository_secret;
end
$$;
comment on function public.rotate_repository_secret(uuid, interval) is 'Makes the secret of a repository''s webhook, or a new one, and returns it once. The former secret is accepted for the overlap, at most 30 days; an earlier one no longer. Needs repositories:write. Definer: secrets are private.';
grant execute on function public.rotate_repository_secret(uuid, interval) to authenticated;
