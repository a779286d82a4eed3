// Two calls of a function that returns `&'static mut` give two exclusive references to one value, which is undefined behaviour.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutTexts } from './rust.mjs';
import { filesOf, ROOT, read } from './tree.mjs';

const returning = (files) => files.filter(([, text]) => /->[^{;]*&'static mut\b/.test(withoutTexts(text))).map(([path]) => path);

test('no function returns an exclusive reference that lives for ever', () => {
  const sources = filesOf(ROOT).filter((path) => path.endsWith('.rs'));
  assert.deepEqual(returning(sources.map((path) => [path, read(ROOT, path)])), []);
});

test('one that does is found', () => {
  const files = [
    ['a.rs', "fn get() -> &'static mut Shared {"],
    ['b.rs', "fn get(\n    call: Call,\n) -> (State, &'static mut Shared) {"],
    ['c.rs', "// fn get() -> &'static mut Shared\nfn get() -> &'static Shared {"],
  ];
  assert.deepEqual(returning(files), ['a.rs', 'b.rs']);
});
