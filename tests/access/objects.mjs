// What PostgREST exposes, by the database's own catalog: relations, functions and computed columns of schema public.
import { query } from './db.mjs';

/** The roles that a request can have. */
export const ROLES = ['anon', 'authenticated', 'service_role'];

/** Tables and views, with their columns, their key, and whether any role of the API writes them. */
export async function relations() {
  const rows = await query(
    `select c.relname as name, c.relkind in ('v', 'm') as view,
      array(
        select a.attname::text from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum
      ) as columns,
      array(
        select a.attname::text from pg_attribute as a where a.attrelid = c.oid and (a.attidentity = 'a' or a.attgenerated <> '')
      ) as generated,
      exists (
        select 1 from unnest($1::text[]) as r (role)
        where has_any_column_privilege(r.role, c.oid, 'insert') or has_any_column_privilege(r.role, c.oid, 'update')
      ) as written,
      array(
        select a.attname::text
        from pg_index as i
        cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where i.indrelid = c.oid and i.indisprimary order by k.place
      ) as key
    from pg_class as c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    order by c.relname collate "C"`,
    [ROLES],
  );
  return rows.map((row) => ({ ...row, key: row.key.length > 0 ? row.key : ['id'] }));
}

const NAMED = `
  select * from (select p.oid::int, p.proname as name, p.provolatile = 'v' as volatile, p.proretset as set_returning,
    p.prorettype = 'boolean'::regtype as boolean,
    p.proname || '(' || coalesce((
      select string_agg(n.name, ',' order by n.place)
      from unnest(p.proargnames) with ordinality as n (name, place)
      where n.place <= p.pronargs
    ), '') || ')' as signature,
    (select c.relname from pg_class as c where c.reltype = p.proargtypes[0] and p.pronargs = 1 and c.relkind in ('r', 'v', 'p')) as computed_of
  from pg_proc as p
  where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
    and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
    and exists (select 1 from unnest($1::text[]) as r (role) where has_function_privilege(r.role, p.oid, 'execute'))
  ) as f order by f.signature collate "C"`;

/** Every function that a role of the API may execute. `computed_of`: the table whose computed column it is. */
export const functions = () => query(NAMED, [ROLES]);

/** Every right of the roles of the API on a column, as lines "table role privilege column,column". */
export async function columnRights() {
  const rows = await query(
    `select c.relname as name, r.role, p.privilege,
       string_agg(a.attname, ',' order by a.attnum) as columns
     from pg_class as c
     join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     cross join unnest($1::text[]) as r (role)
     cross join unnest(array['select', 'insert', 'update']) as p (privilege)
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
       and not has_table_privilege(r.role, c.oid, p.privilege) and has_column_privilege(r.role, c.oid, a.attnum, p.privilege)
     group by 1, 2, 3
     order by 1, 2, 3`,
    [ROLES],
  );
  return rows.map(({ name, role, privilege, columns }) => `${name} ${role} ${privilege} ${columns}`);
}

/** Rights on whole tables, as lines "table role select,insert". */
export async function tableRights() {
  const rows = await query(
    `select c.relname as name, r.role, string_agg(p.privilege, ',' order by p.place) as privileges
     from pg_class as c
     cross join unnest($1::text[]) as r (role)
     cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) with ordinality as p (privilege, place)
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
       and has_table_privilege(r.role, c.oid, p.privilege)
     group by 1, 2
     order by 1, 2`,
    [ROLES],
  );
  return rows.map(({ name, role, privileges }) => `${name} ${role} ${privileges}`);
}

/** Relations that a foreign key joins, both ways: what a client can embed in what. */
export const embeddings = () =>
  query(`
    select distinct from_.relname as parent, to_.relname as child, k.conname as constraint
    from pg_constraint as k
    cross join lateral (values (k.conrelid, k.confrelid), (k.confrelid, k.conrelid)) as e (parent, child)
    join pg_class as from_ on from_.oid = e.parent and from_.relnamespace = 'public'::regnamespace
    join pg_class as to_ on to_.oid = e.child and to_.relnamespace = 'public'::regnamespace
    where k.contype = 'f' and k.conrelid <> k.confrelid
    order by 1, 2, 3`);
