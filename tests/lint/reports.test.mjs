// What tests/lint/reports.mjs finds.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkReports } from './reports.mjs';

const root = mkdtempSync(join(tmpdir(), 'kijko-reports-'));
after(() => rmSync(root, { recursive: true }));
mkdirSync(join(root, 'tests/reports'), { recursive: true });

const row = (id, source = '[a product, 1](https://example.com/1)') => `| ${id} | ${source} | we do | right, because | right | right |\n`;
function check(tests, log) {
  writeFileSync(join(root, 'tests/reports/login.test.mjs'), tests.map((id) => `report('${id}', 'what', () => {});\n`).join(''));
  writeFileSync(join(root, 'tests/reports/LOG.md'), log);
  return checkReports(root);
}

test('a test and its line fit', () => assert.deepEqual(check(['login-1', 'login-2'], row('login-1') + row('login-2')), []));

for (const [what, tests, log, found] of [
  ['a test without a line', ['login-1'], '', /tests login-1, which/],
  ['a line without a test', [], row('login-1'), /has login-1, which no test tries/],
  ['an id of another file', ['cron-1'], row('cron-1'), /must begin with the file's name/],
  ['a test that comes twice', ['login-1', 'login-1'], row('login-1'), /tests login-1 twice/],
  ['a line that comes twice', ['login-1'], row('login-1') + row('login-1'), /has login-1 twice/],
  ['a line without a source', ['login-1'], row('login-1', 'somebody'), /login-1 names no source/],
  ['a line that lacks a cell', ['login-1'], '| login-1 | [a](https://example.com) | we do |  | right | right |\n', /login-1 needs/],
]) {
  test(`${what} is found`, () => assert.match(check(tests, log).join('\n'), found));
}
