// The expected table: reads and writes matrix.txt. Each line is an object, an operation, and one word for each caller; columns
// have a fixed width, so that a change shows as the lines that changed.
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { NO_CASE, WORDS } from './outcomes.mjs';

const FILE = fileURLToPath(new URL('matrix.txt', import.meta.url));
const WIDTHS = { object: 44, operation: 16, word: 10 };

export const caseName = (object, operation) => `${object} ${operation}`;

/** Parses the text of the table: its callers, and a map from the name of each case to a map from caller to word. */
export function parse(text) {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const [[, , ...callers], ...rows] = lines.map((line) => line.trim().split(/\s+/));
  const cases = new Map();
  for (const [object, operation, ...words] of rows) {
    const name = caseName(object, operation);
    if (cases.has(name)) throw new Error(`matrix.txt has two lines for ${name}`);
    if (words.length !== callers.length) throw new Error(`matrix.txt: ${name} has ${words.length} words for ${callers.length} callers`);
    const unknown = words.filter((word) => !WORDS.includes(word));
    if (unknown.length > 0) throw new Error(`matrix.txt: ${name} has unknown words: ${unknown.join(', ')}`);
    cases.set(name, { object, operation, words: new Map(callers.map((caller, at) => [caller, words[at]])) });
  }
  return { callers, cases };
}

export const readExpected = async () => parse(await readFile(FILE, 'utf8'));

const HEADER = `# What each caller of the API may do, one line for each object and operation. tests/access/matrix.test.mjs calls every one of them
# and compares. tests/access/outcomes.mjs explains the words and tests/access/callers.mjs the callers. docs/reference/access.md is
# generated from this file. A line is a decision: change it with the policy, grant or function that it is about.
`;

export const format = (callers, cases) =>
  `${HEADER}${[
    ['object', 'operation', ...callers],
    ...cases.map(({ object, operation, words }) => [object, operation, ...callers.map((caller) => words.get(caller) ?? NO_CASE)]),
  ]
    .map(([object, operation, ...words]) =>
      [object.padEnd(WIDTHS.object), operation.padEnd(WIDTHS.operation), ...words.map((word) => word.padEnd(WIDTHS.word))]
        .join(' ')
        .trimEnd(),
    )
    .join('\n')}\n`;

/** Writes what was observed. For the author of a change, who reviews the difference. */
export const writeExpected = (callers, cases) => writeFile(FILE, format(callers, cases));
