// Lints the documentation without a database: links, anchors, names of pages in other files, the list of guides.
// Prints one line for each fault and exits 1 if there is any.
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { readDomains } from '../lint/layout.mjs';
import { namesIn } from '../lint/tree.mjs';
import { files, parse, proseOf, read, root, spansOf, tableRows } from './markdown.mjs';

const faults = [];
const pages = new Map(files('*.md').map((file) => [file, parse(file)]));

function checkTarget(where, from, path, anchor) {
  const target = path === '' ? from : normalize(join(dirname(from), path)).replace(/\/$/, '');
  if (target.startsWith('..') || !existsSync(join(root, target))) faults.push(`${where}: there is no ${target}`);
  else if (anchor !== undefined && pages.has(target) && !pages.get(target).anchors.has(anchor))
    faults.push(`${where}: ${target} has no heading #${anchor}`);
}

for (const [file, { links }] of pages) {
  for (const { href, line } of links) {
    if (/^[a-z][a-z0-9+.-]*:/i.test(href)) continue;
    const [path, anchor] = href.split('#');
    checkTarget(`${file}:${line}`, file, decodeURI(path), anchor);
  }
}

if (pages.size < 30) faults.push(`only ${pages.size} pages were found`);

// Comments and messages name pages as docs/….md, counted from the root.
for (const file of files(':!*.lock', ':!package-lock.json', ':!CHANGELOG.md', ':!tests/lint/*.test.mjs')) {
  if (!existsSync(join(root, file)) || /\.(png|svg|ico)$/.test(file)) continue;
  for (const [index, text] of read(file).split('\n').entries()) {
    for (const [, name, anchor] of text.matchAll(/(?<![\w/.])(docs\/(?!test\.md)[\w./-]+\.md)(?:#([\w-]+))?/g)) {
      // A link was checked above, from the folder of its page.
      if (!pages.has(file) || !text.includes(`](${name}`)) checkTarget(`${file}:${index + 1}`, '', name, anchor);
    }
  }
}

// A path in a code span counts from the root. One with a placeholder is checked up to it.
const GENERATED = ['docs/reference/sql.md', 'CHANGELOG.md'];
// Made by scripts, or by a release, and not in the repository.
const CREATED = ['deploy/docker/secrets', 'kijko_ext/sql/kijko--'];
const FOLDERS = new Set(
  files()
    .map((file) => file.split('/')[0])
    .filter((name) => !name.includes('.')),
);
const tracked = files();
for (const file of pages.keys()) {
  if (GENERATED.includes(file)) continue;
  for (const { span, line } of spansOf(read(file))) {
    if (!/^[\w.]+\/[\w./*<>-]+$/.test(span) || !FOLDERS.has(span.split('/')[0]) || CREATED.some((name) => span.startsWith(name))) continue;
    const start = span.replace(/[<*].*/s, '');
    if (!tracked.some((name) => name === span || name.startsWith(start === span ? `${span.replace(/\/$/, '')}/` : start)))
      faults.push(`${file}:${line}: there is no ${span}`);
  }
}

// Prose has at most 100 columns. Tables, code, headings and lines that a long link or path fills cannot be broken.
for (const file of pages.keys()) {
  if (GENERATED.includes(file)) continue;
  let code = false;
  for (const [index, line] of read(file).split('\n').entries()) {
    if (/^\s*```/.test(line)) code = !code;
    else if (!code && [...line].length > 100 && !/^\s*[|#]/.test(line) && /\S\s+\S.*\s/.test(line.trim()))
      faults.push(`${file}:${index + 1}: ${[...line].length} columns`);
  }
}

// A table whose lines were joined, or that has no blank line before it, is shown as text.
for (const file of pages.keys()) {
  for (const { words } of proseOf(read(file))) {
    if (/\|\s*:?-{3,}:?\s*\|/.test(words)) faults.push(`${file}: a table that is none: ${words.slice(0, 60)}`);
  }
}

// A term of our own is linked where a page first uses it. Terms that are plain English as well are left to the writer.
const AMBIGUOUS = ['caller', 'domain', 'hold', 'job', 'period', 'platform', 'rate', 'slot', 'subject', 'tail', 'tier'];
const terms = tableRows('docs/glossary.md', undefined).map(([term]) => term.replaceAll('*', ''));
if (terms.length < 20) faults.push(`docs/glossary.md: only ${terms.length} terms were found`);
for (const file of pages.keys()) {
  if (GENERATED.includes(file) || file === 'docs/glossary.md' || file.startsWith('docs/decisions/') || file === 'SECURITY.md') continue;
  const prose = proseOf(read(file));
  for (const term of terms.filter((name) => !AMBIGUOUS.includes(name))) {
    const first = prose.find(({ words }) => new RegExp(`(?<![\\w/.-])${term}s?(?![\\w/-])`, 'i').test(words));
    if (first && !first.linked) faults.push(`${file}: "${term}" is not linked where it is first used: ${first.words.slice(0, 60)}`);
  }
}

// The list of domains says which hours are taken.
const page = 'docs/architecture.md';
const [, list = ''] = read(page).match(/^The domains with the hours of their blocks:([\s\S]*?)\n\n/m) ?? [];
const inList = [...list.matchAll(/`(\w+)` (\d\d)/g)].map(([, domain, hour]) => `${domain} ${hour}`);
const { domainOfBlock } = readDomains(namesIn(root, 'supabase/migrations'));
const blocks = [...domainOfBlock].map(([block, domain]) => `${domain} ${block.slice(-2)}`);
if (blocks.length < 10) faults.push(`only ${blocks.length} domains were found in the migrations`);
for (const domain of blocks.filter((name) => !inList.includes(name))) faults.push(`${page} does not list the domain ${domain}`);
for (const domain of inList.filter((name) => !blocks.includes(name)))
  faults.push(`${page} lists the domain ${domain}, which has no migrations`);

// tests/lint/layout.mjs requires a guide for each domain; here each guide is on the list.
const index = read('docs/guides/README.md');
for (const file of files('docs/guides/*.md')) {
  const name = file.replace(/.*\//, '');
  if (name !== 'README.md' && !index.includes(`](${name}`)) faults.push(`docs/guides/README.md does not list ${name}`);
}

for (const fault of faults) console.log(fault);
console.log(`${pages.size} pages, ${[...pages.values()].reduce((n, { links }) => n + links.length, 0)} links, ${faults.length} faults`);
process.exit(faults.length === 0 ? 0 : 1);
