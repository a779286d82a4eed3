// What must happen once or follow by itself: the VAT of a running subscription, one payment, one trial, one customer.
//   node --test tests/journeys/billing_once.test.mjs
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { buy, call, newPayer, noticesOf, RETURN, settled, startBilling, subscriptionOf } from './billing_support.mjs';
import { sql } from './support.mjs';

let billing;
before(async () => {
  billing = await startBilling();
  const { stdout } = await billing.command('sync');
  assert.match(stdout, /in test mode/);
});

const account = () => billing.stripe.account;
/** Until the schedule has nothing to ask, and its events have come. */
async function quiet() {
  for (let n = 0; n < 3; n += 1) {
    await settled();
    await account().delivered();
  }
}
const rateOf = ({ id }) =>
  account()
    .find('subscription', id)
    .default_tax_rates.map((rate) => account().find('tax_rate', rate).percentage);
const answerOfVies = (org, status) =>
  sql(`update public.vat_checks set status = $2, consulted_at = kijko.now() where org_id = $1 and status in ('pending', 'unavailable')`, [
    org,
    status,
  ]);

test('the VAT of a running subscription follows the details, the number and the rates', async () => {
  const payer = await newPayer('BE');
  const details = (set, ...values) => sql(`update public.billing_details set ${set} where org_id = $1`, [payer.org, ...values]);
  const { subscription } = await buy(billing, payer);
  await quiet();
  assert.deepEqual(rateOf(subscription), [21]);
  const customer = () => account().find('customer', subscription.customer);
  const numbers = () =>
    account()
      .all('tax_id')
      .filter((it) => it.customer === subscription.customer)
      .map((it) => it.value);

  // A number is shown at once, and changes the VAT when it is valid.
  await details("vat_number = 'BE0203201340', address_line1 = 'Wetstraat 1'");
  await quiet();
  assert.deepEqual([rateOf(subscription), numbers(), customer().address.line1], [[21], ['BE0203201340'], 'Wetstraat 1']);
  await answerOfVies(payer.org, 'valid');
  await quiet();
  assert.deepEqual([rateOf(subscription), customer().tax_exempt], [[], 'reverse']);
  assert.equal(customer().invoice_settings.footer, 'VAT reverse-charged');

  // Changed by hand at Stripe: it is put right once no event of the last request can be still to come.
  const wrong = account().createTaxRate({ display_name: 'x', percentage: '6', inclusive: 'false' });
  account().updateSubscription(subscription.id, { default_tax_rates: { 0: wrong.id } });
  await sql(`update private.billing_effects set ended_at = ended_at - interval '11 minutes' where kind = 'tax'`);
  await quiet();
  assert.deepEqual(rateOf(subscription), []);

  // Without the number, and moved: everything follows, and the former number goes.
  await details("vat_number = null, country = 'NL', address_line1 = ''");
  await quiet();
  assert.deepEqual([rateOf(subscription), numbers(), customer().tax_exempt], [[21], [], 'none']);
  assert.deepEqual([customer().address.country, customer().address.line1, customer().invoice_settings.footer], ['NL', '', '']);

  // A new rate counts from its date on, and nothing is asked for twice.
  const before = billing.stripe.requests.length;
  await quiet();
  assert.equal(billing.stripe.requests.length, before, 'nothing differs, nothing is asked');
  await sql(
    `insert into private.vat_rates (country, region, valid_from, basis_points, source) values ('NL', '', (kijko.now() - interval '1 day')::date, 2350, 'test')`,
  );
  try {
    await quiet();
    assert.deepEqual(rateOf(subscription), [23.5]);
  } finally {
    await sql(`delete from private.vat_rates where basis_points = 2350`);
  }
  await quiet();
  assert.deepEqual(rateOf(subscription), [21]);
});

test('of two checkouts one can be paid, and of two that were paid one is paid back', async () => {
  const payer = await newPayer();
  await sql("update public.prices set trial_days = 0 where lookup_key = 'pro_monthly'");
  try {
    const checkout = (from = payer) => call(billing.sidecar, from, 'checkout', { plan: 'PRO', ...RETURN });
    const first = (await checkout()).body;
    const second = (await checkout()).body;
    assert.throws(() => account().pay(first.id), /expired/);
    // Five at once: one stays.
    const more = await Promise.all(Array.from({ length: 5 }, () => checkout()));
    assert.deepEqual([...new Set(more.map(({ status }) => status))], [200]);
    await quiet();
    const open = () =>
      account()
        .all('checkout.session')
        .filter((it) => it.client_reference_id === payer.org && it.status === 'open')
        .map((it) => it.id);
    assert.equal(open().length, 1);
    assert.notEqual(open()[0], second.id);

    // Its payment arrives while another checkout is asked for.
    account().delivering = false;
    account().pay(open()[0]);
    account().delivering = true;
    const late = await checkout();
    assert.equal(late.status, 409, JSON.stringify(late.body));
    assert.deepEqual(open(), []);

    // Two that were paid nevertheless: the record of the first was lost.
    const other = await newPayer();
    const one = (await checkout(other)).body;
    await sql('delete from private.billing_sessions where id = $1', [one.id]);
    const two = (await checkout(other)).body;
    const kept = account().pay(one.id);
    const spare = account().pay(two.id);
    await quiet();
    assert.equal(account().find('subscription', kept.id).status, 'active');
    assert.equal(account().find('subscription', spare.id).status, 'canceled');
    await quiet();
    const notes = account()
      .all('credit_note')
      .map(({ invoice, amount, reason }) => [invoice, amount, reason]);
    assert.deepEqual(notes, [[spare.latest_invoice, Math.round(2900 * 1.21), 'duplicate']]);
    assert.deepEqual(await subscriptionOf(other.org), { plan: 'PRO', status: 'active' });
    assert.ok((await noticesOf(other.org)).includes('billing.duplicate_cancelled'));
  } finally {
    await sql("update public.prices set trial_days = 14 where lookup_key = 'pro_monthly'");
  }
});

test('a person and a card have one trial, however many checkouts were open', async () => {
  const payer = await newPayer();
  const orgs = [payer.org];
  for (let n = 0; n < 2; n += 1) {
    const { data } = await payer.client.rpc('create_organization', { name: `Second ${n}` });
    orgs.push(data.id);
    await sql(`insert into public.billing_details (org_id, kind, name, country) values ($1, 'business', 'Café BV', 'NL')`, [data.id]);
  }
  const sessions = [];
  for (const org of orgs) sessions.push((await call(billing.sidecar, { ...payer, org }, 'checkout', { plan: 'PRO', ...RETURN })).body);
  // Paid before anything is known of the others.
  account().delivering = false;
  const [second, first] = sessions.slice(0, 2).map(({ id }) => account().pay(id));
  account().delivering = true;
  await account().delivered();
  await account().deliverRest((events) => events.reverse());
  await quiet();
  const status = ({ id }) => account().find('subscription', id).status;
  assert.deepEqual([status(first), status(second)], ['trialing', 'active'], 'the second is paid at once');
  assert.ok((await noticesOf(orgs[0])).includes('billing.trial_refused'));
  assert.throws(() => account().pay(sessions[2].id), /expired/, 'what was still open offers no trial any more');

  // Another person with the same card.
  const card = account()
    .all('payment_method')
    .find((it) => it.customer === first.customer).card.fingerprint;
  const stranger = await newPayer();
  const { subscription } = await buy(billing, stranger, { plan: 'PRO' }, { fingerprint: card });
  await quiet();
  assert.equal(status(subscription), 'active');
  assert.deepEqual(await subscriptionOf(stranger.org), { plan: 'PRO', status: 'active' });

  // One that an operator gives at Stripe stays.
  const given = account().subscribe(first.customer, [{ price: first.items.data[0].price.id }], { metadata: { org_id: stranger.org } }, 7);
  account().emit('customer.subscription.created', given);
  await quiet();
  assert.equal(status(given), 'trialing');
});

test('a customer that Stripe no longer has is replaced, and none is left over', async () => {
  const payer = await newPayer();
  const checkout = () => call(billing.sidecar, payer, 'checkout', { plan: 'PRO', ...RETURN });
  assert.equal((await checkout()).status, 200);
  const ours = () =>
    account()
      .all('customer')
      .filter((it) => it.metadata.org_id === payer.org)
      .map((it) => it.id);
  const [gone] = ours();
  account().delivering = false;
  account().deleteCustomer(gone);
  account().delivering = true;
  const answers = await Promise.all([checkout(), checkout()]);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 200]);
  assert.equal(ours().length, 1);
  assert.deepEqual(await sql('select customer_id from private.billing_customers where organization_id = $1', [payer.org]), [
    { customer_id: ours()[0] },
  ]);
});

test('VAT that a number turns out not to owe goes back, and what Stripe has otherwise is told', async () => {
  const payer = await newPayer('BE');
  await sql("update public.prices set trial_days = 0 where lookup_key = 'pro_monthly'");
  const { subscription } = await buy(billing, payer).finally(() =>
    sql("update public.prices set trial_days = 14 where lookup_key = 'pro_monthly'"),
  );
  await sql("update public.billing_details set vat_number = 'BE0203201340' where org_id = $1", [payer.org]);
  // It was given before the invoice.
  await sql("update public.billing_details set vat_number_since = kijko.now() - interval '1 hour' where org_id = $1", [payer.org]);
  await answerOfVies(payer.org, 'valid');
  await sql("update private.vat_credits set charged_until = kijko.now() - interval '6 minutes' where organization = $1", [payer.org]);
  await sql("update public.stripe_invoices set created_at = kijko.now() - interval '10 minutes' where org_id = $1", [payer.org]);
  await quiet();
  await quiet();
  const vat = Math.round(2900 * 0.21);
  assert.equal(account().find('customer', subscription.customer).balance, -vat);
  assert.deepEqual(await sql('select total::int, org_id from public.stripe_credit_notes where org_id = $1', [payer.org]), [
    { total: vat, org_id: payer.org },
  ]);
  const [{ settled_with }] = await sql('select settled_with from private.vat_credits where organization = $1', [payer.org]);
  assert.match(settled_with, /^cn_/);

  // An event is lost: the next day shows it.
  account().delivering = false;
  account().cancelSubscription(subscription.id);
  account().delivering = true;
  for (const since of ['2 days', '20 minutes']) {
    await sql(`update private.billing_comparisons set compared_at = compared_at - $2::interval where organization_id = $1`, [
      payer.org,
      since,
    ]);
    await sql(`update private.billing_effects set ended_at = ended_at - interval '1 hour' where kind = 'comparison'`);
    await quiet();
  }
  const problems = await sql('select problem from private.billing_problems() where organization_id = $1', [payer.org]);
  assert.deepEqual(problems, [{ problem: `${subscription.id} is active here and canceled at Stripe` }]);
});
