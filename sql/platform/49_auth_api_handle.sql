-- The login API on a plain Postgres: the one function that the login PostgREST may call, and the rights on all of it.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.dispatch_admin(route text, user_id text, query jsonb, body text) returns json
language plpgsql volatile set search_path = '' as $$
begin
    perform auth_api.require_admin();
    case route
        when 'GET /admin/users' then return auth_api.admin_list(query);
        when 'POST /admin/users' then return auth_api.admin_create(body);
        when 'GET /admin/users/{id}' then return auth_api.user_json(auth_api.admin_find(user_id));
        when 'PUT /admin/users/{id}' then return auth_api.admin_update(user_id, body);
        when 'DELETE /admin/users/{id}' then return auth_api.admin_delete(user_id, body);
        else return auth_api.refusal(404, 'not_found', format('there is nothing at %s', route));
    end case;
end
$$;
comment on function auth_api.dispatch_admin(text, text, jsonb, text) is 'Calls the admin endpoint of a route.';

create or replace function auth_api.dispatch(method text, path text, query jsonb, body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    user_id text := substring(path from '^/admin/users/([^/]+)$');
    route text := method || ' ' || case when user_id is null then path else '/admin/users/{id}' end;
begin
    if path ~ '^/admin(/|$)' then
        return auth_api.dispatch_admin(route, user_id, query, body);
    end if;
    case route
        when 'POST /signup' then return auth_api.signup(body);
        when 'POST /token' then return auth_api.token(query, body);
        when 'GET /user' then return auth_api.get_user();
        when 'PUT /user' then return auth_api.put_user(body);
        when 'POST /logout' then return auth_api.logout(query);
        when 'GET /settings' then return auth_api.get_settings();
        when 'GET /health' then return auth_api.health();
        when 'GET /.well-known/jwks.json' then return auth_api.get_jwks();
        else return auth_api.refusal(404, 'not_found', format('there is nothing at %s', route));
    end case;
end
$$;
comment on function auth_api.dispatch(text, text, jsonb, text) is 'Calls the endpoint of a route.';

-- Only X-Kijko-* headers count, which Caddy takes from clients and sets itself; PostgREST binds to 127.0.0.1 behind it.
-- One subtransaction holds the endpoint's work, so that a refusal by auth_api.reject undoes it and still is an ordinary answer. Anything
-- unforeseen is logged with an id, and the client gets that id alone.
create or replace function auth_api.handle(text) returns json
language plpgsql volatile security definer set search_path = '' as $$
declare
    uri text := coalesce(auth_api.header('x-kijko-uri'), '/');
    detail jsonb;
    message text;
    context text;
    error_id uuid;
begin
    perform kijko.add_header('Cache-Control', 'no-store');
    if auth_api.knows_error_codes() then
        perform kijko.add_header('X-Supabase-Api-Version', '2024-01-01');
    end if;
    begin
        return auth_api.dispatch(
            auth_api.header('x-kijko-method'),
            '/' || btrim(split_part(uri, '?', 1), '/'),
            auth_api.query_parameters(uri),
            $1);
    exception
        when sqlstate 'KJA01' then
            get stacked diagnostics message = message_text, detail = pg_exception_detail;
            return auth_api.refusal((detail ->> 'status')::integer, detail ->> 'code', message, detail -> 'more', detail -> 'headers');
        when character_not_in_repertoire or untranslatable_character then -- percent encoding of what is no UTF-8
            return auth_api.refusal(400, 'validation_failed', 'The request is not UTF-8');
        when others then
            get stacked diagnostics message = message_text, context = pg_exception_context;
            error_id := gen_random_uuid();
            raise warning 'auth_api: error % at % %: % (%)', error_id, auth_api.header('x-kijko-method'), split_part(uri, '?', 1), message, sqlstate
                using detail = context;
            return auth_api.refusal(500, 'unexpected_failure', 'Unexpected failure, please check server logs for more information',
                more => jsonb_build_object('error_id', error_id));
    end;
end
$$;
comment on function auth_api.handle(text) is 'Answers one request of the login API: method, URI and Authorization from X-Kijko-* headers, the body as it came. Definer, because its caller may touch nothing itself.';

-- New functions are executable by everybody in Postgres; the schema is closed to them, this closes the functions too.
revoke execute on all functions in schema auth_api from public;
revoke all on all tables in schema auth_api from public;

reset role;

grant usage on schema auth_api to kijko_login_anon;
grant execute on function auth_api.handle(text) to kijko_login_anon;
