// Wrong passwords: they lock the account against who guesses, known or not, and not against its owner.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { mailsTo, mailTo, openLink } from './auth_support.mjs';
import { adminSql, http, newEmail, newUser, sql } from './support.mjs';

const [{ lockout_attempts: ATTEMPTS, lockout_seconds: SECONDS }] = await sql(
  'select lockout_attempts, lockout_seconds from auth_api.settings',
);

// A device is a network and a program: another program is a device that has never signed in.
const signInFrom = (device, email, password) =>
  http('POST', '/auth/v1/token?grant_type=password', { body: { email, password }, headers: device ? { 'User-Agent': device } : {} });
const stranger = (email, password = 'not-the-password') => signInFrom('a stranger', email, password);
const owner = (email, password) => signInFrom(undefined, email, password);
const ask = (answer) => [answer.status, answer.body.code];

async function lockFrom(signIn, email) {
  for (let n = 0; n < ATTEMPTS; n += 1)
    assert.deepEqual(ask(await signIn(email, 'not-the-password')), [400, 'invalid_credentials'], `${n + 1}`);
}

// Where the wrong passwords of strangers are counted for the address $1.
const BUCKET = `encode(sha256(convert_to($1 || ' ', 'UTF8')), 'hex')`;
const expireLock = (email) =>
  adminSql(`update auth_api.password_failures set locked_until = kijko.now() - interval '1 second' where bucket = ${BUCKET}`, [email]);

describe('wrong passwords in a row', () => {
  test('lock the account for who guesses, also for the right password, and not for the device of its owner', async () => {
    const { email, password } = await newUser();
    await lockFrom(stranger, email);
    for (const guess of ['not-the-password', password]) {
      const answer = await stranger(email, guess);
      assert.deepEqual(ask(answer), [429, 'account_locked']);
      const wait = Number(answer.headers.get('retry-after'));
      assert.ok(wait > SECONDS - 60 && wait <= SECONDS, `${wait}`);
    }
    assert.equal((await signInFrom('another stranger', email, password)).status, 429, 'the count is of the account, not of the guesser');
    assert.equal((await owner(email, password)).status, 200);
    assert.equal((await stranger(email, password)).status, 429, 'a sign-in of the owner does not open it to others');
  });

  test('lock an address without an account alike, and send no mail', async () => {
    const [known, unknown] = [(await newUser()).email, newEmail('nobody')];
    const story = async (email) => {
      const answers = [];
      for (let n = 0; n <= ATTEMPTS; n += 1) {
        const { status, body, headers } = await stranger(email);
        answers.push([status, body, [...headers.keys()].sort()]);
      }
      return answers;
    };
    assert.deepEqual(await story(known), await story(unknown));
    assert.deepEqual(await mailsTo(unknown), []);
    assert.equal((await mailsTo(known)).length, 1);
  });

  test('on a device of the owner lock that device alone', async () => {
    const { email, password } = await newUser();
    assert.equal((await signInFrom('a second device', email, password)).status, 200);
    await lockFrom(owner, email);
    assert.deepEqual(ask(await owner(email, password)), [429, 'account_locked']);
    assert.equal((await signInFrom('a second device', email, password)).status, 200);
    assert.equal((await stranger(email, password)).status, 200);
  });

  test('are forgotten after the right one, and after a while', async () => {
    const { email, password } = await newUser();
    const fail = async (signIn, times) => {
      for (let n = 0; n < times; n += 1) assert.equal((await signIn(email, 'not-the-password')).body.code, 'invalid_credentials');
    };
    await fail(owner, ATTEMPTS - 1);
    assert.equal((await owner(email, password)).status, 200);
    await fail(owner, ATTEMPTS - 1);
    assert.equal((await owner(email, password)).status, 200);
    await fail(stranger, ATTEMPTS - 1);
    await adminSql(`update auth_api.password_failures set failed_at = failed_at - make_interval(secs => $2) where bucket = ${BUCKET}`, [
      email,
      SECONDS + 1,
    ]);
    await fail(stranger, ATTEMPTS - 1);
    assert.equal((await stranger(email, password)).status, 200);
  });

  test('that come at once are not all looked at', async () => {
    const { email } = await newUser();
    const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => stranger(email, `guess-${n}`)));
    const looked = answers.filter(({ body }) => body.code === 'invalid_credentials').length;
    assert.ok(looked <= ATTEMPTS, `${looked} guesses were looked at`);
    assert.ok(answers.every(({ status }) => status === 400 || status === 429));
  });

  test('the lock ends by itself', async () => {
    const { email, password } = await newUser();
    await lockFrom(stranger, email);
    assert.equal((await stranger(email, password)).status, 429);
    await expireLock(email);
    assert.equal((await stranger(email)).body.code, 'invalid_credentials', 'and the count begins anew');
    assert.equal((await stranger(email, password)).status, 200);
  });
});

describe('the owner of a locked account', () => {
  test('gets one mail, whose link unlocks it once', async () => {
    const { email, password } = await newUser();
    await lockFrom(stranger, email);
    for (let n = 0; n < 3; n += 1) await stranger(email);
    assert.deepEqual(
      (await mailsTo(email)).map(({ template }) => template),
      ['unlock'],
    );
    const { data } = await mailTo(email, 'unlock');
    const looked = await fetch(data.link, { method: 'HEAD', redirect: 'manual' });
    assert.equal(looked.status, 200);
    assert.equal((await stranger(email, password)).status, 429, 'HEAD uses nothing up');
    assert.equal((await openLink(data.link)).fragment.message, 'unlocked');
    assert.equal((await stranger(email, password)).status, 200);
    assert.equal((await openLink(data.link)).fragment.error_code, 'otp_expired');
  });

  test('can set a new password instead', async () => {
    const { email } = await newUser();
    await lockFrom(stranger, email);
    await http('POST', '/auth/v1/recover', { body: { email } });
    const { fragment } = await openLink((await mailTo(email, 'recovery')).data.link);
    await http('PUT', '/auth/v1/user', { token: fragment.access_token, body: { password: 'a-new-secret' } });
    assert.equal((await stranger(email, 'a-new-secret')).status, 200);
  });

  test('links that nobody sent unlock nothing', async () => {
    const { email, password } = await newUser();
    await lockFrom(stranger, email);
    const [{ unlock_hash }] = await adminSql(`select unlock_hash from auth_api.password_failures where bucket = ${BUCKET}`, [email]);
    const { data } = await mailTo(email, 'unlock');
    for (const token of ['', 'x', unlock_hash, `${data.token_hash}0`]) {
      const link = new URL(data.link);
      link.searchParams.set('token', token);
      assert.equal((await openLink(link)).fragment.error_code, 'otp_expired');
    }
    assert.equal((await stranger(email, password)).status, 429);
  });
});
