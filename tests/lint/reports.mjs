// Each public report that tests/reports tries has its line in LOG.md, and each line its test.
import { isMain, namesIn, ROOT, read, repeated, report } from './tree.mjs';

const FOLDER = 'tests/reports';
const LOG = `${FOLDER}/LOG.md`;
const COLUMNS = ['id', 'report', 'what we do', 'right value, and why', 'before', 'now'];

/** Every report without a line, line without a test, id that comes twice, and line that lacks a column or a source. */
export function checkReports(root) {
  const tested = namesIn(root, FOLDER)
    .filter((name) => name.endsWith('.test.mjs'))
    .flatMap((name) => [...read(root, `${FOLDER}/${name}`).matchAll(/^\s*report\(\s*'([\w-]+)'/gm)].map(([, id]) => ({ id, name })));
  const rows = read(root, LOG)
    .split('\n')
    .filter((line) => /^\| [a-z]+-\d+ \|/.test(line))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const logged = rows.map(([id]) => id);
  return [
    ...tested.filter(({ id }) => !logged.includes(id)).map(({ id, name }) => `${FOLDER}/${name} tests ${id}, which ${LOG} does not have`),
    ...logged.filter((id) => !tested.some((one) => one.id === id)).map((id) => `${LOG} has ${id}, which no test tries`),
    ...tested
      .filter(({ id, name }) => !id.startsWith(`${name.split('.')[0]}-`))
      .map(({ id, name }) => `${FOLDER}/${name}: ${id} must begin with the file's name`),
    ...repeated(tested.map(({ id }) => id)).map((id) => `${FOLDER} tests ${id} twice`),
    ...repeated(logged).map((id) => `${LOG} has ${id} twice`),
    ...rows
      .filter((cells) => cells.length !== COLUMNS.length || cells.includes(''))
      .map(([id]) => `${LOG}: ${id} needs ${COLUMNS.join(', ')}`),
    ...rows.filter(([, source = '']) => !/\]\(https:\/\//.test(source)).map(([id]) => `${LOG}: ${id} names no source`),
  ];
}

if (isMain(import.meta)) report('reports', checkReports(ROOT));
