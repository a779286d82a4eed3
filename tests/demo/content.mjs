// The demo's step about content, from a feed to four platforms: a topic is discovered, written about, approved, scheduled and published.
// Feed and platforms are fakes on this machine that answer as the real ones do; a sidecar beside the stack's own works for them.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import pg from 'pg';
import { SocialPlatforms } from '../fake_social/server.mjs';
import { jpeg } from '../images.mjs';
import { HOME, Service } from '../service.mjs';
import { until } from '../until.mjs';
import { env, ok } from './setup.mjs';

const PLATFORMS = ['linkedin', 'facebook', 'instagram', 'twitter'];
const PID_FILE = join(HOME, 'run/sidecar.pid');

/** False if the stack's sidecar is none of ./kijko's: it would publish at the real platforms meanwhile. */
export async function contentGoesOut(say, { ada, cleo }) {
  if (!existsSync(PID_FILE)) return false;
  const owner = new pg.Client({ connectionString: process.env.DB_URL });
  const admin = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await Promise.all([owner.connect(), admin.connect()]);
  const rows = async (text, values) => (await owner.query(text, values)).rows;
  const undo = [() => owner.end(), () => admin.end()];
  try {
    const [{ setting }] = (await admin.query(`select setting from pg_settings where name = 'kijko.http_allowed_hosts'`)).rows;
    await admin.query(`alter system set kijko.http_allowed_hosts = 'localhost'`);
    await admin.query('select pg_reload_conf()');
    undo.unshift(async () => {
      await admin.query(
        setting
          ? `alter system set kijko.http_allowed_hosts = ${pg.escapeLiteral(setting)}`
          : 'alter system reset kijko.http_allowed_hosts',
      );
      await admin.query('select pg_reload_conf()');
    });
    const fake = await SocialPlatforms.listen();
    undo.unshift(() => fake.close());
    const site = await newSite();
    undo.unshift(() => site.close());
    undo.unshift(kijkoUp);
    await stopStackSidecar();
    const variables = {
      ...fake.variables(),
      KIJKO_LLM_ECHO: '1',
      KIJKO_REST_URL: `${env.API_URL}/rest/v1`,
      KIJKO_STORAGE_URL: `${env.API_URL}/storage/v1`,
      KIJKO_DISCOVERY_HOST_PAUSE_MS: '50',
    };
    const sidecar = await Service.start('sidecar', { variables });
    undo.unshift(() => sidecar.terminate());
    await goOut(say, { ada, cleo, fake, feed: `${site.url}/feed.xml`, rows });
    return true;
  } finally {
    for (const step of undo) await step();
  }
}

async function goOut(say, { ada, cleo, fake, feed, rows }) {
  const org_id = ada.organization.id;
  const rpc = (person, name, body) => ok(person.client.rpc(name, body));
  const read = (person, table, id) => ok(person.client.from(table).select().eq('org_id', org_id).eq('id', id).single());
  const approve = async (subject) => {
    const [{ id }] = await ok(cleo.client.from('approvals').select('id').eq('subject_id', subject).eq('status', 'pending'));
    await rpc(cleo, 'approve_change', { approval_id: id, reason: 'Read it' });
  };

  const watch = { org_id, name: 'Local news', collector: 'feed', url: feed, language: 'en', read_pages: false, enabled: false };
  const discovery = await ok(ada.client.from('discoveries').insert(watch).select().single());
  const { id: runId } = await rpc(ada, 'run_discovery', { discovery_id: discovery.id });
  const run = await until('the feed to be read', async () => {
    const row = await read(ada, 'discovery_runs', runId);
    return ['succeeded', 'failed'].includes(row.status) && row;
  });
  assert.equal(run.status, 'succeeded', JSON.stringify(run));
  const [topic] = await ok(ada.client.from('topics').select().eq('org_id', org_id).eq('title', 'A bridge is replaced'));
  assert.equal(topic.status, 'researched');
  say(`the feed brings ${run.added_topics} topics; "${topic.title}" is ${topic.status} with a score of ${topic.score}`);

  const post = await rpc(ada, 'create_post', { title: topic.title, topic_id: topic.id, fields: { summary: 'Why, and when' } });
  const { id: draftId } = await rpc(ada, 'draft_post', { post_id: post.id, revision: 1, model: 'echo/echo' });
  const draft = await until('the draft', async () => {
    const row = await read(ada, 'blog_drafts', draftId);
    return ['succeeded', 'failed'].includes(row.status) && !row.costs_pending && row;
  });
  assert.deepEqual([draft.status, draft.applied_revision, draft.citations.length], ['succeeded', 2, 1], JSON.stringify(draft));
  say(`a model writes revision ${draft.applied_revision} and cites ${draft.citations[0].url}`);

  await rpc(ada, 'set_blog_settings', { site_url: 'https://blog.example.com', require_approval: true });
  await rpc(ada, 'submit_post', { post_id: post.id, revision: 2 });
  await approve(post.id);
  const publish_at = new Date(Date.now() + 2_000).toISOString();
  await rpc(ada, 'schedule_post', { post_id: post.id, revision: 2, publish_at });
  await until('the post to be published', async () => {
    await rows('select private.blog_maintain()');
    return (await read(ada, 'blog_posts', post.id)).status === 'published';
  });
  say('Cleo approves it, Ada schedules it, and the clock publishes it');

  const path = `${org_id}/${crypto.randomUUID()}.jpg`;
  await ok(ada.client.storage.from('social-media').upload(path, jpeg(1080, 1080), { contentType: 'image/jpeg' }));
  const picture = await until('the picture to be measured', async () => {
    const found = ada.client.from('social_media_files').select().eq('org_id', org_id).eq('path', path).eq('status', 'measured');
    return (await ok(found))[0];
  });
  say(`a picture of ${picture.width} x ${picture.height} pixels is measured: each platform takes it`);
  await rpc(ada, 'set_social_settings', { require_approval: true });
  const posts = [];
  for (const platform of PLATFORMS) {
    const account = fake.account(platform);
    const connection_id = await connection(rows, org_id, account);
    const media = platform === 'instagram' ? [{ path, alt_text: 'A bridge over a canal' }] : [];
    const fields = {
      org_id,
      platform,
      connection_id,
      blog_post_id: post.id,
      text: `${topic.title}, says ${platform}`,
      hashtags: ['bridges'],
      media,
    };
    const { id } = await ok(ada.client.from('social_posts').insert(fields).select('id').single());
    await rpc(ada, 'submit_social_post', { post_id: id });
    await approve(id);
    await rpc(ada, 'schedule_social_post', { post_id: id });
    posts.push({ id, platform, account });
  }
  for (const { id, platform, account } of posts) {
    const row = await until(`the post on ${platform}`, async () => {
      const now = await read(ada, 'social_posts', id);
      return !['scheduled', 'publishing'].includes(now.status) && now;
    });
    const there = fake.postsOf(account);
    assert.deepEqual([row.status, there.length], ['published', 1], `${platform}: ${row.error_code} ${row.error}`);
    const log = await ok(ada.client.from('publish_logs').select('event').eq('social_post_id', id).order('created_at'));
    say(`${platform.padEnd(9)} ${row.status}, ${row.cost_usd} USD: ${log.map(({ event }) => event).join(', ')}`);
  }
  const report = await rpc(ada, 'content_cost_report', { group_by: 'post' });
  const cost = report.find(({ id }) => id === post.id);
  say(`what the article and its posts have cost: ${cost.cost_usd} USD in ${cost.entries} entries`);
  await rpc(ada, 'set_blog_settings', { require_approval: false });
}

/** A connection with the token of an account, as complete_connection() leaves it after a consent in a browser. */
async function connection(rows, org, account) {
  const [{ id }] = await rows(
    `insert into public.connections (org_id, provider, account_id, account_name) values ($1, $2, $3, 'Demo') returning id`,
    [org, account.platform, account.id],
  );
  await rows(
    `insert into private.connection_tokens (id, organization, provider, account_id, connection_id, access_token, refresh_token)
     select (s.t).id, $1, $2, $3, $4, (s.t).access_token, (s.t).refresh_token
     from (
       select private.connections_seal(
         jsonb_populate_record(null::private.connection_tokens, jsonb_build_object('id', gen_random_uuid(), 'organization', $1::uuid)),
         jsonb_build_object('access_token', $5::text)
       ) as t
     ) as s`,
    [org, account.platform, account.id, id, account.token],
  );
  return id;
}

async function newSite() {
  const text = 'The council decided on Monday that the old bridge over the canal will be replaced, because two of its pillars have cracks.';
  const items = ['A bridge is replaced', 'A library opens'].map(
    (title, n) =>
      `<item><title>${title}</title><link>https://news.example.com/${n}</link><description>${title}: ${text}</description></item>`,
  );
  const feed = `<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>${items.join('')}</channel></rss>`;
  const server = createServer((request, response) => {
    if (request.url !== '/feed.xml') return response.writeHead(404).end();
    return response.writeHead(200, { 'Content-Type': 'application/rss+xml' }).end(feed);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://localhost:${server.address().port}`, close: () => server.close() };
}

async function stopStackSidecar() {
  const pid = Number(readFileSync(PID_FILE, 'utf8').split(' ')[0]);
  // It may be a child of this process, which waits for no child that the shell before it has started.
  const runs = () => existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!runs()) return;
  assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /kijko-sidecar/, 'the pid file names the sidecar');
  process.kill(pid, 'SIGTERM');
  await until("the stack's sidecar to end", () => !runs());
}

async function kijkoUp() {
  const script = spawn(join(import.meta.dirname, '../../kijko'), ['up'], { stdio: 'ignore' });
  const [code] = await once(script, 'exit');
  assert.equal(code, 0, './kijko up starts the sidecar of the stack again');
}
