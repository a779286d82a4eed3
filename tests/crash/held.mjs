// An organization whose rows a transaction holds, as a lock by hand or a long import does: its jobs wait, and no other's.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { connectAsAdmin, killSidecars, query, Sidecar, until } from './harness.mjs';
import { ended, Tenant } from './tenant.mjs';

const SLOTS = 4;
/** Those of the organization that waits could take all connections, and all slots. */
const settings = { concurrency: SLOTS, leaseSeconds: 120, variables: { KIJKO_DB_POOL_SIZE: String(SLOTS) } };

export function heldTests(vendor) {
  describe('an organization whose rows a transaction holds', () => {
    let held;
    let other;
    let holder;
    beforeEach(async () => {
      vendor.reset();
      [held, other] = [await Tenant.make(), await Tenant.make()];
      holder = await connectAsAdmin();
    });
    afterEach(async () => {
      await holder.end();
      await killSidecars();
    });

    const jobs = () =>
      query('select status, attempt, attempt - uncounted_attempts as counted from public.jobs where org_id = $1', [held.orgId]);
    async function hold() {
      await holder.query('begin');
      await holder.query('select from public.organizations where id = $1 for update', [held.orgId]);
      await holder.query('select from public.executions where org_id = $1 for update', [held.orgId]);
    }
    async function othersGoOn() {
      const begun = Date.now();
      for (let n = 0; n < 5; n += 1) assert.equal((await ended(await other.execute(n))).execution.status, 'succeeded');
      console.log(`5 executions of another organization took ${Date.now() - begun} ms`);
      assert.ok((await jobs()).every(({ status }) => ['queued', 'running'].includes(status)));
    }
    /** Each ran once, as far as anybody counts. */
    async function goOn(ids) {
      await holder.query('rollback');
      for (const id of ids) assert.equal((await ended(id)).execution.status, 'succeeded');
      assert.deepEqual(new Set((await jobs()).map(({ counted }) => counted)), new Set([1]));
      assert.equal(vendor.calls.length, ids.length + 5, 'the vendor was asked once for each');
    }

    test('has jobs that cannot begin: they are handed back for later, and those of others go on', async () => {
      vendor.answerAll();
      const ids = [];
      for (let n = 0; n < 2 * SLOTS; n += 1) ids.push(await held.execute(n));
      await hold();
      await Sidecar.start(vendor, settings);
      await until('all slots to be taken', async () => (await jobs()).filter(({ attempt }) => attempt > 0).length >= SLOTS);
      await othersGoOn();
      await goOn(ids);
    });

    test('has jobs that cannot be recorded: they leave connections and slots to others', async () => {
      const ids = [];
      for (let n = 0; n < SLOTS; n += 1) ids.push(await held.execute(n));
      await Sidecar.start(vendor, settings);
      await vendor.call(SLOTS);
      await hold();
      vendor.answerAll();
      await othersGoOn();
      await goOn(ids);
    });
  });
}
