// Upkeep of partitions beside a transaction that uses the table for long, as a backup does: it gives way, and stops nobody.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { atEnd, begin, one, pool } from './sessions.mjs';

const OLD = 'private.api_usage_2020_01_01';
/** What everybody does. Who waits for a lock for long fails. */
const OTHERS = [
  'select count(*) from public.api_usage where created_at > now()',
  'select count(*) from public.organizations where created_at > now()',
];

/** Runs upkeep while a transaction that has done something stays open. What it returned. */
async function besideReader(statement, upkeep) {
  const reader = await begin();
  await reader.run(statement);
  let done;
  const running = one(upkeep).finally(() => {
    done = true;
  });
  const refused = [];
  while (!done) {
    for (const statement of OTHERS) {
      const other = await begin();
      await other.run(`set local lock_timeout = '2s'`);
      const answer = await other.run(statement);
      if (answer.refused) refused.push(`${statement}: ${answer.refused}`);
      await other.commit();
    }
  }
  await reader.commit();
  assert.deepEqual(refused, []);
  return (await running).count;
}

test('a partition that is over is dropped when nobody uses its table, and until then nobody waits for it', async () => {
  await pool.query(`create table ${OLD} partition of public.api_usage for values from ('2020-01-01') to ('2020-01-02')`);
  atEnd(() => pool.query(`drop table if exists ${OLD}`));
  const drop = `select private.drop_partitions('public.api_usage', '2020-02-01') as count`;
  const isThere = async () => (await one('select to_regclass($1) is not null as there', [OLD])).there;
  for (const table of ['public.api_usage', OLD]) {
    assert.equal(await besideReader(`select from ${table} limit 1`, drop), 0, table);
    assert.ok(await isThere());
  }
  await until('nobody to use them', async () => (await one(drop)).count === 1);
  assert.equal(await isThere(), false);
});

test('a partition ahead is made when nobody uses the default one', async () => {
  const make = `select private.make_partitions('public.api_usage', 'day', 40) as count`;
  assert.equal(await besideReader('select from private.api_usage_default limit 1', make), 0);
  // Postgres locks the tables that a partition refers to against writers.
  assert.equal(await besideReader('update public.organizations set name = name where false', make), 0);
});
