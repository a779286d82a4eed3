// Custom roles: an organization defines them, and nobody gets more by them than somebody had.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { anonymous, join, newPerson, newSkill, newTeam, ok, refused, unaffected } from './domain.mjs';
import { admin } from './support.mjs';

const define = (person, orgId, fields) =>
  person.client
    .from('custom_roles')
    .insert({ org_id: orgId, ...fields })
    .select()
    .single();
const assign = (person, orgId, to, fields) =>
  person.client.from('memberships').update(fields).eq('org_id', orgId).eq('user_id', to.user.id).select('role, custom_role_id');

describe('custom roles', () => {
  let team;
  let auditor;
  before(async () => {
    team = await newTeam();
    await newSkill(team.owner);
    auditor = await newPerson();
    await join(auditor, team.orgId, 'viewer', team.owner);
    await ok(auditor.client.rpc('set_active_organization', { org_id: team.orgId }));
  });

  test('a non-member and an unauthenticated caller see, define and assign none', async () => {
    const role = await ok(define(team.owner, team.orgId, { name: 'Private', permissions: ['skills:read'] }));
    const { nonMember } = team;
    assert.deepEqual(await ok(nonMember.client.from('custom_roles').select('id')), []);
    await refused(define(nonMember, team.orgId, { name: 'Mine' }), 403, 'permission_denied');
    await refused(define(nonMember, randomUUID(), { name: 'Mine' }), 403, 'permission_denied');
    await unaffected(nonMember.client.from('custom_roles').update({ name: 'Mine' }).eq('id', role.id).select());
    await unaffected(nonMember.client.from('custom_roles').delete().eq('id', role.id).select());
    await unaffected(assign(nonMember, team.orgId, team.viewer, { custom_role_id: role.id }));
    for (const custom_role_id of [role.id, randomUUID()])
      await refused(assign(nonMember, nonMember.orgId, nonMember, { custom_role_id }), 422, 'invalid_input');
    assert.equal((await anonymous('GET', '/rest/v1/custom_roles')).status, 401);
    assert.equal((await anonymous('GET', '/rest/v1/rpc/permissions')).status, 401);
    await ok(team.owner.client.from('custom_roles').delete().eq('id', role.id));
  });

  test('viewers see roles and the catalogue, and define nothing', async () => {
    const role = await ok(define(team.admin, team.orgId, { name: 'Seen', permissions: ['*:read'] }));
    for (const person of [team.viewer, team.member]) {
      assert.equal((await ok(person.client.from('custom_roles').select('id').eq('id', role.id))).length, 1);
      const catalogue = await ok(person.client.rpc('permissions'));
      assert.ok(catalogue.every((line) => line.description.length > 0));
      assert.deepEqual(
        catalogue.find((line) => line.permission === 'skills:read'),
        { permission: 'skills:read', description: 'See skills and their prompts', wildcard: '*:read' },
      );
      assert.equal((await person.client.from('custom_roles').insert({ name: 'Mine' })).status, 403);
      await unaffected(person.client.from('custom_roles').delete().eq('id', role.id).select());
    }
  });

  test('a member with a custom role holds its permissions and no others, from the next request on', async () => {
    const role = await ok(
      define(team.admin, team.orgId, { name: 'Auditor', base_role: 'member', permissions: ['usage:read', 'organization:read'] }),
    );
    assert.deepEqual(await ok(assign(team.admin, team.orgId, auditor, { custom_role_id: role.id })), [
      { role: 'member', custom_role_id: role.id },
    ]);
    const can = (permission) => ok(auditor.client.rpc('can', { org: team.orgId, permission }));
    assert.deepEqual([await can('usage:read'), await can('skills:read'), await can('projects:write')], [true, false, false]);
    assert.equal(await ok(auditor.client.rpc('has_role', { org: team.orgId, role: 'member' })), true);
    const skills = () => ok(auditor.client.from('skills').select('id').eq('org_id', team.orgId));
    assert.deepEqual(await skills(), []);
    assert.ok((await ok(auditor.client.rpc('usage_summary'))).length > 0);
    assert.equal((await auditor.client.from('projects').insert({ name: 'x' })).status, 403);

    await ok(
      team.admin.client
        .from('custom_roles')
        .update({ permissions: ['*:read'] })
        .eq('id', role.id),
    );
    assert.equal((await skills()).length, 1);
    assert.deepEqual(
      await ok(auditor.client.from('organizations').select('id').eq('id', team.orgId)),
      [],
      '*:read has no organization:read',
    );
    await ok(team.admin.client.from('custom_roles').update({ permissions: [] }).eq('id', role.id));
    assert.deepEqual(await skills(), []);
    await refused(auditor.client.rpc('usage_summary'), 403, 'permission_denied');
  });

  test('a role that members have cannot be deleted; the role of an update that names only the role ends it', async () => {
    const role = await ok(define(team.owner, team.orgId, { name: 'In use', permissions: ['skills:read'] }));
    await ok(assign(team.owner, team.orgId, auditor, { custom_role_id: role.id }));
    await refused(team.owner.client.from('custom_roles').delete().eq('id', role.id), 409, 'conflict');
    assert.deepEqual(await ok(assign(team.owner, team.orgId, auditor, { role: 'viewer' })), [{ role: 'viewer', custom_role_id: null }]);
    assert.equal((await ok(team.owner.client.from('custom_roles').delete().eq('id', role.id).select())).length, 1);
    const listed = await ok(
      team.owner.client
        .from('memberships')
        .select('role, custom_roles(name)')
        .eq('org_id', team.orgId)
        .eq('user_id', auditor.user.id)
        .single(),
    );
    assert.deepEqual(listed, { role: 'viewer', custom_roles: null });
  });

  test('bad input is refused and stores nothing', async () => {
    const count = async () => (await ok(team.owner.client.from('custom_roles').select('id'))).length;
    const earlier = await count();
    for (const permissions of [['tea:make'], ['*'], ['*:execute'], [''], [null], ['skills:read', 'SKILLS:READ']])
      await refused(define(team.owner, team.orgId, { name: 'Bad', permissions }), 422, 'invalid_input');
    for (const fields of [{ name: 'owner' }, { name: ' ' }, { name: 'Bad', base_role: 'owner' }])
      await refused(define(team.owner, team.orgId, fields), 400, '23514');
    await refused(define(team.owner, team.orgId, { name: 'Seen' }), 409, '23505');
    assert.equal(await count(), earlier);
  });
});

describe('escalation', () => {
  test('nobody defines, changes, deletes or gives a role with a permission that they lack', async () => {
    const team = await newTeam();
    const boss = await ok(define(team.owner, team.orgId, { name: 'Boss', permissions: ['billing:write', 'members:read'] }));
    for (const permissions of [['billing:write'], ['*:write'], ['organization:delete', 'skills:read']])
      await refused(define(team.admin, team.orgId, { name: 'Mine', permissions }), 403, 'permission_denied');
    await refused(assign(team.admin, team.orgId, team.viewer, { custom_role_id: boss.id }), 403, 'permission_denied');
    await refused(assign(team.admin, team.orgId, team.admin, { custom_role_id: boss.id }), 403, 'permission_denied');
    const roles = team.admin.client.from('custom_roles');
    await refused(roles.update({ name: 'Ours' }).eq('id', boss.id), 403, 'permission_denied');
    await refused(team.admin.client.from('custom_roles').delete().eq('id', boss.id), 403, 'permission_denied');

    const manager = await ok(
      define(team.admin, team.orgId, {
        name: 'Manager',
        base_role: 'member',
        permissions: ['members:read', 'members:write', 'roles:read', 'roles:write'],
      }),
    );
    await ok(assign(team.admin, team.orgId, team.member, { custom_role_id: manager.id }));
    const { client } = team.member;
    await refused(assign(team.member, team.orgId, team.member, { role: 'admin' }), 403, 'permission_denied');
    await refused(client.from('custom_roles').update({ base_role: 'admin' }).eq('id', manager.id), 403, 'permission_denied');
    await refused(
      client
        .from('custom_roles')
        .update({ permissions: ['members:write', 'roles:write', 'skills:read'] })
        .eq('id', manager.id),
      403,
      'permission_denied',
    );
    await refused(define(team.member, team.orgId, { name: 'Mine', permissions: ['skills:read'] }), 403, 'permission_denied');
    await unaffected(assign(team.member, team.orgId, team.admin, { role: 'viewer' }));
    await unaffected(assign(team.member, team.orgId, team.owner, { role: 'viewer' }));
    await refused(assign(team.member, team.orgId, team.viewer, { role: 'member' }), 403, 'permission_denied');
    await ok(define(team.member, team.orgId, { name: 'Mine', permissions: ['members:read'] }));
  });

  test('a demoted maker cannot give the role any more', async () => {
    const team = await newTeam();
    const trap = await ok(
      define(team.admin, team.orgId, {
        name: 'Trap',
        base_role: 'admin',
        permissions: ['members:read', 'members:write', 'api_keys:write'],
      }),
    );
    const manager = await ok(
      define(team.owner, team.orgId, { name: 'Manager', permissions: ['members:read', 'members:write', 'roles:write'] }),
    );
    await ok(assign(team.owner, team.orgId, team.admin, { custom_role_id: manager.id }));
    for (const person of [team.admin, team.viewer])
      await refused(assign(team.admin, team.orgId, person, { custom_role_id: trap.id }), 403, 'permission_denied');
    await unaffected(team.admin.client.from('custom_roles').update({ permissions: [] }).eq('id', trap.id).select());
    const service = await ok(
      admin()
        .from('memberships')
        .update({ custom_role_id: trap.id })
        .eq('org_id', team.orgId)
        .eq('user_id', team.viewer.user.id)
        .select('role'),
    );
    assert.deepEqual(service, [{ role: 'admin' }], 'the back office may');
  });
});
