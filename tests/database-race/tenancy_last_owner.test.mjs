// Owners who leave, are demoted, banned, deleted and replaced at once: one who can sign in remains.
//   ADMIN_DB_URL=… node --test tests/database-race/tenancy_last_owner.test.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, newUser, one, pool, rows, waiting } from './sessions.mjs';

const LEAVE = 'delete from public.memberships where org_id = $1 and user_id = $2 returning user_id';
const DEMOTE = `update public.memberships set role = 'admin' where org_id = $1 and user_id = $2 returning user_id`;
const TRANSFER = 'select role from public.transfer_ownership($1, $2)';
const BAN = `update auth.users set banned_until = 'infinity' where id = $1 returning id`;
const DELETE_USER = 'delete from auth.users where id = $1';
const HOLD = 'select id from public.organizations where id = $1 for update';

/** An organization that two users own, with an admin. */
async function newTeam() {
  const [ada, bob, adm] = [await newUser(), await newUser(), await newUser()];
  const { id: org } = await one(`insert into public.organizations (name) values ('Owners') returning id`);
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  for (const [{ user }, role] of [
    [ada, 'owner'],
    [bob, 'owner'],
    [adm, 'admin'],
  ])
    await pool.query('insert into public.memberships (org_id, user_id, role) values ($1, $2, $3)', [org, user, role]);
  return { org, ada: ada.user, bob: bob.user, adm: adm.user };
}
const owners = async (org) =>
  (await rows(`select user_id from public.memberships where org_id = $1 and role = 'owner'`, [org])).map((row) => row.user_id);

test('an owner cannot leave while the other one is being banned', async () => {
  const { org, ada, bob } = await newTeam();
  const [banning, leaving] = [await begin(), await begin(ada)];
  assert.deepEqual(await banning.run(BAN, [bob]), { id: bob });
  const left = leaving.run(LEAVE, [org, ada]);
  await waiting(leaving);
  await banning.commit();
  assert.deepEqual(await left, { refused: 'KJ409' });
  await leaving.commit();
});

test('a ban does not wait for the other owner who is leaving', async () => {
  const { org, ada, bob } = await newTeam();
  const [leaving, banning] = [await begin(ada), await begin()];
  await leaving.run(LEAVE, [org, ada]);
  await banning.run(`set local lock_timeout = '1min'`);
  assert.deepEqual(await banning.run(BAN, [bob]), { id: bob });
  await banning.commit();
  await leaving.commit();
  assert.deepEqual(await owners(org), [bob], 'as if the ban had come later');
});

test('when two owners demote each other, one remains', async () => {
  const { org, ada, bob } = await newTeam();
  const [first, second] = [await begin(ada), await begin(bob)];
  assert.deepEqual(await first.run(DEMOTE, [org, bob]), { user_id: bob });
  const late = second.run(DEMOTE, [org, ada]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: '42501' });
  await second.commit();
  assert.deepEqual(await owners(org), [ada]);
});

test('an owner who is demoted does not remove an owner in the meantime, also if others remain', async () => {
  const { org, ada, bob, adm } = await newTeam();
  await pool.query(`update public.memberships set role = 'owner' where org_id = $1 and user_id = $2`, [org, adm]);
  const [first, second] = [await begin(ada), await begin(bob)];
  assert.deepEqual(await first.run(DEMOTE, [org, bob]), { user_id: bob });
  const late = second.run(LEAVE, [org, adm]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: '42501' });
  await second.commit();
  assert.deepEqual((await owners(org)).sort(), [ada, adm].sort());
});

test('an owner who hands over and leaves at once does not deadlock', async () => {
  const { org, ada, bob, adm } = await newTeam();
  const [holding, handing, leaving] = [await begin(), await begin(ada), await begin(ada)];
  await holding.run(HOLD, [org]);
  const handed = handing.run(TRANSFER, [org, adm]);
  await waiting(handing);
  const left = leaving.run(LEAVE, [org, ada]);
  await waiting(leaving);
  await holding.commit();
  assert.deepEqual(await handed, { role: 'owner' });
  await handing.commit();
  assert.deepEqual(await left, { user_id: ada });
  await leaving.commit();
  assert.deepEqual((await owners(org)).sort(), [bob, adm].sort());
});

test('an owner who is demoted while handing over can no longer do so', async () => {
  const { org, ada, bob, adm } = await newTeam();
  const [demoting, handing] = [await begin(bob), await begin(ada)];
  await demoting.run(DEMOTE, [org, ada]);
  const handed = handing.run(TRANSFER, [org, adm]);
  await waiting(handing);
  await demoting.commit();
  assert.deepEqual(await handed, { refused: '42501' });
  await handing.commit();
  assert.deepEqual(await owners(org), [bob]);
});

test('of two transfers by one owner the second is refused', async () => {
  const { org, ada, bob, adm } = await newTeam();
  const [first, second] = [await begin(ada), await begin(ada)];
  await first.run(TRANSFER, [org, adm]);
  const late = second.run(TRANSFER, [org, bob]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: '42501' });
  await second.commit();
  assert.deepEqual((await owners(org)).sort(), [bob, adm].sort());
});

test('a member who leaves while becoming the owner is not found', async () => {
  const { org, ada, bob, adm } = await newTeam();
  const [leaving, handing] = [await begin(adm), await begin(ada)];
  await leaving.run(LEAVE, [org, adm]);
  const handed = handing.run(TRANSFER, [org, adm]);
  await waiting(handing);
  await leaving.commit();
  assert.deepEqual(await handed, { refused: 'P0002' });
  await handing.commit();
  assert.deepEqual((await owners(org)).sort(), [ada, bob].sort());
});

test('an owner who is demoted while being deleted does not deadlock', async () => {
  const { org, ada, bob } = await newTeam();
  const [holding, deleting, demoting] = [await begin(), await begin(), await begin(bob)];
  await holding.run(HOLD, [org]);
  const deleted = deleting.run(DELETE_USER, [ada]);
  await waiting(deleting);
  const demoted = demoting.run(DEMOTE, [org, ada]);
  await waiting(demoting);
  await holding.commit();
  assert.deepEqual(await deleted, {});
  await deleting.commit();
  assert.deepEqual(await demoted, {}, 'the membership is gone');
  await demoting.commit();
  assert.deepEqual(await owners(org), [bob]);
});

test('the last owner who can sign in is deleted while the successor is being banned', async () => {
  const { org, ada, bob, adm } = await newTeam();
  const ban = await begin();
  await ban.run(BAN, [bob]);
  await ban.commit();
  const [banning, deleting] = [await begin(), await begin()];
  await banning.run(BAN, [adm]);
  assert.deepEqual(await deleting.run(DELETE_USER, [ada]), {}, 'it does not wait for the ban of a member');
  await deleting.commit();
  await banning.commit();
  assert.deepEqual((await owners(org)).sort(), [bob, adm].sort(), 'as if the ban had come after the deletion');
});
