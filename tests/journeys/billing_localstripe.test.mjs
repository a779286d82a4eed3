// A customer, a subscription, its invoices and a refund, driven from outside by PyPI localstripe, a fake of Stripe by somebody else:
// its events have the shape of 2017, their times are its own, and they come as it sends them.
//   node --test tests/journeys/billing_localstripe.test.mjs
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';
import { newPayer, noticesOf, subscriptionOf } from './billing_support.mjs';
import { newTag, SECRET, send } from './stripe_webhook.mjs';
import { env, sql } from './support.mjs';

const PROGRAM =
  process.env.KIJKO_TEST_LOCALSTRIPE ?? fileURLToPath(new URL('../../target/tools/python-tests/bin/localstripe', import.meta.url));
let program;
let url;
before(async () => {
  assert.ok(existsSync(PROGRAM), `${PROGRAM} is missing: ./kijko test journeys installs it`);
  const port = await freePort();
  url = `http://localhost:${port}`;
  program = spawn(PROGRAM, ['--from-scratch', '--port', String(port)], { stdio: 'ignore' });
  await until('localstripe to answer', () =>
    fetch(url).then(
      () => true,
      () => false,
    ),
  );
});
after(() => program.kill());

async function ask(method, path, form = {}) {
  const response = await fetch(url + path, {
    method,
    headers: { Authorization: 'Bearer sk_test_12345' },
    ...(method !== 'GET' && { body: new URLSearchParams(form) }),
  });
  const text = await response.text();
  assert.equal(response.status, 200, `${method} ${path}: ${text}`);
  return text && JSON.parse(text);
}

test('localstripe sells PRO, invoices it, pays it back and ends it', async () => {
  const payer = await newPayer();
  const tag = newTag().toLowerCase();
  await ask('POST', '/_config/webhooks/kijko', { url: `${env.API_URL}/webhooks/stripe`, secret: SECRET });
  const plan = await ask('POST', '/v1/plans', {
    id: `plan_${tag}`,
    amount: '2900',
    currency: 'eur',
    interval: 'month',
    'product[name]': 'PRO',
  });
  // Its plans have no lookup keys, as those of 2017 had none.
  const now = Math.floor(Date.now() / 1000);
  const price = {
    id: plan.id,
    object: 'price',
    product: plan.product,
    lookup_key: `pro_${tag}`,
    active: true,
    currency: 'eur',
    created: now,
  };
  const named = { id: `evt_1${newTag()}`, object: 'event', type: 'price.created', created: now, livemode: false, data: { object: price } };
  assert.equal((await send(named)).status, 200);

  const card = await ask('POST', '/v1/payment_methods', {
    type: 'card',
    'card[number]': '4242424242424242',
    'card[exp_month]': '12',
    'card[exp_year]': String(new Date().getUTCFullYear() + 2),
    'card[cvc]': '123',
  });
  const customer = await ask('POST', '/v1/customers', { email: `${tag}@example.com`, 'metadata[org_id]': payer.org });
  await ask('POST', `/v1/payment_methods/${card.id}/attach`, { customer: customer.id });
  await ask('POST', `/v1/customers/${customer.id}`, { 'invoice_settings[default_payment_method]': card.id });
  const subscription = await ask('POST', '/v1/subscriptions', { customer: customer.id, 'items[0][plan]': plan.id });
  assert.equal(subscription.status, 'active');
  await until('PRO', async () => (await subscriptionOf(payer.org)).plan === 'PRO');
  const invoices = () => sql('select status, amount_paid::int from public.stripe_invoices where org_id = $1', [payer.org]);
  await until('its invoice', async () => (await invoices()).some(({ status }) => status === 'paid'));
  assert.deepEqual(await invoices(), [{ status: 'paid', amount_paid: 2900 }]);

  // It announces no refunds, so what it has is reported here.
  const { data } = await ask('GET', `/v1/charges?customer=${customer.id}`);
  assert.equal(data[0].amount, 2900);
  await ask('POST', '/v1/refunds', { charge: data[0].id, amount: '900' });
  const charge = await ask('GET', `/v1/charges/${data[0].id}`);
  assert.equal(charge.amount_refunded, 900);
  await send({ ...named, id: `evt_1${newTag()}`, type: 'charge.refunded', data: { object: charge } });
  assert.ok((await noticesOf(payer.org)).includes('billing.refunded'));

  await ask('DELETE', `/v1/subscriptions/${subscription.id}`);
  await until('FREE', async () => (await subscriptionOf(payer.org)).plan === 'FREE');
  assert.deepEqual(await subscriptionOf(payer.org), { plan: 'FREE', status: 'canceled' });
});
