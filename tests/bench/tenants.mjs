// What many tenants cost the extension: memory of the backends, sizes of the caches, evictions, latency and throughput of
// before_request() with many organizations, API keys and connections, and a storm of invalidations when everybody's plan changes.
// Each connection plays a backend of PostgREST: transactions of random keys, in turn with those of its others.
//
//   ./kijko bench tenants        KIJKO_BENCH_ORGS=10000   KIJKO_BENCH_KEYS=100000   KIJKO_BENCH_CONNECTIONS=10,100,1000
//                                KIJKO_BENCH_SECONDS=20 (of each number of connections)
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const env = process.env;
const ORGS = Number(env.KIJKO_BENCH_ORGS ?? 10_000);
const KEYS = Number(env.KIJKO_BENCH_KEYS ?? 100_000);
const CONNECTIONS = (env.KIJKO_BENCH_CONNECTIONS ?? '10,100,1000').split(',').map(Number);
const SECONDS = Number(env.KIJKO_BENCH_SECONDS ?? 20);
const LOGIN = 'bench_tenants';
const MIB = 1024 * 1024;

const admin = new pg.Client({ connectionString: env.ADMIN_DB_URL });
await admin.connect();
const one = async (text, values) => (await admin.query(text, values)).rows[0];

/** Tenants of the extension alone: limits, a tier and keys. The domain's rows would change nothing here. */
async function prepare() {
  await admin.query(`
    create role ${LOGIN} login noinherit password 'bench';
    grant anon, authenticated to ${LOGIN};
    grant connect on database postgres to ${LOGIN};
    create table bench_orgs as select n, gen_random_uuid() as id from generate_series(1, ${ORGS}) as n;
    create unique index on bench_orgs (n);
    create table bench_keys (n integer primary key, secret text not null);
    select kijko.set_limits(array_agg(o.id), array_agg(m.meter), array_agg('month'::text), array_agg(1000000000::bigint), array_agg('refuse'::text))
    from bench_orgs as o cross join unnest(array['api_requests', 'executions', 'llm_tokens']) as m (meter);
    insert into kijko.tiers (subject, tier) select o.id, 'PRO' from bench_orgs as o;
    select kijko.set_rate_limit_policy('requests', 'organization', 1000000000, '1 minute', tier) from unnest(array['PRO', 'TEAMS']) as tier`);
  for (let from = 1; from <= KEYS; from += 5_000)
    await admin.query(`do $$
      declare id uuid;
      begin
        for key in ${from} .. ${Math.min(from + 4_999, KEYS)} loop
          id := gen_random_uuid();
          perform kijko.put_api_key(id, (select o.id from bench_orgs as o where o.n = key % ${ORGS} + 1), 'service', null, '{*:read,*:write}', null, null, null, null, null, null, null);
          perform kijko.generate_api_key(id);
          perform kijko.store_api_key_secret(id);
          insert into bench_keys values (key, kijko.issued_api_key(id));
        end loop;
      end $$`);
  await admin.query(`alter system set kijko.trusted_session_users = 'authenticator, ${LOGIN}'`);
  // No PostgREST is between: its bounds on how long and how many connections are held would refuse what a thousand clients ask at once.
  await admin.query('alter system set kijko.connection_time_rate = 0');
  await admin.query('alter system set kijko.connection_pool_size = 0');
  await admin.query('select pg_reload_conf()');
  await admin.query('analyze');
  const { rows } = await admin.query('select secret from bench_keys');
  return rows.map(({ secret }) => JSON.stringify({ 'x-api-key': secret }));
}

async function connect(count) {
  const url = new URL(env.ADMIN_DB_URL);
  Object.assign(url, { username: LOGIN, password: 'bench' });
  const clients = [];
  // In batches: a thousand at once would wait for each other's fork.
  while (clients.length < count) {
    const batch = Array.from({ length: Math.min(50, count - clients.length) }, () => new pg.Client({ connectionString: url.href }));
    await Promise.all(batch.map((client) => client.connect()));
    clients.push(...batch);
  }
  return clients;
}

/** What PostgREST sends before the main statement. */
async function request(client, headers) {
  await client.query({ name: 'begin', text: 'begin read only' });
  await client.query({
    name: 'settings',
    text: `select set_config('role', 'anon', true), set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('request.method', 'GET', true),
      set_config('request.path', '/projects', true), set_config('request.headers', $1, true)`,
    values: [headers],
  });
  await client.query({ name: 'pre', text: 'select public.before_request()' });
  await client.query({ name: 'commit', text: 'commit' });
}

/** Every connection makes requests until the time is over. Latencies in milliseconds, with the second they ended in. */
async function load(clients, keys, seconds) {
  const began = performance.now();
  const done = [];
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() - began < seconds * 1_000) {
        const start = performance.now();
        await request(client, keys[Math.floor(Math.random() * keys.length)]);
        const end = performance.now();
        done.push([(end - began) / 1_000, end - start]);
      }
    }),
  );
  return done;
}

const at = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;

function latencies(done) {
  const sorted = done.map(([, time]) => time).sort((a, b) => a - b);
  return `p50 ${at(sorted, 0.5).toFixed(2)}  p95 ${at(sorted, 0.95).toFixed(2)}  p99 ${at(sorted, 0.99).toFixed(2)} ms`;
}

async function stats() {
  const { rows } = await admin.query('select metric, value from kijko.stats()');
  return new Map(rows.map(({ metric, value }) => [metric, Number(value)]));
}

/** Memory that a backend shares with nobody: of the median and of the largest one. */
async function memory() {
  const { rows } = await admin.query(`
    select (field[2]::bigint - field[3]::bigint) * 4096 as own from pg_stat_activity as a,
      string_to_array(pg_read_file('/proc/' || a.pid || '/statm', 0, 1000, true), ' ') as field where a.usename = '${LOGIN}' order by 1`);
  const own = rows.map((row) => Number(row.own) / MIB);
  return { median: at(own, 0.5), largest: own.at(-1), sum: own.reduce((sum, value) => sum + value, 0) };
}

async function run(count, keys) {
  const clients = await connect(count);
  try {
    const fresh = await memory();
    const before = await stats();
    const done = await load(clients, keys, SECONDS);
    const after = await stats();
    const grown = await memory();
    assert.ok(done.length > 0);
    console.log(`\n${count} connections: ${Math.round(done.length / SECONDS)} requests/s  ${latencies(done)}`);
    console.log(
      `  own memory of a backend: ${fresh.median.toFixed(1)} MiB fresh, ${grown.median.toFixed(1)} after (largest ${grown.largest.toFixed(1)}), all ${Math.round(grown.sum)} MiB`,
    );
    const of = (metric) =>
      `${metric} ${after.get(metric)}${metric.endsWith('used') ? '' : ` (+${after.get(metric) - before.get(metric)})`}`;
    for (const names of [
      ['quota.used', 'quota.loads', 'quota.evictions', 'quota.full'],
      ['rate_limit.used', 'rate_limit.recycled', 'rate_limit.evicted'],
      ['request_counter.used', 'request_counter.full', 'request_counter.lost', 'request_counter.failures'],
    ])
      console.log(`  ${names.map(of).join('  ')}`);
    assert.equal(after.get('request_counter.lost'), before.get('request_counter.lost'), 'no request is lost from the counts');
    if (count === Math.max(...CONNECTIONS)) await storm(clients, keys);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

/** Everybody's plan changes in one transaction, while all connections are busy. */
async function storm(clients, keys) {
  const seconds = Math.max(9, SECONDS);
  const running = load(clients, keys, seconds);
  await sleep((seconds / 3) * 1_000);
  const start = performance.now();
  await admin.query('begin');
  await admin.query(`update kijko.tiers set tier = 'TEAMS' where subject in (select id from bench_orgs)`);
  await admin.query(`select kijko.set_limits(array_agg(o.id), array_agg(m.meter), array_agg('month'::text), array_agg(2000000000::bigint), array_agg('refuse'::text))
    from bench_orgs as o cross join unnest(array['api_requests', 'executions', 'llm_tokens']) as m (meter)`);
  const changed = performance.now();
  await admin.query('commit');
  const committed = performance.now();
  const done = await running;
  const [from, until] = [seconds / 3, seconds / 3 + (committed - start) / 1_000];
  console.log(
    `\na change of everybody's plan: ${Math.round(changed - start)} ms for the statements, ${(committed - changed).toFixed(1)} ms for the commit`,
  );
  for (const [name, part, length] of [
    ['before', done.filter(([end]) => end < from), from],
    ['while it ran', done.filter(([end]) => end >= from && end < until), until - from],
    ['the second after', done.filter(([end]) => end >= until && end < until + 1), 1],
    ['after that', done.filter(([end]) => end >= until + 1), seconds - until - 1],
  ])
    console.log(`  ${name.padEnd(17)} ${String(Math.round(part.length / length)).padStart(6)} requests/s  ${latencies(part)}`);
  // Every connection counts by the new plan from its next request on.
  const refreshed = await clients[0].query(`select count(*) from pg_stat_activity where usename = '${LOGIN}'`);
  assert.equal(Number(refreshed.rows[0].count), clients.length);
}

async function tidy() {
  await admin.query('alter system reset kijko.trusted_session_users');
  await admin.query('alter system reset kijko.connection_time_rate');
  await admin.query('alter system reset kijko.connection_pool_size');
  await admin.query('select pg_reload_conf()');
  await admin.query(`
    delete from kijko.limits where subject in (select id from bench_orgs);
    delete from kijko.tiers where subject in (select id from bench_orgs);
    select count(kijko.delete_api_key(k.id)) from kijko.api_keys as k join bench_orgs as o on o.id = k.org_id;
    drop table bench_orgs, bench_keys;
    drop owned by ${LOGIN};
    drop role ${LOGIN}`);
}

const room = Number((await one('show max_connections')).max_connections) - 30;
assert.ok(Math.max(...CONNECTIONS) <= room, `max_connections leaves room for ${room}`);

try {
  const started = performance.now();
  const keys = await prepare();
  console.log(`${ORGS} organizations, ${KEYS} API keys, made in ${Math.round((performance.now() - started) / 1_000)} s`);
  for (const name of ['kijko.quota_slots', 'kijko.rate_limit_slots', 'kijko.request_counter_slots', 'kijko.api_key_slots'])
    console.log(`  ${name} = ${(await one('select current_setting($1) as value', [name])).value}`);
  for (const count of CONNECTIONS) await run(count, keys);
  console.log(`\n${availableParallelism()} processors, ${SECONDS} s a run; client and server share them`);
} finally {
  await tidy();
  await admin.end();
}
