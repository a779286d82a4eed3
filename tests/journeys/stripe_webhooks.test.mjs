// Which deliveries Stripe's webhook accepts, and what it stores of them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import pg from 'pg';
import { until } from '../until.mjs';
import { newPerson } from './domain.mjs';
import { deliver, parseThin, recorded, signature } from './stripe_events.mjs';
import { harmless, newTag, OTHER_SECRETS, SECRET, send, stored } from './stripe_webhook.mjs';
import { env, sql } from './support.mjs';

describe('which deliveries are accepted', () => {
  test('an event with a valid signature is stored before the response', async () => {
    const event = harmless();
    const { status, body } = await send(event);
    assert.deepEqual([status, body], [200, { received: true, status: 'ignored', duplicate: false, error_code: null }]);
    assert.deepEqual((await stored(event.id)).payload, event);
  });

  test('each of the configured secrets is accepted', async () => {
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

  test('only a sender with a valid signature learns that a clock is wrong', async () => {
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

  test('clocks can differ by minutes', async () => {
    for (const skew of [-290, 290]) {
      const payload = JSON.stringify(harmless());
      const { status } = await send(payload, { header: signature(payload, SECRET, Math.floor(Date.now() / 1000) + skew) });
      assert.equal(status, 200, `${skew} s`);
    }
  });

  test('one valid signature among several is enough, as while a secret is rotated', async () => {
    const payload = JSON.stringify(harmless());
    const bad = signature(payload, 'whsec_old').split(',v1=')[1];
    const [time, good] = signature(payload, SECRET).split(',');
    assert.equal((await send(payload, { header: `${time},v1=${bad},${good}` })).status, 200);
  });

  test('a signed body that is not an event is refused', async () => {
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

  test('an oversized body is refused unread, and the sender can read why', async () => {
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

  test('an event with a NUL in a name is stored', async () => {
    const event = harmless();
    event.data.object.description = 'a\0b';
    assert.equal((await send(event)).status, 200);
    assert.equal((await stored(event.id)).payload.data.object.description, 'a\ufffdb');
  });

  test('an event with half a surrogate pair in a name is stored', async () => {
    const event = harmless();
    event.data.object.description = 'a\ud83d';
    assert.equal((await send(event)).status, 200);
    assert.equal((await stored(event.id)).payload.data.object.description, 'a\ufffd');
  });

  test('a malformed event is refused permanently, since sending it again would not help', async () => {
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

  test('a thin event is accepted and ignored, so that Stripe stops sending it', async () => {
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

  test('an event of another account is ignored', async () => {
    const person = await newPerson();
    for (const extra of [{ account: 'acct_1' }, { context: 'acct_1' }]) {
      const [session] = recorded('checkout', { orgId: person.orgId, tag: newTag() });
      assert.equal((await send({ ...session, ...extra })).body.status, 'ignored');
      assert.deepEqual(await sql('select from public.stripe_checkouts where id = $1', [session.data.object.id]), []);
    }
  });

  test('the content type does not matter, only the signature', async () => {
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

  test('of many deliveries at once each gets its own answer, also beside one that is refused', async () => {
    const events = Array.from({ length: 30 }, harmless);
    const refused = { ...harmless(), livemode: 'maybe' };
    const [refusal, ...answers] = await Promise.all([refused, ...events, ...events.slice(0, 5)].map((event) => send(event)));
    assert.deepEqual([refusal.status, refusal.body.code, await stored(refused.id)], [400, 'bad_request', undefined]);
    assert.deepEqual(new Set(answers.map(({ status, body }) => `${status} ${body.status}`)), new Set(['200 ignored']));
    assert.equal(answers.filter(({ body }) => body.duplicate).length, 5);
    for (const event of events) assert.deepEqual((await stored(event.id)).payload, event);
  });

  test('a delivery that waits for a lock of its customer delays no other', async () => {
    const person = await newPerson();
    const tag = newTag();
    const [created] = recorded('lifecycle', { orgId: person.orgId, tag });
    const blocker = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    await blocker.connect();
    try {
      await blocker.query('begin');
      await blocker.query('select pg_advisory_xact_lock(private.stripe_customer_lock($1, false))', [created.data.object.id]);
      let isAnswered = false;
      const answer = send(created).finally(() => (isAnswered = true));
      await until(
        'the delivery waits',
        async () => (await sql('select from pg_locks where locktype = $1 and not granted', ['advisory'])).length > 0,
      );
      const others = await Promise.all(Array.from({ length: 20 }, () => send(harmless())));
      assert.deepEqual([isAnswered, new Set(others.map(({ status }) => status))], [false, new Set([200])]);
      await blocker.query('commit');
      assert.deepEqual([(await answer).status, (await stored(created.id)).status], [200, 'applied']);
    } finally {
      await blocker.end();
    }
  });
});
