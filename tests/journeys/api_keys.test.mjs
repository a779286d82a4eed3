// API keys: who makes them, and what a program can do with one through the whole API.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { createKey, FORM, keyClient, withKey } from './api_keys_support.mjs';
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
  unaffected,
} from './domain.mjs';
import { adminSql, env, http, sql } from './support.mjs';

describe('who makes, sees and revokes keys', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('unauthenticated callers and non-members get nothing', async () => {
    const key = await createKey(team.owner, { permissions: ['skills:read'] });
    await assertAnonymousSeesNothing(['api_keys']);
    for (const [name, body] of [
      ['create_api_key', { name: 'x', permissions: ['skills:read'] }],
      ['rotate_api_key', { id: key.id }],
      ['revoke_api_key', { id: key.id }],
    ]) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.deepEqual([answer.status, answer.body.code], [401, '42501'], name);
    }
    const { client } = team.nonMember;
    assert.deepEqual(await ok(client.from('api_keys').select('*, secret, last_used_at')), []);
    await refused(client.from('api_keys').insert({ org_id: team.orgId, name: 'x', permissions: ['skills:read'] }), 403, '42501');
    await unaffected(client.from('api_keys').update({ name: 'x' }).eq('id', key.id).select());
    await unaffected(client.from('api_keys').delete().eq('id', key.id).select());
    for (const id of [key.id, randomUUID()]) {
      await refused(client.rpc('rotate_api_key', { id }), 404, 'not_found');
      await refused(client.rpc('revoke_api_key', { id }), 404, 'not_found');
    }
    // The key goes on.
    await ok(keyClient(key.secret).from('skills').select('id'));
  });

  test('an admin makes keys of each kind and a member personal ones; a viewer makes none', async () => {
    for (const kind of ['service', 'personal'])
      await refused(team.viewer.client.rpc('create_api_key', { name: 'x', permissions: ['skills:read'], kind }), 403, 'permission_denied');
    await refused(team.member.client.rpc('create_api_key', { name: 'x', permissions: ['skills:read'] }), 403, 'permission_denied');
    const own = await createKey(team.member, { name: 'own', kind: 'personal', permissions: { read: true, write: true } });
    assert.deepEqual(own.permissions, ['*:read', '*:write']);
    await createKey(team.admin, { name: 'deploy', permissions: ['skills:execute', 'skills:read'] });
    await createKey(team.admin, { kind: 'publishable', permissions: ['events:ingest'], origins: ['https://app.example.com'] });
    const names = async (person) =>
      (await ok(person.client.from('api_keys').select('name').eq('org_id', team.orgId))).map(({ name }) => name);
    assert.deepEqual(await names(team.viewer), []);
    assert.deepEqual(await names(team.member), ['own']);
    for (const name of ['own', 'deploy']) assert.ok((await names(team.admin)).includes(name), name);
    // Nobody grants what they lack.
    await refused(team.admin.client.rpc('create_api_key', { name: 'x', permissions: ['billing:write'] }), 403, 'permission_denied');
    await refused(
      team.member.client.rpc('create_api_key', { name: 'x', permissions: ['members:write'], kind: 'personal' }),
      403,
      'permission_denied',
    );
    // An admin revokes the key of another, and does not get it.
    await refused(team.admin.client.rpc('rotate_api_key', { id: own.id }), 403, 'permission_denied');
    await ok(team.admin.client.rpc('revoke_api_key', { id: own.id }));
    await refused(keyClient(own.secret).from('skills').select(), 401, 'not_identified');
  });

  test('a plan bounds their number, also for an insert of several', async () => {
    const person = await newPerson();
    const rows = (n) => Array.from({ length: n }, (_, i) => ({ name: `key ${i}`, permissions: ['skills:read'] }));
    await refused(person.client.from('api_keys').insert(rows(4)), 429, 'quota_exceeded');
    const made = await ok(person.client.from('api_keys').insert(rows(3)).select('id, secret'));
    assert.equal(new Set(made.map(({ secret }) => secret)).size, 3);
    await refused(person.client.rpc('create_api_key', { name: 'four', permissions: ['skills:read'] }), 429, 'quota_exceeded');
    await ok(person.client.from('api_keys').delete().eq('id', made[0].id));
    await createKey(person, { permissions: ['skills:read'] });
  });
});

describe('a key', () => {
  let person;
  before(async () => {
    person = await newPerson('TEAMS');
  });

  test('is returned once, by the function and by an insert', async () => {
    const made = await createKey(person, { name: 'by function', permissions: ['skills:read'], rate_limit: 10, monthly_quota: 100 });
    assert.match(made.secret, FORM);
    assert.ok(made.secret.startsWith(made.prefix));
    assert.deepEqual(
      [made.org_id, made.kind, made.rate_limit, made.monthly_quota, made.expires_at],
      [person.orgId, 'service', 10, 100, null],
    );
    const inserted = await ok(
      person.client
        .from('api_keys')
        .insert({ name: 'by insert', permissions: { read: true, write: false } })
        .select('*, secret')
        .single(),
    );
    assert.match(inserted.secret, FORM);
    assert.deepEqual([inserted.permissions, inserted.created_by], [['*:read'], person.user.id]);
    for (const secret of [made.secret, inserted.secret]) await ok(keyClient(secret).from('skills').select('id'));

    const listed = await ok(person.client.from('api_keys').select('*, secret, last_used_at').eq('org_id', person.orgId));
    assert.deepEqual(
      listed.map(({ secret }) => secret),
      listed.map(() => null),
    );
    for (const { secret } of [made, inserted]) assert.ok(!JSON.stringify(listed).includes(secret.slice(15)), 'no part of the key');
    assert.ok(!('hash' in listed[0]));
    assert.ok(
      listed.every(({ last_used_at }) => Date.now() - new Date(last_used_at) < 60_000),
      'its last use is known',
    );
    // Not in the database either.
    const [{ found }] = await adminSql(
      `select (select count(*) from kijko.api_keys as k where k::text like $1) + (select count(*) from kijko.api_key_secrets as s where s::text like $1)
         + (select count(*) from public.api_keys as k where k::text like $1) as found`,
      [`%${made.secret.slice(15)}%`],
    );
    assert.equal(Number(found), 0);
  });

  test('works as the key of supabase-js, as bearer token, and as X-API-Key', async () => {
    const { secret } = await createKey(person, { permissions: ['skills:read'] });
    await ok(keyClient(secret).from('skills').select('id'));
    for (const headers of [
      { Authorization: `Bearer ${secret}` },
      { authorization: `bearer ${secret}` },
      { 'X-API-Key': secret },
      { apikey: secret },
      { apikey: secret, Authorization: `Bearer ${secret}`, 'X-API-Key': secret },
      { apikey: env.ANON_KEY, Authorization: `Bearer ${env.ANON_KEY}`, 'X-API-Key': secret },
    ]) {
      const answer = await http('GET', '/rest/v1/skills?select=id', { headers: { apikey: '', ...headers } });
      assert.equal(answer.status, 200, `${Object.keys(headers)}: ${answer.text}`);
    }
  });

  test('beside another identity is refused', async () => {
    const { secret } = await createKey(person, { permissions: ['skills:read'] });
    const { secret: other } = await createKey(person, { permissions: ['skills:read'] });
    for (const headers of [
      { 'X-API-Key': secret, Authorization: `Bearer ${person.token}` },
      { apikey: secret, Authorization: `Bearer ${person.token}` },
      { 'X-API-Key': secret, Authorization: `Bearer ${env.SERVICE_ROLE_KEY}` },
      { 'X-API-Key': secret, Authorization: `Bearer ${other}` },
      { apikey: secret, Authorization: `Bearer ${other}` },
      { apikey: other, 'X-API-Key': secret },
    ]) {
      const answer = await http('GET', '/rest/v1/skills?select=id', { headers });
      assert.deepEqual([answer.status, answer.body?.code], [400, 'bad_request'], `${JSON.stringify(Object.keys(headers))}: ${answer.text}`);
    }
  });

  test('that is unknown, mistyped or malformed is 401, and the details say which', async () => {
    const { secret } = await createKey(person, { permissions: ['skills:read'] });
    const last = secret.at(-1);
    const details = new Set();
    for (const wrong of [
      'kjk_live_0123456789ABCDEFGHIJKLMNOPQRSTUV0ScoqP', // well-formed
      secret.slice(0, -1) + (last === 'a' ? 'b' : 'a'),
      'kjk_live_x',
    ]) {
      const { status, body } = await withKey(wrong, 'GET', '/skills?select=id');
      assert.deepEqual([status, body.code], [401, 'not_identified'], wrong);
      details.add(body.details);
    }
    assert.equal(details.size, 3, [...details].join(', '));
  });

  test('sees its organization and no other one', async () => {
    const [stranger, team] = await Promise.all([newPerson(), newTeam()]);
    await join(person, team.orgId, 'admin', team.owner);
    await Promise.all([newSkill(person), newSkill(stranger), newSkill(team.owner)]);
    for (const kind of ['service', 'personal']) {
      const { secret } = await createKey(person, { kind, permissions: ['skills:read'] });
      const client = keyClient(secret);
      const skills = await ok(client.from('skills').select('org_id'));
      assert.ok(skills.length > 0 && skills.every(({ org_id }) => org_id === person.orgId), kind);
      await ok(client.from('skills').select('id').setHeader('x-org-id', person.orgId));
      for (const other of [team.orgId, stranger.orgId, randomUUID()])
        await refused(client.from('skills').select('id').setHeader('x-org-id', other), 403, 'not_a_member');
      assert.deepEqual(await ok(client.rpc('org_ids')), [person.orgId]);
    }
    const { secret } = await createKey(stranger, { permissions: ['*:read', '*:write', 'members:read'] });
    for (const table of ['skills', 'projects', 'executions', 'jobs', 'memberships', 'usage_meters'])
      assert.deepEqual(await ok(keyClient(secret).from(table).select('org_id').eq('org_id', person.orgId)), [], table);
  });

  test('that only reads cannot write, and one that writes leaves its name', async () => {
    const skill = await newSkill(person);
    const reader = keyClient((await createKey(person, { permissions: { read: true, write: false } })).secret);
    assert.ok((await ok(reader.from('skills').select('id'))).length > 0);
    for (const request of [
      reader.from('skills').insert({ name: 'x', prompt_template: 'x' }),
      reader.from('skills').update({ name: 'x' }).eq('id', skill.id),
      reader.from('skills').delete().eq('id', skill.id),
      reader.from('api_keys').insert({ name: 'x', permissions: ['skills:read'] }),
      reader.rpc('execute_skill', { skill_id: skill.id }),
    ]) {
      const { error, status } = await request;
      assert.ok(error && status >= 400 && status < 500, `${status} ${JSON.stringify(error)}`);
    }
    assert.equal((await ok(person.client.from('skills').select('name').eq('id', skill.id).single())).name, 'Echo');

    const key = await createKey(person, { permissions: ['*:read', '*:write', 'skills:execute'] });
    const writer = keyClient(key.secret);
    const made = await ok(writer.from('projects').insert({ name: 'By key' }).select().single());
    assert.deepEqual([made.org_id, made.created_by, made.created_by_key], [person.orgId, null, key.id]);
    const execution = await ok(writer.rpc('execute_skill', { skill_id: skill.id, input: { n: '1' } }));
    assert.deepEqual([execution.trigger, execution.created_by, execution.created_by_key], ['api', null, key.id]);
    const [job] = await ok(person.client.from('jobs').select('created_by_key').eq('id', execution.job_id));
    assert.equal(job.created_by_key, key.id);
  });

  test('is refused on the next request after it is revoked, deleted or expired', async () => {
    const keys = await Promise.all([1, 2, 3].map(() => createKey(person, { permissions: ['skills:read'] })));
    for (const { secret } of keys) await ok(keyClient(secret).from('skills').select('id'));
    const revoked = await ok(person.client.rpc('revoke_api_key', { id: keys[0].id }));
    assert.equal((await ok(person.client.rpc('revoke_api_key', { id: keys[0].id }))).revoked_at, revoked.revoked_at);
    await ok(person.client.from('api_keys').delete().eq('id', keys[1].id));
    await adminSql(`update kijko.api_keys set expires_at = kijko.now() where id = $1`, [keys[2].id]);
    for (const { secret } of keys) await refused(keyClient(secret).from('skills').select('id'), 401, 'not_identified');
    await refused(person.client.rpc('rotate_api_key', { id: keys[0].id }), 409, 'conflict');
  });

  test('is rotated with an overlap, and without one at once', async () => {
    const first = await createKey(person, { permissions: ['skills:read'] });
    const works = async ({ secret }) => (await keyClient(secret).from('skills').select('id')).status === 200;
    const second = await ok(person.client.rpc('rotate_api_key', { id: first.id, overlap: '1 hour' }));
    assert.match(second.secret, FORM);
    assert.deepEqual([second.id, second.permissions], [first.id, first.permissions]);
    assert.deepEqual(await Promise.all([first, second].map(works)), [true, true]);
    const third = await ok(person.client.rpc('rotate_api_key', { id: first.id }));
    assert.deepEqual(await Promise.all([first, second, third].map(works)), [false, false, true]);
    for (const overlap of ['31 days', '-1 hours'])
      await refused(person.client.rpc('rotate_api_key', { id: first.id, overlap }), 422, 'invalid_input');
  });

  test('is upserted and changed, and only narrowed', async () => {
    const id = randomUUID();
    const upsert = (fields) => person.client.from('api_keys').upsert({ id, permissions: ['skills:read', 'jobs:read'], ...fields });
    const made = await ok(upsert({ name: 'first' }).select('*, secret').single());
    assert.match(made.secret, FORM);
    const again = await ok(upsert({ name: 'second', rate_limit: 7 }).select('*, secret').single());
    assert.deepEqual([again.name, again.rate_limit, again.prefix, again.secret], ['second', 7, made.prefix, null]);
    await ok(keyClient(made.secret).from('jobs').select('id'));
    await ok(
      person.client
        .from('api_keys')
        .update({ permissions: ['skills:read'] })
        .eq('id', id),
    );
    assert.deepEqual(await ok(keyClient(made.secret).from('jobs').select('id')), []);
    await refused(
      person.client
        .from('api_keys')
        .update({ permissions: ['skills:read', 'jobs:read'] })
        .eq('id', id),
      403,
      'permission_denied',
    );
    await refused(person.client.from('api_keys').update({ expires_at: '2020-01-01' }).eq('id', id), 422, 'invalid_input');
    for (const column of ['revoked_at', 'prefix', 'user_id', 'created_by_key'])
      await refused(
        person.client
          .from('api_keys')
          .update({ [column]: null })
          .eq('id', id),
        403,
        '42501',
      );
  });

  test('is not taken for a person', async () => {
    const everything = (await ok(person.client.rpc('permissions'))).map(({ permission }) => permission);
    for (const kind of ['service', 'personal']) {
      const { secret } = await createKey(person, { kind, permissions: everything });
      const client = keyClient(secret);
      await refused(client.rpc('create_organization', { name: 'x' }), 403, 'permission_denied');
      await refused(client.rpc('set_active_organization', { org_id: person.orgId }), 403, 'permission_denied');
      await refused(client.rpc('leave_organization', { org_id: person.orgId }), 403, 'permission_denied');
      await unaffected(client.from('profiles').update({ display_name: 'x' }).eq('id', person.user.id).select());
      const answer = await http('GET', '/auth/v1/user', { headers: { Authorization: `Bearer ${secret}` } });
      assert.deepEqual([answer.status, answer.body.code], [403, 'bad_jwt']);
    }
  });
});

describe('the makers of keys', () => {
  test('a demotion counts for their keys on the next request, and the end of the membership ends personal ones', async () => {
    const team = await newTeam();
    const permissions = ['skills:read', 'skills:write', 'members:read'];
    const [service, personal] = await Promise.all(['service', 'personal'].map((kind) => createKey(team.admin, { kind, permissions })));
    const may = (key, permission) => ok(keyClient(key.secret).rpc('can', { org: team.orgId, permission }));
    for (const key of [service, personal]) assert.equal(await may(key, 'skills:write'), true);
    const membership = () => team.owner.client.from('memberships');
    const mine = (request) => request.eq('org_id', team.orgId).eq('user_id', team.admin.user.id);
    await ok(mine(membership().update({ role: 'viewer' })));
    for (const key of [service, personal]) {
      assert.deepEqual([await may(key, 'skills:write'), await may(key, 'skills:read')], [false, true]);
      await refused(keyClient(key.secret).from('skills').insert({ name: 'x', prompt_template: 'x' }), 403, '42501');
    }
    await ok(mine(membership().update({ role: 'member' })));
    for (const key of [service, personal]) assert.equal(await may(key, 'skills:write'), true);
    await ok(mine(membership().delete()));
    await refused(keyClient(personal.secret).from('skills').select('id'), 401, 'not_identified');
    assert.deepEqual([await may(service, 'skills:write'), await may(service, 'members:read')], [true, true]);
    const [row] = await ok(team.owner.client.from('api_keys').select('user_id, created_by').eq('id', service.id));
    assert.deepEqual(row, { user_id: null, created_by: team.admin.user.id });
  });

  test('a ban suspends personal keys until it is lifted', async () => {
    const person = await newPerson();
    const { secret } = await createKey(person, { kind: 'personal', permissions: ['skills:read'] });
    const ban = (until) => sql(`update auth.users set banned_until = ${until} where id = $1`, [person.user.id]);
    await ban(`kijko.now() + interval '1 day'`);
    await refused(keyClient(secret).from('skills').select('id'), 401, 'not_identified');
    await ban('null');
    await ok(keyClient(secret).from('skills').select('id'));
  });

  test('a key that manages keys makes others, within its own permissions', async () => {
    const person = await newPerson('PRO');
    const key = await createKey(person, { permissions: ['api_keys:read', 'api_keys:write', 'skills:read'] });
    const manager = keyClient(key.secret);
    const made = await ok(manager.rpc('create_api_key', { name: 'made', permissions: ['skills:read'] }));
    const [row] = await ok(manager.from('api_keys').select('created_by, created_by_key, user_id').eq('id', made.id));
    assert.deepEqual(row, { created_by: null, created_by_key: key.id, user_id: person.user.id });
    await ok(keyClient(made.secret).from('skills').select('id'));
    await refused(manager.rpc('create_api_key', { name: 'x', permissions: ['skills:write'] }), 403, 'permission_denied');
    await refused(manager.rpc('create_api_key', { name: 'x', permissions: { read: true } }), 403, 'permission_denied');
    await refused(manager.rpc('create_api_key', { name: 'x', permissions: ['skills:read'], kind: 'personal' }), 403, 'permission_denied');
    await ok(manager.rpc('revoke_api_key', { id: key.id }));
    await refused(manager.from('api_keys').select('id'), 401, 'not_identified');
    await ok(keyClient(made.secret).from('skills').select('id'));
    assert.equal((await call(person, 'revoke_api_key', { id: made.id })).status, 200);
    await setPlan(person.orgId, 'FREE');
  });
});
