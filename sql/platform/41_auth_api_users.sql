-- The login API on a plain Postgres: users and their addresses.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Addresses ----------------------------------------------------------------------------------------------------------------------

-- As GoTrue's own pattern, without what private.mail_is_address() refuses: no mail could be sent. It is ASCII only, so that no two addresses look alike or fall together in lower case. The length of
-- a domain's labels is checked beside the pattern: Postgres compiles a bounded repeat of 61 in every session anew, and slowly.
create or replace function auth_api.valid_email(email text, malformed integer default 400) returns text
language plpgsql volatile set search_path = '' as $$
declare
    trimmed text := lower(btrim(email, E' \t\r\n') collate "C");
begin
    if coalesce(trimmed, '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'An email address is required');
    elsif octet_length(trimmed) > 255 then
        perform auth_api.reject(malformed, 'validation_failed', 'An email address is too long');
    elsif trimmed collate "C" !~ '^[a-z0-9.!#$%&''*+/=?^_`{|}~-]+@[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$'
        or trimmed collate "C" ~ '^[-.]|\.@|\.\.'
        or exists (select from string_to_table(split_part(trimmed, '@', 2), '.') as label where octet_length(label) > 63)
    then
        perform auth_api.reject(malformed, 'validation_failed', 'Unable to validate email address: invalid format');
    end if;
    return trimmed;
end
$$;
comment on function auth_api.valid_email(text, integer) is 'The address trimmed and in lower case; one that is malformed is refused, with the status that GoTrue has at this endpoint.';

create or replace function auth_api.check_one_address(body jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if coalesce(body ->> 'email', '') <> '' and coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.reject(400, 'validation_failed', 'Only an email address or phone number should be provided');
    end if;
end
$$;
comment on function auth_api.check_one_address(jsonb) is 'Refuses a request that names an address and a phone.';

-- Users --------------------------------------------------------------------------------------------------------------------------

create or replace function auth_api.find_by_email(address text) returns auth.users
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users;
begin
    select * into u from auth.users where email = address and is_sso_user = false and deleted_at is null;
    return u;
end
$$;
comment on function auth_api.find_by_email(text) is 'The user with this address, or null.';

-- Sessions come before the user, everywhere: a refresh locks in that order, and the other way round would deadlock with it.
create or replace function auth_api.lock_user(user_id uuid) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users;
begin
    perform 1 from auth.sessions s where s.user_id = lock_user.user_id order by s.id for update;
    select * into u from auth.users where id = lock_user.user_id for update;
    return u;
end
$$;
comment on function auth_api.lock_user(uuid) is 'The user as they are now, locked with their sessions until the transaction ends.';

-- How many sessions a user has must not be seen in the time of an answer to somebody else.
create or replace function auth_api.lock_user_alone(user_id uuid) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users;
begin
    select * into u from auth.users where id = lock_user_alone.user_id for update;
    return u;
end
$$;
comment on function auth_api.lock_user_alone(uuid) is 'The user as they are now, locked without their sessions: for a transaction that locks no session later.';

create or replace function auth_api.is_banned(u auth.users) returns boolean
language sql stable set search_path = '' as $$
    select coalesce(u.banned_until > kijko.now(), false)
$$;
comment on function auth_api.is_banned(auth.users) is 'Whether the user is banned now.';

create or replace function auth_api.identities_json(user_id uuid) returns jsonb
language sql stable set search_path = '' as $$
    select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
            'identity_id', i.id,
            'id', i.provider_id,
            'user_id', i.user_id,
            'provider', i.provider,
            'last_sign_in_at', auth_api.rfc3339(i.last_sign_in_at),
            'created_at', auth_api.rfc3339(i.created_at),
            'updated_at', auth_api.rfc3339(i.updated_at),
            'email', i.email))
        || jsonb_build_object('identity_data', i.identity_data) order by i.created_at, i.id), '[]')
    from auth.identities i
    where i.user_id = identities_json.user_id
$$;
comment on function auth_api.identities_json(uuid) is 'A user''s identities as GoTrue shows them.';

create or replace function auth_api.factor_json(f auth.mfa_factors) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select jsonb_strip_nulls(jsonb_build_object(
            'id', f.id,
            'created_at', auth_api.rfc3339(f.created_at),
            'updated_at', auth_api.rfc3339(f.updated_at),
            'status', f.status,
            'friendly_name', nullif(f.friendly_name, ''),
            'factor_type', f.factor_type))
        || jsonb_build_object('phone', coalesce(f.phone, ''), 'last_challenged_at', auth_api.rfc3339(f.last_challenged_at))
$$;
comment on function auth_api.factor_json(auth.mfa_factors) is 'A factor as GoTrue shows it.';

create or replace function auth_api.factors_json(user_id uuid) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select jsonb_agg(auth_api.factor_json(f) order by f.created_at, f.id)
    from auth.mfa_factors f
    where f.user_id = factors_json.user_id
$$;
comment on function auth_api.factors_json(uuid) is 'A user''s factors as GoTrue shows them; null when there are none.';

-- Metadata is added after the nulls are dropped: a null that a user stored is the user's.
create or replace function auth_api.user_json(u auth.users) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_strip_nulls(jsonb_build_object(
            'id', u.id,
            'aud', coalesce(u.aud, ''),
            'role', coalesce(u.role, ''),
            'email', coalesce(u.email, ''),
            'email_confirmed_at', auth_api.rfc3339(u.email_confirmed_at),
            'invited_at', auth_api.rfc3339(u.invited_at),
            'phone', coalesce(u.phone, ''),
            'phone_confirmed_at', auth_api.rfc3339(u.phone_confirmed_at),
            'confirmation_sent_at', auth_api.rfc3339(u.confirmation_sent_at),
            'confirmed_at', auth_api.rfc3339(u.confirmed_at),
            'recovery_sent_at', auth_api.rfc3339(u.recovery_sent_at),
            'new_email', nullif(u.email_change, ''),
            'email_change_sent_at', auth_api.rfc3339(u.email_change_sent_at),
            'new_phone', nullif(u.phone_change, ''),
            'phone_change_sent_at', auth_api.rfc3339(u.phone_change_sent_at),
            'reauthentication_sent_at', auth_api.rfc3339(u.reauthentication_sent_at),
            'last_sign_in_at', auth_api.rfc3339(u.last_sign_in_at),
            'created_at', auth_api.rfc3339(u.created_at),
            'updated_at', auth_api.rfc3339(u.updated_at),
            'banned_until', auth_api.rfc3339(u.banned_until),
            'deleted_at', auth_api.rfc3339(u.deleted_at),
            'is_anonymous', u.is_anonymous))
        || jsonb_build_object(
            'app_metadata', coalesce(u.raw_app_meta_data, '{}'),
            'user_metadata', coalesce(u.raw_user_meta_data, '{}'),
            'identities', auth_api.identities_json(u.id))
        || case when f.factors is null then '{}' else jsonb_build_object('factors', f.factors) end
    from (select auth_api.factors_json(u.id) as factors) as f
$$;
comment on function auth_api.user_json(auth.users) is 'A user as GoTrue shows them: no hash and no token.';

-- Two requests with one address at the same moment: the unique index decides, the later one gets null instead of an error.
-- Tokens are '' and not null because GoTrue cannot read null there.
create or replace function auth_api.create_user(id uuid, email text, hash text, role text, app_metadata jsonb, user_metadata jsonb, confirmed boolean) returns auth.users
language plpgsql volatile set search_path = '' as $$
declare
    nil_uuid constant uuid := uuid '00000000-0000-0000-0000-000000000000';
    moment constant timestamptz := kijko.now();
    u auth.users;
begin
    insert into auth.users as users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, confirmation_token, recovery_token,
        email_change_token_new, email_change, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
    values (nil_uuid, create_user.id, 'authenticated', create_user.role, create_user.email, hash, case when confirmed then moment end, '', '',
        '', '', app_metadata, user_metadata, moment, moment)
    on conflict do nothing
    returning * into u;
    if u.id is null then
        return null;
    end if;
    perform auth_api.set_email_identity(u);
    -- Triggers of the domain may have changed the row.
    select * into u from auth.users where users.id = u.id;
    return u;
end
$$;
comment on function auth_api.create_user(uuid, text, text, text, jsonb, jsonb, boolean) is 'Makes a user with an email identity, or returns null when the address or the id is taken.';

create or replace function auth_api.sign_up_metadata(data jsonb, confirmed boolean) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(nullif(data, 'null'), '{}') || jsonb_build_object('email_verified', confirmed)
$$;
comment on function auth_api.sign_up_metadata(jsonb, boolean) is 'The user_metadata of a new user: the data of the request, and whether the address is confirmed.';

create or replace function auth_api.create_email_user(email text, hash text, data jsonb, confirmed boolean default false) returns auth.users
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.create_user(gen_random_uuid(), email, hash, 'authenticated', '{"provider": "email", "providers": ["email"]}',
        auth_api.sign_up_metadata(data, confirmed), confirmed)
$$;
comment on function auth_api.create_email_user(text, text, jsonb, boolean) is 'Makes the user of a sign-up by address or an invitation; hash is null without a password. Null when the address is taken.';

create or replace function auth_api.set_email_identity(u auth.users) returns void
language sql volatile set search_path = '' as $$
    insert into auth.identities as i (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
    values (u.id::text, u.id,
        jsonb_build_object('sub', u.id, 'email', u.email, 'email_verified', u.email_confirmed_at is not null, 'phone_verified', false),
        'email', kijko.now(), kijko.now(), kijko.now())
    on conflict (provider_id, provider) do update
    set identity_data = i.identity_data || jsonb_build_object('email', u.email, 'email_verified', u.email_confirmed_at is not null),
        updated_at = excluded.updated_at
$$;
comment on function auth_api.set_email_identity(auth.users) is 'Makes the user''s email identity, or brings it in line with the user''s address.';

-- GoTrue's merge: a null removes the key.
create or replace function auth_api.merge(old jsonb, changes jsonb) returns jsonb
language sql immutable set search_path = '' as $$
    select (coalesce(old, '{}') || coalesce(nullif(changes, 'null'), '{}'))
        - array(select key from jsonb_each(nullif(changes, 'null')) where value = 'null')
$$;
comment on function auth_api.merge(jsonb, jsonb) is 'Metadata with changes applied; a key set to null is removed.';

-- The unique index decides, so a race for one address ends here as well and not as an internal error.
create or replace function auth_api.change_email(u auth.users, new_email text, confirmed boolean) returns auth.users
language plpgsql volatile set search_path = '' as $$
declare
    violated text;
begin
    update auth.users
    set email = new_email,
        email_confirmed_at = case when confirmed then kijko.now() else email_confirmed_at end,
        updated_at = kijko.now()
    where id = u.id
    returning * into u;
    perform auth_api.set_email_identity(u);
    return u;
exception when unique_violation then
    get stacked diagnostics violated = constraint_name;
    if violated <> 'users_email_partial_key' then -- a constraint of the domain, in a trigger
        raise;
    end if;
    perform auth_api.reject(422, 'email_exists', 'A user with this email address has already been registered');
    return null; -- not reached: reject never returns
end
$$;
comment on function auth_api.change_email(auth.users, text, boolean) is 'Gives the user another address at once; one that is taken is refused.';

-- A mail that went out before says who the user was then: to an address that is no longer theirs, or for a password that somebody knows.
create or replace function auth_api.void_tokens(u auth.users) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    delete from auth.one_time_tokens t where t.user_id = u.id;
    delete from auth.flow_state f where f.user_id = u.id;
    update auth.users
    set confirmation_token = '', confirmation_sent_at = null, recovery_token = '', recovery_sent_at = null,
        email_change = '', email_change_token_current = '', email_change_token_new = '', email_change_sent_at = null, email_change_confirm_status = 0,
        phone_change_token = '', phone_change_sent_at = null, reauthentication_token = '', reauthentication_sent_at = null,
        updated_at = kijko.now()
    where id = u.id
    returning * into u;
    return u;
end
$$;
comment on function auth_api.void_tokens(auth.users) is 'Makes every link and code that was mailed to the user useless.';

-- An attacker who knew the old password may hold a session, so all end but that of the request. Sessions come before the user here, too: see lock_user.
create or replace function auth_api.change_password(u auth.users, password text, keep_session uuid) returns auth.users
language plpgsql volatile set search_path = '' as $$
declare
    hash text := auth_api.hash_password(password);
begin
    -- The domain notifies the user of the others.
    perform set_config('kijko_notifications.session_end', 'password_changed', true);
    delete from auth.sessions where user_id = u.id and id is distinct from keep_session;
    update auth.users set encrypted_password = hash where id = u.id returning * into u;
    perform auth_api.forgive(u.email);
    -- The first password of somebody who came from an outside provider: from now on the address is a way in.
    if coalesce(u.email, '') <> '' and not exists (select 1 from auth.identities i where i.user_id = u.id and i.provider = 'email') then
        perform auth_api.set_email_identity(u);
        update auth.users
        set raw_app_meta_data = jsonb_set(coalesce(raw_app_meta_data, '{}'), '{providers}', coalesce(raw_app_meta_data -> 'providers', '[]') || '["email"]')
        where id = u.id;
    end if;
    return auth_api.void_tokens(u);
end
$$;
comment on function auth_api.change_password(auth.users, text, uuid) is 'Sets a password, makes pending links useless and ends every session but one.';

reset role;
