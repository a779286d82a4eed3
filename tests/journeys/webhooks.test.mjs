// Webhooks: who may make endpoints, and what a receiver on this machine is sent, verified by the library of Standard Webhooks.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import {
  assertAnonymousSeesNothing,
  ended,
  execute,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  setPlan,
  unaffected,
  until,
} from './domain.mjs';
import { admin, api, sql } from './support.mjs';
import { endedDelivery, newEndpoint, newReceiver, ofType, verifyEd25519, verifyInPython } from './webhooks_support.mjs';

describe('who may see and change endpoints', () => {
  let team, endpoint;
  before(async () => {
    team = await newTeam();
    endpoint = await newEndpoint(team.owner, { url: 'https://hooks.example.com/in', event_types: ['member.joined'] });
  });

  test('a visitor and a non-member see nothing', async () => {
    await assertAnonymousSeesNothing(['webhook_endpoints', 'webhook_messages']);
    const { client } = team.nonMember;
    await unaffected(client.from('webhook_endpoints').select().eq('id', endpoint.id));
    await unaffected(client.from('webhook_endpoints').update({ enabled: false }).eq('id', endpoint.id).select());
    await unaffected(client.from('webhook_endpoints').delete().eq('id', endpoint.id).select());
    await refused(client.rpc('send_test_webhook', { endpoint_id: endpoint.id }), 404, 'not_found');
    await refused(client.rpc('rotate_webhook_secret', { endpoint_id: endpoint.id }), 404, 'not_found');
    await refused(client.rpc('list_webhook_deliveries', { endpoint_id: endpoint.id }), 404, 'not_found');
    await refused(client.from('webhook_endpoints').insert({ org_id: team.orgId, url: 'https://evil.example.com/' }), 403, '42501');
  });

  test('a viewer and a member see none, an admin makes one', async () => {
    for (const { client } of [team.viewer, team.member]) {
      await unaffected(client.from('webhook_endpoints').select().eq('id', endpoint.id));
      await refused(client.rpc('send_test_webhook', { endpoint_id: endpoint.id }), 404, 'not_found');
    }
    assert.match((await newEndpoint(team.admin, { url: 'https://hooks.example.com/admin' })).webhook_secret, /^whsec_/);
  });

  test('a key with webhooks:read reads and sends nothing', async () => {
    const key = await ok(team.owner.client.rpc('create_api_key', { name: 'reads', permissions: ['webhooks:read'] }));
    const client = api({ 'X-API-Key': key.secret });
    const [seen] = await ok(client.from('webhook_endpoints').select('*, webhook_secret').eq('id', endpoint.id));
    assert.equal(seen.webhook_secret, null);
    assert.ok(!JSON.stringify(seen).includes(endpoint.webhook_secret));
    await refused(client.rpc('send_test_webhook', { endpoint_id: endpoint.id }), 403, 'permission_denied');
  });

  test('a URL that may not be reached is refused when it is stored', async () => {
    for (const url of [
      'http://127.0.0.1/',
      'http://10.0.0.1/',
      'http://169.254.169.254/',
      'http://[::ffff:10.0.0.1]/',
      'ftp://example.com/',
      'nothing',
    ]) {
      await refused(team.owner.client.from('webhook_endpoints').insert({ url }).select(), 422, 'invalid_input');
    }
  });

  test('a plan limits endpoints', async () => {
    const person = await newPerson();
    await newEndpoint(person, { url: 'https://hooks.example.com/1' });
    await refused(person.client.from('webhook_endpoints').insert({ url: 'https://hooks.example.com/2' }).select(), 429, 'quota_exceeded');
  });
});

describe('what a receiver is sent', () => {
  let person, receiver;
  before(async () => {
    person = await newPerson('TEAMS');
    receiver = await newReceiver();
  });
  after(() => receiver.close());

  test('a signed event, once, with the id of its message', async () => {
    const endpoint = await newEndpoint(person, { url: receiver.url, event_types: ['execution.succeeded'] });
    const skill = await newSkill(person);
    const execution = await ended(person, (await ok(execute(person, skill.id, { n: 1 }))).id);
    assert.equal(execution.status, 'succeeded');
    const request = await receiver.next(ofType('execution.succeeded'));
    const event = new Webhook(endpoint.webhook_secret).verify(request.body, request.headers);
    assert.deepEqual(Object.keys(event).sort(), ['data', 'timestamp', 'type']);
    assert.deepEqual([event.data.id, event.data.org_id], [execution.id, person.orgId]);
    assert.equal(request.headers['event-version'], '1');
    const [message] = await ok(
      person.client.from('webhook_messages').select().eq('org_id', person.orgId).eq('type', 'execution.succeeded'),
    );
    assert.equal(request.headers['webhook-id'], `msg_${message.id}`);
    assert.deepEqual(message.payload, event);
    assert.throws(() => new Webhook(endpoint.webhook_secret).verify(request.body.replace('succeeded', 'forged'), request.headers));
    await ok(person.client.from('webhook_endpoints').delete().eq('id', endpoint.id));
  });

  test('during a rotation both secrets verify, after it only the new one', async () => {
    const endpoint = await newEndpoint(person, { url: receiver.url, event_types: ['webhook.test'] });
    const send = async (n) => {
      await ok(person.client.rpc('send_test_webhook', { endpoint_id: endpoint.id }));
      return receiver.next((request) => request.event.data.endpoint_id === endpoint.id, n);
    };
    const first = await send(1);
    assert.equal(first.headers['webhook-signature'].split(' ').length, 1, 'one signature without a rotation');
    const rotated = await ok(person.client.rpc('rotate_webhook_secret', { endpoint_id: endpoint.id }));
    const second = await send(2);
    for (const secret of [endpoint.webhook_secret, rotated.secret]) new Webhook(secret).verify(second.body, second.headers);
    await sql(`update public.webhook_endpoints set former_secret_until = kijko.now() where id = $1`, [endpoint.id]);
    await sql('select private.webhooks_end_overlaps()');
    const third = await send(3);
    new Webhook(rotated.secret).verify(third.body, third.headers);
    assert.throws(() => new Webhook(endpoint.webhook_secret).verify(third.body, third.headers));
    // The same by the library of PyPI.
    const by = (secret, request, body = request.body) => ({ secret, body, headers: request.headers });
    const verified = verifyInPython([
      by(endpoint.webhook_secret, first),
      by(endpoint.webhook_secret, second),
      by(rotated.secret, second),
      by(rotated.secret, third),
      by(endpoint.webhook_secret, third),
      by(rotated.secret, first),
      by(rotated.secret, third, third.body.replace('webhook.test', 'webhook.forged')),
      by(rotated.secret, { ...third, headers: { ...third.headers, 'webhook-id': first.headers['webhook-id'] } }),
    ]);
    assert.deepEqual(
      verified.map((payload) => payload?.type),
      ['webhook.test', 'webhook.test', 'webhook.test', 'webhook.test', undefined, undefined, undefined, undefined],
    );
    assert.deepEqual(verified[3], JSON.parse(third.body));
    await ok(person.client.from('webhook_endpoints').delete().eq('id', endpoint.id));
  });

  test('by ed25519 the public key verifies', async () => {
    const endpoint = await newEndpoint(person, { url: receiver.url, event_types: ['webhook.test'], signature: 'ed25519' });
    assert.equal(endpoint.webhook_secret, null);
    await ok(person.client.rpc('send_test_webhook', { endpoint_id: endpoint.id }));
    const request = await receiver.next((one) => one.event.data.endpoint_id === endpoint.id);
    assert.ok(verifyEd25519(endpoint.public_key, request));
    assert.ok(!verifyEd25519(endpoint.public_key, { ...request, body: `${request.body} ` }));
    await ok(person.client.from('webhook_endpoints').delete().eq('id', endpoint.id));
  });

  test('a failure is repeated with the same id, and the log has both attempts', async () => {
    const flaky = await newReceiver((_, n) => (n === 1 ? 503 : 200));
    try {
      const endpoint = await newEndpoint(person, { url: flaky.url, event_types: ['webhook.test'] });
      const { id } = await ok(person.client.rpc('send_test_webhook', { endpoint_id: endpoint.id }));
      const [first, second] = [await flaky.next(), await flaky.next(undefined, 2)];
      assert.equal(first.headers['webhook-id'], second.headers['webhook-id']);
      assert.equal(first.body, second.body);
      const delivery = await endedDelivery(person, endpoint, id);
      assert.deepEqual([delivery.status, delivery.attempts, delivery.response_status], ['succeeded', 2, 200]);
      const attempts = await ok(person.client.rpc('list_webhook_attempts', { delivery_id: id }));
      assert.deepEqual(
        attempts.map((attempt) => [attempt.response_status, attempt.response_body]),
        [
          [503, 'seen'],
          [200, 'seen'],
        ],
      );
      const again = await ok(person.client.rpc('redeliver_webhook', { message_id: delivery.message_id, endpoint_id: endpoint.id }));
      assert.equal((await endedDelivery(person, endpoint, again.id)).status, 'succeeded');
      assert.equal((await flaky.next(undefined, 3)).headers['webhook-id'], first.headers['webhook-id']);
    } finally {
      flaky.close();
    }
  });

  test('410 disables the endpoint, and admins are told', async () => {
    const gone = await newReceiver(() => 410);
    try {
      const endpoint = await newEndpoint(person, { url: gone.url, event_types: ['project.created'] });
      await ok(person.client.from('projects').insert({ name: 'Gone' }).select().single());
      await gone.next(ofType('project.created'));
      const [delivery] = await ok(person.client.rpc('list_webhook_deliveries', { endpoint_id: endpoint.id }));
      await endedDelivery(person, endpoint, delivery.id);
      // The stack's own schedule may be at it.
      const stored = await until('the endpoint to be off', async () => {
        await sql('select private.webhooks_sync()');
        const row = await ok(person.client.from('webhook_endpoints').select().eq('id', endpoint.id).single());
        return !row.enabled && row;
      });
      assert.equal(stored.disabled_reason, 'gone');
      const told = await ok(person.client.rpc('list_notifications'));
      assert.ok(told.some((one) => one.type === 'webhook.disabled' && one.data.endpoint_id === endpoint.id));
      const on = await ok(person.client.from('webhook_endpoints').update({ enabled: true }).eq('id', endpoint.id).select().single());
      assert.equal(on.disabled_reason, null);
    } finally {
      gone.close();
    }
  });

  test('a member who joins and a plan that changes are events of their organization alone', async () => {
    const other = await newPerson('TEAMS');
    const theirs = await newReceiver();
    try {
      await newEndpoint(other, { url: theirs.url });
      const endpoint = await newEndpoint(person, { url: receiver.url, event_types: ['subscription.changed'] });
      await setPlan(person.orgId, 'PRO');
      const request = await receiver.next(ofType('subscription.changed'));
      const { data } = new Webhook(endpoint.webhook_secret).verify(request.body, request.headers);
      assert.deepEqual([data.former_plan, data.plan], ['TEAMS', 'PRO']);
      await ok(admin().from('subscriptions').update({ status: 'past_due' }).eq('org_id', other.orgId));
      const only = await theirs.next();
      assert.equal(only.event.data.org_id, other.orgId);
      assert.equal(theirs.received.length, 1);
    } finally {
      theirs.close();
    }
  });
});
