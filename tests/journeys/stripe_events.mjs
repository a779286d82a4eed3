// Recorded events of Stripe, moved to an organization and to the present.
import { readFileSync } from 'node:fs';
import Stripe from 'stripe';

const NAMES_ORG = '11111111-1111-4111-8111-111111111111';
// The key is never used: what signs is a function of the library, and nothing here calls Stripe.
const stripe = new Stripe('sk_test_unused');

/**
 * A life as recorded, of another customer: new ids (ending in `tag`), another organization, and all times moved so that
 * the last event happened at `end` (in seconds).
 */
export function recorded(name, { orgId, tag, end = Math.floor(Date.now() / 1000) }) {
  const text = readFileSync(new URL(`../fixtures/stripe/${name}.json`, import.meta.url), 'utf8')
    .replaceAll(NAMES_ORG, orgId)
    .replaceAll(/"((?:evt|cus|sub|si|in|cs_test|price|prod|pm|req)_1\w+)"/g, `"$1${tag}"`);
  const moved = end - Math.max(...JSON.parse(text).map((event) => event.created));
  // Every whole number of this size is a moment; amounts are smaller.
  return JSON.parse(text, (_, value) =>
    Number.isInteger(value) && value > 1_700_000_000 && value < 1_900_000_000 ? value + moved : value,
  );
}

/** The header that Stripe would send, by stripe-node's own helper. */
export const signature = (payload, secret, timestamp) =>
  stripe.webhooks.generateTestHeaderString({ payload, secret, ...(timestamp && { timestamp }) });

/** A thin event, verified and read by stripe-node itself. */
export const parseThin = (payload, header, secret) => stripe.parseEventNotification(payload, header, secret);

/** Delivers an event, or any text, as Stripe does. */
export async function deliver(url, event, secret, { header } = {}) {
  const payload = typeof event === 'string' ? event : JSON.stringify(event);
  const response = await fetch(`${url}/webhooks/stripe`, {
    method: 'POST',
    body: payload,
    headers: {
      'Content-Type': 'application/json; charset=utf-8',
      ...(header !== null && { 'Stripe-Signature': header ?? signature(payload, secret) }),
    },
  });
  const text = await response.text();
  return { status: response.status, body: JSON.parse(text), text };
}
