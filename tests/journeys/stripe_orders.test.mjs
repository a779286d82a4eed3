// The same events in another order, twice or at once lead to the same state.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { newPerson } from './domain.mjs';
import { recorded } from './stripe_events.mjs';
import { newTag } from './stripe_webhook.mjs';
import { env } from './support.mjs';

// Of each recording, as recorded and in one second: 3,000 orders in all, and more by the variable.
const SHUFFLES = Number(process.env.KIJKO_STRIPE_SHUFFLES ?? 50);
// Of six events all 720 orders; all 5,040 of seven take minutes.
const SEVEN = process.env.KIJKO_STRIPE_SHUFFLES !== undefined;

describe('the order of events does not matter', () => {
  let db;
  // The orders are so many that two connections share them: as many as the smallest machine has cores.
  let second;
  before(async () => {
    [db, second] = await Promise.all([connect(), connect()]);
  });
  after(() => Promise.all([db.end(), second.end()]));

  async function connect() {
    const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    await client.connect();
    await client.query(readFileSync(new URL('stripe_orders.sql', import.meta.url), 'utf8'));
    // The tables hold little that is alive and much that was undone, which the planner does not know.
    await client.query('set enable_seqscan = off');
    await client.query('set jit = off'); // which the former would turn on, by its costs
    return client;
  }

  const clean = (on = db) =>
    on.query(
      'vacuum private.stripe_events, public.stripe_customers, public.stripe_checkouts, public.stripe_subscriptions, public.stripe_invoices, public.stripe_prices, public.subscriptions',
    );

  // Each batch in a transaction that is rolled back, at the product time of the last event.
  async function undone(end, work, on = db) {
    await on.query('begin');
    try {
      await on.query(`select set_config('kijko.clock_offset', (to_timestamp($1) - now())::text, true)`, [end + 60]);
      return await work();
    } finally {
      await on.query('rollback');
    }
  }
  const inOrder = (orgId, tag, events, end = events.at(-1).created) =>
    undone(end, async () => (await db.query('select pg_temp.apply($1, $2, $3) as e', [orgId, tag, JSON.stringify(events)])).rows[0].e);
  async function shuffled(orgId, tag, events, count, end = events.at(-1).created) {
    const found = new Set();
    for (let from = 0; from < count; from += 50) {
      const { rows } = await undone(end, () =>
        db.query(
          'select distinct pg_temp.apply($1, $2, $3, n / 1e6::double precision, n % 2 = 0) as e from generate_series($4::int, $5::int) as n',
          [orgId, tag, JSON.stringify(events), from + 1, Math.min(from + 50, count)],
        ),
      );
      for (const row of rows) found.add(row.e);
      await clean();
    }
    return [...found].map((end) => JSON.parse(end));
  }
  const summary = (end) => ({
    plan: end.plan.plan,
    status: end.plan.status,
    subscriptions: end.subscriptions?.map((s) => s.status),
    invoices: end.invoices?.map((i) => i.status).sort(),
    failed: end.failed,
  });
  // As if all had happened within one second: nothing but the contents can tell the order.
  const inOneSecond = (events) => events.map((event) => ({ ...event, created: events.at(-1).created }));

  function fewEvents(orgId, tag) {
    const all = recorded('lifecycle', { orgId, tag });
    const isSubscription = (status) => (event) => event.data.object.object === 'subscription' && event.data.object.status === status;
    const picked = [
      all.find((event) => event.type === 'customer.subscription.created'),
      all.find((event) => event.type === 'checkout.session.completed'),
      all.find(isSubscription('active')),
      all.find((event) => event.data.object.object === 'subscription' && event.data.object.plan.id !== all[1].data.object.plan.id),
      all.find(isSubscription('past_due')),
      all.findLast((event) => isSubscription('active')(event) && event.data.previous_attributes.status === 'past_due'),
      all.at(-1),
    ];
    assert.deepEqual(
      picked,
      all.filter((event) => picked.includes(event)).sort((a, b) => picked.indexOf(a) - picked.indexOf(b)),
    );
    return SEVEN ? picked : picked.filter((_, n) => n !== 2);
  }

  async function everyOrder({ orgId, tag, events, on }) {
    const found = new Set();
    for (const one of events) {
      for (const other of events.filter((event) => event !== one)) {
        const rest = events.filter((event) => event !== one && event !== other);
        const { rows } = await undone(
          events.at(-1).created,
          async () => {
            for (const event of [one, other]) await on.query('select private.stripe_ingest_event($1)', [JSON.stringify(event)]);
            return on.query('select unnest(pg_temp.permute($1, $2, $3)) as e', [orgId, tag, JSON.stringify(rest)]);
          },
          on,
        );
        for (const row of rows) found.add(row.e);
      }
      await clean(on);
    }
    return [...found];
  }

  test('every order of a few events: sign-up, upgrade, failed payment, recovery, cancel', async (t) => {
    await Promise.all(
      [
        ['as recorded', (events) => events, db],
        ['in one second', inOneSecond, second],
      ].map(async ([what, moved, on]) => {
        const { orgId } = await newPerson();
        const tag = newTag();
        const events = moved(fewEvents(orgId, tag));
        const found = await everyOrder({ orgId, tag, events, on });
        t.diagnostic(`${what}: every order of ${events.length} events, ${found.length} end`);
        assert.equal(found.length, 1);
        assert.deepEqual(summary(JSON.parse(found[0])), {
          plan: 'FREE',
          status: 'canceled',
          subscriptions: ['canceled'],
          invoices: undefined,
          failed: null,
        });
      }),
    );
  });

  for (const name of ['lifecycle', 'lifecycle_2024', 'settles_later', 'never_settles', 'one_second', 'transferred_key']) {
    test(`${name}: in thousands of orders, with events twice`, async (t) => {
      const person = await newPerson();
      const tag = newTag();
      const events = recorded(name, { orgId: person.orgId, tag });
      for (const [what, some] of [
        ['as recorded', events],
        ['in one second', inOneSecond(events)],
      ]) {
        const expected = JSON.parse(await inOrder(person.orgId, tag, some));
        assert.equal(expected.failed, null);
        const found = await shuffled(person.orgId, tag, some, SHUFFLES);
        t.diagnostic(`${what}: ${events.length} events, ${SHUFFLES} orders, ${found.length} end: ${JSON.stringify(summary(expected))}`);
        assert.deepEqual(found, [expected]);
        assert.deepEqual(summary(expected), summary(JSON.parse(await inOrder(person.orgId, tag, events))), 'the one second tells the same');
      }
    });
  }

  test('after each event the earlier ones can arrive in any order', async (t) => {
    const person = await newPerson();
    const tag = newTag();
    let ways = 0;
    for (const name of ['lifecycle', 'one_second']) {
      const events = recorded(name, { orgId: person.orgId, tag });
      for (let n = 2; n <= events.length; n += 1) {
        const soFar = events.slice(0, n);
        const truth = summary(JSON.parse(await inOrder(person.orgId, tag, soFar)));
        for (const some of [soFar, inOneSecond(soFar)]) {
          const found = await shuffled(person.orgId, tag, some, 20);
          assert.equal(found.length, 1, `${name}, the first ${n}`);
          assert.deepEqual(summary(found[0]), truth, `${name}, the first ${n}: ${soFar.at(-1).type}`);
          ways += 20;
        }
      }
    }
    t.diagnostic(`${ways} orders`);
  });
});
