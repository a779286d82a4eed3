// Login as a frontend developer meets it: sign up, sign in, refresh, change the account, sign out.
// Hostile input is in auth_hostile.test.mjs, the service key's endpoints in auth_admin.test.mjs.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { admin, adminSql, api, env, http, newEmail, newUser, signIn, sql } from './support.mjs';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
const refresh = (token) => http('POST', '/auth/v1/token?grant_type=refresh_token', { body: { refresh_token: token } });
const passwordGrant = (email, password) => http('POST', '/auth/v1/token?grant_type=password', { body: { email, password } });

async function refused(promise, code, status) {
  const { error } = await promise;
  assert.ok(error, `expected ${code}, but it succeeded`);
  assert.equal(error.code, code);
  if (status) assert.equal(error.status, status);
  return error;
}

describe('sign up', () => {
  test('gives a session and a user as GoTrue shows them', async () => {
    const { session, user, email } = await newUser({ name: 'Ada', languages: ['nl', 'en'] });
    assert.match(user.id, UUID);
    assert.equal(user.email, email);
    assert.equal(user.aud, 'authenticated');
    assert.equal(user.role, 'authenticated');
    assert.equal(user.is_anonymous, false);
    assert.deepEqual(user.app_metadata, { provider: 'email', providers: ['email'] });
    assert.deepEqual(user.user_metadata, { name: 'Ada', languages: ['nl', 'en'], email_verified: true });
    assert.ok(Math.abs(Date.parse(user.created_at) - Date.parse(user.email_confirmed_at)) < 1000);
    assert.equal(user.identities.length, 1);
    assert.equal(user.identities[0].provider, 'email');
    assert.equal(user.identities[0].identity_data.email, email);
    assert.equal(user.encrypted_password, undefined);

    assert.equal(session.token_type, 'bearer');
    assert.equal(session.expires_in, 3600);
    const claims = claimsOf(session.access_token);
    assert.equal(claims.exp, session.expires_at);
    assert.equal(claims.exp - claims.iat, 3600);
    assert.ok(Math.abs(claims.iat - Date.now() / 1000) < 60, 'tokens run by the real clock');
    assert.equal(claims.sub, user.id);
    assert.equal(claims.aud, 'authenticated');
    assert.equal(claims.role, 'authenticated');
    assert.equal(claims.email, email);
    assert.equal(claims.aal, 'aal1');
    assert.equal(claims.amr[0].method, 'password');
    assert.match(claims.session_id, UUID);
    assert.match(claims.iss, /\/auth\/v1$/);
  });

  test('the token verifies against the published keys alone', async () => {
    const { client, user } = await newUser();
    const { data, error } = await client.auth.getClaims();
    assert.equal(error, null);
    assert.equal(data.header.alg, 'RS256');
    assert.equal(data.claims.sub, user.id);
    const { body, headers } = await http('GET', '/auth/v1/.well-known/jwks.json');
    assert.ok(body.keys.some((key) => key.kid === data.header.kid));
    const secret = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k'];
    assert.ok(
      body.keys.every((key) => key.kty === 'RSA' && secret.every((name) => key[name] === undefined)),
      'only public keys',
    );
    assert.match(headers.get('cache-control'), /max-age/);
  });

  test('trims the address and lowers its case', async () => {
    const email = newEmail('mixed');
    const { data } = await api().auth.signUp({ email: `  ${email.toUpperCase()} `, password: 'secret1' });
    assert.equal(data.user.email, email);
    await signIn({ email: email.toUpperCase(), password: 'secret1' });
  });

  test('refuses an address that is taken, in any case', async () => {
    const { email } = await newUser();
    await refused(api().auth.signUp({ email, password: 'secret1' }), 'user_already_exists', 422);
    await refused(api().auth.signUp({ email: email.toUpperCase(), password: 'secret1' }), 'user_already_exists', 422);
  });

  test('of two sign-ups with one address at the same moment one wins', async () => {
    const email = newEmail('race');
    const answers = await Promise.all([1, 2, 3, 4].map((n) => api().auth.signUp({ email, password: `secret${n}` })));
    assert.equal(answers.filter((answer) => answer.data.session).length, 1);
    assert.deepEqual(
      answers.filter((answer) => answer.error).map((answer) => answer.error.code),
      Array(3).fill('user_already_exists'),
    );
    const [{ count }] = await sql('select count(*)::int from auth.users where email = $1', [email]);
    assert.equal(count, 1);
  });

  test('refuses a weak password with its reasons', async () => {
    const error = await refused(api().auth.signUp({ email: newEmail(), password: '12345' }), 'weak_password', 422);
    assert.deepEqual(error.reasons, ['length']);
  });

  test('takes 72 bytes of password and not one more, at sign-in too', async () => {
    const email = newEmail('long');
    const longest = 'ä'.repeat(36);
    await refused(api().auth.signUp({ email, password: `${longest}x` }), 'validation_failed', 400);
    await api().auth.signUp({ email, password: longest });
    await signIn({ email, password: longest });
    await refused(api().auth.signInWithPassword({ email, password: `${longest}x` }), 'invalid_credentials', 400);
  });

  test('keeps unicode in passwords and metadata', async () => {
    const email = newEmail('unicode');
    const password = 'wachtwoord – 密码 🔑';
    const { data } = await api().auth.signUp({ email, password, options: { data: { naam: 'Zoë 🦊', none: null } } });
    assert.equal(data.user.user_metadata.naam, 'Zoë 🦊');
    assert.equal(data.user.user_metadata.none, null);
    const again = await signIn({ email, password });
    assert.equal(claimsOf(again.session.access_token).user_metadata.naam, 'Zoë 🦊');
  });

  test('stores a bcrypt hash that GoTrue accepts, and no null where GoTrue cannot read one', async () => {
    const { user } = await newUser();
    const [row] = await sql('select * from auth.users where id = $1', [user.id]);
    assert.match(row.encrypted_password, /^\$2a\$10\$[./A-Za-z0-9]{53}$/);
    assert.equal(row.instance_id, '00000000-0000-0000-0000-000000000000');
    for (const column of [
      'confirmation_token',
      'recovery_token',
      'email_change',
      'email_change_token_new',
      'email_change_token_current',
      'phone_change',
      'phone_change_token',
      'reauthentication_token',
    ]) {
      assert.equal(row[column], '', column);
    }
  });
});

describe('sign in', () => {
  test('works, and the next session is another one', async () => {
    const first = await newUser();
    const second = await signIn(first);
    assert.equal(second.user.id, first.user.id);
    assert.notEqual(claimsOf(second.session.access_token).session_id, claimsOf(first.session.access_token).session_id);
    assert.ok(Date.parse(second.user.last_sign_in_at) >= Date.parse(first.user.last_sign_in_at));
  });

  test('a wrong password and an unknown address get the same answer', async () => {
    const { email } = await newUser();
    const wrong = await passwordGrant(email, 'not-the-password');
    const unknown = await passwordGrant(newEmail('nobody'), 'not-the-password');
    assert.equal(wrong.status, 400);
    assert.equal(wrong.body.code, 'invalid_credentials');
    assert.deepEqual(unknown.body, wrong.body);
    assert.equal(unknown.status, wrong.status);
  });

  test('an unknown address takes as long as a wrong password', async () => {
    const { email } = await newUser();
    const times = { wrong: [], unknown: [] };
    for (let round = 0; round < 7; round += 1) {
      for (const [kind, address] of [
        ['wrong', email],
        ['unknown', newEmail('nobody')],
      ]) {
        const start = performance.now();
        await passwordGrant(address, 'not-the-password');
        times[kind].push(performance.now() - start);
      }
    }
    const median = (list) => list.toSorted((a, b) => a - b)[3];
    // Without the hash for nobody the unknown address would answer in a tenth of the time.
    assert.ok(median(times.unknown) > median(times.wrong) / 2, JSON.stringify(times));
  });

  test('an account is closed for a while after too many attempts from one address, the others stay open', async () => {
    const guessed = await newUser();
    const other = await newUser();
    const [{ attempts }] = await sql('select attempts_per_5_minutes as attempts from auth_api.settings');
    let limited;
    for (let attempt = 0; attempt <= attempts && !limited; attempt += 1) {
      const answer = await passwordGrant(guessed.email, `guess-${attempt}`);
      if (answer.status === 429) limited = answer;
      else assert.equal(answer.body.code, 'invalid_credentials');
    }
    assert.ok(limited, `no 429 in ${attempts + 1} attempts`);
    assert.equal(limited.body.code, 'over_request_rate_limit');
    assert.ok(Number(limited.headers.get('retry-after')) >= 1);
    await refused(api().auth.signInWithPassword(guessed), 'over_request_rate_limit', 429);
    await signIn(other);
  });

  test('a client cannot count as another address', async () => {
    const { email, password } = await newUser();
    const spoofed = api({ 'X-Forwarded-For': '203.0.113.7', 'X-Real-IP': '203.0.113.7' });
    const { data } = await spoofed.auth.signInWithPassword({ email, password });
    const [{ ip }] = await sql('select host(ip) as ip from auth.sessions where id = $1', [claimsOf(data.session.access_token).session_id]);
    assert.notEqual(ip, '203.0.113.7');
    assert.match(ip, /^127\.0\.0\.1$|^::1$/);
  });
});

describe('refresh', () => {
  test('gives new tokens of the same session', async () => {
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

  test('at the same moment all get the same new token, and one is active', async () => {
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

  test('a client that lost the answer gets it again, also later', async () => {
    const { session } = await newUser();
    const first = await refresh(session.refresh_token);
    await sql(`update auth.refresh_tokens set updated_at = updated_at - interval '1 hour' where token = $1`, [session.refresh_token]);
    const again = await refresh(session.refresh_token);
    assert.equal(again.status, 200);
    assert.equal(again.body.refresh_token, first.body.refresh_token);
  });

  test('a used token ends the whole session, once its interval is over', async () => {
    const { client, session } = await newUser();
    const second = await refresh(session.refresh_token);
    const third = await refresh(second.body.refresh_token);

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
    for (const token of ['abcdefghijkl', 'x', `v1.local.${'A'.repeat(500)}`]) {
      const answer = await refresh(token);
      assert.equal(answer.status, 400);
      assert.equal(answer.body.code, 'refresh_token_not_found');
    }
    const empty = await refresh('');
    assert.equal(empty.status, 400);
    assert.equal(empty.body.code, 'validation_failed');
  });

  test('refuses when the session has ended by time', async () => {
    const { client, session } = await newUser();
    await sql(`update auth.sessions set not_after = now() - interval '1 second' where id = $1`, [
      claimsOf(session.access_token).session_id,
    ]);
    await refused(client.auth.refreshSession(), 'session_expired', 400);
  });
});

describe('the account', () => {
  test('getUser shows the user of the token', async () => {
    const { client, user, email } = await newUser();
    const { data } = await client.auth.getUser();
    assert.equal(data.user.id, user.id);
    assert.equal(data.user.email, email);
  });

  test('a new password ends the other sessions and keeps this one', async () => {
    const account = await newUser();
    const other = await signIn(account);
    await refused(account.client.auth.updateUser({ password: account.password }), 'same_password', 422);
    await refused(account.client.auth.updateUser({ password: '123' }), 'weak_password', 422);
    const { error } = await account.client.auth.updateUser({ password: 'another-secret' });
    assert.equal(error, null);
    assert.equal((await account.client.auth.getUser()).data.user.id, account.user.id);
    assert.equal((await other.client.auth.getUser()).error.name, 'AuthSessionMissingError');
    await refused(api().auth.signInWithPassword(account), 'invalid_credentials', 400);
    await signIn({ email: account.email, password: 'another-secret' });
  });

  test('metadata is merged, and null takes a key away', async () => {
    const { client } = await newUser({ keep: 1, drop: 2 });
    const { data } = await client.auth.updateUser({ data: { drop: null, add: { deep: [true] } } });
    assert.deepEqual(data.user.user_metadata, { keep: 1, add: { deep: [true] }, email_verified: true });
  });

  test('metadata does not grow beyond what a token can carry', async () => {
    const { client } = await newUser();
    const filler = 'x'.repeat(20_000);
    assert.equal((await client.auth.updateUser({ data: { first: filler } })).error, null);
    await refused(client.auth.updateUser({ data: { second: filler } }), 'validation_failed', 422);
    const { data } = await client.auth.refreshSession();
    assert.equal((await http('GET', '/rest/v1/profiles?select=id', { token: data.session.access_token })).status, 200);
    assert.equal(data.user.user_metadata.second, undefined);
  });

  test('a new address holds at once, unless it is taken', async () => {
    const account = await newUser();
    const neighbour = await newUser();
    await refused(account.client.auth.updateUser({ email: neighbour.email }), 'email_exists', 422);
    const email = newEmail('moved');
    const { data } = await account.client.auth.updateUser({ email });
    assert.equal(data.user.email, email);
    assert.equal(data.user.identities[0].email, email);
    await signIn({ email, password: account.password });
    await refused(api().auth.signInWithPassword(account), 'invalid_credentials', 400);
  });

  test('nobody writes their own app_metadata', async () => {
    const { session } = await newUser();
    const answer = await http('PUT', '/auth/v1/user', { token: session.access_token, body: { app_metadata: { admin: true } } });
    assert.equal(answer.status, 403);
    assert.equal(answer.body.code, 'not_admin');
    const escalated = await http('PUT', '/auth/v1/user', {
      token: session.access_token,
      body: { role: 'service_role', aud: 'x', data: { role: 'service_role' } },
    });
    assert.equal(escalated.status, 200);
    assert.equal(escalated.body.role, 'authenticated');
  });
});

describe('sign out', () => {
  const stillIn = async ({ client }) => !(await client.auth.getUser()).error;
  const restStatus = async ({ session }) => (await http('GET', '/rest/v1/profiles', { token: session.access_token })).status;

  test('local ends this session alone, for login and for the API', async () => {
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

  test('others ends the others', async () => {
    const here = await newUser();
    const there = await signIn(here);
    await here.client.auth.signOut({ scope: 'others' });
    assert.equal(await stillIn(here), true);
    assert.equal(await restStatus(here), 200);
    assert.equal(await stillIn(there), false);
    assert.equal(await restStatus(there), 401);
  });

  test('global ends all of this user and none of anybody else', async () => {
    const here = await newUser();
    const there = await signIn(here);
    const stranger = await newUser();
    await here.client.auth.signOut();
    assert.equal(await restStatus(here), 401);
    assert.equal(await restStatus(there), 401);
    assert.equal(await stillIn(stranger), true);
    assert.equal(await restStatus(stranger), 200);
  });

  test('an unknown scope ends nothing', async () => {
    const { client, session } = await newUser();
    const answer = await http('POST', '/auth/v1/logout?scope=everything', { token: session.access_token });
    assert.equal(answer.status, 400);
    assert.equal(answer.body.code, 'validation_failed');
    assert.equal(await stillIn({ client }), true);
  });
});

describe('the schema', () => {
  test("is GoTrue's, column by column, so that users can be moved", async () => {
    const wanted = JSON.parse(await readFile(new URL('gotrue_columns.json', import.meta.url)));
    const rows = await sql(
      `
      select c.relname as table, a.attname as column,
        format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end || case when a.attgenerated <> '' then ' generated' else '' end as type
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'auth'::regnamespace and c.relname = any ($1) and a.attnum > 0 and not a.attisdropped`,
      [Object.keys(wanted)],
    );
    const found = {};
    for (const row of rows) (found[row.table] ??= {})[row.column] = row.type;
    assert.deepEqual(found, wanted);
  });

  test('no API role reads a table of it, and the API does not serve it', async () => {
    const rows = await sql(`
      select r.rolname, c.relname, p.privilege
      from pg_class c
      cross join unnest(array['anon', 'authenticated', 'service_role', 'authenticator', 'kijko_sidecar', 'kijko_login', 'kijko_login_anon']) as r (rolname)
      cross join unnest(array['select', 'insert', 'update', 'delete']) as p (privilege)
      where c.relnamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and c.relkind = 'r' and has_table_privilege(r.rolname, c.oid, p.privilege)`);
    assert.deepEqual(rows, []);
    for (const token of [env.ANON_KEY, env.SERVICE_ROLE_KEY]) {
      const answer = await http('GET', '/rest/v1/users', { token, headers: { 'Accept-Profile': 'auth' } });
      assert.equal(answer.status, 406);
    }
  });

  test('the login role may call one function of it', async () => {
    const rows = await sql(`
      select p.proname from pg_proc p
      where p.pronamespace = 'auth_api'::regnamespace and has_function_privilege('kijko_login_anon', p.oid, 'execute')`);
    assert.deepEqual(rows, [{ proname: 'handle' }]);
  });

  test("claims that a plain SQL session sets are nobody's", async () => {
    const { user } = await newUser();
    const claims = JSON.stringify({ sub: user.id, role: 'service_role', email: 'x@example.com' });
    const [row] = await sql(
      `
      select auth.uid() as uid, auth.role() as role, auth.email() as email, auth.jwt() as jwt
      from (select set_config('request.jwt.claims', $1, false) offset 0) as forged`,
      [claims],
    );
    assert.deepEqual(row, { uid: null, role: null, email: null, jwt: null });
  });

  test('nothing in it is owned by a superuser', async () => {
    const rows = await adminSql(`
      select p.oid::regprocedure::text from pg_proc p join pg_roles r on r.oid = p.proowner
      where p.pronamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and r.rolsuper`);
    assert.deepEqual(rows, []);
  });

  test('everything in it says what it is for', async () => {
    const rows = await sql(`
      select 'function ' || p.oid::regprocedure as what from pg_proc p
      where p.pronamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and obj_description(p.oid, 'pg_proc') is null
      union all
      select 'column ' || c.oid::regclass || '.' || a.attname
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relnamespace in ('auth'::regnamespace, 'auth_api'::regnamespace) and c.relkind = 'r' and col_description(c.oid, a.attnum) is null`);
    assert.deepEqual(rows, []);
  });
});

describe('settings', () => {
  test('say that addresses and passwords are the way in', async () => {
    const { status, body } = await http('GET', '/auth/v1/settings');
    assert.equal(status, 200);
    assert.equal(body.external.email, true);
    assert.equal(body.external.google, false);
    assert.equal(body.mailer_autoconfirm, true);
    assert.equal((await http('GET', '/auth/v1/health')).status, 200);
  });

  test('the service key is no user', async () => {
    const { error } = await admin().auth.getUser(env.SERVICE_ROLE_KEY);
    assert.equal(error.code, 'bad_jwt');
  });
});
