// Tokens of connections: renewed ahead of time, and paused with a notice where the provider wants a new consent. A part of
// connections.test.mjs, because both need the same fakes.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { newStrangersKey } from './auth_oidc_server.mjs';
import { Browser, newPerson as newAccount } from './auth_providers.mjs';
import { begin, connect, generation, notices, paused, refreshed, refreshNow, rowOf, use, world } from './connections_support.mjs';
import { join, newPerson, ok, until } from './domain.mjs';
import { newEmail, sql } from './support.mjs';

describe('refreshing', () => {
  let owner;
  beforeEach(() => {
    owner = world.team.owner;
    const person = newAccount(newEmail('work'));
    Object.assign(world.providers, { expires: true, person });
    world.oidc.as(`subject-${person.id}`, { preferred_username: person.login, email: person.email, email_verified: true });
  });

  for (const provider of ['hub', 'lab', 'work'])
    test(`${provider} gives a new token for a refresh token, and each is used once`, async () => {
      const connection = await connect(owner, provider, { scopes: provider === 'work' ? ['email'] : [] });
      assert.ok(connection.expires_at && connection.refreshed_at === null);
      if (provider === 'work') assert.equal(connection.account_name, world.providers.person.email, 'what the scopes tell');
      const first = await use(connection);
      await refreshed(connection.id);
      const second = await use(connection);
      assert.notEqual(second.access_token, first.access_token);
      assert.deepEqual([second.status, second.generation], ['active', 2]);
      await refreshed(connection.id);
      const row = await rowOf(connection.id);
      assert.ok(row.refreshed_at && row.status === 'active' && row.error_code === null);
      assert.equal(row.refresh_expires_at !== null, provider === 'hub');
      if (provider !== 'work') assert.ok(world.providers.knows((await use(connection)).access_token));
    });

  test('a token is due before it expires, and a job of another domain waits for one that has', async () => {
    const connection = await connect(owner, 'lab');
    const [{ ahead }] = await sql(
      `select t.check_at < t.expires_at and t.check_at > kijko.now() as ahead from private.connection_tokens as t where t.connection_id = $1`,
      [connection.id],
    );
    assert.equal(ahead, true);
    await sql('update private.connection_tokens set expires_at = kijko.now() where connection_id = $1', [connection.id]);
    assert.deepEqual(await use(connection), { status: 'refreshing' });
    await until('a new token', async () => (await use(connection)).status === 'active');
  });

  test('two at once: one asks the provider, and no token is lost', async () => {
    const connection = await connect(owner, 'lab');
    // Another worker has begun, and has not ended.
    await sql('update private.connection_tokens set refresh_started_at = clock_timestamp() where connection_id = $1', [connection.id]);
    const asked = () => world.providers.requests.filter(({ path }) => path === '/gitlab/oauth/token').length;
    const before = asked();
    await refreshNow(connection.id);
    const waits = () =>
      sql(`select 1 from public.jobs where kind = 'connection_refresh' and unique_key = $1 and error_code = 'refreshing'`, [connection.id]);
    await until('the second to wait', async () => (await waits()).length === 1);
    assert.equal(asked(), before);
    assert.equal((await rowOf(connection.id)).status, 'active');
    // The answer to what the first has asked is stored once, and a late one of an older generation is not.
    const store = async (generation, token) =>
      (
        await sql(
          `select private.connections_refreshed(t.id, $2, jsonb_build_object('access_token', $3::text, 'refresh_token', 'r', 'expires_in', 7200)) as stored
           from private.connection_tokens as t where t.connection_id = $1`,
          [connection.id, generation, token],
        )
      )[0].stored;
    assert.deepEqual([await store(1, 'new'), await store(1, 'late')], [true, false]);
    assert.equal((await use(connection)).access_token, 'new');
  });

  test('an answer that is lost pauses the connection, and says so once', async () => {
    for (const provider of ['hub', 'lab']) {
      const connection = await connect(owner, provider);
      world.providers.loses = true;
      await refreshNow(connection.id);
      await until('the loss', async () => (await rowOf(connection.id)).error_code === 'provider_unreachable');
      assert.equal((await rowOf(connection.id)).status, 'active');
      world.providers.loses = false;
      await again(connection.id);
      assert.equal((await paused(connection.id)).paused_reason, 'refresh_interrupted');
      assert.deepEqual(await notices(connection.id), [null]);
    }
  });

  test('a worker that is killed between answer and commit: the same', async () => {
    const connection = await connect(owner, 'lab');
    // What it leaves behind: the refresh has begun, the provider has answered, and nothing was stored.
    const [{ token }] = await sql(
      `update private.connection_tokens as t set refresh_started_at = clock_timestamp() - interval '2 minutes', unanswered = 1
       where t.connection_id = $1 returning kijko.unseal(t.refresh_token, private.connections_refresh_context(t)) as token`,
      [connection.id],
    );
    const { url } = providerOf('lab');
    const form = { grant_type: 'refresh_token', refresh_token: token, client_id: 'gitlab-client', client_secret: 'gitlab-secret' };
    assert.equal((await fetch(`${url}/oauth/token`, { method: 'POST', body: new URLSearchParams(form) })).status, 200);
    await refreshNow(connection.id);
    assert.equal((await paused(connection.id)).paused_reason, 'refresh_interrupted');
    assert.deepEqual(await notices(connection.id), [null]);
  });

  test('the refresh token ends with the connection, also when its access token had ended before', async () => {
    for (const provider of ['hub', 'lab'])
      for (const ended of [false, true]) {
        const connection = await connect(owner, provider);
        const [{ token }] = await sql(
          'select kijko.unseal(t.refresh_token, private.connections_refresh_context(t)) as token from private.connection_tokens as t where t.connection_id = $1',
          [connection.id],
        );
        assert.ok(world.providers.knows(token));
        if (ended) world.providers.expire((await use(connection)).access_token);
        await ok(owner.client.from('connections').delete().eq('id', connection.id).select());
        await until('its revocation', () => world.providers.revoked.includes(token));
        assert.ok(!world.providers.knows(token));
      }
  });

  test('while the provider is down it stays active, and is tried again', async () => {
    const connection = await connect(owner, 'hub');
    world.providers.broken = true;
    await refreshNow(connection.id);
    await until('a failure', async () => (await rowOf(connection.id)).error_code === 'provider_refused');
    assert.deepEqual([(await rowOf(connection.id)).status, (await use(connection)).status], ['active', 'active']);
    world.providers.broken = false;
    await again(connection.id);
    await until('the refresh', async () => (await generation(connection.id)) === 2);
    assert.deepEqual([(await rowOf(connection.id)).error_code, await notices(connection.id)], [null, []]);
  });

  test('revoked at the provider: paused, with one notice; a new consent makes the same row active', async () => {
    for (const provider of ['hub', 'lab']) {
      const account = newAccount(newEmail('work'));
      world.providers.person = account;
      const connection = await connect(owner, provider);
      world.providers.withdraw(account);
      await refreshNow(connection.id);
      const row = await paused(connection.id);
      assert.deepEqual([row.paused_reason, row.error_code], ['revoked', null]);
      assert.deepEqual(await use(connection), { status: 'paused', reason: 'revoked' });
      await refreshNow(connection.id);
      assert.deepEqual(await notices(connection.id), [null], 'those who can renew it');
      const renewed = await connect(owner, undefined, { connection_id: connection.id });
      assert.deepEqual([renewed.id, renewed.status, renewed.paused_reason], [connection.id, 'active', null]);
      assert.equal((await use(connection)).status, 'active');
    }
  });

  test('a token that never expires is found revoked when it is looked at, or when a job is refused', async () => {
    world.providers.expires = false;
    const account = world.providers.person;
    const connection = await connect(owner, 'hub');
    assert.equal(connection.expires_at, null);
    await refreshed(connection.id);
    assert.deepEqual([(await rowOf(connection.id)).status, (await rowOf(connection.id)).refreshed_at], ['active', null]);
    world.providers.withdraw(account);
    await refreshNow(connection.id);
    assert.equal((await paused(connection.id)).paused_reason, 'revoked');

    const other = await connect(owner, undefined, { connection_id: connection.id });
    const { generation: current } = await use(other);
    const reject = (of) => sql('select private.connections_reject($1, $2, $3)', [other.org_id, other.id, of]);
    await reject(current + 1);
    assert.equal((await rowOf(other.id)).status, 'active', 'a refusal of another token says nothing of this one');
    await reject(current);
    assert.equal((await paused(other.id)).paused_reason, 'revoked');
    assert.deepEqual(await notices(other.id), [null, null], 'one for each pause');
  });

  test('a refusal of a token that can be refreshed refreshes it', async () => {
    const connection = await connect(owner, 'lab');
    await sql('select private.connections_reject($1, $2, 1)', [connection.org_id, connection.id]);
    await until('a new token', async () => (await generation(connection.id)) === 2);
    assert.equal((await rowOf(connection.id)).status, 'active');
  });

  test('an expired refresh token: paused as expired', async () => {
    const account = world.providers.person;
    const connection = await connect(owner, 'hub');
    await sql(`update private.connection_tokens set refresh_expires_at = kijko.now() where connection_id = $1`, [connection.id]);
    world.providers.withdraw(account);
    await refreshNow(connection.id);
    assert.equal((await paused(connection.id)).paused_reason, 'expired');
  });

  test('an identity token of somebody else, or of another flow, connects nothing', async () => {
    const { oidc } = world;
    const instead = (path, body) =>
      oidc.instead.set(path, (_, response) => response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body)));
    const tokens = [
      await oidc.token({ sub: 'victim' }, { key: await newStrangersKey() }),
      await oidc.token({ sub: 'victim', nonce: 'of another flow' }),
      await oidc.token({ sub: 'victim' }),
    ];
    for (const id_token of tokens) {
      const { url } = await ok(begin(owner, { provider: 'work' }));
      instead('/acme/token', { access_token: 'a', token_type: 'Bearer', expires_in: 60, id_token });
      instead('/acme/me', { sub: 'victim' });
      const { query } = await new Browser().arrive(url).finally(() => oidc.instead.clear());
      assert.deepEqual([query.connection_error, query.connection_code], ['account_unknown', undefined]);
    }
    assert.ok(await connect(owner, 'work'));
  });

  test('removing an account of an OpenID provider revokes its refresh token', async () => {
    const connection = await connect(owner, 'work');
    const [{ id, token }] = await sql(
      'select t.id, kijko.unseal(t.refresh_token, private.connections_refresh_context(t)) as token from private.connection_tokens as t where t.connection_id = $1',
      [connection.id],
    );
    await ok(owner.client.from('connections').delete().eq('id', connection.id).select());
    await until(
      'the end of the token',
      async () => (await sql('select 1 from private.connection_tokens where id = $1', [id])).length === 0,
    );
    const answer = await fetch(`${world.oidc.issuer('acme')}/token`, {
      method: 'POST',
      headers: { Authorization: `Basic ${Buffer.from('acme-client:acme-secret').toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token }),
    });
    assert.deepEqual([answer.status, (await answer.json()).error], [400, 'invalid_grant']);
  });

  test('who authorized it is told, also without the right to authorize again', async () => {
    const { team } = world;
    const person = await newPerson();
    await join(person, team.orgId, 'admin', team.owner);
    const account = world.providers.person;
    const connection = await connect({ ...person, orgId: team.orgId }, 'hub');
    await ok(
      team.owner.client.from('memberships').update({ role: 'member' }).eq('user_id', person.user.id).eq('org_id', team.orgId).select(),
    );
    world.providers.withdraw(account);
    await refreshNow(connection.id);
    await paused(connection.id);
    assert.deepEqual(await notices(connection.id), [null, person.user.id]);
    const told = ({ client }) =>
      ok(client.from('notifications').select('type').eq('type', 'connection.paused').contains('data', { connection_id: connection.id }));
    assert.equal((await told(person)).length, 1);
    assert.equal((await told(team.admin)).length, 1);
    assert.deepEqual([await told(team.member), await told(team.viewer)], [[], []]);
  });
});

/** The next attempt, without waiting for the queue's own. */
async function again(id) {
  await sql(`update public.jobs set run_at = now() where kind = 'connection_refresh' and unique_key = $1 and status = 'queued'`, [id]);
  await refreshNow(id);
}

const providerOf = (name) => ({ url: `http://localhost:${process.env.KIJKO_TEST_HUB_PORT}/${name === 'lab' ? 'gitlab' : ''}` });
