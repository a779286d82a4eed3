// Calls of every function: the victim's ids and names in each argument, alone, in lists and inside JSON.
import { FUNCTIONS } from '../access/cases.mjs';
import { Random } from './random.mjs';
import { plain, spelled } from './values.mjs';

/** A call. Functions that the document shows without a body are called with an empty one. */
const call = (name, body, headers) => ({
  subject: `rpc/${name}`,
  method: 'POST',
  path: `/rest/v1/rpc/${name}`,
  body: JSON.stringify(body),
  headers,
  subjectNeedsToken: true,
});

/** Arguments that a function of the access matrix takes, by its name: of each signature and case. */
const casesOf = (name) => Object.entries(FUNCTIONS).filter(([signature]) => signature.split('(')[0] === name);

/** The signatures of a function: that of the document, and those of the matrix, of which the document shows one for each name. */
function signaturesOf({ name, args }) {
  const known = new Map(args.map((arg) => [arg.name, arg]));
  const others = casesOf(name)
    .map(([signature]) =>
      signature
        .match(/\((.*)\)$/)[1]
        .split(',')
        .filter(Boolean),
    )
    .filter((names) => names.some((one) => !known.has(one)));
  return [args, ...others.map((names) => names.map((one) => known.get(one) ?? { name: one, type: 'text', required: false }))];
}

/** The victim's values for an argument, the likeliest first. */
function* valuesFor({ name, type = 'text' }, { ids, texts, tables, relations, rows }, random, depth) {
  const likely = name.replace(/_ids?$/, '');
  const named = ids.filter(({ kind }) => kind === likely || kind.endsWith(likely));
  const others = random.sample(
    ids.filter((each) => !named.includes(each)),
    depth - named.length,
  );
  const every = [...named, ...others].map(({ id }) => id);
  const row = relations.get(type.replace(/^public\./, ''));
  if (row) yield* random.sample(rows[`public.${row.name}`] ?? [], 2);
  else if (type === 'uuid') yield* every;
  else if (type === 'uuid[]') yield* [ids.map(({ id }) => id), [every[0]]];
  else if (/\[\]$|^array/.test(type)) yield* [every.slice(0, 20), texts.slice(0, 5)];
  else if (/^json/.test(type)) {
    const idOf = (key) => (ids.find(({ kind }) => kind === key.replace(/_id$/, '')) ?? random.pick(ids)).id;
    const nested = Object.fromEntries(['id', 'org_id', 'project_id', 'skill_id', 'user_id'].map((key) => [key, idOf(key)]));
    yield* [nested, [nested], { ...nested, ids: every.slice(0, 10), a: { b: [nested] }, data: nested }];
  } else if (/^(text|character|name|citext)/.test(type)) {
    yield* [
      ...(/mail|address|user|name/.test(name)
        ? random.sample(
            texts.filter((text) => text.includes('@')),
            3,
          )
        : []),
      ...random.sample(texts, Math.ceil(depth / 2)),
      ...random.sample(ids, 3).map(({ id }) => id),
      random.pick(tables),
      `' or true --`,
    ];
  } else if (type === 'boolean') yield* [true, false];
  else if (/^(integer|bigint|smallint|numeric)/.test(type)) yield* [0, 1, 2_147_483_647];
}

/** A few requests that any attacker sends: the function without arguments, and with the victim's. */
export function* briefCalls(context, { name, args }) {
  const { victim, attacker } = context;
  const [[, cases] = []] = casesOf(name);
  if (cases) yield call(name, Object.values(cases)[0](victim, attacker.caller));
  else yield call(name, bodyOf(args, context, new Random('brief', name)));
}

/** All required arguments, the victim's wherever a value can be the victim's. */
function bodyOf(args, context, random) {
  return Object.fromEntries(
    args.filter(({ required }) => required).map((arg) => [arg.name, valuesFor(arg, context, random, 4).next().value ?? plain(arg.type)]),
  );
}

export function* calls(context, fn, depth = Math.ceil(context.attacker.depth * 14)) {
  const { world, attacker, victim } = context;
  const random = new Random('calls', fn.name, attacker.name);
  yield call(fn.name, {});
  for (const [, cases] of casesOf(fn.name)) {
    for (const body of Object.values(cases)) {
      yield call(fn.name, body(victim, attacker.caller));
      yield call(fn.name, body(victim, attacker.caller), { 'x-org-id': world.org, Prefer: 'params=multiple-objects' });
    }
  }
  for (const args of signaturesOf(fn)) {
    const required = bodyOf(args, context, random);
    yield call(fn.name, required, { Prefer: 'count=planned' });
    for (const arg of args) {
      for (const value of valuesFor(arg, context, random, depth)) yield call(fn.name, { ...required, [arg.name]: value });
    }
    // What the function of a stable kind answers by GET, and what its rows can be filtered and embedded by.
    if (fn.get && !args.some(({ type }) => context.relations.has(type?.replace(/^public\./, '')))) {
      const query = Object.entries(required).map(([name, value]) => `${name}=${encodeURIComponent(spelled(value))}`);
      yield { ...call(fn.name, {}), method: 'GET', body: undefined, path: `/rest/v1/rpc/${fn.name}?${query.join('&')}` };
    }
    yield { ...call(fn.name, required), path: `/rest/v1/rpc/${fn.name}?select=*&org_id=eq.${world.org}` };
  }
}
