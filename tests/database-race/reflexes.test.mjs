// Deliveries to a reflex that race with each other, and with the deletion of what they belong to.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool } from './support.mjs';

const HASH = () => randomUUID().replaceAll('-', '').repeat(2);

async function newReflex({ org, skill }, fields = `'webhook', null`) {
  const [source, event] = fields.split(', ');
  const { id } = await one(
    `insert into public.reflexes (org_id, skill_id, name, verification, rate_per_minute, source, event)
     values ($1, $2, 'race', 'github', 600, ${source}, ${event}) returning id`,
    [org, skill],
  );
  return id;
}

const ingest = (reflex, id, hash = HASH()) =>
  pool.query(`select status as done from private.reflexes_ingest($1, '{"a": 1}', '{}', 'push', $2, $3)`, [reflex, id, hash]);

/** So many deliveries whose jobs a worker of this test holds: no worker of the running stack takes them. */
async function held(reflex, worker, n) {
  const session = await pool.connect();
  try {
    await session.query('begin');
    for (let i = 0; i < n; i += 1) {
      await session.query(`select private.reflexes_ingest($1, '{"a": 1}', '{}', 'push', $2, $3)`, [reflex, randomUUID(), HASH()]);
    }
    const { rows } = await session.query(
      `update public.jobs as j set status = 'running', attempt = 1, locked_by = $2, locked_until = clock_timestamp() + interval '1 minute'
       from public.reflex_deliveries as d
       where d.reflex_id = $1 and j.org_id = d.org_id and j.payload ->> 'delivery_id' = d.id::text and j.status = 'queued' returning j.id`,
      [reflex, worker],
    );
    await session.query('commit');
    assert.equal(rows.length, n);
    return rows.map(({ id }) => id);
  } finally {
    session.release();
  }
}

test('the same delivery by many senders at once is stored once', async () => {
  const reflex = await newReflex(await newTenant());
  for (let i = 0; i < 10; i += 1) {
    const [id, hash] = [randomUUID(), HASH()];
    const answers = await atOnce(6, async () => (await ingest(reflex, id, hash)).rows[0].done);
    assert.deepEqual(answers.sort(), [...Array(5).fill('duplicate'), 'received']);
  }
  const { n } = await one('select count(*)::int as n from public.reflex_deliveries where reflex_id = $1', [reflex]);
  assert.equal(n, 10);
});

test('one job that two workers end has one execution', async () => {
  const reflex = await newReflex(await newTenant());
  const worker = `racer ${randomUUID()}`;
  for (const job of await held(reflex, worker, 5)) {
    const answers = await atOnce(2, async () => {
      const { rows } = await pool.query(`select private.reflexes_finish($1, $2, 1, '{"input": {}}') as done`, [worker, job]);
      return rows[0].done;
    });
    assert.deepEqual(answers.sort(), [false, true]);
  }
  assert.equal((await one('select count(*)::int as n from public.executions where reflex_id = $1', [reflex])).n, 5);
});

for (const [what, statement] of Object.entries({
  organization: 'delete from public.organizations where id = $1 and $2::uuid is not null and $3::uuid is not null',
  skill: 'delete from public.skills where org_id = $1 and id = $2 and $3::uuid is not null',
  reflex: 'delete from public.reflexes where org_id = $1 and $2::uuid is not null and id = $3',
})) {
  test(`a deleted ${what} and deliveries that come and are processed do not deadlock`, async () => {
    const seen = new Set();
    for (let i = 0; i < 20; i += 1) {
      const tenant = await newTenant();
      const reflex = await newReflex(tenant);
      await newReflex(tenant, `'event', 'execution.finished'`);
      const worker = `racer ${randomUUID()}`;
      const jobs = await held(reflex, worker, 4);
      const calls = [
        () => pool.query(statement, [tenant.org, tenant.skill, reflex]),
        ...jobs.map((job) => () => pool.query(`select private.reflexes_finish($1, $2, 1, '{"input": {}}') as done`, [worker, job])),
        ...[1, 2].map(() => () => ingest(reflex, randomUUID())),
        () => pool.query('select private.reflexes_rejected($1)', [reflex]),
      ];
      const answers = await Promise.allSettled(calls.map((_, n) => calls[(n + i) % calls.length]()));
      for (const answer of answers) seen.add(answer.reason?.code ?? 'done');
      assert.equal((await one('select count(*)::int as n from public.reflex_deliveries where reflex_id = $1', [reflex])).n, 0);
    }
    assert.deepEqual([...seen], ['done'], 'each call has an answer');
  });
}
