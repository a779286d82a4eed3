-- Whoever may create objects in the database may install it; what it brings still belongs to the superuser, and so does
-- its schema: the functions that run as superuser call by names in it.
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
-- The schema stays, as with every extension, and is closed to its former owner.
create function kijko.fail(text, text) returns void language sql as '';
reset role;
-- A schema with something in it is refused.
create function kijko.fail(text, text) returns void language sql as '';
create extension kijko;
drop schema kijko cascade;
revoke create on database :"database" from installer;
drop role installer;
create extension kijko;
-- Whose word about addresses is believed says the configuration file alone, in networks.
\set VERBOSITY default
set kijko.trusted_proxies = '0.0.0.0/0';
alter system set kijko.trusted_proxies = '10.0.0.0/8, 10.0.0.0/33';
show kijko.trusted_proxies;
