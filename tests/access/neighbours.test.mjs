// What a matrix of single requests misses: a member of another organization who names this one's rows by header, by embedding, by
// filters, or by id. They learn nothing, not even whether an id exists.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { CALLERS } from './callers.mjs';
import { FUNCTIONS, RELATIONS } from './cases.mjs';
import { disconnect } from './db.mjs';
import { embeddings, functions, relations } from './objects.mjs';
import { forgetPeople, liftAddressRate, makePeople, request, restoreAddressRate } from './people.mjs';
import { fingerprint, isPrivate, makeWorld, removeWorld, scopeOf, truth } from './world.mjs';

const outsiders = Object.keys(CALLERS).filter((caller) => CALLERS[caller].outsider);
const found = { relations: await relations(), functions: await functions() };
const tables = found.relations.filter(({ view }) => !view);
const tenantRelations = found.relations.filter(({ name, columns }) => name === 'organizations' || columns.includes('org_id'));
/** A published blog is there for everyone, by the slug of its organization. */
const FOR_EVERYONE = ['blog_feed', 'published_post', 'published_posts'];
let people;
let world;
let hash;

before(async () => {
  people = await makePeople();
  await liftAddressRate();
  world = await makeWorld(people);
  hash = await fingerprint(tables, world);
});
after(async () => {
  await restoreAddressRate();
  if (world) await removeWorld(world);
  await forgetPeople(people);
  await disconnect();
});

/** Every id of the first organization's rows, and its own, but that of an invitation: a notification names it to the invitee. */
async function idsOfFirst() {
  const ids = new Set([world.org]);
  for (const relation of tenantRelations) {
    for (const row of await truth(relation, world)) for (const column of ['id', 'org_id']) if (row[column]) ids.add(row[column]);
  }
  ids.delete(world.invitation);
  return ids;
}

const valuesIn = (value) => (value !== null && typeof value === 'object' ? Object.values(value).flatMap(valuesIn) : [value]);

function assertForeignFree(answer, foreign, what) {
  const leaked = valuesIn(answer.body).filter((value) => foreign.has(value));
  assert.deepEqual(leaked, [], `${what}: ${answer.text.slice(0, 300)}`);
}

for (const caller of outsiders) {
  test(`${caller}: the header x-org-id of another organization`, async () => {
    const foreign = await idsOfFirst();
    const headers = { 'x-org-id': world.org };
    const isUser = CALLERS[caller].person !== undefined;
    for (const { name } of found.relations) {
      for (const answer of [
        await request(world, caller, 'GET', `${name}?select=*`, { headers }),
        await request(world, caller, 'POST', name, { body: RELATIONS[name]?.insert(world.other, { world }) ?? {}, headers }),
      ]) {
        // A key has an organization already, and the header changes nothing about it.
        if (isUser) assert.equal(answer.body?.code, 'not_a_member', `${name}: ${answer.text}`);
        assertForeignFree(answer, foreign, name);
      }
    }
    for (const fn of found.functions.filter(({ signature }) => FUNCTIONS[signature])) {
      const answer = await request(world, caller, 'POST', `rpc/${fn.name}`, { body: FUNCTIONS[fn.signature].call(world), headers });
      if (isUser) assert.equal(answer.body?.code, 'not_a_member', `${fn.signature}: ${answer.text}`);
      assertForeignFree(answer, foreign, fn.signature);
    }
  });

  test(`${caller}: embedding, also with filters on what is embedded`, async () => {
    const foreign = await idsOfFirst();
    const pairs = await embeddings();
    assert.ok(pairs.length > 20);
    let answered = 0;
    for (const { parent, child, constraint } of pairs) {
      const [columns] = found.relations.filter(({ name }) => name === child).map(({ columns: all }) => all);
      const filter = columns.includes('org_id') ? `&e.org_id=eq.${world.org}` : child === 'organizations' ? `&e.id=eq.${world.org}` : '';
      for (const query of [`select=*,e:${child}!${constraint}(*)`, `select=*,e:${child}!${constraint}!inner(*)${filter}`]) {
        const answer = await request(world, caller, 'GET', `${parent}?${query}`);
        assert.notEqual(answer.body?.code, 'PGRST200', `${parent}?${query}`);
        if (answer.status < 300) answered += 1;
        assertForeignFree(answer, foreign, `${parent}?${query}`);
      }
    }
    assert.ok(answered > 20);
  });

  test(`${caller}: a row of another organization answers as one that does not exist`, async () => {
    const ids = [...(await idsOfFirst())].filter((id) => /^[0-9a-f-]{36}$/.test(id));
    const elsewhere = new Map(ids.map((id) => [id, randomUUID()]));
    const renamed = (text) => [...elsewhere].reduce((renaming, [id, other]) => renaming.replaceAll(id, other), text);
    for (const relation of tenantRelations) {
      const row = (await truth(relation, world)).find((candidate) => !isPrivate(candidate, world));
      const at = `${relation.name}?${relation.key.map((column) => `${column}=eq.${encodeURIComponent(row[column])}`).join('&')}`;
      const change = JSON.stringify({ [relation.columns[0]]: row[relation.columns[0]] });
      for (const [method, path, body] of [
        ['GET', at],
        ['GET', `${relation.name}?select=*&${scopeOf(relation, world)}`],
        ['PATCH', at, change],
        ['DELETE', at],
        ['POST', relation.name, JSON.stringify(RELATIONS[relation.name]?.insert(world, { world }) ?? {})],
      ]) {
        const headers = { Prefer: 'return=representation' };
        const there = await request(world, caller, method, path, { body, headers });
        // A changed column keeps its value: only what the request names is another row.
        const nowhere = await request(world, caller, method, renamed(path), { body: method === 'POST' ? renamed(body) : body, headers });
        assert.equal(nowhere.status, there.status, `${method} ${path}: ${there.text} ${nowhere.text}`);
        assert.deepEqual(nowhere.body, there.body, `${method} ${path}`);
      }
    }
    for (const fn of found.functions.filter(({ name, signature }) => FUNCTIONS[signature] && !FOR_EVERYONE.includes(name))) {
      for (const [operation, body] of Object.entries(FUNCTIONS[fn.signature])) {
        const text = JSON.stringify(body(world));
        if (renamed(text) === text) continue;
        const there = await request(world, caller, 'POST', `rpc/${fn.name}`, { body: text });
        const nowhere = await request(world, caller, 'POST', `rpc/${fn.name}`, { body: renamed(text) });
        assert.equal(nowhere.status, there.status, `${fn.signature} ${operation}: ${there.text} ${nowhere.text}`);
        // An answer may repeat the ids that the request named.
        const told = JSON.parse(renamed(JSON.stringify(there.body ?? null)));
        assert.deepEqual(nowhere.body ?? null, told, `${fn.signature} ${operation}`);
      }
    }
  });
}

test('none of this changed a row of either organization', async () => {
  assert.deepEqual(await fingerprint(tables, world), hash);
});
