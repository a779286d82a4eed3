// The scheduler dies in the middle of a tick: the tick is one transaction for each batch, so nothing is lost and nothing doubled.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { connectAsAdmin, killBackend, query, queryPatiently } from './harness.mjs';
import { Tenant } from './tenant.mjs';

export function habitsTests() {
  describe('Postgres in the middle of a tick', () => {
    test('after kill -9 of the backend that ticks, the next tick handles each slot once', async () => {
      const tenant = await Tenant.make();
      const [habit] = await query(
        `insert into public.habits (org_id, skill_id, name, cron, overlap, created_by) values ($1, $2, 'crash', '0 0 1 1 *', 'cancel', $3) returning id`,
        [tenant.orgId, tenant.skill.id, tenant.userId],
      );
      const [earlier] = await query(
        `select e.id, e.job_id from public.skills as s, private.executions_queue(
           s, '{}', 'habit', habit_id => $2, scheduled_for => date_trunc('year', kijko.now(), 'UTC') - interval '1 year',
           run_at => now() + interval '1 day', hold_id => private.executions_reserve(s.org_id)
         ) as e where s.id = $1`,
        [tenant.skill.id, habit.id],
      );
      const admin = await connectAsAdmin();
      await admin.query('begin');
      // Due in this transaction only, so that no other tick comes first.
      await admin.query(`update public.habits set next_run_at = date_trunc('year', kijko.now(), 'UTC') where id = $1`, [habit.id]);
      await admin.query('select private.habits_run_due()');
      const {
        rows: [{ pid, slots }],
      } = await admin.query('select pg_backend_pid() as pid, count(*)::int as slots from public.executions where habit_id = $1', [
        habit.id,
      ]);
      assert.equal(slots, 2, 'the tick has queued its slot');
      await killBackend(pid);

      const states = () =>
        queryPatiently(
          `select e.status, (select count(*)::int from public.job_event_log as l where l.job_id = e.job_id and l.event = 'cancelled') as cancelled
           from public.executions as e where e.habit_id = $1 order by e.scheduled_for`,
          [habit.id],
        );
      assert.deepEqual(await states(), [{ status: 'queued', cancelled: 0 }], 'nothing of it is left');
      await query(`update public.habits set next_run_at = date_trunc('year', kijko.now(), 'UTC') where id = $1`, [habit.id]);
      await Promise.all([query('select private.habits_run_due()'), query('select private.habits_run_due()')]);
      const [first, second, ...more] = await states();
      assert.deepEqual([first, more], [{ status: 'cancelled', cancelled: 1 }, []]);
      assert.ok(['queued', 'running', 'succeeded', 'failed'].includes(second.status), second.status);
      const [{ next_run_at: next }] = await query('select next_run_at > kijko.now() as next_run_at from public.habits where id = $1', [
        habit.id,
      ]);
      assert.equal(next, true);
      assert.equal(
        (await query('select hold_id from public.executions where id = $1', [earlier.id]))[0].hold_id,
        null,
        'its reservation is released',
      );
      await query('delete from public.habits where id = $1', [habit.id]);
    });
  });
}
