// Calls of models that hold against one budget at once, and sessions that are terminated in between.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import pg from 'pg';
import { until } from '../until.mjs';
import { atOnce, becomeUser, newTenant, one, pool, queryAs, untilWaiting, used, whileOpen } from './support.mjs';

const AUTHORIZE = `select public.authorize_llm_call('echo/a', input_tokens => $1, max_output_tokens => $2) ->> 'ticket' as ticket`;
const OPEN = `select private.llm_open($1) ->> 'call_id' as id`;
const SETTLE = `select private.llm_settle($1, $2) as settled`;
const SETTLE_MANY = `select private.llm_settle_many($1, $2) as settled`;
// As the gateway does: the call is sent when it is authorized.
const OPEN_AT_ONCE = `select public.authorize_llm_call('echo/a', input_tokens => $1, max_output_tokens => $2) #>> '{opened,call_id}' as id
from (select set_config('request.headers', $3, true) offset 0) as sent`;

/** A tenant whose plan does not refuse, with a budget that does. */
async function newPayer(amount, budget = {}) {
  const { user, org } = await newTenant();
  await pool.query(
    `select kijko.set_limit($1, meter, 'month', 1000000000) from unnest('{llm_tokens,llm_cost_microusd}'::text[]) as meter`,
    [org],
  );
  const { scope = 'organization', period = 'total' } = budget;
  const { id } = await one(
    `insert into public.llm_budgets (org_id, name, scope, period, unit, amount) values ($1, 'race', $2, $3, 'tokens', $4) returning id`,
    [org, scope, period, amount],
  );
  return { user, org, budget: id };
}

/** What the budget's subjects count: settled and held. */
const counted = async (budget) =>
  Number(
    (
      await one(
        `select coalesce(sum((kijko.quota_status(k.subject, 'llm_tokens')).used), 0) as used from private.llm_budget_subjects as k where k.budget_id = $1`,
        [budget],
      )
    ).used,
  );

const openCalls = async (org) => (await one('select count(*)::int as n from private.llm_open_calls where organization = $1', [org])).n;

/** The use of all ended calls. */
const recorded = async (org) =>
  Number((await one('select coalesce(sum(input_tokens + output_tokens), 0) as n from public.llm_calls where org_id = $1', [org])).n);

/** A transaction whose backend is terminated before it commits. False if a statement of it was refused. */
async function killed(run) {
  const session = new pg.Client({ connectionString: process.env.ADMIN_DB_URL });
  session.on('error', () => {});
  await session.connect();
  const ended = new Promise((resolve) => session.once('end', resolve));
  await session.query('begin');
  const done = await run(session).then(
    () => true,
    (error) => {
      assert.equal(error.code, 'KJ431');
      return false;
    },
  );
  await pool.query('select pg_terminate_backend($1)', [session.processID]);
  await ended;
  return done;
}

async function call(user, input, output) {
  const { rows, refused } = await queryAs(user, AUTHORIZE, [input, output]);
  return refused ? { refused } : { id: (await one(OPEN, [rows[0].ticket])).id };
}

async function callAtOnce(user, input, output) {
  const { pass } = await one('select private.llm_gateway_pass() as pass');
  const id = randomUUID();
  const headers = { 'x-kijko-gateway': pass, 'x-kijko-call': id };
  const { rows, refused } = await queryAs(user, OPEN_AT_ONCE, [input, output, headers]);
  if (!refused) assert.equal(rows[0].id, id);
  return { id, refused };
}

for (const budget of [{}, { scope: 'member', period: 'week' }]) {
  test(`of 200 calls at once, exactly those pass that a new budget has room for: ${JSON.stringify(budget)}`, async () => {
    const payer = await newPayer(5000, budget);
    const answers = await atOnce(200, () => queryAs(payer.user, AUTHORIZE, [60, 40]));
    assert.equal(answers.filter((a) => a.rows).length, 50);
    assert.deepEqual([...new Set(answers.filter((a) => a.refused).map((a) => a.refused))], ['KJ431']);
    assert.equal(await counted(payer.budget), 5000);
    assert.equal(await openCalls(payer.org), 50);
    // What is refused by a budget leaves nothing on the plan's meter.
    assert.equal(await used(payer.org, 'llm_tokens'), 5000);
  });
}

test('while calls are made, settled, lost and killed, settled and held use never exceeds the budget, and in the end every token is counted once', async () => {
  const AMOUNT = 20000;
  const { user, org, budget } = await newPayer(AMOUNT);
  let most = 0;
  let running = true;
  const watch = (async () => {
    while (running) most = Math.max(most, await counted(budget));
  })();
  const seen = { refused: 0, settled: 0, lost: 0, killed: 0 };
  await atOnce(20, async (n) => {
    for (let turn = 0; turn < 25; turn++) {
      const dice = (n * 7 + turn * 3) % 10;
      if (dice === 0) {
        // The backend dies with the call authorized and not committed.
        const done = await killed(async (session) => {
          await becomeUser(session, user);
          await session.query(AUTHORIZE, [300, 200]);
        });
        seen[done ? 'killed' : 'refused'] += 1;
        continue;
      }
      const made = await (dice % 2 ? call : callAtOnce)(user, 300, 200);
      if (made.refused) {
        assert.equal(made.refused, 'KJ431');
        seen.refused += 1;
      } else if (dice === 1) {
        seen.lost += 1;
      } else if (dice === 2) {
        // The backend dies with the call settled and not committed; the sidecar settles it again.
        await killed((session) => session.query(SETTLE, [made.id, { status: 'succeeded', prompt_tokens: 20, completion_tokens: 30 }]));
        assert.ok((await one(SETTLE, [made.id, { status: 'succeeded', prompt_tokens: 20, completion_tokens: 30 }])).settled);
        seen.killed += 1;
      } else {
        const usage = { status: 'succeeded', prompt_tokens: 10 + turn, completion_tokens: 20 };
        const { settled } = await one(SETTLE_MANY, [[made.id, randomUUID()], JSON.stringify([usage, usage])]);
        assert.equal(settled[made.id].tokens, 30 + turn);
        assert.equal((await one(SETTLE, [made.id, usage])).settled, null, 'settled once');
        seen.settled += 1;
      }
    }
  });
  running = false;
  await watch;
  assert.ok(most <= AMOUNT, `${most} of ${AMOUNT} at once`);
  assert.ok(
    Object.values(seen).every((n) => n > 0),
    JSON.stringify(seen),
  );
  // What was sent and lost counts as its whole hold.
  assert.equal(await openCalls(org), seen.lost);
  await pool.query(`update private.llm_open_calls set ends_at = clock_timestamp() where organization = $1`, [org]);
  // pg_cron may be settling some of them, which these then pass over.
  await until('no call to be open', async () => {
    await Promise.all([one('select private.llm_settle_abandoned()'), one('select private.llm_settle_abandoned()')]);
    return (await openCalls(org)) === 0;
  });
  const { lost } = await one(
    `select count(*)::int as lost from public.llm_calls where org_id = $1 and error_code = 'abandoned' and estimated`,
    [org],
  );
  assert.equal(lost, seen.lost);
  const total = await recorded(org);
  assert.ok(total <= AMOUNT && total > 0);
  assert.equal(await counted(budget), total, 'the budget counts what the calls say');
  assert.equal(await used(org, 'llm_tokens'), total, 'and so does the meter');
  // The rest of the budget can be used, to the last token.
  assert.equal((await queryAs(user, AUTHORIZE, [AMOUNT - total, 1])).refused, 'KJ431');
  assert.ok((await queryAs(user, AUTHORIZE, [AMOUNT - total - 1, 1])).rows);
});

test('a call that twelve sessions settle at once is settled once', async () => {
  const { user, org, budget } = await newPayer(1000);
  const { id } = await call(user, 100, 100);
  const answers = await atOnce(12, () => one(SETTLE, [id, { status: 'succeeded', prompt_tokens: 50, completion_tokens: 50 }]));
  assert.equal(answers.filter((a) => a.settled).length, 1);
  assert.equal(await counted(budget), 100);
  assert.equal(await recorded(org), 100);
});

test('a budget that is deleted while calls against it are open takes nothing with it', async () => {
  const { user, org, budget } = await newPayer(1000);
  const calls = await atOnce(8, () => call(user, 50, 50));
  await Promise.all([
    pool.query('delete from public.llm_budgets where id = $1', [budget]),
    ...calls.map(({ id }) => one(SETTLE, [id, { status: 'succeeded', prompt_tokens: 5, completion_tokens: 5 }])),
  ]);
  assert.equal(await openCalls(org), 0);
  assert.equal(await recorded(org), 80);
  assert.equal(await used(org, 'llm_tokens'), 80);
});

test('settling a call whose organization is being deleted waits for the deletion, and then does nothing', async () => {
  const { user, org } = await newPayer(1000);
  const { id } = await call(user, 50, 50);
  const settler = await pool.connect();
  try {
    await whileOpen('delete from public.organizations where id = $1', [org], async (_, session) => {
      const settled = settler.query(SETTLE, [id, { status: 'succeeded', prompt_tokens: 5, completion_tokens: 5 }]);
      await untilWaiting(settler, session);
      await session.query('commit');
      assert.equal((await settled).rows[0].settled, null);
    });
  } finally {
    settler.release(true);
  }
});

test('settlements together leave out an organization that is being changed, and a call that another session settles, and wait for neither', async () => {
  const [locked, other] = [await newPayer(1000), await newPayer(1000)];
  const [first, second, third] = [await call(locked.user, 50, 50), await call(other.user, 50, 50), await callAtOnce(other.user, 50, 50)];
  const usage = { status: 'succeeded', prompt_tokens: 5, completion_tokens: 5 };
  const ids = [first.id, second.id, third.id, randomUUID()];
  const usages = JSON.stringify(ids.map(() => usage));
  await whileOpen(`update public.organizations set slug = slug || 'x' where id = $1`, [locked.org], () =>
    whileOpen(SETTLE, [third.id, usage], async () => {
      const { settled } = await one(SETTLE_MANY, [ids, usages]);
      assert.deepEqual(Object.keys(settled).sort(), [second.id, ids[3]].sort());
      assert.deepEqual([settled[second.id].tokens, settled[ids[3]]], [10, null]);
    }),
  );
  // Both were rolled back.
  const { settled } = await one(SETTLE_MANY, [ids, usages]);
  assert.deepEqual([settled[first.id].tokens, settled[second.id], settled[third.id].tokens], [10, null, 10]);
  assert.equal(await recorded(other.org), 20);
});
