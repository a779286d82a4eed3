// Reads: every table and view by every column, operator, order, range, count, format and preference, and every embedding.
// Each function yields requests { subject, method, path, headers, body } for one attacker.
import { Random } from './random.mjs';
import { plain, spelled } from './values.mjs';

const OPERATORS = {
  any: ['eq', 'neq', 'gt', 'gte', 'lt', 'lte', 'not.eq', 'not.in', 'in', 'isdistinct', 'is.null', 'not.is.null'],
  text: ['like', 'ilike', 'match', 'imatch', 'like(any)', 'ilike(all)', 'fts', 'plfts', 'phfts', 'wfts(english)', 'not.like'],
  set: ['cs', 'cd', 'ov', 'not.cs'],
  range: ['sl', 'sr', 'nxl', 'nxr', 'adj'],
};
const FITS = { text: /text|character/, set: /json|\[\]/, range: /range/ };
const COUNTS = ['exact', 'planned', 'estimated', ' "planned"', 'PLANNED'];
const FORMATS = [
  'text/csv',
  'application/geo+json',
  'application/vnd.pgrst.object+json',
  'application/vnd.pgrst.object+json;nulls=stripped',
  'application/vnd.pgrst.array+json;nulls=stripped',
  'application/vnd.pgrst.plan+json; options=analyze|verbose|settings|buffers',
  'application/vnd.pgrst.plan+text; for="application/json"',
  'application/octet-stream',
  'text/plain',
  'text/xml',
  'application/openapi+json',
];
const PREFERENCES = [
  'return=representation, count=exact',
  'return=headers-only, handling=strict',
  'handling=lenient, timezone=Europe/Amsterdam',
  'tx=rollback, return=representation',
  'tx=commit',
  'params=multiple-objects',
  'missing=default, max-affected=1, handling=strict',
  'resolution=ignore-duplicates',
];
const SCHEMAS = ['private', 'kijko', 'auth', 'auth_api', 'storage', 'realtime', 'pg_catalog', 'information_schema', 'cron'];

const uri = encodeURIComponent;
const get = (subject, query, headers, method = 'GET') => ({
  subject,
  method,
  path: `/rest/v1/${subject}${query && `?${query}`}`,
  headers,
  subjectNeedsToken: true,
});

// These compare, so that an answer depends on the value although it shows the caller's own rows only.
const ORDERS = /^(not\.)?(gt|gte|lt|lte|neq|isdistinct)$|^not\./;

/** What a filter says: the operator and the value in its spelling. */
function filter(operator, value, column) {
  const text = spelled(value)
    .replaceAll(/[,(){}"\\*]/g, ' ')
    .trim();
  const [name] = operator.split('(');
  if (/^(not\.)?is\./.test(operator)) return operator;
  if (name.endsWith('in')) return `${operator}.(${uri(`"${text}"`)})`;
  if (operator.includes('(any)') || operator.includes('(all)')) return `${operator}.{${uri(`${text.slice(0, 12)}*`)}}`;
  if (name.endsWith('like')) return `${operator}.${uri(`*${text.slice(-14)}*`)}`;
  if (OPERATORS.set.includes(operator)) return `${operator}.${uri(column.type.startsWith('json') ? JSON.stringify(value) : `{"${text}"}`)}`;
  if (OPERATORS.range.includes(operator)) return `${operator}.${uri('[1,2]')}`;
  return `${operator}.${uri(/^(json|.*\[\]$)/.test(column.type) ? spelled(value) : text)}`;
}

/** The victim's values of a column, as texts; something if it has none. */
function valueFrom(rows, name, column, random) {
  const values = (rows[`public.${name}`] ?? []).map((row) => row[column.name]).filter((value) => value !== null && value !== undefined);
  return values.length > 0 ? random.pick(values) : plain(column.type);
}

/** The ways in which a request can ask for the victim's rows of a table. */
function scopes({ world, rows }, { name, columns }) {
  const has = (column) => columns.some((each) => each.name === column);
  const id = rows[`public.${name}`]?.[0]?.id;
  return [
    ...(has('org_id') ? [`org_id=eq.${world.org}`] : []),
    ...(has('id') && id ? [`id=eq.${uri(id)}`, `id=in.(${uri(id)},00000000-0000-0000-0000-000000000000)`] : []),
    ...(name === 'organizations' ? [`id=eq.${world.org}`] : []),
  ];
}

/** A few requests that any attacker sends: all rows, and the victim's. */
export function* briefReads(context, relation) {
  yield get(relation.name, 'select=*');
  if (context.attacker?.refused) return;
  for (const scope of scopes(context, relation).slice(0, 1)) yield get(relation.name, `select=*&${scope}`, { Prefer: 'count=exact' });
}

/** All reads of one table. A shallow attacker takes a sample, another one than its neighbours. */
export function* reads(context, relation) {
  const { world, rows, attacker } = context;
  const { name, columns } = relation;
  const random = new Random('reads', name, attacker.name);
  const some = (list) => random.share(list, attacker.depth);
  const asked = scopes(context, relation);
  const scope = asked[0] ? `&${asked[0]}` : '';
  yield get(name, 'select=*');
  for (const one of asked) yield get(name, `select=*&${one}`, { Prefer: 'count=exact' });
  yield get(name, `select=*${scope}`, { 'x-org-id': world.org });
  yield get(name, `select=*&limit=1&offset=1${scope}`, { Range: '0-4', 'Range-Unit': 'items' });
  for (const column of some(columns)) yield get(name, `select=${uri(column.name)}${scope}`);
  for (const operator of some(Object.values(OPERATORS).flat())) {
    const kind = Object.keys(OPERATORS).find((each) => OPERATORS[each].includes(operator));
    const fit = columns.filter(({ type }) => kind === 'any' || FITS[kind].test(type));
    if (fit.length === 0) continue;
    const column = random.pick(fit);
    const said = `${uri(column.name)}=${filter(operator, valueFrom(rows, name, column, random), column)}`;
    yield { ...get(name, `select=*&${said}`, { Prefer: `count=${random.pick(COUNTS)}` }), orders: ORDERS.test(operator) };
  }
  const [column, other, third] = [random.pick(columns), random.pick(columns), random.pick(columns)];
  const value = filter('eq', valueFrom(rows, name, column, random), column);
  yield get(name, `select=*&or=(${column.name}.${value},and(${other.name}.is.null,${third.name}.not.is.null))`);
  yield get(name, `select=*&order=${other.name}.desc.nullslast,${third.name}.asc${scope}`);
  yield get(name, `select=kanary:${column.name}::text,${other.name}->>a,${third.name}->0${scope}`);
  yield get(name, `select=count(),${column.name}.max(),${other.name}.count()`);
  for (const count of some(COUNTS)) yield get(name, `select=*${scope}`, { Prefer: `count=${count}` }, 'HEAD');
  for (const format of some(FORMATS)) yield get(name, `select=*${scope}`, { Accept: format });
  for (const preference of some(PREFERENCES)) yield get(name, `select=*${scope}`, { Prefer: preference });
  yield get(name, 'select=*', { 'Accept-Profile': random.pick(SCHEMAS) });
}

/** Embeddings of one relationship: plain, as a filter on the victim's row, spread, and only counted. */
export function* embeds({ world, surface, attacker }, { parent, child }) {
  const subject = `${parent}+${child}`;
  yield { ...get(parent, `select=*,e:${child}(*)`), subject };
  const target = surface.relations.find(({ name }) => name === child.split('!')[0]);
  if (!target) return;
  const named = `e.${target.columns.some(({ name }) => name === 'org_id') ? 'org_id' : 'id'}=eq.${world.org}`;
  const others = [
    get(parent, `select=*,e:${child}!inner(*)&${named}`, { Prefer: 'count=exact' }),
    get(parent, `select=${surface.relations.find(({ name }) => name === parent).columns[0].name},...${child}(*)`),
    get(parent, `select=*,e:${child}()&e=not.is.null&${named}`, { Prefer: 'count=exact' }, 'HEAD'),
  ];
  const random = new Random('embeds', subject, attacker.name);
  for (const one of random.share(others, attacker.depth)) yield { ...one, subject };
}

/** Names that are no table or schema of the API. */
export function* hiddenReads({ hidden }) {
  for (const { schema, name } of hidden)
    yield { ...get(name, 'select=*', { 'Accept-Profile': schema }), subject: `${schema}.${name}`, subjectNeedsToken: false };
}
