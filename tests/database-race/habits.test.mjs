// Several schedulers at once: a due slot runs once, and a locked habit stops no other.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, promptly, untilWaiting, used, whileOpen } from './support.mjs';

test('four schedulers at once run each due slot once and charge it once', async () => {
  const HABITS = 60;
  const tenants = [await newTenant(), await newTenant()];
  for (const { org, skill } of tenants) {
    await pool.query(`select kijko.set_limit($1, 'executions', 'month', null)`, [org]);
    await pool.query(`select kijko.set_limit($1, 'habits', 'lifetime', null)`, [org]);
    await pool.query(
      `insert into public.habits (org_id, skill_id, name, cron) select $1, $2, 'race ' || n, '0 0 1 1 *' from generate_series(1, $3::int) as n`,
      [org, skill, HABITS],
    );
  }
  // Due since the last New Year. Ties go by the random id, so the tenants are mixed: tickers that did not take turns
  // would charge them in different orders and deadlock.
  await pool.query(`update public.habits set next_run_at = date_trunc('year', kijko.now(), 'UTC') where org_id = any($1)`, [
    tenants.map((t) => t.org),
  ]);

  await atOnce(4, () => pool.query('select private.habits_run_due()'));

  for (const { org } of tenants) {
    const { made, slots, jobs } = await one(
      `select count(*)::int as made, count(distinct e.habit_id)::int as slots, count(distinct e.job_id)::int as jobs
       from public.executions as e where e.org_id = $1 and e.trigger = 'habit' and e.status <> 'failed'`,
      [org],
    );
    assert.deepEqual(
      { made, slots, jobs, charged: await used(org, 'executions') },
      { made: HABITS, slots: HABITS, jobs: HABITS, charged: HABITS },
    );
    const { due } = await one('select count(*)::int as due from public.habits where org_id = $1 and next_run_at <= kijko.now()', [org]);
    assert.equal(due, 0);
  }
});

test('schedulers take turns: the second waits for the first and finds nothing left', async () => {
  const { org, skill } = await newTenant();
  await pool.query(`insert into public.habits (org_id, skill_id, name, cron) values ($1, $2, 'turn', '0 0 1 1 *')`, [org, skill]);
  await pool.query(`update public.habits set next_run_at = date_trunc('year', kijko.now(), 'UTC') where org_id = $1`, [org]);
  const waiter = await pool.connect();
  try {
    await whileOpen('select private.habits_run_due()', [], async (_, session) => {
      const answered = waiter.query('select private.habits_run_due() as handled');
      await untilWaiting(waiter, session);
      await session.query('commit');
      assert.equal((await answered).rows[0].handled, 0);
    });
  } finally {
    waiter.release(true);
  }
  assert.equal((await one(`select count(*)::int as n from public.executions where org_id = $1`, [org])).n, 1);
});

test('a habit that is being changed does not stop the scheduler from running the others', async () => {
  const { org, skill } = await newTenant();
  await pool.query(
    `insert into public.habits (org_id, skill_id, name, cron) select $1, $2, 'due ' || n, '0 0 1 1 *' from generate_series(1, 2) as n`,
    [org, skill],
  );
  const {
    rows: [held, free],
  } = await pool.query(`update public.habits set next_run_at = date_trunc('year', kijko.now(), 'UTC') where org_id = $1 returning id`, [
    org,
  ]);
  await whileOpen('select 1 from public.habits where id = $1 for update', [held.id], async () => {
    await promptly('select private.habits_run_due()');
    const { rows } = await pool.query('select habit_id from public.executions where org_id = $1', [org]);
    assert.deepEqual(
      rows.map((row) => row.habit_id),
      [free.id],
    );
  });
});
