-- The login API on a plain Postgres: users without an address. The domain gives them no organization of their own; with an address they become
-- permanent and keep their id.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.signup_anonymous(body jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users;
begin
    if not (select s.anonymous_users from auth_api.settings s) then
        perform auth_api.reject(422, 'anonymous_provider_disabled', 'Anonymous sign-ins are disabled');
    end if;
    perform auth_api.charge_address('anonymous');
    insert into auth.users as users (instance_id, id, aud, role, confirmation_token, recovery_token, email_change_token_new, email_change,
        raw_app_meta_data, raw_user_meta_data, created_at, updated_at, is_anonymous)
    values ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated', 'authenticated', '', '', '', '',
        '{}', coalesce(nullif(body -> 'data', 'null'), '{}'), kijko.now(), kijko.now(), true)
    returning * into u;
    return auth_api.open_session(u, 'anonymous');
end
$$;
comment on function auth_api.signup_anonymous(jsonb) is 'POST /signup without an address: makes an anonymous user and signs them in.';

reset role;
