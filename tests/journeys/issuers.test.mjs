// An organization's own login server signs its members in: enrolment, the first request, roles, and the end.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { join, newPerson, newTeam, ok, refused, setPlan, until } from './domain.mjs';
import { AUDIENCE, as, clientOf, enroll, newIssuer, newMember, newProvider, provision, ROLE_MAP, status } from './issuers_support.mjs';
import { api, http, sql } from './support.mjs';

const code = ({ status: got, body }) => [got, body?.code];
const roleOf = async ({ membership }) => (await sql('select role from public.memberships where id = $1', [membership.id]))[0]?.role;

describe('an issuer', () => {
  test('is enrolled, changed and removed by owners alone, and seen by admins', async () => {
    const team = await newTeam();
    const issuer = await newIssuer();
    const enrolling = (person) => person.client.rpc('enroll_issuer', { url: issuer.url, audiences: [AUDIENCE] });
    await refused(api().rpc('enroll_issuer', { url: issuer.url, audiences: [AUDIENCE] }), 401, '42501');
    for (const person of [team.admin, team.member, team.viewer]) await refused(enrolling(person), 403, 'permission_denied');
    await refused(enrolling(team.nonMember).setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    const { id } = await enroll(team.owner, issuer.url);
    await refused(enrolling(team.owner), 409, 'conflict');
    assert.equal((await ok(team.admin.client.rpc('list_issuers'))).length, 1);
    await refused(team.member.client.rpc('list_issuers'), 403, 'permission_denied');
    for (const [name, body] of [
      ['update_issuer', { id, changes: { enabled: false } }],
      ['remove_issuer', { id }],
    ]) {
      await refused(team.admin.client.rpc(name, body), 403, 'permission_denied');
      await refused(team.nonMember.client.rpc(name, body), 404, 'not_found');
    }
    assert.equal((await status(team.owner, id, 'active')).error, null);
    await ok(team.owner.client.rpc('remove_issuer', { id }));
    assert.deepEqual(await ok(team.owner.client.rpc('list_issuers')), []);
  });

  test('is refused with invalid settings', async () => {
    const owner = await newPerson();
    const issuer = await newIssuer();
    const good = { url: issuer.url, audiences: [AUDIENCE] };
    for (const bad of [
      { url: 'http://login.example.com' },
      { url: 'https://127.0.0.1/' },
      { url: 'https://10.0.0.1/' },
      { url: 'https://login.example.com/?a=b' },
      { url: 'https://user:pass@login.example.com' },
      { url: 'ftp://login.example.com' },
      { url: null },
      { audiences: [] },
      { audiences: [''] },
      { audiences: [null] },
      { audiences: null },
      { role_map: { a: 'owner' } },
      { role_map: { a: ['admin'] } },
      { role_map: [] },
      { default_role: 'owner' },
      { org_claim: 'org_id' },
      { email_domains: [] },
    ]) {
      await refused(owner.client.rpc('enroll_issuer', { ...good, ...bad }), 422, 'invalid_input');
    }
    const { id } = await enroll(owner, issuer.url);
    for (const changes of [
      { url: 'https://other.example.com' },
      { org_id: randomUUID() },
      { audiences: 'x' },
      { default_role: 'owner' },
      [],
    ]) {
      await refused(owner.client.rpc('update_issuer', { id, changes }), 422, 'invalid_input');
    }
  });
});

describe('a subject', () => {
  let owner;
  let issuer;
  let enrolled;
  before(async () => {
    owner = await newPerson('TEAMS');
    issuer = await newIssuer();
    enrolled = await enroll(owner, issuer.url);
  });

  test('has no access before a POST provisions it, and is then a member with the role of the token', async () => {
    const bearer = issuer.token({ sub: 'first', name: 'Grace Hopper', realm_access: { roles: ['kijko-member', 'other'] } });
    for (const request of [
      () => as(bearer, 'GET', '/projects?select=id'),
      () => as(bearer, 'POST', '/projects', { body: { name: 'Mine' } }),
      () => as(bearer, 'POST', '/rpc/list_issuers', { body: {} }),
      () => as(bearer, 'GET', '/rpc/provision'),
    ]) {
      assert.deepEqual(code(await request()), [403, 'provision_required']);
    }
    const [one, two] = await Promise.all([provision(bearer), provision(bearer)]);
    assert.deepEqual([one.status, two.status], [200, 200], `${one.text} ${two.text}`);
    assert.equal(one.body.id, two.body.id);
    assert.deepEqual([one.body.org_id, one.body.role], [owner.orgId, 'member']);
    const profiles = await ok(clientOf(bearer).from('profiles').select('id, email, display_name').eq('id', one.body.user_id));
    assert.deepEqual(profiles, [{ id: one.body.user_id, email: null, display_name: 'Grace Hopper' }]);
    assert.equal((await provision(bearer)).body.id, one.body.id, 'a repeated call');
  });

  test('works by the option accessToken of supabase-js', async () => {
    const { tokenOf, membership } = await newMember(issuer);
    const client = clientOf(tokenOf());
    const project = await ok(client.from('projects').insert({ name: 'By SSO' }).select().single());
    assert.deepEqual([project.org_id, project.created_by], [owner.orgId, membership.user_id]);
    assert.equal((await ok(client.from('projects').select('id').eq('org_id', owner.orgId).eq('id', project.id))).length, 1);
  });

  test('gets the role of each token, and cannot read with one that was taken away', async () => {
    const member = await newMember(issuer, ['kijko-member']);
    const upgraded = member.tokenOf(['kijko-admin']);
    assert.equal((await as(upgraded, 'GET', '/projects?select=id&limit=1')).status, 200);
    assert.equal(await roleOf(member), 'member', 'a GET writes nothing');
    assert.equal((await as(upgraded, 'POST', '/projects', { body: { name: 'Upgraded' } })).status, 201);
    assert.equal(await roleOf(member), 'admin');
    const downgraded = member.tokenOf(['kijko-viewer']);
    assert.deepEqual(code(await as(downgraded, 'GET', '/projects?select=id&limit=1')), [403, 'provision_required']);
    assert.equal((await provision(downgraded)).body.role, 'viewer');
    assert.equal((await as(downgraded, 'GET', '/projects?select=id&limit=1')).status, 200);
    assert.deepEqual(code(await as(downgraded, 'POST', '/projects', { body: { name: 'No' } })), [403, '42501']);
    await refused(owner.client.from('memberships').update({ role: 'admin' }).eq('id', member.membership.id).select(), 409, 'conflict');
  });

  test('keeps the role that an admin gives, where the issuer owns none', async () => {
    const other = await newIssuer();
    const { id } = await enroll(owner, other.url, { owns_roles: false });
    const member = await newMember(other, ['kijko-member']);
    await ok(owner.client.from('memberships').update({ role: 'admin' }).eq('id', member.membership.id).select());
    assert.equal((await as(member.tokenOf(['kijko-viewer']), 'POST', '/projects', { body: { name: 'Kept' } })).status, 201);
    assert.equal(await roleOf(member), 'admin');
    await ok(owner.client.rpc('remove_issuer', { id }));
  });

  test('without a role, or of another domain, gets no access', async () => {
    const strict = await newIssuer();
    await enroll(owner, strict.url, { default_role: null, email_domains: ['example.com'] });
    const good = { realm_access: { roles: ['kijko-viewer'] }, email: 'a@example.com', email_verified: true };
    for (const bad of [
      { realm_access: { roles: ['kijko-owner'] } },
      { realm_access: undefined },
      { email: 'a@else.example' },
      { email: undefined },
      { email_verified: false },
    ]) {
      assert.deepEqual(code(await provision(strict.token({ ...good, ...bad }))), [403, 'permission_denied'], JSON.stringify(bad));
    }
    assert.equal((await provision(strict.token(good))).status, 200);
  });

  test('is refused a seat that the plan does not have', async () => {
    const small = await newPerson();
    const other = await newIssuer();
    await enroll(small, other.url);
    for (let seat = 2; seat <= 3; seat += 1) await newMember(other);
    const refusal = await provision(other.token({ sub: 'one too many' }));
    assert.deepEqual(code(refusal), [429, 'quota_exceeded']);
    assert.doesNotMatch(refusal.text, /\b3\b/);
    await setPlan(small.orgId, 'PRO');
    assert.equal((await provision(other.token({ sub: 'one too many' }))).status, 200);
  });

  test('is a member of no other organization', async () => {
    const { tokenOf } = await newMember(issuer);
    assert.deepEqual(code(await as(tokenOf(), 'POST', '/rpc/create_organization', { body: { name: 'Mine' } })), [403, 'permission_denied']);
    const host = await newPerson();
    const { token } = await ok(host.client.rpc('invite_member', { email: 'a@example.com' }));
    assert.deepEqual(code(await as(tokenOf(), 'POST', '/rpc/accept_invitation', { body: { token } })), [403, 'permission_denied']);
  });

  test('is gone when it is banned, and with its issuer', async () => {
    const other = await newIssuer();
    const { id } = await enroll(owner, other.url);
    const member = await newMember(other);
    await sql(`update auth.users set banned_until = now() + interval '1 hour' where id = $1`, [member.membership.user_id]);
    assert.deepEqual(code(await as(member.tokenOf(), 'GET', '/projects?select=id')), [401, 'not_identified']);
    await sql('update auth.users set banned_until = null where id = $1', [member.membership.user_id]);
    assert.equal((await as(member.tokenOf(), 'GET', '/projects?select=id&limit=1')).status, 200);
    await ok(owner.client.rpc('update_issuer', { id, changes: { enabled: false } }));
    assert.deepEqual(code(await as(member.tokenOf(), 'GET', '/projects?select=id')), [401, 'not_identified']);
    await ok(owner.client.rpc('update_issuer', { id, changes: { enabled: true } }));
    assert.equal((await as(member.tokenOf(), 'GET', '/projects?select=id&limit=1')).status, 200);
    await ok(owner.client.rpc('remove_issuer', { id }));
    assert.deepEqual(code(await as(member.tokenOf(), 'GET', '/projects?select=id')), [401, 'not_identified']);
    assert.deepEqual(await sql('select id from auth.users where id = $1', [member.membership.user_id]), []);
  });

  test('comes by an issuer only', async () => {
    await refused(owner.client.rpc('provision'), 403, 'permission_denied');
    await refused(api().rpc('provision'), 401, '42501');
    assert.equal(enrolled.status, 'active');
    const colleague = await newPerson();
    await join(colleague, owner.orgId, 'member', owner);
    assert.deepEqual(Object.keys(ROLE_MAP).length, 3);
  });
});

describe('a certified server (oidc-provider)', () => {
  test('signs in, rotates its keys, goes down, and comes back', async () => {
    const owner = await newPerson('PRO');
    const provider = await newProvider();
    const { id } = await enroll(owner, provider.url);
    const first = await provider.tokenOf(['kijko-member']);
    assert.deepEqual(code(await as(first, 'GET', '/projects?select=id')), [403, 'provision_required']);
    assert.equal((await provision(first)).body.role, 'member');
    assert.equal((await as(first, 'GET', '/projects?select=id')).status, 200);

    provider.rotate('ES256');
    // An unknown key is looked for ten seconds after the last look.
    const second = await provider.tokenOf(['kijko-member']);
    await until('the new key to be known', async () => (await as(second, 'GET', '/projects?select=id')).status === 200, { everyMs: 500 });
    assert.deepEqual(code(await as(first, 'GET', '/projects?select=id')), [401, 'not_identified'], 'the former key is gone');

    await provider.close();
    await ok(owner.client.rpc('update_issuer', { id, changes: {} }));
    assert.equal((await status(owner, id, 'failing')).error, 'unreachable');
    assert.equal((await as(second, 'GET', '/projects?select=id')).status, 200, 'the last good keys are kept');

    await provider.open();
    await ok(owner.client.rpc('update_issuer', { id, changes: {} }));
    await status(owner, id, 'active');
    const third = await provider.tokenOf(['kijko-member']);
    assert.equal((await as(third, 'GET', '/projects?select=id')).status, 200);
    assert.equal((await http('GET', '/health')).status, 200);
  });
});
