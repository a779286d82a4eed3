// The length of a text on X, against the conformance table of twitter-text (tests/fixtures/twitter_text.json, Apache License 2.0).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { sql } from './support.mjs';

const CASES = JSON.parse(readFileSync(new URL('../fixtures/twitter_text.json', import.meta.url), 'utf8'));
// We do not encode host names: a label of 64 letters in punycode and less in its script is a link for us.
const DIFFERENT = new Set(['Do not allow > 140 CJK characters by virtue of CJK chars greater than 63 punycode encoded chars in the host']);

test('weighted lengths are those of twitter-text', async () => {
  const rows = await sql(
    'select private.social_weighted_length(c.text) as length from unnest($1::text[]) with ordinality as c (text, n) order by c.n',
    [CASES.map(({ text }) => text)],
  );
  const wrong = CASES.filter(({ weightedLength }, n) => rows[n].length !== weightedLength).map(({ description }) => description);
  assert.equal(CASES.length, 22);
  assert.deepEqual(wrong, [...DIFFERENT]);
});

test('a text of ten thousand links is too long, and says so soon', async () => {
  const begun = Date.now();
  const [{ length }] = await sql('select private.social_weighted_length($1) as length', ['a.com '.repeat(10_000)]);
  assert.ok(length > 280, length);
  // All of them would take half a minute.
  assert.ok(Date.now() - begun < 10_000, `${Date.now() - begun} ms`);
});
