// An organization buys, changes, pays late, stops; who may do it. Stripe is a fake that refuses what Stripe would refuse.
//   node --test tests/journeys/billing.test.mjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, test } from 'node:test';
import { buy, call, newPayer, noticesOf, RETURN, settled, startBilling, subscriptionOf } from './billing_support.mjs';
import { newPerson, newTeam, ok } from './domain.mjs';
import { api, sql } from './support.mjs';

let billing;
const command = (...words) => billing.command(...words);
const asked = (path) => billing.stripe.requests.filter((request) => request.path === path);

before(async () => {
  billing = await startBilling();
});

test('the catalogue is public, and synced to Stripe once', async () => {
  const prices = await ok(api().from('prices').select('lookup_key, amount_cents, kind').eq('plan', 'PRO').order('lookup_key'));
  assert.deepEqual(
    prices.map(({ lookup_key }) => lookup_key),
    ['pro_executions_monthly', 'pro_llm_tokens_monthly', 'pro_monthly', 'pro_yearly'],
  );
  const dry = await command('sync', '--dry-run');
  assert.match(dry.stdout, /would make price pro_monthly\n/);
  assert.equal(billing.stripe.account.all('price').length, 0, 'a dry run makes nothing');
  await command('sync');
  const made = billing.stripe.account.objects.size;
  assert.match((await command('sync')).stdout, /\n0 made in test mode\n$/);
  assert.equal(billing.stripe.account.objects.size, made, 'a second sync makes nothing');

  // A changed amount is a new price that takes over the key.
  await sql("update public.prices set amount_cents = 3900 where lookup_key = 'enterprise_monthly'");
  try {
    assert.match((await command('sync')).stdout, /\nmade price enterprise_monthly /);
  } finally {
    await sql("update public.prices set amount_cents = 149000 where lookup_key = 'enterprise_monthly'");
  }
  await command('sync');
  const found = billing.stripe.account.all('price').filter((price) => price.active && price.unit_amount > 30_000);
  assert.deepEqual(found.map((price) => price.lookup_key).sort(), ['enterprise_monthly', 'enterprise_yearly']);
});

test('only those with billing:write buy, and only those with billing:read look', async () => {
  const { owner, admin, member, viewer, nonMember, orgId } = await newTeam();
  const key = (await ok(owner.client.rpc('create_api_key', { name: 'k', permissions: ['skills:read'] }).setHeader('x-org-id', orgId)))
    .secret;
  const as = (person) => ({ session: person.session, org: orgId });
  for (const [caller, reads, writes] of [
    [{}, 401, 401],
    [as(nonMember), 403, 403],
    [as(viewer), 403, 403],
    [as(member), 403, 403],
    [{ key }, 403, 403],
    [as(admin), 200, 403],
    [as(owner), 200, 409],
  ]) {
    assert.equal((await call(billing.sidecar, caller, 'usage')).status, reads);
    assert.equal((await call(billing.sidecar, caller, 'invoices')).status, reads);
    // Who may is told that the country is still missing.
    const { status, body } = await call(billing.sidecar, caller, 'checkout', { plan: 'PRO', ...RETURN });
    assert.equal(status, writes, JSON.stringify(body));
  }
});

test('hostile arguments ask Stripe for nothing', async () => {
  const payer = await newPayer();
  const seen = billing.stripe.requests.length;
  for (const [name, body, code] of [
    ['checkout', { plan: 'PRO', success_url: 'https://evil.example', cancel_url: RETURN.cancel_url }, 'invalid_input'],
    ['checkout', { plan: 'PRO' }, 'invalid_input'],
    ['checkout', { plan: 'FREE', ...RETURN }, 'invalid_input'],
    ['checkout', { plan: ['PRO'], ...RETURN }, 'invalid_input'],
    ['checkout', { plan: 'PRO', interval: 'year', overage: true, ...RETURN }, 'invalid_input'],
    ['checkout', { plan: 'PRO', customer: 'cus_x', ...RETURN }, 'invalid_input'],
    ['checkout', [], 'bad_request'],
    ['checkout', { plan: '\0' }, 'bad_request'],
    ['portal', { return_url: 'javascript:alert(1)' }, 'not_found'],
    ['change', { plan: 'TEAMS' }, 'not_found'],
    ['cancel', {}, 'not_found'],
    ['invoices', { limit: 0 }, 'invalid_input'],
    ['invoices', { limit: 1e300 }, 'invalid_input'],
  ]) {
    assert.equal((await call(billing.sidecar, payer, name, body)).body.code, code, `${name} ${JSON.stringify(body)}`);
  }
  assert.equal(billing.stripe.requests.length, seen);
});

test('an organization buys PRO, changes with proration, uses more, fails to pay, recovers, and stops', async () => {
  const { stripe, sidecar } = billing;
  const payer = await newPayer();
  // The trial began two weeks ago.
  stripe.account.offset = -14 * 86_400 - 5;
  const { subscription } = await buy(billing, payer, { plan: 'PRO', overage: true });
  const session = asked('/v1/checkout/sessions').at(-1).parameters;
  assert.deepEqual(session.allowed_payment_method_types, { 0: 'ideal', 1: 'card' });
  assert.equal(session.automatic_tax.enabled, 'false');
  const [rate] = Object.values(session.subscription_data.default_tax_rates);
  assert.equal(stripe.account.find('tax_rate', rate).percentage, 21);
  assert.deepEqual(await subscriptionOf(payer.org), { plan: 'PRO', status: 'trialing' });
  assert.equal((await call(sidecar, payer, 'checkout', { plan: 'TEAMS', ...RETURN })).status, 409, 'one subscription at a time');

  // The trial ends and is paid.
  const first = stripe.account.renew(subscription.id);
  await stripe.account.delivered();
  assert.equal(first.total, Math.round(2900 * 1.21));
  assert.deepEqual(await subscriptionOf(payer.org), { plan: 'PRO', status: 'active' });

  // More than the plan includes is allowed, reported once, and billed at the end of the period.
  await sql(`select kijko.consume($1, 'executions', 2010)`, [payer.org]);
  await settled();
  await settled();
  assert.deepEqual(
    stripe.account.meterEvents.filter((it) => it.payload.stripe_customer_id === subscription.customer).map((it) => it.payload.value),
    ['10'],
  );
  const usage = (await call(sidecar, payer, 'usage')).body;
  assert.equal(usage.meters.find(({ meter }) => meter === 'executions').overage_cents, 50);
  assert.equal(usage.total_cents, 2950);

  // The change costs what its preview says.
  const preview = (await call(sidecar, payer, 'preview', { plan: 'TEAMS' })).body;
  const changed = await call(sidecar, payer, 'change', { plan: 'TEAMS', proration_date: preview.proration_date });
  assert.deepEqual([changed.status, changed.body.pending], [200, false]);
  await stripe.account.delivered();
  const invoices = (await call(sidecar, payer, 'invoices')).body;
  assert.equal(invoices.data[0].total, preview.total);
  assert.match(invoices.data[0].invoice_pdf, /^https:/);
  assert.deepEqual(await subscriptionOf(payer.org), { plan: 'TEAMS', status: 'active' });

  // A payment fails: the plan stays for the grace, and the payment mends it.
  stripe.account.declining.add(subscription.customer);
  const unpaid = stripe.account.renew(subscription.id);
  await stripe.account.delivered();
  assert.deepEqual(await subscriptionOf(payer.org), { plan: 'TEAMS', status: 'past_due' });
  assert.equal((await call(sidecar, payer, 'change', { plan: 'PRO' })).status, 409, 'first the open invoice');
  stripe.account.declining.clear();
  stripe.account.payInvoice(unpaid.id);
  await stripe.account.delivered();
  assert.deepEqual(await subscriptionOf(payer.org), { plan: 'TEAMS', status: 'active' });

  const cancelled = await call(sidecar, payer, 'cancel', { reason: 'too_expensive', comment: 'Later' });
  assert.equal(cancelled.body.cancel_at_period_end, true);
  assert.equal((await call(sidecar, payer, 'resume')).body.cancel_at_period_end, false);
  await call(sidecar, payer, 'cancel', { reason: 'unused' });
  stripe.account.renew(subscription.id);
  await stripe.account.delivered();
  assert.deepEqual(await subscriptionOf(payer.org), { plan: 'FREE', status: 'canceled' });
  const notices = await noticesOf(payer.org);
  for (const type of ['billing.plan_changed', 'billing.payment_failed', 'billing.payment_recovered'])
    assert.ok(notices.includes(type), type);
  assert.equal((await call(sidecar, payer, 'payment-methods')).body.data[0].card.last4, '4242');
});

test('a debit unlocks nothing until it arrives, and one that fails never does', async () => {
  for (const arrives of [true, false]) {
    const payer = await newPayer();
    // No trial: it had one.
    await sql("update public.prices set trial_days = 0 where lookup_key = 'pro_yearly'");
    try {
      const { session } = await buy(billing, payer, { plan: 'PRO', interval: 'year' }, { later: true });
      assert.deepEqual(await subscriptionOf(payer.org), { plan: 'FREE', status: 'active' });
      billing.stripe.account.settle(session.id, arrives);
      await billing.stripe.account.delivered();
      assert.equal((await subscriptionOf(payer.org)).plan, arrives ? 'PRO' : 'FREE');
      assert.equal((await noticesOf(payer.org)).includes('billing.payment_failed'), !arrives);
    } finally {
      await sql("update public.prices set trial_days = 14 where lookup_key = 'pro_yearly'");
    }
  }
});

test('an upgrade whose payment is refused waits', async () => {
  const payer = await newPayer();
  const { subscription } = await buy(billing, payer);
  billing.stripe.account.renew(subscription.id);
  billing.stripe.account.offset = 0;
  await billing.stripe.account.delivered();
  billing.stripe.account.declining.add(subscription.customer);
  const { body } = await call(billing.sidecar, payer, 'change', { plan: 'PRO', interval: 'year' });
  assert.equal(body.pending, true);
  assert.match(body.payment_url, /^https:/);
  billing.stripe.account.declining.clear();
});

test('a repeated call and a lost answer make one session; passing faults are repeated', async () => {
  const { stripe, sidecar } = billing;
  const payer = await newPayer();
  const key = { 'Idempotency-Key': randomUUID() };
  stripe.fail({ status: 500, path: /checkout\/sessions/, after: true, silent: true });
  const first = await call(sidecar, payer, 'checkout', { plan: 'PRO', ...RETURN }, key);
  const second = await call(sidecar, payer, 'checkout', { plan: 'PRO', ...RETURN }, key);
  assert.equal(first.status, 200);
  assert.equal(first.body.id, second.body.id);
  assert.equal(stripe.account.all('checkout.session').filter((it) => it.client_reference_id === payer.org).length, 1);
  for (const status of [409, 429, 500]) stripe.fail({ status, path: /customers/ });
  assert.equal((await call(sidecar, payer, 'checkout', { plan: 'PRO', ...RETURN })).status, 503, 'three attempts');
  assert.equal((await call(sidecar, payer, 'checkout', { plan: 'PRO', ...RETURN })).status, 200);
});

test('seats follow the members, one request at a time', async () => {
  const { stripe } = billing;
  const payer = await newPayer();
  const { subscription } = await buy(billing, payer, { plan: 'TEAMS' });
  const item = subscription.items.data[0].id;
  const people = await Promise.all(Array.from({ length: 10 }, () => newPerson()));
  // In one statement: the stack's own schedule would ask Stripe for some of them.
  await sql("insert into public.memberships (org_id, user_id, role) select $1, u, 'member' from unnest($2::uuid[]) as u", [
    payer.org,
    people.map(({ user }) => user.id),
  ]);
  await Promise.all([1, 2, 3].map(() => sql('select private.billing_tick()')));
  await settled();
  await stripe.account.delivered();
  const sent = asked(`/v1/subscription_items/${item}`).map(({ parameters }) => parameters.quantity);
  assert.deepEqual(sent, ['11']);
  const [{ items }] = await sql('select items from public.stripe_subscriptions where id = $1', [subscription.id]);
  assert.equal(items[0].quantity, 11);
});

test('a deleted organization cancels at Stripe, and reconcile finds what differs', async () => {
  const { stripe } = billing;
  const payer = await newPayer();
  const { subscription } = await buy(billing, payer);
  await sql('delete from public.organizations where id = $1', [payer.org]);
  await settled();
  assert.equal(stripe.account.find('subscription', subscription.id).status, 'canceled');
  await stripe.account.delivered();

  const other = await newPayer();
  const { subscription: lost } = await buy(billing, other);
  stripe.account.delivering = false;
  stripe.account.cancelSubscription(lost.id);
  stripe.account.delivering = true;
  const { stdout, code } = await command('reconcile').catch((error) => error);
  assert.equal(code, 1);
  assert.match(stdout, new RegExp(`${lost.id} is trialing here and canceled at Stripe`));
});
