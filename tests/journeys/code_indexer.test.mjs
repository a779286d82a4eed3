// A whole index: a git host, the indexer, and what is found afterwards. Alone, since it runs the indexing jobs of everybody.
import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { GitServer } from '../git_server.mjs';
import { killIndexers, startIndexer } from '../indexer_service.mjs';
import { newTeam, ok, refused, setPlan, until } from './domain.mjs';
import { env, sql } from './support.mjs';

const FILES = {
  'src/lib.rs': '/// Adds two numbers.\npub fn add(a: u8, b: u8) -> u8 {\n    check(a);\n    a + b\n}\n\nfn check(_: u8) {}\n',
  'src/shape.ts': 'import { area } from "./area.js";\n\nexport class Shape {\n  size(): number {\n    return area(this);\n  }\n}\n',
  'docs/readme.txt': 'What it is.\n',
  'node_modules/x/index.js': 'module.exports = 1;\n',
  'logo.bin': Buffer.from([0, 1, 2]),
};

let git, team, indexer;
before(async () => {
  [git, team] = await Promise.all([GitServer.start(), newTeam()]);
  await setPlan(team.owner.orgId, 'TEAMS');
  indexer = await startIndexer(git);
});
after(async () => {
  await killIndexers();
  await git.close();
});

async function link(files, fields = {}) {
  const name = `acme/r-${randomUUID()}`;
  const remote = git.repository(name, files);
  const row = { clone_url: `https://github.com/${name}`, ...fields };
  return { remote, name, ...(await ok(team.owner.client.from('repositories').insert(row).select().single())) };
}

const index = (repository, branch) => ok(team.owner.client.rpc('index_repository', { repository_id: repository.id, branch }));

async function ended(job) {
  const read = () => ok(team.owner.client.from('indexing_jobs').select().eq('id', job.id).single());
  return until(`indexing job ${job.id}`, async () => {
    const row = await read();
    return ['queued', 'running'].includes(row.status) ? null : row;
  });
}

const indexed = async (repository, branch) => ended(await index(repository, branch));

/** {path: id of the blob} as searches see it. */
async function treeOf(repository, branch = 'main') {
  const rows = await sql(
    `select e.path, b.oid from public.repository_branches as r
     join private.code_tree_entries as e on e.organization = r.org_id and e.branch_id = r.id
     join private.code_blobs as b on b.organization = e.organization and b.id = e.blob_id
     where r.repository_id = $1 and r.name = $2`,
    [repository.id, branch],
  );
  return Object.fromEntries(rows.map(({ path, oid }) => [path, oid]));
}

const symbolsOf = (repository) =>
  sql(
    `select e.path, s.kind, s.name, s.documentation, s.exported, s.start_line from public.repository_branches as r
     join private.code_tree_entries as e on e.organization = r.org_id and e.branch_id = r.id
     join private.code_symbols as s on s.organization = e.organization and s.blob_id = e.blob_id
     where r.repository_id = $1 order by e.path, s.ordinal`,
    [repository.id],
  );

describe('a repository is indexed', () => {
  let repository;
  before(async () => {
    repository = await link(FILES);
  });

  test('its files, symbols and references are those of the commit', async () => {
    const job = await indexed(repository);
    assert.deepEqual([job.status, job.commit_sha, job.files_done], ['succeeded', repository.remote.commit, 5]);
    assert.deepEqual(await treeOf(repository), repository.remote.tree());
    const symbols = await symbolsOf(repository);
    assert.deepEqual(
      symbols.map(({ path, kind, name }) => `${path} ${kind} ${name}`),
      ['src/lib.rs function add', 'src/lib.rs function check', 'src/shape.ts class Shape', 'src/shape.ts method size'],
    );
    assert.deepEqual(
      [symbols[0].documentation, symbols[0].exported, symbols[0].start_line, symbols[1].exported],
      ['Adds two numbers.', true, 2, false],
    );
    const skipped = await sql(
      'select distinct skipped from private.code_blobs where organization = $1 and skipped is not null order by 1',
      [team.orgId],
    );
    assert.deepEqual(
      skipped.map(({ skipped }) => skipped),
      ['binary', 'generated'],
    );
  });

  test('a push of one file parses one file, and is found within seconds', async () => {
    const before = await indexer.metric('kijko_indexer_files_total');
    const commit = repository.remote.push({ 'src/lib.rs': 'pub fn subtract() {}\n', 'src/shape.ts': null });
    const started = Date.now();
    const job = await indexed(repository);
    assert.ok(Date.now() - started < 30_000, `${Date.now() - started} ms`);
    assert.deepEqual([job.status, job.commit_sha, job.base_commit_sha], ['succeeded', commit, repository.remote.commit]);
    assert.deepEqual(await treeOf(repository), repository.remote.tree());
    assert.deepEqual(
      (await symbolsOf(repository)).map(({ name }) => name),
      ['subtract'],
    );
    assert.equal((await indexer.metric('kijko_indexer_files_total')) - before, 1);
  });

  test('another branch shares its files; a forced push replaces them; a deleted branch loses its index', async () => {
    await ok(
      team.owner.client
        .from('repositories')
        .update({ extra_branches: ['next', 'gone'] })
        .eq('id', repository.id)
        .select(),
    );
    const before = await indexer.metric('kijko_indexer_files_total');
    repository.remote.push({}, 'next');
    assert.equal((await indexed(repository, 'next')).status, 'succeeded');
    assert.deepEqual(await treeOf(repository, 'next'), await treeOf(repository));
    assert.equal(await indexer.metric('kijko_indexer_files_total'), before);
    repository.remote.git('checkout', '--quiet', '--orphan', 'other');
    const commit = repository.remote.push({ 'docs/readme.txt': null, 'new.py': 'def new():\n    pass\n' });
    assert.equal((await indexed(repository)).commit_sha, commit);
    assert.deepEqual(await treeOf(repository), repository.remote.tree());
    const missing = await indexed(repository, 'gone');
    assert.deepEqual([missing.status, missing.error_code], ['failed', 'branch_not_found']);
  });

  test('path filters leave files out, and other ones bring them back', async () => {
    const filtered = await link(FILES, { include_paths: ['src'], exclude_paths: ['**/*.ts'] });
    assert.equal((await indexed(filtered)).status, 'succeeded');
    assert.deepEqual(Object.keys(await treeOf(filtered)), ['src/lib.rs']);
    await ok(
      team.owner.client
        .from('repositories')
        .update({ include_paths: [], exclude_paths: ['src/**'] })
        .eq('id', filtered.id)
        .select(),
    );
    assert.equal((await indexed(filtered)).status, 'succeeded');
    assert.deepEqual(Object.keys(await treeOf(filtered)).sort(), ['docs/readme.txt', 'logo.bin', 'node_modules/x/index.js']);
  });
});

describe('a push that GitHub delivers', () => {
  let repository, secret;
  before(async () => {
    repository = await link(FILES);
    await indexed(repository);
    secret = (await ok(team.owner.client.rpc('rotate_repository_secret', { repository_id: repository.id }))).secret;
  });

  const find = (person, q) =>
    ok(person.client.rpc('search_symbols', { q, repository_id: repository.id }).setHeader('x-org-id', team.orgId));

  async function deliver(payload, signedWith = secret) {
    const body = JSON.stringify(payload);
    return fetch(`${env.API_URL}/webhooks/github/${repository.id}`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        'X-GitHub-Event': 'push',
        'X-GitHub-Delivery': randomUUID(),
        'X-Hub-Signature-256': `sha256=${createHmac('sha256', signedWith).update(body).digest('hex')}`,
      },
      body,
    });
  }

  test('is found within seconds, by members; its list of files is not used', async () => {
    assert.deepEqual(await find(team.owner, 'multiply'), []);
    const commit = repository.remote.push({ 'src/new.rs': 'pub fn multiply() {}\n' });
    const push = { ref: 'refs/heads/main', after: commit, commits: [{ added: ['src/other.rs'], removed: ['src/lib.rs'], modified: [] }] };
    assert.equal((await deliver(push, 'another secret')).status, 400);
    const started = Date.now();
    assert.equal((await deliver(push)).status, 202);
    const found = await until('the new symbol', async () => {
      const rows = await find(team.owner, 'multiply');
      return rows.length > 0 ? rows : null;
    });
    assert.ok(Date.now() - started < 30_000, `${Date.now() - started} ms`);
    assert.deepEqual(
      found.map(({ name, kind, path, line, match }) => ({ name, kind, path, line, match })),
      [{ name: 'multiply', kind: 'function', path: 'src/new.rs', line: 1, match: 'exact' }],
    );
    assert.equal((await find(team.viewer, 'add')).length, 1);
    await refused(team.nonMember.client.rpc('search_symbols', { q: 'add' }).setHeader('x-org-id', team.orgId), 403, 'not_a_member');
  });

  test('an old push, delivered late, does not move the branch back', async () => {
    const tree = await treeOf(repository);
    assert.equal((await deliver({ ref: 'refs/heads/main', after: repository.remote.commit, commits: [] })).status, 202);
    const jobs = () => sql(`select status from public.indexing_jobs where repository_id = $1 order by seq`, [repository.id]);
    await until('the job of the late push', async () => {
      const all = await jobs();
      return all.length === 3 && all.every(({ status }) => status === 'succeeded');
    });
    assert.deepEqual(await treeOf(repository), tree);
  });
});

describe('what cannot be indexed says why', () => {
  test('a repository that does not exist, and one of a stranger', async () => {
    const row = { clone_url: `https://github.com/acme/none-${randomUUID()}` };
    const none = await ok(team.owner.client.from('repositories').insert(row).select().single());
    const job = await indexed(none);
    assert.deepEqual([job.status, job.error_code], ['failed', 'repository_not_found']);
    assert.ok(!job.error.includes('127.0.0.1'), job.error);
    await refused(team.nonMember.client.rpc('index_repository', { repository_id: none.id }), 404, 'not_found');
  });

  test('a host that is not public is never asked', async () => {
    const row = { clone_url: 'https://metadata.internal/team/inner' };
    const inner = await ok(team.owner.client.from('repositories').insert(row).select().single());
    const job = await indexed(inner);
    assert.deepEqual([job.status, job.error_code], ['failed', 'host_not_allowed']);
  });

  test('a repository of huge and nested files is indexed, and a good one meanwhile', async () => {
    const files = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`d/${n}.rs`, 'fn f() { '.repeat(2_000)]));
    const [odd, good] = await Promise.all([link({ ...files, 'bomb.bin': Buffer.alloc(20 << 20) }), link(FILES)]);
    const jobs = await Promise.all([indexed(odd), indexed(good)]);
    assert.deepEqual(
      jobs.map(({ status }) => status),
      ['succeeded', 'succeeded'],
    );
    // The server leaves the largest file out. Its id alone would open it in another repository of the organization.
    const tree = odd.remote.tree();
    assert.deepEqual(await treeOf(odd), { ...tree, 'bomb.bin': tree['bomb.bin'].padEnd(64, '0') });
    assert.equal(await indexer.metric('kijko_indexer_child_failures_total'), 0);
  });

  test('a job that is cancelled while it fetches ends, and the next one works', async () => {
    const repository = await link(FILES);
    const release = git.hold();
    const job = await index(repository);
    await until('the fetch', () => git.requests.some(({ path, isPack }) => isPack && path.includes(repository.name)));
    assert.equal((await ok(team.owner.client.rpc('cancel_indexing', { indexing_job_id: job.id }))).cancel_requested, true);
    assert.equal((await ended(job)).status, 'cancelled');
    release();
    assert.equal((await indexed(repository)).status, 'succeeded');
  });
});
