// Organizations (KIJKO_YEAR_ORGANIZATIONS) live for months (KIJKO_YEAR_MONTHS) in product time: they use more than their plan
// includes, also in the last minutes of a month, while the sidecar is killed. Every figure of every invoice is computed again
// from the ledger.
//   node --test tests/journeys/billing_year.test.mjs
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Sidecar } from '../crash/harness.mjs';
import { Clock } from '../demo/clock.mjs';
import { buy, newPayer, settled, startBilling } from './billing_support.mjs';
import { sql } from './support.mjs';

const ORGANIZATIONS = Number(process.env.KIJKO_YEAR_ORGANIZATIONS ?? 3);
const MONTHS = Number(process.env.KIJKO_YEAR_MONTHS ?? 2);
const INCLUDED = 2000;
const [BASE, EACH, VAT] = [2900, 5, 21];
const clock = new Clock(process.env.ADMIN_DB_URL);

let billing;
before(async () => {
  billing = await startBilling();
  await billing.command('sync');
  await sql("update public.prices set trial_days = 0 where lookup_key = 'pro_monthly'");
});
after(() => clock.restore());

/** The clocks of Stripe and of the database show this second. */
async function travelTo(seconds) {
  billing.stripe.account.offset = Math.max(billing.stripe.account.offset, seconds - Math.floor(Date.now() / 1000));
  await clock.travelTo(new Date(seconds * 1000));
}
const use = (org, amount) => sql(`select kijko.consume($1, 'executions', $2)`, [org, amount]);
/** What the ledger says was used beyond the plan in all months so far. */
async function overage(org) {
  const months = await sql(
    `select sum(d.amount)::int as used from kijko.usage_by_day($1, 'executions', '2020-01-01', '2099-01-01') as d group by date_trunc('month', d.day)`,
    [org],
  );
  return months.reduce((sum, { used }) => sum + Math.max(0, used - INCLUDED), 0);
}

test('every invoice of the months is reproduced from the ledger', async () => {
  const { account } = billing.stripe;
  // Reports carry the time of the real clock; here it is that of Stripe.
  const take = account.createMeterEvent.bind(account);
  account.createMeterEvent = (q) => take({ ...q, timestamp: String(Number(q.timestamp) + account.offset) });
  const payers = [];
  let receiver;
  try {
    for (let n = 0; n < ORGANIZATIONS; n += 1) {
      const payer = await newPayer();
      const { subscription } = await buy(billing, payer, { plan: 'PRO', overage: true });
      payers.push({ org: payer.org, subscription, billed: 0 });
    }
    receiver = await Sidecar.start(null, { variables: billing.variables });
    for (let month = 0; month < MONTHS; month += 1) {
      const { current_period_start: from, current_period_end: to } = payers[0].subscription.items.data[0];
      // The first of the month lies within the period: use just before it, and just after.
      const first = new Date(from * 1000);
      const turn = Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 1) / 1000;
      for (const at of [turn - 20, turn + 20, Math.floor((turn + to) / 2), to - 600].filter((each) => each > from && each < to)) {
        await travelTo(at);
        for (const [n, { org }] of payers.entries()) await use(org, 700 + Math.floor(Math.random() * 900) * (n % 3));
        // Not before the turn of the month: nothing of its last seconds has been reported when it ends.
        if (at !== turn - 20) await settled();
        await receiver.kill();
        receiver = await Sidecar.start(null, { variables: billing.variables });
      }
      await settled();
      for (const payer of payers) {
        const invoice = account.renew(payer.subscription.id);
        await account.delivered();
        const all = await overage(payer.org);
        const lines = invoice.lines.data.map(({ amount }) => amount);
        const subtotal = BASE + (all - payer.billed) * EACH;
        assert.equal(
          lines.reduce((sum, each) => sum + each, 0),
          subtotal,
          `month ${month}: ${JSON.stringify(invoice.lines.data)}`,
        );
        assert.deepEqual([invoice.subtotal, invoice.total], [subtotal, subtotal + Math.round((subtotal * VAT) / 100)]);
        const [row] = await sql('select total::int, tax::int, status from public.stripe_invoices where id = $1', [invoice.id]);
        assert.deepEqual(row, { total: invoice.total, tax: invoice.total - subtotal, status: 'paid' });
        payer.billed = all;
      }
    }
    assert.ok(
      payers.some(({ billed }) => billed > 0),
      'somebody used more than the plan includes',
    );
    assert.deepEqual(
      await sql(`select problem from private.billing_problems() where organization_id = any($1)`, [payers.map(({ org }) => org)]),
      [],
    );
  } finally {
    await sql("update public.prices set trial_days = 14 where lookup_key = 'pro_monthly'");
    await clock.restore();
    await receiver?.terminate();
  }
});
