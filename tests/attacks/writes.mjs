// Writes: rows put into the victim's organization, below its rows or over them, and changes and deletions of what is there.
import { randomUUID } from 'node:crypto';
import { RELATIONS } from '../access/cases.mjs';
import { Random } from './random.mjs';

const uri = encodeURIComponent;
const RETURN = 'return=representation';

/** A new row of the stranger's own organization: the body of the access matrix, or its own row once more. */
function ownRow({ world, ownRows }, { name, columns, key }, attacker) {
  const made = RELATIONS[name]?.insert?.(world.other, { world, user: attacker.user });
  const row = made ?? ownRows[`public.${name}`]?.[0] ?? {};
  return Object.fromEntries(
    Object.entries(row).filter(([column]) => made || (columns.some((one) => one.name === column) && !key.includes(column))),
  );
}

/** A few requests that any attacker sends; one that is refused before its request is read sends one. */
export function* briefWrites({ world, rows, attacker }, relation) {
  const row = rows[`public.${relation.name}`]?.[0];
  if (!row) return;
  const write = writer(relation.name);
  yield write('PATCH', `?${at(relation, row)}`, { [relation.columns[0].name]: row[relation.columns[0].name] }, RETURN);
  if (attacker.refused) return;
  yield write('POST', '', { ...withoutNulls(row), ...(row.id && { id: freshLike(row.id) }) }, RETURN);
  yield write('DELETE', `?${at(relation, row)}`, undefined, RETURN);
  if (row.org_id) yield write('DELETE', `?org_id=eq.${world.org}`, undefined, RETURN);
  if (!attacker.person?.owns) return;
  // Without a filter, and without the row in the answer, Postgres asks no policy for reading. This attacker has no rows to lose.
  yield write('DELETE', '', undefined, 'return=minimal');
  for (const column of new Random('all', relation.name).sample(relation.columns, 3)) {
    yield write('PATCH', '', { [column.name]: row[column.name] }, 'return=minimal');
  }
}

export function* writes(context, relation) {
  const { world, rows, ownRows, attacker } = context;
  const { name, columns, key } = relation;
  const write = writer(name);
  const random = new Random('writes', name, attacker.name);
  const victims = rows[`public.${name}`] ?? [];
  const mine = ownRows[`public.${name}`]?.[0];
  const own = ownRow(context, relation, attacker);
  yield* briefWrites(context, relation);
  // Into the victim's organization.
  yield write('POST', '', { ...own, org_id: world.org }, RETURN);
  yield write('POST', '', { ...own, org_id: world.org }, 'return=minimal');
  yield write('POST', '', { ...own, org_id: world.org }, 'return=minimal', { 'x-org-id': world.org });
  yield write(
    'POST',
    `?columns=${columns.map((column) => uri(column.name)).join()}`,
    [own, { ...own, org_id: world.org }],
    `${RETURN}, missing=default`,
  );
  // Below the victim's rows: every column that refers to another row, or might.
  for (const column of random.share(columns, attacker.depth)) {
    const targets = victims.map((row) => row[column.name]).filter((value) => typeof value === 'string');
    if (targets.length === 0) continue;
    const value = random.pick(targets);
    if (column.foreign || column.type === 'uuid') {
      yield write('POST', '', { ...own, [column.name]: value }, RETURN);
      if (mine) yield write('PATCH', `?${at(relation, mine)}`, { [column.name]: value }, RETURN);
    } else {
      // A value that must be unique says whether the victim has it.
      yield write('POST', '', { ...own, [column.name]: value }, RETURN);
    }
  }
  for (const row of random.sample(victims, attacker.depth > 0.5 ? 2 : 1)) {
    const there = at(relation, row);
    const keys = Object.fromEntries(key.map((column) => [column, row[column]]));
    // Over the victim's row.
    for (const resolution of ['merge-duplicates', 'ignore-duplicates']) {
      yield write('POST', `?on_conflict=${key.map(uri).join()}`, { ...own, ...keys }, `${RETURN}, resolution=${resolution}`);
      yield write('POST', `?on_conflict=${key.map(uri).join()}`, withoutNulls(row), `${RETURN}, resolution=${resolution}`);
    }
    yield write('PUT', `?${there}`, { ...withoutNulls(row), ...keys }, RETURN);
    // The row itself: column by column, out of its organization, and by filters.
    for (const column of random.sample(columns, 6)) {
      yield write(
        'PATCH',
        `?${there}`,
        { [column.name]: typeof row[column.name] === 'string' ? `${row[column.name]}x` : row[column.name] },
        RETURN,
      );
    }
    yield write('PATCH', `?${there}`, { org_id: world.other.org }, `${RETURN}, count=exact`);
    yield write('PATCH', `?${there}&select=*`, { updated_at: '2020-01-01T00:00:00Z' }, `${RETURN}, max-affected=1, handling=strict`);
    const filter = random.pick(columns.filter((column) => typeof row[column.name] === 'string') ?? columns);
    if (filter)
      yield write('DELETE', `?${filter.name}=eq.${uri(row[filter.name])}`, undefined, `${RETURN}, count=exact`, { 'x-org-id': world.org });
  }
  const first = victims[0];
  if (first)
    yield write(
      'PATCH',
      `?or=(${key[0] ?? columns[0].name}.eq.${uri(first[key[0] ?? columns[0].name])},org_id.eq.${world.org})`,
      { org_id: world.other.org },
      RETURN,
    );
}

/** Writes of a colleague: only to the rows of a private project, since others it may change. */
export function* colleagueWrites(context, relation) {
  const { hiddenRows } = context;
  const write = writer(relation.name);
  for (const row of (hiddenRows[`public.${relation.name}`] ?? []).slice(0, 2)) {
    const there = at(relation, row);
    for (const column of new Random('colleague', relation.name).sample(relation.columns, 4)) {
      const value = row[column.name];
      yield write('PATCH', `?${there}`, { [column.name]: typeof value === 'string' ? `${value}x` : value }, RETURN);
    }
    yield write('POST', `?on_conflict=${relation.key.join()}`, withoutNulls(row), `${RETURN}, resolution=merge-duplicates`);
    yield write('DELETE', `?${there}`, undefined, RETURN);
  }
}

const writer = (subject) => (method, query, body, prefer, headers) => ({
  subject,
  method,
  path: `/rest/v1/${subject}${query}`,
  body: body === undefined ? undefined : JSON.stringify(body),
  headers: { Prefer: prefer, ...headers },
  subjectNeedsToken: true,
});

const at = ({ key, columns }, row) =>
  (key.length > 0 ? key : [columns[0].name]).map((column) => `${uri(column)}=eq.${uri(row[column])}`).join('&');

const withoutNulls = (row) => Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
const freshLike = (id) => (/^[0-9a-f-]{36}$/.test(id) ? randomUUID() : id);
