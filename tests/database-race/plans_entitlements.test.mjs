// Plans, overrides and trials that several sessions change at once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { newUser } from './sessions.mjs';
import { atOnce, newTenant, one, pool, promptly, whileOpen } from './support.mjs';

const entitled = async (org, feature) => (await one('select kijko.entitled($1, $2) as entitled', [org, feature])).entitled;
const limitOf = async (org, meter) =>
  (await one('select amount::int from kijko.limits where subject = $1 and meter = $2', [org, meter])).amount;

test('a plan, a catalogue and overrides that change at once end as the tables say', async () => {
  const feature = `race_${randomUUID().slice(0, 8)}`;
  await pool.query('insert into public.features (code, name) values ($1, $1)', [feature]);
  try {
    const { org } = await newTenant();
    for (let round = 0; round < 8; round += 1) {
      const [amount, plan] = [100 + round, round % 2 ? 'PRO' : 'TEAMS'];
      await Promise.all([
        pool.query('update public.subscriptions set plan = $2 where org_id = $1', [org, plan]),
        pool.query(
          `insert into public.plan_overrides (org_id, meter, amount, reason, ends_at) values ($1, 'projects', $2, 'race', now() + interval '1 day')`,
          [org, amount],
        ),
        pool.query(
          `insert into public.plan_overrides (org_id, feature, included, reason, ends_at) values ($1, $2, true, 'race', now() + interval '1 day')`,
          [org, feature],
        ),
      ]);
      assert.deepEqual([await limitOf(org, 'projects'), await entitled(org, feature)], [amount, true]);
      await Promise.all([
        pool.query('delete from public.plan_overrides where org_id = $1', [org]),
        pool.query(`update public.subscriptions set plan = 'FREE' where org_id = $1`, [org]),
      ]);
      assert.deepEqual([await limitOf(org, 'projects'), await entitled(org, feature)], [3, false]);
    }
  } finally {
    await pool.query('delete from public.features where code = $1', [feature]);
  }
});

test('of organizations that begin a trial at once with one card, or of one owner, one gets it', async () => {
  const card = randomUUID();
  const tenants = await Promise.all(Array.from({ length: 6 }, () => newUser()));
  const begun = await atOnce(6, async (n) => {
    const { rows } = await pool.query('select private.plans_trial_begin($1, $2) as begun', [tenants[n].org, card]);
    return rows[0].begun;
  });
  assert.equal(begun.filter(Boolean).length, 1, JSON.stringify(begun));

  const { user, org } = await newUser();
  const second = randomUUID();
  await pool.query(`insert into public.organizations (id, name) values ($1, 'Second')`, [second]);
  await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'owner') on conflict do nothing`, [
    second,
    user,
  ]);
  const both = await atOnce(2, async (n) => {
    const { rows } = await pool.query('select private.plans_trial_begin($1, $2) as begun', [n ? org : second, randomUUID()]);
    return rows[0].begun;
  });
  assert.equal(both.filter(Boolean).length, 1, JSON.stringify(both));
});

test('a trial waits for its owners, and for nobody who owns another organization', async () => {
  const [{ user: stranger }, { org }] = [await newUser(), await newUser()];
  const begun = await whileOpen('select 1 from public.profiles where id = $1 for no key update', [stranger], () =>
    promptly('select private.plans_trial_begin($1, null) as begun', [org]),
  );
  assert.deepEqual(begun, [{ begun: true }]);
});
