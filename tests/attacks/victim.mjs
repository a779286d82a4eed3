// The victim's rows, in every table of every schema: marked before the attacks, and compared afterwards. The catalog says which
// tables there are and how rows are tied to the tenant, so a new table is covered as soon as the fixture has a row of it.
import { query } from '../access/db.mjs';

/** Each marked value is its own, so that an answer that has one says which column it came from. */
const WORD = 'kanary';
const WORDS = /kanary[0-9a-f]{12}/g;
const NUMBERS = /(?<![\d.])7741\d{5}(?![\d.])/g;
const UUIDS = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
// Hashes, tokens, addresses of mail: what nobody guesses. A word without a digit is a name of the product.
const LONG = /(?=[\w\-+/=.\\@]*\d)[\w\-+/=.\\@]{20,}/g;
const TIME = /^\d{4}-\d\d-\d\d/;

const newWord = `'${WORD}' || substr(md5(random()::text), 1, 12)`;
// How a text is marked, the mildest way first: a check or trigger may want an address or a name.
const TEXTS = [
  `v || ' ' || ${newWord}`,
  `v || ${newWord}`,
  newWord,
  `'https://' || ${newWord} || '.example.com'`,
  `${newWord} || '@example.com'`,
].map((text) => text.replaceAll('v ||', '%1$I ||'));
const WAYS = {
  text: TEXTS,
  jsonb: [`%1$I || jsonb_build_object(${newWord}, ${newWord})`],
  number: [`774100000 + nextval('pg_temp.marks')::integer`],
};

// Marks each column of each table of the API that is part of no key. Nulls stay: they say in which state a row is. So do sizes,
// by whose sum schedules clear the oldest payloads.
const MARK = `
create temporary sequence if not exists marks maxvalue 99999;
do $mark$
declare
  col record;
  way text;
begin
  for col in
    select c.relname, a.attname, case when t.typcategory = 'S' then 'text' when t.typname = 'jsonb' then 'jsonb' else 'number' end as kind
    from pg_class as c
    join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = ''
    join pg_type as t on t.oid = a.atttypid and (t.typcategory = 'S' or t.typname in ('jsonb', 'int4', 'int8', 'numeric'))
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and a.attname !~ '_bytes$'
      and exists (select from pg_attribute as o where o.attrelid = c.oid and o.attname = 'org_id')
      and not exists (select from pg_constraint as k where k.conrelid = c.oid and k.contype in ('p', 'f') and a.attnum = any (k.conkey))
      and not exists (select from pg_constraint as k where k.confrelid = c.oid and k.contype = 'f' and a.attnum = any (k.confkey))
    union all
    select 'organizations', 'name', 'text'
  loop
    foreach way in array case col.kind when 'text' then $ways$TEXT$ways$::text[] when 'jsonb' then $ways$JSONB$ways$::text[] else $ways$NUMBER$ways$::text[] end loop
      begin
        execute format('update public.%2$I set %1$I = ' || way || ' where ' || case col.relname when 'organizations' then 'id' else 'org_id' end
          || ' = $1 and %1$I is not null', col.attname, col.relname) using ORG::uuid;
        exit;
      exception when others then null; -- a check or trigger wants another form: the next way, or none
      end;
    end loop;
  end loop;
  -- Marking a skill queues its check, which the stack's worker would run while the attacks do.
  delete from public.jobs where org_id = ORG::uuid and kind = 'skill_check';
end
$mark$`;

const arrayOf = (texts) => `{${texts.map((text) => `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`).join(',')}}`;

/** Gives every column of the tenant's rows a value of its own, where its checks and triggers accept one. */
export async function mark(org) {
  const text = MARK.replace('TEXT', () => arrayOf(WAYS.text))
    .replace('JSONB', () => arrayOf(WAYS.jsonb))
    .replace('NUMBER', () => arrayOf(WAYS.number))
    .replaceAll('ORG', () => `'${org}'`);
  await query(text);
}

// Everything but Postgres' own, and the schedules, with the columns that name rows. `org`: the column that says whose a row is.
const TABLES = `
  select n.nspname || '.' || c.relname as name, c.oid::regclass::text as quoted,
    (select quote_ident(a.attname) from pg_attribute as a where a.attrelid = c.oid and a.attname in ('org_id', 'organization', 'org')) as org,
    array(select quote_ident(a.attname) from pg_attribute as a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype) as ids,
    array(select quote_ident(a.attname) from pg_attribute as a join pg_type as t on t.oid = a.atttypid
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and t.typcategory = 'S') as texts
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'cron')
  order by 1`;

/**
 * The tenant's rows of every table: { name of the table: [row, …] }. A row is the tenant's if its organization is, or, in a table
 * without one, if a column names one of `ids`, alone or at the beginning of a path or a topic.
 */
export async function rowsOf(org, ids) {
  // Compiling a statement about all tables takes longer than its work.
  await query('set jit = off');
  const list = `'{${ids.join()}}'`;
  const parts = (await query(TABLES)).map(({ name, quoted, org: column, ids: uuids, texts }) => {
    const named = [
      ...uuids.map((each) => `t.${each} = any (${list}::uuid[])`),
      ...texts.flatMap((each) => [`left(t.${each}::text, 36) = any (${list})`, `split_part(t.${each}::text, ':', 2) = any (${list})`]),
      'false',
    ];
    const own = column ? `(t.${column}::text = '${org}' or t.${column} is null)` : 'true';
    return `select '${name}' as name, to_jsonb(t) as row from ${quoted} as t where ${own} and (${named.join(' or ')})`;
  });
  const found = {};
  for (const { name, row } of await query(parts.join('\nunion all\n'))) (found[name] ??= []).push(row);
  return found;
}

/** All ids by which the tenant's rows are tied to each other: those of `ids`, and of the rows that name them. */
export async function idsOf(org, ids) {
  const all = new Set(ids);
  for (const row of Object.values(await rowsOf(org, ids)).flat()) if (isUuid(row.id) && isOwn(row, org)) all.add(row.id);
  return [...all];
}

const isUuid = (value) => typeof value === 'string' && value.match(UUIDS)?.[0] === value;
const isOwn = (row, org) => row.org_id === undefined || row.org_id === org;

/** What an answer, or a request, has of the kinds of values that canaries are. */
export function tokensOf(text) {
  const low = text.toLowerCase();
  return new Set([...(low.match(UUIDS) ?? []), ...(low.match(WORDS) ?? []), ...(low.match(NUMBERS) ?? []), ...(low.match(LONG) ?? [])]);
}

const leaves = (value) => (value !== null && typeof value === 'object' ? Object.entries(value).flat().flatMap(leaves) : [value]);

/** The values of rows that only they have: token to the column where it was found. */
function tokensIn(rows) {
  const found = new Map();
  for (const [table, list] of Object.entries(rows)) {
    for (const row of list) {
      for (const [column, value] of Object.entries(row)) {
        for (const leaf of leaves(value)) {
          if (leaf === null || typeof leaf === 'boolean' || TIME.test(String(leaf))) continue;
          for (const token of tokensOf(String(leaf))) if (!found.has(token)) found.set(token, `${table}.${column}`);
        }
      }
    }
  }
  return found;
}

/** The victim's values that no row of `others` has. A uuid counts if it is in `ids`: others are of people who are not the victim. */
export function canaries(rows, ids, others) {
  const known = new Set(ids);
  const elsewhere = tokensIn(others);
  const own = [...tokensIn(rows)].filter(
    ([token]) => !elsewhere.has(token) && (known.has(token) || !token.match(UUIDS) || token.length > 36),
  );
  return new Map(own);
}

/** The tokens of some rows. */
export const tokensOfRows = (rows) => new Set(tokensIn(rows).keys());

/** What has changed of the victim's rows: { table, gone: […], fresh: […] }. `kept(table, row)` gives the row without what may change. */
export function changes(before, after, kept) {
  const texts = (rows, table) =>
    (rows[table] ?? [])
      .map((row) => kept(table, row))
      .filter(Boolean)
      .map((row) => JSON.stringify(row))
      .sort();
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].sort().flatMap((table) => {
    const [then, now] = [texts(before, table), texts(after, table)];
    const [gone, fresh] = [without(then, now), without(now, then)];
    return gone.length + fresh.length === 0 ? [] : [{ table, gone, fresh }];
  });
}

function without(list, others) {
  const rest = [...others];
  return list.filter((one) => {
    const at = rest.indexOf(one);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}
