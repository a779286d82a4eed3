// The demo's last step: what belongs to one organization is hidden from everybody else.
import assert from 'node:assert/strict';
import { politeClient } from './client.mjs';
import { admin, EXECUTION_TIMEOUT, env, ok, refused } from './setup.mjs';
import { until } from './story.mjs';

// By list, by id, by change and by call: what belongs to Ada stays hers.
export async function nonMemberSeesNothing(say, { ada, bob, project, skill, habit }) {
  const org = ada.organization.id;
  const tables = [
    'organizations',
    'profiles',
    'memberships',
    'custom_roles',
    'invitations',
    'subscriptions',
    'projects',
    'skills',
    'habits',
    'executions',
    'jobs',
    'job_events',
  ];
  const key = (table) => (table === 'organizations' ? ['id', org] : table === 'profiles' ? ['id', ada.user.id] : ['org_id', org]);
  const anonymous = politeClient(env.API_URL, env.ANON_KEY);
  const hers = async (table) =>
    ok(
      admin
        .from(table)
        .select('*')
        .eq(...key(table))
        .order('id'),
    );

  // What still runs would change by itself while we look.
  await until(
    'the queue to be empty',
    async () => (await ok(admin.from('executions').select('id').eq('org_id', org).in('status', ['queued', 'running']))).length === 0,
    { timeoutMs: EXECUTION_TIMEOUT },
  );

  const before = {};
  for (const table of tables) {
    before[table] = await hers(table);
    assert.ok(before[table].length > 0, `there is something to hide in ${table}`);
    const mine = new Set(before[table].map((row) => row.id));
    assert.deepEqual(
      (await ok(bob.client.from(table).select('id'))).filter((row) => mine.has(row.id)),
      [],
      `${table} by list`,
    );
    assert.deepEqual(await ok(bob.client.from(table).select('id').eq('id', before[table][0].id)), [], `${table} by id`);
    const { data, error } = await anonymous.from(table).select('id');
    assert.ok(error || data.length === 0, `${table} without signing in`);
  }
  say(`${tables.length} tables: nothing by list, nothing by id`);

  for (const table of ['projects', 'skills', 'habits', 'executions', 'jobs', 'organizations', 'subscriptions']) {
    const change =
      table === 'executions' || table === 'jobs'
        ? { status: 'cancelled' }
        : table === 'subscriptions'
          ? { plan: 'FREE' }
          : { name: 'taken over' };
    const updated = await bob.client
      .from(table)
      .update(change)
      .eq(...key(table))
      .select('id');
    assert.ok(updated.error || updated.data.length === 0, `${table}: an update must change nothing`);
    const deleted = await bob.client
      .from(table)
      .delete()
      .eq(...key(table))
      .select('id');
    assert.ok(deleted.error || deleted.data.length === 0, `${table}: a delete must remove nothing`);
  }
  const planted = await bob.client.from('projects').insert({ org_id: org, name: 'Planted' });
  assert.equal(planted.error?.code, '42501', 'an insert into her organization is refused');
  for (const table of tables) assert.deepEqual(await hers(table), before[table], `${table} is as it was`);
  say('update, delete and insert change nothing');

  const execution = before.executions[0].id;
  await refused(bob.client.rpc('execute_skill', { skill_id: skill.id, input: { changes: 'x' } }), 404, 'not_found');
  await refused(bob.client.rpc('run_habit', { habit_id: habit.id }), 404, 'not_found');
  await refused(bob.client.rpc('cancel_execution', { id: execution }), 404, 'not_found');
  await refused(bob.client.rpc('retry_execution', { id: execution }), 404, 'not_found');
  say('by call: not_found, as if it did not exist');

  await refused(bob.client.from('projects').select('id').eq('id', project.id).setHeader('x-org-id', org), 403, 'not_a_member');
  say('naming her organization in x-org-id: not_a_member');
}
