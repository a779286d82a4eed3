// Projects: plain rows, and whose they are.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { assertAnonymousSeesNothing, newPerson, newSkill, newTeam, ok, refused, unaffected } from './domain.mjs';
import { sql } from './support.mjs';

describe('projects', () => {
  let team;
  let project;
  before(async () => {
    team = await newTeam();
    project = await ok(team.owner.client.from('projects').insert({ name: 'First one', description: 'About it' }).select().single());
  });

  test('an unauthenticated caller sees none', () => assertAnonymousSeesNothing(['projects']));

  test('a non-member sees none and changes none', async () => {
    const { client } = team.nonMember;
    assert.deepEqual(await ok(client.from('projects').select('*').eq('id', project.id)), []);
    await unaffected(client.from('projects').update({ name: 'Taken' }).eq('id', project.id).select());
    await unaffected(client.from('projects').delete().eq('id', project.id).select());
    await refused(client.from('projects').insert({ org_id: team.orgId, name: 'Planted' }), 403, '42501');
    // Taking over by an upsert on her id must not work either.
    const upsert = await client.from('projects').upsert({ id: project.id, name: 'Taken' }).select();
    assert.ok(upsert.error, 'an upsert on a row of others is refused');
    assert.deepEqual(await ok(team.owner.client.from('projects').select().eq('id', project.id).single()), project);
  });

  test('a viewer reads, but does not write', async () => {
    const { client } = team.viewer;
    assert.equal((await ok(client.from('projects').select().eq('id', project.id))).length, 1);
    await refused(client.from('projects').insert({ name: 'Mine' }), 403, '42501');
    await unaffected(client.from('projects').update({ name: 'Mine' }).eq('id', project.id).select());
    await unaffected(client.from('projects').delete().eq('id', project.id).select());
  });

  test('member, admin and owner write', async () => {
    for (const person of [team.member, team.admin, team.owner]) {
      const made = await ok(person.client.from('projects').insert({ name: 'Written' }).select().single());
      assert.equal(made.org_id, team.orgId);
      assert.equal(made.created_by, person.user.id);
      const [changed] = await ok(person.client.from('projects').update({ description: 'Changed' }).eq('id', made.id).select());
      assert.equal(changed.description, 'Changed');
      assert.ok(new Date(changed.updated_at) >= new Date(made.updated_at));
      assert.equal((await ok(person.client.from('projects').delete().eq('id', made.id).select())).length, 1);
    }
  });

  test('an API key does what it may, in its organization', async () => {
    const permissions = ['projects:read', 'projects:write'];
    const strange = keyClient((await createKey(team.nonMember, { permissions })).secret);
    assert.deepEqual(await ok(strange.from('projects').select('id').eq('id', project.id)), []);
    await unaffected(strange.from('projects').update({ name: 'Taken' }).eq('id', project.id).select());
    const key = keyClient((await createKey(team.owner, { permissions })).secret);
    const made = await ok(key.from('projects').insert({ name: 'By key' }).select().single());
    assert.equal(made.org_id, team.orgId);
    assert.equal((await ok(key.from('projects').delete().eq('id', made.id).select())).length, 1);
    const other = keyClient((await createKey(team.owner, { permissions: ['skills:read', 'skills:write'] })).secret);
    assert.deepEqual(await ok(other.from('projects').select('id').eq('id', project.id)), []);
    await refused(other.from('projects').insert({ name: 'Mine' }), 403, '42501');
  });

  test('bad input gives the stable code and stores nothing', async () => {
    const { client } = team.owner;
    const count = async () => (await ok(client.from('projects').select('id'))).length;
    const before = await count();
    await refused(client.from('projects').insert({ name: ' ' }), 400, '23514');
    await refused(client.from('projects').insert({ name: 'x'.repeat(101) }), 400, '23514');
    await refused(client.from('projects').insert({ description: 'no name' }), 400, '23502');
    await refused(client.from('projects').insert({ name: 'Bad slug', slug: 'Not A Slug' }), 400, '23514');
    await refused(client.from('projects').insert({ name: 'Odd', colour: 'red' }), 400, 'PGRST204');
    await refused(client.from('projects').insert({ name: 'Backdated', created_at: '2001-01-01' }), 403, '42501');
    await refused(client.from('projects').insert({ name: 'For another', created_by: team.viewer.user.id }), 403, '42501');
    await refused(client.from('projects').select().eq('id', 'no-uuid'), 400, '22P02');
    assert.equal(await count(), before);
  });

  test('the slug comes from the name; equal names get different slugs, equal slugs are a conflict', async () => {
    const { client, orgId } = await newPerson();
    const insert = (fields) => client.from('projects').insert(fields).select().single();
    assert.equal((await ok(insert({ name: 'Café & Co.' }))).slug, 'caf-co');
    assert.match((await ok(insert({ name: 'Café & Co.' }))).slug, /^caf-co-[0-9a-f]{8}$/);
    assert.equal((await ok(insert({ name: '日本' }))).slug, 'untitled');
    await refused(client.from('projects').insert({ name: 'Other', slug: 'caf-co' }), 409, '23505');
    // Slugs are an organization's own: another one may have the same.
    const other = await newPerson();
    assert.equal((await ok(other.client.from('projects').insert({ name: 'Mine', slug: 'caf-co' }).select().single())).org_id, other.orgId);
    assert.notEqual(other.orgId, orgId);
  });

  test('deleting a project deletes its skills and keeps the record of their executions', async () => {
    const person = await newPerson();
    const made = await ok(person.client.from('projects').insert({ name: 'Gone soon' }).select().single());
    const skill = await newSkill(person, { project_id: made.id });
    const execution = await ok(person.client.rpc('execute_skill', { skill_id: skill.id, input: { n: 1 } }));
    assert.equal(execution.project_id, made.id);
    await ok(person.client.from('projects').delete().eq('id', made.id));
    assert.deepEqual(await ok(person.client.from('skills').select('id')), []);
    const kept = await ok(person.client.from('executions').select('id, project_id, skill_id, org_id').eq('id', execution.id).single());
    assert.deepEqual(kept, { id: execution.id, project_id: null, skill_id: null, org_id: person.orgId });
  });

  test('an id is unique across organizations, and the error does not disclose whose it is', async () => {
    const other = await newPerson();
    const answer = await other.client.from('projects').insert({ id: project.id, name: 'Same id' });
    assert.equal(answer.status, 409);
    assert.equal(answer.error.code, '23505');
    assert.ok(!JSON.stringify(answer.error).includes(team.orgId));
    const [{ org_id }] = await sql('select org_id from public.projects where id = $1', [project.id]);
    assert.equal(org_id, team.orgId);
    await ok(other.client.from('projects').insert({ id: randomUUID(), name: 'Own id' }));
  });
});
