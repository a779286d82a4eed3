// Custom roles that are changed, deleted, assigned and offered by invitations at once.
//   ADMIN_DB_URL=… node --test tests/database-race/tenancy_roles.test.mjs
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { asUser, begin, newUser, one, pool, waiting } from './sessions.mjs';

const ASSIGN = 'update public.memberships set custom_role_id = $1 where org_id = $2 and user_id = $3 returning id';
const EDIT = 'update public.custom_roles set permissions = $1 where id = $2 returning id';
const DELETE = 'delete from public.custom_roles where id = $1 returning id';
const INVITE = 'select (i).* from public.invite_member($1, $2, $3) as i';
const ACCEPT = 'select role, custom_role_id from public.accept_invitation($1)';

const join = (org, { user }, role, customRole = null) =>
  pool.query('insert into public.memberships (org_id, user_id, role, custom_role_id) values ($1, $2, $3, $4)', [
    org,
    user,
    role,
    customRole,
  ]);
const define = async (org, permissions, base = 'viewer') =>
  (
    await one('insert into public.custom_roles (org_id, name, base_role, permissions) values ($1, $2, $3, $4) returning id', [
      org,
      randomUUID(),
      base,
      permissions,
    ])
  ).id;
const roleOf = async (org, { user }) => {
  const { role, custom_role_id } = await one('select role, custom_role_id from public.memberships where org_id = $1 and user_id = $2', [
    org,
    user,
  ]);
  return [role, custom_role_id];
};
/** An organization on TEAMS with its owner, an admin and a member. */
async function newTeam() {
  const [owner, admin, member] = [await newUser(), await newUser(), await newUser()];
  const { org } = owner;
  await pool.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  await join(org, admin, 'admin');
  await join(org, member, 'member');
  return { org, owner, admin, member };
}
const inOrg = async (session, org) => {
  await session.run(`select set_config('request.headers', $1, true)`, [JSON.stringify({ 'x-org-id': org })]);
  return session;
};

test('a role that gets a permission while it is assigned is compared as it is then', async () => {
  const { org, owner, admin, member } = await newTeam();
  const role = await define(org, ['skills:read']);
  const [editing, assigning] = [await begin(owner.user), await begin(admin.user)];
  assert.deepEqual(await editing.run(EDIT, [['billing:write'], role]), { id: role });
  const assigned = assigning.run(ASSIGN, [role, org, member.user]);
  await waiting(assigning);
  await editing.commit();
  assert.deepEqual(await assigned, { refused: '42501' });
  await assigning.commit();
  assert.deepEqual(await roleOf(org, member), ['member', null]);
});

test('a base role that changes while the role is assigned is the role of its new member, too', async () => {
  const { org, owner, admin, member } = await newTeam();
  const role = await define(org, ['skills:read']);
  const [assigning, editing] = [await begin(admin.user), await begin(owner.user)];
  await assigning.run(ASSIGN, [role, org, member.user]);
  const edited = editing.run(`update public.custom_roles set base_role = 'admin' where id = $1 returning id`, [role]);
  await waiting(editing);
  await assigning.commit();
  assert.deepEqual(await edited, { id: role });
  await editing.commit();
  assert.deepEqual(await roleOf(org, member), ['admin', role]);
});

test('a role is not deleted while it is assigned, nor assigned while it is deleted', async () => {
  const { org, owner, admin, member } = await newTeam();
  const role = await define(org, ['skills:read']);
  const [assigning, deleting] = [await begin(admin.user), await begin(owner.user)];
  await assigning.run(ASSIGN, [role, org, member.user]);
  const deleted = deleting.run(DELETE, [role]);
  await waiting(deleting);
  await assigning.commit();
  assert.deepEqual(await deleted, { refused: 'KJ409' });
  await deleting.commit();

  const other = await define(org, ['skills:read']);
  const [first, second] = [await begin(owner.user), await begin(admin.user)];
  assert.deepEqual(await first.run(DELETE, [other]), { id: other });
  const late = second.run(ASSIGN, [other, org, member.user]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: '22000' });
  await second.commit();
  assert.deepEqual(await roleOf(org, member), ['viewer', role]);
});

test('a role is not deleted while an invitation names it, nor named while it is deleted', async () => {
  const { org, owner, admin } = await newTeam();
  const role = await define(org, ['skills:read']);
  const [inviting, deleting] = [await inOrg(await begin(admin.user), org), await begin(owner.user)];
  assert.equal((await inviting.run(INVITE, [`${randomUUID()}@example.test`, 'viewer', role])).custom_role_id, role);
  const deleted = deleting.run(DELETE, [role]);
  await waiting(deleting);
  await inviting.commit();
  assert.deepEqual(await deleted, { refused: 'KJ409' });
  await deleting.commit();

  const other = await define(org, ['skills:read']);
  const [first, second] = [await begin(owner.user), await inOrg(await begin(admin.user), org)];
  assert.deepEqual(await first.run(DELETE, [other]), { id: other });
  const late = second.run(INVITE, [`${randomUUID()}@example.test`, 'viewer', other]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await late, { refused: '22000' });
  await second.commit();
});

test('a role that gets a permission while an invitation is accepted must still be one that its sender may grant', async () => {
  const { org, owner, admin } = await newTeam();
  const guest = await newUser();
  const role = await define(org, ['skills:read']);
  const inviting = await inOrg(await begin(admin.user), org);
  const { token } = await inviting.run(INVITE, [`${randomUUID()}@example.test`, 'viewer', role]);
  await inviting.commit();
  const [editing, accepting] = [await begin(owner.user), await begin(guest.user)];
  await editing.run(EDIT, [['billing:write'], role]);
  const accepted = accepting.run(ACCEPT, [token]);
  await waiting(accepting);
  await editing.commit();
  assert.deepEqual(await accepted, { refused: '42501' });
  await accepting.commit();
});

test('a member who changes their own role after a permission was taken from it does not get it back', async () => {
  const { org, owner } = await newTeam();
  const manager = await newUser();
  const role = await define(org, ['roles:read', 'roles:write', 'skills:write']);
  await join(org, manager, 'viewer', role);
  const [taking, keeping] = [await begin(owner.user), await begin(manager.user)];
  await taking.run(EDIT, [['roles:read', 'roles:write'], role]);
  const kept = keeping.run(EDIT, [['roles:read', 'roles:write', 'skills:write'], role]);
  await waiting(keeping);
  await taking.commit();
  assert.deepEqual(await kept, { refused: '42501' });
  await keeping.commit();
});

test('an invitation is sent again and accepted at once: one token counts', async () => {
  const { org, owner } = await newTeam();
  const guest = await newUser();
  const inviting = await inOrg(await begin(owner.user), org);
  const { id, token } = await inviting.run(INVITE, [`${randomUUID()}@example.test`, 'viewer', null]);
  await inviting.commit();
  const [sending, accepting] = [await begin(owner.user), await begin(guest.user)];
  const again = await sending.run('select token from public.resend_invitation($1)', [id]);
  const late = accepting.run(ACCEPT, [token]);
  await waiting(accepting);
  await sending.commit();
  assert.deepEqual(await late, { refused: 'P0002' });
  await accepting.commit();
  assert.equal((await asUser(guest.user, ACCEPT, [again.token])).role, 'viewer');
});

test('an organization is deleted while its roles are assigned', async () => {
  const { org, owner, admin, member } = await newTeam();
  const role = await define(org, ['skills:read']);
  await join(org, await newUser(), 'viewer', role);
  const [assigning, deleting] = [await begin(admin.user), await begin(owner.user)];
  await assigning.run(ASSIGN, [role, org, member.user]);
  const deleted = deleting.run('delete from public.organizations where id = $1 returning id', [org]);
  await waiting(deleting);
  await assigning.commit();
  assert.deepEqual(await deleted, { id: org });
  await deleting.commit();
  assert.equal((await one('select count(*)::int as n from public.custom_roles where org_id = $1', [org])).n, 0);
});
