// What can be changed in a database, by area, with how to change it and how to change it back.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expressionMutants, mutantsOf } from './mutants.mjs';

const MIGRATIONS = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));

/** "schema.name" of each table and function to { domain, file }, by the migration that makes it. */
export function origins() {
  const made = new Map();
  let block = '';
  let domain = '';
  for (const file of readdirSync(MIGRATIONS).sort()) {
    const [, stamp, subject] = /^(\d{10})\d{4}_(.*)\.sql$/.exec(file) ?? [];
    if (!stamp) continue;
    if (stamp !== block) [block, domain] = [stamp, subject];
    const text = readFileSync(`${MIGRATIONS}/${file}`, 'utf8');
    for (const [, name] of text.matchAll(
      /^create (?:or replace )?(?:unlogged )?(?:function|procedure|table) ((?:public|private)\.\w+)/gim,
    )) {
      made.set(name, { domain, file: subject });
    }
  }
  return made;
}

const MONEY = /^(models_costs|executions_(calls|end|queue|start)|stripe.*|usage.*)$/;
const BILLING = /^(billing.*|vat.*|llm_(budgets|holds|authorize|settle|maintenance|executions)|topics_costs|blog_costs|code_usage)$/;
const LIMITS = /^(plans.*|requests|foundation_gauges|invitations_functions|api_keys_rules)$/;
const TIME = /\b(now|clock_timestamp|statement_timestamp|interval|\w+_(at|until|since))\b/i;
const ARITHMETIC = ['comparison', 'logic', 'null', 'distinct', 'exists', 'bound', 'sign', 'return', 'guard', 'refusal'];
const CONDITIONS = ARITHMETIC.filter((kind) => kind !== 'sign');

/** Each area: which mutants of functions are its own. Policies, triggers and grants have functions of their own below. */
const OF_FUNCTIONS = {
  money: ({ file }, { kind }) => MONEY.test(file) && ARITHMETIC.includes(kind),
  billing: ({ file }, { kind }) => BILLING.test(file) && ARITHMETIC.includes(kind),
  limits: ({ file }, { kind }) => LIMITS.test(file) && ARITHMETIC.includes(kind),
  guards: (_, { kind }) => ['guard', 'refusal', 'permission'].includes(kind),
  time: (_, { kind, source }) => ['comparison', 'sign'].includes(kind) && TIME.test(source),
  conditions: (_, { kind }) => CONDITIONS.includes(kind),
};

export const AREAS = ['policies', 'money', 'billing', 'limits', 'guards', 'time', 'triggers', 'grants'];
export const MORE_AREAS = ['conditions'];

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;

/** All mutants of an area: { area, object, names, domain, what, apply, undo }. `names` is what a test that is about it mentions. */
export async function mutantsOfArea(area, query, made) {
  if (area === 'policies') return policies(query, made);
  if (area === 'triggers') return triggers(query, made);
  if (area === 'grants') return grants(query, made);
  return functions(area, query, made);
}

async function policies(query, made) {
  const rows = await query(
    `select n.nspname as schema, c.relname as table, p.polname as name, pg_get_expr(p.polqual, p.polrelid) as using,
       pg_get_expr(p.polwithcheck, p.polrelid) as checking
     from pg_policy as p join pg_class as c on c.oid = p.polrelid join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname in ('public', 'storage', 'realtime') order by 1, 2, 3`,
  );
  return rows.flatMap(({ schema, table, name, using, checking }) => {
    const alter = (clause, text) => `alter policy ${quoted(name)} on ${schema}.${quoted(table)} ${clause} (${text})`;
    const { domain } = made.get(`${schema}.${table}`) ?? { domain: schema };
    return [
      ['using', using],
      ['with check', checking],
    ].flatMap(([clause, expression]) =>
      expression === null
        ? []
        : expressionMutants(expression).map(({ kind, from, to, text }) => ({
            area: 'policies',
            object: `${schema}.${table} "${name}"`,
            names: [table],
            domain,
            lints: ['schema_policies', 'schema_tables'],
            exposed: schema === 'public' ? table : null,
            what: `${clause}: ${kind}: ${from} → ${to}`,
            apply: alter(clause, text),
            undo: alter(clause, expression),
          })),
    );
  });
}

async function functions(area, query, made) {
  const rows = await query(
    `select p.oid, n.nspname as schema, p.proname as name, pg_get_functiondef(p.oid) as definition
     from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
     where n.nspname in ('public', 'private') and p.prokind = 'f' and p.prolang in (select oid from pg_language where lanname in ('sql', 'plpgsql'))
     order by 2, 3, 1`,
  );
  return rows.flatMap(({ schema, name, definition }) => {
    const origin = made.get(`${schema}.${name}`);
    const [, mark, body] = /\nAS (\$\w*\$)([\s\S]*)\1\s*$/.exec(definition) ?? [];
    if (!origin || body === undefined) return [];
    const start = definition.lastIndexOf(`AS ${mark}${body}`) + 3 + mark.length;
    return mutantsOf(body)
      .filter((mutant) => OF_FUNCTIONS[area](origin, mutant))
      .map(({ kind, line, from, to, source, text }) => ({
        area,
        object: `${schema}.${name}`,
        names: [name],
        domain: origin.domain,
        lints: [],
        exposed: schema === 'public' ? name : null,
        what: `${kind} in line ${line}: ${from} → ${to}    ${source.slice(0, 120)}`,
        kind,
        source,
        apply: definition.slice(0, start) + text + definition.slice(start + body.length),
        undo: definition,
      }));
  });
}

async function triggers(query, made) {
  const rows = await query(
    `select n.nspname as schema, c.relname as table, t.tgname as name, p.proname as calls
     from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_namespace as n on n.oid = c.relnamespace join pg_proc as p on p.oid = t.tgfoid
     where not t.tgisinternal and t.tgenabled = 'O' and t.tgparentid = 0 and n.nspname in ('public', 'private', 'storage') order by 1, 2, 3`,
  );
  return rows.map(({ schema, table, name, calls }) => ({
    area: 'triggers',
    object: `${schema}.${table} ${name}`,
    names: [calls, table],
    domain: (made.get(`private.${calls}`) ?? made.get(`${schema}.${table}`) ?? { domain: schema }).domain,
    lints: ['schema_tables'],
    what: 'disabled',
    apply: `alter table ${schema}.${quoted(table)} disable trigger ${quoted(name)}`,
    undo: `alter table ${schema}.${quoted(table)} enable trigger ${quoted(name)}`,
  }));
}

async function grants(query, made) {
  // Not where the role has the privilege for columns: taking the table's back would take these, too.
  const tables = await query(
    `select n.nspname as schema, c.relname as name, r.role, v.privilege
     from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     cross join (values ('anon'), ('authenticated')) as r (role) cross join (values ('select'), ('insert'), ('update'), ('delete')) as v (privilege)
     where n.nspname in ('public', 'private') and c.relkind in ('r', 'p', 'v')
       and not has_table_privilege(r.role, c.oid, v.privilege)
       and (v.privilege = 'delete' or not has_any_column_privilege(r.role, c.oid, v.privilege)) order by 1, 2, 3, 4`,
  );
  const functions = await query(
    `select n.nspname as schema, p.proname as name, p.oid::regprocedure::text as signature, r.role
     from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace cross join (values ('anon'), ('authenticated')) as r (role)
     where n.nspname in ('public', 'private') and p.prokind = 'f' and not has_function_privilege(r.role, p.oid, 'execute') order by 1, 2, 3, 4`,
  );
  const mutant = (schema, name, role, privilege, on) => ({
    area: 'grants',
    object: `${schema}.${name}`,
    names: [name],
    domain: (made.get(`${schema}.${name}`) ?? { domain: schema }).domain,
    lints: ['schema_functions', 'schema_callers', 'schema_policies', 'schema_tables'],
    what: `${privilege} to ${role}`,
    apply: `grant ${privilege} on ${on} to ${role}`,
    undo: `revoke ${privilege} on ${on} from ${role}`,
  });
  return [
    ...tables.map(({ schema, name, role, privilege }) => mutant(schema, name, role, privilege, `table ${schema}.${quoted(name)}`)),
    ...functions.map(({ schema, name, role, signature }) => mutant(schema, name, role, 'execute', `function ${signature}`)),
  ];
}
