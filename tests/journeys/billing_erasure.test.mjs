// Billing: what an erasure of an account asks of Stripe, what Stripe then has, and that the proof is Stripe's answer.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { buy, newPayer, settled, startBilling } from './billing_support.mjs';
import { until } from './domain.mjs';
import { sql } from './support.mjs';

let billing;
before(async () => {
  billing = await startBilling();
  await billing.command('sync');
});
const account = () => billing.stripe.account;

/** Who bought, with all that Stripe may know of a person, and their customer. */
async function customerOf(payer) {
  await sql(`update public.billing_details set vat_number = 'BE0203201340' where org_id = $1`, [payer.org]);
  const { subscription } = await buy(billing, payer);
  await until('Stripe to have the number', async () => {
    await settled();
    await account().delivered();
    return account()
      .all('tax_id')
      .some((it) => it.customer === subscription.customer);
  });
  const customer = account().find('customer', subscription.customer);
  account().updateCustomer(customer.id, {
    email: payer.email,
    name: 'Grace Marker',
    phone: '+31 6 1234',
    description: 'knows Grace Marker',
    address: { line1: 'Marker Street 1', city: 'Delft' },
    shipping: { name: 'Grace Marker', address: { line1: 'Marker Street 1' } },
    metadata: { ...customer.metadata, nickname: 'Marker' },
  });
  await account().delivered();
  return customer;
}

/** The account is deleted and erased, by the schedule as in the minutes after. Returns the erasure. */
async function erase(payer) {
  await sql('delete from auth.users where id = $1', [payer.user.id]);
  const of = `select id, status from private.privacy_requests where user_id = $1 and kind = 'erasure' and organization is null`;
  await until('the erasure to be done', async () => {
    await sql('call private.privacy_tick()');
    return (await sql(of, [payer.user.id]))[0].status === 'done';
  });
  return (await sql(of, [payer.user.id]))[0].id;
}

const proofOf = async (erasure) =>
  (await sql(`select state, details from private.privacy_proofs where request_id = $1 and target = 'stripe'`, [erasure]))[0];
const settleProofs = () => sql('select private.privacy_settle()');
/** The proof once it is settled. A call passes over one that the schedule holds at the moment. */
const settledProofOf = (erasure) =>
  until('the proof to be settled', async () => {
    await settleProofs();
    const proof = await proofOf(erasure);
    return proof.state !== 'pending' && proof;
  });

test('Stripe is asked for each thing, and its answers are the proof', async () => {
  const payer = await newPayer('BE');
  const customer = await customerOf(payer);
  const invoices = structuredClone(
    account()
      .all('invoice')
      .filter((it) => it.customer === customer.id),
  );
  assert.ok(invoices.length > 0);
  // The first answer is lost: without one there is no proof.
  billing.stripe.fail({ path: new RegExp(`^/v1/customers/${customer.id}$`), status: 500 });
  const asked = billing.stripe.requests.length;
  const erasure = await erase(payer);
  await settleProofs();
  const early = await proofOf(erasure);
  if (account().find('customer', customer.id).email !== null) assert.equal(early.state, 'pending', 'not before Stripe has answered');
  await settled();
  await account().delivered();
  const proof = await settledProofOf(erasure);

  const found = account().find('customer', customer.id);
  for (const field of ['email', 'name', 'phone', 'description', 'address', 'shipping']) assert.equal(found[field], null, field);
  assert.deepEqual(found.metadata, {});
  assert.deepEqual(
    account()
      .all('tax_id')
      .filter((it) => it.customer === customer.id),
    [],
  );
  assert.deepEqual(
    account()
      .all('invoice')
      .filter((it) => invoices.some(({ id }) => id === it.id)),
    invoices,
    'invoices stay as they are',
  );
  const requests = billing.stripe.requests.slice(asked).filter(({ path }) => path.startsWith(`/v1/customers/${customer.id}`));
  assert.deepEqual([...new Set(requests.map(({ method }) => method))].sort(), ['DELETE', 'POST']);

  const effects = await sql('select kind, state, http_status from private.billing_effects where id = any ($1) order by kind', [
    proof.details.effects,
  ]);
  assert.equal(proof.state, 'done', JSON.stringify(effects));
  assert.deepEqual(
    effects.map(({ kind, state, http_status }) => [kind, state, http_status]),
    [
      ['customer_erasure', 'done', 200],
      ['tax_id_removal', 'done', 200],
    ],
  );

  // Stripe has told of the erasure, with what there was before; nothing of it is kept.
  assert.ok(account().events.some(({ data }) => data.previous_attributes?.name === 'Grace Marker'));
  const kept = await sql(
    `select e.type from private.stripe_events as e
     where (e.object_id = $1 or e.payload #>> '{data,object,customer}' = $1) and e.payload::text ~ $2`,
    [customer.id, `Marker|BE0203201340|${payer.email}`],
  );
  assert.deepEqual(kept, []);
  const [mirrored] = await sql('select email, name from public.stripe_customers where id = $1', [customer.id]);
  assert.deepEqual(mirrored, { email: null, name: null });
});

test('what Stripe refuses, or does not do, is no proof', async () => {
  const payer = await newPayer('BE');
  const customer = await customerOf(payer);
  // It answers that all is well, and has done nothing.
  account().updateCustomer = (id) => account().find('customer', id);
  let erasure;
  try {
    erasure = await erase(payer);
    await settled();
  } finally {
    delete account().updateCustomer;
  }
  assert.equal((await settledProofOf(erasure)).state, 'failed');
  const [{ error }] = await sql(`select error from private.billing_effects where kind = 'customer_erasure' and subject = $1`, [
    customer.id,
  ]);
  assert.match(error, /^Stripe still has: .*\bemail\b/);
  assert.doesNotMatch(error, /Marker/);
  const problems = await sql('select target from private.privacy_problems() where request_id = $1', [erasure]);
  assert.deepEqual(problems, [{ target: 'stripe' }], 'operators see it');
});
