// Commit subjects: what passes, what does not, and which commits are looked at, also in a shallow clone.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { commitsAfter, fault, faultOfMessage, faultsOf } from './subjects.mjs';

const folder = mkdtempSync(join(tmpdir(), 'kijko-subjects-'));
after(() => rmSync(folder, { recursive: true }));

const IDENTITY = ['-c', 'user.name=Test', '-c', 'user.email=test@example.test', '-c', 'commit.gpgsign=false', '-c', 'core.hooksPath='];
const git = (root, ...args) =>
  execFileSync('git', [...IDENTITY, '-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();

for (const subject of [
  'limits: refuse arrays of unequal length',
  'lint: find circles',
  'ext, sidecar: say quota',
  'kijko_ext/pg: bring back the hook',
  'docs: pass the focus',
  `docs: ${'x'.repeat(66)}`,
]) {
  test(`passes: ${subject}`, () => assert.equal(fault(subject), null));
}

for (const subject of [
  'What a fresh reading found',
  'refuse arrays',
  'Limits: refuse arrays',
  'limits : refuse arrays',
  'limits:refuse arrays',
  'limits: ',
  'limits: Refuse arrays',
  'limits: refuse arrays.',
  'limits: refused arrays',
  'limits: refusing arrays',
  'limits: refuses arrays',
  'limits: a refusal of arrays',
  'limits: what a reading found',
  `docs: ${'x'.repeat(67)}`,
]) {
  test(`is refused: ${subject}`, () => assert.notEqual(fault(subject), null));
}

describe('a message that is being written', () => {
  test('is judged by its first line that is no comment', () => {
    assert.equal(faultOfMessage('# a comment\n\nlint: add a check\n\nAnd Why. It is.\n'), null);
    assert.notEqual(faultOfMessage('Add a check\n\nlint: add a check\n'), null);
    assert.notEqual(faultOfMessage('# only a comment\n'), null);
  });

  test('passes when a merge or a later rebase writes the subject', () => {
    for (const subject of ['Merge branch main', 'fixup! lint: add a check']) assert.equal(faultOfMessage(subject), null);
  });
});

describe('a published subject', () => {
  const commits = [
    ['a'.repeat(40), 'lint: adds a check'],
    ['b'.repeat(40), 'lint: add a check'],
    ['c'.repeat(40), 'lint: added a check'],
  ];

  test('passes by its exception, and only that one', () => {
    assert.equal(faultsOf(commits, {}).length, 2);
    assert.match(faultsOf(commits, { ['a'.repeat(40)]: 'reason' }).join(), /^c{8} lint: added a check: the subject goes on/);
  });

  test('has no exception that it does not need', () => {
    assert.match(faultsOf([commits[1]], { ['b'.repeat(40)]: 'reason' }).join(), /^b{8} .*needs no exception$/);
  });
});

describe('the commits', () => {
  const whole = join(folder, 'whole');
  execFileSync('git', ['init', '-q', whole]);
  for (const subject of ['one', 'two', 'three', 'four']) git(whole, 'commit', '-q', '--allow-empty', '-m', subject);
  const base = git(whole, 'rev-parse', 'HEAD~2');
  const subjects = (root) => commitsAfter(root, base).map(([, subject]) => subject);

  test('after the base are looked at', () => assert.deepEqual(subjects(whole), ['four', 'three']));

  test('of a shallow clone that ends before it are those that are there', () => {
    const shallow = join(folder, 'shallow');
    execFileSync('git', ['clone', '-q', '--depth', '1', `file://${whole}`, shallow]);
    assert.deepEqual(subjects(shallow), ['four']);
  });

  test('are not listed when the base is unknown: that is an error', () => {
    assert.throws(() => commitsAfter(whole, '0'.repeat(40)), /not in the history/);
  });
});
