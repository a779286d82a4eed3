-- The login API on a plain Postgres: using a link or a code of a mail. POST is for clients and answers with a session; GET is the link itself and
-- answers with a redirect.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.types_of_action(action text) returns auth.one_time_token_type[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    case
        when action in ('signup', 'invite') then return '{confirmation_token}';
        when action in ('magiclink', 'recovery') then return '{recovery_token}';
        when action = 'email' then return '{confirmation_token, recovery_token}';
        when action = 'email_change' then return '{email_change_token_new, email_change_token_current}';
        when action in ('sms', 'phone_change') then perform auth_api.reject(400, 'phone_provider_disabled', 'Phone logins are disabled');
        else perform auth_api.reject(400, 'validation_failed', 'Verify requires a verification type');
    end case;
end
$$;
comment on function auth_api.types_of_action(text) is 'Which tokens a request to verify is about.';

-- Somebody else may have signed up with this address before and chosen the password. Who proves the address in another way than by the mail of
-- that sign-up must not get an account whose password a stranger knows, or a session of theirs.
create or replace function auth_api.confirm_address(u auth.users, keeps_password boolean) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if u.email_confirmed_at is not null then
        return u;
    elsif not keeps_password then
        delete from auth.sessions where user_id = u.id;
        perform auth_api.drop_external_identities(u);
    end if;
    update auth.users
    set email_confirmed_at = kijko.now(),
        encrypted_password = case when keeps_password then encrypted_password end,
        raw_user_meta_data = auth_api.merge(raw_user_meta_data, '{"email_verified": true}'),
        updated_at = kijko.now()
    where id = u.id
    returning * into u;
    perform auth_api.set_email_identity(u);
    return u;
end
$$;
comment on function auth_api.confirm_address(auth.users, boolean) is 'Marks the user''s address as confirmed. Unless the password belongs to who confirmed it, it is removed, as are identities at outside providers.';

-- What using a token does besides signing in. Null: the other address has to confirm, too.
create or replace function auth_api.apply_token(u auth.users, token auth.one_time_tokens, code auth_api.one_time_codes) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if token.token_type in ('email_change_token_new', 'email_change_token_current') then
        return auth_api.apply_email_change(u, token);
    end if;
    perform auth_api.forgive(u.email);
    return auth_api.confirm_address(u, code.keeps_password);
end
$$;
comment on function auth_api.apply_token(auth.users, auth.one_time_tokens, auth_api.one_time_codes) is 'Does what a used token was for; null when half of a change of address is confirmed.';

create or replace function auth_api.half_confirmed() returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select 'Confirmation link accepted. Please proceed to confirm link sent to the other email'
$$;
comment on function auth_api.half_confirmed() is 'What clients are told when one of two addresses has confirmed; supabase-js shows it.';

create or replace function auth_api.expired(by_link boolean) returns json
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.refusal(403, 'otp_expired',
        case when by_link then 'Email link is invalid or has expired' else 'Token has expired or is invalid' end)
$$;
comment on function auth_api.expired(boolean) is 'The one answer to a wrong, used, burnt or expired token, and to an unknown address.';

-- Returns its refusals: a wrong code has been counted and stays counted.
create or replace function auth_api.verify_client(request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"type": "string", "token_hash": "string", "token": "string", "email": "string", "phone": "string", "redirect_to": "string"}');
    types auth.one_time_token_type[] := auth_api.types_of_action(body ->> 'type');
    by_link boolean := coalesce(body ->> 'token_hash', '') <> '';
    address text;
    id uuid;
    used record;
    u auth.users;
begin
    if by_link and coalesce(body ->> 'email', '') || coalesce(body ->> 'phone', '') || coalesce(body ->> 'token', '') || coalesce(body ->> 'redirect_to', '') <> '' then
        perform auth_api.reject(400, 'validation_failed', 'Only the token_hash and type should be provided');
    elsif not by_link and coalesce(body ->> 'token', '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'Verify requires a token or a token hash');
    end if;
    perform auth_api.charge_address('verify');
    if by_link then
        id := auth_api.token_of_link(body ->> 'token_hash', types);
    else
        address := auth_api.valid_email(body ->> 'email', malformed => 422);
        perform auth_api.charge('auth:code:' || md5(address), (select s.codes_per_hour from auth_api.settings s), '1 hour');
        id := auth_api.token_of_code(address, types, body ->> 'token');
        if id is null then
            -- An address without an account costs the same.
            perform auth_api.audit_refusal((auth_api.find_by_email(address)).id, 'otp_expired');
        end if;
    end if;
    select * into used from auth_api.use_token(id);
    if (used.token).id is null then
        return auth_api.expired(by_link);
    elsif auth_api.is_banned(used.u) then
        perform auth_api.reject_sign_in(403, 'user_banned', 'User is banned', (used.u).id);
    end if;
    u := auth_api.apply_token(used.u, used.token, used.code);
    if u.id is null then
        return jsonb_build_object('msg', auth_api.half_confirmed(), 'code', '200');
    end if;
    return auth_api.open_session(u, 'otp');
end
$$;
comment on function auth_api.verify_client(text) is 'POST /verify: exchanges a code or the token of a link for a session.';

create or replace function auth_api.redirect_error(target text, status integer, code text, message text, pkce boolean) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    fields jsonb := jsonb_build_object(
        'error', case when status = 403 or code = 'signup_disabled' then 'access_denied' else 'server_error' end, 'error_code', code, 'error_description', message);
begin
    return auth_api.redirect(target, fields || '{"sb": ""}', case when pkce then fields else '{}' end);
end
$$;
comment on function auth_api.redirect_error(text, integer, text, text, boolean) is 'Says in a redirect what went wrong, where supabase-js looks for it.';

create or replace function auth_api.redirect_session(target text, u auth.users, action text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    session jsonb := auth_api.open_session(u, 'otp')::jsonb;
begin
    return auth_api.redirect(target, jsonb_build_object(
        'access_token', session ->> 'access_token', 'expires_at', session ->> 'expires_at', 'expires_in', session ->> 'expires_in',
        'refresh_token', session ->> 'refresh_token', 'token_type', 'bearer', 'type', action, 'sb', ''));
end
$$;
comment on function auth_api.redirect_session(text, auth.users, text) is 'Signs in by a redirect: the session is in the fragment.';

create or replace function auth_api.verify_link(query jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    target text := auth_api.redirect_target(query);
    link_token text := coalesce(query ->> 'token', '');
    action text := query ->> 'type';
    types auth.one_time_token_type[] := auth_api.types_of_action(action);
    pkce boolean := link_token like 'pkce\_%';
    used record;
    u auth.users;
    auth_code text;
    message text;
    detail jsonb;
begin
    if link_token = '' then
        perform auth_api.reject(400, 'validation_failed', 'Verify requires a token or a token hash');
    end if;
    perform auth_api.charge_address('verify');
    select * into used from auth_api.use_token(auth_api.token_of_link(link_token, types));
    if (used.token).id is null then
        return auth_api.redirect_error(target, 403, 'otp_expired', 'Email link is invalid or has expired', pkce);
    elsif auth_api.is_banned(used.u) then
        perform auth_api.audit_refusal((used.u).id, 'user_banned');
        return auth_api.redirect_error(target, 403, 'user_banned', 'User is banned', pkce);
    end if;
    begin
        u := auth_api.apply_token(used.u, used.token, used.code);
    exception when sqlstate 'KJA01' then -- the new address was taken meanwhile
        get stacked diagnostics message = message_text, detail = pg_exception_detail;
        return auth_api.redirect_error(target, (detail ->> 'status')::integer, detail ->> 'code', message, pkce);
    end;
    if u.id is null then
        return auth_api.redirect(target, jsonb_build_object('message', auth_api.half_confirmed(), 'sb', ''),
            case when pkce then jsonb_build_object('message', auth_api.half_confirmed()) else '{}' end);
    elsif not pkce then
        return auth_api.redirect_session(target, u, action);
    end if;
    auth_code := auth_api.flow_code((used.code).flow_state_id);
    if auth_code is null then
        return auth_api.redirect_error(target, 403, 'otp_expired', 'Email link is invalid or has expired', pkce);
    end if;
    return auth_api.redirect(target, query => jsonb_build_object('code', auth_code));
end
$$;
comment on function auth_api.verify_link(jsonb) is 'The link of a mail: confirms, and redirects with a session or, for a client with PKCE, with a code.';

create or replace function auth_api.verify(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if query ? 'token' then -- the button of the page
        return auth_api.verify_link(query);
    end if;
    return auth_api.verify_client(request_body);
end
$$;
comment on function auth_api.verify(jsonb, text) is 'POST /verify: by a client, or by the page with the button.';

-- Posts to its own address, so nothing of the request is written into the page. No script, no other source, no frame around it.
create or replace function auth_api.confirm_page() returns auth_api."*/*"
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    dutch boolean := coalesce(auth_api.header('accept-language') ~* '^nl', false);
begin
    perform kijko.add_header('Content-Type', 'text/html; charset=utf-8');
    perform kijko.add_header('Content-Security-Policy', 'default-src ''none''; style-src ''unsafe-inline''; frame-ancestors ''none''; base-uri ''none''');
    perform kijko.add_header('Referrer-Policy', 'no-referrer');
    perform kijko.add_header('X-Robots-Tag', 'noindex');
    return format($page$<!doctype html>
<html lang="%s">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>%s</title>
<style>body{font:1.1rem/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0;padding:1rem}button{font:inherit;padding:.7em 2em;cursor:pointer}</style>
</head>
<body>
<main>
<p>%s</p>
<form method="post"><button type="submit" autofocus>%s</button></form>
</main>
</body>
</html>
$page$,
        case when dutch then 'nl' else 'en' end,
        case when dutch then 'Bevestigen' else 'Confirm' end,
        case when dutch then 'Klik op de knop om door te gaan.' else 'Press the button to go on.' end,
        case when dutch then 'Doorgaan' else 'Continue' end)::auth_api."*/*";
end
$$;
comment on function auth_api.confirm_page() is 'A page with one button that does what the link would do.';

reset role;
