// A worker that dies, stalls or is asked to go in the middle of a job.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { connectAsAdmin, killSidecars, query, queryAsAdmin, Sidecar, until } from './harness.mjs';
import { assertDoneOnce, ended, stateOf, Tenant } from './tenant.mjs';

const LEASE_SECONDS = 3;
/** Of a worker that goes on: one that a busy machine lets miss its heartbeats would lose its job, which then ran once more. */
const goesOn = { leaseSeconds: 120 };

export function sidecarTests(vendor) {
  describe('a worker in the middle of a job', () => {
    beforeEach(() => vendor.reset());
    afterEach(killSidecars);

    test('after kill -9 during a vendor call, another worker takes over when the lease ends', async () => {
      const tenant = await Tenant.make();
      const first = await Sidecar.start(vendor, { leaseSeconds: LEASE_SECONDS });
      const id = await tenant.execute();
      await vendor.call(1);
      assert.equal((await stateOf(id)).execution.status, 'running');
      await first.kill();

      const second = await Sidecar.start(vendor, goesOn);
      const call = await vendor.call(2);
      call.answer();
      const state = await ended(id);
      await assertDoneOnce(tenant, state, call);
      assert.deepEqual(
        state.events.filter((e) => ['claimed', 'lease_expired', 'succeeded'].includes(e)),
        ['claimed', 'lease_expired', 'claimed', 'succeeded'],
      );
      assert.equal(state.workers.length, 2, 'two workers held it');
      assert.equal(vendor.calls.length, 2, 'one call for each attempt');
      assert.deepEqual(await second.terminate(), { code: 0, signal: null });
    });

    test("after kill -9 with the result's write lost, the job runs again and is charged once", async () => {
      const tenant = await Tenant.make();
      const first = await Sidecar.start(vendor, { leaseSeconds: LEASE_SECONDS });
      const id = await tenant.execute();
      const lock = await holdExecution(id, await vendor.call(1), first);
      await first.kill();
      // A backend that waits for a lock does not notice that its client is gone: without this it would still write.
      await lock.endWaiting();
      await lock.release();
      assert.equal((await stateOf(id)).execution.status, 'running', 'nothing was written');

      await Sidecar.start(vendor, goesOn);
      const call = await vendor.call(2);
      call.answer();
      await assertDoneOnce(tenant, await ended(id), call);
    });

    test("after kill -9 with the result's write under way, the write counts and the job does not run again", async () => {
      const tenant = await Tenant.make();
      const first = await Sidecar.start(vendor, { leaseSeconds: LEASE_SECONDS });
      const id = await tenant.execute();
      const call = await vendor.call(1);
      const lock = await holdExecution(id, call, first);
      await first.kill();
      // Past the lease, with a second worker looking: the row that is being written must not be taken over.
      await Sidecar.start(vendor, goesOn);
      await until(
        'the lease to be over',
        async () =>
          (await query('select 1 from public.jobs where payload ->> $1 = $2 and locked_until < now()', ['execution_id', id])).length,
      );
      await lock.release();
      await assertDoneOnce(tenant, await ended(id), call);
      const other = await tenant.execute(2);
      (await vendor.call(2)).answer();
      await ended(other);
      assert.equal(vendor.calls.length, 2, 'the second worker asked the vendor for the second execution only');
    });

    test("a worker that stalls past its lease does not overwrite the next worker's result", async () => {
      const tenant = await Tenant.make();
      const stalled = await Sidecar.start(vendor, { leaseSeconds: LEASE_SECONDS });
      const id = await tenant.execute();
      const late = await vendor.call(1);
      await stalled.freeze();

      const next = await Sidecar.start(vendor, goesOn);
      const call = await vendor.call(2);
      call.answer();
      const before = await ended(id);
      await assertDoneOnce(tenant, before, call);

      late.answer();
      stalled.signal('SIGCONT');
      // It ends only after it has dealt with its job: whatever it wanted to write, it has tried by then.
      assert.deepEqual(await stalled.terminate(), { code: 0, signal: null });
      const after = await stateOf(id);
      assert.deepEqual(after.execution, before.execution);
      assert.deepEqual(after.job, before.job);
      assert.deepEqual(after.events, before.events);
      await assertDoneOnce(tenant, after, call);
      assert.deepEqual(await next.terminate(), { code: 0, signal: null });
    });

    test('a stalled worker that resumes while the next one works neither ends nor requeues the job', async () => {
      const tenant = await Tenant.make();
      const stalled = await Sidecar.start(vendor, { leaseSeconds: LEASE_SECONDS });
      const id = await tenant.execute();
      const late = await vendor.call(1);
      await stalled.freeze();
      await Sidecar.start(vendor, goesOn);
      const call = await vendor.call(2);

      late.answer();
      stalled.signal('SIGCONT');
      assert.deepEqual(await stalled.terminate(), { code: 0, signal: null });
      const { execution, job } = await stateOf(id);
      assert.deepEqual([execution.status, job.status, job.attempt], ['running', 'running', 2]);

      call.answer();
      await assertDoneOnce(tenant, await ended(id), call);
      assert.equal(vendor.calls.length, 2);
    });

    test('SIGTERM lets a running job finish', async () => {
      const tenant = await Tenant.make();
      const sidecar = await Sidecar.start(vendor, { leaseSeconds: 120, shutdownSeconds: 100 });
      const id = await tenant.execute();
      const call = await vendor.call(1);
      const waiting = await Promise.all([sidecar.terminate(), stopsListening(sidecar).then(() => call.answer())]);
      assert.deepEqual(waiting[0], { code: 0, signal: null });
      const state = await stateOf(id);
      await assertDoneOnce(tenant, state, call);
      assert.equal(state.job.attempt, 1);
    });

    test('SIGTERM without a grace period records the usage that the vendor has reported, once', async () => {
      const tenant = await Tenant.make();
      const sidecar = await Sidecar.start(vendor, { leaseSeconds: 3600, shutdownSeconds: 0 });
      const id = await tenant.execute();
      (await vendor.call(1)).begin(90_000);
      // The text came with the count: once it is stored, the sidecar has the count.
      await until(
        'its text to be written',
        async () => (await query('select 1 from public.execution_text_chunks where execution_id = $1', [id])).length > 0,
      );
      await sidecar.terminate();
      const { execution, job } = await stateOf(id);
      assert.deepEqual([execution.status, Number(execution.input_tokens), job.status], ['queued', 90_000, 'queued']);
      const { executions, llm_tokens, llm_cost_microusd } = await tenant.used();
      assert.deepEqual({ executions, llm_tokens, llm_cost_microusd }, { executions: 1, llm_tokens: 90_000, llm_cost_microusd: 90_000 });

      await Sidecar.start(vendor, goesOn);
      const call = await vendor.call(2);
      call.answer();
      const done = await ended(id);
      assert.deepEqual([done.execution.status, Number(done.execution.input_tokens)], ['succeeded', 90_000 + call.inputTokens]);
    });

    test('SIGTERM releases a job that does not end in time, without waiting for its lease', async () => {
      const tenant = await Tenant.make();
      const first = await Sidecar.start(vendor, { leaseSeconds: 3600, shutdownSeconds: 1 });
      const id = await tenant.execute();
      await vendor.call(1);
      assert.equal((await first.terminate()).signal, null, 'it ends by itself');
      const { job } = await stateOf(id);
      assert.equal(job.status, 'queued', 'the job is free again, an hour before its lease would have ended');
      assert.equal(job.locked_by, null);

      await Sidecar.start(vendor, goesOn);
      const call = await vendor.call(2);
      call.answer();
      await assertDoneOnce(tenant, await ended(id), call);
    });
  });
}

// While draining a sidecar takes no new work; /ready or the closed port tells that it has heard the signal.
const stopsListening = (sidecar) => until(`${sidecar.name} to have heard SIGTERM`, async () => !(await sidecar.isReady()));

// Lets the vendor answer, but holds the worker's write at the execution's row. Returns how to go on.
async function holdExecution(id, call, sidecar) {
  const holder = await connectAsAdmin();
  await holder.query('begin');
  await holder.query('select 1 from public.executions where id = $1 for update', [id]);
  call.answer();
  // By connections of its own: inside a transaction the server's activity does not change, and only a superuser sees all of it.
  const waiting = async () =>
    (
      await queryAsAdmin(
        `select pid from pg_stat_activity where usename = 'kijko_sidecar' and wait_event_type = 'Lock' and split_part(application_name, ' ', 1) = $1`,
        [sidecar.name],
      )
    ).map((r) => r.pid);
  await until('the write to wait at the row', async () => (await waiting()).length > 0);
  return {
    async endWaiting() {
      for (const pid of await waiting()) await holder.query('select pg_terminate_backend($1, 5000)', [pid]);
      await until('the write to be gone', async () => (await waiting()).length === 0);
    },
    async release() {
      await holder.query('rollback');
      await holder.end();
    },
  };
}
