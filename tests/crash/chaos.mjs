// Kills one worker, all workers, or the database while many jobs run. In the end each execution has one result, from one
// answer of the vendor, and was charged once.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { kijkoDown, kijkoUp, killPostgres, killSidecars, query, Sidecar, stopStackSidecar, until } from './harness.mjs';
import { assertAllDoneOnce, queueJobs } from './postgres.mjs';
import { Tenant } from './tenant.mjs';

// KIJKO_CHAOS_SECONDS=8 while working on it.
const OUTAGE_SECONDS = Number(process.env.KIJKO_CHAOS_SECONDS ?? 60);

export function chaosTests(vendor) {
  describe('many jobs while what runs them dies', () => {
    beforeEach(async () => {
      vendor.reset();
      // The stack's own worker would take over the jobs and hide a failure.
      await stopStackSidecar();
    });
    afterEach(killSidecars);

    test('after kill -9 of one of three workers, the others go on and each job ends once', async () => {
      const tenant = await Tenant.make();
      // The lease of the one that dies is to end soon, and those of the others not at all, however busy the machine is.
      const workers = await Promise.all([120, 3, 120].map((leaseSeconds) => Sidecar.start(vendor, { leaseSeconds, concurrency: 4 })));
      const ids = await queueJobs(tenant, 24);
      await vendor.call(12); // all slots are taken
      await workers[1].kill();
      vendor.answerAll();

      await assertAllDoneOnce(tenant, ids, vendor);
      const { again, attempts } = await attemptsOf(tenant);
      assert.ok(again >= 1 && again <= 4, `${again} jobs ran again: those that the dead worker held`);
      assert.equal(vendor.calls.length, attempts, 'one call for each attempt');
      for (const worker of [workers[0], workers[2]]) assert.equal(worker.child.exitCode, null, 'the others are still there');
    });

    test('after kill -9 of all workers, twice, the next workers finish and each job ends once', async () => {
      const tenant = await Tenant.make();
      const ids = await queueJobs(tenant, 20);
      for (const round of [1, 2]) {
        // Counted before they start: all their slots may be taken by the time they answer.
        const calls = vendor.calls.length;
        const workers = await startWorkers(vendor, 2, { leaseSeconds: 3, concurrency: 4 });
        const call = await vendor.call(calls + 4);
        vendor.calls[call.number - 2].answer();
        await until(`an execution to end in round ${round}`, async () => (await attemptsOf(tenant)).succeeded >= round);
        await Promise.all(workers.map((worker) => worker.kill()));
      }
      await startWorkers(vendor, 2, { leaseSeconds: 120, concurrency: 4 });
      vendor.answerAll();
      await assertAllDoneOnce(tenant, ids, vendor);
    });

    test(`when the database is unreachable for ${OUTAGE_SECONDS} seconds, vendors' answers are recorded afterwards and no call is repeated`, async () => {
      const tenant = await Tenant.make();
      const [worker] = await startWorkers(vendor, 1, { leaseSeconds: OUTAGE_SECONDS + 600, concurrency: 6 });
      const ids = await queueJobs(tenant, 12);
      await vendor.call(6);
      await killPostgres();
      vendor.answerAll();
      await until('the sidecar to say that it is not ready', async () => (await worker.isReady()) === false);
      await sleep(OUTAGE_SECONDS * 1_000);
      await kijkoDown();
      await kijkoUp(vendor);

      await assertAllDoneOnce(tenant, ids, vendor);
      assert.equal(vendor.calls.length, ids.length, 'one call for each job');
      assert.equal((await attemptsOf(tenant)).again, 0, 'no job ran twice');
      await until('the sidecar to be ready again', () => worker.isReady());
      assert.equal(worker.child.exitCode, null, 'it is the same process');
    });

    test('when the database is unreachable for longer than a lease, the jobs run again and each ends once', async () => {
      const tenant = await Tenant.make();
      const [worker] = await startWorkers(vendor, 1, { leaseSeconds: 3, concurrency: 4 });
      const ids = await queueJobs(tenant, 8);
      await vendor.call(4);
      await killPostgres();
      await sleep(5_000);
      await kijkoDown();
      await kijkoUp(vendor);
      vendor.answerAll();

      await assertAllDoneOnce(tenant, ids, vendor);
      assert.equal(worker.child.exitCode, null, 'it is the same process');
    });
  });
}

const startWorkers = (vendor, count, options) => Promise.all(Array.from({ length: count }, () => Sidecar.start(vendor, options)));

async function attemptsOf(tenant) {
  const [counts] = await query(
    `select count(*) filter (where attempt > 1)::int as again, coalesce(sum(attempt), 0)::int as attempts,
       count(*) filter (where status = 'succeeded')::int as succeeded
     from public.jobs where org_id = $1 and kind <> 'skill_check'`,
    [tenant.orgId],
  );
  return counts;
}
