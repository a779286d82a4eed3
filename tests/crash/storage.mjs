// Objects and their bytes belong together, whatever is killed meanwhile: a storage service at any moment of an upload, a backend.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { HOME, killStorageServices, StorageService } from '../storage_service.mjs';
import { connectAsAdmin, killBackend, query, until } from './harness.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const ROUNDS = 8;
const WRITERS = 4;
const run = promisify(execFile);
const variables = { KIJKO_STORAGE_LEASE_SECONDS: '2', KIJKO_STORAGE_SWEEP_SECONDS: '1' };
const token = process.env.SERVICE_ROLE_KEY;

/** Exit code and what it prints. */
const check = () =>
  run(path.join(ROOT, 'kijko'), ['storage', 'check'], { env: { ...process.env, KIJKO_HOME: HOME } }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    ({ code, stdout, stderr }) => ({ code, stdout: stdout + stderr }),
  );

/** An upload that stops in the middle of its body, until it is cut. */
function half(service, name) {
  const request = http.request(`${service.url}/object/${name}`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/octet-stream', 'x-upsert': 'true' },
  });
  request.on('error', () => {});
  request.write(Buffer.alloc(3 << 20, 1));
  return request;
}

async function write(service, bucket, n) {
  const name = `${bucket}/${n % 5}`;
  const method = n % 7 === 6 ? 'DELETE' : 'PUT';
  await fetch(`${service().url}/object/${name}`, {
    method,
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/octet-stream' },
    body: method === 'PUT' ? Buffer.alloc(200_000 + n, n % 250) : undefined,
  }).then(
    (answer) => answer.arrayBuffer(),
    () => {},
  );
}

export function storageTests() {
  describe('storage, while its service is killed', () => {
    const bucket = `crash-${randomUUID()}`;
    let service;
    before(async () => {
      service = await StorageService.start({ variables });
      await query('insert into storage.buckets (id, name) values ($1, $1)', [bucket]);
    });
    after(async () => {
      await killStorageServices();
      await query(`do $$ begin
        perform set_config('storage.allow_delete_query', 'true', true);
        delete from storage.objects where bucket_id = '${bucket}'; delete from storage.buckets where id = '${bucket}';
      end $$`);
    });

    test('no row without its bytes, and no bytes without a row', async () => {
      let going = true;
      const writers = Array.from({ length: WRITERS }, async (_, writer) => {
        for (let n = writer; going; n += WRITERS) {
          await write(() => service, bucket, n);
          await sleep(1);
        }
      });
      for (let round = 0; round < ROUNDS; round++) {
        half(service, `${bucket}/half-${round % 2}`);
        const underWay = async () =>
          (await query(`select from storage.objects where bucket_id = $1 limit 1`, [bucket])).length > 0 || round === 0;
        await until('objects', underWay);
        if (round % 3 === 2) {
          const admin = await connectAsAdmin();
          const { rows } = await admin.query(
            `select pid from pg_stat_activity where usename = 'kijko_storage' and state = 'active' limit 1`,
          );
          await admin.end();
          if (rows[0]) await killBackend(rows[0].pid);
          await until('the database to answer', () => query('select 1').then(Boolean, () => false));
        }
        await sleep(20 + 37 * round);
        await service.kill();
        service = await StorageService.start({ variables });
      }
      going = false;
      await Promise.all(writers);
      // What the last one left is given up after its lease.
      await until('the sweeper to end what is left', async () => {
        const text = await (await fetch(`${service.operatorsUrl}/metrics`)).text();
        return /^kijko_storage_uploads_under_way 0$/m.test(text) && /^kijko_storage_deletions_due 0$/m.test(text);
      });
      const { code, stdout } = await check();
      assert.equal(code, 0, stdout);
      const rows = await query('select name from storage.objects where bucket_id = $1', [bucket]);
      assert.ok(rows.length > 0, 'nothing was ever stored');
      assert.ok(!rows.some(({ name }) => name.startsWith('half')), 'half an upload became an object');
      for (const { name } of rows) {
        const answer = await fetch(`${service.url}/object/${bucket}/${name}`, { headers: { Authorization: `Bearer ${token}` } });
        const bytes = Buffer.from(await answer.arrayBuffer());
        assert.equal(answer.status, 200, name);
        assert.ok(
          bytes.length >= 200_000 && bytes.every((byte) => byte === (bytes.length - 200_000) % 250),
          `${name} is not one of the objects that were sent`,
        );
      }
    });
  });
}
