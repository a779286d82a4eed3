// What the journeys of webhooks share: a receiver on this machine, which the test's stack may reach by kijko.http_allowed_hosts.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPublicKey, verify } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { ok, until } from './domain.mjs';

/** A server that keeps what it was sent. `answer(request, n)` returns the status of the n-th one; 204 without it. */
export async function newReceiver(answer = () => 204) {
  const received = [];
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      received.push({ method: request.method, headers: request.headers, body, event: JSON.parse(body) });
      response.writeHead(answer(received.at(-1), received.length)).end('seen');
    });
  });
  await new Promise((resolve) => server.listen(0, 'localhost', resolve));
  return {
    url: `http://localhost:${server.address().port}/hook`,
    received,
    /** The n-th request that fits. */
    next: (fits = () => true, n = 1) => until('a webhook to arrive', () => received.filter(fits)[n - 1]),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export const ofType = (type) => (request) => request.event.type === type;

/** An endpoint with its secret, which only the insert returns. */
export const newEndpoint = (person, fields) =>
  ok(person.client.from('webhook_endpoints').insert(fields).select('*, webhook_secret').single());

/** A delivery of the endpoint once it has ended. */
export const endedDelivery = (person, endpoint, id) =>
  until('a delivery to end', async () => {
    const all = await ok(person.client.rpc('list_webhook_deliveries', { endpoint_id: endpoint.id }));
    return all.find((delivery) => delivery.id === id && delivery.status !== 'pending');
  });

/** Verifies a signature by Ed25519 as the specification says; the library of npm knows shared secrets only. */
export function verifyEd25519(publicKey, { headers, body }) {
  const raw = Buffer.from(publicKey.slice('whpk_'.length), 'base64');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }, format: 'jwk' });
  const signed = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`);
  return headers['webhook-signature'].split(' ').some((one) => {
    const [version, signature] = one.split(',');
    return version === 'v1a' && verify(null, signed, key, Buffer.from(signature, 'base64'));
  });
}

const PYTHON = fileURLToPath(new URL('../../target/tools/python-tests/bin/python', import.meta.url));
const VERIFIER = fileURLToPath(new URL('webhooks_verify.py', import.meta.url));

/** What the library of PyPI says of requests, each with its secret: the payload, or null for one that it refuses. */
export function verifyInPython(requests) {
  assert.ok(existsSync(PYTHON), 'target/tools/python-tests is missing: ./kijko test journeys installs it');
  const input = requests.map(({ secret, body, headers }) => JSON.stringify({ secret, body, headers })).join('\n');
  const { status, stdout, stderr } = spawnSync(PYTHON, [VERIFIER], { input, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}
