-- The objects of the extension, their rights and their comments. A change here is a change of the interface or of rights.
\pset format unaligned
\pset fieldsep ' | '
-- The last column says whether public may execute the function.
select p.oid::regprocedure as function, pg_get_function_result(p.oid) as result,
    case provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end as volatility,
    case proparallel when 's' then 'parallel safe' when 'r' then 'restricted' else 'unsafe' end as parallel,
    case when proisstrict then 'strict' else '' end as strict,
    case when prosecdef then 'definer' else '' end as security,
    exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0) as public
from pg_proc as p
where pronamespace = 'kijko'::regnamespace
order by p.oid::regprocedure::text collate "C";
-- Relations and the rights of public.
select c.relname, c.relkind, coalesce((
    select string_agg(privilege_type, ', ' order by privilege_type)
    from aclexplode(c.relacl) where grantee = 0), '') as public
from pg_class as c
where relnamespace = 'kijko'::regnamespace
order by c.relname collate "C";
select typname, typtype from pg_type
where typnamespace = 'kijko'::regnamespace and typtype <> 'c' and typelem = 0 or typname = 'verdict'
order by typname;
select a.grantee = 0 as to_public, privilege_type from pg_namespace, aclexplode(nspacl) as a
where nspname = 'kijko' and grantee = 0;
-- Tables whose rows are dumped.
select c.oid::regclass from pg_extension, unnest(extconfig) as c(oid) where extname = 'kijko' order by c.oid::regclass::text collate "C";
-- Every object belongs to the superuser and has a comment.
select p.oid::regprocedure::text as without_comment_or_wrong_owner from pg_proc as p
where pronamespace = 'kijko'::regnamespace and (obj_description(p.oid, 'pg_proc') is null or proowner <> 10)
union all
select c.oid::regclass::text from pg_class as c
where relnamespace = 'kijko'::regnamespace and (relkind in ('r', 'v') and obj_description(c.oid, 'pg_class') is null or relowner <> 10)
union all
select format('%s.%s', c.oid::regclass, attname) from pg_class as c, pg_attribute
where relnamespace = 'kijko'::regnamespace and relkind in ('r', 'v', 'c') and attrelid = c.oid and attnum > 0
    and not attisdropped and col_description(c.oid, attnum) is null
union all
select typname::text from pg_type
where typnamespace = 'kijko'::regnamespace and typtype = 'd' and obj_description(oid, 'pg_type') is null
union all
select nspname from pg_namespace where nspname = 'kijko' and (obj_description(oid, 'pg_namespace') is null or nspowner <> 10);
-- No regular expression with a large bounded repeat: matching '^[a-z]{1,250}$' takes 145 microseconds, at each write of a row.
select conname as slow_expression from pg_constraint
where connamespace = 'kijko'::regnamespace and contype = 'c' and pg_get_constraintdef(oid) ~ '\{\d*,\d\d+\}'
union all
select p.oid::regprocedure::text from pg_proc as p where pronamespace = 'kijko'::regnamespace and prosrc ~ '\{\d*,\d\d+\}';
-- Functions that resolve names when they run have a fixed search path with pg_temp at its end. An empty path has pg_temp
-- first, so a caller's domain "text" would run the caller's check as the superuser.
select p.oid::regprocedure as open_path from pg_proc as p join pg_language as l on l.oid = prolang
where pronamespace = 'kijko'::regnamespace and (prosecdef or lanname in ('sql', 'plpgsql')) and prosqlbody is null
    and not coalesce(proconfig, '{}') @> array['search_path=pg_catalog, pg_temp'];
