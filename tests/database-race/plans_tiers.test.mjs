// The tiers of users while several of their organizations change at once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, untilWaitingFor } from './support.mjs';

// Neither change sees the other before its commit. If the second did not wait, it would write a tier that is out of date.
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
      // As its commit will do, which holds the lock for a moment only.
      await first.query('set constraints private.plans_tier_changes_apply immediate');
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

test('two deletions of organizations with common members do not deadlock, whichever members come first', async () => {
  const users = [(await newTenant()).user, (await newTenant()).user];
  const newOrg = async (member) => {
    const { id } = await one(`insert into public.organizations (name) values ('doomed') returning id`);
    await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'member')`, [id, member]);
    await pool.query(`update public.subscriptions set plan = 'PRO' where org_id = $1`, [id]);
    return id;
  };
  // The first deletion meets the users in one order, the second in the other.
  const orgs = [await atOnce(2, (i) => newOrg(users[i])), await atOnce(2, (i) => newOrg(users[1 - i]))];
  const sessions = [await pool.connect(), await pool.connect()];
  const drop = (session, org) => session.query('delete from public.organizations where id = $1', [org]);
  try {
    for (const [i, session] of sessions.entries()) {
      await session.query('begin');
      await drop(session, orgs[i][0]);
    }
    await Promise.all(sessions.map((session, i) => drop(session, orgs[i][1])));
    await Promise.all(sessions.map((session) => session.query('commit')));
  } finally {
    for (const session of sessions) session.release(true);
  }
  for (const user of users) {
    const { tier } = await one(`select tier from kijko.tiers where subject = kijko.subject('user', $1)`, [user]);
    assert.equal(tier, 'FREE');
  }
});
