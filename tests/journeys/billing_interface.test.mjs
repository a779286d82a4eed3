// What is sent to Stripe against what Stripe publishes: the pinned version, and that the fake's checks find faults.
//   node --test tests/journeys/billing_interface.test.mjs
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { API_VERSION, parseForm, problem } from '../fake_stripe/interface.mjs';
import { INTERFACES, startStripe } from '../fake_stripe/server.mjs';

const KEY = 'sk_test_x';
const ask = (stripe, method, path, form, headers = {}) =>
  fetch(stripe.url + path, {
    method,
    headers: {
      Authorization: `Bearer ${KEY}`,
      'Stripe-Version': API_VERSION,
      'Content-Type': 'application/x-www-form-urlencoded',
      ...headers,
    },
    body: form,
  }).then(async (response) => ({ status: response.status, body: await response.json() }));

test('the sidecar pins the version that npm stripe describes', () => {
  const client = readFileSync(new URL('../../sidecar/src/domains/billing/client.rs', import.meta.url), 'utf8');
  assert.equal(client.match(/API_VERSION: &str = "([^"]+)"/)[1], API_VERSION);
});

test('every interface that the fake checks by is published, and refuses what is unknown, missing or of another type', () => {
  for (const [file, name] of INTERFACES) assert.equal(problem(file, name, { no_such: '1' }).code, 'parameter_unknown', name);
  const fault = (name, file, query) => problem(file, name, parseForm(query))?.code;
  assert.equal(fault('TaxRateCreateParams', 'TaxRates', 'display_name=BTW&inclusive=false'), 'parameter_missing');
  assert.equal(fault('TaxRateCreateParams', 'TaxRates', 'display_name=BTW&inclusive=maybe&percentage=21'), 'parameter_invalid');
  assert.equal(fault('TaxRateCreateParams', 'TaxRates', 'display_name=BTW&inclusive=false&percentage=21'), undefined);
  assert.equal(fault('SubscriptionUpdateParams', 'Subscriptions', 'items[0][prices]=x'), 'parameter_unknown');
  assert.equal(fault('SubscriptionUpdateParams', 'Subscriptions', 'payment_behavior=perhaps'), 'parameter_invalid');
});

test('the fake repeats answers by key, has pages, and wants the key and the version', async () => {
  const stripe = await startStripe({ key: KEY });
  try {
    const key = { 'Idempotency-Key': 'k1' };
    const first = await ask(stripe, 'POST', '/v1/customers', 'name=A', key);
    const again = await ask(stripe, 'POST', '/v1/customers', 'name=A', key);
    assert.equal(first.body.id, again.body.id);
    assert.equal((await ask(stripe, 'POST', '/v1/customers', 'name=B', key)).body.error.type, 'idempotency_error');
    await ask(stripe, 'POST', '/v1/customers', 'name=C');
    const page = await ask(stripe, 'GET', '/v1/customers?limit=1');
    assert.equal(page.body.has_more, true);
    const next = await ask(stripe, 'GET', `/v1/customers?limit=1&starting_after=${page.body.data[0].id}`);
    assert.deepEqual([next.body.data[0].id, next.body.has_more], [first.body.id, false]);
    assert.equal((await ask(stripe, 'GET', '/v1/customers/cus_none')).body.error.code, 'resource_missing');
    assert.equal((await ask(stripe, 'GET', '/v1/customers', undefined, { Authorization: 'Bearer sk_test_y' })).status, 401);
    assert.equal((await ask(stripe, 'GET', '/v1/customers', undefined, { 'Stripe-Version': '2020-08-27' })).status, 400);
    stripe.fail({ status: 429 });
    assert.equal((await ask(stripe, 'GET', '/v1/customers')).status, 429);
    assert.equal((await ask(stripe, 'GET', '/v1/customers')).status, 200);
  } finally {
    await stripe.close();
  }
});
