// Features of plans, exceptions for one organization, and what is refused without a feature.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { assertAnonymousSeesNothing, newPerson, newTeam, ok, refused, setPlan, unaffected } from './domain.mjs';
import { admin, api, sql } from './support.mjs';

const feature = `journey_${randomUUID().slice(0, 8)}`;
const DAY = 86_400_000;
const override = (orgId, fields) =>
  admin()
    .from('plan_overrides')
    .insert({ org_id: orgId, reason: 'A journey', ends_at: new Date(Date.now() + DAY).toISOString(), ...fields })
    .select()
    .single();
const entitled = (person, code = feature) => ok(person.client.rpc('entitled', { feature: code }));

before(async () => {
  await ok(admin().from('features').insert({ code: feature, name: 'Journey' }));
  await ok(admin().from('plan_features').insert({ plan: 'TEAMS', feature }));
});
after(() => ok(admin().from('features').delete().eq('code', feature)));

describe('who may', () => {
  test('a non-member, a viewer, keys and anon see no exceptions, and nobody but the back office writes them', async () => {
    const team = await newTeam();
    await ok(override(team.orgId, { feature, included: false }));
    await assertAnonymousSeesNothing(['plan_overrides']);
    await refused(api().rpc('entitled', { feature }), 401, '42501');
    await refused(team.nonMember.client.rpc('entitled', { feature }).setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    const wildcard = keyClient((await createKey(team.owner, { permissions: ['*:read'] })).secret);
    const seen = async (client) => (await ok(client.from('plan_overrides').select().eq('org_id', team.orgId))).length;
    for (const client of [team.nonMember.client, team.viewer.client, wildcard]) assert.equal(await seen(client), 0);
    assert.equal(await seen(team.owner.client), 1);
    assert.equal(await ok(wildcard.rpc('entitled', { feature: 'custom_roles' })), true, 'a key asks for its organization');
    const own = { org_id: team.orgId, feature: 'sso', included: true, reason: 'x', ends_at: new Date(Date.now() + DAY).toISOString() };
    for (const { client } of [team.viewer, team.owner]) {
      await refused(client.from('plan_overrides').insert(own), 403, '42501');
      await unaffected(client.from('plan_overrides').update({ included: true }).eq('org_id', team.orgId).select());
      await refused(client.from('plan_features').insert({ plan: 'FREE', feature }), 403, '42501');
    }
  });

  test('the catalogue is public', async () => {
    const listed = await ok(api().from('features').select('code, plan_features(plan)').eq('code', feature).single());
    assert.deepEqual(listed.plan_features, [{ plan: 'TEAMS' }]);
  });
});

describe('what a plan includes', () => {
  test('a change of plan, of the catalogue or an exception counts for the next request', async () => {
    const person = await newPerson();
    assert.equal(await entitled(person), false);
    assert.equal(await entitled(person, 'no_such_feature'), false);
    await setPlan(person.orgId, 'TEAMS');
    assert.equal(await entitled(person), true);
    await setPlan(person.orgId, 'PRO');
    assert.equal(await entitled(person), false);
    await ok(admin().from('plan_features').insert({ plan: 'PRO', feature }));
    assert.equal(await entitled(person), true);
    await ok(admin().from('plan_features').delete().eq('plan', 'PRO').eq('feature', feature));
    assert.equal(await entitled(person), false);
    const { id } = await ok(override(person.orgId, { feature, included: true }));
    assert.equal(await entitled(person), true);
    await sql(`update public.plan_overrides set ends_at = now() where id = $1`, [id]);
    await sql('select private.plans_end_overrides()');
    assert.equal(await entitled(person), false);
    const [seen] = await ok(person.client.from('plan_overrides').select('ended_at').eq('id', id));
    assert.ok(seen.ended_at);
  });

  test('what the plan does not include is refused with 402, and what is there stays', async () => {
    const person = await newPerson('TEAMS');
    const role = () =>
      person.client.from('custom_roles').insert({ org_id: person.orgId, name: randomUUID(), permissions: ['skills:read'] });
    await ok(role().select());
    for (const code of ['custom_roles', 'sso', 'audit_export']) await ok(override(person.orgId, { feature: code, included: false }));
    await refused(role(), 402, 'plan_required');
    await refused(person.client.rpc('enroll_issuer', { url: 'https://login.example.com', audiences: ['kijko'] }), 402, 'plan_required');
    await refused(person.client.rpc('export_audit_log'), 402, 'plan_required');
    assert.equal(
      (await ok(person.client.from('custom_roles').update({ description: 'Kept' }).eq('org_id', person.orgId).select())).length,
      1,
    );
  });

  test('an exception raises a limit', async () => {
    const person = await newPerson();
    const project = (name) => person.client.from('projects').insert({ org_id: person.orgId, name });
    for (const name of ['a', 'b', 'c']) await ok(project(name));
    await refused(project('d'), 429, 'quota_exceeded');
    const { id } = await ok(override(person.orgId, { meter: 'projects', amount: 4 }));
    await ok(project('d'));
    await refused(project('e'), 429, 'quota_exceeded');
    await ok(admin().from('plan_overrides').delete().eq('id', id));
    await refused(project('e'), 429, 'quota_exceeded');
    assert.equal((await ok(person.client.from('projects').select('id').eq('org_id', person.orgId))).length, 4, 'nothing is lost');
  });

  test('hostile input is refused with a code', async () => {
    const person = await newPerson();
    await refused(override(person.orgId, { meter: 'no_such_meter', amount: 1 }), 422, 'invalid_input');
    await refused(override(person.orgId, { meter: 'projects', amount: -1 }), 400, '23514');
    await refused(override(person.orgId, { feature, included: true, ends_at: '2001-01-01T00:00:00Z' }), 422, 'invalid_input');
    await refused(override(person.orgId, { feature, included: true, ends_at: 'infinity' }), 422, 'invalid_input');
    assert.equal(await entitled(person, 'x'.repeat(100_000)), false);
  });
});
