// Receivers that are slow, silent, broken or hostile: what they cost others, and what is kept of them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  attempted,
  attempts,
  connect,
  ended,
  enqueue,
  hurry,
  ORG,
  OTHER_ORG,
  pgCtl,
  receiver,
  response,
  setting,
  sql,
  until,
  workerPid,
} from './support.mjs';

/** A receiver that speaks for itself: `speak(socket)` is called when a request has begun. */
async function rawReceiver(speak) {
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', () => speak(socket));
  });
  server.listen(0);
  await once(server, 'listening');
  after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `http://localhost:${server.address().port}`, sockets };
}

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n';

describe('an answer', () => {
  const timeout = '1 seconds';

  test('that never comes ends by the timeout', async () => {
    const { url } = await rawReceiver(() => {});
    const answer = await ended(await enqueue({ method: 'POST', url, timeout, max_attempts: 1 }));
    assert.deepEqual([answer.state, answer.error_code, answer.status], ['dead', 'attempts_exhausted', null]);
  });

  for (const [what, speak, code] of [
    ['that stops within its head', (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-'), 'timed_out'],
    ['that stops within its body', (socket) => socket.write(`${HEAD}Content-Length: 10\r\n\r\nabc`), 'timed_out'],
    ['that is cut off within its body', (socket) => socket.end(`${HEAD}Content-Length: 10\r\n\r\nabc`), 'broken'],
    ['that is closed without a word', (socket) => socket.end(), 'broken'],
    ['that is not HTTP', (socket) => socket.end('SSH-2.0-OpenSSH\r\n'), 'broken'],
    ['with a head that does not end', (socket) => flood(socket, 'HTTP/1.1 200 OK\r\n', `X-${'a'.repeat(1000)}: b\r\n`), 'broken'],
    ['that trickles', (socket) => trickle(socket, `${HEAD}Content-Length: 10000\r\n\r\n`), 'timed_out'],
  ])
    test(`${what} is a failed attempt`, async () => {
      const { url } = await rawReceiver(speak);
      const id = await enqueue({ method: 'POST', url, timeout });
      await attempted(id, 1);
      assert.equal((await response(id)).error_code, code, (await attempts(id))[0].error);
      await sql('select kijko.http_cancel($1)', [id]);
    });

  test('without end is cut, and what counts is its status', async () => {
    const { url } = await rawReceiver((socket) => flood(socket, `${HEAD}\r\n`, 'x'.repeat(10_000)));
    const answer = await ended(await enqueue({ method: 'POST', url, timeout: '20 seconds' }));
    assert.deepEqual([answer.state, answer.truncated, answer.body.length], ['succeeded', true, 64 * 1024]);
  });

  test('that would unpack to much more is not unpacked', async () => {
    const packed = gzipSync(Buffer.alloc(10_000_000));
    const { url } = await receiver((_, answer) => {
      answer.setHeader('Content-Encoding', 'gzip');
      answer.end(packed);
    });
    const id = await enqueue({ method: 'POST', url });
    await ended(id);
    assert.deepEqual((await attempts(id))[0].body, packed);
  });

  test('with NUL and other bytes is kept, and shown as text', async () => {
    const { url } = await receiver((_, answer) => {
      answer.setHeader('X-Odd', Buffer.from('caf\xe9', 'latin1').toString('latin1'));
      answer.end(Buffer.from([0, 0xff, 0x61]));
    });
    const answer = await ended(await enqueue({ method: 'POST', url }));
    assert.equal(answer.body, '\ufffd\ufffda');
  });

  test('that redirects is a failure, and not followed', async () => {
    const { url, requests } = await receiver((_, answer) => answer.writeHead(302, { Location: '/elsewhere' }).end());
    const id = await enqueue({ method: 'POST', url });
    await attempted(id, 1);
    assert.deepEqual([(await response(id)).status, requests.length], [302, 1]);
  });
});

test('an address that is not public any more is refused when it connects', async () => {
  const { url, requests } = await receiver();
  const id = await enqueue({ method: 'POST', url, not_before: new Date(Date.now() + 3_600_000) });
  // Its name may still be asked for: it is what the name stands for that is refused.
  await setting('kijko.http_allowed_hosts', '');
  await until('the worker to know', async () => {
    const probe = await sql(`select kijko.http_request_problem('GET', $1, '{}', null, null) as problem`, [url]);
    return probe[0].problem;
  });
  await hurry(id);
  const answer = await ended(id);
  await setting('kijko.http_allowed_hosts', 'localhost');
  assert.deepEqual([answer.state, answer.error_code, requests.length], ['dead', 'address_refused', 0]);
  await until('it to be allowed again', async () => {
    const probe = await sql(`select kijko.http_request_problem('GET', $1, '{}', null, null) as problem`, [url]);
    return probe[0].problem === null;
  });
});

describe('a dead or slow receiver', () => {
  test('with thousands of requests leaves others their turn', async () => {
    const { url: silent, sockets } = await rawReceiver(() => {});
    const { url: live, requests } = await receiver();
    await sql(
      `select kijko.http_enqueue('POST', $1, body => n::text, org_id => $2, timeout => '60 seconds') from generate_series(1, 5000) as n`,
      [silent, ORG],
    );
    await sql(`select kijko.http_enqueue('POST', $1, org_id => $2) from generate_series(1, 5000)`, ['http://localhost:1', OTHER_ORG]);
    await until('the silent one to be called', async () => sockets.size > 0);
    for (const org of [ORG, OTHER_ORG])
      assert.equal((await ended(await enqueue({ method: 'POST', url: live, org_id: org }))).state, 'succeeded');
    assert.equal(requests.length, 2);
    assert.ok(sockets.size <= 16, `half of an origin's share, not ${sockets.size}`);
    const [{ calls }] = await sql(`select sum(attempts)::int as calls from kijko.http_requests where origin = 'http://localhost:1'`);
    assert.ok(calls < 200, `an origin that refuses everything was called ${calls} times`);
    const [queue] = await sql('select pending::int, due::int from kijko.http_queue() where origin = $1', [silent]);
    assert.deepEqual(queue, { pending: 5000, due: 5000 });
  });

  test('holds up no DROP DATABASE', async () => {
    const { url, sockets } = await rawReceiver(() => {});
    await enqueue({ method: 'POST', url, timeout: '100 seconds', org_id: '0b000000-0000-4000-8000-000000000003' });
    await until('it to be called', async () => sockets.size > 0);
    await sql('create database other');
    await sql('drop database other');
    assert.equal([...sockets].filter((socket) => !socket.destroyed).length, 1, 'the call is still under way');
  });

  test('holds up no stop of the server, and its request is sent again', async () => {
    const { url, sockets } = await rawReceiver(() => {});
    const id = await enqueue({ method: 'POST', url, timeout: '100 seconds', org_id: '0b000000-0000-4000-8000-000000000004' });
    await until('it to be called', async () => sockets.size > 0);
    // Gives up after 20 s, long before the call would.
    await pgCtl('-m', 'fast', '-t', '20', 'restart');
    const session = await connect();
    await until('it to be called again', async () => sockets.size > 1);
    const { rows } = await session.query('select state, attempts from kijko.http_requests where id = $1', [id]);
    assert.deepEqual(rows, [{ state: 'pending', attempts: 0 }]);
    await session.query('select kijko.http_cancel($1)', [id]);
    await session.end();
  });

  test('a worker that was terminated comes back', async () => {
    const session = await connect();
    const query = async (text, values) => (await session.query(text, values)).rows;
    const before = await workerPid(query);
    await query('select pg_terminate_backend($1)', [before]);
    const { url } = await receiver();
    const id = await enqueue({ method: 'POST', url }, query);
    await until('it to be sent', async () => (await query('select state from kijko.http_response($1)', [id]))[0].state === 'succeeded');
    assert.notEqual(await workerPid(query), before);
    await session.end();
  });
});

function flood(socket, head, part) {
  socket.write(head);
  const more = () => {
    while (!socket.destroyed && socket.write(part));
    if (!socket.destroyed) socket.once('drain', more);
  };
  more();
}

function trickle(socket, head) {
  socket.write(head);
  const timer = setInterval(() => (socket.destroyed ? clearInterval(timer) : socket.write('x')), 50);
  socket.on('close', () => clearInterval(timer));
}
