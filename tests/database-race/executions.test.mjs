// Executions that are started, ended or queued by several sessions at once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { atOnce, becomeUser, newTenant, one, pool, queryAs, untilWaiting, untilWaitingFor, used, whileOpen } from './support.mjs';

test('when a job finishes as its lease expires, either the result or the requeue counts, never both', async () => {
  const { org, skill } = await newTenant();
  const won = { worker: 0, expiry: 0 };
  for (let i = 0; i < 20; i++) {
    // Claimed by hand, so that no worker of the running stack takes it.
    const worker = `racer ${randomUUID()}`;
    const session = await pool.connect();
    await session.query('begin');
    const {
      rows: [{ id, job_id: job }],
    } = await session.query(`select e.* from public.skills as s, private.executions_queue(s, '{}', 'manual') as e where s.id = $1`, [
      skill,
    ]);
    await session.query(
      `update public.jobs set status = 'running', attempt = 1, max_attempts = 1, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute' where id = $1`,
      [job, worker],
    );
    await session.query('select private.executions_start($1, $2)', [worker, job]);
    await session.query(`update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = $1`, [job]);
    await session.query('commit');
    session.release();

    const finish = () =>
      one(`select private.executions_finish($1, $2, '{"output": {}, "input_tokens": 1, "output_tokens": 0}') as done`, [worker, job]);
    const expire = () => one('select private.jobs_requeue_expired()');
    // The call that starts first is a little ahead, so they take turns.
    const answers = await Promise.all(i % 2 ? [finish(), expire()] : [expire(), finish()]);
    const { done } = answers[i % 2 ? 0 : 1];
    const { status, events } = await one(
      `select e.status, (select count(*)::int from public.job_events as v where v.job_id = e.job_id and v.event in ('succeeded', 'dead')) as events
       from public.executions as e where e.id = $1`,
      [id],
    );
    assert.equal(status, done ? 'succeeded' : 'failed');
    assert.equal(events, 1);
    won[done ? 'worker' : 'expiry'] += 1;
  }
  assert.ok(won.worker > 0 && won.expiry > 0, `both win at times: ${JSON.stringify(won)}`);
  assert.equal(await used(org, 'llm_tokens'), won.worker, 'recorded exactly for those that finished');
});

test('twelve sessions that use one idempotency key get one execution, charged once', async () => {
  const { user, org, skill } = await newTenant();
  const answers = await atOnce(12, () => queryAs(user, `select (public.execute_skill($1, '{"a": 1}', 'same')).id`, [skill]));
  assert.deepEqual(
    answers.filter((a) => a.refused),
    [],
  );
  assert.equal(new Set(answers.map((a) => a.rows[0].id)).size, 1);
  assert.equal(await used(org, 'executions'), 1);
});

// If the second call did not wait, it would fail on the unique key, or charge before it finds the first execution.
for (const end of ['commit', 'rollback']) {
  test(`a call waits while another one with its idempotency key is open, up to that one's ${end}`, async () => {
    const { user, org, skill } = await newTenant();
    const execute = `select (public.execute_skill($1, '{"a": 1}', 'same')).id`;
    const first = await pool.connect();
    try {
      await first.query('begin');
      await becomeUser(first, user);
      const {
        rows: [{ id }],
      } = await first.query(execute, [skill]);
      const { pid } = (await first.query('select pg_backend_pid() as pid')).rows[0];
      const second = queryAs(user, execute, [skill]);
      await untilWaitingFor(pid, 'advisory');
      await first.query(end);
      const answer = await second;
      assert.equal(answer.refused, undefined);
      assert.equal(answer.rows[0].id === id, end === 'commit');
      assert.equal(await used(org, 'executions'), 1);
      assert.equal((await one('select count(*)::int as n from public.executions where org_id = $1', [org])).n, 1);
    } finally {
      first.release(true);
    }
  });
}

test('of twenty executions at once, exactly the five that the quota has left pass', async () => {
  const { user, org, skill } = await newTenant();
  await pool.query(`select kijko.set_limit($1, 'executions', 'month', 5)`, [org]);
  const answers = await atOnce(20, () => queryAs(user, 'select (public.execute_skill($1)).id', [skill]));
  assert.equal(answers.filter((a) => a.rows).length, 5);
  assert.deepEqual([...new Set(answers.filter((a) => a.refused).map((a) => a.refused))], ['KJ429']);
  assert.equal((await one('select count(*)::int as n from public.executions where org_id = $1', [org])).n, 5);
});

// A change of vendor moves the queued jobs. One that is being queued at that moment must not stay with the former vendor.
const QUEUE = `select (private.executions_queue(s, '{}', 'manual')).job_id from public.skills as s where s.id = $1`;

test(`a skill's change of vendor waits for executions that are being queued, and moves them`, async () => {
  const { skill } = await newTenant();
  const changer = await pool.connect();
  try {
    const job = await whileOpen(QUEUE, [skill], async ([{ job_id }], session) => {
      // No worker of the running stack is to take it.
      await session.query(`update public.jobs set run_at = clock_timestamp() + interval '1 hour' where id = $1`, [job_id]);
      const changed = changer.query(`update public.skills set model = 'gpt-4o' where id = $1`, [skill]);
      await untilWaiting(changer, session);
      await session.query('commit');
      await changed;
      return job_id;
    });
    assert.equal((await one('select kind from public.jobs where id = $1', [job])).kind, 'execution.openai');
  } finally {
    changer.release(true);
  }
});

test(`an execution that is queued or started during its skill's change of vendor does not wait, and stays with any worker`, async () => {
  const { skill } = await newTenant();
  await whileOpen(`update public.skills set model = 'gpt-4o' where id = $1`, [skill], async () => {
    // Nothing is committed, so that no worker of the running stack takes the job.
    await whileOpen(`set local statement_timeout = '1min'`, [], async (_, session) => {
      const {
        rows: [{ job_id: job }],
      } = await session.query(QUEUE, [skill]);
      const look = async () => (await session.query('select kind, status from public.jobs where id = $1', [job])).rows[0];
      assert.deepEqual(await look(), { kind: 'execution', status: 'queued' });
      await session.query(
        `update public.jobs set status = 'running', attempt = 1, locked_by = 'racer', locked_until = clock_timestamp() + interval '1 minute' where id = $1`,
        [job],
      );
      await session.query(`select private.executions_start('racer', $1)`, [job]);
      assert.deepEqual(await look(), { kind: 'execution', status: 'queued' });
    });
  });
});
