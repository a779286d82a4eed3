// Links and invitations that the holder of the service key makes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { mailsTo, mailTo, openLink, refused } from './auth_support.mjs';
import { admin, api, env, http, newEmail, newUser, signIn, sql } from './support.mjs';

const generate = (params) => admin().auth.admin.generateLink(params);

describe('generateLink', () => {
  test('is for the service key alone', async () => {
    const { session } = await newUser();
    for (const [token, status, code] of [
      [undefined, 401, 'no_authorization'],
      [env.ANON_KEY, 403, 'not_admin'],
      [session.access_token, 403, 'not_admin'],
    ]) {
      for (const path of ['/auth/v1/admin/generate_link', '/auth/v1/invite']) {
        const answer = await http('POST', path, { token, body: { type: 'magiclink', email: newEmail() } });
        assert.deepEqual([answer.status, answer.body.code], [status, code], path);
      }
    }
  });

  test('of a magic link and a recovery: the link, the code and the hash work, and no mail goes out', async () => {
    for (const type of ['magiclink', 'recovery']) {
      const { email, user } = await newUser();
      const { data, error } = await generate({ type, email, options: { redirectTo: 'http://127.0.0.1:3000/' } });
      assert.equal(error, null);
      assert.equal(data.user.id, user.id);
      assert.deepEqual(Object.keys(data.properties).sort(), [
        'action_link',
        'email_otp',
        'hashed_token',
        'redirect_to',
        'verification_type',
      ]);
      assert.deepEqual([data.properties.verification_type, data.properties.redirect_to], [type, 'http://127.0.0.1:3000/']);
      assert.deepEqual(await mailsTo(email), []);
      const { fragment } = await openLink(data.properties.action_link);
      assert.equal(fragment.type, type);
      const next = await generate({ type, email });
      assert.equal((await api().auth.verifyOtp({ email, token: next.data.properties.email_otp, type })).error, null);
      const last = await generate({ type, email });
      assert.equal((await api().auth.verifyOtp({ token_hash: last.data.properties.hashed_token, type })).error, null);
    }
  });

  test('of a sign-up: a user who is confirmed by the link and has the password', async () => {
    const email = newEmail('signup');
    const { data, error } = await generate({ type: 'signup', email, password: 'heron-43', options: { data: { name: 'Ada' } } });
    assert.equal(error, null);
    assert.equal(data.user.user_metadata.name, 'Ada');
    await refused(api().auth.signInWithPassword({ email, password: 'heron-43' }), 'email_not_confirmed', 400);
    assert.equal((await openLink(data.properties.action_link)).fragment.type, 'signup');
    await signIn({ email, password: 'heron-43' });
    await refused(generate({ type: 'signup', email, password: 'heron-43' }), 'email_exists', 422);
    await refused(generate({ type: 'signup', email: newEmail() }), 'validation_failed', 400);
    await refused(generate({ type: 'signup', email: newEmail(), password: '123' }), 'weak_password', 422);
  });

  test('of a magic link for an unknown address becomes a sign-up, of a recovery is refused', async () => {
    const { data } = await generate({ type: 'magiclink', email: newEmail('unknown') });
    assert.equal(data.properties.verification_type, 'signup');
    assert.equal((await api().auth.verifyOtp({ token_hash: data.properties.hashed_token, type: 'signup' })).error, null);
    await refused(generate({ type: 'recovery', email: newEmail('unknown') }), 'user_not_found', 404);
    await refused(generate({ type: 'nonsense', email: newEmail('unknown') }), 'validation_failed', 400);
  });

  test('of a change of address: both links together', async () => {
    const { email, user, password } = await newUser();
    const moved = newEmail('moved');
    const [current, fresh] = [
      await generate({ type: 'email_change_current', email, newEmail: moved }),
      await generate({ type: 'email_change_new', email, newEmail: moved }),
    ];
    const half = await openLink(current.data.properties.action_link);
    assert.equal(half.fragment.access_token, undefined);
    const { data, error } = await api().auth.verifyOtp({ token_hash: fresh.data.properties.hashed_token, type: 'email_change' });
    assert.equal(error, null);
    assert.deepEqual([data.user.id, data.user.email], [user.id, moved]);
    await signIn({ email: moved, password });
    const neighbour = await newUser();
    await refused(generate({ type: 'email_change_new', email: moved, newEmail: neighbour.email }), 'email_exists', 422);
  });

  test('a target that is not allowed becomes the site', async () => {
    const { email } = await newUser();
    const { data } = await generate({ type: 'magiclink', email, options: { redirectTo: 'https://evil.example/' } });
    const [{ site_url }] = await sql('select site_url from auth_api.settings');
    assert.equal(data.properties.redirect_to, site_url);
  });
});

describe('inviteUserByEmail', () => {
  test('makes a user without a password or an organization, who sets one after the link', async () => {
    const email = newEmail('invited');
    const { data, error } = await admin().auth.admin.inviteUserByEmail(email, {
      data: { team: 'a' },
      redirectTo: 'http://127.0.0.1:3000/welcome',
    });
    assert.equal(error, null);
    assert.ok(data.user.invited_at && data.user.confirmation_sent_at);
    assert.equal(data.user.user_metadata.team, 'a');
    const { fragment, target } = await openLink((await mailTo(email, 'invite')).data.link);
    assert.deepEqual([fragment.type, target], ['invite', 'http://127.0.0.1:3000/welcome']);
    const client = api();
    await client.auth.setSession(fragment);
    assert.equal((await client.auth.updateUser({ password: 'heron-43' })).error, null);
    await signIn({ email, password: 'heron-43' });
    assert.deepEqual(
      await sql('select 1 from public.organizations where personal_for = $1', [data.user.id]),
      [],
      'they join that of others',
    );
    await refused(admin().auth.admin.inviteUserByEmail(email), 'email_exists', 422);
  });

  test('again before it is accepted: the last link counts', async () => {
    const email = newEmail('twice');
    await admin().auth.admin.inviteUserByEmail(email);
    const { data: first } = await mailTo(email, 'invite');
    assert.equal((await admin().auth.admin.inviteUserByEmail(email)).error, null);
    const { data: second } = await mailTo(email, 'invite');
    assert.equal((await openLink(first.link)).fragment.error_code, 'otp_expired');
    assert.ok((await openLink(second.link)).fragment.access_token);
  });
});
