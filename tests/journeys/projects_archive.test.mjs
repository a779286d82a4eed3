// Archived projects, roles of their members, findings and statistics, as each kind of caller.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { anonymous, ended, execute, join, newHabit, newPerson, newSkill, newTeam, ok, refused, unaffected } from './domain.mjs';

describe('an archived project', () => {
  let team;
  let project;
  let skill;
  let habit;
  const members = () => [team.member, team.admin, team.owner];
  before(async () => {
    team = await newTeam();
    project = await ok(
      team.member.client
        .from('projects')
        .insert({ name: 'Old', settings: { colour: 'blue' } })
        .select()
        .single(),
    );
    skill = await newSkill(team.member, { project_id: project.id });
    habit = await newHabit(team.member, { skill_id: skill.id, cron: '0 0 1 1 *', input: { n: 1 } });
  });

  test('nobody but members of the organization who write archives it', async () => {
    for (const rpc of ['archive_project', 'restore_project']) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${rpc}`, {
        body: { project_id: project.id },
        headers: { 'Content-Type': 'application/json' },
      });
      assert.equal(answer.status, 401, answer.text);
      await refused(team.nonMember.client.rpc(rpc, { project_id: project.id }), 404, 'not_found');
      await refused(team.viewer.client.rpc(rpc, { project_id: project.id }), 403, 'permission_denied');
    }
    assert.equal((await ok(team.viewer.client.from('projects').select('archived_at').eq('id', project.id).single())).archived_at, null);
  });

  test('is read-only for every caller, also for a key and the service key', async () => {
    const execution = await ok(execute(team.member, skill.id, { n: 'before' }));
    const archived = await ok(team.member.client.rpc('archive_project', { project_id: project.id }));
    assert.ok(archived.archived_at);
    assert.deepEqual(
      await ok(team.owner.client.rpc('archive_project', { project_id: project.id })),
      archived,
      'a repeated call changes nothing',
    );
    const key = await createKey(team.owner, { permissions: ['*:read', '*:write', 'skills:execute'] });
    for (const client of [...members().map((person) => person.client), keyClient(key.secret)]) {
      await refused(client.from('projects').update({ name: 'New' }).eq('id', project.id), 409, 'project_archived');
      await refused(client.from('skills').update({ name: 'New' }).eq('id', skill.id), 409, 'project_archived');
      await refused(client.from('skills').delete().eq('id', skill.id), 409, 'project_archived');
      await refused(client.from('skills').insert({ project_id: project.id, name: 'New', prompt_template: 'x' }), 409, 'project_archived');
      await refused(client.from('habits').update({ enabled: false }).eq('id', habit.id), 409, 'project_archived');
      await refused(client.from('habits').insert({ skill_id: skill.id, name: 'New', cron: '@daily' }), 409, 'project_archived');
      await refused(client.rpc('execute_skill', { skill_id: skill.id, input: { n: 1 } }), 409, 'project_archived');
      await refused(client.rpc('run_habit', { habit_id: habit.id }), 409, 'project_archived');
    }
    assert.equal((await ended(team.member, execution.id)).status, 'succeeded', 'what was queued before runs');
    await unaffected(team.viewer.client.from('skills').update({ name: 'New' }).eq('id', skill.id).select());
    await refused(team.nonMember.client.from('skills').insert({ project_id: project.id, name: 'New', prompt_template: 'x' }), 403, '42501');
  });

  test('lists show it or leave it out', async () => {
    const { client } = team.viewer;
    const names = async (query) => (await ok(query)).map(({ name }) => name);
    assert.deepEqual(await names(client.from('projects').select('name').eq('org_id', team.orgId).is('archived_at', null)), []);
    assert.deepEqual(await names(client.from('projects').select('name').eq('org_id', team.orgId).not('archived_at', 'is', null)), ['Old']);
  });

  test('is restored, and everything goes on', async () => {
    const restored = await ok(team.member.client.rpc('restore_project', { project_id: project.id }));
    assert.equal(restored.archived_at, null);
    assert.deepEqual(restored.settings, { colour: 'blue' });
    await ok(team.member.client.from('skills').update({ description: 'Again' }).eq('id', skill.id).select().single());
    assert.equal((await ended(team.member, (await ok(execute(team.member, skill.id, { n: 1 }))).id)).status, 'succeeded');
  });

  test('statistics and findings: not for non-members, for viewers', async () => {
    for (const [rpc, args] of [
      ['project_stats', { project_id: project.id }],
      ['validate_project', { project_id: project.id }],
      ['habit_stats', { habit_id: habit.id }],
      ['preview_habit', { habit_id: habit.id }],
    ]) {
      await refused(team.nonMember.client.rpc(rpc, args), 404, 'not_found');
      await ok(team.viewer.client.rpc(rpc, args));
    }
    const stats = await ok(team.viewer.client.rpc('project_stats', { project_id: project.id }));
    assert.deepEqual([stats.runs, stats.succeeded, Number(stats.success_rate)], [2, 2, 1]);
    await ok(team.member.client.from('skills').update({ enabled: false }).eq('id', skill.id));
    const findings = await ok(team.viewer.client.rpc('validate_project', { project_id: project.id }));
    const found = findings.find(({ code }) => code === 'disabled_skill_in_use');
    assert.deepEqual([found.severity, found.where], ['warning', { table: 'skills', id: skill.id, name: skill.name }]);
  });
});

describe('members of a private project', () => {
  let team;
  let [lead, helper] = [];
  let project;
  let skill;
  before(async () => {
    [team, lead, helper] = await Promise.all([newTeam(), newPerson(), newPerson()]);
    for (const person of [lead, helper]) {
      await join(person, team.orgId, 'member', team.owner);
      await ok(person.client.rpc('set_active_organization', { org_id: team.orgId }));
      person.orgId = team.orgId;
    }
    project = await ok(lead.client.from('projects').insert({ name: 'Secret', visibility: 'private' }).select().single());
    skill = await newSkill(lead, { project_id: project.id });
  });
  const membership = (client) => client.from('project_members');

  test('only its admins and managers of all projects add members', async () => {
    const row = (person, role) => ({ project_id: project.id, user_id: person.user.id, role });
    await refused(membership(team.nonMember.client).insert({ ...row(team.nonMember, 'admin'), org_id: team.orgId }), 403, '42501');
    await refused(membership(helper.client).insert(row(helper, 'admin')), 403, '42501');
    await ok(membership(lead.client).insert(row(helper, 'viewer')));
    await refused(membership(helper.client).insert(row(team.member, 'viewer')), 403, 'permission_denied');
    await unaffected(membership(helper.client).update({ role: 'admin' }).eq('user_id', helper.user.id).select());
    const listed = await ok(
      membership(helper.client).select('role, profiles(display_name)').eq('org_id', team.orgId).eq('project_id', project.id).order('role'),
    );
    assert.deepEqual(
      listed.map(({ role }) => role),
      ['admin', 'viewer'],
    );
  });

  test('a viewer reads and changes nothing', async () => {
    assert.equal((await ok(helper.client.from('skills').select('id').eq('id', skill.id))).length, 1);
    await unaffected(helper.client.from('skills').update({ name: 'New' }).eq('id', skill.id).select());
    await refused(
      helper.client.from('skills').insert({ project_id: project.id, name: 'New', prompt_template: 'x' }),
      403,
      'permission_denied',
    );
    await refused(execute(helper, skill.id, { n: 1 }), 403, 'permission_denied');
    await refused(helper.client.rpc('archive_project', { project_id: project.id }), 403, 'permission_denied');
  });

  test('a member changes what is in it, an admin the project; a personal key does what its owner may', async () => {
    await ok(
      membership(lead.client).update({ role: 'member' }).eq('user_id', helper.user.id).eq('project_id', project.id).select().single(),
    );
    await ok(helper.client.from('skills').update({ name: 'New' }).eq('id', skill.id).select().single());
    const key = await createKey(helper, { kind: 'personal', permissions: ['*:read', '*:write'] });
    await ok(keyClient(key.secret).from('skills').update({ name: 'By key' }).eq('id', skill.id).select().single());
    await unaffected(keyClient(key.secret).from('projects').update({ name: 'By key' }).eq('id', project.id).select());
    await unaffected(helper.client.from('projects').update({ visibility: 'organization' }).eq('id', project.id).select());
    await refused(membership(helper.client).insert({ project_id: project.id, user_id: team.member.user.id }), 403, '42501');
    await ok(
      membership(team.admin.client).update({ role: 'admin' }).eq('user_id', helper.user.id).eq('project_id', project.id).select().single(),
    );
    await ok(keyClient(key.secret).from('projects').update({ name: 'By key' }).eq('id', project.id).select().single());
    await ok(helper.client.rpc('archive_project', { project_id: project.id }));
    await refused(membership(lead.client).insert({ project_id: project.id, user_id: team.member.user.id }), 409, 'project_archived');
    assert.equal(
      (await ok(membership(helper.client).delete().eq('user_id', helper.user.id).eq('project_id', project.id).select())).length,
      1,
    );
    await refused(helper.client.rpc('restore_project', { project_id: project.id }), 404, 'not_found');
  });
});

describe('repositories', () => {
  let team;
  let repository;
  before(async () => {
    team = await newTeam();
  });

  test('owners add them; non-members, viewers and members do not', async () => {
    const row = { org_id: team.orgId, clone_url: 'https://github.com/Acme/app' };
    for (const person of [team.nonMember, team.viewer, team.member, team.admin]) {
      await refused(person.client.from('repositories').insert(row), 403, '42501');
    }
    repository = await ok(team.owner.client.from('repositories').insert(row).select('*').single());
    assert.deepEqual(
      [
        repository.provider,
        repository.full_name,
        repository.clone_url,
        repository.default_branch,
        repository.status,
        repository.requested_by,
      ],
      ['github', 'Acme/app', 'https://github.com/Acme/app.git', 'main', 'pending', team.owner.user.id],
    );
    assert.deepEqual(await ok(team.nonMember.client.from('repositories').select().eq('id', repository.id)), []);
    assert.equal((await ok(team.viewer.client.from('repositories').select().eq('id', repository.id))).length, 1);
    await refused(team.owner.client.from('repositories').insert(row), 409, '23505');
    await refused(team.owner.client.from('repositories').insert({ clone_url: 'https://x:y@github.com/a/b' }), 400, '23514');
  });

  test('the secret of the webhook is shown once', async () => {
    await refused(team.nonMember.client.rpc('rotate_repository_secret', { repository_id: repository.id }), 404, 'not_found');
    await refused(team.viewer.client.rpc('rotate_repository_secret', { repository_id: repository.id }), 403, 'permission_denied');
    const first = await ok(team.owner.client.rpc('rotate_repository_secret', { repository_id: repository.id }));
    const second = await ok(team.owner.client.rpc('rotate_repository_secret', { repository_id: repository.id, overlap: '1 hour' }));
    assert.notEqual(first.secret, second.secret);
    assert.ok(second.former_expires_at);
    const seen = JSON.stringify(await ok(team.owner.client.from('repositories').select('*').eq('id', repository.id)));
    assert.ok(!seen.includes(second.secret));
  });

  test('a key adds and removes one, and its default branch changes', async () => {
    const key = await createKey(team.owner, { permissions: ['repositories:read', 'repositories:write'] });
    const client = keyClient(key.secret);
    const made = await ok(
      client.from('repositories').insert({ provider: 'gitlab', full_name: 'acme/lib' }).select('*, api_keys(name)').single(),
    );
    assert.deepEqual([made.api_key_id, made.requested_by], [key.id, null]);
    await ok(client.from('repositories').update({ default_branch: 'release/1' }).eq('id', made.id).select().single());
    await refused(client.from('repositories').update({ default_branch: '--exec' }).eq('id', made.id), 400, '23514');
    assert.equal((await ok(client.from('repositories').delete().eq('id', made.id).select())).length, 1);
  });
});
