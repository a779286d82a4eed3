-- Schema lint: what every function must be like.
begin;
\ir schema_catalog.sql

-- ---- what functions promise of themselves: an immutable one may be called when a query is planned, a stable one sees what its statement
-- sees. plpgsql_check asks this since 2.10 only, of plpgsql alone, and does not name what is called.

-- Names are qualified but for those of pg_catalog, and a parsed body is printed by that path. What stands in quotes is not called.
create function pg_temp.body_of(function oid) returns text language sql stable set search_path = pg_catalog as $$
  select regexp_replace(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), '--[^\n]*|''[^'']*''|\mpg_catalog\.', '', 'g') from pg_proc as p where p.oid = function
$$;
-- What a function calls that promises less than it. Of functions of one name the most volatile one counts.
create view pg_temp.lesser_calls as
  with promises as materialized (
    select case n.nspname when 'pg_catalog' then '' else n.nspname || '.' end || p.proname as name, max(p.provolatile::text) as level
    from pg_proc as p
    join pg_namespace as n on n.oid = p.pronamespace
    group by 1
  )
  select distinct f.oid, f.name, f.provolatile::text as level, p.name as callee
  from pg_temp.functions as f
  cross join lateral regexp_matches(pg_temp.body_of(f.oid), '((?:\m[a-z_][a-z_0-9]*\.)?\m[a-z_][a-z_0-9]*)\s*\(', 'g') as m (call)
  join promises as p on p.name = m.call[1]
  where p.level > f.provolatile::text;

-- A stable function may call these volatile ones.
create function pg_temp.volatile_of_stable() returns text[] language sql immutable
return array[
  -- It ends the call, and is volatile so that no planner calls it.
  'kijko.fail',
  -- They only read, each statement by a snapshot of its own: callers that have changed rows, and policies of a row that a statement has
  -- just written, must see them. In a stable function they see at least what it sees.
  'private.code_require_project', 'private.habits_require', 'private.projects_is_visible', 'private.reflexes_require', 'private.skills_require',
  'private.skills_require_ids', 'private.webhooks_require', 'private.webhooks_sees_message',
  -- They read what no snapshot holds: counters, sequences, secrets of this transaction, the state of the server and of the outbox.
  'kijko.api_key_last_used_at', 'kijko.issued_api_key', 'kijko.stats', 'private.executions_exhausted_meter', 'private.issued_secret',
  'private.jobs_last_turn', 'pg_control_system', 'pg_current_wal_lsn', 'pg_is_in_recovery',
  -- The real clock: leases, reports of workers and waiting times are compared with it, and one call or another makes no difference.
  'clock_timestamp'
];
-- Nor do these harm: the name of a content type of the answer, text that is sealed for its time and thrown away, a place to begin at.
create function pg_temp.volatile_calls() returns text[] language sql immutable
return array[
  'blog_feed(text,text,text) kijko.add_header', 'private.reflexes_repository_secrets(uuid) kijko.seal', 'private.reflexes_verifier(uuid) kijko.seal',
  'private.jobs_rounds(text[],text[]) random'
];
-- An immutable function may call these stable ones. They print values as their types do, and some types print by settings of the session:
-- no function that calls them may take a value of such a type, unless it says what it does.
create function pg_temp.stable_of_immutable() returns text[] language sql immutable
return array[
  'array_to_string', 'concat', 'concat_ws', 'format', 'jsonb_agg', 'jsonb_build_array', 'jsonb_build_object', 'to_jsonb',
  -- By the encoding of the database, which never changes, and by the bytes that a value takes.
  'convert_to', 'length', 'pg_column_size',
  -- Immutable for what is given here: numbers, and times without a time zone.
  'extract', 'generate_series', 'to_char', 'to_timestamp'
];
create function pg_temp.prints_by_settings(type oid) returns boolean language sql stable as $$
  with recursive parts as (
    select type as oid
    union
    select x.oid from parts as p join pg_type as t on t.oid = p.oid
    cross join lateral (
      select t.typelem where t.typelem <> 0 and t.typcategory = 'A'
      union all select t.typbasetype where t.typbasetype <> 0
      union all select a.atttypid from pg_attribute as a where a.attrelid = t.typrelid and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped
    ) as x (oid)
  )
  select exists (
    select from parts as p
    where p.oid = any (array['timestamptz', 'timestamp', 'timetz', 'date', 'interval', 'float4', 'float8', 'bytea', 'money', 'xml']::regtype[])
  )
$$;
-- Reviewed: they print neither a time nor bytes, but numbers of them or hexadecimal digits.
create function pg_temp.printing_reviewed() returns text[] language sql immutable
return array[
  'private.audit_entry_digest(audit_log)', 'private.audit_origin_digest(audit_log)',
  'private.audit_seal_hash(bytea,uuid,bigint,bigint,uuid[],bytea[])', 'private.billing_report_subject(private.billing_reports)', 'private.blog_fields(blog_posts)',
  'private.webhooks_payload(text,timestamp with time zone,jsonb)'
];

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
  select 'stable function that calls a volatile one', format('%s %s', c.name, c.callee)
  from pg_temp.lesser_calls as c
  where c.level = 's' and c.callee <> all (pg_temp.volatile_of_stable()) and format('%s %s', c.name, c.callee) <> all (pg_temp.volatile_calls())
  union all
  select 'immutable function that calls one that is not', format('%s %s', c.name, c.callee)
  from pg_temp.lesser_calls as c
  where c.level = 'i' and c.callee <> all (pg_temp.stable_of_immutable())
  union all
  select 'immutable function that may print a value by the settings of a session', format('%s %s', c.name, c.callee)
  from pg_temp.lesser_calls as c
  join pg_proc as p on p.oid = c.oid
  where c.level = 'i' and c.callee = any (pg_temp.stable_of_immutable()) and c.name <> all (pg_temp.printing_reviewed())
    and exists (select from unnest(p.proargtypes::oid[]) as a (type) where pg_temp.prints_by_settings(a.type))
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
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'kijko_sidecar', 'kijko_gateway', 'kijko_indexer')
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
      ('stable function that calls a volatile one'),
      ('immutable function that calls one that is not'),
      ('immutable function that may print a value by the settings of a session'),
      ('SQL of a table that may not be there yet: use to_regclass() or plpgsql')
    ) as expected (rule)
    except select rule from pg_temp.offences$$,
  'each rule finds an offender'
);
select * from finish();
rollback;
