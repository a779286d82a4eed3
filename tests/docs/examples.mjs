// Every code block of the documentation, and what is done with it: `faultsOf(pages, stack)` runs or reads them all.
import { isData, readData } from './data.mjs';
import { files, parse, read } from './markdown.mjs';
import * as programs from './programs.mjs';
import { readShell, runShell } from './shell.mjs';
import { runSql } from './sql.mjs';

const ATTRIBUTES = {
  js: ['norun', 'fails', 'file'],
  ts: ['norun', 'fails'],
  sql: ['as', 'norun', 'fails', 'file'],
  sh: ['run', 'norun'],
  python: ['file'],
};

// Pages whose blocks with file= are the files of one example, which a test of its own runs as a whole.
const RUN_AS_A_WHOLE = {
  'docs/guides/functions.md': 'tests/journeys/functions_guide.test.mjs',
  'docs/guides/jobs_workers.md': 'tests/journeys/jobs_workers.test.mjs',
};

/** The documentation: everything but the log of changes and what is generated. */
export function documentation() {
  return files('*.md')
    .filter((file) => file !== 'CHANGELOG.md' && file !== 'docs/reference/sql.md')
    .map((file) => pageOf(file, read(file)));
}

export const pageOf = (file, text) => ({ file, text, blocks: parse(file, text).blocks });

/** Blocks that are not run, with their reasons. */
export const notRun = (pages) => pages.flatMap(({ blocks }) => blocks.filter(({ attributes }) => attributes.norun));

function markedWrongly({ file, line, lang, attributes }) {
  const faults = [];
  const allowed = ATTRIBUTES[lang] ?? (isData({ lang }) ? [] : null);
  if (allowed === null) return [`${file}:${line}: a block needs a language that the tests know, not "${lang}"`];
  for (const name of Object.keys(attributes)) if (!allowed.includes(name)) faults.push(`${file}:${line}: ${lang} takes no ${name}=`);
  if (attributes.norun !== undefined && !/\w+ \w+/.test(attributes.norun)) faults.push(`${file}:${line}: norun= needs a reason in words`);
  if (attributes.file ? !RUN_AS_A_WHOLE[file] : lang === 'python')
    faults.push(`${file}:${line}: ${lang} is run only as a file of an example, on the pages that tests/docs/examples.mjs names`);
  // Shell is run only on request: a forgotten mark must not stop a stack or throw data away.
  if (lang === 'sh' && !attributes.run === !attributes.norun) faults.push(`${file}:${line}: sh needs either run or norun="a reason"`);
  return faults;
}

/** The faults of all blocks, and how many of each language were run. `stack.person()` makes what programs and SQL are given. */
export async function faultsOf(pages, stack) {
  const blocks = pages.flatMap((page) => page.blocks);
  const faults = blocks.flatMap(markedWrongly);
  const counts = {};
  const count = ({ lang, attributes }) => {
    const what = `${lang} ${attributes.file ? 'of an example' : attributes.norun ? 'not run' : isData({ lang }) ? 'read' : 'run'}`;
    counts[what] = (counts[what] ?? 0) + 1;
  };
  blocks.forEach(count);

  const withPrograms = pages.flatMap((page) => {
    const own = page.blocks.filter((block) => programs.isProgram(block) && !block.attributes.file);
    return own.length > 0 ? [{ ...page, blocks: own }] : [];
  });
  if (withPrograms.length > 0) {
    const compiled = await programs.compile(withPrograms);
    try {
      faults.push(...compiled.faults);
      const broken = new Set(compiled.faults.map((fault) => fault.replace(/:\d+:.*/s, '')));
      // Each page has users of its own. Pages run one after another: fetch is replaced, so refusals of two could not be told apart.
      for (const program of compiled.modules.filter(({ file }) => !broken.has(file)))
        faults.push(...(await programs.run(program, (await stack.person()).given, stack.known)));
    } finally {
      await compiled.remove();
    }
  }

  const sql = blocks.filter(({ lang, attributes }) => lang === 'sql' && !attributes.norun && !attributes.file);
  if (sql.length > 0) {
    const person = await stack.person();
    for (const block of sql) faults.push(...(await runSql(block, { env: stack.env, ...person })));
  }

  const shell = blocks.filter(({ lang }) => lang === 'sh');
  if (shell.length > 0) {
    const person = await stack.person();
    for (const block of shell) {
      const read = readShell(block, stack.known);
      faults.push(...(block.attributes.run && read.length === 0 ? await runShell(block, person.shell) : read));
    }
  }

  for (const block of blocks.filter(isData)) faults.push(...readData(block, stack.known));
  return { faults, counts };
}
