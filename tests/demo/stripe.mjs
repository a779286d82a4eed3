// Paying, as Stripe would tell of it: two events, signed by stripe-node's own helper, delivered to the webhook.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { deliver, recorded } from '../journeys/stripe_events.mjs';

export async function payByStripe({ url, secret, orgId, say }) {
  const events = recorded('checkout', { orgId, tag: `D${randomBytes(6).toString('hex')}` });
  for (const event of events) {
    const { status, body } = await deliver(url, event, secret);
    assert.deepEqual([status, body.status], [200, 'applied'], `${event.type}: ${JSON.stringify(body)}`);
    say(`Stripe's ${event.type}: HTTP ${status}, ${body.status}`);
  }
}
