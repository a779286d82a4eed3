// The lint of released files, in a repository of its own with a tag.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { checkReleased, checkStamp, lastTag } from './released.mjs';

const roots = [];
after(() => {
  for (const root of roots) rmSync(root, { recursive: true });
});

const FIRST = 'supabase/migrations/20261121010000_foundation.sql';
const PLATFORM = 'sql/platform/10_roles.sql';
const SCRIPT = 'kijko_ext/sql/kijko--0.1.0.sql';

function repository({ tag = true } = {}) {
  const root = mkdtempSync(join(tmpdir(), 'kijko-released-'));
  roots.push(root);
  git(root, 'init', '-q');
  write(root, {
    [FIRST]: 'select 1;',
    [PLATFORM]: 'select 1;',
    [SCRIPT]: 'select 1;',
    'Cargo.toml': 'version = "0.1.0"\n',
    'supabase/release.txt': '0.1.0\n',
  });
  commit(root);
  if (tag) git(root, 'tag', 'v0.1.0');
  return root;
}

const git = (root, ...args) =>
  execFileSync('git', ['-C', root, '-c', 'user.name=Test', '-c', 'user.email=test@example.com', '-c', 'core.hooksPath=/dev/null', ...args]);
const commit = (root) => {
  git(root, 'add', '-A');
  git(root, 'commit', '-qm', 'test: commit');
};
function write(root, files) {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
}
const found = (root) => checkReleased(root).map((finding) => finding.split(' ')[0]);

test('before the first tag everything may be edited', () => {
  const root = repository({ tag: false });
  write(root, { [FIRST]: 'select 2;' });
  assert.equal(lastTag(root), null);
  assert.deepEqual(found(root), []);
});

test('each released file that is changed, removed or renamed is found, committed or not', () => {
  for (const path of [FIRST, PLATFORM, SCRIPT]) {
    const root = repository();
    assert.deepEqual(found(root), []);
    write(root, { [path]: 'select 2;' });
    assert.deepEqual(found(root), [path]);
    commit(root);
    assert.deepEqual(found(root), [path]);
    git(root, 'revert', '--no-edit', 'HEAD');
    assert.deepEqual(found(root), []);
    rmSync(join(root, path));
    commit(root);
    assert.deepEqual(found(root), [path]);
  }
});

test('a new migration comes after the released ones', () => {
  const root = repository();
  write(root, {
    'supabase/migrations/20261121005959_early.sql': '',
    'supabase/migrations/20270101000000_own_notes.sql': '',
    'sql/platform/05_new.sql': '',
  });
  commit(root);
  assert.deepEqual(found(root), ['supabase/migrations/20261121005959_early.sql']);
});

test('the stamp is the version of Cargo.toml', () => {
  const root = repository();
  assert.deepEqual(checkStamp(root), []);
  write(root, { 'supabase/release.txt': '0.2.0\n' });
  assert.equal(checkStamp(root).length, 1);
});
