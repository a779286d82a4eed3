// A user's tier while two of their organizations change at once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newTenant, one, pool, untilWaitingFor } from './support.mjs';

// Each change reads what the other has not committed yet, so without turns the later one would write what is no longer so.
for (const order of ['upgrade first', 'membership first']) {
  test(`a user's tier is their best plan after two of their organizations change at once: ${order}`, async () => {
    const { user, org } = await newTenant();
    const { org: other } = await newTenant();
    await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [other]);
    const changes = [
      [`update public.subscriptions set plan = 'PRO' where org_id = $1`, [org]],
      [`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'member')`, [other, user]],
    ];
    if (order === 'membership first') changes.reverse();
    const first = await pool.connect();
    try {
      const { pid } = (await first.query('select pg_backend_pid() as pid')).rows[0];
      await first.query('begin');
      await first.query(...changes[0]);
      const second = pool.query(...changes[1]);
      await untilWaitingFor(pid, 'transactionid');
      await first.query('commit');
      await second;
      const { tier } = await one(`select tier from kijko.tiers where subject = kijko.subject('user', $1)`, [user]);
      assert.equal(tier, 'TEAMS');
    } finally {
      first.release(true);
    }
  });
}
