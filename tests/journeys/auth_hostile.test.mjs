// Hostile requests to the login API: garbage, forged tokens, other people's headers. Every answer is a 4xx in GoTrue's shape.
import assert from 'node:assert/strict';
import { createHmac, createSign, generateKeyPairSync, randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { until } from '../until.mjs';
import { adminSql, api, env, http, newEmail, newUser, sql } from './support.mjs';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const decode = (part) => JSON.parse(Buffer.from(part, 'base64url'));
const getUser = (token) => http('GET', '/auth/v1/user', { token });

describe('bodies', () => {
  const endpoints = [
    ['POST', '/auth/v1/signup'],
    ['POST', '/auth/v1/token?grant_type=password'],
    ['POST', '/auth/v1/token?grant_type=refresh_token'],
    ['POST', '/auth/v1/token?grant_type=pkce'],
    ['POST', '/auth/v1/recover'],
    ['POST', '/auth/v1/resend'],
    ['POST', '/auth/v1/otp'],
    ['POST', '/auth/v1/verify'],
  ];
  const garbage = {
    'not JSON': 'email=a@b.c&password=heron-42',
    'an array': '[]',
    'a string': '"x"',
    'a number': '1',
    nothing: '',
    'cut off': '{"email":"a@b.c"',
    'two objects': '{}{}',
    'a number for an address': '{"email":1,"password":"heron-42","refresh_token":1,"auth_code":1,"type":"signup"}',
    'an object for a password': '{"email":{"$ne":null},"password":{"$ne":null},"refresh_token":{},"auth_code":{},"type":"signup"}',
    'an escaped NUL': '{"email":"a\\u0000@b.c","password":"heron-42","refresh_token":"\\u0000"}',
    'half a surrogate pair': '{"email":"\\ud800@b.c","password":"heron-42","refresh_token":"\\ud800"}',
    'a number that is long as text': '{"data":{"a":[1e131071]}}',
    'nested 30,000 deep': `{"data":${'['.repeat(30_000)}`,
  };
  for (const [method, path] of endpoints) {
    for (const [name, body] of Object.entries(garbage)) {
      test(`${path}: ${name}`, async () => {
        const answer = await http(method, path, { body });
        assert.equal(answer.status, 400, answer.text);
        assert.equal(answer.body.code, 'bad_json');
        assert.equal(typeof answer.body.message, 'string');
      });
    }

    test(`${path}: bytes that are not text`, async () => {
      for (const bytes of [[0], [0x7b, 0, 0x7d], [0xff, 0xfe], [0xc0, 0x80]]) {
        const answer = await http(method, path, { body: Uint8Array.from(bytes) });
        assert.equal(answer.status, 400, answer.text);
      }
    });
  }

  test('a body larger than any login needs is refused, and the API stays up', async () => {
    for (const [size, code] of [
      [90_000, 'request_entity_too_large'],
      [3_000_000, 'payload_too_large'], // stopped by Caddy
    ]) {
      const answer = await http('POST', '/auth/v1/signup', {
        body: { email: newEmail(), password: 'heron-42', data: { filler: 'x'.repeat(size) } },
      });
      assert.deepEqual([answer.status, answer.body.code], [413, code], answer.text.slice(0, 200));
    }
    assert.equal((await http('GET', '/auth/v1/health')).status, 200);
  });

  test('fields of other sign-in methods fail as disabled', async () => {
    const cases = [
      ['/auth/v1/signup', {}, 422, 'anonymous_provider_disabled'],
      ['/auth/v1/signup', { phone: '+31612345678', password: 'heron-42' }, 400, 'phone_provider_disabled'],
      ['/auth/v1/signup', { email: newEmail() }, 400, 'validation_failed'],
      ['/auth/v1/token?grant_type=password', {}, 400, 'validation_failed'],
      ['/auth/v1/token?grant_type=password', { email: newEmail() }, 400, 'invalid_credentials'],
      ['/auth/v1/token?grant_type=id_token', {}, 400, 'provider_disabled'],
      ['/auth/v1/token', {}, 400, 'invalid_credentials'],
    ];
    for (const [path, body, status, code] of cases) {
      const answer = await http('POST', path, { body });
      assert.deepEqual([answer.status, answer.body.code], [status, code], `${path} ${JSON.stringify(body)}`);
    }
  });
});

describe('addresses', () => {
  test('that look like SQL are treated as text', async () => {
    const tag = Date.now();
    for (const local of [`o'hara--${tag}`, `x'or'1'='1'${tag}`, `%_${tag}`, `$$${tag}`, `{${tag}}`]) {
      const email = `${local}@example.com`;
      const before = await api().auth.signInWithPassword({ email, password: 'heron-42' });
      assert.equal(before.error.code, 'invalid_credentials', email);
      const { data, error } = await api().auth.signUp({ email, password: 'heron-42' });
      assert.equal(error, null, email);
      assert.equal(data.user.email, email);
    }
  });

  test('of unusual but valid form are accepted', async () => {
    const tag = randomUUID();
    for (const email of [`${tag}@${'x'.repeat(63)}.${'y'.repeat(63)}.com`, `${tag}@localhost`, `${tag}@1.a-b--c.d`]) {
      const { data, error } = await api().auth.signUp({ email, password: `pw-${tag}` });
      assert.equal(error, null, email);
      assert.equal(data.user.email, email);
    }
  });

  test('that are invalid are refused', async () => {
    for (const email of [
      "a'; drop table auth.users; --",
      'a@b@c.d',
      'no-at.example.com',
      '@example.com',
      'a@',
      'a b@example.com',
      'a@exam ple.com',
      'a@-example.com',
      'jörg@example.com',
      'а@example.com',
      'a@example-.com',
      'a@example..com',
      'a@example.com.',
      `a@${'x'.repeat(64)}.com`,
      `a@example.com.${'x'.repeat(64)}`,
      `${'a'.repeat(250)}@example.com`,
      'a@example.com\n',
      'a@example.com\r\nbcc: b@example.com',
    ].filter((email) => email !== `${email.trim()}\n`)) {
      const answer = await http('POST', '/auth/v1/signup', { body: { email, password: 'heron-42' } });
      assert.deepEqual([answer.status, answer.body.code], [400, 'validation_failed'], email);
    }
  });
});

describe('tokens', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const es256 = (header, claims, key = privateKey) => {
    const signed = `${encode(header)}.${encode(claims)}`;
    return `${signed}.${createSign('sha256').update(signed).sign({ key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
  };

  async function refusedEverywhere(token, what) {
    const login = await getUser(token);
    assert.deepEqual([login.status, login.body.code], [403, 'bad_jwt'], what);
    const adminApi = await http('GET', '/auth/v1/admin/users', { token });
    assert.deepEqual([adminApi.status, adminApi.body.code], [403, 'bad_jwt'], what);
    const rest = await http('GET', '/rest/v1/profiles', { token });
    assert.equal(rest.status, 401, what);
  }

  test('forged', async () => {
    const { session } = await newUser();
    const [header, payload, signature] = session.access_token.split('.');
    const claims = decode(payload);
    const kid = decode(header).kid;
    const asAdmin = { ...claims, role: 'service_role' };
    const [jwk] = (await http('GET', '/auth/v1/.well-known/jwks.json')).body.keys;
    const signedBody = (head) => `${encode(head)}.${encode(asAdmin)}`;
    const hs256 = (secret) => {
      const head = { alg: 'HS256', typ: 'JWT', kid };
      return `${signedBody(head)}.${createHmac('sha256', secret).update(signedBody(head)).digest('base64url')}`;
    };
    const flipped = Buffer.from(signature, 'base64url');
    flipped[5] ^= 1;
    await refusedEverywhere(`${header}.${encode(asAdmin)}.${signature}`, 'changed claims');
    await refusedEverywhere(`${header}.${payload}.${flipped.toString('base64url')}`, 'changed signature');
    await refusedEverywhere(`${header}.${payload}.`, 'no signature');
    await refusedEverywhere(`${signedBody({ alg: 'none', typ: 'JWT' })}.`, 'alg none');
    await refusedEverywhere(`${signedBody({ alg: 'nOnE', typ: 'JWT', kid })}.${signature}`, 'alg nOnE');
    await refusedEverywhere(es256({ alg: 'ES256', typ: 'JWT', kid }, asAdmin), 'another key under our kid');
    await refusedEverywhere(es256({ alg: 'ES256', typ: 'JWT' }, asAdmin), 'another key without kid');
    await refusedEverywhere(es256({ alg: 'ES256', typ: 'JWT', jwk: privateKey.export({ format: 'jwk' }) }, asAdmin), 'its own key inside');
    await refusedEverywhere(hs256(JSON.stringify(jwk)), 'the public key as a secret');
    await refusedEverywhere(hs256(''), 'an empty secret');
  });

  test('expired', async () => {
    const { session } = await newUser();
    const claims = decode(session.access_token.split('.')[1]);
    const sign = async (changes) => (await adminSql('select kijko.sign_jwt($1) as token', [{ ...claims, ...changes }]))[0].token;
    const nowSeconds = Math.floor(Date.now() / 1000);
    assert.equal((await getUser(await sign({}))).status, 200, 'the same claims, signed again, are good');
    // A minute and a half: PostgREST allows 30 seconds of difference between clocks.
    await refusedEverywhere(await sign({ iat: nowSeconds - 3690, exp: nowSeconds - 90 }), 'expired');
  });

  test('of ours that are not access tokens', async () => {
    const { session } = await newUser();
    const nowSeconds = Math.floor(Date.now() / 1000);
    const sign = async (claims) => (await adminSql('select kijko.sign_jwt($1) as token', [JSON.stringify(claims)]))[0].token;
    const tokens = {
      user: decode(session.access_token.split('.')[1]),
      anon: decode(env.ANON_KEY.split('.')[1]),
      service: decode(env.SERVICE_ROLE_KEY.split('.')[1]),
    };
    for (const [what, claims] of Object.entries(tokens)) {
      const bad = {
        'without exp': { exp: undefined },
        'exp is no number': { exp: 'never' },
        'a foreign aud': { aud: 'elsewhere' },
        'foreign auds': { aud: ['a', 'b'] },
        'without iss': { iss: undefined },
        'iat in the future': { iat: nowSeconds + 600 },
        'without role': { role: undefined },
      };
      for (const [why, changes] of Object.entries(bad)) await refusedEverywhere(await sign({ ...claims, ...changes }), `${what}: ${why}`);
    }
    for (const [why, changes] of Object.entries({
      'without aud': { aud: undefined },
      'without sub': { sub: undefined },
      'sub is no uuid': { sub: 'me' },
    })) {
      await refusedEverywhere(await sign({ ...tokens.user, ...changes }), `user: ${why}`);
    }
    for (const [what, claims] of Object.entries(tokens)) {
      assert.equal((await http('GET', '/rest/v1/plans?select=code', { token: await sign(claims) })).status, 200, `${what}, signed again`);
    }
  });

  test('missing, or not a bearer token', async () => {
    for (const headers of [{}, { Authorization: 'Basic YTpi' }, { Authorization: 'Bearer' }, { Authorization: 'Bearer a b' }]) {
      for (const [method, path] of [
        ['GET', '/auth/v1/user'],
        ['PUT', '/auth/v1/user'],
        ['POST', '/auth/v1/logout'],
        ['GET', '/auth/v1/admin/users'],
      ]) {
        const answer = await http(method, path, { headers });
        assert.deepEqual([answer.status, answer.body.code], [401, 'no_authorization'], `${method} ${path} ${JSON.stringify(headers)}`);
      }
    }
    for (const token of ['x', 'a.b.c', '..', 'ey', env.ANON_KEY.slice(0, -1), `${env.ANON_KEY}.x`]) {
      const answer = await getUser(token);
      assert.deepEqual([answer.status, answer.body.code], [403, 'bad_jwt'], token);
    }
  });

  test('of keys and deleted users are not users', async () => {
    for (const key of [env.ANON_KEY, env.SERVICE_ROLE_KEY]) {
      const answer = await getUser(key);
      assert.deepEqual([answer.status, answer.body.code], [403, 'bad_jwt']);
    }
    const { session, user } = await newUser();
    await sql('delete from auth.sessions where user_id = $1', [user.id]);
    assert.equal((await getUser(session.access_token)).body.code, 'session_not_found');
  });

  test("that name another user's session are refused", async () => {
    const [one, two] = await Promise.all([newUser(), newUser()]);
    const claims = decode(one.session.access_token.split('.')[1]);
    const [{ token }] = await adminSql('select kijko.sign_jwt($1) as token', [
      { ...claims, session_id: decode(two.session.access_token.split('.')[1]).session_id },
    ]);
    assert.equal((await getUser(token)).body.code, 'session_not_found');
    for (const claim of [{ sub: 'me' }, { session_id: 'this' }, { sub: null }, { session_id: null }]) {
      const [row] = await adminSql('select kijko.sign_jwt($1) as token', [{ ...claims, ...claim }]);
      assert.equal((await getUser(row.token)).body.code, 'bad_jwt', JSON.stringify(claim));
    }
  });
});

describe('requests', () => {
  test("Caddy's own headers reach no other endpoint", async () => {
    const forged = { 'X-Kijko-Method': 'GET', 'X-Kijko-Uri': '/admin/users', 'X-Kijko-Authorization': `Bearer ${env.SERVICE_ROLE_KEY}` };
    const health = await http('GET', '/auth/v1/health', { headers: forged });
    assert.equal(health.status, 200);
    assert.equal(health.body.users, undefined);
    const adminApi = await http('GET', '/auth/v1/admin/users', { headers: forged });
    assert.deepEqual([adminApi.status, adminApi.body.code], [401, 'no_authorization']);
  });

  test("PostgREST's own headers and paths change nothing", async () => {
    for (const headers of [
      { Prefer: 'tx=rollback, params=single-object, handling=strict' },
      { 'Content-Profile': 'auth', 'Accept-Profile': 'auth' },
      { Accept: 'text/csv' },
      { Range: '5-9' },
      { 'Content-Type': 'application/x-www-form-urlencoded' },
    ]) {
      const answer = await http('GET', '/auth/v1/settings', { headers });
      assert.equal(answer.status, 200, JSON.stringify(headers));
      assert.equal(answer.body.mailer_autoconfirm, true);
    }
    for (const path of [
      '/auth/v1/rpc/handle',
      '/auth/v1/',
      '/auth/v1',
      '/auth/v1/users',
      '/auth/v1/admin',
      '/auth/v1/../rest/v1/rpc/handle',
    ]) {
      const answer = await http('POST', path, { body: {}, token: env.SERVICE_ROLE_KEY });
      assert.equal(answer.status, 404, path);
    }
  });

  test('an unknown path is 404, whatever the method', async () => {
    for (const [method, path] of [
      ['GET', '/auth/v1/nothing'],
      ['DELETE', '/auth/v1/user'],
      ['GET', '/auth/v1/signup'],
      ['PATCH', '/auth/v1/token'],
      ['GET', '/auth/v1/recover'],
      ['POST', '/auth/v1/reauthenticate'],
      ['PUT', '/auth/v1/verify?token=0&type=signup'],
    ]) {
      const answer = await http(method, path);
      assert.deepEqual([answer.status, answer.body.code], [404, 'not_found'], `${method} ${path}`);
    }
    const strange = await http('GET', '/auth/v1/user?x=%ff%00');
    assert.deepEqual([strange.status, strange.body.code], [400, 'validation_failed']);
  });

  test('old clients get the old error format', async () => {
    const body = { email: newEmail('nobody'), password: 'x' };
    const path = '/auth/v1/token?grant_type=password';
    const modern = await http('POST', path, { body });
    assert.equal(modern.headers.get('x-supabase-api-version'), '2024-01-01');
    assert.deepEqual(Object.keys(modern.body).sort(), ['code', 'message']);
    for (const version of ['', '2020-01-01', 'latest']) {
      // Beside others it may be refused because too many passwords are being hashed.
      const old = await until('a place for hashing', async () => {
        const answer = await http('POST', path, { body, headers: { 'X-Supabase-Api-Version': version } });
        return answer.status === 429 ? undefined : answer;
      });
      assert.equal(old.headers.get('x-supabase-api-version'), null);
      assert.deepEqual([old.body.code, old.body.error_code, typeof old.body.msg], [400, 'invalid_credentials', 'string'], version);
    }
  });

  test('a browser on another origin can read error codes and page headers', async () => {
    const preflight = await fetch(`${env.API_URL}/auth/v1/token?grant_type=password`, {
      method: 'OPTIONS',
      headers: {
        Origin: 'https://app.example.com',
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'apikey,authorization,content-type,x-client-info,x-supabase-api-version',
      },
    });
    assert.equal(preflight.ok, true);
    assert.equal(preflight.headers.get('access-control-allow-origin'), '*');
    for (const header of ['apikey', 'authorization', 'content-type', 'x-client-info', 'x-supabase-api-version']) {
      assert.match(preflight.headers.get('access-control-allow-headers').toLowerCase(), new RegExp(`(^|[ ,])${header}($|[ ,])`));
    }
    const answer = await http('GET', '/auth/v1/user', { headers: { Origin: 'https://app.example.com' } });
    assert.equal(answer.headers.get('access-control-allow-origin'), '*');
    assert.match(answer.headers.get('access-control-expose-headers').toLowerCase(), /x-supabase-api-version/);
  });
});
