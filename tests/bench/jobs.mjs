// Kijko's queue beside pg-boss and graphile-worker: the same server, the same synchronous_commit, one driver process, rounds
// interleaved, medians. Run by ./kijko bench jobs on an instance of its own, by the Node.js that all three support.
//
// What is compared, and how each is used at its best:
// - enqueue: batches of 1,000 (private.jobs_enqueue_many, boss.insert, utils.addJobs), and one job a call on 8 connections.
// - drain: finish JOBS queued jobs that do nothing. Kijko and pg-boss: 4 loops that take 500 and complete 500 (pg-boss by
//   fetch/complete, since work() waits half a second between batches). graphile-worker: its runner with the local queue and
//   batched completion that its documentation advises for throughput.
// - latency: from before the enqueueing call to the start of the handler, at RATE jobs a second, each sent alone. All three
//   listen (pg-boss where its workers run: elsewhere its notifications would only cost it time), and poll as often as they may.
// - full load: the same, while batches of 500 are queued whenever fewer than 1,000 jobs are waiting.
// - dead tuples: what the queue's tables hold when the drain has ended, also while another session holds on to a snapshot
//   taken before; and how fast the drain is then.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Graphile, Kijko, PgBoss } from './jobs/queues.mjs';
import { admin, BATCH, chunks, connection, FULL, JOBS, ONLY, QUEUES, RATE, ROUNDS, SECONDS, SINGLES } from './jobs/settings.mjs';

const timed = async (run) => {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
};

// What the server's processes have used so far, in seconds: unlike a rate it hardly depends on what else the machine does.
const postmaster = (await admin.query(`select split_part(pg_read_file('postmaster.pid'), E'\\n', 1) as pid`)).rows[0].pid;

function serverCpu() {
  let ticks = 0;
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ');
      if (fields[1] === postmaster) ticks += Number(fields[11]) + Number(fields[12]);
      if (pid === postmaster) ticks += Number(fields[13]) + Number(fields[14]);
    } catch {
      /* it ended meanwhile */
    }
  }
  return ticks / 100;
}

const costed = async (run) => {
  const before = serverCpu();
  const seconds = await timed(run);
  return { seconds, cpu: serverCpu() - before };
};

const percentile = (sorted, p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];

const spread = (latencies, name) => {
  const sorted = latencies.toSorted((a, b) => a - b);
  return {
    [`${name} p50 ms`]: percentile(sorted, 0.5),
    [`${name} p95 ms`]: percentile(sorted, 0.95),
    [`${name} p99 ms`]: percentile(sorted, 0.99),
  };
};

// Counted in the tables themselves: the statistics lag behind.
async function deadTuples(tables) {
  const {
    rows: [row],
  } = await admin.query(
    `select sum((extensions.pgstattuple(t::regclass)).dead_tuple_count)::int as dead, sum(pg_total_relation_size(t::regclass))::bigint as bytes
     from unnest($1::text[]) as t`,
    [tables],
  );
  return { dead: row.dead, bytes: Number(row.bytes) };
}

const payloads = (n) => Array.from({ length: n }, (_, i) => ({ n: i }));

const fillAll = async (queue, n) => {
  for (const size of chunks(n, BATCH)) await queue.fill(payloads(size));
};

// ---- what is measured

const phases = {
  async throughput(queue) {
    const enqueue = await costed(() => fillAll(queue, JOBS));
    const drain = await costed(() => queue.drain(JOBS));
    const { dead, bytes } = await deadTuples(queue.tables);
    return {
      'enqueue jobs/s': JOBS / enqueue.seconds,
      'enqueue server us/job': (1e6 * enqueue.cpu) / JOBS,
      'complete jobs/s': JOBS / drain.seconds,
      'complete server us/job': (1e6 * drain.cpu) / JOBS,
      'dead tuples/job': dead / JOBS,
      'bytes/job': bytes / JOBS,
    };
  },

  async singles(queue) {
    let left = SINGLES;
    const seconds = await timed(() =>
      Promise.all(
        Array.from({ length: 8 }, async () => {
          while ((left -= 1) >= 0) await queue.fillOne({ n: left });
        }),
      ),
    );
    await queue.drain(SINGLES);
    return { 'enqueue one by one jobs/s': SINGLES / seconds };
  },

  async snapshot(queue) {
    const holder = new pg.Client(connection);
    await holder.connect();
    await holder.query('begin isolation level repeatable read');
    await holder.query('select 1 from pg_class limit 1');
    try {
      await fillAll(queue, JOBS);
      const drain = await costed(() => queue.drain(JOBS));
      const { dead, bytes } = await deadTuples(queue.tables);
      return {
        'held snapshot: complete jobs/s': JOBS / drain.seconds,
        'held snapshot: complete server us/job': (1e6 * drain.cpu) / JOBS,
        'held snapshot: dead tuples/job': dead / JOBS,
        'held snapshot: bytes/job': bytes / JOBS,
      };
    } finally {
      await holder.query('rollback');
      await holder.end();
    }
  },

  async latency(queue) {
    const latencies = [];
    const sent = [];
    const stop = await queue.work(({ n }) => {
      latencies[n] = performance.now() - sent[n];
    });
    await sleep(500);
    const calls = [];
    const started = performance.now();
    for (let n = 0; n < RATE * (1 + SECONDS); n += 1) {
      const due = started + (n * 1000) / RATE;
      if (due > performance.now()) await sleep(due - performance.now());
      sent[n] = performance.now();
      calls.push(queue.fillOne({ n }));
    }
    await Promise.all(calls);
    while (Object.keys(latencies).length < sent.length) await sleep(20);
    await stop();
    // Without the first second, in which connections are opened and their first statements planned.
    return spread(latencies.slice(RATE), `${RATE}/s`);
  },

  async full(queue) {
    const latencies = [];
    const sent = [];
    const stop = await queue.work(({ n }) => latencies.push(performance.now() - sent[n]), 'full');
    await sleep(500);
    const { seconds, cpu } = await costed(async () => {
      while (sent.length < FULL) {
        while (sent.length - latencies.length >= 1_000) await sleep(1);
        const batch = Array.from({ length: 500 }, () => ({ n: sent.push(performance.now()) - 1 }));
        await queue.fill(batch);
      }
      while (latencies.length < sent.length) await sleep(1);
    });
    await stop();
    return {
      ...spread(latencies, 'full load'),
      'full load jobs/s': sent.length / seconds,
      'full load server us/job': (1e6 * cpu) / sent.length,
    };
  },
};

// The instance is the benchmark's own. Without autovacuum the dead tuples are those that the jobs made, not those that it
// happened to have left at that moment.
await admin.query('create extension if not exists pgstattuple schema extensions');

await admin.query('alter system set autovacuum = off');
await admin.query('select pg_reload_conf()');
const contenders = [new Kijko(), new PgBoss(), new Graphile()].filter((c) => !QUEUES || QUEUES.includes(c.name));
const results = new Map(contenders.map((c) => [c.name, {}]));

const {
  rows: [{ synchronous_commit: commit, version }],
} = await admin.query(`select current_setting('synchronous_commit') as synchronous_commit, split_part(version(), ' on ', 1) as version`);

console.log(`${version}, synchronous_commit ${commit}, ${JOBS} jobs, ${ROUNDS} rounds, latency at ${RATE}/s for ${SECONDS} s`);

for (let round = 1; round <= ROUNDS; round += 1) {
  for (const [phase, run] of Object.entries(phases)) {
    if (ONLY && !ONLY.includes(phase)) continue;
    // Who goes first changes: whatever else the machine does should not always meet the same one.
    for (const queue of contenders.map((_, i) => contenders[(i + round) % contenders.length])) {
      await queue.setup(phase);
      const figures = await run(queue);
      await queue.teardown();
      for (const [name, value] of Object.entries(figures)) (results.get(queue.name)[name] ??= []).push(value);
      console.log(
        `round ${round} ${phase} ${queue.name}: ${Object.entries(figures)
          .map(([k, v]) => `${k} ${v.toFixed(2)}`)
          .join(', ')}`,
      );
    }
  }
}

// ---- the table: medians, and how many times better than the better of the other two

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

const moreIsBetter = (name) => name.endsWith('jobs/s');
const ours = results.get('kijko');
let behind = 0;
console.log(`\n${['figure (median)'.padEnd(34), ...contenders.map((c) => c.name.padStart(16)), 'kijko is'.padStart(18)].join('')}`);

for (const name of Object.keys(ours)) {
  const medians = contenders.map((c) => median(results.get(c.name)[name]));
  const [mine, ...others] = medians;
  const ratio = moreIsBetter(name) ? mine / Math.max(...others) : Math.min(...others) / mine;
  if (ratio < 1) behind += 1;
  console.log([name.padEnd(34), ...medians.map((m) => m.toFixed(2).padStart(16)), `${ratio.toFixed(2)} times`.padStart(18)].join(''));
}

console.log(
  `\n"kijko is" compares with the better of the other two; above 1 is ahead. Behind on ${behind} of ${Object.keys(ours).length} figures.`,
);

await admin.query('alter system reset autovacuum');
await admin.query('select pg_reload_conf()');
await admin.end();
