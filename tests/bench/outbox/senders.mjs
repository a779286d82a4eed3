// The outbox, and two queues whose workers deliver the same requests with undici, behind one interface: start, enqueue, stop.
import pg from 'pg';
import { Agent, request } from 'undici';

const { DB_URL, ADMIN_DB_URL } = process.env;
const connection = { connectionString: DB_URL };
const POOL = 12;
// As many requests at once as the outbox sends to one host for one organization.
const CONCURRENCY = 16;
export const admin = new pg.Pool({ connectionString: ADMIN_DB_URL, max: 2 });

const agent = new Agent({ connections: CONCURRENCY });

async function deliver({ url, n }) {
  const { statusCode, body } = await request(url, { method: 'POST', body: JSON.stringify({ n }), dispatcher: agent });
  await body.dump();
  if (statusCode !== 200) throw new Error(`status ${statusCode}`);
}

export class Outbox {
  name = 'kijko';

  async start() {
    this.pool = new pg.Pool({ ...connection, max: POOL });
  }

  async stop() {
    await this.pool.end();
    await admin.query('delete from kijko.http_requests where ended_at is not null');
  }

  enqueue = ({ url, n }) =>
    this.pool.query({
      name: 'enqueue',
      text: `select kijko.http_enqueue('POST', $1, body => $2)`,
      values: [url, JSON.stringify({ n })],
    });

  fill = (payloads) =>
    this.pool.query(
      `select count(kijko.http_enqueue('POST', url, body => jsonb_build_object('n', n)::text)) from unnest($1::text[], $2::int[]) as r (url, n)`,
      [payloads.map(({ url }) => url), payloads.map(({ n }) => n)],
    );
}

export class PgBoss {
  name = 'pg-boss';
  schema = 'bench_pgboss';

  async start() {
    const { PgBoss: Boss } = await import('pg-boss');
    await admin.query(`drop schema if exists ${this.schema} cascade`);
    this.boss = new Boss({ ...connection, schema: this.schema, max: POOL, schedule: false, useListenNotify: true });
    this.boss.on('error', (error) => console.error(error));
    await this.boss.start();
    await this.boss.createQueue('deliver', { notify: true });
    const options = {
      batchSize: 4 * CONCURRENCY,
      pollingIntervalSeconds: 0.5,
      notifyPollingIntervalSeconds: 0.5,
      burstWhenBatchFull: true,
    };
    for (let i = 0; i < 4; i += 1) await this.boss.work('deliver', options, (jobs) => Promise.all(jobs.map((job) => deliver(job.data))));
  }

  async stop() {
    await this.boss.stop({ graceful: false, close: true });
    await admin.query(`drop schema ${this.schema} cascade`);
  }

  enqueue = (payload) => this.boss.send('deliver', payload);
  fill = (payloads) =>
    this.boss.insert(
      'deliver',
      payloads.map((data) => ({ data })),
    );
}

export class Graphile {
  name = 'graphile-worker';
  schema = 'bench_graphile';

  async start(load) {
    const lib = await import('graphile-worker');
    await admin.query(`drop schema if exists ${this.schema} cascade`);
    const logger = new lib.Logger(() => (level, message) => {
      if (level === 'error') console.error(message);
    });
    this.pool = new pg.Pool({ ...connection, max: POOL });
    this.pool.on('error', () => {});
    this.pool.on('connect', (client) => client.on('error', () => {}));
    const options = { pgPool: this.pool, schema: this.schema, logger };
    await lib.runMigrations(options);
    this.utils = await lib.makeWorkerUtils(options);
    const worker = {
      concurrentJobs: 4 * CONCURRENCY,
      maxPoolSize: POOL,
      pollInterval: 1_000,
      schema: this.schema,
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      ...(load === 'throughput' ? { localQueue: { size: 500 } } : {}),
    };
    this.runner = await lib.run({
      ...options,
      noHandleSignals: true,
      crontab: '',
      taskList: { deliver },
      preset: { worker },
      concurrency: worker.concurrentJobs,
      pollInterval: 1_000,
    });
  }

  async stop() {
    await this.runner.stop();
    await this.utils.release();
    await this.pool.end();
    await admin.query(`drop schema ${this.schema} cascade`);
  }

  enqueue = (payload) => this.utils.addJob('deliver', payload);
  fill = (payloads) => this.utils.addJobs(payloads.map((payload) => ({ identifier: 'deliver', payload })));
}
