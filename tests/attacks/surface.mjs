// What there is to attack, found from outside: tables, columns, functions and their arguments by PostgREST's OpenAPI document, and
// relationships by asking for each pair of tables, since a refusal names what may be embedded. A new table or function is
// attacked without a change here.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../lint/tree.mjs';
import { routesOf } from '../routes.mjs';
import { inParallel, send } from './wire.mjs';

/** The surface, as these callers see it together: a document shows what its reader may use. `callers` are headers. */
export async function discover(callers, { parents = null } = {}) {
  const documents = await Promise.all(callers.map(openApi));
  const relations = mergeRelations(documents);
  const functions = mergeFunctions(documents);
  return { relations, functions, relationships: await findRelationships(relations, functions, callers[0], parents) };
}

async function openApi(headers) {
  const { status, body, text } = await send('GET', '/rest/v1/', { headers: { ...headers, Accept: 'application/openapi+json' } });
  if (status !== 200) throw new Error(`the OpenAPI document: ${status} ${text.slice(0, 200)}`);
  return body;
}

/** Tables and views: { name, columns: [{ name, type, foreign }], key }. `foreign` is the table that the column refers to. */
function mergeRelations(documents) {
  const relations = new Map();
  for (const [name, { properties }] of documents.flatMap((document) => Object.entries(document.definitions))) {
    const known = relations.get(name) ?? { name, columns: [], key: [] };
    for (const [column, { format, description = '' }] of Object.entries(properties ?? {})) {
      if (known.columns.some((each) => each.name === column)) continue;
      known.columns.push({ name: column, type: format, foreign: description.match(/<fk table='([^']+)'/)?.[1] ?? null });
      if (description.includes('<pk/>')) known.key.push(column);
    }
    relations.set(name, known);
  }
  return [...relations.values()].filter(({ columns }) => columns.length > 0).sort(byName);
}

/** Functions: { name, args: [{ name, type, required }], get }. The document shows one signature of a name: `calls.mjs` asks for others. */
function mergeFunctions(documents) {
  const functions = new Map();
  for (const [path, { post, get }] of documents.flatMap((document) => Object.entries(document.paths))) {
    const name = path.match(/^\/rpc\/(.+)$/)?.[1];
    if (!name) continue;
    const schema = post?.parameters?.find((parameter) => parameter.in === 'body')?.schema ?? {};
    const args = Object.entries(schema.properties ?? {}).map(([argument, { format, type }]) => ({
      name: argument,
      type: format ?? type,
      required: (schema.required ?? []).includes(argument),
    }));
    functions.set(name, { name, args, get: get !== undefined });
  }
  return [...functions.values()].sort(byName);
}

const byName = (one, other) => (one.name < other.name ? -1 : 1);

/**
 * What can be embedded in what: { parent, child }, where child is what a client writes: the table, with a hint if there are several
 * ways. `parents`: names of tables, if not all are asked for.
 */
async function findRelationships(relations, functions, headers, parents) {
  const found = [];
  // A computed relationship is a function of one row.
  const names = new Set(relations.map(({ name }) => name));
  const computed = functions.filter(({ args }) => args.length === 1 && names.has(args[0].type?.replace(/^public\./, '')));
  const asked = relations.filter(({ name }) => !parents || parents.includes(name));
  const tasks = asked.flatMap((parent) =>
    [...relations, ...computed].map((child) => async () => {
      const { status, body } = await send('GET', `/rest/v1/${parent.name}?select=${child.name}(*)&limit=0`, { headers });
      if (body?.code === 'PGRST200') return;
      const hints = body?.code === 'PGRST201' ? body.details.map(({ relationship }) => relationship.split(' using ')[0]) : [''];
      // PostgREST plans before it asks the database, so any other answer says that there is a way.
      if (status >= 500) throw new Error(`${parent.name} with ${child.name}: ${status}`);
      found.push(...hints.map((hint) => ({ parent: parent.name, child: child.name + (hint && `!${hint}`) })));
    }),
  );
  await inParallel(tasks, 16);
  return found.sort((one, other) => (`${one.parent} ${one.child}` < `${other.parent} ${other.child}` ? -1 : 1));
}

const source = (path) => readFile(join(ROOT, path), 'utf8');

// They show nothing of anybody, and a socket is attacked by topics.
const NOT_ATTACKED = ['/health', '/realtime/v1/health', '/storage/v1/health', '/realtime/v1/websocket'];

/** Every route of the other parts as { method, path }: of storage, login, realtime and the sidecar. One of any method is tried by each. */
export function discoverRoutes() {
  return routesOf()
    .filter(({ path }) => !NOT_ATTACKED.includes(path))
    .flatMap(({ method, path }) =>
      (method === 'ANY' ? ['GET', 'POST', 'PUT', 'DELETE'] : [method]).map((each) => ({ method: each, path })),
    );
}

/** What the proxy serves: the first part of each path that it sends to a service. */
export async function proxied() {
  const paths = [...(await source('deploy/Caddyfile')).matchAll(/^\t@\w+ path (.*)$/gm)].flatMap(([, paths]) => paths.split(' '));
  return [...new Set(paths.map((path) => path.split('/')[1]))].filter((root) => root !== 'health');
}

/** The kinds of topics that the guide of realtime names: what stands before the colon of a topic. */
export async function discoverTopics() {
  const guide = await source('docs/guides/realtime.md');
  const kinds = new Set([...guide.matchAll(/`(\w+):\{\w+\}/g)].map(([, kind]) => kind));
  return [...kinds];
}
