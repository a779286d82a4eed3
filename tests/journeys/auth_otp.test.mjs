// Signing in by mail, without a password: links, codes, PKCE, and where a link may lead.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { claimsOf, mailsTo, mailTo, openLink, pkceClient, pkceGrant, refused } from './auth_support.mjs';
import { adminSql, api, env, http, newEmail, newUser, sql } from './support.mjs';

const otp = (email, options) => api().auth.signInWithOtp({ email, options });

describe('sign in by mail', () => {
  test('with the link', async () => {
    const { email, user } = await newUser();
    const { data, error } = await otp(email);
    assert.equal(error, null);
    assert.deepEqual(data, { user: null, session: null });
    const { data: mail } = await mailTo(email, 'magic_link');
    const { fragment } = await openLink(mail.link);
    assert.equal(fragment.type, 'magiclink');
    assert.equal(claimsOf(fragment.access_token).sub, user.id);
    const session = await api().auth.setSession(fragment);
    assert.equal(session.error, null);
  });

  test('with the code, of type email or magiclink', async () => {
    for (const type of ['email', 'magiclink']) {
      const { email, user } = await newUser();
      await otp(email);
      const { data: mail } = await mailTo(email, 'magic_link');
      const { data, error } = await api().auth.verifyOtp({ email, token: mail.token, type });
      assert.equal(error, null);
      assert.equal(data.user.id, user.id);
    }
  });

  test('makes a user of an unknown address, who is confirmed once the link is used', async () => {
    const email = newEmail('fresh');
    await otp(email, { data: { name: 'Fresh' } });
    const [made] = await sql('select id, email_confirmed_at, encrypted_password from auth.users where email = $1', [email]);
    assert.deepEqual([made.email_confirmed_at, made.encrypted_password], [null, null]);
    const { data: mail } = await mailTo(email, 'magic_link');
    const { data, error } = await api().auth.verifyOtp({ email, token: mail.token, type: 'email' });
    assert.equal(error, null);
    assert.equal(data.user.id, made.id);
    assert.deepEqual(data.user.user_metadata, { name: 'Fresh', email_verified: true });
    assert.equal((await sql('select 1 from public.organizations where personal_for = $1', [made.id])).length, 1);
  });

  test('makes none with shouldCreateUser: false, and says nothing about it', async () => {
    const email = newEmail('nobody');
    const known = (await newUser()).email;
    const answers = [];
    for (const address of [email, known]) {
      const answer = await http('POST', '/auth/v1/otp', { body: { email: address, create_user: false } });
      answers.push([answer.status, answer.text]);
    }
    assert.deepEqual(answers[0], answers[1]);
    assert.deepEqual(await mailsTo(email), []);
    assert.deepEqual(await sql('select id from auth.users where email = $1', [email]), []);
  });

  test('a magic link and a recovery share one token, as in GoTrue', async () => {
    const { email } = await newUser();
    await otp(email);
    const { data: first } = await mailTo(email, 'magic_link');
    await api().auth.resetPasswordForEmail(email);
    assert.equal((await openLink(first.link)).fragment.error_code, 'otp_expired');
  });

  test('refuses phones and malformed requests', async () => {
    const cases = [
      [{ phone: '+31612345678' }, 'phone_provider_disabled'],
      [{ email: newEmail(), channel: 'sms' }, 'validation_failed'],
      [{}, 'validation_failed'],
      [{ email: 'nonsense' }, 'validation_failed'],
      [{ email: newEmail(), create_user: 'yes' }, 'bad_json'],
      [{ email: newEmail(), code_challenge: 'x'.repeat(43) }, 'validation_failed'],
      [{ email: newEmail(), code_challenge_method: 's256' }, 'validation_failed'],
      [{ email: newEmail(), code_challenge: 'x'.repeat(42), code_challenge_method: 's256' }, 'validation_failed'],
      [{ email: newEmail(), code_challenge: 'x'.repeat(43), code_challenge_method: 'md5' }, 'validation_failed'],
    ];
    for (const path of ['/auth/v1/otp', '/auth/v1/magiclink']) {
      for (const [body, code] of cases) {
        const answer = await http('POST', path, { body });
        assert.deepEqual([answer.status, answer.body.code], [400, code], JSON.stringify(body));
      }
    }
  });
});

describe('PKCE', () => {
  test('the link carries a code that only the client that began can exchange', async () => {
    const { email, user } = await newUser();
    const client = pkceClient();
    assert.equal(
      (await client.auth.signInWithOtp({ email, options: { emailRedirectTo: 'http://127.0.0.1:3000/in?next=%2Fhome' } })).error,
      null,
    );
    const { data: mail } = await mailTo(email, 'magic_link');
    assert.match(mail.token_hash, /^pkce_[0-9a-f]{56}$/);
    const { target, query, fragment } = await openLink(mail.link);
    assert.deepEqual([target, query.next, fragment], ['http://127.0.0.1:3000/in', '/home', {}]);

    await refused(pkceClient().auth.exchangeCodeForSession(query.code), 'pkce_code_verifier_not_found');
    const thief = await pkceGrant({ auth_code: query.code, code_verifier: 'x'.repeat(56) });
    assert.deepEqual([thief.status, thief.body.code], [400, 'bad_code_verifier']);
    const { data, error } = await client.auth.exchangeCodeForSession(query.code);
    assert.equal(error, null);
    assert.equal(data.user.id, user.id);
    assert.deepEqual(
      claimsOf(data.session.access_token).amr.map(({ method }) => method),
      ['magiclink'],
    );
    const again = await pkceGrant({ auth_code: query.code, code_verifier: 'x'.repeat(56) });
    assert.deepEqual([again.status, again.body.code], [404, 'flow_state_not_found']);
  });

  test('a recovery raises PASSWORD_RECOVERY in the client that began it', async () => {
    const { email } = await newUser();
    const client = pkceClient();
    const events = [];
    client.auth.onAuthStateChange((event) => void events.push(event));
    await client.auth.resetPasswordForEmail(email);
    const { query } = await openLink((await mailTo(email, 'recovery')).data.link);
    const { error } = await client.auth.exchangeCodeForSession(query.code);
    assert.equal(error, null);
    assert.ok(events.includes('PASSWORD_RECOVERY'), events.join());
    assert.equal((await client.auth.updateUser({ password: 'a-new-secret' })).error, null);
  });

  test('in another browser the code of the mail works, without the verifier', async () => {
    const { email, user } = await newUser();
    await pkceClient().auth.signInWithOtp({ email });
    const { data: mail } = await mailTo(email, 'magic_link');
    const { data, error } = await api().auth.verifyOtp({ email, token: mail.token, type: 'email' });
    assert.equal(error, null);
    assert.equal(data.user.id, user.id);
  });

  test('a code dies five minutes after the click, however old the mail was', async () => {
    const { email } = await newUser();
    const client = pkceClient();
    await client.auth.signInWithOtp({ email });
    await sql(
      `update auth.flow_state set created_at = created_at - interval '50 minutes' where user_id = (select id from auth.users where email = $1)`,
      [email],
    );
    const { query } = await openLink((await mailTo(email, 'magic_link')).data.link);
    await sql(`update auth.flow_state set auth_code_issued_at = auth_code_issued_at - interval '5 minutes 1 second' where auth_code = $1`, [
      query.code,
    ]);
    await refused(client.auth.exchangeCodeForSession(query.code), 'flow_state_expired', 422);
  });

  test('an error reaches a client with PKCE in the query as well', async () => {
    const { email } = await newUser();
    await pkceClient().auth.signInWithOtp({ email });
    const { data: mail } = await mailTo(email, 'magic_link');
    await openLink(mail.link);
    const { query, fragment } = await openLink(mail.link);
    assert.deepEqual([query.error_code, fragment.error_code], ['otp_expired', 'otp_expired']);
  });

  test('plain challenges work, and malformed exchanges are refused', async () => {
    const { email } = await newUser();
    const verifier = randomBytes(40).toString('hex');
    for (const [method, challenge] of [
      ['plain', verifier],
      ['S256', createHash('sha256').update(verifier).digest('base64url')],
    ]) {
      await http('POST', '/auth/v1/otp', { body: { email, code_challenge: challenge, code_challenge_method: method } });
      const { query } = await openLink((await mailTo(email, 'magic_link')).data.link);
      for (const body of [{}, { auth_code: query.code }, { code_verifier: verifier }]) {
        assert.deepEqual([(await pkceGrant(body)).body.code], ['validation_failed']);
      }
      const answer = await pkceGrant({ auth_code: query.code, code_verifier: verifier });
      assert.equal(answer.status, 200, method);
    }
    assert.equal((await pkceGrant({ auth_code: 'x', code_verifier: verifier })).status, 404);
  });
});

describe('where a link may lead', () => {
  const targetOf = async (redirect_to, headers = {}) => {
    const query = redirect_to === undefined ? '' : `&redirect_to=${encodeURIComponent(redirect_to)}`;
    const response = await fetch(`${env.API_URL}/auth/v1/verify?token=0&type=signup${query}`, { redirect: 'manual', headers });
    assert.equal(response.status, 303);
    return response.headers.get('location').split('#')[0];
  };

  test('to the site, to this machine by its address, and nowhere else', async () => {
    const [{ site_url: site }] = await sql('select site_url from auth_api.settings');
    for (const good of [site, `${site}/deep/path?with=query`, 'http://127.0.0.1:3000/x', 'http://[::1]:8080/']) {
      assert.equal(await targetOf(good), good);
    }
    const { protocol, host } = new URL(site);
    for (const bad of [
      'https://evil.example',
      '//evil.example',
      `${protocol}//user@evil.example`,
      `${site}@evil.example`,
      `${site}.evil.example`,
      `${protocol}//${host}@evil.example/`,
      `https://evil.example/${site}`,
      `https://evil.example\\@${host}`,
      'http://127.0.0.1@evil.example',
      'http://127.0.0.1.evil.example/',
      'http://2130706433/',
      'http://0x7f000001/',
      'http://0177.0.0.1/',
      'http://192.168.0.1/',
      'http://[fe80::1]/',
      'javascript:alert(1)',
      'javascript://127.0.0.1/%0aalert(1)',
      'data:text/html,x',
      'data://127.0.0.1/x',
      'file:///etc/passwd',
      'ftp://127.0.0.1/',
      'http://localhost:3000/',
      '/relative',
      'http://127.0.0.1:3000/a b',
      'http://127.0.0.1:3000/\r\nSet-Cookie: a=b',
      'http://127.0.0.1:3000/<script>',
      'http://127.0.0.1:3000/ü',
    ]) {
      assert.equal(await targetOf(bad), site, bad);
    }
    assert.equal(await targetOf(undefined), site);
    assert.equal(await targetOf(undefined, { Referer: 'http://127.0.0.1:3000/page' }), 'http://127.0.0.1:3000/page');
    assert.equal(await targetOf(undefined, { Referer: 'https://evil.example/page' }), site);
    assert.equal(await targetOf('https://evil.example', { Referer: 'http://127.0.0.1:3000/page' }), site);
  });

  test('the mail names the public URL, whatever the Host header says', async () => {
    const { email } = await newUser();
    await http('POST', '/auth/v1/recover', {
      body: { email },
      headers: { 'X-Forwarded-Host': 'evil.example', Forwarded: 'host=evil.example' },
    });
    const { data } = await mailTo(email, 'recovery');
    assert.ok(data.link.startsWith(`${env.API_URL}/auth/v1/verify?`), data.link);
  });

  test('the globs of the allow-list are those of GoTrue', async () => {
    const matches = async (glob, url) => (await adminSql('select $2 ~ auth_api.glob_to_regexp($1) as matches', [glob, url]))[0].matches;
    const table = [
      ['https://*.example.com', 'https://a.example.com', true],
      ['https://*.example.com', 'https://a.b.example.com', false],
      ['https://*.example.com', 'https://evil.com/.example.com', false],
      ['https://**.example.com', 'https://a.b.example.com', true],
      ['https://example.com/*', 'https://example.com/a', true],
      ['https://example.com/*', 'https://example.com/a/b', false],
      ['https://example.com/*', 'https://example.com/a.b', false],
      ['https://example.com/**', 'https://example.com/a/b.c?d=e', true],
      ['https://example.com/?', 'https://example.com/a', true],
      ['https://example.com/?', 'https://example.com/', false],
      ['https://example.com/[a-c]', 'https://example.com/b', true],
      ['https://example.com/[a-c]', 'https://example.com/d', false],
      ['https://example.com/[!a-c]', 'https://example.com/d', true],
      ['https://{a,b}.example.com/', 'https://b.example.com/', true],
      ['https://{a,b}.example.com/', 'https://c.example.com/', false],
      ['https://example.com/', 'https://exampleXcom/', false],
      ['https://example.com/(a)+', 'https://example.com/(a)+', true],
      ['https://example.com/(a)+', 'https://example.com/aa', false],
      ['https://example.com/\\*', 'https://example.com/*', true],
      ['https://example.com/\\*', 'https://example.com/a', false],
      ['myapp://**', 'myapp://callback/x', true],
      ['https://example.com', 'https://example.com.evil.com', false],
    ];
    for (const [glob, url, wanted] of table) assert.equal(await matches(glob, url), wanted, `${glob} ${url}`);
  });
});
