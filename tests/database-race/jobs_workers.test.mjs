// Many workers on one queue at once: each job is claimed once and ended once, and no worker waits for another.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { atOnce, newTenant, one, pool, queueJobs } from './support.mjs';

test('twelve workers claim every job, and none of them twice', async () => {
  const JOBS = 300;
  const { org } = await newTenant();
  const kind = `race_${randomUUID().slice(0, 8)}`;
  await queueJobs('select private.jobs_enqueue($1, $2) from generate_series(1, $3::int)', [org, kind, JOBS]);

  // A claim may find nothing while others hold what it looks at: a worker looks again. A commit that takes a quarter of a second
  // leaves its jobs behind the watermark, where each minute's maintenance finds them at the latest.
  const claimed = [];
  const claimAll = async (worker) => {
    // A lease that does not end before the last job is found.
    const { rows } = await pool.query(`select id from private.jobs_claim($1, '1 hour', 7, array[$2])`, [worker, kind]);
    claimed.push(...rows.map((r) => r.id));
    const { queued } = await one(`select count(*)::int as queued from public.jobs where kind = $1 and status = 'queued'`, [kind]);
    return queued === 0;
  };
  await atOnce(12, (n) => until('the queue to be empty', () => claimAll(`worker ${n}`)));
  assert.equal(claimed.length, JOBS);
  assert.equal(new Set(claimed).size, JOBS);
});

test('eight workers at a concurrency limit of three finish all jobs and never run more than three', async () => {
  const JOBS = 60;
  const { org } = await newTenant();
  const kind = `race_${randomUUID().slice(0, 8)}`;
  await pool.query('select private.jobs_set_limit($1, $2, 3)', [org, 'key']);
  const jobs = Array.from({ length: JOBS }, () => ({ org_id: org, kind, concurrency_key: 'key' }));
  await queueJobs('select private.jobs_enqueue_many($1)', [JSON.stringify(jobs)]);

  let done = 0;
  let most = 0;
  await atOnce(8, async (n) => {
    while (done < JOBS) {
      const { rows } = await pool.query(`select id, attempt from private.jobs_claim($1, '1 minute', 5, array[$2])`, [`worker ${n}`, kind]);
      const { running } = await one(`select count(*)::int as running from public.jobs where kind = $1 and status = 'running'`, [kind]);
      most = Math.max(most, running);
      if (rows.length === 0) continue;
      const { rows: ended } = await pool.query('select status from private.jobs_complete($1, $2)', [`worker ${n}`, JSON.stringify(rows)]);
      assert.deepEqual(
        ended.map((e) => e.status),
        rows.map(() => 'succeeded'),
      );
      done += rows.length;
    }
  });
  assert.equal(done, JOBS);
  assert.ok(most >= 1 && most <= 3, `${most} ran at once`);
});

test('workers that end the same batches in opposite orders do not deadlock', async () => {
  const { org } = await newTenant();
  const kind = `race_${randomUUID().slice(0, 8)}`;
  await queueJobs('select private.jobs_enqueue_many($1)', [JSON.stringify(Array.from({ length: 200 }, () => ({ org_id: org, kind })))]);
  const { rows } = await pool.query(`select id, attempt from private.jobs_claim('batcher', '1 minute', 200, array[$1])`, [kind]);
  const answers = await atOnce(
    6,
    async (n) =>
      (await pool.query(`select status from private.jobs_complete('batcher', $1)`, [JSON.stringify(n % 2 ? rows : rows.toReversed())]))
        .rows,
  );
  // A call that met a row of another one for too long says "running": its worker would report again.
  const ends = answers.flat().filter(({ status }) => status !== 'running');
  assert.ok(ends.every(({ status }) => status === 'succeeded'));
  assert.equal(ends.length, 200, 'each job is ended by one of them');
});

test('a job whose row is locked must be reported again: it ends if only its lease moved, and not if another worker has it', async () => {
  const { org } = await newTenant();
  const kind = 'race_changed';
  for (const [change, ended] of [
    [`update public.jobs set locked_until = locked_until + interval '1 minute' where id = $1`, ['succeeded']],
    [`update public.jobs set cancel_requested = true where id = $1`, ['cancelled']],
    [`update public.jobs set locked_by = 'other' where id = $1`, []],
  ]) {
    await queueJobs('select private.jobs_enqueue($1, $2)', [org, kind]);
    const { id } = await one(`select id from private.jobs_claim('w', '1 minute', 1, array[$1])`, [kind]);
    const end = async () =>
      (await pool.query(`select status from private.jobs_complete('w', $1)`, [JSON.stringify([{ id, attempt: 1 }])])).rows.map(
        (row) => row.status,
      );
    const session = await pool.connect();
    await session.query('begin');
    await session.query(change, [id]);
    assert.deepEqual(await end(), ['running'], change);
    await session.query('commit');
    session.release();
    assert.deepEqual(await end(), ended, change);
  }
});

test('a claim that finds nothing does not wait for a session that runs maintenance', async () => {
  const [keeper, worker] = await Promise.all([pool.connect(), pool.connect()]);
  try {
    await keeper.query('begin');
    await keeper.query('select private.jobs_run_maintenance()');
    await worker.query(`set statement_timeout = '1min'`);
    // It is time again while the other is still at it.
    await pool.query(`select setval('private.jobs_maintenance_at', 0)`);
    const { rows } = await worker.query(`select id from private.jobs_claim('w', '1 minute', 1, array['race_nothing'])`);
    assert.deepEqual(rows, []);
  } finally {
    await keeper.query('rollback');
    keeper.release();
    worker.release(true);
  }
});

test('a claim that finds nothing does not wait for a flush to disk; one that finds a job does, and so does what a caller has written', async () => {
  const { org } = await newTenant();
  const kind = `race_${randomUUID().slice(0, 8)}`;
  const session = await pool.connect();
  const commits = async () => (await session.query('show synchronous_commit')).rows[0].synchronous_commit;
  const claim = async () =>
    (await session.query(`select id from private.jobs_claim('worker', '1 minute', 1, array[$1])`, [kind])).rows.length;
  const transaction = async (work) => {
    await session.query('begin');
    try {
      return await work();
    } finally {
      await session.query('rollback');
    }
  };
  try {
    assert.deepEqual(await transaction(async () => [await claim(), await commits()]), [0, 'off']);
    assert.equal(await commits(), 'on');
    const written = await transaction(async () => {
      await session.query('select pg_current_xact_id()');
      return [await claim(), await commits()];
    });
    assert.deepEqual(written, [0, 'on']);
    await queueJobs('select private.jobs_enqueue($1, $2)', [org, kind]);
    assert.deepEqual(await transaction(async () => [await claim(), await commits()]), [1, 'on']);
  } finally {
    session.release();
  }
});
