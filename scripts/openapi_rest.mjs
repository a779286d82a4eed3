// What PostgREST serves of the schema public, as paths and schemas of OpenAPI: tables and views by their grants and comments, functions by
// their arguments. PostgREST's own document is Swagger 2.0, shows one signature of a name, and says nothing of what a function returns.
import pg from 'pg';
import { namesIn, unionOf } from './refine-types.mjs';

const CALLERS = ['anon', 'authenticated', 'service_role'];

const RELATIONS = `
  select c.oid::int, c.relname as name, c.relkind in ('v', 'm') as is_view, obj_description(c.oid, 'pg_class') as comment,
    array(select r from unnest($1::text[]) r where has_table_privilege(r, c.oid, 'delete'))::text[] as deleters
  from pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'm', 'p') and not c.relispartition
  order by c.relname collate "C"`;

const COLUMNS = `
  select a.attrelid::int as relation, a.attname as name, a.atttypid::int as type, a.attnotnull as required,
    d.oid is not null or a.attidentity <> '' or a.attgenerated <> '' as has_default, col_description(a.attrelid, a.attnum) as comment,
    array(select r from unnest($1::text[]) r where has_column_privilege(r, a.attrelid, a.attnum, 'select'))::text[] as readers,
    array(select r from unnest($1::text[]) r where has_column_privilege(r, a.attrelid, a.attnum, 'insert'))::text[] as inserters,
    array(select r from unnest($1::text[]) r where has_column_privilege(r, a.attrelid, a.attnum, 'update'))::text[] as updaters
  from pg_attribute a
  join pg_class c on c.oid = a.attrelid and c.relnamespace = 'public'::regnamespace
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  order by a.attrelid, a.attnum`;

const CHECKS = `
  select k.conrelid::int as relation, pg_get_constraintdef(k.oid) as definition
  from pg_constraint k where k.contype = 'c' and k.conrelid <> 0`;

const FUNCTIONS = `
  select p.proname as name, p.proretset as is_set, p.prorettype::int as result, p.provolatile <> 'v' as reads_only,
    obj_description(p.oid, 'pg_proc') as comment, p.pronargdefaults as defaults,
    coalesce(p.proallargtypes, p.proargtypes::oid[])::int[] as types, p.proargmodes::text[] as modes, p.proargnames::text[] as names,
    array(select r from unnest($1::text[]) r where has_function_privilege(r, p.oid, 'execute'))::text[] as callers
  from pg_proc p
  where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
    and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
  order by p.proname collate "C", pg_get_function_identity_arguments(p.oid) collate "C"`;

const TYPES = `
  select t.oid::int, t.typname as name, t.typtype::text as kind, t.typcategory::text as category, t.typelem::int as element,
    t.typbasetype::int as base, t.typrelid::int as relation, n.nspname as schema, coalesce(c.relkind, ' ')::text as relkind,
    array(select e.enumlabel from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder)::text[] as labels
  from pg_type t join pg_namespace n on n.oid = t.typnamespace left join pg_class c on c.oid = t.typrelid`;

const FIELDS = `
  select a.attrelid::int as relation, a.attname as name, a.atttypid::int as type
  from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relkind = 'c'
  where a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum`;

const SCALARS = {
  bool: { type: 'boolean' },
  int2: { type: 'integer', minimum: -32768, maximum: 32767 },
  int4: { type: 'integer', format: 'int32' },
  int8: { type: 'integer', format: 'int64' },
  float4: { type: 'number' },
  float8: { type: 'number' },
  numeric: { type: 'number' },
  uuid: { type: 'string', format: 'uuid' },
  timestamptz: { type: 'string', format: 'date-time' },
  date: { type: 'string', format: 'date' },
  json: {},
  jsonb: {},
  record: { type: 'object' },
};

const parameter = (name, place, description, schema = { type: 'string' }) => ({ name, in: place, description, schema });
const ref = (kind, name) => ({ $ref: `#/components/${kind}/${name}` });

// PostgREST's own parameters, of any table.
const PARAMETERS = {
  Select: parameter('select', 'query', 'The columns of the answer, and embedded resources.'),
  Order: parameter('order', 'query', 'The order of the rows, for example `created_at.desc`.'),
  Limit: parameter('limit', 'query', 'How many rows.', { type: 'integer', minimum: 0 }),
  Offset: parameter('offset', 'query', 'How many rows are left out first.', { type: 'integer', minimum: 0 }),
  OnConflict: parameter('on_conflict', 'query', 'The columns of the unique key by which rows are merged or ignored.'),
  Prefer: parameter('Prefer', 'header', 'Such as `return=representation`, `count=exact` or `resolution=merge-duplicates`.'),
};

const FILTER = {
  type: 'string',
  description: "A filter of PostgREST's, for example `eq.value`, `not.is.null` or `in.(1,2)`.",
  pattern:
    '^(not\\.)?((eq|neq|gt|gte|lt|lte|like|ilike|match|imatch)(\\((any|all)\\))?|is|isdistinct|in|cs|cd|ov|sl|sr|nxr|nxl|adj|(fts|plfts|phfts|wfts)(\\([a-z]+\\))?)\\.',
};

/** { paths, schemas, parameters } of a running database. */
export async function restOf(connectionString) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await client.query('begin isolation level repeatable read read only');
    const rows = async (sql, ...values) => (await client.query(sql, values)).rows;
    const catalog = {
      relations: await rows(RELATIONS, CALLERS),
      functions: await rows(FUNCTIONS, CALLERS),
      types: new Map((await rows(TYPES)).map((type) => [type.oid, type])),
      columnsOf: grouped(await rows(COLUMNS, CALLERS)),
      fieldsOf: grouped(await rows(FIELDS)),
      unions: unionsOf(await rows(CHECKS)),
    };
    return new Rest(catalog).build();
  } finally {
    await client.end();
  }
}

function grouped(rows) {
  const groups = new Map();
  for (const row of rows) groups.set(row.relation, [...(groups.get(row.relation) ?? []), row]);
  return groups;
}

function unionsOf(checks) {
  const unions = new Map();
  for (const { relation, definition } of checks) {
    const { column, union } = unionOf(definition) ?? {};
    if (union) unions.set(`${relation}.${column}`, union.split(' | ').map(JSON.parse));
  }
  return unions;
}

class Rest {
  constructor(catalog) {
    Object.assign(this, catalog);
    this.schemas = { Filter: FILTER };
    this.paths = {};
    this.parameters = { ...PARAMETERS };
  }

  build() {
    for (const relation of this.relations) this.table(relation);
    const overloads = new Map();
    for (const fn of this.functions.filter(({ callers }) => callers.length > 0)) {
      overloads.set(fn.name, [...(overloads.get(fn.name) ?? []), fn]);
    }
    for (const [name, list] of overloads) this.rpc(name, list);
    return { paths: this.paths, schemas: this.schemas, parameters: this.parameters };
  }

  // ---- types

  schemaOf(oid) {
    const type = this.types.get(oid);
    if (type.kind === 'd') return this.schemaOf(type.base);
    if (type.kind === 'e') return { type: 'string', enum: type.labels };
    if (type.category === 'A') return { type: 'array', items: nullable(this.schemaOf(type.element)) };
    if (type.kind === 'c') return this.composite(type);
    return { ...(SCALARS[type.name] ?? { type: 'string' }) };
  }

  // A row of a table of public has its schema; any other composite is written out.
  composite(type) {
    if (type.schema === 'public' && type.relkind !== 'c') return ref('schemas', type.name);
    const fields = this.fieldsOf.get(type.relation) ?? this.columnsOf.get(type.relation) ?? [];
    return { type: 'object', properties: Object.fromEntries(fields.map((field) => [field.name, nullable(this.schemaOf(field.type))])) };
  }

  column(relation, column, mayBeNull) {
    const union = this.unions.get(`${relation.oid}.${column.name}`);
    let schema = union ? { type: 'string', enum: union } : this.schemaOf(column.type);
    if (mayBeNull) schema = nullable(schema);
    return column.comment && !schema.$ref ? { ...schema, description: column.comment } : schema;
  }

  // ---- tables

  table(relation) {
    const columns = this.columnsOf.get(relation.oid) ?? [];
    const by = (kind) => [...new Set(columns.flatMap((column) => column[kind]))].sort(byCaller);
    const [readers, inserters, updaters] = [by('readers'), by('inserters'), by('updaters')];
    const neverNull = relation.is_view ? namesIn(relation.comment, 'Never null') : [];
    const isRequired = ({ name, required }) => required || neverNull.includes(name);
    // Functions return rows of tables that nobody reads directly, too.
    this.schemas[relation.name] = object(
      columns.map((column) => [column.name, this.column(relation, column, !isRequired(column)), isRequired(column)]),
      relation.comment,
    );
    const filters = columns
      .filter((column) => column.readers.length > 0)
      .map(({ name }) => ({ name, in: 'query', schema: ref('schemas', 'Filter') }));
    const item = {};
    const operation = (verb, callers, more) => ({
      tags: ['tables'],
      operationId: `${relation.name}.${verb}`,
      summary: `${relation.name}: ${verb}`,
      ...(verb === 'select' && relation.comment && { description: relation.comment }),
      security: securityOf(callers),
      ...more,
    });
    const rows = { content: { 'application/json': { schema: { type: 'array', items: ref('schemas', relation.name) } } } };
    const written = { 200: { description: 'The rows, by `Prefer: return=representation`', ...rows }, 204: { description: 'Done' } };
    const common = [ref('parameters', 'Select'), ref('parameters', 'Prefer'), ref('parameters', 'OrgId')];
    const paged = ['Order', 'Limit', 'Offset'].map((name) => ref('parameters', name));
    if (readers.length > 0) {
      item.get = operation('select', readers, {
        parameters: [...common, ...paged, ...filters],
        responses: { 200: { description: 'Rows', ...rows }, 206: { description: 'A part of the rows, when they are counted', ...rows } },
      });
    }
    if (inserters.length > 0) {
      const fields = columns
        .filter((column) => column.inserters.length > 0)
        .map((column) => [column.name, this.column(relation, column, !column.required), column.required && !column.has_default]);
      this.schemas[`${relation.name}_insert`] = object(fields);
      const one = ref('schemas', `${relation.name}_insert`);
      item.post = operation('insert', inserters, {
        parameters: [...common, ref('parameters', 'OnConflict')],
        requestBody: { required: true, content: json({ anyOf: [one, { type: 'array', items: one }] }) },
        responses: { 201: { description: 'Inserted; the rows, by `Prefer: return=representation`', ...rows } },
      });
    }
    if (updaters.length > 0) {
      const fields = columns
        .filter((column) => column.updaters.length > 0)
        .map((column) => [column.name, this.column(relation, column, !column.required), false]);
      this.schemas[`${relation.name}_update`] = object(fields);
      item.patch = operation('update', updaters, {
        parameters: [...common, ...filters],
        requestBody: { required: true, content: json(ref('schemas', `${relation.name}_update`)) },
        responses: written,
      });
    }
    if (relation.deleters.length > 0) {
      item.delete = operation('delete', relation.deleters, { parameters: [...common, ...filters], responses: written });
    }
    if (Object.keys(item).length > 0) this.paths[`/rest/v1/${relation.name}`] = finished(item);
  }

  // ---- functions

  rpc(name, overloads) {
    const callers = [...new Set(overloads.flatMap((fn) => fn.callers))].sort(byCaller);
    const bodies = unique(overloads.map((fn) => this.argumentsOf(fn)));
    const results = unique(overloads.map((fn) => this.resultOf(fn)));
    const comments = [...new Set(overloads.map(({ comment }) => comment).filter(Boolean))];
    const body = bodies.length === 1 ? bodies[0] : { anyOf: bodies };
    const answers = results.filter((result) => result !== null);
    const operation = (method, more) => ({
      tags: ['rpc'],
      operationId: method === 'post' ? name : `${name}.get`,
      summary: name,
      ...(comments.length > 0 && { description: comments.join('\n\n') }),
      security: securityOf(callers),
      ...more,
      responses: {
        ...(answers.length > 0 && {
          200: { description: 'The result', content: json(answers.length === 1 ? answers[0] : { anyOf: answers }) },
        }),
        ...(answers.length < results.length && { 204: { description: 'Done' } }),
      },
    });
    const item = {};
    if (overloads.every((fn) => fn.reads_only)) {
      const fields = Object.entries(Object.assign({}, ...bodies.map(({ properties }) => properties)));
      const always = bodies.map(({ required = [] }) => required).reduce((one, other) => one.filter((field) => other.includes(field)));
      item.get = operation('get', {
        parameters: [
          ref('parameters', 'OrgId'),
          ...fields.map(([field, schema]) => ({ name: field, in: 'query', ...(always.includes(field) && { required: true }), schema })),
        ],
      });
    }
    item.post = operation('post', {
      parameters: [ref('parameters', 'OrgId'), ref('parameters', 'Prefer')],
      requestBody: { required: true, content: json(body) },
    });
    this.paths[`/rest/v1/rpc/${name}`] = finished(item);
  }

  argumentsOf({ types, modes, names, defaults }) {
    const inputs = types
      .map((type, at) => ({ type, mode: modes?.[at] ?? 'i', name: names?.[at] }))
      .filter(({ mode, name }) => ['i', 'b', 'v'].includes(mode) && name);
    return object(inputs.map(({ name, type }, at) => [name, nullable(this.schemaOf(type)), at < inputs.length - defaults]));
  }

  /** Null for nothing. */
  resultOf({ comment, is_set, result, types, modes, names }) {
    if (this.types.get(result).name === 'void') return null;
    const orNull = namesIn(comment, 'Nullable');
    const outputs = (modes ?? []).flatMap((mode, at) => (['o', 'b', 't'].includes(mode) ? [{ name: names[at], type: types[at] }] : []));
    const field = ({ name, type }) => (orNull.includes(name) ? nullable(this.schemaOf(type)) : this.schemaOf(type));
    // One output is not a row, unless it is a column of a table.
    const isRow = outputs.length > 1 || modes?.includes('t');
    let schema = isRow ? object(outputs.map((output) => [output.name, field(output), true])) : this.schemaOf(result);
    if (!isRow && orNull.includes('result')) schema = nullable(schema);
    return is_set ? { type: 'array', items: schema } : schema;
  }
}

const byCaller = (one, other) => CALLERS.indexOf(one) - CALLERS.indexOf(other);
const json = (schema) => ({ 'application/json': { schema } });
const unique = (list) => [...new Map(list.map((each) => [JSON.stringify(each), each])).values()];

/** Of [name, schema, required]. */
function object(fields, description) {
  const required = fields.filter(([, , always]) => always).map(([name]) => name);
  return {
    type: 'object',
    ...(description && { description }),
    ...(required.length > 0 && { required }),
    properties: Object.fromEntries(fields.map(([name, schema]) => [name, schema])),
  };
}

function nullable(schema) {
  if (schema.$ref) return { anyOf: [schema, { type: 'null' }] };
  if (!schema.type || [schema.type].flat().includes('null')) return schema;
  return { ...schema, type: [schema.type, 'null'], ...(schema.enum && { enum: [...schema.enum, null] }) };
}

// PostgREST asks for a key in every request; whoever is not anon proves it by a token or an API key.
function securityOf(callers) {
  const known = callers.some((caller) => caller !== 'anon') ? [{ apikey: [], bearer: [] }, { apiKey: [] }] : [];
  return callers.includes('anon') ? [{ apikey: [] }, ...known] : known;
}

function finished(item) {
  for (const operation of Object.values(item)) operation.responses.default = ref('responses', 'Error');
  return item;
}
