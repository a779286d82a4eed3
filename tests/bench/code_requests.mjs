// The parts of the benchmark of code that go through HTTP, and through the indexer.
import { createHmac, randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { GitServer } from '../git_server.mjs';
import { killIndexers, startIndexer } from '../indexer_service.mjs';
import { createKey } from '../journeys/api_keys_support.mjs';
import { commitOf, indexFiles, newIndexer } from '../journeys/code_support.mjs';
import { newTeam, ok, setPlan } from '../journeys/domain.mjs';
import { until } from '../until.mjs';
import { goal } from './code_goals.mjs';

const env = process.env;
const RUNS = Number(env.KIJKO_BENCH_RUNS ?? 300);
const MEGABYTES = Number(env.KIJKO_BENCH_MB ?? 100);
const FILES = 1_050; // of 20 symbols each

function report(label, times) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(2);
  console.log(`${label.padEnd(44)} p50 ${at(0.5)} ms   p95 ${at(0.95)} ms   max ${at(1)} ms`);
  return Number(at(0.95));
}

async function newOwner() {
  const team = await newTeam();
  await setPlan(team.owner.orgId, 'ENTERPRISE');
  return team.owner;
}

const link = async (owner, name) =>
  ok(
    owner.client
      .from('repositories')
      .insert({ clone_url: `https://github.com/${name}` })
      .select()
      .single(),
  );

async function time(label, send) {
  const times = [];
  for (let n = -20; n < RUNS; n += 1) {
    const started = performance.now();
    await send(Math.max(n, 0));
    if (n >= 0) times.push(performance.now() - started);
  }
  return report(label, times);
}

/** 21,000 symbols by the functions of the indexer; then a prefix and an expression over HTTP, one request after the other. */
export async function measureRequests() {
  const owner = await newOwner();
  const name = `acme/r-${randomUUID()}`;
  const repository = await link(owner, name);
  const nameOf = (file, n) => `${['parse', 'load', 'find', 'send'][n % 4]}_${file.toString(36)}_${n}`;
  const files = Object.fromEntries(
    Array.from({ length: FILES }, (_, file) => {
      const names = Array.from({ length: 20 }, (_, n) => nameOf(file, n));
      const symbols = names.map((symbol, n) => ({
        ordinal: n,
        parent: null,
        name: symbol,
        kind: 'function',
        signature: `fn ${symbol}()`,
        documentation: null,
        exported: true,
        start_line: n + 1,
        start_column: 0,
        end_line: n + 1,
        end_column: 9,
        name_line: n + 1,
        name_column: 3,
      }));
      const content = names.map((symbol) => `fn ${symbol}() {}\n`).join('');
      return [`src/f${file}.rs`, { language: 'rust', content, symbols, references: [], imports: [] }];
    }),
  );
  const indexer = newIndexer();
  const job = await indexer.claim(await ok(owner.client.rpc('index_repository', { repository_id: repository.id })));
  await indexer.call(job, 'begin');
  await indexFiles(indexer, job, files, commitOf(repository.clone_url));
  const post = await poster(owner);
  const prefix = (n) => ({ q: nameOf(n % FILES, n % 20).slice(0, -2), matches: ['exact', 'prefix'], n: 20 });
  console.log(`\n${FILES * 20} symbols, over HTTP`);
  const postgrest = await time('  prefix, PostgREST', (n) => post(`${env.API_URL}/rest/v1/rpc/search_symbols`, prefix(n)));
  const sidecar = await time('  prefix, sidecar', (n) => post(`${env.SIDECAR_URL}/api/v1/symbols/search`, prefix(n)));
  goal('prefix by PostgREST, p95', postgrest, 3, 'ms');
  goal('prefix at the sidecar, p95', sidecar, 1, 'ms');
  await time('  expression, sidecar', (n) =>
    post(`${env.SIDECAR_URL}/api/v1/search/code`, { query: `fn parse_${(n % FILES).toString(36)}_[0-9]+\\(`, regex: true, limit: 50 }),
  );
}

/** Sends requests with an API key of the owner. */
async function poster(owner) {
  const { secret } = await createKey(owner, { permissions: ['repositories:read', 'repositories:write'], rate_limit: 60_000 });
  return async (url, body) => {
    const headers = { 'X-API-Key': secret, 'Content-Type': 'application/json' };
    const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${url}: ${answer.status} ${text}`);
    return JSON.parse(text);
  };
}

/** What a process and those below it have in memory, in MiB. */
function residentOf(pid) {
  const processes = new Map();
  for (const name of readdirSync('/proc').filter((each) => /^\d+$/.test(each))) {
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      processes.set(Number(name), {
        parent: Number(status.match(/^PPid:\s+(\d+)/m)[1]),
        kib: Number(status.match(/^VmRSS:\s+(\d+)/m)?.[1] ?? 0),
      });
    } catch {
      // It has ended.
    }
  }
  const isBelow = (each) => each === pid || (processes.has(each) && isBelow(processes.get(each).parent));
  return [...processes].reduce((sum, [each, { kib }]) => sum + (isBelow(each) ? kib : 0), 0) / 1024;
}

/** From a signed delivery of a push of 10 files to the last of its symbols; and the memory of an indexer that reads many files. */
export async function measurePushes() {
  const owner = await newOwner();
  const git = await GitServer.start();
  try {
    const indexer = await startIndexer(git);
    const name = `acme/p-${randomUUID()}`;
    // Texts that no other has, so that all of them are parsed and stored.
    const text = (file) =>
      Array.from({ length: 700 }, (_, n) => `pub fn f${file}_${n}(value: u64) -> u64 {\n    value + ${n}\n}\n`).join('');
    const size = Buffer.byteLength(text(0));
    const files = Object.fromEntries(Array.from({ length: Math.ceil((MEGABYTES * 1e6) / size) }, (_, n) => [`src/f${n}.rs`, text(n)]));
    const remote = git.repository(name, files);
    const repository = await link(owner, name);
    const started = performance.now();
    const { id } = await ok(owner.client.rpc('index_repository', { repository_id: repository.id }));
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, residentOf(indexer.child.pid));
    }, 200);
    const job = await until(
      'the first index',
      async () => {
        const row = await ok(owner.client.from('indexing_jobs').select().eq('id', id).single());
        return !['queued', 'running'].includes(row.status) && row;
      },
      { timeoutMs: 1_800_000 },
    ).finally(() => clearInterval(watch));
    if (job.status !== 'succeeded') throw new Error(`${job.error_code}: ${job.error}`);
    console.log(
      `\n${MEGABYTES} MB in ${Object.keys(files).length} files indexed in ${((performance.now() - started) / 1000).toFixed(0)} s; at most ${peak.toFixed(0)} MiB of memory with the processes that parse`,
    );
    goal(`memory of the indexer for ${MEGABYTES} MB`, peak, 512, 'MiB');
    const post = await poster(owner);
    const file = (n) => (n * 7) % Object.keys(files).length;
    const page = await time('  a page of an expression', (n) =>
      post(`${env.SIDECAR_URL}/api/v1/search/code`, { query: `fn f${file(n)}_69[0-9]\\(`, regex: true, limit: 10 }),
    );
    goal(`a page of an expression on ${MEGABYTES} MB, p95`, page, 50, 'ms');
    const { secret } = await ok(owner.client.rpc('rotate_repository_secret', { repository_id: repository.id }));
    const times = [];
    for (let push = 0; push < 5; push += 1) {
      const changes = Object.fromEntries(
        Array.from({ length: 10 }, (_, n) => [`src/f${n}.rs`, `${text(n)}pub fn push_${push}_${n}() {}\n`]),
      );
      const body = JSON.stringify({ ref: 'refs/heads/main', after: remote.push(changes), commits: [] });
      const begun = performance.now();
      const answer = await fetch(`${env.API_URL}/webhooks/github/${repository.id}`, {
        method: 'POST',
        headers: {
          'Content-Type': 'application/json',
          'X-GitHub-Event': 'push',
          'X-GitHub-Delivery': randomUUID(),
          'X-Hub-Signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
        },
        body,
      });
      if (answer.status !== 202) throw new Error(`the push: ${answer.status}`);
      await until(`push ${push}`, async () => {
        const found = await ok(owner.client.rpc('search_symbols', { q: `push_${push}_`, matches: ['prefix'], n: 20 }));
        return found.length === 10;
      });
      times.push(performance.now() - begun);
    }
    goal('a push of 10 files, to its last symbol, p95', report('  a push of 10 files, to its last symbol', times) / 1000, 2, 's');
  } finally {
    await killIndexers();
    await git.close();
  }
}
