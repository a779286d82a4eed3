// Second factors: an authenticator app, the session that it lifts to aal2, and recovery codes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { answerFactor as answer, claimsOf, codeOf, enroll, mailTo, openLink, refresh, refused, withFactor } from './auth_support.mjs';
import { admin, adminSql, api, env, fetchInTurn, http, newUser, signIn, sql } from './support.mjs';

// One code works once: each answer of a test takes a newer one.
const next = (factor) => codeOf(factor.secret, 0);
const last = (factor) => codeOf(factor.secret, 1);

describe('an authenticator app', () => {
  test('is enrolled, verified, asked for at the next sign-in, and removed', async () => {
    const account = await newUser();
    const elsewhere = await signIn(account);
    const { client } = account;
    const factor = await enroll(account);
    assert.match(factor.totp.qr_code, /^data:image\/svg\+xml;utf-8,.*<svg/s);
    assert.match(factor.secret, /^[A-Z2-7]{32}$/);
    const uri = new URL(factor.totp.uri);
    assert.deepEqual([uri.protocol, uri.host, decodeURIComponent(uri.pathname)], ['otpauth:', 'totp', `/Kijko:${account.email}`]);
    assert.deepEqual(Object.fromEntries(uri.searchParams), {
      algorithm: 'SHA1',
      digits: '6',
      issuer: 'Kijko',
      period: '30',
      secret: factor.secret,
    });

    const before = await client.auth.mfa.getAuthenticatorAssuranceLevel();
    assert.deepEqual([before.data.currentLevel, before.data.nextLevel], ['aal1', 'aal1'], 'an unverified factor does not count');
    const old = (await client.auth.getSession()).data.session;
    const { data, error } = await answer(client, factor, next(factor));
    assert.equal(error, null);
    const claims = claimsOf(data.access_token);
    assert.deepEqual([claims.aal, claims.amr.map(({ method }) => method).sort()], ['aal2', ['password', 'totp']]);
    assert.equal(claims.session_id, claimsOf(old.access_token).session_id);
    assert.equal((await refresh(old.refresh_token)).status, 400, 'the refresh token of aal1 is dead');
    // The access token lives for a while, and may be a stolen one.
    for (const [method, path, body] of [
      ['POST', '/factors/recovery-codes'],
      ['PUT', '/user', { password: 'a-new-secret' }],
      ['POST', '/factors', { factor_type: 'totp', friendly_name: 'mine' }],
      ['DELETE', `/factors/${factor.id}`],
    ]) {
      const answered = await http(method, `/auth/v1${path}`, { token: old.access_token, body });
      assert.equal(answered.body?.code, 'insufficient_aal', `${method} ${path}: ${answered.text}`);
    }
    assert.equal((await elsewhere.client.auth.getUser()).error.name, 'AuthSessionMissingError', 'sessions without the factor end');
    const refreshed = await client.auth.refreshSession();
    assert.equal(claimsOf(refreshed.data.session.access_token).aal, 'aal2', 'a refresh keeps the level');

    const again = await signIn(account);
    const level = await again.client.auth.mfa.getAuthenticatorAssuranceLevel();
    assert.deepEqual([level.data.currentLevel, level.data.nextLevel], ['aal1', 'aal2']);
    const { data: listed } = await again.client.auth.mfa.listFactors();
    assert.deepEqual(
      listed.totp.map(({ id, status, friendly_name }) => [id, status, friendly_name]),
      [[factor.id, 'verified', 'phone']],
    );
    await refused(again.client.auth.mfa.unenroll({ factorId: factor.id }), 'insufficient_aal', 422);
    assert.equal((await answer(again.client, factor, last(factor))).error, null);
    const removed = await again.client.auth.mfa.unenroll({ factorId: factor.id });
    assert.deepEqual([removed.error, removed.data.id], [null, factor.id]);
    const fallen = await again.client.auth.refreshSession();
    assert.deepEqual([claimsOf(fallen.data.session.access_token).aal, fallen.data.user.factors], ['aal1', undefined]);
  });

  test('of this time and of no other; each code works once', async () => {
    const account = await newUser();
    const factor = await enroll(account);
    for (const code of [codeOf(factor.secret, -3), codeOf(factor.secret, 3), 'x']) {
      await refused(answer(account.client, factor, code), 'mfa_verification_failed', 422);
    }
    for (const code of ['', undefined]) await refused(answer(account.client, factor, code), 'validation_failed', 400);
    const code = next(factor);
    assert.equal((await answer(account.client, factor, code)).error, null);
    await refused(answer(account.client, factor, code), 'mfa_verification_failed', 422);
    await refused(answer(account.client, factor, codeOf(factor.secret, -1)), 'mfa_verification_failed', 422);
  });

  test('a challenge works once, for five minutes, and for its own factor', async () => {
    const { client, factor, session } = await withFactor();
    const verify = (factorId, challenge_id, code) =>
      http('POST', `/auth/v1/factors/${factorId}/verify`, { token: session.access_token, body: { challenge_id, code } });
    const challenge = async () => (await client.auth.mfa.challenge({ factorId: factor.id })).data;
    const old = await challenge();
    assert.ok(old.expires_at > Date.now() / 1000 + 200);
    await sql(`update auth.mfa_challenges set created_at = created_at - interval '5 minutes 1 second' where id = $1`, [old.id]);
    assert.deepEqual([(await verify(factor.id, old.id, next(factor))).body.code], ['mfa_challenge_expired']);
    const stolen = await challenge();
    await sql(`update auth.mfa_challenges set ip_address = '203.0.113.9' where id = $1`, [stolen.id]);
    assert.equal((await verify(factor.id, stolen.id, next(factor))).body.code, 'mfa_ip_address_mismatch');
    const good = await challenge();
    assert.equal((await verify(factor.id, good.id, next(factor))).status, 200);
    const { body } = await http('POST', `/auth/v1/factors/${factor.id}/verify`, {
      token: session.access_token,
      body: { challenge_id: good.id, code: last(factor) },
    });
    assert.equal(body.code, 'mfa_factor_not_found');
    assert.equal((await verify(factor.id, factor.id, last(factor))).body.code, 'mfa_factor_not_found');
    assert.equal((await verify(factor.id, undefined, last(factor))).body.code, 'mfa_factor_not_found');
    assert.equal((await verify(factor.id, 'x', last(factor))).body.code, 'bad_json');
  });

  test('of two answers with one code at once, one is right', async () => {
    const { client, factor, session } = await withFactor();
    const challenges = [];
    for (let n = 0; n < 2; n += 1) challenges.push((await client.auth.mfa.challenge({ factorId: factor.id })).data.id);
    const code = next(factor);
    const answers = await Promise.all(
      challenges.map((challenge_id) =>
        http('POST', `/auth/v1/factors/${factor.id}/verify`, { token: session.access_token, body: { challenge_id, code } }),
      ),
    );
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 422]);
  });

  test('guesses are limited', async () => {
    const account = await newUser();
    const factor = await enroll(account);
    let limited;
    for (let n = 0; n < 12 && !limited; n += 1) {
      const { error } = await answer(account.client, factor, '000000');
      if (error.status === 429) limited = error;
    }
    assert.equal(limited?.code, 'over_request_rate_limit');
  });

  test("another user's factor does not exist", async () => {
    const [mine, theirs] = [await newUser(), await withFactor()];
    for (const path of [`/factors/${theirs.factor.id}/challenge`, `/factors/${theirs.factor.id}/verify`]) {
      const answered = await http('POST', `/auth/v1${path}`, { token: mine.session.access_token, body: {} });
      assert.deepEqual([answered.status, answered.body.code], [404, 'mfa_factor_not_found'], path);
    }
    await refused(mine.client.auth.mfa.unenroll({ factorId: theirs.factor.id }), 'mfa_factor_not_found', 404);
    assert.equal((await http('POST', '/auth/v1/factors/x/challenge', { token: mine.session.access_token })).status, 404);
    assert.equal((await http('POST', '/auth/v1/factors', { body: { factor_type: 'totp' } })).status, 401);
  });

  test('names are unique, ten are enough, and other kinds are refused', async () => {
    const account = await newUser();
    await enroll(account, 'one');
    await refused(account.client.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'one' }), 'mfa_factor_name_conflict', 422);
    for (let n = 2; n <= 10; n += 1) await enroll(account, `number ${n}`);
    await refused(account.client.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'eleven' }), 'too_many_enrolled_mfa_factors', 422);
    await sql(`update auth.mfa_factors set created_at = created_at - interval '6 minutes' where user_id = $1`, [account.user.id]);
    await enroll(account, 'eleven');
    await refused(account.client.auth.mfa.enroll({ factorType: 'phone', phone: '+31612345678' }), 'mfa_phone_enroll_not_enabled', 422);
    const strange = await http('POST', '/auth/v1/factors', { token: account.session.access_token, body: { factor_type: 'pigeon' } });
    assert.deepEqual([strange.status, strange.body.code], [400, 'validation_failed']);
  });

  test('the seed is not stored in clear', async () => {
    const { factor } = await withFactor();
    const [{ secret }] = await sql('select secret from auth.mfa_factors where id = $1', [factor.id]);
    assert.ok(secret.startsWith('kjs1.') && !secret.includes(factor.secret));
    const other = await withFactor();
    await sql('update auth.mfa_factors set secret = $1 where id = $2', [secret, other.factor.id]);
    const { error } = await answer(other.client, other.factor, next(factor));
    assert.equal(error.status, 500, 'a seed that is copied to another factor cannot be opened');
    // Other tests count what cannot be opened.
    await sql('delete from auth.mfa_factors where id = $1', [other.factor.id]);
  });

  test('the code of RFC 6238 comes out', async () => {
    const rows = await adminSql(
      `select auth_api.totp(auth_api.base32(convert_to('12345678901234567890', 'UTF8')), t / 30) as code, right(wanted, 6) as wanted
       from (values (59, '94287082'), (1111111109, '07081804'), (1111111111, '14050471'), (1234567890, '89005924'), (2000000000, '69279037')) as v (t, wanted)`,
    );
    for (const { code, wanted } of rows) assert.equal(code, wanted);
  });
});

describe('a session of one factor', () => {
  test('cannot change the password or the address, or add a factor, of who has two', async () => {
    const account = await withFactor();
    const { client } = await signIn(account);
    await refused(client.auth.updateUser({ password: 'a-new-secret' }), 'insufficient_aal', 401);
    await refused(client.auth.updateUser({ email: `new-${account.email}` }), 'insufficient_aal', 401);
    await refused(client.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'mine' }), 'insufficient_aal', 403);
    assert.equal((await client.auth.updateUser({ data: { name: 'x' } })).error, null);
    assert.equal((await account.client.auth.updateUser({ password: 'a-new-secret' })).error, null);
  });

  test('makes no API key, which would outlive it', async () => {
    const account = await withFactor();
    const { client } = await signIn(account);
    const make = (by) => by.rpc('create_api_key', { name: 'Key', permissions: ['skills:read'] });
    const { error, status } = await make(client);
    assert.deepEqual([status, error.code], [403, 'insufficient_aal']);
    const made = await make(account.client);
    assert.equal(made.error, null);
    assert.equal((await client.rpc('rotate_api_key', { id: made.data.id })).error.code, 'insufficient_aal');
    assert.equal((await account.client.rpc('rotate_api_key', { id: made.data.id })).error, null);
    assert.equal((await client.rpc('revoke_api_key', { id: made.data.id })).error, null);
  });

  test('also when it comes from a recovery mail', async () => {
    const account = await withFactor();
    await api().auth.resetPasswordForEmail(account.email);
    const { fragment } = await openLink((await mailTo(account.email, 'recovery')).data.link);
    const client = api();
    await client.auth.setSession(fragment);
    await refused(client.auth.updateUser({ password: 'a-new-secret' }), 'insufficient_aal', 401);
    assert.equal((await answer(client, account.factor, next(account.factor))).error, null);
    assert.equal((await client.auth.updateUser({ password: 'a-new-secret' })).error, null);
  });
});

describe('recovery codes', () => {
  const recovering = () =>
    createClient(env.API_URL, env.ANON_KEY, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false, experimental: { recoveryCodes: true } },
      global: { fetch: fetchInTurn },
      realtime: { transport: class {} },
    });

  test('let in who has lost the app, each once', async () => {
    const account = await withFactor();
    const call = (method, path, token, body) => http(method, `/auth/v1/factors/recovery-codes${path}`, { token, body });
    const token = account.session.access_token;
    assert.deepEqual([(await call('GET', '', token)).body.code], ['mfa_factor_not_found']);
    const made = await call('POST', '', token);
    assert.equal(made.status, 200);
    assert.deepEqual([made.body.type, made.body.total, new Set(made.body.codes).size], ['recovery_code', 10, 10]);
    assert.ok(made.body.codes.every((code) => /^[a-z2-7]{16}$/.test(code)));
    assert.equal((await call('POST', '', token)).body.code, 'mfa_verified_factor_exists');

    const { session: weak } = await signIn(account);
    for (const [method, path] of [
      ['POST', '/regenerate'],
      ['DELETE', ''],
    ]) {
      const answered = await call(method, path, weak.access_token);
      assert.deepEqual([answered.status, answered.body.code], [403, 'insufficient_aal'], path);
    }
    const [first, second] = made.body.codes;
    const spelled = `${first.slice(0, 4)}-${first.slice(4, 8)} ${first.slice(8)}`.toUpperCase();
    const lifted = await call('POST', '/verify', weak.access_token, { code: spelled });
    assert.equal(lifted.status, 200);
    assert.deepEqual(
      [claimsOf(lifted.body.access_token).aal, claimsOf(lifted.body.access_token).amr[0].method],
      ['aal2', 'mfa/recovery_code'],
    );
    assert.deepEqual((await call('GET', '', lifted.body.access_token)).body.remaining, 9);
    const { session: other } = await signIn(account);
    assert.equal((await call('POST', '/verify', other.access_token, { code: first })).body.code, 'mfa_verification_failed', 'it was used');
    const together = await Promise.all([1, 2].map(() => call('POST', '/verify', other.access_token, { code: second })));
    assert.deepEqual(together.map(({ status }) => status).sort(), [200, 422], 'of two requests with one code, one gets in');
  });

  test('are locked after five tries, also for a right one', async () => {
    const account = await withFactor();
    const { body } = await http('POST', '/auth/v1/factors/recovery-codes', { token: account.session.access_token });
    const { session } = await signIn(account);
    const tries = (code) => http('POST', '/auth/v1/factors/recovery-codes/verify', { token: session.access_token, body: { code } });
    for (let n = 0; n < 5; n += 1) assert.equal((await tries('aaaaaaaaaaaaaaaa')).body.code, 'mfa_verification_failed');
    const locked = await tries(body.codes[0]);
    assert.deepEqual([locked.status, locked.body.code, locked.headers.has('retry-after')], [429, 'mfa_recovery_codes_locked', true]);
  });

  test('by the methods of supabase-js', async () => {
    const account = await newUser();
    const client = recovering();
    await client.auth.signInWithPassword(account);
    const { recoveryCodes } = client.auth.mfa;
    const factor = await enroll({ client });
    assert.equal((await answer(client, factor, next(factor))).error, null);
    const { data, error } = await recoveryCodes.generate({ friendlyName: 'paper' });
    assert.equal(error, null);
    assert.equal(data.codes.length, 10);
    const renewed = await recoveryCodes.regenerate();
    assert.equal(renewed.error, null);
    const later = recovering();
    await later.auth.signInWithPassword(account);
    await refused(later.auth.mfa.recoveryCodes.verify({ code: data.codes[0] }), 'mfa_verification_failed', 422);
    assert.equal((await later.auth.mfa.recoveryCodes.verify({ code: renewed.data.codes[0] })).error, null);
    assert.deepEqual((await later.auth.mfa.recoveryCodes.getStatus()).data.remaining, 9);
    assert.equal((await later.auth.mfa.recoveryCodes.unenroll()).error, null);
  });

  test('need another factor, and go with the last one', async () => {
    const account = await withFactor();
    const token = account.session.access_token;
    await http('POST', '/auth/v1/factors/recovery-codes', { token });
    assert.equal((await account.client.auth.mfa.unenroll({ factorId: account.factor.id })).error, null);
    const [{ n }] = await sql('select count(*)::int as n from auth.mfa_factors where user_id = $1', [account.user.id]);
    assert.equal(n, 0);
  });

  test('the service key lists factors and removes one from who has lost everything', async () => {
    const account = await withFactor();
    const { data, error } = await admin().auth.admin.mfa.listFactors({ userId: account.user.id });
    assert.equal(error, null);
    assert.deepEqual(
      (data.factors ?? data).map(({ id }) => id),
      [account.factor.id],
    );
    const removed = await admin().auth.admin.mfa.deleteFactor({ userId: account.user.id, id: account.factor.id });
    assert.equal(removed.error, null);
    const { client } = await signIn(account);
    assert.equal((await client.auth.updateUser({ password: 'a-new-secret' })).error, null);
    const forbidden = await http('GET', `/auth/v1/admin/users/${account.user.id}/factors`, { token: account.session.access_token });
    assert.equal(forbidden.status, 403);
  });
});
