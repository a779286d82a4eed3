// Social posts as members and platforms see them: the stack publishes to fakes of the four platforms.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { SocialPlatforms } from '../fake_social/server.mjs';
import { call, newTeam, ok, refused, until } from './domain.mjs';
import { accountTests } from './social_accounts.mjs';
import { mediaTests } from './social_media.mjs';
import { connect, ended, eventsOf, image, logOf, schedule, stateOf, write } from './social_support.mjs';
import { sql } from './support.mjs';

const PLATFORMS = ['linkedin', 'facebook', 'instagram', 'twitter'];

describe('social posts', () => {
  let fake;
  let team;
  let member;
  let admin;
  const world = {};
  before(async () => {
    fake = await SocialPlatforms.listen(process.env.KIJKO_TEST_SOCIAL_PORT, 'localhost');
    team = await newTeam();
    ({ member, admin } = team);
    Object.assign(world, { fake, team });
  });
  after(() => fake.close());

  /** A post of a new account that is published now. */
  async function publish(platform, { faults, quota = 0, ...fields } = {}) {
    const account = Object.assign(fake.account(platform, faults), { quota });
    const connection = await connect(team.orgId, account);
    const media = platform === 'instagram' ? [await image(member.client, team.orgId)] : [];
    const post = await write(member, platform, connection, { media, ...fields });
    await schedule(admin, post);
    return { account, connection, id: post.id, text: post.text };
  }

  const one = async ({ id }) => (await ended([id]))[0];

  test('each platform gets the text as it was written, with its images', async () => {
    const text = `Ship it (now) [really] @ café_1 & <b> ${randomUUID()} https://example.com/a_b?c=1 {x} ~*|\\ 語 🙋🏽`;
    const posts = await Promise.all(
      PLATFORMS.map(async (platform) => {
        const media = [await image(member.client, team.orgId), await image(member.client, team.orgId, '')];
        return publish(platform, { text, hashtags: ['release', 'über'], media });
      }),
    );
    for (const post of posts) {
      const row = await one(post);
      const there = fake.postsOf(post.account);
      assert.deepEqual(
        [row.status, there.length, there[0]?.text, there[0]?.media.length],
        ['published', 1, `${text}\n\n#release #über`, 2],
        row.platform,
      );
      assert.ok(row.platform_post_id.endsWith(there[0].id), row.platform_post_id);
      assert.deepEqual(await eventsOf(post.id), ['started', 'prepared', 'create_started', 'published']);
      // A link, and one alternative text.
      assert.equal(Number(row.cost_usd), row.platform === 'twitter' ? 0.205 : 0);
    }
  });

  test('an answer that is lost is looked up, and the call is not repeated', async () => {
    // The call that creates the post is the last: of Instagram the fifth, else the first.
    const create = (platform) => (platform === 'instagram' ? 5 : 1);
    const posts = [];
    for (const platform of PLATFORMS)
      for (const what of ['hold', 'reset', 500])
        for (const at of ['after', 'alone'])
          posts.push({ what, at, ...(await publish(platform, { faults: { [create(platform)]: { at, do: what } } })) });
    const rows = new Map((await ended(posts.map(({ id }) => id))).map((row) => [row.id, row]));
    for (const { id, account, what, at } of posts) {
      const row = rows.get(id);
      const there = fake.postsOf(account).length;
      const calls = (await eventsOf(id)).filter((event) => event === 'create_started').length;
      const found = at === 'after' && row.platform !== 'linkedin';
      assert.deepEqual(
        [row.status, there, calls],
        [found ? 'published' : 'unconfirmed', at === 'after' ? 1 : 0, 1],
        `${row.platform} ${what} ${at}`,
      );
    }
    fake.release();
    // Members decide.
    const [there, lost] = posts.filter(({ account, what }) => account.platform === 'linkedin' && what === 500);
    await refused(member.client.rpc('confirm_social_post', { post_id: there.id }), 403, 'permission_denied');
    await sql(`update private.social_publications set create_deadline = now() where post_id = any ($1)`, [[there.id, lost.id]]);
    assert.equal((await ok(admin.client.rpc('confirm_social_post', { post_id: there.id }))).status, 'published');
    lost.account.faults = {};
    assert.equal((await ok(admin.client.rpc('resend_social_post', { post_id: lost.id }))).status, 'scheduled');
    assert.equal((await one(lost)).status, 'published');
    assert.equal(fake.postsOf(lost.account).length, 1);
  });

  test('refusals are states: a quota waits, bad content fails, a revoked token pauses the connection', async () => {
    const reset = Math.floor(Date.now() / 1000) + 7200;
    const limited = await publish('twitter', {
      faults: {
        1: {
          at: 'alone',
          do: {
            status: 429,
            headers: { 'x-rate-limit-remaining': '0', 'x-rate-limit-reset': String(reset) },
            body: { title: 'Too Many Requests' },
          },
        },
      },
    });
    const capped = await publish('instagram', { quota: 50 });
    await until('both to wait', async () => {
      const rows = await Promise.all([limited, capped].map(({ id }) => stateOf(id)));
      return rows.every((row) => row.error_code === 'platform_quota');
    });
    const waiting = await stateOf(limited.id);
    assert.deepEqual([waiting.status, waiting.attempts], ['scheduled', 0]);
    assert.ok(Math.abs(waiting.publish_after.getTime() / 1000 - reset) < 60, 'until the time that X says');
    capped.account.quota = 0;
    for (const post of [limited, capped]) assert.equal((await one(post)).status, 'published');

    const first = await publish('twitter');
    await one(first);
    const again = await write(member, 'twitter', first.connection, { text: first.text });
    await schedule(admin, again);
    const twice = await one(again);
    assert.deepEqual([twice.status, twice.error_code], ['failed', 'duplicate_content']);
    assert.match(twice.error, /duplicate content/);
    assert.equal(
      (await ok(admin.client.from('notifications').select('id').eq('type', 'social.attention').contains('data', { post_id: again.id })))
        .length,
      1,
    );

    const account = fake.account('facebook');
    account.revoked = true;
    const post = await write(member, 'facebook', await connect(team.orgId, account));
    await schedule(admin, post);
    await until(
      'a pause',
      async () => (await sql(`select 1 from public.connections where account_id = $1 and status = 'paused'`, [account.id])).length,
    );
    const paused = await until('the post to wait', async () => {
      const row = await stateOf(post.id);
      return row.status === 'scheduled' && row;
    });
    assert.ok(['token_refused', 'connection_paused'].includes(paused.error_code));
    // A member authorizes it again.
    account.revoked = false;
    await sql(`update public.connections set status = 'active', paused_reason = null, paused_at = null where account_id = $1`, [
      account.id,
    ]);
    assert.equal((await one(post)).status, 'published');
    assert.ok((await logOf(post.id)).every(({ message }) => !message?.includes(account.token)));
  });

  test('a connection that is refused fails nothing: it is tried again', async () => {
    const post = await publish('twitter', { faults: { 1: { at: 'alone', do: 'hold' } }, media: [await image(member.client, team.orgId)] });
    // The upload got no answer: nothing anybody sees, so it is repeated.
    const row = await one(post);
    assert.deepEqual([row.status, row.attempts, fake.postsOf(post.account).length], ['published', 2, 1]);
    fake.release();
  });

  test('roles: members write and submit, admins approve and schedule, viewers read, others see nothing', async () => {
    const account = fake.account('linkedin');
    const picture = await image(member.client, team.orgId);
    const post = await write(member, 'linkedin', await connect(team.orgId, account), { media: [picture] });
    await refused(member.client.rpc('schedule_social_post', { post_id: post.id }), 403, 'permission_denied');
    await refused(team.viewer.client.from('social_posts').insert({ org_id: team.orgId, platform: 'twitter' }), 403, '42501');
    assert.equal((await ok(team.viewer.client.from('social_posts').select('id').eq('id', post.id))).length, 1);
    assert.deepEqual(await ok(team.nonMember.client.from('social_posts').select('id').eq('id', post.id)), []);
    await refused(team.nonMember.client.rpc('preview_social_post', { post_id: post.id }), 404, 'not_found');
    assert.equal((await call({ token: null }, 'preview_social_post', { post_id: post.id })).status >= 400, true);

    await ok(admin.client.rpc('set_social_settings', { require_approval: true, time_zone: 'Europe/Amsterdam' }));
    await refused(admin.client.rpc('schedule_social_post', { post_id: post.id }), 409, 'conflict');
    const approval = await ok(member.client.rpc('submit_social_post', { post_id: post.id, reason: 'Launch' }));
    await ok(admin.client.rpc('approve_change', { approval_id: approval.id }));
    const scheduled = await schedule(admin, post, { local_time: '2027-07-01T09:00:00' });
    assert.equal(new Date(scheduled.scheduled_at).toISOString(), '2027-07-01T07:00:00.000Z');
    const [entry] = await ok(admin.client.rpc('social_calendar', { first_day: '2027-07-01', last_day: '2027-07-01' }));
    assert.deepEqual([entry.post_id, entry.local_time, entry.conflicts_with], [post.id, '2027-07-01T09:00:00', []]);
    // Who only writes does not change what is published, nor its image.
    const images = member.client.storage.from('social-media');
    assert.deepEqual((await images.remove([picture.path])).data, []);
    assert.ok((await images.upload(picture.path, Buffer.from('other'), { contentType: 'image/jpeg', upsert: true })).error);
    const edited = await ok(
      member.client.from('social_posts').update({ text: 'Other' }).eq('id', post.id).eq('revision', post.revision).select().single(),
    );
    assert.deepEqual([edited.status, edited.approval_status, edited.revision], ['draft', 'none', 2]);
    assert.deepEqual(
      await ok(member.client.from('social_posts').update({ text: 'Stale' }).eq('id', post.id).eq('revision', 1).select()),
      [],
    );
    await ok(admin.client.rpc('set_social_settings', { require_approval: false }));
    assert.equal((await schedule(admin, post, { local_time: '2027-07-01T09:00:00' })).status, 'scheduled');
    assert.equal((await ok(member.client.rpc('cancel_social_post', { post_id: post.id }))).status, 'cancelled');
    assert.equal(fake.postsOf(account).length, 0);
  });

  mediaTests(world);
  accountTests(world);
});
