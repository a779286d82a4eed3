// The queue while other sessions lock its rows: which calls wait for them, and which must not.
//   ADMIN_DB_URL=… node --test tests/database-race/*.test.mjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { atOnce, newTenant, one, pool, promptly, queueJobs, untilWaiting, whileOpen } from './support.mjs';

const newKind = () => `race_${randomUUID().slice(0, 8)}`;
const enqueue = async (org, kind, n = 1, more = {}) =>
  (
    await queueJobs('select id from private.jobs_enqueue_many($1) order by n', [
      JSON.stringify(Array.from({ length: n }, () => ({ org_id: org, kind, ...more }))),
    ])
  ).map((row) => row.id);
const claim = (kind, max = 1, worker = 'racer', lease = '1 minute') =>
  promptly('select * from private.jobs_claim($1, $2, $3, array[$4])', [worker, lease, max, kind]);
// Ended in the past, so the watermark of the leases moves there too.
const expire = async (ids) => {
  await pool.query(`update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = any ($1)`, [ids]);
  await pool.query(`select setval('private.jobs_lease_watermark', 0)`);
};
const status = async (id) => (await one('select status from public.jobs where id = $1', [id])).status;

/** Makes a claim run maintenance, whenever it last ran. It does not if another session is running it. */
async function runMaintenance() {
  await pool.query(`select setval('private.jobs_maintenance_at', 0)`);
  assert.deepEqual(await claim('race_nothing'), []);
}

/** Until the job is taken back. A worker or a schedule of the stack can be doing the same at this moment, and then this call does nothing. */
const requeued = (id, maintain) =>
  until(`job ${id} to be requeued`, async () => {
    await maintain();
    return (await status(id)) !== 'running';
  });

/** An execution that runs under a lease of this worker; claimed in the transaction that queues it, so that no worker of the running stack takes it. */
async function runningExecution({ skill }, worker, maxAttempts = 5) {
  const session = await pool.connect();
  await session.query('begin');
  const {
    rows: [{ id, job_id: job }],
  } = await session.query(`select e.* from public.skills as s, private.executions_queue(s, '{}', 'manual') as e where s.id = $1`, [skill]);
  await session.query(
    `update public.jobs set status = 'running', attempt = 1, max_attempts = $3, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute' where id = $1`,
    [job, worker, maxAttempts],
  );
  await session.query('select private.executions_start($1, $2)', [worker, job]);
  await session.query('commit');
  session.release();
  return { id, job };
}

// ---- a locked row is skipped, and not forgotten

test('a job whose lease expires while its row is locked is requeued once the lock is released', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const [id] = await enqueue(org, kind);
  await claim(kind);
  await expire([id]);
  await whileOpen('select 1 from public.jobs where id = $1 for update', [id], async () => {
    await runMaintenance();
    assert.equal(await status(id), 'running', 'it is held');
  });
  await requeued(id, runMaintenance);
});

test('the maintenance that pg_cron runs requeues an expired job that every claim skipped', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const [id] = await enqueue(org, kind);
  await claim(kind);
  await expire([id]);
  // As if its transaction had committed late.
  await pool.query(
    `select setval('private.jobs_lease_watermark', private.jobs_to_watermark(clock_timestamp())), setval('private.jobs_full_scan_at', private.jobs_to_watermark(clock_timestamp() + interval '1 minute'))`,
  );
  const { command } = await one(`select command from cron.job where jobname = 'kijko-jobs-maintenance'`);
  await requeued(id, () => pool.query(command));
});

test('a locked execution stops no claim; only its own expired job waits for it', async () => {
  const tenant = await newTenant();
  const held = await runningExecution(tenant, 'gone');
  const free = await runningExecution(tenant, 'gone');
  const kind = newKind();
  const [other] = await enqueue(tenant.org, kind);
  await expire([held.job, free.job]);
  await whileOpen('select 1 from public.executions where id = $1 for update', [held.id], async () => {
    await pool.query(`select setval('private.jobs_maintenance_at', 0)`);
    assert.deepEqual(
      (await claim(kind)).map((job) => job.id),
      [other],
    );
    await requeued(free.job, () => promptly('select private.jobs_requeue_expired()'));
    assert.equal(await status(held.job), 'running', 'only that one waits');
  });
  await requeued(held.job, runMaintenance);
});

test('a claim skips rows that other claims hold, and takes the longest due of its lane and the first of other lanes', async () => {
  const [large, small] = [await newTenant(), await newTenant()];
  const kind = newKind();
  const mine = await enqueue(large.org, kind, 4);
  const [theirs] = await enqueue(small.org, kind);
  await whileOpen('select id from public.jobs where id = any ($1) for update', [[mine[0], theirs]], async () => {
    assert.deepEqual(
      (await claim(kind)).map((job) => job.id),
      [mine[1]],
    );
    assert.deepEqual(
      (await claim(kind)).map((job) => job.id),
      [mine[2]],
    );
  });
  assert.deepEqual(new Set((await claim(kind, 5)).map((job) => job.id)), new Set([mine[0], mine[3], theirs]));
});

test('two open claims share the work without waiting', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const ids = await enqueue(org, kind, 6);
  await whileOpen(`select id from private.jobs_claim('first', '1 minute', 4, array[$1])`, [kind], async (first, session) => {
    const second = await claim(kind, 4);
    assert.deepEqual([first.length, second.length], [4, 2]);
    assert.deepEqual(new Set([...first, ...second].map((job) => job.id)), new Set(ids));
    await session.query('commit');
  });
});

test('a claim gets no job of a concurrency key limited to one while another claim of it is open, and does not wait', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  // More than the first claim looks at.
  await enqueue(org, kind, 10, { concurrency_key: 'key' });
  await whileOpen(`select id from private.jobs_claim('first', '1 minute', 1, array[$1])`, [kind], async (first, session) => {
    assert.equal(first.length, 1);
    assert.deepEqual(await claim(kind, 5), [], 'the first is not committed, and counts all the same');
    await session.query('commit');
    assert.deepEqual(await claim(kind, 5), []);
  });
});

test('the purge skips a locked row', async () => {
  const { org } = await newTenant();
  const made = await pool.query(
    `insert into public.jobs (id, org_id, kind, status, finished_at)
     select private.jobs_new_id(now() - interval '40 days', n), $1, 'race_old', 'dead', now() - interval '35 days' from generate_series(1, 2) as n returning id`,
    [org],
  );
  const [held, free] = made.rows.map((row) => row.id);
  await whileOpen('select 1 from public.jobs where id = $1 for update', [held], () => promptly('select private.jobs_purge()'));
  const { rows } = await pool.query('select id from public.jobs where id = any ($1)', [[held, free]]);
  assert.deepEqual(
    rows.map((row) => row.id),
    [held],
  );
});

test('a lane that is being opened blocks neither enqueueing, claiming nor maintenance', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const sql = 'select id from private.jobs_enqueue_many($1)';
  const job = JSON.stringify([{ org_id: org, kind }]);
  await whileOpen(sql, [job], async () => {
    const [{ id }] = await promptly(sql, [job]);
    await promptly('select private.jobs_maintain_lanes()');
    assert.deepEqual(
      (await claim(kind, 5)).map((claimed) => claimed.id),
      [id],
    );
    assert.equal(
      (await promptly(`select private.jobs_fail('racer', $1, 'x', 'y', true) as status`, [id]))[0].status,
      'queued',
      'which opens the lane again',
    );
  });
});

// ---- heartbeats and ends of batches: one held row costs the others nothing

test('a heartbeat extends the leases it can, and does not report a locked job as lost', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const [held, cancelled, plain] = await enqueue(org, kind, 3);
  await claim(kind, 3);
  await pool.query('select private.jobs_cancel($1)', [cancelled]);
  const gone = randomUUID();
  const before = await one('select min(locked_until) as until from public.jobs where kind = $1', [kind]);
  await whileOpen('select 1 from public.jobs where id = $1 for update', [held], async () => {
    const answer = await promptly(`select * from private.jobs_heartbeat('racer', $1, '5 minutes')`, [[held, cancelled, plain, gone]]);
    const of = (id) => answer.find((row) => row.id === id);
    assert.deepEqual(of(held), { id: held, cancel_requested: false, extended: false });
    assert.deepEqual(of(cancelled), { id: cancelled, cancel_requested: true, extended: true });
    assert.deepEqual(of(plain), { id: plain, cancel_requested: false, extended: true });
    assert.equal(of(gone), undefined);
  });
  const { rows } = await pool.query(
    "select id from public.jobs where kind = $1 and locked_until > $2::timestamptz + interval '3 minutes'",
    [kind, before.until],
  );
  assert.deepEqual(new Set(rows.map((row) => row.id)), new Set([cancelled, plain]));
});

test('a batch ends every job except the locked one, which the worker must report again', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const ids = await enqueue(org, kind, 3);
  await claim(kind, 3);
  const results = JSON.stringify(ids.map((id) => ({ id, attempt: 1 })));
  const complete = async () =>
    new Map((await promptly(`select id, status from private.jobs_complete('racer', $1)`, [results])).map((row) => [row.id, row.status]));
  await whileOpen('select 1 from public.jobs where id = $1 for update', [ids[1]], async () => {
    assert.deepEqual(
      await complete(),
      new Map([
        [ids[0], 'succeeded'],
        [ids[1], 'running'],
        [ids[2], 'succeeded'],
      ]),
    );
  });
  assert.deepEqual(await complete(), new Map([[ids[1], 'succeeded']]));
});

// ---- what must wait

test('a worker that ends a job waits for another one that is ending it, and then changes nothing', async () => {
  const { org } = await newTenant();
  for (const [call, answer] of [
    [`select private.jobs_fail('racer', $1, 'x', 'y', false) as answer`, null],
    [`select private.jobs_add_event('racer', $1, 'late') as answer`, false],
    [`select private.jobs_release('racer', array[$1]::uuid[]) as answer`, 0],
    [`select private.executions_start('racer', $1) as answer`, null],
  ]) {
    const kind = newKind();
    const [id] = await enqueue(org, kind);
    await claim(kind);
    const waiter = await pool.connect();
    try {
      await whileOpen(`select private.jobs_fail('racer', $1, 'first', 'first', false)`, [id], async (_, session) => {
        const answered = waiter.query(call, [id]);
        await untilWaiting(waiter, session);
        await session.query('commit');
        assert.equal((await answered).rows[0].answer, answer, call);
      });
    } finally {
      waiter.release(true);
    }
    const job = await one(
      `select status, error_code, (select count(*)::int from public.job_events where job_id = $1) as events from public.jobs where id = $1`,
      [id],
    );
    assert.deepEqual(job, { status: 'dead', error_code: 'first', events: 3 }, call);
  }
});

test('enqueueing a unique key waits for a transaction that enqueues the same key: one job results', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const sql = `select private.jobs_enqueue($1, $2, unique_key => 'once') as id`;
  for (const [end, second] of [
    ['commit', null],
    ['rollback', 'a job'],
  ]) {
    const waiter = await pool.connect();
    try {
      await whileOpen(sql, [org, kind + end], async (_, session) => {
        const answered = waiter.query(sql, [org, kind + end]);
        await untilWaiting(waiter, session);
        await session.query(end);
        assert.equal((await answered).rows[0].id && 'a job', second);
      });
    } finally {
      waiter.release(true);
    }
  }
});

// ---- waking

test('workers are notified when a concurrency limit has room again, however it was freed', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const heard = [];
  const listener = await pool.connect();
  listener.on('notification', ({ payload }) => heard.push(payload));
  try {
    const [ended, failed, retried, cancelled, lost] = await enqueue(org, kind, 5, { concurrency_key: 'key' });
    await pool.query(`select private.jobs_set_limit($1, 'key', 5)`, [org]);
    assert.equal((await claim(kind, 5)).length, 5);
    await listener.query('listen kijko_jobs');
    const hears = async (what, payload, sql, values) => {
      await listener.query('select 1');
      heard.length = 0;
      await pool.query(sql, values);
      await listener.query('select 1');
      assert.ok(heard.includes(payload), what);
    };
    await hears('it ended', kind, `select private.jobs_complete('racer', $1)`, [JSON.stringify([{ id: ended }])]);
    await hears('it failed', kind, `select private.jobs_fail('racer', $1, 'x', 'y', false)`, [failed]);
    await hears('it waits for its next attempt', kind, `select private.jobs_fail('racer', $1, 'x', 'y', true)`, [retried]);
    await pool.query('select private.jobs_cancel($1)', [cancelled]);
    await hears('it was cancelled', kind, `select private.jobs_complete('racer', $1)`, [JSON.stringify([{ id: cancelled }])]);
    await expire([lost]);
    await hears('its lease ended', kind, 'select private.jobs_requeue_expired()');
    await hears('the limit was raised', '', `select private.jobs_set_limit($1, 'key', 6)`, [org]);
    await hears('the limit was taken away', '', `select private.jobs_set_limit($1, 'key', null)`, [org]);
  } finally {
    listener.release(true);
  }
});

test('a transaction leaves the notification to another that is committing one, but not for long', async () => {
  const { org } = await newTenant();
  const kind = newKind();
  const heard = [];
  const listener = await pool.connect();
  listener.on('notification', ({ payload }) => heard.push(payload));
  try {
    await listener.query('listen kijko_jobs');
    /** Whether a job that is queued so long after the latest notification notifies. */
    const notifies = async (ago) => {
      heard.length = 0;
      await promptly(
        `select setval('private.jobs_found_at', private.jobs_to_found_watermark($1, clock_timestamp() - $2::interval)), private.jobs_enqueue($3, $1)`,
        [kind, ago, org],
      );
      await listener.query('select 1');
      return heard.includes(kind);
    };
    await whileOpen(`select pg_advisory_xact_lock(hashtextextended('kijko-jobs-notify:' || $1, 20261121))`, [kind], async () => {
      // Workers of the running stack may set the same watermark in between: one of five is enough.
      const five = [];
      for (let n = 0; n < 5; n += 1) five.push(await notifies('20 milliseconds'));
      assert.ok(five.includes(false), 'while the other commits');
      assert.ok(await notifies('1 second'), 'after a second');
    });
    assert.ok(await notifies('20 milliseconds'), 'when no other transaction is committing one');
  } finally {
    listener.release(true);
  }
});

test('a small tenant beside a large one is served within its turn by eight claims of one job each', async () => {
  const [large, small] = [await newTenant(), await newTenant()];
  const kind = newKind();
  await enqueue(large.org, kind, 100);
  const [theirs] = await enqueue(small.org, kind);
  const claimed = await atOnce(8, () => claim(kind));
  // Those at once may take the same turn; a later one does not.
  const after = await claim(kind);
  assert.ok([...claimed.flat(), ...after].some((job) => job.id === theirs));
});
