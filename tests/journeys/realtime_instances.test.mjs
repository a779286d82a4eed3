// Several instances share the sockets: what one client sends and where it is present is known to clients of the others.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { killRealtimeServices, RealtimeService } from '../realtime_service.mjs';
import { until } from './domain.mjs';
import { broadcasts, closeClients, joined, present, realtimeClient, sendFromSql } from './realtime_support.mjs';

let first;
let second;
before(async () => {
  [first, second] = await Promise.all([RealtimeService.start(), RealtimeService.start()]);
});
after(async () => {
  await closeClients();
  await killRealtimeServices();
});

const clientOf = (service) => realtimeClient({ at: service });

const keys = ({ channel }) => Object.keys(channel.presenceState()).sort();

test('a broadcast of a socket reaches sockets of the other instance once, in order', async () => {
  const topic = `instances-${randomUUID()}`;
  const [sender, listener] = [await joined(clientOf(first), topic), await joined(clientOf(second), topic)];
  for (let n = 0; n < 100; n += 1) await sender.channel.send({ type: 'broadcast', event: 'e', payload: { n } });
  await broadcasts(listener, 100);
  await sleep(300);
  assert.deepEqual(
    listener.broadcasts.map(({ payload }) => payload.n),
    Array.from({ length: 100 }, (_, n) => n),
  );
  assert.deepEqual(sender.broadcasts, []);
});

test('a message from SQL reaches the sockets of each instance once', async () => {
  const topic = `instances-${randomUUID()}`;
  const logs = [await joined(clientOf(first), topic), await joined(clientOf(second), topic)];
  await sendFromSql(topic, 'e', { n: 1 }, false);
  await Promise.all(logs.map((log) => broadcasts(log, 1)));
  await sleep(300);
  for (const log of logs) assert.equal(log.broadcasts.length, 1);
});

test('presence is shared, also with an instance that starts later, and ends with an instance that is killed', async () => {
  const topic = `instances-${randomUUID()}`;
  const [ada, bob] = [await present(clientOf(first), topic, 'ada'), await present(clientOf(second), topic, 'bob')];
  await ada.channel.track({ at: 1 });
  await bob.channel.track({ at: 2 });
  await until('both on both', () => [ada, bob].every((log) => `${keys(log)}` === 'ada,bob'));
  const third = await RealtimeService.start();
  const cleo = await present(clientOf(third), topic, 'cleo');
  await cleo.channel.track({ at: 3 });
  await until('three on each', () => [ada, bob, cleo].every((log) => `${keys(log)}` === 'ada,bob,cleo'));
  await third.kill();
  await until('the killed one to be forgotten', () => [ada, bob].every((log) => `${keys(log)}` === 'ada,bob'));
  await ada.channel.untrack();
  await until('ada to go', () => [ada, bob].every((log) => `${keys(log)}` === 'bob'));
});

test('an instance that is asked to stop closes its sockets one after another, and ends', async () => {
  const leaving = await RealtimeService.start({ variables: { KIJKO_REALTIME_DRAIN_SECONDS: '2' } });
  const closes = [];
  const clients = Array.from({ length: 20 }, () => clientOf(leaving));
  await Promise.all(clients.map((client) => joined(client, `instances-${randomUUID()}`)));
  for (const client of clients) client.sockets[0].addEventListener('close', ({ code }) => closes.push({ code, at: Date.now() }));
  const ended = leaving.terminate();
  await until('all to be closed', () => closes.length === clients.length);
  assert.deepEqual(await ended, { code: 0, signal: null });
  assert.ok(closes.every(({ code }) => code === 1012));
  assert.ok(closes.at(-1).at > closes[0].at, 'not all at once');
});
