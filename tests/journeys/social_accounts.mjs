// Accounts of the four platforms, from the consent in a browser to a post: what the tokens are worth is up to the fakes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Browser } from './auth_providers.mjs';
import { authorized, begin, complete, connect, notices, paused, refreshed, refreshNow, use } from './connections_support.mjs';
import { ok, refused, until } from './domain.mjs';
import { ended, image, schedule, stateOf, write } from './social_support.mjs';

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
}
