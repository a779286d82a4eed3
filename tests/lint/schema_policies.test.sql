-- Schema lint: what every policy, grant and view must be like.
begin;
\ir schema_catalog.sql

create view pg_temp.offences as
  select 'granted to authenticated, but no policy' as rule, g.name || ' ' || g.privilege as object
  from pg_temp.granted as g
  where not exists (select 1 from pg_temp.policies as p where p.relid = g.oid and p.polcmd = g.cmd)
  union all
  select 'policy for an operation that users were not granted', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where not exists (select 1 from pg_temp.granted as g where g.oid = p.relid and g.cmd = p.polcmd)
  union all
  select 'more than one policy for an operation', p.name || ' ' || p.polcmd::text
  from pg_temp.policies as p group by p.name, p.polcmd having count(*) > 1
  union all
  select 'policy for all operations at once', p.name || ' ' || p.polname from pg_temp.policies as p where p.polcmd = '*'
  union all
  select 'policy not to authenticated alone', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where p.polroles <> array[to_regrole('authenticated')::oid] and not (p.polcmd = 'r' and p.name = any (pg_temp.public_catalogues()))
  union all
  select 'policy with "in (select", which cannot use the index', p.name || ' ' || p.polname
  from pg_temp.policies as p where p.body ~* '\mIN \( ?SELECT'
  union all
  select 'policy that calls a function for every row', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where regexp_replace(p.body, 'SELECT [a-z_.]+\([^()]*\)', '', 'g') ~ '\m(org_ids|org_ids_with|tenancy_org_ids_as|tenancy_colleague_ids|projects_hidden_ids|skills_hidden_ids|projects_unwritable_ids|skills_unwritable_ids|org_id|user_id|tenancy_person_id|uid|can|has_role|claims)\('
  union all
  -- To read is a permission as well: a role, and later a key, that lacks "resource:read" sees no row.
  select 'select policy of a tenant table that checks no permission', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where p.polcmd = 'r' and pg_temp.is_tenant_table(p.relid)
    and (p.body !~ '\m(org_id|id) = ANY \(ARRAY\( SELECT private\.org_ids_with\(''[a-z_]+:read''::text\)' or p.body ~ '\morg_ids\(\)|\mtenancy_org_ids_as\(')
  union all
  -- Before anything else, so that no other term can stand for it. Memberships and keys also belong to a person, and notifications to
  -- the platform.
  select 'policy of a tenant table that does not begin with a permission', p.name || ' ' || p.polname
  from pg_temp.policies as p
  join pg_policy as y on y.polrelid = p.relid and y.polname = p.polname
  cross join lateral (values (pg_get_expr(y.polqual, y.polrelid)), (pg_get_expr(y.polwithcheck, y.polrelid))) as e (expression)
  where pg_temp.is_tenant_table(p.relid) and e.expression is not null
    and e.expression !~ '^\(*(org_id|id) = ANY \(ARRAY\( SELECT private\.org_ids_with\(''[a-z_]+:[a-z_]+''::text\) AS org_ids_with\)\)\)( AND|$)'
    and p.polname <> all (array['memberships_delete', 'api_keys_select', 'api_keys_insert', 'api_keys_update', 'api_keys_delete', 'notifications_select'])
  union all
  select 'policy that writes by a permission to read', p.name || ' ' || p.polname
  from pg_temp.policies as p
  where p.polcmd <> 'r' and p.body ~ 'org_ids_with\(''[a-z_]+:read'''
  union all
  -- Either side alone refuses most updates, so that no test sees when the other one asks for less.
  select 'update policy whose sides ask for different permissions', p.name || ' ' || p.polname
  from pg_temp.policies as p
  join pg_policy as y on y.polrelid = p.relid and y.polname = p.polname
  where p.polcmd = 'w'
    and array(select distinct m[1] from regexp_matches(pg_get_expr(y.polqual, y.polrelid), '''([a-z_]+:[a-z_]+)''', 'g') as m order by 1)
      is distinct from array(select distinct m[1] from regexp_matches(pg_get_expr(y.polwithcheck, y.polrelid), '''([a-z_]+:[a-z_]+)''', 'g') as m order by 1)
  union all
  -- A private project hides the rows that point at it or at one of its skills. Policies exclude the hidden ids on reading, the
  -- unwritable ones on changing, and look the id up on writing: the answer is the same for an id that does not exist. Members
  -- of a project have a policy of their own (projects_is_managed).
  select 'policy that shows rows of private projects', p.name || ' ' || p.polname
  from pg_temp.policies as p
  join pg_attribute as a on a.attrelid = p.relid and not a.attisdropped
  join (values ('project_id', 'projects'), ('skill_id', 'skills')) as h (pointer, domain) on h.pointer = a.attname
  join pg_policy as y on y.polrelid = p.relid and y.polname = p.polname
  where not (a.attname = 'skill_id' and exists (select 1 from pg_attribute as o where o.attrelid = p.relid and o.attname = 'project_id'))
    and (
      (
        y.polqual is not null and pg_get_expr(y.polqual, y.polrelid) !~ 'private\.projects_is_managed\(project_id\)'
        and strpos(pg_get_expr(y.polqual, y.polrelid), format(
          '((%1$s = ANY (ARRAY( SELECT private.%2$s() AS %2$s))) IS NOT TRUE)', h.pointer, h.domain || case y.polcmd when 'r' then '_hidden_ids' else '_unwritable_ids' end
        )) = 0
      )
      or (
        y.polwithcheck is not null and pg_get_expr(y.polwithcheck, y.polrelid) !~ 'private\.projects_is_managed\(project_id\)'
        and strpos(pg_get_expr(y.polwithcheck, y.polrelid), 'private.' || h.domain || '_is_writable(' || h.pointer || ')') = 0
      )
    )
  union all
  -- A row that points at another table's row is hidden with it: by that table's policy, or by a project_id of its own.
  select 'policy that shows rows of hidden executions, habits, reflexes or jobs', p.name || ' ' || p.polname
  from pg_temp.policies as p
  join pg_attribute as a on a.attrelid = p.relid and not a.attisdropped
  join (values ('execution_id', 'executions'), ('habit_id', 'habits'), ('reflex_id', 'reflexes'), ('job_id', 'jobs')) as h (pointer, target) on h.pointer = a.attname
  join pg_policy as y on y.polrelid = p.relid and y.polname = p.polname
  cross join lateral (values (y.polqual), (y.polwithcheck)) as e (expression)
  where not exists (select 1 from pg_attribute as o where o.attrelid = p.relid and o.attname = 'project_id')
    and e.expression is not null
    and pg_get_expr(e.expression, y.polrelid) !~ format('EXISTS \( SELECT 1\s+FROM (public\.)?%s \w+\s+WHERE \(\(\w+\.org_id = \w+\.org_id\) AND \(\w+\.id = \w+\.%s\)\)', h.target, h.pointer)
  union all
  select 'permission that no role holds', a.name || ' ' || m.permission[1]
  from (
    select p.name || ' ' || p.polname as name, p.body from pg_temp.policies as p
    union all
    select f.name, f.prosrc from pg_temp.functions as f
  ) as a (name, body)
  cross join lateral regexp_matches(a.body, '(?:org_ids_with|tenancy_require_org_with|\mcan)\([^()'']*''([^'']*)''', 'g') as m (permission)
  where not exists (select 1 from private.role_permissions as r where r.permission = m.permission[1])
  union all
  -- The exceptions are about membership itself, not about what a member may read, or are asked beside a permission.
  select 'function that reads by membership and checks no permission', f.name
  from pg_temp.functions as f
  where (f.prosrc ~ '\morg_ids\(\)' and f.proname not in ('audit_require_org', 'privacy_authorize', 'list_notifications', 'storage_list_roots', 'set_active_organization', 'explain_limit', 'entitled', 'projects_hidden_ids', 'projects_unwritable_ids', 'projects_is_visible', 'projects_is_managed', 'skills_is_visible'))
    or (f.prosrc ~ '\mtenancy_require_org\(\)' and f.prosrc !~ '\m(can|tenancy_may_grant_role)\(')
  union all
  select 'policy column leads no index', p.name || '.' || m.col[1]
  from pg_temp.policies as p
  cross join lateral regexp_matches(p.body, '\(?(\w+) = (?:ANY \(ARRAY\( SELECT (?!\w+\.\w+_(?:hidden|unwritable)_ids)|\( SELECT)', 'g') as m (col)
  join pg_attribute as a on a.attrelid = p.relid and a.attname = m.col[1]
  where not pg_temp.leading_index(p.relid, array[a.attnum])
  union all
  -- grants
  select 'anon or everybody has a right on the table', t.name || ' ' || x.privilege_type
  from pg_temp.tables as t
  join pg_class as c on c.oid = t.oid
  cross join lateral aclexplode(c.relacl) as x
  where x.grantee in (0, to_regrole('anon'), to_regrole('kijko_sidecar'))
    and not (x.grantee = to_regrole('anon') and x.privilege_type = 'SELECT' and t.name = any (pg_temp.public_catalogues()))
  union all
  select 'users have a right on a private table', t.name || ' ' || x.privilege_type
  from pg_temp.tables as t
  join pg_class as c on c.oid = t.oid
  cross join lateral aclexplode(c.relacl) as x
  where t.nspname = 'private' and x.grantee = to_regrole('authenticated')
  union all
  select 'users have a right beyond reading and writing rows', t.name || ' ' || x.privilege_type
  from pg_temp.tables as t
  join pg_class as c on c.oid = t.oid
  cross join lateral aclexplode(c.relacl) as x
  where x.grantee = to_regrole('authenticated') and x.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  union all
  select 'users may write created_by or created_at of an existing row', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname in ('created_by', 'created_at') and not a.attisdropped
  where has_column_privilege('authenticated', t.oid, a.attnum, 'update')
  union all
  -- An upsert sets every column that it was given, also its key: users may write these, and a trigger refuses another value.
  select 'users may write id or org_id of an existing row, and no trigger refuses it', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attname in ('id', 'org_id') and not a.attisdropped
  where has_column_privilege('authenticated', t.oid, a.attnum, 'update')
    and not exists (
      select 1 from pg_trigger as g
      where g.tgrelid = t.oid and g.tgfoid = 'private.refuse_identity_change()'::regprocedure and g.tgenabled = 'O' and a.attnum = any (g.tgattr)
        and pg_get_triggerdef(g.oid) ~ format('old\.%1$s IS DISTINCT FROM new\.%1$s', a.attname)
    )
  union all
  select 'users insert rows that they cannot upsert', t.name || '.' || a.attname
  from pg_temp.tables as t
  join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  where has_column_privilege('authenticated', t.oid, a.attnum, 'insert') and not has_column_privilege('authenticated', t.oid, a.attnum, 'update')
  union all
  select 'default privileges give a request''s role a right', format('%s %s', d.defaclobjtype, x.privilege_type)
  from pg_default_acl as d
  cross join lateral aclexplode(d.defaclacl) as x
  where d.defaclrole = to_regrole('postgres')
    and x.grantee in (0, to_regrole('anon'), to_regrole('authenticated'), to_regrole('service_role'))
  union all
  select 'sequence with a right for a request''s role', c.oid::regclass || ' ' || x.privilege_type
  from pg_class as c
  cross join lateral aclexplode(c.relacl) as x
  where c.relkind = 'S' and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
    and x.grantee in (0, to_regrole('anon'), to_regrole('authenticated'))
  union all
  select 'view: a view reads as its owner, past row level security', c.oid::regclass::text
  from pg_class as c
  where c.relkind in ('v', 'm') and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
    and not coalesce('security_invoker=true' = any (c.reloptions), false);

select plan(2);
select is_empty('select rule, object from pg_temp.offences order by 1, 2', 'no offences');

-- ---- every rule finds its offender
\ir schema_offenders.sql
select is_empty(
  $$select rule from (values
      ('granted to authenticated, but no policy'),
      ('policy for an operation that users were not granted'),
      ('more than one policy for an operation'),
      ('policy for all operations at once'),
      ('policy not to authenticated alone'),
      ('policy with "in (select", which cannot use the index'),
      ('policy that calls a function for every row'),
      ('policy column leads no index'),
      ('select policy of a tenant table that checks no permission'),
      ('policy of a tenant table that does not begin with a permission'),
      ('policy that writes by a permission to read'),
      ('update policy whose sides ask for different permissions'),
      ('policy that shows rows of private projects'),
      ('policy that shows rows of hidden executions, habits, reflexes or jobs'),
      ('permission that no role holds'),
      ('function that reads by membership and checks no permission'),
      ('anon or everybody has a right on the table'),
      ('users have a right on a private table'),
      ('users have a right beyond reading and writing rows'),
      ('users may write created_by or created_at of an existing row'),
      ('users may write id or org_id of an existing row, and no trigger refuses it'),
      ('users insert rows that they cannot upsert'),
      ('sequence with a right for a request''s role'),
      ('default privileges give a request''s role a right'),
      ('view: a view reads as its owner, past row level security')
    ) as expected (rule)
    except select rule from pg_temp.offences$$,
  'each rule finds an offender'
);

select * from finish();
rollback;
