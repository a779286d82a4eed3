// What goes on while a primary fails: writers that remember each commit that was acknowledged, and clients of the API.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { PORT, passwords } from './patroni.mjs';

/** A session with this node, or null. */
export async function session(node, user = 'postgres', password = passwords().KIJKO_POSTGRES_PASSWORD) {
  const client = new pg.Client({
    host: node.address,
    port: PORT,
    user,
    password,
    database: 'postgres',
    connectionTimeoutMillis: 1500,
    keepAlive: true,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    return client;
  } catch {
    client.end().catch(() => {});
    return null;
  }
}

/** A statement, unless its answer does not come: the server was cut off. */
const patiently = (client, text, values) =>
  Promise.race([client.query(text, values), sleep(3000, undefined, { ref: false }).then(() => Promise.reject(new Error('no answer')))]);

/** A session with the primary, as a driver does it: each address in turn. */
export async function primarySession(pair) {
  for (;;) {
    for (const node of pair.nodes) {
      const client = await session(node);
      if (!client) continue;
      const { rows } = await patiently(client, 'select pg_is_in_recovery() as standby').catch(() => ({ rows: [{ standby: true }] }));
      if (!rows[0].standby) return client;
      client.end().catch(() => {});
    }
    await sleep(100);
  }
}

export const query = async (pair, text, values = []) => {
  const client = await primarySession(pair);
  try {
    return (await client.query(text, values)).rows;
  } finally {
    client.end().catch(() => {});
  }
};

/** Each transaction uses a unit of a meter and writes a row, so the two must agree. */
export class Writers {
  acknowledged = [];
  // The longest time without an acknowledged commit.
  pause = 0;
  #last = performance.now();
  #stopped = false;

  constructor(pair, org, meter, count = 4) {
    this.pair = pair;
    this.org = org;
    this.meter = meter;
    this.next = 1;
    this.running = Array.from({ length: count }, () => this.#write());
  }

  async #write() {
    let client = null;
    while (!this.#stopped) {
      const n = this.next++;
      try {
        client ??= await primarySession(this.pair);
        await patiently(client, 'begin');
        await patiently(client, 'insert into public.own_drill (n) values ($1)', [n]);
        await patiently(client, 'select kijko.consume($1, $2, 1)', [this.org, this.meter]);
        await patiently(client, 'commit');
        this.#acknowledge(n);
      } catch (error) {
        client?.end().catch(() => {});
        client = null;
        if (error.code === 'KJ001') throw error;
      }
      await sleep(5);
    }
    client?.end().catch(() => {});
  }

  #acknowledge(n) {
    const now = performance.now();
    this.pause = Math.max(this.pause, now - this.#last);
    this.#last = now;
    this.acknowledged.push(n);
  }

  /** Milliseconds until the next acknowledged commit. */
  async resumes() {
    const [before, started] = [this.acknowledged.length, performance.now()];
    while (this.acknowledged.length <= before + 8) await sleep(20);
    return performance.now() - started;
  }

  async stop() {
    this.#stopped = true;
    await Promise.all(this.running);
  }
}
