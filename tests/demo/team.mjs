// The demo's step about people: Ada invites a colleague, who gets a role that her organization has defined.
import assert from 'node:assert/strict';
import { ok, refused } from './setup.mjs';

export async function inviteColleague(say, { ada, cleo, bob, skill }) {
  const org = ada.organization.id;
  const catalogue = await ok(ada.client.rpc('permissions'));
  say(`${catalogue.length} permissions to choose from, for example ${catalogue[0].permission}: ${catalogue[0].description}`);
  const role = await ok(
    ada.client
      .from('custom_roles')
      .insert({
        org_id: org,
        name: 'Operator',
        description: 'Runs skills and sees what came of it',
        base_role: 'member',
        permissions: ['organization:read', 'skills:read', 'skills:execute', 'executions:read'],
      })
      .select()
      .single(),
  );
  const invitation = await ok(ada.client.rpc('invite_member', { email: cleo.email, custom_role_id: role.id }).setHeader('x-org-id', org));
  const sentAgain = await ok(ada.client.rpc('resend_invitation', { id: invitation.id }));
  await refused(bob.client.rpc('accept_invitation', { token: invitation.token }), 404, 'not_found');
  say('the token of an invitation that was sent again is dead');

  const membership = await ok(cleo.client.rpc('accept_invitation', { token: sentAgain.token }));
  assert.deepEqual([membership.org_id, membership.role, membership.custom_role_id], [org, 'member', role.id]);
  await ok(cleo.client.rpc('set_active_organization', { org_id: org }));
  assert.equal((await ok(cleo.client.from('skills').select('id').eq('id', skill.id))).length, 1);
  assert.deepEqual(await ok(cleo.client.from('projects').select('id').eq('org_id', org)), []);
  say(`Cleo is a ${membership.role} with the role "${role.name}": she sees skills and no projects`);
  assert.deepEqual(await ok(cleo.client.from('skills').update({ name: 'Mine' }).eq('id', skill.id).select()), []);

  await ok(
    ada.client
      .from('custom_roles')
      .update({ permissions: [...role.permissions, 'projects:read'] })
      .eq('id', role.id),
  );
  assert.equal((await ok(cleo.client.from('projects').select('id').eq('org_id', org))).length, 1);
  say('Ada adds projects:read, and the next request of Cleo sees the project');
  const conflict = await refused(ada.client.from('custom_roles').delete().eq('id', role.id), 409, 'conflict');
  say(`HTTP 409 ${conflict.code}: ${conflict.details}`);
}
