// What hostile tokens and hostile login servers reach: nothing.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { anonymous, newPerson, ok } from './domain.mjs';
import { AUDIENCE, as, clientOf, enroll, forged, newIssuer, newMember, pretending, provision, status } from './issuers_support.mjs';
import { adminSql, http } from './support.mjs';
import { newKey, token } from './tokens.mjs';

const code = ({ status: got, body }) => [got, body?.code];
const PATH = '/projects?select=id,org_id';

describe('a token', () => {
  let owner;
  let issuer;
  let member;
  before(async () => {
    owner = await newPerson('TEAMS');
    issuer = await newIssuer();
    await enroll(owner, issuer.url);
    member = await newMember(issuer);
  });

  test('that says service_role, or names claims of ours, is authenticated and no more', async () => {
    const stranger = await newPerson();
    const hers = await ok(stranger.client.from('projects').insert({ name: 'Hers' }).select().single());
    for (const claims of [
      { role: 'service_role' },
      { role: 'postgres', org_id: stranger.orgId },
      { role: 'authenticated', org_id: stranger.orgId, user_id: stranger.user.id, session_id: randomUUID() },
      { app_metadata: { role: 'service_role' }, is_anonymous: true },
    ]) {
      const answer = await as(member.tokenOf(undefined, claims), 'GET', PATH);
      assert.equal(answer.status, 200, answer.text);
      assert.ok(
        answer.body.every(({ org_id, id }) => org_id === owner.orgId && id !== hers.id),
        JSON.stringify(claims),
      );
    }
    const subject = await provision(issuer.token({ sub: stranger.user.id }));
    assert.notEqual(subject.body.user_id, stranger.user.id, 'a subject that is the id of a user is not that user');
  });

  test('speaks for no organization that did not enrol its issuer', async () => {
    const other = await newPerson();
    for (const orgId of [other.orgId, randomUUID()]) {
      const answer = await as(member.tokenOf(), 'GET', PATH, { headers: { 'x-org-id': orgId } });
      assert.deepEqual(code(answer), [403, 'not_a_member']);
      assert.deepEqual(code(await provision(issuer.token({ sub: 'x' }), { 'x-org-id': orgId })), [403, 'not_a_member']);
    }
    assert.equal((await as(member.tokenOf(), 'GET', PATH, { headers: { 'x-org-id': owner.orgId } })).status, 200);
  });

  test('of an issuer that two organizations share is a user of each, apart', async () => {
    const shared = await newIssuer();
    const [one, two] = [await newPerson(), await newPerson()];
    await enroll(one, shared.url);
    await enroll(two, shared.url);
    const bearer = shared.token({ sub: 'both' });
    const users = [];
    for (const { orgId } of [one, two]) {
      const answer = await provision(bearer, { 'x-org-id': orgId });
      assert.equal(answer.body.org_id, orgId, answer.text);
      users.push(answer.body.user_id);
    }
    assert.notEqual(users[0], users[1]);
    const unnamed = shared.token({ sub: 'new' });
    assert.deepEqual(code(await provision(unnamed)), [400, 'organization_required'], 'a new subject has to name one');
    assert.deepEqual(code(await as(unnamed, 'GET', PATH)), [400, 'organization_required']);
    assert.deepEqual(
      code(await provision(shared.token({ sub: 'new', exp: 1 }))),
      [401, 'not_identified'],
      'who has no good token learns nothing',
    );
    const known = shared.token({ sub: 'of two' });
    assert.equal((await provision(known, { 'x-org-id': two.orgId })).body.org_id, two.orgId);
    assert.equal((await provision(known)).body.org_id, two.orgId, 'without the header the one in which the subject is somebody');
  });

  test('is not disturbed by others who enrol its issuer, however many they are', async () => {
    const mine = await newIssuer();
    const victim = await newPerson('TEAMS');
    await enroll(victim, mine.url);
    const known = await newMember(mine, ['kijko-viewer']);
    const attacker = await newPerson();
    await enroll(attacker, mine.url);
    const bearer = known.tokenOf();
    const works = async (name) => {
      const answer = await as(bearer, 'GET', PATH);
      assert.equal(answer.status, 200, `${name}: ${answer.text}`);
      assert.equal((await as(bearer, 'GET', PATH, { headers: { 'x-org-id': victim.orgId } })).status, 200, `${name}, with the header`);
      const fresh = mine.token();
      assert.deepEqual(code(await provision(fresh)), [400, 'organization_required'], `${name}, for a new subject`);
      assert.equal((await provision(fresh, { 'x-org-id': victim.orgId })).body.org_id, victim.orgId, `${name}, for one that names it`);
    };
    await works('one other');
    // As a hundred organizations would have it whose ids are smaller than any.
    const ids = `org_id::text like '00000000-0000-4000-8000-%' and url = $1`;
    await adminSql(
      `insert into kijko.issuers (org_id, url, audiences, default_role, jwks, next_at)
       select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, i.url, i.audiences, 'viewer', i.jwks, 'infinity'
       from kijko.issuers i, generate_series(1, 100) n where i.org_id = $2 and i.url = $1`,
      [mine.url, victim.orgId],
    );
    try {
      await works('a hundred others');
      await adminSql(`update kijko.issuers set created_at = created_at - interval '1 day' where ${ids}`, [mine.url]);
      const answer = await as(bearer, 'GET', PATH, { headers: { 'x-org-id': victim.orgId } });
      assert.equal(answer.status, 200, `a hundred that were first: ${answer.text}`);
    } finally {
      await adminSql(`delete from kijko.issuers where ${ids}`, [mine.url]);
    }
  });

  test('of an issuer that two organizations share, told apart by a claim, is for one of them', async () => {
    const shared = await newIssuer();
    const [one, two] = [await newPerson(), await newPerson()];
    await enroll(one, shared.url, { org_claim: 'org_id', org_value: 'one' });
    await enroll(two, shared.url, { org_claim: 'org_id', org_value: 'two' });
    assert.equal((await provision(shared.token({ org_id: 'two' }))).body.org_id, two.orgId);
    assert.deepEqual(code(await provision(shared.token({ org_id: 'three' }))), [401, 'not_identified']);
    assert.deepEqual(code(await provision(shared.token({ org_id: 'one' }), { 'x-org-id': two.orgId })), [403, 'not_a_member']);
  });

  test('of one issuer is none of another (mix-up)', async () => {
    const evil = await newIssuer();
    const attacker = await newPerson();
    await enroll(attacker, evil.url);
    for (const bearer of [
      token(evil.key, issuer.claims({ sub: member.subject })),
      token(evil.key, issuer.claims({ sub: member.subject }), { kid: issuer.key.kid }),
      token(issuer.key, evil.claims({ sub: member.subject })),
      token({ ...evil.key, kid: issuer.key.kid }, issuer.claims({ sub: member.subject, aud: [AUDIENCE, evil.url] })),
    ]) {
      assert.deepEqual(code(await as(bearer, 'GET', PATH)), [401, 'not_identified']);
    }
    const theirs = await provision(evil.token({ sub: member.subject }));
    assert.notEqual(theirs.body.user_id, member.membership.user_id, 'the same subject of another issuer is somebody else');
  });

  test('with an address of a member is not that member', async () => {
    const answer = await provision(issuer.token({ email: owner.email, email_verified: false }));
    assert.equal(answer.status, 200, answer.text);
    assert.notEqual(answer.body.user_id, owner.user.id);
    const verified = await provision(issuer.token({ email: owner.email, email_verified: true }));
    assert.notEqual(verified.body.user_id, owner.user.id);
    const login = await http('POST', '/auth/v1/recover', { body: { email: owner.email } });
    assert.equal(login.status, 200);
    const [shown] = await ok(clientOf(member.tokenOf()).from('profiles').select('email').eq('id', verified.body.user_id));
    assert.equal(shown.email, null, 'nobody has confirmed the address here');
  });

  test('that is forged is refused', async () => {
    for (const [name, bearer] of Object.entries(forged(issuer, member, owner.user.id))) {
      assert.deepEqual(code(await as(bearer, 'GET', PATH)), [401, 'not_identified'], name);
    }
    assert.equal((await as(pretending(issuer, member), 'GET', PATH)).status, 401, 'one that pretends to be ours stays with PostgREST');
  });

  test('reaches no part that it is not for', async () => {
    const bearer = member.tokenOf();
    assert.equal((await http('GET', '/auth/v1/user', { token: bearer })).status, 403);
    assert.ok([401, 403].includes((await http('GET', '/auth/v1/admin/users', { token: bearer })).status));
  });

  test("beside an API key is refused, and the header of the proxy is the proxy's", async () => {
    const made = await ok(owner.client.rpc('create_api_key', { name: 'key', permissions: ['projects:read'] }));
    const key = made.key ?? made.api_key ?? made.secret;
    assert.match(key, /^kjk_/);
    for (const headers of [{ 'X-API-Key': key }, { apikey: key }]) {
      assert.deepEqual(code(await as(member.tokenOf(), 'GET', PATH, { headers })), [400, 'bad_request']);
    }
    const answer = await anonymous('GET', `/rest/v1${PATH}`, { headers: { 'X-Kijko-Token': member.tokenOf() } });
    assert.deepEqual(code(answer), [401, '42501'], 'as without it');
  });
});

// An organization has ten issuers at most.
describe('a login server', { concurrency: 5 }, () => {
  let owner;
  before(async () => {
    owner = await newPerson();
  });

  for (const [name, error, prepare] of [
    [
      'that says it is another',
      'issuer_mismatch',
      (issuer) => ({ discovery: { body: { issuer: 'https://login.example.com', jwks_uri: `${issuer.url}/jwks` } } }),
    ],
    [
      'that sends to a private address',
      'url_refused',
      (issuer) => ({ discovery: { body: { issuer: issuer.url, jwks_uri: 'https://169.254.169.254/latest/meta-data' } } }),
    ],
    [
      'whose keys come without TLS',
      'url_refused',
      (issuer) => ({ discovery: { body: { issuer: issuer.url, jwks_uri: 'http://keys.example.com/jwks' } } }),
    ],
    ['whose keys are a file', 'url_refused', (issuer) => ({ discovery: { body: { issuer: issuer.url, jwks_uri: 'file:///etc/passwd' } } })],
    [
      'that redirects to a private address',
      'status',
      () => ({ discovery: { status: 302, headers: { Location: 'http://169.254.169.254/' }, body: '' } }),
    ],
    ['whose keys redirect', 'status', () => ({ keys: { status: 307, headers: { Location: 'http://127.0.0.1:5432/' }, body: '' } })],
    ['with a huge key set', 'too_large', (issuer) => ({ keys: { body: { keys: Array(2000).fill(issuer.key.jwk) } } })],
    [
      'with a huge document',
      'too_large',
      (issuer) => ({ discovery: { body: { issuer: issuer.url, jwks_uri: `${issuer.url}/jwks`, pad: 'x'.repeat(100_000) } } }),
    ],
    ['with a page instead of keys', 'malformed', () => ({ keys: { body: '<html>' } })],
    [
      'with a member twice',
      'malformed',
      (issuer) => ({ discovery: { body: `{"issuer":"${issuer.url}","issuer":"x","jwks_uri":"${issuer.url}/jwks"}` } }),
    ],
    ['that publishes a shared secret', 'no_keys', () => ({ keys: { body: { keys: [newKey('HS256').jwk] } } })],
    [
      'that publishes a private key',
      'no_keys',
      (issuer) => ({ keys: { body: { keys: [{ ...issuer.key.privateKey.export({ format: 'jwk' }), kid: 'k' }] } } }),
    ],
    ['without keys', 'no_keys', () => ({ keys: { body: { keys: [] } } })],
    ['that fails', 'status', () => ({ discovery: { status: 500, body: 'broken' } })],
  ]) {
    test(`${name} is refused: ${error}`, async () => {
      const issuer = await newIssuer();
      issuer.answer = prepare(issuer);
      const { id } = await ok(owner.client.rpc('enroll_issuer', { url: issuer.url, audiences: [AUDIENCE], default_role: 'viewer' }));
      assert.equal((await status(owner, id, 'failing')).error, error);
      assert.deepEqual(code(await provision(issuer.token())), [401, 'not_identified']);
      await ok(owner.client.rpc('remove_issuer', { id }));
    });
  }

  test('that turns hostile keeps its last good keys in use', async () => {
    const issuer = await newIssuer();
    const { id } = await enroll(owner, issuer.url);
    const member = await newMember(issuer);
    issuer.answer = { keys: { body: { keys: [newKey('HS256').jwk] } } };
    await ok(owner.client.rpc('update_issuer', { id, changes: {} }));
    assert.equal((await status(owner, id, 'failing')).error, 'no_keys');
    assert.equal((await as(member.tokenOf(), 'GET', PATH)).status, 200);
    await ok(owner.client.rpc('remove_issuer', { id }));
  });

  test('is not asked again for each token with an unknown key', async () => {
    const issuer = await newIssuer();
    await enroll(owner, issuer.url);
    const before = issuer.asked.discovery;
    const stranger = newKey('RS256');
    for (let n = 0; n < 10; n += 1) {
      assert.deepEqual(code(await as(token({ ...stranger, kid: `k${n}` }, issuer.claims()), 'GET', PATH)), [401, 'not_identified']);
    }
    assert.ok(issuer.asked.discovery - before <= 2, `${issuer.asked.discovery - before}`);
  });
});
