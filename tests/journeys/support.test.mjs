// explain_access(): what support is told, over HTTP, as whom.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, test } from 'node:test';
import { newTeam, ok, refused } from './domain.mjs';
import { admin, env, http } from './support.mjs';

let team;
let shared;
let hidden;
before(async () => {
  team = await newTeam();
  const project = (fields) => ok(team.owner.client.from('projects').insert(fields).select().single());
  shared = await project({ name: 'Shared value' });
  hidden = await project({ name: 'Hidden value', visibility: 'private' });
});

const explain = (client, subject, operation, row = shared, table = 'projects') =>
  client.rpc('explain_access', { subject, table_name: table, operation, row_id: row?.id ?? null });
const codesOf = ({ reasons }) => reasons.map(({ code }) => code);
const newKey = (permissions, fields = {}) =>
  ok(team.owner.client.rpc('create_api_key', { name: 'Key', permissions, rate_limit: 600, ...fields }));
const byKey = (secret, body) =>
  http('POST', '/rest/v1/rpc/explain_access', { body, headers: { 'X-API-Key': secret, 'Content-Type': 'application/json' } });

test('a non-member learns nothing, not even whether an id exists', async () => {
  const { client } = team.nonMember;
  const about = async (subject, row) => refused(explain(client, subject, 'select', row), 404, 'not_found');
  assert.deepEqual(await about(team.viewer.user.id, null), await about(randomUUID(), null));
  assert.deepEqual(await about(team.nonMember.user.id, shared), await about(team.nonMember.user.id, { id: randomUUID() }));
  await refused(explain(client, team.viewer.user.id, 'select').setHeader('x-org-id', team.orgId), 403, 'not_a_member');
  const unsigned = await http('POST', '/rest/v1/rpc/explain_access', {
    token: env.ANON_KEY,
    body: { subject: team.viewer.user.id, table_name: 'projects', operation: 'select' },
    headers: { 'Content-Type': 'application/json' },
  });
  assert.equal(unsigned.status, 401);
});

test('it needs audit:read, which viewers and members lack', async () => {
  for (const person of [team.viewer, team.member]) {
    await refused(explain(person.client, person.user.id, 'select'), 403, 'permission_denied');
  }
});

test('an admin is told which policy refuses, and the permission that is missing', async () => {
  const why = await ok(explain(team.admin.client, team.viewer.user.id, 'update'));
  assert.equal(why.allowed, false);
  assert.deepEqual(why.reasons, [{ code: 'permission_missing', policy: 'projects_update', permission: 'projects:write' }]);
  assert.equal(why.subject.role, 'viewer');
  assert.deepEqual(
    why.policies.map(({ policy, step, clause, holds }) => [policy, step, clause, holds]),
    [
      ['projects_select', 'select', 'using', true],
      ['projects_update', 'update', 'using', false],
      ['projects_update', 'update', 'check', false],
    ],
  );
  assert.equal((await ok(explain(team.admin.client, team.member.user.id, 'update'))).allowed, true);
  assert.ok(!JSON.stringify(why).includes('value'), 'no column of the row');
});

test('what it says is what the subject then meets', async () => {
  for (const person of [team.viewer, team.member, team.admin, team.owner]) {
    for (const row of [shared, hidden]) {
      const why = await ok(explain(team.owner.client, person.user.id, 'update', row));
      const changed = await ok(person.client.from('projects').update({ description: 'changed' }).eq('id', row.id).select());
      assert.equal(changed.length === 1, why.allowed, JSON.stringify(why));
    }
  }
  const why = await ok(explain(team.owner.client, team.member.user.id, 'select', hidden));
  assert.deepEqual(codesOf(why), ['private_project']);
});

test('keys: the entry that grants, what only reads, and what was revoked', async () => {
  const [reads, writes] = [await newKey(['*:read']), await newKey(['*:read', '*:write'])];
  const granted = await ok(explain(team.admin.client, writes.id, 'update'));
  assert.equal(granted.allowed, true);
  assert.deepEqual(granted.policies.at(-1).permissions[0].entries, ['*:write']);
  const refusal = await ok(explain(team.admin.client, reads.id, 'update'));
  assert.ok(codesOf(refusal).includes('read_only_key'));
  await ok(team.owner.client.rpc('revoke_api_key', { id: reads.id }));
  assert.deepEqual(codesOf(await ok(explain(team.admin.client, reads.id, 'select'))), ['revoked']);
});

test('the caller is the same afterwards: in the request, and in those that share its connection', async () => {
  const key = await newKey(['audit:read', 'members:read', 'projects:read', 'projects:write']);
  const body = { subject: team.viewer.user.id, table_name: 'projects', operation: 'update', row_id: shared.id };
  for (let n = 0; n < 30; n += 1) {
    assert.equal((await byKey(key.secret, body)).body.allowed, false);
    await refused(explain(team.admin.client, randomUUID(), 'select'), 404, 'not_found');
    assert.equal((await ok(explain(team.admin.client, team.viewer.user.id, 'update'))).allowed, false);
    assert.deepEqual(await ok(team.nonMember.client.from('projects').select('id')), []);
    const visible = await ok(team.viewer.client.from('projects').select('id').eq('org_id', team.orgId));
    assert.deepEqual(
      visible.map(({ id }) => id),
      [shared.id],
    );
  }
});

test('the back office asks about everybody', async () => {
  const stranger = await ok(explain(admin(), team.nonMember.user.id, 'select'));
  assert.equal(stranger.allowed, false);
  assert.ok(codesOf(stranger).includes('not_a_member'));
  const why = await ok(explain(admin(), team.viewer.user.id, 'insert', null).setHeader('x-org-id', team.orgId));
  assert.equal(why.org_id, team.orgId);
  assert.deepEqual(codesOf(why), ['permission_missing']);
  await refused(explain(admin(), randomUUID(), 'select', null), 404, 'not_found');
  await refused(explain(admin(), team.viewer.user.id, 'truncate'), 422, 'invalid_input');
  await refused(explain(admin(), team.viewer.user.id, 'select', null, 'pg_class'), 422, 'invalid_input');
});
