// Stripe's published interface, read from the types of npm stripe: which parameters each endpoint takes and which it needs. The fake
// Stripe of the tests refuses by it what Stripe would refuse.
import { readFileSync } from 'node:fs';

const TYPES = new URL('../../node_modules/stripe/esm/', import.meta.url);

/** The version of Stripe's API that these types are of. */
export const API_VERSION = readFileSync(new URL('apiVersion.js', TYPES), 'utf8').match(/ApiVersion = '([^']+)'/)[1];

const PRIMITIVES = {
  string: (value) => typeof value === 'string',
  number: (value) => /^-?\d+(\.\d+)?$/.test(value),
  boolean: (value) => value === 'true' || value === 'false',
  Decimal: (value) => /^-?\d+(\.\d+)?$/.test(value),
};
// Of shared.d.ts.
const SHARED = new Set(['MetadataParam', 'AddressParam', 'OtherString', 'RangeQueryParam']);

const files = new Map();

/** The interfaces and types of a file by their full names: {properties: Map(name → {type, optional})} or {alias}. */
function declarations(file) {
  if (files.has(file)) return files.get(file);
  const found = new Map();
  const scope = [];
  let open;
  const text = readFileSync(new URL(file, TYPES), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  for (const line of text.split('\n').map((each) => each.trim())) {
    const [, namespace] = line.match(/^(?:export )?(?:declare )?namespace (\w+) \{$/) ?? [];
    const [, name, parent] = line.match(/^(?:export )?interface (\w+)(?: extends (\w+))? \{(?:\s*\})?$/) ?? [];
    const [, alias, meaning] = line.match(/^(?:export )?type (\w+) = (.+);$/) ?? [];
    if (namespace) scope.push(namespace);
    else if (name) {
      open = { properties: new Map(), parent };
      found.set([...scope, name].join('.'), open);
      if (line.endsWith('}')) open = undefined;
    } else if (alias) found.set([...scope, alias].join('.'), { alias: meaning });
    else if (line === '}' && open) open = undefined;
    else if (line === '}') scope.pop();
    else if (open) {
      const [, property, optional, type] = line.match(/^'?([\w-]+)'?(\?)?: (.+;|\{)$/) ?? [];
      if (property) open.properties.set(property, { type: type.replace(/;$/, ''), optional: Boolean(optional) });
    }
  }
  if (found.size === 0) throw new Error(`no declarations in ${file}`);
  files.set(file, found);
  return found;
}

/** A name as seen from a scope: the innermost declaration wins. */
function resolve(known, name, scope) {
  const parts = scope.split('.');
  for (let depth = parts.length; depth >= 0; depth -= 1) {
    const full = [...parts.slice(0, depth), name].join('.');
    if (known.has(full)) return full;
  }
  return undefined;
}

/** Splits `A | B<C | D>` at its own bars. */
function alternatives(type) {
  const found = [''];
  let depth = 0;
  for (const sign of type) {
    if (sign === '<' || sign === '{') depth += 1;
    if (sign === '>' || sign === '}') depth -= 1;
    if (sign === '|' && depth === 0) found.push('');
    else found[found.length - 1] += sign;
  }
  return found.map((each) => each.trim()).filter(Boolean);
}

const fault = (code, param, message) => ({ code, param, message });
const at = (path, name) => (path ? `${path}[${name}]` : name);

/** What is wrong with a value of this type; undefined if nothing. */
function faultOf(known, type, scope, value, path) {
  // Of an open list of words, those that are known.
  const options = alternatives(type).filter((each, _, all) => each !== 'OtherString' || all.length === 1);
  if (options.length > 1) {
    const faults = options.map((option) => faultOf(known, option, scope, value, path));
    if (faults.includes(undefined)) return undefined;
    return faults.find((each) => each.code !== 'parameter_invalid') ?? faults[0];
  }
  const [option] = options;
  const wrong = fault('parameter_invalid', path, `Invalid ${path}: must be ${option}`);
  const [, generic, inner] = option.match(/^(Array|Emptyable)<(.+)>$/) ?? [];
  if (generic === 'Emptyable') return value === '' ? undefined : faultOf(known, inner, scope, value, path);
  if (generic === 'Array') {
    if (typeof value !== 'object') return wrong;
    return first(Object.entries(value), ([place, each]) => faultOf(known, inner, scope, each, at(path, place)));
  }
  if (/^'.*'$/.test(option)) return `'${value}'` === option ? undefined : wrong;
  if (PRIMITIVES[option]) return typeof value === 'string' && PRIMITIVES[option](value) ? undefined : wrong;
  if (option.startsWith('{') || SHARED.has(option)) return undefined;
  const full = resolve(known, option, scope);
  // Declared in another file, as the types of shared objects: not read.
  if (!full) return undefined;
  const declared = known.get(full);
  if (declared.alias) return faultOf(known, declared.alias, full, value, path);
  return typeof value === 'object' ? faultOfFields(known, full, value, path) : wrong;
}

const PAGINATION = ['limit', 'starting_after', 'ending_before', 'expand'];

function faultOfFields(known, full, value, path) {
  const { properties, parent } = known.get(full);
  const inherited = parent === 'PaginationParams' ? PAGINATION : [];
  return (
    first(Object.keys(value), (name) =>
      properties.has(name) || inherited.includes(name)
        ? undefined
        : fault('parameter_unknown', at(path, name), `Received unknown parameter: ${at(path, name)}`),
    ) ??
    first([...properties], ([name, { optional }]) =>
      optional || name in value ? undefined : fault('parameter_missing', at(path, name), `Missing required param: ${at(path, name)}.`),
    ) ??
    first(Object.entries(value), ([name, each]) =>
      properties.has(name) ? faultOf(known, properties.get(name).type, full, each, at(path, name)) : undefined,
    )
  );
}

function first(list, find) {
  for (const each of list) {
    const found = find(each);
    if (found) return found;
  }
  return undefined;
}

/** What is wrong with the parameters of an endpoint, whose interface is in a file: `Checkout/Sessions`, `Checkout.SessionCreateParams`. */
export function problem(file, name, parameters) {
  const known = declarations(`resources/${file}.d.ts`);
  if (!known.has(name)) throw new Error(`npm stripe has no ${name} in ${file}`);
  return faultOfFields(known, name, parameters, '');
}

/** A form or query as Stripe reads it: `items[0][price]=x` is {items: {0: {price: 'x'}}}. */
export function parseForm(text) {
  const found = {};
  for (const [key, value] of new URLSearchParams(text)) {
    const path = [key.replace(/\[.*$/, ''), ...[...key.matchAll(/\[([^\]]*)\]/g)].map((match) => match[1])];
    let place = found;
    for (const part of path.slice(0, -1)) {
      place[part] ??= {};
      place = place[part];
    }
    const last = path.at(-1);
    place[last === '' ? Object.keys(place).length : last] = value;
  }
  return found;
}
