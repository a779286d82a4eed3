// Accounts of an organization at other services. GitHub and GitLab are fakes at the boundary of HTTP.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { OidcServer } from './auth_oidc_server.mjs';
import { APP, Browser, beginning, newPerson as newAccount, Providers } from './auth_providers.mjs';
import './connections_refresh.mjs';
import { authorized, begin, CALLBACK, complete, connect, deleteUser, rowOf, use, world } from './connections_support.mjs';
import { anonymous, join, newPerson, newTeam, ok, refused, unaffected, until } from './domain.mjs';
import { adminSql, api, env, newEmail, signIn, sql } from './support.mjs';

let providers;
let team;
before(async () => {
  providers = await Providers.listen(process.env.KIJKO_TEST_HUB_PORT);
  team = await newTeam();
  Object.assign(world, { providers, team, oidc: await OidcServer.start(process.env.KIJKO_TEST_WORK_PORT) });
});
after(() => Promise.all([providers.close(), world.oidc.down()]));
beforeEach(() => {
  Object.assign(providers, { denies: false, broken: false, expires: false, loses: false, person: newAccount(newEmail('work')) });
});

describe('who may', () => {
  test('an unauthenticated caller and a non-member can neither see, make nor remove them', async () => {
    const connection = await connect(team.owner, 'hub');
    for (const [name, body] of [
      ['begin_connection', { provider: 'hub' }],
      ['complete_connection', { code: 'x' }],
      ['list_connection_providers', {}],
    ]) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.deepEqual([answer.status, answer.body.code], [401, '42501'], name);
    }
    const stranger = { client: team.nonMember.client, orgId: team.orgId };
    await refused(begin(stranger, { provider: 'hub' }), 403, 'not_a_member');
    await refused(stranger.client.rpc('list_connection_providers').setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    await refused(begin(team.nonMember, { connection_id: connection.id }), 404, 'not_found');
    assert.deepEqual(await ok(stranger.client.from('connections').select('id').eq('org_id', team.orgId)), []);
    await unaffected(stranger.client.from('connections').delete().eq('id', connection.id).select());
    assert.equal((await rowOf(connection.id)).status, 'active');
    const elsewhere = await sql('select private.connections_use($1, $2) as use', [team.nonMember.orgId, connection.id]);
    assert.deepEqual(elsewhere, [{ use: null }], 'nor can a job of another organization use them');
  });

  test('viewers see none, members see them, admins and owners connect and remove', async () => {
    const connection = await connect(team.admin, 'hub');
    for (const person of [team.viewer, team.member]) {
      await refused(begin(person, { provider: 'hub' }), 403, 'permission_denied');
      await unaffected(person.client.from('connections').delete().eq('id', connection.id).select());
    }
    const seen = (person) => ok(person.client.from('connections').select('id').eq('org_id', team.orgId).eq('id', connection.id));
    assert.deepEqual(await seen(team.viewer), []);
    assert.deepEqual(await seen(team.member), [{ id: connection.id }]);
    await refused(team.viewer.client.rpc('list_connection_providers'), 403, 'permission_denied');
    const offered = await ok(team.member.client.rpc('list_connection_providers'));
    assert.deepEqual(
      offered.filter(({ provider }) => ['hub', 'github'].includes(provider)),
      [{ provider: 'hub', scopes: ['repo', 'read:org'] }],
      'a provider of sign-in is none of connections by itself',
    );
    for (const write of [
      team.owner.client.from('connections').insert({ provider: 'hub', account_id: '1' }),
      team.owner.client.from('connections').update({ status: 'active' }).eq('id', connection.id),
    ])
      assert.equal((await write).error.code, '42501');
    assert.equal((await ok(team.owner.client.from('connections').delete().eq('id', connection.id).select())).length, 1);
  });

  test('a key makes none; with the permission it sees and removes them', async () => {
    const connection = await connect(team.owner, 'hub');
    const { secret } = await createKey(team.owner, { kind: 'service', permissions: ['connections:read', 'connections:write'] });
    const key = { client: keyClient(secret), orgId: team.orgId };
    await refused(begin(key, { provider: 'hub' }), 403, 'permission_denied');
    await refused(complete(key, 'x'), 403, 'permission_denied');
    assert.deepEqual(await ok(key.client.from('connections').select('id').eq('id', connection.id)), [{ id: connection.id }]);
    const { secret: wildcard } = await createKey(team.owner, { kind: 'service', permissions: ['*:read', '*:write'] });
    assert.deepEqual(await ok(keyClient(wildcard).from('connections').select('id')), [], 'wildcards do not reach them');
    assert.equal((await ok(key.client.from('connections').delete().eq('id', connection.id).select())).length, 1);
  });
});

describe('connecting', () => {
  for (const [provider, asked, granted] of [
    ['hub', ['repo'], ['repo']],
    ['lab', ['api'], ['api', 'read_user']],
  ])
    test(`an account at ${provider}: a row, and a token that only the server has`, async () => {
      const { url } = await ok(begin(team.owner, { provider, scopes: asked }));
      const browser = new Browser();
      const location = new URL((await browser.request(url)).headers.get('location'));
      const sent = Object.fromEntries(location.searchParams);
      assert.deepEqual([sent.redirect_uri, sent.response_type, sent.code_challenge_method], [CALLBACK, 'code', 'S256']);
      assert.deepEqual(sent.scope.split(' ').sort(), granted);
      const { query } = await browser.arrive(location.href);
      assert.deepEqual(Object.keys(query), ['connection_code'], 'supabase-js takes code and error for its own');
      assert.deepEqual(await ok(team.owner.client.from('connections').select('id').eq('account_id', String(providers.person.id))), []);
      const connection = await ok(complete(team.owner, query.connection_code));
      assert.deepEqual(
        [connection.org_id, connection.provider, connection.account_id, connection.account_name, connection.status],
        [team.orgId, provider, String(providers.person.id), providers.person.login, 'active'],
      );
      assert.deepEqual([connection.scopes, connection.authorized_by], [granted, team.owner.user.id]);
      assert.equal(connection.expires_at !== null, provider === 'lab');
      const { access_token: token, status } = await use(connection);
      assert.ok(status === 'active' && providers.knows(token));
      const rows = await adminSql('select row_to_json(t)::text as text from private.connection_tokens as t');
      assert.ok(rows.length > 0 && !rows.some(({ text }) => text.includes(token)), 'sealed');
      const [keys] = await sql(`select bool_and(kijko.can_unseal(t.access_token, private.connections_access_context(t))) as opens
        from private.connection_tokens as t where t.connection_id = '${connection.id}'`);
      assert.deepEqual(keys, { opens: true }, 'a change of the sealing key reaches them');
      for (const answer of [
        await team.owner.client.from('connections').select('*'),
        await team.owner.client.from('connections').select('*, organizations(*)'),
        await team.owner.client.schema('private').from('connection_tokens').select('*'),
        await team.owner.client.rpc('connections_use', { org: team.orgId, connection_id: connection.id }),
      ])
        assert.ok(!JSON.stringify(answer).includes(token));
    });

  test('again keeps the row, by whichever member; another account is refused or another row', async () => {
    const account = providers.person;
    const first = await connect(team.owner, 'hub', { scopes: ['repo'] });
    const { access_token: former } = await use(first);
    const again = await connect(team.admin, undefined, { connection_id: first.id });
    assert.deepEqual([again.id, again.created_by, again.authorized_by], [first.id, team.owner.user.id, team.admin.user.id]);
    assert.deepEqual(again.scopes, ['repo'], 'the same scopes, if none are named');
    await until('the former token to be revoked', () => providers.revoked.includes(former));
    assert.ok(providers.knows((await use(again)).access_token));

    providers.person = newAccount(newEmail('other'));
    const code = await authorized(team.owner, { connection_id: first.id });
    await refused(complete(team.owner, code), 409, 'conflict');
    const other = await connect(team.owner, 'hub');
    assert.notEqual(other.id, first.id);
    assert.equal((await rowOf(first.id)).account_name, account.login);
  });

  test('what is not allowed is refused before a browser goes anywhere', async () => {
    for (const args of [
      { provider: 'github' },
      { provider: 'none' },
      {},
      { provider: 'hub', scopes: ['admin:org'] },
      { provider: 'hub', scopes: ['repo read:org'] },
      { provider: 'hub', scopes: [null] },
    ])
      await refused(begin(team.owner, args), 422, 'invalid_input');
    for (const target of ['https://evil.example/', 'javascript:alert(1)', '//evil.example', 'http://0x7f.1/', `${APP}\n`])
      await refused(begin(team.owner, { provider: 'hub', redirect_to: target }), 422, 'invalid_input');
  });

  test("the provider's errors come back to the app", async () => {
    const back = async () => (await new Browser().arrive((await ok(begin(team.owner, { provider: 'hub' }))).url)).query;
    providers.denies = true;
    assert.deepEqual(await back(), {
      connection_error: 'access_denied',
      connection_error_description: 'The user has denied your application access.',
    });
    Object.assign(providers, { denies: false, broken: true });
    assert.equal((await back()).connection_error, 'server_error');
  });
});

describe('attacks', () => {
  /** A browser that has been at the provider, and the address of the callback that it was sent to. */
  async function atCallback(person = team.owner) {
    const browser = new Browser();
    const { url } = await ok(begin(person, { provider: 'hub' }));
    return { url, browser, callback: await browser.follow(url, CALLBACK) };
  }
  const is400 = async (response, code = 'bad_request') => {
    assert.equal(response.status, 400);
    const body = await response.json();
    assert.equal(body.error_code ?? body.code, code);
  };
  const count = async () => (await sql('select count(*)::int as n from public.connections where org_id = $1', [team.orgId]))[0].n;

  test('a ticket and a state are good once', async () => {
    const { url, browser, callback } = await atCallback();
    await is400(await new Browser().request(url));
    const answers = await Promise.all([browser.request(callback), browser.request(callback)]);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [302, 400]);
    assert.deepEqual(browser.cookies('127.0.0.1'), []);
    await is400(await browser.request(callback));
    for (const query of ['', '?ticket=', '?ticket=x', '?ticket=%00']) await is400(await new Browser().request(url.split('?')[0] + query));
    for (const query of ['?code=x', '?code=x&state=y', '?code=%00&state=%00']) await is400(await browser.request(CALLBACK + query));
  });

  test('a ticket, a state and a code are good for ten minutes', async () => {
    const age = (owner) =>
      sql(`update private.connection_flows set created_at = created_at - interval '11 minutes' where user_id = $1`, [owner.user.id]);
    const { url } = await ok(begin(team.admin, { provider: 'hub' }));
    const { browser, callback } = await atCallback(team.admin);
    const code = await authorized(team.admin, { provider: 'hub' });
    await age(team.admin);
    await is400(await new Browser().request(url));
    await is400(await browser.request(callback));
    await refused(complete(team.admin, code), 404, 'not_found');
  });

  test("session fixation: a callback is of the browser that began, and nobody else's uses it up", async () => {
    const { browser, callback } = await atCallback();
    await is400(await new Browser().request(callback));
    await is400(await (await atCallback()).browser.request(callback));
    assert.equal((await browser.request(callback, { method: 'HEAD' })).status, 204);
    assert.ok((await browser.arrive(callback)).query.connection_code);
  });

  test('a lured victim gives their account to nobody: who began completes, in the same session', async () => {
    const attacker = await newPerson();
    const before = await count();
    const code = await authorized(attacker, { provider: 'hub' });
    for (const person of [team.owner, team.viewer, await signIn(attacker)]) await refused(complete(person, code), 404, 'not_found');
    await refused(complete(attacker, `${code}x`), 404, 'not_found');
    assert.equal(await count(), before);
    const [one, two] = await Promise.all([complete(attacker, code), complete(attacker, code)]);
    assert.deepEqual([one.status, two.status].sort(), [200, 404], 'a code is good once');
  });

  test('who lost the permission meanwhile completes nothing', async () => {
    const person = await newPerson();
    await join(person, team.orgId, 'admin', team.owner);
    const code = await authorized({ ...person, orgId: team.orgId }, { provider: 'hub' });
    await ok(
      team.owner.client.from('memberships').update({ role: 'member' }).eq('user_id', person.user.id).eq('org_id', team.orgId).select(),
    );
    await refused(complete(person, code), 403, 'permission_denied');
    await ok(team.owner.client.from('memberships').delete().eq('user_id', person.user.id).eq('org_id', team.orgId).select());
    await refused(complete(person, code), 403, 'permission_denied');
  });

  test('a sign-in never becomes a connection, and a connection never a sign-in', async () => {
    const browser = new Browser();
    const signIns = await browser.follow(await beginning(api(), 'hub'), `${env.API_URL}/auth/v1/callback`);
    const { url } = await ok(begin(team.owner, { provider: 'hub' }));
    const connections = await browser.follow(url, CALLBACK);
    const moved = (address, path) => Object.assign(new URL(address), { pathname: path }).href;
    await is400(await browser.request(moved(signIns, '/auth/v1/callback/connection')));
    await is400(await browser.request(moved(connections, '/auth/v1/callback')), 'bad_oauth_state');
    const injected = (address, other) => {
      const target = new URL(address);
      target.searchParams.set('code', new URL(other).searchParams.get('code'));
      return target.href;
    };
    const { query } = await browser.arrive(injected(connections, signIns));
    assert.equal(query.connection_error, 'server_error', 'the provider binds a code to its callback and verifier');
    const { fragment } = await browser.arrive(injected(signIns, connections));
    assert.equal(fragment.error_code, 'unexpected_failure');
  });

  test('mix-up: an answer in the name of another issuer is refused', async () => {
    const { browser, callback } = await atCallback();
    const { query } = await browser.arrive(`${callback}&iss=${encodeURIComponent('https://other.example')}`);
    assert.equal(query.connection_error, 'server_error');
  });

  test('the database has no ticket, state or code in the clear', async () => {
    const { url, browser, callback } = await atCallback();
    const { query } = await browser.arrive(callback);
    const rows = await sql('select row_to_json(f)::text as text from private.connection_flows as f');
    const text = rows.map((row) => row.text).join('\n');
    const { searchParams } = new URL(callback);
    for (const secret of [new URL(url).searchParams.get('ticket'), searchParams.get('state'), query.connection_code])
      assert.ok(secret && !text.includes(secret));
  });
});

describe('the end', () => {
  test('removing one revokes its token, also after the provider was down', async () => {
    const connection = await connect(team.owner, 'lab');
    const { access_token: token } = await use(connection);
    providers.broken = true;
    await ok(team.owner.client.from('connections').delete().eq('id', connection.id).select());
    assert.equal(await use(connection), null);
    providers.broken = false;
    await until('a revocation', async () => {
      await sql('update private.connection_tokens set revoke_at = now() where organization = $1 and connection_id is null', [team.orgId]);
      await sql('notify kijko_connections');
      return providers.revoked.includes(token);
    });
    await until('nothing to be left', async () => (await orphans(team.orgId)) === 0);
  });

  test('what nobody completes, and what an organization leaves behind, is revoked', async () => {
    const person = await newPerson();
    const organization = await ok(person.client.rpc('create_organization', { name: 'Short-lived' }));
    const owner = { ...person, orgId: organization.id };
    const { access_token: token } = await use(await connect(owner, 'hub'));
    providers.person = newAccount(newEmail('other'));
    await authorized(owner, { provider: 'hub' });
    assert.ok(providers.knows(token));
    await ok(person.client.from('organizations').delete().eq('id', organization.id).select());
    await until('the revocation', () => providers.revoked.includes(token));
    await until('nothing to be left', async () => (await orphans(organization.id)) === 0);
  });

  test('one who leaves does not take it along: it goes on, and shows it', async () => {
    const person = await newPerson();
    await join(person, team.orgId, 'admin', team.owner);
    const connection = await connect({ ...person, orgId: team.orgId }, 'hub');
    const remove = () => ok(team.owner.client.from('memberships').delete().eq('user_id', person.user.id).eq('org_id', team.orgId).select());
    const left = async () => {
      const row = await rowOf(connection.id);
      assert.equal(row.status, 'active');
      return row.authorizer_left_at !== null;
    };
    assert.equal(await left(), false);
    await remove();
    assert.equal(await left(), true);
    await join(person, team.orgId, 'admin', team.owner);
    assert.equal(await left(), false);
    await deleteUser(person.user.id);
    assert.equal(await left(), true);
    assert.deepEqual([(await rowOf(connection.id)).authorized_by, (await use(connection)).status], [null, 'active']);
    assert.equal((await connect(team.owner, 'hub')).authorizer_left_at, null, 'until another member authorizes it');
  });

  const orphans = async (org) =>
    (
      await sql(
        'select count(*)::int as n from private.connection_tokens where organization = $1 and connection_id is null and flow_id is null',
        [org],
      )
    )[0].n;
});
