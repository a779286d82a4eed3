// Lists by time with cursors, and what signed URLs for uploads may replace and whom they count for.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { newTeam, ok, until } from './domain.mjs';
import { createPolicies, read, storage, tenantBucket } from './storage_support.mjs';
import { adminSql, api, client, sql } from './support.mjs';

let team, other, bucket;
before(async () => {
  [team, other] = [await newTeam(), await newTeam()];
  bucket = await tenantBucket();
});
const files = (person, of = bucket) => person.client.storage.from(of);
const path = (name, org = team.orgId) => `${org}/${name}`;
async function put(person, name, body = 'x', options = {}) {
  const { error } = await files(person).upload(name, body, options);
  assert.equal(error, null, error?.message);
}

describe('listV2 by time', () => {
  const base = () => path('times');
  before(async () => {
    // The second and the third one have one time: then the key decides.
    for (const [name, minute] of [
      ['c.txt', 1],
      ['b.txt', 2],
      ['a.txt', 2],
      ['late/x.txt', 3],
      ['late/y.txt', 9],
      ['d.txt', 4],
    ]) {
      await put(team.member, `${base()}/${name}`);
      await sql('update storage.objects set created_at = $3 where bucket_id = $1 and name = $2', [
        bucket,
        `${base()}/${name}`,
        `2026-01-01T00:0${minute}:00.000Z`,
      ]);
    }
  });

  async function pages(person, options, limit = 2) {
    const seen = [];
    let cursor;
    do {
      const { data, error } = await files(person).listV2({ prefix: `${base()}/`, limit, cursor, ...(cursor === undefined && options) });
      assert.equal(error, null, error?.message);
      assert.ok(data.folders.length + data.objects.length <= limit);
      // Within a page folders and objects come apart.
      seen.push([...data.folders, ...data.objects].map(({ name }) => name.slice(base().length + 1)));
      cursor = data.hasNext ? data.nextCursor : undefined;
    } while (cursor);
    return seen;
  }

  test('pages in both directions, with folders and without: a cursor keeps the order', async () => {
    const by = (order, with_delimiter) => ({ sortBy: { column: 'created_at', order }, with_delimiter });
    assert.deepEqual((await pages(team.member, by('asc', false))).flat(), ['c.txt', 'a.txt', 'b.txt', 'late/x.txt', 'd.txt', 'late/y.txt']);
    assert.deepEqual((await pages(team.member, by('desc', false), 1)).flat(), [
      'late/y.txt',
      'd.txt',
      'late/x.txt',
      'b.txt',
      'a.txt',
      'c.txt',
    ]);
    const listed = async (options) => {
      const { data } = await files(team.member).listV2({ prefix: `${base()}/`, with_delimiter: true, ...options });
      return data;
    };
    const whole = await listed({ sortBy: { column: 'created_at', order: 'asc' } });
    assert.deepEqual(
      whole.folders.map(({ name }) => name),
      [`${base()}/late/`],
    );
    assert.deepEqual(
      whole.objects.map(({ name }) => name.slice(base().length + 1)),
      ['c.txt', 'a.txt', 'b.txt', 'd.txt'],
    );
    const paged = await pages(team.member, { sortBy: { column: 'created_at', order: 'asc' }, with_delimiter: true }, 1);
    assert.deepEqual(paged.slice(0, 3).flat(), ['c.txt', 'a.txt', 'b.txt']);
    await put(team.member, `${base()}/c.txt`, 'newer', { upsert: true });
    const updated = await listed({ sortBy: { column: 'updated_at', order: 'desc' }, with_delimiter: false });
    assert.equal(updated.objects[0].name, `${base()}/c.txt`);
  });

  test('non-members get nothing, and other columns and cursors are refused', async () => {
    for (const person of [other.owner, { client: api() }])
      assert.deepEqual((await pages(person, { sortBy: { column: 'created_at', order: 'asc' } })).flat(), []);
    const code = async (options) => (await files(team.member).listV2({ prefix: '', ...options })).error?.code;
    assert.equal(await code({ sortBy: { column: 'last_accessed_at' } }), 'InvalidParameter');
    assert.equal(await code({ sortBy: { column: 'metadata' } }), 'InvalidParameter');
    const made = (text) => Buffer.from(text).toString('base64url');
    for (const cursor of ['x', made('l:a'), made('l:a\no:asc\nc:owner\na:0'), made('l:a\no:asc\nc:created_at\na:99999999999999999999')])
      assert.equal(await code({ cursor }), 'InvalidParameter', cursor);
  });
});

describe('an upload with upsert that began for a free name', () => {
  test('asks the policies about what has come meanwhile', async () => {
    const id = `i-${randomUUID()}`;
    await sql('insert into storage.buckets (id, name) values ($1, $1)', [id]);
    const own = `bucket_id = '${id}'`;
    await createPolicies(`create policy "${id} select" on storage.objects for select to authenticated using (${own});
      create policy "${id} insert" on storage.objects for insert to authenticated with check (${own})`);
    const late = async (name) => {
      let sender;
      const body = new ReadableStream({
        start(controller) {
          sender = controller;
        },
      });
      sender.enqueue(new TextEncoder().encode('late'));
      const upload = files(team.member, id).upload(name, body, { upsert: true, duplex: 'half' });
      const underWay = async () =>
        (await adminSql('select from storage_service.uploads where bucket_id = $1 and name = $2', [id, name])).length;
      await until('the upload to be under way', underWay);
      assert.equal((await files(team.owner, id).upload(name, 'meanwhile')).error, null);
      sender.close();
      const { error } = await upload;
      return [error?.code, await read(files(team.owner, id), name)];
    };
    assert.deepEqual(await late('kept'), ['AccessDenied', 'meanwhile']);
    await createPolicies(`create policy "${id} update" on storage.objects for update to authenticated using (${own})`);
    assert.deepEqual(await late('replaced'), [undefined, 'late']);
  });
});

describe('signed URLs for uploads', () => {
  test('with upsert need the policies for replacing, also for a new name', async () => {
    const id = `i-${randomUUID()}`;
    await sql('insert into storage.buckets (id, name) values ($1, $1)', [id]);
    const own = `bucket_id = '${id}'`;
    await createPolicies(`create policy "${id} select" on storage.objects for select to authenticated using (${own});
      create policy "${id} insert" on storage.objects for insert to authenticated with check (${own})`);
    const of = files(team.member, id);
    assert.equal((await of.createSignedUploadUrl('new', { upsert: true })).error?.code, 'AccessDenied');
    assert.equal((await of.createSignedUploadUrl('new')).error, null);
    await createPolicies(`create policy "${id} update" on storage.objects for update to authenticated using (${own})`);
    assert.equal((await of.createSignedUploadUrl('new', { upsert: true })).error, null);
  });

  test('with upsert replace what was there or what the signer wrote, and nothing that came from others meanwhile', async () => {
    const stranger = api().storage.from(bucket);
    const [kept, theirs] = [path(`kept-${randomUUID()}`), path(`theirs-${randomUUID()}`)];
    const { token } = await ok(files(team.member).createSignedUploadUrl(kept, { upsert: true }));
    for (const body of ['one', 'two']) assert.equal((await stranger.uploadToSignedUrl(kept, token, body)).error, null);
    assert.equal(await read(files(team.owner), kept), 'two');
    const early = await ok(files(team.member).createSignedUploadUrl(theirs, { upsert: true }));
    await put(team.owner, theirs, 'of the owner');
    assert.equal((await stranger.uploadToSignedUrl(theirs, early.token, 'over')).error.code, 'ResourceAlreadyExists');
    const late = await ok(files(team.member).createSignedUploadUrl(theirs, { upsert: true }));
    assert.equal((await stranger.uploadToSignedUrl(theirs, late.token, 'over')).error, null);
    assert.equal(await read(files(team.owner), theirs), 'over');
  });

  test('count for the key that signed them, by its rate, among its uploads, and until it is revoked', async () => {
    const make = (fields) =>
      ok(
        team.owner.client
          .rpc('create_api_key', { name: 'signs', permissions: ['content:read', 'content:write'], ...fields })
          .setHeader('x-org-id', team.orgId),
      );
    const sign = async (key, name) => ok(client(key.secret).storage.from(bucket).createSignedUploadUrl(name, { upsert: true }));
    const send = (name, token, body = 'x') =>
      storage('PUT', `/object/upload/sign/${bucket}/${name}?token=${token}`, { body, headers: { 'Content-Type': 'text/plain' } });

    const slow = await make({ rate_limit: 3 });
    const name = path(`rate-${randomUUID()}`);
    const { token } = await sign(slow, name);
    const answers = [];
    for (let n = 0; n < 5 && answers.at(-1) !== 429; n++) answers.push((await send(name, token)).status);
    assert.equal(answers.at(-1), 429, answers.join());

    const key = await make();
    const open = path(`open-${randomUUID()}`);
    const signed = await sign(key, open);
    let finish;
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(new TextEncoder().encode('first '));
        await new Promise((resolve) => {
          finish = resolve;
        });
        controller.close();
      },
    });
    const sending = api().storage.from(bucket).uploadToSignedUrl(open, signed.token, body, { duplex: 'half' });
    const row = await until('the upload to be under way', async () => {
      const rows = await sql('select null from storage.objects where bucket_id = $1 and name = $2', [bucket, open]);
      assert.deepEqual(rows, []);
      return (await adminSql('select u.started_by from storage_service.uploads as u where u.name = $1', [open]))[0];
    });
    finish();
    assert.equal(row.started_by, key.id);
    assert.equal((await sending).error, null);
    await ok(team.owner.client.rpc('revoke_api_key', { id: key.id }).setHeader('x-org-id', team.orgId));
    assert.equal((await send(open, signed.token)).body.code, 'invalid_api_key');
  });
});
