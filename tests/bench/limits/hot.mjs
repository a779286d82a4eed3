// One hot tenant, several ways to count and limit it: transactions per second by clients, medians of three interleaved
// rounds, and ratios. Everything runs in one throwaway cluster (and a redis-server) on this machine; clients and server
// share its processors, so only the ratios mean anything. Writes docs/img/limits.svg.
//   node tests/bench/limits/bench.mjs            KIJKO_BENCH_SECONDS=3 KIJKO_BENCH_ROUNDS=3
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Cluster } from '../../crash/limits/cluster.mjs';
import { draw } from './chart.mjs';

const run = promisify(execFile);
const HERE = new URL('.', import.meta.url).pathname;
const SECONDS = Number(process.env.KIJKO_BENCH_SECONDS ?? 3);
const ROUNDS = Number(process.env.KIJKO_BENCH_ROUNDS ?? 3);
const CLIENTS = [1, 4, 16, 64];

const VARIANTS = {
  consume: 'kijko.consume',
  insert: 'plain INSERT of the same row',
  update: 'one-row UPDATE',
  slots16: 'UPDATE of one of 16 slots',
  count: 'INSERT + COUNT(*) of 1,000',
  redis: 'Redis Lua window + INSERT',
};

// The goals for consume over each, where there is one, and at how many clients.
const GOALS = { insert: [1.0, CLIENTS], update: [10, [64]], count: [8, [64]], redis: [1.5, [64]] };

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

async function pgbench(cluster, script, clients) {
  const { stdout } = await cluster.program(
    'pgbench', '-n', '-M', 'prepared', '-c', String(clients), '-j', String(Math.min(clients, 2)), '-T', String(SECONDS),
    '-h', '127.0.0.1', '-p', String(cluster.port), '-U', 'postgres', '-f', script, 'postgres',
  );
  return Number(/tps = ([0-9.]+)/.exec(stdout)[1]);
}

// Each client asks Redis, then inserts: what an application does whose limits live there.
async function redis(cluster, clients, port) {
  const sha = (await command(await connect(port), ['SCRIPT', 'LOAD', readFileSync(join(HERE, 'redis.lua'), 'utf8')])).slice(1).split('\r\n')[1];
  const statement = { name: 'row', text: readFileSync(join(HERE, 'insert.sql'), 'utf8') };
  const until = Date.now() + SECONDS * 1_000;
  let done = 0;
  await Promise.all(Array.from({ length: clients }, async (_, n) => {
    const [socket, client] = [await connect(port), await cluster.connect()];
    for (let call = 0; Date.now() < until; call++) {
      const now = Math.round((performance.timeOrigin + performance.now()) * 1_000);
      // A short window, so that the sorted set stays at about a thousand members as in the other variants.
      const allowed = await command(socket, ['EVALSHA', sha, '1', 'tenant', String(now), '100000', '1000000', `${n}-${call}`]);
      if (!allowed.startsWith(':1')) throw new Error(allowed);
      await client.query(statement);
      done += 1;
    }
    socket.destroy();
    await client.end();
  }));
  return done / SECONDS;
}

// The same client without Redis, to compare like with like: node is slower than pgbench.
async function throughNode(cluster, clients, file) {
  const statement = { name: 'one', text: readFileSync(join(HERE, file), 'utf8') };
  const until = Date.now() + SECONDS * 1_000;
  let done = 0;
  await Promise.all(Array.from({ length: clients }, async () => {
    const client = await cluster.connect();
    while (Date.now() < until) {
      await client.query(statement);
      done += 1;
    }
    await client.end();
  }));
  return done / SECONDS;
}

function connect(port) {
  return new Promise((resolve, reject) => {
    const socket = createConnection(port, '127.0.0.1', () => resolve(socket.setNoDelay(true)));
    socket.once('error', reject);
  });
}

function command(socket, words) {
  return new Promise((resolve) => {
    socket.once('data', (data) => resolve(data.toString()));
    socket.write(`*${words.length}\r\n${words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join('')}`);
  });
}

async function startRedis() {
  const port = 40_000 + Math.floor(Math.random() * 20_000);
  const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { stdio: 'ignore' });
  const gone = new Promise((resolve) => child.once('error', resolve));
  for (let attempt = 0; attempt < 50; attempt++) {
    const socket = await Promise.race([connect(port).catch(() => null), gone]);
    if (socket instanceof Error) return null; // not installed
    if (socket) return { port, child: (socket.destroy(), child) };
    await sleep(100);
  }
  return null;
}

async function measure(cluster, server) {
  const figures = {};
  const add = (name, clients, tps) => ((figures[name] ??= {})[clients] ??= []).push(tps);
  const names = ['floor', ...Object.keys(VARIANTS)].filter((name) => name !== 'redis');
  for (let round = 0; round < ROUNDS; round++) {
    for (const clients of CLIENTS) {
      // Interleaved and in another order each time, so that whatever else the machine does falls on all alike.
      for (const name of [...names].sort(() => Math.random() - 0.5)) add(name, clients, await pgbench(cluster, join(HERE, `${name}.sql`), clients));
      if (server) {
        add('redis', clients, await redis(cluster, clients, server.port));
        add('consume_node', clients, await throughNode(cluster, clients, 'consume.sql'));
      }
    }
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
  }
  return Object.fromEntries(Object.entries(figures).map(([name, by]) =>
    [name, Object.fromEntries(Object.entries(by).map(([clients, tps]) => [clients, median(tps)]))]));
}

function report(figures) {
  const row = (cells) => console.log(`| ${cells.join(' | ')} |`);
  row(['variant', ...CLIENTS.map((c) => `${c} clients: tps (consume is ... times)`)]);
  row(['---', ...CLIENTS.map(() => '---')]);
  for (const [name, by] of Object.entries(figures)) {
    const own = name === 'redis' ? figures.consume_node : figures.consume;
    row([VARIANTS[name] ?? name, ...CLIENTS.map((c) => `${Math.round(by[c])} (${(own[c] / by[c]).toFixed(2)})`)]);
  }
  for (const [name, [goal, clients]] of Object.entries(GOALS)) {
    if (!figures[name]) continue;
    const own = name === 'redis' ? figures.consume_node : figures.consume;
    for (const c of clients) {
      const ratio = own[c] / figures[name][c];
      console.log(`${ratio >= goal ? 'met   ' : 'missed'} ${ratio.toFixed(2)}x of ${VARIANTS[name]} at ${c} clients (goal ${goal}x)`);
    }
  }
  console.log(`${availableParallelism()} processors, ${SECONDS} s a run, medians of ${ROUNDS} rounds, synchronous_commit on`);
}

const cluster = await Cluster.start({ shared_buffers: "'512MB'", max_wal_size: "'4GB'", checkpoint_timeout: "'30min'", autovacuum_naptime: '10s' });
const server = await startRedis();
try {
  await cluster.sql(readFileSync(join(HERE, 'setup.sql'), 'utf8'));
  const figures = await measure(cluster, server);
  report(figures);
  const picture = new URL('../../../docs/img/', import.meta.url).pathname;
  mkdirSync(picture, { recursive: true });
  writeFileSync(join(picture, 'limits.svg'), draw(figures, VARIANTS, CLIENTS));
} finally {
  server?.child.kill();
  await cluster.stop();
}
