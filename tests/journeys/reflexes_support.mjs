// What the journeys of reflexes share: a reflex, requests signed by the vendors' own libraries, and what became of a delivery.
import { randomUUID } from 'node:crypto';
import { sign as githubSign } from '@octokit/webhooks-methods';
import { Webhook } from 'standardwebhooks';
import { ok, until } from './domain.mjs';
import { signature as stripeSignature } from './stripe_events.mjs';
import { env, sql } from './support.mjs';

/** A webhook with its secret, which only the insert returns. */
export const newReflex = (person, fields) =>
  ok(
    person.client
      .from('reflexes')
      .insert({ name: 'Hook', ...fields })
      .select('*, signing_secret')
      .single(),
  );

/** Any request to a webhook's URL. */
export async function post(path, body, headers = {}) {
  const response = await fetch(`${env.API_URL}/webhooks/${path}`, {
    method: 'POST',
    body,
    headers: { 'Content-Type': 'application/json', ...headers },
  });
  const text = await response.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: response.status, headers: response.headers, body: json, text };
}

const seconds = (at) => Math.floor(at / 1000);

/** Headers for each kind of signature. `at`: the sender's clock, in milliseconds. */
export const SIGNERS = {
  standard_webhooks: async (secret, body, { id = `msg_${randomUUID()}`, at = Date.now() } = {}) => ({
    'webhook-id': id,
    'webhook-timestamp': String(seconds(at)),
    'webhook-signature': new Webhook(secret).sign(id, new Date(at), body),
  }),
  github: async (secret, body, { id = randomUUID(), event = 'push' } = {}) => ({
    'X-GitHub-Event': event,
    'X-GitHub-Delivery': id,
    'X-Hub-Signature-256': await githubSign(secret, body),
  }),
  stripe: async (secret, body, { at = Date.now() } = {}) => ({ 'Stripe-Signature': stripeSignature(body, secret, seconds(at)) }),
  hmac: async (secret, body) => ({ 'X-Signature': (await githubSign(secret, body)).replace('sha256=', '') }),
  bearer: async (secret) => ({ Authorization: `Bearer ${secret}` }),
};

/** A signed request to a reflex. */
export async function deliver(reflex, payload, options = {}) {
  const body = typeof payload === 'string' ? payload : JSON.stringify(payload);
  const headers = await SIGNERS[reflex.verification](options.secret ?? reflex.signing_secret, body, options);
  return post(`reflex/${reflex.id}`, body, { ...headers, ...options.headers });
}

/** The delivery, as the person sees it, once its job has processed it. */
export async function processed(person, id) {
  await until(`delivery ${id} to be processed`, async () => {
    const [delivery] = await sql('select status from public.reflex_deliveries where id = $1', [id]);
    return delivery && delivery.status !== 'received';
  });
  return ok(person.client.from('reflex_deliveries').select('*').eq('id', id).single());
}

export const deliveriesOf = async (reflex) =>
  sql('select * from public.reflex_deliveries where reflex_id = $1 order by created_at, id', [reflex.id]);
