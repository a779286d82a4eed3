// The same app in everything that supabase-js runs in: Node.js 20 with `ws`, 22, 24, and a browser, which also asks CORS.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { inChromium } from '../chromium.mjs';
import { STEPS } from '../runtimes/conformance.mjs';
import { declare, newServer } from './functions_support.mjs';
import { env } from './support.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const passed = STEPS.map((name) => [name, null]);

let functionName;
before(async () => {
  const streams = new Map();
  const url = await newServer((request, response) => {
    const { search } = new URL(request.url, 'http://localhost');
    if (request.method === 'PUT') {
      streams.get(search).end('data: two\n\n');
      response.writeHead(204).end();
    } else {
      streams.set(search, response);
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: one\n\n');
    }
  });
  functionName = await declare({ url });
});

describe('supabase-js', () => {
  for (const [name, binary, major, websocket] of [
    ['the Node.js that runs the tests', process.execPath, process.versions.node.split('.')[0]],
    ['Node.js 22', join(root, 'node_modules/node22/bin/node'), '22', 'function'],
    ['Node.js 24', join(root, 'node_modules/node24/bin/node'), '24', 'function'],
  ]) {
    test(`on ${name}`, async () => {
      const { stdout } = await promisify(execFile)(binary, [join(root, 'tests/runtimes/node.mjs')], {
        timeout: 120_000,
        env: { ...process.env, FUNCTION_NAME: functionName },
      });
      const reported = JSON.parse(stdout);
      assert.equal(reported.version.slice(1).split('.')[0], major);
      if (websocket) assert.equal(reported.websocket, websocket, 'it has a WebSocket of its own');
      assert.deepEqual(reported.results, passed);
    });
  }

  test('in headless Chromium, from another origin', async () => {
    const { results, agent, origin } = await inChromium(await files());
    assert.match(agent, /HeadlessChrome\//);
    assert.notEqual(origin, new URL(env.API_URL).origin);
    assert.deepEqual(results, passed);
  });
});

const PAGE = `<!doctype html><meta charset="utf-8"><title>Kijko</title>
<script src="/supabase.js"></script>
<script type="module">
  let body;
  try {
    const { conformance } = await import('/conformance.mjs');
    const settings = await (await fetch('/settings.json')).json();
    body = { results: await conformance(supabase.createClient, settings), agent: navigator.userAgent, origin: location.origin };
  } catch (error) {
    body = { error: String(error.stack ?? error) };
  }
  await fetch('/result', { method: 'POST', body: JSON.stringify(body) });
</script>`;

const files = async () => ({
  '/': ['text/html', PAGE],
  '/supabase.js': ['text/javascript', await readFile(join(root, 'node_modules/@supabase/supabase-js/dist/umd/supabase.js'))],
  '/conformance.mjs': ['text/javascript', await readFile(join(root, 'tests/runtimes/conformance.mjs'))],
  '/settings.json': ['application/json', JSON.stringify({ url: env.API_URL, anonKey: env.ANON_KEY, functionName })],
});
