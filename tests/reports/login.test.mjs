// Reports about login: addresses, passwords, links, codes, sessions, and accounts that go.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  answerFactor,
  claimsOf,
  codeOf,
  enroll,
  mailsTo,
  mailTo,
  openLink,
  passwordGrant,
  pkceClient,
  pkceGrant,
  refresh,
  refused,
} from '../journeys/auth_support.mjs';
import { newPerson, newTeam, ok } from '../journeys/domain.mjs';
import { read, tenantBucket } from '../journeys/storage_support.mjs';
import { admin, api, env, http, newEmail, newUser, signIn, sql } from '../journeys/support.mjs';
import { report } from './report.mjs';

const usersLike = (pattern) => sql('select id, email from auth.users where email ilike $1', [pattern]);

report('login-1', 'capitals in an address make no second account, at any endpoint', async () => {
  const name = randomUUID();
  const password = 'heron-42-heron';
  const typed = `Jason-${name}@Example.COM`;
  assert.equal((await api().auth.signUp({ email: typed, password })).error, null);
  await refused(api().auth.signUp({ email: typed.toLowerCase(), password }), 'user_already_exists', 422);
  assert.equal((await signIn({ email: typed.toUpperCase(), password })).user.email, typed.toLowerCase());
  await api().auth.signInWithOtp({ email: typed.toUpperCase() });
  await api().auth.resetPasswordForEmail(typed);
  await refused(admin().auth.admin.createUser({ email: typed, password }), 'email_exists', 422);
  assert.equal((await usersLike(`jason-${name}@%`)).length, 1);
});

report('login-2', 'an address with a letter that looks like another, or folds to it, gets no mail of the other account', async () => {
  // The Kelvin sign and the long s fold to k and s, the dotless i has the capital I.
  const name = randomBytes(8).toString('hex');
  const email = `kis-${name}@example.com`;
  assert.equal((await api().auth.signUp({ email, password: 'heron-42-heron' })).error, null);
  for (const typed of [
    `\u212Ais-${name}@example.com`,
    `ki\u017F-${name}@example.com`,
    `k\u0131s-${name}@example.com`,
    `kis-${name}@\uFF45xample.com`,
  ]) {
    await http('POST', '/auth/v1/recover', { body: { email: typed } });
    await http('POST', '/auth/v1/otp', { body: { email: typed, create_user: false } });
    const mails = await sql('select recipient from private.mail_messages where recipient ilike $1', [`%${name}%`]);
    for (const { recipient } of mails) assert.equal(recipient, email, `${JSON.stringify(typed)} got a mail`);
    const answer = await passwordGrant(typed, 'heron-42-heron');
    assert.notEqual(answer.body.user?.email, email, `${JSON.stringify(typed)} signed in`);
  }
  assert.equal((await usersLike(`%${name}%`)).length, 1);
  const inviter = await newPerson('PRO');
  await ok(inviter.client.rpc('invite_member', { email: `\u212Ais-${name}@example.com`, role: 'viewer' }));
  const invited = await sql('select email from public.invitations where org_id = $1', [inviter.orgId]);
  assert.deepEqual(invited, [{ email: `\u212Ais-${name}@example.com` }], 'an invitation keeps the letters, too');
});

report('login-3', 'a password is refused beyond the 72 bytes that bcrypt sees, counted in bytes', async () => {
  const email = newEmail();
  const letters = 'éèêëàáâãäåçìíîïñòóôõöùúûüýÿæøßðþšžāē';
  assert.equal(Buffer.byteLength(letters), 72);
  for (const password of [randomBytes(37).toString('hex').slice(0, 73), `${letters}x`])
    await refused(api().auth.signUp({ email, password }), 'validation_failed', 400);
  const password = letters;
  assert.equal((await api().auth.signUp({ email, password })).error, null);
  const longer = await passwordGrant(email, `${password}x`);
  assert.deepEqual([longer.status, longer.body.code], [400, 'invalid_credentials']);
  assert.equal((await passwordGrant(email, password)).status, 200);
});

report('login-4', 'tabs that refresh at the same moment all stay signed in, with one session', async () => {
  const { session } = await newUser();
  const answers = await Promise.all(Array.from({ length: 8 }, () => refresh(session.refresh_token)));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  const id = claimsOf(session.access_token).session_id;
  assert.deepEqual([...new Set(answers.map(({ body }) => claimsOf(body.access_token).session_id))], [id]);
  for (const { body } of answers) assert.equal((await http('GET', '/auth/v1/user', { token: body.access_token })).status, 200);
  assert.equal((await refresh(answers.at(-1).body.refresh_token)).status, 200, 'the last of them goes on');
});

report('login-5', 'a mail program that looks at a link by HEAD or OPTIONS leaves it good', async () => {
  const { email, user } = await newUser();
  await api().auth.signInWithOtp({ email });
  const { data: mail } = await mailTo(email, 'magic_link');
  for (const method of ['HEAD', 'OPTIONS']) await fetch(mail.link, { method, redirect: 'manual' });
  const { fragment } = await openLink(mail.link);
  assert.equal(claimsOf(fragment.access_token ?? '..').sub, user.id, JSON.stringify(fragment));
});

report('login-6', 'a link leads to no address that only resembles an allowed one', async () => {
  const { email } = await newUser();
  const site = (await admin().auth.admin.generateLink({ type: 'magiclink', email })).data.properties.redirect_to;
  for (const target of [
    `${site}@evil.example`,
    `${site}.evil.example/`,
    'http://127.0.0.1:3000@evil.example/',
    'http://127.0.0.1:3000\\@evil.example/',
    'http://evil.example\\@127.0.0.1/',
    'http://evil.example#@127.0.0.1/',
    'http://127.0.0.1.evil.example/',
    'http://127.0.0.1%2f@evil.example/',
    '//evil.example/',
    '/\\evil.example/',
    'http:evil.example',
    'http:///evil.example/',
    ' http://evil.example/',
    'http://evil.example/\thttp://127.0.0.1/',
    'javascript:alert(1)//http://127.0.0.1/',
    'data:text/html,<script>alert(1)</script>',
    'http://127.0.0.1\r\nLocation: http://evil.example/',
  ]) {
    const { data } = await admin().auth.admin.generateLink({ type: 'magiclink', email, options: { redirectTo: target } });
    assert.equal(data.properties.redirect_to, site, JSON.stringify(target));
    // The link of the mail carries its target in the open: it can be changed on its way.
    const link = new URL(data.properties.action_link);
    link.searchParams.set('redirect_to', target);
    const answer = await fetch(link, { redirect: 'manual' });
    const arrives = new URL(answer.headers.get('location'), env.API_URL);
    assert.equal(arrives.host, new URL(site).host, `${JSON.stringify(target)} leads to ${arrives.href}`);
  }
});

report('login-7', 'an account whose user has uploaded files can be deleted, and the files stay with the organization', async () => {
  const team = await newTeam();
  const bucket = await tenantBucket();
  const name = `${team.orgId}/report.txt`;
  assert.equal((await team.member.client.storage.from(bucket).upload(name, 'kept')).error, null);
  assert.equal((await admin().auth.admin.deleteUser(team.member.user.id)).error, null);
  assert.equal(await read(team.owner.client.storage.from(bucket), name), 'kept');
  const gone = await http('GET', `/storage/v1/object/authenticated/${bucket}/${name}`, { token: team.member.token });
  assert.equal(gone.status, 400, 'the access token of the deleted user reads nothing');
});

report('login-8', 'codes cannot be guessed one by one, by asking for new ones, or for many people with one code', async () => {
  const people = await Promise.all([newUser(), newUser()]);
  const verify = (email, token) => http('POST', '/auth/v1/verify', { body: { type: 'email', email, token } });
  await api().auth.signInWithOtp({ email: people[0].email });
  const { data: mail } = await mailTo(people[0].email, 'magic_link');
  await api().auth.signInWithOtp({ email: people[1].email });
  const { data: other } = await mailTo(people[1].email, 'magic_link');
  assert.notEqual(mail.token, other.token);
  assert.equal((await verify(people[1].email, mail.token)).body.code, 'otp_expired', "another person's code");
  const wrong = mail.token === '000000' ? '000001' : '000000';
  for (let n = 0; n < 5; n += 1) assert.equal((await verify(people[0].email, wrong)).body.code, 'otp_expired');
  assert.equal((await verify(people[0].email, mail.token)).body.code, 'otp_expired', 'the right code after five wrong ones');
  // A new mail gives new tries, but not without end: 20 for an address in an hour.
  let limited = false;
  for (let mails = 0; mails < 5 && !limited; mails += 1) {
    await api().auth.signInWithOtp({ email: people[0].email });
    for (let n = 0; n < 4; n += 1) if ((await verify(people[0].email, wrong)).status === 429) limited = true;
  }
  const { data: last } = await mailTo(people[0].email, 'magic_link');
  const answer = await verify(people[0].email, last.token);
  assert.notEqual(answer.status, 200, 'the right code after more than 20 tries in an hour');
});

report('login-9', 'a new password signs out the other devices at once, and not the one that set it', async () => {
  const account = await newUser();
  const thief = await signIn(account);
  assert.equal((await account.client.auth.updateUser({ password: 'another-heron-43' })).error, null);
  assert.equal((await http('GET', '/auth/v1/user', { token: thief.session.access_token })).status, 403);
  const rest = await http('GET', '/rest/v1/profiles?select=id', { token: thief.session.access_token });
  assert.deepEqual([rest.status, rest.body.code], [401, 'not_identified']);
  assert.equal((await refresh(thief.session.refresh_token)).status, 400);
  assert.equal((await account.client.auth.getUser()).error, null);
});

report('login-10', 'a code of an authenticator app works once, also the one that enrolled the app', async () => {
  const account = await newUser();
  const factor = await enroll(account);
  const code = codeOf(factor.secret);
  assert.equal((await answerFactor(account.client, factor, code)).error, null);
  const again = await signIn(account);
  assert.equal((await answerFactor(again.client, factor, code)).error.code, 'mfa_verification_failed');
  const [one, two] = [await signIn(account), await signIn(account)];
  const next = codeOf(factor.secret, 1);
  const answers = await Promise.all([one, two].map(({ client }) => answerFactor(client, factor, next)));
  assert.equal(answers.filter(({ error }) => error === null).length, 1);
});

report('login-11', 'an authorization code is exchanged once, also by two requests at once', async () => {
  const { email } = await newUser();
  const client = pkceClient();
  await client.auth.signInWithOtp({ email });
  const { data: mail } = await mailTo(email, 'magic_link');
  const { query } = await openLink(mail.link);
  // The client would delete its verifier with the first exchange.
  const kept = await client.auth.storage.getItem(`${client.auth.storageKey}-code-verifier`);
  const [code_verifier] = JSON.parse(kept).split('/');
  const exchange = () => pkceGrant({ auth_code: query.code, code_verifier });
  const answers = await Promise.all([exchange(), exchange(), exchange()]);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 404, 404]);
  assert.equal((await exchange()).status, 404);
});

report('login-12', 'what users write into their own metadata gives them no role and no organization', async () => {
  const { nonMember, orgId } = await newTeam();
  const claims = { role: 'service_role', admin: true, is_admin: true, user_role: 'owner', org_id: orgId, permissions: ['*:write'] };
  const { data } = await nonMember.client.auth.updateUser({ data: { ...claims, app_metadata: claims, provider: 'x' } });
  assert.equal(data.user.app_metadata.role, undefined);
  await http('PUT', '/auth/v1/user', { token: nonMember.token, body: { app_metadata: claims, role: 'service_role', aud: 'service_role' } });
  const { data: refreshed } = await nonMember.client.auth.refreshSession();
  const token = claimsOf(refreshed.session.access_token);
  assert.deepEqual([token.role, token.aud, token.app_metadata.role], ['authenticated', 'authenticated', undefined]);
  assert.deepEqual(await ok(nonMember.client.from('organizations').select('id').eq('id', orgId)), []);
  assert.equal(await ok(nonMember.client.rpc('can', { org: orgId, permission: 'projects:read' })), false);
});

report('login-13', 'a client chooses neither its address nor its rate by X-Forwarded-For', async () => {
  const account = await newUser();
  for (const header of ['X-Forwarded-For', 'X-Real-IP', 'Forwarded', 'CF-Connecting-IP', 'X-Client-IP', 'True-Client-IP']) {
    const value = header === 'Forwarded' ? 'for=203.0.113.7' : '203.0.113.7';
    const { body } = await passwordGrant(account.email, account.password, { headers: { [header]: value } });
    const [{ ip }] = await sql('select host(ip) as ip from auth.sessions where id = $1', [claimsOf(body.access_token).session_id]);
    assert.match(ip, /^(127\.0\.0\.1|::1)$/, header);
  }
});

report('login-14', 'the hash of a generated link is that of its link, for each type', async () => {
  const { email } = await newUser();
  const newMail = newEmail('moved');
  for (const type of ['magiclink', 'recovery', 'email_change_current', 'email_change_new']) {
    const { data, error } = await admin().auth.admin.generateLink({ type, email, newEmail: newMail });
    assert.equal(error, null, type);
    const link = new URL(data.properties.action_link);
    assert.equal(link.searchParams.get('token'), data.properties.hashed_token, type);
    const verified = await api().auth.verifyOtp({ token_hash: data.properties.hashed_token, type: link.searchParams.get('type') });
    assert.equal(verified.error, null, `${type}: ${verified.error?.message}`);
  }
});

report('login-15', 'a NUL in a name or an address is a fault of the request, and not of the server', async () => {
  const answers = [];
  for (const body of [
    '{"email":"EMAIL","password":"heron-42-heron","data":{"full_name":"a\\u0000b"}}',
    '{"email":"a\\u0000EMAIL","password":"heron-42-heron"}',
    '{"email":"EMAIL","password":"heron\\u0000-42-heron"}',
    '{"email":"EMAIL","password":"heron-42-heron","data":{"full_name":"\\ud800"}}',
  ]) {
    const answer = await http('POST', '/auth/v1/signup', {
      body: body.replace('EMAIL', newEmail()),
      headers: { 'Content-Type': 'application/json' },
    });
    answers.push(answer.status);
  }
  assert.deepEqual(answers, [400, 400, 400, 400]);
});

report('login-16', 'a user who was invited and never came can be deleted, and invited again', async () => {
  const email = newEmail('invited');
  const { data } = await admin().auth.admin.inviteUserByEmail(email);
  assert.equal((await admin().auth.admin.deleteUser(data.user.id)).error, null);
  const [old] = await mailsTo(email);
  assert.equal((await openLink(old.data.link)).fragment.error_code, 'otp_expired', 'the link of the deleted one');
  const again = await admin().auth.admin.inviteUserByEmail(email);
  assert.equal(again.error, null);
  assert.notEqual(again.data.user.id, data.user.id);
});

report('login-17', 'a password that the service key sets ends the sessions that the old one began', async () => {
  const account = await newUser();
  assert.equal((await admin().auth.admin.updateUserById(account.user.id, { password: 'chosen-by-support-1' })).error, null);
  assert.equal((await http('GET', '/auth/v1/user', { token: account.session.access_token })).status, 403);
  assert.equal((await refresh(account.session.refresh_token)).status, 400);
  assert.equal((await passwordGrant(account.email, 'chosen-by-support-1')).status, 200);
});
