// A part that one way to run the stack forgets is found, and so is a setting that does not reach its container.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkDeployments, parts } from './deployments.mjs';
import { ROOT } from './tree.mjs';

const root = mkdtempSync(join(tmpdir(), 'kijko-deployments-'));
after(() => rmSync(root, { recursive: true }));
for (const path of ['scripts', 'deploy', 'docker-compose.yml', 'docs/reference/settings.md']) {
  cpSync(join(ROOT, path), join(root, path), { recursive: true, filter: (source) => !source.endsWith('/secrets') });
}

/** What is found with one place changed. */
function found(path, from, to) {
  const file = join(root, path);
  const former = readFileSync(file, 'utf8');
  const changed = former.replace(from, to);
  assert.notEqual(changed, former, `${path} has no ${from}`);
  writeFileSync(file, changed);
  try {
    return checkDeployments(root);
  } finally {
    writeFileSync(file, former);
  }
}

test('the parts are those of ./kijko', () => {
  assert.deepEqual(parts(root), ['postgres', 'rest', 'login', 'sidecar', 'realtime', 'storage', 'caddy', 'indexer', 'rotation']);
  assert.deepEqual(checkDeployments(root), []);
});

test('a new part is missing everywhere', () => {
  const findings = found('scripts/services.sh', 'SERVICES=(rest', 'SERVICES=(mailer rest');
  for (const place of ['docker-compose.yml', 'deploy/kubernetes', 'unit_value', 'start_', 'health_url', 'service_port', 'stop_services']) {
    assert.ok(
      findings.some((finding) => finding.startsWith(place) && finding.endsWith('mailer')),
      place,
    );
  }
});

for (const [path, from, to] of [
  ['docker-compose.yml', '\n  realtime:\n', '\n  realtime_of_old:\n'],
  ['deploy/kubernetes/base/login.yaml', 'kind: Deployment\nmetadata:\n  name: login', 'kind: Deployment\nmetadata:\n  name: other'],
  ['deploy/kubernetes/components/indexer/indexer.yaml', 'kind: Deployment', 'kind: StatefulSet'],
  ['scripts/units.sh', 'DESCRIPTION:storage)', 'DESCRIPTION:other)'],
  ['scripts/package.sh', '"$INDEXER_BINARY"', ''],
  ['scripts/stack.sh', 'for name in caddy storage realtime', 'for name in caddy realtime'],
  ['deploy/docker/sidecar.Dockerfile', '--package kijko-storage', ''],
  ['deploy/docker/sidecar.Dockerfile', '/src/target/release/kijko-indexer /usr/local/bin/', '/usr/local/bin/'],
  ['deploy/docker/sidecar.Dockerfile', 'KIJKO_REALTIME_BIND=', 'REALTIME_BIND='],
  ['deploy/docker/sidecar-healthy.sh', '$KIJKO_STORAGE_BIND', '$OTHER'],
  ['scripts/config.sh', ',REALTIME,', ','],
  ['deploy/docker/postgres-lib.sh', 'REALTIME STORAGE INDEXER', 'REALTIME STORAGE'],
  ['docker-compose.yml', '      KIJKO_SEARXNG_URL: ', '      SEARXNG_URL: '],
]) {
  test(`found: ${path} without ${from.trim()}`, () => {
    const findings = found(path, from, to);
    assert.notEqual(findings.length, 0);
  });
}
