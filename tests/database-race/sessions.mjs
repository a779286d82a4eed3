// Sessions that stay open between two statements, and users made for a test, who are deleted afterwards.
import { randomUUID } from 'node:crypto';
import { after } from 'node:test';
import pg from 'pg';
import { until } from '../until.mjs';

if (!process.env.ADMIN_DB_URL) throw new Error('ADMIN_DB_URL is not set; ./kijko status -o env prints it');
export const pool = new pg.Pool({ connectionString: process.env.ADMIN_DB_URL, max: 24 });
const users = [];
const open = new Set();
const cleanups = [];
after(async () => {
  // Those that a failed test has left: their transactions would hold up all that follows.
  for (const session of open) session.release(true);
  try {
    for (const cleanup of cleanups) await cleanup();
    await pool.query('delete from auth.users where id = any($1)', [users]);
  } finally {
    await pool.end();
  }
});

/** Runs at the end of the file, before the connections close. */
export const atEnd = (cleanup) => cleanups.push(cleanup);

export const rows = async (sql, values) => (await pool.query(sql, values)).rows;
export const one = async (sql, values) => (await rows(sql, values))[0];

/** A user with a personal organization. */
export async function newUser() {
  const user = randomUUID();
  users.push(user);
  await pool.query(
    `insert into auth.users (id, aud, role, email, email_confirmed_at) values ($1, 'authenticated', 'authenticated', $2, now())`,
    [user, `${user}@example.test`],
  );
  return { user, org: (await one('select id from public.organizations where personal_for = $1', [user])).id };
}

/** From here on the session's transaction is one that PostgREST would run for the user. */
export async function becomeUser(session, user) {
  await session.query('set local session authorization authenticator');
  await session.query('set local role authenticated');
  await session.query(`select set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ role: 'authenticated', sub: user })]);
}

/** A transaction of a user, or of the superuser when there is none; it ends by `commit`. */
export async function begin(user) {
  const session = await pool.connect();
  open.add(session);
  const {
    rows: [{ pid }],
  } = await session.query('select pg_backend_pid() as pid');
  await session.query('begin');
  if (user) await becomeUser(session, user);
  return {
    pid,
    /** The first row, or the SQLSTATE of the refusal. */
    async run(sql, values) {
      try {
        return (await session.query(sql, values)).rows[0] ?? {};
      } catch (error) {
        return { refused: error.code };
      }
    },
    async commit() {
      await session.query('commit');
      open.delete(session);
      session.release();
    },
  };
}

/** One statement in a transaction of its own. */
export async function asUser(user, sql, values) {
  const session = await begin(user);
  const answer = await session.run(sql, values);
  await session.commit();
  return answer;
}

/** Until that session waits for a lock. */
export const waiting = ({ pid }) =>
  until(`session ${pid} to wait`, async () => (await one(`select cardinality(pg_blocking_pids($1)) > 0 as waits`, [pid])).waits, {
    everyMs: 20,
  });
