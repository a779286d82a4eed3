// Finds modules of a Rust crate that depend on each other in a cycle: none of them can be read, tested or moved alone.
// JavaScript's circles are found by Biome (noImportCycles).
import { CIRCLES } from './exceptions.mjs';
import { dependencies, modulesOf } from './rust.mjs';
import { exists, isMain, ROOT, report } from './tree.mjs';

const CRATES = ['kijko_ext/src', 'sidecar/src', 'services/core/src'];

/** Each dependency cycle in the crates at `root` that is not on the list, printed as a path from a module back to itself. */
export function checkCircles(root, allowed = {}) {
  return CRATES.filter((folder) => exists(root, folder)).flatMap((folder) => {
    const edges = dependencies(modulesOf(root, folder));
    const groups = circles(edges);
    const lists = allowed[folder] ?? [];
    return [
      ...groups
        .filter((group) => !lists.some((list) => group.every((name) => list.includes(name))))
        .map(
          (group) =>
            `${folder}: ${wayRound(edges, group).join(' -> ')}${group.length > 2 ? ` (${group.length} modules in circles: ${group.join(', ')})` : ''}`,
        ),
      ...lists
        .filter((list) => !groups.some((group) => group.every((name) => list.includes(name))))
        .map((list) => `${folder}: ${list.join(', ')} has no circle any more: remove it from tests/lint/exceptions.mjs`),
    ];
  });
}

/** The strongly connected components of more than one module (Tarjan's algorithm), each sorted. */
export function circles(edges) {
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

/** The shortest way from the group's first module back to it. */
function wayRound(edges, group) {
  const [start] = group;
  const ways = [[start]];
  const seen = new Set();
  for (const way of ways) {
    for (const next of edges.get(way.at(-1)) ?? []) {
      if (next === start) return [...way, start];
      if (!group.includes(next) || seen.has(next)) continue;
      seen.add(next);
      ways.push([...way, next]);
    }
  }
  return group;
}

if (isMain(import.meta)) report('circles', checkCircles(ROOT, CIRCLES));
