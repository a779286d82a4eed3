// An organization requires a second factor while its members are changed and join: no membership is left out, and none waits for
// the other way round.
//   ADMIN_DB_URL=… node --test tests/database-race/tenancy_second_factor.test.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, newUser, one, pool, waiting } from './sessions.mjs';

const REQUIRE = 'update public.organizations set mfa_required = true where id = $1 returning id';
const CHANGE = `update public.memberships set role = 'viewer' where org_id = $1 and user_id = $2 returning role`;
const JOIN = `insert into public.memberships (org_id, user_id, role) values ($1, $2, 'viewer') returning role`;
const isRequired = async (org) =>
  (await one('select array_agg(distinct m.mfa_required) as values from public.memberships as m where m.org_id = $1', [org])).values;

async function newOrg() {
  const [owner, other] = [await newUser(), await newUser()];
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [owner.org]);
  await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'owner')`, [owner.org, other.user]);
  return { org: owner.org, owner, other };
}

test('it waits for an owner who is demoted', async () => {
  const { org, other } = await newOrg();
  const [demoting, requiring] = [await begin(), await begin()];
  assert.deepEqual(await demoting.run(CHANGE, [org, other.user]), { role: 'viewer' });
  const required = requiring.run(REQUIRE, [org]);
  await waiting(requiring);
  await demoting.commit();
  assert.deepEqual(await required, { id: org });
  await requiring.commit();
  assert.deepEqual(await isRequired(org), [true]);
});

test('a member whose role is being changed refuses it with conflict', async () => {
  const { org, other } = await newOrg();
  await pool.query(`update public.memberships set role = 'member' where org_id = $1 and user_id = $2`, [org, other.user]);
  const [changing, requiring] = [await begin(), await begin()];
  assert.deepEqual(await changing.run(CHANGE, [org, other.user]), { role: 'viewer' });
  assert.deepEqual(await requiring.run(REQUIRE, [org]), { refused: 'KJ409' });
  await requiring.commit();
  await changing.commit();
  assert.deepEqual(await isRequired(org), [false]);
});

test('who joins meanwhile has it, whichever is first', async () => {
  for (const first of ['require', 'join']) {
    const { org } = await newOrg();
    const { user } = await newUser();
    const [requiring, joining] = [await begin(), await begin()];
    const require = () => requiring.run(REQUIRE, [org]);
    const join = () => joining.run(JOIN, [org, user]);
    const [one, two, leading, following] = first === 'require' ? [require, join, requiring, joining] : [join, require, joining, requiring];
    await one();
    const waited = two();
    await waiting(following);
    await leading.commit();
    await waited;
    await following.commit();
    assert.deepEqual(await isRequired(org), [true], first);
  }
});
