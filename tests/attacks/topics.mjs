// Realtime: joins of the victim's topics, broadcasts and presence into them, and listening under the same name in public.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { query } from '../access/db.mjs';
import { RawSocket } from '../journeys/realtime_support.mjs';
import { env } from '../journeys/support.mjs';
import { until } from '../until.mjs';
import { Random } from './random.mjs';
import { tokensOf } from './victim.mjs';
import { send } from './wire.mjs';

const tokenOf = ({ headers }) => headers.Authorization?.replace('Bearer ', '') ?? null;
const keyOf = ({ headers }) => headers['X-API-Key'] ?? headers.apikey ?? '';

// The service closes a socket that is silent. The owner's waits while all attackers join.
const HEARTBEAT_MS = 10_000;

let refs = 0;

/** A socket of this attacker; none if the service refuses it. */
async function connect(attacker) {
  // In this version every message is JSON, in which the judge finds what it looks for.
  const socket = new RawSocket({ key: keyOf(attacker), vsn: '1.0.0' });
  const beat = setInterval(() => {
    if (socket.socket.readyState === 1)
      socket.send({ join_ref: null, ref: String(++refs), topic: 'phoenix', event: 'heartbeat', payload: {} });
  }, HEARTBEAT_MS);
  socket.closed.then(() => clearInterval(beat));
  return Promise.race([socket.opened, socket.closed.then(() => null)]).catch(() => null);
}

/** The answer to a join: its status, why, and the reference under which messages are sent. The service may close the socket instead. */
async function join(socket, attacker, topic, isPrivate) {
  const ref = String(++refs);
  const asked = socket.ask({
    join_ref: ref,
    ref,
    topic: `realtime:${topic}`,
    event: 'phx_join',
    payload: {
      config: { private: isPrivate, broadcast: { self: false, ack: false }, presence: { key: randomUUID(), enabled: true } },
      ...(tokenOf(attacker) && { access_token: tokenOf(attacker) }),
    },
  });
  const closed = socket.closed.then(({ code }) => ({ payload: { status: `closed ${code}` } }));
  const { payload } = await Promise.race([asked, closed]);
  return { status: payload.status, reason: String(payload.response?.reason ?? ''), ref };
}

/** What the answer says apart from the topic that the request named. */
const reasonOf = ({ status, reason }, topic) => `${status} ${reason.replaceAll(topic, '<topic>')}`;

/** All attackers try all topics at once; the owner of the victim listens, and SQL of the product sends to them. */
export async function topicAttacks({ world, kinds, attackers, owner, judge, attacked }) {
  const ids = [world.org, world.people.owner.id, world.project, world.secretProject, world.execution, world.secretExecution];
  const topics = [...kinds.flatMap((kind) => ids.map((id) => `${kind}:${id}`)), `room:${world.org}:a`];
  const listener = await connect(owner);
  const heard = [];
  for (const topic of topics) if ((await join(listener, owner, topic, true)).status === 'ok') heard.push(topic);
  if (heard.length < 4) throw new Error(`the owner joins ${heard.length} topics: ${heard}`);
  const sockets = (await Promise.all(attackers.map((attacker) => joinAll(attacker, topics, judge, attacked)))).flat();
  // Where these policies let the attacker in, the message says what it hears.
  const word = [...owner.forbidden.keys()].find((token) => token.startsWith('kanary'));
  for (const topic of heard) await query('select realtime.send($1, $2, $3, true)', [{ word }, 'kanary', topic]);
  const shout = randomUUID();
  await Promise.all(sockets.map((one) => shoutAt(one, topics, shout)));
  const got = () => listener.received.filter((one) => one.event === 'broadcast' && one.payload?.payload?.word === word);
  await until('what the product sends to its own member', () => got().length >= heard.length);
  await sleep(500);
  const ours = listener.received.map((one) => JSON.stringify(one)).find((text) => text.includes(shout));
  if (ours) judge.report('changed', 'realtime', 'realtime:broadcast', `the owner received an attacker's message: ${ours.slice(0, 300)}`);
  for (const { attacker, socket } of sockets) {
    for (const message of socket.received) listen(attacker, message, judge);
    await socket.close();
  }
  await listener.close();
  return { names: topics.length, heard: heard.length, sockets: sockets.length };
}

/** Joins each topic in private and in public, and one that is nobody's. Who is refused before it is asked for tries a few. */
async function joinAll(attacker, topics, judge, attacked) {
  const socket = await connect(attacker);
  if (!socket) return [];
  const joins = new Map();
  for (const topic of attacker.refused ? new Random('topics', attacker.name).sample(topics, 3) : topics) {
    const twin = topic.replace(/[0-9a-f-]{36}/, randomUUID());
    const [real, none] = [await join(socket, attacker, topic, true), await join(socket, attacker, twin, true)];
    if (socket.socket.readyState !== 1) break;
    const subject = `realtime:${topic.split(':')[0]}`;
    attacked.add(subject);
    if (real.status === 'ok') judge.report('joined', attacker.name, subject, topic);
    if (reasonOf(real, topic) !== reasonOf(none, twin)) {
      judge.report('oracle', attacker.name, subject, `${reasonOf(real, topic)} for the victim's, ${reasonOf(none, twin)} for none`);
    }
    const inPublic = await join(socket, attacker, topic, false);
    if (inPublic.status === 'ok') joins.set(topic, inPublic.ref);
  }
  return [{ attacker, socket, joins }];
}

/** Broadcasts and presence in public under each name, and as private ones without a socket. */
async function shoutAt({ attacker, socket, joins }, topics, shout) {
  for (const [topic, join_ref] of joins) {
    const message = { type: 'broadcast', event: 'kanary', payload: { shout } };
    for (const [event, payload] of [
      ['broadcast', message],
      ['presence', { type: 'presence', event: 'track', payload: { shout } }],
    ]) {
      if (socket.socket.readyState === 1) socket.send({ join_ref, ref: String(++refs), topic: `realtime:${topic}`, event, payload });
    }
  }
  const messages = topics.flatMap((topic) =>
    [true, false].map((isPrivate) => ({ topic, event: 'kanary', payload: { shout }, private: isPrivate })),
  );
  await send('POST', '/realtime/v1/api/broadcast', {
    headers: { ...attacker.headers, apikey: keyOf(attacker) || env.ANON_KEY },
    body: { messages },
  });
}

function listen(attacker, message, judge) {
  const text = JSON.stringify(message);
  for (const token of tokensOf(text)) {
    const place = attacker.forbidden.get(token);
    if (place && token.startsWith('kanary'))
      judge.report('leak', attacker.name, `realtime:${message.topic?.split(':')[1]}`, place, { method: 'GET', path: text.slice(0, 300) });
  }
}
