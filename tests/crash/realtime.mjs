// Messages of the database reach every subscriber, whatever is killed meanwhile: a realtime service, a backend, all of Postgres.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { killRealtimeServices, RealtimeService } from '../realtime_service.mjs';
import { atMost, connect, connectAsAdmin, kijkoDown, kijkoUp, killBackend, killPostgres, queryPatiently, until } from './harness.mjs';

const WRITERS = 4;
const OF_EACH = 250;
/** What a client asks for again when it comes back: more than anybody's clock or transaction is behind. */
const OVERLAP_MS = 60_000;

/** A subscriber as a careful client writes it: it joins again after any end, from before its last message, and drops what it has. */
class Subscriber {
  ids = new Set();
  numbers = [];
  joins = 0;
  repeated = 0;
  #lastSeen = Date.now();
  #ended = false;

  constructor(services, topic, key) {
    Object.assign(this, { services, topic, key });
    this.#connect();
  }

  #connect() {
    if (this.#ended) return;
    const service = this.services[this.joins % this.services.length];
    this.socket = new WebSocket(`ws://127.0.0.1:${service.port}/websocket?vsn=1.0.0&apikey=${this.key}`);
    this.socket.on('open', () => this.#join());
    this.socket.on('message', (data) => this.#take(JSON.parse(data.toString())));
    this.socket.on('error', () => {});
    this.socket.on('close', () => setTimeout(() => this.#connect(), 200));
    const beat = setInterval(() => this.#send('phoenix', 'heartbeat', {}), 5_000);
    this.socket.on('close', () => clearInterval(beat));
  }

  #join() {
    this.joins += 1;
    const replay = { since: this.#lastSeen - OVERLAP_MS, limit: 1000 };
    this.#send(`realtime:${this.topic}`, 'phx_join', { config: { private: true, broadcast: { replay } } });
  }

  #send(topic, event, payload) {
    if (this.socket.readyState === WebSocket.OPEN)
      this.socket.send(JSON.stringify({ topic, event, payload, ref: String(this.joins), join_ref: String(this.joins) }));
  }

  #take({ event, payload }) {
    if (event === 'phx_error' || (event === 'phx_reply' && payload.status === 'error')) this.socket.close();
    if (event !== 'broadcast') return;
    this.#lastSeen = Date.now();
    if (this.ids.has(payload.meta.id)) {
      this.repeated += 1;
      return;
    }
    this.ids.add(payload.meta.id);
    this.numbers.push(payload.payload.n);
  }

  close() {
    this.#ended = true;
    this.socket.terminate();
  }
}

/** Commits its numbers one by one, also some that end late, and goes on after any crash. A commit whose answer was lost counts if
 * the table has it. */
async function write(writer, topic) {
  for (let at = 0; at < OF_EACH; at += 1) {
    const n = writer * OF_EACH + at;
    await until(
      `number ${n}`,
      async () => {
        let db;
        try {
          db = await connect();
          const there = await db.query(`select 1 from realtime.messages where topic = $1 and (payload ->> 'n')::int = $2`, [topic, n]);
          if (there.rowCount > 0) return true;
          await db.query('begin');
          await db.query('select realtime.send($1, $2, $3)', [{ n }, 'number', topic]);
          if (at % 25 === 0) await sleep(300);
          await db.query('commit');
          return true;
        } catch {
          return false;
        } finally {
          await db?.end().catch(() => {});
        }
      },
      { everyMs: 250 },
    );
  }
}

export function realtimeTests() {
  describe('realtime, while services and Postgres are killed', () => {
    let services;
    let subscribers = [];

    before(async () => {
      services = [await RealtimeService.start(), await RealtimeService.start()];
    });
    after(async () => {
      for (const subscriber of subscribers) subscriber.close();
      await killRealtimeServices();
    });

    test('1,000 numbered messages of several writers reach each client exactly once', async () => {
      const topic = `crash:${randomUUID()}`;
      const key = process.env.SERVICE_ROLE_KEY;
      // The first stays with one service, the others change.
      subscribers = [new Subscriber([services[1]], topic, key), ...[1, 2, 3].map(() => new Subscriber(services, topic, key))];
      await until('all to join', () => subscribers.every(({ joins }) => joins > 0));
      await sleep(500);
      const written = Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer, topic)));
      const seen = (share) => until(`${share} messages`, () => subscribers[1].numbers.length >= share);

      await seen(100);
      await services[0].kill();
      await sleep(1_000);
      services[0] = Object.assign(services[0], await RealtimeService.start({ port: services[0].port }));
      await seen(300);
      const victim = await connectAsAdmin();
      const [{ pid }] = (await victim.query('select pg_backend_pid() as pid')).rows;
      await killBackend(pid);
      await seen(500);
      await killPostgres();
      await kijkoDown();
      await kijkoUp();
      await seen(700);
      await services[0].kill();
      services[0] = Object.assign(services[0], await RealtimeService.start({ port: services[0].port }));

      await atMost(written, 240_000, 'the writers');
      const rows = await queryPatiently('select id from realtime.messages where topic = $1', [topic]);
      assert.equal(rows.length, WRITERS * OF_EACH);
      for (const [at, subscriber] of subscribers.entries()) {
        await until(`client ${at} to have all`, () => subscriber.ids.size >= rows.length);
        assert.deepEqual(
          [...subscriber.numbers].sort((a, b) => a - b),
          Array.from({ length: rows.length }, (_, n) => n),
          `client ${at}`,
        );
      }
      // Its service lived, so what Postgres' crashes made the service read again was not sent again; only its own rejoins repeat.
      const [steady] = subscribers;
      if (steady.joins === 1) assert.equal(steady.repeated, 0);
    });
  });
}
