// Deleting an organization or a user, and what becomes of their rows.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { call, join, newPerson, newSkill, newTeam, ok } from './domain.mjs';
import { admin, http, signIn, sql } from './support.mjs';

describe('after sign-out and deletion', () => {
  test('a token whose session was signed out is 401 not_identified', async () => {
    const person = await newPerson();
    const other = await signIn(person);
    await ok(person.client.from('projects').select());
    await person.client.auth.signOut({ scope: 'local' });
    const answer = await http('GET', '/rest/v1/projects', { token: person.token });
    assert.equal(answer.status, 401, answer.text);
    assert.equal(answer.body.code, 'not_identified');
    assert.deepEqual(Object.keys(answer.body).sort(), ['code', 'details', 'hint', 'message']);
    const written = await call(person, 'create_organization', { name: 'Too late' });
    assert.equal(written.status, 401);
    // Another session of the same user goes on.
    await ok(other.client.from('projects').select());
  });

  test('a deleted user is unauthenticated, and the personal organization is deleted with all its rows', async () => {
    const person = await newPerson();
    await newSkill(person);
    const { error } = await admin().auth.admin.deleteUser(person.user.id);
    assert.equal(error, null);
    const answer = await http('GET', '/rest/v1/projects', { token: person.token });
    assert.equal(answer.status, 401, answer.text);
    assert.equal(answer.body.code, 'not_identified');
    for (const table of ['skills', 'memberships', 'subscriptions']) {
      assert.deepEqual(await sql(`select 1 from public.${table} where org_id = $1`, [person.orgId]), [], table);
    }
    assert.deepEqual(await sql('select 1 from public.organizations where id = $1', [person.orgId]), []);
  });

  test('a personal organization that was handed over stays with its new owner', async () => {
    const [host, guest] = await Promise.all([newPerson(), newPerson()]);
    await join(guest, host.orgId, 'owner', host);
    assert.deepEqual(await ok(host.client.from('organizations').select('personal_for').eq('id', host.orgId)), [{ personal_for: null }]);
    const project = await ok(
      guest.client.from('projects').insert({ name: 'Kept' }).setHeader('x-org-id', host.orgId).select('id').single(),
    );
    await ok(host.client.from('memberships').delete().eq('org_id', host.orgId).eq('user_id', host.user.id));
    const { error } = await admin().auth.admin.deleteUser(host.user.id);
    assert.equal(error, null);
    assert.deepEqual(await ok(guest.client.from('projects').select('id').eq('org_id', host.orgId)), [{ id: project.id }]);
  });

  test('a soft-deleted user leaves like a deleted one and keeps only an id', async () => {
    const team = await newTeam();
    const personal = (await sql('select id from public.organizations where personal_for = $1', [team.owner.user.id]))[0].id;
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Kept' }).select().single());
    const { error } = await admin().auth.admin.deleteUser(team.owner.user.id, true);
    assert.equal(error, null);
    assert.deepEqual(await sql('select 1 from public.organizations where id = $1', [personal]), [], 'the lone personal organization goes');
    const members = await ok(team.member.client.from('memberships').select('user_id, role').eq('org_id', team.orgId));
    assert.deepEqual(
      members.filter((m) => m.role === 'owner').map((m) => m.user_id),
      [team.admin.user.id],
    );
    assert.equal(members.length, 3);
    assert.equal(
      (await ok(team.member.client.from('projects').select('created_by').eq('id', project.id).single())).created_by,
      team.owner.user.id,
    );
    const profile = await ok(admin().from('profiles').select('display_name, email, avatar_url').eq('id', team.owner.user.id).single());
    assert.deepEqual(profile, { display_name: 'Deleted user', email: null, avatar_url: null });
    assert.equal((await http('GET', '/rest/v1/projects', { token: team.owner.token })).status, 401);
  });

  test('when the last owner of a shared organization is deleted, the next in rank becomes owner, and rows they created stay', async () => {
    const team = await newTeam();
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Kept' }).select().single());
    const { error } = await admin().auth.admin.deleteUser(team.owner.user.id);
    assert.equal(error, null);
    const members = await ok(team.member.client.from('memberships').select('user_id, role').eq('org_id', team.orgId));
    assert.deepEqual(
      members.filter((m) => m.role === 'owner').map((m) => m.user_id),
      [team.admin.user.id],
    );
    const kept = await ok(team.member.client.from('projects').select('id, created_by').eq('id', project.id).single());
    assert.equal(kept.created_by, null);
  });

  test('an owner deletes an organization with everything in it', async () => {
    const team = await newTeam();
    await newSkill(team.owner);
    assert.equal((await ok(team.owner.client.from('organizations').delete().eq('id', team.orgId).select())).length, 1);
    assert.deepEqual(await sql('select 1 from public.skills where org_id = $1', [team.orgId]), []);
    assert.deepEqual(await ok(team.member.client.from('organizations').select('id').eq('id', team.orgId)), []);
  });
});
