// The access matrix: every operation on every relation and every function that PostgREST exposes, as every caller, compared with
// matrix.txt. The database's catalog says what there is, so a new table or function without a line fails, and so does a line
// without its object. KIJKO_ACCESS_WRITE=1 writes what was observed into matrix.txt and rights.txt instead of comparing.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { CALLERS } from './callers.mjs';
import { COMPUTED, FUNCTIONS } from './cases.mjs';
import { disconnect } from './db.mjs';
import { caseName, readExpected, writeExpected } from './expected.mjs';
import { columnRights, functions, relations, tableRights } from './objects.mjs';
import { isAllowed, NO_CASE } from './outcomes.mjs';
import { forgetPeople, liftAddressRate, makePeople, restoreAddressRate } from './people.mjs';
import { startRollingBack, stopRollingBack } from './rollback.mjs';
import { call, callForged, operate, operationsOf, readComputed } from './run.mjs';
import { fingerprint, makeWorld, removeWorld } from './world.mjs';

const WRITE = process.env.KIJKO_ACCESS_WRITE === '1';
const RIGHTS = new URL('rights.txt', import.meta.url);
const callers = Object.keys(CALLERS);
const expected = await readExpected();
const found = { relations: await relations(), functions: await functions() };
const tables = found.relations.filter(({ view }) => !view);
const observed = new Map();
let people;
let world;
let hash;

before(async () => {
  await liftAddressRate();
  people = await makePeople();
  world = await makeWorld(people);
  hash = await fingerprint(tables, world);
});
after(async () => {
  // Lines that were not called, by --test-name-pattern, stay as they are.
  if (WRITE)
    await writeExpected(
      callers,
      lines().flatMap((name) => observed.get(name) ?? expected.cases.get(name) ?? []),
    );
  await restoreAddressRate();
  if (world) await removeWorld(world);
  if (people) await forgetPeople(people);
  await disconnect();
});

/** The names of all lines that there must be, in the order of the table. */
const lines = () => [
  ...found.relations.flatMap((relation) => operationsOf(relation).map((operation) => caseName(relation.name, operation))),
  ...found.functions.flatMap((fn) => operationsOfFunction(fn).map((operation) => caseName(fn.signature, operation))),
];

/**
 * The cases of one object and operation of those whom the table lets through, or of the others: `run(world, caller)` gives a word.
 * `changes`: whether a case that is let through changes rows; where it does not, all belong to the others.
 */
async function line(letThrough, object, operation, run, changes = operation !== 'select' && operation !== 'read') {
  const name = caseName(object, operation);
  const wanted = expected.cases.get(name)?.words ?? new Map();
  const { words } = observed.get(name) ?? { words: new Map() };
  observed.set(name, { object, operation, words });
  const changing = (caller) => changes && (!wanted.has(caller) || isAllowed(wanted.get(caller)));
  const asked = callers.filter((caller) => changing(caller) === letThrough);
  // Those that change nothing at once, which nobody's new row makes wait. The API has ten connections.
  const atOnce = letThrough ? 1 : 6;
  for (let at = 0; at < asked.length; at += atOnce)
    await Promise.all(asked.slice(at, at + atOnce).map(async (caller) => words.set(caller, await run(world, caller))));
  if (WRITE) return [];
  if (!expected.cases.has(name)) return [`${name}: has no line in tests/access/matrix.txt`];
  return asked
    .filter((caller) => wanted.get(caller) !== words.get(caller))
    .map((caller) => `${name} as ${caller}: expected ${wanted.get(caller)}, was ${words.get(caller)}`);
}

/** No line has a fault, and the rows are those that were there. */
async function compare(faults) {
  const now = await fingerprint(tables, world);
  const then = hash;
  hash = now;
  assert.deepEqual(faults, []);
  assert.deepEqual(now, then, 'rows have changed');
}

test('the table has the callers of tests/access/callers.mjs', () => {
  if (!WRITE) assert.deepEqual(expected.callers, callers);
});

test('every line of the table is about something that exists', () => {
  const exists = new Set(lines());
  const gone = [...expected.cases.keys()].filter((name) => !exists.has(name));
  if (!WRITE) assert.deepEqual(gone, []);
});

test('the cases are about relations and functions that exist', () => {
  const signatures = new Set(found.functions.map(({ signature }) => signature));
  assert.deepEqual(
    [...Object.keys(FUNCTIONS), ...Object.keys(COMPUTED)].filter((signature) => !signatures.has(signature)),
    [],
  );
});

// What answers only in the transaction that made it; attempts, which only the outbox's worker makes; whom only a token of an issuer
// names; entries, which are sealed a minute later; a code, with which a browser comes back from a provider; VIES, which is not asked;
// a feed, which is there for everyone once the blog has an address; and what people have asked for about their data, or agreed to.
const LATER = [
  'secret(key)',
  'signing_secret(reflex)',
  'webhook_secret(endpoint)',
  'list_webhook_attempts(delivery_id)',
  'provision()',
  'export_audit_log(org_id,after_position,max_rows)',
  'complete_connection(code)',
  'check_vat_number()',
  'blog_feed(org_slug,format,post_locale)',
  'cancel_erasure(request_id)',
  'claim_export(token)',
  'confirm_erasure(request_id,code)',
  'list_consents()',
  'list_privacy_requests()',
  'open_export(request_id)',
];

// Otherwise a refusal could be about the input. Rows never move and never change their author, and no project is anybody's abroad.
test('whoever is let through, somebody among them succeeds', () => {
  const byNature = ['move', 'author', 'insert:foreign', 'update:widen', 'call:other', 'call:missing'];
  const withoutRight = ['signin', 'grant', '401', NO_CASE];
  const useless = [...expected.cases.values()].filter(({ object, operation, words }) => {
    if (LATER.includes(object)) return false;
    // The key that only reads is refused before its rights are asked.
    const all = [...words].filter(([caller]) => caller !== 'readkey').map(([, word]) => word);
    return !byNature.includes(operation) && !all.every((word) => withoutRight.includes(word)) && !all.some(isAllowed);
  });
  assert.deepEqual(
    useless.map(({ object, operation }) => caseName(object, operation)),
    [],
  );
});

// The whole of what roles may do with columns. The policies decide about rows; the matrix about both.
test('the rights on tables and columns are those of rights.txt', async () => {
  const rights = [...(await tableRights()), '', ...(await columnRights())];
  const text = `${rights.join('\n')}\n`;
  if (WRITE) await writeFile(RIGHTS, text);
  else {
    const listed = (await readFile(RIGHTS, 'utf8')).trimEnd().split('\n');
    const without = (some, others) => some.filter((right) => !others.includes(right));
    assert.deepEqual({ added: without(rights, listed), gone: without(listed, rights) }, { added: [], gone: [] });
  }
});

function operationsOfFunction(fn) {
  return fn.computed_of ? ['read', 'call'] : Object.keys(FUNCTIONS[fn.signature] ?? { call: null });
}

async function linesOfRelation(letThrough, relation) {
  const faults = [];
  for (const operation of operationsOf(relation))
    faults.push(...(await line(letThrough, relation.name, operation, (w, caller) => operate(w, caller, relation, operation))));
  return faults;
}

async function linesOfFunction(letThrough, fn) {
  const faults = [];
  assert.ok(FUNCTIONS[fn.signature], `${fn.signature} has no case in tests/access/cases.mjs`);
  for (const [operation, body] of Object.entries(FUNCTIONS[fn.signature]))
    faults.push(...(await line(letThrough, fn.signature, operation, (w, caller) => call(w, caller, fn, body(w, caller)), fn.volatile)));
  return faults;
}

async function linesOfComputed(letThrough, fn) {
  const relation = found.relations.find(({ name }) => name === fn.computed_of);
  const options = COMPUTED[fn.signature];
  assert.ok(options, `${fn.signature} has no case in tests/access/cases.mjs`);
  return [
    ...(await line(letThrough, fn.signature, 'read', (w, caller) => readComputed(w, caller, fn, relation, options))),
    ...(await line(letThrough, fn.signature, 'call', (w, caller) => callForged(w, caller, fn, relation, options), fn.volatile)),
  ];
}

function everyLine(letThrough) {
  for (const relation of found.relations) test(relation.name, async () => compare(await linesOfRelation(letThrough, relation)));
  for (const fn of found.functions)
    test(fn.signature, async () => compare(await (fn.computed_of ? linesOfComputed : linesOfFunction)(letThrough, fn)));
}

// Committed, to see that nothing has changed.
describe('who is refused', () => everyLine(false));

describe('who is let through', () => {
  before(startRollingBack);
  after(stopRollingBack);
  everyLine(true);
});
