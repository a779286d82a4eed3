// Sign-up where an address must be confirmed before there is a session. Changes the settings of login for all, so it runs alone.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  asProxy,
  expireTokens,
  mailsTo,
  mailTo,
  newNetwork,
  openLink,
  passwordGrant,
  refused,
  UUID,
  withSettings,
} from './auth_support.mjs';
import { admin, api, http, newEmail, signIn, sql } from './support.mjs';

withSettings({ mailer_autoconfirm: false });

const signUp = async (email, password = 'heron-43', options = {}) => {
  const { data, error } = await api().auth.signUp({ email, password, options });
  assert.equal(error, null);
  return data;
};
const verify = (body) => http('POST', '/auth/v1/verify', { body });
const organizationsOf = (id) => sql('select id from public.organizations where personal_for = $1', [id]);

describe('sign up', () => {
  test('gives a user and no session, and the password signs in only once the address is confirmed', async () => {
    const email = newEmail('new');
    const { user, session } = await signUp(email, 'heron-43', { data: { name: 'Ada' } });
    assert.equal(session, null);
    assert.match(user.id, UUID);
    assert.deepEqual([user.email, user.email_confirmed_at, user.role], [email, undefined, 'authenticated']);
    assert.deepEqual(user.user_metadata, { name: 'Ada', email_verified: false });
    assert.ok(user.confirmation_sent_at);
    await refused(api().auth.signInWithPassword({ email, password: 'wrong-one' }), 'invalid_credentials', 400);
    await refused(api().auth.signInWithPassword({ email, password: 'heron-43' }), 'email_not_confirmed', 400);
    assert.deepEqual(await organizationsOf(user.id), []);

    const { fragment, target } = await openLink((await mailTo(email, 'confirmation')).data.link);
    assert.equal(fragment.type, 'signup');
    assert.equal(target.startsWith('http'), true);
    const client = api();
    const { data } = await client.auth.setSession(fragment);
    assert.equal(data.user.id, user.id);
    assert.ok(data.user.email_confirmed_at);
    assert.equal(data.user.user_metadata.email_verified, true);
    assert.equal(data.user.identities[0].identity_data.email_verified, true);
    assert.equal((await organizationsOf(user.id)).length, 1, 'their own organization comes with the confirmation');
    await signIn({ email, password: 'heron-43' });
    assert.equal((await openLink((await mailTo(email, 'confirmation')).data.link)).fragment.error_code, 'otp_expired');
  });

  test('is confirmed with the code, of type signup or email', async () => {
    for (const type of ['signup', 'email']) {
      const email = newEmail('code');
      await signUp(email);
      const { data: mail } = await mailTo(email, 'confirmation');
      const { data, error } = await api().auth.verifyOtp({ email, token: mail.token, type });
      assert.equal(error, null);
      assert.equal(data.user.email, email);
      assert.ok(data.session.access_token);
    }
  });

  test('settings say so', async () => {
    assert.equal((await http('GET', '/auth/v1/settings')).body.mailer_autoconfirm, false);
  });
});

describe('resend', () => {
  test('mails a new link; the former one is void', async () => {
    const email = newEmail('resend');
    await signUp(email);
    const { data: first } = await mailTo(email, 'confirmation');
    const { error } = await api().auth.resend({ type: 'signup', email });
    assert.equal(error, null);
    const { data: second } = await mailTo(email, 'confirmation');
    assert.notEqual(first.token_hash, second.token_hash);
    assert.equal((await verify({ type: 'signup', token_hash: first.token_hash })).body.code, 'otp_expired');
    assert.equal((await verify({ type: 'signup', token_hash: second.token_hash })).status, 200);
    await signIn({ email, password: 'heron-43' });
  });

  test('answers alike for an unknown and a confirmed address, and mails neither', async () => {
    const confirmed = newEmail('confirmed');
    await admin().auth.admin.createUser({ email: confirmed, password: 'heron-43', email_confirm: true });
    for (const email of [confirmed, newEmail('nobody')]) {
      const answer = await http('POST', '/auth/v1/resend', { body: { type: 'signup', email } });
      assert.deepEqual([answer.status, answer.body], [200, {}]);
      assert.deepEqual(await mailsTo(email), []);
    }
  });

  test('refuses other types', async () => {
    for (const type of ['recovery', 'magiclink', '', undefined]) {
      const answer = await http('POST', '/auth/v1/resend', { body: { type, email: newEmail() } });
      assert.deepEqual([answer.status, answer.body.code], [400, 'validation_failed'], String(type));
    }
    const phone = await http('POST', '/auth/v1/resend', { body: { type: 'sms', phone: '+31612345678' } });
    assert.deepEqual([phone.status, phone.body.code], [400, 'phone_provider_disabled']);
  });
});

describe('an address that has an account', () => {
  // What differs between any two sign-ups is taken out.
  const shapeOf = (answer, email) =>
    JSON.stringify(answer.body)
      .replaceAll(email, 'EMAIL')
      .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID')
      .replaceAll(/\d{4}-\d\d-\d\dT[0-9:.]+Z/g, 'TIME');
  const post = (email, password) => http('POST', '/auth/v1/signup', { body: { email, password, data: { name: 'x' } } });

  test('is answered like a new one: nobody learns that it has', async () => {
    const taken = newEmail('taken');
    await admin().auth.admin.createUser({ email: taken, password: 'heron-43', email_confirm: true });
    const fresh = newEmail('fresh');
    const [known, unknown] = [await post(taken, 'other-secret'), await post(fresh, 'other-secret')];
    assert.equal(known.status, unknown.status);
    assert.equal(shapeOf(known, taken), shapeOf(unknown, fresh));
    assert.equal(known.body.identities.length, 1, 'GoTrue tells by an empty list');
    assert.deepEqual(
      [...known.headers.keys()].filter((name) => name !== 'date'),
      [...unknown.headers.keys()].filter((name) => name !== 'date'),
    );
    const [{ n }] = await sql('select count(*)::int as n from auth.users where id = $1', [known.body.id]);
    assert.equal(n, 0);
    assert.deepEqual(await mailsTo(taken), []);
    await signIn({ email: taken, password: 'heron-43' });
  });

  test('is limited alike', async () => {
    const taken = newEmail('taken');
    await admin().auth.admin.createUser({ email: taken, password: 'heron-43', email_confirm: true });
    const statuses = async (email) => {
      const list = [];
      for (let n = 0; n < 11; n += 1) list.push((await post(email, 'other-secret')).status);
      return list;
    };
    const known = await statuses(taken);
    assert.deepEqual(known, await statuses(newEmail('fresh')));
    assert.equal(known.at(-1), 429);
  });
});

describe("a stranger who signs up with somebody's address", () => {
  test('has no password for the account that the owner confirms by their own sign-up', async () => {
    const email = newEmail('victim');
    await signUp(email, 'the-strangers-secret');
    const { data: strangers } = await mailTo(email, 'confirmation');
    await signUp(email, 'the-owners-secret');
    assert.equal((await verify({ type: 'signup', token_hash: strangers.token_hash })).body.code, 'otp_expired');
    const { data: owners } = await mailTo(email, 'confirmation');
    assert.equal((await verify({ type: 'signup', token_hash: owners.token_hash })).status, 200);
    await refused(api().auth.signInWithPassword({ email, password: 'the-strangers-secret' }), 'invalid_credentials', 400);
    await signIn({ email, password: 'the-owners-secret' });
  });

  for (const [how, ask, template] of [
    ['a magic link', (email) => api().auth.signInWithOtp({ email }), 'confirmation'],
    ['a recovery', (email) => api().auth.resetPasswordForEmail(email), 'recovery'],
  ]) {
    test(`has no password for the account that the owner confirms by ${how}`, async () => {
      const email = newEmail('victim');
      await signUp(email, 'the-strangers-secret');
      assert.equal((await ask(email)).error, null);
      const { fragment } = await openLink((await mailTo(email, template)).data.link);
      const client = api();
      const { data } = await client.auth.setSession(fragment);
      assert.ok(data.user.email_confirmed_at);
      await refused(api().auth.signInWithPassword({ email, password: 'the-strangers-secret' }), 'invalid_credentials', 400);
      assert.equal((await client.auth.updateUser({ password: 'the-owners-secret' })).error, null);
      await signIn({ email, password: 'the-owners-secret' });
    });
  }
});

describe('a change of address', () => {
  const member = async () => {
    const email = newEmail('mover');
    await admin().auth.admin.createUser({ email, password: 'heron-43', email_confirm: true });
    return { email, ...(await signIn({ email, password: 'heron-43' })) };
  };
  const half = { msg: 'Confirmation link accepted. Please proceed to confirm link sent to the other email', code: '200' };

  test('needs both addresses, in any order', async () => {
    for (const order of [
      ['email_change', 'email_change_new'],
      ['email_change_new', 'email_change'],
    ]) {
      const account = await member();
      const moved = newEmail('moved');
      const { data, error } = await account.client.auth.updateUser({ email: moved });
      assert.equal(error, null);
      assert.deepEqual([data.user.email, data.user.new_email], [account.email, moved]);
      assert.ok(data.user.email_change_sent_at);
      const mails = {
        email_change: (await mailTo(account.email, 'email_change')).data,
        email_change_new: (await mailTo(moved, 'email_change_new')).data,
      };
      const first = await verify({ type: 'email_change', token_hash: mails[order[0]].token_hash });
      assert.deepEqual([first.status, first.body], [200, half]);
      await signIn({ email: account.email, password: 'heron-43' });
      const again = await verify({ type: 'email_change', token_hash: mails[order[0]].token_hash });
      assert.equal(again.body.code, 'otp_expired', 'one address does not confirm twice');
      const last = await verify({ type: 'email_change', token_hash: mails[order[1]].token_hash });
      assert.equal(last.status, 200);
      assert.deepEqual([last.body.user.email, last.body.user.new_email], [moved, undefined]);
      assert.equal(last.body.user.identities[0].email, moved);
      await signIn({ email: moved, password: 'heron-43' });
      await refused(api().auth.signInWithPassword({ email: account.email, password: 'heron-43' }), 'invalid_credentials', 400);
    }
  });

  test('by links and by codes, and can be sent again', async () => {
    const account = await member();
    const moved = newEmail('moved');
    await account.client.auth.updateUser({ email: moved });
    const { data: old } = await mailTo(account.email, 'email_change');
    const { fragment } = await openLink(old.link);
    assert.equal(fragment.message, half.msg);
    assert.equal(fragment.access_token, undefined);
    assert.equal((await api().auth.resend({ type: 'email_change', email: account.email })).error, null);
    assert.equal((await mailsTo(account.email)).length, 1, 'the old address has confirmed already');
    const { data: fresh } = await mailTo(moved, 'email_change_new');
    const { data, error } = await api().auth.verifyOtp({ email: moved, token: fresh.token, type: 'email_change' });
    assert.equal(error, null);
    assert.equal(data.user.email, moved);
  });

  test('to an address that somebody has is answered alike, mails only the asker, and changes nothing', async () => {
    const [account, neighbour] = [await member(), await member()];
    const { data, error } = await account.client.auth.updateUser({ email: neighbour.email });
    assert.equal(error, null, 'an answer must not tell that the address has an account');
    assert.equal(data.user.new_email, neighbour.email);
    assert.deepEqual(await mailsTo(neighbour.email), []);
    const { data: mail } = await mailTo(account.email, 'email_change');
    assert.deepEqual((await verify({ type: 'email_change', token_hash: mail.token_hash })).body, half);
    assert.equal((await account.client.auth.getUser()).data.user.email, account.email);
  });

  test('fails when the new address was taken meanwhile', async () => {
    const account = await member();
    const moved = newEmail('moved');
    await account.client.auth.updateUser({ email: moved });
    await verify({ type: 'email_change', token_hash: (await mailTo(account.email, 'email_change')).data.token_hash });
    await admin().auth.admin.createUser({ email: moved, password: 'heron-43', email_confirm: true });
    const { data: mail } = await mailTo(moved, 'email_change_new');
    const { fragment } = await openLink(mail.link);
    assert.equal(fragment.error_code, 'email_exists');
    assert.equal((await verify({ type: 'email_change', token_hash: mail.token_hash })).body.code, 'otp_expired');
    assert.equal((await account.client.auth.getUser()).data.user.email, account.email);
  });

  test('voids what was mailed to the former address', async () => {
    const account = await member();
    const moved = newEmail('moved');
    await api().auth.resetPasswordForEmail(account.email);
    const { data: recovery } = await mailTo(account.email, 'recovery');
    await account.client.auth.updateUser({ email: moved });
    for (const [address, template] of [
      [account.email, 'email_change'],
      [moved, 'email_change_new'],
    ]) {
      await verify({ type: 'email_change', token_hash: (await mailTo(address, template)).data.token_hash });
    }
    assert.equal((await verify({ type: 'recovery', token_hash: recovery.token_hash })).body.code, 'otp_expired');
  });
});

describe('a link that is too old', () => {
  test('confirms nothing', async () => {
    const email = newEmail('late');
    await signUp(email);
    const { data: mail } = await mailTo(email, 'confirmation');
    await expireTokens(email);
    assert.equal((await openLink(mail.link)).fragment.error_code, 'otp_expired');
    assert.equal((await passwordGrant(email, 'heron-43')).body.code, 'email_not_confirmed');
  });
});

describe('made-up addresses', () => {
  test('use up the share of strangers, and stop no recovery and no sign-in by mail', async () => {
    const email = newEmail('known');
    await admin().auth.admin.createUser({ email, email_confirm: true });
    const { ask, usersOf, end } = await asProxy({ stranger_sends_per_hour: 1 });
    try {
      const codes = async (requests) => {
        const found = [];
        for (const [path, body] of requests) found.push((await ask(newNetwork(), path, body)).body.code);
        return found;
      };
      const strangers = Array.from({ length: 5 }, () => newEmail('made-up'));
      await codes([['/otp', { email: strangers[0] }]]);
      assert.deepEqual(
        await codes([
          ['/otp', { email: strangers[1] }],
          ['/otp', { email }], // alike, or the answer would say who has an account
          ['/resend', { email: strangers[2], type: 'signup' }],
          ['/resend', { email, type: 'signup' }],
        ]),
        Array(4).fill('over_email_send_rate_limit'),
      );
      assert.deepEqual(
        await codes([
          ['/recover', { email }],
          ['/recover', { email: strangers[3] }],
          ['/otp', { email, create_user: false }],
          ['/otp', { email: strangers[4], create_user: false }],
        ]),
        Array(4).fill(undefined),
      );
      assert.deepEqual(
        (await usersOf(strangers)).filter((made) => made !== strangers[0]),
        [],
      );
    } finally {
      await end();
    }
  });
});
