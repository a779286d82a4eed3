// Mutation testing of the database: makes one change at a time, runs the tests that are about it, says whether one notices, and
// changes it back. On a stack of its own: `./kijko mutate [AREA…] [--sample N] [--seed N] [--only REGEX] [--own] [--no-matrix] [--verbose] [--list]`.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { equivalence, unmatched } from './equivalent.mjs';
import { sample } from './mutants.mjs';
import { AREAS, MORE_AREAS, mutantsOfArea, origins } from './subjects.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PGTAP = 'supabase/tests/database';
const LINTS = 'tests/lint';
// A change that makes a loop endless is noticed by this.
const TIMEOUT_MS = 120_000;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: '1' },
    sample: { type: 'string', default: '40' },
    only: { type: 'string', default: '' },
    list: { type: 'boolean', default: false },
    own: { type: 'boolean', default: false },
    'no-matrix': { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
});
const areas = positionals.length > 0 ? positionals : AREAS;
for (const area of areas)
  if (![...AREAS, ...MORE_AREAS].includes(area)) throw new Error(`there is no area '${area}': ${[...AREAS, ...MORE_AREAS].join(' ')}`);

const url = process.env.ADMIN_DB_URL;
if (!url) throw new Error('ADMIN_DB_URL is not set: run ./kijko mutate');
const db = new pg.Client({ connectionString: url });
await db.connect();
await db.query('set lock_timeout = 30000');
const query = async (text, values) => (await db.query(text, values)).rows;

/** Everything that a mutant changes. It must be the same at the end. */
const CATALOG = `select md5(string_agg(line, e'\\n' order by line)) as hash from (
  select pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') as line from pg_proc as p
    where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace) and p.prokind = 'f' and p.prolang <> (select oid from pg_language where lanname = 'c')
  union all select p.polrelid::regclass || p.polname || coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') from pg_policy as p
  union all select t.tgrelid::regclass || t.tgname || t.tgenabled::text from pg_trigger as t where not t.tgisinternal
  union all select c.oid::regclass || coalesce(c.relacl::text, '') from pg_class as c where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p', 'v')
) as catalog`;
const catalog = async () => (await query(CATALOG))[0].hash;

/** Runs a file of pgTAP, or lines of the access matrix; whether all of it passed. */
const passes = (file) => (file.lines ? runAccess(file) : runPgtap(file));

const ACCESS = ['tests/access/matrix.test.mjs', 'tests/access/blind_writes.test.mjs'];
const runAccess = ({ lines }) =>
  run('node', ['--test', '--test-concurrency=1', '--test-reporter=tap', '--test-name-pattern', lines, ...ACCESS], isGreen);

function runPgtap({ path }) {
  const { hostname, port, username, password, pathname } = new URL(url);
  return run('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-f', path], isPlanned, {
    PGHOST: hostname,
    PGPORT: port,
    PGUSER: username,
    PGPASSWORD: decodeURIComponent(password),
    PGDATABASE: pathname.slice(1),
    PGSSLMODE: 'disable',
    PGOPTIONS: '-c statement_timeout=60s -c lock_timeout=30s -c client_min_messages=error',
  });
}

/** pgTAP says how many tests there are. */
function isPlanned(output) {
  const planned = Number(/^1\.\.(\d+)/m.exec(output)?.[1] ?? -1);
  return output.split('\n').filter((line) => /^ok \d/.test(line)).length === planned && !/^not ok/m.test(output);
}

const failedLine = (output) => output.split('\n').find((line) => /^not ok|ERROR/.test(line)) ?? 'it did not end';

/** Node.js: at least one test passed. */
const isGreen = (output) => /^ok \d/m.test(output) && !/^not ok/m.test(output);

/** Runs a program to its end, or until a test fails: { passed, output }. */
function run(program, args, isGood, env) {
  const child = spawn(program, args, { cwd: ROOT, env: { ...process.env, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data;
      if (/^not ok.*\n/m.test(output)) child.kill();
    });
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
  return new Promise((resolve) => {
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ passed: status === 0 && isGood(output), output });
    });
  });
}

const made = origins();
const tests = readdirSync(`${ROOT}${PGTAP}`)
  .filter((name) => name.endsWith('.test.sql'))
  .map((name) => ({ name, path: `${PGTAP}/${name}`, text: readFileSync(`${ROOT}${PGTAP}/${name}`, 'utf8'), ms: 0 }));
const lints = new Map(
  ['schema_functions', 'schema_callers', 'schema_policies', 'schema_tables'].map((name) => [
    name,
    { name, path: `${LINTS}/${name}.test.sql`, text: '', ms: 0 },
  ]),
);

/** The lines of the access matrix about a table or function of the API. They ask the running API. */
const matrix = new Map();
function matrixFor(name) {
  if (!matrix.has(name)) matrix.set(name, { name: `access ${name}`, lines: `^${name}($|\\()`, ms: 0 });
  return matrix.get(name);
}

/**
 * All files, since any may notice: first those that name the object, then the others of its domain, then the access matrix.
 * `--own` leaves out the rest, `--no-matrix` the matrix.
 */
function filesFor({ names, domain, lints: wanted, exposed }) {
  const mentions = (file) => names.reduce((sum, name) => sum + file.text.split(new RegExp(`\\b${name}\\b`)).length - 1, 0);
  const own = ({ name }) => name === `${domain}.test.sql` || name.startsWith(`${domain}_`);
  const scored = tests
    .map((file) => ({ file, score: mentions(file) + (own(file) ? 0.5 : 0) }))
    .filter(({ score }) => score > 0 || !options.own);
  scored.sort((a, b) => Number(b.score >= 1) - Number(a.score >= 1) || b.score / (b.file.ms + 500) - a.score / (a.file.ms + 500));
  const asked = exposed && !options['no-matrix'] ? [matrixFor(exposed)] : [];
  // What does not name the object notices least.
  const others = scored.findIndex(({ score }) => score < 0.5);
  const files = scored.map(({ file }) => file);
  if (others === -1) return [...wanted.map((name) => lints.get(name)), ...files, ...asked];
  return [...wanted.map((name) => lints.get(name)), ...files.slice(0, others), ...asked, ...files.slice(others)];
}

/** Which file notices, with its line, or null; { refused } if Postgres refuses the change, which then is none. */
async function noticedBy(mutant) {
  for (const file of filesFor(mutant)) {
    const { refused, line } = await underMutant(mutant, file);
    if (refused) return { refused };
    if (line && (file.passed || (await passesUnchanged(file)))) return { file, line };
  }
  return null;
}

/** Under a change: { line } that the file says if it fails, {} if it passes, { refused } if Postgres refuses the change. */
async function underMutant(mutant, file) {
  if (file.leftOut) return {};
  try {
    await db.query(mutant.apply);
  } catch (error) {
    return { refused: error.message };
  }
  try {
    const { passed, output } = await passes(file);
    if (passed) return {};
    return { line: failedLine(output) };
  } finally {
    await db.query(mutant.undo);
  }
}

/**
 * Whether the file passes without a change. One that does not is said with its line, and left out: it depends on more than its own rows.
 * Asked at a file's first notice, and of each that noticed something at the end of the run.
 */
async function passesUnchanged(file) {
  const started = Date.now();
  const { passed, output } = await passes(file);
  file.ms ||= Date.now() - started;
  file.passed = passed;
  if (!passed) {
    file.leftOut = true;
    console.log(`left out, and what it noticed does not count, since it fails without a change: ${file.name} (${failedLine(output)})`);
  }
  return passed;
}

const chosen = [];
for (const area of areas) {
  const all = (await mutantsOfArea(area, query, made)).filter(({ object, what }) => new RegExp(options.only).test(`${object} ${what}`));
  for (const line of options.only ? [] : unmatched(area, all)) {
    console.error(`tests/mutation/equivalent.mjs: no change is ${line}`);
    process.exitCode = 1;
  }
  chosen.push({ area, all: all.length, mutants: sample(all, Number(options.sample), Number(options.seed)) });
}
if (options.list) {
  for (const { area, all, mutants } of chosen) {
    console.log(`${area}: ${mutants.length} of ${all}`);
    for (const { object, what } of mutants) console.log(`  ${object}  ${what}`);
  }
  await db.end();
  process.exit();
}

const before = await catalog();
const results = [];
let stopping = false;
process.on('SIGINT', () => {
  stopping = true;
});
for (const { area, all, mutants } of chosen) {
  const result = { area, all, notices: [], tried: 0, equivalent: 0 };
  results.push(result);
  for (const mutant of mutants) {
    if (stopping) break;
    if (equivalence(mutant)) {
      result.equivalent += 1;
      continue;
    }
    const found = await noticedBy(mutant);
    if (found?.refused) continue;
    result.tried += 1;
    if (found) result.notices.push(found.file);
    if (!found || options.verbose) {
      console.log(
        `${found ? `noticed by ${found.file.name} (${found.line.slice(0, 100)})` : 'SURVIVES'}  ${area}: ${mutant.object}  ${mutant.what}`,
      );
    }
  }
}
for (const file of new Set(results.flatMap(({ notices }) => notices))) await passesUnchanged(file);
const restored = (await catalog()) === before;
await db.end();
console.log(`\narea        changes  tried  noticed  share   (seed ${options.seed}; equivalent ones were left out)`);
for (const { area, all, tried, notices, equivalent } of results) {
  const noticed = notices.filter(({ passed }) => passed).length;
  const share = tried === 0 ? '-' : `${((100 * noticed) / tried).toFixed(1)} %`;
  console.log(
    `${area.padEnd(12)}${String(all).padStart(6)}${String(tried).padStart(8)}${String(noticed).padStart(8)}   ${share}   ${equivalent} equivalent`,
  );
}
if (!restored) {
  console.error('the database is not what it was before: throw it away');
  process.exitCode = 1;
}
