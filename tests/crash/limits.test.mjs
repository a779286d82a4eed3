// Exactness under everything that can go wrong: no overshoot at any moment, and in the end exactly the limit.
// KIJKO_HAMMER_SECONDS is the time of each scenario (8 by default, about a minute in all).
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from './limits/cluster.mjs';
import { drain, Hammer, prepare } from './limits/hammer.mjs';
import { METER as BUDGET, Holders, prepare as prepareBudget } from './limits/holders.mjs';

const SECONDS = Number(process.env.KIJKO_HAMMER_SECONDS ?? 8);

const SCENARIOS = {
  'without a kill': [],
  'sessions are terminated': ['terminateBackend'],
  'backends are killed': ['killBackend'],
  'the postmaster is killed': ['killPostmaster'],
  'all of that': ['terminateBackend', 'killBackend', 'killPostmaster'],
};

describe('32 clients on one limit', () => {
  for (const [name, chaos] of Object.entries(SCENARIOS)) {
    test(name, async (t) => {
      const cluster = await Cluster.start({ fsync: chaos.length > 0 ? 'on' : 'off' });
      try {
        await prepare(cluster, 500);
        const hammer = new Hammer(cluster, { chaos, everyMs: chaos.includes('terminateBackend') ? 300 : 1_500 });
        await hammer.run(SECONDS * 1_000);
        const end = await drain(cluster);
        t.diagnostic(JSON.stringify({ ...hammer.done, ...end }));
        assert.deepEqual(hammer.overshoots, []);
        assert.equal(end.ledger, end.limit, 'the ledger comes to the limit');
        assert.equal(end.counted, end.limit, 'so do the rolled up sums and the rest');
        assert.equal(end.counter, end.limit, 'and the counter in shared memory');
        assert.equal(end.pinned, 0, 'no running transaction, no pin');
        assert.ok(hammer.done.commits > 20);
      } finally {
        await cluster.stop();
      }
    });
  }
});

describe('200 holders of one budget', () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start();
  });
  after(() => cluster.stop());

  test('holds that are settled, released, abandoned or killed never exceed the budget, and in the end all of it is available', async (t) => {
    await prepareBudget(cluster, 1_000);
    const holders = new Holders(cluster, { chaos: ['terminateBackend', 'killBackend', 'killPostmaster'] });
    const raise = (async () => {
      while (holders.until === undefined || holders.running) {
        await sleep(250);
        await cluster
          .sql("select kijko.set_limit(subject, meter, 'month', amount + 100) from kijko.limits where meter = $1", [BUDGET])
          .catch(() => {});
      }
    })();
    await holders.run(SECONDS * 1_000);
    await raise;
    await sleep(500);
    // Holds that were left open have expired; this releases them.
    await cluster.sql('select kijko.expire_holds()');
    const end = await drain(cluster, BUDGET);
    t.diagnostic(JSON.stringify({ ...holders.done, ...end }));
    assert.deepEqual(holders.overshoots, []);
    assert.equal(end.ledger, end.limit);
    assert.equal(end.counted, end.limit);
    assert.equal(end.counter, end.limit);
    assert.ok(holders.done.settled > 20);
  });
});
