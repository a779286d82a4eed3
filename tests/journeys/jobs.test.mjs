// Jobs: what an organization sees of its queue, and what workers may count on.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { rewindWatermark } from '../queue.mjs';
import {
  assertAnonymousSeesNothing,
  call,
  ended,
  execute,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  transaction,
  unaffected,
  until,
} from './domain.mjs';
import { sql } from './support.mjs';

describe('jobs', () => {
  let team;
  let job;
  before(async () => {
    team = await newTeam();
    const skill = await newSkill(team.owner);
    const { id } = await ok(execute(team.owner, skill.id, { n: 1 }));
    const execution = await ended(team.owner, id);
    job = await ok(team.owner.client.from('jobs').select().eq('id', execution.job_id).single());
  });

  test('an unauthenticated caller sees none', () => assertAnonymousSeesNothing(['jobs', 'job_events']));

  test('a non-member sees none; every member of the organization sees them', async () => {
    assert.deepEqual(await ok(team.nonMember.client.from('jobs').select('id').eq('id', job.id)), []);
    assert.deepEqual(await ok(team.nonMember.client.from('job_events').select('id').eq('job_id', job.id)), []);
    for (const person of [team.viewer, team.member, team.admin, team.owner]) {
      assert.equal((await ok(person.client.from('jobs').select('id').eq('id', job.id))).length, 1);
    }
  });

  test('they cannot be written, not even by an owner', async () => {
    const { client } = team.owner;
    await refused(client.from('jobs').insert({ kind: 'execution', payload: {} }), 403, '42501');
    await refused(client.from('jobs').update({ status: 'queued' }).eq('id', job.id).select(), 403, '42501');
    await refused(client.from('jobs').delete().eq('id', job.id).select(), 403, '42501');
    await refused(client.from('job_events').insert({ job_id: job.id, event: 'succeeded', attempt: 1 }), 403, '42501');
    await unaffected(client.from('job_events').delete().eq('job_id', job.id).select());
    for (const name of ['jobs_claim', 'jobs_complete', 'executions_finish', 'jobs_enqueue', 'habits_run_due', 'jobs_requeue_expired']) {
      assert.equal((await call(team.owner, name, {})).status, 404, name);
    }
  });

  test("a job's events are in order", async () => {
    const events = await ok(team.viewer.client.from('job_events').select('event, attempt, seq').eq('job_id', job.id).order('seq'));
    const names = events.map((e) => e.event);
    assert.deepEqual([names[0], names[1], names.at(-1)], ['queued', 'claimed', 'succeeded']);
    assert.equal(job.status, 'succeeded');
    assert.equal(job.attempt, 1);
    assert.ok(job.finished_at >= job.started_at && job.started_at >= job.created_at);
  });
});

// A kind of its own, which no sidecar claims; called as the sidecar calls it, by the functions.
describe('the queue, as workers see it', () => {
  let person;
  const kinds = [`journey.${randomUUID().slice(0, 8)}`];
  const enqueue = async (fields = {}) =>
    (
      await sql(`select private.jobs_enqueue($1, $2, '{}', max_attempts => $3, unique_key => $4, priority => $5::smallint) as id`, [
        person.orgId,
        kinds[0],
        fields.max_attempts ?? 5,
        fields.unique_key ?? null,
        fields.priority ?? 0,
      ])
    )[0].id;
  const claim = async (worker, max = 10, lease = '1 minute') => {
    await rewindWatermark(sql);
    return sql('select * from private.jobs_claim($1, $2, $3, $4)', [worker, lease, max, kinds]);
  };
  const complete = async (worker, id, attempt = null) => {
    const [ended] = await sql('select status from private.jobs_complete($1, $2)', [worker, JSON.stringify([{ id, attempt }])]);
    return ended?.status === 'succeeded';
  };
  const jobOf = async (id) => (await sql('select * from public.jobs where id = $1', [id]))[0];
  const dueNow = (id) => sql('update public.jobs set run_at = now() where id = $1', [id]);
  const expire = (id) => sql(`update public.jobs set locked_until = now() - interval '1 second' where id = $1`, [id]);

  before(async () => {
    person = await newPerson();
  });

  test('concurrent workers never get the same job, and together get all', async () => {
    const ids = await Promise.all(Array.from({ length: 60 }, () => enqueue()));
    await rewindWatermark(sql);
    const claims = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        transaction((query) => query('select * from private.jobs_claim($1, $2, $3, $4)', [`worker-${n}`, '1 minute', 10, kinds])),
      ),
    );
    const rest = await claim('worker-last', 100);
    const got = [...claims.flat(), ...rest].map((row) => row.id);
    assert.equal(new Set(got).size, got.length, 'none twice');
    assert.deepEqual([...got].sort(), [...ids].sort());
    for (const [n, rows] of [...claims, rest].entries()) {
      for (const { id } of rows) assert.equal(await complete(n === 8 ? 'worker-last' : `worker-${n}`, id), true);
    }
  });

  test('higher priority first, then the longest due', async () => {
    const low = await enqueue({ priority: -1 });
    const normal = await enqueue();
    const high = await enqueue({ priority: 5 });
    assert.deepEqual(
      (await claim('ordered')).map((row) => row.id),
      [high, normal, low],
    );
    for (const id of [high, normal, low]) await complete('ordered', id);
  });

  test('a unique key has one live job', async () => {
    const first = await enqueue({ unique_key: 'once' });
    assert.equal(await enqueue({ unique_key: 'once' }), null);
    await claim('unique');
    await complete('unique', first);
    const second = await enqueue({ unique_key: 'once' });
    assert.ok(second && second !== first);
    await claim('unique');
    await complete('unique', second);
  });

  test('a temporary failure is retried later, and ends as dead after the last attempt', async () => {
    const id = await enqueue({ max_attempts: 2 });
    await claim('flaky');
    const fail = async () =>
      (await sql('select private.jobs_fail($1, $2, $3, $4, true) as status', ['flaky', id, 'vendor_down', 'no answer']))[0].status;
    assert.equal(await fail(), 'queued');
    const waiting = await jobOf(id);
    assert.ok(waiting.run_at > waiting.updated_at, 'with a pause');
    // It lasts a second or two, which a busy machine needs for the claim alone.
    await sql(`update public.jobs set run_at = run_at + interval '1 hour' where id = $1`, [id]);
    assert.deepEqual(await claim('flaky'), [], 'which is kept');
    await dueNow(id);
    assert.equal((await claim('flaky'))[0].attempt, 2);
    assert.equal(await fail(), 'dead');
    const dead = await jobOf(id);
    assert.deepEqual([dead.status, dead.error_code, dead.error], ['dead', 'vendor_down', 'no answer']);
  });

  test('a permanent failure is dead at once', async () => {
    const id = await enqueue();
    await claim('strict');
    assert.equal(
      (await sql('select private.jobs_fail($1, $2, $3, $4, false) as status', ['strict', id, 'invalid_input', 'no']))[0].status,
      'dead',
    );
  });

  test('a worker that lost its lease can change nothing', async () => {
    const id = await enqueue();
    await claim('slow');
    await expire(id);
    assert.ok((await sql('select private.jobs_requeue_expired() as reaped'))[0].reaped >= 0);
    await until('the lease to be taken back', async () => (await jobOf(id)).status === 'queued');
    await dueNow(id);
    await claim('next');
    assert.deepEqual(await sql(`select * from private.jobs_heartbeat('slow', array[$1]::uuid[], '1 minute')`, [id]), []);
    assert.equal(await complete('slow', id), false);
    assert.equal((await sql('select private.jobs_fail($1, $2, $3, $4, true) as status', ['slow', id, 'late', 'late']))[0].status, null);
    assert.equal((await sql(`select private.jobs_add_event('slow', $1, 'late') as done`, [id]))[0].done, false);
    const held = await jobOf(id);
    assert.deepEqual([held.status, held.locked_by, held.attempt], ['running', 'next', 2]);
    assert.equal(await complete('next', id), true);
  });

  test('an older attempt of the same worker cannot end a newer one', async () => {
    const id = await enqueue();
    await claim('twice');
    await expire(id);
    await sql('select private.jobs_requeue_expired()');
    await until('the lease to be taken back', async () => (await jobOf(id)).status === 'queued');
    await dueNow(id);
    assert.equal((await claim('twice'))[0].attempt, 2);
    assert.equal(await complete('twice', id, 1), false);
    assert.equal(await complete('twice', id, 2), true);
  });

  test('a heartbeat extends the lease and reports a cancellation', async () => {
    const id = await enqueue();
    await claim('beating', 10, '30 seconds');
    const before = (await jobOf(id)).locked_until;
    assert.deepEqual(await sql(`select * from private.jobs_heartbeat('beating', array[$1]::uuid[], '10 minutes')`, [id]), [
      { id, cancel_requested: false, extended: true },
    ]);
    assert.ok((await jobOf(id)).locked_until - before > 9 * 60_000);
    await sql('select private.jobs_cancel($1)', [id]);
    assert.deepEqual(await sql(`select * from private.jobs_heartbeat('beating', array[$1]::uuid[], '10 minutes')`, [id]), [
      { id, cancel_requested: true, extended: true },
    ]);
    assert.equal(await complete('beating', id), false);
    assert.equal((await jobOf(id)).status, 'cancelled');
  });
});
