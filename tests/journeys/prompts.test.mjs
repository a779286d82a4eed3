// Prompts as members and keys use them: push, labels, checks, rendering, calls of models, skills that name one, and reports.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createKey, withKey } from './api_keys_support.mjs';
import { anonymous, assertAnonymousSeesNothing, ended, execute, newSkill, newTeam, ok, refused, until } from './domain.mjs';
import { openai } from './llm_support.mjs';
import { env, http } from './support.mjs';

const TABLES = ['prompts', 'prompt_versions', 'prompt_labels', 'prompt_label_changes', 'prompt_settings'];
/** A function, called by key. */
const byKey = (secret, name, body) => withKey(secret, 'POST', `/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
const rpc = (person, name, body) => person.client.rpc(name, body).setHeader('x-org-id', person.orgId);
const push = (person, path, content, fields = {}) => ok(rpc(person, 'push_prompt', { path, content, ...fields }));
const label = (person, path, name, version) => ok(rpc(person, 'set_prompt_label', { path, label: name, version }));
const render = (person, body) =>
  http('POST', '/functions/v1/render-prompt', { token: person.token, headers: { 'x-org-id': person.orgId }, body });
/** POST /llm/v1/prompts/{path}/call, by a key. */
const call = async (secret, path, body) => {
  const response = await fetch(`${env.API_URL}/llm/v1/prompts/${path}/call`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
};
const checked = (person, path, version) =>
  until('the check of the version', async () => {
    const prompt = await ok(rpc(person, 'get_prompt', { path, version }));
    return prompt.checked_at && prompt;
  });

describe('prompts', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('unauthenticated callers and non-members see and do nothing', async () => {
    await push(team.member, 'secret', 'x');
    await assertAnonymousSeesNothing(TABLES);
    for (const [name, body] of [
      ['push_prompt', { path: 'a', content: 'x' }],
      ['get_prompt', { path: 'secret', label: 'latest' }],
      ['list_prompts', {}],
      ['set_prompt_label', { path: 'secret', label: 'production', version: 1 }],
      ['delete_prompt', { path: 'secret' }],
      ['prompt_stats', {}],
    ]) {
      const answer = await anonymous('POST', `/rest/v1/rpc/${name}`, { body, headers: { 'Content-Type': 'application/json' } });
      assert.deepEqual([answer.status, answer.body.code], [401, '42501'], name);
      await refused(team.nonMember.client.rpc(name, body).setHeader('x-org-id', team.orgId), 403, 'not_a_member');
    }
    for (const table of TABLES) assert.deepEqual(await ok(team.nonMember.client.from(table).select().eq('org_id', team.orgId)), []);
    // In their own organization there is no such prompt.
    await refused(team.nonMember.client.rpc('get_prompt', { path: 'secret', label: 'latest' }), 404, 'not_found');
    const answer = await http('POST', '/functions/v1/render-prompt', { body: { path: 'secret', label: 'latest', variables: {} } });
    assert.equal(answer.status, 401, answer.text);
    assert.equal((await render({ ...team.nonMember, orgId: team.orgId }, { path: 'secret' })).status, 403);
    assert.equal((await fetch(`${env.API_URL}/llm/v1/prompts/secret/call`, { method: 'POST' })).status, 401);
  });

  test('a viewer reads and renders, and writes nothing', async () => {
    await push(team.member, 'roles', 'Hello {{ name }}');
    await refused(rpc(team.viewer, 'push_prompt', { path: 'roles', content: 'x' }), 403, 'permission_denied');
    await refused(rpc(team.viewer, 'set_prompt_label', { path: 'roles', label: 'production', version: 1 }), 403, 'permission_denied');
    await refused(rpc(team.viewer, 'delete_prompt', { path: 'roles' }), 403, 'permission_denied');
    await refused(rpc(team.member, 'set_prompt_settings', { require_approval: true }), 403, 'permission_denied');
    const answer = await render(team.viewer, { path: 'roles', label: 'latest', variables: { name: 'Zoë' } });
    assert.deepEqual([answer.status, answer.body.prompt, answer.body.version], [200, 'Hello Zoë', 1], answer.text);
    const draft = await render(team.viewer, { content: 'x', variables: {} });
    assert.deepEqual([draft.status, draft.body.code], [403, 'permission_denied'], 'a draft is a writer’s');
  });

  test('a key does what its permissions say', async () => {
    const { secret: reads } = await createKey(team.owner, { permissions: ['prompts:read'] });
    const { secret: writes } = await createKey(team.owner, { permissions: ['prompts:read', 'prompts:write'] });
    const { secret: other } = await createKey(team.owner, { permissions: ['skills:read'] });
    const body = { path: 'by/key', content: 'x' };
    assert.equal((await byKey(writes, 'push_prompt', body)).body.version, 1);
    assert.equal((await byKey(reads, 'push_prompt', body)).status, 403);
    assert.equal((await byKey(reads, 'get_prompt', { path: 'by/key', label: 'latest' })).body.content, 'x');
    assert.equal((await byKey(other, 'get_prompt', { path: 'by/key', label: 'latest' })).status, 403);
    assert.equal((await call(reads, 'by/key', { label: 'latest', model: 'echo/echo' })).status, 403, 'reading is not calling');
  });

  test('each version is checked, and each problem has a code', async () => {
    const person = team.member;
    const closed = { properties: { a: {} }, additionalProperties: false };
    const cases = [
      ['Say {{ a }}', {}, []],
      ['Say {{ a', {}, ['template_error']],
      ['Say {{ a', { engine: 'plain' }, []],
      ['Say {{ a }}', { input_schema: { type: 'strnig' } }, ['invalid_schema']],
      ['Say {{b}}', { engine: 'plain', input_schema: closed }, ['unknown_variable']],
      ['Say {{ a }}', { model: 'gpt-0-unpriced' }, ['model_not_available', 'model_not_priced']],
    ];
    for (const [content, fields, expected] of cases) {
      const { version } = await push(person, 'checks', content, fields);
      const prompt = await checked(person, 'checks', version);
      assert.deepEqual(
        prompt.problems.map(({ code }) => code),
        expected,
        `${content}: ${JSON.stringify(prompt.problems)}`,
      );
    }
    const chat = [
      { role: 'system', content: '{{ a' },
      { type: 'placeholder', name: 'b' },
    ];
    const { version } = await push(person, 'checks/chat', chat, { type: 'chat', input_schema: closed });
    const codes = (await checked(person, 'checks/chat', version)).problems.map(({ code }) => code);
    assert.deepEqual(codes, ['template_error']);
  });

  test('rendering happens in the sandbox, by both engines', async () => {
    const person = team.member;
    const chat = [
      { role: 'system', content: 'Be {{ tone }}' },
      { type: 'placeholder', name: 'history' },
      { role: 'user', content: '{{ question }}' },
    ];
    await push(person, 'render/chat', chat, { type: 'chat' });
    const variables = { tone: 'kind', question: '{{ 7 * 7 }}', history: [{ role: 'user', content: 'hi' }] };
    const answer = await render(person, { path: 'render/chat', label: 'latest', variables });
    assert.deepEqual(answer.body.messages, [
      { role: 'system', content: 'Be kind' },
      { role: 'user', content: 'hi' },
      { role: 'user', content: '{{ 7 * 7 }}' },
    ]);
    const drafts = [
      [{ content: '{"a": "{{ x }}", "b": {{x}}}', engine: 'plain', variables: { x: 1 } }, '{"a": "1", "b": 1}', []],
      [{ content: '{% for n in list %}{{ n }};{% endfor %}', variables: { list: [1, 2] } }, '1;2;', []],
      [{ content: '{{ x }}', variables: {} }, undefined, ['template_error']],
      [{ content: '{{ x }}', input_schema: { required: ['x'] }, variables: {} }, undefined, ['invalid_input']],
      [{ content: '{{ x' }, undefined, ['template_error']],
      [
        { content: "{% set x = 'y' %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", variables: {} },
        undefined,
        ['template_error'],
      ],
    ];
    for (const [body, prompt, codes] of drafts) {
      const draft = await render(person, body);
      assert.deepEqual([draft.status, draft.body.prompt], [200, prompt], draft.text);
      assert.deepEqual(
        [...new Set(draft.body.problems.filter(({ severity }) => severity === 'error').map(({ code }) => code))],
        codes,
        draft.text,
      );
    }
    for (const body of [{}, { path: 'a', content: 'b' }, { content: {} }, { content: 'x', variables: [] }]) {
      assert.equal((await render(person, body)).status, 400, JSON.stringify(body));
    }
    assert.equal((await render(person, { path: 'render/nothing' })).status, 404);
  });

  test('a prompt is called through the gateway, and the call keeps its version', async () => {
    const person = team.member;
    const { secret } = await createKey(team.owner, { permissions: ['prompts:read', 'llm:call'] });
    await push(person, 'support/greet', 'Hello {{ name }}', { model: 'echo/echo', parameters: { max_tokens: 50 } });
    await push(person, 'support/greet', 'Goodbye {{ name }}', { model: 'echo/echo', parameters: { max_tokens: 50 } });
    await label(person, 'support/greet', 'production', 1);
    for (const path of ['support/greet', 'support%2Fgreet']) {
      const answer = await call(secret, path, { variables: { name: 'Ada' } });
      assert.equal(answer.status, 200, answer.text);
      const body = JSON.parse(answer.text);
      assert.match(body.choices[0].message.content, /Hello Ada/);
      assert.deepEqual(body.prompt, { path: 'support/greet', version: 1, labels: ['production'] });
      assert.deepEqual([answer.headers.get('x-prompt-path'), answer.headers.get('x-prompt-version')], ['support/greet', '1']);
      assert.ok(body.usage.total_tokens > 0);
    }
    const latest = await call(secret, 'support/greet', { label: 'latest', variables: { name: 'Ada' } });
    assert.match(latest.text, /Goodbye Ada/);
    const stream = await call(secret, 'support/greet', { version: 2, variables: { name: 'Ada' }, stream: true });
    assert.equal(stream.headers.get('content-type'), 'text/event-stream; charset=utf-8');
    assert.equal(stream.headers.get('x-prompt-version'), '2');
    assert.ok(stream.text.endsWith('data: [DONE]\n\n'), stream.text.slice(-200));
    for (const [path, body, status, code] of [
      ['support/greet', {}, 400, 'template_error'],
      ['support/greet', { variables: [] }, 400, 'bad_request'],
      ['support/greet', { messages: [] }, 400, 'bad_request'],
      ['support/greet', { label: 'staging' }, 404, 'not_found'],
      ['support/greet', { version: 9 }, 404, 'not_found'],
      ['support/nothing', {}, 404, 'not_found'],
      ['support/greet', { variables: { name: 'x' }, model: 'nobody/model' }, 404, 'model_not_found'],
    ]) {
      const answer = await call(secret, path, body);
      assert.deepEqual([answer.status, JSON.parse(answer.text).error.code], [status, code], `${JSON.stringify(body)}: ${answer.text}`);
    }
    assert.equal((await http('POST', '/llm/v1/prompts/support/greet', { token: person.token, body: {} })).status, 404);
    const calls = await until('the calls to be settled', async () => {
      const rows = await ok(
        person.client.from('llm_calls').select('prompt_version, status').eq('org_id', team.orgId).not('prompt_id', 'is', null),
      );
      return rows.length === 4 && rows.every(({ status }) => status === 'succeeded') && rows;
    });
    assert.deepEqual(calls.map((one) => one.prompt_version).sort(), [1, 1, 2, 2]);
    const stats = await ok(rpc(team.viewer, 'prompt_stats', { path: 'support/greet' }));
    assert.deepEqual(
      stats.map(({ version, uses, calls: n, failed }) => [version, uses, n, failed]),
      [
        [2, 2, 2, 0],
        [1, 2, 2, 0],
      ],
    );
    assert.ok(stats.every(({ p50_ms: p50, p95_ms: p95, cost_microusd: cost }) => p50 >= 0 && p95 >= p50 && cost >= 0));
    const compared = await ok(rpc(team.viewer, 'compare_prompt_versions', { path: 'support/greet', from_version: 1, to_version: 2 }));
    assert.deepEqual(compared.changes, [{ field: 'content', before: 'Hello {{ name }}', after: 'Goodbye {{ name }}' }]);
    assert.deepEqual([compared.before.uses, compared.after.uses, compared.difference.error_rate], [2, 2, 0]);
    // OpenAI's own client, at the address of the prompt.
    const client = openai(secret, { baseURL: `${env.API_URL}/llm/v1/prompts/support/greet/call` });
    const answer = await client.post('', { body: { variables: { name: 'Eve' } } });
    assert.match(answer.choices[0].message.content, /Hello Eve/);
  });

  test('a skill names a prompt: the next execution runs the version that the label points to', async () => {
    const person = team.member;
    await push(person, 'skills/say', 'One {{ n }}');
    await push(person, 'skills/say', 'Two {{n}}', { engine: 'plain' });
    const skill = await newSkill(person, { prompt_template: '', prompt_path: 'skills/say' });
    const refusal = await refused(execute(person, skill.id, { n: 1 }), 422, 'skill_not_runnable');
    assert.match(refusal.details, /^prompt_not_found: /);
    await label(person, 'skills/say', 'production', 1);
    const run = async () => ended(person, (await ok(execute(person, skill.id, { n: 7 }))).id);
    const first = await run();
    assert.deepEqual([first.status, first.prompt_version], ['succeeded', 1], JSON.stringify(first));
    assert.match(JSON.stringify(first.output), /One 7/);
    await label(person, 'skills/say', 'production', 2);
    const second = await run();
    assert.deepEqual([second.status, second.prompt_version], ['succeeded', 2]);
    assert.match(JSON.stringify(second.output), /Two 7/);
    const stats = await ok(rpc(person, 'prompt_stats', { path: 'skills/say' }));
    assert.deepEqual(
      stats.map(({ version, uses, executions }) => [version, uses, executions]),
      [
        [2, 1, 1],
        [1, 1, 1],
      ],
    );
    const [recorded] = await ok(person.client.from('llm_calls').select('prompt_id, prompt_version').eq('execution_id', second.id));
    assert.deepEqual([recorded.prompt_id, recorded.prompt_version], [second.prompt_id, 2]);
  });

  test('two pushes from one base: one is refused and says what differs', async () => {
    const person = team.member;
    await push(person, 'race', 'one');
    const pushes = ['two', 'three'].map((content) => rpc(person, 'push_prompt', { path: 'race', content, base_version: 1 }));
    const answers = await Promise.all(pushes);
    const refusals = answers.filter(({ error }) => error);
    assert.deepEqual(
      refusals.map(({ error, status }) => [status, error.code]),
      [[409, 'conflict']],
    );
    assert.match(refusals[0].error.details, /version 2 was pushed after version 1 and differs from it in: content/);
  });
});
