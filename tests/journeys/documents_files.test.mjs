// Ingestion of a project's files: uploads become documents that members search. The stack's own sidecar reads them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { newTeam, ok, refused, until } from './domain.mjs';

test('the files of a project are searched as documents, and go with them', async () => {
  const team = await newTeam();
  const { client } = team.owner;
  const project = await ok(client.from('projects').insert({ name: 'Files' }).select().single());
  const bucket = client.storage.from('project-files');
  const upload = async (path, content, contentType = 'text/plain') => {
    const name = `${project.org_id}/${project.id}/${path}/${randomUUID()}`;
    await ok(bucket.upload(name, new Blob([content], { type: contentType }), { contentType }));
    return name;
  };
  await upload('notes/plan.md', 'A brown fox: café');
  await upload('logo.png', new Uint8Array([137, 80]), 'image/png');
  await upload('data.bin', new Uint8Array([0, 255, 1]));
  await refused(team.nonMember.client.rpc('start_ingestion', { project_id: project.id }), 404, 'not_found');
  const ingest = async () => {
    await ok(client.rpc('start_ingestion', { project_id: project.id }));
    return until('the ingestion', async () => {
      const status = await ok(client.rpc('ingestion_status', { project_id: project.id }));
      return status.status !== 'running' && status;
    });
  };
  const { status, files_done, files_total, files_skipped, finished_at } = await ingest();
  assert.deepEqual([status, files_done, files_total, files_skipped], ['succeeded', 3, 3, 2]);
  assert.ok(finished_at);
  const find = (person, q) => ok(person.client.rpc('search_documents', { q }).setHeader('x-org-id', team.orgId));
  const [found] = await find(team.viewer, 'fox');
  assert.deepEqual([found.path, found.project_id, found.excerpt], ['files/notes/plan.md', project.id, 'A brown <b>fox</b>: café']);

  const second = await upload('notes/plan.md', 'A red fox');
  await ingest();
  assert.equal((await find(team.owner, 'red'))[0].id, found.id);
  const [file] = await ok(client.from('project_files').select().eq('object_name', second));
  await ok(client.rpc('delete_project_file', { file_id: file.id }));
  await ingest();
  assert.deepEqual(await find(team.owner, 'fox'), []);
});
