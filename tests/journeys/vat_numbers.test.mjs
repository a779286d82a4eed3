// The check of VAT numbers beside python-stdnum: the same verdict about a sample of each country, half of which is valid.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sql } from './support.mjs';

const PYTHON = fileURLToPath(new URL('../../target/tools/python-tests/bin/python', import.meta.url));
const SAMPLE = fileURLToPath(new URL('vat_numbers.py', import.meta.url));
const OF_EACH = 120;

// No difference is known for numbers of these shapes. Others that stdnum takes are refused here, because VIES does not take them:
// an old Irish number of nine characters, and numbers of government departments of Northern Ireland with GD8888 or HA8888.
test('every country has the verdicts of python-stdnum', async () => {
  assert.ok(existsSync(PYTHON), 'target/tools/python-tests is missing: ./kijko test journeys installs it');
  const seed = String(Math.floor(Math.random() * 1e9));
  const { status, stdout, stderr } = spawnSync(PYTHON, [SAMPLE, String(OF_EACH), seed], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const sample = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  assert.equal(sample.length, 28 * OF_EACH);
  const rows = await sql('select n.number, private.vat_number_fault(n.number) as fault from unnest($1::text[]) as n (number)', [
    sample.map(([number]) => number),
  ]);
  const faults = new Map(rows.map(({ number, fault }) => [number, fault]));
  const differ = sample.filter(([number, verdict]) => (faults.get(number) === null) !== (verdict === 'valid'));
  assert.deepEqual(differ, [], `seed ${seed}`);
});
