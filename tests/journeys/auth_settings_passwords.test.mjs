// The cost of passwords, how many are hashed at once, and how long sessions last. Changes the settings of login for all, so it runs alone.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import pg from 'pg';
import { passwordGrant, refresh, refused, withSettings } from './auth_support.mjs';
import { admin, adminSql, api, env, http, newEmail, newUser, signIn, sql } from './support.mjs';

withSettings({
  bcrypt_cost: 12,
  password_required_characters: ['abcdefghijklmnopqrstuvwxyz', '0123456789'],
  lockout_attempts: 0,
  timebox_seconds: 7200,
  single_session_per_device: true,
});

const hashOf = async (email) => (await sql('select encrypted_password as hash from auth.users where email = $1', [email]))[0].hash;
const imported = async (cost, password) => {
  const email = newEmail('imported');
  const [{ hash }] = await sql('select extensions.crypt($1, extensions.gen_salt($2, $3)) as hash', [password, 'bf', cost]);
  await admin().auth.admin.createUser({ email, password_hash: hash, email_confirm: true });
  return { email, hash };
};

describe('the cost of a hash', () => {
  test('is today’s for a new user, and for an older one after the next sign-in', async () => {
    const { email: fresh } = await newUser();
    assert.match(await hashOf(fresh), /^\$2a\$12\$/);
    const { email, hash } = await imported(5, 'heron-42');
    assert.equal((await passwordGrant(email, 'not-this')).body.code, 'invalid_credentials');
    assert.equal(await hashOf(email), hash, 'only the right password can be hashed anew');
    assert.equal((await passwordGrant(email, 'heron-42')).status, 200);
    assert.match(await hashOf(email), /^\$2a\$12\$/);
    assert.equal((await passwordGrant(email, 'heron-42')).status, 200);
  });

  test('above today’s stays', async () => {
    const { email, hash } = await imported(13, 'heron-42');
    assert.equal((await passwordGrant(email, 'heron-42')).status, 200);
    assert.equal(await hashOf(email), hash);
  });
});

describe('many sign-ins at once', () => {
  test('two are hashed at a time, some wait, the rest is refused; a refresh waits for none of them', async () => {
    const people = [];
    for (let n = 0; n < 20; n += 1) people.push((await imported(4, 'heron-42')).email);
    const { session } = await newUser();
    const ended = [];
    const signIns = people.map((email) => passwordGrant(email, 'wrong', { send: fetch }).then((answer) => ended.push(answer) && answer));
    let most = 0;
    const watch = (async () => {
      while (ended.length < people.length) {
        const [{ n }] = await adminSql(
          `select count(*)::int as n from pg_locks where locktype = 'advisory' and granted
           and classid = (hashtext('auth_api.hash_turns')::bigint & 4294967295)::oid and objsubid = 2`,
        );
        most = Math.max(most, n);
      }
    })();
    const refreshed = await refresh(session.refresh_token);
    assert.equal(refreshed.status, 200);
    const hashed = ended.filter(({ status }) => status === 400).length;
    assert.ok(hashed < 6, `the refresh came after ${hashed} hashes`);
    const answers = await Promise.all(signIns);
    await watch;
    assert.ok(most >= 1 && most <= 2, `${most} at once`);
    const refusals = answers.filter(({ status }) => status === 429);
    assert.ok(refusals.length > 0);
    assert.ok(refusals.every(({ body, headers }) => body.code === 'over_request_rate_limit' && headers.get('retry-after') === '1'));
    assert.ok(answers.every(({ status }) => status === 400 || status === 429));
  });

  test('of one network leave places to others', async () => {
    const sessions = [];
    // Each is a transaction that stays open, as one whose password is being hashed.
    const enter = async (address) => {
      const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
      sessions.push(client);
      await client.connect();
      await client.query('begin');
      await client.query(`select set_config('request.headers', $1, true)`, [JSON.stringify({ 'x-forwarded-for': address })]);
      return await client.query('select auth_api.enter_hashing()').then(
        () => 'in',
        ({ code }) => code,
      );
    };
    try {
      const answers = [];
      for (let n = 0; n < 5; n += 1) answers.push(await enter(`2001:db8:aaaa::${n}`));
      for (let n = 0; n < 3; n += 1) answers.push(await enter(`2001:db8:bbbb::${n}`));
      assert.deepEqual(answers, ['in', 'in', 'in', 'in', 'KJA01', 'in', 'in', 'KJA01']);
    } finally {
      for (const session of sessions) await session.end();
    }
  });
});

describe('the characters that a password needs', () => {
  test('are asked of new ones; a sign-in with an older one says that it is weak', async () => {
    const error = await refused(api().auth.signUp({ email: newEmail(), password: 'only-letters-here' }), 'weak_password', 422);
    assert.deepEqual(error.reasons, ['characters']);
    const { email } = await imported(4, 'only-letters-here');
    const { data } = await api().auth.signInWithPassword({ email, password: 'only-letters-here' });
    assert.ok(data.session);
    assert.deepEqual(data.weakPassword.reasons, ['characters']);
  });
});

describe('sessions', () => {
  test('end two hours after the sign-in, however much they are used', async () => {
    const { client, user } = await newUser();
    assert.equal((await client.auth.refreshSession()).error, null);
    await sql(`update auth.sessions set created_at = created_at - interval '2 hours 1 second' where user_id = $1`, [user.id]);
    await refused(client.auth.refreshSession(), 'session_expired', 400);
  });

  test('of one device are one', async () => {
    const first = await newUser();
    const elsewhere = await http('POST', '/auth/v1/token?grant_type=password', {
      body: { email: first.email, password: first.password },
      headers: { 'User-Agent': 'phone' },
    });
    const second = await signIn(first);
    assert.equal((await first.client.auth.getUser()).error.name, 'AuthSessionMissingError');
    assert.equal((await second.client.auth.getUser()).error, null);
    assert.equal((await http('GET', '/auth/v1/user', { token: elsewhere.body.access_token })).status, 200);
  });
});
