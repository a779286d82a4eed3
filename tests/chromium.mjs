// A page in headless Chromium, which calls functions of the test and posts its result.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Serves `files` (path to [type, content]; `/` is the page) and resolves with what the page posts to /result. It may post to the
 * paths of `actions`, whose functions get and return JSON. */
export async function inChromium(files, actions = {}) {
  let tell;
  const reported = new Promise((resolve) => {
    tell = resolve;
  });
  const server = createServer(async (request, response) => {
    if (request.method === 'POST') {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const body = JSON.parse(Buffer.concat(chunks).toString() || 'null');
      if (request.url === '/result') tell(body);
      const answer = await actions[request.url]?.(body).catch((error) => ({ failed: String(error.stack) }));
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer ?? null));
      return;
    }
    const [type, content] = files[request.url.split('?')[0]] ?? [];
    response.writeHead(content === undefined ? 404 : 200, { 'Content-Type': type ?? 'text/plain' }).end(content);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const profile = await mkdtemp(join(tmpdir(), 'kijko-chromium-'));
  const browser = spawn(
    process.env.KIJKO_CHROMIUM ?? 'chromium',
    [...ARGUMENTS, `--user-data-dir=${profile}`, `http://127.0.0.1:${server.address().port}/`],
    { stdio: 'ignore', detached: true },
  );
  const ended = once(browser, 'exit');
  let timer;
  try {
    const answer = await Promise.race([
      reported,
      ended.then(([code]) => assert.fail(`chromium ended with ${code}`)),
      new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error('the page reported nothing')), 120_000);
      }),
    ]);
    assert.equal(answer.error, undefined);
    return answer;
  } finally {
    clearTimeout(timer);
    // Its own group: the browser's helpers go with it.
    try {
      process.kill(-browser.pid, 'SIGKILL');
    } catch {
      /* it has ended */
    }
    await ended.catch(() => {});
    server.closeAllConnections();
    server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
