// The index of repositories over HTTP; the journey plays the indexer.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { commitOf, indexFiles, newIndexer } from './code_support.mjs';
import { assertAnonymousSeesNothing, newTeam, ok, refused, setPlan } from './domain.mjs';
import { post, SIGNERS } from './reflexes_support.mjs';

const repositoryOf = (person, fields = {}) =>
  ok(
    person.client
      .from('repositories')
      .insert({ clone_url: `https://github.com/acme/r-${randomUUID()}`, ...fields })
      .select()
      .single(),
  );

describe('indexing a repository', () => {
  const indexer = newIndexer();
  let team, repository;
  before(async () => {
    team = await newTeam();
    await setPlan(team.owner.orgId, 'TEAMS');
    repository = await repositoryOf(team.owner);
  });

  test('anonymous callers, non-members and viewers index nothing', async () => {
    await assertAnonymousSeesNothing(['repository_branches', 'indexing_jobs', 'indexing_job_events']);
    const request = { repository_id: repository.id };
    await refused(team.nonMember.client.rpc('index_repository', request), 404, 'not_found');
    await refused(team.viewer.client.rpc('index_repository', request), 403, 'permission_denied');
  });

  test('a job is queued, runs and ends; members see its progress', async () => {
    const queued = await ok(team.owner.client.rpc('index_repository', { repository_id: repository.id }));
    assert.deepEqual([queued.status, queued.branch, queued.trigger], ['queued', 'main', 'manual']);
    const job = await indexer.claim(queued);
    const begun = await indexer.call(job, 'begin');
    assert.equal(begun.clone_url, repository.clone_url);
    assert.equal(begun.base_commit, null);
    assert.equal(await indexer.call(job, 'progress', 'parsing', 1, 2), true);
    const seen = () => ok(team.viewer.client.from('indexing_jobs').select('*, indexing_job_events(event)').eq('id', queued.id).single());
    const running = await seen();
    assert.deepEqual([running.status, running.phase, running.files_done, running.files_total], ['running', 'parsing', 1, 2]);
    const commit = commitOf('first');
    assert.equal(await indexFiles(indexer, job, { 'a.txt': { content: 'one' }, 'b/a.txt': { content: 'one' } }, commit), 'succeeded');
    const ended = await seen();
    assert.deepEqual([ended.status, ended.phase, ended.commit_sha, ended.bytes], ['succeeded', null, commit, 3]);
    assert.deepEqual(ended.indexing_job_events.map(({ event }) => event).sort(), ['fetching', 'parsing', 'queued', 'succeeded']);
    const branches = await ok(
      team.viewer.client.from('repository_branches').select('name, commit_sha, files').eq('repository_id', repository.id),
    );
    assert.deepEqual(branches, [{ name: 'main', commit_sha: commit, files: 2 }]);
    assert.equal((await ok(team.viewer.client.from('repositories').select('status').eq('id', repository.id).single())).status, 'ready');
    assert.deepEqual(await ok(team.nonMember.client.from('indexing_jobs').select('id')), []);
  });

  test('symbols, text, edges and files are found, by members only', async () => {
    const queued = await ok(team.owner.client.rpc('index_repository', { repository_id: repository.id }));
    const job = await indexer.claim(queued);
    await indexer.call(job, 'begin');
    const at = { start_column: 0, end_column: 9, name_column: 3 };
    const lib = 'pub fn load_config() {}\n';
    const main = 'fn main() { load_config() => {} }\n';
    const files = {
      'src/lib.rs': {
        content: lib,
        language: 'rust',
        symbols: [{ ordinal: 0, name: 'load_config', kind: 'function', exported: true, start_line: 1, end_line: 1, name_line: 1, ...at }],
      },
      'src/main.rs': {
        content: main,
        language: 'rust',
        symbols: [{ ordinal: 0, name: 'main', kind: 'function', start_line: 1, end_line: 1, name_line: 1, ...at }],
        references: [{ symbol: 0, name: 'load_config', kind: 'call', line: 1, column: 12 }],
      },
    };
    assert.equal(await indexFiles(indexer, job, files, commitOf('second')), 'succeeded');
    const { client } = team.viewer;
    const before = (await ok(client.rpc('usage_summary'))).find(({ meter }) => meter === 'code_searches')?.used ?? 0;
    const symbols = await ok(client.rpc('search_symbols', { q: 'config' }));
    assert.deepEqual(
      symbols.map(({ name, match, path, line }) => ({ name, match, path, line })),
      [{ name: 'load_config', match: 'word', path: 'src/lib.rs', line: 1 }],
    );
    const [line] = await ok(client.rpc('search_code', { q: ') => {', repository_id: repository.id }));
    assert.deepEqual([line.path, line.line, line.column, line.text], ['src/main.rs', 1, 24, main.trimEnd()]);
    const [edge] = await ok(client.rpc('symbol_graph', { symbol: 'load_config' }));
    assert.deepEqual([edge.source_symbol, edge.resolution, edge.from_commit], ['main', 'name', commitOf('second')]);
    assert.equal((await ok(client.rpc('read_code_file', { repository_id: repository.id, path: 'src/lib.rs' }))).content, lib);
    const after = (await ok(client.rpc('usage_summary'))).find(({ meter }) => meter === 'code_searches').used;
    assert.equal(after - before, 3);
    assert.deepEqual(await ok(team.nonMember.client.rpc('search_symbols', { q: 'load_config' })), []);
    await refused(team.nonMember.client.rpc('search_code', { q: 'load_config', repository_id: repository.id }), 404, 'not_found');
    await refused(team.nonMember.client.rpc('list_code_files', { repository_id: repository.id }), 404, 'not_found');
  });

  test('a signed push queues the branch', async () => {
    const { secret } = await ok(team.owner.client.rpc('rotate_repository_secret', { repository_id: repository.id }));
    const push = async () => {
      const body = JSON.stringify({ ref: 'refs/heads/main', after: commitOf(randomUUID()) });
      return (await post(`github/${repository.id}`, body, await SIGNERS.github(secret, body, {}))).status;
    };
    assert.equal(await push(), 202);
    assert.equal(await push(), 202);
    const jobs = await ok(
      team.viewer.client.from('indexing_jobs').select('branch, trigger').eq('repository_id', repository.id).eq('status', 'queued'),
    );
    assert.deepEqual(jobs, [{ branch: 'main', trigger: 'push' }]);
  });

  test('a job is cancelled and retried', async () => {
    const queued = await ok(team.owner.client.rpc('index_repository', { repository_id: repository.id }));
    await refused(team.viewer.client.rpc('cancel_indexing', { indexing_job_id: queued.id }), 403, 'permission_denied');
    assert.equal((await ok(team.owner.client.rpc('cancel_indexing', { indexing_job_id: queued.id }))).status, 'cancelled');
    const again = await ok(team.owner.client.rpc('retry_indexing', { indexing_job_id: queued.id }));
    const job = await indexer.claim(again);
    await indexer.call(job, 'begin');
    assert.equal((await ok(team.owner.client.rpc('cancel_indexing', { indexing_job_id: again.id }))).cancel_requested, true);
    assert.equal(await indexer.call(job, 'progress', 'fetching', 0, 0), false);
    assert.equal(await indexer.call(job, 'fail', 'internal', 'stopped', true), 'cancelled');
  });
});
