// An organization that requires a second factor, over HTTP: both sessions of one member, in turns over shared connections.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { answerFactor, codeOf, enroll, formerCodeOf, mailTo } from './auth_support.mjs';
import { newTeam, ok, refused, until } from './domain.mjs';
import { api, http, signIn } from './support.mjs';

describe('an organization that requires a second factor', () => {
  let team;
  let factor;
  let key;
  /** The owner without the factor, and the same owner with it. */
  let plain;
  before(async () => {
    team = await newTeam();
    await ok(team.owner.client.from('projects').insert({ name: 'One' }).select());
    key = await ok(team.owner.client.rpc('create_api_key', { name: 'Key', permissions: ['projects:read'], rate_limit: 600 }));
    factor = await enroll(team.owner);
    assert.equal((await answerFactor(team.owner.client, factor, await formerCodeOf(factor.secret))).error, null);
    plain = await signIn(team.owner);
  });

  const projects = ({ client }) => client.from('projects').select('name').eq('org_id', team.orgId);
  const required = async (value, { client } = team.owner) =>
    ok(client.from('organizations').update({ mfa_required: value }).eq('id', team.orgId).select('mfa_required'));

  test('is made by somebody who has one', async () => {
    await refused(plain.client.from('organizations').update({ mfa_required: true }).eq('id', team.orgId).select(), 403, 'insufficient_aal');
    await refused(
      team.admin.client.from('organizations').update({ mfa_required: true }).eq('id', team.orgId).select(),
      403,
      'insufficient_aal',
    );
    assert.deepEqual(await required(true, team.viewer), [], 'a viewer changes nothing');
    assert.deepEqual(await required(true), [{ mfa_required: true }]);
  });

  test('shows and does nothing without one, also over a connection that has served one', async () => {
    for (let n = 0; n < 10; n += 1) {
      assert.deepEqual(await ok(projects(team.owner).setHeader('x-org-id', team.orgId)), [{ name: 'One' }]);
      for (const person of [plain, team.admin, team.viewer]) {
        await refused(projects(person).setHeader('x-org-id', team.orgId), 403, 'insufficient_aal');
        assert.deepEqual(await ok(projects(person)), []);
        await refused(person.client.rpc('usage_summary'), 403, 'insufficient_aal');
      }
      await refused(projects(team.nonMember).setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    }
    assert.equal((await plain.client.from('projects').insert({ org_id: team.orgId, name: 'Two' })).status, 403);
    const made = await plain.client.from('api_keys').insert({ org_id: team.orgId, name: 'New', permissions: ['projects:read'] });
    assert.equal(made.status, 403, JSON.stringify(made.error));
  });

  test('leaves keys alone', async () => {
    const answer = await http('GET', '/rest/v1/projects?select=name', { headers: { 'X-API-Key': key.secret } });
    assert.deepEqual(answer.body, [{ name: 'One' }]);
  });

  test('lets a member add one after a sign-in by mail, and not by the password alone, and is then open to them', async () => {
    const { email } = team.admin;
    const stolen = await team.admin.client.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'thief' });
    assert.deepEqual([stolen.error?.status, stolen.error?.code], [400, 'reauthentication_needed']);
    const free = await team.nonMember.client.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'own' });
    assert.equal(free.error, null, 'whose organizations require none needs no mail');
    const admin = { ...team.admin, client: api() };
    assert.equal((await admin.client.auth.signInWithOtp({ email })).error, null);
    const { data: mail } = await mailTo(email, 'magic_link');
    assert.equal((await admin.client.auth.verifyOtp({ email, token: mail.token, type: 'email' })).error, null);
    const added = await enroll(admin);
    assert.equal((await answerFactor(admin.client, added, codeOf(added.secret))).error, null);
    assert.deepEqual(await ok(projects(admin)), [{ name: 'One' }]);
  });

  test('can be left, and the person sees what else is theirs', async () => {
    const { viewer } = team;
    const own = await ok(viewer.client.from('organizations').select('id'));
    assert.equal(own.length, 1);
    await ok(viewer.client.rpc('leave_organization', { org_id: team.orgId }));
    assert.deepEqual(
      (await ok(viewer.client.from('memberships').select('org_id'))).map(({ org_id }) => org_id),
      own.map(({ id }) => id),
    );
  });

  test('opens again, and both steps are in the audit log', async () => {
    assert.deepEqual(await required(false), [{ mfa_required: false }]);
    await until('the change to reach every connection', async () => (await ok(projects(plain))).length === 1);
    const entries = await ok(
      team.owner.client
        .from('audit_log')
        .select('created_by,after')
        .eq('org_id', team.orgId)
        .eq('action', 'organization.updated')
        .order('seq'),
    );
    assert.deepEqual(
      entries,
      [true, false].map((value) => ({ created_by: team.owner.user.id, after: { mfa_required: value } })),
    );
  });
});
