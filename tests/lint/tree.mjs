// The files of a source tree, without what is installed, built or generated at run time.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const SKIPPED = new Set(['.git', '.kijko', '.temp', '.docusaurus', 'generated', 'node_modules', 'target']);
// The settings of this checkout, which git ignores: they may name its paths.
const SETTINGS = '.env';

/** Every file below `folder` of the tree at `root`, as paths relative to `root`, sorted. */
export function filesOf(root, folder = '') {
  const start = join(root, folder);
  if (!existsSync(start)) return [];
  return readdirSync(start, { withFileTypes: true })
    .filter((entry) => !SKIPPED.has(entry.name))
    .flatMap((entry) => {
      const path = folder ? `${folder}/${entry.name}` : entry.name;
      if (entry.isDirectory()) return filesOf(root, path);
      return entry.isFile() && path !== SETTINGS ? [path] : [];
    })
    .sort();
}

/** The names of the files directly in `folder`, sorted. */
export function namesIn(root, folder) {
  return filesOf(root, folder)
    .map((path) => path.slice(folder.length + 1))
    .filter((name) => !name.includes('/'));
}

export const read = (root, path) => readFileSync(join(root, path), 'utf8');

export const exists = (root, path) => existsSync(join(root, path));

/** The entries of a list that it has had before. */
export const repeated = (list) => list.filter((entry, at) => list.indexOf(entry) !== at);

/** Prints the findings of a check and sets the exit status. */
export function report(check, findings) {
  for (const finding of findings) console.error(`${check}: ${finding}`);
  if (findings.length > 0) process.exitCode = 1;
}

export const isMain = (meta) => process.argv[1] === fileURLToPath(meta.url);
