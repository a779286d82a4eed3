// What metering of requests loses: nothing when the server stops, at most about a flush interval when a process of it is
// killed. Each request evaluates a flag, which is counted in the same way.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../until.mjs';
import { Cluster } from './limits/cluster.mjs';

const SUBJECTS = Array.from({ length: 20 }, (_, n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`);
const CLIENTS = 8;

/** GETs, as PostgREST makes them: READ ONLY, some rolled back. Counts those that were answered. */
class Load {
  answered = 0;
  perSecond = 0;
  #stop = false;

  constructor(cluster) {
    this.clients = Array.from({ length: CLIENTS }, (_, n) => this.#run(cluster, n));
    this.started = performance.now();
  }

  async #run(cluster, n) {
    while (!this.#stop) {
      const client = await cluster.connect();
      try {
        for (let call = n; !this.#stop; call += 1) {
          await client.query('begin read only');
          await client.query(`select kijko.admit_request($1), kijko.flag_enabled('crash')`, [SUBJECTS[call % SUBJECTS.length]]);
          this.answered += 1;
          await client.query(call % 3 === 0 ? 'rollback' : 'commit');
        }
      } catch {
        // killed or stopped
      }
      await client.end().catch(() => {});
      if (this.#stop) return;
    }
  }

  async stop() {
    this.#stop = true;
    this.perSecond = this.answered / ((performance.now() - this.started) / 1_000);
    await Promise.all(this.clients);
  }
}

const recorded = async (cluster) =>
  Number((await cluster.sql(`select coalesce(sum(amount), 0) as n from kijko.ledger where meter = 'api_requests'`))[0].n);

/** Evaluations that are in the table, once nothing is left to be written. */
async function evaluated(cluster) {
  await until('all evaluations to be written', async () => {
    const [{ used }] = await cluster.sql(`select value as used from kijko.stats() where metric = 'flag.used'`);
    return Number(used) === 0;
  });
  return written(cluster);
}

const written = async (cluster) =>
  Number((await cluster.sql(`select coalesce(sum(yes), 0) as n from kijko.flag_evaluations where flag = 'crash'`))[0].n);

/** What the ledger has once nothing is left to be written: the table of counts is empty, and then the worker has committed. */
async function settled(cluster) {
  await until('all counts to be in the ledger', async () => {
    const [{ used }] = await cluster.sql(`select value as used from kijko.stats() where metric = 'request_counter.used'`);
    if (Number(used) > 0) return false;
    const [{ writing }] = await cluster.sql(
      `select coalesce(bool_or(xact_start is not null), true) as writing from pg_stat_activity where backend_type = 'kijko worker'`,
    );
    return !writing;
  });
  return recorded(cluster);
}

async function start(interval) {
  // What a process that is killed has written stays with the system, so no flush need wait for a busy disk.
  const cluster = await Cluster.start({ 'kijko.request_counter_flush_interval': interval, fsync: 'off' });
  const definitions = { version: 2, features: [{ name: 'crash', enabled: true, strategies: [] }] };
  await cluster.sql(`select kijko.put_flag_snapshot('production', $1)`, [definitions]);
  return cluster;
}

describe('metered requests', () => {
  test('without a crash none is lost and none is counted twice', async (t) => {
    const cluster = await start(100);
    try {
      const load = new Load(cluster);
      await sleep(3_000);
      await until('a thousand requests', () => load.answered > 1_000);
      await load.stop();
      t.diagnostic(`${load.answered} requests, ${Math.round(load.perSecond)}/s`);
      assert.equal(await settled(cluster), load.answered);
      assert.equal(await evaluated(cluster), load.answered);
    } finally {
      await cluster.stop();
    }
  });

  test('when the server is stopped under load, no answered request is lost', async (t) => {
    const cluster = await start(5_000); // so that most are not in the ledger yet
    try {
      for (let round = 0; round < 3; round += 1) {
        const before = await recorded(cluster);
        const evaluatedBefore = await evaluated(cluster);
        const load = new Load(cluster);
        await sleep(1_000);
        const restarted = cluster.restart();
        const stopped = load.stop();
        await Promise.all([restarted, stopped]);
        const after = await settled(cluster);
        t.diagnostic(`${load.answered} answered, ${after - before} in the ledger`);
        // A request whose answer did not arrive may be there, too: one for each client.
        assert.ok(after - before >= load.answered, `${load.answered - (after - before)} requests lost`);
        assert.ok(after - before <= load.answered + CLIENTS);
        const flags = (await evaluated(cluster)) - evaluatedBefore;
        assert.ok(flags >= load.answered && flags <= load.answered + CLIENTS, `${flags} evaluations of ${load.answered}`);
      }
    } finally {
      await cluster.stop();
    }
  });

  for (const [name, kill] of [
    ['a backend', 'killBackend'],
    ['the postmaster', 'killPostmaster'],
  ]) {
    test(`when ${name} is killed under load, the loss is printed and bounded by the flush interval`, async (t) => {
      const interval = 500;
      const cluster = await start(interval);
      try {
        for (let round = 0; round < 3; round += 1) {
          const before = await recorded(cluster);
          const evaluatedBefore = await evaluated(cluster);
          const load = new Load(cluster);
          await sleep(1_700);
          await until('a flush of each', async () => (await recorded(cluster)) > before && (await written(cluster)) > evaluatedBefore);
          const killedAt = performance.now();
          const answered = load.answered;
          await cluster[kill]();
          await load.stop();
          const after = await settled(cluster);
          const rate = answered / ((killedAt - load.started) / 1_000);
          const lost = load.answered - (after - before);
          t.diagnostic(
            `${load.answered} answered, ${after - before} in the ledger, ${lost} lost: ${Math.max(0, lost / rate).toFixed(3)} s of the load`,
          );
          assert.ok(after - before > 0, 'most are there');
          assert.ok(after - before <= load.answered + 2 * CLIENTS, 'none is counted twice');
          // Twice the interval, and a second for a busy machine: no figure of speed, but a bound on what is held back.
          const flags = (await evaluated(cluster)) - evaluatedBefore;
          assert.ok(flags > 0 && flags <= load.answered + 2 * CLIENTS, `${flags} evaluations of ${load.answered}`);
          assert.ok(lost <= rate * ((2 * interval) / 1_000 + 1), `${lost} requests lost`);
        }
      } finally {
        await cluster.stop();
      }
    });
  }

  test('when the background worker is terminated, another one takes over', async () => {
    const cluster = await start(100);
    try {
      const worker = async () => (await cluster.sql(`select pid from pg_stat_activity where backend_type = 'kijko worker'`))[0]?.pid;
      const first = await until('the worker', worker);
      await cluster.sql('select pg_terminate_backend($1)', [first]);
      await cluster.sql('select kijko.admit_request($1)', [SUBJECTS[0]]);
      await until('another worker', async () => ((await worker()) ?? first) !== first);
      await cluster.sql('select kijko.admit_request($1)', [SUBJECTS[0]]);
      assert.equal(await settled(cluster), 2);
    } finally {
      await cluster.stop();
    }
  });

  test('between flushes the background worker holds no snapshot, and a database can be dropped', async () => {
    const cluster = await start(100);
    try {
      await cluster.sql('create database other');
      const load = new Load(cluster);
      await cluster.sql('drop database other');
      await load.stop();
      await settled(cluster);
      // It may be in the middle of looking for more.
      await until('the worker to hold none', async () => {
        const [worker] = await cluster.sql(
          `select backend_xmin is not null as held from pg_stat_activity where backend_type = 'kijko worker'`,
        );
        return worker?.held === false;
      });
    } finally {
      await cluster.stop();
    }
  });
});
