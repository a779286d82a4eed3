-- The login API on a plain Postgres: PKCE. A client keeps a verifier and sends its hash; whoever opens the link gets a code that is worth a
-- session to that client alone.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Nulls are what a client without PKCE sends. Before the user is looked up, so that a refusal says nothing about them.
create or replace function auth_api.check_challenge(body jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    challenge text := coalesce(body ->> 'code_challenge', '');
    method text := lower(coalesce(body ->> 'code_challenge_method', ''));
begin
    if (challenge = '') <> (method = '') then
        perform auth_api.reject(400, 'validation_failed', 'PKCE flow requires code_challenge_method and code_challenge');
    elsif challenge <> '' and challenge !~ '^[A-Za-z0-9._~-]{43,128}$' then
        perform auth_api.reject(400, 'validation_failed', 'code challenge has to be between 43 and 128 characters of A-Z, a-z, 0-9, -, ., _ and ~');
    elsif method not in ('', 's256', 'plain') then
        perform auth_api.reject(400, 'validation_failed', 'unsupported code_challenge_method');
    end if;
end
$$;
comment on function auth_api.check_challenge(jsonb) is 'Refuses a PKCE challenge that is malformed or only half there.';

-- A link lives longer than the five minutes of a flow in GoTrue: here the minutes count from the click.
create or replace function auth_api.begin_flow(u auth.users, body jsonb, method text) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    flow uuid := gen_random_uuid();
begin
    if coalesce(body ->> 'code_challenge', '') = '' then
        return null;
    end if;
    delete from auth.flow_state f where f.created_at < kijko.now() - interval '2 days';
    insert into auth.flow_state (id, user_id, code_challenge_method, code_challenge, provider_type, created_at, updated_at, authentication_method)
    values (flow, u.id, lower(body ->> 'code_challenge_method')::auth.code_challenge_method, body ->> 'code_challenge', 'email', kijko.now(), kijko.now(), method);
    return flow;
end
$$;
comment on function auth_api.begin_flow(auth.users, jsonb, text) is 'Keeps the challenge of a request with PKCE; null for one without.';

create or replace function auth_api.flow_code(flow uuid) returns text
language sql volatile set search_path = pg_catalog, pg_temp as $$
    update auth.flow_state f
    set auth_code = gen_random_uuid()::text, auth_code_issued_at = kijko.now(), updated_at = kijko.now()
    where f.id = flow
    returning f.auth_code
$$;
comment on function auth_api.flow_code(uuid) is 'The code for the redirect of a link that was opened; null when the flow is gone.';

create or replace function auth_api.challenge_matches(flow auth.flow_state, verifier text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case flow.code_challenge_method
        when 'plain' then flow.code_challenge = verifier
        else flow.code_challenge = rtrim(translate(encode(sha256(convert_to(verifier, 'UTF8')), 'base64'), '+/', '-_'), '=') end
$$;
comment on function auth_api.challenge_matches(auth.flow_state, text) is 'Whether a verifier belongs to the challenge of a flow.';

-- The row's lock puts two exchanges of one code in a line: the second finds nothing. A wrong verifier keeps the flow, as in GoTrue: the code
-- alone must not be enough to end somebody's sign-in.
create or replace function auth_api.pkce_grant(request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"auth_code": "string", "code_verifier": "string"}');
    verifier text := coalesce(body ->> 'code_verifier', '');
    flow auth.flow_state;
    u auth.users;
begin
    if coalesce(body ->> 'auth_code', '') = '' or verifier = '' then
        perform auth_api.reject(400, 'validation_failed', 'invalid request: both auth code and code verifier should be non-empty');
    end if;
    perform auth_api.charge_address('verify');
    select f.* into flow from auth.flow_state f where f.auth_code = body ->> 'auth_code' for update;
    if flow.id is null then
        perform auth_api.reject(404, 'flow_state_not_found', 'invalid flow state, no valid flow state found');
    elsif flow.auth_code_issued_at + interval '5 minutes' < kijko.now() then
        perform auth_api.reject(422, 'flow_state_expired', 'invalid flow state, flow state has expired');
    elsif not auth_api.challenge_matches(flow, verifier) then
        perform auth_api.reject(400, 'bad_code_verifier', 'code challenge does not match previously saved code verifier');
    elsif flow.provider_type <> 'email' then
        return auth_api.external_grant(flow);
    end if;
    delete from auth.flow_state f where f.id = flow.id;
    select * into u from auth.users where id = flow.user_id;
    if u.id is null then
        perform auth_api.reject(404, 'flow_state_not_found', 'invalid flow state, no valid flow state found');
    elsif auth_api.is_banned(u) then
        perform auth_api.reject_sign_in(403, 'user_banned', 'User is banned', u.id);
    end if;
    return auth_api.open_session(u, flow.authentication_method);
end
$$;
comment on function auth_api.pkce_grant(text) is 'POST /token?grant_type=pkce: exchanges the code of a redirect for a session.';

reset role;
