// Private projects through the API: who in the organization sees one, and who may read and write in it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import {
  assertAnonymousSeesNothing,
  call,
  ended,
  execute,
  join,
  newHabit,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  unaffected,
} from './domain.mjs';

const EVERYTHING = '*, skills(*), project_members(*, profiles(display_name))';

describe('a private project', () => {
  let team;
  let insider;
  let secret;
  let skill;
  let habit;
  let execution;
  before(async () => {
    [team, insider] = await Promise.all([newTeam(), newPerson()]);
    await join(insider, team.orgId, 'member', team.owner);
    await ok(insider.client.rpc('set_active_organization', { org_id: team.orgId }));
    secret = await ok(insider.client.from('projects').insert({ name: 'Secret', visibility: 'private' }).select().single());
    skill = await newSkill(insider, { project_id: secret.id });
    habit = await newHabit(insider, { skill_id: skill.id, cron: '0 0 1 1 *' });
    execution = await ok(execute(insider, skill.id, { n: 'secret' }, 'secret key'));
    await ended(insider, execution.id);
  });

  test('an unauthenticated caller sees no members', () => assertAnonymousSeesNothing(['project_members']));

  test('a non-member of the organization sees and adds nothing', async () => {
    const { client, user } = team.nonMember;
    assert.deepEqual(await ok(client.from('project_members').select('*').eq('project_id', secret.id)), []);
    await refused(client.from('project_members').insert({ org_id: team.orgId, project_id: secret.id, user_id: user.id }), 403, '42501');
    await unaffected(client.from('project_members').delete().eq('project_id', secret.id).select());
  });

  test('members and viewers of the organization neither see nor change it', async () => {
    for (const person of [team.member, team.viewer]) {
      const { client } = person;
      assert.deepEqual(await ok(client.from('projects').select(EVERYTHING).eq('id', secret.id)), []);
      for (const [table, column, id] of [
        ['project_members', 'project_id', secret.id],
        ['skills', 'id', skill.id],
        ['habits', 'id', habit.id],
        ['executions', 'id', execution.id],
        ['jobs', 'id', execution.job_id],
        ['job_events', 'job_id', execution.job_id],
        ['job_event_log', 'job_id', execution.job_id],
      ]) {
        assert.deepEqual(await ok(client.from(table).select('*').eq(column, id)), [], table);
      }
      await unaffected(client.from('projects').update({ visibility: 'organization' }).eq('id', secret.id).select());
      await unaffected(client.from('projects').delete().eq('id', secret.id).select());
      await unaffected(client.from('project_members').delete().eq('project_id', secret.id).select());
      await refused(client.from('project_members').insert({ project_id: secret.id, user_id: person.user.id }), 403, '42501');
    }
    assert.equal((await ok(insider.client.from('projects').select('id').eq('id', secret.id))).length, 1);
  });

  test('functions answer as for an id that does not exist', async () => {
    const answer = async (name, body) => {
      const response = await call(team.member, name, body);
      return { status: response.status, ...response.body };
    };
    for (const [name, argument, id] of [
      ['execute_skill', 'skill_id', skill.id],
      ['run_habit', 'habit_id', habit.id],
      ['cancel_execution', 'id', execution.id],
      ['retry_execution', 'id', execution.id],
    ]) {
      const hidden = await answer(name, { [argument]: id });
      assert.equal(hidden.status, 404, name);
      assert.equal(hidden.code, 'not_found', name);
      assert.deepEqual(hidden, await answer(name, { [argument]: randomUUID() }), name);
    }
    const repeated = await answer('execute_skill', { skill_id: skill.id, input: { n: 'secret' }, idempotency_key: 'secret key' });
    assert.equal(repeated.code, 'not_found');
  });

  test('writes that name it are refused as for an id that does not exist', async () => {
    const { client } = team.member;
    for (const id of [secret.id, randomUUID()]) {
      const error = await refused(client.from('skills').insert({ name: 'Spy', prompt_template: 'x', project_id: id }), 403, '42501');
      assert.equal(error.details, null);
    }
    for (const id of [skill.id, randomUUID()]) {
      const error = await refused(client.from('habits').insert({ name: 'Spy', cron: '@daily', skill_id: id }), 403, '42501');
      assert.equal(error.details, null);
    }
  });

  test('its usage counts for the organization, and its ids are hidden in reports', async () => {
    for (const [dimension, id] of [
      ['project', secret.id],
      ['skill', skill.id],
    ]) {
      const by = async ({ client }) => ok(client.rpc('usage_by', { dimension, only_meter: 'executions' }));
      const [seen, hidden] = [await by(insider), await by(team.member)];
      const sum = (rows) => rows.reduce((total, { used }) => total + used, 0);
      assert.ok(seen.some(({ value }) => value === id));
      assert.ok(!hidden.some(({ value }) => value === id));
      assert.equal(sum(hidden), sum(seen));
    }
  });

  test('its members, admins and owners see it with everything in it', async () => {
    for (const { client } of [insider, team.admin, team.owner]) {
      const [seen] = await ok(client.from('projects').select(EVERYTHING).eq('org_id', team.orgId).eq('id', secret.id));
      assert.deepEqual(
        seen.skills.map(({ id }) => id),
        [skill.id],
      );
      assert.deepEqual(
        seen.project_members.map(({ user_id, profiles }) => [user_id, typeof profiles.display_name]),
        [[insider.user.id, 'string']],
      );
      assert.equal((await ok(client.from('executions').select('output').eq('id', execution.id).single())).output.text, 'Say secret');
      assert.ok((await ok(client.from('job_events').select('event').eq('job_id', execution.job_id))).length > 1);
    }
  });

  test('a viewer who is added reads, and is refused once removed', async () => {
    const { client, user } = team.viewer;
    await ok(insider.client.from('project_members').insert({ project_id: secret.id, user_id: user.id }));
    assert.equal((await ok(client.from('skills').select('id').eq('id', skill.id))).length, 1);
    await refused(execute(team.viewer, skill.id), 403, 'permission_denied');
    await refused(client.from('project_members').insert({ project_id: secret.id, user_id: team.member.user.id }), 403, '42501');
    await refused(insider.client.from('project_members').insert({ project_id: secret.id, user_id: team.nonMember.user.id }), 409, '23503');
    assert.equal((await ok(insider.client.from('project_members').delete().eq('user_id', user.id).select())).length, 1);
    assert.deepEqual(await ok(client.from('skills').select('id').eq('id', skill.id)), []);
    await refused(execute(team.viewer, skill.id), 404, 'not_found');
  });

  test('a member who makes a project private becomes its only member', async () => {
    const { client, user } = team.member;
    const made = await ok(team.owner.client.from('projects').insert({ name: 'Was open' }).select().single());
    const [changed] = await ok(
      client.from('projects').update({ visibility: 'private' }).eq('id', made.id).select('visibility, project_members(user_id)'),
    );
    assert.equal(changed.visibility, 'private');
    assert.deepEqual(await ok(client.from('project_members').select('user_id').eq('project_id', made.id)), [{ user_id: user.id }]);
    assert.deepEqual(await ok(insider.client.from('projects').select('id').eq('id', made.id)), []);
    await refused(client.from('projects').update({ visibility: 'hidden' }).eq('id', made.id), 400, '23514');
  });

  test('its slug is taken: the same slug is refused, and one derived from a name gets a suffix', async () => {
    const { client } = team.member;
    const error = await refused(client.from('projects').insert({ name: 'Mine', slug: 'secret' }), 409, '23505');
    assert.ok(!JSON.stringify(error).includes(secret.id));
    assert.match((await ok(client.from('projects').insert({ name: 'Secret' }).select().single())).slug, /^secret-[0-9a-f]{8}$/);
  });

  test('what it hid stays hidden when it is deleted', async () => {
    assert.equal((await ok(insider.client.from('projects').delete().eq('id', secret.id).select())).length, 1);
    for (const { client } of [team.member, team.viewer, insider]) {
      assert.deepEqual(await ok(client.from('executions').select('id').eq('id', execution.id)), []);
      assert.deepEqual(await ok(client.from('job_events').select('event').eq('job_id', execution.job_id)), []);
    }
    const kept = await ok(team.owner.client.from('executions').select('project_id, output').eq('id', execution.id).single());
    assert.deepEqual(kept, { project_id: null, output: { text: 'Say secret' } });
  });
});
