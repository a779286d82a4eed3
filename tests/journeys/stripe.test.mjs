// Stripe's webhooks against the running stack: who is believed, what is kept, and that the end does not depend on the way.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';
import { newPerson, ok, refused, usageOf } from './domain.mjs';
import { deliver, parseThin, recorded, signature } from './stripe_events.mjs';
import { admin, env, sql } from './support.mjs';

const SECRET = process.env.STRIPE_WEBHOOK_SECRET_LOCAL;
assert.ok(SECRET, 'STRIPE_WEBHOOK_SECRET_LOCAL is not set: export what ./kijko status -o env prints');
// What ./kijko test gives the stack besides; a stack started by hand has the local secret alone.
const OTHER_SECRETS = (process.env.STRIPE_WEBHOOK_SECRET ?? '').split(',').filter(Boolean);
// Of each recording, as recorded and in one second: 3,000 orders in all, and more for whoever has the time.
const SHUFFLES = Number(process.env.KIJKO_STRIPE_SHUFFLES ?? 50);

const newTag = () => `T${randomBytes(4).toString('hex')}`;
const send = (event, options) => deliver(env.API_URL, event, SECRET, options);
const planOf = async (orgId) => (await sql('select plan, status from public.subscriptions where org_id = $1', [orgId]))[0];
const stored = async (id) => (await sql('select * from private.stripe_events where id = $1', [id]))[0];
const harmless = () => ({
  id: `evt_1${newTag()}`,
  object: 'event',
  api_version: '2025-09-30.clover',
  created: Math.floor(Date.now() / 1000),
  livemode: false,
  data: { object: { id: 'ch_1', object: 'charge' } },
  pending_webhooks: 1,
  request: { id: null, idempotency_key: null },
  type: 'charge.succeeded',
});

describe('who is believed', () => {
  test('an event with a good signature is stored before the answer', async () => {
    const event = harmless();
    const { status, body } = await send(event);
    assert.deepEqual([status, body], [200, { received: true, status: 'ignored', duplicate: false, error_code: null }]);
    assert.deepEqual((await stored(event.id)).payload, event);
  });

  test('any of the configured secrets will do', async () => {
    for (const secret of [SECRET, ...OTHER_SECRETS]) assert.equal((await deliver(env.API_URL, harmless(), secret)).status, 200);
  });

  for (const [what, header] of Object.entries({
    'no signature': () => null,
    'a signature by another secret': (payload) => signature(payload, 'whsec_somebody_else'),
    'a signature of another body': () => signature('{}', SECRET),
    'an old signature': (payload) => signature(payload, SECRET, Math.floor(Date.now() / 1000) - 301),
    'a signature by another secret that is old besides': (payload) =>
      signature(payload, 'whsec_somebody_else', Math.floor(Date.now() / 1000) - 301),
    'a signature from the future': (payload) => signature(payload, SECRET, Math.floor(Date.now() / 1000) + 310),
    'only the test scheme v0': (payload) => signature(payload, SECRET).replace('v1=', 'v0='),
    nonsense: () => 'nonsense',
  })) {
    test(`${what} is refused and nothing is stored`, async () => {
      const event = harmless();
      const { status, body, text } = await send(event, { header: header(JSON.stringify(event)) });
      assert.deepEqual([status, body.code], [400, 'invalid_signature']);
      assert.ok(!text.includes(SECRET));
      assert.equal(await stored(event.id), undefined);
    });
  }

  test('only an authentic sender learns that a clock is wrong', async () => {
    const refusal = async (secret, age) => {
      const payload = JSON.stringify(harmless());
      return (await send(payload, { header: signature(payload, secret, Math.floor(Date.now() / 1000) - age) })).body.message;
    };
    const [forged, forgedAndOld, old] = [
      await refusal('whsec_somebody_else', 0),
      await refusal('whsec_somebody_else', 301),
      await refusal(SECRET, 301),
    ];
    assert.equal(forgedAndOld, forged);
    assert.notEqual(old, forged);
  });

  test('clocks may differ by minutes', async () => {
    for (const skew of [-290, 290]) {
      const payload = JSON.stringify(harmless());
      const { status } = await send(payload, { header: signature(payload, SECRET, Math.floor(Date.now() / 1000) + skew) });
      assert.equal(status, 200, `${skew} s`);
    }
  });

  test('one good signature among several is enough, as while a secret is rolled', async () => {
    const payload = JSON.stringify(harmless());
    const bad = signature(payload, 'whsec_old').split(',v1=')[1];
    const [time, good] = signature(payload, SECRET).split(',');
    assert.equal((await send(payload, { header: `${time},v1=${bad},${good}` })).status, 200);
  });

  test('signed, but no event', async () => {
    for (const payload of [
      '',
      'not JSON',
      '{',
      '[]',
      'null',
      '{}',
      '{"id":"cus_1","type":"a","created":1}',
      '{"id":"evt_1","type":7,"created":1}',
    ]) {
      const { status, body } = await send(payload);
      assert.deepEqual([status, body.code], [400, 'bad_request'], payload);
    }
  });

  test('a huge body is refused without being looked at, and the sender reads why', async () => {
    // The sidecar's limit, and the proxy's: one code for both.
    for (const size of [9_000_000, 11_000_000]) {
      const event = { ...harmless(), filler: 'x'.repeat(size) };
      // Often: a proxy that is still sending when the connection closes would say 502, but not each time.
      for (let i = 0; i < 10; i += 1) {
        const { status, body } = await send(event);
        assert.deepEqual([status, body.code, Object.keys(body)], [413, 'payload_too_large', ['code', 'message', 'details', 'hint']]);
      }
      assert.equal(await stored(event.id), undefined);
    }
  });

  test('a NUL in a name is no reason to lose an event', async () => {
    const event = harmless();
    event.data.object.description = 'a\0b';
    assert.equal((await send(event)).status, 200);
    assert.equal((await stored(event.id)).payload.data.object.description, 'a\ufffdb');
  });

  test('half an emoji in a name is no reason to lose an event', async () => {
    const event = harmless();
    event.data.object.description = 'a\ud83d';
    assert.equal((await send(event)).status, 200);
    assert.equal((await stored(event.id)).payload.data.object.description, 'a\ufffd');
  });

  test('what no event can be is refused for good, since sending it again would not help', async () => {
    const deep = 20_000; // JSON.stringify could not
    for (const [what, broken] of [
      ['no truth value', { livemode: 'maybe' }],
      ['too long', { api_version: 'v'.repeat(500) }],
      ['no time', { created: 2 ** 62 }],
      ['nested too deep', { pending_webhooks: 'deep' }],
    ]) {
      const event = { ...harmless(), ...broken };
      const { status, body } = await send(JSON.stringify(event).replace('"deep"', '['.repeat(deep) + ']'.repeat(deep)));
      assert.deepEqual([status, body.code], [400, 'bad_request'], what);
      assert.equal(await stored(event.id), undefined);
    }
  });

  test('a thin event is taken and ignored, so that Stripe does not go on sending it', async () => {
    const thin = {
      id: `evt_test_1${newTag()}`,
      object: 'v2.core.event',
      type: 'v1.billing.meter.error_report_triggered',
      created: new Date().toISOString(),
      livemode: false,
      context: null,
      reason: null,
      related_object: { id: 'mtr_1', type: 'billing.meter', url: '/v1/billing/meters/mtr_1' },
    };
    const payload = JSON.stringify(thin);
    // As the vendor's own library reads it.
    assert.equal(parseThin(payload, signature(payload, SECRET), SECRET).id, thin.id);
    for (const duplicate of [false, true]) {
      const { status, body } = await send(payload);
      assert.deepEqual([status, body], [200, { received: true, status: 'ignored', duplicate, error_code: null }]);
    }
    assert.equal((await stored(thin.id)).created.toISOString(), thin.created);
  });

  test('the same id in the other mode is another event', async () => {
    const event = harmless();
    for (const [livemode, duplicate] of [
      [false, false],
      [true, false],
      [true, true],
      [false, true],
    ]) {
      const { status, body } = await send({ ...event, livemode });
      assert.deepEqual([status, body.duplicate], [200, duplicate], `live ${livemode}`);
    }
  });

  test('what belongs to another account is ignored', async () => {
    const person = await newPerson();
    for (const extra of [{ account: 'acct_1' }, { context: 'acct_1' }]) {
      const [session] = recorded('checkout', { orgId: person.orgId, tag: newTag() });
      assert.equal((await send({ ...session, ...extra })).body.status, 'ignored');
      assert.deepEqual(await sql('select from public.stripe_checkouts where id = $1', [session.data.object.id]), []);
    }
  });

  test('the type of the content does not matter, the signature does', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded']) {
      const payload = JSON.stringify(harmless());
      const answer = await fetch(`${env.API_URL}/webhooks/stripe`, {
        method: 'POST',
        body: payload,
        headers: { 'Content-Type': type, 'Stripe-Signature': signature(payload, SECRET) },
      });
      assert.equal(answer.status, 200, type);
    }
  });

  test('ten deliveries of one event at once are one event', async () => {
    const person = await newPerson();
    const [first] = recorded('lifecycle', { orgId: person.orgId, tag: newTag() });
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(first)));
    assert.deepEqual(
      answers.map((answer) => answer.status),
      Array(10).fill(200),
    );
    assert.equal(answers.filter((answer) => !answer.body.duplicate).length, 1);
    assert.equal((await stored(first.id)).attempts, 1);
  });
});

describe('what follows', () => {
  test('a life in order, delivered by HTTP: plan and limits at each step', async () => {
    const person = await newPerson();
    const events = recorded('lifecycle', { orgId: person.orgId, tag: newTag() });
    // The renewal fails long before the end of the recording, so its grace must be counted from then.
    const failed = events.findIndex((event) => event.data.object.status === 'past_due');
    const steps = recorded('lifecycle', {
      orgId: person.orgId,
      tag: newTag(),
      end: Math.floor(Date.now() / 1000) + events.at(-1).created - events[failed].created,
    });
    const seen = [];
    for (const event of steps) {
      const { status, body } = await send(event);
      assert.deepEqual([status, body.status], [200, 'applied'], event.type);
      const { plan, status: standing } = await planOf(person.orgId);
      if (seen.at(-1) !== `${plan} ${standing}`) seen.push(`${plan} ${standing}`);
      const limit = { FREE: 50, PRO: 2000, TEAMS: 20000 }[plan];
      assert.equal((await usageOf(person)).executions.limit, limit, `${event.type}: limits move with the plan`);
    }
    assert.deepEqual(seen, ['FREE active', 'PRO active', 'TEAMS active', 'TEAMS past_due', 'TEAMS active', 'FREE canceled']);
    assert.equal((await ok(person.client.from('stripe_invoices').select('id,status'))).filter((row) => row.status === 'paid').length, 3);
  });

  test('all of it at once, by HTTP: the same end', async () => {
    const person = await newPerson();
    const events = recorded('lifecycle', { orgId: person.orgId, tag: newTag() });
    const answers = await Promise.all([...events, ...events].sort(() => Math.random() - 0.5).map((event) => send(event)));
    assert.deepEqual([...new Set(answers.map((answer) => answer.body.status))], ['applied']);
    assert.deepEqual(await planOf(person.orgId), { plan: 'FREE', status: 'canceled' });
    const invoices = await ok(person.client.from('stripe_invoices').select('status').order('created_at'));
    assert.deepEqual(
      invoices.map((invoice) => invoice.status),
      ['paid', 'paid', 'paid'],
    );
  });

  test('nothing unlocks while the session is unpaid', async () => {
    for (const [name, plan] of [
      ['settles_later', 'PRO'],
      ['never_settles', 'FREE'],
    ]) {
      const person = await newPerson();
      const events = recorded(name, { orgId: person.orgId, tag: newTag() });
      const money = events.findIndex((event) => /async_payment_succeeded/.test(event.type));
      for (const [n, event] of events.entries()) {
        assert.equal((await send(event)).body.status, 'applied');
        if (money < 0 || n < money) assert.equal((await planOf(person.orgId)).plan, 'FREE', `${name}: ${event.type}`);
      }
      assert.equal((await planOf(person.orgId)).plan, plan, name);
    }
  });

  test('a subscription stays locked while its first invoice is open, whatever else is paid', async () => {
    for (const [reason, plan] of [
      ['subscription_update', 'FREE'],
      ['subscription_create', 'PRO'],
    ]) {
      const person = await newPerson();
      const events = recorded('never_settles', { orgId: person.orgId, tag: newTag() }).slice(0, 3);
      for (const event of events) assert.equal((await send(event)).body.status, 'applied');
      const open = events.find((event) => event.type === 'invoice.finalized');
      assert.equal(open.data.object.status, 'open');
      const paid = structuredClone(open);
      Object.assign(paid, { id: `${open.id}x`, type: 'invoice.paid' });
      Object.assign(paid.data.object, {
        id: `${open.data.object.id}x`,
        billing_reason: reason,
        status: 'paid',
        total: 0,
        amount_due: 0,
        amount_paid: 0,
        amount_remaining: 0,
      });
      assert.equal((await send(paid)).body.status, 'applied');
      assert.equal((await planOf(person.orgId)).plan, plan, reason);
    }
  });

  test('a plan that an operator gave is left alone, and given back to Stripe', async () => {
    const person = await newPerson();
    const override = (plan) =>
      admin().from('subscriptions').update({ plan_override: plan }).eq('org_id', person.orgId).select('plan').single();
    assert.equal((await ok(override('ENTERPRISE'))).plan, 'ENTERPRISE');
    for (const event of recorded('checkout', { orgId: person.orgId, tag: newTag() }))
      assert.equal((await send(event)).body.status, 'applied');
    assert.equal((await planOf(person.orgId)).plan, 'ENTERPRISE');
    assert.equal((await usageOf(person)).executions.limit, null);
    await ok(override(null));
    assert.deepEqual(await planOf(person.orgId), { plan: 'PRO', status: 'active' });
    assert.equal((await usageOf(person)).executions.limit, 2000);
    await refused(person.client.from('subscriptions').update({ plan_override: 'ENTERPRISE' }).eq('org_id', person.orgId), 403, '42501');
  });

  test('what cannot be applied is kept, told, and made good by ./kijko stripe replay', async () => {
    const person = await newPerson();
    const tag = newTag();
    const [session, created] = recorded('one_second', { orgId: person.orgId, tag });
    const broken = structuredClone(created);
    broken.data.object.items.data[0].current_period_end = 'soon';
    assert.equal((await send(session)).body.status, 'applied');
    const answer = await send(broken);
    assert.deepEqual([answer.status, answer.body.status, answer.body.error_code], [200, 'failed', '22P02']);
    const kept = await stored(broken.id);
    assert.equal(kept.status, 'failed');
    assert.match(kept.error, /soon/);
    assert.ok(kept.next_attempt_at > new Date());

    const ready = await fetch(`${process.env.SIDECAR_URL}/ready`).then((response) => response.json());
    assert.equal(ready.checks.stripe.status, 'degraded');
    assert.ok(ready.checks.stripe.failed >= 1);
    const metrics = await fetch(`${process.env.SIDECAR_URL}/metrics`).then((response) => response.text());
    assert.match(metrics, /kijko_stripe_backlog\{state="failed"\} [1-9]/);
    assert.match(metrics, /kijko_stripe_events_total\{type="customer.subscription.created",outcome="failed"\} [1-9]/);
    assert.match(metrics, /kijko_stripe_rejected_total\{reason="signature_mismatch"\} [1-9]/);

    const kijko = (...args) =>
      promisify(execFile)(fileURLToPath(new URL('../../kijko', import.meta.url)), ['stripe', ...args], {
        env: {
          ...process.env,
          KIJKO_HOME: process.env.TEST_HOME ?? process.env.KIJKO_HOME,
          KIJKO_API_PORT: process.env.TEST_PORT ?? new URL(env.API_URL).port,
        },
      });
    assert.match((await kijko('status')).stdout, new RegExp(broken.id));
    const again = await kijko('replay', broken.id).catch((error) => error);
    assert.equal(again.code, 1, 'it fails again');
    await sql('update private.stripe_events set payload = $2 where id = $1', [broken.id, JSON.stringify(created)]);
    assert.match((await kijko('replay', '--failed')).stdout, new RegExp(`^applied ${broken.id} `, 'm'));
    assert.equal((await planOf(person.orgId)).plan, 'PRO');
    assert.equal((await kijko('replay', 'evt_missing').catch((error) => error)).code, 1);
    assert.equal((await kijko('replay').catch((error) => error)).code, 2);
  });
});

describe('the end does not depend on the way', () => {
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
    standing: end.plan.status,
    subscriptions: end.subscriptions?.map((s) => s.status),
    invoices: end.invoices?.map((i) => i.status).sort(),
    failed: end.failed,
  });
  // As if all had happened within one second: nothing but the contents can tell the order.
  const inOneSecond = (events) => events.map((event) => ({ ...event, created: events.at(-1).created }));

  function sevenEvents(orgId, tag) {
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
    return picked;
  }

  async function everyOrder({ orgId, tag, events, on }) {
    const found = new Set();
    for (const one of events) {
      for (const other of events.filter((event) => event !== one)) {
        const rest = events.filter((event) => event !== one && event !== other);
        const { rows } = await undone(
          events.at(-1).created,
          async () => {
            for (const event of [one, other]) await on.query('select private.ingest_stripe_event($1)', [JSON.stringify(event)]);
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

  test('every order of seven events of a life: sign-up, upgrade, failed payment, recovery, cancel', async (t) => {
    await Promise.all(
      [
        ['as recorded', (events) => events, db],
        ['in one second', inOneSecond, second],
      ].map(async ([what, moved, on]) => {
        const { orgId } = await newPerson();
        const tag = newTag();
        const found = await everyOrder({ orgId, tag, events: moved(sevenEvents(orgId, tag)), on });
        t.diagnostic(`${what}: 5040 orders, ${found.length} end`);
        assert.equal(found.length, 1);
        assert.deepEqual(summary(JSON.parse(found[0])), {
          plan: 'FREE',
          standing: 'canceled',
          subscriptions: ['canceled'],
          invoices: undefined,
          failed: null,
        });
      }),
    );
  });

  for (const name of ['lifecycle', 'lifecycle_2024', 'settles_later', 'never_settles', 'one_second', 'transferred_key']) {
    test(`${name}: whole, in thousands of orders and with events twice`, async (t) => {
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

  test('after each step of a life the past can come in any order', async (t) => {
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
