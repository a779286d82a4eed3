// The sidebars: the pages of each folder in the order in which its README links them. A page that the README does not link comes last.
import { readdirSync, readFileSync } from 'node:fs';

const docs = new URL('../docs/', import.meta.url);

function section(folder) {
  const text = readFileSync(new URL(`${folder}/README.md`, docs), 'utf8');
  const files = readdirSync(new URL(`${folder}/`, docs)).filter((name) => name.endsWith('.md') && name !== 'README.md');
  const linked = [...text.matchAll(/\]\(([\w-]+\.md)(?:#[\w-]*)?\)/g)].map(([, name]) => name).filter((name) => files.includes(name));
  const ordered = [...new Set([...linked, ...files.sort()])];
  return [`docs/${folder}/README`, ...ordered.map((name) => `docs/${folder}/${idOf(name)}`)];
}

// Docusaurus leaves a number out of a page's id that begins its name.
const idOf = (name) => name.replace(/\.md$/, '').replace(/^\d+-/, '');

const api = readdirSync(new URL('generated/api/', import.meta.url)).map((name) => `site/generated/api/${name.replace(/\.md$/, '')}`);

export default {
  guides: ['docs/README', ...section('guides'), 'docs/glossary'],
  operations: section('operations'),
  internals: [
    'docs/architecture',
    ...section('internals'),
    { type: 'category', label: 'Decisions', items: section('decisions') },
    {
      type: 'category',
      label: 'Benchmarks',
      items: ['docs/benchmarks', 'docs/benchmarks/executions', 'docs/benchmarks/llm', 'docs/benchmarks/stripe'],
    },
    'kijko_ext/README',
    'CONTRIBUTING',
    'SECURITY',
    'tests/reports/LOG',
  ],
  reference: [...section('reference'), { type: 'category', label: 'HTTP API', items: api.sort() }, 'README', 'CHANGELOG'],
};
