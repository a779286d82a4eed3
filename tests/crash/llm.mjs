// Calls of models against a budget while the sidecar, backends and the postmaster are killed. What a vendor counted is charged exactly
// if the call's end was recorded; otherwise something between that count and what was held. An answered call is charged exactly, unless
// the sidecar is killed before it has settled it: then at all that it held.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  connect,
  kijkoDown,
  kijkoUp,
  killBackend,
  killPostgres,
  killSidecars,
  query,
  queryAsAdmin,
  queryPatiently,
  Sidecar,
  stopStackSidecar,
  until,
} from './harness.mjs';
import { Tenant } from './tenant.mjs';

// The pause between one kill and the next; KIJKO_LLM_CRASH_SECONDS=10 to look for rare orders of events.
const PAUSE_MS = 1000 * Number(process.env.KIJKO_LLM_CRASH_SECONDS ?? 2);
const CALLERS = 24;
const AT_ONCE = 200;
// So many calls find room when all others are refused.
const WITH_ROOM = 150;
const AMOUNT = 20_000;
const MAX_TOKENS = 120;
const PROMPT_TOKENS = 30;
const REST_PORT = Number(process.env.TEST_PORT ?? new URL(process.env.API_URL).port) + 10;

/** A vendor that notes what it counts for each call, by the name in its prompt, before it answers. It answers when it is let. */
async function newVendor() {
  const counted = new Map();
  let gate = Promise.resolve();
  let open = () => {};
  const shut = () => {
    gate = new Promise((resolve) => {
      open = resolve;
    });
  };
  const server = http.createServer(async (request, response) => {
    let body = '';
    request.setEncoding('utf8');
    for await (const chunk of request) body += chunk;
    const { messages, stream } = JSON.parse(body);
    const output = 1 + Math.floor(Math.random() * MAX_TOKENS);
    const usage = { prompt_tokens: PROMPT_TOKENS, completion_tokens: output, total_tokens: PROMPT_TOKENS + output };
    const name = messages[0].content;
    assert.ok(!counted.has(name), 'one attempt for each call');
    counted.set(name, usage.total_tokens);
    await gate;
    await sleep(20 + Math.random() * 200);
    const head = { id: 'chatcmpl-theirs', created: 1, model: 'crash-test' };
    if (!stream) {
      const choices = [{ index: 0, message: { role: 'assistant', content: 'ok' }, finish_reason: 'stop' }];
      response.writeHead(200, { 'content-type': 'application/json' });
      return response.end(JSON.stringify({ ...head, object: 'chat.completion', choices, usage }));
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const event = (choices, more) =>
      response.write(`data: ${JSON.stringify({ ...head, object: 'chat.completion.chunk', choices, ...more })}\n\n`);
    event([{ index: 0, delta: { role: 'assistant', content: 'ok' }, finish_reason: null }]);
    await sleep(Math.random() * 100);
    event([{ index: 0, delta: {}, finish_reason: 'stop' }]);
    event([], { usage });
    return response.end('data: [DONE]\n\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { counted, shut, open: () => open(), baseUrl: `http://127.0.0.1:${server.address().port}/v1`, close };
}

async function newPayer(amount = AMOUNT) {
  const tenant = await Tenant.make();
  // Neither the plan nor its rate is the subject here.
  await query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [tenant.orgId]);
  const [{ id }] = await query(
    `insert into public.llm_budgets (org_id, name, scope, period, unit, amount)
     values ($1, 'crash', 'organization', 'total', 'tokens', $2) returning id`,
    [tenant.orgId, amount],
  );
  // A crash may end an attempt; a second one would hide what the first one left.
  await query(
    `insert into public.llm_routes (org_id, name, targets, retries, default_output_tokens) values ($1, 'crash', '{openai/crash-test}', 0, $2)`,
    [tenant.orgId, MAX_TOKENS],
  );
  const { data } = await tenant.client.auth.getSession();
  return Object.assign(tenant, { budget: id, token: data.session.access_token, budgetUsed: () => counted(id) });
}

const counted = (budget) =>
  query(
    `select coalesce(sum((kijko.quota_status(k.subject, 'llm_tokens')).used), 0)::int as used
     from private.llm_budget_subjects as k where k.budget_id = $1`,
    [budget],
  ).then(([{ used }]) => used);

/** One call; its trace is its name. */
async function call(url, token) {
  const name = randomBytes(16).toString('hex');
  const result = { name, begun: Date.now() };
  try {
    const response = await fetch(`${url}/llm/v1/chat/completions`, {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${token}`,
        'Content-Type': 'application/json',
        traceparent: `00-${name}-${'1'.repeat(16)}-01`,
      },
      body: JSON.stringify({ model: 'crash', messages: [{ role: 'user', content: name }], stream: Math.random() < 0.5 }),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    result.answered = response.ok && (text.includes('[DONE]') || text.includes('"chat.completion"'));
    if (!response.ok) result.code = JSON.parse(text).error.code;
  } catch {
    // The sidecar died under it.
  }
  return result;
}

/** Callers that go on until they are stopped. */
function hammer(payer, place) {
  const calls = [];
  let running = true;
  const work = async () => {
    while (running) {
      const result = await call(place.url, payer.token);
      calls.push(result);
      if (!result.answered) await sleep(50);
    }
  };
  const all = Promise.all(Array.from({ length: CALLERS }, work));
  return {
    calls,
    stop: () => {
      running = false;
      return all;
    },
  };
}

/** What of a budget was ever settled and held at once. */
function watch(budget) {
  let [most, running] = [0, true];
  const done = (async () => {
    while (running) {
      most = Math.max(most, await counted(budget).catch(() => 0));
      await sleep(20);
    }
  })();
  return async () => {
    running = false;
    await done;
    return most;
  };
}

/** So many calls at once, each until the vendor has got it or no budget has room. */
function callAtOnce(payer, url) {
  const calls = [];
  const one = async () => {
    for (;;) {
      const result = await call(url, payer.token);
      calls.push(result);
      // PostgREST may be on its way to a new server, and an organization has a share of its connections.
      if (result.answered || result.code === undefined || result.code === 'budget_exceeded') return;
      await sleep(100);
    }
  };
  return { calls, all: Promise.all(Array.from({ length: AT_ONCE }, one)) };
}

export function llmTests() {
  describe('calls of models while what settles them dies', () => {
    test('each is charged once, what the vendor counted or up to what was held, and no budget is exceeded', async (t) => {
      await stopStackSidecar();
      const vendor = await newVendor();
      t.after(() => vendor.close());
      t.after(killSidecars);
      const payer = await newPayer();
      const variables = { KIJKO_REST_URL: `http://127.0.0.1:${REST_PORT}` };
      const start = () => Sidecar.start(vendor, { variables });
      let sidecar = await start();
      const place = { url: sidecar.url };
      const mostOf = watch(payer.budget);
      const hammering = hammer(payer, place);
      const answered = () => hammering.calls.filter((one) => one.answered).length;
      const goOn = async (what) => {
        const before = answered();
        const refused = () => hammering.calls.at(-1)?.code === 'budget_exceeded';
        await until(`calls to be answered ${what}`, () => answered() > before + 5 || refused(), { everyMs: 50 });
        await sleep(PAUSE_MS / 2);
      };

      await goOn('at first');
      for (const round of [1, 2]) {
        await sidecar.kill();
        sidecar = await start();
        place.url = sidecar.url;
        await goOn(`after kill ${round} of the sidecar`);
      }
      // A backend in the middle of a call of ours: the whole cluster restarts.
      const victim = await connect();
      const { rows } = await victim.query('select pg_backend_pid() as pid');
      await killBackend(rows[0].pid);
      await queryPatiently('select 1');
      await goOn('after the death of a backend');
      await killPostgres();
      await sidecar.kill();
      await kijkoDown();
      await kijkoUp();
      await stopStackSidecar();
      sidecar = await start();
      const lastKill = Date.now();
      place.url = sidecar.url;
      await goOn('after the death of the postmaster');

      // What is left of the budget.
      await until('the budget to be spent', () => hammering.calls.slice(-CALLERS).some((one) => one.code === 'budget_exceeded'), {
        everyMs: 100,
      });
      await hammering.stop();
      assert.ok((await mostOf()) <= AMOUNT, 'settled and held together never exceed the budget');
      assert.deepEqual(await sidecar.terminate(), { code: 0, signal: null });

      await endAbandoned(payer);
      await assertCharged(payer, hammering.calls, vendor.counted);
      const byName = new Map((await recordsOf(payer)).map((row) => [row.trace_id, row]));
      for (const { name, answered, begun } of hammering.calls)
        if (answered && begun > lastKill) assert.equal(byName.get(name).status, 'succeeded', 'nothing was killed before its settlement');
    });

    test('of 200 at once, an answered one counts exactly, or at its hold if the sidecar is killed before it has settled it', async (t) => {
      await stopStackSidecar();
      const vendor = await newVendor();
      t.after(() => vendor.close());
      t.after(killSidecars);
      const amount = 1_000_000;
      const payer = await newPayer(amount);
      const variables = { KIJKO_REST_URL: `http://127.0.0.1:${REST_PORT}` };
      const start = () => Sidecar.start(vendor, { variables });
      const mostOf = watch(payer.budget);
      const waiting = (sidecar) => sidecar.metric('kijko_llm_gateway_calls_unsettled');
      const recorded = async () => new Map((await recordsOf(payer)).map((row) => [row.trace_id, row]));

      // A backend dies while the vendor has all of them. They are answered, and settled when the database is back.
      let sidecar = await start();
      vendor.shut();
      const first = callAtOnce(payer, sidecar.url);
      await until('the vendor to have all calls', () => vendor.counted.size === AT_ONCE, { everyMs: 50 });
      const victim = await connect();
      const { rows } = await victim.query('select pg_backend_pid() as pid');
      await killBackend(rows[0].pid);
      vendor.open();
      await first.all;
      await queryPatiently('select 1');
      await until('all calls to be settled', async () => (await waiting(sidecar)) === 0, { everyMs: 100 });
      await sidecar.kill();
      const exact = await recorded();
      const answered = first.calls.filter((one) => one.answered);
      assert.equal(answered.length, AT_ONCE);
      for (const { name } of answered) {
        const { status, used, estimated } = exact.get(name);
        assert.deepEqual([status, used, estimated], ['succeeded', vendor.counted.get(name), false]);
      }
      const used = await payer.budgetUsed();
      assert.equal(
        used,
        [...exact.values()].reduce((sum, row) => sum + row.used, 0),
        'nothing is held any more',
      );

      // Another session has the rows of the open calls, so all are answered and none is settled when the sidecar is killed.
      const { held } = exact.get(answered[0].name);
      const room = used + WITH_ROOM * held;
      await query('update public.llm_budgets set amount = $2 where id = $1', [payer.budget, room]);
      sidecar = await start();
      vendor.shut();
      const second = callAtOnce(payer, sidecar.url);
      await until('the vendor to have what finds room', () => vendor.counted.size === AT_ONCE + WITH_ROOM, { everyMs: 50 });
      const refused = () => second.calls.filter((one) => one.code === 'budget_exceeded').length;
      await until('the others to be refused', () => refused() === AT_ONCE - WITH_ROOM, { everyMs: 50 });
      const other = await connect();
      t.after(() => other.end());
      await other.query('begin');
      await other.query('select 1 from private.llm_open_calls where organization = $1 for update', [payer.orgId]);
      vendor.open();
      await second.all;
      const names = second.calls.filter((one) => one.answered).map((one) => one.name);
      assert.equal(names.length, WITH_ROOM);
      await until('all to wait for their settlement', async () => (await waiting(sidecar)) === WITH_ROOM, { everyMs: 50 });
      assert.ok((await sidecar.metric('kijko_llm_gateway_oldest_unsettled_seconds')) > 0);
      await sidecar.kill();
      await other.query('rollback');
      assert.equal(await payer.budgetUsed(), room, 'all stay held');
      const { code } = await (async () => {
        sidecar = await start();
        return call(sidecar.url, payer.token);
      })();
      assert.equal(code, 'budget_exceeded', 'so there is no room for another one');
      assert.deepEqual(await sidecar.terminate(), { code: 0, signal: null });

      await endAbandoned(payer);
      const all = await recorded();
      for (const name of names) {
        const { status, error_code, used, estimated } = all.get(name);
        assert.deepEqual([status, error_code, used, estimated], ['failed', 'abandoned', held, true]);
      }
      assert.ok((await mostOf()) <= amount);
      assert.equal(await payer.budgetUsed(), room, 'and the budget has them at all that they held');
      await assertCharged(payer, [...first.calls, ...second.calls], vendor.counted, amount);
    });
  });
}

/** Their time is over: maintenance ends what nobody else will. */
async function endAbandoned(payer) {
  await queryAsAdmin(`update private.llm_open_calls set ends_at = clock_timestamp() where organization = $1`, [payer.orgId]);
  await until('no call to be open', async () => {
    await queryAsAdmin('call private.llm_maintain()');
    return (await query('select 1 from private.llm_open_calls where organization = $1', [payer.orgId])).length === 0;
  });
}

const recordsOf = (payer) =>
  query(
    `select trace_id, status, estimated, error_code, (input_tokens + output_tokens)::int as used, held_tokens::int as held, cost_microusd::int as cost
     from public.llm_calls where org_id = $1`,
    [payer.orgId],
  );

async function assertCharged(payer, calls, counted, amount = AMOUNT) {
  const rows = await recordsOf(payer);
  const byName = new Map(rows.map((row) => [row.trace_id, row]));
  assert.equal(byName.size, rows.length, 'one record for each call');
  let [exact, between] = [0, 0];
  for (const row of rows) {
    const what = JSON.stringify(row);
    assert.ok(['succeeded', 'failed', 'cancelled'].includes(row.status), `it has ended: ${what}`);
    const truth = counted.get(row.trace_id);
    if (row.status === 'succeeded') {
      assert.deepEqual([row.used, row.estimated], [truth, false], what);
      exact += 1;
    } else if (truth === undefined) {
      // Held and never sent is released; sent and never received is not known to be that.
      assert.ok(row.used === 0 || (row.estimated && row.used === row.held), what);
    } else {
      assert.ok(row.used >= truth && row.used <= row.held && row.estimated, `at least ${truth}: ${what}`);
      between += 1;
    }
  }
  for (const { name, answered } of calls) {
    if (answered) assert.ok(byName.has(name), `an answered call is recorded: ${name}`);
    // The database may forget what it has not written to disk, and then no vendor was called.
    if (!byName.has(name)) assert.ok(!counted.has(name), `a call that a vendor got is recorded: ${name}`);
  }
  assert.ok(exact > 20 && between > 0, `${exact} settled exactly, ${between} were killed`);
  const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  assert.ok(sum('used') <= amount, `${sum('used')} of ${amount}`);
  assert.equal(await payer.budgetUsed(), sum('used'), 'the budget counts each token once');
  const { llm_tokens, llm_cost_microusd } = await payer.used();
  assert.deepEqual([llm_tokens, llm_cost_microusd], [sum('used'), sum('cost')], 'and so do the meters of the plan');
}
