// Ways in that the operator switches on: anonymous users, the page with a button, a fresh proof before a new password. Runs alone.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { claimsOf, mailsTo, mailTo, openLink, refused, withSettings } from './auth_support.mjs';
import { admin, api, http, newEmail, signIn, sql } from './support.mjs';

withSettings({ anonymous_users: true, mailer_autoconfirm: false, confirm_page: true, require_reauthentication: true });

const newAnonymous = async (data) => {
  const client = api();
  const { data: signedIn, error } = await client.auth.signInAnonymously({ options: { data } });
  assert.equal(error, null);
  return { client, ...signedIn };
};
const press = (link) => openLink(link, { method: 'POST' });
const organizationsOf = (id) => sql('select id from public.organizations where personal_for = $1', [id]);
const newMember = async () => {
  const email = newEmail('member');
  await admin().auth.admin.createUser({ email, password: 'heron-43', email_confirm: true });
  return { email, password: 'heron-43', ...(await signIn({ email, password: 'heron-43' })) };
};

describe('an anonymous user', () => {
  test('has a session, no address, no identity and no organization', async () => {
    const { user, session, client } = await newAnonymous({ theme: 'dark' });
    assert.deepEqual([user.is_anonymous, user.email, user.phone, user.identities, user.app_metadata], [true, '', '', [], {}]);
    assert.deepEqual(user.user_metadata, { theme: 'dark' });
    const claims = claimsOf(session.access_token);
    assert.deepEqual([claims.is_anonymous, claims.role, claims.amr[0].method], [true, 'authenticated', 'anonymous']);
    assert.deepEqual(await organizationsOf(user.id), []);
    assert.deepEqual((await client.from('organizations').select('id')).data, []);
    const organization = await client.rpc('create_organization', { name: 'Mine' });
    assert.equal(organization.error.code, 'permission_denied', 'with an organization would come a plan');
    assert.equal((await client.auth.refreshSession()).error, null);
    assert.equal((await http('GET', '/auth/v1/settings')).body.external.anonymous_users, true);
  });

  test('becomes permanent with an address, and keeps their id', async () => {
    const { user, client } = await newAnonymous();
    await refused(client.auth.updateUser({ password: 'heron-43' }), 'validation_failed', 422);
    const email = newEmail('converted');
    const { data, error } = await client.auth.updateUser({ email });
    assert.equal(error, null);
    assert.deepEqual([data.user.is_anonymous, data.user.email, data.user.new_email], [true, '', email]);
    assert.deepEqual(await organizationsOf(user.id), []);
    const { data: mail } = await mailTo(email, 'email_change_new');
    const { data: verified, error: refusal } = await api().auth.verifyOtp({ email, token: mail.token, type: 'email_change' });
    assert.equal(refusal, null);
    assert.deepEqual([verified.user.id, verified.user.email, verified.user.is_anonymous], [user.id, email, false]);
    assert.deepEqual(verified.user.app_metadata, { provider: 'email', providers: ['email'] });
    assert.equal(verified.user.identities[0].email, email);
    assert.equal((await organizationsOf(user.id)).length, 1);
    assert.equal((await client.auth.refreshSession()).data.session.user.is_anonymous, false);
    const { error: passwordError } = await client.auth.updateUser({ password: 'heron-43' });
    assert.equal(passwordError, null);
    await signIn({ email, password: 'heron-43' });
  });

  test('becomes permanent when the service key confirms an address', async () => {
    const { user } = await newAnonymous();
    const email = newEmail('converted');
    const { data, error } = await admin().auth.admin.updateUserById(user.id, { email, email_confirm: true, password: 'heron-43' });
    assert.equal(error, null);
    assert.deepEqual([data.user.id, data.user.is_anonymous, data.user.app_metadata.provider], [user.id, false, 'email']);
    assert.equal((await signIn({ email, password: 'heron-43' })).user.id, user.id);
    assert.equal((await organizationsOf(user.id)).length, 1);
  });

  test('does not take an address that somebody has', async () => {
    const { email } = await newMember();
    const { client } = await newAnonymous();
    const { data, error } = await client.auth.updateUser({ email });
    assert.equal(error, null);
    assert.equal(data.user.new_email, email);
    assert.deepEqual(await mailsTo(email), []);
  });
});

describe('the page with a button', () => {
  const ask = async () => {
    const { email } = await newMember();
    await api().auth.resetPasswordForEmail(email, { redirectTo: 'http://127.0.0.1:3000/' });
    return (await mailTo(email, 'recovery')).data;
  };

  test('a program that opens the link uses nothing up; the button does', async () => {
    const { link } = await ask();
    for (const method of ['HEAD', 'GET', 'GET']) {
      const page = await fetch(link, { method, redirect: 'manual' });
      assert.equal(page.status, 200);
      assert.match(page.headers.get('content-type'), /^text\/html/);
      assert.equal(page.headers.get('cache-control'), 'no-store');
      assert.match(page.headers.get('content-security-policy'), /default-src 'none'/);
    }
    const { fragment, target } = await press(link);
    assert.ok(fragment.access_token);
    assert.equal(target, 'http://127.0.0.1:3000/');
    assert.equal((await press(link)).fragment.error_code, 'otp_expired');
  });

  test('is the same for every link and holds nothing of it, in the language of the browser', async () => {
    const { link, token_hash } = await ask();
    const text = async (url, language) => (await fetch(url, { headers: { 'Accept-Language': language } })).text();
    const page = await text(link, 'en');
    assert.equal(page.includes(token_hash), false);
    assert.match(page, /<form method="post">/);
    const hostile = new URL(link);
    hostile.searchParams.set('token', '"><script>alert(1)</script>');
    hostile.searchParams.set('redirect_to', 'https://evil.example');
    assert.equal(await text(hostile, 'en'), page);
    assert.match(await text(link, 'nl-NL,nl;q=0.9'), /<html lang="nl">/);
  });

  test('clients that post JSON see no page', async () => {
    const { token_hash } = await ask();
    const { error } = await api().auth.verifyOtp({ token_hash, type: 'recovery' });
    assert.equal(error, null);
  });
});

describe('a new password in an old session', () => {
  const withOldSession = async () => {
    const account = await newMember();
    await sql(`update auth.sessions set created_at = created_at - interval '25 hours' where user_id = $1`, [account.user.id]);
    return account;
  };

  test('needs the code of a fresh mail', async () => {
    const { client, email } = await withOldSession();
    await refused(client.auth.updateUser({ password: 'a-new-secret' }), 'reauthentication_needed', 400);
    await refused(client.auth.updateUser({ password: 'a-new-secret', nonce: '123456' }), 'reauthentication_not_valid', 422);
    const { error } = await client.auth.reauthenticate();
    assert.equal(error, null);
    const { data: mail } = await mailTo(email, 'reauthentication');
    await refused(client.auth.updateUser({ password: 'a-new-secret', nonce: 'x' }), 'reauthentication_not_valid', 422);
    assert.equal((await client.auth.updateUser({ password: 'a-new-secret', nonce: mail.token })).error, null);
    await refused(client.auth.updateUser({ password: 'another-secret', nonce: mail.token }), 'reauthentication_not_valid', 422);
    await signIn({ email, password: 'a-new-secret' });
  });

  test('five wrong codes burn it', async () => {
    const { client, email } = await withOldSession();
    await client.auth.reauthenticate();
    const { data: mail } = await mailTo(email, 'reauthentication');
    const wrong = String((Number(mail.token) + 1) % 1_000_000).padStart(6, '0');
    for (let n = 0; n < 5; n += 1)
      await refused(client.auth.updateUser({ password: 'a-new-secret', nonce: wrong }), 'reauthentication_not_valid');
    await refused(client.auth.updateUser({ password: 'a-new-secret', nonce: mail.token }), 'reauthentication_not_valid');
  });

  test('a code for one purpose serves no other', async () => {
    const { client, email } = await withOldSession();
    await api().auth.resetPasswordForEmail(email);
    const { data: recovery } = await mailTo(email, 'recovery');
    await refused(client.auth.updateUser({ password: 'a-new-secret', nonce: recovery.token }), 'reauthentication_not_valid');
    await client.auth.reauthenticate();
    const { data: mail } = await mailTo(email, 'reauthentication');
    for (const type of ['email', 'recovery', 'signup', 'email_change']) {
      const answer = await http('POST', '/auth/v1/verify', { body: { email, token: mail.token, type } });
      assert.deepEqual([answer.status, answer.body.code], [403, 'otp_expired'], type);
    }
  });

  test('a session of today needs none', async () => {
    const { client } = await newMember();
    assert.equal((await client.auth.updateUser({ password: 'a-new-secret' })).error, null);
  });

  test('reauthenticate needs a user with an address', async () => {
    const { client } = await newAnonymous();
    await refused(client.auth.reauthenticate(), 'validation_failed', 400);
    const unauthenticated = await http('GET', '/auth/v1/reauthenticate');
    assert.deepEqual([unauthenticated.status, unauthenticated.body.code], [401, 'no_authorization']);
  });
});
