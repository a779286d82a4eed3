// The product's own events, as a frontend gets them by supabase-js: who may join which topic, what arrives, and when it ends.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { until } from '../until.mjs';
import { createKey } from './api_keys_support.mjs';
import { ended, execute, newSkill, newTeam, ok } from './domain.mjs';
import { closeClients, joined, realtimeClient, recorder, refusedJoin, subscribe } from './realtime_support.mjs';
import { http, sql } from './support.mjs';

let team;
before(async () => {
  team = await newTeam();
  await ok(team.admin.client.from('notification_types').insert({ name: 'custom.deploy' }));
});
after(closeClients);

/** A realtime client of this person, who is signed in. */
const live = (person) => realtimeClient({ token: async () => person.token });
const follow = (person, topic, config = {}) => joined(live(person), topic, { private: true, ...config });
const events = (log, name) => log.broadcasts.filter(({ event }) => event === name).map(({ payload }) => payload);
const arrives = (log, name, matches = () => true) => until(`${name} to arrive`, () => events(log, name).find(matches));

describe('a topic of the product', () => {
  test('is joined by nobody who may not see what it is about', async () => {
    const project = await ok(
      team.owner.client.from('projects').insert({ name: 'Secret', visibility: 'private', org_id: team.orgId }).select().single(),
    );
    const strangers = live(team.nonMember);
    const topics = [`org:${team.orgId}`, `user:${team.owner.user.id}`, `project:${project.id}`, `room:${team.orgId}:general`];
    for (const topic of [...topics, `execution:${randomUUID()}`, `job:${randomUUID()}`]) await refusedJoin(strangers, topic);
    const viewer = live(team.viewer);
    for (const topic of [`project:${project.id}`, `user:${team.owner.user.id}`]) await refusedJoin(viewer, topic);
    const anonymous = realtimeClient();
    for (const topic of topics) await refusedJoin(anonymous, topic);
  });

  test('takes no message of a client: nobody forges an event', async () => {
    const topic = `org:${team.orgId}`;
    const log = await follow(team.viewer, topic);
    const forger = await follow(team.owner, topic, { broadcast: { ack: true } });
    assert.notEqual(await forger.channel.send({ type: 'broadcast', event: 'execution', payload: { status: 'forged' } }), 'ok');
    const answer = await http('POST', '/realtime/v1/api/broadcast', {
      token: team.owner.token,
      headers: { 'Content-Type': 'application/json' },
      body: { messages: [{ topic, event: 'execution', payload: { status: 'forged' }, private: true }] },
    });
    assert.ok(answer.status < 500, answer.text);
    await ok(team.admin.client.rpc('notify', { type: 'custom.deploy', title: 'Real' }));
    await arrives(log, 'notification');
    assert.deepEqual(events(log, 'execution'), []);
    const { error } = await team.owner.client.schema('realtime').from('messages').select('id');
    assert.equal(error?.code, 'PGRST106', 'the table of messages is not served');
  });
});

describe('an execution', () => {
  test('is followed from its start to its last word', async () => {
    const skill = await newSkill(team.owner, { parameters: { delay_ms: 8000 } });
    const log = await follow(team.viewer, `org:${team.orgId}`);
    const execution = await ok(execute(team.owner, skill.id, { n: Array.from({ length: 20 }, (_, n) => `word${n}`).join(' ') }));
    const own = await follow(team.viewer, `execution:${execution.id}`);
    const final = await ended(team.viewer, execution.id);
    assert.equal(final.status, 'succeeded', JSON.stringify(final));
    await arrives(own, 'execution', ({ status }) => status === 'succeeded');
    await arrives(log, 'execution', ({ execution_id, status }) => execution_id === execution.id && status === 'succeeded');
    const statuses = events(log, 'execution').filter(({ execution_id }) => execution_id === execution.id);
    assert.deepEqual(
      statuses.map(({ status }) => status),
      ['queued', 'running', 'succeeded'],
    );
    assert.deepEqual(Object.keys(statuses[0]).toSorted(), ['execution_id', 'id', 'status'], 'ids and status only');
    const text = events(own, 'execution_text')
      .toSorted((a, b) => a.attempt - b.attempt || a.seq - b.seq)
      .map((piece) => piece.text)
      .join('');
    assert.ok(
      text !== '' && JSON.stringify(final.output).includes(JSON.stringify(text).slice(1, -1)),
      `${text} | ${JSON.stringify(final.output)}`,
    );
  });

  test('of a private project reaches neither the organization nor its viewers', async () => {
    const project = await ok(
      team.owner.client.from('projects').insert({ name: 'Hidden', visibility: 'private', org_id: team.orgId }).select().single(),
    );
    const skill = await newSkill(team.owner, { project_id: project.id });
    const org = await follow(team.viewer, `org:${team.orgId}`);
    const own = await follow(team.owner, `project:${project.id}`);
    const execution = await ok(execute(team.owner, skill.id, { n: 'x' }));
    await refusedJoin(live(team.viewer), `execution:${execution.id}`);
    await arrives(own, 'execution', ({ status }) => status === 'succeeded');
    await ok(team.admin.client.rpc('notify', { type: 'custom.deploy', title: 'A mark after it' }));
    await arrives(org, 'notification');
    assert.ok(!JSON.stringify(org.broadcasts).includes(execution.id));
  });
});

describe('a notification', () => {
  test('arrives at its reader at once, and the other window learns that it was read', async () => {
    const log = await follow(team.viewer, `user:${team.viewer.user.id}`);
    const sent = await ok(team.admin.client.rpc('notify', { type: 'custom.deploy', title: 'For you', user_id: team.viewer.user.id }));
    const event = await arrives(log, 'notification', ({ notification_id }) => notification_id === sent.id);
    assert.deepEqual([event.org_id, event.type, event.title], [team.orgId, 'custom.deploy', undefined]);
    await ok(team.viewer.client.rpc('mark_read', { ids: [sent.id] }));
    const state = await arrives(log, 'notification_state', ({ read }) => read === true);
    assert.deepEqual(state.notification_ids, [sent.id]);
  });
});

describe('a room', () => {
  test('carries chat and presence of members; a viewer is seen and does not send', async () => {
    const topic = `room:${team.orgId}:general`;
    const enter = async (person) => {
      const log = recorder(
        live(person).channel(topic, { config: { private: true, broadcast: { ack: true }, presence: { key: person.user.id } } }),
      );
      // The client asks for presence if somebody listens to it.
      log.channel.on('presence', { event: 'sync' }, () => {});
      const { status, reason } = await subscribe(log.channel, log);
      assert.equal(status, 'SUBSCRIBED', reason);
      return log;
    };
    const [member, viewer] = [await enter(team.member), await enter(team.viewer)];
    assert.equal(await member.channel.send({ type: 'broadcast', event: 'message', payload: { text: 'hello' } }), 'ok');
    assert.equal((await arrives(viewer, 'message')).text, 'hello');
    assert.notEqual(await viewer.channel.send({ type: 'broadcast', event: 'message', payload: { text: 'no' } }), 'ok');
    await viewer.channel.track({ typing: true });
    await until('presence', () => member.channel.presenceState()[team.viewer.user.id]);
    assert.ok(!events(member, 'message').some(({ text }) => text === 'no'));
  });
});

describe('access that ends', () => {
  test('ends the subscription of a removed member at once', async () => {
    const log = await follow(team.member, `org:${team.orgId}`);
    const room = await follow(team.member, `room:${team.orgId}:other`);
    await ok(team.owner.client.from('memberships').delete().eq('user_id', team.member.user.id).eq('org_id', team.orgId).select());
    for (const { states } of [log, room]) await until('the channel to end', () => states.some(({ status }) => status !== 'SUBSCRIBED'));
    const before = events(log, 'notification').length;
    await ok(team.admin.client.rpc('notify', { type: 'custom.deploy', title: 'Not for who left' }));
    await sql('select pg_sleep(1)');
    assert.equal(events(log, 'notification').length, before);
    await refusedJoin(live(team.member), `org:${team.orgId}`);
  });

  test("ends that of a revoked key, which joins what it may read and no person's topic", async () => {
    const key = await createKey(team.owner, { permissions: ['organization:read', '*:read'] });
    const robot = realtimeClient({ token: async () => key.secret });
    await refusedJoin(robot, `user:${team.owner.user.id}`);
    const log = await joined(robot, `org:${team.orgId}`, { private: true });
    await ok(team.admin.client.rpc('notify', { type: 'custom.deploy', title: 'For robots, too' }));
    await arrives(log, 'notification');
    await ok(team.owner.client.rpc('revoke_api_key', { id: key.id }));
    await until('the channel to end', () => log.states.some(({ status }) => status !== 'SUBSCRIBED'));
  });

  test('ends that of a project that becomes private', async () => {
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Once open', org_id: team.orgId }).select().single());
    const log = await follow(team.viewer, `project:${project.id}`);
    await ok(team.owner.client.from('projects').update({ visibility: 'private' }).eq('id', project.id).select());
    await until('the channel to end', () => log.states.some(({ status }) => status !== 'SUBSCRIBED'));
    await refusedJoin(live(team.viewer), `project:${project.id}`);
  });

  test('ends that of an ended session', async () => {
    const log = await follow(team.viewer, `user:${team.viewer.user.id}`);
    await sql('delete from auth.sessions where user_id = $1', [team.viewer.user.id]);
    await until('the channel to end', () => log.states.some(({ status }) => status !== 'SUBSCRIBED'));
  });
});
