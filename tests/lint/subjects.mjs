// Whether the subjects of commits read `area: imperative`, in at most 72 characters.
//   node tests/lint/subjects.mjs                    the commits after BASE that this clone has
//   node tests/lint/subjects.mjs --message FILE     one message, as git's hook commit-msg gives it
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { exists, isMain, ROOT, report } from './tree.mjs';

// Subjects up to this commit are as they are.
const BASE = 'c9cbbc4c1ac275917981f97031a309b22c25ad74';
const MAX_LENGTH = 72;

// Later commits whose subjects were published with a fault: changing one would change the history that clones have.
const PUBLISHED = { '57fe5328b547c35e9fddb7ee58d5683abf9e15bf': 'names what it adds, without an imperative' };

// Words that often begin a subject and are no verbs.
const NOT_VERBS = [
  'a',
  'an',
  'the',
  'what',
  'who',
  'when',
  'where',
  'which',
  'how',
  'why',
  'no',
  'not',
  'all',
  'each',
  'every',
  'some',
  'this',
  'that',
  'these',
];
// Imperatives that end as a past tense, a participle or a third person does. Of these some are nouns more often: they pass, too.
const LOOK_INFLECTED = [
  'embed',
  'exceed',
  'feed',
  'need',
  'proceed',
  'seed',
  'shed',
  'speed',
  'bring',
  'ping',
  'ring',
  'string',
  'bias',
  'bus',
  'canvas',
  'focus',
];

/** Why the subject is refused, or null. */
export function fault(subject) {
  if (subject.length > MAX_LENGTH) return `has ${subject.length} characters, more than ${MAX_LENGTH}`;
  const [, first] = subject.match(/^[a-z][\w./-]*(?:, [a-z][\w./-]*)*: (\S+)(?: .*)?$/) ?? [];
  if (!first) return 'is not of the form "area: imperative", with an area in lower case';
  if (/\.$/.test(subject)) return 'ends with a full stop';
  if (!/^[a-z]/.test(first)) return `goes on with "${first}", which does not begin in lower case`;
  const word = first.replace(/[^a-z-].*$/, '');
  if (NOT_VERBS.includes(word)) return `goes on with "${first}", not with a verb`;
  if (!LOOK_INFLECTED.includes(word) && /(?:ed|ing|[^su]s)$/.test(word))
    return `goes on with "${first}", not with an imperative such as "add"`;
  return null;
}

/** Why the subject of a commit message is refused, or null. Comments are skipped; merge, fixup and squash subjects pass. */
export function faultOfMessage(message) {
  const subject = message.split('\n').find((line) => line.trim() && !line.startsWith('#')) ?? '';
  return /^(?:fixup|squash|amend)! |^Merge /.test(subject) ? null : fault(subject);
}

const git = (root, ...args) => execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();

/** `[commit, subject]` of each commit after `base`, without merges. A shallow clone without `base` gives all it has. */
export function commitsAfter(root, base) {
  const range = isAncestor(root, base) ? [`${base}..HEAD`] : ['HEAD'];
  if (range[0] === 'HEAD' && git(root, 'rev-parse', '--is-shallow-repository') !== 'true')
    throw new Error(`${base} is not in the history of this clone: name another commit as BASE`);
  return git(root, 'log', '--no-merges', '--format=%H %s', ...range)
    .split('\n')
    .filter(Boolean)
    .map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]);
}

/** One line for each commit whose subject is refused, and for each exception whose subject is not. */
export function faultsOf(commits, exceptions) {
  return commits
    .map(([commit, subject]) => [commit, subject, fault(subject)])
    .filter(([commit, , why]) => Boolean(why) !== Object.hasOwn(exceptions, commit))
    .map(([commit, subject, why]) => `${commit.slice(0, 8)} ${subject}: ${why ? `the subject ${why}` : 'needs no exception'}`);
}

function isAncestor(root, commit) {
  try {
    git(root, 'merge-base', '--is-ancestor', commit, 'HEAD');
    return true;
  } catch {
    return false;
  }
}

if (isMain(import.meta)) {
  const [option, file] = process.argv.slice(2);
  if (option === '--message') {
    const why = faultOfMessage(readFileSync(file, 'utf8'));
    report('commit', why ? [`the subject ${why}`] : []);
    // A source archive has no history, and so no subjects.
  } else if (exists(ROOT, '.git')) {
    report('commits', faultsOf(commitsAfter(ROOT, BASE), PUBLISHED));
  }
}
