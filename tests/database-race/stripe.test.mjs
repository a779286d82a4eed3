// Stripe's events in concurrent sessions: which of them wait for each other, and which must not.
//   ADMIN_DB_URL=… node --test tests/database-race/stripe.test.mjs
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { atEnd, one, pool, untilWaiting } from './support.mjs';

const MARK = `R${randomBytes(4).toString('hex')}`;
const orgs = [];
atEnd(async () => {
  await pool.query('delete from public.organizations where id = any($1)', [orgs]);
  for (const table of [
    'private.stripe_events',
    'public.stripe_customers',
    'public.stripe_checkouts',
    'public.stripe_subscriptions',
    'public.stripe_invoices',
    'public.stripe_prices',
  ]) {
    await pool.query(`delete from ${table} where id like '%' || $1 || '%'`, [MARK]);
  }
  await pool.query('delete from private.stripe_price_changes where price_id like $1', [`%${MARK}%`]);
  await pool.query('delete from private.stripe_plan_refreshes where org_id = any($1)', [orgs]);
});

let number = 0;
const now = Math.floor(Date.now() / 1000);
const id = (kind) => `${kind}_${MARK}x${(number += 1)}`;
const event = (type, second, object, before) => ({
  id: id('evt'),
  object: 'event',
  type,
  created: now + second,
  livemode: false,
  api_version: '2025-09-30.clover',
  data: { object: { created: now, ...object }, ...(before && { previous_attributes: before }) },
});
const price = (priceId, key, extra) => ({
  id: priceId,
  object: 'price',
  lookup_key: key,
  currency: 'eur',
  unit_amount: 2900,
  active: true,
  ...extra,
});
const session = (sessionId, customer, subscription, org, extra) => ({
  id: sessionId,
  object: 'checkout.session',
  mode: 'subscription',
  status: 'complete',
  payment_status: 'paid',
  customer,
  subscription,
  client_reference_id: org,
  ...extra,
});
const subscription = (subscriptionId, customer, priceId, key, extra) => ({
  id: subscriptionId,
  object: 'subscription',
  customer,
  status: 'active',
  collection_method: 'charge_automatically',
  metadata: {},
  items: {
    data: [
      {
        id: `si_${subscriptionId}`,
        object: 'subscription_item',
        quantity: 1,
        current_period_start: now,
        current_period_end: now + 2_592_000,
        price: { id: priceId, object: 'price', lookup_key: key },
      },
    ],
  },
  ...extra,
});
const ingest = async (on, one) => {
  const { rows } = await on.query('select status, error_code from private.stripe_ingest_event($1)', [JSON.stringify(one)]);
  assert.deepEqual(rows, [{ status: 'applied', error_code: null }], one.type);
};
const planOf = async (org) => (await one('select plan from public.subscriptions where org_id = $1', [org])).plan;

async function newOrg() {
  const { id: org } = await one('insert into public.organizations (name, slug) values ($1, $1) returning id', [`race-${randomUUID()}`]);
  orgs.push(org);
  return org;
}

/** An organization that pays for a price. */
async function subscribed(priceId, key) {
  const org = await newOrg();
  const [customer, sub] = [id('cus'), id('sub')];
  await ingest(pool, event('checkout.session.completed', 0, session(id('cs'), customer, sub, org)));
  await ingest(pool, event('customer.subscription.created', 0, subscription(sub, customer, priceId, key)));
  return { org, customer, sub };
}

/** The first event stays uncommitted until the second waits for it. */
async function racing(first, second) {
  const [a, b] = [await pool.connect(), await pool.connect()];
  try {
    await a.query('begin');
    await ingest(a, first);
    const done = ingest(b, second);
    await untilWaiting(b, a);
    await a.query('commit');
    await done;
  } finally {
    a.release(true);
    b.release(true);
  }
}

test('of two events of one object, the older one waits and does not undo the newer one', async () => {
  const priceId = id('price');
  await racing(
    event('price.updated', 9, price(priceId, 'pro_monthly', { nickname: 'new' })),
    event('price.updated', 1, price(priceId, 'pro_monthly', { nickname: 'old' })),
  );
  assert.equal((await one('select nickname from public.stripe_prices where id = $1', [priceId])).nickname, 'new');

  // Without a customer yet, so that nothing but the object itself connects the two.
  const [org, sessionId] = [await newOrg(), id('cs')];
  await racing(
    event('checkout.session.completed', 9, session(sessionId, id('cus'), id('sub'), org)),
    event('checkout.session.expired', 1, session(sessionId, null, null, org, { status: 'open', payment_status: 'unpaid' })),
  );
  assert.equal((await one('select status from public.stripe_checkouts where id = $1', [sessionId])).status, 'complete');
});

test('of two objects of one customer, the second to be applied sees the first', async () => {
  for (const sessionFirst of [true, false]) {
    const [org, customer, sub] = [await newOrg(), id('cus'), id('sub')];
    // Known before, so that the two do not meet at the insertion of its row.
    await ingest(pool, event('customer.created', 0, { id: customer, object: 'customer', metadata: {} }));
    const events = [
      event('checkout.session.completed', 1, session(id('cs'), customer, sub, org)),
      event('customer.subscription.created', 1, subscription(sub, customer, id('price'), 'pro_monthly')),
    ];
    await racing(...(sessionFirst ? events : events.reverse()));
    assert.equal(await planOf(org), 'PRO');
  }
});

test('an object in live mode does not wait for the same object in test mode', async () => {
  const priceId = id('price');
  const [a, b] = [await pool.connect(), await pool.connect()];
  try {
    await a.query('begin');
    await ingest(a, event('price.updated', 1, price(priceId, 'pro_monthly')));
    await b.query(`set lock_timeout = '1min'`);
    await ingest(b, { ...event('price.updated', 1, price(priceId, 'teams_monthly')), livemode: true });
    await a.query('commit');
    await b.query('reset lock_timeout');
  } finally {
    a.release(true);
    b.release(true);
  }
  const { rows } = await pool.query('select lookup_key, livemode from public.stripe_prices where id = $1 order by livemode', [priceId]);
  assert.deepEqual(rows, [
    { lookup_key: 'pro_monthly', livemode: false },
    { lookup_key: 'teams_monthly', livemode: true },
  ]);
});

test('an event of a price that many organizations use blocks no other event and updates all of them', async () => {
  const [popular, other] = [id('price'), id('price')];
  const users = [];
  for (let n = 0; n < 60; n += 1) users.push(await subscribed(popular, 'pro_monthly'));
  const unrelated = await subscribed(other, 'pro_monthly');
  // Among the last in the order of the refreshes, and not the one that the holder locks.
  const last = users
    .slice(1)
    .toSorted((x, y) => (x.org < y.org ? -1 : 1))
    .at(-1);
  const [a, b, holder] = [await pool.connect(), await pool.connect(), await pool.connect()];
  try {
    // Another session works on one of them, for as long as this takes; and the price's event is not committed either.
    await holder.query('begin');
    await holder.query('select from public.subscriptions where org_id = $1 for update', [users[0].org]);
    await a.query('begin');
    await a.query(`set local lock_timeout = '1min'`);
    await ingest(a, event('price.updated', 5, price(popular, 'teams_monthly')));

    await b.query(`set lock_timeout = '1min'`);
    await ingest(
      b,
      event(
        'customer.subscription.deleted',
        6,
        subscription(unrelated.sub, unrelated.customer, other, 'pro_monthly', { status: 'canceled' }),
      ),
    );
    assert.equal(await planOf(unrelated.org), 'FREE', 'of another price');
    await ingest(
      b,
      event('customer.subscription.deleted', 6, subscription(last.sub, last.customer, popular, 'pro_monthly', { status: 'canceled' })),
    );
    assert.equal(await planOf(last.org), 'FREE', 'of the same price');
    // And one that is subscribed before the price's new key can be seen.
    users.push(await subscribed(popular, 'pro_monthly'));
    assert.equal(await planOf(users.at(-1).org), 'PRO');
    await b.query('reset lock_timeout');
    await a.query('commit');

    await pool.query('call private.stripe_apply_price_changes()');
    assert.equal(await planOf(users[0].org), 'PRO', 'the one that is busy has its turn later');
    await holder.query('commit');
  } finally {
    for (const client of [a, b, holder]) client.release();
  }
  const behind = async () => {
    await pool.query('update private.stripe_plan_refreshes set due_at = clock_timestamp() where org_id = any($1)', [orgs]);
    await pool.query('call private.stripe_apply_price_changes()');
    const { rows } = await pool.query(
      `select plan, count(*)::int as n from public.subscriptions where org_id = any($1) group by plan order by plan`,
      [users.map((user) => user.org)],
    );
    return JSON.stringify(rows);
  };
  const expected = JSON.stringify([
    { plan: 'FREE', n: 1 },
    { plan: 'TEAMS', n: 60 },
  ]);
  // An open transaction of another session, as a backup's, puts the second look off.
  let found;
  for (let tries = 0; tries < 240 && (found = await behind()) !== expected; tries += 1)
    await new Promise((resolve) => setTimeout(resolve, 250));
  assert.equal(found, expected);
});
