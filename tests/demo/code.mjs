// The demo's step about code: a repository is linked, indexed and searched, and a signed push makes its new symbol findable. The
// repository is a bare one of this machine, served over HTTP; an indexer beside the stack fetches it in the place of GitHub's.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { sign } from '@octokit/webhooks-methods';
import pg from 'pg';
import { GitServer } from '../git_server.mjs';
import { killIndexers, startIndexer } from '../indexer_service.mjs';
import { politeClient } from './client.mjs';
import { env, ok, refused } from './setup.mjs';
import { until } from './story.mjs';

const FILES = {
  'src/config.rs':
    '/// Reads the settings.\npub fn parse_config(text: &str) -> Config {\n    parse_line(text)\n}\n\nfn parse_line(_: &str) -> Config {\n    Config\n}\n',
  'src/client.ts': 'import { send } from "./send.js";\n\nexport class Client {\n  ping() {\n    return send("ping");\n  }\n}\n',
};
const INDEXING_TIMEOUT = 60_000;

/** False if the stack has an indexer of its own, which would look for the repository at GitHub. */
export async function repositoryIsIndexed(say, people) {
  const owner = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await owner.connect();
  const { rows } = await owner.query(`select from pg_stat_activity where usename = 'kijko_indexer'`);
  await owner.end();
  if (rows.length > 0) return false;
  const git = await GitServer.start();
  try {
    await startIndexer(git);
    await index(say, git, people);
  } finally {
    await killIndexers();
    await git.close();
  }
  return true;
}

async function index(say, git, { ada, bob }) {
  const { client } = ada;
  const rpc = (name, body) => ok(client.rpc(name, body));
  const name = `acme/app-${randomUUID().slice(0, 8)}`;
  const remote = git.repository(name, FILES);
  const repository = await ok(
    client
      .from('repositories')
      .insert({ clone_url: `https://github.com/${name}` })
      .select()
      .single(),
  );
  const job = await rpc('index_repository', { repository_id: repository.id });
  const indexed = await until(
    'the repository to be indexed',
    async () => {
      const row = await ok(client.from('indexing_jobs').select().eq('id', job.id).single());
      return !['queued', 'running'].includes(row.status) && row;
    },
    { timeoutMs: INDEXING_TIMEOUT },
  );
  assert.deepEqual([indexed.status, indexed.commit_sha, indexed.files_done], ['succeeded', remote.commit, 2], indexed.error);
  say(`${name} is linked and indexed at ${remote.commit.slice(0, 8)}: ${indexed.files_done} files`);

  const [found] = await rpc('search_symbols', { q: 'parse', repository_id: repository.id, n: 1 });
  assert.deepEqual([found.name, found.path, found.line], ['parse_config', 'src/config.rs', 2]);
  const [call] = await rpc('symbol_graph', { symbol: 'parse_line', repository_id: repository.id });
  assert.deepEqual([call.source_symbol, call.source_path, call.line], ['parse_config', 'src/config.rs', 3]);
  const [line] = await rpc('search_code', { q: 'send("ping")', repository_id: repository.id });
  assert.deepEqual([line.path, line.line], ['src/client.ts', 5]);
  say(`"parse" finds ${found.name} at ${found.path}:${found.line}; ${call.source_symbol} calls parse_line; text is found, too`);

  const { secret } = await rpc('rotate_repository_secret', { repository_id: repository.id });
  const after = remote.push({ 'src/retry.rs': 'pub fn retry_with_backoff() {}\n' });
  const body = JSON.stringify({ ref: 'refs/heads/main', after, commits: [] });
  const deliver = async (key) =>
    fetch(`${env.API_URL}/webhooks/github/${repository.id}`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        'X-GitHub-Event': 'push',
        'X-GitHub-Delivery': randomUUID(),
        'X-Hub-Signature-256': await sign(key, body),
      },
      body,
    });
  assert.equal((await deliver('not the secret')).status, 400);
  const started = Date.now();
  assert.equal((await deliver(secret)).status, 202);
  const [pushed] = await until(
    'the new symbol',
    async () => {
      const rows = await rpc('search_symbols', { q: 'retry_with_backoff', repository_id: repository.id });
      return rows.length > 0 && rows;
    },
    { timeoutMs: INDEXING_TIMEOUT },
  );
  assert.equal(pushed.path, 'src/retry.rs');
  say(`a push signed as by GitHub: its new symbol is found ${((Date.now() - started) / 1000).toFixed(1)} s later`);

  await refused(bob.client.rpc('search_symbols', { q: 'parse', repository_id: repository.id }), 404, 'not_found');
  assert.deepEqual(await ok(bob.client.rpc('search_symbols', { q: 'retry_with_backoff' })), []);
  const key = await rpc('create_api_key', { name: 'Without repositories', permissions: ['skills:read'] });
  const withKey = politeClient(env.API_URL, key.secret);
  await refused(withKey.rpc('search_symbols', { q: 'parse' }), 403, 'permission_denied');
  say('Bob, a non-member, and a key without repositories:read find nothing');
}
