// An organization that requires its own login server, over HTTP: members by it and members by our login, in turns over shared connections.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { newTeam, ok, refused, until } from './domain.mjs';
import { as, clientOf, enroll, newIssuer, newMember, provision, status } from './issuers_support.mjs';
import { http, signIn, sql } from './support.mjs';

describe('an organization that requires its issuer', () => {
  let team;
  let issuer;
  let enrolled;
  let colleague;
  let key;
  before(async () => {
    team = await newTeam();
    issuer = await newIssuer();
    enrolled = await enroll(team.owner, issuer.url);
    colleague = await newMember(issuer);
    await ok(team.owner.client.from('projects').insert({ name: 'One' }).select());
    key = await ok(team.owner.client.rpc('create_api_key', { name: 'Key', permissions: ['projects:read'], rate_limit: 600 }));
  });

  const organization = ({ client }) => client.from('organizations');
  const require = (person, value) => organization(person).update({ sso_required: value }).eq('id', team.orgId).select('sso_required');
  const projects = ({ client }) => client.from('projects').select('name').eq('org_id', team.orgId);
  const breakGlass = (person, value) =>
    person.client.from('memberships').update({ is_break_glass: value }).eq('org_id', team.orgId).eq('user_id', team.owner.user.id).select();

  test('is made by an owner, who names a break-glass owner first', async () => {
    assert.deepEqual(await ok(require(team.nonMember, true)), []);
    for (const person of [team.viewer, team.member]) assert.deepEqual(await ok(require(person, true)), []);
    await refused(require(team.admin, true), 403, 'permission_denied');
    assert.deepEqual(await ok(breakGlass(team.admin, true)), [], 'an admin names nobody');
    await refused(require(team.owner, true), 409, 'conflict');
    assert.equal((await ok(breakGlass(team.owner, true))).length, 1);
    assert.deepEqual(await ok(require(team.owner, true)), [{ sso_required: true }]);
  });

  test('shows and does nothing by another sign-in, also over a connection that has served a member by the issuer', async () => {
    for (let n = 0; n < 10; n += 1) {
      const seen = await as(colleague.tokenOf(), 'GET', `/projects?select=name&org_id=eq.${team.orgId}`);
      assert.deepEqual(seen.body, [{ name: 'One' }]);
      for (const person of [team.admin, team.member, team.viewer]) {
        await refused(projects(person).setHeader('x-org-id', team.orgId), 403, 'sso_required');
        assert.deepEqual(await ok(projects(person)), []);
        await refused(person.client.rpc('usage_summary'), 403, 'sso_required');
      }
      await refused(projects(team.nonMember).setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    }
    await refused(team.admin.client.rpc('create_api_key', { name: 'New', permissions: ['projects:read'] }), 403, 'sso_required');
    await refused(
      team.admin.client.from('api_keys').insert({ org_id: team.orgId, name: 'New', permissions: ['projects:read'] }),
      403,
      'sso_required',
    );
    const answer = await http('GET', '/rest/v1/projects?select=name', { headers: { 'X-API-Key': key.secret } });
    assert.deepEqual(answer.body, [{ name: 'One' }], 'keys go on');
  });

  test('leaves other organizations of a member alone', async () => {
    const { viewer } = team;
    const own = await ok(viewer.client.from('organizations').select('id'));
    assert.equal(own.length, 1);
    await ok(viewer.client.rpc('set_active_organization', { org_id: own[0].id }));
    await ok(viewer.client.from('projects').insert({ org_id: own[0].id, name: 'Mine' }));
    await ok(viewer.client.rpc('leave_organization', { org_id: team.orgId }));
  });

  test('takes new members by the issuer', async () => {
    const fresh = await newMember(issuer, ['kijko-admin']);
    assert.equal((await as(fresh.tokenOf(), 'GET', '/projects?select=id&limit=1')).body.length, 1);
  });

  test('writes each sign-in of a break-glass owner into the audit log', async () => {
    const again = await signIn(team.owner);
    assert.deepEqual(await ok(projects(again)), [{ name: 'One' }]);
    const entries = await ok(
      again.client
        .from('audit_log')
        .select('target_id,created_by,address')
        .eq('org_id', team.orgId)
        .eq('action', 'session.break_glass')
        .order('seq'),
    );
    assert.ok(entries.length >= 2, 'the session that there was, and the new one');
    for (const { created_by } of entries) assert.equal(created_by, team.owner.user.id);
    assert.ok(entries.at(-1).address);
  });

  test('keeps its last way in', async () => {
    await refused(breakGlass(team.owner, false), 409, 'conflict');
    await refused(team.owner.client.rpc('leave_organization', { org_id: team.orgId }), 409, 'conflict');
    await refused(team.owner.client.rpc('remove_issuer', { id: enrolled.id }), 409, 'conflict');
    await refused(team.owner.client.rpc('update_issuer', { id: enrolled.id, changes: { enabled: false } }), 409, 'conflict');
    // A server that is down is none of the organization's doing.
    await issuer.close();
    await ok(team.owner.client.rpc('update_issuer', { id: enrolled.id, changes: {} }));
    await status(team.owner, enrolled.id, 'failing');
    assert.deepEqual(await ok(projects(team.owner)), [{ name: 'One' }]);
  });

  test('takes a second factor of its issuer where it requires both', async () => {
    // By an operator, since the owner has no factor.
    await sql('update public.organizations set mfa_required = true where id = $1', [team.orgId]);
    const path = `/projects?select=name&org_id=eq.${team.orgId}`;
    const named = { headers: { 'x-org-id': team.orgId } };
    for (const amr of [undefined, 'mfa', ['pwd'], [['mfa']]]) {
      const answer = await as(colleague.tokenOf(undefined, { amr }), 'GET', path, named);
      assert.deepEqual([answer.status, answer.body?.code], [403, 'insufficient_aal'], JSON.stringify(amr));
    }
    assert.deepEqual((await as(colleague.tokenOf(undefined, { amr: ['pwd', 'mfa'] }), 'GET', path, named)).body, [{ name: 'One' }]);
    await refused(projects(team.owner).setHeader('x-org-id', team.orgId), 403, 'insufficient_aal');
    await sql('update public.organizations set mfa_required = false where id = $1', [team.orgId]);
    await until('the change to reach every connection', async () => (await ok(projects(team.owner))).length === 1);
  });

  test('opens again', async () => {
    assert.deepEqual(await ok(require(team.owner, false)), [{ sso_required: false }]);
    await until('the change to reach every connection', async () => (await ok(projects(team.admin))).length === 1);
    assert.equal((await ok(breakGlass(team.owner, false))).length, 1);
  });
});

describe('a member by an issuer that does not own roles', () => {
  test('does not undo a demotion by leaving and coming back', async () => {
    const team = await newTeam();
    const issuer = await newIssuer();
    await enroll(team.owner, issuer.url, { owns_roles: false });
    const member = await newMember(issuer, ['kijko-admin']);
    await ok(team.owner.client.from('memberships').update({ role: 'viewer' }).eq('id', member.membership.id).select());
    await ok(clientOf(member.tokenOf()).rpc('leave_organization', { org_id: team.orgId }));
    const back = await provision(member.tokenOf());
    assert.deepEqual([back.body.role, back.body.user_id], ['viewer', member.membership.user_id], back.text);
  });
});
