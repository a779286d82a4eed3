// Makes the types that the Supabase CLI generates as exact as the database is: reads them from stdin, writes them to stdout.
//   DB_URL=… node scripts/refine-types.mjs < generated.ts
// - A text column with a check "col in ('a', 'b')" is the union of these, also where a function returns its table's rows.
// - An argument whose default is null may be null.
// - What a function returns is never null, unless its comment says "Nullable: limit, remaining." ("Nullable: result." of a scalar).
// - What a view shows may be null, unless its comment says "Never null: id, event."
// It fails for a comment that names what is not there.
import { pathToFileURL } from 'node:url';
import pg from 'pg';

const CHECKED = `
  select c.relname as relation, pg_get_constraintdef(k.oid) as definition
  from pg_constraint k
  join pg_class c on c.oid = k.conrelid
  where c.relnamespace = 'public'::regnamespace and k.contype = 'c'`;

const FUNCTIONS = `
  select p.proname as name, obj_description(p.oid, 'pg_proc') as comment, r.relname as relation,
    (select t.relname from pg_class t where t.reltype = p.proargtypes[0] and p.pronargs = 1) as computed_of,
    array(
      select p.proargnames[i] from generate_series(1, p.pronargs) i where pg_get_function_arg_default(p.oid, i) like 'NULL::%'
    )::text[] as nullable_arguments
  from pg_proc p
  left join pg_class r on r.reltype = p.prorettype and r.relnamespace = 'public'::regnamespace
  where p.pronamespace = 'public'::regnamespace`;

const VIEWS = `
  select c.relname as name, obj_description(c.oid, 'pg_class') as comment
  from pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('v', 'm')`;

/**
 * The column and the literals of a check that allows it nothing else, as a TypeScript union; undefined for any other check.
 * One that depends on other columns, "case when … then status in (…) else status in (…) end", allows what its branches do.
 */
export function unionOf(definition) {
  const [, body] = definition.match(/^CHECK \(([\s\S]*)\)$/) ?? [];
  const branches = body?.startsWith('\nCASE') ? [...body.matchAll(/(?:\bTHEN|\bELSE) (.*)$/gm)].map(([, branch]) => branch) : [body ?? ''];
  const parts = branches.map((branch) => branch.match(/^\((\w+) = ANY \(ARRAY\[(.*)\]\)\)$/));
  if (parts.includes(null) || new Set(parts.map(([, column]) => column)).size !== 1) return undefined;
  const literals = parts.flatMap(([, , list]) => list.split(/, (?=')/)).map((item) => item.match(/^'((?:[^']|'')*)'::text$/)?.[1]);
  if (literals.includes(undefined)) return undefined;
  const union = [...new Set(literals)].map((literal) => JSON.stringify(literal.replaceAll("''", "'"))).join(' | ');
  return { column: parts[0][1], union };
}

/** The names that a comment lists after a keyword: "Nullable: limit, remaining." */
export function namesIn(comment, keyword) {
  return comment?.match(new RegExp(`\\b${keyword}: ([\\w, ]+)\\.`))?.[1].split(/,\s*/) ?? [];
}

/**
 * Passes each property of an object type whose value has no properties of its own through `refine(path, value)`; everything
 * else stays as it is. The text is what the formatter prints: each property but the last of a line ends with a semicolon.
 */
export function mapProperties(text, refine) {
  let at = text.indexOf('export type Database = {');
  let out = text.slice(0, at);
  const value = (path) => {
    let raw = '';
    let nested = false;
    while (text[at] !== ';' && text[at] !== '}') {
      if (text[at] === '{') {
        nested = true;
        raw += object(path);
      } else {
        raw += text[at++];
      }
    }
    if (nested) return raw;
    const [, before, type, after] = raw.match(/^(\s*)([\s\S]*?)(\s*)$/);
    return before + refine(path, type) + after;
  };
  const object = (path) => {
    let printed = text[at++];
    for (;;) {
      const [key] = text.slice(at).match(/^[^:}]*:|^[^}]*\}/);
      at += key.length;
      printed += key;
      if (key.endsWith('}')) return printed;
      printed += value([...path, key.match(/([\w$]+)"?\??:$/)?.[1] ?? '']);
      if (text[at] === ';') printed += text[at++];
    }
  };
  const start = text.indexOf('{', at);
  out += text.slice(at, start);
  at = start;
  out += object([]);
  return out + text.slice(at);
}

/** What is known of the database: (path, type) → the type as it is. Every name of a comment must be met. */
export function refinement({ checked, functions, views }) {
  const unions = new Map();
  for (const { relation, definition } of checked) {
    const { column, union } = unionOf(definition) ?? {};
    if (union) unions.set(`${relation}.${column}`, union);
  }
  const unmet = new Set();
  const nullable = new Map(functions.map((f) => [f.name, namesIn(f.comment, 'Nullable')]));
  const neverNull = new Map(views.map((v) => [v.name, namesIn(v.comment, 'Never null')]));
  for (const [owner, names] of [...nullable, ...neverNull]) for (const name of names) unmet.add(`${owner}.${name}`);

  const column = (relation, name, type) => {
    const union = unions.get(`${relation}.${name}`);
    return union ? type.replace(/\bstring\b/, union) : type;
  };
  // A row has its computed columns, too, as whatever their functions return.
  const columnOfTable = (table, part, name, field, type) => {
    const computed = part === 'Row' && functions.find((f) => f.name === name && f.computed_of === table);
    if (!computed) return column(table, name, type);
    if (field) return column(computed.relation, field, type);
    return nullable.get(name).includes('result') ? type : type.replace(/ \| null$/, '');
  };
  const returned = (name, field, type) => {
    if (!nullable.get(name)?.includes(field)) return type;
    unmet.delete(`${name}.${field}`);
    return `${type} | null`;
  };
  const refine = ([schema, kind, owner, part, name, field], type) => {
    if (schema !== 'public') return type;
    if (kind === 'Tables' && ['Row', 'Insert', 'Update'].includes(part)) return columnOfTable(owner, part, name, field, type);
    if (kind === 'Views' && part === 'Row' && neverNull.get(owner)?.includes(name)) {
      unmet.delete(`${owner}.${name}`);
      return type === 'Json | null' ? 'NonNullable<Json>' : type.replace(/ \| null$/, '');
    }
    if (kind !== 'Functions') return type;
    const overloads = functions.filter((f) => f.name === owner);
    if (part === 'Args' && name) {
      return overloads.some((f) => f.nullable_arguments.includes(name)) ? `${type} | null` : type;
    }
    if (part === 'Returns') {
      const relation = overloads.find((f) => f.relation)?.relation;
      return name && relation ? column(relation, name, type) : returned(owner, name ?? 'result', type);
    }
    return type;
  };
  return { refine, unmet };
}

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  const client = new pg.Client({ connectionString: process.env.DB_URL });
  await client.connect();
  const [checked, functions, views] = [
    (await client.query(CHECKED)).rows,
    (await client.query(FUNCTIONS)).rows,
    (await client.query(VIEWS)).rows,
  ];
  await client.end();
  const { refine, unmet } = refinement({ checked, functions, views });
  process.stdout.write(mapProperties(text, refine));
  if (unmet.size > 0) throw new Error(`comments name what is not there: ${[...unmet].join(', ')}`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
