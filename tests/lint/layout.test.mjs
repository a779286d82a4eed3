// The layout lint finds each kind of fault in a tree that has it, and nothing in one that has none.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { checkLayout, readDomains } from './layout.mjs';

const trees = [];
after(() => {
  for (const root of trees) rmSync(root, { recursive: true });
});

/** A tree with two domains in all their places, after `changes`: path to content, or to null for a missing file. */
function tree(changes = {}) {
  const files = {
    'supabase/migrations/20261121010000_foundation.sql': '',
    'supabase/migrations/20261121020000_notes.sql': '',
    'supabase/migrations/20261121020100_notes_tags.sql': '',
    'supabase/migrations/20261121030000_api_keys.sql': '',
    'supabase/tests/database/000_helpers.sql': '',
    'docs/guides/start.md': '',
    'sidecar/src/app.rs': 'pub const DOMAINS: [FromEnv; 1] = [domains::notes::from_env];\nfn x() { domains::other::y() }\n',
    'sidecar/src/domains/mod.rs': 'pub mod notes;\n',
    'sidecar/src/domains/notes/routes.rs': '',
    ...Object.fromEntries(
      ['notes', 'api_keys'].flatMap((domain) => [
        [`supabase/tests/database/${domain}.test.sql`, ''],
        [`tests/journeys/${domain}.test.mjs`, ''],
        [`docs/guides/${domain}.md`, ''],
      ]),
    ),
    ...changes,
  };
  const root = mkdtempSync(join(tmpdir(), 'kijko-layout-'));
  trees.push(root);
  for (const [path, content] of Object.entries(files)) {
    if (content === null) continue;
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

const lines = (n) => 'x\n'.repeat(n);
const found = (changes, exceptions = {}) =>
  checkLayout(tree(changes), { largeFiles: [], noDomain: {}, sharedFunctions: {}, ...exceptions });

/** Each finding begins with what is wrong; `starts` are those beginnings, in any order. */
function assertFound(findings, starts) {
  assert.equal(findings.length, starts.length, findings.join('\n'));
  for (const start of starts)
    assert.ok(
      findings.some((finding) => finding.startsWith(start)),
      `${start}: ${findings.join('\n')}`,
    );
}

test('a complete tree has no findings', () => assert.deepEqual(found(), []));

describe('a domain without one of its places', () => {
  for (const path of ['supabase/tests/database/notes.test.sql', 'tests/journeys/notes.test.mjs', 'docs/guides/api_keys.md']) {
    test(path, () => assertFound(found({ [path]: null }), [`${path} is missing`]));
  }

  test('each domain that the migrations name needs all of them', () => {
    assertFound(found({ 'supabase/migrations/20261121040000_flags.sql': '' }), [
      'supabase/tests/database/flags.test.sql is missing',
      'tests/journeys/flags.test.mjs is missing',
      'docs/guides/flags.md is missing',
    ]);
  });
});

describe('a file that belongs to no domain', () => {
  for (const path of ['supabase/tests/database/edge.test.sql', 'tests/journeys/edge.test.mjs', 'tests/database-race/notestags.test.mjs']) {
    test(path, () => assertFound(found({ [path]: '' }), [`${path} begins with no domain's name`]));
  }

  test('a subject of a domain, and what supports the tests, are no such files', () => {
    assert.deepEqual(found({ 'tests/journeys/api_keys_rotation.test.mjs': '', 'tests/journeys/support.mjs': '' }), []);
  });

  test('a subject on the list passes, and one that is not used any more is named', () => {
    const noDomain = { 'tests/journeys': { clients: 'of every domain' } };
    assert.deepEqual(found({ 'tests/journeys/clients_node.test.mjs': '' }, { noDomain }), []);
    assertFound(found({}, { noDomain }), ['tests/journeys/clients* needs no exception']);
  });
});

describe("a function of schema private without its domain's name", () => {
  const path = 'supabase/migrations/20261121020100_notes_tags.sql';
  const create = (name) => `create function private.${name}() returns void\n`;

  test('is named', () => {
    assert.deepEqual(found({ [path]: create('notes_merge') }), []);
    for (const name of ['merge', 'notesmerge', 'api_keys_merge'])
      assertFound(found({ [path]: create(name) }), [`${path} creates private.${name}`]);
    assertFound(found({ [path]: 'create or replace procedure private.merge()\n' }), [`${path} creates private.merge`]);
  });

  test('is none in the foundation, nor in another schema', () => {
    assert.deepEqual(found({ 'supabase/migrations/20261121010000_foundation.sql': create('merge') }), []);
    assert.deepEqual(found({ [path]: 'create function public.merge() returns void\n' }), []);
  });

  test('on the list passes, and one that is not used any more is named', () => {
    const sharedFunctions = { merge: 'every domain calls it' };
    assert.deepEqual(found({ [path]: create('merge') }, { sharedFunctions }), []);
    assertFound(found({}, { sharedFunctions }), ['private.merge needs no exception']);
  });
});

describe('a file over 400 lines', () => {
  test('is named, whatever it is written in', () => {
    assert.deepEqual(found({ 'docs/guides/notes.md': lines(400) }), []);
    for (const path of [
      'docs/guides/notes.md',
      'sidecar/src/domains/notes/store.rs',
      'scripts/one.sh',
      'sql/one.sql',
      'tests/bench/one.mjs',
    ])
      assertFound(found({ [path]: lines(401) }), [`${path} has 401 lines`]);
  });

  test('is none when a program wrote it, or it is installed or built', () => {
    const path = [
      'docs/reference/sql.md',
      'supabase/database.types.ts',
      'kijko_ext/sql/kijko--1.sql',
      'node_modules/a/b.mjs',
      'target/a.rs',
    ];
    assert.deepEqual(found(Object.fromEntries(path.map((name) => [name, lines(401)]))), []);
  });

  test('may be as long as its exception says, not longer, and has none when it is short again', () => {
    const largeFiles = [{ path: 'scripts/one.sh', lines: 500, reason: 'to be split' }];
    assert.deepEqual(found({ 'scripts/one.sh': lines(500) }, { largeFiles }), []);
    assertFound(found({ 'scripts/one.sh': lines(501) }, { largeFiles }), ['scripts/one.sh has 501 lines, more than 500']);
    assertFound(found({ 'scripts/one.sh': lines(400) }, { largeFiles }), ['scripts/one.sh needs no exception']);
    assertFound(found({}, { largeFiles }), ['scripts/one.sh needs no exception']);
  });
});

describe('migrations', () => {
  for (const [fault, names, domains] of [
    ['a short time stamp', ['2026112101_notes.sql'], []],
    ['no such month', ['20261321010000_notes.sql'], []],
    ['no such day', ['20260230010000_notes.sql'], []],
    ['no such hour', ['20261121250000_notes.sql'], []],
    ['no name', ['20261121010000.sql'], []],
    ['a name that is no word', ['20261121010000_Notes-2.sql'], []],
    ['two files at one time', ['20261121010000_notes.sql', '20261121010000_notes_tags.sql'], ['notes']],
    ["another domain's file in the block", ['20261121010000_notes.sql', '20261121010100_tags.sql'], ['notes']],
    ['a name that only begins alike', ['20261121010000_note.sql', '20261121010100_notes.sql'], ['note']],
    ['a second block of one domain', ['20261121010000_notes.sql', '20261121020000_notes.sql'], ['notes', 'notes']],
  ]) {
    test(fault, () => {
      const read = readDomains(names);
      assert.equal(read.findings.length, 1, read.findings.join('\n'));
      assert.deepEqual(read.domains, domains);
    });
  }
});

test('an area of tests that the workflow does not run', () => {
  const files = (areas) => ({ 'scripts/tests.sh': 'TEST_AREAS=(lint db)\n', '.github/workflows/ci.yml': `        area: [${areas}]\n` });
  assert.deepEqual(found(files('lint, db')), []);
  assertFound(found(files('lint')), ['.github/workflows/ci.yml runs the areas "lint"']);
});

test('a list of a script that is set twice', () => {
  assert.deepEqual(found({ 'scripts/one.sh': 'ONE=(a)\nONE+=(b)\nTWO=(\n  c\n)\nf() {\n  ONE=(d)\n}\n' }), []);
  assertFound(found({ 'scripts/one.sh': 'ONE=(a)\n# more\nONE=(b)\n' }), ['scripts/one.sh sets ONE twice']);
});

describe("the sidecar's folders", () => {
  test('a folder that app.rs does not list', () =>
    assertFound(found({ 'sidecar/src/domains/api_keys/routes.rs': '' }), ['sidecar/src/domains/api_keys is not in the list']));

  test('a domain that app.rs lists and that has no folder', () =>
    assertFound(found({ 'sidecar/src/domains/notes/routes.rs': null }), ['sidecar/src/domains/notes is missing']));

  test('a list that is not there', () => assertFound(found({ 'sidecar/src/app.rs': '' }), ['sidecar/src/app.rs has no list DOMAINS']));

  test('a folder that is named after no domain', () =>
    assertFound(
      found({
        'sidecar/src/app.rs': 'pub const DOMAINS: [FromEnv; 2] = [\n    domains::notes::from_env,\n    domains::mail::from_env,\n];',
        'sidecar/src/domains/mail/routes.rs': '',
      }),
      ['sidecar/src/domains/mail is no domain'],
    ));
});
