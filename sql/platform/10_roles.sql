-- Roles of a plain cluster, made like Supabase's. Run once by the bootstrap superuser (supabase_admin); safe to run again.
-- Not applied on self-hosted Supabase, which brings these roles itself.
-- Passwords come from the environment, so that none is ever in a file, an argument list or a log.
\set ON_ERROR_STOP on
\ir owner.psql
\getenv postgres_password KIJKO_POSTGRES_PASSWORD
\getenv authenticator_password KIJKO_AUTHENTICATOR_PASSWORD

set client_min_messages = warning;

-- It must not be a superuser, and the statements below would make it none: under CloudNativePG the operator's superuser has this name.
select exists (select from pg_catalog.pg_roles where rolname = :'owner' and rolsuper) as owner_is_superuser
\gset
\if :owner_is_superuser
do 'begin raise exception ''the owner of the domain is a superuser'' using hint = ''Set KIJKO_DB_OWNER to another name.''; end';
\endif

-- `postgres` owns the domain. It is no superuser: whatever it can be tricked into stays inside its own tables. Up to
-- PostgreSQL 15 it may not make roles either: CREATEROLE would let it grant itself pg_execute_server_program, and run
-- programs as the server's user. Since 16 that right reaches only roles made with it, and migrations may use it.
select format('create role %I %s', name, options)
from (values
    (:'owner',              'login createdb bypassrls nosuperuser'
      || case when current_setting('server_version_num')::int < 160000 then ' nocreaterole' else ' createrole' end),
    ('anon',                'nologin noinherit'),
    ('authenticated',       'nologin noinherit'),
    ('service_role',        'nologin noinherit bypassrls'),
    ('authenticator',       'login noinherit'),
    ('supabase_auth_admin', 'nologin noinherit')
) as wanted (name, options)
where not exists (select from pg_catalog.pg_roles where rolname = wanted.name)
\gexec

select format('alter role %I nocreaterole', :'owner') where current_setting('server_version_num')::int < 160000
\gexec
-- Another program may have made it.
alter role :"owner" login createdb bypassrls;
alter role :"owner" password :'postgres_password';
alter role authenticator password :'authenticator_password';

grant anon, authenticated, service_role to authenticator;
-- With admin option, as on Supabase: a migration may grant these to roles it makes.
grant anon, authenticated, service_role to :"owner" with admin option;

-- The switched role's timeout does not replace the login role's by itself; PostgREST re-applies it for each request.
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
-- Until a request is admitted; then its plan's time holds.
alter role authenticated set statement_timeout = '3s';
alter role anon set statement_timeout = '3s';

-- Not the database's owner: settings of a database, search_path among them, also hold in the superuser's sessions and workers.
alter database :"DBNAME" owner to supabase_admin;
alter schema public owner to :"owner";
revoke create on schema public from public;
grant usage on schema public to anon, authenticated, service_role;
-- Without this any role could connect and read the catalog's public parts; each login role is granted below or where it is made.
revoke all on database :"DBNAME" from public;
grant connect on database :"DBNAME" to authenticator;
grant connect, create on database :"DBNAME" to :"owner";

create schema if not exists extensions authorization supabase_admin;
grant usage on schema extensions to :"owner", anon, authenticated, service_role, supabase_auth_admin;
create extension if not exists pgcrypto with schema extensions;

-- Supabase's default privileges. The foundation migration takes those of postgres back.
alter default privileges for role :"owner" in schema public grant all on tables to :"owner", anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public grant all on functions to :"owner", anon, authenticated, service_role;
alter default privileges for role :"owner" in schema public grant all on sequences to :"owner", anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public grant all on tables to :"owner", anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public grant all on functions to :"owner", anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public grant all on sequences to :"owner", anon, authenticated, service_role;
