// Clients of realtime: supabase-js of both versions, sockets that speak the protocol by hand, and policies for rooms of tests.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';
import { createClient as createPinnedClient } from 'supabase-js-pinned';
import WebSocket from 'ws';
import { until } from '../until.mjs';
import { env, sql } from './support.mjs';

/** The versions of supabase-js: the latest, and the oldest that is supported. They speak serializer 2.0.0 and 1.0.0. */
export const CLIENTS = { latest: createClient, pinned: createPinnedClient };

const open = new Set();

/** A client whose token is what `token()` returns when the client asks: at each connect and heartbeat. `sockets` are its sockets;
 * `at` is an instance to connect to. */
export function realtimeClient({ token = async () => null, create = createClient, key = env.ANON_KEY, at, ...realtime } = {}) {
  const sockets = [];
  class Transport extends WebSocket {
    constructor(address, ...rest) {
      // Straight to an instance, whose paths have no prefix.
      super(at ? address.replace(/^.*\/realtime\/v1/, at.url.replace('http', 'ws')) : address, ...rest);
      sockets.push(this);
    }
  }
  const client = create(env.API_URL, key, { accessToken: token, realtime: { transport: Transport, ...realtime } });
  client.sockets = sockets;
  open.add(client);
  return client;
}

/** Closes every client of this file. */
export async function closeClients() {
  await Promise.all([...open].map((client) => client.removeAllChannels().then(() => client.realtime.disconnect())));
  open.clear();
}

/** What a channel receives, in order, and its states. */
export function recorder(channel) {
  const log = { broadcasts: [], system: [], states: [], channel };
  channel.on('broadcast', { event: '*' }, (message) => log.broadcasts.push(message));
  channel.on('system', {}, (message) => log.system.push(message));
  return log;
}

/** Subscribes, and resolves with the first state and why. As Supabase's documentation says, the token is set before. */
export async function subscribe(channel, log = { states: [] }) {
  await channel.socket.setAuth();
  return new Promise((resolve) => {
    channel.subscribe((status, error) => {
      log.states.push({ status, reason: error?.message });
      resolve({ status, reason: error?.message });
    });
  });
}

/** A joined channel with what it receives. */
export async function joined(client, topic, config = {}) {
  const log = recorder(client.channel(topic, { config }));
  const { status, reason } = await subscribe(log.channel, log);
  assert.equal(status, 'SUBSCRIBED', `${topic}: ${reason}`);
  return log;
}

/** The join is refused; the reason. The client would try again for ever, so the channel goes. */
export async function refusedJoin(client, topic, config = { private: true }) {
  const channel = client.channel(topic, { config });
  const { status, reason } = await subscribe(channel);
  await client.removeChannel(channel);
  assert.equal(status, 'CHANNEL_ERROR', `${topic}: ${reason}`);
  return text(reason);
}

/** The pinned client writes a reason as JSON. */
const text = (reason) => reason.replace(/^"|"$/g, '');

/** A channel that knows who is present. */
export async function present(client, topic, key, config = {}) {
  const channel = client.channel(topic, { config: { ...config, presence: { key, enabled: true } } });
  channel.on('presence', { event: 'sync' }, () => {});
  const log = recorder(channel);
  assert.equal((await subscribe(channel, log)).status, 'SUBSCRIBED');
  return log;
}

/** Waits until so many broadcasts are there; what they carry. */
export async function broadcasts(log, count) {
  await until(`${count} broadcasts`, () => log.broadcasts.length >= count);
  return log.broadcasts.map(({ payload }) => payload);
}

/** A private room that members of an organization may read, and write to. */
export const newRoom = (orgId) => `journey:${orgId}:${randomUUID()}`;

/** Policies for rooms of tests. Their condition is what a product would write: memberships, looked up once. */
export async function roomPolicies() {
  const inRoom = `split_part(realtime.topic(), ':', 1) = 'journey'
    and split_part(realtime.topic(), ':', 2) = any (array(select o.id::text from public.org_ids() as o (id)))`;
  await dropRoomPolicies();
  await asOwner(`create policy journey_read on realtime.messages for select to authenticated
    using (extension in ('broadcast', 'presence') and ${inRoom})`);
  await asOwner(`create policy journey_write on realtime.messages for insert to authenticated
    with check (extension in ('broadcast', 'presence') and ${inRoom} and realtime.topic() not like '%:read-only')`);
}

export async function dropRoomPolicies() {
  await asOwner('drop policy if exists journey_read on realtime.messages');
  await asOwner('drop policy if exists journey_write on realtime.messages');
}

/** On a connection of its own: when a file ends, the shared ones may be closed. */
async function asOwner(text) {
  const db = new pg.Client({ connectionString: env.DB_URL });
  await db.connect();
  await db.query(text).finally(() => db.end());
}

/** Sends from SQL, as a trigger of the product would. */
export const sendFromSql = (topic, event, payload, isPrivate = true) =>
  sql('select realtime.send($1, $2, $3, $4)', [payload, event, topic, isPrivate]);

/** A socket that speaks the protocol by hand, with what it has received. */
export class RawSocket {
  constructor({ vsn = '2.0.0', key = env.ANON_KEY, base = `${env.API_URL}/realtime/v1`, headers = {} } = {}) {
    const query = new URLSearchParams({ ...(key && { apikey: key }), ...(vsn && { vsn }) });
    this.vsn = vsn;
    this.received = [];
    this.socket = new WebSocket(`${base.replace('http', 'ws')}/websocket?${query}`, { headers });
    this.socket.on('message', (data, isBinary) => this.received.push(isBinary ? data : this.#read(JSON.parse(data.toString()))));
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.opened = new Promise((resolve, reject) => {
      this.socket.on('open', () => resolve(this));
      this.socket.on('error', reject);
    });
  }

  #read(message) {
    if (!Array.isArray(message)) return message;
    const [join_ref, ref, topic, event, payload] = message;
    return { join_ref, ref, topic, event, payload };
  }

  send({ join_ref = null, ref = null, topic, event, payload = {} }) {
    const message = this.vsn === '2.0.0' ? [join_ref, ref, topic, event, payload] : { topic, event, payload, ref, join_ref };
    this.socket.send(JSON.stringify(message));
  }

  /** The reply to a message. */
  async ask(message) {
    this.send(message);
    return until(`a reply to ${message.event}`, () => this.received.find((one) => one.event === 'phx_reply' && one.ref === message.ref));
  }

  close() {
    this.socket.close();
    return this.closed;
  }
}
