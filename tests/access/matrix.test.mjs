// The access matrix: every operation on every relation and every function that PostgREST exposes, as every caller, compared with
// matrix.txt. The database's catalog says what there is, so a new table or function without a line fails, and so does a line
// without its object. KIJKO_ACCESS_WRITE=1 writes what was observed into matrix.txt and rights.txt instead of comparing.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { CALLERS } from './callers.mjs';
import { COMPUTED, ENDS_PEOPLE, FUNCTIONS } from './cases.mjs';
import { disconnect } from './db.mjs';
import { caseName, readExpected, writeExpected } from './expected.mjs';
import { columnRights, functions, relations, tableRights } from './objects.mjs';
import { isAllowed, isHarmless, NO_CASE } from './outcomes.mjs';
import { forgetPeople, liftAddressRate, makePeople, restoreAddressRate } from './people.mjs';
import { call, callForged, operate, operationsOf, readComputed } from './run.mjs';
import { fingerprint, makeWorld, removeWorld } from './world.mjs';

const WRITE = process.env.KIJKO_ACCESS_WRITE === '1';
const RIGHTS = new URL('rights.txt', import.meta.url);
const callers = Object.keys(CALLERS);
const expected = await readExpected();
const found = { relations: await relations(), functions: await functions() };
const tables = found.relations.filter(({ view }) => !view);
const observed = new Map();
/** The people of this run: those of now first. */
const crowds = [];
let ended = true;
let world;
let hash;
let stale = true;

before(async () => {
  await liftAddressRate();
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
  for (const people of crowds) await forgetPeople(people);
  await disconnect();
});

/** The names of all lines that there must be, in the order of the table. */
const lines = () => [
  ...found.relations.flatMap((relation) => operationsOf(relation).map((operation) => caseName(relation.name, operation))),
  ...found.functions.flatMap((fn) => operationsOfFunction(fn).map((operation) => caseName(fn.signature, operation))),
];

/** A world that no case has changed, with the hash of its rows. */
async function fresh() {
  if (stale) {
    if (ended) crowds.unshift(await makePeople());
    ended = false;
    world = await makeWorld(crowds[0], world);
    hash = undefined;
  }
  stale = false;
  return world;
}

async function assertSame(what) {
  const now = await fingerprint(tables, world);
  hash ??= now;
  assert.deepEqual(now, hash, what);
}

/** All cases of one object and operation: `run(world, caller)` gives a word. `changes`: whether a case that succeeds has changed rows. */
async function line(object, operation, run, changes = operation !== 'select' && operation !== 'read') {
  const wanted = expected.cases.get(caseName(object, operation))?.words ?? new Map();
  const words = new Map();
  const one = async (caller) => {
    const word = await run(world, caller);
    words.set(caller, word);
    if (changes && !isHarmless(word) && word !== NO_CASE) stale = true;
    if (stale) ended ||= ENDS_PEOPLE.includes(object);
  };
  // Those that change nothing first and at once, on one world, which then must be as it was.
  const together = callers.filter((caller) => !changes || (wanted.has(caller) && !isAllowed(wanted.get(caller))));
  await fresh();
  if (changes) await assertSame(`${object} ${operation}: the case before has changed rows`);
  // The API has ten connections.
  for (let at = 0; at < together.length; at += 6) await Promise.all(together.slice(at, at + 6).map(one));
  if (changes && !stale) await assertSame(`${object} ${operation}: a refused request has changed rows`);
  for (const caller of callers.filter((each) => !together.includes(each))) {
    await fresh();
    await one(caller);
  }
  observed.set(caseName(object, operation), { object, operation, words });
  return words;
}

/** Compares the lines of one object with the expected ones. */
function compare(results) {
  if (WRITE) return;
  const faults = results.flatMap(([object, operation, words]) => {
    const wanted = expected.cases.get(caseName(object, operation));
    if (!wanted) return [`${object} ${operation}: has no line in tests/access/matrix.txt`];
    return callers
      .filter((caller) => wanted.words.get(caller) !== words.get(caller))
      .map((caller) => `${object} ${operation} as ${caller}: expected ${wanted.words.get(caller)}, was ${words.get(caller)}`);
  });
  assert.deepEqual(faults, []);
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
// and a feed, which is there for everyone once the blog has an address.
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

for (const relation of found.relations) {
  test(relation.name, async () => {
    const results = [];
    for (const operation of operationsOf(relation)) {
      results.push([
        relation.name,
        operation,
        await line(relation.name, operation, (w, caller) => operate(w, caller, relation, operation)),
      ]);
    }
    compare(results);
  });
}

function operationsOfFunction(fn) {
  return fn.computed_of ? ['read', 'call'] : Object.keys(FUNCTIONS[fn.signature] ?? { call: null });
}

for (const fn of found.functions) {
  test(fn.signature, async () => {
    const results = [];
    if (fn.computed_of) {
      const relation = found.relations.find(({ name }) => name === fn.computed_of);
      const options = COMPUTED[fn.signature];
      assert.ok(options, `${fn.signature} has no case in tests/access/cases.mjs`);
      results.push([fn.signature, 'read', await line(fn.signature, 'read', (w, caller) => readComputed(w, caller, fn, relation, options))]);
      results.push([
        fn.signature,
        'call',
        await line(fn.signature, 'call', (w, caller) => callForged(w, caller, fn, relation, options), fn.volatile),
      ]);
    } else {
      assert.ok(FUNCTIONS[fn.signature], `${fn.signature} has no case in tests/access/cases.mjs`);
      for (const [operation, body] of Object.entries(FUNCTIONS[fn.signature])) {
        results.push([
          fn.signature,
          operation,
          await line(fn.signature, operation, (w, caller) => call(w, caller, fn, body(w, caller)), fn.volatile),
        ]);
      }
    }
    compare(results);
  });
}
