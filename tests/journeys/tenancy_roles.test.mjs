// What each role may do, and that an organization never loses its last owner.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { join, newPerson, newTeam, ok, refused, setPlan, unaffected } from './domain.mjs';
import { admin, sql } from './support.mjs';

describe('roles', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('members see the memberships and each other; a non-member sees neither', async () => {
    for (const person of [team.owner, team.admin, team.member, team.viewer]) {
      assert.equal((await ok(person.client.from('memberships').select('id').eq('org_id', team.orgId))).length, 4);
      const names = await ok(person.client.from('profiles').select('id, email, active_org_id'));
      assert.equal(names.length, 4);
      for (const profile of names) {
        assert.ok(profile.email.includes('@'), 'colleagues see the address');
        assert.equal(
          profile.active_org_id,
          profile.id === person.user.id ? team.orgId : null,
          'and no other user sees the active organization',
        );
      }
    }
    assert.equal((await ok(team.nonMember.client.from('profiles').select('id'))).length, 1);
    for (const column of ['active_org_id', 'email']) {
      const value = column === 'email' ? team.owner.email : team.orgId;
      assert.deepEqual(await ok(team.nonMember.client.from('profiles').select(column).eq(column, value)), [], column);
    }
    assert.deepEqual(await ok(team.member.client.from('profiles').select('id').eq('active_org_id', team.orgId)), [
      { id: team.member.user.id },
    ]);
  });

  test('memberships embed profiles, and profiles embed memberships', async () => {
    const members = await ok(
      team.viewer.client.from('memberships').select('role, profiles(id, display_name)').eq('org_id', team.orgId).order('role'),
    );
    assert.deepEqual(
      members.map((m) => [m.role, m.profiles.id]),
      [
        ['admin', team.admin],
        ['member', team.member],
        ['owner', team.owner],
        ['viewer', team.viewer],
      ].map(([role, person]) => [role, person.user.id]),
    );
    assert.ok(members.every((m) => m.profiles.display_name.length > 0));
    const [owner] = await ok(
      team.viewer.client
        .from('profiles')
        .select('display_name, memberships(role)')
        .eq('id', team.owner.user.id)
        .eq('memberships.org_id', team.orgId),
    );
    assert.deepEqual(owner.memberships, [{ role: 'owner' }]);
  });

  test('nobody becomes a member without accepting; only service_role can add one', async () => {
    for (const person of [team.owner, team.admin]) {
      for (const role of ['viewer', 'owner']) {
        await refused(
          person.client.from('memberships').insert({ org_id: team.orgId, user_id: team.nonMember.user.id, role }),
          403,
          '42501',
        );
      }
      await refused(
        person.client.from('memberships').upsert({ org_id: team.orgId, user_id: team.nonMember.user.id, role: 'viewer' }),
        403,
        '42501',
      );
    }
    assert.deepEqual(await ok(team.owner.client.from('profiles').select('email').eq('id', team.nonMember.user.id)), []);
    const guest = await newPerson();
    const [added] = await ok(admin().from('memberships').insert({ org_id: team.orgId, user_id: guest.user.id, role: 'viewer' }).select());
    await ok(admin().from('memberships').delete().eq('id', added.id));
  });

  test('a viewer or member cannot manage members', async () => {
    for (const person of [team.viewer, team.member]) {
      await refused(
        person.client.from('memberships').insert({ org_id: team.orgId, user_id: team.nonMember.user.id, role: 'viewer' }),
        403,
        '42501',
      );
      await unaffected(
        person.client.from('memberships').update({ role: 'owner' }).eq('org_id', team.orgId).eq('user_id', person.user.id).select(),
      );
      await unaffected(person.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', team.admin.user.id).select());
      await unaffected(person.client.from('organizations').update({ name: 'Ours' }).eq('id', team.orgId).select());
    }
  });

  test('an admin manages members, but cannot create, change or remove an owner or raise their own role', async () => {
    const { client } = team.admin;
    await unaffected(
      client.from('memberships').update({ role: 'member' }).eq('org_id', team.orgId).eq('user_id', team.owner.user.id).select(),
    );
    await unaffected(client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', team.owner.user.id).select());
    const raise = await client
      .from('memberships')
      .update({ role: 'owner' })
      .eq('org_id', team.orgId)
      .eq('user_id', team.admin.user.id)
      .select();
    assert.ok(['permission_denied', '42501'].includes(raise.error?.code), JSON.stringify(raise));
    assert.equal(raise.status, 403);
    await unaffected(client.from('organizations').delete().eq('id', team.orgId).select());

    const added = await join(team.nonMember, team.orgId, 'viewer', team.admin);
    assert.equal(added.created_by, team.admin.user.id);
    assert.equal((await ok(client.from('memberships').update({ role: 'member' }).eq('id', added.id).select())).length, 1);
    assert.equal((await ok(client.from('memberships').delete().eq('id', added.id).select())).length, 1);
  });

  test('id, organization and author of a row are fixed, for the owner and for the service key', async () => {
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Stays' }).select().single());
    const elsewhere = team.nonMember.orgId;
    await refused(team.owner.client.from('projects').update({ org_id: elsewhere }).eq('id', project.id), 403, 'permission_denied');
    await refused(admin().from('projects').update({ org_id: elsewhere }).eq('id', project.id), 403, 'permission_denied');
    await refused(
      admin().from('memberships').update({ user_id: team.nonMember.user.id }).eq('org_id', team.orgId).eq('user_id', team.viewer.user.id),
      403,
      'permission_denied',
    );
    assert.equal((await ok(team.owner.client.from('projects').select('org_id').eq('id', project.id).single())).org_id, team.orgId);
  });

  test('a removed member loses access at once, with the same token', async () => {
    const { client, user } = team.viewer;
    await ok(team.owner.client.from('projects').insert({ name: 'Seen' }));
    assert.ok((await ok(client.from('projects').select('id').eq('org_id', team.orgId))).length > 0);
    await ok(team.owner.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', user.id));
    assert.deepEqual(await ok(client.from('projects').select('id').eq('org_id', team.orgId)), []);
    await refused(client.from('projects').select().setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    const profile = await ok(client.from('profiles').select('active_org_id').eq('id', user.id).single());
    const personal = await ok(client.from('organizations').select('id').single());
    assert.equal(profile.active_org_id, personal.id, 'the personal organization is active again');
  });
});

describe('the last owner', () => {
  test('cannot leave', async () => {
    const { client, user, orgId } = await newPerson();
    await refused(client.from('memberships').delete().eq('org_id', orgId), 409, 'conflict');
    await refused(client.from('memberships').update({ role: 'admin' }).eq('org_id', orgId), 409, 'conflict');
    assert.deepEqual(await ok(client.from('memberships').select('user_id, role')), [{ user_id: user.id, role: 'owner' }]);
  });

  test('when two owners leave at once, one is refused', async () => {
    const [first, second] = await Promise.all([newPerson(), newPerson()]);
    const { id } = await ok(first.client.rpc('create_organization', { name: 'Two' }));
    await join(second, id, 'owner', first);
    const answers = await Promise.all(
      [first, second].map((p) => p.client.from('memberships').delete().eq('org_id', id).eq('user_id', p.user.id).select()),
    );
    assert.equal(answers.filter((a) => a.error === null && a.data.length === 1).length, 1, JSON.stringify(answers));
    assert.equal(answers.filter((a) => a.error?.code === 'conflict').length, 1);
    const [{ count }] = await sql(`select count(*)::int from public.memberships where org_id = $1 and role = 'owner'`, [id]);
    assert.equal(count, 1);
  });
});

describe('an owner who cannot sign in', () => {
  test('does not count: the other owner can neither leave nor hand over to them', async () => {
    const [first, second, member] = await Promise.all([newPerson(), newPerson(), newPerson()]);
    const { id } = await ok(first.client.rpc('create_organization', { name: 'Banned' }));
    await setPlan(id, 'TEAMS');
    await join(second, id, 'owner', first);
    await join(member, id, 'viewer', first);
    const ban = (person, ban_duration) => ok(admin().auth.admin.updateUserById(person.user.id, { ban_duration }));
    await ban(second, '24h');
    await refused(first.client.rpc('leave_organization', { org_id: id }), 409, 'conflict');
    await refused(first.client.from('memberships').delete().eq('org_id', id).eq('user_id', first.user.id), 409, 'conflict');
    await refused(first.client.rpc('transfer_ownership', { org_id: id, user_id: second.user.id }), 409, 'conflict');
    await ban(member, '24h');
    await refused(first.client.rpc('transfer_ownership', { org_id: id, user_id: member.user.id }), 409, 'conflict');
    await ban(second, 'none');
    await ok(first.client.rpc('leave_organization', { org_id: id }));
    const owners = await sql(`select user_id from public.memberships where org_id = $1 and role = 'owner'`, [id]);
    assert.deepEqual(owners, [{ user_id: second.user.id }]);
    // A ban is the operator's decision, also of the last owner.
    await ban(second, '24h');
    assert.deepEqual(await sql(`select user_id from public.memberships where org_id = $1 and role = 'owner'`, [id]), owners);
  });
});

describe('handing over and leaving', () => {
  test('a member becomes the owner, and the former owner an admin who can leave', async () => {
    const [owner, heir, nonMember] = await Promise.all([newPerson(), newPerson(), newPerson()]);
    const { id } = await ok(owner.client.rpc('create_organization', { name: 'Handed over' }));
    const transfer = (person, to) => person.client.rpc('transfer_ownership', { org_id: id, user_id: to.user.id });
    await refused(transfer(owner, heir), 404, 'not_found');
    await join(heir, id, 'viewer', owner);
    await refused(transfer(nonMember, nonMember), 403, 'not_a_member');
    await refused(transfer(heir, heir), 403, 'permission_denied');
    await refused(owner.client.rpc('leave_organization', { org_id: id }), 409, 'conflict');
    assert.equal((await ok(transfer(owner, heir))).role, 'owner');
    const roles = await ok(heir.client.from('memberships').select('user_id, role').eq('org_id', id).order('role'));
    assert.deepEqual(roles, [
      { user_id: owner.user.id, role: 'admin' },
      { user_id: heir.user.id, role: 'owner' },
    ]);
    await ok(owner.client.rpc('leave_organization', { org_id: id }));
    await refused(owner.client.rpc('leave_organization', { org_id: id }), 403, 'not_a_member');
    assert.equal((await ok(heir.client.from('memberships').select('id').eq('org_id', id))).length, 1);
  });
});
