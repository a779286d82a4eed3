// Product events: events a second in batches of 500, a series over all of them from rollups, a funnel of five steps over a million
// events, retention; and whether funnels and retention equal ClickHouse's (PyPI chdb) on the same data.
//
//   ./kijko bench analytics      KIJKO_BENCH_SECONDS=10   KIJKO_BENCH_EVENTS=10000000
//                                KIJKO_BENCH_CHDB=…/bin/python: a Python that has chdb; without it nothing is compared
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';

const { API_URL, ANON_KEY, ADMIN_DB_URL, KIJKO_BENCH_CHDB } = process.env;
const SECONDS = Number(process.env.KIJKO_BENCH_SECONDS ?? 10);
const EVENTS = Number(process.env.KIJKO_BENCH_EVENTS ?? 10_000_000);
const BATCH = 500;
const SENDERS = 4;
const ROUNDS = 5;
const UNLIMITED = 1_000_000_000;
const STEPS = ['Step 1', 'Step 2', 'Step 3', 'Step 4', 'Step 5'];
const run = promisify(execFile);

const admin = new pg.Client({ connectionString: ADMIN_DB_URL });
await admin.connect();
const one = async (text, values) => (await admin.query(text, values)).rows[0];
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** An organization that no limit stops, and a key of it that sends. */
async function prepare() {
  const client = createClient(API_URL, ANON_KEY, {
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: class {} },
  });
  const { data, error } = await client.auth.signUp({ email: `bench-${Date.now()}@example.com`, password: `pw-${randomUUID()}` });
  if (error) throw error;
  const { org } = await one('select active_org_id as org from private.active_organizations where user_id = $1', [data.user.id]);
  await admin.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  await admin.query(
    `select kijko.set_rate_limit_policy('requests', 'organization', ${UNLIMITED}, '1 minute', 'TEAMS'),
      kijko.set_rate_limit_policy('user_requests', 'user', ${UNLIMITED}, '1 minute', 'TEAMS'),
      kijko.set_limit('${org}', 'api_requests', 'month', ${UNLIMITED}), kijko.set_limit('${org}', 'events', 'month', ${UNLIMITED})`,
  );
  await admin.query('alter system set kijko.connection_time_rate = 1000');
  await admin.query('select pg_reload_conf()');
  const key = await client.rpc('create_api_key', {
    name: 'bench',
    permissions: ['events:ingest', 'analytics:read'],
    rate_limit: 60_000,
  });
  if (key.error) throw key.error;
  return { org, client, key: key.data.secret };
}

/** Batches of events of a few users and visitors, as many as fit into the time. */
async function ingest({ key }) {
  const end = Date.now() + SECONDS * 1000;
  let sent = 0;
  const headers = { Authorization: `Basic ${Buffer.from(`${key}:`).toString('base64')}`, 'content-type': 'application/json' };
  const sender = async (number) => {
    for (let n = 0; Date.now() < end; n += 1) {
      const batch = Array.from({ length: BATCH }, (_, i) => ({
        type: 'track',
        event: `Bench ${i % 5}`,
        userId: `user-${(n * BATCH + i) % 20_000}`,
        anonymousId: `visitor-${(n * BATCH + i) % 20_000}`,
        messageId: randomUUID(),
        timestamp: new Date(),
        properties: { plan: ['free', 'pro'][i % 2], total: i, url: 'https://example.com/some/page', sender: number },
        context: { library: { name: 'bench', version: '1' } },
      }));
      const answer = await fetch(`${API_URL}/api/v1/ingest/batch`, {
        method: 'POST',
        headers,
        body: JSON.stringify({ batch, sentAt: new Date() }),
      });
      assert.equal(answer.status, 200, await answer.text());
      sent += BATCH;
    }
  };
  const started = Date.now();
  await Promise.all(Array.from({ length: SENDERS }, (_, number) => sender(number)));
  const seconds = (Date.now() - started) / 1000;
  const { n } = await one(`select count(*)::int as n from public.events where name like 'Bench %'`);
  assert.equal(n, sent, 'what was answered is stored');
  return sent / seconds;
}

/** A tenth of the events are those of a funnel; the others have one name. 30 days, 100,000 persons. */
async function fill(org) {
  await admin.query(`set session_replication_role = replica`); // no foreign keys: these rows are not what is measured
  for (let from = 0; from < EVENTS; from += 1_000_000) {
    await admin.query(
      `insert into public.events (org_id, type, name, person_id, user_id, message_id, properties, "timestamp", created_at)
      select $1, 'track', case when n % 10 = 0 then 'Step ' || 1 + (hashint8(n) & 3) + (hashint8(n + 7) & 1) else 'Viewed' end,
        lpad(to_hex(p.person), 32, '0')::uuid, 'p' || p.person, 'm' || n, jsonb_build_object('plan', n % 3),
        a.at, greatest(a.at, now() - interval '1 hour')
      from generate_series($2::bigint, $3::bigint) as n
      cross join lateral (select abs(hashint8(n * 31)) % 100000 as person) as p
      cross join lateral (select date_trunc('second', now()) - (abs(hashint8extended(n, 3)) % 2592000) * interval '1 second' as at) as a`,
      [org, from, Math.min(from + 999_999, EVENTS - 1)],
    );
  }
  await admin.query('set session_replication_role = origin');
  await admin.query('vacuum analyze public.events');
  await admin.query(
    `insert into private.analytics_changes (organization, name, hour)
    select distinct org_id, name, date_trunc('hour', "timestamp", 'UTC') from public.events where org_id = $1`,
    [org],
  );
  const started = Date.now();
  while ((await one('select private.analytics_roll_changes(500) as n')).n > 0);
  return (Date.now() - started) / 1000;
}

/** Milliseconds of a query that is not cached, over HTTP. */
async function asked(client, name, query) {
  const times = [];
  let answer;
  for (let round = 0; round < ROUNDS; round += 1) {
    await admin.query('truncate private.analytics_answers');
    const started = performance.now();
    const { data, error } = await client.rpc(name, { query });
    times.push(performance.now() - started);
    if (error) throw error;
    assert.equal(data.cached, false);
    answer = data;
  }
  return [median(times), answer];
}

/** The events of the funnel as a file that ClickHouse reads: person, microseconds, step. */
async function exported(org, from, until) {
  const folder = await mkdtemp(join(tmpdir(), 'kijko-bench-'));
  const file = createWriteStream(join(folder, 'events.csv'));
  const { rows } = await admin.query(
    `select user_id || ',' || (extract(epoch from "timestamp") * 1000000)::bigint || ',' || right(name, 1) as line
    from public.events where org_id = $1 and name like 'Step %' and "timestamp" >= $2 and "timestamp" < $3`,
    [org, from, until],
  );
  for (const { line } of rows) file.write(`${line}\n`);
  await new Promise((resolve) => file.end(resolve));
  return folder;
}

const bench = await prepare();
const rate = await ingest(bench);
console.log(`ingested: ${Math.round(rate)} events/s in batches of ${BATCH} by ${SENDERS} senders, over HTTP`);
const rolled = await fill(bench.org);
console.log(`rollups of ${EVENTS} events: ${rolled.toFixed(1)} s`);

const hour = 3_600_000;
const until = new Date(Math.floor(Date.now() / hour) * hour).toISOString();
const from = new Date(Date.parse(until) - 29 * 24 * hour).toISOString();
for (const measure of ['count', 'persons']) {
  const [ms, answer] = await asked(bench.client, 'analytics_series', { event: 'Viewed', measure, from, until });
  assert.equal(answer.source, 'rollups');
  console.log(`series of ${measure}: ${ms.toFixed(1)} ms, total ${answer.series[0].total}`);
}
const funnel = { steps: STEPS.map((event) => ({ event })), window_seconds: 7 * 86_400, from, until };
const [funnelMs, { funnels }] = await asked(bench.client, 'analytics_funnel', funnel);
const depths = funnels[0].steps.map(({ persons }) => persons);
console.log(`funnel of five steps: ${funnelMs.toFixed(0)} ms, ${depths}`);
const [, strict] = await asked(bench.client, 'analytics_funnel', { ...funnel, strict_increase: true });
const retention = { start: { event: STEPS[0] }, return: { event: STEPS[1] }, from, until, interval: 'day' };
const [retentionMs, { cohorts }] = await asked(bench.client, 'analytics_retention', retention);
console.log(`retention of 30 days: ${retentionMs.toFixed(0)} ms`);

if (KIJKO_BENCH_CHDB) {
  const folder = await exported(bench.org, from, until);
  const script = new URL('analytics_clickhouse.py', import.meta.url).pathname;
  const { stdout } = await run(KIJKO_BENCH_CHDB, [script, join(folder, 'events.csv')], { maxBuffer: 1 << 26 });
  await rm(folder, { recursive: true });
  const theirs = JSON.parse(stdout);
  assert.deepEqual(depths, theirs.funnel);
  assert.deepEqual(
    strict.funnels[0].steps.map(({ persons }) => persons),
    theirs.strict,
  );
  assert.deepEqual(cohorts.flatMap(({ returned }) => returned).filter(Boolean), theirs.retention);
  console.log(`as ClickHouse says: funnel ${theirs.funnel}, strict ${theirs.strict}, ${theirs.retention.length} figures of retention`);
}
await admin.end();
