-- The login API on a plain Postgres: the endpoints for everybody. Shapes, codes and messages are GoTrue's.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Addresses are confirmed at once (GoTrue's mailer autoconfirm, the Supabase CLI's local default): sign-up returns a session.
create or replace function auth_api.signup(request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "password": "string", "data": "object"}');
    password text := coalesce(body ->> 'password', '');
    email text;
    u auth.users;
begin
    if (select s.disable_signup from auth_api.settings s) then
        perform auth_api.reject(422, 'signup_disabled', 'Signups not allowed for this instance');
    elsif coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.reject(400, 'phone_provider_disabled', 'Phone signups are disabled');
    elsif coalesce(body ->> 'email', '') = '' then
        perform auth_api.reject(422, 'anonymous_provider_disabled', 'Anonymous sign-ins are disabled');
    elsif password = '' then
        perform auth_api.reject(400, 'validation_failed', 'Signup requires a valid password');
    end if;
    perform auth_api.check_password(password);
    email := auth_api.valid_email(body ->> 'email');
    perform auth_api.charge_address('hash');
    u := auth_api.create_user(gen_random_uuid(), email, auth_api.hash_password(password), 'authenticated',
        '{"provider": "email", "providers": ["email"]}',
        coalesce(nullif(body -> 'data', 'null'), '{}') || '{"email_verified": true}', confirmed => true);
    if u.id is null then
        perform auth_api.reject(422, 'user_already_exists', 'User already registered');
    end if;
    return auth_api.open_session(u, 'password');
end
$$;
comment on function auth_api.signup(text) is 'POST /signup: makes a user with address and password and signs them in.';

-- Refusals are returned and not raised: the attempt has been counted and stays counted.
create or replace function auth_api.password_grant(request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "password": "string"}');
    address text := lower(btrim(body ->> 'email') collate "C");
    u auth.users;
begin
    if coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.reject(422, 'phone_provider_disabled', 'Phone logins are disabled');
    elsif coalesce(address, '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'missing email or phone');
    end if;
    perform auth_api.charge_address('hash');
    perform auth_api.charge(format('auth:login:%s:%s', kijko.client_network(), md5(address)),
        (select s.attempts_per_5_minutes from auth_api.settings s), '5 minutes');
    select * into u from auth.users where users.email = address and users.is_sso_user = false;
    if not auth_api.password_matches(body ->> 'password', u.encrypted_password) then
        return auth_api.refusal(400, 'invalid_credentials', 'Invalid login credentials');
    -- Only a caller who knows the password learns of these two.
    elsif auth_api.is_banned(u) then
        return auth_api.refusal(400, 'user_banned', 'User is banned');
    elsif u.email_confirmed_at is null then
        return auth_api.refusal(400, 'email_not_confirmed', 'Email not confirmed');
    end if;
    return auth_api.open_session(u, 'password');
end
$$;
comment on function auth_api.password_grant(text) is 'POST /token?grant_type=password: signs in with address and password.';

create or replace function auth_api.refresh_grant(request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"refresh_token": "string"}');
begin
    if coalesce(body ->> 'refresh_token', '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'Refresh token is not valid');
    end if;
    perform auth_api.charge_address('refresh');
    return auth_api.refresh_session(body ->> 'refresh_token');
end
$$;
comment on function auth_api.refresh_grant(text) is 'POST /token?grant_type=refresh_token: exchanges a refresh token.';

create or replace function auth_api.token(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = '' as $$
begin
    case query ->> 'grant_type'
        when 'password' then return auth_api.password_grant(request_body);
        when 'refresh_token' then return auth_api.refresh_grant(request_body);
        else return auth_api.refusal(400, 'invalid_credentials', 'unsupported_grant_type');
    end case;
end
$$;
comment on function auth_api.token(jsonb, text) is 'POST /token: by the query''s grant_type.';

create or replace function auth_api.get_user() returns json
language sql volatile set search_path = '' as $$
    select auth_api.user_json(u) from auth_api.caller()
$$;
comment on function auth_api.get_user() is 'GET /user: the signed-in user.';

create or replace function auth_api.put_user(request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    caller record;
    u auth.users;
    body jsonb;
    password text;
    email text;
begin
    select * into caller from auth_api.caller();
    u := caller.u;
    body := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "password": "string", "data": "object", "app_metadata": "object"}');
    password := body ->> 'password';
    if jsonb_typeof(body -> 'app_metadata') = 'object' then
        perform auth_api.reject(403, 'not_admin', 'Updating app_metadata requires admin privileges');
    elsif coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.reject(400, 'phone_provider_disabled', 'Phone logins are disabled');
    end if;
    if coalesce(body ->> 'email', '') <> '' then
        email := auth_api.valid_email(body ->> 'email');
    end if;
    if password is not null then
        perform auth_api.check_password(password);
        perform auth_api.charge_address('hash');
        if auth_api.password_matches(password, u.encrypted_password) then
            perform auth_api.reject(422, 'same_password', 'New password should be different from the old password.');
        end if;
        u := auth_api.change_password(u, password, keep_session => (caller.session).id);
    end if;
    if email <> u.email or (email is not null and u.email is null) then
        u := auth_api.change_email(u, email, confirmed => true);
    end if;
    update auth.users
    set raw_user_meta_data = auth_api.merge(raw_user_meta_data, body -> 'data'), updated_at = kijko.now()
    where id = u.id
    returning * into u;
    -- Several small changes add up: beyond this the user's own token would be refused everywhere, and with it the change back.
    if octet_length(u.raw_user_meta_data::text) > (select s.max_body_bytes from auth_api.settings s) then
        perform auth_api.reject(422, 'validation_failed', 'user_metadata is larger than an access token can carry');
    end if;
    return auth_api.user_json(u);
end
$$;
comment on function auth_api.put_user(text) is 'PUT /user: the signed-in user changes their password, address or user_metadata.';

-- The trigger of the domain on auth.sessions makes the access tokens of a deleted session useless as well.
create or replace function auth_api.logout(query jsonb) returns json
language plpgsql volatile set search_path = '' as $$
declare
    scope text := coalesce(nullif(query ->> 'scope', ''), 'global');
    caller record;
begin
    select * into caller from auth_api.caller();
    if scope not in ('global', 'local', 'others') then
        perform auth_api.reject(400, 'validation_failed', format('Unsupported logout scope %s', to_json(scope)));
    end if;
    delete from auth.sessions s
    where s.user_id = (caller.u).id
      and case scope when 'local' then s.id = (caller.session).id when 'others' then s.id <> (caller.session).id else true end;
    perform set_config('response.status', '204', true);
    return null;
end
$$;
comment on function auth_api.logout(jsonb) is 'POST /logout: ends all of the user''s sessions, this one (scope=local) or the others (scope=others).';

create or replace function auth_api.get_settings() returns json
language sql volatile set search_path = '' as $$
    select json_build_object(
        'external', (
            select json_object_agg(provider, provider = 'email')
            from unnest(array['anonymous_users', 'apple', 'azure', 'bitbucket', 'discord', 'facebook', 'snapchat', 'figma', 'fly', 'github',
                'gitlab', 'google', 'keycloak', 'kakao', 'linkedin', 'linkedin_oidc', 'notion', 'spotify', 'slack', 'slack_oidc', 'workos',
                'twitch', 'twitter', 'email', 'phone', 'zoom']) as provider),
        'disable_signup', s.disable_signup,
        'mailer_autoconfirm', true,
        'phone_autoconfirm', false,
        'sms_provider', '',
        'saml_enabled', false,
        'saml_private_key_next_configured', false,
        'passkeys_enabled', false)
    from auth_api.settings s
$$;
comment on function auth_api.get_settings() is 'GET /settings: which ways to sign in there are.';

create or replace function auth_api.health() returns json
language sql volatile set search_path = '' as $$
    select json_build_object(
        'version', (select e.extversion from pg_catalog.pg_extension e where e.extname = 'kijko'),
        'name', 'Kijko',
        'description', 'Kijko answers the user registration and authentication API of GoTrue from Postgres')
$$;
comment on function auth_api.health() is 'GET /health: that the login API is alive, and the extension''s version.';

create or replace function auth_api.get_jwks() returns json
language sql volatile set search_path = '' as $$
    select kijko.jwks()::json from kijko.add_header('Cache-Control', 'public, max-age=600')
$$;
comment on function auth_api.get_jwks() is 'GET /.well-known/jwks.json: the public keys that access tokens can be verified with.';

reset role;
