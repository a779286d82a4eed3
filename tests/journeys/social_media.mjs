// Images of social posts as members see them: each is measured after its upload, and a post is scheduled only if its platform takes it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { gif, jpeg, png } from '../images.mjs';
import { ok, refused } from './domain.mjs';
import { connect, ended, measured, schedule, upload, write } from './social_support.mjs';

const TYPES = { jpeg: 'image/jpeg', png: 'image/png', gif: 'image/gif' };

// What each platform takes and refuses. `of`: the type that the uploader says, if it is another one.
const CASES = [
  ['linkedin', { png: png(6000, 6000) }, null],
  ['linkedin', { png: png(6025, 6025) }, 'media_too_many_pixels'],
  ['linkedin', { gif: gif(640, 480, 250) }, null],
  ['linkedin', { gif: gif(640, 480, 251) }, 'media_too_many_frames'],
  ['facebook', { png: png(3000, 200) }, null],
  ['facebook', { gif: gif(640, 480) }, 'media_type'],
  ['facebook', { png: jpeg(640, 480) }, 'media_type'],
  ['instagram', { jpeg: jpeg(1080, 1350) }, null],
  ['instagram', { jpeg: jpeg(1080, 1351) }, 'media_aspect_ratio'],
  ['instagram', { jpeg: jpeg(1080, 566) }, null],
  ['instagram', { jpeg: jpeg(1080, 565) }, 'media_aspect_ratio'],
  // The camera was held upright: 566 x 1080 as it is shown.
  ['instagram', { jpeg: jpeg(1080, 566, { orientation: 6 }) }, 'media_aspect_ratio'],
  ['instagram', { jpeg: jpeg(1350, 1080, { orientation: 6 }) }, null],
  ['instagram', { jpeg: png(1080, 1080) }, 'media_type'],
  ['twitter', { png: png(8192, 16) }, null],
  ['twitter', { png: png(8193, 16) }, 'media_dimensions'],
  ['twitter', { jpeg: jpeg(3, 4) }, 'media_dimensions'],
  ['twitter', { gif: gif(1280, 1080, 217) }, null],
  ['twitter', { gif: gif(1280, 1080, 218) }, 'media_too_many_pixels'],
  ['twitter', { gif: gif(1281, 720) }, 'media_dimensions'],
  ['twitter', { gif: gif(16, 16, 351) }, 'media_too_many_frames'],
];

const HOSTILE = {
  'no image': [Buffer.from('1080 x 1080'), 'unknown_type'],
  'a WebP': [Buffer.from('RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0'), 'unknown_type'],
  'the first half of an image': [jpeg(1080, 1080).subarray(0, 900), 'incomplete'],
  'a piece that claims 4 GiB': [
    Buffer.concat([png(1080, 1080).subarray(0, 33), Buffer.from('ffffffff49444154', 'hex'), Buffer.alloc(99)]),
    'incomplete',
  ],
  'nothing but a beginning': [Buffer.from('ffd8ffe0', 'hex'), 'incomplete'],
  'no pixels at all': [jpeg(0, 0), 'no_size'],
  'a claim beyond what PNG allows': [png(0xffffffff, 0xffffffff, { pixels: false }), 'no_size'],
};

export function mediaTests(world) {
  /** A post with these images; members write it, and admins schedule it. */
  async function post(platform, media) {
    const { fake, team } = world;
    world.accounts ??= {};
    world.accounts[platform] ??= await (async () => {
      const account = fake.account(platform);
      return { account, connection: await connect(team.orgId, account) };
    })();
    return write(team.member, platform, world.accounts[platform].connection, { media });
  }
  const codes = async (id) => {
    const { problems } = await ok(world.team.member.client.rpc('preview_social_post', { post_id: id }));
    return problems.map(({ code }) => code);
  };

  test('each platform gets only images that it takes, by files of each size', async () => {
    const { member, admin, orgId } = world.team;
    const published = [];
    for (const [platform, file, code] of CASES) {
      const [[type, bytes]] = Object.entries(file);
      const object = await upload(member.client, orgId, bytes, { type: TYPES[type] });
      const row = await measured(member.client, orgId, object);
      const { id } = await post(platform, [object]);
      const what = `${platform}: ${row.content_type} ${row.width} x ${row.height} of ${row.frames}`;
      assert.deepEqual(await codes(id), code ? [code] : [], what);
      if (code) {
        const error = await refused(admin.client.rpc('schedule_social_post', { post_id: id }), 422, 'invalid_input');
        assert.match(error.details, new RegExp(`^${code}: image 1 `), what);
      } else {
        await schedule(admin, { id });
        published.push(id);
      }
    }
    for (const row of await ended(published)) assert.equal(row.status, 'published', `${row.platform} ${row.error_code} ${row.error}`);
  });

  test('a hostile file is a problem and no crash, and the next one is measured', async () => {
    const { member, admin, orgId } = world.team;
    for (const [what, [bytes, reason]] of Object.entries(HOSTILE)) {
      const object = await upload(member.client, orgId, bytes);
      const row = await measured(member.client, orgId, object);
      assert.deepEqual([row.status, row.reason, row.width, row.bytes], ['unreadable', reason, null, bytes.length], what);
      const { id } = await post('instagram', [object]);
      assert.deepEqual(await codes(id), ['media_unreadable'], what);
      await refused(admin.client.rpc('schedule_social_post', { post_id: id }), 422, 'invalid_input');
    }
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="1080" height="1080"><script>alert(1)</script></svg>');
    for (const type of ['image/jpeg', 'image/svg+xml'])
      await assert.rejects(upload(member.client, orgId, svg, { type }), { code: 'InvalidMimeType' });
    // A claim of 4 gigapixels is a size like others.
    const bomb = await measured(
      member.client,
      orgId,
      await upload(member.client, orgId, png(0x7fffffff, 0x7fffffff, { pixels: false }), { type: 'image/png' }),
    );
    assert.deepEqual([bomb.status, bomb.width, bomb.height], ['measured', 0x7fffffff, 0x7fffffff]);
    for (const platform of ['linkedin', 'twitter'])
      assert.equal((await codes((await post(platform, [{ path: bomb.path, alt_text: 'x' }])).id)).length, 1, platform);
  });

  test('a name that is uploaded again is measured again, and one that is deleted is forgotten', async () => {
    const { member, orgId, viewer, nonMember } = world.team;
    const path = `${orgId}/${randomUUID()}.jpg`;
    const images = member.client.storage.from('social-media');
    await upload(member.client, orgId, jpeg(640, 640), { path });
    assert.equal((await measured(member.client, orgId, { path })).width, 640);
    await ok(images.remove([path]));
    const rows = (client) => ok(client.from('social_media_files').select('width').eq('org_id', orgId).eq('path', path));
    assert.deepEqual(await rows(member.client), []);
    await upload(member.client, orgId, jpeg(800, 800), { path });
    assert.equal((await measured(member.client, orgId, { path })).width, 800);
    assert.deepEqual(await rows(viewer.client), [{ width: 800 }]);
    assert.deepEqual(await rows(nonMember.client), []);
    await refused(member.client.from('social_media_files').update({ width: 1080 }).eq('path', path), 403, '42501');
  });
}
