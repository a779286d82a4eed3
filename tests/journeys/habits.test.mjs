// Habits: schedules that cannot be stored wrong, and slots that run once, whatever the clock or the tickers do.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import {
  anonymous,
  assertAnonymousSeesNothing,
  at,
  ended,
  execute,
  newHabit,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  tickAt,
  time,
  unaffected,
  usageOf,
} from './domain.mjs';
import { adminSql, sql } from './support.mjs';

const HOUR = 3600_000;
const _DAY = 24 * HOUR;
const iso = (value) => new Date(value).toISOString();
const runsOf = (habit) =>
  sql('select status, trigger, error_code, scheduled_for from public.executions where habit_id = $1 order by scheduled_for', [habit.id]);
const stateOf = async (habit) => (await sql('select * from public.habits where id = $1', [habit.id]))[0];

describe('habits', () => {
  let team;
  let skill;
  let habit;
  before(async () => {
    team = await newTeam();
    skill = await newSkill(team.owner);
    habit = await newHabit(team.owner, { skill_id: skill.id, cron: '0 0 1 1 *', timezone: 'Europe/Amsterdam' });
  });

  test('an unauthenticated caller sees none', () => assertAnonymousSeesNothing(['habits']));

  test('a non-member sees none, changes none and runs none', async () => {
    const { client } = team.nonMember;
    assert.deepEqual(await ok(client.from('habits').select().eq('id', habit.id)), []);
    await unaffected(client.from('habits').update({ cron: '* * * * *' }).eq('id', habit.id).select());
    await unaffected(client.from('habits').delete().eq('id', habit.id).select());
    await refused(client.rpc('run_habit', { habit_id: habit.id }), 404, 'not_found');
    await refused(client.rpc('run_habit', { habit_id: randomUUID() }), 404, 'not_found');
    await refused(
      client.from('habits').insert({ org_id: team.orgId, skill_id: skill.id, name: 'Planted', cron: '* * * * *' }),
      403,
      '42501',
    );
    // A habit on another organization's skill would run that organization's prompt.
    await refused(client.from('habits').insert({ skill_id: skill.id, name: 'Across', cron: '* * * * *' }), 403, '42501');
    assert.deepEqual(await ok(team.owner.client.from('habits').select().eq('id', habit.id).single()), habit);
  });

  test('a viewer reads, but neither writes nor runs', async () => {
    const { client } = team.viewer;
    assert.equal((await ok(client.from('habits').select().eq('id', habit.id))).length, 1);
    await refused(client.from('habits').insert({ skill_id: skill.id, name: 'Mine', cron: '@daily' }), 403, '42501');
    await unaffected(client.from('habits').update({ enabled: false }).eq('id', habit.id).select());
    await unaffected(client.from('habits').delete().eq('id', habit.id).select());
    await refused(client.rpc('run_habit', { habit_id: habit.id }), 403, 'permission_denied');
    assert.deepEqual(await runsOf(habit), []);
  });

  test('member, admin and owner write', async () => {
    for (const person of [team.member, team.admin, team.owner]) {
      const made = await newHabit(person, { skill_id: skill.id, cron: '@yearly' });
      assert.equal(made.org_id, team.orgId);
      assert.equal((await ok(person.client.from('habits').update({ enabled: false }).eq('id', made.id).select()))[0].next_run_at, null);
      assert.equal((await ok(person.client.from('habits').delete().eq('id', made.id).select())).length, 1);
    }
  });

  test('columns kept by the scheduler cannot be written', async () => {
    const { client } = team.owner;
    await refused(client.from('habits').update({ next_run_at: '2000-01-01' }).eq('id', habit.id).select(), 403, '42501');
    await refused(
      client.from('habits').insert({ skill_id: skill.id, name: 'Now', cron: '@daily', next_run_at: '2000-01-01' }),
      403,
      '42501',
    );
  });
});

describe('a bad schedule', () => {
  let person;
  let skill;
  before(async () => {
    person = await newPerson('PRO');
    skill = await newSkill(person);
  });

  for (const [cron, field] of [
    ['60 * * * *', 'minute'],
    ['* 24 * * *', 'hour'],
    ['* * 0 * *', 'day of month'],
    ['* * * 13 *', 'month'],
    ['* * * * 8', 'day of week'],
    ['*/0 * * * *', 'minute'],
    ['5-1 * * * *', 'minute'],
    ['* * * foo *', 'month'],
  ]) {
    test(`"${cron}" is invalid_cron and names the field ${field}`, async () => {
      const error = await refused(person.client.from('habits').insert({ skill_id: skill.id, name: 'Bad', cron }), 422, 'invalid_cron');
      assert.match(error.details.toLowerCase().replaceAll('-', ' ').replaceAll('_', ' '), new RegExp(field));
    });
  }

  for (const cron of [
    '',
    '* * * *',
    '* * * * * *',
    '0 0 30 2 *',
    '@sometimes',
    "1'; drop table habits; --",
    '* * * * *\u0007',
    'x'.repeat(300),
  ]) {
    test(`${JSON.stringify(cron.slice(0, 30))} is refused`, async () => {
      await refused(person.client.from('habits').insert({ skill_id: skill.id, name: 'Bad', cron }), 422, 'invalid_cron');
      await refused(person.client.rpc('preview_cron', { expression: cron }), 422, 'invalid_cron');
    });
  }

  test('an unknown time zone is refused on insert and update, also of a disabled habit', async () => {
    for (const timezone of ['Europe/Nowhere', 'CEST+99', '', '../../etc/localtime']) {
      await refused(
        person.client.from('habits').insert({ skill_id: skill.id, name: 'Bad', cron: '@daily', timezone, enabled: false }),
        422,
        'invalid_timezone',
      );
    }
    const good = await newHabit(person, { skill_id: skill.id, cron: '@yearly' });
    await refused(person.client.from('habits').update({ timezone: 'Mars/Base' }).eq('id', good.id), 422, 'invalid_timezone');
    await refused(person.client.from('habits').update({ cron: '61 * * * *' }).eq('id', good.id), 422, 'invalid_cron');
    await ok(person.client.from('habits').delete().eq('id', good.id));
  });

  test('nothing of this was stored', async () => {
    assert.deepEqual(await ok(person.client.from('habits').select('cron, timezone')), []);
  });
});

describe('preview_cron', () => {
  let person;
  before(async () => {
    person = await newPerson();
  });

  test('needs a signed-in user', async () => {
    const answer = await anonymous('POST', '/rest/v1/rpc/preview_cron', {
      body: { expression: '@daily' },
      headers: { 'Content-Type': 'application/json' },
    });
    assert.equal(answer.status, 401, answer.text);
  });

  test('returns the next slots in order, as the habit will use them', async () => {
    const slots = await ok(person.client.rpc('preview_cron', { expression: '*/15 9-17 * * MON-FRI', timezone: 'America/New_York', n: 10 }));
    assert.equal(slots.length, 10);
    assert.ok(slots.every((slot, n) => time(slot) > (n ? time(slots[n - 1]) : Date.now())));
    const skill = await newSkill(person);
    const made = await newHabit(person, { skill_id: skill.id, cron: '*/15 9-17 * * MON-FRI', timezone: 'America/New_York' });
    const [again] = await ok(person.client.rpc('preview_cron', { expression: made.cron, timezone: made.timezone, n: 1 }));
    assert.equal(time(made.next_run_at), time(again));
    await ok(person.client.from('habits').delete().eq('id', made.id));
  });

  test('bounds its arguments', async () => {
    for (const n of [0, -1, 101, null]) await refused(person.client.rpc('preview_cron', { expression: '@daily', n }), 422, 'invalid_input');
    assert.equal((await ok(person.client.rpc('preview_cron', { expression: '@daily', n: 100 }))).length, 100);
    await refused(person.client.rpc('preview_cron', { expression: '@daily', timezone: 'Nowhere' }), 422, 'invalid_timezone');
    await refused(person.client.rpc('preview_cron', { expression: null }), 422, 'invalid_cron');
  });

  const preview = (instant, expression, n, timezone = 'Europe/Amsterdam') =>
    at(instant, async (query) =>
      (await query('select slot from public.preview_cron($1, $2, $3) as slot', [expression, timezone, n])).map((row) => iso(row.slot)),
    );

  test('a time that the spring change skips runs once, at the end of the gap', async () => {
    assert.deepEqual(await preview('2027-03-27T12:00:00Z', '30 2 * * *', 3), [
      '2027-03-28T01:00:00.000Z', // 02:30 does not exist: 03:00 summer time
      '2027-03-29T00:30:00.000Z',
      '2027-03-30T00:30:00.000Z',
    ]);
    assert.deepEqual(await preview('2027-03-27T12:00:00Z', '0,20,40 2 * * *', 2), ['2027-03-28T01:00:00.000Z', '2027-03-29T00:00:00.000Z']);
  });

  test('a time that the autumn change brings twice runs once, the first time', async () => {
    assert.deepEqual(await preview('2027-10-30T12:00:00Z', '30 2 * * *', 2), ['2027-10-31T00:30:00.000Z', '2027-11-01T01:30:00.000Z']);
  });

  test('every hour stays every hour through both', async () => {
    const spring = await preview('2027-03-27T23:30:00Z', '0 * * * *', 4);
    const autumn = await preview('2027-10-30T23:30:00Z', '0 * * * *', 4);
    for (const slots of [spring, autumn])
      assert.ok(
        slots.every((slot, n) => n === 0 || time(slot) - time(slots[n - 1]) === HOUR),
        slots.join(' '),
      );
  });
});

// Yearly habits only, so that the stack's own clock never finds them due while these tests travel.
describe('the tick', () => {
  let person;
  let skill;
  const nextNewYear = Date.UTC(new Date().getUTCFullYear() + 1, 0, 1);
  // A quarter of an hour that is a test's own: a tick runs whatever is due, also of the tests before.
  const yearly = (minute) => `${minute} 0 1 1 *`;

  before(async () => {
    person = await newPerson('PRO');
    skill = await newSkill(person);
  });

  test('does nothing before the slot, and at the slot creates one execution', async () => {
    const habit = await newHabit(person, { skill_id: skill.id, cron: yearly(0), input: { n: 'happy new year' } });
    const slot = nextNewYear;
    assert.equal(time(habit.next_run_at), slot);
    const used = (await usageOf(person)).executions.used;
    await tickAt(slot - 1000);
    assert.deepEqual(await runsOf(habit), []);
    await tickAt(slot + 1000);
    await tickAt(slot + 2000);
    const runs = await runsOf(habit);
    assert.equal(runs.length, 1);
    assert.equal(runs[0].trigger, 'habit');
    assert.equal(time(runs[0].scheduled_for), slot);
    const after = await stateOf(habit);
    assert.equal(time(after.last_run_at), slot);
    assert.equal(after.next_run_at.getUTCFullYear(), new Date(slot).getUTCFullYear() + 1);
    const [{ id }] = await ok(person.client.from('executions').select('id').eq('habit_id', habit.id));
    const execution = await ended(person, id);
    assert.equal(execution.status, 'succeeded', execution.error);
    assert.match(JSON.stringify(execution.output), /happy new year/);
    assert.equal((await usageOf(person)).executions.used, used, 'charged to the month of the slot, which is not this one');
    const [{ charged }] = await at(slot + 3000, (query) =>
      query(`select used::int as charged from kijko.usage('${person.orgId}') where meter = 'executions'`),
    );
    assert.equal(charged, 1);
    await ok(person.client.from('habits').delete().eq('id', habit.id));
    const kept = await ok(person.client.from('executions').select('habit_id').eq('id', id).single());
    assert.equal(kept.habit_id, null, 'the record outlives the habit');
  });

  test('after downtime only the latest missed slot runs', async () => {
    const habit = await newHabit(person, { skill_id: skill.id, cron: '0 0 1 * *', input: { n: 1 } });
    // Nine months of monthly slots, without a scheduler.
    const until = new Date(nextNewYear);
    until.setUTCMonth(9, 15);
    await tickAt(until);
    const runs = await runsOf(habit);
    assert.deepEqual(
      runs.map((r) => iso(r.scheduled_for)),
      [iso(Date.UTC(until.getUTCFullYear(), 9, 1))],
    );
    assert.equal(time((await stateOf(habit)).next_run_at), Date.UTC(until.getUTCFullYear(), 10, 1));
    await ok(person.client.from('habits').delete().eq('id', habit.id));
  });

  test('through the spring change a habit in the gap runs once', async () => {
    const habit = await newHabit(person, { skill_id: skill.id, cron: '30 2 28 3 *', timezone: 'Europe/Amsterdam', input: { n: 1 } });
    // Put where the change of 2027 lies ahead; the trigger works by the clock of this session.
    await at('2027-03-27T12:00:00Z', (query) => query(`update public.habits set cron = '30 2 * * *' where id = '${habit.id}'`));
    assert.equal(iso((await stateOf(habit)).next_run_at), '2027-03-28T01:00:00.000Z');
    await tickAt('2027-03-28T00:59:30Z');
    assert.deepEqual(await runsOf(habit), []);
    for (const moment of ['2027-03-28T01:00:30Z', '2027-03-28T01:30:30Z', '2027-03-28T02:30:30Z', '2027-03-28T23:00:00Z'])
      await tickAt(moment);
    assert.deepEqual(
      (await runsOf(habit)).map((r) => iso(r.scheduled_for)),
      ['2027-03-28T01:00:00.000Z'],
    );
    await ok(person.client.from('habits').delete().eq('id', habit.id));
  });

  test('many schedulers at once create one execution for each due slot and miss none', async () => {
    const owners = await Promise.all(Array.from({ length: 8 }, () => newPerson('TEAMS')));
    const skills = await Promise.all(owners.map((owner) => newSkill(owner)));
    const orgs = owners.map((owner) => owner.orgId);
    const EACH = 50;
    const slot = nextNewYear + 20 * 60_000;
    // Interleaved, so that tickers meet the organizations in different orders.
    await sql(
      `insert into public.habits (org_id, skill_id, name, cron, input)
       select o.org, o.skill, 'Habit ' || n, $3, '{"n": 1}' from generate_series(1, ${EACH}) as n, unnest($1::uuid[], $2::uuid[]) as o (org, skill)`,
      [orgs, skills.map((s) => s.id), yearly(20)],
    );
    const tickers = [
      ...Array.from({ length: 4 }, () => tickAt(slot + 30_000)),
      ...Array.from({ length: 2 }, () => at(slot + 30_000, (query) => query('call private.habits_tick()').then(() => 0))),
    ];
    await Promise.all(tickers);
    assert.equal(await tickAt(slot + 40_000), 0, 'nothing is left to do');
    const rows = await sql(
      `select count(*)::int as executions, count(distinct habit_id)::int as habits, count(distinct scheduled_for)::int as slots,
              count(*) filter (where status in ('failed', 'skipped'))::int as lost
       from public.executions where org_id = any ($1) group by org_id`,
      [orgs],
    );
    assert.deepEqual(
      rows,
      orgs.map(() => ({ executions: EACH, habits: EACH, slots: 1, lost: 0 })),
    );
    for (const org of orgs) {
      const [{ charged }] = await at(slot + 30_000, (query) =>
        query(`select used::int as charged from kijko.usage($1) where meter = 'executions'`, [org]),
      );
      assert.equal(charged, EACH, 'one charge each');
    }
    await sql('delete from public.habits where org_id = any ($1)', [orgs]);
  });

  test('a habit over its limit records a skipped execution and goes on', async () => {
    const poor = await newPerson();
    const own = await newSkill(poor);
    const habit = await newHabit(poor, { skill_id: own.id, cron: yearly(30), input: { n: 1 } });
    const slot = nextNewYear + 30 * 60_000;
    await at(slot, (query) => query(`select kijko.try_consume('${poor.orgId}', 'executions', 50)`));
    await tickAt(slot + 1000);
    const runs = await runsOf(habit);
    assert.deepEqual(
      runs.map((r) => [r.status, r.error_code]),
      [['skipped', 'quota_exceeded']],
    );
    assert.ok(time((await stateOf(habit)).next_run_at) > slot);
    await ok(poor.client.from('habits').delete().eq('id', habit.id));
  });

  test('a disabled habit does not run; enabled again it starts with the next slot; a disabled skill is skipped', async () => {
    const habit = await newHabit(person, { skill_id: skill.id, cron: yearly(40), input: { n: 1 }, enabled: false });
    assert.equal(habit.next_run_at, null);
    const slot = nextNewYear + 40 * 60_000;
    await tickAt(slot + 1000);
    assert.deepEqual(await runsOf(habit), []);
    const [on] = await ok(person.client.from('habits').update({ enabled: true }).eq('id', habit.id).select());
    assert.equal(time(on.next_run_at), slot);
    await ok(person.client.from('skills').update({ enabled: false }).eq('id', skill.id));
    await tickAt(slot + 1000);
    assert.deepEqual(
      (await runsOf(habit)).map((r) => [r.status, r.error_code]),
      [['skipped', 'skill_disabled']],
    );
    await ok(person.client.from('skills').update({ enabled: true }).eq('id', skill.id));
    await ok(person.client.from('habits').delete().eq('id', habit.id));
  });

  test('a changed schedule or zone moves the next run; any other change leaves it', async () => {
    const habit = await newHabit(person, { skill_id: skill.id, cron: '0 9 * * *', timezone: 'UTC', enabled: true });
    const update = async (fields) =>
      (await ok(person.client.from('habits').update(fields).eq('id', habit.id).select().single())).next_run_at;
    const expected = async (expression, timezone) => (await ok(person.client.rpc('preview_cron', { expression, timezone, n: 1 })))[0];
    assert.equal(await update({ name: 'Renamed', input: { n: 2 } }), habit.next_run_at);
    const moved = await update({ timezone: 'Asia/Tokyo' });
    assert.notEqual(moved, habit.next_run_at);
    assert.equal(time(moved), time(await expected('0 9 * * *', 'Asia/Tokyo')));
    assert.equal(time(await update({ cron: '30 4 * * SUN' })), time(await expected('30 4 * * SUN', 'Asia/Tokyo')));
    await ok(person.client.from('habits').delete().eq('id', habit.id));
  });

  test('is called every minute by pg_cron, not as a superuser', async () => {
    const jobs = await adminSql(`select schedule, command, username, active from cron.job where jobname = 'kijko-habits-run-due'`);
    assert.deepEqual(jobs, [
      {
        schedule: '* * * * *',
        command: `do $cron$ begin set lock_timeout = '5s'; call private.habits_tick(); end $cron$`,
        username: 'postgres',
        active: true,
      },
    ]);
  });
});

describe('run_habit', () => {
  test('runs it now in addition to its schedule, charged like any execution', async () => {
    const person = await newPerson();
    const skill = await newSkill(person);
    const habit = await newHabit(person, { skill_id: skill.id, cron: '@yearly', input: { n: 'by hand' } });
    const queued = await ok(person.client.rpc('run_habit', { habit_id: habit.id }));
    assert.deepEqual([queued.habit_id, queued.skill_id, queued.scheduled_for], [habit.id, skill.id, null]);
    const execution = await ended(person, queued.id);
    assert.equal(execution.status, 'succeeded', execution.error);
    assert.match(JSON.stringify(execution.output), /by hand/);
    assert.equal((await usageOf(person)).executions.used, 1);
    assert.equal((await stateOf(habit)).next_run_at.toISOString(), iso(habit.next_run_at));
    await sql(`select kijko.set_limit($1, 'executions', 'month', 1)`, [person.orgId]);
    await refused(person.client.rpc('run_habit', { habit_id: habit.id }), 429, 'quota_exceeded');
    await refused(execute(person, skill.id, { n: 1 }), 429, 'quota_exceeded');
    await ok(person.client.from('habits').delete().eq('id', habit.id));
  });
});
