-- The login API on a plain Postgres: what a provider's answer leads to, by redirect and by identity token, and the one function by which the
-- sidecar asks. Sessions are made by auth_api.open_session, as everywhere.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Identity tokens ------------------------------------------------------------------------------------------------------------------

-- The sidecar fetched the keys from the issuer that it is configured with; whether the token is theirs is decided here. Its authorized party
-- is one of our clients, too, where the token names several audiences.
create or replace function auth_api.id_token_claims(input jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    clients constant text[] := array(select jsonb_array_elements_text(input -> 'client_ids'));
    claims jsonb := kijko.verify_jwt(input ->> 'id_token', input -> 'jwks', input ->> 'issuer', clients, interval '30 seconds');
begin
    if claims ->> 'azp' is not null and claims ->> 'azp' <> all (clients) then
        return null;
    elsif jsonb_typeof(claims -> 'aud') = 'array' and jsonb_array_length(claims -> 'aud') > 1 and claims ->> 'azp' is null then
        return null;
    end if;
    return claims;
end
$$;
comment on function auth_api.id_token_claims(jsonb) is 'The claims of an identity token that its issuer signed for us; null for any other.';

-- What a provider puts into its token and what it answers at userinfo are of one subject, or the second is left out.
create or replace function auth_api.callback_claims(input jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    claims jsonb;
begin
    if not input ? 'id_token' then
        return input -> 'profile';
    end if;
    claims := auth_api.id_token_claims(input);
    if claims is null or claims ->> 'nonce' is distinct from input ->> 'nonce' then
        perform auth_api.reject(500, 'unexpected_failure', 'The identity token of the provider is not valid');
    end if;
    if input #>> '{userinfo,sub}' = claims ->> 'sub' then
        return (input -> 'userinfo') || claims;
    end if;
    return claims;
end
$$;
comment on function auth_api.callback_claims(jsonb) is 'What the provider says of who has signed in.';

-- The callback ---------------------------------------------------------------------------------------------------------------------

-- For a client with PKCE a code that is worth nothing without its verifier, else the session in the fragment.
create or replace function auth_api.redirect_external(flow auth_api.oauth_flows, u auth.users, tokens jsonb, flow_state_id uuid) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    session jsonb;
begin
    if flow_state_id is not null then
        return auth_api.redirect_found(flow.redirect_to, query => jsonb_build_object('code', auth_api.flow_code(flow_state_id)));
    end if;
    session := auth_api.open_session(u, 'oauth')::jsonb;
    return auth_api.redirect_found(flow.redirect_to, jsonb_strip_nulls(jsonb_build_object(
        'access_token', session ->> 'access_token', 'expires_at', session ->> 'expires_at', 'expires_in', session ->> 'expires_in',
        'refresh_token', session ->> 'refresh_token', 'token_type', 'bearer', 'sb', '',
        'provider_token', tokens ->> 'access_token', 'provider_refresh_token', tokens ->> 'refresh_token')));
end
$$;
comment on function auth_api.redirect_external(auth_api.oauth_flows, auth.users, jsonb, uuid) is 'Ends a callback: with a code, or with a session.';

create or replace function auth_api.redirect_refusal(flow auth_api.oauth_flows, status integer, code text, message text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform auth_api.redirect_error(flow.redirect_to, status, code, message, pkce => true);
    perform set_config('response.status', '302', true);
    return null;
end
$$;
comment on function auth_api.redirect_refusal(auth_api.oauth_flows, integer, text, text) is 'Ends a callback: with a refusal, in query and fragment.';

create or replace function auth_api.begin_external_flow(flow auth_api.oauth_flows, user_id uuid) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    id constant uuid := gen_random_uuid();
begin
    if flow.code_challenge is null then
        return null;
    end if;
    insert into auth.flow_state (id, user_id, code_challenge_method, code_challenge, provider_type, created_at, updated_at, authentication_method, linking_target_id)
    values (id, user_id, flow.code_challenge_method, flow.code_challenge, flow.provider, kijko.now(), kijko.now(), 'oauth',
        case when flow.linking_session_id is not null then user_id end);
    return id;
end
$$;
comment on function auth_api.begin_external_flow(auth_api.oauth_flows, uuid) is 'Keeps the challenge of a client with PKCE for the exchange of its code; null for one without.';

create or replace function auth_api.complete_oauth(flow auth_api.oauth_flows, input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    profile constant jsonb := auth_api.external_profile(auth_api.callback_claims(input));
    tokens constant jsonb := input -> 'tokens';
    flow_state_id uuid;
    signed record;
    u auth.users;
begin
    if flow.linking_session_id is not null then
        select users.* into u from auth.users users join auth.sessions s on s.user_id = users.id where s.id = flow.linking_session_id;
        perform auth_api.check_linkable(u, auth_api.external_identity(flow.provider, profile ->> 'sub'));
        flow_state_id := auth_api.begin_external_flow(flow, u.id);
        insert into auth_api.pending_links (flow_state_id, session_id, profile) values (flow_state_id, flow.linking_session_id, profile);
        perform auth_api.keep_provider_tokens(flow.provider, tokens, null, flow_state_id);
        return auth_api.redirect_external(flow, u, tokens, flow_state_id);
    end if;
    select * into signed from auth_api.sign_in_external(flow.provider, profile, (input -> 'verifying')::boolean);
    if auth_api.must_confirm(signed.u) then
        perform auth_api.ask_to_confirm(signed.u,
            jsonb_build_object('code_challenge', flow.code_challenge, 'code_challenge_method', flow.code_challenge_method), flow.redirect_to);
        return auth_api.redirect_refusal(flow, 403, 'provider_email_needs_verification', auth_api.unconfirmed_message(flow.provider));
    end if;
    flow_state_id := auth_api.begin_external_flow(flow, (signed.u).id);
    perform auth_api.keep_provider_tokens(flow.provider, tokens, (signed.identity).id, flow_state_id);
    return auth_api.redirect_external(flow, signed.u, tokens, flow_state_id);
end
$$;
comment on function auth_api.complete_oauth(auth_api.oauth_flows, jsonb) is 'Signs in, or prepares a link, by what the provider says.';

-- A refusal undoes what the sign-in wrote and is said in the redirect; that the flow has ended stays.
create or replace function auth_api.finish_oauth(input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    flow constant auth_api.oauth_flows := auth_api.end_oauth_flow((input ->> 'flow')::uuid);
    message text;
    detail jsonb;
begin
    return auth_api.complete_oauth(flow, input);
exception when sqlstate 'KJA01' then
    get stacked diagnostics message = message_text, detail = pg_exception_detail;
    perform auth_api.audit_rejection(detail);
    return auth_api.redirect_refusal(flow, (detail ->> 'status')::integer, detail ->> 'code', message);
end
$$;
comment on function auth_api.finish_oauth(jsonb) is 'GET /callback: ends a flow by the provider''s answer.';

-- The exchange ---------------------------------------------------------------------------------------------------------------------

-- auth_api.pkce_grant has locked the flow and checked the verifier. Here an identity is linked: only the client that began holds the verifier.
create or replace function auth_api.external_grant(flow auth.flow_state) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    token auth_api.provider_tokens;
    link auth_api.pending_links;
    linked record;
    u auth.users;
begin
    -- The user is locked before the token, as in a sign-in by the same identity: the end of the flow locks the token.
    u := auth_api.lock_user(flow.user_id);
    select t.* into token from auth_api.provider_tokens t where t.flow_state_id = flow.id;
    select l.* into link from auth_api.pending_links l where l.flow_state_id = flow.id;
    if flow.linking_target_id is not null then
        if link.session_id is null then
            perform auth_api.reject(403, 'session_not_found', 'Session that asked to link an identity does not exist');
        end if;
        select * into linked from auth_api.link_identity(flow.linking_target_id, flow.provider_type, link.profile);
        update auth_api.provider_tokens t set identity_id = (linked.identity).id where t.id = token.id;
    end if;
    delete from auth.flow_state f where f.id = flow.id;
    select * into u from auth.users where id = flow.user_id;
    if u.id is null then
        perform auth_api.reject(404, 'flow_state_not_found', 'invalid flow state, no valid flow state found');
    elsif auth_api.is_banned(u) then
        perform auth_api.reject_sign_in(403, 'user_banned', 'User is banned', u.id);
    end if;
    return auth_api.open_session(u, 'oauth')::jsonb || case when token.id is null then '{}' else auth_api.unsealed_tokens(token) end;
end
$$;
comment on function auth_api.external_grant(auth.flow_state) is 'Exchanges the code of an outside provider''s callback for a session, with the provider''s tokens.';

-- POST /token?grant_type=id_token --------------------------------------------------------------------------------------------------

create or replace function auth_api.oauth_refusal(error text, description text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.reject(400, 'bad_id_token', description, more => jsonb_build_object('error', error, 'error_description', description))
$$;
comment on function auth_api.oauth_refusal(text, text) is 'Refuses an identity token, with OAuth''s names beside ours.';

create or replace function auth_api.base64url(value bytea) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select rtrim(translate(encode(value, 'base64'), E'+/\n', '-_'), '=')
$$;
comment on function auth_api.base64url(bytea) is 'Base64 for URLs, without padding.';

-- OpenID Connect Core 3.1.3.6: the left half of the access token's hash, by the hash of the signature.
create or replace function auth_api.at_hash(id_token text, access_token text) returns text
language sql stable strict set search_path = pg_catalog, pg_temp as $$
    select auth_api.base64url(case
        when header.alg like '%384' then substr(sha384(token.bytes), 1, 24)
        when header.alg like '%512' or header.alg = 'EdDSA' then substr(sha512(token.bytes), 1, 32)
        else substr(sha256(token.bytes), 1, 16) end)
    from (select convert_to(access_token, 'UTF8')) as token (bytes),
        (select convert_from(decode(rpad(translate(split_part(id_token, '.', 1), '-_', '+/'),
            ((length(split_part(id_token, '.', 1)) + 3) / 4) * 4, '='), 'base64'), 'UTF8')::jsonb ->> 'alg') as header (alg)
$$;
comment on function auth_api.at_hash(text, text) is 'The claim at_hash that binds an access token to a verified identity token.';

create or replace function auth_api.check_id_token(claims jsonb, body jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    nonce constant text := coalesce(body ->> 'nonce', '');
    access_token constant text := coalesce(body ->> 'access_token', '');
begin
    if claims is null then
        perform auth_api.oauth_refusal('invalid request', 'Bad ID token');
    elsif (nonce = '') <> (coalesce(claims ->> 'nonce', '') = '') then
        perform auth_api.oauth_refusal('invalid request', 'Passed nonce and nonce in id_token should either both exist or not.');
    elsif nonce <> '' and claims ->> 'nonce' <> encode(auth_api.sha256_of(nonce), 'hex') then
        perform auth_api.oauth_refusal('invalid nonce', 'Nonces mismatch');
    elsif access_token <> '' and claims ->> 'at_hash' is not null and claims ->> 'at_hash' <> auth_api.at_hash(body ->> 'id_token', access_token) then
        perform auth_api.oauth_refusal('invalid request', 'Bad ID token');
    end if;
end
$$;
comment on function auth_api.check_id_token(jsonb, jsonb) is 'Refuses an identity token that is not its issuer''s or not of this request.';

create or replace function auth_api.id_token_grant(input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body constant jsonb := auth_api.parse_body(input ->> 'body', '{"provider": "string", "id_token": "string", "access_token": "string", "nonce": "string",
        "link_identity": "boolean"}');
    claims jsonb;
    profile jsonb;
    signed record;
    caller record;
begin
    perform auth_api.charge_address('verify');
    claims := auth_api.id_token_claims(input || jsonb_build_object('id_token', body ->> 'id_token'));
    perform auth_api.check_id_token(claims, body);
    profile := auth_api.external_profile(claims);
    if body -> 'link_identity' = 'true' then
        select * into caller from auth_api.caller();
        perform auth_api.require_second_factor(caller.u, caller.session);
        select * into signed from auth_api.link_identity((caller.u).id, input ->> 'provider', profile);
    else
        select * into signed from auth_api.sign_in_external(input ->> 'provider', profile, (input -> 'verifying')::boolean);
        if auth_api.must_confirm(signed.u) then
            perform auth_api.ask_to_confirm(signed.u, '{}', auth_api.redirect_target('{}'));
            return auth_api.refusal(403, 'provider_email_needs_verification', auth_api.unconfirmed_message(input ->> 'provider'));
        end if;
    end if;
    return auth_api.open_session(signed.u, 'oauth');
end
$$;
comment on function auth_api.id_token_grant(jsonb) is 'POST /token?grant_type=id_token: signs in, or links an identity, by an identity token that a client got from the provider itself.';

-- The sidecar ----------------------------------------------------------------------------------------------------------------------

create or replace function auth_api.dispatch_external(step text, input jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    case step
        when 'authorize' then return auth_api.begin_oauth(input);
        when 'authorize_link' then return auth_api.begin_oauth_link(input);
        when 'ticket' then return auth_api.take_oauth_ticket(input);
        when 'callback' then return auth_api.take_oauth_state(input);
        when 'finish' then return auth_api.finish_oauth(input);
        when 'fail' then return auth_api.fail_oauth(input);
        when 'id_token' then return auth_api.id_token_grant(input);
        when 'refuse' then return auth_api.refusal((input ->> 'status')::integer, input ->> 'code', input ->> 'message');
    end case;
end
$$;
comment on function auth_api.dispatch_external(text, jsonb) is 'Calls the step of a request that the sidecar answers.';

-- As auth_api.answer, for requests that reach the sidecar: the same settings, limits and shapes of refusals.
create or replace function auth_api.answer_external(step text, headers jsonb, input jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    body json;
    detail jsonb;
    message text;
begin
    perform set_config('request.headers', headers::text, true), set_config('response.headers', '', true), set_config('response.status', '', true);
    perform kijko.add_header('Cache-Control', 'no-store'), kijko.add_header('Content-Type', 'application/json; charset=utf-8');
    if auth_api.knows_error_codes() then
        perform kijko.add_header('X-Supabase-Api-Version', '2024-01-01');
    end if;
    begin
        body := auth_api.dispatch_external(step, input);
    exception when sqlstate 'KJA01' then
        get stacked diagnostics message = message_text, detail = pg_exception_detail;
        perform auth_api.audit_rejection(detail);
        body := auth_api.refusal((detail ->> 'status')::integer, detail ->> 'code', message, detail -> 'more', detail -> 'headers');
    end;
    return jsonb_build_object(
        'status', coalesce(nullif(current_setting('response.status', true), ''), '200')::integer,
        'headers', coalesce(nullif(current_setting('response.headers', true), '')::jsonb, '[]'),
        'body', body);
end
$$;
comment on function auth_api.answer_external(text, jsonb, jsonb) is 'Answers one step of a request about outside providers. Definer, because the sidecar may touch nothing itself.';

reset role;

grant usage on schema auth_api to kijko_sidecar;
grant execute on function
    auth_api.answer_external(text, jsonb, jsonb),
    auth_api.register_oauth_providers(text[], text[]),
    auth_api.claim_revocations(),
    auth_api.end_revocation(uuid)
to kijko_sidecar;
