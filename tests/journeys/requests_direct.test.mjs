// What the sidecar asks without PostgREST: the same functions, and the same answers.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { newPerson } from './domain.mjs';
import { as, json, raw } from './raw_http.mjs';
import { adminSql, env } from './support.mjs';

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const source = read('sidecar/src/api/functions.rs');
const migration = read('supabase/migrations/20261122040500_llm_authorize.sql');

/** The statement that calls a function: in Rust, or in the function of the migrations that Rust names. */
const statement = (text) => {
  const name = text.match(/"select (private\.\w+)\(\$1, \$2\)"/)?.[1];
  return name ? migration.slice(migration.indexOf(`create function ${name}(`)) : text;
};

/** Each function of the list in Rust: its arguments by kind, the types that it reads, and what it passes on. */
const FUNCTIONS = source
  .slice(0, source.indexOf('#[cfg(test)]'))
  .split(/^ {4}Function \{$/m)
  .slice(1)
  .map((text) => {
    const list = (field) => {
      const [, names] = text.match(new RegExp(`^ {8}${field}: &\\[(.*?)\\],$`, 'ms'));
      return [...names.matchAll(/"(\w+)"/g)].map(([, name]) => name);
    };
    const sql = statement(text);
    const passed = sql.matchAll(/\b(\w+) => (?:a\.(\w+)|coalesce\(a\.(\w+), ([^()]+)\))/g);
    return {
      name: text.match(/^ {8}name: "(\w+)",$/m)[1],
      called: sql.match(/public\.(\w+)\(/)[1],
      required: list('required'),
      optional: list('optional'),
      withDefault: list('with_default'),
      types: Object.fromEntries(
        sql
          .match(/ as a \(([^()]+)\)/)[1]
          .split(',')
          .map((column) => column.trim().split(' ')),
      ),
      passed: [...passed].map(([, name, plain, guarded, value]) => ({ name, from: plain ?? guarded, value })),
    };
  });

const DECLARED = `
  select name, format_type(type, null) as type, ordinal > p.pronargs - p.pronargdefaults as has_default,
    pg_get_function_arg_default(p.oid, ordinal::integer) as default
  from pg_proc as p, unnest(p.proargtypes::oid[], p.proargnames[1:p.pronargs]) with ordinality as a (type, name, ordinal)
  where p.oid = $1::regproc order by ordinal`;

test('its list has the arguments, types and defaults of the database', async () => {
  assert.deepEqual(
    FUNCTIONS.map(({ name }) => name),
    ['authorize_llm_call', 'search_symbols'],
  );
  for (const { name, called, required, optional, withDefault, types, passed } of FUNCTIONS) {
    assert.equal(called, name);
    const declared = await adminSql(DECLARED, [`public.${name}`]);
    const names = declared.map((argument) => argument.name).sort();
    assert.ok(names.length >= 9, `${name}: ${names}`);
    assert.deepEqual([...required, ...optional, ...withDefault].sort(), names, name);
    assert.deepEqual(types, Object.fromEntries(declared.map((argument) => [argument.name, argument.type])), name);
    assert.deepEqual(passed.map((argument) => argument.name).sort(), names, name);
    for (const argument of declared) {
      const where = `${name}: ${argument.name}`;
      const { from, value } = passed.find((one) => one.name === argument.name);
      assert.equal(from, argument.name, where);
      assert.equal(required.includes(argument.name), !argument.has_default, where);
      assert.equal(withDefault.includes(argument.name), value !== undefined, where);
      if (argument.has_default) {
        const [{ same }] = await adminSql(
          `select (${value ?? 'null'})::${argument.type} is not distinct from (${argument.default})::${argument.type} as same`,
        );
        assert.ok(same, `${where}: ${value ?? null} instead of ${argument.default}`);
      }
    }
  }
});

describe('a search of symbols is answered as by PostgREST', () => {
  let person;
  before(async () => {
    person = await newPerson('PRO');
  });
  /** Status, code, details and hint of the sidecar's answer, which must be PostgREST's. */
  const both = async (headers, body) => {
    const answers = [];
    for (const path of ['/rest/v1/rpc/search_symbols', '/api/v1/symbols/search']) {
      const sent = [...headers, Object.entries(json)[0]];
      const { status, body: answer } = await raw('POST', env.API_URL, path, sent, JSON.stringify(body));
      answers.push({ status, code: answer?.code, details: answer?.details, hint: answer?.hint });
    }
    assert.deepEqual(answers[1], answers[0], JSON.stringify(body));
    return [answers[1].status, answers[1].code];
  };

  test('without a required argument, with an unknown one, with null for a default', async () => {
    const owner = as(person.token);
    assert.deepEqual(await both(owner, {}), [404, 'PGRST202']);
    assert.deepEqual(await both(owner, { n: 5 }), [404, 'PGRST202']);
    assert.deepEqual(await both(owner, { q: 'a', m: 1 }), [404, 'PGRST202']);
    assert.equal((await both(owner, { q: 'a', n: null }))[0] < 500, true);
    assert.deepEqual(await both(owner, { q: 'a' }), [200, undefined]);
  });

  test('with the anon key, and with a value that is none of its type', async () => {
    assert.deepEqual(await both(as(env.ANON_KEY), { q: 'a' }), [401, '42501']);
    assert.deepEqual(await both(as(person.token), { q: 'a', repository_id: 'b' }), [400, '22P02']);
  });

  test('with an x-org-id that is not ASCII', async () => {
    for (const more of ['\xc3\xa9', '\xe9']) {
      const headers = as(person.token, ['x-org-id', `${person.orgId}${more}`]);
      assert.deepEqual(await both(headers, { q: 'a' }), [400, 'bad_request']);
    }
  });
});
