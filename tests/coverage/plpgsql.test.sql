-- The share of statements in the product's plpgsql functions that the database tests have run, by plpgsql_check's profiler. It needs
-- the library preloaded and the tests run before with plpgsql_check.profiler = on: scripts/named_areas.sh does both. The floor is for the
-- domain. Journeys run the functions of login, realtime and storage.
begin;
\set ON_ERROR_STOP on
\set QUIET on
set client_min_messages = warning;
create extension if not exists pgtap with schema extensions;
create extension if not exists plpgsql_check with schema extensions;
set local search_path = public, extensions;

create temporary table covered as
select n.nspname as schema, p.oid::regprocedure::text as name, count(*) as statements, count(*) filter (where s.exec_stmts > 0) as executed
from pg_proc as p
join pg_namespace as n on n.oid = p.pronamespace
join pg_language as l on l.oid = p.prolang
cross join lateral plpgsql_profiler_function_statements_tb(p.oid) as s
where n.nspname in ('public', 'private', 'auth_api', 'auth', 'realtime', 'realtime_service', 'storage', 'storage_service') and l.lanname = 'plpgsql'
group by n.nspname, p.oid;

select plan(2);
select diag(format('%s: %s %% of %s statements in %s plpgsql functions, %s of them whole', schema, round(100.0 * sum(executed) / sum(statements), 1),
    sum(statements), count(*), count(*) filter (where executed = statements)))
from covered group by schema order by schema;
select diag(format('not run: %s, %s statements', name, statements)) from covered where executed = 0 and schema in ('public', 'private') order by statements desc, name limit 20;
select cmp_ok((select count(*) from covered), '>', 400::bigint, 'there are functions to measure');
select cmp_ok(
  (select round(100.0 * sum(executed) / sum(statements), 1) from covered where schema in ('public', 'private')),
  '>=', 80.0, 'the database tests run at least 80 % of the statements of the domain''s plpgsql functions');
select * from finish();
rollback;
