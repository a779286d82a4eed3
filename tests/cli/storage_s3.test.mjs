// Objects in S3 instead of the folder: the same rows, the same answers, and nothing that stays behind when the service is killed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { after, before, describe, it } from 'node:test';
import { until } from '../until.mjs';
import { Bucket, blob } from './objects.mjs';
import { S3Server } from './s3_server.mjs';
import { asPostgres, asSuperuser, kijko, logs, pidOf } from './stack.mjs';

const PREFIX = 'stacks/test';
const SECRET = 'S3cret+of/a-test';
const large = Buffer.alloc(20 << 20, 'twenty mebibytes');
let server;
let bucket;
let settings;

const key = async (name) => `${PREFIX}/${blob(await bucket.version(name))}`;
const fileOf = (pid, name) => {
  try {
    return fs.readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return '';
  }
};

/** The service, started anew with these settings. */
const restart = (environment) => kijko(['restart', 'storage'], environment);

async function succeeds(promise) {
  const { code, stdout, stderr } = await promise;
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}

/** As if days had passed since these objects were deleted. */
const agePassed = () =>
  asSuperuser((client) => client.query(`update storage_service.deletions set deleted_at = deleted_at - interval '3 days'`));

/** What the check says of this test's own: objects of other tests lie in the folder. */
async function check(...args) {
  const { code, stdout } = await kijko(['storage', 'check', ...args], settings);
  const lines = stdout.split('\n').filter((line) => line.startsWith('no row') || line.startsWith(`no bytes: ${bucket.name}/`));
  return { code, lines };
}

describe('storage in S3', () => {
  before(async () => {
    server = await S3Server.start('objects');
    bucket = await Bucket.make();
    settings = {
      KIJKO_STORAGE_S3_BUCKET: 'objects',
      KIJKO_STORAGE_S3_ENDPOINT: server.endpoint,
      KIJKO_STORAGE_S3_PREFIX: PREFIX,
      KIJKO_STORAGE_S3_ACCESS_KEY_ID: 'key-of-a-test',
      KIJKO_STORAGE_S3_SECRET_ACCESS_KEY: SECRET,
      KIJKO_STORAGE_LEASE_SECONDS: '10',
      KIJKO_STORAGE_SWEEP_SECONDS: '1',
    };
    await succeeds(restart(settings));
  });
  after(async () => {
    await bucket.remove();
    // What this test has deleted is not in the folder.
    await asSuperuser((client) => client.query('delete from storage_service.deletions where version = any ($1::uuid[])', [versions]));
    await succeeds(restart({}));
    await server.stop();
  });
  const versions = [];
  const put = async (name, bytes) => {
    await bucket.put(name, bytes);
    versions.push(await bucket.version(name));
  };

  it('stores small objects in one piece and large ones in parts, and reads any range of them', async () => {
    await put('small', 'bytes');
    await put('empty', '');
    await put('large', large);
    assert.deepEqual(await server.keys(), (await Promise.all(['small', 'empty', 'large'].map(key))).sort());
    assert.equal((await bucket.get('small')).toString(), 'bytes');
    assert.equal((await bucket.get('empty')).length, 0);
    assert.ok((await bucket.get('large')).equals(large));
    const part = 8 << 20;
    const range = await bucket.get('large', { Range: `bytes=${part - 5}-${part + 6}` });
    assert.ok(range.equals(large.subarray(part - 5, part + 7)));
    const { headers } = await bucket.request('HEAD', 'large');
    assert.equal(await bucket.get('large', { 'If-None-Match': headers.get('etag') }), 304);
    assert.deepEqual(await server.uploads(), []);
  });

  it('keeps replaced and deleted bytes for some days, and deletes them then', async () => {
    const former = await key('small');
    await put('small', 'other bytes');
    const deleted = await key('empty');
    await bucket.delete('empty');
    assert.equal((await bucket.get('small')).toString(), 'other bytes');
    assert.equal(await bucket.get('empty'), 400);
    const keys = await server.keys();
    assert.ok(keys.includes(former) && keys.includes(deleted));
    assert.deepEqual((await check()).lines, []);
    await agePassed();
    const left = [await key('small'), await key('large')].sort();
    await until('the sweeper', async () => JSON.stringify(await server.keys()) === JSON.stringify(left));
  });

  it('copies inside S3, and moves without its help', async () => {
    for (const [action, to] of [
      ['copy', 'copied'],
      ['move', 'moved'],
    ]) {
      const answer = await fetch(`${process.env.API_URL}/storage/v1/object/${action}`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${process.env.SERVICE_ROLE_KEY}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({ bucketId: bucket.name, sourceKey: 'small', destinationKey: to }),
      });
      assert.equal(answer.status, 200, await answer.text());
      assert.equal((await bucket.get(to)).toString(), 'other bytes');
      versions.push(await bucket.version(to));
    }
    assert.equal((await server.keys()).length, 3);
  });

  it('aborts the parts of an upload that turns out too large', async () => {
    await asPostgres((client) => client.query('update storage.buckets set file_size_limit = $2 where id = $1', [bucket.name, 10 << 20]));
    async function* unannounced() {
      for (let sent = 0; sent < 12; sent++) yield Buffer.alloc(1 << 20);
    }
    const answer = await bucket.request('PUT', 'too-large', { body: unannounced(), duplex: 'half' });
    assert.equal((await answer.json()).code, 'EntityTooLarge');
    await asPostgres((client) => client.query('update storage.buckets set file_size_limit = null where id = $1', [bucket.name]));
    await until('its parts to go', async () => (await server.uploads()).length === 0);
  });

  it('aborts the parts of a service that was killed, and makes no object of them', async () => {
    const request = http.request(`${process.env.API_URL}/storage/v1/object/${bucket.name}/half`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${process.env.SERVICE_ROLE_KEY}`, 'Content-Type': 'application/octet-stream' },
    });
    request.on('error', () => {});
    request.write(large.subarray(0, 10 << 20));
    await until('a part', async () => (await server.uploads()).length === 1);
    process.kill(pidOf('storage'), 'SIGKILL');
    await succeeds(restart(settings));
    await until('the sweeper', async () => (await server.uploads()).length === 0);
    request.destroy();
    assert.equal(await bucket.get('half'), 400);
    assert.deepEqual(await check().then(({ lines }) => lines), []);
  });

  it('is checked both ways, and what is not its own stays', async () => {
    const stray = `${PREFIX}/${blob('abcdef00-0000-4000-8000-000000000001')}`;
    const foreign = [`${PREFIX}/notes.txt`, `other/${blob('abcdef00-0000-4000-8000-000000000002')}`];
    for (const name of [stray, ...foreign]) await server.put(name, 'nobody');
    const lost = await key('moved');
    assert.equal((await server.delete(lost)).status, 204);
    assert.ok(!(await server.keys()).includes(lost));
    assert.deepEqual(await check(), { code: 1, lines: [`no bytes: ${bucket.name}/moved`, `no row: ${stray}`] });
    await check('--delete');
    const keys = await server.keys();
    assert.ok(!keys.includes(stray) && foreign.every((name) => keys.includes(name)));
    await server.put(lost, 'other bytes');
    assert.deepEqual((await check()).lines, []);
  });

  it('refuses settings that cannot work, and no process or log shows the secret', async () => {
    const bad = { ...settings, KIJKO_STORAGE_S3_ENDPOINT: 'nowhere', KIJKO_STORAGE_S3_REGION: 'a b' };
    const { code, stderr } = await kijko(['storage', 'check'], bad);
    assert.equal(code, 2);
    assert.match(stderr, /KIJKO_STORAGE_S3_ENDPOINT must be[\s\S]*KIJKO_STORAGE_S3_REGION must be/);
    assert.ok(!stderr.includes(SECRET));
    for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
      assert.ok(!fileOf(pid, 'cmdline').includes(SECRET), `an argument of ${pid}`);
    assert.ok(fileOf(pidOf('storage'), 'environ').includes(SECRET), 'the environment can be read');
    for (const name of ['sidecar', 'realtime', 'rest', 'login', 'caddy']) assert.ok(!fileOf(pidOf(name), 'environ').includes(SECRET), name);
    for (const { name, text } of logs()) assert.ok(!text.includes(SECRET), name);
  });
});
