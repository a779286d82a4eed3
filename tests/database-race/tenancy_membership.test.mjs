// Joining, leaving and making organizations from several sessions at once. What has to wait is held open here, so that
// each test also sees that a session waited.
//   ADMIN_DB_URL=… node --test tests/database-race/*.test.mjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { asUser, begin, newUser, one, pool, rows, waiting } from './sessions.mjs';

const invite = async (user, role = 'viewer', org = null) => {
  const session = await begin(user);
  if (org) await session.run(`select set_config('request.headers', $1, true)`, [JSON.stringify({ 'x-org-id': org })]);
  const answer = await session.run(`select (i).* from public.invite_member($1, $2) as i`, [`${randomUUID()}@example.test`, role]);
  await session.commit();
  return answer;
};
const ACCEPT = 'select id from public.accept_invitation($1)';
const members = async (org) =>
  (await rows('select user_id, role from public.memberships where org_id = $1', [org]))
    .map(({ user_id: id, role }) => `${id} ${role}`)
    .sort();

test('a user who accepts an invitation twice at once gets one membership', async () => {
  const [host, guest] = [await newUser(), await newUser()];
  const { token } = await invite(host.user);
  const [first, second] = [await begin(guest.user), await begin(guest.user)];
  const joined = await first.run(ACCEPT, [token]);
  const again = second.run(ACCEPT, [token]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await again, joined);
  await second.commit();
  assert.equal((await members(host.org)).length, 2);
});

test('when two users accept one token, the second waits and finds it used', async () => {
  const [host, one_, two] = [await newUser(), await newUser(), await newUser()];
  const { token } = await invite(host.user);
  const [first, second] = [await begin(one_.user), await begin(two.user)];
  await first.run(ACCEPT, [token]);
  const late = second.run(ACCEPT, [token]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: 'P0002' });
  await second.commit();
  assert.equal((await members(host.org)).length, 2);
});

test('of ten users with twenty sessions and one token, one becomes a member', async () => {
  const host = await newUser();
  const guests = await Promise.all(Array.from({ length: 10 }, newUser));
  const { token } = await invite(host.user);
  const answers = await Promise.all([...guests, ...guests].map(({ user }) => asUser(user, ACCEPT, [token])));
  assert.deepEqual([...new Set(answers.map((answer) => answer.refused))].sort(), ['P0002', undefined]);
  assert.equal(new Set(answers.filter((answer) => answer.id).map((answer) => answer.id)).size, 1);
  assert.equal((await members(host.org)).length, 2);
});

test('revoking an invitation waits for a user who is accepting it, and comes too late', async () => {
  const [host, guest] = [await newUser(), await newUser()];
  const { id, token } = await invite(host.user);
  const [accepting, revoking] = [await begin(guest.user), await begin(host.user)];
  await accepting.run(ACCEPT, [token]);
  const late = revoking.run('select status from public.revoke_invitation($1)', [id]);
  await waiting(revoking);
  await accepting.commit();
  assert.deepEqual(await late, { refused: 'KJ409' });
  await revoking.commit();
});

test('when ten users accept at once and one seat is left, one becomes a member', async () => {
  const host = await newUser();
  const guests = await Promise.all(Array.from({ length: 10 }, newUser));
  const tokens = await Promise.all(guests.map(async () => (await invite(host.user)).token));
  const answers = await Promise.all(guests.map(({ user }, n) => asUser(user, ACCEPT, [tokens[n]])));
  assert.equal(answers.filter((answer) => answer.id).length, 2, 'FREE has three seats');
  assert.deepEqual([...new Set(answers.filter((answer) => !answer.id).map((answer) => answer.refused))], ['KJ429']);
  assert.equal((await one(`select count(*)::int as n from public.invitations where org_id = $1 and status = 'pending'`, [host.org])).n, 8);
});

test('of invitations of one address created at once, one stays open', async () => {
  const host = await newUser();
  const email = `${randomUUID()}@example.test`;
  // As many as one mailbox gets of organizations in an hour.
  const { n } = await one('select organizations_mailbox_per_hour as n from private.mail_settings');
  const answers = await Promise.all(
    Array.from({ length: n }, () => asUser(host.user, 'select token from public.invite_member($1)', [email])),
  );
  assert.equal(answers.filter((answer) => answer.token).length, n);
  assert.equal((await one('select count(*)::int as n from public.invitations where org_id = $1', [host.org])).n, 1);
});

test('when a user at one below the limit creates two organizations at once, the second is refused', async () => {
  const { user } = await newUser();
  for (let n = 0; n < 2; n += 1) await asUser(user, `select public.create_organization('before')`);
  const [first, second] = [await begin(user), await begin(user)];
  assert.equal((await first.run(`select (public.create_organization('third')).name`)).name, 'third');
  const late = second.run(`select (public.create_organization('fourth')).name`);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: 'KJ429' });
  await second.commit();
  assert.equal(
    (await one('select count(*)::int as n from public.organizations where created_by = $1 and personal_for is null', [user])).n,
    3,
  );
});

test('a user who accepts while the inviter is being deleted finds no invitation', async () => {
  const [host, guest] = [await newUser(), await newUser()];
  const { token } = await invite(host.user, 'owner');
  const [deleting, accepting] = [await begin(), await begin(guest.user)];
  await deleting.run('delete from auth.users where id = $1', [host.user]);
  const late = accepting.run(ACCEPT, [token]);
  await waiting(accepting);
  await deleting.commit();
  assert.deepEqual(await late, { refused: 'P0002' });
  await accepting.commit();
});

test('deleting a user waits for the invitation that the user is creating', async () => {
  const host = await newUser();
  const [holding, inviting, deleting] = [await begin(), await begin(host.user), await begin()];
  await holding.run('select id from public.organizations where id = $1 for no key update', [host.org]);
  const invitation = inviting.run('select (i).id from public.invite_member($1) as i', [`${randomUUID()}@example.test`]);
  await waiting(inviting);
  const gone = deleting.run('delete from auth.users where id = $1', [host.user]);
  await waiting(deleting);
  await holding.commit();
  assert.equal((await invitation).refused, undefined);
  await inviting.commit();
  assert.deepEqual(await gone, {});
  await deleting.commit();
});

test('deleting a user waits for the organization that the user is creating', async () => {
  const { user } = await newUser();
  await asUser(user, `select public.create_organization('first')`);
  const [holding, making, deleting] = [await begin(), await begin(user), await begin()];
  await holding.run('select user_id from private.plans_organizations_created where user_id = $1 for update', [user]);
  const made = making.run(`select (public.create_organization('second')).id`);
  await waiting(making);
  const gone = deleting.run('delete from auth.users where id = $1', [user]);
  await waiting(deleting);
  await holding.commit();
  assert.equal((await made).refused, undefined);
  await making.commit();
  assert.deepEqual(await gone, {});
  await deleting.commit();
});

test('a user who joined before the owner is deleted keeps the organization', async () => {
  for (const deletion of [
    'delete from auth.users where id = $1',
    `update auth.users set email = 'gone ' || id, deleted_at = now() where id = $1`,
  ]) {
    const [host, guest] = [await newUser(), await newUser()];
    const { token } = await invite(host.user, 'viewer');
    const [deleting, accepting] = [await begin(), await begin(guest.user)];
    await accepting.run(ACCEPT, [token]);
    const gone = deleting.run(deletion, [host.user]);
    await waiting(deleting);
    await accepting.commit();
    assert.deepEqual(await gone, {});
    await deleting.commit();
    assert.deepEqual(await members(host.org), [`${guest.user} owner`]);
  }
});

test('a user who is soft-deleted while accepting an invitation joins nothing', async () => {
  const [host, guest] = [await newUser(), await newUser()];
  const { token } = await invite(host.user);
  const [deleting, accepting] = [await begin(), await begin(guest.user)];
  await deleting.run(`update auth.users set email = 'gone ' || id, deleted_at = now() where id = $1`, [guest.user]);
  const late = accepting.run(ACCEPT, [token]);
  await waiting(accepting);
  await deleting.commit();
  assert.deepEqual(await late, { refused: '28000' });
  await accepting.commit();
  assert.equal((await members(host.org)).length, 1);
});

test('one statement can delete owners, their successors and the users they invited', async () => {
  for (const deletion of [
    'delete from auth.users where id = any($1)',
    `update auth.users set email = 'gone ' || id, deleted_at = now() where id = any($1)`,
  ]) {
    const [host, guest, other, member] = [await newUser(), await newUser(), await newUser(), await newUser()];
    await asUser(guest.user, ACCEPT, [(await invite(host.user)).token]);
    await asUser(host.user, ACCEPT, [(await invite(guest.user, 'owner')).token]);
    await asUser(member.user, ACCEPT, [(await invite(other.user)).token]);
    await asUser(host.user, ACCEPT, [(await invite(other.user, 'owner')).token]);
    const gone = [host.user, guest.user, other.user];
    assert.deepEqual(await asUser(null, deletion, [gone]), {});
    assert.deepEqual(await rows('select user_id from public.memberships where user_id = any($1)', [gone]), []);
    assert.deepEqual(await rows('select id from public.organizations where id = any($1)', [[host.org, guest.org]]), []);
    assert.deepEqual(await members(other.org), [`${member.user} owner`]);
  }
});

test('when one statement deletes an owner and the invited successor, the next member becomes owner', async () => {
  const [gone, stay] = [[], []];
  // Several, because which of two comes first in a statement is not ours to say.
  for (let n = 0; n < 6; n += 1) {
    const [owner, heir, third] = [await newUser(), await newUser(), await newUser()];
    await asUser(heir.user, ACCEPT, [(await invite(owner.user, 'admin')).token]);
    await asUser(third.user, ACCEPT, [(await invite(owner.user, 'viewer')).token]);
    gone.push(owner.user, heir.user);
    stay.push({ org: owner.org, third });
  }
  assert.deepEqual(await asUser(null, 'delete from auth.users where id = any($1)', [gone]), {});
  for (const { org, third } of stay) assert.deepEqual(await members(org), [`${third.user} owner`]);
});

test('when two owners are deleted at once, the second deletion waits and sees that it removes the last owner', async () => {
  const [first, second, member] = [await newUser(), await newUser(), await newUser()];
  for (const [{ user }, role] of [
    [second, 'owner'],
    [member, 'viewer'],
  ]) {
    await pool.query('insert into public.memberships (org_id, user_id, role) values ($1, $2, $3)', [first.org, user, role]);
  }
  const [one_, two] = [await begin(), await begin()];
  await one_.run('delete from auth.users where id = $1', [first.user]);
  const late = two.run('delete from auth.users where id = $1', [second.user]);
  await waiting(two);
  await one_.commit();
  assert.deepEqual(await late, {});
  await two.commit();
  assert.deepEqual(await members(first.org), [`${member.user} owner`]);
});

test('when all owners are deleted at once, the next member becomes owner', async () => {
  const owners = [await newUser(), await newUser(), await newUser()];
  const { id: org } = await asUser(owners[0].user, `select (public.create_organization('shared')).id`);
  await pool.query('select kijko.set_limit($1, $2, $3, null)', [org, 'members', 'lifetime']);
  const member = await newUser();
  for (const [{ user }, role] of [
    [owners[1], 'owner'],
    [owners[2], 'owner'],
    [member, 'viewer'],
  ]) {
    await pool.query('insert into public.memberships (org_id, user_id, role) values ($1, $2, $3)', [org, user, role]);
  }
  const answers = await Promise.all(owners.map(({ user }) => asUser(null, 'delete from auth.users where id = $1', [user])));
  assert.deepEqual(answers, [{}, {}, {}]);
  assert.deepEqual(await members(org), [`${member.user} owner`]);
});

test('when the successor leaves while the last owner is being deleted, the next member becomes owner', async () => {
  const [owner, heir, third] = [await newUser(), await newUser(), await newUser()];
  const { id: org } = await asUser(owner.user, `select (public.create_organization('shared')).id`);
  for (const [{ user }, role] of [
    [heir, 'admin'],
    [third, 'viewer'],
  ]) {
    await pool.query('insert into public.memberships (org_id, user_id, role) values ($1, $2, $3)', [org, user, role]);
  }
  const [leaving, deleting] = [await begin(heir.user), await begin()];
  await leaving.run('delete from public.memberships where org_id = $1 and user_id = $2', [org, heir.user]);
  const gone = deleting.run('delete from auth.users where id = $1', [owner.user]);
  await waiting(deleting);
  await leaving.commit();
  assert.deepEqual(await gone, {});
  await deleting.commit();
  assert.deepEqual(await members(org), [`${third.user} owner`]);
});

test('two users who join one personal organization at once do not deadlock', async () => {
  const host = await newUser();
  const guests = [await newUser(), await newUser()];
  const sessions = [await begin(), await begin()];
  const join = (n) =>
    sessions[n].run('insert into public.memberships (org_id, user_id, role) values ($1, $2, $3)', [host.org, guests[n].user, 'viewer']);
  assert.deepEqual(await join(0), {});
  const late = join(1);
  await waiting(sessions[1]);
  await sessions[0].commit();
  assert.deepEqual(await late, {});
  await sessions[1].commit();
  assert.equal((await one('select personal_for from public.organizations where id = $1', [host.org])).personal_for, null);
});

test('deleting an organization while its plan changes waits and does not deadlock', async () => {
  const host = await newUser();
  const [holder, deleting, changing] = [await begin(), await begin(), await begin()];
  // The deletion holds the subscription that the change waits for. At its commit it waits for the member's profile, whose tier
  // it sets and which a third transaction holds.
  await holder.run('select 1 from public.profiles where id = $1 for update', [host.user]);
  assert.deepEqual(await deleting.run('delete from public.organizations where id = $1 returning id', [host.org]), { id: host.org });
  const changed = changing.run(`update public.subscriptions set plan = 'PRO' where org_id = $1 returning plan`, [host.org]);
  await waiting(changing);
  const committed = deleting.commit();
  await waiting(deleting);
  await holder.commit();
  await committed;
  assert.deepEqual(await changed, {}, 'the subscription is gone');
  await changing.commit();
});

test('two organizations with common members are deleted at once', async () => {
  const people = await Promise.all(Array.from({ length: 8 }, newUser));
  const together = async (members) => {
    const { id } = await one(`insert into public.organizations (name) values ('Common') returning id`);
    await pool.query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [id]);
    for (const { user } of members)
      await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'owner')`, [id, user]);
    return id;
  };
  for (let round = 0; round < 5; round += 1) {
    const orgs = [await together(people), await together([...people].reverse())];
    await pool.query(
      `insert into private.active_organizations (user_id, active_org_id)
       select m.user_id, m.org_id from public.memberships as m where m.org_id = $1
       on conflict (user_id) do update set active_org_id = excluded.active_org_id`,
      [orgs[round % 2]],
    );
    await Promise.all(orgs.map((id) => pool.query('delete from public.organizations where id = $1', [id])));
  }
});
