// The endpoints of the service key: making, finding, changing, banning and deleting users.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { refused } from './auth_support.mjs';
import { until } from './domain.mjs';
import { admin, api, env, http, newEmail, newUser, signIn, sql } from './support.mjs';

const users = () => admin().auth.admin;

describe('authorization', () => {
  const id = randomUUID();
  const endpoints = [
    ['GET', '/admin/users'],
    ['POST', '/admin/users'],
    ['GET', `/admin/users/${id}`],
    ['PUT', `/admin/users/${id}`],
    ['DELETE', `/admin/users/${id}`],
  ];

  test('requests without a key, with the anon key, or by a user are refused', async () => {
    const { session } = await newUser();
    for (const [method, path] of endpoints) {
      const unauthenticated = await http(method, `/auth/v1${path}`);
      assert.deepEqual([unauthenticated.status, unauthenticated.body.code], [401, 'no_authorization'], `${method} ${path}`);
      for (const token of [env.ANON_KEY, session.access_token]) {
        const answer = await http(method, `/auth/v1${path}`, { token, ...(method !== 'GET' && { body: {} }) });
        assert.deepEqual([answer.status, answer.body.code], [403, 'not_admin'], `${method} ${path}`);
      }
    }
  });
});

describe('create', () => {
  test('a confirmed user signs in', async () => {
    const email = newEmail('made');
    const { data, error } = await users().createUser({
      email,
      password: 'heron-42',
      email_confirm: true,
      user_metadata: { name: 'Made' },
      app_metadata: { tier: 2 },
    });
    assert.equal(error, null);
    assert.deepEqual(data.user.app_metadata, { provider: 'email', providers: ['email'], tier: 2 });
    assert.equal(data.user.user_metadata.name, 'Made');
    assert.equal((await signIn({ email, password: 'heron-42' })).user.id, data.user.id);
  });

  test('an unconfirmed user signs in only once confirmed', async () => {
    const email = newEmail('unconfirmed');
    const { data } = await users().createUser({ email, password: 'heron-42' });
    assert.equal(data.user.email_confirmed_at, undefined);
    await refused(api().auth.signInWithPassword({ email, password: 'wrong-one' }), 'invalid_credentials', 400);
    await refused(api().auth.signInWithPassword({ email, password: 'heron-42' }), 'email_not_confirmed', 400);
    const organizations = () => sql('select id from public.organizations where personal_for = $1', [data.user.id]);
    assert.deepEqual(await organizations(), [], 'the address is not confirmed: no organization of their own yet');
    await users().updateUserById(data.user.id, { email_confirm: true });
    const { client } = await signIn({ email, password: 'heron-42' });
    const { data: own } = await client.from('organizations').select('id, personal_for');
    assert.deepEqual(
      own,
      (await organizations()).map(({ id }) => ({ id, personal_for: data.user.id })),
    );
    assert.equal(own.length, 1);
  });

  test('accepts an imported bcrypt hash in each of its formats', async () => {
    const hash = '$2a$04$9O.sAHuyTdwAPNXlfqQ.xexc0qwbwXRfDzqKUgFnZ6ZuqJ4lwkf6S';
    const [{ own }] = await sql(`select extensions.crypt('heron-42', extensions.gen_salt('bf', 4)) as own`);
    for (const prefix of ['$2a$', '$2b$', '$2y$']) {
      const email = newEmail('moved');
      const { error } = await users().createUser({ email, password_hash: prefix + own.slice(4), email_confirm: true });
      assert.equal(error, null);
      await signIn({ email, password: 'heron-42' });
      await refused(api().auth.signInWithPassword({ email, password: 'secret2' }), 'invalid_credentials', 400);
    }
    await refused(users().createUser({ email: newEmail(), password: 'heron-42', password_hash: hash }), 'validation_failed', 400);
    await refused(users().createUser({ email: newEmail(), password_hash: `$2a$31$${hash.slice(7)}` }), 'validation_failed', 400);
    await refused(users().createUser({ email: newEmail(), password_hash: 'md5' }), 'validation_failed', 400);
  });

  test('a hash that is not bcrypt never matches', async () => {
    const { email, user } = await newUser();
    for (const hash of ['$argon2id$v=19$m=65536,t=3,p=2$c29tZXNhbHQ$aGFzaA', '', 'x', '$2b$', null]) {
      await sql('update auth.users set encrypted_password = $2 where id = $1', [user.id, hash]);
      await refused(api().auth.signInWithPassword({ email, password: hash || 'x' }), 'invalid_credentials', 400);
    }
  });

  test('refuses taken addresses and invalid input', async () => {
    const { email, user } = await newUser();
    await refused(users().createUser({ email, password: 'heron-42' }), 'email_exists', 422);
    await refused(users().createUser({ id: user.id, email: newEmail(), password: 'heron-42' }), 'email_exists', 422);
    await refused(users().createUser({ id: 'me', email: newEmail() }), 'validation_failed', 400);
    await refused(users().createUser({ email: 'nonsense' }), 'validation_failed', 400);
    await refused(users().createUser({ password: 'heron-42' }), 'validation_failed', 400);
    await refused(users().createUser({ email: newEmail(), ban_duration: 'a while' }), 'validation_failed', 400);
  });
});

describe('find', () => {
  test('by id', async () => {
    const { user, email } = await newUser();
    const { data } = await users().getUserById(user.id);
    assert.equal(data.user.email, email);
    await refused(users().getUserById(randomUUID()), 'user_not_found', 404);
    const answer = await http('GET', '/auth/v1/admin/users/me', { token: env.SERVICE_ROLE_KEY });
    assert.deepEqual([answer.status, answer.body.code], [404, 'validation_failed']);
  });

  test('by page, newest first', async () => {
    const tag = randomUUID();
    const made = [];
    for (let n = 0; n < 5; n += 1) made.push((await users().createUser({ email: `page-${n}-${tag}@example.com` })).data.user.id);
    const page = async (number) => {
      const answer = await http('GET', `/auth/v1/admin/users?page=${number}&per_page=2&filter=${encodeURIComponent(tag)}`, {
        token: env.SERVICE_ROLE_KEY,
      });
      assert.equal(answer.headers.get('x-total-count'), '5');
      return { ids: answer.body.users.map((user) => user.id), link: answer.headers.get('link') };
    };
    const pages = [await page(1), await page(2), await page(3), await page(4)];
    assert.deepEqual(
      pages.flatMap(({ ids }) => ids),
      made.toReversed(),
    );
    assert.match(pages[0].link, /page=2&.*rel="next".*page=3&.*rel="last"/);
    assert.doesNotMatch(pages[2].link, /rel="next"/);

    const { data, error } = await users().listUsers({ page: 1, perPage: 2 });
    assert.equal(error, null);
    assert.equal(data.users.length, 2);
    assert.equal(data.nextPage, 2);
    assert.ok(data.total >= 5);
    for (const query of ['page=x', 'per_page=-1', 'per_page=1.5', 'page=99999999999999999999']) {
      const answer = await http('GET', `/auth/v1/admin/users?${query}`, { token: env.SERVICE_ROLE_KEY });
      assert.deepEqual([answer.status, answer.body.code], [400, 'validation_failed'], query);
    }
  });

  test('a filter is literal: SQL wildcards mean nothing in it', async () => {
    const tag = randomUUID();
    await users().createUser({ email: `a_${tag}@example.com` });
    await users().createUser({ email: `ab${tag}@example.com` });
    const found = await http('GET', `/auth/v1/admin/users?filter=a_${tag}`, { token: env.SERVICE_ROLE_KEY });
    assert.deepEqual(
      found.body.users.map((user) => user.email),
      [`a_${tag}@example.com`],
    );
  });
});

describe('change', () => {
  test('metadata, address and password; a new password ends all sessions', async () => {
    const account = await newUser({ keep: 1, drop: 2 });
    const email = newEmail('changed');
    const { data, error } = await users().updateUserById(account.user.id, {
      email,
      password: 'changed-1',
      user_metadata: { drop: null },
      app_metadata: { plan: 'x' },
    });
    assert.equal(error, null);
    assert.equal(data.user.email, email);
    assert.equal(data.user.user_metadata.keep, 1);
    assert.equal('drop' in data.user.user_metadata, false);
    assert.equal(data.user.app_metadata.plan, 'x');
    assert.equal((await account.client.auth.getUser()).error.name, 'AuthSessionMissingError');
    await signIn({ email, password: 'changed-1' });
    await refused(users().updateUserById(account.user.id, { password: '123' }), 'weak_password', 422);
    await refused(users().updateUserById(randomUUID(), {}), 'user_not_found', 404);
    const neighbour = await newUser();
    await refused(users().updateUserById(account.user.id, { email: neighbour.email }), 'email_exists', 422);
  });

  test('a ban takes effect at once and ends', async () => {
    const account = await newUser();
    const restStatus = async (token) => (await http('GET', '/rest/v1/profiles', { token })).status;
    assert.equal(await restStatus(account.session.access_token), 200);
    const { data } = await users().updateUserById(account.user.id, { ban_duration: '1h30m' });
    const minutes = (Date.parse(data.user.banned_until) - Date.parse(data.user.updated_at)) / 60_000;
    assert.ok(Math.abs(minutes - 90) < 1, `${minutes}`);
    await refused(api().auth.signInWithPassword(account), 'user_banned', 400);
    await refused(api().auth.signInWithPassword({ ...account, password: 'wrong-one' }), 'invalid_credentials', 400);
    await refused(account.client.auth.getUser(), 'user_banned', 403);
    assert.equal(await restStatus(account.session.access_token), 401);
    await refused(account.client.auth.refreshSession(), 'user_banned', 400);

    await users().updateUserById(account.user.id, { ban_duration: 'none' });
    const back = await signIn(account);
    assert.equal(await restStatus(back.session.access_token), 200);
  });

  test('lifting a ban restores the old token, the old session and its refreshed ones at once', async () => {
    const account = await newUser();
    const { access_token: token, refresh_token } = account.session;
    const rest = async (bearer) => (await http('GET', '/rest/v1/profiles', { token: bearer })).status;
    for (const ban_duration of ['24h', '876000h']) {
      await users().updateUserById(account.user.id, { ban_duration });
      assert.equal(await rest(token), 401);
      assert.equal((await http('GET', '/auth/v1/user', { token })).body.code, 'user_banned');
      await users().updateUserById(account.user.id, { ban_duration: 'none' });
      assert.equal(await rest(token), 200);
      assert.equal((await http('GET', '/auth/v1/user', { token })).status, 200);
    }
    const refreshed = await api().auth.refreshSession({ refresh_token });
    assert.equal(refreshed.error, null);
    assert.equal(await rest(refreshed.data.session.access_token), 200);
  });

  test('a ban that expires restores them, too', async () => {
    const account = await newUser();
    const token = account.session.access_token;
    const rest = async () => (await http('GET', '/rest/v1/profiles', { token })).status;
    await users().updateUserById(account.user.id, { ban_duration: '10s' });
    assert.equal(await rest(), 401);
    await until('the ban to end', async () => (await rest()) === 200);
    assert.equal((await account.client.auth.getUser()).error, null);
    assert.equal((await account.client.auth.refreshSession()).error, null);
  });

  test('lifting a ban restores no session that was signed out', async () => {
    const account = await newUser();
    const other = await signIn(account);
    await users().updateUserById(account.user.id, { ban_duration: '24h' });
    await sql(
      'delete from auth.sessions where id = (select (auth.sessions.id) from auth.sessions where user_id = $1 order by created_at limit 1)',
      [account.user.id],
    );
    await users().updateUserById(account.user.id, { ban_duration: 'none' });
    assert.equal((await http('GET', '/rest/v1/profiles', { token: account.session.access_token })).status, 401);
    assert.equal((await http('GET', '/rest/v1/profiles', { token: other.session.access_token })).status, 200);
  });
});

describe('delete', () => {
  test('removes the user and the rows that depend on it', async () => {
    const account = await newUser();
    const { error } = await users().deleteUser(account.user.id);
    assert.equal(error, null);
    await refused(users().getUserById(account.user.id), 'user_not_found', 404);
    await refused(account.client.auth.getUser(), 'user_not_found', 403);
    await refused(api().auth.signInWithPassword(account), 'invalid_credentials', 400);
    assert.equal((await http('GET', '/rest/v1/profiles', { token: account.session.access_token })).status, 401);
    await api().auth.signUp({ email: account.email, password: 'heron-42' });
    await signIn({ email: account.email, password: 'heron-42' });
    await refused(users().deleteUser(account.user.id), 'user_not_found', 404);
  });

  test('a soft delete keeps the id and no personal data', async () => {
    const account = await newUser({ name: 'Forget me' });
    const { error } = await users().deleteUser(account.user.id, true);
    assert.equal(error, null);
    // The sessions end with it: neither token is worth anything any more.
    await refused(api().auth.refreshSession({ refresh_token: account.session.refresh_token }), 'refresh_token_not_found', 400);
    assert.equal((await http('GET', '/auth/v1/user', { token: account.session.access_token })).body.code, 'session_not_found');
    assert.equal((await http('GET', '/rest/v1/profiles', { token: account.session.access_token })).status, 401);
    assert.deepEqual(await sql('select 1 from auth.sessions where user_id = $1', [account.user.id]), []);
    const [row] = await sql('select * from auth.users where id = $1', [account.user.id]);
    assert.notEqual(row.deleted_at, null);
    assert.equal(row.encrypted_password, null);
    assert.doesNotMatch(JSON.stringify(row), new RegExp(`Forget me|${account.email}`));
    const identities = await sql('select * from auth.identities where user_id = $1', [account.user.id]);
    assert.doesNotMatch(JSON.stringify(identities), new RegExp(account.email));
    await refused(api().auth.signInWithPassword(account), 'invalid_credentials', 400);
    await api().auth.signUp({ email: account.email, password: 'heron-42' });
    await signIn({ email: account.email, password: 'heron-42' });
  });
});
