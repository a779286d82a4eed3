// Skills: POST /functions/v1/skills-check for editors, dry runs and test runs, as each kind of caller.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { anonymous, ended, execute, newPerson, newSkill, newTeam, ok, refused, until, usageOf } from './domain.mjs';

const draft = {
  prompt_template: 'Say {{ n }}',
  input_schema: { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] },
  model: 'echo/echo',
  parameters: { max_tokens: 100 },
};

/** What supabase-js answers, or the refusal: {status, code}. */
async function check(person, body) {
  const { data, error } = await person.client.functions.invoke('skills-check', { body });
  if (!error) return data;
  const answer = await error.context.json();
  assert.deepEqual(Object.keys(answer).sort(), ['code', 'details', 'hint', 'message']);
  return { status: error.context.status, code: answer.code };
}

const codes = ({ problems }) => problems.map((problem) => problem.code);

describe('a check for editors', () => {
  let team;
  let skill;
  before(async () => {
    team = await newTeam();
    skill = await newSkill(team.owner, draft);
  });

  test('a preflight is answered before any check', async () => {
    const { status, headers } = await anonymous('OPTIONS', '/functions/v1/skills-check', {
      headers: {
        Origin: 'https://app.example',
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'authorization,x-client-info,apikey,content-type',
      },
    });
    assert.equal(status, 204);
    assert.equal(headers.get('access-control-allow-origin'), '*');
    assert.match(headers.get('access-control-allow-headers'), /x-client-info/);
  });

  test('an unauthenticated caller, a non-member and a viewer are refused', async () => {
    const refusal = await anonymous('POST', '/functions/v1/skills-check', {
      body: { skill_id: skill.id },
      headers: { 'Content-Type': 'application/json' },
    });
    assert.deepEqual([refusal.status, refusal.body.code], [401, '42501']);
    assert.deepEqual(await check(team.nonMember, { skill_id: skill.id }), { status: 404, code: 'not_found' });
    assert.deepEqual(await check(team.viewer, { skill_id: skill.id }), { status: 403, code: 'permission_denied' });
    assert.deepEqual(await check(team.viewer, draft), { status: 403, code: 'permission_denied' });
  });

  test('a member gets the problems, and with an input the prompt and the most that a run costs', async () => {
    assert.deepEqual(await check(team.member, draft), { problems: [] });
    const preview = await check(team.member, { ...draft, input: { n: 7 } });
    assert.deepEqual([preview.problems, preview.prompt, preview.max_output_tokens], [[], 'Say 7', 100]);
    assert.ok(preview.input_tokens > 0 && preview.max_cost_microusd > 0, JSON.stringify(preview));
    assert.deepEqual(
      codes(await check(team.member, { ...draft, prompt_template: '{{ n', input_schema: { type: 'x' }, model: 'gpt-0-x' })),
      ['template_error', 'invalid_schema', 'model_not_available', 'model_not_priced'],
    );
    assert.deepEqual(codes(await check(team.member, { ...draft, input: { n: 'seven' } })), ['invalid_input']);
    // The schema may have it, this input does not.
    assert.deepEqual(codes(await check(team.member, { ...draft, prompt_template: '{{ missing }}', input: { n: 7 } })), [
      'unknown_variable',
      'template_error',
    ]);
  });

  test('a variable that the schema does not know is told before a run, with its severity', async () => {
    const severities = async (more) => {
      const { problems, prompt } = await check(team.member, { ...draft, ...more });
      return [...problems.map(({ code, severity }) => `${severity} ${code}`), prompt];
    };
    const closed = { ...draft.input_schema, additionalProperties: false };
    const input = { n: 7 };
    assert.deepEqual(await severities({ prompt_template: '{{ m }}', input_schema: closed, input }), ['error unknown_variable', undefined]);
    assert.deepEqual(await severities({ prompt_template: "{{ m | default('x') }} {{ n }}", input_schema: closed, input }), [
      'warning unknown_variable',
      'x 7',
    ]);
    assert.deepEqual(await severities({ prompt_template: '{{ m }}', input_schema: {} }), [undefined]);
  });

  test('what a schema refuses has our words, and quotes no input', async () => {
    const { problems } = await check(team.member, { ...draft, input: { n: 's3cret' } });
    assert.deepEqual(problems, [{ code: 'invalid_input', severity: 'error', message: '/n: must be integer' }]);
    const broken = await check(team.member, { ...draft, input_schema: { properties: { n: { type: 'strnig' } } } });
    assert.deepEqual([broken.problems.length, broken.problems[0].code], [1, 'invalid_schema']);
    assert.match(broken.problems[0].message, /^input_schema: \/properties\/n\/type: /);
  });

  test('what cannot be stored is refused here, too', async () => {
    for (const more of [{ prompt_template: 'a\u0000' }, { input: { n: 1, x: '\u0000' } }, { input_schema: { title: '\u0000' } }]) {
      assert.deepEqual(await check(team.member, { ...draft, ...more }), { status: 400, code: 'bad_request' });
    }
    const { client } = team.member;
    await refused(client.from('skills').insert({ name: 'a', prompt_template: 'a\u0000' }), 400, '22P05');
    await refused(client.from('skills').insert({ name: 'a', prompt_template: 'a', input_schema: { title: '\u0000' } }), 400, '22P05');
    await refused(execute(team.member, skill.id, { n: 1, x: '\u0000' }), 400, '22P05');
  });

  test('organizations that flood it keep no other one out', async () => {
    const definitions = Object.fromEntries(
      Array.from({ length: 40 }, (_, n) => [`d${n}`, { anyOf: [{ $ref: `#/$defs/d${n + 1}` }, { $ref: `#/$defs/d${n + 1}` }] }]),
    );
    const hostile = { ...draft, input_schema: { $defs: { ...definitions, d40: { type: 'string' } }, $ref: '#/$defs/d0' }, input: {} };
    const people = await Promise.all(Array.from({ length: 5 }, () => newPerson()));
    let flooding = true;
    const statuses = [];
    const floods = people.flatMap((person) =>
      [1, 2].map(async () => {
        while (flooding) statuses.push((await check(person, hostile)).status);
      }),
    );
    try {
      await until('a check to be stopped', () => statuses.length > 0);
      for (let n = 0; n < 5; n += 1) {
        const answer = await check(team.member, { ...draft, input: { n } });
        assert.equal(answer.prompt, `Say ${n}`, JSON.stringify(answer));
      }
    } finally {
      flooding = false;
      await Promise.all(floods);
    }
    // The last ones have nobody to make room for: they take as long as the sandbox lets them, and are answered.
    assert.ok(statuses.includes(503), 'they were stopped for another one');
    assert.deepEqual(
      statuses.filter((status) => status !== undefined && status !== 503),
      [],
    );
  });

  test('with a skill, what is left out is the skill’s', async () => {
    assert.equal((await check(team.member, { skill_id: skill.id, input: { n: 1 } })).prompt, 'Say 1');
    assert.equal((await check(team.member, { skill_id: skill.id, prompt_template: 'Tell {{ n }}', input: { n: 1 } })).prompt, 'Tell 1');
    const current = await ok(team.owner.client.from('skills').select('version').eq('id', skill.id).single());
    assert.equal(current.version, skill.version, 'nothing is stored');
  });

  test('bad and large bodies are refused, and hostile ones end', async () => {
    assert.deepEqual(await check(team.member, {}), { status: 400, code: 'bad_request' });
    assert.deepEqual(await check(team.member, { ...draft, template: 'x' }), { status: 400, code: 'bad_request' });
    assert.deepEqual(await check(team.member, { ...draft, input: { x: 'y'.repeat(1_100_000) } }), {
      status: 413,
      code: 'payload_too_large',
    });
    assert.deepEqual(await check(team.member, { ...draft, parameters: [] }), { status: 422, code: 'invalid_input' });
    const doubling = `{% set x = 'x' %}${'{% set x = x ~ x %}'.repeat(60)}{{ x }}`;
    assert.deepEqual(codes(await check(team.member, { ...draft, prompt_template: doubling, input: { n: 1 } })), ['template_error']);
  });

  test('a private project hides its skill', async () => {
    const project = await ok(team.owner.client.from('projects').insert({ name: 'Secret', visibility: 'private' }).select().single());
    const hidden = await newSkill(team.owner, { ...draft, project_id: project.id });
    assert.deepEqual(await check(team.member, { skill_id: hidden.id }), { status: 404, code: 'not_found' });
    assert.deepEqual((await check(team.owner, { skill_id: hidden.id, input: { n: 1 } })).prompt, 'Say 1');
    await refused(team.member.client.rpc('test_skill', { skill_id: hidden.id, input: { n: 1 } }), 404, 'not_found');
  });

  test('a dry run by RPC is a job with the prompt, and is not charged', async () => {
    const before = (await usageOf(team.member)).executions.used;
    const { job_id: id } = await ok(team.member.client.rpc('test_skill', { skill_id: skill.id, input: { n: 3 } }));
    const job = await finished(team.member, id);
    assert.equal(job.status, 'succeeded', job.error);
    assert.equal(job.result.prompt, 'Say 3');
    const bad = await ok(team.member.client.rpc('test_skill', { skill_id: skill.id, input: { n: 'x' } }));
    const failed = await finished(team.member, bad.job_id);
    assert.deepEqual([failed.status, failed.error_code], ['dead', 'invalid_input']);
    assert.equal((await usageOf(team.member)).executions.used, before);
    await refused(team.viewer.client.rpc('test_skill', { skill_id: skill.id }), 403, 'permission_denied');
    await refused(team.nonMember.client.rpc('test_skill', { skill_id: skill.id }), 404, 'not_found');
  });

  test('a test run is an execution of the trigger test, and counts in the statistics of the skill', async () => {
    const own = await newSkill(team.owner, draft);
    const { execution_id: id } = await ok(team.owner.client.rpc('test_skill', { skill_id: own.id, input: { n: 4 }, dry_run: false }));
    const execution = await ended(team.owner, id);
    assert.deepEqual([execution.status, execution.trigger, execution.skill_version], ['succeeded', 'test', 1], execution.error);
    const stats = await ok(team.owner.client.rpc('skill_stats', { skill_id: own.id }));
    assert.deepEqual([stats.runs, stats.succeeded], [1, 1]);
    await refused(team.nonMember.client.rpc('skill_stats', { skill_id: own.id }), 404, 'not_found');
  });

  test('an input that does not match the schema is not charged', async () => {
    const before = (await usageOf(team.owner)).executions.used;
    const { id } = await ok(execute(team.owner, skill.id, { n: 'seven' }));
    const execution = await ended(team.owner, id);
    assert.deepEqual([execution.status, execution.error_code, execution.cost_microusd], ['failed', 'invalid_input', 0]);
    assert.equal((await usageOf(team.owner)).executions.used, before);
  });
});

const finished = (person, id) =>
  until('the job to end', async () => {
    const job = await ok(person.client.from('jobs').select('status, result, error_code, error').eq('id', id).single());
    return !['queued', 'running'].includes(job.status) && job;
  });
