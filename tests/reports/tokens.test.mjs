// Reports about tokens: keys that change, audiences, clocks, algorithms, and addresses that a provider has not verified.
import assert from 'node:assert/strict';
import { createPublicKey, randomUUID } from 'node:crypto';
import { claimsOf } from '../journeys/auth_support.mjs';
import { newPerson, ok, until, withinRate } from '../journeys/domain.mjs';
import { AUDIENCE, as, enroll, newIssuer, newMember } from '../journeys/issuers_support.mjs';
import { api, env, http, newUser, sql } from '../journeys/support.mjs';
import { base64url, newKey, now, token } from '../journeys/tokens.mjs';
import { report } from './report.mjs';

const owner = await newPerson('TEAMS');
// Not in a hook, at whose end it would be closed.
const issuer = await newIssuer();
await enroll(owner, issuer.url);
const member = await newMember(issuer);

/** A GET by a token. Refused ones share one address and its rate. */
const get = (path, bearer) =>
  withinRate(() => http('GET', path, { token: bearer }), { isLimited: ({ status }) => status === 429, repeats: 60 });

const projects = (bearer) => as(bearer, 'GET', '/projects?select=id');
const accepted = async (bearer) => (await projects(bearer)).status;

report('tokens-1', 'a key that the issuer publishes and then signs by is known without a restart', async () => {
  const former = issuer.key;
  const next = newKey('RS256');
  issuer.published = () => ({ keys: [former.jwk, next.jwk] });
  issuer.key = next;
  await until('the new key to be known', async () => (await accepted(member.tokenOf())) === 200, { everyMs: 500 });
  issuer.key = former;
  assert.equal(await accepted(member.tokenOf()), 200, 'the former one stays while it is published');
  issuer.key = next;
});

report('tokens-2', 'tokens with made-up key ids do not make us hammer the issuer', async () => {
  const before = issuer.asked.keys;
  const stranger = newKey('RS256');
  const started = Date.now();
  for (let n = 0; n < 40; n += 1) assert.equal(await accepted(token({ ...stranger, kid: randomUUID() }, issuer.claims())), 401);
  const seconds = (Date.now() - started) / 1000;
  assert.ok(issuer.asked.keys - before <= 2 + seconds / 10, `${issuer.asked.keys - before} fetches in ${seconds} s`);
});

report('tokens-3', 'aud may be a list: one of ours is enough, and none is refused', async () => {
  for (const [aud, status] of [
    [[AUDIENCE], 200],
    [['account', AUDIENCE], 200],
    [['account'], 401],
    [[], 401],
    [[[AUDIENCE]], 401],
    [{ [AUDIENCE]: true }, 401],
    [`${AUDIENCE} account`, 401],
    [`${AUDIENCE}x`, 401],
    [null, 401],
  ]) {
    assert.equal(await accepted(member.tokenOf(undefined, { aud })), status, JSON.stringify(aud));
  }
});

report('tokens-4', 'clocks may differ by seconds and not by minutes, in each direction', async () => {
  for (const [claims, status] of [
    [{ nbf: now() + 10 }, 200],
    [{ iat: now() + 10 }, 200],
    [{ exp: now() - 10 }, 200],
    [{ nbf: now() + 120 }, 401],
    [{ iat: now() + 120 }, 401],
    [{ exp: now() - 120 }, 401],
    [{ exp: now() + 300.5 }, 200],
    [{ exp: `${now() + 300}` }, 401],
    [{ exp: -1 }, 401],
    [{ exp: undefined }, 401],
  ]) {
    assert.equal(await accepted(member.tokenOf(undefined, claims)), status, JSON.stringify(claims));
  }
});

report('tokens-5', 'a token that is used in the moment in which it was issued is good', async () => {
  const { client, session } = await newUser();
  let bearer = session;
  for (let n = 0; n < 12; n += 1) {
    bearer = (await client.auth.refreshSession()).data.session;
    const answer = await http('GET', '/rest/v1/profiles?select=id', { token: bearer.access_token });
    assert.equal(answer.status, 200, `${n}: ${answer.text}`);
  }
});

report('tokens-6', 'no token chooses its algorithm: a public key is no secret, and none is no signature', async () => {
  const { keys } = await (await fetch(`${env.API_URL}/auth/v1/.well-known/jwks.json`)).json();
  const { session } = await newUser();
  const claims = claimsOf(session.access_token);
  const forged = [];
  for (const jwk of [...keys, issuer.key.jwk]) {
    const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
    for (const secret of [
      publicKey.export({ type: 'spki', format: 'pem' }),
      publicKey.export({ type: 'spki', format: 'pem' }).trim(),
      publicKey.export({ type: 'spki', format: 'der' }),
      Buffer.from(JSON.stringify(jwk)),
      Buffer.from(jwk.n ?? jwk.x, 'base64url'),
    ]) {
      for (const kid of [jwk.kid, undefined]) {
        forged.push(token({ alg: 'HS256', kid, privateKey: secret }, { ...claims, role: 'service_role' }));
      }
    }
  }
  for (const alg of ['none', 'None', 'NONE', '', 'HS256', 'RS256']) {
    forged.push(`${base64url({ alg, typ: 'JWT', kid: keys[0].kid })}.${base64url(claims)}.`);
  }
  for (const bearer of forged) {
    for (const path of ['/rest/v1/profiles?select=id', '/auth/v1/user', '/storage/v1/bucket']) {
      const answer = await get(path, bearer);
      assert.ok([400, 401, 403].includes(answer.status), `${path} ${answer.status} for ${bearer.slice(0, 60)}`);
      assert.ok(!answer.text.includes(session.user.id));
    }
  }
});

report(
  'tokens-7',
  'a token without a key id is verified by the one key that fits, or refused, and never by guessing the algorithm',
  async () => {
    const bearer = token(issuer.key, issuer.claims({ sub: member.subject, realm_access: { roles: ['kijko-member'] } }), {
      kid: undefined,
    });
    const stranger = newKey('RS256');
    assert.ok([200, 401].includes(await accepted(bearer)));
    assert.equal(await accepted(token(stranger, issuer.claims({ sub: member.subject }), { kid: undefined })), 401);
    assert.equal(await accepted(token({ ...stranger, kid: issuer.key.kid }, issuer.claims({ sub: member.subject }))), 401);
  },
);

report('tokens-8', 'an issuer that names the address of a member here does not become that member', async () => {
  const victim = await newPerson();
  const claims = { email: victim.email, email_verified: true, preferred_username: victim.email };
  const other = await newMember(issuer, ['kijko-member'], claims);
  assert.notEqual(other.membership.user_id, victim.user.id);
  const seen = await as(other.tokenOf(), 'GET', `/organizations?select=id&id=eq.${victim.orgId}`);
  assert.deepEqual([seen.status, seen.body], [200, []]);
  const identities = await sql('select provider from auth.identities where user_id = $1', [victim.user.id]);
  assert.deepEqual(identities, [{ provider: 'email' }]);
});

report('tokens-9', 'a claim that is written twice does not count twice', async () => {
  const { sub, ...rest } = issuer.claims({ sub: member.subject, realm_access: { roles: ['kijko-viewer'] } });
  const text = JSON.stringify(rest).replace(/^\{/, `{"sub":${JSON.stringify(randomUUID())},"sub":${JSON.stringify(sub)},`);
  assert.equal(await accepted(token(issuer.key, text)), 401);
});

report('tokens-10', 'signing out ends the access token too, in each part that takes it', async () => {
  const { client, session } = await newUser();
  await ok(client.from('profiles').select('id'));
  await client.auth.signOut();
  const bearer = session.access_token;
  for (const [path, code] of [
    ['/rest/v1/profiles?select=id', 'not_identified'],
    ['/auth/v1/user', 'session_not_found'],
    ['/storage/v1/bucket', 'AccessDenied'],
  ]) {
    const answer = await http('GET', path, { token: bearer });
    assert.ok(answer.status >= 400, path);
    assert.equal(answer.body.code ?? answer.body.error, code, `${path}: ${answer.text}`);
  }
  assert.equal((await api().auth.getUser(bearer)).data.user, null);
});
