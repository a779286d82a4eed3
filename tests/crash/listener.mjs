// A client of one realtime service, on a public channel: its numbers in the order in which they came, and who is present.
import { once } from 'node:events';
import WebSocket from 'ws';
import { until } from './harness.mjs';

export class Listener {
  numbers = [];
  #keys = new Map();
  #isJoined = false;

  constructor(service, topic, key) {
    Object.assign(this, { topic: `realtime:${topic}`, key });
    this.socket = new WebSocket(`ws://127.0.0.1:${service.port}/websocket?vsn=1.0.0&apikey=${process.env.ANON_KEY}`);
    this.socket.on('error', () => {});
    this.socket.on('message', (data) => this.#take(JSON.parse(data.toString())));
  }

  async joined() {
    await once(this.socket, 'open');
    this.#send('phx_join', { config: { presence: { key: this.key, enabled: true } } });
    await until(`${this.key} to join`, () => this.#isJoined);
  }

  track = () => this.#send('presence', { type: 'presence', event: 'track', payload: {} });
  present = () =>
    [...this.#keys]
      .filter(([, count]) => count > 0)
      .map(([key]) => key)
      .sort();
  close = () => this.socket.terminate();

  #send(event, payload) {
    this.socket.send(JSON.stringify({ topic: this.topic, event, payload, ref: '1', join_ref: '1' }));
  }

  #take({ event, payload }) {
    if (event === 'phx_reply') this.#isJoined = true;
    if (event === 'broadcast') this.numbers.push(payload.payload.n);
    if (event === 'presence_state') this.#keys.clear();
    const change = (entries, by) => {
      for (const [key, { metas }] of Object.entries(entries)) this.#keys.set(key, (this.#keys.get(key) ?? 0) + by * metas.length);
    };
    if (event === 'presence_state') change(payload, 1);
    if (event === 'presence_diff') {
      change(payload.leaves, -1);
      change(payload.joins, 1);
    }
  }
}
