// How a person becomes a member: invited by address, accepted by token.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { join, newPerson, newTeam, ok, refused, unaffected } from './domain.mjs';
import { http, sql } from './support.mjs';

const invite = (person, email, role) => person.client.rpc('invite_member', { email, ...(role && { role }) });
const members = async (person, orgId) => await ok(person.client.from('memberships').select('user_id, role').eq('org_id', orgId));

describe('an invitation', () => {
  test('is a token shown once; the user who accepts with it becomes a member', async () => {
    const [owner, guest] = await Promise.all([newPerson(), newPerson()]);
    const issued = await ok(invite(owner, ` ${guest.email.toUpperCase()} `, 'admin'));
    assert.deepEqual([issued.org_id, issued.email, issued.role], [owner.orgId, guest.email, 'admin']);
    assert.match(issued.token, /^kji_[0-9a-f]{64}$/);
    const days = (new Date(issued.expires_at) - Date.now()) / 86_400_000;
    assert.ok(days > 6.9 && days < 7.1, `${days}`);

    const [listed] = await ok(owner.client.from('invitations').select('*'));
    assert.deepEqual([listed.id, listed.status, listed.created_by], [issued.id, 'pending', owner.user.id]);
    assert.doesNotMatch(JSON.stringify(listed), new RegExp(issued.token));
    // Neither the address nor the id grants membership or visibility.
    assert.deepEqual(await ok(guest.client.from('invitations').select('*')), []);
    assert.deepEqual(await ok(guest.client.from('organizations').select('id')), [{ id: guest.orgId }]);
    for (const token of [issued.id, guest.email, '', 'kji_'])
      await refused(guest.client.rpc('accept_invitation', { token }), 404, 'not_found');

    const membership = await ok(guest.client.rpc('accept_invitation', { token: issued.token }));
    assert.deepEqual(
      [membership.org_id, membership.user_id, membership.role, membership.created_by],
      [owner.orgId, guest.user.id, 'admin', owner.user.id],
    );
    assert.equal((await members(owner, owner.orgId)).length, 2);
    assert.equal((await ok(owner.client.from('invitations').select('status').eq('id', issued.id).single())).status, 'accepted');
    await ok(guest.client.from('projects').select().setHeader('x-org-id', owner.orgId));
  });

  test('without a role grants the role member', async () => {
    const owner = await newPerson();
    assert.equal((await ok(invite(owner, 'x@example.com'))).role, 'member');
  });

  test('has the same response whether or not the address has an account', async () => {
    const [owner, known] = await Promise.all([newPerson(), newPerson()]);
    const answers = [
      await ok(invite(owner, known.email, 'viewer')),
      await ok(invite(owner, `nobody-${randomUUID()}@example.com`, 'viewer')),
    ];
    assert.deepEqual(...answers.map((answer) => Object.keys(answer)));
    const rows = await ok(owner.client.from('invitations').select('*'));
    for (const row of rows) assert.deepEqual([row.status, row.accepted_by], ['pending', null]);
  });

  test('works once: again by the same user it is one membership, by another user not_found', async () => {
    const [owner, guest, other] = await Promise.all([newPerson(), newPerson(), newPerson()]);
    const { token } = await ok(invite(owner, guest.email, 'viewer'));
    const answers = await Promise.all([1, 2, 3].map(() => guest.client.rpc('accept_invitation', { token })));
    assert.deepEqual(
      answers.map(({ error }) => error),
      [null, null, null],
    );
    assert.equal(new Set(answers.map(({ data }) => data.id)).size, 1);
    await refused(other.client.rpc('accept_invitation', { token }), 404, 'not_found');
    await refused(other.client.rpc('decline_invitation', { token }), 404, 'not_found');
    assert.equal((await members(owner, owner.orgId)).length, 2);
  });

  test('ends when declined, revoked, a week old, or replaced for the same address', async () => {
    const [owner, guest] = await Promise.all([newPerson(), newPerson()]);
    const accept = (token) => refused(guest.client.rpc('accept_invitation', { token }), 404, 'not_found');
    const first = await ok(invite(owner, guest.email, 'viewer'));
    await ok(guest.client.rpc('decline_invitation', { token: first.token }));
    await accept(first.token);
    const second = await ok(invite(owner, guest.email, 'viewer'));
    assert.equal((await ok(owner.client.rpc('revoke_invitation', { id: second.id }))).status, 'revoked');
    await accept(second.token);
    await refused(owner.client.rpc('revoke_invitation', { id: second.id }), 409, 'conflict');
    const third = await ok(invite(owner, guest.email, 'viewer'));
    await sql(`update public.invitations set expires_at = kijko.now() - interval '1 second' where id = $1`, [third.id]);
    await accept(third.token);
    const fourth = await ok(invite(owner, guest.email, 'viewer'));
    const fifth = await ok(invite(owner, guest.email.toUpperCase(), 'member'));
    assert.equal((await ok(owner.client.from('invitations').select('id').eq('status', 'pending'))).length, 1);
    await accept(fourth.token);
    assert.equal((await ok(guest.client.rpc('accept_invitation', { token: fifth.token }))).role, 'member');
  });

  test('stays open when the user is a member already and when no seat is left', async () => {
    const [owner, one, two, three] = await Promise.all([newPerson(), newPerson(), newPerson(), newPerson()]);
    const { token } = await ok(invite(owner, 'somebody@example.com', 'viewer'));
    await refused(owner.client.rpc('accept_invitation', { token }), 409, 'conflict');
    await join(one, owner.orgId, 'viewer', owner);
    await join(two, owner.orgId, 'viewer', owner);
    await refused(three.client.rpc('accept_invitation', { token }), 429, 'quota_exceeded');
    await ok(one.client.from('memberships').delete().eq('org_id', owner.orgId).eq('user_id', one.user.id));
    await ok(three.client.rpc('accept_invitation', { token }));
  });

  test('fails once the inviter cannot grant its role any more', async () => {
    const team = await newTeam();
    const { token } = await ok(invite(team.admin, team.nonMember.email, 'admin'));
    await ok(team.owner.client.from('memberships').update({ role: 'viewer' }).eq('org_id', team.orgId).eq('user_id', team.admin.user.id));
    await refused(team.nonMember.client.rpc('accept_invitation', { token }), 403, 'permission_denied');
    await ok(team.owner.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', team.admin.user.id));
    await refused(team.nonMember.client.rpc('accept_invitation', { token }), 403, 'permission_denied');
    assert.equal((await members(team.owner, team.orgId)).length, 3);
  });
});

describe('the right to invite', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('an owner invites any role, an admin any but owner, others none', async () => {
    for (const role of ['viewer', 'member', 'admin', 'owner']) {
      await ok(invite(team.owner, `${role}@example.com`, role));
      if (role === 'owner') await refused(invite(team.admin, 'x@example.com', role), 403, 'permission_denied');
      else await ok(invite(team.admin, `${role}@example.com`, role));
      await refused(invite(team.member, 'x@example.com', role), 403, 'permission_denied');
      await refused(invite(team.viewer, 'x@example.com', role), 403, 'permission_denied');
    }
  });

  test("all members read the list, none writes it, and an admin cannot revoke an owner's invitation", async () => {
    const { id } = await ok(invite(team.owner, 'boss@example.com', 'owner'));
    for (const person of [team.owner, team.admin, team.member, team.viewer]) {
      assert.equal((await ok(person.client.from('invitations').select('id').eq('id', id))).length, 1);
      await unaffected(person.client.from('invitations').update({ role: 'owner' }).eq('org_id', team.orgId).select());
      await unaffected(person.client.from('invitations').delete().eq('org_id', team.orgId).select());
      await refused(person.client.from('invitations').insert({ org_id: team.orgId, email: 'x@example.com', role: 'owner' }), 403, '42501');
      if (person !== team.owner) await refused(person.client.rpc('revoke_invitation', { id }), 403, 'permission_denied');
    }
    await refused(invite(team.admin, 'boss@example.com', 'viewer'), 403, 'permission_denied');
    await refused(team.nonMember.client.rpc('revoke_invitation', { id }), 404, 'not_found');
    await refused(
      team.nonMember.client.rpc('invite_member', { email: 'x@example.com', role: 'viewer' }).setHeader('x-org-id', team.orgId),
      403,
      'not_a_member',
    );
    await ok(team.owner.client.rpc('revoke_invitation', { id }));
  });

  test('bad input is refused and creates nothing', async () => {
    const { owner } = team;
    const count = async () => (await ok(owner.client.from('invitations').select('id'))).length;
    const earlier = await count();
    for (const email of ['', 'x', 'a@b@c', 'a b@c', 'a@b\n', `${'x'.repeat(320)}@y`, null])
      await refused(invite(owner, email, 'viewer'), 422, 'invalid_input');
    for (const role of ['emperor', 'OWNER', ''])
      await refused(owner.client.rpc('invite_member', { email: 'x@example.com', role }), 422, 'invalid_input');
    assert.equal(await count(), earlier);
  });

  test('the tables behind it are not served', async () => {
    for (const [path, headers] of [
      ['/rest/v1/invitation_tokens', {}],
      ['/rest/v1/invitation_tokens', { 'Accept-Profile': 'private' }],
      ['/rest/v1/active_organizations', {}],
    ]) {
      const answer = await http('GET', path, { token: team.owner.token, headers });
      assert.ok([404, 406].includes(answer.status), answer.text);
    }
  });
});
