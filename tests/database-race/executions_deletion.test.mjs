// An organization is deleted while its executions start, end or are requeued: no deadlock, and
// nothing is left behind.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { newTenant, one, pool, untilWaiting } from './support.mjs';

test('deleting an organization while its jobs start, end, fail and are requeued causes no deadlock', async () => {
  const seen = new Set();
  for (let i = 0; i < 30; i++) {
    const { org, skill } = await newTenant();
    const worker = `racer ${randomUUID()}`;
    const session = await pool.connect();
    await session.query('begin');
    const { rows: jobs } = await session.query(
      `select e.job_id as id from public.skills as s, generate_series(1, 8), private.executions_queue(s, '{}', 'manual') as e where s.id = $1`,
      [skill],
    );
    await session.query(
      `update public.jobs set status = 'running', attempt = 1, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute' where org_id = $1`,
      [org, worker],
    );
    for (const { id } of jobs.slice(0, 6)) await session.query('select private.executions_start($1, $2)', [worker, id]);
    await session.query(`update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = any ($1)`, [
      jobs.slice(4, 6).map((j) => j.id),
    ]);
    await session.query('commit');
    session.release();

    const calls = [
      () => pool.query('delete from public.organizations where id = $1', [org]),
      ...jobs.slice(0, 2).map(
        ({ id }) =>
          () =>
            pool.query(`select private.executions_finish($1, $2, '{"output": {}, "input_tokens": 1, "output_tokens": 1}') as done`, [
              worker,
              id,
            ]),
      ),
      ...jobs.slice(2, 4).map(
        ({ id }, n) =>
          () =>
            pool.query(`select private.executions_fail($1, $2, 'x', 'y', $3, usage => '{"input_tokens": 1}') as done`, [
              worker,
              id,
              n === 0,
            ]),
      ),
      () => pool.query('select private.jobs_requeue_expired() as done'),
      ...jobs.slice(6).map(
        ({ id }) =>
          () =>
            pool.query('select private.executions_start($1, $2) as done', [worker, id]),
      ),
    ];
    // The call that starts first is a little ahead, so they take turns.
    const answers = await Promise.allSettled(calls.map((_, n) => calls[(n + i) % calls.length]()));
    for (const answer of answers) seen.add(answer.reason?.code ?? 'done');
    assert.equal((await one('select count(*)::int as n from public.jobs where org_id = $1', [org])).n, 0);
  }
  assert.deepEqual([...seen], ['done'], 'each call has an answer');
});

// The same in a fixed order, since the test above meets it by chance only: a session locks a job, the deletion waits for that
// lock, and then the session ends the job. This must need no lock that the deletion holds.
const usage = '{"input_tokens": 1, "output_tokens": 1}';

const ends = {
  'the job starts': ['select private.executions_start($1, $2) as answer', 'queued'],
  'its model is called': [
    `select private.executions_reserve_call($1, $2, null, jsonb_build_object('id', gen_random_uuid(), 'input_tokens', 1)) as answer`,
  ],
  'it succeeds': [`select private.executions_finish($1, $2, '{"output": {}, "input_tokens": 1, "output_tokens": 1}') as answer`],
  'it succeeds with too much': [`select private.executions_finish($1, $2, jsonb_build_object('output', repeat('x', 1100000))) as answer`],
  'it fails for good': [`select private.executions_fail($1, $2, 'x', 'y', false, usage => '${usage}') as answer`],
  'it fails and comes again': [`select private.executions_fail($1, $2, 'x', 'y', true, usage => '${usage}') as answer`],
  'it fails without having used anything': [`select private.executions_fail($1, $2, 'x', 'y', false) as answer`],
  'it is taken back': ['select private.jobs_requeue_expired() as answer, $1::text, $2::uuid', 'running', '-1 second'],
};

for (const [what, [sql, status = 'running', lease = '1 minute']] of Object.entries(ends)) {
  test(`an organization is deleted while ${what}: the deletion waits without holding a lock that the job needs`, async () => {
    const { org, skill } = await newTenant();
    const worker = `racer ${randomUUID()}`;
    const [ender, deleter] = [await pool.connect(), await pool.connect()];
    try {
      // Claimed in the transaction that queues it, so that no worker of the running stack takes it.
      await ender.query('begin');
      const {
        rows: [{ id }],
      } = await ender.query(
        `select e.job_id as id from public.skills as s, private.executions_queue(s, '{}', 'manual') as e where s.id = $1`,
        [skill],
      );
      await ender.query(
        `update public.jobs set status = 'running', attempt = 1, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute' where id = $1`,
        [id, worker],
      );
      if (status === 'running') await ender.query('select private.executions_start($1, $2)', [worker, id]);
      await ender.query('update public.jobs set locked_until = clock_timestamp() + $2::interval where id = $1', [id, lease]);
      await ender.query('commit');

      await ender.query('begin');
      await ender.query('select from public.jobs where id = $1 for update', [id]);
      const deleted = deleter.query('delete from public.organizations where id = $1', [org]);
      await untilWaiting(deleter, ender);
      const ended = ender.query(sql, [worker, id]).then(({ rows }) => ender.query('commit').then(() => rows[0].answer));
      const [{ rowCount }, answer] = await Promise.all([deleted, ended]);
      assert.equal(rowCount, 1);
      assert.notEqual(answer, null, 'the job was ended');
      const { left } = await one(
        `select (select count(*) from public.jobs where org_id = $1)::int + (select count(*) from public.executions where org_id = $1)::int as left`,
        [org],
      );
      assert.equal(left, 0);
    } finally {
      // Not back into the pool: after a failure one of them may still wait.
      ender.release(true);
      deleter.release(true);
    }
  });
}
