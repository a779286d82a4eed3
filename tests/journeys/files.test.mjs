// Files of projects: upload, list, versions, restore, delete and remove, with supabase-js' storage and tables.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { assertAnonymousSeesNothing, newTeam, ok, refused, unaffected, usageOf } from './domain.mjs';
import { http } from './support.mjs';

const bucket = ({ client }) => client.storage.from('project-files');
const nameOf = (project, path) => `${project.org_id}/${project.id}/${path}/${randomUUID()}`;
const upload = (person, name, content) =>
  bucket(person).upload(name, new Blob([content], { type: 'text/plain' }), { contentType: 'text/plain' });
const newProject = (person, fields) =>
  ok(
    person.client
      .from('projects')
      .insert({ name: 'Files', ...fields })
      .select()
      .single(),
  );
const filesOf = (person) =>
  ok(person.client.from('project_files').select().eq('org_id', person.orgId).is('deleted_at', null).order('path'));

async function denied(request) {
  const { data, error } = await request;
  assert.ok(error, `expected a refusal, but got ${JSON.stringify(data)}`);
  return error;
}

let team, open, closed, first, hidden;
before(async () => {
  team = await newTeam();
  open = await newProject(team.owner);
  closed = await newProject(team.owner, { visibility: 'private' });
  first = nameOf(open, 'notes/plan.md');
  hidden = nameOf(closed, 'secret.txt');
  await ok(upload(team.owner, first, 'first'));
  await ok(upload(team.owner, hidden, 'secret'));
});

describe('who may', () => {
  test('a visitor and a non-member: nothing, by no path', async () => {
    await assertAnonymousSeesNothing(['project_files', 'project_file_versions']);
    const { nonMember } = team;
    await unaffected(nonMember.client.from('project_files').select().eq('org_id', team.orgId));
    await unaffected(nonMember.client.from('project_file_versions').select().eq('org_id', team.orgId));
    await denied(bucket(nonMember).download(first));
    await denied(bucket(nonMember).createSignedUrl(first, 60));
    await denied(bucket(nonMember).info(first));
    assert.deepEqual(await ok(bucket(nonMember).list(`${team.orgId}/${open.id}/notes`)), []);
    assert.deepEqual(await ok(bucket(nonMember).remove([first, hidden])), []);
    const own = await newProject(nonMember);
    for (const name of [
      nameOf(open, 'a.txt'),
      `${own.org_id}/${open.id}/a.txt/${randomUUID()}`,
      `${open.org_id}/${own.id}/a.txt/${randomUUID()}`,
      `${own.org_id}/../${nameOf(open, 'a.txt')}`,
      nameOf(open, 'a.txt').toUpperCase(),
    ])
      await denied(upload(nonMember, name, 'x'));
    await denied(bucket(nonMember).copy(first, nameOf(own, 'stolen.md')));
    await denied(bucket(nonMember).move(first, nameOf(own, 'stolen.md')));
    // Encodings reach the service as they are.
    for (const path of [`${own.org_id}%2F..%2F${first}`, `${own.org_id}/..%2f${first}`, `%2e%2e/${first}`]) {
      const answer = await http('GET', `/storage/v1/object/project-files/${path}`, { token: nonMember.token });
      assert.ok(answer.status >= 400 && !answer.text.includes('first'), `${path}: ${answer.status}`);
    }
    const [file] = await filesOf(team.owner);
    await refused(nonMember.client.rpc('delete_project_file', { file_id: file.id }), 404, 'not_found');
    await refused(nonMember.client.rpc('restore_project_file', { file_id: file.id }), 404, 'not_found');
  });

  test('a viewer reads what is open; a member writes, and sees no private project', async () => {
    assert.equal(await (await ok(bucket(team.viewer).download(first))).text(), 'first');
    await denied(upload(team.viewer, nameOf(open, 'a.txt'), 'x'));
    assert.deepEqual(await ok(bucket(team.viewer).remove([first])), []);
    for (const person of [team.viewer, team.member]) {
      await denied(bucket(person).download(hidden));
      await denied(upload(person, nameOf(closed, 'a.txt'), 'x'));
      assert.deepEqual(
        (await filesOf(person)).filter(({ project_id }) => project_id === closed.id),
        [],
      );
    }
    const name = nameOf(open, 'of-member.txt');
    await ok(upload(team.member, name, 'mine'));
    const [file] = (await filesOf(team.viewer)).filter(({ path }) => path === 'of-member.txt');
    assert.deepEqual([file.object_name, file.bytes, file.content_type, file.created_by], [name, 4, 'text/plain', team.member.user.id]);
  });
});

describe('versions', () => {
  test('an upload is a new version; old ones come back; nothing is overwritten', async () => {
    const { client } = team.member;
    const names = ['one', 'two, longer', 'three'].map(() => nameOf(open, 'report.txt'));
    const used = async () => Number((await usageOf(team.owner)).storage_bytes.used);
    const before = await used();
    for (const [n, content] of ['one', 'two, longer', 'three'].entries()) await ok(upload(team.member, names[n], content));
    assert.equal((await used()) - before, 'one'.length + 'two, longer'.length + 'three'.length);
    const read = async () => (await filesOf(team.member)).find(({ path }) => path === 'report.txt');
    const file = await read();
    assert.deepEqual([file.version, file.object_name], [3, names[2]]);
    const versions = await ok(
      client.from('project_file_versions').select('version, bytes').eq('org_id', team.orgId).eq('file_id', file.id).order('version'),
    );
    assert.deepEqual(versions, [
      { version: 1, bytes: 3 },
      { version: 2, bytes: 11 },
      { version: 3, bytes: 5 },
    ]);
    await denied(upload(team.member, names[2], 'again'));
    await denied(bucket(team.member).update(names[2], new Blob(['over'])));
    await denied(bucket(team.member).move(names[2], nameOf(open, 'elsewhere.txt')));

    const restored = await ok(client.rpc('restore_project_file', { file_id: file.id, version: 1 }));
    assert.equal(await (await ok(bucket(team.member).download(restored.object_name))).text(), 'one');
    await ok(client.rpc('delete_project_file', { file_id: file.id }));
    assert.equal(await read(), undefined);
    assert.equal((await ok(client.rpc('restore_project_file', { file_id: file.id }))).version, 1);

    assert.equal((await ok(bucket(team.member).remove([names[0]]))).length, 1);
    assert.deepEqual([(await read()).version, (await read()).bytes], [3, 5]);
    await ok(bucket(team.member).remove(names));
    assert.equal(await read(), undefined);
    assert.equal(await used(), before);
  });

  test('a signed URL writes its name once, and there is none with upsert', async () => {
    const name = nameOf(open, 'signed.txt');
    await denied(bucket(team.member).createSignedUploadUrl(name, { upsert: true }));
    const { token } = await ok(bucket(team.member).createSignedUploadUrl(name));
    await ok(bucket(team.member).uploadToSignedUrl(name, token, new Blob(['once'])));
    await denied(bucket(team.member).uploadToSignedUrl(name, token, new Blob(['twice, and longer'])));
    assert.equal(await (await ok(bucket(team.member).download(name))).text(), 'once');
    const file = (await filesOf(team.member)).find(({ path }) => path === 'signed.txt');
    assert.deepEqual([file.version, file.bytes], [1, 4]);
  });

  test('two uploads of one path at once are two versions', async () => {
    const names = Array.from({ length: 4 }, () => nameOf(open, 'race.txt'));
    for (const answer of await Promise.all(names.map((name) => upload(team.member, name, name)))) assert.equal(answer.error, null);
    const file = (await filesOf(team.member)).find(({ path }) => path === 'race.txt');
    assert.deepEqual([file.version, file.last_version, names.includes(file.object_name)], [4, 4, true]);
  });

  test('an archived project takes no files; a deleted one takes its files along', async () => {
    const project = await newProject(team.owner);
    const name = nameOf(project, 'a.txt');
    await ok(upload(team.owner, name, 'x'));
    await ok(team.owner.client.rpc('archive_project', { project_id: project.id }));
    await denied(upload(team.owner, nameOf(project, 'b.txt'), 'x'));
    assert.equal(await (await ok(bucket(team.owner).download(name))).text(), 'x');
    await ok(team.owner.client.from('projects').delete().eq('id', project.id));
    await denied(bucket(team.owner).download(name));
    assert.deepEqual(
      (await filesOf(team.owner)).filter(({ project_id }) => project_id === project.id),
      [],
    );
  });
});
