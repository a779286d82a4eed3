// Usage: gauges that refuse, what was used by whom and for what, forecasts, explanations, and events from one's own services.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import {
  anonymous,
  call,
  execute,
  inTurn,
  join,
  newHabit,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  setPlan,
  until,
  usageOf,
} from './domain.mjs';
import { admin, api, http, sql } from './support.mjs';

const event = (fields = {}) => ({
  specversion: '1.0',
  source: '/services/build',
  id: randomUUID(),
  type: 'build.done',
  time: new Date().toISOString(),
  data: { minutes: 5 },
  ...fields,
});

describe('unauthenticated callers and non-members', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('can read and report nothing of an organization', async () => {
    for (const [name, body] of [
      ['usage_by', { dimension: 'day' }],
      ['usage_forecast', {}],
      ['usage_alerts', {}],
      ['explain_limit', { org_id: team.orgId, meter: 'projects' }],
      ['ingest_usage', { events: [] }],
    ]) {
      const unauthenticated = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.equal(unauthenticated.status, 401, `${name}: ${unauthenticated.text}`);
      const nonMember = await call(team.nonMember, name, body, { 'x-org-id': team.orgId });
      assert.deepEqual([nonMember.status, nonMember.body.code], [403, 'not_a_member'], name);
    }
    await refused(team.nonMember.client.rpc('explain_limit', { org_id: team.orgId, meter: 'projects' }), 403, 'not_a_member');
    await refused(team.nonMember.client.rpc('ingest_usage', { events: [], org_id: team.orgId }), 403, '42501');
  });

  test('every role reads usage; only roles that can change the organization send events and create meters', async () => {
    for (const person of [team.viewer, team.member]) {
      await ok(person.client.rpc('usage_by', { dimension: 'day' }));
      await ok(person.client.rpc('usage_forecast'));
      await ok(person.client.rpc('usage_alerts'));
      await refused(person.client.rpc('ingest_usage', { events: [event()] }), 403, 'permission_denied');
      await refused(person.client.from('usage_meters').insert({ event_type: 'x', meter: 'own.x' }), 403, '42501');
    }
    await ok(team.admin.client.from('usage_meters').insert({ event_type: 'build.done', meter: 'own.minutes', amount_field: 'minutes' }));
    assert.equal((await ok(team.admin.client.rpc('ingest_usage', { events: [event()] }))).accepted, 1);
    assert.equal((await usageOf(team.viewer))['own.minutes'].used, 5);
  });
});

describe('gauges', () => {
  test("a project beyond the plan's limit is 429 with the figures; deleting one makes room", async () => {
    const person = await newPerson();
    const made = await ok(
      person.client
        .from('projects')
        .insert([{ name: 'a' }, { name: 'b' }, { name: 'c' }])
        .select(),
    );
    const answer = await http('POST', '/rest/v1/projects', {
      token: person.token,
      body: { name: 'd' },
      headers: { 'Content-Type': 'application/json' },
    });
    assert.deepEqual([answer.status, answer.body.code], [429, 'quota_exceeded']);
    assert.equal(answer.headers.get('x-ratelimit-resource'), 'projects');
    assert.equal(answer.headers.get('x-ratelimit-limit'), '3');
    assert.equal(answer.headers.get('x-ratelimit-remaining'), '0');
    await ok(person.client.from('projects').delete().eq('id', made[0].id));
    await ok(person.client.from('projects').insert({ name: 'd' }));
    const { projects } = await usageOf(person);
    assert.deepEqual([projects.period, projects.used, projects.limit, projects.remaining, projects.reset_at], ['lifetime', 3, 3, 0, null]);
  });

  test('of twenty created at once exactly as many succeed as fit', async () => {
    const person = await newPerson();
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => person.client.from('projects').insert({ name: `p${n}` })));
    for (const { error } of answers) if (error) assert.equal(error.code, 'quota_exceeded');
    assert.equal(answers.filter((a) => a.error === null).length, 3);
    assert.equal((await ok(person.client.from('projects').select('id'))).length, 3);
    assert.equal((await usageOf(person)).projects.used, 3);
  });

  test('members and habits are counted, too, and a larger plan has room at once', async () => {
    const owner = await newPerson();
    const guests = await Promise.all(Array.from({ length: 3 }, () => newPerson()));
    for (const guest of guests.slice(0, 2)) await join(guest, owner.orgId, 'viewer', owner);
    const { token } = await ok(owner.client.rpc('invite_member', { email: guests[2].email, role: 'viewer' }));
    await refused(guests[2].client.rpc('accept_invitation', { token }), 429, 'quota_exceeded');
    const skill = await newSkill(owner);
    for (let n = 0; n < 3; n += 1) await newHabit(owner, { skill_id: skill.id, cron: '@yearly', name: `h${n}` });
    const fourth = { skill_id: skill.id, cron: '@yearly', name: 'h3' };
    await refused(owner.client.from('habits').insert(fourth), 429, 'quota_exceeded');
    await setPlan(owner.orgId, 'PRO');
    await ok(owner.client.from('habits').insert(fourth));
    await ok(guests[2].client.rpc('accept_invitation', { token })); // it has stayed open
    const { habits, members } = await usageOf(owner);
    assert.deepEqual([habits.used, habits.limit, members.used, members.limit], [4, 50, 4, 5]);
    // Leaving makes room again.
    await ok(guests[0].client.from('memberships').delete().eq('org_id', owner.orgId).eq('user_id', guests[0].user.id));
    assert.equal((await usageOf(owner)).members.used, 3);
  });

  test('a deleted organization leaves no gauge behind', async () => {
    const person = await newPerson();
    const org = await ok(person.client.rpc('create_organization', { name: 'Short-lived' }));
    const inside = { 'x-org-id': org.id };
    const skill = await http('POST', '/rest/v1/skills?select=id', {
      token: person.token,
      headers: { ...inside, 'Content-Type': 'application/json', Prefer: 'return=representation' },
      body: { name: 's', prompt_template: 'x', model: 'echo/echo' },
    });
    for (const [table, body] of [
      ['projects', [{ name: 'a' }, { name: 'b' }]],
      ['habits', [{ skill_id: skill.body[0].id, name: 'h', cron: '@daily' }]],
    ]) {
      const answer = await http('POST', `/rest/v1/${table}`, {
        token: person.token,
        headers: { ...inside, 'Content-Type': 'application/json' },
        body,
      });
      assert.equal(answer.status, 201, answer.text);
    }
    const gauges = () =>
      sql(`select meter, used::int from kijko.usage($1) where period = 'lifetime' and used > 0 order by meter`, [org.id]);
    assert.deepEqual(await gauges(), [
      { meter: 'habits', used: 1 },
      { meter: 'members', used: 1 },
      { meter: 'projects', used: 2 },
      { meter: 'skills', used: 1 },
    ]);
    await ok(person.client.from('organizations').delete().eq('id', org.id));
    assert.deepEqual(await gauges(), []);
  });
});

describe('usage_summary', () => {
  test("returns meter, period, used, limit, remaining and reset of the caller's organization only", async () => {
    const [person, other] = await Promise.all([newPerson(), newPerson()]);
    await sql(`select kijko.try_consume($1, 'llm_tokens', 1234)`, [other.orgId]);
    const rows = await ok(person.client.rpc('usage_summary'));
    assert.deepEqual(
      rows.map((r) => r.meter),
      (await ok(api().from('plan_limits').select('meter').eq('plan', 'FREE'))).map((l) => l.meter).sort(),
    );
    const tokens = rows.find((r) => r.meter === 'llm_tokens');
    assert.deepEqual(
      { ...tokens, reset_at: null },
      { meter: 'llm_tokens', period: 'month', used: 0, limit: 100_000, remaining: 100_000, reset_at: null },
    );
    const reset = new Date(tokens.reset_at);
    assert.ok(reset > Date.now() && reset - Date.now() <= 31 * 86400_000);
    assert.equal((await usageOf(other)).llm_tokens.used, 1234);
  });

  test('every role reads it', async () => {
    const team = await newTeam();
    for (const person of [team.viewer, team.member, team.admin, team.owner]) assert.equal((await usageOf(person)).executions.limit, 20_000);
  });
});

describe('reports', () => {
  test('group usage by user, project, skill and day', async () => {
    const person = await newPerson();
    const project = await ok(person.client.from('projects').insert({ name: 'Notes' }).select().single());
    const [inProject, alone] = [await newSkill(person, { project_id: project.id }), await newSkill(person, { name: 'Alone' })];
    for (const skill of [inProject, inProject, alone]) await ok(execute(person, skill.id, { n: 1 }));
    const by = async (dimension) =>
      Object.fromEntries(
        (await ok(person.client.rpc('usage_by', { dimension, only_meter: 'executions' }))).map((row) => [row.value, row.used]),
      );
    // Reserved while they wait, and recorded when they run.
    await until('three that have run', async () => (await by('day'))[new Date().toISOString().slice(0, 10)] === 3);
    assert.deepEqual(await by('skill'), { [inProject.id]: 2, [alone.id]: 1 });
    assert.deepEqual(await by('project'), { [project.id]: 2, null: 1 });
    assert.deepEqual(await by('member'), { [person.user.id]: 3 });
    assert.deepEqual(await by('day'), { [new Date().toISOString().slice(0, 10)]: 3 });
    assert.deepEqual(await ok(person.client.rpc('usage_by', { dimension: 'day', only_meter: 'executions', until: '2020-01-01' })), []);
    await refused(person.client.rpc('usage_by', { dimension: 'not a name' }), 422, 'invalid_input');
  });

  test('forecast the end of the period and list the thresholds reached', async () => {
    const person = await newPerson();
    await sql(`select kijko.try_consume($1, 'executions', 45)`, [person.orgId]);
    const [forecast] = (await ok(person.client.rpc('usage_forecast'))).filter((row) => row.meter === 'executions');
    assert.deepEqual([forecast.used, forecast.limit], [45, 50]);
    assert.ok(forecast.at_period_rate >= 45 && forecast.at_week_rate >= 45);
    const alerts = (await ok(person.client.rpc('usage_alerts'))).filter((row) => row.meter === 'executions');
    assert.deepEqual(
      alerts.map((row) => [row.threshold, row.used, row.limit]),
      [
        [80, 45, 50],
        [50, 45, 50],
      ],
    );
    const later = new Date(Date.now() + 3600_000).toISOString();
    assert.deepEqual(await ok(person.client.rpc('usage_alerts', { since: later })), []);
  });

  test('explain a refusal by plan, overrides and rows', async () => {
    const person = await newPerson();
    const skill = await newSkill(person);
    await ok(execute(person, skill.id, { n: 1 }));
    // Reserved while it waits, and recorded when it runs.
    await until(
      'a row of the ledger',
      async () => (await ok(admin().rpc('explain_limit', { org_id: person.orgId, meter: 'executions' }))).rows.latest !== null,
    );
    await sql(`select kijko.set_limit($1, 'executions', 'month', 1)`, [person.orgId]);
    await refused(execute(person, skill.id, { n: 2 }), 429, 'quota_exceeded');
    const why = await ok(person.client.rpc('explain_limit', { org_id: person.orgId, meter: 'executions' }));
    assert.deepEqual(
      [why.plan, why.plan_includes.amount, why.overridden, why.limit.amount, why.used, why.refuses, why.blocked_by],
      ['FREE', 50, true, 1, 1, true, null],
    );
    assert.match(why.answer, /^Used 1 of 1; /);
    assert.equal(why.rows.latest[0].attributes.skill, skill.id);
    assert.equal(why.rows.latest[0].attributes.member, person.user.id);
  });
});

describe("events sent by a company's own services", () => {
  let person;
  // On a busy machine ten at once use up the time of connections that their sender has.
  const ingest = (events) => inTurn(() => person.client.rpc('ingest_usage', { events }));
  const send = (events) => ok(ingest(events));
  before(async () => {
    person = await newPerson('PRO');
    await ok(
      person.client.from('usage_meters').insert([
        { event_type: 'build.done', meter: 'own.minutes', amount_field: 'minutes' },
        { event_type: 'page.seen', meter: 'own.views' },
      ]),
    );
  });

  test('count once, however often they are sent; a bad one does not fail the others', async () => {
    const good = event({ subject: 'acme' });
    const first = await send([good, event({ type: 'page.seen' }), event({ type: 'llm_tokens' }), event({ data: { minutes: -1 } }), good]);
    assert.deepEqual(
      first.events.map((e) => [e.status, e.code]),
      [
        ['accepted', undefined],
        ['accepted', undefined],
        ['refused', 'not_found'],
        ['refused', 'invalid_input'],
        ['duplicate', undefined],
      ],
    );
    const again = await ok(admin().rpc('ingest_usage', { events: [good], org_id: person.orgId }));
    assert.deepEqual([again.accepted, again.duplicate, again.refused], [0, 1, 0]);
    const usage = await usageOf(person);
    assert.deepEqual([usage['own.minutes'].used, usage['own.views'].used, usage.llm_tokens.used], [5, 1, 0]);
    const [bySubject] = await ok(person.client.rpc('usage_by', { dimension: 'subject', only_meter: 'own.minutes' }));
    assert.deepEqual([bySubject.value, bySubject.used], ['acme', 5]);
  });

  test('count once when ten senders send one batch at once', async () => {
    const before = (await usageOf(person))['own.views']?.used ?? 0;
    const events = Array.from({ length: 200 }, () => event({ type: 'page.seen' }));
    const shuffled = () => events.toSorted(() => Math.random() - 0.5);
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(shuffled())));
    assert.equal(
      answers.reduce((sum, answer) => sum + answer.accepted, 0),
      200,
    );
    assert.equal(
      answers.reduce((sum, answer) => sum + answer.duplicate, 0),
      1800,
    );
    assert.equal((await usageOf(person))['own.views'].used, before + 200);
  });

  test("are accepted, of batches sent at once, exactly as far as the month's quota allows", async () => {
    const {
      events: { used },
    } = await usageOf(person);
    await sql(`select kijko.set_limit($1, 'events', 'month', $2)`, [person.orgId, used + 45]);
    const before = (await usageOf(person))['own.views'].used;
    // A sender that finds the room taken meanwhile fails as a whole, and sends the batch again.
    let taken = 0;
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const batch = Array.from({ length: 10 }, () => event({ type: 'page.seen' }));
        for (let tries = 0; tries < 10; tries += 1) {
          const { data, error } = await ingest(batch);
          if (error) assert.equal(error.code, 'quota_exceeded');
          else {
            taken += data.accepted;
            return;
          }
        }
      }),
    );
    const after = await usageOf(person);
    assert.deepEqual([taken, after.events.used - used, after['own.views'].used - before], [45, 45, 45]);
    const refusal = await call(person, 'ingest_usage', { events: [event({ type: 'page.seen' })] });
    assert.deepEqual([refusal.status, refusal.body.code, refusal.headers.get('x-ratelimit-resource')], [429, 'quota_exceeded', 'events']);
    await sql(`select kijko.set_limit($1, 'events', 'month', 5000000)`, [person.orgId]);
  });

  test('have one result each: 2,500 events have 2,500 results', async () => {
    const answer = await send(Array.from({ length: 2500 }, () => event()));
    assert.equal(answer.accepted, 2500);
    assert.equal(answer.events.length, 2500);
  });

  test('that are late count in their own month', async () => {
    const {
      'own.views': { used },
    } = await usageOf(person);
    const [{ time }] = await sql(
      `select to_char(date_trunc('month', now(), 'UTC') - interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as time`,
    );
    assert.equal((await send([event({ type: 'page.seen', time })])).accepted, 1);
    assert.equal((await usageOf(person))['own.views'].used, used);
    const day = time.slice(0, 10);
    const rows = await ok(person.client.rpc('usage_by', { dimension: 'day', only_meter: 'own.views', since: day, until: day }));
    assert.deepEqual(
      rows.map((row) => [row.value, row.used]),
      [[day, 1]],
    );
  });

  test("cannot name the platform's meters, and a batch has a limit", async () => {
    await refused(person.client.from('usage_meters').insert({ event_type: 'x', meter: 'llm_tokens' }), 400, '23514');
    await refused(person.client.from('usage_meters').update({ meter: 'projects' }).eq('event_type', 'page.seen'), 400, '23514');
    await refused(person.client.rpc('ingest_usage', { events: Array.from({ length: 10_001 }, () => 1) }), 422, 'invalid_input');
    await refused(person.client.rpc('ingest_usage', { events: { not: 'a list' } }), 422, 'invalid_input');
    await refused(admin().rpc('ingest_usage', { events: [], org_id: randomUUID() }), 404, 'not_found');
  });
});
