// Postgres itself dies in the middle: one process of it (the cluster restarts), or all of it.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import {
  atMost,
  connectAsAdmin,
  kijkoDown,
  kijkoUp,
  killBackend,
  killPostgres,
  killSidecars,
  postmasterPid,
  Sidecar,
  until,
} from './harness.mjs';
import { ended, stateOf, Tenant } from './tenant.mjs';

const JOBS = 8;

export function postgresTests(vendor) {
  describe('Postgres in the middle of many jobs', () => {
    beforeEach(() => vendor.reset());
    afterEach(killSidecars);

    test('after kill -9 of one backend the cluster restarts, the sidecar reconnects and every job ends once', async () => {
      const tenant = await Tenant.make();
      const sidecar = await Sidecar.start(vendor, { leaseSeconds: 5, concurrency: 4 });
      const ids = await queueJobs(tenant);
      await vendor.call(4);
      // A connection that does nothing: that it breaks shows that the whole cluster went down and not one process.
      const witness = await connectAsAdmin();
      const broken = new Promise((resolve) => witness.once('end', resolve));

      const victim = await connectAsAdmin();
      const {
        rows: [{ pid }],
      } = await victim.query('select pg_backend_pid() as pid');
      await killBackend(pid);
      await atMost(broken, 120_000, 'the cluster to restart');
      vendor.answerAll();

      await assertAllDoneOnce(tenant, ids, vendor);
      await until('the sidecar to be ready again', () => sidecar.isReady());
      assert.equal(sidecar.child.exitCode, null, 'it is the same process');
      await until('the API to answer again', async () => (await tenant.client.from('skills').select('id')).data?.length === 1, {
        everyMs: 250,
      });
    });

    test('after kill -9 of the postmaster and ./kijko up, no commit is lost and every job ends once', async () => {
      const tenant = await Tenant.make();
      const sidecar = await Sidecar.start(vendor, { leaseSeconds: 5, concurrency: 2 });
      const ids = await queueJobs(tenant);
      // Some are done, some are with the vendor, some wait.
      for (const n of [1, 2]) (await vendor.call(n)).answer();
      const done = await until('two executions to end', async () => {
        const states = await Promise.all(ids.map(stateOf));
        const ended = states.filter((s) => s.execution.status === 'succeeded');
        return ended.length === 2 && ended;
      });
      await vendor.call(4);
      const usedBefore = await tenant.used();
      const { llm_tokens: tokensBefore, llm_cost_microusd: costBefore } = await tenant.recorded();
      assert.ok(tokensBefore > 0 && costBefore > 0);
      assert.equal(usedBefore.executions, JOBS);
      const pid = postmasterPid();

      await killPostgres();
      // Stopping what is left must work too: there is a pid file, but no server.
      await kijkoDown();
      await kijkoUp(vendor);
      assert.notEqual(postmasterPid(), pid);

      for (const { execution, job } of done) {
        const now = await stateOf(execution.id);
        assert.deepEqual(now.execution, execution);
        assert.deepEqual(now.job, job);
      }
      assert.equal((await tenant.used()).executions, usedBefore.executions);
      // Calls that begin meanwhile hold tokens; nothing of them is recorded.
      const { llm_tokens, llm_cost_microusd } = await tenant.recorded();
      assert.deepEqual({ llm_tokens, llm_cost_microusd }, { llm_tokens: tokensBefore, llm_cost_microusd: costBefore });

      vendor.answerAll();
      await assertAllDoneOnce(tenant, ids, vendor);
      assert.equal(sidecar.child.exitCode, null, 'the sidecar outlived the server');
    });
  });
}

export async function queueJobs(tenant, count = JOBS) {
  const ids = [];
  for (let n = 1; n <= count; n += 1) ids.push(await tenant.execute(n));
  return ids;
}

// Each result is one answer of the vendor, none is used twice, and the sum of what was metered is the sum of the results.
export async function assertAllDoneOnce(tenant, ids, vendor) {
  const states = [];
  for (const id of ids) states.push(await ended(id));
  const answers = new Map(vendor.calls.map((call) => [call.text, call]));
  let tokens = 0;
  let cost = 0;
  const usedAnswers = new Set();
  for (const { execution, job, events } of states) {
    assert.equal(execution.status, 'succeeded', `${execution.error_code}: ${execution.error}`);
    assert.equal(job.status, 'succeeded');
    assert.equal(events.filter((e) => e === 'succeeded').length, 1);
    const [text] = /answer \d+/.exec(JSON.stringify(execution.output)) ?? [];
    const call = answers.get(text);
    assert.ok(call && !usedAnswers.has(text), `"${text}" is one answer, used once`);
    usedAnswers.add(text);
    assert.equal(Number(execution.input_tokens), call.inputTokens);
    tokens += call.inputTokens + call.outputTokens;
    cost += Number(execution.cost_microusd);
  }
  const used = await tenant.used();
  assert.equal(used.executions, ids.length);
  assert.equal(used.llm_tokens, tokens);
  assert.equal(used.llm_cost_microusd, cost);
}
