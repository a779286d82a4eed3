// A worker that dies in the middle of the check of a skill, while the skill is saved again.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { connectAsAdmin, killSidecars, query, queryAsAdmin, Sidecar, stopStackSidecar, until } from './harness.mjs';
import { Tenant } from './tenant.mjs';

const LEASE_SECONDS = 3;

export function skillsTests(vendor) {
  describe('a worker in the middle of the check of a skill', () => {
    // The stack's own worker would take executions and checks, too.
    beforeEach(stopStackSidecar);
    afterEach(killSidecars);

    test('after kill -9 the version that is current is checked, and nothing of the former one is kept', async () => {
      const tenant = await Tenant.make();
      const id = tenant.skill.id;
      const saver = await connectAsAdmin();
      await saver.query('begin');
      await saver.query('select 1 from public.skills where id = $1 for update', [id]);
      const first = await Sidecar.start(vendor, { leaseSeconds: LEASE_SECONDS });
      await until('the record of the check', async () => {
        const waits = await queryAsAdmin(
          `select 1 from pg_stat_activity where query like '%skills_record_check%' and wait_event_type = 'Lock' and usename = 'kijko_sidecar'`,
        );
        return waits.length > 0;
      });
      await first.kill();
      // The backend of the dead worker still waits, and writes when the row is free: for the former version.
      await saver.query(`update public.skills set prompt_template = 'Answer {{ n' where id = $1`, [id]);
      await saver.query('commit');
      await saver.end();

      await Sidecar.start(vendor, { leaseSeconds: LEASE_SECONDS });
      const skill = await until('the check', async () => {
        const [row] = await query('select version, problems, checked_at from public.skills where id = $1', [id]);
        return row.checked_at && row;
      });
      assert.deepEqual([skill.version, skill.problems.map((problem) => problem.code)], [2, ['template_error']]);
      await until(
        'the end of its jobs',
        async () => (await query(`select 1 from public.jobs where org_id = $1 and kind = 'skill_check'`, [tenant.orgId])).length === 0,
      );
    });

    test('skills are checked while slow executions of several tenants wait for every slot', async (t) => {
      const hostile = await Promise.all([1, 2, 3].map(() => Tenant.make()));
      t.after(() => query('delete from public.jobs where org_id = any ($1)', [hostile.map(({ orgId }) => orgId)]));
      await query(`update public.skills set model = 'echo/echo', parameters = '{"delay_ms": 300000}' where id = any ($1)`, [
        hostile.map(({ skill }) => skill.id),
      ]);
      await Promise.all(hostile.flatMap((tenant) => [1, 2, 3].map((n) => tenant.execute(n))));
      await Sidecar.start(vendor, { leaseSeconds: 120, concurrency: 2 });
      const executions = async (status) =>
        (
          await query('select count(*)::int as n from public.executions where org_id = any ($1) and status = $2', [
            hostile.map(({ orgId }) => orgId),
            status,
          ])
        )[0].n;
      await until('executions in every slot', async () => (await executions('running')) === 2);
      const tenant = await Tenant.make();
      await until(
        'the check',
        async () => (await query('select checked_at from public.skills where id = $1', [tenant.skill.id]))[0].checked_at,
      );
      assert.deepEqual([await executions('running'), await executions('queued')], [2, 7], 'no execution has ended meanwhile');
    });
  });
}
