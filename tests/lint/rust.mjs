// Enough of Rust's grammar to tell which module names which: comments, strings and tests are taken out, and paths are
// resolved through modules, aliases and re-exports. What a macro makes of its tokens is not seen.
import { filesOf, read } from './tree.mjs';

/** The source with comments and the contents of strings replaced by spaces; line ends stay where they are. */
export function withoutTexts(source) {
  const TEXT = /\/\/[^\n]*|\/\*|b?r(#*)"|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'])'/g;
  const blank = (text) => text.replace(/[^\n]/g, ' ');
  let out = '';
  let at = 0;
  for (let match = TEXT.exec(source); match; match = TEXT.exec(source)) {
    // A raw identifier or a name that ends in r or b is not the start of a string.
    if (/["#]/.test(match[0][1] ?? '') && /\w/.test(source[match.index - 1] ?? '')) continue;
    let end = TEXT.lastIndex;
    if (match[0] === '/*') end = endOfComment(source, match.index);
    else if (match[1] !== undefined) end = source.indexOf(`"${match[1]}`, end) + 1 + match[1].length;
    out += source.slice(at, match.index) + blank(source.slice(match.index, end));
    at = end;
    TEXT.lastIndex = end;
  }
  return out + source.slice(at);
}

function endOfComment(source, start) {
  const MARK = /\/\*|\*\//g;
  MARK.lastIndex = start;
  let depth = 0;
  for (let match = MARK.exec(source); match; match = MARK.exec(source)) {
    depth += match[0] === '/*' ? 1 : -1;
    if (depth === 0) return MARK.lastIndex;
  }
  return source.length;
}

/** Without the items that only tests compile: `#[cfg(test)]`, with whatever attributes follow. */
export function withoutTests(source) {
  const TEST = /#\[cfg\(test\)\]/g;
  let out = '';
  let at = 0;
  for (let match = TEST.exec(source); match; match = TEST.exec(source)) {
    if (match.index < at) continue;
    out += source.slice(at, match.index);
    at = endOfItem(source, TEST.lastIndex);
    TEST.lastIndex = at;
  }
  return out + source.slice(at);
}

/** Where an item ends: at its closing brace, or at a semicolon outside of all brackets. */
function endOfItem(source, start) {
  let depth = 0;
  for (let at = start; at < source.length; at += 1) {
    const c = source[at];
    if ('([{'.includes(c)) depth += 1;
    if (')]}'.includes(c)) depth -= 1;
    if (depth === 0 && (c === '}' || c === ';')) return at + 1;
  }
  return source.length;
}

/** The leaves of a use tree: `a::{b, c as d, e::*}` gives `[{ path: [a, b], name: b }, …]`; a glob's name is `*`. */
export function useLeaves(tree, prefix = []) {
  const text = tree.trim();
  const brace = text.indexOf('{');
  if (brace >= 0) {
    const start = [...prefix, ...segments(text.slice(0, brace))];
    return splitList(text.slice(brace + 1, text.lastIndexOf('}'))).flatMap((part) => useLeaves(part, start));
  }
  const [whole, alias] = text.split(/\s+as\s+/);
  const path = [...prefix, ...segments(whole)];
  if (path.length === 0) return [];
  // `a::{self}` names a.
  if (path.at(-1) === 'self' && path.length > 1) path.pop();
  return [{ path, name: alias ?? path.at(-1) }];
}

const segments = (text) =>
  text
    .split('::')
    .map((part) => part.trim())
    .filter(Boolean);

function splitList(text) {
  const parts = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at <= text.length; at += 1) {
    if (text[at] === '{') depth += 1;
    if (text[at] === '}') depth -= 1;
    if (at === text.length || (text[at] === ',' && depth === 0)) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  return parts.filter((part) => part.trim());
}

/** The modules of the crate at `folder` that are files: name (`crate::a::b`) to its children, uses and paths. */
export function modulesOf(root, folder) {
  const modules = new Map();
  for (const path of filesOf(root, folder)) {
    if (!path.endsWith('.rs') || path.endsWith('/main.rs')) continue;
    const parts = path.slice(folder.length + 1, -'.rs'.length).split('/');
    if (['lib', 'mod'].includes(parts.at(-1))) parts.pop();
    const source = withoutTests(withoutTexts(read(root, path)));
    const uses = [...source.matchAll(/(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);/g)];
    const rest = source.replace(/\buse\s+[^;]+;/g, '');
    modules.set(['crate', ...parts].join('::'), {
      path,
      uses: uses.flatMap(([, visible, tree]) => useLeaves(tree).map((leaf) => ({ ...leaf, exported: Boolean(visible) }))),
      // Paths in code: `a::b`, also before `!`, `(`, `<` and `{`.
      paths: [...rest.matchAll(/(?<![\w:])(?:[a-z_]\w*)(?:\s*::\s*\w+)+/g)].map(([text]) => segments(text)),
      words: new Set(rest.match(/\w+/g)),
    });
  }
  // Leaves out files that only tests declare as modules.
  return declared(modules, root);
}

/** Only the modules that their parent declares outside of its tests. */
function declared(modules, root) {
  const kept = new Map();
  for (const [name, module] of [...modules].sort(([a], [b]) => a.length - b.length)) {
    const parent = name.split('::').slice(0, -1).join('::');
    const own = name.split('::').at(-1);
    if (name === 'crate' || (kept.has(parent) && declares(kept.get(parent), own, root))) kept.set(name, module);
  }
  return kept;
}

const declares = ({ path }, name, root) => new RegExp(`\\bmod\\s+${name}\\s*;`).test(withoutTests(withoutTexts(read(root, path))));

/** Which module names which: a map from a module to the set of modules that hold what it names. */
export function dependencies(modules) {
  const edges = new Map();
  for (const [from, module] of modules) {
    const targets = new Set();
    const aliases = new Map();
    for (const { path, name, exported } of module.uses) {
      const target = resolve(modules, from, path);
      if (!target) continue;
      if (target.whole) aliases.set(name, target.module);
      // A re-export alone is no dependency; a use of the re-exported name in the same module is one.
      else if (!exported || module.words.has(name)) targets.add(target.module);
    }
    for (const path of module.paths) {
      const start = aliases.get(path[0]);
      const target = start ? resolve(modules, start, ['self', ...path.slice(1)]) : resolve(modules, from, path);
      if (target && !target.whole) targets.add(target.module);
    }
    targets.delete(from);
    edges.set(from, targets);
  }
  return edges;
}

/** The module that holds what `path` names, seen from a module; `whole` when it is that module itself. Null outside of the crate. */
function resolve(modules, from, path, depth = 0) {
  let rest = [...path];
  let at = from;
  if (rest[0] === 'crate') {
    at = 'crate';
    rest = rest.slice(1);
  } else if (['self', 'super'].includes(rest[0])) {
    for (; ['self', 'super'].includes(rest[0]); rest = rest.slice(1)) if (rest[0] === 'super') at = at.split('::').slice(0, -1).join('::');
  } else if (!modules.has(`${at}::${rest[0]}`)) return null;
  for (; rest.length > 0; rest = rest.slice(1)) {
    const child = `${at}::${rest[0]}`;
    if (modules.has(child)) {
      at = child;
      continue;
    }
    const reexport = modules.get(at)?.uses.find(({ name, exported }) => exported && name === rest[0]);
    const target = reexport && depth < 8 ? resolve(modules, at, reexport.path, depth + 1) : null;
    if (target?.whole) at = target.module;
    else return target ?? { module: at, whole: false };
  }
  return modules.has(at) ? { module: at, whole: true } : null;
}
