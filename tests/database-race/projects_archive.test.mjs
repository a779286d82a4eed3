// Archiving a project while somebody works in it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asUser, begin, newUser, one, pool, waiting } from './sessions.mjs';

const ARCHIVE = 'select id from public.archive_project($1)';
const ADD_SKILL = `insert into public.skills (project_id, name, prompt_template) values ($1, 'new', 'x') returning id`;
const EXECUTE = 'select id from public.execute_skill($1)';

async function openProject() {
  const { user, org } = await newUser();
  const { id: project } = await one(`insert into public.projects (org_id, name) values ($1, 'Open') returning id`, [org]);
  const { id: skill } = await one(
    `insert into public.skills (org_id, project_id, name, prompt_template) values ($1, $2, 'Echo', 'x') returning id`,
    [org, project],
  );
  return { user, org, project, skill };
}

test('archiving waits for who writes in the project, and refuses what comes after', async () => {
  const made = await openProject();
  const [writes, archives] = [await begin(made.user), await begin(made.user)];
  const written = await writes.run(ADD_SKILL, [made.project]);
  assert.ok(written.id);
  const archived = archives.run(ARCHIVE, [made.project]);
  await waiting(archives);
  await writes.commit();
  assert.ok((await archived).id);
  await archives.commit();
  assert.equal((await one('select count(*)::int as n from public.skills where id = $1', [written.id])).n, 1);
  assert.deepEqual(await asUser(made.user, ADD_SKILL, [made.project]), { refused: 'KJ411' });
});

for (const [what, sql, values] of [
  ['adds a row', ADD_SKILL, (made) => [made.project]],
  ['changes a row', `update public.skills set name = 'x' where id = $1 returning id`, (made) => [made.skill]],
  ['changes the project', `update public.projects set name = 'x' where id = $1 returning id`, (made) => [made.project]],
  ['schedules a skill', `insert into public.habits (skill_id, name, cron) values ($1, 'x', '@daily') returning id`, (made) => [made.skill]],
]) {
  test(`who ${what} while the project is being archived waits and is refused`, async () => {
    const made = await openProject();
    const [archives, writes] = [await begin(made.user), await begin(made.user)];
    assert.ok((await archives.run(ARCHIVE, [made.project])).id);
    const written = writes.run(sql, values(made));
    await waiting(writes);
    await archives.commit();
    assert.deepEqual(await written, { refused: 'KJ411' });
    await writes.commit();
  });
}

test('an execution that is queued while its project is being archived counts as queued before; the next one is refused', async () => {
  const made = await openProject();
  const [executes, archives] = [await begin(made.user), await begin(made.user)];
  const execution = await executes.run(EXECUTE, [made.skill]);
  assert.ok(execution.id);
  assert.ok((await archives.run(ARCHIVE, [made.project])).id, 'archiving does not wait for executions');
  await archives.commit();
  await executes.run('savepoint before');
  assert.deepEqual(await executes.run(EXECUTE, [made.skill]), { refused: 'KJ411' });
  await executes.run('rollback to before');
  // Before the commit: after it a worker may have claimed the job.
  const state = 'select e.status, j.status as job from public.executions as e join public.jobs as j on j.id = e.job_id where e.id = $1';
  assert.deepEqual(await executes.run(state, [execution.id]), { status: 'queued', job: 'queued' });
  await executes.commit();
  assert.ok(await one('select id from public.executions where id = $1', [execution.id]), 'archiving has not taken it');
});

test('an organization is deleted while somebody writes in a project of it', async () => {
  const made = await openProject();
  const [writes, deletes] = [await begin(made.user), await begin()];
  assert.ok((await writes.run(ADD_SKILL, [made.project])).id);
  const deleted = deletes.run('delete from public.organizations where id = $1 returning id', [made.org]);
  await waiting(deletes);
  await writes.commit();
  assert.ok((await deleted).id, 'without a deadlock');
  await deletes.commit();
});

test('an archived project is deleted with its organization', async () => {
  const made = await openProject();
  await asUser(made.user, ARCHIVE, [made.project]);
  await pool.query('delete from public.organizations where id = $1', [made.org]);
  assert.equal((await one('select count(*)::int as n from public.skills where id = $1', [made.skill])).n, 0);
});
