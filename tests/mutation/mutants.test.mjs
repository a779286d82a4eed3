// What is changed, and what is left alone.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { equivalence } from './equivalent.mjs';
import { conjuncts, expressionMutants, mutantsOf, partsOf, sample } from './mutants.mjs';

const kinds = (body) => mutantsOf(body).map(({ kind, from, to }) => `${kind}: ${from} → ${to}`);

describe('a body', () => {
  test('changes comparisons, logic, signs, bounds and tests of null, and each alone', () => {
    assert.deepEqual(kinds('if a >= b and c < d then'), ['comparison: >= → >', 'comparison: < → <=', 'logic: and → or']);
    assert.deepEqual(kinds('x := a + b - 1;'), ['sign: + → -', 'sign: - → +']);
    assert.deepEqual(kinds('y := least(a, -1);'), ['bound: least → greatest']);
    assert.deepEqual(kinds('if x is not null or y is null then'), [
      'null: is not null → is null',
      'null: is null → is not null',
      'logic: or → and',
    ]);
    assert.equal(mutantsOf('if a >= b then')[0].text, 'if a > b then');
  });

  test('leaves out guards and refusals, and weakens permissions', () => {
    assert.deepEqual(kinds("perform private.tenancy_require_caller('a', (b));\nperform kijko.fail('x');\nperform other();"), [
      "guard: perform private.tenancy_require_caller('a', (b)) → null",
      "refusal: perform kijko.fail('x') → null",
    ]);
    assert.deepEqual(kinds("private.org_ids_with('skills:write')"), ["permission: 'skills:write' → 'skills:read'"]);
    assert.deepEqual(kinds("private.org_ids_with('skills:read')"), []);
  });

  test('leaves comments, strings, names, other operators and BETWEEN alone', () => {
    for (const text of [
      '-- a >= b and c\n',
      '/* a < b */',
      "select 'a < b and ''c'' or d'",
      "select E'it\\'s a < b'",
      'select "a < b"',
      'select $x$ a < b and c $x$',
      "x => y, a -> 'b', a ->> 'c', a <> b, a @> b, a || b, a << 1",
      'a between b',
    ]) {
      assert.deepEqual(kinds(text), [], text);
    }
    assert.deepEqual(kinds('a between 1 and 2 and b'), ['logic: and → or']);
    assert.equal(
      partsOf("a 'b' -- c\nd")
        .map(({ kind }) => kind)
        .join(),
      'code,string,code,comment,code',
    );
  });
});

describe('a policy', () => {
  const policy =
    "((org_id = ANY (ARRAY( SELECT private.org_ids_with('a:write'::text) AS x))) AND ((b IS NULL) OR (c AND d)) AND (e = 'x and y'::text))";

  test('has the terms that AND joins at its top', () => {
    assert.deepEqual(conjuncts(policy), [
      "(org_id = ANY (ARRAY( SELECT private.org_ids_with('a:write'::text) AS x)))",
      '((b IS NULL) OR (c AND d))',
      "(e = 'x and y'::text)",
    ]);
    assert.deepEqual(conjuncts('(a)'), ['a']);
    assert.deepEqual(conjuncts('(a) AND (b)'), ['(a)', '(b)']);
  });

  test('loses all of them, each of them, or is weakened', () => {
    const changed = expressionMutants(policy);
    assert.equal(changed[0].text, 'true');
    assert.equal(changed.filter(({ kind }) => kind === 'term').length, 3);
    assert.ok(changed.some(({ kind }) => kind === 'permission'));
    assert.deepEqual(
      expressionMutants('a').map(({ kind }) => kind),
      ['everything'],
    );
    assert.deepEqual(expressionMutants('(true)'), []);
  });
});

test('a seed chooses the same ones each time, and another seed others', () => {
  const list = Array.from({ length: 100 }, (_, n) => n);
  assert.deepEqual(sample(list, 10, 7), sample(list, 10, 7));
  assert.notDeepEqual(sample(list, 10, 7), sample(list, 10, 8));
  assert.equal(new Set(sample(list, 100, 7)).size, 100);
});

test('an edge of a comparison with the real clock is no change, unless its line has another one', () => {
  const edge = (source) =>
    mutantsOf(source)
      .filter(({ kind }) => kind === 'comparison')
      .map((mutant) => equivalence(mutant) !== undefined);
  assert.deepEqual(edge('where c.ends_at <= clock_timestamp()'), [true]);
  assert.deepEqual(edge('where c.made_at < (clock_timestamp() - pause)'), [true]);
  assert.deepEqual(edge('if until <= extract(epoch from clock_timestamp()) then'), [true]);
  assert.deepEqual(edge('where c.ends_at <= kijko.now()'), [false]);
  assert.deepEqual(edge('where c.made_at < clock_timestamp() and n < 5'), [false, false]);
});
