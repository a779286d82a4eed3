// Discoveries: from a feed or a search to topics and sources, through the running sidecar. Sites and vendors are on this machine.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { anonymous, assertAnonymousSeesNothing, newTeam, ok, refused, unaffected, until } from './domain.mjs';
import { bodyOf, json, newServer } from './functions_support.mjs';
import { newVendor } from './llm_support.mjs';
import { sql } from './support.mjs';

const STORY =
  'The council decided on Monday that the old bridge over the canal will be replaced, because the inspection found cracks in two of its pillars, and because lorries have to take a detour of eleven kilometres. ';

/** A site with a feed, pages and rules; what it was asked. */
async function newSite({ robots = '', pages = {} } = {}) {
  const asked = [];
  const site = { asked, feed: null, version: 1 };
  site.url = await newServer((request, response) => {
    asked.push({ path: request.url, etag: request.headers['if-none-match'] });
    const { pathname } = new URL(request.url, 'http://site');
    if (pathname === '/robots.txt') return robots ? response.end(robots) : response.writeHead(404).end();
    if (pathname === '/old.xml') return response.writeHead(301, { Location: '/feed.xml' }).end();
    if (pathname === '/feed.xml') {
      const etag = `"v${site.version}"`;
      if (request.headers['if-none-match'] === etag) return response.writeHead(304, { ETag: etag }).end();
      return response.writeHead(200, { 'Content-Type': 'application/rss+xml', ETag: etag }).end(site.feed);
    }
    if (pages[pathname]) return response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(pages[pathname]);
    return response.writeHead(404).end();
  });
  return site;
}

const page = (title, text) =>
  `<!doctype html><html lang="en"><head><title>${title}</title><meta property="article:published_time" content="2026-03-04T09:30:00Z"></head><body><nav><a href="/">Home</a></nav><article><h1>${title}</h1>${`<p>${text}</p>`.repeat(4)}</article></body></html>`;
const rss = (...items) =>
  `<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>${items.map(({ title, link, text }) => `<item><title>${title}</title><link>${link}</link><description>${text}</description></item>`).join('')}</channel></rss>`;

async function discover(person, fields) {
  const made = await ok(
    person.client
      .from('discoveries')
      .insert({ org_id: person.orgId, name: 'Watch', ...fields })
      .select()
      .single(),
  );
  return { ...made, run: () => runOf(person, made.id) };
}

/** Runs it, and waits for the end. */
async function runOf(person, id) {
  const { id: run } = await ok(person.client.rpc('run_discovery', { discovery_id: id }));
  return until('the end of a discovery', async () => {
    const row = await ok(person.client.from('discovery_runs').select().eq('org_id', person.orgId).eq('id', run).single());
    return ['succeeded', 'failed'].includes(row.status) && row;
  });
}

const topicsOf = async ({ client, orgId }) =>
  ok(
    client
      .from('topics')
      .select('title, status, origin, source_count, research_sources(id, url, title, excerpt, language, collector)')
      .eq('org_id', orgId)
      .order('title'),
  );

describe('discoveries', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('an unauthenticated caller sees none and runs none', async () => {
    await assertAnonymousSeesNothing(['discoveries', 'discovery_runs']);
    const headers = { 'Content-Type': 'application/json' };
    const answer = await anonymous('POST', '/rest/v1/rpc/run_discovery', { headers, body: { discovery_id: team.orgId } });
    assert.deepEqual([answer.status, answer.body.code], [401, '42501']);
  });

  test('a feed becomes topics, each story once, and is fetched as its site wishes', async () => {
    const site = await newSite({
      robots: 'User-agent: *\nDisallow: /private\n',
      pages: { '/bridge': page('Bridge', STORY), '/private': page('Private', STORY) },
    });
    site.feed = rss(
      { title: 'Bridge to be &lt;b&gt;replaced&lt;/b&gt;', link: `${site.url}/bridge?utm_source=rss`, text: 'Short.' },
      { title: 'Members only', link: `${site.url}/private`, text: 'Only a teaser.' },
      { title: 'Script', link: 'javascript:alert(1)', text: 'x' },
    );
    const feed = await discover(team.member, { collector: 'feed', url: `${site.url}/old.xml` });
    const first = await feed.run();
    assert.deepEqual([first.status, first.found, first.added_topics, first.cost_microusd], ['succeeded', 2, 2, 0], first.error);
    const topics = await topicsOf(team.member);
    assert.deepEqual(
      topics.map(({ title, status, origin, source_count }) => [title, status, origin, source_count]),
      [
        ['Bridge to be replaced', 'researched', 'feed', 1],
        ['Members only', 'researched', 'feed', 1],
      ],
    );
    const [source] = topics[0].research_sources;
    assert.match(source.excerpt, /cracks in two of its pillars/);
    assert.equal(source.language, 'en');
    assert.equal(topics[1].research_sources[0].excerpt, 'Only a teaser.');
    assert.ok(!site.asked.some(({ path }) => path === '/private'), 'robots.txt is obeyed');
    const [moved] = await sql('select url, etag from public.discoveries where id = $1', [feed.id]);
    assert.deepEqual(moved, { url: `${site.url}/feed.xml`, etag: '"v1"' });

    // Unchanged: nothing is sent, and nothing is lost.
    const second = await feed.run();
    assert.deepEqual([second.status, second.found], ['succeeded', 0]);
    assert.deepEqual(site.asked.at(-1), { path: '/feed.xml', etag: '"v1"' });

    // The same page again, and a copy of its text at another address.
    site.version = 2;
    site.feed = rss(
      { title: 'Bridge to be replaced', link: `${site.url}/bridge`, text: 'Short.' },
      { title: 'A copy', link: `${site.url}/copy`, text: `${STORY.repeat(4)} (agencies)` },
      { title: 'Something else', link: `${site.url}/else`, text: 'The library opens on Sundays.' },
    );
    const third = await feed.run();
    assert.deepEqual([third.found, third.added_topics, third.duplicates], [3, 1, 1], JSON.stringify(third));
    const [kept] = await sql('select excerpt from public.research_sources where id = $1', [source.id]);
    assert.match(kept.excerpt, /cracks in two of its pillars/, 'the text of the page is kept, although the feed says less');
  });

  test('a hostile feed fails alone', async () => {
    const deep = `<rss version="2.0"><channel>${'<item>'.repeat(200_000)}`;
    const bomb = await newServer((request, response) =>
      request.url === '/robots.txt' ? response.writeHead(404).end() : response.end(deep),
    );
    const gone = await newServer((request, response) => response.writeHead(request.url === '/robots.txt' ? 404 : 410).end());
    const shut = await newServer((request, response) =>
      request.url === '/robots.txt' ? response.end('User-agent: *\nDisallow: /') : response.end('x'),
    );
    const endless = await newServer((request, response) => {
      if (request.url === '/robots.txt') return response.writeHead(404).end();
      response.writeHead(200);
      const more = () => response.write('x'.repeat(65_536), (error) => error || setImmediate(more));
      more();
    });
    const private_ = 'http://169.254.169.254/latest/meta-data';
    const cases = [
      [bomb, 'document_invalid'],
      [gone, 'feed_gone'],
      [shut, 'robots_disallowed'],
      [endless, 'too_large'],
      [private_, 'url_refused'],
    ];
    const runs = await Promise.all(
      cases.map(async ([url]) => {
        const made = await discover(team.owner, { collector: 'feed', url: url === private_ ? url : `${url}/feed` });
        return { id: made.id, ...(await made.run()) };
      }),
    );
    for (const [at, [url, code]] of cases.entries()) {
      assert.equal(runs[at].error_code, code, `${url}: ${runs[at].error}`);
      assert.equal(runs[at].added_topics, 0);
    }
    assert.equal(
      (await ok(team.owner.client.from('discoveries').select('enabled').eq('id', runs[1].discovery_id).single())).enabled,
      false,
    );
  });

  test('a non-member sees nothing of it, and a viewer runs nothing', async () => {
    const made = await discover(team.admin, { collector: 'searxng', query: 'x', enabled: false });
    const stranger = team.nonMember.client;
    assert.deepEqual(await ok(stranger.from('discoveries').select().eq('org_id', team.orgId)), []);
    assert.deepEqual(await ok(stranger.from('discovery_runs').select().eq('org_id', team.orgId)), []);
    await refused(stranger.rpc('run_discovery', { discovery_id: made.id }), 404, 'not_found');
    await unaffected(stranger.from('discoveries').update({ enabled: true }).eq('id', made.id).select());
    await refused(team.viewer.client.rpc('run_discovery', { discovery_id: made.id }), 403, 'permission_denied');
    await unaffected(team.viewer.client.from('discoveries').delete().eq('id', made.id).select());
    await ok(team.admin.client.from('discoveries').delete().eq('id', made.id));
  });
});

describe('searches', () => {
  let team;
  const asked = [];
  let tavily = () => ({});
  // As Gemini answers: offsets are bytes of UTF-8, the titles of pages are hosts, and their addresses lead on.
  const said = 'Zürich eröffnet eine Brücke. Bern plant noch eine.';
  const bytes = (text) => Buffer.byteLength(text);
  const redirector = (name) => `http://localhost:${process.env.KIJKO_TEST_SEARCH_PORT}/grounding-api-redirect/${name}`;
  const grounded = () => ({
    candidates: [
      {
        content: { role: 'model', parts: [{ text: said }] },
        finishReason: 'STOP',
        index: 0,
        groundingMetadata: {
          webSearchQueries: ['brücke zürich'],
          searchEntryPoint: { renderedContent: '<div></div>' },
          groundingChunks: [
            { web: { uri: redirector('first'), title: 'nzz.ch' } },
            { web: { uri: redirector('second'), title: 'bund.ch' } },
          ],
          groundingSupports: [
            { segment: { endIndex: bytes('Zürich eröffnet eine Brücke.'), text: 'x' }, groundingChunkIndices: [0] },
            {
              segment: { startIndex: bytes('Zürich eröffnet eine Brücke. '), endIndex: bytes(said), text: 'x' },
              groundingChunkIndices: [1],
            },
          ],
        },
      },
    ],
    usageMetadata: { promptTokenCount: 40, candidatesTokenCount: 20, totalTokenCount: 60 },
    modelVersion: 'gemini-2.5-flash',
  });
  // Where the test's sidecar looks for SearXNG and Tavily.
  const vendors = createServer(async (request, response) => {
    const body = request.method === 'POST' ? JSON.parse((await bodyOf(request)).toString()) : null;
    const url = new URL(request.url, 'http://vendors');
    asked.push({ path: url.pathname, query: Object.fromEntries(url.searchParams), body, authorization: request.headers.authorization });
    if (url.pathname === '/searxng/search') {
      return json(response, {
        query: url.searchParams.get('q'),
        number_of_results: 0,
        results: [
          {
            url: 'https://a.example/searx',
            title: 'From SearXNG',
            content: 'A result.',
            engine: 'bing news',
            publishedDate: '2026-03-04T09:30:00',
          },
        ],
        answers: [],
        unresponsive_engines: [],
      });
    }
    if (url.pathname.startsWith('/grounding-api-redirect/')) {
      return response.writeHead(302, { Location: `https://a.example/${url.pathname.split('/').at(-1)}` }).end();
    }
    const { status = 200, ...answer } = tavily();
    json(response, answer, status);
  });
  before(async () => {
    team = await newTeam();
    await new Promise((resolve) => vendors.listen(Number(process.env.KIJKO_TEST_SEARCH_PORT), 'localhost', resolve));
  });
  after(() => {
    vendors.closeAllConnections();
    vendors.close();
  });

  test('SearXNG costs nothing', async () => {
    const made = await discover(team.member, { collector: 'searxng', query: 'bridges & "canals"', category: 'news', read_pages: false });
    const run = await made.run();
    assert.deepEqual([run.status, run.added_topics, run.cost_microusd], ['succeeded', 1, 0], run.error);
    assert.deepEqual(asked.at(-1).query, { q: 'bridges & "canals"', format: 'json', categories: 'news', language: 'en', safesearch: '0' });
  });

  test('Tavily is paid by its credits, and a refusal costs nothing', async () => {
    const topic = await ok(team.member.client.from('topics').insert({ org_id: team.orgId, title: 'Bridges' }).select().single());
    const made = await discover(team.member, { collector: 'tavily', query: 'bridges', topic_id: topic.id, read_pages: false });
    tavily = () => ({
      query: 'bridges',
      answer: null,
      images: [],
      results: [
        {
          url: 'https://a.example/t',
          title: 'From Tavily',
          content: 'A result.',
          score: 0.9,
          raw_content: null,
          published_date: 'Wed, 04 Mar 2026 09:30:00 GMT',
        },
      ],
      response_time: 1.2,
      usage: { credits: 1 },
      request_id: 'r',
    });
    const run = await made.run();
    assert.deepEqual([run.status, run.added_sources, run.cost_microusd], ['succeeded', 1, 8000], run.error);
    assert.equal(asked.at(-1).authorization, 'Bearer tvly-test');
    assert.deepEqual([asked.at(-1).body.query, asked.at(-1).body.topic], ['bridges', 'general']);
    const costs = await ok(team.member.client.from('content_costs').select('cost_usd, topic_id, detail').eq('org_id', team.orgId));
    assert.deepEqual(costs, [{ cost_usd: 0.008, topic_id: topic.id, detail: 'tavily' }]);

    tavily = () => ({ status: 401, detail: { error: 'Unauthorized: missing or invalid API key.' } });
    const refusal = await made.run();
    assert.deepEqual([refusal.error_code, refusal.cost_microusd], ['vendor_not_allowed', 0]);
    // Nobody knows whether a search that broke was charged: it counts.
    tavily = () => ({ status: 500, detail: { error: 'Internal server error' } });
    const before = asked.length;
    const broken = await made.run();
    assert.deepEqual([broken.error_code, broken.cost_microusd, asked.length - before], ['vendor_failed', 8000, 1]);
  });

  test('Gemini costs its search and its tokens, and its redirectors are resolved', async () => {
    const vendor = await newVendor('gemini', (_, response) => json(response, grounded()), {
      input_microusd_per_mtok: 300_000,
      output_microusd_per_mtok: 2_500_000,
    });
    const [{ model }] = await sql(`select model from private.collector_prices where collector = 'gemini'`);
    const answeredBy = (name) => sql(`update private.collector_prices set model = $1 where collector = 'gemini'`, [name]);
    let run;
    try {
      await answeredBy(vendor.model);
      const made = await discover(team.admin, { collector: 'gemini', query: 'Brücken', language: 'de', read_pages: false });
      run = await made.run();
      // A route of the organization decides about this model, too.
      await ok(team.owner.client.from('llm_routes').insert({ org_id: team.orgId, name: vendor.model, targets: ['echo/echo'] }));
      const elsewhere = await made.run();
      assert.deepEqual([elsewhere.error_code, elsewhere.cost_microusd, vendor.requests.length], ['model_not_allowed', 0, 1]);
    } finally {
      await answeredBy(model);
    }
    assert.deepEqual([run.status, run.added_topics], ['succeeded', 2], run.error);
    // 0.035 dollars for the search; 40 tokens in, 20 out.
    assert.equal(run.cost_microusd, 35_000 + 12 + 50);
    const [request] = vendor.requests;
    assert.deepEqual([request.url, request.headers['x-goog-api-key']], ['/v1/models/some-model:generateContent', 'sk-vendors-own-key']);
    assert.deepEqual(request.body.tools, [{ google_search: {} }]);
    const calls = await ok(
      team.owner.client
        .from('llm_calls')
        .select('model, status, member_id, input_tokens, output_tokens, cost_microusd, estimated')
        .eq('org_id', team.orgId)
        .eq('trace_id', run.id.replaceAll('-', '')),
    );
    assert.deepEqual(calls, [
      {
        model: vendor.model,
        status: 'succeeded',
        member_id: team.admin.user.id,
        input_tokens: 40,
        output_tokens: 20,
        cost_microusd: 62,
        estimated: false,
      },
    ]);
    const topics = (await topicsOf(team.admin)).filter(({ origin }) => origin === 'gemini');
    assert.deepEqual(
      topics.map(({ title, research_sources: [source] }) => [title, source.url, source.excerpt]),
      [
        ['Bern plant noch eine', 'https://a.example/second', 'Bern plant noch eine.'],
        ['Zürich eröffnet eine Brücke', 'https://a.example/first', 'Zürich eröffnet eine Brücke.'],
      ],
    );
  });
});
