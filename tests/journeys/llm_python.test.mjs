// The LLM gateway by PyPI's openai, which reads answers, errors and streams by code of its own.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { newTeam, ok } from './domain.mjs';
import { json } from './functions_support.mjs';
import { anthropicAnswer, geminiAnswer, newKey, newVendor, openaiAnswer, openaiEvents } from './llm_support.mjs';
import { env } from './support.mjs';

const PYTHON = fileURLToPath(new URL('../../target/tools/python-tests/bin/python', import.meta.url));
const SCRIPT = fileURLToPath(new URL('llm_python.py', import.meta.url));
const VECTOR = [0.25, -1.5, 3];

/** What the script reports, by its steps. */
async function run(input) {
  assert.ok(existsSync(PYTHON), 'target/tools/python-tests is missing: ./kijko test journeys installs it');
  const script = spawn(PYTHON, [SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
  const [out, err] = [[], []];
  script.stdout.on('data', (part) => out.push(part));
  script.stderr.on('data', (part) => err.push(part));
  script.stdin.end(JSON.stringify(input));
  const code = await new Promise((resolve) => script.on('close', resolve));
  assert.equal(code, 0, Buffer.concat(err).toString());
  const lines = Buffer.concat(out).toString().trim().split('\n');
  return Object.fromEntries(lines.map((line) => JSON.parse(line)).map(({ step, ...result }) => [step, result]));
}

let steps;
before(async () => {
  const team = await newTeam();
  const { secret: key } = await newKey(team.owner);
  const { id: key_id, secret: poor } = await newKey(team.owner);
  await ok(
    team.owner.client
      .from('llm_budgets')
      .insert({ org_id: team.orgId, name: 'poor', scope: 'key', key_id, period: 'month', unit: 'tokens', amount: 20 })
      .select(),
  );
  const vendors = {
    openai: await newVendor('openai', openaiAnswer),
    anthropic: await newVendor('anthropic', (_, response) => anthropicAnswer(response, ['Hello there'])),
    gemini: await newVendor('gemini', (_, response) => geminiAnswer(response, [{ text: 'Hello ' }, { text: 'there' }])),
    tools: await newVendor('anthropic', ({ body }, response) =>
      body.messages.length === 1
        ? anthropicAnswer(
            response,
            [
              ['toolu_1', 'weather', '{"city":', '"Amsterdam"}'],
              ['toolu_2', 'weather', '{"city":"Lisbon"}'],
            ],
            { stop: 'tool_use' },
          )
        : anthropicAnswer(response, [JSON.stringify(body.messages[2].content.map(({ content }) => content[0].text))]),
    ),
    structured: await newVendor('gemini', (_, response) => geminiAnswer(response, [{ text: '{"city":"Amsterdam"}' }])),
    embeddings: await newVendor('openai', ({ body }, response) =>
      json(response, {
        object: 'list',
        model: 'embed-2026',
        data: [body.input].flat().map((_, index) => ({ object: 'embedding', index, embedding: VECTOR })),
        usage: { prompt_tokens: 6, total_tokens: 6 },
      }),
    ),
    images: await newVendor(
      'openai',
      ({ body }, response) => json(response, { created: 1, data: Array.from({ length: body.n }, (_, n) => ({ b64_json: `image ${n}` })) }),
      { image_microusd: 100 },
    ),
    down: await newVendor('openai', (_, response) => json(response, { error: { message: 'no' } }, 500)),
    broken: await newVendor('openai', (_, response) => {
      openaiEvents(response, [{ content: 'Hel' }], { finish: null, usage: null });
      setTimeout(() => response.destroy(), 50);
    }),
  };
  await ok(
    team.owner.client
      .from('llm_routes')
      .insert({ org_id: team.orgId, name: 'fast', targets: [vendors.openai.model] })
      .select(),
  );
  const models = Object.fromEntries(Object.entries(vendors).map(([name, { model }]) => [name, model]));
  steps = await run({ base_url: `${env.API_URL}/llm/v1`, key, poor, models, route: 'fast' });
});

test('chat: whole and streamed, with the chunk of usage once', () => {
  for (const kind of ['openai', 'anthropic', 'gemini']) {
    assert.deepEqual(steps[`chat ${kind}`], {
      object: 'chat.completion',
      content: 'Hello there',
      finish: 'stop',
      tokens: [9, 4, 13],
    });
    assert.deepEqual(steps[`stream ${kind}`], { content: 'Hello there', pieces: true, usage: [13] });
  }
  assert.deepEqual(steps.async.contents, Array(5).fill('Hello there'));
});

test('tools, streamed and parsed by the client, and their results', () => {
  assert.deepEqual(steps.tools, {
    names: ['weather', 'weather'],
    parsed: [{ city: 'Amsterdam' }, { city: 'Lisbon' }],
    done: 2,
  });
  assert.equal(steps['results of tools'].content, '["rain","rain"]');
});

test('structured output becomes the class that was asked for', () => {
  assert.deepEqual(steps['structured output'], { city: 'Amsterdam' });
});

test('embeddings, in base64 as the client asks by default, and as floats', () => {
  assert.deepEqual(steps.embeddings, { vectors: [VECTOR, VECTOR], tokens: 6 });
  assert.deepEqual(steps['embeddings as floats'], { vectors: [VECTOR] });
});

test('images and models', () => {
  assert.deepEqual(steps.images, { images: ['image 0', 'image 1'] });
  assert.deepEqual(steps.models, { listed: true, owner: 'route', id: 'fast' });
});

test('errors have their classes, and are tried again only where that helps', () => {
  const found = (step) => {
    const { error, status, code, requests } = steps[step];
    return [error, status, code, requests];
  };
  assert.deepEqual(found('a wrong key').slice(0, 2), ['AuthenticationError', 401]);
  assert.deepEqual(found('no such model'), ['NotFoundError', 404, 'model_not_found', 1]);
  assert.deepEqual(found('a field of the vendor'), ['BadRequestError', 400, 'bad_request', 1]);
  assert.deepEqual(found('a spent budget'), ['RateLimitError', 429, 'budget_exceeded', 1]);
  assert.equal(steps['a spent budget'].type, 'insufficient_quota');
  const [error, , , requests] = found('a vendor that is down');
  assert.deepEqual([error, requests], ['InternalServerError', 2]);
  assert.deepEqual(found('a stream that breaks off'), ['APIError', null, 'vendor_truncated', 1]);
});
