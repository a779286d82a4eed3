// A person's own account: their sessions, and its deletion by the rules of succession.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { admin, api, http, newUser, signIn, sql } from './support.mjs';

const rpc = async (client, name, args) => {
  const { data, error, status } = await client.rpc(name, args);
  return { data, code: error?.code, status };
};
const sessionOf = ({ session }) => JSON.parse(Buffer.from(session.access_token.split('.')[1], 'base64url')).session_id;

describe('sessions', () => {
  test('without a sign-in there are none', async () => {
    for (const [name, args] of [
      ['list_sessions', {}],
      ['end_session', { session_id: randomUUID() }],
      ['delete_account', {}],
    ]) {
      const { status } = await rpc(api(), name, args);
      assert.equal(status, 401, name);
      assert.ok((await rpc(admin(), name, args)).status >= 400, name);
    }
  });

  test('are listed, the last used first, and nobody else’s', async () => {
    const here = await newUser();
    const there = await http('POST', '/auth/v1/token?grant_type=password', {
      body: { email: here.email, password: here.password },
      headers: { 'User-Agent': 'phone' },
    });
    await newUser();
    const { data } = await rpc(here.client, 'list_sessions');
    assert.deepEqual(
      data.map(({ id, is_current, aal }) => [id, is_current, aal]),
      [
        [sessionOf({ session: there.body }), false, 'aal1'],
        [sessionOf(here), true, 'aal1'],
      ],
    );
    assert.equal(data[0].user_agent, 'phone');
    assert.match(data[0].ip_address, /^(127\.0\.0\.1|::1)$/);
    assert.ok(data.every(({ created_at, last_seen_at }) => Date.parse(created_at) <= Date.parse(last_seen_at)));
  });

  test('can be ended one by one; a stranger’s cannot', async () => {
    const here = await newUser();
    const there = await signIn(here);
    const stranger = await newUser();
    for (const id of [sessionOf(there), randomUUID()]) {
      assert.deepEqual((await rpc(stranger.client, 'end_session', { session_id: id })).code, 'not_found');
    }
    assert.equal((await rpc(here.client, 'end_session', { session_id: sessionOf(there) })).status, 204);
    assert.equal((await http('GET', '/rest/v1/profiles', { token: there.session.access_token })).status, 401);
    assert.equal((await http('GET', '/rest/v1/profiles', { token: here.session.access_token })).status, 200);
    assert.equal((await rpc(here.client, 'end_session', { session_id: sessionOf(there) })).code, 'not_found');
  });
});

describe('the deletion of an account', () => {
  test('needs a fresh sign-in, and the second factor of who has one', async () => {
    const account = await newUser();
    await sql(`update auth.sessions set created_at = created_at - interval '61 minutes' where user_id = $1`, [account.user.id]);
    assert.deepEqual((await rpc(account.client, 'delete_account')).code, 'permission_denied');
    const fresh = await signIn(account);
    await sql(
      `insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at) values (gen_random_uuid(), $1, 'totp', 'verified', now(), now())`,
      [account.user.id],
    );
    assert.deepEqual((await rpc(fresh.client, 'delete_account')).code, 'insufficient_aal');
    await sql(`update auth.sessions set aal = 'aal2' where id = $1`, [sessionOf(fresh)]);
    // The token is from before the second factor, and may be a stolen one.
    assert.deepEqual((await rpc(fresh.client, 'delete_account')).code, 'insufficient_aal');
    await fresh.client.auth.refreshSession();
    assert.equal((await rpc(fresh.client, 'delete_account')).status, 204);
    assert.deepEqual(await sql('select id from auth.users where id = $1', [account.user.id]), []);
  });

  test('ends every session, and frees the address', async () => {
    const account = await newUser();
    const there = await signIn(account);
    assert.equal((await rpc(account.client, 'delete_account')).status, 204);
    for (const { session } of [account, there])
      assert.equal((await http('GET', '/rest/v1/profiles', { token: session.access_token })).status, 401);
    assert.equal((await api().auth.signInWithPassword(account)).error.code, 'invalid_credentials');
    const { data } = await api().auth.signUp(account);
    assert.notEqual(data.user.id, account.user.id);
  });

  test('hands an organization to a member, and takes one without members along', async () => {
    const [owner, member] = [await newUser(), await newUser()];
    const { data: shared } = await rpc(owner.client, 'create_organization', { name: 'Shared' });
    const { data: alone } = await rpc(owner.client, 'create_organization', { name: 'Alone' });
    await sql(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'member')`, [shared.id, member.user.id]);
    assert.equal((await rpc(owner.client, 'delete_account')).status, 204);
    const rows = await sql('select org_id, user_id, role from public.memberships where org_id = any ($1)', [[shared.id, alone.id]]);
    assert.deepEqual(rows, [{ org_id: shared.id, user_id: member.user.id, role: 'owner' }]);
    assert.deepEqual(await sql('select id from public.organizations where id = $1', [alone.id]), []);
  });
});
