// Files of members by an issuer: what hostile tokens reach, what a member does, and what ends it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { createKey } from './api_keys_support.mjs';
import { newPerson, newTeam, ok, until, withinRate } from './domain.mjs';
import { as, clientOf, enroll, forged, newIssuer, newMember, pretending, provision, requireIssuer } from './issuers_support.mjs';
import { read, storage, storedBytes, tenantBucket } from './storage_support.mjs';
import { api, sql } from './support.mjs';

let team;
let stranger;
let issuer;
let enrolled;
let member;
let bucket;
let ours;
const path = (name, org = team.orgId) => `${org}/${name}`;
const filesOf = (bearer, of = bucket) => clientOf(bearer).storage.from(of);

before(async () => {
  [team, stranger] = [await newTeam(), await newPerson()];
  issuer = await newIssuer();
  enrolled = await enroll(team.owner, issuer.url);
  member = await newMember(issuer);
  bucket = await tenantBucket();
  ours = path('ours.txt');
  assert.equal((await team.owner.client.storage.from(bucket).upload(ours, 'ours')).error, null);
  assert.equal((await stranger.client.storage.from(bucket).upload(path('theirs.txt', stranger.orgId), 'theirs')).error, null);
});

/** A request by a token. Refused ones share one address and its rate. */
const asBearer = (token, method, route, options = {}) =>
  withinRate(() => storage(method, route, { token, ...options }), { isLimited: ({ status }) => status === 429 });
const refusal = ({ status, body }) => [status, body?.code, body?.statusCode];

describe('a token', () => {
  test('that is forged reads and writes nothing', async () => {
    const tokens = { ...forged(issuer, member, team.owner.user.id), 'pretends to be ours': pretending(issuer, member) };
    for (const [name, bearer] of Object.entries(tokens)) {
      assert.deepEqual(refusal(await asBearer(bearer, 'GET', `/object/${bucket}/${ours}`)), [400, 'AccessDenied', '403'], name);
    }
    const free = `b-${randomUUID()}`;
    const [name, bearer] = ['an organization that enrolled nobody', (await newIssuer()).token({ sub: member.subject })];
    for (const [method, route, body] of [
      ['GET', `/object/${bucket}/${ours}`],
      ['GET', `/object/info/${bucket}/${ours}`],
      ['POST', `/object/${bucket}/${path('new.txt')}`, 'new'],
      ['PUT', `/object/${bucket}/${ours}`, 'new'],
      ['DELETE', `/object/${bucket}/${ours}`],
      ['DELETE', `/object/${bucket}`, { prefixes: [ours] }],
      ['POST', `/object/list/${bucket}`, { prefix: team.orgId }],
      ['POST', `/object/list-v2/${bucket}`, { prefix: team.orgId }],
      ['POST', '/object/move', { bucketId: bucket, sourceKey: ours, destinationKey: path('moved') }],
      ['POST', '/object/copy', { bucketId: bucket, sourceKey: ours, destinationKey: path('copied') }],
      ['POST', `/object/sign/${bucket}/${ours}`, { expiresIn: 60 }],
      ['POST', `/object/sign/${bucket}`, { expiresIn: 60, paths: [ours] }],
      ['POST', `/object/upload/sign/${bucket}/${path('signed')}`],
      ['GET', '/bucket'],
      ['GET', `/bucket/${bucket}`],
      ['POST', '/bucket', { id: free, name: free }],
      ['PUT', `/bucket/${bucket}`, { public: true }],
      ['POST', `/bucket/${bucket}/empty`],
      ['DELETE', `/bucket/${bucket}`],
    ]) {
      const headers = typeof body === 'string' ? { 'Content-Type': 'text/plain' } : {};
      const answer = await asBearer(bearer, method, route, { body, headers });
      assert.deepEqual(refusal(answer), [400, 'AccessDenied', '403'], `${name}: ${method} ${route}`);
    }
    assert.equal(await read(team.owner.client.storage.from(bucket), ours), 'ours');
  });

  test('of a subject who is not provisioned, or was given less, is refused', async () => {
    const fresh = issuer.token({ sub: randomUUID() });
    assert.deepEqual(refusal(await asBearer(fresh, 'GET', `/object/${bucket}/${ours}`)), [400, 'provision_required', '403']);
    assert.deepEqual(
      refusal(await asBearer(fresh, 'POST', '/rpc/provision', { body: {} })).slice(0, 1),
      [404],
      'storage provisions nobody',
    );
    const demoted = await newMember(issuer, ['kijko-member']);
    const viewer = filesOf(demoted.tokenOf(['kijko-viewer']));
    assert.equal((await viewer.upload(path('viewer.txt'), 'x')).error.code, 'AccessDenied', 'the role is that of the token');
    assert.equal(await read(viewer, ours), 'ours');
  });

  test('that says service_role, or names another organization, is a member and no more', async () => {
    for (const claims of [
      { role: 'service_role' },
      { role: 'service_role', org_id: stranger.orgId, user_id: stranger.user.id, sub_id: stranger.user.id },
    ]) {
      const bearer = member.tokenOf(undefined, claims);
      const files = filesOf(bearer);
      assert.equal(await read(files, ours), 'ours');
      assert.deepEqual(await read(files, path('theirs.txt', stranger.orgId)), { code: 'NoSuchKey' });
      assert.deepEqual((await files.list(stranger.orgId)).data, []);
      assert.deepEqual(
        (await files.list('')).data.map(({ name }) => name),
        [team.orgId],
      );
      assert.equal((await files.upload(path('x', stranger.orgId), 'x')).error.code, 'AccessDenied');
      assert.equal((await files.move(ours, path('x', stranger.orgId))).error.code, 'AccessDenied');
      assert.notEqual((await clientOf(bearer).storage.createBucket(`b-${randomUUID()}`)).error, null);
      assert.notEqual((await clientOf(bearer).storage.emptyBucket(bucket)).error, null);
    }
    const headers = { 'x-org-id': stranger.orgId };
    const answer = await asBearer(member.tokenOf(), 'GET', `/object/${bucket}/${path('theirs.txt', stranger.orgId)}`, { headers });
    assert.deepEqual(refusal(answer), [400, 'not_a_member', '403']);
  });

  test('beside an API key is refused, and only the proxy sets its header', async () => {
    const { secret } = await createKey(team.owner, { permissions: ['content:read'] });
    for (const headers of [{ 'X-API-Key': secret }, { apikey: secret }]) {
      const answer = await asBearer(member.tokenOf(), 'GET', `/object/${bucket}/${ours}`, { headers });
      assert.deepEqual(refusal(answer), [400, 'bad_request', '400']);
    }
    const set = await storage('GET', `/object/${bucket}/${ours}`, { headers: { 'X-Kijko-Token': member.tokenOf() } });
    assert.deepEqual(refusal(set), [400, 'NoSuchKey', '404'], 'as the anon key');
    const bare = await storage('GET', `/object/${bucket}/${ours}`, { headers: { Authorization: '', 'X-Kijko-Token': member.tokenOf() } });
    assert.deepEqual(refusal(bare), [400, 'InvalidRequest', '400']);
  });
});

describe('a member by an issuer', () => {
  test('uploads, lists, downloads, signs, moves, copies and deletes by supabase-js', async () => {
    const files = filesOf(member.tokenOf());
    const name = path('report.txt');
    const uploaded = await files.upload(name, 'one', { metadata: { from: 'sso' } });
    assert.equal(uploaded.error, null, uploaded.error?.message);
    const [row] = await sql('select owner_id, owner from storage.objects where bucket_id = $1 and name = $2', [bucket, name]);
    assert.deepEqual(row, { owner_id: member.membership.user_id, owner: member.membership.user_id });
    assert.equal((await files.upload(name, 'two')).error.code, 'ResourceAlreadyExists');
    assert.equal((await files.upload(name, 'two', { upsert: true })).error, null);
    assert.equal((await files.update(name, 'three')).error, null);
    assert.equal(await read(files, name), 'three');
    assert.equal(await read(team.viewer.client.storage.from(bucket), name), 'three', 'a colleague sees it');
    assert.ok((await files.list(team.orgId)).data.some((object) => object.name === 'report.txt'));
    assert.ok((await files.listV2({ prefix: `${team.orgId}/` })).data.objects.some((object) => object.name === name));
    assert.equal((await files.info(name)).data.size, 5);

    const { data: signed } = await files.createSignedUrl(name, 60);
    assert.equal(await (await fetch(signed.signedUrl)).text(), 'three');
    const { data: many } = await files.createSignedUrls([name, path('theirs.txt', stranger.orgId)], 60);
    assert.deepEqual([typeof many[0].signedUrl, many[1].signedUrl], ['string', null]);
    const { data: slot } = await files.createSignedUploadUrl(path('signed.txt'));
    assert.equal((await api().storage.from(bucket).uploadToSignedUrl(slot.path, slot.token, 'by URL')).error, null);
    const [byUrl] = await sql('select owner_id from storage.objects where bucket_id = $1 and name = $2', [bucket, slot.path]);
    assert.equal(byUrl.owner_id, member.membership.user_id);

    assert.equal((await files.move(name, path('moved.txt'))).error, null);
    assert.equal((await files.copy(path('moved.txt'), path('copied.txt'))).error, null);
    const [moved] = await sql('select owner_id from storage.objects where bucket_id = $1 and name = $2', [bucket, path('moved.txt')]);
    assert.equal(moved.owner_id, member.membership.user_id);
    const { data: removed } = await files.remove([path('moved.txt'), path('copied.txt'), path('theirs.txt', stranger.orgId)]);
    assert.deepEqual(removed.map((object) => object.name).sort(), [path('copied.txt'), path('moved.txt')]);
    const { gauge, rows } = await storedBytes(team.orgId);
    assert.equal(gauge, rows);
  });

  test('is counted and limited as in any request of the organization', async () => {
    const used = async () =>
      Number((await sql(`select used from kijko.usage($1) where meter = 'api_requests'`, [team.orgId]))[0]?.used ?? 0);
    const files = filesOf(member.tokenOf());
    const start = await used();
    for (let n = 0; n < 3; n += 1) assert.equal(await read(files, ours), 'ours');
    await until('the requests to be counted', async () => (await used()) >= start + 3);
  });

  test('needs a second factor where the organization requires one, which amr says', async () => {
    const strict = await newTeam();
    const other = await newIssuer();
    await enroll(strict.owner, other.url);
    const { tokenOf } = await newMember(other);
    const name = path('mfa.txt', strict.orgId);
    assert.equal((await filesOf(tokenOf()).upload(name, 'x')).error, null);
    await sql('update public.organizations set mfa_required = true where id = $1', [strict.orgId]);
    assert.deepEqual(await read(filesOf(tokenOf()), name), { code: 'NoSuchKey' });
    assert.deepEqual(refusal(await asBearer(tokenOf(), 'GET', `/object/${bucket}/${name}`, { headers: { 'x-org-id': strict.orgId } })), [
      400,
      'insufficient_aal',
      '403',
    ]);
    assert.equal(await read(filesOf(tokenOf(undefined, { amr: ['pwd', 'mfa'] })), name), 'x');
  });

  test('goes on where the organization requires its issuer, and others do not', async () => {
    const strict = await newTeam();
    const other = await newIssuer();
    await enroll(strict.owner, other.url);
    const { tokenOf } = await newMember(other);
    const name = path('sso.txt', strict.orgId);
    assert.equal((await filesOf(tokenOf()).upload(name, 'x')).error, null);
    await requireIssuer(strict);
    assert.deepEqual(await read(strict.member.client.storage.from(bucket), name), { code: 'NoSuchKey' });
    assert.equal(await read(filesOf(tokenOf()), name), 'x');
  });

  test('of two organizations with one issuer is the one of the header', async () => {
    const shared = await newIssuer();
    const [one, two] = [await newPerson(), await newPerson()];
    for (const person of [one, two]) await enroll(person, shared.url);
    const bearer = shared.token({ sub: 'both', realm_access: { roles: ['kijko-member'] } });
    for (const { orgId } of [one, two]) {
      const headers = { 'x-org-id': orgId };
      assert.equal((await provision(bearer, headers)).status, 200);
      const write = (name) =>
        asBearer(bearer, 'POST', `/object/${bucket}/${name}`, { body: 'x', headers: { ...headers, 'Content-Type': 'text/plain' } });
      assert.equal((await write(path('x', orgId))).status, 200);
      const other = orgId === one.orgId ? two.orgId : one.orgId;
      assert.deepEqual(refusal(await write(path('y', other))), [400, 'AccessDenied', '403']);
    }
  });
});

describe('the end of', () => {
  const ending = async (prepare) => {
    const leaving = await newMember(issuer);
    const files = filesOf(leaving.tokenOf());
    assert.equal(await read(files, ours), 'ours');
    const { data: slot } = await files.createSignedUploadUrl(path(`slot-${randomUUID()}`));
    await prepare(leaving);
    return { leaving, files, store: () => api().storage.from(bucket).uploadToSignedUrl(slot.path, slot.token, 'late') };
  };

  test('a membership ends access at once, and the signed URL for an upload', async () => {
    const { files, store } = await ending(({ membership }) =>
      ok(team.owner.client.from('memberships').delete().eq('id', membership.id).select()),
    );
    assert.deepEqual(await read(files, ours), { code: 'provision_required' });
    assert.equal((await store()).error.code, 'not_a_member');
  });

  test('a user who is banned ends it', async () => {
    const { files, store } = await ending(({ membership }) =>
      sql(`update auth.users set banned_until = now() + interval '1 hour' where id = $1`, [membership.user_id]),
    );
    assert.deepEqual(await read(files, ours), { code: 'AccessDenied' });
    assert.equal((await store()).error.code, 'not_a_member');
  });

  test('an issuer that is disabled, and then removed, ends it', async () => {
    const change = (changes) => ok(team.owner.client.rpc('update_issuer', { id: enrolled.id, changes }));
    const { leaving, files, store } = await ending(() => change({ enabled: false }));
    assert.deepEqual(await read(files, ours), { code: 'AccessDenied' });
    assert.equal((await store()).error.code, 'not_a_member');
    await change({ enabled: true });
    assert.equal(await read(files, ours), 'ours');
    assert.equal((await store()).error, null);
    await ok(team.owner.client.rpc('remove_issuer', { id: enrolled.id }));
    assert.deepEqual(await read(files, ours), { code: 'AccessDenied' });
    assert.equal((await as(leaving.tokenOf(), 'GET', '/projects?select=id')).status, 401);
  });
});
