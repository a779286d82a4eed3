// Clients of one server in one process: they join rooms, send when they are told to, and note how long messages took.
import { setTimeout as sleep } from 'node:timers/promises';
import { io } from 'socket.io-client';
import WebSocket from 'ws';

const { kind, url, token, key, sockets, rooms, first } = JSON.parse(process.env.BENCH);
const now = () => performance.timeOrigin + performance.now();
let times = [];
let received = 0;

function note(sentAt) {
  received += 1;
  // A sample is enough for a percentile.
  if (received % 10 === 0) times.push(now() - sentAt);
}

const room = (n) => `bench:${n % rooms}`;

const CONNECT = {
  kijko: (n) =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/websocket?vsn=2.0.0&apikey=${key}`, { perMessageDeflate: false });
      const topic = `realtime:${room(n)}`;
      const join = { config: { private: true, broadcast: { self: true } }, access_token: token };
      socket.on('open', () => socket.send(JSON.stringify(['1', '1', topic, 'phx_join', join])));
      socket.on('message', (data, isBinary) => {
        if (isBinary) {
          const [, topicLength, eventLength, metaLength] = data;
          note(JSON.parse(data.subarray(5 + topicLength + eventLength + metaLength)).at);
          return;
        }
        const [, ref, , event, payload] = JSON.parse(data);
        if (event !== 'phx_reply' || ref !== '1') return;
        if (payload.status === 'ok')
          resolve(() => socket.send(JSON.stringify(['1', '2', topic, 'broadcast', { event: 'e', payload: body() }])));
        else reject(new Error(JSON.stringify(payload)));
      });
      socket.on('close', (code, reason) => reject(new Error(`closed: ${code} ${reason}`)));
      socket.on('error', reject);
      setInterval(() => socket.send('[null,"9","phoenix","heartbeat",{}]'), 25_000).unref();
    }),
  'socket.io': (n) =>
    new Promise((resolve, reject) => {
      const socket = io(url, { transports: ['websocket'], forceNew: true });
      socket.on('connect', () => socket.emit('join', room(n), () => resolve(() => socket.emit('message', room(n), body()))));
      socket.on('message', ({ at }) => note(at));
      socket.on('connect_error', reject);
    }),
};

const body = () => ({ at: now(), text: 'x'.repeat(100) });

/** A few at a time, as a load balancer would. */
async function connectAll() {
  const senders = [];
  for (let n = 0; n < sockets; n += 50) {
    const batch = Array.from({ length: Math.min(50, sockets - n) }, (_, at) => CONNECT[kind](n + at));
    senders.push(...(await Promise.all(batch)));
  }
  return senders;
}

const senders = await connectAll().catch((error) => {
  process.send({ error: String(error.stack ?? error) });
  process.exit(1);
});
process.send({ ready: true });

process.on('message', async ({ perSecond, seconds }) => {
  times = [];
  received = 0;
  let sent = 0;
  const started = now();
  // One process sends; both receive.
  while (now() - started < seconds * 1000) {
    const due = first ? Math.floor(((now() - started) / 1000) * perSecond) : 0;
    for (; sent < due; sent += 1) senders[sent % rooms]();
    await sleep(2);
  }
  await sleep(1_000);
  process.send({ times, received, sent });
});
