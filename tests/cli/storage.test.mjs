// ./kijko storage check: an object without its bytes, and bytes without an object.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { asPostgres, home, kijko } from './stack.mjs';

const bucket = `cli-${randomUUID()}`;
const file = (version) => path.join(home, 'storage', version.slice(0, 2), version.slice(2, 4), version);

describe('storage check', () => {
  let stored;
  before(async () => {
    await asPostgres((client) => client.query('insert into storage.buckets (id, name) values ($1, $1)', [bucket]));
    const answer = await fetch(`${process.env.API_URL}/storage/v1/object/${bucket}/a/b.txt`, {
      method: 'POST',
      body: 'bytes',
      headers: { Authorization: `Bearer ${process.env.SERVICE_ROLE_KEY}`, 'Content-Type': 'text/plain' },
    });
    assert.equal(answer.status, 200, await answer.text());
    const { rows } = await asPostgres((client) => client.query('select version from storage.objects where bucket_id = $1', [bucket]));
    stored = file(rows[0].version);
  });
  after(() =>
    asPostgres(async (client) => {
      await client.query(`set storage.allow_delete_query = 'true'`);
      await client.query('delete from storage.objects where bucket_id = $1', [bucket]);
      await client.query('delete from storage.buckets where id = $1', [bucket]);
    }),
  );

  it('finds nothing where all is well', async () => {
    const { code, stdout } = await kijko(['storage', 'check']);
    assert.equal(code, 0, stdout);
  });

  it('names an object whose bytes are gone or of another length', async () => {
    const bytes = fs.readFileSync(stored);
    fs.writeFileSync(stored, 'other bytes');
    assert.match((await kijko(['storage', 'check'])).stdout, new RegExp(`^no bytes: ${bucket}/a/b\\.txt$`, 'm'));
    fs.renameSync(stored, `${stored}.away`);
    const { code, stdout } = await kijko(['storage', 'check']);
    assert.equal(code, 1);
    assert.match(stdout, new RegExp(`^no bytes: ${bucket}/a/b\\.txt$`, 'm'));
    fs.renameSync(`${stored}.away`, stored);
    fs.writeFileSync(stored, bytes);
  });

  it('names bytes without an object, and deletes them when it is told to', async () => {
    const stray = path.join(path.dirname(stored), `${path.basename(stored).slice(0, 4)}${randomUUID().slice(4)}`);
    fs.writeFileSync(stray, 'nobody');
    const { code, stdout } = await kijko(['storage', 'check']);
    assert.deepEqual([code, stdout.includes(`no row: ${stray}`)], [1, true]);
    assert.equal((await kijko(['storage', 'check', '--delete'])).code, 0);
    assert.deepEqual([fs.existsSync(stray), fs.existsSync(stored)], [false, true]);
  });

  it('takes nothing else', async () => {
    for (const args of [[], ['repair'], ['check', '--all']]) assert.equal((await kijko(['storage', ...args])).code, 2);
  });
});
