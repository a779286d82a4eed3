// Who stops receiving, and when: removed members, ended sessions, revoked keys; `me`; API keys that subscribe.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKey } from './api_keys_support.mjs';
import { newPerson, newTeam, ok, until } from './domain.mjs';
import {
  broadcasts,
  closeClients,
  dropRoomPolicies,
  joined,
  newRoom,
  RawSocket,
  realtimeClient,
  refusedJoin,
  roomPolicies,
  sendFromSql,
} from './realtime_support.mjs';
import { sql } from './support.mjs';

before(roomPolicies);
after(async () => {
  await closeClients();
  await dropRoomPolicies();
});

const clientOf = (person) => realtimeClient({ token: async () => person.token });

/** The channel ends for good, with a reason, and what is sent then does not arrive. */
async function endsFor(log, room, reason) {
  await until('the channel to end', () => log.states.some(({ status }) => status === 'CLOSED'));
  assert.match(log.system.at(-1).message, reason);
  const before = log.broadcasts.length;
  await sendFromSql(room, 'secret', {});
  await sleep(300);
  assert.equal(log.broadcasts.length, before);
}

describe('who loses access stops receiving at once', () => {
  test('a removed member, also on `me`; the others go on', async () => {
    const team = await newTeam();
    const room = newRoom(team.orgId);
    const [leaving, staying] = [
      await joined(clientOf(team.member), room, { private: true }),
      await joined(clientOf(team.viewer), room, { private: true }),
    ];
    const me = await joined(clientOf(team.member), 'me', { private: true });
    await sendFromSql(room, 'all', { n: 1 });
    await Promise.all([broadcasts(leaving, 1), broadcasts(staying, 1)]);
    await ok(team.owner.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', team.member.user.id));
    await endsFor(leaving, room, /^Unauthorized: /);
    // Notifications come at any time in between.
    const ready = () => me.broadcasts.filter(({ event }) => event === 'connection_ready');
    await until('me to leave the organization', () => ready().length > 1);
    assert.equal(ready().at(-1).payload.org_ids.includes(team.orgId), false);
    await sendFromSql(`org:${team.orgId}`, 'secret', {});
    await broadcasts(staying, 2);
    assert.equal(
      me.broadcasts.some(({ event }) => event === 'secret'),
      false,
    );
  });

  test('a session that ended', async () => {
    const person = await newPerson();
    const room = newRoom(person.orgId);
    const log = await joined(clientOf(person), room, { private: true });
    const open = await joined(clientOf(person), `public-${room}`);
    assert.equal((await person.client.auth.signOut({ scope: 'global' })).error, null);
    await endsFor(log, room, /^SessionEnded: /);
    await until('the public channel to end', () => open.states.some(({ status }) => status === 'CLOSED'));
    assert.match(await refusedJoin(clientOf(person), room), /^SessionEnded: /);
    const { code, reason } = await new RawSocket({ key: person.token }).closed;
    assert.deepEqual([code, /^Unauthorized/.test(reason)], [4401, true]);
  });

  test('a key that expires, also on a public channel', async () => {
    const person = await newPerson();
    const room = newRoom(person.orgId);
    // A busy machine may take longer than a key lives.
    const joinedBefore = async (seconds) => {
      const key = await createKey(person, {
        name: `${seconds} seconds`,
        permissions: ['content:read'],
        expires_at: new Date(Date.now() + seconds * 1000).toISOString(),
      });
      const client = realtimeClient({ token: async () => key.secret });
      try {
        return [await joined(client, room, { private: true }), await joined(client, `public-${room}`)];
      } catch (error) {
        if (seconds > 60) throw error;
        await client.removeAllChannels();
        return joinedBefore(seconds * 4);
      }
    };
    for (const log of await joinedBefore(3)) {
      await until('the channel to end', () => log.system.some(({ message }) => /^InvalidApiKey: /.test(message)));
      await log.channel.unsubscribe();
    }
  });

  test('a key that was revoked, and its socket', async () => {
    const person = await newPerson();
    const key = await createKey(person, { permissions: ['content:read'] });
    const room = newRoom(person.orgId);
    const byToken = await joined(realtimeClient({ token: async () => key.secret }), room, { private: true });
    const byKey = await joined(realtimeClient({ key: key.secret }), room, { private: true });
    const raw = await new RawSocket({ key: key.secret }).opened;
    await sendFromSql(room, 'e', { n: 1 });
    await Promise.all([broadcasts(byToken, 1), broadcasts(byKey, 1)]);
    await ok(person.client.rpc('revoke_api_key', { id: key.id }));
    await endsFor(byToken, room, /^(SessionEnded|InvalidApiKey)/);
    const { code } = await raw.closed;
    assert.equal(code, 4401);
    assert.equal((await new RawSocket({ key: key.secret }).closed).code, 4401);
  });
});

describe('a client that does not read', () => {
  const join = (topic, config, token) => ({
    join_ref: topic.slice(-8),
    ref: topic.slice(-8),
    topic: `realtime:${topic}`,
    event: 'phx_join',
    payload: { config, access_token: token },
  });
  /** A socket whose own messages fill its queue, so that the service waits for it. */
  async function crowded(prepare = async () => {}) {
    const raw = await new RawSocket().opened;
    const own = `own-${randomUUID()}`;
    await raw.ask(join(own, { broadcast: { self: true } }));
    await prepare(raw);
    raw.socket.pause();
    for (let n = 0; n < 60; n += 1) {
      const payload = { event: 'own', payload: { text: 'x'.repeat(200_000) } };
      raw.send({ join_ref: own.slice(-8), ref: 'x', topic: `realtime:${own}`, event: 'broadcast', payload });
      await sleep(15);
    }
    return raw;
  }
  const secrets = (raw) => raw.received.filter((one) => one.toString('latin1').includes('secret') || one.payload?.event === 'secret');
  /** The service knows that the member is gone once a client of theirs that reads has lost its channel. */
  const knows = (reading) => until('the channel of one that reads to end', () => reading.states.some(({ status }) => status === 'CLOSED'));
  const removed = (team) => ok(team.owner.client.from('memberships').delete().eq('org_id', team.orgId).eq('user_id', team.member.user.id));

  test('loses what waits, and gets nothing more, when its access ends', async () => {
    const team = await newTeam();
    const room = newRoom(team.orgId);
    const staying = await joined(clientOf(team.viewer), room, { private: true });
    const reading = await joined(clientOf(team.member), room, { private: true });
    const raw = await crowded(async (socket) => {
      const { payload } = await socket.ask(join(room, { private: true }, team.member.token));
      assert.equal(payload.status, 'ok');
    });
    await sendFromSql(room, 'secret', { n: 1 });
    await broadcasts(staying, 1);
    await removed(team);
    await knows(reading);
    await sleep(1_500);
    await sendFromSql(room, 'secret', { n: 2 });
    await broadcasts(staying, 2);
    raw.socket.resume();
    await until('the channel to end', () => raw.received.some(({ event, topic }) => event === 'phx_close' && topic === `realtime:${room}`));
    assert.deepEqual(secrets(raw), []);
    await raw.close();
  });

  test('loses its channel during a replay', async () => {
    const team = await newTeam();
    const room = newRoom(team.orgId);
    const text = 'y'.repeat(50_000);
    for (let n = 0; n < 200; n += 1) await sendFromSql(room, 'past', { n, text });
    const reading = await joined(clientOf(team.member), room, { private: true });
    const raw = await new RawSocket().opened;
    raw.socket.pause();
    const config = { private: true, broadcast: { replay: { since: Date.now() - 3_600_000, limit: 1_000 } } };
    raw.send(join(room, config, team.member.token));
    await sleep(1_500);
    await removed(team);
    await knows(reading);
    await sleep(1_500);
    await sendFromSql(room, 'secret', {});
    raw.socket.resume();
    await until('the channel to end', () => raw.received.some(({ event, topic }) => event === 'phx_close' && topic === `realtime:${room}`));
    await sendFromSql(room, 'secret', {});
    await sleep(300);
    assert.deepEqual(secrets(raw), []);
    await raw.close();
  });
});

describe('me', () => {
  test('is for a signed-in user or a key', async () => {
    assert.match(await refusedJoin(realtimeClient(), 'me'), /^Unauthorized: /);
  });

  test('joins the caller’s user and organizations, says which, and says from where a message is', async () => {
    const team = await newTeam();
    const me = await joined(clientOf(team.owner), 'me', { private: true });
    const [ready] = await broadcasts(me, 1);
    assert.equal(me.broadcasts[0].event, 'connection_ready');
    assert.equal(ready.user_id, team.owner.user.id);
    const orgs = await sql('select org_id from public.memberships where user_id = $1', [team.owner.user.id]);
    assert.deepEqual([...ready.org_ids].sort(), orgs.map(({ org_id }) => org_id).sort());
    await sendFromSql(`org:${team.orgId}`, 'to_all', { n: 1 });
    await sendFromSql(`user:${team.owner.user.id}`, 'to_me', { n: 2 });
    await sendFromSql(`user:${team.member.user.id}`, 'to_another', { n: 3 });
    await until('both', () => ['to_all', 'to_me'].every((event) => me.broadcasts.some((one) => one.event === event)));
    const topics = Object.fromEntries(me.broadcasts.map(({ event, meta }) => [event, meta?.topic]));
    assert.equal(topics.to_all, `org:${team.orgId}`);
    assert.equal(topics.to_me, `user:${team.owner.user.id}`);
    assert.equal('to_another' in topics, false);
  });

  test('follows a new membership', async () => {
    const person = await newPerson();
    const me = await joined(clientOf(person), 'me', { private: true });
    await broadcasts(me, 1);
    const organization = await ok(person.client.rpc('create_organization', { name: 'Later' }));
    await until('the organization', () =>
      me.broadcasts.some(({ event, payload }) => event === 'connection_ready' && payload.org_ids.includes(organization.id)),
    );
    await sendFromSql(`org:${organization.id}`, 'later', { n: 1 });
    await until('its message', () => me.broadcasts.some(({ event }) => event === 'later'));
  });

  test('only receives', async () => {
    const person = await newPerson();
    const { channel } = await joined(clientOf(person), 'me', { private: true, broadcast: { ack: true } });
    assert.notEqual(await channel.send({ type: 'broadcast', event: 'forged', payload: {} }, { timeout: 500 }), 'ok');
    assert.equal(await channel.track({}), 'error');
  });
});

test('nobody forges an event of the product: users have no right to send on its topics', async () => {
  const person = await newPerson();
  const key = await createKey(person, { permissions: ['*:write'] });
  for (const topic of [`org:${person.orgId}`, `user:${person.user.id}`]) {
    const log = await joined(clientOf(person), topic, { private: true, broadcast: { ack: true } });
    assert.equal(await log.channel.send({ type: 'broadcast', event: 'forged', payload: {} }), 'error');
    assert.equal(await log.channel.track({}), 'error');
    for (const token of [person.token, key.secret]) {
      const other = realtimeClient({ token: async () => token }).channel(topic, { config: { private: true } });
      await other.httpSend('forged', {}).catch(() => {});
      await other.send({ type: 'broadcast', event: 'forged', payload: {} });
    }
    await sendFromSql(topic, 'real', {});
    await until('the real one', () => log.broadcasts.some(({ event }) => event === 'real'));
    assert.equal(
      log.broadcasts.some(({ event }) => event === 'forged'),
      false,
    );
  }
});
