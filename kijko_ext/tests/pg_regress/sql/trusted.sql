-- A role that may create objects in the database may install it. Its objects and its schema belong to the superuser all the
-- same, because functions that run as the superuser call functions in the schema by name.
\set VERBOSITY terse
select current_database() as database \gset
set client_min_messages to warning;
drop extension kijko;
drop schema kijko;
create role installer;
grant create on database :"database" to installer;
set role installer;
create extension kijko;
select extowner::regrole from pg_extension where extname = 'kijko';
select distinct proowner = 10 as superusers from pg_proc where pronamespace = 'kijko'::regnamespace;
select nspowner = 10 as superusers from pg_namespace where nspname = 'kijko';
create function kijko.fail(text, text) returns void language sql as '';
select kijko.try_consume(gen_random_uuid(), 'x');
drop extension kijko;
-- The schema remains, as with every extension, and its former owner has no rights on it.
create function kijko.fail(text, text) returns void language sql as '';
reset role;
-- A schema that is not empty is refused.
create function kijko.fail(text, text) returns void language sql as '';
create extension kijko;
drop schema kijko cascade;
revoke create on database :"database" from installer;
drop role installer;
create extension kijko;
-- Only the configuration file lists trusted proxies, as networks.
\set VERBOSITY default
set kijko.trusted_proxies = '0.0.0.0/0';
alter system set kijko.trusted_proxies = '10.0.0.0/8, 10.0.0.0/33';
show kijko.trusted_proxies;
