// Unleash's specification of its clients: every case in SQL. Those of regular expressions are off here, by design.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { transaction } from './domain.mjs';
import { asExpected, OFF, SPECIFICATIONS, stateOf } from './flags_cases.mjs';

assert.ok(SPECIFICATIONS.length >= 22);

// The database evaluates no regular expressions: a flag that has one is off.
const usesPatterns = ({ features }, name) => JSON.stringify(features.find((flag) => flag.name === name) ?? {}).includes('"REGEX"');

test('flags in SQL answer as the specification says', async () => {
  let cases = 0;
  for (const specification of SPECIFICATIONS) {
    const state = stateOf(specification);
    // What is put here is rolled back: other tests have the platform's flags, too.
    const rollback = new Error('rolled back');
    await transaction(async (query) => {
      await query('select kijko.put_flag_snapshot($1, $2)', ['specification', state]);
      for (const { description, toggleName, context, expectedResult } of specification.tests ?? []) {
        const [{ answer }] = await query(`select kijko.flag_enabled($1, $2, 'specification') as answer`, [toggleName, context]);
        assert.equal(answer, expectedResult && !usesPatterns(state, toggleName), `${specification.name}: ${description}`);
        cases += 1;
      }
      for (const { description, toggleName, context, expectedResult } of specification.variantTests ?? []) {
        const [{ answer }] = await query(`select kijko.flag_variant($1, $2, 'specification') as answer`, [toggleName, context]);
        assert.deepEqual(answer ?? OFF, asExpected(expectedResult), `${specification.name}: ${description}`);
        cases += 1;
      }
      throw rollback;
    }).catch((error) => {
      if (error !== rollback) throw error;
    });
  }
  assert.ok(cases > 250, `${cases} cases`);
});
