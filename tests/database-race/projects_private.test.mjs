// Private projects between sessions: what changes while somebody works in one.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { asUser, begin, newUser, one, pool, waiting } from './sessions.mjs';

const EXECUTE = 'select id from public.execute_skill($1)';
const count = async (user, table, id) => (await asUser(user, `select count(*)::int as n from public.${table} where id = $1`, [id])).n;

/** A private project with a skill, and two members of the organization who are members of the project. */
async function secretProject() {
  const [owner, one_, two] = [await newUser(), await newUser(), await newUser()];
  const [project, skill] = [randomUUID(), randomUUID()];
  for (const { user } of [one_, two]) {
    await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'member')`, [owner.org, user]);
  }
  await pool.query(`insert into public.projects (id, org_id, name, visibility) values ($1, $2, 'Secret', 'private')`, [project, owner.org]);
  for (const { user } of [one_, two]) {
    await pool.query("insert into public.project_members (org_id, project_id, user_id, role) values ($1, $2, $3, 'admin')", [
      owner.org,
      project,
      user,
    ]);
  }
  await pool.query(`insert into public.skills (id, org_id, project_id, name, prompt_template) values ($1, $2, $3, 'Echo', 'x')`, [
    skill,
    owner.org,
    project,
  ]);
  return { org: owner.org, owner: owner.user, one: one_.user, two: two.user, project, skill };
}

test('a member who is removed while they execute is refused from the next statement on', async () => {
  const made = await secretProject();
  const session = await begin(made.one);
  const execution = await session.run(EXECUTE, [made.skill]);
  assert.ok(execution.id);
  const removed = await asUser(made.two, 'delete from public.project_members where project_id = $1 and user_id = $2 returning id', [
    made.project,
    made.one,
  ]);
  assert.ok(removed.id, 'the removal does not wait for the member');
  await session.run('savepoint before');
  assert.deepEqual(await session.run(EXECUTE, [made.skill]), { refused: 'P0002' });
  await session.run('rollback to before');
  assert.deepEqual(await session.run('select id from public.skills where id = $1', [made.skill]), {});
  assert.deepEqual(await session.run(`insert into public.habits (skill_id, name, cron) values ($1, 'x', '@daily')`, [made.skill]), {
    refused: '42501',
  });
  await session.run('rollback to before');
  await session.commit();
  assert.equal(await count(made.two, 'executions', execution.id), 1, 'what was done before stays');
  assert.equal(await count(made.one, 'executions', execution.id), 0);
});

// The unique key makes the statement wait for the removal, after its policy was checked.
for (const [how, sql, values] of [
  [
    'add',
    'insert into public.project_members (org_id, project_id, user_id) values ($1, $2, $3) returning id',
    (made) => [made.org, made.project, made.one],
  ],
  [
    'merge',
    `insert into public.project_members (org_id, project_id, user_id) values ($1, $2, $3)
     on conflict (org_id, project_id, user_id) do update set user_id = excluded.user_id returning id`,
    (made) => [made.org, made.project, made.one],
  ],
  [
    'put',
    'update public.project_members set user_id = $2 where project_id = $1 and user_id <> $2 returning id',
    (made) => [made.project, made.one],
  ],
]) {
  test(`a member who is removed does not come back by a statement that began before: ${how}`, async () => {
    const made = await secretProject();
    const [removes, returns] = [await begin(made.owner), await begin(made.one)];
    const removed = await removes.run('delete from public.project_members where project_id = $1 and user_id = $2 returning id', [
      made.project,
      made.one,
    ]);
    assert.ok(removed.id);
    const answer = returns.run(sql, values(made));
    await waiting(returns);
    await removes.commit();
    assert.deepEqual(await answer, { refused: '42501' });
    await returns.commit();
    assert.equal(await count(made.one, 'projects', made.project), 0);
  });
}

for (const statement of [
  `update public.projects set description = 'x' where id = $1 returning name`,
  'delete from public.projects where id = $1 returning name',
]) {
  test(`a statement that waits while a project becomes private does not reach it: ${statement.slice(0, 6)}`, async () => {
    const made = await secretProject();
    await pool.query('delete from public.project_members where project_id = $1 and user_id = $2', [made.project, made.two]);
    await pool.query(`update public.projects set visibility = 'organization' where id = $1`, [made.project]);
    const [hides, waits] = [await begin(made.one), await begin(made.two)];
    assert.ok(
      (await hides.run(`update public.projects set visibility = 'private', name = 'New' where id = $1 returning id`, [made.project])).id,
    );
    const answer = waits.run(statement, [made.project]);
    await waiting(waits);
    await hides.commit();
    assert.deepEqual(await answer, {});
    await waits.commit();
    assert.equal((await one('select description from public.projects where id = $1', [made.project])).description, null);
  });
}

test('an execution that is queued while its private project is deleted stays hidden', async () => {
  const made = await secretProject();
  const [executes, deletes] = [await begin(made.one), await begin(made.two)];
  const execution = await executes.run(EXECUTE, [made.skill]);
  const deleted = deletes.run('delete from public.projects where id = $1 returning id', [made.project]);
  await waiting(deletes);
  await executes.commit();
  assert.ok((await deleted).id);
  await deletes.commit();
  const kept = await one('select project_id, job_id, managers_only from public.executions where id = $1', [execution.id]);
  assert.deepEqual([kept.project_id, kept.managers_only], [null, true]);
  assert.equal((await one('select managers_only from public.jobs where id = $1', [kept.job_id])).managers_only, true);
  for (const [user, seen] of [
    [made.one, 0],
    [made.two, 0],
    [made.owner, 1],
  ]) {
    assert.equal(await count(user, 'executions', execution.id), seen);
    assert.equal(await count(user, 'jobs', kept.job_id), seen);
  }
});

test('an organization is deleted with its private projects and what ran in them', async () => {
  const made = await secretProject();
  const execution = await asUser(made.one, EXECUTE, [made.skill]);
  assert.ok((await asUser(made.owner, 'delete from public.organizations where id = $1 returning id', [made.org])).id);
  assert.equal((await one('select count(*)::int as n from public.executions where id = $1', [execution.id])).n, 0);
  assert.equal((await one('select count(*)::int as n from public.jobs where org_id = $1', [made.org])).n, 0);
});
