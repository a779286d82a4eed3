// What the races of the queue share: a transaction that stays open meanwhile, and statements that must not wait for it.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { becomeUser, newUser, one, pool } from './sessions.mjs';

export { atEnd, becomeUser, one, pool } from './sessions.mjs';

/** A user with a personal organization and a skill in it. */
export async function newTenant() {
  const { user, org } = await newUser();
  const { id: skill } = await one(`insert into public.skills (org_id, name, prompt_template) values ($1, 'race', 'x') returning id`, [org]);
  return { user, org, skill };
}

export const atOnce = (n, run) => Promise.all(Array.from({ length: n }, (_, i) => run(i)));

/** Runs with a transaction of another session open, which has done `sql`; unless it is committed, what it did is rolled back. */
export async function whileOpen(sql, values, run) {
  const session = await pool.connect();
  try {
    await session.query('begin');
    const { rows } = await session.query(sql, values);
    return await run(rows, session);
  } finally {
    await session.query('rollback').catch(() => {});
    session.release(true);
  }
}

/** A statement that must not wait: after five seconds it is refused with 57014. */
export async function promptly(sql, values) {
  const session = await pool.connect();
  try {
    await session.query(`set statement_timeout = '5s'`);
    return (await session.query(sql, values)).rows;
  } finally {
    session.release(true);
  }
}

/** Waits until one session waits for the other. */
export async function untilWaiting(waiter, holder) {
  for (let tries = 0; tries < 1_000; tries += 1) {
    if ((await one('select $1 = any (pg_blocking_pids($2)) as waits', [holder.processID, waiter.processID])).waits) return;
    await sleep(10);
  }
  throw new Error('it does not wait');
}

/** One statement as PostgREST would run it for the user: its rows, or the SQLSTATE it was refused with. */
export async function queryAs(user, sql, values) {
  const session = await pool.connect();
  try {
    await session.query('begin');
    await becomeUser(session, user);
    const { rows } = await session.query(sql, values);
    await session.query('commit');
    return { rows };
  } catch (error) {
    await session.query('rollback');
    return { refused: error.code };
  } finally {
    session.release();
  }
}

/** Until another session waits for this one, at a lock of this type. */
export async function untilWaitingFor(pid, lock) {
  for (let tries = 0; tries < 500; tries++) {
    const { n } = await one(`select count(*)::int as n from pg_stat_activity where wait_event = $2 and $1 = any (pg_blocking_pids(pid))`, [
      pid,
      lock,
    ]);
    if (n > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`no session waits at a lock of type ${lock}`);
}

export const used = async (org, meter) => Number((await one('select used from kijko.usage($1) where meter = $2', [org, meter]))?.used ?? 0);
