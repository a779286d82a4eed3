// The demo's step about prompts: a version is pushed, its production label moves when a colleague approves, and the next execution
// runs it.
import assert from 'node:assert/strict';
import { checkSuccess, follow, MODEL, ok, refused } from './setup.mjs';

export async function promptMovesByApproval(say, { ada, cleo, project }) {
  const path = 'release/summarise';
  const push = (content) => ok(ada.client.rpc('push_prompt', { path, content, message: content }));
  const move = (version) => ok(ada.client.rpc('set_prompt_label', { path, label: 'production', version, reason: 'Shorter' }));
  await push('Summarise in a sentence: {{ changes }}');
  await move(1);
  const fields = { project_id: project.id, name: 'Summarise', prompt_path: path, model: MODEL, parameters: { max_tokens: 80 } };
  const skill = await ok(ada.client.from('skills').insert(fields).select().single());
  const run = async () => {
    const { id } = await ok(ada.client.rpc('execute_skill', { skill_id: skill.id, input: { changes: 'Labels move by approval.' } }));
    const execution = await follow(ada.client, id);
    checkSuccess(execution);
    return execution.prompt_version;
  };
  assert.equal(await run(), 1);
  say(`${path} is pushed; a skill names it, and its execution ran version 1`);

  await ok(ada.client.rpc('set_prompt_settings', { require_approval: true }));
  await push('In five words: {{ changes }}');
  const { applied, approval_id: approval } = await move(2);
  assert.equal(applied, false);
  const refusal = await refused(ada.client.rpc('approve_change', { approval_id: approval }), 403, 'permission_denied');
  assert.equal(await run(), 1);
  say(`version 2 waits for an approval, which Ada cannot give herself: HTTP 403 ${refusal.code}`);

  const [role] = await ok(ada.client.from('custom_roles').select('id, permissions').eq('name', 'Operator'));
  const permissions = [...role.permissions, 'prompts:read', 'prompts:approve', 'approvals:read'];
  await ok(ada.client.from('custom_roles').update({ permissions }).eq('id', role.id));
  const decided = await ok(cleo.client.rpc('approve_change', { approval_id: approval, reason: 'Read it' }));
  assert.equal(decided.status, 'approved');
  assert.equal(await run(), 2);
  say('Cleo approves, and the next execution runs version 2');
}
