// Limits of sockets: each refusal says which. A service of its own, with small ones.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { killRealtimeServices, RealtimeService } from '../realtime_service.mjs';
import { newPerson, newTeam, until } from './domain.mjs';
import { closeClients, joined, RawSocket, realtimeClient, refusedJoin, subscribe } from './realtime_support.mjs';

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

test('a client that does not read is disconnected with a reason, and the others go on', async () => {
  const service = await start({ BACKLOG: 16, MESSAGES_PER_SECOND: 10_000 });
  const topic = `realtime:slow-${randomUUID()}`;
  const [slow, quick, sender] = await Promise.all([raw(service).opened, raw(service).opened, raw(service).opened]);
  for (const socket of [slow, quick, sender])
    await socket.ask({ join_ref: '1', ref: '1', topic, event: 'phx_join', payload: { config: {} } });
  slow.socket.pause();
  const text = 'x'.repeat(100_000);
  await until(
    'the slow one to be dropped',
    async () => {
      for (let n = 0; n < 5; n += 1)
        sender.send({ join_ref: '1', ref: '2', topic, event: 'broadcast', payload: { event: 'e', payload: { text } } });
      return (await service.metric('kijko_realtime_refused_total{reason="slow"}')) === 1;
    },
    { everyMs: 20 },
  );
  slow.socket.resume();
  await slow.closed;
  const before = quick.received.length;
  sender.send({ join_ref: '1', ref: '2', topic, event: 'broadcast', payload: { event: 'last', payload: {} } });
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
  const service = await start({ BACKLOG: 65_536, MESSAGES_PER_SECOND: 10_000 });
  const topic = `realtime:bytes-${randomUUID()}`;
  const [slow, sender] = await Promise.all([raw(service).opened, raw(service).opened]);
  for (const socket of [slow, sender]) await socket.ask(publicJoin(topic));
  slow.socket.pause();
  const text = 'x'.repeat(200_000);
  let sent = 0;
  await until(
    'the slow one to be dropped',
    async () => {
      for (let n = 0; n < 5; n += 1, sent += 1) sender.send(broadcast(topic, 'e', { text }));
      return (await service.metric('kijko_realtime_refused_total{reason="slow"}')) === 1;
    },
    { everyMs: 20 },
  );
  assert.ok(sent < 1_000, `${sent} messages waited`);
  slow.socket.resume();
  await slow.closed;
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
