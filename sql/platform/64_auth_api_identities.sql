-- The login API on a plain Postgres: identities at outside providers. An identity is (provider, subject), never an address. An address alone
-- leads to an existing account only where the operator said that the provider verifies addresses, and where both sides have confirmed it.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- What a provider says -------------------------------------------------------------------------------------------------------------

create or replace function auth_api.image_url(url text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case when octet_length(url) <= 1000 and url ~ '^https?://[^[:space:]"<>]+$' then url end
$$;
comment on function auth_api.image_url(text) is 'An address that pages may show as an image; null for any other.';

-- Of a provider's claims only those that clients know, each of a bounded size: they travel in access tokens.
create or replace function auth_api.external_profile(claims jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    subject constant text := claims ->> 'sub';
    address text := nullif(claims ->> 'email', '');
begin
    if coalesce(subject, '') = '' or octet_length(subject) > 255 then
        perform auth_api.reject(500, 'unexpected_failure', 'The provider names no subject');
    end if;
    if address is not null then
        begin
            address := auth_api.valid_email(address);
        exception when sqlstate 'KJA01' then
            address := null;
        end;
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'iss', left(claims ->> 'iss', 255), 'sub', subject, 'provider_id', subject,
        'email', address, 'email_verified', address is not null and coalesce(claims ->> 'email_verified', '') = 'true', 'phone_verified', false,
        'name', left(claims ->> 'name', 200), 'full_name', left(coalesce(claims ->> 'full_name', claims ->> 'name'), 200),
        'user_name', left(claims ->> 'user_name', 200), 'preferred_username', left(claims ->> 'preferred_username', 200),
        'avatar_url', auth_api.image_url(coalesce(claims ->> 'avatar_url', claims ->> 'picture')),
        'picture', auth_api.image_url(coalesce(claims ->> 'picture', claims ->> 'avatar_url'))));
end
$$;
comment on function auth_api.external_profile(jsonb) is 'What is kept of a provider''s claims.';

create or replace function auth_api.external_identity(provider text, subject text) returns auth.identities
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    found auth.identities;
begin
    -- Two callbacks with a new identity at the same moment: the second waits, and finds what the first made.
    perform pg_advisory_xact_lock(hashtextextended('auth_api.identity ' || provider || ' ' || subject, 0));
    select i.* into found from auth.identities i where i.provider = external_identity.provider and i.provider_id = subject;
    return found;
end
$$;
comment on function auth_api.external_identity(text, text) is 'The identity of a subject at a provider, locked until the transaction ends; null when there is none.';

-- Signing in -----------------------------------------------------------------------------------------------------------------------

-- A user has shown an address by a mail's link or code, or by a provider that the operator trusts with addresses. A confirmation
-- at the moment of sign-up proves nothing: mailer_autoconfirm confirms every address.
create or replace function auth_api.has_shown_address(u auth.users) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select not s.mailer_autoconfirm and u.email_confirmed_at is not null and (
        u.email_confirmed_at > u.created_at
        or exists (
            select 1 from auth.identities i join auth_api.oauth_providers p on p.name = i.provider and p.verifying
            where i.user_id = u.id and i.email = u.email and i.identity_data -> 'email_verified' = 'true'))
    from auth_api.settings s
$$;
comment on function auth_api.has_shown_address(auth.users) is 'Whether the user has shown that their address is theirs.';

-- An identity that was there before the address was confirmed may be a stranger's: see auth_api.confirm_address.
create or replace function auth_api.drop_external_identities(u auth.users) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    delete from auth.identities i where i.user_id = u.id and i.provider <> 'email';
    if found then
        perform auth_api.set_email_identity(u); -- as every user who signs up by address has it
        update auth.users set raw_app_meta_data = raw_app_meta_data || '{"provider": "email", "providers": ["email"]}' where id = u.id;
    end if;
end
$$;
comment on function auth_api.drop_external_identities(auth.users) is 'Removes a user''s identities at outside providers.';

-- The word of a provider that the operator has not marked confirms no address: it would satisfy an invitation.
create or replace function auth_api.create_external_user(provider text, profile jsonb, verifying boolean) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    confirmed constant boolean := verifying or (select s.mailer_autoconfirm from auth_api.settings s);
    u auth.users;
begin
    if (select s.disable_signup from auth_api.settings s) then
        perform auth_api.reject(422, 'signup_disabled', 'Signups not allowed for this instance');
    end if;
    insert into auth.users as users (instance_id, id, aud, role, email, email_confirmed_at, confirmation_token, recovery_token,
        email_change_token_new, email_change, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
    values ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated', 'authenticated', profile ->> 'email', case when confirmed then kijko.now() end, '', '',
        '', '', jsonb_build_object('provider', provider, 'providers', jsonb_build_array(provider)),
        profile || jsonb_build_object('email_verified', confirmed), kijko.now(), kijko.now())
    on conflict do nothing
    returning * into u;
    if u.id is null then
        perform auth_api.reject(422, 'email_exists', 'A user with this email address has already been registered');
    end if;
    return u;
end
$$;
comment on function auth_api.create_external_user(text, jsonb, boolean) is 'Makes the user of a new identity, with the address that its provider names.';

create or replace function auth_api.reject_unverified(provider text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.reject(403, 'provider_email_needs_verification',
        format('Unverified email with %s. Verify the email with %1$s in order to sign in', provider))
$$;
comment on function auth_api.reject_unverified(text) is 'Refuses an identity whose provider has not verified its address.';

-- One answer for every address that the provider has not verified, whether it has an account here or not.
create or replace function auth_api.user_of_profile(provider text, profile jsonb, verifying boolean) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users;
begin
    if profile -> 'email_verified' is distinct from 'true' then
        perform auth_api.reject_unverified(provider);
    end if;
    u := auth_api.lock_user((auth_api.find_by_email(profile ->> 'email')).id);
    if u.id is null then
        return auth_api.create_external_user(provider, profile, verifying);
    elsif not verifying and not (select s.mailer_autoconfirm from auth_api.settings s) then
        -- As for an address without an account, which auth_api.ask_to_confirm mails: see there.
        perform auth_api.reject_unconfirmed(provider, profile ->> 'email');
    elsif not verifying or not auth_api.has_shown_address(u) then
        perform auth_api.reject(422, 'email_exists',
            'A user with this email address has already been registered. Sign in as before, then link the identity');
    end if;
    return u;
end
$$;
comment on function auth_api.user_of_profile(text, jsonb, boolean) is 'The user that a new identity signs in: the user of its address where that may be, else a new one.';

create or replace function auth_api.reject_unconfirmed(provider text, address text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform auth_api.charge_mail(address, to_strangers => true);
    perform auth_api.reject(403, 'provider_email_needs_verification', auth_api.unconfirmed_message(provider));
end
$$;
comment on function auth_api.reject_unconfirmed(text, text) is 'Refuses a new identity whose address is that of an account, as one whose address was just mailed.';

create or replace function auth_api.unconfirmed_message(provider text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format('Unverified email with %s. If the address is new here, a mail to confirm it is on its way; if not, sign in as before and link the identity', provider)
$$;
comment on function auth_api.unconfirmed_message(text) is 'The message to a user whose provider the operator does not trust with addresses.';

create or replace function auth_api.must_confirm(u auth.users) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select u.email_confirmed_at is null and coalesce(u.email, '') <> ''
$$;
comment on function auth_api.must_confirm(auth.users) is 'Whether a user who came from a provider has an unconfirmed address.';

-- The link of the mail continues the client's own flow, so it signs in the client that began.
create or replace function auth_api.ask_to_confirm(u auth.users, challenge jsonb, target text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform auth_api.charge_mail(u.email, to_strangers => true);
    perform auth_api.mail_token(u, 'confirmation', 'signup', 'confirmation_token', u.email, target, auth_api.begin_flow(u, challenge, 'email/signup'),
        keeps_password => true);
end
$$;
comment on function auth_api.ask_to_confirm(auth.users, jsonb, text) is 'Mails a user who came from a provider that the operator does not trust with addresses.';

-- The caller has locked the user, or made them.
create or replace function auth_api.add_identity(u auth.users, provider text, profile jsonb) returns auth.identities
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    added auth.identities;
    providers jsonb := coalesce(u.raw_app_meta_data -> 'providers', '[]');
begin
    if (select count(*) from auth.identities i where i.user_id = u.id) >= 20 then
        perform auth_api.reject(422, 'validation_failed', 'A user has at most 20 identities');
    end if;
    insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
    values (profile ->> 'sub', u.id, profile, provider, kijko.now(), kijko.now(), kijko.now())
    returning * into added;
    update auth.users
    set raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || jsonb_build_object(
            'provider', coalesce(raw_app_meta_data ->> 'provider', provider),
            'providers', case when providers ? provider then providers else providers || to_jsonb(provider) end),
        updated_at = kijko.now()
    where id = u.id;
    return added;
end
$$;
comment on function auth_api.add_identity(auth.users, text, jsonb) is 'Gives a user an identity at an outside provider.';

-- What the user has set themselves stays.
create or replace function auth_api.refresh_profile(identity auth.identities, profile jsonb) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users := auth_api.lock_user(identity.user_id);
begin
    update auth.identities i
    set identity_data = i.identity_data || profile, last_sign_in_at = kijko.now(), updated_at = kijko.now()
    where i.id = identity.id;
    return auth_api.change_metadata(u, (profile - array['email', 'email_verified', 'phone_verified']) || coalesce(u.raw_user_meta_data, '{}'));
end
$$;
comment on function auth_api.refresh_profile(auth.identities, jsonb) is 'Keeps what the provider says today of an identity, and returns its user, locked.';

create or replace function auth_api.sign_in_external(provider text, profile jsonb, verifying boolean, out identity auth.identities, out u auth.users)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    identity := auth_api.external_identity(provider, profile ->> 'sub');
    if identity.id is null then
        identity := auth_api.add_identity(auth_api.user_of_profile(provider, profile, verifying), provider, profile);
    end if;
    u := auth_api.refresh_profile(identity, profile);
    if u.id is null or u.deleted_at is not null then
        perform auth_api.reject(403, 'user_not_found', 'User of this identity does not exist');
    elsif auth_api.is_banned(u) then
        perform auth_api.reject_sign_in(403, 'user_banned', 'User is banned', u.id);
    end if;
end
$$;
comment on function auth_api.sign_in_external(text, jsonb, boolean) is 'The user that an identity signs in; a new identity is linked by its address or makes a user.';

-- Linking and unlinking ------------------------------------------------------------------------------------------------------------

create or replace function auth_api.check_linkable(u auth.users, identity auth.identities) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if identity.user_id = u.id then
        perform auth_api.reject(422, 'identity_already_exists', 'Identity is already linked');
    elsif identity.id is not null then
        perform auth_api.reject(422, 'identity_already_exists', 'Identity is already linked to another user');
    end if;
end
$$;
comment on function auth_api.check_linkable(auth.users, auth.identities) is 'Refuses an identity that is linked already.';

create or replace function auth_api.link_identity(user_id uuid, provider text, profile jsonb, out identity auth.identities, out u auth.users)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    identity := auth_api.external_identity(provider, profile ->> 'sub');
    u := auth_api.lock_user(user_id);
    perform auth_api.check_linkable(u, identity);
    if u.is_anonymous then
        -- A permanent user has a confirmed address, or a way to confirm one.
        if profile -> 'email_verified' is distinct from 'true' then
            perform auth_api.reject_unverified(provider);
        end if;
        -- As in auth_api.create_external_user. Nothing is looked up before, so the refusal does not tell whose address it is.
        if not exists (select 1 from auth_api.oauth_providers p where p.name = provider and p.verifying)
            and not (select s.mailer_autoconfirm from auth_api.settings s)
        then
            perform auth_api.reject(403, 'provider_email_needs_verification',
                format('The word of %s confirms no address. Confirm an address first, then link the identity', provider));
        end if;
        u := auth_api.set_email(u, profile ->> 'email');
        update auth.users set raw_app_meta_data = auth_api.merge(raw_app_meta_data, jsonb_build_object('provider', provider, 'providers', '[]'::jsonb))
        where id = u.id returning * into u;
        delete from auth.identities i where i.user_id = u.id and i.provider = 'email';
    end if;
    identity := auth_api.add_identity(u, provider, profile);
    u := auth_api.refresh_profile(identity, profile);
end
$$;
comment on function auth_api.link_identity(uuid, text, jsonb) is 'Links an identity to a signed-in user; an anonymous one becomes permanent.';

-- An identity of a provider that the operator has switched off signs nobody in. An address does, by password or by mail.
create or replace function auth_api.is_way_in(u auth.users, identity auth.identities) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case when identity.provider = 'email'
        then coalesce(u.email, '') <> '' and (coalesce(u.encrypted_password, '') <> '' or u.email_confirmed_at is not null)
        else identity.provider = any (auth_api.provider_names()) end
$$;
comment on function auth_api.is_way_in(auth.users, auth.identities) is 'Whether the user can sign in by an identity.';

create or replace function auth_api.require_second_factor(u auth.users, session auth.sessions) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if not auth_api.has_aal2(session) and auth_api.has_factor(u.id) then
        perform auth_api.reject(401, 'insufficient_aal', 'AAL2 session is required to change identities when MFA is enabled.');
    -- A session that began by a new identity may choose the first factor.
    elsif not auth_api.has_aal2(session) and auth_api.lacks_mail_proof(u, session) then
        perform auth_api.reject(400, 'reauthentication_needed', 'An organization of yours requires a second factor: sign in by a mail to change identities');
    end if;
end
$$;
comment on function auth_api.require_second_factor(auth.users, auth.sessions) is 'Refuses a user who has a second factor and has not shown it, and one who must have a factor and came by a password alone.';

-- Without its identity an address is no way in: its password goes, and it stays only as an address that another identity has verified.
create or replace function auth_api.unlink_address(u auth.users) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (
        select 1 from auth.identities i
        where i.user_id = u.id and i.provider <> 'email' and i.email = u.email and i.identity_data -> 'email_verified' = 'true')
    then
        perform auth_api.reject(422, 'email_conflict_identity_not_deletable', 'No other identity has the address of the account');
    end if;
    update auth.users set encrypted_password = null where id = u.id;
end
$$;
comment on function auth_api.unlink_address(auth.users) is 'What removing the email identity does besides.';

-- Sessions that began at a provider end, except the caller's: an identity is removed because it should sign nobody in any more.
create or replace function auth_api.unlink_identity(identity_id text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    u auth.users;
    identity auth.identities;
begin
    select * into caller from auth_api.caller();
    perform auth_api.require_second_factor(caller.u, caller.session);
    if not auth_api.is_uuid(identity_id) then
        perform auth_api.reject(404, 'validation_failed', 'identity_id must be an UUID');
    end if;
    u := auth_api.lock_user((caller.u).id);
    select i.* into identity from auth.identities i where i.id = identity_id::uuid and i.user_id = u.id;
    if identity.id is null then
        perform auth_api.reject(422, 'identity_not_found', 'Identity doesn''t exist');
    elsif not exists (select 1 from auth.identities i where i.user_id = u.id and i.id <> identity.id and auth_api.is_way_in(u, i)) then
        perform auth_api.reject(422, 'single_identity_not_deletable', 'User must have at least 1 identity to sign in with after unlinking');
    elsif identity.provider = 'email' then
        perform auth_api.unlink_address(u);
    end if;
    delete from auth.sessions s
    where s.user_id = u.id and s.id <> (caller.session).id and exists (
        select 1 from auth.mfa_amr_claims a
        where a.session_id = s.id and a.authentication_method = case identity.provider when 'email' then 'password' else 'oauth' end);
    delete from auth.flow_state f where f.user_id = u.id and (f.provider_type = identity.provider);
    delete from auth.identities i where i.id = identity.id;
    update auth.users
    set raw_app_meta_data = raw_app_meta_data || jsonb_build_object('providers', coalesce((raw_app_meta_data -> 'providers') - identity.provider, '[]')),
        updated_at = kijko.now()
    where id = u.id and not exists (select 1 from auth.identities i where i.user_id = u.id and i.provider = identity.provider);
    update auth.users
    set raw_app_meta_data = raw_app_meta_data || jsonb_build_object('provider', raw_app_meta_data #> '{providers,0}')
    where id = u.id and raw_app_meta_data ->> 'provider' = identity.provider and not raw_app_meta_data -> 'providers' ? identity.provider;
    return '{}';
end
$$;
comment on function auth_api.unlink_identity(text) is 'DELETE /user/identities/{id}: removes an identity, unless it is the last way in. Its provider''s token is revoked afterwards.';

reset role;
