// An untagged enum takes the first variant that fits, so an answer that cannot be read may pass for another one. What the database
// answers is told apart by what it has (sidecar/src/answers.rs); formats of others have a reason here.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filesOf, ROOT, read } from './tree.mjs';

const REASONS = {
  'sidecar/src/domains/billing/params.rs': 'Stripe: an object, or its id as a text',
  'sidecar/src/domains/code/documents.rs': 'KotaDB: a text, or a list of numbers',
  'sidecar/src/domains/stripe/store.rs': 'Stripe: a number, or a text',
  'sidecar/src/rendering.rs': 'prompts: a text, or a list',
  'sidecar/src/sandbox/chat.rs': 'prompts of chats: a role with content, or a name',
};

const untagged = (files) => files.filter(([, text]) => /#\[serde\([^\]]*\buntagged\b/.test(text)).map(([path]) => path);

test('no enum is untagged without a reason', () => {
  const sources = filesOf(ROOT).filter((path) => path.endsWith('.rs'));
  assert.deepEqual(untagged(sources.map((path) => [path, read(ROOT, path)])).sort(), Object.keys(REASONS));
});

test('an untagged enum is found', () => {
  assert.deepEqual(
    untagged([
      ['a.rs', '#[serde(rename_all = "lowercase", untagged)]'],
      ['b.rs', '/// untagged'],
    ]),
    ['a.rs'],
  );
});
