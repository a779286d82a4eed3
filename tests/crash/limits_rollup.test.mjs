// The rollup is killed in the middle, again and again, while writers commit long after the partition that they wrote to is
// over. Rows stay in their partitions here, so the ledger says what every sum must be.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from './limits/cluster.mjs';
import { isLost } from './limits/lost.mjs';

const KILLS = Number(process.env.KIJKO_ROLLUP_KILLS ?? 24);
const SUBJECTS = Array.from({ length: 5 }, (_, n) => `00000000-0000-4000-8000-0000000000b${n}`);
const ROLLED = ['usage_totals', 'usage_hourly', 'usage_daily'];
const random = (n) => Math.floor(Math.random() * n);

let cluster;
let running = true;
const done = { committed: 0, late: 0, unknown: 0, kills: 0, blocked: 0 };

before(async () => {
  cluster = await Cluster.start({ fsync: 'off' });
  await makePartitions();
});
after(() => cluster.stop());

// Partitions of a second, so that there is always one that has just ended.
const makePartitions = () =>
  cluster.sql("select kijko.make_ledger_partitions('30 s', '1 s')").catch((error) => {
    if (!isLost(error) && error.code !== '55P03') throw error;
  });

async function write() {
  while (running) {
    const client = await cluster.connect();
    try {
      while (running) {
        const uses = 1 + random(3);
        await client.query('begin');
        for (let n = 0; n < uses; n += 1) {
          await client.query('select kijko.consume_many(array[$1::uuid], $2, $3, null, $4)', [
            SUBJECTS[random(5)],
            `m${random(2)}`,
            1 + random(5),
            `{"member": "m${random(3)}"}`,
          ]);
        }
        const late = random(4) === 0;
        if (late) await sleep(1000 + random(1500));
        if (random(5) === 0) {
          await client.query('rollback');
          continue;
        }
        done.unknown += uses;
        await client.query('commit');
        done.unknown -= uses;
        done.committed += uses;
        if (late) done.late += 1;
      }
    } catch (error) {
      if (!isLost(error)) throw error;
    } finally {
      await client.end().catch(() => {});
    }
  }
}

// One run of the rollup that does not get to its end: it is stopped where it has summed up some of the tables and waits for
// the next, or a few milliseconds after it began.
async function killOne(number) {
  const roller = await cluster.connect();
  const blocker = await cluster.connect();
  try {
    const {
      rows: [{ pid }],
    } = await roller.query('select pg_backend_pid() as pid');
    const table = ROLLED[number % 4];
    if (table) await blocker.query(`begin; lock table kijko.${table} in exclusive mode`);
    const run = roller.query('select kijko.rollup_usage(1000) as rolled').then(
      () => 'ended',
      () => 'stopped',
    );
    if (table) {
      if (!(await isBlocked(pid))) return; // nothing to roll up yet, or a writer was in the way
      done.blocked += 1;
    } else {
      await sleep(random(15));
    }
    await [
      () => cluster.sql('select pg_cancel_backend($1)', [pid]),
      () => cluster.sql('select pg_terminate_backend($1)', [pid]),
      () => process.kill(pid, 'SIGKILL'),
    ][random(3)]();
    if ((await run) === 'stopped') done.kills += 1;
  } catch (error) {
    if (!isLost(error) && error.code !== 'ESRCH') throw error;
  } finally {
    await Promise.all([roller, blocker].map((client) => client.end().catch(() => {})));
  }
}

async function isBlocked(pid) {
  for (let tries = 0; tries < 40; tries += 1) {
    const [activity] = await cluster.sql('select state, wait_event_type from pg_stat_activity where pid = $1', [pid]);
    if (activity?.wait_event_type === 'Lock') return true;
    if (activity?.state !== 'active') return false;
    await sleep(10);
  }
  return false;
}

async function killMany() {
  for (let number = 0; done.kills < KILLS; number += 1) {
    await killOne(number);
    await makePartitions();
    // And one that can finish, if no session blocks it.
    if (number % 4 === 3) await cluster.sql('select kijko.rollup_usage(1000)').catch(() => {});
    await sleep(200);
  }
  running = false;
}

test('sums stay exact when a rollup is killed at any point, also with late commits', async () => {
  await Promise.all([killMany(), ...Array.from({ length: 8 }, write)]);
  await sleep(1100);
  // A partition ends each second, so also after the rollup.
  const [{ at }] = await cluster.sql('select now()::text as at');
  await cluster.sql('select kijko.rollup_usage(10000)');

  const [{ rolled, left }] = await cluster.sql(
    'select count(*) filter (where rolled_at is not null)::int as rolled, count(*) filter (where rolled_at is null and ends_at <= $1)::int as left from kijko.ledger_partitions',
    [at],
  );
  assert.ok(rolled > 5, `${rolled} partitions were rolled up`);
  assert.equal(left, 0, 'none was left out');
  assert.ok(done.late > 5, `${done.late} transactions committed late`);
  assert.ok(done.blocked > 5, `${done.blocked} runs were stopped between two tables`);

  // A reported commit is in the ledger; one whose connection was lost may be.
  const [{ rows }] = await cluster.sql('select count(*)::int as rows from kijko.ledger');
  assert.ok(rows >= done.committed && rows <= done.committed + done.unknown, `${done.committed} + ${done.unknown} uses, ${rows} rows`);

  for (const [table, key] of [
    ['usage_totals', `g.period_start::text`],
    ['usage_hourly', `date_trunc('hour', g.occurred_at, 'UTC')::text || g.attributes`],
    ['usage_daily', `(g.occurred_at at time zone 'UTC')::date::text || g.attributes`],
  ]) {
    const column = {
      usage_totals: 't.period_start::text',
      usage_hourly: 't.hour::text || t.attributes',
      usage_daily: 't.day::text || t.attributes',
    }[table];
    const wrong = await cluster.sql(`
      select * from (
        select g.subject, g.meter, ${key} as key, sum(g.amount) as amount, count(*) as entries from kijko.ledger as g
        where g.recorded_at < (select rolled_until from kijko.rollup_state) group by 1, 2, 3
      ) as truth full join (
        select t.subject, t.meter, ${column} as key, t.amount, t.entries from kijko.${table} as t
      ) as reported using (subject, meter, key)
      where (truth.amount, truth.entries) is distinct from (reported.amount::numeric, reported.entries)`);
    assert.deepEqual(wrong, [], table);
  }

  // The counters agree with the ledger, too, before and after they are reloaded.
  for (const subject of SUBJECTS) {
    const sums = await cluster.sql('select meter, sum(amount)::int as used from kijko.ledger where subject = $1 group by 1 order by 1', [
      subject,
    ]);
    const used = () => cluster.sql('select meter, used::int from kijko.usage($1) order by meter', [subject]);
    assert.deepEqual(await used(), sums);
    await cluster.sql('select kijko.reload_counters($1)', [subject]);
    for (const { meter, used: before } of sums) {
      const [verdict] = await cluster.sql('select used::int from kijko.consume($1, $2)', [subject, meter]);
      assert.equal(verdict.used, before + 1);
    }
  }
  console.log(`# ${JSON.stringify({ ...done, rows, rolled })}`);
});
