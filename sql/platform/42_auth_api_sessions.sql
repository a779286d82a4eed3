-- The login API on a plain Postgres: sessions, access tokens and refresh tokens.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Tokens -------------------------------------------------------------------------------------------------------------------------

-- The form GoTrue issues and accepts, so that a session can move as well. 60 bits cannot be guessed through a rate limit.
create or replace function auth_api.new_refresh_token() returns text
language sql volatile set search_path = '' as $$
    select string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', (get_byte(random, n) & 31) + 1, 1), '')
    from extensions.gen_random_bytes(12) as random, generate_series(0, 11) as n
$$;
comment on function auth_api.new_refresh_token() is '12 random characters of a-z and 2-7.';

-- iat and exp are by the real clock and not by kijko.now(): PostgREST checks exp against the real one, so a token made while the product's
-- clock is set forward would otherwise stay valid for as long as that, and one made in the past would be refused.
create or replace function auth_api.access_token(u auth.users, session auth.sessions, expires_at bigint) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    methods jsonb := (
        select coalesce(jsonb_agg(jsonb_build_object(
            'method', a.authentication_method,
            'timestamp', floor(extract(epoch from a.updated_at))::bigint) order by a.updated_at desc, a.created_at desc), '[]')
        from auth.mfa_amr_claims a
        where a.session_id = session.id);
    claims jsonb := jsonb_build_object(
        'iss', (select s.issuer from auth_api.settings s),
        'sub', u.id,
        'aud', u.aud,
        'exp', expires_at,
        'iat', floor(extract(epoch from now()))::bigint,
        'email', coalesce(u.email, ''),
        'phone', coalesce(u.phone, ''),
        'app_metadata', coalesce(u.raw_app_meta_data, '{}'),
        'user_metadata', coalesce(u.raw_user_meta_data, '{}'),
        'role', u.role,
        'aal', session.aal,
        'amr', methods,
        'session_id', session.id,
        'is_anonymous', u.is_anonymous);
begin
    return kijko.sign_jwt(auth_api.custom_claims(claims, u.id, methods #>> '{0,method}'));
end
$$;
comment on function auth_api.access_token(auth.users, auth.sessions, bigint) is 'A signed access token with GoTrue''s claims.';

create or replace function auth_api.token_response(u auth.users, session auth.sessions, refresh_token text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    lifetime integer := (select s.access_token_seconds from auth_api.settings s);
    expires_at bigint := floor(extract(epoch from now()))::bigint + lifetime;
begin
    perform kijko.add_header('Sb-Auth-User-Id', u.id::text);
    perform kijko.add_header('Sb-Auth-Session-Id', session.id::text);
    return jsonb_build_object(
        'access_token', auth_api.access_token(u, session, expires_at),
        'token_type', 'bearer',
        'expires_in', lifetime,
        'expires_at', expires_at,
        'refresh_token', refresh_token,
        'user', auth_api.user_json(u));
end
$$;
comment on function auth_api.token_response(auth.users, auth.sessions, text) is 'What a client gets for a sign-in or a refresh.';

create or replace function auth_api.issue_refresh_token(session auth.sessions, parent text default '') returns text
language sql volatile set search_path = '' as $$
    insert into auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at, parent, session_id)
    values ('00000000-0000-0000-0000-000000000000', auth_api.new_refresh_token(), session.user_id::text, false, kijko.now(), kijko.now(), parent, session.id)
    returning token
$$;
comment on function auth_api.issue_refresh_token(auth.sessions, text) is 'Adds a token to the session''s chain.';

-- Opening and refreshing ---------------------------------------------------------------------------------------------------------

create or replace function auth_api.open_session(u auth.users, method text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    moment constant timestamptz := kijko.now();
    session auth.sessions;
begin
    insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
    values (gen_random_uuid(), u.id, moment, moment, 'aal1', auth_api.header('user-agent'), kijko.client_address())
    returning * into session;
    delete from auth.sessions s
    where (select settings.single_session_per_device from auth_api.settings)
        and s.user_id = u.id and s.id <> session.id and s.user_agent is not distinct from session.user_agent and s.ip is not distinct from session.ip;
    insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
    values (gen_random_uuid(), session.id, moment, moment, method);
    perform auth_api.remember_device(u);
    update auth.users set last_sign_in_at = moment, updated_at = moment where id = u.id returning * into u;
    -- A concurrent ban or deletion did not see this session.
    if u.id is null or u.deleted_at is not null then
        perform auth_api.reject(400, 'invalid_credentials', 'Invalid login credentials');
    elsif auth_api.is_banned(u) then
        perform auth_api.reject_sign_in(400, 'user_banned', 'User is banned', u.id);
    end if;
    return auth_api.token_response(u, session, auth_api.issue_refresh_token(session));
end
$$;
comment on function auth_api.open_session(auth.users, text) is 'Signs the user in: a session, its first refresh token and an access token.';

-- The token that a client holds when its used token is still to be honoured, or null. GoTrue honours two cases: the parent of the active
-- token at any time (the client never got the answer to its refresh) and any token within the reuse interval (tabs that refresh at once).
create or replace function auth_api.token_for_reuse(used auth.refresh_tokens) returns text
language sql volatile set search_path = '' as $$
    select active.token
    from auth.refresh_tokens active
    where active.session_id = used.session_id
      and not active.revoked
      and (active.parent = used.token
        or used.updated_at + (select s.reuse_interval from auth_api.settings s) >= kijko.now())
    order by active.id desc
    limit 1
$$;
comment on function auth_api.token_for_reuse(auth.refresh_tokens) is 'The session''s active token, if a used one may still be exchanged for it.';

create or replace function auth_api.exchange(token auth.refresh_tokens, session auth.sessions) returns text
language plpgsql volatile set search_path = '' as $$
begin
    if token.revoked then
        return auth_api.token_for_reuse(token);
    end if;
    update auth.refresh_tokens set revoked = true, updated_at = kijko.now() where id = token.id;
    -- Keeps the chain short. A token this old that turns up again is unknown instead of used before; GoTrue's cleanup does the same.
    delete from auth.refresh_tokens where session_id = session.id and revoked and updated_at < kijko.now() - interval '1 day';
    return auth_api.issue_refresh_token(session, token.token);
end
$$;
comment on function auth_api.exchange(auth.refresh_tokens, auth.sessions) is 'The refresh token to hand out for this one, or null when this one was used before and must not be again.';

create or replace function auth_api.has_ended(session auth.sessions) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(session.not_after < kijko.now(), false)
        or coalesce(session.refreshed_at at time zone 'UTC', session.created_at) + make_interval(secs => s.inactivity_seconds) < kijko.now()
        or coalesce(session.created_at + make_interval(secs => s.timebox_seconds) < kijko.now(), false)
    from auth_api.settings s
$$;
comment on function auth_api.has_ended(auth.sessions) is 'Whether a session has ended by time.';

-- Two refreshes at one moment: the session's row lock puts them in a line, and the token is read after the lock, by a new snapshot, so the
-- later one sees that it was used.
create or replace function auth_api.refresh_session(presented text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    session auth.sessions;
    token auth.refresh_tokens;
    u auth.users;
    issued text;
begin
    select s.* into session
    from auth.sessions s
    where s.id = (select t.session_id from auth.refresh_tokens t where t.token = presented)
    for update;
    select t.* into token from auth.refresh_tokens t where t.token = presented and t.session_id = session.id;
    if token.id is null then
        return auth_api.refusal(400, 'refresh_token_not_found', 'Invalid Refresh Token: Refresh Token Not Found');
    end if;
    select * into u from auth.users where id = session.user_id;
    if auth_api.is_banned(u) then
        return auth_api.refusal(400, 'user_banned', 'Invalid Refresh Token: User Banned');
    elsif auth_api.has_ended(session) then
        return auth_api.refusal(400, 'session_expired', 'Invalid Refresh Token: Session Expired');
    end if;
    issued := auth_api.exchange(token, session);
    if issued is null then
        -- A used token is presented again, by its owner or by a thief. The server cannot distinguish them. The domain notifies the user.
        perform set_config('kijko_notifications.session_end', 'token_reused', true);
        delete from auth.sessions where id = session.id;
        return auth_api.refusal(400, 'refresh_token_already_used', 'Invalid Refresh Token: Already Used');
    end if;
    update auth.sessions
    set refreshed_at = kijko.now() at time zone 'UTC', updated_at = kijko.now(),
        user_agent = auth_api.header('user-agent'), ip = kijko.client_address()
    where id = session.id;
    update auth.users set last_sign_in_at = kijko.now(), updated_at = kijko.now() where id = u.id returning * into u;
    return auth_api.token_response(u, session, issued);
end
$$;
comment on function auth_api.refresh_session(text) is 'Exchanges a refresh token; one used before, out of turn, ends its session.';

-- Who is calling -----------------------------------------------------------------------------------------------------------------

-- PostgREST never sees the Authorization header of these requests: Caddy moves it aside, because this API has to answer a bad token with
-- GoTrue's codes. kijko.verify_jwt knows only our own keys and is null for anything forged, expired or malformed.
create or replace function auth_api.caller_claims() returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    bearer text := substring(auth_api.header('x-kijko-authorization') from '(?i)^bearer\s+(\S+)$');
    claims jsonb;
    fault text;
begin
    if bearer is null then
        perform auth_api.reject(401, 'no_authorization', 'This endpoint requires a valid Bearer token');
    end if;
    claims := kijko.verify_jwt(bearer);
    if claims is null then
        perform auth_api.reject(403, 'bad_jwt', 'invalid JWT: unable to parse or verify signature');
    end if;
    -- The same keys sign other tokens, too.
    fault := kijko.access_token_fault(claims);
    if fault is not null then
        perform auth_api.reject(403, 'bad_jwt', format('invalid claim: missing %s claim', fault));
    end if;
    return claims;
end
$$;
comment on function auth_api.caller_claims() is 'The verified claims of the request''s bearer token; no token, a bad one and one that is no access token are refused.';

create or replace function auth_api.require_admin() returns void
language plpgsql volatile set search_path = '' as $$
begin
    if auth_api.caller_claims() ->> 'role' is distinct from 'service_role' then
        perform auth_api.reject(403, 'not_admin', 'User not allowed');
    end if;
end
$$;
comment on function auth_api.require_admin() is 'Refuses everybody but the holder of the service key.';

create or replace function auth_api.caller(out u auth.users, out session auth.sessions)
language plpgsql volatile set search_path = '' as $$
declare
    claims jsonb := auth_api.caller_claims();
begin
    if not auth_api.is_uuid(coalesce(claims ->> 'sub', '')) then -- the anon and service keys have no sub
        perform auth_api.reject(403, 'bad_jwt', 'invalid claim: missing sub claim');
    elsif not auth_api.is_uuid(coalesce(claims ->> 'session_id', '')) then
        perform auth_api.reject(403, 'bad_jwt', 'invalid claim: session_id claim must be a UUID');
    end if;
    select * into u from auth.users where id = (claims ->> 'sub')::uuid;
    if u.id is null then
        perform auth_api.reject(403, 'user_not_found', 'User from sub claim in JWT does not exist');
    end if;
    select * into session from auth.sessions s where s.id = (claims ->> 'session_id')::uuid and s.user_id = u.id;
    if session.id is null then
        perform auth_api.reject(403, 'session_not_found', 'Session from session_id claim in JWT does not exist');
    elsif auth_api.is_banned(u) then
        perform auth_api.reject(403, 'user_banned', 'User is banned');
    end if;
    -- A token from before the second factor must not gain what its session has by now: it may be a stolen one.
    if coalesce(claims ->> 'aal', 'aal1') = 'aal1' then
        session.aal := 'aal1';
    end if;
end
$$;
comment on function auth_api.caller() is 'The signed-in user who is calling and their session, with the lower aal of token and session; everybody else is refused.';

-- Of a session that auth_api.caller() returns: its aal is the lower one of token and session.
create or replace function auth_api.has_aal2(session auth.sessions) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(session.aal >= 'aal2', false)
$$;
comment on function auth_api.has_aal2(auth.sessions) is 'Whether a caller has shown a second factor.';

reset role;
