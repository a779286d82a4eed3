// HTTP/2 over TLS: requests to one origin share a connection. The server trusts the test's own CA (SSL_CERT_FILE, set by layer.sh).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';
import { createServer } from 'node:https';
import { after, describe, test } from 'node:test';
import { ended, enqueue, sql, until } from './support.mjs';

const { KIJKO_TEST_TLS: TLS } = process.env;
const pem = (name) => readFileSync(`${TLS}/${name}.pem`);
const identity = (name) => ({ key: pem(`${name}.key`), cert: pem(name) });

/** A receiver that speaks HTTP/2 only. `answer(stream, n)` may take its time. */
async function receiver({ answer = (stream) => stream.end('ok'), from = 'localhost' } = {}) {
  const seen = { sessions: [], requests: [] };
  const server = createSecureServer({ ...identity(from), allowHTTP1: false });
  server.on('session', (session) => {
    session.on('error', () => {});
    seen.sessions.push(session);
  });
  server.on('stream', async (stream, headers) => {
    stream.on('error', () => {});
    const session = seen.sessions.indexOf(stream.session);
    const parts = [];
    for await (const part of stream) parts.push(part);
    seen.requests.push({ headers, session, body: Buffer.concat(parts).toString() });
    stream.respond({ ':status': 200, 'content-type': 'text/plain' });
    answer(stream, seen.requests.length);
  });
  await listening(server, seen.sessions);
  return { ...seen, server, url: `https://localhost:${server.address().port}` };
}

async function listening(server, sessions = []) {
  server.listen(0);
  await once(server, 'listening');
  after(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
}

const post = (url, body) => enqueue({ method: 'POST', url, body });

describe('a receiver that speaks HTTP/2', () => {
  test('gets request after request on one connection', async () => {
    const { url, sessions, requests, server } = await receiver();
    for (let n = 0; n < 5; n += 1) assert.equal((await ended(await post(`${url}/${n}`, `{"n":${n}}`))).body, 'ok');
    assert.deepEqual(
      requests.map(({ headers, session, body }) => [headers[':path'], headers[':method'], session, body]),
      Array.from({ length: 5 }, (_, n) => [`/${n}`, 'POST', 0, `{"n":${n}}`]),
    );
    assert.equal(sessions.length, 1);
    assert.equal(requests[0].headers['idempotency-key'].length, 36);
    server.close();
  });

  test('gets many at once on that connection', async () => {
    const together = 12;
    const held = [];
    const { url, sessions, requests } = await receiver({
      // The first one opens the connection. The others are answered when all of them are there: fewer than a lane may send at once.
      answer: (stream, n) => {
        if (n === 1) return stream.end('first');
        held.push(stream);
        if (held.length === together) for (const one of held) one.end('ok');
      },
    });
    await ended(await post(url, '0'));
    const ids = [];
    for (let n = 1; n <= together; n += 1) ids.push(await post(`${url}/${n}`, `${n}`));
    const answers = await Promise.all(ids.map(ended));
    assert.deepEqual([...new Set(answers.map(({ state }) => state))], ['succeeded']);
    assert.deepEqual([requests.length, sessions.length], [together + 1, 1]);
  });

  test('gets a new connection after it has said goodbye', async () => {
    const { url, sessions, requests } = await receiver();
    await ended(await post(url, '1'));
    const closed = once(sessions[0], 'close');
    sessions[0].close();
    await closed;
    assert.equal((await ended(await post(url, '2'))).attempts, 1);
    assert.deepEqual(
      requests.map(({ session }) => session),
      [0, 1],
    );
  });

  test('gets nothing if no trusted CA signed its certificate', async () => {
    const { url, requests } = await receiver({ from: 'stranger' });
    const id = await post(url, 'secret');
    await until('a failed attempt', async () => (await sql('select * from kijko.http_attempts where request_id = $1', [id])).length > 0);
    const [attempt] = await sql('select * from kijko.http_attempts where request_id = $1', [id]);
    assert.equal(attempt.error_code, 'unreachable');
    assert.deepEqual(requests, []);
    await sql('select kijko.http_cancel($1)', [id]);
  });
});

test('a receiver that speaks HTTP/1.1 only is spoken to in that', async () => {
  const versions = [];
  const server = createServer(identity('localhost'), (request, response) => {
    versions.push(request.httpVersion);
    response.end('ok');
  });
  await listening(server);
  assert.equal((await ended(await post(`https://localhost:${server.address().port}/`, '1'))).body, 'ok');
  assert.deepEqual(versions, ['1.1']);
  server.closeAllConnections();
});
