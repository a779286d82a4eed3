// Writes that read nothing. A DELETE or UPDATE without a filter asks no policy for select, so those for delete and update alone decide
// which rows it reaches: they must not rely on what else hides a row. As SQL in one transaction that is rolled back; the API sends
// the same statements for a request without a filter.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { RELATIONS } from './cases.mjs';
import { disconnect, identifier, query, sql } from './db.mjs';
import { caseName, readExpected } from './expected.mjs';
import { relations } from './objects.mjs';
import { isAllowed } from './outcomes.mjs';
import { forgetPeople, makePeople } from './people.mjs';
import { isPrivate, makeWorld, removeWorld, scopeOf } from './world.mjs';

// Members of every role, and a former one. Those of no other organization: they have nothing that a statement may reach.
const CALLERS = ['viewer', 'member', 'admin', 'custom', 'removed'];
const { cases } = await readExpected();
const tables = (await relations()).filter(({ view, written }) => !view && written);
let people;
let world;

before(async () => {
  people = await makePeople();
  world = await makeWorld(people);
});
after(async () => {
  if (world) await removeWorld(world);
  await forgetPeople(people);
  await disconnect();
});

/** The organization's rows by where they are: an update moves a row, also if it changes nothing. */
async function rowsIn(relation) {
  const [column, value] =
    scopeOf(relation, world)
      .match(/^(\w+)=eq\.(.*)$/)
      ?.slice(1) ?? [];
  const { text } = sql`select t.ctid::text as place, to_jsonb(t) as row from ${identifier(relation.name)} as t`;
  const rows = await query(column ? `${text} where t.${column} = $1` : text, column ? [value] : []);
  return new Map(rows.map(({ place, row }) => [place, row]));
}

const asUser = (user) =>
  [
    sql`set local role none`,
    sql`set local session authorization authenticator`,
    sql`set local role authenticated`,
    sql`set local request.jwt.claims = ${JSON.stringify({ role: 'authenticated', sub: user.id, session_id: user.session })}`,
  ]
    .map(({ text }) => text)
    .join(';');

/** The rows that the statement reached: { reached: [row], code }. Nothing of it stays. */
async function reachedBy(relation, caller, statement) {
  await query('begin');
  try {
    const then = await rowsIn(relation);
    await query(asUser(people[caller]));
    try {
      await query(statement);
    } catch ({ code }) {
      return { reached: [], code };
    }
    await query('reset session authorization');
    const now = await rowsIn(relation);
    return { reached: [...then].filter(([place]) => !now.has(place)).map(([, row]) => row) };
  } finally {
    await query('rollback');
  }
}

/** Whether the matrix lets this caller write the row, by its line for shared rows, or for those of the private project. */
function may(relation, operation, caller, row) {
  const isOwn = [row.user_id, row.created_by, row.id].includes(people[caller].id);
  const secret = cases.get(caseName(relation.name, `${operation}:private`));
  const line = isPrivate(row, world) && secret ? secret : cases.get(caseName(relation.name, operation));
  return isOwn || isAllowed(line.words.get(caller));
}

const nameOf = (relation, row) => relation.key.map((column) => row[column]).join(' ');

/** Statements that would reach every row: { delete, update }, where there is a column that somebody may update. */
function statementsOf(relation, row) {
  const name = identifier(relation.name);
  const [column] = Object.keys(RELATIONS[relation.name]?.update?.(world, { world, row, user: people.owner.id }) ?? {});
  return {
    delete: sql`delete from ${name}`.text,
    ...(column && { update: `${sql`update ${name}`.text} set ${column} = ${column}` }),
  };
}

for (const relation of tables) {
  test(relation.name, async () => {
    const [row] = (await rowsIn(relation)).values();
    assert.ok(row, `${relation.name}: the fixture has no row (tests/access/rows.mjs)`);
    for (const [operation, statement] of Object.entries(statementsOf(relation, row))) {
      for (const caller of CALLERS) {
        const { reached } = await reachedBy(relation, caller, statement);
        assert.deepEqual(
          reached.filter((one) => !may(relation, operation, caller, one)).map((one) => nameOf(relation, one)),
          [],
          `${caller} reached rows that tests/access/matrix.txt denies: ${statement}`,
        );
      }
    }
  });
}

test('somebody reaches something: the statements run', async () => {
  const { reached, code } = await reachedBy(
    tables.find(({ name }) => name === 'skills'),
    'admin',
    'delete from public.skills',
  );
  assert.ok(reached.length > 0, code);
});
