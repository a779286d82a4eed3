// Owners who leave at the same moment.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, queryAs } from './support.mjs';

test('when all owners leave at once, one of them is refused', async () => {
  for (let i = 0; i < 5; i++) {
    const tenants = [await newTenant(), await newTenant(), await newTenant()];
    const {
      rows: [{ id: org }],
    } = await queryAs(tenants[0].user, `select (public.create_organization('race')).id`);
    for (const { user } of tenants.slice(1)) {
      await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'owner')`, [org, user]);
    }
    const answers = await atOnce(3, (n) =>
      queryAs(tenants[n].user, 'delete from public.memberships where org_id = $1 and user_id = $2 returning 1', [org, tenants[n].user]),
    );
    assert.deepEqual(answers.map((a) => a.refused ?? 'left').sort(), ['KJ409', 'left', 'left']);
    assert.equal((await one(`select count(*)::int as n from public.memberships where org_id = $1 and role = 'owner'`, [org])).n, 1);
  }
});
