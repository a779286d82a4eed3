// Statistics of executions while executions end, folds run and sessions are killed: each end is counted once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, promptly, whileOpen } from './support.mjs';

const QUEUED = `insert into public.executions (org_id, skill_id, project_id, status, started_at)
  select $1, $2, $3, 'running', kijko.now() from generate_series(1, $4::int) returning id`;
const END = `update public.executions set status = 'succeeded', finished_at = kijko.now(), cost_microusd = 3 where id = $1`;
/** Zero while another session folds. */
const TRY_FOLD = 'select private.executions_fold() as folded';
/** In its turn: the stack's own schedule folds each minute. */
const FOLD = `select private.executions_fold() as folded
  from (select pg_advisory_xact_lock(hashtextextended('kijko-executions-fold', 20261121)) as turn offset 0) as t`;

const running = async ({ org, skill }, n, project = null) => (await pool.query(QUEUED, [org, skill, project, n])).rows.map((row) => row.id);

/** What the statistics say, and what the rows say. */
const counted = ({ org }) =>
  one(
    `select (s).runs::int as runs, (s).cost_microusd::int as cost,
       (select count(*)::int from public.executions as e where e.org_id = $1 and e.finished_at is not null) as ended
     from private.executions_summary($1) as s`,
    [org],
  );
const exact = async (tenant, runs) => assert.deepEqual(await counted(tenant), { runs, cost: runs * 3, ended: runs });

/** Does `sql` and is killed before it commits. */
async function killed(sql, values) {
  await whileOpen(sql, values, async (_, session) => {
    // A killed session has two errors to tell: the server's message, and the end of the connection.
    session.on('error', () => {});
    await pool.query('select pg_terminate_backend($1)', [session.processID]);
    await assert.rejects(session.query('commit'));
  });
}

test('two ends of one skill do not wait for each other', async () => {
  const tenant = await newTenant();
  const [first, second] = await running(tenant, 2);
  await whileOpen(END, [first], async (_, session) => {
    await promptly(END, [second]);
    await exact(tenant, 1);
    await session.query('commit');
  });
  await exact(tenant, 2);
});

test('an end waits for no fold, and a fold waits for no end', async () => {
  const tenant = await newTenant();
  const ids = await running(tenant, 3);
  await pool.query(END, [ids[0]]);
  await whileOpen(FOLD, [], async (_, session) => {
    await promptly(END, [ids[1]]);
    assert.equal((await promptly(TRY_FOLD))[0].folded, 0, 'one fold at a time');
    await session.query('commit');
  });
  await whileOpen(END, [ids[2]], async (_, session) => {
    await promptly(FOLD);
    await exact(tenant, 2);
    await session.query('commit');
  });
  await exact(tenant, 3);
});

test('a session that is killed before it commits loses the end and its count together', async () => {
  const tenant = await newTenant();
  const [id] = await running(tenant, 1);
  await killed(END, [id]);
  await exact(tenant, 0);
  await pool.query(END, [id]);
  await exact(tenant, 1);
});

test('a fold that is killed loses no end and doubles none', async () => {
  const tenant = await newTenant();
  for (const id of await running(tenant, 5)) await pool.query(END, [id]);
  await killed(FOLD, []);
  await exact(tenant, 5);
  await pool.query(FOLD);
  await exact(tenant, 5);
});

test('many ends, folds, readers and kills at once: the statistics equal the rows', async () => {
  const tenant = await newTenant();
  const ids = await running(tenant, 240);
  const ends = atOnce(6, async (worker) => {
    for (const [n, id] of ids.entries()) {
      if (n % 6 !== worker) continue;
      if (n % 20 === worker) await killed(END, [id]);
      await pool.query(END, [id]);
      // The same end again: a final status does not change.
      await pool.query(END, [id]);
    }
  });
  let done = false;
  const folds = (async () => {
    for (let n = 0; !done; n += 1) {
      if (n % 3 === 0) await killed('select private.executions_fold(7)', []);
      await pool.query('select private.executions_fold(11)');
    }
  })();
  const reads = (async () => {
    for (let last = 0; !done; ) {
      const { runs, ended } = await counted(tenant);
      assert.equal(runs, ended);
      assert.ok(runs >= last, 'it never decreases');
      last = runs;
    }
  })();
  await ends.finally(() => {
    done = true;
  });
  await Promise.all([folds, reads]);
  await exact(tenant, 240);
  await pool.query(FOLD);
  await exact(tenant, 240);
});

test('what ends while its private project is deleted stays hidden in the statistics', async () => {
  const tenant = await newTenant();
  const project = randomUUID();
  await pool.query(`insert into public.projects (id, org_id, name, visibility) values ($1, $2, 'Secret', 'private')`, [
    project,
    tenant.org,
  ]);
  const [before, during, after] = await running(tenant, 3, project);
  await pool.query(END, [before]);
  await whileOpen(END, [during], async (_, ending) => {
    const deletion = pool.query('delete from public.projects where id = $1', [project]);
    await pool.query('select pg_sleep(0.2)');
    await pool.query(FOLD);
    await ending.query('commit');
    await deletion;
  });
  await pool.query(END, [after]);
  await pool.query(FOLD);
  const { hidden, shown } = await one(
    `select sum(succeeded) filter (where managers_only)::int as hidden, coalesce(sum(succeeded) filter (where not managers_only), 0)::int as shown
     from private.execution_rollups where org = $1 and is_total and width_minutes = 1440`,
    [tenant.org],
  );
  assert.deepEqual({ hidden, shown }, { hidden: 3, shown: 0 });
});

test('no statistics outlive an organization that is deleted while its executions end', async () => {
  const tenant = await newTenant();
  const [id] = await running(tenant, 1);
  await whileOpen(END, [id], async (_, ending) => {
    const deletion = pool.query('delete from public.organizations where id = $1', [tenant.org]);
    await pool.query('select pg_sleep(0.2)');
    await ending.query('commit');
    await deletion;
  });
  await pool.query(FOLD);
  const { left } = await one(
    `select (select count(*) from private.execution_rollups where org = $1)::int
       + (select count(*) from private.execution_deltas where org = $1)::int as left`,
    [tenant.org],
  );
  assert.equal(left, 0);
});
