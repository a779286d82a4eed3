// The demo's step about content: a topic with a source becomes a post, which a colleague approves and everyone reads.
import assert from 'node:assert/strict';
import { politeClient } from './client.mjs';
import { env, ok, refused } from './setup.mjs';
import { until } from './story.mjs';

export async function postIsPublished(say, { ada, cleo }) {
  const rpc = (person, name, body) => ok(person.client.rpc(name, body));
  const topic = await ok(ada.client.from('topics').insert({ title: 'Labels that move by approval' }).select().single());
  const source = { url: 'https://example.com/labels?utm_source=demo', title: 'Labels', excerpt: 'Labels move by approval.' };
  await rpc(ada, 'add_research_source', { topic_id: topic.id, ...source });
  const scored = await rpc(ada, 'score_topic', { topic_id: topic.id });
  say(`the topic "${scored.title}" is ${scored.status} with a score of ${scored.score}`);

  await rpc(ada, 'set_blog_settings', { site_url: 'https://blog.example.com', require_approval: true });
  const fields = { content_markdown: 'Labels move **by approval**.\n\n<script>alert(1)</script>', summary: 'How labels move' };
  const post = await rpc(ada, 'create_post', { title: 'How labels move', topic_id: topic.id, fields });
  const submitted = await rpc(ada, 'submit_post', { post_id: post.id, revision: 1, reason: 'Ready' });
  const refusal = await refused(ada.client.rpc('publish_post', { post_id: post.id, revision: 1 }), 409, 'conflict');
  say(`the post is ${submitted.status} and waits for its approval: HTTP 409 ${refusal.code}`);

  const [role] = await ok(ada.client.from('custom_roles').select('id, permissions').eq('name', 'Operator'));
  const permissions = [...new Set([...role.permissions, 'content:read', 'content:approve', 'approvals:read'])];
  await ok(ada.client.from('custom_roles').update({ permissions }).eq('id', role.id));
  const [approval] = await ok(cleo.client.from('approvals').select('id').eq('subject_id', post.id).eq('status', 'pending'));
  await rpc(cleo, 'approve_change', { approval_id: approval.id, reason: 'Read it' });
  await rpc(ada, 'publish_post', { post_id: post.id, revision: 1 });

  const stranger = politeClient(env.API_URL, env.ANON_KEY);
  const [{ slug: org_slug }] = await ok(ada.client.from('organizations').select('slug').eq('id', post.org_id));
  const page = await until(
    'the text to be rendered',
    async () => (await stranger.rpc('published_post', { org_slug, slug: post.slug })).data,
    { timeoutMs: 60_000 },
  );
  assert.equal(page.content_html.trim(), '<p>Labels move <strong>by approval</strong>.</p>');
  say(`Cleo approves, Ada publishes, and everyone reads ${page.seo.canonical}, without the script in its text`);
}
