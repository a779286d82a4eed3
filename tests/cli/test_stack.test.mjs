// A test stack listens on ports of its own, whatever the checkout's .env says of its stack's.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../../scripts/test_stack.sh', import.meta.url));

test('the database has the port after the API, also if .env or the environment names another one', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'kijko-test-stack-'));
  t.after(() => rmSync(root, { recursive: true }));
  writeFileSync(join(root, 'kijko'), '#!/bin/sh\necho "$KIJKO_API_PORT $KIJKO_DB_PORT $*"\n');
  chmodSync(join(root, 'kijko'), 0o755);
  const run = (env) =>
    spawnSync('bash', ['-c', `ROOT=${root}; . ${SCRIPT}; TEST_PORT=21000; test_kijko status`], {
      env: { ...process.env, ...env },
      encoding: 'utf8',
    });
  for (const env of [{}, { KIJKO_DB_PORT: '54399' }]) {
    const { stdout, stderr } = run(env);
    assert.equal(stdout, '21000 21001 status\n', stderr);
  }
});
