// Files as input of skills: who may name which file, versions, what is no text, and runs that see the text.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { ended, execute, newHabit, newSkill, newTeam, ok, refused, until, usageOf } from './domain.mjs';
import { deliver, newReflex, processed } from './reflexes_support.mjs';
import { client, http, sql } from './support.mjs';

const bucket = (person) => person.client.storage.from('project-files');
const newProject = (person, fields) =>
  ok(
    person.client
      .from('projects')
      .insert({ name: 'Inputs', ...fields })
      .select()
      .single(),
  );
async function put(person, project, path, content, type = 'text/markdown') {
  const name = `${project.org_id}/${project.id}/${path}/${randomUUID()}`;
  await ok(bucket(person).upload(name, new Blob([content], { type }), { contentType: type }));
  return name;
}
const file = ($file, version) => ({ text: version === undefined ? { $file } : { $file, version } });
const text = (execution) => JSON.stringify(execution.output);

let team, open, closed, elsewhere, skill, hidden;
before(async () => {
  team = await newTeam();
  [open, closed, elsewhere] = [
    await newProject(team.owner),
    await newProject(team.owner, { visibility: 'private' }),
    await newProject(team.owner),
  ];
  const template = { prompt_template: 'Read: {{ text }}', input_schema: { properties: { text: { type: 'string' } }, required: ['text'] } };
  skill = await newSkill(team.owner, { ...template, project_id: open.id });
  hidden = await newSkill(team.owner, { ...template, name: 'Hidden', project_id: closed.id });
  await put(team.owner, open, 'notes/plan.md', 'first plan');
  await put(team.owner, open, 'notes/plan.md', 'second plan');
  await put(team.owner, closed, 'secret.md', 'the secret');
  await put(team.owner, elsewhere, 'other.md', 'of another project');
});

describe('who may', () => {
  test('a non-member and a viewer run nothing, and nothing is charged', async () => {
    const { executions } = await usageOf(team.owner);
    await refused(execute(team.nonMember, skill.id, file('notes/plan.md')), 404, 'not_found');
    await refused(execute(team.nonMember, hidden.id, file('secret.md')), 404, 'not_found');
    await refused(execute(team.viewer, skill.id, file('notes/plan.md')), 403, 'permission_denied');
    await refused(team.nonMember.client.rpc('test_skill', { skill_id: skill.id, input: file('notes/plan.md') }), 404, 'not_found');
    // A member does not see the private project, whose skill and file are not there for them.
    await refused(execute(team.member, hidden.id, file('secret.md')), 404, 'not_found');
    assert.deepEqual((await usageOf(team.owner)).executions, executions);
  });

  test('a file is of the project of the skill: no other project, no other organization', async () => {
    await refused(execute(team.owner, skill.id, file('other.md')), 404, 'file_not_found');
    await refused(execute(team.owner, skill.id, file('secret.md')), 404, 'file_not_found');
    await refused(execute(team.owner, skill.id, file(`../${elsewhere.id}/other.md`)), 404, 'file_not_found');
    const theirs = await newProject(team.nonMember);
    const own = await newSkill(team.nonMember, { project_id: theirs.id });
    await refused(execute(team.nonMember, own.id, file('notes/plan.md')), 404, 'file_not_found');
    const nowhere = await newSkill(team.owner, { name: 'In no project' });
    await refused(execute(team.owner, nowhere.id, file('notes/plan.md')), 422, 'invalid_input');
  });

  test('an API key needs files:read', async () => {
    const keyWith = async (...more) => {
      const permissions = ['skills:read', 'skills:execute', 'executions:read', ...more];
      const key = await ok(team.owner.client.rpc('create_api_key', { name: 'runs', permissions }).setHeader('x-org-id', team.orgId));
      return { client: client(key.secret) };
    };
    const blind = await keyWith();
    await refused(execute(blind, skill.id, file('notes/plan.md')), 403, 'permission_denied');
    await refused(blind.client.rpc('test_skill', { skill_id: skill.id, input: file('notes/plan.md') }), 403, 'permission_denied');
    const { id } = await ok(execute(await keyWith('files:read'), skill.id, file('notes/plan.md')));
    assert.match(text(await ended(team.owner, id)), /second plan/);
  });
});

describe('a run', () => {
  test('sees the text of the current version, or of the one that it names, and the row says which', async () => {
    const key = randomUUID();
    const queued = await ok(execute(team.member, skill.id, file('notes/plan.md'), key));
    assert.deepEqual(
      queued.input_files.map(({ reference, version }) => [reference, version]),
      [[{ $file: 'notes/plan.md' }, 2]],
    );
    assert.deepEqual(queued.input, file('notes/plan.md'));
    assert.equal((await ok(execute(team.member, skill.id, file('notes/plan.md'), key))).id, queued.id);
    assert.match(text(await ended(team.member, queued.id)), /Read: second plan/);
    const old = await ok(execute(team.member, skill.id, file('notes/plan.md', 1)));
    assert.match(text(await ended(team.member, old.id)), /Read: first plan/);
  });

  test('with a large text, which an input could not carry', async () => {
    const large = 'word '.repeat(150_000);
    await put(team.member, open, 'large.txt', `${large}the end`);
    const { job_id } = await ok(team.member.client.rpc('test_skill', { skill_id: skill.id, input: file('large.txt') }));
    const job = await until('the dry run', async () => {
      const [row] = await sql('select status, result, error_code from public.jobs where id = $1', [job_id]);
      return row.status !== 'queued' && row.status !== 'running' && row;
    });
    assert.equal(job.error_code, null);
    assert.ok(job.result.prompt.endsWith('the end') && job.result.prompt.length > large.length);
  });

  test('refuses what is missing, deleted, too large or no text before anything is charged', async () => {
    const { executions } = await usageOf(team.owner);
    await put(team.owner, open, 'gone.md', 'gone');
    const [{ id: gone }] = await sql('select id from public.project_files where project_id = $1 and path = $2', [open.id, 'gone.md']);
    await ok(team.owner.client.rpc('delete_project_file', { file_id: gone }));
    await put(team.owner, open, 'huge.txt', 'x'.repeat(2_097_153));
    await put(team.owner, open, 'half.txt', 'x'.repeat(1_100_000));
    await put(team.owner, open, 'picture.png', Buffer.from('89504e470d0a1a0a', 'hex'), 'image/png');
    for (const [input, status, code] of [
      [file('nothing.md'), 404, 'file_not_found'],
      [file('notes/plan.md', 3), 404, 'file_not_found'],
      [file('gone.md'), 409, 'file_deleted'],
      [file('huge.txt'), 413, 'file_too_large'],
      [{ text: [file('half.txt').text, file('half.txt').text] }, 413, 'file_too_large'],
      [file('picture.png'), 422, 'file_not_text'],
      [{ text: { $file: 7 } }, 422, 'invalid_input'],
      [{ text: { $file: 'notes/plan.md', as: 'text' } }, 422, 'invalid_input'],
      [file('notes/plan.md', '1'), 422, 'invalid_input'],
      [file('notes/plan.md', 0), 422, 'invalid_input'],
    ]) {
      await refused(execute(team.owner, skill.id, input), status, code);
      await refused(team.owner.client.rpc('test_skill', { skill_id: skill.id, input }), status, code);
    }
    assert.deepEqual((await usageOf(team.owner)).executions, executions);
  });

  test('that finds bytes which are no text fails with a code and costs nothing', async () => {
    await put(team.owner, open, 'binary', randomBytes(2_000), 'application/octet-stream');
    const binary = await ok(execute(team.owner, skill.id, file('binary')));
    const failed = await ended(team.owner, binary.id);
    assert.deepEqual([failed.status, failed.error_code, failed.cost_microusd], ['failed', 'file_not_text', 0]);
  });
});

describe('without a caller', () => {
  test('a habit is refused when it is stored, and runs with the version of the time', async () => {
    const habit = { skill_id: skill.id, cron: '0 0 1 1 *' };
    await refused(newHabitRequest(team.owner, { ...habit, input: file('nothing.md') }), 404, 'file_not_found');
    await refused(newHabitRequest(team.nonMember, { ...habit, org_id: team.orgId, input: file('nothing.md') }), 403, '42501');
    const { id } = await newHabit(team.owner, { ...habit, input: file('notes/plan.md') });
    await refused(
      team.owner.client
        .from('habits')
        .update({ input: file('other.md') })
        .eq('id', id)
        .select(),
      404,
      'file_not_found',
    );
    const run = await ok(team.owner.client.rpc('run_habit', { habit_id: id }));
    assert.match(text(await ended(team.owner, run.id)), /second plan/);
  });

  test('a reflex reads what its mapping names, and nothing that an event names', async () => {
    const bad = { skill_id: skill.id, input_mapping: { text: { $file: '{{ payload.path }}' } } };
    await refused(
      team.owner.client
        .from('reflexes')
        .insert({ name: 'Bad', ...bad })
        .select(),
      422,
      'invalid_input',
    );
    const mapped = await newReflex(team.owner, {
      skill_id: skill.id,
      name: 'Mapped',
      input_mapping: { text: { $file: 'notes/plan.md' }, event: '{{ payload.n }}' },
    });
    const answered = await deliver(mapped, { n: { $file: 'large.txt' } });
    assert.equal(answered.status, 202, answered.text);
    const delivery = await processed(team.owner, answered.body.delivery_id);
    const run = await ended(team.owner, delivery.execution_id);
    assert.match(text(run), /second plan/, run.error);
    assert.deepEqual(
      run.input_files.map(({ reference }) => reference),
      [{ $file: 'notes/plan.md' }],
    );
    // Without a mapping the event is the input, and stays data.
    const plain = await newReflex(team.owner, { skill_id: skill.id, name: 'Plain' });
    const sent = await deliver(plain, { text: { $file: 'notes/plan.md' } });
    const other = await ended(team.owner, (await processed(team.owner, sent.body.delivery_id)).execution_id);
    assert.deepEqual([other.status, other.error_code, other.input_files], ['failed', 'invalid_input', []]);
  });
});

test('a ticket is sealed: a text that somebody makes up opens nothing', async () => {
  for (const ticket of ['', 'x', `kjs1.00000000.${'A'.repeat(80)}`, `${open.org_id}/${open.id}/notes/plan.md`]) {
    const answer = await http('POST', '/storage/v1/ticket', { body: { ticket }, token: team.owner.token });
    assert.equal(answer.status, 400);
    assert.equal(answer.body.code, 'NoSuchKey');
  }
});

function newHabitRequest(person, fields) {
  return person.client
    .from('habits')
    .insert({ name: 'Reads', ...fields })
    .select()
    .single();
}
