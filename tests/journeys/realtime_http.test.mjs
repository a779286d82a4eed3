// Realtime without a socket: broadcasts over HTTP, event streams, and that no log has a key.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newPerson, until } from './domain.mjs';
import {
  broadcasts,
  closeClients,
  dropRoomPolicies,
  joined,
  newRoom,
  RawSocket,
  realtimeClient,
  roomPolicies,
  sendFromSql,
} from './realtime_support.mjs';
import { env, http } from './support.mjs';

let ada;
let bob;
before(async () => {
  await roomPolicies();
  [ada, bob] = await Promise.all([newPerson(), newPerson()]);
});
after(async () => {
  await closeClients();
  await dropRoomPolicies();
});

const members = (room) => joined(realtimeClient({ token: async () => ada.token }), room, { private: true });
const post = (path, body, token, headers = {}) =>
  http('POST', `/realtime/v1/api/broadcast${path}`, { body, token, headers: { 'Content-Type': 'application/json', ...headers } });

describe('a batch', () => {
  test('reaches no private channel that the caller may not write to', async () => {
    const room = newRoom(ada.orgId);
    const log = await members(room);
    const message = (n, isPrivate) => ({ topic: room, event: 'e', payload: { n }, private: isPrivate });
    for (const token of [undefined, env.ANON_KEY, bob.token])
      assert.equal((await post('', { messages: [message('forged', true), message('public', false)] }, token)).status, 202);
    assert.equal((await post('', { messages: [message(1, true)] }, ada.token)).status, 202);
    assert.equal((await post('', { messages: [message(2, true)] }, env.SERVICE_ROLE_KEY)).status, 202);
    assert.deepEqual(await broadcasts(log, 2), [{ n: 1 }, { n: 2 }]);
  });

  test('is refused without a valid token, and when it makes no sense', async () => {
    const messages = [{ topic: 't', event: 'e', payload: {} }];
    const refused = await post('', { messages }, 'forged', { apikey: '' });
    assert.equal(refused.status, 401);
    assert.equal(refused.body.message, 'Unauthorized');
    assert.equal((await post('', { messages }, undefined, { apikey: '' })).status, 401);
    for (const body of [{}, { messages: [{}] }, { messages: [{ topic: 't', event: 'e' }] }, '{'])
      assert.equal((await post('', body, ada.token)).status, 422, JSON.stringify(body));
    for (const topic of ['', 'x'.repeat(241), 'é'.repeat(121)]) {
      const others = [...messages, { topic, event: 'e', payload: {} }];
      assert.equal((await post('', { messages: others }, ada.token)).status, 422, `a topic of ${topic.length}`);
      if (topic !== '') assert.equal((await post(`/${encodeURIComponent(topic)}/events/e`, {}, ada.token)).status, 422);
    }
    assert.equal((await post('', { messages: [{ topic: 'x'.repeat(240), event: 'e', payload: {} }] }, ada.token)).status, 202);
    const large = [{ topic: 't', event: 'e', payload: 'x'.repeat(300_000) }];
    assert.equal((await post('', { messages: large }, ada.token)).status, 413);
  });
});

describe('one message', () => {
  test('is refused with 403 where the caller may not write', async () => {
    const room = newRoom(ada.orgId);
    const log = await members(room);
    for (const token of [env.ANON_KEY, bob.token]) assert.equal((await post(`/${room}/events/e?private=true`, {}, token)).status, 403);
    assert.equal((await post(`/${room}/events/e?private=true`, { n: 1 }, ada.token)).status, 202);
    assert.equal((await post(`/${room}/events/e?private=true`, '{', ada.token)).status, 422);
    assert.deepEqual(await broadcasts(log, 1), [{ n: 1 }]);
  });

  test('may be bytes', async () => {
    const socket = await new RawSocket().opened;
    const topic = `bytes-${randomUUID()}`;
    await socket.ask({ join_ref: '1', ref: '1', topic: `realtime:${topic}`, event: 'phx_join', payload: { config: {} } });
    const type = { 'Content-Type': 'application/octet-stream' };
    assert.equal((await post(`/${topic}/events/blob`, new Uint8Array([0, 255]), ada.token, type)).status, 202);
    const frame = await until('the bytes', () => socket.received.find(Buffer.isBuffer));
    assert.deepEqual(frame.subarray(-2), Buffer.from([0, 255]));
    await socket.close();
  });
});

/** Reads events of a stream until it ends or is aborted. */
async function stream(path, headers) {
  const controller = new AbortController();
  const response = await fetch(`${env.API_URL}/realtime/v1/events${path}`, { headers, signal: controller.signal });
  const events = [];
  const log = { status: response.status, response, events, close: () => controller.abort() };
  if (response.status !== 200) return log;
  log.ended = (async () => {
    let text = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      text += decoder.decode(chunk, { stream: true });
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const fields = text.slice(0, end).split('\n');
        const field = (name) => fields.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        if (field('data')) events.push({ event: field('event'), id: field('id'), data: JSON.parse(field('data')) });
        text = text.slice(end + 2);
      }
    }
  })().catch((error) => assert.equal(error.name, 'AbortError'));
  return log;
}

describe('an event stream', () => {
  test('is refused to who may not read, and says why', async () => {
    const room = newRoom(ada.orgId);
    for (const [headers, status] of [
      [{}, 401],
      [{ apikey: 'forged' }, 401],
      [{ apikey: env.ANON_KEY }, 403],
      [{ apikey: env.ANON_KEY, Authorization: `Bearer ${bob.token}` }, 403],
    ]) {
      const { response } = await stream(`?topic=${room}`, headers);
      assert.equal(response.status, status);
      assert.equal((await response.json()).message, 'Unauthorized');
    }
  });

  test('brings what SQL and other clients send', async () => {
    const room = newRoom(ada.orgId);
    const log = await stream(`?topic=${room}`, { apikey: env.ANON_KEY, Authorization: `Bearer ${ada.token}` });
    assert.equal(log.response.headers.get('content-type'), 'text/event-stream');
    await sendFromSql(room, 'news', { text: 'two\nlines' });
    // They come by two ways, of which none waits for the other.
    await until('what SQL sends', () => log.events.length === 1);
    await post(`/${room}/events/more?private=true`, { n: 2 }, ada.token);
    await until('two events', () => log.events.length === 2);
    const [news, more] = log.events;
    assert.deepEqual({ event: news.event, data: news.data }, { event: 'news', data: { text: 'two\nlines', id: news.id } });
    assert.deepEqual(more, { event: 'more', id: undefined, data: { n: 2 } });
    log.close();
    await log.ended;
  });

  test('of a public topic', async () => {
    const topic = `public-${randomUUID()}`;
    const log = await stream(`?topic=${topic}&private=false&apikey=${env.ANON_KEY}`, {});
    await post(`/${topic}/events/e`, { n: 1 }, env.ANON_KEY);
    await until('an event', () => log.events.length === 1);
    log.close();
  });
});

test('no log has a key from a query', async () => {
  const folder = join(process.env.TEST_HOME ?? join(import.meta.dirname, '../../.kijko'), 'log');
  const socket = await new RawSocket({ key: ada.token }).opened;
  await socket.close();
  await new RawSocket({ key: `${ada.token}forged` }).closed;
  await fetch(`${env.API_URL}/realtime/v1/events?topic=x&apikey=${ada.token}`);
  await fetch(`${env.API_URL}/realtime/v1/nowhere?apikey=${ada.token}`);
  await sleep(500);
  const signature = ada.token.split('.')[2];
  const logs = readdirSync(folder).filter((name) => name.endsWith('.log'));
  assert.ok(logs.includes('realtime.log') && logs.includes('caddy.log') && logs.includes('postgres.log'));
  for (const name of logs) assert.equal(readFileSync(join(folder, name), 'utf8').includes(signature), false, name);
});
