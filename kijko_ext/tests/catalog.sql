-- Everything about the extension's objects that an upgrade has to get right, in a form that two databases can be
-- compared by. Run with psql -AtX.
select 'function', case p.prokind when 'a' then (
        select format('%s %s %s %s %s %s', p.oid::regprocedure, a.aggtransfn, a.aggfinalfn, a.aggtranstype::regtype, a.aggtransspace, a.agginitval)
        from pg_aggregate as a where a.aggfnoid = p.oid
    ) else pg_get_functiondef(p.oid) end, proacl, provolatile, proisstrict, proparallel, procost, obj_description(p.oid, 'pg_proc')
from pg_proc as p where pronamespace = 'kijko'::regnamespace order by p.oid::regprocedure::text collate "C";
select 'relation', relname, relkind, relpersistence, reloptions, relacl, obj_description(oid, 'pg_class')
from pg_class where relnamespace = 'kijko'::regnamespace order by relname collate "C";
select 'column', c.relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
    pg_get_expr(adbin, adrelid), attacl, col_description(c.oid, attnum)
from pg_class as c join pg_attribute on attrelid = c.oid left join pg_attrdef on adrelid = c.oid and adnum = attnum
where relnamespace = 'kijko'::regnamespace and attnum > 0 and not attisdropped
order by c.relname collate "C", attnum;
select 'index', pg_get_indexdef(indexrelid) from pg_index join pg_class as c on c.oid = indrelid
where relnamespace = 'kijko'::regnamespace order by 2;
select 'constraint', coalesce(conrelid::regclass::text, contypid::regtype::text), conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')
from pg_constraint where connamespace = 'kijko'::regnamespace order by 2, 3;
select 'trigger', pg_get_triggerdef(t.oid), tgenabled from pg_trigger as t join pg_class as c on c.oid = tgrelid
where relnamespace = 'kijko'::regnamespace and not tgisinternal order by 2;
select 'type', typname, typtype, format_type(typbasetype, typtypmod), typnotnull, typdefault, typacl, obj_description(oid, 'pg_type')
from pg_type where typnamespace = 'kijko'::regnamespace order by 2;
select 'dumped', c.oid::regclass::text, condition
from pg_extension, unnest(extconfig, extcondition) as c(oid, condition) where extname = 'kijko' order by 2;
select 'schema', nspacl, obj_description(oid, 'pg_namespace') from pg_namespace where nspname = 'kijko';
select 'member', pg_describe_object(classid, objid, objsubid) from pg_depend
where refclassid = 'pg_extension'::regclass and refobjid = (select oid from pg_extension where extname = 'kijko') and deptype = 'e'
order by 2;
select 'error code', * from kijko.error_codes order by code;
