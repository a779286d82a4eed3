// Headers that steer a request: preflights of a browser, and a transaction that the client wants rolled back.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { newPerson, ok } from './domain.mjs';
import { json } from './raw_http.mjs';
import { api, http } from './support.mjs';

describe('Prefer: tx=rollback', () => {
  test('is refused, and nothing is committed', async () => {
    const person = await newPerson('PRO');
    const { error, status } = await person.client.from('projects').insert({ name: 'Only tried' }).rollback();
    assert.deepEqual([status, error?.code], [400, 'bad_request'], JSON.stringify(error));
    assert.deepEqual(await ok(person.client.from('projects').select('id')), []);
    for (const prefer of ['tx=rollback', 'return=minimal, TX = "Rollback"']) {
      const answer = await http('POST', '/rest/v1/projects', {
        token: person.token,
        headers: { ...json, Prefer: prefer },
        body: { name: 'Only tried' },
      });
      assert.deepEqual([answer.status, answer.body?.code], [400, 'bad_request'], prefer);
    }
    const commit = await http('POST', '/rest/v1/projects', {
      token: person.token,
      headers: { ...json, Prefer: 'tx=commit' },
      body: { name: 'Kept' },
    });
    assert.equal(commit.status, 201);
  });
});

describe('preflights', () => {
  const places = [
    '/rest/v1/projects',
    '/rest/v1/rpc/execute_skill',
    '/auth/v1/token',
    '/functions/v1/anything',
    '/webhooks/stripe',
    '/nothing',
    '/',
  ];
  for (const place of places) {
    test(`echo the requested method and headers: ${place}`, async () => {
      for (const [method, headers] of [
        ['PATCH', 'x-my-own, x-retry-count, traceparent'],
        ['DELETE', 'baggage'],
        ['PUT', ''],
      ]) {
        const answer = await http('OPTIONS', place, {
          headers: {
            Origin: 'https://app.example',
            'Access-Control-Request-Method': method,
            ...(headers && { 'Access-Control-Request-Headers': headers }),
          },
        });
        assert.equal(answer.status, 204, answer.text);
        assert.equal(answer.headers.get('access-control-allow-origin'), '*');
        assert.equal(answer.headers.get('access-control-allow-methods'), method);
        if (headers) assert.equal(answer.headers.get('access-control-allow-headers'), headers);
        else assert.match(answer.headers.get('access-control-allow-headers'), /authorization/);
        assert.match(answer.headers.get('vary'), /access-control-request-headers/i);
      }
    });
  }

  test('a page of another origin can read every response, errors too', async () => {
    for (const [path, headers] of [
      ['/rest/v1/nothing', {}],
      ['/auth/v1/nothing', {}],
      ['/functions/v1/nothing', {}],
      ['/webhooks/stripe', {}],
      ['/nothing', {}],
      ['/rest/v1/projects?a=%ff', {}],
      [`/rest/v1/projects?a=${'x'.repeat(17_000)}`, {}],
    ]) {
      const answer = await http('GET', path, { headers: { Origin: 'https://app.example', ...headers } });
      assert.ok(answer.status >= 400, path);
      assert.equal(answer.headers.get('access-control-allow-origin'), '*', path);
      assert.match(answer.headers.get('access-control-expose-headers'), /RateLimit/, path);
    }
  });

  test('a supabase-js client with custom headers works', async () => {
    const person = await newPerson();
    const own = api({ Authorization: `Bearer ${person.token}`, 'x-my-own': '1' });
    await ok(own.from('projects').select('id'));
  });
});
