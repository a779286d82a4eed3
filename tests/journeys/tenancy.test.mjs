// Who belongs where, and what follows from it: sign-up, membership, roles, the working organization, and the end of all that.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  anonymous,
  assertAnonymousSeesNothing,
  join,
  newPerson,
  newSkill,
  ok,
  refused,
  setPlan,
  TENANT_TABLES,
  unaffected,
} from './domain.mjs';
import { api, env, http, newUser } from './support.mjs';

describe('an unauthenticated caller', () => {
  test('reads and writes nothing', async () => {
    await assertAnonymousSeesNothing(TENANT_TABLES);
    for (const [method, path, body] of [
      ['POST', '/rest/v1/projects', { name: 'Mine' }],
      ['PATCH', '/rest/v1/projects?name=neq.x', { name: 'Mine' }],
      ['DELETE', '/rest/v1/projects?name=neq.x', undefined],
    ]) {
      const answer = await anonymous(method, path, { body, headers: { 'Content-Type': 'application/json' } });
      assert.equal(answer.status, 401, `${method}: ${answer.text}`);
      assert.equal(answer.body.code, '42501');
    }
  });

  test('calls no function', async () => {
    for (const [name, body] of [
      ['execute_skill', { skill_id: randomUUID() }],
      ['run_habit', { habit_id: randomUUID() }],
      ['cancel_execution', { id: randomUUID() }],
      ['retry_execution', { id: randomUUID() }],
      ['usage_summary', {}],
      ['create_organization', { name: 'Mine' }],
      ['set_active_organization', { org_id: randomUUID() }],
      ['invite_member', { email: 'x@example.com' }],
      ['accept_invitation', { token: 'x' }],
      ['decline_invitation', { token: 'x' }],
      ['revoke_invitation', { id: randomUUID() }],
      ['preview_cron', { expression: '* * * * *' }],
    ]) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.equal(answer.status, 401, `${name}: ${answer.text}`);
    }
  });

  test('stays unauthenticated with a token that we did not sign', async () => {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { sub: randomUUID(), role: 'service_role', exp: 4102444800, aud: 'authenticated' };
    for (const token of [
      `${part({ alg: 'none' })}.${part(claims)}.`,
      `${part({ alg: 'HS256' })}.${part(claims)}.${Buffer.alloc(32).toString('base64url')}`,
      `${part({ alg: 'ES256' })}.${part(claims)}.${Buffer.alloc(64).toString('base64url')}`,
      'not-a-token',
    ]) {
      const answer = await http('GET', '/rest/v1/projects', { token });
      assert.equal(answer.status, 401, answer.text);
    }
  });

  test('stays unauthenticated with headers that only our own proxy can set', async () => {
    const { user } = await newPerson();
    const answer = await anonymous('GET', '/rest/v1/profiles', {
      headers: { 'X-Kijko-Authorization': `Bearer ${env.SERVICE_ROLE_KEY}`, 'X-Kijko-Claims': JSON.stringify({ sub: user.id }) },
    });
    assert.equal(answer.status, 401);
  });
});

describe('sign-up', () => {
  test('creates a profile, a personal organization owned by the user, and a FREE subscription', async () => {
    const { client, user, email, orgId } = await newPerson();
    assert.deepEqual(await ok(client.from('profiles').select('id, email, active_org_id')), [{ id: user.id, email, active_org_id: orgId }]);
    assert.deepEqual(await ok(client.from('organizations').select('id, personal_for, created_by')), [
      { id: orgId, personal_for: user.id, created_by: user.id },
    ]);
    assert.deepEqual(await ok(client.from('memberships').select('org_id, user_id, role')), [
      { org_id: orgId, user_id: user.id, role: 'owner' },
    ]);
    assert.deepEqual(await ok(client.from('subscriptions').select('org_id, plan, status')), [
      { org_id: orgId, plan: 'FREE', status: 'active' },
    ]);
  });

  test('succeeds with any metadata', async () => {
    for (const data of [
      { display_name: ' ' },
      { display_name: 'x'.repeat(5000) },
      { display_name: { a: 1 } },
      { full_name: '\u202e<script>' },
    ]) {
      const supabase = api();
      const { data: made, error } = await supabase.auth.signUp({
        email: `odd-${randomUUID()}@example.com`,
        password: `pw-${randomUUID()}`,
        options: { data },
      });
      assert.equal(error, null, JSON.stringify(data));
      assert.equal((await ok(supabase.from('organizations').select('id'))).length, 1, made.user.id);
    }
  });
});

describe('a display name', () => {
  test('is the first of display_name, full_name, name and the address', async () => {
    for (const [data, name] of [
      [{ display_name: '', full_name: 'Ada' }, () => 'Ada'],
      [{ display_name: ' \n', full_name: '\t', name: ' Bea ' }, () => 'Bea'],
      [{ display_name: null, full_name: ['x'], name: {} }, (email) => email.split('@')[0]],
      [{}, (email) => email.split('@')[0]],
    ]) {
      const { client, email, user } = await newUser(data);
      assert.equal(
        (await ok(client.from('profiles').select('display_name').eq('id', user.id).single())).display_name,
        name(email),
        JSON.stringify(data),
      );
    }
  });
});

describe('a non-member', () => {
  test('sees nothing of an organization in any table', async () => {
    const [someone, nonMember] = await Promise.all([newPerson(), newPerson()]);
    const skill = await newSkill(someone);
    for (const table of TENANT_TABLES) {
      const [column, value] =
        table === 'organizations' ? ['id', someone.orgId] : table === 'profiles' ? ['id', someone.user.id] : ['org_id', someone.orgId];
      assert.deepEqual(await ok(nonMember.client.from(table).select('*').eq(column, value)), [], table);
    }
    assert.equal(skill.org_id, someone.orgId);
  });

  test('changes, deletes and joins nothing', async () => {
    const [someone, nonMember] = await Promise.all([newPerson(), newPerson()]);
    await unaffected(nonMember.client.from('organizations').update({ name: 'Taken' }).eq('id', someone.orgId).select());
    await unaffected(nonMember.client.from('organizations').delete().eq('id', someone.orgId).select());
    await unaffected(nonMember.client.from('profiles').update({ display_name: 'Taken' }).eq('id', someone.user.id).select());
    await unaffected(nonMember.client.from('memberships').update({ role: 'viewer' }).eq('org_id', someone.orgId).select());
    await unaffected(nonMember.client.from('memberships').delete().eq('org_id', someone.orgId).select());
    await refused(
      nonMember.client.from('memberships').insert({ org_id: someone.orgId, user_id: nonMember.user.id, role: 'owner' }),
      403,
      '42501',
    );
    await refused(nonMember.client.rpc('set_active_organization', { org_id: someone.orgId }), 403, 'not_a_member');
    const [organization] = await ok(someone.client.from('organizations').select('name, id'));
    assert.equal(organization.id, someone.orgId);
    assert.notEqual(organization.name, 'Taken');
    assert.equal((await ok(someone.client.from('memberships').select('role')))[0].role, 'owner');
  });

  test('gets not_a_member when naming it in x-org-id, in every request', async () => {
    const [someone, nonMember] = await Promise.all([newPerson(), newPerson()]);
    await refused(nonMember.client.from('projects').select().setHeader('x-org-id', someone.orgId), 403, 'not_a_member');
    await refused(nonMember.client.from('projects').select().setHeader('x-org-id', randomUUID()), 403, 'not_a_member');
    await refused(nonMember.client.rpc('usage_summary').setHeader('x-org-id', someone.orgId), 403, 'not_a_member');
    await refused(nonMember.client.from('projects').insert({ name: 'Planted' }).setHeader('x-org-id', someone.orgId), 403, 'not_a_member');
    await refused(nonMember.client.from('projects').select().setHeader('x-org-id', "' or true --"), 400, 'bad_request');
    assert.deepEqual(await ok(someone.client.from('projects').select()), []);
  });
});

describe('the working organization', () => {
  test('is the header, else the active one', async () => {
    const { client, orgId: personal } = await newPerson();
    const { id: second } = await ok(client.rpc('create_organization', { name: 'Second' }));
    const insert = () => client.from('projects').insert({ name: 'Where' });
    assert.equal((await ok(insert().select('org_id').single())).org_id, personal);
    assert.equal((await ok(insert().setHeader('x-org-id', second).select('org_id').single())).org_id, second);
    await ok(client.rpc('set_active_organization', { org_id: second }));
    assert.equal((await ok(insert().select('org_id').single())).org_id, second);
    assert.equal((await ok(insert().setHeader('x-org-id', personal).select('org_id').single())).org_id, personal);
  });

  test('has its own usage', async () => {
    const person = await newPerson();
    const { id: second } = await ok(person.client.rpc('create_organization', { name: 'Second' }));
    const skill = await newSkill(person);
    await ok(person.client.rpc('execute_skill', { skill_id: skill.id, input: { n: 1 } }));
    const used = async (header) => {
      const rows = await ok(header ? person.client.rpc('usage_summary').setHeader('x-org-id', header) : person.client.rpc('usage_summary'));
      return rows.find((row) => row.meter === 'executions').used;
    };
    assert.equal(await used(), 1);
    assert.equal(await used(second), 0);
  });
});

describe('create_organization', () => {
  test('refuses a bad name and creates nothing', async () => {
    const { client } = await newPerson();
    for (const name of ['', '   ', 'x'.repeat(101), null]) await refused(client.rpc('create_organization', { name }), 422, 'invalid_input');
    assert.equal((await ok(client.from('organizations').select('id'))).length, 1);
  });

  test('makes the caller its owner, on FREE', async () => {
    const { client, user } = await newPerson();
    const made = await ok(client.rpc('create_organization', { name: '  Acme BV ' }));
    assert.equal(made.name, 'Acme BV');
    assert.equal(made.personal_for, null);
    assert.match(made.slug, /^acme-bv-[0-9a-f]{8}$/);
    assert.deepEqual(await ok(client.from('memberships').select('user_id, role').eq('org_id', made.id)), [
      { user_id: user.id, role: 'owner' },
    ]);
    assert.deepEqual(await ok(client.from('subscriptions').select('plan').eq('org_id', made.id)), [{ plan: 'FREE' }]);
  });
});

describe('the limit of organizations a user can own', () => {
  const make = (person, n) =>
    Promise.all(Array.from({ length: n }, (_, i) => person.client.rpc('create_organization', { name: `Org ${i}` })));
  const made = (answers) => {
    for (const { error, status } of answers) if (error) assert.deepEqual([error.code, status], ['quota_exceeded', 429]);
    return answers.filter(({ error }) => !error).length;
  };

  test('is three on FREE, also of twenty at once, and ten when one of them is on PRO', async () => {
    const person = await newPerson();
    assert.equal(made(await make(person, 20)), 3);
    await setPlan(person.orgId, 'PRO');
    assert.equal(made(await make(person, 20)), 7);
    assert.equal((await ok(person.client.from('organizations').select('id'))).length, 11);
  });

  test('has no more room after handing one over, but after deleting one', async () => {
    const [person, other] = await Promise.all([newPerson(), newPerson()]);
    const [first, second] = (await make(person, 3)).map(({ data }) => data.id);
    await join(other, first, 'owner', person);
    await ok(person.client.from('memberships').delete().eq('org_id', first).eq('user_id', person.user.id));
    assert.equal(made(await make(person, 1)), 0);
    assert.equal(made(await make(other, 4)), 3, 'what one was given is not what one made');
    await ok(person.client.from('organizations').delete().eq('id', second));
    assert.equal(made(await make(person, 2)), 1);
  });
});
