// Races of skills: two saves at once, a save while a check reads, and imports and bulk calls that meet.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, newTenant, one, pool, promptly, queryAs, untilWaiting, whileOpen } from './support.mjs';

const SAVE = 'update public.skills set prompt_template = $2 where id = $1 returning version';
const versionsOf = async (skill) =>
  (await pool.query('select version, prompt_template as text from public.skill_versions where skill_id = $1 order by version', [skill]))
    .rows;
const liveChecks = async (org) =>
  (
    await one(`select count(*)::int as n from public.jobs where org_id = $1 and kind = 'skill_check' and status in ('queued', 'running')`, [
      org,
    ])
  ).n;

test('two saves at once are two versions, and the row is the later one', async () => {
  const { user, skill } = await newTenant();
  const second = await pool.connect();
  try {
    const saved = await whileOpen(SAVE, [skill, 'first'], async ([{ version }], session) => {
      assert.equal(version, 2);
      const waits = second.query(SAVE, [skill, 'second']);
      await untilWaiting(second, session);
      await session.query('commit');
      return waits;
    });
    assert.equal(saved.rows[0].version, 3);
  } finally {
    second.release(true);
  }
  assert.deepEqual(await versionsOf(skill), [
    { version: 1, text: 'x' },
    { version: 2, text: 'first' },
    { version: 3, text: 'second' },
  ]);
  const answers = await atOnce(12, (n) => queryAs(user, SAVE, [skill, `user ${n}`]));
  assert.deepEqual(
    answers.map(({ rows: [{ version }] }) => version).sort((a, b) => a - b),
    Array.from({ length: 12 }, (_, n) => n + 4),
  );
  const { version, prompt_template: text } = await one('select version, prompt_template from public.skills where id = $1', [skill]);
  assert.deepEqual((await versionsOf(skill)).at(-1), { version, text });
});

test('a save that is rolled back leaves no version and no check', async () => {
  const { org, skill } = await newTenant();
  await pool.query(`delete from public.jobs where org_id = $1`, [org]);
  await whileOpen(SAVE, [skill, 'never'], async () => {});
  assert.equal((await versionsOf(skill)).length, 1);
  assert.equal(await liveChecks(org), 0);
});

test('a check that waits does not start before the save that relies on it has committed', async () => {
  const { org, skill } = await newTenant();
  // Due in an hour, so that no worker of the running stack takes it.
  await pool.query('delete from public.jobs where org_id = $1', [org]);
  const { id: job } = await one(
    `select private.jobs_enqueue($1, 'skill_check', jsonb_build_object('skill_id', $2::uuid), run_at => clock_timestamp() + interval '1 hour',
       unique_key => $2::text) as id`,
    [org, skill],
  );
  await whileOpen(SAVE, [skill, 'later'], async () => {
    assert.equal(await liveChecks(org), 1, 'the save queues no second one');
    assert.deepEqual(
      await promptly(`select id from public.jobs where id = $1 for update skip locked`, [job]),
      [],
      'a claim does not get it, and does not wait',
    );
  });
  await pool.query('delete from public.jobs where id = $1', [job]);
});

test('a result of a former version is not taken, also when the save commits while it is recorded', async () => {
  const { skill } = await newTenant();
  const recorder = await pool.connect();
  try {
    const recorded = await whileOpen(SAVE, [skill, 'newer'], async (_, session) => {
      const waits = recorder.query(`select private.skills_record_check($1, 1, '[{"code": "template_error", "message": "old"}]') as taken`, [
        skill,
      ]);
      await untilWaiting(recorder, session);
      await session.query('commit');
      return waits;
    });
    assert.equal(recorded.rows[0].taken, false);
  } finally {
    recorder.release(true);
  }
  const { codes } = await one(
    `select coalesce(jsonb_path_query_array(problems, '$[*].code'), '[]') as codes from public.skills where id = $1`,
    [skill],
  );
  assert.ok(!codes.includes('template_error'));
});

test('imports of the same document take turns: one creates, the others find what it made', async () => {
  const { user, org } = await newTenant();
  const document = { format: 'kijko.skills', version: 1, skills: [{ name: 'Imported', prompt_template: 'x' }] };
  const answers = await atOnce(6, () => queryAs(user, `select status from public.import_skills($1, 'skip')`, [document]));
  assert.deepEqual(answers.map(({ rows: [{ status }] }) => status).sort(), ['created', ...Array(5).fill('skipped')]);
  assert.equal((await one(`select count(*)::int as n from public.skills where org_id = $1 and name = 'Imported'`, [org])).n, 1);
});

test('bulk calls about the same skills, in any order, do not deadlock', async () => {
  const { user, org } = await newTenant();
  const { rows } = await pool.query(
    `insert into public.skills (org_id, name, prompt_template) select $1, 'many', 'x' from generate_series(1, 10) returning id`,
    [org],
  );
  const ids = rows.map(({ id }) => id);
  const answers = await atOnce(10, (n) =>
    queryAs(user, 'select count(*) filter (where done)::int as done from public.update_skills($1, $2)', [
      n % 2 ? ids : [...ids].reverse(),
      n % 3 === 0,
    ]),
  );
  assert.deepEqual(
    answers.map(({ rows: [row] }) => row?.done),
    Array(10).fill(10),
  );
});

test('a caller neither waits for nor holds skills of another organization', async () => {
  const [mine, theirs] = [await newTenant(), await newTenant()];
  await whileOpen('select 1 from public.skills where id = $1 for update', [theirs.skill], async () => {
    const session = await pool.connect();
    try {
      const answer = await queryAs(mine.user, `select code from public.update_skills($1, true)`, [[theirs.skill]]);
      assert.deepEqual(answer.rows, [{ code: 'not_found' }]);
    } finally {
      session.release(true);
    }
  });
});
