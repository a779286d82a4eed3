// A counter that is not in shared memory, after a restart or an eviction, is summed up from the tables. How long that takes
// while the ledger grows, and by how much of it is not rolled up yet.
//   KIJKO_BENCH_LEDGER=1,10,30   sizes in millions of rows; 100 bytes a row, and as much for the index
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../../crash/limits/cluster.mjs';
import { median } from './load.mjs';

const SIZES = (process.env.KIJKO_BENCH_LEDGER ?? '1,3').split(',').map((millions) => Number(millions) * 1_000_000);
const TAILS = [0, 1_000, 10_000, 100_000];
const AN_HOUR = 1_000_000; // rows in a partition
const SUBJECTS = 1_000;
// Nothing that is measured waits for the disk, and the bulk needs no log.
const SETTINGS = { shared_buffers: "'1GB'", wal_level: 'minimal', max_wal_senders: 0, fsync: 'off', max_wal_size: "'8GB'" };

const subject = (n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

export async function reload() {
  const cluster = await Cluster.start(SETTINGS);
  try {
    let client = await prepare(cluster);
    console.log(
      '| rows of the ledger | partitions | rollup, rows a second | reload, ms | first use after a restart, ms | sum of the rows, ms |',
    );
    console.log('| --- | --- | --- | --- | --- | --- |');
    let hours = 0;
    for (const size of SIZES) {
      const perSecond = await grow(client, hours, size / AN_HOUR);
      hours = size / AN_HOUR;
      const again = await timeReload(client);
      await client.end();
      await cluster.restart();
      const first = await timeFirstUses(cluster);
      client = await cluster.connect();
      const sum = await timeSum(client);
      const {
        rows: [{ attached }],
      } = await client.query('select count(*)::int as attached from kijko.ledger_partitions');
      console.log(
        `| ${size.toLocaleString('en')} | ${attached} | ${Math.round(perSecond).toLocaleString('en')} | ${again.toFixed(2)} | ${first.toFixed(2)} | ${sum.toFixed(2)} |`,
      );
    }
    console.log('\n| rows of the counter that are not rolled up | reload, ms |\n| --- | --- |');
    let tail = 0;
    for (const rows of TAILS) {
      await fillTail(client, rows - tail);
      tail = rows;
      console.log(`| ${rows.toLocaleString('en')} | ${(await timeReload(client, subject(SUBJECTS + 1))).toFixed(2)} |`);
    }
    await client.end();
  } finally {
    await cluster.stop();
  }
}

// The hours to come, and a short tail: ten rows of each subject in this hour.
async function prepare(cluster) {
  const client = await cluster.connect();
  await client.query('set synchronous_commit = off');
  const {
    rows: [{ start }],
  } = await client.query("select date_trunc('hour', clock_timestamp())::text as start");
  await client.query("select kijko.make_ledger_partition($1::timestamptz - interval '1 hour', $1)", [start]);
  await client.query('select kijko.make_ledger_partitions()');
  await client.query(
    "insert into kijko.ledger select gen_random_uuid(), s::uuid, 'calls', '-infinity', 1, 0, 'use', now(), now() from unnest($1::text[]) as s, generate_series(1, 10)",
    [Array.from({ length: SUBJECTS }, (_, n) => subject(n))],
  );
  await client.query('select kijko.rollup_usage()');
  for (let n = 0; n < SUBJECTS; n += 100) await client.query("select kijko.set_limit($1, 'calls', 'lifetime', 1000000000)", [subject(n)]);
  return client;
}

// Hours further back, each a partition that is then rolled up; rows rolled up a second.
async function grow(client, from, until) {
  let rolling = 0;
  for (let hour = from; hour < until; hour++) {
    await client.query('begin'); // made and filled by one transaction, a table needs no log
    const {
      rows: [{ start }],
    } = await client.query("select (min(p.starts_at) - interval '1 hour')::text as start from kijko.ledger_partitions as p");
    await client.query("select kijko.make_ledger_partition($1::timestamptz, $1::timestamptz + interval '1 hour')", [start]);
    const {
      rows: [{ partition }],
    } = await client.query('select p.partition from kijko.ledger_partitions as p where p.starts_at = $1', [start]);
    await client.query(
      `insert into ${partition}
       select gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad((n % ${SUBJECTS})::text, 12, '0'))::uuid, 'calls', '-infinity', 1, 0, 'use', $1, $1
       from generate_series(1, ${AN_HOUR}) as n`,
      [start],
    );
    await client.query('commit');
    const began = performance.now();
    await client.query('select kijko.rollup_usage()');
    rolling += performance.now() - began;
  }
  await client.query('checkpoint');
  return ((until - from) * AN_HOUR) / (rolling / 1_000);
}

async function timeReload(client, whose = subject(100)) {
  const times = [];
  for (let n = 0; n < 100; n++) {
    await client.query('select kijko.reload_counters($1)', [whose]);
    times.push(await timeUse(client, whose));
  }
  return median(times);
}

// Each by a backend that has never used the extension.
async function timeFirstUses(cluster) {
  const times = [];
  for (let n = 0; n < SUBJECTS; n += 100) {
    const client = await cluster.connect();
    times.push(await timeUse(client, subject(n)));
    await client.end();
    await sleep(20);
  }
  return median(times);
}

async function timeUse(client, whose) {
  const began = performance.now();
  await client.query("select (kijko.consume($1, 'calls')).allowed", [whose]);
  return performance.now() - began;
}

// What a load would be without the rollup.
async function timeSum(client) {
  const began = performance.now();
  await client.query("select sum(amount) from kijko.ledger where subject = $1 and meter = 'calls' and period_start = '-infinity'", [
    subject(100),
  ]);
  return performance.now() - began;
}

async function fillTail(client, rows) {
  await client.query("select kijko.set_limit($1, 'calls', 'lifetime', 1000000000)", [subject(SUBJECTS + 1)]);
  await client.query(
    "insert into kijko.ledger select gen_random_uuid(), $1, 'calls', '-infinity', 1, 0, 'use', now(), now() from generate_series(1, $2)",
    [subject(SUBJECTS + 1), rows],
  );
}
