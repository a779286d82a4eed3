// Caddy's production profile with a certificate of its own: TLS, security headers, origins, and a web page beside the API. One server
// stands in the place of all parts and says what reached it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import tls from 'node:tls';
import { freePort } from '../ports.mjs';
import { Certificate } from '../smtp.mjs';
import { until } from '../until.mjs';

const root = path.resolve(import.meta.dirname, '../..');
const PAGE = '<!doctype html><title>Kijko</title>';

const part = http.createServer((request, response) => {
  response.setHeader('Server', 'a-part/1.2.3');
  if (request.url.includes('lasting')) response.setHeader('Cache-Control', 'max-age=60');
  if (request.url.includes('page')) response.setHeader('Content-Security-Policy', "default-src 'self'");
  // After the body: else it answers before the proxy knows how long that is.
  request.resume().on('end', () => response.end(`part ${request.url}`));
});
part.on('upgrade', (_, socket) => socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'));

let certificate;
let folder;
before(async () => {
  await new Promise((resolve) => part.listen(0, '127.0.0.1', resolve));
  certificate = new Certificate();
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-edge-'));
  fs.mkdirSync(path.join(folder, 'site/assets'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'site/index.html'), PAGE);
  fs.writeFileSync(path.join(folder, 'site/assets/app-1a2b.js'), 'run()');
  fs.writeFileSync(path.join(folder, 'site/.env'), 'SECRET=1');
  fs.writeFileSync(path.join(folder, 'outside'), 'SECRET=2');
});
after(() => {
  part.close();
  certificate.remove();
  fs.rmSync(folder, { recursive: true });
});

class Edge {
  static async start(variables) {
    const edge = new Edge();
    edge.port = await freePort();
    const to = `127.0.0.1:${part.address().port}`;
    edge.process = spawn('caddy', ['run', '--config', path.join(root, 'deploy/Caddyfile'), '--adapter', 'caddyfile'], {
      stdio: 'ignore',
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        XDG_CONFIG_HOME: folder,
        XDG_DATA_HOME: folder,
        KIJKO_SITE: `https://localhost:${edge.port}`,
        KIJKO_EDGE: 'certificate',
        KIJKO_TLS_CERTIFICATE: path.join(certificate.folder, 'cert.pem'),
        KIJKO_TLS_KEY: path.join(certificate.folder, 'key.pem'),
        KIJKO_REST_UPSTREAM: to,
        KIJKO_LOGIN_UPSTREAM: to,
        KIJKO_SIDECAR_UPSTREAM: to,
        KIJKO_REALTIME_UPSTREAM: to,
        KIJKO_STORAGE_UPSTREAM: to,
        ...variables,
      },
    });
    await until('Caddy to answer', () => edge.ask('/health').catch(() => null));
    return edge;
  }

  stop = () =>
    new Promise((resolve) => {
      this.process.once('exit', resolve).kill();
    });

  ask(where, { method = 'GET', headers = {}, handshake = {}, body } = {}) {
    return new Promise((resolve, reject) => {
      const to = { host: '127.0.0.1', port: this.port, servername: 'localhost', rejectUnauthorized: false, ...handshake };
      const options = { ...to, path: where, method, headers: { Host: `localhost:${this.port}`, ...headers }, agent: false };
      const request = https.request(options, (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
      });
      request.on('upgrade', (response, socket) => {
        socket.destroy();
        resolve({ status: response.statusCode, headers: response.headers, text: '' });
      });
      request.on('error', reject).end(body);
    });
  }

  origin = (value, options = {}) => this.ask('/rest/v1/plans', { ...options, headers: { Origin: value, ...options.headers } });

  /** The version that a handshake agrees on, or the code of its failure. */
  handshake(versions) {
    return new Promise((resolve) => {
      const socket = tls.connect(
        { host: '127.0.0.1', port: this.port, servername: 'localhost', rejectUnauthorized: false, ...versions },
        () => {
          resolve(socket.getProtocol());
          socket.destroy();
        },
      );
      socket.on('error', (error) => resolve(error.code));
    });
  }
}

const upgrade = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  'Sec-WebSocket-Version': '13',
};
const allowed = (answer) => answer.headers['access-control-allow-origin'];

describe('production, for some origins, with a page', () => {
  let edge;
  before(async () => {
    edge = await Edge.start({
      KIJKO_CORS_ORIGINS: 'https://app.example.com http://localhost:5173',
      KIJKO_FRONTEND: 'frontend',
      KIJKO_FRONTEND_DIR: path.join(folder, 'site'),
    });
  });
  after(() => edge.stop());

  it('speaks TLS 1.3 and nothing older', async () => {
    assert.equal(await edge.handshake({}), 'TLSv1.3');
    assert.match(await edge.handshake({ maxVersion: 'TLSv1.2' }), /ERR_SSL|ECONNRESET/);
    for (const servername of ['', 'other.example']) {
      const answer = await edge.ask('/rest/v1/plans', { handshake: { servername, maxVersion: 'TLSv1.2' } }).catch(() => null);
      assert.ok(answer === null || answer.status === 421, `${servername}: ${answer?.status}`);
    }
  });

  it('sends security headers with every answer, and no name of a server', async () => {
    for (const where of ['/rest/v1/plans', '/auth/v1/settings', '/health', '/realtime/v1/api', '/', `/rest/v1/${'x'.repeat(17000)}`]) {
      const { headers } = await edge.ask(where);
      assert.equal(headers['strict-transport-security'], 'max-age=31536000', where);
      assert.equal(headers['x-content-type-options'], 'nosniff', where);
      assert.equal(headers['x-frame-options'], 'DENY', where);
      assert.equal(headers['referrer-policy'], 'no-referrer', where);
      assert.ok(headers['content-security-policy'], where);
      assert.equal(headers.server, undefined, where);
      // A page says so itself.
      assert.equal(headers['cache-control'], where === '/' ? 'no-cache' : 'private, no-cache', where);
    }
    assert.equal((await edge.ask('/functions/v1/lasting')).headers['cache-control'], 'max-age=60', 'what a part says of caches stays');
    // An error of the proxy itself.
    const large = await edge.ask('/auth/v1/signup', { method: 'POST', body: 'x'.repeat(200_000) });
    assert.equal(large.status, 413);
    assert.equal(large.headers['strict-transport-security'], 'max-age=31536000');
    assert.equal(large.headers['x-content-type-options'], 'nosniff');
    assert.equal(large.headers['content-security-policy'], "default-src 'none'; frame-ancestors 'none'");
    assert.equal(large.headers.server, undefined);
    assert.match((await edge.ask('/rest/v1/plans')).headers['content-security-policy'], /^default-src 'none'/);
    assert.equal(
      (await edge.ask('/functions/v1/page')).headers['content-security-policy'],
      "default-src 'self'",
      "a part's own policy stays",
    );
  });

  it('allows the origins of the list, by their whole name, and no others', async () => {
    for (const origin of ['https://app.example.com', 'http://localhost:5173']) {
      const answer = await edge.origin(origin);
      assert.equal(allowed(answer), origin);
      assert.match(answer.headers.vary, /Origin/);
    }
    for (const origin of [
      'https://evil.example',
      'https://app.example.com.evil.example',
      'https://app.example.co',
      'http://app.example.com',
      'null',
      '',
    ])
      assert.equal(allowed(await edge.origin(origin)), undefined, origin);
  });

  it('answers a preflight of an origin in the list only', async () => {
    const preflight = {
      method: 'OPTIONS',
      headers: { 'Access-Control-Request-Method': 'PATCH', 'Access-Control-Request-Headers': 'apikey' },
    };
    const good = await edge.origin('https://app.example.com', preflight);
    assert.deepEqual([good.status, allowed(good), good.headers['access-control-allow-methods']], [204, 'https://app.example.com', 'PATCH']);
    assert.equal(allowed(await edge.origin('https://evil.example', preflight)), undefined);
  });

  it('opens no socket for a page of another origin, which needs no preflight', async () => {
    const socket = (origin) => edge.ask('/realtime/v1/websocket', { headers: { ...upgrade, ...(origin && { Origin: origin }) } });
    assert.equal((await socket('https://evil.example')).status, 403);
    assert.equal((await socket('https://app.example.com')).status, 101);
    assert.equal((await socket(null)).status, 101, 'a server has no origin');
  });

  it('serves the page, its own routes and its files, each with what a browser may keep', async () => {
    for (const where of ['/', '/index.html', '/projects/1?x=2']) {
      const { status, text, headers } = await edge.ask(where);
      assert.deepEqual([status, text, headers['cache-control']], [200, PAGE, 'no-cache'], where);
      assert.match(headers['content-security-policy'], /default-src 'self'/);
    }
    const script = await edge.ask('/assets/app-1a2b.js');
    assert.deepEqual([script.status, script.text], [200, 'run()']);
    assert.match(script.headers['cache-control'], /immutable/);
  });

  it('serves no hidden file and nothing outside of the folder, and leaves the API alone', async () => {
    for (const where of ['/.env', '/%2eenv', '/../outside', '/..%2foutside', '/assets/..%2f..%2foutside', '/assets/../.env'])
      assert.doesNotMatch((await edge.ask(where)).text, /SECRET/, where);
    assert.equal((await edge.ask('/', { method: 'POST' })).status, 405);
    assert.equal((await edge.ask('/rest/v1/plans')).text, 'part /plans');
    assert.equal((await edge.ask('/webhooks/stripe', { method: 'POST' })).text, 'part /webhooks/stripe');
  });
});

describe('without a list and without a page', () => {
  let edge;
  before(async () => {
    edge = await Edge.start({});
  });
  after(() => edge.stop());

  it('every origin may call the API', async () => {
    assert.equal(allowed(await edge.origin('https://anything.example')), '*');
    assert.equal((await edge.ask('/realtime/v1/websocket', { headers: { ...upgrade, Origin: 'https://anything.example' } })).status, 101);
  });

  it('a path of no part is not found, as JSON', async () => {
    const { status, text } = await edge.ask('/projects');
    assert.equal(status, 404);
    assert.equal(JSON.parse(text).code, 'not_found');
  });
});
