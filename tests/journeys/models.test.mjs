// Models: who reads their prices, models that there are not, and budgets of tokens.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { anonymous, call, ended, execute, newPerson, newSkill, ok, refused, usageOf } from './domain.mjs';
import { sql } from './support.mjs';

describe('prices', () => {
  test('an unauthenticated caller can read them and not change them', async () => {
    const prices = await anonymous('GET', '/rest/v1/llm_models?select=id,input_microusd_per_mtok&id=eq.echo/*');
    assert.deepEqual([prices.status, prices.body], [200, [{ id: 'echo/*', input_microusd_per_mtok: 150_000 }]]);
    assert.equal(
      (
        await anonymous('PATCH', '/rest/v1/llm_models?id=eq.echo/*', {
          body: { source: 'seed' },
          headers: { 'Content-Type': 'application/json' },
        })
      ).status,
      401,
    );
  });

  test('a signed-in user can read them and not change them', async () => {
    const { client } = await newPerson();
    assert.ok((await ok(client.from('llm_models').select('id, input_microusd_per_mtok'))).length > 0);
    await refused(
      client.from('llm_models').insert({ id: 'echo/free', input_microusd_per_mtok: 0, output_microusd_per_mtok: 0 }),
      403,
      '42501',
    );
    await refused(client.from('llm_models').update({ input_microusd_per_mtok: 0 }).neq('id', '').select(), 403, '42501');
  });

  test('a skill whose model has no price says so before it runs', async () => {
    const person = await newPerson();
    const [fine, unpriced] = [await newSkill(person), await newSkill(person, { model: 'gpt-0-unpriced' })];
    const problems = async (id) => (await ok(person.client.from('skills').select('id, problems').eq('id', id).single())).problems;
    assert.deepEqual(await problems(fine.id), []);
    // Its provider may also be off.
    assert.ok((await problems(unpriced.id)).some(({ code }) => code === 'model_not_priced'));
    await refused(
      person.client
        .from('skills')
        .update({ parameters: { max_tokens: 'many' } })
        .eq('id', fine.id),
      400,
      '23514',
    );
  });
});

describe('a call of a model', () => {
  test('an unknown model is refused before anything is queued or charged', async () => {
    const person = await newPerson();
    const skill = await newSkill(person, { model: 'nosuch/model' });
    const refusal = await refused(execute(person, skill.id, { n: 1 }), 422, 'skill_not_runnable');
    assert.match(refusal.details, /model_not_priced/);
    assert.deepEqual(await ok(person.client.from('executions').select('id')), []);
    assert.equal((await usageOf(person)).executions.used, 0);
  });

  test('a run that fails before its call ends the job as dead and the execution as failed, with the reason', async () => {
    const person = await newPerson();
    const skill = await newSkill(person, { prompt_template: 'Say {{ missing }}' });
    const { id } = await ok(execute(person, skill.id, { n: 1 }));
    const execution = await ended(person, id);
    assert.equal(execution.status, 'failed');
    assert.ok(execution.error_code, 'a short name');
    assert.ok(execution.error, 'and words');
    const dead = await ok(person.client.from('jobs').select('status, error_code').eq('id', execution.job_id).single());
    assert.deepEqual(dead, { status: 'dead', error_code: execution.error_code });
  });

  test('concurrent model calls never exceed the budget', async () => {
    const person = await newPerson();
    const skill = await newSkill(person, { prompt_template: '{{ n }}', parameters: { delay_ms: 1500 } });
    // Each is 60,000 tokens, question and answer: one fits into 100,000.
    const ids = (await Promise.all(Array.from({ length: 6 }, () => ok(execute(person, skill.id, { n: 'a '.repeat(30_000) }))))).map(
      (e) => e.id,
    );
    const done = await Promise.all(ids.map((id) => ended(person, id)));
    assert.deepEqual(done.map((e) => e.error_code ?? e.status).sort(), [...Array(5).fill('quota_exceeded'), 'succeeded']);
    const usage = await usageOf(person);
    assert.deepEqual([usage.llm_tokens.used, usage.executions.used], [60_000, 1], 'what was refused costs nothing');
  });

  test('a used-up model budget rejects the next call before it costs anything', async () => {
    const person = await newPerson();
    const skill = await newSkill(person);
    await sql(`select kijko.try_consume($1, 'llm_tokens', 100000)`, [person.orgId]);
    const answer = await call(person, 'execute_skill', { skill_id: skill.id });
    assert.deepEqual([answer.status, answer.body.code, answer.headers.get('x-ratelimit-resource')], [429, 'quota_exceeded', 'llm_tokens']);
    assert.match(
      answer.headers.get('ratelimit'),
      /^"requests";r=\d+;t=\d+, "user_requests";r=\d+;t=\d+, "api_requests";r=\d+;t=\d+, "llm_tokens";r=0;t=\d+$/,
      'beside the limits of the request',
    );
    assert.equal((await usageOf(person)).executions.used, 0);
  });
});
