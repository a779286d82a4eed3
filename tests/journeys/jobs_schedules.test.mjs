// Schedules of pg_cron run beside each other. It may take a minute, as they begin at full minutes.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { adminSql, sql } from './support.mjs';

test('one that takes long keeps no other from running', async (t) => {
  const name = `test-${randomUUID()}`;
  const [{ id }] = await sql(`select cron.schedule($1, '* * * * *', 'select pg_sleep(600)') as id`, [name]);
  t.after(() => sql('select cron.unschedule($1::bigint)', [id]));
  const slow = await until('the slow one to run', async () => {
    const [run] = await adminSql(`select job_pid, start_time from cron.job_run_details where jobid = $1 and status = 'running'`, [id]);
    return run;
  });
  t.after(() => adminSql('select pg_terminate_backend($1)', [slow.job_pid]));
  const waiting = () =>
    adminSql(
      `select j.jobname from cron.job as j
       where j.schedule = '* * * * *' and j.active and j.jobname like 'kijko-%' and not exists (
         select from cron.job_run_details as d where d.jobid = j.jobid and d.end_time > $1 and d.start_time >= date_trunc('minute', $1::timestamptz)
       )`,
      [slow.start_time],
    );
  await until('all others to have run', async () => (await waiting()).length === 0);
  const [state] = await adminSql('select status from cron.job_run_details where jobid = $1 order by runid desc limit 1', [id]);
  assert.equal(state.status, 'running', 'meanwhile it ran');
});
