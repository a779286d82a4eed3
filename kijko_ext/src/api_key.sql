create table kijko.api_keys (
    id uuid primary key,
    org_id uuid not null,
    user_id uuid,
    kind text collate "C" not null check (kind in ('service', 'personal', 'publishable')),
    permissions text[] not null,
    rate_limit bigint check (rate_limit between 1 and 1000000000),
    monthly_quota bigint check (monthly_quota >= 0),
    daily_quota bigint check (daily_quota >= 0),
    expires_at timestamptz,
    revoked_at timestamptz,
    suspended_until timestamptz,
    origins text[],
    check ((kind = 'personal') = (user_id is not null)),
    -- A publishable key is public: everybody can read it in the source of a page.
    check (case when kind = 'publishable'
        then permissions <@ array['events:ingest', 'flags:evaluate'] and coalesce(pg_catalog.cardinality(origins), 0) > 0 and daily_quota is not null
            and monthly_quota is null
        else origins is null and daily_quota is null end)
);
comment on table kijko.api_keys is 'API keys: for whom each one acts, and what limits it. Written by kijko.put_api_key(). A change takes effect with the next request.';
comment on column kijko.api_keys.id is 'The key''s id, which never changes.';
comment on column kijko.api_keys.org_id is 'The organization that the key acts in.';
comment on column kijko.api_keys.user_id is 'The owner of a personal key, for whom it acts.';
comment on column kijko.api_keys.kind is 'service: acts for the organization. personal: acts for its owner. publishable: is used in browsers, so it is public.';
comment on column kijko.api_keys.permissions is 'The most that the key may do. Wildcards are stored as they are. A key with only :read permissions cannot write. A publishable key has only events:ingest and flags:evaluate.';
comment on column kijko.api_keys.rate_limit is 'Requests a minute; null for no limit of its own.';
comment on column kijko.api_keys.monthly_quota is 'Requests a month; null for no limit of its own. A publishable key has a daily quota instead.';
comment on column kijko.api_keys.daily_quota is 'Requests a day of a publishable key.';
comment on column kijko.api_keys.expires_at is 'From then on the key is refused.';
comment on column kijko.api_keys.revoked_at is 'When the key was revoked. It is refused if this is not null.';
comment on column kijko.api_keys.suspended_until is 'Until then the key is refused.';
comment on column kijko.api_keys.origins is 'Of a publishable key: the values of the header Origin that it is accepted with.';
select pg_catalog.pg_extension_config_dump('kijko.api_keys', '');

create table kijko.api_key_secrets (
    hash bytea primary key check (pg_catalog.octet_length(hash) = 32),
    api_key_id uuid not null references kijko.api_keys on delete cascade,
    valid_until timestamptz
);
comment on table kijko.api_key_secrets is 'The secrets of API keys: a key has several while one replaces another.';
comment on column kijko.api_key_secrets.hash is 'SHA-256 of the secret, which is stored nowhere. It has 190 random bits, so it cannot be guessed from its hash.';
comment on column kijko.api_key_secrets.api_key_id is 'The key.';
comment on column kijko.api_key_secrets.valid_until is 'End of a secret that was replaced; null for the present one.';
create index api_key_secrets_api_key_id on kijko.api_key_secrets (api_key_id);
comment on index kijko.api_key_secrets_api_key_id is 'Finds the secrets of a key.';
select pg_catalog.pg_extension_config_dump('kijko.api_key_secrets', '');

create trigger invalidate_cache after insert or update or delete on kijko.api_keys
    for each row execute function kijko.invalidate_cache('api_keys', 'id');
create trigger invalidate_cache_truncated after truncate on kijko.api_keys
    for each statement execute function kijko.invalidate_cache('api_keys');
alter table kijko.api_keys enable always trigger invalidate_cache;
alter table kijko.api_keys enable always trigger invalidate_cache_truncated;
create trigger invalidate_cache after insert or update or delete on kijko.api_key_secrets
    for each row execute function kijko.invalidate_cache('api_keys', 'api_key_id');
create trigger invalidate_cache_truncated after truncate on kijko.api_key_secrets
    for each statement execute function kijko.invalidate_cache('api_keys');
alter table kijko.api_key_secrets enable always trigger invalidate_cache;
alter table kijko.api_key_secrets enable always trigger invalidate_cache_truncated;

create table kijko.api_key_uses (
    api_key_id uuid primary key references kijko.api_keys on delete cascade,
    last_used_at timestamptz not null
) with (fillfactor = 70);
comment on table kijko.api_key_uses is 'When each API key was last used. The background worker writes a key at most about once a minute.';
comment on column kijko.api_key_uses.api_key_id is 'The key.';
comment on column kijko.api_key_uses.last_used_at is 'Its last use that was written; kijko.api_key_last_used_at() also knows later ones.';
select pg_catalog.pg_extension_config_dump('kijko.api_key_uses', '');

create function kijko.put_api_key(
    id uuid, org_id uuid, kind text, user_id uuid, permissions text[], rate_limit bigint, monthly_quota bigint,
    daily_quota bigint, expires_at timestamptz, revoked_at timestamptz, suspended_until timestamptz, origins text[]
)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    is_publishable constant boolean not null := coalesce(kind = 'publishable', false);
begin
    if pg_catalog.num_nulls(id, org_id, kind, permissions) > 0 then
        perform kijko.fail('invalid_input', 'an API key needs an id, an organization, a kind and permissions');
    end if;
    if cardinality(permissions) > 200 or array_position(permissions, null) is not null or exists (
        select from unnest(permissions) as p (name) where p.name !~ '^(\*|[a-z_]+):(\*|[a-z_]+)$'
    ) then
        perform kijko.fail('invalid_input', 'permissions: at most 200 of the form resource:action');
    end if;
    if cardinality(origins) > 50 or array_position(origins, null) is not null or exists (
        select from unnest(origins) as o (origin) where o.origin !~ '^[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?$'
    ) then
        perform kijko.fail('invalid_input', 'origins: at most 50 of the form https://example.com, in lower case');
    end if;
    insert into kijko.api_keys as k (
        id, org_id, user_id, kind, permissions, rate_limit, monthly_quota, daily_quota, expires_at, revoked_at, suspended_until, origins
    )
    values (
        put_api_key.id, put_api_key.org_id, put_api_key.user_id, put_api_key.kind, put_api_key.permissions, put_api_key.rate_limit,
        case when not is_publishable then put_api_key.monthly_quota end, put_api_key.daily_quota, put_api_key.expires_at,
        put_api_key.revoked_at, put_api_key.suspended_until, put_api_key.origins
    )
    on conflict on constraint api_keys_pkey do update set
        permissions = excluded.permissions, rate_limit = excluded.rate_limit, monthly_quota = excluded.monthly_quota,
        daily_quota = excluded.daily_quota, expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
        suspended_until = excluded.suspended_until, origins = excluded.origins
    where (k.org_id, k.kind) = (excluded.org_id, excluded.kind) and k.user_id is not distinct from excluded.user_id;
    if not found then
        perform kijko.fail('conflict', 'an API key keeps its organization, its kind and its owner');
    end if;
    perform kijko.set_limit(
        kijko.subject('api_key', id), 'api_requests', case when is_publishable then 'day' else 'month' end,
        case when is_publishable then daily_quota else monthly_quota end
    );
exception
    when check_violation then
        perform kijko.fail('invalid_input', sqlerrm);
end
$$;
comment on function kijko.put_api_key(uuid, uuid, text, uuid, text[], bigint, bigint, bigint, timestamptz, timestamptz, timestamptz, text[]) is 'Makes an API key or replaces its attributes, from its next request on. Its organization, kind and owner never change. A null rate or quota is unlimited. A publishable key needs a daily quota and origins, and its monthly quota is ignored.';

create function kijko.store_api_key_secret(id uuid, overlap interval default '0') returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
declare
    present constant timestamptz := kijko.now();
    fresh constant bytea := kijko.issued_api_key_hash(id);
begin
    if fresh is null then
        perform kijko.fail('invalid_input', 'no secret was generated in this transaction: call kijko.generate_api_key() first');
    end if;
    if overlap is null or overlap not between interval '0' and interval '366 days' then
        perform kijko.fail('invalid_input', 'the overlap must be between 0 and 366 days');
    end if;
    -- Rotations of one key wait for each other.
    perform from kijko.api_keys as k where k.id = store_api_key_secret.id for no key update;
    if not found then
        perform kijko.fail('not_found', 'there is no such API key');
    end if;
    -- An expired secret stays until the next rotation, so that its use fails with a better reason than that of an unknown key.
    delete from kijko.api_key_secrets as s
    where s.api_key_id = store_api_key_secret.id and s.hash <> fresh and s.valid_until <= present;
    update kijko.api_key_secrets as s set valid_until = present + overlap
    where s.api_key_id = store_api_key_secret.id and s.hash <> fresh and (s.valid_until is null or s.valid_until > present + overlap);
    if (select count(*) from kijko.api_key_secrets as s where s.api_key_id = store_api_key_secret.id and s.valid_until > present) > 10 then
        perform kijko.fail('conflict', 'ten former secrets of this API key are still valid', 'Rotate it without an overlap.');
    end if;
    insert into kijko.api_key_secrets (hash, api_key_id) values (fresh, store_api_key_secret.id)
    on conflict on constraint api_key_secrets_pkey do nothing;
end
$$;
comment on function kijko.store_api_key_secret(uuid, interval) is 'Stores the hash of the secret that kijko.generate_api_key() made in this transaction: it is the key''s secret from the commit on. Former secrets end after the overlap.';

create function kijko.delete_api_key(id uuid) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the tables
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from kijko.api_keys as k where k.id = delete_api_key.id;
    if found then
        perform kijko.delete_subject(kijko.subject('api_key', id));
    end if;
end
$$;
comment on function kijko.delete_api_key(uuid) is 'Deletes an API key with its secrets and limits: it is refused from the commit on. Its usage stays.';

create function kijko.authenticate_api_key() returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_authenticate_api_key';
comment on function kijko.authenticate_api_key() is 'Identifies the API key in the header X-API-Key: it is the caller until the transaction ends. False without the header, and in a session whose claims do not count. Fails with not_identified for a key that is malformed, unknown, expired, revoked, suspended or used from another origin, with bad_request beside another identity, and with rate_limited for a network that was refused too often. A key that only reads makes the transaction READ ONLY.';

comment on function kijko.api_key_id() is 'The API key of this request; null without one.';
comment on function kijko.api_key_permissions() is 'The permissions of the API key of this request, as they are stored; null without one.';
comment on function kijko.assume_api_key(uuid) is 'Makes an API key the caller for the rest of the transaction, without its secret. False, and no change, for a key that does not exist, was revoked, has expired or is suspended. Null ends this: the caller is again the one that the claims name. A rollback to a savepoint undoes it.';
comment on function kijko.generate_api_key(uuid) is 'Generates a secret for an API key and returns its visible prefix. The transaction keeps the secret for kijko.issued_api_key() and kijko.store_api_key_secret().';
comment on function kijko.issued_api_key(uuid) is 'The secret that this transaction generated for an API key; null in any other transaction.';
comment on function kijko.issued_api_key_hash(uuid) is 'SHA-256 of the secret that this transaction generated for an API key.';
comment on function kijko.api_key_valid_until(text) is 'Until when a secret identifies its API key, unless the key is revoked before: its expiry, or the end of the overlap after a rotation; null for a secret without an end and for an unknown one.';
comment on function kijko.api_key_last_used_at(uuid) is 'When an API key was last used; null for never. After a crash it may be up to about a minute older.';
