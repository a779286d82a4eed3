// What a habit does when slots overlap or were missed, and when it fails, with a worker that runs what is queued.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createKey, keyClient } from './api_keys_support.mjs';
import { ended, newHabit, newPerson, newSkill, newTeam, ok, refused, tickAt, unaffected, until } from './domain.mjs';
import { sql } from './support.mjs';

const HOUR = 3_600_000;
// Yearly, so that the stack's own clock never finds them due; a minute that no other test has.
const nextYear = new Date().getUTCFullYear() + 1;
const slotOf = (minute) => Date.UTC(nextYear, 1, 1, 5, minute);
const yearly = (minute) => `${minute} 5 1 2 *`;
const runsOf = (person, habit) =>
  ok(
    person.client
      .from('executions')
      .select('id, status, error_code, skip_count')
      .eq('org_id', person.orgId)
      .eq('habit_id', habit.id)
      .order('scheduled_for'),
  );

describe('policies of a habit', () => {
  let team;
  let skill;
  before(async () => {
    team = await newTeam();
    skill = await newSkill(team.member);
  });

  test('are written by members, not by non-members and viewers', async () => {
    const habit = await newHabit(team.member, {
      skill_id: skill.id,
      cron: yearly(1),
      overlap: 'queue',
      catch_up: 'all',
      jitter_seconds: 60,
    });
    for (const person of [team.nonMember, team.viewer]) {
      await unaffected(person.client.from('habits').update({ overlap: 'skip' }).eq('id', habit.id).select());
    }
    await refused(team.member.client.from('habits').update({ overlap: 'skip' }).eq('id', habit.id), 400, '23514');
    await refused(team.member.client.from('habits').update({ jitter_seconds: -1 }).eq('id', habit.id), 400, '23514');
    await refused(team.member.client.from('habits').update({ paused_at: null }).eq('id', habit.id), 403, '42501');
    const [first] = await ok(team.viewer.client.rpc('preview_habit', { habit_id: habit.id, n: 1 }));
    assert.equal(new Date(first.slot).getTime(), slotOf(1));
    assert.equal(first.local_time, `${nextYear}-02-01T05:01:00`);
    const late = new Date(first.run_at) - new Date(first.slot);
    assert.ok(late >= 0 && late <= 60_000);
    await ok(team.member.client.from('habits').delete().eq('id', habit.id));
  });

  test('an API key does what it may, in its organization', async () => {
    const habit = await newHabit(team.member, { skill_id: skill.id, cron: yearly(2) });
    const { secret } = await createKey(team.nonMember, {
      permissions: ['habits:read', 'skills:read', 'skills:execute', 'executions:read'],
    });
    const strange = keyClient(secret);
    assert.deepEqual(await ok(strange.from('habits').select('id').eq('id', habit.id)), []);
    await refused(strange.rpc('run_habit', { habit_id: habit.id }), 404, 'not_found');
    const key = keyClient((await createKey(team.owner, { permissions: ['habits:read', 'habits:write', 'skills:read'] })).secret);
    assert.equal((await ok(key.from('habits').select('id').eq('id', habit.id))).length, 1);
    await refused(key.rpc('run_habit', { habit_id: habit.id }), 403, 'permission_denied');
    assert.deepEqual(await runsOf(team.member, habit), []);
    const made = await ok(key.from('habits').insert({ skill_id: skill.id, name: 'By key', cron: '@yearly' }).select().single());
    assert.equal(made.org_id, team.orgId);
    assert.equal((await ok(key.from('habits').delete().in('id', [made.id, habit.id]).select())).length, 2);
  });

  test('a slot that is a minute late runs, one that is hours late does not with catch_up none', async () => {
    const habits = await Promise.all(
      ['none', 'latest'].map((name) => newHabit(team.member, { skill_id: skill.id, cron: yearly(2), catch_up: name, input: { n: 1 } })),
    );
    await tickAt(slotOf(2) + 3 * HOUR);
    const [[missed], [ran]] = await Promise.all(habits.map((habit) => runsOf(team.member, habit)));
    assert.deepEqual([missed.status, missed.error_code], ['skipped', 'slot_missed']);
    assert.equal((await ended(team.member, ran.id)).status, 'succeeded');
    for (const { id } of habits) await ok(team.member.client.from('habits').delete().eq('id', id));
  });

  test('with jitter the slot is queued at once and waits', async () => {
    const habit = await newHabit(team.member, { skill_id: skill.id, cron: yearly(3), jitter_seconds: 3600, input: { n: 1 } });
    await tickAt(slotOf(3) + 1000);
    const [job] = await sql(
      `select j.status, j.run_at > clock_timestamp() as waits from public.jobs as j join public.executions as e on e.job_id = j.id where e.habit_id = $1`,
      [habit.id],
    );
    const [{ slot, run_at }] = await ok(team.viewer.client.rpc('preview_habit', { habit_id: habit.id, n: 1 }));
    assert.deepEqual(job, { status: 'queued', waits: true });
    assert.ok(new Date(run_at) > new Date(slot));
    const [{ id }] = await runsOf(team.member, habit);
    await ok(team.member.client.rpc('cancel_execution', { id }));
    await ok(team.member.client.from('habits').delete().eq('id', habit.id));
  });

  test('a habit that fails is paused, and its creator gets one mail', async () => {
    const person = await newPerson('PRO');
    const strict = await newSkill(person, { input_schema: { type: 'object', required: ['missing'] } });
    const habit = await newHabit(person, { skill_id: strict.id, cron: yearly(4), input: { n: 1 }, pause_after_failures: 1 });
    await tickAt(slotOf(4) + 1000);
    const [run] = await runsOf(person, habit);
    assert.equal((await ended(person, run.id)).status, 'failed');
    const paused = await until('the habit to be paused', async () => {
      const row = await ok(person.client.from('habits').select('enabled, paused_at, paused_reason').eq('id', habit.id).single());
      return row.paused_at ? row : undefined;
    });
    assert.equal(paused.enabled, false);
    const mails = await sql(`select recipient from private.mail_messages where template = 'habit_paused' and org_id = $1`, [person.orgId]);
    assert.deepEqual(mails, [{ recipient: person.email }]);
    const again = await ok(person.client.from('habits').update({ enabled: true }).eq('id', habit.id).select().single());
    assert.deepEqual([again.paused_at, again.paused_reason], [null, null]);
    await ok(person.client.from('habits').delete().eq('id', habit.id));
  });

  test('describe_cron answers in words', async () => {
    const words = await ok(team.viewer.client.rpc('describe_cron', { expression: '0 9 * * mon-fri', timezone: 'Europe/Amsterdam' }));
    assert.equal(words, 'At 09:00, on Monday to Friday (Europe/Amsterdam)');
    await refused(team.viewer.client.rpc('describe_cron', { expression: '61 * * * *' }), 422, 'invalid_cron');
  });
});
