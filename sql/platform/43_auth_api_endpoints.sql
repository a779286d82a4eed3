-- The login API on a plain Postgres: the endpoints for everybody. Shapes, codes and messages are GoTrue's.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Where addresses count as confirmed at once (GoTrue's mailer autoconfirm, the Supabase CLI's local default), sign-up returns a session.
create or replace function auth_api.signup(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "password": "string", "data": "object",
        "code_challenge": "string", "code_challenge_method": "string"}');
    password text := coalesce(body ->> 'password', '');
    confirms boolean := (select s.mailer_autoconfirm from auth_api.settings s);
    email text;
    u auth.users;
begin
    if (select s.disable_signup from auth_api.settings s) then
        perform auth_api.reject(422, 'signup_disabled', 'Signups not allowed for this instance');
    elsif coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.check_one_address(body);
        perform auth_api.reject(400, 'phone_provider_disabled', 'Phone signups are disabled');
    elsif coalesce(body ->> 'email', '') = '' then
        return auth_api.signup_anonymous(body);
    elsif password = '' then
        perform auth_api.reject(400, 'validation_failed', 'Signup requires a valid password');
    end if;
    email := auth_api.valid_email(body ->> 'email');
    perform auth_api.check_password(password, email);
    perform auth_api.check_challenge(body);
    perform auth_api.charge_address('hash');
    if not confirms then
        perform auth_api.charge_mail(email, to_strangers => true);
        return auth_api.signup_unconfirmed(email, auth_api.hash_password(password), body, auth_api.redirect_target(query));
    end if;
    u := auth_api.create_email_user(email, auth_api.hash_password(password), body -> 'data', confirmed => true);
    if u.id is null then
        perform auth_api.reject(422, 'user_already_exists', 'User already registered');
    end if;
    return auth_api.open_session(u, 'password');
end
$$;
comment on function auth_api.signup(jsonb, text) is 'POST /signup: makes a user with address and password, and signs them in unless the address has to be confirmed first.';

create or replace function auth_api.refresh_grant(request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"refresh_token": "string"}');
begin
    -- Other forms are those of other servers.
    if coalesce(body ->> 'refresh_token', '') !~ '^[a-z0-9]{12}$' then
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
        when 'pkce' then return auth_api.pkce_grant(request_body);
        when 'id_token' then return auth_api.refusal(400, 'provider_disabled', 'Provider is not enabled');
        when 'web3' then return auth_api.refusal(422, 'web3_provider_disabled', 'Web3 provider is disabled');
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
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return (select json_build_object(
        'external', (
            select json_object_agg(provider, provider = 'email' or (provider = 'anonymous_users' and s.anonymous_users)
                or provider = any (auth_api.provider_names()))
            from (select distinct unnest(array['anonymous_users', 'apple', 'azure', 'bitbucket', 'discord', 'facebook', 'snapchat', 'figma', 'fly', 'github',
                'gitlab', 'google', 'keycloak', 'kakao', 'linkedin', 'linkedin_oidc', 'notion', 'spotify', 'slack', 'slack_oidc', 'workos',
                'twitch', 'twitter', 'email', 'phone', 'zoom']
                || auth_api.provider_names())) as listed (provider)),
        'disable_signup', s.disable_signup,
        'mailer_autoconfirm', s.mailer_autoconfirm,
        'phone_autoconfirm', false,
        'sms_provider', '',
        'saml_enabled', false,
        'saml_private_key_next_configured', false,
        'passkeys_enabled', false)
    from auth_api.settings s);
end
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
