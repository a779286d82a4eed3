// The three queues behind one interface: fill, fillOne, drain(n), work(onJob) -> stop().
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { drainLoops, Waker } from './loops.mjs';
import { admin, connection, LOOPS, MIN_POLL_MS, POOL, TAKE } from './settings.mjs';

const tablesOf = async (schema) =>
  (
    await admin.query(
      `select format('%I.%I', s.schemaname, s.relname) as name from pg_stat_user_tables as s join pg_class as c on c.oid = s.relid and c.relkind = 'r' where s.schemaname = $1`,
      [schema],
    )
  ).rows.map(({ name }) => name);

export class Kijko {
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
      return jobs.length === TAKE ? true : jobs.length > 0 ? MIN_POLL_MS : null;
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

export class PgBoss {
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
    this.tables = await tablesOf(this.schema);
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

export class Graphile {
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
    this.tables = await tablesOf(this.schema);
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
