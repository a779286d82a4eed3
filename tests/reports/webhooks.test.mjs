// Reports about webhooks that are sent: redirects, endpoints that are gone, signatures over bytes, addresses that must not be reached.
import assert from 'node:assert/strict';
import { before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';
import { newPerson, ok, refused, until } from '../journeys/domain.mjs';
import { newServer } from '../journeys/functions_support.mjs';
import { sql } from '../journeys/support.mjs';
import { endedDelivery, newEndpoint, newReceiver, ofType } from '../journeys/webhooks_support.mjs';
import { report } from './report.mjs';

let person;
before(async () => {
  person = await newPerson('TEAMS');
});

const sendTest = (endpoint) => ok(person.client.rpc('send_test_webhook', { endpoint_id: endpoint.id }));
const attemptsOf = (id) => ok(person.client.rpc('list_webhook_attempts', { delivery_id: id }));
const firstAttempt = (id) => until('an attempt', async () => (await attemptsOf(id))[0]);

/** A receiver that answers each request with a status and headers. */
async function answering(status, headers) {
  const requests = [];
  const url = await newServer((request, response) => {
    requests.push(request.url);
    request.resume();
    response.writeHead(status, headers).end();
  });
  return { url: `${url}/hook`, requests };
}

report('webhooks-1', 'a redirect is a failure and is not followed, whatever its status', async () => {
  const inner = await answering(200, {});
  for (const status of [301, 302, 303, 307, 308]) {
    const hook = await answering(status, { Location: inner.url });
    const endpoint = await newEndpoint(person, { url: hook.url, event_types: ['webhook.test'] });
    const { id } = await sendTest(endpoint);
    assert.equal((await firstAttempt(id)).response_status, status);
    await ok(person.client.from('webhook_endpoints').delete().eq('id', endpoint.id));
  }
  assert.deepEqual(inner.requests, []);
});

report('webhooks-2', 'an endpoint that answers 410 is asked once, and events that come later are not kept for it', async () => {
  const gone = await newReceiver(() => 410);
  try {
    const endpoint = await newEndpoint(person, { url: gone.url, event_types: ['project.created'] });
    const create = (name) => ok(person.client.from('projects').insert({ name }).select().single());
    await create('One');
    await gone.next(ofType('project.created'));
    await until('the endpoint to be off', async () => {
      await sql('select private.webhooks_sync()');
      return !(await ok(person.client.from('webhook_endpoints').select('enabled').eq('id', endpoint.id).single())).enabled;
    });
    await create('Two');
    await sleep(7_000);
    assert.equal(gone.received.length, 1, 'neither repeated nor sent what came later');
    const deliveries = await ok(person.client.rpc('list_webhook_deliveries', { endpoint_id: endpoint.id }));
    assert.deepEqual(
      deliveries.map(({ status, attempts }) => [status, attempts]),
      [['failed', 1]],
    );
  } finally {
    gone.close();
  }
});

report('webhooks-3', 'a deleted endpoint gets no repetition of what failed before', async () => {
  const down = await newReceiver(() => 503);
  try {
    const endpoint = await newEndpoint(person, { url: down.url, event_types: ['webhook.test'] });
    await sendTest(endpoint);
    await down.next();
    await ok(person.client.from('webhook_endpoints').delete().eq('id', endpoint.id));
    const sent = down.received.length;
    await sleep(7_000);
    assert.equal(down.received.length, sent);
  } finally {
    down.close();
  }
});

report('webhooks-4', 'the signature is of the bytes that are sent, also where JSON could be written otherwise', async () => {
  const receiver = await newReceiver();
  try {
    const endpoint = await newEndpoint(person, { url: receiver.url, event_types: ['project.created'] });
    const name = 'é ü 灯 😀 " \\ / <script> & 1.10';
    const project = await ok(person.client.from('projects').insert({ name }).select().single());
    const request = await receiver.next((one) => one.event.data.id === project.id);
    const event = new Webhook(endpoint.webhook_secret).verify(request.body, request.headers);
    assert.equal(event.data.name, name);
    assert.equal(Number(request.headers['content-length']), Buffer.byteLength(request.body));
    const reordered = JSON.stringify({ data: event.data, ...event });
    assert.throws(() => new Webhook(endpoint.webhook_secret).verify(`${reordered} `, request.headers));
    await ok(person.client.from('webhook_endpoints').delete().eq('id', endpoint.id));
  } finally {
    receiver.close();
  }
});

report('webhooks-5', 'what is sent again has the same id and body, and a signature of its own time', async () => {
  const flaky = await newReceiver((_, n) => (n < 3 ? 500 : 200));
  try {
    const endpoint = await newEndpoint(person, { url: flaky.url, event_types: ['webhook.test'] });
    await sendTest(endpoint);
    const [first, second] = [await flaky.next(), await flaky.next(undefined, 2)];
    assert.deepEqual([first.headers['webhook-id'], first.body], [second.headers['webhook-id'], second.body]);
    assert.ok(Number(second.headers['webhook-timestamp']) > Number(first.headers['webhook-timestamp']), 'a receiver refuses old times');
    for (const request of [first, second]) new Webhook(endpoint.webhook_secret).verify(request.body, request.headers);
    await ok(person.client.from('webhook_endpoints').delete().eq('id', endpoint.id));
  } finally {
    flaky.close();
  }
});

report('webhooks-6', 'no spelling of an inner address is an endpoint', async () => {
  for (const url of [
    'http://127.0.0.1/',
    'http://127.1/',
    'http://2130706433/',
    'http://0x7f000001/',
    'http://0177.0.0.1/',
    'http://0/',
    'http://[::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:7f00:1]/',
    'http://[64:ff9b::7f00:1]/',
    'http://[fd00::1]/',
    'http://[fe80::1]/',
    'http://169.254.169.254/latest/meta-data/',
    'http://100.64.0.1/',
    'http://192.0.0.1/',
    'http://224.0.0.1/',
    'http://user:pass@127.0.0.1/',
    'http://hooks.example.com@127.0.0.1/',
    'http://127.0.0.1#@hooks.example.com/',
    'http://127.0.0.1\\@hooks.example.com/',
    'http://１２７.0.0.1/',
    'http://127。0。0。1/',
    'file:///etc/passwd',
    'gopher://hooks.example.com/',
  ]) {
    await refused(person.client.from('webhook_endpoints').insert({ url }).select(), 422, 'invalid_input');
  }
});

report('webhooks-7', 'a receiver that never answers, or answers without end, delays no other endpoint', async () => {
  const silent = await newServer((request) => request.resume());
  const endless = await newServer((request, response) => {
    request.resume();
    response.writeHead(200);
    const more = setInterval(() => response.write('x'.repeat(10_000)), 5);
    response.on('close', () => clearInterval(more));
  });
  const receiver = await newReceiver();
  try {
    const [quiet, chatty, good] = [
      await newEndpoint(person, { url: `${silent}/`, event_types: ['webhook.test'] }),
      await newEndpoint(person, { url: `${endless}/`, event_types: ['webhook.test'] }),
      await newEndpoint(person, { url: receiver.url, event_types: ['webhook.test'] }),
    ];
    for (const endpoint of [quiet, quiet, quiet, chatty, chatty]) await sendTest(endpoint);
    const started = Date.now();
    const { id } = await sendTest(good);
    assert.equal((await endedDelivery(person, good, id)).status, 'succeeded');
    assert.ok(Date.now() - started < 15_000, `${Date.now() - started} ms`);
    await ok(person.client.from('webhook_endpoints').delete().in('id', [quiet.id, chatty.id, good.id]));
  } finally {
    receiver.close();
  }
});
