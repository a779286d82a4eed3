// How many sockets the realtime service holds, what each costs, and how many messages a second reach them within 100 ms at p99, beside
// socket.io doing the same fan-out in the same run.
//
//   ./kijko bench realtime        (on a fresh instance of its own)
//
// KIJKO_BENCH_SOCKETS (2,000) sockets join private rooms of 100, as one signed-in user whose policies are asked at each join; socket.io
// asks nobody. A sender in each room then sends, at a rate that doubles until the p99 of the time from sending to receipt is 100 ms. Both
// servers have the machine to themselves in turns, with the clients on it. 10,000 sockets need `ulimit -n` of 25,000.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { RealtimeService } from '../realtime_service.mjs';
import { newUser } from './realtime_user.mjs';

const SOCKETS = Number(process.env.KIJKO_BENCH_SOCKETS ?? 2_000);
const ROOM = 100;
const SECONDS = Number(process.env.KIJKO_BENCH_SECONDS ?? 5);
const CLIENT_PROCESSES = 2;

/** Resident memory of a process in bytes. */
const memory = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB/m)[1]) * 1024;

/** Clients in processes of their own; each has a share of every room. */
async function connectClients(kind, target) {
  const clients = Array.from({ length: CLIENT_PROCESSES }, (_, at) =>
    fork(join(import.meta.dirname, 'realtime_clients.mjs'), [], {
      env: {
        ...process.env,
        BENCH: JSON.stringify({ kind, ...target, sockets: SOCKETS / CLIENT_PROCESSES, rooms: SOCKETS / ROOM, first: at === 0 }),
      },
    }),
  );
  await Promise.all(
    clients.map(async (client) => {
      const [message] = await once(client, 'message');
      if (message.error) throw new Error(message.error);
    }),
  );
  return clients;
}

/** Sends at this rate for a while. The answer: how many were received, and the p99 of their times in ms. */
async function round(clients, perSecond) {
  for (const client of clients) client.send({ perSecond, seconds: SECONDS });
  const answers = await Promise.all(clients.map(async (client) => (await once(client, 'message'))[0]));
  const times = answers.flatMap(({ times }) => times).sort((a, b) => a - b);
  const expected = answers.reduce((sum, { sent }) => sum + sent, 0) * ROOM;
  const received = answers.reduce((sum, answer) => sum + answer.received, 0);
  return { delivered: received / SECONDS, complete: received >= expected, p99: times[Math.floor(times.length * 0.99)] ?? Infinity };
}

/** Doubles the rate until messages are late. */
async function measure(name, kind, target, pid) {
  const before = memory(pid);
  const started = performance.now();
  const clients = await connectClients(kind, target);
  const seconds = (performance.now() - started) / 1000;
  await sleep(2_000);
  const each = (memory(pid) - before) / SOCKETS;
  let best = { delivered: 0, p99: 0 };
  for (let perSecond = SOCKETS / ROOM; ; perSecond *= 1.5) {
    const now = await round(clients, perSecond);
    if (!now.complete || now.p99 > 100) break;
    best = now;
  }
  for (const client of clients) client.kill();
  const figures = {
    sockets: SOCKETS,
    'joined a second': Math.round(SOCKETS / seconds),
    'KiB a socket': (each / 1024).toFixed(1),
    'delivered a second': Math.round(best.delivered),
    'p99 ms': best.p99.toFixed(0),
  };
  console.log(name.padEnd(24), JSON.stringify(figures));
}

const database = new pg.Client({ connectionString: process.env.DB_URL });
await database.connect();
await database.query(`create policy bench_read on realtime.messages for select to authenticated
  using (realtime.topic() like 'bench:%' and exists (select 1 from public.org_ids()))`);
await database.query(`create policy bench_write on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'bench:%' and exists (select 1 from public.org_ids()))`);
const limits = { SOCKETS: 1_000_000, SOCKETS_OF_NETWORK: 1_000_000, SOCKETS_OF_CALLER: 1_000_000, SOCKETS_OF_ORGANIZATION: 1_000_000 };
const rates = { MESSAGES_PER_SECOND: 100_000, JOINS_PER_SECOND: 100_000, BACKLOG: 4_096 };
const variables = Object.fromEntries(
  Object.entries({ ...limits, ...rates }).map(([name, value]) => [`KIJKO_REALTIME_${name}`, String(value)]),
);

const service = await RealtimeService.start({ variables });
await measure('kijko-realtime', 'kijko', { url: service.url, token: await newUser(), key: process.env.ANON_KEY }, service.child.pid);
await service.terminate();

const server = fork(join(import.meta.dirname, 'realtime_socketio.mjs'));
const [{ port }] = await once(server, 'message');
await measure('socket.io', 'socket.io', { url: `http://127.0.0.1:${port}` }, server.pid);
server.kill();
await database.query('drop policy bench_read on realtime.messages; drop policy bench_write on realtime.messages');
await database.end();
