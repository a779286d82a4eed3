// One case: sends the request and says in one word what came of it.
import assert from 'node:assert/strict';
import { CALLERS } from './callers.mjs';
import { RELATIONS, reference } from './cases.mjs';
import { refusal } from './outcomes.mjs';
import { request, userOf } from './people.mjs';
import { isPrivate, scopeOf, truth } from './world.mjs';

const PLATFORM = '00000000-0000-4000-8000-000000000001';

const filterOf = (relation, row) => relation.key.map((column) => `${column}=eq.${encodeURIComponent(row[column])}`).join('&');
const keyOf = (relation, row) => relation.key.map((column) => row[column]).join(' ');
const failed = (answer) => answer.status >= 400;

/** What a caller sees of the organization's rows: asked for them, and without naming an organization. */
export async function select(world, caller, relation) {
  const there = await truth(relation, world);
  assert.ok(there.length > 0, `${relation.name}: the fixture has no row (tests/access/rows.mjs)`);
  const words = [];
  const scope = scopeOf(relation, world);
  // The service key sees other tests' tenants, too, and an answer has at most 1,000 rows.
  for (const query of CALLERS[caller].token === 'service' ? [scope] : [scope, '']) {
    const answer = await request(world, caller, 'GET', `${relation.name}?select=*${query && `&${query}`}`);
    if (failed(answer)) words.push(refusal(answer));
    else {
      assertOwnTenantsOnly(world, caller, relation, answer.body);
      words.push(seen(world, caller, relation, there, answer.body));
    }
  }
  assert.equal(new Set(words).size, 1, `${relation.name} as ${caller}: named ${words[0]}, unnamed ${words[1]}`);
  return words[0];
}

const isToldBy = (row, user) => row.audience === 'user' && row.user_id === user && row.org_id === PLATFORM;

/** No answer has a row of a third organization, and none of the other one unless the caller belongs there. */
function assertOwnTenantsOnly(world, caller, relation, rows) {
  if (CALLERS[caller].token === 'service') return;
  const column = relation.name === 'organizations' ? 'id' : 'org_id';
  if (!relation.columns.includes('org_id') && relation.name !== 'organizations') return;
  const home = CALLERS[caller].outsider ? world.other.org : world.org;
  assert.deepEqual(
    // What the platform tells a person is the person's own.
    [...new Set(rows.filter((row) => !isToldBy(row, userOf(world, caller))).map((row) => row[column]))].filter((org) => org !== home),
    [],
    `${relation.name} as ${caller}`,
  );
}

function seen(world, caller, relation, there, rows) {
  const visible = new Set(rows.map((row) => keyOf(relation, row)));
  const found = there.filter((row) => visible.has(keyOf(relation, row)));
  if (found.length === 0) return 'none';
  if (found.length === there.length) return 'rows';
  if (there.every((row) => visible.has(keyOf(relation, row)) !== isPrivate(row, world))) return 'shared';
  const user = userOf(world, caller);
  return found.every((row) => [row.user_id, row.created_by, row.id].includes(user)) ? 'own' : 'some';
}

/** Every operation of a relation, in the order of the table. */
export function operationsOf(relation) {
  const has = (column) => relation.columns.includes(column);
  const entry = RELATIONS[relation.name];
  const names = ['select', 'insert', 'update', 'delete'];
  if (!relation.written) return names;
  names.push('upsert');
  if (has('org_id')) names.push('move');
  if (has('created_by')) names.push('author');
  if (entry && (has('project_id') || has('skill_id'))) names.push('insert:private', 'insert:foreign');
  if (entry && (has('project_id') || has('skill_id') || relation.name === 'projects')) names.push('update:private', 'delete:private');
  return [...names, ...Object.keys(entry?.more ?? {})];
}

/** Sends one operation. A caller of the other organization always addresses the first one's rows, except where it would move its own. */
export async function operate(world, caller, relation, operation) {
  if (operation === 'select') return select(world, caller, relation);
  const entry = RELATIONS[relation.name] ?? {};
  const { outsider } = CALLERS[caller];
  const [home, abroad] = outsider ? [world.other, world] : [world, world.other];
  const from = ['move', 'author'].includes(operation) ? home : world;
  const rows = await truth(relation, world, from.org);
  const context = { world, user: userOf(world, caller) };
  const more = entry.more?.[operation];
  const secret = operation.endsWith(':private');
  const wanted = more?.row ?? (from === world && !secret ? entry.target : undefined) ?? (() => true);
  const row = rows.find((candidate) => isPrivate(candidate, from) === secret && wanted(candidate, context));
  if (!row && more) return '-'; // a caller without a row of its own
  assert.ok(row, `${relation.name} ${operation}: the fixture has no such row`);
  context.row = row;
  const insert = () => entry.insert?.(world, context) ?? {};
  const update = () => entry.update?.(world, context) ?? { [relation.columns[0]]: row[relation.columns[0]] };
  const key = () =>
    Object.fromEntries(relation.key.filter((column) => !relation.generated.includes(column)).map((column) => [column, row[column]]));
  const at = `${relation.name}?${filterOf(relation, row)}`;
  const send = {
    insert: () => write(world, caller, 'POST', relation.name, insert()),
    upsert: () => write(world, caller, 'POST', relation.name, { ...insert(), ...pick(row, insert()), ...update(), ...key() }, UPSERT),
    update: () => write(world, caller, 'PATCH', at, update()),
    delete: () => write(world, caller, 'DELETE', at),
    move: () => write(world, caller, 'PATCH', at, { org_id: abroad.org }),
    author: () => write(world, caller, 'PATCH', at, { created_by: world.people.neighbour.id }),
    'insert:private': () =>
      write(world, caller, 'POST', relation.name, {
        ...insert(),
        ...reference(entry.points ?? relation.columns, { project: world.secretProject, skill: world.secretSkill }),
      }),
    'insert:foreign': () =>
      write(world, caller, 'POST', relation.name, {
        ...entry.insert?.(home, context),
        ...reference(entry.points ?? relation.columns, { project: abroad.project, skill: abroad.skill }),
      }),
    'update:private': () => write(world, caller, 'PATCH', at, update()),
    'delete:private': () => write(world, caller, 'DELETE', at),
  }[operation];
  if (send) return send();
  if (more.method === 'UPSERT') return write(world, caller, 'POST', relation.name, { ...more.body(world), ...key() }, UPSERT);
  return write(world, caller, more.method, more.method === 'POST' ? relation.name : at, more.body?.(world));
}

const UPSERT = ',resolution=merge-duplicates';
/** The row's own values for the columns that an insert gives: an upsert that changes only what an update would. */
const pick = (row, body) => Object.fromEntries(Object.keys(body).map((column) => [column, row[column]]));

async function write(world, caller, method, path, body, prefer = '') {
  const answer = await request(world, caller, method, path, { body, headers: { Prefer: `return=representation${prefer}` } });
  if (failed(answer)) return refusal(answer);
  return answer.body.length > 0 ? 'done' : 'none';
}

/** Calls a function. */
export async function call(world, caller, fn, body) {
  const answer = await request(world, caller, 'POST', `rpc/${fn.name}`, { body });
  if (failed(answer)) return refusal(answer);
  if (answer.status === 204) return 'done';
  if (fn.boolean) return answer.body ? 'yes' : 'no';
  if (answer.body === null || (fn.set_returning && answer.body.length === 0)) return 'none';
  return fn.set_returning ? 'rows' : 'done';
}

/** Reads a computed column of one row that is there. */
export async function readComputed(world, caller, fn, relation, { row: wanted = () => true, embed = false, before }) {
  await before?.(world);
  const context = { world, user: userOf(world, caller) };
  const row = (await truth(relation, world)).find((candidate) => !isPrivate(candidate, world) && wanted(candidate, context));
  if (!row) return '-';
  const answer = await request(
    world,
    caller,
    'GET',
    `${relation.name}?select=${relation.key[0]},value:${fn.name}${embed ? '(id)' : ''}&${filterOf(relation, row)}`,
  );
  if (failed(answer)) return refusal(answer);
  const [found] = answer.body;
  if (!found) return 'none';
  return found.value === null || (embed && [found.value].flat().length === 0) ? 'none' : 'done';
}

/** Calls a computed column as a function, with a row that the caller made up from what is there. */
export async function callForged(world, caller, fn, relation, { row: wanted = () => true, before }) {
  await before?.(world);
  const context = { world, user: userOf(world, caller) };
  const there = await truth(relation, world);
  const row = there.find((candidate) => !isPrivate(candidate, world) && wanted(candidate, context)) ?? there[0];
  const [argument] = fn.signature.match(/\((\w+)\)/).slice(1);
  return call(world, caller, fn, { [argument]: row });
}
