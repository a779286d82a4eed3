// Blog posts as the people of a team meet them: written, approved, published, read by everyone; and what a browser makes of their HTML.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { inChromium } from '../chromium.mjs';
import { anonymous, assertAnonymousSeesNothing, newTeam, ok, refused, until } from './domain.mjs';
import { json } from './functions_support.mjs';
import { newVendor } from './llm_support.mjs';
import { admin, api, sql } from './support.mjs';

const rpc = (person, name, body) => person.client.rpc(name, body).setHeader('x-org-id', person.orgId);
const read = (person, id, columns = '*') =>
  ok(person.client.from('blog_posts').select(columns).eq('org_id', person.orgId).eq('id', id).single());
const rendered = (person, id) =>
  until('the text is rendered', async () => {
    const post = await read(person, id, 'content_html, content_html_hash, content_hash, status, published_revision');
    return post.content_html !== null && post;
  });

const chunk = (kind, content) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  return Buffer.concat([length, Buffer.from(kind), content, Buffer.alloc(4)]);
};
/** A PNG of 64 x 64, as far as anybody looks, with more between its header and its pixels. */
const png = (...more) =>
  Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    chunk('IHDR', Buffer.from('00000040000000400802000000', 'hex')),
    ...more,
    chunk('IDAT', Buffer.from('pixels')),
    chunk('IEND', Buffer.alloc(0)),
  ]);

// Each calls alert() if a browser runs it: by itself, or when something is clicked, focused or pointed at.
const ATTEMPTS = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(2)>',
  '<svg onload=alert(3)></svg>',
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(4)&gt;">',
  '<noscript><p title="</noscript><img src=x onerror=alert(5)>">',
  '<iframe srcdoc="<script>parent.alert(6)</script>"></iframe>',
  '<details open ontoggle=alert(7)>x</details>',
  '[click](javascript:alert(8))',
  '[click](JaVaScRiPt&colon;alert(9))',
  '[click](java&#10;script:alert(10))',
  '[click](data:text/html,<script>opener.alert(11)</script>)',
  '![x](https://e.invalid/"onerror="alert(12))',
  '[x](https://e.invalid/ "a\\" onmouseover=alert(13) \\"")',
  '```"><img src=x onerror=alert(14)>\ncode\n```',
  '# <img src=x onerror=alert(15)>',
  '|<img src=x onerror=alert(16)>|\n|-|\n|<a href="javascript:alert(17)">x</a>|',
  'x[^<img src=x onerror=alert(18)>]\n\n[^<img src=x onerror=alert(18)>]: note',
  '- [x] <input autofocus onfocus=alert(19)>',
  '<template><img src=x onerror=alert(20)></template>',
  '<!--><img src=x onerror=alert(21)>-->',
];
const page = (html) => `<!doctype html><meta charset="utf-8"><title>Post</title>
<script>globalThis.ran = []; globalThis.alert = (what) => ran.push(what);</script>
<article>${html}</article>
<script type="module">
  const elements = [...document.querySelectorAll('article *')];
  addEventListener('click', (event) => { if (event.target.closest('a')?.protocol !== 'javascript:') event.preventDefault(); }, true);
  for (const element of elements) {
    for (const type of ['mouseover', 'click', 'focus', 'error', 'load', 'toggle']) element.dispatchEvent(new Event(type, { bubbles: true, cancelable: true }));
    element.focus?.();
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  const names = [...new Set(elements.map((element) => element.localName))].sort();
  await fetch('/result', { method: 'POST', body: JSON.stringify({ ran, names, elements: elements.length }) });
</script>`;

describe('blog', () => {
  let team;
  let slug;
  before(async () => {
    team = await newTeam();
    [{ slug }] = await ok(team.owner.client.from('organizations').select('slug').eq('id', team.orgId));
  });

  test('unauthenticated callers and non-members see and change nothing', async () => {
    const post = await ok(rpc(team.member, 'create_post', { title: 'Ours', fields: { content_markdown: 'secret' } }));
    await assertAnonymousSeesNothing([
      'topics',
      'research_sources',
      'content_costs',
      'blog_posts',
      'blog_post_revisions',
      'blog_post_slugs',
      'blog_settings',
      'blog_comments',
      'images',
    ]);
    const answer = await anonymous('POST', '/rest/v1/rpc/publish_post', {
      body: { post_id: post.id, revision: 1 },
      headers: { 'Content-Type': 'application/json' },
    });
    assert.deepEqual([answer.status, answer.body.code], [401, '42501']);
    assert.deepEqual(await ok(team.nonMember.client.from('blog_posts').select().eq('id', post.id)), []);
    await refused(team.nonMember.client.rpc('save_post', { post_id: post.id, revision: 1, changes: { title: 'x' } }), 404, 'not_found');
    for (const person of [api(), team.nonMember.client]) {
      assert.deepEqual(await ok(person.rpc('published_posts', { org_slug: slug })), []);
      await refused(person.rpc('published_post', { org_slug: slug, slug: post.slug }), 404, 'not_found');
    }
    await refused(rpc(team.viewer, 'save_post', { post_id: post.id, revision: 1, changes: { title: 'x' } }), 403, 'permission_denied');
    await refused(rpc(team.member, 'publish_post', { post_id: post.id, revision: 1 }), 403, 'permission_denied');
  });

  test('two edits of one revision: one is written, the other is a conflict', async () => {
    const post = await ok(rpc(team.member, 'create_post', { title: 'Twice' }));
    const edits = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        rpc(team.member, 'save_post', { post_id: post.id, revision: 1, changes: { title: `Edit ${n}` } }),
      ),
    );
    assert.deepEqual(edits.map(({ error }) => error?.code ?? 'ok').sort(), [...Array(7).fill('conflict'), 'ok']);
    assert.equal((await read(team.viewer, post.id)).revision, 2);
  });

  test('a post is written, rendered, approved, published and read; an edit needs it all again', async () => {
    await ok(rpc(team.admin, 'set_blog_settings', { site_url: 'https://blog.example.com', require_approval: true }));
    const post = await ok(rpc(team.member, 'create_post', { title: 'A & B', fields: { content_markdown: 'One **two**.', summary: 'S' } }));
    assert.equal((await rendered(team.member, post.id)).content_html, '<p>One <strong>two</strong>.</p>\n');
    const submitted = await ok(rpc(team.member, 'submit_post', { post_id: post.id, revision: 1 }));
    assert.deepEqual([submitted.status, submitted.approval_status], ['ready', 'submitted']);
    await refused(rpc(team.admin, 'publish_post', { post_id: post.id, revision: 1 }), 409, 'conflict');
    const [request] = await ok(team.admin.client.from('approvals').select('id').eq('subject_id', post.id).eq('status', 'pending'));
    await ok(rpc(team.admin, 'approve_change', { approval_id: request.id }));
    assert.equal((await ok(rpc(team.admin, 'publish_post', { post_id: post.id, revision: 1 }))).status, 'published');
    const page = await ok(api().rpc('published_post', { org_slug: slug, slug: post.slug }));
    assert.deepEqual([page.title, page.seo.canonical], ['A & B', `https://blog.example.com/${post.slug}`]);
    await ok(rpc(team.member, 'save_post', { post_id: post.id, revision: 1, changes: { content_markdown: 'Unseen' } }));
    await refused(rpc(team.admin, 'publish_post', { post_id: post.id, revision: 2 }), 409, 'conflict');
    assert.match((await ok(api().rpc('published_post', { org_slug: slug, slug: post.slug }))).content_html, /two/);
    await ok(rpc(team.admin, 'set_blog_settings', { require_approval: false }));
  });

  test('the clock publishes what is due, once it is rendered', async () => {
    const post = await ok(rpc(team.member, 'create_post', { title: 'Later', fields: { content_markdown: 'text' } }));
    await ok(rpc(team.member, 'submit_post', { post_id: post.id, revision: 1 }));
    const at = new Date(Date.now() + 3_600_000).toISOString();
    assert.equal((await ok(rpc(team.admin, 'schedule_post', { post_id: post.id, revision: 1, publish_at: at }))).status, 'scheduled');
    await refused(rpc(team.member, 'save_post', { post_id: post.id, revision: 1, changes: { title: 'x' } }), 409, 'conflict');
    await rendered(team.member, post.id);
    await sql(`update public.blog_posts set scheduled_at = now() - interval '1 second' where id = $1`, [post.id]);
    // The schedule does so as well, and one of both leaves the post to the other.
    await until('the post to be published', async () => {
      await sql('select private.blog_maintain()');
      return (await read(team.viewer, post.id)).status === 'published';
    });
  });

  test('a colleague who is mentioned is told, a non-member is not', async () => {
    const post = await ok(rpc(team.member, 'create_post', { title: 'Talk' }));
    const body = { org_id: team.orgId, post_id: post.id, body: 'See this', mentions: [team.viewer.user.id, team.nonMember.user.id] };
    await ok(team.member.client.from('blog_comments').insert(body));
    const told = async (person) =>
      (await ok(person.client.rpc('list_notifications', {}))).filter(({ type }) => type === 'comment.mention').length;
    assert.deepEqual([await told(team.viewer), await told(team.nonMember), await told(team.member)], [1, 0, 0]);
  });

  test('a model writes a draft within the budgets of the member, and cites what it was given', async () => {
    const topic = await ok(team.member.client.from('topics').insert({ org_id: team.orgId, title: 'Safety' }).select().single());
    await ok(
      rpc(team.member, 'add_research_source', {
        topic_id: topic.id,
        url: 'https://example.com/safe',
        title: 'Safe',
        excerpt: 'Rust is safe.',
      }),
    );
    const post = await ok(rpc(team.member, 'create_post', { title: 'Safety', topic_id: topic.id }));
    const ended = async (revision) => {
      const { id } = await ok(rpc(team.member, 'draft_post', { post_id: post.id, revision, model: 'echo/echo' }));
      return until('the draft has ended', async () => {
        const draft = await ok(team.viewer.client.from('blog_drafts').select().eq('org_id', team.orgId).eq('id', id).single());
        return ['succeeded', 'failed'].includes(draft.status) && !draft.costs_pending && draft;
      });
    };
    const draft = await ended(1);
    assert.deepEqual(
      [draft.status, draft.applied_revision, draft.citations.map(({ url }) => url)],
      ['succeeded', 2, ['https://example.com/safe']],
      JSON.stringify(draft),
    );
    const [call] = await ok(
      team.owner.client.from('llm_calls').select('status, member_id, kind').eq('org_id', team.orgId).eq('id', draft.call_ids[0]),
    );
    assert.deepEqual(call, { status: 'succeeded', member_id: team.member.user.id, kind: 'chat' });
    // The echo of the question has a footnote for its one source.
    assert.match((await rendered(team.member, post.id)).content_html, /<a href="https:\/\/example.com\/safe"/);
    const [cost] = await ok(rpc(team.viewer, 'content_cost_report', { group_by: 'post' }));
    assert.deepEqual([cost.id, cost.entries], [post.id, 1]);
    await ok(
      team.owner.client
        .from('llm_budgets')
        .insert({ org_id: team.orgId, name: 'None', scope: 'organization', period: 'day', unit: 'tokens', amount: 1 }),
    );
    const refusedDraft = await ended(2);
    assert.deepEqual([refusedDraft.status, refusedDraft.error_code, refusedDraft.call_ids], ['failed', 'budget_exceeded', []]);
    await ok(team.owner.client.from('llm_budgets').delete().eq('org_id', team.orgId).eq('name', 'None'));
  });

  test('models of two kinds make images, without metadata, and with a text before everyone sees them', async () => {
    const file = png(chunk('tEXt', Buffer.from('prompt\0a secret cat')), chunk('eXIf', Buffer.from('GPS'))).toString('base64');
    const price = { image_microusd: 40_000 };
    const answers = {
      openai: (_, response) => json(response, { created: 1, data: [{ b64_json: file }] }),
      gemini: (_, response) =>
        json(response, {
          candidates: [{ content: { role: 'model', parts: [{ text: 'Here:' }, { inlineData: { mimeType: 'image/png', data: file } }] } }],
          usageMetadata: { promptTokenCount: 3, candidatesTokenCount: 1_290, totalTokenCount: 1_293 },
        }),
    };
    for (const [kind, answer] of Object.entries(answers)) {
      const vendor = await newVendor(kind, answer, price);
      const title = `Cats by ${kind}`;
      const post = await ok(rpc(team.member, 'create_post', { title, fields: { content_markdown: 'text' } }));
      const asked = { post_id: post.id, revision: 1, prompt: 'a cat', model: vendor.model, size: '1536x1024' };
      const { id } = await ok(rpc(team.member, 'generate_image', asked));
      const image = await until('the image', async () => {
        const columns = '*,image_url';
        const row = await ok(team.viewer.client.from('images').select(columns).eq('org_id', team.orgId).eq('id', id).single());
        return ['succeeded', 'failed'].includes(row.status) && !row.costs_pending && row;
      });
      assert.deepEqual(
        [image.status, image.provider, image.applied_revision, image.content_type, image.width],
        ['succeeded', vendor.name, 2, 'image/png', 64],
        JSON.stringify(image),
      );
      assert.ok(image.cost_microusd >= 40_000, `${image.cost_microusd}`);
      const { body } = vendor.requests[0];
      if (kind === 'openai') assert.deepEqual([body.prompt, body.size, body.n], ['a cat', '1536x1024', 1]);
      else assert.deepEqual(body.generationConfig, { responseModalities: ['IMAGE'], imageConfig: { aspectRatio: '3:2' } });
      const shown = await fetch(image.image_url);
      assert.deepEqual([shown.status, shown.headers.get('content-type')], [200, 'image/png']);
      assert.deepEqual(Buffer.from(await shown.arrayBuffer()), png(), 'nothing but the picture');

      await ok(rpc(team.member, 'submit_post', { post_id: post.id, revision: 2 }));
      await refused(rpc(team.admin, 'publish_post', { post_id: post.id, revision: 2 }), 409, 'conflict');
      await ok(rpc(team.member, 'set_image_alt_text', { image_id: id, alt_text: 'A cat' }));
      await ok(rpc(team.admin, 'publish_post', { post_id: post.id, revision: 2 }));
      const page = await until('the page', async () => (await api().rpc('published_post', { org_slug: slug, slug: post.slug })).data);
      assert.deepEqual([page.image_url, page.seo.open_graph['og:image:alt']], [image.image_url, 'A cat']);
      await refused(rpc(team.admin, 'delete_image', { image_id: id }), 409, 'conflict');
      await ok(rpc(team.admin, 'unpublish_post', { post_id: post.id }));
      await ok(rpc(team.admin, 'delete_post', { post_id: post.id }));
      const { data } = await admin().storage.from('blog-images').download(`${team.orgId}/${id}`);
      assert.equal(data, null, 'its bytes go with the post');
    }
    const none = await newVendor(
      'openai',
      (_, response) => json(response, { created: 1, data: [{ url: 'https://example.com/x' }] }),
      price,
    );
    const post = await ok(rpc(team.member, 'create_post', { title: 'None' }));
    const { id } = await ok(rpc(team.member, 'generate_image', { post_id: post.id, revision: 1, prompt: 'x', model: none.model }));
    const failed = await until('the refusal', async () => {
      const row = await ok(team.viewer.client.from('images').select().eq('org_id', team.orgId).eq('id', id).single());
      return row.status === 'failed' && row;
    });
    assert.equal(failed.error_code, 'vendor_malformed');
  });

  test('nothing in a text runs in a browser', async () => {
    const post = await ok(rpc(team.member, 'create_post', { title: 'Hostile', fields: { content_markdown: ATTEMPTS.join('\n\n') } }));
    const { content_html: html } = await rendered(team.member, post.id);
    // The page reports what runs: without the renderer everything would.
    const bare = await inChromium({ '/': ['text/html', page('<p><img src="/x" onerror="alert(2)"></p>')] });
    assert.deepEqual(bare.ran.slice(0, 1), [2]);
    const shown = await inChromium({ '/': ['text/html', page(html)] });
    assert.deepEqual(shown.ran, []);
    assert.ok(shown.elements > 10, html);
    const known = [
      'a',
      'blockquote',
      'br',
      'code',
      'del',
      'em',
      'h1',
      'hr',
      'img',
      'input',
      'li',
      'ol',
      'p',
      'pre',
      'section',
      'strong',
      'sup',
      'table',
      'tbody',
      'td',
      'th',
      'thead',
      'tr',
      'ul',
    ];
    assert.deepEqual(
      shown.names.filter((name) => !known.includes(name)),
      [],
    );
  });
});
