// Workers that die while they make an archive or write the journal, and a server that dies during an erasure: each export is there
// once and whole, each erasure is in the journal before anything is erased, and all of them end.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { newPerson } from '../journeys/domain.mjs';
import { unzip } from '../journeys/privacy_zip.mjs';
import { upload } from '../journeys/social_support.mjs';
import { env, sql } from '../journeys/support.mjs';
import { databaseUrl } from '../service.mjs';
import { blockedBy, connectAsAdmin, killBackend, killSidecars, queryPatiently, Sidecar, until } from './harness.mjs';
import { stopAtRequest, stopAtStatement } from './proxies.mjs';

const DB_PORT = Number(new URL(process.env.DB_URL).port);
// The stack's own, past the proxy: it takes no ticket (scripts/config.sh).
const of = (offset) => `http://127.0.0.1:${Number(process.env.TEST_PORT ?? new URL(env.API_URL).port) + offset}`;
const [REST_URL, STORAGE_URL] = [of(10), of(18)];

/** What a worker asks others for, in order. The last one ends the job. */
const EXPORT = [
  'private.privacy_start_export',
  'private.privacy_export_piece',
  'private.privacy_object_ticket',
  '/ticket',
  'private.privacy_store_ticket',
  '/ticket/upload',
  'private.privacy_finish_export',
  'private.jobs_complete',
];
const ERASURE = ['private.privacy_start_journal', 'private.privacy_finish_journal', 'private.jobs_complete'];

export function privacyTests() {
  describe('exports and erasures', () => {
    let folder;
    let proxies = [];
    before(async () => {
      folder = await mkdtemp(join(tmpdir(), 'kijko-privacy-'));
    });
    afterEach(async () => {
      await killSidecars();
      for (const proxy of proxies) proxy.close();
      proxies = [];
    });
    after(() => rm(folder, { recursive: true }));

    const journal = async () => (await readFile(join(folder, 'journal'), 'utf8').catch(() => '')).split('\n').slice(0, -1);

    const start = (variables = {}, { leaseSeconds = 120, concurrency = 16 } = {}) =>
      Sidecar.start(null, {
        leaseSeconds,
        concurrency,
        variables: {
          KIJKO_DB_TIMEOUT_SECONDS: '120',
          KIJKO_STORAGE_URL: STORAGE_URL,
          KIJKO_REST_URL: REST_URL,
          KIJKO_EXPORT_DIR: folder,
          KIJKO_ERASURE_JOURNAL: join(folder, 'journal'),
          ...variables,
        },
      });

    // Half of the slots: one job of each of the two kinds.
    const shortLived = { leaseSeconds: 4, concurrency: 2 };

    /** A worker that stops at a step of its first export or erasure. */
    async function startUntil(steps, { step, at }) {
      // What ends other jobs has the same name: it is meant once the step before it was seen.
      const seen = new Set();
      const isIt = (what) => {
        for (const one of steps) if (what.includes(`${one}(`)) seen.add(one);
        return what.includes(`${step}(`) && (step !== steps.at(-1) || seen.has(steps.at(-2)));
      };
      if (step.startsWith('/')) {
        const proxy = await stopAtRequest(STORAGE_URL, (path) => path === step, at);
        proxies.push(proxy);
        return { reached: proxy.reached, worker: await start({ KIJKO_STORAGE_URL: `http://127.0.0.1:${proxy.port}` }, shortLived) };
      }
      const proxy = await stopAtStatement(DB_PORT, isIt, at);
      proxies.push(proxy);
      const url = new URL(databaseUrl('sidecar', 'KIJKO_SIDECAR', `test-stopped-${proxy.port}`));
      url.port = proxy.port;
      return { reached: proxy.reached, worker: await start({ DATABASE_URL: url.href }, shortLived) };
    }

    /** Where one can die: before the first step, and after each. What was done then is done before the next one, too. */
    const deaths = (steps) => [{ step: steps[0], at: 'before' }, ...steps.map((step) => ({ step, at: 'after' }))];

    /** Each worker is killed where it stops, when all stand there. */
    async function killAt(steps, look = () => {}) {
      const there = [];
      const workers = await Promise.all(
        deaths(steps).map(async (death) => {
          const { reached, worker } = await startUntil(steps, death);
          reached.then(() => there.push(`${death.at} ${death.step}`));
          return worker;
        }),
      );
      await until('each worker to stand where it dies', () => there.length === workers.length).catch((error) => {
        throw new Error(`${error.message}; there: ${there}`);
      });
      await look();
      for (const worker of workers) await worker.kill();
    }

    async function exports(count) {
      const made = [];
      for (let n = 0; n < count; n += 1) {
        const person = await newPerson();
        await upload(person.client, person.orgId, Buffer.from(`file of ${person.user.id}`));
        const { data, error } = await person.client.rpc('request_export');
        assert.equal(error, null, JSON.stringify(error));
        made.push({ person, id: data });
      }
      await sql('call private.privacy_tick()');
      return made;
    }

    async function erasures(count) {
      const made = [];
      for (let n = 0; n < count; n += 1) {
        const person = await newPerson();
        const { data: id } = await person.client.rpc('request_erasure');
        const [{ code }] = await sql(
          `select private.mail_data(m) ->> 'token' as code from private.mail_messages as m
           where m.recipient = $1 and m.template = 'erasure_confirmation'`,
          [person.email],
        );
        const { error } = await person.client.rpc('confirm_erasure', { request_id: id, code });
        assert.equal(error, null, JSON.stringify(error));
        await sql('update private.privacy_requests set due_at = kijko.now() where id = $1', [id]);
        made.push({ person, id });
      }
      await sql('call private.privacy_tick()');
      return made;
    }

    const become = (requests, status) =>
      until(`all to be ${status}`, async () => {
        const ids = requests.map(({ id }) => id);
        const left = await queryPatiently('select id, status from private.privacy_requests where id = any ($1) and status <> $2', [
          ids,
          status,
        ]);
        if (left.length === 0) return true;
        await sql('call private.privacy_tick()');
        return false;
      });

    /** The archive is the one that the database names, it has the person's file, and no other was left in the bucket or on the disk. */
    async function checkExports(requests, worker) {
      for (const { person, id } of requests) {
        const { data: path } = await person.client.rpc('open_export', { request_id: id });
        const answer = await fetch(worker.url + path, { headers: { Authorization: `Bearer ${person.token}` } });
        assert.equal(answer.status, 200, id);
        const archive = Buffer.from(await answer.arrayBuffer());
        const [{ sha256 }] = await sql('select sha256 from private.privacy_requests where id = $1', [id]);
        assert.equal(createHash('sha256').update(archive).digest('hex'), sha256);
        const entries = unzip(archive);
        const { files, tables } = JSON.parse(entries.get('manifest.json'));
        assert.equal(entries.get(files[0].path).toString(), `file of ${person.user.id}`);
        assert.ok(tables.some(({ table }) => table === 'public.profiles'));
        const stored = await sql(`select name from storage.objects where bucket_id = 'privacy-exports' and name like $1`, [
          `${person.user.id}/%`,
        ]);
        assert.deepEqual(stored, [{ name: `${person.user.id}/${id}.zip` }]);
      }
      assert.deepEqual(
        (await readdir(folder)).filter((name) => name !== 'journal'),
        [],
      );
    }

    const accounts = async (requests) =>
      (
        await queryPatiently('select count(*)::int as n from auth.users where id = any ($1)', [
          requests.map(({ person }) => person.user.id),
        ])
      )[0].n;

    /** Whole lines, one of which is the entry that the database has seen; nobody is left, and each is told once. */
    async function checkErasures(requests) {
      assert.equal(await accounts(requests), 0);
      const lines = await journal();
      const hashes = new Map(lines.map((line) => [createHash('sha256').update(line).digest('hex'), JSON.parse(line)]));
      for (const { person, id } of requests) {
        const [{ hash }] = await sql(
          `select details ->> 'sha256' as hash from private.privacy_proofs where request_id = $1 and target = 'journal'`,
          [id],
        );
        assert.deepEqual([hashes.get(hash)?.id, hashes.get(hash)?.user_id], [id, person.user.id]);
      }
      await sql(`update private.privacy_requests set finished_at = finished_at - interval '1 minute' where id = any ($1)`, [
        requests.map(({ id }) => id),
      ]);
      await until('all to be looked for once more', async () => {
        await sql('call private.privacy_tick()');
        return (
          (await sql('select from private.privacy_requests where id = any ($1) and email is not null', [requests.map(({ id }) => id)]))
            .length === 0
        );
      });
      const told = await sql(
        `select recipient from private.mail_messages where template = 'erasure_done' and recipient = any ($1) order by 1`,
        [requests.map(({ person }) => person.email)],
      );
      assert.deepEqual(
        told.map(({ recipient }) => recipient),
        requests.map(({ person }) => person.email).sort(),
      );
    }

    test('kill -9 at every step of an export', async () => {
      const requests = await exports(deaths(EXPORT).length);
      await killAt(EXPORT);
      const worker = await start();
      await become(requests, 'ready');
      await checkExports(requests, worker);
    });

    test('kill -9 at every step of an erasure', async () => {
      const requests = await erasures(deaths(ERASURE).length);
      await killAt(ERASURE, async () => {
        const [found] = await sql(
          `select count(*)::int as waiting, count(*) filter (where u.id is null)::int as gone
           from private.privacy_requests as r left join auth.users as u on u.id = r.user_id
           where r.id = any ($1) and r.status = 'journaling'`,
          [requests.map(({ id }) => id)],
        );
        assert.deepEqual(found, { waiting: 2, gone: 0 }, 'before the journal nothing is erased');
      });
      await start();
      await become(requests, 'done');
      await checkErasures(requests);
    });

    test('kill -9 of the server while it erases one person and a worker reads the rows of another', async () => {
      const [gone] = await erasures(1);
      const [kept] = await exports(1);
      // Before the journal has it: a schedule may begin the erasure at any moment after that.
      const holder = await connectAsAdmin();
      await holder.query('begin');
      await holder.query('select from public.profiles where id = $1 for update', [gone.person.user.id]);
      const reading = await startUntil(EXPORT, { step: 'private.privacy_export_piece', at: 'before' });
      await reading.reached;
      await until('the journal', async () => {
        const [{ status }] = await sql('select status from private.privacy_requests where id = $1', [gone.id]);
        return status === 'journaled';
      });
      const erasing = sql('call private.privacy_tick()').catch(() => null);
      const [{ pid }] = await until('the erasure to wait for the profile', async () => {
        const blocked = await blockedBy(holder);
        return blocked.length > 0 && blocked;
      });
      await killBackend(pid);
      await erasing;
      await holder.end().catch(() => {});
      assert.equal(await accounts([gone]), 1, 'half an erasure is none');
      await reading.worker.kill();
      const worker = await start();
      await become([gone], 'done');
      await checkErasures([gone]);
      // The rows that were collected are not in the log of Postgres, and are collected again.
      await become([kept], 'ready');
      await checkExports([kept], worker);
    });
  });
}
