// One hot tenant, several ways to count and limit it: transactions a second by clients, medians of interleaved rounds, and
// ratios. Clients and server share the machine's processors, so only the ratios mean anything.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Cluster } from '../../crash/limits/cluster.mjs';
import { draw } from './chart.mjs';
import { ROUNDS, SECONDS, fdatasync, median, pgbench } from './load.mjs';
import { Redis, consumeThroughNode } from './redis.mjs';

const HERE = new URL('.', import.meta.url).pathname;
const PICTURE = new URL('../../../docs/img/limits.svg', import.meta.url).pathname;
const CLIENTS = [1, 4, 16, 64];
const SETTINGS = { shared_buffers: "'512MB'", max_wal_size: "'4GB'", checkpoint_timeout: "'30min'", autovacuum_naptime: '10s' };

// kijko.consume (or what `over` names) is compared with each; a goal is how many times its throughput that should be, and where.
const VARIANTS = {
  consume: { label: 'kijko.consume' },
  verdict: { label: 'kijko.consume, the whole verdict as text' },
  insert: { label: 'plain INSERT of the same row', goal: 1.0, at: CLIENTS },
  update: { label: 'one-row UPDATE', goal: 10, at: [64] },
  slots16: { label: 'UPDATE of one of 16 rows' },
  count: { label: 'INSERT + COUNT(*), 1,000 at the start', before: 'call public.thousand_events(now()); analyze public.events', goal: 8, at: [64] },
  count_fixed: { label: 'INSERT + COUNT(*), always 1,000', before: "call public.thousand_events(now() + interval '1 hour'); analyze public.events" },
  redis: { label: 'Redis window + INSERT, from node', goal: 1.5, at: [64], over: 'consume_node' },
  consume_node: { label: 'kijko.consume, from node' },
  rate_limit: { label: 'kijko.rate_limit' },
  empty: { label: 'an empty function of an extension', goal: 0.95, at: CLIENTS, over: 'rate_limit' },
};
// Some of them only, to look at one thing: KIJKO_BENCH_VARIANTS=rate_limit,empty. Then no picture is drawn.
const NAMES = process.env.KIJKO_BENCH_VARIANTS?.split(',') ?? Object.keys(VARIANTS);
const SHOWN = ['consume', 'insert', 'update', 'slots16', 'count', 'redis'];

export async function hotTenant() {
  const redis = await Redis.start();
  let cluster;
  try {
    cluster = await Cluster.start(SETTINGS);
    await cluster.sql(readFileSync(join(HERE, 'setup.sql'), 'utf8'));
    await cluster.sql(emptyFunction(cluster));
    const disk = await fdatasync(cluster);
    const figures = await measure(cluster, redis);
    report(figures);
    console.log(`${availableParallelism()} processors, fdatasync ${disk} us, ${SECONDS} s a run, medians of ${ROUNDS} rounds, synchronous_commit on`);
    if (process.env.KIJKO_BENCH_VARIANTS) return;
    const labels = Object.fromEntries(SHOWN.map((name) => [name, VARIANTS[name].label]));
    writeFileSync(PICTURE, draw(figures, labels, CLIENTS));
  } finally {
    await redis.stop();
    await cluster?.stop();
  }
}

function emptyFunction(cluster) {
  const library = join(cluster.home, 'empty.so');
  const headers = execFileSync('/usr/lib/postgresql/15/bin/pg_config', ['--includedir-server'], { encoding: 'utf8' }).trim();
  execFileSync('cc', ['-O2', '-shared', '-fPIC', `-I${headers}`, '-o', library, join(HERE, 'empty.c')]);
  return `create function public.empty(key text, rate integer, per interval, burst integer default null, cost integer default 1)
    returns kijko.verdict language c volatile parallel unsafe as '${library}', 'empty'`;
}

async function measure(cluster, redis) {
  const figures = {};
  for (let round = 1; round <= ROUNDS; round++) {
    for (const clients of CLIENTS) {
      // In another order each time, so that whatever else the machine does falls on all alike.
      for (const name of [...NAMES].sort(() => Math.random() - 0.5)) {
        const tps = await throughput(cluster, redis, name, clients);
        ((figures[name] ??= {})[clients] ??= []).push(tps);
      }
    }
    process.stderr.write(`round ${round} of ${ROUNDS}\n`);
  }
  return Object.fromEntries(Object.entries(figures).map(([name, by]) =>
    [name, Object.fromEntries(Object.entries(by).map(([clients, tps]) => [clients, median(tps)]))]));
}

async function throughput(cluster, redis, name, clients) {
  if (VARIANTS[name].before) await cluster.sql(VARIANTS[name].before);
  if (name === 'redis') return redis.throughput(cluster, clients);
  if (name === 'consume_node') return consumeThroughNode(cluster, clients);
  return pgbench(cluster, join(HERE, `${name}.sql`), clients);
}

function report(figures) {
  const row = (cells) => console.log(`| ${cells.join(' | ')} |`);
  const ratio = (name, clients) => (figures[VARIANTS[name].over ?? 'consume'] ?? figures[name])[clients] / figures[name][clients];
  const asked = Object.entries(VARIANTS).filter(([name]) => NAMES.includes(name));
  row(['a second (ours is … times)', ...CLIENTS.map((clients) => `${clients} client${clients > 1 ? 's' : ''}`)]);
  row(['---', ...CLIENTS.map(() => '---')]);
  for (const [name, { label }] of asked) {
    row([label, ...CLIENTS.map((clients) => `${Math.round(figures[name][clients])} (${ratio(name, clients).toFixed(2)})`)]);
  }
  for (const [name, { label, goal, at }] of asked) {
    for (const clients of at ?? []) {
      const reached = ratio(name, clients);
      console.log(`${reached >= goal ? 'met   ' : 'missed'} ${reached.toFixed(2)} times ${label} at ${clients} clients (goal ${goal})`);
    }
  }
}
