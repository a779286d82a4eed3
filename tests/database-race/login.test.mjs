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
