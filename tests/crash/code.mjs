// Kill -9 of the indexer at each step of a job: the index is complete afterwards, and it is that of the commit.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { GitServer } from '../git_server.mjs';
import { killIndexers, newCache, startIndexer } from '../indexer_service.mjs';
import { newUser } from '../journeys/support.mjs';
import { connectAsAdmin, query, queryAsAdmin, until } from './harness.mjs';

const LOCK = 725_001;
const variables = { KIJKO_LEASE_SECONDS: '3' };

/** While the lock is held, the indexer's statement stands still where it writes this table. */
async function stopAt(table, event) {
  await queryAsAdmin(`
    create or replace function private.crash_stop() returns trigger language plpgsql as $$
    begin
      if session_user = 'kijko_indexer' then perform pg_advisory_xact_lock_shared(${LOCK}); end if;
      return null;
    end $$`);
  await queryAsAdmin(`create trigger crash_stop after ${event} on ${table} for each statement execute function private.crash_stop()`);
  const holder = await connectAsAdmin();
  await holder.query('select pg_advisory_lock($1)', [LOCK]);
  return {
    isReached: async () =>
      (await queryAsAdmin(`select from pg_locks where locktype = 'advisory' and objid = ${LOCK} and not granted`)).length > 0,
    async release() {
      await holder.end();
      await queryAsAdmin(`drop trigger crash_stop on ${table}`);
    },
  };
}

export function codeTests() {
  describe('indexing, while its service is killed', () => {
    let git, client, repository, remote;
    before(async () => {
      git = await GitServer.start();
      ({ client } = await newUser());
      const name = `acme/r-${randomUUID()}`;
      remote = git.repository(name, Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`src/f${n}.rs`, `pub fn f${n}() {}\n`])));
      const { data, error } = await client
        .from('repositories')
        .insert({ clone_url: `https://github.com/${name}` })
        .select()
        .single();
      assert.equal(error, null);
      repository = data;
    });
    after(async () => {
      await killIndexers();
      await git.close();
      await queryAsAdmin('drop function if exists private.crash_stop() cascade');
    });

    /** The commit, {path: id of the blob}, and how many symbols there are. */
    async function indexOf() {
      const rows = await query(
        `select r.commit_sha, e.path, b.oid, (select count(*) from private.code_symbols as s where s.organization = b.organization and s.blob_id = b.id) as symbols
         from public.repository_branches as r
         join private.code_tree_entries as e on e.organization = r.org_id and e.branch_id = r.id
         join private.code_blobs as b on b.organization = e.organization and b.id = e.blob_id
         where r.repository_id = $1 and r.name = 'main'`,
        [repository.id],
      );
      return {
        commit: rows[0]?.commit_sha,
        tree: Object.fromEntries(rows.map(({ path, oid }) => [path, oid])),
        symbols: rows.reduce((sum, { symbols }) => sum + Number(symbols), 0),
      };
    }

    async function killAt(folder, stop) {
      const service = await startIndexer(git, { folder, variables });
      await until('the step', stop.isReached);
      await service.kill();
      await stop.release();
    }

    const stopAtPack = () => {
      const packs = () => git.requests.filter(({ isPack }) => isPack).length;
      const before = packs();
      const release = git.hold();
      return { isReached: () => packs() > before, release };
    };

    async function indexed(job, commit) {
      const service = await startIndexer(git, { folder: FOLDER, variables });
      const state = await until('the job to end', async () => {
        const [row] = await query('select status, error_code from public.indexing_jobs where id = $1', [job.id]);
        return ['queued', 'running'].includes(row.status) ? null : row;
      });
      assert.deepEqual(state, { status: 'succeeded', error_code: null });
      assert.deepEqual(await indexOf(), { commit, tree: remote.tree(), symbols: Object.keys(remote.tree()).length });
      assert.deepEqual(await query('select from private.code_staged_entries where indexing_job_id = $1', [job.id]), []);
      await service.kill();
    }

    const FOLDER = newCache();
    const index = async () => {
      const { data, error } = await client.rpc('index_repository', { repository_id: repository.id });
      assert.equal(error, null);
      return data;
    };

    test('the first index is complete, whenever its indexer was killed', async () => {
      const job = await index();
      await killAt(FOLDER, stopAtPack());
      await killAt(FOLDER, await stopAt('private.code_blobs', 'insert'));
      await indexed(job, remote.commit);
    });

    test('so is the next one, and until then searches see the former', async () => {
      const before = await indexOf();
      const commit = remote.push({ 'src/f1.rs': 'pub fn g1() {}\n', 'src/f2.rs': null, 'src/new.rs': 'pub fn h() {}\n' });
      const job = await index();
      await killAt(FOLDER, await stopAt('private.code_staged_entries', 'insert'));
      assert.deepEqual(await indexOf(), before);
      await killAt(FOLDER, await stopAt('private.code_tree_entries', 'delete'));
      await indexed(job, commit);
    });
  });
}
