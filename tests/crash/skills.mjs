// A worker that dies in the middle of the check of a skill, while the skill is saved again.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { connectAsAdmin, killSidecars, query, queryAsAdmin, Sidecar, until } from './harness.mjs';
import { Tenant } from './tenant.mjs';

const LEASE_SECONDS = 3;

export function skillsTests(vendor) {
  describe('a worker in the middle of the check of a skill', () => {
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
  });
}
