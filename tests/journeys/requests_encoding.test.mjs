// Bytes that are not text are refused with 400 wherever they arrive, and cost no database connection.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { newPerson, ok } from './domain.mjs';
import { as, backends, bytes, raw, url } from './raw_http.mjs';
import { env, http } from './support.mjs';

describe('bytes that are not text', () => {
  let person;
  before(async () => {
    person = await newPerson('PRO');
  });
  const invalid = ['\xff\xfe', '\xc3', '\xc0\x80', '\xed\xa0\x80'];

  test('in any header are 400 and cost no connection', async () => {
    await ok(person.client.from('projects').select('id'));
    const known = await backends();
    for (const value of invalid) {
      for (const header of ['X-Anything', 'X-Org-Id', 'Prefer', 'X-Client-Info', 'Cookie', 'User-Agent', 'If-None-Match']) {
        const answer = await raw('GET', env.API_URL, '/rest/v1/projects?select=id', as(person.token, [header, `a${value}b`]));
        // PostgREST takes cookies out of the headers; there the character stays one.
        assert.equal(answer.status, header === 'Cookie' ? 200 : 400, `${header}: ${answer.text}`);
      }
      for (const header of ['Accept-Profile', 'Accept', 'Range']) {
        const answer = await raw('GET', env.API_URL, '/rest/v1/projects?select=id', as(person.token, [header, value]));
        assert.ok(answer.status >= 400 && answer.status < 500, `${header}: ${answer.text}`);
      }
      const login = await raw('GET', env.API_URL, '/auth/v1/user', as(person.token, ['X-Anything', value]));
      assert.ok(login.status < 500, login.text);
      const sidecar = await raw('POST', env.API_URL, '/webhooks/stripe', as(person.token, ['Stripe-Signature', value]), '{}');
      assert.ok(sidecar.status >= 400 && sidecar.status < 500, sidecar.text);
    }
    const now = await backends();
    assert.ok(
      known.every((pid) => now.includes(pid)),
      'no connection was lost',
    );
  });

  test('in the address are 400, percent-encoded or not', async () => {
    for (const part of ['%ff', '%FF%fe', '%c3', '%c3%28', '%c0%80', '%e0%80%80', '%ed%a0%80', '%f5%80%80%80', '%F4%90%80%80']) {
      for (const path of [`/rest/v1/projects?name=eq.${part}`, `/rest/v1/projects?${part}=eq.1`, `/rest/v1/pro${part}jects`]) {
        const answer = await raw('GET', env.API_URL, path, as(person.token));
        assert.deepEqual([answer.status, answer.body.code], [400, 'bad_request'], `${path}: ${answer.text}`);
      }
      for (const path of [`/auth/v1/${part}`, `/auth/v1/user?a=${part}`, `/functions/v1/${part}`]) {
        const answer = await raw('GET', env.API_URL, path, as(person.token));
        assert.ok(answer.status < 500, `${path}: ${answer.text}`);
      }
    }
    for (const line of ['GET /rest/v1/projects?name=eq.\xff', 'GET /rest/v1/pro\xffjects', 'G\xffT /rest/v1/projects']) {
      assert.equal(await bytes(`${line} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`), 400, line);
    }
    for (const text of ['é', '€', '😀', '100%25', '%zz', '%']) {
      const answer = await raw(
        'GET',
        env.API_URL,
        `/rest/v1/projects?select=id&name=eq.${text.startsWith('%') || text.endsWith('%25') ? text : encodeURIComponent(text)}`,
        as(person.token),
      );
      assert.equal(answer.status, 200, `${text}: ${answer.text}`);
    }
  });

  test('a NUL is 400 in a header, in an address, of which PostgREST would pass on what is before it, and in a body', async () => {
    assert.equal(await bytes(`GET /rest/v1/projects HTTP/1.1\r\nHost: ${url.host}\r\nX-A: a\0b\r\nConnection: close\r\n\r\n`), 400);
    for (const path of ['plans?select=code&code=eq.FREE%00b', 'plans?select=code&code%00b=eq.FREE', 'pro%00jects']) {
      const answer = await raw('GET', env.API_URL, `/rest/v1/${path}`, as(person.token));
      assert.deepEqual([answer.status, answer.body.code], [400, 'bad_request'], `${path}: ${answer.text}`);
    }
    const { status } = await http('POST', '/rest/v1/projects', {
      token: person.token,
      headers: { 'Content-Type': 'application/json' },
      body: '{"name":"a\\u0000b"}',
    });
    assert.equal(status, 400);
  });

  test('in a body are 400, or 415 for a type that PostgREST cannot parse', async () => {
    for (const [type, query, status] of [
      ['application/json', '', 400],
      ['application/json', '?columns=name', 400],
      ['text/csv', '', 415],
      ['Text/CSV;charset=utf-8', '', 415],
      ['application/x-www-form-urlencoded', '', 415],
    ]) {
      const answer = await raw(
        'POST',
        env.API_URL,
        `/rest/v1/projects${query}`,
        as(person.token, ['Content-Type', type]),
        Buffer.from('{"name":"\xff"}', 'latin1'),
      );
      assert.equal(answer.status, status, `${type}: ${answer.text}`);
    }
  });

  test('an unknown method is 405', async () => {
    assert.equal((await raw('PURGE', env.API_URL, '/rest/v1/projects', as(person.token))).status, 405);
  });
});
