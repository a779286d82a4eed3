// A session from its first token to its end: refresh and sign-out.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { claimsOf, refresh, refused } from './auth_support.mjs';
import { http, newUser, signIn, sql } from './support.mjs';

describe('refresh', () => {
  test('returns new tokens of the same session', async () => {
    const { client, session, user } = await newUser();
    const { data, error } = await client.auth.refreshSession();
    assert.equal(error, null);
    assert.notEqual(data.session.refresh_token, session.refresh_token);
    assert.equal(data.user.id, user.id);
    const [before, now] = [claimsOf(session.access_token), claimsOf(data.session.access_token)];
    assert.equal(now.session_id, before.session_id);
    assert.deepEqual(now.amr, before.amr, 'a refresh does not forget how the user signed in');
    assert.equal((await client.auth.getUser()).data.user.id, user.id);
  });

  test('concurrent refreshes get the same new token, and one is active', async () => {
    const { session } = await newUser();
    const answers = await Promise.all(Array.from({ length: 6 }, () => refresh(session.refresh_token)));
    assert.deepEqual(
      answers.map((answer) => answer.status),
      Array(6).fill(200),
    );
    assert.equal(new Set(answers.map((answer) => answer.body.refresh_token)).size, 1);
    const [{ active }] = await sql('select count(*)::int as active from auth.refresh_tokens where session_id = $1 and not revoked', [
      claimsOf(session.access_token).session_id,
    ]);
    assert.equal(active, 1);
  });

  test('a client that lost the response gets the same tokens again, also later', async () => {
    const { session } = await newUser();
    const first = await refresh(session.refresh_token);
    await sql(`update auth.refresh_tokens set updated_at = updated_at - interval '1 hour' where token = $1`, [session.refresh_token]);
    const again = await refresh(session.refresh_token);
    assert.equal(again.status, 200);
    assert.equal(again.body.refresh_token, first.body.refresh_token);
  });

  test('reusing a token after the reuse interval ends the whole session', async () => {
    const { client, session } = await newUser();
    const second = await refresh(session.refresh_token);
    const third = await refresh(second.body.refresh_token);

    await sql('update auth.refresh_tokens set updated_at = clock_timestamp() where token = $1', [session.refresh_token]);
    const within = await refresh(session.refresh_token);
    assert.equal(within.body.refresh_token, third.body.refresh_token);

    await sql(`update auth.refresh_tokens set updated_at = updated_at - interval '1 hour' where token = $1`, [session.refresh_token]);
    const stolen = await refresh(session.refresh_token);
    assert.equal(stolen.status, 400);
    assert.equal(stolen.body.code, 'refresh_token_already_used');

    const rightful = await refresh(third.body.refresh_token);
    assert.equal(rightful.status, 400);
    assert.equal(rightful.body.code, 'refresh_token_not_found');
    const { error } = await client.auth.getUser(third.body.access_token);
    assert.equal(error.name, 'AuthSessionMissingError');
    const rest = await http('GET', '/rest/v1/profiles', { token: third.body.access_token });
    assert.equal(rest.status, 401);
    assert.equal(rest.body.code, 'not_identified');
  });

  test('refuses tokens it did not issue', async () => {
    for (const [token, code] of [
      ['abcdefghijkl', 'refresh_token_not_found'],
      ['x', 'validation_failed'],
      [`v1.local.${'A'.repeat(500)}`, 'validation_failed'],
      ['', 'validation_failed'],
    ]) {
      const answer = await refresh(token);
      assert.deepEqual([answer.status, answer.body.code], [400, code], token);
    }
  });

  test('refuses when the session was not refreshed for a week', async () => {
    const { client, session } = await newUser();
    const id = claimsOf(session.access_token).session_id;
    await sql(`update auth.sessions set created_at = created_at - interval '6 days 23 hours' where id = $1`, [id]);
    assert.equal((await client.auth.refreshSession()).error, null);
    await sql(`update auth.sessions set refreshed_at = refreshed_at - interval '6 days 23 hours' where id = $1`, [id]);
    assert.equal((await client.auth.refreshSession()).error, null, 'each refresh begins the week anew');
    await sql(`update auth.sessions set refreshed_at = refreshed_at - interval '7 days 1 second' where id = $1`, [id]);
    await refused(client.auth.refreshSession(), 'session_expired', 400);
  });

  test('refuses when the session has ended by time', async () => {
    const { client, session } = await newUser();
    await sql(`update auth.sessions set not_after = now() - interval '1 second' where id = $1`, [
      claimsOf(session.access_token).session_id,
    ]);
    await refused(client.auth.refreshSession(), 'session_expired', 400);
  });
});

describe('sign out', () => {
  const stillIn = async ({ client }) => !(await client.auth.getUser()).error;
  const restStatus = async ({ session }) => (await http('GET', '/rest/v1/profiles', { token: session.access_token })).status;

  test('local ends only this session, for login and for the API', async () => {
    const here = await newUser();
    const there = await signIn(here);
    assert.equal(await restStatus(here), 200);
    const { error } = await here.client.auth.signOut({ scope: 'local' });
    assert.equal(error, null);
    const rest = await http('GET', '/rest/v1/profiles', { token: here.session.access_token });
    assert.equal(rest.status, 401);
    assert.equal(rest.body.code, 'not_identified');
    const refreshed = await refresh(here.session.refresh_token);
    assert.equal(refreshed.body.code, 'refresh_token_not_found');
    assert.equal((await http('GET', '/auth/v1/user', { token: here.session.access_token })).body.code, 'session_not_found');
    assert.equal(await stillIn(there), true);
    assert.equal(await restStatus(there), 200);
  });

  test('others ends all other sessions', async () => {
    const here = await newUser();
    const there = await signIn(here);
    await here.client.auth.signOut({ scope: 'others' });
    assert.equal(await stillIn(here), true);
    assert.equal(await restStatus(here), 200);
    assert.equal(await stillIn(there), false);
    assert.equal(await restStatus(there), 401);
  });

  test('global ends all sessions of this user and of no other', async () => {
    const here = await newUser();
    const there = await signIn(here);
    const other = await newUser();
    await here.client.auth.signOut();
    assert.equal(await restStatus(here), 401);
    assert.equal(await restStatus(there), 401);
    assert.equal(await stillIn(other), true);
    assert.equal(await restStatus(other), 200);
  });

  test('an unknown scope ends nothing', async () => {
    const { client, session } = await newUser();
    const answer = await http('POST', '/auth/v1/logout?scope=everything', { token: session.access_token });
    assert.equal(answer.status, 400);
    assert.equal(answer.body.code, 'validation_failed');
    assert.equal(await stillIn({ client }), true);
  });
});
