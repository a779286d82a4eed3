// ./kijko billing: what is sold is made at Stripe, which is a fake here, and compared with it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, it } from 'node:test';
import { startStripe } from '../fake_stripe/server.mjs';
import { asPostgres, kijko } from './stack.mjs';

const KEY = 'sk_test_cli';
let stripe;
before(async () => {
  stripe = await startStripe({ key: KEY });
  await asPostgres((client) => client.query('delete from public.stripe_subscriptions'));
});
after(async () => {
  await stripe.close();
  await asPostgres((client) => client.query('delete from private.billing_account; delete from private.billing_objects'));
});
const billing = (...words) => kijko(['billing', ...words], { STRIPE_API_KEY: KEY, STRIPE_API_URL: stripe.url });

it('refuses what it does not know, and without a key', async () => {
  assert.equal((await billing('sink')).code, 2);
  assert.equal((await billing('reconcile', '--dry-run')).code, 2);
  const { code, stderr } = await kijko(['billing', 'sync'], { STRIPE_API_KEY: '' });
  assert.equal(code, 1);
  assert.match(stderr, /STRIPE_API_KEY/);
});

it('says what it would make, makes it, and makes nothing twice', async () => {
  const dry = await billing('sync', '--dry-run');
  assert.deepEqual([dry.code, stripe.account.objects.size], [0, 0], dry.stderr);
  const wanted = Number(dry.stdout.match(/(\d+) to make in test mode\n$/)[1]);
  assert.ok(wanted > 10, dry.stdout);
  assert.match((await billing('sync')).stdout, new RegExp(`\\n${wanted} made in test mode\\n$`));
  assert.match((await billing('sync', '--dry-run')).stdout, /^0 to make in test mode\n$/m);
});

it('compares subscriptions and customers: 0 without differences, 1 with one', async () => {
  assert.deepEqual(await billing('reconcile').then(({ code, stdout }) => [code, stdout]), [0, 'no differences in test mode\n']);
  const customer = stripe.account.createCustomer({ name: 'Unknown' });
  const [price] = stripe.account.all('price');
  const { id } = stripe.account.subscribe(customer.id, [{ price: price.id, quantity: 1 }], {}, 0);
  const { code, stdout } = await billing('reconcile');
  assert.deepEqual([code, stdout], [1, `${id} is active at Stripe and not known here\n1 differences in test mode\n`]);
  stripe.account.objects.delete(id);
  // A customer of another program's has no organization. One that a crash has left here is not known.
  const org = randomUUID();
  const { id: left } = stripe.account.createCustomer({ name: 'Left', metadata: { org_id: org } });
  assert.equal(
    (await billing('reconcile')).stdout,
    `${left} is a customer of the organization ${org} and not known here\n1 differences in test mode\n`,
  );
});
