// What the races of the queue share: a transaction that stays open meanwhile, and statements that must not wait for it.
import { rewindWatermark } from '../queue.mjs';
import { until } from '../until.mjs';
import { becomeUser, newUser, one, pool } from './sessions.mjs';

export { atEnd, becomeUser, one, pool } from './sessions.mjs';

/** A user with a personal organization and a skill in it. */
export async function newTenant() {
  const { user, org } = await newUser();
  const { id: skill } = await one(`insert into public.skills (org_id, name, prompt_template) values ($1, 'race', 'x') returning id`, [org]);
  return { user, org, skill };
}

/** Queues jobs, which the next claim finds. */
export async function queueJobs(sql, values) {
  const { rows } = await pool.query(sql, values);
  await rewindWatermark((text) => pool.query(text));
  return rows;
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

/** A statement that must not wait: after a minute it is refused with 57014. What it must not wait for ends only after it. */
export async function promptly(sql, values) {
  const session = await pool.connect();
  try {
    await session.query(`set statement_timeout = '1min'`);
    return (await session.query(sql, values)).rows;
  } finally {
    session.release(true);
  }
}

/** Waits until one session waits for the other. */
export const untilWaiting = (waiter, holder) =>
  until(
    'one session to wait for the other',
    async () => (await one('select $1 = any (pg_blocking_pids($2)) as waits', [holder.processID, waiter.processID])).waits,
    { everyMs: 10 },
  );

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
export const untilWaitingFor = (pid, lock) =>
  until(
    `a session to wait at a lock of type ${lock}`,
    async () =>
      (await one(`select count(*)::int as n from pg_stat_activity where wait_event = $2 and $1 = any (pg_blocking_pids(pid))`, [pid, lock]))
        .n > 0,
    { everyMs: 20 },
  );

export const used = async (org, meter) => Number((await one('select used from kijko.usage($1) where meter = $2', [org, meter]))?.used ?? 0);
