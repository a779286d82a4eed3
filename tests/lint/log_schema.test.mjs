// The schema of log lines has each field that the code adds to a canonical line, and refuses what is none.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultsOf } from '../journeys/log_schema.mjs';
import { filesOf, ROOT, read } from './tree.mjs';

const line = (more) => JSON.stringify({ timestamp: '2026-11-29T20:00:00.000000Z', level: 'INFO', ...more });
const request = {
  target: 'kijko::request',
  message: 'request',
  request_id: 'r',
  method: 'GET',
  route: '/x',
  status: 200,
  duration_ms: 3,
};

test('lines of the schema pass, others do not', () => {
  assert.deepEqual(faultsOf(line({ target: 'kijko_core::runtime', message: 'listening', address: '127.0.0.1:1' })), []);
  assert.deepEqual(faultsOf(line({ ...request, slow: true })), []);
  for (const bad of [
    'listening',
    line({ message: 'without a target' }),
    line({ target: 'kijko_core', level: 'FATAL' }),
    line({ ...request, status: '200' }),
    line({ ...request, secret: 'x' }),
    line({ ...request, route: undefined }),
    line({ target: 'kijko::job', message: 'job', job_id: 'j' }),
    JSON.stringify({ timestamp: 'yesterday', level: 'INFO', target: 'x' }),
  ])
    assert.notDeepEqual(faultsOf(bad), [], bad);
});

test('each field that the code adds is in the schema', () => {
  const schema = JSON.parse(read(ROOT, 'docs/reference/logs.schema.json'));
  const known = new Set(Object.values(schema.$defs).flatMap(({ properties }) => Object.keys(properties)));
  const sources = filesOf(ROOT).filter((path) => /^(sidecar|services\/\w+)\/src\/.*\.rs$/.test(path) && !/\/tests(\/|\.rs)/.test(path));
  const added = sources.flatMap((path) => [...read(ROOT, path).matchAll(/canonical::add\(\s*"(\w+)"/g)].map(([, name]) => name));
  assert.ok(added.length > 30);
  assert.deepEqual(
    added.filter((name) => !known.has(name)),
    [],
  );
});
