// Changes that need a second person, as the people of a team meet them: a protected label of a prompt.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createKey, withKey } from './api_keys_support.mjs';
import { anonymous, assertAnonymousSeesNothing, ended, execute, newSkill, newTeam, ok, refused, until } from './domain.mjs';
import { sql } from './support.mjs';

/** A function, called by key. */
const byKey = (secret, name, body) => withKey(secret, 'POST', `/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
const rpc = (person, name, body) => person.client.rpc(name, body).setHeader('x-org-id', person.orgId);
const ask = (person, path, version, reason = 'better') =>
  ok(rpc(person, 'set_prompt_label', { path, label: 'production', version, reason }));
const approve = (person, id) => rpc(person, 'approve_change', { approval_id: id, reason: 'fine' });
const labelOf = async (person, path) => {
  const { data } = await rpc(person, 'get_prompt', { path });
  return data?.version ?? null;
};
const notices = async (person, type) =>
  (await ok(person.client.rpc('list_notifications', {}))).filter((notice) => notice.type === type && notice.org_id === person.orgId);

describe('approvals', () => {
  let team;
  before(async () => {
    team = await newTeam();
    await ok(rpc(team.admin, 'set_prompt_settings', { require_approval: true }));
  });

  const newPrompt = async (path) => {
    for (const content of ['one', 'two']) await ok(rpc(team.member, 'push_prompt', { path, content }));
  };

  test('unauthenticated callers and non-members see and decide nothing', async () => {
    await newPrompt('strangers');
    const { approval_id: id, applied } = await ask(team.member, 'strangers', 1);
    assert.equal(applied, false);
    await assertAnonymousSeesNothing(['approvals']);
    assert.deepEqual(await ok(team.nonMember.client.from('approvals').select().eq('id', id)), []);
    for (const name of ['approve_change', 'reject_change', 'withdraw_change']) {
      const body = { approval_id: id };
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.deepEqual([answer.status, answer.body.code], [401, '42501'], name);
      await refused(team.nonMember.client.rpc(name, body), 404, 'not_found');
    }
    await ok(rpc(team.member, 'withdraw_change', { approval_id: id }));
  });

  test('viewers and members do not decide, nor does who has asked, nor a key', async () => {
    await newPrompt('roles');
    const { approval_id: id } = await ask(team.member, 'roles', 1);
    for (const person of [team.viewer, team.member]) await refused(approve(person, id), 403, 'permission_denied');
    assert.equal((await ok(team.viewer.client.from('approvals').select('status').eq('id', id)))[0].status, 'pending');
    const { secret } = await createKey(team.owner, { permissions: ['prompts:read', 'prompts:write', 'prompts:approve', 'approvals:read'] });
    const decided = await byKey(secret, 'approve_change', { approval_id: id });
    assert.deepEqual([decided.status, decided.body.code], [403, 'permission_denied'], decided.text);
    const settings = await byKey(secret, 'set_prompt_settings', { require_approval: false });
    assert.deepEqual([settings.status, settings.body.code], [403, 'permission_denied'], settings.text);
    await ok(rpc(team.member, 'withdraw_change', { approval_id: id }));
    // What an admin has asked for, another one decides; what their key has asked for, too.
    const own = await ask(team.admin, 'roles', 1);
    await refused(approve(team.admin, own.approval_id), 403, 'permission_denied');
    await ok(approve(team.owner, own.approval_id));
    const asked = await byKey(secret, 'set_prompt_label', { path: 'roles', label: 'production', version: 2 });
    assert.equal(asked.body.applied, false, asked.text);
    await refused(approve(team.owner, asked.body.approval_id), 403, 'permission_denied');
    await ok(approve(team.admin, asked.body.approval_id));
    assert.equal(await labelOf(team.viewer, 'roles'), 2);
  });

  test('those who may approve are told, and who has asked is told what became of it', async () => {
    await newPrompt('told');
    const { approval_id: id } = await ask(team.member, 'told', 1);
    const forId = (list) => list.filter(({ data }) => data.approval_id === id);
    for (const person of [team.admin, team.owner]) assert.equal(forId(await notices(person, 'approval.requested')).length, 1);
    for (const person of [team.member, team.viewer]) assert.equal(forId(await notices(person, 'approval.requested')).length, 0);
    await ok(rpc(team.owner, 'reject_change', { approval_id: id, reason: 'worse' }));
    const [notice] = forId(await notices(team.member, 'approval.decided'));
    assert.match(notice.title, /^rejected: Move the label production of told to version 1$/);
    assert.equal(notice.body, 'worse');
    assert.equal(await labelOf(team.member, 'told'), null);
    await refused(approve(team.owner, id), 409, 'conflict');
  });

  test('a label that moved since is a conflict', async () => {
    await newPrompt('stale');
    const { approval_id: id } = await ask(team.member, 'stale', 1);
    await refused(rpc(team.member, 'set_prompt_label', { path: 'stale', label: 'production', version: 2 }), 409, 'conflict');
    // While nothing was protected it moved.
    await ok(rpc(team.owner, 'set_prompt_settings', { require_approval: false }));
    await ok(rpc(team.member, 'set_prompt_label', { path: 'stale', label: 'production', version: 2 }));
    await ok(rpc(team.owner, 'set_prompt_settings', { require_approval: true }));
    await refused(approve(team.owner, id), 409, 'conflict');
    assert.equal(await labelOf(team.member, 'stale'), 2);
    assert.equal((await ok(team.member.client.from('approvals').select('status').eq('id', id).single())).status, 'pending');
  });

  test('the next execution uses a label that an approved change has moved, and not before', async () => {
    await newPrompt('running');
    const { approval_id: first } = await ask(team.member, 'running', 1);
    await ok(approve(team.owner, first));
    const skill = await newSkill(team.member, { prompt_template: '', prompt_path: 'running' });
    const run = async () => {
      const { id } = await ok(execute(team.member, skill.id));
      return (await ended(team.member, id)).prompt_version;
    };
    assert.equal(await run(), 1);
    const { approval_id: second } = await ask(team.member, 'running', 2);
    assert.equal(await run(), 1, 'a request changes nothing');
    await ok(approve(team.admin, second));
    assert.equal(await run(), 2);
    const [change] = await ok(
      team.viewer.client.from('prompt_label_changes').select('from_version, to_version, created_by').eq('approval_id', second),
    );
    assert.deepEqual(change, { from_version: 1, to_version: 2, created_by: team.admin.user.id });
    const entries = await until('the audit log to have it', async () => {
      const rows = await ok(
        team.owner.client.from('audit_log').select('action, target_id').eq('org_id', team.orgId).eq('target_id', second),
      );
      return rows.length > 1 && rows;
    });
    assert.deepEqual(entries.map(({ action }) => action).sort(), ['approval.created', 'approval.updated']);
  });

  test('a request expires', async () => {
    await newPrompt('late');
    const { approval_id: id } = await ask(team.member, 'late', 1);
    await sql(`update public.approvals set expires_at = kijko.now() - interval '1 second' where id = $1`, [id]);
    const { data, error } = await approve(team.owner, id);
    assert.equal(data, null);
    // Maintenance of the stack may have been there first.
    assert.equal(error.code, 'conflict');
    const row = await until('the request to end', async () => {
      await sql('select private.approvals_maintain()');
      const seen = await ok(team.member.client.from('approvals').select('status, decided_by').eq('id', id).single());
      return seen.status !== 'pending' && seen;
    });
    assert.deepEqual(row, { status: 'expired', decided_by: null });
  });
});
