// Whose bytes, and what happens at once: the gauge, races, an organization that goes, API keys.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { before, describe, test } from 'node:test';
import { newTeam, ok, until } from './domain.mjs';
import { read as readOf, storage, storedBytes, tenantBucket } from './storage_support.mjs';
import { admin, adminSql, client, env, newUser, sql } from './support.mjs';

let team;
let bucket;
const files = (person) => person.client.storage.from(bucket);
const path = (name, org = team.orgId) => `${org}/${name}`;
const read = (person, name) => readOf(files(person), name);

before(async () => {
  team = await newTeam();
  bucket = await tenantBucket();
});

async function put(person, name, body = 'hello', options = {}) {
  const { data, error } = await files(person).upload(name, body, options);
  assert.equal(error, null, error?.message);
  return data;
}

describe('the gauge storage_bytes', () => {
  test('is the bytes of the rows, through uploads, replacements, moves, copies and deletions', async () => {
    const person = await newTeam();
    const of = files(person.owner);
    const name = (n) => path(`g/${n}`, person.orgId);
    const exact = async (bytes) => assert.deepEqual(await storedBytes(person.orgId), { gauge: bytes, rows: bytes });
    await of.upload(name(1), 'x'.repeat(1_000));
    await exact(1_000);
    await of.upload(name(1), 'x'.repeat(400), { upsert: true });
    await exact(400);
    await of.copy(name(1), name(2));
    await exact(800);
    await of.move(name(2), name(3));
    await exact(800);
    await Promise.all(Array.from({ length: 8 }, (_, n) => of.upload(name(`many-${n}`), 'y'.repeat(100 + n))));
    await exact(800 + 828);
    await of.remove([name(1), name('many-0')]);
    await exact(800 + 828 - 500);
    await sql(
      `do $$ begin perform set_config('storage.allow_delete_query', 'true', true); delete from storage.objects where name like '${person.orgId}/%'; end $$`,
    );
    await exact(0);
  });

  test('refuses what the plan does not hold before its bytes are read, and one of two that come at once', async () => {
    const person = await newTeam();
    await sql(`select kijko.set_limit($1, 'storage_bytes', 'lifetime', 1000000)`, [person.orgId]);
    const of = files(person.owner);
    const send = (headers) =>
      new Promise((resolve, reject) => {
        const url = new URL(`${env.API_URL}/storage/v1/object/${bucket}/${path('big', person.orgId)}`);
        const request = http.request(url, { method: 'POST', headers: { Authorization: `Bearer ${person.owner.token}`, ...headers } });
        request.on('response', (answer) => {
          let text = '';
          answer.on('data', (part) => {
            text += part;
          });
          answer.on('end', () => resolve(JSON.parse(text)));
        });
        request.on('error', reject);
        // Its body never comes.
        request.flushHeaders();
      });
    const refused = await send({ 'Content-Length': 2_000_000, Expect: '100-continue' });
    assert.deepEqual([refused.code, refused.statusCode], ['quota_exceeded', '429']);
    const body = 'z'.repeat(600_000);
    const both = await Promise.all(['one', 'two'].map((name) => of.upload(path(name, person.orgId), body)));
    assert.deepEqual(both.map(({ error }) => error?.code ?? 'stored').sort(), ['quota_exceeded', 'stored']);
    assert.deepEqual(await storedBytes(person.orgId), { gauge: 600_000, rows: 600_000 });
  });

  test('gives an upload of unknown length up when its bytes pass what the plan holds, and not at its end', async () => {
    const person = await newTeam();
    await sql(`select kijko.set_limit($1, 'storage_bytes', 'lifetime', 2500000)`, [person.orgId]);
    const name = path('endless', person.orgId);
    let sender;
    const body = new ReadableStream({
      start(controller) {
        sender = controller;
      },
    });
    sender.enqueue(new Uint8Array(700_000));
    const upload = files(person.owner).upload(name, body, { duplex: 'half' });
    const underWay = async () => (await adminSql('select from storage_service.uploads where name = $1', [name])).length;
    await until('the upload to be under way', underWay);
    // The plan holds three of them.
    for (let n = 1; n < 6; n++) sender.enqueue(new Uint8Array(700_000));
    await until('the upload to be given up', async () => (await underWay()) === 0);
    sender.close();
    const { error } = await upload;
    assert.equal(error.code, 'quota_exceeded');
    assert.deepEqual(await storedBytes(person.orgId), { gauge: 0, rows: 0 });
  });
});

describe('uploads under way', () => {
  test('of unknown length hold what comes: together no more than the plan, before any of them ends', async () => {
    const person = await newTeam();
    await sql(`select kijko.set_limit($1, 'storage_bytes', 'lifetime', 2500000)`, [person.orgId]);
    const senders = [];
    const names = ['one', 'two'].map((name) => path(name, person.orgId));
    const uploads = names.map((name) => {
      const body = new ReadableStream({
        start(controller) {
          senders.push(controller);
        },
      });
      return files(person.owner).upload(name, body, { duplex: 'half' });
    });
    const underWay = () => adminSql('select name, held_bytes::integer from storage_service.uploads where payer = $1', [person.orgId]);
    const held = (rows) => rows.reduce((sum, row) => sum + row.held_bytes, 0);
    for (const sender of senders) sender.enqueue(new Uint8Array(700_000));
    await until('both to hold what came', async () => (await underWay()).filter((row) => row.held_bytes >= 700_000).length === 2);
    assert.ok(held(await underWay()) <= 2_500_000);
    // More of one of them, beside what the other one holds, is more than the plan has.
    senders[0].enqueue(new Uint8Array(1_200_000));
    await until('it to be given up', async () => (await underWay()).every((row) => row.name === names[1]));
    senders[0].close();
    // What it held is free again.
    senders[1].enqueue(new Uint8Array(1_200_000));
    senders[1].close();
    const [refused, stored] = await Promise.all(uploads);
    assert.equal(refused.error.code, 'quota_exceeded');
    assert.equal(stored.error, null, stored.error?.message);
    assert.deepEqual(await storedBytes(person.orgId), { gauge: 1_900_000, rows: 1_900_000 });
    assert.deepEqual(await underWay(), []);
  });

  test('what an uploader writes about an object counts, and has an end', async () => {
    const person = await newTeam();
    const metadata = { note: 'n'.repeat(1_000) };
    const { error } = await files(person.owner).upload(path('noted', person.orgId), '', { metadata });
    assert.equal(error, null, error?.message);
    const { gauge } = await storedBytes(person.orgId);
    assert.ok(gauge > 1_000 && gauge < 1_100, String(gauge));
    const copy = await storage('POST', '/object/copy', {
      token: person.owner.token,
      body: {
        bucketId: bucket,
        sourceKey: path('noted', person.orgId),
        destinationKey: path('copy', person.orgId),
        copyMetadata: false,
        metadata: { note: 'n'.repeat(70_000) },
      },
    });
    assert.equal(copy.body.code, 'InvalidRequest');
    assert.equal((await storedBytes(person.orgId)).gauge, gauge);
  });
});

describe('races', () => {
  test('reading while an object is moved, replaced or deleted gives whole objects or none', async () => {
    const names = [path(`race-${randomUUID()}`), path(`race-${randomUUID()}`)];
    const bodies = ['a', 'b'].map((letter) => letter.repeat(700_000));
    await put(team.member, names[0], bodies[0]);
    let going = true;
    const seen = [];
    const readers = Array.from({ length: 3 }, async () => {
      while (going) for (const name of names) seen.push(await read(team.member, name));
    });
    for (let n = 0; n < 6; n++) {
      await files(team.member).move(names[n % 2], names[1 - (n % 2)]);
      await put(team.member, names[1 - (n % 2)], bodies[n % 2], { upsert: true });
    }
    await files(team.member).remove(names);
    going = false;
    await Promise.all(readers);
    for (const one of seen) assert.ok(one.code !== undefined || bodies.includes(one), 'a mixed or cut object');
    assert.ok(seen.some((one) => bodies.includes(one)));
  });

  test('uploads of one name at once leave one object, and a deletion meanwhile leaves a whole one or none', async () => {
    const name = path(`same-${randomUUID()}`);
    const bodies = Array.from({ length: 6 }, (_, n) => String(n).repeat(50_000));
    const answers = await Promise.all(bodies.map((body) => files(team.member).upload(name, body)));
    assert.equal(answers.filter(({ error }) => error === null).length, 1);
    assert.ok(bodies.includes(await read(team.member, name)));
    await Promise.all([
      ...bodies.map((body) => files(team.member).upload(name, body, { upsert: true })),
      files(team.member).remove([name]),
    ]);
    const left = await read(team.member, name);
    assert.ok(left.code !== undefined || bodies.includes(left));
  });

  test('a deleted bucket takes no upload that began before', async () => {
    const { storage: service } = admin();
    const id = `b-${randomUUID()}`;
    await service.createBucket(id);
    let finish;
    const stream = new ReadableStream({
      async start(controller) {
        controller.enqueue(new Uint8Array(10));
        await new Promise((resolve) => {
          finish = resolve;
        });
        controller.close();
      },
    });
    const upload = service.from(id).upload('late', stream, { duplex: 'half' });
    while ((await service.deleteBucket(id)).error) {}
    finish();
    assert.equal((await upload).error.code, 'NoSuchBucket');
  });
});

test('an organization that goes takes its objects with it', async () => {
  const person = await newTeam();
  await put(person.owner, path('x', person.orgId));
  const [{ version }] = await sql('select version from storage.objects where name = $1', [path('x', person.orgId)]);
  await sql('delete from public.organizations where id = $1', [person.orgId]);
  assert.deepEqual(await sql('select from storage.objects where version = $1', [version]), []);
});

test('an API key reads and writes by its permissions', async () => {
  const key = await ok(
    team.owner.client.rpc('create_api_key', { name: 'files', permissions: ['content:read'] }).setHeader('x-org-id', team.orgId),
  );
  const of = client(key.secret).storage.from(bucket);
  const name = path(`key-${randomUUID()}`);
  await put(team.member, name, 'for keys');
  assert.equal(await readOf(of, name), 'for keys');
  assert.equal((await of.upload(path('by-key'), 'x')).error.statusCode, '403');
  await ok(team.owner.client.rpc('revoke_api_key', { id: key.id }).setHeader('x-org-id', team.orgId));
  assert.equal((await readOf(of, name)).code, 'AccessDenied');
});

test('a session that was signed out reads nothing', async () => {
  const person = await newUser();
  const token = person.session.access_token;
  await person.client.auth.signOut();
  const answer = await storage('POST', `/object/list/${bucket}`, { token, body: { prefix: '' } });
  assert.deepEqual([answer.status, answer.body.code], [400, 'AccessDenied']);
});
