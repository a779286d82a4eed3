-- Schema lint: what every function must be like.
begin;
\ir schema_catalog.sql

create view pg_temp.offences as
  select 'function without comment' as rule, f.name as object from pg_temp.functions as f where obj_description(f.oid, 'pg_proc') is null
  union all
  select 'function executable by everybody', f.name
  from pg_temp.functions as f
  where f.proacl is null or exists (select 1 from aclexplode(f.proacl) as x where x.grantee = 0)
  union all
  select 'definer function whose names a search_path can capture', f.name
  from pg_temp.functions as f
  where f.prosecdef and f.prosqlbody is null and not pg_temp.has_fixed_path(f.proconfig)
  union all
  -- A procedure that commits may not have a "set" clause; it qualifies every name instead.
  select 'function whose names a search_path can capture', f.name
  from pg_temp.functions as f
  where f.prokind <> 'p' and f.prosqlbody is null and not pg_temp.has_fixed_path(f.proconfig)
  union all
  select 'definer function without its reason in the comment', f.name
  from pg_temp.functions as f
  where f.prosecdef and coalesce(obj_description(f.oid, 'pg_proc'), '') not like '%Definer:%'
  union all
  select 'definer function of a superuser', f.name
  from pg_temp.functions as f
  join pg_roles as r on r.oid = f.proowner
  where f.prosecdef and r.rolsuper
  union all
  -- errors
  select 'code of kijko.fail that is not in kijko.error_codes', f.name || ' ' || m.code[1]
  from pg_temp.functions as f
  cross join lateral regexp_matches(f.prosrc, 'kijko\.fail\(\s*''([^'']*)''', 'g') as m (code)
  where not exists (select 1 from kijko.error_codes as c where c.code = m.code[1])
  union all
  select 'raises an exception past kijko.fail', f.name
  from pg_temp.functions as f
  where f.prosrc ~* '\mraise\s+(exception|sqlstate|''|using)'
  union all
  -- Most collations turn letters beyond ASCII into others: a Kelvin sign into a k, and so an address into another person's.
  select 'lowers an address beyond ASCII', f.name
  from pg_temp.functions as f
  where f.prosrc ~* '\mlower\((?![^;\n]*\mcollate "C")[^;\n]*(email|address)'
  union all
  select 'renders a value to measure it: use private.json_fits()', f.name
  from pg_temp.functions as f
  where f.name <> all (pg_temp.measuring_text())
    and coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) ~ 'octet_length\([^;\n]*::text\)+ *[<>]'
  union all
  -- SQL is parsed when the function is made. On self-hosted Supabase these services make their tables when they first start.
  select 'SQL of a table that may not be there yet: use to_regclass() or plpgsql', f.name
  from pg_temp.functions as f
  join pg_language as l on l.oid = f.prolang
  where l.lanname = 'sql'
    and regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc), 'to_reg\w+\([^)]*\)', '', 'g') ~ '\m(realtime|storage)\.';

select plan(5);
select is_empty('select rule, object from pg_temp.offences order by 1, 2', 'no offences');

select is(
  (select count(*) from pg_temp.functions as f where f.prosrc ~ 'kijko\.fail\(\s*[^''\s]'), 0::bigint,
  'codes are literals, so that they can be looked up'
);

-- Whoever seals stores the text in a column that private.seal_column() knows, or a change of the key loses it. Tickets of
-- authorize_billing(), authorize_function(), blog_start_image(), llm_gateway_pass(), llm_reserve_call(), files_ticket() and privacy_ticket() last for minutes at most and are stored nowhere.
select is_empty(
  $$select p.oid::regprocedure from pg_proc as p
    where p.prosrc ~ '\mkijko\.seal\(' and p.proname <> all (array['authorize_billing', 'authorize_function', 'blog_start_image', 'connections_seal', 'llm_gateway_pass', 'llm_reserve_call', 'set_connection_application', 'set_llm_provider_key', 'files_ticket', 'privacy_ticket', 'set_secret', 'set_http_secret', 'mail_store', 'seal_seed', 'keep_provider_tokens', 'rotate_repository_secret', 'reflexes_store_secret', 'reflexes_verifier', 'reflexes_repository_secrets'])$$,
  'every function that seals is listed here, once its column is registered'
);
-- An empty search_path finds temporary types before those of Postgres.
select is_empty(
  $$select r.rolname from pg_roles as r
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'kijko_sidecar', 'kijko_indexer')
      and has_database_privilege(r.oid, current_database(), 'temporary')$$,
  'the roles of requests and of the sidecar cannot make temporary types'
);
-- ---- every rule finds its offender
\ir schema_offenders.sql
select is_empty(
  $$select rule from (values
      ('function without comment'),
      ('function executable by everybody'),
      ('definer function whose names a search_path can capture'),
      ('function whose names a search_path can capture'),
      ('definer function without its reason in the comment'),
      ('definer function of a superuser'),
      ('code of kijko.fail that is not in kijko.error_codes'),
      ('raises an exception past kijko.fail'),
      ('lowers an address beyond ASCII'),
      ('renders a value to measure it: use private.json_fits()'),
      ('SQL of a table that may not be there yet: use to_regclass() or plpgsql')
    ) as expected (rule)
    except select rule from pg_temp.offences$$,
  'each rule finds an offender'
);
select * from finish();
rollback;
