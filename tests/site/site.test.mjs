// ./kijko docs: the site is built from this checkout and this database, and the proxy serves it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { home, kijko, port } from '../cli/stack.mjs';

const base = `http://127.0.0.1:${port}`;
const folder = path.join(home, 'docs');
const get = (where, options) => fetch(`${base}${where}`, { redirect: 'manual', ...options });

describe('./kijko docs', () => {
  before(async () => {
    fs.rmSync(folder, { recursive: true, force: true });
    assert.equal((await get('/docs/')).status, 404, 'before it is built there is nothing');
    const { code, stderr } = await kijko(['docs']);
    assert.equal(code, 0, stderr);
  });
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  it('serves pages, and what is not there as a page that says so', async () => {
    const index = await get('/docs/');
    assert.equal(index.status, 200);
    assert.match(index.headers.get('content-type'), /^text\/html/);
    assert.match(index.headers.get('content-security-policy'), /^default-src 'self'/);
    assert.equal((await get('/docs')).headers.get('location'), '/docs/');
    for (const page of ['guides/skills', 'internals/limits', 'reference/errors', 'reference/sql', 'api/rpc', 'api/login', 'architecture'])
      assert.equal((await get(`/docs/${page}/`)).status, 200, page);
    const missing = await get('/docs/nowhere/');
    assert.equal(missing.status, 404);
    assert.match(missing.headers.get('content-type'), /^text\/html/);
    assert.equal((await get('/docs/', { method: 'POST' })).status, 405);
  });

  it('has the OpenAPI document of this stack, and the types', async () => {
    const document = await (await get('/docs/openapi.json')).json();
    assert.equal(document.openapi, '3.1.0');
    assert.deepEqual(document.servers, [{ url: base }]);
    assert.ok(document.paths['/rest/v1/skills'].get && document.paths['/rest/v1/rpc/execute_skill'].post);
    const types = await (await get('/docs/database.types.ts')).text();
    assert.ok(types.includes('export type Database = {'));
    const file = path.join(folder, 'printed.json');
    assert.equal((await kijko(['openapi', file])).code, 0);
    assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), document);
  });

  it('loads nothing from elsewhere, and has no inline script', () => {
    const pages = fs.readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.html'));
    assert.ok(pages.length > 100, `${pages.length} pages`);
    for (const page of pages) {
      const html = fs.readFileSync(path.join(folder, page), 'utf8');
      assert.doesNotMatch(html, /<(?:script|img|iframe|source)[^>]*\ssrc="?(?:https?:)?\/\//, page);
      assert.doesNotMatch(html, /<link[^>]*rel="?(?:stylesheet|preload|icon)"?[^>]*href="?https?:/, page);
      for (const [, attributes, text] of html.matchAll(/<script((?:\s[^>]*)?)>([\s\S]*?)<\/script>/g))
        assert.ok(text === '' || /json/.test(attributes), `${page}: ${text.slice(0, 80)}`);
    }
  });

  it('finds a word of a page by the index of its search', async () => {
    const [name] = fs.readdirSync(folder).filter((each) => /^search-index.*\.json$/.test(each));
    assert.ok(name);
    const index = await get(`/docs/${name}`);
    assert.equal(index.status, 200);
    const text = await index.text();
    for (const word of ['execute_skill', 'habits']) assert.ok(text.includes(word), `${word} in ${text.length} bytes of ${name}`);
  });
});
