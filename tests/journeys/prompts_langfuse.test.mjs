// Langfuse's own client reads, compiles and caches prompts from us.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { LangfuseClient } from '@langfuse/client';
import { createKey } from './api_keys_support.mjs';
import { newTeam, ok, until } from './domain.mjs';
import { env } from './support.mjs';

const rpc = (person, name, body) => ok(person.client.rpc(name, body).setHeader('x-org-id', person.orgId));
const langfuse = (secretKey) => new LangfuseClient({ publicKey: 'pk-kijko', secretKey, baseUrl: env.API_URL });

/** Counts the requests of a time. */
async function counted(work) {
  const { fetch } = globalThis;
  let requests = 0;
  globalThis.fetch = (...args) => {
    requests += 1;
    return fetch(...args);
  };
  try {
    return [await work(), requests];
  } finally {
    globalThis.fetch = fetch;
  }
}

describe('langfuse', () => {
  let team;
  let secret;
  before(async () => {
    team = await newTeam();
    ({ secret } = await createKey(team.owner, { permissions: ['prompts:read'] }));
    const text = { path: 'support/summarise', engine: 'plain', model: 'echo/echo', parameters: { temperature: 0.5 }, tags: ['support'] };
    for (const content of ['Summarise {{text}}', 'Sum up {{text}}']) {
      await rpc(team.member, 'push_prompt', { ...text, content, message: content });
    }
    await rpc(team.member, 'set_prompt_label', { path: 'support/summarise', label: 'production', version: 1 });
    const content = [
      { role: 'system', content: 'Be {{tone}}' },
      { type: 'placeholder', name: 'history' },
    ];
    await rpc(team.member, 'push_prompt', { path: 'chat', type: 'chat', engine: 'plain', content });
    await rpc(team.member, 'set_prompt_label', { path: 'chat', label: 'production', version: 1 });
  });

  test('wrong credentials, other tenants and missing permissions first', async () => {
    const { secret: stranger } = await createKey(team.nonMember, { permissions: ['prompts:read'] });
    const { secret: other } = await createKey(team.owner, { permissions: ['skills:read'] });
    for (const [key, status] of [
      ['sk-lf-1', 401],
      [`kjk_live_${'x'.repeat(38)}`, 401],
      [stranger, 404],
      [other, 403],
    ]) {
      const basic = Buffer.from(`pk:${key}`).toString('base64');
      const answer = await fetch(`${env.API_URL}/api/public/v2/prompts/support%2Fsummarise`, {
        headers: { Authorization: `Basic ${basic}` },
      });
      assert.equal(answer.status, status, await answer.text());
    }
    assert.equal((await fetch(`${env.API_URL}/api/public/v2/prompts`)).status, 401);
    const nothing = await fetch(`${env.API_URL}/api/public/v2/prompts`, {
      headers: { Authorization: `Basic ${Buffer.from(`pk:${stranger}`).toString('base64')}` },
    });
    assert.deepEqual((await nothing.json()).data, []);
  });

  test('a text prompt is fetched by label and version, and compiled', async () => {
    const client = langfuse(secret);
    const production = await client.prompt.get('support/summarise');
    assert.deepEqual([production.version, production.labels, production.isFallback], [1, ['production'], false]);
    assert.equal(production.compile({ text: 'this' }), 'Summarise this');
    assert.deepEqual(production.config, { temperature: 0.5, model: 'echo/echo' });
    assert.deepEqual([production.tags, production.commitMessage], [['support'], 'Summarise {{text}}']);
    const latest = await client.prompt.get('support/summarise', { label: 'latest' });
    assert.equal(latest.compile({ text: 'this' }), 'Sum up this');
    assert.equal((await client.prompt.get('support/summarise', { version: 2 })).version, 2);
  });

  test('a chat prompt has its messages and placeholders', async () => {
    const prompt = await langfuse(secret).prompt.get('chat', { type: 'chat' });
    assert.deepEqual(prompt.compile({ tone: 'kind' }, { history: [{ role: 'user', content: 'hi' }] }), [
      { role: 'system', content: 'Be kind' },
      { role: 'user', content: 'hi' },
    ]);
  });

  test('it caches, refreshes behind a stale answer, and falls back', async () => {
    const client = langfuse(secret);
    const get = (options) => counted(() => client.prompt.get('support/summarise', options));
    assert.equal((await get({ cacheTtlSeconds: 60 }))[1], 1);
    assert.equal((await get({ cacheTtlSeconds: 60 }))[1], 0, 'from the cache');
    assert.equal((await get({ cacheTtlSeconds: 0 }))[1], 1, 'without the cache');
    await rpc(team.member, 'set_prompt_label', { path: 'support/summarise', label: 'production', version: 2 });
    assert.equal((await get({ cacheTtlSeconds: 60 }))[0].version, 1, 'what is cached stays until its time');
    // When its time is over, the old one is answered once more while the new one is fetched.
    const { now } = Date;
    Date.now = () => now() + 61_000;
    try {
      assert.equal((await client.prompt.get('support/summarise', { cacheTtlSeconds: 60 })).version, 1);
      await until('the refresh', async () => (await client.prompt.get('support/summarise', { cacheTtlSeconds: 60 })).version === 2);
    } finally {
      Date.now = now;
    }
    assert.equal((await get({ cacheTtlSeconds: 0 }))[0].version, 2);
    await assert.rejects(client.prompt.get('support/nothing', { maxRetries: 0 }), (error) => error.statusCode === 404);
    const fallback = await client.prompt.get('support/nothing', { type: 'text', fallback: 'Hello {{name}}', maxRetries: 0 });
    assert.deepEqual([fallback.isFallback, fallback.compile({ name: 'Ada' })], [true, 'Hello Ada']);
  });

  test('prompts are listed, page by page', async () => {
    const { api } = langfuse(secret);
    const all = await api.prompts.list({ limit: 1, page: 2 });
    assert.deepEqual(all.meta, { page: 2, limit: 1, totalItems: 2, totalPages: 2 });
    const [prompt] = all.data;
    assert.deepEqual([prompt.name, prompt.type, prompt.versions, prompt.labels], ['support/summarise', 'text', [1, 2], ['production']]);
    assert.equal((await api.prompts.list({ tag: 'support' })).data.length, 1);
    assert.equal((await api.prompts.list({ name: 'chat' })).data.length, 1);
    assert.equal((await api.prompts.list({ label: 'staging' })).data.length, 0);
    assert.equal((await api.prompts.list({ fromUpdatedAt: '2999-01-01T00:00:00Z' })).data.length, 0);
    await assert.rejects(api.prompts.list({ limit: 1000 }), (error) => error.statusCode === 400);
  });
});
