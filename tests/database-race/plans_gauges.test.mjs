// Gauges while many sessions write the rows that they count, and while they are recounted.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, untilWaiting, used } from './support.mjs';

test('twelve sessions that create, delete and roll back projects never exceed the limit, and the gauge equals the rows', async () => {
  const { org } = await newTenant();
  const LIMIT = 10;
  await pool.query(`select kijko.set_limit($1, 'projects', 'lifetime', $2)`, [org, LIMIT]);
  let most = 0;
  let made = 0;
  let refused = 0;
  await atOnce(12, async (n) => {
    const session = await pool.connect();
    try {
      for (let turn = 0; turn < 25; turn++) {
        const rows = 1 + ((n + turn) % 3);
        try {
          await session.query('begin');
          await session.query(
            `insert into public.projects (org_id, name) select $1, gen_random_uuid()::text from generate_series(1, $2::int)`,
            [org, rows],
          );
          await session.query(turn % 5 === 0 ? 'rollback' : 'commit');
          made += 1;
        } catch (error) {
          await session.query('rollback');
          assert.equal(error.code, 'KJ429');
          refused += 1;
        }
        const {
          rows: [{ count }],
        } = await session.query('select count(*)::int as count from public.projects where org_id = $1', [org]);
        most = Math.max(most, count);
        if (count > LIMIT / 2) {
          await session.query(
            `delete from public.projects where id in (
            select id from public.projects where org_id = $1 order by random() limit $2 for update skip locked)`,
            [org, rows + 1],
          );
        }
      }
    } finally {
      session.release();
    }
  });
  assert.ok(most <= LIMIT, `${most} projects at once`);
  assert.ok(made > 0 && refused > 0, `${made} made, ${refused} refused`);
  const { there } = await one('select count(*)::int as there from public.projects where org_id = $1', [org]);
  assert.equal(await used(org, 'projects'), there);
  // Exactly the rest of the limit can be used: the counter in memory agrees with the table.
  await pool.query(`insert into public.projects (org_id, name) select $1, gen_random_uuid()::text from generate_series(1, $2::int)`, [
    org,
    LIMIT - there,
  ]);
  await assert.rejects(pool.query(`insert into public.projects (org_id, name) values ($1, 'more')`, [org]), { code: 'KJ429' });
});

const RECOUNT = 'select meter, was::int, became::int from private.usage_recount_gauges($1)';

const GAUGES = {
  members: { table: 'memberships', row: ({ org, guest }) => ({ org_id: org, user_id: guest.user, role: 'viewer' }) },
  projects: { row: ({ org }) => ({ org_id: org, name: 'open' }) },
  habits: { row: ({ org, skill }) => ({ org_id: org, skill_id: skill, name: 'open', cron: '@daily' }) },
  skills: { row: ({ org }) => ({ org_id: org, name: 'open', prompt_template: 'x' }) },
  usage_meters: { row: ({ org }) => ({ org_id: org, event_type: 'open', meter: 'own.open' }) },
};

for (const [meter, { table = meter, row }] of Object.entries(GAUGES)) {
  test(`a recount waits for open writes of ${meter} and corrects what bypassed the triggers`, async () => {
    const [{ org, skill }, guest] = [await newTenant(), await newTenant()];
    const columns = Object.entries(row({ org, skill, guest }));
    const insert = `insert into public.${table} (${columns.map(([name]) => name)}) values (${columns.map((_, n) => `$${n + 1}`)}) returning id`;
    const [writer, repair] = [await pool.connect(), await pool.connect()];
    try {
      const before = await used(org, meter);
      await writer.query('begin');
      const {
        rows: [{ id }],
      } = await writer.query(
        insert,
        columns.map(([, value]) => value),
      );
      const recounted = repair.query(RECOUNT, [org]);
      await untilWaiting(repair, writer);
      await writer.query('commit');
      assert.deepEqual((await recounted).rows, [], 'it saw the commit that it waited for');
      assert.equal(await used(org, meter), before + 1);
      await writer.query('set session_replication_role = replica');
      await writer.query(`delete from public.${table} where id = $1`, [id]);
      await writer.query('reset session_replication_role');
      assert.equal(await used(org, meter), before + 1);
      assert.deepEqual((await repair.query(RECOUNT, [org])).rows, [{ meter, was: before + 1, became: before }]);
      assert.equal(await used(org, meter), before);
    } finally {
      writer.release(true);
      repair.release(true);
    }
  });
}

test('a recount is refused in a transaction that cannot see later commits', async () => {
  const { org } = await newTenant();
  const repair = await pool.connect();
  try {
    await repair.query('begin isolation level repeatable read');
    await assert.rejects(repair.query(RECOUNT, [org]), { code: '22023' });
  } finally {
    repair.release(true);
  }
});

test('a recount that meets a transaction which writes the same tables in another order lets it go first', async () => {
  const { org } = await newTenant();
  const [writer, repair] = [await pool.connect(), await pool.connect()];
  try {
    await writer.query('begin');
    await writer.query('lock table storage.objects in row exclusive mode');
    const recounted = repair.query(RECOUNT, [org]);
    await untilWaiting(repair, writer);
    await writer.query('insert into public.projects (org_id, name) values ($1, $2)', [org, 'first']);
    await writer.query('commit');
    assert.deepEqual((await recounted).rows, []);
  } finally {
    writer.release(true);
    repair.release(true);
  }
});
