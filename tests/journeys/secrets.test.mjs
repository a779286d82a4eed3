// Secrets of an organization: set by name, listed by name, never given back.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { anonymous, assertAnonymousSeesNothing, call, inTurn, newPerson, newTeam, ok, refused, time } from './domain.mjs';
import { http, sql } from './support.mjs';

const set = (person, name, value) => person.client.rpc('set_secret', { name, value });
const remove = (person, name) => person.client.rpc('delete_secret', { name });
const names = (person, orgId) => ok(person.client.from('secrets').select('name').eq('org_id', orgId).order('name'));
/** As a function of the product reads it. */
const stored = async (orgId, name) => (await sql('select private.secrets_value($1, $2) as value', [orgId, name]))[0].value;

describe('secrets', () => {
  test('an unauthenticated caller and a non-member can neither read, set nor delete them', async () => {
    const [owner, stranger] = await Promise.all([newPerson(), newPerson()]);
    await ok(set(owner, 'TOKEN', 'of the owner'));
    await assertAnonymousSeesNothing(['secrets']);
    for (const [name, body] of [
      ['set_secret', { name: 'TOKEN', value: 'x' }],
      ['delete_secret', { name: 'TOKEN' }],
    ]) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.deepEqual([answer.status, answer.body.code], [401, '42501'], name);
      await refused(stranger.client.rpc(name, body).setHeader('x-org-id', owner.orgId), 403, 'not_a_member');
    }
    assert.deepEqual(await names(stranger, owner.orgId), []);
    await refused(remove(stranger, 'TOKEN'), 404, 'not_found');
    assert.equal(await stored(owner.orgId, 'TOKEN'), 'of the owner');
  });

  test('admins and owners set, list and delete them; members and viewers do not see their names', async () => {
    const team = await newTeam();
    for (const person of [team.member, team.viewer]) {
      await refused(set(person, 'TOKEN', 'x'), 403, 'permission_denied');
      await refused(remove(person, 'TOKEN'), 403, 'permission_denied');
    }
    const made = await ok(set(team.admin, 'TOKEN', 'first'));
    assert.deepEqual([made.org_id, made.name, made.created_by], [team.orgId, 'TOKEN', team.admin.user.id]);
    for (const person of [team.member, team.viewer]) assert.deepEqual(await names(person, team.orgId), []);
    assert.deepEqual(await names(team.owner, team.orgId), [{ name: 'TOKEN' }]);

    const again = await ok(set(team.owner, 'TOKEN', 'second'));
    assert.deepEqual([again.id, again.created_by], [made.id, team.admin.user.id]);
    assert.ok(time(again.updated_at) > time(made.updated_at));
    assert.equal(await stored(team.orgId, 'TOKEN'), 'second');

    await ok(remove(team.admin, 'TOKEN'));
    assert.equal(await stored(team.orgId, 'TOKEN'), null);
    await refused(remove(team.admin, 'TOKEN'), 404, 'not_found');
    // Who loses the role loses the permission at once.
    await ok(
      team.owner.client.from('memberships').update({ role: 'viewer' }).eq('user_id', team.admin.user.id).eq('org_id', team.orgId).select(),
    );
    await refused(set(team.admin, 'TOKEN', 'x'), 403, 'permission_denied');
  });

  test('no answer has the value: not the call, the list, an embedded row, a refusal or another function', async () => {
    const owner = await newPerson();
    const value = `value-${randomUUID()}`;
    const answers = [
      await set(owner, 'TOKEN', value),
      await owner.client.rpc('set_secret', { name: 'TOKEN', value }).select('*').single(),
      await set(owner, 'bad name', value),
      await set(owner, 'TOKEN', value.repeat(1000)),
      await owner.client.rpc('set_secret', { name: 'TOKEN', value, more: 1 }),
      await owner.client.rpc('set_secret', { value }),
      await owner.client.from('secrets').select('*'),
      await owner.client.from('secrets').select('*, organizations(*)'),
      await owner.client.from('secrets').select('value'),
      await owner.client.from('secret_values').select('*'),
      await owner.client.schema('private').from('secret_values').select('*'),
      await owner.client.rpc('secrets_value', { org: owner.orgId, name: 'TOKEN' }),
      await owner.client.schema('kijko').rpc('unseal', { sealed: 'x', context: 'x' }),
      await call(owner, 'set_secret', { name: 'TOKEN', value: { nested: value } }),
      await call(owner, 'set_secret', `{"name": "TOKEN", "value": "${value}"`),
      await call(owner, 'set_secret', { name: 'TOKEN', value: `${value}\u0000` }),
    ];
    for (const [at, answer] of answers.entries()) assert.ok(!JSON.stringify(answer).includes(value), `answer ${at}`);
    assert.deepEqual(
      answers.map(({ status }) => status).filter((status) => status >= 500),
      [],
    );
    assert.equal(answers[6].data.length, 1);
  });

  test('a GET is refused, because addresses are logged', async () => {
    const owner = await newPerson();
    const answer = await http('GET', '/rest/v1/rpc/set_secret?name=TOKEN&value=in-the-address', { token: owner.token });
    assert.equal(answer.status, 405, answer.text);
    assert.deepEqual(await names(owner, owner.orgId), []);
  });

  test('rows are written by the functions only', async () => {
    const owner = await newPerson();
    await ok(set(owner, 'TOKEN', 'x'));
    await refused(owner.client.from('secrets').insert({ name: 'OTHER' }), 403, '42501');
    await refused(owner.client.from('secrets').update({ name: 'OTHER' }).eq('org_id', owner.orgId), 403, '42501');
    await refused(owner.client.from('secrets').delete().eq('org_id', owner.orgId), 403, '42501');
    assert.equal(await stored(owner.orgId, 'TOKEN'), 'x');
  });

  test('twenty calls at once leave one row and the value of one of them', async () => {
    const owner = await newPerson('PRO');
    const values = Array.from({ length: 20 }, (_, n) => `value ${n}`);
    const rows = await Promise.all(values.map((value) => ok(inTurn(() => set(owner, 'TOKEN', value)))));
    assert.equal(new Set(rows.map(({ id }) => id)).size, 1);
    assert.ok(values.includes(await stored(owner.orgId, 'TOKEN')));
    await Promise.all(
      values.map(async (value, n) => {
        const { error } = await inTurn(() => (n % 2 ? set(owner, 'TOKEN', value) : remove(owner, 'TOKEN')));
        assert.ok(!error || error.code === 'not_found', JSON.stringify(error));
      }),
    );
  });

  test('a key sets secrets only with the permission by name; wildcards and read-only keys do not', async () => {
    const owner = await newPerson('PRO');
    for (const permissions of [['*:read', '*:write'], ['skills:write'], ['secrets:read']]) {
      const { error } = await keyClient((await createKey(owner, { permissions })).secret).rpc('set_secret', { name: 'TOKEN', value: 'x' });
      assert.equal(error?.code, 'permission_denied', permissions.join());
    }
    const key = await createKey(owner, { permissions: ['secrets:read', 'secrets:write'] });
    const client = keyClient(key.secret);
    const made = await ok(client.rpc('set_secret', { name: 'TOKEN', value: 'of the key' }));
    assert.deepEqual([made.org_id, made.created_by, made.created_by_key], [owner.orgId, null, key.id]);
    assert.equal(await stored(owner.orgId, 'TOKEN'), 'of the key');
    assert.deepEqual(await ok(client.from('secrets').select('name')), [{ name: 'TOKEN' }]);
    const { secret: blind } = await createKey(owner, { permissions: ['*:read'] });
    assert.deepEqual(await ok(keyClient(blind).from('secrets').select('name')), []);
    await ok(client.rpc('delete_secret', { name: 'TOKEN' }));
  });
});
