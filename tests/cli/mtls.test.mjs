// deploy/mtls: a part on another host is reached with a certificate of the authority, and not without.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';

const mtls = path.resolve(import.meta.dirname, '../../deploy/mtls');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-mtls-'));
const file = (name) => path.join(folder, name);
const read = (name) => fs.readFileSync(file(name));

/** As docs/operations/encryption.md makes them. */
function certificate(name, authority, usage) {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-x509', '-days', '2', '-subj', `/CN=${name}`];
  const signed = authority
    ? ['-CA', file(`${authority}.crt`), '-CAkey', file(`${authority}.key`), '-addext', 'basicConstraints=critical,CA:FALSE']
    : [];
  const names = usage ? ['-addext', 'subjectAltName=DNS:localhost', '-addext', `extendedKeyUsage=${usage}`] : [];
  execFileSync('openssl', ['req', ...key, ...signed, ...names, '-keyout', file(`${name}.key`), '-out', file(`${name}.crt`)], {
    stdio: 'ignore',
  });
}

describe('a part on another host', () => {
  const children = [];
  const part = http.createServer((request, response) => response.end(JSON.stringify({ url: request.url, headers: request.headers })));
  let port;
  let tunnel;
  const caddy = (name, environment) => {
    const child = spawn('caddy', ['run', '--config', path.join(mtls, name), '--adapter', 'caddyfile'], {
      env: { PATH: process.env.PATH, HOME: folder, ...environment },
      stdio: 'ignore',
    });
    children.push(child);
  };
  /** A request to the service's host itself, with other certificates than Caddy's. */
  const direct = (options) =>
    new Promise((resolve, reject) => {
      const request = https.get({ host: 'localhost', port: tunnel, ca: read('authority.crt'), agent: false, ...options }, resolve);
      request.on('error', reject);
    });

  before(async () => {
    certificate('authority');
    certificate('stranger');
    certificate('service', 'authority', 'serverAuth');
    certificate('edge', 'authority', 'clientAuth');
    certificate('foreign', 'stranger', 'clientAuth');
    part.listen(0, '127.0.0.1');
    await once(part, 'listening');
    [port, tunnel] = [await freePort(), await freePort()];
    const authority = { KIJKO_MTLS_AUTHORITY: file('authority.crt') };
    const own = (name) => ({ ...authority, KIJKO_MTLS_CERTIFICATE: file(`${name}.crt`), KIJKO_MTLS_KEY: file(`${name}.key`) });
    caddy('service.Caddyfile', {
      ...own('service'),
      KIJKO_MTLS_LISTEN: `localhost:${tunnel}`,
      KIJKO_MTLS_PART: `127.0.0.1:${part.address().port}`,
    });
    caddy('edge.Caddyfile', { ...own('edge'), KIJKO_MTLS_PORT: String(port), KIJKO_MTLS_UPSTREAM: `localhost:${tunnel}` });
    await until('both ends to answer', () =>
      fetch(`http://127.0.0.1:${port}/`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
  });

  after(() => {
    for (const child of children) child.kill('SIGKILL');
    part.close();
    fs.rmSync(folder, { recursive: true });
  });

  it('gets requests as they were, with the addresses of the client that Caddy has found', async () => {
    const given = { host: 'api.example.com', 'X-Forwarded-For': '203.0.113.7', 'X-Request-Id': 'r1' };
    const response = await new Promise((resolve, reject) => {
      http.get({ host: '127.0.0.1', port, path: '/rpc/f?x=1', headers: given }, resolve).on('error', reject);
    });
    const { url, headers } = await json(response);
    assert.equal(url, '/rpc/f?x=1');
    assert.equal(headers.host, 'api.example.com');
    assert.equal(headers['x-forwarded-for'], '203.0.113.7');
    assert.equal(headers['x-request-id'], 'r1');
  });

  it('is not reached without a certificate, with one of another authority, or without TLS', async () => {
    await assert.rejects(direct({}), /alert|closed|reset|hang up/i);
    await assert.rejects(direct({ cert: read('foreign.crt'), key: read('foreign.key') }), /alert|closed|reset|hang up/i);
    const plain = await fetch(`http://localhost:${tunnel}/`).catch(() => ({ status: 0 }));
    assert.notEqual(plain.status, 200);
    const response = await direct({ cert: read('edge.crt'), key: read('edge.key') });
    assert.equal(response.statusCode, 200);
    response.destroy();
  });
});
