// Channels as supabase-js uses them, in both versions that are supported: join, broadcast, presence, tokens, refusals.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newPerson, until } from './domain.mjs';
import {
  broadcasts,
  CLIENTS,
  closeClients,
  dropRoomPolicies,
  joined,
  newRoom,
  present,
  RawSocket,
  realtimeClient,
  recorder,
  refusedJoin,
  roomPolicies,
  sendFromSql,
  subscribe,
} from './realtime_support.mjs';
import { adminSql, env, sql } from './support.mjs';

let ada;
let bob;
const tokenOf = (person) => async () => person.token;

before(async () => {
  await roomPolicies();
  [ada, bob] = await Promise.all([newPerson(), newPerson()]);
});
after(async () => {
  await closeClients();
  await dropRoomPolicies();
});

for (const [version, create] of Object.entries(CLIENTS)) {
  describe(`supabase-js, ${version}`, () => {
    const clientOf = (person, options) => realtimeClient({ token: person ? tokenOf(person) : undefined, create, ...options });

    test('who is no member of a room cannot join it, whatever the topic is called', async () => {
      const room = newRoom(ada.orgId);
      for (const [caller, topic] of [
        [null, room],
        [bob, room],
        [bob, newRoom(randomUUID())],
        [bob, `journey:${ada.orgId}`],
        [bob, `org:${ada.orgId}`],
        [bob, `user:${ada.user.id}`],
        [bob, `execution:${randomUUID()}`],
        [bob, `project:${randomUUID()}`],
        [bob, '%'],
        [bob, '*'],
        [bob, `journey:${bob.orgId}' or true --`],
      ]) {
        const reason = await refusedJoin(clientOf(caller), topic);
        assert.match(reason, /^(Unauthorized|RlsPolicyError): /, topic);
      }
    });

    test('what is sent to a room reaches its members and nobody else, not even on a public channel of its name', async () => {
      const room = newRoom(ada.orgId);
      const inside = await joined(clientOf(ada), room, { private: true });
      const outside = await joined(clientOf(bob), room);
      await sendFromSql(room, 'news', { n: 1 });
      await outside.channel.send({ type: 'broadcast', event: 'forged', payload: { n: 2 } });
      await sendFromSql(room, 'news', { n: 3 });
      const got = await broadcasts(inside, 2);
      await sleep(200);
      assert.deepEqual(
        got.map(({ n }) => n),
        [1, 3],
      );
      assert.deepEqual(outside.broadcasts, []);
    });

    test('a broadcast reaches the others; with self also the sender; with ack it is answered', async () => {
      const room = newRoom(ada.orgId);
      const sender = await joined(clientOf(ada), room, { private: true, broadcast: { ack: true, self: true } });
      const quiet = await joined(clientOf(ada), room, { private: true });
      assert.equal(await sender.channel.send({ type: 'broadcast', event: 'move', payload: { x: 1.5, text: 'ä€😀' } }), 'ok');
      assert.equal(await quiet.channel.send({ type: 'broadcast', event: 'back', payload: {} }), 'ok');
      const [first] = await broadcasts(quiet, 1);
      assert.deepEqual(first, { x: 1.5, text: 'ä€😀' });
      await broadcasts(sender, 2);
      await sleep(200);
      assert.deepEqual(
        sender.broadcasts.map(({ event }) => event),
        ['move', 'back'],
      );
      assert.deepEqual(
        quiet.broadcasts.map(({ event }) => event),
        ['move'],
        'not to itself',
      );
    });

    test('who may read but not write is refused, and nobody hears of it', async () => {
      const room = `journey:${ada.orgId}:read-only`;
      const reader = await joined(clientOf(ada), room, { private: true, broadcast: { ack: true } });
      const other = await joined(clientOf(ada), room, { private: true });
      assert.equal(await reader.channel.send({ type: 'broadcast', event: 'forged', payload: {} }), 'error');
      assert.equal(await reader.channel.track({ n: 1 }), 'error');
      await sleep(200);
      assert.deepEqual(other.broadcasts, []);
    });

    test('presence comes and goes', async () => {
      const room = newRoom(ada.orgId);
      const clients = [clientOf(ada), clientOf(ada)];
      const [first, second] = ['first', 'second'].map((key, at) => {
        const channel = clients[at].channel(room, { config: { private: true, presence: { key } } });
        const log = { channel, joins: [], leaves: [], syncs: 0 };
        channel
          .on('presence', { event: 'sync' }, () => {
            log.syncs += 1;
          })
          .on('presence', { event: 'join' }, ({ key: who }) => log.joins.push(who))
          .on('presence', { event: 'leave' }, ({ key: who }) => log.leaves.push(who));
        return log;
      });
      assert.equal((await subscribe(first.channel)).status, 'SUBSCRIBED');
      await until('the state, also of an empty room', () => first.syncs > 0);
      assert.equal(await first.channel.track({ at: 'door' }), 'ok');
      assert.equal((await subscribe(second.channel)).status, 'SUBSCRIBED');
      await until('the state', () => Object.keys(second.channel.presenceState()).length === 1);
      assert.equal(second.channel.presenceState().first[0].at, 'door');
      assert.equal(await second.channel.track({ at: 'desk' }), 'ok');
      await until('the second to join', () => first.joins.includes('second'));
      await clients[1].removeAllChannels();
      await until('the second to leave', () => first.leaves.includes('second'));
      assert.deepEqual(Object.keys(first.channel.presenceState()), ['first']);
      assert.equal(await first.channel.untrack(), 'ok');
      await until('nobody', () => Object.keys(first.channel.presenceState()).length === 0);
    });

    test('a socket that is lost leaves', async () => {
      const room = newRoom(ada.orgId);
      const watching = await present(clientOf(ada), room, 'watcher', { private: true });
      const lost = clientOf(ada);
      const leaving = await present(lost, room, 'ghost', { private: true });
      await leaving.channel.track({});
      await until('the ghost', () => watching.channel.presenceState().ghost);
      lost.sockets.at(-1).terminate();
      await until('the ghost to go', () => !watching.channel.presenceState().ghost, { everyMs: 5 });
    });

    test('a renewed token keeps the channel; one that may not read ends it and says why', async () => {
      const room = newRoom(ada.orgId);
      const client = clientOf(ada);
      const log = await joined(client, room, { private: true });
      await client.realtime.setAuth(bob.token);
      await until('the channel to end', () => log.states.some(({ status }) => status === 'CLOSED'));
      assert.match(log.system.at(-1).message, /^Unauthorized/);
      await sendFromSql(room, 'late', {});
      await sleep(200);
      assert.deepEqual(log.broadcasts, []);
    });

    test('an expired token ends the channel so that the client joins again by itself', async () => {
      const room = newRoom(ada.orgId);
      const [{ token: short }] = await adminSql(
        `select kijko.sign_jwt(kijko.verify_jwt($1) || jsonb_build_object('exp', floor(extract(epoch from now()))::bigint + 8)) as token`,
        [ada.token],
      );
      let current = short;
      const client = realtimeClient({ token: async () => current, create, heartbeatIntervalMs: 1_000 });
      const log = await joined(client, room, { private: true });
      await until('the channel to end', () => log.states.some(({ status }) => status === 'CHANNEL_ERROR'));
      assert.match(log.system.at(-1).message, /expired/);
      // As after a tab has slept: the client asks for its token at the next heartbeat.
      current = ada.token;
      await until('the channel to come back', () => log.states.at(-1).status === 'SUBSCRIBED');
      await sendFromSql(room, 'back', { n: 1 });
      assert.equal((await broadcasts(log, 1))[0].n, 1);
    });

    test('postgres_changes are refused, and the refusal says what to do', async () => {
      const channel = clientOf(ada).channel(`changes-${randomUUID()}`);
      channel.on('postgres_changes', { event: '*', schema: 'public', table: 'skills' }, () => {});
      const { status, reason } = await subscribe(channel);
      assert.equal(status, 'CHANNEL_ERROR');
      assert.match(reason, /^"?PostgresChangesNotServed: .*broadcast_changes/);
    });

    test('channel.send() before the join goes over HTTP, and channel.httpSend() too', async () => {
      const topic = `public-${randomUUID()}`;
      const listener = await joined(clientOf(null), topic);
      const sender = clientOf(null).channel(topic);
      assert.equal(await sender.send({ type: 'broadcast', event: 'rest', payload: { n: 1 } }), 'ok');
      assert.deepEqual(await broadcasts(listener, 1), [{ n: 1 }]);
      if (!sender.httpSend) return;
      assert.equal((await sender.httpSend('http', { n: 2 })).success, true);
      assert.deepEqual((await broadcasts(listener, 2))[1], { n: 2 });
    });
  });
}

test('a later join of a topic on the same socket closes the earlier one', async () => {
  const socket = await new RawSocket().opened;
  const topic = `realtime:twice-${randomUUID()}`;
  for (const ref of ['1', '2']) {
    const reply = await socket.ask({ join_ref: ref, ref, topic, event: 'phx_join', payload: { config: {} } });
    assert.deepEqual(reply.payload, { status: 'ok', response: { postgres_changes: [] } });
  }
  const close = socket.received.find(({ event }) => event === 'phx_close');
  assert.equal(close.join_ref, '1');
  const left = await socket.ask({ join_ref: '2', ref: '3', topic, event: 'phx_leave' });
  assert.equal(left.payload.status, 'ok');
  await socket.close();
});

for (const vsn of ['1.0.0', '2.0.0', null]) {
  test(`serializer ${vsn}: heartbeat, join, broadcast`, async () => {
    const [socket, other] = await Promise.all([new RawSocket({ vsn }).opened, new RawSocket({ vsn: '2.0.0' }).opened]);
    const beat = await socket.ask({ ref: '7', topic: 'phoenix', event: 'heartbeat' });
    assert.deepEqual(beat, { join_ref: null, ref: '7', topic: 'phoenix', event: 'phx_reply', payload: { status: 'ok', response: {} } });
    const topic = `realtime:raw-${randomUUID()}`;
    await socket.ask({ join_ref: '1', ref: '1', topic, event: 'phx_join', payload: { config: {} } });
    await other.ask({ join_ref: '1', ref: '1', topic, event: 'phx_join', payload: { config: {} } });
    const payload = { type: 'broadcast', event: 'move', payload: { x: 1 } };
    other.send({ join_ref: '1', ref: '2', topic, event: 'broadcast', payload });
    socket.send({ join_ref: '1', ref: '2', topic, event: 'broadcast', payload });
    const frame = await until('the broadcast', () => other.received.find(Buffer.isBuffer));
    const name = Buffer.from(`${topic}move`);
    assert.deepEqual(frame, Buffer.concat([Buffer.from([4, topic.length, 4, 0, 1]), name, Buffer.from('{"x":1}')]));
    const got = await until('the broadcast', () => socket.received.find((one) => Buffer.isBuffer(one) || one.event === 'broadcast'));
    if (vsn === '2.0.0') assert.deepEqual(got, frame);
    else assert.deepEqual(got, { topic, event: 'broadcast', payload, ref: null, join_ref: null });
    await Promise.all([socket.close(), other.close()]);
  });
}

test('bytes go from a client to a client', async () => {
  const [sender, receiver] = await Promise.all([new RawSocket().opened, new RawSocket().opened]);
  const topic = `realtime:bytes-${randomUUID()}`;
  for (const socket of [sender, receiver]) await socket.ask({ join_ref: '1', ref: '1', topic, event: 'phx_join', payload: { config: {} } });
  const head = (kind, lengths) => Buffer.from([kind, ...lengths]);
  const bytes = Buffer.from([0, 255, 128, 10]);
  sender.socket.send(Buffer.concat([head(3, [1, 1, topic.length, 4, 0, 0]), Buffer.from(`12${topic}blob`), bytes]));
  const frame = await until('the bytes', () => receiver.received.find(Buffer.isBuffer));
  assert.deepEqual(frame, Buffer.concat([head(4, [topic.length, 4, 0, 0]), Buffer.from(`${topic}blob`), bytes]));
  await Promise.all([sender.close(), receiver.close()]);
});

test('a socket without a valid key closes with a reason that a browser sees', async () => {
  for (const key of ['', 'not-a-token', 'kjk_live_wrong', `${env.ANON_KEY.slice(0, -4)}AAAA`]) {
    const { code, reason } = await new RawSocket({ key }).closed;
    assert.equal(code, 4401, key);
    assert.match(reason, /^Unauthorized: /);
  }
});

test('what is no message closes the socket; too much of it in a second is refused', async () => {
  const socket = await new RawSocket().opened;
  socket.socket.send('nonsense');
  assert.equal((await socket.closed).code, 1003);
  const busy = await new RawSocket().opened;
  const topic = `realtime:busy-${randomUUID()}`;
  await busy.ask({ join_ref: '1', ref: '1', topic, event: 'phx_join', payload: { config: { broadcast: { ack: true } } } });
  for (let n = 0; n < 1000; n += 1)
    busy.send({ join_ref: '1', ref: `${n + 10}`, topic, event: 'broadcast', payload: { event: 'e', payload: {} } });
  const refused = await until('a refusal', () => busy.received.find(({ payload }) => payload?.status === 'error'));
  assert.match(refused.payload.response.reason, /^MessagePerSecondRateLimitReached: /);
  await busy.close();
});

test('a broadcast that is too large is refused and does not end the socket', async () => {
  const log = await joined(realtimeClient(), `large-${randomUUID()}`, { broadcast: { ack: true } });
  const channel = log.channel;
  assert.equal(await channel.send({ type: 'broadcast', event: 'e', payload: { text: 'x'.repeat(270_000) } }), 'error');
  assert.equal(await channel.send({ type: 'broadcast', event: 'e', payload: { text: 'x' } }), 'ok');
});

test('presence that changes too often is refused and does not end the channel', async () => {
  const { channel, states } = await joined(realtimeClient(), `often-${randomUUID()}`, { presence: { key: 'me' } });
  const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => channel.track({ n })));
  assert.ok(answers.includes('error') && answers.includes('ok'));
  assert.deepEqual(
    states.map(({ status }) => status),
    ['SUBSCRIBED'],
  );
});

test('a policy that fails says so', async () => {
  await sql(`create policy journey_broken on realtime.messages for select to authenticated
    using (realtime.topic() = 'journey-broken' and 1 / (length(topic) - length(topic)) = 1)`);
  try {
    const reason = await refusedJoin(realtimeClient({ token: tokenOf(ada) }), 'journey-broken');
    assert.match(reason, /^RlsPolicyError: .*division by zero/);
  } finally {
    await sql('drop policy journey_broken on realtime.messages');
  }
});

test('a recorder of a public channel hears what SQL sends publicly, and not what it sends privately', async () => {
  const topic = `sql-${randomUUID()}`;
  const client = realtimeClient();
  const log = recorder(client.channel(topic));
  await subscribe(log.channel, log);
  await sendFromSql(topic, 'private', { n: 1 });
  await sendFromSql(topic, 'public', { n: 2 }, false);
  assert.equal((await broadcasts(log, 1))[0].n, 2);
  const [{ meta }] = log.broadcasts;
  const [row] = await sql('select id, event from realtime.messages where topic = $1 and not private', [topic]);
  assert.deepEqual(row, { id: meta.id, event: 'public' });
});
