// Accounts of the four platforms, from the consent in a browser to a post: what the tokens are worth is up to the fakes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Browser } from './auth_providers.mjs';
import { authorized, begin, complete, connect, notices, paused, refreshed, refreshNow, use } from './connections_support.mjs';
import { ok, refused, until } from './domain.mjs';
import { ended, image, schedule, stateOf, write } from './social_support.mjs';
import { sql } from './support.mjs';

const PLATFORMS = ['linkedin', 'facebook', 'instagram', 'twitter'];

/** world: {fake, team}, once the tests run. */
export function accountTests(world) {
  const connections = new Map();

  const publish = async (platform) => {
    const { connection } = connections.get(platform);
    const media = platform === 'instagram' ? [await image(world.team.member.client, world.team.orgId)] : [];
    const post = await write(world.team.member, platform, connection.id, { media });
    await schedule(world.team.admin, post);
    return post;
  };

  test('each is connected by a consent, and its token publishes', async () => {
    for (const platform of PLATFORMS) {
      await refused(begin(world.team.member, { provider: platform }), 403, 'permission_denied');
      const account = world.fake.consents.next(platform);
      const connection = await connect(world.team.admin, platform);
      assert.deepEqual([connection.provider, connection.account_id, connection.status], [platform, account.id, 'active']);
      connections.set(platform, { connection, account });
      const days = connection.expires_at && Math.round((new Date(connection.expires_at) - Date.now()) / 86_400_000);
      // The token of a page has no end; the others' are as their platforms say.
      assert.equal(days, { linkedin: 60, facebook: null, instagram: 60, twitter: 0 }[platform], platform);
    }
    const posts = await Promise.all(PLATFORMS.map(publish));
    for (const row of await ended(posts.map(({ id }) => id))) {
      const there = world.fake.postsOf(connections.get(row.platform).account);
      assert.deepEqual([row.status, there.map(({ text }) => text)], ['published', [row.text]], `${row.platform}: ${row.error}`);
    }
  });

  test('tokens are refreshed, and the former ones are not needed any more', async () => {
    for (const platform of ['linkedin', 'instagram', 'twitter']) {
      const { connection } = connections.get(platform);
      const before = (await use(connection)).access_token;
      await refreshed(connection.id);
      const { access_token, status } = await use(connection);
      assert.equal(status, 'active');
      assert.notEqual(access_token, before, platform);
    }
    const posts = await Promise.all(['linkedin', 'instagram', 'twitter'].map(publish));
    for (const row of await ended(posts.map(({ id }) => id))) assert.equal(row.status, 'published', `${row.platform}: ${row.error}`);
  });

  test('a consent for several pages of Facebook is refused: nobody has said which one', async () => {
    const account = world.fake.consents.next('facebook');
    account.pages = [{ id: '1', name: 'Another', access_token: 'x' }];
    const { url } = await ok(begin(world.team.admin, { provider: 'facebook' }));
    const { query } = await new Browser().arrive(url);
    assert.equal(query.connection_error, 'server_error', JSON.stringify(query));
  });

  test('what is withdrawn at the platform pauses the connection, and its posts wait for a new consent', async () => {
    for (const platform of PLATFORMS) {
      const { connection, account } = connections.get(platform);
      account.revoked = true;
      await refreshNow(connection.id);
      const row = await paused(connection.id);
      assert.equal(row.paused_reason, 'revoked', platform);
      assert.ok((await notices(connection.id)).length > 0, platform);
      const post = await publish(platform);
      await until('the post to wait', async () => (await stateOf(post.id)).error_code === 'connection_paused');
      account.revoked = false;
      world.fake.consents.accounts.set(platform, account);
      const again = await ok(
        complete(world.team.admin, await authorized(world.team.admin, { provider: platform, connection_id: connection.id })),
      );
      assert.deepEqual([again.id, again.status], [connection.id, 'active']);
      const [end] = await ended([post.id]);
      assert.equal(end.status, 'published', `${platform}: ${end.error}`);
    }
  });
  test('an organization has an application of its own at X: it authorizes, refreshes and revokes, and X charges the organization', async () => {
    const { team, fake } = world;
    const { admin, member } = team;
    const set = (person, client_id, client_secret) =>
      person.client.rpc('set_connection_application', { provider: 'twitter', client_id, client_secret }).setHeader('x-org-id', team.orgId);
    const clientOf = async (connection) => fake.consents.clientOf((await use(connection)).access_token);
    const again = async ({ id }, account) => {
      fake.consents.accounts.set('twitter', account);
      return ok(complete(admin, await authorized(admin, { provider: 'twitter', connection_id: id })));
    };
    await refused(set(team.nonMember, 'acme', 'secret-1'), 403, 'not_a_member');
    for (const person of [team.viewer, member]) await refused(set(person, 'acme', 'secret-1'), 403, 'permission_denied');
    fake.consents.applications.set('acme', 'secret-1');
    await ok(set(admin, 'acme', 'secret-1'));
    const seen = await ok(member.client.from('connection_applications').select().eq('org_id', team.orgId));
    assert.deepEqual([seen.map(({ client_id }) => client_id), JSON.stringify(seen).includes('secret-1')], [['acme'], false]);

    const account = fake.consents.next('twitter');
    const connection = await connect(admin, 'twitter');
    assert.equal(await clientOf(connection), 'acme');
    assert.equal(await clientOf(connections.get('twitter').connection), 'social-client', 'what was connected before stays with its own');
    const text = 'See https://example.com/a';
    const post = await write(member, 'twitter', connection.id, { text, media: [await image(member.client, team.orgId)] });
    assert.equal((await ok(member.client.rpc('preview_social_post', { post_id: post.id }))).cost_microusd, 0);
    await schedule(admin, post);
    const [row] = await ended([post.id]);
    const [charged] = await sql(
      `select count(*)::int as costs, (select b.hold_id from private.social_publications as b where b.post_id = $1) as hold
       from public.content_costs where social_post_id = $1`,
      [post.id],
    );
    assert.deepEqual([row.status, Number(row.cost_usd), charged], ['published', 0, { costs: 0, hold: null }], row.error);

    // Another secret of the same application: what was connected goes on.
    fake.consents.applications.set('acme', 'secret-2');
    await ok(set(admin, 'acme', 'secret-2'));
    const former = (await use(connection)).access_token;
    await refreshed(connection.id);
    assert.notEqual((await use(connection)).access_token, former);
    assert.equal(await clientOf(connection), 'acme');

    // Another application: tokens of the former one are worth nothing with it.
    fake.consents.applications.set('acme-2', 'secret-3');
    await ok(set(admin, 'acme-2', 'secret-3'));
    assert.equal((await paused(connection.id)).paused_reason, 'application_removed');
    assert.ok((await notices(connection.id)).length > 0);
    await until('both tokens to be revoked', () => fake.consents.revoked.filter(({ client }) => client === 'acme').length >= 2);
    assert.equal((await again(connection, account)).status, 'active');
    assert.equal(await clientOf(connection), 'acme-2');

    await ok(admin.client.from('connection_applications').delete().eq('org_id', team.orgId).eq('provider', 'twitter').select().single());
    await paused(connection.id);
    await again(connection, account);
    assert.equal(await clientOf(connection), 'social-client');
    const charges = await write(member, 'twitter', connection.id, { text });
    assert.equal((await ok(member.client.rpc('preview_social_post', { post_id: charges.id }))).cost_microusd, 200_000);
    await until('no secret to be left', async () => {
      await sql('select private.connections_prune()');
      const left = await sql('select 1 from private.connection_application_secrets where organization = $1', [team.orgId]);
      return left.length === 0;
    });
  });
}
