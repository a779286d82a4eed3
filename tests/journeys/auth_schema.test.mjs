// The schema auth: GoTrue's columns, who may read it, and whom its functions believe.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { adminSql, env, http, newUser, sql } from './support.mjs';

describe('the schema', () => {
  test("has GoTrue's columns, so that users can be moved", async () => {
    const wanted = JSON.parse(await readFile(new URL('gotrue_columns.json', import.meta.url)));
    const rows = await sql(
      `
      select c.relname as table, a.attname as column,
        format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end || case when a.attgenerated <> '' then ' generated' else '' end as type
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'auth'::regnamespace and c.relname = any ($1) and a.attnum > 0 and not a.attisdropped`,
      [Object.keys(wanted)],
    );
    const found = {};
    for (const row of rows) (found[row.table] ??= {})[row.column] = row.type;
    assert.deepEqual(found, wanted);
  });

  test('no API role can read its tables, and the API does not serve it', async () => {
    const rows = await sql(`
      select r.rolname, c.relname, p.privilege
      from pg_class c
      cross join unnest(array['anon', 'authenticated', 'service_role', 'authenticator', 'kijko_sidecar', 'kijko_login', 'kijko_login_anon']) as r (rolname)
      cross join unnest(array['select', 'insert', 'update', 'delete']) as p (privilege)
      where c.relnamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and c.relkind = 'r' and has_table_privilege(r.rolname, c.oid, p.privilege)`);
    assert.deepEqual(rows, []);
    for (const token of [env.ANON_KEY, env.SERVICE_ROLE_KEY]) {
      const answer = await http('GET', '/rest/v1/users', { token, headers: { 'Accept-Profile': 'auth' } });
      assert.equal(answer.status, 406);
    }
  });

  test('the login role can call one of its functions', async () => {
    const rows = await sql(`
      select p.proname from pg_proc p
      where p.pronamespace = 'auth_api'::regnamespace and has_function_privilege('kijko_login_anon', p.oid, 'execute')`);
    assert.deepEqual(rows, [{ proname: 'handle' }]);
  });

  test('claims set by a plain SQL session are ignored', async () => {
    const { user } = await newUser();
    const claims = JSON.stringify({ sub: user.id, role: 'service_role', email: 'x@example.com' });
    const [row] = await sql(
      `
      select auth.uid() as uid, auth.role() as role, auth.email() as email, auth.jwt() as jwt
      from (select set_config('request.jwt.claims', $1, false) offset 0) as forged`,
      [claims],
    );
    assert.deepEqual(row, { uid: null, role: null, email: null, jwt: null });
  });

  test('no superuser owns any of it', async () => {
    const rows = await adminSql(`
      select p.oid::regprocedure::text from pg_proc p join pg_roles r on r.oid = p.proowner
      where p.pronamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and r.rolsuper`);
    assert.deepEqual(rows, []);
  });

  test('every table, column and function has a comment', async () => {
    const rows = await sql(`
      select 'function ' || p.oid::regprocedure as what from pg_proc p
      where p.pronamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and obj_description(p.oid, 'pg_proc') is null
      union all
      select 'column ' || c.oid::regclass || '.' || a.attname
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relnamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and c.relkind = 'r' and col_description(c.oid, a.attnum) is null`);
    assert.deepEqual(rows, []);
  });
});
