// Reports about queues in Postgres: jobs of workers that died, poison, duplicates, connections that go, long transactions.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before } from 'node:test';
import pg from 'pg';
import { ended, execute, newPerson, newSkill, ok, refused, transaction, until } from '../journeys/domain.mjs';
import { adminSql, env, sql } from '../journeys/support.mjs';
import { rewindWatermark } from '../queue.mjs';
import { report } from './report.mjs';

let person;
before(async () => {
  person = await newPerson('TEAMS');
});
// Nobody works on these kinds: what is left of them would be a queue that waits.
after(async () => {
  // A connection of its own: the shared pool is closed by then.
  const client = new pg.Client({ connectionString: env.DB_URL });
  await client.connect();
  await client.query(`delete from public.jobs where kind ~ '^report_'`);
  await client.end();
});

const newKind = () => `report_${randomUUID().slice(0, 8)}`;
const enqueue = async (kind, more = {}) =>
  (await sql('select id from private.jobs_enqueue_many($1)', [JSON.stringify([{ org_id: person.orgId, kind, ...more }])]))[0].id;
// As the owner of the functions: what the sidecar calls by its grants.
const claim = async (kind, worker = 'report', max = 1) => {
  await rewindWatermark(sql);
  return sql(`select * from private.jobs_claim($1, '1 minute', $2, array[$3])`, [worker, max, kind]);
};
const jobOf = async (id) => (await sql('select * from public.jobs where id = $1', [id]))[0];

/** As if a worker had died: its lease ends, and the next claim of anybody looks after it. */
async function workerDies(id) {
  await sql(`update public.jobs set locked_until = clock_timestamp() - interval '1 second' where id = $1`, [id]);
  await sql(`select setval('private.jobs_lease_watermark', 0)`);
  await until('the job to be taken back', async () => {
    await sql(`select setval('private.jobs_maintenance_at', 0)`);
    await claim(newKind());
    return (await jobOf(id)).status !== 'running';
  });
}

/** Makes a job that waits for its back-off due. */
const makeDue = (id) => sql('update public.jobs set run_at = clock_timestamp() where id = $1', [id]);

report('queue-1', 'a job whose worker died is run by another, without anybody unlocking it', async () => {
  const kind = newKind();
  const id = await enqueue(kind);
  assert.deepEqual(
    (await claim(kind, 'dead')).map((job) => job.id),
    [id],
  );
  assert.deepEqual(await claim(kind, 'other'), [], 'not before the lease ends');
  await workerDies(id);
  await makeDue(id);
  const [again] = await claim(kind, 'other');
  assert.deepEqual([again.id, again.attempt], [id, 2]);
  // The dead one comes back: its result is not taken.
  assert.deepEqual(
    await sql('select * from private.jobs_complete($1, $2)', ['dead', JSON.stringify([{ id, attempt: 1, result: {} }])]),
    [],
  );
  assert.equal((await jobOf(id)).status, 'running');
});

report('queue-2', 'a worker that dies in the last attempt blocks nothing behind its job', async () => {
  const kind = newKind();
  const first = await enqueue(kind, { max_attempts: 1, concurrency_key: 'repository' });
  const second = await enqueue(kind, { concurrency_key: 'repository' });
  assert.deepEqual(
    (await claim(kind, 'dead', 5)).map((job) => job.id),
    [first],
    'one of the key at a time',
  );
  await workerDies(first);
  assert.equal((await jobOf(first)).status, 'dead');
  assert.deepEqual(
    (await claim(kind, 'other')).map((job) => job.id),
    [second],
  );
});

report('queue-3', 'a job that always fails ends after its attempts, each later than the one before', async () => {
  const kind = newKind();
  const id = await enqueue(kind, { max_attempts: 4 });
  const pauses = [];
  for (let attempt = 1; attempt <= 4; attempt += 1) {
    const [job] = await claim(kind);
    assert.equal(job.attempt, attempt);
    await sql(`select private.jobs_fail('report', $1, 'poison', 'again', true)`, [id]);
    const [{ pause, status }] = await sql(
      'select extract(epoch from run_at - clock_timestamp())::float as pause, status from public.jobs where id = $1',
      [id],
    );
    assert.equal(status, attempt === 4 ? 'dead' : 'queued');
    if (attempt < 4) pauses.push(pause);
    await makeDue(id);
  }
  assert.ok(
    pauses.every((pause, n) => pause > 0 && (n === 0 || pause > pauses[n - 1] * 0.9)),
    JSON.stringify(pauses),
  );
  assert.ok(pauses[2] > pauses[0], JSON.stringify(pauses));
  assert.deepEqual(await claim(kind), []);
});

report('queue-4', 'of equal jobs that come at once there is one, and a new one once it has ended', async () => {
  const kind = newKind();
  const enqueueOnce = () => sql('select private.jobs_enqueue($1, $2, unique_key => $3) as id', [person.orgId, kind, 'same']);
  const ids = (await Promise.all(Array.from({ length: 8 }, enqueueOnce))).map(([{ id }]) => id).filter(Boolean);
  assert.equal(ids.length, 1);
  await claim(kind);
  assert.equal((await enqueueOnce())[0].id, null, 'also while it runs');
  // It fails, and waits for its next attempt: it still is the one.
  await sql(`select private.jobs_fail('report', $1, 'later', 'again', true)`, [ids[0]]);
  assert.equal((await enqueueOnce())[0].id, null, 'also while it waits');
  await makeDue(ids[0]);
  assert.equal((await claim(kind))[0].id, ids[0], 'it is not in its own way');
  await sql('select * from private.jobs_complete($1, $2)', ['report', JSON.stringify([{ id: ids[0], attempt: 2, result: {} }])]);
  assert.notEqual((await enqueueOnce())[0].id, null);
});

report('queue-5', 'the same request sent many times at once starts one execution', async () => {
  const skill = await newSkill(person);
  const key = randomUUID();
  const answers = await Promise.all(Array.from({ length: 6 }, () => ok(execute(person, skill.id, { n: 1 }, key))));
  assert.equal(new Set(answers.map(({ id }) => id)).size, 1);
  assert.equal((await ended(person, answers[0].id)).status, 'succeeded');
  const rows = await sql('select count(*)::int as n from public.executions where skill_id = $1', [skill.id]);
  assert.equal(rows[0].n, 1);
});

report('queue-6', 'a worker whose listening connection is cut goes on taking jobs', async () => {
  const skill = await newSkill(person);
  // It says nothing but an empty statement now and then, by which it notices that it was cut.
  const listening = `usename = 'kijko_sidecar' and (query ilike 'listen%' or query = '')`;
  for (let n = 0; n < 2; n += 1) {
    const cut = await adminSql(`select pid, pg_terminate_backend(pid) from pg_stat_activity where ${listening}`);
    assert.ok(cut.length >= 1, 'there is a listening connection');
    assert.equal((await ended(person, (await ok(execute(person, skill.id, { n }))).id)).status, 'succeeded');
    const former = cut.map(({ pid }) => pid);
    await until(
      'it to listen again',
      async () => (await adminSql(`select 1 from pg_stat_activity where ${listening} and pid <> all ($1)`, [former])).length > 0,
    );
  }
});

report('queue-7', 'an input with a NUL, or half a pair of surrogates, is refused and queues nothing', async () => {
  const skill = await newSkill(person);
  for (const bad of ['\u0000', '\ud800'])
    await refused(execute(person, skill.id, { n: `a${bad}b` }), 400, bad === '\u0000' ? '22P05' : 'PGRST102');
  assert.deepEqual(await ok(person.client.from('executions').select('id').eq('org_id', person.orgId).eq('skill_id', skill.id)), []);
});

report('queue-8', 'a transaction that stays open does not make claims read the dead rows of all jobs since', async () => {
  const kind = newKind();
  const open = new pg.Client({ connectionString: env.DB_URL });
  await open.connect();
  try {
    await open.query('begin isolation level repeatable read');
    await open.query('select 1 from public.jobs limit 1');
    const rounds = 30;
    const batch = 50;
    const cost = [];
    const completed = (query, jobs) =>
      jobs.length > 0 &&
      query('select * from private.jobs_complete($1, $2)', [
        'report',
        JSON.stringify(jobs.map(({ id, attempt }) => ({ id, attempt, result: {} }))),
      ]);
    for (let round = 0; round < rounds; round += 1) {
      await sql('select count(*) from private.jobs_enqueue_many($1)', [
        JSON.stringify(Array.from({ length: batch }, () => ({ org_id: person.orgId, kind }))),
      ]);
      const blocks = await transaction(async (query) => {
        const read = async () => Number((await query(`select pg_stat_get_xact_blocks_fetched('public.jobs'::regclass) as n`))[0].n);
        const start = await read();
        const jobs = await query(`select * from private.jobs_claim('report', '1 minute', $1, array[$2])`, [batch, kind]);
        const fetched = (await read()) - start;
        await completed(query, jobs);
        return jobs.length === batch ? fetched : null;
      });
      if (blocks !== null) cost.push(blocks);
      else {
        // Queued by a commit that took its time: such a round says nothing of claims, and leaves nothing to the next one.
        await until('the rest of a round', async () => {
          await completed(sql, await claim(kind, 'report', batch));
          return (await sql(`select from public.jobs where kind = $1 and status = 'queued'`, [kind])).length === 0;
        });
        await sql('select private.jobs_run_maintenance()');
      }
    }
    assert.ok(cost.length >= 15, `${cost.length} rounds of ${rounds}`);
    const mean = (list) => list.reduce((sum, n) => sum + n, 0) / list.length;
    const [early, late] = [mean(cost.slice(2, 7)), mean(cost.slice(-5))];
    assert.ok(
      late < early * 3 + 200,
      `a claim of ${batch} fetched ${early} blocks of the table at first, ${late} after ${rounds * batch} jobs: ${cost}`,
    );
  } finally {
    await open.query('rollback').catch(() => {});
    await open.end();
  }
});
