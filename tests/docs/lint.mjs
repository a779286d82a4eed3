// Lints the documentation without a database: links, anchors, names of pages in other files, a guide for each domain.
// Prints one line for each fault and exits 1 if there is any.
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { files, parse, read, root } from './markdown.mjs';

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

// Comments and messages name pages as docs/….md, counted from the root.
for (const file of files(':!*.lock', ':!package-lock.json', ':!CHANGELOG.md')) {
  if (!existsSync(join(root, file)) || /\.(png|svg|ico)$/.test(file)) continue;
  for (const [index, text] of read(file).split('\n').entries()) {
    for (const [, name, anchor] of text.matchAll(/(?<![\w/.])(docs\/[\w./-]+\.md)(?:#([\w-]+))?/g)) {
      // A link was checked above, from the folder of its page.
      if (!pages.has(file) || !text.includes(`](${name}`)) checkTarget(`${file}:${index + 1}`, '', name, anchor);
    }
  }
}

// The first migration of a block of time stamps (the hour) is named after its domain.
const domains = new Map();
for (const file of files('supabase/migrations/*.sql').sort()) {
  const [, block, name] = file.match(/(\d{10})\d{4}_(\w+)\.sql$/) ?? [];
  if (block !== undefined && !domains.has(block)) domains.set(block, name);
}
const index = read('docs/guides/README.md');
for (const domain of domains.values()) {
  if (domain === 'foundation') continue;
  if (!pages.has(`docs/guides/${domain}.md`)) faults.push(`docs/guides/${domain}.md is missing: each domain has a guide`);
  else if (!index.includes(`](${domain}.md)`)) faults.push(`docs/guides/README.md does not list ${domain}.md`);
}
if (domains.size < 10) faults.push(`only ${domains.size} domains were found in supabase/migrations`);

for (const fault of faults) console.log(fault);
console.log(`${pages.size} pages, ${[...pages.values()].reduce((n, { links }) => n + links.length, 0)} links, ${faults.length} faults`);
process.exit(faults.length === 0 ? 0 : 1);
