// Signing in while the user is banned or deleted. The login functions are called as the superuser; what HTTP adds is not the subject.
//   ADMIN_DB_URL=… node --test tests/database-race/*.test.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, newUser, one, waiting } from './sessions.mjs';

const SIGN_IN = `select auth_api.open_session(u, 'password') as answer from auth.users as u where u.id = $1`;
const BAN = `update auth.users set banned_until = now() + interval '1 hour' where id = $1`;
const DELETE = `update auth.users set email = 'gone ' || id, deleted_at = now() where id = $1`;

for (const [what, change] of [
  ['banned', BAN],
  ['softly deleted', DELETE],
]) {
  test(`a user who signs in while being ${what} waits and gets no session`, async () => {
    const { user } = await newUser();
    const [changing, signing] = [await begin(), await begin()];
    await changing.run(change, [user]);
    const late = signing.run(SIGN_IN, [user]);
    await waiting(signing);
    await changing.commit();
    assert.deepEqual(await late, { refused: 'KJA01' });
    await signing.commit();
    assert.equal((await one('select count(*)::int as n from auth.sessions where user_id = $1', [user])).n, 0);
  });

  test(`the session of a user who signed in just before being ${what} ends at once`, async () => {
    const { user } = await newUser();
    const [changing, signing] = [await begin(), await begin()];
    assert.ok((await signing.run(SIGN_IN, [user])).answer.access_token);
    const late = changing.run(change, [user]);
    await waiting(changing);
    await signing.commit();
    assert.deepEqual(await late, {});
    await changing.commit();
    const { n } = await one(
      `select count(*)::int as n from auth.sessions as s where s.user_id = $1
       and not exists (select 1 from kijko.revoked_sessions as r where r.session_id = s.id and r.expires_at > now())`,
      [user],
    );
    assert.equal(n, 0, 'no session counts');
  });
}

const ISSUE = `select i.token from auth.users as u, auth_api.issue_token(auth_api.lock_user(u.id), 'recovery_token', u.email) as i where u.id = $1`;
const USE = 'select (used.token).id as used from auth_api.use_token($1) as used';
const issue = async (user) => {
  const { token } = await one(ISSUE, [user]);
  return one('select id from auth.one_time_tokens where token_hash = auth_api.token_hash($1)', [token]);
};

test('of two requests with one link, one gets the token', async () => {
  const { user } = await newUser();
  const { id } = await issue(user);
  const [first, second] = [await begin(), await begin()];
  assert.equal((await first.run(USE, [id])).used, id);
  const late = second.run(USE, [id]);
  await waiting(second);
  await first.commit();
  assert.equal((await late).used, null);
  await second.commit();
});

test('a link whose first use is rolled back can be used by the request that waited', async () => {
  const { user } = await newUser();
  const { id } = await issue(user);
  const [first, second] = [await begin(), await begin()];
  await first.run(USE, [id]);
  const late = second.run(USE, [id]);
  await waiting(second);
  await first.run('rollback');
  assert.equal((await late).used, id);
  await second.commit();
  await first.commit();
});

test('a link that is used while another mail is sent: one order or the other, and no deadlock', async () => {
  const { user } = await newUser();
  const { id } = await issue(user);
  const [sending, using] = [await begin(), await begin()];
  assert.ok((await sending.run(ISSUE, [user])).token);
  const late = using.run(USE, [id]);
  await waiting(using);
  await sending.commit();
  assert.equal((await late).used, null, 'the former link is void');
  await using.commit();
  assert.equal((await one('select count(*)::int as n from auth.one_time_tokens where user_id = $1', [user])).n, 1);
});

test('wrong codes that come at once are each counted', async () => {
  const { user } = await newUser();
  const { id } = await issue(user);
  const guess = `select auth_api.token_of_code(u.email, '{recovery_token}', 'wrong') as id from auth.users as u where u.id = $1`;
  const sessions = await Promise.all([begin(), begin(), begin()]);
  await Promise.all(
    sessions.map(async (session) => {
      assert.equal((await session.run(guess, [user])).id, null);
      await session.commit();
    }),
  );
  assert.equal((await one('select attempts from auth_api.code_attempts where subject = $1', [id])).attempts, 3);
});

test('of two exchanges of one PKCE code, one gets a session', async () => {
  const { user } = await newUser();
  const verifier = 'v'.repeat(50);
  await one(
    `insert into auth.flow_state (id, user_id, auth_code, code_challenge_method, code_challenge, provider_type, authentication_method, auth_code_issued_at)
     values (gen_random_uuid(), $1::uuid, $1::uuid::text, 'plain', $2, 'email', 'magiclink', kijko.now()) returning id`,
    [user, verifier],
  );
  const exchange = 'select auth_api.pkce_grant($1) as answer';
  const body = [JSON.stringify({ auth_code: user, code_verifier: verifier })];
  const [first, second] = [await begin(), await begin()];
  assert.ok((await first.run(exchange, body)).answer.access_token);
  const late = second.run(exchange, body);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: 'KJA01' });
  await second.commit();
  assert.equal((await one('select count(*)::int as n from auth.sessions where user_id = $1', [user])).n, 1);
});

test('two refreshes with one token continue one chain', async () => {
  const { user } = await newUser();
  const { answer } = await one(SIGN_IN, [user]);
  const refresh = 'select auth_api.refresh_session($1) as answer';
  const [first, second] = [await begin(), await begin()];
  const early = (await first.run(refresh, [answer.refresh_token])).answer;
  const late = second.run(refresh, [answer.refresh_token]);
  await waiting(second);
  await first.commit();
  assert.equal((await late).answer.refresh_token, early.refresh_token);
  await second.commit();
  const { active } = await one('select count(*)::int as active from auth.refresh_tokens where user_id = $1::text and not revoked', [user]);
  assert.equal(active, 1);
});

test('a refresh while a link is used: one waits for the other, and no deadlock', async () => {
  const { user } = await newUser();
  const { answer } = await one(SIGN_IN, [user]);
  const { id } = await issue(user);
  const [refreshing, using] = [await begin(), await begin()];
  assert.ok((await refreshing.run('select auth_api.refresh_session($1) as answer', [answer.refresh_token])).answer.access_token);
  const late = using.run(USE, [id]);
  await waiting(using);
  await refreshing.commit();
  assert.equal((await late).used, id);
  await using.commit();
});
