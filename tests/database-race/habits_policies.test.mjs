// Policies of habits while several sessions work on the same habit: nothing deadlocks, waits or happens twice.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, promptly, whileOpen } from './support.mjs';

/** A habit with an execution of an earlier slot, which no worker takes. */
async function habitWithExecution(overlap) {
  const { user, org, skill } = await newTenant();
  const habit = await one(
    `insert into public.habits (org_id, skill_id, name, cron, overlap, pause_after_failures, created_by)
     values ($1, $2, 'due', '0 0 1 1 *', $3, 1, $4) returning id`,
    [org, skill, overlap, user],
  );
  const execution = await one(
    `select e.id, e.job_id from public.habits as h join public.skills as s on s.id = h.skill_id,
       private.executions_queue(
         s, '{}', 'habit', habit_id => h.id, scheduled_for => date_trunc('year', kijko.now(), 'UTC') - interval '1 year',
         run_at => now() + interval '1 day', hold_id => private.executions_reserve(h.org_id)
       ) as e
     where h.id = $1`,
    [habit.id],
  );
  return { org, skill, habit: habit.id, execution: execution.id, job: execution.job_id };
}

/** Due since New Year. Shortly before the tick, since the stack's own comes each minute. */
const makeDue = (...habits) =>
  pool.query(`update public.habits set next_run_at = date_trunc('year', kijko.now(), 'UTC') where id = any ($1)`, [habits]);

/** The executions of its slots, by status; the stack's worker may have taken one up. */
const slots = async (habit) =>
  (await pool.query('select status from public.executions where habit_id = $1 order by scheduled_for', [habit])).rows.map(({ status }) =>
    ['running', 'succeeded'].includes(status) ? 'queued' : status,
  );

test('two ticks at once cancel the earlier execution once and queue one slot', async () => {
  const due = await habitWithExecution('cancel');
  await makeDue(due.habit);
  await atOnce(2, () => pool.query('select private.habits_run_due()'));
  assert.deepEqual(await slots(due.habit), ['cancelled', 'queued']);
  const { n } = await one(`select count(*)::int as n from public.job_event_log where job_id = $1 and event = 'cancelled'`, [due.job]);
  assert.equal(n, 1);
});

test('a slot whose earlier execution somebody holds is due again in the next tick, and stops no other habit', async () => {
  const due = await habitWithExecution('cancel');
  const free = await habitWithExecution('cancel');
  await whileOpen('select 1 from public.jobs where id = $1 for update', [due.job], async () => {
    await makeDue(due.habit, free.habit);
    await promptly('select private.habits_run_due()');
    assert.deepEqual(await slots(due.habit), ['queued']);
    assert.deepEqual(await slots(free.habit), ['cancelled', 'queued']);
  });
  await pool.query('select private.habits_run_due()');
  assert.deepEqual(await slots(due.habit), ['cancelled', 'queued']);
});

test('an execution fails while the tick holds its habit: neither waits, and the habit is paused in the end', async () => {
  const due = await habitWithExecution('skip');
  await whileOpen('select 1 from public.habits where id = $1 for no key update', [due.habit], () =>
    promptly(`update public.jobs set status = 'dead', finished_at = now() where id = $1`, [due.job]),
  );
  assert.deepEqual(await slots(due.habit), ['failed']);
  const state = () => one('select enabled, paused_at is not null as paused from public.habits where id = $1', [due.habit]);
  assert.deepEqual(await state(), { enabled: true, paused: false });
  await makeDue(due.habit);
  await pool.query('select private.habits_run_due()');
  assert.deepEqual(await state(), { enabled: false, paused: true });
  assert.deepEqual(await slots(due.habit), ['failed'], 'its slot did not run');
});

test('executions of one habit that fail at once pause it once, with one mail', async () => {
  const due = await habitWithExecution('skip');
  const jobs = [due.job];
  for (const years of [2, 3]) {
    const made = await one(
      `select e.job_id from public.skills as s, private.executions_queue(
         s, '{}', 'habit', habit_id => $2, scheduled_for => date_trunc('year', kijko.now(), 'UTC') - make_interval(years => $3),
         run_at => now() + interval '1 day'
       ) as e where s.id = $1`,
      [due.skill, due.habit, years],
    );
    jobs.push(made.job_id);
  }
  await atOnce(3, (i) => pool.query(`update public.jobs set status = 'dead', finished_at = now() where id = $1`, [jobs[i]]));
  await makeDue(due.habit);
  await pool.query('select private.habits_run_due()');
  assert.equal((await one('select enabled from public.habits where id = $1', [due.habit])).enabled, false);
  const { n } = await one(`select count(*)::int as n from private.mail_messages where org_id = $1 and template = 'habit_paused'`, [
    due.org,
  ]);
  assert.equal(n, 1);
});
