// Blog posts as the people of a team meet them: written, approved, published, read by everyone; and what a browser makes of their HTML.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { inChromium } from '../chromium.mjs';
import { anonymous, assertAnonymousSeesNothing, newTeam, ok, refused, until } from './domain.mjs';
import { api, sql } from './support.mjs';

const rpc = (person, name, body) => person.client.rpc(name, body).setHeader('x-org-id', person.orgId);
const read = (person, id, columns = '*') =>
  ok(person.client.from('blog_posts').select(columns).eq('org_id', person.orgId).eq('id', id).single());
const rendered = (person, id) =>
  until('the text is rendered', async () => {
    const post = await read(person, id, 'content_html, content_html_hash, content_hash, status, published_revision');
    return post.content_html !== null && post;
  });

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
    await sql('select private.blog_maintain()');
    assert.equal((await read(team.viewer, post.id)).status, 'published');
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
