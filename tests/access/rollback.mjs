// The API without effects: PostgREST rolls each request back at its end, after it has checked deferred constraints. What a caller may
// do is the same, and a case that is let through needs no new world.
import { env, http } from '../journeys/support.mjs';
import { reloadApi } from '../reload.mjs';
import { until } from '../until.mjs';
import { query } from './db.mjs';

/** From now on the API rolls back; everybody's requests, so nothing else may use it. */
export async function startRollingBack() {
  await query(`alter role authenticator set pgrst.db_tx_end = 'rollback'`);
  await reloadApi();
  await until('requests to be rolled back', async () => !(await leavesRows()));
}

export async function stopRollingBack() {
  await query('alter role authenticator reset pgrst.db_tx_end');
  await reloadApi();
  await until('requests to be committed', leavesRows);
}

/** Whether a row that the API has inserted is there. */
async function leavesRows() {
  await http('POST', '/rest/v1/features', {
    body: { code: 'matrix_rollback', name: 'Rollback' },
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${env.SERVICE_ROLE_KEY}` },
  });
  return (await query(`delete from public.features where code = 'matrix_rollback' returning code`)).length > 0;
}
