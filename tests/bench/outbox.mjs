// The outbox beside pg-boss and graphile-worker, whose workers deliver the same requests with undici: requests a second to a
// receiver on this machine, and the time from commit to arrival, on 1 and 100 hosts. The outbox also with a million requests
// that wait for a dead host. Rounds are interleaved; medians.
//
//   ./kijko bench outbox         KIJKO_BENCH_REQUESTS=10000 (of the throughput)   KIJKO_BENCH_RATE=200 (a second, of the latency)
//                                KIJKO_BENCH_SECONDS=10   KIJKO_BENCH_ROUNDS=3    KIJKO_BENCH_BACKLOG=1000000
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { admin, Graphile, Outbox, PgBoss } from './outbox/senders.mjs';

const number = (name, fallback) => Number(process.env[name] ?? fallback);
const REQUESTS = number('KIJKO_BENCH_REQUESTS', 10_000);
const RATE = number('KIJKO_BENCH_RATE', 200);
const SECONDS = number('KIJKO_BENCH_SECONDS', 10);
const ROUNDS = number('KIJKO_BENCH_ROUNDS', 3);
const BACKLOG = number('KIJKO_BENCH_BACKLOG', 1_000_000);
const BATCH = 500;
const DEAD = 'http://localhost:9';

const now = () => performance.timeOrigin + performance.now();
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const percentile = (sorted, p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];

async function receivers(hosts) {
  const child = fork(new URL('outbox/receiver.mjs', import.meta.url), [`${hosts}`]);
  const [{ ports }] = await once(child, 'message');
  const urls = ports.map((port) => `http://localhost:${port}/`);
  return {
    url: (n) => urls[n % urls.length],
    arrivals: async (expected) => {
      const came = once(child, 'message');
      child.send({ expected });
      return (await came)[0].arrivals;
    },
    stop: () => child.kill(),
  };
}

async function throughput(sender, receiver) {
  await sender.start('throughput');
  const started = now();
  const all = receiver.arrivals(REQUESTS);
  for (let n = 0; n < REQUESTS; n += BATCH)
    await sender.fill(Array.from({ length: Math.min(BATCH, REQUESTS - n) }, (_, i) => ({ n: n + i, url: receiver.url(n + i) })));
  const last = Math.max(...(await all).map(([, at]) => at));
  await sleep(500); // until the last ones are recorded
  await sender.stop();
  return REQUESTS / ((last - started) / 1000);
}

async function latency(sender, receiver) {
  await sender.start('latency');
  await sleep(500);
  const count = RATE * SECONDS;
  const committed = new Array(count);
  const started = now();
  const sent = [];
  for (let n = 0; n < count; n += 1) {
    const due = started + (n * 1000) / RATE;
    if (due > now()) await sleep(due - now());
    sent.push(
      sender.enqueue({ n, url: receiver.url(n) }).then(() => {
        committed[n] = now();
      }),
    );
  }
  await Promise.all(sent);
  const arrivals = await receiver.arrivals(count);
  await sleep(500);
  await sender.stop();
  // A request can arrive before the answer to its commit does.
  return arrivals.map(([n, at]) => Math.max(at - committed[n], 0)).toSorted((a, b) => a - b);
}

async function measure(name, sender, hosts, results) {
  const receiver = await receivers(hosts);
  const rate = await throughput(sender, receiver);
  const times = await latency(sender, receiver);
  receiver.stop();
  const key = `${name}, ${hosts} host${hosts > 1 ? 's' : ''}`;
  results[key] ??= { rate: [], p50: [], p99: [] };
  results[key].rate.push(rate);
  results[key].p50.push(percentile(times, 0.5));
  results[key].p99.push(percentile(times, 0.99));
}

await admin.query(`alter system set kijko.http_allowed_hosts = 'localhost'`);
await admin.query('select pg_reload_conf()');
await sleep(1_000);

const results = {};
for (let round = 0; round < ROUNDS; round += 1)
  for (const hosts of [1, 100])
    for (const sender of [new Outbox(), new PgBoss(), new Graphile()]) await measure(sender.name, sender, hosts, results);

console.error(`queueing ${BACKLOG} requests for a dead host`);
for (let n = 0; n < BACKLOG; n += 50_000)
  await admin.query(`select count(kijko.http_enqueue('POST', $1, body => '{}', org_id => $2)) from generate_series(1, $3::int)`, [
    DEAD,
    '0b000000-0000-4000-8000-00000000dead',
    Math.min(50_000, BACKLOG - n),
  ]);
await admin.query('vacuum analyze kijko.http_requests');
for (let round = 0; round < ROUNDS; round += 1)
  for (const hosts of [1, 100]) await measure(`kijko, ${BACKLOG.toLocaleString('en')} queued`, new Outbox(), hosts, results);

console.table(
  Object.fromEntries(
    Object.entries(results).map(([key, { rate, p50, p99 }]) => [
      key,
      { 'requests/s': Math.round(median(rate)), 'p50 ms': Number(median(p50).toFixed(1)), 'p99 ms': Number(median(p99).toFixed(1)) },
    ]),
  ),
);
const ratio = (a, b, what) => (median(results[a][what]) / median(results[b][what])).toFixed(2);
for (const hosts of ['1 host', '100 hosts']) {
  for (const rival of ['pg-boss', 'graphile-worker'])
    console.log(
      `${hosts}: kijko of ${rival}: requests/s ${ratio(`kijko, ${hosts}`, `${rival}, ${hosts}`, 'rate')}, p50 ${ratio(`kijko, ${hosts}`, `${rival}, ${hosts}`, 'p50')}`,
    );
  const loaded = `kijko, ${BACKLOG.toLocaleString('en')} queued, ${hosts}`;
  console.log(
    `${hosts}: with ${BACKLOG} queued of without: requests/s ${ratio(loaded, `kijko, ${hosts}`, 'rate')}, p50 ${ratio(loaded, `kijko, ${hosts}`, 'p50')}`,
  );
}
await admin.end();
