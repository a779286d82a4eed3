// Login as a frontend developer meets it: sign up, sign in, refresh, change the account, sign out.
// Hostile input is in auth_hostile.test.mjs, the service key's endpoints in auth_admin.test.mjs.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { claimsOf, passwordGrant, refused, UUID } from './auth_support.mjs';
import { admin, api, env, http, newEmail, newUser, signIn, sql } from './support.mjs';

describe('sign up', () => {
  test("returns a session and a user in GoTrue's shape", async () => {
    const { session, user, email } = await newUser({ name: 'Ada', languages: ['nl', 'en'] });
    assert.match(user.id, UUID);
    assert.equal(user.email, email);
    assert.equal(user.aud, 'authenticated');
    assert.equal(user.role, 'authenticated');
    assert.equal(user.is_anonymous, false);
    assert.deepEqual(user.app_metadata, { provider: 'email', providers: ['email'] });
    assert.deepEqual(user.user_metadata, { name: 'Ada', languages: ['nl', 'en'], email_verified: true });
    assert.ok(Math.abs(Date.parse(user.created_at) - Date.parse(user.email_confirmed_at)) < 1000);
    assert.equal(user.identities.length, 1);
    assert.equal(user.identities[0].provider, 'email');
    assert.equal(user.identities[0].identity_data.email, email);
    assert.equal(user.encrypted_password, undefined);

    assert.equal(session.token_type, 'bearer');
    assert.equal(session.expires_in, 3600);
    const claims = claimsOf(session.access_token);
    assert.equal(claims.exp, session.expires_at);
    assert.equal(claims.exp - claims.iat, 3600);
    assert.ok(Math.abs(claims.iat - Date.now() / 1000) < 60, 'tokens run by the real clock');
    assert.equal(claims.sub, user.id);
    assert.equal(claims.aud, 'authenticated');
    assert.equal(claims.role, 'authenticated');
    assert.equal(claims.email, email);
    assert.equal(claims.aal, 'aal1');
    assert.equal(claims.amr[0].method, 'password');
    assert.match(claims.session_id, UUID);
    assert.match(claims.iss, /\/auth\/v1$/);
  });

  test('the token verifies with the published keys', async () => {
    const { client, user } = await newUser();
    const { data, error } = await client.auth.getClaims();
    assert.equal(error, null);
    assert.equal(data.header.alg, 'RS256');
    assert.equal(data.claims.sub, user.id);
    const { body, headers } = await http('GET', '/auth/v1/.well-known/jwks.json');
    assert.ok(body.keys.some((key) => key.kid === data.header.kid));
    const secret = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k'];
    assert.ok(
      body.keys.every((key) => key.kty === 'RSA' && secret.every((name) => key[name] === undefined)),
      'only public keys',
    );
    assert.match(headers.get('cache-control'), /max-age/);
  });

  test('trims the address and lowers its case', async () => {
    const email = newEmail('mixed');
    const { data } = await api().auth.signUp({ email: `  ${email.toUpperCase()} `, password: 'heron-42' });
    assert.equal(data.user.email, email);
    await signIn({ email: email.toUpperCase(), password: 'heron-42' });
  });

  test('refuses an address that is taken, in any case', async () => {
    const { email } = await newUser();
    await refused(api().auth.signUp({ email, password: 'heron-42' }), 'user_already_exists', 422);
    await refused(api().auth.signUp({ email: email.toUpperCase(), password: 'heron-42' }), 'user_already_exists', 422);
  });

  test('of two sign-ups with one address at the same time, one succeeds', async () => {
    const email = newEmail('race');
    const answers = await Promise.all([1, 2, 3, 4].map((n) => api().auth.signUp({ email, password: `heron-4${n}` })));
    assert.equal(answers.filter((answer) => answer.data.session).length, 1);
    assert.deepEqual(
      answers.filter((answer) => answer.error).map((answer) => answer.error.code),
      Array(3).fill('user_already_exists'),
    );
    const [{ count }] = await sql('select count(*)::int from auth.users where email = $1', [email]);
    assert.equal(count, 1);
  });

  test('refuses a weak password with its reasons', async () => {
    const reasonsOf = async (password, email = newEmail()) =>
      (await refused(api().auth.signUp({ email, password }), 'weak_password', 422)).reasons;
    assert.deepEqual(await reasonsOf('xk9q2'), ['length']);
    assert.deepEqual(await reasonsOf('12345'), ['length', 'pwned']);
    for (const common of [
      'password',
      'Password1!',
      'P@ssw0rd',
      'qwertyuiop',
      '123456789',
      '987654',
      'aaaaaaaa',
      'abcabcabc',
      'Welkom2026',
      '1Dragon!',
    ]) {
      assert.deepEqual(await reasonsOf(common), ['pwned'], common);
    }
    const email = newEmail('harriet');
    assert.deepEqual(await reasonsOf(email, email), ['pwned'], 'their own address');
  });

  test('accepts passwords of up to 72 bytes, at sign-in too', async () => {
    const email = newEmail('long');
    const longest = String.fromCharCode(...Array.from({ length: 36 }, (_, n) => 0xc0 + n));
    await refused(api().auth.signUp({ email, password: `${longest}x` }), 'validation_failed', 400);
    await api().auth.signUp({ email, password: longest });
    await signIn({ email, password: longest });
    await refused(api().auth.signInWithPassword({ email, password: `${longest}x` }), 'invalid_credentials', 400);
  });

  test('keeps unicode in passwords and metadata', async () => {
    const email = newEmail('unicode');
    const password = 'fietsbel – 密码 🔑';
    const { data } = await api().auth.signUp({ email, password, options: { data: { naam: 'Zoë 🦊', none: null } } });
    assert.equal(data.user.user_metadata.naam, 'Zoë 🦊');
    assert.equal(data.user.user_metadata.none, null);
    const again = await signIn({ email, password });
    assert.equal(claimsOf(again.session.access_token).user_metadata.naam, 'Zoë 🦊');
  });

  test('stores a bcrypt hash that GoTrue accepts, and no null where GoTrue cannot read one', async () => {
    const { user } = await newUser();
    const [row] = await sql('select * from auth.users where id = $1', [user.id]);
    assert.match(row.encrypted_password, /^\$2a\$(04|12)\$[./A-Za-z0-9]{53}$/);
    assert.equal(row.instance_id, '00000000-0000-0000-0000-000000000000');
    for (const column of [
      'confirmation_token',
      'recovery_token',
      'email_change',
      'email_change_token_new',
      'email_change_token_current',
      'phone_change',
      'phone_change_token',
      'reauthentication_token',
    ]) {
      assert.equal(row[column], '', column);
    }
  });
});

describe('sign in', () => {
  test('succeeds, and each sign-in is a new session', async () => {
    const first = await newUser();
    const second = await signIn(first);
    assert.equal(second.user.id, first.user.id);
    assert.notEqual(claimsOf(second.session.access_token).session_id, claimsOf(first.session.access_token).session_id);
    assert.ok(Date.parse(second.user.last_sign_in_at) >= Date.parse(first.user.last_sign_in_at));
  });

  test('a wrong password and an unknown address get the same answer', async () => {
    const { email } = await newUser();
    const wrong = await passwordGrant(email, 'not-the-password');
    const unknown = await passwordGrant(newEmail('nobody'), 'not-the-password');
    assert.equal(wrong.status, 400);
    assert.equal(wrong.body.code, 'invalid_credentials');
    assert.deepEqual(unknown.body, wrong.body);
    assert.equal(unknown.status, wrong.status);
  });

  test('a client cannot pretend to have another address', async () => {
    const { email, password } = await newUser();
    const spoofed = api({ 'X-Forwarded-For': '203.0.113.7', 'X-Real-IP': '203.0.113.7' });
    const { data } = await spoofed.auth.signInWithPassword({ email, password });
    const [{ ip }] = await sql('select host(ip) as ip from auth.sessions where id = $1', [claimsOf(data.session.access_token).session_id]);
    assert.notEqual(ip, '203.0.113.7');
    assert.match(ip, /^127\.0\.0\.1$|^::1$/);
  });
});

describe('the account', () => {
  test('getUser returns the user of the token', async () => {
    const { client, user, email } = await newUser();
    const { data } = await client.auth.getUser();
    assert.equal(data.user.id, user.id);
    assert.equal(data.user.email, email);
  });

  test('a new password ends the other sessions and keeps this one', async () => {
    const account = await newUser();
    const other = await signIn(account);
    await refused(account.client.auth.updateUser({ password: account.password }), 'same_password', 422);
    await refused(account.client.auth.updateUser({ password: '123' }), 'weak_password', 422);
    const { error } = await account.client.auth.updateUser({ password: 'another-secret' });
    assert.equal(error, null);
    assert.equal((await account.client.auth.getUser()).data.user.id, account.user.id);
    assert.equal((await other.client.auth.getUser()).error.name, 'AuthSessionMissingError');
    await refused(api().auth.signInWithPassword(account), 'invalid_credentials', 400);
    await signIn({ email: account.email, password: 'another-secret' });
  });

  test('metadata is merged, and null takes a key away', async () => {
    const { client } = await newUser({ keep: 1, drop: 2 });
    const { data } = await client.auth.updateUser({ data: { drop: null, add: { deep: [true] } } });
    assert.deepEqual(data.user.user_metadata, { keep: 1, add: { deep: [true] }, email_verified: true });
  });

  test('metadata does not grow beyond what a token can carry', async () => {
    const { client } = await newUser();
    const filler = 'x'.repeat(20_000);
    assert.equal((await client.auth.updateUser({ data: { first: filler } })).error, null);
    await refused(client.auth.updateUser({ data: { second: filler } }), 'validation_failed', 422);
    const { data } = await client.auth.refreshSession();
    assert.equal((await http('GET', '/rest/v1/profiles?select=id', { token: data.session.access_token })).status, 200);
    assert.equal(data.user.user_metadata.second, undefined);
    // Neither do many changes by the admin API, after which the user's own token would be refused.
    await refused(admin().auth.admin.updateUserById(data.user.id, { user_metadata: { second: filler } }), 'validation_failed', 422);
  });

  test('a user changes their account at most 30 times a minute, and others are not limited by that', async () => {
    const { client } = await newUser();
    const change = (n) => client.auth.updateUser({ data: { n } });
    const answers = [];
    for (let n = 0; n < 300 && answers.at(-1)?.error?.code !== 'over_request_rate_limit'; n++) answers.push(await change(n));
    const { error } = answers.pop();
    assert.deepEqual([error.code, error.status], ['over_request_rate_limit', 429]);
    assert.ok(answers.length >= 30 && answers.every((answer) => answer.error === null), `${answers.length} changes`);
    assert.equal((await (await newUser()).client.auth.updateUser({ data: { n: 1 } })).error, null);
  });

  test('a new address takes effect at once, unless it is taken', async () => {
    const account = await newUser();
    const neighbour = await newUser();
    await refused(account.client.auth.updateUser({ email: neighbour.email }), 'email_exists', 422);
    const email = newEmail('moved');
    const { data } = await account.client.auth.updateUser({ email });
    assert.equal(data.user.email, email);
    assert.equal(data.user.identities[0].email, email);
    await signIn({ email, password: account.password });
    await refused(api().auth.signInWithPassword(account), 'invalid_credentials', 400);
  });

  test('users cannot write their own app_metadata', async () => {
    const { session } = await newUser();
    const answer = await http('PUT', '/auth/v1/user', { token: session.access_token, body: { app_metadata: { admin: true } } });
    assert.equal(answer.status, 403);
    assert.equal(answer.body.code, 'not_admin');
    const escalated = await http('PUT', '/auth/v1/user', {
      token: session.access_token,
      body: { role: 'service_role', aud: 'x', data: { role: 'service_role' } },
    });
    assert.equal(escalated.status, 200);
    assert.equal(escalated.body.role, 'authenticated');
  });
});

describe('settings', () => {
  test('say that sign-in is by address and password', async () => {
    const { status, body } = await http('GET', '/auth/v1/settings');
    assert.equal(status, 200);
    assert.equal(body.external.email, true);
    assert.equal(body.external.google, false);
    assert.equal(body.mailer_autoconfirm, true);
    assert.equal((await http('GET', '/auth/v1/health')).status, 200);
  });

  test('the service key is not a user', async () => {
    const { error } = await admin().auth.getUser(env.SERVICE_ROLE_KEY);
    assert.equal(error.code, 'bad_jwt');
  });
});
