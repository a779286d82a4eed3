// Services that stand still and go on when others have taken over: what they then do late changes nothing.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { GitServer } from '../git_server.mjs';
import { killIndexers, startIndexer } from '../indexer_service.mjs';
import { newUser } from '../journeys/support.mjs';
import { killRealtimeServices, RealtimeService } from '../realtime_service.mjs';
import { killStorageServices, StorageService } from '../storage_service.mjs';
import { query, queryAsAdmin, until } from './harness.mjs';
import { Listener } from './listener.mjs';

const token = process.env.SERVICE_ROLE_KEY;

export function stoppedTests() {
  describe('a storage service that stands still in the middle of an upload', () => {
    const bucket = `stopped-${randomUUID()}`;
    before(() => query('insert into storage.buckets (id, name) values ($1, $1)', [bucket]));
    after(async () => {
      await killStorageServices();
      await query(`do $$ begin
        perform set_config('storage.allow_delete_query', 'true', true);
        delete from storage.objects where bucket_id = '${bucket}'; delete from storage.buckets where id = '${bucket}';
      end $$`);
    });

    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/octet-stream', 'x-upsert': 'true' };
    const uploads = (name) =>
      queryAsAdmin('select version from storage_service.uploads where bucket_id = $1 and name = $2', [bucket, name]);

    test('does not replace what was uploaded since, and leaves no bytes behind', async () => {
      const variables = { KIJKO_STORAGE_LEASE_SECONDS: '2', KIJKO_STORAGE_SWEEP_SECONDS: '1' };
      const stopped = await StorageService.start({ variables });
      const request = http.request(`${stopped.url}/object/${bucket}/one`, { method: 'POST', headers });
      const answered = once(request, 'response');
      request.write(Buffer.alloc(1 << 20, 1));
      const [{ version }] = await until('the upload to begin', async () => {
        const found = await uploads('one');
        return found.length > 0 && found;
      });
      await stopped.freeze();

      const other = await StorageService.start({ variables });
      const newer = await fetch(`${other.url}/object/${bucket}/one`, { method: 'POST', headers, body: Buffer.alloc(300_000, 2) });
      assert.equal(newer.status, 200);
      await until('the upload to be given up', async () => (await uploads('one')).length === 0);

      request.end(Buffer.alloc(1 << 20, 1));
      stopped.signal('SIGCONT');
      const [answer] = await answered;
      answer.resume();
      assert.ok(answer.statusCode >= 400, `${answer.statusCode}`);
      assert.deepEqual(await stopped.terminate(), { code: 0, signal: null });
      const stored = await fetch(`${other.url}/object/${bucket}/one`, { headers });
      const bytes = Buffer.from(await stored.arrayBuffer());
      assert.ok(bytes.length === 300_000 && bytes.every((byte) => byte === 2));
      // Bytes that came after they were deleted are deleted once more.
      const [deletion] = await queryAsAdmin('select version from storage_service.deletions where version = $1', [version]);
      assert.ok(deletion, 'its bytes wait for their deletion');
    });
  });

  describe('an indexer that stands still while it fetches', () => {
    let git;
    before(async () => {
      git = await GitServer.start();
    });
    after(async () => {
      await killIndexers();
      await git.close();
    });

    test('does not bring back an older commit', async () => {
      const { client } = await newUser();
      const name = `acme/r-${randomUUID()}`;
      const remote = git.repository(name, { 'a.rs': 'pub fn a() {}\n', 'b.rs': 'pub fn b() {}\n' });
      const clone_url = `https://github.com/${name}`;
      const { data: repository, error } = await client.from('repositories').insert({ clone_url }).select().single();
      assert.equal(error, null);
      const index = async () => (await client.rpc('index_repository', { repository_id: repository.id })).data;
      const ended = (job) =>
        until(`job ${job.id} to end`, async () => {
          const [row] = await query('select status, error_code from public.indexing_jobs where id = $1', [job.id]);
          return !['queued', 'running'].includes(row.status) && row.status;
        });
      const indexOf = async () =>
        query(
          `select r.commit_sha, e.path, b.oid from public.repository_branches as r
           join private.code_tree_entries as e on e.organization = r.org_id and e.branch_id = r.id
           join private.code_blobs as b on b.organization = e.organization and b.id = e.blob_id
           where r.repository_id = $1 order by e.path`,
          [repository.id],
        );

      const stopped = await startIndexer(git, { variables: { KIJKO_LEASE_SECONDS: '3' } });
      const release = git.hold();
      const first = await index();
      await until('its pack to be asked for', () => git.requests.some(({ path, isPack }) => isPack && path.includes(name)));
      await stopped.freeze();
      // Only its own pack is held.
      git.held = null;
      await startIndexer(git, { variables: { KIJKO_LEASE_SECONDS: '120' } });
      assert.equal(await ended(first), 'succeeded');
      const commit = remote.push({ 'a.rs': 'pub fn a2() {}\n', 'b.rs': null });
      const second = await index();
      assert.equal(await ended(second), 'succeeded');
      const before = await indexOf();
      assert.deepEqual(
        before.map(({ commit_sha, path }) => [commit_sha, path]),
        [[commit, 'a.rs']],
      );
      const events = () =>
        query('select job_id, seq, event, attempt, worker from public.job_event_log where org_id = $1 order by seq', [repository.org_id]);
      const written = await events();

      release();
      stopped.signal('SIGCONT');
      assert.deepEqual(await stopped.terminate(), { code: 0, signal: null });
      assert.deepEqual(await indexOf(), before);
      assert.deepEqual(await events(), written);
      assert.deepEqual([await ended(first), await ended(second)], ['succeeded', 'succeeded']);
    });
  });

  describe('a realtime service that stands still', () => {
    const listeners = [];
    after(async () => {
      for (const listener of listeners) listener.close();
      await killRealtimeServices();
    });
    const listen = async (service, topic, key) => {
      const listener = new Listener(service, topic, key);
      listeners.push(listener);
      await listener.joined();
      return listener;
    };

    test('holds up no other, is absent there, and has lost nothing when it goes on', async () => {
      const variables = { KIJKO_REALTIME_IDLE_SECONDS: '600' };
      const [stopped, other] = await Promise.all([RealtimeService.start({ variables }), RealtimeService.start({ variables })]);
      const topic = `stopped:${randomUUID()}`;
      const [there, here] = [await listen(stopped, topic, 'there'), await listen(other, topic, 'here')];
      there.track();
      here.track();
      const shows = (listener, keys) => until(`${listener.key} to see ${keys}`, () => listener.present().join() === keys);
      await Promise.all([there, here].map((listener) => shows(listener, 'here,there')));

      await stopped.freeze();
      const send = (n) => query('select realtime.send($1, $2, $3, false)', [{ n }, 'number', topic]);
      for (let n = 0; n < 20; n += 1) await send(n);
      const numbers = Array.from({ length: 20 }, (_, n) => n);
      await until('its numbers here', () => here.numbers.length === 20);
      await shows(here, 'here');

      stopped.signal('SIGCONT');
      await until('its numbers there', () => there.numbers.length >= 20);
      await send(20);
      await until('the next number', () => [there, here].every((listener) => listener.numbers.includes(20)));
      for (const listener of [there, here]) assert.deepEqual(listener.numbers, [...numbers, 20], listener.key);
      await Promise.all([there, here].map((listener) => shows(listener, 'here,there')));
    });
  });
}
