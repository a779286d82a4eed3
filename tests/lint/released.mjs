// What a release has shipped does not change: whoever installed it has applied it. Compares with the last tag v*; before the first
// there is nothing to keep.
import { execFileSync } from 'node:child_process';
import { isMain, ROOT, read, report } from './tree.mjs';

// Applied to databases, and by which name a newer file comes after the others.
const FROZEN = [
  { folder: 'supabase/migrations', name: /^\d{14}_.*\.sql$/, order: (name) => name.slice(0, 14) },
  { folder: 'sql/platform', name: /\.sql$/, order: () => '' },
  { folder: 'kijko_ext/sql', name: /^kijko--.*\.sql$/, order: () => '' },
];

const git = (root, ...args) =>
  execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 1 << 28 });

/** The newest release that this commit comes after, or null. */
export function lastTag(root) {
  try {
    return git(root, 'describe', '--tags', '--abbrev=0', '--match', 'v[0-9]*').trim();
  } catch {
    return null;
  }
}

/** The released files that were changed, renamed or removed since, and migrations that were put before released ones. */
export function checkReleased(root, tag = lastTag(root)) {
  if (!tag) return [];
  return FROZEN.flatMap(({ folder, name, order }) => {
    const files = (text) =>
      text
        .split('\0')
        .filter(Boolean)
        .filter((path) => name.test(path.slice(folder.length + 1)));
    const released = files(git(root, 'ls-tree', '-r', '-z', '--name-only', tag, '--', `${folder}/`));
    const changed = files(git(root, 'diff', '-z', '--name-only', '--no-renames', '--diff-filter=MDT', tag, '--', `${folder}/`));
    const added = files(git(root, 'diff', '-z', '--name-only', '--no-renames', '--diff-filter=A', tag, '--', `${folder}/`));
    const last =
      released
        .map((path) => order(path.slice(folder.length + 1)))
        .sort()
        .at(-1) ?? '';
    return [
      ...changed.map((path) => `${path} was released with ${tag} and is changed: add a new file instead`),
      ...added
        .filter((path) => last !== '' && order(path.slice(folder.length + 1)) <= last)
        .map((path) => `${path} comes before what was released with ${tag}: give it a later time stamp than ${last}`),
    ];
  });
}

/** The database is stamped with the release that Cargo.toml names. */
export function checkStamp(root) {
  const [, cargo] = /^version = "(.*)"/m.exec(read(root, 'Cargo.toml')) ?? [];
  const stamp = read(root, 'supabase/release.txt').trim();
  return stamp === cargo ? [] : [`supabase/release.txt says ${stamp}, and Cargo.toml ${cargo}`];
}

if (isMain(import.meta)) report('released', [...checkReleased(ROOT), ...checkStamp(ROOT)]);
