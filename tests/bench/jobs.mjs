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
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const { DB_URL, ADMIN_DB_URL } = process.env;
if (!DB_URL || !ADMIN_DB_URL) throw new Error('DB_URL and ADMIN_DB_URL are not set: run this by ./kijko bench jobs');
const number = (name, fallback) => Number(process.env[name] ?? fallback);
const JOBS = number('KIJKO_BENCH_JOBS', 20_000);
// A second or two, or a single pause of the machine decides.
const FULL = number('KIJKO_BENCH_FULL', 3 * JOBS);
const SINGLES = number('KIJKO_BENCH_SINGLES', 2_000);
const ROUNDS = number('KIJKO_BENCH_ROUNDS', 3);
const RATE = number('KIJKO_BENCH_RATE', 200);
const SECONDS = number('KIJKO_BENCH_SECONDS', 10);
// For a closer look: some of the phases, some of the queues.
const ONLY = process.env.KIJKO_BENCH_ONLY?.split(',');
const QUEUES = process.env.KIJKO_BENCH_QUEUES?.split(',');

const BATCH = 1_000;
const LOOPS = 4;
const TAKE = 500;
const POOL = 12;
// As in the sidecar: how soon a worker looks again where there was work.
const TRAIL = 1;

const connection = { connectionString: DB_URL };
const admin = new pg.Pool({ connectionString: ADMIN_DB_URL, max: 2 });
const chunks = (n, size) => Array.from({ length: Math.ceil(n / size) }, (_, i) => Math.min(size, n - i * size));

// ---- the three, behind one face: fill, fillOne, drain(n), work(onJob) -> stop()

class Kijko {
  name = 'kijko';
  tables = ['public.jobs', 'public.job_event_log', 'private.job_lanes'];
  kind = 'bench.noop';

  async setup() {
    this.pool = new pg.Pool({ ...connection, max: POOL });
    const user = randomUUID();
    await admin.query(
      `insert into auth.users (id, aud, role, email, email_confirmed_at) values ($1, 'authenticated', 'authenticated', $2, now())`,
      [user, `${user}@example.test`],
    );
    this.user = user;
    this.org = (await admin.query('select id from public.organizations where created_by = $1', [user])).rows[0].id;
  }

  async teardown() {
    await this.pool.end();
    await admin.query('truncate public.jobs, public.job_event_log, private.job_lanes');
    await admin.query('delete from auth.users where id = $1', [this.user]);
  }

  async fill(payloads) {
    const jobs = payloads.map((payload) => ({ org_id: this.org, kind: this.kind, payload }));
    await this.pool.query('select count(id) from private.jobs_enqueue_many($1)', [JSON.stringify(jobs)]);
  }

  async fillOne(payload) {
    await this.pool.query({ name: 'enqueue', text: 'select private.jobs_enqueue($1, $2, $3)', values: [this.org, this.kind, payload] });
  }

  claim = async (worker, n, client = this.pool) =>
    (
      await client.query({
        name: 'claim',
        text: `select id, payload, attempt from private.jobs_claim($1, '1 minute', $2, $3)`,
        values: [worker, n, [this.kind]],
      })
    ).rows;

  async complete(worker, jobs, client = this.pool) {
    const {
      rows: [{ ended }],
    } = await client.query({
      name: 'complete',
      text: 'select count(id)::int as ended from private.jobs_complete($1, $2)',
      values: [worker, JSON.stringify(jobs.map(({ id, attempt }) => ({ id, attempt })))],
    });
    if (ended !== jobs.length) throw new Error(`${jobs.length - ended} of ${jobs.length} jobs were lost`);
  }

  drain = (n) =>
    drainLoops(
      n,
      (i) => this.claim(`bench-${i}`, TAKE),
      (i, jobs) => this.complete(`bench-${i}`, jobs),
    );

  // As the sidecar does it: woken by NOTIFY, looking again by itself where there was work, what is ready is completed together.
  async work(onJob) {
    const [listener, claiming, completing] = await Promise.all([1, 2, 3].map(() => this.pool.connect()));
    await listener.query('listen kijko_jobs');
    const loop = new Waker();
    listener.on('notification', () => loop.wake());
    const done = [];
    const completer = new Waker();
    const claims = loop.run(async () => {
      const jobs = await this.claim('bench', TAKE, claiming);
      for (const job of jobs) onJob(job.payload);
      done.push(...jobs);
      if (jobs.length) completer.wake();
      return jobs.length === TAKE ? true : jobs.length > 0 ? TRAIL : null;
    }, 1_000);
    const completions = completer.run(async () => {
      const jobs = done.splice(0, TAKE);
      if (jobs.length) await this.complete('bench', jobs, completing);
      return done.length > 0 ? true : null;
    }, 1_000);
    return async () => {
      await loop.stop(claims);
      await completer.stop(completions);
      for (const client of [listener, claiming, completing]) client.release(true);
    };
  }
}

class PgBoss {
  name = 'pg-boss';
  schema = 'bench_pgboss';
  queue = 'noop';

  async setup(phase) {
    const { PgBoss: Boss } = await import('pg-boss');
    await admin.query(`drop schema if exists ${this.schema} cascade`);
    const notify = ['latency', 'full'].includes(phase);
    this.boss = new Boss({ ...connection, schema: this.schema, max: POOL, schedule: false, useListenNotify: notify });
    this.boss.on('error', (error) => console.error(error));
    await this.boss.start();
    await this.boss.createQueue(this.queue, { notify });
    this.tables = (
      await admin.query(
        `select format('%I.%I', s.schemaname, s.relname) as name from pg_stat_user_tables as s join pg_class as c on c.oid = s.relid and c.relkind = 'r' where s.schemaname = $1`,
        [this.schema],
      )
    ).rows.map((r) => r.name);
  }

  async teardown() {
    await this.boss.stop({ graceful: false, close: true });
    await admin.query(`drop schema ${this.schema} cascade`);
  }

  fill = (payloads) =>
    this.boss.insert(
      this.queue,
      payloads.map((data) => ({ data })),
    );
  fillOne = (payload) => this.boss.send(this.queue, payload);
  drain = (n) =>
    drainLoops(
      n,
      () => this.boss.fetch(this.queue, { batchSize: TAKE }),
      (_, jobs) =>
        this.boss.complete(
          this.queue,
          jobs.map((job) => job.id),
        ),
    );

  async work(onJob) {
    for (let i = 0; i < LOOPS; i += 1) {
      await this.boss.work(
        this.queue,
        { batchSize: TAKE, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
        async (jobs) => {
          for (const job of jobs) onJob(job.data);
        },
      );
    }
    return () => this.boss.offWork(this.queue);
  }
}

class Graphile {
  name = 'graphile-worker';
  schema = 'bench_graphile';
  task = 'noop';

  async setup() {
    this.lib = await import('graphile-worker');
    await admin.query(`drop schema if exists ${this.schema} cascade`);
    this.logger = new this.lib.Logger(() => (level, message) => {
      if (level === 'error') console.error(message);
    });
    this.pool = new pg.Pool({ ...connection, max: POOL });
    this.pool.on('error', () => {});
    this.pool.on('connect', (client) => client.on('error', () => {}));
    this.options = { pgPool: this.pool, schema: this.schema, logger: this.logger };
    await this.lib.runMigrations(this.options);
    this.utils = await this.lib.makeWorkerUtils(this.options);
    this.tables = (
      await admin.query(
        `select format('%I.%I', s.schemaname, s.relname) as name from pg_stat_user_tables as s join pg_class as c on c.oid = s.relid and c.relkind = 'r' where s.schemaname = $1`,
        [this.schema],
      )
    ).rows.map((r) => r.name);
  }

  async teardown() {
    await this.utils.release();
    await this.pool.end();
    await admin.query(`drop schema ${this.schema} cascade`);
  }

  fill = (payloads) => this.utils.addJobs(payloads.map((payload) => ({ identifier: this.task, payload })));
  fillOne = (payload) => this.utils.addJob(this.task, payload);

  async start(onJob, tuning) {
    const runner = await this.lib.run({
      ...this.options,
      noHandleSignals: true,
      crontab: '',
      taskList: {
        [this.task]: (payload) => {
          onJob(payload);
        },
      },
      preset: { worker: { concurrentJobs: 24, maxPoolSize: POOL, pollInterval: 1_000, schema: this.schema, ...tuning } },
      concurrency: 24,
      pollInterval: 1_000,
    });
    return () => runner.stop();
  }

  async drain(n) {
    let done = 0;
    let finished;
    const all = new Promise((resolve) => {
      finished = resolve;
    });
    const stop = await this.start(
      () => {
        if ((done += 1) === n) finished();
      },
      { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
    );
    await all;
    await stop();
  }

  // Completing in batches saves it a commit a job; the local queue is for load, alone it would cost latency.
  work = (onJob, load) =>
    this.start(onJob, { completeJobBatchDelay: 0, failJobBatchDelay: 0, ...(load === 'full' ? { localQueue: { size: 500 } } : {}) });
}

// ---- drivers

async function drainLoops(n, take, complete) {
  let left = n;
  await Promise.all(
    Array.from({ length: LOOPS }, async (_, i) => {
      while (left > 0) {
        const jobs = await take(i);
        if (!jobs?.length) {
          if (left > 0) await sleep(2);
          continue;
        }
        await complete(i, jobs);
        left -= jobs.length;
      }
    }),
  );
}

// A loop that runs when woken, again while there is more, and at the latest after a poll interval.
class Waker {
  #wake = () => {};
  #woken = false;
  #stopped = false;

  wake() {
    this.#woken = true;
    this.#wake();
  }

  // A step says true to go on at once, or how soon to look again; null is: later than last time.
  async run(step, pollMs) {
    // As in the sidecar: soon after a reason to look, then less and less often.
    let reason = -Infinity;
    while (!this.#stopped) {
      const woken = this.#woken;
      if (woken) reason = performance.now();
      this.#woken = false;
      const next = await step();
      if (next !== null) reason = performance.now();
      if (next === true || this.#woken || this.#stopped) continue;
      const pause = next ?? (woken ? TRAIL : Math.min(Math.max(2 * TRAIL, (performance.now() - reason) / 4), pollMs));
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, pause);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async stop(running) {
    this.#stopped = true;
    this.wake();
    await running;
  }
}

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
