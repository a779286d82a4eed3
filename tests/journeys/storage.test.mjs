// Objects by supabase.storage: non-members first, then upload, download, lists, move, copy, signed and public URLs, buckets.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { newTeam } from './domain.mjs';
import { raw } from './raw_http.mjs';
import { read as readOf, refusedWith, storage, tenantBucket } from './storage_support.mjs';
import { admin, api, env, sql } from './support.mjs';

let team;
let other;
let bucket;
let publicBucket;
const files = (person, of = bucket) => person.client.storage.from(of);
const path = (name, org = team.orgId) => `${org}/${name}`;

before(async () => {
  [team, other] = [await newTeam(), await newTeam()];
  [bucket, publicBucket] = [await tenantBucket(), await tenantBucket({ public: true })];
});

async function put(person, name, body = 'hello', options = {}) {
  const { data, error } = await files(person, options.bucket).upload(name, body, options);
  assert.equal(error, null, error?.message);
  return data;
}
const read = (person, name, of) => readOf(files(person, of), name);

describe('non-members, viewers and unauthenticated callers', () => {
  const secret = () => path(`secret-${randomUUID()}.txt`);
  let name;
  before(async () => {
    name = secret();
    await put(team.member, name, 'ours');
  });

  for (const [who, person] of [
    ['a non-member', () => other.owner],
    ['an unauthenticated caller', () => ({ client: api() })],
  ]) {
    test(`${who} reads, lists, signs, moves, copies and deletes nothing`, async () => {
      const of = files(person());
      assert.equal((await refusedWith(of.download(name))).status !== undefined, true);
      assert.deepEqual((await of.list(team.orgId)).data, []);
      assert.deepEqual((await of.list('')).data, []);
      assert.deepEqual(await refusedWith(of.info(name)), { code: 'NoSuchKey', status: '404' });
      assert.equal((await of.createSignedUrl(name, 60)).error.code, 'NoSuchKey');
      assert.equal((await of.createSignedUrls([name], 60)).data[0].signedUrl, null);
      assert.equal((await of.move(name, path('stolen'))).error.code, 'NoSuchKey');
      assert.equal((await of.copy(name, path('stolen'))).error.code, 'NoSuchKey');
      assert.deepEqual((await of.remove([name])).data, []);
      assert.equal((await of.upload(path('intruder'), 'x')).error.code, 'AccessDenied');
      assert.equal((await of.upload(name, 'x', { upsert: true })).error.code, 'AccessDenied');
      assert.equal((await of.update(name, 'x')).error.code, 'AccessDenied');
      assert.equal((await of.createSignedUploadUrl(path('intruder'))).error.code, 'AccessDenied');
      assert.equal(await read(team.owner, name), 'ours');
      assert.equal((await files(team.owner).exists(path('intruder'))).data, false);
    });
  }

  test('a viewer reads and writes nothing', async () => {
    assert.equal(await read(team.viewer, name), 'ours');
    assert.equal((await files(team.viewer).upload(path('v'), 'x')).error.code, 'AccessDenied');
    assert.deepEqual((await files(team.viewer).remove([name])).data, []);
    const one = await storage('DELETE', `/object/${bucket}/${name}`, { token: team.viewer.token });
    assert.deepEqual([one.status, one.body.code], [400, 'AccessDenied']);
  });

  test('a member of one organization does not write below the id of another', async () => {
    const theirs = path('x', other.orgId);
    assert.equal((await files(team.owner).upload(theirs, 'x')).error.code, 'AccessDenied');
    assert.equal((await files(team.owner).move(name, theirs)).error.code, 'AccessDenied');
    assert.equal((await files(team.owner).copy(name, theirs)).error.code, 'AccessDenied');
    assert.equal((await files(team.owner).upload('no-organization/x', 'x')).error.code, 'AccessDenied');
    // Not even the service key: such bytes would be nobody's.
    for (const nobodys of ['x', `${randomUUID()}/x`]) {
      assert.equal((await admin().storage.from(bucket).upload(nobodys, 'x')).error.code, 'bad_request');
    }
  });

  test('tricks with paths lead nowhere', async () => {
    await put(other.owner, path('bait', other.orgId), 'theirs');
    const tricks = [
      `${team.orgId}/../${other.orgId}/bait`,
      `${team.orgId}/%2e%2e/${other.orgId}/bait`,
      `${team.orgId}/..%2f${other.orgId}%2fbait`,
      `${team.orgId}/%252e%252e/${other.orgId}/bait`,
      `${team.orgId}//../${other.orgId}/bait`,
      `/${other.orgId}/bait`,
      `./${other.orgId}/bait`,
      `${team.orgId}/..\\${other.orgId}\\bait`,
      `${team.orgId}/%00/${other.orgId}/bait`,
      `${other.orgId.toUpperCase()}/bait`,
    ];
    for (const trick of tricks) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
        const answer = await raw(
          method,
          env.API_URL,
          `/storage/v1/object/${bucket}/${trick}`,
          [
            ['Host', new URL(env.API_URL).host],
            ['Authorization', `Bearer ${team.owner.token}`],
          ],
          method === 'POST' || method === 'PUT' ? 'x' : undefined,
        );
        assert.ok(answer.status >= 400, `${method} ${trick}: ${answer.status}`);
      }
    }
    assert.equal(await read(other.owner, path('bait', other.orgId)), 'theirs');
    const [{ count }] = await sql(`select count(*)::int from storage.objects where bucket_id = $1 and name ~ '(\\.\\.|//|^/)'`, [bucket]);
    assert.equal(count, 0);
  });

  test('a token that is forged, or none, is refused as upstream refuses it', async () => {
    const forged = await storage('GET', `/object/${bucket}/${name}`, { token: `${team.owner.token.slice(0, -4)}AAAA` });
    assert.deepEqual([forged.status, forged.body.statusCode, forged.body.code], [400, '403', 'AccessDenied']);
    const none = await fetch(`${env.API_URL}/storage/v1/object/${bucket}/${name}`);
    assert.deepEqual([none.status, (await none.json()).message], [400, "headers must have required property 'authorization'"]);
  });
});

describe('objects', () => {
  test('upload, download, replace, info, exists, delete', async () => {
    const name = path(`notes/${randomUUID()}.txt`);
    const data = await put(team.member, name, new Blob(['first'], { type: 'text/plain' }), { cacheControl: '60', metadata: { a: 1 } });
    assert.deepEqual([data.path, data.fullPath], [name, `${bucket}/${name}`]);
    assert.equal((await files(team.member).upload(name, 'again')).error.code, 'ResourceAlreadyExists');
    assert.equal(await read(team.member, name), 'first');
    await put(team.member, name, 'second', { upsert: true, contentType: 'text/markdown' });
    assert.equal(await read(team.member, name), 'second');
    assert.equal((await files(team.member).update(name, 'third')).error, null);
    const { data: info } = await files(team.member).info(name);
    assert.deepEqual([info.size, info.name, info.bucketId], [5, name, bucket]);
    assert.equal((await files(team.member).exists(name)).data, true);
    assert.equal((await files(team.member).exists(path('nothing'))).data, false);
    const { data: removed } = await files(team.member).remove([name, path('nothing')]);
    assert.deepEqual(
      removed.map((row) => row.name),
      [name],
    );
    assert.equal((await files(team.member).exists(name)).data, false);
  });

  test('bytes come back as they went, whole, in ranges, and not at all when they are known', async () => {
    const name = path(`${randomUUID()}.bin`);
    const bytes = randomBytes(3_500_000);
    await put(team.member, name, bytes, { contentType: 'application/octet-stream' });
    const token = team.member.token;
    const get = (headers = {}, method = 'GET') => storage(method, `/object/${bucket}/${name}`, { token, headers });
    const whole = await get();
    assert.equal(Buffer.compare(whole.bytes, bytes), 0);
    assert.equal(whole.headers.get('accept-ranges'), 'bytes');
    for (const [range, from, to] of [
      ['bytes=0-99', 0, 100],
      ['bytes=1048570-1048600', 1_048_570, 1_048_601],
      ['bytes=-7', 3_499_993, 3_500_000],
      ['bytes=3499990-', 3_499_990, 3_500_000],
    ]) {
      const part = await get({ Range: range });
      assert.deepEqual([part.status, part.headers.get('content-range')], [206, `bytes ${from}-${to - 1}/3500000`]);
      assert.equal(Buffer.compare(part.bytes, bytes.subarray(from, to)), 0);
    }
    assert.equal((await get({ Range: 'bytes=3500000-' })).status, 416);
    assert.equal((await get({ 'If-None-Match': whole.headers.get('etag') })).status, 304);
    assert.equal((await get({ 'If-Modified-Since': whole.headers.get('last-modified') })).status, 304);
    assert.equal((await get({ 'If-None-Match': '"other"' })).status, 200);
    assert.equal((await get({ Range: 'bytes=0-1', 'If-Range': '"other"' })).status, 200);
    const head = await get({}, 'HEAD');
    assert.deepEqual([head.status, head.headers.get('content-length'), head.bytes.length], [200, '3500000', 0]);
    await files(team.member).remove([name]);
  });

  test('an empty object, and a streamed one of unknown length', async () => {
    const [empty, streamed] = [path(`${randomUUID()}`), path(`${randomUUID()}`)];
    await put(team.member, empty, '');
    assert.equal(await read(team.member, empty), '');
    const stream = new ReadableStream({
      start(controller) {
        for (const part of ['one ', 'two ', 'three']) controller.enqueue(new TextEncoder().encode(part));
        controller.close();
      },
    });
    await put(team.member, streamed, stream, { duplex: 'half', contentType: 'text/plain' });
    assert.equal(await read(team.member, streamed), 'one two three');
    await files(team.member).remove([empty, streamed]);
  });

  test('move and copy', async () => {
    const [from, to, twin] = ['from', 'to', 'twin'].map((name) => path(`${name}-${randomUUID()}`));
    await put(team.member, from, 'content', { metadata: { kind: 'test' } });
    assert.equal((await files(team.member).copy(from, twin)).data.path, `${bucket}/${twin}`);
    assert.equal((await files(team.member).copy(from, twin)).error.code, 'ResourceAlreadyExists');
    assert.equal((await files(team.member).move(from, to)).error, null);
    assert.equal((await files(team.member).move(from, to)).error.code, 'NoSuchKey');
    assert.equal((await files(team.member).move(twin, to)).error.code, 'ResourceAlreadyExists');
    assert.deepEqual([await read(team.member, to), await read(team.member, twin)], ['content', 'content']);
    assert.deepEqual((await files(team.member).info(twin)).data.metadata, { kind: 'test' });
    await files(team.member).remove([to]);
    assert.equal(await read(team.member, twin), 'content');
  });

  test('lists: folders, order, search, pages, and the second version', async () => {
    const base = path(`list-${randomUUID()}`);
    for (const name of ['b.txt', 'a.txt', 'sub/x', 'sub/deep/y', 'sub-2/z']) await put(team.member, `${base}/${name}`);
    const names = async (options) => (await files(team.member).list(base, options)).data.map((row) => row.name);
    assert.deepEqual(await names(), ['a.txt', 'b.txt', 'sub-2', 'sub']);
    assert.deepEqual(await names({ sortBy: { column: 'name', order: 'desc' } }), ['sub', 'sub-2', 'b.txt', 'a.txt']);
    assert.deepEqual(await names({ limit: 2, offset: 1 }), ['b.txt', 'sub-2']);
    assert.deepEqual(await names({ search: 'A' }), ['a.txt']);
    assert.deepEqual((await names({ sortBy: { column: 'created_at', order: 'desc' } })).slice(-2), ['a.txt', 'b.txt']);
    const folder = (await files(team.member).list(base)).data.find((row) => row.name === 'sub');
    assert.deepEqual([folder.id, folder.metadata], [null, null]);
    assert.equal((await files(team.member).list(base, { sortBy: { column: 'owner' } })).error.statusCode, '400');
    const seen = [];
    let cursor;
    do {
      const { data, error } = await files(team.member).listV2({ prefix: `${base}/`, limit: 2, with_delimiter: true, cursor });
      assert.equal(error, null, error?.message);
      seen.push(...data.folders.map((one) => one.name), ...data.objects.map((one) => one.name));
      cursor = data.hasNext ? data.nextCursor : undefined;
    } while (cursor);
    assert.deepEqual(
      seen.map((name) => name.slice(base.length + 1)),
      ['a.txt', 'b.txt', 'sub-2/', 'sub/'],
    );
  });
});

describe('signed and public URLs', () => {
  test('a signed URL opens its object until it expires, and nothing else', async () => {
    const [name, another] = [path(`${randomUUID()}`), path(`${randomUUID()}`)];
    await put(team.member, name, 'signed');
    await put(team.member, another, 'another');
    const { data } = await files(team.member).createSignedUrl(name, 60, { download: 'a name.txt' });
    const opened = await fetch(data.signedUrl);
    assert.equal(await opened.text(), 'signed');
    assert.match(opened.headers.get('content-disposition'), /^attachment; filename=a%20name\.txt;/);
    const code = async (url, init) => (await (await fetch(url, init)).json()).code;
    assert.equal(await code(data.signedUrl.replace(name, another)), 'InvalidSignature');
    assert.equal(await code(data.signedUrl.replace(/token=[^&]+/, `token=${team.member.token}`)), 'InvalidSignature');
    assert.equal(
      await code(data.signedUrl.replace('/object/sign/', '/object/upload/sign/'), { method: 'PUT', body: 'x' }),
      'InvalidSignature',
    );
    const many = (await files(team.member).createSignedUrls([name, path('nothing')], 60)).data;
    assert.deepEqual([typeof many[0].signedUrl, many[1].signedUrl, typeof many[1].error], ['string', null, 'string']);
    await files(team.member).remove([name]);
    assert.equal(await code(data.signedUrl), 'NoSuchKey');
  });

  test('a signed upload writes its object once, and reads nothing', async () => {
    const name = path(`${randomUUID()}`);
    const { data } = await files(team.member).createSignedUploadUrl(name);
    const stranger = api().storage.from(bucket);
    assert.equal((await stranger.uploadToSignedUrl(path('elsewhere'), data.token, 'x')).error.code, 'InvalidSignature');
    assert.equal((await stranger.uploadToSignedUrl(name, data.token, 'by signed URL')).error, null);
    assert.equal((await stranger.uploadToSignedUrl(name, data.token, 'again')).error.code, 'ResourceAlreadyExists');
    assert.equal(
      (await (await fetch(`${env.API_URL}/storage/v1/object/sign/${bucket}/${name}?token=${data.token}`)).json()).code,
      'InvalidSignature',
    );
    const [row] = await sql('select owner_id from storage.objects where bucket_id = $1 and name = $2', [bucket, name]);
    assert.equal(row.owner_id, team.member.user.id);
  });

  test('only a public bucket has public URLs', async () => {
    const name = path(`${randomUUID()}.txt`);
    await put(team.member, name, 'private');
    await put(team.member, name, 'public', { bucket: publicBucket });
    const publicUrl = (of) => api().storage.from(of).getPublicUrl(name).data.publicUrl;
    assert.equal(await (await fetch(publicUrl(publicBucket))).text(), 'public');
    const closed = await fetch(publicUrl(bucket));
    assert.deepEqual([closed.status, (await closed.json()).code], [400, 'NoSuchBucket']);
  });

  test('what a browser would run is downloaded, in a sandbox', async () => {
    for (const [file, type, body] of [
      ['a.html', 'text/html', '<script>1</script>'],
      ['a.svg', 'image/svg+xml', '<svg xmlns="http://www.w3.org/2000/svg"/>'],
      ['a.xml', 'application/xml', '<a/>'],
      ['a.txt', 'text/plain', 'text'],
    ]) {
      const name = path(`${randomUUID()}/${file}`);
      await put(team.member, name, body, { contentType: type, bucket: publicBucket });
      const { headers } = await fetch(api().storage.from(publicBucket).getPublicUrl(name).data.publicUrl);
      assert.match(headers.get('content-security-policy'), /sandbox/);
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
      assert.equal(headers.get('content-disposition'), file === 'a.txt' ? null : 'attachment;', file);
    }
  });
});

describe('buckets', () => {
  test('a user makes none, and the service key makes, changes, empties and deletes one', async () => {
    assert.equal((await team.owner.client.storage.createBucket(`b-${randomUUID()}`)).error.code, 'AccessDenied');
    assert.deepEqual((await team.owner.client.storage.listBuckets()).data, []);
    assert.equal((await team.owner.client.storage.getBucket(bucket)).error.code, 'NoSuchBucket');
    assert.equal((await team.owner.client.storage.emptyBucket(bucket)).error.status, 403);
    const { storage: service } = admin();
    const id = `b-${randomUUID()}`;
    assert.equal((await service.createBucket(id, { public: false, fileSizeLimit: '1KB', allowedMimeTypes: ['image/*'] })).data.name, id);
    assert.equal((await service.createBucket(id)).error.code, 'ResourceAlreadyExists');
    assert.equal((await service.createBucket('a/b')).error.code, 'InvalidBucketName');
    const { data } = await service.getBucket(id);
    assert.deepEqual([data.file_size_limit, data.allowed_mime_types, data.public], [1024, ['image/*'], false]);
    const png = Buffer.from('89504e470d0a1a0a', 'hex');
    const upload = (name, body, contentType) => service.from(id).upload(name, body, { contentType });
    assert.equal((await upload('a.txt', 'x', 'text/plain')).error.code, 'InvalidMimeType');
    assert.equal((await upload('a.png', '<!doctype html><script>', 'image/png')).error.code, 'InvalidMimeType');
    assert.equal((await upload('a.png', Buffer.concat([png, Buffer.alloc(1_024)]), 'image/png')).error.code, 'EntityTooLarge');
    assert.equal((await upload('a.png', png, 'image/png')).error, null);
    assert.equal((await service.deleteBucket(id)).error.code, 'ResourceNotEmpty');
    assert.equal((await service.updateBucket(id, { public: true })).error, null);
    assert.equal((await service.emptyBucket(id)).error, null);
    assert.equal((await service.deleteBucket(id)).error, null);
    assert.equal((await service.getBucket(id)).error.code, 'NoSuchBucket');
    assert.equal((await service.from(id).upload('x', 'x')).error.code, 'NoSuchBucket');
  });

  test('what is not served says so by name', async () => {
    for (const [method, where] of [
      ['POST', '/upload/resumable'],
      ['GET', `/render/image/public/${publicBucket}/x`],
      ['GET', '/s3/x'],
    ]) {
      const answer = await storage(method, where);
      assert.deepEqual([answer.status, answer.body.code], [400, 'FeatureNotEnabled'], where);
    }
  });
});
