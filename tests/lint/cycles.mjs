// Finds modules of a Rust crate that depend on each other in a cycle: none of them can be read, tested or moved alone.
// JavaScript's cycles are found by Biome (noImportCycles).
import { CYCLES } from './exceptions.mjs';
import { dependencies, modulesOf } from './rust.mjs';
import { exists, isMain, ROOT, report } from './tree.mjs';

const CRATES = ['kijko_ext/src', 'sidecar/src', 'services/core/src'];

/** Each dependency cycle in the crates at `root` that is not on the list, printed as a path from a module back to itself. */
export function checkCycles(root, allowed = {}) {
  return CRATES.filter((folder) => exists(root, folder)).flatMap((folder) => {
    const edges = dependencies(modulesOf(root, folder));
    const groups = cycles(edges);
    const lists = allowed[folder] ?? [];
    return [
      ...groups
        .filter((group) => !lists.some((list) => group.every((name) => list.includes(name))))
        .map(
          (group) =>
            `${folder}: ${shortestCycle(edges, group).join(' -> ')}${group.length > 2 ? ` (${group.length} modules in cycles: ${group.join(', ')})` : ''}`,
        ),
      ...lists
        .filter((list) => !groups.some((group) => group.every((name) => list.includes(name))))
        .map((list) => `${folder}: ${list.join(', ')} has no cycle any more: remove it from tests/lint/exceptions.mjs`),
    ];
  });
}

/** The strongly connected components of more than one module (Tarjan's algorithm), each sorted. */
export function cycles(edges) {
  const index = new Map();
  const low = new Map();
  const stack = [];
  const groups = [];
  const visit = (name) => {
    index.set(name, index.size);
    low.set(name, index.get(name));
    stack.push(name);
    for (const next of edges.get(name) ?? []) {
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(name, Math.min(low.get(name), low.get(next)));
    }
    if (low.get(name) !== index.get(name)) return;
    const group = stack.splice(stack.indexOf(name));
    if (group.length > 1) groups.push(group.sort());
  };
  for (const name of edges.keys()) if (!index.has(name)) visit(name);
  return groups;
}

/** The shortest path from the group's first module back to it. */
function shortestCycle(edges, group) {
  const [start] = group;
  const paths = [[start]];
  const seen = new Set();
  for (const path of paths) {
    for (const next of edges.get(path.at(-1)) ?? []) {
      if (next === start) return [...path, start];
      if (!group.includes(next) || seen.has(next)) continue;
      seen.add(next);
      paths.push([...path, next]);
    }
  }
  return group;
}

if (isMain(import.meta)) report('cycles', checkCycles(ROOT, CYCLES));
