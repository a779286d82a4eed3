// The part of the OpenAPI document that the database makes: it is OpenAPI, and it has what PostgREST's own document has.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { openapi, operationsOf } from '../../scripts/openapi.mjs';

const { API_URL, DB_URL, ANON_KEY, SERVICE_ROLE_KEY } = process.env;

let document;
let token;
before(async () => {
  document = await openapi(DB_URL, API_URL);
  const answer = await fetch(`${API_URL}/auth/v1/signup`, {
    method: 'POST',
    headers: { apikey: ANON_KEY, 'Content-Type': 'application/json' },
    body: JSON.stringify({ email: `openapi-${randomUUID()}@example.com`, password: randomUUID() }),
  });
  token = (await answer.json()).access_token;
  assert.ok(token);
});

/** PostgREST's document, as this token's role sees it. */
async function postgrest(token) {
  const answer = await fetch(`${API_URL}/rest/v1/`, {
    headers: { Authorization: `Bearer ${token}`, Accept: 'application/openapi+json' },
  });
  assert.equal(answer.status, 200);
  return answer.json();
}

test('it is OpenAPI 3.1', async () => {
  const { valid, errors } = await new Validator().validate(structuredClone(document));
  assert.ok(valid, JSON.stringify(errors));
  const names = operationsOf(document).map(({ operationId }) => operationId);
  assert.deepEqual(
    names.filter((name, at) => names.indexOf(name) !== at),
    [],
  );
});

test('every reference is to something', () => {
  const missing = new Set();
  const walk = (value) => {
    if (value === null || typeof value !== 'object') return;
    const parts = value.$ref?.split('/').slice(1);
    if (parts && parts.reduce((it, part) => it?.[part], document) === undefined) missing.add(value.$ref);
    Object.values(value).forEach(walk);
  };
  walk(document);
  assert.deepEqual([...missing], []);
});

const operations = ({ paths }) =>
  Object.entries(paths).flatMap(([path, item]) =>
    Object.keys(item)
      .filter((method) => method !== 'parameters')
      .map((method) => `${method} ${path}`),
  );

test('it has the operations that PostgREST describes', async () => {
  const ours = operations(document).map((operation) => operation.replace('/rest/v1', ''));
  const shown = await Promise.all([ANON_KEY, token, SERVICE_ROLE_KEY].map(async (key) => operations(await postgrest(key))));
  assert.ok(shown.every((list) => list.length > 10));
  // It shows methods of tables without a right to them, and GET of some functions that write.
  const theirs = shown.flat().filter((operation) => /^(get (?!\/rpc\/)|post \/rpc\/)/.test(operation) && operation !== 'get /');
  assert.deepEqual(
    theirs.filter((operation) => !ours.includes(operation)),
    [],
  );
  const rest = document.tags.filter(({ name }) => ['tables', 'rpc'].includes(name)).map(({ name }) => name);
  const all = operationsOf(document).filter(({ tags, security }) => rest.includes(tags[0]) && JSON.stringify(security) !== '[]');
  assert.deepEqual(
    all.map(({ method, path }) => `${method} ${path.replace('/rest/v1', '')}`).filter((operation) => !shown.flat().includes(operation)),
    [],
  );
});

test('columns and arguments are those that PostgREST describes', async () => {
  const { definitions, paths } = await postgrest(SERVICE_ROLE_KEY);
  for (const [name, { properties }] of Object.entries(definitions)) {
    const ours = Object.keys(document.components.schemas[name].properties);
    assert.deepEqual(
      Object.keys(properties ?? {}).filter((column) => !ours.includes(column)),
      [],
      name,
    );
  }
  for (const [path, { post }] of Object.entries(paths).filter(([each]) => each.startsWith('/rpc/'))) {
    const { properties = {}, required = [] } = post.parameters.find(({ name }) => name === 'args')?.schema ?? {};
    const body = document.paths[`/rest/v1${path}`].post.requestBody.content['application/json'].schema;
    const signatures = body.anyOf ?? [body];
    assert.ok(
      signatures.some(
        (it) => Object.keys(properties).every((name) => name in it.properties) && required.every((name) => it.required?.includes(name)),
      ),
      path,
    );
  }
});
