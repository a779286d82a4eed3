// What the journeys of billing share: a fake of Stripe, a sidecar with its key, and organizations that buy.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import { Sidecar } from '../crash/harness.mjs';
import { startStripe } from '../fake_stripe/server.mjs';
import { binary, databaseUrl } from '../service.mjs';
import { until } from '../until.mjs';
import { newPerson } from './domain.mjs';
import { SECRET } from './stripe_webhook.mjs';
import { env, sql } from './support.mjs';

const KEY = 'sk_test_kijko';
const started = [];
after(async () => {
  for (const { stripe, sidecar } of started) {
    await sidecar.terminate();
    // The pools of the other helpers have ended.
    const database = new pg.Client({ connectionString: env.DB_URL });
    await database.connect();
    await database.query('delete from private.billing_account; delete from private.billing_objects; delete from private.billing_effects');
    await database.end();
    await stripe.close();
  }
});

/** A fake of Stripe that the database and a sidecar of its own know, with the catalogue synced. */
export async function startBilling() {
  const stripe = await startStripe({ key: KEY, webhook: { url: env.API_URL, secret: SECRET } });
  const variables = { KIJKO_LLM_ECHO: '0', KIJKO_REST_URL: restUrl(), STRIPE_API_KEY: KEY, STRIPE_API_URL: stripe.url };
  const sidecar = await Sidecar.start(null, { variables });
  started.push({ stripe, sidecar });
  await until(
    'the account to be registered',
    async () => (await sql('select 1 from private.billing_account where api_url = $1', [stripe.url])).length > 0,
  );
  /** A command of an operator. */
  const command = (...words) =>
    promisify(execFile)(binary('sidecar'), ['billing', ...words], {
      env: { PATH: process.env.PATH, DATABASE_URL: databaseUrl('sidecar', 'KIJKO_SIDECAR', 'test-billing'), ...variables },
    });
  return { stripe, sidecar, variables, command };
}

// PostgREST behind Caddy: the sidecar asks it as the caller.
function restUrl() {
  return `${env.API_URL}/rest/v1`;
}

/** An owner with an organization whose country is known. */
export async function newPayer(country = 'NL') {
  const owner = await newPerson();
  const org = owner.orgId;
  await sql(`insert into public.billing_details (org_id, kind, name, country) values ($1, 'business', 'Café BV', $2)`, [org, country]);
  return { ...owner, org };
}

/** Calls a function as a user or with a key, on the sidecar that has the account. */
export async function call(sidecar, caller, name, body, headers = {}) {
  const response = await fetch(`${sidecar.url}/functions/v1/billing-${name}`, {
    method: 'POST',
    headers: {
      apikey: env.ANON_KEY,
      'Content-Type': 'application/json',
      ...(caller.session && { Authorization: `Bearer ${caller.session.access_token}` }),
      ...(caller.key && { 'X-API-Key': caller.key }),
      ...(caller.org && { 'x-org-id': caller.org }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

export const RETURN = { success_url: 'http://127.0.0.1:3000/billing?ok', cancel_url: 'http://127.0.0.1:3000/billing' };

/** Buys a plan and pays; the subscription at Stripe. */
export async function buy({ stripe, sidecar }, payer, asked = { plan: 'PRO' }, how) {
  const { status, body } = await call(sidecar, payer, 'checkout', { ...asked, ...RETURN });
  assert.equal(status, 200, JSON.stringify(body));
  const subscription = stripe.account.pay(body.id, how);
  await stripe.account.delivered();
  return { session: body, subscription };
}

/** Runs the schedule until nothing is open. */
export async function settled() {
  await until('requests to Stripe to end', async () => {
    // The stack's own schedule may be at it: what it has not committed yet is not seen.
    await sql(`do $$ begin perform pg_advisory_xact_lock(hashtext('kijko.billing.tick')); perform private.billing_tick(); end $$`);
    return (await sql(`select 1 from private.billing_effects where state = 'open'`)).length === 0;
  });
}

export const subscriptionOf = async (org) => (await sql('select plan, status from public.subscriptions where org_id = $1', [org]))[0];
export const noticesOf = async (org) =>
  (await sql('select type from public.notifications where org_id = $1 order by created_at, xid', [org])).map(({ type }) => type);
