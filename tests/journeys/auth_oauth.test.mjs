// Sign-in through GitHub and GitLab, which are fakes at the boundary of HTTP: their answers are those of the products.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { until } from '../until.mjs';
import { Browser, beginning, linking, newPerson, Providers } from './auth_providers.mjs';
import { claimsOf, pkceClient, pkceGrant, refresh, refused, UUID } from './auth_support.mjs';
import { admin, adminSql, api, env, http, newEmail, newUser, sql } from './support.mjs';

let providers;
before(async () => {
  providers = await Providers.listen(process.env.KIJKO_TEST_GITHUB_PORT);
});
after(() => providers.close());
beforeEach(() => {
  Object.assign(providers, { denies: false, broken: false, person: newPerson(newEmail('oauth')) });
});

/** A user who came from a provider, and their client. */
async function fromProvider(provider, person = newPerson(newEmail('oauth'))) {
  providers.person = person;
  const client = pkceClient();
  const { query } = await new Browser().arrive(await beginning(client, provider));
  const { data, error } = await client.auth.exchangeCodeForSession(query.code);
  assert.equal(error, null);
  return { client, person, ...data };
}

const identityOf = async (client, provider) =>
  (await client.auth.getUserIdentities()).data.identities.find((identity) => identity.provider === provider);

describe('sign-in', () => {
  for (const provider of ['github', 'gitlab']) {
    test(`with ${provider} and PKCE: a user, a session and the provider's token`, async () => {
      const { session, user, person, client } = await fromProvider(provider);
      assert.equal(user.email, person.email);
      assert.ok(user.email_confirmed_at);
      assert.deepEqual(user.app_metadata, { provider, providers: [provider] });
      assert.deepEqual(
        [user.user_metadata.full_name, user.user_metadata.user_name, user.user_metadata.provider_id, user.user_metadata.email_verified],
        [person.name, person.login, String(person.id), true],
      );
      const [identity] = user.identities;
      assert.deepEqual([identity.provider, identity.id, identity.email], [provider, String(person.id), person.email]);
      assert.match(identity.identity_id, UUID);
      assert.deepEqual(
        claimsOf(session.access_token).amr.map(({ method }) => method),
        ['oauth'],
      );
      assert.ok(session.provider_token);
      assert.equal(Boolean(session.provider_refresh_token), provider === 'gitlab');
      const { data } = await client.from('organizations').select('personal_for');
      assert.deepEqual(data, [{ personal_for: user.id }], 'a confirmed user has an organization of their own');
      const again = await refresh(session.refresh_token);
      assert.equal(again.status, 200);
      assert.equal(again.body.provider_token, undefined, 'as on Supabase, a refresh returns none');
    });
  }

  test('without PKCE: the session is in the fragment', async () => {
    const { query, fragment } = await new Browser().arrive(await beginning(api(), 'github'));
    assert.deepEqual(query, {});
    assert.deepEqual([fragment.token_type, fragment.sb, claimsOf(fragment.access_token).email], ['bearer', '', providers.person.email]);
    assert.match(fragment.provider_token, /^gho_/);
    const client = api();
    assert.equal((await client.auth.setSession(fragment)).error, null);
  });

  test('again: the same user, with what the provider says today and what the user set', async () => {
    const person = newPerson(newEmail('twice'));
    const first = await fromProvider('github', person);
    await first.client.auth.updateUser({ data: { full_name: 'Augusta' } });
    const second = await fromProvider('github', { ...person, email: newEmail('moved'), login: 'moved' });
    assert.equal(second.user.id, first.user.id);
    assert.equal(second.user.email, person.email, "the address of the account is the user's");
    assert.equal(second.user.user_metadata.full_name, 'Augusta');
    assert.equal(second.user.identities.length, 1);
    assert.equal(second.user.identities[0].identity_data.user_name, 'moved');
  });

  test('at once, twice: one user', async () => {
    const arrive = async () => {
      const client = pkceClient();
      const { query } = await new Browser().arrive(await beginning(client, 'github'));
      return (await client.auth.exchangeCodeForSession(query.code)).data.user.id;
    };
    const ids = await Promise.all([arrive(), arrive(), arrive()]);
    assert.equal(new Set(ids).size, 1);
  });

  test('scopes and parameters of the client reach the provider, and none of ours are replaced', async () => {
    const url = await beginning(api(), 'github', {
      scopes: 'repo user:email',
      queryParams: {
        allow_signup: 'false',
        client_id: 'evil',
        redirect_uri: 'https://evil.example/',
        state: 'evil',
        response_type: 'token',
      },
    });
    const location = new URL((await new Browser().request(url)).headers.get('location'));
    const query = Object.fromEntries(location.searchParams);
    assert.equal(query.scope, 'user:email repo');
    assert.equal(query.allow_signup, 'false');
    assert.deepEqual(
      [query.client_id, query.redirect_uri, query.response_type],
      ['github-client', `${env.API_URL}/auth/v1/callback`, 'code'],
    );
    assert.match(query.state, /^[\w-]{43}$/);
  });

  test('settings list the providers, and others are refused', async () => {
    const { body } = await http('GET', '/auth/v1/settings');
    assert.deepEqual(
      ['github', 'gitlab', 'acme', 'email', 'google', 'apple'].map((name) => body.external[name]),
      [true, true, true, true, false, false],
    );
    for (const query of ['provider=google', '', 'provider=', 'provider=GitHub', 'provider=email', 'provider=%00']) {
      const answer = await http('GET', `/auth/v1/authorize?${query}`);
      assert.deepEqual([answer.status, answer.body.code], [400, 'validation_failed'], query);
    }
    const half = await http('GET', '/auth/v1/authorize?provider=github&code_challenge=abc');
    assert.deepEqual([half.status, half.body.code], [400, 'validation_failed']);
  });
});

describe('errors', () => {
  const everywhere = ({ query, fragment }) => {
    const { sb, ...rest } = fragment;
    assert.equal(sb, '');
    assert.deepEqual(query, rest, 'the same in query and fragment');
    return query;
  };

  test('of the provider are passed on', async () => {
    providers.denies = true;
    const error = everywhere(await new Browser().arrive(await beginning(pkceClient(), 'github')));
    assert.deepEqual(error, { error: 'access_denied', error_description: 'The user has denied your application access.' });
  });

  test('of an exchange that fails are said, and cost no second try', async () => {
    providers.broken = true;
    const error = everywhere(await new Browser().arrive(await beginning(api(), 'github')));
    assert.deepEqual([error.error, error.error_code], ['server_error', 'unexpected_failure']);
  });

  test('an address that the provider has not verified makes no user', async () => {
    for (const provider of ['github', 'gitlab']) {
      providers.person = newPerson(newEmail('unverified'), { verified: false });
      const error = everywhere(await new Browser().arrive(await beginning(pkceClient(), provider)));
      assert.deepEqual([error.error, error.error_code], ['access_denied', 'provider_email_needs_verification']);
      assert.deepEqual(await sql('select 1 from auth.users where email = $1', [providers.person.email]), []);
    }
  });

  test("an unverified address that is a member's gets the same answer", async () => {
    const member = await newUser();
    providers.person = newPerson(member.email, { verified: false });
    const error = everywhere(await new Browser().arrive(await beginning(pkceClient(), 'github')));
    assert.equal(error.error_code, 'provider_email_needs_verification');
    assert.equal((await member.client.auth.getUser()).data.user.identities.length, 1);
  });

  test('a verified address links to no account where nobody confirmed theirs', async () => {
    const squatter = await newUser();
    providers.person = newPerson(squatter.email);
    const error = everywhere(await new Browser().arrive(await beginning(pkceClient(), 'github')));
    assert.equal(error.error_code, 'email_exists');
    assert.equal((await squatter.client.auth.getUser()).data.user.identities.length, 1);
  });

  test('a banned user is told so', async () => {
    const { user, person } = await fromProvider('github');
    await sql(`update auth.users set banned_until = now() + interval '1 hour' where id = $1`, [user.id]);
    providers.person = person;
    const error = everywhere(await new Browser().arrive(await beginning(pkceClient(), 'github')));
    assert.deepEqual([error.error, error.error_code], ['access_denied', 'user_banned']);
  });
});

describe('attacks', () => {
  /** A browser that has been at the provider, and the address of the callback that it was sent to. */
  async function atCallback(client = pkceClient(), provider = 'github') {
    const browser = new Browser();
    const callback = await browser.follow(await beginning(client, provider), `${env.API_URL}/auth/v1/callback`);
    return { browser, callback };
  }
  const refusedWith = async (response, code) => {
    assert.equal(response.status, 400);
    assert.equal((await response.json()).error_code, code);
  };

  test('a state is good once', async () => {
    const { browser, callback } = await atCallback();
    const copy = new Browser();
    const names = browser.cookies('127.0.0.1');
    assert.equal(names.length, 1);
    const [first, second] = await Promise.all([browser.request(callback), browser.request(callback)]);
    assert.deepEqual([first.status, second.status].sort(), [302, 400]);
    const refusal = first.status === 400 ? first : second;
    assert.equal((await refusal.json()).error_code, 'flow_state_already_used');
    assert.deepEqual(browser.cookies('127.0.0.1'), [], 'the cookie is gone');
    await refusedWith(await browser.request(callback), 'bad_oauth_state');
    await refusedWith(await copy.request(callback), 'bad_oauth_state');
  });

  test('a state is good for ten minutes', async () => {
    const { browser, callback } = await atCallback();
    const hash = createHash('sha256').update(new URL(callback).searchParams.get('state')).digest();
    await adminSql(`update auth_api.oauth_flows set created_at = created_at - interval '11 minutes' where state_hash = $1`, [hash]);
    await refusedWith(await browser.request(callback), 'bad_oauth_state');
  });

  test("session fixation: somebody else's callback signs no browser in, and is still theirs", async () => {
    const { browser: attacker, callback } = await atCallback(api());
    await refusedWith(await new Browser().request(callback), 'bad_oauth_state');
    const { browser: other } = await atCallback();
    await refusedWith(await other.request(callback), 'bad_oauth_state');
    assert.ok((await attacker.arrive(callback)).fragment.access_token);
  });

  test('code injection: a stolen code is worth nothing in another sign-in', async () => {
    const stolen = new URL((await atCallback()).callback).searchParams.get('code');
    const mine = await atCallback();
    const injected = new URL(mine.callback);
    injected.searchParams.set('code', stolen);
    const { query } = await mine.browser.arrive(injected.href);
    assert.equal(query.error_code, 'unexpected_failure', 'the provider refuses our verifier');
  });

  test("code injection: our own code is worth nothing without the client's verifier", async () => {
    const client = pkceClient();
    const { query } = await new Browser().arrive(await beginning(client, 'github'));
    const thief = pkceClient();
    await beginning(thief, 'github');
    await refused(thief.auth.exchangeCodeForSession(query.code), 'bad_code_verifier', 400);
    assert.equal((await client.auth.exchangeCodeForSession(query.code)).error, null);
    const again = await pkceGrant({ auth_code: query.code, code_verifier: 'v'.repeat(43) });
    assert.equal(again.body.code, 'flow_state_not_found');
  });

  test('open redirect: other targets become the site', async () => {
    const [{ site_url: site }] = await sql('select site_url from auth_api.settings');
    for (const redirectTo of [
      'https://evil.example/',
      'javascript:alert(1)',
      '//evil.example',
      `${site}@evil.example/`,
      'http://0x7f.1/',
    ]) {
      const { fragment } = await new Browser().arrive(await beginning(api(), 'github', { redirectTo }), `${new URL(site).href}#`);
      assert.ok(fragment.access_token, redirectTo);
    }
  });

  test('a callback without state, with an unknown one, twice the same name, or by HEAD does nothing', async () => {
    const { browser, callback } = await atCallback();
    await refusedWith(await browser.request(`${env.API_URL}/auth/v1/callback?code=x`), 'bad_oauth_callback');
    await refusedWith(await browser.request(`${env.API_URL}/auth/v1/callback?code=x&state=y`), 'bad_oauth_state');
    await refusedWith(await browser.request(`${callback}&code=x`), 'bad_oauth_callback');
    assert.equal((await browser.request(callback, { method: 'HEAD' })).status, 204);
    assert.ok((await browser.arrive(callback)).query.code);
  });

  test('mix-up: an answer in the name of another issuer is refused', async () => {
    const { browser, callback } = await atCallback();
    const { query } = await browser.arrive(`${callback}&iss=${encodeURIComponent('https://other.example')}`);
    assert.equal(query.error_code, 'bad_oauth_callback');
  });

  test('the database has no state, secret, code or token in the clear', async () => {
    const { browser, callback } = await atCallback();
    const state = new URL(callback).searchParams.get('state');
    const { session } = await fromProvider('gitlab');
    await browser.arrive(callback);
    const rows = await adminSql(
      'select row_to_json(f)::text as text from auth_api.oauth_flows f union all select row_to_json(t)::text from auth_api.provider_tokens t',
    );
    const text = rows.map((row) => row.text).join('\n');
    for (const secret of [state, session.provider_token, session.provider_refresh_token]) assert.ok(secret && !text.includes(secret));
    const [opened] = await adminSql(`select bool_and(kijko.can_unseal(t.access_token, private.secrets_access_token_context(t))) as access,
      bool_and(kijko.can_unseal(t.refresh_token, private.secrets_refresh_token_context(t))) filter (where t.refresh_token is not null) as refresh
      from auth_api.provider_tokens as t`);
    assert.deepEqual(opened, { access: true, refresh: true }, 'a change of the sealing key reaches them');
  });
});

describe('identities', () => {
  test('linking and unlinking: two ways in, then one; the token is revoked', async () => {
    const account = await fromProvider('gitlab');
    providers.person = newPerson(newEmail('second'));
    const { query } = await new Browser().arrive(await linking(account.client, 'github'));
    assert.equal(await identityOf(account.client, 'github'), undefined, 'not before the client exchanges the code');
    const { data, error } = await account.client.auth.exchangeCodeForSession(query.code);
    assert.equal(error, null);
    assert.equal(data.user.id, account.user.id);
    assert.deepEqual(data.user.app_metadata, { provider: 'gitlab', providers: ['gitlab', 'github'] });
    const token = data.session.provider_token;
    const other = await fromProvider('github', providers.person);
    assert.equal(other.user.id, account.user.id);

    assert.equal((await account.client.auth.unlinkIdentity(await identityOf(account.client, 'github'))).error, null);
    await until('the token to be revoked', () => providers.revoked.includes(other.session.provider_token));
    assert.ok(!providers.revoked.includes(token), 'GitHub revokes the whole grant with one token');
    const ended = await http('GET', '/auth/v1/user', { token: other.session.access_token });
    assert.deepEqual([ended.status, ended.body.code], [403, 'session_not_found']);
    const { data: left } = await account.client.auth.getUser();
    assert.deepEqual([left.user.identities.length, left.user.app_metadata.providers], [1, ['gitlab']]);
    assert.notEqual((await fromProvider('github', { ...providers.person, email: newEmail('fresh') })).user.id, account.user.id);
  });

  test('the last way in stays', async () => {
    const { client } = await fromProvider('github');
    const identity = await identityOf(client, 'github');
    await refused(client.auth.unlinkIdentity(identity), 'single_identity_not_deletable', 422);
    await sql(`insert into auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at)
      select 'x' || user_id, user_id, '{}', 'switched_off', now(), now() from auth.identities where id = '${identity.identity_id}'`);
    await refused(client.auth.unlinkIdentity(identity), 'single_identity_not_deletable', 422);
    assert.equal((await client.auth.updateUser({ password: 'heron-43-over-the-lake' })).error, null);
    assert.equal((await client.auth.unlinkIdentity(identity)).error, null, 'a password is a way in');
  });

  test('two at once: one of the two last ways in stays', async () => {
    const account = await fromProvider('gitlab');
    providers.person = newPerson(newEmail('second'));
    const { query } = await new Browser().arrive(await linking(account.client, 'github'));
    await account.client.auth.exchangeCodeForSession(query.code);
    const { data } = await account.client.auth.getUserIdentities();
    const results = await Promise.all(data.identities.map((identity) => account.client.auth.unlinkIdentity(identity)));
    assert.deepEqual(results.map(({ error }) => error?.code).sort(), ['single_identity_not_deletable', undefined]);
  });

  test("an identity is one user's, and nobody removes another's", async () => {
    const owner = await fromProvider('github');
    const stranger = await newUser();
    const client = pkceClient();
    await client.auth.setSession(stranger.session);
    providers.person = owner.person;
    const { query } = await new Browser().arrive(await linking(client, 'github'));
    assert.equal(query.error_code, 'identity_already_exists');
    const identity = await identityOf(owner.client, 'github');
    await refused(client.auth.unlinkIdentity(identity), 'identity_not_found', 422);
    const none = await http('DELETE', `/auth/v1/user/identities/${identity.identity_id}`);
    assert.deepEqual([none.status, none.body.code], [401, 'no_authorization']);
  });

  test('a lured user links nothing: only the client that began can finish', async () => {
    const attacker = await fromProvider('gitlab');
    const url = await linking(attacker.client, 'github');
    providers.person = newPerson(newEmail('victim'));
    const victim = new Browser();
    const { query } = await victim.arrive(url);
    assert.ok(query.code, 'the victim ends in the app, which holds no verifier');
    const guess = await pkceGrant({ auth_code: query.code, code_verifier: 'v'.repeat(43) });
    assert.equal(guess.body.code, 'bad_code_verifier');
    assert.equal(await identityOf(attacker.client, 'github'), undefined);
    const again = await new Browser().arrive(url);
    assert.deepEqual([again.status, again.body.error_code], [400, 'bad_oauth_state'], 'a ticket is good once');
  });

  test('linking needs PKCE and a session, which must still be there', async () => {
    const account = await newUser();
    const implicit = await account.client.auth.linkIdentity({ provider: 'github', options: { skipBrowserRedirect: true } });
    assert.equal(implicit.error.code, 'validation_failed');
    const none = await http('GET', '/auth/v1/user/identities/authorize?provider=github');
    assert.deepEqual([none.status, none.body.code], [401, 'no_authorization']);
    const client = pkceClient();
    await client.auth.setSession(account.session);
    const { query } = await new Browser().arrive(await linking(client, 'github'));
    await sql('delete from auth.sessions where user_id = $1', [account.user.id]);
    const { error } = await client.auth.exchangeCodeForSession(query.code);
    assert.equal(error.name, 'AuthSessionMissingError');
    assert.deepEqual(await sql(`select 1 from auth.identities where user_id = $1 and provider = 'github'`, [account.user.id]), []);
  });

  test('the tokens of a deleted account are revoked, also after the provider was down', async () => {
    const emptied = await fromProvider('github');
    assert.equal((await admin().auth.admin.deleteUser(emptied.user.id, true)).error, null);
    await until('a softly deleted one', () => providers.revoked.includes(emptied.session.provider_token));
    providers.requests = [];
    const { client, session, person } = await fromProvider('github');
    providers.broken = true;
    assert.equal((await client.rpc('delete_account', {})).error, null);
    await until('a try', () => providers.requests.some(({ method }) => method === 'DELETE'));
    providers.broken = false;
    await until('another try', async () => {
      await adminSql(`update auth_api.provider_tokens set revoke_at = now() where identity_id is null`);
      await adminSql('notify kijko_oauth');
      return providers.revoked.includes(session.provider_token);
    });
    assert.deepEqual(await sql('select 1 from auth.users where email = $1', [person.email]), []);
  });
});
