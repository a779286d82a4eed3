// Reports about realtime: large messages, presence that doubles or stays, tokens that end.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { claimsOf } from '../journeys/auth_support.mjs';
import { newTeam, until } from '../journeys/domain.mjs';
import {
  broadcasts,
  closeClients,
  dropRoomPolicies,
  joined,
  newRoom,
  present,
  RawSocket,
  realtimeClient,
  roomPolicies,
  sendFromSql,
  subscribe,
} from '../journeys/realtime_support.mjs';
import { newUser, sql } from '../journeys/support.mjs';
import { base64url } from '../journeys/tokens.mjs';
import { report } from './report.mjs';

let team;
before(async () => {
  team = await newTeam();
  await roomPolicies();
});
after(async () => {
  await closeClients();
  await dropRoomPolicies();
});

const clientOf = (person) => realtimeClient({ token: async () => person.token });
/** The sockets break off, and the client does not come back. */
function cutOff(client) {
  for (const socket of client.sockets) socket.terminate();
  client.realtime.disconnect();
}
const presence = (channel) =>
  Object.fromEntries(Object.entries(channel.presenceState()).map(([key, metas]) => [key, metas.map(({ presence_ref, ...rest }) => rest)]));

report('realtime-1', 'a message of more than 8,000 bytes is sent whole, and its transaction commits', async () => {
  const room = newRoom(team.orgId);
  const log = await joined(clientOf(team.member), room, { private: true });
  const sizes = [7_999, 8_000, 8_001, 40_000];
  for (const size of sizes) await sendFromSql(room, 'big', { size, text: 'é'.repeat(size / 2) });
  const payloads = await broadcasts(log, sizes.length);
  assert.deepEqual(
    payloads.map(({ size, text }) => [size, Buffer.byteLength(text)]),
    sizes.map((size) => [size, 2 * Math.floor(size / 2)]),
  );
});

report('realtime-2', 'a join is announced once, also to the client that joins', async () => {
  const room = newRoom(team.orgId);
  const joins = [];
  const watcher = clientOf(team.owner).channel(room, { config: { private: true, presence: { key: 'watcher', enabled: true } } });
  watcher.on('presence', { event: 'join' }, ({ key }) => joins.push(key));
  assert.equal((await subscribe(watcher)).status, 'SUBSCRIBED');
  const { channel } = await present(clientOf(team.member), room, 'member', { private: true });
  await channel.track({ at: 1 });
  await until('both to know that the member is present', () => presence(watcher).member && presence(channel).member);
  await sleep(500);
  assert.deepEqual([presence(watcher), presence(channel)], [{ member: [{ at: 1 }] }, { member: [{ at: 1 }] }]);
  assert.deepEqual(joins, ['member']);
});

report('realtime-3', 'a changed state replaces the former one, and goes with its socket', async () => {
  const room = newRoom(team.orgId);
  const watcher = await present(clientOf(team.owner), room, 'watcher', { private: true });
  const client = clientOf(team.member);
  const { channel } = await present(client, room, 'member', { private: true });
  for (const status of ['online', 'away', 'busy']) await channel.track({ status });
  await until('the last state', () => presence(watcher.channel).member?.some(({ status }) => status === 'busy'));
  assert.deepEqual(presence(watcher.channel), { member: [{ status: 'busy' }] });
  cutOff(client);
  await until('the member to be gone', () => !presence(watcher.channel).member);
});

report('realtime-4', 'a client that loses its connection and comes back is present once', async () => {
  const room = newRoom(team.orgId);
  const watcher = await present(clientOf(team.owner), room, 'watcher', { private: true });
  for (let n = 0; n < 3; n += 1) {
    const client = clientOf(team.member);
    const { channel } = await present(client, room, 'member', { private: true });
    await channel.track({ n });
    await until('to be present', () => presence(watcher.channel).member?.some((one) => one.n === n));
    if (n < 2) cutOff(client);
  }
  await until('the former ones to be gone', () => presence(watcher.channel).member?.length === 1);
  assert.deepEqual(presence(watcher.channel), { member: [{ n: 2 }] });
});

report('realtime-5', 'a client that tracks without listening is seen by those that listen', async () => {
  const room = newRoom(team.orgId);
  const watcher = await present(clientOf(team.owner), room, 'watcher', { private: true });
  const log = await joined(clientOf(team.member), room, { private: true, presence: { key: 'quiet', enabled: true } });
  await log.channel.track({ quiet: true });
  await until('the quiet one to be present', () => presence(watcher.channel).quiet);
  assert.deepEqual(presence(watcher.channel).quiet, [{ quiet: true }]);
});

report(
  'realtime-6',
  'a join with an expired token is refused with a reason, and one with a new token works on the same socket',
  async () => {
    const person = team.member;
    const [header, , signature] = person.token.split('.');
    const expired = [header, base64url({ ...claimsOf(person.token), exp: 1 }), signature].join('.');
    const socket = await new RawSocket().opened;
    const topic = `realtime:${newRoom(team.orgId)}`;
    const join = (ref, access_token) =>
      socket.ask({
        topic,
        event: 'phx_join',
        ref,
        join_ref: ref,
        payload: { config: { private: true, broadcast: {}, presence: {} }, access_token },
      });
    assert.equal((await join('1', expired)).payload.status, 'error');
    assert.equal((await join('2', person.token)).payload.status, 'ok');
    socket.close();
  },
);

report('realtime-7', 'a member who is removed from the organization receives nothing more, although the token is valid', async () => {
  const other = await newTeam();
  const room = newRoom(other.orgId);
  const log = await joined(clientOf(other.viewer), room, { private: true });
  await sendFromSql(room, 'before', { n: 1 });
  await broadcasts(log, 1);
  await sql('delete from public.memberships where org_id = $1 and user_id = $2', [other.orgId, other.viewer.user.id]);
  await until('the channel to end', async () => {
    await sendFromSql(room, 'after', { n: log.broadcasts.length });
    await sleep(200);
    return log.states.length > 1 || log.system.some(({ status }) => status === 'error');
  });
  const heard = log.broadcasts.length;
  await sendFromSql(room, 'after', { last: true });
  await sleep(1_000);
  assert.equal(log.broadcasts.length, heard);
  assert.ok(log.broadcasts.every(({ payload }) => payload.last !== true));
});

report('realtime-8', 'a topic that looks like a pattern or a name of ours is only a name', async () => {
  const stranger = await newUser();
  const client = realtimeClient({ token: async () => stranger.session.access_token });
  const logs = [];
  for (const topic of ['*', '%', `journey:${team.orgId}:*`, `journey:${team.orgId}:%`, `JOURNEY:${team.orgId}`, ` ${randomUUID()}`]) {
    logs.push(await joined(client, topic));
  }
  const room = newRoom(team.orgId);
  const member = await joined(clientOf(team.member), room, { private: true });
  await sendFromSql(room, 'secret', { secret: true });
  await broadcasts(member, 1);
  await sleep(500);
  assert.deepEqual(
    logs.flatMap(({ broadcasts: heard }) => heard),
    [],
  );
});
