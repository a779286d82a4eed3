// The TypeScript and JavaScript of a page is one program: its blocks, in their order, share one scope. Each line of the program
// has the line number that it has on the page, so the compiler's complaints name the page.
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './markdown.mjs';

const LANGUAGES = ['js', 'ts'];
// Inside of the checkout, so that the programs find its packages; the depth is that of HEAD's path to the types.
const here = join(root, 'target/docs');

export const isProgram = ({ lang }) => LANGUAGES.includes(lang);

// What every program may use without declaring it; docs/guides/README.md tells the reader. All on the first line of a program.
const HEAD = `import { createClient, StorageApiError } from '@supabase/supabase-js'; import type { Database } from '../../../supabase/database.types.ts'; \
type Client = ReturnType<typeof createClient<Database>>; \
export interface Given { supabase: Client; service: Client; bob: Client; API_URL: string; ANON_KEY: string; SERVICE_ROLE_KEY: string; \
orgId: string; userId: string; bobId: string; email: string; password: string; projectId: string; skillId: string; \
$: { begin(line: number, fails?: string): void; end(): void; compileOnly(body: () => Promise<void>): void } }`;
const HEAD_HAS = ['@supabase/supabase-js', './database.types'];
const NAMES = 'supabase, service, bob, API_URL, ANON_KEY, SERVICE_ROLE_KEY, orgId, userId, bobId, email, password, projectId, skillId, $';

/** The program of a page's text. */
function programOf(text, blocks) {
  const lines = text.split('\n');
  const program = lines.map(() => '');
  const imports = new Set();
  for (const { line, code, attributes } of blocks) {
    const fence = line - 1;
    const body = code.split('\n');
    const begin = attributes.norun
      ? '$.compileOnly(async () => {'
      : `$.begin(${line}${attributes.fails ? `, '${attributes.fails}'` : ''});`;
    program[fence] += begin;
    for (const [n, statement] of body.entries()) {
      const [, module] = statement.match(/^import .* from '([^']+)';?$/) ?? [];
      if (module === undefined) program[fence + 1 + n] = statement;
      else if (!HEAD_HAS.includes(module)) imports.add(statement.replace(/;?$/, ';'));
    }
    program[fence + 1 + body.length] += attributes.norun ? '});' : '$.end();';
  }
  program[0] = `${HEAD}; ${[...imports].join(' ')} export default ({ ${NAMES} }: Given) => async () => {${program[0]}`;
  return `${program.join('\n')}\n};\n`;
}

/** Compiles the programs of pages under --strict. Faults name the page and its line; `modules` are the compiled ones. */
export async function compile(pages) {
  const folder = join(here, `programs.${process.pid}.${compile.calls++}`);
  await mkdir(folder, { recursive: true });
  const nameOf = (file) => `${file.replace(/\.md$/, '').replaceAll(/\W/g, '_')}.mts`;
  const { compilerOptions } = JSON.parse(await readFile(join(root, 'tests/types/tsconfig.json'), 'utf8'));
  Object.assign(compilerOptions, { noEmit: false, noEmitOnError: false, inlineSourceMap: true, allowImportingTsExtensions: false });
  Object.assign(compilerOptions, { rewriteRelativeImportExtensions: true, types: [], rootDir: root, outDir: join(folder, 'out') });
  for (const { file, text, blocks } of pages) await writeFile(join(folder, nameOf(file)), programOf(text, blocks));
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: pages.map(({ file }) => nameOf(file)) }));
  const stdout = await new Promise((resolve, reject) => {
    execFile(join(root, 'node_modules/.bin/tsc'), ['-p', '.', '--pretty', 'false'], { cwd: folder }, (error, out, err) =>
      error && !out ? reject(new Error(`tsc: ${error.message} ${err}`)) : resolve(out),
    );
  });
  const pageOf = new Map(pages.map(({ file }) => [nameOf(file), file]));
  const faults = stdout
    .split('\n')
    .filter((line) => line.includes('error TS'))
    .map((line) => line.replace(/^(?:.*\/)?(\w+\.mts)\((\d+),\d+\)/, (_, name, n) => `${pageOf.get(name)}:${n}`));
  const compiled = join(folder, 'out', folder.slice(root.length));
  const modules = pages.map(({ file }) => ({
    file,
    load: async () => (await import(pathToFileURL(join(compiled, nameOf(file).replace('.mts', '.mjs'))).href)).default,
  }));
  return { faults, modules, remove: () => rm(folder, { recursive: true, force: true }) };
}
compile.calls = 0;

const MAX_MS = 60_000;
// A list names its organization, or its user where it is about the user's own.
const OF_ONE = ['org_id', 'user_id'];

/** Runs a compiled program. A failed assertion is a fault, and so is a refused request, unless its block says `fails=CODE`. */
export async function run({ file, load }, given, { tenantTables }) {
  const faults = [];
  let block;
  const realFetch = globalThis.fetch;
  const realAssert = console.assert;
  console.assert = (holds, ...about) => {
    if (!holds) faults.push(`${file}:${block?.line}: an assertion does not hold ${about.join(' ')}`);
  };
  // A program that waits without end fails at its next request.
  const deadline = performance.now() + MAX_MS;
  globalThis.fetch = async (...request) => {
    if (performance.now() > deadline) throw new Error(`the program takes longer than ${MAX_MS} ms`);
    const response = await realFetch(...request);
    const { pathname, searchParams } = new URL(request[0]);
    const table = pathname.match(/^\/rest\/v1\/(\w+)$/)?.[1];
    if (
      (request[1]?.method ?? 'GET') === 'GET' &&
      tenantTables.has(table) &&
      !OF_ONE.some((name) => searchParams.get(name)?.startsWith('eq.'))
    )
      faults.push(`${file}:${block?.line}: reads ${table} without .eq('org_id', …), so it is slow and shows all organizations`);
    if (response.status >= 400) {
      const body = await response
        .clone()
        .json()
        .catch(() => ({}));
      // Then the clients of tests ask again, by fetchInTurn().
      if (body.message !== 'Too many sign-ins at once') block?.refused.push(body.code ?? String(response.status));
    }
    return response;
  };
  const $ = {
    begin(line, fails) {
      block = { line, fails, refused: [] };
    },
    end() {
      const { line, fails, refused } = block;
      const unexpected = refused.filter((code) => code !== fails);
      if (unexpected.length > 0) faults.push(`${file}:${line}: refused with ${unexpected.join(', ')}`);
      if (fails && !refused.includes(fails)) faults.push(`${file}:${line}: nothing was refused with ${fails}`);
    },
    compileOnly() {},
  };
  try {
    await (await load())({ ...given, $ })();
  } catch (error) {
    faults.push(
      `${file}:${block?.line}: ${error?.code ?? ''} ${error?.message ?? JSON.stringify(error)} ${error?.stack?.split('\n')[1] ?? ''}`,
    );
  } finally {
    globalThis.fetch = realFetch;
    console.assert = realAssert;
  }
  return faults;
}
