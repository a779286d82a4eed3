// Workers that die while models write drafts and make images, and while a feed is read: each ends, and what it brings is there once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newPerson, ok } from '../journeys/domain.mjs';
import { json, newServer } from '../journeys/functions_support.mjs';
import { newVendor, openaiAnswer } from '../journeys/llm_support.mjs';
import { admin, env, sql } from '../journeys/support.mjs';
import { killSidecars, queryAsAdmin, Sidecar, until } from './harness.mjs';

// Beside the proxy, which lets no header of ours through.
const STORAGE_URL = `http://127.0.0.1:${Number(process.env.TEST_PORT ?? new URL(env.API_URL).port) + 18}`;

const chunk = (kind, content) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  return Buffer.concat([length, Buffer.from(kind), content, Buffer.alloc(4)]);
};
const PNG = Buffer.concat([
  Buffer.from('89504e470d0a1a0a', 'hex'),
  chunk('IHDR', Buffer.from('00000040000000400802000000', 'hex')),
  chunk('IDAT', Buffer.from('pixels')),
  chunk('IEND', Buffer.alloc(0)),
]);
const TITLES = ['A bridge is replaced', 'A library opens', 'A canal is dug'];
const FEED = `<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>${TITLES.map(
  (title, n) =>
    `<item><title>${title}</title><link>https://news.example.com/${n}</link><description>${title} on Monday.</description></item>`,
).join('')}</channel></rss>`;

export function contentTests() {
  describe('a worker in the middle of content', () => {
    /** Answers wait here while `holds`. */
    const world = { holds: false, held: [] };
    let person;
    let vendor;
    let site;
    const answer = (work) => {
      if (!world.holds) return work();
      world.held.push(work);
    };
    const release = () => {
      world.holds = false;
      for (const work of world.held.splice(0)) work();
    };
    before(async () => {
      const [{ setting }] = await queryAsAdmin(`select setting from pg_settings where name = 'kijko.http_allowed_hosts'`);
      assert.equal(setting, 'localhost', 'the stack of the tests reads feeds of this machine');
      person = await newPerson('TEAMS');
      vendor = await newVendor(
        'openai',
        async (call, response) => {
          await answer(() => {
            if (call.url.endsWith('/images/generations')) json(response, { created: 1, data: [{ b64_json: PNG.toString('base64') }] });
            else openaiAnswer(call, response, 'Bridges are replaced [^1].');
          });
        },
        { image_microusd: 100 },
      );
      site = await newServer((request, response) => {
        if (!request.url.endsWith('/feed.xml')) return response.writeHead(404).end();
        return answer(() => response.writeHead(200, { 'Content-Type': 'application/rss+xml' }).end(FEED));
      });
    });
    afterEach(killSidecars);

    // The lease of one that goes on is not to end while the machine is busy.
    const start = (leaseSeconds = 120) =>
      Sidecar.start(null, {
        leaseSeconds,
        concurrency: 16,
        variables: { KIJKO_STORAGE_URL: STORAGE_URL, KIJKO_DISCOVERY_HOST_PAUSE_MS: '0', KIJKO_LLM_ECHO: '0' },
      });
    const rpc = (name, body) => ok(person.client.rpc(name, body).setHeader('x-org-id', person.orgId));

    /** A post with a draft and an image that are asked for, and a discovery. */
    async function asked() {
      const topic = await ok(
        person.client
          .from('topics')
          .insert({ org_id: person.orgId, title: `Bridges ${randomUUID()}` })
          .select()
          .single(),
      );
      await rpc('add_research_source', { topic_id: topic.id, url: 'https://example.com/bridge', excerpt: 'Bridges are replaced.' });
      const post = await rpc('create_post', { title: 'Bridges', topic_id: topic.id });
      const draft = await rpc('draft_post', { post_id: post.id, revision: 1, model: vendor.model });
      const image = await rpc('generate_image', {
        post_id: post.id,
        revision: 1,
        prompt: 'a bridge',
        model: vendor.model,
        kind: 'supporting',
      });
      return { post, draft, image };
    }
    async function discovery() {
      const fields = { org_id: person.orgId, name: 'News', collector: 'feed', url: `${site}/feed.xml`, read_pages: false, enabled: false };
      const { id } = await ok(person.client.from('discoveries').insert(fields).select('id').single());
      return rpc('run_discovery', { discovery_id: id });
    }
    const rowOf = async (table, { id }) => (await sql(`select * from public.${table} where id = $1`, [id]))[0];
    const ended = (table, row) =>
      until(`${table} ${row.id} to end`, async () => {
        const now = await rowOf(table, row);
        return ['succeeded', 'failed'].includes(now.status) && now;
      });
    /** An image is there with its bytes, or neither is. */
    async function checkImage(image) {
      const row = await ended('images', image);
      const { data } = await admin().storage.from('blog-images').download(`${person.orgId}/${image.id}`);
      if (row.status === 'succeeded') assert.deepEqual(Buffer.from(await data.arrayBuffer()), PNG);
      else assert.equal(data, null, `${row.error_code}: the bytes of an image that failed`);
      return row;
    }
    async function checkTopics() {
      const topics = await sql('select title from public.topics where org_id = $1 and title = any ($2) order by title', [
        person.orgId,
        TITLES,
      ]);
      assert.deepEqual(
        topics.map(({ title }) => title),
        TITLES.toSorted(),
      );
    }

    test('kill -9 while models and a site are asked', async () => {
      world.holds = true;
      const { post, draft, image } = await asked();
      const run = await discovery();
      const first = await start(5);
      await until('all three to be asked', () => world.held.length === 3);
      await first.kill();
      release();
      await start();
      const written = await ended('blog_drafts', draft);
      assert.deepEqual([written.status, written.applied_revision, written.call_ids.length], ['succeeded', 2, 2], written.error);
      const made = await checkImage(image);
      assert.deepEqual([made.status, made.call_ids.length], ['succeeded', 2], made.error);
      const found = await ended('discovery_runs', run);
      assert.deepEqual([found.status, found.added_topics], ['succeeded', 3], found.error);
      await checkTopics();
      assert.equal((await rowOf('blog_posts', post)).revision, 2);
      const open = `select c.id from public.llm_calls as c where c.org_id = $1 and c.id = any ($2) and c.finished_at is null`;
      assert.equal(
        (await sql(open, [person.orgId, [...written.call_ids, ...made.call_ids]])).length,
        2,
        'the lost calls are settled later',
      );
    });

    test('kill -9 at random times', async () => {
      const cases = [];
      for (let n = 0; n < 4; n += 1) cases.push(await asked());
      const run = await discovery();
      for (let kills = 0; kills < 2; kills += 1) {
        const worker = await start(2);
        await sleep(Math.random() * 300);
        await worker.kill();
      }
      await start();
      for (const { post, draft, image } of cases) {
        const written = await ended('blog_drafts', draft);
        assert.equal(written.status, 'succeeded', written.error);
        assert.equal((await rowOf('blog_posts', post)).revision, 2);
        assert.equal((await checkImage(image)).status, 'succeeded');
      }
      assert.equal((await ended('discovery_runs', run)).status, 'succeeded');
      await checkTopics();
    });
  });
}
