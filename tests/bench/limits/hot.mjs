// One hot tenant, several ways to count and limit it: transactions a second by clients, medians of interleaved rounds, and
// ratios. Clients and server share the machine's processors, so only the ratios mean anything.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster } from '../../crash/limits/cluster.mjs';
import { draw } from './chart.mjs';
import { fdatasync, median, pgbench, ROUNDS, SECONDS } from './load.mjs';
import { consumeThroughNode, Redis } from './redis.mjs';

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
  count: {
    label: 'INSERT + COUNT(*), 1,000 at the start',
    before: 'call public.thousand_events(now()); analyze public.events',
    goal: 8,
    at: [64],
  },
  count_fixed: {
    label: 'INSERT + COUNT(*), always 1,000',
    before: "call public.thousand_events(now() + interval '1 hour'); analyze public.events",
  },
  count_locked: {
    label: 'INSERT + COUNT(*) one at a time, 1,000 at the start',
    before: 'call public.thousand_events(now()); analyze public.events',
  },
  redis: { label: 'Redis window + INSERT, from node', goal: 1.5, at: [64], over: 'consume_node' },
  consume_node: { label: 'kijko.consume, from node', over: 'consume_node' },
  rate_limit: { label: 'kijko.rate_limit', over: 'rate_limit' },
  empty: { label: 'an empty function of an extension', goal: 0.95, at: CLIENTS, over: 'rate_limit' },
  constant: { label: 'a function of an extension that answers a constant verdict', over: 'rate_limit' },
};
const chosen = process.env.KIJKO_BENCH_VARIANTS?.split(',') ?? Object.keys(VARIANTS);
const SHOWN = ['consume', 'insert', 'update', 'slots16', 'count', 'redis'];

export async function hotTenant() {
  const redis = await Redis.start();
  const libraries = mkdtempSync(join(tmpdir(), 'kijko-bench-'));
  chmodSync(libraries, 0o755); // the server runs as another user
  let cluster;
  try {
    if (process.env.KIJKO_BENCH_SYNC_US) process.env.LD_PRELOAD = compile('slow_disk', libraries);
    cluster = await Cluster.start(SETTINGS);
    await cluster.sql(readFileSync(join(HERE, 'setup.sql'), 'utf8'));
    await cluster.sql(functions(libraries));
    const disk = await fdatasync(cluster);
    const shares = {};
    const figures = await measure(cluster, redis, shares);
    report(figures);
    reportShares(shares);
    await oneStatement(cluster);
    console.log(
      `${availableParallelism()} processors, fdatasync ${disk} us, ${SECONDS} s a run, medians of ${ROUNDS} rounds, synchronous_commit on`,
    );
    // The picture is that of everything, on the disk that there is.
    if (process.env.KIJKO_BENCH_VARIANTS || process.env.KIJKO_BENCH_SYNC_US) return;
    const labels = Object.fromEntries(SHOWN.map((name) => [name, VARIANTS[name].label]));
    writeFileSync(PICTURE, draw(figures, labels, CLIENTS));
  } finally {
    await redis.stop();
    await cluster?.stop();
    delete process.env.LD_PRELOAD;
    rmSync(libraries, { recursive: true });
  }
}

function functions(libraries) {
  const library = compile('empty', libraries);
  return ['empty', 'constant']
    .map(
      (name) => `create function public.${name}(key text, rate integer, per interval, burst integer default null, cost integer default 1)
    returns kijko.verdict language c volatile parallel unsafe as '${library}', '${name}'`,
    )
    .join(';');
}

function compile(name, folder) {
  const library = join(folder, `${name}.so`);
  const headers = execFileSync('pg_config', ['--includedir-server'], { encoding: 'utf8' }).trim();
  execFileSync('cc', ['-O2', '-Wall', '-Werror', '-shared', '-fPIC', `-I${headers}`, '-o', library, join(HERE, `${name}.c`)]);
  return library;
}

async function measure(cluster, redis, shares) {
  const figures = {};
  for (let round = 1; round <= ROUNDS; round++) {
    for (const clients of CLIENTS) {
      // In another order each time, so that whatever else the machine does falls on all alike.
      for (const name of [...chosen].sort(() => Math.random() - 0.5)) {
        const tps = await throughput(cluster, redis, name, clients, shares);
        ((figures[name] ??= {})[clients] ??= []).push(tps);
      }
    }
    process.stderr.write(`round ${round} of ${ROUNDS}\n`);
  }
  return Object.fromEntries(
    Object.entries(figures).map(([name, by]) => [
      name,
      Object.fromEntries(Object.entries(by).map(([clients, tps]) => [clients, median(tps)])),
    ]),
  );
}

async function throughput(cluster, redis, name, clients, shares) {
  const onShare = (share) => ((shares[name] ??= {})[clients] ??= []).push(share);
  if (VARIANTS[name].before) await cluster.sql(VARIANTS[name].before);
  if (name === 'redis') return redis.throughput(cluster, clients, onShare);
  if (name === 'consume_node') return consumeThroughNode(cluster, clients, onShare);
  return pgbench(cluster, join(HERE, `${name}.sql`), clients);
}

function report(figures) {
  const row = (cells) => console.log(`| ${cells.join(' | ')} |`);
  const ratio = (name, clients) => (figures[VARIANTS[name].over ?? 'consume'] ?? figures[name])[clients] / figures[name][clients];
  row(['a second (ours is … times)', ...CLIENTS.map((clients) => `${clients} client${clients > 1 ? 's' : ''}`)]);
  row(['---', ...CLIENTS.map(() => '---')]);
  for (const name of chosen) {
    row([VARIANTS[name].label, ...CLIENTS.map((clients) => `${Math.round(figures[name][clients])} (${ratio(name, clients).toFixed(2)})`)]);
  }
  for (const name of chosen) {
    const { label, goal, at } = VARIANTS[name];
    for (const clients of at ?? []) {
      const reached = ratio(name, clients);
      console.log(`${reached >= goal ? 'met   ' : 'missed'} ${reached.toFixed(2)} times ${label} at ${clients} clients (goal ${goal})`);
    }
  }
}

// Whether node, which drives two of the variants, was what kept them from going faster.
function reportShares(shares) {
  for (const [name, by] of Object.entries(shares)) {
    const each = Object.entries(by).map(([clients, values]) => `${median(values).toFixed(2)} at ${clients}`);
    console.log(`node took of one processor, by clients, ${VARIANTS[name].label}: ${each.join(', ')}`);
  }
}

// What a use costs without the round trip and the commit, which are most of a transaction and the same for an INSERT.
async function oneStatement(cluster) {
  const rows = 200_000;
  const times = { 'kijko.consume': [], INSERT: [] };
  const insert = readFileSync(join(HERE, 'insert.sql'), 'utf8')
    .replace('values (', 'select ')
    .replace(/\);\s*$/, ` from generate_series(1, ${rows})`);
  const consume = readFileSync(join(HERE, 'consume.sql'), 'utf8').replace(
    /^select (.*);\s*$/,
    `select count($1) from generate_series(1, ${rows})`,
  );
  const client = await cluster.connect();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, statement] of [
      ['kijko.consume', consume],
      ['INSERT', insert],
    ]) {
      const began = performance.now();
      await client.query(statement);
      times[name].push(((performance.now() - began) * 1_000) / rows);
    }
  }
  await client.end();
  console.log(
    `in one statement of ${rows.toLocaleString('en')}: ${Object.entries(times)
      .map(([name, us]) => `${name} ${median(us).toFixed(2)} us`)
      .join(', ')}`,
  );
}
