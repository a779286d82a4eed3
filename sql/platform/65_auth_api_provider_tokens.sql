-- The login API on a plain Postgres: tokens of outside providers. They are sealed, given to the client once at the sign-in, and kept so that
-- they can be revoked. A token whose identity is gone, by unlinking or with its user, waits here until the sidecar has revoked it.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;
set role supabase_auth_admin;

create table if not exists auth_api.provider_tokens (
    id uuid primary key,
    provider text not null,
    identity_id uuid unique references auth.identities on delete set null,
    flow_state_id uuid unique references auth.flow_state on delete set null,
    access_token kijko.sealed not null,
    refresh_token kijko.sealed,
    created_at timestamptz not null,
    revocation_attempts integer not null default 0,
    revoke_at timestamptz
);
create index if not exists provider_tokens_orphaned_idx on auth_api.provider_tokens (created_at) where identity_id is null and flow_state_id is null;
alter table auth_api.provider_tokens enable row level security;
comment on table auth_api.provider_tokens is 'The token of each identity''s last sign-in at its provider. Without identity and flow it waits to be revoked.';
comment on column auth_api.provider_tokens.id is 'The row; part of the context in which its tokens are sealed.';
comment on column auth_api.provider_tokens.provider is 'Whose token it is.';
comment on column auth_api.provider_tokens.identity_id is 'Which identity signed in; null before it is linked, and once it is gone.';
comment on column auth_api.provider_tokens.flow_state_id is 'The sign-in whose code has not been exchanged: the exchange returns the tokens.';
comment on column auth_api.provider_tokens.access_token is 'Sealed.';
comment on column auth_api.provider_tokens.refresh_token is 'Sealed; null when the provider gave none.';
comment on column auth_api.provider_tokens.created_at is 'When the provider gave it.';
comment on column auth_api.provider_tokens.revocation_attempts is 'How often its revocation was tried.';
comment on column auth_api.provider_tokens.revoke_at is 'Not before then is its revocation tried again.';
-- A change of the sealing key reads and rewrites both; it is the owner of the domain that runs it.
grant select, update on auth_api.provider_tokens to :"owner";

create table if not exists auth_api.pending_links (
    flow_state_id uuid primary key references auth.flow_state on delete cascade,
    session_id uuid not null references auth.sessions on delete cascade,
    profile jsonb not null
);
create index if not exists pending_links_session_id_idx on auth_api.pending_links (session_id);
alter table auth_api.pending_links enable row level security;
comment on table auth_api.pending_links is 'Identities that a user wants to link and whose code has not been exchanged.';
comment on column auth_api.pending_links.flow_state_id is 'The flow with the code.';
comment on column auth_api.pending_links.session_id is 'The session that asked. Its end ends the linking.';
comment on column auth_api.pending_links.profile is 'What the provider says of the identity.';

create or replace function auth_api.provider_token_context(id uuid, column_name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select 'auth_api.provider_tokens.' || column_name || ':' || id
$$;
comment on function auth_api.provider_token_context(uuid, text) is 'The context in which a token is sealed: in another row or column it cannot be opened.';

create or replace function auth_api.keep_provider_tokens(provider text, tokens jsonb, identity_id uuid, flow_state_id uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    id constant uuid := gen_random_uuid();
    secret constant text := tokens ->> 'access_token';
    renewal constant text := nullif(tokens ->> 'refresh_token', '');
begin
    if coalesce(secret, '') = '' then
        return;
    end if;
    -- The former one may be in use by the client it was given to, so it is not revoked.
    delete from auth_api.provider_tokens t where t.identity_id = keep_provider_tokens.identity_id;
    insert into auth_api.provider_tokens (id, provider, identity_id, flow_state_id, access_token, refresh_token, created_at)
    values (id, provider, identity_id, flow_state_id, kijko.seal(secret, auth_api.provider_token_context(id, 'access_token')),
        case when renewal is not null then kijko.seal(renewal, auth_api.provider_token_context(id, 'refresh_token')) end, kijko.now());
end
$$;
comment on function auth_api.keep_provider_tokens(text, jsonb, uuid, uuid) is 'Seals and keeps the tokens of a sign-in.';

create or replace function auth_api.unsealed_tokens(token auth_api.provider_tokens) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'provider_token', kijko.unseal(token.access_token, auth_api.provider_token_context(token.id, 'access_token')),
        'provider_refresh_token', case when token.refresh_token is not null then kijko.unseal(token.refresh_token, auth_api.provider_token_context(token.id, 'refresh_token')) end))
$$;
comment on function auth_api.unsealed_tokens(auth_api.provider_tokens) is 'The tokens as the answer to a sign-in has them.';

-- Revoking -------------------------------------------------------------------------------------------------------------------------

-- A claim is a lease of a minute and twice as long after each attempt; after ten attempts, in some seventeen hours, the provider is given up.
create or replace function auth_api.claim_revocations() returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    claimed jsonb;
begin
    perform auth_api.prune_oauth_flows();
    delete from auth_api.provider_tokens t
    where t.identity_id is null and t.flow_state_id is null and t.revocation_attempts >= 10 and t.revoke_at <= now();
    with due as (
        select t.id from auth_api.provider_tokens t
        where t.identity_id is null and t.flow_state_id is null and coalesce(t.revoke_at <= now(), true)
        order by t.created_at limit 10 for update skip locked
    ), leased as (
        update auth_api.provider_tokens t
        set revocation_attempts = t.revocation_attempts + 1, revoke_at = now() + interval '1 minute' * power(2, t.revocation_attempts)
        from due where t.id = due.id
        returning t.*
    )
    select coalesce(jsonb_agg(jsonb_build_object('id', l.id, 'provider', l.provider) || auth_api.unsealed_tokens(l)), '[]') into claimed from leased l;
    return claimed;
end
$$;
comment on function auth_api.claim_revocations() is 'Tokens that are to be revoked now, leased for a while. Definer, because the sidecar may touch nothing itself.';

create or replace function auth_api.end_revocation(token_id uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    delete from auth_api.provider_tokens t where t.id = token_id and t.identity_id is null and t.flow_state_id is null
$$;
comment on function auth_api.end_revocation(uuid) is 'Forgets a token that was revoked, or that its provider cannot revoke. Definer, because the sidecar may touch nothing itself.';

-- Wakes the sidecar when the transaction commits; it also looks by itself from time to time.
create or replace function auth_api.announce_revocation() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    notify kijko_oauth;
    return null;
end
$$;
comment on function auth_api.announce_revocation() is 'Trigger: tells the sidecar of a token to be revoked.';
create or replace trigger provider_token_orphaned after update of identity_id, flow_state_id on auth_api.provider_tokens
for each row when (new.identity_id is null and new.flow_state_id is null)
execute function auth_api.announce_revocation();

reset role;
