// What a person does at login, from their first mail to the end of their account, with the latest supabase-js and with one a year older.
// Changes the settings of login for all, so it runs alone.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as latest from '@supabase/supabase-js';
import * as pinned from 'supabase-js-pinned';
import { claimsOf, codeOf, mailTo, openLink, refused, withSettings } from './auth_support.mjs';
import { admin, env, http, newEmail } from './support.mjs';

withSettings({ mailer_autoconfirm: false, anonymous_users: true });

const PASSWORD = 'heron-43-over-the-lake';
const ok = async (promise) => {
  const { data, error } = await promise;
  assert.equal(error, null);
  return data;
};

/** A browser of its own: what one client keeps, no other has. */
function newBrowser(library, auth = {}) {
  const kept = new Map();
  const storage = {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
  return library.createClient(env.API_URL, env.ANON_KEY, {
    auth: { autoRefreshToken: false, detectSessionInUrl: false, persistSession: true, storage, ...auth },
    realtime: { transport: class {} },
  });
}

async function newAccount() {
  const email = newEmail('client');
  await ok(admin().auth.admin.createUser({ email, password: PASSWORD, email_confirm: true }));
  return { email, password: PASSWORD };
}

/** Opens the newest link of a kind and takes the session of its fragment, as the page that it leads to does. */
async function openMailIn(client, email, template) {
  const { fragment } = await openLink((await mailTo(email, template)).data.link);
  const { access_token, refresh_token } = fragment;
  return { fragment, ...(await ok(client.auth.setSession({ access_token, refresh_token }))) };
}

for (const [name, library] of Object.entries({ latest, pinned })) {
  const browser = (auth) => newBrowser(library, auth);

  describe(`supabase-js, ${name}`, () => {
    test('confirm: a sign-up is a session once its link was opened', async () => {
      const [client, email] = [browser(), newEmail('client')];
      const { user, session } = await ok(client.auth.signUp({ email, password: PASSWORD }));
      assert.equal(session, null);
      await refused(client.auth.signInWithPassword({ email, password: PASSWORD }), 'email_not_confirmed', 400);
      await ok(client.auth.resend({ type: 'signup', email }));
      const opened = await openMailIn(client, email, 'confirmation');
      assert.deepEqual([opened.user.id, opened.fragment.type], [user.id, 'signup']);
      assert.ok(opened.user.email_confirmed_at);
      await ok(browser().auth.signInWithPassword({ email, password: PASSWORD }));
    });

    test('reset: a forgotten password is set anew, and every other session ends', async () => {
      const account = await newAccount();
      const [elsewhere, client] = [browser(), browser()];
      await ok(elsewhere.auth.signInWithPassword(account));
      await ok(client.auth.resetPasswordForEmail(account.email));
      assert.equal((await openMailIn(client, account.email, 'recovery')).fragment.type, 'recovery');
      await ok(client.auth.updateUser({ password: 'another-heron-44' }));
      await refused(client.auth.signInWithPassword(account), 'invalid_credentials', 400);
      await ok(client.auth.signInWithPassword({ ...account, password: 'another-heron-44' }));
      assert.ok((await elsewhere.auth.refreshSession()).error);
    });

    test('a magic link opened in another browser', async () => {
      const { email } = await newAccount();
      const asking = browser();
      await ok(asking.auth.signInWithOtp({ email }));
      const opened = await openMailIn(browser(), email, 'magic_link');
      assert.equal(opened.user.email, email);
      assert.equal((await asking.auth.getSession()).data.session, null);
    });

    test('with PKCE the link works in the browser that asked, and the code of the mail in every one', async () => {
      const { email } = await newAccount();
      const [asking, another] = [browser({ flowType: 'pkce' }), browser({ flowType: 'pkce' })];
      await ok(asking.auth.signInWithOtp({ email }));
      const { query } = await openLink((await mailTo(email, 'magic_link')).data.link);
      assert.ok((await another.auth.exchangeCodeForSession(query.code)).error, 'the other browser has no verifier');
      assert.equal((await ok(asking.auth.exchangeCodeForSession(query.code))).user.email, email);
      await ok(asking.auth.signInWithOtp({ email }));
      const { token } = (await mailTo(email, 'magic_link')).data;
      assert.equal((await ok(another.auth.verifyOtp({ email, token, type: 'email' }))).user.email, email);
    });

    test('change of address: both addresses confirm', async () => {
      const account = await newAccount();
      const client = browser();
      await ok(client.auth.signInWithPassword(account));
      const email = newEmail('changed');
      const { user } = await ok(client.auth.updateUser({ email }));
      assert.deepEqual([user.email, user.new_email], [account.email, email]);
      const first = await openLink((await mailTo(account.email, 'email_change')).data.link);
      assert.match(first.fragment.message, /link/);
      assert.equal((await ok(client.auth.getUser())).user.email, account.email);
      assert.equal((await openMailIn(client, email, 'email_change_new')).user.email, email);
      await ok(browser().auth.signInWithPassword({ ...account, email }));
    });

    test('MFA: a recovery code stands in for the authenticator app', async () => {
      const account = await newAccount();
      const client = browser({ experimental: { recoveryCodes: true } });
      await ok(client.auth.signInWithPassword(account));
      const factor = await ok(client.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'phone' }));
      const code = codeOf(factor.totp.secret);
      const raised = await ok(client.auth.mfa.challengeAndVerify({ factorId: factor.id, code }));
      assert.equal(claimsOf(raised.access_token).aal, 'aal2');
      // The older client has no method for them; its users call the same paths.
      const codes = (path, token, body = {}) => http('POST', `/auth/v1/factors/recovery-codes${path}`, { token, body });
      const made = client.auth.mfa.recoveryCodes
        ? await ok(client.auth.mfa.recoveryCodes.generate())
        : (await codes('', raised.access_token)).body;
      assert.equal(made.codes.length, 10);
      // The phone is lost.
      const later = browser({ experimental: { recoveryCodes: true } });
      const { session } = await ok(later.auth.signInWithPassword(account));
      assert.deepEqual((await ok(later.auth.mfa.getAuthenticatorAssuranceLevel())).nextLevel, 'aal2');
      await refused(later.auth.updateUser({ password: 'another-heron-44' }), 'insufficient_aal', 401);
      if (later.auth.mfa.recoveryCodes) {
        await ok(later.auth.mfa.recoveryCodes.verify({ code: made.codes[0] }));
      } else {
        const { access_token, refresh_token } = (await codes('/verify', session.access_token, { code: made.codes[0] })).body;
        await ok(later.auth.setSession({ access_token, refresh_token }));
      }
      assert.equal((await ok(later.auth.mfa.getAuthenticatorAssuranceLevel())).currentLevel, 'aal2');
      await ok(later.auth.mfa.unenroll({ factorId: factor.id }));
      await ok(later.auth.updateUser({ password: 'another-heron-44' }));
      const { body } = await codes('/verify', (await ok(later.auth.refreshSession())).session.access_token, { code: made.codes[0] });
      assert.equal(body.code, 'mfa_factor_not_found', 'the codes go with the last factor');
    });

    test('anonymous to permanent: the user keeps their id', async () => {
      const client = browser();
      const { user } = await ok(client.auth.signInAnonymously());
      assert.equal(user.is_anonymous, true);
      const email = newEmail('permanent');
      await ok(client.auth.updateUser({ email }));
      const { token } = (await mailTo(email, 'email_change_new')).data;
      await ok(client.auth.verifyOtp({ email, token, type: 'email_change' }));
      await ok(client.auth.updateUser({ password: PASSWORD }));
      const again = await ok(browser().auth.signInWithPassword({ email, password: PASSWORD }));
      assert.deepEqual([again.user.id, again.user.is_anonymous], [user.id, false]);
    });

    test('account deletion: every session ends, and the address is free', async () => {
      const account = await newAccount();
      const [client, elsewhere] = [browser(), browser()];
      const { user } = await ok(client.auth.signInWithPassword(account));
      await ok(elsewhere.auth.signInWithPassword(account));
      await ok(client.rpc('delete_account'));
      assert.ok((await elsewhere.auth.getUser()).error);
      await refused(client.auth.signInWithPassword(account), 'invalid_credentials', 400);
      assert.notEqual((await ok(client.auth.signUp(account))).user.id, user.id);
    });
  });
}
