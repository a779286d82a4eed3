// Unleash's specification of its clients: every case in SQL. Those of regular expressions are off here, by design.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { transaction } from './domain.mjs';

const FOLDER = join(dirname(createRequire(import.meta.url).resolve('@unleash/client-specification/package.json')), 'specifications');
const read = (name) => JSON.parse(readFileSync(join(FOLDER, name), 'utf8'));
const SPECIFICATIONS = read('index.json').map((name) => ({ name, ...read(name) }));
assert.ok(SPECIFICATIONS.length >= 22);

/** What a client knows after these events. */
function stateOf({ state }) {
  if (!state.events) return state;
  const known = { version: 2, features: [], segments: [] };
  const replace = (list, key, value, item) => [...list.filter((other) => other[key] !== value), ...(item ? [item] : [])];
  for (const event of state.events) {
    if (event.type === 'hydration') Object.assign(known, { features: event.features, segments: event.segments });
    if (event.type === 'feature-updated') known.features = replace(known.features, 'name', event.feature.name, event.feature);
    if (event.type === 'feature-removed') known.features = replace(known.features, 'name', event.featureName);
    if (event.type === 'segment-updated') known.segments = replace(known.segments, 'id', event.segment.id, event.segment);
    if (event.type === 'segment-removed') known.segments = replace(known.segments, 'id', event.segmentId);
  }
  return known;
}

// The database evaluates no regular expressions: a flag that has one is off.
const usesPatterns = ({ features }, name) => JSON.stringify(features.find((flag) => flag.name === name) ?? {}).includes('"REGEX"');
const OFF = { name: 'disabled', enabled: false, feature_enabled: false };
const asExpected = ({ name, payload, enabled, feature_enabled: on }) => ({
  name,
  enabled,
  feature_enabled: on,
  ...(payload && { payload }),
});

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
