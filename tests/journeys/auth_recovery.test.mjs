// Forgotten passwords: the mail, its link and its code, and what becomes of both.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  asProxy,
  claimsOf,
  expireTokens,
  mailsTo,
  mailTo,
  newNetwork,
  newSite,
  openLink,
  passwordGrant,
  refused,
} from './auth_support.mjs';
import { adminSql, api, env, http, newEmail, newUser, signIn, sql } from './support.mjs';

const recover = async (email, options) => {
  const { data, error } = await api().auth.resetPasswordForEmail(email, options);
  assert.equal(error, null);
  assert.deepEqual(data, {});
};
const verify = (body) => http('POST', '/auth/v1/verify', { body });

const wrongCodeFor = (code) => String((Number(code) + 1) % 1_000_000).padStart(6, '0');

describe('a forgotten password', () => {
  test('is set anew with the link: the old one and every other session end', async () => {
    const account = await newUser();
    const elsewhere = await signIn(account);
    await recover(account.email, { redirectTo: 'http://127.0.0.1:3000/new-password?from=mail' });
    const { data } = await mailTo(account.email, 'recovery');
    assert.match(data.link, new RegExp(`^${env.API_URL}/auth/v1/verify\\?token=[0-9a-f]{56}&type=recovery&redirect_to=`));
    const { target, query, fragment } = await openLink(data.link);
    assert.equal(target, 'http://127.0.0.1:3000/new-password');
    assert.deepEqual(query, { from: 'mail' });
    assert.equal(fragment.type, 'recovery', 'supabase-js raises PASSWORD_RECOVERY for this');
    assert.equal(fragment.token_type, 'bearer');
    assert.ok(Number(fragment.expires_in) > 0 && Number(fragment.expires_at) > Date.now() / 1000);
    assert.deepEqual(
      claimsOf(fragment.access_token).amr.map(({ method }) => method),
      ['otp'],
    );

    const client = api();
    const { error: sessionError } = await client.auth.setSession(fragment);
    assert.equal(sessionError, null);
    const { data: changed, error } = await client.auth.updateUser({ password: 'a-new-secret' });
    assert.equal(error, null);
    assert.equal(changed.user.id, account.user.id);
    await refused(api().auth.signInWithPassword(account), 'invalid_credentials', 400);
    await signIn({ email: account.email, password: 'a-new-secret' });
    assert.equal((await elsewhere.client.auth.getUser()).error.name, 'AuthSessionMissingError');
    assert.equal((await client.auth.getUser()).data.user.id, account.user.id);
  });

  test('is set anew with the code', async () => {
    const account = await newUser();
    await recover(account.email.toUpperCase());
    const { data: mail } = await mailTo(account.email, 'recovery');
    assert.match(mail.token, /^\d{6}$/);
    const client = api();
    const { data, error } = await client.auth.verifyOtp({ email: account.email, token: mail.token, type: 'recovery' });
    assert.equal(error, null);
    assert.equal(data.user.id, account.user.id);
    assert.equal((await client.auth.updateUser({ password: 'a-new-secret' })).error, null);
    await signIn({ email: account.email, password: 'a-new-secret' });
  });

  test('is set anew with the token of the link, for an app that has a page of its own', async () => {
    const account = await newUser();
    await recover(account.email);
    const { data: mail } = await mailTo(account.email, 'recovery');
    const { data, error } = await api().auth.verifyOtp({ token_hash: mail.token_hash, type: 'recovery' });
    assert.equal(error, null);
    assert.equal(data.session.user.id, account.user.id);
  });
});

describe('a link and its code', () => {
  test('are one token: using either voids the other', async () => {
    const { email } = await newUser();
    await recover(email);
    const { data: mail } = await mailTo(email, 'recovery');
    assert.equal((await verify({ email, token: mail.token, type: 'recovery' })).status, 200);
    const again = await verify({ email, token: mail.token, type: 'recovery' });
    assert.deepEqual([again.status, again.body.code], [403, 'otp_expired']);
    const { fragment } = await openLink(mail.link);
    assert.deepEqual([fragment.error, fragment.error_code, fragment.access_token], ['access_denied', 'otp_expired', undefined]);
  });

  test('are void once another mail is sent, and once they are too old', async () => {
    const { email } = await newUser();
    await recover(email);
    const { data: first } = await mailTo(email, 'recovery');
    await recover(email);
    const { data: second } = await mailTo(email, 'recovery');
    assert.notEqual(first.token_hash, second.token_hash);
    assert.equal((await openLink(first.link)).fragment.error_code, 'otp_expired');
    await expireTokens(email);
    assert.equal((await openLink(second.link)).fragment.error_code, 'otp_expired');
    const late = await verify({ email, token: second.token, type: 'recovery' });
    assert.deepEqual([late.status, late.body.code], [403, 'otp_expired']);
  });

  test('are void once the password has changed', async () => {
    const account = await newUser();
    await recover(account.email);
    const { data: mail } = await mailTo(account.email, 'recovery');
    await account.client.auth.updateUser({ password: 'a-new-secret' });
    assert.equal((await openLink(mail.link)).fragment.error_code, 'otp_expired');
  });

  test('five wrong codes burn the code, and the link still works', async () => {
    const { email } = await newUser();
    await recover(email);
    const { data: mail } = await mailTo(email, 'recovery');
    const guess = (token) => verify({ email, token, type: 'recovery' });
    for (let n = 0; n < 5; n += 1) assert.equal((await guess(wrongCodeFor(mail.token))).body.code, 'otp_expired');
    assert.equal((await guess(mail.token)).body.code, 'otp_expired', 'the right one comes too late');
    assert.ok((await openLink(mail.link)).fragment.access_token, 'a stranger cannot keep the owner out');
  });

  test('four wrong codes do not burn it, also when they come at once', async () => {
    const { email } = await newUser();
    await recover(email);
    const { data: mail } = await mailTo(email, 'recovery');
    await Promise.all([1, 2, 3, 4].map(() => verify({ email, token: wrongCodeFor(mail.token), type: 'recovery' })));
    assert.equal((await verify({ email, token: mail.token, type: 'recovery' })).status, 200);
  });

  test('new mails do not give a guesser tries without end', async () => {
    const email = newEmail('nobody');
    const [{ n }] = await sql('select codes_per_hour as n from auth_api.settings');
    let limited;
    for (let tries = 0; tries <= n && !limited; tries += 1) {
      const answer = await verify({ email, token: '123456', type: 'recovery' });
      if (answer.status === 429) limited = answer;
      else assert.deepEqual([answer.status, answer.body.code], [403, 'otp_expired']);
    }
    assert.equal(limited?.body.code, 'over_request_rate_limit');
    assert.ok(Number(limited.headers.get('retry-after')) >= 1);
  });

  test('codes are all equally likely', async () => {
    const rows = await adminSql(
      `select place, digit, count(*)::int as n
       from (select auth_api.random_code() as code from generate_series(1, 20000)) as drawn, generate_series(1, 6) as place, substr(code, place, 1) as digit
       group by place, digit`,
    );
    assert.equal(rows.length, 60);
    // 2,000 of each, with a standard deviation of 42.
    for (const { place, digit, n } of rows) assert.ok(Math.abs(n - 2000) < 300, `${digit} at ${place}: ${n}`);
  });

  test('are stored as hashes only', async () => {
    const { email, user } = await newUser();
    await recover(email);
    const { data: mail } = await mailTo(email, 'recovery');
    const [row] = await sql(
      `select to_jsonb(t)::text || to_jsonb(u)::text as stored, t.token_hash = u.recovery_token as same, u.recovery_sent_at
       from auth.one_time_tokens t join auth.users u on u.id = t.user_id where u.id = $1`,
      [user.id],
    );
    assert.equal(row.same, true);
    assert.ok(row.recovery_sent_at);
    assert.equal(row.stored.includes(mail.token_hash), false);
    const stolen = row.stored.match(/"token_hash": "([0-9a-f]+)"/)[1];
    assert.equal((await verify({ token_hash: stolen, type: 'recovery' })).body.code, 'otp_expired', 'what is stored opens nothing');
  });
});

describe('who has no account', () => {
  test('gets the same answer, no mail, and no session', async () => {
    const nobody = newEmail('nobody');
    const { email } = await newUser();
    const unknown = await http('POST', '/auth/v1/recover', { body: { email: nobody } });
    const known = await http('POST', '/auth/v1/recover', { body: { email } });
    assert.deepEqual([unknown.status, unknown.text, [...unknown.headers.keys()]], [known.status, known.text, [...known.headers.keys()]]);
    assert.deepEqual(await mailsTo(nobody), []);
  });

  test('is limited like who has: nobody can flood a mailbox, or learn from a limit who has an account', async () => {
    const answers = { known: [], unknown: [] };
    for (const [kind, email] of [
      ['known', (await newUser()).email],
      ['unknown', newEmail('nobody')],
    ]) {
      for (let n = 0; n < 12; n += 1) {
        const answer = await http('POST', '/auth/v1/recover', { body: { email } });
        answers[kind].push([answer.status, answer.body.code, answer.headers.has('retry-after')]);
      }
    }
    assert.deepEqual(answers.known, answers.unknown);
    assert.deepEqual(answers.known.at(-1), [429, 'over_email_send_rate_limit', true]);
    assert.deepEqual(answers.known[0], [200, undefined, false]);
  });

  test('is limited by the network that asks like who has: it cannot have strangers mailed without end', async () => {
    const known = (await newUser()).email;
    const strangers = [newEmail('stranger'), newEmail('stranger'), newEmail('stranger')];
    const { ask, usersOf, end } = await asProxy({ sends_per_hour: 2 });
    try {
      const [network, another] = [newNetwork(), newNetwork()];
      const codes = [];
      for (const [path, email] of [
        ['/otp', strangers[0]],
        ['/recover', known],
        ['/otp', strangers[1]],
        ['/otp', known],
        ['/recover', known],
        ['/resend', known],
      ]) {
        const { body, retryAfter } = await ask(network, path, { email, type: 'signup' });
        codes.push(body.code);
        if (body.code) assert.ok(retryAfter > 60, `${path}: ${retryAfter}`);
      }
      assert.deepEqual(codes, [undefined, undefined, ...Array(4).fill('over_email_send_rate_limit')]);
      assert.deepEqual((await ask(another, '/otp', { email: strangers[2] })).body, {});
      assert.deepEqual(await usersOf(strangers), [strangers[0], strangers[2]].toSorted(), 'a refused request makes no user');
    } finally {
      await end();
    }
  });

  test('is limited by the site that asks: its many networks have four times as much, not 65,536 times', async () => {
    const { email } = await newUser();
    const { ask, end } = await asProxy({ sends_per_hour: 1 });
    try {
      const [site, another] = [newSite(), newSite()];
      const codes = [];
      for (let n = 0; n < 6; n += 1) codes.push((await ask(`${site}:${n}::1`, '/recover', { email })).body.code);
      assert.deepEqual(codes, [...Array(4).fill(undefined), ...Array(2).fill('over_email_send_rate_limit')]);
      assert.deepEqual((await ask(`${another}:1::1`, '/recover', { email })).body, {});
    } finally {
      await end();
    }
  });

  test('verifying for them is refused like a wrong code', async () => {
    const { email } = await newUser();
    await recover(email);
    const wrong = await verify({ email, token: '000000', type: 'email' });
    const unknown = await verify({ email: newEmail('nobody'), token: '000000', type: 'email' });
    assert.deepEqual([wrong.status, wrong.text], [unknown.status, unknown.text]);
  });
});

describe('requests that make no sense', () => {
  test('are refused and use nothing up', async () => {
    const { email } = await newUser();
    await recover(email);
    const { data: mail } = await mailTo(email, 'recovery');
    const cases = [
      [{}, 'validation_failed'],
      [{ type: 'nothing', email, token: mail.token }, 'validation_failed'],
      [{ type: 'recovery', email }, 'validation_failed'],
      [{ type: 'recovery', token: mail.token }, 'validation_failed'],
      [{ type: 'recovery', token_hash: mail.token_hash, email }, 'validation_failed'],
      [{ type: 'recovery', token_hash: 7 }, 'bad_json'],
      [{ type: 'sms', phone: '+31612345678', token: mail.token }, 'phone_provider_disabled'],
    ];
    for (const [body, code] of cases) {
      const answer = await verify(body);
      assert.deepEqual([answer.status, answer.body.code], [400, code], JSON.stringify(body));
    }
    for (const type of ['signup', 'email_change']) {
      assert.equal(
        (await verify({ type, token_hash: mail.token_hash })).body.code,
        'otp_expired',
        `a token of recovery is none of ${type}`,
      );
    }
    const headOnly = await fetch(mail.link, { method: 'HEAD', redirect: 'manual' });
    assert.equal(headOnly.status, 200);
    assert.equal(headOnly.headers.get('location'), null);
    assert.equal((await verify({ type: 'recovery', token_hash: mail.token_hash })).status, 200, 'it was still good');
  });

  test('a banned user cannot use a link', async () => {
    const { email, user, password } = await newUser();
    await recover(email);
    const { data: mail } = await mailTo(email, 'recovery');
    await sql(`update auth.users set banned_until = kijko.now() + interval '1 hour' where id = $1`, [user.id]);
    const answer = await verify({ type: 'recovery', token_hash: mail.token_hash });
    assert.deepEqual([answer.status, answer.body.code], [403, 'user_banned']);
    assert.equal((await openLink(mail.link)).fragment.error_code, 'user_banned');
    assert.equal((await passwordGrant(email, password)).body.code, 'user_banned');
  });
});
