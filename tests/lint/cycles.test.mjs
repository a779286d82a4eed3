// Cycles between Rust modules are found however the modules name each other, and only where there is one.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { checkCycles, cycles } from './cycles.mjs';
import { useLeaves, withoutTests, withoutTexts } from './rust.mjs';

const trees = [];
after(() => {
  for (const root of trees) rmSync(root, { recursive: true });
});

/** The findings about a crate with these files; lib.rs declares a and b, and neither names the other. */
function found(files, allowed) {
  const root = mkdtempSync(join(tmpdir(), 'kijko-cycles-'));
  trees.push(root);
  const all = { 'lib.rs': 'mod a;\nmod b;\n', 'a.rs': 'pub struct A;\npub const ONE: u8 = 1;', 'b.rs': 'pub struct B;', ...files };
  for (const [path, content] of Object.entries(all)) {
    const place = join(root, 'sidecar/src', path);
    mkdirSync(dirname(place), { recursive: true });
    writeFileSync(place, content);
  }
  return checkCycles(root, allowed);
}

const A_NAMES_B = { 'a.rs': 'use crate::b::B;\npub struct A(B);\npub const ONE: u8 = 1;' };
const BETWEEN_A_AND_B = ['sidecar/src: crate::a -> crate::b -> crate::a'];

test('modules that name each other one way have no cycle', () => assert.deepEqual(found(A_NAMES_B), []));

describe('a cycle is found when the dependency back is', () => {
  for (const [how, source] of [
    ['a use', 'use crate::a::A;'],
    ['a use among others', 'use std::{fmt, io};\nuse crate::{a::{A, ONE as O}};'],
    ['a use by super', 'use super::a::A;'],
    ['a glob', 'use crate::a::*;'],
    ['a use inside of a function', 'fn f() { use crate::a::A; }'],
    ['a path in code', 'fn f() -> u8 { crate::a::ONE }'],
    ['a path over lines', 'fn f() -> u8 { crate::a\n    ::ONE }'],
    ['a path in a type', 'struct S { list: Vec<crate::a::A> }'],
    ['a path of a module that a use names', 'use crate::a;\nfn f() -> u8 { a::ONE }'],
    ['a path of a module with another name', 'use crate::a as other;\nfn f() -> u8 { other::ONE }'],
    ['a use of the module itself', 'use crate::a::{self, A};'],
    ['a path beside a lifetime and a char', "fn f<'x>(c: &'x str) -> u8 { let _ = ('\"', c); crate::a::ONE }"],
    ['a re-export that it uses itself', 'pub use crate::a::A;\nfn f(_: A) {}'],
  ]) {
    test(how, () => assert.deepEqual(found({ ...A_NAMES_B, 'b.rs': `${source}\npub struct B;` }), BETWEEN_A_AND_B));
  }

  test('a dependency through a re-export of the parent', () => {
    const lib = 'mod a;\nmod b;\npub use a::A;';
    assert.deepEqual(found({ ...A_NAMES_B, 'lib.rs': lib, 'b.rs': 'use crate::A;\npub struct B;' }), BETWEEN_A_AND_B);
  });

  test('a dependency of a child on its parent', () => {
    const files = { 'a.rs': 'mod c;\nuse c::C;\npub struct A;', 'a/c.rs': 'use super::A;\npub struct C(A);' };
    assert.deepEqual(found(files), ['sidecar/src: crate::a -> crate::a::c -> crate::a']);
  });

  test('a dependency through a third module, which is printed', () => {
    const files = {
      'lib.rs': 'mod a;\nmod b;\nmod c;',
      'a.rs': 'use crate::b::B;',
      'b.rs': 'use crate::c::C;\npub struct B;',
      'c.rs': 'use crate::a::A;',
    };
    assert.match(found(files).join(), /crate::a -> crate::b -> crate::c -> crate::a/);
  });
});

describe('there is no cycle when the dependency back is', () => {
  for (const [what, source] of [
    ['a comment', '// use crate::a::A;\n/* crate::a::ONE /* nested */ crate::a::ONE */'],
    ['a string', 'const S: &str = "crate::a::ONE"; const R: &str = r#"a " crate::a::ONE"#;'],
    ['a test', '#[cfg(test)]\nmod tests {\n    use crate::a::A;\n    fn f() { if true { crate::a::ONE; } }\n}'],
    ['a re-export that it does not use', 'pub use crate::a::A;'],
    ['another crate of the same name', 'use other::a::A;\nfn f() -> u8 { other::a::ONE }'],
  ]) {
    test(what, () => assert.deepEqual(found({ ...A_NAMES_B, 'b.rs': `${source}\npub struct B;` }), []));
  }

  test('a file that only tests compile', () => {
    const files = { ...A_NAMES_B, 'b.rs': 'pub struct B;\n#[cfg(test)]\nmod tests;', 'b/tests.rs': 'use crate::a::A;\nuse super::B;' };
    assert.deepEqual(found(files), []);
  });

  test('a child that names what another child holds, past their parent', () => {
    const files = { 'a.rs': 'mod c;\nmod d;\npub use d::D;', 'a/c.rs': 'use super::d::D;', 'a/d.rs': 'pub struct D;' };
    assert.deepEqual(found(files), []);
  });
});

test('a cycle on the list passes, a larger one does not, and a line of the list without its cycle is named', () => {
  const cycle = { ...A_NAMES_B, 'b.rs': 'use crate::a::A;\npub struct B;' };
  assert.deepEqual(found(cycle, { 'sidecar/src': [['crate::a', 'crate::b']] }), []);
  assert.equal(found(cycle, { 'sidecar/src': [['crate::a', 'crate::c']] }).length, 2);
  assert.match(found(A_NAMES_B, { 'sidecar/src': [['crate::a', 'crate::b']] }).join(), /no cycle any more/);
});

test('cycles that share a module are one group, others are apart', () => {
  const edges = new Map(Object.entries({ a: ['b'], b: ['a', 'c'], c: ['b'], d: ['e'], e: ['d', 'a'], f: ['a'] }));
  assert.deepEqual(cycles(edges), [
    ['a', 'b', 'c'],
    ['d', 'e'],
  ]);
});

test('a use tree gives each of its leaves', () => {
  assert.deepEqual(useLeaves('crate::a::{self, b as c, d::{e, f::*}}'), [
    { path: ['crate', 'a'], name: 'a' },
    { path: ['crate', 'a', 'b'], name: 'c' },
    { path: ['crate', 'a', 'd', 'e'], name: 'e' },
    { path: ['crate', 'a', 'd', 'f', '*'], name: '*' },
  ]);
});

test('texts and tests are taken out, and nothing else', () => {
  assert.equal(withoutTexts(`let s = "a\\"b"; // c\nlet t = 'x';`), `let s = ${' '.repeat(6)};${' '.repeat(5)}\nlet t = ${' '.repeat(3)};`);
  assert.equal(withoutTests('fn a() {}\n#[cfg(test)]\nmod tests { fn b() { {} } }\nfn c() {}'), 'fn a() {}\n\nfn c() {}');
});
