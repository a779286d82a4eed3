// Realtime of members by an issuer: what hostile tokens reach, what a member does, and what ends an open socket.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKey } from './api_keys_support.mjs';
import { newPerson, newTeam, ok, until } from './domain.mjs';
import { enroll, forged, newIssuer, newMember, pretending, provision, requireIssuer, status } from './issuers_support.mjs';
import {
  broadcasts,
  CLIENTS,
  closeClients,
  dropRoomPolicies,
  joined,
  newRoom,
  present,
  RawSocket,
  realtimeClient,
  refusedJoin,
  roomPolicies,
  sendFromSql,
} from './realtime_support.mjs';
import { env, http, sql } from './support.mjs';
import { newKey, now } from './tokens.mjs';

let team;
let stranger;
let issuer;
let member;
before(async () => {
  await roomPolicies();
  [team, stranger] = [await newTeam(), await newPerson()];
  issuer = await newIssuer();
  await enroll(team.owner, issuer.url);
  member = await newMember(issuer);
});
after(async () => {
  await closeClients();
  await dropRoomPolicies();
});

const clientOf = (bearer, options = {}) => realtimeClient({ token: async () => bearer, ...options });
const ownClient = (person) => realtimeClient({ token: async () => person.token });

/** Refused tokens count against the rate of their address, so a limited attempt is repeated. */
async function inTime(attempt) {
  for (let tries = 0; ; tries += 1) {
    const reason = await attempt();
    if (!/^rate_limited/.test(reason) || tries === 60) return reason;
    await sleep(2_000);
  }
}

/** What a join by hand is answered: ok, or the reason. */
const joinBy = (raw, topic, bearer, config = { private: true }) =>
  inTime(async () => {
    const ref = randomUUID();
    const { payload } = await raw.ask({
      join_ref: ref,
      ref,
      topic: `realtime:${topic}`,
      event: 'phx_join',
      payload: { config, access_token: bearer },
    });
    return payload.status === 'ok' ? 'ok' : payload.response.reason;
  });

const post = (messages, token, headers = {}) =>
  http('POST', '/realtime/v1/api/broadcast', { body: { messages }, token, headers: { 'Content-Type': 'application/json', ...headers } });
const message = (topic, payload = {}) => ({ topic, event: 'e', payload, private: true });

/** The channel is closed for good. */
const closed = (log) => until('the channel to end', () => log.states.some(({ status: state }) => state === 'CLOSED'));

/** The channel ends for good, with a reason, and what is sent then does not arrive. */
async function endsFor(log, room, reason) {
  await closed(log);
  assert.match(log.system.at(-1).message, reason);
  await hearsNothing(log, room);
}

async function hearsNothing(log, room) {
  const count = log.broadcasts.length;
  await sendFromSql(room, 'secret', {});
  await sleep(300);
  assert.equal(log.broadcasts.length, count);
}

describe('a token', () => {
  test('that is forged joins nothing, public channels included, opens no socket and sends nothing', async () => {
    const room = newRoom(team.orgId);
    const tokens = {
      ...forged(issuer, member, team.owner.user.id),
      'pretends to be ours': pretending(issuer, member),
      'of an issuer that nobody enrolled': (await newIssuer()).token({ sub: member.subject, role: 'service_role' }),
    };
    const raw = await new RawSocket().opened;
    const log = await joined(ownClient(team.owner), room, { private: true });
    for (const [name, bearer] of Object.entries(tokens)) {
      for (const config of [{ private: true }, {}]) assert.match(await joinBy(raw, room, bearer, config), /^InvalidJWTToken: /, name);
      assert.equal((await post([message(room)], bearer)).status, 401, name);
    }
    await raw.close();
    const [bearer] = Object.values(tokens);
    assert.equal((await new RawSocket({ key: bearer }).closed).code, 4401);
    assert.equal((await http('GET', `/realtime/v1/events?topic=${room}`, { token: bearer })).status, 401);
    assert.deepEqual(log.broadcasts, []);
  });

  test('of a subject who is not provisioned, or was given less than the member has, joins nothing', async () => {
    const raw = await new RawSocket().opened;
    const fresh = issuer.token({ sub: randomUUID() });
    const demoted = await newMember(issuer, ['kijko-admin']);
    for (const bearer of [fresh, demoted.tokenOf(['kijko-viewer'])]) {
      assert.match(await joinBy(raw, newRoom(team.orgId), bearer), /^provision_required: /);
      assert.equal((await post([message(newRoom(team.orgId))], bearer)).status, 401);
    }
    const other = await newIssuer();
    await enroll(team.owner, other.url, { default_role: null });
    assert.match(await joinBy(raw, newRoom(team.orgId), other.token()), /^permission_denied: /);
    await raw.close();
  });

  test('that says service_role, or names another organization, reaches that of its issuer alone', async () => {
    const [theirs, mine] = [newRoom(stranger.orgId), newRoom(team.orgId)];
    const log = await joined(ownClient(stranger), theirs, { private: true });
    for (const claims of [
      { role: 'service_role' },
      { role: 'service_role', org_id: stranger.orgId, user_id: stranger.user.id, session_id: randomUUID() },
    ]) {
      const bearer = member.tokenOf(undefined, claims);
      assert.match(await refusedJoin(clientOf(bearer), theirs), /^Unauthorized: /);
      assert.match(await refusedJoin(clientOf(bearer), `org:${stranger.orgId}`), /^Unauthorized: /);
      assert.match(await refusedJoin(clientOf(bearer), `user:${stranger.user.id}`), /^Unauthorized: /);
      assert.equal((await post([message(theirs)], bearer)).status, 202, 'as for everybody who may not write there');
      const me = await joined(clientOf(bearer), 'me', { private: true });
      assert.deepEqual(await broadcasts(me, 1), [{ user_id: member.membership.user_id, org_ids: [team.orgId] }]);
      await joined(clientOf(bearer), mine, { private: true });
    }
    await sleep(300);
    assert.deepEqual(log.broadcasts, []);
  });

  test('beside an API key is refused', async () => {
    const { secret } = await createKey(team.owner, { permissions: ['content:read'] });
    for (const bearer of [member.tokenOf(), team.owner.token]) {
      for (const headers of [{ 'X-API-Key': secret }, { apikey: secret }]) {
        const answer = await post([message(newRoom(team.orgId))], bearer, headers);
        assert.deepEqual([answer.status, answer.body.reason], [400, 'bad_request: the request has a token and an API key']);
      }
    }
    assert.equal((await post([message(newRoom(team.orgId))], env.ANON_KEY, { 'X-API-Key': secret })).status, 202);
    const set = await post([message(newRoom(team.orgId))], undefined, { apikey: '', 'X-Kijko-Token': member.tokenOf() });
    assert.equal(set.status, 401, 'only the proxy sets this header');
  });
});

describe('a member by an issuer', () => {
  for (const [name, create] of Object.entries(CLIENTS)) {
    test(`joins, sends, and is present (supabase-js, ${name})`, async () => {
      const room = newRoom(team.orgId);
      const colleague = await joined(ownClient(team.viewer), room, { private: true });
      const log = await joined(clientOf(member.tokenOf(), { create }), room, { private: true, broadcast: { ack: true } });
      assert.equal(await log.channel.send({ type: 'broadcast', event: 'hello', payload: { n: 1 } }), 'ok');
      assert.deepEqual(await broadcasts(colleague, 1), [{ n: 1 }]);
      await sendFromSql(room, 'from-sql', { n: 2 });
      assert.equal((await broadcasts(log, 1))[0].n, 2);
      assert.equal((await post([message(room, { n: 3 })], member.tokenOf())).status, 202);
      assert.equal((await broadcasts(log, 2))[1].n, 3);
      assert.match(await refusedJoin(clientOf(member.tokenOf(), { create }), newRoom(stranger.orgId)), /^Unauthorized: /);

      const here = await present(clientOf(member.tokenOf(), { create }), room, member.membership.user_id, { private: true });
      assert.equal(await here.channel.track({ at: 'desk' }), 'ok');
      await until('presence', () => Object.keys(here.channel.presenceState()).includes(member.membership.user_id));
    });
  }

  test('gets the events of the product, as a stream, too', async () => {
    const topic = `user:${member.membership.user_id}`;
    const url = `${env.API_URL}/realtime/v1/events?topic=${topic}`;
    const stop = new AbortController();
    const stream = await fetch(url, {
      headers: { apikey: env.ANON_KEY, Authorization: `Bearer ${member.tokenOf()}` },
      signal: stop.signal,
    });
    assert.equal(stream.status, 200);
    await sendFromSql(topic, 'told', { n: 1 });
    let text = '';
    for await (const piece of stream.body) {
      text += Buffer.from(piece).toString();
      if (text.includes('"n": 1') || text.includes('"n":1')) break;
    }
    assert.match(text, /event: told/);
    stop.abort();
  });

  test('keeps a channel by a new token, and loses it with the last one', async () => {
    const room = newRoom(team.orgId);
    const first = now() + 15;
    let bearer = member.tokenOf(undefined, { exp: first });
    const client = realtimeClient({ token: async () => bearer });
    const log = await joined(client, room, { private: true });
    bearer = member.tokenOf(undefined, { exp: first + 15 });
    await client.realtime.setAuth();
    await until('the first token to expire', () => now() > first + 1);
    await sendFromSql(room, 'e', { n: 1 });
    await broadcasts(log, 1);
    assert.deepEqual(log.system, []);
    // The last token is not replaced.
    await until('the channel to end', () => log.system.some(({ message: text }) => /^InvalidJWTExpiration: /.test(text)));
    await hearsNothing(log, room);
    await client.removeAllChannels();
  });

  test('cannot renew a channel by a token that is refused', async () => {
    const room = newRoom(team.orgId);
    const raw = await new RawSocket().opened;
    assert.equal(await joinBy(raw, room, member.tokenOf()), 'ok');
    const topic = `realtime:${room}`;
    raw.send({ topic, event: 'access_token', payload: { access_token: issuer.token({ sub: member.subject, aud: 'account' }) } });
    await until('the channel to end', () => raw.received.some((one) => one.event === 'phx_error' && one.topic === topic));
    assert.match(raw.received.find(({ event }) => event === 'system').payload.message, /^InvalidJWTToken: /);
    await raw.close();
  });

  test('needs a second factor where the organization requires one, which amr says', async () => {
    const strict = await newTeam();
    const other = await newIssuer();
    await enroll(strict.owner, other.url);
    const { tokenOf } = await newMember(other);
    const room = newRoom(strict.orgId);
    const log = await joined(clientOf(tokenOf()), room, { private: true });
    const strong = await joined(clientOf(tokenOf(undefined, { amr: ['mfa'] })), room, { private: true });
    await sql('update public.organizations set mfa_required = true where id = $1', [strict.orgId]);
    await endsFor(log, room, /^Unauthorized: /);
    await broadcasts(strong, 1);
    assert.match(await refusedJoin(clientOf(tokenOf()), room), /^Unauthorized: /);
  });

  test('goes on where the organization requires its issuer, and others do not', async () => {
    const strict = await newTeam();
    const other = await newIssuer();
    await enroll(strict.owner, other.url);
    const { tokenOf } = await newMember(other);
    const room = newRoom(strict.orgId);
    const [byIssuer, own] = [
      await joined(clientOf(tokenOf()), room, { private: true }),
      await joined(ownClient(strict.member), room, { private: true }),
    ];
    await requireIssuer(strict);
    await endsFor(own, room, /^Unauthorized: /);
    await broadcasts(byIssuer, 1);
  });

  test('of two organizations with one issuer is the one that the socket names', async () => {
    const shared = await newIssuer();
    const [one, two] = [await newPerson(), await newPerson()];
    for (const person of [one, two]) await enroll(person, shared.url);
    const bearer = shared.token({ sub: 'both' });
    const unnamed = await new RawSocket().opened;
    assert.match(await joinBy(unnamed, newRoom(one.orgId), shared.token()), /^organization_required: /);
    await unnamed.close();
    for (const { orgId } of [one, two]) {
      assert.equal((await provision(bearer, { 'x-org-id': orgId })).status, 200);
      const client = clientOf(bearer, { params: { 'x-org-id': orgId } });
      await joined(client, newRoom(orgId), { private: true });
      const other = orgId === one.orgId ? two.orgId : one.orgId;
      assert.match(await refusedJoin(client, newRoom(other)), /^Unauthorized: /);
    }
    const foreign = clientOf(bearer, { params: { 'x-org-id': stranger.orgId } });
    assert.match(await refusedJoin(foreign, newRoom(one.orgId)), /^not_a_member: /);
    const named = await http('GET', `/realtime/v1/events?topic=${newRoom(one.orgId)}`, {
      token: bearer,
      headers: { 'x-org-id': two.orgId },
    });
    assert.equal(named.status, 403);
  });
});

describe('an open socket ends with', () => {
  /** An issuer of its own with a member, who has joined. */
  async function open() {
    const other = await newIssuer();
    const owner = await newPerson('TEAMS');
    const { id } = await enroll(owner, other.url);
    const leaving = await newMember(other);
    const room = newRoom(owner.orgId);
    const [log, isPublic, me] = [
      await joined(clientOf(leaving.tokenOf()), room, { private: true }),
      await joined(clientOf(leaving.tokenOf()), `public-${room}`),
      await joined(clientOf(leaving.tokenOf()), 'me', { private: true }),
    ];
    const raw = await new RawSocket({ key: leaving.tokenOf() }).opened;
    await sendFromSql(room, 'e', { n: 1 });
    await broadcasts(log, 1);
    const ends = async (reason) => {
      await endsFor(log, room, reason);
      for (const one of [isPublic, me]) await closed(one);
      assert.equal((await raw.closed).code, 4401);
    };
    return { owner, other, id, leaving, room, ends };
  }

  test('its issuer, when that is removed', async () => {
    const { owner, id, leaving, room, ends } = await open();
    await ok(owner.client.rpc('remove_issuer', { id }));
    await ends(/^InvalidJWTToken: /);
    const raw = await new RawSocket().opened;
    assert.match(await joinBy(raw, room, leaving.tokenOf()), /^InvalidJWTToken: /);
    await raw.close();
  });

  test('its issuer, when that is disabled, and joins again when it is enabled', async () => {
    const { owner, id, leaving, room, ends } = await open();
    await ok(owner.client.rpc('update_issuer', { id, changes: { enabled: false } }));
    await ends(/^InvalidJWTToken: /);
    await ok(owner.client.rpc('update_issuer', { id, changes: { enabled: true } }));
    await joined(clientOf(leaving.tokenOf()), room, { private: true });
  });

  test('the audience of its token', async () => {
    const { owner, id, ends } = await open();
    await ok(owner.client.rpc('update_issuer', { id, changes: { audiences: ['another'] } }));
    await ends(/^InvalidJWTToken: /);
  });

  test('the key of its token, when the issuer withdraws it', async () => {
    const { owner, other, id, ends } = await open();
    other.key = newKey('ES256');
    await ok(owner.client.rpc('update_issuer', { id, changes: {} }));
    await ends(/^InvalidJWTToken: /);
    await status(owner, id, 'active');
  });

  test('its membership', async () => {
    const { owner, leaving, ends } = await open();
    await ok(owner.client.from('memberships').delete().eq('id', leaving.membership.id).select());
    await ends(/^provision_required: /);
  });

  test('its user, when that is banned', async () => {
    const { leaving, ends } = await open();
    await sql(`update auth.users set banned_until = now() + interval '1 hour' where id = $1`, [leaving.membership.user_id]);
    await ends(/^InvalidJWTToken: /);
  });
});
