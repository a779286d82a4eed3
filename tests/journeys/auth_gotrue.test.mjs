// The same answers as GoTrue, case by case; where they differ on purpose, the reference says so and why.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { mailTo, openLink, passwordGrant, UUID, withFactor } from './auth_support.mjs';
import { CASES } from './gotrue_answers.mjs';
import { admin, env, fetchInTurn, http, newEmail, newUser, signIn } from './support.mjs';

const PASSWORD = 'heron-43-over-the-lake';
const page = readFileSync(new URL('../../docs/reference/gotrue.md', import.meta.url), 'utf8');
const service = admin().auth.admin;

const made = async (attributes) => {
  const email = newEmail('gotrue');
  const { data, error } = await service.createUser({ email, password: PASSWORD, ...attributes });
  assert.equal(error, null);
  return { email, user: data.user };
};

/** What the requests need. */
const w = {
  newEmail: () => newEmail('gotrue'),
  newUser,
  unconfirmed: () => made({}),
  banned: () => made({ email_confirm: true, ban_duration: '1h' }),
  async locked() {
    const { email } = await made({ email_confirm: true });
    for (let n = 0; n < 5; n += 1) await passwordGrant(email, 'wrong');
    return { email, password: PASSWORD };
  },
  async recovery(challenge = {}) {
    const { email } = await made({ email_confirm: true });
    await http('POST', '/auth/v1/recover', { body: { email, ...challenge } });
    return { email, ...(await mailTo(email, 'recovery')).data };
  },
  authCode: async (challenge) => (await openLink((await w.recovery(challenge)).link)).query.code,
  async removable() {
    const { user, factor } = await withFactor();
    return `DELETE /admin/users/${user.id}/factors/${factor.id}`;
  },
};

const CALLERS = {
  user: () => w.user.session.access_token,
  newUser: async () => (await newUser()).session.access_token,
  service: () => env.SERVICE_ROLE_KEY,
  anonKey: () => env.ANON_KEY,
  forged: () => `${w.user.session.access_token.slice(0, -4)}AAAA`,
  aal1: () => w.aal1.session.access_token,
  aal2: () => w.mfa.session.access_token,
  async signedOut() {
    const { client, session } = await newUser();
    await client.auth.signOut();
    return session.access_token;
  },
  async deleted() {
    const { user, session } = await newUser();
    await service.deleteUser(user.id);
    return session.access_token;
  },
  async bannedUser() {
    const { user, session } = await newUser();
    await service.updateUserById(user.id, { ban_duration: '1h' });
    return session.access_token;
  },
};

before(async () => {
  [w.user, w.other, w.mfa] = await Promise.all([newUser(), newUser(), withFactor()]);
  w.aal1 = await signIn(w.mfa);
});

const is = {
  string: (value) => typeof value === 'string',
  number: (value) => Number.isFinite(value),
  boolean: (value) => typeof value === 'boolean',
  object: (value) => value !== null && typeof value === 'object' && !Array.isArray(value),
  array: Array.isArray,
  uuid: (value) => UUID.test(value),
  time: (value) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value),
  'time or null': (value) => value === null || is.time(value),
};

/** An object has these keys, of these types, and no others. */
function assertKeys(value, keys, at = 'body') {
  assert.ok(is.object(value), `${at} is no object: ${JSON.stringify(value)}`);
  const known = new Map(Object.entries(keys).map(([key, type]) => [key.replace('?', ''), { type, needed: !key.endsWith('?') }]));
  for (const [key, { type, needed }] of known) {
    if (!(key in value)) assert.ok(!needed, `${at} has no ${key}`);
    else if (typeof type === 'object') assertKeys(value[key], type, `${at}.${key}`);
    else assert.ok(is[type](value[key]), `${at}.${key} is no ${type}: ${JSON.stringify(value[key])}`);
  }
  assert.deepEqual(
    Object.keys(value).filter((key) => !known.has(key)),
    [],
    `${at} has further keys`,
  );
}

function assertHeaders(headers, wanted = {}) {
  for (const [name, what] of Object.entries(wanted)) {
    const value = headers.get(name) ?? '';
    assert.ok(what === 'uuid' ? UUID.test(value) : what === 'number' ? /^\d+$/.test(value) : value.includes(what), `${name}: ${value}`);
  }
}

async function ask({ request, as, body }) {
  const [method, path] = (typeof request === 'string' ? request : await request(w)).split(' ');
  const response = await fetchInTurn(`${env.API_URL}/auth/v1${path}`, {
    method,
    redirect: 'manual',
    headers: {
      apikey: env.ANON_KEY,
      'X-Supabase-Api-Version': '2024-01-01',
      ...(as && { Authorization: `Bearer ${await CALLERS[as]()}` }),
    },
    ...(body && { body: await Promise.resolve(body(w)).then((value) => (typeof value === 'string' ? value : JSON.stringify(value))) }),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

function assertAnswer({ status, headers, text }, wanted) {
  assert.equal(status, wanted.status, text.slice(0, 300));
  assertHeaders(headers, wanted.headers);
  if (wanted.code) {
    const answer = JSON.parse(text);
    assert.equal(answer.code, wanted.code);
    assertKeys(answer, { code: 'string', message: 'string', ...wanted.body });
    assertHeaders(headers, { 'x-sb-error-code': wanted.code, 'x-supabase-api-version': '2024-01-01', 'content-type': 'application/json' });
  } else if (wanted.each) {
    const list = JSON.parse(text);
    assert.ok(list.length > 0);
    for (const [n, entry] of list.entries()) assertKeys(entry, wanted.each, `[${n}]`);
  } else if (wanted.body) {
    assertKeys(JSON.parse(text), wanted.body);
    assertHeaders(headers, { 'content-type': 'application/json' });
  } else {
    assert.equal(text, '');
  }
}

describe('the answers of GoTrue', () => {
  for (const each of CASES.filter(({ here }) => !here)) {
    test(each.name, async () => assertAnswer(await ask(each), each.gotrue));
  }
});

describe('other answers, on purpose', () => {
  for (const each of CASES.filter(({ here }) => here)) {
    test(each.name, async () => {
      assertAnswer(await ask(each), each.here);
      assert.notDeepEqual(each.here, each.gotrue);
      assert.ok(page.includes(each.why), `docs/reference/gotrue.md does not say: ${each.why}`);
    });
  }
});

test('clients of the older API version get the older form of errors', async () => {
  const response = await fetch(`${env.API_URL}/auth/v1/user`, { headers: { apikey: env.ANON_KEY } });
  const answer = await response.json();
  assertKeys(answer, { code: 'number', error_code: 'string', msg: 'string' });
  assert.deepEqual([response.status, answer.code, answer.error_code], [401, 401, 'no_authorization']);
  assert.equal(response.headers.get('x-supabase-api-version'), null);
});
