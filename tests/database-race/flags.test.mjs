// Races of flags: what an approval relies on changes while somebody decides, writers meet at a limit, and workers share what is due.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.mjs';
import { begin, newUser, one, pool, rows, waiting } from './sessions.mjs';
import { atOnce, newTenant, promptly, queryAs, whileOpen } from './support.mjs';

const CONFLICT = 'KJ409';
const CHANGE = `select public.change_flag('checkout', 'production', $1, apply_at => $2) as answer`;
const APPROVE = 'select public.approve_change($1)';
const FOR_ALL = `update public.flag_constraints set "values" = '{beta,everybody}' where segment_id = $1`;

/** A flag with a segment that nothing uses yet, somebody who writes flags, and somebody who approves. */
async function newFlag({ isProtected = true } = {}) {
  const { user: writer, org } = await newTenant();
  const { user: judge } = await newUser();
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'admin')`, [org, judge]);
  await queryAs(writer, `insert into public.feature_flags (org_id, name) values ($1, 'checkout')`, [org]);
  const made = await queryAs(
    writer,
    `select id from public.set_flag_segment('beta', '[{"contextName": "group", "operator": "IN", "values": ["beta"]}]')`,
  );
  const segment = made.rows[0].id;
  if (isProtected) await pool.query(`update public.flag_environments set protected = true where org_id = $1`, [org]);
  const change = JSON.stringify({ enabled: true, strategies: [{ name: 'default', segment_ids: [segment] }] });
  return { writer, judge, org, segment, change };
}

const enabledIn = async (org) => (await one(`select enabled_in from public.feature_flags where org_id = $1`, [org])).enabled_in;

/** An error ends the session's transaction. */
async function end(session, answer) {
  if (answer.refused) await session.run('rollback');
  await session.commit();
}

test('an approval that waits for a segment that changes meanwhile is a conflict', async () => {
  for (const [write, values] of [
    [FOR_ALL, (segment) => [segment]],
    [`select public.set_flag_segment('beta', '[]')`, () => []],
  ]) {
    const { writer, judge, org, segment, change } = await newFlag();
    const asked = await queryAs(writer, CHANGE, [change, null]);
    const [editor, decider] = [await begin(writer), await begin(judge)];
    assert.equal((await editor.run(write, values(segment))).refused, undefined, 'nothing protected uses the segment');
    const decision = decider.run(APPROVE, [asked.rows[0].answer.approval_id]);
    await waiting(decider);
    await editor.commit();
    assert.equal((await decision).refused, CONFLICT, write);
    await end(decider, await decision);
    assert.deepEqual(await enabledIn(org), []);
  }
});

test('a segment that is being approved is not written at the same moment', async () => {
  const { writer, judge, org, segment, change } = await newFlag();
  const asked = await queryAs(writer, CHANGE, [change, null]);
  const [editor, decider] = [await begin(writer), await begin(judge)];
  assert.equal((await decider.run(APPROVE, [asked.rows[0].answer.approval_id])).refused, undefined);
  const edit = editor.run(FOR_ALL, [segment]);
  await waiting(editor);
  await decider.commit();
  assert.equal((await edit).refused, CONFLICT);
  await end(editor, await edit);
  assert.deepEqual(await enabledIn(org), ['production']);
  assert.deepEqual(await rows('select "values" from public.flag_constraints where segment_id = $1', [segment]), [{ values: ['beta'] }]);
});

test('a change that waits until its environment is protected needs an approval', async () => {
  const { writer, judge, org, change } = await newFlag({ isProtected: false });
  const [protector, changer] = [await begin(judge), await begin(writer)];
  await protector.run(`select set_config('request.headers', $1, true)`, [JSON.stringify({ 'x-org-id': org })]);
  assert.equal((await protector.run(`select public.set_flag_environment('production', true)`)).refused, undefined);
  const changed = changer.run(CHANGE, [change, null]);
  await waiting(changer);
  await protector.commit();
  assert.equal((await changed).refused, CONFLICT);
  await end(changer, await changed);
  assert.deepEqual(await enabledIn(org), []);
});

test('changes of one moment are made in the order in which they were asked for, once, whoever makes them', async () => {
  const { writer, org } = await newFlag({ isProtected: false });
  const at = new Date(Date.now() + 3_600_000).toISOString();
  for (let n = 1; n <= 8; n += 1) {
    const strategies = [{ name: 'userWithId', parameters: { userIds: `user-${n}` } }];
    assert.ok((await queryAs(writer, CHANGE, [JSON.stringify({ enabled: n % 2 === 0, strategies }), at])).rows, `change ${n}`);
  }
  await pool.query(`update public.flag_changes set apply_at = date_trunc('minute', now()) - interval '1 minute' where org_id = $1`, [org]);
  // The stack's own job may make some of them. Who meets a flag that another one writes passes it over, so one of them goes on alone.
  await atOnce(4, async () => {
    for (let n = 0; n < 12; n += 1) await pool.query('select private.flags_run_due()');
  });
  await until('the changes', async () => {
    await pool.query('select private.flags_run_due()');
    return (await one(`select count(*)::int as n from public.flag_changes where org_id = $1 and status = 'scheduled'`, [org])).n === 0;
  });
  const [{ statuses }] = await rows(
    `select array_agg(c.status order by c.created_at) as statuses from public.flag_changes as c where c.org_id = $1`,
    [org],
  );
  assert.deepEqual(statuses, Array(8).fill('applied'));
  assert.deepEqual(await enabledIn(org), ['production']);
  assert.deepEqual(await rows('select parameters from public.flag_strategies where org_id = $1', [org]), [
    { parameters: { userIds: 'user-8' } },
  ]);
});

test('writers at once meet the limits of 500 flags and 256 KiB exactly', async () => {
  const { writer, org } = await newFlag({ isProtected: false });
  const add = (name, description) =>
    queryAs(writer, `insert into public.feature_flags (org_id, name, description) values ($1, $2, $3)`, [org, name, description]);
  await pool.query(`insert into public.feature_flags (org_id, name) select $1, 'flag-' || n from generate_series(1, 495) as n`, [org]);
  const added = await atOnce(8, (n) => add(`more-${n}`, ''));
  assert.equal(added.filter(({ refused }) => !refused).length, 4, JSON.stringify(added));
  assert.equal((await one('select count(*)::int as n from public.feature_flags where org_id = $1', [org])).n, 500);

  await pool.query(`delete from public.feature_flags where org_id = $1 and name like 'flag-%'`, [org]);
  const size = async () => Number((await one('select private.flags_size($1) as bytes', [org])).bytes);
  const left = async () => 262_144 - (await size());
  const addSegment = (name, texts) =>
    queryAs(writer, 'select public.set_flag_segment($1, $2)', [
      name,
      JSON.stringify([{ contextName: 'group', operator: 'IN', values: Array(texts).fill('x'.repeat(450)) }]),
    ]);
  for (let n = 0; (await left()) > 9_000; n += 1) assert.equal((await addSegment(`large-${n}`, 10)).refused, undefined);
  for (let n = 0; (await left()) > 3_500; n += 1) assert.equal((await addSegment(`small-${n}`, 1)).refused, undefined);
  // Eight flags that take a quarter of the rest.
  const bytes = Math.floor((await left()) / 4) - 'exact-0'.length;
  const last = (await left()) - 4 * (bytes + 'exact-0'.length);
  const grown = await atOnce(8, (n) => add(`exact-${n}`, 'x'.repeat(bytes)));
  assert.equal(grown.filter(({ refused }) => !refused).length, 4, JSON.stringify(grown));
  assert.equal(await left(), last);
  const fill = (more) =>
    queryAs(writer, `update public.feature_flags set description = $2 where org_id = $1 and name = 'checkout'`, [org, 'x'.repeat(more)]);
  assert.ok((await fill(last + 1)).refused, 'one byte more');
  assert.equal((await fill(last)).refused, undefined, 'to the last byte');
  assert.equal(await size(), 262_144);
});

// Otherwise those who lock the flags and then write a row in the user's name end in a deadlock with the deletion.
test('the deletion of a user who made flags does not wait for who has locked the flags', async () => {
  const { judge, org } = await newFlag();
  const made = await queryAs(judge, `insert into public.feature_flags (org_id, name) values ($1, 'theirs') returning created_by`, [org]);
  assert.deepEqual(made.rows, [{ created_by: judge }]);
  await whileOpen('select private.flags_lock($1)', [org], () => promptly('delete from auth.users where id = $1', [judge]));
  assert.deepEqual(await rows(`select created_by from public.feature_flags where org_id = $1 and name = 'theirs'`, [org]), [
    { created_by: null },
  ]);
});
