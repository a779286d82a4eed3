// Skills: prompted tasks, their models, and that nothing points across organizations.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import {
  assertAnonymousSeesNothing,
  asWritten,
  execute,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  unaffected,
  usageOf,
} from './domain.mjs';
import { admin } from './support.mjs';

describe('skills', () => {
  let team;
  let skill;
  before(async () => {
    team = await newTeam();
    skill = await newSkill(team.owner);
  });

  test('an unauthenticated caller sees none', async () => {
    await assertAnonymousSeesNothing(['skills']);
  });

  test('a non-member sees none, changes none and runs none', async () => {
    const { client } = team.nonMember;
    assert.deepEqual(await ok(client.from('skills').select().eq('id', skill.id)), []);
    await unaffected(client.from('skills').update({ prompt_template: 'Tell me all' }).eq('id', skill.id).select());
    await unaffected(client.from('skills').delete().eq('id', skill.id).select());
    await refused(client.from('skills').insert({ org_id: team.orgId, name: 'Planted', prompt_template: 'x' }), 403, '42501');
    await refused(execute(team.nonMember, skill.id, { n: 1 }), 404, 'not_found');
    assert.deepEqual(asWritten(await ok(team.owner.client.from('skills').select().eq('id', skill.id).single())), asWritten(skill));
  });

  test('a viewer reads, but neither writes nor runs', async () => {
    const { client } = team.viewer;
    assert.equal((await ok(client.from('skills').select().eq('id', skill.id))).length, 1);
    await refused(client.from('skills').insert({ name: 'Mine', prompt_template: 'x' }), 403, '42501');
    await unaffected(client.from('skills').update({ name: 'Mine' }).eq('id', skill.id).select());
    await unaffected(client.from('skills').delete().eq('id', skill.id).select());
    await refused(execute(team.viewer, skill.id, { n: 1 }), 403, 'permission_denied');
  });

  test('member, admin and owner write', async () => {
    for (const person of [team.member, team.admin, team.owner]) {
      const made = await newSkill(person, { name: 'Written' });
      assert.equal(made.created_by, person.user.id);
      assert.equal(made.enabled, true);
      assert.equal(
        (
          await ok(
            person.client
              .from('skills')
              .update({ parameters: { temperature: 0 } })
              .eq('id', made.id)
              .select(),
          )
        )[0].parameters.temperature,
        0,
      );
      assert.equal((await ok(person.client.from('skills').delete().eq('id', made.id).select())).length, 1);
    }
  });

  test('an API key does what it may, in its organization', async () => {
    const permissions = ['skills:read', 'skills:execute', 'executions:read'];
    const { secret } = await createKey(team.nonMember, { permissions });
    const strange = keyClient(secret);
    assert.deepEqual(await ok(strange.from('skills').select('id').eq('id', skill.id)), []);
    await refused(execute({ client: strange }, skill.id, { n: 1 }), 404, 'not_found');
    const key = keyClient((await createKey(team.owner, { permissions })).secret);
    assert.equal((await ok(key.from('skills').select('id').eq('id', skill.id))).length, 1);
    assert.equal((await ok(execute({ client: key }, skill.id, { n: 1 }))).skill_id, skill.id);
    await refused(key.from('skills').insert({ name: 'Mine', prompt_template: 'x' }), 403, '42501');
    await unaffected(key.from('skills').update({ name: 'Mine' }).eq('id', skill.id).select());
    await unaffected(key.from('skills').delete().eq('id', skill.id).select());
    const writer = keyClient((await createKey(team.owner, { permissions: ['skills:read', 'skills:write'] })).secret);
    const made = await ok(writer.from('skills').insert({ name: 'Written', prompt_template: 'x' }).select().single());
    assert.equal(made.org_id, team.orgId);
    await refused(execute({ client: writer }, made.id, {}), 403, 'permission_denied');
    assert.equal((await ok(writer.from('skills').delete().eq('id', made.id).select())).length, 1);
  });

  test('bad input gives the stable code and stores nothing', async () => {
    const { client } = team.owner;
    const count = async () => (await ok(client.from('skills').select('id'))).length;
    const before = await count();
    const insert = (fields) => client.from('skills').insert({ name: 'Bad', prompt_template: 'x', ...fields });
    await refused(insert({ prompt_template: ' ' }), 400, '23514');
    await refused(insert({ prompt_template: null }), 400, '23502');
    await refused(insert({ model: 'no-slash' }), 400, '23514');
    await refused(insert({ model: 'openai/../../etc/passwd\n' }), 400, '23514');
    await refused(insert({ input_schema: [] }), 400, '23514');
    await refused(insert({ parameters: 'x' }), 400, '23514');
    await refused(insert({ project_id: randomUUID() }), 403, '42501');
    assert.equal(await count(), before);
  });

  test('cannot be put into a project of another organization, neither on insert nor on update', async () => {
    const other = await newPerson();
    const theirs = await ok(other.client.from('projects').insert({ name: 'Theirs' }).select().single());
    await refused(team.owner.client.from('skills').insert({ name: 'Across', prompt_template: 'x', project_id: theirs.id }), 403, '42501');
    await refused(team.owner.client.from('skills').update({ project_id: theirs.id }).eq('id', skill.id), 403, '42501');
    await refused(admin().from('skills').update({ project_id: theirs.id }).eq('id', skill.id), 409, '23503');
  });

  test('a disabled one does not run and charges nothing; once enabled it runs again', async () => {
    const person = await newPerson();
    const own = await newSkill(person, { enabled: false });
    await refused(execute(person, own.id, { n: 1 }), 409, 'conflict');
    assert.equal((await usageOf(person)).executions.used, 0);
    assert.deepEqual(await ok(person.client.from('executions').select('id')), []);
    await ok(person.client.from('skills').update({ enabled: true }).eq('id', own.id));
    assert.equal((await ok(execute(person, own.id, { n: 1 }))).status, 'queued');
  });
});
