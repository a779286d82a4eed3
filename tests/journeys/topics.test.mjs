// Topics and their sources as a team meets them, and the earlier system's cache taken over by ./kijko content.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { before, describe, test } from 'node:test';
import { createKey } from './api_keys_support.mjs';
import { newTeam, ok, refused, until } from './domain.mjs';
import { json } from './functions_support.mjs';
import { newVendor } from './llm_support.mjs';
import { env } from './support.mjs';

const PROGRAM = resolve(import.meta.dirname, '../../scripts/content.mjs');
const rpc = (person, name, body) => person.client.rpc(name, body).setHeader('x-org-id', person.orgId);
const run = (key, ...args) =>
  new Promise((done) => {
    const settings = { env: { ...process.env, KIJKO_URL: env.API_URL, KIJKO_API_KEY: key } };
    execFile(process.execPath, [PROGRAM, ...args], settings, (error, stdout, stderr) => done({ code: error?.code ?? 0, stdout, stderr }));
  });

describe('topics', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('sources are embedded through the gateway, and those that mean the same are found', async () => {
    // What it means: the first letter of the title.
    const meaning = (text) => [...'ABC'].map((letter) => (text.startsWith(letter) ? 2 : 0.1));
    const vendors = {
      openai: await newVendor('openai', ({ body }, response) =>
        json(response, {
          object: 'list',
          model: 'text-embedding-3-small',
          data: body.input.map((text, index) => ({ object: 'embedding', index, embedding: meaning(text) })),
          usage: { prompt_tokens: 12, total_tokens: 12 },
        }),
      ),
      gemini: await newVendor('gemini', ({ body }, response) =>
        json(response, { embeddings: body.requests.map(({ content }) => ({ values: meaning(content.parts[0].text) })) }),
      ),
    };
    for (const [kind, vendor] of Object.entries(vendors)) {
      const topic = await ok(
        team.member.client
          .from('topics')
          .insert({ org_id: team.orgId, title: `Meaning by ${kind}` })
          .select()
          .single(),
      );
      const add = (n, title) =>
        rpc(team.member, 'add_research_source', { topic_id: topic.id, url: `https://${kind}${n}.example/`, title, excerpt: `${n}` });
      const [first, second, other] = [await ok(await add(1, 'A bridge')), await ok(await add(2, 'A pont')), await ok(await add(3, 'Cats'))];
      assert.equal(await ok(rpc(team.member, 'embed_topic', { topic_id: topic.id, model: vendor.model })), 3);
      const similar = await until('the vectors', async () => {
        const found = await ok(rpc(team.viewer, 'similar_sources', { source_id: first.id }));
        return found.length > 0 && found;
      });
      assert.deepEqual(
        similar.map(({ id, similarity }) => [id, similarity > 0.99]),
        [
          [second.id, true],
          [other.id, false],
        ],
      );
      await until('the scores, in a transaction of their own', async () => {
        const scored = team.viewer.client.from('research_sources').select('score_parts').eq('id', first.id).single();
        return (await ok(scored)).score_parts?.agreement.detail.includes('mean the same');
      });
      assert.equal(await ok(rpc(team.member, 'embed_topic', { topic_id: topic.id, model: vendor.model })), 0);
      assert.deepEqual(await ok(team.nonMember.client.from('source_embeddings').select('id').eq('source_id', first.id)), []);
    }
  });

  test('a page is one source of a topic, also when many add it at once; a score is its parts', async () => {
    const topic = await ok(
      team.member.client
        .from('topics')
        .insert({ org_id: team.orgId, title: 'Rust', keywords: ['postgres'] })
        .select()
        .single(),
    );
    const urls = ['https://example.com/a?utm_source=x', 'http://www.example.com/a/', 'https://example.com/a#b', 'https://example.com/a'];
    const found = await Promise.all(
      urls.map((url) => ok(rpc(team.member, 'add_research_source', { topic_id: topic.id, url, excerpt: 'Rust in Postgres' }))),
    );
    assert.equal(new Set(found.map(({ id }) => id)).size, 1);
    await refused(team.nonMember.client.rpc('add_research_source', { topic_id: topic.id, url: urls[0] }), 404, 'not_found');
    await refused(rpc(team.viewer, 'add_research_source', { topic_id: topic.id, url: urls[0] }), 403, 'permission_denied');
    const scored = await ok(rpc(team.member, 'score_topic', { topic_id: topic.id }));
    assert.deepEqual([scored.status, scored.source_count], ['researched', 1]);
    const [source] = await ok(team.viewer.client.from('research_sources').select().eq('org_id', team.orgId).eq('topic_id', topic.id));
    const sum = Object.values(source.score_parts).reduce((total, { value, weight }) => total + value * weight, 0);
    assert.ok(Math.abs(sum - source.score) < 0.001, JSON.stringify(source));
    const post = await ok(rpc(team.member, 'create_post', { title: 'Rust', topic_id: topic.id }));
    assert.equal(post.topic_id, topic.id);
    assert.equal((await ok(rpc(team.viewer, 'list_topics', { status: 'written' })))[0].id, topic.id);
  });

  test('the cache of the earlier system is taken over once, and differences are reported', async () => {
    const { secret } = await createKey(team.owner, { permissions: ['content:read', 'content:write'] });
    const folder = await mkdtemp(join(tmpdir(), 'kijko-content-'));
    try {
      await mkdir(join(folder, 'deep'));
      const source = (n) => ({ url: `https://example.com/${n}`, title: `Page ${n}`, content: 'Vectors', published: '2025-01-02' });
      await writeFile(
        join(folder, 'a_research.json'),
        JSON.stringify({ topic: 'Vectors', created_at: '2025-01-01', sources: [source(1), source(2)] }),
      );
      await writeFile(join(folder, 'deep', 'zero_downtime_research.json'), JSON.stringify([source(3)]));
      await writeFile(join(folder, 'notes.json'), 'no research');
      const dry = await run(secret, 'import', folder, '--dry-run');
      assert.deepEqual(
        [dry.code, dry.stdout.trim().split('\n').at(-1)],
        [1, '2 files, 2 with differences, 0 failed; 0 topics without a file'],
        dry.stderr,
      );
      const topics = async () =>
        await ok(
          team.viewer.client.from('topics').select('title, source_count').eq('org_id', team.orgId).eq('origin', 'import').order('title'),
        );
      assert.deepEqual(await topics(), []);
      const first = await run(secret, 'import', folder);
      assert.deepEqual([first.code, first.stdout.includes('Vectors (new): 2 added')], [0, true], first.stdout + first.stderr);
      assert.deepEqual(await topics(), [
        { title: 'Vectors', source_count: 2 },
        { title: 'zero downtime', source_count: 1 },
      ]);
      const again = await run(secret, 'import', folder, '--dry-run');
      assert.deepEqual(
        [again.code, again.stdout.trim().split('\n').at(-1)],
        [0, '2 files, 0 with differences, 0 failed; 0 topics without a file'],
      );
      await writeFile(
        join(folder, 'a_research.json'),
        JSON.stringify({ topic: 'VECTORS ', sources: [{ ...source(1), content: 'Other' }] }),
      );
      await rm(join(folder, 'deep'), { recursive: true });
      await writeFile(join(folder, 'b_research.json'), '{');
      const differs = await run(secret, 'import', folder);
      assert.deepEqual(
        [
          differs.code,
          /only in the database: https:\/\/example.com\/2/.test(differs.stdout),
          /something else in the database: https:\/\/example.com\/1 \(excerpt\)/.test(differs.stdout),
          /zero downtime: has no file/.test(differs.stdout),
          /b_research.json: no JSON/.test(differs.stderr),
        ],
        [1, true, true, true, true],
        differs.stdout,
      );
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    const reader = await createKey(team.owner, { permissions: ['content:read'] });
    for (const [key, args, code] of [
      [secret, ['import', '/nonexistent'], 2],
      [secret, ['export', '.'], 2],
      ['', ['import', '.'], 2],
      [reader.secret, ['import', import.meta.dirname], 0],
    ]) {
      assert.equal((await run(key, ...args)).code, code, args.join(' '));
    }
  });
});
