-- The login API on a plain Postgres: the one function that the login PostgREST may call, and the rights on all of it.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- A path's ids as {id}, and the ids themselves.
create or replace function auth_api.route(method text, path text, out route text, out ids text[])
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select method || ' ' || coalesce(
            case when m.parts[2] is not null then '/admin/users/{id}/factors' || case when m.parts[3] <> '' then '/{id}' else '' end end,
            case when m.parts[1] is not null then '/admin/users/{id}' end,
            case when f.parts is not null then '/factors/{id}' || f.parts[2] end,
            case when i.parts is not null then '/user/identities/{id}' end,
            path),
        array_remove(array[coalesce(m.parts[1], f.parts[1], i.parts[1]), nullif(m.parts[3], '')], null)
    from (select regexp_match(path, '^/admin/users/([^/]+)(?:(/factors)(?:/([^/]+))?)?$')) as m (parts),
        (select regexp_match(path, '^/factors/(?!recovery-codes)([^/]+)(|/challenge|/verify)$')) as f (parts),
        (select regexp_match(path, '^/user/identities/(?!authorize$)([^/]+)$')) as i (parts)
$$;
comment on function auth_api.route(text, text) is 'The route of a request, and the ids in its path.';

-- With GoTrue's code where it has one for a feature that is switched off: here these features do not exist.
create or replace function auth_api.nothing_there(route text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    path constant text := split_part(route, ' ', 2);
begin
    if route = 'GET /authorize' then
        return auth_api.refusal(400, 'validation_failed', 'Unsupported provider: provider is not enabled');
    elsif path ~ '^(/admin/users/[^/]+)?/passkeys(/|$)' then
        return auth_api.refusal(404, 'passkey_disabled', 'Passkeys are disabled');
    elsif path ~ '^/sso(/|$)' then
        return auth_api.refusal(404, 'saml_provider_disabled', 'SAML 2.0 is disabled');
    elsif path ~ '^/user/identities/' then
        return auth_api.refusal(404, 'manual_linking_disabled', 'Manual linking is disabled');
    elsif path ~ '^(/user|/admin)?/oauth(/|$)' or path ~ '^/admin/custom-providers(/|$)' then
        return auth_api.refusal(404, 'feature_disabled', 'This feature is disabled');
    end if;
    return auth_api.refusal(404, 'not_found', format('there is nothing at %s', route));
end
$$;
comment on function auth_api.nothing_there(text) is 'Refuses a route that does not exist.';

create or replace function auth_api.dispatch_admin(route text, ids text[], query jsonb, body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform auth_api.require_admin();
    case route
        when 'GET /admin/users' then return auth_api.admin_list(query);
        when 'POST /admin/users' then return auth_api.admin_create(body);
        when 'POST /admin/generate_link' then return auth_api.generate_link(query, body);
        when 'POST /invite' then return auth_api.invite(query, body);
        when 'GET /admin/users/{id}' then return auth_api.user_json(auth_api.admin_find(ids[1]));
        when 'PUT /admin/users/{id}' then return auth_api.admin_update(ids[1], body);
        when 'DELETE /admin/users/{id}' then return auth_api.admin_delete(ids[1], body);
        when 'GET /admin/users/{id}/factors' then return auth_api.admin_factors(ids[1]);
        when 'DELETE /admin/users/{id}/factors/{id}' then return auth_api.admin_delete_factor(ids[1], ids[2]);
        else return auth_api.nothing_there(route);
    end case;
end
$$;
comment on function auth_api.dispatch_admin(text, text[], jsonb, text) is 'Calls the admin endpoint of a route.';

create or replace function auth_api.dispatch_factors(route text, ids text[], body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    case route
        when 'POST /factors' then return auth_api.enroll(body);
        when 'POST /factors/{id}/challenge' then return auth_api.challenge(ids[1]);
        when 'POST /factors/{id}/verify' then return auth_api.verify_factor(ids[1], body);
        when 'DELETE /factors/{id}' then return auth_api.unenroll(ids[1]);
        when 'GET /factors/recovery-codes' then return auth_api.get_recovery_codes();
        when 'POST /factors/recovery-codes' then return auth_api.create_recovery_codes(body);
        when 'DELETE /factors/recovery-codes' then return auth_api.delete_recovery_codes();
        when 'POST /factors/recovery-codes/verify' then return auth_api.verify_recovery_code(body);
        when 'POST /factors/recovery-codes/regenerate' then return auth_api.regenerate_recovery_codes();
        else return auth_api.nothing_there(route);
    end case;
end
$$;
comment on function auth_api.dispatch_factors(text, text[], text) is 'Calls the endpoint of second factors of a route.';

create or replace function auth_api.dispatch(method text, path text, query jsonb, body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    request record;
begin
    select * into request from auth_api.route(method, path);
    if path ~ '^/admin(/|$)' or path = '/invite' then
        return auth_api.dispatch_admin(request.route, request.ids, query, body);
    elsif path ~ '^/factors(/|$)' then
        return auth_api.dispatch_factors(request.route, request.ids, body);
    end if;
    case request.route
        when 'POST /signup' then return auth_api.signup(query, body);
        when 'POST /token' then return auth_api.token(query, body);
        when 'GET /user' then return auth_api.get_user();
        when 'PUT /user' then return auth_api.put_user(query, body);
        when 'DELETE /user/identities/{id}' then return auth_api.unlink_identity(request.ids[1]);
        when 'POST /logout' then return auth_api.logout(query);
        when 'GET /reauthenticate' then return auth_api.reauthenticate();
        when 'POST /recover' then return auth_api.recover(query, body);
        when 'POST /resend' then return auth_api.resend(query, body);
        when 'POST /otp' then return auth_api.otp(query, body);
        when 'POST /magiclink' then return auth_api.otp(query, body);
        when 'GET /verify' then return auth_api.verify_link(query);
        when 'POST /verify' then return auth_api.verify(query, body);
        when 'GET /unlock' then return auth_api.unlock(query);
        when 'POST /unlock' then return auth_api.unlock(query);
        when 'GET /settings' then return auth_api.get_settings();
        when 'GET /health' then return auth_api.health();
        when 'GET /.well-known/jwks.json' then return auth_api.get_jwks();
        else return auth_api.nothing_there(request.route);
    end case;
end
$$;
comment on function auth_api.dispatch(text, text, jsonb, text) is 'Calls the endpoint of a route.';

-- Only X-Kijko-* headers count, which Caddy takes from clients and sets itself; PostgREST binds to 127.0.0.1 behind it.
-- One subtransaction holds the endpoint's work, so that a refusal by auth_api.reject undoes it and still is an ordinary answer. Anything
-- unforeseen is logged with an id, and the client gets that id alone.
create or replace function auth_api.answer(method text, uri text, body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    detail jsonb;
    message text;
    context text;
    error_id uuid;
begin
    return auth_api.dispatch(method, '/' || btrim(split_part(uri, '?', 1), '/'), auth_api.query_parameters(uri), body);
exception
    when sqlstate 'KJA01' then
        get stacked diagnostics message = message_text, detail = pg_exception_detail;
        perform auth_api.audit_rejection(detail);
        return auth_api.refusal((detail ->> 'status')::integer, detail ->> 'code', message, detail -> 'more', detail -> 'headers');
    when character_not_in_repertoire or untranslatable_character then -- percent encoding of what is no UTF-8
        return auth_api.refusal(400, 'validation_failed', 'The request is not UTF-8');
    when others then
        get stacked diagnostics message = message_text, context = pg_exception_context;
        error_id := gen_random_uuid();
        raise warning 'auth_api: error % at % %: % (%)', error_id, method, split_part(uri, '?', 1), message, sqlstate using detail = context;
        return auth_api.refusal(500, 'unexpected_failure', 'Unexpected failure, please check server logs for more information',
            more => jsonb_build_object('error_id', error_id));
end
$$;
comment on function auth_api.answer(text, text, text) is 'Calls the endpoint of a request and turns its refusals into answers.';

-- A program that looks at the links of a mail asks with HEAD, or with GET: neither uses a link up when the button is on.
create or replace function auth_api.handle(text) returns auth_api."*/*"
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    method text := coalesce(auth_api.header('x-kijko-method'), '');
    uri text := coalesce(auth_api.header('x-kijko-uri'), '/');
    path text := '/' || btrim(split_part(uri, '?', 1), '/');
begin
    perform kijko.add_header('Cache-Control', 'no-store');
    perform kijko.add_header('Content-Type', 'application/json; charset=utf-8');
    if auth_api.knows_error_codes() then
        perform kijko.add_header('X-Supabase-Api-Version', '2024-01-01');
    end if;
    if path in ('/verify', '/unlock') and (method = 'HEAD' or (method = 'GET' and (select s.confirm_page from auth_api.settings s))) then
        return auth_api.confirm_page();
    end if;
    return auth_api.answer(method, uri, $1)::text;
end
$$;
comment on function auth_api.handle(text) is 'Answers one request of the login API: method, URI and Authorization from X-Kijko-* headers, the body as it came. Definer, because its caller may touch nothing itself.';

-- New functions are executable by everybody in Postgres; the schema is closed to them, this closes the functions too.
revoke execute on all functions in schema auth_api from public;
revoke all on all tables in schema auth_api from public;

reset role;

grant usage on schema auth_api to kijko_login_anon;
grant execute on function auth_api.handle(text) to kijko_login_anon;
