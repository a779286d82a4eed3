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

const VARIANTS = `insert into public.flag_variants (org_id, flag_id, position, name, weight, weight_type, stickiness, payload, overrides)
  select $1, $2, v.place, v.value ->> 'name', (v.value ->> 'weight')::integer, v.value ->> 'weightType', v.value ->> 'stickiness',
    v.value -> 'payload', coalesce(v.value -> 'overrides', '[]')
  from jsonb_array_elements($3::jsonb) with ordinality as v (value, place)`;
const SEGMENT = `with segment as (insert into public.flag_segments (org_id, name) values ($1, $2) returning id),
  constraints as (
    insert into public.flag_constraints (org_id, segment_id, position, context_name, operator, "values", value, inverted, case_insensitive)
    select $1, s.id, c.place, c.context_name, c.operator, c."values", c.value, c.inverted, c.case_insensitive
    from segment as s, private.flags_read_constraints($3) as c
  )
  select id from segment`;
const STRATEGIES = `select private.flags_apply(f, 'production', jsonb_build_object('strategies', $3::jsonb))
  from public.feature_flags as f where f.org_id = $1 and f.id = $2`;

/** Replaces the organization's flags by what can be stored of these; the names of those that cannot. */
const store = (org, { features, segments = [] }) =>
  transaction(async (query) => {
    const refusedFlags = new Set();
    /** Whether the database took it; its first row, if it has any. */
    const attempt = async (text, values) => {
      await query('savepoint one');
      try {
        return (await query(text, [org, ...values]))[0] ?? true;
      } catch (error) {
        assert.match(error.code, /^(22000|22P02|23502|23503|23505|23514|KJ\w+)$/, error.message);
        await query('rollback to savepoint one');
        return null;
      }
    };
    for (const table of ['flag_dependencies', 'feature_flags', 'flag_segments'])
      await query(`delete from public.${table} where org_id = $1`, [org]);
    const segmentIds = new Map();
    for (const { id, name, constraints } of segments)
      segmentIds.set(id, (await attempt(SEGMENT, [name ?? `segment ${id}`, JSON.stringify(constraints)]))?.id);
    const ids = new Map();
    for (const { name, variants, strategies } of features) {
      const id = (await attempt('insert into public.feature_flags (org_id, name) values ($1, $2) returning id', [name]))?.id;
      ids.set(name, id);
      const given = (strategies ?? []).map(({ segments: named, ...strategy }) => ({
        ...strategy,
        segment_ids: (named ?? []).map((segment) => segmentIds.get(segment) ?? ID),
      }));
      const parts = [
        [VARIANTS, variants ?? []],
        [STRATEGIES, given],
      ];
      if (!id) refusedFlags.add(name);
      for (const [text, list] of parts)
        if (id && list.length > 0 && !(await attempt(text, [id, JSON.stringify(list)]))) refusedFlags.add(name);
    }
    // A flag that depends on others cannot be a parent: those that depend on such a flag come last, and are refused.
    const isChild = new Set(features.filter(({ dependencies }) => dependencies?.length > 0).map(({ name }) => name));
    const depth = ({ dependencies = [] }) => (dependencies.some(({ feature }) => isChild.has(feature)) ? 1 : 0);
    for (const { name, dependencies = [] } of features.toSorted((a, b) => depth(a) - depth(b)))
      for (const { feature: parent, enabled = true, variants = [] } of dependencies) {
        const flag_id = ids.get(name);
        const row = [flag_id, ids.get(parent) ?? flag_id, enabled, variants];
        const text = 'insert into public.flag_dependencies (org_id, flag_id, parent_id, enabled, variants) values ($1, $2, $3, $4, $5)';
        if (!(await attempt(text, row))) refusedFlags.add(name);
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
