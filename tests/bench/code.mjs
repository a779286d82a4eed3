// Search in the index of repositories. Symbols: an organization of 21,000, alone, and then beside 99 others with 1,000,000 in all.
// Text: 100 MB of files that are made of this checkout's own. Times are the server's, measured around each call of the function
// behind search_symbols() and search_code(), so without the request, the check of the permission and the ledger. Requests: a prefix
// by PostgREST and by the sidecar, an expression by the sidecar. Pushes: the same indexer, git host and webhook as the journeys have,
// from the signed delivery to the new symbols; and the memory of an indexer that reads 100 MB. At its end stand the goals, each with
// its ratio; the exit status is 1 if one is missed. Recall is printed by the tests of services/grammars.
//
//   ./kijko bench code           KIJKO_BENCH_RUNS=300 (of each query)   KIJKO_BENCH_MB=100   KIJKO_BENCH_ORGANIZATIONS=100
//
// The parts need a quiet machine, and half an hour. KIJKO_BENCH_PARTS=symbols,text,requests,pushes runs some of them.
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { goal, printGoals } from './code_goals.mjs';
import { measurePushes, measureRequests } from './code_requests.mjs';

const env = process.env;
const RUNS = Number(env.KIJKO_BENCH_RUNS ?? 300);
const MEGABYTES = Number(env.KIJKO_BENCH_MB ?? 100);
const ORGANIZATIONS = Number(env.KIJKO_BENCH_ORGANIZATIONS ?? 100);
const PARTS = (env.KIJKO_BENCH_PARTS ?? 'symbols,text,requests,pushes').split(',');
const ROOT = path.resolve(import.meta.dirname, '../..');

const admin = new pg.Client({ connectionString: env.ADMIN_DB_URL });
await admin.connect();
const one = async (text, values) => (await admin.query(text, values)).rows[0];
const users = [];

async function newTenant(name) {
  const user = randomUUID();
  users.push(user);
  await admin.query(
    `insert into auth.users (id, aud, role, email, email_confirmed_at) values ($1, 'authenticated', 'authenticated', $2, now())`,
    [user, `${user}@example.test`],
  );
  const { id: org } = await one('select id from public.organizations where personal_for = $1', [user]);
  const { id: repository } = await one('insert into public.repositories (org_id, clone_url) values ($1, $2) returning id', [
    org,
    `https://github.com/bench/${name}`,
  ]);
  const { id: branch } = await one(
    `insert into public.repository_branches (org_id, repository_id, name, commit_sha, indexing_seq)
     values ($1, $2, 'main', repeat('1', 40), 0) returning id`,
    [org, repository],
  );
  return { org, branch };
}

// Names of two to four words, of which some are common and most are rare, as in code.
const NAME = `(select string_agg(case when k = 1 then w else initcap(w) end, '' order by k) from (
  select k, (array['get','set','find','user','parse','config','load','save','http','server','cache','symbol','index','build','path','token'])[
    1 + (('x' || substr(md5(n || '-' || k || '-' || $3), 1, 4))::bit(16)::int % 16)] ||
    case when ('x' || substr(md5(k || '-' || n || $3), 1, 2))::bit(8)::int < 160 then substr(md5($3 || k || '-' || n), 1, 3) else '' end as w
  from generate_series(1, 2 + n % 3) as k) as words)`;

async function addSymbols({ org, branch }, count, seed) {
  await admin.query(
    `with blobs as (
       insert into private.code_blobs (organization, oid, bytes, lines, language)
       select $1, md5(n || $3) || left(md5($3 || n), 8), 1000, 100, 'rust' from generate_series(1, $4 / 20) as n returning id
     ), entries as (
       insert into private.code_tree_entries (organization, branch_id, path, blob_id, mode)
       select $1, $2, 'src/d' || id % 50 || '/f' || id || '.rs', id, 33188 from blobs
     ), numbered as (select id, row_number() over () as k from blobs)
     insert into private.code_symbols (
       organization, blob_id, ordinal, name, kind, exported, start_line, start_column, end_line, end_column, name_line, name_column
     )
     select $1, b.id, n % 20, ${NAME}, 'function', n % 2 = 0, n, 0, n, 9, n, 3
     from generate_series(0, $4 - 1) as n join numbered as b on b.k = 1 + n / 20`,
    [org, branch, seed, count],
  );
}

/** Prints percentiles of a query's time in the server, and returns the 95th in milliseconds: `call` is a query of one argument. */
async function measure(label, call, args) {
  const { times } = await one(`select pg_temp.measure($1, $2) as times`, [call, args]);
  const sorted = times.map(Number).sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(3);
  console.log(`${label.padEnd(44)} p50 ${at(0.5)} ms   p95 ${at(0.95)} ms   max ${at(1)} ms`);
  return Number(at(0.95));
}

async function measureSymbols(title, { org, branch }) {
  console.log(`\n${title}`);
  const { rows } = await admin.query(
    `select name from private.code_symbols where organization = $1 order by md5(name || blob_id) limit $2`,
    [org, RUNS],
  );
  const names = rows.map(({ name }) => name);
  const find = (matches) =>
    `select count(*) from private.code_find_symbols('${org}', '{${branch}}', $1, null, null, null, 0, 20, ${matches})`;
  const call = find('null');
  const beginnings = names.map((name) => name.slice(0, Math.max(5, name.length - 4)));
  const exact = await measure('  exact, as matches', find(`'{exact}'`), names);
  await measure('  exact, then prefix and word', call, names);
  const prefix = await measure('  prefix, as matches', find(`'{exact,prefix}'`), beginnings);
  await measure('  prefix, then word', call, beginnings);
  const infix = await measure(
    '  infix',
    call,
    names.map((name) => name.slice(2, 9)),
  );
  return { exact, prefix, infix };
}

function sources(folder, found = []) {
  for (const name of readdirSync(folder)) {
    if (['target', 'node_modules', '.git', '.kijko'].includes(name)) continue;
    const file = path.join(folder, name);
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat?.isDirectory()) sources(file, found);
    else if (stat && stat.size < 400_000 && /\.(rs|mjs|sql|md|sh|ts)$/.test(name)) found.push(readFileSync(file, 'utf8'));
  }
  return found;
}

async function addFiles({ org, branch }) {
  const files = sources(ROOT);
  let bytes = 0;
  for (let round = 0; bytes < MEGABYTES * 1e6; round++) {
    for (const [n, text] of files.entries()) {
      if (bytes >= MEGABYTES * 1e6) break;
      // Another text each round: some identifiers differ.
      const content = round === 0 ? text : text.replaceAll(/\b([a-z]{3,}_[a-z]+)\b/g, (name) => `${name}_${round}`);
      bytes += Buffer.byteLength(content);
      await admin.query(
        `with blob as (
           insert into private.code_blobs (organization, oid, bytes, lines, language, content)
           values ($1, encode(sha256(convert_to($3 || $4, 'UTF8')), 'hex'), octet_length($3), 1, 'rust', $3) returning id
         )
         insert into private.code_tree_entries (organization, branch_id, path, blob_id, mode) select $1, $2, $4, id, 33188 from blob`,
        [org, branch, content, `r${round}/f${n}`],
      );
    }
  }
  return bytes;
}

try {
  await admin.query(`create function pg_temp.measure(call text, args text[]) returns float8[] language plpgsql as $$
    declare times float8[] := '{}'; started timestamptz; arg text; n bigint;
    begin
      execute 'prepare bench_query(text) as ' || call;
      for pass in 1..2 loop -- The first pass warms the plan and the pages.
        times := '{}';
        foreach arg in array args loop
          started := clock_timestamp();
          execute format('execute bench_query(%L)', arg) into n;
          times := times || extract(epoch from clock_timestamp() - started)::float8 * 1000;
        end loop;
      end loop;
      deallocate bench_query;
      return times;
    end $$`);
  await admin.query('set role postgres');
  await admin.query('reset role');
  if (PARTS.includes('symbols')) {
    const tenant = await newTenant('first');
    await addSymbols(tenant, 21_000, 'first');
    await admin.query('vacuum analyze private.code_symbols, private.code_tree_entries, private.code_blobs, public.repository_branches');
    const alone = await measureSymbols('21,000 symbols, one organization', tenant);
    const started = Date.now();
    for (let n = 1; n < ORGANIZATIONS; n++) await addSymbols(await newTenant(`t${n}`), 9_900, `t${n}`);
    console.log(
      `\n${ORGANIZATIONS - 1} organizations with ${9_900 * (ORGANIZATIONS - 1)} symbols written in ${((Date.now() - started) / 1000).toFixed(0)} s`,
    );
    await admin.query('vacuum analyze private.code_symbols, private.code_tree_entries, private.code_blobs, public.repository_branches');
    const beside = await measureSymbols(`${21_000 + 9_900 * (ORGANIZATIONS - 1)} symbols, ${ORGANIZATIONS} organizations`, tenant);
    for (const [kind, bound] of Object.entries({ exact: 0.25, prefix: 0.25, infix: 1.5 }))
      goal(`${kind}, 21,000 symbols, p95`, alone[kind], bound, 'ms');
    for (const kind of Object.keys(alone))
      goal(`${kind}, all symbols next to one organization's, p95`, beside[kind] / alone[kind], 1.5, 'times');
  }
  if (PARTS.includes('text')) {
    const corpus = await newTenant('corpus');
    const before = Date.now();
    const bytes = await addFiles(corpus);
    await admin.query('vacuum analyze private.code_blobs, private.code_tree_entries');
    const { size } = await one(`select pg_relation_size('private.code_blobs_grams_idx') as size`);
    console.log(
      `\n${(bytes / 1e6).toFixed(0)} MB of text written in ${((Date.now() - before) / 1000).toFixed(0)} s; index ${(size / 1e6).toFixed(0)} MB, ${(size / bytes).toFixed(2)} of it`,
    );
    goal('index of text next to its corpus', size / bytes, 1.5, 'times');
    const call = `select count(*) from private.code_find_lines('${corpus.org}', '{${corpus.branch}}', $1, true, false, 2, null, null, 50)`;
    const rare = Array.from(
      { length: 100 },
      (_, n) => [`fn kernel_mode_${n}`, 'impl AsElements<i64>', 'jobs_within_limits(tid[])', 'WORD_START: u8 = 0'][n % 4],
    );
    goal('rare literals, p95', await measure('  rare literals', call, rare), 10, 'ms');
    await measure(
      '  common literals',
      call,
      Array.from({ length: 20 }, (_, n) => ['select ', ') -> ', 'return', '=> {'][n % 4]),
    );
    await measure(
      '  literals that are nowhere',
      call,
      Array.from({ length: 100 }, (_, n) => `zq${n}xw{=>}`),
    );
  }
  if (PARTS.includes('requests')) await measureRequests();
  if (PARTS.includes('pushes')) await measurePushes();
  process.exitCode = printGoals() ? 0 : 1;
} finally {
  await admin.query('delete from public.organizations where personal_for = any ($1)', [users]);
  await admin.query('delete from auth.users where id = any ($1)', [users]);
  await admin.end();
}
// What plays the indexer keeps its connection, which a test would end.
process.exit();
