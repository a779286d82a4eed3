// Executions: run, follow, repeat, cancel, and pay once for each.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import {
  assertAnonymousSeesNothing,
  call,
  ended,
  execute,
  newPerson,
  newSkill,
  newTeam,
  ok,
  parkedExecution,
  refused,
  unaffected,
  until,
  usageOf,
} from './domain.mjs';
import { adminSql, http, sql } from './support.mjs';

describe('executing a skill', () => {
  let team;
  let skill;
  before(async () => {
    team = await newTeam();
    skill = await newSkill(team.owner, {
      prompt_template: 'Say {{ input.text }} in {{ language }}',
      input_schema: {
        type: 'object',
        properties: { text: { type: 'string' }, language: { type: 'string' } },
        required: ['text', 'language'],
      },
    });
  });

  test('an unauthenticated caller sees none', () => assertAnonymousSeesNothing(['executions']));

  test('a non-member gets not_found, a viewer permission_denied, and nothing is charged', async () => {
    const { id } = await ok(execute(team.member, skill.id, { text: 'hello', language: 'Dutch' }));
    await ended(team.member, id);
    const used = (await usageOf(team.owner)).executions.used;
    for (const name of ['cancel_execution', 'retry_execution']) {
      await refused(team.nonMember.client.rpc(name, { id }), 404, 'not_found');
      await refused(team.nonMember.client.rpc(name, { id: randomUUID() }), 404, 'not_found');
      await refused(team.viewer.client.rpc(name, { id }), 403, 'permission_denied');
    }
    await refused(execute(team.nonMember, skill.id), 404, 'not_found');
    await refused(execute(team.nonMember, randomUUID()), 404, 'not_found');
    await refused(execute(team.viewer, skill.id, { text: 'x', language: 'y' }), 403, 'permission_denied');
    assert.deepEqual(await ok(team.nonMember.client.from('executions').select('id').eq('id', id)), []);
    assert.equal((await ok(team.viewer.client.from('executions').select('id').eq('id', id))).length, 1);
    assert.equal((await usageOf(team.owner)).executions.used, used);
  });

  test('executions cannot be written directly', async () => {
    const { client } = team.owner;
    const { id } = await ok(execute(team.owner, skill.id, { text: 'a', language: 'b' }));
    await refused(client.from('executions').insert({ skill_id: skill.id, status: 'succeeded' }), 403, '42501');
    await refused(client.from('executions').update({ cost_microusd: 0 }).eq('id', id).select(), 403, '42501');
    await unaffected(client.from('executions').delete().eq('id', id).select());
  });

  test('returns the queued row; later it has output, tokens and cost, all metered', async () => {
    const person = await newPerson();
    const own = await newSkill(person, { prompt_template: 'one two {{ n }}' });
    const queued = await ok(execute(person, own.id, { n: 'three' }));
    assert.deepEqual(
      [queued.org_id, queued.skill_id, queued.created_by, queued.trigger, queued.status, queued.output],
      [person.orgId, own.id, person.user.id, 'manual', 'queued', null],
    );
    const done = await ended(person, queued.id);
    assert.equal(done.status, 'succeeded', done.error);
    assert.match(JSON.stringify(done.output), /one two three/);
    assert.deepEqual([done.input_tokens, done.output_tokens, done.model], [3, 3, 'echo/echo']);
    assert.equal(done.cost_microusd, Math.ceil((3 * 150_000 + 3 * 600_000) / 1e6), 'by the row of llm_models, rounded up');
    assert.ok(time(done.finished_at) >= time(done.started_at) && time(done.started_at) >= time(done.created_at));
    const usage = await usageOf(person);
    assert.deepEqual([usage.executions.used, usage.llm_tokens.used, usage.llm_cost_microusd.used], [1, 6, done.cost_microusd]);
  });

  const time = (value) => new Date(value).getTime();

  test('input is rendered verbatim: no template in it is evaluated, nothing is escaped', async () => {
    for (const text of [
      '{{ 7 * 7 }} {% for x in y %}',
      '<b>&"quoted"\'',
      'é 日本語 🚀 \u202e',
      'a\nb\tc\\',
      "'; drop table executions; --",
    ]) {
      const { id } = await ok(execute(team.member, skill.id, { text, language: 'x' }));
      const done = await ended(team.member, id);
      assert.equal(done.status, 'succeeded', done.error);
      assert.ok(JSON.stringify(done.output).includes(JSON.stringify(text).slice(1, -1)), JSON.stringify(done.output));
    }
  });

  test('input that is not an object, or too large, is invalid_input and changes nothing', async () => {
    const person = await newPerson();
    const own = await newSkill(person);
    for (const input of [[], 'text', 1, null, { n: 'x'.repeat(300_000) }])
      await refused(execute(person, own.id, input), 422, 'invalid_input');
    for (const key of ['', ' ', 'x'.repeat(256)]) await refused(execute(person, own.id, {}, key), 422, 'invalid_input');
    const malformed = await call(person, 'execute_skill', '{"skill_id": ');
    assert.equal(malformed.status, 400, malformed.text);
    const noUuid = await call(person, 'execute_skill', { skill_id: 'x' });
    assert.deepEqual([noUuid.status, noUuid.body.code], [400, '22P02']);
    assert.equal((await call(person, 'execute_skill', { skill: own.id })).status, 404);
    assert.deepEqual(await ok(person.client.from('executions').select('id')), []);
    assert.equal((await usageOf(person)).executions.used, 0);
  });

  test('input that violates the schema or lacks a template variable fails the execution without a retry', async () => {
    const wrong = await ok(execute(team.owner, skill.id, { text: 5, language: 'x' }));
    const failed = await ended(team.owner, wrong.id);
    assert.deepEqual([failed.status, failed.error_code], ['failed', 'invalid_input']);
    assert.match(failed.error, /text/);
    const loose = await newSkill(team.owner, { prompt_template: 'Say {{ missing }}' });
    const other = await ended(team.owner, (await ok(execute(team.owner, loose.id))).id);
    assert.equal(other.status, 'failed');
    for (const { job_id } of [failed, other]) {
      const job = await ok(team.owner.client.from('jobs').select('attempt, status').eq('id', job_id).single());
      assert.deepEqual(job, { attempt: 1, status: 'dead' });
    }
    assert.equal(failed.cost_microusd, 0, 'no model was asked');
  });

  test('deleting a skill before it runs fails the execution and keeps its record', async () => {
    const own = await newSkill(team.owner);
    const execution = await parkedExecution(own);
    await ok(team.owner.client.from('skills').delete().eq('id', own.id));
    await sql('update public.jobs set run_at = now() where id = $1', [execution.job_id]);
    const failed = await ended(team.owner, execution.id);
    assert.deepEqual([failed.status, failed.error_code, failed.skill_id], ['failed', 'not_found', null]);
  });

  test('errors have one format with a stable code and no internal details', async () => {
    const answer = await call(team.nonMember, 'execute_skill', { skill_id: skill.id });
    assert.equal(answer.status, 404);
    assert.deepEqual(Object.keys(answer.body).sort(), ['code', 'details', 'hint', 'message']);
    assert.equal(answer.body.code, 'not_found');
    assert.ok(answer.body.message);
    assert.doesNotMatch(answer.text, /PL\/pgSQL|private\.|select |kijko_ext|panicked/);
    assert.ok(answer.headers.get('ratelimit'), 'refusals carry the rate headers too');
  });

  test('never works by GET, because it writes', async () => {
    const answer = await http('GET', `/rest/v1/rpc/execute_skill?skill_id=${skill.id}`, { token: team.owner.token });
    assert.equal(answer.status, 405, answer.text);
  });
});

describe('an idempotency key', () => {
  let person;
  let skill;
  before(async () => {
    person = await newPerson('TEAMS');
    skill = await newSkill(person);
  });

  test('makes repeated calls one execution, charged once', async () => {
    const used = (await usageOf(person)).executions.used;
    const key = randomUUID();
    const first = await ok(execute(person, skill.id, { n: 1 }, key));
    await ended(person, first.id);
    const again = await ok(execute(person, skill.id, { n: 1 }, key));
    assert.deepEqual([again.id, again.status], [first.id, 'succeeded']);
    assert.equal((await usageOf(person)).executions.used, used + 1);
  });

  test('with other arguments is idempotency_conflict', async () => {
    const key = randomUUID();
    await ok(execute(person, skill.id, { n: 1 }, key));
    const used = (await usageOf(person)).executions.used;
    await refused(execute(person, skill.id, { n: 2 }, key), 409, 'idempotency_conflict');
    const other = await newSkill(person);
    await refused(execute(person, other.id, { n: 1 }, key), 409, 'idempotency_conflict');
    assert.equal((await usageOf(person)).executions.used, used);
  });

  test('makes twenty calls at once one execution, one job and one charge', async () => {
    const used = (await usageOf(person)).executions.used;
    const key = randomUUID();
    const rows = await Promise.all(Array.from({ length: 20 }, () => ok(execute(person, skill.id, { n: 'at once' }, key))));
    assert.equal(new Set(rows.map((row) => row.id)).size, 1);
    const [{ executions, jobs }] = await sql(
      `select (select count(*)::int from public.executions where org_id = $1 and idempotency_key = $2) as executions,
              (select count(*)::int from public.jobs where org_id = $1 and payload ->> 'execution_id' = $3) as jobs`,
      [person.orgId, key, rows[0].id],
    );
    assert.deepEqual({ executions, jobs }, { executions: 1, jobs: 1 });
    assert.equal((await usageOf(person)).executions.used, used + 1);
  });

  test('belongs to its organization: another one may use the same', async () => {
    const other = await newPerson();
    const theirs = await newSkill(other);
    const key = randomUUID();
    const [a, b] = [await ok(execute(person, skill.id, { n: 1 }, key)), await ok(execute(other, theirs.id, { n: 1 }, key))];
    assert.notEqual(a.id, b.id);
  });

  test('of a refused call can be used again', async () => {
    const poor = await newPerson('PRO');
    const own = await newSkill(poor);
    const key = randomUUID();
    await sql(`select kijko.set_limit($1, 'executions', 'month', 0)`, [poor.orgId]);
    await refused(execute(poor, own.id, { n: 1 }, key), 429, 'quota_exceeded');
    await sql(`select kijko.set_limit($1, 'executions', 'month', 1)`, [poor.orgId]);
    assert.equal((await ok(execute(poor, own.id, { n: 1 }, key))).status, 'queued');
    await refused(execute(poor, own.id, { n: 1 }), 429, 'quota_exceeded');
  });
});

describe('the quota', () => {
  test('of a hundred calls at once with fifty left, exactly fifty pass', async () => {
    const person = await newPerson('TEAMS');
    const skill = await newSkill(person);
    await adminSql(`select kijko.set_limit($1, 'executions', 'month', 50)`, [person.orgId]);
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => execute(person, skill.id, { n })));
    const allowed = answers.filter((a) => !a.error);
    const denied = answers.filter((a) => a.error);
    assert.deepEqual([allowed.length, denied.length], [50, 50], JSON.stringify([...new Set(denied.map((a) => a.error.code))]));
    assert.ok(denied.every((a) => a.status === 429 && a.error.code === 'quota_exceeded'));
    const [{ executions, jobs }] = await sql(
      'select (select count(*)::int from public.executions where org_id = $1) as executions, (select count(*)::int from public.jobs where org_id = $1) as jobs',
      [person.orgId],
    );
    assert.deepEqual({ executions, jobs }, { executions: 50, jobs: 50 });
    const usage = await usageOf(person);
    assert.deepEqual([usage.executions.used, usage.executions.remaining], [50, 0]);
    await until(
      'all fifty to end',
      async () =>
        (
          await sql(`select count(*)::int as open from public.executions where org_id = $1 and status in ('queued', 'running')`, [
            person.orgId,
          ])
        )[0].open === 0,
    );
    const [{ tokens, cost }] = await sql(
      'select sum(input_tokens + output_tokens)::int as tokens, sum(cost_microusd)::int as cost from public.executions where org_id = $1',
      [person.orgId],
    );
    const after = await usageOf(person);
    assert.deepEqual([after.llm_tokens.used, after.llm_cost_microusd.used], [tokens, cost], 'every token metered once');
  });

  test('an input that violates the schema costs nothing', async () => {
    const person = await newPerson();
    const skill = await newSkill(person, { input_schema: { properties: { n: { pattern: '^(?!eo:)' } } } });
    const [bad, good] = [await ok(execute(person, skill.id, { n: 'eo:x' })), await ok(execute(person, skill.id, { n: 'en:x' }))];
    assert.deepEqual([(await ended(person, bad.id)).error_code, (await ended(person, good.id)).status], ['invalid_input', 'succeeded']);
    assert.equal((await usageOf(person)).executions.used, 1);
  });

  test('a refusal reports limit, remaining, reset, resource and Retry-After', async () => {
    const person = await newPerson('PRO');
    const skill = await newSkill(person);
    await sql(`select kijko.try_consume($1, 'executions', 2000)`, [person.orgId]);
    const answer = await call(person, 'execute_skill', { skill_id: skill.id });
    assert.equal(answer.status, 429, answer.text);
    assert.equal(answer.body.code, 'quota_exceeded');
    const header = (name) => answer.headers.get(name);
    assert.deepEqual(
      [header('x-ratelimit-limit'), header('x-ratelimit-remaining'), header('x-ratelimit-resource')],
      ['2000', '0', 'executions'],
    );
    const secondsLeft = Number(header('x-ratelimit-reset')) - Date.now() / 1000;
    assert.ok(secondsLeft > -5 && secondsLeft <= 31 * 86400, header('x-ratelimit-reset'));
    assert.ok(Math.abs(Number(header('retry-after')) - secondsLeft) < 10, 'Retry-After is the same moment, in seconds from now');
    assert.equal(header('access-control-expose-headers')?.toLowerCase().includes('retry-after'), true, 'and a browser may read it');
  });
});

describe('cancelling', () => {
  let person;
  let slow;
  before(async () => {
    person = await newPerson('PRO');
    slow = await newSkill(person, { parameters: { delay_ms: 300_000 } });
  });

  test('a queued execution ends at once, and cancelling it again returns the same', async () => {
    const execution = await parkedExecution(slow);
    const cancelled = await ok(person.client.rpc('cancel_execution', { id: execution.id }));
    assert.equal(cancelled.status, 'cancelled');
    assert.equal((await ok(person.client.rpc('cancel_execution', { id: execution.id }))).status, 'cancelled');
    const job = await ok(person.client.from('jobs').select('status').eq('id', execution.job_id).single());
    assert.equal(job.status, 'cancelled');
  });

  test('a running one stops the worker within seconds, before the model is done', async () => {
    const { id } = await ok(execute(person, slow.id, { n: 1 }));
    await until(
      'the execution to run',
      async () => (await ok(person.client.from('executions').select('status').eq('id', id).single())).status === 'running',
    );
    const answer = await ok(person.client.rpc('cancel_execution', { id }));
    assert.ok(['running', 'cancelled'].includes(answer.status));
    const execution = await ended(person, id);
    assert.equal(execution.status, 'cancelled');
    assert.equal(execution.output, null);
  });

  test('an ended execution cannot be cancelled', async () => {
    const quick = await newSkill(person);
    const { id } = await ok(execute(person, quick.id, { n: 1 }));
    const before = await ended(person, id);
    await refused(person.client.rpc('cancel_execution', { id }), 409, 'conflict');
    assert.deepEqual(await ok(person.client.from('executions').select('*').eq('id', id).single()), before);
  });
});

describe('retrying', () => {
  test('a failed execution becomes a new one with its own reservation and the current skill', async () => {
    const person = await newPerson();
    const skill = await newSkill(person, { prompt_template: 'Say {{ missing }}' });
    const { id } = await ok(execute(person, skill.id, { n: 'again' }));
    assert.equal((await ended(person, id)).status, 'failed');
    await ok(person.client.from('skills').update({ prompt_template: 'Say {{ n }}' }).eq('id', skill.id));
    const retry = await ok(person.client.rpc('retry_execution', { id }));
    assert.deepEqual([retry.retry_of, retry.status, retry.input], [id, 'queued', { n: 'again' }]);
    assert.notEqual(retry.id, id);
    const done = await ended(person, retry.id);
    assert.equal(done.status, 'succeeded', done.error);
    assert.equal((await usageOf(person)).executions.used, 1, 'the one whose model was never called costs nothing');
    assert.equal(
      (await ok(person.client.from('executions').select('status').eq('id', id).single())).status,
      'failed',
      'the first one stays as it ended',
    );
  });

  test('a cancelled one can be retried; one that succeeded or is queued is a conflict', async () => {
    const person = await newPerson();
    const skill = await newSkill(person);
    const parked = await parkedExecution(skill);
    await refused(person.client.rpc('retry_execution', { id: parked.id }), 409, 'conflict');
    await ok(person.client.rpc('cancel_execution', { id: parked.id }));
    const retry = await ok(person.client.rpc('retry_execution', { id: parked.id }));
    assert.equal((await ended(person, retry.id)).status, 'succeeded');
    await refused(person.client.rpc('retry_execution', { id: retry.id }), 409, 'conflict');
  });

  test('the quota applies', async () => {
    const person = await newPerson();
    const skill = await newSkill(person);
    const parked = await parkedExecution(skill);
    await ok(person.client.rpc('cancel_execution', { id: parked.id }));
    await sql(`select kijko.set_limit($1, 'executions', 'month', 0)`, [person.orgId]);
    await refused(person.client.rpc('retry_execution', { id: parked.id }), 429, 'quota_exceeded');
    assert.equal((await ok(person.client.from('executions').select('id'))).length, 1);
  });
});
