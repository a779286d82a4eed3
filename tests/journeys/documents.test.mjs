// Documents over HTTP.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { assertAnonymousSeesNothing, newTeam, ok, refused } from './domain.mjs';

describe('documents', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('anonymous callers and non-members see nothing, viewers write nothing', async () => {
    await assertAnonymousSeesNothing(['documents']);
    await ok(team.member.client.from('documents').insert({ path: 'notes/plan.md', content: 'A brown fox' }));
    assert.deepEqual(await ok(team.nonMember.client.from('documents').select('path')), []);
    assert.deepEqual(await ok(team.nonMember.client.rpc('search_documents', { q: 'fox' })), []);
    await refused(team.viewer.client.from('documents').insert({ path: 'x' }), 403, '42501');
  });

  test('members write, replace and find them', async () => {
    const { client, orgId } = team.member;
    const row = { org_id: orgId, project_id: null, path: 'notes/plan.md', content: 'A red fox', tags: ['plan'] };
    await ok(client.from('documents').upsert(row, { onConflict: 'org_id,project_id,path' }));
    const found = await ok(team.viewer.client.rpc('search_documents', { q: 'red', tags: ['plan'] }));
    assert.deepEqual(
      found.map(({ path, excerpt }) => [path, excerpt]),
      [['notes/plan.md', 'A <b>red</b> fox']],
    );
    await refused(client.from('documents').insert({ path: '../plan.md' }), 400, '23514');
    await refused(client.from('documents').insert({ path: 'notes/plan.md' }), 409, '23505');
  });
});
