// Functions: who may call, what the server behind is told and sent, and what comes back, by supabase-js' functions.invoke.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { anonymous, newPerson, newTeam, ok, refused, unaffected, until } from './domain.mjs';
import { bodyOf, declare, gate, http4xx, invoke, json, newServer, relayed } from './functions_support.mjs';
import { raw } from './raw_http.mjs';
import { admin, adminSql, api, env, http } from './support.mjs';

const keys = createRemoteJWKSet(new URL(`${env.API_URL}/auth/v1/.well-known/jwks.json`));
const issuer = `${env.API_URL}/auth/v1`;

/** As the guide says: what a function is told of its caller. */
async function verified(request, name) {
  const { payload } = await jwtVerify(request.headers.authorization.replace('Bearer ', ''), keys, {
    issuer,
    audience: `functions/${name}`,
  });
  return payload;
}

let team, url, received;
before(async () => {
  team = await newTeam();
  received = [];
  url = await newServer(async (request, response) => {
    const body = await bodyOf(request);
    received.push({ method: request.method, url: request.url, headers: request.headers, body });
    json(response, { method: request.method, url: request.url, type: request.headers['content-type'], body: body.toString() });
  });
});

/** The only request that a function of this name got. */
async function sentTo(name, work) {
  const before = received.length;
  await work();
  assert.equal(received.length, before + 1);
  return { ...received[before], caller: await verified(received[before], name) };
}

describe('who may declare functions', () => {
  test('not a visitor, a non-member or an owner', async () => {
    const visitor = await anonymous('GET', '/rest/v1/functions?select=*');
    assert.deepEqual([visitor.status, visitor.body.code], [401, '42501']);
    for (const { client } of [team.nonMember, team.owner]) {
      await unaffected(client.from('functions').select());
      await refused(client.from('functions').insert({ name: 'mine', url: 'https://evil.example.com' }), 403, '42501');
    }
  });

  test('an operator, and not one with a private address', async () => {
    await declare({ url: 'https://fn.example.com/a' });
    for (const bad of ['http://127.0.0.1:9000', 'http://169.254.169.254/latest', 'http://[::1]:9000', 'ftp://example.com/a']) {
      const { error } = await admin()
        .from('functions')
        .insert({ name: `bad-${randomUUID()}`, url: bad });
      assert.ok(['invalid_input', '23514'].includes(error?.code), `${bad}: ${error?.code}`);
    }
  });
});

describe('who may call', () => {
  test('not an unauthenticated caller, a non-member or a viewer, where a permission is asked for', async () => {
    const name = await declare({ url, access: 'permission', permission: 'skills:execute' });
    const before = received.length;
    assert.deepEqual(await invoke(api(), name), http4xx(401, 'not_identified'));
    // A non-member's own organization is where they may: the one that they name is not.
    assert.deepEqual(await invoke(team.nonMember.client, name, { headers: { 'x-org-id': team.orgId } }), http4xx(403, 'not_a_member'));
    assert.deepEqual(await invoke(team.viewer.client, name), http4xx(403, 'permission_denied'));
    assert.equal(received.length, before, 'nothing was sent');
    const { caller } = await sentTo(name, async () => assert.equal((await invoke(team.member.client, name)).method, 'POST'));
    assert.deepEqual([caller.sub, caller.caller_kind, caller.org_id], [team.member.user.id, 'user', team.orgId]);
    const other = await sentTo(name, () => invoke(team.nonMember.client, name));
    assert.equal(other.caller.org_id, team.nonMember.orgId);
  });

  test('no caller without a session where a sign-in is required; a user and an API key', async () => {
    const name = await declare({ url });
    const noKey = await fetch(`${env.API_URL}/functions/v1/${name}`, { method: 'POST' });
    assert.deepEqual([noKey.status, (await noKey.json()).code], [401, 'not_identified']);
    assert.deepEqual(await invoke(api(), name), http4xx(401, 'not_identified'));
    const expired = await http('POST', `/functions/v1/${name}`, { token: `${team.owner.token.slice(0, -4)}AAAA` });
    assert.equal(expired.status, 401);
    const user = await sentTo(name, () => invoke(team.nonMember.client, name));
    assert.equal(user.caller.sub, team.nonMember.user.id);
    const key = await ok(team.owner.client.rpc('create_api_key', { name: 'calls', permissions: ['*:read'] }));
    const byKey = await sentTo(name, () => invoke(api({ 'X-API-Key': key.secret }), name));
    assert.deepEqual([byKey.caller.caller_kind, byKey.caller.api_key_id, byKey.caller.org_id], ['service_key', key.id, team.orgId]);
    assert.ok(!JSON.stringify([user.headers, byKey.headers]).includes('kjk_'));
  });

  test('anyone, where that is said; a disabled one is not there', async () => {
    const name = await declare({ url, access: 'anyone' });
    const { caller } = await sentTo(name, () => invoke(api(), name));
    assert.deepEqual([caller.caller_kind, caller.sub, caller.org_id], ['anonymous', undefined, undefined]);
    const service = await sentTo(name, () => invoke(admin(), name));
    assert.equal(service.caller.caller_kind, 'service');
    await ok(admin().from('functions').update({ enabled: false }).eq('name', name));
    assert.deepEqual(await invoke(team.owner.client, name), relayed(404, 'not_found'));
    assert.deepEqual(await invoke(team.owner.client, `missing-${randomUUID()}`), relayed(404, 'not_found'));
  });

  test('each call is one request of the plan', async () => {
    const person = await newPerson();
    const name = await declare({ url });
    // Beside the API, whose requests count as well. They are summed up in memory first.
    const used = async () =>
      Number((await adminSql(`select used from kijko.usage($1) where meter = 'api_requests'`, [person.orgId]))[0]?.used ?? 0);
    const before = await used();
    for (let n = 0; n < 20; n += 1) await invoke(person.client, name);
    await until('the calls to be counted', async () => (await used()) >= before + 20);
  });

  test('a preflight is answered before any check', async () => {
    const { status, headers } = await anonymous('OPTIONS', `/functions/v1/missing-${randomUUID()}`, {
      headers: {
        Origin: 'https://app.example',
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'authorization,x-client-info,apikey,content-type',
      },
    });
    assert.deepEqual([status, headers.get('access-control-allow-origin')], [204, '*']);
    const refusal = await anonymous('POST', `/functions/v1/missing-${randomUUID()}`, { headers: { Origin: 'https://app.example' } });
    assert.deepEqual([refusal.status, refusal.headers.get('access-control-allow-origin')], [404, '*']);
    assert.match(refusal.headers.get('access-control-expose-headers'), /x-relay-error/i);
  });
});

describe('what the other server gets', () => {
  let name;
  before(async () => {
    name = await declare({ url: `${url}/base` });
  });

  test('every kind of body, with its type', async () => {
    const { client } = team.owner;
    const sent = async (body, options) => (await sentTo(name, () => invoke(client, name, { body, ...options }))).body.toString();
    assert.equal(await sent({ a: [1, 'ü'] }), '{"a":[1,"ü"]}');
    assert.equal(await sent('text'), 'text');
    assert.equal(await sent(new Blob(['bytes'])), 'bytes');
    assert.equal(await sent(undefined), '');
    const form = new FormData();
    form.append('file', new Blob(['in a form']), 'a.txt');
    assert.match(await sent(form), /filename="a.txt"[\s\S]*in a form/);
    const large = 'x'.repeat(900_000);
    assert.equal((await sent(large)).length, large.length);
  });

  test('path, query and method, and no way out of its own path', async () => {
    const { client, token } = team.owner;
    const { url: seen } = await sentTo(name, () => invoke(client, `${name}/a%2Fb/c?x=1&y=%20`, { method: 'GET' }));
    assert.equal(seen, '/base/a%2Fb/c?x=1&y=%20');
    // As it is: fetch would resolve it.
    for (const rest of ['%2e%2e/admin', '../admin', 'a/%2E%2E/%2e%2e/admin', '.', 'a\\..\\..\\admin', '..%5cadmin', '..%2fadmin']) {
      const answer = await raw('POST', env.API_URL, `/functions/v1/${name}/${rest}`, [
        ['Host', new URL(env.API_URL).host],
        ['Authorization', `Bearer ${token}`],
        ['Content-Length', '0'],
      ]);
      if (answer.status === 200) assert.match(answer.body.url, /^\/base\/[^/]/, rest);
      else assert.ok([400, 404].includes(answer.status), `${rest}: ${answer.text}`);
    }
    const getOnly = await declare({ url, methods: ['GET'] });
    assert.deepEqual(await invoke(client, getOnly), http4xx(405, 'method_not_allowed'));
    const { headers } = await http('PUT', `/functions/v1/${getOnly}`, { token });
    assert.equal(headers.get('allow'), 'GET');
    assert.equal((await http('HEAD', `/functions/v1/${getOnly}`, { token })).status, 200);
    assert.equal((await invoke(client, getOnly, { method: 'GET' })).method, 'GET');
  });

  test('an assertion for itself alone, and nothing of the caller', async () => {
    const { headers } = await sentTo(name, () =>
      raw('POST', env.API_URL, `/functions/v1/${name}`, [
        ['Host', new URL(env.API_URL).host],
        ['Authorization', `Bearer ${team.owner.token}`],
        ['apikey', env.ANON_KEY],
        ['Cookie', `sb-token=${team.owner.token}`],
        ['X-Own', '1'],
        ['X-Kijko-Own', '1'],
        ['Connection', 'close, X-Hop'],
        ['X-Hop', '1'],
        ['Content-Length', '0'],
      ]),
    );
    const all = JSON.stringify(headers);
    assert.ok(!all.includes(team.owner.token) && !all.includes(env.ANON_KEY), all);
    assert.equal(headers['x-own'], '1');
    for (const left of ['x-kijko-own', 'x-hop', 'cookie', 'apikey']) assert.equal(headers[left], undefined, left);
    const assertion = headers.authorization.replace('Bearer ', '');
    await assert.rejects(jwtVerify(assertion, keys, { issuer, audience: 'functions/another' }), {
      code: 'ERR_JWT_CLAIM_VALIDATION_FAILED',
    });

    // It is no token of ours: what the server behind knows of its caller gives it nothing here.
    for (const [path, options] of [
      ['/rest/v1/projects?select=id', { method: 'GET' }],
      ['/rest/v1/rpc/usage_summary', { method: 'POST' }],
      ['/auth/v1/user', { method: 'GET' }],
      ['/storage/v1/bucket', { method: 'GET' }],
      [`/functions/v1/${name}`, { method: 'POST' }],
      ['/realtime/v1/api/broadcast', { method: 'POST', body: { messages: [{ topic: 'a', event: 'b', payload: {}, private: true }] } }],
    ]) {
      const answer = await http(options.method, path, {
        token: assertion,
        body: options.body,
        headers: { 'Content-Type': 'application/json' },
      });
      // Storage answers every refusal with 400.
      assert.ok([400, 401, 403].includes(answer.status), `${path}: ${answer.status} ${answer.text}`);
    }
    // Not as an outside token either: it would be, were it verified without its audience.
    const [{ fault }] = await adminSql('select kijko.access_token_fault(kijko.verify_jwt($1)) as fault', [assertion]);
    assert.equal(fault, 'role');
  });

  test('a body that is too large is refused, declared or not', async () => {
    const { token, client } = team.owner;
    const large = 'x'.repeat((1 << 20) + 1);
    assert.deepEqual(await invoke(client, name, { body: large }), http4xx(413, 'payload_too_large'));
    async function* parts() {
      for (let n = 0; n < 40; n += 1) yield new Uint8Array(64 << 10);
    }
    const send = async (to, bearer) => {
      const answer = await fetch(`${env.API_URL}/functions/v1/${to}`, {
        method: 'POST',
        duplex: 'half',
        body: ReadableStream.from(parts()),
        headers: { Authorization: `Bearer ${bearer}`, apikey: env.ANON_KEY },
      });
      return [answer.status, (await answer.json()).code];
    };
    // The refusal comes while the body is still on its way, and must not be lost by that.
    for (let n = 0; n < 10; n += 1) {
      assert.deepEqual(await send(name, token), [413, 'payload_too_large']);
      assert.deepEqual(await send('no-such-function', token), [404, 'not_found']);
    }
  });
});

describe('what comes back', () => {
  test('every kind of answer, as supabase-js reads it', async () => {
    const { client } = team.owner;
    const answer = (type, body, status = 200) =>
      newServer((_, response) => response.writeHead(status, type ? { 'Content-Type': type } : {}).end(body));
    const data = async (type, body) => invoke(client, await declare({ url: await answer(type, body) }));
    assert.deepEqual(await data('application/json; charset=utf-8', '{"a":1}'), { a: 1 });
    assert.equal(await data('text/plain', 'ü'), 'ü');
    assert.equal(await (await data('application/octet-stream', 'bytes')).text(), 'bytes');
    assert.equal(await data(undefined, '<p>a page?</p>'), '<p>a page?</p>');
    assert.equal(await invoke(client, await declare({ url: await answer(undefined, '', 204) })), '');
    const gone = await declare({ url: await answer('application/json', '{"code":"own"}', 410) });
    assert.deepEqual(await invoke(client, gone), http4xx(410, 'own'));
    // Its own faults are its own, and its statuses count as no refusal of ours.
    const broken = await declare({ url: await answer('application/json', '{"code":"own"}', 500) });
    assert.deepEqual(await invoke(client, broken), http4xx(500, 'own'));
  });

  test('a stream, part by part, in each direction', async () => {
    const [first, more] = [gate(), gate()];
    const name = await declare({
      url: await newServer(async (request, response) => {
        if (request.method === 'GET') {
          response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: one\n\n');
          await more.opened;
          response.end('data: two\n\n');
          return;
        }
        let seen = '';
        for await (const part of request) {
          seen += part;
          first.open();
        }
        response.end(seen);
      }),
    });
    // Only when the first part has arrived the second one is sent.
    async function* words() {
      yield new TextEncoder().encode('one, ');
      await first.opened;
      yield new TextEncoder().encode('two');
    }
    const sent = await fetch(`${env.API_URL}/functions/v1/${name}`, {
      method: 'POST',
      duplex: 'half',
      body: ReadableStream.from(words()),
      headers: { Authorization: `Bearer ${team.owner.token}`, apikey: env.ANON_KEY },
    });
    assert.equal(await sent.text(), 'one, two');
    const { data } = await team.owner.client.functions.invoke(name, { method: 'GET' });
    const reader = data.body.pipeThrough(new TextDecoderStream()).getReader();
    assert.equal((await reader.read()).value, 'data: one\n\n');
    more.open();
    assert.equal((await reader.read()).value, 'data: two\n\n');
    assert.equal((await reader.read()).done, true);
  });

  test('a caller who hangs up ends the call', async () => {
    const hungUp = gate();
    const name = await declare({
      url: await newServer((_, response) => {
        response.on('close', hungUp.open);
        response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: one\n\n');
      }),
    });
    const { data } = await team.owner.client.functions.invoke(name);
    await data.body.getReader().cancel();
    await hungUp.opened;
  });

  test('nothing that is of the origin of the API', async () => {
    const name = await declare({
      url: await newServer((_, response) =>
        response
          .writeHead(200, {
            'Content-Type': 'text/html',
            'Set-Cookie': 'sb-token=evil',
            'Access-Control-Allow-Origin': 'https://evil.example',
            'Content-Security-Policy': 'default-src *',
            'X-Relay-Error': 'true',
            'X-Own': '1',
          })
          .end('<script>alert(1)</script>'),
      ),
    });
    const { status, headers } = await http('POST', `/functions/v1/${name}`, { token: team.owner.token });
    const of = (key) => headers.get(key);
    assert.equal(status, 200);
    assert.deepEqual([of('x-own'), of('set-cookie'), of('x-relay-error')], ['1', null, null]);
    assert.deepEqual([of('access-control-allow-origin'), of('x-content-type-options')], ['*', 'nosniff']);
    assert.match(of('content-security-policy'), /default-src 'none'/);
    assert.ok(of('ratelimit'), 'what is left of the caller’s limits');
  });
});
