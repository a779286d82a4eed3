// Races of prompts and approvals: two pushes, two decisions, and a label that moves while an execution starts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { becomeUser, begin, newUser, rows, waiting } from './sessions.mjs';
import { atOnce, newTenant, one, pool, queryAs, whileOpen } from './support.mjs';

const PUSH = `select public.push_prompt($1, $2, base_version => $3) as pushed`;
const LABEL = `select public.set_prompt_label($1, $2, $3) as answer`;
const versionsOf = (org, path) =>
  rows(
    `select v.version, v.content #>> '{}' as text from public.prompt_versions as v join public.prompts as p on p.id = v.prompt_id
     where p.org_id = $1 and p.path = $2 order by 1`,
    [org, path],
  );
const labelOf = async (org, path, label) =>
  (
    await one(
      `select l.version from public.prompt_labels as l join public.prompts as p on p.id = l.prompt_id
       where p.org_id = $1 and p.path = $2 and l.label = $3`,
      [org, path, label],
    )
  )?.version;
const joined = async (org) => {
  const { user } = await newUser();
  await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'admin')`, [org, user]);
  return user;
};

test('of two pushes from one base one is a version, and the other a conflict', async () => {
  const { user, org } = await newTenant();
  const first = await atOnce(8, (n) => queryAs(user, PUSH, ['new', JSON.stringify(`text ${n}`), 0]));
  assert.equal(first.filter(({ rows: made }) => made).length, 1);
  assert.ok(first.filter(({ refused }) => refused).length === 7, JSON.stringify(first));
  assert.equal((await versionsOf(org, 'new')).length, 1);
  const later = await atOnce(8, (n) => queryAs(user, PUSH, ['new', JSON.stringify(`more ${n}`), 1]));
  assert.equal(later.filter(({ rows: made }) => made).length, 1);
  assert.deepEqual(
    (await versionsOf(org, 'new')).map(({ version }) => version),
    [1, 2],
  );
  // Without a base all are versions, each of its own number.
  await atOnce(8, (n) => queryAs(user, PUSH, ['new', JSON.stringify(`any ${n}`), null]));
  assert.deepEqual(
    (await versionsOf(org, 'new')).map(({ version }) => version),
    Array.from({ length: 10 }, (_, n) => n + 1),
  );
  // The same text eight times is one.
  await atOnce(8, () => queryAs(user, PUSH, ['new', '"same"', null]));
  assert.equal((await versionsOf(org, 'new')).length, 11);
});

test('a push that waits for the deletion of its prompt makes a new one', async () => {
  const { user, org } = await newTenant();
  await queryAs(user, PUSH, ['a', '"one"', null]);
  await queryAs(user, PUSH, ['a', '"two"', null]);
  const [deleter, pusher] = [await begin(), await begin(user)];
  await deleter.run('select id from public.prompts where org_id = $1 for no key update', [org]);
  const push = pusher.run(PUSH, ['a', '"three"', null]);
  await waiting(pusher);
  await deleter.run('delete from public.prompts where org_id = $1', [org]);
  await deleter.commit();
  assert.equal((await push).pushed?.version, 1, JSON.stringify(await push));
  await pusher.commit();
  assert.deepEqual(await versionsOf(org, 'a'), [{ version: 1, text: 'three' }]);
});

test('of two decisions at once one counts', async () => {
  const { user, org } = await newTenant();
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  const judges = [await joined(org), await joined(org), await joined(org)];
  await queryAs(user, PUSH, ['a', '"one"', null]);
  await queryAs(user, PUSH, ['a', '"two"', null]);
  await pool.query(`insert into public.prompt_settings (org_id, protected_labels) values ($1, '{production}')`, [org]);
  for (let round = 0; round < 3; round += 1) {
    // Where the label is already, there is nothing to approve.
    const version = (await labelOf(org, 'a', 'production')) === 1 ? 2 : 1;
    const asked = await queryAs(user, LABEL, ['a', 'production', version]);
    const id = asked.rows[0].answer.approval_id;
    const answers = await atOnce(3, (n) => queryAs(judges[n], `select public.${n === 1 ? 'reject' : 'approve'}_change($1)`, [id]));
    const counted = answers.filter(({ rows: made }) => made);
    assert.equal(counted.length, 1, JSON.stringify(answers));
    const { status } = await one('select status from public.approvals where id = $1', [id]);
    const changes = await rows('select to_version from public.prompt_label_changes where approval_id = $1', [id]);
    assert.deepEqual(
      changes.map((change) => change.to_version),
      status === 'approved' ? [version] : [],
    );
  }
  // Two requests at once: one is made.
  const asked = await atOnce(4, () => queryAs(user, LABEL, ['a', 'production', 2]));
  const current = await labelOf(org, 'a', 'production');
  assert.equal(asked.filter(({ rows: made }) => made).length, current === 2 ? 4 : 1, JSON.stringify(asked));
});

test('an approval that waits for a label that moves meanwhile is a conflict', async () => {
  const { user, org } = await newTenant();
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  const judge = await joined(org);
  await queryAs(user, PUSH, ['a', '"one"', null]);
  await queryAs(user, PUSH, ['a', '"two"', null]);
  await pool.query(`insert into public.prompt_settings (org_id, protected_labels) values ($1, '{production}')`, [org]);
  const asked = await queryAs(user, LABEL, ['a', 'production', 1]);
  await pool.query('delete from public.prompt_settings where org_id = $1', [org]);
  const [mover, decider] = [await begin(user), await begin(judge)];
  await mover.run(LABEL, ['a', 'production', 2]);
  const decision = decider.run('select public.approve_change($1)', [asked.rows[0].answer.approval_id]);
  await waiting(decider);
  await mover.commit();
  assert.ok((await decision).refused, 'the label has moved since');
  await decider.run('rollback');
  await decider.commit();
  assert.equal(await labelOf(org, 'a', 'production'), 2);
});

test('a request for what is being approved is refused, and does not deadlock with the approval', async () => {
  const { user, org } = await newTenant();
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  const judge = await joined(org);
  await queryAs(user, PUSH, ['a', '"one"', null]);
  await queryAs(user, PUSH, ['a', '"two"', null]);
  await pool.query(`insert into public.prompt_settings (org_id, protected_labels) values ($1, '{production}')`, [org]);
  const asked = await queryAs(user, LABEL, ['a', 'production', 1]);
  const [mover, decider] = [await begin(user), await begin(judge)];
  await mover.run(LABEL, ['a', 'staging', 1]);
  const decision = decider.run('select public.approve_change($1)', [asked.rows[0].answer.approval_id]);
  await waiting(decider);
  assert.equal((await mover.run(LABEL, ['a', 'production', 2])).refused, 'KJ409');
  await mover.run('rollback');
  await mover.commit();
  assert.equal((await decision).refused, undefined);
  await decider.commit();
  assert.equal(await labelOf(org, 'a', 'production'), 1);
});

test('a label that moves while an execution starts is used by the next one only', async () => {
  const { user, org } = await newTenant();
  await queryAs(user, PUSH, ['a', '"one"', null]);
  await queryAs(user, PUSH, ['a', '"two"', null]);
  await queryAs(user, LABEL, ['a', 'production', 1]);
  const { id: skill } = await one(`insert into public.skills (org_id, name, prompt_path) values ($1, 'race', 'a') returning id`, [org]);
  const queue = async () => {
    const session = await pool.connect();
    try {
      await session.query('begin');
      await becomeUser(session, user);
      const { rows: made } = await session.query('select job_id from public.execute_skill($1)', [skill]);
      await session.query('reset session authorization');
      // As a worker that has claimed it, before the stack's own can.
      await session.query(
        `update public.jobs set status = 'running', locked_by = 'race', locked_until = clock_timestamp() + interval '1 hour', attempt = 1 where id = $1`,
        [made[0].job_id],
      );
      await session.query('commit');
      return made[0].job_id;
    } finally {
      session.release(true);
    }
  };
  const start = async (job) => (await one(`select private.executions_start('race', $1) ->> 'prompt_template' as text`, [job]))?.text;
  const [before, during, next] = [await queue(), await queue(), await queue()];
  assert.equal(await start(before), 'one');
  await whileOpen(
    `update public.prompt_labels as l set version = 2 from public.prompts as p where p.id = l.prompt_id and p.org_id = $1`,
    [org],
    async (_, session) => {
      assert.equal(await start(during), 'one', 'what has not committed is not there');
      await session.query('commit');
    },
  );
  assert.deepEqual([await start(before), await start(during), await start(next)], ['one', 'one', 'two']);
  assert.deepEqual(
    (await rows('select prompt_version from public.executions where skill_id = $1 order by created_at', [skill])).map(
      (row) => row.prompt_version,
    ),
    [1, 1, 2],
  );
});
