// Skills: the check after each save, by the sidecar's sandbox, and what a skill with problems does not do.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { ended, execute, inTurn, newPerson, newSkill, newTeam, ok, refused, until, usageOf } from './domain.mjs';

/** The skill once its current version is checked. */
const checked = (person, id) =>
  until('the check of the skill', async () => {
    const skill = await ok(person.client.from('skills').select().eq('id', id).single());
    return skill.checked_at && skill;
  });

const codes = (skill) => skill.problems.map((problem) => problem.code);
const save = (person, id, fields) => person.client.from('skills').update(fields).eq('id', id).select().single();
const change = (...values) => ok(save(...values));

describe('checks of skills', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('each save is checked, and each problem has a code', async () => {
    const person = team.member;
    const { id } = await newSkill(person);
    assert.deepEqual(codes(await checked(person, id)), []);
    const cases = [
      [{ prompt_template: 'Say {{ n' }, ['template_error']],
      [{ prompt_template: 'Say {{ n }}', input_schema: { type: 'strnig' } }, ['invalid_schema']],
      [{ prompt_template: '{% for %}', input_schema: { $ref: 'https://schemas.example/x' } }, ['template_error', 'invalid_schema']],
      [
        { prompt_template: 'Say {{ n }}', input_schema: { type: 'object' }, model: 'gpt-0-unpriced' },
        ['model_not_available', 'model_not_priced'],
      ],
      [{ model: 'echo/echo' }, []],
      [{ prompt_template: 'Say {{ m }}', input_schema: { properties: { n: {} }, additionalProperties: false } }, ['unknown_variable']],
      [{ prompt_template: 'Say {{ n }}' }, []],
    ];
    for (const [fields, expected] of cases) {
      assert.equal((await change(person, id, fields)).checked_at, null);
      const skill = await checked(person, id);
      assert.deepEqual(codes(skill), expected, JSON.stringify(skill.problems));
      for (const problem of skill.problems) assert.deepEqual([problem.severity, typeof problem.message], ['error', 'string']);
    }
    // A job ends after what it has recorded can be seen.
    const jobs = () => ok(person.client.from('jobs').select('id').eq('kind', 'skill_check'));
    await until('ended checks to leave no jobs', async () => (await jobs()).length === 0);
  });

  test('of many saves at once the last one is checked', async () => {
    const person = team.member;
    const { id } = await newSkill(person);
    await Promise.all(Array.from({ length: 20 }, (_, n) => ok(inTurn(() => save(person, id, { prompt_template: `Number ${n} {{ n` })))));
    const last = await change(person, id, { prompt_template: 'Last {{ n }}' });
    const skill = await checked(person, id);
    assert.deepEqual([skill.version, codes(skill)], [last.version, []]);
  });

  test('a hostile schema or template is a problem and holds nothing up', async () => {
    const person = team.member;
    const definitions = Object.fromEntries(
      Array.from({ length: 40 }, (_, n) => [`d${n}`, { anyOf: [{ $ref: `#/$defs/d${n + 1}` }, { $ref: `#/$defs/d${n + 1}` }] }]),
    );
    const hostile = await newSkill(person, { input_schema: { $defs: { ...definitions, d40: { type: 'object' } }, $ref: '#/$defs/d0' } });
    const fine = await newSkill(person);
    assert.deepEqual(codes(await checked(person, fine.id)), []);
    await checked(person, hostile.id);
  });

  test('a skill with problems is refused with 422, lists them, and charges nothing', async () => {
    const person = await newPerson();
    const { id } = await newSkill(person, { prompt_template: 'Say {{ n' });
    await checked(person, id);
    const refusal = await refused(execute(person, id, { n: 1 }), 422, 'skill_not_runnable');
    assert.match(refusal.details, /^template_error: /);
    assert.deepEqual(await ok(person.client.from('executions').select('id')), []);
    assert.equal((await usageOf(person)).executions.used, 0);
  });

  test('a warning stops no run', async () => {
    const person = await newPerson();
    const { id } = await newSkill(person, { prompt_template: 'Say {{ m }}', input_schema: { properties: { n: {} } } });
    const skill = await checked(person, id);
    assert.deepEqual(
      skill.problems.map(({ code, severity }) => [code, severity]),
      [['unknown_variable', 'warning']],
    );
    const runs = [await ok(execute(person, id, { m: 1 })), await ok(execute(person, id, { n: 1 }))];
    const results = await Promise.all(runs.map((run) => ended(person, run.id)));
    assert.deepEqual(
      results.map(({ status, error_code }) => [status, error_code]),
      [
        ['succeeded', null],
        ['failed', 'template_error'],
      ],
    );
  });

  test('a non-member and a viewer write none of it', async () => {
    const skill = await newSkill(team.owner);
    for (const { client } of [team.nonMember, team.viewer, team.owner]) {
      await refused(client.from('skills').update({ problems: [] }).eq('id', skill.id), 403, '42501');
      await refused(client.from('skills').update({ checked_at: '2026-01-01' }).eq('id', skill.id), 403, '42501');
      await refused(client.from('skill_versions').delete().eq('skill_id', skill.id), 403, '42501');
    }
  });
});
