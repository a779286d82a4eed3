// Assembles the upgrade script between two install scripts of the extension.
//
//   node kijko_ext/sql/assemble_upgrade.mjs OLD.sql NEW.sql [TABLES.sql] > kijko_ext/sql/kijko--OLD--NEW.sql
//
// An install script is what `cargo pgrx install` generates from the .sql files of the sources and from #[pg_extern]. Functions,
// views, triggers, indexes, comments and grants are taken from NEW as they are, so an upgraded database cannot differ from a
// fresh one in them. How a table that exists already changes, or data in it, cannot be derived: TABLES.sql says it by hand and
// runs first. The assembler fails when such a change is missing there.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

/** The statements of a script, without comments outside of function bodies. */
export function statements(script) {
  // A dollar-quoted body, a string, a quoted name, a comment, the end of a statement, or any other character.
  const token = /\$(\w*)\$[\s\S]*?\$\1\$|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\/|;|[\s\S]/g;
  const found = [];
  let text = '';
  for (const [part] of script.matchAll(token)) {
    if (part === ';') {
      found.push(text.trim());
      text = '';
    } else if (!part.startsWith('--') && !part.startsWith('/*')) {
      text += part;
    }
  }
  if (text.trim() !== '') throw new Error(`a statement without its end: ${text.trim().slice(0, 80)}`);
  return found.map((statement) => ({ ...identify(statement), text: statement }));
}

const qualified = (name) => (name.includes('.') ? name : `kijko.${name}`);

/** What a statement makes: its kind, and a key that is the same in another version of it. */
function identify(statement) {
  const plain = statement.replaceAll('"', '').replace(/\s+/g, ' ');
  const made = plain.match(/^create (?:or replace )?(?:unique )?(function|aggregate|view|table|type|domain|index|trigger) ([\w.]+)/i);
  if (made) {
    const kind = made[1].toLowerCase();
    const name = qualified(made[2].toLowerCase());
    if (kind === 'function' || kind === 'aggregate') return { kind, key: `${kind} ${name}(${argumentTypes(plain)})` };
    if (kind === 'trigger') return { kind, key: `trigger ${made[2]} on ${plain.match(/ on ([\w.]+)/i)[1]}` };
    return { kind, key: `${kind} ${name}` };
  }
  if (/^comment on /i.test(plain)) return { kind: 'comment', key: plain.slice(0, plain.search(/ is (?:'|null)/i)) };
  if (/^(grant|revoke) /i.test(plain)) return { kind: 'grant', key: plain };
  if (/^select pg_catalog\.pg_extension_config_dump/i.test(plain)) return { kind: 'dumped', key: plain };
  if (/^do /i.test(plain)) return { kind: 'do', key: plain };
  if (/^alter table [\w.]+ enable (always|replica) trigger/i.test(plain)) return { kind: 'enable', key: plain };
  const data = plain.match(/^insert into ([\w.]+)/i);
  return data ? { kind: 'data', key: `table ${data[1]}` } : { kind: 'other', key: plain };
}

/** The types of a function's input arguments, as `drop function` names them. */
function argumentTypes(plain) {
  let depth = 0;
  let list = '';
  for (const character of plain.slice(plain.indexOf('('))) {
    if (character === ')') depth -= 1;
    if (depth > 0) list += depth > 1 && character === ',' ? ' ' : character;
    if (character === '(') depth += 1;
    if (depth === 0) break;
  }
  const type = (argument) =>
    argument
      .trim()
      .replace(/\s+(default|=)\s.*$/i, '')
      .replace(/^\w+\s+/, '')
      .toLowerCase();
  return list.trim() === '' ? '' : list.split(',').map(type).join(', ');
}

const REPLACED = new Set(['function', 'aggregate', 'view', 'trigger']);
const BY_HAND = new Set(['table', 'type', 'domain', 'data', 'other']);

/** The upgrade script from one install script to another; `tables` is what was written by hand. */
function assemble(oldScript, newScript, tables = '') {
  const old = new Map(statements(oldScript).map((statement) => [`${statement.kind} ${statement.key}`, statement]));
  const fresh = statements(newScript);
  const kept = new Set(fresh.map((statement) => `${statement.kind} ${statement.key}`));
  const missing = [];
  const byHand = (statement) => {
    const name = statement.key.replace(/^\w+ /, '').toLowerCase();
    // As a whole name: `kijko.limits_of` does not mention `kijko.limits`.
    const mention = new RegExp(`${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\w.])`);
    if (!mention.test(tables.toLowerCase())) missing.push(statement.key);
  };

  const dropped = [...old].filter(([key]) => !kept.has(key)).map(([, statement]) => statement);
  // An aggregate depends on its functions.
  dropped.sort((a, b) => (b.kind === 'aggregate') - (a.kind === 'aggregate'));
  const drops = dropped.flatMap((statement) => {
    if (BY_HAND.has(statement.kind)) byHand(statement);
    return ['function', 'aggregate', 'view', 'trigger', 'index'].includes(statement.kind) ? [`drop ${statement.key}`] : [];
  });

  // Comments of objects that are dropped and created again. A comment comes after its object.
  const recreated = new Set();
  const changes = fresh.flatMap((statement) => {
    const former = old.get(`${statement.kind} ${statement.key}`);
    // What a block does is not known. One that is the same has been run.
    if (statement.kind === 'do' && !former) byHand(statement);
    if (['grant', 'enable', 'do'].includes(statement.kind)) return [];
    if (former?.text === statement.text && !recreated.has(statement.key)) return [];
    if (REPLACED.has(statement.kind)) return [statement.text.replace(/^create\s+(or replace\s+)?/i, 'create or replace ')];
    if (!former && statement.kind !== 'data' && statement.kind !== 'other') return [statement.text];
    if (statement.kind === 'index') {
      recreated.add(`comment on ${statement.key}`);
      return [`drop ${statement.key}`, statement.text];
    }
    if (BY_HAND.has(statement.kind)) byHand(statement);
    return statement.kind === 'comment' ? [statement.text] : [];
  });
  if (missing.length > 0) throw new Error(`write by hand what changes: ${[...new Set(missing)].join(', ')}`);

  // All of them: a new function can be executed by everybody, and a replaced trigger is enabled in the default way.
  const always = fresh.filter((statement) => ['enable', 'grant'].includes(statement.kind)).map((statement) => statement.text);
  const ended = (list) => list.map((statement) => `${statement};\n`).join('');
  return `\\echo Use "alter extension kijko update" to load this file. \\quit\n${tables}${ended([...drops, ...changes, ...always])}`;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [older, newer, tables] = process.argv.slice(2).map((path) => readFileSync(path, 'utf8'));
  if (newer === undefined) {
    console.error('usage: node assemble_upgrade.mjs OLD.sql NEW.sql [TABLES.sql]');
    process.exit(2);
  }
  try {
    process.stdout.write(assemble(older, newer, tables));
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
