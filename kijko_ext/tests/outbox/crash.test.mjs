// The worker and the whole server are killed while requests are stored and sent: each that was committed arrives.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, enqueue, pgCtl, until, workerPid } from './support.mjs';

const ROUNDS = 20;
const WRITERS = 3;

const child = spawn(process.execPath, [new URL('counting_receiver.mjs', import.meta.url).pathname], { stdio: ['pipe', 'pipe', 'inherit'] });
after(() => child.kill());
const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
const line = async () => (await lines.next()).value;
const url = `http://localhost:${await line()}/`;
const arrived = async () => {
  child.stdin.write('\n');
  return JSON.parse(await line());
};

/** A connection to a server that may be restarting. */
const session = () =>
  until('the server to answer', async () => {
    try {
      return await connect();
    } catch {
      return undefined;
    }
  });

/** Stores requests until told to stop; only ids whose commit was confirmed count. A lost answer may have committed, too. */
async function writer(committed, stopped) {
  while (!stopped()) {
    const client = await session();
    const query = async (text, values) => (await client.query(text, values)).rows;
    try {
      while (!stopped()) committed.push(await enqueue({ method: 'POST', url, body: '{}', max_attempts: 100 }, query));
    } catch {
      await sleep(10);
    }
    await client.end().catch(() => {});
  }
}

async function killWorker() {
  const client = await session();
  const pid = await workerPid(async (text) => (await client.query(text)).rows);
  await client.end().catch(() => {});
  if (pid) process.kill(pid, 'SIGKILL');
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function killServer() {
  const pid = Number(readFileSync(`${process.env.KIJKO_TEST_DATA}/postmaster.pid`, 'utf8').split('\n')[0]);
  // None in the moment in which the server starts them anew, since a worker was killed; pgrep then fails.
  const children = spawnSync('pgrep', ['-P', `${pid}`])
    .stdout.toString()
    .trim()
    .split('\n')
    .filter(Boolean)
    .map(Number);
  for (const victim of [pid, ...children])
    try {
      process.kill(victim, 'SIGKILL');
    } catch {} // it has ended by itself
  await until('the server to be gone', () => !isAlive(pid));
  await pgCtl('start');
}

test('every committed request arrives, whatever is killed', async () => {
  const committed = [];
  let stopped = false;
  const writers = Array.from({ length: WRITERS }, () => writer(committed, () => stopped));
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      await sleep(200 + Math.random() * 200);
      await (round % 4 === 3 ? killServer() : killWorker());
    }
  } finally {
    stopped = true;
  }
  await Promise.all(writers);
  assert.ok(committed.length > ROUNDS * 10, `${committed.length} requests`);
  const client = await session();
  await client.query(`update kijko.http_requests set run_at = clock_timestamp() where state = 'pending'`);
  await client.query('select kijko.http_wake()');
  await until('all to end', async () => {
    const { rows } = await client.query(
      `select count(*)::int as open from kijko.http_requests where origin = kijko.http_origin($1) and state = 'pending'`,
      [url],
    );
    return rows[0].open === 0;
  });
  const times = await arrived();
  assert.deepEqual(
    committed.filter((id) => !times[id]),
    [],
    'lost',
  );
  const { rows } = await client.query(`select id, state from kijko.http_requests where origin = kijko.http_origin($1)`, [url]);
  assert.deepEqual(
    rows.filter((row) => row.state !== 'succeeded'),
    [],
  );
  const stored = new Set(rows.map((row) => row.id));
  assert.deepEqual(
    Object.keys(times).filter((id) => !stored.has(id)),
    [],
    'what was never committed did not arrive',
  );
  await client.end();
});
