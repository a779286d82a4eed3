// API keys: a rate and a quota of their own, keys for browsers, and usage by key.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createKey, keyClient, withKey } from './api_keys_support.mjs';
import { newPerson, newSkill, newTeam, ok, refused, until } from './domain.mjs';

const GET = '/skills?select=id';

describe('the limits of a key', () => {
  test('its rate is its own: the caller without it goes on', async () => {
    const person = await newPerson('PRO');
    const [slow, other] = [
      await createKey(person, { permissions: ['skills:read'], rate_limit: 5 }),
      await createKey(person, { permissions: ['skills:read'] }),
    ];
    const answers = [];
    for (let n = 0; n < 8; n += 1) answers.push(await withKey(slow.secret, 'GET', GET));
    assert.deepEqual(
      answers.slice(0, 5).map(({ status }) => status),
      [200, 200, 200, 200, 200],
    );
    const over = answers.find(({ status }) => status === 429);
    assert.ok(over, 'more requests than its rate are refused');
    assert.equal(over.body.code, 'rate_limited');
    assert.equal(over.headers.get('x-ratelimit-resource'), 'api_key_requests');
    assert.equal(over.headers.get('x-ratelimit-limit'), '5');
    assert.ok(Number(over.headers.get('retry-after')) > 0);
    for (const client of [keyClient(other.secret), person.client]) await ok(client.from('skills').select('id'));
  });

  test('its rate is in the headers of each answer', async () => {
    const person = await newPerson();
    const { secret } = await createKey(person, { permissions: ['skills:read'], rate_limit: 50 });
    const answer = await withKey(secret, 'GET', GET);
    assert.match(answer.headers.get('ratelimit-policy'), /"api_key_requests";q=50/);
  });

  test('its monthly quota is its own, and a larger one opens it again', async () => {
    const person = await newPerson('PRO');
    const key = await createKey(person, { permissions: ['skills:read'], monthly_quota: 3 });
    const statuses = [];
    let last;
    for (let n = 0; n < 4; n += 1) {
      last = await withKey(key.secret, 'GET', GET);
      statuses.push(last.status);
    }
    assert.deepEqual(statuses, [200, 200, 200, 429]);
    assert.equal(last.body.code, 'quota_exceeded');
    await ok(person.client.from('skills').select('id'));
    await ok(person.client.from('api_keys').update({ monthly_quota: 100 }).eq('id', key.id));
    assert.equal((await withKey(key.secret, 'GET', GET)).status, 200);
  });
});

describe('a publishable key', () => {
  test('works from its origins only, within its permission, with a daily quota', async () => {
    const person = await newPerson('PRO');
    const origin = 'https://app.example.com';
    const { secret, daily_quota } = await createKey(person, {
      kind: 'publishable',
      permissions: ['events:ingest'],
      origins: [origin],
      daily_quota: 4,
    });
    assert.equal(daily_quota, 4);
    const from = (headers) =>
      withKey(secret, 'POST', '/rpc/can', {
        body: { org: person.orgId, permission: 'events:ingest' },
        headers: { 'Content-Type': 'application/json', ...headers },
      });
    for (const headers of [{}, { Origin: 'https://evil.example.com' }, { Origin: `${origin}.evil.example` }, { Origin: 'null' }]) {
      const answer = await from(headers);
      assert.deepEqual([answer.status, answer.body.code], [401, 'not_identified'], JSON.stringify(headers));
    }
    const answer = await from({ Origin: origin });
    assert.deepEqual([answer.status, answer.body], [200, true], answer.text);
    const client = keyClient(secret, { Origin: origin });
    assert.equal(await ok(client.rpc('can', { org: person.orgId, permission: 'skills:read' })), false);
    assert.deepEqual(await ok(client.from('skills').select('id')), []);
    assert.deepEqual(await ok(client.from('api_keys').select('id')), []);
    await refused(client.rpc('can', { org: person.orgId, permission: 'events:ingest' }), 429, 'quota_exceeded');
  });
});

describe('usage by key', () => {
  test('shows each key to who may list it, and others the sum', async () => {
    const team = await newTeam();
    const skill = await newSkill(team.owner);
    const permissions = ['skills:read', 'skills:execute', 'usage:read'];
    const service = await createKey(team.owner, { permissions });
    const own = await createKey(team.member, { kind: 'personal', permissions });
    for (const [key, times] of [
      [service, 3],
      [own, 2],
    ])
      for (let n = 0; n < times; n += 1) await ok(keyClient(key.secret).rpc('execute_skill', { skill_id: skill.id, input: { n: `${n}` } }));
    const usage = async (client, only_meter) =>
      Object.fromEntries((await ok(client.rpc('usage_by', { dimension: 'key', only_meter }))).map(({ value, used }) => [value, used]));
    // Executions are counted when they have ended.
    await until('the executions to be counted', async () => {
      const counted = await usage(team.owner.client, 'executions');
      return counted[service.id] === 3 && counted[own.id] === 2;
    });
    assert.deepEqual(await usage(team.owner.client, 'executions'), { [service.id]: 3, [own.id]: 2 });
    assert.deepEqual(await usage(team.member.client, 'executions'), { null: 3, [own.id]: 2 });
    assert.deepEqual(await usage(team.viewer.client, 'executions'), { null: 5 });
    assert.deepEqual(await usage(keyClient(service.secret), 'executions'), { null: 5 });
    await until('the requests to be counted', async () => (await usage(team.owner.client, 'api_requests'))[service.id] >= 4);
    const requests = await usage(team.owner.client, 'api_requests');
    assert.ok(requests[own.id] >= 2 && requests.null > 0, JSON.stringify(requests));
    assert.deepEqual(Object.keys(await usage(team.viewer.client, 'api_requests')), ['null']);
  });
});
