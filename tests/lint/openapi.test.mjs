// The descriptions of routes in docs/reference/openapi are those of the code, and are OpenAPI.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { described, operationsOf } from '../../scripts/openapi.mjs';
import { routesOf, rustRoutes } from '../routes.mjs';

// The names of parameters are the writer's.
const shape = (path) => path.replaceAll(/\{[^}]*\}/g, '{}');
const documented = (document) => operationsOf(document).map(({ method, path }) => ({ method: method.toUpperCase(), path: shape(path) }));

/** What one of the two lacks, as sentences. */
function differences(routes, operations) {
  const served = routes.filter(({ refused }) => !refused).map(({ method, path }) => ({ method, path: shape(path) }));
  const fits = (route, operation) => route.path === operation.path && ['ANY', operation.method].includes(route.method);
  return [
    ...served.filter((route) => !operations.some((it) => fits(route, it))).map(({ method, path }) => `not described: ${method} ${path}`),
    ...operations.filter((it) => !served.some((route) => fits(route, it))).map(({ method, path }) => `no such route: ${method} ${path}`),
  ];
}

test('each route is described, and each description is of a route', async () => {
  const operations = documented(await described());
  assert.ok(operations.length > 100);
  assert.deepEqual(differences(routesOf(), operations), []);
});

test('a missing description and a missing route are found', async () => {
  const operations = documented(await described());
  const [first] = operations;
  assert.equal(differences(routesOf(), operations.slice(1)).length, 1);
  assert.equal(differences(routesOf(), [...operations, { ...first, path: '/nowhere' }]).length, 1);
});

test('routes of axum are read with their methods', () => {
  const text = `Router::new().route("/a", get(one).put(two))
    .route(
      "/b/{*path}",
      any(async || not_served("b").into_response()),
    )
    .route("/c", on("c"))
    .with_state(get(three))`;
  assert.deepEqual(rustRoutes(text), [
    { method: 'GET', path: '/a', refused: false },
    { method: 'PUT', path: '/a', refused: false },
    { method: 'ANY', path: '/b/{*path}', refused: true },
    { method: 'ANY', path: '/c', refused: false },
  ]);
});

test('the document is OpenAPI 3.1, and its operations have names of their own', async () => {
  const document = await described();
  const { valid, errors } = await new Validator().validate(structuredClone(document));
  assert.ok(valid, JSON.stringify(errors));
  const names = operationsOf(document).map(({ operationId }) => operationId);
  assert.deepEqual(
    names.filter((name, at) => names.indexOf(name) !== at),
    [],
  );
  document.paths['/health'].get.responses = 'none';
  assert.equal((await new Validator().validate(document)).valid, false, 'the validator finds a fault');
});
