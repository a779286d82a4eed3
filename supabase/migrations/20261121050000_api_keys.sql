-- ============================================================================
-- API keys: programs call the API as an organization, or as one of its members.
--
--   service      acts for its organization within its permissions
--   personal     acts for its owner, within its permissions and the owner's
--   publishable  may be public: events:ingest and flags:evaluate only, from the listed origins, with a daily quota
--
-- The extension keeps the hashes of the keys and what authenticates a request (kijko.api_keys). This table is what members see
-- and write. A trigger copies each change to the extension in the same transaction.
--
-- A key never holds more than its maker:
--   1. On creation the maker must hold each permission that the key names.
--   2. On each use, private.api_keys_org_with() asks for the permission of the key and of the member in user_id: its maker,
--      or the member who bounds the key that made it. So a demotion takes effect with the next statement.
--   3. When that membership ends, a personal key is deleted, and any other key keeps what the member held last.
-- ============================================================================

create table public.api_keys (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  kind text not null default 'service' check (kind in ('service', 'personal', 'publishable')),
  permissions jsonb not null check (jsonb_typeof(permissions) = 'array' and private.json_fits(permissions, 16384)),
  -- The defaults mean "not given": a trigger fills both. Without one the generated types would require a prefix.
  prefix text not null default '' check (char_length(prefix) <= 32),
  user_id uuid,
  rate_limit integer not null default 60 check (rate_limit between 1 and 60000),
  monthly_quota bigint default 1000000 check (monthly_quota between 1 and 1000000000000),
  daily_quota bigint check (daily_quota between 1 and 1000000000000),
  origins text[] not null default '{}' check (cardinality(origins) <= 20 and octet_length(origins::text) <= 8192),
  expires_at timestamptz check (isfinite(expires_at)),
  revoked_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  foreign key (org_id, user_id) references public.memberships (org_id, user_id) on delete set null (user_id),
  check (kind <> 'personal' or user_id is not null),
  check ((kind = 'publishable') = (cardinality(origins) > 0)),
  check (case kind when 'publishable' then monthly_quota is null and daily_quota is not null else monthly_quota is not null and daily_quota is null end)
);
create index api_keys_user_id_idx on public.api_keys (user_id, org_id);
create index api_keys_created_by_key_idx on public.api_keys (created_by_key) where created_by_key is not null;

comment on table public.api_keys is 'API keys of an organization. The key itself is returned once, by create_api_key(), rotate_api_key() or in the computed column secret of the insert. Users write what the key may do, how much and until when; the database keeps the rest.';
comment on column public.api_keys.id is 'Identity of the key: created_by_key of what it makes, and its value in usage_by(''key'').';
comment on column public.api_keys.org_id is 'The organization for which the key acts, and the only one that it sees; never changes.';
comment on column public.api_keys.name is 'Name that members see.';
comment on column public.api_keys.kind is 'service: acts for the organization. personal: acts for its owner, the member in user_id. publishable: may be public; counts events or evaluates flags from its origins only. Never changes.';
comment on column public.api_keys.permissions is 'Permissions, and the wildcards *:read and *:write, as an array. A wildcard means those of its permissions that the maker holds. {"read": true, "write": false} is accepted and stored as ["*:read"]. Can only be narrowed.';
comment on column public.api_keys.prefix is 'Beginning of the key, by which a person recognizes it.';
comment on column public.api_keys.user_id is 'Member whose permissions bound the key: the owner of a personal key; otherwise the member who made or last rotated it, or who bounds the key that did so. Null for a key of the back office, and after that membership has ended.';
comment on column public.api_keys.rate_limit is 'Requests per minute, in addition to the rate of the organization.';
comment on column public.api_keys.monthly_quota is 'Requests per month, in addition to the quota of the organization. Null for a publishable key.';
comment on column public.api_keys.daily_quota is 'Requests per day of a publishable key. Null for other kinds.';
comment on column public.api_keys.origins is 'Origins from which a browser may use a publishable key, as https://app.example.com. Empty for other kinds.';
comment on column public.api_keys.expires_at is 'It is refused from then on. Null: it does not expire.';
comment on column public.api_keys.revoked_at is 'When it was revoked: it is refused since then. Set by revoke_api_key().';
comment on column public.api_keys.created_by is 'User who made it, also through a personal key; null after that user is deleted.';
comment on column public.api_keys.created_by_key is 'API key that made it; null for a user.';
comment on column public.api_keys.created_at is 'When it was made.';
comment on column public.api_keys.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table(
  'public.api_keys', resource => 'api_keys', gauge => 'api_keys',
  writable => array['name', 'kind', 'permissions', 'rate_limit', 'monthly_quota', 'daily_quota', 'origins', 'expires_at'],
  catalogue => '{
    "name, prefix": "what members recognize the key by",
    "kind, permissions, origins, expires_at, revoked_at": "what the key may do, and until when",
    "user_id": {"subject": "person", "purpose": "whose permissions bound the key", "export": "organization"},
    "rate_limit, monthly_quota, daily_quota": "how much the key may do"
  }'
);

-- Holders of api_keys:read and api_keys:write see and change all keys of the organization, holders of api_keys:write_own their
-- personal ones. A trigger has set user_id, which users cannot write.
do $$
declare
  own constant text := $own$or (kind = 'personal' and user_id = (select kijko.user_id()) and org_id = any (array(select private.org_ids_with('api_keys:write_own'))))$own$;
  readable constant text := $readable$org_id = any (array(select private.org_ids_with('api_keys:read')))$readable$ || ' ' || own;
  writable constant text := $writable$org_id = any (array(select private.org_ids_with('api_keys:write')))$writable$ || ' ' || own;
begin
  execute format('alter policy api_keys_select on public.api_keys using (%s)', readable);
  execute format('alter policy api_keys_insert on public.api_keys with check (%s)', writable);
  execute format('alter policy api_keys_update on public.api_keys using (%1$s) with check (%1$s)', writable);
  execute format('alter policy api_keys_delete on public.api_keys using (%s)', writable);
end
$$;
