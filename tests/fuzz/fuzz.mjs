// Sends requests that schemathesis makes of the OpenAPI document, as several callers, and fails on a fault of the server (hooks.py says
// which answers are none) and on an answer that the document does not describe. Prints what was sent. KIJKO_FUZZ_EXAMPLES: requests
// for each operation and caller, 5 by default; KIJKO_FUZZ_SEED repeats a run; KIJKO_FUZZ_PATHS is a pattern of the paths
// that are asked, KIJKO_FUZZ_CALLERS names the callers; KIJKO_FUZZ_WORKERS: requests at a time, 1 by default; KIJKO_FUZZ_PHASES are
// schemathesis' phases, and KIJKO_FUZZ_MODE its mode: positive sends only what the document allows, which gets further than what it forbids.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openapi } from '../../scripts/openapi.mjs';
import { query } from '../access/db.mjs';
import { forgetPeople, liftAddressRate, makePeople, restoreAddressRate } from '../access/people.mjs';
import { makeWorld, removeWorld } from '../access/world.mjs';

const { API_URL, DB_URL, ANON_KEY, SERVICE_ROLE_KEY, KIJKO_SCHEMATHESIS = 'schemathesis' } = process.env;
const EXAMPLES = process.env.KIJKO_FUZZ_EXAMPLES ?? '5';
// The phase coverage sends every edge of every schema: some hundred requests for each operation.
const PHASES = process.env.KIJKO_FUZZ_PHASES ?? 'examples,fuzzing';
const MODE = process.env.KIJKO_FUZZ_MODE ?? 'all';
const WORKERS = process.env.KIJKO_FUZZ_WORKERS ?? '1';
const SEED = process.env.KIJKO_FUZZ_SEED ?? String(Math.floor(Math.random() * 2 ** 31));

// What is not asked: streams, which do not end; and what would end the caller's own session, account or key.
const LEFT_OUT = [
  /^\/realtime\/v1\/(websocket|events)$/,
  /^\/auth\/v1\/(logout|token|signup)$/,
  /^\/rest\/v1\/rpc\/(delete_account|delete_organization|leave_organization|revoke_session|revoke_sessions|revoke_api_key|rotate_api_key)$/,
];

const folder = await mkdtemp(join(tmpdir(), 'kijko-fuzz-'));
const failedRequests = (limit) =>
  query(`select kijko.set_rate_limit_policy('failed_requests', 'address', $1, interval '1 minute', 'external')`, [limit]);

/** Ids of rows, so that requests are about something. */
const idsOf = (world) => [...new Set(JSON.stringify(world).match(/[0-9a-f]{8}-[0-9a-f-]{27}/g))];

/** One run of schemathesis; its exit status, and what hooks.py counted. */
async function run(name, headers, ids, document) {
  const counts = join(folder, `${name}.json`);
  const program = spawn(
    KIJKO_SCHEMATHESIS,
    [
      'run',
      document,
      ...[
        '--url',
        API_URL,
        '--checks',
        'no_fault,as_described',
        '--phases',
        PHASES,
        '--mode',
        MODE,
        '--max-examples',
        EXAMPLES,
        '--seed',
        SEED,
        '--workers',
        WORKERS,
      ],
      ...['--request-timeout', '20', '--continue-on-failure', '--suppress-health-check', 'all', '--no-color'],
      ...Object.entries(headers).flatMap(([header, value]) => ['-H', `${header}: ${value}`]),
    ],
    {
      cwd: folder,
      env: {
        ...process.env,
        SCHEMATHESIS_HOOKS: 'hooks',
        PYTHONPATH: fileURLToPath(new URL('.', import.meta.url)),
        KIJKO_FUZZ_IDS: ids.join(' '),
        KIJKO_FUZZ_COUNTS: counts,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let said = '';
  program.stdout.on('data', (data) => {
    said += data;
  });
  const began = Date.now();
  const [code] = await once(program, 'close');
  const minutes = ((Date.now() - began) / 60_000).toFixed(1);
  const counted = await readFile(counts, 'utf8').then(JSON.parse, () => ({}));
  const requests = Object.values(counted).reduce((sum, count) => sum + count, 0);
  const statuses = Object.entries(counted).map(([status, count]) => `${status}: ${count}`);
  console.log(`# as ${name}: ${requests} requests in ${minutes} minutes (${statuses.join(', ')})`);
  // A run that sent nothing has found nothing.
  const passed = code === 0 && requests > 100;
  if (!passed) console.log(said);
  console.log(`${passed ? 'ok' : 'not ok'} - ${name}`);
  return passed;
}

let [people, world] = [];
const results = [];
try {
  await liftAddressRate();
  await failedRequests(1_000_000);
  people = await makePeople();
  world = await makeWorld(people);
  const document = await openapi(DB_URL, API_URL);
  const only = process.env.KIJKO_FUZZ_PATHS && new RegExp(process.env.KIJKO_FUZZ_PATHS);
  for (const path of Object.keys(document.paths)) {
    if (LEFT_OUT.some((pattern) => pattern.test(path)) || (only && !only.test(path))) delete document.paths[path];
  }
  const file = join(folder, 'openapi.json');
  await writeFile(file, JSON.stringify(document));
  console.log(`# seed ${SEED}, ${Object.keys(document.paths).length} paths, ${EXAMPLES} requests for each operation`);
  const ids = idsOf(world);
  const callers = {
    anon: { apikey: ANON_KEY, Authorization: `Bearer ${ANON_KEY}` },
    // Before its owner, who may revoke it.
    key: { 'X-API-Key': world.keys.servkey.secret },
    owner: { apikey: ANON_KEY, Authorization: `Bearer ${people.owner.token}`, 'x-org-id': world.org },
    // Last: it may delete the others' rows, and those of plans, without which no other world can be made.
    service: { apikey: SERVICE_ROLE_KEY, Authorization: `Bearer ${SERVICE_ROLE_KEY}` },
  };
  const named = process.env.KIJKO_FUZZ_CALLERS?.split(',') ?? Object.keys(callers);
  // schemathesis computes longer than it waits, on one processor. These two do not change what the other one sees.
  for (const together of [['anon', 'key'], ['owner'], ['service']]) {
    const some = together.filter((name) => named.includes(name));
    results.push(...(await Promise.all(some.map((name) => run(name, callers[name], ids, file)))));
  }
} finally {
  await restoreAddressRate();
  await failedRequests(60);
  if (world) await removeWorld(world);
  if (people) await forgetPeople(people);
  await rm(folder, { recursive: true });
}
console.log(`# pass ${results.filter(Boolean).length}`);
console.log(`# fail ${results.filter((passed) => !passed).length}`);
process.exit(results.length > 0 && results.every(Boolean) ? 0 : 1);
