// Limits of sockets: each refusal says which. A service of its own, with small ones.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { killRealtimeServices, RealtimeService } from '../realtime_service.mjs';
import { newPerson, newTeam, until } from './domain.mjs';
import { closeClients, joined, RawSocket, realtimeClient, refusedJoin, sendFromSql, subscribe } from './realtime_support.mjs';

let people;
before(async () => {
  people = [await newPerson(), await newPerson()];
});
after(async () => {
  await closeClients();
  await killRealtimeServices();
});

const start = (limits) =>
  RealtimeService.start({
    variables: Object.fromEntries(Object.entries(limits).map(([name, value]) => [`KIJKO_REALTIME_${name}`, String(value)])),
  });

const raw = (service, options = {}) => new RawSocket({ ...options, base: service.url });

test('too many sockets of the server, and of a network', async () => {
  for (const limits of [{ SOCKETS: 2 }, { SOCKETS_OF_NETWORK: 2 }]) {
    const service = await start(limits);
    // As the proxy in front of it writes it.
    const from = (address) => raw(service, { headers: { 'X-Forwarded-For': address } });
    const first = await Promise.all([from('192.0.2.1').opened, from('192.0.2.1').opened]);
    await until('both to be counted', async () => (await service.metric('kijko_realtime_sockets')) === 2);
    const { code, reason } = await from('192.0.2.1').closed;
    assert.deepEqual([code, reason.split(':')[0]], [4429, 'TooManySockets']);
    await first[0].close();
    await until('one to be free', async () => (await service.metric('kijko_realtime_sockets')) === 1);
    await (await from('192.0.2.1').opened).close();
    await service.kill();
  }
});

test('too many sockets of a user, and of an organization', async () => {
  const [ada, bob] = people;
  const service = await start({ SOCKETS_OF_CALLER: 2 });
  const clientOf = (person) => realtimeClient({ at: service, token: async () => person.token });
  for (let n = 0; n < 2; n += 1) await joined(clientOf(ada), `room-${n}`);
  assert.match(await refusedJoin(clientOf(ada), 'room', {}), /^TooManySockets: this user/);
  await joined(clientOf(bob), 'room');
  await service.kill();

  const team = await newTeam();
  const small = await start({ SOCKETS_OF_ORGANIZATION: 2 });
  const memberOf = (person) => realtimeClient({ at: small, token: async () => person.token });
  await joined(memberOf(team.owner), 'room');
  await joined(memberOf(team.member), 'room');
  assert.match(await refusedJoin(memberOf(team.viewer), 'room', {}), /^TooManySockets: the organization/);
  await joined(memberOf(team.nonMember), 'room');
  await small.kill();
});

test('too many channels of a socket, and too long a topic', async () => {
  const service = await start({ CHANNELS: 2 });
  const client = realtimeClient({ at: service });
  for (let n = 0; n < 2; n += 1) assert.equal((await subscribe(client.channel(`room-${n}`))).status, 'SUBSCRIBED');
  assert.match(await refusedJoin(client, 'room-3', {}), /^ChannelRateLimitReached: /);
  await client.removeAllChannels();
  assert.match(await refusedJoin(client, 'x'.repeat(241), {}), /^InvalidTopic: /);
  await service.kill();
});

test('too many joins that ask the database, and too many attempts to connect', async () => {
  const service = await start({ JOINS_PER_SECOND: 1 });
  const client = realtimeClient({ at: service, token: async () => people[0].token });
  // At once: one after the other a busy machine asks no more often than it may.
  const reasons = await Promise.all(Array.from({ length: 7 }, (_, n) => refusedJoin(client, `nobody's-${n}`)));
  assert.ok(reasons.some((reason) => reason.startsWith('ClientJoinRateLimitReached: ')));
  assert.ok(reasons.some((reason) => reason.startsWith('Unauthorized: ')));
  // A public channel with the socket's own key asks nothing.
  const other = await raw(service, { headers: { 'X-Forwarded-For': '192.0.2.8' } }).opened;
  for (let n = 1; n < 10; n += 1) {
    const join = { join_ref: `${n}`, ref: `${n}`, topic: `realtime:${n}`, event: 'phx_join', payload: { config: {} } };
    assert.equal((await other.ask(join)).payload.status, 'ok');
  }
  const from = (address) => raw(service, { key: 'guess', headers: { 'X-Forwarded-For': address } });
  const codes = await Promise.all(Array.from({ length: 10 }, async () => (await from('192.0.2.9').closed).code));
  assert.deepEqual([...new Set(codes)].sort(), [4401, 4429]);
  assert.equal((await from('192.0.2.10').closed).code, 4401);
  await service.kill();
});

test('a socket that says nothing is closed', async () => {
  const service = await start({ IDLE_SECONDS: 5 });
  const { code, reason } = await raw(service).closed;
  assert.deepEqual({ code, reason }, { code: 4000, reason: 'no heartbeat' });
  await service.kill();
});

test('a client that does not read what SQL sends is disconnected with a reason, and the others go on', async () => {
  const service = await start({ BACKLOG: 16, MESSAGES_PER_SECOND: 10_000 });
  const room = `slow-${randomUUID()}`;
  const [slow, quick] = await Promise.all([raw(service).opened, raw(service).opened]);
  for (const socket of [slow, quick]) await socket.ask(publicJoin(`realtime:${room}`));
  slow.socket.pause();
  const text = 'x'.repeat(100_000);
  await until(
    'the slow one to be dropped',
    async () => {
      await Promise.all(Array.from({ length: 5 }, () => sendFromSql(room, 'e', { text }, false)));
      return (await service.metric('kijko_realtime_refused_total{reason="slow"}')) === 1;
    },
    { everyMs: 20 },
  );
  slow.socket.resume();
  await slow.closed;
  const before = quick.received.length;
  await sendFromSql(room, 'last', {}, false);
  await until('the quick one to go on', () => quick.received.length > before);
  await service.kill();
});

const publicJoin = (topic, config = {}) => ({ join_ref: '1', ref: '1', topic, event: 'phx_join', payload: { config } });
const broadcast = (topic, event, payload) => ({ join_ref: '1', ref: '2', topic, event: 'broadcast', payload: { event, payload } });

test('names that a client makes up have a limit, and so has a frame', async () => {
  const topic = `realtime:names-${randomUUID()}`;
  const service = await start({});
  const socket = await raw(service).opened;
  const key = (length) => ({ presence: { enabled: true, key: 'k'.repeat(length) } });
  const refused = await socket.ask({ ...publicJoin(topic, key(256)), ref: 'long' });
  assert.match(refused.payload.response.reason, /^payload_size_exceeded/);
  assert.equal((await socket.ask(publicJoin(topic, { ...key(255), broadcast: { ack: true } }))).payload.status, 'ok');
  const answers = [];
  for (const [ref, event, bytes] of [
    ['a', 'e'.repeat(256), 1],
    ['b', 'e'.repeat(255), 262_000],
    ['c', 'e'.repeat(255), 1_000],
  ])
    answers.push((await socket.ask({ ...broadcast(topic, event, { x: 'x'.repeat(bytes) }), ref })).payload);
  assert.deepEqual(
    answers.map(({ status, response }) => response.reason ?? status),
    ['payload_size_exceeded', 'payload_size_exceeded', 'ok'],
  );
  socket.send(broadcast(topic, 'e', 'x'.repeat(300_000)));
  assert.equal((await socket.closed).code, 1009);
  for (const field of ['join_ref', 'ref']) {
    const other = await raw(service).opened;
    other.send({ ...publicJoin(topic), [field]: 'r'.repeat(65) });
    assert.equal((await other.closed).code, 1003, field);
  }
  await service.kill();
});

test('what waits for a client that does not read has a limit in bytes', async () => {
  const service = await start({ BACKLOG: 65_536 });
  const room = `bytes-${randomUUID()}`;
  const slow = await raw(service).opened;
  await slow.ask(publicJoin(`realtime:${room}`));
  slow.socket.pause();
  const text = 'x'.repeat(200_000);
  let sent = 0;
  await until(
    'the slow one to be dropped',
    async () => {
      for (let n = 0; n < 5; n += 1, sent += 1) await sendFromSql(room, 'e', { text }, false);
      return (await service.metric('kijko_realtime_refused_total{reason="slow"}')) === 1;
    },
    { everyMs: 20 },
  );
  assert.ok(sent < 1_000, `${sent} messages waited`);
  slow.socket.resume();
  await slow.closed;
  await service.kill();
});

test('what a member sends costs no other member its connection, or the messages of others', async () => {
  const service = await start({ MESSAGES_PER_SECOND: 10_000, PRESENCE_PER_SECOND: 10_000 });
  const room = `flood-${randomUUID()}`;
  const topic = `realtime:${room}`;
  const from = (address) => raw(service, { headers: { 'X-Forwarded-For': address } });
  const [slow, hostile, another, colleague] = await Promise.all(
    ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4'].map((address) => from(address).opened),
  );
  await slow.ask(publicJoin(topic, { presence: { enabled: true, key: 'slow' } }));
  for (const socket of [hostile, another, colleague]) await socket.ask(publicJoin(topic));
  slow.socket.pause();
  // More than the systems between keep for a client that does not read.
  const text = 'x'.repeat(200_000);
  for (const socket of [hostile, another]) {
    for (let n = 0; n < 100; n += 1) socket.send(broadcast(topic, 'flood', { text }));
    for (let n = 0; n < 50; n += 1) socket.send(presence(topic, 'flood', { n, text }));
    await socket.ask({ ...presence(topic, 'last', { n: 'last' }), ref: 'last' });
  }
  for (let n = 0; n < 5; n += 1) colleague.send(broadcast(topic, 'colleague', { n }));
  await colleague.ask(presence(topic, 'here', { n: 'colleague' }));
  await sendFromSql(room, 'product', { n: 1 }, false);
  await until('all to be sent', async () => (await service.metric('kijko_realtime_from_sql_total')) >= 1);
  slow.socket.resume();
  await until('the message of the product', () => named(slow, 'product').length === 1);
  assert.equal(named(slow, 'colleague').length, 5);
  const floods = named(slow, 'flood').length;
  assert.ok(floods > 0 && floods < 200, `${floods} of the flood came`);
  const lost = slow.received.filter(({ event, payload }) => event === 'system' && payload.message.startsWith('MessagesLost: '));
  assert.ok(lost.length > 0 && lost.length < 10, `it was told ${lost.length} times`);
  // Who is there is right again, whatever differences were lost.
  await until('everybody to be present', () => {
    const present = presentOf(slow);
    return present.length === 3 && ['last', 'last', 'colleague'].every((n) => present.includes(n));
  });
  assert.ok(slow.socket.readyState === 1, 'it is still connected');
  await slow.close();
  await service.kill();
});

test('a client that fills its own queue and does not read is closed after the idle time', async () => {
  const service = await start({ IDLE_SECONDS: 5, MESSAGES_PER_SECOND: 10_000 });
  const topic = `realtime:idle-${randomUUID()}`;
  const socket = await raw(service).opened;
  await socket.ask(publicJoin(topic, { broadcast: { self: true } }));
  socket.socket.pause();
  for (let n = 0; n < 100; n += 1) socket.send(broadcast(topic, 'e', { text: 'x'.repeat(200_000) }));
  await until('the socket to be closed', async () => (await service.metric('kijko_realtime_sockets')) === 0);
  await service.kill();
});

const presence = (topic, ref, payload) => ({
  join_ref: '1',
  ref,
  topic,
  event: 'presence',
  payload: { type: 'presence', event: 'track', payload },
});
/** Broadcasts with this name. */
const named = (socket, name) =>
  socket.received.filter((one) =>
    Buffer.isBuffer(one) ? one.includes(name) && !one.includes('"status"') : one.event === 'broadcast' && one.payload.event === name,
  );
/** What those who are present say, as a client merges states and differences. */
function presentOf(socket) {
  let present = new Map();
  const put = (entries, change) => {
    for (const { metas } of Object.values(entries)) for (const meta of metas) change(meta);
  };
  for (const { event, payload } of socket.received) {
    if (event === 'presence_state') present = new Map();
    if (event === 'presence_state') put(payload, (meta) => present.set(meta.phx_ref, meta.n));
    if (event !== 'presence_diff') continue;
    put(payload.leaves, (meta) => present.delete(meta.phx_ref));
    put(payload.joins, (meta) => present.set(meta.phx_ref, meta.n));
  }
  return [...present.values()];
}
const answerOf = ({ payload: { status, response } }) => response.reason?.split(':')[0] ?? status;

test('what a socket says of itself has a limit for all its channels, and a channel for all who are present', async () => {
  const service = await start({ PRESENCE_PER_SECOND: 1_000 });
  const topics = [1, 2].map((n) => `realtime:presence-${n}-${randomUUID()}`);
  const large = { text: 'x'.repeat(200_000) };
  const first = await raw(service).opened;
  for (const [n, topic] of topics.entries()) await first.ask({ ...publicJoin(topic), ref: `join-${n}` });
  assert.equal(answerOf(await first.ask(presence(topics[0], 'a', large))), 'ok');
  assert.equal(answerOf(await first.ask(presence(topics[1], 'b', large))), 'payload_size_exceeded');
  // It may say something else, and what it takes back makes room.
  assert.equal(answerOf(await first.ask(presence(topics[0], 'c', { n: 1 }))), 'ok');
  assert.equal(answerOf(await first.ask(presence(topics[1], 'd', large))), 'ok');
  const leave = { join_ref: '1', ref: 'leave', topic: topics[1], event: 'phx_leave' };
  assert.equal(answerOf(await first.ask(leave)), 'ok');

  const answers = [];
  for (let n = 0; n < 12; n += 1) {
    const socket = await raw(service).opened;
    await socket.ask(publicJoin(topics[0]));
    answers.push(answerOf(await socket.ask(presence(topics[0], '2', large))));
  }
  assert.deepEqual([...new Set(answers)], ['ok', 'PresenceFull']);
  assert.equal(answers.indexOf('PresenceFull'), 10, `${answers}`);
  // Who comes then still learns who is there.
  const last = await raw(service).opened;
  await last.ask(publicJoin(topics[0], { presence: { enabled: true, key: 'last' } }));
  const state = await until('the state', () => last.received.find(({ event }) => event === 'presence_state'));
  assert.equal(Object.values(state.payload).flatMap(({ metas }) => metas).length, 11);
  await service.kill();
});

test('new tokens are counted as joins are', async () => {
  const service = await start({ JOINS_PER_SECOND: 1 });
  const topic = `realtime:tokens-${randomUUID()}`;
  const socket = await raw(service).opened;
  await socket.ask(publicJoin(topic));
  for (let n = 0; n < 30; n += 1)
    socket.send({ join_ref: '1', ref: '2', topic, event: 'access_token', payload: { access_token: people[n % 2].token } });
  await until('the channel to be ended', () => socket.received.some(({ event }) => event === 'phx_error'));
  const reasons = socket.received.filter(({ event }) => event === 'system').map(({ payload }) => payload.message.split(':')[0]);
  assert.deepEqual(reasons, ['ClientJoinRateLimitReached']);
  await service.kill();
});

test('guessed keys are counted for their network before the database is asked, and right ones are not', async () => {
  const service = await start({ JOINS_PER_SECOND: 1 });
  const statuses = async (path, token, address) => {
    const asks = Array.from({ length: 20 }, async (_, n) => {
      const headers = { Authorization: `Bearer ${token(n)}`, 'X-Forwarded-For': address, 'Content-Type': 'application/json' };
      const answer = await fetch(`${service.url}/api/broadcast${path}`, { method: 'POST', headers, body: '{"messages": []}' });
      await answer.text();
      return answer.status;
    });
    return [...new Set(await Promise.all(asks))].sort();
  };
  let address = 10;
  for (const guess of [(n) => `guess-${n}`, (n) => `ey.${n}.x`, (n) => `kjk_live_${String(n).padStart(38, '0')}`])
    for (const path of ['', '/guess/events/e']) {
      address += 1;
      assert.equal((await statuses(path, guess, `192.0.2.${address}`))[0], 401);
      await until('a guess to be refused at once', async () => (await statuses(path, guess, `192.0.2.${address}`)).includes(429));
    }
  for (const path of ['', '/right/events/e']) assert.deepEqual(await statuses(path, () => people[0].token, '192.0.2.99'), [202]);
  await service.kill();
});

test('attempts to read events are counted as those to open a socket are', async () => {
  const service = await start({ JOINS_PER_SECOND: 1 });
  const statuses = async (headers) => {
    const asks = Array.from({ length: 20 }, async (_, n) => {
      const answer = await fetch(`${service.url}/events?topic=nobodys-${n}`, { headers });
      await answer.body.cancel();
      return answer.status;
    });
    return [...new Set(await Promise.all(asks))].sort();
  };
  assert.deepEqual(await statuses({ Authorization: 'Bearer guess', 'X-Forwarded-For': '192.0.2.9' }), [401, 429]);
  // Private topics cost their caller a join, whatever the address.
  const addresses = Array.from({ length: 20 }, (_, n) => `192.0.2.${100 + n}`);
  const asked = addresses.map(async (address) => {
    const headers = { Authorization: `Bearer ${people[0].token}`, 'X-Forwarded-For': address };
    const answer = await fetch(`${service.url}/events?topic=nobodys`, { headers });
    await answer.body.cancel();
    return answer.status;
  });
  assert.deepEqual([...new Set(await Promise.all(asked))].sort(), [403, 429]);
  await service.kill();
});

test('a message that comes in parts must be whole within the idle time, and few may come at once', async () => {
  const service = await start({ IDLE_SECONDS: 5 });
  const from = (address) => raw(service, { headers: { 'X-Forwarded-For': address } }).opened;
  const part = (socket, bytes) => socket.socket.send('x'.repeat(bytes), { fin: false });
  // Pings do not prolong it.
  const slow = await from('192.0.2.1');
  part(slow, 30_000);
  const pings = setInterval(() => slow.socket.ping(), 200);
  const ended = await slow.closed;
  clearInterval(pings);
  assert.deepEqual(ended, { code: 4408, reason: 'a message took too long' });

  const sockets = await Promise.all(Array.from({ length: 70 }, () => from('192.0.2.2')));
  for (const socket of sockets) part(socket, 30_000);
  const codes = [];
  for (const socket of sockets) socket.closed.then(({ code }) => codes.push(code));
  await until('those beyond the share to be closed', () => codes.filter((code) => code === 4429).length === 6);
  // A caller has fewer, so that a member leaves room for colleagues.
  const ofPerson = (n) => raw(service, { key: people[0].token, headers: { 'X-Forwarded-For': `192.0.2.${10 + n}` } }).opened;
  const own = await Promise.all(Array.from({ length: 10 }, (_, n) => ofPerson(n)));
  const ofCaller = [];
  for (const socket of own) {
    part(socket, 30_000);
    socket.closed.then(({ code }) => ofCaller.push(code));
  }
  await until('those of a caller beyond its share to be closed', () => ofCaller.filter((code) => code === 4429).length === 2);
  // A large one that is whole counts no longer.
  const other = await from('192.0.2.3');
  for (let n = 0; n < 3; n += 1) {
    other.socket.send(`[null,"${n}","phoenix","heartbeat",{"x":"`, { fin: false });
    part(other, 100_000);
    other.socket.send('"}]', { fin: true });
    await until('its answer', () => other.received.some(({ ref }) => ref === `${n}`));
  }
  await service.kill();
});
