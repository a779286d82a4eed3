// Commands of schedules, as pg_cron runs them: one that fails or waits holds up no other.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { one, pool } from './sessions.mjs';
import { whileOpen } from './support.mjs';

/** The command that pg_cron gets for these; the entry itself is undone. */
async function commandOf(...commands) {
  const session = await pool.connect();
  try {
    await session.query('begin');
    const name = `test-${randomUUID()}`;
    await session.query('select private.schedule($1, $2, variadic $3)', [name, '0 0 29 2 *', commands]);
    return (await session.query('select command from cron.job where jobname = $1', [name])).rows[0].command;
  } finally {
    await session.query('rollback');
    session.release();
  }
}

/** The error with which it ends, or null. */
async function run(command) {
  const session = await pool.connect();
  try {
    await session.query(command);
    return null;
  } catch (error) {
    return error;
  } finally {
    session.release(true);
  }
}

async function newTable(t) {
  const name = `private.test_${randomUUID().replaceAll('-', '')}`;
  await pool.query(`create table ${name} (n integer)`);
  t.after(() => pool.query(`drop table ${name}`));
  return { name, sum: async () => (await one(`select coalesce(sum(n), 0)::int as n from ${name}`)).n };
}

test('one of several that fails undoes and stops no other, and the run has failed', async (t) => {
  const { name, sum } = await newTable(t);
  const error = await run(await commandOf(`insert into ${name} values (1)`, 'perform 1 / 0', `insert into ${name} values (2)`));
  assert.match(error?.detail ?? 'none', /division by zero/);
  assert.equal(await sum(), 3);
});

test('a procedure may commit', async (t) => {
  const { name, sum } = await newTable(t);
  const procedure = `${name}_p`;
  await pool.query(
    `create procedure ${procedure}() language plpgsql as $$ begin insert into ${name} values (1); commit; raise exception 'late'; end $$`,
  );
  t.after(() => pool.query(`drop procedure ${procedure}()`));
  assert.match((await run(await commandOf(`call ${procedure}()`))).message, /late/);
  assert.equal(await sum(), 1);
});

test('a lock that another session holds is waited for some seconds, and what comes next is run', async (t) => {
  const [locked, free] = [await newTable(t), await newTable(t)];
  const command = await commandOf(`insert into ${locked.name} values (1)`, `insert into ${free.name} values (1)`);
  await whileOpen(`lock table ${locked.name} in access exclusive mode`, [], async () => {
    assert.match((await run(command))?.detail ?? 'none', /lock timeout/);
    assert.equal(await free.sum(), 1);
  });
  assert.equal(await run(command), null);
  assert.equal(await locked.sum(), 1);
});
