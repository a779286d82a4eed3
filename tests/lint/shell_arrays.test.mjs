// Bash takes an array that nothing sets as an empty one, also under `set -u`: a renamed one would be missed by nobody.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

/** Names of arrays that a script uses and none sets. */
function unset(text) {
  const used = new Set([...text.matchAll(/\$\{([A-Z][A-Z_]*)\[[@*]\]/g)].map(([, name]) => name));
  const isSet = (name) => new RegExp(`(^|[^\\w{$])${name}(\\[[^\\]]*\\])?\\+?=|mapfile [^\\n]*\\b${name}\\b`, 'm').test(text);
  return [...used].filter((name) => !isSet(name));
}

test('every array of the scripts is set somewhere', () => {
  const scripts = readdirSync('scripts').filter((file) => file.endsWith('.sh'));
  const text = ['kijko', ...scripts.map((file) => `scripts/${file}`)].map((file) => readFileSync(file, 'utf8')).join('\n');
  assert.deepEqual(unset(text), []);
});

test('one that is not is found', () => {
  assert.deepEqual(unset(`SET=(a)\nrun "\${SET[@]}" "\${FORMER[@]}"\n`), ['FORMER']);
});
