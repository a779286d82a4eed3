// Sign-in through OpenID Connect, with a real provider that rotates its keys, goes down and turns hostile; and in a browser.
import assert from 'node:assert/strict';
import { createHash, createPublicKey, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, afterEach, before, describe, test } from 'node:test';
import { inChromium } from '../chromium.mjs';
import { newStrangersKey, OidcServer } from './auth_oidc_server.mjs';
import { Browser, beginning, linking } from './auth_providers.mjs';
import { claimsOf, pkceClient, refused, withFactor } from './auth_support.mjs';
import { transaction, until } from './domain.mjs';
import { api, env, http, newEmail, newUser, sql } from './support.mjs';

let oidc;
before(async () => {
  oidc = await OidcServer.start(process.env.KIJKO_TEST_OIDC_PORT);
});
after(() => oidc.down());
afterEach(() => oidc.instead.clear());

const newSubject = (more = {}) => oidc.as(randomUUID(), { email: newEmail('oidc'), email_verified: true, name: 'Grace Hopper', ...more });
const sha256 = (text, encoding) => createHash('sha256').update(text).digest(encoding);

async function signIn(provider = 'acme', browser = new Browser()) {
  const client = pkceClient();
  const arrived = await browser.arrive(await beginning(client, provider));
  if (!arrived.query?.code) return { client, ...arrived };
  const { data, error } = await client.auth.exchangeCodeForSession(arrived.query.code);
  assert.equal(error, null);
  return { client, ...data };
}

describe('sign-in', () => {
  test('makes a user of what the token and userinfo say', async () => {
    const sub = newSubject({ picture: 'javascript:alert(1)' });
    const { user, session } = await signIn();
    assert.equal(user.email, oidc.people.get(sub).email);
    assert.deepEqual([user.identities[0].provider, user.identities[0].id], ['acme', sub]);
    assert.deepEqual([user.user_metadata.full_name, user.user_metadata.iss], ['Grace Hopper', oidc.issuer('acme')]);
    assert.equal(user.user_metadata.picture, undefined, 'pages show it as an image');
    assert.ok(session.provider_token);
    assert.equal(claimsOf(session.access_token).role, 'authenticated');
  });

  test('one subject at two issuers is two identities', async () => {
    const sub = newSubject();
    const acme = await signIn('acme');
    oidc.as(sub, { email: newEmail('oidc'), email_verified: true });
    const other = await signIn('other');
    assert.notEqual(acme.user.id, other.user.id);
  });

  // A sign-in by the same identity locks its user, then replaces the token.
  test('an exchange waits for its user before it locks the token', async () => {
    const sub = newSubject();
    const client = pkceClient();
    const { query: arrived } = await new Browser().arrive(await beginning(client, 'acme'));
    const [{ id, user_id: userId }] = await sql('select id, user_id from auth.identities where provider_id = $1', [sub]);
    const { exchange } = await transaction(async (query) => {
      const [{ pid }] = await query('select pg_backend_pid() as pid from auth.users where id = $1 for update', [userId]);
      const exchange = client.auth.exchangeCodeForSession(arrived.code);
      await until(
        'the exchange to wait',
        async () => (await sql('select 1 from pg_stat_activity where $1 = any (pg_blocking_pids(pid))', [pid])).length,
      );
      assert.equal((await query('select 1 from auth_api.provider_tokens where identity_id = $1 for update nowait', [id])).length, 1);
      return { exchange };
    });
    assert.equal((await exchange).error, null);
  });

  test('goes on when the keys change, and when the provider comes back', async () => {
    newSubject();
    const first = await signIn();
    await oidc.rotate('acme');
    assert.equal((await signIn()).user.id, first.user.id);
    const client = pkceClient();
    const browser = new Browser();
    const callback = await browser.follow(await beginning(client, 'acme'), `${env.API_URL}/auth/v1/callback`);
    await oidc.down();
    const { query } = await browser.arrive(callback);
    assert.deepEqual([query.error, query.error_code], ['server_error', 'unexpected_failure']);
    await oidc.up();
    assert.equal((await signIn()).user.id, first.user.id);
  });

  test('an address that is not verified, or of another subject, makes no user', async () => {
    newSubject({ email_verified: false });
    assert.equal((await signIn()).query.error_code, 'provider_email_needs_verification');
    newSubject();
    oidc.instead.set('/acme/me', (_, response) =>
      response
        .writeHead(200, { 'Content-Type': 'application/json' })
        .end(JSON.stringify({ sub: 'somebody else', email: newEmail(), email_verified: true })),
    );
    assert.equal((await signIn()).query.error_code, 'provider_email_needs_verification');
  });
});

describe('mix-up', () => {
  for (const [what, change] of [
    ['of another issuer', (url) => url.searchParams.set('iss', oidc.issuer('other'))],
    ['without its issuer', (url) => url.searchParams.delete('iss')],
  ]) {
    test(`an answer ${what} is refused before its code goes anywhere`, async () => {
      newSubject();
      const client = pkceClient();
      const browser = new Browser();
      const callback = new URL(await browser.follow(await beginning(client, 'acme'), `${env.API_URL}/auth/v1/callback`));
      let asked = 0;
      oidc.instead.set('/acme/token', (_, response) => {
        asked += 1;
        response.writeHead(500).end();
      });
      change(callback);
      const { query } = await browser.arrive(callback.href);
      assert.deepEqual([query.error_code, asked], ['bad_oauth_callback', 0]);
    });
  }
});

describe('a hostile provider', () => {
  /** The answer of the token endpoint, with this identity token. */
  const answers = (idToken) =>
    oidc.instead.set('/acme/token', async (_, response) =>
      response
        .writeHead(200, { 'Content-Type': 'application/json' })
        .end(JSON.stringify({ access_token: 'x', token_type: 'Bearer', id_token: await idToken() })),
    );
  const nonceOf = (callback) => callback.nonce;

  /** Signs in up to the callback; the nonce that the provider was sent is in the address of its page. */
  async function arrive(idToken) {
    const browser = new Browser();
    const client = pkceClient();
    const first = await browser.request(await beginning(client, 'acme'));
    const page = new URL(first.headers.get('location'));
    answers(() => idToken(nonceOf(Object.fromEntries(page.searchParams))));
    oidc.instead.set('/acme/me', (_, response) =>
      response
        .writeHead(200, { 'Content-Type': 'application/json' })
        .end(JSON.stringify({ sub: 'forged', email: 'x@example.com', email_verified: true })),
    );
    return browser.arrive(page.href);
  }
  const claims = (nonce, more = {}) => ({ sub: 'forged', email: newEmail('forged'), email_verified: true, nonce, ...more });
  const plain = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');

  test('its own token is accepted, so that the table below fails for its reasons alone', async () => {
    newSubject();
    const { query } = await arrive((nonce) => oidc.token({ ...claims(nonce), sub: randomUUID() }));
    assert.ok(query.code, JSON.stringify(query));
  });

  const FORGERIES = {
    'of another issuer': (nonce) => oidc.token(claims(nonce, { iss: oidc.issuer('other') })),
    'for another client': (nonce) => oidc.token(claims(nonce, { aud: 'other-client' })),
    'for two clients, without a party': (nonce) => oidc.token(claims(nonce, { aud: ['acme-client', 'other-client'] })),
    'for another party': (nonce) => oidc.token(claims(nonce, { azp: 'other-client' })),
    'of another sign-in': () => oidc.token(claims('another nonce')),
    'without a nonce': () => oidc.token(claims(undefined)),
    expired: (nonce) => oidc.token(claims(nonce, { exp: Math.floor(Date.now() / 1000) - 120 })),
    'without an end': (nonce) => oidc.token(claims(nonce, { exp: undefined })),
    'without a subject': (nonce) => oidc.token(claims(nonce, { sub: '' })),
    'by a key of nobody': async (nonce) => oidc.token(claims(nonce), { key: await newStrangersKey() }),
    'without a signature': (nonce) => {
      const now = Math.floor(Date.now() / 1000);
      return `${plain({ alg: 'none' })}.${plain({ iss: oidc.issuer('acme'), aud: 'acme-client', exp: now + 60, iat: now, ...claims(nonce) })}.`;
    },
    'by the public key as a password': (nonce) => {
      const pem = createPublicKey({ key: oidc.publicKey(), format: 'jwk' }).export({ type: 'spki', format: 'pem' });
      return oidc.token(claims(nonce), { header: { alg: 'HS256' }, key: Buffer.from(pem) });
    },
    'that is none': () => 'nonsense',
  };
  for (const [what, forge] of Object.entries(FORGERIES)) {
    test(`a token ${what} signs nobody in`, async () => {
      newSubject();
      const { query } = await arrive(forge);
      assert.deepEqual([query.error, query.error_code, query.code], ['server_error', 'unexpected_failure', undefined]);
      assert.deepEqual(await sql(`select 1 from auth.identities where provider = 'acme' and provider_id = 'forged'`), []);
    });
  }

  test('an answer without end is cut off', async () => {
    newSubject();
    const browser = new Browser();
    const callback = await browser.follow(await beginning(pkceClient(), 'acme'), `${env.API_URL}/auth/v1/callback`);
    oidc.instead.set('/acme/token', (request, response) => {
      response.writeHead(200, { 'Content-Type': 'application/json' });
      const timer = setInterval(() => response.write('x'.repeat(65_536)), 1);
      request.socket.once('close', () => clearInterval(timer));
    });
    assert.equal((await browser.arrive(callback)).query.error_code, 'unexpected_failure');
  });

  test('a redirect of an endpoint is not followed', async () => {
    newSubject();
    const browser = new Browser();
    const callback = await browser.follow(await beginning(pkceClient(), 'acme'), `${env.API_URL}/auth/v1/callback`);
    let followed = false;
    oidc.instead.set('/acme/token', (_, response) =>
      response.writeHead(307, { Location: oidc.issuer('acme').replace('acme', 'trap') }).end(),
    );
    oidc.instead.set('/trap', (_, response) => {
      followed = true;
      response.end();
    });
    assert.equal((await browser.arrive(callback)).query.error_code, 'unexpected_failure');
    assert.equal(followed, false);
  });
});

describe('identity tokens of clients', () => {
  const withToken = (credentials, client = api()) => client.auth.signInWithIdToken({ provider: 'acme', ...credentials });
  const person = () => ({ sub: randomUUID(), email: newEmail('native'), email_verified: true });
  const refusedAs = async (promise, description) => {
    const { error } = await promise;
    assert.ok(error, `expected ${description}`);
    assert.deepEqual([error.status, error.message], [400, description]);
  };

  test('sign in, by any of our client ids, with the nonce and the access token that belong to them', async () => {
    const nonce = randomUUID();
    const access = randomUUID();
    const claims = {
      ...person(),
      aud: 'acme-phone',
      nonce: sha256(nonce, 'hex'),
      at_hash: createHash('sha256').update(access).digest().subarray(0, 16).toString('base64url'),
    };
    const token = await oidc.token(claims);
    const { data, error } = await withToken({ token, nonce, access_token: access });
    assert.equal(error, null);
    assert.deepEqual([data.user.email, data.user.identities[0].id], [claims.email, claims.sub]);
    const again = await withToken({ token: await oidc.token({ ...claims, nonce: undefined, at_hash: undefined }) });
    assert.equal(again.data.user.id, data.user.id);
    await refusedAs(withToken({ token, nonce: randomUUID() }), 'Nonces mismatch');
    await refusedAs(withToken({ token }), 'Passed nonce and nonce in id_token should either both exist or not.');
    await refusedAs(withToken({ token, nonce, access_token: randomUUID() }), 'Bad ID token');
  });

  test('give no rights here by what they claim', async () => {
    const claims = { role: 'service_role', app_metadata: { admin: true }, aal: 'aal2', session_id: randomUUID(), org_id: randomUUID() };
    const { data } = await withToken({ token: await oidc.token({ ...person(), ...claims }) });
    const given = claimsOf(data.session.access_token);
    assert.deepEqual([given.role, given.aal, given.org_id], ['authenticated', 'aal1', undefined]);
    assert.deepEqual(given.app_metadata, { provider: 'acme', providers: ['acme'] });
    assert.notEqual(given.session_id, claims.session_id);
  });

  test('of others are refused', async () => {
    const bad = async (token) => refusedAs(withToken({ token }), 'Bad ID token');
    await bad(await oidc.token(person(), { name: 'other' }));
    await bad(await oidc.token({ ...person(), aud: 'other-client' }));
    await bad(await oidc.token(person(), { key: await newStrangersKey() }));
    await bad('nonsense');
    await refused(api().auth.signInWithIdToken({ provider: 'github', token: await oidc.token(person()) }), 'provider_disabled', 400);
    await refused(withToken({ token: await oidc.token({ ...person(), email_verified: false }) }), 'provider_email_needs_verification', 403);
    const body = await http('POST', '/auth/v1/token?grant_type=id_token', { body: '{' });
    assert.equal(body.status, 400);
  });

  test('link an identity, with the second factor if there is one', async () => {
    const account = await newUser();
    const token = await oidc.token(person());
    const link = (session) =>
      http('POST', '/auth/v1/token?grant_type=id_token', {
        token: session?.access_token,
        body: { provider: 'acme', id_token: token, link_identity: true },
      });
    assert.equal((await link()).status, 401);
    const linked = await link(account.session);
    assert.deepEqual([linked.status, linked.body.user.id, linked.body.user.identities.length], [200, account.user.id, 2]);
    const stranger = await newUser();
    assert.deepEqual([(await link(stranger.session)).body.code], ['identity_already_exists']);

    const guarded = await withFactor();
    const { data } = await api().auth.signInWithPassword({ email: guarded.email, password: guarded.password });
    const client = pkceClient();
    await client.auth.setSession(data.session);
    const { error } = await client.auth.linkIdentity({ provider: 'acme', options: { skipBrowserRedirect: true } });
    assert.equal(error.code, 'insufficient_aal');
    await client.auth.setSession(guarded.session);
    assert.match(await linking(client, 'acme'), /\/authorize\?ticket=[0-9a-f]{64}$/);
  });
});

test('in a browser: from the app to the provider and back, signed in', async () => {
  const sub = newSubject();
  const page = `<!doctype html><meta charset="utf-8"><script src="/supabase.js"></script><script type="module">
    const report = (body) => fetch('/result', { method: 'POST', body: JSON.stringify(body) });
    try {
      const { url, anonKey } = await (await fetch('/settings.json')).json();
      const client = supabase.createClient(url, anonKey, { auth: { flowType: 'pkce', detectSessionInUrl: true } });
      const { data } = await client.auth.getSession();
      if (data.session) {
        const { data: mine, error } = await client.from('organizations').select('personal_for');
        await report(error ? { error: error.message } : { user: data.session.user, mine, left: location.search });
      } else if (location.search) await report({ error: location.search + location.hash });
      else await client.auth.signInWithOAuth({ provider: 'acme', options: { redirectTo: location.href } });
    } catch (error) {
      await report({ error: String(error.stack ?? error) });
    }
  </script>`;
  const bundle = new URL('../../node_modules/@supabase/supabase-js/dist/umd/supabase.js', import.meta.url);
  const { user, mine, left } = await inChromium({
    '/': ['text/html', page],
    '/supabase.js': ['text/javascript', await readFile(bundle, 'utf8')],
    '/settings.json': ['application/json', JSON.stringify({ url: env.API_URL, anonKey: env.ANON_KEY })],
  });
  assert.deepEqual([user.identities[0].id, mine], [sub, [{ personal_for: user.id }]]);
  assert.equal(left, '', 'the code is gone from the address');
});
