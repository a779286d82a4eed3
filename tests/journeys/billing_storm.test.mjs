// The events of many organizations (KIJKO_STORM_ORGANIZATIONS) that buy, renew, change and stop, each twice, in any order, while the sidecar that receives
// them is killed again and again. In the end each organization has what it pays for.
//   node --test tests/journeys/billing_storm.test.mjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { Sidecar } from '../crash/harness.mjs';
import { Account } from '../fake_stripe/account.mjs';
import { deliver } from './stripe_events.mjs';
import { SECRET } from './stripe_webhook.mjs';
import { sql } from './support.mjs';

const ORGANIZATIONS = Number(process.env.KIJKO_STORM_ORGANIZATIONS ?? 250);
const CLIENTS = 12;
const KILLS = 3;

/** The lives of the organizations at Stripe, by turns: what each pays for at the end. */
function live(account, orgs) {
  account.createProduct({ id: 'kijko_pro' });
  account.createProduct({ id: 'kijko_teams' });
  const tag = randomUUID().slice(0, 8);
  const price = (plan, unit_amount) =>
    account.createPrice({
      product: `kijko_${plan}`,
      currency: 'eur',
      unit_amount,
      lookup_key: `${plan}_storm${tag}`,
      recurring: { interval: 'month' },
    });
  const [pro, teams] = [price('pro', '2900'), price('teams', '1900')];
  return new Map(
    orgs.map((org, n) => {
      const customer = account.createCustomer({ name: 'Storm', metadata: { org_id: org } });
      const session = account.createSession({
        mode: 'subscription',
        customer: customer.id,
        client_reference_id: org,
        line_items: { 0: { price: pro.id, quantity: '1' } },
      });
      const later = n % 5 === 4;
      const subscription = account.pay(session.id, { later });
      if (later) {
        account.settle(session.id, n % 2 === 0);
        return [org, n % 2 === 0 ? 'PRO' : 'FREE'];
      }
      account.renew(subscription.id);
      if (n % 5 === 0) return [org, 'PRO'];
      const items = { 0: { id: subscription.items.data[0].id, price: teams.id, quantity: '3' } };
      account.updateSubscription(subscription.id, { items, proration_behavior: 'always_invoice' });
      if (n % 5 === 1) return [org, 'TEAMS'];
      if (n % 5 === 2) account.cancelSubscription(subscription.id);
      else {
        account.declining.add(customer.id);
        account.payInvoice(account.renew(subscription.id).id);
      }
      return [org, n % 5 === 2 ? 'FREE' : 'TEAMS'];
    }),
  );
}

const shuffled = (list) =>
  list
    .map((value) => [Math.random(), value])
    .sort(([a], [b]) => a - b)
    .map(([, value]) => value);

test('a storm of shuffled and doubled events, with a sidecar that is killed, ends right', async () => {
  const account = new Account();
  // Every event lies in the past, or a debt of the future would be no debt yet.
  account.offset = -70 * 86_400;
  const orgs = (
    await sql(
      `insert into public.organizations (name, slug) select 'Storm', 'storm-' || gen_random_uuid() from generate_series(1, $1) returning id`,
      [ORGANIZATIONS],
    )
  ).map(({ id }) => id);
  try {
    const expected = live(account, orgs);
    const queue = shuffled([...account.events, ...account.events]);
    let sidecar = await Sidecar.start(null, { variables: { STRIPE_WEBHOOK_SECRET: SECRET } });
    let left = queue.length;
    const kills = Array.from({ length: KILLS }, (_, n) => Math.floor((queue.length * (KILLS - n)) / (KILLS + 1)));
    let restarting;
    const client = async () => {
      for (let event = queue.pop(); event; event = queue.pop()) {
        const answer = await deliver(sidecar.url, event, SECRET).catch(() => undefined);
        if (answer?.status === 200) left -= 1;
        // As Stripe, which sends again what was not taken.
        else queue.unshift(event);
        if (left <= kills[0] && !restarting) {
          kills.shift();
          restarting = sidecar.kill().then(async () => {
            sidecar = await Sidecar.start(null, { variables: { STRIPE_WEBHOOK_SECRET: SECRET } });
            restarting = undefined;
          });
        }
        if (!answer) await restarting;
      }
    };
    while (left > 0) await Promise.all(Array.from({ length: CLIENTS }, client));
    await sidecar.terminate();
    assert.equal(kills.length, 0, 'the sidecar was killed in the middle');
    await sql('update private.stripe_events set next_attempt_at = now() where status = $1', ['failed']);
    await sql('select private.stripe_retry_events()');
    const rows = await sql('select org_id, plan from public.subscriptions where org_id = any($1)', [orgs]);
    const wrong = rows.filter(({ org_id, plan }) => expected.get(org_id) !== plan);
    assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} of ${rows.length}`);
  } finally {
    await sql('delete from public.organizations where id = any($1)', [orgs]);
  }
});
