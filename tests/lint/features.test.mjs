// What the programs share is compiled once only if it has the same features for all sets of packages that are built: `./kijko up`
// builds the core, `--with indexer` and the tests all. Otherwise cargo compiles it again, which takes minutes, and tests run other code
// than `up` starts.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { it } from 'node:test';

const ROOT = new URL('../../', import.meta.url).pathname;
const CORE = ['kijko-sidecar', 'kijko-realtime', 'kijko-storage'];
const ALL = [...CORE, 'kijko-core', 'kijko-flags', 'kijko-guard', 'kijko-grammars', 'kijko-indexer'];

/** The features of each crate, by name and version. */
function featuresOf(packages) {
  const options = ['--locked', '--edges', 'normal', '--format', '{p}|{f}', '--prefix', 'none'];
  const args = ['tree', ...options, ...packages.flatMap((name) => ['--package', name])];
  const text = execFileSync('cargo', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const lines = text.split('\n').filter(Boolean);
  return new Map(lines.map((line) => line.replace(/ \(\*\)$/, '').split('|')));
}

it('what the core and the indexer share has the same features for both', () => {
  const core = featuresOf(CORE);
  const all = featuresOf(ALL);
  assert.ok(core.size > 200 && all.size > core.size, `${core.size} and ${all.size} crates`);
  const differ = [...core].filter(([name, features]) => all.get(name) !== features);
  assert.deepEqual(
    differ.map(([name, features]) => `${name}: ${features} | ${all.get(name)}`),
    [],
    'add the features to sidecar/Cargo.toml',
  );
});
