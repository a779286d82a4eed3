// Stripe's webhook of the running stack: its secrets, a delivery, and what became of it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { deliver } from './stripe_events.mjs';
import { env, sql } from './support.mjs';

export const SECRET = process.env.STRIPE_WEBHOOK_SECRET_LOCAL;
assert.ok(SECRET, 'STRIPE_WEBHOOK_SECRET_LOCAL is not set: export what ./kijko status -o env prints');

// What ./kijko test gives the stack besides; a stack started by hand has the local secret alone.
export const OTHER_SECRETS = (process.env.STRIPE_WEBHOOK_SECRET ?? '').split(',').filter(Boolean);

export const newTag = () => `T${randomBytes(4).toString('hex')}`;
export const send = (event, options) => deliver(env.API_URL, event, SECRET, options);
export const planOf = async (orgId) => (await sql('select plan, status from public.subscriptions where org_id = $1', [orgId]))[0];
export const stored = async (id) => (await sql('select * from private.stripe_events where id = $1', [id]))[0];

export const harmless = () => ({
  id: `evt_1${newTag()}`,
  object: 'event',
  api_version: '2025-09-30.clover',
  created: Math.floor(Date.now() / 1000),
  livemode: false,
  data: { object: { id: 'ch_1', object: 'charge' } },
  pending_webhooks: 1,
  request: { id: null, idempotency_key: null },
  type: 'charge.succeeded',
});
