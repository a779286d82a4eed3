// The demo's step about money: a subscription from checkout to its end. Stripe is a fake on this machine that refuses what Stripe
// would refuse; a sidecar beside the stack's own has its key. Everything else is the stack itself.
import assert from 'node:assert/strict';
import pg from 'pg';
import { startStripe } from '../fake_stripe/server.mjs';
import { Service } from '../service.mjs';
import { until } from '../until.mjs';
import { env, ok, signUp } from './setup.mjs';

const KEY = 'sk_test_demo';
const RETURN = { success_url: 'http://127.0.0.1:3000/paid', cancel_url: 'http://127.0.0.1:3000/' };

/** False if the stack has an account at Stripe, which stays as it is. */
export async function subscriptionLives(say) {
  const owner = new pg.Client({ connectionString: process.env.DB_URL });
  const admin = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await Promise.all([owner.connect(), admin.connect()]);
  const rows = async (text, values) => (await owner.query(text, values)).rows;
  const undo = [() => owner.end(), () => admin.end()];
  try {
    if ((await rows('select from private.billing_account')).length > 0) return false;
    const stripe = await startStripe({ key: KEY, webhook: { url: env.API_URL, secret: env.STRIPE_WEBHOOK_SECRET_LOCAL } });
    undo.unshift(() => stripe.close());
    // The outbox calls nobody on this machine unless it may.
    const [{ setting }] = (await admin.query(`select setting from pg_settings where name = 'kijko.http_allowed_hosts'`)).rows;
    await admin.query(`alter system set kijko.http_allowed_hosts = 'localhost'`);
    await admin.query('select pg_reload_conf()');
    undo.unshift(async () => {
      await admin.query(
        setting
          ? `alter system set kijko.http_allowed_hosts = ${pg.escapeLiteral(setting)}`
          : 'alter system reset kijko.http_allowed_hosts',
      );
      await admin.query('select pg_reload_conf()');
      await owner.query('delete from private.billing_account; delete from private.billing_objects; delete from private.billing_effects');
    });
    const variables = { KIJKO_LLM_ECHO: '0', KIJKO_REST_URL: `${env.API_URL}/rest/v1`, STRIPE_API_KEY: KEY, STRIPE_API_URL: stripe.url };
    const sidecar = await Service.start('sidecar', { variables });
    undo.unshift(() => sidecar.terminate());
    await until('the account at Stripe', async () => (await rows('select from private.billing_account')).length > 0);
    await live(say, { account: stripe.account, url: sidecar.url, rows });
    return true;
  } finally {
    for (const step of undo) await step();
  }
}

async function live(say, { account, url, rows }) {
  const dana = await signUp('Dana');
  const org = dana.organization.id;
  const { data } = await dana.client.auth.getSession();
  const call = async (name, body) => {
    const headers = {
      apikey: env.ANON_KEY,
      Authorization: `Bearer ${data.session.access_token}`,
      'Content-Type': 'application/json',
      'x-org-id': org,
    };
    const response = await fetch(`${url}/functions/v1/billing-${name}`, { method: 'POST', headers, body: JSON.stringify(body ?? {}) });
    const answer = await response.json();
    assert.equal(response.status, 200, `billing-${name}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const quiet = async () => {
    await account.delivered();
    await until('requests to Stripe to end', async () => {
      await rows('select private.billing_tick()');
      return (await rows(`select from private.billing_effects where state = 'open'`)).length === 0;
    });
    await account.delivered();
  };
  const row = async () => {
    const { plan, status } = await ok(dana.client.from('subscriptions').select('plan, status').eq('org_id', org).single());
    return `${plan} ${status}`;
  };
  const told = async (type) => {
    const found = await ok(dana.client.from('notifications').select('title').eq('org_id', org).eq('type', type));
    assert.ok(found.length > 0, `no notification ${type}`);
    return `notified: "${found.at(-1).title}"`;
  };
  const euros = (cents) => `${(cents / 100).toFixed(2)} EUR`;

  // The catalogue, as ./kijko billing sync makes it.
  for (const [plan, amount] of [
    ['pro', 2900],
    ['teams', 1900],
  ]) {
    account.createProduct({ id: `kijko_${plan}` });
    const made = account.createPrice({
      product: `kijko_${plan}`,
      currency: 'eur',
      unit_amount: String(amount),
      lookup_key: `${plan}_monthly`,
      recurring: { interval: 'month' },
    });
    await rows(`select private.billing_record_object('price', $1, false, $2)`, [`${plan}_monthly`, made.id]);
  }
  const meter = account.createMeter({ event_name: 'kijko_executions', display_name: 'executions' });
  await rows(`select private.billing_record_object('meter', 'executions', false, $1)`, [meter.id]);
  for (const [plan, amount] of [
    ['pro', 5],
    ['teams', 4],
  ]) {
    const recurring = { interval: 'month', usage_type: 'metered', meter: meter.id };
    const made = account.createPrice({
      product: `kijko_${plan}`,
      currency: 'eur',
      unit_amount: String(amount),
      lookup_key: `${plan}_executions_monthly`,
      recurring,
    });
    await rows(`select private.billing_record_object('price', $1, false, $2)`, [`${plan}_executions_monthly`, made.id]);
  }

  await ok(dana.client.from('billing_details').insert({ org_id: org, kind: 'business', name: 'Dana BV', country: 'NL' }));
  // The trial began two weeks ago.
  account.offset = -14 * 86_400 - 5;
  const session = await call('checkout', { plan: 'PRO', overage: true, ...RETURN });
  const subscription = account.pay(session.id);
  await account.delivered();
  say(`checkout paid with a trial: ${await row()}; ${await told('billing.plan_changed')}`);
  const first = account.renew(subscription.id);
  await quiet();
  assert.equal(first.total, Math.round(2900 * 1.21));
  assert.equal(await row(), 'PRO active');
  say(`the trial ends, invoice ${first.number} over ${euros(first.total)} with 21 % VAT is paid: ${await row()}`);

  await rows(`select kijko.consume($1, 'executions', 2010)`, [org]);
  await quiet();
  const { meters } = await call('usage');
  assert.equal(meters[0].overage_cents, 50);
  say(
    `2,010 executions, 2,000 are included: ${account.meterEvents.at(-1).payload.value} reported, ${euros(meters[0].overage_cents)} so far`,
  );

  const preview = await call('preview', { plan: 'TEAMS' });
  await call('change', { plan: 'TEAMS', proration_date: preview.proration_date });
  await quiet();
  const [changed] = (await call('invoices')).data;
  assert.deepEqual([changed.total, await row()], [preview.total, 'TEAMS active']);
  say(`change to TEAMS, prorated as its preview said: ${euros(changed.total)}; ${await row()}`);

  account.declining.add(subscription.customer);
  const unpaid = account.renew(subscription.id);
  await quiet();
  assert.equal(await row(), 'TEAMS past_due');
  say(`a payment fails: ${await row()}, the plan stays for 7 days; ${await told('billing.payment_failed')}`);
  account.declining.clear();
  account.payInvoice(unpaid.id);
  await quiet();
  assert.equal(await row(), 'TEAMS active');
  say(`it is paid: ${await row()}; ${await told('billing.payment_recovered')}`);

  const { cancel_at_period_end } = await call('cancel', { reason: 'unused' });
  assert.equal(cancel_at_period_end, true);
  account.renew(subscription.id);
  await quiet();
  assert.equal(await row(), 'FREE canceled');
  say(`cancelled with its period: ${await row()}; nothing is deleted`);
}
