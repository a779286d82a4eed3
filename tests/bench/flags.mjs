// The platform's flags in the database: what the first question of a new backend costs, which compiles all of them, and each further
// one. Times are the client's; a trivial statement on the same connection is taken off. Evaluations are counted in shared memory: what
// that costs is shown next to a database whose evaluations nobody counts.
//
//   ./kijko bench flags          KIJKO_BENCH_FLAGS=1000   KIJKO_BENCH_RUNS=50 (new backends)
import pg from 'pg';

const env = process.env;
const FLAGS = Number(env.KIJKO_BENCH_FLAGS ?? 1000);
const RUNS = Number(env.KIJKO_BENCH_RUNS ?? 50);
const ENVIRONMENT = 'bench';
// A database without a worker, whose evaluations nobody counts.
const UNCOUNTED = 'kijko_bench_flags';
const EVALUATIONS = 20_000;

const features = Array.from({ length: FLAGS }, (_, n) => ({
  name: `flag-${n}`,
  enabled: true,
  strategies: [
    {
      name: 'flexibleRollout',
      parameters: { rollout: '50', stickiness: 'userId', groupId: `flag-${n}` },
      constraints: [{ contextName: 'country', operator: 'IN', values: ['NL', 'BE', 'DE'] }],
      segments: [1],
    },
    { name: 'userWithId', parameters: { userIds: 'ada,bob,carol' } },
  ],
}));
const definitions = {
  version: 2,
  features,
  segments: [{ id: 1, constraints: [{ contextName: 'version', operator: 'SEMVER_GTE', value: '1.2.3' }] }],
};
const context = { userId: 'someone', properties: { country: 'NL', version: '2.0.0' } };

async function connect(database) {
  const url = new URL(env.ADMIN_DB_URL);
  if (database) url.pathname = database;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  return client;
}
async function timed(client, text, values) {
  const start = performance.now();
  await client.query(text, values);
  return performance.now() - start;
}
const at = (times, share) => times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * share))];
const shown = (times) => `median ${at(times, 0.5).toFixed(2)} ms, p99 ${at(times, 0.99).toFixed(2)} ms`;

/** Milliseconds of so many evaluations of one flag, with counting and without, in turns. */
async function countingCost(admin) {
  await admin.query(`drop database if exists ${UNCOUNTED}`);
  await admin.query(`create database ${UNCOUNTED}`);
  const counted = await connect();
  const uncounted = await connect(UNCOUNTED);
  try {
    await uncounted.query('create extension kijko');
    await uncounted.query('select kijko.put_flag_snapshot($1, $2)', [ENVIRONMENT, definitions]);
    const figure = async () => {
      const { rows } = await admin.query(
        `select sum(value)::integer as counted from kijko.stats() where metric in ('flag.counted', 'flag.lost')`,
      );
      return rows[0].counted;
    };
    const times = { counted: [], uncounted: [] };
    const before = await figure();
    const text = `select count(*) filter (where kijko.flag_enabled('flag-0', $1, $2)) from generate_series(1, $3::integer) as n`;
    const run = (client) => timed(client, text, [context, ENVIRONMENT, EVALUATIONS]);
    for (const client of [counted, uncounted]) await run(client);
    for (let turn = 0; turn < 20; turn += 1) {
      times.counted.push(await run(counted));
      times.uncounted.push(await run(uncounted));
    }
    const seen = (await figure()) - before;
    if (seen !== 21 * EVALUATIONS) throw new Error(`${seen} evaluations were counted`);
    return times;
  } finally {
    await counted.end();
    await uncounted.end();
    await admin.query(`drop database ${UNCOUNTED}`);
  }
}

const admin = await connect();
try {
  await admin.query('select kijko.put_flag_snapshot($1, $2)', [ENVIRONMENT, definitions]);
  const cold = [];
  const warm = [];
  const many = [];
  for (let run = 0; run < RUNS; run += 1) {
    const client = await connect();
    // The library and the parser are loaded before.
    await timed(client, `select kijko.flag_enabled('none', '{}', 'none')`);
    const trivial = await timed(client, 'select $1::text, $2::jsonb', ['x', context]);
    cold.push((await timed(client, 'select kijko.flag_enabled($1, $2, $3)', ['flag-0', context, ENVIRONMENT])) - trivial);
    warm.push((await timed(client, 'select kijko.flag_enabled($1, $2, $3)', ['flag-1', context, ENVIRONMENT])) - trivial);
    many.push(
      await timed(
        client,
        `select count(*) filter (where kijko.flag_enabled('flag-' || n, $1, $2)) from generate_series(0, $3::integer - 1) as n`,
        [context, ENVIRONMENT, FLAGS],
      ),
    );
    await client.end();
  }
  const { counted, uncounted } = await countingCost(admin);
  const each = (times) => (at(times, 0.5) * 1000) / EVALUATIONS;
  console.log(`flags: ${FLAGS}, ${(JSON.stringify(definitions).length / 1024).toFixed(0)} KiB; new backends: ${RUNS}`);
  console.log(`  first question of a backend (compiles all): ${shown(cold)}`);
  console.log(`  further question, with its round trip:      ${shown(warm)}`);
  console.log(`  each of ${FLAGS} in one statement:            ${((at(many, 0.5) * 1000) / FLAGS).toFixed(1)} microseconds`);
  console.log(
    `  one of them, ${EVALUATIONS} times in a statement:    ${each(counted).toFixed(2)} microseconds, of which counting is ${(each(counted) - each(uncounted)).toFixed(2)}`,
  );
} finally {
  await admin.query('select kijko.put_flag_snapshot($1, null)', [ENVIRONMENT]);
  await admin.end();
}
