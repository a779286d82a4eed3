// Writes one OpenAPI document of everything that the proxy serves: what PostgREST makes of the database (scripts/openapi_rest.mjs), and
// the routes of login, storage, realtime and the sidecar, which docs/reference/openapi describes.
//   DB_URL=… node scripts/openapi.mjs [--server URL] FILE     writes FILE; - is stdout
// tests/lint/openapi.test.mjs compares these descriptions with the routes in the code, tests/docs/openapi.test.mjs the rest with PostgREST.
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { parse } from 'yaml';
import { restOf } from './openapi_rest.mjs';

const FOLDER = new URL('../docs/reference/openapi/', import.meta.url);

// The shape of a refusal, where it is another than ours: the first pattern that the path of the operation has.
const ERRORS = [
  [/^\/auth\/v1\//, 'LoginError'],
  [/^\/storage\/v1\//, 'StorageError'],
  [/^\/realtime\/v1\//, 'RealtimeError'],
  [/^\/llm\/v1\//, 'OpenAiError'],
  [/^\/mcp$/, 'JsonRpcError'],
  [/^\/api\/v1\/(?!symbols\/search$|privacy\/)/, 'KotadbError'],
  [/^\/api\/public\/v2\/prompts/, 'LangfuseError'],
];

/** The document without what the database serves. */
export async function described() {
  const files = (await readdir(FOLDER)).filter((name) => name.endsWith('.yaml') && name !== 'base.yaml').sort();
  const document = parse(await readFile(new URL('base.yaml', FOLDER), 'utf8'));
  document.info.version = await release();
  document.paths = {};
  for (const file of files) merge(document, file, parse(await readFile(new URL(file, FOLDER), 'utf8')));
  for (const operation of operationsOf(document)) {
    const name = ERRORS.find(([path]) => path.test(operation.path))?.[1] ?? 'Error';
    operation.responses.default ??= { $ref: `#/components/responses/${name}` };
  }
  return document;
}

/** The whole document, of a running database. */
export async function openapi(connectionString, server) {
  const document = await described();
  const { paths, schemas, parameters } = await restOf(connectionString);
  merge(document, 'the database', { paths, components: { schemas, parameters } });
  if (server) document.servers = [{ url: server }];
  return document;
}

/** The operations of a document, each with its method and path. */
export function operationsOf(document) {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) =>
      Object.defineProperties(operation, { path: { value: path }, method: { value: method } }),
    ),
  );
}

function merge(document, from, { tags = [], paths, components = {} }) {
  document.tags.push(...tags);
  const add = (whole, part, place) => {
    for (const [name, value] of Object.entries(part)) {
      if (name in whole) throw new Error(`${from}: there is a second ${place}${name}`);
      whole[name] = value;
    }
  };
  add(document.paths, paths, '');
  for (const [kind, named] of Object.entries(components)) add(document.components[kind], named, `${kind}/`);
}

async function release() {
  const manifest = await readFile(new URL('../Cargo.toml', import.meta.url), 'utf8');
  return manifest.match(/^version = "(.+)"$/m)[1];
}

async function main(args) {
  const [server] = args[0] === '--server' ? args.splice(0, 2).slice(1) : [];
  const [file] = args;
  if (!file || !process.env.DB_URL) {
    console.error('usage: DB_URL=… node scripts/openapi.mjs [--server URL] FILE');
    process.exit(2);
  }
  const text = `${JSON.stringify(await openapi(process.env.DB_URL, server), null, 1)}\n`;
  if (file === '-') process.stdout.write(text);
  else await writeFile(file, text);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(process.argv.slice(2));
