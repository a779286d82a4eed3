// Who belongs where, and what follows from it: sign-up, membership, roles, the working organization, and the end of all that.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import {
  anonymous,
  assertAnonymousSeesNothing,
  call,
  join,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  setPlan,
  TENANT_TABLES,
  unaffected,
} from './domain.mjs';
import { admin, api, env, http, newUser, signIn, sql } from './support.mjs';

describe('who is not signed in', () => {
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

  test('does not become somebody by a token that we did not sign', async () => {
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

  test('does not become somebody by headers that only our own proxy may set', async () => {
    const { user } = await newPerson();
    const answer = await anonymous('GET', '/rest/v1/profiles', {
      headers: { 'X-Kijko-Authorization': `Bearer ${env.SERVICE_ROLE_KEY}`, 'X-Kijko-Claims': JSON.stringify({ sub: user.id }) },
    });
    assert.equal(answer.status, 401);
  });
});

describe('sign-up', () => {
  test('makes a profile, a personal organization, an owner and the FREE plan', async () => {
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

  test('survives whatever the client put into its metadata', async () => {
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

describe('a name', () => {
  test('is the first that is one: display_name, full_name, name, the address', async () => {
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

describe('a stranger', () => {
  test('sees nothing of an organization in any table', async () => {
    const [someone, stranger] = await Promise.all([newPerson(), newPerson()]);
    const skill = await newSkill(someone);
    for (const table of TENANT_TABLES) {
      const [column, value] =
        table === 'organizations' ? ['id', someone.orgId] : table === 'profiles' ? ['id', someone.user.id] : ['org_id', someone.orgId];
      assert.deepEqual(await ok(stranger.client.from(table).select('*').eq(column, value)), [], table);
    }
    assert.equal(skill.org_id, someone.orgId);
  });

  test('changes, deletes and joins nothing', async () => {
    const [someone, stranger] = await Promise.all([newPerson(), newPerson()]);
    await unaffected(stranger.client.from('organizations').update({ name: 'Taken' }).eq('id', someone.orgId).select());
    await unaffected(stranger.client.from('organizations').delete().eq('id', someone.orgId).select());
    await unaffected(stranger.client.from('profiles').update({ display_name: 'Taken' }).eq('id', someone.user.id).select());
    await unaffected(stranger.client.from('memberships').update({ role: 'viewer' }).eq('org_id', someone.orgId).select());
    await unaffected(stranger.client.from('memberships').delete().eq('org_id', someone.orgId).select());
    await refused(
      stranger.client.from('memberships').insert({ org_id: someone.orgId, user_id: stranger.user.id, role: 'owner' }),
      403,
      '42501',
    );
    await refused(stranger.client.rpc('set_active_organization', { org_id: someone.orgId }), 403, 'not_a_member');
    const [organization] = await ok(someone.client.from('organizations').select('name, id'));
    assert.equal(organization.id, someone.orgId);
    assert.notEqual(organization.name, 'Taken');
    assert.equal((await ok(someone.client.from('memberships').select('role')))[0].role, 'owner');
  });

  test('gets not_a_member for naming it in x-org-id, also where nothing would be seen anyway', async () => {
    const [someone, stranger] = await Promise.all([newPerson(), newPerson()]);
    await refused(stranger.client.from('projects').select().setHeader('x-org-id', someone.orgId), 403, 'not_a_member');
    await refused(stranger.client.from('projects').select().setHeader('x-org-id', randomUUID()), 403, 'not_a_member');
    await refused(stranger.client.rpc('usage_summary').setHeader('x-org-id', someone.orgId), 403, 'not_a_member');
    await refused(stranger.client.from('projects').insert({ name: 'Planted' }).setHeader('x-org-id', someone.orgId), 403, 'not_a_member');
    await refused(stranger.client.from('projects').select().setHeader('x-org-id', "' or true --"), 400, 'bad_request');
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
  test('refuses a bad name and makes nothing', async () => {
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

describe('how many organizations a user makes', () => {
  const make = (person, n) =>
    Promise.all(Array.from({ length: n }, (_, i) => person.client.rpc('create_organization', { name: `Org ${i}` })));
  const made = (answers) => {
    for (const { error, status } of answers) if (error) assert.deepEqual([error.code, status], ['quota_exceeded', 429]);
    return answers.filter(({ error }) => !error).length;
  };

  test('three on FREE, also of twenty at once; ten when one of them is on PRO', async () => {
    const person = await newPerson();
    assert.equal(made(await make(person, 20)), 3);
    await setPlan(person.orgId, 'PRO');
    assert.equal(made(await make(person, 20)), 7);
    assert.equal((await ok(person.client.from('organizations').select('id'))).length, 11);
  });

  test('handing one over makes no room, deleting one does', async () => {
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

describe('roles', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('everyone in it sees its members and each other; the stranger does not', async () => {
    for (const person of [team.owner, team.admin, team.member, team.viewer]) {
      assert.equal((await ok(person.client.from('memberships').select('id').eq('org_id', team.orgId))).length, 4);
      const names = await ok(person.client.from('profiles').select('id, email, active_org_id'));
      assert.equal(names.length, 4);
      for (const profile of names) {
        assert.ok(profile.email.includes('@'), 'colleagues see the address');
        assert.equal(profile.active_org_id, profile.id === person.user.id ? team.orgId : null, 'and nobody else sees where one works');
      }
    }
    assert.equal((await ok(team.stranger.client.from('profiles').select('id'))).length, 1);
    for (const column of ['active_org_id', 'email']) {
      const value = column === 'email' ? team.owner.email : team.orgId;
      assert.deepEqual(await ok(team.stranger.client.from('profiles').select(column).eq(column, value)), [], column);
    }
    assert.deepEqual(await ok(team.member.client.from('profiles').select('id').eq('active_org_id', team.orgId)), [
      { id: team.member.user.id },
    ]);
  });

  test('memberships name everyone by one embedding, and profiles their memberships', async () => {
    const members = await ok(
      team.viewer.client.from('memberships').select('role, profiles(id, display_name)').eq('org_id', team.orgId).order('role'),
    );
    assert.deepEqual(
      members.map((m) => [m.role, m.profiles.id]),
      [
        ['admin', team.admin],
        ['member', team.member],
        ['owner', team.owner],
        ['viewer', team.viewer],
      ].map(([role, person]) => [role, person.user.id]),
    );
    assert.ok(members.every((m) => m.profiles.display_name.length > 0));
    const [owner] = await ok(
      team.viewer.client
        .from('profiles')
        .select('display_name, memberships(role)')
        .eq('id', team.owner.user.id)
        .eq('memberships.org_id', team.orgId),
    );
    assert.deepEqual(owner.memberships, [{ role: 'owner' }]);
  });

  test('nobody is made a member without saying yes, by whomever; service_role may', async () => {
    for (const person of [team.owner, team.admin]) {
      for (const role of ['viewer', 'owner']) {
        await refused(person.client.from('memberships').insert({ org_id: team.orgId, user_id: team.stranger.user.id, role }), 403, '42501');
      }
      await refused(
        person.client.from('memberships').upsert({ org_id: team.orgId, user_id: team.stranger.user.id, role: 'viewer' }),
        403,
        '42501',
      );
    }
    assert.deepEqual(await ok(team.owner.client.from('profiles').select('email').eq('id', team.stranger.user.id)), []);
    const guest = await newPerson();
    const [added] = await ok(admin().from('memberships').insert({ org_id: team.orgId, user_id: guest.user.id, role: 'viewer' }).select());
    await ok(admin().from('memberships').delete().eq('id', added.id));
  });

  test('viewer and member do not manage members', async () => {
    for (const person of [team.viewer, team.member]) {
      await refused(
        person.client.from('memberships').insert({ org_id: team.orgId, user_id: team.stranger.user.id, role: 'viewer' }),
        403,
        '42501',
      );
      await unaffected(
        person.client.from('memberships').update({ role: 'owner' }).eq('org_id', team.orgId).eq('user_id', person.user.id).select(),
      );
      await unaffected(person.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', team.admin.user.id).select());
      await unaffected(person.client.from('organizations').update({ name: 'Ours' }).eq('id', team.orgId).select());
    }
  });

  test('an admin manages members, but neither makes, changes nor removes an owner, nor raises themselves', async () => {
    const { client } = team.admin;
    await unaffected(
      client.from('memberships').update({ role: 'member' }).eq('org_id', team.orgId).eq('user_id', team.owner.user.id).select(),
    );
    await unaffected(client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', team.owner.user.id).select());
    const raise = await client
      .from('memberships')
      .update({ role: 'owner' })
      .eq('org_id', team.orgId)
      .eq('user_id', team.admin.user.id)
      .select();
    assert.ok(['permission_denied', '42501'].includes(raise.error?.code), JSON.stringify(raise));
    assert.equal(raise.status, 403);
    await unaffected(client.from('organizations').delete().eq('id', team.orgId).select());

    const added = await join(team.stranger, team.orgId, 'viewer', team.admin);
    assert.equal(added.created_by, team.admin.user.id);
    assert.equal((await ok(client.from('memberships').update({ role: 'member' }).eq('id', added.id).select())).length, 1);
    assert.equal((await ok(client.from('memberships').delete().eq('id', added.id).select())).length, 1);
  });

  test('a row never moves: id, organization and author are fixed, for the owner and for the service key', async () => {
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Stays' }).select().single());
    const elsewhere = team.stranger.orgId;
    await refused(team.owner.client.from('projects').update({ org_id: elsewhere }).eq('id', project.id), 403, 'permission_denied');
    await refused(admin().from('projects').update({ org_id: elsewhere }).eq('id', project.id), 403, 'permission_denied');
    await refused(
      admin().from('memberships').update({ user_id: team.stranger.user.id }).eq('org_id', team.orgId).eq('user_id', team.viewer.user.id),
      403,
      'permission_denied',
    );
    assert.equal((await ok(team.owner.client.from('projects').select('org_id').eq('id', project.id).single())).org_id, team.orgId);
  });

  test('removed means out at once, with the same token', async () => {
    const { client, user } = team.viewer;
    await ok(team.owner.client.from('projects').insert({ name: 'Seen' }));
    assert.ok((await ok(client.from('projects').select('id').eq('org_id', team.orgId))).length > 0);
    await ok(team.owner.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', user.id));
    assert.deepEqual(await ok(client.from('projects').select('id').eq('org_id', team.orgId)), []);
    await refused(client.from('projects').select().setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    const profile = await ok(client.from('profiles').select('active_org_id').eq('id', user.id).single());
    const personal = await ok(client.from('organizations').select('id').single());
    assert.equal(profile.active_org_id, personal.id, 'the personal organization is active again');
  });
});

describe('the last owner', () => {
  test('stays', async () => {
    const { client, user, orgId } = await newPerson();
    await refused(client.from('memberships').delete().eq('org_id', orgId), 409, 'conflict');
    await refused(client.from('memberships').update({ role: 'admin' }).eq('org_id', orgId), 409, 'conflict');
    assert.deepEqual(await ok(client.from('memberships').select('user_id, role')), [{ user_id: user.id, role: 'owner' }]);
  });

  test('two owners who leave at once do not both get away', async () => {
    const [first, second] = await Promise.all([newPerson(), newPerson()]);
    const { id } = await ok(first.client.rpc('create_organization', { name: 'Two' }));
    await join(second, id, 'owner', first);
    const answers = await Promise.all(
      [first, second].map((p) => p.client.from('memberships').delete().eq('org_id', id).eq('user_id', p.user.id).select()),
    );
    assert.equal(answers.filter((a) => a.error === null && a.data.length === 1).length, 1, JSON.stringify(answers));
    assert.equal(answers.filter((a) => a.error?.code === 'conflict').length, 1);
    const [{ count }] = await sql(`select count(*)::int from public.memberships where org_id = $1 and role = 'owner'`, [id]);
    assert.equal(count, 1);
  });
});

describe('handing over and leaving', () => {
  test('a member becomes the owner, the owner an admin who may leave', async () => {
    const [owner, heir, stranger] = await Promise.all([newPerson(), newPerson(), newPerson()]);
    const { id } = await ok(owner.client.rpc('create_organization', { name: 'Handed over' }));
    const transfer = (person, to) => person.client.rpc('transfer_ownership', { org_id: id, user_id: to.user.id });
    await refused(transfer(owner, heir), 404, 'not_found');
    await join(heir, id, 'viewer', owner);
    await refused(transfer(stranger, stranger), 403, 'not_a_member');
    await refused(transfer(heir, heir), 403, 'permission_denied');
    await refused(owner.client.rpc('leave_organization', { org_id: id }), 409, 'conflict');
    assert.equal((await ok(transfer(owner, heir))).role, 'owner');
    const roles = await ok(heir.client.from('memberships').select('user_id, role').eq('org_id', id).order('role'));
    assert.deepEqual(roles, [
      { user_id: owner.user.id, role: 'admin' },
      { user_id: heir.user.id, role: 'owner' },
    ]);
    await ok(owner.client.rpc('leave_organization', { org_id: id }));
    await refused(owner.client.rpc('leave_organization', { org_id: id }), 403, 'not_a_member');
    assert.equal((await ok(heir.client.from('memberships').select('id').eq('org_id', id))).length, 1);
  });
});

describe('the end', () => {
  test('a token whose session was signed out is nobody: 401 not_identified', async () => {
    const person = await newPerson();
    const other = await signIn(person);
    await ok(person.client.from('projects').select());
    await person.client.auth.signOut({ scope: 'local' });
    const answer = await http('GET', '/rest/v1/projects', { token: person.token });
    assert.equal(answer.status, 401, answer.text);
    assert.equal(answer.body.code, 'not_identified');
    assert.deepEqual(Object.keys(answer.body).sort(), ['code', 'details', 'hint', 'message']);
    const written = await call(person, 'create_organization', { name: 'Too late' });
    assert.equal(written.status, 401);
    // Another session of the same user goes on.
    await ok(other.client.from('projects').select());
  });

  test('a deleted user is nobody, and the personal organization is gone with all in it', async () => {
    const person = await newPerson();
    await newSkill(person);
    const { error } = await admin().auth.admin.deleteUser(person.user.id);
    assert.equal(error, null);
    const answer = await http('GET', '/rest/v1/projects', { token: person.token });
    assert.equal(answer.status, 401, answer.text);
    assert.equal(answer.body.code, 'not_identified');
    for (const table of ['skills', 'memberships', 'subscriptions']) {
      assert.deepEqual(await sql(`select 1 from public.${table} where org_id = $1`, [person.orgId]), [], table);
    }
    assert.deepEqual(await sql('select 1 from public.organizations where id = $1', [person.orgId]), []);
  });

  test('an organization that was personal stays with the one it was handed to', async () => {
    const [host, guest] = await Promise.all([newPerson(), newPerson()]);
    await join(guest, host.orgId, 'owner', host);
    assert.deepEqual(await ok(host.client.from('organizations').select('personal_for').eq('id', host.orgId)), [{ personal_for: null }]);
    const project = await ok(
      guest.client.from('projects').insert({ name: 'Kept' }).setHeader('x-org-id', host.orgId).select('id').single(),
    );
    await ok(host.client.from('memberships').delete().eq('org_id', host.orgId).eq('user_id', host.user.id));
    const { error } = await admin().auth.admin.deleteUser(host.user.id);
    assert.equal(error, null);
    assert.deepEqual(await ok(guest.client.from('projects').select('id').eq('org_id', host.orgId)), [{ id: project.id }]);
  });

  test('a softly deleted user leaves as a deleted one does, and only an id behind', async () => {
    const team = await newTeam();
    const personal = (await sql('select id from public.organizations where personal_for = $1', [team.owner.user.id]))[0].id;
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Kept' }).select().single());
    const { error } = await admin().auth.admin.deleteUser(team.owner.user.id, true);
    assert.equal(error, null);
    assert.deepEqual(await sql('select 1 from public.organizations where id = $1', [personal]), [], 'the lone personal organization goes');
    const members = await ok(team.member.client.from('memberships').select('user_id, role').eq('org_id', team.orgId));
    assert.deepEqual(
      members.filter((m) => m.role === 'owner').map((m) => m.user_id),
      [team.admin.user.id],
    );
    assert.equal(members.length, 3);
    assert.equal(
      (await ok(team.member.client.from('projects').select('created_by').eq('id', project.id).single())).created_by,
      team.owner.user.id,
    );
    const profile = await ok(admin().from('profiles').select('display_name, email, avatar_url').eq('id', team.owner.user.id).single());
    assert.deepEqual(profile, { display_name: 'Deleted user', email: null, avatar_url: null });
    assert.equal((await http('GET', '/rest/v1/projects', { token: team.owner.token })).status, 401);
  });

  test('a shared organization passes from a deleted last owner to the next in rank; what they made stays', async () => {
    const team = await newTeam();
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Kept' }).select().single());
    const { error } = await admin().auth.admin.deleteUser(team.owner.user.id);
    assert.equal(error, null);
    const members = await ok(team.member.client.from('memberships').select('user_id, role').eq('org_id', team.orgId));
    assert.deepEqual(
      members.filter((m) => m.role === 'owner').map((m) => m.user_id),
      [team.admin.user.id],
    );
    const kept = await ok(team.member.client.from('projects').select('id, created_by').eq('id', project.id).single());
    assert.equal(kept.created_by, null);
  });

  test('an owner deletes an organization with everything in it', async () => {
    const team = await newTeam();
    await newSkill(team.owner);
    assert.equal((await ok(team.owner.client.from('organizations').delete().eq('id', team.orgId).select())).length, 1);
    assert.deepEqual(await sql('select 1 from public.skills where org_id = $1', [team.orgId]), []);
    assert.deepEqual(await ok(team.member.client.from('organizations').select('id').eq('id', team.orgId)), []);
  });
});
