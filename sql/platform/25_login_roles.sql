-- Roles of the login PostgREST and what login needs from the extension. Plain clusters only: GoTrue does this on Supabase.
\set ON_ERROR_STOP on
\getenv login_password KIJKO_LOGIN_PASSWORD

set client_min_messages = warning;

select format('create role %I %s', name, options)
from (values
    ('kijko_login',      'login noinherit'),
    ('kijko_login_anon', 'nologin noinherit')
) as wanted (name, options)
where not exists (select from pg_catalog.pg_roles where rolname = wanted.name)
\gexec

alter role kijko_login password :'login_password';
alter role kijko_login set statement_timeout = '10s';
alter role kijko_login set jit = off; -- as in 20_extension.sql
-- Passwords are parameters of its statements, and must not get into the log, as in 20_extension.sql.
alter role kijko_login set log_parameter_max_length = 0;
alter role kijko_login set log_parameter_max_length_on_error = 0;
alter role kijko_login set auto_explain.log_verbose = off;
-- The login PostgREST can become this role and no other: no token, however made, reaches service_role through it.
grant kijko_login_anon to kijko_login;
select format('grant connect on database %I to kijko_login', current_database())
\gexec
grant usage on schema kijko to kijko_login, kijko_login_anon;

-- Signing belongs to the owner of the login functions alone.
grant execute on function
    kijko.sign_jwt(jsonb),
    kijko.verify_jwt(text),
    kijko.verify_jwt(text, jsonb, text, text[], interval),
    kijko.verify_jwt_reason(text, jsonb, text, text[], interval),
    kijko.access_token_fault(jsonb),
    kijko.jwks(),
    kijko.rate_limit(text, integer, interval, integer, integer)
to supabase_auth_admin;
-- Seeds of authenticator apps are sealed in the context of their rows.
grant execute on function kijko.seal(text, text), kijko.unseal(text, text), kijko.qr_svg(text) to supabase_auth_admin;
grant execute on function kijko.pre_config() to kijko_login;
