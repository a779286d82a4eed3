// Builds the site into a folder:  DB_URL=… node site/build.mjs FOLDER
// It writes the pages of the HTTP API first, from the database and the descriptions of routes. Needs no network.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { openapi } from '../scripts/openapi.mjs';
import { apiPages } from './api_pages.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const generated = join(here, 'generated');

const TYPES = `# TypeScript types

[\`database.types.ts\`](pathname:///docs/database.types.ts) has the types of every table, view and function for
supabase-js. Save it in your project, and name it when you make the client:

\`\`\`ts
import { createClient } from '@supabase/supabase-js'
import type { Database } from './database.types.ts'

const supabase = createClient<Database>(API_URL, ANON_KEY)
\`\`\`

They are stricter than those that the Supabase CLI writes: a column with a list of values is a union, and a function's result is null only
where the function can return null. \`./kijko types\` writes them anew after a change of the schema.
`;

async function writePages(document) {
  await rm(generated, { recursive: true, force: true });
  await mkdir(join(generated, 'api'), { recursive: true });
  await mkdir(join(generated, 'static'), { recursive: true });
  for (const [name, text] of apiPages(document)) await writeFile(join(generated, 'api', `${name}.md`), text);
  await writeFile(join(generated, 'api', 'types.md'), TYPES);
  await writeFile(join(generated, 'static', 'openapi.json'), JSON.stringify(document));
  await copyFile(join(here, '../supabase/database.types.ts'), join(generated, 'static', 'database.types.ts'));
}

/** Moves inline scripts into files: the site's policy runs scripts of its own origin only. The text is `html` with the new references. */
export function withoutInlineScripts(html, keep) {
  return html.replaceAll(/<script((?:\s[^>]*)?)>([\s\S]*?)<\/script>/g, (whole, attributes, text) => {
    if (/\ssrc=/.test(attributes) || /type="?application\/(?:ld\+)?json/.test(attributes)) return whole;
    const name = `inline-${createHash('sha256').update(text).digest('hex').slice(0, 16)}.js`;
    keep(name, text);
    return `<script${attributes} src="/docs/assets/js/${name}"></script>`;
  });
}

async function moveInlineScripts(folder) {
  const scripts = new Map();
  for (const name of await readdir(folder, { recursive: true })) {
    if (!name.endsWith('.html')) continue;
    const html = await readFile(join(folder, name), 'utf8');
    if (!html.includes('<h1')) throw new Error(`${name} is empty`);
    await writeFile(
      join(folder, name),
      withoutInlineScripts(html, (script, text) => scripts.set(script, text)),
    );
  }
  for (const [name, text] of scripts) await writeFile(join(folder, 'assets/js', name), text);
}

async function main([folder]) {
  if (!folder || !process.env.DB_URL) {
    console.error('usage: DB_URL=… node site/build.mjs FOLDER');
    process.exit(2);
  }
  await writePages(await openapi(process.env.DB_URL, process.env.KIJKO_PUBLIC_URL));
  // Built here and copied: in a folder of .kijko all pages stayed empty, and Docusaurus called that a success.
  const built = join(generated, 'site');
  const environment = { ...process.env, NO_UPDATE_NOTIFIER: '1', CI: '1' };
  execFileSync(join(here, 'node_modules/.bin/docusaurus'), ['build', here, '--out-dir', built], { stdio: 'inherit', env: environment });
  await moveInlineScripts(built);
  await cp(built, resolve(folder), { recursive: true });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(process.argv.slice(2));
