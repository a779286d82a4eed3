// Invitations that are sent again, and those that give a custom role. (Binding to an address is a setting of the installation:
// pgTAP tests it in a transaction.)
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { anonymous, newPerson, newTeam, ok, refused } from './domain.mjs';
import { sql } from './support.mjs';

const invite = (person, fields) => person.client.rpc('invite_member', fields);
const resend = (person, id) => person.client.rpc('resend_invitation', { id });
const accept = (person, token) => person.client.rpc('accept_invitation', { token });

describe('sending again', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('a non-member, an unauthenticated caller and lower roles cannot', async () => {
    const { id } = await ok(invite(team.owner, { email: 'boss@example.com', role: 'owner' }));
    await refused(resend(team.nonMember, id), 404, 'not_found');
    await refused(resend(team.nonMember, randomUUID()), 404, 'not_found');
    const answer = await anonymous('POST', '/rest/v1/rpc/resend_invitation', {
      body: JSON.stringify({ id }),
      headers: { 'Content-Type': 'application/json' },
    });
    assert.equal(answer.status, 401, answer.text);
    for (const person of [team.admin, team.member, team.viewer]) await refused(resend(person, id), 403, 'permission_denied');
  });

  test('gives a new token and the full time; the earlier token is dead', async () => {
    const guest = await newPerson();
    const first = await ok(invite(team.admin, { email: guest.email, role: 'viewer' }));
    await sql(`update public.invitations set expires_at = kijko.now() - interval '1 day' where id = $1`, [first.id]);
    await refused(accept(guest, first.token), 404, 'not_found');
    const second = await ok(resend(team.owner, first.id));
    assert.deepEqual([second.id, second.email, second.role, second.custom_role_id], [first.id, guest.email, 'viewer', null]);
    const days = (new Date(second.expires_at) - Date.now()) / 86_400_000;
    assert.ok(days > 6.9 && days < 7.1, `${days}`);
    await refused(accept(guest, first.token), 404, 'not_found');
    const [listed] = await ok(team.viewer.client.from('invitations').select('*').eq('id', first.id));
    assert.deepEqual([listed.created_by, listed.sent_by, listed.status], [team.admin.user.id, team.owner.user.id, 'pending']);
    assert.doesNotMatch(JSON.stringify(listed), new RegExp(second.token));
    assert.equal((await ok(accept(guest, second.token))).created_by, team.owner.user.id);
    await refused(resend(team.owner, first.id), 409, 'conflict');
  });
});

describe('a custom role', () => {
  test('is what the invitee gets, as long as the sender holds what it holds', async () => {
    const [team, guest] = await Promise.all([newTeam(), newPerson()]);
    const roles = team.owner.client.from('custom_roles');
    const role = await ok(
      roles
        .insert({ name: 'Editor', permissions: ['skills:read', 'skills:write'] })
        .select()
        .single(),
    );
    const foreign = await ok(guest.client.from('custom_roles').insert({ name: 'Theirs' }).select().single());
    for (const custom_role_id of [foreign.id, randomUUID()])
      await refused(invite(team.admin, { email: 'x@example.com', custom_role_id }), 422, 'invalid_input');
    for (const person of [team.member, team.viewer])
      await refused(invite(person, { email: 'x@example.com', custom_role_id: role.id }), 403, 'permission_denied');
    const issued = await ok(invite(team.admin, { email: guest.email, role: 'admin', custom_role_id: role.id }));
    assert.deepEqual([issued.role, issued.custom_role_id], ['viewer', role.id]);
    await refused(roles.delete().eq('id', role.id), 409, 'conflict');

    const change = (permissions) => ok(team.owner.client.from('custom_roles').update({ permissions }).eq('id', role.id));
    await change(['skills:read', 'billing:write']);
    await refused(accept(guest, issued.token), 403, 'permission_denied');
    await refused(invite(team.admin, { email: 'x@example.com', custom_role_id: role.id }), 403, 'permission_denied');
    await change(['skills:read']);
    const membership = await ok(accept(guest, issued.token));
    assert.deepEqual([membership.role, membership.custom_role_id], ['viewer', role.id]);
    const can = (permission) => ok(guest.client.rpc('can', { org: team.orgId, permission }));
    assert.deepEqual([await can('skills:read'), await can('projects:read')], [true, false]);
  });
});
