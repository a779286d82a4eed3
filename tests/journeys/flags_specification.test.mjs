// Unleash's specification of its clients: every case over HTTP (foundation_flags.test.mjs asks them in SQL). What the tables refuse
// to store cannot work, so the specification expects it to be off. flags.test.mjs stores flags as a member does; here the owner of
// the domain stores many at once, past policies and through the same triggers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { createKey } from './api_keys_support.mjs';
import { newPerson, setPlan, transaction } from './domain.mjs';
import { asExpected, OFF, SPECIFICATIONS, stateOf } from './flags_cases.mjs';
import { http } from './support.mjs';

const ID = '00000000-0000-4000-8000-000000000000';

/** Replaces the organization's flags by what can be stored of these; the names of those that cannot. */
const store = (org, { features, segments = [] }) =>
  transaction(async (query) => {
    const refusedFlags = new Set();
    const insert = async (table, row) => {
      const names = Object.keys(row);
      const isArray = (name) => name === 'segment_ids' || table === 'flag_dependencies';
      const values = names.map((name) => (typeof row[name] === 'object' && !isArray(name) ? JSON.stringify(row[name]) : row[name]));
      await query('savepoint one');
      try {
        const places = names.map((_, at) => `$${at + 2}`);
        const [{ id }] = await query(
          `insert into public.${table} (org_id, ${names.join(', ')}) values ($1, ${places.join(', ')}) returning id`,
          [org, ...values],
        );
        return id;
      } catch (error) {
        assert.match(error.code, /^(22000|23502|23514|KJ\w+)$/, error.message);
        await query('rollback to savepoint one');
        return null;
      }
    };
    for (const table of ['flag_dependencies', 'feature_flags', 'flag_segments'])
      await query(`delete from public.${table} where org_id = $1`, [org]);
    const segmentIds = new Map();
    for (const { id, name, constraints } of segments)
      segmentIds.set(id, await insert('flag_segments', { name: name ?? `segment ${id}`, constraints }));
    const ids = new Map();
    for (const { name, variants, strategies } of features) {
      const id = await insert('feature_flags', { name, variants: variants ?? [] });
      ids.set(name, id);
      if (!id) refusedFlags.add(name);
      for (const [position, strategy] of (id ? (strategies ?? []) : []).entries()) {
        const row = {
          flag_id: id,
          position,
          name: strategy.name,
          parameters: strategy.parameters ?? {},
          constraints: strategy.constraints ?? [],
          variants: strategy.variants ?? [],
          segment_ids: (strategy.segments ?? []).map((segment) => segmentIds.get(segment) ?? ID),
        };
        if (!(await insert('flag_strategies', row))) refusedFlags.add(name);
      }
    }
    // A flag that depends on others cannot be a parent: those that depend on such a flag come last, and are refused.
    const isChild = new Set(features.filter(({ dependencies }) => dependencies?.length > 0).map(({ name }) => name));
    const depth = ({ dependencies = [] }) => (dependencies.some(({ feature }) => isChild.has(feature)) ? 1 : 0);
    for (const { name, dependencies = [] } of features.toSorted((a, b) => depth(a) - depth(b)))
      for (const { feature: parent, enabled = true, variants = [] } of dependencies) {
        const flag_id = ids.get(name);
        const row = { flag_id, parent_id: ids.get(parent) ?? flag_id, enabled, variants };
        if (!(await insert('flag_dependencies', row))) refusedFlags.add(name);
      }
    const on = features.filter(({ name, enabled }) => enabled && !refusedFlags.has(name)).map(({ name }) => name);
    await query(`update public.feature_flags set enabled_in = '{production}' where org_id = $1 and name = any ($2)`, [org, on]);
    return refusedFlags;
  });

test('over HTTP, for an organization', async () => {
  const person = await newPerson();
  await setPlan(person.orgId, 'ENTERPRISE');
  // A member would be the user of a context without one.
  const { secret } = await createKey(person, { permissions: ['flags:evaluate'], rate_limit: 60000 });
  const ask = async (context) => {
    // The Frontend API fills in the address of the caller; an empty one is none.
    const body = { context: { remoteAddress: '', ...context } };
    const answer = await http('POST', '/api/v1/flags/frontend', { headers: { Authorization: secret }, body });
    assert.equal(answer.status, 200, answer.text);
    return new Map(answer.body.toggles.map((toggle) => [toggle.name, toggle]));
  };
  const unlike = [];
  let cases = 0;
  for (const specification of SPECIFICATIONS) {
    const refusedFlags = await store(person.orgId, stateOf(specification));
    const asked = new Map();
    const answer = ({ context, toggleName }) => {
      const text = JSON.stringify(context);
      if (!asked.has(text)) asked.set(text, ask(context));
      return asked.get(text).then((toggles) => toggles.get(toggleName));
    };
    const check = async (example, isExpected) => {
      cases += 1;
      const toggle = await answer(example);
      const { description, toggleName } = example;
      if (!isExpected(toggle)) unlike.push(`${specification.name}: ${description}${refusedFlags.has(toggleName) ? ' (refused)' : ''}`);
    };
    await Promise.all([
      ...(specification.tests ?? []).map((example) => check(example, (toggle) => (toggle !== undefined) === example.expectedResult)),
      ...(specification.variantTests ?? []).map((example) =>
        check(example, (toggle) => isDeepStrictEqual(toggle?.variant ?? OFF, asExpected(example.expectedResult))),
      ),
    ]);
  }
  assert.deepEqual(unlike, []);
  assert.ok(cases > 250, `${cases} cases`);
});
