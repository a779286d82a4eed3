-- Schema lint: what every table of public and private must be like.
begin;
\ir schema_catalog.sql

create view pg_temp.offences as
  select 'row level security is off' as rule, t.name as object from pg_temp.tables as t where not t.relrowsecurity
  union all
  -- Read past its table, a partition would show the rows that policies hide.
  select 'partition in public, or with rights of its own', c.oid::regclass::text
  from pg_class as c
  where c.relispartition and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p')
    and (
      c.relnamespace = 'public'::regnamespace
      or exists (select 1 from aclexplode(c.relacl) as a where a.grantee <> c.relowner)
    )
  union all
  select 'table without comment', t.name from pg_temp.tables as t where obj_description(t.oid, 'pg_class') is null
  union all
  select 'column without comment', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  where col_description(t.oid, a.attnum) is null
  union all
  select 'tenant table without id uuid, org_id uuid not null, created_by and created_at', t.name
  from pg_temp.tables as t
  where exists (select 1 from pg_attribute as a where a.attrelid = t.oid and a.attname = 'org_id' and not a.attisdropped)
    -- Mirrors of Stripe's objects: the ids are Stripe's, and whose an object is may be known only later.
    and t.relname !~ '^stripe_'
    and (
      select count(*) from pg_attribute as a
      where a.attrelid = t.oid
        and (
          (a.attname in ('id', 'org_id') and a.atttypid = 'uuid'::regtype and a.attnotnull)
          or (a.attname = 'created_by' and a.atttypid = 'uuid'::regtype)
          or (a.attname = 'created_at' and a.atttypid = 'timestamptz'::regtype and a.attnotnull)
        )
    ) <> 4
  union all
  select 'org_id leads no index', t.name
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname = 'org_id' and not a.attisdropped
  where not pg_temp.leading_index(t.oid, array[a.attnum])
  union all
  select 'text column without a length check', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  where (select coalesce(nullif(y.typbasetype, 0), y.oid) from pg_type as y where y.oid = a.atttypid) = 'text'::regtype
    and not exists (
      select 1 from pg_constraint as c
      where c.conrelid = t.oid and a.attnum = any (c.conkey) and c.contype in ('c', 'f')
    )
  union all
  -- A number such as 1e131071 takes ten bytes as jsonb, and 131,072 as text.
  select 'check that renders JSON to measure it: use private.json_fits()', coalesce(c.conrelid::regclass::text, '') || ' ' || c.conname
  from pg_constraint as c
  join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = any (c.conkey) and a.atttypid in ('json'::regtype, 'jsonb'::regtype)
  where c.connamespace in ('public'::regnamespace, 'private'::regnamespace) and c.contype = 'c'
    and strpos(pg_get_constraintdef(c.oid), format('(%I)::text', a.attname)) > 0
  union all
  -- Matching '^[a-z]{1,250}$' takes 145 µs, '^[a-z]+$' beside a check of the length 2 µs, at each write of a row.
  select 'regular expression with a large bounded repeat', coalesce(c.conrelid::regclass::text, '') || ' ' || c.conname
  from pg_constraint as c
  where c.connamespace in ('public'::regnamespace, 'private'::regnamespace, 'kijko'::regnamespace)
    and c.contype = 'c' and pg_get_constraintdef(c.oid) ~ '\{\d*,\d\d+\}'
  union all
  select 'regular expression with a large bounded repeat', f.name
  from pg_temp.functions as f
  where f.prosrc ~ '\{\d*,\d\d+\}'
  union all
  -- pg_restore builds indexes before it grants rights, and a table's owner runs what is in them.
  select 'function in an index that not everybody may execute', c.oid::regclass || ' ' || p.oid::regprocedure
  from pg_depend as d
  join pg_class as c on d.classid = 'pg_class'::regclass and c.oid = d.objid and c.relkind in ('i', 'I')
  join pg_proc as p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid and p.pronamespace = 'kijko'::regnamespace
  where not exists (select from aclexplode(p.proacl) as a where a.grantee = 0 and a.privilege_type = 'EXECUTE')
  union all
  select 'foreign key without index', t.name || ' ' || c.conname
  from pg_constraint as c
  join pg_temp.tables as t on t.oid = c.conrelid
  where c.contype = 'f' and not pg_temp.leading_index(c.conrelid, c.conkey)
  union all
  select 'foreign key between tenant tables without org_id', t.name || ' ' || c.conname
  from pg_constraint as c
  join pg_temp.tables as t on t.oid = c.conrelid
  join pg_attribute as mine on mine.attrelid = c.conrelid and mine.attname = 'org_id' and not mine.attisdropped
  join pg_attribute as theirs on theirs.attrelid = c.confrelid and theirs.attname = 'org_id' and not theirs.attisdropped
  where c.contype = 'f' and not (mine.attnum = any (c.conkey) and theirs.attnum = any (c.confkey))
  union all
  select 'updated_at is kept by no trigger', t.name
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname = 'updated_at' and not a.attisdropped
  -- The job engine keeps its own, by the real clock.
  where t.name <> 'public.jobs'
    and not exists (select 1 from pg_trigger as g where g.tgrelid = t.oid and g.tgfoid = 'private.touch_updated_at()'::regprocedure)
  union all
  -- The data catalogue: what cannot be exported or erased is not stored.
  select 'column without a line in the data catalogue', t.name || '.' || a.attname
  from (
    select k.oid, k.name from pg_temp.tables as k
    union
    -- Tables of other schemas that keep what tenants write.
    select to_regclass(d.table_name), d.table_name from private.data_catalogue as d
    union
    select to_regclass('realtime.messages'), 'realtime.messages'
    union
    select c.oid, c.oid::regclass::text from pg_class as c
    where c.relnamespace = any (array[to_regnamespace('auth'), to_regnamespace('auth_api'), to_regnamespace('storage'), to_regnamespace('storage_service'), to_regnamespace('kijko')]::oid[])
      and c.relkind in ('r', 'p') and not c.relispartition
  ) as t (oid, name)
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  where not exists (select 1 from private.data_catalogue as d where d.table_name = t.name and d.column_name = a.attname)
  union all
  select 'line of the data catalogue without its column', d.table_name || '.' || d.column_name
  from private.data_catalogue as d
  where not exists (
    select 1 from pg_attribute as a
    where a.attrelid = to_regclass(d.table_name) and a.attname = d.column_name and not a.attisdropped
  )
  union all
  -- What a retention time erases has one, and something deletes it then.
  select 'erased by a retention time, and has none: call private.set_retention()', d.table_name
  from private.data_catalogue as d
  where d.erasure = 'retention' and not exists (select 1 from private.data_retention as r where r.table_name = d.table_name)
  group by d.table_name
  union all
  select 'retention time that no function reads: use private.retention_of()', r.table_name
  from private.data_retention as r
  where r.keeps is not null and not exists (
    select 1 from pg_temp.functions as f where strpos(f.prosrc || pg_get_function_arguments(f.oid), format('retention_of(''%s''', r.table_name)) > 0
  )
  union all
  -- How a row is tied to a person: an export finds it by that, and an erasure.
  select 'column of a person that nothing ties: a foreign key, or private.tie_to_person()', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  where (
      (a.atttypid = 'uuid'::regtype and a.attname ~ '(^|_)(user_id|member_id|reader_id|author_id|owner_id)$|_by$|^personal_for$')
      or (a.atttypid in ('text'::regtype, 'text[]'::regtype, 'varchar'::regtype) and a.attname ~ '(^|_)(emails?|recipients?)$')
    )
    and not exists (select 1 from private.data_subject_columns as s where s.table_name = t.name and a.attname = any (s.columns || s.column_name::text))
  union all
  select 'tie to a person without its column', s.table_name || '.' || s.column_name
  from private.data_subjects as s
  where not exists (
    select 1 from pg_attribute as a where a.attrelid = to_regclass(s.table_name) and a.attname = s.column_name and not a.attisdropped
  )
  union all
  -- A row that is deleted, or a column that is emptied with the person; both lists must say so.
  select 'tie to a person that the data catalogue contradicts', s.table_name || '.' || s.column_name
  from private.data_subject_columns as s
  join private.data_catalogue as d on d.table_name = s.table_name and d.column_name = s.column_name
  where (s.erasure <> 'keep') <> (d.erasure = 'person')
  union all
  -- A secret is sealed, or only its hash is kept.
  select 'secret that is neither sealed nor a hash', d.table_name || '.' || d.column_name
  from private.data_catalogue as d
  join pg_temp.tables as t on t.name = d.table_name
  join pg_attribute as a on a.attrelid = t.oid and a.attname = d.column_name and not a.attisdropped
  where d.subject = 'secret'
    and a.atttypid <> 'kijko.sealed'::regtype and not (a.atttypid = 'bytea'::regtype and a.attname ~ '_hash$')
  union all
  -- A change of the key must reach every sealed value.
  select 'sealed column that is not registered', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.atttypid = 'kijko.sealed'::regtype and not a.attisdropped
  where not exists (select 1 from private.sealed_columns as s where s.table_name = t.name and s.column_name = a.attname)
  union all
  select 'registered sealed column that is not there', s.table_name || '.' || s.column_name
  from private.sealed_columns as s
  where not exists (
    select 1 from pg_attribute as a
    where a.attrelid = to_regclass(s.table_name) and a.attname = s.column_name and not a.attisdropped
      -- Login's tables belong to another role, and have GoTrue's types.
      and a.atttypid = case when s.table_name ~ '^auth\.' then 'text'::regtype else 'kijko.sealed'::regtype end
  )
  union all
  select 'tenant table that users fill and that lacks created_by_key or the index for lists', t.name
  from pg_temp.tables as t
  where has_any_column_privilege('authenticated', t.oid, 'insert') and pg_temp.is_tenant_table(t.oid)
    and not (
      exists (select 1 from pg_attribute as a where a.attrelid = t.oid and a.attname = 'created_by_key' and a.atttypid = 'uuid'::regtype)
      and exists (select 1 from pg_index as i where i.indrelid = t.oid and pg_get_indexdef(i.indexrelid) like '% (org_id, created_at DESC, id DESC)')
    )
  union all
  select 'unique key of a tenant table without org_id', i.indexrelid::regclass::text
  from pg_index as i
  join pg_temp.tables as t on t.oid = i.indrelid
  join pg_attribute as a on a.attrelid = t.oid and a.attname = 'org_id' and not a.attisdropped
  where i.indisunique and not (a.attnum = any (i.indkey)) and i.indexrelid::regclass::text <> all (pg_temp.unique_without_org())
    -- An id names one row of all tenants.
    and (select array_agg(k.attname::text) from pg_attribute as k where k.attrelid = t.oid and k.attnum = any (i.indkey)) <> array['id']
  union all
  -- bounds: docs/reference/bounds.md lists what bounds each table, and a journey checks that the list is complete
  select 'table that users fill without a gauge or a limit of rows', t.name || ' ' || o.operation
  from pg_temp.tables as t
  cross join (values (4, 'insert'), (8, 'delete')) as o (bit, operation)
  where has_any_column_privilege('authenticated', t.oid, 'insert')
    -- A user can have one row only, their own.
    and t.name <> 'public.profiles'
    and not exists (
      select 1 from pg_trigger as g
      where g.tgrelid = t.oid and g.tgtype & o.bit <> 0 and g.tgtype & 1 = 0 and coalesce(g.tgnewtable, g.tgoldtable) is not null
        and g.tgfoid in ('private.sync_gauge()'::regprocedure, 'private.limit_tenant_rows()'::regprocedure) and g.tgenabled = 'O'
    )
  union all
  select 'gauge that a plan does not limit', g.meter || ' ' || p.code
  from pg_temp.gauges as g
  cross join public.plans as p
  where not exists (
    select 1 from public.plan_limits as l where l.plan = p.code and l.meter = g.meter and l.period = 'lifetime' and l.overage_policy = 'refuse'
  )
  union all
  select 'gauge that usage_recount_gauges() leaves out', t.name || ' ' || g.meter
  from pg_temp.gauges as g
  join pg_temp.tables as t on t.oid = g.tgrelid
  join pg_proc as r on r.oid = 'private.usage_recount_gauges(uuid)'::regprocedure
  where r.prosrc !~ format('\(''%s'', \(select count\(\*\) from %s as', g.meter, t.name)
    or r.prosrc !~ format('lock_tables\([^;]*\m%s\M', t.name);

select plan(3);
select is_empty('select rule, object from pg_temp.offences order by 1, 2', 'no offences');

-- ---- every rule finds its offender
\ir schema_offenders.sql
select is_empty(
  $$select rule from (values
      ('row level security is off'),
      ('partition in public, or with rights of its own'),
      ('table without comment'),
      ('column without comment'),
      ('tenant table without id uuid, org_id uuid not null, created_by and created_at'),
      ('org_id leads no index'),
      ('text column without a length check'),
      ('check that renders JSON to measure it: use private.json_fits()'),
      ('regular expression with a large bounded repeat'),
      ('function in an index that not everybody may execute'),
      ('foreign key without index'),
      ('foreign key between tenant tables without org_id'),
      ('column without a line in the data catalogue'),
      ('line of the data catalogue without its column'),
      ('erased by a retention time, and has none: call private.set_retention()'),
      ('retention time that no function reads: use private.retention_of()'),
      ('column of a person that nothing ties: a foreign key, or private.tie_to_person()'),
      ('tie to a person without its column'),
      ('tie to a person that the data catalogue contradicts'),
      ('secret that is neither sealed nor a hash'),
      ('sealed column that is not registered'),
      ('registered sealed column that is not there'),
      ('tenant table that users fill and that lacks created_by_key or the index for lists'),
      ('unique key of a tenant table without org_id'),
      ('updated_at is kept by no trigger'),
      ('table that users fill without a gauge or a limit of rows'),
      ('gauge that a plan does not limit'),
      ('gauge that usage_recount_gauges() leaves out')
    ) as expected (rule)
    except select rule from pg_temp.offences$$,
  'each rule finds an offender'
);
select ok(exists (select from pg_temp.offences where object = 'private.person_offender.former_emails'), 'also several addresses in one column');

select * from finish();
rollback;
