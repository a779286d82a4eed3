// Whose X-Forwarded-For Caddy passes on: the database believes the rightmost address that is no trusted proxy, so a client's own word
// must not get there, and a trusted proxy's must.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';

const root = path.resolve(import.meta.dirname, '../..');

// Answers with the header that it got, in the place of all upstreams.
const upstream = http.createServer((request, response) => response.end(request.headers['x-forwarded-for'] ?? 'none'));
before(
  () =>
    new Promise((resolve) => {
      upstream.listen(0, '127.0.0.1', resolve);
    }),
);
after(() => upstream.close());

/** What each part sees of a request that claims to come from 198.51.100.7. */
async function seen(trustedProxies) {
  const port = await freePort();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-caddy-'));
  const to = `127.0.0.1:${upstream.address().port}`;
  const caddy = spawn('caddy', ['run', '--config', path.join(root, 'deploy/Caddyfile'), '--adapter', 'caddyfile'], {
    stdio: 'ignore',
    env: {
      ...process.env,
      XDG_CONFIG_HOME: folder,
      XDG_DATA_HOME: folder,
      KIJKO_SITE: `http://:${port}`,
      KIJKO_BIND: '127.0.0.1',
      KIJKO_REST_UPSTREAM: to,
      KIJKO_LOGIN_UPSTREAM: to,
      KIJKO_SIDECAR_UPSTREAM: to,
      KIJKO_TRUSTED_PROXIES: trustedProxies,
    },
  });
  const ask = async (where) => {
    const headers = { 'X-Forwarded-For': '198.51.100.7' };
    const answer = await until('Caddy to answer', () => fetch(`http://127.0.0.1:${port}${where}`, { headers }).catch(() => null));
    return answer.text();
  };
  try {
    return [await ask('/rest/v1/plans'), await ask('/auth/v1/settings'), await ask('/webhooks/stripe')];
  } finally {
    await new Promise((resolve) => {
      caddy.once('exit', resolve).kill();
    });
    fs.rmSync(folder, { recursive: true });
  }
}

describe('X-Forwarded-For', () => {
  it('is replaced by Caddy while no proxy is trusted', async () => {
    assert.deepEqual(await seen(''), Array(3).fill('127.0.0.1'));
  });
  it('is replaced by Caddy when the sender is not a trusted proxy', async () => {
    assert.deepEqual(await seen('192.0.2.0/24'), Array(3).fill('127.0.0.1'));
  });
  it("is passed on from a trusted proxy with that proxy's address added", async () => {
    assert.deepEqual(await seen('192.0.2.0/24 127.0.0.0/8'), Array(3).fill('198.51.100.7, 127.0.0.1'));
  });
});
